"""Tests of tables in other formats than CSV, of training and test tables, and of labels in a second file."""

import sys
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn import datasets as sklearn_data

from fastnn.datasets import Dataset, load_mnist, read_files
from fastnn.datasets.options import ReadOptions
from fastnn.datasets.pixels import matched, pixel_scale
from fastnn.datasets.tables.frames import read_frame
from fastnn.datasets.tables.table import dataset_of_frame, datasets_of_frames, is_label_table, join_labels, read_table
from fastnn.errors import MissingDependencyError

_DATA = sklearn_data.load_iris(as_frame=True)
IRIS = _DATA.frame.drop(columns="target").assign(species=_DATA.target_names[_DATA.target])
TRAIN, TEST = IRIS.iloc[::2], IRIS.iloc[1::2]
ROWS = IRIS.iloc[:, :4].to_numpy(np.float32)


@pytest.fixture(scope="module")
def digits():
    return load_mnist()[0].take(slice(60))


def csv_frame(frame, **options):
    """The frame that the reader makes of a table in CSV."""
    return read_frame("t.csv", content=frame.to_csv(**{"index": False, **options}).encode(), kind="csv")


def png(pixels):
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


WRITERS = {
    "x.parquet": ("pyarrow", lambda frame, path: frame.to_parquet(path)),
    "x.feather": ("pyarrow", lambda frame, path: frame.to_feather(path)),
    "x.xlsx": ("openpyxl", lambda frame, path: frame.to_excel(path, index=False)),
    "numbered.xlsx": ("openpyxl", lambda frame, path: frame.to_excel(path)),
    "moved.xlsx": ("openpyxl", lambda frame, path: frame.to_excel(path, index=False, startrow=3, startcol=2)),
    "x.jsonl": ("pandas", lambda frame, path: frame.to_json(path, orient="records", lines=True)),
    "x.csv": ("pandas", lambda frame, path: frame.to_csv(path, index=False)),
}


@pytest.mark.parametrize("file", WRITERS)
def test_iris_is_read_from_every_format(tmp_path, file):
    package, write = WRITERS[file]
    pytest.importorskip(package)
    write(IRIS, tmp_path / file)
    data = read_table(tmp_path / file)
    np.testing.assert_array_equal(data.images, ROWS, strict=True)
    assert data.class_labels() == IRIS.species.tolist()
    assert data.feature_names == tuple(IRIS.columns[:4])


@pytest.mark.parametrize("labels", [
    lambda target: target.astype("Int64"), lambda target: target.astype("UInt8"), lambda target: target.astype(float),
    lambda target: target.astype("category"), lambda target: (target > 0).astype("boolean"), lambda target: target > 0,
    lambda target: target.map(str), lambda target: target.map("class {}".format).astype("category"),
])  # fmt: skip
def test_labels_of_every_type_of_pandas_are_classes(labels):
    target = labels(_DATA.target)
    data = dataset_of_frame(IRIS.iloc[:, :4].assign(target=target), "t")
    assert [str(label) for label in data.class_labels()] == [str(label).replace(".0", "") for label in target]


@pytest.mark.parametrize("pack", [
    lambda rows: [{"bytes": png(row.reshape(28, 28)), "path": None} for row in rows],
    lambda rows: [png(row.reshape(28, 28)) for row in rows],
    list,
    lambda rows: [row.reshape(28, 28).tolist() for row in rows],
], ids=["pictures", "bytes", "lists", "nested lists"])  # fmt: skip
def test_images_in_one_column_of_parquet_are_pixels(tmp_path, digits, pack):
    pytest.importorskip("pyarrow")
    pd.DataFrame({"image": pack(digits.images), "label": digits.labels}).to_parquet(tmp_path / "t.parquet")
    data = read_table(tmp_path / "t.parquet")
    np.testing.assert_array_equal(data.images, digits.images, strict=True)
    np.testing.assert_array_equal(data.labels, digits.labels)
    assert (data.image_shape, data.pixel_max) == ((28, 28), 255)


