"""Dask's arrays and data frames as blocks: each is computed once, in a worker, and stays there."""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any, NamedTuple

import dask
import numpy as np
from dask.sizeof import sizeof

from fastnn.checks import short
from fastnn.dask.cluster import Engine
from fastnn.dask.partition import Piece, partition
from fastnn.dask.shares import Share, short_list
from fastnn.datasets.arrays import as_array, as_images
from fastnn.datasets.convert import describe as describe_type
from fastnn.datasets.dataset import Dataset
from fastnn.datasets.sparse import is_sparse
from fastnn.errors import DataError, SettingsError
from fastnn.network.standardization import merged_moments, moments


def is_collection(value: Any) -> bool:
    """Return whether a value is an array, a data frame or a series of Dask."""
    return bool(dask.is_dask_collection(value)) and hasattr(value, "to_delayed") and hasattr(value, "ndim")


@dataclass(frozen=True)
class Block:
    """A block of the data in a worker.

    number : which one, from 0
    images : (n, D) array, or CSR matrix
    labels : (n,) or (n, C), as they are in the collection; None without
    weight : (n,) float64, or None
    names : the names of the columns, or None
    digest : SHA-256 of all of them
    """

    number: int
    images: Any
    labels: np.ndarray | None
    weight: np.ndarray | None
    names: tuple[str, ...] | None
    digest: str

    def __len__(self) -> int:
        return int(self.images.shape[0])

    def __sizeof__(self) -> int:
        """Return the bytes of the arrays, by which Dask knows when a worker has to write blocks to its disk."""
        return sum(map(sizeof, (self.images, self.labels, self.weight)))


class Description(NamedTuple):
    """What the caller knows of a block: shapes, types, classes and moments, but no rows."""

    n_rows: int
    n_inputs: int
    dtype: np.dtype
    names: tuple[str, ...] | None
    weight: float  # the sum of the sample weights; without weights, the number of rows
    label_shape: tuple[int, ...]  # of one row
    label_dtype: np.dtype | None
    classes: np.ndarray | None  # the sorted labels, if they can be labels of classes
    counts: np.ndarray | None  # the rows of each of them
    digest: str


def make_block(number: int, x: Any, y: Any, weight: Any) -> Block:
    """Return the checked block of parts of the collections. Raises DataError, which names block, row and column."""
    where = f"block {number} of X"
    images, _, names = as_images(x, where)
    labels = None if y is None else as_array(y, f"block {number} of y")
    if labels is not None and labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if weight is not None:
        weight = as_array(weight, f"block {number} of sample_weight").astype(np.float64)
    n_rows = images.shape[0]
    for name, part in (("y", labels), ("sample_weight", weight)):
        if part is not None and len(part) != n_rows:
            raise DataError(
                f"block {number}: X has {n_rows} rows, {name} {len(part)}; expected as many: if both come from a graph "
                "that gives other rows each time, call persist() on it before taking X and y"
            )
    _check_finite(where, images.data.reshape(-1, 1) if is_sparse(images) else images)
    return Block(number, images, labels, weight, names, _digest(images, labels, weight))


def describe(block: Block) -> Description:
    """Return the description of a block."""
    labels, classes, counts = block.labels, None, None
    if labels is not None and labels.ndim == 1 and len(labels):
        if labels.dtype == object:
            labels = np.array(labels.tolist())
        classes, counts = np.unique(labels, return_counts=True)
    shape = () if block.labels is None else block.labels.shape[1:]
    dtype = None if labels is None else labels.dtype
    images, weight = block.images, len(block) if block.weight is None else block.weight.sum()
    return Description(
        len(block),
        images.shape[1],
        images.dtype,
        block.names,
        float(weight),
        shape,
        dtype,
        classes,
        counts,
        block.digest,
    )


