"""Reads ranges of the lines of text files: delimited tables, and svmlight."""

import re
from array import array
from collections.abc import Sequence
from io import BytesIO
from itertools import pairwise
from typing import Any

import numpy as np

from fastnn.datasets.files import FilePath, errors_named
from fastnn.datasets.options import ReadOptions
from fastnn.datasets.pixels import LARGEST_BYTE, MAX_SPARSE_SIDE
from fastnn.datasets.tables.delimited import Opening, frame_of_lines, opening_of
from fastnn.datasets.tables.dialect import Lines, data_lines, decoded
from fastnn.errors import DataError
from fastnn.streams.content import RandomBytes, open_bytes
from fastnn.streams.reader import Layout, Reader
from fastnn.streams.tables import Plan, plan_of

_HEAD_BYTES = 2**22
_CHUNK_BYTES = 2**22
_SAMPLE_ROWS = 1000
_MAX_LINE_BYTES = 2**26
# Counts of words are whole numbers, too: only bytes that use their range are taken for pixels.
_BRIGHT = 200


class _Index:
    """Where every `step`-th row of a text file begins: its number, its offset and the number of its line, from 1.

    Parameters
    ----------
    content : RandomBytes
    start, line : int
        The offset where rows begin, and the number of the line there.
    step : int
    quote : bytes
        The quotation mark of fields that may span lines, or b"".
    marks : bytes
        The first bytes of comment lines, which are no rows. Blank lines are none, either.
    """

    def __init__(self, content: RandomBytes, start: int, line: int, step: int, quote: bytes, marks: bytes) -> None:
        self.rows, self.offsets, self.lines = array("q"), array("q"), array("q")
        self.n_rows, self._step = 0, step
        self._left_out = re.compile(rb"[ \t]*(?:[%s]|\r?\n?$)" % re.escape(marks))
        self._suspects = np.isin(np.arange(256), list(marks + b" \t\r\n"))
        at, rest = start, b""
        while chunk := content.read(at + len(rest), _CHUNK_BYTES):
            text = rest + chunk
            ends = _line_ends(text, quote)
            if not len(ends):
                if len(text) > _MAX_LINE_BYTES:
                    found = f"more than {_MAX_LINE_BYTES} bytes without an end"
                    raise DataError(f"{content.name}: line {line}: found {found}, expected a shorter line")
                rest = text
                continue
            self._add(text, at, ends, line)
            line += text.count(b"\n", 0, int(ends[-1]))
            rest = text[ends[-1] :]
            at += int(ends[-1])
        if rest:
            self._add(rest, at, np.array([len(rest)]), line)
        self.end = at + len(rest)
        self.rows.append(self.n_rows)
        self.offsets.append(self.end)

    def _add(self, text: bytes, at: int, ends: np.ndarray, line: int) -> None:
        """Count the records of a piece of text, which end at `ends`."""
        starts = np.concatenate([[0], ends[:-1]])
        first = np.frombuffer(text, np.uint8)[starts]
        is_row = np.ones(len(starts), bool)
        for each in np.flatnonzero(self._suspects[first]).tolist():
            is_row[each] = not self._left_out.match(text[starts[each] : ends[each]])
        places = starts[is_row]
        for each in range(-self.n_rows % self._step, len(places), self._step):
            place = int(places[each])
            self.rows.append(self.n_rows + each)
            self.offsets.append(at + place)
            self.lines.append(line + text.count(b"\n", 0, place))
        self.n_rows += len(places)

    def range_of(self, start: int, stop: int) -> tuple[int, int, int]:
        """Return where the rows from `start` to `stop`, two that the index has, begin and end, and the first line."""
        first, last = self.rows.index(start), self.rows.index(stop)
        return self.offsets[first], self.offsets[last], self.lines[first]


def _line_ends(text: bytes, quote: bytes) -> np.ndarray:
    """Return the places after the line feeds that end records: those outside of quotation marks.

    text: begins with a record
    """
    codes = np.frombuffer(text, np.uint8)
    ends = np.flatnonzero(codes == ord("\n"))
    if quote and quote in text:
        marks = np.flatnonzero(codes == ord(quote))
        ends = ends[np.searchsorted(marks, ends) % 2 == 0]
    return ends + 1


