"""Row blocks: in full batches of narrow networks, samples go through the first layer sixteen at a time."""

import numpy as np
import pytest
import scipy.sparse

from fastnn.backends import compiled, reference
from fastnn.backends.arguments import check_run
from fastnn.backends.compiled import inputs
from fastnn.backends.compiled.inputs import NonzeroInputs
from fastnn.kernels.inputs.row_blocks import ROW_BLOCK
from fastnn.kernels.vector.simd import WHOLE_REGISTERS
from fastnn.network import Network
from fastnn.optim.optimizers import SGD, Adam
from tests.parity import (
    alternating,
    assert_all_parity,
    assert_same_bits,
    astype,
    make_network,
    make_similar_inputs,
    trained_arrays,
)

# Adam divides by the gradient's size, so its epsilon must be large compared with the rounding of a gradient near 0.
OPTIMIZERS = {"sgd": SGD(), "momentum": SGD(0.9), "nesterov": SGD(0.8, nesterov=True), "adam": Adam(epsilon=0.01)}
HIDDEN = {"no hidden layer": (), "ten": (10,), "three": (3,), "two layers": (9, 12)}


def _trainer(network, inp, labels, optimizer, threads, **options):
    return compiled.trainer(network, inp, labels, optimizer, threads=threads, **options)


@pytest.fixture
def row_blocks_if_similar(monkeypatch):
    """Use row blocks for all similar samples, even with dtypes and layer sizes for which lists are faster."""
    monkeypatch.setattr(inputs, "_multiplications_per_entry", lambda real, n_units: 2.0)


@pytest.mark.parametrize(
    ("hidden", "optimizer", "given"), alternating([*HIDDEN], [*OPTIMIZERS], ["plain", "regularized"])
)
@pytest.mark.parametrize(("kind", "dtype"), [("uint8", "float32"), ("float32", "float32"), ("float64", "float64")])
def test_a_full_batch_agrees_with_the_reference(row_blocks_if_similar, started, kind, dtype, hidden, optimizer, given):
    """The last row block and the last block are not full. Regularized: with L2, dropout and sample weights."""
    rng, hidden, optimizer = np.random.default_rng(1), HIDDEN[hidden], OPTIMIZERS[optimizer]
    inp, labels = make_similar_inputs(rng, 4501, 37, kind), rng.integers(7, size=4501)
    network = make_network(rng, (37, *hidden, 7), kind, dtype, "tanh")
    regularization = {"l2": 0.01, "dropout": 0.2, "sample_weight": rng.random(4501), "seed": 5}
    options = regularization if given == "regularized" else {}
    found = _trainer(network, inp, labels, optimizer, 2, **options)
    expected = reference.trainer(astype(network, "float64"), inp, labels, optimizer, **options)
    order, losses = rng.permutation(4501), []
    for epoch in range(3):
        losses.append([trainer.run_epoch(order, 4501, 0.05).loss for trainer in (found, expected)])
        if epoch == 0:
            networks = found.network(), expected.network()
            assert_all_parity(*(network.weights for network in networks), "weight")
            assert_all_parity(*(network.biases for network in networks), "bias")
    assert found.describe() == ("by rows", "row blocks", 2)
    assert started == [2, 2, 2]
    np.testing.assert_allclose(*zip(*losses, strict=True), rtol=1e-5 if dtype == "float32" else 1e-11)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bits_do_not_depend_on_threads_or_order_or_sparse_data(row_blocks_if_similar, dtype, started):
    rng, kind = np.random.default_rng(2), "uint8" if dtype == "float32" else "float64"
    inp, labels = make_similar_inputs(rng, 5000, 50, kind), rng.integers(10, size=5000)
    network = make_network(rng, (50, 10, 10), kind, dtype, "relu")
    states = []
    for threads, data in ((1, inp), (2, inp), (3, inp), (4, inp), (2, scipy.sparse.csr_array(inp))):
        started.clear()
        trainer = _trainer(network, data, labels, Adam(), threads, dropout=0.1, seed=3)
        for _ in range(3):
            trainer.run_epoch(rng.permutation(5000), 5000, 0.01)
        assert trainer.describe() == ("by rows", "row blocks", threads)
        assert started == [threads] * 3
        states.append(trained_arrays(trainer))
    for state in states[1:]:
        assert_same_bits(state, states[0])


