"""L-BFGS: minimises the loss over all weights and biases at once, with gradients of the whole data set.

The minimiser is SciPy's L-BFGS-B (Byrd et al. 1995; Zhu et al. 1997), as in scikit-learn.
"""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import accumulate

import numpy as np

from fastnn.backends import backend_name
from fastnn.backends.base import Backend, EpochResult, LossAndGradients
from fastnn.backends.threads import BLAS_LIMIT
from fastnn.errors import SettingsError
from fastnn.optim.optimizers import LBFGS
from fastnn.training.epochs import Ended, Job, Observer


def check(job: Job) -> None:
    """Raise SettingsError unless the job starts from the network alone. `TrainingConfig` has checked the rest."""
    if job.state is not None:
        raise SettingsError(f"resume is {job.state!r} with L-BFGS, expected None: it needs one fixed loss")


def run(job: Job, observer: Observer) -> Ended:
    """Minimise the loss, starting from the network's weights; tell the observer of each iteration."""
    from scipy.optimize import minimize as scipy_minimize

    network, config, optimizer = job.network, job.config, job.config.update_rule
    assert isinstance(optimizer, LBFGS)
    data = job.data if len(job.rows) == len(job.data.targets) else job.data.take(job.rows)
    objective = job.engine.objective(network, data, config)
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
        if last is None:  # not even the initial weights have a finite loss: the first epoch fails
            observer.end_epoch(EpochResult(np.nan, np.nan), np.nan, time.perf_counter() - began, lambda: network)
        return np.inf, np.zeros(flat.shape)

    def callback(flat: np.ndarray) -> None:
        nonlocal reason, began
        assert last is not None  # SciPy accepts the point that it evaluated last
        result = EpochResult(last.loss, network.loss.accuracy(last.n_correct, len(job.rows)))
        statistics, seconds = last.statistics, time.perf_counter() - began
        reason = observer.end_epoch(result, np.nan, seconds, lambda: network.like(*split(flat), statistics))
        if reason is not None:
            raise StopIteration
        began = time.perf_counter()

    with _same_bits_on_any_cores(job.engine):
        found = scipy_minimize(
            value_and_gradient, _join(arrays), jac=True, method="L-BFGS-B", callback=callback,
            options={"maxiter": config.epochs, "maxfun": optimizer.max_evaluations, "gtol": optimizer.tolerance},
        )  # fmt: skip
    stopped = reason or {0: "converged", 1: "epochs"}.get(found.status, "stalled")
    return Ended(stopped, lambda: None, float(found.fun))


def _join(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([array.ravel() for array in arrays], dtype=np.float64)


def _same_bits_on_any_cores(engine: Backend) -> AbstractContextManager[None]:
    """Keep BLAS on one thread for SciPy's dot products, whose rounding depends on the number of threads.

    Not with the reference backend: its own products need all threads, and it promises no bits for another number.
    """
    return nullcontext() if backend_name(engine) == "numpy" else BLAS_LIMIT.hold(1)
