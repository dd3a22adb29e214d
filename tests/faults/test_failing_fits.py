"""Tests that a fit that fails, in whatever way and wherever, leaves the estimator as it was, and able to be fitted."""

import copy
import sys

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

import fastnn
from fastnn import DivergenceError, MLPClassifier, MLPRegressor
from fastnn.backends import reference
from fastnn.estimators import base, data_checks, fit_watch
from fastnn.training.result import TrainingInterrupted

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning", "ignore::RuntimeWarning")
RNG = np.random.default_rng(0)
X = RNG.standard_normal((40, 4)).astype(np.float32)
Y = np.arange(40) % 2
WIDE, OTHER = RNG.standard_normal((50, 6)).astype(np.float32), np.arange(50) % 3  # another network
SMALL = {"hidden_layer_sizes": (5,), "max_iter": 4, "random_state": 0, "backend": "numpy"}
BOTH, ALL = (MLPClassifier, MLPRegressor), ("adam", "sgd", "lbfgs")
ESTIMATORS = pytest.mark.parametrize("estimator", BOTH)
SOLVERS = pytest.mark.parametrize("solver", ALL)


class _Broken(Exception):
    pass


def _raise(error):
    def fail(*_arguments, **_options):
        raise error

    return fail


def _in_second_epoch(error):
    def fail(self, end, original=fit_watch.FitWatch.__call__):
        if end.record.epoch == 2:
            raise error
        return original(self, end)

    return fail


def _in_scikit_learns_checks(monkeypatch, error):
    monkeypatch.setattr(data_checks, "plain_rows", lambda *_arguments: None)  # which would skip them
    monkeypatch.setattr(data_checks, "validate_data", _raise(error))


def _out_of_memory_of_epoch(monkeypatch, error):
    monkeypatch.setattr(reference, "new_trainer", _raise(error))
    monkeypatch.setattr(reference, "objective", _raise(error))


PLACES = {
    "data": _in_scikit_learns_checks,
    "targets": lambda patch, error: patch.setattr(base, "column_levels", _raise(error)),
    "split": lambda patch, error: patch.setattr(base, "check_sample_weight", _raise(error)),
    "backend": _out_of_memory_of_epoch,
    "epoch": lambda patch, error: patch.setattr(fit_watch.FitWatch, "__call__", _in_second_epoch(error)),
    "store": lambda patch, error: patch.setattr(base.History, "continued", _raise(error)),
    "end": lambda patch, error: patch.setattr(base.NetworkEstimator, "_warn_of_convergence", _raise(error)),
}
ERRORS = [_Broken(), MemoryError("no more"), OSError(28, "No space left"), KeyboardInterrupt(), SystemExit(3)]


def _state(model):
    return {name: value for name, value in vars(model).items() if name not in model.get_params()}


def _assert_as_before(model, before):
    after = _state(model)
    assert after.keys() == before.keys()
    for name, value in before.items():
        assert after[name] is value or np.array_equal(after[name], value), name


def _assert_same_model(one, other, rows):
    assert (one.n_iter_, one.t_, one.loss_curve_) == (other.n_iter_, other.t_, other.loss_curve_)
    for name in ("coefs_", "intercepts_"):
        for left, right in zip(getattr(one, name), getattr(other, name), strict=True):
            np.testing.assert_array_equal(left, right)
    np.testing.assert_array_equal(one.predict(rows), other.predict(rows))


# Every error at every place, with each solver at every place and each estimator with every solver.
@pytest.mark.parametrize(
    ("place", "error", "estimator", "solver"),
    [
        (place, error, BOTH[(k + n) % 2], ALL[(k + n) % 3])
        for k, place in enumerate(PLACES)
        for n, error in enumerate(ERRORS)
    ],
    ids=lambda each: each if isinstance(each, str) else getattr(each, "__name__", type(each).__name__),
)
def test_a_failed_fit_changes_nothing_and_the_next_one_is_that_of_a_new_estimator(
    estimator, solver, place, error, monkeypatch
):
    fresh, fitted = (estimator(**SMALL, solver=solver) for _ in range(2))
    fitted.fit(WIDE, OTHER)
    expected = estimator(**SMALL, solver=solver).fit(X, Y)
    for model in (fresh, fitted):
        before = copy.copy(_state(model))
        with monkeypatch.context() as patch:
            PLACES[place](patch, error)
            with pytest.raises(type(error)) as caught:
                model.fit(X, Y)
        if isinstance(caught.value, TrainingInterrupted):
            assert place in ("backend", "epoch")
            _assert_fitted_as_the_result(model, caught.value.result)
        else:
            _assert_as_before(model, before)
        _assert_same_model(model.fit(X, Y), expected, X)


