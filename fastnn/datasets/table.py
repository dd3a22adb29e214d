"""Turns tables into data sets: finds the labels, leaves out row numbers, checks every number."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fastnn.datasets.dataset import Dataset
from fastnn.datasets.options import ReadOptions

if TYPE_CHECKING:
    import pandas as pd


def dataset_of_frame(
    frame: "pd.DataFrame",
    name: str,
    options: ReadOptions | None = None,
    *,
    n_inputs: int | None = None,
    feature_names: Sequence[str] | None = None,
) -> Dataset:
    """Return the data set of one table.

    n_inputs, feature_names: those of a model that will read the data, if there is one. They tell the inputs from
    labels and row numbers.
    """
    raise NotImplementedError


def datasets_of_frames(
    frames: Sequence["pd.DataFrame"], names: Sequence[str], options: ReadOptions | None = None
) -> list[Dataset]:
    """Return the data sets of a training table and of other tables, which are read as the training table was."""
    raise NotImplementedError


def is_label_table(frame: "pd.DataFrame") -> bool:
    """Return whether a table has nothing but labels: one column, beside a column of row numbers or not."""
    raise NotImplementedError


def join_labels(frame: "pd.DataFrame", labels: "pd.DataFrame", name: str, labels_name: str) -> "pd.DataFrame":
    """Return a table of samples with the labels of a second table as its column "label"."""
    raise NotImplementedError
