"""Helpers that compare results, and make the networks and data for the comparisons."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

from fastnn.backends.base import Trainer
from fastnn.network import Network

# (rtol, atol) for one step of a backend against the float64 reference, by the backend's dtype. atol is relative to the
# largest entry, because an entry near 0 can be the sum of larger terms.
TOLERANCES = {np.dtype(np.float64): (1e-10, 1e-12), np.dtype(np.float32): (1e-4, 2e-6)}


def alternating(*values: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Return every combination of all sequences but the last, each with the values of the last in turn.

    So every value of the last one meets every value of each other one, in tests that would repeat themselves otherwise.
    """
    places = product(*(range(len(each)) for each in values[:-1]))
    return [(*(v[k] for v, k in zip(values, p, strict=False)), values[-1][sum(p) % len(values[-1])]) for p in places]


def assert_parity(found: np.ndarray, expected: np.ndarray, what: str = "") -> None:
    """Assert that `found` has the shape and values of the float64 `expected`, within the rounding of its own dtype."""
    found = np.asarray(found)
    assert found.shape == expected.shape, f"{what}: shape {found.shape}, expected {expected.shape}"
    assert found.dtype in TOLERANCES, f"{what}: dtype {found.dtype}"
    rtol, atol = TOLERANCES[found.dtype]
    largest = np.abs(expected).max() if expected.size else 0.0
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol * largest, err_msg=what)


def assert_all_parity(found: Sequence[np.ndarray], expected: Sequence[np.ndarray], what: str = "") -> None:
    """Call `assert_parity` on each pair."""
    for index, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert_parity(one, other, f"{what} {index}")


def assert_same_bits(found: Sequence[np.ndarray], expected: Sequence[np.ndarray], what: str = "") -> None:
    """Assert that both arrays of each pair have the same shape, dtype and bytes."""
    for index, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert (one.shape, one.dtype) == (other.shape, other.dtype), f"{what} {index}"
        differ = np.frombuffer(one.tobytes(), np.uint8) != np.frombuffer(other.tobytes(), np.uint8)
        assert not differ.any(), f"{what} {index}: {differ.sum()} of {differ.size} bytes differ"


def make_inputs(rng: np.random.Generator, shape: tuple[int, int], dtype: str) -> np.ndarray:
    """Return inputs of the given dtype: "uint8" (four of five pixels are 0), "float32" or "float64" (all nonzero)."""
    if dtype == "uint8":
        return (rng.integers(1, 256, shape) * (rng.random(shape) < 0.2)).astype(np.uint8)
    return rng.standard_normal(shape).astype(dtype)


def make_similar_inputs(rng: np.random.Generator, n: int, n_inputs: int, dtype: str) -> np.ndarray:
    """Return samples in five groups, in random order.

    All samples of a group are nonzero in the same inputs, about 30 % of them, except for random changes in 1 %.
    """
    patterns = rng.random((5, n_inputs)) < 0.3
    nonzero = patterns[rng.integers(5, size=n)] ^ (rng.random((n, n_inputs)) < 0.01)
    values = rng.integers(1, 256, nonzero.shape) if dtype == "uint8" else rng.standard_normal(nonzero.shape)
    return (values * nonzero).astype(dtype)


def trained_arrays(trainer: Trainer) -> list[np.ndarray]:
    """Return the weights, the biases and the arrays of the optimizer's state."""
    network, slots = trainer.network(), trainer.state().slots
    return [*network.weights, *network.biases, *(array for slot in slots for arrays in slot for array in arrays)]


def changes(before: Network, trainer: Trainer) -> list[np.ndarray]:
    """Return the change of each array of the network by training, in float64."""
    after = trainer.network()
    pairs = zip((*before.weights, *before.biases), (*after.weights, *after.biases), strict=True)
    return [one.astype(np.float64) - start for start, one in pairs]


def make_network(
    rng: np.random.Generator, sizes: Sequence[int], input_dtype: str, dtype: str, activation: str | Sequence[str]
) -> Network:
    """Return a network for inputs of dtype `input_dtype`, with nonzero biases."""
    scale = 1 / 255 if input_dtype == "uint8" else 1.0
    network = Network.initialize(sizes, activation=activation, dtype=np.float64, seed=int(rng.integers(1000)))
    biases = [rng.standard_normal(bias.shape) * 0.1 for bias in network.biases]
    return astype(Network(network.weights, biases, activation, scale), dtype)


def astype(network: Network, dtype: str) -> Network:
    """Return the network converted to another dtype."""
    kinds = network.weights, network.biases, network.statistics
    return network.like(*([array.astype(dtype) for array in arrays] for arrays in kinds))
