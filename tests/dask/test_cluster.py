"""Training on clusters of real processes: the same bits whatever happens to workers, and errors instead of waiting."""

import os
import signal
import threading
import warnings
from contextlib import contextmanager, suppress

import dask
import dask.array as da
import numpy as np
import pytest
from distributed import Client, Event, wait

import fastnn
import fastnn.dask
from fastnn.dask import cluster as cluster_module
from fastnn.dask import training
from fastnn.dask.shares import shares_of_rows
from fastnn.errors import WorkerError
from tests.dask.conftest import CONFIG, LIMIT, make_cluster, poll

PATIENCE = cluster_module.PATIENCE  # that of users
SETTINGS = {"replicas": 4, "epochs": 3, "optimizer": "adam", "dropout": 0.1, "backend": "numpy"}


@pytest.fixture(scope="module")
def expected(digits, network):
    """What training in this process gives."""
    return fastnn.dask.train(network, digits, client="synchronous", **SETTINGS).digest()


class FatalRows:
    """Rows whose load for the round that begins after epoch `epoch` ends its process, the first `times` times."""

    def __init__(self, rows, folder, loads, times):
        self.rows, self.folder, self.loads, self.times = rows, str(folder), loads, times

    def load(self, blocks):
        n_loads = len(os.listdir(self.folder))
        open(f"{self.folder}/{n_loads}", "x").close()
        if self.loads <= n_loads < self.loads + self.times:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.rows.load(blocks)


def make_fatal(monkeypatch, folder, loads, times=1, replica=1):
    """End the worker of a replica in its round number `loads`."""
    folder.mkdir()

    def shares(*arguments):
        found = shares_of_rows(*arguments)
        found[replica] = found[replica]._replace(rows=FatalRows(found[replica].rows, folder, loads, times))
        return found

    monkeypatch.setattr(training, "shares_of_rows", shares)


def test_processes_compute_the_bits_of_one_process(client, digits, network, expected):
    assert fastnn.dask.train(network, digits, **SETTINGS).digest() == expected
    assert fastnn.dask.train(network, digits, **SETTINGS | {"seed": 1}).digest() != expected
    assert fastnn.dask.train(network, digits, **SETTINGS | {"replicas": 3}).digest() != expected


def test_one_two_and_four_processes_compute_the_same_bits(tmp_path, digits, network):
    """Rows that are sent, rows of a file, and blocks of Dask, each as in this process."""
    np.save(tmp_path / "x.npy", digits.images)
    lazy = da.from_array(digits.images, (200, -1)), da.from_array(digits.labels, 200)
    file = fastnn.open_data(tmp_path / "x.npy", labels=digits.labels, block_rows=200, pixel_max=16)
    kinds = [digits, file, lazy]
    alone = [fastnn.dask.train(network, data, client="synchronous", **SETTINGS).digest() for data in kinds]
    with dask.config.set(CONFIG), make_cluster(n_workers=1) as cluster, Client(cluster) as client:
        for n_workers in (1, 2, 4):
            cluster.scale(n_workers)
            client.wait_for_workers(n_workers, LIMIT)
            assert [fastnn.dask.train(network, data, **SETTINGS).digest() for data in kinds] == alone
    assert len({*alone}) == 3  # other rows, in another order


def test_any_number_of_workers_and_threads_computes_the_same_bits(inproc, digits, network):
    settings = SETTINGS | {"backend": "numba", "batch_size": 400}
    alone = fastnn.dask.train(network, digits, client="synchronous", threads=2, **settings).digest()
    assert fastnn.dask.train(network, digits, **settings).digest() == alone
    assert fastnn.dask.train(network, digits, threads=2, **settings).digest() == alone
    with make_cluster(n_workers=1, processes=False) as one, Client(one, set_as_default=False) as client:
        assert fastnn.dask.train(network, digits, client=client, **settings).digest() == alone


def test_runs_beside_each_other_and_within_a_task_are_right(client, digits, network, expected):
    def run():
        digests.append(fastnn.dask.train(network, digits, **SETTINGS).digest())

    digests = []
    beside = [threading.Thread(target=run) for _ in range(2)]
    for thread in beside:
        thread.start()
    inside = client.submit(train_in_task, network, digits.images, digits.labels, pure=False)
    for thread in beside:
        thread.join(LIMIT)
    assert [*digests, inside.result(LIMIT)] == [expected] * 3


