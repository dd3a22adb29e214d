"""Draws the weights of the first layer as images, and the activations of a hidden layer for one image."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike

from fastnn import evaluation
from fastnn.backends import layerwise, reference
from fastnn.backends.arguments import check_inputs
from fastnn.checks import check_integer
from fastnn.errors import SettingsError
from fastnn.evaluation.images import picture, single_image
from fastnn.models import as_model
from fastnn.plots.display import BLUE, Display, ImageShape, draw_bars, tidy
from fastnn.plots.montage import draw_signed_montage, montage_size

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The colour scale of weights ends at this percentile of the magnitudes. If it ended at the maximum, a few large weights
# would make all others look white.
WEIGHTS_SHOWN = 99.5


class WeightsDisplay(Display):
    """The incoming weights of the first `n` units of the first layer, one image per unit.

    Positive weights are blue, and negative weights are orange. Both scales end at the same magnitude, which 99.5 % of
    the weights do not exceed.

    Parameters
    ----------
    network : Network, Model, result of `train` or fitted estimator
    image_shape : tuple of int
        (height, width) of an image, with height * width = D. By default that of the model or estimator.
    n : int
        The maximum number of units to draw, 1 or more.

    Attributes
    ----------
    images : ndarray of shape (K, height, width)
        The weights of the K units drawn.
    n_units : int
        H, the number of units of the first layer.

    Raises
    ------
    DataError
        If `image_shape` does not match the network's inputs.
    SettingsError
        If `n` is not a positive whole number, or the first layer is not dense.
    """

    def __init__(self, network: Any, image_shape: ImageShape = None, n: int = 40) -> None:
        model = as_model(network)
        network, image_shape = model.network, model.image_shape if image_shape is None else image_shape
        weight = network.weights[0]
        if weight.ndim != 2:
            found = f"the first layer of {network} is {network.layers[0].kind}, expected a dense layer"
            raise SettingsError(f"{found}: FiltersDisplay draws convolutions")
        self.image_shape = evaluation.check_images(weight.T, image_shape, weight.shape[1])
        self.n_units = weight.shape[1]
        self.images = weight.T[: check_integer("n", n, 1)].reshape(-1, *self.image_shape)

    @classmethod
    def from_network(cls, network: Any, image_shape: ImageShape = None, n: int = 40, ax: "Axes | None" = None) -> Self:
        """Plot the weights of `network` into `ax` or a new figure; the class describes the other parameters."""
        return cls(network, image_shape, n).plot(ax)

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, image_shape: ImageShape = None, n: int = 40, ax: "Axes | None" = None
    ) -> Self:
        """Plot the weights of a fitted estimator; the class describes the other parameters."""
        return cls(estimator, image_shape, n).plot(ax)

    def plot(self, ax: "Axes | None" = None) -> Self:
        """Draw the images into `ax` or a new figure."""
        columns = 10
        width, height = montage_size(len(self.images), self.image_shape, columns, 9.0)
        (ax,) = self._panels(ax, 1, "one", (width + 0.6, height + 0.5))
        names = [str(unit) for unit in range(len(self.images))]
        draw_signed_montage(ax, self.images, names, columns, "weight", WEIGHTS_SHOWN)
        shown = "all" if len(self.images) == self.n_units else f"{len(self.images):,} of"
        ax.set_title(f"weights into {shown} {self.n_units:,} units of the first layer", fontsize=11)
        return self


class ActivationsDisplay(Display):
    """One image, and the output of each unit of a hidden layer for this image.

    Parameters
    ----------
    network : Network, Model, result of `train` or fitted estimator
    image : array-like of shape (D,) or (height, width)
        One row of inputs, unscaled: the network applies its `input_scale`.
    image_shape : tuple of int
        (height, width) of the image, with height * width = D. By default that of the image, the model or the estimator.
    layer : int
        The number of the hidden layer, from 1.

    Attributes
    ----------
    image : ndarray of shape (height, width)
    activations : ndarray of shape (H,)
        The output of each unit, computed by the reference backend.

    Raises
    ------
    DataError
        If the image does not match the network or `image_shape`.
    SettingsError
        If the hidden layer does not exist.
    """

    def __init__(self, network: Any, image: ArrayLike, image_shape: ImageShape = None, layer: int = 1) -> None:
        model = as_model(network)
        network = model.network
        n_hidden = len(network.sizes) - 2
        if not n_hidden:
            raise SettingsError(f"{network} has no hidden layer, expected at least one to draw its activations")
        self.layer, self.activation = check_integer("layer", layer, 1, n_hidden), network.layers[layer - 1].activation
        row, shape = single_image(model, image, image_shape)
        self.image = picture(row, shape)
        passes = layerwise.forward(reference, network.core, check_inputs(network, row[None]))
        self.activations = passes[self.layer - 1].out[0].reshape(-1)

    @classmethod
    def from_network(
        cls,
        network: Any,
        image: ArrayLike,
        image_shape: ImageShape = None,
        layer: int = 1,
        ax: "Sequence[Axes] | None" = None,
    ) -> Self:
        """Run `image` through `network` and plot into `ax` (two Axes) or a new figure.

        The class describes the other parameters.
        """
        return cls(network, image, image_shape, layer).plot(ax)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        image: ArrayLike,
        *,
        image_shape: ImageShape = None,
        layer: int = 1,
        ax: "Sequence[Axes] | None" = None,
    ) -> Self:
        """Run `image` through a fitted estimator and plot; the class describes the other parameters."""
        return cls(estimator, image, image_shape, layer).plot(ax)

    def plot(self, ax: "Sequence[Axes] | None" = None) -> Self:
        """Draw the image and the outputs into `ax`, two Axes, or a new figure; SettingsError for another number."""
        image_ax, units_ax = self._panels(
            ax, 2, "two: for the image and for the units", (9.0, 2.8), nrows=1, ncols=2, width_ratios=(1, 3.2)
        )
        image_ax.imshow(self.image, cmap="gray_r", vmin=min(0.0, float(self.image.min())))
        image_ax.set(xticks=[], yticks=[], title="image")
        draw_bars(units_ax, self.activations, BLUE)
        units_ax.set(xlabel=f"unit of hidden layer {self.layer}", ylabel=f"output ({self.activation})")
        active = f"{np.count_nonzero(self.activations):,} of {len(self.activations):,} units active"
        units_ax.set_title(active, fontsize=11)
        image_ax.title.set_fontsize(11)
        tidy(units_ax)
        return self
