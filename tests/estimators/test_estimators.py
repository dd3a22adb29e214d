"""Tests of the estimators: additions to scikit-learn, weights, labels, array layouts, saving, threads and processes."""

import multiprocessing
import pickle
import runpy
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from fastnn import (
    BatchNorm,
    DataError,
    Dense,
    InconsistentVersionWarning,
    MLPClassifier,
    MLPRegressor,
    Model,
    Network,
    load,
    load_digits,
)
from fastnn.backends import reference
from fastnn.backends.compiled.layout import readonly_view
from fastnn.estimators import callbacks
from tests.parity import assert_same_bits

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
SMALL = {"hidden_layer_sizes": (16,), "max_iter": 5, "random_state": 0}


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    return data.images[:600], data.labels[:600]


@pytest.fixture(scope="module")
def targets(digits):
    """Three multilabel columns."""
    return np.stack([digits[1] % 2, digits[1] > 4, digits[1] == 3], axis=1).astype(int)


def _equal(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one.coefs_, other.coefs_, strict=True))


# --- Weights ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("estimator", [MLPClassifier, MLPRegressor])
def test_a_weight_of_two_equals_a_repeated_row(digits, estimator, solver):
    """With full batches, both fits use the same rows in each step."""
    images, labels = digits
    weight = 1.0 + (np.arange(100) % 3 == 0)
    rows = np.repeat(np.arange(100), weight.astype(int))
    model = estimator(**SMALL | {"solver": solver, "dtype": "float64", "batch_size": 100, "shuffle": False})
    weighted = clone(model).fit(images[:100], labels[:100], sample_weight=weight)
    repeated = clone(model).set_params(batch_size=len(rows)).fit(images[rows], labels[rows])
    for one, other in zip(weighted.coefs_, repeated.coefs_, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-10)


def test_class_weights_equal_the_corresponding_sample_weights(digits):
    images, labels = digits
    images, labels = images[labels < 4], np.array(["zero", "one", "two", "three"])[labels[labels < 4]]
    own = np.random.default_rng(0).random(len(labels))
    weights = {"zero": 3.0, "one": 0.5}
    balanced, from_dict = len(labels) / (4 * pd.Series(labels).value_counts()), pd.Series(weights)
    for class_weight, by_class in (("balanced", balanced), (weights, from_dict)):
        weight = pd.Series(labels).map(by_class).fillna(1.0).to_numpy()
        for sample_weight, expected in ((None, weight), (own, weight * own)):
            one = MLPClassifier(**SMALL, class_weight=class_weight).fit(images, labels, sample_weight=sample_weight)
            assert _equal(one, MLPClassifier(**SMALL).fit(images, labels, sample_weight=expected))
    assert not _equal(one, MLPClassifier(**SMALL).fit(images, labels))


def test_a_dict_of_class_weights_may_omit_classes_but_not_name_unknown_ones(digits):
    images, labels = digits
    model = MLPClassifier(**SMALL, class_weight={0: 2.0})
    some = labels > 4
    model.partial_fit(images[some], labels[some], classes=np.arange(10)).partial_fit(images, labels)
    with pytest.raises(ValueError, match=r"class_weight has \[11\], which are not classes"):
        MLPClassifier(**SMALL, class_weight={11: 2.0}).fit(images, labels)
    with pytest.raises(ValueError, match="multilabel"):
        MLPClassifier(**SMALL, class_weight="balanced").fit(images, np.eye(10, dtype=int)[labels])


def test_class_weights_do_not_change_the_validation_score(digits):
    images, labels = digits
    model = MLPClassifier(**SMALL, class_weight={0: 100.0}, early_stopping=True).fit(images, labels)
    np.testing.assert_array_equal(model.validation_scores_, model.history_["validation_accuracy"])


# --- Labels and arrays -----------------------------------------------------------------------------------------------
LABELS = {
    "strings": np.array(["no", "yes", "maybe"]), "objects": np.array(["no", "yes", "maybe"], dtype=object),
    "negative": np.array([-5, 0, 3]), "floats": np.array([0.0, 1.0, 2.0]), "two": np.array([7, 9]),
    "booleans": np.array([False, True]), "one": np.array(["only"]),
}  # fmt: skip


