"""Draws which pixels of an image a prediction needs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike

from fastnn.evaluation import Occlusion, check_names, occlusion, probability_text
from fastnn.evaluation.images import picture
from fastnn.models import as_model
from fastnn.plots.display import Display, ImageShape, Names, signed_colours

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class OcclusionDisplay(Display):
    """An image, and a map of the pixels that the probability of a class needs [1]_.

    A pixel is blue if the probability drops where a patch hides it, and orange if it rises. Where several patches hide
    a pixel, it shows their mean.

    Parameters
    ----------
    occlusion : Occlusion
        The result of `fastnn.evaluation.occlusion`. Every number in the figure comes from it.
    class_names : sequence of C names, optional
        By default the numbers of the classes.

    Attributes
    ----------
    occlusion : Occlusion
    image : ndarray of shape (height, width)
        The image; the mean of its channels if it has several.
    drops : ndarray of float64 and shape (height, width)
        The mean drop of the probability for each pixel.
    class_name : str

    Raises
    ------
    DataError
        If `class_names` does not have C names.

    References
    ----------
    .. [1] Zeiler and Fergus 2014, "Visualizing and understanding convolutional networks", section 4.2.
    """

    def __init__(self, occlusion: Occlusion, class_names: Names = None) -> None:
        self.occlusion, self.image = occlusion, picture(occlusion.row, occlusion.shape)
        self.drops = occlusion.by_pixel
        self.class_name = check_names(class_names, occlusion.n_classes)[occlusion.label]

    @classmethod
    def from_network(
        cls,
        network: Any,
        image: ArrayLike,
        label: Any = None,
        *,
        patch: int | tuple[int, int] = 5,
        step: int = 1,
        background: float | None = None,
        image_shape: ImageShape = None,
        backend: str = "auto",
        ax: "Sequence[Axes] | None" = None,
    ) -> Self:
        """Hide patches of `image` and plot into `ax` (two Axes) or a new figure.

        The other parameters and the errors are those of `fastnn.evaluation.occlusion`.
        """
        found = occlusion(
            network, image, label, patch=patch, step=step, background=background, image_shape=image_shape,
            backend=backend,
        )  # fmt: skip
        return cls(found, as_model(network).class_names).plot(ax)

    from_estimator = from_network

    def plot(self, ax: "Sequence[Axes] | None" = None) -> Self:
        """Draw the image and the map into `ax`, two Axes, or a new figure; SettingsError for another number."""
        image_ax, map_ax = self._panels(ax, 2, "two: for the image and for the map", (7.4, 3.6), nrows=1, ncols=2)
        low = min(0.0, float(self.image.min()))
        image_ax.imshow(self.image, cmap="gray_r", vmin=low)
        image_ax.set_title(f"{self.class_name} ({probability_text(self.occlusion.probability)})", parse_math=False)
        limit = float(np.abs(self.drops).max()) or 1.0
        drawn = map_ax.imshow(self.drops, cmap=signed_colours(), vmin=-limit, vmax=limit)
        # The outline of the ink, half way between the ends of the image's scale.
        high = float(self.image.max())
        if high > low:
            map_ax.contour(self.image, levels=[(low + high) / 2], colors="black", linewidths=0.6)
        height, width = self.occlusion.patch
        map_ax.set_title(f"hidden by patches of {height} x {width}")
        bar = map_ax.figure.colorbar(drawn, ax=map_ax, aspect=28, shrink=0.9, pad=0.02)
        bar.set_label("drop of the probability")
        for each in (image_ax, map_ax):
            each.set(xticks=[], yticks=[])
            each.title.set_fontsize(11)
        return self
