"""Tests that estimators refuse data with masks, dates, missing or mixed labels by name, and are as before after it."""

import datetime
import decimal

import numpy as np
import pandas as pd
import pytest

from fastnn import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning", "ignore:the matrix subclass:PendingDeprecationWarning"
)
X = np.random.default_rng(0).standard_normal((30, 4))
Y = np.arange(30) % 3
FRAME = pd.DataFrame(X, columns=list("abcd"))
SMALL = {"hidden_layer_sizes": (5,), "max_iter": 2, "random_state": 0}
ESTIMATORS = pytest.mark.parametrize("estimator", [MLPClassifier, MLPRegressor])


def _masked(array):
    return np.ma.masked_array(array, mask=np.arange(array.size).reshape(array.shape) == 7)


def _refused(call, error, words):
    with pytest.raises(error, match=words) as caught:
        call()
    assert not isinstance(caught.value, np.exceptions.DTypePromotionError)
    return str(caught.value)


MASKED = {
    "masked": _masked,
    "without a mask": np.ma.masked_array,
    "a list of masked values": lambda array: list(_masked(array)),
}


@ESTIMATORS
@pytest.mark.parametrize("mask", MASKED)
def test_masked_arrays_are_refused_by_name(estimator, mask):
    masked, weight, model = MASKED[mask], np.ones(30), estimator(**SMALL).fit(X, Y)
    calls = {
        "X": (lambda: estimator(**SMALL).fit(masked(X), Y), lambda: model.predict(masked(X))),
        "y": (lambda: estimator(**SMALL).fit(X, masked(Y)), lambda: model.score(X, masked(Y))),
        "sample_weight": (
            lambda: estimator(**SMALL).fit(X, Y, sample_weight=masked(weight)),
            lambda: model.score(X, Y, sample_weight=masked(weight)),
            lambda: model.partial_fit(X, Y, masked(weight)),
        ),
        "X of validation_data": (lambda: model.fit(X, Y, validation_data=(masked(X), Y)),),
        "y of validation_data": (
            lambda: model.fit(X, Y, validation_data=(X, masked(Y))),
            lambda: model.fit(X, Y, X_val=X, y_val=masked(Y)),
        ),
        "sample_weight of validation_data": (
            lambda: model.fit(X, Y, validation_data=(X, Y, masked(weight))),
            lambda: model.fit(X, Y, X_val=X, y_val=Y, sample_weight_val=masked(weight)),
        ),
    }
    if estimator is MLPClassifier:
        calls["classes"] = (lambda: MLPClassifier(**SMALL).partial_fit(X, Y, classes=masked(Y)),)
    for name, refused in calls.items():
        for call in refused:
            _refused(call, TypeError, f"^{name} is a masked array, expected a plain one")


MATRICES = {"X": (np.matrix(X), Y, None), "y": (X, np.matrix(Y), None), "sample_weight": (X, Y, np.matrix(np.ones(30)))}


@ESTIMATORS
@pytest.mark.parametrize("name", MATRICES)
def test_matrices_are_refused(estimator, name):
    _refused(lambda: estimator(**SMALL).fit(*MATRICES[name]), TypeError, "np.matrix is not supported")


DAYS = pd.date_range("2020", periods=30)
DATES = {
    "one column": (FRAME.assign(b=DAYS), "^column 'b' of X.* has dtype datetime64"),
    "all columns": (pd.DataFrame(dict.fromkeys("abcd", DAYS)), "^column 'a' of X.* has dtype datetime64"),
    "with a zone": (FRAME.assign(c=DAYS.tz_localize("UTC")), "^column 'c' of X.* has dtype datetime64.*UTC"),
    "durations": (FRAME.assign(d=DAYS - DAYS[0]), "^column 'd' of X.* has dtype timedelta64"),
    "periods": (FRAME.assign(a=pd.period_range("2020", periods=30)), "^column 'a' of X.* has dtype period"),
    "an array of dates": (X.astype("M8[s]"), "^X.* has dtype datetime64"),
    "an array of durations": (X.astype("m8[s]"), "^X.* has dtype timedelta64"),
    "lists of dates": ([[np.datetime64("2020")] * 4] * 30, "^X.* has dtype datetime64"),
    "objects": (np.full((30, 4), np.datetime64("2020"), object), r"^Input X.* contains .* in row 0, column 0"),
    "records": (np.zeros((30, 4), [("a", "i4")]), "^X.* has dtype .*'a'"),
    "one object": (FRAME.astype(object).assign(b=[datetime.date(2020, 1, 1)] * 30), "contains .* column 'b'"),
    "two columns of one name": (
        pd.concat([FRAME.iloc[:, :3], FRAME.iloc[:, :1].assign(a=DAYS)], axis=1), "^column 'a' of X.* has dtype date"
    ),
}  # fmt: skip


