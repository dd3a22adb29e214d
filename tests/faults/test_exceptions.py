"""Tests that fastnn's exceptions reach another process whole, with their message and their attributes."""

import inspect
import pickle
import warnings
from concurrent.futures import ProcessPoolExecutor

import joblib
import numpy as np
import pytest

import fastnn
from fastnn import MLPClassifier, errors
from fastnn.training import result as results

X = np.random.default_rng(0).standard_normal((30, 4))
Y = np.arange(30) % 3
CLASSES = [each for _, each in inspect.getmembers(errors, inspect.isclass) if each.__module__ == errors.__name__]


def _divergence():
    data = fastnn.Dataset(X * 1e3, Y)
    fastnn.train(fastnn.Network.for_data(data, (5,)), data, learning_rate=1e30, backend="numpy", epochs=3)


def _interrupt(_):
    raise KeyboardInterrupt


def _interruption():
    data = fastnn.Dataset(X, Y)
    fastnn.train(fastnn.Network.for_data(data, (5,)), data, epochs=3, backend="numpy", callbacks=[_interrupt])


def _divergence_of_an_estimator(early_stopping=False):
    MLPClassifier(
        (5,), solver="sgd", learning_rate_init=1e30, early_stopping=early_stopping, validation_fraction=0.3,
        backend="numpy", n_iter_no_change=99, random_state=0,
    ).fit(X * 1e3, Y)  # fmt: skip


def _missing_file():
    fastnn.load("no-such-folder/model.safetensors")


def _too_large():
    fastnn.Network.initialize((784, 10**12, 10))


FAILURES = {
    fastnn.DivergenceError: (_divergence, _divergence_of_an_estimator),
    fastnn.TrainingInterrupted: (_interruption,),
    fastnn.FileError: (_missing_file,),
    errors.OutOfMemoryError: (_too_large,),
}
CASES = [(kind, fail) for kind, fails in FAILURES.items() for fail in fails]


def _quietly(fail):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fail()


def _raised(fail):
    try:
        _quietly(fail)
    except BaseException as error:
        return error
    raise AssertionError("nothing failed")


def _assert_equal(found, expected):
    assert type(found) is type(expected)
    assert str(found) == str(expected)
    assert found.args == expected.args
    assert vars(found).keys() == vars(expected).keys()
    if hasattr(expected, "result"):
        assert isinstance(found.result, fastnn.TrainingResult)
        assert found.result.stopped == expected.result.stopped
        assert found.result.history.column("loss").tolist() == expected.result.history.column("loss").tolist()
        for one, other in zip(found.result.network.weights, expected.result.network.weights, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_is_pickled_with_its_message_and_attributes(kind):
    error = kind("layer 1: found this, expected that")
    error.result, error.path = [1, 2], "somewhere"
    error.add_note("in fold 3")
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        loaded = pickle.loads(pickle.dumps(error, protocol))
        assert type(loaded) is kind
        assert loaded.args == error.args
        assert vars(loaded) == vars(error) | {"__notes__": ["in fold 3"]}


def test_an_interruption_is_pickled_with_its_attributes():
    error = _raised(_interruption)
    assert type(error) is results.TrainingInterrupted
    error.add_note("in fold 3")
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        loaded = pickle.loads(pickle.dumps(error, protocol))
        _assert_equal(loaded, error)
        assert loaded.__notes__ == ["in fold 3"]


@pytest.mark.parametrize(("kind", "fail"), CASES, ids=lambda each: each.__name__)
def test_a_raised_error_is_pickled(kind, fail):
    error = _raised(fail)
    assert type(error) is kind
    _assert_equal(pickle.loads(pickle.dumps(error)), error)


@pytest.mark.slow
def test_errors_come_back_from_worker_processes():
    with ProcessPoolExecutor(2) as pool:
        returned = [*pool.map(_raised, [fail for _, fail in CASES])]
        for (kind, fail), found in zip(CASES, returned, strict=True):
            _assert_equal(found, _raised(fail))
            if issubclass(kind, Exception):  # an interruption ends the worker
                with pytest.raises(kind) as caught:
                    pool.submit(_quietly, fail).result(timeout=120)
                _assert_equal(caught.value, _raised(fail))
    # An error ends the workers of joblib, and new ones import everything: one error with a result, one without.
    for fail in (_divergence_of_an_estimator, _too_large):
        expected = _raised(fail)
        with pytest.raises(type(expected)) as caught:
            joblib.Parallel(n_jobs=2)([joblib.delayed(_quietly)(fail)] * 2)
        _assert_equal(caught.value, expected)
