"""How kernels are compiled: their flags, and the folder on disk that keeps what was compiled."""

import functools
import hashlib
import os
import sys
import tempfile
import warnings
from pathlib import Path

import numba
import platformdirs
from numba import types
from numba.core import caching
from numba.extending import intrinsic

# All of fast-math except `nnan` and `ninf`: with those LLVM deletes checks for NaN, and divergence goes unseen.
FASTMATH = {"reassoc", "contract", "arcp", "nsz"}
_FLAGS = {"nogil": True, "error_model": "numpy", "fastmath": FASTMATH}


def kernel(function):
    """Compile `function` on first use: nogil, kept on disk. For functions that are called from Python."""
    dispatcher = numba.njit(**_FLAGS)(function)
    dispatcher._cache = _Cache(function)
    return dispatcher


def inlined(function):
    """Compile `function` into the kernels that call it; it has no place on disk of its own."""
    return numba.njit(**_FLAGS, no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)


@intrinsic
def never_inline(_):
    """Keep the function that calls this a function: one that many call would be compiled anew in each of them."""

    def codegen(context, builder, signature, args):
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), codegen


@functools.cache
def sources_digest() -> str:
    """SHA-256, in hex, of all kernel sources, Numba's version and Python's.

    Numba itself looks only at the file of the function that is called, so a change in a callee's file would go
    unnoticed (numba#1833); a folder named by this digest can hold no stale kernel.
    """
    digest = hashlib.sha256(f"{numba.__version__} {sys.version_info[:2]}".encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.name.encode() + source.read_bytes())
    return digest.hexdigest()


@functools.cache
def cache_folder() -> Path | None:
    """The folder for compiled kernels, or None, after one warning, if there is no place to write.

    It is in NUMBA_CACHE_DIR if that is set, else in the user's cache folder. The files are pickles: a folder that
    another user owns or may write to is not used.
    """
    base = numba.config.CACHE_DIR or platformdirs.user_cache_dir("fastnn", appauthor=False)
    folder = Path(base) / f"fastnn-kernels-{sources_digest()[:16]}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if hasattr(os, "getuid"):
            status = folder.stat()
            if status.st_uid != os.getuid() or status.st_mode & 0o022:
                raise PermissionError(f"{folder} can be written by another user")
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        _warn(f"there is no place to keep compiled kernels ({error}); they will be compiled in every process")
        return None
    return folder


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
    _impl_class = _Implementation


class _Cache(caching.NullCache):
    """Numba's cache in our folder, made on first use; never a reason to fail: at worst a kernel is compiled anew."""

    def __init__(self, function) -> None:
        self._function = function

    @functools.cached_property
    def _folder_cache(self):
        return _FolderCache(self._function) if cache_folder() else None

    @property
    def cache_path(self):
        return self._folder_cache and self._folder_cache.cache_path

    def load_overload(self, sig, target_context):
        if not self._folder_cache:
            return None
        try:
            return self._folder_cache.load_overload(sig, target_context)
        except Exception:  # a file cut short by a crash raises whatever its bytes happen to make pickle raise
            self.flush()
            return None

    def save_overload(self, sig, data):
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
