"""Tests of CSV tables: what is read, and one clear error for each kind of invalid table."""

import gzip

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fastnn.datasets import csv, read_csv
from fastnn.errors import FileError, SettingsError

in_one_folder = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


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


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_mnist_in_csv_is_read(table, header, pack):
    rows = [mnist_row(256), mnist_row(9999, c2=255)]
    path = table(pack(lines(*([MNIST_HEADER] if header else []), *rows).encode()))
    data = read_csv(path)
    np.testing.assert_array_equal(data.images, np.array([row[1:] for row in rows], np.uint8), strict=True)
    np.testing.assert_array_equal(data.labels, np.array([256, 9999]), strict=True)
    assert (data.pixel_max, data.image_shape, data.name) == (255, (28, 28), str(path))


@pytest.mark.parametrize("name", ["label", "Class", "TARGET", "y", '"label"'])
@pytest.mark.parametrize("position", [0, 2, 4])
def test_the_label_column_is_found_by_name(table, name, position):
    names, row = ["a", "b", "c", "d"], [10, 20, 30, 40]
    names.insert(position, name)
    row.insert(position, 5)
    data = read_csv(table(lines(names, row)))
    assert data.labels.tolist() == [5]
    assert data.images.tolist() == [[10, 20, 30, 40]]
    assert data.image_shape == (2, 2)


@pytest.mark.parametrize(("rows", "arguments", "labels", "n_pixels"), [
    ([[0] * 784], {}, None, 784),
    ([[0] * 64], {}, None, 64),
    ([["p"] * 64, [0] * 64], {}, None, 64),
    ([[5] + [0] * 64], {}, [5], 64),
    ([[5] + [0] * 9], {}, [5], 9),
    ([[1, 20, 3]], {"labels": "first"}, [1], 2),
    ([[1, 20, 3]], {"labels": "last"}, [3], 2),
    ([[1, 20, 3]], {"labels": "none"}, None, 3),
    ([[1, 20, 3]], {"n_pixels": 2}, [1], 2),
    ([[1, 20, 3]], {"n_pixels": 3}, None, 3),
    ([[1, 20, 3]], {"image_shape": (1, 2)}, [1], 2),
])  # fmt: skip
def test_the_number_of_columns_or_an_argument_chooses_the_label_column(table, rows, arguments, labels, n_pixels):
    data = read_csv(table(lines(*rows)), **arguments)
    assert (None if data.labels is None else data.labels.tolist()) == labels
    assert data.images.shape == (1, n_pixels)
    assert data.image_shape == arguments.get("image_shape", data.image_shape)


@pytest.mark.parametrize(("rows", "pixel_max", "pixels"), [
    ([[16] * 64], 16, np.full((1, 64), 16, np.uint8)),
    ([[17] * 64], 255, np.full((1, 64), 17, np.uint8)),
    ([[3, 0.5, 0.25, 0, 1]], 1, np.array([[0.5, 0.25, 0, 1]], np.float32)),
    ([[0, 5.1, -3.5, 1.4, 300]], 1, np.array([[5.1, -3.5, 1.4, 300]], np.float32)),
    ([[3.0, 255.0, "1e2", ".0", "+7."]], 255, np.array([[255, 100, 0, 7]], np.uint8)),
    # with a blank image
    ([[3, 0, 255, 1, 0], [4, 0.25, 0.5, 0.75, 1]], 1, np.array([[0, 255, 1, 0], [0.25, 0.5, 0.75, 1]], np.float32)),
])  # fmt: skip
def test_dtype_and_pixel_max_follow_from_the_values(table, rows, pixel_max, pixels):
    path = table(lines(*rows))
    data = read_csv(path)
    np.testing.assert_array_equal(data.images, pixels, strict=True)
    assert (data.pixel_max, read_csv(path, pixel_max=20).pixel_max) == (pixel_max, 20)


def test_a_fraction_among_whole_pixels_is_located(table, refused):
    path = table(lines([3, 0, 255, 1, 0], [4, 7, 0.5, 7, 0]))
    refused(lambda: read_csv(path), path, "line 2, column 3", "found '0.5'", "from 0 to 255, like most of the table")


