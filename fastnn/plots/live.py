"""`LiveCurve` draws the learning curves of a run while it proceeds, in a notebook."""

import time
from typing import Any

from fastnn.checks import check_number
from fastnn.errors import SettingsError
from fastnn.plots.curves import LearningCurveDisplay
from fastnn.training.callbacks import EpochEnd
from fastnn.training.history import History
from fastnn.training.progress import notebook_display


class LiveCurve:
    """A callback for `fastnn.train` that draws the learning curves below the cell of a notebook as a run proceeds.

    `LearningCurveDisplay` draws each picture. Networks whose outputs are numbers have a curve of the loss only.

    Parameters
    ----------
    seconds : float
        The shortest time between two pictures; the last one always shows the whole run.

    Attributes
    ----------
    history : History or None
        The history of the run so far.

    Raises
    ------
    SettingsError
        If the code does not run in a notebook.

    Examples
    --------
    >>> import fastnn
    >>> try:
    ...     callbacks = [fastnn.LiveCurve()]  # for fastnn.train
    ... except fastnn.SettingsError as error:  # this example does not run in a notebook
    ...     print(error)
    LiveCurve needs a notebook to draw in; use Progress() on a terminal
    """

    def __init__(self, seconds: float = 1.0) -> None:
        self._display = notebook_display()
        if self._display is None:
            raise SettingsError("LiveCurve needs a notebook to draw in; use Progress() on a terminal")
        self.history: History | None = None
        self._seconds, self._last_update = check_number("seconds", seconds, 0), 0.0
        self._handle: Any = None

    def __call__(self, end: EpochEnd) -> None:
        """Draw the history up to this epoch, unless the last picture is too recent."""
        self.history = end.history
        if self._handle is None or time.monotonic() - self._last_update >= self._seconds:
            self._draw()

    def close(self) -> None:
        """Draw the whole run; the next epoch begins a new picture."""
        if self._handle is not None:
            self._draw()
        self._handle = None

    def _draw(self) -> None:
        curve = LearningCurveDisplay.from_history(self.history)
        if self._handle is None:
            self._handle = self._display(curve, display_id=True)
        else:
            self._handle.update(curve)
        self._last_update = time.monotonic()
