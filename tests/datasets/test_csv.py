"""Tests of delimited tables: what is read, and one clear error with its place for each kind of invalid table."""

import gzip
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sklearn import datasets as sklearn_data

from fastnn.datasets import load_mnist, read_csv, read_files
from fastnn.errors import FileError, SettingsError

in_one_folder = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def table(written):
    """A function that writes a CSV file and returns its path."""
    return lambda content: written(content, "table.csv")


def lines(*rows):
    return "".join(",".join(map(str, row)) + "\n" for row in rows)


def mnist_row(label=7, **pixels):
    """A row with a label and 784 pixels. `c5=1` puts 1 in column 5, counted from 1."""
    row: list[object] = [label, *[0] * 400, *range(100, 200), *[0] * 284]
    for column, value in pixels.items():
        row[int(column[1:]) - 1] = value
    return row


MNIST_HEADER = ["label", *[f"{row}x{column}" for row in range(1, 29) for column in range(1, 29)]]


def iris(words=True):
    """The frame of iris, with a column "species" of words or of numbers."""
    data = sklearn_data.load_iris(as_frame=True)
    frame = data.frame.rename(columns={"target": "species"})
    return frame.assign(species=data.target_names[frame.species]) if words else frame


IRIS = iris()
IRIS_ROWS = IRIS.iloc[:, :4].to_numpy(np.float32)


def text(frame=IRIS, **options):
    return frame.to_csv(**{"index": False, **options})


def spaced(**options):
    return IRIS.rename(columns=lambda name: name.replace(" ", "_")).to_string(**options)


NAMED_ROWS = IRIS.set_index(IRIS.index.map("r{}".format))

DIALECTS = {
    "commas": text(),
    "line end in a name": text().replace("sepal length (cm)", '"sepal\nlength (cm)"'),
    "semicolons": text(sep=";"),
    "tabs": text(sep="\t"),
    "bars": text(sep="|"),
    "spaces": text(IRIS.rename(columns=lambda name: name.replace(" ", "_")), sep=" "),
    "columns of spaces": spaced(index=False),
    "row names": spaced(),
    "decimal commas": text(sep=";", decimal=","),
    "decimal commas and tabs": text(sep="\t", decimal=","),
    "excel": "sep=;\n" + text(sep=";", decimal=",").replace("\n", ";;\n") + ";;;;;;\n",
    "quotes": text(quoting=1),
    "apostrophes": text(quoting=2, quotechar="'"),
    "blank after commas": text().replace(",", ", "),
    "blanks around": text().replace(",", " , "),
    "commas at line ends": text().replace("\n", ",\n"),
    "commas at line ends, not in the header": text().replace("\n", ",\n").replace("species,", "species", 1),
    "blank lines": "\n" + text().replace("\n", "\n\n") + "  \n",
    "comments": "# flowers\n#\n" + text().replace("\n", "\n# more\n", 3),
    "percent comments": "% flowers\n" + text(),
    "commented header": "# " + text(),
    "byte order mark": text().encode("utf-8-sig"),
    "UTF-16": text().encode("utf-16"),
    "UTF-16 without a mark": text().encode("utf-16-le"),
    "UTF-16, big end first": text().encode("utf-16-be"),
    "UTF-32": text().encode("utf-32"),
    "CRLF": text().replace("\n", "\r\n"),
    "CR": text().replace("\n", "\r"),
    "no last line end": text().rstrip("\n"),
    "scientific": text(float_format="%.18e"),
    "row numbers": text(index=True),
    "row numbers from 1": text(IRIS.set_index(np.arange(1, 151)), index=True),
    "named row numbers": text(index=True, index_label="Id"),
    "row names of R": '"' + '","'.join(IRIS.columns) + '"\n' + text(NAMED_ROWS, index=True, header=False),
    "gzip": gzip.compress(text().encode()),
    "species first": text(IRIS[["species", *IRIS.columns[:4]]]),
}  # fmt: skip


@pytest.mark.parametrize("dialect", DIALECTS)
def test_iris_is_read_in_every_dialect(table, dialect):
    data = read_csv(table(DIALECTS[dialect]))
    np.testing.assert_array_equal(data.images, IRIS_ROWS, strict=True)
    assert data.class_labels() == IRIS.species.tolist()
    assert data.classes == ("setosa", "versicolor", "virginica")
    assert [re.sub(r"[_\n]", " ", name) for name in data.feature_names] == list(IRIS.columns[:4])
    assert (data.pixel_max, data.image_shape) == (1, None)
    assert any("'species'" in note and "3 classes" in note for note in data.notes)


