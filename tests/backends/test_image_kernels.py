"""The fused kernels of image networks: which networks they cover, and bits that depend on neither threads nor rows."""

import numpy as np
import pytest

from fastnn import AvgPool2D, BatchNorm, Conv2D, Dense, MaxPool2D, Network
from fastnn.backends import compiled, reference
from fastnn.backends.compiled.fused import Execution
from fastnn.backends.compiled.image_plan import split_images
from fastnn.kernels.images import block_sizes
from fastnn.optim.optimizers import SGD, Adam, AdamW
from tests.parity import alternating, assert_parity, assert_same_bits, make_inputs, trained_arrays

DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])
# Rows of 40 columns are wider than a vector, so those of one image have several, the last of which overlaps the first.
SHAPE = (2, 11, 40)
COVERED = {
    "pools in tiles": [Conv2D(5, 3), MaxPool2D(), Conv2D(6, (3, 2)), MaxPool2D(), Dense(70), Dense(3)],
    "activations in pools": [
        Conv2D(3, 3, padding="same", activation="identity"), MaxPool2D(activation="tanh"), Conv2D(9, 2, padding=1),
        Dense(3),
    ],
    "pools of their own": [
        Conv2D(4, (3, 2), (2, 1), (1, 1), "tanh"), MaxPool2D((3, 2), (2, 1), 1), Conv2D(7, 2, 1, 1, "logistic"),
        AvgPool2D(2, 1, (1, 0), "elu"), Conv2D(2, 2, activation="leaky_relu"), MaxPool2D(2, 1), Dense(4), Dense(3),
    ],
    "wide means": [Conv2D(3, 2), AvgPool2D((2, 20), 3), Conv2D(4, 1), Dense(3)],
    "strides": [AvgPool2D(2, 1), Conv2D(3, 2, 2, 1), Conv2D(4, (2, 3), (1, 4)), Dense(3)],
    "several blocks of channels": [Conv2D(21, 2), Conv2D(18, (3, 5)), MaxPool2D(), Dense(130), Dense(3)],
}  # fmt: skip
OTHERS = {
    "batch norm": [Conv2D(3, 3, activation="identity"), BatchNorm("relu"), Dense(3)],
    "two activations around a pool, one without a kernel": [Conv2D(3, 3), MaxPool2D(activation="gelu"), Dense(3)],
    "no dense layer": [Conv2D(3, 3), AvgPool2D((9, 38))],
    "no convolution": [MaxPool2D(), Dense(3)],
    "windows of more than 256 numbers": [Conv2D(3, 1), MaxPool2D((8, 40)), Dense(3)],
}
CHAIN = pytest.mark.parametrize("layers", COVERED.values(), ids=COVERED)
OPTIMIZERS = {"sgd": SGD(), "nesterov": SGD(0.8, nesterov=True), "adam": Adam(), "adamw": AdamW(weight_decay=0.3)}


def _network(layers, dtype="float32", **settings):
    return Network.initialize(SHAPE, layers, dtype=dtype, seed=1, **settings)


@CHAIN
def test_convolutions_and_pools_before_dense_layers_are_fused(layers):
    assert compiled.fused_trainer(_network(layers)) is compiled.ImageTrainer


@pytest.mark.parametrize("layers", OTHERS.values(), ids=OTHERS)
def test_other_networks_are_trained_layer_by_layer(layers):
    assert compiled.fused_trainer(_network(layers)) is None


def test_a_pool_of_four_is_part_of_a_tile_unless_both_layers_have_an_activation():
    for first, second, is_pooled in (("relu", None, True), ("identity", "elu", True), ("relu", "tanh", False)):
        layers = [Conv2D(3, 3, activation=first), MaxPool2D(activation=second), Dense(3)]
        stages, n_layers = split_images(_network(layers))
        assert (len(stages), n_layers) == (2 - is_pooled, 2)


@pytest.mark.parametrize("n_channels", range(1, 40))
def test_blocks_hold_all_channels_and_rarely_a_single_one(n_channels):
    sizes = block_sizes(n_channels, 4)
    assert sum(sizes) == n_channels
    assert max(sizes) <= 4
    assert min(sizes) > 1 or n_channels == 1


@pytest.mark.parametrize(
    ("layers", "optimizer", "dtype", "given"),
    alternating([*COVERED], [*OPTIMIZERS], ["float32", "float64"], ["plain", "regularized"]),
)
def test_any_number_of_threads_gives_the_same_bits(layers, optimizer, dtype, given, started):
    """A batch of 110 samples has four chunks or more; the last group of samples is incomplete."""
    rng = np.random.default_rng(1)
    inp, labels = make_inputs(rng, (150, 880), dtype), rng.integers(3, size=150)
    options = {"l2": 0.01, "dropout": 0.2, "label_smoothing": 0.1, "sample_weight": rng.random(150)}
    options = options if given == "regularized" else {}
    network, order, runs = _network(COVERED[layers], dtype), rng.permutation(150), []
    for threads in (1, 2, 3, 4):
        started.clear()
        trainer = compiled.trainer(network, inp, labels, OPTIMIZERS[optimizer], threads=threads, seed=3, **options)
        results = [trainer.run_epoch(order, size, 0.02) for size in (110, 150)]
        assert trainer.describe() == Execution("by images", "images", threads)
        assert started == [threads] * len(results)
        runs.append([np.array([(result.loss, result.accuracy) for result in results]), *trained_arrays(trainer)])
    assert np.isfinite(runs[0][0]).all()
    assert not np.array_equal(runs[0][1], network.weights[0])
    for threads, run in enumerate(runs[1:], 2):
        assert_same_bits(run, runs[0], f"{threads} threads, array")


@DTYPES
@CHAIN
def test_a_row_has_the_same_bits_alone_and_among_others(layers, dtype, started):
    """A few rows have columns in the lanes of vectors, more rows have samples there. 100 rows take several threads."""
    network = _network(layers, dtype, input_scale=0.5)
    inp = make_inputs(np.random.default_rng(2), (400, 880), dtype)
    expected = compiled.predict_logits(network, inp, threads=1)
    assert_parity(expected, reference.predict_logits(network, inp.astype("float64")))
    for start, stop in ((0, 1), (7, 8), (7, 11), (7, 12), (30, 47), (399, 400)):
        assert_same_bits([compiled.predict_logits(network, inp[start:stop])], [expected[start:stop]])
    for threads in (2, 3, 4):
        started.clear()
        assert_same_bits([compiled.predict_logits(network, inp, threads)], [expected])
        assert threads in started


@CHAIN
def test_changed_arrays_change_predictions(layers):
    network, inp = _network(layers), make_inputs(np.random.default_rng(3), (20, 880), "float32")
    before = compiled.predict_logits(network, inp)
    network.weights[0][...] *= 2  # in place
    network.biases[0][...] += 1
    doubled = compiled.predict_logits(network, inp)
    assert not np.array_equal(before, doubled)
    assert_parity(doubled, reference.predict_logits(network, inp))
    network.weights = tuple(weight / 2 for weight in network.weights)
    halved = compiled.predict_logits(network, inp[:1])
    assert_parity(halved, reference.predict_logits(network, inp[:1]))
