"""Training: `train` checks, runs epochs, validates, stops early, calls callbacks and records the history."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from inspect import Parameter, Signature, signature
from typing import Any

import numpy as np

from fastnn.backends import backend_name, get_backend
from fastnn.backends.base import EpochResult, TrainerState, TrainingData, check_config, check_sample_weight
from fastnn.backends.threads import BLAS_LIMIT, resolve_threads
from fastnn.checks import is_number
from fastnn.datasets.dataset import Dataset
from fastnn.datasets.splits import draw_held_out
from fastnn.errors import DivergenceError, SettingsError
from fastnn.evaluation.evaluate import check_fit, evaluate_logits
from fastnn.models import as_dataset, as_network
from fastnn.network import Network
from fastnn.optim.config import AUTO, TrainingConfig
from fastnn.optim.optimizers import LBFGS
from fastnn.training import epochs as mini_batch
from fastnn.training import lbfgs
from fastnn.training.callbacks import Callback as Callback
from fastnn.training.callbacks import EpochEnd as EpochEnd
from fastnn.training.callbacks import close_callbacks
from fastnn.training.epochs import Job
from fastnn.training.history import EpochRecord, History
from fastnn.training.progress import Progress
from fastnn.training.rate_search import RateSearch, search_rate

NAN = float("nan")


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
    network: Any,
    data: Any,
    *,
    validation: Any = None,
    sample_weight: np.ndarray | None = None,
    callbacks: Sequence[Callback] = (),
    verbose: bool = False,
    resume: TrainerState | None = None,
    config: TrainingConfig | None = None,
    **settings: Any,
) -> TrainingResult:
    """Train a copy of a network and return it in the result. `network` itself does not change.

    The same arguments, backend and versions give the same bits: weights, history (except its seconds) and predictions.
    With the Numba backend, these bits do not depend on the number of threads.

    Parameters
    ----------
    network : Network, or Model
        The network to start from.
    data : Dataset, or (images, labels)
        The training data. A softmax network needs labels from 0 to C - 1; other networks need targets of shape (N, C).
    validation : Dataset, (images, labels), float or None
        The data to evaluate after each epoch, or the fraction of `data` to hold out for this. The seed determines which
        samples are held out.
    sample_weight : ndarray of shape (N,), or None
        The weight of each sample in the mean over its batch: finite, 0 or more. None: all equal.
    callbacks : sequence of functions of EpochEnd
        Called after every epoch. The run ends after an epoch in which one of them returns True. A callback that has a
        method ``close()`` is closed when the run ends, however it ends.
    verbose : bool
        Whether to show the progress of the run; the same as the callback `fastnn.Progress`.
    resume : TrainerState or None
        The `state` of an earlier result; `network` must be the network of that result. The optimizer and the epoch
        numbers continue from there. Two runs of 5 epochs give the same bits as one run of 10 if the schedule gives the
        same learning rates. L-BFGS needs None.
    config : TrainingConfig or None
        The settings of the run; None: the defaults.
    **settings
        Single settings, which replace those of `config`: ``epochs=10``, ``batch_size=64``, ``learning_rate=0.1``,
        ``optimizer="sgd"``, ``seed=0`` and all others that `TrainingConfig` lists.

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
    kinds: tuple[tuple[str, Any, type], ...] = (("config", config, TrainingConfig), ("resume", resume, TrainerState))
    for name, value, kind in kinds:
        if not (value is None or isinstance(value, kind)):
            hint = ": try its state" if isinstance(value, TrainingResult) else ""
            raise SettingsError(f"{name} is a {type(value).__name__}, expected a {kind.__name__}{hint}")
    network, data = as_network(network), as_dataset(data)
    if not (validation is None or is_number(validation)):
        validation = as_dataset(validation, "validation")
    config = (config or TrainingConfig()).replace(**settings)
    threads = resolve_threads(config.threads)
    config = config.replace(threads=threads)
    checked = TrainingData(*check_fit(network, data), check_sample_weight(sample_weight, len(data), network.dtype))
    rows, held_out = _split(network, data, validation, config.seed)
    check_config(network, config, len(rows))
    if config.early_stopping is not None and held_out is None:
        raise SettingsError("early_stopping needs validation data, but validation is None: try validation=0.1")
    stopping = config.early_stopping
    if stopping is not None and stopping.monitor == "validation_accuracy" and network.loss.is_correct is None:
        raise SettingsError(
            f"early_stopping monitors validation_accuracy, but the outputs of {network} are numbers; "
            "expected validation_loss"
        )
    loop = lbfgs if isinstance(config.update_rule, LBFGS) else mini_batch
    job = Job(network, checked, rows, config, get_backend(config.backend), resume)
    loop.check(job)
    job, search = _choose_rate(job)

    callbacks = [*callbacks, *([Progress()] if verbose else [])]
    run = _Run(job, held_out, callbacks, search)
    with BLAS_LIMIT.hold(threads) if run.good.backend == "numpy" else nullcontext():
        try:
            ended = loop.run(job, run.end_epoch)
            at_end = not len(run.good.history) or run.good.best_epoch == run.good.history[-1].epoch
            return replace(
                run.good,
                stopped=ended.stopped,
                state=ended.make_state() if at_end else None,
                loss=run.good.loss if ended.loss is None else ended.loss,
            )
        except KeyboardInterrupt as interrupt:
            raise TrainingInterrupted(replace(run.good, stopped="interrupted")) from interrupt
        finally:
            close_callbacks(callbacks)


