"""Metrics of predicted classes: accuracy, the confusion matrix, and precision, recall and F1 of each class."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fastnn.checks import check_integer
from fastnn.errors import DataError
from fastnn.evaluation.checks import MAX_CLASSES, check_confusion, check_labels, check_range
from fastnn.interruptible import interruptible

# About how many numbers take as long to read and write as one takes to count.
_N_COUNT = 4


@dataclass(frozen=True)
class ClassScores:
    """The metrics of one class.

    Attributes
    ----------
    label : int
        The class.
    precision : float
        The fraction of the predictions of this class that are correct.
    recall : float
        The fraction of the samples of this class that are predicted correctly.
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
    """Return the fraction of samples whose predicted class is correct.

    Parameters
    ----------
    labels, predictions : array-like of shape (N,) int
        The true and the predicted class of each sample.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    DataError
        If there are no samples, or shapes or types do not match.

    Examples
    --------
    >>> from fastnn.evaluation import accuracy
    >>> accuracy([0, 0, 1, 2], [0, 1, 1, 2])
    0.75
    """
    true, predicted = _true_and_predicted(labels, predictions)
    if not len(true):
        raise DataError("labels are empty, expected at least one sample to compute an accuracy")
    return float(np.mean(true == predicted))


def confusion(labels: ArrayLike, predictions: ArrayLike, n_classes: int | None = None) -> np.ndarray:
    """Return the confusion matrix: the number of samples for each pair of true and predicted class.

    Parameters
    ----------
    labels, predictions : array-like of shape (N,) int
        The true and the predicted class of each sample, from 0 to C - 1.
    n_classes : int, optional
        C. By default the largest class plus 1.

    Returns
    -------
    ndarray of shape (C, C) int64
        Rows are true classes, columns are predicted classes.

    Raises
    ------
    DataError
        If shapes or types do not match, or a class is out of range.
    SettingsError
        If `n_classes` is not a whole number of 1 or more.

    Examples
    --------
    >>> from fastnn.evaluation import confusion
    >>> confusion([0, 0, 1, 2], [0, 1, 1, 2])
    array([[1, 1, 0],
           [0, 1, 0],
           [0, 0, 1]])
    """
    true, predicted = _true_and_predicted(labels, predictions)
    if n_classes is not None:
        classes = check_integer("n_classes", n_classes, 1)
    elif not len(true):
        raise DataError("labels are empty, expected at least one sample or the argument n_classes")
    else:
        classes = 1 + max(int(true.max()), int(predicted.max()))
        if classes > MAX_CLASSES:
            raise DataError(f"the largest class is {classes - 1}, expected below {MAX_CLASSES} (or pass n_classes)")
    check_range("labels", true, classes)
    check_range("predictions", predicted, classes)
    return interruptible(count_pairs, true, predicted, classes, work=_N_COUNT * len(true))


def count_pairs(true: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Return the number of samples for each pair of classes, both (N,) from 0 to `classes` - 1."""
    return np.bincount(true * classes + predicted, minlength=classes**2).reshape(classes, classes).astype(np.int64)


def per_class(confusion: ArrayLike) -> list[ClassScores]:
    """Return precision, recall, F1 and support of each class.

    Parameters
    ----------
    confusion : array-like of shape (C, C) int
        A confusion matrix, as the function `confusion` returns it: rows are true classes, columns predicted classes.

    Returns
    -------
    list of C ClassScores
        In the order of the classes.

    Raises
    ------
    DataError
        If `confusion` is not a square matrix of counts.

    Notes
    -----
    A metric that would be 0 / 0 is 0.0, as with scikit-learn's ``zero_division=0``. This concerns the precision of a
    class that was never predicted and the recall of a class without samples.

    Examples
    --------
    >>> from fastnn.evaluation import per_class
    >>> per_class([[3, 1], [0, 4]])[1]
    ClassScores(label=1, precision=0.8, recall=1.0, f1=0.8888888888888888, support=4)
    """
    counts = check_confusion(confusion)
    correct, predicted, support = counts.diagonal(), counts.sum(axis=0), counts.sum(axis=1)
    precision = correct / np.maximum(predicted, 1)
    recall = correct / np.maximum(support, 1)
    f1 = 2 * correct / np.maximum(predicted + support, 1)
    columns = zip(precision.tolist(), recall.tolist(), f1.tolist(), support.tolist(), strict=True)
    return [ClassScores(label, *scores) for label, scores in enumerate(columns)]


def _true_and_predicted(labels: ArrayLike, predictions: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    true = check_labels("labels", labels)
    return true, check_labels("predictions", predictions, len(true))
