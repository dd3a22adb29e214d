"""Reads CSV tables of digits, such as MNIST in CSV. Each line has the pixels of a sample and optionally its label."""

import re
from contextlib import suppress
from io import BytesIO
from typing import Literal, NamedTuple

import numpy as np

from fastnn.checks import check_choice, check_integer, check_number, display_path
from fastnn.datasets.dataset import Dataset
from fastnn.datasets.files import MAX_BYTES, FilePath, read_whole
from fastnn.datasets.pixels import LABEL_EXPECTED, are_labels, check_not_empty, pixel_scale, square
from fastnn.errors import DataError, SettingsError

Header = Literal["auto", "yes", "no"]
Labels = Literal["auto", "first", "last", "none"]

_LABEL_NAMES = ("label", "class", "target", "y")
_LABELS_HINT = 'pass labels="first", "last" or "none"'
_PIXEL_EXPECTED = "a whole number from 0 to 255"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_NUMBER = re.compile(rb"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_LARGEST_FLOAT32 = float(np.finfo(np.float32).max)
# If line 1 counts up from 0 or 1 over at least this number of columns, it is probably a header: pandas gives columns
# such names.
_MIN_LONG_RUN = 10
# NumPy's parser narrows the search for an error down to this number of lines, which are then read field by field.
_SEARCHED_LINES = 1000


class _Body(NamedTuple):
    """The lines of numbers in a CSV file, separated by line feeds."""

    text: bytes
    first_line: int  # the number of the first line in the file, counted from 1
    n_columns: int  # the number of fields in line 1 of the file
    name: str  # the name of the file in messages

    def error(self, row: int, column: int, expected: str) -> DataError:
        """Return the error that reports the field at `row` and `column`, counted from 0."""
        field = self.text.split(b"\n", row + 1)[row].split(b",")[column]
        where = f"{self.name}: line {self.first_line + row}, column {column + 1}"
        return DataError(f"{where}: {_describe_field(field)}, expected {expected}")


def read_csv(
    path: FilePath,
    *,
    header: Header = "auto",
    labels: Labels = "auto",
    pixel_max: float | None = None,
    image_shape: tuple[int, int] | None = None,
    n_pixels: int | None = None,
    max_bytes: int = MAX_BYTES,
) -> Dataset:
    """Read a table of comma-separated numbers, with or without a header, labels and gzip compression.

    Fields must be plain ASCII numbers: quotation marks, white space, missing values, nan and inf are errors. Lines may
    end in LF, CRLF or CR. A UTF-8 byte order mark is skipped.

    Parameters
    ----------
    path : path
    header : {"auto", "yes", "no"}
        Whether line 1 contains the names of the columns. "auto": it does if none of its fields is a number.
    labels : {"auto", "first", "last", "none"}
        The column of the labels. "auto" uses the column named label, class, target or y (in any case). Without such a
        name, the number of columns decides:

        - A square number, such as 784 or 64, means that there are no labels.
        - A square number plus 1, such as 785 or 65, means that the labels are in the first column. This requires a
          table without a header.
        - Any other number is an error.

        If `n_pixels` or `image_shape` is given, it replaces the square number.
    pixel_max : float, optional
        The largest value a pixel can have. By default 255 for whole numbers (16 for 64 pixels of at most 16), and 1
        for floats.
    image_shape : (int, int), optional
        Height and width of the images. By default (side, side) if the number of pixels is a square number, else None.
    n_pixels : int, optional
        The number of pixels that a row must have.
    max_bytes : int
        The largest accepted size of the file, decompressed.

    Returns
    -------
    Dataset
        - images: (N, D), uint8 if all pixels are whole numbers from 0 to 255, float32 if some are fractions. If whole
          numbers other than 0 and 1 outnumber the fractions, a fraction is an error.
        - labels: (N,) int64, or None

    Raises
    ------
    DataError
        If the table is invalid. The message gives line and column, counted from 1.
    FileError
        If the file cannot be opened.
    SettingsError
        If an argument is invalid, or arguments contradict each other.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np
    >>> import fastnn
    >>> with TemporaryDirectory() as folder:
    ...     np.savetxt(f"{folder}/digits.csv", [[7, 0, 0, 9, 9], [1, 8, 8, 0, 0]], "%d", ",")
    ...     data = fastnn.read_csv(f"{folder}/digits.csv")
    >>> data.labels, data.image_shape
    (array([7, 1]), (2, 2))
    """
    check_choice("header", header, ("auto", "yes", "no"))
    check_choice("labels", labels, ("auto", "first", "last", "none"))
    if pixel_max is not None:
        pixel_max = check_number("pixel_max", pixel_max, above=0)
    n_pixels = _required_pixels(image_shape, n_pixels)
    name = display_path(path)
    text = _normalised(read_whole(path, max_bytes), name)
    first_line = text.split(b"\n", 1)[0]
    fields = _fields(first_line, name)
    names = _column_names(fields, header, name)
    if names is not None:
        text = text[len(first_line) + 1 :]
        if not text:
            header_only = f"a header of {len(fields)} columns and no data"
            raise DataError(f"{name}: found {header_only}, expected lines of numbers after it")
    label_column, guessed = _label_column(len(fields), names, labels, n_pixels, name)
    found = len(fields) - (label_column is not None)
    if found < 1 or n_pixels not in (None, found):
        columns = f"{len(fields)} columns, {found} of them pixels"
        raise DataError(f"{name}: line 1: found {columns}, expected {n_pixels or 'at least 1'} pixels")
    body = _Body(text, 1 if names is None else 2, len(fields), name)
    images, classes = _pixels_and_labels(body, label_column)
    if guessed and classes is not None and len(classes) > 1 and not classes.any() and images[:, -1].any():
        # The labels are probably in the last column, and column 1 is an empty corner pixel.
        zeros = "only zeros, and nonzero numbers in the last column"
        raise DataError(f"{name}: column 1: found {zeros}, expected labels in column 1; {_LABELS_HINT}")
    check_not_empty(images.shape, name)
    return Dataset(images, classes, pixel_max or pixel_scale(images), image_shape or square(images.shape[1]), name)


def _required_pixels(image_shape: tuple[int, int] | None, n_pixels: int | None) -> int | None:
    """Return the number of pixels that a row must have; None if neither argument is given."""
    if n_pixels is not None:
        check_integer("n_pixels", n_pixels, 1)
    if image_shape is None:
        return n_pixels
    if not (isinstance(image_shape, tuple) and len(image_shape) == 2):
        raise SettingsError(f"image_shape is {image_shape!r}, expected (height, width)")
    height, width = (check_integer("a side of image_shape", side, 1) for side in image_shape)
    if n_pixels not in (None, height * width):
        raise SettingsError(f"n_pixels is {n_pixels}, expected {height * width} because image_shape is {image_shape}")
    return height * width


def _normalised(text: bytes, name: str) -> bytes:
    """Remove the byte order mark and final line ends, and convert all line ends to line feeds."""
    if text[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(f"{name}: found UTF-16 text (bytes {text[:2].hex(' ')}), expected UTF-8")
    text = text.removeprefix(_BYTE_ORDER_MARK).rstrip(b"\r\n")
    if not text:
        raise DataError(f"{name}: found no text, expected lines of numbers")
    return text.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in text else text


def _fields(line: bytes, name: str) -> list[bytes]:
    """Return the fields of line 1; raise DataError if it is blank or has another delimiter."""
    if not line:
        raise DataError(f"{name}: line 1: found a blank line, expected column names or numbers")
    fields = line.split(b",")
    for mark in (b";", b"\t", b"|"):
        if len(fields) == 1 and mark in line:
            raise DataError(f"{name}: line 1: found the delimiter {mark.decode()!a}, expected ','")
    return fields


def _column_names(fields: list[bytes], header: Header, name: str) -> list[str] | None:
    """Return the column names if line 1 is a header, else None."""
    numbers = [_looks_like_number(field) for field in fields]
    if header == "no" or (header == "auto" and any(numbers)):
        if header == "auto":
            _check_first_row(fields, numbers, name)
        return None
    names = []
    for column, field in enumerate(fields, 1):
        text = field.decode(errors="surrogateescape").strip()  # invalid bytes become unprintable characters
        if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
            text = text[1:-1]
        if not text or '"' in text or not text.isprintable():
            hint = "" if text else "; a column without a name may be a row index, which must be removed"
            raise DataError(f"{name}: line 1, column {column}: {_describe_field(field)}, expected a column name{hint}")
        names.append(text)
    return names


def _check_first_row(fields: list[bytes], numbers: list[bool], name: str) -> None:
    """Raise DataError if the first line of data could also be a header."""
    if not all(numbers):
        column = numbers.index(False)
        raise DataError(
            f"{name}: line 1, column {column + 1}: {_describe_field(fields[column])} among numbers, "
            'expected only numbers or only names; if line 1 is a header, pass header="yes"'
        )
    for first in (0, 1):
        run = range(first, first + len(fields))
        if len(fields) >= _MIN_LONG_RUN and fields == [b"%d" % number for number in run]:
            raise DataError(
                f"{name}: line 1: found the numbers {run[0]} to {run[-1]} in order, perhaps a header; "
                'pass header="yes" or "no"'
            )


def _looks_like_number(field: bytes) -> bool:
    """Return whether this field of line 1 shows that the line is data, not a header.

    Some fields that are errors in data also show it, such as "5" in quotation marks, nan and 1_000.
    """
    with suppress(ValueError):
        float(field.decode(errors="replace").strip().strip("\"'").strip())
        return True
    return False


def _label_column(
    n_columns: int, names: list[str] | None, labels: Labels, n_pixels: int | None, name: str
) -> tuple[int | None, bool]:
    """Return the label column (counted from 0, or None), and whether it was guessed from the number of columns."""
    if labels != "auto":
        return {"first": 0, "last": n_columns - 1, "none": None}[labels], False

    def fits(number: int) -> bool:
        return bool(square(number)) if n_pixels is None else number == n_pixels

    named = [column for column, text in enumerate(names or ()) if text.casefold() in _LABEL_NAMES]
    if len(named) == 1:
        return named[0], False
    if names is not None and named:
        columns = " and ".join(f"{column + 1} ({names[column]!a})" for column in named)
        raise DataError(f"{name}: line 1: found label columns {columns}, expected one; {_LABELS_HINT}")
    if fits(n_columns):
        return None, False
    if names is not None:
        raise DataError(
            f"{name}: line 1: found {n_columns} columns, none of them named {', '.join(_LABEL_NAMES)}, "
            f"expected one such name, or {n_pixels or 'a square number of'} columns of pixels; {_LABELS_HINT}"
        )
    if fits(n_columns - 1):
        return 0, True
    expected = "785 (label and 28 x 28 pixels), 784, 65 (label and 8 x 8 pixels), 64 or another square number"
    if n_pixels is not None:
        expected = f"{n_pixels}, or {n_pixels + 1} with labels"
    raise DataError(f"{name}: line 1: found {n_columns} columns, expected {expected}; {_LABELS_HINT}")


def _pixels_and_labels(body: _Body, label_column: int | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Parse the lines into pixels (N, D), uint8 or float32, and labels (N,) int64 or None.

    The label column is counted from 0. Raises DataError, with line and column, if a value is invalid.
    """
    table = _parse(body.text, body.n_columns)
    if table is None:
        raise _error_of_text(body)
    labels = None
    columns = np.arange(body.n_columns)
    if label_column is not None:
        column = table[:, label_column]
        valid = are_labels(column)
        if not valid.all():
            raise body.error(int(valid.argmin()), label_column, LABEL_EXPECTED)
        labels = column.astype(np.int64)
        table, columns = (np.delete(array, label_column, axis=-1) for array in (table, columns))
    if table.dtype == np.uint8:
        return table, labels
    invalid = np.floor(table) != table
    n_fractions = np.count_nonzero(invalid)
    expected = f"{_PIXEL_EXPECTED}, like most of the table"
    if not n_fractions:
        invalid, expected = (table < 0) | (table > 255), _PIXEL_EXPECTED
    elif 2 * n_fractions >= np.count_nonzero((table != 0) & (table != 1)):
        return table, labels
    if invalid.any():
        row, place = divmod(int(invalid.argmax()), len(columns))
        raise body.error(row, int(columns[place]), expected)
    return table.astype(np.uint8), labels


def _parse(text: bytes, n_columns: int) -> np.ndarray | None:
    """Parse lines of numbers to uint8 or float32; return None if a line or a number is invalid."""
    # loadtxt skips blank lines and white space, and accepts words such as nan: the text must not contain any of these.
    marks = text.translate(None, b"0123456789,\n")
    if marks.translate(None, b".eE+-") or b"\n\n" in text or text[:1] == b"\n" or text[-1:] in (b"", b"\n"):
        return None
    for number_type in (np.float32,) if marks else (np.uint8, np.float32):
        with suppress(ValueError), np.errstate(over="ignore"):
            table = np.loadtxt(BytesIO(text), number_type, comments=None, delimiter=",", ndmin=2)
            if table.shape[1] == n_columns and np.isfinite(table).all():
                return table
    return None


def _error_of_text(body: _Body) -> DataError:
    """Return the error of the first invalid line or field."""
    lines = body.text.split(b"\n")
    start = 0
    while _parse(b"\n".join(lines[start : start + _SEARCHED_LINES]), body.n_columns) is not None:
        start += _SEARCHED_LINES
    for row, line in enumerate(lines[start:], start):
        where = f"{body.name}: line {body.first_line + row}"
        if not line:
            return DataError(f"{where}: found a blank line, expected {body.n_columns} columns")
        fields = line.split(b",")
        for column, field in enumerate(fields):
            if not _NUMBER.fullmatch(field):
                return body.error(row, column, "a number")
        if len(fields) != body.n_columns:
            found = f"{len(fields)} column{'s' * (len(fields) > 1)}"
            source = "as in line 1" if body.first_line == 1 else "as in the header"
            return DataError(f"{where}: found {found}, expected {body.n_columns} {source}")
        for column, field in enumerate(fields):
            if abs(float(field)) > _LARGEST_FLOAT32:
                return body.error(row, column, "a number that float32 can hold")
    return DataError(f"{body.name}: NumPy cannot parse the text, expected lines of numbers")


def _describe_field(field: bytes) -> str:
    """Describe an invalid field, as the "found" part of a message, on one line and shortened to 40 bytes."""
    if not field:
        return "found a missing value"
    if b"\0" in field:
        return "found a NUL byte (0x00)"
    try:
        text = field.decode()
    except UnicodeDecodeError as error:
        return f"found the byte 0x{field[error.start]:02x}, which is not UTF-8,"
    found = f"found {field[:40].decode(errors='replace')!a}"
    if len(field) > 40:
        found += f"... ({len(field)} bytes)"
    for mark, name in ((";", "semicolon"), ("\t", "tab"), ('"', "quotation mark"), ("'", "quotation mark")):
        if mark in text:
            return f"{found} with a {name}"
    return found if text == text.strip() else f"{found} with white space"
