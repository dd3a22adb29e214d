"""Convolutions and pools as plain loops in float64, straight from the formulas, to compare both backends with.

Images are (B, C, H, W), weights (C, KH, KW, O). Sizes, strides and paddings are (height, width).
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

Pair = tuple[int, int]


class Case(NamedTuple):
    """The sizes of a convolution or a pool; `channels` are those of the input, `filters` those of the output."""

    samples: int
    channels: int
    filters: int
    image: Pair
    window: Pair
    stride: Pair
    padding: Pair

    @property
    def grid(self) -> Pair:
        """The number of places, downwards and across: every start that leaves room for a window."""
        sizes = zip(self.image, self.window, self.stride, self.padding, strict=True)
        rows, columns = (len(range(0, size + 2 * pad - length + 1, step)) for size, length, step, pad in sizes)
        return rows, columns

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the input."""
        return (self.samples, self.channels, *self.image)

    @property
    def windows(self) -> tuple[Pair, Pair]:
        """Stride and padding, as the operations of a convolution expect them."""
        return self.stride, self.padding

    def seen(self) -> Iterator[tuple[Pair, Pair, int, int]]:
        """Yield (place, tap, row, column): the place sees this pixel of the image through the tap of its window."""
        for place in np.ndindex(self.grid):
            for tap in np.ndindex(self.window):
                numbers = zip(place, self.stride, tap, self.padding, strict=True)
                row, column = (at * step + within - pad for at, step, within, pad in numbers)
                if 0 <= row < self.image[0] and 0 <= column < self.image[1]:
                    yield place, tap, row, column

    def number(self, tap: Pair) -> int:
        """Return the number of a tap of a window, row by row."""
        return tap[0] * self.window[1] + tap[1]


# Every size of a case differs from the others where its name does not ask for equal ones.
CASES = {
    "one number": Case(1, 1, 1, (1, 1), (1, 1), (1, 1), (0, 0)),
    "1 x 1 kernel": Case(2, 5, 3, (4, 6), (1, 1), (1, 1), (0, 0)),
    "1 x 1 kernel, stride 2": Case(2, 3, 5, (4, 7), (1, 1), (2, 3), (0, 0)),
    "1 x 1 image": Case(3, 4, 2, (1, 1), (3, 3), (1, 1), (1, 1)),
    "all different": Case(2, 3, 4, (9, 7), (3, 5), (2, 1), (1, 2)),
    "wide": Case(3, 2, 5, (4, 11), (2, 3), (1, 2), (0, 1)),
    "one row": Case(2, 3, 4, (1, 9), (1, 3), (1, 1), (0, 1)),
    "kernel as large as the image": Case(4, 3, 2, (5, 6), (5, 6), (1, 1), (0, 0)),
    "remainder": Case(2, 3, 4, (8, 9), (3, 2), (2, 4), (0, 0)),
    "stride larger than kernel": Case(3, 2, 4, (11, 9), (2, 3), (4, 5), (0, 1)),
    "same": Case(2, 4, 3, (6, 5), (5, 3), (1, 1), (2, 1)),
    "largest padding": Case(2, 3, 4, (4, 5), (3, 4), (1, 2), (2, 3)),
    "LeNet": Case(2, 1, 6, (12, 11), (5, 5), (1, 1), (0, 0)),
    "more than a vector of everything": Case(33, 17, 18, (5, 6), (3, 3), (1, 1), (0, 0)),
}
# Pools have no filters; the padding is at most half the window.
POOLS = {
    "one number": Case(1, 1, 1, (1, 1), (1, 1), (1, 1), (0, 0)),
    "2 x 2": Case(3, 2, 1, (4, 6), (2, 2), (2, 2), (0, 0)),
    "remainder": Case(2, 3, 1, (7, 9), (2, 2), (2, 2), (0, 0)),
    "all different": Case(2, 5, 1, (8, 11), (3, 4), (2, 3), (1, 2)),
    "overlapping": Case(2, 3, 1, (7, 9), (3, 3), (2, 2), (0, 0)),
    "overlapping by a step": Case(3, 2, 1, (5, 4), (2, 3), (1, 1), (0, 0)),
    "padded": Case(2, 4, 1, (5, 6), (3, 2), (3, 2), (1, 1)),
    "stride larger than window": Case(2, 3, 1, (9, 11), (2, 3), (4, 5), (0, 1)),
    "whole image": Case(4, 3, 1, (5, 6), (5, 6), (5, 6), (0, 0)),
    "1 x 1": Case(2, 3, 1, (4, 5), (1, 1), (1, 1), (0, 0)),
    "1 x 1, stride 2": Case(2, 3, 1, (4, 5), (1, 1), (2, 2), (0, 0)),
    "one row": Case(2, 3, 1, (1, 8), (1, 3), (1, 2), (0, 1)),
    "more than a vector of everything": Case(33, 17, 1, (5, 6), (3, 2), (2, 1), (1, 1)),
}


def conv(case: Case, inp: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Return the sums of a convolution, (B, O, OH, OW)."""
    sums = np.empty((case.samples, case.filters, *case.grid))
    sums[...] = bias[:, None, None]
    for place, tap, row, column in case.seen():
        for channel in range(case.channels):
            sums[:, :, *place] += np.outer(inp[:, channel, row, column], weight[channel, *tap])
    return sums


def conv_gradients(
    case: Case, dsums: np.ndarray, inp: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the gradients of a convolution's input, weight and bias: each product of `conv`, both ways."""
    dinp, dweight, dbias = np.zeros(case.shape), np.zeros(weight.shape), np.zeros(case.filters)
    for place in np.ndindex(case.grid):
        dbias += dsums[:, :, *place].sum(axis=0)
    for place, tap, row, column in case.seen():
        for channel in range(case.channels):
            dweight[channel, *tap] += inp[:, channel, row, column] @ dsums[:, :, *place]
            dinp[:, channel, row, column] += dsums[:, :, *place] @ weight[channel, *tap]
    return dinp, dweight, dbias


def max_pool(case: Case, inp: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest number of each window, and its tap: the first of the largest, NaN before all numbers."""
    out = np.empty((case.samples, case.channels, *case.grid))
    taps = np.full(out.shape, -1, np.int32)
    for place, tap, row, column in case.seen():
        for of in np.ndindex(case.samples, case.channels):
            value, largest = inp[*of, row, column], out[*of, *place]
            if taps[*of, *place] < 0 or value > largest or (np.isnan(value) and not np.isnan(largest)):
                out[*of, *place], taps[*of, *place] = value, case.number(tap)
    return out, taps


def max_pool_gradient(case: Case, dout: np.ndarray, taps: np.ndarray) -> np.ndarray:
    """Return the gradient of the input of `max_pool`."""
    dinp = np.zeros(case.shape)
    for place, tap, row, column in case.seen():
        dinp[:, :, row, column] += dout[:, :, *place] * (taps[:, :, *place] == case.number(tap))
    return dinp


def avg_pool(case: Case, inp: np.ndarray) -> np.ndarray:
    """Return the mean of each window, padding included as zeros."""
    out = np.zeros((case.samples, case.channels, *case.grid))
    for place, _, row, column in case.seen():
        out[:, :, *place] += inp[:, :, row, column] / (case.window[0] * case.window[1])
    return out


def avg_pool_gradient(case: Case, dout: np.ndarray) -> np.ndarray:
    """Return the gradient of the input of `avg_pool`."""
    dinp = np.zeros(case.shape)
    for place, _, row, column in case.seen():
        dinp[:, :, row, column] += dout[:, :, *place] / (case.window[0] * case.window[1])
    return dinp