@pytest.mark.parametrize(("third", "parts"), [
    ({"bytes": png(np.zeros((5, 4), np.uint8))}, ["5 x 4", "28 x 28"]),
    ({"bytes": b"no picture"}, ["not a picture"]),
    ({"bytes": None}, ["NoneType", "bytes of a picture"]),
])  # fmt: skip
def test_a_picture_unlike_the_others_is_named(tmp_path, refused, digits, third, parts):
    pytest.importorskip("pyarrow")
    rows = [{"bytes": png(row.reshape(28, 28))} for row in digits.images[:4]]
    rows[2] = third
    path = tmp_path / "t.parquet"
    pd.DataFrame({"image": rows, "label": range(4)}).to_parquet(path)
    refused(lambda: read_table(path), path, "column 1 ('image'), row 3", *parts)


def test_a_value_in_excel_is_located_by_its_row(tmp_path, refused):
    pytest.importorskip("openpyxl")
    frame = IRIS.astype(object)
    frame.iloc[4, 1] = "x"
    frame.to_excel(tmp_path / "t.xlsx", index=False, startrow=2)
    refused(lambda: read_table(tmp_path / "t.xlsx"), "row 8, column 2 ('sepal width (cm)')", "'x'", "a number")
    frame.iloc[4, 1] = None
    frame.to_excel(tmp_path / "t.xlsx", index=False)
    refused(lambda: read_table(tmp_path / "t.xlsx"), "row 6, column 2", "missing value", "--missing mean")


def test_dates_are_no_numbers(refused):
    frame = IRIS.assign(when=pd.Timestamp("2020-01-01"))
    refused(lambda: dataset_of_frame(frame, "t"), "row 1, column 6 ('when')", "--drop when")


@pytest.mark.parametrize(
    ("content", "kind"), [(b"PAR1 junk", "parquet"), (b"PK\x03\x04 junk", "excel"), (b'{"a": 1}\n[2]', "json")]
)
def test_a_damaged_file_is_one_clear_error(written, refused, content, kind):
    if kind != "json":
        pytest.importorskip({"parquet": "pyarrow", "excel": "openpyxl"}[kind])
    path = written(content, "t")
    parts = ["line 2", "[2]", "an object of JSON"] if kind == "json" else ["cannot be read", f"intact {kind}"]
    refused(lambda: read_table(path), path, *parts)


def test_a_missing_package_is_named_with_its_extra(written, monkeypatch, refused):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    path = written(b"PAR1", "t.parquet")
    refused(lambda: read_table(path), path, "pyarrow", "fastnn-digits[tables]", kind=MissingDependencyError)


@pytest.mark.parametrize("change", [
    lambda frame: frame,
    lambda frame: frame[frame.columns[::-1]],
    lambda frame: frame.assign(id=range(len(frame))),
    lambda frame: frame[frame.species == "virginica"],
])  # fmt: skip
def test_a_test_table_is_read_as_the_training_table(change):
    other = change(TEST)
    train, test = datasets_of_frames([csv_frame(TRAIN), csv_frame(other)], ["a", "b"])
    np.testing.assert_array_equal(test.images, other[IRIS.columns[:4]].to_numpy(np.float32))
    assert test.class_labels() == other.species.tolist()
    assert train.classes == test.classes
    assert train.feature_names == test.feature_names


def test_a_test_table_without_names_or_without_labels_is_read_by_position():
    _, test = datasets_of_frames([csv_frame(part, header=False) for part in (TRAIN, TEST)], ["a", "b"])
    assert test.class_labels() == TEST.species.tolist()
    bare = TEST.iloc[:, :4]
    for frame in (csv_frame(bare), csv_frame(bare, header=False)):
        test = datasets_of_frames([csv_frame(TRAIN), frame], ["a", "b"])[1]
        np.testing.assert_array_equal(test.images, bare.to_numpy(np.float32))
        assert test.labels is None


