"""`LiveRun`: a callback of `fastnn.train` through which other threads watch a run, pause it, slow it and stop it."""

import math
import threading
import time
from contextlib import suppress
from typing import NamedTuple

from fastnn.errors import SettingsError
from fastnn.network.snapshot import Snapshot
from fastnn.training.callbacks import BatchStart, EpochEnd, Setup
from fastnn.training.history import NAN
from fastnn.training.result import TrainingResult

# At full speed, a long epoch is trained in parts of about this many seconds, between which the run can be looked at.
SECONDS_OF_PART = 0.1
FIRST_PART = 16  # batches, before their time is known
# A run that is slowed down trains in this many parts a second, or batch by batch.
PARTS_PER_SECOND = 20

_LONGEST_WAIT = 0.5  # in seconds. Windows can interrupt only a wait that has a timeout.

WAITING, RUNNING, PAUSED, ENDED = "waiting", "running", "paused", "ended"
_RUN, _PAUSE, _STEP, _EPOCH = "run", "pause", "step", "epoch"


class Aborted(Exception):
    """Ends a run in the middle of an epoch."""


class Moment(NamedTuple):
    """A run at one moment. The object does not change, so any thread may look at it for as long as it likes."""

    status: str = WAITING  # "waiting" until training begins, then "running" or "paused", at last "ended"
    epoch: int = 0  # the number of the epoch that runs, or of the last one that has run
    batch: int = 0  # the number of its batches that have run
    batches: int = 0  # the number of batches in it
    loss: float = NAN  # means over the batches of the running epoch
    accuracy: float = NAN
    snapshot: Snapshot | None = None  # the newest network that was copied
    setup: Setup | None = None  # what is trained
    end: EpochEnd | None = None  # the last whole epoch
    n_epochs: int = 0  # the number of whole epochs in the history
    result: TrainingResult | None = None  # of a run that has ended


