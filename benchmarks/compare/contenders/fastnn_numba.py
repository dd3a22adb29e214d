"""fastnn, by its Numba backend: only public names, so that an older or newer checkout runs by the same code."""

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
    """Versions and settings that the report names."""
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
        """Mean loss over the epoch."""
        order = self._in_order if order is None else order
        return self._trainer.run_epoch(order, self._problem.batch_size, rate).loss

    def weights(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """The trained arrays."""
        network = self._trainer.network()
        return list(network.weights), list(network.biases)


def predict(problem: Problem, threads: int) -> Callable[[], np.ndarray]:
    """`predict_proba` on the uint8 rows."""
    network, images, backend = _network(problem), problem.images, fastnn.get_backend("numba")
    return lambda: backend.predict_proba(network, images, threads)


def product(problem: Problem, threads: int) -> Callable[[], np.ndarray]:
    """`matmul` as the backend has it: checks and a new array for the result included."""
    (left, right), backend = problem.factors, fastnn.get_backend("numba")
    return lambda: backend.matmul(left, right)
