"""Tests of the server by raw sockets: what it answers to requests that are broken, foreign, huge or slow."""

import http.client
import json
import socket
import threading
import time

import pytest

import fastnn
from fastnn.errors import SettingsError
from fastnn.live import serve
from fastnn.live import server as module
from fastnn.live.run import LiveRun
from fastnn.live.session import Session
from tests.live.conftest import paused, wait_until


@pytest.fixture(scope="module")
def page():
    """A server that shows a run of the 8x8 digits, which waits."""
    session, live = Session(), LiveRun(paused=True)
    session.watch(live)
    data = fastnn.load_digits()
    network = fastnn.Network.for_data(data, (16,))
    thread = threading.Thread(
        target=lambda: fastnn.train(network, data, validation=0.2, epochs=3, backend="numpy", callbacks=[live])
    )
    thread.start()
    paused(session)
    served = serve(session)
    served.session = session
    yield served
    served.close()
    session.close()
    thread.join(30)


def exchange(port, data, seconds=5.0):
    """Return all that the server answers to some bytes, until it closes or is silent."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as client:
        client.sendall(data)
        found = b""
        try:
            while part := client.recv(65536):
                found += part
        except (TimeoutError, ConnectionError):
            pass
        return found


def status(answer):
    """Return the status of an answer; 0 for none."""
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


def head(page, line="POST /command", **changed):
    """Return the head of a request; a header that is None is left out, and a list stands for several lines."""
    headers = {
        "Host": f"127.0.0.1:{page.port}",
        "Authorization": f"Bearer {page.token}",
        "Content-Type": "application/json",
        "Connection": "close",
    }
    headers |= {name.replace("_", "-"): value for name, value in changed.items()}
    lines = [f"{line} HTTP/1.1"]
    for name, value in headers.items():
        lines += [f"{name}: {each}" for each in (value if isinstance(value, list) else [value]) if each is not None]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def post(page, path, body, **changed):
    """Return the status and the JSON of an answer to a body of JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = exchange(page.port, head(page, f"POST {path}", **{"Content-Length": len(data), **changed}) + data)
    return status(answer), json.loads(answer.partition(b"\r\n\r\n")[2] or b"{}")


def get(page, path, **changed):
    return exchange(page.port, head(page, f"GET {path}", **{"Content-Type": None, **changed}), seconds=2)


def test_the_page_and_its_files_are_served_with_a_strict_policy(page):
    for path, kind in [("/", "text/html"), ("/play.js", "text/javascript"), ("/style.css", "text/css")]:
        answer = get(page, path, Authorization=None)
        headers = answer.partition(b"\r\n\r\n")[0].decode().lower()
        assert status(answer) == 200
        assert f"content-type: {kind}" in headers
        policy = headers.partition("content-security-policy: ")[2].partition("\r\n")[0]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        for line in ("x-content-type-options: nosniff", "x-frame-options: deny", "referrer-policy: no-referrer"):
            assert line in headers
        assert "access-control" not in headers
        assert page.token.encode() not in answer


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        (None, 411),
        ("-1", 400),
        ("1e3", 400),
        ("+5", 400),
        (["5", "6"], 400),
        ("65537", 413),
        ("10000000000", 413),
        ("9" * 19, 413),
        ("9" * 400, 400),
    ],
)
def test_bodies_of_a_wrong_length_are_refused_before_they_are_read(lengths, expected, page):
    assert status(exchange(page.port, head(page, Content_Length=lengths), seconds=3)) == expected


def test_chunked_bodies_are_refused(page):
    chunked = head(page, Transfer_Encoding="chunked", Content_Length=None) + b"2\r\n{}\r\n0\r\n\r\n"
    assert status(exchange(page.port, chunked)) == 411
    both = head(page, Transfer_Encoding="chunked", Content_Length="2") + b"2\r\n{}\r\n0\r\n\r\n"
    assert status(exchange(page.port, both)) in (400, 411)
    assert status(exchange(page.port, head(page, "GET /", Content_Length="5") + b"hello")) == 400