Encoder = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class ClassNumbers:
    """Encodes labels as the numbers of their classes: (n,) int64, or a column (n, 1) of `column_dtype`.

    classes : the sorted labels
    """

    classes: np.ndarray
    column_dtype: np.dtype | None = None

    def __call__(self, labels: np.ndarray) -> np.ndarray:
        """Return the numbers. Raises DataError for a label that is none of the classes."""
        if labels.dtype == object:
            labels = np.array(labels.tolist())
        numbers = np.searchsorted(self.classes, labels)
        wrong = self.classes[np.minimum(numbers, len(self.classes) - 1)] != labels
        if wrong.any():
            label = labels[int(wrong.argmax())].item()
            raise DataError(f"y has the label {label!r}, expected one of the classes {short(self.classes.tolist())}")
        return numbers if self.column_dtype is None else numbers.astype(self.column_dtype)[:, None]


@dataclass(frozen=True)
class Targets:
    """Encodes numbers to predict: (n, C) of a dtype."""

    dtype: np.dtype

    def __call__(self, labels: np.ndarray) -> np.ndarray:
        """Return the targets."""
        return (labels if labels.ndim == 2 else labels[:, None]).astype(self.dtype)


@dataclass(frozen=True)
class BlockRows:
    """Rows of blocks: what a worker needs to make data of blocks that it has.

    pieces : the rows
    digests : those that the blocks of the pieces had when they were computed first
    dtype : that of the inputs
    encode : returns the labels or targets of a network for labels of a block
    class_weight : the weight of each class, which multiplies that of a row, or None
    fields : further arguments of `Dataset`
    """

    pieces: tuple[Piece, ...]
    digests: tuple[str, ...]
    dtype: np.dtype
    encode: Encoder
    class_weight: np.ndarray | None
    fields: dict[str, Any]

    def load(self, blocks: list[Block]) -> tuple[Dataset, np.ndarray | None]:
        """Return the rows of the blocks as data. Raises DataError if a block has changed since it was described."""
        for block, digest in zip(blocks, self.digests, strict=True):
            if block.digest != digest:
                raise DataError(
                    f"block {block.number}: it has other values than when it was computed first, expected a graph that "
                    "gives the same each time, since a worker that dies takes its blocks with it: write the data to "
                    "files first"
                )
        parts = [(block, piece.rows) for block, piece in zip(blocks, self.pieces, strict=True)]
        images = [_cast(block.images[rows], self.dtype) for block, rows in parts]
        labels = [self.encode(block.labels[rows]) for block, rows in parts if block.labels is not None]
        weight = [block.weight[rows] for block, rows in parts if block.weight is not None]
        data, total = Dataset(_joined(images), _joined(labels), **self.fields), _joined(weight)
        if self.class_weight is not None:
            of_rows = self.class_weight[data.labels.reshape(-1).astype(np.int64)]  # type: ignore[union-attr]
            total = of_rows if total is None else total * of_rows
        return data, total


