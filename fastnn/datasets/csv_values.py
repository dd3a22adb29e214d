"""The numbers of a CSV file: a fast parse, and a careful one that decides and explains where the fast one gives up.

Both accept the same text: fields of ASCII digits with an optional sign, decimal point and exponent, separated by single
commas, the same number on every line, none of them infinite as a float64.
"""

import re
from collections.abc import Iterator
from io import BytesIO
from typing import NamedTuple

import numpy as np

from fastnn.datasets.pixels import LARGEST_LABEL
from fastnn.errors import DataError

_NUMBER = re.compile(rb"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_CHUNK = 2**22
_LARGEST_FLOAT32 = float(np.finfo(np.float32).max)

LABEL_EXPECTED = f"a label (a whole number from 0 to {LARGEST_LABEL})"
PIXEL_EXPECTED = "a whole number from 0 to 255"


class Body(NamedTuple):
    """The lines of numbers in a CSV file."""

    data: bytes
    """The file, its lines ended by line feeds."""
    start: int
    """Where in `data` the first line of numbers begins."""
    end: int
    """Where in `data` the last one ends, without its line feed."""
    first_line: int
    """The number of the first line of numbers, counted from 1."""
    n_columns: int
    n_columns_from: str
    """What fixes the number of columns, for messages."""
    name: str


class Place(NamedTuple):
    """A value that could not be used, and where it stands (line and column counted from 1)."""

    line: int
    column: int
    value: float

    def error(self, name: str, expected: str) -> DataError:
        """The error that says so."""
        found = repr(self.value).removesuffix(".0")
        return DataError(f"{name}: line {self.line}, column {self.column}: found {found}, expected {expected}")


def read_columns(body: Body, label_column: int | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Parse the lines of numbers.

    The pixels are a table of bytes if all of them are whole numbers from 0 to 255. They are a table of floats if some
    are fractions, unless whole numbers (other than 0 and 1) outnumber the fractions: then those are errors.

    Parameters
    ----------
    body : Body
    label_column : int, optional
        The column of the labels, counted from 0.

    Returns
    -------
    pixels : ndarray of uint8 or float32 and shape (N, D)
    labels : ndarray of int64 and shape (N,), or None

    Raises
    ------
    DataError
        With line and column of the first value that cannot be used.
    """
    pieces: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    tally = _Tally(body.name)
    columns = np.arange(1, body.n_columns + 1)
    if label_column is not None:
        columns = np.delete(columns, label_column)
    for first_line, text in _chunks(body):
        table = parse_fast(text, body.n_columns)
        if table is None:
            table = parse_carefully(text, first_line, body)
        if label_column is not None:
            labels.append(_labels(table[:, label_column], first_line, label_column + 1, body.name))
            table = np.delete(table, label_column, axis=1)
        pieces.append(tally.add(table, first_line, columns))
    pixel_type = tally.pixel_type()
    pixels = np.concatenate(pieces, dtype=pixel_type, casting="unsafe")
    return pixels, np.concatenate(labels) if label_column is not None else None


def parse_fast(text: bytes, n_columns: int) -> np.ndarray | None:
    """The numbers in some lines, as uint8 or float64; None where the careful parser has to look.

    NumPy's parser overlooks blank lines and white space and knows words such as nan, so only text that cannot hold any
    of these reaches it.
    """
    marks = text.translate(None, b"0123456789,\n")
    if marks.translate(None, b".eE+-") or b"\n\n" in text or text[:1] == b"\n" or text[-1:] in (b"", b"\n"):
        return None
    for number_type in (np.float64,) if marks else (np.uint8, np.float64):
        try:
            table = np.loadtxt(BytesIO(text), number_type, comments=None, delimiter=",", ndmin=2)
        except ValueError:
            continue
        if table.shape[1] == n_columns and (number_type is np.uint8 or np.isfinite(table).all()):
            return table
    return None


def parse_carefully(text: bytes, first_line: int, body: Body) -> np.ndarray:
    """The numbers in some lines, as float64; DataError where a line or field is not as it must be."""
    table = []
    for line_number, line in enumerate(text.split(b"\n"), first_line):
        place = f"{body.name}: line {line_number}"
        if not line:
            raise DataError(f"{place}: found a blank line, expected {body.n_columns} columns")
        fields = line.split(b",")
        for column, field in enumerate(fields, 1):
            if not _NUMBER.fullmatch(field):
                raise DataError(f"{place}, column {column}: {describe_field(field)}, expected a number")
        if len(fields) != body.n_columns:
            raise DataError(f"{place}: found {_columns(len(fields))}, expected {body.n_columns} {body.n_columns_from}")
        row = [float(field) for field in fields]
        for column, value in enumerate(row, 1):
            if np.isinf(value):
                found = _quoted(fields[column - 1])
                raise DataError(f"{place}, column {column}: found {found}, expected a finite number")
        table.append(row)
    return np.array(table)


def describe_field(field: bytes) -> str:
    """What is wrong with a field that is no number, as the "found" part of a message."""
    if not field:
        return "found a missing value"
    if b"\0" in field:
        return "found a NUL byte (0x00)"
    try:
        text = field.decode()
    except UnicodeDecodeError as error:
        return f"found the byte 0x{field[error.start]:02x}, which is not UTF-8,"
    for mark, name in ((";", "semicolon"), ("\t", "tab"), ('"', "quotation mark"), ("'", "quotation mark")):
        if mark in text:
            return f"found {_quoted(field)} with a {name}"
    if text != text.strip():
        return f"found {_quoted(field)} with white space"
    return f"found {_quoted(field)}"


def _quoted(field: bytes) -> str:
    """A field of a file, shortened, on one line."""
    text = ascii(field[:40].decode(errors="replace"))
    return text if len(field) <= 40 else f"{text}... ({len(field)} bytes)"


def _columns(number: int) -> str:
    return f"{number} column{'s' * (number != 1)}"


def _chunks(body: Body) -> Iterator[tuple[int, bytes]]:
    """Lines of a few megabytes at a time, the last without its line feed, each with the number of the first."""
    start, line = body.start, body.first_line
    while start <= body.end:
        stop = body.data.find(b"\n", start + _CHUNK, body.end)
        text = body.data[start : stop if stop >= 0 else body.end]
        yield line, text
        start += len(text) + 1
        line += text.count(b"\n") + 1


def _labels(values: np.ndarray, first_line: int, column: int, name: str) -> np.ndarray:
    wrong = (values < 0) | (values > LARGEST_LABEL) | (np.floor(values) != values)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise Place(first_line + row, column, float(values[row])).error(name, LABEL_EXPECTED)
    return values.astype(np.int64)


class _Tally:
    """What kinds of numbers the pixels seen so far are."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._whole = 0
        self._fractions = 0
        self._first_fraction: Place | None = None
        self._first_outside: Place | None = None

    def add(self, table: np.ndarray, first_line: int, columns: np.ndarray) -> np.ndarray:
        """Count, and give the table back: uint8 if it can be, else float32."""

        def first(where: np.ndarray) -> Place:
            row, column = divmod(int(np.argmax(where)), where.shape[1])
            return Place(first_line + row, int(columns[column]), float(table[row, column]))

        if table.dtype == np.uint8:
            self._whole += int(np.count_nonzero(table > 1))
            return table
        fractions = np.floor(table) != table
        n_fractions = int(np.count_nonzero(fractions))
        self._fractions += n_fractions
        self._whole += int(np.count_nonzero((table != 0) & (table != 1))) - n_fractions
        if n_fractions and self._first_fraction is None:
            self._first_fraction = first(fractions)
        outside = ~fractions & ((table < 0) | (table > 255))
        has_outside = bool(outside.any())
        if has_outside and self._first_outside is None:
            self._first_outside = first(outside)
        too_large = np.abs(table) > _LARGEST_FLOAT32
        if too_large.any():
            raise first(too_large).error(self._name, "a number that float32 can hold")
        return table.astype(np.float32 if n_fractions or has_outside else np.uint8)

    def pixel_type(self) -> type[np.uint8] | type[np.float32]:
        """The type of all pixels; DataError where whole numbers leave the range or fractions stray among them."""
        if self._first_fraction is None:
            if self._first_outside is not None:
                raise self._first_outside.error(self._name, PIXEL_EXPECTED)
            return np.uint8
        if self._whole > self._fractions:
            raise self._first_fraction.error(self._name, f"{PIXEL_EXPECTED}, as most of the table is")
        return np.float32
