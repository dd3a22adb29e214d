"""SciPy's sparse matrices: the bits of the equal dense data, in both backends, and no dense copy."""

import numpy as np
import pytest
from scipy import sparse

from fastnn.backends import compiled, reference
from fastnn.datasets import Dataset
from fastnn.errors import DataError
from fastnn.gradient_check import check_gradients
from fastnn.judging import evaluate
from fastnn.network import Network
from fastnn.optimizers import get_optimizer
from fastnn.training import hold_out, train
from tests.parity import make_network

SIZES = {"rows": (103, 9, 5), "panels": (103, 200, 70, 5), "no hidden layer": (103, 5)}


def _inputs(rng, n, kind, share=0.15):
    return (rng.integers(1, 255, (n, 103)) * (rng.random((n, 103)) < share)).astype(kind)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["uint8", "float32", "float64"])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
def test_training_has_the_bits_of_the_dense_data(optimizer, sizes, kind, dtype):
    rng = np.random.default_rng(1)
    inp, labels, weight = _inputs(rng, 300, kind), rng.integers(5, size=300), rng.random(300)
    network = make_network(rng, sizes, "uint8", dtype, "relu")
    order = rng.permutation(300)
    for batch_size in (1, 70, 300):
        runs = []
        for data, threads in ((inp, 1), *((sparse.csr_matrix(inp), threads) for threads in (1, 2, 3))):
            trainer = compiled.trainer(
                network, data, labels, get_optimizer(optimizer), l2=0.01, dropout=0.2, sample_weight=weight,
                threads=threads,
            )  # fmt: skip
            runs.append(([trainer.run_epoch(order, batch_size, 0.01) for _ in range(2)], trainer.network().weights))
        for results, weights in runs[1:]:
            assert results == runs[0][0]
            assert all(np.array_equal(one, other) for one, other in zip(weights, runs[0][1], strict=True))
        exact = reference.trainer(
            network, sparse.csr_array(inp), labels, get_optimizer(optimizer), l2=0.01, dropout=0.2, sample_weight=weight
        )
        assert exact.run_epoch(order, batch_size, 0.01).loss == pytest.approx(runs[0][0][0].loss, rel=1e-3)


@pytest.mark.parametrize("kind", ["uint8", "float32", "float64"])
@pytest.mark.parametrize("rows", [1, 2, 33, 300])
def test_predictions_have_the_bits_of_the_dense_rows(rows, kind):
    rng = np.random.default_rng(2)
    inp = _inputs(rng, rows, kind)
    for sizes in SIZES.values():
        network = make_network(rng, sizes, "uint8", "float32", "tanh")
        expected = compiled.predict_proba(network, inp)
        for threads in (1, 2, None):
            np.testing.assert_array_equal(compiled.predict_proba(network, sparse.csr_array(inp), threads), expected)
        np.testing.assert_allclose(reference.predict_proba(network, sparse.csr_matrix(inp)), expected, rtol=1e-4)


@pytest.mark.parametrize("backend", [reference, compiled], ids=["numpy", "numba"])
def test_gradients_are_right(backend):
    rng = np.random.default_rng(3)
    inp = sparse.csr_matrix(rng.standard_normal((5, 6)) * (rng.random((5, 6)) < 0.5))
    network = make_network(rng, (6, 5, 3), "float64", "float64", "tanh")
    assert check_gradients(network, inp, rng.integers(3, size=5), backend=backend, l2=0.1).passed


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_odd_matrices_mean_what_they_say(backend):
    """Entries out of order, given in parts, or stored though they are 0; the matrix is left as it is."""
    odd = sparse.csr_matrix(
        (np.array([3.0, 1.0, 1.0, 0.0, 5.0]), np.array([2, 0, 2, 1, 1]), np.array([0, 4, 4, 5])), shape=(3, 3)
    )
    kept = odd.copy()
    network = Network.initialize((3, 4, 2), dtype=np.float64)
    engine = {"numba": compiled, "numpy": reference}[backend]
    np.testing.assert_allclose(
        engine.predict_logits(network, odd), reference.predict_logits(network, odd.toarray()), rtol=1e-12
    )
    for name in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(odd, name), getattr(kept, name))


def test_a_wide_matrix_is_never_made_dense():
    """4,000 rows of 50,000 inputs would take 800 MB in float32; eight entries a row are kept as they are."""
    rng = np.random.default_rng(4)
    n, width, labels = 4000, 50_000, np.arange(4000) % 2
    columns = rng.integers(0, width // 2, (n, 8)) * 2 + labels[:, None]
    matrix = sparse.csr_matrix((np.ones(8 * n, np.float32), columns.ravel(), np.arange(0, 8 * n + 1, 8)), (n, width))
    network = Network.initialize((width, 4, 2))
    data = Dataset(matrix, labels)
    result = train(network, data, epochs=3, optimizer="adam", learning_rate=0.05, batch_size=500, backend="numba")
    assert evaluate(result.network, data)[1] > 0.95


def test_data_sets_of_sparse_rows():
    rng = np.random.default_rng(5)
    dense, labels = _inputs(rng, 60, "float32"), rng.integers(5, size=60)
    data = Dataset(sparse.csr_matrix(dense), labels)
    assert len(data) == 60
    assert "60 samples of 103 float32 inputs" in repr(data)
    rows, held = hold_out(data, 0.2, seed=1)
    expected = hold_out(Dataset(dense, labels), 0.2, seed=1)[1]
    np.testing.assert_array_equal(held.images.toarray(), expected.images)
    assert data.digest() == Dataset(sparse.csr_matrix(dense), labels).digest() != rows.digest()
    with pytest.raises(DataError, match="in place"):
        hold_out(data, 0.2, in_place=True)


def test_what_cannot_be_used_is_named():
    network = Network.initialize((103, 4, 5))
    matrix = sparse.csr_matrix(_inputs(np.random.default_rng(6), 10, "float32"))
    for backend in (reference, compiled):
        with pytest.raises(DataError, match=r"format 'csc', expected 'csr': try \.tocsr\(\)"):
            backend.predict_logits(network, matrix.tocsc())
        with pytest.raises(DataError, match=r"shape \(10, 102\)"):
            backend.predict_logits(network, matrix[:, :102])
    for name, value in (("indices", 103), ("indices", -1), ("indptr", 2**30)):  # the kernels go where these say
        bad = matrix.copy()
        getattr(bad, name)[2] = value
        for backend in (reference, compiled):
            with pytest.raises(DataError, match="indptr or indices lead outside it"):
                backend.predict_logits(network, bad)
    with pytest.raises(DataError, match="inp is a sparse matrix"):
        compiled.matmul(matrix, network.weights[0])
    bad = matrix.copy()
    bad.data[3] = np.inf
    with pytest.raises(DataError, match="NaN or infinity"):
        train(network, Dataset(bad, np.zeros(10, np.int64)))
