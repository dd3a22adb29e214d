"""Reads the column of the labels: as classes, or as numbers to predict."""

from typing import Any, NamedTuple

import numpy as np

from fastnn.datasets.arrays import LARGEST_LABEL, numbered_texts
from fastnn.datasets.tables.columns import Profile, Table, profile_of
from fastnn.errors import DataError

# Whole numbers are numbers to predict, not classes, ...
# - above this number of different values, if each stands in fewer than _MEAN_REPEATS rows on average,
_MANY_VALUES = 20
_MEAN_REPEATS = 5
# - above this number, if they stand in fewer than two rows on average,
_SOME_VALUES = 10
# - above this number, if they do not begin at 0 or 1, as the numbers of classes do: ages, years, prices.
_MOST_VALUES_FROM_ELSEWHERE = 50


class Target(NamedTuple):
    """The labels of a table.

    labels: (N,) int64, numbers of `classes`, or the classes themselves if `classes` is None; or (N, 1) float64
    """

    labels: np.ndarray
    classes: tuple[Any, ...] | None
    note: str


def read_target(table: Table, position: int, task: str) -> Target | None:
    """Return the labels in a column; None if all are missing, as in tables that are to be predicted.

    Raises DataError, with the place, if a label is missing or is no number in a column of numbers.
    """
    if table.frame.iloc[:, position].isna().all():
        return None
    numbers = label_column(table, position, task)
    if numbers.dtype.kind != "f":
        return _of_texts(table, position)
    profile = table.profile(position)
    if task == "regression" or (task == "auto" and not (profile.is_whole and _repeats(profile))):
        kind = "" if task == "regression" else _reason(profile)
        return Target(numbers.reshape(-1, 1), None, f"{kind}read as numbers (regression)" + _force(task))
    if not profile.is_whole or np.abs(numbers).max(initial=0) >= 2**63:  # larger ones would become equal as integers
        return _of_texts(table, position)
    whole = numbers.astype(np.int64)
    labels, classes = numbered(whole)
    n_classes = int(labels.max()) + 1 if classes is None else len(classes)
    return Target(labels, classes, f"{n_classes} classes")


def label_column(table: Table, position: int, task: str) -> np.ndarray:
    """Return the labels in a column as texts (N,) object, or as finite numbers (N,) float64.

    Raises DataError, with the place, if a label is missing or is no number in a column of numbers.
    """
    missing = table.frame.iloc[:, position].isna().to_numpy()
    if missing.any():
        raise table.error(int(missing.argmax()), position, "a label")
    is_bool = table.dtypes[position].kind == "b"
    if task != "regression" and (is_bool or table.is_text(position)):
        texts = table.texts(position)
        if "" in texts:
            raise table.error(texts.index(""), position, "a label")
        return np.array(texts, object)
    numbers, invalid = table.numbers(position)
    invalid |= ~np.isfinite(numbers)
    if invalid.any():
        expected = "a number" if task == "regression" else "a label, a number like the others of the column"
        raise table.error(int(invalid.argmax()), position, expected)
    return numbers


def are_classes(numbers: np.ndarray) -> bool:
    """Return whether numbers (N,) are labels of classes, not numbers to predict."""
    profile = profile_of(numbers)
    return profile.is_whole and _repeats(profile)


def _reason(profile: Profile) -> str:
    values = "fractions" if not profile.is_whole else f"{profile.n_values} different values in {profile.n_rows} rows"
    return f"{values}, "


def _force(task: str) -> str:
    return "" if task == "regression" else "; for classes, give task classification (--task classification)"


def _repeats(profile: Profile) -> bool:
    """Return whether whole numbers are few enough different ones to be classes."""
    repeats = profile.n_rows / profile.n_values
    starts = profile.low in (0, 1)
    if starts and profile.high - profile.low + 1 == profile.n_values and repeats >= 2:
        return True  # every class from the first to the last one, and no other
    if profile.n_values > _MOST_VALUES_FROM_ELSEWHERE and not starts:
        return False
    return profile.n_values <= (_MANY_VALUES if repeats >= 2 else _SOME_VALUES) or repeats >= _MEAN_REPEATS


def numbered(labels: np.ndarray) -> tuple[np.ndarray, tuple[int, ...] | None]:
    """Return labels (N,) as numbers of classes, and these classes; None if the labels are such numbers already.

    Labels that begin at 0 and leave out at most half of the numbers up to the largest one are numbers already.
    """
    values, numbers = np.unique(labels, return_inverse=True)
    if values[0] == 0 and values[-1] <= LARGEST_LABEL and 2 * len(values) > values[-1]:
        return labels.astype(np.int64), None
    return numbers.astype(np.int64).reshape(-1), tuple(values.tolist())


def _of_texts(table: Table, position: int) -> Target:
    texts = [str(text) for text in table.texts(position)]
    labels, classes = numbered_texts(texts)
    if len(classes) > _MANY_VALUES and 2 * len(classes) > len(texts):
        found = f"{len(classes)} different texts in {len(texts)} rows"
        raise DataError(f"{table.name}: {table.column(position)}: found {found}, expected classes that repeat")
    return Target(labels, classes, f"{len(classes)} classes")
