"""Draws how much each feature of a table moves the first layer of a network."""

from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import ArrayLike

from fastnn.errors import DataError
from fastnn.network import Network
from fastnn.plots.display import BLUE, Display, Names, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST = 20


class FeaturesDisplay(Display):
    """Bars of the features that move the first layer most, largest first.

    The influence of a feature is the root mean square, over the units of the first layer, of its weight times the
    standard deviation of the layer's input: of two features with equal weights, the one that varies more counts more.
    It tells what the network looks at, not what the data depend on.

    Parameters
    ----------
    network : Network
        D inputs.
    inputs : array-like of shape (N, D)
        The samples that give the standard deviations.
    feature_names : sequence of D names, optional
        By default "feature 0" to "feature D - 1".

    Attributes
    ----------
    influences : ndarray of float64 and shape (D,)
    feature_names : list of D str

    Raises
    ------
    DataError
        If the shapes do not fit, or the first layer has no weights.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnn
    >>> from fastnn.plots import FeaturesDisplay
    >>> network = fastnn.Network.initialize((2, 3, 2), seed=0)
    >>> FeaturesDisplay(network, np.array([[0.0, 5.0], [1.0, 5.0]])).influences[1]  # a constant column
    np.float64(0.0)
    """

    def __init__(self, network: Network, inputs: ArrayLike, feature_names: Names = None) -> None:
        values = np.asarray(inputs, np.float64)
        if values.ndim != 2 or values.shape[1] != network.n_inputs or not len(values):
            raise DataError(f"inputs have shape {values.shape}, expected (samples, {network.n_inputs})")
        weight = np.asarray(network.weights[0], np.float64)
        if len(weight) != network.n_inputs:
            raise DataError(f"the first layer has {len(weight)} weights a unit, expected {network.n_inputs}")
        given = [f"feature {j}" for j in range(network.n_inputs)] if feature_names is None else feature_names
        if len(given) != network.n_inputs:
            raise DataError(f"{len(given)} feature_names, expected {network.n_inputs}")
        self.feature_names = [str(name) for name in given]
        standardization = network.standardization
        factor = network.input_scale if standardization is None else np.asarray(standardization.scale, np.float64)
        self.influences = np.sqrt((weight**2).mean(axis=1)) * np.abs(values.std(axis=0) * factor)

    def plot(self, ax: "Axes | None" = None) -> Self:
        """Draw up to 20 bars into `ax` or a new figure."""
        order = np.argsort(-self.influences, kind="stable")[:_MOST]
        (ax,) = self._panels(ax, 1, "one", (6.4, 1.2 + 0.28 * len(order)))
        names = [name if len(name) <= 30 else f"{name[:28]} ..." for name in (self.feature_names[j] for j in order)]
        ax.barh(range(len(order)), self.influences[order], color=BLUE)
        ax.set_yticks(range(len(order)), names, parse_math=False)
        ax.invert_yaxis()
        ax.set(xlabel="influence on the first layer: weights times deviation")
        tidy(ax)
        return self
