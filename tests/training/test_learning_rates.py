"""The default learning rates, the search for one, and that `train` records the number it uses."""

import inspect
import json

import numpy as np
import pytest
from sklearn.datasets import load_iris

import fastnn
from fastnn import SGD, Adam, AdamW, BatchNorm, DataError, Dataset, Dense, Network, SettingsError, TrainingConfig
from fastnn.cli.command import main
from fastnn.optim.optimizers import OPTIMIZERS
from fastnn.training import rate_search

BY_BATCHES = [name for name in OPTIMIZERS if name != "lbfgs"]


@pytest.fixture(scope="module")
def digits():
    return fastnn.hold_out(fastnn.load_digits(), 0.25)


def flowers():
    """The iris data, standardised."""
    iris = load_iris()
    inputs = (iris.data - iris.data.mean(axis=0)) / iris.data.std(axis=0)
    return Dataset(inputs.astype(np.float32), iris.target.astype(np.int64))


# --- The rule --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("optimizer", "n_hidden", "batch_size", "rate"), [
    ("sgd", 1, 64, 0.1),
    ("sgd", 0, 64, 0.1),
    ("sgd", 4, 64, 0.1),
    ("sgd", 8, 64, 0.05),
    ("sgd", 1, 16, 0.05),
    ("sgd", 1, 1, 0.013),
    ("sgd", 1, 256, 0.2),
    ("sgd", 1, 1600, 0.5),
    ("sgd", 1, 60_000, 0.5),
    ("momentum", 1, 64, 0.032),
    ("nesterov", 1, 64, 0.032),
    ("adam", 1, 64, 0.001),
    ("adamw", 16, 64, 0.001),
    ("adam", 1, 60_000, 0.005),
    (SGD(0.99), 1, 64, 0.01),
    (Adam(beta_1=0.5), 1, 256, 0.002),
])  # fmt: skip
def test_the_default_rate_follows_optimizer_depth_and_batch_size(optimizer, n_hidden, batch_size, rate):
    config = TrainingConfig(optimizer=optimizer, batch_size=batch_size)
    assert config.with_default_rate(n_hidden, 60_000).learning_rate == rate
    assert config.replace(learning_rate=0.3).with_default_rate(n_hidden, 60_000).learning_rate == 0.3


@pytest.mark.parametrize("setting", [None, "auto"])
def test_a_rate_that_is_no_number_cannot_be_used(setting):
    with pytest.raises(SettingsError, match=r"learning_rate is .*, expected a number"):
        TrainingConfig(learning_rate=setting).rate(0, 1)


def test_train_uses_and_records_the_default_rate(digits):
    data = digits[0]
    layers = (Dense(8), BatchNorm(), Dense(8))
    for settings, rate in (
        ({}, 0.1), ({"optimizer": "adam"}, 0.001), ({"batch_size": 16}, 0.05), ({"batch_size": None}, 0.46),
        ({"schedule": "step:0.5,1"}, 0.1),
    ):  # fmt: skip
        result = fastnn.train(Network.for_data(data, layers), data, epochs=1, backend="numpy", **settings)
        assert result.config.learning_rate == result.history[0].learning_rate == rate
        assert result.rate_search is None
    deep = fastnn.train(Network.for_data(data, (8,) * 8), data, epochs=1, backend="numpy")
    assert deep.config.learning_rate == 0.05
    exact = fastnn.train(Network.for_data(data, (8,)), data, epochs=1, optimizer="lbfgs", batch_size=None)
    assert exact.config.learning_rate is None
    with pytest.raises(fastnn.DivergenceError) as caught:
        fastnn.train(Network.for_data(data, (8,)), data, epochs=1, learning_rate=1e30, backend="numpy")
    assert caught.value.result.config.learning_rate == 1e30


def _best(result):
    """Return the best accuracy of the last epochs: that of a single one may be low, on so few samples."""
    return result.history.column("validation_accuracy")[-5:].max()


@pytest.mark.parametrize("optimizer", BY_BATCHES)
def test_every_optimizer_trains_by_default(optimizer, digits):
    data, held = digits
    for settings in ({"epochs": 20}, {"epochs": 8, "batch_size": 1}, {"epochs": 200, "batch_size": None}):
        network = Network.for_data(data, (32,))
        assert _best(fastnn.train(network, data, validation=held, optimizer=optimizer, **settings)) > 0.88, settings


@pytest.mark.parametrize("activation", ["identity", "tanh", "logistic", "leaky_relu"])
def test_every_activation_trains_by_default(activation, digits):
    data, held = digits
    for settings in ({"epochs": 25}, {"epochs": 200, "batch_size": None}):
        network = Network.for_data(data, (32,), activation=activation)
        assert _best(fastnn.train(network, data, validation=held, **settings)) > 0.85, settings


