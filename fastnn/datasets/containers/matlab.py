"""Reads MATLAB files up to version 7.2. Sizes are checked before memory is allocated.

Files of versions 5 to 7.2 are read here, because SciPy's reader accesses memory outside of damaged ones, which ends the
process. SciPy reads those of version 4.
"""

import zlib
from io import BytesIO
from math import prod
from typing import Any, Literal

import numpy as np

from fastnn.datasets.arrays import LONGEST_NAME
from fastnn.datasets.containers.bundle import key_text
from fastnn.datasets.files import MAX_BYTES, Allowance, Source, allowance_of, errors_named, read_whole, source_name
from fastnn.datasets.pixels import check_sparse_shape
from fastnn.errors import DataError

_HEADER = 128
_COMPRESSED, _MATRIX = 15, 14
# The types of the elements of a file.
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_TEXT = {1: "utf-8", 2: "utf-8", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
# The classes of variables.
_CELL, _STRUCTURE, _CHARACTERS, _SPARSE = 1, 2, 4, 5
_NUMBERS = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
_IS_COMPLEX = 0x800
_MAX_DEPTH = 20
# The size in bytes of the longest text among cells: an array has as much room for each of its texts.
_MAX_TEXT = 4 * LONGEST_NAME


def read_matlab(source: Source, *, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """Return the arrays of a MATLAB file by name; fields of structures by names such as "train.images".

    Texts have dtype str: one for each row of a character array, or each cell. Cells and objects that are no texts
    become a DataError, as in `fastnn.datasets.containers.bundle.Arrays`. Raises DataError for a damaged file, or if it
    has more than `max_bytes` or its allowance after decompression.
    """
    name = source_name(source)
    data = read_whole(source, max_bytes)
    arrays: dict[str, Any] = {}
    with errors_named(f"{name}: the file", "an intact MATLAB file"):
        # Files of version 4 have no such header, and nothing compressed.
        variables = (
            _variables(data, name, max_bytes, allowance_of(source)) if data.startswith(b"MATLAB") else _version_4(data)
        )
    for key, values in variables.items():
        _add(arrays, key, values, name)
    # EMNIST has a single structure "dataset" with structures "train" and "test".
    if arrays and len({key.split(".")[0] for key in arrays}) == 1 and all("." in key for key in arrays):
        arrays = {key.split(".", 1)[1]: values for key, values in arrays.items()}
    return arrays


def _version_4(data: bytes) -> dict[str, Any]:
    from scipy.io import loadmat, whosmat

    for _, shape, kind in whosmat(BytesIO(data)):
        if kind == "sparse":
            check_sparse_shape(shape)
    variables = {key: values for key, values in loadmat(BytesIO(data)).items() if not key.startswith("__")}
    return {key: np.char.rstrip(values) if values.dtype.kind == "U" else values for key, values in variables.items()}


def _variables(data: bytes, name: str, max_bytes: int, allowance: Allowance) -> dict[str, Any]:
    """Return the variables of a file by name."""
    order: Literal["big", "little"] = "big" if data[126:128] == b"MI" else "little"
    variables: dict[str, Any] = {}
    at, total = _HEADER, 0
    while at + 8 <= len(data):
        kind, size = (int.from_bytes(data[place : place + 4], order) for place in (at, at + 4))
        body = data[at + 8 : at + 8 + size]
        if kind not in (_COMPRESSED, _MATRIX) or len(body) < size:
            found = f"an element of type {kind} and {size} bytes at byte {at}, where {len(data) - at - 8} remain"
            raise DataError(f"{name}: found {found}, expected an intact MATLAB file")
        with errors_named(f"{name}: the variable at byte {at}", "an intact MATLAB file"):
            if kind == _COMPRESSED:
                body = _decompressed(body, max_bytes, total, allowance, name)
                kind, body = _Elements(body, order).take()
            total += len(body)
            key, values = _variable(body, order)
        if key:  # MATLAB's own data about objects have no name
            variables[key] = values
        at += 8 + size
    return variables


def _decompressed(body: bytes, max_bytes: int, total: int, allowance: Allowance, name: str) -> bytes:
    """Decompress a variable, where `total` bytes were decompressed before it."""
    unpacker = zlib.decompressobj()
    data = unpacker.decompress(body, max(1, min(max_bytes - total, allowance.left + 1)))
    allowance.take(len(data), name)
    if unpacker.unconsumed_tail:
        raise ValueError(f"more than max_bytes = {max_bytes}")
    if not unpacker.eof:
        raise ValueError("incomplete compressed data")
    return data


class _Elements:
    """Takes the elements of a variable one after the other. Raises ValueError where they exceed the data."""

    def __init__(self, data: bytes, order: Literal["big", "little"]) -> None:
        self._data, self.order, self._at = data, order, 0

    def take(self) -> tuple[int, bytes]:
        """Return the type and the data of the next element."""
        first, size = (self._integer(self._at + place) for place in (0, 4))
        if first >> 16:  # up to 4 bytes stand beside the type
            kind, size, start, end = first & 0xFFFF, first >> 16, self._at + 4, self._at + 8
        else:
            kind, start = first, self._at + 8
            end = start + size + (-size % 8 if first != _COMPRESSED else 0)
        if size > len(self._data) - start or (first >> 16 and size > 4):
            raise ValueError(f"an element of {size} bytes, where {max(0, len(self._data) - start)} remain")
        self._at = end
        return kind, self._data[start : start + size]

    def numbers(self) -> np.ndarray:
        """Return the next element as an array."""
        kind, data = self.take()
        if kind not in _STORED:
            raise ValueError(f"an element of type {kind} instead of numbers")
        return np.frombuffer(data, np.dtype(_STORED[kind]).newbyteorder(self.order))

    def text(self) -> str:
        """Return the next element as a text."""
        kind, data = self.take()
        if kind not in _TEXT:
            raise ValueError(f"an element of type {kind} instead of characters")
        return data.decode(_TEXT[kind] + ("" if kind in (1, 2, 16) else f"-{self.order[0]}e"))

    def _integer(self, at: int) -> int:
        if at + 4 > len(self._data):
            raise ValueError("an incomplete element")
        return int.from_bytes(self._data[at : at + 4], self.order)


def _variable(data: bytes, order: Literal["big", "little"], depth: int = 0) -> tuple[str, Any]:
    """Return the name and the value of a variable: an array, a list of cells, a dict of fields; None for an object."""
    if not data and depth:  # an empty cell
        return "", np.zeros((0, 0))
    elements = _Elements(data, order)
    flags = int(elements.numbers()[0])
    kind = flags & 0xFF
    if kind not in (_CELL, _STRUCTURE, _CHARACTERS, _SPARSE, *_NUMBERS):
        return elements.text() if kind > max(_NUMBERS) else "", None
    shape = tuple(int(side) for side in elements.numbers())
    name = elements.text()
    if len(shape) < 2 or min(shape) < 0 or depth > _MAX_DEPTH:
        raise ValueError(f"shape {shape}, {depth} deep in cells and structures")
    if kind in _NUMBERS:
        return name, _numbers(elements, flags, shape)
    if kind == _SPARSE:
        return name, _sparse(elements, flags, shape)
    if kind == _CHARACTERS:
        return name, _rows_of_text(elements.text(), shape)
    if kind == _CELL:
        return name, [_variable(elements.take()[1], order, depth + 1)[1] for _ in range(prod(shape))]
    length = int(elements.numbers()[0])
    names = elements.text()
    fields = [names[at : at + length].split("\0")[0] for at in range(0, len(names), length)]
    if prod(shape) != 1:
        return name, None
    return name, {field: _variable(elements.take()[1], order, depth + 1)[1] for field in fields}


def _numbers(elements: _Elements, flags: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return an array of numbers. Those of logical arrays are uint8."""
    values = elements.numbers()
    if len(values) != prod(shape):
        raise ValueError(f"{len(values)} numbers for an array of shape {shape}")
    values = values.astype(_NUMBERS[flags & 0xFF])
    if flags & _IS_COMPLEX:
        values = values + 1j * elements.numbers()
    return values.reshape(shape, order="F")


def _sparse(elements: _Elements, flags: int, shape: tuple[int, ...]) -> Any:
    from scipy.sparse import csc_matrix

    rows, ends, values = elements.numbers(), elements.numbers(), elements.numbers()
    if not len(ends) or not 0 <= ends[-1] <= min(len(rows), len(values)):
        raise ValueError("a sparse matrix whose indices do not fit its values")
    n = int(ends[-1])
    check_sparse_shape(shape)
    values = values[:n].astype(np.float64)
    if flags & _IS_COMPLEX:
        values = values + 1j * elements.numbers()[:n]
    matrix = csc_matrix((values, rows[:n].astype(np.int64), ends.astype(np.int64)), shape=shape)
    matrix.check_format(full_check=True)
    return matrix


def _rows_of_text(text: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return the rows of a character array as texts without the spaces that make them equally long."""
    if shape[0] == 1 and text:  # `shape` counts characters beyond 16 bits twice
        return np.array([text.rstrip()])
    if len(text) != prod(shape):
        raise ValueError(f"{len(text)} characters for an array of shape {shape}")
    characters = np.array(list(text), "U1").reshape(shape, order="F").reshape(shape[0], prod(shape[1:]))
    return np.array(["".join(row).rstrip() for row in characters.tolist()], str)


def _add(arrays: dict[str, Any], key: str, values: Any, name: str) -> None:
    """Add a variable, or the fields of a structure, under dotted names."""
    if isinstance(values, dict):
        for field, value in values.items():
            _add(arrays, f"{key}.{field}", value, name)
        return
    if isinstance(values, list):
        if values and all(
            isinstance(cell, np.ndarray) and cell.dtype.kind == "U" and cell.size == 1 and cell.itemsize <= _MAX_TEXT
            for cell in values
        ):
            values = np.array([cell.item() for cell in values])
        elif len(values) == 1 and isinstance(values[0], np.ndarray):
            values = values[0]
        else:
            values = None
    if values is None:
        values = DataError(f"{name}: {key_text(key)}: found cells or objects, expected numbers or texts")
    arrays[key] = values