class _TextReader(Reader):
    """The rows of a text file. One pass finds where blocks begin; each read parses the lines of its rows."""

    def __init__(self, content: RandomBytes, index: _Index) -> None:
        self._content, self._index = content, index
        self.name, self.n_rows = content.name, index.n_rows

    def cuts(self, block_rows: int) -> Sequence[int] | None:
        """Return the rows whose places are known."""
        return self._index.rows

    def _text(self, start: int, stop: int) -> tuple[bytes, int]:
        """Return the text of whole blocks, and the number of its first line."""
        begin, end, line = self._index.range_of(start, stop)
        return self._content.read(begin, end - begin), line

    def fingerprint(self) -> bytes:
        """Return that of the file."""
        return self._content.fingerprint()


class CsvReader(_TextReader):
    """The rows of a table of delimited text."""

    def __init__(self, content: RandomBytes, index: _Index, opening: Opening, plan: Plan) -> None:
        super().__init__(content, index)
        self._opening, self._plan = opening, plan
        self.has_labels = plan.label is not None
        self.feature_names, self.notes, self.layout = plan.feature_names, plan.notes, plan.layout

    def read(self, start: int, stop: int) -> tuple[Any, Any]:
        """Return the inputs and the labels. Raises DataError with the line."""
        text, line = self._text(start, stop)
        lines = _numbered(data_lines(decoded(text, self.name)[0], self.name), line)
        frame = frame_of_lines(lines, self._opening._replace(n_before=0), self.name)
        if len(frame) != stop - start:
            found = f"{len(frame)} rows in the {stop - start} lines from {line} on"
            raise DataError(
                f"{self.name}: found {found}, expected line feeds at their ends, and pairs of quotation marks"
            )
        return self._plan.rows_of(frame.iloc[:, : self._plan.width], self.name)


def csv_readers(paths: Sequence[FilePath], options: ReadOptions, block_rows: int) -> list[Reader]:
    """Return the rows of tables of delimited text, all with the columns of the first one. Raises DataError."""
    plan: Plan | None = None
    readers: list[Reader] = []
    for path in paths:
        content = open_bytes(path)
        head = content.read(0, _HEAD_BYTES)
        if len(head) == _HEAD_BYTES:
            head = head[: head.rfind(b"\n") + 1] or head
        text, encoding = decoded(head, content.name)
        if (encoding or "").startswith("utf") or head.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise DataError(f"{content.name}: found UTF-16 text, expected UTF-8 to read it in blocks")
        if b"\r" in head and b"\n" not in head:
            expected = "lines that end in line feeds, to read it in blocks"
            raise DataError(f"{content.name}: found carriage returns and no line feeds, expected {expected}")
        lines = data_lines(text, content.name)
        opening = opening_of(lines, content.name, options.header)
        start, line = _after_lines(head, opening.n_before)
        if plan is None:
            sample = _first_lines(lines, opening.n_before + _SAMPLE_ROWS)
            plan = plan_of(_without_end_column(frame_of_lines(sample, opening, content.name)), content.name, options)
        own = None if opening.names is None else opening.names[: plan.width]
        plan.check_columns(own, min(opening.width, plan.width), content.name)
        index = _Index(content, start, line, block_rows, opening.dialect.quote.encode(), b"#%")
        readers.append(CsvReader(content, index, opening, plan))
    return readers


def _without_end_column(frame: Any) -> Any:
    """Leave out a last column without a name and a value, which a delimiter at the end of each line makes."""
    last = frame.columns[-1]
    is_empty = frame.shape[1] > 1 and not (isinstance(last, str) and last) and frame.iloc[:, -1].isna().all()
    return frame.iloc[:, :-1] if is_empty else frame


def _first_lines(lines: Lines, count: int) -> Lines:
    parts = lines.text.split(b"\n", count)
    return lines._replace(text=b"\n".join(parts[:count]))