def test_a_deep_network_trains_by_default(digits):
    data, held = digits
    for optimizer in BY_BATCHES:
        network = Network.for_data(data, (32,) * 6)
        result = fastnn.train(network, data, validation=held, optimizer=optimizer, epochs=30)
        assert _best(result) > 0.9


# --- Recipes and the command -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(("hidden", "activation", "given", "rate"), [
    ((128,), "relu", {}, 0.5),
    ((64,), ["relu"], {"epochs": 3, "dropout": 0.0}, 0.5),
    ((128,), "relu", {"optimizer": "sgd", "batch_size": 64}, 0.5),
    ((128,), "relu", {"optimizer": SGD()}, 0.5),
    ((128,), "relu", {"optimizer": "adam"}, None),
    ((128,), "relu", {"batch_size": 32}, None),
    ((128,), "tanh", {}, None),
    ((64, 32), "relu", {}, None),
    ((), "relu", {}, None),
    ((64, 32), "tanh", {"optimizer": "adam", "learning_rate": 0.3}, 0.3),
    ((128,), "relu", {"learning_rate": "auto"}, "auto"),
])  # fmt: skip
def test_the_rate_of_a_recipe_is_for_its_own_network_and_optimizer(hidden, activation, given, rate):
    config = fastnn.get_recipe("mnist").configure(hidden, activation, **given)
    assert config.learning_rate == rate
    assert config.schedule == "cosine"


def test_the_rate_of_a_recipe_of_images_is_for_its_own_layers():
    recipe = fastnn.get_recipe("lenet")
    own = recipe.config.learning_rate
    assert recipe.configure(recipe.hidden_layers, "relu", epochs=1).learning_rate == own
    wider = fastnn.network.layers.parse_layers("conv:8x3,pool:3,conv:9x2,pool:2,50,40")
    assert recipe.configure(wider, "relu").learning_rate == own
    for layers, activation in (((128,), "relu"), (wider[1:], "relu"), (wider, "tanh")):
        assert recipe.configure(layers, activation).learning_rate is None
    named = [layer.with_activation("tanh") for layer in recipe.hidden_layers]
    assert recipe.configure(named, "relu").learning_rate is None


def test_the_command_records_the_rate_and_draws_the_search(tmp_path, capsys):
    common = ["train", "--recipe", "digits", "--epochs", "2", "--out"]
    assert main([*common, str(tmp_path / "adam"), "--optimizer", "adam"]) == 0
    report = json.loads((tmp_path / "adam" / "report.json").read_text())
    assert report["settings"]["learning_rate"] == report["last_epoch"]["learning_rate"] == 0.00071
    capsys.readouterr()
    assert main([*common, str(tmp_path / "auto"), "--learning-rate", "auto"]) == 0
    report = json.loads((tmp_path / "auto" / "report.json").read_text())
    found = report["settings"]["learning_rate"]
    assert found == report["last_epoch"]["learning_rate"]
    assert f"learning rate {found:g}, found by a search" in capsys.readouterr().out
    assert (tmp_path / "auto" / "learning-rate.png").read_bytes()[:4] == b"\x89PNG"
    assert not (tmp_path / "adam" / "learning-rate.png").exists()


# --- The search ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("optimizer", BY_BATCHES)
@pytest.mark.parametrize(("name", "activation"), [("digits", "relu"), ("digits", "logistic"), ("iris", "relu")])
def test_the_suggestion_trains_well(optimizer, name, activation, digits):
    data, held = digits if name == "digits" else fastnn.hold_out(flowers(), 0.3)
    network = Network.for_data(data, (32,), activation=activation)
    before = [array.copy() for array in (*network.weights, *network.biases)]
    search = fastnn.find_learning_rate(network, data, optimizer=optimizer, batch_size=32)
    for array, kept in zip((*network.weights, *network.biases), before, strict=True):
        np.testing.assert_array_equal(array, kept)
    result = fastnn.train(
        network, data, validation=held, optimizer=optimizer, batch_size=32, learning_rate=search.suggestion, epochs=40
    )
    assert result.history[-1].validation_accuracy > 0.88
    assert fastnn.diagnose(result, data=data) == []


@pytest.mark.parametrize("output", ["logistic", "identity"])
@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_other_outputs_and_tiny_data_are_searched(output, backend):
    data = flowers()
    data = Dataset(data.images[::10], np.eye(3)[data.labels[::10]])
    network = Network.initialize((4, 8, 3), output=output)
    search = fastnn.find_learning_rate(network, data, backend=backend)
    result = fastnn.train(network, data, epochs=60, learning_rate=search.suggestion, backend=backend)
    assert result.loss < search.first_loss / 2
    alone = fastnn.find_learning_rate(network, data.take([0]), backend=backend)  # a single sample
    assert 1e-8 < alone.suggestion < 100


