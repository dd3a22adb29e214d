"""Finds how delimited text is written: encoding, comments, delimiter, quotation marks and decimal mark."""

import csv
import re
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from io import BytesIO
from itertools import islice
from typing import NamedTuple

from fastnn.errors import DataError

MISSING_WORDS = ("", "?", "NA", "N/A", "n/a", "NaN", "nan", "-nan", "#N/A", "#NA", "NULL", "null", "<NA>")
"""The texts of fields without a value."""

WHITE_SPACE = " "
"""As a delimiter, it stands for any number of spaces and tabs."""

_SAMPLE_BYTES = 4 * 2**20
_SAMPLE_LINES = 50
_COMMENT_MARKS = (b"#", b"%")
# The starts of lines that may be blank or comments.
_LEFT_OUT = re.compile(rb"[#%\n \t]")
_LEFT_OUT_BELOW = re.compile(rb"\n[#%\n \t]")
# UTF-32 comes first: its mark begins with that of UTF-16.
_BYTE_ORDER_MARKS = (
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\0\0\xfe\xff", "utf-32"),
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_CONTROL = re.compile(rb"[\x01-\x08\x0e-\x1f]")
_NUMBER_WITH = rb"(?:^|(?<=[;|\t \n\"']))[+-]?[0-9]*%s[0-9]+(?:[eE][+-]?[0-9]+)?(?=[;|\t \n\"']|$)"
_COMMA_NUMBER = re.compile(_NUMBER_WITH % b",")
_POINT_NUMBER = re.compile(_NUMBER_WITH % rb"\.")
_THOUSANDS = re.compile(rb"[+-]?[1-9][0-9]{0,2}(?:,[0-9]{3})+")


class Dialect(NamedTuple):
    """How the fields of a line are written."""

    delimiter: str  # one character; WHITE_SPACE stands for any number of spaces and tabs
    quote: str
    decimal: str

    def records(self, lines: Iterator[str]) -> Iterator[tuple[int, list[str]]]:
        """Yield the number of lines read so far and the fields of each record; a quoted field may span lines."""
        spaced = self.delimiter == WHITE_SPACE
        reader = csv.reader(
            (line.replace("\t", " ").strip() for line in lines) if spaced else lines,
            delimiter=self.delimiter,
            quotechar=self.quote,
            skipinitialspace=True,
        )
        for fields in reader:
            yield reader.line_num, [field.strip() for field in fields]

    def fields(self, line: str) -> list[str]:
        """Return the fields of one line."""
        try:
            return next((fields for _, fields in self.records(iter([line]))), [])
        except csv.Error:  # a giant field
            return [field.strip() for field in line.split(None if self.delimiter == WHITE_SPACE else self.delimiter)]


class Lines(NamedTuple):
    """The lines of a file that hold names and values, as UTF-8 with line feeds."""

    text: bytes
    # For each place where lines were left out: the index of the line after them, and its number in the file, from 1.
    gaps: tuple[Sequence[int], Sequence[int]] = ((), ())
    comment: str | None = None  # the last comment line before the first of these lines, without its mark
    n_comments: int = 0  # comment lines after the first of these lines

    def number(self, index: int) -> int:
        """Return the number in the file of the line at `index`."""
        starts, numbers = self.gaps
        gap = bisect_right(starts, index) - 1
        return index + 1 if gap < 0 else numbers[gap] + index - starts[gap]

    def from_index(self, index: int) -> Iterator[str]:
        """Yield the lines from the one at `index` on, without their ends."""
        for line in islice(BytesIO(self.text), index, None):
            yield line.removesuffix(b"\n").decode(errors="replace")

    def sample(self) -> list[str]:
        """Return the first lines as text."""
        start = self.text[:_SAMPLE_BYTES]
        lines = start.split(b"\n", _SAMPLE_LINES)[:_SAMPLE_LINES]
        if len(start) < len(self.text) and len(lines) < _SAMPLE_LINES and len(lines) > 1:
            lines.pop()  # it may be cut
        return [line.decode(errors="replace") for line in lines]


def decoded(content: bytes, name: str) -> tuple[bytes, str | None]:
    """Return text in UTF-8 with line feeds, and the name of another encoding if it had one without a mark."""
    encoding = next((encoding for mark, encoding in _BYTE_ORDER_MARKS if content.startswith(mark)), None)
    start, guessed = content[:2000], None
    if encoding is None and b"\0" in start:
        zeros = [start[first::2].count(0) for first in (0, 1)]
        if 5 * max(zeros) > 4 * (len(start) // 2) and not min(zeros):
            encoding = guessed = "utf-16-le" if zeros[1] else "utf-16-be"
    if encoding is None and not content.isascii():
        try:
            content.decode()
        except UnicodeDecodeError:
            # cp1252 leaves five bytes undefined.
            encoding = guessed = "latin-1" if re.search(rb"[\x81\x8d\x8f\x90\x9d]", content) else "cp1252"
    if encoding is not None:
        try:
            content = content.decode(encoding).encode()
        except UnicodeError:
            raise DataError(f"{name}: found bytes that are not {encoding.upper()}, expected text") from None
    _check_characters(content, name)
    if b"\r" in content:
        content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return content, guessed


def _check_characters(content: bytes, name: str) -> None:
    at, found = content.find(b"\0"), "a NUL byte (0x00)"
    if at < 0:
        control = _CONTROL.search(content[:1000])
        if control is None:
            return
        at, found = control.start(), f"the control character 0x{control.group()[0]:02x}"
    before = content[:at].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    column = max(before.rpartition(b"\n")[2].count(mark) for mark in (b",", b";", b"\t")) + 1
    line = before.count(b"\n") + 1
    raise DataError(f"{name}: line {line}, column {column}: found {found}, expected text")


def data_lines(text: bytes, name: str) -> Lines:
    """Leave out blank lines and comment lines; raise DataError if nothing is left."""
    text = text.rstrip(b"\n\x1a")
    lines = Lines(text)
    if _LEFT_OUT.match(text) or _LEFT_OUT_BELOW.search(text):
        lines = _without_left_out(text)
    if not lines.text.strip():
        found = "only comment lines" if lines.comment else "no text"
        raise DataError(f"{name}: found {found}, expected lines of numbers")
    if len(lines.text) > _SAMPLE_BYTES and lines.text.find(b"\n", 0, _SAMPLE_BYTES) < 0:
        raise DataError(
            f"{name}: line {lines.number(0)}: found more than {_SAMPLE_BYTES} bytes, expected a shorter line"
        )
    return lines


def _without_left_out(text: bytes) -> Lines:
    """Return the lines that are neither blank nor comments. A list of them would take 50 times as much memory."""
    kept = bytearray()
    starts, numbers = array("q"), array("q")
    comment, n_comments, n_kept, is_gap = None, 0, 0, False
    for number, line in enumerate(BytesIO(text), 1):
        bare = line.strip()
        if bare and not bare.startswith(_COMMENT_MARKS):
            if is_gap:
                starts.append(n_kept)
                numbers.append(number)
            kept += line
            n_kept, is_gap = n_kept + 1, False
            continue
        is_gap = True
        if bare and n_kept:
            n_comments += 1
        elif bare:
            comment = bare.lstrip(b"#%! \t").decode(errors="replace")
    return Lines(bytes(kept).removesuffix(b"\n"), (starts, numbers), comment, n_comments)


def find_dialect(lines: Lines) -> Dialect:
    """Return how the fields of these lines are written, by the first lines, and the decimal mark by all of them."""
    sample = lines.sample()
    joined = "\n".join(sample)
    single = re.search(r"(?:^|[,;|\t])\s*'[^'\n]*'\s*(?:[,;|\t]|$)", joined, re.M)
    quote = "'" if single and '"' not in joined else '"'
    delimiter = _delimiter(sample, quote)
    decimal = "," if delimiter != "," and _has_decimal_commas(lines.text) else "."
    return Dialect(delimiter, quote, decimal)


def _delimiter(sample: list[str], quote: str) -> str:
    """Return the mark that cuts the most lines into the same number of fields, at least two."""
    shares: dict[str, float] = {}
    for mark in ("\t", ";", "|", ",", WHITE_SPACE):
        rows = [Dialect(mark, quote, ".").fields(line) for line in sample]
        widths = Counter(len(row) for row in rows if len(row) > 1)
        if not widths or (mark == WHITE_SPACE and not _mostly_numbers(rows)):
            continue
        shares[mark] = max(widths.values()) / len(sample)
    return max(shares, key=lambda mark: shares[mark]) if shares else ","


def _mostly_numbers(rows: list[list[str]]) -> bool:
    fields = [field for row in rows[len(rows) > 1 :] for field in islice(row, 100)]
    return 2 * sum(is_number(field.replace(",", ".")) for field in fields) >= len(fields)


def _has_decimal_commas(text: bytes) -> bool:
    """Return whether numbers have decimal commas. 1,234 alone could also be a number with a thousands separator."""
    if b"," not in text or _POINT_NUMBER.search(text):
        return False
    return any(not _THOUSANDS.fullmatch(number.group()) for number in _COMMA_NUMBER.finditer(text))


def is_number(field: str) -> bool:
    """Return whether a field is a number for Python, such as nan and 1_000, which are errors in data."""
    try:
        float(field)
    except ValueError:
        return False
    return True