@pytest.mark.parametrize(("change", "parts"), [
    (lambda frame: frame.iloc[:, 1:], ["'sepal length (cm)' is missing"]),
    (lambda frame: frame.assign(z=1), ["column 6 ('z')", "the columns of a", "--drop z"]),
    (lambda frame: frame.assign(species="tulip"), ["'tulip'", "setosa"]),
])  # fmt: skip
def test_a_test_table_that_does_not_fit_is_named(refused, change, parts):
    refused(lambda: datasets_of_frames([csv_frame(TRAIN), csv_frame(change(TEST))], ["a", "b"]), "b: ", *parts)


def test_missing_values_of_a_test_table_become_the_means_of_the_training_table():
    train, test = (frame.reset_index(drop=True).copy() for frame in (TRAIN, TEST))
    train.iloc[3, 0] = test.iloc[0, 0] = np.nan
    options = ReadOptions(missing="mean")
    data, other = datasets_of_frames([csv_frame(train), csv_frame(test)], ["a", "b"], options)
    mean = train.iloc[:, 0].mean()
    np.testing.assert_allclose([data.images[3, 0], other.images[0, 0]], mean, rtol=1e-6)


def test_targets_of_a_test_table_are_those_of_a_regression_too():
    frame = sklearn_data.load_diabetes(as_frame=True).frame
    train, test = datasets_of_frames([csv_frame(frame), csv_frame(frame.iloc[:3])], ["a", "b"])
    assert train.has_targets
    np.testing.assert_array_equal(test.labels, frame.target[:3].to_numpy().reshape(-1, 1))


def test_labels_in_a_second_table_are_joined(digits, refused):
    images = csv_frame(pd.DataFrame(digits.images), header=False)
    tables = {
        "named": pd.DataFrame({"label": digits.labels}),
        "numbered": pd.DataFrame({"ImageId": range(1, 61), "Category": digits.labels}),
    }
    for frame in (*map(csv_frame, tables.values()), csv_frame(tables["named"], header=False)):
        assert is_label_table(frame)
        data = dataset_of_frame(join_labels(images, frame, "x.csv", "y.csv"), "x.csv", ReadOptions(label="last"))
        np.testing.assert_array_equal(data.images, digits.images)
        np.testing.assert_array_equal(data.labels, digits.labels)
    assert not is_label_table(images)
    assert not is_label_table(csv_frame(IRIS[["sepal length (cm)", "species"]]))
    short = csv_frame(tables["named"].iloc[:50])
    refused(lambda: join_labels(images, short, "x.csv", "y.csv"), "y.csv: found 50 labels", "60", "x.csv")


def test_words_in_a_second_table_are_joined():
    words = csv_frame(IRIS[["species"]], header=False)
    data = dataset_of_frame(join_labels(csv_frame(IRIS.iloc[:, :4]), words, "x", "y"), "x")
    assert data.class_labels() == IRIS.species.tolist()


@pytest.mark.parametrize("frame", [
    TEST.iloc[:, :4], TEST.iloc[:, [3, 1, 0, 2]], TEST, TEST.assign(more=1), TEST.iloc[:1, :4],
])  # fmt: skip
def test_the_columns_of_a_model_are_found_by_name(frame):
    data = dataset_of_frame(csv_frame(frame, index=True), "t", feature_names=IRIS.columns[:4])
    np.testing.assert_array_equal(data.images, frame[IRIS.columns[:4]].to_numpy(np.float32))
    assert (data.labels is None) == ("species" not in frame)


def test_the_columns_of_a_model_are_found_by_their_number(digits):
    bare = csv_frame(TEST.iloc[:, :4], header=False)
    for known in ({"n_inputs": 4}, {"feature_names": IRIS.columns[:4]}):
        np.testing.assert_array_equal(
            dataset_of_frame(bare, "t", **known).images, TEST.iloc[:, :4].to_numpy(np.float32)
        )
    assert dataset_of_frame(csv_frame(TEST, header=False), "t", n_inputs=4).class_labels() == TEST.species.tolist()
    pixels = pd.DataFrame(digits.images, columns=[f"pixel{number}" for number in range(784)])
    for frame in (pixels, pixels.iloc[:1], pixels.assign(id=range(60))):
        data = dataset_of_frame(csv_frame(frame), "t", n_inputs=784)
        assert (data.labels, data.images.shape) == (None, (len(frame), 784))


