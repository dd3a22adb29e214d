"""`Conv2D`: every channel looks for one small pattern everywhere in an image."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fastnn.checks import check_integer, short
from fastnn.errors import SettingsError
from fastnn.network.layers.base import Arrays, Forward, Gradients, Layer, Shape
from fastnn.network.layers.windows import Pair, as_pair, check_padding, describe_window, padded_sizes, window_grid


@dataclass(frozen=True)
class Conv2D(Layer):
    """A convolution: every output channel compares one small pattern with every place of an image.

    For an input of shape (C, H, W), the weight has shape (C, kernel height, kernel width, channels), and the bias
    (channels,). The output has shape (channels, OH, OW) with ``OH = (H + 2 * padding - kernel) // stride + 1``, and OW
    likewise. As in all libraries of this field, the pattern is not mirrored: this is a cross-correlation.

    Parameters
    ----------
    channels : int
        The number of output channels (filters), 1 or more.
    kernel : int or (int, int)
        The height and the width of the pattern, 1 or more.
    stride : int or (int, int)
        The distance between neighbouring places, downwards and across, 1 or more.
    padding : int, (int, int) or "same"
        The number of rows and columns of zeros on each side of the image, less than the kernel. "same" stands for
        ``(kernel - 1) / 2``, which keeps height and width; it needs an odd kernel and stride 1.
    activation : str or None
        A name in `fastnn.network.activations.ACTIVATIONS`. None is "relu", but "identity" in the last layer.

    Raises
    ------
    SettingsError
        If an argument is out of range.

    References
    ----------
    .. [1] LeCun, Bottou, Bengio and Haffner 1998, "Gradient-based learning applied to document recognition", section
       II.

    Examples
    --------
    >>> import fastnn
    >>> layers = [fastnn.Conv2D(6, 5), fastnn.MaxPool2D(), fastnn.Dense(10)]
    >>> fastnn.Network.initialize((1, 28, 28), layers)
    Network(1x28x28 -> conv 5x5 6x24x24 relu -> max pool 2x2 6x12x12 -> 10 softmax, float32, 8,806 parameters)
    """

    kind: ClassVar[str] = "conv2d"
    default_activation: ClassVar[str] = "relu"

    channels: int
    kernel: Any = 3
    stride: Any = 1
    padding: Any = 0
    activation: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer(f"channels of {self.label}", self.channels, 1)
        kernel = as_pair(f"kernel of {self.label}", self.kernel)
        stride = as_pair(f"stride of {self.label}", self.stride)
        if not isinstance(self.padding, str):
            padding = as_pair(f"padding of {self.label}", self.padding, low=0)
        elif self.padding == "same":
            padding = _same_padding(kernel, stride)
        else:
            raise SettingsError(f"padding of {self.label} is {short(self.padding)}, expected numbers or 'same'")
        most = [size - 1 for size in kernel]
        check_padding(self.label, padding, most, "less than the kernel, so that every place sees a part of the image")
        for name, value in (("kernel", kernel), ("stride", stride), ("padding", padding)):
            object.__setattr__(self, name, value)  # a number and a pair of this number are equal layers

    def output_shape(self, input_shape: Shape) -> Shape:
        return (self.channels, *window_grid(self.kind, input_shape, self.kernel, self.stride, self.padding))

    def parameter_shapes(self, input_shape: Shape) -> tuple[Shape, Shape]:
        return (input_shape[0], *self.kernel, self.channels), (self.channels,)

    def fans(self, input_shape: Shape) -> tuple[int, int]:
        places = math.prod(self.kernel)
        return input_shape[0] * places, self.channels * places

    def n_multiplications(self, input_shape: Shape) -> int:
        return math.prod(self.parameter_shapes(input_shape)[0]) * math.prod(self.output_shape(input_shape)[1:])

    def n_scratch(self, input_shape: Shape) -> int:
        # The patches of all places, and the image with its padding.
        grid = self.output_shape(input_shape)[1:]
        padded = padded_sizes(input_shape, self.padding)
        return input_shape[0] * (math.prod(grid) * math.prod(self.kernel) + math.prod(padded))

    def forward(self, ops: Any, inp: np.ndarray, arrays: Arrays, training: bool) -> Forward:
        return Forward(ops.conv_forward(inp, arrays.weight, arrays.bias, self.stride, self.padding))

    def backward(
        self, ops: Any, dsums: np.ndarray, inp: np.ndarray, saved: Any, arrays: Arrays, needs_dinp: bool
    ) -> Gradients:
        return ops.conv_backward(dsums, inp, arrays.weight, self.stride, self.padding, needs_dinp)

    def unit_name(self, output_shape: Shape) -> str:
        return "filter"

    def describe(self, output_shape: Shape) -> str:
        return describe_window("conv", self.kernel, self.stride, (1, 1), self.padding, output_shape)


def _same_padding(kernel: Pair, stride: Pair) -> Pair:
    """Return the padding that keeps height and width; SettingsError if no equal padding of both sides does."""
    if stride != (1, 1):
        raise SettingsError(f"padding of a conv2d layer is 'same' with stride {stride}, expected stride 1, or numbers")
    if kernel[0] % 2 == 0 or kernel[1] % 2 == 0:
        raise SettingsError(
            f"padding of a conv2d layer is 'same' with kernel {kernel}, expected odd numbers: an even kernel would "
            "need more padding on one side than on the other"
        )
    return (kernel[0] - 1) // 2, (kernel[1] - 1) // 2
