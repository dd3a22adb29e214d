"""CSV tables of digits, such as MNIST-in-CSV: a line for each sample, its pixels and perhaps its label."""

from numbers import Real
from typing import Literal, NamedTuple

import numpy as np

from fastnn.checks import display_path
from fastnn.datasets.csv_values import Body, describe_field, parse_fast, read_columns
from fastnn.datasets.dataset import Dataset
from fastnn.datasets.files import MAX_BYTES, FilePath, read_whole
from fastnn.datasets.pixels import check_not_empty, pixel_scale, square
from fastnn.errors import DataError, SettingsError

Header = Literal["auto", "yes", "no"]
Labels = Literal["auto", "first", "last", "none"]

_LABEL_NAMES = ("label", "class", "target", "y")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# So many numbers in order, from 0 or 1, are hardly data: pandas names columns like this.
_LONG_COUNT = 10
_HOW_TO_SAY = 'pass labels="first", "last" or "none"'


class _Wanted(NamedTuple):
    """The arguments of `read_csv` that say what the table is like."""

    header: Header
    labels: Labels
    n_pixels: int | None


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
    """Read a table of comma-separated numbers, gzipped or not, with or without a header and labels.

    Fields are plain ASCII numbers: quotation marks, white space, missing values, nan and inf are errors. Lines may end
    in LF, CRLF or CR; a UTF-8 byte order mark is skipped.

    Parameters
    ----------
    path : path
    header : "auto", "yes" or "no"
        Whether line 1 names the columns; "auto": it does if none of its fields is a number.
    labels : "auto", "first", "last" or "none"
        The column of the labels. "auto": the column called label, class, target or y (in any case). Where there is no
        such name, 785, 65 or another number of columns that is one more than a square has the labels first, and a
        square number has none; other numbers are errors, unless `n_pixels` or `image_shape` settle it.
    pixel_max : float, optional
        The value of a full pixel. By default 255 for whole numbers (16 for 64 pixels of at most 16), and 1 for floats.
    image_shape : (height, width), optional
        By default the square if the pixels make one, else None.
    n_pixels : int, optional
        The pixels a row must have.
    max_bytes : int
        A file that holds more bytes than this, gunzipped, is refused.

    Returns
    -------
    Dataset
        images of shape (N, D): uint8 where all pixels are whole numbers from 0 to 255, float32 where the table is one
        of fractions. labels int64 of shape (N,), or None.

    Raises
    ------
    DataError
        If the table cannot be used as it is; the message gives line and column, counted from 1.
    FileError
        If the file cannot be opened.
    SettingsError
        If an argument is none of the above, or arguments contradict each other.
    """
    wanted = _Wanted(header, labels, _checked_settings(header, labels, pixel_max, image_shape, n_pixels))
    text = read_whole(path, max_bytes)
    name = display_path(path)
    data = _normalised(text, name)
    body, label_column, guessed = _layout(data, wanted, name)
    images, classes = read_columns(body, label_column)
    if guessed and classes is not None:
        _check_guess(images, classes, name)
    check_not_empty(images.shape, name)
    return Dataset(
        images,
        classes,
        pixel_scale(images) if pixel_max is None else float(pixel_max),
        square(images.shape[1]) if image_shape is None else image_shape,
        name,
    )


