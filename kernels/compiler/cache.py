"""The disk cache of compiled kernels, and the record of what this process compiled and loaded."""

import contextlib
import functools
import hashlib
import logging
import os
import pickle
import pkgutil
import re
import shutil
import sys
import time
import warnings
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import CodeType
from typing import NamedTuple

import llvmlite.binding
import numba
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps
from numba.core.sigutils import normalize_signature

from fastnn.kernels.compiler import UNTRIED_NUMBA
from fastnn.kernels.compiler.folder import PrivateFolder
from fastnn.kernels.compiler.kernel_file import DamagedFileError, pack, unpack
from fastnn.kernels.compiler.trial import is_plain_requested

# The seconds it takes to compile all kernels of a training run on a CPU core of 2024. Numba takes most of that time,
# LLVM the rest.
COLD_SECONDS = 12
# A folder of kernels that has not been used for this many days is removed.
DAYS_KEPT = 30
_ENDING = ".kernel"
# Numba's options, set by environment variables, that change the machine code.
_OPTIONS = (
    "BOUNDSCHECK",
    "DEBUGINFO_DEFAULT",
    "DEBUG_NRT",
    "EXTEND_VARIABLE_LIFETIMES",
    "OPT",
    "LOOP_VECTORIZE",
    "SLP_VECTORIZE",
    "LLVM_REFPRUNE_PASS",
    "LLVM_REFPRUNE_FLAGS",
    "USING_SVML",
)

_logger = logging.getLogger("fastnn")


class Compilation(NamedTuple):
    """The name of a kernel that this process compiled because it was not on disk, and the seconds that took."""

    kernel: str
    seconds: float


compilations: list[Compilation] = []
_loaded: list[str] = []
_warned: set[str] = set()


def compile_seconds() -> float:
    """The seconds this process has spent compiling kernels. Loading kernels from disk does not count."""
    return sum((compilation.seconds for compilation in compilations), 0.0)


def loads() -> int:
    """The number of kernels this process has loaded from disk."""
    return len(_loaded)


@functools.cache
def sources_digest() -> str:
    """The SHA-256 hex digest of all kernel sources, of the versions of all that compiles them, and of fastnn's.

    Numba checks only the file of the called function, so it misses a change in the file of a callee (numba#1833). A
    folder named after this digest cannot hold a stale kernel.

    A frozen program may have no readable sources. The size and the time of its executable stand for them.
    """
    try:
        release = version("fastnn-digits")
    except PackageNotFoundError:  # a checkout that is not installed
        release = None
    versions = release, numba.__version__, llvmlite.__version__, sys.version_info[:2], is_plain_requested()
    digest = hashlib.sha256(repr(versions).encode())
    try:
        for name, source in _sources(import_module("fastnn.kernels").__spec__):
            digest.update(name.encode() + source)
    except (OSError, AttributeError, ImportError):
        with contextlib.suppress(OSError):  # a program that embeds Python may name no executable
            status = os.stat(sys.executable or "")
            digest.update(f"{status.st_size} {status.st_mtime_ns}".encode())
    return digest.hexdigest()


def _sources(spec) -> Iterator[tuple[str, bytes]]:
    """The names and contents of a module and of all modules in it: sources, or byte code where there are no sources.

    The loaders read them, so they may be in a zip file.
    """
    yield spec.name, spec.loader.get_data(spec.origin)
    for finder, name, _ in pkgutil.iter_modules(spec.submodule_search_locations or []):
        yield from _sources(finder.find_spec(name, None))


@functools.cache
def cache_folder() -> Path | None:
    """The folder for compiled kernels. If it cannot be used, warns once and returns None.

    The folder is in NUMBA_CACHE_DIR if that is set, otherwise in the user's cache folder. Each user has one. The files
    are machine code and pickles, so a folder that another user could change is not used (`PrivateFolder`).
    """
    try:
        user = os.geteuid() if hasattr(os, "geteuid") else ""
        digest = hashlib.sha256(f"{sources_digest()} {user}".encode()).hexdigest()
        path = (_cache_base() / f"fastnn-kernels-{digest[:16]}").absolute()
        is_new = not path.exists()
        with PrivateFolder(path, create=True) as folder:
            folder.touch()  # `_prune` reads this as the time of the last use
        if is_new:
            _prune(path.parent)
    except (OSError, RuntimeError, KeyError) as error:  # the last two: a user without a name or a home folder
        _warn_once(
            "not kept", f"compiled kernels cannot be kept on disk ({error}); every process will compile them again"
        )
        return None
    return path


