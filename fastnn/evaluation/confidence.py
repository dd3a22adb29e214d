"""What the probabilities are worth: the worst mistakes, calibration, and when to answer "I do not know".

The class said is the most probable one (the first of equals); its probability is the confidence.
"""

from typing import NamedTuple, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike

from fastnn.checks import is_number
from fastnn.errors import DataError, SettingsError
from fastnn.evaluation.checks import check_count, check_labels, check_proba


class Reliability(NamedTuple):
    """M bins of confidence, of equal width.

    Attributes
    ----------
    edges : ndarray of float64 and shape (M + 1,)
        From 0 to 1; bin m holds the confidences above ``edges[m]``, up to and including ``edges[m + 1]``.
    counts : ndarray of int64 and shape (M,)
        The samples of each bin, N together.
    confidence, accuracy : ndarray of float64 and shape (M,)
        The mean confidence in each bin and the share of its samples that are right; NaN where there are none.
    """

    edges: np.ndarray
    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def error(self) -> float:
        """The expected calibration error: the mean over the samples of ``|accuracy - confidence|`` of their bins."""
        filled = self.counts > 0
        gaps = np.abs(self.accuracy[filled] - self.confidence[filled])
        return float(self.counts[filled] @ gaps / self.counts.sum())


class Coverage(NamedTuple):
    """What is answered, and how well, at each threshold: K different confidences, highest first.

    Attributes
    ----------
    thresholds : ndarray of float64 and shape (K,)
        Samples of at least this confidence are answered; the others get "I do not know".
    coverage : ndarray of float64 and shape (K,)
        The share of the samples that is answered; it rises to 1.
    accuracy : ndarray of float64 and shape (K,)
        The share of the answers that is right.
    """

    thresholds: np.ndarray
    coverage: np.ndarray
    accuracy: np.ndarray


class Threshold(NamedTuple):
    """A threshold of confidence, the share of the samples that it answers, and the share of answers that is right."""

    threshold: float
    coverage: float
    accuracy: float


def mistakes(labels: ArrayLike, proba: ArrayLike) -> np.ndarray:
    """The wrongly classified samples, worst first.

    A mistake is the worse, the more probability the class said has over the true class; equal mistakes come in the
    order of the samples.

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
    predicted = shares.argmax(axis=1)
    wrong = np.flatnonzero(predicted != true)
    excess = shares[wrong, predicted[wrong]] - shares[wrong, true[wrong]]
    return wrong[np.argsort(-excess, kind="stable")].astype(np.int64)


def reliability(labels: ArrayLike, proba: ArrayLike, n_bins: SupportsIndex = 15) -> Reliability:
    """How often the class said is right, by how probable it seemed: what a reliability diagram shows.

    Guo, Pleiss, Sun and Weinberger 2017, "On Calibration of Modern Neural Networks", section 2 (arXiv:1706.04599),
    whose 15 bins are the default; its ``error`` is the expected calibration error of equation 3 there.

    Parameters
    ----------
    labels : integer array-like of shape (N,)
        The true class of each sample, from 0 to C - 1.
    proba : float array-like of shape (N, C)
        The probability of each class.
    n_bins : int
        M, 1 or more.

    Raises
    ------
    DataError
        If there are no samples, shapes or types do not fit, a label is out of range, or `proba` holds anything but
        probabilities.
    SettingsError
        If `n_bins` is no whole number of 1 or more.
    """
    confidence, correct = _confidence_and_correct(labels, proba)
    bins = check_count("n_bins", n_bins)
    edges = np.linspace(0, 1, bins + 1)
    place = np.searchsorted(edges[1:-1], confidence, side="left")
    counts = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN of a bin without samples
        mean, share = (np.bincount(place, values, minlength=bins) / counts for values in (confidence, correct))
    return Reliability(edges, counts.astype(np.int64), mean, share)


def calibration_error(labels: ArrayLike, proba: ArrayLike, n_bins: SupportsIndex = 15) -> float:
    """The expected calibration error (ECE), from 0 to 1: see `reliability`, which has parameters, errors and source.

    It depends on the number of bins, and few samples in a bin make it too high: compare it for equal N and M only.
    """
    return reliability(labels, proba, n_bins).error


def coverage_curve(labels: ArrayLike, proba: ArrayLike) -> Coverage:
    """Accuracy against coverage for a classifier that answers only where its confidence reaches a threshold.

    El-Yaniv and Wiener 2010, "On the Foundations of Noise-free Selective Classification" (JMLR 11), with the
    confidence that Geifman and El-Yaniv 2017 (arXiv:1705.08500) find best for softmax networks: the largest
    probability. Their risk is 1 - accuracy.

    Parameters
    ----------
    labels : integer array-like of shape (N,)
        The true class of each sample, from 0 to C - 1.
    proba : float array-like of shape (N, C)
        The probability of each class.

    Raises
    ------
    DataError
        If there are no samples, shapes or types do not fit, a label is out of range, or `proba` holds anything but
        probabilities.
    """
    confidence, correct = _confidence_and_correct(labels, proba)
    order = np.argsort(-confidence, kind="stable")
    falling = confidence[order]
    last = np.append(np.flatnonzero(np.diff(falling)), len(falling) - 1)  # samples of one confidence go together
    answered = last + 1
    return Coverage(falling[last], answered / len(falling), np.cumsum(correct[order])[last] / answered)


def threshold_for(labels: ArrayLike, proba: ArrayLike, accuracy: float) -> Threshold | None:
    """The threshold that answers as many samples as possible at a wanted accuracy; None if none reaches it.

    The accuracy holds for these samples. Choose the threshold on samples of its own (validation data) and measure
    coverage and accuracy on others: on those it was chosen by, both look better than they are.

    Parameters
    ----------
    labels, proba
        As `coverage_curve` takes them.
    accuracy : float
        Above 0, at most 1.

    Raises
    ------
    DataError
        As `coverage_curve` does.
    SettingsError
        If `accuracy` is out of range.
    """
    if not is_number(accuracy) or not 0 < accuracy <= 1:
        raise SettingsError(f"accuracy is {accuracy!r}, expected a share above 0, at most 1")
    curve = coverage_curve(labels, proba)
    reached = np.flatnonzero(curve.accuracy >= accuracy)
    return Threshold(*(float(column[reached[-1]]) for column in curve)) if len(reached) else None


def _confidence_and_correct(labels: ArrayLike, proba: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """The confidence of each sample, at most 1, and whether the class said is the true one."""
    shares = check_proba(proba)
    true = check_labels("labels", labels, len(shares), shares.shape[1])
    if not len(true):
        raise DataError("labels are empty, expected at least one sample to judge")
    return np.clip(shares.max(axis=1), 0, 1), shares.argmax(axis=1) == true
