"""Quick checks of plain data, within microseconds. All else is left to scikit-learn's checks, and so are all errors.

Those checks take longer than an epoch on a few rows. They find nothing in an array of finite numbers with the right
shape, or in labels that are classes.
"""

from typing import Any

import numpy as np

from fastnn.backends.arguments import are_finite
from fastnn.interruptible import LONG_WORK

# About how many times a check or a statistic reads or writes a value.
N_PASSES = 4
# Larger arrays of float64 are not cast as a whole.
MAX_CAST_SIZE = 2**18
# scikit-learn does not compare the number of classes with that of so few samples.
_FEW_SAMPLES = 20


def plain_rows(X: Any, n_inputs: int, dtype: np.dtype) -> np.ndarray | None:
    """Return the rows `X`, (N, n_inputs), uint8 or in the working dtype; None if other checks are necessary.

    Large arrays of float32 and float64 stay as they are: the backends cast them part by part.
    """
    if type(X) is not np.ndarray or X.ndim != 2 or X.shape[1] != n_inputs or not 0 < N_PASSES * X.size < LONG_WORK:
        return None
    if X.dtype == np.uint8:
        return np.ascontiguousarray(X)
    if X.dtype not in (np.float32, np.float64) or not are_finite(X, dtype):
        return None
    return X if X.size > MAX_CAST_SIZE else np.ascontiguousarray(X, dtype)


def is_plain_labels(y: Any) -> bool:
    """Return whether scikit-learn takes `y` for labels (N,) without a word: it warns of many classes in few samples."""
    if type(y) is not np.ndarray or y.ndim != 1 or y.dtype.kind not in "iub":
        return False
    return 0 < len(y) <= _FEW_SAMPLES or (len(y) > 0 and y.min() >= 0 and y.max() < len(y) // 2)


def plain_labels(y: Any, n_rows: int, classes: np.ndarray) -> np.ndarray | None:
    """Return the class number of each label, (n_rows,) int64; None if other checks are necessary.

    y: labels, an array or a list of whole numbers
    classes: the labels of the classes, sorted
    """
    if type(y) is list and {*map(type, y)} == {int} and classes.dtype == np.int64:
        try:
            y = np.array(y, np.int64)
        except OverflowError:
            return None
    if type(y) is not np.ndarray or y.shape != (n_rows,) or y.dtype.kind not in "iubU":
        return None
    if y.dtype.kind != classes.dtype.kind:
        return None
    numbers = np.searchsorted(classes, y)
    np.minimum(numbers, len(classes) - 1, out=numbers)
    return numbers if (classes[numbers] == y).all() else None


def plain_numbers(y: Any, n_rows: int, n_outputs: int, dtype: np.dtype) -> np.ndarray | None:
    """Return targets as a copy of shape (n_rows, n_outputs) in the working dtype; None if other checks are necessary.

    y: an array of one dimension or with two or more columns, or a list of numbers
    """
    if type(y) is list and {*map(type, y)} <= {int, float}:
        try:
            y = np.array(y, np.float64)
        except OverflowError:
            return None
    if type(y) is not np.ndarray or y.dtype not in (np.float32, np.float64, np.int64):
        return None
    if y.shape != ((n_rows,) if n_outputs == 1 else (n_rows, n_outputs)) or not are_finite(y, dtype):
        return None
    return y.reshape(n_rows, n_outputs).astype(dtype)
