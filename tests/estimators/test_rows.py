"""Inputs that skip scikit-learn's checks are predicted, warned of and refused like those that do not."""

import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from sklearn import config_context
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from fastnn import MLPClassifier, MLPRegressor
from fastnn.backends.arguments import are_finite
from fastnn.backends.compiled import predict
from fastnn.estimators import data_checks
from fastnn.estimators.plain_data import MAX_CAST_SIZE
from fastnn.estimators.rows import rows_to_predict
from fastnn.models.model import decide

FORMS = (scipy.sparse.csr_matrix, scipy.sparse.csr_array)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.random((60, 30)) * (rng.random((60, 30)) < 0.2)
    return X, rng.integers(3, size=60)


@pytest.fixture(scope="module", params=["numba", "numpy"])
def model(request, data):
    return MLPClassifier((8,), solver="lbfgs", max_iter=500, tol=1.0, random_state=0, backend=request.param).fit(*data)


@pytest.fixture
def checked(monkeypatch):
    """Count the calls of scikit-learn's checks."""
    calls, validate = [], data_checks.validate_data
    monkeypatch.setattr(
        data_checks, "validate_data", lambda *args, **options: calls.append(1) or validate(*args, **options)
    )
    return calls


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["u1", "f4", "f8"])
def test_csr_rows_skip_the_checks_with_the_same_predictions(model, data, form, dtype, checked):
    X = (data[0] * (100 if dtype == "u1" else 1)).astype(dtype)
    matrix = form(X)
    found = [model.predict_proba(matrix[:n]) for n in (1, 2, 60)] + [model.predict_proba(X)]
    assert not checked
    expected = model.predict_proba(matrix.tocsc())
    assert len(checked) == 1
    for n, each in zip((1, 2, 60), found, strict=False):
        np.testing.assert_allclose(each, expected[:n], rtol=1e-5)
    np.testing.assert_allclose(found[-1], expected, rtol=1e-5)


def _with(matrix, **arrays):
    changed = matrix.copy()
    for name, array in arrays.items():
        setattr(changed, name, array)
    return changed


@pytest.mark.parametrize("form", FORMS)
def test_csr_rows_that_are_not_right_are_refused_with_the_usual_errors(model, data, form):
    matrix = form(data[0].astype("f4"))
    wrong = matrix.indices.copy()
    wrong[-1] = 30
    cases = {
        "contains NaN": _with(matrix, data=matrix.data * np.float32("nan")),
        "contains infinity": _with(matrix, data=matrix.data + np.float32("inf")),
        "too large|infinity": form(data[0] * 1e300),
        "has 29 features, but MLPClassifier is expecting 30": matrix[:, :29],
        "minimum of 1 is required": matrix[:0],
        "do not fit its shape": _with(matrix, indices=wrong),
    }
    for message, rows in cases.items():
        with pytest.raises(ValueError, match=message):
            model.predict(rows)
    with pytest.raises(NotFittedError):
        MLPClassifier().predict(matrix)


def test_a_fit_with_feature_names_warns_of_rows_without_them(data):
    model = MLPRegressor(hidden_layer_sizes=(4,), solver="lbfgs", max_iter=500, tol=1.0)
    names = [f"x{i}" for i in range(30)]
    model.fit(pd.DataFrame(data[0], columns=names), data[1])
    for rows in (data[0][:1], scipy.sparse.csr_matrix(data[0][:1])):
        with pytest.warns(UserWarning, match="X does not have valid feature names"):
            model.predict(rows)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict(pd.DataFrame(data[0][:1], columns=names))
        model.fit(*data)
        model.predict(data[0][:1])
    with pytest.warns(UserWarning, match="X has feature names, but MLPRegressor was fitted without"):
        model.predict(pd.DataFrame(data[0][:1], columns=names))


class _Subclass(np.ndarray):
    pass


