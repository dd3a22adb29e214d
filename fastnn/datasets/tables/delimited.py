"""Reads delimited text into frames. pandas parses it; this module finds the header and the place of every error."""

import csv
import re
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastnn.datasets.pixels import LARGEST_BYTE
from fastnn.datasets.tables.dialect import (
    MISSING_WORDS,
    WHITE_SPACE,
    Dialect,
    Lines,
    data_lines,
    decoded,
    find_dialect,
    is_number,
)
from fastnn.datasets.tables.roles import names_labels
from fastnn.datasets.tables.rows import field_found, rows_of, set_rows
from fastnn.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

_DELIMITER_LINE = re.compile(r'"?sep=(.)"?')
_HEADER_HINT = "if line 1 is a header, say so with header (--header yes)"
# If line 1 counts up from 0 or 1 over at least this number of columns, it may be a header: pandas gives columns such
# names.
_MIN_LONG_RUN = 10
# With texts that occur in no other line, such as the name of the labels, this number of columns is enough.
_MIN_SHORT_RUN = 3
_CHUNK_VALUES = 4_000_000
# Images of 512 x 512 pixels have this number of columns. pandas takes kilobytes for each.
_MAX_COLUMNS = 2**18


class TextRows:
    """The places and the fields of the rows of delimited text."""

    def __init__(self, lines: Lines, dialect: Dialect, n_before: int, name: str) -> None:
        self._lines = lines
        self._dialect = dialect
        self._n_before = n_before  # the number of lines before the first row: header and delimiter line
        self.name = name

    def __deepcopy__(self, memo: Any) -> "TextRows":
        return self  # pandas copies the attributes of a frame with it

    def place(self, row: int) -> str:
        """Return the line of a row, in words."""
        return f"line {self._record(row)[0]}"

    def found(self, row: int, column: int, value: Any) -> str:
        """Return what the file has at a row and a column, in words; both count from 0."""
        fields = self._record(row)[1]
        return field_found(fields[column] if column < len(fields) else "")

    def wrong_width(self, width: int, source: str) -> DataError | None:
        """Return the error of the first row with another number of fields than `width`; None if there is none."""
        for number, fields in self._odd_records(width):
            # A delimiter at the end of a line adds an empty field.
            if len(fields) != width and not (len(fields) == width + 1 and not fields[-1]):
                found = f"{len(fields)} column{'s' * (len(fields) != 1)}"
                return DataError(f"{self.name}: line {number}: found {found}, expected {width} {source}")
        return None

    def _odd_records(self, width: int) -> Iterator[tuple[int, list[str]]]:
        """Yield the records that may have another number of fields. Where a delimiter always separates, count them."""
        delimiter = self._dialect.delimiter
        if self._is_quoted or delimiter == WHITE_SPACE:
            yield from self._records()
            return
        for index, line in enumerate(self._lines.from_index(self._n_before), self._n_before):
            if line.count(delimiter) + 1 != width:
                yield self._lines.number(index), self._dialect.fields(line)

    @property
    def _is_quoted(self) -> bool:
        return self._dialect.quote.encode() in self._lines.text

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        lines = self._lines.from_index(self._n_before)
        if not self._is_quoted:
            for index, line in enumerate(lines, self._n_before):
                yield self._lines.number(index), self._dialect.fields(line)
            return
        end = 0
        try:
            for read, fields in self._dialect.records(line + "\n" for line in lines):
                yield self._lines.number(self._n_before + end), fields
                end = read
        except csv.Error as error:
            where = f"{self.name}: line {self._lines.number(self._n_before + end)}"
            raise DataError(f"{where}: cannot be read ({error}), expected fields of a table") from None

    def _record(self, row: int) -> tuple[int, list[str]]:
        if not self._is_quoted:
            index = self._n_before + row
            return self._lines.number(index), self._dialect.fields(next(self._lines.from_index(index)))
        for index, record in enumerate(self._records()):
            if index == row:
                return record
        raise AssertionError("a frame has no more rows than its text")


class Opening(NamedTuple):
    """What the first lines tell of all lines of delimited text.

    width: the number of columns
    names: those of the columns, or None
    n_before: the number of lines before the first row: header and delimiter line
    source: where the width comes from, for messages
    """

    dialect: Dialect
    width: int
    names: list[str] | None
    n_before: int
    source: str


def frame_of_text(content: bytes, name: str, header: bool | None) -> "pd.DataFrame":
    """Return delimited text as a frame; its columns are names, or numbers from 0 if there is no header.

    header: whether line 1 has the names of the columns; None: by the line itself. Raises DataError with the line.
    """
    text, encoding = decoded(content, name)
    lines = data_lines(text, name)
    frame = frame_of_lines(lines, opening_of(lines, name, header), name)
    notes = ([f"{lines.n_comments} comment lines after the first line of data left out"] * (lines.n_comments > 0)) + (
        [f"read as {encoding}, since the text is not UTF-8"] * (encoding is not None)
    )
    return set_rows(_without_empty(frame), rows_of(frame), notes)


