"""Writes files atomically: a crash, a full disk or Ctrl-C leaves the old file or the new one, never half a file."""

import errno
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, NamedTuple

from fastnn.checks import display_path
from fastnn.errors import FastnnError, FileError
from fastnn.files.lock import try_lock

_TEMPORARY = re.compile(r"\.fastnn-[0-9a-f]{16}\.tmp")
# Where files cannot be locked, a temporary file this old belongs to no living process.
_SECONDS_OF_A_WRITE = 3600.0
# Attempts at a temporary file that no other process takes for an abandoned one. The last one goes without a lock.
_ATTEMPTS = 10


def is_temporary(name: str) -> bool:
    """Return whether a file name is that of a temporary file of `write_atomically`."""
    return _TEMPORARY.fullmatch(name) is not None


def write_atomically(
    path: str | os.PathLike[str],
    data: bytes | bytearray | memoryview | Callable[[IO[bytes]], None],
    *,
    previous: str | os.PathLike[str] | None = None,
) -> None:
    """Write `data` to `path`, replacing an existing file in one step.

    `data` is bytes, a C-contiguous memoryview, or a function that writes to the file that it is given.

    The data go to a temporary file in the same folder, which only its owner can read. It is synced to disk and then
    renamed to `path`. Any exception, including KeyboardInterrupt, removes it and leaves the old file unchanged. An
    existing file keeps its permissions. If `path` is a symbolic link, its target is replaced and the link stays.

    A process that is killed while it writes leaves its temporary file. The next write into the folder removes it.

    previous: where an existing file goes, instead of being replaced. Before that, the new file is read back and
        compared with `data`, which is no function then. For a moment, only `previous` exists.

    Raises FileError, with the path and the cause, if the file cannot be written, or if `path` is a folder, a device or
    a pipe. If only the sync of the folder fails, the new file is complete, and the message says that a power failure
    may undo the write.
    """
    target = _Target(path, *_target(path), previous)
    _remove_abandoned(os.path.dirname(target.file))
    for attempt in range(_ATTEMPTS):
        if _replace(target, data, needs_lock=attempt + 1 < _ATTEMPTS):
            return


class _Target(NamedTuple):
    """What a write replaces."""

    name: str | os.PathLike[str]  # the path as it was given
    file: str  # the path with links resolved
    mode: int | None  # the permissions of the existing file, or None
    previous: str | os.PathLike[str] | None  # where the existing file goes


def _replace(
    target: _Target, data: bytes | bytearray | memoryview | Callable[[IO[bytes]], None], needs_lock: bool
) -> bool:
    """Write `data` to `target`; return False if another process took the temporary file for an abandoned one."""
    path, folder = target.name, os.path.dirname(target.file)
    temporary = os.path.join(folder, f".fastnn-{os.urandom(8).hex()}.tmp")
    in_place = False
    try:
        new_mode = _create(temporary)
        with open(temporary, "r+b") as file:
            if needs_lock and not _lock(file.fileno(), temporary):
                return False
            if callable(data):
                data(file)
            else:
                file.write(data)
            file.flush()
            os.fsync(file.fileno())
            if target.previous is not None:
                file.seek(0)
                if file.read() != data:
                    raise OSError(errno.EIO, "what was read back is not what was written")
            os.chmod(temporary, new_mode if target.mode is None else target.mode)
            if os.name == "nt":  # an open file cannot be renamed
                file.close()
            with _open_folder(folder) as descriptor:
                if target.previous is not None and target.mode is not None:
                    os.replace(target.file, target.previous)
                os.replace(temporary, target.file)
                in_place = True
                if descriptor is not None:
                    _sync_folder(descriptor)
    except FastnnError:  # of a function
        raise
    except OSError as error:
        if isinstance(error, FileNotFoundError) and needs_lock and os.path.isdir(folder):
            return False  # it was removed before it was locked
        failure = "cannot write" if callable(data) else f"cannot write {memoryview(data).nbytes} bytes"
        if in_place:
            failure = "the file is written, but its folder cannot be synced, so a power failure may undo that"
        raise FileError(f"{display_path(path)}: {failure}: {_reason(error, folder)}") from error
    finally:
        if not in_place:
            with suppress(OSError):
                os.unlink(temporary)
    return True


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise FileError, as `write_atomically` would, if the file cannot be written. The file itself is not touched."""
    target, _ = _target(path)
    folder = os.path.dirname(target)
    temporary = os.path.join(folder, f".fastnn-{os.urandom(8).hex()}.tmp")
    try:
        _create(temporary)
    except OSError as error:
        raise FileError(f"{display_path(path)}: cannot write: {_reason(error, folder)}") from error
    finally:
        with suppress(OSError):
            os.unlink(temporary)


def _reason(error: OSError, folder: str) -> str:
    """Return why a file in `folder` cannot be written."""
    if isinstance(error, FileNotFoundError) and not os.path.isdir(folder):
        return f"the folder {display_path(folder)} does not exist"
    return error.strerror or str(error)


def _target(path: str | os.PathLike[str]) -> tuple[str, int | None]:
    """Return the file to replace, with links resolved, and its permissions (None if it does not exist yet)."""
    try:
        target = os.path.realpath(os.fsdecode(path))
        try:
            mode = os.stat(target).st_mode
        except FileNotFoundError:
            return target, None
    except (OSError, ValueError) as error:  # ValueError: the path has a NUL or invalid characters
        raise FileError(f"{display_path(path)}: cannot write: {getattr(error, 'strerror', None) or error}") from error
    if not stat.S_ISREG(mode):
        found = "a folder" if stat.S_ISDIR(mode) else "a device, a pipe or a socket"
        raise FileError(f"{display_path(path)}: cannot write: it is {found}, expected a file or a new path")
    return target, stat.S_IMODE(mode) & 0o777


def _remove_abandoned(folder: str) -> None:
    """Remove the temporary files in `folder` that processes left behind when they were killed.

    A process locks the file that it writes, so a file that can be locked belongs to none.
    """
    try:
        abandoned = [name for name in os.listdir(folder) if is_temporary(name)]
    except OSError:  # a folder that may be written to but not read
        return
    for name in abandoned:
        path = os.path.join(folder, name)
        with suppress(OSError):
            if os.name == "nt":
                if _is_old(os.stat(path)):
                    os.unlink(path)
                continue
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                locked = try_lock(descriptor)
                if locked or (locked is None and _is_old(os.fstat(descriptor))):
                    os.unlink(path)
            finally:
                os.close(descriptor)


def _is_old(status: os.stat_result) -> bool:
    return time.time() - status.st_mtime > _SECONDS_OF_A_WRITE


def _lock(descriptor: int, path: str) -> bool:
    """Lock a temporary file; return False if another process has done so, or has removed it."""
    return os.name == "nt" or (try_lock(descriptor) is not False and os.path.lexists(path))


def _create(path: str) -> int:
    """Create an empty file that only its owner can access; return the default permissions of a new file here."""
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        # To read the umask, a process must set it, which would affect other threads. The mode of a new file shows it.
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)
    os.chmod(path, 0o600)
    return mode


@contextmanager
def _open_folder(folder: str) -> Iterator[int | None]:
    """Give a descriptor of `folder` for `_sync_folder`, or None if the folder cannot be opened."""
    descriptor = None
    if os.name == "posix":
        # A folder may be writable but not readable. It then cannot be synced, but the file can still be written.
        with suppress(PermissionError):
            descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _sync_folder(descriptor: int) -> None:
    """Sync the folder, so that the new name survives a power failure."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot sync a folder.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
