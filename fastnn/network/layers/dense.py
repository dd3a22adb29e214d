"""`Dense`: every unit sees every input."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fastnn.checks import check_integer
from fastnn.network.layers.base import Arrays, Forward, Gradients, Layer, Shape


@dataclass(frozen=True)
class Dense(Layer):
    """A layer in which every unit sees every input: ``activation(inp @ weight + bias)``.

    The weight has shape (D, H), where D is the number of elements in an input row, and the bias has shape (H,).

    Parameters
    ----------
    units : int
        H, the number of units, 1 or more.
    activation : str or None
        A name in `fastnn.network.activations.ACTIVATIONS`. None is "relu", but "identity" in the last layer.

    Raises
    ------
    SettingsError
        If an argument is out of range.

    Examples
    --------
    >>> import fastnn
    >>> fastnn.Network.initialize((784,), [fastnn.Dense(64, "gelu"), fastnn.Dense(10)])
    Network(784 -> 64 gelu -> 10 softmax, float32, 50,890 parameters)
    """

    kind: ClassVar[str] = "dense"
    default_activation: ClassVar[str] = "relu"
    drops_inputs: ClassVar[bool] = True
    accepts_sparse: ClassVar[bool] = True

    units: int
    activation: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("units of a dense layer", self.units, 1)

    def output_shape(self, input_shape: Shape) -> Shape:
        return (self.units,)

    def parameter_shapes(self, input_shape: Shape) -> tuple[Shape, Shape]:
        return (math.prod(input_shape), self.units), (self.units,)

    def fans(self, input_shape: Shape) -> tuple[int, int]:
        return math.prod(input_shape), self.units

    def forward(self, ops: Any, inp: np.ndarray, arrays: Arrays, training: bool) -> Forward:
        return Forward(ops.dense_forward(_flat(inp), arrays.weight, arrays.bias))

    def backward(
        self, ops: Any, dsums: np.ndarray, inp: np.ndarray, saved: Any, arrays: Arrays, needs_dinp: bool
    ) -> Gradients:
        dinp, dweight, dbias = ops.dense_backward(dsums, _flat(inp), arrays.weight, needs_dinp)
        return None if dinp is None else dinp.reshape(inp.shape), dweight, dbias

    def describe(self, output_shape: Shape) -> str:
        return str(self.units)


def _flat(inp: Any) -> Any:
    """Return the rows of images as vectors, without a copy; other inputs as they are."""
    return inp if inp.ndim == 2 else inp.reshape(len(inp), -1)