def _assert_fitted_as_the_result(model, result):
    """Ctrl-C during training: the estimator is the network of the last complete epoch."""
    assert model.n_iter_ == len(model.loss_curve_) == len(model.history_) == len(result.history)
    assert model.n_features_in_ == result.network.n_inputs
    assert model.t_ == (0 if model.solver == "lbfgs" else len(result.history) * len(X))
    np.testing.assert_array_equal(model.coefs_[0], result.network.weights[0])
    assert model.predict(X).shape == Y.shape


@ESTIMATORS
@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize("place", [place for place in PLACES if place != "end"])
def test_a_failed_partial_fit_loses_no_state(estimator, solver, place, monkeypatch):
    classes = {"classes": [0, 1]} if estimator is MLPClassifier else {}
    model, expected = (estimator(**SMALL, solver=solver).partial_fit(X, Y, **classes) for _ in range(2))
    with monkeypatch.context() as patch:
        patch.setattr(fit_watch.FitWatch, "__call__", _raise(_Broken()))
        PLACES[place](patch, _Broken())
        if place == "targets":  # only a first call looks at the levels
            patch.setattr(base.NetworkEstimator, "_previous_network", _raise(_Broken()))
        if place == "epoch":
            patch.setattr(fit_watch.FitWatch, "__call__", _raise(_Broken()))
        with pytest.raises(_Broken):
            model.partial_fit(X, Y)
    for each in (model, expected):
        each.partial_fit(X, Y)
    _assert_same_model(model, expected, X)


@ESTIMATORS
@pytest.mark.parametrize("settings", [
    {"solver": "sgd", "learning_rate_init": 1e30}, {"solver": "adam", "learning_rate_init": 1e38},
], ids=lambda settings: settings["solver"])  # fmt: skip
def test_divergence_changes_nothing(estimator, settings):
    fitted, fresh = estimator(**SMALL).fit(WIDE, OTHER), estimator(**SMALL | settings)
    before, settings = copy.copy(_state(fitted)), {"max_iter": 50, **settings}
    for model in (fitted, fresh):
        with pytest.raises(DivergenceError) as caught:
            model.set_params(**settings).fit(X * 1e3, Y)
        assert caught.value.result.stopped == "diverged"
    _assert_as_before(fitted, before)
    with pytest.raises(NotFittedError):
        fresh.predict(X)
    usual = {name: SMALL.get(name, getattr(estimator(), name)) for name in settings}
    for model in (fitted, fresh):
        _assert_same_model(model.set_params(**usual).fit(X, Y), estimator(**SMALL).fit(X, Y), X)


def test_a_schedule_that_fails_changes_nothing():
    def schedule(epoch, epochs):
        if epoch == 2:
            raise _Broken
        return 1.0

    model = MLPClassifier(**SMALL).fit(WIDE, OTHER)
    before = copy.copy(_state(model))
    for bad, error in ((schedule, _Broken), (lambda *_: -1.0, ValueError), (lambda *_: "fast", ValueError)):
        with pytest.raises(error):
            model.set_params(schedule=bad).fit(X, Y)
        _assert_as_before(model, before)


@pytest.mark.skipif(sys.platform != "linux", reason="signals itself")
@SOLVERS
def test_ctrl_c_during_validation_keeps_the_complete_epochs(solver, monkeypatch):
    def interrupt(*arguments, original=fastnn.training.run.evaluate_checked):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(*arguments)

    calls, model = [], MLPClassifier(**SMALL, solver=solver)
    monkeypatch.setattr(fastnn.training.run, "evaluate_checked", interrupt)
    with pytest.raises(TrainingInterrupted) as caught:
        model.fit(X, Y, validation_data=(X, Y))
    assert len(caught.value.result.history) == model.n_iter_ == 2
    _assert_fitted_as_the_result(model, caught.value.result)
