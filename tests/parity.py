"""The helpers that compare results, and the networks and data the comparisons use."""

from collections.abc import Sequence

import numpy as np

from fastnn.backends.base import Trainer
from fastnn.network import Network

# One step of either backend against the float64 reference, by the dtype that computed it: rtol, and atol as a share of
# the largest entry, since an entry near 0 is the sum of entries that are not.
TOLERANCES = {np.dtype(np.float64): (1e-10, 1e-12), np.dtype(np.float32): (1e-4, 2e-6)}


def assert_parity(found: np.ndarray, expected: np.ndarray, what: str = "") -> None:
    """`found` has the shape and values of the float64 array `expected`, within the rounding of its own dtype."""
    found = np.asarray(found)
    assert found.shape == expected.shape, f"{what}: shape {found.shape}, expected {expected.shape}"
    assert found.dtype in TOLERANCES, f"{what}: dtype {found.dtype}"
    rtol, atol = TOLERANCES[found.dtype]
    largest = np.abs(expected).max() if expected.size else 0.0
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol * largest, err_msg=what)


def assert_all_parity(found: Sequence[np.ndarray], expected: Sequence[np.ndarray], what: str = "") -> None:
    """`assert_parity` for each pair."""
    for place, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert_parity(one, other, f"{what} {place}")


def assert_same_bits(found: Sequence[np.ndarray], expected: Sequence[np.ndarray], what: str = "") -> None:
    """Each pair of arrays has the same shape, dtype and bytes."""
    for place, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert (one.shape, one.dtype) == (other.shape, other.dtype), f"{what} {place}"
        differ = np.frombuffer(one.tobytes(), np.uint8) != np.frombuffer(other.tobytes(), np.uint8)
        assert not differ.any(), f"{what} {place}: {differ.sum()} of {differ.size} bytes differ"


def make_inputs(rng: np.random.Generator, shape: tuple[int, int], kind: str) -> np.ndarray:
    """Inputs of a kind: "uint8" (four of five pixels 0), "float32" or "float64" (all other than 0)."""
    if kind == "uint8":
        return (rng.integers(1, 256, shape) * (rng.random(shape) < 0.2)).astype(np.uint8)
    return rng.standard_normal(shape).astype(kind)


def make_similar_inputs(rng: np.random.Generator, n: int, n_inputs: int, kind: str) -> np.ndarray:
    """Samples of five kinds, in a random order: each kind has a third of the inputs, and now and then another one."""
    shapes = rng.random((5, n_inputs)) < 0.3
    has = shapes[rng.integers(5, size=n)] ^ (rng.random((n, n_inputs)) < 0.01)
    values = rng.integers(1, 256, has.shape) if kind == "uint8" else rng.standard_normal(has.shape)
    return (values * has).astype(kind)


def trained_arrays(trainer: Trainer) -> list[np.ndarray]:
    """Weights, biases and the optimizer's arrays."""
    network, slots = trainer.network(), trainer.state().slots
    return [*network.weights, *network.biases, *(array for slot in slots for arrays in slot for array in arrays)]


def make_network(rng: np.random.Generator, sizes: Sequence[int], kind: str, dtype: str, activation: str) -> Network:
    """A network for inputs of that kind, with biases other than 0."""
    scale = 1 / 255 if kind == "uint8" else 1.0
    network = Network.initialize(sizes, activation=activation, dtype=np.float64, seed=int(rng.integers(1000)))
    biases = [rng.standard_normal(bias.shape) * 0.1 for bias in network.biases]
    return astype(Network(network.weights, biases, activation, scale), dtype)


def astype(network: Network, dtype: str) -> Network:
    """The network in another dtype."""
    weights, biases = ([array.astype(dtype) for array in arrays] for arrays in (network.weights, network.biases))
    return network.like(weights, biases)