def train_in_task(network, images, labels):
    data = fastnn.Dataset(images, labels, pixel_max=16, image_shape=(8, 8), name="the 8x8 digits")
    return fastnn.dask.train(network, data, **SETTINGS).digest()


@pytest.mark.parametrize("n_workers", [1, 2])
@pytest.mark.parametrize("loads", range(SETTINGS["epochs"]))
def test_a_worker_that_dies_changes_no_bit(monkeypatch, tmp_path, digits, network, expected, loads, n_workers):
    """In any round. If it is the only one, Dask does not give its tasks to its successor."""
    make_fatal(monkeypatch, tmp_path / "loads", loads)
    with dask.config.set(CONFIG), make_cluster(n_workers=n_workers) as cluster, Client(cluster):
        assert fastnn.dask.train(network, digits, **SETTINGS).digest() == expected
    assert len(os.listdir(tmp_path / "loads")) == SETTINGS["epochs"] + 1


def test_a_replica_that_ends_each_worker_is_named(monkeypatch, tmp_path, digits, network):
    make_fatal(monkeypatch, tmp_path / "loads", loads=0, times=9, replica=2)
    named = pytest.raises(WorkerError, match=r"replica 2 \(rows 2, 6, \.\.\. of .*ended 2 workers, the last one tcp")
    with dask.config.set(CONFIG), make_cluster(n_workers=2) as cluster, Client(cluster), named:
        fastnn.dask.train(network, digits, **SETTINGS)


def test_a_replica_that_ends_the_only_worker_is_named(monkeypatch, tmp_path, digits, network):
    make_fatal(monkeypatch, tmp_path / "loads", loads=0, times=9, replica=2)
    named = pytest.raises(WorkerError, match=r"replica 2 \(rows 2, 6, .*(ended 2 workers|all workers ended 2 times)")
    with dask.config.set(CONFIG), make_cluster(n_workers=1) as cluster, Client(cluster), named:
        fastnn.dask.train(network, digits, **SETTINGS)


def test_workers_that_leave_between_rounds_change_no_bit_and_none_is_an_error(monkeypatch, digits, network, expected):
    with dask.config.set(CONFIG), make_cluster(n_workers=2, processes=False) as cluster, Client(cluster) as client:

        def leave(end):
            if end.record.epoch == 1:
                cluster.scale(1)
                poll(lambda: len(client.scheduler_info()["workers"]) == 1, "a worker leaves")

        assert fastnn.dask.train(network, digits, callbacks=[leave], **SETTINGS).digest() == expected
        cluster.scale(0)
        poll(lambda: not client.scheduler_info()["workers"], "all workers leave")
        monkeypatch.setattr(cluster_module, "PATIENCE", 0.5)
        with pytest.raises(WorkerError, match=r"no workers at inproc://.* for 0.5 s, expected some: start one"):
            fastnn.dask.train(network, digits, **SETTINGS)


def test_waiting_is_never_silent_for_15_seconds():
    assert PATIENCE + 2 * cluster_module.SECONDS_BETWEEN_LOOKS < 15


