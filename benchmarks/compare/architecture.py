"""Networks as the literature writes them: "6C5-P-16C5-P-120-84-10".

``6C5`` is a convolution with 6 channels and a 5x5 kernel, ``P`` a maximum over 2x2, and ``120`` a dense layer. Strides
are 1 (2 for ``P``), and nothing is padded. ReLU follows every layer with weights but the last one. The notation needs
no library, so that no peer's process loads fastnn.
"""

import re
from dataclasses import dataclass

IMAGE = (1, 28, 28)


@dataclass(frozen=True)
class Conv:
    """A convolution; its weight has shape (input channels, kernel, kernel, channels)."""

    channels: int
    kernel: int


@dataclass(frozen=True)
class Pool:
    """The maximum of each 2x2 window."""


@dataclass(frozen=True)
class Dense:
    """A dense layer; its weight has shape (inputs, units)."""

    units: int


Layer = Conv | Pool | Dense


def parse(text: str) -> tuple[Layer, ...]:
    """Return the layers of a network.

    Raises
    ------
    ValueError
        If a part is no layer, or an image layer follows a dense one.
    """
    layers: list[Layer] = []
    for part in text.split("-"):
        found = re.fullmatch(r"(?:(\d+)C(\d+))|(P)|(\d+)", part)
        if found is None:
            raise ValueError(f"{part!r} in {text!r} is no layer, expected one such as 6C5, P or 120")
        channels, kernel, pool, units = found.groups()
        layer = Dense(int(units)) if units else Pool() if pool else Conv(int(channels), int(kernel))
        if layers and isinstance(layers[-1], Dense) and not isinstance(layer, Dense):
            raise ValueError(f"{part!r} in {text!r} follows a dense layer, expected another dense layer")
        layers.append(layer)
    return tuple(layers)


def is_weighted(layer: Layer) -> bool:
    """Return whether a layer has a weight and a bias."""
    return not isinstance(layer, Pool)


def shapes(layers: tuple[Layer, ...], shape: tuple[int, ...] = IMAGE) -> list[tuple[int, ...]]:
    """Return the shape of the input, and of each layer's output: (channels, height, width), or (units,)."""
    found = [shape]
    for layer in layers:
        if isinstance(layer, Dense):
            shape = (layer.units,)
        else:
            channels, height, width = shape
            if isinstance(layer, Conv):
                shape = (layer.channels, height - layer.kernel + 1, width - layer.kernel + 1)
            else:
                shape = (channels, height // 2, width // 2)
        found.append(shape)
    return found
