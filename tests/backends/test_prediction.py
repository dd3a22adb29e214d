"""Predictions: they agree with the float64 reference, and a row's bits depend on that row only."""

import gc
import os
import signal
import threading
import time
import weakref

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from fastnn.backends import compiled, reference
from fastnn.backends.compiled import predict
from fastnn.errors import DataError, SettingsError
from fastnn.kernels import team
from fastnn.kernels.epoch.predict import ROWS
from fastnn.network import BatchNorm, Conv2D, Dense, Network, Standardization
from tests.parity import assert_parity, assert_same_bits, astype, make_inputs, make_network

BACKENDS = pytest.mark.parametrize("backend", [reference, compiled], ids=["numpy", "numba"])
DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])
KINDS = pytest.mark.parametrize("kind", ["uint8", "float32", "float64"])

# Layers of eight, four, two, one and less than one vector. Fewer inputs than a word has bits, and more.
NETWORKS = {
    "1 of everything": (1, 1, 1),
    "1 class": (70, 33, 1),
    "no multiples of a vector": (100, 130, 17),
    "all numbers of vectors": (64, 255, 200),
    "hundreds of classes": (63, 300),
    "no hidden layer": (784, 10),
    "a narrow hidden layer": (65, 64, 3, 128, 10),
}


# Two dense layers each.
LAYER_BY_LAYER = {
    "batch norm": [Dense(65, "identity"), BatchNorm("relu"), Dense(7)],
    "gelu": [Dense(65, "gelu"), Dense(7)],
}


@BACKENDS
@DTYPES
@KINDS
@pytest.mark.parametrize("sizes", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize(
    ("activation", "n_rows"),
    [("relu", 70), ("relu", 300), ("tanh", 1), ("logistic", 5), ("identity", 2), ("relu", 0), ("elu", 3)],
)
def test_predictions_agree_with_the_reference(backend, dtype, kind, sizes, activation, n_rows):
    rng = np.random.default_rng(1)
    network = make_network(rng, sizes, kind, dtype, activation)
    inp, exact = make_inputs(rng, (n_rows, sizes[0]), kind), astype(network, "float64")
    logits, proba = backend.predict_logits(network, inp), backend.predict_proba(network, inp)
    assert logits.dtype == proba.dtype == dtype
    assert_parity(logits, reference.predict_logits(exact, inp), "logits")
    assert_parity(proba, reference.predict_proba(exact, inp), "probabilities")
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-6 if dtype == "float32" else 1e-14)


@pytest.mark.parametrize("dtype", ["bool", "int64", "float16", ">f4", ">f8"])
def test_other_dtypes_are_converted(dtype):
    rng = np.random.default_rng(2)
    network = make_network(rng, (70, 33, 10), "uint8", "float32", "relu")
    inp = (rng.random((5, 70)) < 0.5).astype(dtype)
    expected = compiled.predict_proba(network, inp.astype(np.float32))
    np.testing.assert_array_equal(compiled.predict_proba(network, inp), expected)
    np.testing.assert_array_equal(compiled.predict_proba(network, np.repeat(inp, 2, axis=0)[::2]), expected)


@DTYPES
@KINDS
@pytest.mark.parametrize("sizes", [NETWORKS["no multiples of a vector"], NETWORKS["a narrow hidden layer"]])
@pytest.mark.parametrize("function", [compiled.predict_logits, compiled.predict_proba])
def test_the_bits_of_a_row_do_not_depend_on_other_rows(dtype, kind, sizes, function, started):
    """Rows are predicted alone, a few at a time, and all together, on one to four threads.

    Some rows use all inputs, some none.
    """
    rng = np.random.default_rng(3)
    network = make_network(rng, sizes, kind, dtype, "tanh")
    inp = make_inputs(rng, (10 * ROWS + 7, sizes[0]), kind)
    inp[20:25], inp[100:105] = 1, 0
    expected = function(network, inp, 1)
    for threads in (2, 3, 4):
        assert_same_bits([function(network, inp, threads)], [expected], f"{threads} threads")
    assert started == [1, 2, 3, 4]
    for row in range(0, len(inp), 3):
        assert_same_bits([function(network, inp[row : row + 1], 1)], [expected[row : row + 1]], f"row {row}")
    started.clear()
    for first, last in ((1, 3), (18, 26), (97, 200)):
        assert_same_bits([function(network, inp[first:last], 2)], [expected[first:last]], f"rows from {first}")
    assert started == [1, 1, 2]  # at most one thread per 64 rows


