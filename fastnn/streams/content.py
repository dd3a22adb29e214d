"""Reads ranges of the bytes of a file, compressed or not. No memory map: its pages would count as memory in use."""

import os
import threading
import zlib
from copy import copy
from hashlib import sha256
from typing import IO, Any

import numpy as np

from fastnn.checks import display_path
from fastnn.datasets.files import Allowance, FilePath, open_binary, open_content
from fastnn.errors import DataError, FileError

# A fingerprint samples this number of places, of so many bytes each.
_N_SAMPLES, _SAMPLE_BYTES = 16, 4096
# A decompressor has a window of 32 KiB, and is kept for a place in every 8 MiB, or in more if there are too many.
_FIRST_SPACING, _MAX_PLACES = 2**23, 256
_INPUT_BYTES, _STEP_BYTES = 2**14, 2**20
# zlib's window bits for a gzip file and for a member of a zip archive.
_GZIP, _RAW = 31, -15


class RandomBytes:
    """A range of the bytes of a regular file, at any offset.

    Parameters
    ----------
    path : path
    start, size : int, optional
        The range. By default, the whole file.
    name : str, optional
        The name in messages. By default, that of the file.
    """

    def __init__(self, path: FilePath, start: int = 0, size: int | None = None, name: str | None = None) -> None:
        self._path = os.fspath(path)
        self._start = start
        self.name = display_path(path) if name is None else name
        with open_binary(path) as file:
            self._stored = os.fstat(file.fileno()).st_size
        self.size: int | None = self._stored - start if size is None else size

    def expect(self, size: int) -> None:
        """Raise DataError unless there are `size` bytes, as a header declares."""
        if self.size != size:
            raise DataError(f"{self.name}: found {self.size} bytes, expected {size} as the header declares")

    def read_into(self, offset: int, values: np.ndarray) -> None:
        """Fill a C-contiguous array with the bytes from `offset` on. Raises DataError if there are fewer."""
        target = memoryview(values.reshape(-1).view(np.uint8))
        done = 0
        with self._open() as file:
            file.seek(self._start + offset)
            while done < len(target):
                count = self._read_some(file, target[done:])
                if not count:
                    raise self._too_short(offset + done, offset + len(target))
                done += count

    def read(self, offset: int, size: int) -> bytes:
        """Return `size` bytes from `offset` on, or fewer at the end."""
        values = np.empty(max(0, min(size, self._stored - self._start - offset)), np.uint8)
        self.read_into(offset, values)
        return values.tobytes()

    def fingerprint(self) -> bytes:
        """Return the stored size and a digest of samples from all parts of the stored bytes."""
        digest = sha256(str(self._stored).encode())
        with self._open() as file:
            for place in np.linspace(0, max(0, self._stored - _SAMPLE_BYTES), _N_SAMPLES).astype(np.int64).tolist():
                file.seek(place)
                digest.update(file.read(_SAMPLE_BYTES))
        return digest.digest()

    def _open(self) -> IO[bytes]:
        """Open the file. Raises DataError if its size has changed."""
        file = open_binary(self._path)
        size = os.fstat(file.fileno()).st_size
        if size != self._stored:
            file.close()
            found = f"{size} bytes, {self._stored} when it was opened"
            raise DataError(f"{self.name}: found {found}, expected a file that does not change; open the data again")
        return file

    def _read_some(self, file: IO[bytes], target: memoryview) -> int:
        try:
            return file.readinto(target)  # type: ignore[attr-defined]
        except OSError as error:
            raise FileError(f"{self.name}: cannot be read ({error.strerror})") from None

    def _too_short(self, found: int, expected: int) -> DataError:
        return DataError(f"{self.name}: ends at byte {found}, expected at least {expected} bytes")


class _Inflater:
    """Decompresses the bytes of a file from one place on. A copy goes on from the same place.

    Parameters
    ----------
    stored : int
        Where the compressed bytes begin.
    is_gzip : bool
        Whether they are members of gzip, else one raw stream.
    """

    def __init__(self, stored: int, is_gzip: bool) -> None:
        self.offset = 0  # in the content
        self.check = 0  # CRC-32 of the content before
        self._stored, self._is_gzip = stored, is_gzip
        self._state = zlib.decompressobj(_GZIP if is_gzip else _RAW)

    def copy(self) -> "_Inflater":
        twin = copy(self)
        twin._state = self._state.copy()
        return twin

    def more(self, file: IO[bytes], end: int, size: int) -> bytes:
        """Return the next bytes of the content, at most `size`; b"" at its end. Raises zlib.error for damaged data."""
        while True:
            if self._state.eof:
                self._stored -= len(self._state.unused_data)
                file.seek(self._stored)
                if not self._is_gzip or not file.read(min(2, end - self._stored)).strip(b"\0"):
                    return b""
                self._state = zlib.decompressobj(_GZIP)  # the content of the next member follows that of this one
            data = self._state.unconsumed_tail
            if not data:
                file.seek(self._stored)
                data = file.read(min(_INPUT_BYTES, end - self._stored))
                self._stored += len(data)
            made: bytes = self._state.decompress(data, size)
            if made:
                self.offset += len(made)
                self.check = zlib.crc32(made, self.check)
                return made
            if not data and not self._state.eof:
                raise zlib.error("they end too early")


