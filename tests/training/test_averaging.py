"""Averages of the weights: against sums of the weights of plain runs, with their state, and what sees them."""

import numpy as np
import pytest

import fastnn
from fastnn import Adam, BatchNorm, Conv2D, Dense, MaxPool2D, Network, SettingsError, TrainingConfig, load_checkpoint
from fastnn.optim.averaging import EMA, SWA, get_average
from tests.parity import assert_all_parity, assert_same_bits, make_inputs

N, EPOCHS = 120, 6
CASES = {
    "by units": ((30, 130, 70, 4), None, "uint8"),
    "by rows": ((30, 12, 4), None, "float32"),
    "by images": ((1, 5, 6), [Conv2D(5, 3), MaxPool2D(), Dense(20), Dense(4)], "uint8"),
    "layer by layer": ((30,), [Dense(20, "identity"), BatchNorm("relu"), Dense(4)], "float32"),
}
BACKENDS = pytest.mark.parametrize("backend", ["numpy", "numba"])


def make(name, **settings):
    """Return the network and the data of a case."""
    sizes, layers, kind = CASES[name]
    rng = np.random.default_rng(1)
    inputs, labels = make_inputs(rng, (N, 30), kind), rng.integers(0, 4, N)
    scale = 1 / 255 if kind == "uint8" else 1.0
    return Network.initialize(sizes, layers, seed=3, input_scale=scale, **settings), (inputs, labels)


def run(name, backend, epochs=EPOCHS, **settings):
    network, data = make(name)
    settings = {"batch_size": None, "learning_rate": 0.1, "optimizer": "momentum", **settings}
    return fastnn.train(network, data, backend=backend, epochs=epochs, **settings)


def parameters(network):
    return [*network.weights, *network.biases]


@BACKENDS
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("average", ["ema:0.6", "swa:0.5"])
def test_the_average_is_the_sum_over_plain_runs(name, backend, average):
    """A full batch makes every epoch a step, so runs of 1, 2, ... epochs have the weights after each step."""
    steps = [parameters(run(name, backend, epochs).network) for epochs in range(1, EPOCHS + 1)]
    if average == "ema:0.6":  # with the division by 1 - decay ** steps, the shares add up to 1
        shares = [0.4 * 0.6 ** (EPOCHS - step) / (1 - 0.6**EPOCHS) for step in range(1, EPOCHS + 1)]
    else:
        shares = [0, 0, 0, 1 / 3, 1 / 3, 1 / 3]
    assert sum(shares) == pytest.approx(1)
    averaged = run(name, backend, average=average)
    for k, found in enumerate(parameters(averaged.network)):
        expected = sum(share * step[k].astype(np.float64) for share, step in zip(shares, steps, strict=True))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert np.abs(steps[-1][0] - averaged.network.weights[0]).max() > 1e-3
    plain = run(name, backend)
    np.testing.assert_array_equal(averaged.history.column("loss"), plain.history.column("loss"))
    assert_same_bits([*averaged.state.slots[-1][0], *averaged.state.slots[-1][1]], parameters(plain.network))


@pytest.mark.parametrize("name", ["by units", "by rows", "by images"])
def test_both_backends_average_alike(name):
    # Adam divides by the magnitude of the gradient. This epsilon is large compared with the rounding of one near 0.
    adam = Adam(epsilon=1e-3)
    settings = {"batch_size": 25, "average": "ema:0.8", "max_norm": 1.0, "optimizer": adam, "learning_rate": 0.01}
    found = run(name, "numba", **settings)
    network, data = make(name, dtype="float64")
    expected = fastnn.train(network, data, backend="numpy", epochs=EPOCHS, **settings)
    assert_all_parity(parameters(found.network), parameters(expected.network))


