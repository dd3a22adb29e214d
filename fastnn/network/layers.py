"""The layers of a network: small frozen descriptions without arrays. One class per kind of layer.

A layer states the shapes of its output, parameters and statistics for a given input shape, and says which operations
of a backend compute it. Rows of data stay flat, so a shape such as (channels, height, width) costs nothing.

To add a layer, write a class and add it to `LAYERS`. If a backend lacks an operation that the layer needs, the layer
can compute it itself, in NumPy; it then works in both backends, in files, and in the layer-by-layer trainer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np

from fastnn.checks import check_choice, check_integer, check_number, short
from fastnn.errors import SettingsError
from fastnn.network.activations import ACTIVATIONS
from fastnn.network.initializers import INITIALIZERS

Shape = tuple[int, ...]
# The gradients of a layer's input, weight and bias; None for those that nobody needs or that the layer lacks.
Gradients = tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]


class Arrays(NamedTuple):
    """The arrays of one layer of a network; weight and bias are None for a layer without parameters."""

    weight: Any
    bias: Any
    statistics: tuple[np.ndarray, ...] = ()  # measured in training and used in prediction, such as running means


class Forward(NamedTuple):
    """The result of a layer's forward pass, before its activation."""

    sums: np.ndarray  # (B, ...), the input of the activation
    saved: Any = None  # what the layer's backward pass needs besides its input
    statistics: tuple[np.ndarray, ...] = ()  # of this batch, in training; empty in prediction


class Layer:
    """The base class of layers, for subclasses that are frozen dataclasses with a field `activation`."""

    kind: ClassVar[str]  # the name of the class in files and messages
    default_activation: ClassVar[str] = "identity"  # stands for None, except in the last layer of a network
    is_decayed: ClassVar[bool] = True  # whether L2 and weight decay apply to its weight
    drops_inputs: ClassVar[bool] = False  # whether dropout drops its inputs, where these come from another layer
    accepts_sparse: ClassVar[bool] = False  # whether it can be the first layer of a network with sparse inputs
    momentum: float = 0.0  # after a batch, statistics are ``momentum * old + (1 - momentum) * new``
    activation: Any  # str or None; a network's layers have names only

    def __post_init__(self) -> None:
        if self.activation is not None:
            check_choice(f"activation of a {self.kind} layer", self.activation, list(ACTIVATIONS))

    def with_activation(self, activation: str | None) -> "Layer":
        """Return the layer with another activation."""
        return replace(self, activation=activation)  # type: ignore[type-var]

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of an output row, given that of an input row; SettingsError if the input does not fit."""
        return input_shape

    def parameter_shapes(self, input_shape: Shape) -> tuple[Shape, Shape] | None:
        """Return the shapes of the weight and the bias; None for a layer without parameters."""
        return None

    def initial_weight(self, rng: np.random.Generator, input_shape: Shape, initializer: str) -> np.ndarray:
        """Draw the weight in float64; `initializer` is a name in `fastnn.network.initializers.INITIALIZERS`."""
        raise NotImplementedError

    def initial_statistics(self, input_shape: Shape) -> tuple[np.ndarray, ...]:
        """Return the statistics before training, in float64; empty for a layer without statistics."""
        return ()

    def statistics_shapes(self, input_shape: Shape) -> tuple[Shape, ...]:
        """Return the shapes of `initial_statistics`, so that files can be checked before memory is allocated."""
        return ()

    def check_batch(self, batch_size: int) -> None:
        """Raise SettingsError if the layer cannot be trained on batches of this size."""

    def forward(self, ops: Any, inp: np.ndarray, arrays: Arrays, training: bool) -> Forward:
        """Compute the weighted sums of a batch with `ops`, a backend's operations."""
        raise NotImplementedError

    def backward(
        self, ops: Any, dsums: np.ndarray, inp: np.ndarray, saved: Any, arrays: Arrays, needs_dinp: bool
    ) -> Gradients:
        """Return the gradients of the input, the weight and the bias; that of the input only if `needs_dinp`."""
        raise NotImplementedError

    def describe(self, output_shape: Shape) -> str:
        """Return the layer's words in the repr of a network, before the name of its activation."""
        return self.kind.replace("_", " ")


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

    def initial_weight(self, rng: np.random.Generator, input_shape: Shape, initializer: str) -> np.ndarray:
        fan_in, fan_out = math.prod(input_shape), self.units
        return INITIALIZERS[initializer].draw(rng, (fan_in, fan_out), fan_in, fan_out)

    def forward(self, ops: Any, inp: np.ndarray, arrays: Arrays, training: bool) -> Forward:
        return Forward(ops.dense_forward(inp, arrays.weight, arrays.bias))

    def backward(
        self, ops: Any, dsums: np.ndarray, inp: np.ndarray, saved: Any, arrays: Arrays, needs_dinp: bool
    ) -> Gradients:
        return ops.dense_backward(dsums, inp, arrays.weight, needs_dinp)

    def describe(self, output_shape: Shape) -> str:
        return str(self.units)