@pytest.mark.parametrize("case", LABELS)
def test_labels_of_every_type(digits, case):
    names = LABELS[case]
    images, labels = digits[0], names[digits[1] % len(names)]
    model = MLPClassifier(**SMALL | {"max_iter": 30}, input_scale=1 / 16).fit(images, labels)
    np.testing.assert_array_equal(model.classes_, np.unique(labels))
    predicted = model.predict(images)
    assert predicted.dtype.kind == {"O": "U"}.get(names.dtype.kind, names.dtype.kind)  # as in scikit-learn
    assert np.mean(predicted == labels) > 0.8
    proba = model.predict_proba(images)
    assert proba.shape == (600, len(names))
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(model.predict_log_proba(images), np.log(proba))


def test_multilabel_columns_are_learned_independently(digits, targets):
    images, _ = digits
    model = MLPClassifier(**SMALL | {"max_iter": 60}, input_scale=1 / 16, learning_rate_init=0.01).fit(images, targets)
    predicted = model.predict(images)
    assert predicted.shape == targets.shape
    assert (predicted == targets).mean(axis=0).min() > 0.9
    assert model.out_activation_ == "logistic"
    np.testing.assert_array_equal(model.classes_, [0, 1, 2])
    with pytest.raises(ValueError, match="threshold"):
        MLPClassifier(**SMALL, threshold=0.5).fit(images, targets)


def test_arrays_of_every_layout_and_dtype_give_the_same_bits(digits, tmp_path):
    images, labels = digits
    values = images.astype(np.float32)
    np.save(tmp_path / "images.npy", values)
    model = MLPClassifier(**SMALL).fit(values, labels)
    for other in (
        np.asfortranarray(values), np.repeat(values, 2, axis=1)[:, ::2], values[::-1][::-1], readonly_view(values),
        np.load(tmp_path / "images.npy", "r"),
        values.astype(np.float16), values.astype(np.float64), values.astype(">f4"), values.astype(np.int16),
        values.astype(object), values.astype(str), values.tolist(), pd.DataFrame(values).to_numpy(),
    ):  # fmt: skip
        again = MLPClassifier(**SMALL).fit(other, labels)
        assert _equal(model, again)
        np.testing.assert_array_equal(model.predict_proba(values), model.predict_proba(other))
    as_bytes = MLPClassifier(**SMALL).fit(images, labels)  # uint8 is not converted
    np.testing.assert_allclose(as_bytes.coefs_[0], model.coefs_[0], rtol=1e-4, atol=1e-5)


def test_pixels_stay_uint8_and_are_scaled_in_the_network(digits):
    images, labels = digits
    inside = MLPClassifier(**SMALL, dtype="float64", input_scale=1 / 16).fit(images, labels)
    outside = MLPClassifier(**SMALL, dtype="float64").fit(images / 16, labels)
    np.testing.assert_allclose(inside.coefs_[0], outside.coefs_[0], rtol=1e-9, atol=1e-12)
    assert inside.coefs_[0].dtype == np.float64
    assert MLPClassifier(**SMALL).fit(images, labels).coefs_[0].dtype == np.float32


def test_fit_does_not_change_its_arguments(digits):
    before = (*digits, np.random.default_rng(0).random(600))
    images, labels, weight = given = [array.copy() for array in before]
    MLPClassifier(**SMALL, class_weight="balanced", early_stopping=True).fit(images, labels, sample_weight=weight)
    assert_same_bits(given, before)


# --- Additions to scikit-learn ---------------------------------------------------------------------------------------
def test_validation_data_are_evaluated_after_each_epoch_and_can_stop_the_fit(digits):
    images, labels = digits
    split = (images[:400], labels[:400]), (images[400:], labels[400:])
    model = MLPClassifier(**SMALL | {"max_iter": 80}, input_scale=1 / 16, learning_rate_init=0.01)
    validated = clone(model).fit(*split[0], validation_data=split[1])
    history = validated.history_
    assert len(history) == validated.n_iter_ == len(validated.validation_scores_)
    np.testing.assert_array_equal(history["validation_accuracy"], validated.validation_scores_)
    np.testing.assert_allclose(history["loss"], validated.loss_curve_)
    assert validated.validation_scores_[-1] == validated.score(*split[1])
    proba = validated.predict_proba(split[1][0]).astype(np.float64)
    loss = -np.log(proba[np.arange(200), split[1][1]]).mean()
    loss += 0.5 * 1e-4 * sum((w.astype(np.float64) ** 2).sum() for w in validated.coefs_) / 200
    assert history["validation_loss"].iloc[-1] == pytest.approx(loss, rel=1e-4)
    assert _equal(validated, clone(model).fit(*split[0]))  # validation does not change training
    stopped = clone(model).set_params(early_stopping=True, n_iter_no_change=3).fit(*split[0], validation_data=split[1])
    assert stopped.n_iter_ < 80
    assert stopped.score(*split[1]) == stopped.best_validation_score_ == max(stopped.validation_scores_)
    weights = np.random.default_rng(0).random(200)
    weighted = clone(model).fit(*split[0], validation_data=(*split[1], weights))
    correct = weighted.predict(split[1][0]) == split[1][1]
    assert weighted.validation_scores_[-1] == pytest.approx(np.average(correct, weights=weights))


