"""A multilayer perceptron as plain arrays: weights, biases, the activation between them, the scale of its inputs."""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from fastnn.checks import check_choice, check_number, is_integer
from fastnn.errors import SettingsError
from fastnn.network.aligned import aligned_copy
from fastnn.randomness import generator

if TYPE_CHECKING:
    from fastnn.datasets.dataset import Dataset

Activation = Literal["relu", "tanh", "logistic", "identity"]
ACTIVATIONS: tuple[str, ...] = get_args(Activation)
Output = Literal["softmax", "logistic", "identity"]
OUTPUTS: tuple[str, ...] = get_args(Output)
INITIALIZERS = ("auto", "he", "glorot")


class Network:
    """Layers of weights and biases, an activation after each but the last, and what follows the last.

    Parameters
    ----------
    weights : sequence of ndarray, each of shape (fan_in, fan_out)
        One array a layer, float32 or float64 (all alike; anything else becomes float32), finite. They are copied.
    biases : sequence of ndarray, each of shape (fan_out,)
    activation : {"relu", "tanh", "logistic", "identity"}
        What follows every layer but the last.
    input_scale : float
        Inputs are multiplied by it: ``1 / 255`` for pixels from 0 to 255.
    output : {"softmax", "logistic", "identity"}
        What follows the last layer, and with it the loss that training lowers: "softmax" for one of C classes
        (cross-entropy), "logistic" for C answers of yes or no, each for itself (binary cross-entropy, summed over the
        outputs), "identity" for C numbers (half the squared error, summed over the outputs).

    Raises
    ------
    SettingsError
        If the shapes do not fit together, a weight is not finite, or the activation or the output is unknown.
    """

    def __init__(
        self,
        weights: Sequence[Any],
        biases: Sequence[Any],
        activation: str = "relu",
        input_scale: float = 1.0,
        output: str = "softmax",
    ) -> None:
        check_choice("activation", activation, ACTIVATIONS)
        check_choice("output", output, OUTPUTS)
        check_number("input_scale", input_scale, above=0)
        if len(weights) == 0 or len(weights) != len(biases):
            raise SettingsError(f"{len(weights)} weights and {len(biases)} biases, expected one array of each a layer")
        dtypes = {np.asarray(array).dtype for array in (*weights, *biases)}
        dtype = np.dtype(np.float64 if dtypes == {np.dtype(np.float64)} else np.float32)
        self.weights = tuple(aligned_copy(weight, dtype) for weight in weights)
        self.biases = tuple(aligned_copy(bias, dtype) for bias in biases)
        self.activation = activation
        self.input_scale = float(input_scale)
        self.output = output
        fan_in = self.weights[0].shape[0] if self.weights[0].ndim == 2 else 0
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True), start=1):
            if weight.ndim != 2 or weight.shape[0] != fan_in or weight.size == 0:
                raise SettingsError(
                    f"layer {layer}: weight of shape {weight.shape}, expected ({fan_in or 'inputs'}, units), none 0"
                )
            if bias.shape != weight.shape[1:]:
                raise SettingsError(f"layer {layer}: bias of shape {bias.shape}, expected ({weight.shape[1]},)")
            if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
                raise SettingsError(
                    f"layer {layer}: a weight or bias is not finite as {dtype}, expected finite numbers"
                )
            fan_in = weight.shape[1]

    @classmethod
    def initialize(
        cls,
        sizes: Sequence[int],
        *,
        activation: str = "relu",
        initializer: str = "auto",
        seed: int = 0,
        dtype: Any = np.float32,
        input_scale: float = 1.0,
        output: str = "softmax",
    ) -> "Network":
        """A network with random weights and zero biases.

        Parameters
        ----------
        sizes : sequence of int
            Inputs, hidden units of each layer, outputs: ``(784, 128, 10)``.
        initializer : {"auto", "he", "glorot"}
            "he": normal with variance 2 / fan_in (He et al. 2015, arXiv:1502.01852, equation 10), right for ReLU.
            "glorot": uniform within +-sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010, equation 16).
            "auto": "he" for ReLU, else "glorot".
        seed : int
            0 or more. Draws are made in float64 and rounded, so both dtypes start alike.
        dtype : float32 or float64

        Raises
        ------
        SettingsError
            If a size, the initializer, the seed or the dtype is out of range.
        """
        if len(sizes) < 2 or any(not is_integer(size) or size < 1 for size in sizes):
            raise SettingsError(f"sizes are {tuple(sizes)}, expected at least inputs and outputs, each 1 or more")
        check_choice("initializer", initializer, INITIALIZERS)
        if np.dtype(dtype) not in (np.dtype(np.float32), np.dtype(np.float64)):
            raise SettingsError(f"dtype is {np.dtype(dtype)}, expected float32 or float64")
        rng = generator(seed, "weights")
        he = initializer == "he" or (initializer == "auto" and activation == "relu")
        weights = []
        for fan_in, fan_out in pairwise(sizes):
            if he:
                weight = rng.standard_normal((fan_in, fan_out)) * np.sqrt(2 / fan_in)
            else:
                bound = np.sqrt(6 / (fan_in + fan_out))
                weight = rng.uniform(-bound, bound, (fan_in, fan_out))
            weights.append(weight.astype(dtype))
        biases = [np.zeros(size, dtype) for size in sizes[1:]]
        return cls(weights, biases, activation, input_scale, output)

    @classmethod
    def for_data(cls, data: "Dataset", hidden: Sequence[int], **settings: Any) -> "Network":
        """A network with random weights whose inputs, scale and classes fit `data`; `settings` go to `initialize`."""
        sizes = (data.images.shape[1], *hidden, max(2, data.n_classes))
        return cls.initialize(sizes, input_scale=1 / data.pixel_max, **settings)

    def like(self, weights: Sequence[Any], biases: Sequence[Any]) -> "Network":
        """A network of this kind with other weights and biases."""
        return Network(weights, biases, self.activation, self.input_scale, self.output)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Inputs, hidden units of each layer, outputs."""
        return (self.weights[0].shape[0], *(weight.shape[1] for weight in self.weights))

    @property
    def n_inputs(self) -> int:
        """D, the length of a row."""
        return self.weights[0].shape[0]

    @property
    def n_outputs(self) -> int:
        """C, the number of outputs."""
        return self.weights[-1].shape[1]

    @property
    def n_classes(self) -> int:
        """The same, of a network whose outputs are classes."""
        return self.n_outputs

    @property
    def dtype(self) -> np.dtype:
        """float32 or float64: the arithmetic of the network."""
        return self.weights[0].dtype

    @property
    def n_parameters(self) -> int:
        """How many weights and biases there are."""
        return sum(array.size for array in (*self.weights, *self.biases))

    def __repr__(self) -> str:
        hidden = "".join(f" -> {size} {self.activation}" for size in self.sizes[1:-1])
        shape = f"{self.n_inputs}{hidden} -> {self.n_outputs} {self.output}"
        return f"Network({shape}, {self.dtype}, {self.n_parameters:,} parameters)"
