"""The table of layers by their names in files, and their JSON.

To add a layer, write a class and add it to `LAYERS`. If a backend lacks an operation that the layer needs, the layer
can compute it itself, in NumPy; it then works in both backends, in files, and in the layer-by-layer trainer.
"""

import json
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from fastnn.checks import short
from fastnn.errors import SettingsError
from fastnn.network.layers.base import Layer, Shape
from fastnn.network.layers.batch_norm import BatchNorm
from fastnn.network.layers.convolution import Conv2D
from fastnn.network.layers.dense import Dense
from fastnn.network.layers.pooling import AvgPool2D, MaxPool2D

LAYERS: dict[str, type[Layer]] = {layer.kind: layer for layer in (Dense, BatchNorm, Conv2D, MaxPool2D, AvgPool2D)}
"""The class of every kind of layer by its name in files: dict of str to type."""


def array_shapes(
    layers: Sequence[Layer], input_shapes: Sequence[Shape]
) -> list[tuple[tuple[Shape, ...], tuple[Shape, ...]]]:
    """Return the shapes of each layer's arrays: those of weight and bias, or none, and those of its statistics."""
    pairs = zip(layers, input_shapes, strict=True)
    return [(layer.parameter_shapes(shape) or (), layer.statistics_shapes(shape)) for layer, shape in pairs]


def to_json(layers: Sequence[Layer]) -> list[dict[str, Any]]:
    """Return the layers as a list of dicts of plain values: "kind" and the fields of the class."""
    return [
        # Numbers get the type of their field: NumPy's numbers become Python's, and equal layers give equal JSON.
        {"kind": layer.kind} | {field.name: _plain(getattr(layer, field.name), field.type) for field in fields(layer)}  # type: ignore[arg-type]
        for layer in layers
    ]


def _plain(value: Any, kind: Any) -> Any:
    return kind(value) if kind in (int, float) else value


def from_json(values: Any) -> list[Layer]:
    """Return the layers that `to_json` wrote; SettingsError for anything else. Nothing is imported by name.

    A value that the class would accept but `to_json` never writes, such as a kernel of one number, is refused too.
    """
    if not isinstance(values, list):
        raise SettingsError(f"layers are {short(values)}, expected a list")
    layers = []
    for number, value in enumerate(values, start=1):
        kind = value.get("kind") if isinstance(value, dict) else value
        if not isinstance(kind, str) or kind not in LAYERS:
            raise SettingsError(f"layer {number} is {short(value)}, expected a kind from {', '.join(LAYERS)}")
        arguments = {name: each for name, each in value.items() if name != "kind"}
        names = [field.name for field in fields(LAYERS[kind])]  # type: ignore[arg-type]
        if sorted(arguments) != sorted(names):
            raise SettingsError(f"layer {number}, {kind}, has {short(sorted(arguments))}, expected {sorted(names)}")
        try:
            layer = LAYERS[kind](**arguments)
        except SettingsError as error:
            raise SettingsError(f"layer {number}: {error}") from None
        for name, written in to_json([layer])[0].items():
            found, expected = json.dumps(value[name]), json.dumps(written)
            if found != expected:
                raise SettingsError(f"layer {number}: {name} of {layer.label} is {found}, expected {expected}")
        layers.append(layer)
    return layers
