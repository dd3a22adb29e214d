"""A folder that only this user can change. Its files are read and replaced through a descriptor of the folder."""

import contextlib
import os
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

# Windows knows neither descriptors of folders nor these owners and modes. There, a user's folders are private by
# default, and files are opened by their paths.
_POSIX = os.name == "posix"
_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
# A named pipe in place of a file must not block.
_NONBLOCK = getattr(os, "O_NONBLOCK", 0)
_MOST_LINKS = 40  # as in Linux
# The largest kernel takes 1 MB. A larger file is not a kernel, and reading it could exhaust the memory.
_MOST_BYTES = 2**26
_LOCK, _TEMPORARY = ".lock", ".tmp"
# A writer that still runs replaces its file within seconds.
_TEMPORARY_SECONDS = 3600.0
# A process that holds the lock this long was stopped. Renaming is atomic in any case.
_LOCK_SECONDS = 5.0


class UnsafeFileError(Exception):
    """A file that another user owns or may change, or that is not a file of a plausible size."""


class PrivateFolder:
    """An open folder that belongs to this user and that no other user except root can change or replace.

    Parameters
    ----------
    path : Path
        The folder. It may not be a symbolic link, though its parents may be.
    create : bool
        Whether to create the folder, and parents that do not exist, for this user only.

    Raises
    ------
    PermissionError
        If another user except root owns or may change the folder or one of its parents.
    OSError
        If the folder cannot be created or opened.
    """

    def __init__(self, path: Path, create: bool = False) -> None:
        self._path = _checked(os.path.join(os.getcwd(), path), create) if _POSIX else _opened_by_path(path, create)
        self._descriptor = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | _FLAGS) if _POSIX else None
        if self._descriptor is not None:
            try:
                _check(os.fstat(self._descriptor), self._path, own=True)
            except BaseException:
                self.close()
                raise

    def __enter__(self) -> "PrivateFolder":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptor of the folder."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def touch(self) -> None:
        """Set the folder's time to now, if its file system allows that."""
        with contextlib.suppress(OSError):
            os.utime(self._path if self._descriptor is None else self._descriptor)

    def names(self) -> list[str]:
        """The names of all files in the folder."""
        return os.listdir(self._path if self._descriptor is None else self._descriptor)

    def read(self, name: str) -> bytes:
        """The contents of a file.

        Raises UnsafeFileError if another user owns or may change it, or if it is not a file or too large, and OSError
        if it cannot be read.
        """
        try:
            descriptor = self._open(name, os.O_RDONLY | _NONBLOCK)
        except (FileNotFoundError, PermissionError):
            raise
        except OSError as error:  # a symbolic link, which O_NOFOLLOW refuses with another number on each system
            raise UnsafeFileError(str(error)) from error
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST_BYTES:
                raise UnsafeFileError(f"{status.st_size} bytes of mode {status.st_mode:o}, not a kernel's file")
            if _POSIX and (status.st_uid != os.geteuid() or status.st_mode & 0o022):
                raise UnsafeFileError(f"owner {status.st_uid} and mode {status.st_mode & 0o7777:o}, not only this user")
            with open(descriptor, "rb", closefd=False) as file:
                return file.read(_MOST_BYTES)
        finally:
            os.close(descriptor)

    def replace(self, name: str, data: bytes) -> None:
        """Create or replace a file. After a crash or a power cut, the file has its old or its new contents, whole."""
        with self._locked():
            self._remove_old_temporaries()
            temporary = f"{name}.{secrets.token_hex(8)}{_TEMPORARY}"
            try:
                with open(self._open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(self._at(temporary), self._at(name), **self._pair())
            except BaseException:
                self._remove(temporary)
                raise
            if self._descriptor is not None:
                with contextlib.suppress(OSError):  # some file systems cannot sync a folder
                    os.fsync(self._descriptor)

    def _at(self, name: str) -> str:
        """The name for a call with the folder's descriptor, or the path for a call without."""
        return name if self._descriptor is not None else os.path.join(self._path, name)

    def _pair(self) -> dict[str, int]:
        return {} if self._descriptor is None else {"src_dir_fd": self._descriptor, "dst_dir_fd": self._descriptor}

    def _open(self, name: str, flags: int) -> int:
        return os.open(self._at(name), flags | _FLAGS, 0o600, dir_fd=self._descriptor)

    def _remove(self, name: str) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self._at(name), dir_fd=self._descriptor)

    def _remove_old_temporaries(self) -> None:
        """Remove what writers have left that were killed."""
        for name in self.names():
            if name.endswith(_TEMPORARY):
                with contextlib.suppress(OSError):
                    status = os.stat(self._at(name), dir_fd=self._descriptor, follow_symlinks=False)
                    if status.st_mtime < time.time() - _TEMPORARY_SECONDS:
                        self._remove(name)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the folder's lock. Goes on without where the system or the file system has no locks."""
        descriptor = None
        if fcntl is not None:
            with contextlib.suppress(OSError):
                descriptor = self._open(_LOCK, os.O_RDWR | os.O_CREAT | _NONBLOCK)
                _lock(descriptor)
        try:
            yield
        finally:
            if descriptor is not None:
                with contextlib.suppress(OSError):  # a fork may have copied the descriptor, so closing does not unlock
                    fcntl.flock(descriptor, fcntl.LOCK_UN)
                os.close(descriptor)


