"""Training: `train` shuffles, runs epochs, validates, stops early, calls callbacks and records the history."""

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
    network : Network
        The current network.
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
        Why the run ended: "epochs" (all of them ran), "early" (early stopping), "callback", "interrupted" or
        "diverged". L-BFGS may also end with "converged", or with "stalled" if its line search finds no lower loss.
    backend : str
        The backend that trained: "numba" or "numpy".
    state : TrainerState or None
        The optimizer's state, for `train(resume=...)`. None if `network` is not the network of the last epoch, if the
        run was interrupted or diverged, and for L-BFGS.
    loss : float
        The loss of the last epoch. If L-BFGS converged before its first iteration, the initial loss.

    Examples
    --------
    >>> import fastnn
    >>> data = fastnn.load_digits()
    >>> result = fastnn.train(fastnn.Network.for_data(data, (16,)), data, epochs=3)
    >>> result.stopped, result.best_epoch, len(result.history)
    ('epochs', 3, 3)
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
    """Train a copy of a network and return it in the result. `network` itself does not change.

    The same arguments, backend and versions give the same bits: weights, history (except its seconds) and predictions.
    With the Numba backend, these bits do not depend on the number of threads.

    Parameters
    ----------
    network : Network
        The network to start from.
    data : Dataset
        The training data. A softmax network needs labels from 0 to C - 1; other networks need targets of shape (N, C).
    epochs : int
        The number of epochs, 1 or more; for L-BFGS, the maximum number of iterations.
    batch_size : int or None
        The number of samples in each step, 1 or more; the last batch of an epoch may be shorter. None: all samples
        (full batch), without shuffling. L-BFGS needs None.
    learning_rate : float
        Above 0; `schedule` multiplies it. L-BFGS ignores it, because a line search finds the length of each step.
    schedule : str or function of (epoch, epochs)
        Gives the factor for the learning rate of each epoch; see `fastnn.optim.schedules`. L-BFGS needs "constant".
    optimizer : {"sgd", "momentum", "nesterov", "adam", "lbfgs"}, SGD, Adam or LBFGS
        The update rule.
    l2 : float
        0 or more. The loss is the mean loss of the network's output + l2 / 2 * (sum of squared weights). Biases are
        not penalised.
    divide_l2 : bool
        Divide `l2` by the total sample weight of each batch (without weights, its number of samples). scikit-learn
        defines its `alpha` this way. For validation data, `l2` is divided by the number of samples.
    dropout : float
        The fraction of each hidden layer's units to drop, in [0, 1). L-BFGS needs 0.
    validation : Dataset, float or None
        The data to evaluate after each epoch, or the fraction of `data` to hold out for this. The seed determines which
        samples are held out.
    early_stopping : EarlyStopping, int or None
        When to stop early; an int is the patience. This needs validation data.
    sample_weight : ndarray of shape (N,), or None
        The weight of each sample in the mean over its batch: finite, 0 or more. None: all equal.
    shuffle : bool or function
        Whether each epoch has a new random order, determined by the seed. A function is called before each epoch with
        the row numbers to train on (int64, shape (n,)) and returns them in the order of the epoch.
    callbacks : sequence of functions of EpochEnd
        Called after every epoch. The run ends after an epoch in which one of them returns True.
    seed : int
        From 0 to 2**63 - 1. Determines the shuffling, the held-out samples and dropout.
    backend : {"auto", "numba", "numpy"}
        See `get_backend`.
    threads : int or None
        The maximum number of threads; None: the number of cores this process may use. When another process keeps a
        core busy, the Numba backend uses fewer threads for a few epochs; the result has the same bits.
    resume : TrainerState or None
        The `state` of an earlier result; `network` must be the network of that result. The optimizer and the epoch
        numbers continue from there. Two runs of 5 epochs give the same bits as one run of 10 if the schedule gives the
        same learning rates. L-BFGS needs None.

    Returns
    -------
    TrainingResult

    Raises
    ------
    SettingsError
        If a setting is out of range or contradicts another, which is checked before training starts; during training,
        if a schedule returns a factor that is negative or not finite, or if a shuffle function returns anything but
        row numbers to train on.
    DataError
        If the data do not fit the network, which is checked before training starts.
    DivergenceError
        If a loss or weight is not finite. Its `result` has the network after the last epoch with a finite loss and
        weights (with early stopping, after the best one).
    TrainingInterrupted
        On Ctrl-C (it is a KeyboardInterrupt). Its `result` has the network after the last complete epoch (with early
        stopping, after the best one).

    Examples
    --------
    >>> import fastnn
    >>> data = fastnn.load_digits()
    >>> network = fastnn.Network.for_data(data, hidden=(32,))
    >>> result = fastnn.train(network, data, epochs=20, batch_size=32, validation=0.2)
    >>> bool(result.history[-1].validation_accuracy > 0.9)
    True
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
        raise SettingsError("early_stopping needs validation data, but validation is None: try validation=0.1")
    if isinstance(optimizer, LBFGS):
        _check_lbfgs(batch_size, dropout, resume, schedule)
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
    """Does the work after each epoch, which is the same for every optimizer. `good` is the result so far."""

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
        """Evaluate the network, record the epoch and call the callbacks; return the reason to stop, or None."""
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
        returned = [callback(end) for callback in self._callbacks]
        if any(value is True for value in returned):
            return "callback"
        if stopping is not None and epoch - self.good.best_epoch >= stopping.patience:
            return "early"
        return None


def _order(rows: np.ndarray, shuffle: "bool | Shuffle", batch_size: int | None, seed: int, epoch: int) -> np.ndarray:
    """Return the row numbers in the order of this epoch."""
    if callable(shuffle):
        order = np.asarray(shuffle(rows))
        if order.ndim != 1 or order.dtype.kind not in "iu" or not len(order) or not np.isin(order, rows).all():
            raise SettingsError(
                f"shuffle returned {order.dtype} of shape {order.shape}, expected row numbers to train on"
            )
        return order
    return generator(seed, "shuffle", epoch).permutation(rows) if shuffle and batch_size is not None else rows


def _check_lbfgs(batch_size: int | None, dropout: float, resume: TrainerState | None, schedule: Schedule) -> None:
    """Raise SettingsError unless the loss is a fixed function of all the data, which L-BFGS needs."""
    if not isinstance(schedule, Constant):
        raise SettingsError(f"schedule is {schedule!r} with L-BFGS, which has no learning rate; expected constant")
    for name, value, needed in (("batch_size", batch_size, None), ("dropout", dropout, 0), ("resume", resume, None)):
        if value != needed:
            raise SettingsError(f"{name} is {value!r} with L-BFGS, expected {needed}: it needs one fixed loss")


def _check_state(network: Network, optimizer: Optimizer, state: TrainerState | None) -> None:
    """Raise SettingsError unless the state has the slots of this optimizer and the shapes of this network."""
    shapes = [array.shape for array in (*network.weights, *network.biases)]
    slots = [] if state is None else [[array.shape for array in (*slot[0], *slot[1])] for slot in state.slots]
    if state is not None and slots != [shapes] * optimizer.n_slots:
        raise SettingsError(f"resume has {len(slots)} slots, expected {optimizer.n_slots} with the shapes of {network}")


def _split(
    network: Network, data: Dataset, validation: Dataset | float | None, seed: int
) -> tuple[np.ndarray, Dataset | None]:
    """Return the row numbers to train on, and the validation data."""
    if validation is None:
        return np.arange(len(data)), None
    if isinstance(validation, Dataset):
        check_fit(network, validation)
        return np.arange(len(data)), validation
    rows, held = draw_held_out(len(data), validation, seed)
    return rows, data.take(held, f"{data.name} (held out)")


def _finite_network(make: Callable[[], Network]) -> Network | None:
    """Return the trainer's network, or None if a weight is no longer finite."""
    try:
        return make()
    except SettingsError:
        return None


def _divergence(epoch: int, batch: int | None, rate: float, good: TrainingResult) -> DivergenceError:
    where = "at its end" if batch is None else f"in batch {batch + 1}"
    advice = "; scale the inputs" if np.isnan(rate) else f" at learning rate {rate:g}; try a lower one"
    error = DivergenceError(f"training diverged in epoch {epoch}, {where}: the loss is not finite{advice}")
    error.result = replace(good, stopped="diverged")
    return error