def test_only_plain_numbers_are_plain_rows(data):
    X = data[0]
    model = MLPClassifier((4,), solver="lbfgs", max_iter=500, tol=1.0).fit(*data)
    plain = (X, X.astype(">i4").astype(int), X[::2], X.T[:, :30].T, X > 0, X.astype(np.float16))
    assert all(rows_to_predict(model, rows) is not None for rows in plain)
    others = (
        X.astype(object), X.astype(str), X.astype(complex), X.astype(">f4"), X.view(_Subclass), np.ma.array(X),
        X[0], X[None], X[:, :5], X[:0], X.tolist(), pd.DataFrame(X), scipy.sparse.csc_matrix(X),
        scipy.sparse.csr_matrix(X.astype(int)),
    )  # fmt: skip
    assert all(rows_to_predict(model, rows) is None for rows in others)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f8"])
@pytest.mark.parametrize("order", ["C", "F", "strided"])
def test_finite_numbers_are_told_from_others_at_any_place_and_size(dtype, order):
    """As NumPy tells them after the conversion to float32; also where the sum of squares overflows."""
    rng, real = np.random.default_rng(5), np.dtype(np.float32)
    for value in (0.5, 1e19, 3e38, 3.5e38, -3.5e38, 1e300, np.inf, -np.inf, np.nan):
        with np.errstate(over="ignore"):
            rows = rng.standard_normal((60, 301)).astype(dtype)
            rows[rng.integers(60), rng.integers(301)] = value
            expected = np.isfinite(rows.astype(real)).all()
        given = {"C": rows, "F": np.asfortranarray(rows), "strided": np.repeat(rows, 2, axis=1)[:, ::2]}[order]
        assert are_finite(given, real) == expected
        assert are_finite(given[:3, :9], real) == np.isfinite(given[:3, :9].astype(real)).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_large_inputs_get_the_errors_of_scikit_learn(value):
    X, y = np.zeros((700, 400)), np.arange(700) % 2
    model = MLPClassifier((2,), max_iter=1, random_state=0)
    with pytest.warns(ConvergenceWarning):
        model.fit(X[:20], y[:20])
    assert X.size > MAX_CAST_SIZE
    assert rows_to_predict(model, X) is X
    X[600, 399] = value
    with pytest.raises(ValueError, match=r"Input X contains (NaN|infinity or a value too large for dtype)"):
        model.predict(X)
    with pytest.raises(ValueError, match=r"Input X contains (NaN|infinity)"):
        model.predict(X[600:])
    X[600, 399] = 0
    with pytest.raises(ValueError, match="X has 399 features, but MLPClassifier is expecting 400 features as input"):
        model.predict(X[:, 1:])


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_standardized_rows_are_checked_once_and_never_copied_as_a_whole(dtype, monkeypatch):
    """A backend would standardise all rows at once to check them."""
    X, y = np.random.default_rng(7).integers(0, 200, (300, 20)).astype(dtype), np.arange(300) % 2
    model = MLPClassifier((4,), standardize=True, random_state=0, backend="numba", max_iter=400, tol=0.1).fit(X, y)
    expected = model.predict_proba(X.tolist())

    def refuse(*arguments):
        raise AssertionError("a backend checks the rows")

    monkeypatch.setattr(predict, "check_finite_inputs", refuse)
    np.testing.assert_array_equal(model.predict_proba(X), expected)


def test_numbers_that_are_not_finite_are_predicted_if_scikit_learn_assumes_that_they_are(data):
    model = MLPClassifier((4,), solver="lbfgs", max_iter=500, tol=1.0).fit(*data)
    rows = data[0] * np.nan
    with pytest.raises(ValueError, match="Input X contains NaN"):
        model.predict_proba(rows)
    with config_context(assume_finite=True):
        assert np.isnan(model.predict_proba(rows)).all()


def test_two_classes_are_told_apart_as_by_argmax():
    halves = np.array([0.0, 0.25, np.nextafter(np.float32(0.5), 0), 0.5, np.nextafter(np.float32(0.5), 1), 1, np.nan])
    for probabilities in (
        np.stack([1 - halves, halves], axis=1).astype(np.float32),
        np.stack([halves, halves], axis=1),
    ):
        labels = decide(probabilities, np.array(["no", "yes"]), None, False)
        assert labels.tolist() == [("no", "yes")[k] for k in probabilities.argmax(axis=1)]
