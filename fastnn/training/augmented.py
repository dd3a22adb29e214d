"""The images of each epoch of a run with augmentation."""

import numpy as np

from fastnn.backends.arguments import TrainingData
from fastnn.backends.base import Backend
from fastnn.datasets.sparse import is_sparse
from fastnn.errors import SettingsError
from fastnn.network import Network
from fastnn.optim.augmentation import get_augment
from fastnn.optim.config import TrainingConfig
from fastnn.randomness import augmentation_key

# Images that are distorted together: the intermediate arrays stay small.
_BLOCK = 4096


def check_augmentable(network: Network, data: TrainingData, image_shape: tuple[int, int] | None) -> None:
    """Raise SettingsError unless the data are images whose pixels have one scale."""
    found = None
    if is_sparse(data.inputs):
        found = "the inputs are a sparse matrix"
    elif image_shape is None:
        found = "the data have no image_shape"
    elif network.standardization is not None and not network.standardization.is_uniform:
        found = "the network standardises each pixel by itself"
    if found is not None:
        raise SettingsError(f"augment is set, but {found}, expected images, or augment=None")


class Distorter:
    """Distorts the images of an epoch, as a function of the seed, the epoch and the number of each image.

    Parameters
    ----------
    config : TrainingConfig
        Its `augment` is set.
    image_shape : (int, int)
    levels : (float, float)
        The smallest and the largest value of a pixel.
    engine : Backend
    """

    def __init__(
        self, config: TrainingConfig, image_shape: tuple[int, int], levels: tuple[float, float], engine: Backend
    ) -> None:
        augment = get_augment(config.augment)
        assert augment is not None
        self._augment, self._shape, self._levels, self._engine = augment, image_shape, levels, engine
        self._seed, self._threads = config.seed, config.threads

    def distorted(self, inputs: np.ndarray, rows: np.ndarray, numbers: np.ndarray, epoch: int) -> np.ndarray:
        """Return distorted images, (B, H * W).

        inputs: (N, H * W)
        rows: (B,), the images to distort
        numbers: (B,), those of the images in all data
        """
        distortion = self._augment.draw(self._shape, augmentation_key(self._seed, epoch), numbers, self._levels)
        return self._engine.distort(inputs, rows, distortion, self._threads)

    def write(self, inputs: np.ndarray, numbers: np.ndarray, epoch: int, out: np.ndarray) -> None:
        """Write all images into `out`, (N, H * W), distorted; the arguments are those of `distorted`."""
        rows = np.arange(len(inputs))
        for first in range(0, len(rows), _BLOCK):
            part = slice(first, first + _BLOCK)
            out[part] = self.distorted(inputs, rows[part], numbers[part], epoch)


class AugmentedImages:
    """Images that are drawn anew for each epoch.

    An image depends on the seed, the epoch and its row only. So any part of an epoch can be drawn by itself, and again:
    a run that is resumed within an epoch trains on the same images.

    Parameters
    ----------
    data : TrainingData
    config : TrainingConfig
        The settings, with `augment`.
    image_shape : tuple of (int, int)
    engine : Backend
        Distorts the images.
    """

    def __init__(
        self, data: TrainingData, config: TrainingConfig, image_shape: tuple[int, int], engine: Backend
    ) -> None:
        inputs = data.inputs
        levels = (float(inputs.min()), float(inputs.max())) if inputs.size else (0.0, 0.0)
        self._inputs, self._distorter = inputs, Distorter(config, image_shape, levels, engine)

    def of_rows(self, epoch: int, rows: np.ndarray) -> np.ndarray:
        """Return the images of some rows in an epoch, (len(rows), D)."""
        if self._inputs.flags.c_contiguous:
            return self._distorter.distorted(self._inputs, rows, rows, epoch)
        # A backend would copy all of them.
        return self._distorter.distorted(self._inputs[rows], np.arange(len(rows)), rows, epoch)
