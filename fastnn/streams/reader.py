"""What a format gives to `BlockedData`: rows of one file that are read in ranges, with their labels."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fastnn.errors import DataError


class Layout(NamedTuple):
    """What a reader knows of the images of all rows: their width, the dtype they become, scale and shape.

    `stored` is the dtype that all blocks of the source must have; None: it may differ, as that of texts.
    """

    n_inputs: int
    dtype: np.dtype
    pixel_max: float
    image_shape: tuple[int, int] | None
    stored: np.dtype | None = None


class Reader(ABC):
    """N rows of one source, in the types of the source.

    A reader keeps a description, such as a path and a header, and no open file: it is pickled, and read by several
    threads at once.

    Attributes
    ----------
    name : str
        The source, for messages.
    n_rows : int
        N.
    has_labels : bool
    feature_names : tuple of str, or None
    notes : tuple of str
        What the reader decided for the user.
    layout : Layout or None
        None: the first rows tell.
    is_sequential : bool
        Whether a read starts from the first row, unless it goes on where the last one ended.
    """

    name: str
    n_rows: int
    has_labels: bool = False
    feature_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    layout: Layout | None = None
    is_sequential: bool = False

    @abstractmethod
    def read(self, start: int, stop: int) -> tuple[Any, Any]:
        """Return images (stop - start, ...) of any layout, or a CSR matrix, and labels or None. Raises DataError."""

    def read_labels(self, start: int, stop: int) -> Any:
        """Return the labels alone."""
        return self.read(start, stop)[1]

    def fill(self, start: int, out: np.ndarray) -> bool:
        """Read rows of images from `start` on into `out`, (n, D), C-contiguous; return False if that needs a copy."""
        return False

    def cuts(self, block_rows: int) -> Sequence[int] | None:
        """Return rows, from 0 to N, at which a read can begin and end without decoding others; None: any row.

        They should be as far apart as possible, but not more than `block_rows`.
        """
        return None

    @abstractmethod
    def fingerprint(self) -> bytes:
        """Return bytes that differ for other data, without reading all of them, and are equal on every machine."""


class LabelledReader(Reader):
    """The rows of one reader with the labels of another source.

    Parameters
    ----------
    images, labels : Reader
        What `labels` returns as images (N,), (N, 1) or (N, C) are the labels.
    """

    def __init__(self, images: Reader, labels: Reader) -> None:
        if images.n_rows != labels.n_rows:
            expected = f"{images.n_rows}, one for each row of {images.name}"
            raise DataError(f"{labels.name}: found {labels.n_rows} labels, expected {expected}")
        self._images, self._labels = images, labels
        self.name, self.n_rows, self.has_labels = images.name, images.n_rows, True
        self.feature_names, self.notes, self.layout = images.feature_names, images.notes, images.layout
        self.is_sequential = images.is_sequential

    def read(self, start: int, stop: int) -> tuple[Any, Any]:
        """Return the images of the one and the labels of the other source."""
        return self._images.read(start, stop)[0], self.read_labels(start, stop)

    def read_labels(self, start: int, stop: int) -> Any:
        """Return the rows of the source of the labels."""
        return self._labels.read(start, stop)[0]

    def fill(self, start: int, out: np.ndarray) -> bool:
        """Read the images as their source does."""
        return self._images.fill(start, out)

    def cuts(self, block_rows: int) -> Sequence[int] | None:
        """Return the cuts of the images."""
        return self._images.cuts(block_rows)

    def fingerprint(self) -> bytes:
        """Return both fingerprints."""
        return self._images.fingerprint() + self._labels.fingerprint()


class ArrayReader(Reader):
    """The rows of an array in memory, such as labels that the caller has.

    Parameters
    ----------
    values : ndarray of shape (N, ...)
    name : str
    """

    def __init__(self, values: np.ndarray, name: str) -> None:
        self._values, self.name, self.n_rows = values, name, len(values)

    def read(self, start: int, stop: int) -> tuple[Any, Any]:
        """Return a view of the rows."""
        return self._values[start:stop], None

    def fingerprint(self) -> bytes:
        """Return shape, dtype and bytes."""
        values = self._values
        if values.dtype == object:
            return repr(values.tolist()).encode()
        values = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
        return f"{values.shape} {values.dtype.str}".encode() + values.tobytes()