class DeflatedBytes(RandomBytes):
    """The content of a gzip file, or of a deflated member of a zip archive, at any offset.

    Decompression begins at the nearest of the places that it has passed, which are 8 MiB apart or more. So the first
    read of a block decompresses all before it, unless blocks are read in order. Checksums are verified where a read
    reaches the end.

    Parameters
    ----------
    path, start, size, name
        As in `RandomBytes`: where the compressed bytes are.
    content_size : int, optional
        The size of the content. None: unknown, as that of a gzip file.
    check : int, optional
        The CRC-32 of the content of a member of a zip archive. None: a gzip file.

    Raises
    ------
    DataError
        If the content is larger than that of a file of this size may be.
    """

    def __init__(
        self,
        path: FilePath,
        start: int = 0,
        size: int | None = None,
        name: str | None = None,
        content_size: int | None = None,
        check: int | None = None,
    ) -> None:
        super().__init__(path, start, size, name)
        assert self.size is not None
        self._compressed, self._check = self.size, check
        self._limit = Allowance(self._compressed).left
        self.size = None
        if content_size is not None:
            self.expect(content_size)
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._last = _Inflater(self._start, self._check is None)
        self._places, self._spacing = {0: self._last.copy()}, _FIRST_SPACING

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_lock", "_last", "_places")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    def expect(self, size: int) -> None:
        """Declare the size, which a read of the end verifies. Raises DataError if the content may not be so large."""
        if size > self._limit:
            raise Allowance(self._compressed).exceeded(self.name, f"{size} bytes after decompression")
        self.size = size

    def read_into(self, offset: int, values: np.ndarray) -> None:
        """Fill a C-contiguous array with the bytes of the content from `offset` on. Raises DataError."""
        target = memoryview(values.reshape(-1).view(np.uint8))
        done = self._fill(offset, target)
        if done < len(target):
            raise self._too_short(offset + done, offset + len(target))

    def read(self, offset: int, size: int) -> bytes:
        """Return `size` bytes of the content from `offset` on, or fewer at the end."""
        target = bytearray(size)
        return bytes(target[: self._fill(offset, memoryview(target))])

    def _fill(self, offset: int, target: memoryview) -> int:
        """Decompress into `target`; return the number of bytes."""
        with self._lock, self._open() as file:
            nearest = self._places[max(each for each in self._places if each <= offset)]
            inflater = self._last if nearest.offset <= self._last.offset <= offset else nearest.copy()
            self._last = self._places[0].copy()  # until the read succeeds
            end, done = self._start + self._compressed, 0
            try:
                while done < len(target):
                    skip = max(0, offset - inflater.offset)
                    data = inflater.more(file, end, min(skip or len(target) - done, _STEP_BYTES))
                    if not data:
                        break
                    if not skip:
                        target[done : done + len(data)] = data
                        done += len(data)
                    self._passed(inflater)
                if inflater.offset == self.size and inflater.more(file, end, 1):
                    raise DataError(f"{self.name}: found more than {self.size} bytes, expected so many as it declares")
                if inflater.offset == self.size and self._check not in (None, inflater.check):
                    raise zlib.error("the checksum differs")
            except zlib.error as error:
                found = f"the compressed data before or at byte {inflater.offset} of the content are damaged ({error})"
                raise DataError(f"{self.name}: {found}, expected an intact file") from None
            self._last = inflater
            return done

    def _passed(self, inflater: _Inflater) -> None:
        """Keep the place of an inflater if none is near. Raises DataError beyond the limit of size."""
        if inflater.offset > self._limit:
            raise Allowance(self._compressed).exceeded(self.name)
        if inflater.offset - max(self._places) < self._spacing:
            return
        self._places[inflater.offset] = inflater.copy()
        if len(self._places) > _MAX_PLACES:
            self._places = dict(list(self._places.items())[::2])
            self._spacing *= 2


def open_bytes(path: FilePath) -> RandomBytes:
    """Return the content of a file, which may be compressed by gzip. Raises DataError for an empty one."""
    with open_content(path) as content:
        compression = content.compression
    if compression not in ("", "gzip"):
        expected = "an uncompressed or gzipped file, since others cannot be read in blocks; decompress it first"
        raise DataError(f"{display_path(path)}: found a {compression} file, expected {expected}")
    return DeflatedBytes(path) if compression else RandomBytes(path)
