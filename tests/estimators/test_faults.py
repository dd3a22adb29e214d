"""Tests that bad data and parameters raise one error before any training, which names what was found and expected."""

import re

import numpy as np
import pytest
from scipy import sparse
from sklearn import neural_network
from sklearn.exceptions import DataConversionWarning, NotFittedError

from fastnn import DivergenceError, MLPClassifier, MLPRegressor, SettingsError
from fastnn.estimators import fit_watch
from fastnn.training.train import TrainingInterrupted

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
RNG = np.random.default_rng(0)
X = RNG.standard_normal((30, 4))
Y = np.arange(30) % 3
SMALL = {"hidden_layer_sizes": (5,), "max_iter": 2, "random_state": 0}


def _with(value, where=(0, 0), array=X):
    changed = np.array(array, dtype=object if isinstance(value, (str, int)) else array.dtype)
    changed[where] = value
    return changed


# What scikit-learn's own checks do not try (test_conformance.py).
@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize(("bad", "error", "words"), [
    (_with(1e300), ValueError, "too large for dtype\\('float32'\\)"),
    (1.0, ValueError, "Expected 2D array, got scalar array"),
    ([[1, 2], [3]], ValueError, "inhomogeneous|sequence"),
    (X.reshape(30, 2, 2), ValueError, r"dim 3, shape \(30, 2, 2\).*reshape"),
    (np.array([["abc"] * 4] * 30), ValueError, "convert"),
    (_with(10**400), ValueError, "too large"),
    (X.view(np.matrix), TypeError, "np.matrix is not supported"),
    (np.ma.masked_invalid(_with(np.nan)), TypeError, "masked array"),
])  # fmt: skip
def test_bad_inputs_raise_in_fit_and_predict(bad, error, words):
    for estimator in (MLPClassifier(**SMALL), MLPRegressor(**SMALL)):
        with pytest.raises(error, match=words):
            estimator.fit(bad, Y)
        estimator.fit(X, Y)
        with pytest.raises(error, match=words):
            estimator.predict(bad)


@pytest.mark.parametrize(("bad", "words"), [
    (np.where(Y == 0, np.nan, Y), "contains NaN"),
    (np.array([None, "a", "b"] * 10, dtype=object), "y contains NaN or another missing value, in row 0"),
    (np.array([1, "a", "b"] * 10, dtype=object), "y mixes strings and other labels, such as 'a' and 1"),
    (np.stack([Y, Y], axis=1), "multiclass-multioutput targets are not supported"),
    ("abc", "y is the string 'abc'"),
])  # fmt: skip
def test_bad_labels_raise(bad, words):
    with pytest.raises(ValueError, match=words):
        MLPClassifier(**SMALL).fit(X, bad)


def test_a_column_of_labels_is_accepted_with_a_warning():
    with pytest.warns(DataConversionWarning):
        column = MLPClassifier(**SMALL).fit(X, Y[:, None])
    np.testing.assert_array_equal(column.predict(X), MLPClassifier(**SMALL).fit(X, Y).predict(X))


@pytest.mark.parametrize(("bad", "words"), [
    (np.where(Y == 0, np.nan, 1.0), "NaN"),
    (np.where(Y == 0, -1.0, 1.0), "negative"),
    (np.zeros(30), "zero|0 for every sample"),
    (np.ones(7), "shape"),
    (np.ones((30, 1)), "1D array|shape"),
])  # fmt: skip
def test_bad_sample_weights_raise(bad, words):
    for estimator in (MLPClassifier(**SMALL), MLPRegressor(**SMALL)):
        with pytest.raises(ValueError, match=words):
            estimator.fit(X, Y, sample_weight=bad)


BAD_SETTINGS = [
    *({"learning_rate_init": bad} for bad in (0, np.nan, np.inf, "0.1", -1)),
    {"batch_size": 0}, {"batch_size": -1}, {"max_iter": 0}, {"max_iter": 1.5}, {"activation": "swish"},
    {"hidden_layer_sizes": (0,)}, {"hidden_layer_sizes": (5, -1)}, {"hidden_layer_sizes": (2.5,)},
    {"hidden_layer_sizes": 0}, {"random_state": -1}, {"random_state": 2**32}, {"alpha": -1}, {"alpha": np.nan},
    {"momentum": 1.0}, {"solver": "rprop"}, {"dropout": 1.0}, {"dropout": -0.1}, {"input_scale": 0}, {"n_threads": 0},
    {"backend": "gpu"}, {"dtype": "float16"}, {"dtype": np.int64}, {"schedule": "linear"}, {"schedule": 3},
    {"validation_fraction": 1.0, "early_stopping": True}, {"validation_fraction": 0.0, "early_stopping": True},
    {"dropout": 0.5, "solver": "lbfgs"}, {"tol": -1}, {"n_iter_no_change": 0}, {"max_fun": 0}, {"beta_1": 1.0},
    {"schedule": "cosine", "learning_rate": "adaptive", "solver": "sgd"},
    {"activation": []}, {"activation": ["relu", "tanh", "elu"]},
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD_SETTINGS, ids=str)
def test_a_bad_parameter_raises_with_its_name_before_training(bad):
    for estimator in (MLPClassifier, MLPRegressor):
        model = estimator(**SMALL | bad)  # as in scikit-learn, fit checks parameters, not the constructor
        with pytest.raises(ValueError, match="|".join(bad)):
            model.fit(X, Y)
        assert not hasattr(model, "coefs_")


