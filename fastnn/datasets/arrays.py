"""Converts what users give for samples and labels to arrays: pandas and polars, lists, tensors, images of any rank."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn.checks import short
from fastnn.datasets.sparse import is_sparse
from fastnn.errors import DataError

# Larger labels are numbered in sorted order: a network has an output for each number up to the largest.
LARGEST_LABEL = 9999
# The largest number of characters in the name of a class or a feature. Longer ones are texts that a file or a mistake
# put there: tables and figures of a report would take gigabytes for them.
LONGEST_NAME = 1000
# The largest number of dimensions of images: (N, height, width, 1) or (N, 1, height, width).
_MAX_RANK = 4


def as_images(values: Any, name: str) -> tuple[Any, tuple[int, int] | None, tuple[str, ...] | None]:
    """Return samples as numbers (N, D), with the image shape and the feature names if `values` has some.

    Arrays of float32 and float64, and others that are C-contiguous, are not copied. Sparse matrices become CSR.
    Raises DataError for anything but numbers.
    """
    if is_sparse(values):
        if values.ndim != 2 or values.dtype.kind not in "buif":
            found = f"a sparse matrix of shape {values.shape} and dtype {values.dtype}"
            raise DataError(f"{name}: images are {found}, expected numbers (samples, inputs)")
        return (values if values.format == "csr" else values.tocsr()), None, None
    names = feature_names(values)
    array = as_array(values, f"{name}: images")
    if array.dtype.kind not in "buif":
        raise DataError(f"{name}: images have dtype {array.dtype}{_first_other(array)}, expected numbers")
    shape = None
    if array.ndim > 2:
        sides = [side for side in array.shape[1:] if side != 1 or array.ndim == 3]
        if array.ndim > _MAX_RANK or (array.ndim == _MAX_RANK and len(sides) != 2):
            raise DataError(
                f"{name}: images have shape {array.shape}, expected (samples, inputs) or (samples, height, width)"
            )
        shape = (sides[0], sides[1]) if 1 not in sides else None
        array = array.reshape(len(array), -1)
    if array.ndim != 2:
        hint = ": give one sample as [sample]" if array.ndim == 1 else ""
        raise DataError(f"{name}: images have shape {array.shape}, expected (samples, inputs){hint}")
    if array.dtype == bool:
        array = array.view(np.uint8)
    is_plain = array.dtype in (np.float32, np.float64) and array.flags.aligned
    return (array if is_plain else np.ascontiguousarray(array)), shape, names


def as_labels(values: Any, name: str, *, numbered: bool = False) -> tuple[np.ndarray, tuple[Any, ...] | None]:
    """Return labels (N,) int64 or targets (N, C) float, and the classes if labels are not whole numbers from 0 up.

    numbered: whether whole numbers already are the numbers of classes
    """
    array = as_array(values.toarray() if is_sparse(values) else values, f"{name}: labels")
    if array.dtype.kind in "US" and isinstance(values, list | tuple) and array.ndim == 1:
        array = np.array(values, object)  # NumPy makes texts of numbers and NaN beside texts
    if array.dtype.kind in "cV":
        raise DataError(f"{name}: labels have dtype {array.dtype}, expected numbers or texts")
    if array.ndim == 2 and array.shape[1] == 1 and array.dtype.kind in "buiOUST":
        array = array[:, 0]
    if array.ndim == 2:
        if array.dtype.kind not in "buif":
            raise DataError(f"{name}: labels of shape {array.shape} have dtype {array.dtype}, expected numbers")
        return (array if array.dtype.kind == "f" else array.astype(np.float64)), None
    if array.ndim != 1:
        raise DataError(f"{name}: labels have shape {array.shape}, expected (samples,) or (samples, C)")
    if array.dtype.kind == "b":
        return array.astype(np.int64), None
    if array.dtype.kind == "f":
        if len(array) and not np.isfinite(array).all():
            row = int(np.isfinite(array).argmin())
            raise DataError(f"{name}: label {row} (from 0): found {array[row]}, expected a finite number or a text")
        if not (np.floor(array) == array).all():
            return array.reshape(-1, 1), None
    if array.dtype.kind in "uif":
        if len(array) and not (array.min() >= -(2**63) and array.max() < 2**63):
            raise DataError(f"{name}: labels run from {array.min()} to {array.max()}, expected whole numbers of int64")
        whole = array.astype(np.int64, copy=False)
        if numbered or not len(whole) or (whole.min() >= 0 and whole.max() <= LARGEST_LABEL):
            return whole, None
        classes, numbers = np.unique(whole, return_inverse=True)
        return numbers.astype(np.int64).reshape(-1), tuple(classes.tolist())
    labels = array.tolist()
    if array.dtype.kind in "mM":
        labels = [None if label == "NaT" else label for label in array.astype(str).tolist()]
    texts = [_text_label(value, row, name) for row, value in enumerate(labels)]
    if len({isinstance(value, str | bytes) for value in labels}) > 1:
        row = next(row for row, value in enumerate(labels) if not isinstance(value, str | bytes))
        raise DataError(f"{name}: label {row} (from 0) is {short(labels[row])} among texts, expected texts or numbers")
    return numbered_texts(texts)


def numbered_texts(texts: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the number of the class of each text, (N,) int64, and the classes in sorted order."""
    classes = sorted(set(texts))
    number = {text: index for index, text in enumerate(classes)}
    return np.array([number[text] for text in texts], np.int64), tuple(classes)


