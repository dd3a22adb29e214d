"""Tests that an estimator is fitted once at a time, and that readers see one model: the one before, or the new one."""

import copy
import multiprocessing
import pickle
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from fastnn import FastnnError, MLPClassifier, MLPRegressor
from fastnn.errors import ConcurrentFitError
from fastnn.estimators import one_fit

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
RNG = np.random.default_rng(0)
X = RNG.standard_normal((40, 4)).astype(np.float32)
Y = np.arange(40) % 2
WIDE, OTHER = RNG.standard_normal((40, 6)).astype(np.float32), np.array(list("abcd"))[np.arange(40) % 4]
SMALL = {"hidden_layer_sizes": (5,), "max_iter": 2, "random_state": 0, "backend": "numpy"}


class Gate:
    """A schedule that stops the first epoch of a fit until it may go on."""

    def __init__(self):
        self.entered, self.open = threading.Event(), threading.Event()

    def __call__(self, epoch, epochs):
        self.entered.set()
        assert self.open.wait(60)
        return 1.0

    def __deepcopy__(self, memo):
        return self

    def __reduce__(self):
        return _constant, ()


def _constant():
    return "constant"


@pytest.fixture
def fitting():
    """A function that begins a fit in a thread and waits for its first epoch; the fits end with the test."""
    gates, pool = [], ThreadPoolExecutor()

    def begin(model, *arguments, method="fit", **options):
        gate = model.schedule = Gate()
        gates.append(gate)
        future = pool.submit(getattr(model, method), *arguments, **options)
        assert gate.entered.wait(60), future.exception()
        return gate, future

    yield begin
    for gate in gates:
        gate.open.set()
    pool.shutdown()


@pytest.mark.parametrize("estimator", [MLPClassifier, MLPRegressor])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_a_second_fit_raises_and_the_first_is_that_of_one_thread(estimator, method, fitting):
    model, classes = (
        estimator(**SMALL),
        {"classes": [0, 1]} if (estimator, method) == (MLPClassifier, "partial_fit") else {},
    )
    gate, future = fitting(model, X, Y, method=method, **classes)
    for call in (lambda: model.fit(X, Y), lambda: model.partial_fit(X, Y, **classes)):
        with pytest.raises(ConcurrentFitError, match=f"^this {estimator.__name__} is being fitted by another call"):
            call()
    assert issubclass(ConcurrentFitError, FastnnError)
    assert issubclass(ConcurrentFitError, RuntimeError)
    gate.open.set()
    assert future.result() is model
    alone = getattr(estimator(**SMALL), method)(X, Y, **classes)
    np.testing.assert_array_equal(model.coefs_[0], alone.coefs_[0])
    getattr(model.set_params(schedule=None), method)(X, Y)  # allowed again


def test_a_fit_within_a_fit_raises():
    model = MLPClassifier(**SMALL)
    model.schedule = lambda epoch, epochs: model.fit(X, Y)
    with pytest.raises(ConcurrentFitError):
        model.fit(X, Y)
    model.set_params(schedule=None).fit(X, Y)


def test_other_estimators_are_fitted_meanwhile(fitting):
    model = MLPClassifier(**SMALL).fit(X, Y)
    fitting(model, X, Y)
    copies = [clone(model), copy.deepcopy(model), pickle.loads(pickle.dumps(model)), copy.copy(model)]
    for other in copies:
        other.set_params(schedule=None).fit(X, Y)
        np.testing.assert_array_equal(other.predict(X), MLPClassifier(**SMALL).fit(X, Y).predict(X))


READERS = {
    "predict": lambda model: model.predict(X),
    "predict_proba": lambda model: model.predict_proba(X),
    "predict_log_proba": lambda model: model.predict_log_proba(X),
    "transform": lambda model: model.transform(X),
    "score": lambda model: model.score(X, Y),
    "history_": lambda model: model.history_.to_numpy(),
    "to_model": lambda model: model.to_model().predict(X),
    "pickle": lambda model: pickle.loads(pickle.dumps(model)).predict(X),
    "deepcopy": lambda model: copy.deepcopy(model).predict(X),
}


