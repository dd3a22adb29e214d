"""Which worker trains which replica: each has its part of every round, and rows stay where they are."""

import os
import signal
from collections import Counter

import dask
import dask.array as da
import numpy as np
import pytest
from distributed import Client

import fastnn
import fastnn.dask
from fastnn.dask import cluster as cluster_module
from fastnn.dask.cluster import places
from tests.dask.conftest import CONFIG, make_cluster, poll

ONE_EACH = {"a": 1, "b": 1}
RUN = {"replicas": 2, "epochs": 4, "backend": "numpy"}


@pytest.mark.parametrize(
    ("homes", "threads", "expected"),
    [
        ([None, None], ONE_EACH, "ab"),
        (["b", "a"], ONE_EACH, "ba"),
        (["a", "a"], ONE_EACH, "ab"),  # one of both has to move
        ([None, "a"], ONE_EACH, "ba"),  # a replica that has a place keeps it, whatever its number
        (["gone", "b", None], ONE_EACH, "aba"),
        ([None] * 5, {"a": 1, "b": 3}, "bbaba"),  # at most ceil(5 / 4) = 2 for a and ceil(15 / 4) = 4 for b
        (["a"] * 8, {"a": 1, "b": 3}, "aabbbbbb"),
        (["a", "b"], {"a": 1, "b": 1, "c": 1}, "ab"),  # a third worker has nothing to do
        (["a", "b", "a", "b"], {"a": 1, "b": 1, "c": 2}, "abcc"),  # one that joins gets its part
    ],
)
def test_a_replica_stays_at_home_within_the_part_of_its_worker(homes, threads, expected):
    assert places(homes, threads) == [*expected]


def test_without_workers_there_are_no_places():
    assert places(["a", None], {}) == [None, None]


@pytest.fixture
def trained_on(monkeypatch):
    """The workers of the replicas that each round has trained, sorted."""
    rounds = []
    run, compare = cluster_module.Cluster.run, cluster_module.Cluster._compare

    def begin(self, *arguments):
        rounds.append([])
        return run(self, *arguments)

    def note(self, done):
        rounds[-1] = sorted([*rounds[-1], done.worker])
        compare(self, done)

    monkeypatch.setattr(cluster_module.Cluster, "run", begin)
    monkeypatch.setattr(cluster_module.Cluster, "_compare", note)
    return rounds


@pytest.fixture(scope="module")
def large():
    """Rows that take longer to send than to train on: where Dask places tasks by its guess, it places them badly."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (40_000, 400), np.uint8), rng.integers(0, 10, 40_000)


@pytest.fixture(scope="module")
def small():
    return fastnn.Network.initialize((400, 4, 10), seed=1)


def running(client):
    """Return the workers that take tasks: one that joins is known before."""
    workers = client.sync(client.scheduler.identity)["workers"].items()
    return {address for address, worker in workers if worker["status"] == "running"}


def received(client):
    """Return the kinds of values that the workers have got from each other since the last call, by their keys."""
    return Counter(kind for kinds in client.run(_received).values() for kind in kinds)


def _received(dask_worker):
    kinds = [str(key).split("-")[1] for each in dask_worker.transfer_incoming_log for key in each["keys"]]
    dask_worker.transfer_incoming_log.clear()
    return kinds


@pytest.mark.parametrize("kind", ["arrays", "collections"])
def test_each_worker_trains_its_replica_in_every_round_and_rows_stay(client, trained_on, large, small, kind):
    X, y = large
    if kind == "collections":
        blocks = [da.random.default_rng(n).integers(0, 256, (10_000, 400), dtype="u1", chunks=-1) for n in range(4)]
        X, y = da.concatenate(blocks), da.from_array(y, 10_000)
    received(client)
    kinds = []
    fastnn.dask.train(small, (X, y), callbacks=[lambda end: kinds.append(received(client))], **RUN)
    assert trained_on == [sorted(client.nthreads())] * 4
    # Dask makes blocks where it likes, so blocks may move before the first round, and none does later.
    assert not any(each["rows"] + each["block"] for each in kinds[1:])
    assert not kinds[0]["rows"]


def test_each_worker_has_its_part_after_one_joins_and_after_one_dies(trained_on, digits, network):
    expected = fastnn.dask.train(network, digits, client="synchronous", **RUN).digest()
    workers, kinds = [], []
    with dask.config.set(CONFIG), make_cluster(n_workers=1) as cluster, Client(cluster) as client:

        def change(end):
            kinds.append(received(client))
            workers.append(running(client))
            if end.record.epoch == 1:
                cluster.scale(2)
                poll(lambda: len(running(client)) == 2, "a second worker")
            if end.record.epoch == 3:
                first, pid = next(iter(client.run(os.getpid).items()))
                os.kill(pid, signal.SIGKILL)
                poll(lambda: first not in running(client), "the death of a worker is noticed")
                poll(lambda: len(running(client)) == 2, "its successor")

        result = fastnn.dask.train(network, digits, callbacks=[change], **RUN)
    assert result.digest() == expected
    for of_round, found in zip(trained_on, workers, strict=True):
        assert of_round == sorted([*found] if len(found) == 2 else [*found] * 2)
    assert len({*trained_on[2]} & {*trained_on[3]}) == 1
    assert not any(each["rows"] for each in kinds)
