"""Kernels read no byte beyond the arrays they are given: those end at memory that must not be touched."""

import numpy as np
import pytest
import scipy.sparse

from fastnn.backends import compiled, reference
from fastnn.network import Conv2D, Dense, MaxPool2D, Network
from fastnn.optim.optimizers import SGD, Adam
from tests.faults.pages import guarded, with_guarded_arrays
from tests.parity import assert_parity, assert_same_bits, astype, make_inputs, make_network, trained_arrays
from tests.plain_loops import CASES, POOLS

DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])
# Widths below, at and above a word of bits, a vector and a panel; sums of several panels.
SIZES = [(1, 1), (3, 2), (15, 17, 1), (64, 10), (65, 33, 10), (100, 130, 17, 3), (784, 16, 10)]


def _forms(rng, n_rows, n_inputs, dtype):
    """Inputs of each form, guarded: pixels, dense numbers, and both with zeros as CSR matrices."""
    pixels, numbers = (make_inputs(rng, (n_rows, n_inputs), each) for each in ("uint8", dtype))
    yield "pixels", guarded(pixels)
    yield "numbers", guarded(numbers)
    for name, array in (("pixels in rows", pixels), ("numbers in rows", numbers * (pixels > 0))):
        matrix = scipy.sparse.csr_matrix(array)
        matrix.data, matrix.indices, matrix.indptr = map(guarded, (matrix.data, matrix.indices, matrix.indptr))
        yield name, matrix


@DTYPES
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_a_prediction_reads_nothing_beyond_its_arrays(sizes, dtype):
    rng = np.random.default_rng(1)
    network = with_guarded_arrays(make_network(rng, sizes, "uint8", dtype, "tanh"))
    exact = astype(network, "float64")
    for n_rows in (1, 2, 67, 300):
        for name, inp in _forms(rng, n_rows, sizes[0], dtype):
            expected = reference.predict_proba(exact, inp)
            assert_parity(compiled.predict_proba(network, inp), expected, f"{n_rows} rows of {name}")


@DTYPES
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize(("n_rows", "batch_size"), [(5, 2), (301, 64), (301, 301)])
def test_training_reads_nothing_beyond_its_arrays(sizes, dtype, n_rows, batch_size):
    rng = np.random.default_rng(2)
    network = with_guarded_arrays(make_network(rng, sizes, "uint8", dtype, "relu"))
    labels, weight = rng.integers(sizes[-1], size=n_rows), rng.random(n_rows).astype(dtype)
    order = rng.permutation(n_rows)
    for name, inp in _forms(rng, n_rows, sizes[0], dtype):
        trainers = [
            compiled.trainer(network, inputs, given(labels), Adam(), sample_weight=given(weight), l2=1e-3, dropout=0.2)
            for inputs, given in ((inp, guarded), (inp.copy(), np.copy))
        ]
        for trainer in trainers:
            trainer.run_epoch(order, batch_size, 0.01)
        assert_same_bits(*map(trained_arrays, trainers), name)


@DTYPES
def test_networks_for_images_read_nothing_beyond_their_arrays(dtype):
    rng = np.random.default_rng(6)
    layers = [Conv2D(7, 3), MaxPool2D(), Conv2D(17, (2, 3), padding=1), MaxPool2D((2, 1)), Dense(70), Dense(3)]
    network = Network.initialize((3, 11, 9), layers, dtype=dtype, input_scale=1 / 255)
    network, labels = with_guarded_arrays(network), rng.integers(3, size=67)
    for name, inp in list(_forms(rng, 67, 297, dtype))[:2]:
        expected = reference.predict_logits(astype(network, "float64"), inp)
        for n_rows in (1, 5, 67):
            assert_parity(compiled.predict_logits(network, guarded(inp[:n_rows])), expected[:n_rows], name)
        trainers = [
            compiled.trainer(network, inputs, given(labels), Adam(), l2=1e-3, dropout=0.2)
            for inputs, given in ((inp, guarded), (inp.copy(), np.copy))
        ]
        for trainer in trainers:
            trainer.run_epoch(np.arange(67), 33, 0.01)
        assert_same_bits(*map(trained_arrays, trainers), name)


