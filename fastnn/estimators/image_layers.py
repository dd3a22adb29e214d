"""`ImageLayersMixin`: estimators whose networks have layers for images, given as a sequence of layers."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from fastnn.checks import is_count, short
from fastnn.datasets.sparse import is_sparse
from fastnn.estimators.parameters import COUNT, NONE, RULES, Rule, instance, items
from fastnn.models.model import Model
from fastnn.network import Conv2D, Dense, Layer, MaxPool2D, Network
from fastnn.network.layers import Shape, array_shapes, parse_layers
from fastnn.network.network import chain_shapes, hidden_activations

# LeNet-5's layers need so many rows and columns: kernels of 5 x 5, each before a pool, leave nothing of fewer.
MIN_SIZE_OF_LENET = 16
# An image with more channels than this, and no more columns, is taken for one whose channels come last.
MAX_COLOURS = 4

_RULES = {
    "layers": Rule(
        "layers and whole numbers of units, 1 or more, in a sequence",
        lambda value: all(isinstance(each, Layer) or is_count(each) for each in items(value)),
    )
    | instance("a text such as 'conv:6x5,pool:2,120'", str)
    | NONE,
    "image_shape": Rule(
        "two or three sizes, (height, width) or (channels, height, width), one of which may be -1",
        lambda value: (
            len(items(value)) in (2, 3)
            and all(COUNT.accepts(each) or _is_free(each) for each in items(value))
            and sum(map(_is_free, items(value))) <= 1
        ),
    )
    | NONE,
}


def _is_free(size: Any) -> bool:
    """Return whether a size is -1, which stands for the number that the other sizes leave."""
    return is_count(size, -1) and size == -1


def default_layers(image_shape: Shape) -> list[Layer]:
    """Return hidden layers that suit images of this shape, (channels, height, width).

    From 16 x 16 pixels on, they are those of LeNet-5 [1]_ with ReLU and maxima. For smaller images, they are two
    convolutions and a dense layer: along a side, kernels have 3 pixels if there are so many, else 1, and pools halve 4
    pixels or more.

    References
    ----------
    .. [1] LeCun, Bottou, Bengio and Haffner 1998, "Gradient-based learning applied to document recognition".

    Examples
    --------
    >>> from fastnn.estimators.image_layers import default_layers
    >>> [layer.kind for layer in default_layers((1, 8, 8))]
    ['conv2d', 'max_pool2d', 'conv2d', 'dense']
    """
    sides = image_shape[1:]
    if min(sides) >= MIN_SIZE_OF_LENET:
        return [Conv2D(6, 5), MaxPool2D(), Conv2D(16, 5), MaxPool2D(), Dense(120), Dense(84)]
    layers: list[Layer] = []
    for channels in (16, 32):
        kernel = tuple(3 if side >= 3 else 1 for side in sides)
        sides = tuple(side - size + 1 for side, size in zip(sides, kernel, strict=True))
        pool = tuple(2 if side >= 4 else 1 for side in sides)
        sides = tuple(side // size for side, size in zip(sides, pool, strict=True))
        layers += [Conv2D(channels, kernel), MaxPool2D(pool)] if max(pool) > 1 else [Conv2D(channels, kernel)]
    return [*layers, Dense(64)]


def resolved_image_shape(image_shape: Any, row_shape: Sequence[int]) -> Shape:
    """Return (channels, height, width) of images; ValueError if there is no such shape.

    Parameters
    ----------
    image_shape : sequence of 2 or 3 int, or None
        The parameter: (height, width) or (channels, height, width). A size of -1 is what the others leave of a row.
        None: the shape of the array, or a square.
    row_shape : sequence of int
        The shape of a row of the data: (n_features,), (height, width) or (channels, height, width).
    """
    n_features = math.prod(row_shape)
    if image_shape is None and len(row_shape) > 1:
        if len(row_shape) == 3 and row_shape[2] <= MAX_COLOURS < row_shape[0]:
            raise ValueError(
                f"X has images of shape {tuple(row_shape)}, whose channels seem to come last, expected (channels, "
                "height, width): X.transpose(0, 3, 1, 2), or this shape as image_shape"
            )
        return _with_channels(row_shape)
    if image_shape is None:
        side = math.isqrt(n_features)
        if side**2 != n_features:
            raise ValueError(
                f"X has {n_features} features, expected a square number of them, or image_shape: (height, width), "
                f"(channels, height, width), or (1, -1) for signals"
            )
        return 1, side, side
    sizes = [int(size) for size in image_shape]
    known = math.prod(size for size in sizes if size != -1)
    shape = _with_channels([n_features // known if size == -1 else size for size in sizes])
    if 0 in shape or math.prod(shape) != n_features or (len(row_shape) > 1 and shape != _with_channels(row_shape)):
        found = f"{n_features} features" if len(row_shape) == 1 else f"images of shape {tuple(row_shape)}"
        product = f", {known} features" if -1 not in sizes and len(row_shape) == 1 else ""
        raise ValueError(f"X has {found}, expected image_shape {tuple(sizes)}{product}")
    return shape


def _with_channels(shape: Sequence[int]) -> Shape:
    """Return (channels, height, width), given that, or (height, width) of images with one channel."""
    return (1, *shape) if len(shape) == 2 else tuple(shape)


class ImageLayersMixin(BaseEstimator):
    """Mixin that makes layers of the parameters `layers`, `activation` and `image_shape`."""

    _rules = RULES | _RULES
    _accepts_sparse = False  # a convolution reads the zeros of an image, too

    layers: Any
    activation: Any
    image_shape: Any
    image_shape_: Shape
    network_: Network
    n_features_in_: int

    def _new_chain(self, n_outputs: int) -> tuple[Shape, list[Layer]]:
        """Return the shape of an input row, and all layers of a new network, each with its activation."""
        if self.layers is None:
            given = default_layers(self.image_shape_)
        else:
            given = parse_layers(self.layers) if isinstance(self.layers, str) else items(self.layers)
        layers = [each if isinstance(each, Layer) else Dense(int(each)) for each in given]
        # Layers that do nothing but rescale or choose, such as pools, have no activation unless they name one.
        is_unnamed = [each.activation is None and each.default_activation != "identity" for each in layers]
        names = iter(hidden_activations(sum(is_unnamed), self.activation))
        hidden = [
            each.with_activation(next(names) if unnamed else each.activation or each.default_activation)
            for each, unnamed in zip(layers, is_unnamed, strict=True)
        ]
        return self.image_shape_, [*hidden, Dense(n_outputs, "identity")]

    def _continued_chain(self, network: Network) -> tuple[Shape, list[Layer]]:
        """Return the same of a network that trains on; ValueError if its arrays have other shapes."""
        shape, layers = self._new_chain(network.n_outputs)
        wanted = array_shapes(layers, chain_shapes(shape, layers)[:-1])
        if wanted != array_shapes(network.layers, network.shapes[:-1]):
            raise ValueError(f"{self._chain_given()}, expected layers with the weights of the previous fit, {network}")
        return shape, layers

    def _check_chain(self) -> None:
        """Do nothing: a new fit can build every network."""

    def _chain_given(self) -> str:
        """Return the parameter that asks for the layers, for the messages of errors."""
        return f"layers is {short(self.layers)}"

    @classmethod
    def _chain_parameters(cls, model: Model) -> dict[str, Any]:
        """Return the parameters for an estimator with the network of a model."""
        return {"layers": model.network.layers[:-1], "image_shape": _image_shape_of(model)}

    def _set_model_fields(self, model: Model) -> None:
        super()._set_model_fields(model)
        self.image_shape_ = _image_shape_of(model)

    # --- Images ------------------------------------------------------------------------------------------------------
    def _as_rows(self, X: Any, reset: bool) -> Any:
        """Return X with a row for each image, if it is an array or a list of images.

        Raises ValueError if the images have another shape than in the fit, unless this is the fit, as `reset` says.
        """
        if _are_images(X):
            others = [each for each in X if np.shape(each) != X[0].shape]
            if others:
                found = f"{X[0].shape} and {np.shape(others[0])}"
                raise ValueError(f"X has images of shape {found}, expected one shape for all")
            X = np.asarray(X)
        shape = getattr(X, "shape", ())
        if is_sparse(X) or len(shape) not in (3, 4):
            return X
        if not reset and _with_channels(shape[1:]) != self.image_shape_:
            raise ValueError(f"X has images of shape {tuple(shape[1:])}, expected {self.image_shape_} as in the fit")
        return np.asarray(X).reshape(len(X), math.prod(shape[1:]))

    def _check_image_shape(self, X: Any, warm: bool) -> None:
        """Set `image_shape_`; ValueError if `image_shape` does not fit X, the data as they were given to a fit."""
        if not warm or self.image_shape is not None:
            row = np.shape(X[0]) if _are_images(X) else getattr(X, "shape", ())[1:]
            shape = resolved_image_shape(self.image_shape, row if len(row) > 1 else (self.n_features_in_,))
            if warm and shape != self.image_shape_:
                was = f"{self.image_shape_} as in the previous fit"
                raise ValueError(f"image_shape is {self.image_shape}, expected {was}")
            self.image_shape_ = shape
        if self.augment is not None and self._picture_shape is None:
            raise ValueError(
                f"augment is set for images of shape {self.image_shape_}, expected one channel, and two or more "
                "rows and columns"
            )

    @property
    def _picture_shape(self) -> tuple[int, int] | None:
        """The (height, width) of the image with one channel in a row; None for channels, and for signals of one row."""
        channels, height, width = self.image_shape_
        return (height, width) if channels == 1 < min(height, width) else None


def _are_images(X: Any) -> bool:
    """Return whether X is a list of arrays that are images."""
    return isinstance(X, (list, tuple)) and len(X) > 0 and isinstance(X[0], np.ndarray) and X[0].ndim > 1


def _image_shape_of(model: Model) -> Shape:
    """Return (channels, height, width) of the inputs of a model. Inputs that are no images are a single row."""
    shape = model.network.shapes[0]
    if len(shape) == 3:
        return shape
    return (1, *(model.image_shape or (1, model.network.n_inputs)))
