"""`Session`: what the page shows and controls: one run, or two beside each other, each with settings of its own."""

import threading
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, NamedTuple

import numpy as np

from fastnn.errors import DataError, DivergenceError, FastnnError, SettingsError
from fastnn.live.answer import answer, as_numbers, drawn_row, sample_row
from fastnn.live.picture import Pictures, Seen
from fastnn.live.run import Aborted, LiveRun
from fastnn.runs.code import RunCode, python_settings
from fastnn.runs.plan import Plan
from fastnn.training.train import train

NAMES = ("A", "B")
_NUMBERS = count(1)  # of all runs of the process
# A run that is replaced ends after the batches that it trains on. Nobody waits longer for it than this.
_END_SECONDS = 5.0


class Unanswered(SettingsError):
    """A request that is in order, but has no answer: the settings do not fit, or training has not begun yet."""


class Planned(NamedTuple):
    """A run that is planned, and may be trained any number of times from the same weights."""

    plan: Plan
    recorded: dict[str, Any]  # the settings, as the report of a run has them
    settings: dict[str, Any]  # those in the form of the page
    sample_weight: np.ndarray | None = None


Planner = Callable[[dict[str, Any]], Planned]


class Seat:
    """A place of the page for a run, which may be replaced by another one.

    Attributes
    ----------
    live : LiveRun
    pictures : Pictures
    planned : Planned or None
        None for a run that a program started.
    code : RunCode or None
        None if the program knows more of the run than the page.
    error : str
        Why the run failed; "" if it did not.
    """

    def __init__(self, live: LiveRun, code: RunCode | None = None) -> None:
        self.planned: Planned | None = None
        self.code, self.error = code, ""
        self._thread: threading.Thread | None = None
        self._show(live)

    def _show(self, live: LiveRun) -> None:
        self.live, self.pictures = live, Pictures(live, next(_NUMBERS))

    def start(self, *, paused: bool, pace: float | None) -> None:
        """Train the planned run from its initial weights, in a thread of its own. A run before it ends."""
        assert self.planned is not None
        self.end()
        live = LiveRun(paused=paused)
        live.set_pace(pace)
        self.error = ""
        self._show(live)
        self._thread = threading.Thread(target=self._train, args=(live, self.planned), name="fastnn run", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """End the run, and wait for its thread."""
        if self._thread is not None:
            self.live.abort()
            self._thread.join(_END_SECONDS)
            self._thread = None

    def _train(self, live: LiveRun, planned: Planned) -> None:
        plan, error = planned.plan, ""
        try:
            train(
                plan.network,
                plan.for_training(plan.splits.train),
                validation=plan.for_training(plan.splits.validation),
                sample_weight=planned.sample_weight,
                callbacks=[live],
                config=plan.config,
            )
        except (Aborted, DivergenceError):  # a divergence is a finding of the diagnosis
            pass
        except (FastnnError, MemoryError) as failure:
            error = str(failure) or "out of memory"
        except Exception as failure:
            error = f"{type(failure).__name__}: {failure}"
        if error and live is self.live:
            self.error = error
            live.note()


class Session:
    """One or two runs that the page shows and controls. Its methods may be called from any thread.

    Parameters
    ----------
    planner : function of a dict, or None
        Returns the `Planned` run for the settings of the page; SettingsError, DataError or FileError if they do not
        fit. None: a run is shown that a program has started, see `watch`.
    form : dict
        What the page needs to offer settings.
    """

    def __init__(self, planner: Planner | None = None, form: dict[str, Any] | None = None) -> None:
        self._planner, self._form = planner, form or {}
        self._lock = threading.RLock()
        self._seats: list[Seat] = []
        self._changes, self._is_closed = 0, False

    def watch(self, live: LiveRun, code: RunCode | None = None) -> None:
        """Show a run that a program has started, in place of the one before."""
        with self._lock:
            self._seats = [Seat(live, code)]
            self._changes, self._is_closed = self._changes + 1, False

    def plan(
        self,
        number: int,
        settings: dict[str, Any],
        *,
        paused: bool = True,
        notes: Callable[[Sequence[str]], None] = lambda notes: None,
    ) -> None:
        """Plan a run with these settings and begin it, in place of the one before.

        If it cannot be planned, SettingsError, DataError or FileError says why, and the one before goes on.

        notes: called with what was decided for the user
        """
        if self._planner is None:
            raise SettingsError("the run was started by a program, which has its settings")
        planned = self._planner(settings)
        notes(planned.plan.notes)
        with self._lock:
            if self._is_closed:
                return
            if number == len(self._seats):
                self._seats.append(Seat(LiveRun(paused=True)))
            seat = self._seats[number]
            seat.planned, seat.code = planned, RunCode(planned.plan, planned.recorded)
            seat.start(paused=paused, pace=seat.live.batches_per_second)
            self._changes += 1

    def close(self) -> None:
        """End the runs of the session. A run that a program has started goes on, at full speed."""
        with self._lock:
            self._is_closed = True
            for seat in self._seats:
                if seat.planned is None:
                    seat.live.set_pace(None)
                    seat.live.train()
                else:
                    seat.live.abort()
            for seat in self._seats:
                seat.end()

    # --- What the server asks for ------------------------------------------------------------------------------------
    @property
    def version(self) -> tuple[int, ...]:
        """Numbers that change whenever a picture would."""
        return (self._changes, *(seat.live.version for seat in self._seats))

    def picture(self, seen: Sequence[Seen] = ()) -> tuple[dict[str, Any], list[Seen]]:
        """Return the picture of each run, with what is new of its curve, and what a browser has seen then."""
        with self._lock:
            seats = list(self._seats)
        found, then = [], []
        for number, seat in enumerate(seats):
            picture, now = seat.pictures.of_now(seen[number] if number < len(seen) else Seen())
            about: dict[str, Any] = {"name": NAMES[number], "error": seat.error, "settings": None}
            if seat.planned is not None:
                about["settings"] = seat.planned.settings
                about["has_fixed_network"] = seat.planned.recorded["from"] is not None
            found.append({**about, **picture})
            then.append(now)
        return {"form": self._form, "runs": found}, then

    def command(self, request: dict[str, Any]) -> None:
        """Do what the page asks for; SettingsError if it cannot be done, and `Unanswered` if the settings do not fit.

        The request has the name of a command as "command", the number of a run as "run", and perhaps values.
        """
        name = request.get("command")
        if name == "plan":
            self._plan(request)
        elif name == "remove":
            with self._lock:
                if len(self._seats) < 2:
                    raise SettingsError("there is no second run")
                self._seats.pop().end()
                self._changes += 1
        elif name in ("train", "pause", "step", "epoch", "stop", "again", "pace"):
            self._control(str(name), request)
        else:
            raise SettingsError("command is none of plan, remove, train, pause, step, epoch, stop, again and pace")

    def _plan(self, request: dict[str, Any]) -> None:
        number, settings = request.get("run", 0), request.get("settings")
        if type(number) is not int or not 0 <= number <= min(1, len(self._seats)):
            raise SettingsError("run is no number of a run, expected 0 or 1")
        if not isinstance(settings, dict):
            raise SettingsError("settings are missing, expected them by their names")
        try:
            self.plan(number, settings, paused=request.get("paused") is not False)
        except (FastnnError, MemoryError) as error:
            raise Unanswered(str(error) or "out of memory") from None

    def _control(self, name: str, request: dict[str, Any]) -> None:
        with self._lock:
            seat = self._seat(request)
            if name == "again":
                if seat.planned is None:
                    raise SettingsError("the run was started by a program, which can start it again")
                seat.start(paused=request.get("paused") is not False, pace=seat.live.batches_per_second)
                self._changes += 1
            elif name == "pace":
                pace = request.get("batches_per_second")
                if pace is not None and (isinstance(pace, bool) or not isinstance(pace, (int, float)) or pace > 1e9):
                    raise SettingsError("batches_per_second is no number up to 1e9, nor null")
                seat.live.set_pace(pace)
            else:
                getattr(seat.live, name)()

    def predict(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return what the newest network of a run answers, see `answer`; DataError if the request is no row.

        `Unanswered` if there is no network yet.

        The request has the number of a run as "run", perhaps a "unit", and one of: "drawing", a prepared picture;
        "row", numbers as the network takes them; "sample", the number of a row of the validation data.
        """
        seat = self._seat(request)
        model, setup = seat.pictures.model(), seat.live.moment.setup
        if model is None or setup is None:
            raise Unanswered("training has not begun yet")
        given = [name for name in ("drawing", "row", "sample") if name in request]
        if len(given) != 1:
            raise DataError("expected one of drawing, row and sample")
        value = request[given[0]]
        if given == ["drawing"]:
            row = drawn_row(model, value)
        elif given == ["sample"]:
            row = sample_row(setup.validation, value)
        else:
            row = as_numbers(value, model.network.n_inputs)[None]
        return {"run": seat.pictures.number, **answer(model, row, request.get("unit"))}

    def code(self, number: int) -> dict[str, Any]:
        """Return the command line and the Python code that repeat a run, and its digest if it has ended."""
        seat = self._seat({"run": number})
        moment = seat.live.moment
        if moment.setup is None:
            raise Unanswered("training has not begun yet")
        config, backend, result = moment.setup.config, moment.setup.backend, moment.result
        digest = None if result is None else result.digest()
        if seat.code is None:
            settings = ", ".join(f"{name}={text}" for name, text in python_settings(config, backend).items())
            python = f"result = fastnn.train(network, data, {settings})  # network and data: those of your program\n"
            return {"command": None, "python": python, "digest": digest, "stopped_after": None}
        stopped = result is not None and result.stopped == "callback"
        after = len(result.history) if result is not None and stopped else None
        return {
            "command": seat.code.command(config, backend),
            "python": seat.code.python(config, backend, after),
            "digest": digest,
            "stopped_after": after,
        }

    def _seat(self, request: dict[str, Any]) -> Seat:
        number, seats = request.get("run", 0), self._seats
        if type(number) is not int or not 0 <= number < len(seats):
            raise SettingsError("run is no number of a run")
        return seats[number]
