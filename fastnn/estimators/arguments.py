"""Checks of X, y and sample weights that scikit-learn's checks leave out: masks, missing labels, dates, mixed types.

scikit-learn drops masks, takes dates for numbers of nanoseconds, and lets NumPy turn the labels ``[1, "a"]`` into
strings. Where it does refuse such data, the error of NumPy or pandas often names neither the argument nor the place.
"""

import datetime
import math
from collections.abc import Iterable
from numbers import Real
from typing import Any

import numpy as np

from fastnn.checks import short
from fastnn.datasets.sparse import is_sparse
from fastnn.errors import DataError

_DATES = (datetime.date, datetime.time, datetime.timedelta, np.datetime64, np.timedelta64)
_TEXTS = (str, bytes)


def check_rows(X: Any, name: str) -> None:
    """Raise TypeError if X is masked, and DataError if it holds dates, records or missing objects.

    Nothing is converted, and numbers are not looked at. What is no array at all is left to scikit-learn.
    """
    _refuse_mask(X, name)
    if is_sparse(X):
        return
    for column, dtype in _column_dtypes(X):
        if _kind(dtype) in "mMV" or type(dtype).__name__ == "PeriodDtype":
            where = f"column {column!r} of " if column is not None else ""
            raise DataError(f"{where}{name} has dtype {dtype}, expected numbers")
    if hasattr(X, "columns") or _kind(getattr(X, "dtype", None)) == "O":
        _refuse_objects(X, name)


