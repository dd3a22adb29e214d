"""L-BFGS: a search over all weights at once, with the gradients of the whole data set.

The search itself is SciPy's L-BFGS-B (Byrd et al. 1995; Zhu et al. 1997), as in scikit-learn.
"""

import time
from collections.abc import Callable, Sequence
from itertools import accumulate

import numpy as np

from fastnn.backends.base import EpochResult, LossAndGradients, Objective
from fastnn.network import Network
from fastnn.optim.optimizers import LBFGS


class NoStart(ArithmeticError):
    """Loss or gradient at the start is not finite: there is nothing to go down from."""


def minimize(
    objective: Objective,
    network: Network,
    n_samples: int,
    optimizer: LBFGS,
    max_iterations: int,
    end_iteration: Callable[[Callable[[], Network], EpochResult, float], str | None],
) -> tuple[str, float]:
    """Search from the weights of `network` on; returns why it ended, as `TrainingResult.stopped` says it, and the loss.

    `end_iteration` is given what makes the network after each iteration, its loss and accuracy, and the seconds; it may
    return a reason to stop. Raises NoStart.
    """
    from scipy.optimize import minimize as scipy_minimize

    arrays = (*network.weights, *network.biases)
    ends, n_layers = list(accumulate(array.size for array in arrays))[:-1], len(network.weights)
    last: LossAndGradients | None = None
    reason: str | None = None
    began = time.perf_counter()

    def split(flat: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        pieces = np.split(flat.astype(network.dtype), ends)
        shaped = [piece.reshape(array.shape) for piece, array in zip(pieces, arrays, strict=True)]
        return shaped[:n_layers], shaped[n_layers:]

    def value_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal last
        with np.errstate(over="ignore"):  # a step too long is answered by an infinite loss
            weights, biases = split(flat)
        if all(np.isfinite(array).all() for array in (*weights, *biases)):
            tried = objective(weights, biases)
            gradient = _join([*tried.dweights, *tried.dbiases])
            if np.isfinite(tried.loss) and np.isfinite(gradient).all():
                last = tried
                return tried.loss, gradient
        if last is None:
            raise NoStart
        return np.inf, np.zeros(flat.shape)

    def callback(flat: np.ndarray) -> None:
        nonlocal reason, began
        assert last is not None  # that of the point taken, which is the last one tried
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
