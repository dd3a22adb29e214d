"""JAX in float32: a whole epoch is jitted as one scan over the batches, with its state donated.

Networks of images have one of three forms. "convolution" is JAX's own convolution, with channels as the last axis. XLA
for CPUs takes several times as long for it and its gradients as for the same products written out: "patches" gathers
the patches of all places by slices and multiplies them with the weight. "batch-last" does so with the batch as the last
axis, so that networks with few channels fill vectors too.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import numpy as jnp

from benchmarks.compare.architecture import Conv, Dense, Layer, Pool
from benchmarks.compare.layouts import channels_last
from benchmarks.compare.problems import Problem

State = dict[str, Any]
Parameters = tuple[list, list]  # weights and biases


class Chain(NamedTuple):
    """What is compiled into the functions: the layers, the shape of their inputs, and the form of convolutions."""

    layers: tuple[Layer, ...]
    input_shape: tuple[int, ...]
    form: str


class Update(NamedTuple):
    """The optimizer, and the decay rates of Adam's moments."""

    optimizer: str
    betas: tuple[float, float]


def versions() -> dict[str, str]:
    """Return versions and settings for the report."""
    import jaxlib

    return {"jax": jax.__version__, "jaxlib": jaxlib.__version__, "jax platform": jax.default_backend()}


