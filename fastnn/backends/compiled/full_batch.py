"""The loss of all the data as a function of all parameters, on the fused kernels, for L-BFGS."""

import numpy as np

from fastnn.backends import layerwise
from fastnn.backends.arguments import TrainingData, write_parameters
from fastnn.backends.base import Objective
from fastnn.backends.compiled import operations
from fastnn.backends.compiled.fused import Trainer
from fastnn.backends.compiled.trainers import fused_trainer
from fastnn.network import Network
from fastnn.network.snapshot import Snapshot
from fastnn.optim.config import TrainingConfig


class FusedObjective:
    """`fastnn.backends.base.Objective` for a network that the fused kernels cover; a vector has the kernels' layout.

    The data are laid out and the arguments of the kernel prepared only once.
    """

    def __init__(self, make: type[Trainer], network: Network, data: TrainingData, config: TrainingConfig) -> None:
        self._network, self._trainer = network, make(network, data, config, None, config.threads)
        self._parameters, self._gradient = self._trainer.flat_arrays()
        self._run = self._trainer.whole_pass()
        self.start, self.n_correct = self._parameters.astype(np.float64), 0

    def evaluate(self, at: np.ndarray, gradient: np.ndarray) -> float:
        """Return the loss at a vector, and write its gradient."""
        if not write_parameters(self._parameters, at):
            self.n_correct = 0
            return float("nan")
        loss, self.n_correct = self._run()
        gradient[:] = self._gradient
        return loss

    def snapshot(self, at: np.ndarray) -> Snapshot:
        """Return the network at a vector, which must not change before the network is made."""
        template, unpack = self._network, self._trainer.arrays_of
        return Snapshot(lambda: template.like(*unpack(at.astype(template.dtype))))


def objective(network: Network, data: TrainingData, config: TrainingConfig) -> Objective:
    """Return the loss and gradients of all the data as a function of all parameters."""
    make = fused_trainer(network, config)
    if make is None:
        return layerwise.Objective(operations.with_threads(config.threads), network, data, config)
    return FusedObjective(make, network, data, config)
