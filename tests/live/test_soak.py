"""Tests that memory stays flat, in the server and in the browser, while runs train, start again and are replaced."""

import gc
import http.client
import os
import threading
import time

import pytest

from fastnn.live import serve
from tests.live.conftest import status, wait_until

MANY = ("--recipe", "digits", "--epochs", "1000000", "--hidden", "32", "--backend", "numpy")
# After a warm-up, memory may grow by this: the history of 100,000 epochs has 6 MB.
BYTES = 12e6


@pytest.fixture
def seconds(request):
    """How long each half of a soak takes."""
    times = request.config.getoption("--faults")
    return 4.0 * (100 if times == "full" else int(times))


def resident():
    """Return the bytes of memory that this process occupies."""
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def use(session, seconds):
    """Train, ask, start again and replace the second run for some seconds."""
    end, settings = time.monotonic() + seconds, session._seats[0].planned.settings
    while time.monotonic() < end:
        session.command({"command": "again", "run": 0, "paused": False})
        session.command({"command": "plan", "run": 1, "settings": {**settings, "layers": "8"}, "paused": False})
        wait_until(lambda: all(seat.live.moment.snapshot is not None for seat in session._seats))
        for _ in range(20):
            session.predict({"run": 0, "sample": 3, "unit": [1, 2]})
            time.sleep(0.02)


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs /proc")
def test_the_memory_of_a_server_stays_flat(new_session, seconds):
    session = new_session(*MANY)
    server = serve(session)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("GET", "/events", headers={"Authorization": f"Bearer {server.token}"})
    answer = connection.getresponse()
    read = []

    def read_all():
        while line := answer.readline():
            read.append(len(line))

    reader = threading.Thread(target=read_all)
    reader.start()
    use(session, seconds)
    before, threads = resident(), threading.active_count()
    use(session, seconds)
    grown = resident() - before
    server.close()
    reader.join(30)
    answer.close()
    connection.close()
    assert len(read) > 10
    assert grown < BYTES
    assert threading.active_count() <= threads


def test_the_memory_of_a_browser_stays_flat(new_session, browser, seconds):
    session = new_session(*MANY)
    server = serve(session)

    def heap():
        browser.execute_cdp_cmd("HeapProfiler.collectGarbage", {})
        return browser.execute_cdp_cmd("Runtime.getHeapUsage", {})["usedSize"]

    try:
        browser.get(server.address)
        wait_until(lambda: status(session).status == "paused")
        use(session, seconds)
        before = heap()
        nodes = browser.execute_script("return document.querySelectorAll('*').length")
        use(session, seconds)
        assert heap() - before < 4e6
        assert abs(browser.execute_script("return document.querySelectorAll('*').length") - nodes) < 60
    finally:
        browser.get("about:blank")
        server.close()
