"""A disk that fails: the n-th call to the operating system raises an error, or its space is used up from there on.

`FailingCalls` makes calls fail, as SQLite's tests do: n counts up until a run makes fewer than n calls. `RecordedCalls`
records what is written, synced and renamed; `states_after_power_loss` gives the folders that a machine may have after
its power was cut at any moment.
"""

import builtins
import errno
import io
import os
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, Self
from unittest.mock import patch

# Calls by the position of their path or descriptor. Those of USES_SPACE fail on a full disk.
BY_PATH = (
    "open", "stat", "lstat", "chmod", "replace", "rename", "link", "unlink", "remove", "mkdir", "rmdir", "access",
    "listdir", "scandir", "truncate", "symlink", "utime",
)  # fmt: skip
BY_DESCRIPTOR = ("write", "fsync", "fdatasync", "fstat", "fchmod", "ftruncate", "close")
USES_SPACE = {"create", "write", "flush", "fsync", "fdatasync", "mkdir", "link", "symlink"}
ERRORS = ("ENOSPC", "EIO", "EROFS", "EDQUOT")


class Calls:
    """Watches the calls that concern files in `folder`, while it is entered as a context."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder, self.made = os.path.realpath(folder), []  # made: (name, path) of each call
        self._open: dict[int, str] = {}
        self._patches: list[Any] = []

    def before(self, name: str, path: str, *arguments: Any) -> Exception | None:
        """Record a call; return the error with which it fails, or None."""
        self.made.append((name, path))
        return None

    def __enter__(self) -> Self:
        for name in BY_PATH + BY_DESCRIPTOR:
            if hasattr(os, name):
                wrap = self._by_path if name in BY_PATH else self._by_descriptor
                self._patches.append(patch.object(os, name, wrap(name, getattr(os, name))))
        opener = self._opener(io.open)
        self._patches += [patch.object(builtins, "open", opener), patch.object(io, "open", opener)]
        for each in self._patches:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        for each in reversed(self._patches):
            each.stop()

    def _path(self, target: Any) -> str | None:
        """Return the path of a file in the folder, by its path or descriptor; None if it is elsewhere."""
        if isinstance(target, int):
            return self._open.get(target)
        try:
            path = os.path.abspath(os.fsdecode(target))
        except TypeError:
            return None
        return path if path == self.folder or path.startswith(self.folder + os.sep) else None

    def _by_path(self, name: str, original: Any) -> Any:
        def call(target: Any = ".", *arguments: Any, **options: Any) -> Any:
            path = self._path(target)
            if path is None:
                return original(target, *arguments, **options)
            flags = arguments[0] if name == "open" and arguments else 0
            kind = "create" if isinstance(flags, int) and flags & os.O_CREAT else name
            error = self.before(kind, path, *arguments)
            if error is not None:
                raise error
            result = original(target, *arguments, **options)
            if name == "open":
                self._open[result] = path
            return result

        return call

    def _by_descriptor(self, name: str, original: Any) -> Any:
        def call(target: Any, *arguments: Any, **options: Any) -> Any:
            path = self._path(target)
            if path is None:
                return original(target, *arguments, **options)
            error = self.before(name, path, *arguments)
            if name == "close":  # a close that fails still closes the descriptor
                self._open.pop(target, None)
                original(target)
            elif error is not None and name == "write":
                original(target, bytes(arguments[0])[: len(arguments[0]) // 2])  # half of the data, as on a full disk
            if error is not None:
                raise error
            return None if name == "close" else original(target, *arguments, **options)

        return call

    def _opener(self, original: Any) -> Any:
        def call(target: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            path = self._path(target)
            if path is None:
                return original(target, mode, *arguments, **options)
            is_written = bool(set(mode) & set("wax+"))
            if not isinstance(target, int):
                error = self.before("create" if set(mode) & set("wax") else "open", path)
                if error is not None:
                    raise error
            file = original(target, mode, *arguments, **options)
            self._open[file.fileno()] = path
            if is_written:
                self._watch(file, path)
            return file

        return call

    def _watch(self, file: Any, path: str) -> None:
        write, flush, close, number = file.write, file.flush, file.close, file.fileno()

        def watched_write(data: Any) -> int:
            error = self.before("write", path, data)
            if error is not None:
                write(data[: len(data) // 2])
                raise error
            return write(data)

        def watched_flush() -> None:
            error = self.before("flush", path)
            if error is not None:
                raise error
            flush()

        def watched_close() -> None:
            self._open.pop(number, None)
            close()

        file.write, file.flush, file.close = watched_write, watched_flush, watched_close


class FailingCalls(Calls):
    """Makes the n-th call that concerns `folder` fail with an error, such as "ENOSPC".

    With `lasting`, calls that need space fail from the n-th call on, like those on a disk that stays full.

    `failed` lists the names of the calls that failed. Calls to files elsewhere are neither counted nor changed.
    """

    def __init__(self, folder: str | os.PathLike[str], nth: int, error: str = "ENOSPC", lasting: bool = False) -> None:
        super().__init__(folder)
        self.failed: list[str] = []
        self._nth, self._error, self._lasting = nth, getattr(errno, error), lasting

    def before(self, name: str, path: str, *arguments: Any) -> Exception | None:
        super().before(name, path)
        count = len(self.made)
        fails = count >= self._nth and name in USES_SPACE if self._lasting else count == self._nth
        if fails:
            self.failed.append(name)
            return OSError(self._error, os.strerror(self._error), path)
        return None


class RecordedCalls(Calls):
    """Records calls that change the disk, in order: a name, a path, and the data or the other path."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        super().__init__(folder)
        self.changes: list[tuple[str, str, Any]] = []

    def before(self, name: str, path: str, *arguments: Any) -> Exception | None:
        if name in ("create", "write", "fsync", "replace", "rename", "unlink", "remove"):
            other = arguments[0] if arguments and name != "create" else None
            if name in ("replace", "rename"):
                other = os.path.abspath(os.fsdecode(other))
            self.changes.append((name, path, bytes(other) if name == "write" else other))
        return super().before(name, path)


