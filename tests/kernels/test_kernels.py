"""Each kernel helper gives the same result as an independent computation with NumPy or SciPy."""

import os
import subprocess
import sys

import llvmlite.binding as llvm
import numpy as np
import pytest
import scipy.sparse

from fastnn.kernels.epoch.block import Dropout
from fastnn.kernels.inputs.csr import Csr, csr_sums, csr_weight_gradient, list_inputs
from fastnn.kernels.inputs.packed import Packed, add_sparse_product, pack, pack_csr, sparse_weight_gradient
from fastnn.kernels.jit import FASTMATH, kernel
from fastnn.kernels.layout import GROUP, N_COLUMNS, SIZE, Layout, Matrix, Panel, View, panel_widths
from fastnn.kernels.ops import dropout
from fastnn.kernels.ops.matmul import DEPTH, multiply_panel
from fastnn.kernels.ops.optimizers import State, Step
from fastnn.kernels.team import Member, new_barrier
from fastnn.kernels.vector.exp_log import vexp, vlog
from fastnn.kernels.vector.simd import FOUR, ONE, TWO, lanes, vload, vstore, vsum
from fastnn.randomness import dropout_keep, dropout_keys, dropout_threshold


@kernel
def _pack(member, images, rows, mask, packed, offsets):
    pack(member, images, rows, mask, packed, offsets)


@kernel
def _pack_csr(member, csr, rows, n_inputs, mask, packed):
    pack_csr(member, csr, rows, n_inputs, mask, packed)


@kernel
def _exp(inp, out):
    for h in range(0, len(inp), lanes(inp)):
        vstore(out, h, vexp(vload(inp, h, ONE)))


@kernel
def _log(inp, out):
    for h in range(0, len(inp), lanes(inp)):
        vstore(out, h, vlog(vload(inp, h, ONE)))


@kernel
def _sum(inp):
    return vsum(vload(inp, 0, TWO))


@kernel
def _multiply(out, left, right, depth, rows, vectors, add):
    multiply_panel(out, left, right, depth, rows, vectors, add)


@kernel
def _add_sparse_product(out, packed, n_inputs, weight, n_units, n):
    add_sparse_product(out, packed, 0, n_inputs, weight, n_units, n)