def check_lengths(names: Sequence[Any], what: str) -> None:
    """Raise DataError if one of the names of classes or features is a text of more than 1,000 characters."""
    for name in names:
        if isinstance(name, str) and len(name) > LONGEST_NAME:
            found = f"{short(name)} of {len(name)} characters"
            raise DataError(f"{what} have {found}, expected at most {LONGEST_NAME} in each")


def as_array(values: Any, name: str) -> np.ndarray:
    """Return an array of what NumPy or pandas can convert, by position; DataError if nothing can.

    Masked arrays with missing values and matrices are refused: converting them drops the mask, or keeps two dimensions.
    """
    if type(values) is np.ndarray:
        return values if values.dtype != object else _array_of_objects(values)
    _refuse_masks(values, name)
    try:
        if hasattr(values, "to_numpy") and hasattr(values, "isna"):  # pandas, whose nullable types would become object
            return _array_of_pandas(values, name)
        if hasattr(values, "to_numpy"):  # polars and others
            values = values.to_numpy()
        elif hasattr(values, "to_pandas"):  # a table of Arrow
            return _array_of_pandas(values.to_pandas(), name)
        array = np.asarray(values)
    except DataError:
        raise
    except Exception as error:  # ragged lists, tensors on another device, lazy frames
        reason = " ".join(str(error).split())
        raise DataError(f"{name} is a {type(values).__name__} that is no array ({reason}), expected an array") from None
    if array.dtype.kind == "f" and isinstance(values, list | tuple) and np.isnan(array).any():
        for row in values:  # NumPy makes NaN of masked numbers
            _refuse_masks(row, name)
    if array.ndim == 0:
        raise DataError(f"{name} is {short(values)} of type {type(values).__name__}, expected an array")
    return array


def feature_names(values: Any) -> tuple[str, ...] | None:
    """Return the column names of a frame if they are strings, else None."""
    columns = getattr(values, "columns", None)
    if columns is None or not hasattr(values, "shape"):
        columns = getattr(values, "column_names", None)  # a table of Arrow
    if columns is None or callable(columns):
        return None
    names = list(columns)
    return tuple(names) if names and all(isinstance(each, str) for each in names) else None


def _array_of_pandas(values: Any, name: str) -> np.ndarray:
    missing = np.asarray(values.isna())
    if missing.any():
        where = ", ".join(str(int(index[0])) for index in np.nonzero(missing))
        raise DataError(f"{name} have a missing value at {where} (row, column, from 0), expected every value")
    return _array_of_objects(np.asarray(values.to_numpy()))


def _array_of_objects(array: np.ndarray) -> np.ndarray:
    """Return an array of Python objects as numbers if all are numbers, or all of a column are bool; else unchanged."""
    if array.dtype != object or array.ndim not in (1, 2) or not array.size:
        return array
    columns = np.atleast_2d(array.T)
    numbers = [each for each in map(_numbers, columns) if each is not None]
    if len(numbers) < len(columns):
        return array
    stacked = np.stack(numbers, axis=-1)
    return stacked if array.ndim == 2 else stacked[:, 0]


def _refuse_masks(values: Any, name: str) -> None:
    """Raise DataError for masked arrays with missing values, those in a list, and matrices."""
    if isinstance(values, np.matrix):
        raise DataError(f"{name} is a numpy.matrix, expected an array: numpy.asarray makes one")
    parts = values if isinstance(values, list | tuple) else [values]
    if any(isinstance(each, np.ma.MaskedArray) and np.ma.is_masked(each) for each in parts):
        raise DataError(f"{name} is a masked array with missing values, expected every value")


def _numbers(column: np.ndarray) -> np.ndarray | None:
    """Return a column of objects as numbers if all are numbers or bool, else None."""
    kinds = {type(value) for value in column.tolist()}
    if kinds <= {bool, np.bool_}:
        return column.astype(bool)
    if all(issubclass(kind, (int, float, np.number)) and kind is not bool for kind in kinds):
        numbers = np.array(column.tolist())
        return numbers if numbers.dtype.kind in "uif" else None
    return None


def _text_label(value: Any, row: int, name: str) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if _is_missing(value):
        raise DataError(f"{name}: label {row} (from 0) is missing, expected a class")
    if isinstance(value, list | dict | set | np.ndarray):
        raise DataError(f"{name}: label {row} (from 0) is {short(value)}, expected a number or a text")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value)


def _is_missing(value: Any) -> bool:
    """Return whether a label is None, NaN, NaT or pandas' NA, which is not comparable."""
    if value is None or type(value).__name__ == "NAType":
        return True
    return (isinstance(value, float | np.generic) and bool(value != value)) or type(value).__name__ == "NaTType"


def _first_other(array: np.ndarray) -> str:
    """Return where the first value stands that is no number, in words, or nothing."""
    if array.dtype.kind not in "OUS":
        return ""
    for place, value in np.ndenumerate(array):
        if not isinstance(value, int | float | np.number | np.bool_):
            return f", such as {short(value)} at {', '.join(map(str, place))}"
    return ""