def test_matched_sets_have_one_order_of_columns_and_the_same_classes(refused):
    rows = np.arange(6.0).reshape(3, 2)
    train = Dataset(rows, ["b", "a", "b"], feature_names=("x", "z"), name="a")
    test = Dataset(rows[:, ::-1], ["b", "b", "b"], feature_names=("z", "x"), name="b")
    _, moved = matched(train, test)
    np.testing.assert_array_equal(moved.images, rows)
    assert (moved.class_labels(), moved.classes) == (["b"] * 3, ("a", "b"))
    refused(lambda: matched(train, Dataset(rows, ["c"] * 3, name="b")), "b: 3 of 3 labels", "'c'", "'a'")
    refused(lambda: matched(train, Dataset(rows, feature_names=("x", "y"), name="b")), "b: ", "'y'", "'z'")
    refused(lambda: matched(train, Dataset(rows, [0.5, 1, 2], name="b")), "b: ", "numbers to predict", "classes")


def test_bytes_of_0_and_1_have_scale_1():
    bits = np.array([[0, 1], [1, 0]], np.uint8)
    assert (pixel_scale(bits), pixel_scale(bits * 2), pixel_scale(bits * 0)) == (1, 255, 255)
    assert pixel_scale(np.ones((1, 64), np.uint8)) == 1


@pytest.mark.parametrize("key", ["", "id", "sample_id"])
def test_labels_in_a_second_table_are_matched_by_ids(written, refused, key):
    """Ids in both tables tell which label belongs to which row, whatever the order of the rows."""
    own = IRIS.iloc[:, :4].assign(**{key: range(7, 157)})
    theirs = pd.DataFrame({key: range(7, 157), "species": IRIS.species}).sample(frac=1, random_state=0)

    paths = [written(own.to_csv(index=False), "x.csv"), written(theirs.to_csv(index=False), "y.csv")]
    data, _ = read_files(paths)
    assert data.class_labels() == IRIS.species.tolist()
    assert any("matched by" in note for note in data.notes)
    written(theirs.assign(**{key: range(150)}).to_csv(index=False), "y.csv")
    refused(lambda: read_files(paths), "y.csv", repr(key), "same ids")


def test_row_numbers_that_begin_at_0_and_at_1_do_not_hinder_joining(written):
    own = IRIS.iloc[:, :4].assign(id=range(150))
    theirs = pd.DataFrame({"id": range(1, 151), "species": IRIS.species})
    data, _ = read_files([written(own.to_csv(index=False), "x.csv"), written(theirs.to_csv(index=False), "y.csv")])
    assert data.class_labels() == IRIS.species.tolist()


def test_sheets_that_are_not_read_are_named(tmp_path):
    with pd.ExcelWriter(tmp_path / "t.xlsx") as book:
        IRIS.to_excel(book, sheet_name="first", index=False)
        IRIS.to_excel(book, sheet_name="more", index=False)
    assert "sheet 'first' read; not used: 'more'" in read_files(tmp_path / "t.xlsx")[0].notes


@pytest.mark.parametrize("classes", [[2, 3, 4], [-1, 0, 1], [5, 6, 7]])
@pytest.mark.parametrize("at_start", [False, True])
def test_labels_without_a_gap_are_found_beside_fractions(written, classes, at_start):
    """Without names, whole numbers that follow each other are labels, wherever they begin."""
    labels = pd.Series(np.array(classes)[IRIS.species.astype("category").cat.codes])
    frame = IRIS.iloc[:, :4].round(1) + 0.05
    frame.insert(0 if at_start else 4, "x", labels)
    data, _ = read_files(written(frame.to_csv(index=False, header=False)))
    assert data.class_labels() == labels.tolist()


def test_row_numbers_of_a_shuffled_table_are_left_out(written):
    frame = IRIS.copy()
    frame.insert(0, "nr", np.random.default_rng(0).permutation(150) + 1)
    data, _ = read_files(written(frame.to_csv(index=False)))
    assert data.feature_names == tuple(IRIS.columns[:4])
    assert data.notes[0] == "left out: column 1 ('nr'), row numbers or ids"
