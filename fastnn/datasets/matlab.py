"""Reads MATLAB files up to version 7.2, with SciPy. Sizes are checked before memory is allocated."""

import warnings
import zlib
from io import BytesIO
from typing import Any, Literal

import numpy as np

from fastnn.datasets.files import MAX_BYTES, Source, errors_named, read_whole, source_name
from fastnn.errors import DataError

_HEADER = 128
_COMPRESSED, _MATRIX = 15, 14


def read_matlab(source: Source, *, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """Return the arrays of a MATLAB file by name; fields of structures by names such as "train.images".

    Cells and objects that are no texts become a DataError, as in `fastnn.datasets.bundle.Arrays`. Raises DataError for
    a damaged file, or if it has more than `max_bytes` after decompression.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadWarning

    name = source_name(source)
    data = read_whole(source, max_bytes)
    if data.startswith(b"MATLAB"):  # files of version 4 have no such header, and nothing compressed
        data = _unpacked(data, name, max_bytes)
    with errors_named(f"{name}: the file", "an intact MATLAB file"), warnings.catch_warnings():
        warnings.simplefilter("ignore", MatReadWarning)
        variables = loadmat(BytesIO(data), struct_as_record=True, verify_compressed_data_integrity=False)
    arrays: dict[str, Any] = {}
    for key, values in variables.items():
        if not key.startswith("__"):
            _add(arrays, key, values, name)
    # EMNIST has a single structure "dataset" with structures "train" and "test".
    if arrays and len({key.split(".")[0] for key in arrays}) == 1 and all("." in key for key in arrays):
        arrays = {key.split(".", 1)[1]: values for key, values in arrays.items()}
    return arrays


def _unpacked(data: bytes, name: str, max_bytes: int) -> bytes:
    """Decompress the variables of a file, which SciPy would do without a limit."""
    order: Literal["big", "little"] = "big" if data[126:128] == b"MI" else "little"
    out, at, total = [data[:_HEADER]], _HEADER, 0
    while at + 8 <= len(data):
        kind, size = (int.from_bytes(data[place : place + 4], order) for place in (at, at + 4))
        body = data[at + 8 : at + 8 + size]
        if kind not in (_COMPRESSED, _MATRIX) or len(body) < size:
            found = f"an element of type {kind} and {size} bytes at byte {at}, where {len(data) - at - 8} remain"
            raise DataError(f"{name}: found {found}, expected an intact MATLAB file")
        if kind == _COMPRESSED:
            unpacker = zlib.decompressobj()
            with errors_named(f"{name}: the variable at byte {at}", "intact compressed data"):
                body = unpacker.decompress(body, max(1, max_bytes - total))
            if unpacker.unconsumed_tail or not unpacker.eof:
                more = "more than max_bytes" if unpacker.unconsumed_tail else "incomplete compressed data"
                raise DataError(f"{name}: found {more} at byte {at}, expected at most max_bytes = {max_bytes}")
            inner = int.from_bytes(body[4:8], order)
            if int.from_bytes(body[:4], order) != _MATRIX or inner > len(body) - 8:
                raise DataError(f"{name}: found a damaged variable at byte {at}, expected an intact MATLAB file")
            out.append(body)
        else:
            out.append(data[at : at + 8 + size])
        total += len(body)
        at += 8 + size
    return b"".join(out)


def _add(arrays: dict[str, Any], key: str, values: Any, name: str) -> None:
    """Add a variable, or the fields of a structure, under dotted names."""
    if isinstance(values, np.ndarray) and values.dtype.names and values.size == 1:
        for field in values.dtype.names:
            _add(arrays, f"{key}.{field}", values.item()[values.dtype.names.index(field)], name)
        return
    if isinstance(values, np.ndarray) and values.dtype.kind == "O":
        cells = [np.asarray(cell) for cell in values.ravel()]
        if cells and all(cell.dtype.kind in "US" and cell.size == 1 for cell in cells):
            values = np.array([cell.item() for cell in cells])
        elif len(cells) == 1 and cells[0].dtype.kind != "O":
            values = cells[0]
        else:
            values = DataError(f"{name}: {key}: found cells or objects, expected numbers or texts")
    elif isinstance(values, np.ndarray) and values.dtype.kind == "U":
        values = np.char.rstrip(values)
    arrays[key] = values