def _lock(descriptor: int) -> None:
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return None
        time.sleep(0.005)


def _opened_by_path(path: Path, create: bool) -> str:
    if create:
        os.makedirs(path, 0o700, exist_ok=True)
    if os.path.islink(path) or not os.path.isdir(path):
        raise PermissionError(f"{path} is not a folder or is a link")
    return str(path)


def _checked(path: str, create: bool) -> str:
    """The folder's path without symbolic links. Its parents are checked from the root on.

    Nobody but this user and root can change an entry of a folder that has been checked, so no entry can change between
    its check and its use.
    """
    done, links = "/", 0
    _check(os.lstat(done), done)
    pending = [part for part in reversed(path.split("/")) if part not in ("", ".")]
    while pending:
        name = pending.pop()
        if name == "..":
            done = os.path.dirname(done)
            continue
        entry = os.path.join(done, name)
        try:
            status = os.lstat(entry)
        except FileNotFoundError:
            if not create:
                raise
            with contextlib.suppress(FileExistsError):  # another process may be faster
                os.mkdir(entry, 0o700)
            status = os.lstat(entry)
        if stat.S_ISLNK(status.st_mode) and pending:
            links += 1
            if links > _MOST_LINKS:
                raise PermissionError(f"{path} has too many symbolic links")
            if status.st_uid not in _trusted():
                raise PermissionError(f"{entry} is a symbolic link of another user")
            target = os.readlink(entry)
            done = "/" if target.startswith("/") else done
            pending += [part for part in reversed(target.split("/")) if part not in ("", ".")]
            continue
        _check(status, entry, own=not pending)
        done = entry
    return done


def _trusted() -> set[int]:
    """The users that may own a parent: this one, root, and who owns the root folder.

    In a container that maps few users, the root folder belongs to a user without a name. Whoever owns it could replace
    Python as well.
    """
    return {os.geteuid(), 0, os.lstat("/").st_uid}


def _check(status: os.stat_result, path: str, own: bool = False) -> None:
    """Raise an error unless this is a folder in which only this user and root can replace entries.

    In a sticky folder, such as /tmp, others can only replace their own entries. With `own`, it must be this user's.
    """
    if stat.S_ISLNK(status.st_mode):
        raise PermissionError(f"{path} is a symbolic link")
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(f"{path} is not a folder")
    mode, owners = stat.S_IMODE(status.st_mode), {os.geteuid()} if own else _trusted()
    open_to_others = mode & 0o002 or (mode & 0o020 and (own or not _is_own_group(status.st_gid)))
    if status.st_uid not in owners or (open_to_others and (own or not mode & stat.S_ISVTX)):
        raise PermissionError(f"{path} is owned or writable by another user (owner {status.st_uid}, mode {mode:o})")


def _is_own_group(group: int) -> bool:
    """Whether only root and this user are in a group, as in the group of the user's name that Linux creates."""
    if group == 0:
        return True
    import grp
    import pwd

    try:
        user, entry = pwd.getpwuid(os.geteuid()), grp.getgrgid(group)
    except KeyError:
        return False
    return entry.gr_name == user.pw_name and set(entry.gr_mem) <= {user.pw_name}