@BACKENDS
@pytest.mark.parametrize("average", ["ema:0.7", "swa:0.5"])
@pytest.mark.parametrize("validation", [None, 0.25])
def test_statistics_of_batch_norm_are_those_of_the_averaged_weights(backend, average, validation):
    """With one batch, they are its mean and its variance, divided by the number of samples - 1."""
    result = run("layer by layer", backend, average=average, validation=validation)
    network, (inputs, _) = result.network, make("layer by layer")[1]
    if validation is not None:
        rows, _ = fastnn.datasets.splits.draw_held_out(N, validation, 0)
        inputs = inputs[rows]
    sums = inputs.astype(np.float64) @ network.weights[0] + network.biases[0]
    np.testing.assert_allclose(network.statistics[0], sums.mean(axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(network.statistics[1], sums.var(axis=0, ddof=1), rtol=1e-4)
    running = result.state.statistics
    assert_same_bits(running, run("layer by layer", backend, validation=validation).network.statistics)


@BACKENDS
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("average", ["ema:0.9", "swa:0.5"])
def test_two_runs_have_the_bits_of_one(name, backend, average):
    """A mean of the last epochs is that of the last run."""
    settings = {"batch_size": 25, "average": average}
    whole = run(name, backend, **settings)
    network, data = make(name)
    first = run(name, backend, 2, **settings)
    settings |= {"learning_rate": 0.1, "optimizer": "momentum", "backend": backend}
    second = fastnn.train(first.network, data, epochs=4, resume=first.state, **settings)
    if average == "swa:0.5":
        expected = fastnn.train(network, data, epochs=EPOCHS, **{**settings, "average": SWA(2 / 6)})
        assert_same_bits(parameters(second.network), parameters(expected.network))
    else:
        assert_same_bits(parameters(second.network), parameters(whole.network))
        assert_same_bits(second.network.statistics, whole.network.statistics)
    np.testing.assert_array_equal(second.history.column("loss"), whole.history.column("loss")[2:])


@BACKENDS
@pytest.mark.parametrize("average", ["ema:0.8", "swa:0.6"])
def test_validation_early_stopping_and_callbacks_see_the_average(backend, average):
    network, data = make("by rows")
    held_out = make_inputs(np.random.default_rng(5), (50, 30), "float32"), np.arange(50) % 4
    seen = []
    result = fastnn.train(
        network, data, validation=held_out, epochs=10, learning_rate=0.5, early_stopping=8, average=average,
        backend=backend, callbacks=[lambda end: seen.append(end.network)],
    )  # fmt: skip
    for record, found in zip(result.history, seen, strict=True):
        assert record.validation_loss == pytest.approx(fastnn.evaluate(found, held_out)[0], rel=1e-5)
    best = seen[result.best_epoch - 1]
    assert_same_bits(parameters(result.network), parameters(best))
    assert result.history.column("validation_loss").argmin() == result.best_epoch - 1
    plain = fastnn.train(network, data, epochs=len(seen), learning_rate=0.5, backend=backend)
    assert np.abs(plain.network.weights[0] - seen[-1].weights[0]).max() > 1e-3


def test_more_epochs_continue_a_mean_only_before_it_has_begun(tmp_path):
    network, data = make("by rows")
    settings = {"learning_rate": 0.1, "average": "swa:0.5", "backend": "numpy"}
    whole = fastnn.train(network, data, epochs=12, **settings)

    def stop_after(epoch):
        file = tmp_path / f"{epoch}"
        fastnn.train(network, data, epochs=6, checkpoint=file, callbacks=[lambda end: end.record.epoch == epoch],
                     **settings)  # fmt: skip
        return file

    state = load_checkpoint(stop_after(2))
    result = fastnn.train(network, data, resume=state, epochs=12, average="swa:0.5", backend="numpy")
    assert result.digest() == whole.digest()
    with pytest.raises(SettingsError, match="epochs was 6, found 12"):
        fastnn.train(network, data, resume=stop_after(5), epochs=12, average="swa:0.5", backend="numpy")


def test_a_checkpoint_has_the_weights_of_the_optimizer_and_their_statistics(tmp_path):
    network, data = make("layer by layer")
    result = fastnn.train(network, data, epochs=2, average="ema", checkpoint=tmp_path / "run", backend="numpy")
    state = load_checkpoint(tmp_path / "run")
    assert_same_bits(parameters(state.network), parameters(result.network))
    assert_same_bits(state.trainer.statistics, result.state.statistics)
    assert len(state.trainer.slots) == 1
    assert not np.array_equal(state.trainer.statistics[0], state.network.statistics[0])


def test_a_search_for_the_rate_sees_the_weights_themselves():
    network, data = make("by rows")
    with_average, without = (
        fastnn.find_learning_rate(network, data, backend="numpy", average=average).losses for average in ("ema", None)
    )
    np.testing.assert_array_equal(with_average, without)


@pytest.mark.parametrize(
    ("average", "message"),
    [
        ("emma", r"average is 'emma' \(did you mean ema\?\), expected ema:DECAY, such as ema:0.999, or swa:PART"),
        ("ema:x", r"average is 'ema:x': 'x' is no number, expected ema:DECAY"),
        ("ema:1", "decay of the average is 1.0, expected a finite number at least 0 and less than 1"),
        ("swa:0", "part of the average is 0.0, expected a finite number greater than 0"),
        ("swa:", r"average is 'swa:': '' is no number"),
        (0.9, "average is 0.9, expected ema:DECAY"),
    ],
)
def test_averages_that_are_refused(average, message):
    with pytest.raises(SettingsError, match=message):
        TrainingConfig(average=average)


def test_an_average_as_text_as_an_object_and_as_json_is_the_same():
    assert get_average("ema") == EMA(0.999)
    assert get_average("swa") == SWA(0.25)
    for average in ("ema:0.9", EMA(0.9), SWA(0.1), None):
        config = TrainingConfig(average=average)
        assert TrainingConfig.from_dict(config.to_dict()) == config
    with pytest.raises(SettingsError, match=r"average is 'ema' with L-BFGS, expected None"):
        TrainingConfig(optimizer="lbfgs", batch_size=None, average="ema")


def test_a_state_with_an_average_needs_the_setting():
    network, data = make("by rows")
    first = fastnn.train(network, data, epochs=1, average="ema", backend="numpy")
    with pytest.raises(SettingsError, match="resume has 1 slots, expected 0"):
        fastnn.train(first.network, data, epochs=1, resume=first.state, backend="numpy")


@pytest.mark.parametrize("average", ["ema:0.9", "swa:0.5"])
@pytest.mark.parametrize("layers", [None, [Dense(6, "tanh"), BatchNorm("relu")]])
def test_frozen_layers_stay_and_the_rest_is_averaged(average, layers, tmp_path):
    network, data = make("by rows")
    if layers is not None:
        network = Network.for_data(data, [*layers, Dense(5)], seed=2)
    settings = {"frozen": 1, "average": average, "learning_rate": 0.1, "backend": "numpy"}
    result = fastnn.train(network, data, epochs=4, checkpoint=tmp_path / "run", **settings)
    assert_same_bits(result.network.weights[:1], network.weights[:1])
    assert np.abs(result.state.slots[-1][0][-1] - result.network.weights[-1]).max() > 1e-4
    file = tmp_path / "stopped"
    stop = {"checkpoint": file, "callbacks": [lambda end: end.record.epoch == 3]}
    fastnn.train(network, data, epochs=4, **stop, **settings)
    resumed = fastnn.train(network, data, epochs=4, resume=file, **settings)
    assert resumed.digest() == result.digest()
