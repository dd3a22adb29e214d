"""Tests of `fastnn compare`: the settings that differ, the results, and the learning curves in one figure."""

import json
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from fastnn.cli.command import main
from fastnn.runs.compare import compare


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs of recipe E that differ in epochs and dropout, and one that diverged with another learning rate."""
    folder = tmp_path_factory.mktemp("runs")
    common = ["train", "--recipe", "digits"]
    bad = ["--learning-rate", "1e-3", "--schedule", "exponential:1e20"]
    assert main([*common, "--epochs", "3", "--out", str(folder / "plain")]) == 0
    assert main([*common, "--epochs", "5", "--dropout", "0.1", "--out", str(folder / "dropped")]) == 0
    assert main([*common, "--epochs", "5", *bad, "--out", str(folder / "lost")]) == 1
    return [str(folder / name) for name in ("plain", "dropped", "lost")]


def test_only_settings_that_differ_are_listed(runs):
    found = compare(runs[:2])
    assert found.settings == {"epochs": [3, 5], "dropout": [0.0, 0.1]}
    reports = [json.loads((Path(run) / "report.json").read_text()) for run in runs]
    assert found.metrics["test_accuracy"] == [report["test_accuracy"] for report in reports[:2]]
    assert list(found.runs) == ["plain", "dropped"]
    assert compare(runs).settings.keys() == {"epochs", "learning_rate", "schedule", "dropout"}
    assert compare(runs).metrics["test_accuracy"][2] is None


def test_the_table_has_one_line_per_run(runs, capsys):
    assert main(["compare", *runs]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert re.split(r"  +", header.strip()) == [
        "run", "epochs", "learning rate", "schedule", "dropout", "accuracy", "loss", "epochs run", "seconds",
    ]  # fmt: skip
    assert [line.split()[0] for line in lines] == ["plain", "dropped", "lost"]
    assert len({len(line) for line in (header, *lines)}) == 1
    report = json.loads((Path(runs[0]) / "report.json").read_text())
    assert lines[0].split() == [
        "plain", "3", "0.1", "constant", "0.0", f"{report['test_accuracy']:.2%}", f"{report['test_loss']:.4f}", "3",
        f"{report['seconds']:.2f}",
    ]  # fmt: skip
    assert lines[2].split()[:-1] == ["lost", "5", "0.001", "exponential:1e20", "0.0", "-", "-", "1"]


def test_json_and_figure_cover_all_runs(runs, tmp_path, capsys):
    figure = tmp_path / "curves.png"
    assert main(["compare", *runs, "--json", "--out", str(figure)]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [each["run"] for each in answer["runs"]] == runs
    assert answer["runs"][1]["settings"] == {
        "epochs": 5, "learning_rate": 0.1, "schedule": "constant", "dropout": 0.1,
    }  # fmt: skip
    assert answer["runs"][2]["test_loss"] is None
    assert answer["figure"] == str(figure)
    with Image.open(figure) as picture:
        assert min(picture.size) > 300


def test_equal_runs_have_no_differing_settings(runs, tmp_path, capsys):
    twin = shutil.copytree(runs[0], tmp_path / "twin")
    assert main(["compare", runs[0], str(twin), "--json"]) == 0
    assert [each["settings"] for each in json.loads(capsys.readouterr().out)["runs"]] == [{}, {}]


def test_folders_with_the_same_name_are_shown_by_path(runs, tmp_path):
    twin = str(shutil.copytree(runs[0], tmp_path / "plain"))
    assert list(compare([runs[0], twin]).runs) == [runs[0], twin]


def test_a_different_test_set_and_missing_settings_are_shown(runs, tmp_path):
    twin = shutil.copytree(runs[0], tmp_path / "other")
    report = json.loads((twin / "report.json").read_text())
    report["data"]["test"]["sha256"] = "0" * 64
    report["settings"] |= {"batch_size": None, "hidden": []}
    report["settings"].pop("l2")
    (twin / "report.json").write_text(json.dumps(report))
    found = compare([runs[0], twin])
    assert found.settings.keys() == {"hidden", "batch_size", "l2", "test_data"}
    assert found.settings["test_data"][1] == "8x8 digits (held out), 359 samples, 00000000"
    assert found.table().splitlines()[2].split()[:4] == ["other", "none", "full", "-"]


@pytest.mark.parametrize(("given", "code", "words"), [
    (["{0}"], 2, "1 run given, expected two or more"),
    (["{0}", "{0}/../plain"], 2, "is given twice"),
    (["{0}", "none"], 1, "none is not a folder"),
    (["{0}", "{1}", "--out", "curves.xyz"], 2, "the extension is '.xyz'"),
    (["{0}", "{1}", "--out", "no/folder/curves.png"], 1, "no/folder"),
])  # fmt: skip
def test_wrong_usage_gives_one_line(given, code, words, runs, capsys):
    assert main(["compare", *(each.format(*runs) for each in given)]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert words in err


def test_a_run_without_a_history_is_named(runs, tmp_path, capsys):
    twin = shutil.copytree(runs[0], tmp_path / "twin")
    (twin / "history.csv").unlink()
    assert main(["compare", runs[0], str(twin)]) == 1
    assert "twin has no history.csv, expected a run folder" in capsys.readouterr().err
