"""Draws the search for a learning rate."""

from typing import TYPE_CHECKING, Any, Self

import numpy as np

from fastnn.errors import DataError
from fastnn.plots.display import BLUE, GREY, VERMILION, Display, tidy
from fastnn.training.rate_search import RateSearch

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MAX_LOSS = 1.5  # the top of the loss axis, as a multiple of the loss before training: beyond it, a run has failed


class RateSearchDisplay(Display):
    """The loss over the learning rate, of the range test and of the short runs, with the suggestion marked.

    Parameters
    ----------
    search : RateSearch
        The result of `fastnn.find_learning_rate`.

    Attributes
    ----------
    search : RateSearch
        As given.

    Raises
    ------
    DataError
        If `search` is not a RateSearch.

    Examples
    --------
    >>> import fastnn
    >>> from fastnn.plots import RateSearchDisplay
    >>> data = fastnn.load_digits()
    >>> search = fastnn.find_learning_rate(fastnn.Network.for_data(data, (16,)), data, backend="numpy")
    >>> RateSearchDisplay.from_search(search).save("rates.png").name
    'rates.png'
    """

    def __init__(self, search: RateSearch) -> None:
        if not isinstance(search, RateSearch):
            raise DataError(f"search is {type(search).__name__}, expected the result of find_learning_rate")
        self.search = search

    @classmethod
    def from_search(cls, search: RateSearch, ax: "Axes | None" = None) -> Self:
        """Plot `search` into `ax` or a new figure; the class describes the parameter."""
        return cls(search).plot(ax)

    def plot(self, ax: "Axes | None" = None) -> Self:
        """Draw both curves into `ax` or a new figure."""
        search, (axes,) = self.search, self._panels(ax, 1, "one", (6.4, 3.8))
        top = _MAX_LOSS * search.first_loss
        for rates, losses, style in (
            (search.rates, search.losses, {"color": GREY, "lw": 1.4, "label": "range test: rising rate"}),
            (search.trial_rates, search.trial_losses, {"color": BLUE, "lw": 1.8, "marker": "o", "label": "short runs"}),
        ):
            _draw(axes, rates, losses, top, style)
        chosen = int(np.abs(np.log(search.trial_rates / search.suggestion)).argmin())
        axes.axvline(search.suggestion, color=VERMILION, lw=0.9, zorder=1)
        axes.plot(
            search.trial_rates[chosen], search.trial_losses[chosen], "o", color=VERMILION, mec="black", mew=1.4, ms=7
        )
        right = search.suggestion > np.sqrt(search.trial_rates[0] / 100 * search.rates[-1])
        axes.text(
            search.suggestion, 1, f"  suggestion {search.suggestion:.2g}  ", transform=axes.get_xaxis_transform(),
            ha="right" if right else "left", va="top", color=VERMILION,
        )  # fmt: skip
        lowest = max(search.rates[0], search.trial_rates[0] / 100)  # below, the curve is flat
        axes.set(xscale="log", xlabel="learning rate", ylabel="loss", xlim=(lowest, search.rates[-1]), ylim=(0, top))
        axes.legend(frameon=False, loc="lower left")
        tidy(axes)
        return self


def _draw(ax: "Axes", rates: np.ndarray, losses: np.ndarray, top: float, style: dict[str, Any]) -> None:
    """Draw one curve; a loss above the axis, or one that is not finite, stands at its upper edge."""
    ax.plot(rates, np.minimum(np.nan_to_num(losses, nan=top, posinf=top), top), **style)
