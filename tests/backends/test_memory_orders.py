"""Inputs of any memory order and dtype: the bits are those of C-contiguous inputs, and there is no copy of them all."""

import tracemalloc

import numpy as np
import pytest

from fastnn.backends import compiled, reference
from fastnn.backends.arguments import are_finite
from fastnn.backends.compiled import fused, predict
from fastnn.estimators import MLPClassifier
from tests.faults.pages import guarded
from tests.parity import assert_all_parity, assert_parity, assert_same_bits, astype, make_network, trained_arrays

DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])
FORMS = {
    "float64": lambda x: x.astype(np.float64),
    "float32 Fortran": np.asfortranarray,
    "float64 Fortran": lambda x: np.asfortranarray(x, np.float64),
    "reversed": lambda x: np.ascontiguousarray(x[::-1, ::-1])[::-1, ::-1],
    "every third": lambda x: np.repeat(np.repeat(x, 2, axis=0), 3, axis=1)[::2, ::3],
    "big-endian": lambda x: x.astype(">f4"),
    "unaligned": lambda x: np.frombuffer(b"0" + x.tobytes(), np.uint8)[1:].view(np.float32).reshape(x.shape),
}


@pytest.fixture
def no_copies(monkeypatch):
    """Read small arrays as large ones are read."""
    monkeypatch.setattr(predict, "AT_ONCE", 0)
    monkeypatch.setattr(fused, "AT_ONCE", 0)


def _inputs(rng, n_rows, n_inputs, density):
    return (rng.standard_normal((n_rows, n_inputs)) * (rng.random((n_rows, n_inputs)) < density)).astype(np.float32)


@DTYPES
@pytest.mark.parametrize("density", [1.0, 0.05], ids=["dense", "sparse"])
@pytest.mark.parametrize("sizes", [(3, 2), (65, 33, 1), (300, 17, 40, 20)], ids=str)
def test_any_form_predicts_the_bits_of_contiguous_inputs(sizes, density, dtype, no_copies):
    rng = np.random.default_rng(1)
    network, inp = make_network(rng, sizes, "float32", dtype, "relu"), _inputs(rng, 301, sizes[0], density)
    expected = compiled.predict_proba(network, inp.astype(dtype), 1)
    assert_parity(expected, reference.predict_proba(astype(network, "float64"), inp))
    for name, form in FORMS.items():
        for n_rows in (1, 9, 301):
            found = compiled.predict_proba(network, form(inp)[:n_rows], 1)
            assert_same_bits([found], [expected[:n_rows]], f"{n_rows} rows, {name}")


@DTYPES
@pytest.mark.parametrize("n_rows", [7, 8, 12, 13, 16, 67, 256, 300])
def test_tiles_of_any_height_have_the_bits_of_single_rows(n_rows, dtype):
    rng = np.random.default_rng(2)
    network, inp = make_network(rng, (257, 49, 33, 5), "float32", dtype, "tanh"), _inputs(rng, n_rows, 257, 1.0)
    found = compiled.predict_proba(network, inp, 1)
    alone = np.concatenate([compiled.predict_proba(network, inp[row : row + 1], 1) for row in range(n_rows)])
    assert_same_bits([found], [alone])


@DTYPES
@pytest.mark.parametrize("n_inputs", [65, 650], ids=["one segment", "six segments, two strips"])
@pytest.mark.parametrize("batch_size", [64, 301], ids=["by units", "by rows"])
def test_any_form_trains_to_the_bits_of_contiguous_inputs(batch_size, n_inputs, dtype, no_copies):
    rng = np.random.default_rng(3)
    network = make_network(rng, (n_inputs, 100 if batch_size == 64 else 9, 3), "float32", dtype, "relu")
    inp, labels, order = _inputs(rng, 301, n_inputs, 1.0), rng.integers(3, size=301), rng.permutation(301)
    options = {"dropout": (0.1, 0.2), "l2": 0.1, "seed": 2}

    def trained(inputs, threads, backend=compiled, network=network):
        trainer = backend.trainer(network, inputs, labels, "momentum", threads=threads, **options)
        trainer.run_epoch(order, batch_size, 0.01)
        return trained_arrays(trainer)

    expected = trained(inp.astype(dtype), 1)
    assert_all_parity(expected, trained(inp.astype(np.float64), 1, reference, astype(network, "float64")))
    for name, form in FORMS.items():
        for threads in (1, 2):
            assert_same_bits(trained(form(inp), threads), expected, f"{name}, {threads} threads")


@DTYPES
def test_strided_inputs_are_read_only_where_they_are(dtype, no_copies):
    """The arrays end before memory that must not be touched."""
    rng = np.random.default_rng(4)
    network, labels = make_network(rng, (37, 18, 3), "float32", dtype, "relu"), rng.integers(3, size=67)
    rows, columns = (guarded(rng.standard_normal(shape)) for shape in ((67, 37), (37, 67)))
    for inp in (rows, columns.T, columns.T[::-1], rows[:, ::-1]):
        assert_parity(
            compiled.predict_proba(network, inp), reference.predict_proba(astype(network, "float64"), inp.astype(dtype))
        )
        compiled.trainer(network, inp, labels, "sgd").run_epoch(np.arange(67), 20, 0.1)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_finiteness_is_checked_in_any_order(order, value):
    inp = np.zeros((300, 70), order=order)
    for view in (inp, inp[:, ::2], inp[::-1]):
        assert are_finite(view, np.dtype(np.float32))
    inp[299, 68] = value
    for view in (inp, inp[:, ::2], inp[::-1]):
        assert not are_finite(view, np.dtype(np.float32))
    assert are_finite(inp, np.dtype(np.float64)) == np.isfinite(value)


@pytest.mark.parametrize("order", ["C", "F"])
def test_an_estimator_keeps_no_copy_of_large_inputs(order):
    rng = np.random.default_rng(5)
    X = np.asarray(rng.standard_normal((20_000, 64)), order=order)
    model = MLPClassifier((4,), max_iter=1, backend="numba", random_state=0, n_threads=1)
    y = (X[:, 0] > 0).astype(np.int64)
    with pytest.warns(UserWarning, match="did not converge"):
        model.fit(X, y).predict(X)  # a compilation takes memory, too
    tracemalloc.start()
    try:
        for call in (lambda: model.fit(X, y), lambda: model.predict(X)):
            tracemalloc.reset_peak()
            with np.errstate(all="ignore"), pytest.MonkeyPatch.context() as patch:
                patch.setattr(model, "_warn_of_convergence", lambda result: None)
                call()
            assert tracemalloc.get_traced_memory()[1] < X.nbytes / 3  # a copy in float32 takes half
    finally:
        tracemalloc.stop()
    X[7, 3] = 1e300
    with pytest.raises(ValueError, match="too large for dtype"):
        model.predict(X)
