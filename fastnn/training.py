"""Training: `train` shuffles, runs epochs, validates, stops early, calls back and keeps the history."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.backends import Backend, backend_name, get_backend, reference
from fastnn.backends.base import check_inputs, check_labels, check_regularization, check_sample_weight
from fastnn.checks import check_choice, check_integer, check_number
from fastnn.csr import is_sparse
from fastnn.datasets.dataset import Dataset
from fastnn.errors import DataError, DivergenceError, SettingsError
from fastnn.network import Network
from fastnn.optimizers import Optimizer, get_optimizer
from fastnn.randomness import generator
from fastnn.schedules import Schedule, get_schedule
from fastnn.threads import resolve_threads

if TYPE_CHECKING:
    import pandas

MONITORS = ("validation_loss", "validation_accuracy")
NAN = float("nan")


@dataclass(frozen=True)
class EpochRecord:
    """One row of a history. `loss` and `accuracy` are means over the epoch, each batch at the weights before its step;
    the validation's are at the weights after the epoch, NaN without validation data. `loss` and `validation_loss`
    include the L2 term. `seconds` is the training alone.
    """

    epoch: int
    learning_rate: float
    loss: float
    accuracy: float
    validation_loss: float
    validation_accuracy: float
    seconds: float


class History(Sequence[EpochRecord]):
    """The records of a run, one an epoch, epochs counted from 1."""

    def __init__(self, records: Sequence[EpochRecord] = ()) -> None:
        self._records = list(records)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: Any) -> Any:
        return History(self._records[index]) if isinstance(index, slice) else self._records[index]

    def __repr__(self) -> str:
        last = f", last {self._records[-1]}" if self._records else ""
        return f"History({len(self)} epochs{last})"

    def column(self, name: str) -> np.ndarray:
        """One figure of all epochs: float64 (int64 for `epoch`), shape (epochs,)."""
        return np.array([getattr(record, name) for record in self._records])

    def arrays(self) -> dict[str, np.ndarray]:
        """Every figure by name, in the order of `EpochRecord`, each as `column` gives it."""
        return {name: self.column(name) for name in EpochRecord.__annotations__}

    def to_frame(self) -> "pandas.DataFrame":
        """A data frame with a row an epoch."""
        import pandas

        return pandas.DataFrame([asdict(record) for record in self._records], columns=list(EpochRecord.__annotations__))


@dataclass(frozen=True)
class EpochEnd:
    """What a callback is given after an epoch. `network` is a copy, made when it is asked for."""

    record: EpochRecord
    history: History
    epochs: int
    _make_network: Callable[[], Network] = field(repr=False)

    @property
    def network(self) -> Network:
        """The network as it is after this epoch."""
        return self._make_network()


Callback = Callable[[EpochEnd], object]


@dataclass(frozen=True)
class EarlyStopping:
    """Stop when `monitor` has not improved by more than `min_delta` for `patience` epochs; keep the best weights."""

    patience: int = 10
    monitor: str = "validation_loss"
    min_delta: float = 0.0

    def __post_init__(self) -> None:
        check_integer("patience", self.patience, 1)
        check_choice("monitor", self.monitor, MONITORS)
        check_number("min_delta", self.min_delta, 0)

    def improves(self, record: EpochRecord, best: EpochRecord | None) -> bool:
        """Whether `record` is better than `best`."""
        if best is None:
            return True
        gain = getattr(record, self.monitor) - getattr(best, self.monitor)
        return bool((-gain if self.monitor == "validation_loss" else gain) > self.min_delta)


@dataclass(frozen=True)
class TrainingResult:
    """What `train` returns: the trained network, the history, the epoch whose weights these are, why it ended.

    `stopped` is "epochs" (all were run), "early" (early stopping), "callback", "interrupted" or "diverged".
    """

    network: Network
    history: History
    best_epoch: int
    stopped: str
    backend: str

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
    optimizer: str | Optimizer = "sgd",
    l2: float = 0.0,
    dropout: float = 0.0,
    validation: Dataset | float | None = None,
    early_stopping: EarlyStopping | int | None = None,
    sample_weight: np.ndarray | None = None,
    callbacks: Sequence[Callback] = (),
    seed: int = 0,
    backend: str = "auto",
    threads: int | None = None,
) -> TrainingResult:
    """Train a network. `network` itself is left as it is: the result has the trained one.

    Equal arguments, backend and versions give equal bits: weights, history and predictions (the seconds apart); with
    the Numba backend for any number of threads.

    Parameters
    ----------
    data : Dataset
        With labels from 0 to the network's classes - 1.
    epochs : int
        1 or more.
    batch_size : int or None
        Samples a step, 1 or more; the last batch of an epoch is as short as it comes. None: all (full batch), which are
        not shuffled then.
    learning_rate : float
        Above 0; `schedule` multiplies it.
    schedule : str or function of (epoch, epochs)
        See `fastnn.schedules`.
    optimizer : {"sgd", "momentum", "nesterov", "adam"}, SGD or Adam
    l2 : float
        The loss is mean cross-entropy + l2 / 2 * (sum of squared weights, biases not).
    dropout : float
        The share of each hidden layer's units that is dropped, in [0, 1).
    validation : Dataset, float or None
        Data to watch the run with, or the share of `data` to hold out for it, drawn by the seed.
    early_stopping : EarlyStopping, int or None
        An int is the patience. Needs validation data.
    sample_weight : ndarray of shape (N,), or None
        What each sample counts in the mean over its batch: finite, 0 or more.
    callbacks : functions of EpochEnd
        Called after every epoch; the run ends after an epoch where one returns True.
    seed : int
        From 0 to 2**63 - 1: shuffling, the held-out share and dropout follow from it.
    backend : {"auto", "numba", "numpy"}
    threads : int or None
        At most so many; None: the cores this process may use. The Numba backend leaves one out for a few epochs when
        another process kept a core busy; that changes no bit of the result.

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
    images, labels = check_fit(network, data)
    sample_weight = check_sample_weight(sample_weight, len(labels), network.dtype)
    rows, held_out = _split(network, data, validation, seed)
    if early_stopping is not None and held_out is None:
        raise SettingsError("early_stopping needs validation data: give validation=")
    engine = get_backend(backend)

    history = History()
    good = TrainingResult(network, history, 0, "epochs", backend_name(engine))
    best: EpochRecord | None = None
    with _blas_threads(threads, engine):
        try:
            trainer = engine.trainer(
                network, images, labels, optimizer,
                l2=l2, dropout=dropout, sample_weight=sample_weight, seed=seed, threads=threads,
            )  # fmt: skip
            trainer.prepare(len(rows), batch_size or len(rows))
            for epoch in range(epochs):
                order = rows if batch_size is None else generator(seed, "shuffle", epoch).permutation(rows)
                rate = learning_rate * check_number("the schedule's factor", schedule(epoch, epochs), 0)
                start = time.perf_counter()
                result = trainer.run_epoch(order, batch_size or len(rows), rate)
                seconds = time.perf_counter() - start
                failed = result.failed_batch is not None or not np.isfinite(result.loss)
                current = None if failed else _finite_network(trainer.network)
                if current is None:
                    raise _divergence(epoch, result.failed_batch, rate, good)
                validation_loss, validation_accuracy = (
                    (NAN, NAN)
                    if held_out is None
                    else evaluate(current, held_out, backend=engine, l2=l2, threads=threads)
                )
                record = EpochRecord(
                    epoch + 1, rate, result.loss, result.accuracy, validation_loss, validation_accuracy, seconds
                )
                history._records.append(record)
                if early_stopping is None or early_stopping.improves(record, best):
                    best = record
                    good = replace(good, network=current, best_epoch=record.epoch)
                end = EpochEnd(record, history, epochs, lambda network=current: network)  # type: ignore[misc]
                answers = [callback(end) for callback in callbacks]
                if any(answer is True for answer in answers):
                    return replace(good, stopped="callback")
                if early_stopping is not None and record.epoch - good.best_epoch >= early_stopping.patience:
                    return replace(good, stopped="early")
        except KeyboardInterrupt as interrupt:
            raise TrainingInterrupted(replace(good, stopped="interrupted")) from interrupt
    return good


