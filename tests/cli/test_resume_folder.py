"""`fastnn train --resume`: what the files of a run say after it, and folders that are not those of the run."""

import json
import shutil

import numpy as np
import pytest

from fastnn.cli.command import main

pytestmark = pytest.mark.usefixtures("undrawn_figures")


def _train(*arguments):
    return main(["train", "--quiet", "--backend", "numpy", "--epochs", "3", *map(str, arguments)])


@pytest.fixture
def table(tmp_path):
    numbers = np.random.default_rng(0).normal(size=(200, 3))
    lines = [",".join(f"{each:.3f}" for each in row) + f",{'ab'[int(row[0] > 0)]}" for row in numbers]
    (tmp_path / "table.csv").write_text("x,y,z,kind\n" + "\n".join(lines) + "\n")
    return tmp_path / "table.csv"


def test_a_resumed_run_keeps_the_names_of_its_data(table, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert _train("--data", "table.csv", "--out", "run") == 0
    before, out = json.loads((tmp_path / "run/report.json").read_text()), capsys.readouterr().out
    (tmp_path / "other").mkdir()
    table.rename(tmp_path / "other" / "moved.csv")
    monkeypatch.chdir(tmp_path / "other")
    assert _train("--resume", "../run", "--data", "moved.csv") == 0
    after = json.loads((tmp_path / "run/report.json").read_text())
    assert after["data"] == before["data"]
    assert after["data"]["train"]["name"] == "table.csv"
    assert after["notes"] == before["notes"]
    assert after["settings"]["files"] == [str(tmp_path / "other" / "moved.csv")]  # where commands find them from now on
    assert out.splitlines()[-2] in capsys.readouterr().out


def test_the_checkpoint_of_another_run_that_has_ended_is_refused(table, tmp_path, capsys):
    for name, l2 in (("one", 0.1), ("two", 0.2)):
        assert _train("--data", table, "--l2", l2, "--out", tmp_path / name) == 0
    model = (tmp_path / "one/model.safetensors").read_bytes()
    shutil.copy(tmp_path / "two/checkpoint.safetensors", tmp_path / "one")
    capsys.readouterr()
    assert _train("--resume", tmp_path / "one") == 2
    found = capsys.readouterr().err.splitlines()[-1]
    assert "the run cannot continue: " in found
    assert "l2 was 0.2, found 0.1" in found
    assert found.endswith("--force continues nevertheless")
    assert (tmp_path / "one/model.safetensors").read_bytes() == model


def test_a_folder_whose_run_never_began_is_named(tmp_path, capsys):
    assert _train("--resume", tmp_path) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "has no report.json" in error
    assert error.endswith("start it again\n")
