"""Commands on models of one's own tables: labels with any names, columns in any order, targets that are numbers."""

import json

import numpy as np
import pandas as pd
import pytest

from fastnn.cli import main

NAMES = ["a (cm)", "b", "c"]


def _table(classes, column="label"):
    """Return rows whose class is the largest of three numbers."""
    rows = np.random.default_rng(0).normal(size=(90, 3)).round(3)
    frame = pd.DataFrame(rows, columns=NAMES)
    frame[column] = np.array(classes)[rows.argmax(axis=1)]
    return frame


def _trained(folder, frame, *options):
    data, run = folder / "train.csv", folder / "run"
    frame.to_csv(data, index=False)
    command = ["train", "--data", str(data), "--out", str(run), "--backend", "numpy", "--quiet", "--hidden", "8"]
    assert main([*command, "--epochs", "60", *options]) == 0
    return str(run)


def _answer(capsys, *arguments):
    capsys.readouterr()
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("classes", [["red fox", "Elk", "a"], [2, 3, 4], [1, 2, 0], [-1, 0, 1], [30, 10, 20]])
def test_explain_looks_up_the_label_of_a_row_in_the_classes(classes, tmp_path, capsys):
    frame = _table(classes)
    run = _trained(tmp_path, frame)
    names = [str(label) for label in sorted(classes)]
    for row in range(6):
        answer = _answer(capsys, "explain", run, "--row", str(row), "--data", str(tmp_path / "train.csv"))
        assert answer["classes"] == names
        assert names[answer["label"]] == str(frame["label"][row])
    chosen = _answer(
        capsys, "explain", run, "--row", "0", "--data", str(tmp_path / "train.csv"), "--label", str(classes[0])
    )
    assert names[chosen["label"]] == str(classes[0])


def test_explain_refuses_a_regression_in_one_line(tmp_path, capsys):
    frame = _table([10, 20, 30]).assign(label=lambda table: table.b * 3.5)
    run = _trained(tmp_path, frame)
    capsys.readouterr()
    assert main(["explain", run, "--row", "0", "--data", str(tmp_path / "train.csv")]) == 1
    assert capsys.readouterr().err.splitlines()[-1].endswith("is identity, expected softmax over C classes")


def test_evaluate_names_classes_in_json(tmp_path, capsys):
    run = _trained(tmp_path, _table(["x", "y", "z"]))
    answer = _answer(capsys, "evaluate", run, "--data", str(tmp_path / "train.csv"), "--backend", "numpy")
    assert [each["label"] for each in answer["per_class"]] == ["x", "y", "z"]


def test_the_columns_of_a_model_tell_inputs_from_labels(tmp_path, capsys):
    """A table to evaluate on may have its columns in any order, others beside them, and labels of any name."""
    frame = _table([2, 3, 4], column="Type")
    run = _trained(tmp_path, frame, "--label", "Type")
    other = tmp_path / "other.csv"
    expected = _answer(
        capsys, "evaluate", run, "--data", str(tmp_path / "train.csv"), "--label", "Type", "--backend", "numpy"
    )
    for columns in ([*NAMES, "Type"], ["Type", *NAMES[::-1]], ["id", *NAMES, "Type"]):
        frame.assign(id=range(5000, 5090)).to_csv(other, columns=columns, index=False)
        assert _answer(capsys, "evaluate", run, "--data", str(other), "--backend", "numpy") == expected
    frame.assign(note="x", label=frame.Type).drop(columns="Type").to_csv(other, index=False)
    assert _answer(capsys, "evaluate", run, "--data", str(other), "--backend", "numpy") == expected
    row = _answer(capsys, "explain", run, "--row", "7", "--data", str(other))
    assert row["classes"][row["label"]] == str(frame["Type"][7])


def test_evaluate_without_data_needs_a_model_of_mnist(tmp_path, capsys):
    run = _trained(tmp_path, _table(["x", "y", "z"]))
    capsys.readouterr()
    assert main(["evaluate", run, "--backend", "numpy"]) == 2
    assert capsys.readouterr().err == "fastnn: the model takes 3 inputs, not MNIST's images; give --data FILE\n"