def test_a_regressor_scores_validation_data_by_r2(digits):
    images, labels = digits
    model = MLPRegressor(**SMALL | {"max_iter": 40}, input_scale=1 / 16, learning_rate_init=0.01)
    model.fit(images[:400], labels[:400], validation_data=(images[400:], labels[400:]))
    assert model.validation_scores_[-1] == pytest.approx(model.score(images[400:], labels[400:]), rel=1e-5)
    assert model.history_["accuracy"].isna().all()


def test_dropout_changes_training_but_not_prediction(digits):
    images, labels = digits
    plain, dropped, again = (
        MLPClassifier(**SMALL, dropout=rate, input_scale=1 / 16).fit(images, labels) for rate in (0.0, 0.4, 0.4)
    )
    assert _equal(dropped, again)
    assert not _equal(plain, dropped)
    np.testing.assert_array_equal(dropped.predict_proba(images), dropped.predict_proba(images))
    numpy = MLPClassifier(**SMALL, dropout=0.4, input_scale=1 / 16, backend="numpy").fit(images, labels)
    np.testing.assert_allclose(numpy.coefs_[0], dropped.coefs_[0], rtol=1e-3, atol=1e-4)


def test_a_schedule_sets_the_learning_rate_of_each_of_max_iter_epochs(digits):
    model = MLPClassifier(**SMALL, schedule="step:0.5,2", learning_rate_init=0.01)
    whole, steps = clone(model).fit(*digits), clone(model)
    for _ in range(5):
        steps.partial_fit(*digits, classes=np.arange(10))
    for fitted in (whole, steps):
        np.testing.assert_allclose(fitted.history_["learning_rate"], [0.01, 0.01, 0.005, 0.005, 0.0025])


def test_a_model_with_batch_norm_predicts_and_trains_on_but_is_not_built_anew(digits):
    images, labels = digits
    layers = [Dense(6, "tanh"), Dense(10, "identity"), BatchNorm()]
    model = MLPClassifier.from_model(Model(Network.initialize((64,), layers), tuple(range(10))))
    assert model.transform(images[:5]).shape == (5, 10)
    with pytest.raises(ValueError, match="cannot build; expected warm_start=True"):
        model.fit(images, labels)
    assert model.set_params(warm_start=True, max_iter=2).fit(images, labels).network_.layers[2].kind == "batch_norm"


@pytest.mark.parametrize("backend", ["numba", "numpy"])
@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic", "identity", ["gelu", "elu"], ("tanh", "relu")])
def test_transform_returns_the_last_hidden_layer(digits, activation, backend):
    images, labels = digits
    model = MLPClassifier(
        (12, 7), activation, max_iter=3, random_state=0, input_scale=1 / 16, dtype="float64", backend=backend
    ).fit(images, labels)
    hidden, names = images / 16.0, [activation] * 2 if isinstance(activation, str) else activation
    outputs = []
    for weight, bias, name in zip(model.coefs_[:-1], model.intercepts_[:-1], names, strict=True):
        hidden = reference.activate(hidden @ weight + bias, name)
        outputs.append(hidden)
    np.testing.assert_allclose(model.transform(images), hidden, rtol=1e-10, atol=1e-12)
    for layer in (-2, -1, 0, 1):
        np.testing.assert_allclose(model.transform(images, layer), outputs[layer], rtol=1e-10, atol=1e-12)
    names = model.get_feature_names_out()
    np.testing.assert_array_equal(names, [f"mlpclassifier{k}" for k in range(7)])
    frame = model.set_output(transform="pandas").transform(images)
    np.testing.assert_array_equal(frame.columns, names)
    with pytest.raises(ValueError, match="layer is 0, expected transform_layer=0 for data frames"):
        model.transform(images, 0)
    frame = model.set_params(transform_layer=0).transform(images)
    assert list(frame.columns) == list(model.get_feature_names_out()) == [f"mlpclassifier{k}" for k in range(12)]
    np.testing.assert_allclose(frame, outputs[0], rtol=1e-10, atol=1e-12)
    with pytest.raises(ValueError, match=r"layer of Network.* is 2, expected a whole number, from -2 to 1"):
        model.transform(images, 2)
    none = MLPClassifier((), max_iter=2, input_scale=1 / 16, dtype="float64", backend=backend).fit(images, labels)
    np.testing.assert_allclose(none.transform(images), images / 16)
    with pytest.raises(ValueError, match=r"no hidden layers, is 0, expected"):
        none.transform(images, 0)


