"""Draws the reliability diagram of the probabilities, and accuracy against coverage."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike

from fastnn import evaluation
from fastnn.plots.display import BLUE, GREY, VERMILION, Display, Names, percent, tidy
from fastnn.plots.labels import column_labels, predict

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class ReliabilityDisplay(Display):
    """Reliability diagram: accuracy against confidence in bins, above a histogram of the samples in each bin.

    A vertical line shows the 95 % interval of each accuracy (Wilson), which is wide for a bin with few samples. Below
     the diagonal the network is overconfident, above it underconfident.

    Parameters
    ----------
    labels : array-like of shape (N,)
        The true classes: strings, whole numbers or booleans.
    proba : array-like of shape (N, C)
        The probability of each class.
    n_bins : int
        As in `fastnn.evaluation.reliability`, which raises the errors.
    classes : sequence of C labels, optional
        The class of each column of `proba`. By default whole numbers are the numbers of columns, and strings are
        sorted.

    Attributes
    ----------
    bins : Reliability
        The accuracy, confidence and count of each bin; ``bins.error`` is the expected calibration error.
    """

    def __init__(self, labels: ArrayLike, proba: ArrayLike, n_bins: int = 15, *, classes: Names = None) -> None:
        proba = evaluation.check_proba(proba)
        self.bins = evaluation.reliability(column_labels(labels, proba.shape[1], None, classes), proba, n_bins)

    @classmethod
    def from_predictions(
        cls,
        labels: ArrayLike,
        proba: ArrayLike,
        n_bins: int = 15,
        ax: "Sequence[Axes] | None" = None,
        *,
        classes: Names = None,
    ) -> Self:
        """Compute the bins and plot into `ax` (two Axes) or a new figure; the class describes the other parameters."""
        return cls(labels, proba, n_bins, classes=classes).plot(ax)

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: Any = None, *, n_bins: int = 15, ax: "Sequence[Axes] | None" = None
    ) -> Self:
        """Predict X and plot into `ax` (two Axes) or a new figure.

        `estimator`, `X`, `y` and the errors are those of `ConfusionDisplay.from_estimator`.
        """
        found = predict(estimator, X, y)
        return cls(found.known_labels, found.proba, n_bins).plot(ax)

    def plot(self, ax: "Sequence[Axes] | None" = None) -> Self:
        """Draw the diagram and the histogram into `ax`, two Axes, or a new figure; SettingsError for another number."""
        expected = "two: for the diagram and for the histogram"
        accuracy_ax, count_ax = self._panels(
            ax, 2, expected, (4.8, 5.6), nrows=2, ncols=1, sharex=True, height_ratios=(2.6, 1)
        )
        bins, filled = self.bins, self.bins.counts > 0
        accuracy_ax.plot([0, 1], [0, 1], color=GREY, ls=(0, (4, 2)), lw=1, label="perfectly calibrated")
        curve = (bins.confidence[filled], bins.accuracy[filled])
        ends = wilson_interval(bins.accuracy[filled], bins.counts[filled])
        accuracy_ax.vlines(curve[0], *ends, color=BLUE, lw=1.2, alpha=0.45)
        accuracy_ax.plot(*curve, "o-", color=BLUE, ms=4.5, lw=1.5, clip_on=False, label="this network")
        accuracy_ax.set(xlim=(0, 1), ylim=(-0.02, 1.02), ylabel="accuracy, with 95 % intervals")
        accuracy_ax.set_title(f"expected calibration error {percent(round(bins.error, 5))}", fontsize=11, pad=28)
        # The legend is above the panel, because the curve can be anywhere inside it.
        accuracy_ax.legend(loc="lower left", bbox_to_anchor=(-0.04, 0.99), ncols=2, frameon=False, columnspacing=1.2)
        width = bins.edges[1]
        count_ax.bar(bins.edges[:-1], bins.counts, width=width, align="edge", color=BLUE, ec="white", lw=0.6, log=True)
        count_ax.set(xlabel="confidence (probability of the predicted class)", ylabel="samples")
        # The logarithmic axis starts below 1, so that the bar of a single sample is visible.
        count_ax.set_ylim(0.7, max(int(bins.counts.max()) * 1.6, 10))
        for each in (accuracy_ax, count_ax):
            each.xaxis.set_major_formatter(percent)
            tidy(each)
        accuracy_ax.yaxis.set_major_formatter(percent)
        return self


def wilson_interval(accuracy: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of the 95 % intervals of accuracies, (M,) each, from the number of samples of each, (M,).

    E. B. Wilson: Probable inference, the law of succession, and statistical inference. JASA 22 (1927). It stays between
    0 and 1, also for one sample.
    """
    z = 1.959964
    centre = (accuracy + z**2 / (2 * counts)) / (1 + z**2 / counts)
    half = z / (1 + z**2 / counts) * np.sqrt(accuracy * (1 - accuracy) / counts + z**2 / (4 * counts**2))
    return centre - half, centre + half


