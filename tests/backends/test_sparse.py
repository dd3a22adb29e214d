"""SciPy CSR matrices as inputs: they give the results of the equal dense array, and no dense array is made."""

import itertools
import tracemalloc

import numpy as np
import pytest
import scipy.sparse

from fastnn.backends import compiled, reference
from fastnn.backends.arguments import TrainingData, check_inputs
from fastnn.backends.compiled import fused
from fastnn.backends.compiled.layout import to_csr
from fastnn.datasets import Dataset
from fastnn.datasets.splits import hold_out
from fastnn.errors import DataError
from fastnn.evaluation.evaluate import evaluate
from fastnn.explanation.diagnosis import diagnose
from fastnn.explanation.gradient_check import check_gradients
from fastnn.kernels.epoch.by_rows import run_epoch_by_rows
from fastnn.kernels.epoch.by_units import run_epoch_by_units
from fastnn.kernels.epoch.predict import ROWS
from fastnn.kernels.epoch.predict import predict as predict_kernel
from fastnn.network import Network
from fastnn.optim.optimizers import SGD, Adam
from fastnn.training.train import train
from tests.parity import (
    alternating,
    assert_all_parity,
    assert_parity,
    assert_same_bits,
    astype,
    make_network,
    trained_arrays,
)

BACKENDS = pytest.mark.parametrize("backend", [reference, compiled], ids=["numpy", "numba"])
DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])
KINDS = pytest.mark.parametrize("kind", ["uint8", "float32", "float64"])
FORMS = (scipy.sparse.csr_matrix, scipy.sparse.csr_array)


def _inputs(rng, shape, kind, density=0.2):
    """Return an array of dtype `kind` that is mostly zeros; uint8 stands for pixels."""
    inp = rng.integers(1, 256, shape) if kind == "uint8" else rng.standard_normal(shape)
    return (inp * (rng.random(shape) < density)).astype(kind)


def _trained(backend, network, inp, labels, optimizer, batch_size, threads, **options):
    """The losses of three epochs, and the weights and biases after them."""
    trainer = backend.trainer(network, inp, labels, optimizer, threads=threads, **options)
    orders = np.random.default_rng(1)
    rate = 0.02 if batch_size > 1 else 0.001
    losses = [trainer.run_epoch(orders.permutation(len(labels)), batch_size, rate).loss for _ in range(3)]
    return [np.array(losses), *trainer.network().weights, *trainer.network().biases]


@pytest.fixture
def dense_is_sparse(monkeypatch):
    """Make the trainer use the kernels that skip zeros for every dense array."""
    monkeypatch.setattr(fused, "SPARSE_BELOW", 1.0)


OPTIMIZERS = {"sgd": SGD(), "momentum": SGD(0.9), "nesterov": SGD(0.8, nesterov=True), "adam": Adam()}
# Hidden layers and batch size. Threads share panels, with one or several blocks per batch, or they share rows. Each of
# four threads has a panel, or a chunk of every batch.
MODES = {
    "one by one": ((170,), 1),
    "panels": ((170, 70), 64),
    "blocks": ((170,), 300),
    "rows": ((16,), 400),
    "no hidden layer": ((), 700),
}
OPTIONS = {"plain, few nonzeros": (0.2, False), "l2, dropout and sample weights, many nonzeros": (0.9, True)}


@pytest.mark.parametrize(("mode", "optimizer", "given"), alternating([*MODES], [*OPTIMIZERS], [*OPTIONS]))
@KINDS
def test_training_gives_the_bits_of_the_dense_array(dense_is_sparse, started, kind, mode, optimizer, given):
    """So does any number of threads. Few inputs are nonzero in plain runs, many in regularized runs."""
    rng, (hidden, batch_size), optimizer = np.random.default_rng(2), MODES[mode], OPTIMIZERS[optimizer]
    density, regularized = OPTIONS[given]
    dtype = "float64" if kind == "float64" else "float32"
    network = make_network(rng, (103, *hidden, 10), kind, dtype, "relu")
    n = 100 if batch_size == 1 else 700
    options = {"l2": 0.01, "dropout": 0.2, "sample_weight": rng.random(n), "seed": 5} if regularized else {}
    inp, labels = _inputs(rng, (n, 103), kind, density), rng.integers(10, size=n)
    expected = _trained(compiled, network, inp, labels, optimizer, batch_size, 1, **options)
    assert expected[0][-1] < expected[0][0]
    for threads in (1, 2, 3, 4):
        started.clear()
        matrix = FORMS[regularized](inp)
        found = _trained(compiled, network, matrix, labels, optimizer, batch_size, threads, **options)
        assert started == [threads] * 3
        assert_same_bits(found, expected, f"{threads} threads, array")


