"""Tests of `fastnn export`: the files that it writes, what it prints, and its errors."""

import json
import shutil

import numpy as np
import onnxruntime
import pytest

import fastnn
from fastnn.cli.command import main


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run on the 8x8 digits."""
    folder = tmp_path_factory.mktemp("runs") / "RUN"
    assert main(["--quiet", "train", "--recipe", "digits", "--hidden", "8", "--epochs", "3", "--out", str(folder)]) == 0
    return folder


def printed(arguments, capsys):
    capsys.readouterr()
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def fails(arguments, code, part, capsys):
    capsys.readouterr()
    assert main(arguments) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert part in err


def test_c_is_written_beside_the_model(run, capsys):
    out = printed(["export", str(run), "--format", "c"], capsys)
    assert out.splitlines()[0] == f"c {run / 'model.c'}"
    fastnn.export_c(run / "other.c", fastnn.load(run), name="model")
    assert (run / "model.c").read_bytes() == (run / "other.c").read_bytes()


def test_int8_takes_its_ranges_from_the_training_data_of_the_run(run, capsys, tmp_path):
    arguments = ["export", str(run), "--format", "c", "--dtype", "int8", "--out", str(tmp_path / "x.c"), "--name", "d"]
    found = json.loads(printed([*arguments, "--json"], capsys))
    recipe = fastnn.get_recipe("digits")
    rows = recipe.load(recipe.config.seed).train.images
    fastnn.export_c(tmp_path / "y.c", fastnn.load(run), dtype="int8", rows=rows, name="d")
    assert (tmp_path / "x.c").read_bytes() == (tmp_path / "y.c").read_bytes()
    assert found["export"] == str(tmp_path / "x.c")
    assert (found["dtype"], found["name"]) == ("int8", "d")
    assert found["same"] > 0.95
    assert "mean difference from float32 on " in printed(arguments, capsys)


def test_int8_takes_rows_of_a_file(run, capsys, tmp_path):
    np.savetxt(tmp_path / "rows.csv", fastnn.load_digits().images[:99], fmt="%d", delimiter=",")
    shutil.copy(run / "model.safetensors", tmp_path / "own.safetensors")
    arguments = ["export", str(tmp_path / "own.safetensors"), "--format", "c", "--dtype", "int8"]
    fails(arguments, 2, "--dtype int8 needs typical rows of the inputs: give --data FILE", capsys)
    assert not (tmp_path / "own.c").exists()
    printed([*arguments, "--data", str(tmp_path / "rows.csv"), "--no-header"], capsys)
    assert "own_predict" in (tmp_path / "own.c").read_text()


def test_onnx_is_written(run, capsys):
    out = printed(["export", str(run), "--format", "onnx", "--input-dtype", "uint8"], capsys)
    assert out == f"onnx {run / 'model.onnx'}\n"
    session = onnxruntime.InferenceSession(run / "model.onnx", providers=["CPUExecutionProvider"])
    images = fastnn.load_digits().images[:50].astype(np.uint8)
    labels = session.run(None, {"X": images})[0]
    np.testing.assert_array_equal(labels, fastnn.load(run).predict(images))


def test_the_page_is_that_of_its_own_command(run, capsys):
    found = json.loads(printed(["export", str(run), "--format", "html", "--dtype", "int8", "--json"], capsys))
    printed(["page", str(run), "--weights", "int8"], capsys)
    assert (run / "model.html").read_bytes() == (run / "page.html").read_bytes()
    assert found["bytes"] == (run / "model.html").stat().st_size
    assert abs(found["accuracy"] - found["model_accuracy"]) < 0.02


@pytest.mark.parametrize(("options", "code", "part"), [
    (["--format", "onnx", "--dtype", "int8"], 2, "--dtype is int8 with --format onnx, expected none"),
    (["--format", "c", "--dtype", "float16"], 2, "--dtype is float16 with --format c, expected float32 or int8"),
    (["--format", "onnx", "--name", "x"], 2, "--name is given with --format onnx, expected it with c"),
    (["--format", "html", "--input-dtype", "uint8"], 2, "--input-dtype is given with --format html"),
    (["--format", "c", "--name", "7"], 2, "name is '7'"),
    (["--format", "c", "--input-dtype", "float64"], 2, "input_dtype is 'float64'"),
    (["--format", "c", "--no-header"], 2, "--header describes the files of --data, which is not given"),
    (["--format", "c", "--out", "no/such/folder/x.c"], 1, "cannot write"),
])  # fmt: skip
def test_wrong_options_are_refused(run, options, code, part, capsys):
    fails(["export", str(run), *options], code, part, capsys)
