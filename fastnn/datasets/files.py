"""Reads the bytes of a file and decompresses gzip, but never reads more bytes than the caller asks for."""

import os
import zlib
from gzip import BadGzipFile, GzipFile
from io import BytesIO
from stat import S_ISDIR, S_ISREG
from typing import IO, BinaryIO

import numpy as np

from fastnn.checks import check_integer, display_path
from fastnn.errors import DataError, FileError, SettingsError

FilePath = str | os.PathLike[str]

MAX_BYTES = 4 * 2**30
"""The default of the readers' `max_bytes`: the largest size of a file's content, decompressed."""

_GZIP_MAGIC = b"\x1f\x8b"
# Deflate compresses by a factor of at most 1032. A larger declared size is an error before anything is decompressed.
_DEFLATE_LIMIT = 1032
_CHUNK = 2**20


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
    """The content of a file, decompressed and read from start to end. Leaving the context of this object closes it.

    A gzipped file is recognised by its first two bytes, not by its name. `name` is the name of the file in messages,
    `stored` the size of the file on disk, and `size` that of the content, in bytes; None for a gzipped file, whose size
    is unknown until it is read.
    """

    def __init__(self, file: IO[bytes], name: str) -> None:
        self.name = name
        self._file = file
        self.stored = file.seek(0, os.SEEK_END)
        if self.stored == 0:
            raise DataError(f"{name}: found an empty file (0 bytes), expected data")
        file.seek(0)
        self.gzipped = self._read(file, 2) == _GZIP_MAGIC
        file.seek(0)
        self.size = None if self.gzipped else self.stored
        self._data: IO[bytes] | GzipFile = GzipFile(fileobj=file) if self.gzipped else file

    def __enter__(self) -> "Content":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    @property
    def max_size(self) -> int:
        """An upper bound for the size of the content, in bytes."""
        return self.stored * _DEFLATE_LIMIT if self.size is None else self.size

    def read(self, size: int) -> bytes:
        """Read the next `size` bytes, or fewer at the end of the content."""
        return self._read(self._data, size)

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

    def _read(self, source: IO[bytes] | GzipFile, size: int) -> bytes:
        try:
            return source.read(size)
        except (BadGzipFile, EOFError, zlib.error) as error:
            found = f"the gzip data are damaged or followed by other bytes ({error})"
            raise DataError(f"{self.name}: {found}, expected an intact gzip file") from None
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
    check_integer("max_bytes", max_bytes, 1)
    data = BytesIO()
    with open_content(path) as content:
        while data.write(content.read(_CHUNK)):
            if max(data.tell(), content.size or 0) > max_bytes:
                found = f"{content.size or 'more'} bytes{' after decompression' * content.gzipped}"
                raise DataError(f"{content.name}: found {found}, expected at most max_bytes = {max_bytes}")
        if not data.tell():
            raise DataError(f"{content.name}: found an empty file (0 bytes after decompression), expected data")
    return data.getvalue()


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).replace("\n", " ")
