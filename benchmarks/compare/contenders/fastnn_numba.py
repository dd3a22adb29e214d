"""fastnn with its Numba backend. Only public names are used, so that other checkouts run with the same code."""

from collections.abc import Callable

import numpy as np

import fastnn
from benchmarks.compare.problems import Problem

_OPTIMIZERS = {
    "sgd": lambda: fastnn.SGD(),
    "momentum": lambda: fastnn.SGD(momentum=0.9),
    "adam": lambda: fastnn.Adam(),
}


def versions() -> dict[str, str]:
    """Return versions and settings for the report."""
    import numba

    return {"fastnn": fastnn.__version__, "numba": numba.__version__, "numpy": np.__version__}


def _network(problem: Problem) -> fastnn.Network:
    initial = fastnn.Network.initialize(problem.case.sizes, input_scale=problem.input_scale)
    return initial.like(problem.weights, problem.biases)


class epoch:
    """`run(order, rate)` trains for one epoch."""

    def __init__(self, problem: Problem, threads: int) -> None:
        self._problem, self._in_order = problem, np.arange(len(problem.labels))
        self._trainer = fastnn.get_backend("numba").trainer(
            _network(problem),
            problem.images,
            problem.labels,
            _OPTIMIZERS[problem.case.optimizer](),
            threads=threads,
        )

    def __call__(self, order: np.ndarray | None, rate: float) -> float:
        """Train for one epoch and return its mean loss."""
        order = self._in_order if order is None else order
        return self._trainer.run_epoch(order, self._problem.batch_size, rate).loss

    def weights(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return the trained weights and biases."""
        network = self._trainer.network()
        return list(network.weights), list(network.biases)


def predict(problem: Problem, threads: int) -> Callable[[], np.ndarray]:
    """Return a callable that runs `predict_proba` on the uint8 rows."""
    network, images, backend = _network(problem), problem.images, fastnn.get_backend("numba")
    return lambda: backend.predict_proba(network, images, threads)


def product(problem: Problem, threads: int) -> Callable[[], np.ndarray]:
    """Return a callable that runs the backend's `matmul`, including its checks and the allocation of the result."""
    (left, right), backend = problem.factors, fastnn.get_backend("numba")
    return lambda: backend.matmul(left, right)
