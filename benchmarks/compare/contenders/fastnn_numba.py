"""fastnn with its Numba backend. Only public names are used, so that other checkouts run with the same code."""

from collections.abc import Callable

import numpy as np

import fastnn
from benchmarks.compare.architecture import Conv, Layer, Pool
from benchmarks.compare.problems import Problem

_OPTIMIZERS = {
    "sgd": lambda problem: fastnn.SGD(),
    "momentum": lambda problem: fastnn.SGD(momentum=0.9),
    "adam": lambda problem: fastnn.Adam(*problem.case.betas),
}


def versions() -> dict[str, str]:
    """Return versions and settings for the report."""
    import numba

    return {"fastnn": fastnn.__version__, "numba": numba.__version__, "numpy": np.__version__}


def build_network(problem: Problem) -> fastnn.Network:
    """Return the network of a case, with its initial weights."""
    if problem.case.architecture:
        initial = fastnn.Network.initialize(
            problem.input_shape, [_layer(layer) for layer in problem.layers], input_scale=problem.input_scale
        )
    else:  # without `layers`, which earlier checkouts lack
        initial = fastnn.Network.initialize(problem.case.sizes, input_scale=problem.input_scale)
    return initial.like(problem.weights, problem.biases)


def _layer(layer: Layer) -> "fastnn.Conv2D | fastnn.MaxPool2D | fastnn.Dense":
    if isinstance(layer, Pool):
        return fastnn.MaxPool2D()
    return fastnn.Conv2D(layer.channels, layer.kernel) if isinstance(layer, Conv) else fastnn.Dense(layer.units)


def _smoothing(problem: Problem) -> dict[str, float]:
    """Return the setting if the case has it; earlier checkouts have none."""
    return {"label_smoothing": problem.case.smoothing} if problem.case.smoothing else {}


class epoch:
    """`run(order, rate)` trains for one epoch, on the features of the frozen layers if there are any."""

    def __init__(self, problem: Problem, threads: int, backend: str = "numba") -> None:
        self._problem, self._in_order = problem, np.arange(len(problem.labels))
        self._front, network, images = None, build_network(problem), problem.images
        engine = fastnn.get_backend(backend)
        if problem.case.frozen:
            from fastnn.models.hidden import features_of  # what `fastnn.train` does with `frozen`
            from fastnn.network.parts import split

            self._front, network = split(network, problem.n_frozen)
            images = features_of(self._front, images, engine, threads)
        self._trainer = engine.trainer(
            network,
            images,
            problem.labels,
            _OPTIMIZERS[problem.case.optimizer](problem),
            threads=threads,
            **_smoothing(problem),
        )

    def __call__(self, order: np.ndarray | None, rate: float) -> float:
        """Train for one epoch and return its mean loss."""
        order = self._in_order if order is None else order
        return self._trainer.run_epoch(order, self._problem.batch_size, rate).loss

    def weights(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return the weights and biases of all layers, trained or frozen."""
        parts = [self._trainer.network()] if self._front is None else [self._front.network, self._trainer.network()]
        return [array for part in parts for array in part.weights], [array for part in parts for array in part.biases]


class _Factors:
    """A schedule of given factors, one for each part of each epoch."""

    def __init__(self, factors: tuple[tuple[float, ...], ...]) -> None:
        self._factors, self.parts_of_epoch = factors, len(factors[0])

    def __call__(self, epoch: float, epochs: int) -> float:
        number, place = divmod(epoch + 0.5, 1)
        return self._factors[int(number)][int(place * self.parts_of_epoch)]


def train(problem: Problem, threads: int) -> Callable[[], tuple[list[np.ndarray], list[np.ndarray]]]:
    """Return a callable that runs `fastnn.train` for all epochs of the case, in the case's orders."""
    case, orders = problem.case, iter([problem.order(epoch) for epoch in range(len(problem.case.factors))])
    network, data = build_network(problem), fastnn.Dataset(problem.images, problem.labels)

    def run() -> tuple[list[np.ndarray], list[np.ndarray]]:
        result = fastnn.train(
            network,
            data,
            epochs=len(case.factors),
            batch_size=case.batch_size,
            learning_rate=case.learning_rate,
            schedule=_Factors(case.factors),
            optimizer=_OPTIMIZERS[case.optimizer](problem),
            shuffle=lambda rows: next(orders),
            backend="numba",
            threads=threads,
            **_smoothing(problem),
        )
        return list(result.network.weights), list(result.network.biases)

    return run


def predict(problem: Problem, threads: int, backend: str = "numba") -> Callable[[], np.ndarray]:
    """Return a callable that runs `predict_proba` on the uint8 rows."""
    network, images, engine = build_network(problem), problem.images, fastnn.get_backend(backend)
    return lambda: engine.predict_proba(network, images, threads)


def product(problem: Problem, threads: int) -> Callable[[], np.ndarray]:
    """Return a callable that runs the backend's `matmul`, including its checks and the allocation of the result."""
    (left, right), backend = problem.factors, fastnn.get_backend("numba")
    return lambda: backend.matmul(left, right)
