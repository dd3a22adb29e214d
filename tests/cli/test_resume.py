"""`fastnn train --resume`: the files of a run that was stopped anywhere are those of the run that never stopped."""

import json
import shutil
import warnings

import numpy as np
import pytest

from fastnn import load, load_checkpoint
from fastnn.cli.command import main
from fastnn.files.checkpoint_file import previous_path
from fastnn.runs import folder as folder_module
from fastnn.runs.saved import read_run

pytestmark = pytest.mark.usefixtures("copies_after_every_batch", "undrawn_figures")

RUN = ["--recipe", "digits", "--epochs", "3", "--quiet", "--backend", "numpy"]
# Values that say when and how fast a run was.
TIMES = {"date", "seconds", "compile_seconds"}


def _train(*arguments):
    return main(["train", *map(str, arguments)])


def _files(folder):
    """The files of a run without the times in them, by name."""
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    report = json.loads(found["report.json"])
    report["last_epoch"].pop("seconds")
    found["report.json"] = {key: value for key, value in report.items() if key not in TIMES}
    found["history.csv"] = [line.rsplit(b",", 1)[0] for line in found["history.csv"].splitlines()]
    del found["checkpoint.safetensors"]
    return found


@pytest.fixture
def stopped(tmp_path, stop_after):
    """The folder of a run that was interrupted in the middle of its second epoch."""
    stop_after(50)
    assert _train(*RUN, "--out", tmp_path / "run") == 130
    stop_after(0)
    return tmp_path / "run"


@pytest.mark.parametrize(
    "settings",
    [
        ["--optimizer", "adam", "--dropout", "0.2", "--patience", "2", "--epochs", "6"],
        ["--optimizer", "momentum", "--schedule", "cosine", "--warm-up", "2"],
        ["--learning-rate", "auto"],
    ],
    ids=["adam, dropout and early stopping", "momentum and a schedule", "a rate search"],
)
@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_a_stopped_run_continues_to_the_same_files(settings, backend, tmp_path, stop_after, capsys):
    settings = [*RUN[:-1], backend, *settings]
    assert _train(*settings, "--out", tmp_path / "whole") == 0
    stop_after(4)
    assert _train(*settings, "--out", tmp_path / "part") == 130
    stop_after(30)
    assert _train("--resume", tmp_path / "part") == 130
    stop_after(0)
    assert _train("--resume", tmp_path / "part", "--quiet") == 0
    assert _files(tmp_path / "part") == _files(tmp_path / "whole")
    assert "checkpoint.safetensors" in {path.name for path in (tmp_path / "part").iterdir()}


def _kill(stage, monkeypatch):
    """Make a run end at a stage as if it were killed: nothing is written after it."""

    class Killed(BaseException):
        pass

    def fail(*_, **__):
        raise Killed

    monkeypatch.setattr(folder_module.RunFolder, stage, fail)
    return Killed


@pytest.mark.parametrize("stage", ["begin", "save", "evaluate", "save_figures"])
def test_a_run_that_was_killed_at_any_stage_continues(stage, tmp_path, monkeypatch):
    """Before training, after training, before the evaluation and before the figures."""
    assert _train(*RUN, "--out", tmp_path / "whole") == 0
    with monkeypatch.context() as patched, pytest.raises(_kill(stage, patched)):
        _train(*RUN, "--out", tmp_path / "part")
    if stage == "begin":
        assert not (tmp_path / "part").exists()
        return
    assert _train("--resume", tmp_path / "part", "--quiet") == 0
    assert _files(tmp_path / "part") == _files(tmp_path / "whole")


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_again(tmp_path, stopped, capsys):
    assert _train(*RUN, "--out", tmp_path / "whole") == 0
    report = json.loads((stopped / "report.json").read_bytes())
    for path in stopped.iterdir():
        path.unlink()
    (stopped / "report.json").write_text(json.dumps({**report, "stopped": "running"}))
    capsys.readouterr()
    assert _train("--resume", stopped) == 0
    assert "fastnn: the run had no checkpoint yet and begins again" in capsys.readouterr().err
    assert _files(stopped) == _files(tmp_path / "whole")


def test_a_run_that_was_killed_is_read_from_its_checkpoint(stopped, tmp_path, capsys):
    model, report = (stopped / name for name in ("model.safetensors", "report.json"))
    assert load(model).network.n_outputs == 10
    killed = {**json.loads(report.read_bytes()), "stopped": "running", "epochs": 0, "last_epoch": None}
    report.write_text(json.dumps(killed))
    (stopped / "history.csv").unlink()
    run = read_run(stopped)
    assert (len(run.history), run.report["epochs"], run.report["best_epoch"]) == (1, 1, 1)
    shutil.copytree(stopped, tmp_path / "other")
    for command in (["compare", stopped, tmp_path / "other", "--out", tmp_path / "both.svg"], ["report", stopped]):
        assert main([str(each) for each in command]) == 0
    shutil.copytree(stopped, tmp_path / "fresh")
    (tmp_path / "fresh" / "checkpoint.safetensors").unlink()
    assert main(["compare", str(stopped), str(tmp_path / "fresh")]) == 1
    assert "has no whole epoch yet, expected one; continue the run with" in capsys.readouterr().err


def test_it_says_where_the_run_goes_on(stopped, capsys):
    capsys.readouterr()
    assert _train("--resume", stopped) == 0
    err = capsys.readouterr().err
    assert "fastnn: the run goes on after epoch 1 and 4 batches" in err
    assert _train("--resume", stopped) == 0
    assert "the run has ended after epoch 3; more --epochs" in capsys.readouterr().err
    assert _train("--resume", stopped, "--epochs", 4) == 0
    assert len(read_run(stopped).history) == 4