@ESTIMATORS
@pytest.mark.parametrize("kind", DATES)
def test_dates_are_refused_by_the_name_of_their_column(estimator, kind):
    bad, words = DATES[kind]
    rows = FRAME if isinstance(bad, pd.DataFrame) and list(bad.columns) == list("abcd") else X
    model = estimator(**SMALL)
    _refused(lambda: model.fit(bad, Y), ValueError, words)
    model.fit(rows, Y)
    _refused(lambda: model.predict(bad), ValueError, words)
    _refused(lambda: model.fit(rows, Y, X_val=bad, y_val=Y), ValueError, words)


MISSING_IN_ROWS = {
    "Int64": FRAME.assign(b=pd.Series([None, 1, 2] * 10, dtype="Int64")),
    "Float64": FRAME.astype("Float64").where(FRAME > -1),
    "boolean": FRAME.assign(b=pd.Series([None, True, False] * 10, dtype="boolean")),
    "string": FRAME.assign(b=pd.Series([None, "1", "2"] * 10, dtype="string")),
    "objects": FRAME.assign(b=pd.Series([pd.NA, 1, 2] * 10, dtype=object)),
    "NaT": FRAME.assign(b=pd.Series([pd.NaT, 1, 2] * 10, dtype=object)),
}


@ESTIMATORS
@pytest.mark.parametrize("kind", MISSING_IN_ROWS)
def test_missing_values_of_pandas_are_refused(estimator, kind):
    model, bad = estimator(**SMALL).fit(FRAME, Y), MISSING_IN_ROWS[kind]
    for call in (lambda: model.predict(bad), lambda: estimator(**SMALL).fit(bad, Y)):
        _refused(call, ValueError, "^Input X contains .*")


@ESTIMATORS
def test_nullable_columns_without_missing_values_are_accepted(estimator):
    model = estimator(**SMALL).fit(FRAME.astype("Float64"), pd.Series(Y, dtype="Int64"))
    np.testing.assert_array_equal(model.predict(FRAME), estimator(**SMALL).fit(X, Y).predict(X))


MISSING_LABELS = {
    "None": np.array([None, "a", "b"] * 10, object),
    "None in a list": [None, 1, 2] * 10,
    "NaN": np.where(Y == 0, np.nan, Y),
    "NaN of objects": np.array([np.nan, 1, 2] * 10, object),
    "NaN and strings": [np.nan, "a", "b"] * 10,
    "NA": pd.Series([pd.NA, "a", "b"] * 10, dtype=object),
    "NaT": pd.Series([pd.NaT, *DAYS[1:]]),
    "string": pd.Series([None, "a", "b"] * 10, dtype="string"),
    "Int64": pd.Series([None, 1, 2] * 10, dtype="Int64"),
    "boolean": pd.Series([None, True, False] * 10, dtype="boolean"),
    "category": pd.Series([None, "a", "b"] * 10, dtype="category"),
    "a column": pd.DataFrame({"y": pd.Series([None, 1, 2] * 10, dtype="Int64")}),
    "one strange number": np.array([float("nan"), decimal.Decimal(1), 2] * 10, object),
}
MIXED_LABELS = {
    "numbers and strings": [1, "a", 2] * 10,
    "the same as an array": np.array([1, "a", 2] * 10, object),
    "bools and strings": [True, "a"] * 15,
    "strings and bytes": ["a", b"b"] * 15,
    "dicts": [{}] * 30,
    "sets": np.array([{1}] * 30, object),
    "numbers and dicts": [1, {}, 2] * 10,
    "complex": [1, 2, 3j] * 10,
    "far too large": [10**400, 1, 2] * 10,
    "records": np.zeros(30, [("a", "i4")]),
}


@ESTIMATORS
@pytest.mark.parametrize("kind", [*MISSING_LABELS, *MIXED_LABELS])
def test_missing_and_mixed_labels_are_refused_by_name_in_every_argument(estimator, kind):
    bad, model = (MISSING_LABELS | MIXED_LABELS)[kind], estimator(**SMALL).fit(X, Y)
    calls = [
        ("y", lambda: estimator(**SMALL).fit(X, bad)),
        ("y", lambda: model.score(X, bad)),
        ("y", lambda: model.partial_fit(X, bad)),
        ("y of validation_data", lambda: model.fit(X, Y, validation_data=(X, bad))),
    ]
    if estimator is MLPClassifier:
        calls.append(("classes", lambda: MLPClassifier(**SMALL).partial_fit(X, Y, classes=bad)))
    for name, call in calls:
        message = _refused(call, ValueError, None)
        assert name in message
        assert "\n" not in message