@pytest.mark.parametrize("reader", READERS)
def test_readers_see_the_model_before_the_fit_until_it_ends(reader, fitting, tmp_path):
    model, read = MLPClassifier(**SMALL).fit(X, Y), READERS[reader]
    expected = read(model)
    gate, future = fitting(model, WIDE, OTHER)  # other inputs, other classes, another output
    np.testing.assert_array_equal(read(model), expected)
    gate.open.set()
    future.result()
    assert model.predict(WIDE).dtype == OTHER.dtype
    with pytest.raises(ValueError, match="4 features"):
        model.predict(X)


def test_an_estimator_in_its_first_fit_is_not_fitted_yet(fitting):
    model = MLPClassifier(**SMALL)
    gate, future = fitting(model, X, Y)
    with pytest.raises(NotFittedError):
        model.predict(X)
    with pytest.raises(NotFittedError):
        pickle.loads(pickle.dumps(model)).predict(X)
    gate.open.set()
    future.result()
    assert model.predict(X).shape == Y.shape


def test_predictions_during_many_fits_are_those_of_one_model():
    data = [(X, Y), (X, OTHER)]
    models = [MLPClassifier(**SMALL).fit(*each) for each in data]
    expected = [model.predict(X).tolist() for model in models]
    model, done, found, errors = MLPClassifier(**SMALL).fit(*data[0]), threading.Event(), [], []

    def read():
        try:
            while not done.is_set():
                found.append(model.predict(X).tolist())
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=read) for _ in range(3)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for number in range(60):
            model.fit(*data[number % 2])
    finally:
        done.set()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(interval)
    assert not errors
    assert {expected.index(each) for each in found} == {0, 1}


def test_no_epoch_of_concurrent_partial_fits_vanishes():
    model = MLPClassifier(**SMALL).partial_fit(X, Y, classes=[0, 1])
    refused = []

    def train():
        for _ in range(25):
            while True:
                try:
                    model.partial_fit(X, Y)
                    break
                except ConcurrentFitError as error:
                    refused.append(error)

    threads = [threading.Thread(target=train) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert model.t_ == 101 * len(X)
    assert len(model.history_) == 101


def _fit_in_child(model, queue):
    try:
        before = model.predict(X).tolist()
        queue.put((before, model.set_params(schedule=None).fit(X, Y).predict(X).tolist()))
    except BaseException as error:
        queue.put(repr(error))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_during_a_fit_leaves_a_child_that_can_fit(fitting):
    model = MLPClassifier(**SMALL).fit(X, OTHER)
    expected = [model.predict(X).tolist(), MLPClassifier(**SMALL).fit(X, Y).predict(X).tolist()]
    fitting(model, WIDE, Y)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_fit_in_child, args=(model, queue))
    child.start()
    found = queue.get(timeout=60)
    child.join(timeout=60)
    assert child.exitcode == 0
    assert list(found) == expected


@pytest.mark.slow
def test_an_estimator_is_sent_to_a_process_during_a_fit(fitting):
    model = MLPClassifier(**SMALL).fit(X, Y)
    expected = model.predict(X)
    fitting(model, WIDE, OTHER)
    found = joblib.Parallel(n_jobs=2)([joblib.delayed(MLPClassifier.predict)(model, X)] * 2)
    np.testing.assert_array_equal(found, [expected] * 2)


def test_nothing_is_left_behind():
    model = MLPClassifier(**SMALL).fit(X, Y)
    with pytest.raises(ValueError, match="negative"):
        model.fit(X, Y, sample_weight=-np.ones(40))
    assert not one_fit._RUNNING
    assert not any(name.endswith("lock") for name in vars(model))