def test_predict_returns_the_unknown_label_below_the_threshold(digits):
    images, labels = digits
    model = MLPClassifier(**SMALL | {"max_iter": 20}, input_scale=1 / 16).fit(images, labels)
    confidence, predicted = model.predict_proba(images).max(axis=1), model.predict(images)
    median = float(np.median(confidence))
    for settings, label in (({"threshold": median}, -1), ({"unknown_label": 99}, 99)):
        found = model.set_params(**settings).predict(images)
        np.testing.assert_array_equal(found, np.where(confidence < median, label, predicted))
    names = np.array(list("abcdefghij"))[labels]
    words = MLPClassifier(**SMALL, input_scale=1 / 16, threshold=0.99).fit(images, names)
    assert "unknown" in set(words.predict(images)) <= {*"abcdefghij", "unknown"}


# --- Continued fits --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_partial_fit_resumes_the_optimizer_state(digits, solver, backend):
    images, labels = digits
    settings = SMALL | {"solver": solver, "shuffle": False, "backend": backend, "tol": 0.0}
    whole = MLPClassifier(**settings).fit(images, labels)
    steps = MLPClassifier(**settings)
    for _ in range(5):
        steps.partial_fit(images, labels, classes=np.arange(10))
    assert _equal(whole, steps)
    assert steps.t_ == whole.t_ == 3000
    np.testing.assert_array_equal(steps.loss_curve_, whole.loss_curve_)
    assert len(steps.history_) == 5


def test_partial_fit_accepts_new_data_with_fewer_classes(digits):
    images, labels = digits
    model = MLPClassifier(**SMALL, input_scale=1 / 16)
    for start in range(0, 600, 50):
        rows = slice(start, start + 50)
        keep = labels[rows] < 5 if start == 50 else slice(None)
        model.partial_fit(images[rows][keep], labels[rows][keep], classes=np.arange(10))
    assert model.predict_proba(images).shape == (600, 10)
    assert MLPRegressor(**SMALL).partial_fit(images, labels).partial_fit(images, labels).t_ == 1200


def test_warm_start_continues_from_the_weights(digits):
    images, labels = digits
    model = MLPClassifier(**SMALL, warm_start=True).fit(images, labels)
    first = model.loss_curve_[:]
    model.fit(images, labels)
    assert model.loss_curve_[:5] == first
    assert len(model.loss_curve_) == len(model.history_) == 10
    assert model.loss_curve_[-1] < first[-1]
    with pytest.raises(ValueError, match="warm_start"):
        model.fit(images, labels % 5)


def test_parameters_changed_between_fits_are_used(digits):
    images, labels = digits
    model = MLPClassifier(**SMALL, warm_start=True, input_scale=1 / 16).fit(images, labels)
    model.set_params(activation="tanh", dtype="float64", input_scale=1 / 8).fit(images, labels)
    assert (model.network_.activation, model.network_.dtype, model.network_.input_scale) == ("tanh", np.float64, 1 / 8)
    assert list(model.history_["epoch"]) == list(range(1, 11))
    model.set_params(dtype="float32").partial_fit(images, labels)
    assert model.coefs_[0].dtype == np.float32
    with pytest.raises(ValueError, match="too large for dtype"):
        model.set_params(dtype="float64").predict(images * 1e300)


