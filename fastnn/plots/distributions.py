"""Draws the distributions of weights and gradients in each layer, and counts dead units."""

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike

from fastnn.backends import layerwise, reference
from fastnn.backends.arguments import check_inputs
from fastnn.checks import check_integer
from fastnn.datasets.arrays import as_array
from fastnn.datasets.dataset import Dataset
from fastnn.errors import DataError
from fastnn.models import Model, as_model
from fastnn.network import Network
from fastnn.network.layers import n_units
from fastnn.plots.display import BLUE, VERMILION, Display, percent, tidy
from fastnn.plots.labels import class_array, class_numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class DistributionsDisplay(Display):
    """Histograms of each layer's weights and, with labelled samples, of their gradients. The titles count dead units.

    A hidden unit is dead if it outputs 0 for every given sample, and a filter or another channel of images if it
    outputs 0 everywhere. With ReLU, its gradient is then 0, so it cannot learn from these samples.

    Parameters
    ----------
    network : Network, Model, result of `train` or fitted estimator
        It has L layers with weights.
    images : array-like of shape (N, D), or Dataset, optional
        Samples, unscaled: the network applies its `input_scale`. A Dataset also has the labels.
    labels : array-like of shape (N,), optional
        The true classes: class numbers of a network, otherwise labels of the model or estimator.
        The gradients are those of the mean loss over these samples, without L2 and dropout.
    n_bins : int
        The number of bins per histogram, 1 or more.

    Attributes
    ----------
    weights : list of L ndarray
        The weights of each layer, without biases.
    gradients : list of L ndarray, or None
        The gradients of the weights, with the same shapes; None without labels.
    dead : list of ndarray of bool and shape (H,), or None
        For each hidden layer, whether each of its H units or channels is dead; None without images.

    Raises
    ------
    DataError
        If the samples do not match the network, or labels are given without images.
    SettingsError
        If `n_bins` is not a positive whole number.
    """

    def __init__(
        self,
        network: Any,
        images: ArrayLike | Dataset | None = None,
        labels: ArrayLike | None = None,
        n_bins: int = 60,
    ) -> None:
        model = as_model(network)
        network = model.network
        if isinstance(images, Dataset):
            images, labels = _of_dataset(images, labels)
        self.network, self.n_bins = network, check_integer("n_bins", n_bins, 1)
        self.weights = list(network.weights)
        self.gradients: list[np.ndarray] | None = None
        self.dead: list[np.ndarray] | None = None
        self.n_samples = 0
        if images is None:
            if labels is not None:
                raise DataError("labels are given without images, expected both or none")
            return
        inp = check_inputs(network, as_array(images, "images"))
        if not len(inp):
            raise DataError("images are empty, expected at least one sample")
        self.n_samples = len(inp)
        targets = None if labels is None else _targets(model, labels)
        self.dead, self.gradients = _measured(network.core, inp, targets)

    @classmethod
    def from_network(
        cls,
        network: Any,
        images: ArrayLike | Dataset | None = None,
        labels: ArrayLike | None = None,
        n_bins: int = 60,
        ax: Any = None,
    ) -> Self:
        """Plot the distributions into `ax` (see `plot`) or a new figure; the class describes the other parameters."""
        return cls(network, images, labels, n_bins).plot(ax)

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any = None, y: Any = None, *, n_bins: int = 60, ax: Any = None) -> Self:
        """Plot the distributions of a fitted estimator, with the gradients for X and y; see the class and `plot`."""
        return cls(estimator, X, y, n_bins).plot(ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw one row per layer into `ax` or a new figure.

        `ax` holds L Axes, or 2 L with labels: weights and gradients of the first layer, then of the second, ...
        SettingsError if it holds another number.
        """
        layers, columns = len(self.weights), 1 if self.gradients is None else 2
        expected = f"{layers * columns}: {columns} for each of {layers} layers"
        size = (4.6 * columns, 2.4 * layers + 0.2)
        panels = self._panels(ax, layers * columns, expected, size, nrows=layers, ncols=columns)
        numbers = [number for number, (_, arrays) in enumerate(self.network.chain(), 1) if arrays.weight is not None]
        for panel, (number, weight) in enumerate(zip(numbers, self.weights, strict=True)):
            row = panels[panel * columns : (panel + 1) * columns]
            self._draw(row[0], weight, BLUE, f"weight of layer {number}")
            row[0].set_title(self._title(number, weight), fontsize=10)
            if self.gradients is not None:
                gradient = self.gradients[panel]
                self._draw(row[1], gradient, VERMILION, f"gradient of layer {number}")
                zeros = percent(round(float(np.mean(gradient == 0)), 3))
                row[1].set_title(f"gradients: {zeros} are exactly 0", fontsize=10)
        self.axes_ = np.array(panels, dtype=object).reshape(layers, columns)
        return self

    def _draw(self, ax: "Axes", values: np.ndarray, colour: str, label: str) -> None:
        ax.hist(values.ravel().astype(np.float64), self.n_bins, color=colour, log=True)
        ax.set(xlabel=label, ylabel="count")
        ax.locator_params(axis="x", nbins=6)
        tidy(ax)

    def _title(self, number: int, weight: np.ndarray) -> str:
        title = f"layer {number}: {' x '.join(f'{size:,}' for size in weight.shape)} weights"
        if self.dead is None or number > len(self.dead):
            return title
        dead = self.dead[number - 1]
        unit = self.network.layers[number - 1].unit_name(self.network.shapes[number])
        return f"{title}, {dead.sum():,} of {len(dead):,} {unit}s dead"


def _measured(
    network: Network, inp: Any, targets: np.ndarray | None
) -> tuple[list[np.ndarray], list[np.ndarray] | None]:
    """Return the dead units of each hidden layer, and the gradients of the weights: None without targets."""
    n_rows, n_samples = layerwise.rows_at_once(network, len(inp)), len(inp)
    dead = [np.ones(n_units(shape), bool) for shape in network.shapes[1:-1]]
    gradients: list[np.ndarray] = []
    for first in range(0, n_samples, n_rows):
        block = slice(first, first + n_rows)
        for units, each in zip(dead, layerwise.forward(reference, network, inp[block]), strict=False):
            units &= ~each.active_units
        if targets is not None:
            of_block = reference.loss_and_gradients(network, inp[block], targets[block]).dweights
            share = network.dtype.type(len(inp[block]) / n_samples)
            scaled = [share * gradient for gradient in of_block]
            gradients = [a + b for a, b in zip(gradients, scaled, strict=True)] if gradients else scaled
    return dead, None if targets is None else gradients


def _of_dataset(data: Dataset, labels: Any) -> tuple[np.ndarray, Any]:
    """Return the images and, unless `labels` are given, the labels of a data set, as its classes if it has some."""
    if labels is None and data.labels is not None:
        labels = data.labels if data.classes is None else np.array(data.classes, object)[data.labels]
    return data.images, labels


def _targets(model: Model, labels: Any) -> np.ndarray:
    """Return labels as the loss of the model's network uses them."""
    values = as_array(labels, "labels")
    if model.classes is None or model.is_multilabel or values.ndim > 1:
        return values
    numbers = values
    if model.classes != tuple(range(len(model.classes))) or values.dtype.kind not in "iu":
        numbers = class_numbers("labels", class_array("labels", labels), list(model.classes))
    return numbers if model.network.loss.uses_labels else numbers.astype(model.network.dtype)[:, None]
