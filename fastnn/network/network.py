"""A network as plain arrays: a chain of layers, their weights and biases, an output and the scale of the inputs."""

import math
from collections.abc import Iterator, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.checks import check_choice, check_number, is_count, is_ordered, short
from fastnn.datasets.convert import as_dataset
from fastnn.errors import OutOfMemoryError, SettingsError
from fastnn.memory import check_memory
from fastnn.network.activations import ACTIVATIONS
from fastnn.network.aligned import aligned_copy
from fastnn.network.initializers import AUTO_INITIALIZER, INITIALIZER_NAMES
from fastnn.network.layers import (
    Arrays,
    AvgPool2D,
    Conv2D,
    Dense,
    Layer,
    MaxPool2D,
    Shape,
    array_shapes,
    format_layers,
)
from fastnn.network.losses import LOSSES, Loss
from fastnn.network.standardization import Standardization
from fastnn.randomness import generator

if TYPE_CHECKING:
    from fastnn.datasets.dataset import Dataset

SIZES = "at least inputs and outputs, each a whole number, 1 or more and less than 2**63"


class Network:
    """A chain of layers, each with an activation of its own, and an output function.

    Parameters
    ----------
    weights : sequence of ndarray
        One finite array per layer that has parameters; copied. That of a dense layer has shape (fan_in, fan_out). The
        network is float64 if all weights and biases are float64, else float32.
    biases : sequence of ndarray
        One finite array per layer that has parameters, of shape (fan_out,); copied.
    activation : str or sequence of str
        The activation of the hidden layers, one of `fastnn.network.activations.ACTIVATIONS`, or one per hidden layer.
        Only for networks without `layers`.
    input_scale : float or Standardization
        The factor that multiplies the inputs, above 0: ``1 / 255`` for pixels from 0 to 255. Or a mean and a scale for
        each input.
    output : {"softmax", "logistic", "identity", "exp"}
        The output function, which also determines the loss:

        - "softmax" for one of C classes: cross-entropy.
        - "logistic" for C independent yes-or-no labels: binary cross-entropy, summed over the outputs.
        - "identity" for C numbers (regression): half the squared error, summed over the outputs.
        - "exp" for C counts or other numbers that are 0 or more: half the Poisson deviance, summed over the outputs.
    layers : sequence of Layer, or None
        The layers, first to last; None: one `Dense` layer per weight. The activation of the last layer is "identity".
    input_shape : tuple of int, or None
        The shape of an input row; None: the number of rows of the first weight.
    statistics : sequence of ndarray
        The statistics of the layers that have some, such as the running means of `BatchNorm`; copied.

    Attributes
    ----------
    weights, biases, statistics : tuple of ndarray
        The arrays, C-contiguous, in the network's dtype.
    layers : tuple of Layer
        The layers, each with the name of its activation.
    shapes : tuple of tuple of int
        The shape of an input row, and of each layer's output row.
    sizes : tuple of int
        The number of inputs, of outputs of each hidden layer, and of outputs.
    input_scale : float
        The factor that multiplies all inputs; 1 with a standardization.
    standardization : Standardization or None
        The mean and the scale of each input.
    output : str
        As given.

    Raises
    ------
    SettingsError
        If the shapes do not match, an array is not finite, or another argument is out of range.

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
        activation: str | Sequence[str] = "relu",
        input_scale: float | Standardization = 1.0,
        output: str = "softmax",
        layers: Sequence[Layer] | None = None,
        input_shape: Sequence[int] | None = None,
        statistics: Sequence[Any] = (),
    ) -> None:
        check_choice("output", output, list(LOSSES))
        self.standardization = input_scale if isinstance(input_scale, Standardization) else None
        if not isinstance(input_scale, Standardization):
            check_number("input_scale", input_scale, above=0)
        if len(weights) == 0 or len(weights) != len(biases):
            raise SettingsError(f"{len(weights)} weights and {len(biases)} biases, expected one of each per layer")
        dtypes = {np.asarray(array).dtype for array in (*weights, *biases)}
        dtype = np.dtype(np.float64 if dtypes == {np.dtype(np.float64)} else np.float32)
        self.weights = tuple(aligned_copy(weight, dtype) for weight in weights)
        self.biases = tuple(aligned_copy(bias, dtype) for bias in biases)
        self.statistics = tuple(aligned_copy(array, dtype) for array in statistics)
        self.input_scale = 1.0 if isinstance(input_scale, Standardization) else float(input_scale)
        self.output = output
        _check_only_layers(activation, layers)
        if layers is None:
            for number, weight in enumerate(self.weights, start=1):
                if weight.ndim != 2 or weight.size == 0:
                    raise SettingsError(
                        f"layer {number}: weight of shape {weight.shape}, expected (inputs, units), each 1 or more"
                    )
            layers = _dense_layers([weight.shape[1] for weight in self.weights], activation)
        self.layers = _complete(layers)
        self.shapes = chain_shapes(self.weights[0].shape[:1] if input_shape is None else input_shape, self.layers)
        self.sizes = tuple(map(math.prod, self.shapes))
        self._assign_arrays()
        if self.standardization is not None and self.standardization.mean.size != self.n_inputs:
            raise SettingsError(
                f"a standardization of {self.standardization.mean.size} inputs, expected {self.n_inputs} for {self}"
            )

    def _assign_arrays(self) -> None:
        """Find each layer's arrays; SettingsError unless they have the shapes that it states, and are finite."""
        expected: list[tuple[int, Shape, Shape]] = []
        statistics: list[tuple[int, Shape]] = []
        self._places: list[tuple[slice, slice]] = []  # of each layer's arrays in `weights` and in `statistics`
        for number, (parameters, measured) in enumerate(array_shapes(self.layers, self.shapes[:-1]), start=1):
            start = len(expected), len(statistics)
            expected += [(number, parameters[0], parameters[1])] if parameters else []
            statistics += [(number, each) for each in measured]
            self._places.append((slice(start[0], len(expected)), slice(start[1], len(statistics))))
        for found, wanted, name in ((self.weights, expected, "weights"), (self.statistics, statistics, "statistics")):
            if len(found) != len(wanted):
                raise SettingsError(f"{len(found)} {name}, expected {len(wanted)} for the layers")
        for weight, bias, (number, weight_shape, bias_shape) in zip(self.weights, self.biases, expected, strict=True):
            for name, array, expects in (("weight", weight, weight_shape), ("bias", bias, bias_shape)):
                if array.shape != expects:
                    raise SettingsError(f"layer {number}: {name} of shape {array.shape}, expected {expects}")
            if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
                raise SettingsError(
                    f"layer {number}: a weight or bias is not finite as {self.dtype}, expected finite numbers"
                )
        for array, (number, expects) in zip(self.statistics, statistics, strict=True):
            if array.shape != expects or not np.isfinite(array).all():
                raise SettingsError(
                    f"layer {number}: statistics of shape {array.shape}, expected finite numbers of shape {expects}"
                )

    @classmethod
    def initialize(
        cls,
        sizes: Sequence[int],
        layers: Sequence[Layer] | None = None,
        *,
        activation: str | Sequence[str] = "relu",
        initializer: str = "auto",
        seed: int = 0,
        dtype: Any = np.float32,
        input_scale: float | Standardization = 1.0,
        output: str = "softmax",
    ) -> "Network":
        """Return a network with random weights and zero biases.

        Parameters
        ----------
        sizes : sequence of int
            Without `layers`: the number of inputs, the number of units of each hidden layer, and the number of outputs,
            each 1 or more: ``(784, 128, 10)``. With `layers`: the shape of an input row, ``(784,)``.
        layers : sequence of Layer, or None
            The layers, first to last. None: dense layers.
        activation, input_scale, output
            As in `Network`.
        initializer : {"auto", "he", "he_uniform", "glorot", "glorot_normal", "lecun"}
            The distribution of the weights. Biases begin at 0.

            - "he": normal with variance 2 / fan_in [1]_, suited to ReLU; "he_uniform": uniform with this variance.
            - "glorot": uniform within +-sqrt(6 / (fan_in + fan_out)) [2]_; "glorot_normal": normal with the same
              variance, 2 / (fan_in + fan_out).
            - "lecun": normal with variance 1 / fan_in [3]_.
            - "auto": for each layer, the one that suits its activation: "he" for ReLU and its relatives, else
              "glorot". The last layer has that of the layer before it.
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
        OutOfMemoryError
            If the arrays would need more memory than the process may use. Nothing is allocated then.

        References
        ----------
        .. [1] He et al. 2015, "Delving deep into rectifiers", arXiv:1502.01852, equation 10.
        .. [2] Glorot and Bengio 2010, "Understanding the difficulty of training deep feedforward neural networks",
           equation 16.
        .. [3] LeCun et al. 1998, "Efficient backprop", section 4.6.

        Examples
        --------
        >>> import fastnn
        >>> fastnn.Network.initialize((784, 128, 10), input_scale=1 / 255)
        Network(784 -> 128 relu -> 10 softmax, float32, 101,770 parameters)
        """
        _check_only_layers(activation, layers)
        if layers is None:
            if not is_ordered(sizes) or len(sizes) < 2 or not all(map(is_count, sizes)):
                raise SettingsError(f"sizes are {short(sizes)}, expected {SIZES}")
            named = f"sizes are {short(tuple(sizes))}"
            sizes, layers = sizes[:1], _dense_layers(sizes[1:], activation)
        else:
            named = ""
        check_choice("initializer", initializer, INITIALIZER_NAMES)
        if np.dtype(dtype) not in (np.dtype(np.float32), np.dtype(np.float64)):
            raise SettingsError(f"dtype is {np.dtype(dtype)}, expected float32 or float64")
        rng, layers = generator(seed, "weights"), _complete(layers)
        shapes = chain_shapes(sizes, layers)
        _check_initial_memory(named, layers, shapes, np.dtype(dtype))
        previous = activation if isinstance(activation, str) else "relu"
        weights, biases, statistics = [], [], []
        for layer, shape in zip(layers, shapes, strict=False):
            previous = previous if layer is layers[-1] else layer.activation
            suited = ACTIVATIONS[previous].initializer if initializer == AUTO_INITIALIZER else initializer
            parameters = layer.parameter_shapes(shape)
            if parameters is not None:
                weights.append(layer.initial_weight(rng, shape, suited).astype(dtype))
                biases.append(np.zeros(parameters[1], dtype))
            statistics += [array.astype(dtype) for array in layer.initial_statistics(shape)]
        return cls(weights, biases, "relu", input_scale, output, layers, sizes, statistics)

    @classmethod
    def for_data(
        cls, data: Any, hidden: Sequence[int | Layer], *, standardize: bool = False, **settings: Any
    ) -> "Network":
        """Return a network with random weights whose inputs, input scale and classes fit `data`.

        Parameters
        ----------
        data : Dataset, (images, labels), or BlockedData
            Gives the number of inputs, the number of classes (at least 2) and the input scale ``1 / pixel_max``.
        hidden : sequence of int or Layer
            The hidden layers; a number stands for a dense layer with so many units. Empty for none. With a layer for
            images, such as `Conv2D`, `data` needs an image shape.
        standardize : bool
            Whether the network learns the mean and the scale of each input from `data`, instead of ``1 / pixel_max``.
            Of `BlockedData`, it takes the first rows, at most 4,096.
        settings
            Passed to `initialize`: `activation`, `initializer`, `seed`, `dtype`, `output`. `activation` is for hidden
            layers that name none, except pools and `BatchNorm`. By default, `output` is "identity" if `data` has
            targets, else "softmax".

        Returns
        -------
        Network

        Raises
        ------
        SettingsError
            If an argument is out of range.
        OutOfMemoryError
            As in `initialize`.

        Examples
        --------
        >>> import fastnn
        >>> fastnn.Network.for_data(fastnn.load_digits(), hidden=(32,))
        Network(64 -> 32 relu -> 10 softmax, float32, 2,410 parameters)
        """
        if not is_ordered(hidden):
            raise SettingsError(f"hidden is {short(hidden)}, expected a sequence of layers or numbers of units")
        data = as_dataset(data.head() if hasattr(data, "n_blocks") else data)
        hidden, n_inputs = list(hidden), data.images.shape[1]
        n_outputs = data.n_classes if data.has_targets else max(2, data.n_classes)
        scale = Standardization.fit(data.images) if standardize else 1 / data.pixel_max
        output = "identity" if data.has_targets else "softmax"
        settings = {"input_scale": scale, "output": output, **settings}
        n_numbers = sum(not isinstance(layer, Layer) for layer in hidden)
        if not all(isinstance(layer, Layer) or is_count(layer) for layer in hidden):
            raise SettingsError(
                f"hidden is {short(hidden)}, expected layers or numbers of units, whole, 1 or more and less than 2**63"
            )
        if n_numbers == len(hidden):
            try:
                return cls.initialize((n_inputs, *hidden, n_outputs), **settings)  # type: ignore[arg-type]
            except OutOfMemoryError as error:
                raise OutOfMemoryError(f"hidden is {short(hidden)}, {error}") from None
        layers = hidden_layers(hidden, settings.pop("activation", "relu"))
        return cls.initialize(_input_shape(data, layers), [*layers, Dense(n_outputs)], **settings)

    def like(self, weights: Sequence[Any], biases: Sequence[Any], statistics: Sequence[Any] | None = None) -> "Network":
        """Return a network with these weights and biases, and everything else of this network.

        Parameters
        ----------
        weights, biases : sequence of ndarray
            Arrays of the shapes of this network's; copied.
        statistics : sequence of ndarray, or None
            Likewise; None: those of this network.

        Returns
        -------
        Network

        Raises
        ------
        SettingsError
            If the shapes do not match, or an array is not finite.

        Examples
        --------
        >>> import fastnn
        >>> network = fastnn.Network.initialize((4, 3, 2))
        >>> halved = network.like([weight / 2 for weight in network.weights], network.biases)
        >>> bool((halved.weights[0] == network.weights[0] / 2).all())
        True
        """
        statistics = self.statistics if statistics is None else statistics
        chain = (self.input_transform, self.output, self.layers, self.shapes[0], statistics)
        return Network(weights, biases, "relu", *chain)

    def holding(self, weights: Sequence[np.ndarray], biases: Sequence[np.ndarray]) -> "Network":
        """Return `like` of arrays that a trainer has just made: they are neither copied nor checked.

        Without statistics only, which both networks would share. The caller vouches for shapes, dtype and finiteness.
        """
        network = object.__new__(type(self))
        network.__dict__ = {**self.__dict__, "weights": tuple(weights), "biases": tuple(biases)}
        return network

    def with_outputs(self, n_outputs: int, *, output: str | None = None, seed: int = 0) -> "Network":
        """Return a network with a new last layer, whose weights are random, and everything else of this network.

        Parameters
        ----------
        n_outputs : int
            The number of units of the new layer.
        output : str or None
            The output function, as in `Network`; None: that of this network.
        seed : int
            Determines the new weights: they are those of `initialize`.

        Returns
        -------
        Network

        Raises
        ------
        SettingsError
            If the last layer is not dense, or an argument is out of range.

        Examples
        --------
        >>> import fastnn
        >>> network = fastnn.Network.initialize((784, 128, 10))
        >>> network.with_outputs(5)
        Network(784 -> 128 relu -> 5 softmax, float32, 101,125 parameters)
        """
        *layers, last = self.layers
        if type(last) is not Dense:
            raise SettingsError(f"the last layer of {self} is {last}, expected a dense one to replace")
        fresh = Network.initialize(self.shapes[0], [*layers, Dense(n_outputs)], seed=seed, dtype=self.dtype)
        return Network(
            [*self.weights[:-1], fresh.weights[-1]], [*self.biases[:-1], fresh.biases[-1]],
            input_scale=self.input_transform, output=output or self.output, layers=fresh.layers,
            input_shape=self.shapes[0], statistics=self.statistics,
        )  # fmt: skip

    @property
    def input_transform(self) -> float | Standardization:
        """What the network does to its inputs: the standardization, or else the input scale."""
        return self.input_scale if self.standardization is None else self.standardization

    @property
    def core(self) -> "Network":
        """The same network for inputs that are standardised already. It shares the arrays."""
        if self.standardization is None:
            return self
        core = copy(self)
        core.standardization = None
        return core

    def part(self, start: int, stop: int, layers: Sequence[Layer]) -> "Network":
        """Return a copy of this network that has only the arrays of its layers from `start` to before `stop`.

        It shares the arrays. `layers` take the place of these layers: their activations may differ. SettingsError if
        none of them has a weight.
        """
        (first, first_statistics), (last, last_statistics) = self._places[start], self._places[stop - 1]
        own, statistics = slice(first.start, last.stop), slice(first_statistics.start, last_statistics.stop)
        if own.start == own.stop:
            raise SettingsError(f"layers {start + 1} to {stop} of {self} have no weights, expected some")
        part = copy(self)
        part.weights, part.biases, part.statistics = self.weights[own], self.biases[own], self.statistics[statistics]
        part.layers, shapes = tuple(layers), slice(start, stop + 1)
        part.shapes, part.sizes = self.shapes[shapes], self.sizes[shapes]
        part._places = [
            (_moved(place, own.start), _moved(measured, statistics.start))
            for place, measured in self._places[start:stop]
        ]
        return part

    def check_arrays(self) -> None:
        """Raise SettingsError unless the network still has as many arrays of numbers as its layers need.

        The constructor has checked that, but a program may have given the attributes other values.
        """
        own, statistics = self._places[-1]
        for name, count in (("weights", own.stop), ("biases", own.stop), ("statistics", statistics.stop)):
            arrays = getattr(self, name)
            if not isinstance(arrays, (tuple, list)) or len(arrays) != count:
                found = f"{len(arrays)} arrays" if isinstance(arrays, (tuple, list)) else f"a {type(arrays).__name__}"
                raise SettingsError(f"the {name} of the network are {found}, expected {count} arrays")
            for number, array in enumerate(arrays, start=1):
                if not isinstance(array, (np.ndarray, list)):
                    found = type(array).__name__
                    raise SettingsError(f"array {number} of the network's {name} is a {found}, expected an array")

    def chain(self) -> Iterator[tuple[Layer, Arrays]]:
        """Yield every layer with its arrays, first to last."""
        for layer, (own, statistics) in zip(self.layers, self._places, strict=True):
            weight, bias = (*self.weights[own], *self.biases[own]) or (None, None)
            yield layer, Arrays(weight, bias, self.statistics[statistics])

    @property
    def loss(self) -> Loss:
        """The row of `fastnn.network.losses.LOSSES` that belongs to the output."""
        return LOSSES[self.output]

    @property
    def activation(self) -> str | tuple[str, ...]:
        """The activation of the hidden layers if all have the same ("relu" if there are none), else one for each."""
        names = tuple(str(layer.activation) for layer in self.layers[:-1])
        return names if len(set(names)) > 1 else names[0] if names else "relu"

    @property
    def is_dense(self) -> bool:
        """Whether all layers are dense."""
        return all(type(layer) is Dense for layer in self.layers)

    @property
    def decayed(self) -> list[bool]:
        """Whether L2 and weight decay apply to each of the weights."""
        return [layer.is_decayed for layer, arrays in self.chain() if arrays.weight is not None]

    @property
    def dropped_sizes(self) -> list[int]:
        """The number of inputs, and of those of each dense layer after the first layer: what dropout may drop."""
        layers = list(zip(self.layers, self.sizes, strict=False))
        return [self.n_inputs, *(size for layer, size in layers[1:] if layer.drops_inputs)]

    def l2_penalty(self, l2: float) -> float:
        """Return ``l2 / 2`` times the sum of the squared weights, without the biases and the scales of `BatchNorm`."""
        pairs = zip(self.weights, self.decayed, strict=True)
        return 0.5 * l2 * sum(float(np.sum(weight**2, dtype=np.float64)) for weight, is_decayed in pairs if is_decayed)

    @property
    def n_inputs(self) -> int:
        """D, the number of inputs."""
        return self.sizes[0]

    @property
    def n_outputs(self) -> int:
        """C, the number of outputs."""
        return self.sizes[-1]

    @property
    def n_classes(self) -> int:
        """C, the number of classes: another name for `n_outputs`."""
        return self.n_outputs

    @property
    def dtype(self) -> np.dtype:
        """The dtype of weights, biases and results: float32 or float64."""
        return self.weights[0].dtype

    @property
    def n_multiplications(self) -> int:
        """About how many multiplications the prediction of a row takes."""
        pairs = zip(self.layers, self.shapes, strict=False)
        return sum(layer.n_multiplications(shape) for layer, shape in pairs)

    @property
    def n_parameters(self) -> int:
        """The number of weights and biases."""
        return sum(array.size for array in (*self.weights, *self.biases))

    def __repr__(self) -> str:
        parts = [layer.describe(shape) for layer, shape in zip(self.layers, self.shapes[1:], strict=True)]
        names = [*(layer.activation for layer in self.layers[:-1]), self.output]
        # Whoever reads "max pool" expects no activation.
        told = [
            f" {name}" if name != "identity" or arrays.weight is not None else ""
            for name, (_, arrays) in zip(names, self.chain(), strict=True)
        ]
        chain = "".join(f" -> {part}{name}" for part, name in zip(parts, told, strict=True))
        inputs = "x".join(map(str, self.shapes[0]))
        if self.standardization is not None:
            inputs += " shifted" if self.standardization.is_uniform else " standardised"
        return f"Network({inputs}{chain}, {self.dtype}, {self.n_parameters:,} parameters)"