def test_assigned_weights_are_used(digits):
    images, labels = digits
    model, other = (MLPClassifier(**SMALL | {"random_state": seed}).fit(images, labels) for seed in (0, 1))
    model.coefs_, model.intercepts_ = other.coefs_, other.intercepts_
    np.testing.assert_array_equal(model.predict_proba(images), other.predict_proba(images))
    again = pickle.loads(pickle.dumps(model))
    again.coefs_[0][:] = 0
    assert not np.array_equal(again.predict_proba(images), model.predict_proba(images))
    model.loss_curve_.clear()
    assert len(model.partial_fit(images, labels).loss_curve_) == 6


# --- scikit-learn's tools --------------------------------------------------------------------------------------------
def test_a_grid_search_over_a_pipeline(digits):
    images, labels = digits
    pipeline = make_pipeline(StandardScaler(), MLPClassifier(**SMALL | {"max_iter": 25}, learning_rate_init=0.01))
    search = GridSearchCV(pipeline, {"mlpclassifier__alpha": [1e-4, 1.0], "mlpclassifier__dropout": [0.0, 0.2]}, cv=3)
    search.fit(images, labels)
    assert search.best_score_ > 0.8
    assert search.predict(images).shape == (600,)
    assert search.best_estimator_.transform(images).shape == (600, 16)


def test_a_scoring_monitor_sees_each_epoch(digits):
    callback = pytest.importorskip("sklearn.callback")
    images, labels = digits
    model = MLPClassifier(**SMALL, input_scale=1 / 16)
    monitor = callback.ScoringMonitor(scoring=["accuracy", "neg_log_loss"])
    model.set_callbacks(monitor).fit(images, labels)
    epochs = monitor.get_logs().data_as_pandas.query("task_name == 'epoch'")
    assert len(epochs) == 5
    assert epochs["accuracy"].iloc[-1] == model.score(images, labels)
    assert epochs["accuracy"].nunique() > 2
    assert _equal(model, MLPClassifier(**SMALL, input_scale=1 / 16).fit(images, labels))


def test_a_callback_can_stop_a_fit_and_every_task_that_begins_ends(digits):
    pytest.importorskip("sklearn.callback")
    events = []

    class Stopper:
        setup = staticmethod(lambda estimator, context: events.append("setup"))
        teardown = staticmethod(lambda estimator, context: events.append("teardown"))

        def on_fit_task_begin(self, estimator, context, *, X=None):
            events.append(("begin", context.task_name))

        def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
            events.append(("end", context.task_name))
            assert fitted_estimator.predict(digits[0]).shape == (600,)
            if context.task_name == "epoch":
                return sum(event == ("end", "epoch") for event in events) == 2
            return False

    for settings in ({}, {"solver": "lbfgs"}):
        events.clear()
        model = MLPClassifier(**SMALL | settings).set_callbacks(Stopper()).fit(*digits)
        assert model.n_iter_ == 2
        epoch = [("begin", "epoch"), ("end", "epoch")]
        assert events == ["setup", ("begin", "fit"), *epoch, *epoch, ("end", "fit"), "teardown"]


def test_scikit_learns_progress_bar_works(digits, capsys):
    callback = pytest.importorskip("sklearn.callback")
    MLPClassifier(**SMALL).set_callbacks(callback.ProgressBar()).fit(*digits)
    assert "MLPClassifier" in capsys.readouterr().out


@pytest.mark.parametrize("change", ["no module", "a call is missing", "a call has other arguments"])
def test_fits_work_without_the_callbacks_of_this_version_of_scikit_learn(digits, monkeypatch, change):
    if change == "no module":
        monkeypatch.setitem(sys.modules, "sklearn.callback", None)
    else:
        context = pytest.importorskip("sklearn.callback").CallbackContext
        if change == "a call is missing":
            monkeypatch.delattr(context, "subcontext")
        else:
            monkeypatch.setattr(context, "subcontext", lambda self, name: None)
    module = runpy.run_path(callbacks.__file__)
    assert "set_callbacks" not in dir(module["CallbackSupportMixin"])

    class Estimator(module["CallbackSupportMixin"]):
        fit = module["with_callbacks"](lambda self: module["FitTasks"](self, *digits, None))

    tasks = Estimator().fit()
    assert tasks(None) is False
    tasks.end()


