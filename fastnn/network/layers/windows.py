"""The windows that convolutions and pools move over images: their settings, and the number that fits."""

from collections.abc import Sequence
from typing import Any

from fastnn.checks import is_count, is_ordered, short
from fastnn.errors import SettingsError
from fastnn.network.layers.base import Shape

Pair = tuple[int, int]


def as_pair(name: str, value: Any, low: int = 1) -> Pair:
    """Return a number, or two, as (height, width); SettingsError unless both are whole and at least `low`."""
    pair = (value, value) if is_count(value, low) else tuple(value) if is_ordered(value) else ()
    if len(pair) != 2 or not all(is_count(each, low) for each in pair):
        raise SettingsError(f"{name} is {short(value)}, expected one whole number or two, {low} or more")
    return int(pair[0]), int(pair[1])


def check_padding(label: str, padding: Pair, most: Sequence[int], meaning: str) -> None:
    """Raise SettingsError if the padding of a layer exceeds the largest one that makes sense for its window."""
    if any(each > limit for each, limit in zip(padding, most, strict=True)):
        limits = most[0] if len(set(most)) == 1 else tuple(most)
        raise SettingsError(f"padding of {label} is {padding}, expected at most {limits}: {meaning}")


def padded_sizes(input_shape: Shape, padding: Pair) -> Pair:
    """Return the height and the width of images, (C, H, W), with their padding."""
    _, height, width = input_shape
    return height + 2 * padding[0], width + 2 * padding[1]


def window_grid(kind: str, input_shape: Shape, window: Pair, stride: Pair, padding: Pair) -> Pair:
    """Return the number of windows that fit into an image, downwards and across.

    ``floor((size + 2 * padding - window) / stride) + 1``: a remainder at the bottom and on the right is not used.
    SettingsError unless the input shape is (channels, height, width), and at least one window fits.
    """
    if len(input_shape) != 3:
        raise SettingsError(
            f"inputs of shape {input_shape} come into {kind} {window[0]}x{window[1]}, expected (channels, height, "
            "width): give input_shape=(1, height, width) for grey images, and put dense layers last"
        )
    padded = padded_sizes(input_shape, padding)
    grid = [(size - length) // step + 1 for size, length, step in zip(padded, window, stride, strict=True)]
    if min(grid) < 1:
        room = " x ".join(map(str, padded))
        raise SettingsError(
            f"inputs of shape {input_shape} come into {kind} {window[0]}x{window[1]}, expected at least the size of "
            f"its window: with padding they are {room}"
        )
    return grid[0], grid[1]


def describe_window(kind: str, window: Pair, stride: Pair, usual: Pair, padding: Pair, output_shape: Shape) -> str:
    """Return a layer's words in the repr of a network: its window, what is unusual about it, and its output shape."""
    step = "" if stride == usual else f" stride {pair_text(stride)}"
    around = "" if padding == (0, 0) else f" padding {pair_text(padding)}"
    return f"{kind} {window[0]}x{window[1]}{step}{around} {'x'.join(map(str, output_shape))}"


def pair_text(pair: Pair) -> str:
    """Return a pair as one number where both are equal, else as "HxW"."""
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]}x{pair[1]}"