@BACKENDS
@DTYPES
def test_each_layer_has_its_own_activation(backend, dtype):
    """Computed by hand, layer by layer, from the definitions."""
    rng = np.random.default_rng(12)
    names = ["elu", "relu", "leaky_relu", "identity", "tanh", "logistic"]
    network = Network.initialize((30, 20, 19, 18, 17, 16, 15, 4), activation=names, dtype=dtype, seed=5)
    out = inp = rng.standard_normal((70, 30)).astype(dtype)
    functions = [
        lambda x: np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1), lambda x: np.maximum(x, 0),
        lambda x: np.maximum(x, 0.01 * x), lambda x: x, np.tanh, lambda x: 1 / (1 + np.exp(-x)), lambda x: x,
    ]  # fmt: skip
    for function, weight, bias in zip(functions, network.weights, network.biases, strict=True):
        out = function(out.astype(np.float64) @ weight + bias)
    assert compiled.fused_trainer(network) is not None
    assert_parity(backend.predict_logits(network, inp), out)


@BACKENDS
@DTYPES
@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "elu", "tanh", "logistic"])
def test_activations_of_extreme_sums(backend, dtype, activation):
    """A network whose hidden units are its inputs. NaN stays NaN, infinity has its limit, and nothing overflows."""
    network = Network([np.ones((1, 1), dtype)] * 2, [np.zeros(1, dtype)] * 2, activation, output="identity")
    inp = np.array([-np.inf, -1e30, -2.0, -0.0, 0.0, 2.0, 1e30, np.inf, np.nan], dtype)
    expected = {
        "relu": [0, 0, 0, 0, 0, 2, 1e30, np.inf, np.nan],
        "leaky_relu": [-np.inf, -1e28, -0.02, 0, 0, 2, 1e30, np.inf, np.nan],
        "elu": [-1, -1, np.exp(-2) - 1, 0, 0, 2, 1e30, np.inf, np.nan],
        "tanh": [-1, -1, np.tanh(-2), 0, 0, np.tanh(2), 1, 1, np.nan],
        "logistic": [0, 0, 1 / (1 + np.exp(2)), 0.5, 0.5, 1 / (1 + np.exp(-2)), 1, 1, np.nan],
    }[activation]
    found = backend.predict_logits(network, inp.reshape(-1, 1))[:, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-6 if dtype == "float32" else 1e-14, atol=1e-7)


@DTYPES
@pytest.mark.parametrize("layers", LAYER_BY_LAYER.values(), ids=LAYER_BY_LAYER)
@pytest.mark.parametrize("function", [compiled.predict_logits, compiled.predict_proba])
def test_layer_by_layer_any_number_of_threads_predicts_the_same_bits(dtype, layers, function, started):
    rng = np.random.default_rng(13)
    network = Network.initialize((100,), layers, dtype=dtype, seed=1, input_scale=1 / 255)
    inp = make_inputs(rng, (301, 100), "uint8")
    assert compiled.fused_trainer(network) is None
    expected = function(network, inp, 1)
    for threads in (2, 3, 4):
        started.clear()
        assert_same_bits([function(network, inp, threads)], [expected], f"{threads} threads")
        assert started == [threads] * 2


def test_few_rows_and_many_have_the_same_bits(started, monkeypatch):
    """300 rows are enough for two threads; seven rows are predicted without starting any."""
    monkeypatch.setattr(predict, "ONE_THREAD_PREDICTION", 2**24)
    rng = np.random.default_rng(4)
    network = make_network(rng, (784, 128, 10), "uint8", "float32", "relu")
    inp = make_inputs(rng, (300, 784), "uint8")
    many = compiled.predict_proba(network, inp, 2)
    assert started == [2]
    few = np.concatenate([compiled.predict_proba(network, inp[first : first + 7]) for first in range(0, 300, 7)])
    assert started == [2]
    np.testing.assert_array_equal(few, many)


