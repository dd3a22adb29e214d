"""Reads the columns of inputs: checks every number, fills missing values, tells pixels of images from features."""

import re
from typing import NamedTuple

import numpy as np

from fastnn.datasets.options import ReadOptions
from fastnn.datasets.pixels import LARGEST_BYTE, holds_bytes, pixel_scale
from fastnn.datasets.tables.columns import Table
from fastnn.datasets.tables.roles import is_pixel_name
from fastnn.errors import DataError

_SEPARATED = re.compile(r"[+-]?[0-9]{1,3}(?:([,.' ])[0-9]{3})(?:\1[0-9]{3})*(?:[.,][0-9]+)?")
_PIXEL_EXPECTED = "a whole number from 0 to 255"
_LARGEST_FLOAT32 = float(np.finfo(np.float32).max)
# float32 holds all whole numbers up to this one.
_LARGEST_EXACT = 2**24
# At least this number of columns of bytes, of which half reach this value, are pixels, whatever their shape.
_LEAST_PIXELS = 100
_BRIGHT = 64
_MISSING_HINT = "or fill with the mean of the column by missing mean (--missing mean)"


class Inputs(NamedTuple):
    """The inputs of a table.

    values : ndarray of shape (N, D)
        uint8 for pixels, otherwise float32 or float64
    """

    values: np.ndarray
    pixel_max: float
    image_shape: tuple[int, int] | None
    feature_names: tuple[str, ...] | None
    means: np.ndarray | None  # (D,), if missing values are filled
    notes: list[str]


def read_inputs(table: Table, positions: list[int], options: ReadOptions, means: np.ndarray | None = None) -> Inputs:
    """Return the numbers in these columns.

    means: (D,), fill missing values of a test table; None: the means of the columns themselves do. Raises DataError,
    with the place, for anything but finite numbers.
    """
    values = input_numbers(table, positions)
    notes: list[str] = []
    if values.dtype.kind == "f":
        values, means, notes = _filled(table, positions, values, options.missing, means)
        too_large = ~(np.abs(values) <= _LARGEST_FLOAT32)
        if too_large.any():
            expected = "a finite number" if np.isinf(values).any() else "a number that float32 can hold"
            raise _error_at(table, positions, too_large, expected)
    names = None if table.names is None else tuple(table.title(position) for position in positions)
    shape = options.image_shape or _image_shape(values, names)
    if shape is not None and shape[0] * shape[1] != len(positions):
        found = f"{len(positions)} columns of inputs"
        raise DataError(f"{table.name}: found {found}, expected {shape[0]} x {shape[1]} pixels as in image_shape")
    is_pixels = shape is not None or _looks_like_pixels(values, names)
    if is_pixels:
        _check_pixels(table, positions, values, options.pixel_max)
    values = _stored(values, is_pixels or options.pixel_max is not None)
    pixel_max = options.pixel_max or (pixel_scale(values) if values.dtype == np.uint8 else 1.0)
    return Inputs(values, float(pixel_max), shape, None if shape is not None else names, means, notes)


def input_numbers(table: Table, positions: list[int]) -> np.ndarray:
    """Return the columns as an array (N, D) of bytes, int64 or float64, with nan for missing values.

    Raises DataError, with the place, for texts that are no numbers.
    """
    dtypes = {table.dtypes[position] for position in positions}
    if all(isinstance(dtype, np.dtype) and dtype.kind in "buif" for dtype in dtypes):
        every = len(positions) == table.frame.shape[1] and positions == list(range(len(positions)))
        frame = table.frame if every else table.frame.iloc[:, positions]
        values: np.ndarray = frame.to_numpy()
        if values.dtype == object:  # booleans beside numbers
            values = values.astype(np.float64)
        return values.view(np.uint8) if values.dtype == bool else values
    columns = []
    invalid = []
    for position in positions:
        numbers, wrong = table.numbers(position)
        columns.append(numbers)
        invalid.append(wrong)
    wrong = np.column_stack(invalid)
    if wrong.any():
        row, column = divmod(int(wrong.argmax()), len(positions))
        position = positions[column]
        raise table.error(row, position, _expected_number(table, row, position))
    return np.column_stack(columns)


def _expected_number(table: Table, row: int, position: int) -> str:
    text = table.texts(position)[row] or ""
    if _SEPARATED.fullmatch(text):
        return "a number without separators of thousands"
    hint = f", or {table.drop_hint([position])}" if table.is_text(position) else ""
    return f"a number{hint}"


def _error_at(table: Table, positions: list[int], wrong: np.ndarray, expected: str) -> DataError:
    row, column = divmod(int(wrong.argmax()), len(positions))
    return table.error(row, positions[column], expected)


