"""Tests of `diagnose`: runs of small networks show each fault, and healthy runs have no findings."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_matrix

import fastnn
from fastnn.datasets import Dataset
from fastnn.datasets.splits import split
from fastnn.evaluation import confusion
from fastnn.explanation.diagnosis import Finding, diagnose
from fastnn.explanation.run_facts import RunFacts
from fastnn.network import BatchNorm, Conv2D, Dense, MaxPool2D, Network
from fastnn.training.history import EpochRecord, History


@pytest.fixture(scope="module")
def digits():
    """The 8x8 digits, split as recipe E splits them."""
    return fastnn.get_recipe("digits").load(0)


def _train(splits, hidden=(32, 32), activation="relu", **settings):
    """Return the result of a run on `splits`; if it diverged, the result that the error holds."""
    network = fastnn.Network.for_data(splits.train, hidden, activation=activation)
    settings = {"epochs": 20, "batch_size": 32, "validation": splits.validation, **settings}
    try:
        return fastnn.train(network, splits.train, **settings)
    except fastnn.DivergenceError as error:
        return error.result


def _predictions(network, data):
    return fastnn.get_backend("numpy").predict_logits(network, data.images).argmax(axis=1)


def _diagnose(result, splits):
    """Return the findings of a run with its training data and the confusion matrix of its test set."""
    counts = confusion(splits.test.labels, _predictions(result.network, splits.test), 10)
    return diagnose(result, data=splits.train, confusion=counts)


def _names(findings):
    return [finding.name for finding in findings]


def _history(loss, validation_loss=None, accuracy=0.5, rate=0.1, validation_accuracy=0.5):
    validation = [np.nan] * len(loss) if validation_loss is None else validation_loss
    epochs = enumerate(zip(loss, validation, strict=True), start=1)
    return History(
        [EpochRecord(i, rate, train, accuracy, held, validation_accuracy, 1.0) for i, (train, held) in epochs]
    )


# --- Healthy runs ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", range(4))
def test_recipe_e_has_no_findings(seed):
    recipe = fastnn.get_recipe("digits")
    data = recipe.load(seed)
    network = fastnn.Network.for_data(data.train, recipe.hidden, seed=seed)
    result = fastnn.train(network, data.train, validation=data.validation, seed=seed, **recipe.settings)
    assert _diagnose(result, data) == diagnose(result.history) == []


@pytest.mark.parametrize(("name", "rows", "settings"), [
    ("mnist", 60_000, {"epochs": 2}),
    ("decay", 20_000, {"epochs": 15}),
    ("fundamentals", 60_000, {}),
    ("full-batch", 5_000, {}),
    ("dev-set", 20_000, {}),
])  # fmt: skip
def test_the_recipes_on_mnist_have_no_findings(name, rows, settings, mnist):
    recipe = fastnn.get_recipe(name)
    data = split(mnist[0].take(np.arange(rows)), mnist[1], recipe.held_out, 0)
    network = fastnn.Network.for_data(data.train, recipe.hidden)
    result = fastnn.train(network, data.train, validation=data.validation, **recipe.settings | settings)
    assert _diagnose(result, data) == []


def test_a_good_network_that_is_trained_further_is_not_called_slow(digits):
    good = _train(digits, epochs=60, learning_rate=0.1).network
    result = fastnn.train(good, digits.train, epochs=10, learning_rate=1e-4)
    assert result.history[0].loss / result.history[-1].loss < 1.02
    assert diagnose(result, data=digits.train) == []


def test_a_history_of_two_epochs_or_fewer_has_no_findings():
    for losses in ([], [2.3], [2.3, 2.2]):
        assert diagnose(_history(losses)) == []


# --- The learning rate -----------------------------------------------------------------------------------------------
def test_a_loss_that_jumps_means_the_rate_is_too_high(digits):
    result = _train(digits, batch_size=None, learning_rate=1.0, epochs=40)
    finding = diagnose(result.history)[0]
    loss = result.history.column("loss")
    rises = [(loss[b] - loss[a], a, b) for a in range(len(loss)) for b in range(a, len(loss))]
    rise, before, after = max(rises)
    assert rise > loss[0] / 2
    assert finding == Finding(
        "learning rate too high",
        f"the training loss rose from {loss[before]:.4g} (epoch {before + 1}) to {loss[after]:.4g} (epoch {after + 1})",
        "Try a learning rate of 0.3 (the highest was 1), and scale the inputs to about 0 to 1",
        {"learning_rate": 0.3},
    )
    finding = diagnose(result, data=digits.train)[0]  # the optimizer and the inputs are known
    assert finding.advice == ("Try a learning rate of 0.3 (the highest was 1; 0.47 is usual for gradient descent here)")


def test_a_loss_that_is_not_finite_means_the_rate_is_too_high(digits):
    result = _train(digits, learning_rate=1e38)
    assert result.stopped == "diverged"
    finding = diagnose(result)[0]
    assert finding.name == "learning rate too high"
    assert "not finite in epoch 1" in finding.evidence
    later = _history([2.3, 1.0, float("nan"), 1.0])
    assert "not finite in epoch 3" in diagnose(later)[0].evidence


def test_a_collapsed_network_is_recognised_by_its_dead_units(digits):
    """At this rate all units die in the first epochs, and the biases alone predict the class frequencies."""
    result = _train(digits, learning_rate=1.5)
    findings = _diagnose(result, digits)
    assert _names(findings) == ["learning rate too high", "dead units", "class never predicted"]
    frequencies = np.bincount(digits.train.labels) / len(digits.train)
    assert f"{-np.sum(frequencies * np.log(frequencies)):.4g}" in findings[0].evidence
    hidden, found = digits.train.images / 16, []
    for weight, bias in zip(result.network.weights[:-1], result.network.biases[:-1], strict=True):
        hidden = np.maximum(hidden @ weight + bias, 0)
        found.append(int(np.sum(hidden.max(axis=0) == 0)))
    assert findings[1].evidence.startswith(
        f"{found[0]} of 32 units of hidden layer 1 and {found[1]} of 32 units of hidden layer 2 output 0"
    )
    assert findings[2].advice == "Fix the findings above first"


def test_saturated_tanh_units_mean_the_rate_is_too_high(digits):
    result = _train(digits, activation="tanh", learning_rate=3.0)
    assert _names(diagnose(result, data=digits.train)) == ["learning rate too high"]


@pytest.mark.parametrize("rate", [1e-6, 1e-4])
def test_a_loss_that_hardly_changes_means_the_rate_is_too_low(rate, digits):
    result = _train(digits, learning_rate=rate)
    first, last = result.history[0].loss, result.history[-1].loss
    assert last > 0.9 * first
    for findings, suggested in (
        (diagnose(result, data=digits.train), "0.071 (the highest was {}; 0.071 is usual for gradient descent here)"),
        (diagnose(result.history), f"{10 * rate:g} (the highest was {{}})"),
    ):
        assert _names(findings) == ["learning rate too low"]
        assert f"from {first:.4g} to {last:.4g}" in findings[0].evidence
        assert "Try a learning rate of " + suggested.format(f"{rate:g}") in findings[0].advice


def test_dropout_does_not_hide_a_rate_that_is_too_low(digits):
    result = _train(digits, learning_rate=1e-6, dropout=0.2)
    assert np.diff(result.history.column("loss")).max() > 0
    assert _names(diagnose(result, data=digits.train)) == ["learning rate too low"]


def test_five_epochs_of_steady_progress_are_not_slow():
    assert _names(diagnose(_history([2.3, 2.25, 2.2, 2.15, 2.09]))) == ["unfinished"]
    assert _names(diagnose(_history([2.3, 2.28, 2.26, 2.24, 2.22]))) == ["learning rate too low"]


# --- Overfitting -----------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def overfitted(digits):
    """Splits with 300 training digits, few enough to memorise. A fifth of them have random labels."""
    rng = np.random.default_rng(0)
    labels = digits.train.labels[:300].copy()
    noisy = rng.random(300) < 0.2
    labels[noisy] = rng.integers(0, 10, noisy.sum())
    data = Dataset(digits.train.images[:300], labels, 16.0, (8, 8))
    return digits._replace(train=data)


def test_a_validation_loss_that_rises_again_means_overfitting(overfitted):
    result = _train(overfitted, hidden=(64, 64), epochs=150, learning_rate=0.1)
    findings = diagnose(result, data=overfitted.train)
    assert _names(findings) == ["overfitting"]
    history = result.history
    best = min(history, key=lambda record: record.validation_loss)
    assert history[-1].validation_loss > 1.5 * best.validation_loss
    for text in (
        f"epoch {best.epoch} ({best.validation_loss:.4g})",
        f"{history[-1].validation_loss:.4g} in epoch 150",
        f"from {best.loss:.4g} to {history[-1].loss:.4g}",
    ):
        assert text in findings[0].evidence


def test_early_stopping_with_the_best_network_kept_is_not_overfitting(overfitted):
    result = _train(overfitted, hidden=(64, 64), epochs=150, learning_rate=0.1, early_stopping=90)
    assert result.stopped == "early"
    assert _names(diagnose(result.history)) == ["overfitting"]
    assert diagnose(result, data=overfitted.train) == []


def test_one_bad_epoch_or_a_rising_training_loss_is_not_overfitting():
    falling = [1.0, 0.5, 0.4, 0.3, 0.2, 0.1]
    rising = [1.0, 0.5, 0.5, 0.8, 0.9, 1.0]
    assert _names(diagnose(_history(falling, rising))) == ["overfitting"]
    assert diagnose(_history(falling, [1.0, 0.5, 0.5, 0.5, 0.5, 1.0])) == []
    assert diagnose(_history([1.0, 0.5, 0.4, 0.6, 0.6, 0.6], rising)) == []
    assert diagnose(_history(falling, rising, validation_accuracy=1.0)) == []


# --- Units and classes -----------------------------------------------------------------------------------------------
def test_dead_units_are_a_finding_from_half_a_layer_on():
    """The inputs are not negative, so a unit without a positive weight or bias is dead."""
    data = Dataset(np.random.default_rng(0).random((2000, 3)))
    alive, dead = np.ones((3, 4)), np.ones((3, 4))
    alive[:, :1], dead[:, :2] = -1, -1
    out = np.ones((4, 2)), np.zeros(2)
    assert diagnose(History(), Network([alive, out[0]], [np.zeros(4), out[1]]), data) == []
    network = Network([dead, out[0]], [np.zeros(4), out[1]])
    findings = diagnose(History(), network, data)
    assert _names(findings) == ["dead units"]
    assert findings[0].evidence.startswith("2 of 4 units of hidden layer 1 output 0")
    # The last sample activates one of the dead units, which is enough to make it alive.
    data.images[-1] = [-1, 0, 0]
    assert diagnose(History(), Network([dead, out[0]], [np.array([-0.5, -2, 0, 0]), out[1]]), data) == []
    assert diagnose(History(), Network([dead, out[0]], [np.zeros(4), out[1]], "tanh"), data) == []
    # Each layer counts by its own activation: of tanh, leaky ReLU and ReLU, only the third can die.
    weights, biases = [dead, -np.eye(4), -np.eye(4), out[0]], [np.zeros(4), np.full(4, -9.0), np.full(4, -9.0), out[1]]
    findings = diagnose(History(), Network(weights, biases, ["tanh", "leaky_relu", "relu"]), data)
    assert findings[0].evidence.startswith("4 of 4 units of hidden layer 3 output 0")


def test_of_images_whole_filters_are_dead_and_the_advice_fits_their_layers():
    """Filters see pixels from 0 to 1. Filter 0 has only negative weights, filter 1 is alive in one corner alone."""
    data = Dataset(np.random.default_rng(0).random((300, 16)))
    weight = np.ones((1, 2, 2, 2))
    weight[..., 0] = -1
    layers = [Conv2D(2, 2), MaxPool2D(activation="relu"), Dense(2)]
    network = Network([weight, np.ones((2, 2))], [np.zeros(2), np.zeros(2)], layers=layers, input_shape=(1, 4, 4))
    (finding,) = diagnose(History(), network, data)
    expected = "1 of 2 filters of hidden layer 1 and 1 of 2 channels of hidden layer 2 output 0 for every"
    assert finding.evidence.startswith(expected)
    assert "leaky_relu as the activation of its layers" in finding.advice
    assert finding.settings == {}
    # One place of one image is enough for a filter to be alive. What is dead in the layers above follows from it.
    data.images[299, 5] = -100
    assert diagnose(History(), network, data) == []


def test_a_layer_that_is_not_dying_ends_the_search_for_dead_units():
    network = Network.initialize((4, 8, 2), seed=0)
    network.biases[0][:] = [-9, -9, 9, 9, 9, 9, 9, 9]
    facts = RunFacts(History(), network=network, data=Dataset(np.ones((5000, 4))))
    assert (facts.dead, facts.is_dying) == ({1: (2, 8)}, False)


def test_images_are_checked_for_their_scale_but_not_before_a_normalisation():
    images = np.full((50, 16), 200.0)
    slow = _history([1.05, 1.049, 1.048, 1.048, 1.047])
    for layers, names in (
        ([Conv2D(2, 2), Dense(3)], ["inputs too large"]),
        ([MaxPool2D(), Conv2D(2, 2), Dense(3)], ["inputs too large"]),
        ([BatchNorm(), Conv2D(2, 2), Dense(3)], ["learning rate too low"]),
    ):
        network = Network.initialize((1, 4, 4), layers, seed=3)
        assert _names(diagnose(slow, network, Dataset(images)))[:1] == names


def test_the_advice_for_a_deep_image_network_names_no_dense_layers():
    layers = [Conv2D(2, 3, padding="same") for _ in range(9)]
    network = Network.initialize((1, 4, 4), [*layers, Dense(3)])
    (finding,) = diagnose(_history([1.1, 1.09, 1.08, 1.07, 1.06]), network)
    assert finding.name == "network too deep"
    assert finding.advice == "Try fewer hidden layers, or BatchNorm between the layers"
    assert finding.settings == {}


def test_a_class_missing_from_the_training_data_is_never_predicted(digits):
    some = digits._replace(train=digits.train.take(digits.train.labels != 9))
    network = Network.initialize((64, 32, 10), input_scale=1 / 16)
    result = fastnn.train(network, some.train, epochs=20, batch_size=32)
    (finding,) = _diagnose(result, some)
    assert finding.name == "class never predicted"
    expected = f"class 9, although {np.sum(digits.test.labels == 9)} of {len(digits.test)} samples belong to it"
    assert finding.evidence == f"no sample was predicted as {expected}"
    assert "training samples" in finding.advice


def test_a_class_of_few_samples_is_not_a_finding():
    counts = np.array([[90, 0, 0], [6, 0, 0], [7, 0, 0]])
    assert "class 2, although 7 of 103" in diagnose(History(), confusion=counts)[0].evidence
    assert diagnose(History(), confusion=counts[:2, :2]) == []


# --- Settings, inputs and the reader ---------------------------------------------------------------------------------
@pytest.mark.parametrize("optimizer", ["momentum", "nesterov", "adam", "adamw"])
def test_the_rate_of_plain_gradient_descent_is_too_high_for_other_optimizers(optimizer, digits):
    result = _train(digits, optimizer=optimizer, learning_rate=0.5, epochs=8)
    (finding, *others) = _diagnose(result, digits)
    assert finding.name == "learning rate too high"
    usual = 0.00071 if optimizer.startswith("adam") else 0.022
    assert finding.settings == {"learning_rate": usual}
    assert f"{usual:.2g} is usual for" in finding.advice
    assert all("Fix the findings above first" in each.advice for each in others)


def test_a_run_that_ends_too_soon_is_unfinished_and_not_short_of_samples(mnist):
    """Recipe C with 10 of its 200 epochs: some classes are not predicted yet, although none is rare."""
    recipe = fastnn.get_recipe("full-batch")
    data = split(mnist[0].take(np.arange(6000)), None, 1 / 6, 0)
    network = fastnn.Network.for_data(data.train, recipe.hidden)
    settings = recipe.settings | {"epochs": 10}
    result = fastnn.train(network, data.train, validation=data.validation, **settings)
    findings = _diagnose(result, data)
    assert _names(findings)[0] == "unfinished"
    assert findings[0].settings == {"epochs": 40}
    assert all("sample" not in finding.advice for finding in findings)


def test_a_falling_rate_does_not_hide_an_unfinished_run():
    def history(rates, falls):
        loss = 2.3 * np.exp(-np.cumsum(falls))
        epochs = enumerate(zip(rates, loss, strict=True), start=1)
        return History([EpochRecord(i, *each, 0.5, np.nan, np.nan, 1.0) for i, each in epochs])

    rates = 0.1 * (1 + np.cos(np.pi * np.arange(12) / 12)) / 2
    assert _names(diagnose(history(rates, 0.5 * rates))) == ["unfinished"]  # 5 % an epoch at the full rate
    assert diagnose(history(np.full(12, 0.1), np.r_[np.full(6, 0.3), np.full(6, 0.005)])) == []


def test_a_run_that_was_stopped_early_or_is_good_is_not_unfinished(digits):
    result = _train(digits, epochs=6, learning_rate=0.02)
    assert _names(diagnose(result)) == ["unfinished"]
    for other in ({"stopped": "early"}, {"stopped": "callback"}):
        assert diagnose(replace(result, **other)) == []
    records = [replace(record, validation_accuracy=0.95) for record in result.history]
    assert diagnose(replace(result, history=History(records))) == []


def test_the_scale_of_the_inputs_is_the_cause_before_the_rate(digits):
    for factor, name in ((1 / 255, "inputs too small"), (1000.0, "inputs too large")):
        data = replace(digits.train, images=digits.train.images / 16 * factor, pixel_max=1.0)
        network = fastnn.Network.for_data(data, (32,))
        try:
            result = fastnn.train(network, data, epochs=10, backend="numpy")
        except fastnn.DivergenceError as error:
            result = error.result
        findings = diagnose(result, data=data)
        assert findings[0].name == name
        assert findings[0].settings == {"pixel_max": pytest.approx(factor)}
        assert "learning rate too" not in " ".join(_names(findings))
        sparse = replace(data, images=csr_matrix(data.images))
        assert diagnose(result, data=sparse) == findings


def test_a_network_that_normalises_its_inputs_may_have_large_ones(digits):
    data = replace(digits.train, images=digits.train.images * 1000.0, pixel_max=1.0)
    network = fastnn.Network.for_data(data, (fastnn.BatchNorm(), fastnn.Dense(16)))
    result = fastnn.train(network, data, epochs=3, learning_rate=1e-3, backend="numpy")
    assert not any("inputs" in name for name in _names(diagnose(result, data=data)))


def test_a_rare_class_that_is_missed_is_named_with_its_numbers():
    labels = np.repeat([0, 1, 2], [100, 100, 8])
    data = Dataset(np.ones((208, 3)), labels)
    network = Network.initialize((3, 2, 3), activation="tanh")
    counts = np.array([[30, 0, 0], [0, 30, 0], [9, 1, 0]])
    (finding,) = diagnose(_history([1.0, 0.2, 0.1], accuracy=0.95), network, data, counts)
    assert finding.name == "class imbalance"
    assert "class 2 has 8 of 208 training samples, and 0 of its 10 samples" in finding.evidence
    assert finding.settings == {"sample_weight": "balanced"}
    (finding,) = diagnose(_history([1.0, 0.2, 0.1], accuracy=0.95), network, data, counts, for_command=True)
    assert (finding.settings, "sample_weight" in finding.advice) == ({}, False)
    counts[2] = 4, 1, 5  # half of them are predicted correctly
    assert diagnose(_history([1.0, 0.2, 0.1], accuracy=0.95), network, data, counts) == []
    counts = np.array([[30, 0, 0], [30, 0, 0], [0, 0, 10]])  # class 1 is not rare
    (finding,) = diagnose(_history([1.0, 0.2, 0.1], accuracy=0.95), network, data, counts)
    assert finding.name == "class never predicted"
    assert "100 training samples" in finding.advice


def test_lbfgs_gets_no_advice_on_a_learning_rate(digits):
    result = _train(digits, optimizer="lbfgs", batch_size=None, epochs=4)
    findings = diagnose(result, data=digits.train)
    assert _names(findings) == ["unfinished"]
    assert findings[0].settings == {"epochs": 16}


COMMANDS = {
    "learning_rate": "--learning-rate",
    "epochs": "--epochs",
    "early_stopping": "--patience",
    "hidden": "--hidden",
}


def test_the_command_gets_its_own_options(overfitted, digits):
    runs = [
        (_train(digits, activation="logistic", epochs=8, learning_rate=0.05), "--learning-rate auto"),
        (_train(digits, epochs=5, learning_rate=0.02), "--epochs 20"),
        (_train(digits, hidden=(8,) * 12, epochs=6), "--hidden 8 8"),
        (_train(overfitted, hidden=(64, 64), epochs=150, learning_rate=0.1), "--patience 15"),
    ]
    for result, option in runs:
        finding, *_ = diagnose(result, data=digits.train, for_command=True)
        assert option in finding.advice
        assert option.split()[0] == COMMANDS[next(iter(finding.settings))]
        in_python, *_ = diagnose(result, data=digits.train)
        assert "--" not in in_python.advice
        assert in_python.settings == finding.settings


def test_after_a_search_the_rate_is_not_blamed_again():
    rng = np.random.default_rng(0)
    data = Dataset(rng.random((300, 5)), rng.integers(0, 3, 300))
    network = Network.initialize((5, 4, 3))
    result = fastnn.train(network, data, epochs=6, learning_rate="auto", backend="numpy")
    assert result.rate_search.suggestion == result.config.learning_rate == result.history[-1].learning_rate
    findings = diagnose(result, data=data)
    assert all("learning rate" not in finding.name for finding in findings)


def test_a_bad_argument_raises_a_one_line_error(digits):
    network = Network.initialize((5, 3, 2))
    with pytest.raises(fastnn.DataError, match=r"^inputs have shape \(1438, 64\), expected \(samples, 5\)"):
        diagnose(History(), network, digits.train)
    with pytest.raises(fastnn.DataError, match=r"^confusion has shape \(2, 3\)"):
        diagnose(History(), confusion=np.ones((2, 3), int))


def test_targets_that_are_not_scaled_are_named_before_the_rate():
    inputs = np.random.default_rng(0).normal(size=(60, 3))
    raw = Dataset(inputs, 1000.5 * inputs @ [1, 2, 3])
    scaled = Dataset(inputs, fastnn.TargetScale.fit(raw.labels).standardised(raw.labels))
    names = []
    for data in (raw, scaled):
        result = fastnn.train(
            fastnn.Network.for_data(data, (8,)), data, epochs=30, optimizer="adam", learning_rate=0.003, backend="numpy"
        )
        names.append([finding.name for finding in fastnn.diagnose(result, data=data)])
    assert names[0] == ["targets not scaled"]
    assert "targets not scaled" not in names[1]
