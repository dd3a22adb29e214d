"""Clusters on this machine, one of each kind for all tests, and data for them."""

import time

import dask
import numpy as np
import pytest
from distributed import Client, LocalCluster

import fastnn

# How long the tests wait for what should happen within a second: other processes may keep the machine busy.
LIMIT = 60.0
CONFIG = {
    "distributed.comm.timeouts.connect": "5s",
    "distributed.scheduler.allowed-failures": 1,
}


def pytest_collection_modifyitems(items):
    """Ignore the sockets and loops that Dask leaves to the garbage collector."""
    for item in items:
        if item.path.parent.name == "dask":
            item.add_marker(pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"))
            item.add_marker(pytest.mark.filterwarnings("ignore:Creating scratch directories:UserWarning"))


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """Wait long before warnings and errors: on a busy machine, a worker may be silent for seconds."""
    monkeypatch.setattr("fastnn.dask.cluster.PATIENCE", LIMIT)


def make_cluster(**options):
    """Return a cluster on this machine."""
    return LocalCluster(threads_per_worker=1, dashboard_address="127.0.0.1:0", **options)


def poll(condition, what):
    """Wait until a condition holds."""
    end = time.monotonic() + LIMIT
    while not (found := condition()):
        assert time.monotonic() < end, f"{what} within {LIMIT} s"
        time.sleep(0.02)
    return found


@pytest.fixture(scope="session")
def processes():
    """A cluster of two processes with a thread each."""
    with dask.config.set(CONFIG), make_cluster(n_workers=2, memory_limit="512MiB") as cluster:
        yield cluster


@pytest.fixture(scope="session")
def threads():
    """A cluster of four workers in this process."""
    with dask.config.set(CONFIG), make_cluster(n_workers=4, processes=False) as cluster:
        yield cluster


@pytest.fixture
def client(processes):
    """The current client, of the cluster of processes."""
    with Client(processes) as client:
        yield client


@pytest.fixture
def inproc(threads):
    """The current client, of the cluster in this process."""
    with Client(threads) as client:
        yield client


@pytest.fixture(scope="session")
def digits():
    """The 1,797 digits of 8 x 8 pixels."""
    return fastnn.load_digits()


@pytest.fixture(scope="session")
def network(digits):
    """A small network for the digits."""
    return fastnn.Network.for_data(digits, (16,))


@pytest.fixture(scope="session")
def table():
    """Inputs (600, 5) float32, and labels (600,) of three classes that a line separates."""
    X = np.random.default_rng(0).normal(size=(600, 5)).astype(np.float32)
    return X, np.digitize(X[:, 0], [-0.5, 0.5])