@DTYPES
def test_row_blocks_read_nothing_beyond_their_arrays(dtype):
    """4,099 similar samples of a full batch, so that the last row block is not full."""
    rng = np.random.default_rng(3)
    used = np.arange(97) % 3 == 0
    images = guarded((rng.integers(1, 256, (4099, 97)) * used).astype(np.uint8))
    network, labels = make_network(rng, (97, 9, 3), "uint8", dtype, "relu"), rng.integers(3, size=4099)
    found, expected = (
        backend.trainer(each, images, labels, SGD())
        for backend, each in ((compiled, network), (reference, astype(network, "float64")))
    )
    for trainer in (found, expected):
        trainer.run_epoch(np.arange(4099), 4099, 0.1)
    if dtype == "float32":  # in float64, a CPU with narrow registers uses lists
        assert found.describe().inputs == "row blocks"
    for one, other in zip(trained_arrays(found), trained_arrays(expected), strict=True):
        assert_parity(one, other)


@DTYPES
def test_operations_read_nothing_beyond_their_arrays(dtype):
    rng = np.random.default_rng(4)
    for n_rows, n_inputs, n_units in ((1, 1, 1), (3, 17, 5), (33, 64, 16), (7, 65, 70)):
        inp, weight, dsums = (
            guarded(rng.standard_normal(shape).astype(dtype))
            for shape in ((n_rows, n_inputs), (n_inputs, n_units), (n_rows, n_units))
        )
        bias, mean, variance = (guarded(rng.random(n_units).astype(dtype)) for _ in range(3))
        labels = guarded(rng.integers(n_units, size=n_rows))
        for name, arguments in {
            "matmul": (inp, weight), "dense_forward": (inp, weight, bias), "dense_backward": (dsums, inp, weight),
            "relu": (inp,), "relu_backward": (dsums, dsums), "softmax": (dsums,),
            "softmax_cross_entropy": (dsums, labels), "squared_error": (dsums, dsums),
            "batch_norm": (dsums, bias, mean, mean, variance, 1e-5),
        }.items():  # fmt: skip
            found, expected = (getattr(backend, name)(*arguments) for backend in (compiled, reference))
            for one, other in zip(*(r if isinstance(r, tuple) else (r,) for r in (found, expected)), strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5, err_msg=name)


@DTYPES
@pytest.mark.parametrize(
    "case", [*CASES.values(), *POOLS.values()], ids=[*CASES, *(f"{name}, a pool" for name in POOLS)]
)
def test_operations_on_images_read_nothing_beyond_their_arrays(case, dtype):
    rng = np.random.default_rng(5)
    shapes = case.shape, (case.channels, *case.window, case.filters), (case.filters,)
    inp, weight, bias, dsums, dout = (
        guarded(rng.standard_normal(shape).astype(dtype))
        for shape in (*shapes, (case.samples, case.filters, *case.grid), (case.samples, case.channels, *case.grid))
    )
    taps = guarded(reference.max_pool(inp, case.window, *case.windows)[1])
    windows = case.window, *case.windows
    for name, arguments in {
        "conv_forward": (inp, weight, bias, *case.windows), "conv_backward": (dsums, inp, weight, *case.windows),
        "max_pool": (inp, *windows), "max_pool_backward": (dout, taps, case.shape, *windows),
        "avg_pool": (inp, *windows), "avg_pool_backward": (dout, case.shape, *windows),
    }.items():  # fmt: skip
        found, expected = (getattr(backend, name)(*arguments) for backend in (compiled, reference))
        for one, other in zip(*(r if isinstance(r, tuple) else (r,) for r in (found, expected)), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4, err_msg=name)
