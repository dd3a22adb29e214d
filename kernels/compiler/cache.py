"""The folder on disk that keeps compiled kernels, and what compiling cost."""

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

# What all kernels of a training run take to compile, on a core of 2024, most of it by Numba rather than by LLVM.
COLD_SECONDS = 12
DAYS_KEPT = 30
SOURCES = Path(__file__).resolve().parent.parent

_logger = logging.getLogger("fastnn")


class Compilation(NamedTuple):
    """A kernel that this process compiled, as it was not on disk, and what that took."""

    kernel: str
    seconds: float


compilations: list[Compilation] = []
_loaded: list[str] = []


def compile_seconds() -> float:
    """Seconds that this process has spent compiling kernels; loading them from disk does not count."""
    return sum((compilation.seconds for compilation in compilations), 0.0)


def loads() -> int:
    """How many kernels this process has loaded from disk."""
    return len(_loaded)


@functools.cache
def sources_digest() -> str:
    """SHA-256, in hex, of all kernel sources, Numba's version and Python's.

    Numba itself looks only at the file of the function that is called, so a change in a callee's file would go
    unnoticed (numba#1833); a folder named by this digest can hold no stale kernel.
    """
    digest = hashlib.sha256(f"{numba.__version__} {sys.version_info[:2]}".encode())
    for source in sorted(SOURCES.rglob("*.py")):
        digest.update(source.relative_to(SOURCES).as_posix().encode() + source.read_bytes())
    return digest.hexdigest()


@functools.cache
def cache_folder() -> Path | None:
    """The folder for compiled kernels, or None, after one warning, if there is no place to write.

    It is in NUMBA_CACHE_DIR if that is set, else in the user's cache folder. The files are pickles: a folder that
    another user owns or may write to is not used.
    """
    folder = _cache_base() / f"fastnn-kernels-{sources_digest()[:16]}"
    try:
        if not folder.exists():
            _prune(folder.parent)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if hasattr(os, "getuid"):
            status = folder.stat()
            if status.st_uid != os.getuid() or status.st_mode & 0o022:
                raise PermissionError(f"{folder} can be written by another user")
        tempfile.TemporaryFile(dir=folder).close()
        os.utime(folder)  # `_prune` goes by the time of the last use
    except OSError as error:
        _warn(f"there is no place to keep compiled kernels ({error}); they will be compiled in every process")
        return None
    return folder


def is_on_disk(kernel) -> bool:
    """Whether the folder for compiled kernels has this one, for whatever dtypes and CPU."""
    folder = cache_folder()
    return folder is not None and any(folder.glob(f"*.{kernel.py_func.__name__}-*.nbi"))


def _cache_base() -> Path:
    if numba.config.CACHE_DIR:
        return Path(numba.config.CACHE_DIR)
    import platformdirs

    return Path(platformdirs.user_cache_dir("fastnn", appauthor=False))


def _prune(base: Path) -> None:
    """Remove folders of kernels that nobody has used for DAYS_KEPT days; what cannot be removed stays."""
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
            shutil.rmtree(folder, ignore_errors=True)  # which follows no link, and removes nothing but a folder


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
    """Numba's cache, which loads a kernel in a fifth of the time.

    Before it loads, Numba fills the tables by which it types and translates Python: it imports half of itself and all
    of SciPy's linear algebra for that, and compiles its reference counting. Kernels on disk are machine code, with the
    counting in it; they need only the addresses of what they call. A kernel that must be compiled has the tables filled
    by the compiler.
    """

    _impl_class = _Implementation

    def load_overload(self, sig, target_context):
        try:
            for name, address in _nrt_python.c_helpers.items():
                llvmlite.binding.add_symbol(name if name.startswith("_") else f"NRT_{name}", address)
            with self._guard_against_spurious_io_errors():
                return self._load_overload(sig, target_context)
        except AttributeError:  # a Numba that is built otherwise
            return super().load_overload(sig, target_context)


class KernelCache(caching.NullCache):
    """Numba's cache in our folder, made on first use; never a reason to fail: at worst a kernel is compiled anew.

    Between a `load_overload` that finds nothing and `save_overload` Numba compiles. No kernel calls another, so these
    times do not overlap.
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
            _say_once_that_it_takes_time()
            self._started = time.perf_counter()
        return loaded

    def _from_disk(self, sig, target_context):
        if not self._folder_cache:
            return None
        try:
            return self._folder_cache.load_overload(sig, target_context)
        except Exception:  # a file cut short by a crash raises whatever its bytes happen to make pickle raise
            self.flush()
            return None

    def save_overload(self, sig, data):
        compilations.append(Compilation(self._function.__name__, time.perf_counter() - self._started))
        # The constants of helpers (of a `print`, say), which had no address as long as they were only helpers.
        for environment in data._find_referenced_environments():
            data.codegen.set_env(environment.env_name, environment)
        if not self._folder_cache:
            return
        try:
            self._folder_cache.save_overload(sig, data)
        except OSError as error:
            _warn(f"a compiled kernel could not be kept ({error})")
            self.__dict__["_folder_cache"] = None

    def flush(self):
        if self._folder_cache:
            try:
                self._folder_cache.flush()
            except OSError as error:
                _warn(f"a damaged file of compiled kernels could not be replaced ({error})")
                self.__dict__["_folder_cache"] = None


@functools.cache
def _say_once_that_it_takes_time() -> None:
    _logger.info("compiling kernels for this CPU, once; those of a run take about %d s", COLD_SECONDS)
