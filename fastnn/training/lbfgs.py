"""L-BFGS: minimises the loss over all weights and biases at once, with gradients of the whole data set.

The minimiser is SciPy's L-BFGS-B (Byrd et al. 1995; Zhu et al. 1997), as in scikit-learn.
"""

import time
from collections.abc import Callable, Sequence
from itertools import accumulate

import numpy as np

from fastnn.backends.base import EpochResult, LossAndGradients, Objective
from fastnn.network import Network
from fastnn.optim.optimizers import LBFGS


class NoStart(ArithmeticError):
    """The loss or gradient at the initial weights is not finite, so no search can start."""


def minimize(
    objective: Objective,
    network: Network,
    n_samples: int,
    optimizer: LBFGS,
    max_iterations: int,
    end_iteration: Callable[[Callable[[], Network], EpochResult, float], str | None],
) -> tuple[str, float]:
    """Minimise the objective, starting from the weights of `network`.

    Parameters
    ----------
    objective : function of (weights, biases)
        Returns LossAndGradients.
    network : Network
        The initial weights; it does not change.
    n_samples : int
        The number of samples in the objective, for the accuracy.
    optimizer : LBFGS
    max_iterations : int
    end_iteration : function of (make_network, result, seconds)
        Called after each iteration. `make_network()` returns the current network, and `result` is an EpochResult. If it
        returns a string, the search stops for that reason.

    Returns
    -------
    stopped : str
        Why the search ended, as in `TrainingResult.stopped`.
    loss : float

    Raises
    ------
    NoStart
        If the loss or gradient at the initial weights is not finite.
    """
    from scipy.optimize import minimize as scipy_minimize

    arrays = (*network.weights, *network.biases)
    ends, n_layers = list(accumulate(array.size for array in arrays))[:-1], len(network.weights)
    last: LossAndGradients | None = None
    reason: str | None = None
    began = time.perf_counter()

    def split(flat: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        parts = np.split(flat.astype(network.dtype), ends)
        shaped = [part.reshape(array.shape) for part, array in zip(parts, arrays, strict=True)]
        return shaped[:n_layers], shaped[n_layers:]

    def value_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal last
        with np.errstate(over="ignore"):  # a step that is too long gets an infinite loss below
            weights, biases = split(flat)
        if all(np.isfinite(array).all() for array in (*weights, *biases)):
            result = objective(weights, biases)
            gradient = _join([*result.dweights, *result.dbiases])
            if np.isfinite(result.loss) and np.isfinite(gradient).all():
                last = result
                return result.loss, gradient
        if last is None:
            raise NoStart
        return np.inf, np.zeros(flat.shape)

    def callback(flat: np.ndarray) -> None:
        nonlocal reason, began
        assert last is not None  # SciPy accepts the point that it evaluated last
        accuracy = np.nan if network.output == "identity" else last.n_correct / n_samples
        seconds = time.perf_counter() - began
        reason = end_iteration(lambda: network.like(*split(flat)), EpochResult(last.loss, accuracy), seconds)
        if reason is not None:
            raise StopIteration
        began = time.perf_counter()

    found = scipy_minimize(
        value_and_gradient, _join(arrays), jac=True, method="L-BFGS-B", callback=callback,
        options={"maxiter": max_iterations, "maxfun": optimizer.max_evaluations, "gtol": optimizer.tolerance},
    )  # fmt: skip
    return reason or {0: "converged", 1: "epochs"}.get(found.status, "stalled"), float(found.fun)


def _join(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([array.ravel() for array in arrays], dtype=np.float64)
