"""Frozen layers: the first layers of a network stay as they are, and the rest trains on the features that they make.

The features are those of a prediction: no dropout, and the running averages of `BatchNorm`. They are computed once, and
the rest trains as a network of its own, so nothing in training can reach what is frozen. Dropout of the features is
that of this network's inputs.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from fastnn.backends import backend_name
from fastnn.backends.base import Backend, TrainerState
from fastnn.backends.threads import BLAS_LIMIT, resolve_threads
from fastnn.memory import check_memory
from fastnn.models.hidden import features_of
from fastnn.network import Network
from fastnn.network.parts import join, split_frozen
from fastnn.network.snapshot import Snapshot
from fastnn.optim.config import TrainingConfig
from fastnn.training.augmented import AugmentedImages

# About how many numbers the frozen layers make at a time: 32 MB of float32.
_AT_ONCE = 2**23


def trained_part(network: Network, config: TrainingConfig) -> tuple[Network, TrainingConfig]:
    """Return the layers of a network that train, which share its arrays, and the settings as they are for these."""
    if not config.frozen:
        return network, config
    tail = split_frozen(network, config.frozen)[1]
    return tail, _tail_config(network, tail, config)


def _tail_config(network: Network, tail: Network, config: TrainingConfig) -> TrainingConfig:
    """Return the settings for the tail of a network: the rate of the features is that which they have in the network.

    SettingsError if dropout has more rates than the network has layers that it may apply to.
    """
    if not config.dropout:
        return config
    rates = config.dropout_rates(len(network.dropped_sizes))
    n_tail = len(tail.dropped_sizes)
    first = rates[-n_tail] if tail.layers[0].drops_inputs else 0.0
    return config.replace(dropout=(first, *rates[len(rates) - n_tail + 1 :]))


class FrozenLayers:
    """The frozen layers of a run.

    Parameters
    ----------
    network : Network
        The whole network; copied.
    config : TrainingConfig
        Its `frozen` is above 0.
    engine : Backend
        Computes the features.

    Attributes
    ----------
    tail : Network
        The network that trains on the features, (N, F).
    tail_config : TrainingConfig
        The settings for it.
    """

    def __init__(self, network: Network, config: TrainingConfig, engine: Backend) -> None:
        own = network.like(network.weights, network.biases)  # a callback may change the arrays of the caller
        self._front, self.tail = split_frozen(own, config.frozen)
        self.tail_config = _tail_config(own, self.tail, config)
        self._config, self._engine = config, engine

    def check_memory(self, n_rows: int, n_held_out: int) -> None:
        """Raise OutOfMemoryError if the features of all samples need more memory than the process may use."""
        size, itemsize = self.tail.n_inputs, self.tail.dtype.itemsize
        n_samples = n_held_out + n_rows
        named = f"frozen is {self._config.frozen}: the features of {n_samples:,} samples, {size:,} numbers each,"
        check_memory(n_samples * size * itemsize, named)

    def features(self, inputs: Any) -> np.ndarray:
        """Return the features of checked inputs, (N, F)."""
        out = np.empty((inputs.shape[0], self.tail.n_inputs), self.tail.dtype)
        front = self._front._replace(network=self._front.network.core)  # checked inputs are standardised
        n_rows = max(1, _AT_ONCE // sum(front.network.sizes))
        with self._blas, np.errstate(over="ignore", invalid="ignore"):  # the loss shows whether a feature is finite
            for start in range(0, len(out), n_rows):
                block = slice(start, start + n_rows)
                out[block] = features_of(front, inputs[block], self._engine, self._config.threads)
        return out

    @property
    def depends_on_rows(self) -> bool:
        """Whether the bits of a sample's features may depend on which others are computed with it."""
        return backend_name(self._engine) == "numpy"

    def whole(self, snapshot: Snapshot) -> Snapshot:
        """Return the whole network with a tail as it was at one moment."""
        return Snapshot(lambda: join(self._front, snapshot.network))

    def state_of_whole(self, state: TrainerState) -> TrainerState:
        """Return the optimizer's state of the tail as that of the whole network: zeros for what is frozen."""
        first = self._front.network
        frozen = [np.zeros_like(array) for array in first.weights], [np.zeros_like(array) for array in first.biases]
        slots = tuple(([*frozen[0], *weights], [*frozen[1], *biases]) for weights, biases in state.slots)
        statistics = (*first.statistics, *state.statistics) if state.statistics else ()
        return state._replace(slots=slots, statistics=statistics)

    def state_of_tail(self, state: TrainerState) -> TrainerState:
        """Return the tail's part of an optimizer's state of the whole network."""
        n_frozen = len(self._front.network.weights)
        slots = tuple((weights[n_frozen:], biases[n_frozen:]) for weights, biases in state.slots)
        return state._replace(slots=slots, statistics=state.statistics[len(self._front.network.statistics) :])

    @property
    def _blas(self) -> AbstractContextManager[None]:
        threads = resolve_threads(self._config.threads)
        return BLAS_LIMIT.hold(threads) if self.depends_on_rows else nullcontext()


class DrawnFeatures:
    """Features of augmented images, which differ from epoch to epoch.

    The features of an epoch depend on the seed, the epoch and the row only; in the NumPy backend, also on the batch:
    the last bits of a row of a matrix product may depend on the other rows, in some versions of BLAS.

    Parameters
    ----------
    frozen : FrozenLayers
    images : AugmentedImages
        The inputs of each epoch.
    batch_size : int
        The number of rows of a batch.
    """

    def __init__(self, frozen: FrozenLayers, images: AugmentedImages, batch_size: int) -> None:
        self._frozen, self._images = frozen, images
        self._batch_size = batch_size

    def of_rows(self, epoch: int, rows: np.ndarray) -> np.ndarray:
        """Return the features of the rows of consecutive batches in an epoch, (len(rows), F)."""
        inputs = self._images.of_rows(epoch, rows)
        if not self._frozen.depends_on_rows:
            return self._frozen.features(inputs)
        starts = range(0, len(rows), self._batch_size)
        return np.concatenate([self._frozen.features(inputs[at : at + self._batch_size]) for at in starts])
