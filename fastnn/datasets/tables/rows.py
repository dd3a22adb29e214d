"""The places of the rows of a frame in its file, for messages. A frame carries them in its `attrs`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from fastnn.checks import short

if TYPE_CHECKING:
    import pandas as pd

_KEY, _NOTES = "fastnn_rows", "fastnn_notes"
_LONGEST_FIELD = 40


class Rows(Protocol):
    """Tells where rows stand in a file, and what the file has there."""

    def place(self, row: int) -> str:
        """Return the place of a row (from 0), such as "line 7"."""

    def found(self, row: int, column: int, value: Any) -> str:
        """Return what stands at a row and a column (from 0), such as "found '5;6'"; `value` is that of the frame."""


class NumberedRows:
    """Rows of a file that is not text, with numbers from `first`."""

    def __init__(self, first: int = 1) -> None:
        self._first = first

    def place(self, row: int) -> str:
        """Return the number of a row, in words."""
        return f"row {row + self._first}"

    def found(self, row: int, column: int, value: Any) -> str:
        """Return the value of the frame, in words."""
        return "found a missing value" if value is None or value != value else f"found {short(value)}"


def set_rows(frame: "pd.DataFrame", rows: Rows, notes: Sequence[str] = ()) -> "pd.DataFrame":
    """Attach the places of its rows to a frame, and what its reader decided, and return the frame."""
    frame.attrs[_KEY], frame.attrs[_NOTES] = rows, tuple(notes)
    return frame


def rows_of(frame: "pd.DataFrame") -> Rows:
    """Return the places of the rows of a frame; a frame that no reader made has rows from 1."""
    rows: Rows = frame.attrs.get(_KEY) or NumberedRows()
    return rows


def notes_of(frame: "pd.DataFrame") -> tuple[str, ...]:
    """Return what the reader of a frame decided."""
    notes: tuple[str, ...] = frame.attrs.get(_NOTES, ())
    return notes


def field_found(field: str) -> str:
    """Return a field as the "found" part of a message, on one line and shortened."""
    if not field:
        return "found a missing value"
    found = f"found {field[:_LONGEST_FIELD]!a}"
    return found if len(field) <= _LONGEST_FIELD else f"{found}... ({len(field.encode())} bytes)"
