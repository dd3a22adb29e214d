"""Shows how far a sweep is: a bar on a terminal, one updated line in a notebook, plain lines elsewhere."""

import os
import sys
from collections.abc import Callable
from typing import Any

from fastnn.sweeps.grid import settings_text
from fastnn.sweeps.record import SweepRecord
from fastnn.training.progress import notebook_display

# In a pipe, a sweep of more runs prints about as many lines.
_MOST_LINES = 200


class SweepProgress:
    """Shows the finished runs of a sweep on stderr, from the first one on until `close`.

    Parameters
    ----------
    total : int
        The number of runs.
    n_done : int
        The number of runs that were finished before.
    """

    def __init__(self, total: int, n_done: int) -> None:
        self._total, self._n_done, self._n_failed = total, n_done, 0
        self._show, self._close = _display(total, n_done)

    def update(self, record: SweepRecord) -> None:
        """Show that a run has finished."""
        self._n_done += 1
        self._n_failed += record.has_failed
        failed = f", {self._n_failed} failed" if self._n_failed else ""
        self._show(self._n_done, f"{self._n_done}/{self._total} runs{failed}  {_run_text(record)}")

    def close(self) -> None:
        """End the display."""
        self._close()


def _run_text(record: SweepRecord) -> str:
    settings = f"{settings_text(record.settings)}, " if record.settings else ""
    if record.has_failed:
        return f"{settings}seed {record.seed}: {record.error}"
    if record.validation_accuracy is not None:
        metric = f"validation accuracy {record.validation_accuracy:.2%}"
    else:
        metric = f"validation loss {record.validation_loss or 0:.4g}"
    return f"{settings}seed {record.seed}: {metric}"


Show = Callable[[int, str], None]


def _display(total: int, n_done: int) -> tuple[Show, Callable[[], None]]:
    """Return a function that shows the number of finished runs and a text, and one that ends the display."""
    display = notebook_display()
    if display is not None:
        return _notebook_line(display)
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        return _live_bar(total, n_done)
    every = -(-total // _MOST_LINES)

    def show(count: int, text: str) -> None:
        if count % every == 0 or count == total:
            print(text, file=sys.stderr, flush=True)

    return show, lambda: None


def _notebook_line(display: Any) -> tuple[Show, Callable[[], None]]:
    handle = None

    def show(_: int, text: str) -> None:
        nonlocal handle
        plain = {"text/plain": text}
        if handle is None:
            handle = display(plain, raw=True, display_id=True)
        else:
            handle.update(plain, raw=True)

    return show, lambda: None


def _live_bar(total: int, n_done: int) -> tuple[Show, Callable[[], None]]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = BarColumn(20), TextColumn("{task.description}"), TimeRemainingColumn(compact=True)
    bar = Progress(*columns, console=Console(file=sys.stderr))
    task = bar.add_task(f"{n_done}/{total} runs", total=total, completed=n_done)
    bar.start()

    def show(count: int, text: str) -> None:
        bar.update(task, completed=count, description=escape(text))

    return show, bar.stop