def opening_of(lines: Lines, name: str, header: bool | None) -> Opening:
    """Return what the first lines of a text tell. Raises DataError if they are no table."""
    dialect = find_dialect(lines)
    sample = lines.sample()
    told = _DELIMITER_LINE.fullmatch(sample[0].strip())  # Excel writes and reads it
    if told:
        dialect, sample = dialect._replace(delimiter=told[1]), sample[1:]
    read, rows = _records(sample, dialect)
    n_before = int(told is not None)
    where = f"{name}: line {lines.number(n_before)}"
    names = None
    if rows and len(rows[0]) > _MAX_COLUMNS:
        raise DataError(f"{where}: found {len(rows[0])} columns, expected at most {_MAX_COLUMNS}")
    if rows and (_is_header(rows[0], rows[1:], where) if header is None else header):
        names, rows, n_before = rows[0], rows[1:], n_before + read
    if not rows:
        found = "no lines" if names is None else f"a header of {len(names)} column{'s' * (len(names) != 1)} and no data"
        raise DataError(f"{name}: found {found}, expected lines of numbers after it")
    if names is None and header is None and lines.comment is not None:
        names = _commented_header(lines.comment, rows[0], dialect)
    if names is not None:
        names = _fitted(names, rows)
        if len(names) != len(rows[0]):
            found = f"{len(rows[0])} column{'s' * (len(rows[0]) != 1)}"
            where = f"{name}: {TextRows(lines, dialect, n_before, name).place(0)}"
            raise DataError(f"{where}: found {found}, expected {len(names)} as in the header")
    source = f"as in line {lines.number(n_before)}" if names is None else "as in the header"
    return Opening(dialect, len(rows[0]), None if names is None else _distinct(names), n_before, source)


def frame_of_lines(lines: Lines, opening: Opening, name: str) -> "pd.DataFrame":
    """Return the lines after the first `opening.n_before` as a frame. Raises DataError with the line."""
    places = TextRows(lines, opening.dialect, opening.n_before, name)
    frame = _parsed(lines.text, opening.n_before, opening.width, opening.dialect, places, opening.source)
    if opening.names is not None:
        frame.columns = opening.names
    return set_rows(frame, places)


def _records(sample: list[str], dialect: Dialect) -> tuple[int, list[list[str]]]:
    """Return the number of lines of the first record, and the fields of all records of a sample of lines."""
    try:
        records = list(dialect.records(line + "\n" for line in sample))
    except csv.Error:  # a giant field
        records = [(number, dialect.fields(line)) for number, line in enumerate(sample, 1)]
    return (records[0][0] if records else 0), [fields for _, fields in records]


def _is_header(first: list[str], below: list[list[str]], where: str) -> bool:
    """Return whether the first line has the names of the columns; raise DataError if it could be either."""
    is_data = [is_number(field) or field in MISSING_WORDS[1:] for field in first]
    texts = [column for column, field in enumerate(first) if field and not is_data[column]]
    others = [field for column, field in enumerate(first) if is_data[column]]
    counts = any(others == [str(number + start) for number in range(len(others))] for start in (0, 1))
    if not texts:
        if counts and first[0] == "" and others:  # pandas writes an index without a name
            return True
        if counts and len(others) == len(first) >= _MIN_LONG_RUN:
            found = f"the numbers {first[0]} to {first[-1]} in order, perhaps a header"
            raise DataError(f"{where}: found {found}, expected names or data; {_HEADER_HINT}, or header no")
        return False
    if not others:
        repeats = any(column < len(row) and row[column] == first[column] for row in below for column in texts)
        return not (repeats and not any(is_number(field) for row in below for field in row))
    odd = next((column for column in texts if _is_numeric(column, below)), None)
    if odd is None:
        is_unique = not any(column < len(row) and row[column] == first[column] for row in below for column in texts)
        is_label_name = any(names_labels(first[column]) for column in texts)
        return is_unique and bool(below) and (is_label_name or (counts and len(others) >= _MIN_SHORT_RUN))
    if counts:
        return True
    found = f"{field_found(first[odd])} among numbers"
    raise DataError(f"{where}, column {odd + 1}: {found}, expected only numbers or only names; {_HEADER_HINT}")


def _is_numeric(column: int, rows: list[list[str]]) -> bool:
    fields = [row[column] for row in rows if column < len(row) and row[column] not in MISSING_WORDS]
    return bool(fields) and all(is_number(field) for field in fields)


