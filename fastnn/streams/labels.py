"""The labels of all blocks: one pass finds the classes, or that they are numbers to predict."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn.checks import short
from fastnn.datasets.arrays import LARGEST_LABEL, as_array, check_lengths
from fastnn.datasets.dataset import class_text
from fastnn.datasets.tables.target import are_classes, numbered
from fastnn.errors import DataError

_MOST_CLASSES = LARGEST_LABEL + 1
# A label that stands in this number of rows repeats: more of them change nothing.
_ENOUGH = 100
_AS_TARGETS = "for numbers to predict, give task='regression'"


@dataclass(frozen=True)
class Labels:
    """What all labels of a data set are.

    Parameters
    ----------
    classes : tuple of int or str, or None
        The classes in sorted order; None for targets.
    n_targets : int
        The number of targets of each row; 0 for classes.
    present : tuple of int or str, or None
        The classes that have rows; None: unknown.
    """

    classes: tuple[Any, ...] | None = None
    n_targets: int = 0
    present: tuple[Any, ...] | None = None

    def numbered(self, values: Any, name: str) -> np.ndarray:
        """Return the labels of a block as numbers of the classes, (n,) int64, or as targets, (n, C) float.

        Raises DataError for a label that is none of the classes.
        """
        array = checked_labels(values, name)
        if self.classes is None:
            if array.dtype.kind not in "iuf" or array.size != len(array) * self.n_targets:
                expected = f"expected {self.n_targets} numbers for each row"
                raise DataError(f"{name}: found labels of shape {array.shape} and type {array.dtype}, {expected}")
            targets = array.reshape(len(array), -1)
            return targets if targets.dtype.kind == "f" and targets.dtype.itemsize >= 4 else targets.astype(np.float64)
        if array.ndim == 2:
            if array.shape[1] != len(self.classes) or not _is_one_hot(array):
                expected = f"one label for each row, or one-hot rows of {len(self.classes)} columns"
                raise DataError(f"{name}: found labels of shape {array.shape}, expected {expected}")
            return array.argmax(axis=1)
        if not len(array):
            return np.zeros(0, np.int64)
        is_number = array.dtype.kind in "iu" and self.classes == tuple(range(len(self.classes)))
        if is_number and array.min() >= 0 and array.max() < len(self.classes):
            return array.astype(np.int64)
        own, numbers = np.unique(array, return_inverse=True)
        number = {key: at for at, each in reversed([*enumerate(self.classes)]) for key in (each, class_text(each))}
        found = [number.get(class_text(each), -1) for each in own.tolist()]
        if -1 in found:
            label = own[found.index(-1)]
            row = int((array == label).argmax())
            expected = f"expected one of the classes {short(list(self.classes))}"
            raise DataError(f"{name}, row {row} of the block: found label {label.item()!r}, {expected}")
        return np.array(found, np.int64)[numbers.reshape(-1)]


class StoredLabels(Labels):
    """Labels whose classes are unknown: they stay as they are stored."""

    def numbered(self, values: Any, name: str) -> np.ndarray:
        """Return the labels of a block as finite numbers or texts, (n,) or (n, C)."""
        return checked_labels(values, name)


def find_labels(blocks: Iterable[tuple[str, Any]], task: str) -> Labels:
    """Return what the labels of all blocks are. Raises DataError, with the block, if they do not agree.

    blocks: the name of each block in messages, and its labels
    task: "auto", "classification" or "regression", as in `ReadOptions`
    """
    found = _Found(task)
    for name, values in blocks:
        found.add(checked_labels(values, name), name)
    return found.labels()


def given_labels(classes: Sequence[Any]) -> Labels:
    """Return the labels of classes that the caller names. Raises DataError if one stands twice."""
    names = tuple(classes)
    if not names or len({class_text(each) for each in names}) < len(names):
        raise DataError(f"classes are {short(list(names))}, expected at least one, all different")
    check_lengths(names, "classes")
    return Labels(names)


def checked_labels(values: Any, name: str) -> np.ndarray:
    """Return labels as finite numbers or texts, (n,) or (n, C). Raises DataError."""
    array = as_array(values, f"{name}: labels")
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.dtype == object or array.dtype.kind == "S":
        array = _texts(array, name)
    if array.dtype.kind not in "buifU" or array.ndim not in (1, 2) or (array.dtype.kind == "U" and array.ndim == 2):
        found = f"labels of shape {array.shape} and type {array.dtype}"
        raise DataError(f"{name}: found {found}, expected a number or a text for each row")
    if array.dtype.kind == "b":
        array = array.view(np.uint8)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        row = int(np.isfinite(array.reshape(len(array), -1)).all(axis=1).argmin())
        raise DataError(f"{name}, row {row} of the block: found label {array[row]}, expected a finite number")
    return array


def _texts(array: np.ndarray, name: str) -> np.ndarray:
    texts = []
    for row, value in enumerate(array.reshape(-1).tolist()):
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        if not isinstance(text, str):
            found = "a missing label" if text is None or text != text else f"label {short(text)} among texts"
            raise DataError(f"{name}, row {row} of the block: found {found}, expected a text")
        texts.append(text)
    return np.array(texts, str).reshape(array.shape) if texts else np.zeros(array.shape, "U1")


def _is_one_hot(array: np.ndarray) -> bool:
    return bool(((array == 0) | (array == 1)).all() and (np.count_nonzero(array, axis=1) == 1).all())


class _Found:
    """The labels that the pass has seen so far."""

    def __init__(self, task: str) -> None:
        self._task = task
        self._counts: dict[Any, int] = {}
        self._first: tuple[bool, tuple[int, ...], str] | None = None  # whether texts, shape of a label, name of a block
        self._has_fractions = task == "regression"
        self._is_one_hot = task != "regression"

    def add(self, array: np.ndarray, name: str) -> None:
        if not len(array):
            return
        kind = (array.dtype.kind == "U", array.shape[1:])
        if self._first is None:
            self._first = (*kind, name)
        if kind != self._first[:2]:
            words = [f"{'texts' if text else 'numbers'} of shape (n{', '.join(['', *map(str, shape)])})"
                     for text, shape in (kind, self._first[:2])]  # fmt: skip
            raise DataError(f"{name}: found labels that are {words[0]}, expected {words[1]} as in {self._first[2]}")
        if kind[0] and self._task == "regression":
            raise DataError(f"{name}: found texts as labels, expected numbers to predict (task='regression')")
        if array.ndim == 2:
            self._is_one_hot = self._is_one_hot and _is_one_hot(array)
            return
        self._is_one_hot = False
        if array.dtype.kind == "f" and not self._has_fractions and (np.floor(array) != array).any():
            if self._task == "classification":
                row = int((np.floor(array) != array).argmax())
                found = f"label {array[row]}"
                raise DataError(f"{name}, row {row} of the block: found {found}, expected a whole number for a class")
            self._has_fractions, self._counts = True, {}
        if self._has_fractions:
            return
        values, counts = np.unique(array, return_counts=True)
        for value, count in zip(values.tolist(), counts.tolist(), strict=True):
            value = int(value) if isinstance(value, float) else value
            self._counts[value] = self._counts.get(value, 0) + count
        if len(self._counts) > _MOST_CLASSES:
            found = f"more than {_MOST_CLASSES} different labels"
            raise DataError(f"{name}: found {found}, expected classes that repeat; {_AS_TARGETS}")

    def labels(self) -> Labels:
        if self._first is None:
            return Labels(())
        if self._first[1]:
            n_columns = self._first[1][0]
            return Labels(tuple(range(n_columns))) if self._is_one_hot else Labels(None, n_columns)
        if self._has_fractions:
            return Labels(None, 1)
        values = sorted(self._counts)
        check_lengths(values, "labels")
        if self._first[0]:
            return Labels(tuple(values), present=tuple(values))
        unique = np.array(values)
        if self._task == "auto" and not are_classes(
            np.repeat(unique, [min(self._counts[each], 100) for each in values])
        ):
            return Labels(None, 1)
        numbers, classes = numbered(unique)
        return Labels(tuple(range(int(numbers.max()) + 1)) if classes is None else classes, present=tuple(values))
