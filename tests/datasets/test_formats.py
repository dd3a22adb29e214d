"""Tests of `read_files`: formats are detected by content, files are paired by rank and name."""

import gzip
import struct

import numpy as np
import pytest

from fastnn.datasets import read_files
from fastnn.errors import FileError, SettingsError

TRAIN = np.arange(5 * 9, dtype=np.uint8).reshape(5, 3, 3)
TEST = TRAIN[:2] + 100


@pytest.fixture
def made(tmp_path):
    """A function that writes files with five training or two test samples and returns their paths."""

    def write(kind, *names):
        paths = [tmp_path / name for name in names]
        for path in paths:
            pixels = TEST if "test" in path.name or "t10k" in path.name or "b-" in path.name else TRAIN
            labels = np.arange(len(pixels), dtype=np.uint8)
            if kind == "csv":
                rows = np.column_stack([labels, pixels.reshape(len(pixels), -1)])
                header = ",".join(["label", *(f"pixel{number}" for number in range(9))]) + "\n"
                path.write_text(header + "".join(",".join(map(str, row)) + "\n" for row in rows))
            elif "labels" in path.name:
                path.write_bytes(gzip.compress(struct.pack(">2x2BI", 8, 1, len(labels)) + labels.tobytes()))
            else:
                path.write_bytes(struct.pack(">2x2B3I", 8, 3, *pixels.shape) + pixels.tobytes())
        return paths

    return write


def check(train, test):
    np.testing.assert_array_equal(train.images, TRAIN.reshape(5, 9))
    assert train.labels.tolist() == [0, 1, 2, 3, 4]
    if test is not None:
        np.testing.assert_array_equal(test.images, TEST.reshape(2, 9))
        assert test.labels.tolist() == [0, 1]


def test_an_npz_file_gives_training_and_test_set(tmp_path):
    np.savez(tmp_path / "data.npz", x_train=TRAIN, y_train=range(5), x_test=TEST, y_test=range(2))
    check(*read_files([(tmp_path / "data.npz").rename(tmp_path / "data.csv")]))


@pytest.mark.parametrize(("kind", "names"), [
    ("csv", ("a.npz",)), ("idx", ("images", "labels")), ("idx", ("labels", "images")),
])  # fmt: skip
def test_one_csv_or_two_idx_files_give_a_training_set(made, kind, names):
    train, test = read_files(made(kind, *names))
    check(train, test)
    assert test is None


def test_one_path_needs_no_list(made):
    check(*read_files(str(made("csv", "a.npz")[0])))


@pytest.mark.parametrize(("kind", "names"), [
    ("csv", ("a.csv", "b-.csv")),
    ("csv", ("my_test.csv", "my_train.csv")),
    ("csv", ("train", "t10k")),
    ("idx", ("train-images", "train-labels", "t10k-images", "t10k-labels")),
    ("idx", ("t10k-images", "t10k-labels", "train-images", "train-labels")),
    ("idx", ("train-images", "test-images", "train-labels", "test-labels")),
    ("idx", ("a-images", "a-labels", "b-images", "b-labels")),
    ("idx", ("a-labels", "a-images", "b-labels", "b-images")),
])  # fmt: skip
def test_two_csv_or_four_idx_files_give_training_and_test_set(made, kind, names):
    train, test = read_files(made(kind, *names))
    check(train, test)
    assert len(test) == 2


def test_other_spellings_of_idx_names_are_found(made, tmp_path):
    made("idx", "train-images-idx3-ubyte", "train-labels-idx1-ubyte.gz")
    check(*read_files([tmp_path / "train-images.idx3-ubyte", tmp_path / "train-labels.idx1-ubyte"]))


def test_unsupported_combinations_of_files_are_named(made, refused):
    csv = made("csv", "one.csv", "two.csv", "three.csv")
    idx = made("idx", "images", "labels", "b-images")
    for paths, parts in (
        ([], ["found no files"]),
        (csv, ["one.csv (CSV)", "three.csv (CSV)"]),
        (idx[:1], ["images (IDX)"]),
        (idx, ["images (IDX)"]),
        ([csv[0], idx[0]], ["one.csv (CSV)", "images (IDX)"]),
    ):
        refused(lambda paths=paths: read_files(paths), *parts, "expected one NPZ file, one or two CSV files")


def test_files_that_do_not_fit_together_are_named(made, refused, tmp_path):
    images, labels, other, others = made("idx", "a-images", "a-labels", "b-images", "b-labels")
    refused(lambda: read_files([images, other]), images, other, "rank 3", "as a pair")
    refused(lambda: read_files([images, other, labels, others]), images, other, "as a pair")
    refused(lambda: read_files([images, others]), images, others, "found 2 labels, expected 5")
    (narrow,) = made("csv", "narrow")
    wide = tmp_path / "wide"
    wide.write_text(",".join(["1"] * 17))
    refused(lambda: read_files([narrow, wide]), narrow, wide, "found 16 pixels", "expected 9")


def test_unreadable_files_and_unknown_formats_are_errors(tmp_path, refused):
    path = tmp_path / "x"
    path.write_bytes(b"\x89\0\1\2")
    refused(lambda: read_files([path]), path, "89 00 01 02", "IDX, NPZ or CSV")
    path.write_bytes(b"")
    refused(lambda: read_files([path]), path, "empty file")
    refused(lambda: read_files([tmp_path / "no"]), "no such file", kind=FileError)
    refused(lambda: read_files([tmp_path]), "found a folder", kind=FileError)
    refused(lambda: read_files([3]), "expected a path", kind=SettingsError)
