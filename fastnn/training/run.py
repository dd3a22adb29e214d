"""`Run` observes a loop: it evaluates and records each epoch, stops early, calls callbacks, and saves the state."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np

from fastnn.backends import backend_name
from fastnn.backends.base import EpochResult, TrainerState
from fastnn.errors import DivergenceError, SettingsError
from fastnn.evaluation.evaluate import evaluate_blocks, evaluate_checked
from fastnn.files.checkpoint_file import RunState
from fastnn.models import Model
from fastnn.network import Network
from fastnn.network.snapshot import Snapshot
from fastnn.streams import BlockedData
from fastnn.training.callbacks import BatchStart, Callback, EpochEnd, Setup, call_method, paced
from fastnn.training.checkpoint import Checkpoint, Mark, Saver, bit_versions, restore, result_of
from fastnn.training.epochs import Ended, Job, Position
from fastnn.training.history import NAN, EpochRecord, History
from fastnn.training.rate_search import RateSearch
from fastnn.training.result import TrainingInterrupted, TrainingResult


class Run:
    """Does the work after each epoch, which is the same for every optimizer.

    With frozen layers, the job trains the others. Their snapshots and states become those of the whole network here.

    No network is made of the trainer's numbers unless something needs one: validation data, a callback, a checkpoint or
    the end of the run.
    """

    def __init__(
        self,
        job: Job,
        held_out: tuple[Any, np.ndarray] | BlockedData | None,
        callbacks: Sequence[Callback],
        setup: Setup,
        search: RateSearch | None,
        checkpoint: Checkpoint | None,
        digests: Callable[[], dict[str, str]],
        begun: RunState | None,
    ) -> None:
        self._job, self._callbacks = job, callbacks
        self._held_out, self._setup = held_out, setup
        initial = self._whole(Snapshot.of(job.network))
        self.backend = backend_name(job.engine)
        if begun is None:
            self._begun = TrainingResult(
                initial.network, History(), job.first, "epochs", self.backend, config=job.config, rate_search=search
            )
        else:
            self._begun = replace(result_of(begun, "epochs", job.config), backend=self.backend)
        self._history = history = self._begun.history
        self._loss, self._best_epoch = self._begun.loss, self._begun.best_epoch
        self._kept = Snapshot.of(self._begun.network)
        self._best: EpochRecord | None = None
        if begun is not None:
            self._best = next((each for each in history if each.epoch == self._best_epoch), None)
        self._current = initial
        self._last: Position | None = None
        self._so_far, self._may_save = EpochResult(NAN, NAN), False
        parts = [*callbacks, job.config.shuffle]
        if begun is not None:
            restore(parts, begun)
        # Not a method of this object: a cycle of references would keep the run's memory until a garbage collection.
        about = partial(_about, job, self._begun.rate_search, self.backend, digests)
        self._saver = Saver(checkpoint, about, history, parts)

    @property
    def good(self) -> TrainingResult:
        """The result so far."""
        return replace(self._begun, network=self._kept.network, best_epoch=self._best_epoch, loss=self._loss)

    def _mark(
        self, position: Position, make_network: Callable[[], Network]
    ) -> Callable[[dict[str, dict[str, Any]]], Mark]:
        return lambda parts: Mark(
            network=make_network(),
            kept=self._kept.network,
            trainer=self._state_of_whole(position.trainer.state()),
            n_records=len(self._history),
            best_epoch=self._best_epoch if self._history else 0,
            seconds=position.seconds,
            order=position.order,
            parts=parts,
        )

    def _whole(self, snapshot: Snapshot) -> Snapshot:
        frozen = self._job.frozen
        return snapshot if frozen is None else frozen.whole(snapshot)

    def _state_of_whole(self, state: TrainerState) -> TrainerState:
        frozen = self._job.frozen
        return state if frozen is None else frozen.state_of_whole(state)

    def _current_network(self) -> Network:
        return self._current.network

    def close(self) -> None:
        """Let other runs use the checkpoint."""
        self._saver.close()

    def begin(self, position: Position) -> None:
        """Copy the state at the beginning of the run."""
        self._saver.after_batches(self._mark(position, self._current_network))

    def parts(self, first: int, n_batches: int, make_network: Callable[[], Network]) -> Iterator[range]:
        """Yield the batches of an epoch in the parts between which the state may be saved, or callbacks are called."""
        so_far = EpochResult(NAN, NAN)

        def start(batch: int) -> BatchStart:
            result = so_far if batch == first else self._so_far
            snapshot, epoch = self._whole(Snapshot(make_network)), self._job.first + len(self._history) + 1
            return BatchStart(epoch, batch, n_batches, result.loss, result.accuracy, self._setup, snapshot)

        for part in self._saver.parts(first, n_batches):
            for batches in paced(self._callbacks, part, start):
                self._may_save = batches.stop == part.stop
                yield batches

    def end_part(self, position: Position, result: EpochResult) -> None:
        """Save the state within an epoch if it is time."""
        self._so_far = result
        if self._may_save:
            current = self._whole(Snapshot(position.trainer.network))
            self._saver.after_batches(self._mark(position, lambda: current.network))

    def between_epochs(self, position: Position) -> None:
        """Save the state after an epoch if it is time."""
        self._last = position
        self._saver.after_epoch(self._mark(position, self._current_network))

    def result_of(self, train: Callable[[], Ended]) -> TrainingResult:
        """Return the result of a run that `train` does. However it ends, callbacks are told and the state is saved."""
        result: TrainingResult | None = None
        try:
            call_method(self._callbacks, "begin")
            result = self.finished(train())
            return result
        except BaseException as error:
            to_raise = self.ended_by(error)
            result = getattr(to_raise, "result", None)
            try:
                if to_raise is error:
                    raise
                raise to_raise from error
            finally:  # the exception has this frame, which may not have the exception
                del to_raise
        finally:
            self.close()
            if result is not None:
                call_method(self._callbacks, "ended", result)
            call_method(self._callbacks, "close")

    def finished(self, ended: Ended) -> TrainingResult:
        """Return the result of a run that has ended by itself."""
        good = self.good
        at_end = not len(good.history) or good.best_epoch == good.history[-1].epoch
        state = ended.make_state() if at_end else None
        good = replace(
            good,
            stopped=ended.stopped,
            state=None if state is None else self._state_of_whole(state),
            loss=good.loss if ended.loss is None else ended.loss,
        )
        if self._last is not None:
            self._saver.finish(ended.stopped, self._mark(self._last, self._current_network))
        return good

    def ended_by(self, error: BaseException) -> BaseException:
        """Save the last state of a run that an exception ends; return the exception to raise, with the result."""
        interrupted, diverged = isinstance(error, KeyboardInterrupt), isinstance(error, DivergenceError)
        stopped = "interrupted" if interrupted else "diverged" if diverged else "failed"
        with suppress(KeyboardInterrupt):  # a second Ctrl-C ends the writing, which leaves the checkpoint before
            self._saver.finish(stopped)
        result = replace(self.good, stopped=stopped)
        if interrupted:
            return TrainingInterrupted(result)
        with suppress(AttributeError):  # an exception without attributes
            error.result = result  # type: ignore[attr-defined]
        return error

    def pass_epoch(self, result: EpochResult, rate: float, seconds: float) -> None:
        """Record an epoch after which there is no network to evaluate, such as one within a round of replicas."""
        epoch = self._job.first + len(self._history) + 1
        if not _is_finite(result):
            raise _divergence(epoch, result.failed_batch, rate)
        self._history.append(EpochRecord(epoch, rate, result.loss, result.accuracy, NAN, NAN, seconds))

    def end_epoch(
        self, result: EpochResult, rate: float, seconds: float, make_snapshot: Callable[[], Snapshot]
    ) -> str | None:
        """Evaluate the network, record the epoch and call the callbacks; return the reason to stop, or None."""
        job, config, history = self._job, self._job.config, self._history
        epoch = job.first + len(history) + 1
        trained = _finite_snapshot(make_snapshot) if _is_finite(result) else None
        if trained is None:
            raise _divergence(epoch, result.failed_batch, rate)
        self._current = current = self._whole(trained)
        logits, loss, accuracy = None, NAN, NAN
        if self._held_out is not None:
            network = trained.network
            with np.errstate(over="ignore", invalid="ignore"):  # the loss shows whether the run diverges
                if isinstance(self._held_out, BlockedData):
                    n_rows = len(self._held_out)
                    whole = Model.for_network(current.network)
                    loss, accuracy = evaluate_blocks(whole, self._held_out, job.engine, config.threads)
                else:
                    evaluated = evaluate_checked(network.core, *self._held_out, job.engine, config.threads)
                    logits, loss, accuracy = evaluated.logits, evaluated.loss, evaluated.accuracy
                    n_rows = len(logits)
                loss += network.l2_penalty(config.l2_of_batch(n_rows))
        record = EpochRecord(epoch, rate, result.loss, result.accuracy, loss, accuracy, seconds)
        history.append(record)
        stopping, self._loss = config.early_stopping, result.loss
        if stopping is None or stopping.improves(record, self._best):
            self._best, self._best_epoch, self._kept = record, epoch, current
        if self._callbacks:
            end = EpochEnd(record, history, job.last, logits, job.n_rows, current)
            returned = [callback(end) for callback in self._callbacks]
            if any(value is True for value in returned):
                return "callback"
        if stopping is not None and epoch - self._best_epoch >= stopping.patience:
            return "early"
        return None


def _about(job: Job, search: RateSearch | None, backend: str, digests: Callable[[], dict[str, str]]) -> dict[str, Any]:
    """Return the fields of `RunState` that do not change during the run."""
    return {
        "first": job.first,
        "settings": job.config.to_dict(),
        "backend": backend,
        "data": digests(),
        "versions": bit_versions(backend),
        "parts": {} if search is None else {"rate search": asdict(search)},
    }


def _is_finite(result: EpochResult) -> bool:
    return result.failed_batch is None and math.isfinite(result.loss)


def _finite_snapshot(make: Callable[[], Snapshot]) -> Snapshot | None:
    """Return the trainer's network, or None if a weight is no longer finite."""
    try:
        return make()
    except SettingsError:
        return None


def _divergence(epoch: int, batch: int | None, rate: float) -> DivergenceError:
    where = "at its end" if batch is None else f"in batch {batch + 1}"
    advice = "; scale the inputs" if np.isnan(rate) else f" at learning rate {rate:g}; try a lower one"
    return DivergenceError(f"training diverged in epoch {epoch}, {where}: the loss is not finite{advice}")