# --- Saving ----------------------------------------------------------------------------------------------------------
def test_pickles_predict_the_same_and_warn_of_another_version(digits, tmp_path):
    model = MLPClassifier(**SMALL).fit(*digits)
    joblib.dump(model, tmp_path / "model.joblib")
    for again in (pickle.loads(pickle.dumps(model)), joblib.load(tmp_path / "model.joblib")):
        np.testing.assert_array_equal(again.predict_proba(digits[0]), model.predict_proba(digits[0]))
        again.partial_fit(*digits)
    state = model.__getstate__() | {"_fastnn_version": "0.0.1"}
    with pytest.warns(InconsistentVersionWarning, match=r"pickled by fastnn 0\.0\.1"):
        MLPClassifier().__setstate__(state)
    assert not hasattr(clone(model), "coefs_")


@pytest.mark.parametrize("names", [np.arange(10), np.array(list("abcdefghij")), np.array([3, 8])], ids=str)
def test_a_saved_classifier_predicts_the_same(digits, tmp_path, names):
    images, labels = pd.DataFrame(digits[0], columns=[f"p{k}" for k in range(64)]), names[digits[1] % len(names)]
    model = MLPClassifier(**SMALL, input_scale=1 / 16, threshold=0.4).fit(images, labels)
    model.save(tmp_path / "model.safetensors")
    saved = load(tmp_path / "model.safetensors")
    again = MLPClassifier.from_model(saved)
    np.testing.assert_array_equal(again.predict(images), model.predict(images))
    np.testing.assert_array_equal(again.predict_proba(images), model.predict_proba(images))
    with pytest.raises(ValueError, match="feature names"):
        again.predict(images.rename(columns={"p0": "q0"}))
    with pytest.raises(ValueError, match="expected a regressor: use MLPClassifier"):
        MLPRegressor.from_model(saved)


def test_saved_multilabel_classifiers_and_regressors_predict_the_same(digits, targets, tmp_path):
    images, labels = digits
    for estimator, y in ((MLPClassifier, targets), (MLPRegressor, labels), (MLPRegressor, targets * 1.5)):
        model = estimator(**SMALL, dtype="float64").fit(images, y)
        model.save(tmp_path / "model.safetensors")
        again = estimator.from_model(load(tmp_path / "model.safetensors"))
        np.testing.assert_array_equal(again.predict(images), model.predict(images))


# The labels of np.loadtxt, of booleans, and of pandas' nullable types. The network is the same for all of them.
@pytest.mark.parametrize(
    ("convert", "stored"),
    [
        (lambda y: y.astype(float), float),
        (lambda y: y.astype(np.float32), float),
        (lambda y: y == 1, bool),
        (lambda y: pd.Series(y).astype("Int64"), float),
        (lambda y: pd.Series(y == 1).astype("boolean"), float),
        (lambda y: y.astype(">i2"), int),
        (lambda y: [f"c{label}" for label in y], str),
        (lambda y: pd.Series([f"c{label}" for label in y], dtype="category"), str),
    ],
    ids=["float", "float32", "bool", "Int64", "boolean", "big-endian", "string", "category"],
)
@pytest.mark.parametrize(("n_classes", "threshold"), [(2, None), (3, None), (3, 0.5)])
def test_labels_of_every_kind_can_be_saved_and_exported(digits, tmp_path, convert, stored, n_classes, threshold):
    import onnxruntime

    images, numbers = digits[0], digits[1] % n_classes
    y = convert(numbers)
    model = MLPClassifier(**SMALL, threshold=threshold).fit(images, y)
    model.save(tmp_path / "model.safetensors")
    saved = load(tmp_path / "model.safetensors")
    # With a threshold, predictions of booleans are numbers: 0, 1 and -1.
    assert {type(label) for label in saved.classes} == {int if threshold and stored is bool else stored}
    again = MLPClassifier.from_model(saved)
    assert again.predict(images).dtype.kind == saved.labels.dtype.kind.replace("O", "U")
    assert (again.predict(images) == model.predict(images)).all()
    again.partial_fit(images, np.asarray(y))  # the labels of the first fit are still known
    model.export_onnx(tmp_path / "model.onnx", images[:50])
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    label, _ = session.run(None, {"X": images.astype(np.float32)})
    assert label.dtype == saved.labels.dtype
    assert (label == model.predict(images)).all()