def test_a_body_shorter_than_announced_is_given_up(page, monkeypatch):
    monkeypatch.setattr(module, "SECONDS_TO_READ", 0.3)
    start = time.monotonic()
    answer = exchange(page.port, head(page, Content_Length=100) + b"{}", seconds=5)
    assert time.monotonic() - start < 3
    assert status(answer) in (0, 400)


def test_a_body_longer_than_announced_is_no_second_request(page):
    body = json.dumps({"command": "pause"}).encode()
    smuggled = b"GET /code HTTP/1.1\r\nHost: evil.example\r\n\r\n"
    answer = exchange(page.port, head(page, Content_Length=len(body), Connection=None) + body + smuggled, seconds=2)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b"HTTP/1.1 200 ") == 1  # the rest is a request of its own, which is refused


@pytest.mark.parametrize("part", ["nothing", "half a head", "a byte at a time"])
def test_a_slow_client_loses_its_socket(part, page, monkeypatch):
    monkeypatch.setattr(module, "SECONDS_TO_READ", 0.4)
    with socket.create_connection(("127.0.0.1", page.port), timeout=5) as client:
        whole = head(page, "GET /code")
        start = time.monotonic()
        try:
            if part == "half a head":
                client.sendall(whole[:40])
            elif part == "a byte at a time":
                for byte in whole[:40]:
                    client.sendall(bytes([byte]))
                    time.sleep(0.05)
            assert client.recv(100) == b""
        except ConnectionError:
            pass
        assert time.monotonic() - start < 4
    assert status(get(page, "/")) == 200


def test_connections_are_bounded(page):
    held = []
    try:
        for _ in range(module.MOST_CONNECTIONS + 20):
            held.append(socket.create_connection(("127.0.0.1", page.port), timeout=3))
        refused = 0
        for client in held[module.MOST_CONNECTIONS :]:
            try:
                refused += client.recv(1) == b""
            except ConnectionError:
                refused += 1
        assert refused >= 15
    finally:
        for client in held:
            client.close()
    wait_until(lambda: status(get(page, "/")) == 200)


@pytest.mark.parametrize(
    "kind",
    [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonx", "json"],
)
def test_bodies_of_another_type_are_refused(kind, page):
    assert post(page, "/command", {"command": "pause"}, **{"Content-Type": kind})[0] == 415


def test_json_with_a_charset_is_accepted(page):
    assert post(page, "/command", {"command": "pause"}, **{"Content-Type": "application/json; charset=utf-8"})[0] == 200


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 60_000, b'{"a":' * 9000, b"1" * 5000])
def test_bodies_that_are_no_json_are_refused(body, page):
    assert post(page, "/predict", body)[0] == 400


@pytest.mark.parametrize(
    "body", [b"[]", b"null", b"7", b'"train"', b"NaN", b"{}", b'{"command": null}', b'{"command": ["train"]}']
)
def test_json_that_is_no_command_is_refused(body, page):
    found, answer = post(page, "/command", body)
    assert found == 422
    assert answer["error"]


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        ({"row": [0] * 63}, "found 63 numbers, expected 64"),
        ({"row": [0] * 65}, "found 65 numbers"),
        ({"row": []}, "found 0 numbers"),
        ({"row": "0" * 64}, "found str"),
        ({"row": {"0": 1}}, "found dict"),
        ({"row": None}, "found NoneType"),
        ({"row": [0] * 63 + ["1"]}, "number 63 is a str"),
        ({"row": [0] * 63 + [[1]]}, "number 63 is a list"),
        ({"row": [[0] * 8] * 64}, "number 0 is a list"),
        ({"row": [0] * 63 + [None]}, "number 63 is a NoneType"),
        ({"row": [0] * 63 + [True]}, "number 63 is a bool"),
        ({"row": [0] * 63 + [float("nan")]}, "number 63 is not between"),
        ({"row": [0] * 63 + [float("inf")]}, "number 63 is not between"),
        ({"row": [1e308] * 64}, "number 0 is not between"),
        ({"row": [10**300] + [0] * 63}, "number 0 is not between"),
        ({"row": [-(10**300)] + [0] * 63}, "number 0 is not between"),
        ({"drawing": [256] + [0] * 783}, "number 0 is not between"),
        ({"drawing": [-1] + [0] * 783}, "below 0"),
        ({"drawing": [0] * 64}, "found 64 numbers, expected 784"),
        ({"sample": -1}, "sample is no number"),
        ({"sample": 10**9}, "sample is no number"),
        ({"sample": "0"}, "sample is no number"),
        ({"sample": True}, "sample is no number"),
        ({"sample": 0, "row": [0] * 64}, "expected one of"),
        ({}, "expected one of"),
        ({"sample": 0, "unit": [0, 0]}, "unit is no"),
        ({"sample": 0, "unit": [1, 10**30]}, "has no unit"),
        ({"sample": 0, "unit": [1.0, 1]}, "unit is no"),
        ({"sample": 0, "unit": "../../etc/passwd"}, "unit is no"),
        ({"sample": 0, "run": 7}, "run is no number"),
    ],
)
def test_rows_that_are_none_are_refused_with_a_reason(request_, reason, page):
    found, answer = post(page, "/predict", request_)
    assert found == 422
    assert reason in answer["error"]


