"""Reads NPZ, NumPy's archive format. Nothing is unpickled, and sizes are checked before memory is allocated."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from math import prod
from typing import BinaryIO
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

import numpy as np
from numpy.lib import format as npy

from fastnn.checks import check_integer, display_path
from fastnn.datasets.dataset import Dataset
from fastnn.datasets.files import MAX_BYTES, FilePath, open_binary
from fastnn.datasets.pixels import as_labels, as_pixels, check_not_empty, matched, pixel_scale, square
from fastnn.errors import DataError

_KEY_SETS = (("x_train", "y_train", "x_test", "y_test"), ("X", "y"))
_EXPECTED_KEYS = "x_train, y_train, x_test and y_test, or X and y"
# NumPy writes headers of about 100 bytes, and reads at most 10,000.
_MAX_HEADER_SIZE = 10_000
# An archive above both limits, of size and of compression ratio, is a zip bomb. Real images compress 10 to 100 times,
# and small archives do no harm. Entries that overlap count once in the size of the file.
_BOMB_RATIO = 1000
_BOMB_SIZE = 64 * 2**20


def read_npz(path: FilePath, *, max_bytes: int = MAX_BYTES) -> tuple[Dataset, Dataset | None]:
    """Read a training set, and a test set if there is one, from an NPZ file.

    Parameters
    ----------
    path : path
        An archive with exactly the arrays x_train, y_train, x_test and y_test (as in Keras's mnist.npz), or X and y.

        - x_train, x_test, X: (N, D), (N, height, width) or (N, height, width, 1), integers from 0 to 255 or floats
        - y_train, y_test, y: (N,) or (N, 1), whole numbers
    max_bytes : int
        The largest accepted size of all arrays together, decompressed.

    Returns
    -------
    train : Dataset
    test : Dataset or None
        None if the archive contains X and y. Both sets have the same dtype, width, image shape and pixel_max.

        - images: (N, D), C-contiguous, uint8 for integers, float32 or float64 for floats
        - labels: (N,) int64

    Raises
    ------
    DataError
        If the archive is damaged, or contains other arrays or invalid values.
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
    check_integer("max_bytes", max_bytes, 1)
    with open_binary(path) as file:
        name = display_path(path)
        _check_start(file, name)
        with _errors_named(f"{name}: the archive", "an intact NPZ file"):
            arrays = _read_arrays(file, name, max_bytes)
    if "X" in arrays:
        return _dataset(arrays, "X", "y", name), None
    return matched(_dataset(arrays, "x_train", "y_train", name), _dataset(arrays, "x_test", "y_test", name))


@contextmanager
def _errors_named(where: str, expected: str) -> Iterator[None]:
    """Convert every error to a DataError that names the place and what was expected there.

    For a damaged archive, zipfile and NumPy raise many kinds of errors, such as zlib.error, IndexError and SyntaxError.
    """
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        reason = str(error).split("\n")[0][:120] or type(error).__name__
        raise DataError(f"{where}: cannot be read ({ascii(reason)[1:-1]}), expected {expected}") from None


def _check_start(file: BinaryIO, name: str) -> None:
    start = file.read(6)
    if not start:
        raise DataError(f"{name}: found an empty file (0 bytes), expected an NPZ file")
    if start == npy.MAGIC_PREFIX:
        raise DataError(f"{name}: found a single NPY array, expected an NPZ file with {_EXPECTED_KEYS}")
    if start[:2] != b"PK":
        raise DataError(f"{name}: found bytes {start.hex(' ')} at the start, expected an NPZ (zip) file")


def _read_arrays(file: BinaryIO, name: str, max_bytes: int) -> dict[str, np.ndarray]:
    stored = file.seek(0, 2)
    with ZipFile(file) as archive:
        members = archive.infolist()
        _check_keys(members, name)
        unpacked = sum(member.file_size for member in members)
        for limit, expected in (
            (max_bytes, f"max_bytes = {max_bytes}"),
            (max(_BOMB_SIZE, _BOMB_RATIO * stored), f"{_BOMB_RATIO} times as many as the {stored} bytes of the file"),
        ):
            if unpacked > limit:
                raise DataError(f"{name}: declares {unpacked} bytes after decompression, expected at most {expected}")
        return {member.filename.removesuffix(".npy"): _read_member(archive, member, name) for member in members}


def _check_keys(members: Sequence[ZipInfo], name: str) -> None:
    # Use orig_filename: ZipInfo.filename ends at the first NUL character and hides the rest of the name.
    names = [member.orig_filename for member in members]
    for member_name in names:
        if names.count(member_name) > 1:
            raise DataError(f"{name}: found {member_name!a} {names.count(member_name)} times, expected it once")
    expected = [sorted(f"{key}.npy" for key in keys) for keys in _KEY_SETS]
    if sorted(names) not in expected:
        found = ", ".join(ascii(member_name[:60].removesuffix(".npy")) for member_name in names[:8]) or "no arrays"
        more = f" and {len(names) - 8} more" if len(names) > 8 else ""
        raise DataError(f"{name}: found {found}{more}, expected {_EXPECTED_KEYS}")


def _read_member(archive: ZipFile, member: ZipInfo, name: str) -> np.ndarray:
    where = f"{name}: {member.filename}"
    if member.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        raise DataError(f"{where}: found compression method {member.compress_type}, expected 0 (none) or 8 (deflate)")
    with _errors_named(where, "an intact NPY array"), archive.open(member) as file:
        start = BytesIO(file.read(_MAX_HEADER_SIZE))
        is_first = npy.read_magic(start) == (1, 0)
        shape, _, dtype = (npy.read_array_header_1_0 if is_first else npy.read_array_header_2_0)(start)
        if dtype.hasobject:
            raise DataError(f"{where}: found an array of Python objects, expected numbers; objects are never loaded")
        if dtype.kind not in "iuf" or dtype.itemsize > 8:
            raise DataError(f"{where}: found numbers of type {dtype.str!r}, expected integers or floats")
        # Python integers: the product of the sizes can exceed 64 bits.
        declared, found = prod(shape) * dtype.itemsize, member.file_size - start.tell()
        if declared != found:
            raise DataError(
                f"{where}: declares shape {shape} of {dtype.name}, expected {declared} bytes of data, found {found}"
            )
        file.seek(0)
        # The CRC of the member is checked when its last byte is read.
        return npy.read_array(file, allow_pickle=False)


def _dataset(arrays: dict[str, np.ndarray], pixels_key: str, labels_key: str, name: str) -> Dataset:
    pixels, labels = arrays[pixels_key], arrays[labels_key]
    where = f"{name}: {pixels_key}"
    shape = pixels.shape
    if not (pixels.ndim in (2, 3) or (pixels.ndim == 4 and shape[3] == 1)):
        raise DataError(f"{where}: found shape {shape}, expected (N, D), (N, height, width) or (N, height, width, 1)")
    check_not_empty(shape, where)
    rows = as_pixels(pixels.reshape(len(pixels), prod(shape[1:])), where)
    image_shape = square(rows.shape[1]) if pixels.ndim == 2 else (shape[1], shape[2])
    classes = _labels(labels, len(rows), f"{name}: {labels_key}", pixels_key)
    return Dataset(rows, classes, pixel_scale(rows), image_shape, where)


def _labels(labels: np.ndarray, n_samples: int, where: str, pixels_key: str) -> np.ndarray:
    if labels.ndim == 2 and labels.shape[1] > 1:
        found = f"shape {labels.shape}, perhaps one-hot"
        raise DataError(f"{where}: found {found}, expected (N,); save y.argmax(axis=1) instead")
    if labels.ndim not in (1, 2):
        raise DataError(f"{where}: found shape {labels.shape}, expected (N,) or (N, 1)")
    if len(labels) != n_samples or labels.size != n_samples:
        expected = f"{n_samples}, one for each sample in {pixels_key}"
        raise DataError(f"{where}: found {labels.size} labels, expected {expected}")
    return as_labels(labels.reshape(-1), where)