def test_labels_that_are_not_finite_are_refused_when_they_are_saved(digits, tmp_path):
    model = MLPClassifier(**SMALL).fit(digits[0], digits[1] % 2)
    model.classes_ = np.array([0.5, np.inf])
    with pytest.raises(DataError, match=r"^a label is inf, expected finite numbers, booleans or strings"):
        model.save(tmp_path / "model.safetensors")
    assert not list(tmp_path.iterdir())


def test_the_image_shape_is_saved_checked_and_loaded(digits, tmp_path):
    path = tmp_path / "model.safetensors"
    MLPClassifier(**SMALL).fit(*digits).save(path, image_shape=(8, 8))
    assert load(path).image_shape == (8, 8)
    again = MLPClassifier.from_model(load(path))
    again.save(path)
    assert again.image_shape == load(path).image_shape == (8, 8)
    MLPClassifier(**SMALL, image_shape=[8, 8]).fit(*digits).save(path)
    assert load(path).image_shape == (8, 8)
    with pytest.raises(ValueError, match=r"X has 64 features, expected 8 \* 9 = 72 for image_shape"):
        MLPClassifier(**SMALL, image_shape=(8, 9)).fit(*digits)
    with pytest.raises(DataError, match="expected a height and a width with product 64"):
        again.save(path, image_shape=(4, 4))


# --- Validation data -------------------------------------------------------------------------------------------------
@pytest.fixture
def routing():
    with config_context(enable_metadata_routing=True):
        yield


@pytest.mark.usefixtures("routing")
@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_pipeline_transforms_x_val(digits, early_stopping):
    images, labels = digits[0] * 50.0 + 7, digits[1]
    weight = np.arange(1, 101.0)
    settings = SMALL | {"early_stopping": early_stopping, "max_iter": 12, "n_iter_no_change": 2}
    request = {"X_val": True, "y_val": True, "sample_weight_val": True}
    pipeline = Pipeline(
        [("scale", StandardScaler()), ("network", MLPClassifier(**settings).set_fit_request(**request))],
        transform_input=["X_val"],
    )
    pipeline.fit(images[:500], labels[:500], X_val=images[500:], y_val=labels[500:], sample_weight_val=weight)
    scaler = StandardScaler().fit(images[:500])
    rows, held = scaler.transform(images[:500]), scaler.transform(images[500:])
    by_hand = MLPClassifier(**settings).fit(rows, labels[:500], validation_data=(held, labels[500:], weight))
    network = pipeline["network"]
    assert network.validation_scores_ == by_hand.validation_scores_
    np.testing.assert_array_equal(network.history_["validation_loss"], by_hand.history_["validation_loss"])
    assert _equal(network, by_hand)


def test_validation_data_are_given_in_one_way_and_completely(digits):
    images, labels = digits
    model = MLPClassifier(**SMALL)
    with pytest.raises(ValueError, match="validation_data and X_val, y_val are given, expected one of them"):
        model.fit(images, labels, validation_data=(images, labels), X_val=images, y_val=labels)
    with pytest.raises(ValueError, match="y_val is None, expected X_val and y_val together"):
        model.fit(images, labels, X_val=images)
    with pytest.raises(ValueError, match="X_val is None"):
        MLPRegressor(**SMALL).fit(images, labels, sample_weight_val=labels)


def test_validation_data_that_no_pipeline_has_scaled_are_noticed(digits):
    images, labels = digits[0] * 50.0 + 700, digits[1]
    pipeline = make_pipeline(StandardScaler(), MLPClassifier(**SMALL))
    with pytest.warns(UserWarning, match="columns of the validation data lie more than 3 standard deviations from X"):
        pipeline.fit(images[:500], labels[:500], mlpclassifier__validation_data=(images[500:], labels[500:]))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        MLPClassifier(**SMALL).fit(images[:500], labels[:500], validation_data=(images[500:], labels[500:]))