def chain_shapes(input_shape: Sequence[int], layers: Sequence[Layer]) -> tuple[Shape, ...]:
    """Return the shape of an input row, and of each layer's output row."""
    shapes = [tuple(input_shape)]
    if not shapes[0] or not all(map(is_count, shapes[0])):
        raise SettingsError(f"input_shape is {short(shapes[0])}, expected sizes from 1 to 2**63 - 1")
    _check_size("input_shape is", shapes[0])
    for number, layer in enumerate(layers, start=1):
        try:
            shapes.append(layer.output_shape(shapes[-1]))
        except SettingsError as error:
            raise SettingsError(f"layer {number}: {error}") from None
        _check_size(f"layer {number}: the output shape is", shapes[-1])
    return tuple(shapes)


def _check_size(named: str, shape: Shape) -> None:
    """Raise SettingsError if a row of this shape has more numbers than an index can count."""
    if not is_count(math.prod(shape)):
        raise SettingsError(f"{named} {short(shape)}, {math.prod(shape)} numbers, expected less than 2**63")


def _moved(place: slice, by: int) -> slice:
    """Return a slice with both ends nearer to 0."""
    return slice(place.start - by, place.stop - by)


def _input_shape(data: "Dataset", layers: Sequence[Layer]) -> Shape:
    """Return the shape of the rows of `data` for these hidden layers: (1, H, W) if a layer needs images."""
    n_inputs = data.images.shape[1]
    if not any(isinstance(layer, (Conv2D, MaxPool2D, AvgPool2D)) for layer in layers):
        return (n_inputs,)
    if data.image_shape is None:
        raise SettingsError(
            f"layers are {format_layers(layers)}, which need images, but {data.name} has rows of {n_inputs} inputs "
            "without an image shape; give image_shape (--image-shape HxW)"
        )
    height, width = data.image_shape
    return (n_inputs // (height * width), height, width)


def _check_initial_memory(named: str, layers: Sequence[Layer], shapes: Sequence[Shape], dtype: np.dtype) -> None:
    """Raise OutOfMemoryError if the arrays of a network, while they are drawn, need more memory than there is."""
    sizes = [sum(map(math.prod, each)) for each, _ in array_shapes(layers, shapes[:-1])]
    n_parameters = sum(sizes)
    # Each array is drawn in float64. At the end, there are the arrays and the network's copies.
    n_bytes = n_parameters * dtype.itemsize + max(n_parameters * dtype.itemsize, 8 * max(sizes))
    parts = (layer.describe(shape) for layer, shape in zip(layers, shapes[1:], strict=True))
    named = named or f"layers are {' -> '.join(parts)}"
    check_memory(n_bytes, f"{named}: {n_parameters:,} parameters")


def _check_only_layers(activation: str | Sequence[str], layers: Any) -> None:
    """Raise SettingsError if both an activation and layers with activations of their own are given."""
    if layers is not None and activation != "relu":
        raise SettingsError(f"activation is {activation!r} beside layers, expected each layer to name its own")


def hidden_activations(n_hidden: int, activation: str | Sequence[str]) -> list[str]:
    """Return the activation of each hidden layer."""
    if not isinstance(activation, (list, tuple, np.ndarray)):
        return [check_choice("activation", activation, list(ACTIVATIONS))] * n_hidden
    names = [check_choice("activation", name, list(ACTIVATIONS)) for name in activation]
    if len(names) != n_hidden:
        raise SettingsError(f"{len(names)} activations, expected one name, or one for each of {n_hidden} hidden layers")
    return names


def hidden_layers(hidden: Sequence[Any], activation: str | Sequence[str]) -> list[Layer]:
    """Return hidden layers, each with an activation; a number stands for a dense layer.

    activation: that of the layers that name none, or one for each of these. Pools and `BatchNorm` are not among them.
    """
    layers = [layer if isinstance(layer, Layer) else Dense(layer) for layer in hidden]
    is_open = [layer.activation is None and layer.default_activation != "identity" for layer in layers]
    names = iter(hidden_activations(sum(is_open), activation))
    return [
        layer.with_activation(next(names) if each else layer.activation or layer.default_activation)
        for layer, each in zip(layers, is_open, strict=True)
    ]


def _dense_layers(units: Sequence[int], activation: str | Sequence[str]) -> list[Layer]:
    """Return dense layers with these numbers of units and activations; the last one has none yet."""
    names = [*hidden_activations(len(units) - 1, activation), None]
    return [Dense(size, name) for size, name in zip(units, names, strict=True)]


def _complete(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """Return the layers with an activation for each: None is the layer's default, and "identity" in the last layer."""
    if not isinstance(layers, Sequence) or not layers or not all(isinstance(layer, Layer) for layer in layers):
        raise SettingsError(f"layers are {layers}, expected one or more, such as Dense(10)")
    *hidden, last = layers
    if last.activation not in (None, "identity"):
        raise SettingsError(
            f"the activation of the last layer is {last.activation}, expected identity: the output function follows it"
        )
    named = [layer if layer.activation else layer.with_activation(layer.default_activation) for layer in hidden]
    return (*named, last.with_activation("identity"))
