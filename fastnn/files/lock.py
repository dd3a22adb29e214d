"""`FolderLock`: one process at a time uses a folder. `try_lock`: a lock on an open file that ends with its process."""

import errno
import os
import socket
import sys
from contextlib import suppress
from pathlib import Path

from fastnn.checks import display_path
from fastnn.errors import FileError

LOCK = ".fastnn.lock"
# A run that ends may remove its lock file, or even its folder, while another one opens it.
_ATTEMPTS = 100
# File systems without locks answer with one of these.
_UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP}


def try_lock(descriptor: int) -> bool | None:
    """Lock an open file without waiting; return whether this process has the lock, None if files here have no locks.

    The lock ends when the file is closed or the process ends, however it ends.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, 1 << 30, os.SEEK_SET)  # beyond the content, which others may then read
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return None if error.errno in _UNSUPPORTED else False
    except ImportError:
        return None
    return True


class FolderLock:
    """The lock of a folder: a file in it that names the process, and that is removed by `release`.

    A file that a dead process left behind does not lock the folder. Where files cannot be locked, as on some network
    drives, the existence of the file is the lock, and it counts as left behind if no process of this host has its
    number. `expected` ends the message of the error.

    Raises FileError if another process has the lock, which it names, or the file cannot be created.
    """

    def __init__(self, folder: str | os.PathLike[str], expected: str = "a new or empty folder") -> None:
        self._folder, self._path, self._expected = display_path(folder), Path(folder) / LOCK, expected
        self._descriptor: int | None = None
        for _ in range(_ATTEMPTS):
            if self._acquire():
                return
        raise FileError(f"{self._folder} cannot be locked: {LOCK} is replaced again and again by other processes")

    def release(self) -> None:
        """Remove the file and end the lock. A second call does nothing."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        if os.name == "nt":  # an open file cannot be removed
            os.close(descriptor)
        with suppress(OSError):
            os.unlink(self._path)
        if os.name != "nt":
            os.close(descriptor)

    def _acquire(self) -> bool:
        """Take the lock; return False if the file was replaced meanwhile."""
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
        try:
            try:
                descriptor, is_new = os.open(self._path, flags | os.O_EXCL, 0o644), True
            except FileExistsError:
                descriptor, is_new = os.open(self._path, flags & ~os.O_CREAT, 0o644), False
        except FileNotFoundError:
            if os.path.isdir(self._path.parent):
                return False
            raise
        try:
            if self._is_ours(descriptor, is_new) and _is_same_file(descriptor, self._path):
                os.ftruncate(descriptor, 0)
                os.lseek(descriptor, 0, os.SEEK_SET)
                os.write(descriptor, f"{os.getpid()} {socket.gethostname()}\n".encode())
                self._descriptor = descriptor
                return True
            return False
        finally:
            if self._descriptor is None:
                os.close(descriptor)

    def _is_ours(self, descriptor: int, is_new: bool) -> bool:
        locked = try_lock(descriptor)
        if locked or (locked is None and is_new):
            return True
        pid, host = _owner(descriptor)
        if locked is None and host == socket.gethostname() and not _is_alive(pid):
            with suppress(OSError):
                os.unlink(self._path)  # the next attempt creates it, or meets the process that did so first
            return False
        who = f"process {pid} on {host}" if pid else "another process"
        hint = f"; remove its {LOCK} if that process has ended" if locked is None else ""
        raise FileError(f"{self._folder} is in use by {who}, expected {self._expected}{hint}")


def _owner(descriptor: int) -> tuple[int, str]:
    """Return the process and the host that a lock file names, or (0, "")."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    number, _, host = os.read(descriptor, 500).decode("utf-8", "replace").strip().partition(" ")
    return (int(number), display_path(host)) if number.isascii() and number.isdecimal() and host else (0, "")


def _is_alive(pid: int) -> bool:
    """Return whether a process of this host has this number. Windows cannot tell without a library."""
    if os.name == "nt":
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # a process of another user
        return True
    return True


def _is_same_file(descriptor: int, path: Path) -> bool:
    with suppress(OSError):
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    return False
