"""Reads NPZ, NumPy's archive format, without NumPy's loader. Nothing is unpickled, and sizes are checked first."""

import re
import struct
import zlib
from collections.abc import Sequence
from math import prod
from typing import IO, BinaryIO, NamedTuple
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np

from fastnn.checks import display_path
from fastnn.datasets.dataset import Dataset
from fastnn.datasets.files import MAX_BYTES, FilePath, checked_max_bytes, open_binary
from fastnn.datasets.pixels import as_labels, as_pixels, check_not_empty, matched, pixel_scale, square
from fastnn.errors import DataError

_KEY_SETS = (("x_train", "y_train", "x_test", "y_test"), ("X", "y"))
_EXPECTED_KEYS = "x_train, y_train, x_test and y_test, or X and y"
_MAGIC = b"\x93NUMPY"
# NumPy writes headers of about 100 bytes, and its own reader also accepts at most 10,000.
_MAX_HEADER_SIZE = 10_000
# A member above both limits, of size and of compression ratio, is a zip bomb. Real images compress 10 to 100 times, and
# small members do no harm.
_BOMB_RATIO = 1000
_BOMB_SIZE = 64 * 2**20
_LOCAL_HEADER_SIZE = 30
_CHUNK = 2**18
_ENCRYPTED = 0x1
# The exceptions that ZipFile is known to raise on a damaged archive, often only when a member is read.
_DAMAGE = (
    BadZipFile,
    EOFError,
    IndexError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
    struct.error,
    zlib.error,
)


class _Header(NamedTuple):
    """The dtype, memory order and shape that the header of an NPY member declares."""

    dtype: np.dtype
    fortran_order: bool
    shape: tuple[int, ...]


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
    checked_max_bytes(max_bytes)
    with open_binary(path) as file:
        name = display_path(path)
        _check_start(file, name)
        try:
            arrays = _read_arrays(file, name, max_bytes)
        except DataError:
            raise
        except _DAMAGE as error:
            reason = ascii(str(error))[1:-1] or type(error).__name__
            raise DataError(f"{name}: the archive is damaged ({reason}), expected an intact NPZ file") from None
    if "X" in arrays:
        return _dataset(arrays, "X", "y", name), None
    return matched(_dataset(arrays, "x_train", "y_train", name), _dataset(arrays, "x_test", "y_test", name))


def _check_start(file: BinaryIO, name: str) -> None:
    start = file.read(6)
    if not start:
        raise DataError(f"{name}: found an empty file (0 bytes), expected an NPZ file")
    if start == _MAGIC:
        raise DataError(f"{name}: found a single NPY array, expected an NPZ file with {_EXPECTED_KEYS}")
    if start[:2] != b"PK":
        raise DataError(f"{name}: found bytes {start.hex(' ')} at the start, expected an NPZ (zip) file")


def _read_arrays(file: BinaryIO, name: str, max_bytes: int) -> dict[str, np.ndarray]:
    with ZipFile(file) as archive:
        members = archive.infolist()
        _check_keys(members, name)
        _check_entries(members, file, archive.start_dir, name)
        unpacked = sum(member.file_size for member in members)
        if unpacked > max_bytes:
            raise DataError(
                f"{name}: declares {unpacked} bytes after decompression, expected at most max_bytes = {max_bytes}"
            )
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


def _check_entries(members: Sequence[ZipInfo], file: BinaryIO, directory_start: int, name: str) -> None:
    """Raise DataError if entries overlap. Some Python versions accept such archives, which can decompress to any size.

    `directory_start` is the offset of the central directory, where the last entry must end.
    """
    ordered = sorted(members, key=lambda member: member.header_offset)
    limits = [member.header_offset for member in ordered[1:]] + [directory_start]
    for member, limit in zip(ordered, limits, strict=True):
        file.seek(member.header_offset)
        local = file.read(_LOCAL_HEADER_SIZE)
        if len(local) < _LOCAL_HEADER_SIZE or local[:4] != b"PK\3\4":
            raise DataError(f"{name}: {member.filename}: found no entry at offset {member.header_offset}, expected one")
        name_size, extra_size = struct.unpack_from("<HH", local, 26)
        end = member.header_offset + _LOCAL_HEADER_SIZE + name_size + extra_size + member.compress_size
        if end > limit:
            raise DataError(
                f"{name}: {member.filename}: ends at offset {end} and overlaps the next entry, expected at most {limit}"
            )