def test_numbers_that_are_allowed_are_answered(page):
    assert post(page, "/predict", {"row": [16] * 64})[0] == 200
    found, answer = post(page, "/predict", {"row": [1e15] + [0.5] * 63})
    assert found == 200
    assert len(answer["outputs"]) == 10
    assert post(page, "/predict", {"drawing": [255] * 784, "unit": [1, 2]})[0] == 200


@pytest.mark.parametrize(
    "host",
    [
        None,
        "evil.example",
        "127.0.0.1",
        "127.0.0.1:1",
        "127.0.0.1.:{port}",
        "localhost.:{port}",
        "user@127.0.0.1:{port}",
        "127.0.0.1:{port}@evil.example",
        "0.0.0.0:{port}",
        "127.0.0.2:{port}",
        "2130706433:{port}",
        "[::]:{port}",
        "localhost:{port}x",
        ["127.0.0.1:{port}", "evil.example"],
        "",
    ],
)
@pytest.mark.parametrize("line", ["GET /", "GET /code", "POST /command"])
def test_foreign_hosts_are_refused(line, host, page):
    hosts = [host] if not isinstance(host, list) else host
    hosts = [each if each is None else each.format(port=page.port) for each in hosts]
    length = "2" if line.startswith("POST") else None
    assert status(exchange(page.port, head(page, line, Host=hosts, Content_Length=length) + b"{}", seconds=3)) in (
        400,
        403,
    )


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "localhost:{port}", "LocalHost:{port}", "[::1]:{port}"])
def test_own_hosts_are_accepted(host, page):
    own = host.format(port=page.port)
    assert status(get(page, "/code", Host=own)) == 200
    assert status(get(page, "/code", Host=own, Origin=f"http://{own}", Sec_Fetch_Site="same-origin")) == 200


