"""Predictions from CSR matrices: the structure is checked as it is read, and no work depends on the inputs' number."""

import tracemalloc

import numpy as np
import pytest
import scipy.sparse

from fastnn import interruptible
from fastnn.backends import compiled, reference
from fastnn.backends.compiled import predict_csr
from fastnn.errors import DataError
from fastnn.kernels import team
from fastnn.kernels.epoch.predict_csr import predict_first_layer
from fastnn.kernels.inputs.csr import Csr
from fastnn.network import Network
from tests.parity import assert_parity, assert_same_bits, astype, make_network


def _matrix(rng, n_rows, n_inputs, n_entries, dtype="float32"):
    columns = rng.integers(n_inputs, size=(n_rows, n_entries))
    columns[::3] = columns[0]  # some rows share their columns
    rows = np.repeat(np.arange(n_rows), n_entries)
    values = rng.standard_normal(n_rows * n_entries)
    return scipy.sparse.csr_matrix((values, (rows, columns.ravel())), shape=(n_rows, n_inputs)).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", [(70_000, 20, 3), (500, 16, 2), (500, 33, 2), (900, 300, 5, 4), (900, 3), (900, 130)])
@pytest.mark.parametrize("output", ["softmax", "logistic", "identity"])
def test_blocks_and_threads_do_not_change_the_bits(sizes, dtype, output, started, monkeypatch):
    rng = np.random.default_rng(1)
    network = Network.initialize(sizes, activation="tanh", dtype=dtype, output=output, input_scale=0.5)
    for bias in network.biases:
        bias[:] = rng.standard_normal(bias.shape)
    matrix = _matrix(rng, 150, sizes[0], 30, dtype)
    found = compiled.predict_proba(network, matrix, 1)
    assert_parity(found, reference.predict_proba(astype(network, "float64"), matrix))
    monkeypatch.setattr(predict_csr, "_BLOCK_ROWS", 7)
    others = [compiled.predict_proba(network, matrix, threads) for threads in (1, 2, 3)]
    assert started == [1, 1, 2, 3]
    assert_same_bits(others, [found] * 3)
    assert_same_bits([compiled.predict_proba(network, matrix[k : k + 1]) for k in (0, 149)], [found[:1], found[149:]])


def test_a_prediction_needs_no_memory_for_inputs_without_entries():
    network = Network.initialize((300_000, 4, 2))
    matrix = _matrix(np.random.default_rng(2), 64, 300_000, 5)
    expected = compiled.predict_proba(network, matrix)
    tracemalloc.start()
    found = compiled.predict_proba(network, matrix)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(found, expected)
    assert peak < 100_000  # a row of inputs would be 1.2 MB


def test_stored_zeros_hide_weights_that_are_not_finite_and_hidden_zeros_do_not():
    rng = np.random.default_rng(3)
    network = make_network(rng, (40, 20, 3), "float32", "float32", "relu")
    network.weights[0][5] = np.nan
    matrix = scipy.sparse.csr_matrix(([0.0, 1.0], ([0, 0], [5, 6])), shape=(1, 40), dtype="float32")
    found = compiled.predict_logits(network, matrix)
    assert_parity(found, compiled.predict_logits(network, matrix.toarray()))
    assert np.isfinite(found).all()
    hidden = network.weights[0][6] + network.biases[0]
    network.weights[1][int(np.argmin(hidden)), 0] = np.nan
    assert hidden.min() < 0
    found = compiled.predict_logits(network, matrix)[0]
    assert np.isnan(found).tolist() == [True, False, False]


def _broken(rng, matrix):
    """A copy of the matrix with a random fault in its structure, which SciPy's flags deny."""
    broken = matrix.copy()
    broken.has_sorted_indices = broken.has_canonical_format = True
    broken.indptr, broken.indices = broken.indptr.copy(), broken.indices.copy()
    kind, at = rng.integers(4), rng.integers(broken.nnz)
    if kind == 0:
        broken.indices[at] = rng.choice([-1, -(2**31), broken.shape[1], 2**31 - 1])
    elif kind == 1:
        broken.indptr[rng.integers(1, len(broken.indptr) - 1)] = rng.choice([-1, -(2**31), 2**31 - 1, broken.nnz + 1])
    elif kind == 2:
        broken.indptr[-1] = rng.choice([-1, broken.nnz + 1, 2**31 - 1])
    else:
        broken.data = broken.data[:at]
    return broken