def _read_member(archive: ZipFile, member: ZipInfo, name: str) -> np.ndarray:
    where = f"{name}: {member.filename}"
    if member.flag_bits & _ENCRYPTED:
        raise DataError(f"{where}: found an encrypted entry, expected a plain one")
    if member.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        raise DataError(f"{where}: found compression method {member.compress_type}, expected 0 (none) or 8 (deflate)")
    if member.file_size > max(_BOMB_SIZE, _BOMB_RATIO * member.compress_size):
        raise DataError(
            f"{where}: {member.compress_size} bytes declare {member.file_size} after decompression, "
            f"expected at most {_BOMB_RATIO} times as many"
        )
    with archive.open(member) as file:
        header, header_size = _read_header(file, where)
        # Python integers: the product of the sizes can exceed 64 bits.
        declared = prod(header.shape) * header.dtype.itemsize
        found = member.file_size - header_size
        if declared == found:
            values = np.empty(prod(header.shape), header.dtype)
            found = _read_into(values, file)
            found += len(file.read(1))  # reading to the end of the member checks its CRC
    if declared != found:
        raise DataError(
            f"{where}: declares shape {header.shape} of {header.dtype.name}, expected {declared} bytes of data, "
            f"found {found}"
        )
    return values.reshape(header.shape[::-1]).T if header.fortran_order else values.reshape(header.shape)


def _read_into(values: np.ndarray, file: IO[bytes]) -> int:
    """Fill the one-dimensional `values` in chunks, to save memory; return the number of bytes read."""
    target, at = values.view(np.uint8), 0
    while at < len(target) and (chunk := file.read(min(_CHUNK, len(target) - at))):
        target[at : at + len(chunk)] = np.frombuffer(chunk, np.uint8)
        at += len(chunk)
    return at


def _read_header(file: IO[bytes], where: str) -> tuple[_Header, int]:
    """Return the header of an NPY member and its size. Regular expressions parse it, so nothing is evaluated."""
    start = file.read(8)
    if start[:6] != _MAGIC or start[6:] not in (b"\1\0", b"\2\0"):
        raise DataError(f"{where}: found bytes {start.hex(' ')}, expected the start of an NPY array of version 1 or 2")
    width = 2 if start[6] == 1 else 4
    length = int.from_bytes(file.read(width), "little")
    if length > _MAX_HEADER_SIZE:
        raise DataError(f"{where}: found an NPY header of {length} bytes, expected at most {_MAX_HEADER_SIZE}")
    header = file.read(length)
    if len(header) < length:
        raise DataError(f"{where}: expected an NPY header of {length} bytes, found {len(header)}")
    text = header.decode("latin-1")
    descr = re.search(r"""['"]descr['"] *: *(?:'([^']*)'|"([^"]*)")""", text)
    order = re.search(r"""['"]fortran_order['"] *: *(True|False)""", text)
    shape = re.search(r"""['"]shape['"] *: *\(([0-9, ]*)\)""", text)
    if not (descr and order and shape):
        raise DataError(
            f"{where}: found the NPY header {text.strip()[:80]!a}, expected descr (one number type), "
            "fortran_order and shape"
        )
    number_type = descr[1] or descr[2] or ""
    if "O" in number_type:
        raise DataError(f"{where}: found an array of Python objects, expected numbers; objects are never loaded")
    if not re.fullmatch("[<>=|]?(?:[iu][1248]|f[248])", number_type):
        raise DataError(f"{where}: found numbers of type {number_type[:40]!a}, expected integers or floats")
    sizes = [size.strip() for size in shape[1].split(",") if size.strip()]
    if len(sizes) > 8 or not all(re.fullmatch("[0-9]{1,19}", size) for size in sizes):
        raise DataError(f"{where}: found the shape ({ascii(shape[1][:80])[1:-1]}), expected whole numbers")
    return _Header(np.dtype(number_type), order[1] == "True", tuple(map(int, sizes))), 8 + width + length


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
        raise DataError(
            f"{where}: found shape {labels.shape}, perhaps one-hot, expected (N,); save y.argmax(axis=1) instead"
        )
    if labels.ndim not in (1, 2):
        raise DataError(f"{where}: found shape {labels.shape}, expected (N,) or (N, 1)")
    if len(labels) != n_samples or labels.size != n_samples:
        raise DataError(
            f"{where}: found {labels.size} labels, expected {n_samples}, one for each sample in {pixels_key}"
        )
    return as_labels(labels.reshape(-1), where)
