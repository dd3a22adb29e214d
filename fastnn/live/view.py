"""`LiveView`: a callback that shows a run of `fastnn.train` in a page of the browser, or in a notebook."""

import sys
from html import escape
from typing import TYPE_CHECKING, Any

from fastnn.checks import check_integer
from fastnn.live import serve
from fastnn.live.run import LiveRun
from fastnn.live.session import Session
from fastnn.training.callbacks import BatchStart, EpochEnd
from fastnn.training.progress import notebook_display
from fastnn.training.result import TrainingResult

if TYPE_CHECKING:
    from fastnn.live.server import LiveServer

_HEIGHT = 900  # of the frame in a notebook, in CSS pixels


class LiveView:
    """A callback for `fastnn.train` that shows the run live: curves, weights, mistakes, answers to drawings.

    The page can pause the run, let it go on by one step or one epoch, slow it down and stop it after an epoch. The
    network and its history have the same bits as without it.

    The page is served to this computer only, at an address with a secret token, which is printed on stderr. In a
    notebook that runs on this computer, the page is shown below the cell. It stays after the run: one view can show one
    run after another. It ends with the process, or by `shut_down`.

    Parameters
    ----------
    port : int
        The port of the page, from 0 to 65535; 0 for any that is free.
    paused : bool
        Whether each run waits for the page before its first batch.
    browser : bool
        Whether to open the page in the browser, outside notebooks.

    Attributes
    ----------
    address : str
        The address of the page; "" before the first run.

    Raises
    ------
    SettingsError
        If the port is out of range, or, when the run begins, in use.
    MissingDependencyError
        When the run begins, if a package of the extra ``play`` is missing.

    Examples
    --------
    >>> import fastnn
    >>> data = fastnn.load_digits()
    >>> network = fastnn.Network.for_data(data, (16,))
    >>> with fastnn.LiveView() as view:
    ...     result = fastnn.train(network, data, validation=0.2, epochs=3, callbacks=[view])
    >>> len(result.history)
    3
    """

    def __init__(self, port: int = 0, *, paused: bool = False, browser: bool = False) -> None:
        self._port, self._paused, self._browser = check_integer("port", port, 0, 2**16 - 1), bool(paused), bool(browser)
        self._session, self._live = Session(), LiveRun(paused=self._paused)
        self._server: LiveServer | None = None

    @property
    def address(self) -> str:
        """The address of the page; "" if it is not served."""
        return "" if self._server is None else self._server.address

    # --- The callback ------------------------------------------------------------------------------------------------
    def begin(self) -> None:
        """Show a run that begins; serve the page if it is the first one."""
        display = notebook_display()
        is_first = self._server is None
        if self._server is None:
            self._server = serve(self._session, self._port, frames=display is not None)
        self._live = LiveRun(paused=self._paused)
        self._session.watch(self._live)
        if not is_first:
            return
        if display is not None:
            display(self)
            return
        print(f"fastnn: watch this run at {self.address}", file=sys.stderr, flush=True)
        if self._browser:
            import webbrowser

            webbrowser.open(self.address)

    def before_batches(self, start: BatchStart) -> int | None:
        """Wait if the page says so; return the number of batches to train on, None for the rest of the epoch."""
        return self._live.before_batches(start)

    def __call__(self, end: EpochEnd) -> bool:
        """Show an epoch; return whether the page stops the run."""
        return self._live(end)

    def ended(self, result: TrainingResult) -> None:
        """Show the result."""
        self._live.ended(result)

    # --- The page ----------------------------------------------------------------------------------------------------
    def shut_down(self) -> None:
        """End the page. A run that goes on does so at full speed, and a later run is served anew."""
        self._session.close()
        if self._server is not None:
            self._server.close()
            self._server = None

    def __enter__(self) -> "LiveView":
        """Return the view itself."""
        return self

    def __exit__(self, *_: Any) -> None:
        """End the page."""
        self.shut_down()

    def _repr_html_(self) -> str:
        if self._server is None:
            return "<p>fastnn.LiveView: no run has begun yet.</p>"
        address = escape(self.address)
        return (
            f'<iframe src="{address}" title="A run of fastnn, live" width="100%" height="{_HEIGHT}" '
            f'style="border: 0"></iframe><p>In a page of its own: <a href="{address}" target="_blank" '
            f'rel="noopener">{address}</a>. It is served to this computer only.</p>'
        )
