"""Training with clipped gradients: fused kernels compute those of a batch, and NumPy clips them and updates.

The fused kernels update a layer before they know the gradients of all others, so they cannot clip by themselves.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.backends import layerwise
from fastnn.backends.arguments import TrainingData
from fastnn.backends.base import LossAndGradients, TrainerState
from fastnn.network import Network
from fastnn.optim.config import TrainingConfig


class ClippingTrainer(layerwise.Trainer):
    """The layer-by-layer trainer, with another one for the gradients.

    new_gradients: returns a trainer for these data that keeps the gradients of its last batch as its only slot
    """

    def __init__(
        self,
        new_gradients: Callable[[TrainingData], Any],
        ops: Any,
        network: Network,
        data: TrainingData,
        config: TrainingConfig,
        state: TrainerState | None = None,
    ) -> None:
        super().__init__(ops, network, data, config, state)
        self._new_gradients, self._kernels = new_gradients, new_gradients(data)

    def prepare(self, n_rows: int, batch_size: int) -> None:
        """Allocate memory, and load or compile the kernel."""
        self._kernels.prepare(min(batch_size, n_rows), batch_size)

    def replace_data(self, data: TrainingData, alike: bool = False) -> None:
        """Train on other data from the next call of `run_epoch` on."""
        super().replace_data(data)
        if alike:
            self._kernels.replace_data(data, alike)
        else:
            self._kernels = self._new_gradients(data)

    def release_data(self) -> None:
        """Let go of the data."""
        super().release_data()
        self._kernels.release_data()

    def _train_batch(self, rows: np.ndarray, keys: np.ndarray, learning_rate: float) -> tuple[float, LossAndGradients]:
        network, weights = self._network, self._data.sample_weight
        total = float(len(rows) if weights is None else weights[rows].sum(dtype=np.float64))
        self._kernels.move_to(network.weights, network.biases)
        self._kernels.epoch = self._epoch  # it determines the units that are dropped
        loss, accuracy, _ = self._kernels.run_epoch(rows, len(rows), 0.0)
        n_correct = 0 if np.isnan(accuracy) else round(accuracy * len(rows))
        ((dweights, dbiases),) = self._kernels.state().slots
        result = LossAndGradients(loss, list(dweights), list(dbiases), n_correct)
        if np.isfinite(loss):
            with np.errstate(over="ignore", invalid="ignore"):  # the next loss shows whether the run diverges
                self._update(result, learning_rate)
        return total, result