@pytest.mark.parametrize("labels", [
    Y.astype(object), list(Y), Y.tolist(), tuple(Y.tolist()), pd.Series(Y, dtype=object), (Y == 1).astype(object),
    np.array(["a", "b", "c"], object)[Y], pd.Series(list("abc") * 10, dtype="string"), Y.astype(float).astype(object),
    pd.Series(DAYS[:3].tolist() * 10), [1, 2.0, True] * 10,
])  # fmt: skip
def test_labels_of_one_kind_are_accepted(labels):
    model = MLPClassifier(**SMALL).fit(X, labels)
    plain = np.array(list(labels))
    np.testing.assert_array_equal(model.classes_, np.unique(plain))
    assert model.score(X, labels) == np.mean(model.predict(X) == plain)


def test_targets_of_objects_are_the_numbers():
    expected = MLPRegressor(**SMALL).fit(X, Y / 2).predict(X)
    for targets in ((Y / 2).astype(object), [decimal.Decimal(int(each)) / 2 for each in Y], np.float16(Y / 2)):
        np.testing.assert_array_equal(MLPRegressor(**SMALL).fit(X, targets).predict(X), expected)


@ESTIMATORS
@pytest.mark.parametrize(("weight", "words"), [
    ([None, 1, 2] * 10, "sample_weight contains NaN"),
    (pd.Series([None, 1, 2] * 10, dtype="Int64"), "sample_weight contains NaN"),
    (pd.Series(DAYS), "^sample_weight has dtype datetime64"),
    (np.ones(30, "m8[s]"), "^sample_weight has dtype timedelta64"),
    ([10**400] * 30, "^sample_weight has 1000.* in row 0"),
    (np.array([1] * 29 + [10**400], object), "^sample_weight has 1000.* in row 29"),
    (10**400, "^sample_weight has 1000.* in row 0"),
    (np.full(30, 1e300), "^sample_weight has an entry that is negative or not finite as float32"),
    (float("inf"), "sample_weight contains infinity"),
])  # fmt: skip
def test_weights_that_are_no_finite_numbers_are_refused_by_name(estimator, weight, words):
    _refused(lambda: estimator(**SMALL).fit(X, Y, sample_weight=weight), ValueError, words)


@ESTIMATORS
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_that_the_working_dtype_cannot_hold_are_refused_everywhere(estimator, dtype):
    large = X.copy()
    large[3, 1] = 1e300
    model = estimator(**SMALL, dtype=dtype).fit(X, Y)
    calls = (
        lambda: estimator(**SMALL, dtype=dtype).fit(large, Y),
        lambda: estimator(**SMALL, dtype=dtype).partial_fit(large, Y, **_classes(estimator)),
        lambda: model.predict(large),
        lambda: model.predict(large[3:4]),
        lambda: model.transform(large),
        lambda: model.fit(X, Y, validation_data=(large, Y)),
        lambda: model.predict(_sparse(large)),
        lambda: estimator(**SMALL, dtype=dtype).fit(_sparse(large), Y),
    )
    if dtype == "float32":
        for call in calls:
            _refused(call, ValueError, "(infinity or a value )?too large for dtype|too large")
        return
    with np.errstate(over="ignore"):
        for call in calls[2:4]:
            assert np.isfinite(call()).all() or estimator is MLPRegressor


def _classes(estimator):
    return {"classes": [0, 1, 2]} if estimator is MLPClassifier else {}


def _sparse(array):
    return pytest.importorskip("scipy.sparse").csr_matrix(array)


@ESTIMATORS
@pytest.mark.filterwarnings("ignore:.* columns of the validation data lie:UserWarning")
def test_values_beyond_float32_are_standardized_first_and_refused_only_if_they_stay_too_large(estimator):
    model = estimator(**SMALL, standardize=True).fit(X * 1e100, Y)
    assert np.isfinite(model.predict(X * 1e100)).all()
    usual = estimator(**SMALL, standardize=True).fit(X, Y)
    for call in (lambda: usual.predict(X * 1e300), lambda: usual.fit(X, Y, validation_data=(X * 1e300, Y))):
        _refused(call, ValueError, "too large for float32|^validation_data: inputs contain")
