"""The bytes of a file, gunzipped where they are gzipped, and never more of them than asked for."""

import os
import zlib
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from types import TracebackType
from typing import IO, BinaryIO

import numpy as np

from fastnn.checks import display_path
from fastnn.errors import DataError, FileError, SettingsError

FilePath = str | os.PathLike[str]

MAX_BYTES = 4 * 2**30
"""The default of the readers' `max_bytes`: no file of theirs may hold more, gunzipped."""

GZIP_MAGIC = b"\x1f\x8b"
# Deflate cannot pack more tightly than 1032 to 1: what claims to hold more is refused before it is unpacked.
DEFLATE_LIMIT = 1032
_CHUNK = 2**20


def checked_max_bytes(max_bytes: int) -> int:
    """`max_bytes` if it is a positive whole number; SettingsError if not."""
    if isinstance(max_bytes, bool) or not isinstance(max_bytes, int) or max_bytes < 1:
        raise SettingsError(f"max_bytes is {max_bytes!r}, expected a positive whole number of bytes")
    return max_bytes


def open_binary(path: FilePath) -> BinaryIO:
    """Open a regular file for reading; FileError, one line with the path, where that cannot be done."""
    try:
        text = os.fspath(path)
    except TypeError:
        raise SettingsError(f"found {type(path).__name__} as a file, expected a path") from None
    if not isinstance(text, str):
        raise SettingsError("found bytes as a file, expected a path of str or os.PathLike")
    name = display_path(text)
    try:
        # Opening a named pipe would wait for a writer, so the kind of file is looked at first.
        mode = os.stat(text).st_mode
        if S_ISDIR(mode):
            raise FileError(f"{name}: found a folder, expected a file")
        if not S_ISREG(mode):
            raise FileError(f"{name}: found a pipe or device, expected a regular file")
        return open(text, "rb")
    except FileError:
        raise
    except FileNotFoundError:
        raise FileError(f"{name}: no such file") from None
    except PermissionError:
        raise FileError(f"{name}: no permission to read the file") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the path
        raise FileError(f"{name}: cannot be opened ({_reason(error)})") from None


class Content:
    """What a file holds, read in order; a gzipped file is recognised by its first two bytes, not by its name.

    Parameters
    ----------
    file : binary file
        Open at its first byte; `close` closes it.
    name : str
        What messages call the file.

    Attributes
    ----------
    stored : int
        The bytes the file takes on disk.
    size : int or None
        The bytes of the content; None where the file is gzipped, for then only reading tells.
    """

    def __init__(self, file: IO[bytes], name: str) -> None:
        self.name = name
        self._file = file
        self.stored = file.seek(0, os.SEEK_END)
        if self.stored == 0:
            raise DataError(f"{name}: found an empty file (0 bytes), expected data")
        file.seek(0)
        self.gzipped = self._from_file(2) == GZIP_MAGIC
        file.seek(0)
        self.size = None if self.gzipped else self.stored
        self._packed = b""
        self._inflater = zlib.decompressobj(31) if self.gzipped else None

    def __enter__(self) -> "Content":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def most(self) -> int:
        """No content of this file can be larger than this many bytes."""
        return self.stored * DEFLATE_LIMIT if self.size is None else self.size

    def read(self, size: int) -> bytes:
        """The next `size` bytes, or fewer where the content ends."""
        if not self.gzipped:
            # Python allocates what is asked for, not what is there.
            return self._from_file(min(size, self.stored + 1))
        pieces = []
        while size > 0 and self._inflater is not None:
            piece = self._inflate(size)
            size -= len(piece)
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def read_into(self, values: np.ndarray) -> int:
        """Fill `values`, of one dimension, with what comes next; returns the bytes read, fewer where the content ends.

        The content is never in memory twice. Its end is checked (CRC, what follows) when a further read finds it.
        """
        target, at = values.view(np.uint8), 0
        while at < len(target) and (piece := self.read(min(_CHUNK, len(target) - at))):
            target[at : at + len(piece)] = np.frombuffer(piece, np.uint8)
            at += len(piece)
        return at

    def _inflate(self, size: int) -> bytes:
        assert self._inflater is not None
        packed = self._packed or self._from_file(_CHUNK)
        try:
            piece = self._inflater.decompress(packed, size)
        except zlib.error as error:
            raise DataError(f"{self.name}: the gzip data are damaged ({error}), expected a whole gzip file") from None
        if self._inflater.eof:
            self._next_member(self._inflater.unused_data)
        else:
            if not packed and not piece:
                raise DataError(
                    f"{self.name}: the gzip data are cut short after {self.stored} bytes, expected a whole gzip file"
                )
            self._packed = self._inflater.unconsumed_tail
        return piece

    def _next_member(self, rest: bytes) -> None:
        """Go on to the gzip member that follows, if any; zero bytes may pad the file, nothing else may follow."""
        rest = rest.lstrip(b"\0")
        while len(rest) < 2 and (more := self._from_file(_CHUNK)):
            rest = (rest + more).lstrip(b"\0")
        if rest and rest[:2] != GZIP_MAGIC:
            raise DataError(
                f"{self.name}: found other bytes (0x{rest[:4].hex()}) after the gzip data, expected the end of the file"
            )
        self._packed = rest
        self._inflater = zlib.decompressobj(31) if rest else None

    def _from_file(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except OSError as error:
            raise FileError(f"{self.name}: cannot be read ({_reason(error)})") from None


def open_content(path: FilePath) -> Content:
    """Open a file as `Content`: FileError where it cannot be opened, DataError where it is empty."""
    file = open_binary(path)
    try:
        return Content(file, display_path(path))
    except BaseException:
        file.close()
        raise


def read_whole(path: FilePath, max_bytes: int) -> bytes:
    """All that a file holds; DataError where that is nothing, or more than `max_bytes`."""
    checked_max_bytes(max_bytes)
    with open_content(path) as content:
        if content.size is not None and content.size > max_bytes:
            raise DataError(f"{content.name}: holds {content.size} bytes, expected at most max_bytes = {max_bytes}")
        data = content.read(max_bytes + 1)
        if len(data) > max_bytes:
            raise DataError(
                f"{content.name}: unpacks to more than max_bytes = {max_bytes} bytes, expected at most that"
            )
        if not data:
            raise DataError(f"{content.name}: found an empty file (0 bytes when unpacked), expected data")
        return data


def file_name(path: FilePath) -> str:
    """The last part of the path, in lower case."""
    return Path(os.fspath(path)).name.lower()


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).replace("\n", " ")
