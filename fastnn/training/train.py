"""Training: `train` shuffles, runs epochs, validates, stops early, calls back and keeps the history."""

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace

import numpy as np

from fastnn.backends import Backend, backend_name, get_backend
from fastnn.backends.base import EpochResult, TrainerState, check_regularization, check_sample_weight
from fastnn.backends.threads import BLAS_LIMIT, resolve_threads
from fastnn.checks import check_integer, check_number
from fastnn.datasets.dataset import Dataset
from fastnn.datasets.splits import draw_held_out
from fastnn.errors import DivergenceError, SettingsError
from fastnn.evaluation.evaluate import check_fit, evaluate_logits, l2_penalty
from fastnn.network import Network
from fastnn.optim.optimizers import LBFGS, Optimizer, get_optimizer
from fastnn.optim.schedules import Constant, Schedule, get_schedule
from fastnn.randomness import generator
from fastnn.training import lbfgs
from fastnn.training.history import EpochRecord, History
from fastnn.training.stopping import EarlyStopping

NAN = float("nan")


@dataclass(frozen=True)
class EpochEnd:
    """What a callback is given after an epoch: its record, those so far, the last epoch there can be, the network as it
    is now, and the logits (N, C) that it has for the validation data, None without any.
    """

    record: EpochRecord
    history: History
    epochs: int
    validation_logits: np.ndarray | None = field(repr=False)
    network: Network