class BlocksOfCollections:
    """The blocks of collections, in the workers.

    Parameters
    ----------
    blocks : sequence
        The blocks, as values or futures.
    descriptions : sequence of Description
    """

    name = "X"

    def __init__(self, blocks: Sequence[Any], descriptions: Sequence[Description]) -> None:
        self._blocks, self.descriptions = list(blocks), list(descriptions)
        _check_alike(self.descriptions)
        self.block_lengths = tuple(each.n_rows for each in self.descriptions)
        self.with_rows = [each for each in self.descriptions if each.n_rows]
        if not self.with_rows:
            raise DataError(f"X has {len(self.descriptions)} blocks without rows, expected at least one row")
        first = self.with_rows[0]
        self.n_inputs, self.feature_names, self.stored_dtype = first.n_inputs, first.names, first.dtype
        self.label_shape = first.label_shape

    def __len__(self) -> int:
        return sum(self.block_lengths)

    @property
    def digest(self) -> str:
        """The digest of all blocks."""
        return sha256("".join(each.digest for each in self.descriptions).encode()).hexdigest()

    def classes(self) -> np.ndarray:
        """Return the sorted labels of all blocks. Raises DataError if blocks mix texts and numbers."""
        try:
            return np.unique(np.concatenate([each.classes for each in self.with_rows if each.classes is not None]))
        except TypeError as error:
            raise DataError("y has labels of types that cannot be sorted, expected for example only texts") from error

    def counts(self, classes: np.ndarray) -> np.ndarray:
        """Return the number of rows of each class."""
        counts = np.zeros(len(classes), np.int64)
        for each in self.with_rows:
            assert each.classes is not None
            assert each.counts is not None
            counts[np.searchsorted(classes, each.classes)] += each.counts
        return counts

    def first_rows(self, engine: Engine, n_rows: int) -> Any:
        """Return the first rows of the first block that has some."""
        first = next(number for number, length in enumerate(self.block_lengths) if length)
        return engine.call(partial(_first_rows, n_rows=n_rows), [self._blocks[first]], [f"block {first} of X"])[0]

    def moments(self, engine: Engine) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean and the variance of each input over all rows, (D,) float64, merged in the order of blocks."""
        parts = engine.call(_moments, self._blocks, _names(self._blocks))
        return merged_moments(part for part in parts if part is not None)[1:]

    @property
    def weight(self) -> float:
        """The sum of the sample weights; without weights, the number of rows."""
        return sum(each.weight for each in self.with_rows)

    def shares(
        self, replicas: int, dtype: np.dtype, encode: Encoder, class_weight: np.ndarray | None = None, **fields: Any
    ) -> list[Share]:
        """Return the share of each replica; the arguments are those of `BlockRows`."""
        shares = []
        for pieces in partition(self.block_lengths, replicas):
            numbers = [piece.block for piece in pieces]
            digests = tuple(self.descriptions[number].digest for number in numbers)
            name = f"blocks {short_list(numbers)} of {self.name}"
            rows = BlockRows(pieces, digests, dtype, encode, class_weight, {"name": name, **fields})
            shares.append(Share(name, rows, [self._blocks[number] for number in numbers]))
        return shares


def blocks_of(X: Any, y: Any, sample_weight: Any, engine: Engine) -> BlocksOfCollections:
    """Compute the blocks of collections, all in one graph, and describe them.

    Parameters
    ----------
    X : Dask array of shape (N, D), or data frame
    y : Dask array, series or data frame of shape (N,) or (N, C), or None
    sample_weight : Dask array or series of shape (N,), or None
    engine : Engine

    Raises
    ------
    SettingsError
        If one of them is no collection of Dask.
    DataError
        If their blocks do not fit together, or a block cannot be used.
    """
    parts = {"X": X, "y": y, "sample_weight": sample_weight}
    columns = {name: row_blocks(value, name) for name, value in parts.items() if value is not None}
    _check_partition({name: parts[name] for name in columns}, columns)
    make = dask.delayed(make_block, pure=False)
    no_blocks = [None] * len(columns["X"])
    rows = zip(columns["X"], columns.get("y", no_blocks), columns.get("sample_weight", no_blocks), strict=True)
    token = uuid.uuid4().hex[:12]
    delayed = [make(number, *row, dask_key_name=f"fastnn-block-{number}-{token}") for number, row in enumerate(rows)]
    blocks = engine.compute(delayed, "X")
    return BlocksOfCollections(blocks, engine.call(describe, blocks, _names(blocks)))


def _names(blocks: Sequence[Any]) -> list[str]:
    """Return the names of all blocks, for messages."""
    return [f"block {number} of X" for number in range(len(blocks))]


def gathered(value: Any, engine: Engine) -> Any:
    """Return a collection as an array or frame in this process, and anything else unchanged."""
    if not is_collection(value):
        return value
    (result,) = engine.gather([value])
    return result


def row_blocks(value: Any, name: str) -> list[Any]:
    """Return the delayed blocks of a collection, one for each range of rows. Their tasks keep the names that they share
    with other collections, so a task that two of them need runs once.
    """
    if not is_collection(value):
        raise SettingsError(f"{name} is {describe_type(value)}, expected a Dask array or data frame")
    chunks = getattr(value, "chunks", None)
    if chunks is not None and value.ndim > 1 and any(len(each) != 1 for each in chunks[1:]):
        sizes = ", ".join(["n", *["-1"] * (value.ndim - 1)])
        found = f"{name} has {len(chunks[1])} chunks along its columns"
        raise DataError(f"{found}, expected one: {name}.rechunk(({sizes})) with n rows in a block")
    return list(np.ravel(np.array(value.to_delayed(optimize_graph=False), dtype=object)))


def _check_partition(parts: dict[str, Any], columns: dict[str, list[Any]]) -> None:
    """Raise DataError unless all collections are cut into blocks at the same rows, as far as this is known."""
    for name, blocks in columns.items():
        if len(blocks) != len(columns["X"]):
            found = f"{name} has {len(blocks)} blocks, X {len(columns['X'])}"
            raise DataError(f"{found}, expected the same rows in each: {_rechunk_hint(name, parts['X'])}")
        mine, other = (getattr(parts[each], "chunks", None) for each in (name, "X"))
        if mine is None or other is None or np.isnan(sum(mine[0]) + sum(other[0])):
            continue
        if mine[0] != other[0]:
            block = next(k for k, (one, two) in enumerate(zip(mine[0], other[0], strict=True)) if one != two)
            found = f"block {block} of {name} has {mine[0][block]} rows, that of X {other[0][block]}"
            raise DataError(f"{found}, expected the same: {_rechunk_hint(name, parts['X'])}")


def _rechunk_hint(name: str, X: Any) -> str:
    if hasattr(X, "chunks"):
        return f"{name}.rechunk({{0: X.chunks[0]}}), or X.rechunk((n, -1)) and {name}.rechunk((n,)) with one n"
    return "take both from the same data frame"


def _check_alike(descriptions: Sequence[Description]) -> None:
    """Raise DataError unless all blocks with rows have the columns and the types of the first one."""
    with_rows = [(number, each) for number, each in enumerate(descriptions) if each.n_rows]
    for number, each in with_rows:
        at, first = with_rows[0]
        if each.n_inputs != first.n_inputs:
            raise DataError(f"block {number} of X has {each.n_inputs} columns, expected {first.n_inputs} as block {at}")
        if each.names != first.names:
            found = f"block {number} of X has the columns {short(each.names)}"
            raise DataError(f"{found}, expected {short(first.names)} as block {at}")
        if each.dtype != first.dtype:
            found = f"block {number} of X has dtype {each.dtype}, block {at} has {first.dtype}"
            raise DataError(f"{found}, expected one dtype: X.astype('float32') converts all blocks")
        if each.label_shape != first.label_shape:
            shapes = [str(("n", *shape)).replace("'", "") for shape in (each.label_shape, first.label_shape)]
            raise DataError(f"block {number} of y has shape {shapes[0]}, expected {shapes[1]} as block {at}")
        one, two = each.label_dtype, first.label_dtype
        if one is not None and two is not None and (one.kind in "US") != (two.kind in "US"):
            raise DataError(f"block {number} of y has dtype {one}, block {at} has {two}; expected texts or numbers")


def _check_finite(where: str, values: np.ndarray) -> None:
    if values.dtype.kind != "f" or np.isfinite(values.sum()):
        return
    finite = np.isfinite(values)
    if not finite.all():
        row, column = (int(index[0]) for index in np.nonzero(~finite))
        found = f"row {row} of the block, column {column}: found {values[row, column]}"
        raise DataError(f"{where}, {found}, expected finite numbers")


def _digest(images: Any, labels: np.ndarray | None, weight: np.ndarray | None) -> str:
    arrays = [images.indptr, images.indices, images.data] if is_sparse(images) else [images]
    digest = sha256()
    for array in (*arrays, labels, weight):
        if array is None or array.dtype == object:
            digest.update(repr(None if array is None else array.tolist()).encode())
            continue
        digest.update(f"{array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _first_rows(block: Block, n_rows: int) -> Any:
    return block.images[:n_rows]


def _moments(block: Block) -> tuple[int, np.ndarray, np.ndarray] | None:
    """Return the `moments` of the inputs; None without rows."""
    return moments(block.images) if len(block) else None


def _cast(images: Any, dtype: np.dtype) -> Any:
    return images if images.dtype == dtype else images.astype(dtype)


def _joined(parts: list[Any]) -> Any:
    if len(parts) <= 1:
        return parts[0] if parts else None
    if is_sparse(parts[0]):
        from scipy import sparse

        return sparse.vstack(parts, format="csr")
    return np.concatenate(parts)
