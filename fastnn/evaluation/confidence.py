"""Evaluates probabilities: the worst mistakes, calibration, and thresholds for answering "I do not know".

The predicted class is the most probable class, or the first of several equally probable ones. Its probability is the
confidence.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from fastnn.checks import check_integer, is_number
from fastnn.errors import DataError, SettingsError
from fastnn.evaluation.checks import check_labels, check_proba
from fastnn.interruptible import PER_SORT, interruptible


class Reliability(NamedTuple):
    """Confidence and accuracy in M bins of confidence, of equal width.

    Attributes
    ----------
    edges : ndarray of shape (M + 1,) float64
        From 0 to 1. Bin m holds the confidences above ``edges[m]`` and at most ``edges[m + 1]``.
    counts : ndarray of shape (M,) int64
        The number of samples in each bin. Their sum is N.
    confidence : ndarray of shape (M,) float64
        The mean confidence in each bin, NaN for an empty bin.
    accuracy : ndarray of shape (M,) float64
        The accuracy in each bin, NaN for an empty bin.
    """

    edges: np.ndarray
    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def error(self) -> float:
        """The expected calibration error: the mean of ``|accuracy - confidence|`` over the bins, weighted by count."""
        filled = self.counts > 0
        gaps = np.abs(self.accuracy[filled] - self.confidence[filled])
        return float(self.counts[filled] @ gaps / self.counts.sum())


class Coverage(NamedTuple):
    """Coverage and accuracy at each threshold: the K different confidences, highest first.

    Attributes
    ----------
    thresholds : ndarray of shape (K,) float64
        Samples with at least this confidence get an answer; the others get "I do not know".
    coverage : ndarray of shape (K,) float64
        The fraction of the samples that get an answer. It rises to 1.
    accuracy : ndarray of shape (K,) float64
        The fraction of the answers that are correct.
    """

    thresholds: np.ndarray
    coverage: np.ndarray
    accuracy: np.ndarray


class Threshold(NamedTuple):
    """A threshold of confidence, with its coverage and accuracy.

    Attributes
    ----------
    threshold, coverage, accuracy : float
        One entry of each array of `Coverage`.
    """

    threshold: float
    coverage: float
    accuracy: float


def mistakes(labels: ArrayLike, proba: ArrayLike) -> np.ndarray:
    """Return the indices of the wrongly classified samples, worst mistake first.

    Mistakes are sorted by the probability of the predicted class minus that of the true class. Equal mistakes keep the
    order of the samples.

    Parameters
    ----------
    labels : array-like of shape (N,) int
        The true class of each sample, from 0 to C - 1.
    proba : array-like of shape (N, C) float
        The probability of each class.

    Returns
    -------
    ndarray of shape (number of mistakes,) int64

    Raises
    ------
    DataError
        If shapes or types do not match, a label is out of range, or `proba` contains a value that is not a probability.

    Examples
    --------
    >>> from fastnn.evaluation import mistakes
    >>> mistakes([0, 1, 0], [[0.75, 0.25], [0.75, 0.25], [0.125, 0.875]])
    array([2, 1])
    """
    true, probabilities = _labels_and_proba(labels, proba)
    predicted = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != true)
    excess = probabilities[wrong, predicted[wrong]] - probabilities[wrong, true[wrong]]
    order = interruptible(np.argsort, -excess, kind="stable", work=PER_SORT * len(excess))
    return wrong[order].astype(np.int64)


def reliability(labels: ArrayLike, proba: ArrayLike, n_bins: int = 15) -> Reliability:
    """Return the accuracy in each bin of confidence: the data of a reliability diagram.

    Parameters
    ----------
    labels, proba
        As for `mistakes`.
    n_bins : int
        M, 1 or more.

    Returns
    -------
    Reliability
        Its ``error`` is the expected calibration error.

    Raises
    ------
    DataError
        As `mistakes` does, and if there are no samples.
    SettingsError
        If `n_bins` is not a whole number of 1 or more.

    References
    ----------
    C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger: On Calibration of Modern Neural Networks (2017), section 2 and
    equation 3, arXiv:1706.04599. The default of 15 bins is theirs.

    Examples
    --------
    >>> from fastnn.evaluation import reliability
    >>> bins = reliability([0, 1, 0], [[0.875, 0.125], [0.625, 0.375], [0.625, 0.375]], n_bins=4)
    >>> bins.counts, bins.accuracy[2:]
    (array([0, 0, 2, 1]), array([0.5, 1. ]))
    """
    confidence, correct = _confidence_and_correct(labels, proba)
    bins = check_integer("n_bins", n_bins, 1)
    edges = np.linspace(0, 1, bins + 1)
    bin_of = np.searchsorted(edges[1:-1], confidence, side="left")
    counts = np.bincount(bin_of, minlength=bins)
    with np.errstate(invalid="ignore"):  # 0 / 0 gives the NaN of an empty bin
        mean_confidence, accuracy = (np.bincount(bin_of, v, minlength=bins) / counts for v in (confidence, correct))
    return Reliability(edges, counts.astype(np.int64), mean_confidence, accuracy)


def calibration_error(labels: ArrayLike, proba: ArrayLike, n_bins: int = 15) -> float:
    """Return the expected calibration error (ECE).

    Parameters
    ----------
    labels, proba, n_bins
        As for `reliability`.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    DataError, SettingsError
        As `reliability` does.

    Notes
    -----
    The error depends on the number of bins, and it is too high if bins have few samples. Compare errors only for equal
    N and M. The reference is that of `reliability`.

    Examples
    --------
    >>> from fastnn.evaluation import calibration_error
    >>> calibration_error([0, 1, 0, 0], [[0.875, 0.125]] * 4)
    0.125
    """
    return reliability(labels, proba, n_bins).error


def coverage_curve(labels: ArrayLike, proba: ArrayLike) -> Coverage:
    """Return coverage and accuracy of a classifier that answers only if its confidence reaches a threshold.

    Parameters
    ----------
    labels, proba
        As for `mistakes`.

    Returns
    -------
    Coverage
        One entry for each threshold, that is, for each different confidence.

    Raises
    ------
    DataError
        As `mistakes` does, and if there are no samples.

    References
    ----------
    R. El-Yaniv, Y. Wiener: On the Foundations of Noise-free Selective Classification, JMLR 11 (2010). Their risk is
    1 - accuracy.

    Y. Geifman, R. El-Yaniv (2017), arXiv:1705.08500. They find that the largest probability is the best confidence
    for softmax networks.

    Examples
    --------
    >>> from fastnn.evaluation import coverage_curve
    >>> curve = coverage_curve([0, 1], [[0.75, 0.25], [0.625, 0.375]])
    >>> curve.thresholds, curve.coverage, curve.accuracy
    (array([0.75 , 0.625]), array([0.5, 1. ]), array([1. , 0.5]))
    """
    confidence, correct = _confidence_and_correct(labels, proba)
    order = interruptible(np.argsort, -confidence, kind="stable", work=PER_SORT * len(confidence))
    falling = confidence[order]
    # Samples with equal confidence share a threshold: keep the last of each group.
    last = np.append(np.flatnonzero(np.diff(falling)), len(falling) - 1)
    answered = last + 1
    return Coverage(falling[last], answered / len(falling), np.cumsum(correct[order])[last] / answered)


def threshold_for(labels: ArrayLike, proba: ArrayLike, accuracy: float) -> Threshold | None:
    """Return the threshold with the largest coverage that reaches a required accuracy.

    The accuracy holds for the given samples. Choose the threshold on validation data, and measure coverage and accuracy
    on other data: on the validation data, both look better than they are.

    Parameters
    ----------
    labels, proba
        As for `mistakes`.
    accuracy : float
        The required accuracy, above 0 and at most 1.

    Returns
    -------
    Threshold or None
        None if no threshold reaches the accuracy.

    Raises
    ------
    DataError
        As `coverage_curve` does.
    SettingsError
        If `accuracy` is out of range.

    Examples
    --------
    >>> from fastnn.evaluation import threshold_for
    >>> threshold_for([0, 1], [[0.75, 0.25], [0.625, 0.375]], 0.9)
    Threshold(threshold=0.75, coverage=0.5, accuracy=1.0)
    """
    if not is_number(accuracy) or not 0 < accuracy <= 1:
        raise SettingsError(f"accuracy is {accuracy!r}, expected a number above 0, at most 1")
    curve = coverage_curve(labels, proba)
    reached = np.flatnonzero(curve.accuracy >= accuracy)
    return Threshold(*(float(column[reached[-1]]) for column in curve)) if len(reached) else None


def _labels_and_proba(labels: ArrayLike, proba: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    probabilities = check_proba(proba)
    return check_labels("labels", labels, len(probabilities), probabilities.shape[1]), probabilities


def _confidence_and_correct(labels: ArrayLike, proba: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return the confidence of each sample, at most 1, and whether its predicted class is correct."""
    true, probabilities = _labels_and_proba(labels, proba)
    if not len(true):
        raise DataError("labels are empty, expected at least one sample")
    return np.clip(probabilities.max(axis=1), 0, 1), probabilities.argmax(axis=1) == true


def probability_text(proba: float, digits: int = 1) -> str:
    """Return a probability as a percentage that is not rounded to certainty, such as "> 99.9 %" for 0.99999.

    Only 1 itself is "100.0 %". A probability that would be rounded to 0 is "< 0.1 %".

    Parameters
    ----------
    proba : float
        From 0 to 1.
    digits : int
        The number of digits after the point.

    Returns
    -------
    str

    Examples
    --------
    >>> from fastnn import evaluation
    >>> [evaluation.probability_text(proba) for proba in (0.123, 0.9996, 1.0, 0.0001)]
    ['12.3 %', '> 99.9 %', '100.0 %', '< 0.1 %']
    >>> evaluation.probability_text(0.9996, digits=0)
    '> 99 %'
    """
    step = 10.0**-digits
    if 100 * proba < step / 2:
        return f"< {step:.{digits}f} %"
    if 100 - step / 2 <= 100 * proba < 100:
        return f"> {100 - step:.{digits}f} %"
    return f"{100 * proba:.{digits}f} %"