def _convolve(images: jax.Array, weight: jax.Array, form: str) -> jax.Array:
    """Return the convolution of images (B, H, W, C) with a weight (kernel, kernel, C, channels).

    With the form "batch-last", images are (C, H, W, B), and the weight is (C, kernel, kernel, channels).
    """
    if form == "convolution":
        return jax.lax.conv_general_dilated(images, weight, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    kernel, channels = weight.shape[1], weight.shape[3]
    height, width = (size - kernel + 1 for size in images.shape[1:3])
    taps = [images[:, i : i + height, j : j + width] for i in range(kernel) for j in range(kernel)]
    if form == "batch-last":
        return jnp.einsum("tchwb,cto->ohwb", jnp.stack(taps), weight.reshape(len(weight), -1, channels))
    rows = jnp.concatenate(taps, axis=3)
    return rows @ weight.reshape(-1, channels)


def _pool(images: jax.Array) -> jax.Array:
    """Return the maximum of each 2x2 window of images, whose height and width are axes 1 and 2."""
    first, height, width, last = images.shape
    windows = images[:, : height // 2 * 2, : width // 2 * 2].reshape(first, height // 2, 2, width // 2, 2, last)
    return windows.max((2, 4))


def _logits(parameters: Parameters, images: jax.Array, chain: Chain) -> jax.Array:
    arrays, (*hidden, last) = zip(*parameters, strict=True), chain.layers
    batch_last = chain.form == "batch-last"
    if len(chain.input_shape) == 3:
        images = images.reshape(-1, *chain.input_shape)
        images = images.transpose((1, 2, 3, 0) if batch_last else (0, 2, 3, 1))
    for layer in hidden:
        if isinstance(layer, Pool):
            images = _pool(images)
            continue
        weight, bias = next(arrays)
        if isinstance(layer, Conv):
            images = _convolve(images, weight, chain.form) + (bias[:, None, None, None] if batch_last else bias)
        else:
            images = _flat(images, batch_last) @ weight + bias
        images = jax.nn.relu(images)
    weight, bias = next(arrays)
    assert isinstance(last, Dense)
    return _flat(images, batch_last) @ weight + bias


def _flat(images: jax.Array, batch_last: bool) -> jax.Array:
    """Return the rows of a dense layer: images as vectors, and vectors as they are."""
    if images.ndim == 2:
        return images
    return images.reshape(-1, images.shape[3]).T if batch_last else images.reshape(len(images), -1)


def _parameters(problem: Problem, form: str) -> Parameters:
    weights = problem.weights if form == "batch-last" else channels_last(problem, problem.weights)
    return [jnp.array(weight) for weight in weights], [jnp.array(bias) for bias in problem.biases]


def _loss(trained: Parameters, frozen: Parameters, images: jax.Array, labels: jax.Array, chain: Chain) -> jax.Array:
    parameters = frozen[0] + trained[0], frozen[1] + trained[1]
    log_probabilities = jax.nn.log_softmax(_logits(parameters, images, chain))
    return -jnp.mean(jnp.take_along_axis(log_probabilities, labels[:, None], 1))


def _updated(state: State, gradients: Parameters, update: Update, rate: jax.Array) -> State:
    leaves = jax.tree.map
    if update.optimizer == "sgd":
        return {**state, "parameters": leaves(lambda p, g: p - rate * g, state["parameters"], gradients)}
    if update.optimizer == "momentum":
        velocity = leaves(lambda v, g: 0.9 * v - rate * g, state["first"], gradients)
        return {**state, "parameters": leaves(jnp.add, state["parameters"], velocity), "first": velocity}
    beta_1, beta_2 = update.betas
    step = state["step"] + 1
    first = leaves(lambda m, g: beta_1 * m + (1 - beta_1) * g, state["first"], gradients)
    second = leaves(lambda s, g: beta_2 * s + (1 - beta_2) * g * g, state["second"], gradients)
    rate = rate * jnp.sqrt(1 - beta_2**step) / (1 - beta_1**step)
    parameters = leaves(lambda p, m, s: p - rate * m / (jnp.sqrt(s) + 1e-8), state["parameters"], first, second)
    return {**state, "parameters": parameters, "first": first, "second": second, "step": step}


def _step(
    state: State, images: jax.Array, labels: jax.Array, chain: Chain, update: Update, rate: jax.Array
) -> tuple[State, jax.Array]:
    loss, gradients = jax.value_and_grad(_loss)(state["parameters"], state["frozen"], images, labels, chain)
    return _updated(state, gradients, update, rate), loss * len(labels)


@partial(jax.jit, static_argnames=("batch_size", "chain", "update"), donate_argnums=0)
def _epoch(
    state: State,
    images: jax.Array,
    labels: jax.Array,
    order: jax.Array,
    batch_size: int,
    chain: Chain,
    update: Update,
    rate: jax.Array,
) -> tuple[State, jax.Array]:
    whole = len(order) // batch_size * batch_size

    def body(state: State, rows: jax.Array) -> tuple[State, jax.Array]:
        return _step(state, images[rows], labels[rows], chain, update, rate)

    state, losses = jax.lax.scan(body, state, order[:whole].reshape(-1, batch_size))
    total = losses.sum()
    if whole < len(order):
        state, last = body(state, order[whole:])
        total += last
    return state, total / len(order)


@partial(jax.jit, static_argnames=("chain", "update"), donate_argnums=0)
def _full_batch(
    state: State, images: jax.Array, labels: jax.Array, chain: Chain, update: Update, rate: jax.Array
) -> tuple[State, jax.Array]:
    state, loss = _step(state, images, labels, chain, update, rate)
    return state, loss / len(labels)


class epoch:
    """`run(order, rate)` trains for one epoch."""

    def __init__(self, problem: Problem, threads: int, form: str = "convolution") -> None:
        self._problem, case = problem, problem.case
        self._images, self._labels = jnp.array(problem.scaled), jnp.array(problem.labels.astype(np.int32))
        self._chain = Chain(problem.layers, problem.input_shape, form)
        self._update = Update(case.optimizer, case.betas)
        self._batch_size = min(problem.batch_size, len(problem.labels))
        weights, biases = _parameters(problem, form)
        trained = weights[case.frozen :], biases[case.frozen :]
        slots = {"sgd": (), "momentum": ("first",), "adam": ("first", "second")}[case.optimizer]
        self._state: State = {"parameters": trained, "frozen": (weights[: case.frozen], biases[: case.frozen])}
        self._state.update({slot: jax.tree.map(jnp.zeros_like, trained) for slot in slots})
        if case.optimizer == "adam":
            self._state["step"] = jnp.zeros(())

    def __call__(self, order: np.ndarray | None, rate: float) -> float:
        """Train for one epoch and return its mean loss."""
        data, settings = (self._images, self._labels), (self._chain, self._update, rate)
        if order is None:
            self._state, loss = _full_batch(self._state, *data, *settings)
        else:
            rows = jnp.asarray(order.astype(np.int32))
            self._state, loss = _epoch(self._state, *data, rows, min(self._batch_size, len(rows)), *settings)
        jax.block_until_ready(self._state)
        return float(loss)

    def weights(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return the weights and biases of all layers, trained or frozen."""
        pairs = zip(self._state["frozen"], self._state["parameters"], strict=True)
        weights, biases = ([np.asarray(array) for array in (*frozen, *trained)] for frozen, trained in pairs)
        if self._chain.form != "batch-last":
            weights = channels_last(self._problem, weights, back=True)
        return weights, biases


@partial(jax.jit, static_argnames="chain")
def _probabilities(parameters: Parameters, images: jax.Array, chain: Chain) -> jax.Array:
    return jax.nn.softmax(_logits(parameters, images, chain))


def predict(problem: Problem, threads: int, form: str = "convolution") -> Callable[[], np.ndarray]:
    """Return a callable that computes probabilities with jit and returns them as a NumPy array."""
    images, parameters = jnp.array(problem.scaled), _parameters(problem, form)
    chain = Chain(problem.layers, problem.input_shape, form)
    return lambda: np.asarray(_probabilities(parameters, images, chain))