def test_gradients_of_all_the_data_agree_with_the_reference(row_blocks_if_similar, monkeypatch):
    """An objective, which is evaluated many times, uses row blocks; a single evaluation does not sort the samples."""
    rng = np.random.default_rng(3)
    inp, labels = make_similar_inputs(rng, 4100, 30, "uint8"), rng.integers(3, size=4100)
    network = make_network(rng, (30, 5, 3), "uint8", "float64", "logistic")
    expected = reference.loss_and_gradients(network, inp, labels, l2=0.1)
    objective = compiled.objective(network, *check_run(network, inp, labels, None, {"l2": 0.1}))
    gradient = np.empty(len(objective.start))
    loss, as_parameters = objective.evaluate(objective.start, gradient), objective.snapshot(gradient).network
    monkeypatch.setattr(NonzeroInputs, "row_blocks", lambda *_: pytest.fail("samples were sorted for a single pass"))
    single = compiled.loss_and_gradients(network, inp, labels, l2=0.1)
    by_row_blocks = single._replace(loss=loss, dweights=as_parameters.weights, dbiases=as_parameters.biases)
    for found in (by_row_blocks, single):
        assert found.loss == pytest.approx(expected.loss, rel=1e-12)
        assert_all_parity(found.dweights, expected.dweights)
        assert_all_parity(found.dbiases, expected.dbiases)


def test_row_blocks_are_used_only_for_full_batches_without_repeated_samples():
    """Epochs with and without row blocks alternate, and each agrees with the reference."""
    rng = np.random.default_rng(4)
    inp, labels = make_similar_inputs(rng, 4200, 30, "uint8"), rng.integers(4, size=4200)
    network = make_network(rng, (30, 6, 4), "uint8", "float32", "relu")
    found = _trainer(network, inp, labels, SGD(), 2)
    expected = reference.trainer(astype(network, "float64"), inp, labels, SGD())
    everything = np.arange(4200)
    twice = np.concatenate([everything[:-1], [0]])
    for order, batch_size, expected_inputs in (
        (everything, 4200, "row blocks"), (twice, 4200, "lists"), (everything, 4200, "row blocks"),
        (everything, 500, "lists"), (everything[:4199], 4199, "lists"), (everything[::-1], 9999, "row blocks"),
    ):  # fmt: skip
        losses = [trainer.run_epoch(order, batch_size, 0.05).loss for trainer in (found, expected)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)
        assert found.describe().inputs == expected_inputs
        assert_all_parity(found.network().weights, expected.network().weights)


@pytest.mark.parametrize(
    ("n", "hidden", "density"), [(4095, 10, 0.0), (4200, 11, 0.0), (4200, 10, 0.15)], ids=["few", "wide", "unlike"]
)
def test_lists_are_used_where_row_blocks_would_be_slower(n, hidden, density):
    """Lists are faster with too few samples for a block per chunk, more sums than registers, or unlike samples."""
    rng = np.random.default_rng(5)
    similar, unlike = make_similar_inputs(rng, n, 40, "uint8"), (rng.random((n, 40)) < density).astype(np.uint8)
    trainer = _trainer(Network.initialize((40, hidden, 3)), unlike if density else similar, np.zeros(n, int), SGD(), 1)
    trainer.run_epoch(np.arange(n), n, 0.1)
    assert trainer.describe().inputs == "lists"


def test_float64_uses_row_blocks_where_they_are_faster():
    """In row blocks a sum takes two registers of AVX-512. In lists one vector holds up to eight units."""
    inp = make_similar_inputs(np.random.default_rng(9), 4200, 40, "float64")
    for n_units in (8, 9, 10):
        trainer = _trainer(Network.initialize((40, n_units, 3), dtype="float64"), inp, np.zeros(4200, int), SGD(), 1)
        trainer.run_epoch(np.arange(4200), 4200, 0.1)
        faster = "row blocks" if n_units > 8 and WHOLE_REGISTERS else "lists"
        assert trainer.describe().inputs == faster


def test_samples_with_rare_inputs_are_not_sorted(monkeypatch):
    """For example, if inputs are words of texts: sixteen texts share few words, and there may be a million words."""
    monkeypatch.setattr(inputs, "_similar_order", lambda *_: pytest.fail("samples were sorted"))
    inp = scipy.sparse.random_array((4200, 2000), density=0.01, format="csr", dtype=np.float32, rng=10)
    trainer = _trainer(Network.initialize((2000, 3)), inp, np.zeros(4200, int), SGD(), 1)
    trainer.run_epoch(np.arange(4200), 4200, 0.1)
    assert trainer.describe().inputs == "lists"


