"""Commands on models of one's own tables: labels with any names, columns in any order, targets that are numbers."""

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import fastnn
from fastnn.cli import main

pytestmark = pytest.mark.usefixtures("undrawn_figures")
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


def test_evaluate_without_data_takes_those_of_the_run(tmp_path, capsys):
    run = _trained(tmp_path, _table(["x", "y", "z"]))
    answer = _answer(capsys, "evaluate", run, "--backend", "numpy")
    report = json.loads(Path(run, "report.json").read_text())
    assert (answer["accuracy"], answer["samples"]) == (report["test_accuracy"], report["data"]["test"]["samples"])
    Path(run, "report.json").unlink()
    assert main(["evaluate", run, "--backend", "numpy"]) == 2
    assert capsys.readouterr().err == "fastnn: the model takes 3 inputs, not MNIST's images; give --data FILE\n"


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_pixels_that_were_scaled_already_are_noticed(command, tmp_path, capsys):
    """A model of pixels 0 to 16 divides them itself. Those of a table from 0 to 1 would be divided twice."""
    digits = fastnn.load_digits()
    frame = pd.DataFrame(digits.images[:200], columns=[f"pixel{i}" for i in range(64)])
    run = _trained(tmp_path, frame.assign(label=digits.labels[:200]))
    scaled = (frame / 16).assign(label=digits.labels[:200])
    scaled.to_csv(tmp_path / "scaled.csv", index=False)
    for name, is_noticed in (("train.csv", False), ("scaled.csv", True)):
        capsys.readouterr()
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            assert main([command, run, "--data", str(tmp_path / name), "--backend", "numpy"]) == 0
        assert ("pass them as they were before scaling" in capsys.readouterr().err) is is_noticed


def test_a_folder_of_named_classes_is_trained_and_predicted(tmp_path, capsys):
    """Classes are words and pictures are not 28 x 28: pictures of this size are answered, others are named."""
    rng = np.random.default_rng(0)
    for kind in ("light", "dark"):
        (tmp_path / "shapes" / kind).mkdir(parents=True)
        for number in range(20):
            pixels = rng.integers(0, 60, (12, 16)) + (150 if kind == "light" else 20)
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "shapes" / kind / f"{number}.png")
    run = str(tmp_path / "run")
    assert main(["train", "--data", str(tmp_path / "shapes"), "--epochs", "60", "--out", run]) == 0
    capsys.readouterr()
    assert main(["predict", run, str(tmp_path / "shapes" / "light")]) == 0
    assert capsys.readouterr().out.count(": light (") == 20
    Image.fromarray(np.zeros((28, 28), np.uint8)).save(tmp_path / "other.png")
    assert main(["predict", run, str(tmp_path / "other.png")]) == 1
    assert "other.png: found a picture of 28 x 28 pixels, expected 12 x 16" in capsys.readouterr().err


def test_missing_values_take_the_means_of_training_and_are_named_by_their_place(tmp_path, capsys):
    rng = np.random.default_rng(0)
    rows = rng.normal([10, 200], [1, 20], (60, 2))
    kinds = np.where(rows[:, 0] > 10, "big", "small")
    lines = [f"{number};{a:.3f};{b:.3f};{kind}" for number, ((a, b), kind) in enumerate(zip(rows, kinds, strict=True))]
    (tmp_path / "train.csv").write_text("id;a;b;kind\n" + "\n".join(lines))
    (tmp_path / "new.csv").write_text("id;place;a;b\n7;x;12.5;\n")
    run = str(tmp_path / "run")
    assert main(["train", "--data", str(tmp_path / "train.csv"), "--epochs", "50", "--out", run]) == 0
    capsys.readouterr()
    new = str(tmp_path / "new.csv")
    assert main(["predict", run, "--data", new]) == 1
    assert "new.csv: line 2, column 4 ('b'): found a missing value" in capsys.readouterr().err
    assert main(["predict", run, "--data", new, "--missing", "mean", "--id", "id"]) == 0
    assert capsys.readouterr().out == "id,Label\n7,big\n"
    model = fastnn.load(run)
    expected = model.predict_proba([[12.5, model.network.standardization.mean[1]]]).max()
    assert main(["predict", run, "--data", new, "--missing", "mean", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["probability"] == pytest.approx(expected, abs=2e-6)
    frame = pd.read_csv(new, sep=";").fillna(200)
    assert model.predict(frame).tolist() == ["big"]


def test_pictures_for_a_model_of_a_table_are_refused_with_what_to_give(tmp_path, capsys):
    fastnn.save(tmp_path / "model.safetensors", fastnn.Network.initialize((3, 2)))
    assert main(["predict", str(tmp_path), "new.csv"]) == 2
    assert "expected --data FILE instead of pictures" in capsys.readouterr().err