@kernel
def _sparse_weight_gradient(found, dout, packed, n_groups, n_inputs, i, j, n):
    total_i, total_j, used = sparse_weight_gradient(dout, packed, n_groups, n_inputs, i, j, n)
    vstore(found, 0, total_i)
    vstore(found, len(found) // 2, total_j)
    return used


@kernel
def _csr_products(layout, rows, step, csr, panel, out, dout):
    csr_sums(layout, rows, csr, out, panel)
    csr_weight_gradient(layout, rows, step, csr, dout, panel)


@kernel
def _drop(values, key, row, lo, threshold, scale):
    dropout.drop(values, key, row, lo, threshold, scale)


@kernel
def _count_nan_and_nonfinite(values, counts):
    for value in values:
        counts[0] += np.isnan(value)
        counts[1] += not np.isfinite(value)


def test_fast_math_still_detects_nan():
    assert not {"nnan", "ninf", "fast"} & FASTMATH
    for dtype in (np.float32, np.float64):
        counts = np.zeros(2, np.int64)
        _count_nan_and_nonfinite(np.array([1, np.nan, np.inf, -np.inf], dtype), counts)
        assert counts.tolist() == [1, 3]


_KEY = np.uint64(0x1234567887654321)


def _mask(rate):
    """The dropout of inputs at this rate."""
    rates = np.array([[dropout_threshold(rate), 1 - rate, 1 / (1 - rate)]], np.float64)
    return Dropout(np.array([_KEY]), rates, np.empty(0, np.int64))


def _packed(images, rows, n_groups=4, threads=1, rate=0.0):
    n_inputs = images.shape[1]
    packed = Packed(
        np.full(n_groups * 64 * n_inputs, 99, images.dtype), np.full(n_groups * n_inputs, 2**64 - 1, np.uint64)
    )
    for t in range(threads):
        _pack(Member(t, threads, new_barrier()), images, rows, _mask(rate), packed, np.empty(2 * GROUP, np.int64))
    return packed


@pytest.mark.parametrize("n_inputs", [1, 7, 8, 17, 63, 64, 65, 200])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
@pytest.mark.parametrize(("n_rows", "threads"), [(1, 2), (63, 4), (64, 1), (130, 3)])
@pytest.mark.parametrize("rate", [0.0, 0.4])
def test_packing_gathers_drops_and_transposes_samples_and_marks_nonzero_inputs(n_inputs, dtype, n_rows, threads, rate):
    rng = np.random.default_rng(n_inputs)
    images = (rng.integers(0, 4, (300, n_inputs)) - (dtype != "uint8")).astype(dtype)
    rows = rng.integers(300, size=n_rows)
    packed = _packed(images, rows, threads=threads, rate=rate)
    kept = images[rows] * dropout_keep(_KEY, rows, n_inputs, rate)
    for group in range(-(-n_rows // 64)):
        samples = kept[group * 64 : group * 64 + 64]
        values = packed.values.reshape(-1, n_inputs, 64)[group]
        np.testing.assert_array_equal(values[:, : len(samples)], samples.T)
        masks = packed.nonzero_masks.reshape(-1, n_inputs)[group]
        bits = (masks[:, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)
        np.testing.assert_array_equal(bits[:, : len(samples)], samples.T != 0)
        assert not bits[:, len(samples) :].any()


@pytest.mark.parametrize("n_inputs", [1, 7, 65, 200])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_packing_a_sparse_data_set_gives_the_same_block(n_inputs, dtype):
    """The buffers may still hold another block, and any number of threads may share the work."""
    rng = np.random.default_rng(n_inputs)
    images = (rng.integers(1, 9, (300, n_inputs)) * (rng.random((300, n_inputs)) < 0.3)).astype(dtype)
    matrix = scipy.sparse.csr_matrix(images)
    csr = Csr(matrix.indptr.astype(np.int64), matrix.indices.view(np.uint32), matrix.data)
    packed = Packed(np.zeros(256 * n_inputs, dtype), np.zeros(4 * n_inputs, np.uint64))
    for n_rows, threads, rate in ((256, 1, 0), (70, 2, 0.3), (1, 3, 0), (130, 4, 0.5), (64, 300, 0)):
        rows = rng.integers(300, size=n_rows)
        for t in range(threads):
            _pack_csr(Member(t, threads, new_barrier()), csr, rows, n_inputs, _mask(rate), packed)
        n_groups = -(-n_rows // 64)
        block = np.zeros((64 * n_groups, n_inputs), dtype)
        block[:n_rows] = images[rows] * dropout_keep(_KEY, rows, n_inputs, rate)
        values = packed.values.reshape(4, n_inputs, 64)[:n_groups]
        np.testing.assert_array_equal(values, block.reshape(n_groups, 64, n_inputs).transpose(0, 2, 1))
        expected = _packed(images, rows, rate=rate).nonzero_masks[: n_groups * n_inputs]
        np.testing.assert_array_equal(packed.nonzero_masks[: n_groups * n_inputs], expected)


@pytest.mark.parametrize("n", [ONE, TWO, FOUR], ids=["one", "two", "four"])
@pytest.mark.parametrize("n_inputs", [1, 6, 65])
@pytest.mark.parametrize("real", ["float32", "float64"])
def test_products_of_packed_inputs_equal_those_of_numpy(n, n_inputs, real):
    rng = np.random.default_rng(n_inputs)
    images = (rng.integers(1, 256, (100, n_inputs)) * (rng.random((100, n_inputs)) < 0.3)).astype(np.uint8)
    images[0, 0] = images[1, 0] = 255
    rows, width = rng.permutation(100)[:70], len(n) * 64 // np.dtype(real).itemsize
    packed, apart = _packed(images, rows), width + 16  # leaves a gap between the rows of the sums
    dout, tolerance = rng.standard_normal((70, apart)).astype(real), 1e-5 if real == "float32" else 1e-13
    # A single vector may have fewer units than lanes. Wider panels may have gaps between their rows.
    for n_units, row in ((width, width), (width - 3, width - 3) if n == ONE else (width, width + 5)):
        weight = rng.standard_normal((n_inputs, row)).astype(real)
        out = np.ones((64, apart), real)
        sums, weights = View(out.reshape(-1), 0, apart), View(weight.reshape(-1), 0, row)
        _add_sparse_product(sums, packed, n_inputs, weights, n_units, n)
        expected = 1 + images[rows[:64]].astype(float) @ weight[:, :n_units]
        np.testing.assert_allclose(out[:, :n_units], expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())
        assert (out[:, n_units:] == 1).all()
    gradient, found = images[rows].astype(float).T @ dout[:, :width], np.empty((2, width), real)
    douts = View(dout.reshape(-1), 0, apart)
    for pair in ([k, min(k + 1, n_inputs - 1)] for k in range(n_inputs)):
        used = _sparse_weight_gradient(found.reshape(-1), douts, packed, 2, n_inputs, *pair, n)
        assert used == images[rows][:, pair].any()
        np.testing.assert_allclose(found, gradient[pair], rtol=tolerance, atol=tolerance * np.abs(gradient).max())


@pytest.mark.parametrize("vectors", [1, 2])
@pytest.mark.parametrize("n_inputs", [1, 7, 16, 65])
@pytest.mark.parametrize("dtype", ["uint8", "real"])
@pytest.mark.parametrize("real", ["float32", "float64"])
def test_products_of_sparse_inputs_equal_those_of_numpy(vectors, n_inputs, dtype, real):
    rng, width = np.random.default_rng(n_inputs), vectors * 64 // np.dtype(real).itemsize
    images = rng.integers(1, 9, (50, n_inputs)) * (rng.random((50, n_inputs)) < 0.4) - (dtype == "real") * 2
    images, rows = images.astype(np.uint8 if dtype == "uint8" else real), rng.permutation(50)[:30]
    index_dtype = [np.uint16, np.uint32][n_inputs % 2]
    csr = Csr(np.zeros(51, np.int64), np.zeros(images.size + 64, index_dtype), np.zeros(images.size + 64, images.dtype))
    list_inputs(images, csr)
    expected = scipy.sparse.csr_matrix(images)
    np.testing.assert_array_equal(csr.indptr, expected.indptr)
    np.testing.assert_array_equal(csr.indices[: expected.nnz], expected.indices)
    np.testing.assert_array_equal(csr.data[: expected.nnz], expected.data)

    weight, dout = rng.standard_normal((n_inputs, width)).astype(real), rng.standard_normal((30, width)).astype(real)
    out, gradient, chosen = np.zeros((30, width), real), np.ones((n_inputs, width), real), images[rows].astype(float)
    table = np.zeros((2, N_COLUMNS), np.int64)
    table[:, SIZE] = n_inputs, width
    layout = Layout(weight.reshape(-1), 1, table, output=0, scale=weight.dtype.type(1))
    panel = Panel(0, vectors, width, 0, width)
    tolerance = 1e-5 if real == "float32" else 1e-13
    empty = np.zeros(0, real)
    for is_first, kept in ((False, 1), (True, 0)):
        step = Step(0, 0.0, 0.0, is_first, False, State(empty, empty, gradient.reshape(-1)))
        _csr_products(layout, rows, step, csr, panel, out.reshape(-1), dout.reshape(-1))
        for found, product in ((out, chosen @ weight), (gradient, kept + chosen.T @ dout)):
            np.testing.assert_allclose(found, product, rtol=tolerance, atol=tolerance * np.abs(product).max())


@pytest.mark.parametrize("n", [1, 2, 4])
@pytest.mark.parametrize("rows", [1, 3, 4, 9])
@pytest.mark.parametrize("depth", [1, 5, 2 * DEPTH, 2 * DEPTH + 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("add", [False, True])
def test_tiles_multiply_matrices_of_any_strides(n, rows, depth, dtype, transposed, add):
    rng = np.random.default_rng(rows)
    width = n * 64 // np.dtype(dtype).itemsize
    left, right = rng.standard_normal((rows, depth)).astype(dtype), rng.standard_normal((depth, width)).astype(dtype)
    before = rng.standard_normal((rows, width)).astype(dtype)
    rtol = depth * np.finfo(dtype).eps
    flat, strides = (left.T.ravel(), (1, rows)) if transposed else (left.ravel(), (depth, 1))
    out = before.copy()
    sums, product = View(out.reshape(-1), 0, width), (Matrix(flat, 0, *strides), View(right.reshape(-1), 0, width))
    _multiply(sums, *product, depth, rows, n, add)
    expected = left.astype(float) @ right.astype(float) + add * before
    np.testing.assert_allclose(out, expected, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_exp_is_within_two_units_in_the_last_place(dtype):
    """Results that are normal numbers are compared with long double. Others are 0 or infinity. NaN stays NaN."""
    info = np.finfo(dtype)
    low, high = np.log(float(info.tiny)), np.log(float(info.max) / 2)
    inp = np.concatenate([np.linspace(low, high, 100_000), np.linspace(-1, 1, 100_000), [0.0, -0.0]]).astype(dtype)
    inp = np.pad(inp, (0, -len(inp) % 16))
    out = np.empty_like(inp)
    _exp(inp, out)
    exact = np.exp(inp.astype(np.longdouble))
    normal = (exact >= info.tiny) & (exact < info.max / 2)
    assert normal.sum() > 199_990
    assert (np.abs(out[normal] - exact[normal]) / np.spacing(exact[normal].astype(dtype))).max() < 2
    edge = np.array([np.nan, np.inf, -np.inf, 2 * high, 2 * low, 0, 1e30, -1e30] * 2, dtype)
    out = np.empty_like(edge)
    _exp(edge, out)
    np.testing.assert_array_equal(out, np.array([np.nan, np.inf, 0, np.inf, 0, 1, np.inf, 0] * 2, dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_log_is_within_two_units_in_the_last_place(dtype):
    """Compares with long double, over all normal numbers and for results close to 0. NaN and infinity stay."""
    info = np.finfo(dtype)
    low, high = np.log(float(info.tiny)) + 1e-3, np.log(float(info.max)) - 1e-3
    inp = np.exp(np.linspace(low, high, 100_000)).astype(dtype)
    inp = np.concatenate(
        [inp, np.linspace(0.5, 10, 100_000).astype(dtype), [1, 1 + info.eps, 1 - info.eps]], dtype=dtype
    )
    inp = np.pad(inp, (0, -len(inp) % 16), constant_values=2)
    out = np.empty_like(inp)
    _log(inp, out)
    exact = np.log(inp.astype(np.longdouble))
    assert (np.abs(out - exact) / np.spacing(np.abs(exact).astype(dtype))).max() < 2
    edge = np.array([np.nan, np.inf, 1, info.max] * 4, dtype)
    out = np.empty_like(edge)
    _log(edge, out)
    np.testing.assert_array_equal(out, np.array([np.nan, np.inf, 0, np.log(info.max)] * 4, dtype))


def test_vsum_adds_all_lanes():
    inp = np.arange(32, dtype=np.float32)
    inp[7] = 1000
    assert _sum(inp) == inp.sum()


def test_panel_widths_cover_every_vector_and_never_increase():
    assert panel_widths(3) == [2, 1]
    assert panel_widths(15) == [4, 4, 4, 2, 1]
    for vectors in range(1, 40):
        widths = panel_widths(vectors)
        assert sum(widths) == vectors
        assert set(widths) <= {1, 2, 4}
        assert widths == sorted(widths, reverse=True)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_kernels_drop_the_same_units_as_dropout_keep(rate):
    rows = np.array([0, 1, 59_999, 2**40])
    for key in dropout_keys(3, 2, 3):
        expected = dropout_keep(key, rows, 100, rate)
        for row, keep in zip(rows, expected, strict=True):
            for lo, hi in ((0, 64), (64, 100)):
                values = np.ones(hi - lo, np.float32)
                _drop(values, key, row, lo, np.uint32(rate * 2**32), np.float32(2))
                np.testing.assert_array_equal(values, 2.0 * keep[lo:hi])


def test_dropout_masks_look_random():
    """The fractions of kept units, per unit, row and pair, are within five standard deviations of the expected ones."""
    n_rows, n_units, rate = 4000, 200, 0.3
    keep = dropout_keep(dropout_keys(0, 0, 1)[0], np.arange(n_rows), n_units, rate)
    for axis, n in ((0, n_rows), (1, n_units)):
        assert np.abs(keep.mean(axis=axis) - 0.7).max() < 5 * np.sqrt(0.21 / n)
    neighbours = (keep[:, 1:] & keep[:, :-1]).mean(), (keep[1:] & keep[:-1]).mean()
    np.testing.assert_allclose(neighbours, 0.49, atol=5 * np.sqrt(0.25 / (n_rows * n_units)))
    other = dropout_keep(dropout_keys(0, 1, 1)[0], np.arange(n_rows), n_units, rate)
    assert (keep & other).mean() == pytest.approx(0.49, abs=0.005)


TRAIN = """
import hashlib
import llvmlite.binding as llvm
import numpy as np
import fastnn
from fastnn.kernels.compiler import cache
train_set, _ = fastnn.load_mnist()
digest = hashlib.sha256()
for sizes, n, batch_size in (((784, 150, 70, 10), 300, 70), ((784, 10), 300, 300), ((784, 10, 10), 5000, None)):
    some = fastnn.Dataset(train_set.images[:n], train_set.labels[:n])
    network = fastnn.Network.initialize(sizes, seed=1, input_scale=1 / 255)
    settings = dict(batch_size=batch_size, optimizer="adam", learning_rate=0.001, backend="numba")
    result = fastnn.train(network, some, epochs=2, **settings)
    for array in (*result.network.weights, *result.network.biases):
        digest.update(array.tobytes())
print(digest.hexdigest(), len(cache.compilations) + cache.loads())
"""


@pytest.mark.slow
@pytest.mark.skipif(not llvm.get_host_cpu_features().get("fma"), reason="the processor has no AVX2 with multiply-add")
def test_a_cpu_with_narrower_registers_computes_the_same_bits(tmp_path):
    """The tiles have another shape on that CPU, but the order of the additions is the same."""
    avx2 = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+fma,+bmi,+bmi2,+lzcnt,+popcnt,+sse4.2"}
    environment = {name: value for name, value in os.environ.items() if name not in avx2}
    own, narrow = (
        subprocess.run(
            [sys.executable, "-c", TRAIN], env={**environment, **more}, capture_output=True, text=True, check=True
        )
        for more in ({}, {**avx2, "NUMBA_CACHE_DIR": str(tmp_path)})
    )
    assert own.stdout == narrow.stdout
    assert int(own.stdout.split()[1]) > 0  # kernels
