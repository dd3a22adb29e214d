"""Max-norm: no unit's incoming weights are longer than the limit, in both backends and for every kernel."""

import numpy as np
import pytest
import scipy.sparse

import fastnn
from fastnn import Adam, BatchNorm, Conv2D, Dense, MaxPool2D, Network, SettingsError
from fastnn.optim.max_norm import limit_norms
from tests.parity import TOLERANCES, assert_all_parity, make_inputs

N = 150
# Adam divides by the magnitude of the gradient. This epsilon is large compared with the rounding of a gradient near 0.
ADAM = Adam(epsilon=1e-3)
# By units with packed and with dense inputs; by rows with lists and with dense inputs; by images.
CASES = {
    "packed": ((40, 130, 70, 4), None, "uint8"),
    "dense": ((40, 130, 4), None, "float32"),
    "lists": ((40, 12, 9, 4), None, "uint8"),
    "rows": ((40, 12, 4), None, "float32"),
    "no hidden layer": ((40, 4), None, "uint8"),
    "sparse matrix": ((40, 130, 4), None, "csr"),
    "images": ((1, 5, 8), [Conv2D(5, 3), MaxPool2D(), Conv2D(17, (1, 2)), Dense(70), Dense(4)], "uint8"),
    "layer by layer": ((40,), [Dense(20, "identity"), BatchNorm("relu"), Dense(4)], "float32"),
}


def make_data(kind, seed=0):
    rng = np.random.default_rng(seed)
    inputs = make_inputs(rng, (N, 40), "uint8" if kind == "csr" else kind)
    return scipy.sparse.csr_array(inputs) if kind == "csr" else inputs, rng.integers(0, 4, N)


def norms(network):
    """Return the norm of each unit's and each filter's incoming weights, with a plain loop."""
    return [
        np.sqrt(sum(float(weight[..., unit][place]) ** 2 for place in np.ndindex(weight.shape[:-1])))
        for weight in network.weights
        if weight.ndim > 1
        for unit in range(weight.shape[-1])
    ]


def trained(sizes, layers, data, backend, dtype, **settings):
    scale = 1 / 255 if data[0].dtype == np.uint8 else 1.0
    network = Network.initialize(sizes, layers, seed=3, dtype=dtype, input_scale=scale)
    return fastnn.train(network, data, backend=backend, **{"epochs": 2, "learning_rate": 0.05, **settings})


def test_a_step_by_hand():
    """Weights (1, 2) and a gradient of (0, -1) make (1, 3), whose norm is the root of 10; the bias moves freely."""
    network = Network([np.array([[1.0], [2.0]])], [np.zeros(1)], output="identity")
    data = np.array([[0.0, 1.0]]), np.array([[3.0]])  # the output is 2, so the gradient of the output is -1
    for backend in ("numpy", "numba"):
        result = fastnn.train(network, data, epochs=1, learning_rate=1.0, max_norm=2.0, backend=backend)
        np.testing.assert_allclose(result.network.weights[0].ravel(), 2 * np.array([1, 3]) / np.sqrt(10), rtol=1e-12)
        np.testing.assert_allclose(result.network.biases[0], [1.0], rtol=1e-12)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("batch_size", [32, 100])
def test_both_backends_limit_the_same_norms(name, batch_size):
    sizes, layers, kind = CASES[name]
    data, settings = make_data(kind), {"max_norm": 0.9, "batch_size": batch_size, "optimizer": ADAM, "l2": 1e-3}
    found = trained(sizes, layers, data, "numba", "float32", **settings)
    expected = trained(sizes, layers, data, "numpy", "float64", **settings)
    assert_all_parity(found.network.weights, expected.network.weights)
    losses = [result.history.column("loss") for result in (found, expected)]
    np.testing.assert_allclose(*losses, rtol=1e-5)
    free = trained(sizes, layers, data, "numpy", "float64", **{**settings, "max_norm": None})
    assert max(norms(free.network)) > 1
    for result, dtype in ((found, "float32"), (expected, "float64")):
        rtol, _ = TOLERANCES[np.dtype(dtype)]
        assert max(norms(result.network)) <= 0.9 * (1 + rtol)
        if name != "no hidden layer":
            assert min(norms(result.network)) < 0.89  # shorter ones stay as they are


def test_scales_of_batch_norm_are_free():
    sizes, layers, kind = CASES["layer by layer"]
    result = trained(sizes, layers, make_data(kind), "numba", "float32", max_norm=0.5)
    assert np.linalg.norm(result.network.weights[1]) > 3  # 20 scales of about 1


@pytest.mark.parametrize("name", ["packed", "dense", "lists", "images"])
def test_the_bits_do_not_depend_on_the_threads(name, started):
    sizes, layers, kind = CASES[name]
    settings = {"max_norm": 0.9, "average": "ema:0.9", "dropout": 0.3, "batch_size": 100}
    results = [
        trained(sizes, layers, make_data(kind), "numba", "float32", threads=threads, **settings) for threads in (1, 3)
    ]
    assert max(started) > 1
    assert results[0].digest() == results[1].digest()


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_squares_that_overflow_are_limited_too(backend):
    """A weight of 1e25, whose square is no float32, becomes the limit; a weight that is not finite ends the run."""
    weight = np.zeros((3, 16), np.float32)
    weight[0], weight[:, 5] = 1e25, (3, 4, 0)
    network = Network([weight], [np.zeros(16, np.float32)], output="identity")
    data = np.zeros((8, 3), np.float32), np.zeros((8, 16))
    limited = fastnn.train(network, data, epochs=1, max_norm=2.0, backend=backend).network.weights[0]
    np.testing.assert_allclose(limited[0, :5], 2, rtol=1e-6)
    np.testing.assert_allclose(limited[:, 5], (1.2, 1.6, 0), rtol=1e-6)
    data = np.full((8, 3), 1e30, np.float32), np.zeros((8, 16))
    with pytest.raises(fastnn.DivergenceError):
        fastnn.train(network, data, epochs=2, max_norm=2.0, backend=backend)


def test_nothing_changes_where_no_norm_reaches_the_limit():
    weight = np.random.default_rng(0).standard_normal((9, 5)).astype(np.float32)
    before = weight.copy()
    limit_norms(weight, 100.0)
    np.testing.assert_array_equal(weight, before)
    limit_norms(weight, 1e-3)
    np.testing.assert_allclose(np.linalg.norm(weight, axis=0), 1e-3, rtol=1e-6)
    network, data = Network.initialize((40, 130, 4), seed=0), make_data("float32")
    free, limited = (fastnn.train(network, data, max_norm=limit, epochs=2) for limit in (None, 1e6))
    assert free.digest() == limited.digest()


@pytest.mark.parametrize("limit", [0, -1.0, float("nan"), "3"])
def test_limits_that_are_refused(limit):
    with pytest.raises(SettingsError, match=r"max_norm is .*, expected a finite number greater than 0"):
        fastnn.TrainingConfig(max_norm=limit)


def test_clipping_and_max_norm_work_together():
    settings = {"max_norm": 0.8, "clip_norm": 0.1}
    results = [
        trained((40, 20, 4), None, make_data("float32"), backend, dtype, **settings)
        for backend, dtype in (("numba", "float32"), ("numpy", "float64"))
    ]
    for one, other in zip(*(result.network.weights for result in results), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)
    assert max(norms(results[0].network)) < 0.8001
