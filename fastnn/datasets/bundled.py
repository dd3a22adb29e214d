"""Loads data sets that need no download: MNIST, which the package contains, and scikit-learn's 8x8 digits."""

from concurrent.futures import ThreadPoolExecutor
from hashlib import md5
from importlib.resources import files
from typing import IO

import numpy as np

from fastnn.datasets.dataset import Dataset
from fastnn.datasets.files import Content
from fastnn.errors import DataError, FileError

# MD5 of the uncompressed files, as published with the data set.
_DIGESTS = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
# The number of bytes to decompress and hash at a time.
_CHUNK = 2**18


def load_mnist() -> tuple[Dataset, Dataset]:
    """Load MNIST from the package: handwritten digits of 28 x 28 pixels, light on black.

    Returns
    -------
    train, test : Dataset
        60,000 and 10,000 samples.

        - images: (N, 784) uint8
        - labels: (N,) int64, from 0 to 9
        - pixel_max: 255
        - image_shape: (28, 28)

    Raises
    ------
    DataError
        If a file is damaged. The message gives its MD5 digest and the expected one.
    FileError
        If a file is missing from the installation.

    Examples
    --------
    >>> import fastnn
    >>> train, test = fastnn.load_mnist()
    >>> train.images.shape, test.images.shape
    ((60000, 784), (10000, 784))
    >>> train.labels[:5]
    array([5, 0, 4, 1, 9])
    """
    with ThreadPoolExecutor(1) as pool:
        test = pool.submit(_mnist_part, "t10k", 10_000, "MNIST test")
        return _mnist_part("train", 60_000, "MNIST train"), test.result()


def load_digits() -> Dataset:
    """Load the 8x8 digits of the UCI repository from scikit-learn: 1,797 samples, light on black.

    Returns
    -------
    Dataset
        - images: (1797, 64) uint8, from 0 to 16
        - labels: (1797,) int64, from 0 to 9
        - pixel_max: 16
        - image_shape: (8, 8)

    Examples
    --------
    >>> import fastnn
    >>> fastnn.load_digits()
    Dataset(8x8 digits: 1797 samples of 64 uint8 inputs, 10 classes, pixel_max 16, images 8 x 8)
    """
    from sklearn import datasets as sklearn_datasets

    pixels, labels = sklearn_datasets.load_digits(return_X_y=True)
    return Dataset(pixels.astype(np.uint8), labels.astype(np.int64), 16.0, (8, 8), "8x8 digits")


def _mnist_part(prefix: str, n_samples: int, name: str) -> Dataset:
    pixels = _read_verified(f"{prefix}-images-idx3-ubyte", 16 + n_samples * 784)
    labels = _read_verified(f"{prefix}-labels-idx1-ubyte", 8 + n_samples)
    # The digests cover every byte, so the headers (16 and 8 bytes) need no check.
    return Dataset(pixels[16:].reshape(n_samples, 784), labels[8:].astype(np.int64), 255.0, (28, 28), name)


def _read_verified(stem: str, size: int) -> np.ndarray:
    """Decompress a file of the package to `size` bytes, and check them against the published digest."""
    name = f"{stem}.gz in fastnn.datasets.mnist"
    try:
        compressed = _open(stem)
    except OSError:
        raise FileError(f"{name}: missing from the installation, expected the file; install fastnn again") from None
    data, digest = np.empty(size, np.uint8), md5(usedforsecurity=False)
    # Hashing takes nearly as long as decompressing. Both release the interpreter's lock, so they run in parallel.
    with Content(compressed, name) as content, ThreadPoolExecutor(1) as hasher:
        for chunk in np.split(data, range(_CHUNK, size, _CHUNK)):
            hasher.submit(digest.update, chunk[: content.read_into(chunk)])
        hasher.submit(digest.update, content.read(1))
    if digest.hexdigest() != _DIGESTS[stem]:
        raise DataError(f"{name}: found MD5 {digest.hexdigest()}, expected {_DIGESTS[stem]}; install fastnn again")
    return data


def _open(stem: str) -> IO[bytes]:
    return files("fastnn.datasets").joinpath("mnist", f"{stem}.gz").open("rb")
