"""Checkpoints: when the state of a run is copied and written, and how a run continues from one."""

import math
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import numpy as np

from fastnn.backends.base import TrainerState
from fastnn.checks import check_choice, check_number, display_path
from fastnn.datasets.dataset import Dataset
from fastnn.errors import DataError, FileError, SettingsError
from fastnn.files.atomic import check_writable
from fastnn.files.checkpoint_file import RunState, load_checkpoint, previous_path, write_checkpoint
from fastnn.files.model_file import versions
from fastnn.files.network_part import metadata_of, parse_skeleton
from fastnn.network import Network
from fastnn.optim.averaging import SWA, get_average
from fastnn.optim.config import TrainingConfig
from fastnn.streams import BlockedData
from fastnn.training.history import EpochRecord, History
from fastnn.training.rate_search import search_from
from fastnn.training.result import TrainingResult

# The end of a refusal to continue a run.
FORCE_HINT = "force=True continues nevertheless"
UNITS = ("seconds", "epochs", "batches")
# The time to copy the state, and the time to write it, stay below this fraction of the training time.
MAX_COST = 0.003
# Two writes are at least this many seconds apart, so that a disk is not kept busy by short epochs.
SECONDS_BETWEEN_WRITES = 2.0
# An epoch is trained in parts of about this many seconds, between which its state can be saved.
SECONDS_OF_PART = 0.5
# The number of batches in the first part. Later parts have as many as SECONDS_OF_PART allow.
FIRST_PART = 16


@dataclass(frozen=True)
class Checkpoint:
    """Where and how often `fastnn.train` saves the state of the run.

    A run that is interrupted or killed continues from the file with the same bits: see ``resume`` of `fastnn.train`.

    Parameters
    ----------
    path : str or path
        The file; the usual suffix is ``.safetensors``. The checkpoint before the last one is kept beside it, as
        ``<stem>.previous.safetensors``, until the run ends by itself.
    every : float
        The interval, above 0: a checkpoint is written when it has passed. Writes are at least two seconds apart, and
        take less than 1 % of the training time. The end of a run, whatever ends it, writes the newest state.
    unit : {"seconds", "epochs", "batches"}
        The unit of `every`. With "epochs", checkpoints are taken between two epochs only.

    Raises
    ------
    SettingsError
        If a value is out of range, or the path is none.

    Examples
    --------
    >>> import fastnn
    >>> fastnn.Checkpoint("run.safetensors", every=10, unit="epochs")
    Checkpoint(path='run.safetensors', every=10, unit='epochs')
    """

    path: str | os.PathLike[str]
    every: float = 5.0
    unit: str = "seconds"

    def __post_init__(self) -> None:
        if not isinstance(self.path, (str, os.PathLike)) or not isinstance(os.fspath(self.path), str):
            raise SettingsError(f"path is a {type(self.path).__name__}, expected a path of str or os.PathLike")
        check_number("every", self.every, above=0)
        check_choice("unit", self.unit, UNITS)


def as_checkpoint(value: Checkpoint | str | os.PathLike[str] | None) -> Checkpoint | None:
    """Return where to save: `value` itself, or that of a path."""
    return value if value is None or isinstance(value, Checkpoint) else Checkpoint(value)


class Mark(NamedTuple):
    """A copy of the state of a run in memory. The history is not copied, because it only grows."""

    network: Network
    kept: Network
    trainer: TrainerState
    n_records: int
    best_epoch: int
    seconds: float
    order: np.ndarray | None
    parts: dict[str, dict[str, Any]]


# The files that the running trainings of this process write. A saver that nobody refers to any more uses none.
_IN_USE: WeakValueDictionary[str, "Saver"] = WeakValueDictionary()
_LOCK = threading.Lock()


def _checked_file(path: str | os.PathLike[str]) -> str:
    """Return the file of a checkpoint, with links resolved.

    FileError if it, or the one before it, cannot be written, or if they exist and neither is a checkpoint.
    """
    files = [path, previous_path(path)]
    for file in files:
        check_writable(file)
    found = [file for file in files if os.path.exists(file) and os.path.getsize(file)]
    if found:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                load_checkpoint(path)
        except DataError as error:
            raise FileError(f"{error}; it is not replaced, expected a checkpoint or a new path") from None
        except FileError:  # there is only the file with the name of the one before
            name = display_path(found[0])
            raise FileError(f"{name} is no checkpoint and not replaced, expected a checkpoint or a new path") from None
    return os.path.realpath(path)


