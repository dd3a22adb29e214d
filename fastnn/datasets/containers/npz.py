"""Reads NPZ, NumPy's archive format. Nothing is unpickled, and sizes are checked before memory is allocated."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, BinaryIO
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

import numpy as np
from numpy.lib import format as npy

from fastnn.checks import check_integer
from fastnn.datasets.containers.archive import shown_member
from fastnn.datasets.containers.bundle import parts_of_arrays, train_and_test
from fastnn.datasets.containers.npy import read_array
from fastnn.datasets.dataset import Dataset
from fastnn.datasets.files import (
    MAX_BYTES,
    Allowance,
    FilePath,
    Source,
    allowance_of,
    check_unpacked,
    errors_named,
    open_source,
    source_name,
)
from fastnn.datasets.options import ReadOptions
from fastnn.datasets.pixels import check_sparse_shape
from fastnn.errors import DataError

_EXPECTED = "an NPZ file with arrays such as X and y, or x_train, y_train, x_test and y_test"
# The arrays that SciPy writes for a sparse matrix in compressed rows or columns.
_SPARSE_KEYS = {"format", "shape", "data", "indices", "indptr"}


def read_npz(path: FilePath, *, max_bytes: int = MAX_BYTES) -> tuple[Dataset, Dataset | None]:
    """Read a training set, and a test set if there is one, from an NPZ file.

    The names of the arrays tell images from labels and training from test: ``x_train``, ``X_train``, ``trainX``,
    ``train_images``, ``images``, ``X``, ``data``; ``y_test``, ``test_labels``, ``labels``, ``y``, ``target`` and alike.
    If names tell nothing, as ``arr_0`` and ``arr_1``, shapes decide.

    Parameters
    ----------
    path : path
        An archive with arrays of images and labels.

        - images: (N, D), (N, height, width), or (N, height, width, channels) and (N, channels, height, width) of 1, 3
          or 4 channels; numbers or booleans. Colours become grey. A sparse matrix of `scipy.sparse.save_npz` is taken,
          too.
        - labels: (N,) or (N, 1), numbers, booleans or texts; or one-hot rows (N, C)

        Arrays of ``class_names`` and ``feature_names`` are taken, if they fit. Other arrays are not used; a note of the
        data set names them.
    max_bytes : int
        The largest accepted size of all arrays together, decompressed.

    Returns
    -------
    train : Dataset
    test : Dataset or None
        The validation set of the archive takes the place of a missing test set. Both sets have the same dtype, width,
        image shape and pixel_max.

        - images: (N, D), C-contiguous, uint8 for integers from 0 to 255 and booleans, otherwise float32 or float64
        - labels: (N,) int64; (N, 1) float for numbers to predict; or None

    Raises
    ------
    DataError
        If the archive is damaged, has no images, or contains invalid values.
    FileError
        If the file cannot be opened.
    SettingsError
        If `max_bytes` is not a positive whole number.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np
    >>> import fastnn
    >>> with TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/digits.npz", X=np.zeros((5, 8, 8), np.uint8), y=np.arange(5))
    ...     data, test = fastnn.read_npz(f"{folder}/digits.npz")
    >>> data.images.shape, data.labels, test
    ((5, 64), array([0, 1, 2, 3, 4]), None)
    """
    arrays = read_arrays(path, max_bytes=max_bytes)
    return train_and_test(parts_of_arrays(arrays, source_name(path), ReadOptions()))


def read_arrays(source: Source, *, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """Return the arrays of an NPZ file by key, in the order of the file.

    A sparse matrix that SciPy saved becomes one CSR matrix under the key "data". A DataError stands for an array of
    Python objects. Raises DataError for a damaged archive.
    """
    check_integer("max_bytes", max_bytes, 1)
    name, allowance = source_name(source), allowance_of(source)
    with open_source(source) as file:
        _check_start(file, name)
        with errors_named(f"{name}: the archive", "an intact NPZ file"):
            arrays = _read_members(file, name, max_bytes, allowance)
    return _with_sparse_matrix(arrays, name)


def _check_start(file: BinaryIO, name: str) -> None:
    start = file.read(6)
    if not start:
        raise DataError(f"{name}: found an empty file (0 bytes), expected an NPZ file")
    if start == npy.MAGIC_PREFIX:
        raise DataError(f"{name}: found a single NPY array, expected {_EXPECTED}")
    if start[:2] != b"PK":
        raise DataError(f"{name}: found bytes {start.hex(' ')} at the start, expected an NPZ (zip) file")


def _read_members(file: BinaryIO, name: str, max_bytes: int, allowance: Allowance) -> dict[str, Any]:
    with ZipFile(file) as archive:
        members = archive.infolist()
        check_names(members, name)
        check_unpacked(sum(member.file_size for member in members), allowance, max_bytes, name)
        return {member.filename.removesuffix(".npy"): _read_member(archive, member, name) for member in members}


def check_names(members: Sequence[ZipInfo], name: str) -> None:
    """Raise DataError for an archive that has other members than NPY files, or none, or one twice."""
    # Use orig_filename: ZipInfo.filename ends at the first NUL character and hides the rest of the name.
    names = Counter(member.orig_filename for member in members)
    for member_name, count in names.items():
        if count > 1:
            raise DataError(f"{name}: found {member_name[:60]!a} {count} times, expected it once")
        if not member_name.endswith(".npy") or "\0" in member_name:
            raise DataError(f"{name}: found {member_name[:60]!a}, expected {_EXPECTED}")
    if not names:
        raise DataError(f"{name}: found no arrays, expected {_EXPECTED}")


def _read_member(archive: ZipFile, member: ZipInfo, name: str) -> np.ndarray | DataError:
    where = f"{name}: {shown_member(member.filename)}"
    check_method(member, where)
    # The CRC of the member is checked when its last byte is read.
    with errors_named(where, "an intact NPY array"), archive.open(member) as file:
        try:
            return read_array(file, member.file_size, where)
        except DataError as error:
            if "Python objects" in str(error):
                return error
            raise


def check_method(member: ZipInfo, where: str) -> None:
    """Raise DataError if a member is compressed by another method than those of NumPy."""
    if member.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        raise DataError(f"{where}: found compression method {member.compress_type}, expected 0 (none) or 8 (deflate)")


def _with_sparse_matrix(arrays: dict[str, Any], name: str) -> dict[str, Any]:
    """Replace the arrays of a sparse matrix by the matrix, in compressed sparse rows."""
    if not arrays.keys() >= _SPARSE_KEYS:
        return arrays
    from scipy import sparse

    kinds = {"csr": sparse.csr_matrix, "csc": sparse.csc_matrix}
    text = arrays["format"].item() if arrays["format"].size == 1 else None
    text = text.decode("ascii", "replace") if isinstance(text, bytes) else text
    if text not in kinds:
        raise DataError(f"{name}: found a sparse matrix of format {text!r}, expected 'csr': save matrix.tocsr()")
    with errors_named(name, "an intact sparse matrix"):
        shape = tuple(int(side) for side in arrays["shape"])
        check_sparse_shape(shape)
        matrix = kinds[text](tuple(arrays[key] for key in ("data", "indices", "indptr")), shape=shape)
        matrix.check_format(full_check=True)
        rest = {key: values for key, values in arrays.items() if key not in {*_SPARSE_KEYS, "_is_array"}}
        return {"data": matrix.tocsr(), **rest}