def evaluate(
    network: Network,
    data: Dataset,
    *,
    backend: str | Backend = "auto",
    l2: float = 0.0,
    threads: int | None = None,
) -> tuple[float, float]:
    """Loss (with the L2 term, if any) and accuracy of a network on labelled data.

    `threads` is as in `train`, for the Numba backend.

    Raises
    ------
    DataError
        If the data have no labels or do not fit the network.
    """
    logits, labels, loss = predict_and_lose(network, data, backend, threads)
    penalty = 0.5 * l2 * sum(float(np.sum(weight**2, dtype=np.float64)) for weight in network.weights)
    return loss + penalty, float(np.mean(logits.argmax(axis=1) == labels))


def predict_and_lose(
    network: Network, data: Dataset, backend: str | Backend, threads: int | None = None
) -> tuple[np.ndarray, np.ndarray, float]:
    """Logits (N, C), labels (N,), and the mean cross-entropy, of labelled data.

    The loss is the reference's whichever backend has the logits: it takes less time than a kernel for it would take to
    compile. Raises DataError if the data have no labels or do not fit the network.
    """
    images, labels = check_fit(network, data)
    engine = get_backend(backend) if isinstance(backend, str) else backend
    logits = engine.predict_logits(network, images, threads)
    with np.errstate(over="ignore", invalid="ignore"):  # a network that went astray is seen by its loss
        loss, _ = reference.softmax_cross_entropy(logits, labels)
    return logits, labels, loss