class LiveRun:
    """A run that other threads watch and control.

    Only the training thread changes `moment`. It is told what to do by methods that return at once.

    Parameters
    ----------
    paused : bool
        Whether to wait before the first batch.

    Attributes
    ----------
    moment : Moment
        The newest state of the run.
    version : int
        The number of changes of `moment` and of the pace.
    """

    def __init__(self, *, paused: bool = False) -> None:
        self.moment, self.version = Moment(), 0
        self._changed = threading.Condition()
        self._mode = _PAUSE if paused else _RUN
        self._granted: int | None = None  # the epoch in which the step or the epoch that was asked for has begun
        self._batches_per_second: float | None = None
        self._is_ending = self._is_aborted = False
        # When the last part began, its number of batches, whether it runs, and the seconds per batch of a part.
        self._began, self._n_batches, self._is_timed, self._seconds_per_batch = 0.0, 0, False, 0.0

    # --- Control, from any thread ------------------------------------------------------------------------------------
    @property
    def batches_per_second(self) -> float | None:
        """The pace of a run that is slowed down; None at full speed."""
        return self._batches_per_second

    @property
    def is_paused(self) -> bool:
        """Whether the run waits, or will as soon as the batches that it trains on have run."""
        return self._mode == _PAUSE and self.moment.status != ENDED

    @property
    def is_stopping(self) -> bool:
        """Whether the run ends after this epoch because `stop` was called."""
        return self._is_ending and self.moment.status != ENDED

    def train(self) -> None:
        """Let the run go on until it ends."""
        self._set_mode(_RUN)

    def pause(self) -> None:
        """Let the run wait after the batches that it trains on now."""
        self._set_mode(_PAUSE)

    def step(self) -> None:
        """Train on one batch, then wait."""
        self._set_mode(_STEP)

    def epoch(self) -> None:
        """Train to the end of the epoch, then wait."""
        self._set_mode(_EPOCH)

    def stop(self) -> None:
        """End the run after this epoch, the rest of which is trained at full speed."""
        self._is_ending = True
        self._set_mode(_RUN)

    def abort(self) -> None:
        """End the run after the batches that it trains on now, by the exception `Aborted`."""
        self._is_aborted = True
        self._set_mode(_RUN)

    def set_pace(self, batches_per_second: float | None) -> None:
        """Slow the run down to a number of batches a second; None: full speed."""
        if batches_per_second is not None and not (math.isfinite(batches_per_second) and batches_per_second > 0):
            raise SettingsError(f"batches_per_second is {batches_per_second}, expected a number above 0 or None")
        with self._changed:
            self._batches_per_second = batches_per_second
            self._seconds_per_batch, self._is_timed = 0.0, False
            self._note_change()

    def note(self) -> None:
        """Let the page be drawn again, because something around the run has changed."""
        with self._changed:
            self._note_change()

    def _set_mode(self, mode: str) -> None:
        with self._changed:
            self._mode, self._granted = mode, None
            self._note_change()

    def _note_change(self) -> None:
        self.version += 1
        self._changed.notify_all()

    # --- The callback of the training thread -------------------------------------------------------------------------
    def before_batches(self, start: BatchStart) -> int | None:
        """Wait as long as the run is to wait; return the number of batches to train on, None for the whole epoch."""
        self._measure()
        self._show(start)
        with self._changed:
            while self._has_to_wait(start):
                pass
            size = self._size_of_part(start)
        self._n_batches = start.batches - start.batch if size is None else size
        self._began, self._is_timed = time.monotonic(), True
        return size

    def __call__(self, end: EpochEnd) -> bool:
        """Note the end of an epoch; return whether the run is to end."""
        self._measure()
        with self._changed:
            self.moment = self.moment._replace(
                epoch=end.record.epoch, batch=self.moment.batches, loss=end.record.loss, accuracy=end.record.accuracy,
                snapshot=end.snapshot, end=end, n_epochs=len(end.history),
            )  # fmt: skip
            self.version += 1
            return self._is_ending

    def ended(self, result: TrainingResult) -> None:
        """Note the result of the run."""
        with self._changed:
            self.moment = self.moment._replace(
                status=ENDED, result=result, snapshot=Snapshot.of(result.network), n_epochs=len(result.history)
            )
            self.version += 1

    def _show(self, start: BatchStart) -> None:
        """Let others see where the run is. The network is copied unless it is that of the last epoch."""
        before = self.moment
        snapshot = before.snapshot
        if start.batch or before.end is None:
            with suppress(SettingsError):  # the weights are not finite, which ends the run
                snapshot = Snapshot.of(start.network)
        with self._changed:
            self.moment = before._replace(
                status=RUNNING, epoch=start.epoch, batch=start.batch, batches=start.batches, loss=start.loss,
                accuracy=start.accuracy, snapshot=snapshot, setup=start.setup,
            )  # fmt: skip
            self.version += 1

    def _has_to_wait(self, start: BatchStart) -> bool:
        """Wait until something changes or it is time for the next batches; return whether to look again."""
        if self._is_aborted:
            raise Aborted
        if self._granted is not None and (self._mode == _STEP or self._granted != start.epoch):
            self._mode, self._granted = _PAUSE, None
        if self._mode == _PAUSE:
            self._set_status(PAUSED)
            self._changed.wait(_LONGEST_WAIT)
            return True
        self._set_status(RUNNING)
        if self._mode != _STEP:
            seconds = self._seconds_to_wait()
            if seconds > 0:
                self._changed.wait(min(seconds, _LONGEST_WAIT))
                return True
        if self._mode != _RUN and self._granted is None:
            self._granted = start.epoch
        return False

    def _set_status(self, status: str) -> None:
        if self.moment.status != status:
            self.moment = self.moment._replace(status=status)
            self.version += 1

    def _pace(self) -> float | None:
        """Return the pace that holds now: an epoch at a batch a second would take minutes to end."""
        return None if self._is_ending else self._batches_per_second

    def _seconds_to_wait(self) -> float:
        pace = self._pace()
        return 0.0 if pace is None or not self._n_batches else self._began + self._n_batches / pace - time.monotonic()

    def _measure(self) -> None:
        if self._is_timed:
            self._seconds_per_batch, self._is_timed = (time.monotonic() - self._began) / self._n_batches, False

    def _size_of_part(self, start: BatchStart) -> int | None:
        """Return the number of batches until the run can be looked at again; None: to the end of the epoch."""
        if self._mode == _STEP:
            return 1
        pace = self._pace()
        if pace is not None:
            return max(1, round(pace / PARTS_PER_SECOND))
        if not self._seconds_per_batch:
            return FIRST_PART
        size = max(1, round(SECONDS_OF_PART / self._seconds_per_batch))
        return None if size >= start.batches - start.batch else size
