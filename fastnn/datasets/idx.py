"""IDX, the format of the MNIST files: a header of big-endian sizes, then the numbers."""

import os
import re
from collections.abc import Iterator
from math import prod
from typing import NamedTuple

import numpy as np

from fastnn.datasets.dataset import Dataset
from fastnn.datasets.files import MAX_BYTES, Content, FilePath, checked_max_bytes, open_content
from fastnn.datasets.pixels import as_labels, as_pixels, check_not_empty, pixel_scale, square
from fastnn.errors import DataError

_TYPES: dict[int, np.dtype] = {
    0x08: np.dtype("u1"),
    0x09: np.dtype("i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}
_TYPE_NAMES = ", ".join(f"0x{code:02x} ({dtype.name})" for code, dtype in _TYPES.items())


class IdxHeader(NamedTuple):
    """What the first bytes of an IDX file declare."""

    dtype: np.dtype
    shape: tuple[int, ...]


def read_idx(images: FilePath, labels: FilePath | None = None, *, max_bytes: int = MAX_BYTES) -> Dataset:
    """Read images, and their labels if given, from IDX files, gzipped or not.

    Where a path does not exist, the other common spelling of its name is tried: ``train-images.idx3-ubyte`` for
    ``train-images-idx3-ubyte``, with or without ``.gz``.

    Parameters
    ----------
    images : path
        A file of rank 3, (N, height, width), or of rank 2, (N, D).
    labels : path, optional
        A file of rank 1, (N,), of an integer type.
    max_bytes : int
        A file that declares more bytes of numbers than this is refused.

    Returns
    -------
    Dataset
        images of shape (N, D): uint8 where the file holds integers, which must lie from 0 to 255, else float32 or
        float64 as in the file. labels int64 of shape (N,), or None. image_shape is (height, width) for rank 3; for
        rank 2 the square if D is one, else None. pixel_max is 255 (16 for 64 pixels of at most 16; 1 for fractions).

    Raises
    ------
    DataError
        If a file is damaged, is no IDX file, declares other sizes than it has, or holds values that cannot be used; if
        images and labels are swapped or differ in number.
    FileError
        If a file cannot be opened.
    SettingsError
        If `max_bytes` is no positive whole number.
    """
    checked_max_bytes(max_bytes)
    with open_content(existing_spelling(images)) as content:
        header = read_header(content)
        _check_image_header(header, content.name)
        values = _read_values(content, header, max_bytes)
        name = content.name
    n_pixels = prod(header.shape[1:])
    pixels = as_pixels(values.reshape(header.shape[0], n_pixels), name)
    image_shape = (header.shape[1], header.shape[2]) if len(header.shape) == 3 else square(n_pixels)
    classes = None if labels is None else _read_labels(labels, len(pixels), name, max_bytes)
    return Dataset(pixels, classes, pixel_scale(pixels), image_shape, name)


def read_rank(path: FilePath) -> int:
    """The number of dimensions an IDX file declares."""
    with open_content(path) as content:
        return len(read_header(content).shape)


def existing_spelling(path: FilePath) -> FilePath:
    """The path, or the first other spelling of its name that exists; the path itself where none does."""
    if not isinstance(path, str | os.PathLike):
        return path
    return next((spelling for spelling in _spellings(os.fspath(path)) if os.path.exists(spelling)), path)


def _spellings(path: str) -> Iterator[str]:
    if "\0" in path:
        return
    yield path
    if match := re.fullmatch(r"(.*)[.-](idx\d-ubyte)(\.gz)?", path, re.DOTALL):
        packed = match[3] or ""
        for ending in (packed, "" if packed else ".gz"):
            for mark in "-.":
                yield f"{match[1]}{mark}{match[2]}{ending}"


def read_header(content: Content) -> IdxHeader:
    """Read and check the magic number and the sizes; the content then stands at the first number."""
    magic = content.read(4)
    if len(magic) < 4:
        raise DataError(f"{content.name}: the header needs at least 8 bytes, the file has {len(magic)}")
    if magic[:2] != b"\0\0":
        raise DataError(
            f"{content.name}: found {magic.hex(' ')} in bytes 0 to 3, expected the 00 00 tt nn of IDX (type and rank)"
        )
    if magic[2] not in _TYPES:
        raise DataError(f"{content.name}: found type 0x{magic[2]:02x} in byte 2, expected one of {_TYPE_NAMES}")
    rank = magic[3]
    if rank == 0:
        raise DataError(f"{content.name}: found rank 0 in byte 3, expected 1 (labels), 2 or 3 (images)")
    sizes = content.read(4 * rank)
    if len(sizes) < 4 * rank:
        raise DataError(f"{content.name}: the header needs {4 + 4 * rank} bytes, the file has {4 + len(sizes)}")
    return IdxHeader(_TYPES[magic[2]], tuple(int(size) for size in np.frombuffer(sizes, ">u4")))


def _check_image_header(header: IdxHeader, name: str) -> None:
    rank = len(header.shape)
    if rank == 1:
        raise DataError(f"{name}: looks like a label file (rank 1), expected images (rank 3, or 2)")
    if rank > 3:
        raise DataError(f"{name}: found rank {rank}, expected images (rank 3, or 2)")
    check_not_empty(header.shape, name)


def _read_labels(path: FilePath, n_images: int, images_name: str, max_bytes: int) -> np.ndarray:
    with open_content(existing_spelling(path)) as content:
        name = content.name
        header = read_header(content)
        if len(header.shape) > 1:
            like = "looks like an image file " if len(header.shape) < 4 else "found an array "
            raise DataError(f"{name}: {like}(rank {len(header.shape)}), expected labels (rank 1)")
        if header.dtype.kind == "f":
            raise DataError(f"{name}: found labels of type {header.dtype.name}, expected an integer type")
        if header.shape[0] != n_images:
            raise DataError(
                f"{name}: found {header.shape[0]} labels, expected {n_images}, as many as images in {images_name}"
            )
        return as_labels(_read_values(content, header, max_bytes), name)


def _read_values(content: Content, header: IdxHeader, max_bytes: int) -> np.ndarray:
    """The numbers after the header, one-dimensional; sizes are compared before anything is allocated."""
    name = content.name
    # Python integers: the product of the sizes can exceed 64 bits.
    declared = prod(header.shape) * header.dtype.itemsize
    shape = " x ".join(map(str, header.shape))
    wanted = f"expected {declared} bytes of numbers ({shape} of {header.dtype.name})"
    if declared > max_bytes:
        raise DataError(
            f"{name}: declares {declared} bytes of numbers ({shape}), expected at most max_bytes = {max_bytes}"
        )
    header_size = 4 + 4 * len(header.shape)
    if content.size is not None and content.size != header_size + declared:
        raise DataError(f"{name}: {wanted} after the header, found {content.size - header_size}")
    if declared > content.most:
        raise DataError(f"{name}: {wanted}, found a gzip file of {content.stored} bytes, which cannot hold that many")
    values = np.empty(prod(header.shape), header.dtype)
    found = content.read_into(values)
    more = content.read(1)  # the last byte has been read already; this reaches the end of a gzip file, and its CRC
    if found != declared or more:
        raise DataError(f"{name}: {wanted} after the header, found {'more' if more else found}")
    return values
