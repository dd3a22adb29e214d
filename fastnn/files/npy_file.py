"""Writes data in blocks to an NPY file, which `open_data` reads in the least time, and its labels beside it."""

import os
from collections.abc import Callable
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.lib import format as npy

from fastnn.checks import display_path
from fastnn.datasets.pixels import LARGEST_BYTE
from fastnn.datasets.sparse import is_sparse
from fastnn.errors import DataError, SettingsError
from fastnn.files.atomic import check_writable, write_atomically
from fastnn.streams import BlockedData
from fastnn.streams.open import labels_path


class Converted(NamedTuple):
    """What `convert` has written: the shape and the dtype of the images, and the file of the labels, or None."""

    shape: tuple[int, ...]
    dtype: str
    labels: str | None


def convert(
    data: BlockedData,
    path: str | os.PathLike[str],
    *,
    dtype: str | None = None,
    notify: Callable[[int, int], None] | None = None,
) -> Converted:
    """Write the images of `data` to the NPY file `path`, one block after the other, and the labels beside it.

    Both files replace existing ones in one step, the labels first. Nothing is replaced if a block cannot be read.

    Parameters
    ----------
    data : BlockedData
    path : path
        It ends in ``.npy``. The labels go to the file that `open_data` finds: ``x.labels.npy`` for ``x.npy``.
    dtype : {"uint8", "float32", "float64"}, optional
        That of the file. None: that of the data; uint8 for sparse rows of pixels, and float32 for other sparse rows.
    notify : callable, optional
        It is called with the rows that are done and the number of all rows after each block.

    Returns
    -------
    Converted
        The images have shape (N, height, width) if the data have an image shape, else (N, D). The labels are the
        classes of the rows, (N,), in the smallest type that holds them, or targets, (N, C).

    Raises
    ------
    DataError
        If a block cannot be read, or has values that `dtype` cannot hold.
    FileError
        If a file cannot be written.
    SettingsError
        If the name does not end in ``.npy``, or a file of labels stands there and the data have none.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import fastnn
    >>> from fastnn.files.npy_file import convert
    >>> with TemporaryDirectory() as folder:
    ...     written = convert(fastnn.infinite_digits(n=100), f"{folder}/digits.npy")
    ...     data = fastnn.open_data(f"{folder}/digits.npy")
    ...     block = data.read(0)
    >>> written.shape, written.dtype, len(data), data.has_labels
    ((100, 28, 28), 'uint8', 100, True)
    """
    name, beside = display_path(path), labels_path(path)
    if not os.fspath(path).endswith(".npy"):
        raise SettingsError(f"the file to write is {name}, expected a name that ends in .npy")
    if not data.has_labels and os.path.exists(beside):
        raise SettingsError(f"{display_path(beside)}: stands beside, but the data have no labels; remove it first")
    check_writable(path)
    total, shape = len(data), data.image_shape or (data.n_inputs,)
    chosen = None if dtype is None else np.dtype(dtype)
    labels: list[np.ndarray] = []

    def write(file: IO[bytes]) -> None:
        nonlocal chosen
        done = 0
        for number in range(data.n_blocks):
            block = data.read(number)
            if chosen is None:
                chosen = _default_dtype(block.images, data.pixel_max)
            if not number:
                header = {"descr": npy.dtype_to_descr(chosen), "fortran_order": False, "shape": (total, *shape)}
                npy.write_array_header_1_0(file, header)
            file.write(_stored(block.images, chosen, block.name).data)
            if block.labels is not None:
                labels.append(block.labels)
            done += len(block)
            if notify is not None:
                notify(done, total)
        if data.has_labels:
            write_atomically(beside, lambda of_labels: npy.write_array(of_labels, _classes_of(data, labels)))

    write_atomically(path, write)
    assert chosen is not None
    return Converted((total, *shape), chosen.name, beside if data.has_labels else None)


def _default_dtype(images: Any, pixel_max: float) -> np.dtype:
    if is_sparse(images):
        return np.dtype(np.uint8 if pixel_max == LARGEST_BYTE else np.float32)
    return np.dtype(images.dtype)


def _stored(images: Any, dtype: np.dtype, name: str) -> np.ndarray:
    """Return rows in the dtype of the file; DataError for values that it cannot hold."""
    rows = images.toarray() if is_sparse(images) else images
    if dtype == np.uint8 and rows.dtype != np.uint8:
        wrong = (rows < 0) | (rows > LARGEST_BYTE) | (rows != np.floor(rows))
        if wrong.any():
            raise DataError(f"{name}: found {rows[wrong][0]}, expected whole numbers from 0 to 255 for uint8")
    return np.ascontiguousarray(rows, dtype)


def _classes_of(data: BlockedData, labels: list[np.ndarray]) -> np.ndarray:
    """Return the classes of all rows in the smallest type, or their targets."""
    numbers = np.concatenate(labels)
    if data.classes is None:
        return numbers
    classes = np.array(data.classes)
    if classes.dtype.kind in "iu":
        classes = classes.astype(np.result_type(np.min_scalar_type(classes.min()), np.min_scalar_type(classes.max())))
    result: np.ndarray = classes[numbers]
    return result