# --- Checks of the inputs of a prediction ----------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_plain_rows_are_predicted_and_refused_as_any_other_input(digits, dtype):
    images, labels = digits
    model = MLPClassifier(**SMALL, dtype=dtype).fit(images, labels)
    for rows in (images.astype("u1"), images.astype("i8"), images > 7, images.astype("f4") / 3, images / 3):
        expected = model.predict_proba(rows[:7].tolist())  # scikit-learn checks lists
        for k in range(7):
            np.testing.assert_array_equal(model.predict_proba(rows[k : k + 1])[0], expected[k])
        for form in (np.asfortranarray(rows[:7]), np.repeat(rows[:7], 2, axis=1)[:, ::2]):
            np.testing.assert_array_equal(model.predict_proba(form), expected)
    bad = {
        "NaN": images[:1] * np.nan,
        "infinity": images[:1] + np.inf,
        "features": images[:1, :5],
        "Reshape": images[0],
    }
    bad["minimum of 1 is required"] = images[:0]
    for found, rows in bad.items():
        with np.errstate(all="ignore"), pytest.raises(ValueError, match=found):
            model.predict(rows)
    if dtype == "float32":
        with pytest.raises(ValueError, match="infinity"):
            model.predict(images[:1] + 1e300)
    with pytest.raises(NotFittedError):
        MLPClassifier().predict(images[:1])
    with config_context(assume_finite=True):
        assert np.isnan(model.predict_proba(images[:1] * np.nan)).any()
    named = MLPClassifier(**SMALL, dtype=dtype).fit(pd.DataFrame(images).add_prefix("p"), labels)
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        named.predict(images[:1])


# --- Warnings and targets --------------------------------------------------------------------------------------------
def test_the_warning_of_convergence_names_the_line_of_the_fit(digits):
    fits = (
        MLPClassifier(**SMALL),
        make_pipeline(StandardScaler(), MLPRegressor(**SMALL)),
        GridSearchCV(MLPClassifier(**SMALL), {"alpha": [0.1]}, cv=2),
    )
    for estimator in fits:
        with pytest.warns(ConvergenceWarning, match="it reached max_iter=5; raise max_iter") as caught:
            estimator.fit(*digits)
        assert {warning.filename for warning in caught} == {__file__}


@pytest.mark.parametrize("dtype", [str, object, "S1", "str"])
def test_a_regressor_refuses_numbers_that_are_strings(digits, dtype):
    y = digits[1].astype(str)
    y = pd.Series(y, dtype="str") if dtype == "str" else y.astype(dtype)
    for estimator in (MLPRegressor(**SMALL), MLPRegressor(**SMALL, backend="numpy")):
        with pytest.raises(ValueError, match=r"y holds the string .*0.*, expected numbers: use MLPClassifier"):
            estimator.fit(digits[0], y)


# --- Threads and processes -------------------------------------------------------------------------------------------
def test_eight_threads_predict_the_same_as_one_with_a_shared_model(digits):
    images, labels = digits
    model = MLPClassifier(**SMALL).fit(images, labels)
    expected = model.predict_proba(images)

    def predict(t):
        return [model.predict_proba(images[t::8] if k % 2 else images) for k in range(20)]

    with ThreadPoolExecutor(8) as pool:
        for t, predictions in enumerate(pool.map(predict, range(8))):
            for k, proba in enumerate(predictions):
                np.testing.assert_array_equal(proba, expected[t::8] if k % 2 else expected)


def test_several_models_can_be_fitted_in_threads_at_once(digits):
    found = joblib.Parallel(4, prefer="threads")(
        joblib.delayed(MLPClassifier(**SMALL | {"random_state": seed}).fit)(*digits) for seed in range(8)
    )
    for seed, model in enumerate(found):
        assert _equal(model, MLPClassifier(**SMALL | {"random_state": seed}).fit(*digits))
    assert not any(_equal(one, other) for one, other in pairwise(found))


@pytest.mark.filterwarnings("ignore")
def test_fits_in_a_process_pool_give_the_same_weights(digits):
    model = MLPClassifier(**SMALL, backend="numba")  # "auto" may choose another backend in another process
    found = joblib.Parallel(2, backend="loky")(joblib.delayed(clone(model).fit)(*digits) for _ in range(2))
    model.fit(*digits)
    assert all(_equal(other, model) for other in found)


def _fit_into(queue, images, labels):
    queue.put(MLPClassifier(**SMALL).fit(images, labels).coefs_[0])


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fit_in_a_forked_child_gives_the_same_weights(digits):
    here = MLPClassifier(**SMALL).fit(*digits)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_fit_into, args=(queue, *digits))
    child.start()
    found = queue.get(timeout=120)
    child.join(timeout=60)
    assert child.exitcode == 0
    np.testing.assert_array_equal(found, here.coefs_[0])