def _choose_rate(job: Job) -> tuple[Job, RateSearch | None]:
    """Return the job with a number as its learning rate, and the search for it if the setting is "auto"."""
    config, search = job.config, None
    if config.learning_rate == AUTO and not isinstance(config.update_rule, LBFGS):
        search = search_rate(job)
        config = config.replace(learning_rate=search.suggestion)
    n_hidden = sum(weight.ndim > 1 for weight in job.network.weights) - 1  # `BatchNorm` has vectors
    return job._replace(config=config.with_default_rate(n_hidden, len(job.rows))), search


def _with_settings(function: Callable[..., Any], config: type) -> Signature:
    """Return the signature of a function with the fields of `config` in place of ``**settings``."""
    *own, _ = signature(function).parameters.values()
    named = [parameter.replace(kind=Parameter.KEYWORD_ONLY) for parameter in signature(config).parameters.values()]
    return signature(function).replace(parameters=[*own, *named])


train.__signature__ = _with_settings(train, TrainingConfig)  # type: ignore[attr-defined]  # for help() and editors


class _Run:
    """Does the work after each epoch, which is the same for every optimizer. `good` is the result so far."""

    def __init__(
        self, job: Job, held_out: Dataset | None, callbacks: Sequence[Callback], search: RateSearch | None
    ) -> None:
        self._job, self._held_out, self._callbacks = job, held_out, callbacks
        if held_out is not None and job.network.standardization is not None:  # once, not after every epoch
            images = job.network.standardization.apply(held_out.images, job.network.dtype)
            self._held_out = replace(held_out, images=images)
        self.good = TrainingResult(
            job.network, History(), job.first, "epochs", backend_name(job.engine), config=job.config, rate_search=search
        )
        self._best: EpochRecord | None = None

    def end_epoch(
        self, result: EpochResult, rate: float, seconds: float, make_network: Callable[[], Network]
    ) -> str | None:
        """Evaluate the network, record the epoch and call the callbacks; return the reason to stop, or None."""
        job, config, history = self._job, self._job.config, self.good.history
        epoch = job.first + len(history) + 1
        failed = result.failed_batch is not None or not np.isfinite(result.loss)
        current = None if failed else _finite_network(make_network)
        if current is None:
            raise _divergence(epoch, result.failed_batch, rate, self.good)
        evaluated, loss, accuracy = None, NAN, NAN
        if self._held_out is not None:
            evaluated = evaluate_logits(current.core, self._held_out, job.engine, config.threads)
            penalty = current.l2_penalty(config.l2_of_batch(len(self._held_out)))
            loss, accuracy = evaluated.loss + penalty, evaluated.accuracy
        record = EpochRecord(epoch, rate, result.loss, result.accuracy, loss, accuracy, seconds)
        history.append(record)
        stopping = config.early_stopping
        self.good = replace(self.good, loss=result.loss)
        if stopping is None or stopping.improves(record, self._best):
            self._best = record
            self.good = replace(self.good, network=current, best_epoch=epoch)
        logits = None if evaluated is None else evaluated.logits
        end = EpochEnd(record, history, job.last, logits, current, len(job.rows))
        returned = [callback(end) for callback in self._callbacks]
        if any(value is True for value in returned):
            return "callback"
        if stopping is not None and epoch - self.good.best_epoch >= stopping.patience:
            return "early"
        return None


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
