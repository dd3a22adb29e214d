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
# A file that unpacks to more than both limits is a bomb. Real images compress 5 to 100 times, and deflate at most 1,032
# times, so that a larger ratio would be no limit.
_BOMB_RATIO = 100
_BOMB_SIZE = 32 * 2**20
_OBJECT_RATIO = 8


class _Compression(NamedTuple):
    name: str
    magic: bytes
    open: Any


_COMPRESSIONS = (
    _Compression("gzip", b"\x1f\x8b", lambda file: GzipFile(fileobj=file)),
    _Compression("bzip2", b"BZh", BZ2File),
    _Compression("xz", b"\xfd7zXZ\0", LZMAFile),
)


class UnpackedSizeError(DataError):
    """A file unpacks to more than it may."""


class Allowance:
    """The number of bytes that the content of one file on disk may have after decompression.

    It is 100 times the size of the file, and at least 32 MiB. The files in an archive share the allowance of the
    archive, and so do archives in archives: otherwise each level of nesting would multiply the size.

    Parameters
    ----------
    stored : int
        The size of the file on disk, in bytes.
    """

    def __init__(self, stored: int) -> None:
        self._stored = stored
        self.left = max(_BOMB_SIZE, _BOMB_RATIO * stored)

    def take(self, size: int, name: str) -> None:
        """Count `size` more bytes; raise DataError if the file `name` has more than allowed."""
        self.left -= size
        if self.left < 0:
            raise self.exceeded(name)

    def exceeded(self, name: str, found: str = "more bytes after decompression") -> UnpackedSizeError:
        """Return the error of a file whose content is too large."""
        expected = f"at most {_BOMB_RATIO} times the {self._stored} bytes of the file, or {_BOMB_SIZE >> 20} MiB"
        return UnpackedSizeError(f"{name}: found {found}, expected {expected}; if it is intact, decompress it first")


@dataclass(frozen=True)
class Member:
    """A file inside an archive: its name in messages, its path in the archive, and its bytes as they are stored.

    `allowance` is that of the archive on disk.
    """

    name: str
    path: PurePath
    data: bytes = field(repr=False)
    allowance: Allowance = field(repr=False, compare=False)


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
    for a compressed file, whose size is unknown until it is read. `allowance` limits the size of what is decompressed;
    None: that of the file itself.
    """

    def __init__(self, file: IO[bytes], name: str, allowance: Allowance | None = None) -> None:
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
        self.allowance = allowance or Allowance(self.stored)
        self._data: IO[bytes] = self._packed.open(file) if self._packed else file

    def __enter__(self) -> "Content":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    @property
    def raw(self) -> IO[bytes]:
        """The stored bytes, as an open file."""
        return self._file

    def read(self, size: int) -> bytes:
        """Read the next `size` bytes, or fewer at the end of the content."""
        data = self._read(self._data, size)
        if self._packed:
            self.allowance.take(len(data), self.name)
        return data

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
        return Content(file, source_name(source), source.allowance if isinstance(source, Member) else None)
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


def allowance_of(source: Source) -> Allowance:
    """Return what a file may have after decompression: of a file in an archive, what the archive has left."""
    if isinstance(source, Member):
        return source.allowance
    with open_binary(source) as file:
        return Allowance(file.seek(0, os.SEEK_END))


def check_text_size(content: bytes, allowance: Allowance, name: str) -> None:
    """Raise DataError if a text whose reader makes Python objects of its values was compressed too much.

    The objects take about 30 times the memory of the text.
    """
    if _OBJECT_RATIO * len(content) > allowance.left:
        raise allowance.exceeded(name, f"a text of {len(content)} bytes, which takes many times the memory")


def check_unpacked(unpacked: int, allowance: Allowance, max_bytes: int, name: str) -> None:
    """Raise DataError if an archive declares too many bytes after decompression; else count them."""
    found = f"declares {unpacked} bytes after decompression"
    if unpacked > max_bytes:
        raise DataError(f"{name}: {found}, expected at most max_bytes = {max_bytes}")
    if unpacked > allowance.left:
        raise allowance.exceeded(name, f"an archive that {found}")
    allowance.take(unpacked, name)


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