@BACKENDS
@pytest.mark.parametrize(("density", "optimizer"), [(0.2, "sgd"), (0.05, "sgd"), (0.05, "adam")])
@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_training_agrees_with_the_reference_on_the_dense_array(started, backend, mode, density, optimizer):
    """Where a twentieth of the inputs is nonzero, threads that share units visit lists."""
    rng, (hidden, batch_size), optimizer = np.random.default_rng(3), mode, OPTIMIZERS[optimizer]
    network = make_network(rng, (65, *hidden, 10), "float64", "float64", "tanh")
    inp, labels = _inputs(rng, (700, 65), "float64", density), rng.integers(10, size=700)
    options = {"l2": 0.01, "sample_weight": rng.random(700)}
    found = _trained(backend, network, scipy.sparse.csr_array(inp), labels, optimizer, batch_size, 2, **options)
    assert started == ([2, 2, 2] if backend is compiled else [])
    assert_all_parity(found, _trained(reference, network, inp, labels, optimizer, batch_size, 1, **options))


@pytest.mark.parametrize(("share", "form"), [(0.1, "lists"), (0.11, "packed"), (0.001, "packed")])
def test_lists_are_visited_if_few_inputs_are_nonzero_but_not_too_few(share, form):
    """A batch of 50 rows uses each of 200 inputs 5 times, 5.5 times, and 0.05 times on average."""
    inp = scipy.sparse.random_array((1000, 200), density=share, format="csr", dtype=np.float32, rng=7)
    trainer = compiled.trainer(Network.initialize((200, 70, 3), seed=1), inp, np.arange(1000) % 3, SGD())
    trainer.run_epoch(np.arange(1000), 50, 0.1)
    assert trainer.describe().inputs == form


def test_inputs_are_not_dropped_from_lists():
    inp = scipy.sparse.random_array((300, 200), density=0.05, format="csr", dtype=np.float32, rng=7)
    network, labels = Network.initialize((200, 70, 3), seed=1), np.arange(300) % 3
    trainer = compiled.trainer(network, inp, labels, SGD(), dropout=(0.3, 0.0))
    trainer.run_epoch(np.arange(300), 50, 0.1)
    assert trainer.describe().inputs == "packed"


def test_other_data_may_need_another_form():
    """From lists to groups and back: the optimizer's state stays."""
    rng, trainers = np.random.default_rng(8), []
    labels, order = rng.integers(3, size=100), rng.permutation(100)
    parts = [_inputs(rng, (100, 65), "float64", density) for density in (0.05, 0.3, 0.05)]
    network = make_network(rng, (65, 70, 3), "float64", "float64", "tanh")
    for backend, form in ((compiled, scipy.sparse.csr_array), (reference, np.asarray)):
        trainer, forms = backend.trainer(network, form(parts[0]), labels, SGD(0.9), l2=0.01), []
        for part in parts:
            trainer.replace_data(TrainingData(form(part), labels, None))
            trainer.run_epoch(order, 30, 0.1)
            forms.append(trainer.describe().inputs if backend is compiled else "")
        trainers.append(trainer)
        assert forms == (["lists", "packed", "lists"] if backend is compiled else ["", "", ""])
    assert_all_parity(trained_arrays(trainers[0]), trained_arrays(trainers[1]))


