"""Reads ranges of the rows of an NPY file."""

from io import BytesIO
from typing import Any

import numpy as np

from fastnn.datasets.containers.npy import MAX_HEADER_SIZE, read_header
from fastnn.datasets.files import FilePath
from fastnn.errors import DataError
from fastnn.streams.content import RandomBytes
from fastnn.streams.reader import Reader


class NpyReader(Reader):
    """The rows of the array in an NPY file.

    Parameters
    ----------
    path : path
        An array of numbers or texts, (N, ...), in either memory order. Rows of Fortran order take one read per column.
    """

    def __init__(self, path: FilePath) -> None:
        self._content = RandomBytes(path)
        self.name = self._content.name
        if not self._content.size:
            raise DataError(f"{self.name}: found an empty file (0 bytes), expected an NPY array")
        head = BytesIO(self._content.read(0, MAX_HEADER_SIZE))
        header = read_header(head, self._content.size, self.name)
        if not header.shape:
            raise DataError(f"{self.name}: found a single value, expected an array of rows")
        self._shape, self._dtype, self._is_fortran = header.shape, header.dtype, header.is_fortran
        self._start = header.size
        self.n_rows = self._shape[0]

    def read(self, start: int, stop: int) -> tuple[Any, Any]:
        """Return the rows in an array of their own."""
        shape = (stop - start, *self._shape[1:])
        if self._is_fortran and len(self._shape) > 1:
            return self._read_columns(start, shape), None
        values = np.empty(shape, self._dtype)
        if values.size:
            row_bytes = values.nbytes // len(values)
            self._content.read_into(self._start + start * row_bytes, values)
        return values, None

    def _read_columns(self, start: int, shape: tuple[int, ...]) -> np.ndarray:
        n_rows, itemsize = self._shape[0], self._dtype.itemsize
        n_columns = int(np.prod(shape[1:], dtype=np.int64))
        columns = np.empty((n_columns, shape[0]), self._dtype)
        for number, column in enumerate(columns):
            self._content.read_into(self._start + (number * n_rows + start) * itemsize, column)
        return np.ascontiguousarray(columns.reshape(*shape[:0:-1], shape[0]).T)

    def fingerprint(self) -> bytes:
        """Return that of the file."""
        return self._content.fingerprint()
