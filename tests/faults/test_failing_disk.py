"""Failing disks: after any failing call, a full disk or a power loss there is the old file or the new one, whole."""

import json
import subprocess
import sys
import warnings
from functools import cache
from pathlib import Path

import pytest

import fastnn
from fastnn.cli import main
from fastnn.errors import FileError
from fastnn.files.atomic import write_atomically
from fastnn.files.checkpoint_file import write_checkpoint
from fastnn.plots import LearningCurveDisplay
from tests.faults.failing import ERRORS, FailingCalls, RecordedCalls, states_after_power_loss, temporary_files
from tests.faults.formats import CSV, checkpoint_state
from tests.faults.test_every_byte import assert_same_state

pytestmark = pytest.mark.faults

MOST_CALLS = 3000


def _model(seed):
    return fastnn.Network.initialize((4, 3, 2), seed=seed)


def _history():
    record = fastnn.training.history.EpochRecord(1, 0.1, 2.0, 0.5, float("nan"), float("nan"), 0.1)
    return fastnn.History([record])


class _DrawnOnce(LearningCurveDisplay):
    """A figure that is drawn once for each resolution."""

    _render = cache(LearningCurveDisplay._render)


@cache
def _figure():
    return _DrawnOnce.from_history(_history())


# What writes a file: a function of its path and a number, which tells the old content from the new.
WRITERS = {
    "fastnn.save": lambda path, number: fastnn.save(path, _model(number)),
    "write_atomically": lambda path, number: write_atomically(path, bytes([number]) * 5000),
    "figure": lambda path, number: _figure().save(path, dpi=20 + number),
}


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from there on"])
@pytest.mark.parametrize("existing", [True, False], ids=["old file", "no file"])
@pytest.mark.parametrize("writer", WRITERS)
def test_the_nth_call_fails(faults, memory_folder, writer, existing, lasting):
    path, write = memory_folder / "file.png", WRITERS[writer]
    write(path, 1)
    old = path.read_bytes()
    write(path, 2)
    new = path.read_bytes()
    assert old != new
    for error in ERRORS:
        for nth in range(1, MOST_CALLS):
            path.unlink(missing_ok=True)
            if existing:
                path.write_bytes(old)
            with FailingCalls(memory_folder, nth, error, lasting) as calls:
                try:
                    write(path, 2)
                    message = ""
                except FileError as failure:
                    message = str(failure)
            _check_outcome(path, calls.failed, old if existing else None, new, message)
            if not calls.failed:
                break
            faults.counts["calls to a disk that failed"] += 1
        assert 5 < nth < MOST_CALLS - 1
        assert path.read_bytes() == new
        assert not message


def _check_outcome(path, failed, old, new, message):
    """Assert that a failed write left the old file or the new one, and said so in one line."""
    content = path.read_bytes() if path.exists() else None
    assert content in (old, new), f"{failed} left a part of the file"
    if message:
        assert message.isprintable()
        assert str(path) in message
    else:
        assert content == new, f"a failing {failed} went unnoticed"
    left = temporary_files(path.parent)
    assert not left or set(failed) & {"unlink", "remove"}, f"left by {failed}"  # what cannot be removed stays
    for temporary in left:
        temporary.unlink()


@pytest.fixture
def flowers(memory_folder):
    """The path of a small table, outside of the folder of runs."""
    path = memory_folder / "flowers.csv"
    path.write_bytes(CSV * 1 + CSV.partition(b"\n")[2] * 8)
    return path


def _command(flowers, out, *options):
    return [
        "train", "--data", str(flowers), "--out", str(out), "--backend", "numpy", "--epochs", "3", "--quiet",
        "--hidden", "4", *options,
    ]  # fmt: skip


