"""`LiveServer`: serves the page of a session on this computer, to whoever has its address.

The routes are fixed and the files are in memory, so that no request can name another one. A request is refused before
its body is read unless its Host, Origin and Sec-Fetch-Site are those of this page, and it has the token. The token is
in the fragment of the address, which browsers send to nobody; the page sends it in a header, which no foreign page can.
"""

import asyncio
import contextlib
import functools
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from importlib import resources
from typing import Any

import h11
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from fastnn.errors import FastnnError, SettingsError
from fastnn.live.picture import Seen
from fastnn.live.session import Session, Unanswered

HOST = "127.0.0.1"
LARGEST_BODY = 64 * 1024
# A request that has not arrived after this time, head and body, is given up, and so is a connection without requests.
SECONDS_TO_READ, SECONDS_BETWEEN_REQUESTS = 10.0, 15
MOST_CONNECTIONS = 64
PICTURES_PER_SECOND = 12
# A stream without news sends an empty comment after this time, which shows whether the browser is still there.
SECONDS_OF_SILENCE = 10.0

_TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css"}
_PAGE = "play.html"
# The scripts and styles of the page, by the package that has them.
_FILES = {
    "fastnn.pages": ("style.css", "pictures.js", "drawing.js", "figures.js"),
    "fastnn.live": ("play.css", "charts.js", "play.js"),
}
# Where a notebook shows its cells. Its page may frame this one.
_NOTEBOOKS = "http://localhost:* http://127.0.0.1:* https://localhost:* https://127.0.0.1:* vscode-webview:"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors {ancestors}"
)


