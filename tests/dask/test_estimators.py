"""The estimators on Dask: the parameters of the plain ones, lazy predictions, and what becomes of clients."""

import inspect
import pickle
import warnings

import cloudpickle
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from distributed import Client
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV

import fastnn
from fastnn.dask import DaskMLPClassifier, DaskMLPRegressor

PAIRS = [(DaskMLPClassifier, fastnn.MLPClassifier), (DaskMLPRegressor, fastnn.MLPRegressor)]
SETTINGS = {"hidden_layer_sizes": (12,), "max_iter": 4, "random_state": 0, "backend": "numpy", "replicas": 3}
HERE = SETTINGS | {"client": "synchronous"}

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def blocks(table):
    """X and y in blocks of 150 rows."""
    X, y = table
    return da.from_array(X, (150, -1)), da.from_array(y, 150)


@pytest.fixture(scope="module")
def fitted(blocks):
    return DaskMLPClassifier(**HERE).fit(*blocks)


def assert_equal(lazy, expected):
    """Assert that a lazy array has these values; a product of BLAS may depend on the number of rows in its last bit."""
    found = lazy.compute(scheduler="synchronous")
    if expected.dtype.kind == "f":
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    else:
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("dask_class", "plain"), PAIRS)
def test_parameters_and_fit_are_those_of_the_plain_class(dask_class, plain):
    own = {"replicas": 8, "local_epochs": 1, "client": None}
    found, expected = (inspect.signature(each.__init__).parameters for each in (dask_class, plain))
    assert [*found] == [*expected, *own]
    assert [each for name, each in found.items() if name not in own] == [*expected.values()]
    assert {name: found[name].default for name in own} == own
    assert dask_class().get_params() == plain().get_params() | own
    assert [*inspect.signature(dask_class.fit).parameters] == [*inspect.signature(plain.fit).parameters]
    assert isinstance(dask_class(), plain)
    with pytest.raises(TypeError):
        dask_class(no_such_parameter=1)


def test_a_cluster_fits_the_bits_of_one_process(client, inproc, blocks, fitted):
    for each in (client, inproc):
        model = DaskMLPClassifier(**SETTINGS, client=each).fit(*blocks)
        assert model.client_ is each
        for one, two in zip(model.coefs_, fitted.coefs_, strict=True):
            assert one.tobytes() == two.tobytes()
        assert model.loss_curve_ == fitted.loss_curve_


def test_it_learns_as_the_plain_class_does(blocks):
    X, y = blocks
    settings = {"learning_rate_init": 0.02, "max_iter": 30, "random_state": 0, "tol": 0.0}
    model = DaskMLPClassifier(**settings, replicas=3, client="synchronous").fit(X, y)
    plain = fastnn.MLPClassifier(**settings).fit(X.compute(), y.compute())
    assert model.classes_.tolist() == [0, 1, 2]
    assert model.n_iter_ == 30
    assert model.score(X, y) > plain.score(X.compute(), y.compute()) - 0.02
    target = X[:, 0] * X[:, 1]
    number = DaskMLPRegressor(**settings, replicas=3, client="synchronous").fit(X, target)
    plain = fastnn.MLPRegressor(**settings).fit(X.compute(), target.compute())
    assert number.score(X, target) > plain.score(X.compute(), target.compute()) - 0.1


def test_scores_are_those_of_the_local_estimator(table, blocks, fitted):
    (X, y), weight = blocks, np.random.default_rng(0).uniform(0, 2, 600)
    local = fitted.to_local()
    assert fitted.score(X, y) == local.score(*table)
    found = fitted.score(X, y, sample_weight=da.from_array(weight, 150))
    assert found == pytest.approx(local.score(*table, sample_weight=weight), rel=1e-12)
    targets = np.stack([table[0][:, 0] + 1e3, table[0][:, 1]], axis=1)
    number = DaskMLPRegressor(**HERE).fit(X, da.from_array(targets, (150, -1)))
    for weights in (None, weight):
        expected = number.to_local().score(table[0], targets, weights)
        lazy = None if weights is None else da.from_array(weights, 150)
        assert number.score(X, da.from_array(targets, (150, -1)), lazy) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("labels", ["int", "text", "binary"])