@dataclass(frozen=True)
class BatchNorm(Layer):
    """Batch normalisation: every unit gets mean 0 and variance 1 over the batch, then a scale and a shift of its own.

    In training, mean and variance are those of the batch, and their running averages are kept as the layer's
    statistics. In prediction, the running averages take their place. Sample weights do not weigh them. The scale is
    the layer's weight, (H,), the shift its bias, (H,); L2 and weight decay leave both alone.

    Parameters
    ----------
    activation : str or None
        A name in `fastnn.network.activations.ACTIVATIONS`; None is "identity".
    momentum : float
        The fraction of a running average that remains after a batch, from 0 to below 1.
    epsilon : float
        Added to the variance, above 0.

    Raises
    ------
    SettingsError
        If an argument is out of range.

    Notes
    -----
    The formulas are those of [1]_: algorithm 1 in training, algorithm 2 in prediction. The variance of the batch is
    divided by B, the one that enters the running average by B - 1. A network needs batches of 2 samples or more.
    A single sample that remains at the end of an epoch is normalised as in prediction.

    References
    ----------
    .. [1] Ioffe and Szegedy 2015, "Batch normalization: accelerating deep network training by reducing internal
       covariate shift", arXiv:1502.03167.

    Examples
    --------
    >>> import fastnn
    >>> layers = [fastnn.Dense(64, "identity"), fastnn.BatchNorm("relu"), fastnn.Dense(10)]
    >>> fastnn.Network.initialize((784,), layers)
    Network(784 -> 64 identity -> batch norm relu -> 10 softmax, float32, 51,018 parameters)
    """

    kind: ClassVar[str] = "batch_norm"
    is_decayed: ClassVar[bool] = False

    activation: str | None = None
    momentum: float = 0.9
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("momentum of a batch_norm layer", self.momentum, 0, 1)
        check_number("epsilon of a batch_norm layer", self.epsilon, above=0)

    def parameter_shapes(self, input_shape: Shape) -> tuple[Shape, Shape]:
        return (math.prod(input_shape),), (math.prod(input_shape),)

    def initial_weight(self, rng: np.random.Generator, input_shape: Shape, initializer: str) -> np.ndarray:
        return np.ones(math.prod(input_shape))

    def initial_statistics(self, input_shape: Shape) -> tuple[np.ndarray, ...]:
        return np.zeros(math.prod(input_shape)), np.ones(math.prod(input_shape))

    def statistics_shapes(self, input_shape: Shape) -> tuple[Shape, ...]:
        return (math.prod(input_shape),), (math.prod(input_shape),)

    def check_batch(self, batch_size: int) -> None:
        if batch_size < 2:
            raise SettingsError(f"batch_size is {batch_size}, expected 2 or more for batch normalisation")

    def forward(self, ops: Any, inp: np.ndarray, arrays: Arrays, training: bool) -> Forward:
        if not training or len(inp) < 2:  # a single sample has no variance
            mean, variance = arrays.statistics
            return Forward(ops.batch_norm(inp, arrays.weight, arrays.bias, mean, variance, self.epsilon))
        sums, mean, variance = ops.batch_norm_forward(inp, arrays.weight, arrays.bias, self.epsilon)
        unbiased = variance * inp.dtype.type(len(inp) / max(1, len(inp) - 1))
        return Forward(sums, (mean, variance), (mean, unbiased))

    def backward(
        self, ops: Any, dsums: np.ndarray, inp: np.ndarray, saved: Any, arrays: Arrays, needs_dinp: bool
    ) -> Gradients:
        if saved is not None:
            return ops.batch_norm_backward(dsums, inp, arrays.weight, *saved, self.epsilon)
        mean, variance = arrays.statistics  # in prediction, they are constants
        slope = 1 / np.sqrt(variance + inp.dtype.type(self.epsilon))
        return dsums * (arrays.weight * slope), (dsums * ((inp - mean) * slope)).sum(axis=0), dsums.sum(axis=0)


LAYERS: dict[str, type[Layer]] = {layer.kind: layer for layer in (Dense, BatchNorm)}
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
    """Return the layers that `to_json` wrote; SettingsError for anything else. Nothing is imported by name."""
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
        layers.append(LAYERS[kind](**arguments))
    return layers
