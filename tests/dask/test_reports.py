"""18 reports of users of other libraries on clusters, each of which has tests here.

Most are tests on processes of `LocalCluster`. The report's number is that of the table below.
"""

import importlib
import os
import signal
from pathlib import Path

import dask.array as da
import joblib
import numpy as np
import pytest
from distributed.comm.tcp import TCP
from sklearn.model_selection import GridSearchCV

import fastnn
import fastnn.dask
from fastnn.backends.threads import usable_cores
from fastnn.dask import DaskMLPClassifier, training
from fastnn.dask.rounds import seed_of
from fastnn.dask.shares import shares_of_rows

CLUSTER, BLOCKS, COLLECTIONS = "tests.dask.test_cluster", "tests.dask.test_blocks", "tests.dask.test_collections"
ESTIMATORS, HERE = "tests.dask.test_estimators", "tests.dask.test_reports"
# Each report: what was reported where, and the tests.
REPORTS = {
    1: ("xgboost 9419: training waits for ever when a worker that held data left", [
        (CLUSTER, "test_a_worker_that_dies_changes_no_bit"),
        (CLUSTER, "test_workers_that_leave_between_rounds_change_no_bit_and_none_is_an_error"),
        (BLOCKS, "test_a_worker_that_dies_while_it_reads_changes_no_bit"),
        ("tests.dask.test_places", "test_each_worker_has_its_part_after_one_joins_and_after_one_dies"),
        (CLUSTER, "test_waiting_is_never_silent_for_15_seconds"),
    ]),
    2: ("lightgbm 5920: hangs after a worker was started again at 95 % of its memory", [
        (CLUSTER, "test_a_block_beyond_the_memory_limit_is_named"),
        (CLUSTER, "test_a_replica_that_ends_each_worker_is_named"),
        (CLUSTER, "test_a_replica_that_ends_the_only_worker_is_named"),
    ]),
    3: ("lightgbm 2419: a class missing in a partition", [
        (COLLECTIONS, "test_partitions_of_one_class_each_and_a_batch_longer_than_a_block"),
        (BLOCKS, "test_blocks_of_one_class_each"),
    ]),
    4: ("lightgbm 3882, xgboost 7494: a worker without data, an empty partition in fit and predict", [
        (HERE, "test_workers_without_data_and_empty_blocks"),
        (COLLECTIONS, "test_blocks_without_rows_own_nothing"),
        (ESTIMATORS, "test_predictions_are_lazy_blocks_of_the_local_predictions"),
    ]),
    5: ("dask-ml 664: chunks of very different lengths", [
        (HERE, "test_blocks_of_1_7_and_10000_rows"),
        ("tests.dask.test_rounds", "test_the_average_is_weighted_by_rows_in_float64_in_the_order_of_the_replicas"),
    ]),
    6: ("xgboost 4941, 5575, dask-ml 465: chunks of columns, other partitions of y, unknown lengths", [
        (COLLECTIONS, "test_what_does_not_fit_is_named_with_its_repair"),
        (COLLECTIONS, "test_frames_are_arrays_with_names"),
    ]),
    7: ("lightgbm 6920: a random graph is computed twice", [
        (COLLECTIONS, "test_a_random_graph_is_computed_once"),
        (COLLECTIONS, "test_parts_of_a_random_graph_that_do_not_fit_are_named"),
        (COLLECTIONS, "test_a_block_that_changes_when_it_is_computed_again_is_an_error"),
    ]),
    8: ("xgboost 6330, lightgbm 3909: dtypes of partitions differ; X is a frame, y an array", [
        (COLLECTIONS, "test_what_does_not_fit_is_named_with_its_repair"),
        (COLLECTIONS, "test_frames_are_arrays_with_names"),
    ]),
    9: ("lightgbm 6351: early stopping hangs, because workers disagree", [
        (HERE, "test_early_stopping_is_decided_once"),
        ("tests.dask.test_rounds", "test_an_average_that_gets_worse_stops_the_run_once"),
    ]),
    10: ("lightgbm 4942: two fits at once hang", [
        (CLUSTER, "test_runs_beside_each_other_and_within_a_task_are_right"),
    ]),
    11: ("lightgbm 4347: the exception of a worker is an AttributeError of a future", [
        (CLUSTER, "test_the_error_of_a_block_reaches_the_caller"),
        (BLOCKS, "test_a_block_that_cannot_be_read_is_named_with_its_worker"),
    ]),
    12: ("dask-ml 765, distributed 7552: reads run ahead, and all is spilled", [
        (BLOCKS, "test_a_file_of_four_times_the_memory_limit_needs_neither_memory_nor_disk"),
    ]),
    13: ("joblib 1154, dask-ml 789: data are copied for each task", [
        (HERE, "test_a_hundred_fits_send_the_data_once"),
        (HERE, "test_a_hundred_rounds_send_the_rows_once"),
        ("tests.dask.test_places", "test_each_worker_trains_its_replica_in_every_round_and_rows_stay"),
    ]),
    14: ("distributed 6324: the interpreter is held; more threads than cores", [
        ("tests.dask.test_warm_up", "test_a_worker_answers_while_its_kernels_are_compiled"),
        (HERE, "test_a_task_has_the_threads_of_its_worker"),
        (CLUSTER, "test_threads_of_a_worker_are_divided_among_its_replicas"),
    ]),
    15: ("xgboost 7927, 8701: other bits in each run, or with one worker", [
        (CLUSTER, "test_one_two_and_four_processes_compute_the_same_bits"),
        (CLUSTER, "test_any_number_of_workers_and_threads_computes_the_same_bits"),
        ("tests.dask.test_rounds", "test_one_replica_has_the_bits_of_train"),
    ]),
    16: ("lightgbm 3808: a client in the estimator breaks pickles and clones", [
        (ESTIMATORS, "test_a_client_stays_in_clones_and_not_in_pickles"),
        (ESTIMATORS, "test_predictions_outlive_the_client"),
    ]),
    17: ("dask-ml 838: estimators for Dask in searches", [
        (ESTIMATORS, "test_what_a_cluster_cannot_do_is_said"),
        (HERE, "test_searches_on_a_cluster_take_the_plain_class"),
    ]),
    18: ("optuna 5921: a killed process leaves a lock", [
        ("tests.sweeps.test_journal", "test_a_sweep_that_is_killed_goes_on"),
    ]),
}  # fmt: skip

