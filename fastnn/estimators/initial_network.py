"""The network that a fit starts from: weights drawn as in scikit-learn or by an initializer, and the input scale."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn.datasets.sparse import is_sparse
from fastnn.estimators.plain_data import N_PASSES
from fastnn.interruptible import interruptible
from fastnn.memory import check_training_memory
from fastnn.network import ACTIVATIONS, Layer, Network, Standardization
from fastnn.network.initializers import AUTO_INITIALIZER
from fastnn.network.layers import Shape, array_shapes
from fastnn.network.network import chain_shapes

# The largest number of rows, and of values in them, that tell the levels of images.
ROWS_FOR_LEVELS, VALUES_FOR_LEVELS = 200, 2**20


def initial_network(
    estimator: Any,
    X: Any,
    output: tuple[str, int],
    random_state: np.random.RandomState,
    incremental: bool,
    transform: Standardization | None = None,
) -> Network:
    """Return a network with the estimator's parameters.

    Without `initializer`, weights and biases have scikit-learn's order and distribution, which is uniform: Glorot and
    Bengio (2010), equation 16.

    Parameters
    ----------
    estimator : NetworkEstimator
    X : ndarray or CSR matrix of shape (N, D)
        The training inputs, which a network with `standardize` learns their scale from.
    output : (str, int)
        The function of the outputs, and their number.
    random_state : RandomState
        What the weights are drawn from.
    incremental : bool
        Whether the fit is a `partial_fit`, which may have a single row.
    transform : Standardization or None
        That of all training inputs, if X are some of them; None: that of X.

    Raises
    ------
    ValueError
        If X has too few rows for a standardization, or `input_scale` is set beside it.
    OutOfMemoryError
        If the network and its training need more memory than there is.
    """
    dtype, (function, n_outputs) = np.dtype(estimator.dtype), output
    shape, layers = estimator._new_chain(n_outputs)
    shapes = chain_shapes(shape, layers)[:-1]
    _check_memory(estimator, layers, shapes, dtype.itemsize)
    if estimator.initializer is not None:
        name = estimator.initializer
        if name == AUTO_INITIALIZER and len(layers) == 1:
            name = ACTIVATIONS[estimator.activation].initializer
        return Network.initialize(
            shape, layers, initializer=name, dtype=dtype, output=function, seed=int(random_state.randint(2**31 - 1)),
            input_scale=_input_transform(estimator, X, incremental, transform),
        )  # fmt: skip
    weights, biases, statistics = [], [], []
    previous = estimator.activation  # without hidden layers, it decides
    for layer, inp in zip(layers, shapes, strict=True):
        parameters, fans = layer.parameter_shapes(inp), layer.fans(inp)
        if parameters is not None and fans is not None:
            previous = previous if layer is layers[-1] else layer.activation
            bound = np.sqrt((2 if previous == "logistic" else 6) / sum(fans))
            weights.append(random_state.uniform(-bound, bound, parameters[0]).astype(dtype))
            biases.append(random_state.uniform(-bound, bound, parameters[1]).astype(dtype))
        elif parameters is not None:  # such as the scale and the shift of batch normalisation
            generator = np.random.default_rng(int(random_state.randint(2**31 - 1)))
            weights.append(layer.initial_weight(generator, inp, "glorot").astype(dtype))
            biases.append(np.zeros(parameters[1], dtype))
        statistics += [array.astype(dtype) for array in layer.initial_statistics(inp)]
    return Network(
        weights, biases, input_scale=_input_transform(estimator, X, incremental, transform), output=function,
        layers=layers, input_shape=shape, statistics=statistics,
    )  # fmt: skip


def _input_transform(
    estimator: Any, X: Any, incremental: bool, transform: Standardization | None
) -> float | Standardization:
    """Return the input scale, or the standardization of X; ValueError if X has too few rows for one."""
    if not estimator.standardize:
        return float(estimator.input_scale)
    if estimator.input_scale != 1:
        raise ValueError(f"input_scale is {estimator.input_scale}, expected 1 with standardize=True")
    if incremental and X.shape[0] < 2:
        raise ValueError("X has 1 row, expected 2 or more in the first partial_fit with standardize=True")
    return transform or interruptible(Standardization.fit, X, work=N_PASSES * np.prod(X.shape))


def _check_memory(estimator: Any, layers: Sequence[Layer], shapes: Sequence[Shape], itemsize: int) -> None:
    """Raise OutOfMemoryError, before any allocation, if the network and its training need too much memory."""
    n_parameters = sum(math.prod(shape) for parameters, _ in array_shapes(layers, shapes) for shape in parameters)
    check_training_memory(
        n_parameters,
        itemsize,
        estimator._optimizer().state_bytes(itemsize),
        lambda: f"{estimator._chain_given()}: {n_parameters:,} parameters",
    )


def column_levels(X: Any) -> np.ndarray | None:
    """Return the smallest, the median and the largest value of each column of X, (3, D); None for a sparse matrix.

    Of many rows, it takes some. If X turns out to be images, this tells their range, and if they are dark on light.
    """
    if is_sparse(X):
        return None
    rows = X[:: max(1, len(X) // ROWS_FOR_LEVELS, X.size // VALUES_FOR_LEVELS)]
    rows = np.sort(rows.astype(np.float32) if rows.dtype == np.uint8 else rows, axis=0)  # bytes sort slowly
    n_rows = len(rows)
    with np.errstate(over="ignore"):  # levels beyond float32 are those of no image
        median = rows[(n_rows - 1) // 2 : n_rows // 2 + 1].mean(axis=0)
        return np.stack([rows[0], median, rows[-1]]).astype(np.float32)