def test_eight_threads_can_predict_with_one_network_at_once(started):
    rng = np.random.default_rng(5)
    network = make_network(rng, (100, 130, 10), "uint8", "float32", "relu")
    inp = make_inputs(rng, (1000, 100), "uint8")
    expected = compiled.predict_proba(network, inp, 1).tobytes()
    found = []

    def work():
        found.extend(compiled.predict_proba(network, inp, 1 + k % 3).tobytes() for k in range(20))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 160
    assert sorted(started) == sorted([1, *(1 + k % 3 for k in range(20) for _ in range(8))])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_predicts_the_same_bits(started):
    rng = np.random.default_rng(6)
    network = make_network(rng, (100, 130, 10), "uint8", "float32", "relu")
    inp = make_inputs(rng, (100, 100), "uint8")
    expected = compiled.predict_proba(network, inp, 2)
    assert started == [2]
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if compiled.predict_proba(network, inp, 2).tobytes() == expected.tobytes() else 2)
        except BaseException:
            os._exit(1)
    deadline = time.monotonic() + 30
    while (done := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.01)
    assert os.waitstatus_to_exitcode(done[1]) == 0


@BACKENDS
@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("arrays", ["weights", "biases"])
def test_changing_a_network_in_place_changes_its_predictions(backend, layer, arrays):
    """The change counts even after a first prediction. A NaN weight reaches the outputs even if it multiplies a 0."""
    network = make_network(np.random.default_rng(7), (70, 33, 20, 4), "float32", "float32", "relu")
    inp = np.ones((3, 70), np.float32)
    before = backend.predict_proba(network, inp)
    array = getattr(network, arrays)[layer]
    array *= 2
    after = backend.predict_proba(network, inp)
    assert not np.array_equal(before, after)
    for index in range(len(array)):
        kept = array[index].copy()
        array[index] = np.nan
        assert np.isnan(backend.predict_proba(network, inp)).all()
        array[index] = kept
    np.testing.assert_array_equal(backend.predict_proba(network, inp), after)


def test_replacing_the_arrays_of_a_network_changes_its_predictions():
    network = make_network(np.random.default_rng(8), (70, 33, 10), "uint8", "float32", "relu")
    inp = make_inputs(np.random.default_rng(9), (3, 70), "uint8")
    expected = compiled.predict_proba(network, inp)
    doubled = [2 * weight for weight in network.weights]
    kept = network.weights
    network.weights = tuple(doubled)
    found = compiled.predict_proba(network, inp)
    assert not np.array_equal(found, expected)
    network.weights = tuple(np.asfortranarray(weight) for weight in doubled)  # kernels need copies of these
    for factor in (1, 0.5):
        network.weights[0][:] *= factor
        network.weights[1][:] *= factor
        np.testing.assert_array_equal(compiled.predict_proba(network, inp), found if factor == 1 else expected)
    network.weights = kept
    np.testing.assert_array_equal(compiled.predict_proba(network, inp), expected)
    network.biases = tuple(bias + 1 for bias in network.biases)
    assert not np.array_equal(compiled.predict_proba(network, inp), expected)


@BACKENDS
@DTYPES
def test_nan_in_a_row_makes_that_row_nan_and_no_other(backend, dtype):
    """The other rows do not use the two NaN inputs: one is tested with a word of 64 inputs, the other by itself."""
    network = make_network(np.random.default_rng(10), (70, 33, 10), "float32", dtype, "relu")
    inp = np.random.default_rng(11).standard_normal((9, 70)).astype(dtype)
    inp[:, [3, 69]] = 0
    expected = backend.predict_proba(network, inp)
    inp[4, 69] = inp[7, 3] = np.nan
    found, others = backend.predict_proba(network, inp), ~np.isnan(inp).any(axis=1)
    assert np.isnan(found[~others]).all()
    assert_parity(found[others], expected[others].astype(np.float64))
    if backend is compiled:
        np.testing.assert_array_equal(found[others], expected[others])