def test_the_search_is_seeded_and_its_parts_are_consistent(digits):
    data = digits[0]
    network = Network.for_data(data, (16,))
    one, same, other = (fastnn.find_learning_rate(network, data, seed=seed) for seed in (1, 1, 2))
    for name in ("rates", "losses", "trial_rates", "trial_losses"):
        np.testing.assert_array_equal(getattr(one, name), getattr(same, name))
    assert not np.array_equal(one.losses[:20], other.losses[:20])
    assert len(one.rates) == len(one.losses)
    assert np.diff(np.log(one.rates)).std() < 1e-9
    assert one.rates[0] == rate_search.LOWEST
    assert not one.losses[-1] <= rate_search.EXPLODED * one.first_loss
    assert (one.losses[:-1] <= rate_search.EXPLODED * one.first_loss).all()
    np.testing.assert_allclose(one.trial_rates, one.rates[-1] / 3.0 ** np.arange(len(one.trial_rates), 0, -1))
    lowest = np.nanmin(one.trial_losses)
    chosen = int(np.abs(one.trial_rates - one.suggestion).argmin())
    assert one.trial_losses[chosen] <= lowest + 0.03 * (one.first_loss - lowest)
    assert not (one.trial_losses[:chosen] <= lowest + 0.03 * (one.first_loss - lowest)).any()


def test_auto_searches_on_the_training_rows_with_the_settings_of_the_run(digits):
    data = digits[0]
    network = Network.for_data(data, (16,))
    result = fastnn.train(network, data, epochs=2, learning_rate="auto", optimizer="adam", backend="numpy")
    alone = fastnn.find_learning_rate(network, data, optimizer="adam", backend="numpy")
    assert result.config.learning_rate == result.rate_search.suggestion == alone.suggestion
    assert result.history.column("learning_rate").tolist() == [alone.suggestion] * 2
    exact = fastnn.train(network, data, epochs=2, learning_rate="auto", optimizer="lbfgs", batch_size=None)
    assert exact.rate_search is None


def test_bad_searches_give_one_line(digits):
    data = digits[0]
    network = Network.for_data(data, (16,))
    with pytest.raises(SettingsError, match="L-BFGS, which has no learning rate"):
        fastnn.find_learning_rate(network, data, optimizer="lbfgs", batch_size=None)
    with pytest.raises(SettingsError, match="'rate' is no setting"):
        fastnn.find_learning_rate(network, data, rate=1)
    with pytest.raises(DataError, match="has no labels"):
        fastnn.find_learning_rate(network, Dataset(data.images))
    blank = Network([np.zeros((64, 2))], [np.zeros(2)])  # with equal numbers of both classes, and no input
    with pytest.raises(DataError, match=r"none of the learning rates .* lowers the loss"):
        fastnn.find_learning_rate(blank, Dataset(np.zeros((4, 64)), np.array([0, 1, 0, 1])), batch_size=4)
    with pytest.raises(SettingsError, match="learning_rate is 'fast'"):
        TrainingConfig(learning_rate="fast")


def test_weight_decay_bounds_the_rates(digits):
    data = digits[0]
    network = Network.for_data(data, (16,))
    search = fastnn.find_learning_rate(network, data, optimizer=AdamW(weight_decay=20), backend="numpy")
    assert search.rates[-1] <= 1 / 20
    fastnn.train(network, data, epochs=1, optimizer=AdamW(weight_decay=20), learning_rate="auto", backend="numpy")


def test_the_figure_marks_the_suggestion(digits, tmp_path):
    from fastnn.plots import RateSearchDisplay

    search = fastnn.find_learning_rate(Network.for_data(digits[0], (16,)), digits[0], backend="numpy")
    display = RateSearchDisplay.from_search(search)
    test_line, trial_line = display.ax_.lines[:2]
    np.testing.assert_array_equal(test_line.get_xdata(), search.rates)
    np.testing.assert_array_equal(trial_line.get_xdata(), search.trial_rates)
    assert display.ax_.get_xscale() == "log"
    assert f"suggestion {search.suggestion:.2g}" in display.ax_.texts[0].get_text()
    assert display.save(tmp_path / "rates.svg").exists()
    with pytest.raises(DataError, match="search is float, expected the result of find_learning_rate"):
        RateSearchDisplay(0.1)


def test_the_signature_of_train_shows_the_new_defaults():
    parameters = inspect.signature(fastnn.train).parameters
    assert parameters["learning_rate"].default is None
    assert parameters["verbose"].default is False
