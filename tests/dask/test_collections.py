"""Arrays and data frames of Dask: blocks of any lengths, or a message that names the block and the repair."""

import gc
import uuid

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import fastnn
import fastnn.dask
from fastnn.dask.cluster import ThisProcess
from fastnn.dask.collections import blocks_of
from tests.dask.conftest import poll

HERE = {"client": "synchronous", "backend": "numpy", "epochs": 2}


def arrays(X, y, lengths):
    return da.from_array(X, (lengths, -1)), da.from_array(y, (lengths,))


@pytest.fixture(scope="module")
def small():
    return fastnn.Network.initialize((5, 8, 3), seed=1)


def test_one_replica_has_the_bits_of_arrays_in_memory(table, small):
    data = fastnn.Dataset(*table)
    expected = fastnn.train(small, data, epochs=2, backend="numpy")
    for lengths in ((600,), (1, 7, 592), (0, 300, 0, 300)):
        found = fastnn.dask.train(small, arrays(*table, lengths), replicas=1, **HERE)
        assert found.digest() == expected.digest()
    other = fastnn.dask.train(small, arrays(table[0], table[1][::-1].copy(), (600,)), replicas=1, **HERE)
    assert other.digest() != expected.digest()


def test_frames_are_arrays_with_names(table, small):
    X, y = table
    frame = dd.from_pandas(pd.DataFrame(X, columns=list("abcde")).assign(label=y), npartitions=4)
    columns = frame[list("abcde")], frame["label"]
    expected = fastnn.dask.train(small, arrays(X, y, (150,) * 4), replicas=2, **HERE)
    assert fastnn.dask.train(small, columns, replicas=2, **HERE).digest() == expected.digest()
    unknown = columns[0].to_dask_array(), frame[["label"]].to_dask_array()
    assert np.isnan(unknown[0].chunks[0]).all()
    assert fastnn.dask.train(small, unknown, replicas=2, **HERE).digest() == expected.digest()
    mixed = columns[0], da.from_array(y, 150)
    assert fastnn.dask.train(small, mixed, replicas=2, **HERE).digest() == expected.digest()


def test_partitions_of_one_class_each_and_a_batch_longer_than_a_block(client, small):
    """Report of SynapseML: a class missing in a partition. Labels are texts, and sorted."""
    labels = np.repeat(["a", "b", "c"], [5, 200, 7])
    X = np.random.default_rng(2).normal(size=(212, 5)).astype(np.float32)
    pair = arrays(X, labels, (5, 100, 100, 7))
    settings = {"epochs": 3, "batch_size": 100, "backend": "numpy"}
    found = fastnn.dask.train(small, pair, replicas=3, **settings)
    assert found.digest() == fastnn.dask.train(small, pair, replicas=3, client="synchronous", **settings).digest()
    one = fastnn.dask.train(small, pair, replicas=1, **settings)
    assert one.digest() == fastnn.train(small, fastnn.Dataset(X, labels), **settings).digest()


def test_blocks_without_rows_own_nothing(client, table, small):
    X, y = arrays(*table, (200, 200, 200))
    keep = (X[:, 0] > 0.5).compute()
    keep[200:400] = False
    mask = da.from_array(keep, 200)
    found = fastnn.dask.train(small, (X[mask], y[mask]), replicas=2, epochs=2, backend="numpy")
    rows = [np.flatnonzero(keep[start : start + 200]) + start for start in (0, 400)]
    kept = np.concatenate(rows)
    expected = fastnn.dask.train(
        small, arrays(table[0][kept], table[1][kept], tuple(map(len, rows))), replicas=2, **HERE
    )
    assert found.digest() == expected.digest()
    with pytest.raises(fastnn.DataError, match="X has 3 blocks without rows"):
        fastnn.dask.train(small, (X[mask & ~mask], y[mask & ~mask]), epochs=1)


def test_a_random_graph_is_computed_once(client, tmp_path, table, small):
    def some_rows(frame):
        (tmp_path / uuid.uuid4().hex).write_text(str(len(frame)))
        return frame.sample(frac=0.5)

    frame = pd.DataFrame(table[0], columns=list("abcde")).assign(label=table[1])
    frame = dd.from_pandas(frame, npartitions=3).map_partitions(some_rows, meta=frame.iloc[:0])
    fastnn.dask.train(small, (frame[list("abcde")], frame["label"]), replicas=2, epochs=3, backend="numpy")
    assert [each.read_text() for each in tmp_path.iterdir()] == ["200"] * 3


def test_parts_of_a_random_graph_that_do_not_fit_are_named(client, small):
    def some(frame):
        return frame.sample(n=np.random.default_rng().integers(10, 10**5) % 190 + 1)

    frame = pd.DataFrame(np.zeros((400, 6)), columns=list("abcdey"))
    frame = dd.from_pandas(frame, npartitions=2).map_partitions(some, meta=frame.iloc[:0])
    pair = frame[list("abcde")].to_dask_array(), frame["y"].to_dask_array()
    with pytest.raises(fastnn.DataError, match=r"block \d: X has \d+ rows, y \d+; expected as many.*persist\(\)"):
        fastnn.dask.train(small, pair, replicas=2, epochs=1)