# Rows in pairs, in tiles, in pieces of 256 inputs, and so many that they are shared or converted part by part.
@BACKENDS
@DTYPES
@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(1, 3), (7, 70), (40, 5), (40, 300), (2000, 300)])
def test_an_input_that_is_not_finite_is_found_at_any_place(backend, dtype, kind, order, shape, started):
    rng, (n_rows, n_inputs) = np.random.default_rng(5), shape
    network = make_network(rng, (n_inputs, 9, 3), "float32", dtype, "relu")
    good = np.asarray(rng.standard_normal(shape), kind, order=order)
    good[:, 0] = min(np.finfo(kind).max, np.finfo(dtype).max) / 256  # finite, and so are all sums
    few, is_cast = rng.random(shape) < 0.9, kind == "float64" and dtype == "float32"
    for inp in (good, np.where(few, 0, good)):
        inp = np.asarray(inp, kind, order=order)
        for function in (backend.predict_logits, backend.predict_proba):
            np.testing.assert_array_equal(function(network, inp, 2, check_finite=True), function(network, inp, 2))
            for value in (np.nan, np.inf, -np.inf, *([1e300, -3.5e38] if is_cast else [])):
                row, column = int(rng.integers(n_rows)), int(rng.integers(n_inputs))
                bad = inp.copy(order="K")
                bad[row, column] = value
                with pytest.raises(DataError, match=rf"in row {row}, column {column} \(from 0\)"):
                    function(network, bad, 2, check_finite=True)
    if n_rows == 2000 and backend is compiled:
        assert max(started) == 2


@BACKENDS
@pytest.mark.parametrize("kind", ["image", "sparse", "standardized"])
def test_inputs_that_no_kernel_checks_are_checked(backend, kind):
    rng = np.random.default_rng(6)
    inp = rng.standard_normal((20, 16))
    layers, shape = ([Conv2D(2, 3), Dense(3)], (1, 4, 4)) if kind == "image" else ([Dense(5), Dense(3)], (16,))
    scale = Standardization(np.full(16, 2.0), np.full(16, 1e30)) if kind == "standardized" else 1.0
    network = Network.initialize(shape, layers, input_scale=scale)
    given = csr_matrix(inp) if kind == "sparse" else inp
    np.testing.assert_array_equal(
        backend.predict_proba(network, given, check_finite=True), backend.predict_proba(network, given)
    )
    inp[7, 11] = 1e30 if kind == "standardized" else np.inf
    given = csr_matrix(inp) if kind == "sparse" else inp
    for function in (backend.predict_logits, backend.predict_proba):
        with pytest.raises(DataError, match=r"in row 7, column 11 \(from 0\)"):
            function(network, given, check_finite=True)


@BACKENDS
def test_huge_logits_do_not_overflow(backend):
    network = Network([np.eye(3, dtype=np.float32)], [np.zeros(3, np.float32)])
    inp = np.array([[1e30, 0, -1e30], [-1e30, -2e30, -1e30], [0, 0, 0]], np.float32)
    expected = np.array([[1, 0, 0], [0.5, 0, 0.5], [1 / 3] * 3])
    np.testing.assert_allclose(backend.predict_proba(network, inp), expected, rtol=1e-7)


def test_a_prediction_does_not_keep_the_network_alive():
    network = Network.initialize((5, 3, 2))
    compiled.predict_proba(network, np.ones((1, 5)))
    reference_to_network = weakref.ref(network)
    del network
    gc.collect()
    assert reference_to_network() is None


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("n_rows", [1, 5000])
def test_the_number_of_threads_is_checked(n_rows, activation):
    network = Network.initialize((784, 10, 10), activation=activation)
    with pytest.raises(SettingsError, match="threads is 0"):
        compiled.predict_proba(network, np.ones((n_rows, 784)), 0)


@pytest.mark.parametrize("threads", [1, 2])
def test_ctrl_c_interrupts_a_long_prediction(threads, monkeypatch):
    """The barrier counts the groups of 64 rows that were begun. Only a part of all groups is begun."""
    network, inp = Network.initialize((64, 2048, 2048, 10)), np.ones((50_000, 64), np.float32)
    barrier = team.new_barrier()
    monkeypatch.setattr(team, "new_barrier", lambda: barrier)

    def interrupt():
        while barrier[team.COUNT] < 10:
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGINT)

    interrupter = threading.Thread(target=interrupt, daemon=True)
    interrupter.start()
    with pytest.raises(KeyboardInterrupt):
        compiled.predict_proba(network, inp, threads)
    interrupter.join()
    assert 10 <= barrier[team.COUNT] < len(inp) / ROWS
