"""L-BFGS: minimises the loss over all weights and biases at once, with gradients of the whole data set.

The search (`fastnn.optim.quasi_newton`) is in float64, whatever the dtype of the network.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np

from fastnn.backends import backend_name
from fastnn.backends.base import Backend, EpochResult
from fastnn.backends.threads import BLAS_LIMIT
from fastnn.errors import SettingsError
from fastnn.network import Network
from fastnn.network.snapshot import Snapshot
from fastnn.optim.optimizers import LBFGS
from fastnn.optim.quasi_newton import minimize
from fastnn.training.epochs import Ended, Job, Observer

# The `TrainingResult.stopped` for each reason of `Minimum`.
_STOPPED = {"converged": "converged", "iterations": "epochs", "stalled": "stalled"}


def check(job: Job) -> None:
    """Raise SettingsError unless the job starts from the network alone. `TrainingConfig` has checked the rest."""
    if job.state is not None:
        raise SettingsError(f"resume is {job.state!r} with L-BFGS, expected None: it needs one fixed loss")


def run(job: Job, observer: Observer) -> Ended:
    """Minimise the loss, starting from the network's weights; tell the observer of each iteration."""
    network, config, optimizer = job.network, job.config, job.config.update_rule
    assert isinstance(optimizer, LBFGS)
    data = job.data if len(job.rows) == len(job.data.targets) else job.data.take(job.rows)
    objective = job.engine.objective(network, data, config)
    reason: str | None = None
    began, is_first, iterations = 0.0, True, 0

    def evaluate(at: np.ndarray, gradient: np.ndarray) -> float:
        nonlocal is_first
        loss = objective.evaluate(at, gradient)
        if is_first and not (np.isfinite(loss) and np.isfinite(gradient).all()):  # the first epoch fails
            failed, seconds = EpochResult(np.nan, np.nan), time.perf_counter() - began
            observer.end_epoch(failed, np.nan, seconds, lambda: Snapshot.of(network))
        is_first = False
        return loss

    def end_iteration(at: np.ndarray, loss: float) -> bool:
        nonlocal reason, began, iterations
        result = EpochResult(loss, network.loss.accuracy(objective.n_correct, len(job.rows)))
        reason = observer.end_epoch(result, np.nan, time.perf_counter() - began, lambda: objective.snapshot(at))
        iterations += 1
        if reason is None and iterations < config.epochs:
            begin_iteration(lambda: objective.snapshot(at).network)
        return reason is not None

    def begin_iteration(make_network: Callable[[], Network]) -> None:
        nonlocal began
        next(observer.parts(0, 1, make_network))
        began = time.perf_counter()

    begin_iteration(lambda: network)
    with _same_bits_on_any_cores(job.engine), np.errstate(over="ignore", invalid="ignore"):
        found = minimize(
            evaluate, objective.start, optimizer.tolerance, config.epochs, optimizer.max_evaluations, end_iteration,
            network.dtype,
        )  # fmt: skip
    return Ended(reason or _STOPPED[found.reason], lambda: None, found.value)


def _same_bits_on_any_cores(engine: Backend) -> AbstractContextManager[None]:
    """Keep BLAS on one thread for the products of the search, whose rounding depends on the number of threads.

    Not with the reference backend: its own products need all threads, and it promises no bits for another number.
    """
    return nullcontext() if backend_name(engine) == "numpy" else BLAS_LIMIT.hold(1)