def _commented_header(comment: str, first: list[str], dialect: Dialect) -> list[str] | None:
    """Return the column names in a comment line above the data, such as that of np.savetxt; None if it has none."""
    for fields in (dialect.fields(comment), comment.split()):
        if len(fields) == len(first) and not any(is_number(field) for field in fields):
            return fields
    return None


def _fitted(names: list[str], rows: list[list[str]]) -> list[str]:
    """Return names for all columns: R gives none to the row names, and some programs end each line in a delimiter."""
    width = len(rows[0])
    if len(names) == width + 1 and not names[-1]:
        return names[:-1]
    if len(names) == width - 1:
        if all(len(row) == width and not row[-1] for row in rows):
            return [*names, ""]
        first = [row[0] for row in rows]
        counts = any(first == [str(number + start) for number in range(len(rows))] for start in (0, 1))
        if counts or (len(set(first)) == len(first) and not any(map(is_number, first))):
            return ["", *names]
    return names


def _distinct(names: list[str]) -> list[str]:
    """Return the names without quotation marks; a name that stands again gets a number, as pandas does it."""
    result: list[str] = []
    taken: set[str] = set()
    for name in names:
        bare = name[1:-1].strip() if len(name) > 1 and name[0] == name[-1] and name[0] in "\"'" else name
        number, text = 0, bare
        while text and text in taken:
            number += 1
            text = f"{bare}.{number}"
        taken.add(text)
        result.append(text)
    return result


def _parsed(text: bytes, n_before: int, width: int, dialect: Dialect, places: TextRows, source: str) -> "pd.DataFrame":
    """Return the lines after the first `n_before` as a frame of `width` columns."""
    import pandas as pd

    if n_before:
        text = text.split(b"\n", n_before)[n_before]
    digits = _bytes(text, width, dialect.delimiter)
    if digits is not None:
        return pd.DataFrame(digits)
    try:
        chunks = pd.read_csv(
            BytesIO(text),
            sep=r"\s+" if dialect.delimiter == WHITE_SPACE else dialect.delimiter,
            header=None,
            names=range(width),
            quotechar=dialect.quote,
            decimal=dialect.decimal,
            skipinitialspace=True,
            na_values=list(MISSING_WORDS),
            keep_default_na=False,
            low_memory=False,
            chunksize=max(1, _CHUNK_VALUES // width),
        )
        with chunks:
            frame = pd.concat([_compact(chunk) for chunk in chunks], ignore_index=True)
    except (ValueError, OverflowError, MemoryError) as error:  # pandas' ParserError and EmptyDataError are ValueErrors
        wrong = places.wrong_width(width, source)
        raise wrong or DataError(f"{places.name}: {' '.join(str(error).split())}, expected a table") from None
    if frame.shape[1] != width or not isinstance(frame.index, pd.RangeIndex) or frame.iloc[:, -1].isna().any():
        # pandas fills short lines with missing values.
        wrong = places.wrong_width(width, source)
        if wrong is not None:
            raise wrong
    return frame


def _bytes(text: bytes, width: int, delimiter: str) -> np.ndarray | None:
    """Return lines of whole numbers from 0 to 255 as uint8, or None: NumPy reads images in less time and memory."""
    if delimiter != WHITE_SPACE and not text.translate(None, b"0123456789\n" + delimiter.encode()):
        with suppress(ValueError):
            values = np.loadtxt(BytesIO(text), np.uint8, comments=None, delimiter=delimiter, ndmin=2)
            return values if values.shape[1] == width else None
    return None


def _compact(chunk: "pd.DataFrame") -> "pd.DataFrame":
    """Return a frame whose columns of whole numbers from 0 to 255 are uint8: an eighth of the memory."""
    whole = np.flatnonzero(chunk.dtypes == np.int64)
    if not len(whole):
        return chunk
    values = chunk.iloc[:, whole].to_numpy()
    fits = (values.min(axis=0) >= 0) & (values.max(axis=0) <= LARGEST_BYTE)
    if fits.all() and len(whole) == chunk.shape[1]:
        return type(chunk)(values.astype(np.uint8), columns=chunk.columns)
    return chunk.astype(dict.fromkeys(chunk.columns[whole[fits]], np.uint8))


def _without_empty(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Leave out nameless columns at the end without any value, and rows at the end without any value."""
    width = frame.shape[1]
    while width > 1 and not (isinstance(frame.columns[width - 1], str) and frame.columns[width - 1]):
        if not frame.iloc[:, width - 1].isna().all():
            break
        width -= 1
    height = len(frame)
    while height > 1 and frame.iloc[height - 1].isna().all():
        height -= 1
    return frame.iloc[:height, :width]