@pytest.mark.parametrize("arguments", [
    {"header": "maybe"}, {"labels": "middle"}, {"pixel_max": 0}, {"pixel_max": float("nan")}, {"pixel_max": "255"},
    {"image_shape": (28,)}, {"image_shape": (2, 0)}, {"n_pixels": 0}, {"n_pixels": 5, "image_shape": (2, 2)},
    {"max_bytes": 0},
])  # fmt: skip
def test_invalid_arguments_are_named(table, refused, arguments):
    path = table(lines([1] * 5))
    refused(lambda: read_csv(path, **arguments), next(iter(arguments)), "expected", kind=SettingsError)


def test_a_missing_file_and_a_file_above_max_bytes_are_errors(tmp_path, table, refused):
    refused(lambda: read_csv(tmp_path / "no.csv"), tmp_path / "no.csv", "no such file", kind=FileError)
    path = table(lines([1] * 5))
    refused(lambda: read_csv(path, max_bytes=9), path, "10 bytes", "max_bytes = 9")
    path = table(gzip.compress(lines([1] * 5).encode()))
    refused(lambda: read_csv(path, max_bytes=9), path, "more bytes after decompression", "max_bytes = 9")
    assert len(read_csv(path, max_bytes=10)) == 1


def test_a_header_is_detected_or_set_by_argument(table, refused):
    row = mnist_row()
    assert len(read_csv(table(lines(MNIST_HEADER, row)), header="yes")) == 1
    assert len(read_csv(table(lines(row, row)), header="no")) == 2
    assert len(read_csv(table(lines(row, row)))) == 2
    path = table(lines(MNIST_HEADER, row))
    refused(lambda: read_csv(path, header="no"), path, "line 1, column 1", "'label'", "a number")


@pytest.mark.parametrize("field", ["nan", "inf", "1_000", "١٢", '"5"', "' 5 '", "5"])
def test_a_line_with_any_kind_of_number_is_not_a_header(table, refused, field):
    path = table(lines([field] + ["name"] * 4, [0] * 5))
    refused(lambda: read_csv(path), path, "line 1, column 2", "'name' among numbers", 'header="yes"')
    path = table(lines([field] * 5, [0] * 5))
    if field != "5":
        refused(lambda: read_csv(path), path, "line 1, column 1", "expected a number")


@pytest.mark.parametrize("first", [0, 1])
def test_consecutive_numbers_in_line_1_are_ambiguous(table, refused, first):
    path = table(lines(range(first, first + 64), [5] * 64))
    refused(lambda: read_csv(path), path, "line 1", f"{first} to {first + 63}", 'header="yes"')
    assert len(read_csv(path, header="yes")) == 1
    assert len(read_csv(path, header="no")) == 2


def test_labels_in_the_last_column_are_not_read_as_pixels(table, refused):
    path = table(lines([0, 9, 9, 9, 3], [0, 8, 8, 8, 4]))
    refused(lambda: read_csv(path), path, "column 1", 'labels="first"')
    assert read_csv(path, labels="last").labels.tolist() == [3, 4]
    assert read_csv(path, labels="first").labels.tolist() == [0, 0]


ROW, HEADER = lines(mnist_row()), lines(MNIST_HEADER)
HINT = 'labels="first"'


