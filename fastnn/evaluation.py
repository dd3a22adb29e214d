"""How good the predictions are: accuracy, the confusion matrix, the figures of each class, and the worst mistakes.

N samples, C classes numbered from 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import index
from typing import SupportsIndex

import numpy as np
from numpy.typing import ArrayLike

from fastnn.errors import DataError, SettingsError

_MOST_CLASSES = 10_000
_ROUNDING = 1e-4


@dataclass(frozen=True)
class ClassScores:
    """The figures of one class.

    Attributes
    ----------
    label : int
        The class.
    precision : float
        The share of the predictions of this class that are right.
    recall : float
        The share of the samples of this class that were found.
    f1 : float
        The harmonic mean of precision and recall.
    support : int
        The number of samples of this class.
    """

    label: int
    precision: float
    recall: float
    f1: float
    support: int


def accuracy(labels: ArrayLike, predictions: ArrayLike) -> float:
    """The share of samples whose predicted class is the true one.

    Parameters
    ----------
    labels, predictions : integer array-like of shape (N,)
        The true and the predicted class of each sample.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    DataError
        If there are no samples, or shapes or types do not fit.
    """
    true, said = _pair(labels, predictions)
    if not len(true):
        raise DataError("labels are empty, expected at least one sample to compute an accuracy")
    return float(np.mean(true == said))


def confusion(labels: ArrayLike, predictions: ArrayLike, n_classes: SupportsIndex | None = None) -> np.ndarray:
    """How often each class was taken for each class.

    Parameters
    ----------
    labels, predictions : integer array-like of shape (N,)
        The true and the predicted class of each sample, from 0 to C - 1.
    n_classes : int, optional
        C; by default one more than the largest class found.

    Returns
    -------
    ndarray of int64 and shape (C, C)
        Rows are true classes, columns predicted ones.

    Raises
    ------
    DataError
        If shapes or types do not fit, or a class is out of range.
    SettingsError
        If `n_classes` is no whole number of 1 or more.
    """
    true, said = _pair(labels, predictions)
    if n_classes is not None:
        classes = check_count("n_classes", n_classes)
    elif not len(true):
        raise DataError("labels are empty, expected at least one sample, or n_classes")
    else:
        classes = 1 + max(int(true.max()), int(said.max()))
        if classes > _MOST_CLASSES:
            raise DataError(f"the largest class is {classes - 1}, expected below {_MOST_CLASSES} (or give n_classes)")
    _check_range("labels", true, classes)
    _check_range("predictions", said, classes)
    return np.bincount(true * classes + said, minlength=classes**2).reshape(classes, classes).astype(np.int64)


def per_class(confusion: ArrayLike) -> list[ClassScores]:
    """Precision, recall, F1 and support of each class.

    A figure that would be 0 / 0 (the precision of a class never predicted, the recall of a class without samples) is
    0.0, as with scikit-learn's ``zero_division=0``.

    Parameters
    ----------
    confusion : integer array-like of shape (C, C)
        Rows are true classes, columns predicted ones, as `confusion` returns it.

    Returns
    -------
    list of ClassScores
        C of them, in the order of the classes.

    Raises
    ------
    DataError
        If `confusion` is no square matrix of counts.
    """
    counts = check_confusion(confusion)
    right, predicted, support = counts.diagonal(), counts.sum(axis=0), counts.sum(axis=1)
    precision = right / np.maximum(predicted, 1)
    recall = right / np.maximum(support, 1)
    f1 = 2 * right / np.maximum(predicted + support, 1)
    columns = zip(precision.tolist(), recall.tolist(), f1.tolist(), support.tolist(), strict=True)
    return [ClassScores(label, *figures) for label, figures in enumerate(columns)]


def mistakes(labels: ArrayLike, proba: ArrayLike) -> np.ndarray:
    """The wrongly classified samples, worst first.

    The class said is the most probable one (the first of equals). A mistake is the worse, the more probability the
    class said has over the true class; equal mistakes come in the order of the samples.

    Parameters
    ----------
    labels : integer array-like of shape (N,)
        The true class of each sample, from 0 to C - 1.
    proba : float array-like of shape (N, C)
        The probability of each class.

    Returns
    -------
    ndarray of int64 and shape (number of mistakes,)
        Indices of samples.

    Raises
    ------
    DataError
        If shapes or types do not fit, a label is out of range, or `proba` holds anything but probabilities.
    """
    shares = check_proba(proba)
    true = check_labels("labels", labels, len(shares), shares.shape[1])
    said = shares.argmax(axis=1)
    wrong = np.flatnonzero(said != true)
    excess = shares[wrong, said[wrong]] - shares[wrong, true[wrong]]
    return wrong[np.argsort(-excess, kind="stable")].astype(np.int64)


def check_labels(
    name: str, values: ArrayLike, n_samples: int | None = None, n_classes: int | None = None
) -> np.ndarray:
    """The classes `values` as int64 of shape (N,); DataError, with `name` in it, where they are none.

    `n_samples` and `n_classes`, where given, are the N and C expected.
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
    _check_range(name, classes, np.iinfo(np.int64).max if n_classes is None else n_classes)
    return classes.astype(np.int64)