def test_predictions_are_lazy_blocks_of_the_local_predictions(table, labels):
    X, y = table
    y = {"int": y + 5, "text": np.array(["red", "green", "blue"])[y], "binary": y > 0}[labels]
    rows = da.from_array(X, ((1, 199, 0, 400), -1))
    model = DaskMLPClassifier(**HERE).fit(rows, da.from_array(y, ((1, 199, 0, 400),)))
    local = model.to_local()
    for method in ("predict", "predict_proba", "predict_log_proba", "transform"):
        lazy, expected = getattr(model, method)(rows), getattr(local, method)(X)
        assert isinstance(lazy, da.Array)
        assert lazy.dtype == expected.dtype
        assert lazy.shape == expected.shape
        assert lazy.chunks[0] == (1, 199, 0, 400)
        assert_equal(lazy, expected)
        empty = lazy.blocks[2].compute(scheduler="synchronous")
        assert empty.shape == (0, *expected.shape[1:])
        assert empty.dtype == expected.dtype
        kept = getattr(model, method)(rows[rows[:, 0] > 2.0])
        assert_equal(kept, expected[X[:, 0] > 2.0])


def test_frames_have_names_and_predictions_of_unknown_lengths(table):
    X, y = table
    table = pd.DataFrame(X, columns=list("abcde")).assign(label=y)
    frame = dd.from_pandas(table, npartitions=4)
    model = DaskMLPClassifier(**HERE).fit(frame[list("abcde")], frame["label"])
    assert model.feature_names_in_.tolist() == list("abcde")
    lazy = model.predict_proba(frame[list("abcde")])
    assert lazy.shape[1] == 3
    assert np.isnan(lazy.chunks[0]).all()
    assert_equal(lazy, model.to_local().predict_proba(table[list("abcde")]))
    some = model.predict(frame[frame["a"] > 2.2][list("abcde")]).compute(scheduler="synchronous")
    assert len(some) == (table["a"] > 2.2).sum()
    assert model.score(frame[list("abcde")], frame["label"]) == model.to_local().score(table[list("abcde")], y)


def test_a_client_stays_in_clones_and_not_in_pickles(client, blocks):
    model = DaskMLPClassifier(**SETTINGS, client=client)
    assert clone(model).client is client
    model.fit(*blocks)
    expected = model.to_local().predict_proba(blocks[0].compute())
    for dumps in (pickle.dumps, cloudpickle.dumps):
        copy = pickle.loads(dumps(model))
        assert copy.client is None
        np.testing.assert_array_equal(copy.to_local().predict_proba(blocks[0].compute()), expected)
        assert copy.client_ is client  # the current one
    assert model.client is client
    assert model.set_params(client="synchronous").client_ == "synchronous"


def test_predictions_outlive_the_client(processes, blocks):
    client = Client(processes)
    model = DaskMLPClassifier(**SETTINGS, client=client).fit(*blocks)
    client.close()
    expected = model.to_local().predict(blocks[0].compute())
    assert type(model.to_local()) is fastnn.MLPClassifier
    np.testing.assert_array_equal(model.predict(blocks[0]).compute(scheduler="synchronous"), expected)
    with pytest.raises(fastnn.SettingsError, match="client is closed"):
        model.fit(*blocks)
    np.testing.assert_array_equal(model.to_local().predict(blocks[0].compute()), expected)


def test_a_saved_model_is_that_of_the_plain_class(tmp_path, fitted, table):
    fitted.save(tmp_path / "m.safetensors")
    loaded = fastnn.MLPClassifier.from_model(fastnn.load(tmp_path / "m.safetensors"))
    expected = fitted.to_local().predict_proba(table[0])
    np.testing.assert_allclose(loaded.predict_proba(table[0]), expected, rtol=1e-5)  # another backend


def test_class_weights_and_standardization_see_all_blocks(table):
    X, y = table[0] * [1, 10, 100, 1, 1] + 50, np.minimum(table[1], 1)
    lazy = da.from_array(X, (150, -1)), da.from_array(y, 150)
    settings = HERE | {"replicas": 1, "shuffle": False, "standardize": True, "class_weight": "balanced"}
    model = DaskMLPClassifier(**settings).fit(*lazy)
    plain = {name: value for name, value in settings.items() if name not in ("replicas", "client")}
    plain = fastnn.MLPClassifier(**plain).fit(X, y)
    np.testing.assert_allclose(model.network_.standardization.mean, plain.network_.standardization.mean, rtol=1e-12)
    for one, two in zip(model.coefs_, plain.coefs_, strict=True):
        np.testing.assert_allclose(one, two, rtol=2e-4, atol=1e-5)


