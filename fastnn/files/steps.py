"""A network as the steps that an exported program computes: its layers, with batch normalisation folded into them.

In prediction, batch normalisation is a scale and a shift of each unit. After a dense layer or a convolution without an
activation, it changes only their weights and biases; elsewhere it remains a step of its own.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fastnn.backends import reference
from fastnn.errors import DataError
from fastnn.network import ACTIVATIONS, AvgPool2D, BatchNorm, Conv2D, Dense, Layer, MaxPool2D, Network
from fastnn.network.layers import Shape
from fastnn.network.layers.base import n_units


class Step(NamedTuple):
    """A layer of an exported program. Its arrays are float64."""

    layer: Layer
    inp: Shape  # the shape of an input row
    out: Shape  # that of an output row
    weight: np.ndarray | None  # as that of the layer; of batch normalisation, the scale of each unit
    bias: np.ndarray | None  # of batch normalisation, the shift of each unit
    activation: str

    def sums(self, inp: np.ndarray, weight: Any, bias: Any) -> np.ndarray:
        """Return the input of the activation for a batch, in the dtype of the arrays given in the place of its own."""
        layer: Any = self.layer
        if isinstance(layer, Dense):
            return reference.dense_forward(inp.reshape(len(inp), -1), weight, bias)
        inp = inp.reshape(-1, *self.inp)
        if isinstance(layer, Conv2D):
            return reference.conv_forward(inp, weight, bias, layer.stride, layer.padding)
        if isinstance(layer, MaxPool2D):
            return reference.max_pool(inp, *layer.windows)[0]
        if isinstance(layer, AvgPool2D):
            return reference.avg_pool(inp, *layer.windows)
        units = inp.reshape(len(inp), n_units(self.inp), -1)
        return (units * weight[:, None] + bias[:, None]).reshape(inp.shape)

    def forward(self, inp: np.ndarray) -> np.ndarray:
        """Return the layer's outputs for a batch, in the dtype of the batch."""
        arrays = (None if array is None else array.astype(inp.dtype) for array in (self.weight, self.bias))
        return ACTIVATIONS[self.activation].forward(self.sums(inp, *arrays))


_KINDS = (Dense, BatchNorm, Conv2D, MaxPool2D, AvgPool2D)


def steps_of(network: Network) -> list[Step]:
    """Return the steps of a network; DataError if it has a layer of another kind, or the folded arrays overflow."""
    steps: list[Step] = []
    pairs = zip(network.chain(), network.shapes[:-1], network.shapes[1:], strict=True)
    for number, ((layer, arrays), inp, out) in enumerate(pairs, start=1):
        if type(layer) not in _KINDS:
            expected = ", ".join(kind.kind for kind in _KINDS)
            raise DataError(f"layer {number} is {layer.kind}, expected one of {expected}")
        weight, bias = (None if array is None else array.astype(np.float64) for array in (arrays.weight, arrays.bias))
        step = Step(layer, inp, out, weight, bias, str(layer.activation))
        if isinstance(layer, BatchNorm):
            mean, variance = (array.astype(np.float64) for array in arrays.statistics)
            scale = arrays.weight / np.sqrt(variance + layer.epsilon)
            shift = arrays.bias - mean * scale
            if steps and steps[-1].activation == "identity" and steps[-1].weight is not None:
                before = steps.pop()
                step = before._replace(
                    weight=before.weight * scale, bias=before.bias * scale + shift, activation=step.activation
                )
            else:
                step = step._replace(weight=scale, bias=shift)
        for array in (step.weight, step.bias):
            if array is not None and not (np.abs(array) <= np.finfo(np.float32).max).all():
                raise DataError(f"layer {number}: a weight or bias is too large for float32")
        steps.append(step)
    return steps


def scaled_inputs(network: Network, rows: np.ndarray) -> np.ndarray:
    """Return the input of the first step, in float32."""
    if network.standardization is not None:
        return np.asarray(network.standardization.apply(rows, np.float32))
    return rows.astype(np.float32) * np.float32(network.input_scale)


def outputs_of(network: Network, steps: Sequence[Step], rows: np.ndarray) -> np.ndarray:
    """Return the outputs of a program of these steps in float32, (N, number of outputs)."""
    values = scaled_inputs(network, rows)
    for step in steps:
        values = step.forward(values)
    return network.loss.outputs(values.reshape(len(rows), -1))