class Refused(Exception):
    """Ends a request with a status and a reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class _Connection(H11Protocol):
    """A connection that is closed if a request does not arrive in time, or if there are too many."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin, unless there are too many connections."""
        if len(self.connections) >= MOST_CONNECTIONS:
            transport.abort()
            return
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """End, and forget the deadline."""
        if self.transport is not None:  # it was not refused
            self._unwatch()
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read what has arrived; a request begins with its first byte."""
        if self.transport is None or self.transport.is_closing():
            return
        if self._is_idle():
            self._watch()
        super().data_received(data)
        if not self._is_arriving():
            self._unwatch()

    def on_response_complete(self) -> None:
        """Close the connection if a request was answered before its body had arrived."""
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:
            self.transport.close()
        elif self._is_arriving():
            self._watch()

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _is_arriving(self) -> bool:
        """Return whether a part of the head or the body of a request has arrived, but not all of it."""
        return self.conn.their_state is h11.SEND_BODY or (self._is_idle() and bool(self.conn.trailing_data[0]))

    def _watch(self) -> None:
        if self._deadline is None and not self.transport.is_closing():
            self._deadline = self.loop.call_later(SECONDS_TO_READ, self.transport.abort)

    def _unwatch(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class _Guard:
    """Refuses requests that are not from the page, and adds the headers that browsers obey to every answer."""

    def __init__(self, app: ASGIApp, token: str, hosts: set[str], frames: bool) -> None:
        self._app, self._token, self._hosts, self._frames = app, token, hosts, frames
        policy = _POLICY.format(ancestors=_NOTEBOOKS if frames else "'none'")
        self._headers = {
            "content-security-policy": policy,
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "cross-origin-resource-policy": "same-origin",
            "cross-origin-opener-policy": "same-origin",
            "cache-control": "no-store",
        }
        if not frames:
            self._headers["x-frame-options"] = "DENY"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.encode(), value.encode()) for name, value in self._headers.items()]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        request = Request(scope, receive)
        app: ASGIApp = self._app
        try:
            self._check(request)
        except Refused as refused:
            app = _refusal(refused)
        await app(scope, receive, send_with_headers)

    def _check(self, request: Request) -> None:
        """Raise Refused unless the request may be read."""
        headers, path = request.headers, request.scope["path"]
        hosts = headers.getlist("host")
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            raise Refused(403, "the Host is not that of this page")
        origins, allowed = headers.getlist("origin"), f"http://{hosts[0].lower()}"
        if any(origin.lower() != allowed for origin in origins):
            raise Refused(403, "the Origin is not this page")
        self._check_site(request)
        routes = _ROUTES.get(path)
        if routes is None and path not in _files():
            raise Refused(404, "there is nothing here")
        if request.method not in (routes or ("GET", "HEAD")):
            raise Refused(405, "the method is not allowed here")
        self._check_length(request)
        if routes is not None:
            given = headers.get("authorization", "")
            if not secrets.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
                raise Refused(403, "the token is missing or wrong: open the address that fastnn printed")

    def _check_site(self, request: Request) -> None:
        """Raise Refused for a request that a foreign page makes, unless it only opens this page."""
        site, destination = (request.headers.get(f"sec-fetch-{name}", "") for name in ("site", "dest"))
        opens = request.scope["path"] == "/" and request.headers.get("sec-fetch-mode") == "navigate"
        if site in ("", "same-origin", "none") or (opens and (destination == "document" or self._frames)):
            return
        raise Refused(403, "the request is from another site")

    @staticmethod
    def _check_length(request: Request) -> None:
        lengths, coding = request.headers.getlist("content-length"), request.headers.get("transfer-encoding")
        if request.method in ("GET", "HEAD"):
            if coding is not None or any(length.strip("0") for length in lengths):
                raise Refused(400, "the request has a body")
            return
        if coding is not None or not lengths:
            raise Refused(411, "the Content-Length is missing")
        if len(lengths) > 1 or not (lengths[0].isascii() and lengths[0].isdecimal()):
            raise Refused(400, "the Content-Length is no number")
        if len(lengths[0]) > 20 or int(lengths[0]) > LARGEST_BODY:
            raise Refused(413, f"the body is larger than {LARGEST_BODY} bytes")
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise Refused(415, "the Content-Type is not application/json")


# The methods of what is not a file.
_ROUTES = {"/events": ("GET",), "/code": ("GET",), "/command": ("POST",), "/predict": ("POST",)}


def _refusal(refused: Refused) -> JSONResponse:
    headers = {"connection": "close"}  # so that nothing of its body is read
    if refused.status == 405:
        headers["allow"] = "GET, HEAD, POST"
    return JSONResponse({"error": refused.reason}, refused.status, headers)


def _files() -> dict[str, tuple[bytes, str]]:
    """Return the files of the page by their paths, with their types. They are read once."""
    if not _READ:
        _READ["/"] = (resources.files("fastnn.live").joinpath(_PAGE).read_bytes(), "text/html")
        for package, names in _FILES.items():
            for name in names:
                content = resources.files(package).joinpath(name).read_bytes()
                _READ[f"/{name}"] = content, _TYPES[name.rpartition(".")[2]]
    return _READ


_READ: dict[str, tuple[bytes, str]] = {}


def _app(session: Session, closing: Callable[[], bool]) -> Starlette:
    """Return the application of a session. `closing` returns whether the server is about to end."""

    async def file(request: Request) -> Response:
        content, kind = _files()[request.scope["path"]]
        return Response(content, media_type=f"{kind}; charset=utf-8" if kind.startswith("text/") else kind)

    async def events(request: Request) -> Response:
        headers = {"x-accel-buffering": "no"}
        return StreamingResponse(_stream(session, closing), media_type="text/event-stream", headers=headers)

    async def command(request: Request) -> Response:
        body = await _json(request)
        return await _answered(lambda: session.command(body))

    async def predict(request: Request) -> Response:
        body = await _json(request)
        return await _answered(lambda: session.predict(body))

    async def code(request: Request) -> Response:
        number = request.query_params.get("run", "0")
        return await _answered(lambda: session.code(1 if number == "1" else 0))

    routes = [Route(path, file) for path in _files()]
    routes += [Route("/events", events), Route("/code", code)]
    routes += [Route("/command", command, methods=["POST"]), Route("/predict", predict, methods=["POST"])]
    return Starlette(routes=routes, exception_handlers={Refused: _refused, Exception: _unexpected})


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return _refusal(error)


async def _unexpected(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": f"internal error: {type(error).__name__}"}, 500)


async def _json(request: Request) -> dict[str, Any]:
    """Return the body, an object; Refused if it is none. Its length has been checked."""
    try:
        value = json.loads(await request.body())
    except ClientDisconnect:
        raise Refused(400, "the body is shorter than its Content-Length") from None
    except (ValueError, RecursionError):
        raise Refused(400, "the body is no JSON") from None
    if not isinstance(value, dict):
        raise Refused(422, "the body is no object with names")
    return value


async def _stream(session: Session, closing: Callable[[], bool]) -> AsyncIterator[str]:
    """Yield the newest picture whenever something has changed. A slow browser gets fewer of them, and the newest."""
    seen: list[Seen] = []
    version: tuple[int, ...] | None = None
    last = time.monotonic()
    while not closing():
        began = time.monotonic()
        if session.version != version:
            version = session.version
            text, seen = await _in_thread(functools.partial(_event, session, seen))
            yield text
            last = time.monotonic()
        elif began - last > SECONDS_OF_SILENCE:
            yield ":\n\n"
            last = began
        await asyncio.sleep(max(0.005, 1 / PICTURES_PER_SECOND - (time.monotonic() - began)))


def _event(session: Session, seen: list[Seen]) -> tuple[str, list[Seen]]:
    picture, seen = session.picture(seen)
    return f"data: {json.dumps(picture, separators=(',', ':'), allow_nan=False)}\n\n", seen


async def _answered(function: Callable[[], dict[str, Any] | None]) -> Response:
    """Return the answer of a function; an error that it raises on purpose is the reason of a 422.

    `Unanswered` is an answer, because a browser logs any status above 399 as a fault of the page.
    """
    try:
        return JSONResponse(await _in_thread(function) or {})
    except Unanswered as error:
        return JSONResponse({"error": str(error)})
    except (FastnnError, MemoryError) as error:
        raise Refused(422, str(error) or "out of memory") from None


async def _in_thread(function: Callable[[], Any]) -> Any:
    """Return the result of a function that runs in a thread of its own, which does not keep the process from ending."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def finish(result: Any, error: BaseException | None) -> None:
        if future.done():  # nobody waits any more
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def run() -> None:
        result, error = None, None
        try:
            result = function()
        except BaseException as raised:
            error = raised
        with contextlib.suppress(RuntimeError):  # the server has ended
            loop.call_soon_threadsafe(finish, result, error)

    threading.Thread(target=run, name="fastnn request", daemon=True).start()
    return await future