@pytest.mark.parametrize(("text", "parts"), [
    ("", ["empty file"]),
    (gzip.compress(b""), ["empty file"]),
    ("\n", ["no text"]),
    ("\r\n\r\n", ["no text"]),
    ("\ufeff", ["no text"]),
    (ROW.encode("utf-16"), ["UTF-16", "expected UTF-8"]),
    ("\n" + ROW, ["line 1", "blank line"]),
    *[((HEADER + ROW).replace(",", mark), ["line 1", f"delimiter {mark!r}", "expected ','"]) for mark in ";\t|"],
    *[("label,a,b,c,d" + end, ["header of 5 columns and no data"]) for end in ("", "\n", "\r\n", "\n\n\n")],
    (lines(["", "label", "a"], [0, 1, 2]), ["line 1, column 1", "missing", "column name", "row index"]),
    (lines(["label", "y", "a"], [0, 1, 2]), ["1 ('label') and 2 ('y')", "expected one", HINT]),
    ('label,"a,b",c\n1,2,3\n', ["line 1, column 2", "quotation mark"]),
    (b"label,\xe9,c\n1,2,3\n", ["line 1, column 2", "byte 0xe9", "column name"]),
    (lines([1, 2, 3]), ["line 1", "found 3 columns", "785", "784", HINT]),
    (lines(["a", "b", "c"], [1, 2, 3]), ["found 3 columns", "label, class, target, y", HINT]),
    (HEADER + ROW + lines(mnist_row(c1="")), ["line 3, column 1:", "missing value", "expected a number"]),
    (HEADER + lines(mnist_row(c400="")) + ROW, ["line 2, column 400:", "missing value"]),
    (HEADER + lines(mnist_row(c785="")) + ROW, ["line 2, column 785:", "missing value"]),
    (ROW + "\n" + ROW, ["line 2", "blank line", "785 columns"]),
    (ROW + "7\n" + ROW, ["line 2", "found 1 column,", "expected 785", "as in line 1"]),
    (ROW + lines(mnist_row()[:784]), ["line 2", "found 784 columns", "expected 785", "as in line 1"]),
    (ROW + lines([*mnist_row(), 0]) + ROW, ["line 2", "found 786 columns", "expected 785", "as in line 1"]),
    (HEADER + 3 * lines([1] * 784), ["line 2", "found 784 columns", "expected 785", "as in the header"]),
    (HEADER + 3 * lines([1] * 786), ["line 2", "found 786 columns", "expected 785", "as in the header"]),
], ids=lambda value: " ".join(value) if isinstance(value, list) else "")  # fmt: skip
def test_an_invalid_table_gives_one_clear_error(table, refused, text, parts):
    path = table(text)
    refused(lambda: read_csv(path), path, "found", *parts)


def test_an_unexpected_number_of_pixels_is_an_error(table, refused):
    path = table(lines([1] * 65))
    refused(lambda: read_csv(path, n_pixels=784), path, "found 65 columns", "784", "785")
    refused(lambda: read_csv(path, labels="first", n_pixels=784), path, "64 of them pixels", "784 pixels")


@pytest.mark.parametrize("label", [-1, 3.5, 10_000, "1e30"])
def test_a_label_out_of_range_is_located(table, refused, label):
    path = table(lines(MNIST_HEADER, mnist_row(), mnist_row(label)))
    refused(lambda: read_csv(path), path, "line 3, column 1", f"found '{label}'", "a label", "0 to 9999")


@pytest.mark.parametrize("pixel", [-1, 256, 65536, "99999999999999999999", "-0.5"])
@pytest.mark.parametrize("column", [2, 785])
def test_a_pixel_out_of_range_is_located(table, refused, pixel, column):
    path = table(lines(mnist_row(), mnist_row(), mnist_row(), mnist_row(**{f"c{column}": pixel})))
    refused(lambda: read_csv(path), path, f"line 4, column {column}", f"found '{pixel}'", "from 0 to 255")


@pytest.mark.parametrize("pixel", ["300", "x"])
def test_a_pixel_is_located_after_a_label_column_in_the_middle_and_many_lines(table, refused, pixel):
    rows = [[1, 2, n % 10, 3, 4] for n in range(2500)]
    rows[1100][4] = pixel
    path = table(lines(["a", "b", "label", "c", "d"], *rows))
    refused(lambda: read_csv(path), path, "line 1102, column 5", f"found '{pixel}'")


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_lines_are_counted_with_all_line_ends_and_a_byte_order_mark(table, refused, newline, mark):
    path = table(mark + lines(MNIST_HEADER, mnist_row(1), mnist_row(2), mnist_row(c9=256)).replace("\n", newline))
    refused(lambda: read_csv(path), path, "line 4, column 9")


@pytest.mark.parametrize(("field", "found"), [
    ("5;6", "semicolon"), ("5\t", "tab"), ('"5"', "quotation mark"), ("'5'", "quotation mark"),
    ("\0", "NUL byte (0x00)"), ("5\0", "NUL byte (0x00)"), (b"\xe95", "byte 0xe9"),
    (" 5", "white space"), ("5 ", "white space"), ("\u00a05", "white space"), ("\u2028", "white space"),
    *[(word, repr(word)) for word in ("#5", "nan", "-inf", "Infinity", "1e999", "-1e999", "1e39", "NA", "0x1F")],
])  # fmt: skip
def test_a_field_that_is_not_a_finite_number_is_located(table, refused, field, found):
    text = lines(mnist_row(), mnist_row(c50="@"), mnist_row()).encode()
    path = table(text.replace(b"@", field if isinstance(field, bytes) else field.encode()))
    refused(lambda: read_csv(path), path, "line 2, column 50", found, "expected a number")