class Saver:
    """Copies the state of a run between batches, and writes copies to the checkpoint.

    A copy is taken after every epoch and about every half second within one, unless copies take too long for that.
    """

    def __init__(
        self,
        checkpoint: Checkpoint | None,
        about: Callable[[], dict[str, Any]],
        history: History,
        callbacks: Sequence[Any],
    ) -> None:
        """`about` returns the fields of `RunState` that do not change during a run."""
        self._checkpoint, self._about, self._history = checkpoint, about, history
        self._stateful = stateful(callbacks)
        self._mark: Mark | None = None
        self._good: Mark | None = None  # the last one whose weights have been found finite: that of a whole epoch
        self._marked_at = self._mark_seconds = self._write_seconds = 0.0
        self._written_at = time.monotonic()
        self._since_write = {"epochs": 0, "batches": 0}
        self._part_size, self._failure = FIRST_PART, ""
        self._file = "" if checkpoint is None else _checked_file(checkpoint.path)
        if checkpoint is not None:
            with _LOCK:
                if self._file in _IN_USE:
                    raise FileError(f"{display_path(checkpoint.path)} is the checkpoint of another training that runs")
                _IN_USE[self._file] = self

    def close(self) -> None:
        """Let other runs of this process use the file."""
        with _LOCK:
            if _IN_USE.get(self._file) is self:
                del _IN_USE[self._file]

    def parts(self, first: int, n_batches: int) -> Iterator[range]:
        """Yield the batches of an epoch, from `first` on, in the parts between which the state may be saved."""
        if self._checkpoint is None or self._checkpoint.unit == "epochs":
            yield range(first, n_batches)
            return
        while first < n_batches:
            size = self._part_size
            if self._checkpoint.unit == "batches":
                size = min(size, math.ceil(self._checkpoint.every))
            part = range(first, min(n_batches, first + size))
            self._since_write["batches"] += len(part)
            start = time.monotonic()
            yield part
            seconds = time.monotonic() - start
            if len(part) == self._part_size and seconds < SECONDS_OF_PART / 2:
                self._part_size *= 2
            elif seconds > 2 * SECONDS_OF_PART:
                self._part_size = max(1, self._part_size // 2)
            first = part.stop

    def after_epoch(self, make_mark: Callable[[dict[str, dict[str, Any]]], Mark]) -> None:
        """Copy the state after an epoch, and write it if it is time."""
        self._since_write["epochs"] += 1
        before = self._mark
        self.after_batches(make_mark)
        if self._mark is not before:
            self._good = self._mark

    def after_batches(self, make_mark: Callable[[dict[str, dict[str, Any]]], Mark]) -> None:
        """Copy the state after some batches, and write it if it is time. `make_mark` gets the states of callbacks."""
        if self._checkpoint is None:
            return
        now = time.monotonic()
        if now - self._marked_at < self._mark_seconds / MAX_COST:
            return
        self._take(make_mark)
        if self._is_due(now):
            self._write("running")

    def _take(self, make_mark: Callable[[dict[str, dict[str, Any]]], Mark]) -> None:
        start = time.monotonic()
        mark = make_mark({name: each.state_dict() for name, each in self._stateful.items()})
        if self._mark is None:  # a layer of a kind that no file can name is refused before training
            parse_skeleton(metadata_of(mark.network))
        self._mark = mark
        self._marked_at = time.monotonic()
        self._good = self._good or self._mark  # the first one is the beginning of the run
        self._mark_seconds = self._marked_at - start

    def _is_due(self, now: float) -> bool:
        assert self._checkpoint is not None
        since, every = now - self._written_at, self._checkpoint.every
        if since < max(SECONDS_BETWEEN_WRITES, self._write_seconds / MAX_COST):
            return False
        return (since if self._checkpoint.unit == "seconds" else self._since_write[self._checkpoint.unit]) >= every

    def finish(self, stopped: str, make_mark: Callable[[dict[str, dict[str, Any]]], Mark] | None = None) -> None:
        """Write the last state of a run that has ended.

        After a run that ended by itself, this is the state of `make_mark`, and the checkpoint before it is removed.
        Otherwise, it is the last copy; after a divergence the last one of a whole epoch, because the weights may have
        been huge for some batches.
        """
        if self._checkpoint is None:
            return
        if make_mark is not None:
            self._take(make_mark)
        elif stopped == "diverged":
            self._mark = self._good
        self._write(stopped)
        if make_mark is not None and not self._failure:
            with suppress(OSError):
                os.unlink(previous_path(self._checkpoint.path))

    def _write(self, stopped: str) -> None:
        """Write the copy. A failure is a warning, because the run itself goes on; the next write may succeed."""
        if self._mark is None:
            return
        assert self._checkpoint is not None
        start = time.monotonic()
        try:
            write_checkpoint(self._checkpoint.path, self._state(self._mark, stopped))
        except (FileError, DataError, SettingsError, MemoryError) as error:
            text = str(error) or "out of memory"
            if text != self._failure:
                message = f"fastnn: no checkpoint was written, training goes on: {text}"
                warnings.warn(message, RuntimeWarning, stacklevel=2)
            self._failure = text
        else:
            self._failure = ""
        self._written_at = time.monotonic()
        self._write_seconds = self._written_at - start
        self._since_write = dict.fromkeys(self._since_write, 0)

    def _state(self, mark: Mark, stopped: str) -> RunState:
        about = self._about()
        return RunState(
            network=mark.network,
            kept=mark.kept,
            trainer=mark.trainer,
            history=_as_array(self._history[: mark.n_records]),
            best_epoch=mark.best_epoch,
            seconds=mark.seconds,
            order=mark.order,
            stopped=stopped,
            **{**about, "parts": {**about["parts"], **mark.parts}},
        )


def stateful(callbacks: Sequence[Any]) -> dict[str, Any]:
    """Return the callbacks that have a state to save, by the name of their part in a checkpoint."""
    has_state = [each for each in callbacks if callable(getattr(each, "state_dict", None))]
    return {f"callback{k}": each for k, each in enumerate(has_state)}


def restore(callbacks: Sequence[Any], state: RunState) -> None:
    """Give the callbacks their states of a checkpoint; SettingsError unless it has one for each."""
    found = {name: part for name, part in state.parts.items() if name.startswith("callback")}
    wanted = stateful(callbacks)
    if found.keys() != wanted.keys():
        raise SettingsError(f"the checkpoint has the states of {len(found)} callbacks, found {len(wanted)} with states")
    for name, callback in wanted.items():
        callback.load_state_dict(found[name])


def _as_array(history: History) -> np.ndarray:
    names = list(EpochRecord.__annotations__)
    return np.array([[getattr(record, name) for name in names] for record in history]).reshape(-1, len(names))


def as_history(array: np.ndarray) -> History:
    """Return the history whose records are the rows of `array`, (E, 7)."""
    return History([EpochRecord(int(epoch), *map(float, metrics)) for epoch, *metrics in array.tolist()])


def result_of(state: RunState, stopped: str, config: TrainingConfig) -> TrainingResult:
    """Return the result so far of a run with these settings, without the optimizer's state."""
    history = as_history(state.history)
    return TrainingResult(
        network=state.kept,
        history=history,
        best_epoch=state.best_epoch,
        stopped=stopped,
        backend=state.backend,
        loss=history[-1].loss if history else float("nan"),
        config=config,
        rate_search=search_from(state.parts.get("rate search")),
    )


# --- Continuing a run ------------------------------------------------------------------------------------------------
def as_run_state(value: Any) -> RunState:
    """Return the state of a run: `value`, or that in the file or the run folder with this path."""
    if isinstance(value, RunState):
        return value
    return load_checkpoint(value)


def data_digests(data: Dataset | BlockedData, sample_weight: np.ndarray | None, validation: Any) -> dict[str, str]:
    """Return the digests of what a run is trained on, as `RunState.data` has them."""
    weight = "none" if sample_weight is None else sha256(np.ascontiguousarray(sample_weight, "<f8").data).hexdigest()
    if isinstance(validation, Dataset | BlockedData):
        held_out = digest_of(validation)
    else:
        held_out = "none" if validation is None else f"fraction {float(validation)!r}"
    return {"training data": digest_of(data), "sample weights": weight, "validation data": held_out}


def digest_of(data: Dataset | BlockedData) -> str:
    """Return the digest of data in memory or in blocks."""
    return data.digest if isinstance(data, BlockedData) else data.digest()


def bit_versions(backend: str) -> dict[str, str]:
    """Return the versions on which the bits of a run depend."""
    from importlib.metadata import version

    return {**versions(), **({"numba": version("numba")} if backend == "numba" else {})}


def continued(state: RunState, config: TrainingConfig | None, settings: dict[str, Any]) -> TrainingConfig:
    """Return the settings of the run that continues `state`: those of the state, with the given ones instead."""
    config = TrainingConfig.from_dict(state.settings, **settings) if config is None else config.replace(**settings)
    saved = state.settings["learning_rate"]
    if not isinstance(config.learning_rate, float) and isinstance(saved, float):
        config = config.replace(learning_rate=saved)  # the number that the rule or the search gave
    return config


def check_continues(
    state: RunState, network: Network, config: TrainingConfig, backend: str, data: dict[str, str], force: bool
) -> None:
    """Raise SettingsError or DataError unless the run goes on with the bits of one that was never stopped.

    With `force`, differences that can be ignored are warnings, which say what is lost.
    """
    ended = end_of(state, config)
    if ended is not None:
        raise _ended(ended, state, config)
    check_same(state, network, config, backend, data, force)


def check_same(
    state: RunState, network: Network, config: TrainingConfig, backend: str, data: dict[str, str], force: bool
) -> None:
    """Do what `check_continues` does, also for a run that has ended."""
    _check_network(state, network)
    wrong = [
        *_changed_settings(state, config, backend),
        *_changed(state.data, data),
        *_changed(state.versions, bit_versions(backend)),
    ]
    if not wrong:
        return
    if not force:
        kind = DataError if all(name in data for name, _ in wrong) else SettingsError
        raise kind(f"the run cannot continue: {'; '.join(text for _, text in wrong)}; {FORCE_HINT}")
    for _, text in wrong:
        message = f"fastnn: {text}: the result is not that of one run"
        warnings.warn(message, RuntimeWarning, stacklevel=3)


def _check_network(state: RunState, network: Network) -> None:
    """Raise SettingsError unless the network has the layers, the dtype and the inputs of the run."""
    mine, other = ((each.layers, each.shapes, each.dtype, each.output) for each in (state.network, network))
    if mine != other:
        raise SettingsError(
            f"the checkpoint is of {state.network}, {state.network.dtype}, expected {network}, {network.dtype}"
        )
    one, two = state.network.input_transform, network.input_transform
    same = (
        one == two
        if isinstance(one, float) or isinstance(two, float)
        else (np.array_equal(one.mean, two.mean) and np.array_equal(one.scale, two.scale))
    )
    if not same:
        raise SettingsError("the checkpoint is of a network that scales its inputs differently")


def end_of(state: RunState, config: TrainingConfig) -> str | None:
    """Return why a run with these settings has ended, "early" or "epochs", or None if it goes on."""
    stopping = config.early_stopping
    if stopping is not None and len(state.history) and state.trainer.epochs - state.best_epoch >= stopping.patience:
        return "early"
    return "epochs" if state.trainer.epochs - state.first >= config.epochs else None


def _ended(stopped: str, state: RunState, config: TrainingConfig) -> SettingsError:
    """Return the error that says that a run has ended, and which settings would let it go on."""
    of, hint = f"the run has ended after epoch {state.trainer.epochs}", f"more epochs than {config.epochs}"
    if stopped == "early":
        of, hint = f"{of}, {config.early_stopping.patience} epochs after the best one", "a larger patience"
    return SettingsError(f"{of}: to go on, give {hint}")


def _changed_settings(state: RunState, config: TrainingConfig, backend: str) -> list[tuple[str, str]]:
    """Return the settings that would give other bits, with a sentence for each."""
    settings = {**TrainingConfig().to_dict(), **state.settings}  # an earlier version had fewer settings
    before, now = {**settings, "backend": state.backend}, {**config.to_dict(), "backend": backend}
    if backend == "numba" or config.slices is not None:
        before["threads"] = now["threads"]  # the bits do not depend on them
    if state.stopped == "diverged":
        before["learning_rate"] = now["learning_rate"]
    has_run = config.epochs >= state.trainer.epochs - state.first
    if has_run and _has_same_rates(state, config) and _has_same_shares(state, config):
        before["epochs"] = now["epochs"]
    was = TrainingConfig.from_dict({"early_stopping": before["early_stopping"]}).early_stopping
    stopping = config.early_stopping
    longer = was is not None and stopping is not None and stopping.patience >= was.patience
    if longer and replace(was, patience=stopping.patience) == stopping:  # no epoch so far would have been another
        before["early_stopping"] = now["early_stopping"]
    return _changed(before, now)


def _has_same_rates(state: RunState, config: TrainingConfig) -> bool:
    """Whether a run of this many epochs would have had the learning rates of the epochs that have run."""
    if not isinstance(config.learning_rate, float):
        return False
    last = state.first + config.epochs
    rates = [config.rate(epoch, last) for epoch in range(state.first, state.trainer.epochs)]
    return np.array_equal(rates, state.history[:, 1])


def _has_same_shares(state: RunState, config: TrainingConfig) -> bool:
    """Whether the epochs so far would have had the same shares in the mean of the weights of a run with more epochs."""
    average, first = get_average(config.average), state.first
    if not isinstance(average, SWA):
        return True
    before, now = (
        [average.share(epoch, first, first + epochs) for epoch in range(first, state.trainer.epochs)]
        for epochs in (state.settings["epochs"], config.epochs)
    )
    return before == now


def _changed(before: dict[str, Any], now: dict[str, Any]) -> list[tuple[str, str]]:
    names = [name for name in {**before, **now} if before.get(name, "none") != now.get(name, "none")]
    return [(name, f"{name} was {_shown(before.get(name))}, found {_shown(now.get(name))}") for name in names]


def _shown(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) < 24 else f"{text[:12]}..."
