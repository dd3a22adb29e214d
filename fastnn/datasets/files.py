"""Reads the bytes of a file and decompresses gzip, bzip2 and xz, but never more bytes than the caller asks for."""

import os
import zlib
from bz2 import BZ2File
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from gzip import BadGzipFile, GzipFile
from io import BytesIO
from lzma import LZMAError, LZMAFile
from pathlib import PurePath
from stat import S_ISDIR, S_ISREG
from typing import IO, Any, BinaryIO, NamedTuple

import numpy as np

from fastnn.checks import check_integer, display_path
from fastnn.errors import DataError, FastnnError, FileError, SettingsError

FilePath = str | os.PathLike[str]

MAX_BYTES = 4 * 2**30
"""The default of the readers' `max_bytes`: the largest size of a file's content, decompressed."""

_CHUNK = 2**20
# An archive above both limits, of size and of compression ratio, is a bomb. Real images compress 10 to 100 times, and
# small archives do no harm. Entries that overlap count once in the size of the file.
_BOMB_RATIO = 1000
_BOMB_SIZE = 64 * 2**20


class _Compression(NamedTuple):
    name: str
    magic: bytes
    open: Any
    # The largest factor of compression. A larger declared size is an error before anything is decompressed.
    limit: int


_COMPRESSIONS = (
    _Compression("gzip", b"\x1f\x8b", lambda file: GzipFile(fileobj=file), 1032),
    _Compression("bzip2", b"BZh", BZ2File, 2**21),
    _Compression("xz", b"\xfd7zXZ\0", LZMAFile, 2**14),
)


@dataclass(frozen=True)
class Member:
    """A file inside an archive: its name in messages, its path in the archive, and its bytes as they are stored."""

    name: str
    path: PurePath
    data: bytes = field(repr=False)


Source = FilePath | Member
"""What the readers read: a file by its path, or a file inside an archive."""


def source_name(source: Source) -> str:
    """Return the name of a file for messages, on one line."""
    return source.name if isinstance(source, Member) else display_path(source)


def file_name(source: Source) -> str:
    """Return the last part of the path of a file, without the endings of compression."""
    name = source.path.name if isinstance(source, Member) else os.path.basename(os.fspath(source))
    for ending in (".gz", ".bz2", ".xz", ".zip"):
        name = name.removesuffix(ending)
    return name


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

    A compressed file is recognised by its first bytes, not by its name. `name` is the name of the file in messages,
    `stored` the size of the file on disk, `compression` its name or "", and `size` that of the content, in bytes; None
    for a compressed file, whose size is unknown until it is read.
    """

    def __init__(self, file: IO[bytes], name: str) -> None:
        self.name = name
        self._file = file
        self.stored = file.seek(0, os.SEEK_END)
        if self.stored == 0:
            raise DataError(f"{name}: found an empty file (0 bytes), expected data")
        file.seek(0)
        start = self._read(file, 6)
        file.seek(0)
        self._packed = next((each for each in _COMPRESSIONS if start.startswith(each.magic)), None)
        self.compression = self._packed.name if self._packed else ""
        self.size = None if self._packed else self.stored
        self._data: IO[bytes] = self._packed.open(file) if self._packed else file

    def __enter__(self) -> "Content":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    @property
    def raw(self) -> IO[bytes]:
        """The stored bytes, as an open file."""
        return self._file

    @property
    def max_size(self) -> int:
        """An upper bound for the size of the content, in bytes."""
        return self.stored * self._packed.limit if self._packed else self.stored

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

    def _read(self, source: IO[bytes], size: int) -> bytes:
        try:
            return source.read(size)
        except (BadGzipFile, EOFError, zlib.error, LZMAError, MemoryError, ValueError) as error:
            raise self._damaged(error) from None
        except OSError as error:
            if self.compression == "bzip2" and error.errno is None:
                raise self._damaged(error) from None
            raise FileError(f"{self.name}: cannot be read ({_reason(error)})") from None

    def _damaged(self, error: Exception) -> DataError:
        found = f"the {self.compression} data are damaged or followed by other bytes ({error})"
        return DataError(f"{self.name}: {found}, expected an intact {self.compression} file")


def open_source(source: Source) -> BinaryIO:
    """Open a file for reading its stored bytes; raise FileError if it cannot be opened."""
    return BytesIO(source.data) if isinstance(source, Member) else open_binary(source)


def open_content(source: Source) -> Content:
    """Open a file as `Content`; raise FileError if it cannot be opened, DataError if it is empty."""
    file = open_source(source)
    try:
        return Content(file, source_name(source))
    except BaseException:
        file.close()
        raise


def read_whole(source: Source, max_bytes: int) -> bytes:
    """Read the whole content of a file; raise DataError if it is empty or larger than `max_bytes`."""
    check_integer("max_bytes", max_bytes, 1)
    data = BytesIO()
    with open_content(source) as content:
        while data.write(content.read(_CHUNK)):
            if max(data.tell(), content.size or 0) > max_bytes:
                found = f"{content.size or 'more'} bytes{' after decompression' * bool(content.compression)}"
                raise DataError(f"{content.name}: found {found}, expected at most max_bytes = {max_bytes}")
        if not data.tell():
            raise DataError(f"{content.name}: found an empty file (0 bytes after decompression), expected data")
    return data.getvalue()


def check_unpacked(unpacked: int, stored: int, max_bytes: int, name: str) -> None:
    """Raise DataError if an archive of `stored` bytes declares too many bytes after decompression."""
    for limit, expected in (
        (max_bytes, f"max_bytes = {max_bytes}"),
        (max(_BOMB_SIZE, _BOMB_RATIO * stored), f"{_BOMB_RATIO} times as many as the {stored} bytes of the file"),
    ):
        if unpacked > limit:
            raise DataError(f"{name}: declares {unpacked} bytes after decompression, expected at most {expected}")


@contextmanager
def errors_named(where: str, expected: str) -> Iterator[None]:
    """Convert every error to a DataError that names the place and what was expected there.

    For a damaged file, the libraries that read formats raise many kinds of errors, such as zlib.error, IndexError and
    SyntaxError.
    """
    try:
        yield
    except FastnnError:
        raise
    except Exception as error:
        reason = str(error).split("\n")[0][:120] or type(error).__name__
        raise DataError(f"{where}: cannot be read ({ascii(reason)[1:-1]}), expected {expected}") from None


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).replace("\n", " ")
