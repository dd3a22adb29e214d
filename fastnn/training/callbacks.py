"""`EpochEnd` and `BatchStart`, the arguments of a callback, and how `train` calls its other methods."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from fastnn.checks import check_integer
from fastnn.datasets.dataset import Dataset
from fastnn.network import Network
from fastnn.network.snapshot import Snapshot
from fastnn.optim.config import TrainingConfig
from fastnn.training.history import EpochRecord, History


@dataclass(frozen=True)
class EpochEnd:
    """The argument of a callback: the state of a run after an epoch.

    Attributes
    ----------
    record : EpochRecord
        The metrics of this epoch.
    history : History
        The records of all epochs so far, this one included.
    epochs : int
        The number of the last epoch, unless the run stops earlier.
    validation_logits : ndarray of shape (N, C), or None
        The network's logits for the validation data; None without, or if they are in blocks.
    n_samples : int
        The number of samples that an epoch trains on.
    snapshot : Snapshot
        Makes the `network`.
    """

    record: EpochRecord
    history: History
    epochs: int
    validation_logits: np.ndarray | None = field(repr=False)
    n_samples: int
    snapshot: Snapshot = field(repr=False)

    @property
    def network(self) -> Network:
        """The current network. It is made when a callback first asks for it."""
        return self.snapshot.network


class Setup(NamedTuple):
    """What a run trains."""

    data: Dataset  # the training data, those held out of them included; of data in blocks, the first rows
    validation: Dataset | None  # likewise
    config: TrainingConfig  # the learning rate is a number; None for L-BFGS
    backend: str  # "numba" or "numpy"


@dataclass(frozen=True)
class BatchStart:
    """The argument of a callback's method `before_batches`: where a run is before it trains on some batches.

    Attributes
    ----------
    epoch : int
        The number of the epoch, counted from 1.
    batch : int
        The number of batches of this epoch that have run.
    batches : int
        The number of batches in this epoch. An iteration of L-BFGS counts as one batch.
    loss, accuracy : float
        Means over the batches of this epoch that have run, as in `EpochRecord`; NaN before the first.
    setup : Setup
        What the run trains; the same object each time.
    snapshot : Snapshot
        Makes the `network`.
    """

    epoch: int
    batch: int
    batches: int
    loss: float
    accuracy: float
    setup: Setup = field(repr=False)
    snapshot: Snapshot = field(repr=False)

    @property
    def network(self) -> Network:
        """A copy of the current network, which can be made during the call only; SettingsError if it diverges."""
        return self.snapshot.network


Callback = Callable[[EpochEnd], object]


def paced(callbacks: Sequence[Callback], batches: range, make_start: Callable[[int], BatchStart]) -> Iterator[range]:
    """Yield consecutive batches in the parts that the callbacks' methods `before_batches` ask for.

    make_start: returns the argument of the methods before the batch with this number
    """
    methods = [each for each in (getattr(callback, "before_batches", None) for callback in callbacks) if callable(each)]
    first = batches.start
    while first < batches.stop:
        sizes = []
        if methods:
            start = make_start(first)
            sizes = [size for size in (method(start) for method in methods) if size is not None]
        stop = min([batches.stop, *(first + check_integer("the result of before_batches", n, 1) for n in sizes)])
        yield range(first, stop)
        first = stop


def call_method(callbacks: Sequence[Callback], name: str, *arguments: object) -> None:
    """Call the method with this name of each callback that has one: "begin", "ended" or "close"."""
    for callback in callbacks:
        method = getattr(callback, name, None)
        if callable(method):
            method(*arguments)