def is_on_disk(kernel) -> bool:
    """Whether the cache folder holds this kernel, for any dtypes and any CPU."""
    path = cache_folder()
    if path is None:
        return False
    try:
        with PrivateFolder(path) as folder:
            return any(name.startswith(_stem(kernel.py_func)) and name.endswith(_ENDING) for name in folder.names())
    except OSError:
        return False


def _stem(function) -> str:
    """The beginning of the names of a kernel's files."""
    name = f"{function.__module__.rpartition('.')[2]}.{function.__qualname__}"
    return re.sub(r"[^\w.]", "_", name, flags=re.ASCII)[:100] + "-"


def _cache_base() -> Path:
    """The folder that holds kernel folders. Raises OSError, RuntimeError or KeyError if the user has no home folder."""
    if numba.config.CACHE_DIR:
        return Path(numba.config.CACHE_DIR).expanduser()  # a shell keeps the ~ of NUMBA_CACHE_DIR="~/x"
    import platformdirs

    base = Path(platformdirs.user_cache_dir("fastnn", appauthor=False))
    if base.is_absolute():
        return base
    # Older platformdirs follow a relative XDG_CACHE_HOME, which is invalid, and keep the ~ of an unknown home.
    return Path.home() / ".cache" / "fastnn"


def _prune(base: Path) -> None:
    """Remove kernel folders that have not been used for DAYS_KEPT days. Ignores errors."""
    oldest = time.time() - DAYS_KEPT * 24 * 3600
    try:
        folders = [folder for folder in base.iterdir() if re.fullmatch("fastnn-kernels-[0-9a-f]{16}", folder.name)]
    except OSError:
        return
    for folder in folders:
        try:
            status = folder.lstat()
        except OSError:
            continue
        own = not hasattr(os, "getuid") or status.st_uid == os.getuid()
        if own and status.st_mtime < oldest:
            shutil.rmtree(folder, ignore_errors=True)  # refuses symbolic links and plain files


def _warn_once(kind: str, text: str) -> None:
    """Warn, unless this process has warned of that kind of failure."""
    if kind not in _warned:
        _warned.add(kind)
        warnings.warn(f"fastnn: {text}", RuntimeWarning, stacklevel=2)