def _assert_whole(folder):
    """Assert that every file that a run left can be read."""
    for path in folder.rglob("*"):
        if path.suffix == ".safetensors" and "checkpoint" not in path.name:
            fastnn.load(path)
        elif path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".csv":
            assert path.read_bytes().endswith(b"\n")
        elif path.suffix == ".png":
            assert path.read_bytes().endswith(b"IEND\xaeB`\x82")


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from there on"])
def test_the_nth_call_of_a_run_fails(faults, memory_folder, flowers, capsys, monkeypatch, lasting):
    """Every call, or every third of those that fail from there on, with one of the four errors in turn.

    With more faults all of them, and the figures, which take most of the time.
    """
    if faults.times < 10:
        monkeypatch.setattr("fastnn.runs.folder.RunFolder.save_figures", lambda *_: None)
    monkeypatch.setattr("fastnn.runs.folder._PAUSES", (0.0, 0.0, 0.0))
    out = memory_folder / "runs" / "run"
    problems = []
    for nth in range(1, MOST_CALLS, 3 if lasting and faults.times < 10 else 1):
        with FailingCalls(memory_folder / "runs", nth, ERRORS[nth % 4], lasting) as calls:
            try:
                code = main(_command(flowers, out))
            except SystemExit as stop:
                code = stop.code
            except BaseException as error:
                code = f"{type(error).__name__}: {error}"
        printed = capsys.readouterr().err
        what = f"call {nth}, {calls.made[nth - 1] if len(calls.made) >= nth else ''}: {calls.failed}"
        if code not in (0, 1):
            problems.append(f"{what}: ended with {code}")
        if code == 1 and not printed.strip():
            problems.append(f"{what}: no message")
        if "Traceback" in printed:
            problems.append(f"{what}: {printed[-300:]}")
        if temporary_files(memory_folder) and not set(calls.failed) & {"unlink", "remove"}:
            problems.append(f"{what}: left a temporary file")
        _assert_whole(memory_folder / "runs")
        for path in sorted((memory_folder / "runs").rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        if not calls.failed:
            break
        faults.counts["calls to a disk that failed"] += 1
    assert not problems, "\n".join(problems[:20])
    assert nth > 20
    assert code == 0


LIMITED = """
import os, resource, sys
from pathlib import Path
import fastnn
from fastnn.errors import FileError
path, other = sys.argv[1:]
old = Path(path).read_bytes()
network, size, refused = fastnn.load(other).network, os.path.getsize(other), 0
limits = [*range(0, size, 50), size - 1]
for limit in limits:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        fastnn.save(path, network)
    except FileError as error:
        refused += str(error).isprintable() and path in str(error)
    assert Path(path).read_bytes() == old
    assert os.listdir(os.path.dirname(path)) == [os.path.basename(path)]
resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
fastnn.save(path, network)
assert Path(path).read_bytes() == Path(other).read_bytes()
print(refused, len(limits))
"""


def test_a_limit_of_file_sizes_is_one_error_and_the_old_file_stays(faults, memory_folder):
    """Like a full disk, but without the rights of root: each limit lets another part of the file be written."""
    (memory_folder / "run").mkdir()
    path, other = memory_folder / "run" / "model.safetensors", memory_folder / "other.safetensors"
    fastnn.save(path, _model(1))
    fastnn.save(other, _model(2))
    arguments = [sys.executable, "-W", "error", "-c", LIMITED, str(path), str(other)]
    run = subprocess.run(arguments, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert not run.stderr
    refused, tried = map(int, run.stdout.split())
    assert refused == tried
    faults.counts["writes that a limit of file sizes cut"] += tried


def _recorded(folder, path, number):
    """Save a model; return the changes of the disk."""
    with RecordedCalls(folder) as calls:
        fastnn.save(path, _model(number))
    return calls.changes


@pytest.mark.parametrize("existing", [True, False], ids=["old file", "no file"])
def test_a_power_loss_leaves_the_old_file_or_the_new_one(faults, memory_folder, existing):
    path = memory_folder.resolve() / "model.safetensors"
    fastnn.save(path, _model(2))
    new, old = path.read_bytes(), None
    path.unlink()
    if existing:
        fastnn.save(path, _model(1))
        old = path.read_bytes()
    changes = _recorded(path.parent, path, 2)
    assert [name for name, _, _ in changes if name != "create"] == ["write", "fsync", "replace", "fsync"]
    before = {str(path): old} if existing else {}
    found = [state.get(str(path)) for state in states_after_power_loss(changes, before, path.parent)]
    assert set(found) == {old, new}
    faults.counts["states of a disk after a power loss"] += len(found)
    finished = states_after_power_loss(changes, before, path.parent, len(changes))
    assert {state.get(str(path)) for state in finished} == {new}, "a write that returned can be lost"


def test_the_simulation_of_a_power_loss_notices_a_missing_sync(memory_folder):
    """Without the sync of the file, it may become empty; without that of the folder, it may be lost."""
    path = memory_folder.resolve() / "model.safetensors"
    changes = _recorded(path.parent, path, 1)
    of_file, of_folder = (k for k, change in enumerate(changes) if change[0] == "fsync")
    for at, lost in ((of_file, b""), (of_folder, None)):
        without = changes[:at] + changes[at + 1 :]
        finished = states_after_power_loss(without, {}, path.parent, len(without))
        assert lost in [state.get(str(path)) for state in finished]


def _checkpoint_outcome(folder, states):
    """Return the number of the state that the checkpoint in a folder has, after a fault."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the checkpoint before the last one is used
        found = fastnn.load_checkpoint(folder / "checkpoint.safetensors")
    number = len(found.history) - len(states[0].history)
    assert_same_state(found, states[number])
    return number


@pytest.fixture(scope="module")
def states():
    """Three states of a run, of one after the other."""
    return [checkpoint_state(epochs) for epochs in (2, 3, 4)]


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from there on"])
@pytest.mark.parametrize("error", ERRORS)
def test_the_nth_call_fails_while_a_checkpoint_is_written(faults, memory_folder, states, error, lasting):
    path = memory_folder / "checkpoint.safetensors"
    for nth in range(1, MOST_CALLS):
        for number in (0, 1):
            write_checkpoint(path, states[number])
        with FailingCalls(memory_folder, nth, error, lasting) as calls:
            try:
                write_checkpoint(path, states[2])
                message = ""
            except FileError as failure:
                message = str(failure)
        assert _checkpoint_outcome(memory_folder, states) in ((1, 2) if message else (2,)), calls.failed
        for temporary in temporary_files(memory_folder):
            assert set(calls.failed) & {"unlink", "remove"}, f"left by {calls.failed}"
            temporary.unlink()
        if not calls.failed:
            break
        faults.counts["calls to a disk that failed"] += 1
    assert 8 < nth < MOST_CALLS - 1
    assert not message


def test_a_power_loss_leaves_a_checkpoint(faults, memory_folder, states):
    folder = memory_folder.resolve() / "run"
    folder.mkdir()
    path = folder / "checkpoint.safetensors"
    for number in (0, 1):
        write_checkpoint(path, states[number])
    before = {str(file): file.read_bytes() for file in folder.iterdir()}
    with RecordedCalls(folder) as calls:
        write_checkpoint(path, states[2])
    after, found = memory_folder / "after", set()
    after.mkdir()
    for state in states_after_power_loss(calls.changes, before, folder):
        for old in after.iterdir():
            old.unlink()
        for name, data in state.items():
            (after / Path(name).name).write_bytes(data)
        found.add(_checkpoint_outcome(after, states))
        faults.counts["states of a disk after a power loss"] += 1
    assert found == {1, 2}