def check_proba(proba: ArrayLike) -> np.ndarray:
    """The probabilities `proba` as float64 of shape (N, C), or DataError."""
    shares = _array("proba", proba)
    if shares.ndim != 2 or shares.shape[1] == 0:
        raise DataError(f"proba has shape {shares.shape}, expected (samples, classes)")
    if shares.dtype.kind not in "fiu":
        raise DataError(f"proba is {shares.dtype}, expected floats")
    shares = shares.astype(np.float64)
    bad = np.argwhere(~((shares >= -_ROUNDING) & (shares <= 1 + _ROUNDING)))
    if len(bad):
        row, column = bad[0]
        raise DataError(
            f"proba of sample {row}, class {column} is {shares[row, column]:g}, expected a probability from 0 to 1"
        )
    return shares


def check_confusion(confusion: ArrayLike) -> np.ndarray:
    """The counts `confusion` as int64 of shape (C, C), or DataError."""
    counts = _array("confusion", confusion)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or not counts.size:
        raise DataError(f"confusion has shape {counts.shape}, expected a square (classes, classes)")
    if not np.issubdtype(counts.dtype, np.integer):
        raise DataError(f"confusion is {counts.dtype}, expected integer counts")
    if counts.min() < 0:
        raise DataError(f"confusion holds {counts.min()}, expected counts of 0 or more")
    return counts.astype(np.int64)


def check_count(name: str, value: SupportsIndex) -> int:
    """`value` as an int of 1 or more, or SettingsError with `name` in it."""
    try:
        count = index(value)
    except TypeError:
        count = 0
    if count < 1:
        raise SettingsError(f"{name} is {value!r}, expected a whole number of 1 or more")
    return count


def check_names(class_names: Sequence[object] | None, n_classes: int) -> list[str]:
    """One str for each class, its number without `class_names`; DataError where there are not `n_classes` names."""
    if class_names is None:
        return [str(label) for label in range(n_classes)]
    if len(class_names) != n_classes:
        raise DataError(f"class_names has {len(class_names)} names, expected {n_classes}, one for each class")
    return [str(name) for name in class_names]


def check_images(pixels: np.ndarray, image_shape: tuple[int, int] | None, n_samples: int) -> tuple[int, int]:
    """(height, width), or DataError where `pixels` are not `n_samples` rows of images of that shape."""
    if image_shape is None or len(image_shape) != 2 or min(image_shape) < 1:
        raise DataError(f"image_shape is {image_shape}, expected (height, width)")
    height, width = image_shape
    if pixels.shape != (n_samples, height * width):
        raise DataError(f"images have shape {pixels.shape}, expected {n_samples} rows of {height} x {width} pixels")
    if pixels.dtype.kind not in "buif":
        raise DataError(f"images are {pixels.dtype}, expected numbers")
    return height, width


def _pair(labels: ArrayLike, predictions: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    true = check_labels("labels", labels)
    return true, check_labels("predictions", predictions, len(true))


def _array(name: str, values: ArrayLike) -> np.ndarray:
    try:
        return np.asarray(values)
    except ValueError:
        raise DataError(f"{name} is ragged, expected rows of equal length") from None


def _check_range(name: str, classes: np.ndarray, n_classes: int) -> None:
    if not len(classes):
        return
    outside = np.flatnonzero((classes < 0) | (classes >= n_classes))
    if len(outside):
        first = outside[0]
        expected = "0 or more" if n_classes > _MOST_CLASSES else f"0 to {n_classes - 1}"
        raise DataError(f"{name} hold {classes[first]} at sample {first}, expected {expected}")