class LiveServer:
    """Serves the page of a session, in a thread of its own, until it is closed.

    Parameters
    ----------
    session : Session
    port : int
        The port of this computer; 0 for any that is free.
    frames : bool
        Whether pages of notebooks may show this one in a frame.

    Attributes
    ----------
    address : str
        The address of the page, with the token.
    port : int
    token : str

    Raises
    ------
    SettingsError
        If the port is in use.
    """

    def __init__(self, session: Session, port: int = 0, *, frames: bool = False) -> None:
        self._socket = _listening(port)
        self.port, self.token = self._socket.getsockname()[1], secrets.token_urlsafe(24)
        self.address = f"http://{HOST}:{self.port}/#{self.token}"
        hosts = {f"{name}:{self.port}" for name in (HOST, "localhost", "[::1]")}
        guard = _Guard(_app(session, self._is_closing), self.token, hosts, frames)
        config = uvicorn.Config(
            guard, http=_Connection, ws="none", lifespan="off", loop="asyncio", log_config=None, log_level="critical",
            access_log=False, server_header=False, date_header=False, proxy_headers=False,
            timeout_keep_alive=SECONDS_BETWEEN_REQUESTS, timeout_graceful_shutdown=1,
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), name=f"fastnn server {self.port}", daemon=True
        )
        self._thread.start()

    def _is_closing(self) -> bool:
        return self._server.should_exit

    def close(self) -> None:
        """End the server. The streams of browsers end, and its port is free again."""
        self._server.should_exit = True
        self._thread.join(3.0)
        self._socket.close()


def _listening(port: int) -> socket.socket:
    """Return a socket that listens at this port of this computer, and at no other address."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # elsewhere, it would let two servers have one port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((HOST, port))
        listening.listen(MOST_CONNECTIONS)
    except OSError as error:
        listening.close()
        reason = error.strerror or str(error)
        raise SettingsError(
            f"port {port} of {HOST} cannot be used: {reason}; expected a free one, or 0 for any"
        ) from None
    return listening
