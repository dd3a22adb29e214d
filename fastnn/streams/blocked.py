"""`BlockedData`: samples that are read one block of rows at a time."""

import threading
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np

from fastnn.checks import check_integer
from fastnn.datasets.containers.assemble import Named, as_planes, images_as_rows
from fastnn.datasets.containers.emnist import exchange
from fastnn.datasets.dataset import Dataset
from fastnn.datasets.options import ReadOptions
from fastnn.datasets.pixels import LARGEST_BYTE
from fastnn.datasets.sparse import is_sparse
from fastnn.errors import DataError, SettingsError
from fastnn.memory import check_memory
from fastnn.streams.blocks import Blocks, Part
from fastnn.streams.labels import Labels, StoredLabels, find_labels, given_labels
from fastnn.streams.reader import Layout

# Values are checked in slices of this number of rows: a whole block would need as much memory again.
_CHECK_ROWS = 4096


@dataclass(frozen=True)
class BlockOptions:
    """What a user says about data in blocks, as `open_data` documents it."""

    classes: Sequence[Any] | None = None
    dtype: np.dtype | None = None
    read: ReadOptions = field(default_factory=ReadOptions)


class BlockedData:
    """N samples in blocks of rows, of which only those that are read are in memory. `open_data` makes it.

    Nothing stays open, so it can be pickled, sent to other processes, and read by several threads at once.

    Attributes
    ----------
    name : str
        The source, for messages and reports.
    n_inputs : int
    dtype : dtype
        uint8, float32 or float64. Every block has it.
    n_blocks : int
    block_lengths : tuple of int
        The number of rows of each block, which can be 0.
    classes : tuple of int or str, or None
        The classes of all blocks: label k stands for ``classes[k]``. None without labels and for targets. Unless
        `open_data` was given the classes, the first use reads the labels of all blocks once.
    n_classes : int
        The number of classes, or of targets; 0 without labels.
    has_labels, has_targets : bool
        Whether rows have labels, and whether these are numbers to predict.
    pixel_max : float
    image_shape : (int, int) or None
    feature_names : tuple of str, or None
        As in `Dataset`.
    notes : tuple of str
        What the readers decided for the user.
    is_transposed : bool
        Whether rows and columns of images are exchanged when they are read.
    is_sequential : bool
        Whether only reading in order is fast, as of an iterator: for a block before the last one read, it starts again.
    digest : str

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np
    >>> import fastnn
    >>> with TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/x.npy", np.zeros((1000, 784), np.uint8))
    ...     data = fastnn.open_data(f"{folder}/x.npy", labels=np.arange(1000) % 10, block_rows=400)
    ...     block = data.read(2)
    >>> len(data), data.block_lengths, data.classes
    (1000, (400, 400, 200), (0, 1, 2, 3, 4, 5, 6, 7, 8, 9))
    >>> block.images.shape
    (200, 784)
    """

    def __init__(self, blocks: Blocks, name: str, options: BlockOptions) -> None:
        self.name = name
        self.is_sequential = blocks.is_sequential
        self._blocks, self._options = blocks, options
        self._lengths = blocks.lengths
        self._digest: str | None = None
        self._lock = threading.RLock()
        first = self._first_rows() if blocks.layout is None else None
        self._stored, layout, notes = self._find_layout(first)
        self.n_inputs, self.dtype, self.pixel_max, self.image_shape = layout[:4]
        self.has_labels = blocks.has_labels if first is None else first.labels is not None
        self._labels = None if self.has_labels else Labels()
        if self.has_labels and options.classes is not None:
            self._labels = given_labels(options.classes)
        self.feature_names = blocks.feature_names if self.image_shape is None else None
        exchanged = exchange(name, (), self.n_inputs, self.image_shape, options.read)
        self._order = None if exchanged is None else exchanged.order
        if exchanged is not None:
            self.image_shape, notes = exchanged.image_shape, (*notes, exchanged.note)
        self.notes = (*blocks.notes, *notes)
        if self._lengths is not None:
            n_bytes = max(self._lengths) * self.n_inputs * self.dtype.itemsize
            check_memory(n_bytes, lambda: f"{name}: blocks of {max(self._lengths or ())} rows")

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.RLock())

    def __repr__(self) -> str:
        rows = "" if self._lengths is None else f"{len(self)} samples in {self.n_blocks} blocks, "
        return f"BlockedData({self.name}: {rows}{self.n_inputs} {self.dtype} inputs, pixel_max {self.pixel_max:g})"

    def __len__(self) -> int:
        return sum(self.block_lengths)

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        """Raise SettingsError, for functions that would take the data for an array."""
        raise SettingsError(
            f"{self.name}: found BlockedData, expected an array here: `train`, `Model` and fastnn's estimators read "
            "blocks, and their standardize=True stands for a scaler"
        )

    @property
    def is_transposed(self) -> bool:
        """Whether rows and columns of images are exchanged when they are read."""
        return self._order is not None

    @property
    def n_blocks(self) -> int:
        """The number of blocks."""
        return len(self.block_lengths)

    @property
    def block_lengths(self) -> tuple[int, ...]:
        """The number of rows of each block. If the source does not tell, the first use reads all blocks once."""
        if self._lengths is None:
            self._scan()
        assert self._lengths is not None
        return self._lengths

    @property
    def classes(self) -> tuple[Any, ...] | None:
        """The classes of all blocks, or None."""
        return self.kind_of_labels.classes

    @property
    def has_targets(self) -> bool:
        """Whether the labels are numbers to predict."""
        return self.kind_of_labels.n_targets > 0

    @property
    def n_classes(self) -> int:
        """The number of `classes`, or of targets; 0 without labels."""
        labels = self.kind_of_labels
        return labels.n_targets or len(labels.classes or ())

    def without_labels(self) -> "BlockedData":
        """Return the same rows as data without labels, whose classes no pass has to find."""
        other = copy(self)
        other.has_labels, other._labels, other._digest = False, Labels(), None
        return other

    def with_stored_labels(self) -> "BlockedData":
        """Return the same rows with labels as they are stored, for `values_of`, unless a pass has found their classes.

        That pass is the one which counts the rows, if the source does not tell their number.
        """
        if self._labels is not None or self._lengths is None:
            return self
        other = copy(self)
        other._labels = StoredLabels()
        return other

    def values_of(self, stored: Sequence[np.ndarray]) -> np.ndarray:
        """Return the labels of all rows as `open_data` was given them: classes (N,), or targets (N, C).

        stored: the values of the labels of some rows after the other, as `with_stored_labels` has them
        """
        if self._labels is None:
            kind = self._labels = find_labels([(self.name, each) for each in stored], self._options.read.task)
            numbers = [kind.numbered(each, self.name) for each in stored]
            stored = numbers if kind.classes is None else [np.array(kind.classes)[each] for each in numbers]
        return np.concatenate(stored)

    def present_classes(self) -> tuple[Any, ...]:
        """Return the classes that have rows, sorted; all `classes` if `open_data` was given them. () without any."""
        labels = self.kind_of_labels
        return (labels.classes or ()) if labels.present is None else labels.present

    def labels(self) -> Iterator[np.ndarray]:
        """Yield the labels of each block that has rows, as `read` returns them.

        The images are read with them only where the source stores both together.
        """
        kind = self.kind_of_labels
        for _, parts in groupby(self._blocks.labels(), itemgetter(0)):
            found = [kind.numbered(_labels_of(part), part.where) for _, part in parts if part.n_rows]
            if found:
                yield np.concatenate(found)

    def read(self, block: int, out: np.ndarray | None = None) -> Dataset:
        """Return the samples of one block.

        Parameters
        ----------
        block : int
            From 0 to ``n_blocks - 1``.
        out : ndarray of shape (rows, n_inputs), optional
            Where the images go, in the `dtype` of the data and C-contiguous. Memory that is used again costs a fraction
            of new memory. Sparse rows become dense in it.

        Returns
        -------
        Dataset
            - images: (rows, n_inputs) of `dtype`; a CSR matrix for svmlight
            - labels: (rows,) int64, numbers of `classes`; (rows, C) float for targets; or None

        Raises
        ------
        DataError
            If the block cannot be read, or its dtype, width or labels do not fit the other blocks. The message names
            file, block and row.
        FileError
            If a file cannot be opened.
        SettingsError
            If there is no such block, or `out` has another shape or dtype.
        """
        check_integer("block", block, 0, self.n_blocks - 1)
        if out is not None:
            self._check_out(block, out)
        parts, kind = self._blocks.read(block, out if self._order is None else None), self.kind_of_labels
        images = [self._as_rows(part) for part in parts]
        labels = [kind.numbered(_labels_of(part), part.where) for part in parts] if self.has_labels else []
        found = sum(part.n_rows for part in parts)
        if found != self.block_lengths[block]:
            expected = f"{self.block_lengths[block]}; expected the same blocks whenever they are made"
            raise DataError(f"{self.name}: block {block}: found {found} rows, before {expected}")
        return Dataset(
            _joined(images) if out is None else _written(images, out),
            None if not labels else labels[0] if len(labels) == 1 else np.concatenate(labels),
            self.pixel_max,
            self.image_shape,
            f"{self.name}: block {block}",
            self.classes,
            self.feature_names,
        )

    def _check_out(self, block: int, out: np.ndarray) -> None:
        shape = (self.block_lengths[block], self.n_inputs)
        if out.shape != shape or out.dtype != self.dtype or not out.flags.c_contiguous or not out.flags.writeable:
            found = f"out has shape {out.shape} and dtype {out.dtype}"
            raise SettingsError(f"{found}, expected a C-contiguous array of shape {shape} and dtype {self.dtype}")

    def head(self, n_rows: int = 4096) -> Dataset:
        """Return the first samples, at most `n_rows` and at most those of the first block that has some.

        Returns
        -------
        Dataset
            With the `name` and all `classes` of the whole.
        """
        check_integer("n_rows", n_rows, 1)
        first = self.read(next(block for block, length in enumerate(self.block_lengths) if length))
        return first.take(np.arange(min(n_rows, len(first))), self.name)

    @property
    def digest(self) -> str:
        """SHA-256 in hex of what identifies the data: rows, blocks, classes, and samples of the bytes of all files.

        The digest is the same on every machine and for every path. It reads a small part of the data, but for the pass
        that finds the classes.
        """
        with self._lock:
            if self._digest is None:
                dtype = self.dtype.newbyteorder("<").str
                shape = (self.image_shape, "transposed") if self.is_transposed else self.image_shape
                known = (self.block_lengths, self.n_inputs, dtype, self.pixel_max, shape, self.classes)
                self._digest = sha256(repr(known).encode() + self._blocks.fingerprint()).hexdigest()
            return self._digest

    def _first_rows(self) -> Part:
        """Return the first rows there are; DataError if there are none."""
        for part in self._blocks.sample():
            if part.n_rows:
                return part
        raise DataError(f"{self.name}: found no rows, expected at least one")

    def _find_layout(self, part: Part | None) -> tuple[np.dtype | None, Layout, tuple[str, ...]]:
        """Return the dtype of the source, None if it may differ as that of texts, the layout of all rows, and notes.

        part: the first rows, which tell; None if the source knows the layout
        """
        dtype, options, known = self._options.dtype, self._options.read, self._blocks.layout
        if part is None:
            assert known is not None
            shape = options.image_shape or known.image_shape
            pixel_max = options.pixel_max or known.pixel_max
            return known.stored, Layout(known.n_inputs, dtype or known.dtype, pixel_max, shape), ()
        images, stored = part.images, part.images.dtype
        if dtype is not None and stored.kind in "buif":
            images = images.astype(dtype)
        rows, shape, pixel_max, notes = images_as_rows(Named(part.where, images), options)
        return stored, Layout(rows.shape[1], rows.dtype, pixel_max, shape), notes

    def _as_rows(self, part: Part) -> Any:
        """Return the images of a part as rows of the common dtype. Raises DataError."""
        images, stored, where = part.images, self._stored, part.where
        if not part.n_rows:
            return np.zeros((0, self.n_inputs), self.dtype)
        is_other = stored is not None and images.dtype != stored and self._options.dtype is None
        if images.dtype.kind not in "buif" or is_other:
            hint = "; dtype='float32' converts all of them" if images.dtype.kind in "buif" else ""
            raise DataError(
                f"{where}: found values of type {images.dtype}, expected {stored} as in the first rows{hint}"
            )
        if not is_sparse(images):
            images = as_planes(images, where)[0].reshape(part.n_rows, -1)
        if images.shape[1] != self.n_inputs:
            raise DataError(f"{where}: found {images.shape[1]} inputs, expected {self.n_inputs} as in the first rows")
        self._check_values(images, part)
        if self._order is not None:
            images = images[:, self._order]
        if is_sparse(images):
            return images.toarray().astype(self.dtype) if self.dtype == np.uint8 else images.astype(self.dtype)
        return np.ascontiguousarray(images, self.dtype)

    def _check_values(self, images: Any, part: Part) -> None:
        """Raise DataError for the first value that the common dtype cannot hold, or that is above the guessed scale."""
        kind, is_bytes, limit = images.dtype.kind, self.dtype == np.uint8, np.inf
        if is_bytes:
            limit = LARGEST_BYTE if self._options.read.pixel_max else min(self.pixel_max, LARGEST_BYTE)
        elif kind == "f":
            is_narrowed = self.dtype.itemsize < images.dtype.itemsize
            limit = float(np.finfo(self.dtype if is_narrowed else images.dtype).max)
        if kind == "b" or (kind in "iu" and not is_bytes) or (images.dtype == np.uint8 and limit == LARGEST_BYTE):
            return
        is_table = not is_sparse(images)
        values = images if is_table else images.data.reshape(-1, 1)
        for start in range(0, len(values), _CHECK_ROWS):
            rows = values[start : start + _CHECK_ROWS]
            wrong = (rows < 0) | (rows > limit) | (rows != np.floor(rows)) if is_bytes else ~(np.abs(rows) <= limit)
            if not wrong.any():
                continue
            row, column = (int(each[0]) for each in np.nonzero(wrong))
            place = f", row {part.start + start + row} (from 0), input {column}" if is_table else ""
            expected = f"finite numbers of {self.dtype}"
            if is_bytes:
                hint = "dtype='float32'" if limit == LARGEST_BYTE else f"pixel_max={LARGEST_BYTE}"
                expected = f"whole numbers from 0 to {limit:g} as in the first rows; {hint} allows others"
            raise DataError(f"{part.where}{place}: found {rows[row, column]}, expected {expected}")

    @property
    def kind_of_labels(self) -> Labels:
        """What the labels of all blocks are."""
        if self._labels is None:
            self._scan()
        assert self._labels is not None
        return self._labels

    def _scan(self) -> None:
        """Find what is unknown of labels and lengths by one pass over the labels of all blocks."""
        with self._lock:
            if self._labels is not None and self._lengths is not None:
                return
            lengths: list[int] = []

            def counted() -> Iterator[tuple[str, Any]]:
                for block, part in self._blocks.labels():
                    lengths.extend([0] * (block + 1 - len(lengths)))
                    lengths[block] += part.n_rows
                    yield part.where, _labels_of(part) if self.has_labels else None

            if self._labels is None:
                self._labels = find_labels(counted(), self._options.read.task)
            else:
                for _ in counted():
                    pass
            self._lengths = tuple(lengths)


def _labels_of(part: Part) -> Any:
    """Return the labels of a part, one for each row. Raises DataError."""
    if part.labels is None:
        raise DataError(f"{part.where}: found no labels, expected them as in the first block")
    if len(part.labels) != part.n_rows:
        raise DataError(f"{part.where}: found {len(part.labels)} labels, expected {part.n_rows}, one for each row")
    return part.labels


def _written(images: list[Any], out: np.ndarray) -> np.ndarray:
    """Return `out` with all rows; those that were read into it stay."""
    at = 0
    for rows in images:
        target = out[at : at + rows.shape[0]]
        if is_sparse(rows):
            rows.toarray(out=target)
        elif not np.may_share_memory(rows, target):
            target[:] = rows
        at += rows.shape[0]
    return out


def _joined(images: list[Any]) -> Any:
    if len(images) == 1:
        return images[0]
    if is_sparse(images[0]):
        from scipy import sparse

        return sparse.vstack(images, format="csr")
    return np.concatenate(images)
