"""`Dataset`, which every reader returns: samples, labels and their classes, the scale of pixels and the image shape."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

import numpy as np

from fastnn.checks import is_integer, is_number, short
from fastnn.datasets.arrays import as_images, as_labels, check_lengths
from fastnn.datasets.sparse import canonical, is_sparse
from fastnn.errors import DataError
from fastnn.interruptible import interruptible


@dataclass(frozen=True, eq=False)
class Dataset:
    """N labelled or unlabelled samples of D inputs each.

    The constructor converts what it is given to arrays, by position: pandas Series and frames (the index is ignored),
    lists, and images of shape (N, height, width) or (N, height, width, 1).

    Parameters
    ----------
    images : array-like of shape (N, D), (N, height, width) or (N, height, width, 1), or SciPy sparse matrix
        One sample per row. Images of three dimensions set `image_shape`. A frame sets `feature_names`.
    labels : array-like of shape (N,) or (N, C), or None
        Whole numbers from 0 up are labels. Other labels, such as strings, are numbered in sorted order, and `classes`
        keeps them. Numbers with fractions are targets of a regression: (N,) becomes (N, 1).
    pixel_max : float
        The largest value a pixel can have: 255 for MNIST, 16 for the 8x8 digits, 1 for data that is already scaled.
        Networks multiply their inputs by ``1 / pixel_max``.
    image_shape : (int, int), or None
        Height and width of the image in each row (row-major), or None if the rows are not images.
    name : str
        The source of the data, for messages and reports.
    classes : sequence of int or str, or None
        The class of each label: label k stands for ``classes[k]``. None: label k stands for the number k.
    feature_names : sequence of D str, or None
        The name of each column.
    notes : sequence of str
        What a reader decided for the user, such as the column of the labels, in one sentence each.

    Attributes
    ----------
    images : ndarray of shape (N, D), or SciPy CSR matrix
        C-contiguous, but arrays of float32 and float64 keep their memory order. The readers return uint8 for whole
        numbers from 0 to 255, otherwise float32 or float64.
    labels : ndarray of shape (N,) int64, or (N, C) float, or None
    classes, feature_names, notes : tuple, or None
    pixel_max, image_shape, name
        As given.

    Raises
    ------
    DataError
        If images are no numbers or have missing values, labels are missing or mix texts and numbers, shapes do not
        match, `pixel_max` is not a positive finite number, or a name has more than 1,000 characters. Masked arrays with
        missing values and `numpy.matrix` are refused.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnn
    >>> data = fastnn.Dataset(np.zeros((3, 2, 2), np.uint8), ["no", "yes", "yes"], pixel_max=255)
    >>> data
    Dataset(data: 3 samples of 4 uint8 inputs, 2 classes, pixel_max 255, images 2 x 2)
    >>> data.labels, data.classes
    (array([0, 1, 1]), ('no', 'yes'))
    >>> len(data.take([0, 2]))
    2
    """

    images: np.ndarray
    labels: np.ndarray | None = None
    pixel_max: float = 1.0
    image_shape: tuple[int, int] | None = None
    name: str = field(default="data")
    classes: tuple[Any, ...] | None = None
    feature_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        images, shape, names = as_images(self.images, self.name)
        for field_name in ("classes", "feature_names", "notes"):
            self._set(**{field_name: _as_tuple(getattr(self, field_name), f"{self.name}: {field_name}")})
        self._set(images=images)
        if self.image_shape is None:
            self._set(image_shape=shape)
        if self.feature_names is None:
            self._set(feature_names=names)
        if self.labels is not None:
            labels, classes = as_labels(self.labels, self.name, numbered=self.classes is not None)
            self._set(labels=labels, classes=classes if self.classes is None else self.classes)
        self._check()

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _check(self) -> None:
        if self.labels is not None and (self.labels.shape[:1] != (len(self),) or self.labels.ndim > 2):
            raise DataError(
                f"{self.name}: {len(self)} images but labels of shape {self.labels.shape}, "
                f"expected ({len(self)},) or ({len(self)}, C)"
            )
        if self.image_shape is not None:
            self._set(image_shape=_checked_shape(self.image_shape, self.images.shape[1], self.name))
        if self.feature_names is not None:
            self._set(feature_names=tuple(map(str, self.feature_names)))
            if len(self.feature_names) != self.images.shape[1]:
                raise DataError(
                    f"{self.name}: {len(self.feature_names)} feature_names, expected {self.images.shape[1]}, "
                    "one for each column"
                )
        if self.classes is not None and self.labels is not None and len(self) and self.labels.ndim == 1:
            largest = int(self.labels.max())
            if largest >= len(self.classes) or self.labels.min() < 0:
                raise DataError(
                    f"{self.name}: labels run from {self.labels.min()} to {largest}, "
                    f"expected 0 to {len(self.classes) - 1} for the classes {short(list(self.classes))}"
                )
        if not (is_number(self.pixel_max) and np.isfinite(self.pixel_max) and self.pixel_max > 0):
            raise DataError(f"{self.name}: pixel_max is {short(self.pixel_max)}, expected a positive number")
        check_lengths(self.classes or (), f"{self.name}: classes")
        check_lengths(self.feature_names or (), f"{self.name}: feature_names")

    def __len__(self) -> int:
        return int(self.images.shape[0])

    def __repr__(self) -> str:
        lists = " as sparse rows" if is_sparse(self.images) else ""
        shape = "" if self.image_shape is None else f", images {self.image_shape[0]} x {self.image_shape[1]}"
        labels = "no labels" if self.labels is None else f"{self.n_classes} classes"
        if self.has_targets:
            labels = f"targets of {self.n_classes} number{'s' * (self.n_classes > 1)}"
        return (
            f"Dataset({self.name}: {len(self)} samples of {self.images.shape[1]} {self.images.dtype} inputs{lists}, "
            f"{labels}, pixel_max {self.pixel_max:g}{shape})"
        )

    @property
    def n_classes(self) -> int:
        """The number of `classes`, else the largest label plus 1, or C if the labels have shape (N, C); 0 without."""
        if self.labels is None or not len(self.labels):
            return 0
        if self.labels.ndim == 2:
            return int(self.labels.shape[1])
        return int(self.labels.max()) + 1 if self.classes is None else len(self.classes)

    @property
    def has_targets(self) -> bool:
        """Whether the labels are numbers of shape (N, C), for networks without softmax outputs."""
        return self.labels is not None and self.labels.ndim == 2

    def class_labels(self) -> list[Any]:
        """Return the class of each sample, int or str; DataError if there are no labels or they are targets."""
        if self.labels is None or self.has_targets:
            found = "no labels" if self.labels is None else "targets of a regression"
            raise DataError(f"{self.name} has {found}, expected labels of classes")
        labels: list[Any] = self.labels.tolist()
        return labels if self.classes is None else [self.classes[label] for label in labels]

    def with_classes(self, classes: Sequence[Any]) -> "Dataset":
        """Return the same samples with labels that number these classes.

        A class is found by its value or by its text: 7 in a file of numbers is "7" of a model, and 1 is True.

        Parameters
        ----------
        classes : sequence of int or str
            All different; those of a model.

        Returns
        -------
        Dataset

        Raises
        ------
        DataError
            If a label is none of the classes. The message names it.

        Examples
        --------
        >>> import numpy as np
        >>> import fastnn
        >>> data = fastnn.Dataset(np.zeros((2, 1)), [9, 1])
        >>> data.with_classes(range(1, 10)).labels
        array([8, 0])
        """
        of_samples = self.class_labels()
        number = {key: index for index, each in reversed([*enumerate(classes)]) for key in (each, class_text(each))}
        found: dict[Any, Any] = {}
        for label in set(of_samples):
            found[label] = number.get(label, number.get(class_text(label)))
        unknown = sorted((label for label, index in found.items() if index is None), key=str)
        if unknown:
            count = sum(found[label] is None for label in of_samples)
            row = next(row for row, label in enumerate(of_samples) if found[label] is None)
            raise DataError(
                f"{self.name}: {count} of {len(self)} labels are none of the classes, such as {unknown[0]!r} of sample "
                f"{row} (from 0), expected one of {short(list(classes))}"
            )
        labels = np.array([found[label] for label in of_samples], np.int64)
        return replace(self, labels=labels, classes=tuple(classes))

    def present_classes(self) -> tuple[Any, ...]:
        """Return the classes that have samples, sorted: all int, or all str."""
        present = set(self.class_labels())
        return tuple(sorted(present, key=None if all(isinstance(label, int) for label in present) else str))

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
            images=interruptible(self.images.__getitem__, rows, work=np.size(rows) * self.images.shape[1]),
            labels=None if self.labels is None else self.labels[rows],
            name=self.name if name is None else name,
        )

    def digest(self) -> str:
        """Return the SHA-256 digest of shape, dtype, pixel_max, pixels and the class of each sample, in hex.

        Equal data give equal digests on every machine. Sparse images are hashed in their CSR form, so their digest
        differs from that of the same images as a dense array.
        """
        digest = sha256(f"{self.images.shape} {self.images.dtype.newbyteorder('<').str} {self.pixel_max}".encode())
        parts: list[Any] = [self.images]
        if is_sparse(self.images):
            rows = canonical(self.images)
            parts = [rows.indptr.astype("<i8"), rows.indices.astype("<i8"), rows.data]
        for part in parts:
            numbers = np.ascontiguousarray(part, part.dtype.newbyteorder("<"))
            interruptible(digest.update, numbers.data, work=numbers.nbytes)
        if self.labels is None:
            return digest.hexdigest()
        if self.classes is None or self.has_targets:
            digest.update(np.ascontiguousarray(self.labels, "<f8" if self.labels.dtype.kind == "f" else "<i8").data)
        elif all(isinstance(each, int) for each in self.classes):
            digest.update(np.array(self.classes, "<i8")[self.labels].data)
        else:
            digest.update("\0".join(map(class_text, self.class_labels())).encode())
        return digest.hexdigest()


def class_text(label: Any) -> str:
    """Return a class as text, the same for 7, 7.0 and "7", and for 1, True and "True"."""
    if isinstance(label, str):
        text = label.strip()
        return {"true": "1", "false": "0"}.get(text.lower(), text)
    return str(int(label)) if float(label).is_integer() else repr(float(label))


def _as_tuple(values: Any, name: str) -> tuple[Any, ...] | None:
    """Return a sequence as a tuple; DataError for a single text, and for a set, which has no order."""
    if values is None:
        return None
    if isinstance(values, str | bytes | set | frozenset) or not isinstance(values, Iterable):
        raise DataError(f"{name} is {short(values)}, expected a sequence")
    return tuple(values)


def _checked_shape(shape: Any, n_inputs: int, name: str) -> tuple[int, int]:
    sides = _as_tuple(shape, f"{name}: image_shape") or ()
    if not all(map(is_integer, sides)):
        raise DataError(f"{name}: image_shape is {short(shape)}, expected (height, width)")
    if len(sides) != 2 or sides[0] * sides[1] != n_inputs:
        raise DataError(
            f"{name}: images have {n_inputs} pixels, expected {' x '.join(map(str, sides))} as in image_shape"
        )
    return int(sides[0]), int(sides[1])