def test_a_diverged_run_goes_on_with_a_lower_rate(tmp_path, capsys):
    run = tmp_path / "run"
    arguments = [*RUN, "--schedule", "exponential:1e30"]
    assert _train(*arguments, "--out", run) == 1
    epochs = load_checkpoint(run).trainer.epochs
    assert load_checkpoint(run).stopped == "diverged"
    assert _train("--resume", run, "--learning-rate", "1e-80") == 0
    assert len(read_run(run).history) == 3
    assert read_run(run).history.column("learning_rate")[epochs] < 1e-40


def test_what_does_not_match_is_refused_and_forced(stopped, tmp_path, capsys):
    before = {path.name: path.read_bytes() for path in stopped.iterdir()}
    for arguments, words in (
        (["--seed", "1"], "the train set of"),  # the seed also holds out the validation data
        (["--batch-size", "16"], "batch_size was 32, found 16; --force continues nevertheless"),
        (["--hidden", "7"], "the checkpoint is of Network(64"),
        (["--out", tmp_path / "other"], "leave out --config and --out"),
        (["--config", stopped], "leave out --config and --out"),
    ):
        capsys.readouterr()
        assert _train("--resume", stopped, *arguments, "--quiet") in (1, 2)
        (line,) = capsys.readouterr().err.splitlines()
        assert words in line
    assert {name: (stopped / name).read_bytes() for name in before if name != "report.json"} == {
        name: each for name, each in before.items() if name != "report.json"
    }
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert _train("--resume", stopped, "--batch-size", "16", "--force") == 0
    assert "batch_size was 32, found 16: the result is not that of one run" in capsys.readouterr().err


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_a_run_that_has_ended_keeps_its_settings(backend, tmp_path, capsys):
    """Its report states the settings with which it was trained."""
    run = tmp_path / "run"
    assert _train(*RUN[:-1], backend, "--out", run) == 0
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    for arguments, words in (
        (["--batch-size", "16"], "batch_size was 32, found 16; --force continues nevertheless"),
        (["--learning-rate", "0.5"], "learning_rate was 0.1, found 0.5; --force continues nevertheless"),
    ):
        capsys.readouterr()
        assert _train("--resume", run, *arguments, "--quiet") == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert words in line
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before
    assert _train("--resume", run, "--quiet") == 0
    capsys.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert _train("--resume", run, "--batch-size", "16", "--force", "--quiet") == 0
    assert "batch_size was 32, found 16: the result is not that of one run" in capsys.readouterr().err


def test_wrong_folders_are_refused_in_one_line(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    for arguments, words in (
        (["--resume", tmp_path / "none"], "none is not a folder"),
        (["--resume", tmp_path / "file"], "file is not a folder"),
        (["--resume", tmp_path / "empty"], "report.json"),
        (["--force"], "--force is for --resume RUN"),
    ):
        capsys.readouterr()
        assert _train(*arguments) in (1, 2)
        (line,) = capsys.readouterr().err.splitlines()
        assert words in line


def test_a_damaged_checkpoint_is_replaced_by_the_one_before(stopped, tmp_path, capsys):
    assert _train(*RUN, "--out", tmp_path / "whole") == 0
    file = stopped / "checkpoint.safetensors"
    shutil.copy(file, previous_path(file))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)
    capsys.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert _train("--resume", stopped) == 0
    assert "was changed or damaged" in capsys.readouterr().err
    assert _files(stopped) == _files(tmp_path / "whole")


def test_a_run_that_has_ended_is_not_shortened(tmp_path, capsys):
    run = tmp_path / "run"
    assert _train(*RUN, "--out", run) == 0
    before = (run / "report.json").read_bytes()
    capsys.readouterr()
    assert _train("--resume", run, "--epochs", 2) == 2
    assert "epochs was 3, found 2" in capsys.readouterr().err
    assert (run / "report.json").read_bytes() == before


def test_a_run_stopped_before_its_first_step_leaves_nothing(tmp_path, stop_after):
    stop_after(1)
    assert _train(*RUN, "--out", tmp_path / "new" / "run") == 130
    assert not (tmp_path / "new").exists()


def test_a_run_on_data_of_ones_own_continues(tmp_path, stop_after, capsys):
    rng = np.random.default_rng(0)
    inp = rng.normal(size=(300, 4))
    table = np.column_stack([inp, inp @ [1.0, -2.0, 0.5, 3.0]])
    path = tmp_path / "table.csv"
    np.savetxt(path, table, delimiter=",", header="a,b,c,d,price", comments="")
    arguments = ["--data", path, "--label", "price", "--epochs", "4", "--quiet", "--backend", "numpy"]
    assert _train(*arguments, "--out", tmp_path / "whole") == 0
    stop_after(12)
    assert _train(*arguments, "--out", tmp_path / "part") == 130
    stop_after(0)
    moved = tmp_path / "moved.csv"
    path.rename(moved)
    assert _train("--resume", tmp_path / "part") == 1
    assert _train("--resume", tmp_path / "part", "--data", moved, "--quiet") == 0
    found, expected = (_files(tmp_path / name) for name in ("part", "whole"))
    for each in (found, expected):  # the new location of the data
        each["report.json"] = {k: v for k, v in each["report.json"].items() if k not in ("settings", "data")}
    assert found == expected
    np.savetxt(moved, table + 1, delimiter=",", header="a,b,c,d,price", comments="")
    capsys.readouterr()
    assert _train("--resume", tmp_path / "part", "--epochs", 9) == 1
    assert "the train set of 216 samples differs from that of" in capsys.readouterr().err
