"""Parses the numbers of a CSV file with a fast parser and a careful one.

The careful parser reads text that the fast parser rejects. It decides whether the text is valid, and locates the error
if it is not. Both parsers agree on what is valid:

- a field has ASCII digits with an optional sign, decimal point and exponent, and is finite as a float64;
- single commas separate the fields;
- every line has the same number of fields.
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
    """The lines of numbers in a CSV file.

    Attributes
    ----------
    data : bytes
        The whole file, with line feeds as line ends.
    start : int
        The offset in `data` where the first line of numbers begins.
    end : int
        The offset in `data` where the last line of numbers ends, without its line feed.
    first_line : int
        The number of the first line of numbers, counted from 1.
    n_columns : int
        The number of columns every line must have.
    n_columns_from : str
        Where `n_columns` comes from, for messages.
    name : str
        The name of the file in messages.
    """

    data: bytes
    start: int
    end: int
    first_line: int
    n_columns: int
    n_columns_from: str
    name: str


class BadValue(NamedTuple):
    """An invalid value and its position (line and column counted from 1)."""

    line: int
    column: int
    value: float

    def error(self, name: str, expected: str) -> DataError:
        """Return the error that reports this value in the file `name`."""
        found = repr(self.value).removesuffix(".0")
        return DataError(f"{name}: line {self.line}, column {self.column}: found {found}, expected {expected}")


def read_columns(body: Body, label_column: int | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Parse the lines of numbers into pixels and labels.

    The pixels become uint8 if all of them are whole numbers from 0 to 255, and float32 if some of them are fractions.
    But if whole numbers outnumber the fractions, the fractions are errors; 0 and 1 do not count as whole numbers here.

    Parameters
    ----------
    body : Body
    label_column : int, optional
        The column of the labels, counted from 0.

    Returns
    -------
    pixels : ndarray of shape (N, D), uint8 or float32
    labels : ndarray of shape (N,) int64, or None

    Raises
    ------
    DataError
        If a value is invalid. The message gives its line and column.
    """
    tables: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    counts = _PixelCounts(body.name)
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
        tables.append(counts.add(table, first_line, columns))
    pixel_type = counts.pixel_type()
    pixels = np.concatenate(tables, dtype=pixel_type, casting="unsafe")
    return pixels, np.concatenate(labels) if label_column is not None else None


def parse_fast(text: bytes, n_columns: int) -> np.ndarray | None:
    """Parse lines of numbers to uint8 or float64; return None if the text needs the careful parser.

    NumPy's parser skips blank lines and white space and accepts words such as nan. It is therefore given only text that
    cannot contain any of these.
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
    """Parse lines of numbers to float64; raise DataError with the position of the first invalid line or field."""
    table = []
    for line_number, line in enumerate(text.split(b"\n"), first_line):
        where = f"{body.name}: line {line_number}"
        if not line:
            raise DataError(f"{where}: found a blank line, expected {body.n_columns} columns")
        fields = line.split(b",")
        for column, field in enumerate(fields, 1):
            if not _NUMBER.fullmatch(field):
                raise DataError(f"{where}, column {column}: {describe_field(field)}, expected a number")
        if len(fields) != body.n_columns:
            raise DataError(f"{where}: found {_columns(len(fields))}, expected {body.n_columns} {body.n_columns_from}")
        row = [float(field) for field in fields]
        for column, value in enumerate(row, 1):
            if np.isinf(value):
                found = _quoted(fields[column - 1])
                raise DataError(f"{where}, column {column}: found {found}, expected a finite number")
        table.append(row)
    return np.array(table)


def describe_field(field: bytes) -> str:
    """Describe a field that is not a valid number, as the "found" part of a message."""
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
    """Return the field in quotation marks, on one line, shortened to 40 bytes."""
    text = ascii(field[:40].decode(errors="replace"))
    return text if len(field) <= 40 else f"{text}... ({len(field)} bytes)"


def _columns(number: int) -> str:
    return f"{number} column{'s' * (number != 1)}"


def _chunks(body: Body) -> Iterator[tuple[int, bytes]]:
    """Yield the number of the first line and the text of each block. A block is a few megabytes of whole lines.

    The text does not include the line feed of the last line.
    """
    start, line = body.start, body.first_line
    while start <= body.end:
        stop = body.data.find(b"\n", start + _CHUNK, body.end)
        text = body.data[start : stop if stop >= 0 else body.end]
        yield line, text
        start += len(text) + 1
        line += text.count(b"\n") + 1


def _labels(values: np.ndarray, first_line: int, column: int, name: str) -> np.ndarray:
    invalid = (values < 0) | (values > LARGEST_LABEL) | (np.floor(values) != values)
    if invalid.any():
        row = int(np.argmax(invalid))
        raise BadValue(first_line + row, column, float(values[row])).error(name, LABEL_EXPECTED)
    return values.astype(np.int64)


class _PixelCounts:
    """Counts the whole numbers and the fractions among the pixels, to choose one dtype for all pixels."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._whole = 0
        self._fractions = 0
        self._first_fraction: BadValue | None = None
        self._first_outside: BadValue | None = None

    def add(self, table: np.ndarray, first_line: int, columns: np.ndarray) -> np.ndarray:
        """Count the pixels of one table; return the table as uint8 if its values fit, else as float32."""

        def first(where: np.ndarray) -> BadValue:
            row, column = divmod(int(np.argmax(where)), where.shape[1])
            return BadValue(first_line + row, int(columns[column]), float(table[row, column]))

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
        """Return the dtype for all pixels.

        Raises DataError if there are no fractions and a whole number is out of range, or if whole numbers outnumber the
        fractions.
        """
        if self._first_fraction is None:
            if self._first_outside is not None:
                raise self._first_outside.error(self._name, PIXEL_EXPECTED)
            return np.uint8
        if self._whole > self._fractions:
            raise self._first_fraction.error(self._name, f"{PIXEL_EXPECTED}, like most of the table")
        return np.float32
