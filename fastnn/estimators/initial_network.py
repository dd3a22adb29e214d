"""The network that a fit starts from: weights drawn as in scikit-learn or by an initializer, and the input scale."""

from itertools import pairwise
from typing import Any

import numpy as np

from fastnn.checks import short
from fastnn.datasets.sparse import is_sparse
from fastnn.estimators.parameters import items
from fastnn.estimators.plain_data import N_PASSES
from fastnn.interruptible import interruptible
from fastnn.memory import check_training_memory
from fastnn.network import Network, Standardization
from fastnn.network.network import hidden_activations

# The number of rows that tell the levels of images.
ROWS_FOR_LEVELS = 200


def initial_network(
    estimator: Any, X: Any, output: tuple[str, int], random_state: np.random.RandomState, incremental: bool
) -> Network:
    """Return a network with the estimator's parameters.

    Without `initializer`, weights and biases have scikit-learn's order and distribution, which is uniform: Glorot and
    Bengio (2010), equation 16.

    Parameters
    ----------
    estimator : BaseMLP
    X : ndarray or CSR matrix of shape (N, D)
        The training inputs, which a network with `standardize` learns their scale from.
    output : (str, int)
        The function of the outputs, and their number.
    random_state : RandomState
        What the weights are drawn from.
    incremental : bool
        Whether the fit is a `partial_fit`, which may have a single row.

    Raises
    ------
    ValueError
        If X has too few rows for a standardization, or `input_scale` is set beside it.
    OutOfMemoryError
        If the network and its training need more memory than there is.
    """
    dtype, (function, n_outputs) = np.dtype(estimator.dtype), output
    sizes = (X.shape[1], *map(int, items(estimator.hidden_layer_sizes)), n_outputs)
    _check_memory(estimator, sizes, dtype.itemsize)
    if estimator.initializer is not None:
        return Network.initialize(
            sizes, activation=estimator.activation, initializer=estimator.initializer, dtype=dtype, output=function,
            seed=int(random_state.randint(2**31 - 1)), input_scale=_input_transform(estimator, X, incremental),
        )  # fmt: skip
    names = hidden_activations(len(sizes) - 2, estimator.activation)
    weights, biases = [], []
    for (fan_in, fan_out), name in zip(pairwise(sizes), [*names, *names[-1:]] or [estimator.activation], strict=True):
        bound = np.sqrt((2 if name == "logistic" else 6) / (fan_in + fan_out))
        weights.append(random_state.uniform(-bound, bound, (fan_in, fan_out)).astype(dtype))
        biases.append(random_state.uniform(-bound, bound, fan_out).astype(dtype))
    return Network(weights, biases, estimator.activation, _input_transform(estimator, X, incremental), function)


def _input_transform(estimator: Any, X: Any, incremental: bool) -> float | Standardization:
    """Return the input scale, or the standardization of X; ValueError if X has too few rows for one."""
    if not estimator.standardize:
        return float(estimator.input_scale)
    if estimator.input_scale != 1:
        raise ValueError(f"input_scale is {estimator.input_scale}, expected 1 with standardize=True")
    if incremental and X.shape[0] < 2:
        raise ValueError("X has 1 row, expected 2 or more in the first partial_fit with standardize=True")
    return interruptible(Standardization.fit, X, work=N_PASSES * np.prod(X.shape))


def _check_memory(estimator: Any, sizes: tuple[int, ...], itemsize: int) -> None:
    """Raise OutOfMemoryError, before any allocation, if the network and its training need too much memory."""
    n_parameters = sum((fan_in + 1) * fan_out for fan_in, fan_out in pairwise(sizes))
    check_training_memory(
        n_parameters,
        itemsize,
        estimator._optimizer().state_bytes(itemsize),
        lambda: f"hidden_layer_sizes is {short(estimator.hidden_layer_sizes)}: {n_parameters:,} parameters",
    )


def column_levels(X: Any) -> np.ndarray | None:
    """Return the smallest, the median and the largest value of each column of X, (3, D); None for a sparse matrix.

    Of many rows, it takes some. If X turns out to be images, this tells their range, and if they are dark on light.
    """
    if is_sparse(X):
        return None
    rows = X[:: max(1, len(X) // ROWS_FOR_LEVELS)]
    rows = np.sort(rows.astype(np.float32) if rows.dtype == np.uint8 else rows, axis=0)  # bytes sort slowly
    n_rows = len(rows)
    with np.errstate(over="ignore"):  # levels beyond float32 are those of no image
        median = rows[(n_rows - 1) // 2 : n_rows // 2 + 1].mean(axis=0)
        return np.stack([rows[0], median, rows[-1]]).astype(np.float32)
