"""Reads the bytes of a file and decompresses gzip, but never reads more bytes than the caller asks for."""

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
"""The default of the readers' `max_bytes`: the largest size of a file's content, decompressed."""

GZIP_MAGIC = b"\x1f\x8b"
# Deflate compresses by a factor of at most 1032. A larger declared size is an error before anything is decompressed.
DEFLATE_LIMIT = 1032
_CHUNK = 2**20


def checked_max_bytes(max_bytes: int) -> int:
    """Return `max_bytes`; raise SettingsError unless it is a positive whole number."""
    if isinstance(max_bytes, bool) or not isinstance(max_bytes, int) or max_bytes < 1:
        raise SettingsError(f"max_bytes is {max_bytes!r}, expected a positive whole number of bytes")
    return max_bytes


def open_binary(path: FilePath) -> BinaryIO:
    """Open a regular file for reading; raise FileError with the path if that fails."""
    try:
        text = os.fspath(path)
    except TypeError:
        raise SettingsError(f"found {type(path).__name__} as a file, expected a path") from None
    if not isinstance(text, str):
        raise SettingsError("found bytes as a file, expected a path of str or os.PathLike")
    name = display_path(text)
    try:
        # Check the type first: opening a named pipe would wait for a writer.
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
    """The content of a file, read from start to end.

    A gzipped file is recognised by its first two bytes, not by its name.

    Parameters
    ----------
    file : binary file
        Open at its first byte. Leaving the context of this object closes it.
    name : str
        The name of the file in messages.

    Attributes
    ----------
    stored : int
        The size of the file on disk, in bytes.
    gzipped : bool
        Whether the file is gzipped.
    size : int or None
        The size of the content, in bytes. None if the file is gzipped, because its size is unknown until it is read.
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
    def max_size(self) -> int:
        """An upper bound for the size of the content, in bytes."""
        return self.stored * DEFLATE_LIMIT if self.size is None else self.size

    def read(self, size: int) -> bytes:
        """Read the next `size` bytes, or fewer at the end of the content."""
        if not self.gzipped:
            # Python allocates the requested size even if the file is smaller.
            return self._from_file(min(size, self.stored + 1))
        parts = []
        while size > 0 and self._inflater is not None:
            part = self._inflate(size)
            size -= len(part)
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read_into(self, values: np.ndarray) -> int:
        """Fill the one-dimensional `values` with the next bytes; return the number of bytes read.

        It is smaller than the size of `values` if the content ends before. The content is read in chunks to keep only
        one copy in memory. The CRC and trailing bytes are checked only when a further read reaches the end.
        """
        target, at = values.view(np.uint8), 0
        while at < len(target) and (part := self.read(min(_CHUNK, len(target) - at))):
            target[at : at + len(part)] = np.frombuffer(part, np.uint8)
            at += len(part)
        return at

    def _inflate(self, size: int) -> bytes:
        assert self._inflater is not None
        packed = self._packed or self._from_file(_CHUNK)
        try:
            part = self._inflater.decompress(packed, size)
        except zlib.error as error:
            raise DataError(f"{self.name}: the gzip data are damaged ({error}), expected an intact gzip file") from None
        if self._inflater.eof:
            self._next_member(self._inflater.unused_data)
        else:
            if not packed and not part:
                raise DataError(
                    f"{self.name}: the gzip data are truncated after {self.stored} bytes, expected an intact gzip file"
                )
            self._packed = self._inflater.unconsumed_tail
        return part

    def _next_member(self, rest: bytes) -> None:
        """Continue with the next gzip member, if any. Only zero bytes may follow the last member."""
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
    """Open a file as `Content`; raise FileError if it cannot be opened, DataError if it is empty."""
    file = open_binary(path)
    try:
        return Content(file, display_path(path))
    except BaseException:
        file.close()
        raise


def read_whole(path: FilePath, max_bytes: int) -> bytes:
    """Read the whole content of a file; raise DataError if it is empty or larger than `max_bytes`."""
    checked_max_bytes(max_bytes)
    with open_content(path) as content:
        if content.size is not None and content.size > max_bytes:
            raise DataError(f"{content.name}: found {content.size} bytes, expected at most max_bytes = {max_bytes}")
        data = content.read(max_bytes + 1)
        if len(data) > max_bytes:
            raise DataError(
                f"{content.name}: found more bytes after decompression, expected at most max_bytes = {max_bytes}"
            )
        if not data:
            raise DataError(f"{content.name}: found an empty file (0 bytes after decompression), expected data")
        return data


def file_name(path: FilePath) -> str:
    """Return the last component of the path, in lower case."""
    return Path(os.fspath(path)).name.lower()


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).replace("\n", " ")
