"""Draw the convolution of the course, forward and backward, and its pools, as grids of numbers."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle

from fastnn.backends import reference

POSITIVE, NEGATIVE, ZERO = "#0072B2", "#B34700", "#6E6E6E"
FIRST, SECOND = "#D55E00", "#009E73"

image = np.array(
    [[0, 0, 1, 0, 0], [0, 1, 1, 0, 0], [0, 0, 1, 0, 0], [0, 0, 1, 0, 0], [0, 1, 1, 1, 0]], np.float64
).reshape(1, 1, 5, 5)
weight = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], np.float64).reshape(1, 3, 3, 1)
settings = {"stride": (1, 1), "padding": (0, 0)}


def forward():
    """Draw the image, the filter and the feature map. The patch of place (0, 1) and its sum are marked."""
    sums = reference.conv_forward(image, weight, np.zeros(1), **settings)
    ax = _axes()
    _grid(ax, 0, 0, image[0, 0], "image", ink=True)
    _grid(ax, 5.5, 1, weight[0, :, :, 0], "filter")
    _grid(ax, 9, 1, sums[0, 0], "feature map")
    _frame(ax, 1, 0, 3, FIRST)
    _frame(ax, 10, 1, 1, FIRST)


def backward():
    """Draw the gradients of the sums, and the gradient of the image. Two places and their patches are marked."""
    dsums = np.array([[1, 0, 0], [0, 2, 0], [0, 0, 0]], np.float64).reshape(1, 1, 3, 3)
    dinp, _, _ = reference.conv_backward(dsums, image, weight, **settings)
    ax = _axes()
    _grid(ax, 0, 1, dsums[0, 0], "dsums")
    _grid(ax, 3.5, 1, weight[0, :, :, 0], "filter")
    _grid(ax, 7, 0, dinp[0, 0], "dinp")
    for place, colour, inset in ((0, FIRST, 0), (1, SECOND, 0.09)):
        _frame(ax, place, 1 + place, 1, colour)
        _frame(ax, 7 + place, place, 3, colour, inset)


def pools():
    """Draw a feature map and its pools, and below the gradients that they pass back. The winners are marked."""
    inp = np.array([[1, 3, 0, 2], [2, 0, 2, 1], [0, 1, 4, 2], [0, 0, 0, 2]], np.float64).reshape(1, 1, 4, 4)
    dout = np.array([[1, 2], [3, 4]], np.float64).reshape(1, 1, 2, 2)
    windows = {"size": (2, 2), "stride": (2, 2), "padding": (0, 0)}
    largest, taps = reference.max_pool(inp, **windows)
    ax = _axes(height=10.4)
    _grid(ax, 0.3, 0, inp[0, 0], "inp")
    _grid(ax, 6.1, 1, largest[0, 0], "max pool")
    _grid(ax, 9.7, 1, reference.avg_pool(inp, **windows)[0, 0], "mean pool")
    _grid(ax, 0, 6.3, dout[0, 0], "dout")
    _grid(ax, 3, 5.3, reference.max_pool_backward(dout, taps, inp.shape, **windows)[0, 0], "dinp of the max pool")
    _grid(ax, 8, 5.3, reference.avg_pool_backward(dout, inp.shape, **windows)[0, 0], "dinp of the mean pool")
    for left, top in ((0.3, 0), (3, 5.3), (8, 5.3)):
        for i, j in np.ndindex(2, 2):
            _frame(ax, left + 2 * j, top + 2 * i, 2, "#444444", width=1.6)
    for (i, j), tap in np.ndenumerate(taps[0, 0]):
        row, column = divmod(tap, 2)
        for left, top in ((0.3, 0), (3, 5.3)):
            _frame(ax, left + 2 * j + column, top + 2 * i + row, 1, FIRST, 0.09)


def _axes(height=6.1):
    _, ax = plt.subplots(figsize=(6.4, 6.4 * height / 12.4), layout="constrained")
    ax.set(xlim=(-0.2, 12.2), ylim=(height - 0.9, -0.9), aspect="equal")
    ax.axis("off")
    return ax


def _grid(ax, left, top, numbers, title, ink=False):
    """Draw numbers as a grid of cells, whose upper left corner is at (left, top)."""
    rows, columns = numbers.shape
    for i, j in np.ndindex(rows, columns):
        number = numbers[i, j] + 0
        face = "#333333" if ink and number else "white"
        color = "white" if ink and number else ZERO if number == 0 else POSITIVE if number > 0 else NEGATIVE
        ax.add_patch(Rectangle((left + j, top + i), 1, 1, fc=face, ec="#BBBBBB", lw=0.8))
        text = f"{number:g}".replace("-", "\N{MINUS SIGN}")
        weight_of_font = "bold" if number else "normal"
        ax.text(
            left + j + 0.5,
            top + i + 0.53,
            text,
            color=color,
            ha="center",
            va="center",
            fontsize=12,
            weight=weight_of_font,
        )
    ax.text(left + columns / 2, top - 0.2, title, ha="center", va="bottom", fontsize=11, color="#111111")


def _frame(ax, left, top, size, colour, inset=0.0, width=2.6):
    """Mark a square of cells."""
    side = size - 2 * inset
    ax.add_patch(Rectangle((left + inset, top + inset), side, side, fc="none", ec=colour, lw=width, zorder=3))
