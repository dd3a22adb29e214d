"""Draws the runs of a sweep: one row per combination of settings, the best on top."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from fastnn.errors import DataError
from fastnn.plots.display import BLUE, GREY, VERMILION, Display, percent, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# More rows than this cannot be read; the first ones are drawn.
_MOST_ROWS = 40
# Values beyond this multiple of the interquartile range from the middle half are drawn at the edge of the axis, so that
# one bad combination does not press all others together.
_FAR = 3.0


class SweepDisplay(Display):
    """The metric of every run of a sweep, with the mean and the standard deviation of each combination of settings.

    Parameters
    ----------
    labels : sequence of C str
        The settings of each combination, the best first; at most 40 are drawn.
    values : sequence of C ndarray
        The metric of the runs of each combination, one number per seed that did not fail.
    n_failed : sequence of C int
        The number of runs of each combination that failed.
    metric : str
        The name of the metric; one that ends in "accuracy" is shown in percent.

    Attributes
    ----------
    labels, values, n_failed, metric
        As given.

    Raises
    ------
    DataError
        If there is no combination, or the three sequences have different lengths.

    Examples
    --------
    >>> from fastnn.plots import SweepDisplay
    >>> display = SweepDisplay.from_values(["hidden 64", "hidden 8"], [[0.97, 0.96], [0.9]], [0, 1], "accuracy")
    >>> display.save("sweep.png").name
    'sweep.png'
    """

    def __init__(self, labels: Sequence[str], values: Sequence[Any], n_failed: Sequence[int], metric: str) -> None:
        if not len(labels) == len(values) == len(n_failed) or not len(labels):
            found = f"{len(labels)} labels, {len(values)} values and {len(n_failed)} n_failed"
            raise DataError(f"found {found}, expected one or more of each, as many")
        self.labels, self.n_failed, self.metric = list(labels), list(n_failed), metric
        self.values = [np.asarray(each, np.float64) for each in values]

    @classmethod
    def from_values(
        cls,
        labels: Sequence[str],
        values: Sequence[Any],
        n_failed: Sequence[int],
        metric: str,
        ax: "Axes | None" = None,
    ) -> Self:
        """Plot the runs into `ax` or a new figure; the class describes the other parameters."""
        return cls(labels, values, n_failed, metric).plot(ax)

    def plot(self, ax: "Axes | None" = None) -> Self:
        """Draw the runs into `ax` or a new figure."""
        n_rows = min(len(self.labels), _MOST_ROWS)
        width = 5.6 + 0.055 * max(len(label) for label in self.labels[:n_rows])
        (axes,) = self._panels(ax, 1, "one", (width, 1.5 + 0.34 * n_rows))
        low, high = _limits(self.values[:n_rows])
        for row, (found, n_failed) in enumerate(zip(self.values[:n_rows], self.n_failed, strict=False)):
            colour = VERMILION if row == 0 else BLUE
            _draw_row(axes, row, found, (low, high), colour)
            if n_failed:
                text = f"{n_failed} failed"
                axes.annotate(
                    text, (1, row), (4, 0), xycoords=axes.get_yaxis_transform(), textcoords="offset points",
                    va="center", color=GREY, fontsize="small", annotation_clip=False,
                )  # fmt: skip
        axes.set_yticks(range(n_rows), self.labels[:n_rows], parse_math=False)
        margin = 0.04 * (high - low)
        axes.set(xlim=(low - margin, high + margin), ylim=(n_rows - 0.4, -0.6), xlabel=self._axis_label(n_rows))
        if self.metric.endswith("accuracy"):
            axes.xaxis.set_major_formatter(percent)
        tidy(axes)
        axes.grid(visible=False, axis="y")
        return self

    def _axis_label(self, n_rows: int) -> str:
        most = max(len(found) for found in self.values)
        what = f"{self.metric.replace('_', ' ')} of each run" + (
            ", with mean and standard deviation" if most > 1 else ""
        )
        return what if n_rows == len(self.labels) else f"{what}; the best {n_rows} of {len(self.labels)}"


def _limits(values: Sequence[np.ndarray]) -> tuple[float, float]:
    """Return the ends of the axis: the extremes, but at most `_FAR` interquartile ranges from the middle half."""
    every = np.concatenate([*values, *(_ends(each) for each in values if len(each) > 1)])
    if not len(every):
        return 0.0, 1.0
    first, third = np.percentile(every, [25, 75])
    reach = _FAR * (third - first)
    low, high = max(every.min(), first - reach), min(every.max(), third + reach)
    if not high > low:
        low, high = every.min(), every.max()
    spread = 0.01 * abs(high) or 1.0
    return (float(low), float(high)) if high > low else (float(low - spread), float(high + spread))


def _ends(values: np.ndarray) -> np.ndarray:
    """Return the mean minus and plus the standard deviation, of two values or more: (2,)."""
    return values.mean() + values.std(ddof=1) * np.array([-1.0, 1.0])


def _draw_row(ax: "Axes", row: int, values: np.ndarray, limits: tuple[float, float], colour: str) -> None:
    """Draw the runs of a combination; those beyond the axis are triangles at its edges."""
    low, high = limits
    inside = values[(values >= low) & (values <= high)]
    ax.plot(inside, np.full(len(inside), row), "o", color=colour, alpha=0.45, ms=5, mew=0, clip_on=False)
    for edge, marker, count in ((low, "<", np.sum(values < low)), (high, ">", np.sum(values > high))):
        if count:
            ax.plot(edge, row, marker, color=colour, ms=7, mew=0, clip_on=False)
    if len(values) > 1 and low <= values.mean() <= high:
        ax.plot(np.clip(_ends(values), low, high), [row, row], color=colour, lw=1.6, solid_capstyle="butt")
        ax.plot(values.mean(), row, "|", color="black", ms=13, mew=1.8)