@pytest.mark.parametrize("hidden", [(130,), (4,)], ids=["panels", "rows"])
def test_more_inputs_than_16_bit_indices_can_hold(hidden):
    rng, D = np.random.default_rng(4), 2**16 + 5
    inp = scipy.sparse.random_array((300, D), density=1e-3, format="csr", dtype=np.float32, rng=rng)
    assert inp.indices.max() >= 2**16
    network, labels = Network.initialize((D, *hidden, 3), seed=1), rng.integers(3, size=300)
    found = _trained(compiled, network, inp, labels, SGD(), 300 if hidden == (4,) else 64, 2)
    expected = _trained(reference, astype(network, "float64"), inp, labels, SGD(), 300 if hidden == (4,) else 64, 1)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-4)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-3, atol=1e-6)
    assert_parity(compiled.predict_logits(network, inp), reference.predict_logits(astype(network, "float64"), inp))


def test_sparse_inputs_compile_no_further_kernels():
    """A matrix of any dtype uses the kernels of the dense array, even if its arrays are read-only."""
    rng, kernels = np.random.default_rng(14), (run_epoch_by_units, run_epoch_by_rows, predict_kernel)
    inp, labels = _inputs(rng, (300, 20), "float32"), rng.integers(3, size=300)

    def n_compiled_after_use(inputs):
        for hidden, batch_size in (((70,), 64), ((4,), 300)):
            network = Network.initialize((20, *hidden, 3))
            _trained(compiled, network, inputs, labels, SGD(), batch_size, 1)
            compiled.predict_proba(network, inputs)
        return [len(kernel.versions) for kernel in kernels]

    expected = n_compiled_after_use(inp)
    for form, dtype in itertools.product(FORMS, (np.float32, np.float64)):
        matrix = form(inp.astype(dtype))
        for array in (matrix.data, matrix.indices, matrix.indptr):
            array.flags.writeable = False
        assert n_compiled_after_use(matrix) == expected


@BACKENDS
@DTYPES
@KINDS
@pytest.mark.parametrize(
    ("sizes", "n", "options"),
    [
        ((100, 17, 10), 1, {}),
        ((65, 130, 33, 10), 70, {"dropout": 0.3, "seed": 5, "epoch": 2}),
        ((50, 10), 300, {"l2": 0.1, "sample_weight": np.random.default_rng(1).random(300)}),
    ],
    ids=["one row", "dropout", "l2 and sample weights"],
)
def test_loss_and_gradients_agree_with_the_reference_on_the_dense_array(backend, dtype, kind, sizes, n, options):
    rng = np.random.default_rng(5)
    network = make_network(rng, sizes, kind, dtype, "relu")
    inp, labels = _inputs(rng, (n, sizes[0]), kind), rng.integers(10, size=n)
    found = backend.loss_and_gradients(network, scipy.sparse.csr_matrix(inp), labels, **options)
    expected = reference.loss_and_gradients(astype(network, "float64"), inp, labels, **options)
    assert_parity(np.array(found.loss, dtype), np.array(expected.loss), "loss")
    assert_all_parity(found.dweights, expected.dweights, "dweight")
    assert_all_parity(found.dbiases, expected.dbiases, "dbias")
    assert found.n_correct == expected.n_correct


@BACKENDS
@pytest.mark.parametrize("kind", ["uint8", "float64"])
def test_gradients_agree_with_finite_differences(backend, kind):
    rng = np.random.default_rng(6)
    network = make_network(rng, (6, 5, 4, 3), kind, "float64", "tanh")
    inp, labels = scipy.sparse.csr_array(_inputs(rng, (5, 6), kind, 0.5)), rng.integers(3, size=5)
    assert 0 < inp.nnz < 30
    check = check_gradients(network, inp, labels, backend=backend, l2=0.1, dropout=0.2, sample_weight=rng.random(5))
    assert check.passed, check
    assert check.largest_error > 0


