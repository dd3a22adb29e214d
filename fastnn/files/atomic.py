"""Writes files atomically: a crash, a full disk or Ctrl-C leaves the old file or the new one, never half a file."""

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from fastnn.checks import display_path
from fastnn.errors import FileError

_TEMPORARY = re.compile(r"\.fastnn-[0-9a-f]{16}\.tmp")


def is_temporary(name: str) -> bool:
    """Return whether a file name is that of a temporary file of `write_atomically`."""
    return _TEMPORARY.fullmatch(name) is not None


def write_atomically(
    path: str | os.PathLike[str],
    data: bytes | bytearray | memoryview,
    *,
    previous: str | os.PathLike[str] | None = None,
) -> None:
    """Write `data`, bytes or a C-contiguous memoryview, to `path`, replacing an existing file in one step.

    The data go to a temporary file in the same folder, which only its owner can read. It is synced to disk and then
    renamed to `path`. Any exception, including KeyboardInterrupt, removes it and leaves the old file unchanged. An
    existing file keeps its permissions. If `path` is a symbolic link, its target is replaced and the link stays.

    previous: where an existing file goes, instead of being replaced. Before that, the new file is read back and
        compared with `data`. For a moment, only `previous` exists.

    Raises FileError, with the path and the cause, if the file cannot be written, or if `path` is a folder, a device or
    a pipe. If only the sync of the folder fails, the new file is complete, and the message says that a power failure
    may undo the write.
    """
    target, old_mode = _target(path)
    folder = os.path.dirname(target)
    temporary = os.path.join(folder, f".fastnn-{os.urandom(8).hex()}.tmp")
    in_place = False
    try:
        new_mode = _create(temporary)
        with open(temporary, "r+b") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            if previous is not None:
                file.seek(0)
                if file.read() != data:
                    raise OSError(errno.EIO, "what was read back is not what was written")
        os.chmod(temporary, new_mode if old_mode is None else old_mode)
        with _open_folder(folder) as descriptor:
            if previous is not None and old_mode is not None:
                os.replace(target, previous)
            os.replace(temporary, target)
            in_place = True
            if descriptor is not None:
                _sync_folder(descriptor)
    except OSError as error:
        reason = error.strerror or str(error)
        if isinstance(error, FileNotFoundError) and not os.path.isdir(folder):
            reason = f"the folder {display_path(folder)} does not exist"
        failure = f"cannot write {memoryview(data).nbytes} bytes"
        if in_place:
            failure = "the file is written, but its folder cannot be synced, so a power failure may undo that"
        raise FileError(f"{display_path(path)}: {failure}: {reason}") from error
    finally:
        if not in_place:
            with suppress(OSError):
                os.unlink(temporary)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise FileError, as `write_atomically` would, if the file cannot be written. The file itself is not touched."""
    target, _ = _target(path)
    folder = os.path.dirname(target)
    temporary = os.path.join(folder, f".fastnn-{os.urandom(8).hex()}.tmp")
    try:
        _create(temporary)
    except OSError as error:
        reason = error.strerror or str(error)
        if isinstance(error, FileNotFoundError) and not os.path.isdir(folder):
            reason = f"the folder {display_path(folder)} does not exist"
        raise FileError(f"{display_path(path)}: cannot write: {reason}") from error
    finally:
        with suppress(OSError):
            os.unlink(temporary)


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
