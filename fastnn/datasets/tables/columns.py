"""A table by columns: which are numbers, which are text, and where in the file a value stands."""

from collections.abc import Sequence
from functools import cached_property
from shlex import quote
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastnn.datasets.tables.dialect import MISSING_WORDS
from fastnn.datasets.tables.rows import rows_of
from fastnn.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

# Beside those of dialect.MISSING_WORDS, which may not be the names of classes. These may.
_MORE_MISSING_WORDS = ("none", "-", "--", ".", "missing")
_MISSING = {word.casefold() for word in (*MISSING_WORDS, *_MORE_MISSING_WORDS)}


class Profile(NamedTuple):
    """The values of a column of numbers, in figures."""

    n_rows: int
    n_values: int  # different ones
    n_single: int  # values that stand in one row only
    low: float
    high: float
    is_whole: bool
    evenness: float  # the entropy of the values, as a fraction of that of equally frequent ones; 0 for a constant


class Table:
    """A frame with the name of its file. Columns and rows are given by position, from 0.

    Parameters
    ----------
    frame : DataFrame
        Its columns are names, or numbers if the file has no header.
    name : str
        The file, in messages.
    """

    def __init__(self, frame: "pd.DataFrame", name: str) -> None:
        self.frame = frame
        self.name = name
        self.rows = rows_of(frame)
        self.dtypes: list[Any] = frame.dtypes.tolist()
        self._texts: dict[int, bool] = {}

    @cached_property
    def names(self) -> list[str] | None:
        """The names of the columns, or None if the file has no header."""
        names = list(self.frame.columns)
        return [str(name).strip() for name in names] if any(isinstance(name, str) for name in names) else None

    def column(self, position: int) -> str:
        """Return a column in words: its number from 1 and its name."""
        named = "" if self.names is None or not self.names[position] else f" ({self.names[position][:60]!a})"
        return f"column {position + 1}{named}"

    def title(self, position: int) -> str:
        """Return the name of a column, or its number from 1 if it has none: what the option ``label`` takes."""
        return (self.names[position] if self.names else "") or str(position + 1)

    def drop_hint(self, positions: Sequence[int]) -> str:
        """Return how to leave columns out, in words."""
        names = [self.title(position) for position in positions]
        if len(names) > 1:
            return "leave them out with drop (--drop)"
        name = names[0] if names[0].isprintable() else str(positions[0] + 1)
        return f"leave it out with drop (--drop {quote(name)})"

    def error(self, row: int, position: int, expected: str) -> DataError:
        """Return the error that reports a value."""
        found = self.rows.found(row, position, self.frame.iat[row, position])
        where = f"{self.name}: {self.rows.place(row)}, {self.column(position)}"
        return DataError(f"{where}: {found}, expected {expected}")

    def is_numeric(self, position: int) -> bool:
        """Return whether pandas holds the column as numbers or booleans."""
        return self.dtypes[position].kind in "buif"

    def texts(self, position: int) -> list[str | None]:
        """Return the values of a column as texts without white space around them; None for a missing value."""
        values = self.frame.iloc[:, position]
        missing = values.isna().to_numpy()
        plain = values.astype(object).to_numpy()
        return [None if gone else _text(value) for value, gone in zip(plain, missing, strict=True)]

    def numbers(self, position: int) -> tuple[np.ndarray, np.ndarray]:
        """Return a column as floats (N,), with nan for missing values, and whether each value is no number (N,)."""
        if self.is_numeric(position):
            dtype = self.dtypes[position]
            values = self.frame.iloc[:, position]
            array = values.to_numpy() if isinstance(dtype, np.dtype) else values.to_numpy(np.float64, na_value=np.nan)
            return array.astype(np.float64), np.zeros(len(array), bool)
        texts = self.texts(position)
        numbers = np.array([_number(text) for text in texts], np.float64)
        invalid = [text is not None and text.casefold() not in _MISSING for text in texts]
        return numbers, np.isnan(numbers) & np.array(invalid, bool)

    def is_text(self, position: int) -> bool:
        """Return whether most values of a column are no numbers."""
        if self.is_numeric(position):
            return False
        if position not in self._texts:
            numbers, invalid = self.numbers(position)
            self._texts[position] = bool(2 * invalid.sum() > len(numbers) - (np.isnan(numbers) & ~invalid).sum())
        return self._texts[position]

    def profile(self, position: int) -> Profile:
        """Return the figures of a column of numbers, without its missing values."""
        if self.is_numeric(position) and isinstance(self.dtypes[position], np.dtype):
            numbers = self.frame.iloc[:, position].to_numpy()
        else:
            numbers = self.numbers(position)[0]
        return profile_of(numbers)


def profile_of(numbers: np.ndarray) -> Profile:
    """Return the figures of numbers (N,), without those that are missing."""
    if numbers.dtype.kind == "f":
        numbers = numbers[np.isfinite(numbers)]
    if not len(numbers):
        return Profile(0, 0, 0, 0.0, 0.0, False, 0.0)
    values, counts = np.unique(numbers, return_counts=True)
    shares = counts / counts.sum()
    entropy = float(-(shares * np.log(shares)).sum())
    is_whole = bool((np.floor(values) == values).all()) if values.dtype.kind == "f" else True
    return Profile(
        n_rows=len(numbers),
        n_values=len(values),
        n_single=int((counts == 1).sum()),
        low=float(values[0]),
        high=float(values[-1]),
        is_whole=is_whole,
        evenness=entropy / np.log(len(values)) if len(values) > 1 else 0.0,
    )


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").strip()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _number(text: str | None) -> float:
    """Return the number that a text is, or nan. Python's own 1_000 and digits of other scripts are no numbers."""
    if text is None or not text.isascii() or "_" in text or text.casefold() in _MISSING:
        return float("nan")
    if text in ("True", "False"):
        return float(text == "True")
    try:
        return float(text)
    except ValueError:
        return float("nan")
