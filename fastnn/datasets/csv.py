"""Reads CSV tables of digits, such as MNIST in CSV. Each line has the pixels of a sample and optionally its label."""

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
# If line 1 counts up from 0 or 1 over at least this number of columns, it is probably a header: pandas gives columns
# such names.
_MIN_LONG_RUN = 10
_LABELS_HINT = 'pass labels="first", "last" or "none"'


class _Options(NamedTuple):
    """The arguments of `read_csv` that describe the table."""

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
        - images: (N, D), uint8 if all pixels are whole numbers from 0 to 255, float32 if some are fractions
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
    options = _Options(header, labels, _checked_settings(header, labels, pixel_max, image_shape, n_pixels))
    text = read_whole(path, max_bytes)
    name = display_path(path)
    data = _normalised(text, name)
    body, label_column, guessed = _layout(data, options, name)
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
    """Check the arguments of `read_csv`; return the number of pixels that `n_pixels` or `image_shape` require."""
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
        raise SettingsError(f"n_pixels is {n_pixels}, expected {size} because image_shape is {image_shape}")
    return size


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _normalised(data: bytes, name: str) -> bytes:
    """Remove the byte order mark and convert all line ends to line feeds."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(f"{name}: found UTF-16 text (bytes {data[:2].hex(' ')}), expected UTF-8")
    data = data.removeprefix(_BYTE_ORDER_MARK)
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in data else data


def _layout(data: bytes, options: _Options, name: str) -> tuple[Body, int | None, bool]:
    """Find the lines of numbers, the label column (counted from 0), and whether that column is a guess."""
    end = len(data.rstrip(b"\n"))
    if end == 0:
        raise DataError(f"{name}: found no text, expected lines of numbers")
    stop = data.find(b"\n", 0, end)
    first_line = data[: stop if stop >= 0 else end]
    if not first_line:
        raise DataError(f"{name}: line 1: found a blank line, expected column names or numbers")
    _check_delimiter(first_line, name)
    fields = first_line.split(b",")
    names = _column_names(fields, options.header, name)
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
    label_column, guessed = _label_column(n_columns, names, options, name)
    found_pixels = n_columns - (label_column is not None)
    if found_pixels < 1 or options.n_pixels not in (None, found_pixels):
        raise DataError(
            f"{name}: line 1: found {n_columns} columns, {found_pixels} of them pixels, "
            f"expected {options.n_pixels or 'at least 1'} pixels"
        )
    return body, label_column, guessed


def _check_delimiter(line: bytes, name: str) -> None:
    if b"," in line:
        return
    for mark in (b";", b"\t", b"|"):
        if mark in line:
            raise DataError(f"{name}: line 1: found the delimiter {mark.decode()!a}, expected ','")


def _column_names(fields: list[bytes], header: Header, name: str) -> list[str] | None:
    """Return the column names if line 1 is a header, else None."""
    numbers = [_looks_like_number(field) for field in fields]
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
            hint = "; a column without a name may be a row index, which must be removed" if not bare else ""
            raise DataError(f"{name}: line 1, column {column}: {describe_field(field)}, expected a column name{hint}")
        names.append(bare)
    return names


def _check_first_row(fields: list[bytes], numbers: list[bool], name: str) -> None:
    """Raise DataError if the first line of data could also be a header."""
    if not all(numbers):
        column = numbers.index(False) + 1
        raise DataError(
            f"{name}: line 1, column {column}: {describe_field(fields[column - 1])} among numbers, "
            'expected only numbers or only names; if line 1 is a header, pass header="yes"'
        )
    if len(fields) < _MIN_LONG_RUN:
        return
    row = parse_fast(b",".join(fields), len(fields))
    if row is not None and row[0, 0] in (0, 1) and (np.diff(row[0].astype(float)) == 1).all():
        raise DataError(
            f"{name}: line 1: found the numbers {row[0, 0]:g} to {row[0, -1]:g} in order, perhaps a header; "
            'pass header="yes" or "no"'
        )


def _looks_like_number(field: bytes) -> bool:
    """Return whether this field of line 1 shows that the line is data, not a header.

    This also holds for some fields that are errors in data, such as "5" in quotation marks, nan and 1_000: a line with
    them must not be mistaken for a header.
    """
    text = field.decode(errors="replace").strip().strip("\"'").strip()
    if not text:
        return False
    try:
        float(text)
    except ValueError:
        return False
    return True


def _label_column(n_columns: int, names: list[str] | None, options: _Options, name: str) -> tuple[int | None, bool]:
    """Return the label column (counted from 0, or None), and whether it was guessed from the number of columns."""
    if options.labels != "auto":
        return {"first": 0, "last": n_columns - 1, "none": None}[options.labels], False
    named = [column for column, text in enumerate(names or ()) if text.casefold() in _LABEL_NAMES]
    if len(named) > 1:
        columns = " and ".join(f"{column + 1} ({(names or [])[column]!a})" for column in named)
        raise DataError(f"{name}: line 1: found label columns {columns}, expected one; {_LABELS_HINT}")
    if named:
        return named[0], False
    if n_columns == options.n_pixels or (options.n_pixels is None and square(n_columns)):
        return None, False
    if names is None and (n_columns - 1 == options.n_pixels or (options.n_pixels is None and square(n_columns - 1))):
        return 0, True
    if names is not None:
        raise DataError(
            f"{name}: line 1: found {n_columns} columns, none of them named {', '.join(_LABEL_NAMES)}, "
            f"expected one such name, or {options.n_pixels or 'a square number of'} columns of pixels; {_LABELS_HINT}"
        )
    if options.n_pixels is not None:
        expected = f"{options.n_pixels}, or {options.n_pixels + 1} with labels"
    else:
        expected = "785 (label and 28 x 28 pixels), 784, 65 (label and 8 x 8 pixels), 64 or another square number"
    raise DataError(f"{name}: line 1: found {n_columns} columns, expected {expected}; {_LABELS_HINT}")


def _check_guess(images: np.ndarray, labels: np.ndarray, name: str) -> None:
    """Raise DataError if column 1, guessed to be the labels, is all 0 but the last column is not.

    The labels are then probably in the last column, and column 1 is an empty corner pixel.
    """
    if len(labels) > 1 and not labels.any() and images[:, -1].any():
        raise DataError(
            f"{name}: column 1: found only zeros, and nonzero numbers in the last column, expected labels in column 1; "
            f"{_LABELS_HINT}"
        )
