"""The inputs of each epoch of a run with augmentation."""

import numpy as np

from fastnn.backends.arguments import TrainingData
from fastnn.backends.base import Backend
from fastnn.datasets.sparse import is_sparse
from fastnn.errors import SettingsError
from fastnn.memory import check_memory
from fastnn.network import Network
from fastnn.optim.augmentation import get_augment
from fastnn.optim.config import TrainingConfig
from fastnn.randomness import augmentation_key

# Images that are changed together: their intermediate arrays stay small, and Ctrl-C is answered between two blocks.
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

    def write(self, inputs: np.ndarray, rows: np.ndarray, numbers: np.ndarray, epoch: int, out: np.ndarray) -> None:
        """Write distorted images into these rows of `out`.

        inputs, out: (N, H * W)
        rows: (B,), the images to distort
        numbers: (B,), those of the images in all data
        """
        key = augmentation_key(self._seed, epoch)
        for first in range(0, len(rows), _BLOCK):
            part = slice(first, first + _BLOCK)
            distortion = self._augment.draw(self._shape, key, numbers[part], self._levels)
            out[rows[part]] = self._engine.distort(inputs, rows[part], distortion, self._threads)


class AugmentedData:
    """Training data whose inputs are drawn anew for each epoch, into one copy of the inputs.

    An epoch's inputs depend on the seed, the epoch and the row only. So an epoch can be repeated, and a run that is
    resumed within an epoch trains on the same inputs.
    """

    def __init__(
        self,
        data: TrainingData,
        rows: np.ndarray,
        config: TrainingConfig,
        image_shape: tuple[int, int],
        engine: Backend,
    ) -> None:
        inputs = data.inputs
        check_memory(inputs.nbytes, f"the copy of {len(inputs):,} images for augmentation")
        levels = (float(inputs.min()), float(inputs.max())) if inputs.size else (0.0, 0.0)
        self._distorter = Distorter(config, image_shape, levels, engine)
        self._data, self._rows, self._drawn = data, rows, inputs.copy()

    def of_epoch(self, epoch: int) -> TrainingData:
        """Return the data of an epoch. The data of the epoch before are overwritten."""
        self._distorter.write(self._data.inputs, self._rows, self._rows, epoch, self._drawn)
        return self._data._replace(inputs=self._drawn)