@pytest.mark.faults
@pytest.mark.parametrize("index_dtype", [np.int32, np.int64])
def test_random_faults_of_a_structure_are_refused(index_dtype):
    rng, network = np.random.default_rng(4), Network.initialize((50, 20, 3))
    matrix = _matrix(rng, 30, 50, 8)
    expected = compiled.predict_proba(network, matrix)
    for _ in range(100):
        broken = _broken(rng, matrix)
        broken.indptr, broken.indices = broken.indptr.astype(index_dtype), broken.indices.astype(index_dtype)
        for predict in (compiled.predict_proba, reference.predict_proba):
            with pytest.raises(DataError, match="do not fit its shape"):
                predict(network, broken)
    assert_same_bits([compiled.predict_proba(network, matrix)], [expected])


def _readonly(array):
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("indptr", "indices"),
    [
        ([0, 2], [1, 1]),
        ([0, 2], [2, 1]),
        ([0, 1], [5]),
        ([0, 1], [2**32 - 1]),
        ([0, 3], [1, 2]),
        ([-1, 1], [0, 1]),
        ([2, 1], [0, 1]),
        ([0, 2**62], [0, 1]),
    ],
    ids=["twice", "descending", "too large", "huge", "too many", "negative", "backwards", "far beyond"],
)
@pytest.mark.parametrize("n_units", [3, 20, 50, 130])
def test_the_kernel_itself_refuses_what_does_not_fit(indptr, indices, n_units):
    """The caller's arrays can change between a check in Python and the kernel."""
    csr = Csr(*map(_readonly, (np.array(indptr), np.array(indices, np.uint32), np.ones(len(indices), np.float32))))
    layer = _readonly(np.ones((5, n_units), np.float32)), _readonly(np.ones(n_units, np.float32)), np.float32(1)
    out = np.zeros((1, n_units), np.float32)
    sums = np.zeros(n_units + 32, np.float32)
    assert not predict_first_layer(csr, 0, layer, (0, 2), team.new_barrier(), out, sums)


def test_the_reference_starts_no_thread_for_few_entries(monkeypatch):
    """Ctrl-C is answered by a thread in long work only, and inputs without entries are no work."""
    started, network = [], Network.initialize((30_000, 20, 5))
    monkeypatch.setattr(interruptible, "_start", lambda thread: started.append(thread) or thread.start() is None)
    matrix = _matrix(np.random.default_rng(5), 200, 30_000, 80)
    expected = reference.predict_logits(network, matrix.toarray())
    assert started
    started.clear()
    np.testing.assert_allclose(reference.predict_logits(network, matrix), expected, rtol=1e-4, atol=1e-5)
    assert not started


@pytest.mark.parametrize("n_rows", [1, 2, 30])
def test_few_entries_in_any_order_are_sorted_without_a_copy_of_the_matrix(n_rows, monkeypatch):
    rng, network = np.random.default_rng(9), Network.initialize((300, 20, 5))
    matrix = _matrix(rng, n_rows, 300, 40)
    expected = compiled.predict_proba(network, matrix)
    shuffled = matrix.copy()
    for row in range(n_rows):
        begin, end = matrix.indptr[row : row + 2]
        order = rng.permutation(end - begin)
        shuffled.indices[begin:end] = matrix.indices[begin:end][order]
        shuffled.data[begin:end] = matrix.data[begin:end][order]
    shuffled.has_sorted_indices = False
    twice = shuffled.copy()
    twice.indices[1] = twice.indices[0]  # two entries of one place are added
    added = compiled.predict_proba(network, twice)
    assert_same_bits([added], [compiled.predict_proba(network, type(twice)(twice.toarray()))])
    monkeypatch.setattr(predict_csr, "check_inputs", None)
    assert_same_bits([compiled.predict_proba(network, shuffled)], [expected])
