"""Draws the predictions of a regression against the true numbers."""

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike

from fastnn.errors import DataError
from fastnn.plots.display import BLUE, GREY, Display, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class RegressionDisplay(Display):
    """Predicted against true numbers; points on the diagonal are exact.

    Parameters
    ----------
    targets : array-like of shape (N,) or (N, C)
        The true numbers; with several columns, all are drawn.
    predicted : array-like of the same shape

    Attributes
    ----------
    targets, predicted : ndarray of float64 and shape (N, C)

    Raises
    ------
    DataError
        If the shapes differ, there are no samples, or a number is not finite.

    Examples
    --------
    >>> from fastnn import plots
    >>> display = plots.RegressionDisplay.from_predictions([1, 2, 3], [1.5, 2, 2.5])
    >>> display.predicted.shape
    (3, 1)
    """

    def __init__(self, targets: ArrayLike, predicted: ArrayLike) -> None:
        self.targets, self.predicted = (_columns(values) for values in (targets, predicted))
        if self.targets.shape != self.predicted.shape or not self.targets.size:
            raise DataError(
                f"predicted has shape {self.predicted.shape}, expected {self.targets.shape} as targets, and samples"
            )
        if not (np.isfinite(self.targets).all() and np.isfinite(self.predicted).all()):
            raise DataError("targets or predicted contain NaN or infinity, expected finite numbers")

    @classmethod
    def from_predictions(cls, targets: ArrayLike, predicted: ArrayLike, ax: "Axes | None" = None) -> Self:
        """Plot the predictions into `ax` or a new figure; the class describes the other parameters."""
        return cls(targets, predicted).plot(ax)

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any, y: ArrayLike, ax: "Axes | None" = None) -> Self:
        """Predict `X` with an estimator or a model, and plot the predictions against `y`."""
        return cls.from_predictions(y, estimator.predict(X), ax)

    def plot(self, ax: "Axes | None" = None) -> Self:
        """Draw into `ax` or a new figure."""
        (panel,) = self._panels(ax, 1, "one", (4.8, 4.4))
        low = min(self.targets.min(), self.predicted.min())
        high = max(self.targets.max(), self.predicted.max())
        margin = 0.03 * (high - low) or 1.0
        span = (low - margin, high + margin)
        panel.plot(span, span, color=GREY, lw=0.8, zorder=1)
        size = float(np.clip(2000 / len(self.targets), 3, 20))
        for column in range(self.targets.shape[1]):
            panel.scatter(
                self.targets[:, column], self.predicted[:, column], s=size, color=BLUE, alpha=0.5, lw=0, zorder=2
            )
        panel.set(xlabel="true", ylabel="predicted", xlim=span, ylim=span)
        rmse = float(np.sqrt(((self.predicted - self.targets) ** 2).mean()))
        panel.set_title(f"{len(self.targets):,} samples, root mean squared error {rmse:.4g}", fontsize="medium")
        tidy(panel)
        return self


def _columns(values: ArrayLike) -> np.ndarray:
    array = np.asarray(values, np.float64)
    return array.reshape(-1, 1) if array.ndim == 1 else array
