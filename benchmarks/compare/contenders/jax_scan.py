"""JAX in float32: a whole epoch is jitted as one scan over the batches, with its state donated."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from benchmarks.compare.problems import Problem

State = dict[str, Any]


def versions() -> dict[str, str]:
    """Return versions and settings for the report."""
    import jaxlib

    return {"jax": jax.__version__, "jaxlib": jaxlib.__version__, "jax platform": jax.default_backend()}


def _logits(weights: list[jax.Array], biases: list[jax.Array], images: jax.Array) -> jax.Array:
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        images = jax.nn.relu(images @ weight + bias)
    return images @ weights[-1] + biases[-1]


def _loss(parameters: tuple[list, list], images: jax.Array, labels: jax.Array) -> jax.Array:
    log_probabilities = jax.nn.log_softmax(_logits(*parameters, images))
    return -jnp.mean(jnp.take_along_axis(log_probabilities, labels[:, None], 1))


def _updated(state: State, gradients: tuple[list, list], optimizer: str, rate: jax.Array) -> State:
    leaves = jax.tree.map
    if optimizer == "sgd":
        return {**state, "parameters": leaves(lambda p, g: p - rate * g, state["parameters"], gradients)}
    if optimizer == "momentum":
        velocity = leaves(lambda v, g: 0.9 * v - rate * g, state["first"], gradients)
        return {**state, "parameters": leaves(jnp.add, state["parameters"], velocity), "first": velocity}
    step = state["step"] + 1
    first = leaves(lambda m, g: 0.9 * m + 0.1 * g, state["first"], gradients)
    second = leaves(lambda s, g: 0.999 * s + 0.001 * g * g, state["second"], gradients)
    rate = rate * jnp.sqrt(1 - 0.999**step) / (1 - 0.9**step)
    parameters = leaves(lambda p, m, s: p - rate * m / (jnp.sqrt(s) + 1e-8), state["parameters"], first, second)
    return {"parameters": parameters, "first": first, "second": second, "step": step}


def _step(
    state: State, images: jax.Array, labels: jax.Array, optimizer: str, rate: jax.Array
) -> tuple[State, jax.Array]:
    loss, gradients = jax.value_and_grad(_loss)(state["parameters"], images, labels)
    return _updated(state, gradients, optimizer, rate), loss * len(labels)


@partial(jax.jit, static_argnames=("batch_size", "optimizer"), donate_argnums=0)
def _epoch(
    state: State,
    images: jax.Array,
    labels: jax.Array,
    order: jax.Array,
    batch_size: int,
    optimizer: str,
    rate: jax.Array,
) -> tuple[State, jax.Array]:
    whole = len(order) // batch_size * batch_size

    def body(state: State, rows: jax.Array) -> tuple[State, jax.Array]:
        return _step(state, images[rows], labels[rows], optimizer, rate)

    state, losses = jax.lax.scan(body, state, order[:whole].reshape(-1, batch_size))
    total = losses.sum()
    if whole < len(order):
        state, last = body(state, order[whole:])
        total += last
    return state, total / len(order)


@partial(jax.jit, static_argnames=("optimizer",), donate_argnums=0)
def _full_batch(
    state: State, images: jax.Array, labels: jax.Array, optimizer: str, rate: jax.Array
) -> tuple[State, jax.Array]:
    state, loss = _step(state, images, labels, optimizer, rate)
    return state, loss / len(labels)


class epoch:
    """`run(order, rate)` trains for one epoch."""

    def __init__(self, problem: Problem, threads: int) -> None:
        case = problem.case
        self._images, self._labels = jnp.array(problem.scaled), jnp.array(problem.labels.astype(np.int32))
        self._optimizer = case.optimizer
        self._batch_size = min(problem.batch_size, len(problem.labels))
        parameters = tuple([jnp.array(array) for array in arrays] for arrays in (problem.weights, problem.biases))
        slots = {"sgd": (), "momentum": ("first",), "adam": ("first", "second")}[case.optimizer]
        self._state: State = {"parameters": parameters}
        self._state.update({slot: jax.tree.map(jnp.zeros_like, parameters) for slot in slots})
        if case.optimizer == "adam":
            self._state["step"] = jnp.zeros(())

    def __call__(self, order: np.ndarray | None, rate: float) -> float:
        """Train for one epoch and return its mean loss."""
        if order is None:
            self._state, loss = _full_batch(self._state, self._images, self._labels, self._optimizer, rate)
        else:
            rows = jnp.asarray(order.astype(np.int32))
            self._state, loss = _epoch(
                self._state, self._images, self._labels, rows, self._batch_size, self._optimizer, rate
            )
        jax.block_until_ready(self._state)
        return float(loss)

    def weights(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return the trained weights and biases."""
        weights, biases = self._state["parameters"]
        return [np.asarray(weight) for weight in weights], [np.asarray(bias) for bias in biases]


@jax.jit
def _probabilities(weights: list[jax.Array], biases: list[jax.Array], images: jax.Array) -> jax.Array:
    return jax.nn.softmax(_logits(weights, biases, images))


def predict(problem: Problem, threads: int) -> Callable[[], np.ndarray]:
    """Return a callable that computes probabilities with jit and returns them as a NumPy array."""
    images = jnp.array(problem.scaled)
    weights, biases = ([jnp.array(array) for array in arrays] for arrays in (problem.weights, problem.biases))
    return lambda: np.asarray(_probabilities(weights, biases, images))
