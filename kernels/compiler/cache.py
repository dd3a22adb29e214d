"""Compiled kernels on disk, and the record of what this process compiled and loaded."""

import contextlib
import functools
import hashlib
import logging
import os
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
from typing import Any, NamedTuple

from fastnn.kernels.compiler import is_plain_requested, machine, shipped
from fastnn.kernels.compiler.background import optimizing
from fastnn.kernels.compiler.folder import PrivateFolder
from fastnn.kernels.compiler.kernel_file import pack, unpack

# The seconds it takes to compile all kernels of a training run on a CPU core of 2024. Numba takes most of that time,
# LLVM the rest.
COLD_SECONDS = 12
# A folder of kernels that has not been used for this many days is removed.
DAYS_KEPT = 30
_ENDING = ".kernel"
# Numba's options, set by environment variables, that change the machine code.
_OPTIONS = ("NUMBA_BOUNDSCHECK", "NUMBA_DEBUGINFO", "NUMBA_OPT")

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
    versions = [_version(name) for name in ("fastnn-digits", "numba", "llvmlite")]
    content = versions, sys.version_info[:2], is_plain_requested(), _sources_alone()
    return hashlib.sha256(repr(content).encode()).hexdigest()


@functools.cache
def _sources_alone() -> str:
    """The SHA-256 hex digest of all kernel sources."""
    digest = hashlib.sha256()
    try:
        for name, source in _sources(import_module("fastnn.kernels").__spec__):
            digest.update(name.encode() + source)
    except (OSError, AttributeError, ImportError):
        with contextlib.suppress(OSError):  # a program that embeds Python may name no executable
            status = os.stat(sys.executable or "")
            digest.update(f"{status.st_size} {status.st_mtime_ns}".encode())
    return digest.hexdigest()


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:  # a checkout that is not installed, or a frozen program
        return None


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
    are machine code, so a folder that another user could change is not used (`PrivateFolder`).
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


def has_any() -> bool:
    """Whether compiled kernels are at hand, so that Numba may not be needed."""
    path = cache_folder()
    try:
        return shipped.is_there() or (path is not None and any(name.endswith(_ENDING) for name in os.listdir(path)))
    except OSError:
        return False


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
    if os.environ.get("NUMBA_CACHE_DIR"):
        return Path(os.environ["NUMBA_CACHE_DIR"]).expanduser()  # a shell keeps the ~ of NUMBA_CACHE_DIR="~/x"
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


class Loaded(NamedTuple):
    """A kernel in this process.

    address: that of its `machine.ENTRY`; None while kernels are recorded for a wheel, and not run
    result: the name of its result's type
    was_on_disk: whether it was loaded from disk
    """

    address: int | None
    result: str
    was_on_disk: bool = False


def version_of(kernel: Any, kind: str, values: list[Any]) -> Loaded:
    """The version of a kernel for arguments like `values`: from disk, or compiled and kept on disk.

    Each version has a file of its own, named by its key and checked before anything in it is run (see `kernel_file`).
    A file that is missing, damaged or unsafe only costs a recompilation, which replaces it.

    kind: names the types of `values`
    """
    found = _from_disk(kernel, kind)
    if found is not None:
        _loaded.append(kernel.__name__)
        return found
    _announce_compiling_once()
    start, key = time.perf_counter(), _shipped_key(kernel.py_func, kind)
    result, optimized = _split(shipped.find(key) or _optimized(kernel, values))
    if shipped.is_recording():
        shipped.keep(key, _joined(result, optimized))
        return Loaded(None, result)
    with optimizing():
        code = machine.assemble(optimized)
    compilations.append(Compilation(kernel.__name__, time.perf_counter() - start))
    _keep(kernel, kind, _joined(result, code))
    return Loaded(machine.load(code), result)


def _optimized(kernel: Any, values: list[Any]) -> bytes:
    """A kernel's optimised intermediate code, after the name of its result's type."""
    from fastnn.kernels.compiler.trial import lower  # imports Numba

    lowered = lower(kernel.py_func, values)
    with optimizing():
        return _joined(lowered.result, machine.optimize(lowered.code))


def _joined(result: str, code: bytes) -> bytes:
    return result.encode() + b"\0" + code


def _split(content: bytes) -> tuple[str, bytes]:
    result, code = content.split(b"\0", 1)
    return result.decode(), code


def _from_disk(kernel: Any, kind: str) -> Loaded | None:
    path = cache_folder()
    if path is None:
        return None
    try:
        name, key = _entry(kernel.py_func, kind)
        try:
            with PrivateFolder(path) as folder:
                data = folder.read(name)
        except FileNotFoundError:
            return None
        result, code = _split(bytes(unpack(data, key)))
        return Loaded(machine.load(code), result, was_on_disk=True)
    except PermissionError as error:  # on Windows, another process may be replacing the file
        if os.name != "nt":
            _warn_of_damage(kernel, error)
    except Exception as error:
        _warn_of_damage(kernel, error)
    return None


def _warn_of_damage(kernel: Any, error: Exception) -> None:
    _warn_once(
        "damaged",
        f"a file of the compiled kernel {kernel.__name__} in {cache_folder()} cannot be used ({error}); "
        "the kernel is compiled again",
    )


def _keep(kernel: Any, kind: str, content: bytes) -> None:
    """Keep a compiled kernel. Warns if that fails, once in a process."""
    path = cache_folder()
    if path is None or "not saved" in _warned:
        return
    try:
        name, key = _entry(kernel.py_func, kind)
        with PrivateFolder(path, create=True) as folder:
            folder.replace(name, pack(key, content))
    except Exception as error:  # a full disk
        if os.name == "nt" and isinstance(error, PermissionError):
            return  # another process reads the file of the same kernel
        _warn_once(
            "not saved",
            f"a compiled kernel could not be saved in {path} ({error}); other processes will compile it again",
        )


def _shipped_key(function: Any, kind: str) -> str:
    """All that the optimised code of a shipped kernel depends on: neither the version of Python nor that of Numba."""
    host = machine.host()
    name = f"{function.__module__}.{function.__qualname__}"
    return "\n".join((name, kind, host.triple, host.level, _options(), _sources_alone()))


def _options() -> str:
    return repr({name: os.environ.get(name) for name in _OPTIONS})


def _entry(function: Any, kind: str) -> tuple[str, str]:
    """The name of a kernel's file, and its key: all that its machine code depends on."""
    parts = (
        f"{function.__module__}.{function.__qualname__}",
        kind,
        repr(machine.host()),
        _options(),
        sources_digest(),
        hashlib.sha256(_code(function)).hexdigest(),
    )
    key = "\n".join(parts)
    return f"{_stem(function)}{hashlib.sha256(key.encode()).hexdigest()[:32]}{_ENDING}", key


def _code(function: Any) -> bytes:
    """What a function does, apart from the global functions and variables that it uses."""
    variables = [cell.cell_contents for cell in function.__closure__ or ()]
    within = [_code(each.py_func) if hasattr(each, "py_func") else repr(each) for each in variables]
    return repr((_plain_code(function.__code__), within)).encode()


def _plain_code(code: CodeType) -> tuple:
    constants = [_plain_code(each) if isinstance(each, CodeType) else repr(each) for each in code.co_consts]
    return code.co_code, code.co_names, constants


@functools.cache
def _announce_compiling_once() -> None:
    _logger.info("compiling kernels for this CPU, once; those of a training run take about %d s", COLD_SECONDS)
