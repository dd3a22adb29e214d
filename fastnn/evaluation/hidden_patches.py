"""Which pixels of an image a prediction needs: what happens to its probability if a patch of them is hidden."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastnn.checks import check_integer, check_number
from fastnn.errors import SettingsError
from fastnn.evaluation.images import single_image
from fastnn.models import as_model
from fastnn.models.model import class_number
from fastnn.network.layers.windows import as_pair


@dataclass(frozen=True, eq=False)
class Occlusion:
    """The probability of a class, and how far it drops if a patch of the image is hidden.

    Attributes
    ----------
    row : ndarray of shape (D,)
        The image as a row of inputs.
    shape : tuple of int
        (channels, height, width) of the image.
    label : int
        The number of the class.
    n_classes : int
        C, the number of classes.
    probability : float
        The probability of this class for the whole image.
    tops, lefts : ndarray of int64 and shape (R,) and (S,)
        The first row, and the first column, of the patches.
    patch : tuple of int
        (height, width) of a patch.
    drops : ndarray of float64 and shape (R, S)
        `probability` minus the probability with a patch hidden. Negative where the image is more probable without it.
    """

    row: np.ndarray
    shape: tuple[int, int, int]
    label: int
    n_classes: int
    probability: float
    tops: np.ndarray
    lefts: np.ndarray
    patch: tuple[int, int]
    drops: np.ndarray

    @property
    def by_pixel(self) -> np.ndarray:
        """For each pixel, the mean drop of the patches that hide it: (height, width), float64."""
        totals, counts = np.zeros(self.shape[1:]), np.zeros(self.shape[1:])
        for (i, j), drop in np.ndenumerate(self.drops):
            hidden = _patch_at(self.tops[i], self.lefts[j], self.patch)
            totals[hidden] += drop
            counts[hidden] += 1
        return totals / counts


def occlusion(
    network: Any,
    image: ArrayLike,
    label: Any = None,
    *,
    patch: int | tuple[int, int] = 5,
    step: int = 1,
    background: float | None = None,
    image_shape: tuple[int, int] | None = None,
    backend: str = "auto",
) -> Occlusion:
    """Hide every patch of an image in turn, and return how far the probability of a class drops [1]_.

    The patches move by `step` pixels. The last ones reach the bottom and the right border, so every pixel is hidden by
    one of them or more. All images are predicted in one batch.

    Parameters
    ----------
    network : Network, Model, result of `train` or fitted estimator
        A classifier of images, with any layers.
    image : array-like of shape (D,), (height, width) or (channels, height, width)
        One row of inputs, unscaled.
    label : int or str, optional
        The class: of a network a number from 0 to C - 1, of a model or an estimator one of its classes. By default the
        predicted one.
    patch : int or (int, int)
        The height and width of a patch, 1 or more, at most those of the image.
    step : int
        How far apart two patches are, downwards and across, 1 or more.
    background : float, optional
        The value that hides pixels. By default the background of the model's images, or 0.
    image_shape : tuple of int, optional
        (height, width). By default that of the image, the model or the estimator.
    backend : {"auto", "numba", "numpy"}
        The backend that predicts.

    Returns
    -------
    Occlusion

    Raises
    ------
    DataError
        If the image does not match the network, the network has no classes, or `label` is none of them.
    SettingsError
        If another argument is out of range.

    References
    ----------
    .. [1] Zeiler and Fergus 2014, "Visualizing and understanding convolutional networks", section 4.2.

    Examples
    --------
    A network with two classes that looks at the first of four pixels only.

    >>> import numpy as np
    >>> import fastnn
    >>> from fastnn.evaluation import occlusion
    >>> network = fastnn.Network([[[2.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]], [[0.0, 0.0]])
    >>> found = occlusion(network, np.ones((2, 2)), patch=1)
    >>> found.label, found.drops.round(3).tolist()
    (0, [[0.381, 0.0], [0.0, 0.0]])
    """
    model = as_model(network)
    row, shape = single_image(model, image, image_shape)
    window = as_pair("patch", patch)
    if window[0] > shape[1] or window[1] > shape[2]:
        raise SettingsError(f"patch is {window}, expected at most the image, {shape[1:]}")
    value = check_number("background", model.row_format.pixels[0] if background is None else background)
    tops, lefts = (
        _starts(size, length, check_integer("step", step, 1)) for size, length in zip(shape[1:], window, strict=True)
    )
    if row.dtype.kind in "bui":
        row = row.astype(np.result_type(row.dtype, np.min_scalar_type(value)))
    images = np.tile(row.reshape(shape), (1 + len(tops) * len(lefts), 1, 1, 1))
    for number, (top, left) in enumerate(((top, left) for top in tops for left in lefts), start=1):
        images[number][:, *_patch_at(top, left, window)] = value
    proba = model.predict_proba(images.reshape(len(images), -1), backend=backend).astype(np.float64)
    column = int(proba[0].argmax()) if label is None else class_number(model.classes, label)
    drops = proba[0, column] - proba[1:, column].reshape(len(tops), len(lefts))
    return Occlusion(row, shape, column, proba.shape[1], float(proba[0, column]), tops, lefts, window, drops)


def _starts(size: int, length: int, step: int) -> np.ndarray:
    """Return where the patches of a length begin: every `step` pixels, and at the end."""
    return np.unique(np.append(np.arange(0, size - length, step), size - length))


def _patch_at(top: Any, left: Any, patch: tuple[int, int]) -> tuple[slice, slice]:
    return slice(top, top + patch[0]), slice(left, left + patch[1])
