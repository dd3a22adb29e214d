"""`TrainingResult`, and the exception that carries it after Ctrl-C."""

from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import numpy as np

from fastnn.backends.base import TrainerState
from fastnn.network import Network
from fastnn.optim.config import TrainingConfig
from fastnn.training.history import NAN, History
from fastnn.training.rate_search import RateSearch


@dataclass(frozen=True)
class TrainingResult:
    """The result of `train`.

    Attributes
    ----------
    network : Network
        The trained network.
    history : History
        One record per epoch.
    best_epoch : int
        The epoch whose weights `network` has: with early stopping the best one, otherwise the last.
    stopped : str
        Why the run ended: "epochs" (all of them ran), "early" (early stopping), "callback", "interrupted", "diverged"
        or "failed" (another exception). L-BFGS may also end with "converged", or with "stalled" if its line search
        finds no lower loss.
    backend : str
        The backend that trained, "numba" or "numpy"; with the setting "auto", the one that was chosen.
    state : TrainerState or None
        The optimizer's state, for `train(resume=...)`. None if `network` is not the network of the last epoch, if an
        exception ended the run, and for L-BFGS.
    loss : float
        The loss of the last epoch. If L-BFGS converged before its first iteration, the initial loss.
    config : TrainingConfig
        The settings of the run, with the number of the learning rate that it used (None for L-BFGS).
    rate_search : RateSearch or None
        The search for the learning rate, if that was "auto".

    Examples
    --------
    >>> import fastnn
    >>> data = fastnn.load_digits()
    >>> result = fastnn.train(fastnn.Network.for_data(data, (16,)), data, epochs=3)
    >>> result.stopped, result.best_epoch, len(result.history)
    ('epochs', 3, 3)
    >>> result.config.learning_rate
    0.1
    """

    network: Network
    history: History
    best_epoch: int
    stopped: str
    backend: str
    state: TrainerState | None = field(default=None, repr=False)
    loss: float = NAN
    config: TrainingConfig = field(default_factory=TrainingConfig, repr=False)
    rate_search: RateSearch | None = field(default=None, repr=False)

    def digest(self) -> str:
        """Return the SHA-256 of the network's arrays and of the history without its seconds, in hex.

        Runs with equal digests have the same bits. Digests depend on the CPU and on the versions of NumPy and Numba.

        Examples
        --------
        >>> import fastnn
        >>> data = fastnn.load_digits()
        >>> network = fastnn.Network.for_data(data, (16,))
        >>> results = [fastnn.train(network, data, epochs=2, backend="numpy") for _ in range(2)]
        >>> results[0].digest() == results[1].digest()
        True
        """
        found, columns = sha256(), self.history.arrays()
        del columns["seconds"]
        metrics = [np.where(np.isnan(column), np.nan, column) for column in columns.values()]  # one NaN for all
        network = self.network
        for array in (*network.weights, *network.biases, *network.statistics, *metrics):
            found.update(f"{array.dtype.str} {array.shape}".encode())
            found.update(np.ascontiguousarray(array).data)
        return found.hexdigest()

    def __repr__(self) -> str:
        return f"TrainingResult({self.network}, {len(self.history)} epochs, stopped: {self.stopped})"


class TrainingInterrupted(KeyboardInterrupt):
    """Raised when Ctrl-C interrupts `train`. It is a KeyboardInterrupt.

    Attributes
    ----------
    result : TrainingResult
        The network after the last complete epoch (with early stopping, after the best one), and the history.

    Examples
    --------
    >>> import fastnn
    >>> def press_ctrl_c(end):
    ...     raise KeyboardInterrupt
    >>> data = fastnn.load_digits()
    >>> try:
    ...     fastnn.train(fastnn.Network.for_data(data, (16,)), data, callbacks=[press_ctrl_c])
    ... except fastnn.TrainingInterrupted as interrupt:
    ...     len(interrupt.result.history)
    1
    """

    def __init__(self, result: TrainingResult) -> None:
        super().__init__()
        self.result = result

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.result,), vars(self)  # an exception would be made of its `args`, of which it has none