@contextmanager
def until_warned(text, then):
    """Call `then` in a thread as soon as a warning with a text comes; fail if none comes."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = []

        def watch():
            with suppress(AssertionError):
                found.append(poll(lambda: [each for each in [*caught] if text in str(each.message)], text))
            then()

        thread = threading.Thread(target=watch)
        thread.start()
        yield
        thread.join()
    assert found, [str(each.message) for each in caught]


def test_a_silent_worker_is_named(monkeypatch, client, digits, network, expected):
    monkeypatch.setattr(cluster_module, "PATIENCE", 2.0)
    frozen, pid = next(iter(client.run(os.getpid).items()))
    is_frozen = threading.Event()

    def freeze(end):
        if end.record.epoch == 1:
            os.kill(pid, signal.SIGSTOP)
            is_frozen.set()

    def go_on():
        is_frozen.wait(LIMIT)  # on a busy machine, a worker may have been silent before
        os.kill(pid, signal.SIGCONT)

    with until_warned(f"worker {frozen} has been silent for ", go_on):
        result = fastnn.dask.train(network, digits, callbacks=[freeze], **SETTINGS)
    assert result.digest() == expected


def test_busy_workers_are_a_warning(monkeypatch, inproc, digits, network, expected):
    monkeypatch.setattr(cluster_module, "PATIENCE", 1.0)
    gate = Event("gate", client=inproc)
    busy = [inproc.submit(wait_for_gate, pure=False) for _ in range(4)]
    poll(lambda: sum(map(len, inproc.processing().values())) == 4, "the workers are busy")
    with until_warned("no worker has begun replica 0 (rows 0, 4, ... of 8x8 digits), after epoch 0", gate.set):
        result = fastnn.dask.train(network, digits, **SETTINGS)
    assert result.digest() == expected
    wait(busy, LIMIT)


def wait_for_gate():
    Event("gate").wait(LIMIT)


def test_the_error_of_a_block_reaches_the_caller(client, network):
    def spoil(block, block_info=None):
        if block_info[0]["chunk-location"][0] == 2:
            block = block.copy()
            block[17, 5] = np.nan
        return block

    X = da.zeros((400, 64), chunks=(100, -1)).map_blocks(spoil, dtype=float, meta=np.zeros((0, 64)))
    expected = r"^block 2 of X, row 17 of the block, column 5: found nan, expected finite numbers"
    with pytest.raises(fastnn.DataError, match=expected) as caught:
        fastnn.dask.train(network, (X, da.zeros(400, chunks=100, dtype=int)), epochs=1)
    (note,) = caught.value.__notes__
    assert note.startswith("fastnn: in block 2 of X, on worker tcp://")


def test_a_block_beyond_the_memory_limit_is_named(network):
    def allocate(block, block_info=None):
        return np.ones((len(block), 64 * 20_000)).sum() + block if block_info[0]["chunk-location"][0] == 1 else block

    X = da.zeros((200, 64), chunks=(100, -1)).map_blocks(allocate, dtype=float, meta=np.zeros((0, 64)))
    fatal = {"distributed.scheduler.allowed-failures": 0, "distributed.worker.memory.terminate": 0.9}
    named = pytest.raises(WorkerError, match=r"block [01] of X: it ended 1 workers.*memory limit 300.00 MiB")
    options = {"n_workers": 1, "memory_limit": "300MiB"}
    with dask.config.set(CONFIG | fatal), make_cluster(**options) as cluster, Client(cluster), named:
        fastnn.dask.train(network, (X, da.zeros(200, chunks=100, dtype=int)), epochs=1)


def test_unlike_machines_are_a_warning(monkeypatch, inproc, digits, network):
    names = iter(range(100))
    monkeypatch.setattr(cluster_module, "machine", lambda backend: f"a CPU {next(names) > 1}")
    with pytest.warns(RuntimeWarning, match="bits of the result depend on which worker"):
        fastnn.dask.train(network, digits, **SETTINGS)


def test_threads_of_a_worker_are_divided_among_its_replicas(monkeypatch, digits, network):
    seen = []
    original = cluster_module.train_replica

    def spy(replica, plan, *rest):
        seen.append(plan.config.threads)
        return original(replica, plan, *rest)

    monkeypatch.setattr(cluster_module, "train_replica", spy)
    with (
        dask.config.set(CONFIG),
        Client(n_workers=1, threads_per_worker=4, processes=False, dashboard_address="127.0.0.1:0") as client,
    ):
        for replicas, threads in ((1, 4), (2, 2), (8, 1)):
            seen.clear()
            fastnn.dask.train(network, digits, client=client, replicas=replicas, epochs=1, backend="numpy")
            assert seen == [threads] * replicas


def test_a_client_that_cannot_be_used_is_refused(threads, digits, network):
    client = Client(threads, set_as_default=False)
    client.close()
    with pytest.raises(fastnn.SettingsError, match="client is closed"):
        fastnn.dask.train(network, digits, client=client, epochs=1)
