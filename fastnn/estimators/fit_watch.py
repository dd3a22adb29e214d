"""What scikit-learn's estimators decide after each epoch: the learning rate of the next, and whether there is one."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from fastnn.network import Network
from fastnn.training.train import EpochEnd

LEARNING_RATES = ("constant", "invscaling", "adaptive")
# 'adaptive' divides the rate by this, and gives up once it is not above LOWEST_RATE any more.
DIVISOR, LOWEST_RATE = 5.0, 1e-6


@dataclass(frozen=True)
class WatchState:
    """What is carried on from one fit to the next by `warm_start` and `partial_fit`.

    scores: of the validation data, epoch by epoch; best_loss, best_score: so far; seen: samples trained on; rate: the
    learning rate, for SGD; idle: epochs without improvement.
    """

    scores: list[float] = field(default_factory=list)
    best_loss: float = np.inf
    best_score: float = -np.inf
    seen: int = 0
    rate: float = 0.0
    idle: int = 0


class FitWatch:
    """The callback of `fastnn.train`, and its schedule, by scikit-learn's rules.

    An epoch has improved on the best before it if its loss is lower by `tol` or more, or with early stopping, if its
    validation score is higher by `tol` or more. After more than `patience` epochs in a row that have not, training
    ends, or with an adaptive rate, goes on with a fifth of it.
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
        """The schedule's part: the learning rate of the next epoch over that of the first."""
        return self.state.rate / self._first_rate

    def __call__(self, end: EpochEnd) -> bool:
        """Take note of an epoch; whether to stop after it."""
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
            what = "Validation score" if self._by_score else "Training loss"
            then = f"setting the learning rate to {self.state.rate:f}" if adaptive else "stopping"
            print(f"{what} did not improve by tol={self._tol:f} for {self._patience} epochs: {then}.")
        return not adaptive