def _after_lines(head: bytes, count: int) -> tuple[int, int]:
    """Return the place after the first `count` lines that are not left out, and the number of the line there."""
    place, line, at = 0, 1, 0
    for number, each in enumerate(BytesIO(head), 1):
        if at == count:
            break
        bare = each.strip()
        at += bool(bare) and not bare.startswith((b"#", b"%"))
        place, line = place + len(each), number + 1
    return place, line


def _numbered(lines: Lines, first: int) -> Lines:
    """Return lines whose numbers count from `first`."""
    starts, numbers = lines.gaps
    gaps = ([0, *starts], [first, *(number + first - 1 for number in numbers)])
    if len(starts) and starts[0] == 0:
        gaps = (gaps[0][1:], gaps[1][1:])
    return lines._replace(gaps=gaps)


class SvmlightReader(_TextReader):
    """The rows of a file in svmlight format, as CSR matrices. One pass finds labels, columns and the scale."""

    has_labels = True

    def __init__(self, content: RandomBytes, block_rows: int) -> None:
        super().__init__(content, _Index(content, 0, 1, block_rows, b"", b"#"))
        self._n_inputs: int | None = None
        self._is_zero_based = True
        self.low, self.high, self.is_bytes, self.largest = MAX_SPARSE_SIDE, -1, True, 0.0
        labels = [np.zeros(0)]
        for start, stop in pairwise(self._index.rows):
            rows, of_rows = self.read(start, stop)
            labels.append(of_rows)
            if not rows.nnz:
                continue
            self.low, self.high = min(self.low, int(rows.indices.min())), max(self.high, int(rows.indices.max()))
            low, high = float(rows.data.min()), float(rows.data.max())
            self.largest = max(self.largest, high)
            is_whole = low >= 0 and high <= LARGEST_BYTE and bool((np.floor(rows.data) == rows.data).all())
            self.is_bytes = self.is_bytes and is_whole
            if self.high >= MAX_SPARSE_SIDE:
                raise DataError(f"{self.name}: found column {self.high}, expected at most {MAX_SPARSE_SIDE} columns")
        values = np.concatenate(labels)
        with np.errstate(invalid="ignore"):
            short = values.astype(np.int16)
        self._labels = short if (short == values).all() else values

    def settle(self, n_inputs: int, is_zero_based: bool, layout: Layout) -> None:
        """Set what all files together tell."""
        self._n_inputs, self._is_zero_based, self.layout = n_inputs, is_zero_based, layout

    def read(self, start: int, stop: int) -> tuple[Any, Any]:
        """Return the rows as a CSR matrix of float64, and the labels. Raises DataError."""
        from sklearn.datasets import load_svmlight_file

        text, line = self._text(start, stop)
        where = f"{self.name}, lines from {line} on"
        with errors_named(where, "lines of a label and column:value"):
            rows, labels = load_svmlight_file(
                BytesIO(text), n_features=self._n_inputs, zero_based=self._is_zero_based, dtype=np.float64
            )
        if rows.shape[0] != stop - start:
            raise DataError(f"{where}: found {rows.shape[0]} rows, expected {stop - start}")
        return rows, labels

    def read_labels(self, start: int, stop: int) -> Any:
        """Return the labels, which the first pass has kept."""
        return self._labels[start:stop]


def svmlight_readers(paths: Sequence[FilePath], block_rows: int) -> list[Reader]:
    """Return the rows of svmlight files, all of one width. Raises DataError."""
    readers = [SvmlightReader(open_bytes(path), block_rows) for path in paths]
    is_zero_based = min(reader.low for reader in readers) == 0
    n_inputs = max(reader.high for reader in readers) + is_zero_based
    if n_inputs < 1:
        raise DataError(f"{readers[0].name}: found no values, expected lines of a label and column:value")
    are_pixels = all(reader.is_bytes for reader in readers) and max(reader.largest for reader in readers) > _BRIGHT
    for reader in readers:
        reader.settle(
            n_inputs, is_zero_based, Layout(n_inputs, np.dtype(np.float64), 255.0 if are_pixels else 1.0, None)
        )
    return list(readers)
