"""The limit of BLAS threads: the smallest of concurrent runs counts, and the last one lifts it."""

from types import SimpleNamespace

import numpy as np
import pytest
import threadpoolctl

import fastnn
from fastnn.backends import threads as backend_threads
from fastnn.backends.threads import BlasLimit
from tests.parity import assert_same_bits


def _threads():
    return [each["num_threads"] for each in threadpoolctl.threadpool_info() if each["user_api"] == "blas"]


@pytest.fixture
def four_threads():
    """BLAS with 4 threads; skips where it cannot have so many."""
    with threadpoolctl.threadpool_limits(4, user_api="blas"):
        if set(_threads()) != {4}:
            pytest.skip("BLAS does not run on 4 threads here")
        yield


def test_the_smallest_number_of_concurrent_runs_counts(four_threads):
    limit, before = BlasLimit(), _threads()
    first, second, third = limit.hold(3), limit.hold(1), limit.hold(2)
    for run, expected in ((first, 3), (second, 1), (third, 1)):
        run.__enter__()
        assert set(_threads()) == {expected}
    for run, expected in ((second, 2), (first, 2)):
        run.__exit__(None, None, None)
        assert set(_threads()) == {expected}
    third.__exit__(None, None, None)
    assert _threads() == before


def test_the_bits_of_lbfgs_do_not_depend_on_the_threads_of_blas():
    """The weights are enough for a dot product on several threads, where BLAS starts some."""
    data = fastnn.load_digits()
    network = fastnn.Network.for_data(data, (200,), dtype=np.float64)
    seen, found = [], []
    for threads in (1, 2, 4):
        with threadpoolctl.threadpool_limits(threads, user_api="blas"):
            result = fastnn.train(
                network, data, optimizer="lbfgs", batch_size=None, epochs=15, backend="numba", threads=1,
                callbacks=[lambda _: seen.append(set(_threads()))],
            )  # fmt: skip
        found.append(result.network.weights)
    assert seen == [{1}] * 45
    for other in found[1:]:
        assert_same_bits(other, found[0])


def test_the_reference_keeps_its_threads_in_lbfgs(four_threads):
    data, seen = fastnn.load_digits(), []
    fastnn.train(
        fastnn.Network.for_data(data, (8,)), data, optimizer="lbfgs", batch_size=None, epochs=1, backend="numpy",
        threads=2, callbacks=[lambda _: seen.append(set(_threads()))],
    )  # fmt: skip
    assert seen == [{2}]


@pytest.mark.parametrize(("n_rows", "hidden", "is_limited"), [(30, 16, False), (3000, 16, True), (3, 2000, True)])
def test_runs_that_take_one_thread_look_for_no_library(n_rows, hidden, is_limited, monkeypatch):
    calls = []
    limits = SimpleNamespace(restore_original_limits=lambda: None)
    monkeypatch.setattr(backend_threads, "_limit_blas", lambda number: calls.append(number) or limits)
    rng = np.random.default_rng(0)
    data = fastnn.Dataset(rng.random((n_rows, 8)), np.arange(n_rows) % 3)
    fastnn.train(fastnn.Network.for_data(data, (hidden,)), data, epochs=1, backend="numpy", threads=1)
    assert bool(calls) == is_limited
