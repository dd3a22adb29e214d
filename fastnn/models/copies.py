"""`Copies`: predictions averaged over changed copies of each image.

Dimensions: N images of D pixels, K copies.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fastnn.backends import Backend
from fastnn.checks import check_integer
from fastnn.datasets.sparse import is_sparse
from fastnn.errors import DataError, SettingsError
from fastnn.models.row_format import RowFormat
from fastnn.optim.augmentation import Augment, get_augment
from fastnn.randomness import augmentation_key

MOST = 1000
"""The largest number of copies."""
# Images that are changed together, so that their intermediate arrays stay small.
_BLOCK = 4096


@dataclass(frozen=True)
class Copies:
    """The copies of each image over which `Model.predict` and `evaluate` average.

    The first copy is the image itself. Copy k of the image in row n depends on the seed, k and n only: not on the other
    rows, the backend or the number of threads. What is averaged are probabilities, or the numbers of a regression, as
    in an `Ensemble`.

    Parameters
    ----------
    count : int
        K, the number of copies, from 2 to 1000. A prediction takes K times as long.
    augment : str or Augment
        How much a copy may differ from the image, as in training: ``"shift=1,rotate=5"``.
    seed : int
        0 or more.

    Raises
    ------
    SettingsError
        If a setting is out of range.

    Examples
    --------
    >>> import fastnn
    >>> data = fastnn.load_digits()
    >>> result = fastnn.train(fastnn.Network.for_data(data, (32,)), data, epochs=20)
    >>> model, copies = fastnn.Model.for_data(result.network, data), fastnn.Copies(4, "shift=0.5,rotate=5")
    >>> model.predict(data.images[:3], copies=copies).tolist()
    [0, 1, 2]
    """

    count: int
    augment: str | Augment
    seed: int = 0

    def __post_init__(self) -> None:
        check_integer("count", self.count, 2, MOST)
        check_integer("seed", self.seed, 0)
        if get_augment(self.augment) is None:
            raise SettingsError("augment is None, expected how copies differ, such as shift=1,rotate=5")

    def of(self, images: np.ndarray, rows: RowFormat, engine: Backend) -> Iterator[np.ndarray]:
        """Yield the K copies of images, each (N, D) in the dtype of `images`.

        Raises DataError if the rows are no images.
        """
        if rows.image_shape is None or is_sparse(images):
            found = "they are sparse" if is_sparse(images) else "the model is for rows of a table"
            raise DataError(f"predictions cannot be averaged over copies of these inputs: {found}, expected images")
        augment, levels = get_augment(self.augment), (min(rows.pixels), max(rows.pixels))
        assert augment is not None
        yield images
        working = images.dtype if images.dtype in (np.uint8, np.float32, np.float64) else np.float64
        images = np.ascontiguousarray(images, working)
        numbers = np.arange(len(images))
        for copy in range(1, self.count):
            key, changed = augmentation_key(self.seed, copy), np.empty(images.shape, images.dtype)
            for first in range(0, len(images), _BLOCK):
                some = numbers[first : first + _BLOCK]
                changed[some] = engine.distort(images, some, augment.draw(rows.image_shape, key, some, levels))
            yield changed
