"""The loop of mini-batch training: for each epoch, an order of the rows, a learning rate, and a trainer's epoch."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import NamedTuple, Protocol

import numpy as np

from fastnn.backends import backend_name
from fastnn.backends.arguments import TrainingData
from fastnn.backends.base import Backend, EpochResult, Trainer, TrainerState
from fastnn.errors import SettingsError
from fastnn.interruptible import PER_DRAW, interruptible
from fastnn.network import Network
from fastnn.network.snapshot import Snapshot
from fastnn.optim.averaging import SWA, get_average
from fastnn.optim.config import TrainingConfig
from fastnn.optim.optimizers import Optimizer
from fastnn.randomness import generator
from fastnn.training.augmented import check_augmentable
from fastnn.training.frozen import FrozenLayers


class Job(NamedTuple):
    """What a loop trains."""

    network: Network  # the initial network, or the one to continue from
    data: TrainingData  # all samples
    rows: np.ndarray  # the samples to train on, (n,) int64
    config: TrainingConfig
    engine: Backend
    state: TrainerState | None  # the state to continue from
    first: int = 0  # the number of epochs before this run
    seconds: float = 0.0  # the training time of the running epoch so far
    order: np.ndarray | None = None  # the order of the running epoch, if the seed does not determine it
    image_shape: tuple[int, int] | None = None  # of the image in each row, if it is one
    frozen: FrozenLayers | None = None  # those before `network`, which make the inputs in `data`
    raw: TrainingData | None = None  # the data with the inputs of the frozen layers, if there are any
    new_feed: "Callable[[Job], Feed] | None" = None  # what trains on the samples; None: on `data` as they are
    n_stored: int | None = None  # the number of samples in blocks, of which `data` are the first ones

    @property
    def n_rows(self) -> int:
        """The number of samples to train on."""
        return len(self.rows) if self.n_stored is None else self.n_stored

    @property
    def last(self) -> int:
        """The number of the last epoch."""
        return self.first + self.config.epochs

    @property
    def trained_config(self) -> TrainingConfig:
        """The settings as they are for `network`, whose inputs may be the features of frozen layers."""
        return self.config if self.frozen is None else self.frozen.tail_config


def freeze(job: Job, n_held_out: int = 0) -> Job:
    """Return the job that trains the layers that are not frozen, as a network of their own; without any, `job` itself.

    n_held_out: the number of further samples whose features will be in memory
    """
    if not job.config.frozen:
        return job
    frozen = FrozenLayers(job.network, job.config, job.engine)
    frozen.check_memory(len(job.data.targets), n_held_out)
    return job._replace(
        network=frozen.tail,
        data=job.data._replace(inputs=frozen.features(job.data.inputs)),
        state=None if job.state is None else frozen.state_of_tail(job.state),
        frozen=frozen,
        raw=job.data,
    )


class Ended(NamedTuple):
    """How a loop ended."""

    stopped: str  # the reason, as in `TrainingResult.stopped`
    make_state: Callable[[], TrainerState | None]  # returns the optimizer's state, or None if there is none
    loss: float | None = None  # the final loss; None: that of the last epoch


class Position(NamedTuple):
    """Where a loop is within an epoch."""

    trainer: Trainer
    seconds: float  # the training time of the epoch so far; 0 between two epochs
    order: np.ndarray | None  # the order of the epoch, if the seed does not determine it


class Observer(Protocol):
    """Is told by a loop about each epoch."""

    def begin(self, position: Position) -> None:
        """Note that training is about to begin."""
        ...

    def parts(self, first: int, n_batches: int, make_network: Callable[[], Network]) -> Iterator[range]:
        """Yield the batches of an epoch, from `first` on, in parts to run one after the other.

        make_network: returns a copy of the current network
        """
        ...

    def end_part(self, position: Position, result: EpochResult) -> None:
        """Note that a part of an epoch has run, but not the last one. `result` is that of the epoch so far."""
        ...

    def end_epoch(
        self, result: EpochResult, rate: float, seconds: float, make_snapshot: Callable[[], Snapshot]
    ) -> str | None:
        """Evaluate and record an epoch; return the reason to stop, or None."""
        ...

    def between_epochs(self, position: Position) -> None:
        """Note that an epoch has ended, and the trainer is at the beginning of the next."""
        ...


class Feed(Protocol):
    """Trains a trainer on the data of one epoch after another.

    Attributes
    ----------
    trainer : Trainer
    n_rows : int
        The number of rows of the epoch.
    drawn : ndarray of shape (n_rows,), or None
        The order of the epoch, if the seed does not determine it.
    """

    trainer: Trainer
    n_rows: int
    drawn: np.ndarray | None

    def begin_epoch(self, epoch: int, first_batch: int, order: np.ndarray | None) -> float:
        """Prepare an epoch, counted from 0, from a batch on; return the seconds of it that count as training.

        order: the order of the epoch, if it goes on from a checkpoint that has it
        """
        ...

    def train(self, batches: range, rate: float) -> EpochResult:
        """Train on batches with consecutive numbers, which begin where the last call ended."""
        ...

    def close(self) -> None:
        """End what runs beside the training."""
        ...


def check(job: Job) -> None:
    """Raise SettingsError unless the state has the slots of this optimizer and the shapes of this network.

    And unless the data can be augmented, if the settings ask for it.
    """
    if job.config.augment is not None:
        check_augmentable(job.network, job.data, job.image_shape)
        if job.config.average is not None and job.network.statistics:
            expected = "expected one of the two: the statistics of an average need all rows in memory"
            raise SettingsError(f"average and augment are set for a network with BatchNorm, {expected}")
    network, optimizer, state = job.network, job.config.update_rule, job.state
    assert isinstance(optimizer, Optimizer)
    shapes = [array.shape for array in (*network.weights, *network.biases)]
    slots = [] if state is None else [[array.shape for array in (*slot[0], *slot[1])] for slot in state.slots]
    n_most = optimizer.n_slots + (job.config.average is not None)  # that of the optimizer's own weights is the last
    if state is not None and not (optimizer.n_slots <= len(slots) <= n_most and all(each == shapes for each in slots)):
        raise SettingsError(f"resume has {len(slots)} slots, expected {optimizer.n_slots} with the shapes of {network}")


def run(job: Job, observer: Observer) -> Ended:
    """Train until all epochs have run or the observer returns a reason to stop."""
    with closing((job.new_feed or _RowsInMemory)(job)) as feed:
        return _run(job, feed, observer)


def _run(job: Job, feed: Feed, observer: Observer) -> Ended:
    config, batch_size = job.config, job.config.batch_size or feed.n_rows
    average = get_average(config.average)
    begun = 0 if job.state is None else job.state.sums.batches
    seconds, kept_order = job.seconds, job.order
    observer.begin(Position(feed.trainer, seconds, kept_order))

    def state() -> TrainerState:
        return feed.trainer.state()._replace(backend=backend_name(job.engine))

    for epoch in range(job.first if job.state is None else job.state.epochs, job.last):
        seconds += feed.begin_epoch(epoch, begun, kept_order)
        rates, n_batches = config.rates(epoch, job.last), -(-feed.n_rows // batch_size)
        rate = rates[0] if len(rates) == 1 else config.rate(epoch, job.last)
        for part in observer.parts(begun, n_batches, feed.trainer.network):
            start = time.perf_counter()
            for some, rate_of_part in _with_rates(part, rates, n_batches):
                result = feed.train(some, rate_of_part)
                if result.failed_batch is not None:
                    break
            seconds += time.perf_counter() - start
            if result.failed_batch is not None:
                break
            if part.stop < n_batches:
                observer.end_part(Position(feed.trainer, seconds, feed.drawn), result)
        if isinstance(average, SWA) and result.failed_batch is None:
            feed.trainer.average_epoch(average.share(epoch, job.first, job.last))
        stopped = observer.end_epoch(result, rate, seconds, feed.trainer.snapshot)
        observer.between_epochs(Position(feed.trainer, 0.0, None))
        if stopped is not None:
            return Ended(stopped, state)
        begun, seconds, kept_order = 0, 0.0, None
    return Ended("epochs", state)


class _RowsInMemory:
    """Trains on the rows of a job in the order of each epoch; see `Feed`."""

    drawn: np.ndarray | None

    def __init__(self, job: Job) -> None:
        self._job, self._size = job, job.config.batch_size or len(job.rows)
        self.n_rows, self.drawn = len(job.rows), None
        self.trainer = job.engine.new_trainer(job.network, job.data, job.trained_config, job.state)
        self.trainer.prepare(len(job.rows), self._size)

    def begin_epoch(self, epoch: int, first_batch: int, order: np.ndarray | None) -> float:
        """Draw the order."""
        self._order = order_of_epoch(self._job, epoch) if order is None else order
        self.n_rows, self.drawn = len(self._order), self._order if callable(self._job.config.shuffle) else None
        return 0.0

    def train(self, batches: range, rate: float) -> EpochResult:
        """Train on consecutive batches."""
        return self.trainer.run_epoch(self._order, self._size, rate, batches)

    def close(self) -> None:
        """There is nothing to end."""


def _with_rates(batches: range, rates: list[float], n_batches: int) -> Iterator[tuple[range, float]]:
    """Yield consecutive batches of an epoch in parts, each with the rate of its part of the epoch."""
    first = batches.start
    for part, rate in enumerate(rates, start=1):
        stop = min(batches.stop, n_batches * part // len(rates))
        if stop > first:
            yield range(first, stop), rate
            first = stop


def order_of_epoch(job: Job, epoch: int) -> np.ndarray:
    """Return the row numbers in the order of this epoch."""
    rows, config = job.rows, job.config
    if callable(config.shuffle):
        order = np.asarray(config.shuffle(rows))
        if order.ndim != 1 or order.dtype.kind not in "iu" or not len(order) or not _are_rows(order, job):
            raise SettingsError(
                f"shuffle returned {order.dtype} of shape {order.shape}, expected row numbers to train on"
            )
        return order
    if not config.shuffle or config.batch_size is None:
        return rows
    return interruptible(generator(config.seed, "shuffle", epoch).permutation, rows, work=PER_DRAW * len(rows))


def _are_rows(numbers: np.ndarray, job: Job) -> bool:
    """Return whether all numbers are those of rows to train on."""
    n_samples = len(job.data.targets)
    if len(job.rows) < n_samples:
        return bool(np.isin(numbers, job.rows).all())
    return bool(numbers.min() >= 0 and numbers.max() < n_samples)
