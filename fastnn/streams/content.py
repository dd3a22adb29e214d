"""Reads ranges of the bytes of a file by `pread`: no memory map, whose pages would count as memory of the process."""

import os
from hashlib import sha256

import numpy as np

from fastnn.checks import display_path
from fastnn.datasets.files import FilePath, open_binary
from fastnn.errors import DataError, FileError

# A fingerprint samples this number of places, of so many bytes each.
_N_SAMPLES, _SAMPLE_BYTES = 16, 4096


class RandomBytes:
    """The bytes of a regular file, at any offset.

    Parameters
    ----------
    path : path
    """

    def __init__(self, path: FilePath) -> None:
        self.path = os.fspath(path)
        self.name = display_path(path)
        with open_binary(path) as file:
            self.size = os.fstat(file.fileno()).st_size

    def read_into(self, offset: int, values: np.ndarray) -> None:
        """Fill a C-contiguous array with the bytes from `offset` on. Raises DataError if the file has changed."""
        target = memoryview(values.reshape(-1).view(np.uint8))
        with open_binary(self.path) as file:
            self._check_size(file.fileno())
            done = 0
            while done < len(target):
                try:
                    file.seek(offset + done)
                    count = file.readinto(target[done:])  # type: ignore[attr-defined]
                except OSError as error:
                    raise FileError(f"{self.name}: cannot be read ({error.strerror})") from None
                if not count:
                    raise DataError(f"{self.name}: ends at byte {offset + done}, expected {offset + len(target)} bytes")
                done += count

    def read(self, offset: int, size: int) -> bytes:
        """Return `size` bytes from `offset` on, or fewer at the end of the file."""
        values = np.empty(max(0, min(size, self.size - offset)), np.uint8)
        self.read_into(offset, values)
        return values.tobytes()

    def fingerprint(self) -> bytes:
        """Return the size and a digest of samples from all parts of the file."""
        digest = sha256(str(self.size).encode())
        for place in np.linspace(0, max(0, self.size - _SAMPLE_BYTES), _N_SAMPLES).astype(np.int64).tolist():
            digest.update(self.read(place, _SAMPLE_BYTES))
        return digest.digest()

    def _check_size(self, descriptor: int) -> None:
        size = os.fstat(descriptor).st_size
        if size != self.size:
            found = f"{size} bytes, {self.size} when it was opened"
            raise DataError(f"{self.name}: found {found}, expected a file that does not change; open the data again")
