"""`Run` observes a loop: it evaluates and records each epoch, stops early, calls callbacks, and saves the state."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from fastnn.backends import backend_name
from fastnn.backends.base import EpochResult
from fastnn.datasets.dataset import Dataset
from fastnn.errors import DivergenceError, SettingsError
from fastnn.evaluation.evaluate import evaluate_logits
from fastnn.files.checkpoint_file import RunState
from fastnn.network import Network
from fastnn.training.callbacks import Callback, EpochEnd
from fastnn.training.checkpoint import Checkpoint, Mark, Saver, bit_versions, restore, result_of
from fastnn.training.epochs import Ended, Job, Position
from fastnn.training.history import EpochRecord, History
from fastnn.training.rate_search import RateSearch
from fastnn.training.result import NAN, TrainingInterrupted, TrainingResult


class Run:
    """Does the work after each epoch, which is the same for every optimizer. `good` is the result so far."""

    def __init__(
        self,
        job: Job,
        held_out: Dataset | None,
        callbacks: Sequence[Callback],
        search: RateSearch | None,
        checkpoint: Checkpoint | None,
        digests: Callable[[], dict[str, str]],
        begun: RunState | None,
    ) -> None:
        self._job, self._held_out, self._callbacks, self._digests = job, held_out, callbacks, digests
        if held_out is not None and job.network.standardization is not None:  # once, not after every epoch
            images = job.network.standardization.apply(held_out.images, job.network.dtype)
            self._held_out = replace(held_out, images=images)
        backend = backend_name(job.engine)
        if begun is None:
            self.good = TrainingResult(
                job.network, History(), job.first, "epochs", backend, config=job.config, rate_search=search
            )
        else:
            self.good = replace(result_of(begun, "epochs", job.config), backend=backend)
        history = self.good.history
        self._best: EpochRecord | None = next((each for each in history if each.epoch == self.good.best_epoch), None)
        self._current = job.network
        self._last: Position | None = None
        parts = [*callbacks, job.config.shuffle]
        if begun is not None:
            restore(parts, begun)
        self._saver = Saver(checkpoint, self._about, history, parts)

    def _about(self) -> dict[str, Any]:
        """Return the fields of `RunState` that do not change during the run."""
        job, good = self._job, self.good
        return {
            "first": job.first,
            "settings": job.config.to_dict(),
            "backend": good.backend,
            "data": self._digests(),
            "versions": bit_versions(good.backend),
            "parts": {} if good.rate_search is None else {"rate search": asdict(good.rate_search)},
        }

    def _mark(self, position: Position, network: Network) -> Callable[[dict[str, dict[str, Any]]], Mark]:
        good = self.good
        return lambda parts: Mark(
            network=network,
            kept=good.network,
            trainer=position.trainer.state(),
            n_records=len(good.history),
            best_epoch=good.best_epoch if good.history else 0,
            seconds=position.seconds,
            order=position.order,
            parts=parts,
        )

    def close(self) -> None:
        """Let other runs use the checkpoint."""
        self._saver.close()

    def begin(self, position: Position) -> None:
        """Copy the state at the beginning of the run."""
        self._saver.after_batches(self._mark(position, self._current))

    def parts(self, first: int, n_batches: int) -> Iterator[range]:
        """Yield the batches of an epoch in the parts between which the state may be saved."""
        return self._saver.parts(first, n_batches)

    def end_part(self, position: Position) -> None:
        """Save the state within an epoch if it is time."""
        self._saver.after_batches(lambda parts: self._mark(position, position.trainer.network())(parts))

    def between_epochs(self, position: Position) -> None:
        """Save the state after an epoch if it is time."""
        self._last = position
        self._saver.after_epoch(self._mark(position, self._current))

    def finished(self, ended: Ended) -> TrainingResult:
        """Return the result of a run that has ended by itself."""
        good = self.good
        at_end = not len(good.history) or good.best_epoch == good.history[-1].epoch
        good = replace(
            good,
            stopped=ended.stopped,
            state=ended.make_state() if at_end else None,
            loss=good.loss if ended.loss is None else ended.loss,
        )
        if self._last is not None:
            self._saver.finish(ended.stopped, self._mark(self._last, self._current))
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

    def end_epoch(
        self, result: EpochResult, rate: float, seconds: float, make_network: Callable[[], Network]
    ) -> str | None:
        """Evaluate the network, record the epoch and call the callbacks; return the reason to stop, or None."""
        job, config, history = self._job, self._job.config, self.good.history
        epoch = job.first + len(history) + 1
        failed = result.failed_batch is not None or not np.isfinite(result.loss)
        current = None if failed else _finite_network(make_network)
        if current is None:
            raise _divergence(epoch, result.failed_batch, rate)
        self._current = current
        evaluated, loss, accuracy = None, NAN, NAN
        if self._held_out is not None:
            with np.errstate(over="ignore", invalid="ignore"):  # the loss shows whether the run diverges
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


def _finite_network(make: Callable[[], Network]) -> Network | None:
    """Return the trainer's network, or None if a weight is no longer finite."""
    try:
        return make()
    except SettingsError:
        return None


def _divergence(epoch: int, batch: int | None, rate: float) -> DivergenceError:
    where = "at its end" if batch is None else f"in batch {batch + 1}"
    advice = "; scale the inputs" if np.isnan(rate) else f" at learning rate {rate:g}; try a lower one"
    return DivergenceError(f"training diverged in epoch {epoch}, {where}: the loss is not finite{advice}")
