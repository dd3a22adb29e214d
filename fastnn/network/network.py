"""A multilayer perceptron as plain arrays: weights and biases, an activation, an output and the scale of the inputs."""

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
    """A multilayer perceptron: dense layers, one activation for all hidden layers, and an output activation.

    Parameters
    ----------
    weights : sequence of ndarray, each of shape (fan_in, fan_out)
        One finite array per layer; copied. The network is float64 if all weights and biases are float64, else float32.
    biases : sequence of ndarray, each of shape (fan_out,)
        One finite array per layer; copied.
    activation : {"relu", "tanh", "logistic", "identity"}
        The activation of every layer except the last.
    input_scale : float
        The factor that multiplies the inputs, above 0: ``1 / 255`` for pixels from 0 to 255.
    output : {"softmax", "logistic", "identity"}
        The activation of the last layer, which also determines the loss:

        - "softmax" for one of C classes: cross-entropy.
        - "logistic" for C independent yes-or-no labels: binary cross-entropy, summed over the outputs.
        - "identity" for C numbers (regression): half the squared error, summed over the outputs.

    Raises
    ------
    SettingsError
        If the shapes do not match, a weight or bias is not finite, or another argument is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnn
    >>> fastnn.Network([np.ones((4, 3)), np.ones((3, 2))], [np.zeros(3), np.zeros(2)])
    Network(4 -> 3 relu -> 2 softmax, float64, 23 parameters)
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
            raise SettingsError(f"{len(weights)} weights and {len(biases)} biases, expected one of each per layer")
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
                    f"layer {layer}: weight of shape {weight.shape}, expected ({fan_in or 'inputs'}, units), "
                    "each 1 or more"
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
        """Return a network with random weights and zero biases.

        Parameters
        ----------
        sizes : sequence of int
            The number of inputs, the number of units of each hidden layer, and the number of outputs, each 1 or more:
            ``(784, 128, 10)``.
        activation, input_scale, output
            As in `Network`.
        initializer : {"auto", "he", "glorot"}
            The distribution of the weights:

            - "he": normal with variance 2 / fan_in [1]_, suited to ReLU.
            - "glorot": uniform within +-sqrt(6 / (fan_in + fan_out)) [2]_.
            - "auto": "he" for ReLU, else "glorot".
        seed : int
            0 or more. Weights are drawn in float64 and then rounded, so both dtypes start with the same weights.
        dtype : float32 or float64

        Returns
        -------
        Network

        Raises
        ------
        SettingsError
            If an argument is out of range.

        References
        ----------
        .. [1] He et al. 2015, "Delving deep into rectifiers", arXiv:1502.01852, equation 10.
        .. [2] Glorot and Bengio 2010, "Understanding the difficulty of training deep feedforward neural networks",
           equation 16.

        Examples
        --------
        >>> import fastnn
        >>> fastnn.Network.initialize((784, 128, 10), input_scale=1 / 255)
        Network(784 -> 128 relu -> 10 softmax, float32, 101,770 parameters)
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
        """Return a network with random weights whose inputs, input scale and classes fit `data`.

        Parameters
        ----------
        data : Dataset
            Gives the number of inputs, the number of classes (at least 2) and the input scale ``1 / pixel_max``.
        hidden : sequence of int
            The number of units of each hidden layer; empty for none.
        settings
            Passed to `initialize`: `activation`, `initializer`, `seed`, `dtype`, `output`.

        Returns
        -------
        Network

        Raises
        ------
        SettingsError
            If an argument is out of range.

        Examples
        --------
        >>> import fastnn
        >>> fastnn.Network.for_data(fastnn.load_digits(), hidden=(32,))
        Network(64 -> 32 relu -> 10 softmax, float32, 2,410 parameters)
        """
        sizes = (data.images.shape[1], *hidden, max(2, data.n_classes))
        return cls.initialize(sizes, input_scale=1 / data.pixel_max, **settings)

    def like(self, weights: Sequence[Any], biases: Sequence[Any]) -> "Network":
        """Return a network with these weights and biases, and this network's activation, input scale and output.

        Parameters
        ----------
        weights : sequence of ndarray, each of shape (fan_in, fan_out)
            Copied.
        biases : sequence of ndarray, each of shape (fan_out,)
            Copied.

        Returns
        -------
        Network

        Raises
        ------
        SettingsError
            If the shapes do not match, or a weight or bias is not finite.

        Examples
        --------
        >>> import fastnn
        >>> network = fastnn.Network.initialize((4, 3, 2))
        >>> halved = network.like([weight / 2 for weight in network.weights], network.biases)
        >>> bool((halved.weights[0] == network.weights[0] / 2).all())
        True
        """
        return Network(weights, biases, self.activation, self.input_scale, self.output)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of inputs, the number of units of each hidden layer, and the number of outputs."""
        return (self.weights[0].shape[0], *(weight.shape[1] for weight in self.weights))

    @property
    def n_inputs(self) -> int:
        """D, the number of inputs."""
        return self.weights[0].shape[0]

    @property
    def n_outputs(self) -> int:
        """C, the number of outputs."""
        return self.weights[-1].shape[1]

    @property
    def n_classes(self) -> int:
        """C, the number of classes: another name for `n_outputs`."""
        return self.n_outputs

    @property
    def dtype(self) -> np.dtype:
        """The dtype of weights, biases and results: float32 or float64."""
        return self.weights[0].dtype

    @property
    def n_parameters(self) -> int:
        """The number of weights and biases."""
        return sum(array.size for array in (*self.weights, *self.biases))

    def __repr__(self) -> str:
        hidden = "".join(f" -> {size} {self.activation}" for size in self.sizes[1:-1])
        shape = f"{self.n_inputs}{hidden} -> {self.n_outputs} {self.output}"
        return f"Network({shape}, {self.dtype}, {self.n_parameters:,} parameters)"
