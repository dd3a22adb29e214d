"""The disk cache of compiled kernels, and the record of what this process compiled and loaded."""

import functools
import hashlib
import logging
import os
import re
import shutil
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import NamedTuple

import llvmlite.binding
import numba
from numba.core import caching
from numba.core.runtime import _nrt_python

# The seconds it takes to compile all kernels of a training run on a CPU core of 2024. Numba takes most of that time,
# LLVM the rest.
COLD_SECONDS = 12
# A folder of kernels that has not been used for this many days is removed.
DAYS_KEPT = 30
SOURCES = Path(__file__).resolve().parent.parent

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
    """The SHA-256 hex digest of all kernel sources and of the versions of Numba and Python.

    Numba checks only the file of the called function, so it misses a change in the file of a callee (numba#1833). A
    folder named after this digest cannot hold a stale kernel.
    """
    digest = hashlib.sha256(f"{numba.__version__} {sys.version_info[:2]}".encode())
    for source in sorted(SOURCES.rglob("*.py")):
        digest.update(source.relative_to(SOURCES).as_posix().encode() + source.read_bytes())
    return digest.hexdigest()


@functools.cache
def cache_folder() -> Path | None:
    """The folder for compiled kernels. If it cannot be used, warns once and returns None.

    The folder is in NUMBA_CACHE_DIR if that is set, otherwise in the user's cache folder. The files are pickles, so a
    folder that another user owns or can write to is not used.
    """
    folder = _cache_base() / f"fastnn-kernels-{sources_digest()[:16]}"
    try:
        if not folder.exists():
            _prune(folder.parent)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if hasattr(os, "getuid"):
            status = folder.stat()
            if status.st_uid != os.getuid() or status.st_mode & 0o022:
                raise PermissionError(f"{folder} is owned or writable by another user")
        tempfile.TemporaryFile(dir=folder).close()
        os.utime(folder)  # `_prune` reads this as the time of the last use
    except OSError as error:
        _warn(f"compiled kernels cannot be kept on disk ({error}); every process will compile them again")
        return None
    return folder


def is_on_disk(kernel) -> bool:
    """Whether the cache folder holds this kernel, for any dtypes and any CPU."""
    folder = cache_folder()
    return folder is not None and any(folder.glob(f"*.{kernel.py_func.__name__}-*.nbi"))


def _cache_base() -> Path:
    if numba.config.CACHE_DIR:
        return Path(numba.config.CACHE_DIR)
    import platformdirs

    return Path(platformdirs.user_cache_dir("fastnn", appauthor=False))


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


class _Locator(caching._CacheLocator):
    def __init__(self, py_file: str) -> None:
        self._py_file = py_file

    def get_cache_path(self) -> str:
        return str(cache_folder())

    def get_source_stamp(self) -> str:
        return sources_digest()

    def get_disambiguator(self) -> str:
        return "kernel"

    @classmethod
    def from_function(cls, py_func, py_file):
        return cls(py_file)


class _Implementation(caching.CompileResultCacheImpl):
    _locator_classes = [_Locator]  # noqa: RUF012  (Numba's interface)


class _FolderCache(caching.FunctionCache):
    """Numba's disk cache, changed to load a kernel in a fifth of the time.

    Before loading, Numba fills the tables it uses to type and translate Python. For that it imports half of itself and
    all of SciPy's linear algebra, and compiles its reference counting. A kernel on disk is machine code that already
    contains the reference counting, so it needs only the addresses of the functions it calls. If a kernel has to be
    compiled, the compiler fills the tables.
    """

    _impl_class = _Implementation

    def load_overload(self, sig, target_context):
        try:
            for name, address in _nrt_python.c_helpers.items():
                llvmlite.binding.add_symbol(name if name.startswith("_") else f"NRT_{name}", address)
            with self._guard_against_spurious_io_errors():
                return self._load_overload(sig, target_context)
        except AttributeError:  # another Numba version may lack these internals
            return super().load_overload(sig, target_context)


class KernelCache(caching.NullCache):
    """Numba's disk cache in `cache_folder`, opened on first use. A failure of the cache only costs a recompilation.

    Numba compiles a kernel between a `load_overload` that finds nothing and the `save_overload` that follows. No kernel
    calls another kernel, so these intervals do not overlap and their lengths can be added.
    """

    def __init__(self, function) -> None:
        self._function, self._started = function, 0.0

    @functools.cached_property
    def _folder_cache(self):
        return _FolderCache(self._function) if cache_folder() else None

    @property
    def cache_path(self):
        return self._folder_cache and self._folder_cache.cache_path

    def load_overload(self, sig, target_context):
        loaded = self._from_disk(sig, target_context)
        if loaded is not None:
            _loaded.append(self._function.__name__)
        else:
            _announce_compiling_once()
            self._started = time.perf_counter()
        return loaded

    def _from_disk(self, sig, target_context):
        if not self._folder_cache:
            return None
        try:
            return self._folder_cache.load_overload(sig, target_context)
        except Exception:  # unpickling a damaged file can raise any exception
            self.flush()
            return None

    def save_overload(self, sig, data):
        compilations.append(Compilation(self._function.__name__, time.perf_counter() - self._started))
        # Sets the constants of helpers, for example those of a `print`. They had no address until now, because a helper
        # has no machine code.
        for environment in data._find_referenced_environments():
            data.codegen.set_env(environment.env_name, environment)
        if not self._folder_cache:
            return
        try:
            self._folder_cache.save_overload(sig, data)
        except OSError as error:
            _warn(f"a compiled kernel could not be saved ({error})")
            self.__dict__["_folder_cache"] = None

    def flush(self):
        if self._folder_cache:
            try:
                self._folder_cache.flush()
            except OSError as error:
                _warn(f"a damaged file in the kernel cache could not be replaced ({error})")
                self.__dict__["_folder_cache"] = None


@functools.cache
def _announce_compiling_once() -> None:
    _logger.info("compiling kernels for this CPU, once; those of a training run take about %d s", COLD_SECONDS)
