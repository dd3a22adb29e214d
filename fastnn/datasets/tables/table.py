"""Turns tables into data sets: finds the labels, leaves out row numbers, checks every number."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fastnn.checks import display_path
from fastnn.datasets.dataset import Dataset
from fastnn.datasets.files import FilePath
from fastnn.datasets.options import ReadOptions
from fastnn.datasets.pixels import matched
from fastnn.datasets.tables.columns import Table
from fastnn.datasets.tables.frames import read_frame
from fastnn.datasets.tables.inputs import Inputs, read_inputs
from fastnn.datasets.tables.roles import Known, Roles, find_roles
from fastnn.datasets.tables.rows import notes_of, rows_of, set_rows
from fastnn.datasets.tables.target import read_target
from fastnn.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

_JOINED_LABEL = "label"


def read_table(path: FilePath, *, options: ReadOptions | None = None) -> Dataset:
    """Read a table from a CSV, Parquet, Feather, Excel or JSON lines file. The content determines the format.

    Parameters
    ----------
    path : path
        CSV and JSON lines may be gzipped. Parquet and Feather need pyarrow, Excel needs openpyxl.
    options : ReadOptions, optional
        What you know of the table.

    Returns
    -------
    Dataset
        As `read_csv` returns it.

    Raises
    ------
    DataError
        If the table is invalid. The message gives line or row, and column, counted from 1.
    FileError
        If the file cannot be opened.
    MissingDependencyError
        If the format needs a package that is not installed.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from fastnn.datasets.tables.table import read_table
    >>> with TemporaryDirectory() as folder:
    ...     with open(f"{folder}/flowers.jsonl", "w") as file:
    ...         _ = file.write('{"length": 1.4, "species": "setosa"}\\n{"length": 4.7, "species": "virginica"}\\n')
    ...     data = read_table(f"{folder}/flowers.jsonl")
    >>> data.feature_names, data.classes
    (('length',), ('setosa', 'virginica'))
    """
    options = options or ReadOptions()
    return dataset_of_frame(read_frame(path, options), display_path(path), options)


def dataset_of_frame(
    frame: "pd.DataFrame",
    name: str,
    options: ReadOptions | None = None,
    *,
    n_inputs: int | None = None,
    feature_names: Sequence[str] | None = None,
    means: np.ndarray | None = None,
) -> Dataset:
    """Return the data set of one table.

    n_inputs, feature_names: those of a model that will read the data, if there is one. They tell the inputs from
    labels and row numbers.
    means: what takes the place of missing values with ``missing="mean"``; None: the means of this table
    """
    options = options or ReadOptions()
    table = Table(frame, name)
    _check_rows(table)
    if feature_names is not None:
        n_inputs = len(feature_names)
    roles = find_roles(table, options, Known(n_inputs, feature_names))
    return _dataset(table, roles, options, means)[0]


def datasets_of_frames(
    frames: Sequence["pd.DataFrame"], names: Sequence[str], options: ReadOptions | None = None
) -> list[Dataset]:
    """Return the data sets of a training table and of other tables, which are read as the training table was.

    Columns of the other tables are found by the names of the training table, and their missing values become its means.
    All data sets have one dtype, one pixel_max and the classes of the training table.
    """
    options = options or ReadOptions()
    tables = [Table(frame, name) for frame, name in zip(frames, names, strict=True)]
    for table in tables:
        _check_rows(table)
    roles = find_roles(tables[0], options, Known())
    train, inputs = _dataset(tables[0], roles, options)
    task = options.task
    if train.labels is not None:
        task = "regression" if train.has_targets else "classification"
    rest = []
    for table in tables[1:]:
        told = ReadOptions(
            drop=tuple(each for each in options.drop if table.names is None or each in table.names),
            missing=options.missing,
            task=task,
            pixel_max=options.pixel_max,
            image_shape=train.image_shape,
        )
        own = find_roles(table, told, Known(like=(tables[0], roles)))
        test, _ = _dataset(table, own, told, inputs.means)
        train, test = matched(train, test)
        rest.append(test)
    return [train, *rest]


def _check_rows(table: Table) -> None:
    if not len(table.frame) or not table.frame.shape[1]:
        raise DataError(f"{table.name}: found a table of shape {table.frame.shape}, expected rows and columns")


def _dataset(
    table: Table, roles: Roles, options: ReadOptions, means: np.ndarray | None = None
) -> tuple[Dataset, Inputs]:
    notes = [*notes_of(table.frame), *roles.notes]
    target = None if roles.label is None else read_target(table, roles.label, options.task)
    if target is not None:
        notes = [*notes[:-1], f"{notes[-1]}, {target.note}"] if roles.notes else notes
    inputs = read_inputs(table, roles.inputs, options, means)
    data = Dataset(
        inputs.values,
        None if target is None else target.labels,
        inputs.pixel_max,
        inputs.image_shape,
        table.name,
        None if target is None else target.classes,
        inputs.feature_names,
        tuple(notes + inputs.notes),
    )
    return data, inputs


def is_label_table(frame: "pd.DataFrame") -> bool:
    """Return whether a table has nothing but labels: one column, beside a column of row numbers or not."""
    table = Table(frame, "")
    if frame.shape[1] == 1:
        return True
    if frame.shape[1] != 2:
        return False
    try:
        roles = find_roles(table, ReadOptions(label="last"), Known())
    except DataError:
        return True  # nothing is left beside row numbers
    return not roles.inputs


def join_labels(frame: "pd.DataFrame", labels: "pd.DataFrame", name: str, labels_name: str) -> "pd.DataFrame":
    """Return a table of samples with the labels of a second table as its last column, "label".

    Ids of one name in both tables tell which label belongs to which row. Without them, the order of the rows does.
    Give the data set of the result the option ``label="last"`` if the table has no names. Raises DataError if the
    tables have different numbers of rows, or different ids.
    """
    if len(frame) != len(labels):
        raise DataError(f"{labels_name}: found {len(labels)} labels, expected {len(frame)}, one for each row of {name}")
    joined = frame.copy(deep=False)
    order = _order_by_ids(frame, labels, name, labels_name)
    column = labels.iloc[:, -1].to_numpy()
    notes = notes_of(frame)
    if order is not None:
        column, notes = column[order], (*notes, f"the labels of {labels_name} are matched by {labels.columns[0]!a}")
    key = _JOINED_LABEL if any(isinstance(each, str) for each in frame.columns) else frame.shape[1]
    joined[key] = column
    return set_rows(joined, rows_of(frame), notes)


def _order_by_ids(frame: "pd.DataFrame", labels: "pd.DataFrame", name: str, labels_name: str) -> np.ndarray | None:
    """Return the positions of the labels in the order of the samples, by ids in both tables.

    None if the rows have the same order, or a table has no ids. Raises DataError if the ids are different.
    """
    title = labels.columns[0]
    if labels.shape[1] != 2 or not isinstance(title, str) or title not in frame.columns:
        return None
    own = frame.iloc[:, list(frame.columns).index(title)].tolist()
    theirs = labels.iloc[:, 0].tolist()
    counts = [ids == list(range(int(ids[0] == 1), len(ids) + int(ids[0] == 1))) for ids in (own, theirs)]
    if own == theirs or all(counts):
        return None
    position_of = {each: position for position, each in enumerate(theirs)}
    if len(position_of) != len(theirs) or set(own) != set(position_of):
        raise DataError(f"{labels_name}: found other values of {title!a} than in {name}, expected the same ids in both")
    return np.array([position_of[each] for each in own])
