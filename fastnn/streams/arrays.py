"""Reads ranges of the rows of arrays in NPY, NPZ and IDX files."""

import os
import struct
from io import BytesIO
from math import prod
from typing import Any
from zipfile import ZIP_STORED, ZipFile, ZipInfo

import numpy as np

from fastnn.checks import display_path
from fastnn.datasets.containers import idx
from fastnn.datasets.containers.npy import MAX_HEADER_SIZE, read_header
from fastnn.datasets.containers.npz import check_method, check_names
from fastnn.datasets.files import FilePath, errors_named, open_binary, open_content
from fastnn.errors import DataError
from fastnn.streams.content import DeflatedBytes, RandomBytes, open_bytes
from fastnn.streams.keys import choose_keys
from fastnn.streams.reader import LabelledReader, Reader

_LOCAL_HEADER = struct.Struct("<26xHH")  # of a member of a zip archive: the lengths of its name and of extra fields


class ArrayBytesReader(Reader):
    """The rows of an array whose bytes follow each other in a file.

    Parameters
    ----------
    content : RandomBytes
    start : int
        Where the first row begins.
    shape : tuple of int
        (N, ...).
    dtype : dtype
    is_fortran : bool
        Whether the array is stored in Fortran order. Then rows take one read per column.
    """

    def __init__(
        self, content: RandomBytes, start: int, shape: tuple[int, ...], dtype: np.dtype, is_fortran: bool = False
    ) -> None:
        content.expect(start + prod(shape) * dtype.itemsize)
        self._content, self._start, self._dtype = content, start, dtype
        self._is_fortran = is_fortran and len(shape) > 1
        self.name, self.shape, self.n_rows = content.name, shape, shape[0]

    def read(self, start: int, stop: int) -> tuple[Any, Any]:
        """Return the rows in an array of their own."""
        shape = (stop - start, *self.shape[1:])
        if self._is_fortran:
            return self._read_columns(start, shape), None
        values = np.empty(shape, self._dtype)
        self._read_rows(start, values)
        return values, None

    def fill(self, start: int, out: np.ndarray) -> bool:
        """Read rows into `out` if it has the dtype and the width of the array."""
        if self._is_fortran or out.dtype != self._dtype or out.shape[1] != prod(self.shape[1:]):
            return False
        self._read_rows(start, out)
        return True

    def _read_rows(self, start: int, values: np.ndarray) -> None:
        if values.size:
            self._content.read_into(self._start + start * (values.nbytes // len(values)), values)

    def _read_columns(self, start: int, shape: tuple[int, ...]) -> np.ndarray:
        columns = np.empty((prod(shape[1:]), shape[0]), self._dtype)
        for number, column in enumerate(columns):
            self._content.read_into(self._start + (number * self.n_rows + start) * self._dtype.itemsize, column)
        return np.ascontiguousarray(columns.reshape(*shape[:0:-1], shape[0]).T)

    def fingerprint(self) -> bytes:
        """Return that of the file."""
        return self._content.fingerprint()


def npy_reader(content: RandomBytes) -> ArrayBytesReader:
    """Return the rows of an NPY file. Raises DataError."""
    header = read_header(BytesIO(content.read(0, MAX_HEADER_SIZE)), content.size, content.name)
    if not header.shape:
        raise DataError(f"{content.name}: found a single value, expected an array of rows")
    return ArrayBytesReader(content, header.size, header.shape, header.dtype, header.is_fortran)


def idx_reader(path: FilePath, *, is_labels: bool = False) -> Reader:
    """Return the rows of an IDX file. Of QMNIST's labels, (N, 8), only the class is read. Raises DataError."""
    with open_content(path) as content:
        dtype, shape = idx.read_header(content)
    reader = ArrayBytesReader(open_bytes(path), 4 + 4 * len(shape), shape, dtype)
    return _FirstColumn(reader) if is_labels and shape[1:] == (idx.QMNIST_COLUMNS,) else reader


class _FirstColumn(Reader):
    """The first column of the rows of another reader."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.name, self.n_rows = reader.name, reader.n_rows

    def read(self, start: int, stop: int) -> tuple[Any, Any]:
        return self._reader.read(start, stop)[0][:, 0], None

    def fingerprint(self) -> bytes:
        return self._reader.fingerprint()


def npz_reader(path: FilePath, images: str | None, labels: str | None) -> Reader:
    """Return the rows of an array in an NPZ file with the labels in another one. Raises DataError.

    Arrays without compression are read in place; of others, `DeflatedBytes` tells what a read costs.
    """
    name = display_path(path)
    with (
        open_binary(path) as file,
        errors_named(f"{name}: the archive", "an intact NPZ file"),
        ZipFile(file) as archive,
    ):
        members = archive.infolist()
        check_names(members, name)
        contents = {member.filename.removesuffix(".npy"): _content(path, file.fileno(), member) for member in members}
    arrays: dict[str, ArrayBytesReader | DataError] = {}
    for key, content in contents.items():
        try:
            arrays[key] = npy_reader(content)
        except DataError as error:
            arrays[key] = error
    shapes = {key: reader.shape for key, reader in arrays.items() if not isinstance(reader, DataError)}
    chosen = choose_keys(shapes, images, labels, name, unread=arrays.keys() - shapes.keys())
    readers: list[Reader] = []
    for key in chosen.keys:
        reader = arrays[key]
        if isinstance(reader, DataError):
            raise reader
        readers.append(reader)
    return chosen.noted(LabelledReader(*readers) if len(readers) > 1 else readers[0])


def _content(path: FilePath, descriptor: int, member: ZipInfo) -> RandomBytes:
    """Return the bytes of a member of a zip archive."""
    where = f"{display_path(path)}: {member.filename.removesuffix('.npy')}"
    check_method(member, where)
    if member.flag_bits & 1:
        raise DataError(f"{where}: found an encrypted array, expected one without a password")
    header = os.pread(descriptor, _LOCAL_HEADER.size, member.header_offset)
    start = member.header_offset + _LOCAL_HEADER.size + sum(_LOCAL_HEADER.unpack(header))
    if member.compress_type == ZIP_STORED:
        return RandomBytes(path, start, member.compress_size, where)
    return DeflatedBytes(path, start, member.compress_size, where, member.file_size, member.CRC)
