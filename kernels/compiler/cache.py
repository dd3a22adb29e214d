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
from typing import NamedTuple

from fastnn.kernels.compiler import is_plain_requested, shipped
from fastnn.kernels.compiler.folder import PrivateFolder

# The seconds it takes to compile all kernels of a training run on a CPU core of 2024. Numba takes most of that time,
# LLVM the rest.
COLD_SECONDS = 12
# A folder of kernels that has not been used for this many days is removed.
DAYS_KEPT = 30
ENDING = ".kernel"
_logger = logging.getLogger("fastnn")


class Compilation(NamedTuple):
    """The name of a kernel that this process compiled because it was not on disk, and the seconds that took."""

    kernel: str
    seconds: float


compilations: list[Compilation] = []
loaded: list[str] = []
warned: set[str] = set()


def compile_seconds() -> float:
    """The seconds this process has spent compiling kernels. Loading kernels from disk does not count."""
    return sum((compilation.seconds for compilation in compilations), 0.0)


def loads() -> int:
    """The number of kernels this process has loaded from disk."""
    return len(loaded)


@functools.cache
def sources_digest() -> str:
    """The SHA-256 hex digest of all kernel sources, of the versions of all that compiles them, and of fastnn's.

    Numba checks only the file of the called function, so it misses a change in the file of a callee (numba#1833). A
    folder named after this digest cannot hold a stale kernel.

    A frozen program may have no readable sources. The size and the time of its executable stand for them.
    """
    versions = [_version(name) for name in ("fastnn-digits", "numba", "llvmlite")]
    content = versions, sys.version_info[:2], is_plain_requested(), sources_alone()
    return hashlib.sha256(repr(content).encode()).hexdigest()


@functools.cache
def sources_alone() -> str:
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
        warn_once(
            "not kept", f"compiled kernels cannot be kept on disk ({error}); every process will compile them again"
        )
        return None
    return path


def has_any() -> bool:
    """Whether compiled kernels are at hand, so that Numba may not be needed."""
    path = cache_folder()
    try:
        return shipped.is_there() or (path is not None and any(name.endswith(ENDING) for name in os.listdir(path)))
    except OSError:
        return False


def is_on_disk(kernel) -> bool:
    """Whether the cache folder holds this kernel, for any dtypes and any CPU."""
    path = cache_folder()
    if path is None:
        return False
    try:
        with PrivateFolder(path) as folder:
            return any(name.startswith(stem(kernel.py_func)) and name.endswith(ENDING) for name in folder.names())
    except OSError:
        return False


def stem(function) -> str:
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


def warn_once(kind: str, text: str) -> None:
    """Warn, unless this process has warned of that kind of failure."""
    if kind not in warned:
        warned.add(kind)
        warnings.warn(f"fastnn: {text}", RuntimeWarning, stacklevel=2)


@functools.cache
def announce_compiling_once() -> None:
    _logger.info("compiling kernels for this CPU, once; those of a training run take about %d s", COLD_SECONDS)