@pytest.mark.parametrize("words", [True, False])
@pytest.mark.parametrize("first", [True, False])
def test_iris_without_a_header_has_its_labels_at_either_end(table, words, first):
    frame = iris(words)
    frame = frame[["species", *frame.columns[:4]]] if first else frame
    data = read_csv(table(text(frame, header=False)))
    np.testing.assert_array_equal(data.images, IRIS_ROWS)
    assert data.class_labels() == frame.species.tolist()
    assert data.feature_names is None
    assert data.notes == ("labels: column 1 (first), 3 classes" if first else "labels: column 5 (last), 3 classes",)


def test_names_in_windows_encoding_are_read_and_noted(table):
    frame = IRIS.rename(columns={IRIS.columns[0]: "Länge"})
    data = read_csv(table(text(frame).encode("cp1252")))
    assert data.feature_names[0] == "Länge"
    assert "cp1252" in data.notes[0]


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_mnist_in_csv_is_read(table, header, pack):
    rows = [mnist_row(0), mnist_row(1, c2=255)]
    path = table(pack(lines(*([MNIST_HEADER] if header else []), *rows).encode()))
    data = read_csv(path, labels="auto" if header else "first")
    np.testing.assert_array_equal(data.images, np.array([row[1:] for row in rows], np.uint8), strict=True)
    np.testing.assert_array_equal(data.labels, np.array([0, 1]), strict=True)
    assert (data.pixel_max, data.image_shape, data.name) == (255, (28, 28), str(path))
    assert data.feature_names is None


@pytest.mark.parametrize(("labels", "classes"), [
    ([0, 1, 3], None), ([256, 9999, 256], (256, 9999)), ([1, 2, 3], (1, 2, 3)), ([-1, 1, 1], (-1, 1)),
    ([5.0, 0.0, 4], None),     (["'5'", "'1'", "'2'"], (1, 2, 5)),
    (["True", "False", "True"], ("False", "True")), (["None", "x", "x"], ("None", "x")),
    ([10**12, 5, 5], (5, 10**12)),
])  # fmt: skip
def test_classes_are_the_labels_of_the_file(table, labels, classes):
    data = read_csv(table(lines(["a", "class"], *([0.5, label] for label in labels))))
    assert data.classes == classes
    assert [str(label) for label in data.class_labels()] == [
        str(label).strip("'").replace(".0", "") for label in labels
    ]


@pytest.mark.parametrize("name", [
    "label", "Class", "TARGET", '"label"', "labels", "classes", "class_label", "digit", "species", "Category",
    "diagnosis", "Outcome", "letter", "quality",
])  # fmt: skip
@pytest.mark.parametrize("position", [0, 2, 4])
def test_the_label_column_is_found_by_name(table, name, position):
    names, row = ["a", "b", "c", "d"], [10, 20, 30, 40]
    names.insert(position, name)
    row.insert(position, 5)
    data = read_csv(table(lines(names, row)))
    assert data.class_labels() == [5]
    assert data.images.tolist() == [[10, 20, 30, 40]]
    assert (data.image_shape, data.feature_names) == (None, ("a", "b", "c", "d"))


def test_a_coordinate_called_y_is_no_label(table):
    path = table(lines(["x", "y", "colour"], [1, 2, "red"], [2, 5, "blue"]))
    assert read_csv(path).class_labels() == ["red", "blue"]
    assert read_csv(table(lines(["x0", "x1", "y"], [1, 2, 0], [2, 5, 1]))).class_labels() == [0, 1]


@pytest.mark.parametrize(("rows", "arguments", "labels", "n_pixels"), [
    ([[0] * 784], {}, None, 784),
    ([[0] * 64], {}, None, 64),
    ([[f"p{number}" for number in range(64)], [0] * 64], {}, None, 64),
    ([[5] + [0] * 64], {}, [5], 64),
    ([[1, 20, 3]], {"labels": "first"}, [1], 2),
    ([[1, 20, 3]], {"labels": "last"}, [3], 2),
    ([[1, 20, 3]], {"labels": "none"}, None, 3),
    ([[1, 20, 3]], {"label": 2}, [20], 2),
    ([["a", "b", "c"], [1, 20, 3]], {"label": "B"}, [20], 2),
    ([["a", "b", "c"], [1, 20, 3]], {"label": "last", "drop": ["a"]}, [3], 1),
    ([[1, 20, 0]], {"n_pixels": 2}, [1], 2),
    ([[1, 20, 3]], {"n_pixels": 3}, None, 3),
    ([[1, 20, 0]], {"image_shape": (1, 2)}, [1], 2),
])  # fmt: skip
def test_the_number_of_columns_or_an_argument_chooses_the_label_column(table, rows, arguments, labels, n_pixels):
    data = read_csv(table(lines(*rows)), **arguments)
    assert (None if data.labels is None else data.class_labels()) == labels
    assert data.images.shape == (1, n_pixels)
    assert data.image_shape == arguments.get("image_shape", data.image_shape)


