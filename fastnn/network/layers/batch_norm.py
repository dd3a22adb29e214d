"""`BatchNorm`: every unit, or every channel of images, gets mean 0 and variance 1 over a batch."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fastnn.checks import check_number
from fastnn.errors import SettingsError
from fastnn.network.layers.base import Arrays, Forward, Gradients, Layer, Shape, n_units


@dataclass(frozen=True)
class BatchNorm(Layer):
    """Batch normalisation: every unit gets mean 0 and variance 1 over the batch, then a scale and a shift of its own.

    Of images, (C, H, W), every channel is such a unit, and its H * W places count like samples. In training, mean and
    variance are those of the batch, and their running averages are kept as the layer's statistics. In prediction, the
    running averages take their place. Sample weights do not weigh them. The scale is the layer's weight, (H,), the
    shift its bias, (H,); L2 and weight decay leave both alone.

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
    divided by B, the one that enters the running average by B - 1; B * H * W stands for B in a channel of images
    (section 3.2). A network needs batches of 2 samples or more.
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
        return (n_units(input_shape),), (n_units(input_shape),)

    def initial_weight(self, rng: np.random.Generator, input_shape: Shape, initializer: str) -> np.ndarray:
        return np.ones(n_units(input_shape))

    def initial_statistics(self, input_shape: Shape) -> tuple[np.ndarray, ...]:
        return np.zeros(n_units(input_shape)), np.ones(n_units(input_shape))

    def statistics_shapes(self, input_shape: Shape) -> tuple[Shape, ...]:
        return self.parameter_shapes(input_shape)

    def n_multiplications(self, input_shape: Shape) -> int:
        return math.prod(input_shape)

    def check_batch(self, batch_size: int, slices: int | None = None) -> None:
        if batch_size < 2:
            found = f"batch_size is {batch_size}" if slices is None else f"slices is {slices} for too small a batch"
            rows = "2 or more" if slices is None else "2 samples or more in each slice"
            raise SettingsError(f"{found}, expected {rows} for batch normalisation")

    def forward(self, ops: Any, inp: np.ndarray, arrays: Arrays, training: bool) -> Forward:
        units = _by_units(inp)
        if not training or len(inp) < 2:  # a single sample has no variance
            mean, variance = arrays.statistics
            out = ops.batch_norm(units, arrays.weight, arrays.bias, mean, variance, self.epsilon)
            return Forward(_as_before(out, inp.shape))
        sums, mean, variance = ops.batch_norm_forward(units, arrays.weight, arrays.bias, self.epsilon)
        unbiased = variance * inp.dtype.type(len(units) / max(1, len(units) - 1))
        return Forward(_as_before(sums, inp.shape), (mean, variance), (mean, unbiased))

    def backward(
        self, ops: Any, dsums: np.ndarray, inp: np.ndarray, saved: Any, arrays: Arrays, needs_dinp: bool
    ) -> Gradients:
        shape, dsums, inp = inp.shape, _by_units(dsums), _by_units(inp)
        if saved is not None:
            dinp, dweight, dbias = ops.batch_norm_backward(dsums, inp, arrays.weight, *saved, self.epsilon)
            return _as_before(dinp, shape), dweight, dbias
        mean, variance = arrays.statistics  # in prediction, they are constants
        slope = 1 / np.sqrt(variance + inp.dtype.type(self.epsilon))
        dinp = _as_before(dsums * (arrays.weight * slope), shape)
        return dinp, (dsums * ((inp - mean) * slope)).sum(axis=0), dsums.sum(axis=0)


def _by_units(inp: np.ndarray) -> np.ndarray:
    """Return a batch with a column for each unit: of images, (B, C, H, W), a row is a place of a sample."""
    if inp.ndim == 4:
        return np.ascontiguousarray(np.moveaxis(inp, 1, 3)).reshape(-1, inp.shape[1])
    return inp.reshape(len(inp), -1)


def _as_before(units: np.ndarray, shape: Shape) -> np.ndarray:
    """Return what `_by_units` has made of a batch of this shape in that shape again."""
    if len(shape) == 4:
        n_samples, n_channels, *sizes = shape
        return np.ascontiguousarray(np.moveaxis(units.reshape(n_samples, *sizes, n_channels), 3, 1))
    return units.reshape(shape)
