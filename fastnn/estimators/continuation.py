"""What a `partial_fit` leaves for the next one: a trainer that is laid out already.

Nothing of this is stored in the estimator, so copies, clones and pickles have none of it, and the memory is free when
the estimator is. The trainer is used only while the parameters, the network and the optimizer's state of the estimator
are those that it left. It keeps no data.
"""

import math
import time
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from types import FunctionType
from typing import Any, cast

import numpy as np
from sklearn.utils import check_random_state

from fastnn.backends import get_backend
from fastnn.backends.arguments import TrainingData, check_sample_weight
from fastnn.backends.base import Trainer, TrainerState
from fastnn.backends.threads import BLAS_LIMIT
from fastnn.checks import check_number, is_integer
from fastnn.datasets.dataset import Dataset
from fastnn.errors import SettingsError
from fastnn.estimators.fit_watch import FitWatch, WatchedSchedule
from fastnn.estimators.parameters import parameter_defaults
from fastnn.estimators.plain_data import plain_rows
from fastnn.estimators.row_order import ScikitOrder
from fastnn.evaluation.evaluate import check_fit
from fastnn.network import Network
from fastnn.network.layers import array_shapes
from fastnn.optim.config import TrainingConfig
from fastnn.training.callbacks import EpochEnd
from fastnn.training.history import NAN, EpochRecord, History
from fastnn.training.result import TrainingInterrupted, TrainingResult

# The types of parameters whose values cannot change in place. A generator is one that is to be drawn from.
_FIXED = (type(None), bool, int, float, str, type, np.generic, np.dtype, np.random.RandomState, FunctionType)


class LaterState:
    """The optimizer's state after a `partial_fit`. Few of them are ever looked at: it is made when it is needed."""

    def __init__(self, make: Callable[[], TrainerState], backend: str) -> None:
        self._make, self._backend = make, backend

    def __reduce__(self) -> tuple[Any, ...]:
        return TrainerState, tuple(self.state())  # pickles and copies have the state itself

    def state(self) -> TrainerState:
        """Return the state."""
        return self._make()._replace(backend=self._backend)


def as_state(state: TrainerState | LaterState | None) -> TrainerState | None:
    """Return the optimizer's state of an estimator."""
    return state.state() if isinstance(state, LaterState) else state


@dataclass
class Continuation:
    """What the next `partial_fit` of an estimator goes on from.

    parameters: those of the estimator, see `fixed_parameters`
    network: the network that the last call has left
    state: likewise the optimizer's state
    backend: the name of the backend of the last call
    config: the settings of the last call
    trainer: the trainer; None after a first call, because there may be no second one
    epochs: the number of epochs since the optimizer began
    order: the last order of rows, if every call draws the same one
    """

    parameters: tuple[Any, ...]
    network: Network
    state: TrainerState | LaterState
    backend: str
    config: TrainingConfig
    epochs: int
    trainer: Trainer | None = None
    order: np.ndarray | None = None

    def belongs_to(self, estimator: Any) -> bool:
        """Return whether the estimator is as the last call has left it, except for numbers changed in place."""
        values = vars(estimator)
        if values.get("network_") is not self.network or values.get("_state") is not self.state:
            return False
        return fixed_parameters(estimator) == self.parameters


def fixed_parameters(estimator: Any) -> tuple[Any, ...] | None:
    """Return the parameters of an estimator to compare with later ones; None if one of them may change in place.

    They are the types and the values: 1 and True are equal, but may mean different things.
    """
    found: list[Any] = []
    for name in parameter_defaults(type(estimator)):  # type: ignore[arg-type]
        value = getattr(estimator, name)
        if isinstance(value, np.ndarray):
            value = value.tolist()
        if isinstance(value, (list, tuple)):
            value = tuple(value)
        elif not isinstance(value, _FIXED):
            return None
        found += (type(value), value)
    return tuple(found)


# The continuation of each estimator, by its identity, with a reference that removes it when the estimator is gone.
_KEPT: dict[int, tuple["weakref.ref[Any]", Continuation]] = {}


def keep(estimator: Any, continuation: Continuation) -> None:
    """Keep what the next `partial_fit` of an estimator goes on from."""
    key = id(estimator)
    _KEPT[key] = (weakref.ref(estimator, lambda _: _KEPT.pop(key, None)), continuation)


def take(estimator: Any) -> Continuation | None:
    """Return what was kept, and keep it no longer: a call that fails leaves nothing behind."""
    reference, continuation = _KEPT.pop(id(estimator), (None, None))
    if reference is None or continuation is None or reference() is not estimator:
        return None
    return continuation if continuation.belongs_to(estimator) else None


def keep_first(estimator: Any, result: TrainingResult) -> None:
    """Keep what an ordinary `partial_fit` with this result leaves for the next one, if there can be anything."""
    parameters, network, state = fixed_parameters(estimator), estimator.network_, estimator._state
    plain = not (np.any(estimator.dropout) or network.statistics)
    for name in ("augment", "clip_norm", "clip_value", "average"):
        plain = plain and getattr(estimator, name) is None
    if parameters is not None and plain and isinstance(state, TrainerState):
        config = result.config.replace(schedule="constant", shuffle=True)
        keep(estimator, Continuation(parameters, network, state, result.backend, config, state.epochs))


