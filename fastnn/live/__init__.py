"""Training that a browser shows: the server on this computer, and its page."""

from typing import TYPE_CHECKING

from fastnn.errors import MissingDependencyError

if TYPE_CHECKING:
    from fastnn.live.server import LiveServer
    from fastnn.live.session import Session


def serve(session: "Session", port: int = 0, *, frames: bool = False) -> "LiveServer":
    """Return the running server of a session, see `LiveServer`; MissingDependencyError without the extra `play`."""
    try:
        from fastnn.live.server import LiveServer
    except ImportError as error:
        if error.name is None or error.name.partition(".")[0] == "fastnn":
            raise
        raise MissingDependencyError(
            f"the live page needs starlette and uvicorn, but {error.name} cannot be imported ({error}); install the "
            "extra fastnn-digits[play]: in a checkout, run pip install '.[play]'"
        ) from error
    return LiveServer(session, port, frames=frames)