@pytest.mark.parametrize("estimator", [MLPClassifier, MLPRegressor])
def test_every_parameter_has_a_rule_and_refuses_an_arbitrary_object(estimator):
    for name in estimator().get_params():
        with pytest.raises(SettingsError, match=f"^{name} is <object .*>, expected "):
            estimator(**{name: object()}).fit(X, Y)


def test_errors_of_parameters_name_every_value_that_is_allowed():
    for settings, message in (
        ({"batch_size": 0}, "batch_size is 0, expected a whole number, 1 or more, or 'auto'"),
        ({"n_threads": 1.0}, "n_threads is 1.0, expected a whole number, 1 or more, or None"),
        ({"solver": "rprop"}, "solver is 'rprop', expected one of 'lbfgs', 'sgd', 'adam'"),
        ({"momentum": True}, "momentum is True, expected a number, at least 0 and less than 1"),
        ({"dtype": None}, "dtype is None, expected float32 or float64"),
        ({"hidden_layer_sizes": "8"}, "hidden_layer_sizes is '8', expected a whole number, 1 or more, or"),
    ):
        with pytest.raises(SettingsError, match="^" + re.escape(message)):
            MLPClassifier(**SMALL | settings).fit(X, Y)


def test_parameters_of_every_allowed_kind_are_accepted():
    for settings in (
        {"hidden_layer_sizes": 5}, {"hidden_layer_sizes": np.array([5, 4])}, {"hidden_layer_sizes": range(4, 6)},
        {"hidden_layer_sizes": ()}, {"max_iter": np.int64(2)}, {"n_iter_no_change": np.inf}, {"verbose": 0},
        {"alpha": np.float32(0)}, {"alpha": 0}, {"random_state": np.random.RandomState(0)}, {"random_state": None},
        {"dtype": np.float64}, {"dtype": np.dtype("f4")}, {"schedule": lambda epoch, epochs: 1.0}, {"threshold": 1},
        {"shuffle": np.bool_(False)}, {"unknown_label": 7.5}, {"batch_size": 3}, {"n_threads": 1},
    ):  # fmt: skip
        assert MLPClassifier(**SMALL | settings).fit(X, Y).n_iter_ == 2


@pytest.mark.parametrize(("bad", "words"), [
    ({"class_weight": "even"}, "class_weight"),
    ({"class_weight": {0: -1.0}}, "negative"),
    ({"threshold": 0.0}, "threshold"),
    ({"threshold": 1.5}, "threshold"),
    ({"threshold": 0.5, "unknown_label": "?"}, "unknown_label is '\\?', expected a number"),
    ({"threshold": 0.5, "unknown_label": 2}, "none of the classes"),
    ({"loss": "absolute_error"}, "absolute_error"),
])  # fmt: skip
def test_a_bad_parameter_of_only_one_estimator_raises_with_its_name(bad, words):
    with pytest.raises(ValueError, match=words):
        (MLPRegressor if "loss" in bad else MLPClassifier)(**SMALL, **bad).fit(X, Y)


def test_a_batch_larger_than_the_data_is_clipped_with_a_warning():
    with pytest.warns(UserWarning, match="batch_size=100 is more than the 30 samples"):
        MLPClassifier(**SMALL, batch_size=100).fit(X, Y)
    one = MLPClassifier(**SMALL).fit(X[:1], Y[:1])
    np.testing.assert_array_equal(one.predict(X), np.full(30, Y[0]))


def test_an_estimator_that_is_not_fitted_raises():
    for use in (lambda model: model.transform(X), lambda model: model.history_):
        with pytest.raises(NotFittedError, match="MLPClassifier"):
            use(MLPClassifier(**SMALL))


def test_partial_fit_raises_for_bad_classes_and_unsupported_parameters():
    fitted = MLPClassifier(**SMALL).partial_fit(X, Y, classes=[0, 1, 2])
    for model, labels, classes, words in (
        (MLPClassifier(**SMALL), Y, None, "classes is None, expected all labels"),
        (fitted, np.where(Y == 0, 7, Y), None, r"\[7\]"),
        (fitted, Y, [0, 1], r"classes is \[0, 1\], expected \[0, 1, 2\]"),
        (MLPClassifier(**SMALL, class_weight="balanced"), Y, [0, 1, 2], "class_weight 'balanced'"),
        (MLPClassifier(**SMALL, early_stopping=True), Y, [0, 1, 2], "early_stopping"),
    ):
        with pytest.raises(ValueError, match=words):
            model.partial_fit(X, labels, classes=classes)
    for estimator in (MLPClassifier, MLPRegressor):
        assert not hasattr(estimator(solver="lbfgs"), "partial_fit")


