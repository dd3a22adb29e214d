"""What is counted: accuracy, the confusion matrix, and the figures of each class."""

from dataclasses import dataclass
from typing import SupportsIndex

import numpy as np
from numpy.typing import ArrayLike

from fastnn.errors import DataError
from fastnn.evaluation.checks import MOST_CLASSES, check_confusion, check_count, check_labels, check_range


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
    true, predicted = _pair(labels, predictions)
    if not len(true):
        raise DataError("labels are empty, expected at least one sample to compute an accuracy")
    return float(np.mean(true == predicted))


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
    true, predicted = _pair(labels, predictions)
    if n_classes is not None:
        classes = check_count("n_classes", n_classes)
    elif not len(true):
        raise DataError("labels are empty, expected at least one sample, or n_classes")
    else:
        classes = 1 + max(int(true.max()), int(predicted.max()))
        if classes > MOST_CLASSES:
            raise DataError(f"the largest class is {classes - 1}, expected below {MOST_CLASSES} (or give n_classes)")
    check_range("labels", true, classes)
    check_range("predictions", predicted, classes)
    return np.bincount(true * classes + predicted, minlength=classes**2).reshape(classes, classes).astype(np.int64)


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
    correct, predicted, support = counts.diagonal(), counts.sum(axis=0), counts.sum(axis=1)
    precision = correct / np.maximum(predicted, 1)
    recall = correct / np.maximum(support, 1)
    f1 = 2 * correct / np.maximum(predicted + support, 1)
    columns = zip(precision.tolist(), recall.tolist(), f1.tolist(), support.tolist(), strict=True)
    return [ClassScores(label, *figures) for label, figures in enumerate(columns)]


def _pair(labels: ArrayLike, predictions: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    true = check_labels("labels", labels)
    return true, check_labels("predictions", predictions, len(true))
