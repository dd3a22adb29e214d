"""`Journal`: the file of a sweep. A line of JSON per finished run, which is on disk before the next one is written.

The first line says what the runs were trained on. A process that is killed loses the runs that had not finished; at
most, it leaves a part of a line at the end, which the next process drops.
"""

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastnn.checks import display_path
from fastnn.errors import DataError, FileError
from fastnn.files.atomic import is_temporary
from fastnn.files.lock import LOCK, FolderLock
from fastnn.sweeps.record import SweepRecord

JOURNAL, FIGURE = "journal.jsonl", "sweep.png"
_FORMAT = "fastnn sweep 1"
_LOGGER = logging.getLogger("fastnn")


class Journal:
    """The journal of the sweep in a folder, which is created if it does not exist. Use it as a context manager.

    One process at a time has the folder. A line that cannot be written, as on a full disk, is tried again with the next
    one and at the end; a warning says so, and the sweep goes on.

    Parameters
    ----------
    folder : str or path
        New, empty, or that of the same sweep.
    about : mapping
        What all runs are trained on, as values that JSON can store. Other runs cannot be added to those of the folder.

    Attributes
    ----------
    records : dict of str to SweepRecord
        The finished runs by their keys.

    Raises
    ------
    FileError
        If the folder cannot be created or written to, holds other files, or is in use by another process.
    DataError
        If a line of the journal is damaged, or its runs were trained on something else.
    """

    def __init__(self, folder: str | os.PathLike[str], about: Mapping[str, Any]) -> None:
        self.folder, self.records = Path(folder), dict[str, SweepRecord]()
        self._path, self._unwritten = self.folder / JOURNAL, list[bytes]()
        shown = display_path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = FolderLock(folder, "one sweep at a time: wait for its end, or give another folder")
        except FileError:
            raise
        except (OSError, ValueError) as error:  # ValueError: the path has a NUL or invalid characters
            reason = getattr(error, "strerror", None) or error
            raise FileError(f"{shown} cannot be used as the folder of a sweep: {reason}") from None
        try:
            self._open(shown, json.loads(json.dumps(dict(about))))
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self) -> "Journal":
        """Return the journal."""
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        """Write what could not be written before, and let other processes use the folder."""
        try:
            self._flush()
            if self._unwritten and kind is None:
                raise FileError(f"{display_path(self._path)}: {len(self._unwritten)} finished runs cannot be written")
        finally:
            self._lock.release()

    def append(self, record: SweepRecord) -> None:
        """Add a finished run. Whatever ends the process afterwards, it is in the file, if the file can be written."""
        self.records[record.key] = record
        self._unwritten.append(_line(record.to_dict()))
        self._flush()

    # --- Reading ---
    def _open(self, shown: str, about: dict[str, Any]) -> None:
        if not os.path.lexists(self._path):
            others = [name for name in os.listdir(self.folder) if name != LOCK and not is_temporary(name)]
            if others:
                raise FileError(
                    f"{shown} holds other files, such as {display_path(min(others))}, expected a new or empty folder, "
                    f"or one with the {JOURNAL} of a sweep"
                )
        lines = self._read()
        if not lines:
            self._unwritten.append(_line({"format": _FORMAT, **about}))
            self._flush()
            if self._unwritten:
                raise FileError(f"{display_path(self._path)}: cannot write, expected a folder that can be written to")
            return
        self._check_header(shown, lines[0], about)
        for number, line in enumerate(lines[1:], start=2):
            try:
                record = SweepRecord.from_dict(json.loads(line))
            except (DataError, ValueError, RecursionError) as error:
                raise self._damaged(number, error) from None
            self.records[record.key] = record  # a run that failed may have been tried again

    def _read(self) -> list[bytes]:
        """Return the lines, and cut off what a killed process left of a last one."""
        try:
            with open(self._path, "r+b") as file:
                content = file.read()
                whole = content.rfind(b"\n") + 1
                if whole < len(content):
                    _LOGGER.warning(
                        "%s: the last line is incomplete, as after a kill; it is dropped, and its run runs again",
                        display_path(self._path),
                    )
                    file.truncate(whole)
                    os.fsync(file.fileno())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise FileError(f"{display_path(self._path)}: {error.strerror or error}") from None
        return content[:whole].splitlines()

    def _check_header(self, shown: str, line: bytes, about: dict[str, Any]) -> None:
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise self._damaged(1, error) from None
        if not (isinstance(found, dict) and found.pop("format", None) == _FORMAT):
            raise self._damaged(1, f"expected the format {_FORMAT!r}")
        for name in sorted({*found, *about}):
            before, now = found.get(name), about.get(name)
            if before != now:
                raise DataError(
                    f"{shown}: the {name} of its runs: {_text(before)}; found now: {_text(now)}, expected the same, or "
                    "another folder"
                )

    def _damaged(self, number: int, error: object) -> DataError:
        return DataError(f"{display_path(self._path)}: line {number} is damaged: {' '.join(str(error).split())}")

    # --- Writing ---
    def _flush(self) -> None:
        """Append the lines that are not written yet, all or none of each, and sync the file."""
        n_before = len(self._unwritten)
        try:
            descriptor = os.open(
                self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0), 0o644
            )
            try:
                while self._unwritten:
                    _append(descriptor, self._unwritten[0])
                    del self._unwritten[0]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            if n_before <= 1:  # the first of several failures in a row
                shown, reason = display_path(self._path), error.strerror or error
                _LOGGER.warning("%s: a finished run cannot be written: %s; it is tried again", shown, reason)


def _line(values: dict[str, Any]) -> bytes:
    return json.dumps(values, allow_nan=False).encode() + b"\n"


def _append(descriptor: int, line: bytes) -> None:
    """Append a line; if only a part of it can be written, the file is as before."""
    size, written = os.fstat(descriptor).st_size, 0
    try:
        while written < len(line):
            written += os.write(descriptor, line[written:])
    except OSError:
        os.ftruncate(descriptor, size)
        raise


def _text(value: Any) -> str:
    """Return a value of the first line for a message."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(each)}" for name, each in value.items())
    return "none" if value is None else value[:12] if isinstance(value, str) and len(value) == 64 else str(value)
