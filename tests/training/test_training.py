"""Training: determinism, schedules, validation, early stopping, callbacks, divergence and interrupts."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fastnn.backends import get_backend
from fastnn.backends.base import TrainerState
from fastnn.backends.compiled.layout import readonly_view
from fastnn.datasets import Dataset, load_digits
from fastnn.datasets.splits import hold_out
from fastnn.errors import DataError, DivergenceError, SettingsError
from fastnn.evaluation.evaluate import evaluate
from fastnn.network import Network
from fastnn.optim.config import TrainingConfig
from fastnn.optim.optimizers import SGD, Adam
from fastnn.optim.stopping import EarlyStopping
from fastnn.training.history import EpochRecord
from fastnn.training.train import TrainingInterrupted, train
from tests.parity import assert_all_parity, assert_same_bits


@pytest.fixture(scope="module")
def digits():
    return load_digits()


def _digest(result):
    arrays = [array.tobytes() for array in (*result.network.weights, *result.network.biases)]
    metrics = [result.history.column(name).tobytes() for name in ("loss", "accuracy", "validation_loss")]
    return b"".join(arrays + metrics)


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_training_lowers_the_loss_and_does_not_change_the_given_network(digits, backend):
    network, untouched = Network.for_data(digits, (32,)), Network.for_data(digits, (32,))
    result = train(network, digits, epochs=20, batch_size=32, validation=0.2, backend=backend)
    assert result.history[-1].validation_accuracy > 0.95
    assert result.history[-1].loss < 0.2 * result.history[0].loss
    assert_same_bits((*network.weights, *network.biases), (*untouched.weights, *untouched.biases))


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "nesterov", "adam"])
@pytest.mark.parametrize("batch_size", [128, None])
@pytest.mark.parametrize("hidden", [(), (20,), (170,), (170, 70, 20)])
@pytest.mark.parametrize("input_dtype", ["uint8", "float32"])
def test_same_bits_for_any_number_of_threads(digits, optimizer, batch_size, hidden, input_dtype, started):
    """For every optimizer, depth and input dtype. Each of up to four threads has a panel or a chunk to work on."""
    data = digits.take(slice(0, 700))
    if input_dtype == "float32":
        data = Dataset((data.images / 16 - 0.3).astype(np.float32), data.labels)
    network = Network.for_data(data, hidden)
    settings = {"epochs": 2, "batch_size": batch_size, "learning_rate": 0.02, "l2": 0.001, "dropout": 0.1, "seed": 4}
    digests = []
    for threads in (1, 2, 3, 4):
        started.clear()
        result = train(network, data, optimizer=optimizer, validation=0.1, backend="numba", threads=threads, **settings)
        # The 70 validation samples are predicted by at most two threads.
        assert started == [threads, min(threads, 2)] * 2
        digests.append(_digest(result))
    assert digests == digests[:1] * 4


_PROGRAM = """
import hashlib, sys
from fastnn import Network, load_digits, train
data = load_digits()
settings = {"dropout": 0.2, "validation": 0.2, "seed": 7, "threads": 1}
result = train(Network.for_data(data, (40,)), data, epochs=3, backend=sys.argv[1], **settings)
arrays = [*result.network.weights, *result.network.biases, result.history.column("loss")]
print(hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest())
"""


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_same_bits_in_a_fresh_process(backend):
    one, other = (subprocess.check_output([sys.executable, "-c", _PROGRAM, backend], text=True) for _ in range(2))
    assert one == other
    assert len(one) == 65


def test_another_seed_gives_another_result(digits):
    network = Network.for_data(digits, (16,))
    one, other = (train(network, digits, epochs=1, seed=seed, backend="numba") for seed in (0, 1))
    assert _digest(one) != _digest(other)


@pytest.mark.parametrize("settings", [{}, {"dropout": 0.3}, {"optimizer": "adam", "learning_rate": 0.01, "l2": 0.001}])
def test_both_backends_have_the_same_history_in_float64(digits, settings):
    """Both shuffle identically and drop the same units, so complete runs agree to many digits."""
    network = Network.for_data(digits, (48, 24), dtype="float64")
    settings = {"epochs": 3, "validation": 0.2, **settings}
    numba, numpy = (train(network, digits, backend=backend, **settings).history for backend in ("numba", "numpy"))
    for name in ("loss", "accuracy", "validation_loss", "validation_accuracy"):
        np.testing.assert_allclose(numba.column(name), numpy.column(name), rtol=1e-6)


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_a_full_batch_step_equals_values_computed_by_hand(backend):
    """One input, no hidden layer and two samples."""
    data = Dataset(np.array([[1.0], [3.0]]), np.array([0, 1]))
    network = Network([np.zeros((1, 2))], [np.zeros(2)])
    result = train(network, data, epochs=1, batch_size=None, learning_rate=0.5, backend=backend)
    assert result.history[0].loss == pytest.approx(np.log(2))
    # Probabilities are 1/2: dweight = mean of input * (1/2 - one_hot) = (-1/2 + 3/2) / 2 = 1/2 and -1/2; dbias = 0.
    np.testing.assert_allclose(result.network.weights[0], [[-0.25, 0.25]])
    np.testing.assert_allclose(result.network.biases[0], [0, 0], atol=1e-16)


def test_the_history_has_one_row_per_epoch_and_one_column_per_metric(digits):
    result = train(
        Network.for_data(digits, (8,)), digits, epochs=3, schedule="exponential:0.5", learning_rate=0.2, validation=0.1
    )
    frame = result.history.to_frame()
    assert list(frame.columns) == list(EpochRecord.__annotations__)
    assert list(frame["epoch"]) == [1, 2, 3]
    np.testing.assert_allclose(frame["learning_rate"], [0.2, 0.1, 0.05])
    assert len(result.history[1:]) == 2
    assert "3 epochs" in repr(result.history)


def test_validation_metrics_follow_the_definition_of_loss_and_accuracy(digits):
    """NumPy computes the expected values on the held-out rows, with the L2 term."""
    training, held = hold_out(digits, 0.25, seed=3)
    result = train(Network.for_data(digits, (16,)), training, epochs=2, validation=held, l2=0.01, backend="numpy")
    logits = held.images / 16.0
    for layer, (weight, bias) in enumerate(zip(result.network.weights, result.network.biases, strict=True)):
        logits = logits @ weight.astype(float) + bias
        logits = np.maximum(logits, 0) if layer == 0 else logits
    proba = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    loss = -np.log(proba[np.arange(len(held)), held.labels]).mean()
    loss += 0.005 * sum((weight.astype(float) ** 2).sum() for weight in result.network.weights)
    assert result.history[-1].validation_loss == pytest.approx(loss, rel=1e-5)
    assert result.history[-1].validation_accuracy == np.mean(proba.argmax(axis=1) == held.labels)
    assert evaluate(result.network, held, l2=0.01)[0] == pytest.approx(loss, rel=1e-5)


def test_hold_out_splits_into_disjoint_parts_that_cover_all_rows(digits):
    marked = Dataset(np.arange(100.0).reshape(-1, 1), np.zeros(100, np.int64))
    rest, held = hold_out(marked, 0.3, seed=1)
    assert (len(rest), len(held)) == (70, 30)
    assert sorted([*rest.images[:, 0], *held.images[:, 0]]) == list(range(100))
    with pytest.raises(SettingsError, match="leaves none"):
        hold_out(marked.take(slice(0, 1)), 0.5)


@pytest.mark.parametrize(("share", "n"), [(0.3, 100), (0.001, 5000), (0.6, 3001)])
def test_hold_out_in_place_gives_the_same_parts_as_views(share, n):
    images = np.arange(2.0 * n).reshape(n, 2)
    copied = hold_out(Dataset(images.copy(), np.arange(n)), share, seed=4)
    data = Dataset(images, np.arange(n))
    for part, expected in zip(hold_out(data, share, seed=4, in_place=True), copied, strict=True):
        np.testing.assert_array_equal(part.images, expected.images)
        np.testing.assert_array_equal(part.labels, expected.labels)
        assert np.shares_memory(part.images, data.images)
        assert np.shares_memory(part.labels, data.labels)


def test_early_stopping_restores_the_best_weights(digits):
    """The learning rate grows until the loss rises; the result is the network of the epoch with the lowest loss."""
    training, held = hold_out(digits, 0.3)
    result = train(
        Network.for_data(digits, (24,)), training, epochs=60, validation=held, early_stopping=3, learning_rate=0.05,
        schedule=lambda epoch, epochs: 1.6**epoch,
    )  # fmt: skip
    losses = result.history.column("validation_loss")
    assert result.stopped == "early"
    assert len(losses) < 60
    assert result.best_epoch == losses.argmin() + 1
    assert result.best_epoch == len(losses) - 3
    assert evaluate(result.network, held)[0] == pytest.approx(losses.min(), rel=1e-6)


def test_early_stopping_can_monitor_accuracy_and_ignores_small_gains():
    def record(loss, accuracy):
        return EpochRecord(1, 0.1, 0.0, 0.0, loss, accuracy, 0.0)

    assert EarlyStopping(monitor="validation_accuracy").improves(record(9, 0.9), record(1, 0.8))
    assert not EarlyStopping(min_delta=0.1).improves(record(0.95, 0), record(1, 0))
    assert EarlyStopping(min_delta=0.1).improves(record(0.85, 0), record(1, 0))
    assert EarlyStopping().improves(record(1, 0), None)


def test_callbacks_run_after_each_epoch_and_can_end_the_run(digits):
    seen = []

    def callback(end):
        seen.append((end.record.epoch, end.epochs, len(end.history), end.network.sizes))
        return end.record.epoch == 2

    result = train(Network.for_data(digits, (8,)), digits, epochs=5, callbacks=[callback, lambda end: None])
    assert seen == [(1, 5, 1, (64, 8, 10)), (2, 5, 2, (64, 8, 10))]
    assert result.stopped == "callback"
    assert result.best_epoch == 2


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_divergence_names_the_epoch_and_keeps_the_last_finite_network(digits, backend):
    network = Network.for_data(digits, (16,))
    with pytest.raises(DivergenceError, match=r"diverged in epoch 2, .*learning rate 1e\+38") as caught:
        train(network, digits, epochs=4, learning_rate=1e-3, schedule=lambda epoch, _: 1e41**epoch, backend=backend)
    result = caught.value.result
    assert result.stopped == "diverged"
    assert len(result.history) == 1
    one_epoch = train(network, digits, epochs=1, learning_rate=1e-3, backend=backend)
    np.testing.assert_array_equal(result.network.weights[0], one_epoch.network.weights[0])


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_a_run_that_diverges_gives_no_warnings_from_its_validation(digits, backend):
    """After the first step, the weights are finite, but the loss of the validation data is not."""
    network = Network.initialize((64, 16, 10), input_scale=1 / 16, output="identity")
    targets = Dataset(digits.images, np.eye(10)[digits.labels])
    settings = {"learning_rate": 1e9, "validation": 0.2, "batch_size": None, "l2": 1e-3, "backend": backend}
    with pytest.raises(DivergenceError) as caught:  # a warning would be another error
        train(network, targets, epochs=3, **settings)
    assert len(caught.value.result.history) >= 1


@pytest.mark.parametrize(("settings", "error", "words"), [  # test_config has the ranges of the settings
    ({"epochs": 1.5}, SettingsError, "epochs is 1.5, expected a whole number, 1 or more"),
    ({"learning_rate": "0.1"}, SettingsError, "learning_rate is '0.1', expected a finite number greater"),
    ({"learning_rate": float("nan")}, SettingsError, "learning_rate is nan"),
    ({"schedule": "step:0.5,2,3"}, SettingsError, "at most 2: factor, every"),
    ({"schedule": "step:a"}, SettingsError, "'a' is not a list of numbers"),
    ({"schedule": lambda epoch, epochs: float("nan")}, SettingsError, "the schedule's factor is nan"),
    ({"optimizer": "adam", "resume": TrainerState((), 0, 0)}, SettingsError, "resume has 0 slots, expected 2"),
    ({"validation": 1.0}, SettingsError, "held-out share is 1.0"),
    ({"early_stopping": 3}, SettingsError, "early_stopping needs validation data"),
    ({"sample_weight": np.ones(3)}, DataError, r"sample_weight has shape \(3,\)"),
])  # fmt: skip
def test_bad_settings_raise_an_error_of_one_line(digits, settings, error, words):
    with pytest.raises(error, match=words) as caught:
        train(Network.for_data(digits, (4,)), digits, **settings)
    assert "\n" not in str(caught.value)


GOOD = np.ones((3, 4), np.float32)


@pytest.mark.parametrize(("data", "words"), [
    (Dataset(GOOD, np.array([0, 1, 2]), name="my digits"), "my digits: labels run from 0 to 2, expected 0 to 1"),
    (Dataset(GOOD), "has no labels"),
    (Dataset(GOOD * np.float32(np.inf), np.array([0, 1, 0])), "inputs contain NaN or infinity"),
    (Dataset(np.ones((3, 5)), np.array([0, 1, 0])), r"shape \(3, 5\)"),
    (Dataset(GOOD[:0], np.zeros(0, np.int64)), "has no samples"),
])  # fmt: skip
def test_errors_about_bad_data_name_the_data_and_the_fault(data, words):
    with pytest.raises(DataError, match=words):
        train(Network.initialize((4, 3, 2)), data)


VARIANTS = {
    "strided": lambda images: np.repeat(images, 2, axis=1)[:, ::2],
    "read-only": readonly_view,
    "columns first": np.asfortranarray,
    "int16": lambda images: images.astype(np.int16),
    "big-endian float64": lambda images: images.astype(">f8"),
}


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_read_only_strided_and_other_input_dtypes_are_accepted(digits, variant):
    images = digits.images[:200]
    expected = train(Network.for_data(digits, (8,)), digits.take(slice(0, 200)), epochs=1).network
    data = Dataset(variant(images), digits.labels[:200], 16.0)
    found = train(Network.for_data(data, (8,)), data, epochs=1).network
    np.testing.assert_allclose(found.weights[0], expected.weights[0], rtol=1e-4, atol=1e-6)


# Numba gets enough rows that the caller's thread only waits for Ctrl-C while other threads work.
@pytest.mark.parametrize(("backend", "rows"), [("numba", 20_000), ("numpy", 3000)], ids=["numba", "numpy"])
def test_ctrl_c_ends_the_run_with_its_last_complete_epoch(mnist, backend, rows):
    data = mnist[0].take(slice(0, rows))
    network, timers = Network.for_data(data, (64,)), []

    def interrupt_soon(end):
        if end.record.epoch == 2:  # interrupts the third epoch or a later one
            timers.append(threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGINT)))
            timers[0].start()

    with pytest.raises(TrainingInterrupted) as caught:
        train(network, data, epochs=1000, backend=backend, threads=1, callbacks=[interrupt_soon])
    timers[0].join()
    result = caught.value.result
    assert result.stopped == "interrupted"
    assert 2 <= result.best_epoch == len(result.history) < 1000
    whole = train(network, data, epochs=len(result.history), backend=backend, threads=1)
    assert_same_bits(result.network.weights, whole.network.weights)


def test_eight_concurrent_runs_give_the_bits_of_one_run(digits, started):
    """Each run has a team of two threads, so there are more threads than cores."""
    network = Network.for_data(digits, (130,))
    settings = {"epochs": 2, "validation": 0.2, "backend": "numba", "threads": 2}
    expected = _digest(train(network, digits, **settings))
    with ThreadPoolExecutor(8) as pool:
        runs = [pool.submit(train, network, digits, **settings) for _ in range(8)]
    assert [_digest(run.result()) for run in runs] == [expected] * 8
    assert sorted(started) == [2] * 4 * 9  # two epochs and their validation, nine times


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_can_train(digits):
    network = Network.for_data(digits, (130,))
    train(network, digits, epochs=1, backend="numba", threads=2)
    child = os.fork()
    if child == 0:
        try:
            train(network, digits, epochs=1, backend="numba", threads=2)
            os._exit(0)
        except BaseException:
            os._exit(1)
    deadline = time.monotonic() + 30
    while (done := os.waitpid(child, os.WNOHANG))[0] == 0:
        assert time.monotonic() < deadline, "the child hangs"
        time.sleep(0.01)
    assert os.waitstatus_to_exitcode(done[1]) == 0


@pytest.mark.parametrize(("optimizer", "settings", "words"), [
    (SGD, {"momentum": 1.0}, r"momentum is 1\.0"),
    (SGD, {"momentum": 0.0, "nesterov": True}, "nesterov is True with momentum 0"),
    (Adam, {"beta_2": 1}, "beta_2 is 1"),
    (Adam, {"epsilon": 0}, "epsilon is 0"),
])  # fmt: skip
def test_optimizers_refuse_settings_out_of_range(optimizer, settings, words):
    with pytest.raises(SettingsError, match=words):
        optimizer(**settings)


def test_arguments_of_the_wrong_kind_are_named():
    data = load_digits()
    network = Network.for_data(data, (4,))
    result = train(network, data, epochs=1)
    with pytest.raises(SettingsError, match=r"resume is a TrainingResult, .*: try its state"):
        train(network, data, resume=result)
    with pytest.raises(SettingsError, match="config is a dict, expected a TrainingConfig"):
        train(network, data, config={"epochs": 1})
    numbers = Dataset(np.ones((8, 3)), np.ones((8, 1)))
    stopping = EarlyStopping(monitor="validation_accuracy")
    with pytest.raises(SettingsError, match="early_stopping monitors validation_accuracy"):
        train(Network.initialize((3, 1), output="identity"), numbers, validation=0.5, early_stopping=stopping)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_a_schedule_can_change_the_rate_within_epochs(backend):
    """The rates of the parts of an epoch are those of runs of single steps, one after the other."""
    data = Dataset(np.random.default_rng(0).random((40, 6)), np.arange(40) % 3)
    network = Network.initialize((6, 3), dtype="float64")
    config = TrainingConfig(
        epochs=2, batch_size=5, learning_rate=0.5, schedule="one-cycle:0.25,0.1", shuffle=False, backend=backend
    )
    result = train(network, data, config=config)
    trainer = get_backend(backend).trainer(network, data.images, data.labels, batch_size=5)
    rates = []
    for step in range(16):
        # Each of eight batches covers two of the sixteen parts: the later one begins within it.
        place = (2 * (step % 8) + 1.5) / 32 + step // 8 / 2
        factor = 0.1 + 0.45 * (1 - np.cos(np.pi * place / 0.25)) if place < 0.25 else None
        factor = 0.5 * (1 + np.cos(np.pi * (place - 0.25) / 0.75)) if factor is None else factor
        rates.append(0.5 * factor)
        trainer.run_epoch(np.arange(40), 5, rates[-1], range(step % 8, step % 8 + 1))
    assert_all_parity(result.network.weights, trainer.network().weights)
    assert [record.learning_rate for record in result.history] == [config.rate(epoch, 2) for epoch in range(2)]
    assert np.argmax(rates) == 3
