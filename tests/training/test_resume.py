"""A run that stops anywhere and continues has the bits of one that never stopped; what does not match is refused."""

import pickle
import signal
import threading
import warnings
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse

import fastnn
from fastnn import (
    LBFGS,
    Checkpoint,
    DataError,
    Dataset,
    DivergenceError,
    EarlyStopping,
    FileError,
    Network,
    SettingsError,
    TrainingInterrupted,
    load_checkpoint,
    train,
)
from fastnn.files import checkpoint_file
from fastnn.files.checkpoint_file import RunState, previous_path, write_checkpoint
from fastnn.network import BatchNorm, Conv2D, Dense, MaxPool2D
from fastnn.optim.schedules import Cosine, WarmUp
from fastnn.training import checkpoint as module

pytestmark = pytest.mark.usefixtures("copies_after_every_batch")

N, BATCH, EPOCHS = 230, 32, 4
PER_EPOCH = -(-N // BATCH)


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (N, 24)).astype(np.uint8)
    return Dataset(images, (images[:, :6].sum(axis=1) // 300).astype(int) % 5, image_shape=(4, 6))


def bits(state):
    """All that a run leaves, but for times and why it stopped, as comparable bytes."""
    arrays = [*state.network.weights, *state.network.biases, *state.network.statistics]
    arrays += [*state.kept.weights, *state.kept.biases, *state.kept.statistics]
    arrays += [array for slot in state.trainer.slots for half in slot for array in half]
    arrays += state.trainer.statistics
    arrays.append(state.history[:, :6])
    rest = (
        state.trainer.steps,
        state.trainer.epochs,
        state.trainer.sums,
        state.best_epoch,
        state.first,
        state.settings,
    )
    return rest, [(array.shape, array.dtype.str, array.tobytes()) for array in arrays]


def make_network(dtype="float32", output="softmax", n_outputs=5):
    return Network.initialize((24, 12, n_outputs), input_scale=1 / 255, dtype=dtype, output=output)


RUNS = {
    "sgd": {},
    "momentum": {"optimizer": "momentum"},
    "nesterov": {"optimizer": "nesterov"},
    "adam": {"optimizer": "adam", "l2": 0.01},
    "adamw": {"optimizer": "adamw", "learning_rate": 0.01},
    "dropout": {"dropout": 0.3, "optimizer": "adam"},
    "warm-up": {"schedule": "cosine", "warm_up": 2},
    "schedule object": {"schedule": WarmUp(1, Cosine(0.1)), "optimizer": fastnn.SGD(0.5)},
    "early stopping": {"early_stopping": EarlyStopping(2, "validation_accuracy"), "validation": 0.2, "epochs": 12},
    "full batch": {"batch_size": None, "epochs": 6},
    "label smoothing": {"label_smoothing": 0.1, "validation": 0.1},
    "no shuffle": {"shuffle": False},
    "augment": {"augment": "shift=1,rotate=20,noise=0.1", "dropout": 0.2, "validation": 0.2},
    "clipping": {"clip_norm": 0.1, "optimizer": "momentum"},
    "max-norm": {"max_norm": 0.8, "optimizer": "momentum", "learning_rate": 0.3},
    "moving average": {"average": "ema:0.9", "early_stopping": 3, "validation": 0.2, "epochs": 12},
    "mean of epochs": {"average": "swa:0.5", "augment": "shift=1", "optimizer": "adam"},
    "dropout of inputs": {"dropout": (0.2, 0.5), "average": "ema:0.9", "validation": 0.2},
    "frozen": {"frozen": 1, "optimizer": "adam", "early_stopping": 3, "validation": 0.2, "epochs": 12},
    "frozen, dropout": {"frozen": 1, "optimizer": "momentum", "dropout": 0.3},
    "frozen, augmentation": {"frozen": 1, "augment": "shift=1", "dropout": 0.2, "validation": 0.2},
}


def check_resumed(tmp_path, stop_after, network, data, moments, **settings):
    """Stop a run after each number of copies in `moments`, one after the other, and compare it with a whole run."""
    settings = {"epochs": EPOCHS, "batch_size": BATCH, "learning_rate": 0.05, **settings}
    train(network, data, checkpoint=tmp_path / "whole", **settings)
    expected = load_checkpoint(tmp_path / "whole")
    file = tmp_path / "stopped"
    for copies in moments:
        resume = file if file.exists() else None
        stop_after(copies)  # the first copy is made before training
        with pytest.raises(TrainingInterrupted):
            train(network, data, checkpoint=file, resume=resume, **settings)
        assert load_checkpoint(file).stopped == "interrupted"
    stop_after(0)
    train(network, data, checkpoint=file, resume=file, **settings)
    found = load_checkpoint(file)
    assert found.stopped == expected.stopped
    assert bits(found) == bits(expected)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("name", RUNS)
def test_a_stopped_run_continues_to_the_same_bits(name, backend, data, tmp_path, stop_after):
    """In the middle of an epoch, at its last batch, at its end, right after the next first batch, and near the end."""
    moments = (2, 3) if name == "full batch" else (4, PER_EPOCH - 3, 2, 2, PER_EPOCH + 1, 2)
    settings = RUNS[name]
    check_resumed(tmp_path, stop_after, make_network(), data, moments, backend=backend, **settings)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_layers_with_statistics_continue_to_the_same_bits(dtype, backend, data, tmp_path, stop_after):
    network = Network.for_data(data, [Dense(12, "identity"), BatchNorm("relu")], dtype=dtype)
    settings = {"backend": backend, "optimizer": "adam", "validation": 0.1}
    check_resumed(tmp_path, stop_after, network, data, (3, 9), **settings)


@pytest.mark.parametrize("average", ["ema:0.9", "swa:0.5"])
def test_averaged_statistics_continue_to_the_same_bits(average, data, tmp_path, stop_after):
    """The last batch of an epoch has one sample, so the running statistics of the weights change what follows."""
    network = Network.for_data(data.take(np.arange(BATCH * 3 + 1)), [Dense(12, "identity"), BatchNorm("relu")])
    some, settings = data.take(np.arange(BATCH * 3 + 1)), {"backend": "numpy", "average": average, "validation": data}
    check_resumed(tmp_path, stop_after, network, some, (3, 5, 6), **settings)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_layers_for_images_continue_to_the_same_bits(backend, data, tmp_path, stop_after):
    hidden = [Conv2D(3, (2, 3), activation="identity"), BatchNorm("relu"), MaxPool2D((1, 2)), 7]
    network = Network.for_data(data, hidden)
    settings = {"backend": backend, "optimizer": "adam", "dropout": 0.2, "l2": 0.01, "early_stopping": 9}
    check_resumed(tmp_path, stop_after, network, data, (3, 9), validation=0.1, **settings)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("form", ["dense", "sparse", "float"])
def test_threads_and_forms_of_inputs_continue_to_the_same_bits(form, threads, data, tmp_path, stop_after, started):
    images = data.images
    if form == "sparse":
        images = scipy.sparse.csr_array(np.where(images > 180, images, 0))
    elif form == "float":
        images = images.astype(np.float32)
    network = Network.initialize((24, 200, 100, 5), input_scale=1 / 255)
    weight = np.linspace(0, 2, N)
    check_resumed(
        tmp_path, stop_after, network, Dataset(images, data.labels), (2, 11), backend="numba", threads=threads,
        sample_weight=weight, optimizer="momentum",
    )  # fmt: skip
    assert max(started) == threads


def test_other_outputs_continue_to_the_same_bits(data, tmp_path, stop_after):
    targets = np.stack([data.images[:, 0] > 99, data.images[:, 1] > 99], axis=1).astype(float)
    for output in ("logistic", "identity"):
        folder = tmp_path / output
        folder.mkdir()
        network = make_network(output=output, n_outputs=2)
        check_resumed(folder, stop_after, network, Dataset(data.images, targets), (4, 7))


def test_the_number_of_threads_may_change_between_the_parts_of_a_run(data, tmp_path, stop_after, started):
    network = Network.initialize((24, 200, 5), input_scale=1 / 255)
    settings = {"epochs": 3, "batch_size": BATCH, "optimizer": "adam", "backend": "numba"}
    train(network, data, checkpoint=tmp_path / "whole", threads=1, **settings)
    stop_after(5)
    with pytest.raises(TrainingInterrupted):
        train(network, data, checkpoint=tmp_path / "half", threads=2, **settings)
    stop_after(0)
    train(network, data, checkpoint=tmp_path / "half", resume=tmp_path / "half", threads=3)
    states = [replace(load_checkpoint(tmp_path / name), settings={}) for name in ("whole", "half")]
    assert bits(states[0]) == bits(states[1])
    assert {1, 2, 3} <= set(started)


# --- Negative controls: what a checkpoint must hold ------------------------------------------------------------------
CONTROLS = {
    "the seed": lambda state: replace(state, settings={**state.settings, "seed": 1}),
    "a slot": lambda state: replace(
        state, trainer=state.trainer._replace(slots=(state.trainer.slots[0], *_zeros(state.trainer.slots[1:])))
    ),
    "the steps": lambda state: replace(state, trainer=state.trainer._replace(steps=0)),
    "the batch": lambda state: replace(
        state, trainer=state.trainer._replace(sums=state.trainer.sums._replace(batches=state.trainer.sums.batches - 1))
    ),
    "the sums": lambda state: replace(
        state, trainer=state.trainer._replace(sums=state.trainer.sums._replace(loss=0.0, correct=0))
    ),
    "the best network": lambda state: replace(state, kept=state.network),
    "the best epoch": lambda state: replace(state, best_epoch=1),
    "the history": lambda state: replace(state, history=np.where(np.arange(7) == 4, 9.0, state.history)),
    "a weight": lambda state: replace(state, network=_nudged(state.network)),
}


def _zeros(slots):
    return [tuple([np.zeros_like(array) for array in half] for half in slot) for slot in slots]


def _nudged(network):
    first, *rest = network.weights
    return network.like([np.nextafter(first, 9, dtype=first.dtype), *rest], network.biases)


@pytest.mark.parametrize("name", [None, *CONTROLS])
def test_without_any_part_of_the_state_the_bits_differ(name, data, tmp_path, stop_after):
    """A run with early stopping whose best epoch lies before the stop. None: with the whole state, they are equal."""
    settings = {"epochs": 6, "batch_size": BATCH, "optimizer": "adam", "learning_rate": 0.2, "dropout": 0.2}
    settings |= {"early_stopping": 9, "validation": 0.3, "backend": "numpy"}
    train(make_network(), data, checkpoint=tmp_path / "whole", **settings)
    stop_after(34)
    with pytest.raises(TrainingInterrupted):
        train(make_network(), data, checkpoint=tmp_path / "part", **settings)
    stop_after(0)
    state = load_checkpoint(tmp_path / "part")
    assert state.trainer.sums.batches > 1
    assert 1 < state.best_epoch < state.trainer.epochs
    changed = state if name is None else CONTROLS[name](state)
    write_checkpoint(tmp_path / "part", changed)
    if name == "the seed":
        settings["seed"] = 1
    train(make_network(), data, resume=tmp_path / "part", checkpoint=tmp_path / "part", **settings)
    found, expected = (bits(replace(load_checkpoint(tmp_path / each), settings={})) for each in ("part", "whole"))
    assert (found == expected) == (name is None)


# --- Whatever ends a run ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("error", [MemoryError(), BrokenPipeError(), ValueError("mine"), SystemExit(3)])
def test_any_exception_leaves_a_checkpoint_and_has_the_result(error, data, tmp_path, stop_after):
    file = tmp_path / "run.safetensors"
    stop_after(10, error)
    with pytest.raises(type(error)) as raised:
        train(make_network(), data, epochs=2, batch_size=BATCH, checkpoint=file)
    assert raised.value is error
    assert (raised.value.result.stopped, len(raised.value.result.history)) == ("failed", 1)
    assert load_checkpoint(file).trainer.sums.batches == 9 - PER_EPOCH  # the first copy is made before training
    stop_after(0)
    resumed = train(make_network(), data, resume=file)
    whole = train(make_network(), data, epochs=2, batch_size=BATCH)
    assert resumed.history[-1].loss == whole.history[-1].loss


def test_an_exception_of_a_callback_has_the_result(data):
    def fail(end):
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine") as raised:
        train(make_network(), data, epochs=2, callbacks=[fail])
    assert len(raised.value.result.history) == 1


def test_a_second_interrupt_ends_the_writing_and_keeps_the_result(data, tmp_path, stop_after, monkeypatch):
    monkeypatch.setattr(module, "write_checkpoint", lambda *_: signal.raise_signal(signal.SIGINT))
    stop_after(10)
    with pytest.raises(TrainingInterrupted) as raised:
        train(make_network(), data, epochs=2, batch_size=BATCH, checkpoint=tmp_path / "run")
    assert len(raised.value.result.history) == 1


def test_a_diverged_run_continues_with_another_rate(data, tmp_path):
    file = tmp_path / "run.safetensors"
    settings = {"epochs": 6, "batch_size": BATCH, "backend": "numpy"}

    def explode(epoch, epochs):
        return 1.0 if epoch < 3 else 1e30

    with np.errstate(all="ignore"), pytest.raises(DivergenceError) as raised:
        train(make_network(), data, checkpoint=file, schedule=explode, learning_rate=0.1, **settings)
    state = load_checkpoint(file)
    assert state.stopped == "diverged"
    assert len(raised.value.result.history) == state.trainer.epochs == 3
    with pytest.raises(SettingsError, match=r"schedule was .*explode"):
        train(make_network(), data, resume=file)
    with np.errstate(all="ignore"), pytest.raises(DivergenceError):
        train(make_network(), data, resume=file, schedule=explode)
    result = train(make_network(), data, resume=file, schedule=explode, learning_rate=1e-31)
    assert result.history.column("learning_rate").tolist() == [0.1, 0.1, 0.1, 0.1, 0.1, 0.1]


def test_an_early_stopped_run_continues_with_a_larger_patience(data, tmp_path):
    settings = {"epochs": 40, "batch_size": BATCH, "learning_rate": 0.5, "validation": 0.3, "backend": "numpy"}
    file = tmp_path / "run.safetensors"
    early = train(make_network(), data, checkpoint=file, early_stopping=2, **settings)
    assert early.stopped == "early"
    with pytest.raises(SettingsError, match="2 epochs after the best one: to go on, give a larger patience"):
        train(make_network(), data, resume=file, validation=0.3)
    longer = train(make_network(), data, resume=file, validation=0.3, early_stopping=8)
    whole = train(make_network(), data, early_stopping=8, **settings)
    assert len(longer.history) > len(early.history)
    assert longer.history.column("validation_loss").tolist() == whole.history.column("validation_loss").tolist()
    assert longer.best_epoch == whole.best_epoch
    assert (longer.network.weights[0] == whole.network.weights[0]).all()


def test_a_finished_run_continues_with_more_epochs_if_the_rates_stay(data, tmp_path):
    file = tmp_path / "run.safetensors"
    train(make_network(), data, checkpoint=file, epochs=2, schedule="step:0.5,3")
    with pytest.raises(SettingsError, match="ended after epoch 2: to go on, give more epochs than 2"):
        train(make_network(), data, resume=file)
    longer = train(make_network(), data, resume=file, epochs=5)
    whole = train(make_network(), data, epochs=5, schedule="step:0.5,3")
    assert longer.history.column("loss").tolist() == whole.history.column("loss").tolist()
    train(make_network(), data, checkpoint=file, epochs=2, schedule="cosine")
    with pytest.raises(SettingsError, match="epochs was 2, found 5"):
        train(make_network(), data, resume=file, epochs=5)


# --- What does not match ---------------------------------------------------------------------------------------------
@pytest.fixture
def file(data, tmp_path, stop_after):
    stop_after(10)
    with pytest.raises(TrainingInterrupted):
        train(make_network(), data, epochs=3, batch_size=BATCH, checkpoint=tmp_path / "run.safetensors")
    stop_after(0)
    return tmp_path / "run.safetensors"


MISMATCHES = {
    "seed": ({"seed": 1}, "seed was 0, found 1"),
    "batch": ({"batch_size": 16}, "batch_size was 32, found 16"),
    "l2": ({"l2": 0.5}, "l2 was 0.0, found 0.5"),
    "rate": ({"learning_rate": 0.2}, "learning_rate was 0.071, found 0.2"),
    "optimizer": ({"optimizer": "adam"}, "optimizer was sgd, found adam"),
    "dropout": ({"dropout": 0.5}, "dropout was 0.0, found 0.5"),
    "backend": ({"backend": "numpy"}, "backend was numba, found numpy"),
    "patience": ({"early_stopping": 9, "validation": 0.2}, "early_stopping was none, found 9"),
    "validation": ({"validation": 0.2}, "validation data was none, found fraction 0.2"),
    "weights": ({"sample_weight": np.full(N, 2.0)}, "sample weights was none, found"),
}


@pytest.mark.parametrize("name", MISMATCHES)
def test_other_arguments_are_refused_by_name(name, file, data):
    arguments, message = MISMATCHES[name]
    with pytest.raises((SettingsError, DataError), match=message):
        train(make_network(), data, resume=file, **arguments)
    if name != "optimizer":
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert len(train(make_network(), data, resume=file, force=True, **arguments).history) == 3
        assert any(message in str(each.message) for each in caught)


def test_other_data_networks_and_versions_are_refused(file, data, monkeypatch):
    other = Dataset(np.where(np.arange(24) == 3, 0, data.images).astype(np.uint8), data.labels)
    with pytest.raises(DataError, match=r"training data was [0-9a-f]{12}\.\.\., found [0-9a-f]{12}\.\.\.; force=True"):
        train(make_network(), other, resume=file)
    for network, words in (
        (Network.initialize((24, 13, 5), input_scale=1 / 255), "24 -> 12 relu .*expected .*24 -> 13 relu"),
        (make_network("float64"), "float32, expected .*float64"),
        (Network.initialize((24, 12, 5)), "scales its inputs differently"),
    ):
        with pytest.raises(SettingsError, match=words):
            train(network, data, resume=file)
    monkeypatch.setattr(module, "versions", lambda: {"fastnn": "9.9", "numpy": np.__version__})
    with pytest.raises(SettingsError, match=r"fastnn was 0\.1\.0, found 9\.9"):
        train(make_network(), data, resume=file)


def test_arguments_of_the_wrong_kind_are_refused(file, data, tmp_path):
    for arguments, words in (
        ({"resume": 3}, "resume is a int, expected a TrainerState, a RunState or a path"),
        ({"checkpoint": 3}, "checkpoint is a int, expected a Checkpoint or a path"),
        ({"resume": train(make_network(), data, epochs=1)}, "resume is a TrainingResult.*try its state"),
        ({"checkpoint": tmp_path, "optimizer": LBFGS(), "batch_size": None}, "checkpoint is given with L-BFGS"),
    ):
        with pytest.raises(SettingsError, match=words):
            train(make_network(), data, **arguments)
    for arguments, words in (({"every": 0}, "every is 0"), ({"unit": "hours"}, "unit is 'hours'.*expected one of")):
        with pytest.raises(SettingsError, match=words):
            Checkpoint("file", **arguments)
    with pytest.raises(FileError, match=r"the folder .*missing does not exist"):
        train(make_network(), data, checkpoint=tmp_path / "missing" / "file")
    with pytest.raises(FileError, match="no such file"):
        train(make_network(), data, resume=tmp_path / "none")
    assert isinstance(pickle.loads(pickle.dumps(load_checkpoint(file))), RunState)


class _BytesPath:
    def __fspath__(self):
        return b"run"


@pytest.mark.parametrize("path", [3, b"run", None, _BytesPath()])
def test_a_path_that_is_none_is_refused(path):
    with pytest.raises(SettingsError, match=r"path is a \w+, expected a path of str or os\.PathLike"):
        Checkpoint(path)


@pytest.mark.parametrize("path", ["", "/", "a\0b", "none.safetensors", "n" * 250 + ".safetensors"])
def test_a_path_without_a_checkpoint_is_a_file_error(path, data):
    with pytest.raises(FileError):
        train(make_network(), data, resume=path)


# --- What a checkpoint may replace -----------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["run.csv", "run.previous.csv"])
def test_a_file_that_is_no_checkpoint_is_never_replaced(name, data, tmp_path):
    theirs = tmp_path / name
    theirs.write_text("a,b\n1,2\n")
    with pytest.raises(FileError, match=rf"{name}.* not replaced, expected a checkpoint or a new path"):
        train(make_network(), data, epochs=1, checkpoint=tmp_path / "run.csv")
    assert theirs.read_text() == "a,b\n1,2\n"
    assert [each.name for each in tmp_path.iterdir()] == [name]


def test_a_model_is_never_replaced(data, tmp_path):
    fastnn.save(tmp_path / "model.safetensors", make_network())
    with pytest.raises(FileError, match=r"not a fastnn checkpoint.* not replaced"):
        train(make_network(), data, epochs=1, checkpoint=tmp_path / "model.safetensors")
    assert fastnn.load(tmp_path / "model.safetensors")


def test_a_name_that_is_too_long_for_the_file_before_is_refused_before_training(data, tmp_path):
    with pytest.raises(FileError, match=r"previous\.safetensors: cannot write: File name too long"):
        train(make_network(), data, epochs=1, checkpoint=tmp_path / ("n" * 240 + ".safetensors"))


def test_two_trainings_at_once_cannot_have_one_checkpoint(data, tmp_path):
    file, link = tmp_path / "run", tmp_path / "link"
    link.symlink_to(file)
    errors = []

    def train_again(end):
        try:
            train(make_network(), data, epochs=1, checkpoint=link)
        except FileError as error:
            errors.append(str(error))

    train(make_network(), data, epochs=1, checkpoint=file, callbacks=[train_again])
    assert [error.endswith("is the checkpoint of another training that runs") for error in errors] == [True]
    for _ in range(2):  # whatever ended the one before
        with pytest.raises(ZeroDivisionError):
            train(make_network(), data, epochs=1, checkpoint=link, callbacks=[lambda end: 1 / 0])


def test_the_checkpoint_before_is_beside_the_file_of_a_link(file, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "link"
    link.symlink_to(file)
    write_checkpoint(link, load_checkpoint(link))
    assert [each.name for each in link.parent.iterdir()] == ["link"]
    assert previous_path(link) == previous_path(file)
    file.unlink()
    with pytest.warns(RuntimeWarning, match="using the checkpoint before it"):
        load_checkpoint(link)


# --- When checkpoints are written ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("unit", "every", "expected"),
    [
        ("epochs", 2, [2, 4, 5]),
        ("batches", 3, [(0, 3), (0, 6), (1, 1)]),
        ("batches", 8, [1, 2, 3, 4, 5, 5]),
        ("seconds", 1e9, [5]),
    ],
)
def test_checkpoints_are_written_when_they_are_due(unit, every, expected, data, tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(module, "SECONDS_BETWEEN_WRITES", 0.0)
    monkeypatch.setattr(module, "write_checkpoint", lambda path, state: written.append(state))
    train(make_network(), data, epochs=5, batch_size=BATCH, checkpoint=Checkpoint(tmp_path / "run", every, unit))
    found = [(state.trainer.epochs, state.trainer.sums.batches) for state in written]
    expected = [each if isinstance(each, tuple) else (each, 0) for each in expected]
    assert (found if every != 3 else found[:3]) == expected


def test_a_checkpoint_that_fails_is_one_warning_and_training_goes_on(data, tmp_path, monkeypatch):
    written, failures = [], [FileError("disk full"), FileError("disk full"), None, FileError("disk full"), None]

    def write(path, state):
        error = failures.pop(0)
        if error is not None:
            raise error
        written.append(state.trainer.epochs)

    monkeypatch.setattr(module, "SECONDS_BETWEEN_WRITES", 0.0)
    monkeypatch.setattr(module, "write_checkpoint", write)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = train(make_network(), data, epochs=4, checkpoint=Checkpoint(tmp_path / "run", 1, "epochs"))
    assert written == [3, 4]
    assert [str(each.message) for each in caught] == 2 * [
        "fastnn: no checkpoint was written, training goes on: disk full"
    ]
    assert result.stopped == "epochs"


def test_the_checkpoint_before_the_last_one_is_kept_and_used_if_the_last_one_is_damaged(file, data):
    first = load_checkpoint(file)
    write_checkpoint(file, replace(first, seconds=9.0))
    assert previous_path(file).name == "run.previous.safetensors"
    content = bytearray(file.read_bytes())
    content[-9] ^= 1
    file.write_bytes(content)
    with pytest.warns(RuntimeWarning, match=r"run\.safetensors: the file was changed.*using the checkpoint before it"):
        found = load_checkpoint(file)
    assert bits(found) == bits(first)
    file.unlink()  # as between the two renames of a write
    with pytest.warns(RuntimeWarning, match="no such file"):
        assert bits(load_checkpoint(file)) == bits(first)
    assert sorted(each.name for each in file.parent.iterdir()) == ["run.previous.safetensors"]


def test_a_file_that_reads_back_differently_replaces_nothing(file, data, monkeypatch):
    before, state = file.read_bytes(), load_checkpoint(file)
    with monkeypatch.context() as patched:
        patched.setattr("builtins.open", lambda path, mode, opened=open: _Forgetful(opened(path, mode)))
        with pytest.raises(FileError, match="what was read back is not what was written"):
            write_checkpoint(file, state)
    assert file.read_bytes() == before
    assert [each.name for each in file.parent.iterdir()] == [file.name]


class _Forgetful:
    """A file that loses the last byte of what is written."""

    def __init__(self, file):
        self._file = file

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()

    def write(self, data):
        return self._file.write(data[:-1])


# --- States of callbacks ---------------------------------------------------------------------------------------------
class Noise:
    """A stateful order of rows: each epoch continues one stream of random numbers."""

    def __init__(self):
        self._generator, self.calls = np.random.RandomState(3), 0

    def __call__(self, rows):
        self.calls += 1
        return self._generator.permutation(rows)

    def state_dict(self):
        _, keys, position, *_ = self._generator.get_state()
        return {"calls": self.calls, "keys": keys, "position": int(position)}

    def load_state_dict(self, state):
        self.calls = state["calls"]
        self._generator.set_state(("MT19937", state["keys"], state["position"]))


def test_states_of_callbacks_and_orders_are_saved(data, tmp_path, stop_after):
    whole, file = Noise(), tmp_path / "run"
    settings = {"epochs": 4, "batch_size": BATCH, "backend": "numpy"}
    expected = train(make_network(), data, shuffle=whole, **settings)
    stop_after(PER_EPOCH + 3)
    with pytest.raises(TrainingInterrupted):
        train(make_network(), data, shuffle=Noise(), checkpoint=file, **settings)
    stop_after(0)
    later = Noise()
    found = train(make_network(), data, shuffle=later, resume=file, **settings)
    assert later.calls == whole.calls == 4
    assert found.history.column("loss").tolist() == expected.history.column("loss").tolist()
    with (
        pytest.warns(RuntimeWarning, match="shuffle was"),
        pytest.raises(SettingsError, match="has the states of 1 callbacks, found 0 with states"),
    ):
        train(make_network(), data, resume=file, shuffle=np.flip, force=True)


def test_a_state_that_is_no_plain_value_is_a_warning(data, tmp_path):
    class Odd:
        def __call__(self, end):
            return None

        def state_dict(self):
            return {"value": threading}

        def load_state_dict(self, state):
            raise AssertionError

    with pytest.warns(RuntimeWarning, match="states of the callbacks cannot be saved"):
        train(make_network(), data, epochs=1, callbacks=[Odd()], checkpoint=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_rate_search_is_kept(data, tmp_path, stop_after):
    file = tmp_path / "run"
    stop_after(3)
    with pytest.raises(TrainingInterrupted):
        train(make_network(), data, learning_rate="auto", epochs=2, batch_size=BATCH, checkpoint=file, backend="numpy")
    stop_after(0)
    found = train(make_network(), data, resume=file)
    whole = train(make_network(), data, learning_rate="auto", epochs=2, batch_size=BATCH, backend="numpy")
    assert found.rate_search.suggestion == whole.rate_search.suggestion
    assert (found.rate_search.trial_losses == whole.rate_search.trial_losses).all()
    assert found.history[-1].loss == whole.history[-1].loss


def test_files_of_version_1_are_loaded(file, tmp_path, monkeypatch):
    state = load_checkpoint(file)
    monkeypatch.setattr(checkpoint_file, "_VERSION", "1")
    write_checkpoint(tmp_path / "old", state)
    assert b'"format_version":"1"' in (tmp_path / "old").read_bytes()
    assert bits(load_checkpoint(tmp_path / "old")) == bits(state)


def test_equal_states_give_equal_bytes(file, tmp_path):
    state = load_checkpoint(file)
    write_checkpoint(tmp_path / "again", state)
    assert (tmp_path / "again").read_bytes() == file.read_bytes()
    assert checkpoint_file.load_checkpoint(tmp_path / "again").parts == {}
