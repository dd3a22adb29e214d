"""Explains one place of a layer that gives images: the patch it sees, and what becomes of it."""

from typing import Any, NamedTuple, TypeAlias

import numpy as np

from fastnn.explanation.tables import Namer, grids, number, table, weighted_sum
from fastnn.network import ACTIVATIONS

LayerSteps: TypeAlias = Any  # in explanation.py, which imports this module


class Place(NamedTuple):
    """One number of a layer's output."""

    channel: int
    row: int
    column: int
    quantity: str  # "sum", "logit" in the last layer, or "output" if the sum is not told apart from it
    name: str  # of the number, such as "filter 3 (12, 5)"
    input_name: Namer  # names the layer's inputs, by their flat index


def seen(layer: LayerSteps, window: tuple[int, int], place: Place) -> tuple[np.ndarray, tuple[int, int]]:
    """Return what a place sees, (channels, *window), NaN in the padding; and the row and column of its first number."""
    (up, across), (rows, columns) = layer.layer.padding, layer.layer.stride
    padded = np.pad(layer.inp, ((0, 0), (up, up), (across, across)), constant_values=np.nan)
    top, left = place.row * rows, place.column * columns
    return padded[:, top : top + window[0], left : left + window[1]], (top - up, left - across)


def conv_place(layer: LayerSteps, place: Place) -> list[str]:
    """Return the lines of one weighted sum of a convolution: the patch, the filter, the products, the sum."""
    filter_ = layer.weight[..., place.channel]
    patch, first = seen(layer, filter_.shape[1:], place)
    known = np.where(np.isnan(patch), 0, patch)  # padding
    of_channels = (known * filter_).sum(axis=(1, 2))
    channel = int(np.abs(of_channels).argmax())
    lines = [f"   {_peak(place)}, which sees {_extent(patch, first)} of the input."]
    if len(patch) > 1:
        most = f"channel {channel} adds most to the {place.quantity}, {number(of_channels[channel])}"
        lines.append(f"   Of the {len(patch)} channels, {most}:")
    lines += grids(patch=patch[channel], weights=filter_[channel])
    inp, weight, total = known.ravel(), filter_.ravel(), layer.sums[place.channel, place.row, place.column]
    name = _patch_namer(layer, patch.shape, first, place.input_name)
    title = f"{place.quantity} of {place.name}"
    return lines + weighted_sum(inp, weight, layer.bias[place.channel], total, title, name) + _activation(layer, place)


def max_pool_place(layer: LayerSteps, place: Place) -> list[str]:
    """Return the lines of one window of a max pool, and of its winner."""
    patch, first = seen(layer, layer.layer.size, place)
    tap = int(layer.taps[place.channel, place.row, place.column])
    name = _patch_namer(layer, patch.shape, first, place.input_name)
    winner = name(place.channel * patch[0].size + tap)
    lines = _window(patch, first, place)
    return [
        *lines,
        f"   The largest number is {number(layer.sums[place[:3]])}, of {winner}.",
        *_activation(layer, place),
    ]


def avg_pool_place(layer: LayerSteps, place: Place) -> list[str]:
    """Return the lines of one window of an average pool, and of its mean."""
    patch, first = seen(layer, layer.layer.size, place)
    lines = _window(patch, first, place)
    return [*lines, f"   The mean is {number(layer.sums[place[:3]])}.", *_activation(layer, place)]


def batch_norm_place(layer: LayerSteps, place: Place) -> list[str]:
    """Return the lines that normalise one number."""
    mean, variance = (each[place.channel] for each in layer.statistics)
    inp = layer.inp[place[:3]]
    normal = (inp - mean) / np.sqrt(variance + layer.layer.epsilon)
    weight, bias = layer.weight[place.channel], layer.bias[place.channel]
    head = ("", "input", "mean", "variance", "normal", "weight", "bias", place.quantity)
    numbers = (inp, mean, variance, normal, weight, bias, layer.sums[place[:3]])
    lines = [f"   {_peak(place)}:"]
    return lines + table(head, [(place.name, *map(number, numbers))]) + _activation(layer, place)


def _window(patch: np.ndarray, first: tuple[int, int], place: Place) -> list[str]:
    """Return the lines of a window of a pool."""
    line = f"   {_peak(place)}, which sees {_extent(patch, first)} of channel {place.channel}:"
    return [line, *grids(window=patch[place.channel])]


def _peak(place: Place) -> str:
    return f"Largest {'logit' if place.quantity == 'logit' else 'output'}: {place.name}"


def _extent(patch: np.ndarray, first: tuple[int, int]) -> str:
    (_, height, width), (top, left) = patch.shape, first
    return f"rows {top} to {top + height - 1} and columns {left} to {left + width - 1}"


def _patch_namer(layer: LayerSteps, shape: tuple[int, ...], first: tuple[int, int], name: Namer) -> Namer:
    """Return the function that names the numbers of a patch as the inputs that they are."""
    _, height, width = layer.inp.shape

    def namer(i: int) -> str:
        channel, row, column = (int(each) for each in np.unravel_index(i, shape))
        row, column = row + first[0], column + first[1]
        if not (0 <= row < height and 0 <= column < width):
            return "padding"
        return name((channel * height + row) * width + column)

    return namer


def _activation(layer: LayerSteps, place: Place) -> list[str]:
    """Return the line that computes the output; none if the activation is the identity."""
    if layer.activation == "identity":
        return []
    return [f"   output = {ACTIVATIONS[layer.activation].formula} = {number(layer.out[place[:3]])}"]