@BACKENDS
@DTYPES
@KINDS
@pytest.mark.parametrize(
    ("sizes", "n_rows", "name"),
    alternating(
        [(1, 1, 1), (100, 130, 17), (63, 300), (129, 64, 3, 128, 10)],
        [0, 1, 2, 97, 200],
        ["predict_logits", "predict_proba"],
    ),
)
def test_predictions_equal_those_of_the_dense_array(backend, dtype, kind, sizes, n_rows, name, started):
    """The compiled backend gives the same bits on any number of threads, for rows together and for each row alone."""
    rng = np.random.default_rng(7)
    network = make_network(rng, sizes, kind, dtype, "relu")
    inp, predict = _inputs(rng, (n_rows, sizes[0]), kind), getattr(backend, name)
    if n_rows > 1:
        inp[0] = 0  # a row without inputs beside one that has some
    found = [predict(network, form(inp), threads) for threads in (1, 2, 3, 4) for form in FORMS]
    assert_parity(found[0], getattr(reference, name)(astype(network, "float64"), inp))
    if backend is compiled:
        # At most one thread per ROWS rows; without rows, no thread is started.
        max_threads = -(-n_rows // ROWS)
        assert started == ([min(threads, max_threads) for threads in (1, 1, 2, 2, 3, 3, 4, 4)] if n_rows else [])
        assert_same_bits(found, [predict(network, inp, 1)] * 8)
        for row in range(0, n_rows, 16):
            assert_same_bits(predict(network, FORMS[0](inp)[row : row + 1], 1), found[0][row : row + 1])


@BACKENDS
def test_nan_in_a_row_makes_that_row_nan_and_no_other(backend):
    network = make_network(np.random.default_rng(8), (70, 33, 10), "float32", "float32", "relu")
    inp = _inputs(np.random.default_rng(9), (9, 70), "float32")
    inp[4, 69] = inp[7, 3] = np.nan
    found = backend.predict_proba(network, scipy.sparse.csr_matrix(inp))
    np.testing.assert_array_equal(np.isnan(found).all(axis=1), np.isnan(inp).any(axis=1))
    np.testing.assert_array_equal(np.isnan(found).any(axis=1), np.isnan(inp).any(axis=1))
    result = backend.trainer(network, scipy.sparse.csr_matrix(inp), np.arange(9), SGD()).run_epoch(np.arange(9), 3, 0.1)
    assert result.failed_batch == 1


# --- Formats of a matrix ---------------------------------------------------------------------------------------------
def _untidy(dtype, index_dtype, form):
    """A matrix with columns out of order, a column listed twice, stored zeros, and unused entries at the end."""
    data = np.array([3, 0, 1, 2, 5, 0, 1, 4, 9, 9], dtype)
    indices = np.array([4, 1, 0, 4, 2, 3, 0, 1, 0, 0], index_dtype)
    matrix = form((data, indices, np.array([0, 4, 4, 8], index_dtype)), shape=(3, 5))
    matrix.indices = matrix.indices.astype(index_dtype)
    matrix.indptr = matrix.indptr.astype(index_dtype)
    return matrix


@BACKENDS
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("index_dtype", ["int32", "int64"])
@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "int64", "float32", "float64", "longdouble"])
def test_any_csr_matrix_is_accepted_and_not_changed(backend, dtype, index_dtype, form, dense_is_sparse):
    network = make_network(np.random.default_rng(10), (5, 4, 3), "float32", "float32", "tanh")
    matrix, labels = _untidy(dtype, index_dtype, form), np.array([0, 2, 1])
    dense = matrix.toarray()
    for array in (matrix.data, matrix.indices, matrix.indptr):
        array.flags.writeable = False
    attributes = dict(vars(matrix))
    for call in (
        lambda inp: [backend.predict_logits(network, inp)],
        lambda inp: backend.loss_and_gradients(network, inp, labels).dweights,
        lambda inp: _trained(backend, network, inp, labels, SGD(), 1000, 1),
    ):
        found, expected = call(matrix), call(dense)
        if backend is compiled:
            assert_same_bits(found, expected)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)
    assert vars(matrix) == attributes


def test_the_values_of_a_sorted_matrix_are_shared_and_its_structure_is_copied_once():
    """Kernels read and write where the structure says, and the caller may change the matrix at any time."""
    matrix = scipy.sparse.csr_matrix(np.eye(4, dtype=np.float32))
    inp = check_inputs(Network.initialize((4, 2)), matrix)
    csr = to_csr(inp, np.dtype(np.float32), np.uint32)
    for shared in (inp, csr):
        assert np.shares_memory(shared.data, matrix.data)
        for name in ("indices", "indptr"):
            assert not np.shares_memory(getattr(shared, name), getattr(matrix, name))
    assert np.shares_memory(csr.indices, inp.indices)