def states_after_power_loss(
    changes: list[tuple[str, str, Any]], before: dict[str, bytes], folder: str | os.PathLike[str], first: int = 0
) -> Iterator[dict[str, bytes]]:
    """Yield the contents, by path, that the folder may have if the power fails after `first` or more of the changes.

    A sync of a file makes its data durable, and a sync of the folder its names. What was changed since then may be
    lost: of the names, any number of the last changes; of each file, all data but a part at its start.
    """
    for end in range(first, len(changes) + 1):
        done = changes[:end]
        synced = [k for k, (name, path, _) in enumerate(done) if name == "fsync" and path == os.path.realpath(folder)]
        for kept in range(synced[-1] + 1 if synced else 0, end + 1):
            yield from _contents(done, kept, before)


def _contents(done: list[tuple[str, str, Any]], kept: int, before: dict[str, bytes]) -> Iterator[dict[str, bytes]]:
    """Yield the contents where the names are those after `kept` changes, and unsynced data are there, cut, or lost."""
    files = dict(enumerate(before.values()))
    durable = dict(files)  # the data that a power loss leaves in any case
    now = {path: k for k, path in enumerate(before)}  # names as the program sees them
    names = dict(now)
    for index, (name, path, other) in enumerate(done):
        if name == "create":
            now[path] = len(files)
            files[now[path]] = durable[now[path]] = b""
        elif name == "write":
            files[now[path]] += other
        elif name == "fsync" and path in now:
            durable[now[path]] = files[now[path]]
        elif name in ("replace", "rename"):
            now[other] = now.pop(path)
        elif name in ("unlink", "remove"):
            now.pop(path, None)
        if index < kept:
            names = dict(now)
    choices = {
        k: {durable[k], files[k], files[k][: (len(durable[k]) + len(files[k])) // 2]} for k in set(names.values())
    }
    for found in product(*choices.values()):
        data = dict(zip(choices, found, strict=True))
        yield {path: data[k] for path, k in names.items()}


def temporary_files(folder: Path) -> list[Path]:
    """Return the temporary files of atomic writes in a folder."""
    return sorted(folder.rglob(".fastnn-*"))