RUN = {"replicas": 3, "epochs": 3, "backend": "numpy"}


@pytest.mark.parametrize("number", range(1, 19))
def test_each_report_has_tests(number):
    _, tests = REPORTS[number]
    assert tests
    for module, name in tests:
        assert callable(getattr(importlib.import_module(module), name))


def test_workers_without_data_and_empty_blocks(client, table):
    """Report 4: one partition for two workers, also divided among three replicas; and blocks of no rows."""
    small = fastnn.Network.initialize((5, 8, 3), seed=1)
    X, y = da.from_array(table[0], (-1, -1)), da.from_array(table[1], -1)
    for replicas in (1, 3):
        settings = RUN | {"replicas": replicas}
        alone = fastnn.dask.train(small, (X, y), client="synchronous", **settings)
        assert fastnn.dask.train(small, (X, y), **settings).digest() == alone.digest()
    X, y = X.rechunk((150, -1)), y.rechunk(150)
    model = DaskMLPClassifier((4,), max_iter=9, tol=10.0, n_iter_no_change=1, random_state=0, replicas=2).fit(X, y)
    some = X[da.from_array(np.arange(600) // 150 == 2, 150)]
    for method in (model.predict, model.predict_proba):
        lazy = method(some)
        found = lazy.compute()
        assert found.dtype == lazy.dtype
        np.testing.assert_allclose(found, method(X).compute()[300:450], rtol=1e-5)
        assert lazy.blocks[0].compute().shape == (0, *found.shape[1:])


def test_blocks_of_1_7_and_10000_rows(client):
    """Report 5, with batches longer than two of the blocks."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(10_008, 5)).astype(np.float32), rng.integers(0, 3, 10_008)
    small = fastnn.Network.initialize((5, 8, 3), seed=1)
    pair = da.from_array(X, ((1, 7, 10_000), -1)), da.from_array(y, ((1, 7, 10_000),))
    settings = RUN | {"batch_size": 100, "epochs": 1, "learning_rate": 0.1}
    found = fastnn.dask.train(small, pair, **settings)
    assert found.digest() == fastnn.dask.train(small, pair, client="synchronous", **settings).digest()
    rows = np.array([1, 7, 10_000])
    losses = [
        fastnn.train(
            small, fastnn.Dataset(X[start:stop], y[start:stop]), epochs=1, backend="numpy", batch_size=size,
            seed=seed_of(0, replica), learning_rate=0.1,
        ).history[-1].loss
        for replica, (start, stop, size) in enumerate([(0, 1, 1), (1, 8, 1), (8, 10_008, 100)])
    ]  # fmt: skip
    assert found.history[-1].loss == pytest.approx((rows * losses).sum() / rows.sum(), rel=1e-12)


def test_early_stopping_is_decided_once(client, digits, network):
    """Report 9: here, by the average, which gets worse."""
    settings = RUN | {"epochs": 30, "early_stopping": 2, "learning_rate": 3.0, "validation": digits}
    found = fastnn.dask.train(network, digits, **settings)
    alone = fastnn.dask.train(network, digits, client="synchronous", **settings)
    assert found.stopped == "early"
    assert len(found.history) < 30
    assert found.digest() == alone.digest()


@pytest.fixture
def bytes_sent(monkeypatch, client):
    """Return a function that returns the bytes that client, scheduler and workers have sent each other before it."""
    sent = []
    write = TCP.write

    async def counted(self, *arguments, **options):
        n_bytes = await write(self, *arguments, **options)
        sent.append(n_bytes)
        return n_bytes

    def total():
        return sum(sent) + sum(client.run(_bytes_of_other_workers).values())

    monkeypatch.setattr(TCP, "write", counted)  # client and scheduler are in this process
    return total


def _bytes_of_other_workers(dask_worker):
    return sum(each["total"] for each in dask_worker.transfer_incoming_log)


@pytest.fixture(scope="module")
def images():
    """Images of 47 MB."""
    rng = np.random.default_rng(0)
    return fastnn.Dataset(rng.integers(0, 256, (60_000, 784), np.uint8), rng.integers(0, 10, 60_000), 255)


def test_a_hundred_fits_send_the_data_once(client, bytes_sent, images):
    """Report 13: at most to the scheduler, and to each of two workers."""
    before = bytes_sent()
    held = images.take(slice(100))
    options = {"hidden": (1,), "epochs": 1, "batch_size": 2048, "backend": "numpy"}
    result = fastnn.sweep(None, images, seeds=range(100), validation=held, engine="dask", client=client, **options)
    assert [record.stopped for record in result.records] == ["epochs"] * 100
    assert bytes_sent() - before < 3.5 * images.images.nbytes


def test_a_hundred_rounds_send_the_rows_once(bytes_sent, images):
    """Report 13: each row to the scheduler, and to one worker."""
    before, small = bytes_sent(), fastnn.Network.initialize((784, 1, 10))
    data = images.take(slice(10_000))
    fastnn.dask.train(small, data, replicas=2, epochs=100, batch_size=10_000, backend="numpy")
    assert bytes_sent() - before < 2.5 * data.images.nbytes + 400 * sum(each.nbytes for each in small.weights) * 4


def test_a_task_has_the_threads_of_its_worker(client):
    """Report 14: all workers together have as many threads as they were given."""
    assert client.submit(usable_cores, pure=False).result(60) == 1


def test_searches_on_a_cluster_take_the_plain_class(client, table):
    """Report 17: each fit is a task."""
    model = fastnn.MLPClassifier((4,), max_iter=9, tol=10.0, n_iter_no_change=1, random_state=0, backend="numpy")
    search = GridSearchCV(model, {"alpha": [1e-4, 1e-2]}, cv=2)
    with joblib.parallel_config("dask"):
        found = search.fit(*table).cv_results_["mean_test_score"]
    assert found.tolist() == search.fit(*table).cv_results_["mean_test_score"].tolist()


class Interrupting:
    """Rows whose third load, in a worker, interrupts the process of the client, as Ctrl-C does."""

    def __init__(self, rows, folder):
        self.rows, self.folder, self.client = rows, Path(folder), os.getpid()

    def load(self, blocks):
        n_loads = len([*self.folder.iterdir()])
        (self.folder / f"{n_loads}").touch()
        if n_loads == 2:
            os.kill(self.client, signal.SIGINT)
        return self.rows.load(blocks)


def test_ctrl_c_leaves_the_last_average_and_a_checkpoint(monkeypatch, tmp_path, client, digits, network):
    def shares(*arguments):
        first, *others = shares_of_rows(*arguments)
        return [first._replace(rows=Interrupting(first.rows, folder)), *others]

    folder, file = tmp_path / "loads", tmp_path / "run.safetensors"
    folder.mkdir()
    expected = [fastnn.dask.train(network, digits, client="synchronous", **RUN | {"epochs": n}) for n in (2, 3)]
    monkeypatch.setattr(training, "shares_of_rows", shares)
    with pytest.raises(fastnn.TrainingInterrupted) as caught:
        fastnn.dask.train(network, digits, checkpoint=file, **RUN)
    monkeypatch.undo()
    for one, two in zip(caught.value.result.network.weights, expected[0].network.weights, strict=True):
        assert one.tobytes() == two.tobytes()
    assert fastnn.dask.train(network, digits, resume=file, **RUN).digest() == expected[1].digest()
