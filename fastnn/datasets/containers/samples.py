"""Reads the samples that a model is to predict: files with or without labels, whose columns the model knows."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fastnn.datasets.containers.formats import read_files, read_tables
from fastnn.datasets.dataset import Dataset
from fastnn.datasets.files import FilePath
from fastnn.datasets.options import ReadOptions
from fastnn.datasets.tables.table import dataset_of_frame
from fastnn.errors import DataError

if TYPE_CHECKING:
    import pandas as pd


class KnownInputs(Protocol):
    """What a model knows of its inputs."""

    @property
    def n_inputs(self) -> int: ...
    @property
    def feature_names(self) -> Sequence[str] | None: ...
    @property
    def means(self) -> np.ndarray | None: ...


def read_samples(
    paths: Sequence[FilePath], known: KnownInputs, id_name: str | None = None, **options: Any
) -> tuple[Dataset, list[Any] | None]:
    """Read the samples of files for a model, and the column of their identifiers.

    Parameters
    ----------
    paths : sequence of paths
        Tables, whose rows are joined, or files of another format. Of a training and a test set, the test set is read.
    known : KnownInputs
        The number of columns of the model and their names, which tell the inputs from labels and row numbers; and their
        means in training, or None, which take the place of missing values with ``missing="mean"``.
    id_name : str, optional
        The name of the column of the identifiers.
    options
        Those of `read_files`.

    Returns
    -------
    data : Dataset
    ids : list, or None
        The values of the column `id_name`; None if there is no such column.

    Raises
    ------
    DataError, FileError, SettingsError
        As `read_files` does; and DataError if an input of the model is missing.
    """
    chosen, feature_names = ReadOptions(**options), known.feature_names
    tables = read_tables(paths, chosen)
    if tables is None:
        train, test = read_files(paths, **options)
        return (train if test is None else test), None
    parts, ids = [], []
    for name, frame in tables:
        own = chosen
        if id_name is not None and id_name in frame.columns:
            ids += _plain(frame[id_name])
            if id_name not in (feature_names or ()):
                own = replace(chosen, drop=(*chosen.drop, id_name))
        parts.append(_samples(frame, name, own, known))
    if ids and len(ids) != sum(map(len, parts)):
        raise DataError(f"only some tables have a column {id_name!r}, expected it in all of them")
    data = parts[0]
    if len(parts) > 1:
        images = np.concatenate([part.images for part in parts])
        data = replace(data, images=images, labels=None, classes=None)
    return data, ids or None


def read_labelled_samples(paths: Sequence[FilePath], known: KnownInputs, **options: Any) -> Dataset:
    """Read labelled samples to evaluate a model on: the test set of the files, or all samples if there is none.

    Parameters
    ----------
    paths : sequence of paths
        As in `read_files`.
    known : KnownInputs
        As in `read_samples`. In a single table that has all the model's inputs, they tell the inputs from the labels,
        and other columns are left out.
    options
        Those of `read_files`.

    Returns
    -------
    Dataset

    Raises
    ------
    DataError, FileError, SettingsError
        As `read_files` does.
    """
    chosen, feature_names = ReadOptions(**options), known.feature_names
    tables = read_tables(paths, chosen) if feature_names is not None and len(paths) == 1 else None
    if tables is not None and len(tables) == 1 and set(feature_names or ()) <= set(tables[0][1].columns):
        name, frame = tables[0]
        return dataset_of_frame(frame, name, chosen, feature_names=feature_names, means=known.means)
    train, test = read_files(paths, **options)
    return train if test is None else test


def _samples(frame: "pd.DataFrame", name: str, options: ReadOptions, known: KnownInputs) -> Dataset:
    """Return the rows of a table. The columns of the model are inputs; other columns are left out."""
    names = known.feature_names
    if names is not None and set(names) <= set(frame.columns):
        options = replace(options, label="none", drop=tuple(each for each in options.drop if each not in names))
    elif frame.shape[1] == known.n_inputs:
        options = replace(options, label="none")
    data = dataset_of_frame(frame, name, options, n_inputs=known.n_inputs, feature_names=names, means=known.means)
    return replace(data, labels=None, classes=None)


def _plain(column: "pd.Series") -> list[Any]:
    """Return the values of a column as Python's int and str."""
    values = column.tolist()
    if all(isinstance(value, float) and value.is_integer() for value in values):
        return [int(value) for value in values]
    return values