@pytest.mark.parametrize("small", [0.0, 1e-60])
def test_stored_zeros_and_numbers_that_round_to_zero_are_left_out(small, dense_is_sparse):
    """Four sums alternate within a sample, so an extra entry would change which products are added to each sum."""
    rng = np.random.default_rng(11)
    matrix, labels = scipy.sparse.csr_matrix(_inputs(rng, (300, 40), "float64", 0.5)), rng.integers(3, size=300)
    matrix.data[rng.random(matrix.nnz) < 0.3] = small
    network = make_network(rng, (40, 8, 3), "float32", "float32", "relu")
    found, expected = (_trained(compiled, network, inp, labels, Adam(), 300, 1) for inp in (matrix, matrix.toarray()))
    assert_same_bits(found, expected)


NETWORK = Network.initialize((5, 4, 3))
GOOD = scipy.sparse.csr_matrix(np.eye(5))


def _broken(**arrays):
    matrix = GOOD.copy()
    for name, array in arrays.items():
        setattr(matrix, name, np.array(array, np.int32))
    return matrix


BAD = {
    "COO": (GOOD.tocoo(), r"format 'coo', expected 'csr': try \.tocsr\(\)"),
    "CSC": (scipy.sparse.csc_array(GOOD), r"format 'csc', expected 'csr'"),
    "width": (GOOD[:, :3], r"shape \(5, 3\), expected \(samples, 5\)"),
    "one row": (scipy.sparse.csr_array(np.ones(5)), r"shape \(5,\), expected \(samples, 5\)"),
    "complex": (GOOD.astype(complex), "dtype complex128, expected numbers"),
    "column": (_broken(indices=[0, 1, 5, 3, 4]), "do not fit its shape"),
    "negative column": (_broken(indices=[0, 1, -1, 3, 4]), "do not fit its shape"),
    "backwards": (_broken(indptr=[0, 1, 3, 2, 4, 5]), "do not fit its shape"),
    "start": (_broken(indptr=[1, 1, 2, 3, 4, 5]), "do not fit its shape"),
    "end": (_broken(indptr=[0, 1, 2, 3, 4, 6]), "do not fit its shape"),
    "rows": (_broken(indptr=[0, 1, 2, 3, 5]), "do not fit its shape"),
    "lengths": (_broken(indices=[0, 1, 2]), "do not fit its shape"),
}


@BACKENDS
@pytest.mark.parametrize("case", BAD)
def test_a_bad_matrix_raises_a_one_line_error(backend, case):
    matrix, words = BAD[case]
    for call in (
        lambda: backend.predict_proba(NETWORK, matrix),
        lambda: backend.loss_and_gradients(NETWORK, matrix, np.zeros(5, np.int64)),
        lambda: backend.trainer(NETWORK, matrix, np.zeros(5, np.int64), SGD()),
    ):
        with pytest.raises(DataError, match=words) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_a_dense_layer_accepts_sparse_inputs_and_a_product_names_them():
    weight, bias, dsums = np.ones((5, 3)), np.ones(3), np.ones((5, 3))
    np.testing.assert_array_equal(compiled.dense_forward(GOOD, weight, bias), GOOD.toarray() @ weight + 1)
    _, dweight, _ = compiled.dense_backward(dsums, GOOD, weight, needs_dinp=False)
    np.testing.assert_array_equal(dweight, GOOD.toarray().T @ dsums)
    with pytest.raises(DataError, match="sparse matrix, expected an array"):
        compiled.matmul(GOOD, weight)


