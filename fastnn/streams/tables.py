"""What the columns of a table are, by its first rows, and the inputs and labels of its other rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fastnn.datasets.options import ReadOptions
from fastnn.datasets.tables.columns import Table
from fastnn.datasets.tables.inputs import input_numbers, read_inputs
from fastnn.datasets.tables.roles import LABEL_HINT, Known, find_roles
from fastnn.datasets.tables.rows import notes_of
from fastnn.datasets.tables.target import label_column
from fastnn.errors import DataError
from fastnn.streams.reader import Layout

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Plan:
    """Which columns of all blocks and files are inputs and labels, and what the inputs become.

    names: those of all columns, or None
    inputs: the positions of the inputs
    label: the position of the labels, or None
    """

    names: tuple[str, ...] | None
    width: int
    inputs: tuple[int, ...]
    label: int | None
    task: str
    layout: Layout
    feature_names: tuple[str, ...] | None
    notes: tuple[str, ...]
    source: str

    def rows_of(self, frame: "pd.DataFrame", name: str) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the inputs (n, D) and the labels (n,) of a block. Raises DataError with the place."""
        table = Table(frame, name)
        self.check_columns(table.names, frame.shape[1], name)
        positions = list(self.inputs)
        values = input_numbers(table, positions)
        if values.dtype.kind == "f" and (wrong := ~np.isfinite(values)).any():
            row, column = divmod(int(wrong.argmax()), values.shape[1])
            raise table.error(row, positions[column], "a finite number")
        return values, None if self.label is None else label_column(table, self.label, self.task)

    def check_columns(self, names: Sequence[str] | None, width: int, name: str) -> None:
        """Raise DataError if a file has other columns than the first one."""
        if width != self.width:
            raise DataError(f"{name}: found {width} columns, expected {self.width} as in {self.source}")
        if names is not None and self.names is not None and tuple(names) != self.names:
            at = next(at for at, each in enumerate(names) if each != self.names[at])
            found = f"column {at + 1} ({names[at][:60]!a})"
            raise DataError(f"{name}: found {found}, expected {self.names[at][:60]!a} as in {self.source}")


def plan_of(frame: "pd.DataFrame", name: str, options: ReadOptions) -> Plan:
    """Return the plan of a table by its first rows. Raises DataError if they do not tell what the columns are."""
    table = Table(frame, name)
    try:
        roles = find_roles(table, options, Known())
    except DataError as error:
        raise DataError(str(error).replace(LABEL_HINT, "give its name or number as labels")) from None
    inputs = read_inputs(table, roles.inputs, options)
    return Plan(
        None if table.names is None else tuple(table.names),
        frame.shape[1],
        tuple(roles.inputs),
        roles.label,
        options.task,
        Layout(len(roles.inputs), inputs.values.dtype, inputs.pixel_max, inputs.image_shape),
        inputs.feature_names,
        (*notes_of(frame), *roles.notes),
        name,
    )