class KernelCache:
    """The compiled versions of one kernel on disk, in the place of Numba's own cache.

    Numba's cache has an index and files for each function, unpickles both as they are, and renames them without a lock.
    Here each version has a file of its own, named by its key and checked before anything is unpickled or run (see
    `kernel_file`). A file that is missing, damaged or unsafe only costs a recompilation, which replaces it.

    Numba compiles a kernel between a `load_overload` that finds nothing and the `save_overload` that follows. No kernel
    calls another kernel, so these intervals do not overlap and their lengths can be added.
    """

    def __init__(self, dispatcher) -> None:
        self._dispatcher, self._started = dispatcher, 0.0

    @property
    def cache_path(self):
        """The folder, for `dispatcher.stats`."""
        path = cache_folder()
        return path and str(path)

    def load_overload(self, sig, target_context):
        """The kernel on disk for these argument types, or None."""
        loaded = self._from_disk(sig, target_context)
        if loaded is not None:
            _loaded.append(self._dispatcher.__name__)
        else:
            _announce_compiling_once()
            self._started = time.perf_counter()
        return loaded

    def _from_disk(self, sig, target_context):
        path = cache_folder()
        if path is None:
            return None
        try:
            name, key = self._entry(sig, target_context.codegen())
            try:
                with PrivateFolder(path) as folder:
                    data = folder.read(name)
            except FileNotFoundError:
                return None
            return _rebuild(target_context, unpack(data, key), sig)
        except PermissionError as error:  # on Windows, another process may be replacing the file
            if os.name != "nt":
                self._warn_of_damage(error)
        except Exception as error:  # another version of Numba can raise anything
            self._warn_of_damage(error)
        return None

    def _warn_of_damage(self, error: Exception) -> None:
        _warn_once(
            "damaged",
            f"a file of the compiled kernel {self._dispatcher.__name__} in {cache_folder()} cannot be used ({error}); "
            "the kernel is compiled again",
        )

    def save_overload(self, sig, data):
        """Keep a kernel that was compiled for these argument types. Warns if that fails, once in a process."""
        compilations.append(Compilation(self._dispatcher.__name__, time.perf_counter() - self._started))
        path = cache_folder()
        if path is None or "not saved" in _warned:
            return
        try:
            if data.library.has_dynamic_globals or any(not function.can_cache for function in data.lifted):
                return  # it holds addresses of this process
            name, key = self._entry(sig, data.codegen)
            with PrivateFolder(path, create=True) as folder:
                folder.replace(name, pack(key, dumps(data._reduce())))
        except Exception as error:  # a full disk, or another version of Numba, which can raise anything
            if os.name == "nt" and isinstance(error, PermissionError):
                return  # another process reads the file of the same kernel
            _warn_once(
                "not saved",
                f"a compiled kernel could not be saved in {path} ({error}); other processes will compile it again",
            )

    def flush(self):
        """Nothing: `dispatcher.recompile` replaces the files."""

    def _entry(self, sig, codegen) -> tuple[str, str]:
        """The name of a kernel's file, and its key: all that its machine code depends on."""
        function = self._dispatcher.py_func
        variables = tuple(cell.cell_contents for cell in function.__closure__ or ())
        parts = (
            f"{function.__module__}.{function.__qualname__}",
            repr(sig),
            repr(codegen.magic_tuple()),
            repr({name: getattr(numba.config, name, None) for name in _OPTIONS}),
            f"Numba {numba.__version__}, llvmlite {llvmlite.__version__}, Python {sys.version}",
            sources_digest(),
            hashlib.sha256(_code(function.__code__) + (dumps(variables) if variables else b"")).hexdigest(),
        )
        key = "\n".join(parts)
        return f"{_stem(function)}{hashlib.sha256(key.encode()).hexdigest()[:32]}{_ENDING}", key


def _code(code) -> bytes:
    """What a function does, apart from the functions and global variables that it uses."""
    constants = [_code(each) if isinstance(each, CodeType) else repr(each) for each in code.co_consts]
    return repr((code.co_code, code.co_names, constants)).encode()


def _rebuild(target_context, payload: memoryview, sig):
    """The compiled kernel in a file's payload.

    Before loading, Numba fills the tables it uses to type and translate Python. For that it imports half of itself and
    all of SciPy's linear algebra, and compiles its reference counting. A kernel on disk is machine code that already
    contains the reference counting, so it needs only the addresses of the functions it calls. Without the tables it is
    loaded in a fifth of the time. If a kernel has to be compiled, the compiler fills the tables.
    """
    if numba.version_info.short >= UNTRIED_NUMBA or is_plain_requested():
        target_context.refresh()
    else:
        _add_addresses_of_reference_counting()
    kernel = CompileResult._rebuild(target_context, *pickle.loads(payload))
    if kernel.signature.args != normalize_signature(sig)[0]:
        raise DamagedFileError("it is the file of another kernel")
    return kernel


def keep_on_disk(dispatcher):
    """Give a kernel its `KernelCache`; returns the kernel.

    In another version of Numba it may have no place for one. Then every process compiles: Numba's own cache would run
    damaged files.
    """
    if hasattr(dispatcher, "_cache"):
        dispatcher._cache = KernelCache(dispatcher)
    else:
        _warn_once("not kept", f"Numba {numba.__version__} cannot keep compiled kernels on disk for fastnn")
    return dispatcher


@functools.cache
def _add_addresses_of_reference_counting() -> None:
    from numba.core.runtime import _nrt_python

    for name, address in _nrt_python.c_helpers.items():
        llvmlite.binding.add_symbol(name if name.startswith("_") else f"NRT_{name}", address)


@functools.cache
def _announce_compiling_once() -> None:
    _logger.info("compiling kernels for this CPU, once; those of a training run take about %d s", COLD_SECONDS)
