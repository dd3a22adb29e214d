"""Decides after each epoch, by scikit-learn's rules, whether to stop, and the learning rate of the next epoch."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from fastnn.checks import check_number
from fastnn.errors import DivergenceError, SettingsError
from fastnn.estimators.reported_loss import ReportedLoss
from fastnn.network import Network
from fastnn.optim.schedules import Schedule
from fastnn.training.history import EpochRecord, History
from fastnn.training.train import EpochEnd, TrainingResult

LEARNING_RATES = ("constant", "invscaling", "adaptive")
# An adaptive rate is divided by DIVISOR. Once it is at most LOWEST_RATE, training stops instead.
DIVISOR, LOWEST_RATE = 5.0, 1e-6
# The attributes of a network that hold its arrays, in the order of the arguments of `Network.like`.
NETWORK_ARRAYS = ("weights", "biases", "statistics")


@dataclass(frozen=True)
class WatchState:
    """The state that `warm_start` and `partial_fit` carry from one fit to the next."""

    scores: list[float] = field(default_factory=list)  # the validation score of each epoch
    best_loss: float = np.inf  # the lowest training loss so far
    best_score: float = -np.inf  # the highest validation score so far
    seen: int = 0  # the number of samples trained on
    rate: float = 0.0  # the learning rate
    idle: int = 0  # the number of consecutive epochs without improvement
    squares: float = 0.0  # `ReportedLoss.squares` of the current network


@dataclass(frozen=True)
class FitRules:
    """The estimator's parameters that decide on the learning rate and on stopping."""

    learning_rate: str
    learning_rate_init: float
    power_t: float
    tol: float
    n_iter_no_change: float
    by_score: bool  # whether the validation score decides, rather than the training loss
    schedule: Any = None  # the user's schedule, as a plain value


