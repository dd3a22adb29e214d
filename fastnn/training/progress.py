"""Progress on stderr: a live bar on a terminal, a plain line per epoch elsewhere."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fastnn.training.train import EpochEnd


@contextmanager
def show_progress(n_samples: int) -> Iterator[Callable[[EpochEnd], None]]:
    """Yield a callback for `fastnn.train` that shows the progress of a run with `n_samples` samples per epoch."""
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        with _live_bar(n_samples) as callback:
            yield callback
    else:
        yield lambda end: print(_line(end, n_samples), file=sys.stderr, flush=True)


def _line(end: EpochEnd, n_samples: int) -> str:
    record = end.record
    parts = [f"epoch {record.epoch}/{end.epochs}", f"loss {record.loss:.4f}", f"accuracy {record.accuracy:.2%}"]
    if record.validation_accuracy == record.validation_accuracy:
        parts.append(f"validation {record.validation_accuracy:.2%}")
    parts.append(f"{n_samples / max(record.seconds, 1e-9):,.0f} images/s")
    return "  ".join(parts)


@contextmanager
def _live_bar(n_samples: int) -> Iterator[Callable[[EpochEnd], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(file=sys.stderr)
    bar = Progress(BarColumn(20), TextColumn("{task.description}"), TimeRemainingColumn(compact=True), console=console)
    task, last_update = None, 0.0

    def callback(end: EpochEnd) -> None:
        nonlocal task, last_update
        if task is None:
            task = bar.add_task("", total=end.epochs)
        last = end.record.epoch == end.epochs
        # Nobody can read more than 20 updates a second.
        if last or time.monotonic() - last_update > 0.05:
            bar.update(task, completed=end.record.epoch, description=_line(end, n_samples))
            last_update = time.monotonic()

    with bar:
        yield callback
