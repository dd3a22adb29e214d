"""Hand-written NumPy in float32 with NumPy's own BLAS: the reference's formulas, in place on preallocated arrays."""

from collections.abc import Callable

import numpy as np

from benchmarks.compare.problems import Problem


def versions() -> dict[str, str]:
    """Return versions and settings for the report."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {"numpy": np.__version__, "BLAS of numpy": f"{blas['name']} {blas['version']}"}


class _Layers:
    """Preallocated arrays for the forward and backward pass of one batch length."""

    def __init__(self, sizes: tuple[int, ...], rows: int) -> None:
        self.outs = [np.empty((rows, size), np.float32) for size in sizes]
        self.douts = [np.empty((rows, size), np.float32) for size in sizes]
        self.positive = [np.empty((rows, size), bool) for size in sizes]
        self.labels, self.range = np.empty(rows, np.int64), np.arange(rows)
        self.column = np.empty((rows, 1), np.float32)


def _forward(work: _Layers, weights: list[np.ndarray], biases: list[np.ndarray]) -> np.ndarray:
    """Compute the probabilities of the batch ``work.outs[0]``, in place in ``work.outs[-1]``, and return them."""
    for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True), start=1):
        out = np.matmul(work.outs[layer - 1], weight, out=work.outs[layer])
        out += bias
        if layer < len(weights):
            np.maximum(out, 0, out=out)
    np.max(out, axis=1, keepdims=True, out=work.column)
    out -= work.column
    np.exp(out, out=out)
    np.sum(out, axis=1, keepdims=True, out=work.column)
    out /= work.column
    return out


class epoch:
    """`run(order, rate)` trains for one epoch."""

    def __init__(self, problem: Problem, threads: int) -> None:
        case = problem.case
        self._images, self._labels, self._batch_size = problem.scaled, problem.labels, problem.batch_size
        self._weights = [array.copy() for array in problem.weights]
        self._biases = [array.copy() for array in problem.biases]
        self._parameters = [*self._weights, *self._biases]
        self._gradients = [np.empty_like(array) for array in self._parameters]
        self._scratch = [np.empty_like(array) for array in self._parameters]
        self._slots = [[np.zeros_like(array) for _ in range(2)] for array in self._parameters]
        self._update = getattr(self, f"_{case.optimizer}")
        self._step = 0
        self._true_proba = np.empty(len(self._labels), np.float32)
        self._layers = {rows: _Layers(case.sizes, rows) for rows in self._batch_lengths()}

    def _batch_lengths(self) -> set[int]:
        n = len(self._labels)
        return {min(self._batch_size, n), n % self._batch_size or min(self._batch_size, n)}

    def __call__(self, order: np.ndarray | None, rate: float) -> float:
        """Train for one epoch and return its mean loss."""
        for first in range(0, len(self._labels), self._batch_size):
            end = min(first + self._batch_size, len(self._labels))
            work = self._layers[end - first]
            if order is None:
                work.outs[0], work.labels = self._images, self._labels
            else:
                # With the default mode "raise", NumPy gathers into a buffer first and then copies it.
                np.take(self._images, order[first:end], axis=0, out=work.outs[0], mode="clip")
                np.take(self._labels, order[first:end], out=work.labels, mode="clip")
            out = _forward(work, self._weights, self._biases)
            self._true_proba[first:end] = out[work.range, work.labels]
            self._backward(work, out)
            self._step += 1
            self._update(rate)
        return float(-np.log(self._true_proba).mean(dtype=np.float64))

    def weights(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return the trained weights and biases."""
        return self._weights, self._biases

    def _backward(self, work: _Layers, dout: np.ndarray) -> None:
        dout[work.range, work.labels] -= 1
        dout *= np.float32(1 / len(dout))
        last = len(self._weights)
        for layer in range(last, 0, -1):
            np.matmul(work.outs[layer - 1].T, dout, out=self._gradients[layer - 1])
            np.sum(dout, axis=0, out=self._gradients[last + layer - 1])
            if layer > 1:
                dout = np.matmul(dout, self._weights[layer - 1].T, out=work.douts[layer - 1])
                dout *= np.greater(work.outs[layer - 1], 0, out=work.positive[layer - 1])

    def _sgd(self, rate: float) -> None:
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            gradient *= rate
            parameter -= gradient

    def _momentum(self, rate: float) -> None:
        for parameter, gradient, (velocity, _) in zip(self._parameters, self._gradients, self._slots, strict=True):
            gradient *= rate
            velocity *= 0.9
            velocity -= gradient
            parameter += velocity

    def _adam(self, rate: float) -> None:
        corrected = rate * np.sqrt(1 - 0.999**self._step) / (1 - 0.9**self._step)
        for parameter, gradient, (mean, square), scratch in zip(
            self._parameters, self._gradients, self._slots, self._scratch, strict=True
        ):
            mean *= 0.9
            mean += np.multiply(gradient, 0.1, out=scratch)
            square *= 0.999
            np.multiply(gradient, gradient, out=gradient)
            gradient *= 0.001
            square += gradient
            np.sqrt(square, out=scratch)
            scratch += 1e-8
            np.divide(mean, scratch, out=scratch)
            scratch *= np.float32(corrected)
            parameter -= scratch


def predict(problem: Problem, threads: int) -> Callable[[], np.ndarray]:
    """Return a callable that computes the probabilities of all rows at once."""
    work = _Layers(problem.case.sizes, len(problem.scaled))
    work.outs[0] = problem.scaled
    return lambda: _forward(work, problem.weights, problem.biases)


def product(problem: Problem, threads: int) -> Callable[[], np.ndarray]:
    """Return a callable that computes one matrix product into a preallocated array."""
    left, right = problem.factors
    out = np.empty((len(left), right.shape[1]), np.float32)
    return lambda: np.matmul(left, right, out=out)


def products(problem: Problem, threads: int) -> Callable[[np.ndarray | None, float], float]:
    """Return a callable that computes only the first layer's matrix products of an epoch.

    Each step computes two products: the forward pass and the weight gradient. All steps use the same batch, so no data
    are gathered.
    """
    batch, weight = np.ascontiguousarray(problem.scaled[: problem.batch_size]), problem.weights[0]
    out, dweight = np.empty((len(batch), weight.shape[1]), np.float32), np.empty_like(weight)
    steps = -(-len(problem.scaled) // problem.batch_size)

    def run(order: np.ndarray | None, rate: float) -> float:
        for _ in range(steps):
            np.matmul(batch, weight, out=out)
            np.matmul(batch.T, out, out=dweight)
        return float("nan")

    return run
