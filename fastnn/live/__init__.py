"""Training that a browser shows: the server on this computer, and its page."""

from typing import TYPE_CHECKING

from fastnn.errors import needs_extra

if TYPE_CHECKING:
    from fastnn.live.server import LiveServer
    from fastnn.live.session import Session


def serve(session: "Session", port: int = 0, *, frames: bool = False) -> "LiveServer":
    """Return the running server of a session, see `LiveServer`; MissingDependencyError without the extra `play`."""
    with needs_extra("the live page needs starlette and uvicorn", "play"):
        from fastnn.live.server import LiveServer
    return LiveServer(session, port, frames=frames)
