"""The gradients of slices by the fused kernels, for training in slices."""

from collections.abc import Sequence

import numpy as np

from fastnn.backends.arguments import TrainingData
from fastnn.backends.compiled.fused import Trainer, kernel_rule
from fastnn.backends.slices import PIECE, Update
from fastnn.kernels.epoch.update import update_slices
from fastnn.kernels.ops.optimizers import State, Step
from fastnn.network import Network
from fastnn.network.aligned import aligned_zeros
from fastnn.optim.config import TrainingConfig
from fastnn.optim.optimizers import Adam, Optimizer


class FusedSlices:
    """`fastnn.backends.slices.SliceEngine` for a network that the fused kernels cover; a vector has their layout."""

    is_elementwise, n_statistics = True, 0

    def __init__(self, make: type[Trainer], network: Network, data: TrainingData, config: TrainingConfig) -> None:
        assert isinstance(config.update_rule, Optimizer)
        self._optimizer, self._config = config.update_rule, config.replace(l2=0.0)
        self._trainer = make(network, data, self._config, None, config.threads)
        self.parameters, _ = self._trainer.flat_arrays()
        self._slices = slices = self._trainer.slices()
        self._first = _pieces(slices)  # the first slice of each piece, and their number
        self.cuts = np.append(slices[:, 0], len(self.parameters))[self._first]
        self.decayed = slices[self._first[:-1], 3] != 0
        self.slots = [aligned_zeros(len(self.parameters), network.dtype) for _ in range(self._optimizer.n_slots)]
        none = aligned_zeros(0, network.dtype)
        slot_1, slot_2, *_ = [*self.slots, none, none]
        self._state = State(slot_1, slot_2, gradient=none)

    def prepare(self, most_rows: int) -> None:
        """Allocate memory, and load or compile the kernels."""
        self._trainer.prepare(most_rows, most_rows)
        self.update(0, 0, self.parameters, Update(0.0, 1))

    def gradient(
        self, rows: np.ndarray, most_rows: int, weight: float, epoch: int, into: np.ndarray, statistics: np.ndarray
    ) -> tuple[float, int]:
        """Write the gradient of a slice into `into`; return its share of the loss, and the number of correct labels."""
        self._trainer.epoch = epoch
        return self._trainer.gradient_of_part(rows, most_rows, weight, into)

    def update(self, first: int, stop: int, gradient: np.ndarray, update: Update) -> None:
        """Update the pieces from `first` to ``stop - 1`` with their gradient."""
        rate, step = update
        real, rule = self.parameters.dtype.type, self._optimizer
        of_step = rule.bias_corrected(rate, step) if isinstance(rule, Adam) else rate
        settings = kernel_rule(rule, rate, self._config, real)
        whole = Step(settings, real(of_step), real(0), True, True, self._state)
        slices = self._slices[self._first[first] : self._first[stop]]
        update_slices(self.parameters, gradient, int(self.cuts[first]), whole, slices)

    def note_statistics(self, statistics: np.ndarray) -> None:
        """Do nothing: no network of the kernels has statistics."""

    def statistics(self) -> tuple[np.ndarray, ...]:
        """Return nothing, for the same reason."""
        return ()

    def split(self, vector: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return copies of the weights and biases in a vector."""
        return self._trainer.arrays_of(vector)

    def pack(self, vector: np.ndarray, arrays: tuple[Sequence[np.ndarray], Sequence[np.ndarray]]) -> None:
        """Write weights and biases into a vector."""
        self._trainer.write_arrays(vector, arrays)

    def replace_data(self, data: TrainingData, alike: bool = False) -> None:
        """Take the slices of other data."""
        self._trainer.replace_data(data, alike)

    def release_data(self) -> None:
        """Let go of the data."""
        self._trainer.release_data()


def _pieces(slices: np.ndarray) -> np.ndarray:
    """Return the first slice of each piece, then the number of slices: consecutive slices, all weights or all biases.

    slices: as `Trainer.slices` returns them
    """
    firsts, at = [0], 0
    for k in range(1, len(slices)):
        if slices[k, 3] != slices[k - 1, 3] or slices[k, 0] - slices[at, 0] >= PIECE:
            firsts.append(k)
            at = k
    return np.array([*firsts, len(slices)])
