"""The page of `fastnn play` and `fastnn train --live`: its options, its address, and how it ends."""

import argparse
import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NoReturn

from fastnn.errors import SettingsError

if TYPE_CHECKING:
    from fastnn.live.session import Session

_HIGHEST_PORT = 2**16 - 1
_POLL_SECONDS = 0.5  # Windows can interrupt only a wait that has a timeout


def add_page(parser: argparse._ActionsContainer) -> None:
    """Add `--port` and `--no-browser`."""
    parser.add_argument(
        "--port", metavar="N", type=int, default=0, help="port of the page on this computer (default: a free one)"
    )
    parser.add_argument(
        "--no-browser", dest="browser", action="store_false", help="print the address of the page, and do not open it"
    )


@contextlib.contextmanager
def page(session: "Session", options: argparse.Namespace, show: Callable[[str], object]) -> Iterator[None]:
    """Serve the page of a session while the block runs, and show its address. The runs of the session end with it."""
    from fastnn.live import serve

    if not 0 <= options.port <= _HIGHEST_PORT:
        raise SettingsError(f"port is {options.port}, expected a number from 0 to {_HIGHEST_PORT}")
    with contextlib.ExitStack() as stack:
        stack.callback(session.close)
        server = serve(session, options.port)
        stack.callback(server.close)
        show(f"open {server.address} in a browser; Ctrl-C ends")
        if options.browser:
            import webbrowser

            webbrowser.open(server.address)
        yield


def wait_for_signal() -> NoReturn:
    """Wait until a signal ends the command."""
    while True:
        threading.Event().wait(_POLL_SECONDS)
