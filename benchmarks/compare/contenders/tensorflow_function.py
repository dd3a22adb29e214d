"""TensorFlow in float32: a whole epoch is one `tf.function`, with a loop over the batches in the graph.

Channels are the last axis, the only order that its convolutions on CPUs have. Only for networks of images.
"""

import os
from collections.abc import Callable

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
import tensorflow as tf

from benchmarks.compare.architecture import Conv, Pool
from benchmarks.compare.layouts import channels_last
from benchmarks.compare.problems import Problem


def versions() -> dict[str, str]:
    """Return versions and settings for the report."""
    return {"tensorflow": tf.__version__}


class _Model:
    """The variables of a network, and its forward pass."""

    def __init__(self, problem: Problem, threads: int) -> None:
        _set_threads(threads)
        self._problem = problem
        frozen = problem.case.frozen
        weights = channels_last(problem, problem.weights)
        self.weights = [tf.Variable(weight, trainable=number >= frozen) for number, weight in enumerate(weights)]
        self.biases = [tf.Variable(bias, trainable=number >= frozen) for number, bias in enumerate(problem.biases)]
        self.trained = [variable for variable in (*self.weights, *self.biases) if variable.trainable]

    def logits(self, rows: tf.Tensor) -> tf.Tensor:
        channels, height, width = self._problem.input_shape
        assert channels == 1  # else the axes would have to be exchanged
        out, flat = tf.reshape(rows, (-1, height, width, channels)), False
        arrays = iter(zip(self.weights, self.biases, strict=True))
        for number, layer in enumerate(self._problem.layers, start=1):
            if isinstance(layer, Pool):
                out = tf.nn.max_pool2d(out, 2, 2, "VALID")
                continue
            weight, bias = next(arrays)
            if isinstance(layer, Conv):
                out = tf.nn.bias_add(tf.nn.conv2d(out, weight, 1, "VALID"), bias)
            else:
                out = out if flat else tf.reshape(out, (tf.shape(out)[0], weight.shape[0]))
                out, flat = tf.nn.bias_add(out @ weight, bias), True
            out = out if number == len(self._problem.layers) else tf.nn.relu(out)
        return out


def _set_threads(threads: int) -> None:
    if tf.config.threading.get_intra_op_parallelism_threads() != threads:  # can be set only before the first operation
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)


class epoch:
    """`run(order, rate)` trains for one epoch."""

    def __init__(self, problem: Problem, threads: int) -> None:
        self._problem, self._model = problem, _Model(problem, threads)
        self._images, self._labels = tf.constant(problem.scaled), tf.constant(problem.labels.astype(np.int32))
        self._slots = [[tf.Variable(tf.zeros_like(variable)) for _ in range(2)] for variable in self._model.trained]
        self._powers = [tf.Variable(beta) for beta in problem.case.betas]  # of Adam's decay rates, after each step
        self._epoch = tf.function(self._run_epoch, autograph=True)

    def __call__(self, order: np.ndarray | None, rate: float) -> float:
        """Train for one epoch and return its mean loss."""
        rows = np.arange(len(self._problem.labels)) if order is None else order
        return float(self._epoch(tf.constant(rows.astype(np.int32)), tf.constant(rate, tf.float32)))

    def weights(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return the weights and biases of all layers, trained or frozen."""
        weights, biases = ([each.numpy() for each in group] for group in (self._model.weights, self._model.biases))
        return channels_last(self._problem, weights, back=True), biases

    def _run_epoch(self, order: tf.Tensor, rate: tf.Tensor) -> tf.Tensor:
        n, size = order.shape[0], min(self._problem.batch_size, order.shape[0])
        total = tf.constant(0.0)
        for batch in tf.range(n // size):
            total += self._step(tf.reshape(order[batch * size : (batch + 1) * size], (size,)), rate)
        if n % size:
            total += self._step(order[n - n % size :], rate)
        return total / n

    def _step(self, rows: tf.Tensor, rate: tf.Tensor) -> tf.Tensor:
        """Update the variables with one batch and return the sum of its losses."""
        images, labels = tf.gather(self._images, rows), tf.gather(self._labels, rows)
        with tf.GradientTape() as tape:
            logits, smoothing = self._model.logits(images), self._problem.case.smoothing
            if smoothing:
                targets = (1 - smoothing) * tf.one_hot(labels, logits.shape[1]) + smoothing / logits.shape[1]
                losses = tf.nn.softmax_cross_entropy_with_logits(targets, logits)
            else:
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            loss = tf.reduce_mean(losses)
        gradients = tape.gradient(loss, self._model.trained)
        for variable, gradient, slots in zip(self._model.trained, gradients, self._slots, strict=True):
            if self._problem.case.optimizer == "sgd":
                variable.assign_sub(rate * gradient)
            else:
                self._adam(variable, gradient, slots, rate)
        for power, beta in zip(self._powers, self._problem.case.betas, strict=True):
            power.assign(power * beta)
        return tf.reduce_sum(losses)

    def _adam(self, variable: tf.Variable, gradient: tf.Tensor, slots: list[tf.Variable], rate: tf.Tensor) -> None:
        assert self._problem.case.optimizer == "adam"
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=slots[0].handle,
            v=slots[1].handle,
            beta1_power=self._powers[0],
            beta2_power=self._powers[1],
            lr=rate,
            beta1=self._problem.case.betas[0],
            beta2=self._problem.case.betas[1],
            epsilon=1e-8,
            grad=gradient,
        )


def predict(problem: Problem, threads: int) -> Callable[[], np.ndarray]:
    """Return a callable that computes probabilities in one `tf.function`."""
    model, images = _Model(problem, threads), tf.constant(problem.scaled)
    probabilities = tf.function(lambda rows: tf.nn.softmax(model.logits(rows)))
    return lambda: probabilities(images).numpy()