class FitWatch:
    """Callback and schedule for `fastnn.train` that follow scikit-learn's rules.

    An epoch is an improvement if its training loss is at least `tol` below the lowest so far. With `by_score`, it is
    one if its validation score is at least `tol` above the highest so far. Training stops after more than
    `n_iter_no_change` consecutive epochs without improvement. With an adaptive learning rate, it continues at a fifth
    of the rate instead, until the rate is at most 1e-6.

    Parameters
    ----------
    state : WatchState
        The state after the previous fits.
    rules : FitRules
    n_samples : int
        The number of samples that an epoch trains on.
    score : function of EpochEnd, or None
        Returns the validation score of an epoch; None without validation data.
    verbose : bool
        Whether to print the loss and the score of each epoch.
    network : Network
        The network to train, which gives the layers of the best one in `load_state_dict`.
    loss : ReportedLoss
        Converts the loss of an epoch to the one that `tol` refers to.

    Attributes
    ----------
    expected_epochs : int or None
        The number of epochs to choose a backend for (`fastnn.backends.choice`).
    """

    expected_epochs: int | None = None

    def __init__(
        self,
        state: WatchState,
        rules: FitRules,
        n_samples: int,
        score: Callable[[EpochEnd], float] | None,
        verbose: bool,
        network: Network,
        loss: ReportedLoss,
    ) -> None:
        self.state = replace(state, scores=[*state.scores], squares=loss.squares(lambda: network))
        self.losses: list[float] = []  # the reported loss of each epoch of this fit
        self.reports_its_own_loss = loss.n_targets > 1
        self.best: Network | None = None
        # What a fit that diverges before any better epoch falls back to: the best network of an earlier fit.
        self._earlier = network if rules.by_score and np.isfinite(state.best_score) else None
        self._rules, self._n_samples, self._score, self._verbose = rules, n_samples, score, verbose
        self._network, self._loss = network, loss

    def state_dict(self) -> dict[str, Any]:
        """Return the state as JSON values and arrays: the fields of `WatchState`, the best network's arrays, the rules.

        JSON has no infinity: `best_loss` and `best_score` are None before the first epoch.
        """
        fields: dict[str, Any] = {
            name: value if np.isfinite(value) else None
            for name, value in asdict(self.state).items()
            if name != "scores"
        }
        best = None
        if self.best is not None:
            best = {kind: [*map(np.copy, getattr(self.best, kind))] for kind in NETWORK_ARRAYS}
        rules = {name: value if value != np.inf else None for name, value in asdict(self._rules).items()}
        lists = {"scores": np.array(self.state.scores, np.float64), "losses": np.array(self.losses, np.float64)}
        return {**fields, **lists, "best": best, "rules": rules}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state of `state_dict`; SettingsError if its network has other shapes or its rules differ."""
        rest = ("scores", "losses", "best", "rules")
        fields = {name: value for name, value in state.items() if name not in rest and value is not None}
        for name, value in asdict(self._rules).items():
            was = state.get("rules", {}).get(name)
            if was != (None if value == np.inf else value):
                raise SettingsError(f"{name} was {was!r} in the fit to continue, found {value!r}")
        try:
            lists = {name: np.asarray(state[name], np.float64).tolist() for name in ("scores", "losses")}
            loaded = replace(WatchState(), **fields, scores=lists["scores"])
            best = state["best"]
        except (KeyError, TypeError, ValueError) as error:
            raise SettingsError(f"the state is not that of a fit: {error}") from error
        self.best = None if best is None else self._network.like(*(best[kind] for kind in NETWORK_ARRAYS))
        self.state, self.losses = loaded, lists["losses"]

    def factor(self) -> float:
        """Return the learning rate of the next epoch divided by the initial one."""
        return self.state.rate / self._rules.learning_rate_init

    def catch_up(self, result: TrainingResult, before: WatchState) -> None:
        """Count the epochs of a fit that began at `before`: an interrupt may have kept the last from the watch."""
        history, squares = result.history, self._loss.squares(lambda: result.network)
        for record in history[len(self.losses) :]:
            self._count(self._loss.reported(record.loss, self.state.squares, squares), squares)
        self.state = replace(self.state, seen=max(self.state.seen, before.seen + len(history) * self._n_samples))

    def kept(self, error: DivergenceError) -> TrainingResult | None:
        """Return the result of a fit that diverged after a best epoch, with the failed epoch as NaN; None without one.

        Only with `by_score`. `best` is then the network to keep.
        """
        self.best = self.best or self._earlier
        if self.best is None:
            return None
        result: TrainingResult = error.result
        nan, epoch = float("nan"), 1 + len(result.history)
        failed = EpochRecord(epoch, self.state.rate, nan, nan, nan, nan, 0.0)
        self._count(nan, 0.0)
        self.state.scores.append(nan)
        self.state = replace(self.state, seen=self.state.seen + self._n_samples)
        return replace(result, history=History([*result.history, failed]), loss=nan)

    def last_loss(self, loss: float) -> float:
        """Return the reported loss of the last epoch; without one, that of the initial weights, whose loss is given."""
        return self.losses[-1] if self.losses else self._loss.reported(loss, self.state.squares, self.state.squares)

    def _count(self, loss: float, squares: float) -> None:
        self.losses.append(loss)
        self.state = replace(self.state, squares=squares)

    def __getstate__(self) -> dict[str, Any]:
        # An error of a fit holds the watch. When it is sent to another process, the validation data stay behind.
        return {**vars(self), "_score": None}

    def __call__(self, end: EpochEnd) -> bool:
        """Record an epoch; return whether to stop after it."""
        rules, squares = self._rules, self._loss.squares(lambda: end.network)
        loss = self._loss.reported(end.record.loss, self.state.squares, squares)
        self.losses.append(loss)
        state, score = self.state, np.nan if self._score is None else self._score(end)
        if self._score is not None:
            state.scores.append(score)
        if self._verbose:
            print(f"Iteration {end.record.epoch}, loss = {loss:.8f}")
            if self._score is not None:
                print(f"Validation score: {score:f}")
        if rules.by_score:
            worse = score < state.best_score + rules.tol
            if score > state.best_score:
                self.best = end.network
        else:
            worse = loss > state.best_loss - rules.tol
        self.state = state = replace(
            state,
            best_loss=min(loss, state.best_loss),
            best_score=max(score, state.best_score) if score == score else state.best_score,
            seen=state.seen + self._n_samples,
            idle=state.idle + 1 if worse else 0,
            squares=squares,
        )
        if rules.learning_rate == "invscaling":
            self.state = state = replace(state, rate=_inverse_scaled(rules, state.seen))
        if state.idle <= rules.n_iter_no_change:
            return False
        adaptive = rules.learning_rate == "adaptive" and state.rate > LOWEST_RATE
        self.state = replace(state, idle=0, rate=state.rate / DIVISOR) if adaptive else state
        if self._verbose:
            metric = "Validation score" if rules.by_score else "Training loss"
            action = f"setting the learning rate to {self.state.rate:f}" if adaptive else "stopping"
            epochs = f"more than {rules.n_iter_no_change} epochs"
            print(f"{metric} did not improve by tol={rules.tol:f} for {epochs}: {action}.")
        return not adaptive


class WatchedSchedule:
    """The schedule of a fit: the rate of a `FitWatch`, times the user's schedule over at least `max_iter` epochs."""

    def __init__(self, watch: FitWatch, schedule: Schedule, max_iter: int) -> None:
        self._watch, self._schedule, self._max_iter = watch, schedule, max_iter

    def __call__(self, epoch: int, epochs: int) -> float:
        """Return the factor for the learning rate of an epoch."""
        factor = self._schedule(epoch, max(epochs, self._max_iter))
        return self._watch.factor() * check_number("the schedule's factor", factor, 0)


def _inverse_scaled(rules: FitRules, seen: int) -> float:
    """Return the rate of "invscaling" after `seen` samples; 0 if the power is beyond the range of float64."""
    try:
        return float(rules.learning_rate_init / (seen + 1) ** rules.power_t)
    except OverflowError:
        return 0.0
