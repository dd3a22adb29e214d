"""`EpochEnd`, the argument of a callback, and how `train` ends a callback."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from fastnn.network import Network
from fastnn.network.snapshot import Snapshot
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
        The network's logits for the validation data; None without validation data.
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


Callback = Callable[[EpochEnd], object]


def call_method(callbacks: Sequence[Callback], name: str) -> None:
    """Call the method with this name of each callback that has one: "begin" or "close"."""
    for callback in callbacks:
        method = getattr(callback, name, None)
        if callable(method):
            method()
