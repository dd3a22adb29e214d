"""What the probabilities are worth: the reliability diagram, and accuracy against coverage."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self, SupportsIndex

from numpy.typing import ArrayLike

from fastnn import evaluation
from fastnn.plots.display import BLUE, GREY, VERMILION, Display, percent, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class ReliabilityDisplay(Display):
    """Calibration: how often the class said is right against how probable it seemed, and how many samples that is.

    Below the diagonal a network is too sure, above it not sure enough.

    Parameters
    ----------
    labels, proba, n_bins
        As `fastnn.evaluation.reliability` takes them, with its errors.

    Attributes
    ----------
    bins : Reliability
        What is drawn; ``bins.error`` is the expected calibration error.
    """

    def __init__(self, labels: ArrayLike, proba: ArrayLike, n_bins: SupportsIndex = 15) -> None:
        self.bins = evaluation.reliability(labels, proba, n_bins)

    @classmethod
    def from_predictions(
        cls,
        labels: ArrayLike,
        proba: ArrayLike,
        n_bins: SupportsIndex = 15,
        ax: "Sequence[Axes] | None" = None,
    ) -> Self:
        """Sort the samples into bins and plot, into `ax` (two Axes) or a new figure."""
        return cls(labels, proba, n_bins).plot(ax)

    def plot(self, ax: "Sequence[Axes] | None" = None) -> Self:
        """Draw the diagram above the histogram, into `ax` (two Axes, else SettingsError) or a new figure."""
        expected = "two: for the diagram and for the histogram"
        share_ax, count_ax = self._panels(
            ax, 2, expected, (4.8, 5.6), nrows=2, ncols=1, sharex=True, height_ratios=(2.6, 1)
        )
        bins, filled = self.bins, self.bins.counts > 0
        share_ax.plot([0, 1], [0, 1], color=GREY, ls=(0, (4, 2)), lw=1, label="as sure as it is right")
        share_ax.plot(
            bins.confidence[filled],
            bins.accuracy[filled],
            "o-",
            color=BLUE,
            ms=4.5,
            lw=1.5,
            clip_on=False,
            label="this network",
        )
        share_ax.set(xlim=(0, 1), ylim=(-0.02, 1.02), ylabel="share that is right")
        share_ax.set_title(f"expected calibration error {percent(round(bins.error, 5))}", fontsize=11, pad=28)
        # Above the panel: inside it, the curve may be anywhere.
        share_ax.legend(loc="lower left", bbox_to_anchor=(-0.04, 0.99), ncols=2, frameon=False, columnspacing=1.2)
        width = bins.edges[1]
        count_ax.bar(bins.edges[:-1], bins.counts, width=width, align="edge", color=BLUE, ec="white", lw=0.6, log=True)
        count_ax.set(xlabel="confidence: the probability of the class said", ylabel="samples")
        # From below one, so that a single sample has a bar.
        count_ax.set_ylim(0.7, max(int(bins.counts.max()) * 1.6, 10))
        for each in (share_ax, count_ax):
            each.xaxis.set_major_formatter(percent)
            tidy(each)
        share_ax.yaxis.set_major_formatter(percent)
        self.axes_, self.figure_ = (share_ax, count_ax), share_ax.figure
        return self


class CoverageDisplay(Display):
    """How accurate the answers are, by the share of samples that is answered at all: the price of "I do not know".

    The mark shows the largest share that can be answered at the accuracy wanted. It is chosen on the samples shown.

    Parameters
    ----------
    labels, proba, accuracy
        As `fastnn.evaluation.threshold_for` takes them, with its errors.

    Attributes
    ----------
    curve : Coverage
        What is drawn.
    wanted : float
        The accuracy wanted.
    best : Threshold or None
        The threshold that reaches it, its coverage and its accuracy; None if none does.
    """

    def __init__(self, labels: ArrayLike, proba: ArrayLike, accuracy: float = 0.99) -> None:
        self.curve = evaluation.coverage_curve(labels, proba)
        self.best = evaluation.threshold_for(labels, proba, accuracy)
        self.wanted = float(accuracy)

    @classmethod
    def from_predictions(
        cls, labels: ArrayLike, proba: ArrayLike, accuracy: float = 0.99, ax: "Axes | None" = None
    ) -> Self:
        """Compute the curve and plot, into `ax` or a new figure."""
        return cls(labels, proba, accuracy).plot(ax)

    def plot(self, ax: "Axes | None" = None) -> Self:
        """Draw the curve, into `ax` or a new figure."""
        (ax,) = self._panels(ax, 1, "one", (5.4, 3.9))
        curve = self.curve
        ax.plot(curve.coverage, curve.accuracy, color=BLUE, lw=1.8)
        ax.axhline(self.wanted, color=GREY, lw=0.9, ls=(0, (4, 2)))
        lowest = min(float(curve.accuracy.min()), self.wanted)
        room = max(1 - lowest, 0.002)
        ax.set(xlim=(0, 1.02), ylim=(max(lowest - 0.3 * room, -0.02), 1 + 0.08 * room))
        if self.best is None:
            text = f"no threshold reaches {percent(self.wanted)}"
        else:
            ax.plot(self.best.coverage, self.best.accuracy, "o", color=VERMILION, mec="black", mew=1.2, ms=7)
            text = (
                f"{percent(self.wanted)} right where {percent(round(self.best.coverage, 4))} are answered:\n"
                f"those of confidence {self.best.threshold:.4f} and more"
            )
        ax.text(0.02, 0.03, text, transform=ax.transAxes, va="bottom", fontsize=9.5)
        ax.set(xlabel="share of the samples that is answered", ylabel="share of the answers that is right")
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_formatter(percent)
        tidy(ax)
        self.ax_, self.figure_ = ax, ax.figure
        return self