@pytest.mark.parametrize(
    "changed",
    [
        {"Origin": "null"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "https://127.0.0.1:{port}"},
        {"Origin": "http://localhost:{port}"},  # another origin than that of the Host
        {"Origin": "http://127.0.0.1:{port}.evil.example"},
        {"Origin": ""},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
@pytest.mark.parametrize("path", ["/command", "/predict"])
def test_foreign_pages_are_refused(path, changed, page):
    changed = {name: value.format(port=page.port) for name, value in changed.items()}
    assert post(page, path, {"command": "pause"}, **changed)[0] == 403


def test_another_page_may_link_to_this_one_but_not_read_or_frame_it(page):
    foreign = {"Sec_Fetch_Site": "cross-site"}
    assert status(get(page, "/", **foreign, Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="document")) == 200
    for mode, destination in [("navigate", "iframe"), ("no-cors", "script"), ("cors", "empty")]:
        assert status(get(page, "/", **foreign, Sec_Fetch_Mode=mode, Sec_Fetch_Dest=destination)) == 403
    assert status(get(page, "/play.js", **foreign, Sec_Fetch_Mode="no-cors", Sec_Fetch_Dest="script")) == 403


def test_a_notebook_may_frame_the_page_of_its_own_server():
    served = serve(Session(), frames=True)
    try:
        answer = get(served, "/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="iframe")
        assert status(answer) == 200
        assert b"frame-ancestors http://localhost:*" in answer
        assert b"x-frame-options" not in answer.lower()
        assert status(get(served, "/code", Sec_Fetch_Site="cross-site")) == 403
    finally:
        served.close()


@pytest.mark.parametrize(
    "token", [None, "", "Bearer", "Bearer x", "Basic {token}", "{token}", "Bearer {token}x", "Bearer \xe9"]
)
@pytest.mark.parametrize("path", ["/events", "/code"])
def test_requests_without_the_token_are_refused(path, token, page):
    given = None if token is None else token.format(token=page.token)
    answer = get(page, path, Authorization=given)
    assert status(answer) == 403
    assert b"token is missing or wrong" in answer
    assert page.token.encode() not in answer


@pytest.mark.parametrize(
    "path",
    [
        "/../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/%252e%252e/etc/passwd",
        "/..\\..\\windows",
        "/%5c..%5c",
        "//etc/passwd",
        "/C:/windows/win.ini",
        "/play.js%00.css",
        "/play.js/",
        "/Play.js",
        "/./play.js",
        "/play.html",
        "/server.py",
        "/code/",
        "/favicon.ico",
        "http://evil.example/",
        "*",
    ],
)
def test_no_path_names_another_file(path, page):
    assert status(get(page, path)) in (400, 404)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "post"])
@pytest.mark.parametrize("path", ["/", "/command", "/events", "/play.js"])
def test_other_methods_are_refused(path, method, page):
    answer = exchange(page.port, head(page, f"{method} {path}", Content_Length="0"), seconds=3)
    assert status(answer) in (400, 405)
    assert b"access-control" not in answer.lower()


def test_get_and_post_are_not_exchanged(page):
    assert status(get(page, "/command")) == 405
    assert post(page, "/events", {})[0] == 405
    assert post(page, "/", {})[0] == 405
    assert status(exchange(page.port, head(page, "HEAD /", Content_Type=None), seconds=2)) == 200


def test_nothing_is_learned_from_a_request_that_fails_inside(page, monkeypatch):
    def fail(request):
        raise RuntimeError("a secret of the machine")

    monkeypatch.setattr(page.session, "predict", fail)
    found, answer = post(page, "/predict", {"sample": 0})
    assert (found, answer) == (500, {"error": "internal error: RuntimeError"})


def test_only_this_computer_is_listened_to(page):
    assert page._socket.getsockname()[0] == "127.0.0.1"
    others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)} - {"127.0.0.1"}
    for address in others:
        if not address.startswith("127."):
            with socket.socket() as client:
                client.settimeout(1)
                assert client.connect_ex((address, page.port)) != 0


def test_a_port_in_use_is_one_clear_line(page):
    with pytest.raises(SettingsError, match=f"port {page.port} of 127.0.0.1 cannot be used: Address already in use"):
        serve(Session(), page.port)


def test_the_stream_sends_pictures_to_two_browsers_and_ends_with_the_server(page):
    streams = []
    for _ in range(2):
        connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=10)
        connection.request("GET", "/events", headers={"Authorization": f"Bearer {page.token}"})
        answer = connection.getresponse()
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        streams.append((connection, answer))
    for _, answer in streams:
        line = answer.readline()
        assert json.loads(line.removeprefix(b"data: "))["runs"][0]["status"] == "paused"
    assert answer.readline() == b"\n"
    streams[0][0].close()  # a browser is closed
    assert post(page, "/command", {"command": "step"})[0] == 200
    seen = 0
    while seen != 1:
        line = streams[1][1].readline()
        if line.startswith(b"data: "):
            seen = json.loads(line.removeprefix(b"data: "))["runs"][0]["batch"]
    streams[1][0].close()


def test_a_server_that_closes_ends_its_streams_and_frees_its_port():
    served = serve(Session())
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
    connection.request("GET", "/events", headers={"Authorization": f"Bearer {served.token}"})
    answer = connection.getresponse()
    answer.readline()
    start = time.monotonic()
    served.close()
    assert time.monotonic() - start < 1.5
    assert answer.read().replace(b"\n", b"") == b""
    answer.close()
    connection.close()
    again = serve(Session(), served.port)
    again.close()
    names = [thread.name for thread in threading.enumerate()]
    assert f"fastnn server {served.port}" not in names
