"""`fastnn sweep`: options, the table, the journal, and how it ends."""

import json

import pytest

import fastnn
from fastnn.cli.command import main
from fastnn.sweeps.journal import JOURNAL

RUN = ["sweep", "--recipe", "digits", "--epochs", "2", "--backend", "numpy", "--seeds", "0,1"]
pytestmark = pytest.mark.usefixtures("undrawn_figures")


def _json(arguments, capsys):
    assert main([*map(str, arguments), "--json", "--quiet"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_command_is_fastnn_sweep(tmp_path, capsys):
    varied = ["--set", "hidden=8,16-8", "--set", "learning-rate=0.1,0.3", "--set", "schedule=constant/step:0.5,1"]
    found = _json([*RUN, *varied, "--out", tmp_path], capsys)
    settings = {
        "hidden": [8, (16, 8)], "learning_rate": [0.1, 0.3], "schedule": ["constant", "step:0.5,1"],
    }  # fmt: skip
    result = fastnn.sweep("digits", settings=settings, seeds=[0, 1], epochs=2, backend="numpy")
    assert [run["digest"] for run in found["runs"]] == [record.digest for record in result.records]
    assert [run["key"] for run in found["runs"]] == [record.key for record in result.records]
    assert found["best"] == {**result.best.settings, "hidden": found["best"]["hidden"]}
    assert found["metric"] == "validation_accuracy"
    assert len(found["settings"]) == 8
    assert sorted(path.name for path in tmp_path.iterdir()) == [JOURNAL, "sweep.png"]


def test_the_same_command_finds_its_runs(tmp_path, capsys):
    command = [*RUN, "--set", "hidden=4,8", "--out", str(tmp_path)]
    assert main(command) == 0
    first = capsys.readouterr()
    assert first.err.count("runs  hidden") == 4
    assert main(command) == 0
    again = capsys.readouterr()
    assert not again.err
    table = first.out.splitlines()[:3]
    assert again.out.splitlines()[:3] == table
    assert table[0].split() == ["hidden", "validation", "accuracy", "epochs", "seconds", "runs"]
    assert "the test set was not used" in first.out
    assert "4 runs, 4 of them before, in" in again.out


def test_test_metrics_stand_beside(tmp_path, capsys):
    assert main([*RUN, "--test", "--quiet", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "test accuracy" in printed
    assert "nothing was chosen by the test set" in printed


def test_own_data_and_a_model_to_start_from(tmp_path, capsys):
    lines = [f"{x},{y},{'a' if x > y else 'b'}" for x in range(12) for y in range(12)]
    table = tmp_path / "table.csv"
    table.write_text("x,y,label\n" + "\n".join(lines))
    options = ["--data", table, "--epochs", 2, "--backend", "numpy", "--seeds", 0]
    found = _json(
        ["sweep", *options, "--class-weight", "balanced", "--set", "l2=0,0.1", "--out", tmp_path / "a"], capsys
    )
    assert [run["settings"] for run in found["runs"]] == [{"l2": 0.0}, {"l2": 0.1}]
    assert main(["train", *map(str, options[:-2]), "--quiet", "--out", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    start = ["--from", tmp_path / "run", "--set", "frozen=0,1"]
    assert len(_json(["sweep", *options, *start, "--out", tmp_path / "b"], capsys)["runs"]) == 2


def test_runs_that_all_fail_are_an_error(tmp_path, capsys):
    assert main([*RUN, "--learning-rate", "1e30", "--quiet", "--out", str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert "2 of 2 runs failed: training diverged" in printed.out
    assert "all 2 runs failed; the first: training diverged" in printed.err


@pytest.mark.parametrize(("options", "message"), [
    (["--set", "hidden"], "--set 'hidden': expected a name and its values, such as hidden=64,128"),
    (["--set", "hiden=3"], "--set hiden: no setting that varies (did you mean hidden?)"),
    (["--set", "hidden=a"], "--set hidden: found 'a', expected numbers of units such as 64 or 128-64"),
    (["--set", "l2=x"], "--set l2: found 'x', expected a value as of the option"),
    (["--set", "seed=1"], "--set seed: no setting that varies"),
    (["--set", "l2=0", "--set", "l2=1"], "--set l2 is given twice"),
    (["--set", "dropout=0.1,3"], "dropout is 3"),
    (["--seeds", "5-1"], "--seeds: '5-1' is not a range"),
    (["--engine", "dask"], "--engine dask needs --scheduler ADDRESS"),
    (["--engine", "threads", "--scheduler", "tcp://a:1"], 'client is given with the engine "threads"'),
])  # fmt: skip
def test_wrong_usage_is_one_line(options, message, tmp_path, capsys):
    assert main([*RUN, "--out", str(tmp_path / "sweep"), *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "sweep").exists()
