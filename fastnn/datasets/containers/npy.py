"""Reads NPY, NumPy's format of one array. Nothing is unpickled; sizes are checked before memory is allocated."""

import warnings
from io import BytesIO
from math import prod
from typing import IO, NamedTuple

import numpy as np
from numpy.lib import format as npy

from fastnn.checks import short
from fastnn.datasets.files import MAX_BYTES, Source, errors_named, open_content, read_whole
from fastnn.errors import DataError

MAX_HEADER_SIZE = 10_000
"""NumPy writes headers of about 100 bytes, and reads at most 10,000."""


def read_npy(source: Source, *, max_bytes: int = MAX_BYTES) -> np.ndarray:
    """Return the array in an NPY file, which may be compressed.

    Raises DataError for a damaged file, an array of Python objects, or more than `max_bytes`.
    """
    with open_content(source) as content:
        name = content.name
        if content.size is not None:
            if content.size > max_bytes:
                raise DataError(f"{name}: found {content.size} bytes, expected at most max_bytes = {max_bytes}")
            return read_array(content.raw, content.size, name)
    data = read_whole(source, max_bytes)
    return read_array(BytesIO(data), len(data), name)


class Header(NamedTuple):
    """What an NPY file declares: shape and dtype, the order in memory, and the number of bytes before the data."""

    shape: tuple[int, ...]
    is_fortran: bool
    dtype: np.dtype
    size: int


def read_array(file: IO[bytes], size: int, where: str) -> np.ndarray:
    """Return the array in an open NPY file of `size` bytes. Raises DataError."""
    read_header(BytesIO(file.read(MAX_HEADER_SIZE)), size, where)
    with errors_named(where, "an intact NPY array"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file.seek(0)
        return npy.read_array(file, allow_pickle=False)


def read_header(start: BytesIO, size: int | None, where: str) -> Header:
    """Return the header of an NPY file of `size` bytes (None: unknown), of which `start` has the first.

    Raises DataError.
    """
    with errors_named(where, "an intact NPY array"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of headers that Python 2 wrote, and of what Python's parser finds in others
        is_first = npy.read_magic(start) == (1, 0)
        shape, is_fortran, dtype = (npy.read_array_header_1_0 if is_first else npy.read_array_header_2_0)(start)
        if dtype.hasobject:
            raise DataError(f"{where}: found an array of Python objects, expected numbers; objects are never loaded")
        kinds = {dtype[each].kind for each in dtype.names or ()} or {dtype.kind}
        if not kinds <= set("buifUS") or dtype.itemsize == 0 or (dtype.kind in "iuf" and dtype.itemsize > 8):
            raise DataError(f"{where}: found values of type {short(dtype.str)}, expected integers, floats or texts")
        # Python integers: the product of the sizes can exceed 64 bits.
        declared, header_size = prod(shape) * dtype.itemsize, start.tell()
        if size is not None and header_size + declared != size:
            expected = f"expected {declared} bytes of data, found {size - header_size}"
            raise DataError(f"{where}: declares shape {shape} of {dtype.name}, {expected}")
        return Header(shape, is_fortran, dtype, header_size)