def _filled(
    table: Table, positions: list[int], values: np.ndarray, missing: str, means: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None, list[str]]:
    """Return the values without nan, the means of all columns, and what was filled, in words."""
    gaps = np.isnan(values)
    if missing == "refuse":
        if gaps.any():
            count = int(gaps.sum())
            more = f"; {count} values are missing: leave out their lines or columns" if count > 1 else ""
            raise _error_at(table, positions, gaps, f"a number{more}, {_MISSING_HINT}")
        return values, None, []
    if means is None:
        empty = gaps.all(axis=0)
        if empty.any():
            column = table.column(positions[int(empty.argmax())])
            raise DataError(f"{table.name}: {column}: found no value at all, expected numbers")
        finite = np.where(gaps, 0, values)
        means = finite.sum(axis=0) / (~gaps).sum(axis=0)
    counts = gaps.sum(axis=0)
    if not counts.any():
        return values, means, []
    filled = ", ".join(f"{table.column(positions[each])} {counts[each]}" for each in np.flatnonzero(counts)[:5])
    more = f" and {np.count_nonzero(counts) - 5} more columns" if np.count_nonzero(counts) > 5 else ""
    return np.where(gaps, means, values), means, [f"missing values replaced by the mean: {filled}{more}"]


def _image_shape(values: np.ndarray, names: tuple[str, ...] | None) -> tuple[int, int] | None:
    """Return the shape of images if rows are known to be such: 28 x 28, 8 x 8, or by the names of the pixels."""
    n_columns = values.shape[1]
    if names is not None and not _are_counted(names):
        return None
    if n_columns == 784:
        return 28, 28
    if n_columns == 64 and holds_bytes(values):
        return 8, 8
    if names is None or not all(re.search(r"[a-z]", name, re.IGNORECASE) and is_pixel_name(name) for name in names):
        return None
    by_two = [re.findall(r"\d+", name) for name in names]
    if all(len(numbers) == 2 for numbers in by_two):
        rows, columns = (sorted({int(numbers[side]) for numbers in by_two}) for side in (0, 1))
        if len(rows) * len(columns) == n_columns:
            return len(rows), len(columns)
    side = round(n_columns**0.5)
    return (side, side) if side * side == n_columns and side > 1 else None


def _are_counted(names: tuple[str, ...]) -> bool:
    """Return whether all names are one word with a number, such as 1x1, pixel7, f12 and 5."""
    return len({re.sub(r"\d+", "0", name) for name in names}) == 1


def _looks_like_pixels(values: np.ndarray, names: tuple[str, ...] | None) -> bool:
    """Return whether columns are pixels of images of unknown shape."""
    if names is not None and not _are_counted(names):
        return False
    if names is not None and all(re.search(r"pix|\dx\d", name, re.IGNORECASE) for name in names):
        return True
    if values.shape[1] < _LEAST_PIXELS or not holds_bytes(values):
        return False
    return bool(values.max() > LARGEST_BYTE // 2 and np.median(values.max(axis=0)) >= _BRIGHT)


def _check_pixels(table: Table, positions: list[int], values: np.ndarray, pixel_max: float | None) -> None:
    """Raise DataError if most pixels are whole numbers and one is not, or is out of range."""
    if values.dtype == np.uint8 or (pixel_max is not None and pixel_max > LARGEST_BYTE):
        return
    low, high = float(values.min()), float(values.max())
    fractions = np.floor(values) != values
    n_fractions = np.count_nonzero(fractions)
    if not n_fractions:
        wrong = (values < 0) | (values > LARGEST_BYTE)
        if high > 1 and wrong.any():
            raise _error_at(table, positions, wrong, _PIXEL_EXPECTED)
        return
    if high <= 1 and low >= -1:
        return
    # The ground of an image is one value, and so are saturated pixels: whole numbers in any scale.
    sample = values[:: max(1, len(values) // 1000)]
    grounds = {low, high, 0.0, 1.0, _most_frequent(sample)}
    n_whole = (
        values.size - n_fractions - sum(np.count_nonzero(values == ground) for ground in grounds if ground % 1 == 0)
    )
    if n_whole > n_fractions:
        raise _error_at(table, positions, fractions, f"{_PIXEL_EXPECTED}, like most of the table")


def _most_frequent(values: np.ndarray) -> float:
    found, counts = np.unique(values, return_counts=True)
    return float(found[counts.argmax()])


def _stored(values: np.ndarray, is_pixels: bool) -> np.ndarray:
    """Return pixels as uint8 if they are bytes, and other numbers as float32, or float64 if float32 loses too much."""
    if is_pixels and holds_bytes(values):
        return np.ascontiguousarray(values, np.uint8)
    if values.dtype.kind in "ui" and values.dtype.itemsize == 1:
        return np.ascontiguousarray(values, np.float32)
    low, high = values.min(axis=0), values.max(axis=0)
    largest = np.maximum(np.abs(low.astype(np.float64)), np.abs(high.astype(np.float64)))
    spread = high.astype(np.float64) - low
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    large = largest > _LARGEST_EXACT
    if large.any():
        whole = np.floor(values[:, large]) == values[:, large]
        exact = narrow[:, large].astype(np.float64) == values[:, large]
        if (whole.all(axis=0) & ~exact.all(axis=0)).any():
            return np.ascontiguousarray(values, np.float64)
    # A thousandth of the spread of a column is to remain visible beside its size.
    if ((spread > 0) & (largest / _LARGEST_EXACT > spread / 1000)).any():
        return np.ascontiguousarray(values, np.float64)
    return np.ascontiguousarray(narrow)
