"""Sweeps on a cluster of Dask: the bits, the shares of the cores, and the loss of workers and of the scheduler."""

import os

import dask
import distributed
import pytest

import fastnn
from fastnn.errors import MissingDependencyError, SettingsError
from fastnn.sweeps import on_dask

pytestmark = [
    pytest.mark.filterwarnings("ignore:Port 8787 is already in use"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # sockets of the cluster that tornado closes later
]
FIXED = {"hidden": (8,), "epochs": 2, "backend": "numba", "seeds": [0, 1, 2]}


@pytest.fixture(scope="module")
def threaded():
    return [record.digest for record in fastnn.sweep("digits", **FIXED).records]


@pytest.fixture(scope="module")
def client():
    """A cluster of two workers of two threads each, in threads of this process."""
    options = {"n_workers": 2, "threads_per_worker": 2, "dashboard_address": None}
    with distributed.LocalCluster(processes=False, **options) as cluster, distributed.Client(cluster) as client:
        yield client


@pytest.fixture
def processes():
    """A cluster of two worker processes of one thread each."""
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        distributed.LocalCluster(**options) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


def test_a_cluster_gives_the_bits_of_threads(client, threaded, tmp_path):
    result = fastnn.sweep("digits", engine="dask", client=client, out=tmp_path, **FIXED)
    assert [record.digest for record in result.records] == threaded
    again = fastnn.sweep("digits", out=tmp_path, **FIXED)  # another engine finds the runs
    assert again.n_done_before == 3


def test_the_current_client_and_an_address_are_enough(client, threaded):
    result = fastnn.sweep("digits", engine="dask", **FIXED)
    assert [record.digest for record in result.records] == threaded


def test_a_task_of_a_worker_has_one_thread(client, monkeypatch):
    """Report 14: all tasks together have as many threads as the workers."""
    from fastnn.backends import threads

    for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "LOKY_MAX_CPU_COUNT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: range(8), raising=False)
    monkeypatch.setattr(threads, "_recent_quota", lambda second: None)
    assert threads.usable_cores() == 8
    assert client.submit(threads.usable_cores, pure=False).result(60) == 1
    assert client.submit(_usable_in_share, 3, pure=False).result(60) == 3


def _usable_in_share(share):
    from fastnn.backends.threads import share_of_cores, usable_cores

    with share_of_cores(share):
        return usable_cores()


def test_a_run_that_fails_on_a_worker_is_a_row(client):
    settings = {"learning_rate": [0.1, 1e30]}
    result = fastnn.sweep("digits", settings=settings, engine="dask", client=client, **FIXED)
    assert [record.stopped for record in result.records] == ["epochs"] * 3 + ["diverged"] * 3


class _KillTheWorker:
    """The callbacks of a run: kills the process the first time, or each time, that seed 1 runs."""

    def __init__(self, path, always):
        self.path, self.always = path, always

    def __call__(self, run):
        if run.seed == 1 and (self.always or not os.path.exists(self.path)):
            open(self.path, "w").close()
            os._exit(1)
        return []


@pytest.mark.slow
@pytest.mark.parametrize("always", [False, True])
def test_a_run_whose_worker_dies_runs_again_or_is_a_row(always, processes, tmp_path, threaded):
    callbacks = _KillTheWorker(str(tmp_path / "killed"), always)
    result = fastnn.sweep("digits", engine="dask", client=processes, callbacks=callbacks, **FIXED)
    first, killed, last = result.records
    assert os.path.exists(callbacks.path)
    assert [first.digest, last.digest] == [threaded[0], threaded[2]]
    if always:
        assert killed.stopped == "failed"
        # Dask names the last worker, unless the data were lost with all of them.
        assert "tcp://" in killed.error or "every worker that ran it ended" in killed.error
    else:
        assert killed.digest == threaded[1]


def test_a_cluster_without_workers_is_an_error_in_time(monkeypatch):
    monkeypatch.setattr(on_dask, "WAIT_SECONDS", 0.1)
    with (
        distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=None) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
        pytest.raises(fastnn.WorkerError, match=r"has had no worker for 0\.1 s: start one with dask worker"),
    ):
        fastnn.sweep("digits", engine="dask", client=client, **FIXED)


def test_a_missing_scheduler_or_client_or_package_is_an_error(monkeypatch):
    monkeypatch.setattr(on_dask, "WAIT_SECONDS", 0.2)
    with pytest.raises(fastnn.WorkerError, match=r"no scheduler of Dask answers at tcp://127\.0\.0\.1:9"):
        fastnn.sweep("digits", engine="dask", client="tcp://127.0.0.1:9", **FIXED)
    with pytest.raises(SettingsError, match=r"client is a int, expected a distributed\.Client or an address"):
        fastnn.sweep("digits", engine="dask", client=3, **FIXED)
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    with pytest.raises(MissingDependencyError, match=r"pip install '\.\[dask\]'"):
        fastnn.sweep("digits", engine="dask", client=3, **FIXED)
