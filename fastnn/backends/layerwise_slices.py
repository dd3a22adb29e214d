"""The gradients of slices layer by layer, for training in slices: for every network, and every optimizer."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from fastnn.backends.arguments import TrainingData
from fastnn.backends.layerwise import (
    dropout_masks,
    in_one_vector,
    loss_of_batch,
    parts_of_vector,
    update_statistics,
    work_of_batch,
)
from fastnn.backends.slices import PIECE, Update
from fastnn.interruptible import interruptible
from fastnn.network import Network
from fastnn.optim.config import TrainingConfig
from fastnn.optim.optimizers import Optimizer
from fastnn.randomness import dropout_keys


class LayerwiseSlices:
    """`fastnn.backends.slices.SliceEngine` on single operations; a vector has array after array."""

    def __init__(self, ops: Any, network: Network, data: TrainingData, config: TrainingConfig) -> None:
        assert isinstance(config.update_rule, Optimizer)
        self._ops, self._data, self._config, self._optimizer = ops, data, config.replace(l2=0.0), config.update_rule
        self._network = network.like(network.weights, network.biases)
        initial = [*network.weights, *network.biases]
        self.parameters, self._arrays = in_one_vector(initial)
        self.slots = [in_one_vector(initial)[0] for _ in range(self._optimizer.n_slots)]
        self.pack(self.parameters, (network.weights, network.biases))
        n_weights = len(network.weights)
        self._network.weights, self._network.biases = tuple(self._arrays[:n_weights]), tuple(self._arrays[n_weights:])
        self.n_statistics = sum(array.size for array in network.statistics)
        self.is_elementwise = self._optimizer.is_elementwise
        self._decays = [*network.decayed, *(False for _ in network.biases)]
        starts = [*(self._offset(array) for array in self._arrays), len(self.parameters)]
        pieces = [(at, decays) for (start, stop), decays in zip(pairwise(starts), self._decays, strict=True)
                  for at in range(start, stop, PIECE)]  # fmt: skip
        self.cuts = np.array([*(at for at, _ in pieces), len(self.parameters)])
        self.decayed = np.array([decays for _, decays in pieces])

    def _offset(self, array: np.ndarray) -> int:
        """Return where an array begins in the vector of the parameters."""
        return (array.ctypes.data - self.parameters.ctypes.data) // self.parameters.itemsize

    def prepare(self, most_rows: int) -> None:
        """Do nothing: there is nothing to lay out."""

    def gradient(
        self, rows: np.ndarray, most_rows: int, weight: float, epoch: int, into: np.ndarray, statistics: np.ndarray
    ) -> tuple[float, int]:
        """Write the gradient of a slice into `into`; return its share of the loss, and the number of correct labels."""
        network, config, part = self._network, self._config, self._data.take(rows)
        keys = dropout_keys(config.seed, epoch, len(network.dropped_sizes)) if config.dropout else np.empty(0)
        masks = dropout_masks(network, config, keys, rows if part.numbers is None else part.numbers)
        work = work_of_batch(network, len(rows))
        result = interruptible(loss_of_batch, self._ops, network, part, config, masks, work=work)
        share = part.weight / weight if weight else 0.0
        for gradient, array in zip(
            (*result.dweights, *result.dbiases), parts_of_vector(into, self._arrays), strict=True
        ):
            np.multiply(gradient, gradient.dtype.type(share), out=array)
        if result.statistics:
            statistics[:] = np.concatenate([array.ravel() for array in result.statistics])
        return result.loss * share, result.n_correct

    def update(self, first: int, stop: int, gradient: np.ndarray, update: Update) -> None:
        """Update the pieces from `first` to ``stop - 1``; all of them, if the optimizer needs whole arrays."""
        rule, (rate, step) = self._optimizer, update
        if not self.is_elementwise:
            slots = [parts_of_vector(slot, self._arrays) for slot in self.slots]
            for number, (array, part) in enumerate(
                zip(self._arrays, parts_of_vector(gradient, self._arrays), strict=True)
            ):
                if self._decays[number]:
                    rule.decay(array, rate)
                rule.update(array, part, [slot[number] for slot in slots], rate, step)
            return
        at = self.cuts[first]
        for k in range(first, stop):
            start, end = self.cuts[k], self.cuts[k + 1]
            piece = self.parameters[start:end]
            if self.decayed[k]:
                rule.decay(piece, rate)
            rule.update(piece, gradient[start - at : end - at], [slot[start:end] for slot in self.slots], rate, step)

    def note_statistics(self, statistics: np.ndarray) -> None:
        """Update the running statistics with those of a batch."""
        sizes = [array.size for array in self._network.statistics]
        arrays = np.split(statistics.astype(self._network.dtype), np.cumsum(sizes)[:-1])
        update_statistics(self._network, arrays)

    def statistics(self) -> tuple[np.ndarray, ...]:
        """Return copies of the running statistics."""
        return tuple(array.copy() for array in self._network.statistics)

    def split(self, vector: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return copies of the weights and biases in a vector."""
        arrays, n_weights = [part.copy() for part in parts_of_vector(vector, self._arrays)], len(self._network.weights)
        return arrays[:n_weights], arrays[n_weights:]

    def pack(self, vector: np.ndarray, arrays: tuple[Sequence[np.ndarray], Sequence[np.ndarray]]) -> None:
        """Write weights and biases into a vector."""
        for part, array in zip(parts_of_vector(vector, self._arrays), (*arrays[0], *arrays[1]), strict=True):
            part[...] = array

    def replace_data(self, data: TrainingData, alike: bool = False) -> None:
        """Take the slices of other data."""
        self._data = data

    def release_data(self) -> None:
        """Let go of the data."""
        self._data = self._data.take(np.empty(0, np.int64))
