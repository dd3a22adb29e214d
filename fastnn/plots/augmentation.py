"""Draws images beside what augmentation makes of them."""

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike

from fastnn import evaluation
from fastnn.backends import reference
from fastnn.backends.arguments import TrainingData, working_inputs
from fastnn.checks import check_integer
from fastnn.errors import DataError, SettingsError
from fastnn.models import as_dataset
from fastnn.optim.augmentation import Augment, get_augment
from fastnn.optim.config import TrainingConfig
from fastnn.plots.display import GREY, Display, ImageShape
from fastnn.training.augmented import AugmentedImages

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure


class AugmentDisplay(Display):
    """The first `n` of N images, and beside each of them what the first epochs of a run train on instead.

    Parameters
    ----------
    images : array-like of shape (N, D)
        The training images, one per row, integer or float. Larger values are drawn darker.
    image_shape : tuple of int
        (height, width) of an image, with height * width = D.
    augment : str or Augment
        The augmentation, such as "alpha=34,sigma=4".
    n : int
        The maximum number of images to draw.
    epochs : int
        The number of epochs.
    seed : int
        The seed of the run.

    Attributes
    ----------
    images : ndarray of shape (K, D)
        The K images that are drawn.
    distorted : ndarray of shape (epochs, K, D)
        What each epoch makes of them.
    augment : Augment
        The augmentation.

    Raises
    ------
    DataError
        If the arrays do not match each other or have a wrong type.
    SettingsError
        If a setting is out of range.

    Examples
    --------
    >>> import fastnn
    >>> from fastnn.plots import AugmentDisplay
    >>> display = AugmentDisplay.from_data(fastnn.load_digits(), "shift=0.5,rotate=20", n=5)
    >>> display.distorted.shape
    (6, 5, 64)
    """

    def __init__(
        self,
        images: ArrayLike,
        image_shape: ImageShape,
        augment: str | Augment,
        n: int = 8,
        *,
        epochs: int = 6,
        seed: int = 0,
    ):
        pixels, found = np.asarray(images), get_augment(augment)
        if found is None:
            raise SettingsError("augment is None, expected a text such as 'shift=2,rotate=10', or an Augment")
        self.image_shape = evaluation.check_images(pixels, image_shape, len(pixels))
        if not len(pixels):
            raise DataError("images are 0 rows, expected one or more")
        rows = np.arange(min(check_integer("n", n, 1), len(pixels)))
        data = TrainingData(working_inputs(pixels), np.empty(0), None)
        drawn = AugmentedImages(data, TrainingConfig(augment=found, seed=seed), self.image_shape, reference)
        self.augment, self.images = found, pixels[rows]
        self.distorted = np.stack([drawn.of_rows(epoch, rows) for epoch in range(check_integer("epochs", epochs, 1))])

    @classmethod
    def from_data(
        cls,
        data: Any,
        augment: str | Augment,
        n: int = 8,
        figure: "Figure | SubFigure | None" = None,
        *,
        epochs: int = 6,
        seed: int = 0,
    ) -> Self:
        """Draw images of a `Dataset` into `figure` or a new figure; the class describes the other parameters."""
        data = as_dataset(data)
        return cls(data.images, data.image_shape, augment, n, epochs=epochs, seed=seed).plot(figure)

    def plot(self, figure: "Figure | SubFigure | None" = None) -> Self:
        """Draw into `figure`, which should be empty, or a new figure: a row for each image, a column for each epoch."""
        columns, rows = 1 + len(self.distorted), len(self.images)
        self._owns_figure = figure is None
        if figure is None:
            height = float(np.clip(self.image_shape[0] / self.image_shape[1], 0.3, 3.0))
            figure = self._new_figure(max(0.85 * columns, 4.6), 0.85 * height * rows + 0.75)
        self.axes_ = figure.subplots(rows, columns, squeeze=False, subplot_kw={"xticks": [], "yticks": []})
        low, high = min(float(self.images.min()), 0.0), max(float(self.images.max()), 1e-9)
        for column, drawn in enumerate((self.images, *self.distorted)):
            for ax, image in zip(self.axes_[:, column], drawn, strict=True):
                ax.imshow(image.reshape(self.image_shape), cmap="gray_r", vmin=low, vmax=high)
                ax.spines[:].set(color="#BBBBBB" if column else GREY, linewidth=0.8 if column else 1.6)
            title = f"epoch {column}" if column else "image"
            self.axes_[0, column].set_title(title, fontsize=8, pad=3, parse_math=False)
        figure.suptitle(str(self.augment), fontsize=10, parse_math=False)
        self.figure_ = figure
        return self
