"""`BlockedView`: data in blocks with other labels, with other columns, or without some rows."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from hashlib import sha256
from types import MappingProxyType
from typing import Any

import numpy as np

from fastnn.datasets.dataset import Dataset
from fastnn.streams.blocked import BlockedData
from fastnn.streams.labels import Labels, given_labels

_ALL_ROWS: Mapping[int, np.ndarray] = MappingProxyType({})


class BlockedView(BlockedData):
    """The blocks of other data, changed when they are read.

    Parameters
    ----------
    data : BlockedData
        With labels.
    relabel : function of ndarray, or None
        Returns the labels of some rows for those that `data` has, as numbers of classes (n,) or targets (n, C).
    labels : Labels or None
        What labels are then; None: as in `data`.
    tag : str
        Equal for equal functions `relabel`, on every machine; a part of the digest. "": labels mean the same as before.
    columns : sequence of int, or None
        The columns of `data` to take, in this order; None: all of them.
    rows : mapping of int to ndarray of int
        The rows to take of a block, by its number; all rows of other blocks.
    """

    def __init__(
        self,
        data: BlockedData,
        relabel: Callable[[np.ndarray], np.ndarray] | None = None,
        labels: Labels | None = None,
        *,
        tag: str = "",
        columns: Sequence[int] | None = None,
        rows: Mapping[int, np.ndarray] = _ALL_ROWS,
    ) -> None:
        lengths = [len(rows[block]) if block in rows else length for block, length in enumerate(data.block_lengths)]
        labels = data.kind_of_labels if labels is None else labels
        self.__dict__.update(data.__dict__, _lengths=tuple(lengths), _labels=labels, _digest=None)
        self._data, self._relabel, self._tag, self._columns, self._rows = data, relabel, tag, columns, dict(rows)
        if columns is not None:
            self.n_inputs, self.image_shape = len(columns), None
            names = data.feature_names
            self.feature_names = None if names is None else tuple(names[column] for column in columns)

    def labels(self) -> Iterator[np.ndarray]:
        """Yield the labels of each block that has rows."""
        filled = (block for block, length in enumerate(self._data.block_lengths) if length)
        for block, labels in zip(filled, self._data.labels(), strict=True):
            own = self._relabelled(labels[self._rows[block]] if block in self._rows else labels)
            if len(own):
                yield own

    def read(self, block: int, out: np.ndarray | None = None) -> Dataset:
        """Return the samples of one block, as `BlockedData.read` does; `out` is used if the images need no copy."""
        is_whole = self._columns is None and block not in self._rows
        samples = self._data.read(block, out if is_whole else None)
        if block in self._rows:
            samples = samples.take(self._rows[block])
        assert samples.labels is not None
        return replace(
            samples,
            images=samples.images if self._columns is None else samples.images[:, self._columns],
            labels=self._relabelled(samples.labels),
            image_shape=self.image_shape,
            classes=self.classes,
            feature_names=self.feature_names,
        )

    @property
    def digest(self) -> str:
        """SHA-256 in hex of that of the data, and of the changes."""
        with self._lock:
            if self._digest is None:
                rows = [(block, *self._rows[block].tolist()) for block in sorted(self._rows)]
                changes = (self._tag, self._columns, rows)
                known = repr((self._data.digest, *changes)).encode()
                self._digest = sha256(known).hexdigest() if any(changes) else self._data.digest
            return self._digest

    def named(self, name: str) -> "BlockedView":
        """Return the same data with another name."""
        other = copy(self)
        other.name = name
        return other

    def _relabelled(self, labels: np.ndarray) -> np.ndarray:
        return labels if self._relabel is None else self._relabel(labels)


def with_classes(data: BlockedData, classes: Sequence[Any]) -> BlockedView:
    """Return the same rows with labels that number these classes, as `Dataset.with_classes` does.

    Raises DataError if a class of the data is none of them.
    """
    own = data.present_classes()
    number = dict(zip(own, given_labels(classes).numbered(np.array(own), data.name).tolist(), strict=True))
    of_class = np.array([number.get(each, 0) for each in data.classes or ()], np.int64)
    return BlockedView(data, of_class.__getitem__, Labels(tuple(classes), present=tuple(classes)))
