"""Reads IDX, the format of the MNIST files: a header with big-endian sizes, then the data."""

import os
import re
from collections.abc import Iterator
from math import prod

import numpy as np

from fastnn.checks import check_integer
from fastnn.datasets.containers.assemble import Named, dataset_of_arrays
from fastnn.datasets.dataset import Dataset
from fastnn.datasets.files import MAX_BYTES, Content, FilePath, Source, open_content
from fastnn.datasets.options import ReadOptions
from fastnn.datasets.pixels import check_not_empty
from fastnn.errors import DataError

_TYPES: dict[int, np.dtype] = {
    0x08: np.dtype("u1"),
    0x09: np.dtype("i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}
# Images of rank 4 have one channel: (N, height, width, 1).
_MAX_RANK = 4
QMNIST_COLUMNS = 8
"""QMNIST stores the class of a digit, its writer, and where it comes from."""

_TYPE_NAMES = ", ".join(f"0x{code:02x} ({dtype.name})" for code, dtype in _TYPES.items())


def read_idx(images: FilePath, labels: FilePath | None = None, *, max_bytes: int = MAX_BYTES) -> Dataset:
    """Read images, and optionally their labels, from IDX files. Either may be compressed by gzip, bzip2 or xz.

    If a path does not exist, the other common spellings of its name are tried: ``train-images.idx3-ubyte`` for
    ``train-images-idx3-ubyte``, with or without ``.gz``.

    Parameters
    ----------
    images : path
        A file of rank 3, (N, height, width), of rank 4, (N, height, width, 1), or of rank 2, (N, D).
    labels : path, optional
        A file of rank 1, (N,), or of rank 2, (N, 1), of an integer type. Of QMNIST's labels (N, 8), column 1 is read.
    max_bytes : int
        The largest accepted size of the data in a file, decompressed.

    Returns
    -------
    Dataset
        - images: (N, D). Integers from 0 to 255 become uint8, others float32; floats stay float32 or float64.
        - labels: (N,) int64, or None
        - image_shape: (height, width) for rank 3; for rank 2, (28, 28) or (8, 8) if D is 784 or 64, else None
        - pixel_max: 255; 16 for 64 pixels of at most 16; 1 for fractions

    Raises
    ------
    DataError
        If a file is damaged, is not an IDX file, is not as large as its header declares, or contains invalid values; or
        if images and labels are swapped or differ in number.
    FileError
        If a file cannot be opened.
    SettingsError
        If `max_bytes` is not a positive whole number.

    Examples
    --------
    >>> from importlib.resources import files
    >>> import fastnn
    >>> folder = files("fastnn.datasets") / "mnist"
    >>> data = fastnn.read_idx(folder / "t10k-images-idx3-ubyte.gz", folder / "t10k-labels-idx1-ubyte.gz")
    >>> data.images.shape, data.image_shape, data.labels[:3]
    ((10000, 784), (28, 28), array([7, 2, 1]))
    """
    check_integer("max_bytes", max_bytes, 1)
    pixels = read_idx_array(existing_spelling(images), max_bytes=max_bytes)
    if pixels.values.ndim == 1:
        raise DataError(f"{pixels.name}: looks like a label file (rank 1), expected images (rank 3 or 2)")
    classes = None if labels is None else read_idx_array(existing_spelling(labels), max_bytes=max_bytes)
    if classes is not None:
        classes, notes = label_column(classes, pixels)
        return dataset_of_arrays(pixels, classes, ReadOptions(), notes=notes)
    return dataset_of_arrays(pixels, None, ReadOptions())


def read_idx_array(source: Source, *, max_bytes: int = MAX_BYTES) -> Named:
    """Return the array in an IDX file, of rank 1 to 4. Raises DataError if the file is damaged or has no values."""
    with open_content(source) as content:
        dtype, shape = read_header(content)
        check_not_empty(shape, content.name)
        return Named(content.name, _read_values(content, dtype, shape, max_bytes).reshape(shape))


def label_column(labels: Named, images: Named) -> tuple[Named, tuple[str, ...]]:
    """Return the labels (N,) in an array of an IDX file, and notes; DataError if it holds no labels."""
    values, name = labels.values, labels.name
    if values.ndim > 2 or (values.ndim == 2 and values.shape[1] not in (1, QMNIST_COLUMNS)):
        raise DataError(f"{name}: looks like an image file (rank {values.ndim}), expected labels (rank 1)")
    if values.dtype.kind == "f":
        raise DataError(f"{name}: found labels of type {values.dtype.name}, expected an integer type")
    if len(values) != images.values.shape[0]:
        expected = f"{images.values.shape[0]}, one for each image in {images.name}"
        raise DataError(f"{name}: found {len(values)} labels, expected {expected}")
    if values.ndim == 1:
        return labels, ()
    notes = (f"{name}: column 1 of {values.shape[1]} is the label, as in QMNIST",) if values.shape[1] > 1 else ()
    return Named(name, values[:, 0]), notes


def existing_spelling(path: FilePath) -> FilePath:
    """Return the first spelling of the path that exists; return the path unchanged if none does."""
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


def read_header(content: Content) -> tuple[np.dtype, tuple[int, ...]]:
    """Read the header; return the declared dtype and shape. The next read starts at the data."""
    magic = content.read(4)
    if len(magic) < 4:
        raise DataError(f"{content.name}: found {len(magic)} bytes, expected an IDX header of at least 8")
    if magic[:2] != b"\0\0":
        expected = "00 00 tt nn of an IDX file (tt is the type, nn the rank)"
        raise DataError(f"{content.name}: found {magic.hex(' ')} in bytes 0 to 3, expected {expected}")
    if magic[2] not in _TYPES:
        raise DataError(f"{content.name}: found type 0x{magic[2]:02x} in byte 2, expected one of {_TYPE_NAMES}")
    rank = magic[3]
    if not 1 <= rank <= _MAX_RANK:
        raise DataError(f"{content.name}: found rank {rank} in byte 3, expected 1 (labels), or 2 to 4 (images)")
    sizes = content.read(4 * rank)
    if len(sizes) < 4 * rank:
        raise DataError(f"{content.name}: found {4 + len(sizes)} bytes, expected an IDX header of {4 + 4 * rank}")
    return _TYPES[magic[2]], tuple(np.frombuffer(sizes, ">u4").tolist())


def _read_values(content: Content, dtype: np.dtype, shape: tuple[int, ...], max_bytes: int) -> np.ndarray:
    """Read the data after the header as a one-dimensional array. Sizes are checked before memory is allocated."""
    # Python integers: the product of the sizes can exceed 64 bits.
    declared, header_size = prod(shape) * dtype.itemsize, 4 + 4 * len(shape)
    sizes = " x ".join(map(str, shape))
    expected = f"expected {declared} bytes of data ({sizes} of {dtype.name}) after the header"
    if declared > max_bytes:
        raise DataError(
            f"{content.name}: declares {declared} bytes of data ({sizes}), expected at most max_bytes = {max_bytes}"
        )
    if content.size is not None and content.size != header_size + declared:
        raise DataError(f"{content.name}: {expected}, found {content.size - header_size}")
    if content.compression and declared > content.allowance.left:
        too_many = f"a {content.compression} file that declares {declared} bytes of data ({sizes})"
        raise content.allowance.exceeded(content.name, too_many)
    values = np.empty(prod(shape), dtype)
    found = content.read_into(values)
    more = content.read(1)  # reading to the end of a gzip file checks its CRC
    if found != declared or more:
        raise DataError(f"{content.name}: {expected}, found {'more' if more else found}")
    return values