def samples(seed=0, n=4000):
    """Labels of ten classes, and 16 numbers from 0 to 100 for each, as in UCI's pendigits."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, n)
    return labels, np.clip(rng.normal(50 + 3 * labels[:, None], 20, (n, 16)), 0, 100).astype(int)


def of_pendigits():
    labels, numbers = samples()
    return labels, numbers, 1.0


def of_digits():
    data = sklearn_data.load_digits()
    return data.target, data.data.astype(int), 16.0


def of_mnist_with_a_noisy_corner():
    data = load_mnist()[0].take(slice(4000))
    pixels = data.images.copy()
    pixels[:8, [0, -1]] = np.random.default_rng(0).integers(1, 255, (8, 2))
    return data.labels, pixels, 255.0


def of_bits():
    data = load_mnist()[0].take(slice(4000))
    return data.labels, (data.images > 127).astype(int), 1.0


def of_levels():
    """Inputs that would all do as labels: only their range tells them from the labels."""
    return samples()[0], np.random.default_rng(1).integers(0, 16, (4000, 16)), 1.0


def of_letters():
    labels, numbers = samples()
    return labels + 1, numbers + 100, 1.0


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    "made", [of_levels, of_pendigits, of_digits, of_mnist_with_a_noisy_corner, of_bits, of_letters]
)
def test_labels_stand_out_at_one_end_of_the_row(table, made, first):
    labels, numbers, pixel_max = made()
    rows = np.column_stack([labels, numbers] if first else [numbers, labels])
    data = read_csv(table(pd.DataFrame(rows).to_csv(index=False, header=False)))
    np.testing.assert_array_equal(data.class_labels(), labels)
    np.testing.assert_array_equal(data.images, numbers)
    assert data.pixel_max == pixel_max


@pytest.mark.parametrize("made", [
    lambda rng: rng.integers(0, 2, (200, 6)),  # bits only: any may be the labels
    lambda rng: np.column_stack([rng.integers(0, 3, 200), rng.normal(size=(200, 4)).round(2), rng.integers(0, 3, 200)]),
    lambda rng: rng.normal(size=(200, 5)).round(3),
], ids=["bits", "both ends", "no end"])  # fmt: skip
def test_labels_that_do_not_stand_out_are_asked_for(table, refused, made):
    rows = made(np.random.default_rng(0))
    path = table(pd.DataFrame(rows).to_csv(index=False, header=False))
    refused(lambda: read_csv(path), path, "column 1", f"column {rows.shape[1]}", "--label", "label none")
    assert read_csv(path, label=2, task="regression").images.shape == (200, rows.shape[1] - 1)


def column_sets():
    """Tables as in the UCI repository, without a header: name, columns, and the position of the labels or None."""
    rng = np.random.default_rng(0)
    n = 600
    fractions = [rng.random(n).round(3) for _ in range(5)]
    ratings = [rng.integers(1, 11, n) for _ in range(5)]
    bits, words = rng.integers(0, 2, n), rng.choice(["good", "bad"], n)
    ids = rng.permutation(10**7)[:n]
    return {
        "breast cancer": ([ids, *ratings, rng.choice([2, 4], n)], 6),
        "wdbc": ([ids, rng.choice(["B", "M"], n), *fractions], 1),
        "glass": ([np.arange(1, n + 1), *fractions, rng.choice([1, 2, 3, 5, 6, 7], n)], 6),
        "haberman": ([rng.integers(30, 84, n), rng.integers(58, 70, n), rng.poisson(4, n), rng.integers(1, 3, n)], 3),
        "diabetes": ([rng.poisson(3.8, n), *(20 * column for column in ratings), *fractions, bits], 11),
        "ionosphere": ([bits, *fractions, words], 6),
        "letters": ([rng.choice(list("ABCDEFG"), n), *ratings], 0),
        "banknotes": ([*fractions, bits], 5),
        "signs": ([*fractions, 2 * bits - 1], 5),
        "abalone": ([rng.choice(["M", "F", "I"], n), *fractions, rng.integers(3, 25, n)], None),
        "housing": (fractions, None),
        "cars": ([words, rng.choice(["2", "4"], n), words[::-1]], None),
    }


@pytest.mark.parametrize("name", column_sets())
def test_labels_of_common_tables_are_found_or_asked_for(table, refused, name):
    columns, label = column_sets()[name]
    path = table(text(pd.DataFrame(dict(enumerate(columns))), header=False))
    if label is None:
        refused(lambda: read_csv(path), path, f"column {len(columns)}", "--label")
    else:
        assert [str(each) for each in read_csv(path).class_labels()] == [str(each) for each in columns[label]]


def test_a_line_with_two_tabs_is_read_as_one_of_spaces(table):
    rows = np.column_stack([np.arange(40) / 8, np.arange(40) / 4, np.arange(40) % 3])
    content = "".join("\t".join(f"{value:g}" for value in row) + "\n" for row in rows).replace("\t", "\t\t", 3)
    np.testing.assert_array_equal(read_csv(table(content)).images, rows[:, :2])


def test_two_columns_of_words_are_asked_for(table, refused):
    path = table(lines([39, "State", "HS", "<=50K"], [50, "Private", "HS", ">50K"]))
    refused(lambda: read_csv(path), path, "column 2", "column 3", "column 4", "--label")
    refused(lambda: read_csv(path, label=4), path, "line 1, column 2", "'State'", "a number", "--drop 2")
    assert read_csv(path, label=4, drop=["2", "3"]).images.tolist() == [[39], [50]]


@pytest.mark.parametrize("name", ["id", "ID", "PassengerId", "index", "Unnamed: 0", "", "row_id", "sample id", "count"])
def test_row_numbers_beside_labels_are_left_out_aloud(table, name):
    rows = [[number, mnist_row(number % 10)] for number in range(12)]
    path = table(lines([name, *MNIST_HEADER], *([number, *row] for number, row in rows)))
    data = read_csv(path)
    assert (data.images.shape, data.image_shape) == ((12, 784), (28, 28))
    assert data.notes[0] == f"left out: column 1{f' ({name!r})' if name else ''}, row numbers or ids"


def test_ids_in_any_order_and_without_a_name_are_left_out(table):
    labels, numbers = samples(n=500)
    ids = np.random.default_rng(1).permutation(10**6)[:500]
    rows = np.column_stack([ids, numbers, labels])
    data = read_csv(table(pd.DataFrame(rows).to_csv(index=False, header=False)))
    np.testing.assert_array_equal(data.images, numbers)
    assert "left out: column 1" in data.notes[0]


def test_a_column_that_is_no_pixel_is_never_one(table, refused):
    path = table(lines(["writer", *MNIST_HEADER], [5, *mnist_row()], [9, *mnist_row()]))
    refused(lambda: read_csv(path), path, "'writer'", "28 x 28 pixels", "--drop writer")
    assert read_csv(path, drop="writer").image_shape == (28, 28)


@pytest.mark.parametrize(("rows", "pixel_max", "pixels"), [
    ([[16] * 64], 16, np.full((1, 64), 16, np.uint8)),
    ([[17] * 64], 255, np.full((1, 64), 17, np.uint8)),
    ([[1, 0] * 32], 1, np.array([[1, 0] * 32], np.uint8)),
    ([[0.5, 0.25] * 392], 1, np.array([[0.5, 0.25] * 392], np.float32)),
    ([[-1, 0.25] * 392], 1, np.array([[-1, 0.25] * 392], np.float32)),
    ([["3.0", "255.0", "1e2", ".0"] * 16], 255, np.array([[3, 255, 100, 0] * 16], np.uint8)),
    ([[f"pixel{number}" for number in range(4)], [5, 6, 255, 8]], 255, np.array([[5, 6, 255, 8]], np.uint8)),
])  # fmt: skip
def test_dtype_and_pixel_max_follow_from_the_values(table, rows, pixel_max, pixels):
    path = table(lines(*rows))
    data = read_csv(path, labels="none")
    np.testing.assert_array_equal(data.images, pixels, strict=True)
    assert (data.pixel_max, read_csv(path, labels="none", pixel_max=20).pixel_max) == (pixel_max, 20)
    assert data.image_shape is not None


@pytest.mark.parametrize(("values", "dtype"), [
    ([3, 200, 7], np.float32),  # a column of whole numbers is no image
    ([2**24 + 1, 5, 6], np.float64),
    ([1.6e9 + 0.25, 1.6e9 + 0.5, 1.6e9], np.float64),
    ([1.5, 2.5, 1e30], np.float32),
])  # fmt: skip
def test_features_have_a_type_that_holds_them(table, values, dtype):
    data = read_csv(table(lines(["f", "class"], *([repr(value), 1] for value in values))))
    assert (data.images.dtype, data.image_shape, data.pixel_max) == (dtype, None, 1)
    np.testing.assert_allclose(data.images[:, 0], values, rtol=1e-7)


def test_wine_is_a_table_of_features(table):
    frame = sklearn_data.load_wine(as_frame=True).frame
    data = read_csv(table(text(frame)))
    np.testing.assert_array_equal(data.images, frame.iloc[:, :-1].to_numpy(np.float32), strict=True)
    assert data.feature_names == tuple(frame.columns[:-1])
    moved = frame[["target", *frame.columns[:-1]]].assign(target=frame.target + 1)
    data = read_csv(table(text(moved, header=False)))
    assert data.classes == (1, 2, 3)
    np.testing.assert_array_equal(data.class_labels(), frame.target + 1)


def test_images_of_other_sizes_are_pixels_without_a_shape(table):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 120))
    data = read_csv(table(text(pd.DataFrame(pixels), header=False)), labels="none")
    assert (data.images.dtype, data.pixel_max, data.image_shape) == (np.uint8, 255, None)
    assert read_csv(table(text(pd.DataFrame(pixels), header=False)), image_shape=(10, 12)).image_shape == (10, 12)


def test_targets_of_a_regression_are_numbers(table):
    frame = sklearn_data.load_diabetes(as_frame=True).frame
    data = read_csv(table(text(frame)))
    np.testing.assert_array_equal(data.labels, frame.target.to_numpy().reshape(-1, 1), strict=True)
    assert "214 different values in 442 rows" in data.notes[0]
    assert "--task classification" in data.notes[0]
    assert read_csv(table(text(frame)), task="classification").n_classes == 214


@pytest.mark.parametrize(("labels", "is_regression"), [
    (np.arange(62).repeat(20), False),
    (np.arange(1000).repeat(10), False),
    (np.arange(100).repeat(3), False),  # every class from the first to the last, and no other
    (np.arange(100).repeat(3) * 7, True),
    (np.arange(18, 78).repeat(80), True),  # ages: classes do not begin at 18
    (np.arange(65, 91).repeat(4), True),
    (np.arange(65, 91).repeat(5), False),  # codes of letters
    (np.arange(40) * 100 + 7, True),
    ([0.5, 1.0, 1.5] * 30, True),
    ([1.0, 2.0, 3.0] * 30, False),
    ([7, 1, 4], False),
])  # fmt: skip
def test_numbers_to_predict_are_told_from_classes(table, labels, is_regression):
    labels = np.asarray(labels)
    path = table(text(pd.DataFrame({"f": 0.5, "target": labels})))
    data = read_csv(path)
    assert data.has_targets == is_regression
    forced = read_csv(path, task="classification" if is_regression else "regression")
    assert forced.has_targets != is_regression
    if is_regression:
        assert forced.n_classes == len(np.unique(labels))
    else:
        np.testing.assert_array_equal(forced.labels, labels.reshape(-1, 1))


MISSING = ["", "?", "NA", "nan", "NaN", "null", " ? "]


@pytest.mark.parametrize("field", MISSING)
def test_missing_inputs_are_refused_by_place_or_filled_by_the_mean(table, refused, field):
    path = table(lines(["a", "b", "class"], [1, 2, 0], [field, 4, 1], [5, 6, 1]))
    refused(lambda: read_csv(path), path, "line 3, column 1 ('a')", "found ", "expected a number", "--missing mean")
    data = read_csv(path, missing="mean")
    assert data.images.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert any("column 1 ('a') 1" in note for note in data.notes)


@pytest.mark.parametrize("field", MISSING[:-1])
def test_a_missing_label_is_always_refused(table, refused, field):
    path = table(lines(["a", "class"], [1, "x"], [2, field], [5, "y"]))
    refused(lambda: read_csv(path, missing="mean"), path, "line 3, column 2 ('class')", "expected a label")


def test_a_column_without_any_value_has_no_mean(table, refused):
    path = table(lines(["a", "b", "class"], [1, "", 0], [2, "", 1]))
    refused(lambda: read_csv(path, missing="mean"), path, "column 2 ('b')", "no value")


@pytest.mark.parametrize("arguments", [
    {"header": "maybe"}, {"labels": "middle"}, {"pixel_max": 0}, {"pixel_max": float("nan")}, {"pixel_max": "255"},
    {"image_shape": (28,)}, {"image_shape": (2, 0)}, {"n_pixels": 0}, {"n_pixels": 5, "image_shape": (2, 2)},
    {"max_bytes": 0}, {"missing": "zero"}, {"task": "clustering"}, {"label": 1.5}, {"labels": "first", "label": 2},
])  # fmt: skip
def test_invalid_arguments_are_named(table, refused, arguments):
    path = table(lines([1] * 5))
    refused(lambda: read_csv(path, **arguments), next(iter(arguments)), "expected", kind=SettingsError)


@pytest.mark.parametrize("arguments", [{"label": "d"}, {"label": 4}, {"label": 0}, {"drop": ["d"]}])
def test_a_column_that_is_not_there_is_named(table, refused, arguments):
    path = table(lines(["a", "b", "class"], [1, 2, 0]))
    value = next(iter(arguments.values()))
    parts = (path, next(iter(arguments)), repr(value[0] if isinstance(value, list) else value), "'class'", "1 to 3")
    refused(lambda: read_csv(path, **arguments), *parts)


def test_a_missing_file_and_a_file_above_max_bytes_are_errors(tmp_path, table, refused):
    refused(lambda: read_csv(tmp_path / "no.csv"), tmp_path / "no.csv", "no such file", kind=FileError)
    path = table(lines([1] * 5))
    refused(lambda: read_csv(path, max_bytes=9), path, "10 bytes", "max_bytes = 9")
    path = table(gzip.compress(lines([1] * 5).encode()))
    refused(lambda: read_csv(path, max_bytes=9), path, "more bytes after decompression", "max_bytes = 9")
    assert len(read_csv(path, max_bytes=10, labels="none")) == 1


def test_a_header_is_detected_or_set_by_argument(table):
    row = mnist_row()
    assert len(read_csv(table(lines(MNIST_HEADER, row)), header="yes")) == 1
    assert len(read_csv(table(lines(row, row)), header="no")) == 2
    assert len(read_csv(table(lines(row, row)), header=False)) == 2
    assert len(read_csv(table(lines(row, row)))) == 2
    numbered = read_csv(table(lines(["label", *range(784)], row, row)))
    assert (len(numbered), numbered.image_shape) == (2, (28, 28))


@pytest.mark.parametrize("field", ["nan", "inf", "1_000", '"5"', "' 5 '", "5"])
def test_a_line_with_any_kind_of_number_is_not_a_header(table, refused, field):
    path = table(lines([field] + ["name"] * 4, [0] * 5))
    refused(lambda: read_csv(path), path, "line 1, column 2", "'name' among numbers", "header")


@pytest.mark.parametrize("first", [0, 1])
def test_consecutive_numbers_in_line_1_are_ambiguous(table, refused, first):
    path = table(lines(range(first, first + 64), [5] * 64))
    refused(lambda: read_csv(path), path, "line 1", f"{first} to {first + 63}", "header")
    assert len(read_csv(path, header="yes")) == 1
    assert len(read_csv(path, header="no")) == 2


ROW, HEADER = lines(mnist_row()), lines(MNIST_HEADER)


@pytest.mark.parametrize(("content", "parts"), [
    ("", ["empty file"]),
    (gzip.compress(b""), ["empty file"]),
    ("\n", ["no text"]),
    ("\r\n\r\n", ["no text"]),
    ("\ufeff", ["no text"]),
    ("# nothing\n# else\n", ["only comment lines"]),
    (b"\x01\x02\x03", ["line 1, column 1", "0x01", "text"]),
    *[("label,a,b,c,d" + end, ["header of 5 columns and no data"]) for end in ("", "\n", "\r\n", "\n\n\n")],
    (lines(["label", "class", "a"], [0, 1, 2]), ["1 ('label') and column 2 ('class')", "expected one", "--label"]),
    (lines(["a", "b", "c"], [1, 2, 3]), ["found 3 columns", "1 ('a')", "3 ('c')", "--label"]),
    (HEADER + ROW + lines(mnist_row(c1="")), ["line 3, column 1 ('label'):", "missing value", "expected a label"]),
    (HEADER + lines(mnist_row(c400="")) + ROW, ["line 2, column 400 ('15x7'):", "missing value"]),
    (HEADER + lines(mnist_row(c785="")) + ROW, ["line 2, column 785 ('28x28'):", "missing value"]),
    (ROW + "7\n" + ROW, ["line 2", "found 1 column,", "expected 785", "as in line 1"]),
    (ROW + lines(mnist_row()[:784]), ["line 2", "found 784 columns", "expected 785", "as in line 1"]),
    (ROW + lines([*mnist_row(), 0]) + ROW, ["line 2", "found 786 columns", "expected 785", "as in line 1"]),
    (HEADER + 3 * lines([1] * 784), ["line 2", "found 784 columns", "expected 785", "as in the header"]),
    (HEADER + 3 * lines([1] * 786), ["line 2", "found 786 columns", "expected 785", "as in the header"]),
    ("# c\n\na,b,class\n1,2,x\n\n# c\n3,z,x\n4,5,y\n", ["line 7, column 2 ('b')", "'z'"]),
    ('a,b,class\n1,"2,x\n2,3,y\n', ["line 2", "expected 3"]),
    ('a,b,class\n"1\n",2,x\n2,?,y\n', ["line 4, column 2"]),
    ("a;b;class\n1,234;2;x\n5,678;3;y\n", ["line 2, column 1 ('a')", "'1,234'", "separators of thousands"]),
    ('a,b,class\n"1,234",2,x\n2,3,y\n', ["line 2, column 1 ('a')", "'1,234'", "separators of thousands"]),
    ("a;b;class\n1.234,5;2;x\n5.678,1;3;y\n", ["line 2, column 1 ('a')", "'1.234,5'"]),
], ids=lambda value: " ".join(value) if isinstance(value, list) else "")  # fmt: skip
def test_an_invalid_table_gives_one_clear_error(table, refused, content, parts):
    path = table(content)
    refused(lambda: read_csv(path), path, "found", *parts)


def test_an_unexpected_number_of_pixels_is_an_error(table, refused):
    path = table(lines([1] * 65))
    refused(lambda: read_csv(path, labels="first", n_pixels=784), path, "65 columns, 64 of them", "784")


@pytest.mark.parametrize("label", ["inf", "x", "1_0"])
def test_a_label_unlike_the_others_is_located(table, refused, label):
    path = table(lines(MNIST_HEADER, mnist_row(), mnist_row(label), mnist_row()))
    refused(lambda: read_csv(path), path, "line 3, column 1 ('label')", f"found '{label}'", "a label")


@pytest.mark.parametrize("pixel", [-1, 256, 65536, "99999999999999999999", "-0.5"])
@pytest.mark.parametrize("column", [2, 785])
def test_a_pixel_out_of_range_is_located(table, refused, pixel, column):
    path = table(lines(MNIST_HEADER, mnist_row(), mnist_row(), mnist_row(**{f"c{column}": pixel})))
    refused(lambda: read_csv(path), path, f"line 4, column {column} ", f"found '{pixel}'", "from 0 to 255")


@pytest.mark.parametrize("pixel", ["300", "x", "0.5"])
def test_a_pixel_is_located_after_a_label_column_in_the_middle_and_many_lines(table, refused, pixel):
    rows = [[7, 9, n % 10, 30, 40] for n in range(2500)]
    rows[1100][4] = pixel
    path = table(lines(["pixel0", "pixel1", "label", "pixel2", "pixel3"], *rows))
    refused(lambda: read_csv(path), path, "line 1102, column 5 ('pixel3')", f"found '{pixel}'")


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_lines_are_counted_with_all_line_ends_and_a_byte_order_mark(table, refused, newline, mark):
    path = table(mark + lines(MNIST_HEADER, mnist_row(1), mnist_row(2), mnist_row(c9=256)).replace("\n", newline))
    refused(lambda: read_csv(path), path, "line 4, column 9")


@pytest.mark.parametrize(("field", "found"), [
    ("5;6", "'5;6'"), ("\0", "NUL byte (0x00)"), ("5\0", "NUL byte (0x00)"), (b"\xe95", "\\xe95"), ("\u00a05x", "5x"),
    *[(word, repr(word)) for word in ("#5", "-inf", "Infinity", "1e999", "-1e999", "1e39", "0x1F", "1_0", "5 6", "$5")],
    ("\u0663", "\\u0663"),
])  # fmt: skip
def test_a_field_that_is_not_a_finite_number_is_located(table, refused, field, found):
    content = lines(mnist_row(0), mnist_row(1, c50="@"), mnist_row(0)).encode()
    path = table(content.replace(b"@", field if isinstance(field, bytes) else field.encode()))
    refused(lambda: read_csv(path, labels="first"), path, "line 2, column 50", found, "expected ")


def test_a_giant_field_is_shortened_in_the_message(table, refused):
    for giant in ("x" * 200_000, "9" * 200_000):
        path = table(lines(mnist_row(0), mnist_row(1, c8=giant), mnist_row(0)))
        message = refused(lambda path=path: read_csv(path, labels="first"), path, "line 2, column 8", "200000 bytes")
        assert len(message) < 400


@given(
    pixels=st.lists(st.lists(st.integers(0, 255), min_size=9, max_size=9), min_size=1, max_size=6),
    newline=st.sampled_from(["\n", "\r\n", "\r"]),
    mark=st.sampled_from([",", ";", "\t", "|", " ", ", "]),
    header=st.booleans(),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    packed=st.booleans(),
    seed=st.integers(0, 1000),
)
@in_one_folder
def test_a_written_table_is_read_back_equal(table, pixels, newline, mark, header, encoding, packed, seed):
    labels = np.random.default_rng(seed).integers(0, 1000, len(pixels)).tolist()
    rows = [[label, *row] for label, row in zip(labels, pixels, strict=True)]
    content = lines(*[["digit", *(f"pixel{number}" for number in range(9))]] * header, *rows)
    content = content.replace(",", mark).replace("\n", newline)
    data = (content if seed % 2 else content.removesuffix(newline)).encode(encoding)
    path = table(gzip.compress(data) if packed else data)
    read = read_csv(path, header="yes" if header else "no", labels="first", image_shape=(3, 3), task="classification")
    np.testing.assert_array_equal(read.images, np.array(pixels, np.uint8), strict=True)
    assert read.class_labels() == labels


FIELD = st.one_of(
    st.integers(-2, 300).map(str),
    st.floats(allow_nan=False, allow_infinity=False, width=32).map(repr),
    st.text("0123456789.eE+-", max_size=6),
    st.sampled_from(["nan", "1e39", "1_0", "1_000", "\u0663", "\uff15", "x", "1e-999", "007", "\x0b"]),
)


@given(rows=st.lists(st.lists(FIELD, min_size=2, max_size=2), min_size=1, max_size=4))
@example(rows=[["1.", ".5"], ["+1e5", "-.5E-1"]])
@example(rows=[["1", "2"], ["3", "0x1F"]])
@in_one_folder
def test_numbers_are_parsed_as_python_does_or_refused(table, outcome, rows):
    rows = [[*row, "7"] for row in rows]  # a last column that is empty would be left out
    data = outcome(lambda: read_csv(table(lines(*rows)), header="no", labels="none"))
    if isinstance(data, str):
        assert "table.csv" in data
    else:
        np.testing.assert_allclose(data.images, np.array([[float(each) for each in row] for row in rows]), rtol=1e-6)


@given(
    content=st.one_of(
        st.binary(max_size=80),
        st.text(max_size=60).map(str.encode),
        st.text("0123456789,.\n\r-eE;\"' nan\ufeff#", max_size=80).map(str.encode),
    ),
    labels=st.sampled_from(["auto", "first", "last", "none"]),
    header=st.sampled_from(["auto", "yes", "no"]),
    missing=st.sampled_from(["refuse", "mean"]),
)
@settings(in_one_folder, max_examples=200)
def test_any_text_gives_data_or_one_clear_error(table, outcome, content, labels, header, missing):
    data = outcome(lambda: read_csv(table(content), labels=labels, header=header, missing=missing))
    if isinstance(data, str):
        assert "table.csv" in data
    else:
        assert len(data) >= 1
        assert np.isfinite(data.images).all()


@pytest.mark.parametrize("header", ["0,1,2,digit", "1,2,3,animal", "2019,2020,2021,Class", "5,7,9,label"])
def test_numbers_in_line_1_are_names_beside_the_name_of_the_labels(header, tmp_path):
    """Pandas names columns 0, 1, 2 ...; where the labels are words, their name is no further class."""
    rows = [f"{n},{n * n % 7},{n % 5},{('cat', 'dog')[n % 2]}" for n in range(30)]
    (tmp_path / "t.csv").write_text("\n".join([header, *rows]))
    data = read_files(tmp_path / "t.csv")[0]
    assert len(data) == 30
    assert data.classes == ("cat", "dog")
    (tmp_path / "t.csv").write_text("\n".join(["0,1,2,cat", *rows]))
    assert len(read_files(tmp_path / "t.csv")[0]) == 31