def hold_out(data: Dataset, share: float, seed: int = 0, *, in_place: bool = False) -> tuple[Dataset, Dataset]:
    """Split `data` in two: what stays, and a `share` (above 0, below 1) drawn by the seed, at least one sample.

    Each part keeps the order of its samples. With `in_place` nothing is copied but the samples held out: the arrays of
    `data` are reordered, and the parts are views of them. Sparse images cannot be reordered in place.
    """
    rows, held = _draw(len(data), share, seed)
    if in_place and is_sparse(data.images):
        raise SettingsError("in_place is True, expected False for sparse images, whose rows cannot change places")
    if not in_place:
        return data.take(rows), data.take(held)
    for array in (data.images, data.labels):
        if array is not None:
            _move_to_end(array, rows, held)
    return data.take(slice(len(rows))), data.take(slice(len(rows), None))


def _move_to_end(array: np.ndarray, rows: np.ndarray, held: np.ndarray) -> None:
    """Put the rows `rows` of an array first and `held` last, both ascending: so no row moves over one still to move."""
    last = array[held]
    for start in range(0, len(rows), 1024):
        piece = rows[start : start + 1024]
        array[start : start + len(piece)] = array[piece]
    array[len(rows) :] = last


def _draw(n: int, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    check_number("the held-out share", share, high=1, above=0)
    count = max(1, round(share * n))
    if count >= n:
        raise SettingsError(f"a held-out share of {share:g} of {n} samples leaves none to train on")
    order = generator(seed, "split").permutation(n)
    return np.sort(order[count:]), np.sort(order[:count])


def check_fit(network: Network, data: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """The data's inputs and labels as the backends take them; DataError, naming the data, if they do not fit."""
    if data.labels is None:
        raise DataError(f"{data.name} has no labels")
    if not len(data):
        raise DataError(f"{data.name} has no samples")
    try:
        images = check_inputs(network, data.images)
        if images.dtype.kind == "f" and not np.isfinite(images.data if is_sparse(images) else images).all():
            raise DataError("inputs contain NaN or infinity, expected finite numbers")
        return images, check_labels(data.labels, len(data), network.n_classes)
    except DataError as error:
        raise DataError(f"{data.name}: {error}") from None


def _split(
    network: Network, data: Dataset, validation: Dataset | float | None, seed: int
) -> tuple[np.ndarray, Dataset | None]:
    """The rows to train on, and the validation data."""
    if validation is None:
        return np.arange(len(data)), None
    if isinstance(validation, Dataset):
        check_fit(network, validation)
        return np.arange(len(data)), validation
    rows, held = _draw(len(data), validation, seed)
    return rows, data.take(held, f"{data.name} (held out)")


def _finite_network(make: Callable[[], Network]) -> Network | None:
    """The trainer's network, or None where a weight is not finite any more."""
    try:
        return make()
    except SettingsError:
        return None


def _divergence(epoch: int, batch: int | None, rate: float, good: TrainingResult) -> DivergenceError:
    place = "at its end" if batch is None else f"in batch {batch + 1}"
    error = DivergenceError(
        f"training diverged in epoch {epoch + 1}, {place}: the loss is not finite at learning rate {rate:g}; "
        f"try a lower one"
    )
    error.result = replace(good, stopped="diverged")
    return error


@contextmanager
def _blas_threads(threads: int, engine: Backend) -> Iterator[None]:
    """Hold NumPy's BLAS to `threads` while the reference backend runs; the compiled one does not use it."""
    if backend_name(engine) != "numpy":
        yield
        return
    import threadpoolctl

    with threadpoolctl.threadpool_limits(threads, user_api="blas"):
        yield
