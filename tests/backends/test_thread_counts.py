"""Training gives the same bits for any number of threads, in each kernel and for each form of the inputs."""

from typing import NamedTuple

import numpy as np
import pytest
import scipy.sparse

from fastnn.backends import compiled
from fastnn.backends.compiled import inputs
from fastnn.backends.compiled.fused import Execution
from fastnn.kernels import team
from fastnn.network import BatchNorm, Dense, Network
from fastnn.optim.optimizers import SGD, Adam, AdamW
from tests.parity import alternating, assert_same_bits, make_inputs, make_network, make_similar_inputs, trained_arrays


class Way(NamedTuple):
    """One way through the trainer: the expected kernel and form of the inputs, and the data that lead to them.

    activations: those of the hidden layers, or one for all
    nonzero: whether all inputs are nonzero
    sparse: whether the inputs are a SciPy matrix
    """

    kernel: str
    inputs: str
    sizes: tuple[int, ...]
    n_samples: int
    batch_sizes: tuple[int, ...]
    activations: str | tuple[str, ...] = "relu"
    nonzero: bool = False
    sparse: bool = False


# 170 units are four panels of float32 and six of float64. By units, a batch of 300 has two blocks, and the gradient of
# the first block is kept until the second. By rows, a batch of 140 has four chunks, and a batch of 530 has sixteen.
WAYS = {
    "by units, packed": Way("by units", "packed", (30, 170, 5), 300, (64, 300)),
    "by units, packed from a matrix": Way("by units", "packed", (30, 170, 5), 300, (64, 300), sparse=True),
    "by units, lists of a matrix": Way("by units", "lists", (30, 170, 5), 300, (64, 300), sparse=True),
    "by units, dense": Way("by units", "dense", (30, 170, 5), 300, (64, 300), nonzero=True),
    "by units, three hidden layers": Way(
        "by units", "packed", (30, 170, 20, 200, 5), 300, (64, 300), ("elu", "leaky_relu", "relu")
    ),
    "by units, no hidden layer": Way("by units", "packed", (30, 170), 300, (64, 300)),
    "by rows, lists": Way("by rows", "lists", (30, 12, 5), 530, (140, 530)),
    "by rows, lists of a matrix": Way("by rows", "lists", (30, 12, 5), 530, (140, 530), sparse=True),
    "by rows, dense": Way("by rows", "dense", (30, 12, 5), 530, (140, 530), nonzero=True),
    "by rows, two hidden layers": Way(
        "by rows", "dense", (30, 12, 9, 5), 530, (140, 530), ("elu", "tanh"), nonzero=True
    ),
    "by rows, leaky ReLU": Way("by rows", "lists", (30, 12, 5), 530, (140, 530), "leaky_relu"),
    "by rows, row blocks": Way("by rows", "row blocks", (30, 9, 5), 4130, (4130,)),
    "by rows, row blocks from a matrix": Way("by rows", "row blocks", (30, 9, 5), 4130, (4130,), sparse=True),
    "by rows, row blocks, no hidden layer": Way("by rows", "row blocks", (30, 5), 4130, (4130,)),
}
OPTIMIZERS = {
    "sgd": SGD(),
    "momentum": SGD(0.9),
    "nesterov": SGD(0.8, nesterov=True),
    "adam": Adam(),
    "adamw": AdamW(weight_decay=0.3),
}


def _inputs(rng, way, kind):
    if way.inputs == "row blocks":
        inp = make_similar_inputs(rng, way.n_samples, way.sizes[0], kind)
    else:
        inp = make_inputs(rng, (way.n_samples, way.sizes[0]), kind)
        is_packed_matrix = way.sparse and way.inputs == "packed"  # a fifth is nonzero; lists need at most a tenth
        inp *= way.nonzero or is_packed_matrix or rng.random(inp.shape) < 0.3
    return scipy.sparse.csr_array(inp) if way.sparse else inp