def test_a_block_that_changes_when_it_is_computed_again_is_an_error(table):
    X, y = arrays(*table, (300, 300))
    blocks = blocks_of(X, y, None, ThisProcess())
    other = blocks_of(X + 1, y, None, ThisProcess())
    (share,) = blocks.shares(1, np.dtype("f4"), lambda labels: labels)
    (changed,) = other.shares(1, np.dtype("f4"), lambda labels: labels)
    share.rows.load(share.blocks)
    with pytest.raises(fastnn.DataError, match="block 0: it has other values than when it was computed first"):
        share.rows.load([*changed.blocks])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda X, y: (X.rechunk((150, 2)), y), r"X has 3 chunks along its columns.*X.rechunk\(\(n, -1\)\)"),
        (lambda X, y: (X, y.rechunk(300)), r"y has 2 blocks, X 4.*y.rechunk\(\{0: X.chunks\[0\]\}\)"),
        (lambda X, y: (X, y.rechunk(((100, 200, 150, 150),))), "block 0 of y has 100 rows, that of X 150"),
        (lambda X, y: (X, y.compute()), "y is a ndarray, expected a Dask array or data frame"),
        (lambda X, y: (retyped(X, "float64"), y), "block 3 of X has dtype float64, block 0 has float32.*astype"),
        (lambda X, y: (retyped(X, object), y), "block 3 of X: images have dtype object"),
        (lambda X, y: (X, retyped(y, str)), "block 3 of y has dtype <U21, block 0 has int64"),
        (lambda X, y: (X, y + 5 * (X[:, 1] > 0)), "y has 6 classes .*expected at most 3"),
    ],
)
def test_what_does_not_fit_is_named_with_its_repair(client, table, small, make, message):
    with pytest.raises((fastnn.DataError, fastnn.SettingsError), match=message):
        fastnn.dask.train(small, make(*arrays(*table, (150,) * 4)), replicas=2, epochs=2, backend="numpy")


def retyped(array, dtype):
    """Return an array whose last block has another dtype, of which the array does not know."""

    def change(block, block_info=None):
        if block_info[0]["chunk-location"][0] < 3:
            return block
        changed = block.astype(dtype)
        if dtype is object:
            changed[0, 0] = "inf?"
        return changed

    return array.map_blocks(change, dtype=array.dtype, meta=array._meta)


def test_workers_forget_the_blocks_after_the_run(client, table, small):
    gc.collect()
    gc.disable()  # which would find futures in a circle
    try:
        fastnn.dask.train(small, arrays(*table, (300, 300)), replicas=2, epochs=1, backend="numpy")
        poll(lambda: not any("fastnn-block" in str(key) for key in client.futures), "all futures are released")
        poll(lambda: not any("block" in key for keys in client.has_what().values() for key in map(str, keys)), "gone")
    finally:
        gc.enable()


def test_sparse_blocks_stay_sparse(table, small):
    X, y = table
    rows = np.where(X > 1, X, 0)
    dense = arrays(rows, y, (300, 300))
    lists = dense[0].map_blocks(sparse.csr_matrix)
    found = fastnn.dask.train(small, (lists, dense[1]), replicas=2, **HERE)
    expected = fastnn.dask.train(small, dense, replicas=2, **HERE)
    np.testing.assert_allclose(found.network.weights[0], expected.network.weights[0], rtol=1e-4, atol=1e-6)


def test_weights_of_rows_are_those_of_train(table, small):
    weight = np.random.default_rng(3).uniform(0, 2, 600)
    data = fastnn.Dataset(*table)
    expected = fastnn.train(small, data, sample_weight=weight, epochs=2, backend="numpy")
    pair, weights = arrays(*table, (200,) * 3), da.from_array(weight, 200)
    found = fastnn.dask.train(small, pair, sample_weight=weights, replicas=1, **HERE)
    assert found.digest() == expected.digest()
    assert fastnn.dask.train(small, pair, replicas=1, **HERE).digest() != expected.digest()
    held_out = {"validation": pair, "epochs": 2}
    found = fastnn.dask.train(small, pair, sample_weight=weights, replicas=1, **HERE | held_out)
    assert np.isfinite(found.history.column("validation_loss")).all()


def test_moments_are_those_of_all_rows(table):
    X = table[0] * 3 + 1e4
    blocks = blocks_of(*arrays(X, table[1], (1, 7, 0, 592)), None, ThisProcess())
    mean, variance = blocks.moments(ThisProcess())
    np.testing.assert_allclose(mean, X.mean(axis=0, dtype=np.float64), rtol=1e-13)
    np.testing.assert_allclose(variance, X.astype(np.float64).var(axis=0), rtol=1e-10)