def _checked_settings(
    header: object,
    labels: object,
    pixel_max: object,
    image_shape: tuple[int, int] | None,
    n_pixels: int | None,
) -> int | None:
    """The number of pixels that `n_pixels` and `image_shape` ask for."""
    for setting, value, choices in (
        ("header", header, ("auto", "yes", "no")),
        ("labels", labels, ("auto", "first", "last", "none")),
    ):
        if value not in choices:
            raise SettingsError(f"{setting} is {value!r}, expected one of {', '.join(map(repr, choices))}")
    if pixel_max is not None and not (
        isinstance(pixel_max, Real) and np.isfinite(float(pixel_max)) and float(pixel_max) > 0
    ):
        raise SettingsError(f"pixel_max is {pixel_max!r}, expected a positive number")
    if n_pixels is not None and not _is_size(n_pixels):
        raise SettingsError(f"n_pixels is {n_pixels!r}, expected a positive whole number")
    if image_shape is None:
        return n_pixels
    if not (isinstance(image_shape, tuple) and len(image_shape) == 2 and all(map(_is_size, image_shape))):
        raise SettingsError(f"image_shape is {image_shape!r}, expected (height, width)")
    size = image_shape[0] * image_shape[1]
    if n_pixels not in (None, size):
        raise SettingsError(f"n_pixels is {n_pixels}, expected {size} as image_shape is {image_shape}")
    return size


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _normalised(data: bytes, name: str) -> bytes:
    """The text without byte order mark, lines ended by line feeds."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(f"{name}: found UTF-16 text (bytes {data[:2].hex(' ')}), expected UTF-8")
    data = data.removeprefix(_BYTE_ORDER_MARK)
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in data else data


def _layout(data: bytes, wanted: _Wanted, name: str) -> tuple[Body, int | None, bool]:
    """Where the numbers are, the column of the labels counted from 0, and whether that column is a guess."""
    end = len(data.rstrip(b"\n"))
    if end == 0:
        raise DataError(f"{name}: found no text, expected lines of numbers")
    stop = data.find(b"\n", 0, end)
    first_line = data[: stop if stop >= 0 else end]
    if not first_line:
        raise DataError(f"{name}: line 1: found a blank line, expected column names or numbers")
    _check_delimiter(first_line, name)
    fields = first_line.split(b",")
    names = _column_names(fields, wanted.header, name)
    if names is not None and stop < 0:
        raise DataError(
            f"{name}: found a header of {len(fields)} columns and no data, expected lines of numbers after it"
        )
    n_columns = len(fields)
    body = Body(
        data=data,
        start=0 if names is None else stop + 1,
        end=end,
        first_line=1 if names is None else 2,
        n_columns=n_columns,
        n_columns_from="as in line 1" if names is None else "as in the header",
        name=name,
    )
    label_column, guessed = _label_column(n_columns, names, wanted, name)
    found_pixels = n_columns - (label_column is not None)
    if found_pixels < 1 or wanted.n_pixels not in (None, found_pixels):
        raise DataError(
            f"{name}: line 1: found {n_columns} columns, {found_pixels} of them pixels, "
            f"expected {wanted.n_pixels or 'at least 1'} pixels"
        )
    return body, label_column, guessed


def _check_delimiter(line: bytes, name: str) -> None:
    if b"," in line:
        return
    for mark in (b";", b"\t", b"|"):
        if mark in line:
            raise DataError(f"{name}: line 1: found the delimiter {mark.decode()!a}, expected ','")


def _column_names(fields: list[bytes], header: Header, name: str) -> list[str] | None:
    """The names of the columns if line 1 is a header, else None."""
    numbers = [_resembles_number(field) for field in fields]
    if header == "no" or (header == "auto" and any(numbers)):
        if header == "auto":
            _check_first_row(fields, numbers, name)
        return None
    names = []
    for column, field in enumerate(fields, 1):
        try:
            text = field.decode()
        except UnicodeDecodeError:
            text = "\0"
        bare = text.strip()
        if len(bare) > 1 and bare[0] == bare[-1] and bare[0] in "\"'":
            bare = bare[1:-1]
        if not bare or '"' in bare or not bare.isprintable():
            hint = "; a column without a name may be a row index, which must go" if not bare else ""
            raise DataError(f"{name}: line 1, column {column}: {describe_field(field)}, expected a column name{hint}")
        names.append(bare)
    return names


def _check_first_row(fields: list[bytes], numbers: list[bool], name: str) -> None:
    """Refuse a first line that may as well be a header."""
    if not all(numbers):
        column = numbers.index(False) + 1
        raise DataError(
            f"{name}: line 1, column {column}: {describe_field(fields[column - 1])} beside numbers, "
            'expected only numbers or only names; if line 1 is a header, pass header="yes"'
        )
    if len(fields) < _LONG_COUNT:
        return
    row = parse_fast(b",".join(fields), len(fields))
    if row is not None and row[0, 0] in (0, 1) and (np.diff(row[0].astype(float)) == 1).all():
        raise DataError(
            f"{name}: line 1: found the numbers {row[0, 0]:g} to {row[0, -1]:g} in order, a header or data, "
            'expected header="yes" or "no" to say which'
        )


def _resembles_number(field: bytes) -> bool:
    """Whether a first line with this field must be a line of data.

    Wider than what is accepted as a number: "5" in quotation marks, nan and 1_000 are faults in data, and a line with
    them must not pass for a header.
    """
    text = field.decode(errors="replace").strip().strip("\"'").strip()
    if not text:
        return False
    try:
        float(text)
    except ValueError:
        return False
    return True


def _label_column(n_columns: int, names: list[str] | None, wanted: _Wanted, name: str) -> tuple[int | None, bool]:
    """The column of the labels counted from 0, and whether only the number of columns speaks for it."""
    if wanted.labels != "auto":
        return {"first": 0, "last": n_columns - 1, "none": None}[wanted.labels], False
    named = [column for column, text in enumerate(names or ()) if text.casefold() in _LABEL_NAMES]
    if len(named) > 1:
        columns = " and ".join(f"{column + 1} ({(names or [])[column]!a})" for column in named)
        raise DataError(f"{name}: line 1: found label columns {columns}, expected one; {_HOW_TO_SAY}")
    if named:
        return named[0], False
    if n_columns == wanted.n_pixels or (wanted.n_pixels is None and square(n_columns)):
        return None, False
    if names is None and (n_columns - 1 == wanted.n_pixels or (wanted.n_pixels is None and square(n_columns - 1))):
        return 0, True
    if wanted.n_pixels is not None:
        expected = f"{wanted.n_pixels}, or {wanted.n_pixels + 1} with labels"
    else:
        expected = "785 (label and 28 x 28 pixels), 784, 65 (label and 8 x 8 pixels), 64 or another square"
    if names is None:
        raise DataError(f"{name}: line 1: found {n_columns} columns, expected {expected}; {_HOW_TO_SAY}")
    raise DataError(
        f"{name}: line 1: found {n_columns} columns, none of them called {', '.join(_LABEL_NAMES)}, "
        f"expected one that is, or as many columns as pixels ({expected}); {_HOW_TO_SAY}"
    )


def _check_guess(images: np.ndarray, labels: np.ndarray, name: str) -> None:
    """Refuse the first column as labels where it looks like an empty corner pixel, and the last like labels."""
    if len(labels) > 1 and not labels.any() and images[:, -1].any():
        raise DataError(
            f"{name}: column 1: found only 0 and in the last column other numbers, expected labels in the first; "
            f"{_HOW_TO_SAY}"
        )