def check_labels_given(y: Any, name: str, *, numeric: bool) -> Any:
    """Return `y`, as an array of numbers if it has the dtype object or is a list, and holds only numbers.

    Raises TypeError if `y` is masked, and DataError if a label is missing or no label, or if strings and numbers are
    mixed. What is no sequence is left to scikit-learn.

    numeric: whether the targets are numbers, rather than labels of classes
    """
    _refuse_mask(y, name)
    if y is None or is_sparse(y) or isinstance(y, _TEXTS) or not isinstance(y, Iterable):
        return y
    is_list = isinstance(y, (list, tuple))
    if is_list and any(isinstance(value, (list, tuple, np.ndarray)) and np.ndim(value) for value in y):
        return y  # a row for each sample
    array = np.asarray(y, dtype=object if is_list else None)
    kind, width = array.dtype.kind, math.prod(array.shape[1:])
    if kind in "fmM" and (absent := (np.isnan if kind == "f" else np.isnat)(array)).any():
        raise _missing(int(absent.ravel().argmax()) // width, name)
    if kind == "V" or (numeric and kind in "mM"):
        raise DataError(f"{name} has dtype {array.dtype}, expected {_expected(numeric)}")
    if kind not in "OUST" or (kind != "O" and not numeric):
        return y
    values = array.ravel().tolist()
    kinds = {type(value) for value in values}
    text = next((value for value in values if isinstance(value, _TEXTS)), None) if kinds - {int, float, bool} else None
    if text is not None and numeric:
        raise DataError(f"{name} holds the string {short(text)}, expected numbers: use MLPClassifier for classes")
    if kinds - {str, bool}:
        for place, value in enumerate(values):
            _check_label(value, place // width, name, numeric)
    if text is not None:
        other = next(
            (value for value in values if not isinstance(value, bytes if isinstance(text, bytes) else str)), None
        )
        if other is not None:
            found = f"{short(text)} and {short(other)}"
            raise DataError(f"{name} mixes strings and other labels, such as {found}, expected one kind")
        return y
    plain = np.array(values).reshape(array.shape)
    return plain if plain.dtype.kind in "biuf" else y


def check_weights_given(sample_weight: Any, name: str) -> Any:
    """Return the weights; TypeError if they are masked, DataError if they are dates or beyond the range of a float."""
    _refuse_mask(sample_weight, name)
    for _, dtype in _column_dtypes(sample_weight):
        if _kind(dtype) in "mMV":
            raise DataError(f"{name} has dtype {dtype}, expected numbers")
    values = sample_weight if isinstance(sample_weight, (list, tuple)) else ()
    if _kind(getattr(sample_weight, "dtype", None)) == "O":
        values = np.asarray(sample_weight).ravel().tolist()
    for row, value in enumerate(values):
        if _is_too_large(value):
            raise DataError(f"{name} has {short(value)} in row {row} (from 0), expected a finite number")
    return sample_weight


def check_scored(y: Any, sample_weight: Any, *, numeric: bool) -> tuple[Any, Any]:
    """Return the labels and weights of `score` after `check_labels_given` and `check_weights_given`."""
    if y is None:
        raise DataError("y is None, expected the targets of X")
    weight = None if sample_weight is None else check_weights_given(sample_weight, "sample_weight")
    return check_labels_given(y, "y", numeric=numeric), weight


def _refuse_mask(value: Any, name: str) -> None:
    """Raise TypeError if a masked array, or a list of them, is given: its mask would be dropped."""
    rows = value if isinstance(value, (list, tuple)) else ()
    if isinstance(value, np.ma.MaskedArray) or any(isinstance(row, np.ma.MaskedArray) for row in rows):
        raise TypeError(f"{name} is a masked array, expected a plain one: fill the masked values or drop their rows")


def _kind(dtype: Any) -> str:
    """Return NumPy's letter for a dtype of NumPy or pandas; "O" for others, and "?" for none."""
    return "?" if dtype is None else getattr(dtype, "kind", "O")


def _column_dtypes(X: Any) -> list[tuple[Any, Any]]:
    """Return the name and the dtype of each column of a frame, else None and the dtype of the array."""
    dtypes, columns = getattr(X, "dtypes", None), getattr(X, "columns", None)
    if columns is not None and dtypes is not None:
        return list(zip(columns, dtypes, strict=False))
    if isinstance(X, (list, tuple)) and len(X):
        try:
            return [(None, np.asarray(X[0]).dtype)]
        except ValueError:  # ragged: scikit-learn says so
            return []
    return [(None, getattr(X, "dtype", None))]


def _refuse_objects(X: Any, name: str) -> None:
    """Raise DataError for the first missing value or date in the columns of dtype object, or of a text."""
    if hasattr(X, "columns"):
        columns = [(column, X[column]) for column, dtype in _column_dtypes(X) if _kind(dtype) == "O"]
    else:
        columns = list(enumerate(X.T)) if np.ndim(X) == 2 else []
    for column, values in columns:
        if getattr(values, "ndim", 1) != 1:  # two columns of one name
            continue
        for row, value in enumerate(np.asarray(values, dtype=object).tolist()):
            if isinstance(value, _DATES) or _is_not_available(value):
                raise DataError(
                    f"Input {name} contains {short(value)} in row {row}, column {column!r}, expected numbers without "
                    "NaN or dates"
                )


def _check_label(value: Any, row: int, name: str, numeric: bool) -> None:
    """Raise DataError if a label is missing, is no label, or is a number beyond the range of a float."""
    if value is None or _is_not_available(value) or (isinstance(value, Real) and value != value):
        raise _missing(row, name)
    is_label = isinstance(value, (*_TEXTS, Real, np.generic)) or (numeric and hasattr(value, "__float__"))
    if not is_label or isinstance(value, np.ma.core.MaskedConstant) or (numeric and isinstance(value, _DATES)):
        raise DataError(f"{name} has {short(value)} in row {row} (from 0), expected {_expected(numeric)}")
    if _is_too_large(value):
        raise DataError(f"{name} has {short(value)} in row {row} (from 0), expected a finite number")


def _missing(row: int, name: str) -> DataError:
    return DataError(f"Input {name} contains NaN or another missing value, in row {row} (from 0)")


def _expected(numeric: bool) -> str:
    return "numbers" if numeric else "labels: numbers or strings"


def _is_not_available(value: Any) -> bool:
    """Return whether a value is pandas' NA or NaT, without importing pandas."""
    return type(value).__name__ in ("NAType", "NaTType")


def _is_too_large(value: Any) -> bool:
    try:
        return isinstance(value, Real) and math.isinf(float(value)) and not isinstance(value, (float, np.floating))
    except OverflowError:
        return True
