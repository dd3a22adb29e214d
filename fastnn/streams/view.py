"""`BlockedView`: data in blocks with other labels, with other columns, or some of the rows; `KeptLabels`."""

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from hashlib import sha256
from typing import Any

import numpy as np

from fastnn.checks import check_integer
from fastnn.datasets.dataset import Dataset
from fastnn.streams.blocked import BlockedData
from fastnn.streams.labels import Labels, given_labels


class BlockedView(BlockedData):
    """The blocks of other data, changed when they are read. What is known of all blocks there is known of these.

    Parameters
    ----------
    data : BlockedData
    relabel : function of ndarray, or None
        Returns the labels of some rows for those that `data` has, as numbers of classes (n,) or targets (n, C).
    labels : Labels or None
        What labels are then; None: as in `data`.
    tag : str
        Equal for equal functions `relabel`, on every machine; a part of the digest. "": labels mean the same as before.
    columns : sequence of int, or None
        The columns of `data` to take, in this order; None: all of them.
    parts : sequence of (int, slice or ndarray of int or None), or None
        The blocks of the view, in the order of those of `data`: for each, the number of the block there, and its rows;
        None for all of them. Errors name the blocks of `data`.
    """

    def __init__(
        self,
        data: BlockedData,
        relabel: Callable[[np.ndarray], np.ndarray] | None = None,
        labels: Labels | None = None,
        *,
        tag: str = "",
        columns: Sequence[int] | None = None,
        parts: Sequence[tuple[int, slice | np.ndarray | None]] | None = None,
    ) -> None:
        lengths, whole = data.block_lengths, [(block, None) for block in range(data.n_blocks)]
        labels = data.kind_of_labels if labels is None else labels
        self.__dict__.update(data.__dict__, _labels=labels, _digest=None)
        self._data, self._relabel, self._tag, self._columns = data, relabel, tag, columns
        self._parts = whole if parts is None else [*parts]
        self._is_changed = bool(tag) or columns is not None or parts is not None
        self._lengths: tuple[int, ...] = tuple(
            lengths[block] if rows is None else len(_numbers(rows, lengths[block])) for block, rows in self._parts
        )
        if columns is not None:
            self.n_inputs, self.image_shape = len(columns), None
            names = data.feature_names
            self.feature_names = None if names is None else tuple(names[column] for column in columns)

    def labels(self) -> Iterator[np.ndarray]:
        """Yield the labels of each block that has rows."""
        filled = (block for block, length in enumerate(self._data.block_lengths) if length)
        found, at = zip(filled, self._data.labels(), strict=True), -1
        for (block, rows), length in zip(self._parts, self._lengths, strict=True):
            if length:
                while at < block:
                    at, labels = next(found)
                yield self._relabelled(labels if rows is None else labels[rows])

    def read(self, block: int, out: np.ndarray | None = None) -> Dataset:
        """Return the samples of one block, as `BlockedData.read` does; `out` is used if the images need no copy."""
        check_integer("block", block, 0, self.n_blocks - 1)
        number, rows = self._parts[block]
        samples = self._data.read(number, out if self._columns is None and rows is None else None)
        if rows is not None:
            samples = samples.take(rows)
        return replace(
            samples,
            images=samples.images if self._columns is None else samples.images[:, self._columns],
            labels=self._relabelled(samples.labels) if self.has_labels and samples.labels is not None else None,
            image_shape=self.image_shape,
            classes=samples.classes if self._relabel is None else self.classes,
            feature_names=self.feature_names,
        )

    @property
    def digest(self) -> str:
        """SHA-256 in hex of that of the data, and of the changes."""
        if not self._is_changed:
            return self._data.digest
        with self._lock:
            if self._digest is None:
                lengths = self._data.block_lengths
                parts = [
                    (block, None if rows is None else _numbers(rows, lengths[block]).tolist())
                    for block, rows in self._parts
                ]
                known = repr((self._data.digest, self._tag, self._columns, parts))
                self._digest = sha256(known.encode()).hexdigest()
            return self._digest

    def named(self, name: str) -> "BlockedView":
        """Return the same data with another name."""
        other = copy(self)
        other.name = name
        return other

    def _relabelled(self, labels: np.ndarray) -> np.ndarray:
        return labels if self._relabel is None else self._relabel(labels)


class KeptLabels(BlockedView):
    """The same blocks for a pass that keeps the labels of their rows, so that no other pass has to read them.

    Parameters
    ----------
    data : BlockedData
        With labels.
    """

    def __init__(self, data: BlockedData) -> None:
        super().__init__(data)
        self.kept: list[np.ndarray] = []

    def keep(self, samples: Dataset) -> None:
        """Keep copies of the labels of the next rows: classes (n,), or targets (n, C)."""
        assert samples.labels is not None
        is_value = samples.classes is None or samples.has_targets
        self.kept.append(samples.labels.copy() if is_value else np.array(samples.classes)[samples.labels])


def _numbers(rows: slice | np.ndarray, length: int) -> np.ndarray:
    """Return the numbers of some rows of a block of `length` rows."""
    return np.arange(length)[rows]


def with_classes(data: BlockedData, classes: Sequence[Any]) -> BlockedView:
    """Return the same rows with labels that number these classes, as `Dataset.with_classes` does.

    Raises DataError if a class of the data is none of them.
    """
    own = data.present_classes()
    number = dict(zip(own, given_labels(classes).numbered(np.array(own), data.name).tolist(), strict=True))
    of_class = np.array([number.get(each, 0) for each in data.classes or ()], np.int64)
    return BlockedView(data, of_class.__getitem__, Labels(tuple(classes), present=tuple(classes)))
