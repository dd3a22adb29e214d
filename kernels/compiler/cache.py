"""The disk cache of compiled kernels, and the record of what this process compiled and loaded."""

import contextlib
import functools
import hashlib
import logging
import os
import pkgutil
import re
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import llvmlite.binding
import numba

from fastnn.kernels.compiler import UNTRIED_NUMBA
from fastnn.kernels.compiler.trial import is_plain_requested

# The seconds it takes to compile all kernels of a training run on a CPU core of 2024. Numba takes most of that time,
# LLVM the rest.
COLD_SECONDS = 12
# A folder of kernels that has not been used for this many days is removed.
DAYS_KEPT = 30

_logger = logging.getLogger("fastnn")


class Compilation(NamedTuple):
    """The name of a kernel that this process compiled because it was not on disk, and the seconds that took."""

    kernel: str
    seconds: float


compilations: list[Compilation] = []
_loaded: list[str] = []


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

    The folder is in NUMBA_CACHE_DIR if that is set, otherwise in the user's cache folder. The files are pickles, so a
    folder that another user owns or can write to is not used.
    """
    try:
        folder = _cache_base() / f"fastnn-kernels-{sources_digest()[:16]}"
        if not folder.exists():
            _prune(folder.parent)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if hasattr(os, "getuid"):
            status = folder.stat()
            if status.st_uid != os.getuid() or status.st_mode & 0o022:
                raise PermissionError(f"{folder} is owned or writable by another user")
        tempfile.TemporaryFile(dir=folder).close()
        os.utime(folder)  # `_prune` reads this as the time of the last use
    except (OSError, RuntimeError, KeyError) as error:  # the last two: a user without a name or a home folder
        _warn(f"compiled kernels cannot be kept on disk ({error}); every process will compile them again")
        return None
    return folder


def is_on_disk(kernel) -> bool:
    """Whether the cache folder holds this kernel, for any dtypes and any CPU."""
    folder = cache_folder()
    return folder is not None and any(folder.glob(f"*.{kernel.py_func.__name__}-*.nbi"))


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


def _warn(text: str) -> None:
    warnings.warn(f"fastnn: {text}", RuntimeWarning, stacklevel=2)


class Locator:
    """Tells Numba's disk cache where kernels are kept, in place of the classes in NUMBA_CACHE_LOCATOR_CLASSES."""

    def __init__(self, py_file: str) -> None:
        self._py_file = py_file  # Numba names it in a warning

    @classmethod
    def from_function(cls, py_func, py_file):
        return cls(py_file)

    def get_cache_path(self) -> str:
        return str(cache_folder())

    def ensure_cache_path(self) -> None:
        pass  # `cache_folder` has created it

    def get_source_stamp(self) -> str:
        return sources_digest()

    def get_disambiguator(self) -> str:
        return "kernel"


class KernelCache:
    """Numba's disk cache in `cache_folder`, opened on first use. A failure of the cache only costs a recompilation.

    Numba compiles a kernel between a `load_overload` that finds nothing and the `save_overload` that follows. No kernel
    calls another kernel, so these intervals do not overlap and their lengths can be added.
    """

    def __init__(self, dispatcher) -> None:
        self._dispatcher, self._started = dispatcher, 0.0

    @functools.cached_property
    def _folder_cache(self):
        self._dispatcher._cache = None
        enabled = _enable_caching(self._dispatcher)
        opened, self._dispatcher._cache = self._dispatcher._cache, self
        return opened if enabled else None

    @property
    def cache_path(self):
        return self._folder_cache and self._folder_cache.cache_path

    def load_overload(self, sig, target_context):
        loaded = self._from_disk(sig, target_context)
        if loaded is not None:
            _loaded.append(self._dispatcher.__name__)
        else:
            _announce_compiling_once()
            self._started = time.perf_counter()
        return loaded

    def _from_disk(self, sig, target_context):
        """The kernel on disk, or None.

        Before loading, Numba fills the tables it uses to type and translate Python. For that it imports half of itself
        and all of SciPy's linear algebra, and compiles its reference counting. A kernel on disk is machine code that
        already contains the reference counting, so it needs only the addresses of the functions it calls. Without the
        tables it is loaded in a fifth of the time. If a kernel has to be compiled, the compiler fills the tables.
        """
        if not self._folder_cache:
            return None
        try:
            if numba.version_info.short >= UNTRIED_NUMBA or is_plain_requested():
                return self._folder_cache.load_overload(sig, target_context)
            _add_addresses_of_reference_counting()
            return self._folder_cache._load_overload(sig, target_context)
        except OSError:  # on Windows, another process may be replacing the file
            return None
        except Exception:  # unpickling a damaged file can raise any exception
            self.flush()
            return None

    def save_overload(self, sig, data):
        compilations.append(Compilation(self._dispatcher.__name__, time.perf_counter() - self._started))
        self._try("a compiled kernel could not be saved", "save_overload", sig, data)

    def flush(self):
        self._try("a damaged file in the kernel cache could not be replaced", "flush")

    def _try(self, failure: str, method: str, *arguments) -> None:
        """Call a method of Numba's cache. If that fails, warn and use no cache any more."""
        if self._folder_cache:
            try:
                getattr(self._folder_cache, method)(*arguments)
            except Exception as error:
                _warn(f"{failure} ({error})")
                self.__dict__["_folder_cache"] = None


def keep_on_disk(dispatcher):
    """Give a kernel its `KernelCache`; returns the kernel."""
    if hasattr(dispatcher, "_cache"):
        dispatcher._cache = KernelCache(dispatcher)
    elif hasattr(dispatcher, "enable_caching"):  # another version of Numba; with NUMBA_DISABLE_JIT there is neither
        _enable_caching(dispatcher)
    return dispatcher


def _enable_caching(dispatcher) -> bool:
    """Do what ``njit(cache=True)`` does, but in `cache_folder`. Returns whether that worked."""
    if not cache_folder():
        return False
    try:
        classes = numba.config.CACHE_LOCATOR_CLASSES
        numba.config.CACHE_LOCATOR_CLASSES = f"{__name__}.{Locator.__name__}"
        try:
            dispatcher.enable_caching()
        finally:
            numba.config.CACHE_LOCATOR_CLASSES = classes
        if dispatcher.stats.cache_path != str(cache_folder()):
            raise ValueError(f"Numba {numba.__version__} uses {dispatcher.stats.cache_path}")
    except Exception as error:  # another version of Numba can raise anything
        _warn(f"compiled kernels cannot be kept on disk ({error}); every process will compile them again")
        return False
    return True


@functools.cache
def _add_addresses_of_reference_counting() -> None:
    from numba.core.runtime import _nrt_python

    for name, address in _nrt_python.c_helpers.items():
        llvmlite.binding.add_symbol(name if name.startswith("_") else f"NRT_{name}", address)


@functools.cache
def _announce_compiling_once() -> None:
    _logger.info("compiling kernels for this CPU, once; those of a training run take about %d s", COLD_SECONDS)
