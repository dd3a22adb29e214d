"""Tests of `fastnn convert`: the files that it writes, what it prints, and that a failure changes no file."""

import json

import numpy as np
import pytest

import fastnn
from fastnn.cli.command import main
from tests.streams.formats import FORMATS, write_csv, write_svmlight

RNG = np.random.default_rng(6)
X = RNG.integers(0, 256, (90, 8, 8), np.uint8)
Y = (np.arange(90) % 10).astype(np.uint8)


def fails(arguments, code, capsys, *parts):
    assert main(arguments) == code
    message = capsys.readouterr().err
    for part in parts:
        assert part in message, message


@pytest.mark.parametrize("name", ["HDF5", "CSV", "svmlight", "idx.gz", "Arrow"])
def test_any_format_becomes_npy(tmp_path, capsys, name):
    file, write = FORMATS[name]
    write(tmp_path / file, X, Y)
    assert main(["convert", str(tmp_path / file), str(tmp_path / "out.npy"), "--block-rows", "20", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    images = np.load(tmp_path / "out.npy")
    shape = (90, 64) if name == "svmlight" else (90, 8, 8)
    assert found == {"images": str(tmp_path / "out.npy"), "shape": list(shape), "dtype": "uint8",
                     "labels": str(tmp_path / "out.labels.npy")}  # fmt: skip
    np.testing.assert_array_equal(images, X.reshape(shape))
    assert images.dtype == np.uint8
    labels = np.load(tmp_path / "out.labels.npy")
    np.testing.assert_array_equal(labels, Y)
    assert labels.dtype == np.uint8
    data = fastnn.open_data(tmp_path / "out.npy")
    np.testing.assert_array_equal(data.read(0).labels, Y)
    assert sorted(each.name for each in tmp_path.glob("*.npy")) == ["out.labels.npy", "out.npy"]


def test_files_labels_and_dtype_are_options(tmp_path, capsys):
    for number in range(3):
        write_csv(tmp_path / f"part-{number}.csv", X[30 * number : 30 * number + 30], Y[30 * number : 30 * number + 30])
    arguments = ["convert", str(tmp_path / "part-*.csv"), str(tmp_path / "x.npy"), "--labels", "label"]
    assert main([*arguments, "--dtype", "float32", "--task", "regression"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"images {tmp_path / 'x.npy'}: 90 x 8 x 8 float32", f"labels {tmp_path / 'x.labels.npy'}"
    ]  # fmt: skip
    assert np.load(tmp_path / "x.npy").dtype == np.float32
    np.testing.assert_array_equal(np.load(tmp_path / "x.labels.npy"), Y[:, None].astype(float))
    assert main(["convert", *(str(tmp_path / f"part-{number}.csv") for number in (2, 0)), str(tmp_path / "y.npy")]) == 0
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy")[:30], X[60:])


def test_texts_are_kept_as_labels(tmp_path, capsys):
    names = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
    write_csv(tmp_path / "x.csv", X, names[Y])
    assert main(["convert", str(tmp_path / "x.csv"), str(tmp_path / "x.npy")]) == 0
    np.testing.assert_array_equal(np.load(tmp_path / "x.labels.npy"), names[Y])


def test_a_failure_changes_no_file(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("fastnn.streams.text._SAMPLE_ROWS", 30)
    write_csv(tmp_path / "x.csv", X, Y)
    with open(tmp_path / "x.csv", "a") as file:
        file.write("1," * 64 + "x\n")
    for name in ("out.npy", "out.labels.npy"):
        (tmp_path / name).write_bytes(b"before")
    arguments = ["convert", str(tmp_path / "x.csv"), str(tmp_path / "out.npy"), "--block-rows", "20"]
    fails(arguments, 1, capsys, "x.csv: block 4", "line 92, column 65")
    assert (tmp_path / "out.npy").read_bytes() == (tmp_path / "out.labels.npy").read_bytes() == b"before"
    assert len(list(tmp_path.iterdir())) == 3


def test_what_cannot_be_written_is_refused_at_first(tmp_path, capsys):
    write_svmlight(tmp_path / "x.svm", X, Y)
    file = str(tmp_path / "x.svm")
    fails(["convert", file, str(tmp_path / "x.npz")], 2, capsys, "x.npz, expected a name that ends in .npy")
    fails(["convert", file, str(tmp_path / "no" / "x.npy")], 1, capsys, "no does not exist")
    fails(["convert", file, str(tmp_path / "x.npy"), "--block-rows", "0"], 2, capsys, "block_rows")
    np.save(tmp_path / "a.npy", X)
    np.save(tmp_path / "b.labels.npy", Y)
    fails(["convert", str(tmp_path / "a.npy"), str(tmp_path / "b.npy")], 2, capsys, "b.labels.npy: stands beside")


def test_values_that_the_dtype_cannot_hold_are_refused(tmp_path, capsys):
    rows = X.astype(np.float32)
    rows[70] += 0.5
    np.save(tmp_path / "x.npy", rows)
    arguments = ["convert", str(tmp_path / "x.npy"), str(tmp_path / "y.npy"), "--dtype", "uint8", "--block-rows", "20"]
    fails(arguments, 1, capsys, "x.npy: block 3, row 70 (from 0)", "whole numbers from 0 to 255")
    assert not (tmp_path / "y.npy").exists()
