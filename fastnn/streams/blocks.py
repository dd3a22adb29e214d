"""Where blocks come from: ranges of the rows of readers, or functions that make them."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from fastnn.checks import short
from fastnn.datasets.arrays import as_array
from fastnn.datasets.dataset import Dataset
from fastnn.datasets.sparse import is_sparse
from fastnn.errors import DataError, FastnnError
from fastnn.streams.reader import Layout, Reader

# The first rows decide on the dtype and the scale of the pixels of all rows.
_SAMPLE_ROWS = 4096
# A chunk of a file that has at most this multiple of `block_rows` is one block; larger ones are cut.
_MOST_BLOCKS_OF_CHUNK = 4


class Part(NamedTuple):
    """Rows of a block, in the types of their source.

    where: file and block, for messages
    start: the number of the first row in the file, or in the block of a function
    images: (n, ...) of any layout, or a CSR matrix; None if only labels are asked for
    labels: (n,), (n, 1), (n, C), or None
    """

    where: str
    start: int
    n_rows: int
    images: Any
    labels: Any


class Blocks(ABC):
    """Blocks of rows, in the types of their source.

    `lengths` has the number of rows of each block; None: a pass over all blocks must count them.
    """

    lengths: tuple[int, ...] | None
    feature_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    layout: Layout | None = None
    has_labels: bool = False  # if there is no layout, the first rows tell
    is_sequential: bool = False

    @abstractmethod
    def sample(self) -> Iterator[Part]:
        """Yield the first rows, until the caller has one."""

    @abstractmethod
    def read(self, block: int, out: np.ndarray | None = None) -> list[Part]:
        """Return the rows of a block. Images may be in `out`, (n, D), if that saves a copy."""

    @abstractmethod
    def labels(self) -> Iterator[tuple[int, Part]]:
        """Yield the labels of all blocks, with the number of the block."""

    @abstractmethod
    def fingerprint(self) -> bytes:
        """Return bytes that differ for other data, without reading all of them, and are equal on every machine."""


class _Piece(NamedTuple):
    """The rows of one reader from `start` to `stop`."""

    reader: int
    start: int
    stop: int


class ReaderBlocks(Blocks):
    """Blocks of `block_rows` rows of readers, such as files, as if they were one.

    A reader that decodes whole chunks is cut between chunks, so no chunk is decoded for two blocks. Therefore blocks
    can have fewer rows than `block_rows`, or be a single larger chunk.
    """

    def __init__(self, readers: Sequence[Reader], block_rows: int) -> None:
        first = readers[0]
        for reader in readers[1:]:
            if reader.has_labels != first.has_labels:
                found, expected = ("labels" if each.has_labels else "no labels" for each in (reader, first))
                raise DataError(f"{reader.name}: found {found}, expected {expected} as in {first.name}")
            if reader.feature_names != first.feature_names:
                found, expected = (short(each.feature_names) for each in (reader, first))
                raise DataError(f"{reader.name}: found the columns {found}, expected {expected} as in {first.name}")
        self._readers = tuple(readers)
        self._pieces = _cut(readers, block_rows)
        self.lengths = tuple(sum(each.stop - each.start for each in pieces) for pieces in self._pieces)
        self.feature_names, self.layout, self.has_labels = first.feature_names, first.layout, first.has_labels
        self.notes = tuple(dict.fromkeys(note for reader in readers for note in reader.notes))
        self.is_sequential = any(reader.is_sequential for reader in readers)

    def sample(self) -> Iterator[Part]:
        """Yield rows of the first block."""
        for number, pieces in enumerate(self._pieces[:1]):
            for piece in pieces[:1]:
                yield self._part(number, piece._replace(stop=min(piece.stop, piece.start + _SAMPLE_ROWS)))

    def read(self, block: int, out: np.ndarray | None = None) -> list[Part]:
        """Return the rows of a block, one part for each file."""
        parts, at = [], 0
        for piece in self._pieces[block]:
            n_rows = piece.stop - piece.start
            parts.append(self._part(block, piece, None if out is None else out[at : at + n_rows]))
            at += n_rows
        return parts

    def labels(self) -> Iterator[tuple[int, Part]]:
        """Yield the labels, without reading the images if the format stores them apart."""
        for number, pieces in enumerate(self._pieces):
            for piece in pieces:
                reader, where = self._readers[piece.reader], self._where(number, piece)
                with errors_at(where):
                    labels = reader.read_labels(piece.start, piece.stop)
                yield number, Part(where, piece.start, piece.stop - piece.start, None, labels)

    def fingerprint(self) -> bytes:
        """Return the digests of those of all readers."""
        return b"".join(sha256(reader.fingerprint()).digest() for reader in self._readers)

    def _part(self, block: int, piece: _Piece, out: np.ndarray | None = None) -> Part:
        where, reader = self._where(block, piece), self._readers[piece.reader]
        with errors_at(where):
            if out is not None and reader.fill(piece.start, out):
                images, labels = out, reader.read_labels(piece.start, piece.stop) if self.has_labels else None
            else:
                images, labels = reader.read(piece.start, piece.stop)
        return Part(where, piece.start, piece.stop - piece.start, images, labels)

    def _where(self, block: int, piece: _Piece) -> str:
        return f"{self._readers[piece.reader].name}: block {block}"


def _cut(readers: Sequence[Reader], block_rows: int) -> tuple[tuple[_Piece, ...], ...]:
    """Return the pieces of each block. Blocks are filled from left to right."""
    blocks: list[list[_Piece]] = []
    room = 0
    for number, reader in enumerate(readers):
        for start, stop, is_chunk in _ranges(reader, block_rows):
            while start < stop:
                if not room or (is_chunk and stop - start > room):
                    blocks.append([])
                    room = block_rows
                size = stop - start if is_chunk else min(stop - start, room)
                blocks[-1].append(_Piece(number, start, start + size))
                room, start = max(0, room - size), start + size
    return tuple(map(_merged, blocks))


def _ranges(reader: Reader, block_rows: int) -> Iterator[tuple[int, int, bool]]:
    """Yield ranges of rows, and whether one is to stay together. Evenly cuts a chunk that is too large for a block."""
    cuts = reader.cuts(block_rows)
    if cuts is None:
        yield 0, reader.n_rows, False
        return
    for start, stop in pairwise(cuts):
        n_parts = 1 if stop - start <= _MOST_BLOCKS_OF_CHUNK * block_rows else -(-(stop - start) // block_rows)
        for each in pairwise(np.linspace(start, stop, n_parts + 1).astype(np.int64).tolist()):
            yield *each, True


def _merged(pieces: list[_Piece]) -> tuple[_Piece, ...]:
    """Join pieces that follow each other in one reader."""
    merged = pieces[:1]
    for piece in pieces[1:]:
        if piece.reader == merged[-1].reader and piece.start == merged[-1].stop:
            merged[-1] = merged[-1]._replace(stop=piece.stop)
        else:
            merged.append(piece)
    return tuple(merged)


class FunctionBlocks(Blocks):
    """Blocks that a function makes, each from its number.

    Parameters
    ----------
    function : callable
        ``function(i)`` returns (images, labels), images, or a `Dataset`, the same whenever it is called.
    lengths : tuple of int, or None
    n_blocks : int
    name : str
    """

    def __init__(
        self, function: Callable[[int], Any], n_blocks: int, lengths: tuple[int, ...] | None, name: str
    ) -> None:
        self._function, self._n_blocks, self._name = function, n_blocks, name
        self.lengths = lengths

    def sample(self) -> Iterator[Part]:
        """Yield the first blocks."""
        for block in range(self._n_blocks):
            yield from self.read(block)

    def read(self, block: int, out: np.ndarray | None = None) -> list[Part]:
        """Return what the function makes."""
        where = f"{self._name}: block {block}"
        with errors_at(where):
            made = self._function(block)
        return [_part_of(made, where)]

    def labels(self) -> Iterator[tuple[int, Part]]:
        """Yield the labels of all blocks; their images are made and discarded."""
        for block in range(self._n_blocks):
            for part in self.read(block):
                yield block, part._replace(images=None)

    def fingerprint(self) -> bytes:
        """Return the digests of the first and the last block."""
        parts = [*self.read(0), *self.read(self._n_blocks - 1)]
        return b"".join(map(_digest, parts))


class IteratorBlocks(Blocks):
    """Blocks that an iterator gives in order. Reading a block before the last one read starts another iterator.

    Parameters
    ----------
    start : callable
        ``start()`` returns a fresh iterator over (images, labels), images or a `Dataset`, always over the same ones.
    name : str
    """

    is_sequential = True

    def __init__(self, start: Callable[[], Iterable[Any]], name: str) -> None:
        self._start, self._name = start, name
        self.lengths = None
        self._next = 0
        self._iterator: Iterator[Any] | None = None
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_iterator": None, "_next": 0, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    def sample(self) -> Iterator[Part]:
        """Yield the first blocks."""
        return (part for _, part in self._all())

    def read(self, block: int, out: np.ndarray | None = None) -> list[Part]:
        """Return the next block, or go on to a later one, or begin again."""
        where = f"{self._name}: block {block}"
        with self._lock, errors_at(where):
            if self._iterator is None or block < self._next:
                self._iterator, self._next = iter(self._start()), 0
            for made in self._iterator:
                self._next += 1
                if self._next == block + 1:
                    return [_part_of(made, where)]
            self._iterator = None
        raise DataError(f"{where}: the iterator ended, expected as many blocks as in the first pass")

    def labels(self) -> Iterator[tuple[int, Part]]:
        """Yield the labels of all blocks from an iterator of its own."""
        return ((number, part._replace(images=None)) for number, part in self._all())

    def fingerprint(self) -> bytes:
        """Return the digest of the first block."""
        return _digest(next(self.sample()))

    def _all(self) -> Iterator[tuple[int, Part]]:
        with errors_at(f"{self._name}: block 0"):
            iterator = iter(self._start())
        number = 0
        while True:
            where = f"{self._name}: block {number}"
            with errors_at(where):
                try:
                    made = next(iterator)
                except StopIteration:
                    return
            yield number, _part_of(made, where)
            number += 1


def _part_of(made: Any, where: str) -> Part:
    """Return what a function made as a part. Raises DataError."""
    if isinstance(made, Dataset):
        labels = made.labels if made.classes is None or made.labels is None else np.array(made.class_labels())
        return Part(where, 0, len(made), made.images, labels)
    images, labels = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    images = images if is_sparse(images) else as_array(images, f"{where}: images")
    labels = None if labels is None else as_array(labels, f"{where}: labels")
    return Part(where, 0, images.shape[0], images, labels)


def _digest(part: Part) -> bytes:
    images = part.images.tocsr() if is_sparse(part.images) else part.images
    arrays = [images.indptr, images.indices, images.data] if is_sparse(images) else [images]
    digest = sha256(f"{images.shape} {images.dtype.str[1:]}".encode())
    for array in arrays:
        digest.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data)
    digest.update(repr(None if part.labels is None else part.labels.tolist()).encode())
    return digest.digest()


@contextmanager
def errors_at(where: str) -> Iterator[None]:
    """Add file and block to errors that lack them, and make a DataError of what a reader or a function raises."""
    try:
        yield
    except MemoryError:
        raise
    except FastnnError as error:
        if str(error).startswith(where):
            raise
        # The error of a file begins with its name, which `where` has, too.
        text = str(error).removeprefix(where.rpartition(": block ")[0]).removeprefix(": ")
        raise type(error)(f"{where}: {text}") from error
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{where}: {type(error).__name__}: {ascii(reason)[1:-1]}") from error
