"""Checks the arguments of evaluations. Each error names the argument, what was found and what was expected."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from fastnn.errors import DataError

MAX_CLASSES = 10_000
_ROUNDING = 1e-4


def check_labels(
    name: str, values: ArrayLike, n_samples: int | None = None, n_classes: int | None = None
) -> np.ndarray:
    """Return `values` as classes, (N,) int64; DataError, with `name` in it, unless they are integers of 0 or more.

    `n_samples` is the required N. `n_classes` is C: all classes must be below C.
    """
    classes = _array(name, values)
    if classes.ndim != 1:
        raise DataError(f"{name} have shape {classes.shape}, expected (samples,), one class each")
    if n_samples is not None and len(classes) != n_samples:
        raise DataError(f"{name} hold {len(classes)} samples, expected {n_samples}")
    if not len(classes):
        return np.empty(0, np.int64)
    if not np.issubdtype(classes.dtype, np.integer):
        raise DataError(f"{name} are {classes.dtype}, expected integers")
    check_range(name, classes, np.iinfo(np.int64).max if n_classes is None else n_classes)
    return classes.astype(np.int64)


def check_proba(proba: ArrayLike) -> np.ndarray:
    """Return `proba`, (N, C), as float64; DataError unless all are from 0 to 1, within a rounding error of 1e-4."""
    probabilities = _array("proba", proba)
    if probabilities.ndim != 2 or probabilities.shape[1] == 0:
        raise DataError(f"proba has shape {probabilities.shape}, expected (samples, classes)")
    if probabilities.dtype.kind not in "fiu":
        raise DataError(f"proba is {probabilities.dtype}, expected floats")
    probabilities = probabilities.astype(np.float64)
    bad = np.argwhere(~((probabilities >= -_ROUNDING) & (probabilities <= 1 + _ROUNDING)))
    if len(bad):
        row, column = bad[0]
        raise DataError(
            f"proba of sample {row}, class {column} is {probabilities[row, column]:g}, "
            "expected a probability from 0 to 1"
        )
    return probabilities


def check_confusion(confusion: ArrayLike) -> np.ndarray:
    """Return `confusion`, (C, C), as int64; DataError unless it is a square matrix of counts of 0 or more."""
    counts = _array("confusion", confusion)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or not counts.size:
        raise DataError(f"confusion has shape {counts.shape}, expected a square (classes, classes)")
    if not np.issubdtype(counts.dtype, np.integer):
        raise DataError(f"confusion is {counts.dtype}, expected integer counts")
    if counts.min() < 0:
        raise DataError(f"confusion holds {counts.min()}, expected counts of 0 or more")
    return counts.astype(np.int64)


def check_names(class_names: Sequence[object] | None, n_classes: int) -> list[str]:
    """Return the name of each class as a str. Without `class_names`, the names are "0", "1" and so on.

    Raises DataError if there are not `n_classes` names.
    """
    if class_names is None:
        return [str(label) for label in range(n_classes)]
    if len(class_names) != n_classes:
        raise DataError(f"class_names has {len(class_names)} names, expected {n_classes}, one for each class")
    return [str(name) for name in class_names]


def check_images(pixels: np.ndarray, image_shape: tuple[int, int] | None, n_samples: int) -> tuple[int, int]:
    """Check that `pixels` has shape (`n_samples`, height * width), and return (height, width).

    Raises DataError if it has another shape, if it does not hold numbers, or if `image_shape` is not (height, width).
    """
    if image_shape is None or len(image_shape) != 2 or min(image_shape) < 1:
        raise DataError(f"image_shape is {image_shape}, expected (height, width)")
    height, width = image_shape
    if pixels.shape != (n_samples, height * width):
        raise DataError(f"images have shape {pixels.shape}, expected {n_samples} rows of {height} x {width} pixels")
    if pixels.dtype.kind not in "buif":
        raise DataError(f"images are {pixels.dtype}, expected numbers")
    return height, width


def _array(name: str, values: ArrayLike) -> np.ndarray:
    try:
        return np.asarray(values)
    except ValueError:
        raise DataError(f"{name} is ragged, expected rows of equal length") from None


def check_range(name: str, classes: np.ndarray, n_classes: int) -> None:
    """Raise DataError, with `name` in it, unless all classes are from 0 to `n_classes` - 1."""
    outside = np.flatnonzero((classes < 0) | (classes >= n_classes))
    if len(outside):
        first = outside[0]
        expected = "0 or more" if n_classes > MAX_CLASSES else f"0 to {n_classes - 1}"
        raise DataError(f"{name} hold {classes[first]} at sample {first}, expected {expected}")
