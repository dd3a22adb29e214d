"""Sessions of small runs."""

import time

import pytest

from fastnn.cli.command import parser
from fastnn.cli.play import form, planner
from fastnn.live.session import Session


def wait_until(condition, seconds=240):
    """Wait until `condition()` is true; kernels may have to be compiled before."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.002)


def status(session, run=0):
    """Return the newest moment of a run."""
    return session._seats[run].live.moment


def paused(session, run=0):
    """Wait until a run is paused; return the epoch and the number of batches of it that have run."""
    wait_until(lambda: status(session, run).status == "paused")
    return status(session, run).epoch, status(session, run).batch


def ended(session, run=0):
    """Wait until a run has ended; return its result."""
    wait_until(lambda: status(session, run).status == "ended")
    return status(session, run).result


@pytest.fixture
def new_session():
    """Returns a function that opens a session, as `fastnn play` does with these arguments."""
    opened = []

    def open_session(*arguments):
        options = parser().parse_args(["play", "--no-browser", *arguments])
        session = Session(planner(options), form(options))
        opened.append(session)
        session.plan(0, {})
        return session

    yield open_session
    for session in opened:
        session.close()
