"""Draws the filters of a convolution, and the feature maps of all layers for one image."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

from numpy.typing import ArrayLike

from fastnn.backends import layerwise, reference
from fastnn.backends.arguments import check_inputs
from fastnn.checks import check_integer, short
from fastnn.errors import SettingsError
from fastnn.evaluation.images import picture, single_image
from fastnn.models import as_model
from fastnn.network import ACTIVATIONS, Conv2D, Network
from fastnn.plots.display import Display
from fastnn.plots.montage import draw_signed_montage, montage_size
from fastnn.plots.weights import WEIGHTS_SHOWN

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS, _MOST_COLUMNS = 10, 16
_WIDTH = 9.0  # of all pictures in a row, in inches
# By default, up to _MOST_FILTERS filters are drawn, and fewer if these have more than _MOST_PICTURES channels.
_MOST_FILTERS, _MOST_PICTURES = 40, 160


class FiltersDisplay(Display):
    """The filters of a convolution as small pictures, one for each input channel.

    Positive weights are blue, and negative weights are orange. Both scales end at the same magnitude, which 99.5 % of
    the weights do not exceed. A filter responds most to a patch whose inputs are large where the filter is blue and
    small where it is orange.

    Parameters
    ----------
    network : Network, Model, result of `train` or fitted estimator
    layer : int, optional
        The number of a `Conv2D` layer, from 1. By default the first one.
    n : int, optional
        The maximum number of filters to draw, 1 or more. By default 40, or as many as have 160 channels together.

    Attributes
    ----------
    layer : int
        The number of the layer.
    images : ndarray of shape (K, channels, height, width)
        The weights of the K filters drawn.
    n_filters : int
        The number of filters of the layer.

    Raises
    ------
    SettingsError
        If the network has no such convolution, or `n` is not a positive whole number.

    References
    ----------
    .. [1] Krizhevsky, Sutskever and Hinton 2012, "ImageNet classification with deep convolutional neural networks",
       figure 3.

    Examples
    --------
    >>> import fastnn
    >>> from fastnn.plots import FiltersDisplay
    >>> layers = [fastnn.Conv2D(6, 5), fastnn.MaxPool2D(), fastnn.Conv2D(16, 5), fastnn.Dense(10)]
    >>> network = fastnn.Network.initialize((1, 28, 28), layers)
    >>> FiltersDisplay(network).images.shape, FiltersDisplay(network, layer=3).images.shape
    ((6, 1, 5, 5), (16, 6, 5, 5))
    """

    def __init__(self, network: Any, layer: int | None = None, n: int | None = None) -> None:
        network = as_model(network).network
        weights = {
            number: arrays.weight
            for number, (each, arrays) in enumerate(network.chain(), start=1)
            if isinstance(each, Conv2D)
        }
        if not weights:
            raise SettingsError(f"{network} has no convolution, expected a Conv2D layer: WeightsDisplay draws units")
        self.layer = next(iter(weights)) if layer is None else _of_convolution(layer, list(weights), network)
        weight = weights[self.layer]
        n_channels, _, _, self.n_filters = weight.shape
        most = min(_MOST_FILTERS, max(1, _MOST_PICTURES // n_channels)) if n is None else check_integer("n", n, 1)
        self.images = weight.transpose(3, 0, 1, 2)[:most]

    @classmethod
    def from_network(
        cls, network: Any, layer: int | None = None, n: int | None = None, ax: "Axes | None" = None
    ) -> Self:
        """Plot the filters of `network` into `ax` or a new figure; the class describes the other parameters."""
        return cls(network, layer, n).plot(ax)

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, layer: int | None = None, n: int | None = None, ax: "Axes | None" = None
    ) -> Self:
        """Plot the filters of a fitted estimator; the class describes the other parameters."""
        return cls(estimator, layer, n).plot(ax)

    def plot(self, ax: "Axes | None" = None) -> Self:
        """Draw the pictures into `ax` or a new figure: filter after filter, the channels of each side by side."""
        n_drawn, n_channels, height, width = self.images.shape
        columns = _COLUMNS
        if n_channels > 1:  # whole filters in a row, if they fit
            columns = n_channels * max(1, _MOST_COLUMNS // n_channels) if n_channels <= _MOST_COLUMNS else _MOST_COLUMNS
        pictures = self.images.reshape(-1, height, width)
        size = montage_size(len(pictures), (height, width), columns, _WIDTH)
        (ax,) = self._panels(ax, 1, "one", (max(size[0], 4.0) + 0.6, size[1] + 0.5))
        names = [
            str(each) if n_channels == 1 else f"{each}, {channel}"
            for each in range(n_drawn)
            for channel in range(n_channels)
        ]
        draw_signed_montage(ax, pictures, names, columns, "weight", WEIGHTS_SHOWN)
        shown = "all" if n_drawn == self.n_filters else f"{n_drawn:,} of"
        channels = "" if n_channels == 1 else "; filter, channel"
        ax.set_title(f"{shown} {self.n_filters:,} filters of layer {self.layer}{channels}", fontsize=11)
        return self


def _of_convolution(layer: Any, numbers: list[int], network: Network) -> int:
    """Return the number of a convolution; SettingsError if `layer` is none of their numbers."""
    if layer not in numbers:
        expected = " or ".join(map(str, numbers))
        raise SettingsError(f"layer is {short(layer)}, expected a convolution of {network}: {expected}")
    return int(layer)


class FeatureMapsDisplay(Display):
    """One image, and for this image the output of every layer that gives images: its feature maps.

    Positive outputs are blue, and negative ones are orange. Every layer has a scale of its own, for all of its maps.

    Parameters
    ----------
    network : Network, Model, result of `train` or fitted estimator
    image : array-like of shape (D,), (height, width) or (channels, height, width)
        One row of inputs, unscaled: the network applies its `input_scale`.
    n : int
        The maximum number of maps to draw of a layer, 1 or more.

    Attributes
    ----------
    image : ndarray of shape (height, width)
        The image; the mean of its channels if it has several.
    maps : dict of int to ndarray of shape (channels, height, width)
        All maps of each layer, by the number of the layer, computed by the reference backend.

    Raises
    ------
    DataError
        If the image does not match the network.
    SettingsError
        If no layer gives images, or `n` is not a positive whole number.

    References
    ----------
    .. [1] LeCun, Bottou, Bengio and Haffner 1998, "Gradient-based learning applied to document recognition", figure 2.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnn
    >>> from fastnn.plots import FeatureMapsDisplay
    >>> layers = [fastnn.Conv2D(6, 5), fastnn.MaxPool2D(), fastnn.Dense(10)]
    >>> network = fastnn.Network.initialize((1, 28, 28), layers)
    >>> {layer: maps.shape for layer, maps in FeatureMapsDisplay(network, np.ones((28, 28))).maps.items()}
    {1: (6, 24, 24), 2: (6, 12, 12)}
    """

    def __init__(self, network: Any, image: ArrayLike, n: int = 20) -> None:
        model = as_model(network)
        self.network, self.n = model.network, check_integer("n", n, 1)
        if not any(len(shape) == 3 for shape in self.network.shapes[1:]):
            raise SettingsError(
                f"{self.network} has no feature maps, expected a layer such as Conv2D: ActivationsDisplay draws units"
            )
        row, shape = single_image(model, image)
        self.image = picture(row, shape)
        passes = layerwise.forward(reference, self.network.core, check_inputs(self.network, row[None]))
        self.maps = {number: each.out[0] for number, each in enumerate(passes, start=1) if each.out.ndim == 4}

    @classmethod
    def from_network(cls, network: Any, image: ArrayLike, n: int = 20, ax: "Sequence[Axes] | None" = None) -> Self:
        """Run `image` through `network` and plot into `ax` (see `plot`) or a new figure.

        The class describes the other parameters.
        """
        return cls(network, image, n).plot(ax)

    @classmethod
    def from_estimator(
        cls, estimator: Any, image: ArrayLike, *, n: int = 20, ax: "Sequence[Axes] | None" = None
    ) -> Self:
        """Run `image` through a fitted estimator and plot; the class describes the other parameters."""
        return cls(estimator, image, n).plot(ax)

    def plot(self, ax: "Sequence[Axes] | None" = None) -> Self:
        """Draw the image and the maps into `ax` or a new figure.

        `ax` holds an Axes for the image, and one for each layer with maps. SettingsError for another number.
        """
        drawn = {number: maps[: self.n] for number, maps in self.maps.items()}
        heights = [
            1.5,
            *(montage_size(len(maps), maps.shape[1:], _COLUMNS, _WIDTH)[1] + 0.35 for maps in drawn.values()),
        ]
        expected, size = f"{len(heights)}: for the image and for {len(drawn)} layers", (_WIDTH + 0.6, sum(heights))
        image_ax, *layer_axes = self._panels(
            ax, len(heights), expected, size, nrows=len(heights), ncols=1, height_ratios=heights
        )
        image_ax.imshow(self.image, cmap="gray_r", vmin=min(0.0, float(self.image.min())))
        image_ax.set(xticks=[], yticks=[], anchor="W")
        image_ax.set_title("image", fontsize=11, loc="left")
        for layer_ax, (number, maps) in zip(layer_axes, drawn.items(), strict=True):
            names = [str(channel) for channel in range(len(maps))]
            draw_signed_montage(layer_ax, maps, names, _COLUMNS, "output")
            layer_ax.set_anchor("W")
            layer_ax.set_title(self._title(number), fontsize=11, loc="left")
        return self

    def _title(self, number: int) -> str:
        """Return the layer's words in the repr of the network, and how many of its channels are drawn and active."""
        layer, maps = self.network.layers[number - 1], self.maps[number]
        unit = f"{layer.unit_name(maps.shape)}s"
        title = f"layer {number}: {layer.describe(maps.shape)}"
        if layer.activation != "identity":
            title += f" {layer.activation}"
        if len(maps) > self.n:
            title += f", the first {self.n:,} {unit}"
        if ACTIVATIONS[layer.activation].can_die:
            title += f", {maps.any(axis=(1, 2)).sum():,} of {len(maps):,} {unit} active"
        return title
