"""`Dataset`, which every reader returns: pixels, labels, the scale of the pixels and the shape of an image."""

from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

import numpy as np

from fastnn.datasets.sparse import canonical, is_sparse
from fastnn.errors import DataError


@dataclass(frozen=True, eq=False)
class Dataset:
    """N labelled or unlabelled samples of D inputs each.

    Attributes
    ----------
    images : ndarray of shape (N, D), or SciPy CSR matrix
        One sample per row, C-contiguous. The readers return uint8 for whole numbers from 0 to 255, otherwise float32
        or float64. Networks also accept a SciPy matrix in compressed sparse rows (CSR); functions that draw images
        need an array.
    labels : ndarray of shape (N,) int64, or (N, C) float, or None
        The class of each sample, 0 or more. Networks with several logistic outputs or with "identity" outputs need
        targets of shape (N, C) instead. None if there are no labels.
    pixel_max : float
        The largest value a pixel can have: 255 for MNIST, 16 for the 8x8 digits, 1 for data that is already scaled.
        Networks multiply their inputs by ``1 / pixel_max``.
    image_shape : (int, int), or None
        Height and width of the image in each row (row-major), or None if the rows are not images.
    name : str
        The source of the data, for messages and reports.

    Raises
    ------
    DataError
        If the shapes do not match, or `pixel_max` is not a positive finite number.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnn
    >>> data = fastnn.Dataset(np.zeros((3, 4), np.uint8), np.array([0, 1, 1]), pixel_max=255, image_shape=(2, 2))
    >>> data
    Dataset(data: 3 samples of 4 uint8 inputs, 2 classes, pixel_max 255, images 2 x 2)
    >>> len(data.take([0, 2]))
    2
    """

    images: np.ndarray
    labels: np.ndarray | None = None
    pixel_max: float = 1.0
    image_shape: tuple[int, int] | None = None
    name: str = field(default="data")

    def __post_init__(self) -> None:
        if self.images.ndim != 2:
            raise DataError(f"{self.name}: images have shape {self.images.shape}, expected (samples, inputs)")
        if self.labels is not None and (self.labels.shape[:1] != (len(self),) or self.labels.ndim > 2):
            raise DataError(
                f"{self.name}: {len(self)} images but labels of shape {self.labels.shape}, "
                f"expected ({len(self)},) or ({len(self)}, C)"
            )
        if self.image_shape is not None and self.image_shape[0] * self.image_shape[1] != self.images.shape[1]:
            raise DataError(
                f"{self.name}: images have {self.images.shape[1]} pixels, expected "
                f"{self.image_shape[0]} x {self.image_shape[1]} as in image_shape"
            )
        if not (np.isfinite(self.pixel_max) and self.pixel_max > 0):
            raise DataError(f"{self.name}: pixel_max is {self.pixel_max}, expected a positive number")

    def __len__(self) -> int:
        return int(self.images.shape[0])

    def __repr__(self) -> str:
        lists = " as sparse rows" if is_sparse(self.images) else ""
        shape = "" if self.image_shape is None else f", images {self.image_shape[0]} x {self.image_shape[1]}"
        labels = "no labels" if self.labels is None else f"{self.n_classes} classes"
        return (
            f"Dataset({self.name}: {len(self)} samples of {self.images.shape[1]} {self.images.dtype} inputs{lists}, "
            f"{labels}, pixel_max {self.pixel_max:g}{shape})"
        )

    @property
    def n_classes(self) -> int:
        """The largest label plus 1, or C if the labels have shape (N, C), or 0 without labels."""
        if self.labels is None or not len(self.labels):
            return 0
        return int(self.labels.max()) + 1 if self.labels.ndim == 1 else self.labels.shape[1]

    def take(self, rows: Any, name: str | None = None) -> "Dataset":
        """Return a new data set with some of the samples.

        Parameters
        ----------
        rows : slice, or array-like of int or bool
            The samples to select, as a NumPy index. A slice returns views; an array returns copies.
        name : str, optional
            The name of the new data set. By default, the name of this data set.

        Returns
        -------
        Dataset
        """
        return replace(
            self,
            images=self.images[rows],
            labels=None if self.labels is None else self.labels[rows],
            name=self.name if name is None else name,
        )

    def digest(self) -> str:
        """Return the SHA-256 digest of shape, dtype, pixel_max, pixels and labels, in hex.

        Equal data give equal digests on every machine. Sparse images are hashed in their CSR form, so their digest
        differs from that of the same images as a dense array.
        """
        digest = sha256(f"{self.images.shape} {self.images.dtype.newbyteorder('<').str} {self.pixel_max}".encode())
        parts: list[Any] = [self.images]
        if is_sparse(self.images):
            rows = canonical(self.images)
            parts = [rows.indptr.astype("<i8"), rows.indices.astype("<i8"), rows.data]
        for part in parts:
            digest.update(np.ascontiguousarray(part, part.dtype.newbyteorder("<")).data)
        if self.labels is not None:
            digest.update(np.ascontiguousarray(self.labels, "<f8" if self.labels.dtype.kind == "f" else "<i8").data)
        return digest.hexdigest()
