"""Tests that the state of a fit, stored and loaded, continues with the same row orders, rates and decisions."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from fastnn import Network, SettingsError
from fastnn.estimators.fit_watch import FitRules, FitWatch, WatchState
from fastnn.estimators.reported_loss import ReportedLoss
from fastnn.estimators.row_order import ScikitOrder


def _stored(value):
    """Return `value` after a trip through strict JSON, in which arrays are copied: fails for anything else."""
    arrays = []

    def keep(each):
        assert type(each) is np.ndarray
        arrays.append(each.copy())
        return {"array": len(arrays) - 1}

    text = json.dumps(value, default=keep, allow_nan=False)
    return json.loads(text, object_hook=lambda each: arrays[each["array"]] if "array" in each else each)


@pytest.mark.parametrize("generator", [np.random.MT19937, np.random.PCG64])
def test_an_order_continues_with_the_same_draws(generator):
    order = ScikitOrder(23, np.random.RandomState(generator(5)))
    for _ in range(3):
        order(np.arange(23))
    order._random_state.standard_normal()  # the generator keeps a second normal number
    state = _stored(order.state_dict())
    expected = [order(np.arange(23)) for _ in range(4)] + [order._random_state.standard_normal(3)]
    loaded = ScikitOrder(23, np.random.RandomState(generator(6)))
    loaded.load_state_dict(state)
    found = [loaded(np.arange(23)) for _ in range(4)] + [loaded._random_state.standard_normal(3)]
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("part", ["rows", "random_state"])
def test_each_part_of_the_state_of_an_order_is_needed(part):
    order = ScikitOrder(50, np.random.RandomState(5))
    fresh = ScikitOrder(50, np.random.RandomState(5)).state_dict()
    order(np.arange(50))
    state = order.state_dict()
    loaded = ScikitOrder(50, np.random.RandomState(5))
    loaded.load_state_dict({**state, part: fresh[part]})
    assert not np.array_equal(loaded(np.arange(50)), order(np.arange(50)))


def test_changing_an_order_does_not_change_the_next_one():
    one, other = (ScikitOrder(30, np.random.RandomState(1)) for _ in range(2))
    one(np.arange(30))[:] = 0
    other(np.arange(30))
    np.testing.assert_array_equal(one(np.arange(30)), other(np.arange(30)))


def test_an_order_refuses_the_state_of_another():
    order = ScikitOrder(5, np.random.RandomState(0))
    state = order.state_dict()
    for bad, words in (
        ({**state, "rows": np.arange(6)}, r"shape \(6,\), expected 5 row numbers"),
        ({**state, "rows": np.zeros(5, int)}, "expected 5 row numbers"),
        ({**state, "random_state": {"bit_generator": "PCG64"}}, "random generator"),
        ({**state, "random_state": 3}, "random generator"),
    ):
        with pytest.raises(SettingsError, match=words):
            order.load_state_dict(bad)


def _end(epoch, network):
    loss, score = (np.random.default_rng((epoch, k)).choice([0.5, 0.4, 0.3]) for k in range(2))
    return SimpleNamespace(record=SimpleNamespace(epoch=epoch, loss=float(loss)), network=network(epoch), score=score)


def _run(watch, epochs, network):
    decisions = []
    for epoch in epochs:
        stop = watch(_end(epoch, network))
        best = None if watch.best is None else [array.tolist() for array in (*watch.best.weights, *watch.best.biases)]
        decisions.append((stop, watch.factor(), best, watch.state.seen, watch.state.scores.copy(), watch.state.idle))
    return decisions


@pytest.mark.parametrize("by_score", [False, True])
@pytest.mark.parametrize("learning_rate", ["constant", "invscaling", "adaptive"])
def test_a_watch_continues_with_the_same_decisions(learning_rate, by_score):
    def network(epoch):
        return Network.initialize((4, 3, 2), seed=epoch)

    def watch(seed):
        rules = FitRules(learning_rate, 0.5, 0.4, 1e-3, 2, by_score)
        return FitWatch(WatchState(rate=0.5), rules, 11, lambda end: end.score, False, network(seed), ReportedLoss())

    for when in (0, 1, 4, 9):
        one, other = watch(100), watch(200)
        _run(one, range(when), network)
        state = _stored(one.state_dict())
        other.load_state_dict(state)
        expected = _run(one, range(when, 20), network)
        assert _run(other, range(when, 20), network) == expected
        assert len({decision[:2] for decision in expected}) > 1 or learning_rate == "constant"


def test_a_watch_refuses_the_state_of_another():
    network = Network.initialize((4, 3, 2))
    watch = FitWatch(
        WatchState(), FitRules("constant", 0.5, 0.4, 0, 2, True), 11, lambda end: 1.0, False, network, ReportedLoss()
    )
    watch(SimpleNamespace(record=SimpleNamespace(epoch=1, loss=1.0), network=network))
    state = watch.state_dict()
    other = Network.initialize((4, 5, 2))
    bad_best = {**state, "best": {"weights": other.weights, "biases": other.biases, "statistics": ()}}
    for bad in (bad_best, {**state, "unknown": 1}, {**state, "scores": "abc"}, {"seen": 3}):
        before = watch.state
        with pytest.raises(SettingsError):
            watch.load_state_dict(bad)
        assert watch.state is before