@pytest.mark.parametrize(
    ("way", "optimizer", "dtype", "given"),
    alternating([*WAYS], [*OPTIMIZERS], ["float32", "float64"], ["plain", "regularized"]),
)
def test_any_number_of_threads_gives_the_same_bits(way, optimizer, dtype, given, started, monkeypatch):
    """Regularized: with L2, dropout, label smoothing and sample weights."""
    way, optimizer = WAYS[way], OPTIMIZERS[optimizer]
    # Use row blocks for all similar samples, even in float64, for which lists are faster on some CPUs.
    monkeypatch.setattr(inputs, "_multiplications_per_entry", lambda real, n_units: 2.0)
    rng, kind = np.random.default_rng(1), dtype if way.nonzero else "uint8"
    inp, labels = _inputs(rng, way, kind), rng.integers(way.sizes[-1], size=way.n_samples)
    network, order = make_network(rng, way.sizes, kind, dtype, way.activations), rng.permutation(way.n_samples)
    options = {"l2": 0.01, "dropout": 0.2, "label_smoothing": 0.1, "sample_weight": rng.random(way.n_samples)}
    options = options if given == "regularized" else {}
    runs = []
    for threads in (1, 2, 3, 4):
        started.clear()
        trainer = compiled.trainer(network, inp, labels, optimizer, threads=threads, seed=3, **options)
        results = [trainer.run_epoch(order, size, 0.02) for size in way.batch_sizes for _ in range(2)]
        assert trainer.describe() == Execution(way.kernel, way.inputs, threads)
        assert started == [threads] * len(results)
        runs.append([np.array([(result.loss, result.accuracy) for result in results]), *trained_arrays(trainer)])
    assert np.isfinite(runs[0][0]).all()
    assert not np.array_equal(runs[0][1], network.weights[0])
    for threads, run in enumerate(runs[1:], 2):
        assert_same_bits(run, runs[0], f"{threads} threads, array")


LAYER_BY_LAYER = {
    "batch norm": [Dense(70, "identity"), BatchNorm("relu"), Dense(17), Dense(5)],
    "gelu and silu": [Dense(70, "gelu"), Dense(17, "silu"), Dense(5)],
}


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layers", LAYER_BY_LAYER.values(), ids=LAYER_BY_LAYER)
def test_layer_by_layer_any_number_of_threads_gives_the_same_bits(layers, dtype, optimizer, started):
    """Each of the three dense layers is one team forward and one backward, in each of two batches."""
    rng = np.random.default_rng(2)
    inp, labels = make_inputs(rng, (150, 33), dtype), rng.integers(5, size=150)
    network = Network.initialize((33,), layers, dtype=dtype, seed=1)
    options = {"l2": 0.01, "dropout": 0.2, "label_smoothing": 0.1, "sample_weight": rng.random(150)}
    assert compiled.fused_trainer(network) is None
    runs = []
    for threads in (1, 2, 3, 4):
        started.clear()
        trainer = compiled.trainer(network, inp, labels, optimizer, threads=threads, seed=3, **options)
        losses = [trainer.run_epoch(np.arange(150), 80, 0.02).loss for _ in range(2)]
        assert started == [threads] * 3 * 2 * 2 * 2
        runs.append([np.array(losses), *trained_arrays(trainer), *trainer.network().statistics])
    assert np.isfinite(runs[0][0]).all()
    for threads, run in enumerate(runs[1:], 2):
        assert_same_bits(run, runs[0], f"{threads} threads, array")


def test_layer_by_layer_small_products_start_no_thread(monkeypatch):
    started, run_team = [], team.run_team
    monkeypatch.setattr(team, "run_team", lambda *args, **kwargs: (started.append(args[1]), run_team(*args, **kwargs)))
    network = Network.initialize((784,), [Dense(128, "gelu"), Dense(10)])
    inp = make_inputs(np.random.default_rng(3), (64, 784), "uint8")
    compiled.trainer(network, inp, np.zeros(64, int), threads=2).run_epoch(np.arange(64), 64, 0.1)
    assert started == [1] * 4
    compiled.predict_proba(network, np.tile(inp, (20, 1)), 2)
    assert started[4:] == [2, 1]
