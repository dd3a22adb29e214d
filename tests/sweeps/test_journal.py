"""The journal of a sweep: what is finished is never redone, whatever ends the process, and nothing is mixed into it."""

import errno
import json
import os
import signal
import subprocess
import sys
import time

import pytest

import fastnn
from fastnn.errors import DataError, FileError
from fastnn.files.lock import FolderLock
from fastnn.sweeps import sweep as module
from fastnn.sweeps.journal import JOURNAL

SETTINGS = {"learning_rate": [0.1, 0.3]}
FIXED = {"hidden": (4,), "epochs": 1, "backend": "numpy"}


def _sweep(folder, **changed):
    return fastnn.sweep(
        "digits", **{"settings": SETTINGS, "seeds": [0, 1], "out": folder, "jobs": 1, **FIXED, **changed}
    )


@pytest.fixture
def folder(tmp_path):
    """The folder of a finished sweep of four runs."""
    _sweep(tmp_path / "sweep")
    return tmp_path / "sweep"


@pytest.fixture
def trained(monkeypatch):
    """The keys of the runs that are run from now on."""
    found, in_threads = [], module.in_threads

    def noted(shared, runs, jobs):
        found.extend(run.key for run in runs)
        yield from in_threads(shared, runs, jobs)

    monkeypatch.setattr(module, "in_threads", noted)
    return found


def test_a_finished_run_is_not_redone(folder, trained):
    before = (folder / JOURNAL).read_bytes()
    again = _sweep(folder)
    assert (again.n_done_before, trained) == (4, [])
    assert (folder / JOURNAL).read_bytes() == before
    assert [record.digest for record in again.records] == [record.digest for record in _sweep(None).records]


def test_more_seeds_and_values_run_only_what_is_new(folder, trained):
    more = _sweep(folder, seeds=[0, 1, 2], settings={"learning_rate": [0.1, 0.2, 0.3]})
    assert more.n_done_before == 4
    assert len(trained) == 9 - 4
    assert [record.settings["learning_rate"] for record in more.records[::3]] == [0.1, 0.2, 0.3]
    # What a run is does not depend on which of its settings vary.
    fixed = _sweep(folder, settings=None, learning_rate=0.3)
    assert (fixed.n_done_before, fixed.records[0].settings) == (2, {})


@pytest.mark.parametrize(
    "changed", [{"epochs": 2}, {"hidden": (5,)}, {"l2": 0.1}, {"dtype": "float64"}, {"test": True}]
)
def test_other_settings_are_other_runs(changed, folder, trained):
    if changed.get("test"):  # its data are a part of what the journal is about
        with pytest.raises(DataError, match="the test data of its runs: none; found now: 359 samples"):
            _sweep(folder, **changed)
        return
    assert _sweep(folder, **changed).n_done_before == 0
    assert len(trained) == 4


def test_other_data_are_refused(folder):
    data = fastnn.load_digits()
    with pytest.raises(DataError, match="the test data of its runs: none; found now: 359 samples"):
        _sweep(folder, test=True)
    with pytest.raises(DataError, match=r"the training data of its runs: 1,438 samples .*; found now: 1,617 samples"):
        _sweep(folder, data=data)


def test_runs_from_another_network_or_with_weights_are_refused(tmp_path):
    data = fastnn.load_digits()
    training, held = fastnn.hold_out(data, 0.1)
    networks = [fastnn.Network.for_data(data, (4,), seed=seed) for seed in (0, 1)]

    def sweep(network, **options):
        fastnn.sweep(network, training, seeds=[0], validation=held, epochs=1, out=tmp_path, **options)

    sweep(networks[0])
    with pytest.raises(DataError, match="the initial network of its runs"):
        sweep(networks[1])
    with pytest.raises(DataError, match="the sample weights of its runs: none"):
        sweep(networks[0], sample_weight=[1.0] * len(training))


def test_other_versions_are_refused(folder, monkeypatch):
    monkeypatch.setattr("fastnn.sweeps.runs.bit_versions", lambda backend: {"numpy": "9.9"})
    with pytest.raises(DataError, match=r"the versions of its runs: .*; found now: numpy 9\.9"):
        _sweep(folder)


@pytest.mark.parametrize("n_bytes", [1, 50, 400])
def test_an_incomplete_last_line_is_dropped_and_said(n_bytes, folder, trained, caplog):
    path = folder / JOURNAL
    content = path.read_bytes()
    path.write_bytes(content[:-n_bytes])
    again = _sweep(folder)
    assert "the last line is incomplete" in caplog.text
    assert (again.n_done_before, len(trained)) == (3, 1)
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert [{**line, "seconds": 0} for line in lines[1:]] == [
        {**json.loads(line), "seconds": 0} for line in content.splitlines()[1:]
    ]


def test_a_journal_without_a_whole_line_begins_again(folder):
    (folder / JOURNAL).write_bytes(b'{"format": "fast')
    assert _sweep(folder).n_done_before == 0


