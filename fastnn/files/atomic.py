"""Writing files so that a crash, a full disk or Ctrl-C leaves the old file or the new one, never half of either."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

from fastnn.checks import display_path
from fastnn.errors import FileError


def write_atomically(path: str | os.PathLike[str], data: bytes | bytearray | memoryview) -> None:
    """Write `data` to `path`, replacing what is there in one step.

    Parameters
    ----------
    path : str or path
        The file to write, treated as `atomic_path` does.
    data : bytes, bytearray or C-contiguous memoryview
        The whole content of the file.

    Raises
    ------
    FileError
        If the file cannot be written: names the path, the number of bytes and what failed.
    """
    with _replaced(path, memoryview(data).nbytes) as temporary, open(temporary, "wb") as file:
        file.write(data)


def atomic_path(path: str | os.PathLike[str]) -> AbstractContextManager[str]:
    """A context whose value is a temporary path to write to; when it ends well, that file replaces `path`.

    The temporary file exists already, is empty, readable by its owner only, and lies in the folder of `path`; its name
    starts with ``.fastnn-`` and ends with the suffix of `path`, by which some writers choose a format. It reaches the
    disk before it takes the name `path`. Whatever exception ends the context, KeyboardInterrupt included, removes it
    and leaves the old file as it was.

    Parameters
    ----------
    path : str or path
        The file to write. An old file's permissions stay; a new file gets those of any new file. If `path` is a
        symbolic link, the link stays and the file it points to is replaced, as when one opens it for writing. What is
        no file (a folder, a device, a pipe) is refused.

    Raises
    ------
    FileError
        If the file cannot be written: names the path, how many bytes were written and what failed; an OSError that
        leaves the context becomes one too. The old file is as it was, with one exception: if nothing but the sync of
        the folder failed, the message says that the new file is in place and may be lost should the power fail.
    """
    return _replaced(path, None)


@contextmanager
def _replaced(path: str | os.PathLike[str], n_bytes: int | None) -> Iterator[str]:
    """`atomic_path`, for content of `n_bytes` where that is known beforehand."""
    target, old_mode = _target(path)
    folder, base = os.path.split(target)
    temporary = os.path.join(folder, f".fastnn-{os.urandom(8).hex()}.tmp{os.path.splitext(base)[1]}")
    in_place = False
    try:
        new_mode = _create(temporary)
        yield temporary
        # By name and not by the descriptor of _create: the caller may have put another file there.
        with open(temporary, "r+b") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, new_mode if old_mode is None else old_mode)
        with _opened_folder(folder) as descriptor:
            os.replace(temporary, target)
            in_place = True
            if descriptor is not None:
                _sync_folder(descriptor)
    except FileError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        if in_place:
            message = f"is written, but its folder could not be synced, so it may be lost if the power fails: {reason}"
        else:
            if isinstance(error, FileNotFoundError) and not os.path.isdir(folder):
                reason = f"the folder {display_path(folder)} does not exist"
            amount = f"after {_size(temporary)} bytes" if n_bytes is None else f"{n_bytes} bytes"
            message = f"cannot write {amount}: {reason}"
        raise FileError(f"{display_path(path)}: {message}") from error
    finally:
        if not in_place:
            with suppress(OSError):
                os.unlink(temporary)


def _target(path: str | os.PathLike[str]) -> tuple[str, int | None]:
    """The file to replace, links followed, and its permissions; None for these where there is no file yet."""
    try:
        target = os.path.realpath(os.fsdecode(path))
        try:
            mode = os.stat(target).st_mode
        except FileNotFoundError:
            return target, None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path, or characters that no file name can have
        raise FileError(f"{display_path(path)}: cannot write: {getattr(error, 'strerror', None) or error}") from error
    if not stat.S_ISREG(mode):
        found = "a folder" if stat.S_ISDIR(mode) else "a device, a pipe or a socket"
        raise FileError(f"{display_path(path)}: cannot write: it is {found}, expected a file or nothing")
    return target, stat.S_IMODE(mode) & 0o777


def _create(path: str) -> int:
    """Create an empty file for its owner only; return the permissions the system gives to a new file here."""
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        # Asking the system for the umask means changing it, under the feet of other threads; a new file shows it.
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)
    os.chmod(path, 0o600)
    return mode


@contextmanager
def _opened_folder(folder: str) -> Iterator[int | None]:
    """A descriptor of `folder` for `_sync_folder`; None where there can be none."""
    descriptor = None
    if os.name == "posix":
        # A folder may be writable and yet not readable: then there is no syncing it, and no reason to fail.
        with suppress(PermissionError):
            descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _sync_folder(descriptor: int) -> None:
    """Make the new name last through a power failure."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems do not know how to sync a folder.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