def test_a_nan_in_a_row_block_fails_the_batch():
    rng = np.random.default_rng(6)
    inp, labels = make_similar_inputs(rng, 4100, 20, "float32"), rng.integers(3, size=4100)
    inp[4000, 7] = np.nan
    trainer = _trainer(Network.initialize((20, 4, 3)), inp, labels, SGD(), 2)
    assert trainer.run_epoch(np.arange(4100), 4100, 0.1).failed_batch == 0
    assert trainer.describe().inputs == "row blocks"


@pytest.mark.parametrize("kind", ["uint8", "float32"])
@pytest.mark.parametrize("n", [4096, 4097, 4400])
def test_row_blocks_hold_the_data(n, kind):
    rng = np.random.default_rng(n)
    inp = make_similar_inputs(rng, n, 33, kind)
    for matrix in (None, scipy.sparse.csr_array(inp)):
        images = inp if matrix is None else np.empty((0, 33), kind)
        images.flags.writeable = False
        order, bsr = NonzeroInputs(images, matrix, np.dtype("float32")).row_blocks(10)
        np.testing.assert_array_equal(np.sort(order), np.arange(n))
        assert len(bsr.indptr) == -(-n // ROW_BLOCK) + 1
        for k in range(len(bsr.indptr) - 1):
            rows, entries = order[k * ROW_BLOCK : (k + 1) * ROW_BLOCK], slice(bsr.indptr[k], bsr.indptr[k + 1])
            held = np.zeros((33, ROW_BLOCK))
            held[bsr.indices[entries]] = bsr.data.reshape(-1, ROW_BLOCK)[entries]
            np.testing.assert_array_equal(held[:, : len(rows)].T, inp[rows])
            assert not held[:, len(rows) :].any()
            used = np.flatnonzero(inp[rows].any(axis=0))
            np.testing.assert_array_equal(bsr.indices[entries], used)
            nonzero_masks = bsr.nonzero_masks[k // 16 * 33 : (k // 16 + 1) * 33]
            np.testing.assert_array_equal(np.flatnonzero(nonzero_masks >> np.uint16(k % 16) & 1), used)


def test_sorting_makes_neighbours_similar():
    """There are samples of five kinds. Once sorted, sixteen neighbours share most of their nonzero inputs."""
    rng = np.random.default_rng(7)
    inp = make_similar_inputs(rng, 4800, 60, "uint8")
    row_blocks = NonzeroInputs(inp, None, np.dtype("float32")).row_blocks(10)
    in_given_order = (inp.reshape(-1, 16, 60) != 0).any(axis=1).sum()
    assert len(row_blocks.bsr.indices) < 0.6 * in_given_order


def test_data_with_more_inputs_than_are_compared(monkeypatch):
    """Row blocks hold each sample once and are faster, even if only 5 of the 60 inputs are compared."""
    rng = np.random.default_rng(8)
    inp = make_similar_inputs(rng, 4200, 60, "uint8")
    monkeypatch.setattr(inputs, "_N_COMPARED", 5)
    row_blocks = NonzeroInputs(inp, None, np.dtype("float32")).row_blocks(10)
    np.testing.assert_array_equal(np.sort(row_blocks.order), np.arange(4200))
    assert row_blocks.is_faster


@pytest.mark.parametrize("n_inputs", [1, 3, 40])
def test_equal_samples_become_neighbours(n_inputs):
    """Once a few inputs explain all others, nothing is divided by the rounding errors that remain."""
    rng = np.random.default_rng(n_inputs)
    shapes = np.vstack([np.ones(n_inputs, bool), rng.random((2, n_inputs)) < 0.3])
    inp = shapes[rng.integers(3, size=5000)].astype(np.uint8)
    with np.errstate(all="raise"):
        row_blocks = NonzeroInputs(inp, None, np.dtype("float32")).row_blocks(10)
    same = (inp[row_blocks.order][1:] == inp[row_blocks.order][:-1]).all(axis=1)
    assert row_blocks.is_faster
    assert np.count_nonzero(~same) < 3
