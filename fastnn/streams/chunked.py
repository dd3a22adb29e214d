"""Reads ranges of the rows of arrays in HDF5 and Zarr, whose chunks are decoded as a whole."""

import os
import struct
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from itertools import product
from math import prod
from typing import Any

import numpy as np

from fastnn.checks import display_path
from fastnn.datasets.containers.bundle import key_text
from fastnn.datasets.files import Allowance, FilePath, errors_named, open_binary
from fastnn.errors import DataError, needs_extra
from fastnn.streams.content import RandomBytes
from fastnn.streams.keys import choose_keys
from fastnn.streams.reader import LabelledReader, Reader

_MAX_ARRAYS = 10_000
# Codecs that decode numbers and texts. Others may unpickle.
_ZARR_CODECS = {
    "blosc", "bytes", "bz2", "crc32c", "delta", "endian", "gzip", "lz4", "lzma", "shuffle", "sharding_indexed",
    "transpose", "vlen-utf8", "zlib", "zstd", "bitround", "fixedscaleoffset", "quantize", "packbits",
}  # fmt: skip
_TEXT_BYTES = 16  # of a text of variable length
_BLOSC = "blosc"
_BLOSC_HEADER = struct.Struct("<4xI4xI")  # the sizes of the content and of the chunk


class _ChunkedReader(Reader):
    """The rows of one array of a file.

    Parameters
    ----------
    path : path
    key : str
        The name of the array in the file.
    shape : tuple of int
    chunk : tuple of int, or None
        The shape of a chunk; None for an array in one piece.
    itemsize : int
    stored : int
        The bytes of the file, or of all files of the array.
    """

    def __init__(
        self,
        path: FilePath,
        key: str,
        shape: tuple[int, ...],
        chunk: tuple[int, ...] | None,
        itemsize: int,
        stored: int,
    ) -> None:
        self._path, self._key, self.shape, self._chunk = os.fspath(path), key, shape, chunk
        self.name = f"{display_path(path)}: {key_text(key)}" if key else display_path(path)
        self.n_rows = shape[0]
        self._allowance = Allowance(stored)
        # A row may take any part of its chunk, so a chunk must fit.
        self._check_size(prod(chunk or ()) * itemsize, "a chunk")
        self._row_bytes = prod(shape[1:]) * itemsize

    def read(self, start: int, stop: int) -> tuple[Any, Any]:
        """Return the rows. Raises DataError for damaged chunks, or rows that a file of its size may not hold."""
        self._check_size((stop - start) * self._row_bytes, f"{stop - start} rows")
        with errors_named(f"{self.name}, rows {start} to {stop - 1} (from 0)", "intact chunks"):
            values = self._read(start, stop)
        return np.asarray(values), None

    def cuts(self, block_rows: int) -> Sequence[int] | None:
        """Return a place between chunks for every `block_rows` rows."""
        chunk_rows = self._chunk[0] if self._chunk else 1
        if chunk_rows == 1:
            return None
        step = max(1, block_rows // chunk_rows) * chunk_rows
        return [*range(0, self.n_rows, step), self.n_rows]

    @abstractmethod
    def _read(self, start: int, stop: int) -> Any:
        """Return the rows as the library gives them."""

    def _check_size(self, n_bytes: int, what: str) -> None:
        if n_bytes > self._allowance.left:
            raise self._allowance.exceeded(self.name, f"{what} of {n_bytes} bytes after decompression")


class Hdf5Reader(_ChunkedReader):
    """The rows of a data set in an HDF5 file."""

    def _read(self, start: int, stop: int) -> Any:
        with _opened_hdf5(self._path) as file:
            data = file[self._key]
            if data.shape != self.shape:
                raise DataError(f"{self.name}: found shape {data.shape}, {self.shape} when it was opened")
            return data[start:stop]

    def fingerprint(self) -> bytes:
        """Return that of the file, and the name of the data set."""
        return RandomBytes(self._path).fingerprint() + self._key.encode()


class ZarrReader(_ChunkedReader):
    """The rows of an array in a Zarr folder."""

    def _read(self, start: int, stop: int) -> Any:
        array = _zarr().open_array(self._path, path=self._key, mode="r")
        if array.shape != self.shape:
            raise DataError(f"{self.name}: found shape {array.shape}, {self.shape} when it was opened")
        if _BLOSC in _codecs(array.metadata.to_dict()):
            self._check_blosc(array, start, stop)
        return array[start:stop]

    def _check_blosc(self, array: Any, start: int, stop: int) -> None:
        """Raise DataError for a chunk of Blosc whose header declares other sizes: its decoder trusts them."""
        size = prod(array.chunks) * array.dtype.itemsize
        first, last = start // array.chunks[0], (stop - 1) // array.chunks[0]
        others = (range(-(-side // chunk)) for side, chunk in zip(array.shape[1:], array.chunks[1:], strict=True))
        for place in product(range(first, last + 1), *others):
            path = os.path.join(self._path, self._key, array.metadata.encode_chunk_key(place))
            if not os.path.exists(path):
                continue
            with open_binary(path) as file:
                header, stored = file.read(_BLOSC_HEADER.size), os.fstat(file.fileno()).st_size
            if len(header) < _BLOSC_HEADER.size or _BLOSC_HEADER.unpack(header) != (size, stored):
                raise DataError(
                    f"{display_path(path)}: found a damaged chunk of {stored} bytes, expected an intact one"
                )

    def fingerprint(self) -> bytes:
        """Return the names and sizes of the files of the array, and samples of the first one and the last one."""
        digest = sha256()
        files = _files_below(os.path.join(self._path, self._key))
        for path in files:
            digest.update(f"{os.path.relpath(path, self._path)} {os.path.getsize(path)}".encode("utf-8", "replace"))
        for path in (*files[:1], *files[-1:]):
            digest.update(RandomBytes(path).fingerprint())
        return digest.digest()


def hdf5_reader(path: FilePath, images: str | None, labels: str | None) -> Reader:
    """Return the rows of the images in an HDF5 file, with their labels. Raises DataError."""
    name = display_path(path)
    found: dict[str, Hdf5Reader] = {}
    unread: dict[str, str] = {}
    with open_binary(path) as file:
        stored = file.seek(0, os.SEEK_END)
    with errors_named(name, "an intact HDF5 file"), _opened_hdf5(path) as root:
        for key, data in _datasets(root, name):
            if data.external or data.is_virtual:
                unread[key] = "keeps its rows in other files, which are not opened; give those files"
            elif data.ndim and data.dtype.names is None:
                size = data.dtype.itemsize
                found[key] = Hdf5Reader(path, key, data.shape, data.chunks, size, stored)
    return _chosen(found, unread, images, labels, name)


def zarr_reader(path: FilePath, images: str | None, labels: str | None) -> Reader:
    """Return the rows of the images in a Zarr folder, with their labels. Raises DataError."""
    name = display_path(path)
    found: dict[str, ZarrReader] = {}
    unread: dict[str, str] = {}
    notes: dict[str, str] = {}
    zarr = _zarr()
    with errors_named(name, "an intact Zarr array or group"):
        node = zarr.open(os.fspath(path), mode="r")
        members = node.members(max_depth=None) if isinstance(node, zarr.Group) else [("", node)]
        for key, array in members:
            if not isinstance(array, zarr.Array):
                continue
            codecs = _codecs(array.metadata.to_dict())
            if other := sorted(codecs - _ZARR_CODECS):
                unread[key] = f"has the codec {other[0][:60]!a}, which is not read; write it with zstd"
            elif _BLOSC in codecs and array.shards:
                unread[key] = "has Blosc in shards, whose chunks cannot be checked; write it with zstd"
            elif array.ndim:
                stored = sum(map(os.path.getsize, _files_below(os.path.join(os.fspath(path), key))))
                chunk, itemsize = array.shards or array.chunks, getattr(array.dtype, "itemsize", _TEXT_BYTES)
                found[key] = ZarrReader(path, key, array.shape, chunk, itemsize, stored)
                missing = array.nchunks - array.nchunks_initialized
                if missing:
                    chunks = f"{missing} of {array.nchunks} chunks of {key_text(key) or 'the array'}"
                    notes[key] = f"{name}: {chunks} are not there, and are read as {array.fill_value}"
    reader = _chosen(found, unread, images, labels, name)
    reader.notes = (*reader.notes, *notes.values())
    return reader


def _chosen(
    found: "dict[str, Any]", unread: dict[str, str], images: str | None, labels: str | None, name: str
) -> Reader:
    shapes = {key: reader.shape for key, reader in found.items()}
    chosen = choose_keys(shapes, images, labels, name, unread)
    for key in chosen.keys:
        if key in unread:
            raise DataError(f"{name}: {key_text(key)} {unread[key]}")
    readers = [found[key] for key in chosen.keys]
    return chosen.noted(LabelledReader(*readers) if len(readers) > 1 else readers[0])


def _datasets(root: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the data sets of an HDF5 file. Links to other files are not followed."""
    import h5py

    seen = set()
    groups = [("", root)]
    while groups:
        prefix, group = groups.pop()
        for key in group:
            link = group.get(key, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                continue
            item = group.get(key)
            place = h5py.h5o.get_info(item.id).addr if item is not None else None
            if item is None or place in seen:  # a link to nothing, or a second link to one thing
                continue
            seen.add(place)
            if len(seen) > _MAX_ARRAYS:
                raise DataError(f"{name}: found more than {_MAX_ARRAYS} data sets and groups, expected fewer")
            if isinstance(item, h5py.Group):
                groups.append((f"{prefix}{key}/", item))
            elif isinstance(item, h5py.Dataset):
                yield f"{prefix}{key}", item


@contextmanager
def _opened_hdf5(path: FilePath) -> Iterator[Any]:
    with needs_extra("reading HDF5 needs h5py", "streams"):
        import h5py
    with h5py.File(path, "r") as file:
        yield file


def _zarr() -> Any:
    with needs_extra("reading Zarr needs zarr", "streams"):
        import zarr
    return zarr


def _codecs(metadata: Any) -> set[str]:
    """Return the names of all codecs in the metadata of a Zarr array."""
    if isinstance(metadata, dict):
        found = set()
        for key, value in metadata.items():
            if key in ("codecs", "index_codecs", "filters", "compressor", "compressors"):
                found |= {str(each.get("name", each.get("id"))) for each in _dicts(value)}
            found |= _codecs(value)
        return found
    if isinstance(metadata, list | tuple):
        return set().union(*map(_codecs, metadata))
    return set()


def _dicts(value: Any) -> list[dict[str, Any]]:
    values = value if isinstance(value, list | tuple) else [value]
    return [each if isinstance(each, dict) else each.to_dict() for each in values if each is not None]


def _files_below(folder: str) -> list[str]:
    return sorted(os.path.join(root, name) for root, _, names in os.walk(folder) for name in names)
