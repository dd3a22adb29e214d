"""`Progress` shows a run: a live bar on a terminal, one updated line in a notebook, plain lines elsewhere."""

import os
import sys
import time
from collections.abc import Callable
from typing import Any

from fastnn.training.callbacks import EpochEnd

# Nobody can read more updates a second.
_UPDATES_PER_SECOND = 20
# In a pipe, runs of more epochs print about as many lines.
_MOST_LINES = 200


class Progress:
    """A callback for `train` that shows the epoch, the loss, the accuracy and the speed of a run.

    ``fastnn.train(..., verbose=True)`` uses it. On a terminal, it draws a bar with the remaining time on stderr; in a
    notebook, it updates one line below the cell; in a pipe or a file, it prints a line per epoch on stderr, and about
    200 lines of longer runs. Networks whose outputs are numbers have no accuracy, so the validation loss stands in its
    place.

    Examples
    --------
    >>> import fastnn
    >>> data = fastnn.load_digits()
    >>> network = fastnn.Network.for_data(data, (16,))
    >>> result = fastnn.train(network, data, epochs=2, callbacks=[fastnn.Progress()])
    >>> len(result.history)
    2
    """

    def __init__(self) -> None:
        self._show: Callable[[EpochEnd], None] | None = None
        self._close: Callable[[], None] = _nothing

    def __call__(self, end: EpochEnd) -> None:
        """Show an epoch."""
        if self._show is None:
            self._show, self._close = _display()
        self._show(end)

    def close(self) -> None:
        """End the display, as `train` does at the end of a run; the next epoch begins a new one."""
        self._close()
        self._show, self._close = None, _nothing


def progress_line(end: EpochEnd) -> str:
    """Return the line that describes an epoch."""
    record = end.record
    parts = [f"epoch {record.epoch}/{end.epochs}", f"loss {record.loss:.4f}"]
    has_accuracy = record.accuracy == record.accuracy
    if has_accuracy:
        parts.append(f"accuracy {record.accuracy:.2%}")
    if record.validation_loss == record.validation_loss:
        name, value = ("accuracy", f"{record.validation_accuracy:.2%}") if has_accuracy else ("loss", "")
        parts.append(f"validation {name} {value or format(record.validation_loss, '.4f')}")
    parts.append(f"{end.n_samples / max(record.seconds, 1e-9):,.0f} samples/s")
    return "  ".join(parts)


def notebook_display() -> Any:
    """Return IPython's function `display` in a notebook, else None."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if shell is None or getattr(shell, "kernel", None) is None:  # IPython on a terminal has no kernel
        return None
    from IPython.display import display

    return display


def _nothing() -> None:
    pass


def _display() -> tuple[Callable[[EpochEnd], None], Callable[[], None]]:
    """Return a function that shows an epoch, and one that ends the display, for the place where the process runs."""
    display = notebook_display()
    if display is not None:
        return _notebook_line(display)
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        return _live_bar()
    return _lines()


def _lines() -> tuple[Callable[[EpochEnd], None], Callable[[], None]]:
    """Print a line per epoch; of long runs, about _MOST_LINES epochs and the last one."""
    last: EpochEnd | None = None
    printed: EpochEnd | None = None

    def show(end: EpochEnd) -> None:
        nonlocal last, printed
        last = end
        if end.epochs <= _MOST_LINES or end.record.epoch % -(-end.epochs // _MOST_LINES) == 0:
            print(progress_line(end), file=sys.stderr, flush=True)
            printed = end

    def close() -> None:
        if last is not printed and last is not None:
            print(progress_line(last), file=sys.stderr, flush=True)

    return show, close


def _notebook_line(display: Any) -> tuple[Callable[[EpochEnd], None], Callable[[], None]]:
    handle, last_update, shown = None, 0.0, ""

    def show(end: EpochEnd) -> None:
        nonlocal handle, last_update, shown
        shown = progress_line(end)
        if handle is None:
            handle = display(_plain(shown), raw=True, display_id=True)
        elif time.monotonic() - last_update > 1 / _UPDATES_PER_SECOND:
            handle.update(_plain(shown), raw=True)
        else:
            return
        last_update = time.monotonic()

    def close() -> None:
        if handle is not None:
            handle.update(_plain(shown), raw=True)

    return show, close


def _plain(text: str) -> dict[str, str]:
    return {"text/plain": text}


def _live_bar() -> tuple[Callable[[EpochEnd], None], Callable[[], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(file=sys.stderr)
    bar = Progress(BarColumn(20), TextColumn("{task.description}"), TimeRemainingColumn(compact=True), console=console)
    task, last_update, latest = bar.add_task("", total=None), 0.0, None
    bar.start()

    def update() -> None:
        if latest is not None:
            bar.update(task, total=latest.epochs, completed=latest.record.epoch, description=progress_line(latest))

    def show(end: EpochEnd) -> None:
        nonlocal last_update, latest
        latest = end
        if time.monotonic() - last_update > 1 / _UPDATES_PER_SECOND:
            update()
            last_update = time.monotonic()

    def close() -> None:
        update()
        bar.stop()

    return show, close
