"""Decides after each epoch, by scikit-learn's rules, whether to stop, and the learning rate of the next epoch."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from fastnn.network import Network
from fastnn.training.train import EpochEnd

LEARNING_RATES = ("constant", "invscaling", "adaptive")
# An adaptive rate is divided by DIVISOR. Once it is at most LOWEST_RATE, training stops instead.
DIVISOR, LOWEST_RATE = 5.0, 1e-6


@dataclass(frozen=True)
class WatchState:
    """The state that `warm_start` and `partial_fit` carry from one fit to the next.

    Attributes
    ----------
    scores : list of float
        The validation score of each epoch.
    best_loss, best_score : float
        The lowest training loss and the highest validation score so far.
    seen : int
        The number of samples trained on.
    rate : float
        The learning rate.
    idle : int
        The number of consecutive epochs without improvement.
    """

    scores: list[float] = field(default_factory=list)
    best_loss: float = np.inf
    best_score: float = -np.inf
    seen: int = 0
    rate: float = 0.0
    idle: int = 0


class FitWatch:
    """Callback and schedule for `fastnn.train` that follow scikit-learn's rules.

    An epoch is an improvement if its training loss is at least `tol` below the lowest so far. With `by_score`, it is
    one if its validation score is at least `tol` above the highest so far. Training stops after more than `patience`
    consecutive epochs without improvement. With an adaptive learning rate, it continues at a fifth of the rate instead,
    until the rate is at most 1e-6.
    """

    def __init__(
        self,
        state: WatchState,
        *,
        learning_rate: str,
        rate: float,
        power: float,
        tol: float,
        patience: float,
        by_score: bool,
        n_samples: int,
        score: Callable[[EpochEnd], float] | None,
        verbose: bool,
    ) -> None:
        self.state = replace(state, scores=[*state.scores])
        self.best: Network | None = None
        self._learning_rate, self._first_rate, self._power = learning_rate, rate, power
        self._tol, self._patience, self._by_score = tol, patience, by_score
        self._n_samples, self._score, self._verbose = n_samples, score, verbose

    def factor(self) -> float:
        """Return the learning rate of the next epoch divided by the initial one."""
        return self.state.rate / self._first_rate

    def __call__(self, end: EpochEnd) -> bool:
        """Record an epoch; return whether to stop after it."""
        state, loss = self.state, end.record.loss
        score = np.nan if self._score is None else self._score(end)
        if self._score is not None:
            state.scores.append(score)
        if self._verbose:
            print(f"Iteration {end.record.epoch}, loss = {loss:.8f}")
            if self._score is not None:
                print(f"Validation score: {score:f}")
        if self._by_score:
            worse = score < state.best_score + self._tol
            if score > state.best_score:
                self.best = end.network
        else:
            worse = loss > state.best_loss - self._tol
        self.state = state = replace(
            state,
            best_loss=min(loss, state.best_loss),
            best_score=max(score, state.best_score) if score == score else state.best_score,
            seen=state.seen + self._n_samples,
            idle=state.idle + 1 if worse else 0,
        )
        if self._learning_rate == "invscaling":
            self.state = state = replace(state, rate=self._first_rate / (state.seen + 1) ** self._power)
        if state.idle <= self._patience:
            return False
        adaptive = self._learning_rate == "adaptive" and state.rate > LOWEST_RATE
        self.state = replace(state, idle=0, rate=state.rate / DIVISOR) if adaptive else state
        if self._verbose:
            metric = "Validation score" if self._by_score else "Training loss"
            action = f"setting the learning rate to {self.state.rate:f}" if adaptive else "stopping"
            print(f"{metric} did not improve by tol={self._tol:f} for more than {self._patience} epochs: {action}.")
        return not adaptive