# --- Data sets -------------------------------------------------------------------------------------------------------
def _pair(n=600, kind="float32"):
    rng = np.random.default_rng(12)
    inp = _inputs(rng, (n, 60), kind)
    labels = (inp[:, :30].sum(axis=1) > inp[:, 30:].sum(axis=1)).astype(np.int64)
    return Dataset(inp, labels), Dataset(scipy.sparse.csr_matrix(inp), labels)


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_a_run_with_held_out_samples_gives_the_results_of_the_dense_array(backend, dense_is_sparse):
    (dense, sparse), network = _pair(), Network.initialize((60, 16, 2), seed=2)
    settings = {"epochs": 20, "batch_size": 32, "validation": 0.2, "optimizer": "adam", "learning_rate": 0.01}
    expected, found = (train(network, data, backend=backend, **settings) for data in (dense, sparse))
    assert found.history[-1].validation_accuracy > 0.9
    for name in ("loss", "accuracy", "validation_loss", "validation_accuracy"):
        one, other = found.history.column(name), expected.history.column(name)
        np.testing.assert_allclose(one, other, rtol=0 if backend == "numba" else 1e-3)
    assert evaluate(found.network, sparse, backend=backend) == pytest.approx(
        evaluate(found.network, dense, backend=backend), rel=1e-5
    )
    assert diagnose(found.history, network=found.network, data=sparse) == diagnose(
        found.history, network=found.network, data=dense
    )


def test_a_dataset_can_hold_a_sparse_matrix():
    dense, sparse = _pair()
    assert len(sparse) == 600
    assert "600 samples of 60 float32 inputs as sparse rows, 2 classes" in repr(sparse)
    for rows in (slice(3, 90), np.array([5, 2, 2]), dense.labels == 1):
        part, expected = sparse.take(rows, "part"), dense.take(rows)
        np.testing.assert_array_equal(part.images.toarray(), expected.images)
        np.testing.assert_array_equal(part.labels, expected.labels)
    for one, other in zip(hold_out(sparse, 0.3, seed=4), hold_out(dense, 0.3, seed=4), strict=True):
        np.testing.assert_array_equal(one.images.toarray(), other.images)
    before = sparse.images.copy()
    with pytest.raises(DataError, match="images are a sparse matrix, expected an array to reorder in place"):
        hold_out(sparse, 0.3, in_place=True)
    assert (sparse.images != before).nnz == 0
    with pytest.raises(DataError, match=r"600 images but labels of shape \(3,\)"):
        Dataset(sparse.images, sparse.labels[:3])


def test_equal_sparse_data_have_equal_digests():
    _, sparse = _pair(50)
    images = sparse.images
    unsorted = scipy.sparse.csr_array(images.toarray()[:, ::-1])[:, ::-1]  # out of order, with 64-bit indices
    unsorted.indices, unsorted.indptr = unsorted.indices.astype(np.int64), unsorted.indptr.astype(np.int64)
    assert not unsorted.has_sorted_indices
    assert Dataset(unsorted, sparse.labels).digest() == sparse.digest()
    moved, other = images.copy(), images.copy()
    moved.indices[0] += 1
    other.data[0] += 1
    digests = {Dataset(some, sparse.labels).digest() for some in (images, moved, other, images[:, :59], -images)}
    assert len(digests) == 5


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_are_rejected(bad):
    _, sparse = _pair(50)
    sparse.images.data[7] = bad
    with pytest.raises(DataError, match="contain NaN or infinity"):
        train(Network.initialize((60, 2)), sparse, epochs=1)


@pytest.mark.parametrize("hidden", [(8,), (70,)], ids=["rows", "panels"])
@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_no_dense_copy_of_the_data_is_made(backend, hidden):
    """A dense copy would take 400 MB; memory stays below a fifth of that, even with all samples in one batch."""
    rng, N, D = np.random.default_rng(13), 10_000, 10_000
    images = scipy.sparse.random_array((N, D), density=1e-3, format="csr", dtype=np.float32, rng=rng)
    data, network = Dataset(images, rng.integers(3, size=N)), Network.initialize((D, *hidden, 3))
    train(network, data.take(slice(300)), epochs=1, batch_size=None, backend=backend)  # compiles
    tracemalloc.start()
    try:
        result = train(network, data, epochs=1, batch_size=None, validation=0.5, backend=backend)
        evaluate(result.network, data, backend=backend)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 80e6, f"{peak / 1e6:.0f} MB"