class CoverageDisplay(Display):
    """Curve of the accuracy of the answered samples against coverage, the fraction of samples answered.

    A sample is answered if its confidence reaches a threshold; the others get "I do not know". The mark shows the
    largest coverage with the requested accuracy. Its threshold is chosen on the same samples that the curve shows.

    Parameters
    ----------
    labels, proba, classes
        As in `ReliabilityDisplay`.
    accuracy : float
        As in `fastnn.evaluation.threshold_for`, which raises the errors.

    Attributes
    ----------
    curve : Coverage
        Coverage and accuracy at each threshold.
    wanted : float
        The requested accuracy.
    best : Threshold or None
        The threshold with the largest coverage among those that reach `wanted`, with its coverage and accuracy. None if
        no threshold reaches it.
    """

    def __init__(self, labels: ArrayLike, proba: ArrayLike, accuracy: float = 0.99, *, classes: Names = None) -> None:
        proba = evaluation.check_proba(proba)
        labels = column_labels(labels, proba.shape[1], None, classes)
        self.curve = evaluation.coverage_curve(labels, proba)
        self.best = evaluation.threshold_for(labels, proba, accuracy)
        self.wanted = float(accuracy)

    @classmethod
    def from_predictions(
        cls,
        labels: ArrayLike,
        proba: ArrayLike,
        accuracy: float = 0.99,
        ax: "Axes | None" = None,
        *,
        classes: Names = None,
    ) -> Self:
        """Compute the curve and plot it into `ax` or a new figure; the class describes the other parameters."""
        return cls(labels, proba, accuracy, classes=classes).plot(ax)

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: Any = None, *, accuracy: float = 0.99, ax: "Axes | None" = None
    ) -> Self:
        """Predict X and plot into `ax` or a new figure.

        `estimator`, `X`, `y` and the errors are those of `ConfusionDisplay.from_estimator`.
        """
        found = predict(estimator, X, y)
        return cls(found.known_labels, found.proba, accuracy).plot(ax)

    def plot(self, ax: "Axes | None" = None) -> Self:
        """Draw the curve into `ax` or a new figure."""
        (ax,) = self._panels(ax, 1, "one", (5.4, 3.9))
        curve = self.curve
        ax.plot(curve.coverage, curve.accuracy, color=BLUE, lw=1.8)
        ax.axhline(self.wanted, color=GREY, lw=0.9, ls=(0, (4, 2)))
        lowest = min(float(curve.accuracy.min()), self.wanted)
        room = max(1 - lowest, 0.002)
        ax.set(xlim=(0, 1.02), ylim=(max(lowest - 0.3 * room, -0.02), 1 + 0.08 * room))
        if self.best is None:
            text = f"no threshold reaches an accuracy of {percent(self.wanted)}"
        else:
            ax.plot(self.best.coverage, self.best.accuracy, "o", color=VERMILION, mec="black", mew=1.2, ms=7)
            text = (
                f"{percent(self.wanted)} accuracy at {percent(round(self.best.coverage, 4))} coverage:\n"
                f"confidence {self.best.threshold:.4f} or more"
            )
        ax.text(0.02, 0.03, text, transform=ax.transAxes, va="bottom", fontsize=9.5)
        ax.set(xlabel="coverage (fraction of samples answered)", ylabel="accuracy of the answered samples")
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_formatter(percent)
        tidy(ax)
        return self
