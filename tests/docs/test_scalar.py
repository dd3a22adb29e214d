"""The scalar versions of the course's kernels give the results of the kernels."""

import importlib.util
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from fastnn.kernels.inputs.packed import Packed, add_sparse_product, sparse_weight_gradient
from fastnn.kernels.jit import kernel
from fastnn.kernels.layout import View
from fastnn.kernels.ops.matmul import matmul, new_scratch
from fastnn.kernels.ops.optimizers import SGD, WEIGHTS, Rule, State, Step, apply_update_rows
from fastnn.kernels.ops.softmax import softmax_columns
from fastnn.kernels.vector.simd import ONE, vstore
from tests.docs.doc_examples import DOCS

_spec = importlib.util.spec_from_file_location("scalar", DOCS / "course" / "scalar.py")
scalar = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(scalar)

LANES = 8  # of float64
CLOSE = {"rtol": 1e-12, "atol": 1e-12}


@kernel
def _add_sparse_product(out, packed, n_inputs, weight, n):
    add_sparse_product(out, packed, 0, n_inputs, weight, 8, n)


@kernel
def _sparse_weight_gradient(found, dout, packed, n_inputs, i, n):
    total, _, used = sparse_weight_gradient(dout, packed, 1, n_inputs, i, i, n)
    vstore(found, 0, total)
    return used


@kernel
def _softmax_columns(columns, n_classes, row_weight, row_stats):
    softmax_columns(columns, n_classes, row_weight, row_stats[:8], row_stats[8:16], row_stats[16:])


@kernel
def _apply_update_rows(step, weight, gradient, rows, n):
    return apply_update_rows(step, WEIGHTS, 1.0, weight, 0, gradient, rows, n)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def group(rng):
    """The values (D, 64) of a group of 64 samples, and the mask of each input as a Python integer."""
    values = rng.integers(1, 256, (10, 64)) * (rng.random((10, 64)) < 0.3)
    values[3] = 0  # an input that no sample uses
    masks = [sum(1 << s for s in range(64) if row[s]) for row in values.tolist()]
    return values.astype(np.uint8), masks


def _packed(group):
    values, masks = group
    return Packed(values.reshape(-1), np.array(masks, np.uint64))


def test_matmul(rng):
    inp, weight, out = rng.normal(size=(5, 7)), rng.normal(size=(7, 11)), np.empty((5, 11))
    matmul(inp, weight, out, new_scratch(7, 5, out.dtype))
    found = [[0.0] * 11 for _ in range(5)]
    scalar.matmul(inp.tolist(), weight.tolist(), found)
    np.testing.assert_allclose(found, out, **CLOSE)


def test_add_sparse_product(rng, group):
    weight, out = rng.normal(size=(10, LANES)), rng.normal(size=(64, LANES))
    found = out.tolist()
    _add_sparse_product(View(out.reshape(-1), 0, LANES), _packed(group), 10, View(weight.reshape(-1), 0, LANES), ONE)
    scalar.add_sparse_product(found, group[0].tolist(), group[1], weight.tolist())
    np.testing.assert_allclose(found, out, **CLOSE)


def test_sparse_weight_gradient(rng, group):
    dout, total = rng.normal(size=(64, LANES)), np.empty(LANES)
    for i in range(10):
        used = _sparse_weight_gradient(total, View(dout.reshape(-1), 0, LANES), _packed(group), 10, i, ONE)
        found, found_used = scalar.sparse_weight_gradient(dout.tolist(), group[0].tolist(), group[1], i)
        assert found_used == used == (i != 3)
        np.testing.assert_allclose(found, total, **CLOSE)


def test_softmax_columns(rng):
    logits, row_weight, row_stats = 300 * rng.normal(size=(LANES, 6)), rng.random(LANES), np.empty(3 * LANES)
    logits[0, [2, 4]] = 1000  # equal largest logits: the first one is the best
    columns = logits.T.copy()
    _softmax_columns(columns.reshape(-1), 6, row_weight, row_stats)
    for r, row in enumerate(logits.tolist()):
        found = scalar.softmax_columns(row, row_weight[r])
        np.testing.assert_allclose(row, columns[:, r], **CLOSE)
        np.testing.assert_allclose(found, row_stats.reshape(3, LANES)[:, r], **CLOSE)


@pytest.mark.parametrize("l2", [0.0, 0.25])
def test_apply_update_rows(rng, l2):
    weight, gradient, nothing = rng.normal(size=(3, LANES)), rng.normal(size=(3, LANES)), np.empty(0)
    zero = np.float64(0)
    rule = Rule(SGD, 0.1, 0.0, 0.0, zero, zero, zero, zero, zero, np.float64(1), l2, False)
    step = Step(rule, np.float64(0.1), np.float64(l2), True, True, State(nothing, nothing, nothing))
    found = weight.tolist()
    squares = _apply_update_rows(step, weight.reshape(-1), gradient.reshape(-1), 3, ONE)
    assert scalar.apply_update_rows(found, gradient.tolist(), 0.1, l2) == pytest.approx(squares, rel=1e-12)
    np.testing.assert_allclose(found, weight, **CLOSE)


def test_wait():
    """No thread passes a barrier before all have arrived, round after round, and the stop flag ends all waits."""
    team, progress = SimpleNamespace(lock=threading.Lock(), count=0, threads=3, stop=False), [0, 0, 0]
    behind = []

    def work(t):
        for turn in range(1, 21):
            progress[t] = turn
            assert scalar.wait(team)
            behind.append(min(progress) < turn)
            assert scalar.wait(team)

    threads = [threading.Thread(target=work, args=(t,)) for t in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert behind == [False] * 60
    team.stop = True
    assert not scalar.wait(team)