def test_rounds_of_several_epochs_count_epochs(table, blocks):
    X, y = blocks
    targets = da.from_array(table[0][:, :2].copy(), (150, -1))
    settings = HERE | {"local_epochs": 2, "max_iter": 5}
    for model in (DaskMLPClassifier(**settings).fit(X, y), DaskMLPRegressor(**settings).fit(X, targets)):
        assert model.n_iter_ == len(model.loss_curve_) == 5
        assert model.t_ == 5 * 600


def test_warm_start_goes_on(blocks):
    model = DaskMLPClassifier(**HERE, warm_start=True).fit(*blocks)
    before = model.loss_
    assert model.fit(*blocks).loss_ < before
    assert len(model.loss_curve_) == 8


def test_validation_data_stop_early(table, blocks):
    X, y = blocks
    model = DaskMLPClassifier(**HERE | {"max_iter": 60, "learning_rate_init": 0.05}, early_stopping=True)
    with pytest.raises(fastnn.SettingsError, match="expected validation_data"):
        model.fit(X, y)
    one = clone(model).fit(X, y, validation_data=(X[:150], y[:150]))
    two = clone(model).fit(X, y, X_val=table[0][:150], y_val=table[1][:150])
    assert one.n_iter_ < 60
    assert one.validation_scores_ == two.validation_scores_
    assert one.best_validation_score_ == pytest.approx(max(one.validation_scores_))


def test_a_checkpoint_goes_on(tmp_path, blocks, fitted):
    file = tmp_path / "fit.safetensors"
    DaskMLPClassifier(**HERE | {"max_iter": 2}).fit(*blocks, checkpoint=file)
    model = DaskMLPClassifier(**HERE).fit(*blocks, checkpoint=file)
    for one, two in zip(model.coefs_, fitted.coefs_, strict=True):
        assert one.tobytes() == two.tobytes()
    again = DaskMLPClassifier(**HERE).fit(*blocks, checkpoint=file)
    assert again.loss_curve_ == model.loss_curve_


def test_multilabel_indicators(table):
    X, y = table
    indicators = np.stack([y > 0, X[:, 1] > 0], axis=1).astype(int)
    model = DaskMLPClassifier(**HERE).fit(da.from_array(X, (150, -1)), da.from_array(indicators, (150, -1)))
    assert model.predict(da.from_array(X, (150, -1))).shape == (600, 2)
    expected = model.to_local().score(X, indicators)
    assert model.score(da.from_array(X, (150, -1)), da.from_array(indicators, (150, -1))) == pytest.approx(expected)


def test_what_a_cluster_cannot_do_is_said(table, blocks, fitted):
    with pytest.raises(fastnn.SettingsError, match=r"X is a ndarray, expected a Dask array.*MLPClassifier"):
        DaskMLPClassifier(**HERE).fit(*table)
    with pytest.raises(fastnn.SettingsError, match=r"to_local\(\) takes other data"):
        fitted.predict(table[0])
    with pytest.raises(fastnn.SettingsError, match="solver is 'lbfgs'"):
        DaskMLPClassifier(**HERE, solver="lbfgs").fit(*blocks)
    with pytest.raises(AttributeError, match="no partial_fit, expected to_local"):
        _ = fitted.partial_fit
    assert not hasattr(fitted, "partial_fit")
    with pytest.raises(fastnn.SettingsError, match="replicas is 0, expected a whole number from 1"):
        DaskMLPClassifier(**HERE | {"replicas": 0}).fit(*blocks)
    with pytest.raises(NotFittedError):
        DaskMLPClassifier().predict(blocks[0])
    search = GridSearchCV(DaskMLPClassifier(**HERE), {"alpha": [1e-3]}, cv=2, error_score="raise")
    with pytest.raises(fastnn.SettingsError, match=r"searches such as GridSearchCV take fastnn\.MLPClassifier"):
        search.fit(*table)


def test_fits_that_reach_max_iter_warn(blocks):
    with pytest.warns(ConvergenceWarning, match="DaskMLPClassifier with solver 'adam' did not converge"):
        DaskMLPClassifier(**HERE).fit(*blocks)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        DaskMLPClassifier(**HERE | {"max_iter": 50, "tol": 10.0, "n_iter_no_change": 1}).fit(*blocks)
