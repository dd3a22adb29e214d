"""`infinite_digits`: deformed digits as a function of a seed and an index, so data larger than memory need no file."""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from fastnn.backends import get_backend
from fastnn.checks import check_integer
from fastnn.datasets.bundled import load_mnist
from fastnn.datasets.dataset import Dataset
from fastnn.optim.augmentation import Augment, get_augment
from fastnn.randomness import MAX_SEED, generator
from fastnn.streams.blocked import BlockedData, BlockOptions
from fastnn.streams.blocks import Blocks, Part
from fastnn.streams.reader import Layout

# The number of rows of the largest published set of deformed digits, MNIST8M (Loosli, Canu and Bottou 2007).
_N_ROWS = 8_100_000
_BLOCK_ROWS = 65_536
_DEFORMATION = Augment(shift=1, rotate=10, scale=0.1, shear=5, alpha=20, sigma=4)


def infinite_digits(
    seed: int = 0,
    n: int = _N_ROWS,
    *,
    augment: "str | Augment | None" = None,
    block_rows: int = _BLOCK_ROWS,
    threads: int | None = None,
    backend: str = "auto",
) -> BlockedData:
    """Return `n` deformed images of MNIST's training set, each made when its block is read.

    Image i is the training image ``i % 60000``, moved, turned, scaled, sheared and distorted elastically at random.
    The draws depend on `seed` and i only: equal indices give equal images in blocks of any size, with any number of
    threads, and with both backends. The idea is that of the infinite MNIST of Loosli, Canu and Bottou 2007, "Training
    invariant support vector machines using selective sampling"; the images are others.

    Parameters
    ----------
    seed : int
    n : int
        The number of images. The default is 6.35 GB of pixels.
    augment : Augment or str, optional
        The deformation. By default, that of ``Augment(shift=1, rotate=10, scale=0.1, shear=5, alpha=20, sigma=4)``.
    block_rows : int
        The number of images of a block.
    threads : int, optional
        The number of threads that make a block. None: as `train`.
    backend : {"auto", "numba", "numpy"}
        What makes the images.

    Returns
    -------
    BlockedData
        Rows of 784 uint8 pixels, with labels from 0 to 9.

    Raises
    ------
    SettingsError
        If an argument is out of range.

    Examples
    --------
    >>> import fastnn
    >>> data = fastnn.infinite_digits(n=1_000_000)
    >>> data
    BlockedData(infinite digits: 1000000 samples in 16 blocks, 784 uint8 inputs, pixel_max 255)
    >>> small = fastnn.infinite_digits(n=1000, block_rows=100)
    >>> bool((small.read(9).images == fastnn.infinite_digits(n=1000).read(0).images[900:]).all())
    True
    """
    check_integer("seed", seed, 0, MAX_SEED)
    check_integer("n", n, 1)
    check_integer("block_rows", block_rows, 1)
    chosen = _DEFORMATION if augment is None else get_augment(augment)
    assert chosen is not None
    if threads is not None:
        check_integer("threads", threads, 1)
    get_backend(backend)
    blocks = _DigitBlocks(seed, n, chosen, block_rows, threads, backend)
    return BlockedData(blocks, "infinite digits", BlockOptions(classes=range(10)))


class _DigitBlocks(Blocks):
    """Blocks of deformed digits."""

    lengths: tuple[int, ...]
    layout = Layout(784, np.dtype(np.uint8), 255.0, (28, 28))
    has_labels = True

    def __init__(self, seed: int, n: int, augment: Augment, block_rows: int, threads: int | None, backend: str) -> None:
        self._key = generator(seed, "digits").integers(2**64, dtype=np.uint64)
        self._augment, self._block_rows, self._threads, self._backend = augment, block_rows, threads, backend
        n_blocks = -(-n // block_rows)
        self.lengths = (*[block_rows] * (n_blocks - 1), n - block_rows * (n_blocks - 1))

    def sample(self) -> Iterator[Part]:
        """Yield the first block."""
        yield from self.read(0)

    def read(self, block: int, out: np.ndarray | None = None) -> list[Part]:
        """Make the images of a block."""
        train = _mnist()
        counters = block * self._block_rows + np.arange(self.lengths[block])
        rows = counters % len(train)
        distortion = self._augment.draw((28, 28), self._key, counters, (0.0, 255.0))
        images = get_backend(self._backend).distort(train.images, rows, distortion, self._threads)
        assert train.labels is not None
        return [Part(f"infinite digits: block {block}", 0, len(rows), images, train.labels[rows])]

    def labels(self) -> Iterator[tuple[int, Part]]:
        """Yield the labels of all blocks."""
        train = _mnist()
        assert train.labels is not None
        for block, length in enumerate(self.lengths):
            rows = (block * self._block_rows + np.arange(length)) % len(train)
            yield block, Part(f"infinite digits: block {block}", 0, length, None, train.labels[rows])

    def fingerprint(self) -> bytes:
        """Return the key and the deformation, which determine all images."""
        return f"infinite digits {self._key} {self._augment!r}".encode()


@lru_cache(1)
def _mnist() -> Dataset:
    """Return MNIST's training set. A process keeps it: blocks that are sent to others do not hold it."""
    return load_mnist()[0]
