"""Frozen layers stay as they are, and the others train as they would behind layers without gradients."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse

import fastnn
from fastnn import (
    AvgPool2D,
    BatchNorm,
    Conv2D,
    DataError,
    Dataset,
    Dense,
    DivergenceError,
    MaxPool2D,
    Network,
    SettingsError,
    Standardization,
    TrainingConfig,
    TrainingInterrupted,
    find_learning_rate,
    train,
)
from fastnn.backends import get_backend, reference
from fastnn.backends.arguments import TrainingData
from fastnn.backends.choice import fit_work
from fastnn.errors import OutOfMemoryError
from fastnn.models.hidden import features_of
from fastnn.network.parts import split_frozen
from fastnn.training.augmented import AugmentedImages
from fastnn.training.frozen import FrozenLayers
from tests.parity import assert_same_bits

N, BATCH = 52, 16
# A frozen BatchNorm uses its running averages, which a step with gradients of zero would not: so it is in tails only.
NETWORKS = {
    "dense": [Dense(9, "tanh"), Dense(7, "gelu"), Dense(4)],
    "images": [
        Conv2D(3, 3, activation="tanh"),
        MaxPool2D(),
        Conv2D(4, 2),
        AvgPool2D(1),
        Dense(6),
        BatchNorm(),
        Dense(4),
    ],
}
CASES = [("dense", 1), ("dense", 2), ("images", 1), ("images", 2), ("images", 3)]


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (N, 48)).astype(np.uint8)
    return Dataset(images, images[:, :5].sum(axis=1) % 4, image_shape=(6, 8))


def make_network(name, dtype="float64", scale=1 / 255):
    shape = (48,) if name == "dense" else (1, 6, 8)
    return Network.initialize(shape, NETWORKS[name], dtype=dtype, input_scale=scale, seed=3)


def with_batch_norm(dtype="float32"):
    """A network whose frozen layers would have something to move: weights, a bias, and running averages."""
    layers = [
        Conv2D(3, 3, activation="identity"),
        BatchNorm("relu"),
        MaxPool2D(),
        Dense(8),
        BatchNorm("tanh"),
        Dense(4),
    ]
    network = Network.initialize((1, 6, 8), layers, dtype=dtype, input_scale=1 / 255)
    statistics = [array + 0.1 for array in network.statistics]
    return network.like(network.weights, [bias + 0.1 for bias in network.biases], statistics)


def arrays_of(network):
    return [*network.weights, *network.biases, *network.statistics]


def as_features(network, n_frozen, data, engine):
    """Return the data with the features of the frozen layers as images."""
    front, _ = split_frozen(network, n_frozen)
    return replace(data, images=features_of(front, data.images, engine), image_shape=None)


def train_without_gradients(network, inputs_of_epoch, labels, n_frozen, epochs, rate, l2, weight=None):
    """Return the network and the mean loss of each epoch of plain SGD whose first gradients are set to zero."""
    for epoch in range(epochs):
        losses = []
        for start in range(0, len(labels), BATCH):
            rows = slice(start, start + BATCH)
            result = reference.loss_and_gradients(
                network, inputs_of_epoch(epoch)[rows], labels[rows], l2=l2,
                sample_weight=None if weight is None else weight[rows],
            )  # fmt: skip
            steps = [0] * n_frozen + [rate] * (len(network.weights) - n_frozen)
            weights, biases = (
                [array - step * gradient for array, gradient, step in zip(arrays, gradients, steps, strict=True)]
                for arrays, gradients in ((network.weights, result.dweights), (network.biases, result.dbiases))
            )
            statistics = [0.9 * old + 0.1 * new for old, new in zip(network.statistics, result.statistics, strict=True)]
            network = network.like(weights, biases, statistics)
            losses += [result.loss] * len(labels[rows])
        yield network, float(np.mean(losses))


@pytest.mark.parametrize("augmentation", [None, "shift=1,noise=0.1"])
@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize(("name", "n_frozen"), CASES)
def test_the_steps_are_those_of_training_with_gradients_of_zero(name, n_frozen, backend, augmentation, data):
    """In float64, after each epoch. The loss lacks the penalty of the frozen weights, which is constant."""
    network, l2, found = make_network(name), 0.02, []
    settings = {"epochs": 3, "batch_size": BATCH, "learning_rate": 0.3, "shuffle": False, "l2": l2, "seed": 5}
    history = train(
        network, data, frozen=n_frozen, augment=augmentation, backend=backend,
        callbacks=[lambda end: found.append(end.network)], **settings,
    ).history  # fmt: skip

    def inputs_of_epoch(epoch):
        if augmentation is None:
            return data.images
        training = TrainingData(data.images, data.labels, None)
        config = TrainingConfig(augment=augmentation, seed=5)
        return AugmentedImages(training, config, (6, 8), get_backend(backend)).of_rows(epoch, np.arange(N))

    penalty = split_frozen(network, n_frozen)[0].network.l2_penalty(l2)
    expected = train_without_gradients(network, inputs_of_epoch, data.labels, n_frozen, 3, 0.3, l2)
    for record, one, (other, loss) in zip(history, found, expected, strict=True):
        for array, wanted in zip(arrays_of(one), arrays_of(other), strict=True):
            np.testing.assert_allclose(array, wanted, rtol=1e-9, atol=1e-12)
        assert record.loss == pytest.approx(loss - penalty, rel=1e-11)
    assert penalty > 0.01


SETTINGS = {
    "sgd": {},
    "momentum and weights": {"optimizer": "momentum", "sample_weight": np.linspace(0, 2, N)},
    "adam": {"optimizer": "adam", "l2": 0.01, "divide_l2": True, "validation": 0.25},
    "adamw": {"optimizer": fastnn.AdamW(weight_decay=0.5), "learning_rate": 0.01, "schedule": "cosine", "warm_up": 1},
    "early stopping": {"early_stopping": 2, "validation": 0.25, "label_smoothing": 0.1},
    "clipping": {"clip_norm": 0.01, "l2": 0.1},
    "lbfgs": {"optimizer": "lbfgs", "batch_size": None, "l2": 0.01, "validation": 0.25},
    "auto": {"learning_rate": "auto", "optimizer": "adam"},
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("name", SETTINGS)
def test_the_rest_trains_as_a_network_of_its_own_and_the_frozen_layers_keep_their_bits(name, backend, dtype, data):
    network, settings = with_batch_norm(dtype), {"epochs": 4, "batch_size": BATCH, "backend": backend, **SETTINGS[name]}
    before = [array.copy() for array in arrays_of(network)]
    whole = train(network, data, frozen=2, **settings)
    front, tail = split_frozen(network, 2)
    alone = train(tail, as_features(network, 2, data, get_backend(backend)), **settings)

    found_front, found_tail = split_frozen(whole.network, 2)
    assert_same_bits(arrays_of(found_front.network), arrays_of(front.network))
    assert_same_bits(arrays_of(found_tail), arrays_of(alone.network))
    assert not any(np.array_equal(one, other) for one, other in zip(found_tail.weights, tail.weights, strict=True))
    assert_same_bits(arrays_of(network), before)
    assert not any(np.shares_memory(a, b) for a, b in zip(arrays_of(network), arrays_of(whole.network), strict=True))
    assert (whole.stopped, whole.best_epoch) == (alone.stopped, alone.best_epoch)
    for metric in ("learning_rate", "loss", "accuracy", "validation_loss", "validation_accuracy"):
        np.testing.assert_array_equal(whole.history.column(metric), alone.history.column(metric))


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_inputs_of_all_forms_and_standardised_ones(backend, data):
    images = np.where(data.images > 180, data.images, 0)
    network = make_network("dense", scale=Standardization([0.0] * 48, np.linspace(0.001, 0.01, 48)))
    settings = {"epochs": 3, "batch_size": BATCH, "backend": backend, "validation": 0.2}
    features = as_features(network, 1, replace(data, images=images), get_backend(backend))
    expected = train(split_frozen(network, 1)[1], features, **settings).history
    floats = images.astype(float)
    for inputs in (images, floats, np.asfortranarray(floats), scipy.sparse.csr_array(images)):
        found = train(network, Dataset(inputs, data.labels), frozen=1, **settings).history
        for metric in ("loss", "validation_loss"):
            np.testing.assert_allclose(found.column(metric), expected.column(metric), rtol=1e-10)


# --- Dropout ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dropout", [0.4, (0.2, 0.4), (0.1, 0.4, 0.3)])
def test_the_rest_trains_as_a_network_whose_inputs_are_dropped(dropout, data):
    """The features have the rate that they have in the whole network; nothing drops the inputs of frozen layers."""
    network = make_network("dense")
    front, tail = split_frozen(network, 1)
    features = Dataset(features_of(front, data.images, reference, None), data.labels)
    of_tail = {0.4: (0.4, 0.4), (0.2, 0.4): (0.4, 0.4), (0.1, 0.4, 0.3): (0.4, 0.3)}[dropout]
    settings = {"epochs": 2, "batch_size": BATCH, "seed": 7, "backend": "numpy"}
    whole = train(network, data, frozen=1, dropout=dropout, **settings)
    alone = train(tail, features, dropout=of_tail, **settings)
    np.testing.assert_array_equal(whole.history.column("loss"), alone.history.column("loss"))
    with pytest.raises(SettingsError, match="dropout has 4 rates, expected at most 3"):
        train(network, data, frozen=1, dropout=(0.1, 0.2, 0.3, 0.4), **settings)


@pytest.mark.parametrize(("name", "n_frozen"), CASES)
def test_both_backends_drop_alike(name, n_frozen, data):
    settings = {"epochs": 3, "batch_size": BATCH, "frozen": n_frozen, "dropout": 0.4, "validation": 0.2}
    runs = [train(make_network(name), data, backend=backend, **settings).history for backend in ("numpy", "numba")]
    for metric in ("loss", "validation_loss"):
        np.testing.assert_allclose(runs[0].column(metric), runs[1].column(metric), rtol=1e-9)
    plain = train(make_network(name), data, **{**settings, "dropout": 0.0})
    assert not np.allclose(plain.history.column("loss"), runs[0].column("loss"))


def test_dropout_leaves_the_inputs_of_a_convolution_alone():
    frozen = FrozenLayers(make_network("images"), TrainingConfig(frozen=1, dropout=0.4), reference)
    assert frozen.tail_config.dropout[0] == 0


# --- What a run shows ------------------------------------------------------------------------------------------------
def test_callbacks_and_the_history_show_the_whole_network(data):
    network, ends = make_network("images"), []
    training, held = fastnn.hold_out(data, 0.25, seed=1)
    result = train(
        network, training, validation=held, frozen=2, epochs=2, l2=0.1, backend="numpy", callbacks=[ends.append]
    )
    assert [end.network.layers for end in ends] == [network.layers] * 2
    assert ends[-1].network is ends[-1].network
    assert_same_bits(arrays_of(ends[-1].network), arrays_of(result.network))
    logits = reference.predict_logits(result.network, held.images)
    np.testing.assert_allclose(ends[-1].validation_logits, logits, rtol=1e-12, atol=1e-13)
    _, tail = split_frozen(result.network, 2)
    loss, accuracy = fastnn.evaluate(result.network, held)
    assert result.history[-1].validation_loss == pytest.approx(loss + tail.l2_penalty(0.1), rel=1e-12)
    assert result.history[-1].validation_accuracy == accuracy


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_an_interrupted_run_has_the_whole_network(optimizer, data):
    def interrupt(end):
        if end.record.epoch == 2:
            raise KeyboardInterrupt

    settings = {"optimizer": optimizer, "frozen": 1, "batch_size": None}
    with pytest.raises(TrainingInterrupted) as caught:
        train(make_network("dense"), data, epochs=5, callbacks=[interrupt], **settings)
    expected = train(make_network("dense"), data, epochs=2, **settings)
    assert_same_bits(arrays_of(caught.value.result.network), arrays_of(expected.network))


def test_a_run_that_diverges_has_the_whole_network(data):
    network = make_network("dense", "float32")

    def huge_after_two_epochs(epoch, _):
        return float(epoch > 1)

    settings = {"frozen": 1, "learning_rate": 1e30, "schedule": huge_after_two_epochs, "batch_size": BATCH}
    with pytest.raises(DivergenceError) as caught:
        train(network, data, epochs=5, **settings)
    result = caught.value.result
    assert len(result.history) == 2
    assert_same_bits(arrays_of(result.network), arrays_of(network))


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_the_state_of_a_result_goes_on_to_the_same_bits(backend, dropout, data):
    network = with_batch_norm()
    settings = {"frozen": 2, "optimizer": "adam", "batch_size": BATCH, "backend": backend, "dropout": dropout}
    first = train(network, data, epochs=2, **settings)
    second = train(first.network, data, epochs=3, resume=first.state, **settings)
    whole = train(network, data, epochs=5, **settings)
    assert_same_bits(arrays_of(second.network), arrays_of(whole.network))
    weights, biases = first.state.slots[0]
    assert [array.shape for array in weights] == [array.shape for array in network.weights]
    assert not any(array.any() for array in (*weights[:2], *biases[:2]))
    assert all(array.any() for array in weights[2:])


def test_frozen_layers_thaw(data):
    """The state of a run with frozen layers is one of the whole network, whose frozen slots are still zero."""
    frozen = train(with_batch_norm(), data, frozen=2, epochs=2, optimizer="momentum", batch_size=BATCH)
    thawed = train(frozen.network, data, resume=frozen.state, epochs=1, optimizer="momentum", batch_size=BATCH)
    assert thawed.history[0].epoch == 3
    before, after = frozen.network.weights, thawed.network.weights
    assert not any(np.array_equal(one, other) for one, other in zip(before, after, strict=True))


def test_the_checkpoint_has_the_whole_network_and_refuses_another_number_of_frozen_layers(data, tmp_path):
    network, file = make_network("images"), tmp_path / "run"
    result = train(network, data, frozen=2, epochs=2, optimizer="adam", checkpoint=file)
    state = fastnn.load_checkpoint(file)
    assert_same_bits(arrays_of(state.network), arrays_of(result.network))
    with pytest.raises(SettingsError, match="frozen was 2, found 1"):
        train(network, data, frozen=1, epochs=3, resume=file)
    with pytest.raises(SettingsError, match="frozen was 2, found 0"):
        train(network, data, epochs=3, resume=file, config=TrainingConfig(optimizer="adam", epochs=3))
    assert len(train(network, data, epochs=3, resume=file).history) == 3


def test_the_frozen_layers_are_those_at_the_beginning_of_the_run(data):
    """A callback that changes the arrays of the given network changes nothing."""
    network = make_network("dense")

    def spoil(end):
        network.weights[0][...] = 0

    settings = {"frozen": 1, "epochs": 3, "augment": "shift=1", "validation": 0.2}
    spoiled = train(network, data, callbacks=[spoil], **settings)
    expected = train(make_network("dense"), data, **settings)
    assert_same_bits(arrays_of(spoiled.network), arrays_of(expected.network))
    assert [record.loss for record in spoiled.history] == [record.loss for record in expected.history]


# --- Settings --------------------------------------------------------------------------------------------------------
def test_the_search_for_a_rate_is_that_of_the_trained_layers(data):
    network = make_network("dense")
    found = find_learning_rate(network, data, frozen=2, backend="numpy")
    features = as_features(network, 2, data, reference)
    expected = find_learning_rate(split_frozen(network, 2)[1], features, backend="numpy")
    np.testing.assert_array_equal(found.losses, expected.losses)
    assert found.suggestion == expected.suggestion


def test_the_default_rate_is_that_of_the_trained_layers(data):
    deep, settings = Network.for_data(data, [8] * 12), {"epochs": 1, "batch_size": N}
    shallow = train(Network.for_data(data, [8]), data, **settings).config.learning_rate
    assert train(deep, data, **settings).config.learning_rate < shallow
    assert train(deep, data, frozen=11, **settings).config.learning_rate == shallow


def test_a_batch_of_one_trains_behind_a_frozen_batch_norm(data):
    network = Network.for_data(data, [Dense(5), BatchNorm()])
    with pytest.raises(SettingsError, match="batch_size is 1, expected 2 or more"):
        train(network, data, batch_size=1, epochs=1, frozen=1)
    assert len(train(network, data, batch_size=1, epochs=1, frozen=2).history) == 1


def test_a_run_with_frozen_layers_is_less_work(data):
    network, config = make_network("images"), TrainingConfig(epochs=10)
    whole, frozen, augmented = (
        fit_work(network, data.images, N, each, n_held_out=10).seconds
        for each in (
            config.replace(augment="shift=1"),
            config.replace(frozen=3),
            config.replace(frozen=3, augment="shift=1"),
        )
    )
    assert frozen < augmented < whole


@pytest.mark.parametrize("start", [train, find_learning_rate])
def test_a_network_has_a_layer_to_train(start, data):
    network = make_network("dense")
    with pytest.raises(
        SettingsError, match=r"^frozen is 3, expected at most 2 of the 3 layers with weights of Network"
    ):
        start(network, data, frozen=3)


def test_features_beyond_the_memory_are_refused_before_they_are_computed(data, monkeypatch):
    network = Network.initialize((48, 300, 4), input_scale=1 / 255)
    monkeypatch.setattr("fastnn.memory._NEGLIGIBLE", 0)
    monkeypatch.setattr("fastnn.memory.usable_memory", lambda: 60_000)
    monkeypatch.setattr(FrozenLayers, "features", None)
    expected = "frozen is 1: the features of 52 samples, 300 numbers each, need about"
    with pytest.raises(OutOfMemoryError, match=expected):
        train(network, data, frozen=1, augment="shift=1", epochs=1)


def test_data_that_are_no_images_are_not_augmented(data):
    with pytest.raises(SettingsError, match="augment is set, but the data have no image_shape"):
        train(make_network("dense"), replace(data, image_shape=None), frozen=1, augment="shift=1")
    with pytest.raises(DataError, match="expected"):
        train(make_network("dense"), (data.images[:, 1:], data.labels), frozen=1)