Callback = Callable[[EpochEnd], object]
Shuffle = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class TrainingResult:
    """What `train` returns: the trained network, the history, the epoch whose weights these are, why it ended.

    `stopped` is "epochs" (all were run), "early" (early stopping), "callback", "interrupted" or "diverged"; by L-BFGS
    also "converged", and "stalled" where it found no lower loss on its way. `state` is the optimizer's, to resume from;
    None where the network is not that of the last epoch, and by L-BFGS. `loss` is that of the last epoch, or at the
    start, where L-BFGS had converged before its first.
    """

    network: Network
    history: History
    best_epoch: int
    stopped: str
    backend: str
    state: TrainerState | None = field(default=None, repr=False)
    loss: float = NAN

    def __repr__(self) -> str:
        return f"TrainingResult({self.network}, {len(self.history)} epochs, stopped: {self.stopped})"


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C during `train`; `result` holds the network after the last whole epoch."""

    def __init__(self, result: TrainingResult) -> None:
        super().__init__()
        self.result = result


def train(
    network: Network,
    data: Dataset,
    *,
    epochs: int = 10,
    batch_size: int | None = 64,
    learning_rate: float = 0.1,
    schedule: str | Schedule = "constant",
    optimizer: str | Optimizer | LBFGS = "sgd",
    l2: float = 0.0,
    divide_l2: bool = False,
    dropout: float = 0.0,
    validation: Dataset | float | None = None,
    early_stopping: EarlyStopping | int | None = None,
    sample_weight: np.ndarray | None = None,
    shuffle: bool | Shuffle = True,
    callbacks: Sequence[Callback] = (),
    seed: int = 0,
    backend: str = "auto",
    threads: int | None = None,
    resume: TrainerState | None = None,
) -> TrainingResult:
    """Train a network. `network` itself is left as it is: the result has the trained one.

    Equal arguments, backend and versions give equal bits: weights, history and predictions (the seconds apart); with
    the Numba backend for any number of threads.

    Parameters
    ----------
    data : Dataset
        With labels from 0 to the network's classes - 1; for logistic outputs and numbers, of shape (N, C).
    epochs : int
        1 or more. For L-BFGS the most iterations.
    batch_size : int or None
        Samples a step, 1 or more; the last batch of an epoch is as short as it comes. None: all (full batch), which are
        not shuffled then, and which L-BFGS needs.
    learning_rate : float
        Above 0; `schedule` multiplies it. L-BFGS has none: it searches for the length of each step.
    schedule : str or function of (epoch, epochs)
        See `fastnn.optim.schedules`.
    optimizer : {"sgd", "momentum", "nesterov", "adam", "lbfgs"}, SGD, Adam or LBFGS
    l2 : float
        The loss is the mean loss of the network's output + l2 / 2 * (sum of squared weights, biases not).
    divide_l2 : bool
        Whether `l2` is divided by what the samples of each batch count in all, their number if no weights are given. So
        scikit-learn's `alpha` is defined. For validation data, by their number.
    dropout : float
        The share of each hidden layer's units that is dropped, in [0, 1); 0 for L-BFGS.
    validation : Dataset, float or None
        Data to watch the run with, or the share of `data` to hold out for it, drawn by the seed.
    early_stopping : EarlyStopping, int or None
        An int is the patience. Needs validation data.
    sample_weight : ndarray of shape (N,), or None
        What each sample counts in the mean over its batch: finite, 0 or more.
    shuffle : bool, or function of the rows
        Whether each epoch has an order of its own, drawn by the seed. A function is called before each epoch with the
        numbers of the rows to train on, int64, and returns them in the order to take.
    callbacks : functions of EpochEnd
        Called after every epoch; the run ends after an epoch where one returns True.
    seed : int
        From 0 to 2**63 - 1: shuffling, the held-out share and dropout follow from it.
    backend : {"auto", "numba", "numpy"}
    threads : int or None
        At most so many; None: the cores this process may use. The Numba backend leaves one out for a few epochs when
        another process kept a core busy; that changes no bit of the result.
    resume : TrainerState or None
        The `state` of an earlier result, whose network is given: the optimizer goes on where it stopped, and epochs are
        counted on. Two runs of 5 epochs give the bits of one of 10, if the schedule gives the same rates.

    Raises
    ------
    SettingsError, DataError
        Before any work, if a setting is out of range or the data do not fit the network.
    DivergenceError
        If a loss is not finite; its `result` has the network after the last good epoch.
    TrainingInterrupted
        On Ctrl-C (it is a KeyboardInterrupt), with the network after the last whole epoch in `result`.
    """
    check_integer("epochs", epochs, 1)
    if batch_size is not None:
        check_integer("batch_size", batch_size, 1)
    check_number("learning_rate", learning_rate, above=0)
    check_regularization(l2, dropout)
    schedule, optimizer, threads = get_schedule(schedule), get_optimizer(optimizer), resolve_threads(threads)
    if isinstance(early_stopping, (int, np.integer)):
        early_stopping = EarlyStopping(int(early_stopping))
    images, targets = check_fit(network, data)
    sample_weight = check_sample_weight(sample_weight, len(data), network.dtype)
    rows, held_out = _split(network, data, validation, seed)
    if early_stopping is not None and held_out is None:
        raise SettingsError("early_stopping needs validation data: give validation=")
    if isinstance(optimizer, LBFGS):
        _check_searchable(batch_size, dropout, resume, schedule)
    else:
        _check_state(network, optimizer, resume)
    engine = get_backend(backend)

    first = 0 if resume is None else resume.epochs
    validation_l2 = l2 / len(held_out) if divide_l2 and held_out is not None else l2
    run = _Run(network, engine, first, epochs, held_out, validation_l2, early_stopping, callbacks, threads)
    with BLAS_LIMIT.hold(threads) if run.good.backend == "numpy" else nullcontext():
        try:
            if isinstance(optimizer, LBFGS):
                if len(rows) < len(data):
                    images, targets = images[rows], targets[rows]
                    sample_weight = None if sample_weight is None else sample_weight[rows]
                total = len(rows) if sample_weight is None else float(sample_weight.sum(dtype=np.float64))
                objective = engine.objective(
                    network, images, targets, l2=l2 / total if divide_l2 else l2, sample_weight=sample_weight,
                    threads=threads,
                )  # fmt: skip
                stopped, loss = lbfgs.minimize(
                    objective, network, len(rows), optimizer, epochs,
                    lambda make_network, result, seconds: run.end_epoch(result, NAN, seconds, make_network),
                )  # fmt: skip
                return replace(run.good, stopped=stopped, loss=loss)
            trainer = engine.trainer(
                network, images, targets, optimizer,
                l2=l2, divide_l2=divide_l2, dropout=dropout, sample_weight=sample_weight, seed=seed, threads=threads,
                state=resume,
            )  # fmt: skip
            trainer.prepare(len(rows), batch_size or len(rows))
            for epoch in range(first, first + epochs):
                order = _order(rows, shuffle, batch_size, seed, epoch)
                rate = learning_rate * check_number("the schedule's factor", schedule(epoch, first + epochs), 0)
                start = time.perf_counter()
                result = trainer.run_epoch(order, batch_size or len(rows), rate)
                stopped_by = run.end_epoch(result, rate, time.perf_counter() - start, trainer.network)
                if stopped_by is not None:
                    break
            at_end = run.good.best_epoch == run.good.history[-1].epoch
            return replace(run.good, stopped=stopped_by or "epochs", state=trainer.state() if at_end else None)
        except lbfgs.NoStart as error:
            raise _divergence(1, None, NAN, run.good) from error
        except KeyboardInterrupt as interrupt:
            raise TrainingInterrupted(replace(run.good, stopped="interrupted")) from interrupt


class _Run:
    """What happens at the end of an epoch, whichever optimizer made it; `good` is the result so far."""

    def __init__(
        self,
        network: Network,
        engine: Backend,
        first: int,
        epochs: int,
        held_out: Dataset | None,
        l2: float,
        early_stopping: EarlyStopping | None,
        callbacks: Sequence[Callback],
        threads: int,
    ) -> None:
        self.good = TrainingResult(network, History(), first, "epochs", backend_name(engine))
        self._engine, self._first, self._epochs = engine, first, first + epochs
        self._held_out, self._l2, self._threads = held_out, l2, threads
        self._early_stopping, self._callbacks = early_stopping, callbacks
        self._best: EpochRecord | None = None

    def end_epoch(
        self, result: EpochResult, rate: float, seconds: float, make_network: Callable[[], Network]
    ) -> str | None:
        """Judge the network, keep the record, and call back; returns why to stop, or None."""
        history, epoch = self.good.history, self._first + len(self.good.history) + 1
        failed = result.failed_batch is not None or not np.isfinite(result.loss)
        current = None if failed else _finite_network(make_network)
        if current is None:
            raise _divergence(epoch, result.failed_batch, rate, self.good)
        evaluated, loss, accuracy = None, NAN, NAN
        if self._held_out is not None:
            evaluated = evaluate_logits(current, self._held_out, self._engine, self._threads)
            loss, accuracy = evaluated.loss + l2_penalty(current, self._l2), evaluated.accuracy
        record = EpochRecord(epoch, rate, result.loss, result.accuracy, loss, accuracy, seconds)
        history._records.append(record)
        stopping = self._early_stopping
        self.good = replace(self.good, loss=result.loss)
        if stopping is None or stopping.improves(record, self._best):
            self._best = record
            self.good = replace(self.good, network=current, best_epoch=epoch)
        end = EpochEnd(record, history, self._epochs, None if evaluated is None else evaluated.logits, current)
        answers = [callback(end) for callback in self._callbacks]
        if any(answer is True for answer in answers):
            return "callback"
        if stopping is not None and epoch - self.good.best_epoch >= stopping.patience:
            return "early"
        return None


def _order(rows: np.ndarray, shuffle: "bool | Shuffle", batch_size: int | None, seed: int, epoch: int) -> np.ndarray:
    """The rows in the order of an epoch."""
    if callable(shuffle):
        order = np.asarray(shuffle(rows))
        if order.ndim != 1 or order.dtype.kind not in "iu" or not len(order) or not np.isin(order, rows).all():
            raise SettingsError(
                f"shuffle gave {order.dtype} of shape {order.shape}, expected the numbers of rows to train on"
            )
        return order
    return generator(seed, "shuffle", epoch).permutation(rows) if shuffle and batch_size is not None else rows


def _check_searchable(batch_size: int | None, dropout: float, resume: TrainerState | None, schedule: Schedule) -> None:
    """SettingsError unless L-BFGS sees one fixed loss, that of all the data."""
    if not isinstance(schedule, Constant):
        raise SettingsError(f"schedule is {schedule!r} with L-BFGS, which has no learning rate")
    for name, value, wanted in (("batch_size", batch_size, None), ("dropout", dropout, 0), ("resume", resume, None)):
        if value != wanted:
            raise SettingsError(f"{name} is {value!r} with L-BFGS, which needs one loss of all the data; give {wanted}")


def _check_state(network: Network, optimizer: Optimizer, state: TrainerState | None) -> None:
    """SettingsError unless the state is one of this optimizer on a network of this shape."""
    shapes = [array.shape for array in (*network.weights, *network.biases)]
    slots = [] if state is None else [[array.shape for array in (*slot[0], *slot[1])] for slot in state.slots]
    if state is not None and slots != [shapes] * optimizer.n_slots:
        raise SettingsError(f"resume has {len(slots)} slots, expected {optimizer.n_slots} of the shapes of {network}")


def _split(
    network: Network, data: Dataset, validation: Dataset | float | None, seed: int
) -> tuple[np.ndarray, Dataset | None]:
    """The rows to train on, and the validation data."""
    if validation is None:
        return np.arange(len(data)), None
    if isinstance(validation, Dataset):
        check_fit(network, validation)
        return np.arange(len(data)), validation
    rows, held = draw_held_out(len(data), validation, seed)
    return rows, data.take(held, f"{data.name} (held out)")


def _finite_network(make: Callable[[], Network]) -> Network | None:
    """The trainer's network, or None where a weight is not finite any more."""
    try:
        return make()
    except SettingsError:
        return None


def _divergence(epoch: int, batch: int | None, rate: float, good: TrainingResult) -> DivergenceError:
    place = "at its end" if batch is None else f"in batch {batch + 1}"
    advice = "; scale the inputs" if np.isnan(rate) else f" at learning rate {rate:g}; try a lower one"
    error = DivergenceError(f"training diverged in epoch {epoch}, {place}: the loss is not finite{advice}")
    error.result = replace(good, stopped="diverged")
    return error
