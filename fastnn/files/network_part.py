"""A network as a part of a file: strings that describe its layers, and tensors with its arrays.

The strings:

- ``layers``: JSON, an array with an object for each layer: its ``kind``, a key of `LAYERS`, and the fields of its class
- ``input_shape``: JSON, an array: the shape of an input row
- ``output``: as in `Network`
- ``input_scale``: a float, as Python's repr writes it

The tensors: ``weight.0``, ``bias.0``, ``weight.1`` and so on, one of each per layer that has parameters, then
``statistic.0`` and so on: the arrays of `Network`, with the shapes that the layers state, all F32 or all F64. A network
that standardises its inputs also has ``input.mean`` and ``input.scale``, which are F64.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastnn.checks import check_choice, short
from fastnn.errors import DataError
from fastnn.files.tensor_file import TensorType, parse_json
from fastnn.models.model import are_sizes
from fastnn.network import LOSSES, Layer, Network, Standardization
from fastnn.network.layers import Shape, array_shapes, from_json, to_json
from fastnn.network.network import chain_shapes

STANDARDIZATION = ("input.mean", "input.scale")
KEYS = {"layers", "input_shape", "output", "input_scale"}


class Skeleton(NamedTuple):
    """A network without its arrays."""

    layers: Sequence[Layer]
    input_shape: Shape
    output: str
    input_scale: float

    @property
    def shapes(self) -> list[Shape]:
        """The shapes of an input row and of each layer's output."""
        return list(chain_shapes(self.input_shape, self.layers))

    def types(self, code: str, is_standardised: bool) -> dict[str, TensorType]:
        """Return the type of each tensor; `code` is that of the network's dtype."""
        stated = array_shapes(self.layers, self.shapes[:-1])
        shapes = _by_name(
            [pair for pair, _ in stated if pair], [shape for _, statistics in stated for shape in statistics]
        )
        types = {name: TensorType(code, tuple(shape)) for name, shape in shapes.items()}
        per_input = TensorType("F64", (math.prod(self.input_shape),))
        return types | dict.fromkeys(STANDARDIZATION if is_standardised else (), per_input)

    def network(self, arrays: Mapping[str, np.ndarray]) -> Network:
        """Return the network with these tensors, which `types` describes; SettingsError for NaN or infinity."""
        input_scale: float | Standardization = self.input_scale
        if STANDARDIZATION[0] in arrays:
            if input_scale != 1:
                raise DataError(f"input_scale is {input_scale}, expected 1.0 with a standardization")
            input_scale = Standardization(*(arrays[name] for name in STANDARDIZATION))
        weights, biases, statistics = (
            [array for name, array in arrays.items() if name.startswith(kind)]
            for kind in ("weight.", "bias.", "statistic.")
        )
        return Network(
            weights, biases, "relu", input_scale, self.output, self.layers, self.input_shape, statistics
        )  # copies the arrays


def metadata_of(network: Network) -> dict[str, str]:
    """Return the strings that describe a network."""
    return {
        "layers": json.dumps(to_json(network.layers)),
        "input_shape": json.dumps([int(size) for size in network.shapes[0]]),
        "output": network.output,
        "input_scale": repr(float(network.input_scale)),
    }


def arrays_of(network: Network) -> dict[str, np.ndarray]:
    """Return the tensors of a network by name."""
    arrays = _by_name(zip(network.weights, network.biases, strict=True), network.statistics)
    inputs = network.standardization
    return arrays | ({} if inputs is None else dict(zip(STANDARDIZATION, (inputs.mean, inputs.scale), strict=True)))


def parse_skeleton(metadata: Mapping[str, str]) -> Skeleton:
    """Return the network that the strings describe; DataError if they describe none."""
    layers = from_json(parse_json(metadata["layers"], "layers"))
    names = [layer.activation for layer in layers]
    if None in names or names[-1:] != ["identity"]:
        raise DataError(f"the activations of its layers are {short(names)}, expected names, the last one identity")
    input_shape = parse_json(metadata["input_shape"], "input_shape")
    if not are_sizes(input_shape):
        raise DataError(f"input_shape is {short(input_shape)}, expected sizes from 1 to 2**63 - 1")
    return make_skeleton(layers, tuple(input_shape), metadata)


def make_skeleton(layers: Sequence[Layer], input_shape: Shape, metadata: Mapping[str, str]) -> Skeleton:
    """Return a network of these layers, with the output and the input scale of the metadata."""
    output = check_choice("output", metadata.get("output", "softmax"), list(LOSSES))
    text = metadata["input_scale"]
    input_scale = parse_json(text, "input_scale")
    # Only the output of repr is written: neither "1" nor " 1.0".
    if not isinstance(input_scale, float) or not 0 < input_scale < math.inf or repr(input_scale) != text:
        raise DataError(f"input_scale is {short(text)}, expected a positive number")
    return Skeleton(layers, input_shape, output, input_scale)


def code_of(tensors: Mapping[str, Any]) -> str:
    """Return the code of the network's dtype in the unchecked header of a file."""
    first = tensors.get("weight.0")
    return "F64" if isinstance(first, dict) and first.get("dtype") == "F64" else "F32"


def _by_name(parameters: Iterable[tuple[Any, ...]], statistics: Sequence[Any]) -> dict[str, Any]:
    """Return arrays, or their shapes, by the names of their tensors, in the order of the payload."""
    named: dict[str, Any] = {}
    for k, (weight, bias) in enumerate(parameters):
        named |= {f"weight.{k}": weight, f"bias.{k}": bias}
    return named | {f"statistic.{k}": each for k, each in enumerate(statistics)}