def test_a_giant_field_is_shortened_in_the_message(table, refused):
    for giant in ("x" * 200_000, "9" * 200_000):
        path = table(lines(mnist_row(), mnist_row(c8=giant)))
        message = refused(lambda path=path: read_csv(path), path, "line 2, column 8", "200000 bytes")
        assert len(message) < 400


@given(
    pixels=st.lists(st.lists(st.integers(0, 255), min_size=9, max_size=9), min_size=1, max_size=6),
    newline=st.sampled_from(["\n", "\r\n", "\r"]),
    header=st.booleans(),
    final=st.booleans(),
    mark=st.booleans(),
    packed=st.booleans(),
    seed=st.integers(0, 1000),
)
@in_one_folder
def test_a_written_table_is_read_back_equal(table, pixels, newline, header, final, mark, packed, seed):
    labels = np.random.default_rng(seed).integers(0, 1000, len(pixels)).tolist()
    rows = [[label, *row] for label, row in zip(labels, pixels, strict=True)]
    text = lines(*[["y", *"abcdefghi"]] * header, *rows).replace("\n", newline)
    data = ("\ufeff" * mark + (text if final else text.removesuffix(newline))).encode()
    path = table(gzip.compress(data) if packed else data)
    read = read_csv(path, header="yes" if header else "no", labels="first")
    np.testing.assert_array_equal(read.images, np.array(pixels, np.uint8), strict=True)
    assert read.labels.tolist() == labels


NUMBER_LIKE = st.text("0123456789.eE+-", max_size=6)
FIELD = st.one_of(
    st.integers(-2, 300).map(str),
    st.floats(allow_nan=False, width=32).map(repr),
    NUMBER_LIKE,
    st.sampled_from(["nan", "1e39", "1_0", "1_000", " 5", '"5"', "", "\u0663", "\uff15", "x", "1e-999", "007", "\x0b"]),
)


def parsed_by_python(field):
    """The finite float32 that a field of ASCII digits, signs, points and exponents stands for; else None."""
    if field.strip("0123456789.eE+-") or not field.isascii():
        return None
    try:
        with np.errstate(over="ignore"):
            number = np.float32(float(field))
    except ValueError:
        return None
    return number if np.isfinite(number) else None


@given(rows=st.lists(st.lists(FIELD, min_size=1, max_size=3), min_size=1, max_size=4))
@example(rows=[["1", "2"], [""]])
@example(rows=[["1"], [""], ["2"]])
@example(rows=[["1.", ".5"], ["+1e5", "-.5E-1"]])
@settings(max_examples=600, deadline=None)
def test_numbers_are_parsed_as_python_does_or_the_first_error_is_found(rows):
    text = "\n".join(",".join(row) for row in rows).encode()
    table = csv._parse(text, len(rows[0]))
    expected = [[parsed_by_python(field) for field in row] for row in rows]
    if all(len(row) == len(rows[0]) and None not in row for row in expected):
        np.testing.assert_array_equal(table, expected)
        is_bytes = all(field.isdigit() and int(field) <= 255 for row in rows for field in row)
        assert table.dtype == (np.uint8 if is_bytes else np.float32)
    else:
        assert table is None
        bad = next(n for n, row in enumerate(expected, 1) if len(row) != len(rows[0]) or None in row)
        message = str(csv._error_of_text(csv._Body(text, 1, len(rows[0]), "t.csv")))
        assert message.startswith((f"t.csv: line {bad}:", f"t.csv: line {bad}, column"))


@given(
    text=st.one_of(
        st.binary(max_size=80),
        st.text(max_size=60).map(str.encode),
        st.text("0123456789,.\n\r-eE;\"' nan\ufeff", max_size=80).map(str.encode),
    ),
    labels=st.sampled_from(["auto", "first", "last", "none"]),
    header=st.sampled_from(["auto", "yes", "no"]),
)
@in_one_folder
def test_any_text_gives_data_or_one_clear_error(table, outcome, text, labels, header):
    path = table(text)
    data = outcome(lambda: read_csv(path, labels=labels, header=header))
    if isinstance(data, str):
        assert "table.csv" in data
    else:
        assert len(data) >= 1
        assert np.isfinite(data.images).all()