@pytest.mark.parametrize(("line", "text", "message"), [
    (0, b"{}", "line 1 is damaged: expected the format"),
    (0, b"\xff\xfe", "line 1 is damaged"),
    (1, b"{}", "line 2 is damaged: expected a record with the fields settings, seed"),
    (2, b"[" * 100_000, "line 3 is damaged"),
    (2, b'{"seed": ', "line 3 is damaged"),
])  # fmt: skip
def test_a_damaged_line_is_an_error_that_names_it(line, text, message, folder):
    lines = (folder / JOURNAL).read_bytes().splitlines()
    lines[line] = text
    (folder / JOURNAL).write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(DataError, match=message):
        _sweep(folder)


def test_a_run_that_failed_is_tried_again_and_one_that_diverged_is_not(tmp_path, trained):
    def fail(run):
        return [lambda end: 1 / 0] if should_fail and run.seed == 0 else []

    settings = {"learning_rate": [0.1, 1e30]}
    should_fail = True
    first = _sweep(tmp_path, settings=settings, callbacks=fail)
    assert [record.stopped for record in first.records] == ["failed", "epochs", "diverged", "diverged"]
    should_fail = False
    del trained[:]
    second = _sweep(tmp_path, settings=settings, callbacks=fail)
    assert [record.stopped for record in second.records] == ["epochs", "epochs", "diverged", "diverged"]
    assert trained == [first.records[0].key]
    assert _sweep(tmp_path, settings=settings, callbacks=fail).n_done_before == 4


def test_two_sweeps_at_once_do_not_share_a_folder(folder):
    lock = FolderLock(folder)
    try:
        with pytest.raises(FileError, match=rf"is in use by process {os.getpid()} on .*, expected one sweep at a time"):
            _sweep(folder)
    finally:
        lock.release()
    assert _sweep(folder).n_done_before == 4


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(FileError, match=r"holds other files, such as notes\.txt"):
        _sweep(tmp_path)
    with pytest.raises(FileError, match="cannot be used as the folder of a sweep"):
        _sweep(tmp_path / "notes.txt" / "sweep")
    assert os.listdir(tmp_path) == ["notes.txt"]


def test_a_full_disk_loses_no_run(tmp_path, monkeypatch, caplog):
    write, left = os.write, [0]

    def failing(descriptor, data):
        if left[0] and len(data) > 100 and b'"seed"' in data:
            left[0] -= 1
            write(descriptor, data[:20])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data)

    monkeypatch.setattr("fastnn.sweeps.journal.os.write", failing)
    left[0] = 2
    result = _sweep(tmp_path)
    assert caplog.text.count("cannot be written: No space left on device") == 1
    lines = [json.loads(line) for line in (tmp_path / JOURNAL).read_bytes().splitlines()[1:]]
    assert [line["key"] for line in lines] == [record.key for record in result.records]
    left[0] = 10**6
    with pytest.raises(FileError, match="2 finished runs cannot be written"):
        _sweep(tmp_path, seeds=[7])
    left[0] = 0
    assert _sweep(tmp_path).n_done_before == 4


@pytest.mark.slow
def test_a_sweep_that_is_killed_goes_on(tmp_path):
    """Report 18: kill -9 leaves what was finished, and no lock."""
    folder = tmp_path / "sweep"
    program = [
        sys.executable,
        "-m",
        "fastnn",
        "sweep",
        "--quiet",
        "--recipe",
        "digits",
        "--hidden",
        "4",
        "--epochs",
        "20",
    ]
    program += ["--set", "learning_rate=0.1,0.3", "--backend", "numpy", "--jobs", "2", "--out", str(folder)]
    seeds, finished, kills = ["--seeds", "0-5"], {}, 0
    while True:
        process = subprocess.Popen([*program, *seeds], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        limit = time.monotonic() + 60
        while process.poll() is None and kills < 2 and time.monotonic() < limit:
            if len(_keys(folder)) > len(finished) + 1:  # it has gone on
                os.kill(process.pid, signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.005)
        _, printed = process.communicate()
        lines = _lines(folder)
        assert all(lines[key] == line for key, line in finished.items())  # nothing was done again
        finished = lines
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, printed
    assert kills >= 1
    assert len(finished) == 12
    options = {"settings": SETTINGS, "seeds": range(6), "hidden": (4,), "epochs": 20, "backend": "numpy"}
    whole = fastnn.sweep("digits", **options)
    assert {key: line["digest"] for key, line in finished.items()} == {each.key: each.digest for each in whole.records}


def _lines(folder):
    """The whole lines of the runs of a journal, by their keys; each run has one."""
    try:
        content = (folder / JOURNAL).read_bytes()
    except FileNotFoundError:
        return {}
    records = [json.loads(line) for line in content[: content.rfind(b"\n") + 1].splitlines()[1:]]
    assert len({record["key"] for record in records}) == len(records)
    return {record["key"]: record for record in records}


def _keys(folder):
    return _lines(folder).keys()