def continue_fit(estimator: Any, kept: Continuation, X: Any, y: Any, sample_weight: Any) -> bool:
    """Do the work of `partial_fit` with what was kept: train for one epoch and set the attributes.

    Returns False if the ordinary way has to do the work, which it then does from the beginning: if the epoch diverges,
    or if the network has other shapes than it had. Raises what the ordinary way raises otherwise.
    """
    estimator._check_call(y, warm=True, incremental=True)
    network = kept.network
    data = _checked(estimator, network, X, y, sample_weight)
    if data is None or not _has_its_shapes(network):
        return False
    n_rows, history, watch_state = data.inputs.shape[0], estimator._history, estimator._watch_state
    batch_size = estimator._batch_size(n_rows)
    watch = estimator._make_watch(watch_state, network, n_rows, data.sample_weight, None, None, incremental=True)
    try:
        threads = kept.config.threads or 1
        with BLAS_LIMIT.hold(threads) if kept.backend == "numpy" else nullcontext():
            trainer = _prepared_trainer(kept, data)
            rate = _rate(estimator, kept, watch)
            start = time.perf_counter()
            result = trainer.run_epoch(_order(estimator, kept, n_rows), batch_size, rate)
            seconds = time.perf_counter() - start
        if result.failed_batch is not None or not math.isfinite(result.loss):
            return False
        try:
            snapshot = trainer.snapshot()
        except SettingsError:  # a weight is not finite
            return False
        kept.epochs += 1
        record = EpochRecord(kept.epochs, rate, result.loss, result.accuracy, NAN, NAN, seconds)
        watch(EpochEnd(record, history, kept.epochs, None, n_rows, snapshot))
        trainer.release_data()
        kept.network, kept.state = snapshot.network, LaterState(trainer.state_for_later(), kept.backend)
    except KeyboardInterrupt:
        interrupted = TrainingResult(network, History(), kept.epochs, "interrupted", kept.backend, config=kept.config)
        estimator._store(interrupted, watch, history)
        raise TrainingInterrupted(interrupted) from None
    records, state = History([record]), cast(TrainerState, kept.state)
    estimator._store(
        TrainingResult(kept.network, records, kept.epochs, "epochs", kept.backend, state, result.loss), watch, history
    )
    keep(estimator, kept)
    return True


def _checked(estimator: Any, network: Network, X: Any, y: Any, sample_weight: Any) -> TrainingData | None:
    """Return the data after the checks of `fit`; None if the targets are for another network."""
    inputs = None
    if network.standardization is None and "feature_names_in_" not in vars(estimator):
        inputs = plain_rows(X, network.n_inputs, network.dtype)
    targets = None if inputs is None else estimator._plain_targets(y, len(inputs))
    if inputs is None or targets is None:
        X, y = estimator._check_data(X, y, reset=False)
        targets = estimator._encode(y, warm=True, incremental=True)
        if estimator._output(targets) != (network.output, network.n_outputs):
            return None
        inputs, targets = check_fit(network, Dataset(X, targets, name="the training data"))
    weight = estimator._total_weight(sample_weight, targets)
    return TrainingData(inputs, targets, check_sample_weight(weight, len(targets), network.dtype))


def _has_its_shapes(network: Network) -> bool:
    """Return whether a network has the arrays that its layers need: a program may have replaced them."""
    network.check_arrays()
    expected = [shapes for shapes, _ in array_shapes(network.layers, network.shapes[:-1]) if shapes]
    pairs = zip(network.weights, network.biases, strict=True)
    return [(np.shape(weight), np.shape(bias)) for weight, bias in pairs] == expected


def _prepared_trainer(kept: Continuation, data: TrainingData) -> Trainer:
    """Return the trainer with these data, and with the weights of the network, which may have changed in place."""
    if kept.trainer is None:
        state = as_state(kept.state)
        kept.trainer = get_backend(kept.backend).new_trainer(kept.network, data, kept.config, state)
    else:
        kept.trainer.replace_data(data)
        kept.trainer.move_to(kept.network.weights, kept.network.biases)
    return kept.trainer


def _rate(estimator: Any, kept: Continuation, watch: FitWatch) -> float:
    """Return the learning rate of the epoch, as `TrainingConfig.rate` computes it."""
    schedule = WatchedSchedule(watch, estimator._schedule(), estimator.max_iter)
    factor = check_number("the schedule's factor", schedule(kept.epochs, kept.epochs + 1), 0)
    return float(estimator.learning_rate_init) * factor


def _order(estimator: Any, kept: Continuation, n_rows: int) -> np.ndarray:
    """Return the order of the rows, as `fit` draws it. From a seed, every call draws the same one."""
    if not estimator.shuffle:
        return np.arange(n_rows)
    is_seed = is_integer(estimator.random_state)
    if is_seed and kept.order is not None and len(kept.order) == n_rows:
        return kept.order
    order = ScikitOrder(n_rows, check_random_state(estimator.random_state))(np.arange(0))
    kept.order = order if is_seed else None
    return order
