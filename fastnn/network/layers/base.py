"""`Layer`, the base class of layers, and the arrays that go into a layer and come out of it."""

import math
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import numpy as np

from fastnn.checks import check_choice
from fastnn.network.activations import ACTIVATIONS
from fastnn.network.initializers import INITIALIZERS

Shape = tuple[int, ...]
# The gradients of a layer's input, weight and bias; None for those that nobody needs or that the layer lacks.
Gradients = tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]


def n_units(shape: Shape) -> int:
    """Return the number of units in a row of this shape: of images, (C, H, W), the channels, else all numbers."""
    return shape[0] if len(shape) == 3 else math.prod(shape)


class Arrays(NamedTuple):
    """The arrays of one layer of a network; weight and bias are None for a layer without parameters."""

    weight: Any
    bias: Any
    statistics: tuple[np.ndarray, ...] = ()  # measured in training and used in prediction, such as running means


class Forward(NamedTuple):
    """The result of a layer's forward pass, before its activation."""

    sums: np.ndarray  # (B, *output shape), the input of the activation
    saved: Any = None  # what the layer's backward pass needs besides its input
    statistics: tuple[np.ndarray, ...] = ()  # of this batch, in training; empty in prediction


class Layer:
    """The base class of layers, for subclasses that are frozen dataclasses with a field `activation`.

    A batch comes in with the layer's input shape, (B, *input shape), and goes out with its output shape.
    """

    kind: ClassVar[str]  # the name of the class in files and messages
    default_activation: ClassVar[str] = "identity"  # stands for None, except in the last layer of a network
    is_decayed: ClassVar[bool] = True  # whether L2 and weight decay apply to its weight
    drops_inputs: ClassVar[bool] = False  # whether dropout drops its inputs, where these come from another layer
    accepts_sparse: ClassVar[bool] = False  # whether it can be the first layer of a network with sparse inputs
    momentum: float = 0.0  # after a batch, statistics are ``momentum * old + (1 - momentum) * new``
    activation: Any  # str or None; a network's layers have names only

    def __post_init__(self) -> None:
        if self.activation is not None:
            check_choice(f"activation of {self.label}", self.activation, list(ACTIVATIONS))

    @property
    def label(self) -> str:
        """The layer in messages: "a dense layer"."""
        return f"a{'n' if self.kind[0] in 'aeiou' else ''} {self.kind} layer"

    def with_activation(self, activation: str | None) -> "Layer":
        """Return the layer with another activation."""
        return replace(self, activation=activation)  # type: ignore[type-var]

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of an output row, given that of an input row; SettingsError if the input does not fit."""
        return input_shape

    def parameter_shapes(self, input_shape: Shape) -> tuple[Shape, Shape] | None:
        """Return the shapes of the weight and the bias; None for a layer without parameters."""
        return None

    def fans(self, input_shape: Shape) -> tuple[int, int] | None:
        """Return fan_in and fan_out, which the distribution of a random weight depends on.

        None for a layer whose initial weight is not random, or that has none.
        """
        return None

    def initial_weight(self, rng: np.random.Generator, input_shape: Shape, initializer: str) -> np.ndarray:
        """Draw the weight in float64; `initializer` is a name in `fastnn.network.initializers.INITIALIZERS`."""
        parameters, fans = self.parameter_shapes(input_shape), self.fans(input_shape)
        assert parameters is not None
        assert fans is not None
        return INITIALIZERS[initializer].draw(rng, parameters[0], *fans)

    def initial_statistics(self, input_shape: Shape) -> tuple[np.ndarray, ...]:
        """Return the statistics before training, in float64; empty for a layer without statistics."""
        return ()

    def statistics_shapes(self, input_shape: Shape) -> tuple[Shape, ...]:
        """Return the shapes of `initial_statistics`, so that files can be checked before memory is allocated."""
        return ()

    def n_multiplications(self, input_shape: Shape) -> int:
        """Return about how many multiplications the forward pass of a row takes: by default, one for each weight."""
        parameters = self.parameter_shapes(input_shape)
        return 0 if parameters is None else math.prod(parameters[0])

    def n_scratch(self, input_shape: Shape) -> int:
        """Return the number of further elements that the NumPy backend holds for a row besides inputs and outputs."""
        return 0

    def check_batch(self, batch_size: int, slices: int | None = None) -> None:
        """Raise SettingsError if the layer cannot be trained on batches, or their slices, of this size."""

    def forward(self, ops: Any, inp: np.ndarray, arrays: Arrays, training: bool) -> Forward:
        """Compute the weighted sums of a batch with `ops`, a backend's operations."""
        raise NotImplementedError

    def backward(
        self, ops: Any, dsums: np.ndarray, inp: np.ndarray, saved: Any, arrays: Arrays, needs_dinp: bool
    ) -> Gradients:
        """Return the gradients of the input, the weight and the bias; that of the input only if `needs_dinp`."""
        raise NotImplementedError

    def unit_name(self, output_shape: Shape) -> str:
        """Return what one of the `n_units` of an output row is called."""
        return "channel" if len(output_shape) == 3 else "unit"

    def describe(self, output_shape: Shape) -> str:
        """Return the layer's words in the repr of a network, before the name of its activation."""
        return self.kind.replace("_", " ")