def test_divergence_raises_with_its_epoch_and_leaves_no_fitted_model():
    for settings in ({"solver": "sgd", "learning_rate_init": 1e6}, {"solver": "adam", "learning_rate_init": 1e30}):
        model = MLPRegressor(**SMALL | {"max_iter": 50}, **settings)
        with pytest.raises(DivergenceError, match=r"diverged in epoch .* at learning rate 1e"):
            model.fit(X * 1e3, Y * 1e3)
        assert not hasattr(model, "coefs_")


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_huge_inputs_do_not_overflow_the_probabilities(backend):
    model = MLPClassifier(**SMALL, backend=backend).fit(X, Y)
    proba = model.predict_proba(X * 1e30)
    assert np.isfinite(proba).all()
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-5)


def test_a_network_too_large_for_the_memory_raises_with_the_parameter_name():
    for sizes in ((10**12,), (10**7, 10**7)):
        with pytest.raises(MemoryError, match=r"^hidden_layer_sizes is .* parameters need about .* GiB, expected"):
            MLPClassifier(hidden_layer_sizes=sizes).fit(X, Y)


def test_ctrl_c_keeps_the_last_complete_epoch_and_is_raised(monkeypatch):
    def interrupt(self, end, original=fit_watch.FitWatch.__call__):
        if end.record.epoch == 3:
            raise KeyboardInterrupt
        return original(self, end)

    monkeypatch.setattr(fit_watch.FitWatch, "__call__", interrupt)
    model = MLPClassifier(**SMALL | {"max_iter": 9})
    with pytest.raises(TrainingInterrupted):
        model.fit(X, Y)
    assert len(model.loss_curve_) == len(model.history_) == model.n_iter_ == 3  # the third epoch was complete
    assert model.predict(X).shape == (30,)


def test_bad_validation_data_raise():
    model = MLPClassifier(**SMALL)
    for bad, words in (
        (X, "validation_data is ndarray, expected \\(X, y\\)"),
        ((X[:, :3], Y), "3 features"),
        ((X, Y + 1), r"\[3\]"),
        ((_with(np.nan), Y), "NaN"),
        ((X, Y, -np.ones(30)), "negative"),
    ):
        with pytest.raises(ValueError, match=words):
            model.fit(X, Y, validation_data=bad)


def test_other_sparse_formats_become_csr_and_nan_in_them_raises():
    dense = X * (X > 0)
    fits = [MLPClassifier(**SMALL).fit(format_(dense), Y) for format_ in (sparse.csr_matrix, sparse.coo_array)]
    np.testing.assert_array_equal(fits[0].coefs_[0], fits[1].coefs_[0])
    bad = sparse.csr_matrix(dense)
    bad.data[0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        fits[0].predict(bad)


def test_a_failed_fit_does_not_change_the_estimator():
    fresh = MLPClassifier(**SMALL)
    with pytest.raises(ValueError, match="negative"):
        fresh.fit(X, Y, sample_weight=-np.ones(30))
    with pytest.raises(NotFittedError):
        fresh.predict(X)
    with pytest.raises(ValueError, match="classes is None, expected all labels"):
        fresh.partial_fit(X, Y)
    model = MLPClassifier(**SMALL).fit(X, Y)
    before, predictions = vars(model).copy(), model.predict(X)
    for settings, arguments in (
        ({}, (X[:, :3], Y % 2, -np.ones(30))),
        ({"solver": "sgd", "learning_rate_init": 1e30, "max_iter": 50}, (X[:, :2] * 1e3, np.array(list("xyz"))[Y])),
    ):
        with pytest.raises((ValueError, DivergenceError)):
            model.set_params(**settings).fit(*arguments)
        model.set_params(**{name: getattr(MLPClassifier(**SMALL), name) for name in settings})
        assert vars(model).keys() == before.keys()
        np.testing.assert_array_equal(model.predict(X), predictions)
    assert len(model.history_) == 2


def test_lbfgs_raises_if_it_cannot_start_and_has_a_loss_if_it_need_not():
    for dtype, scale in (("float32", 1e25), ("float64", 1e160)):
        with pytest.raises(DivergenceError, match="scale the inputs"):
            MLPRegressor(**SMALL, solver="lbfgs", dtype=dtype).fit(X * scale, Y)
    peer = neural_network.MLPClassifier(**SMALL, solver="lbfgs", tol=10.0).fit(X, Y)
    ours = MLPClassifier(**SMALL, solver="lbfgs", tol=10.0, dtype="float64").fit(X, Y)
    assert ours.n_iter_ == peer.n_iter_ == 0
    assert ours.loss_ == pytest.approx(peer.loss_, rel=1e-12)


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_a_target_of_weight_zero_may_be_arbitrarily_large(backend):
    targets, weight = Y.astype(float), np.ones(30)
    targets[0], weight[0] = 1e38, 0
    model = MLPRegressor(**SMALL, backend=backend).fit(X, targets, sample_weight=weight)
    assert np.isfinite(model.loss_)
