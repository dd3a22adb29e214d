"""The loop of mini-batch training: for each epoch, an order of the rows, a learning rate, and a trainer's epoch."""

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fastnn.backends.base import Backend, EpochResult, TrainerState, TrainingData
from fastnn.errors import SettingsError
from fastnn.network import Network
from fastnn.optim.config import TrainingConfig
from fastnn.optim.optimizers import Optimizer
from fastnn.randomness import generator


class Job(NamedTuple):
    """What a loop trains."""

    network: Network  # the initial network
    data: TrainingData  # all samples
    rows: np.ndarray  # the samples to train on, (n,) int64
    config: TrainingConfig
    engine: Backend
    state: TrainerState | None  # the state to continue from

    @property
    def first(self) -> int:
        """The number of epochs before this run."""
        return 0 if self.state is None else self.state.epochs

    @property
    def last(self) -> int:
        """The number of the last epoch."""
        return self.first + self.config.epochs


class Ended(NamedTuple):
    """How a loop ended."""

    stopped: str  # the reason, as in `TrainingResult.stopped`
    make_state: Callable[[], TrainerState | None]  # returns the optimizer's state, or None if there is none
    loss: float | None = None  # the final loss; None: that of the last epoch


# Called after each epoch with its result, its learning rate, its seconds and a function that returns the network.
# Returns the reason to stop, or None.
EndEpoch = Callable[[EpochResult, float, float, Callable[[], Network]], str | None]


def check(job: Job) -> None:
    """Raise SettingsError unless the state has the slots of this optimizer and the shapes of this network."""
    network, optimizer, state = job.network, job.config.update_rule, job.state
    assert isinstance(optimizer, Optimizer)
    shapes = [array.shape for array in (*network.weights, *network.biases)]
    slots = [] if state is None else [[array.shape for array in (*slot[0], *slot[1])] for slot in state.slots]
    if state is not None and slots != [shapes] * optimizer.n_slots:
        raise SettingsError(f"resume has {len(slots)} slots, expected {optimizer.n_slots} with the shapes of {network}")


def run(job: Job, end_epoch: EndEpoch) -> Ended:
    """Train until all epochs have run or `end_epoch` returns a reason to stop."""
    config, batch_size = job.config, job.config.batch_size or len(job.rows)
    trainer = job.engine.new_trainer(job.network, job.data, config, job.state)
    trainer.prepare(len(job.rows), batch_size)
    for epoch in range(job.first, job.last):
        order, rate = _order(job.rows, config, epoch), config.rate(epoch, job.last)
        start = time.perf_counter()
        result = trainer.run_epoch(order, batch_size, rate)
        stopped = end_epoch(result, rate, time.perf_counter() - start, trainer.network)
        if stopped is not None:
            return Ended(stopped, trainer.state)
    return Ended("epochs", trainer.state)


def _order(rows: np.ndarray, config: TrainingConfig, epoch: int) -> np.ndarray:
    """Return the row numbers in the order of this epoch."""
    if callable(config.shuffle):
        order = np.asarray(config.shuffle(rows))
        if order.ndim != 1 or order.dtype.kind not in "iu" or not len(order) or not np.isin(order, rows).all():
            raise SettingsError(
                f"shuffle returned {order.dtype} of shape {order.shape}, expected row numbers to train on"
            )
        return order
    if not config.shuffle or config.batch_size is None:
        return rows
    return generator(config.seed, "shuffle", epoch).permutation(rows)
