"""`MaxPool2D` and `AvgPool2D`: every window of an image becomes one number, its maximum or its mean."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fastnn.network.layers.base import Arrays, Forward, Gradients, Layer, Shape
from fastnn.network.layers.windows import Pair, as_pair, check_padding, describe_window, padded_sizes, window_grid


@dataclass(frozen=True)
class _Pool2D(Layer):
    """What both pools have in common: a window that moves over each channel of an image."""

    size: Any = 2
    stride: Any = None
    padding: Any = 0
    activation: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        size = as_pair(f"size of {self.label}", self.size)
        stride = size if self.stride is None else as_pair(f"stride of {self.label}", self.stride)
        padding = as_pair(f"padding of {self.label}", self.padding, low=0)
        most = [each // 2 for each in size]
        check_padding(self.label, padding, most, "half the size, so that every window sees a part of the image")
        for name, value in (("size", size), ("stride", stride), ("padding", padding)):
            object.__setattr__(self, name, value)  # a number and a pair of this number are equal layers

    @property
    def windows(self) -> tuple[Pair, Pair, Pair]:
        """The size, the stride and the padding, as the operations of a backend take them."""
        return self.size, self.stride, self.padding

    def output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], *window_grid(self.kind, input_shape, *self.windows))

    def n_scratch(self, input_shape: Shape) -> int:
        # The image with its padding.
        return input_shape[0] * math.prod(padded_sizes(input_shape, self.padding)) if any(self.padding) else 0

    def describe(self, output_shape: Shape) -> str:
        words = self.kind.removesuffix("2d").replace("_", " ")
        return describe_window(words, self.size, self.stride, self.size, self.padding, output_shape)


@dataclass(frozen=True)
class MaxPool2D(_Pool2D):
    """The largest number of each window of each channel.

    If several numbers of a window are the largest, the first one in row-major order gets the whole gradient.

    Parameters
    ----------
    size : int or (int, int)
        The height and the width of a window, 1 or more.
    stride : int, (int, int) or None
        The distance between neighbouring windows, downwards and across, 1 or more. None: `size`. Rows and columns at
        the bottom and on the right that fill no window are not used.
    padding : int or (int, int)
        The number of rows and columns that are added on each side, at most half the size. They never count as the
        largest.
    activation : str or None
        A name in `fastnn.network.activations.ACTIVATIONS`; None is "identity". After a layer with "identity", "relu"
        here gives the same result as "relu" there, for a quarter of the work with the default size.

    Raises
    ------
    SettingsError
        If an argument is out of range.

    Examples
    --------
    >>> import fastnn
    >>> fastnn.MaxPool2D().output_shape((6, 25, 24))
    (6, 12, 12)
    """

    kind: ClassVar[str] = "max_pool2d"

    def forward(self, ops: Any, inp: np.ndarray, arrays: Arrays, training: bool) -> Forward:
        return Forward(*ops.max_pool(inp, *self.windows))

    def backward(
        self, ops: Any, dsums: np.ndarray, inp: np.ndarray, saved: Any, arrays: Arrays, needs_dinp: bool
    ) -> Gradients:
        if not needs_dinp:
            return None, None, None
        return ops.max_pool_backward(dsums, saved, inp.shape, *self.windows), None, None


@dataclass(frozen=True)
class AvgPool2D(_Pool2D):
    """The mean of each window of each channel.

    Parameters
    ----------
    size : int or (int, int)
        The height and the width of a window, 1 or more.
    stride : int, (int, int) or None
        The distance between neighbouring windows, downwards and across, 1 or more. None: `size`. Rows and columns at
        the bottom and on the right that fill no window are not used.
    padding : int or (int, int)
        The number of rows and columns of zeros on each side, at most half the size. They count in the mean.
    activation : str or None
        A name in `fastnn.network.activations.ACTIVATIONS`; None is "identity".

    Raises
    ------
    SettingsError
        If an argument is out of range.

    Examples
    --------
    >>> import fastnn
    >>> fastnn.AvgPool2D(3, stride=2).output_shape((6, 25, 24))
    (6, 12, 11)
    """

    kind: ClassVar[str] = "avg_pool2d"

    def forward(self, ops: Any, inp: np.ndarray, arrays: Arrays, training: bool) -> Forward:
        return Forward(ops.avg_pool(inp, *self.windows))

    def backward(
        self, ops: Any, dsums: np.ndarray, inp: np.ndarray, saved: Any, arrays: Arrays, needs_dinp: bool
    ) -> Gradients:
        if not needs_dinp:
            return None, None, None
        return ops.avg_pool_backward(dsums, inp.shape, *self.windows), None, None
