"""Tests of `read_files`: formats are detected by content, files are paired by rank and name."""

import bz2
import gzip
import lzma
import struct
import zipfile

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
        (idx, ["images (IDX)"]),
        ([*idx, *csv[:2]], ["one.csv (CSV)", "images (IDX)"]),
    ):
        refused(lambda paths=paths: read_files(paths), *parts, "expected one file or folder, one or two tables")


def test_one_file_of_images_has_no_labels(made):
    data, test = read_files(made("idx", "images"))
    assert (data.labels, test, data.image_shape) == (None, None, (3, 3))


@pytest.mark.parametrize("order", [1, -1])
def test_images_and_labels_may_be_tables_and_arrays(made, tmp_path, order):
    images, labels = made("idx", "images", "labels")
    table = tmp_path / "pixels.csv"
    np.savetxt(table, TRAIN.reshape(5, 9), "%d", ",")
    column = tmp_path / "labels.csv"
    column.write_text("label\n0\n1\n2\n3\n4\n")
    for pair in ((images, column), (table, labels), (table, column)):
        data, _ = read_files(pair[::order])
        np.testing.assert_array_equal(data.images, TRAIN.reshape(5, 9))
        assert data.class_labels() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_compressed_tables_are_read(made, tmp_path, pack):
    (path,) = made("csv", "one.csv")
    path.write_bytes(pack(path.read_bytes()))
    check(*read_files(path))


def test_a_zip_archive_of_tables_is_read_as_kaggle_packs_it(made, tmp_path):
    paths = made("csv", "test.csv", "train.csv")
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        for path in paths:
            archive.write(path, path.name)
        archive.writestr("sample_submission.csv", "ImageId,Label\n1,0\n")
    check(*read_files(tmp_path / "data.zip"))
    with zipfile.ZipFile(tmp_path / "one.zip", "w") as archive:
        archive.write(paths[1], "k.csv")
    check(*read_files(tmp_path / "one.zip"))


def test_a_test_table_without_labels_is_not_used_but_noted(made, tmp_path):
    rows = [",".join(f"pixel{number}" for number in range(9))]
    rows += [",".join(map(str, row.ravel())) for row in TRAIN]
    (tmp_path / "test.csv").write_text("\n".join(rows))
    rows = [f"{head},{row}" for head, row in zip(["label", *range(5)], rows, strict=True)]
    (tmp_path / "train.csv").write_text("\n".join(rows))
    data, test = read_files([tmp_path / "train.csv", tmp_path / "test.csv"])
    assert test is None
    assert data.labels.tolist() == [0, 1, 2, 3, 4]
    assert "5 samples have no labels" in data.notes[-1]


@pytest.mark.parametrize("ending", ["arff", "arff.gz"])
def test_an_arff_table_is_read(tmp_path, ending):
    text = "% made\n@RELATION flowers\n@ATTRIBUTE length NUMERIC\n@ATTRIBUTE species {setosa,virginica}\n@DATA\n"
    rows = [(1.4, "setosa"), (4.7, "virginica"), (1.5, "setosa"), (5.0, "virginica")]
    data = (text + "".join(f"{length},{name}\n" for length, name in rows)).encode()
    path = tmp_path / f"flowers.{ending}"
    path.write_bytes(gzip.compress(data) if ending.endswith("gz") else data)
    found, test = read_files(path)
    np.testing.assert_allclose(found.images, [[1.4], [4.7], [1.5], [5.0]], rtol=1e-6)
    assert (found.class_labels(), found.feature_names, test) == ([name for _, name in rows], ("length",), None)


def test_a_damaged_arff_table_is_an_error(tmp_path, refused):
    path = tmp_path / "a.arff"
    for text in ("@relation a\n@attribute b numeric\n@data\n", "@relation a\n@attribute b string\n@data\nx\n",
                 "@relation a\n@attribute b numeric\n@data\nx,y\n", "@relation a\n"):  # fmt: skip
        path.write_text(text)
        refused(lambda: read_files(path), path, "expected")


def test_files_that_do_not_fit_together_are_named(made, refused, tmp_path):
    images, labels, other, others = made("idx", "a-images", "a-labels", "b-images", "b-labels")
    refused(lambda: read_files([images, other]), images, other, "rank 3", "as a pair")
    refused(lambda: read_files([images, other, labels, others]), images, other, "as a pair")
    refused(lambda: read_files([images, others]), images, others, "found 2 labels, expected 5")
    (narrow,) = made("csv", "narrow")
    wide = tmp_path / "wide"
    wide.write_text("label," + ",".join(f"pixel{number}" for number in range(16)) + "\n" + ",".join(["1"] * 17))
    refused(lambda: read_files([narrow, wide]), narrow, wide, "found", "expected")


def test_unreadable_files_and_unknown_formats_are_errors(tmp_path, refused):
    path = tmp_path / "x"
    path.write_bytes(b"\x89\0\1\2")
    refused(lambda: read_files([path]), path, "89 00 01 02", "a table or images")
    path.write_bytes(b"")
    refused(lambda: read_files([path]), path, "empty file")
    refused(lambda: read_files([tmp_path / "no"]), "no such file", kind=FileError)
    refused(lambda: read_files([tmp_path]), tmp_path, "empty file")
    refused(lambda: read_files([3]), "expected a path", kind=SettingsError)
