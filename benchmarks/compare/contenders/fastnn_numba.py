"""fastnn, by its Numba backend."""

from collections.abc import Callable

import numpy as np

from benchmarks.compare.problems import Problem
from fastnn import Network, __version__
from fastnn.backends import get_backend
from fastnn.optimizers import get_optimizer


def versions() -> dict[str, str]:
    """Versions and settings that the report names."""
    import numba

    return {"fastnn": __version__, "numba": numba.__version__, "numpy": np.__version__}


def _network(problem: Problem) -> Network:
    return Network(problem.weights, problem.biases, "relu", problem.input_scale)


class epoch:
    """`run(order, rate)` trains for one epoch."""

    def __init__(self, problem: Problem, threads: int) -> None:
        self._problem, self._in_order = problem, np.arange(len(problem.labels))
        self._trainer = get_backend("numba").trainer(
            _network(problem),
            problem.images,
            problem.labels,
            get_optimizer(problem.case.optimizer),
            threads=threads,
        )

    def __call__(self, order: np.ndarray | None, rate: float) -> float:
        """Mean loss over the epoch."""
        order = self._in_order if order is None else order
        return self._trainer.run_epoch(order, self._problem.batch_size, rate).loss

    def weights(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """The trained arrays."""
        network = self._trainer.network()
        return list(network.weights), list(network.biases)


def predict(problem: Problem, threads: int) -> Callable[[], np.ndarray]:
    """`predict_proba` on the uint8 rows."""
    network, images, backend = _network(problem), problem.images, get_backend("numba")
    return lambda: backend.predict_proba(network, images, threads)


def product(problem: Problem, threads: int) -> Callable[[], np.ndarray]:
    """`matmul` as the backend has it: checks and a new array for the result included."""
    (left, right), backend = problem.factors, get_backend("numba")
    return lambda: backend.matmul(left, right)
