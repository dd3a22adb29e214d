"""What every reader returns: pixels, labels, the scale of the pixels and the shape of an image."""

from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

import numpy as np

from fastnn.datasets.sparse import canonical, is_sparse
from fastnn.errors import DataError


@dataclass(frozen=True, eq=False)
class Dataset:
    """N samples, one row each.

    Attributes
    ----------
    images : ndarray of shape (N, D)
        One sample a row, C-contiguous; uint8 where the file holds whole numbers from 0 to 255, else float32 or float64.
        Or a SciPy matrix in compressed sparse rows (CSR), for networks alone: what draws images needs an array.
    labels : ndarray of int64 and shape (N,), or None
        The class of each sample, 0 or more; None where the file has no labels. For networks that answer C questions or
        with C numbers, floats of shape (N, C).
    pixel_max : float
        The value of a full pixel (255 for MNIST, 16 for the 8x8 digits, 1 for data that is scaled already): networks
        multiply their inputs by ``1 / pixel_max``.
    image_shape : tuple of int, or None
        (height, width) of the image a row holds, row by row; None where a row is no image.
    name : str
        Where the data came from, for messages and reports.
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
                f"{self.name}: {len(self)} images but labels of shape {self.labels.shape}, expected ({len(self)},)"
            )
        if self.image_shape is not None and self.image_shape[0] * self.image_shape[1] != self.images.shape[1]:
            raise DataError(
                f"{self.name}: rows of {self.images.shape[1]} pixels are no images of "
                f"{self.image_shape[0]} x {self.image_shape[1]}"
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
        """One more than the largest label, or the C of labels of shape (N, C); 0 without labels."""
        if self.labels is None or not len(self.labels):
            return 0
        return int(self.labels.max()) + 1 if self.labels.ndim == 1 else self.labels.shape[1]

    def take(self, rows: Any, name: str | None = None) -> "Dataset":
        """The samples at `rows` (a slice or an index array), as a data set of their own."""
        return replace(
            self,
            images=self.images[rows],
            labels=None if self.labels is None else self.labels[rows],
            name=self.name if name is None else name,
        )

    def digest(self) -> str:
        """SHA-256, in hex, of shape, dtype, pixels and labels: the same data give the same digest on any machine.

        Of sparse images it is their lists' digest, another than that of the equal dense images.
        """
        digest = sha256(f"{self.images.shape} {self.images.dtype.newbyteorder('<').str} {self.pixel_max}".encode())
        images: Any = canonical(self.images) if is_sparse(self.images) else self.images
        lists = (images.indptr.astype("<i8"), images.indices.astype("<i8"), images.data) if is_sparse(images) else ()
        for part in lists or (images,):
            digest.update(np.ascontiguousarray(part, part.dtype.newbyteorder("<")).data)
        if self.labels is not None:
            digest.update(np.ascontiguousarray(self.labels, "<f8" if self.labels.dtype.kind == "f" else "<i8").data)
        return digest.hexdigest()
