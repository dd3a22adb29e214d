"""What scripts for scikit-learn's networks rely on: arrays to assign, errors, losses, labels, descriptions."""

import copy
import inspect
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn import neural_network as peer
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.metrics import mean_poisson_deviance
from sklearn.preprocessing import LabelBinarizer

import fastnn
from fastnn import DataError, DivergenceError, MLPClassifier, MLPRegressor, SettingsError
from fastnn.backends.choice import CHOOSER, fit_work

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
BACKENDS = pytest.mark.parametrize("backend", ["numba", "numpy"])
ESTIMATORS = pytest.mark.parametrize("estimator", [MLPClassifier, MLPRegressor])
RNG = np.random.default_rng(0)
X = RNG.random((60, 3))
NUMBERS = (X[:, 0] * 3).astype(int)
COUNTS = RNG.poisson(np.exp(2 * X[:, 0]))
SMALL = {"hidden_layer_sizes": (8,), "max_iter": 10, "random_state": 0}


# --- Arrays that can be assigned -------------------------------------------------------------------------------------
@BACKENDS
def test_an_assigned_array_takes_effect_and_the_one_before_stays(backend):
    model = MLPClassifier(**SMALL, backend=backend, dtype="float64").fit(X, NUMBERS)
    before, old = model.predict_proba(X), model.coefs_[0]
    values = old.copy()
    other = RNG.standard_normal((3, 8))
    model.coefs_[0] = other
    hidden = np.maximum(X @ other + model.intercepts_[0], 0)
    logits = hidden @ model.coefs_[1] + model.intercepts_[1]
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model.predict_proba(X), expected, rtol=1e-10)
    other[:] = 0  # the values were copied
    np.testing.assert_allclose(model.predict_proba(X), expected, rtol=1e-10)
    np.testing.assert_array_equal(old, values)
    model.coefs_[0] = old
    np.testing.assert_array_equal(model.predict_proba(X), before)
    model.intercepts_[-1] = [0, 0, 1000]
    assert (model.predict(X) == 2).all()
    model.coefs_[:] = [np.zeros((3, 8)), np.zeros((8, 3))]
    model.intercepts_[1][:] = [1000, 0, 0]
    assert (model.predict(X) == 0).all()


@BACKENDS
@ESTIMATORS
def test_training_goes_on_from_assigned_arrays(estimator, backend):
    one, other = (estimator(**SMALL, backend=backend).fit(X, NUMBERS) for _ in range(2))
    one.coefs_[0] = np.full((3, 8), 0.1)
    other.coefs_[0][:] = 0.1
    for model in (one, other):
        model.random_state = 1
        model.partial_fit(X, NUMBERS)
    for a, b in zip(one.coefs_ + one.intercepts_, other.coefs_ + other.intercepts_, strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.abs(one.coefs_[0] - 0.1).max() < 0.05  # a step or two of Adam


def test_wrong_arrays_are_refused_and_change_nothing():
    model = MLPClassifier(**SMALL, backend="numpy").fit(X, NUMBERS)
    before = model.predict_proba(X)
    for index, value, words in (
        (0, np.zeros((8, 3)), r"coefs_\[0\] has shape \(8, 3\), expected \(3, 8\)"),
        (-1, np.full((8, 3), np.nan), r"coefs_\[1\] is not finite"),
        (0, np.full((3, 8), 1e300), r"coefs_\[0\] is not finite as float32"),
        (0, "text", r"coefs_\[0\] is 'text', expected an array of numbers"),
        (slice(None), [np.zeros((3, 8))], "1 arrays, expected 2"),
    ):
        with pytest.raises(SettingsError, match=words):
            model.coefs_[index] = value
    for change in ("append", "remove", "extend", "__iadd__"):
        with pytest.raises(TypeError, match="fixed number of layers"):
            getattr(model.intercepts_, change)([np.zeros(3)])
    with pytest.raises(IndexError):
        model.coefs_[2] = np.zeros((3, 8))
    np.testing.assert_array_equal(model.predict_proba(X), before)


def test_copies_of_the_arrays_are_plain_lists():
    coefs = MLPClassifier(**SMALL, backend="numpy").fit(X, NUMBERS).coefs_
    for made in (copy.copy(coefs), copy.deepcopy(coefs), pickle.loads(pickle.dumps(coefs)), coefs + coefs, coefs[:]):
        assert type(made) is list
        np.testing.assert_array_equal(made[0], coefs[0])
    assert copy.deepcopy(coefs)[0] is not coefs[0]


@ESTIMATORS
def test_an_estimator_that_is_not_fitted_has_no_arrays(estimator):
    assert not hasattr(estimator(), "coefs_")
    with pytest.raises(NotFittedError):
        estimator().coefs_ = [np.zeros((3, 1))]


# --- Divergence ------------------------------------------------------------------------------------------------------
@BACKENDS
def test_with_early_stopping_a_fit_that_diverges_keeps_the_best_network(backend):
    rates = [0.01, 0.01, 0.01, 1e9, 1e9, 1e9, 1e9, 1e9]
    settings = {**SMALL, "solver": "sgd", "early_stopping": True, "max_iter": 8, "backend": backend}
    settings |= {"schedule": lambda epoch, epochs: rates[epoch - 1] if epoch <= len(rates) else 1.0}
    settings |= {"learning_rate_init": 1.0, "activation": "identity"}
    model = MLPRegressor(**settings)
    with pytest.warns(ConvergenceWarning, match=r"not finite in epoch \d, so the best network before is kept"):
        model.fit(X, NUMBERS)
    assert model.n_iter_ == len(model.loss_curve_) == len(model.validation_scores_) == len(model.history_) < 8
    assert np.isnan([model.validation_scores_[-1], model.loss_curve_[-1], model.loss_]).all()
    assert model.t_ == 54 * model.n_iter_
    best = 1 + int(np.nanargmax(model.validation_scores_))
    shorter = MLPRegressor(**settings).set_params(max_iter=best).fit(X, NUMBERS)
    np.testing.assert_array_equal(model.predict(X), shorter.predict(X))


def test_a_warm_start_that_diverges_at_once_keeps_the_network_before():
    model = MLPRegressor(**SMALL, solver="sgd", early_stopping=True, warm_start=True, backend="numpy").fit(X, NUMBERS)
    before = model.predict(X)
    with pytest.warns(ConvergenceWarning, match="the best network before is kept"):
        model.set_params(learning_rate_init=1e30).fit(X, NUMBERS)
    np.testing.assert_array_equal(model.predict(X), before)
    assert np.isnan(model.validation_scores_[-1])


@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_fit_that_diverges_before_any_good_epoch_raises_a_value_error(early_stopping):
    model = MLPRegressor(**SMALL, solver="sgd", learning_rate_init=1e30, early_stopping=early_stopping)
    with pytest.raises(ValueError, match=r"^training diverged in epoch \d.*Solver produced non-finite") as caught:
        model.fit(X, NUMBERS)
    assert isinstance(caught.value, DivergenceError)
    assert "\n" not in str(caught.value)
    assert not hasattr(model, "coefs_")


# --- The Poisson loss ------------------------------------------------------------------------------------------------
@pytest.mark.skipif("loss" not in inspect.signature(peer.MLPRegressor).parameters, reason="since scikit-learn 1.7")
@BACKENDS
@pytest.mark.parametrize("settings", [
    {}, {"solver": "sgd", "alpha": 1.0}, {"solver": "lbfgs", "max_iter": 5}, {"early_stopping": True, "max_iter": 40},
])  # fmt: skip
def test_every_loss_and_weight_of_the_poisson_loss_equals_scikit_learns(settings, backend):
    settings = {**SMALL, "loss": "poisson", **settings}
    a = MLPRegressor(dtype="float64", backend=backend, **settings).fit(X, COUNTS)
    b = peer.MLPRegressor(**settings).fit(X, COUNTS)
    for one, other in zip(a.coefs_ + a.intercepts_, b.coefs_ + b.intercepts_, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-10)
    assert a.loss_ == pytest.approx(b.loss_, rel=1e-10)
    assert (a.out_activation_, a.n_iter_) == (b.out_activation_, b.n_iter_) == ("exp", a.n_iter_)
    np.testing.assert_allclose(a.predict(X), b.predict(X), rtol=1e-8)
    expected = getattr(b, "validation_scores_", None)  # L-BFGS has none there
    np.testing.assert_allclose(a.validation_scores_ or [], expected or [], rtol=1e-8)


@BACKENDS
def test_a_regression_of_counts_is_saved_exported_and_continued(backend, tmp_path):
    import onnxruntime

    model = MLPRegressor(loss="poisson", solver="lbfgs", hidden_layer_sizes=(), tol=1e-6, backend=backend)
    model.fit(X, COUNTS)
    assert mean_poisson_deviance(COUNTS, model.predict(X)) < mean_poisson_deviance(COUNTS, np.full(60, COUNTS.mean()))
    model.save(tmp_path / "counts.safetensors")
    again = MLPRegressor.from_model(fastnn.load(tmp_path / "counts.safetensors"))
    assert again.loss == "poisson"
    np.testing.assert_allclose(again.predict(X), model.predict(X), rtol=1e-6)
    again.partial_fit(X, COUNTS)
    model.export_onnx(tmp_path / "counts.onnx", X)
    session = onnxruntime.InferenceSession(tmp_path / "counts.onnx", providers=["CPUExecutionProvider"])
    (values,) = session.run(None, {"X": X.astype(np.float32)})
    np.testing.assert_allclose(values[:, 0], model.predict(X), rtol=1e-5)


def test_auto_trains_the_poisson_loss_with_numpy_however_much_work_it_is():
    network = fastnn.Network.initialize((50, 100, 1), output="exp")
    inputs, config = np.zeros((100_000, 50), np.float32), fastnn.TrainingConfig(epochs=1000)
    choice = CHOOSER.peek("auto", fit_work(network, inputs, len(inputs), config))
    assert choice.backend == "numpy"
    assert fit_work(network, inputs, len(inputs), config).seconds > 100
    assert MLPRegressor(**SMALL, loss="poisson").fit(X, COUNTS).backend_ == "numpy"


def test_what_the_poisson_loss_cannot_train_on_is_refused():
    with pytest.raises(DataError, match=r"targets run from -1 to 1, expected 0 to inf"):
        MLPRegressor(**SMALL, loss="poisson").fit(X, np.where(NUMBERS == 0, -1, 1))
    model = MLPRegressor(**SMALL, backend="numpy", warm_start=True).fit(X, COUNTS)
    with pytest.raises(ValueError, match="1 exp outputs, expected 1 identity outputs as in the previous fit"):
        model.set_params(loss="poisson").fit(X, COUNTS)


# --- Labels and results ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("convert", [
    lambda y: pd.Series(y, dtype="category"), lambda y: pd.Categorical(y), lambda y: y.astype(object),
    lambda y: pd.Series(y, dtype="string"), lambda y: pd.Series(y), list,
])  # fmt: skip
def test_classes_have_scikit_learns_dtype(convert):
    y = convert(NUMBERS.astype(str))
    ours, theirs = (each(max_iter=1).fit(X, y) for each in (MLPClassifier, peer.MLPClassifier))
    assert ours.classes_.dtype == theirs.classes_.dtype
    assert ours.classes_.tolist() == theirs.classes_.tolist()
    assert ours.predict(X).dtype == theirs.predict(X).dtype


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(60,), (60, 2)])
def test_a_regressor_predicts_in_its_own_dtype(dtype, shape):
    y = np.resize(COUNTS, shape)
    model = MLPRegressor(**SMALL, dtype=dtype, backend="numpy").fit(X, y)
    assert model.predict(X).dtype == model.predict(X[:1]).dtype == dtype
    assert model.predict(X).shape == shape


@pytest.mark.parametrize("case", ["binary", "multiclass", "multilabel-indicator"])
def test_the_label_binarizer_is_that_of_scikit_learn(case):
    y = {
        "binary": NUMBERS > 0,
        "multiclass": NUMBERS.astype(str),
        "multilabel-indicator": np.eye(3, dtype=int)[NUMBERS],
    }
    model, expected = MLPClassifier(**SMALL).fit(X, y[case]), LabelBinarizer().fit(y[case])
    found = pickle.loads(pickle.dumps(model))._label_binarizer
    assert (found.y_type_, found.classes_.tolist()) == (expected.y_type_, expected.classes_.tolist()) != ()
    np.testing.assert_array_equal(found.transform(y[case]), expected.transform(y[case]))
    assert not hasattr(MLPClassifier(), "_label_binarizer")
    assert not hasattr(MLPClassifier(**SMALL, input_scale=0.5).fit(X, y[case]), "_label_binarizer")


@pytest.mark.parametrize("case", ["bool", "float", "string", "multilabel", "regression"])
def test_skl2onnx_converts_with_its_own_converters(case):
    skl2onnx = pytest.importorskip("skl2onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    from skl2onnx.common import shape_calculator as shapes
    from skl2onnx.operator_converters import multilayer_perceptron as converters

    kinds = {"zipmap": [True, False], "nocl": [True, False], "output_class_labels": [False, True]}
    skl2onnx.update_registered_converter(
        MLPClassifier, "FastnnMLPClassifier", shapes.calculate_linear_classifier_output_shapes,
        converters.convert_sklearn_mlp_classifier, options=kinds,
    )  # fmt: skip
    skl2onnx.update_registered_converter(
        MLPRegressor, "FastnnMLPRegressor", shapes.calculate_linear_regressor_output_shapes,
        converters.convert_sklearn_mlp_regressor,
    )  # fmt: skip
    y = {"bool": NUMBERS > 0, "float": NUMBERS + 0.0, "string": NUMBERS.astype(str), "multilabel": np.eye(3)[NUMBERS]}
    model = MLPRegressor(**SMALL).fit(X, COUNTS) if case == "regression" else MLPClassifier(**SMALL).fit(X, y[case])
    options = {} if case == "regression" else {id(model): {"zipmap": False}}
    proto = skl2onnx.to_onnx(model, X[:1].astype(np.float32), options=options, target_opset=17)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, {"X": X.astype(np.float32)})
    if case == "regression":
        np.testing.assert_allclose(found[0][:, 0], model.predict(X), rtol=1e-5, atol=1e-6)
    else:
        np.testing.assert_array_equal(found[0], model.predict(X))
        np.testing.assert_allclose(found[1], model.predict_proba(X), rtol=1e-5, atol=1e-6)


# --- Descriptions ----------------------------------------------------------------------------------------------------
def _members(estimator):
    """The public methods and properties of an estimator that fastnn defines, and None for the class itself."""
    for name in dir(estimator):
        member = inspect.getattr_static(estimator, name)
        function = inspect.unwrap(getattr(member, "fget", None) or getattr(estimator, name))
        if not name.startswith("_") and getattr(function, "__module__", "").startswith("fastnn"):
            yield name


def _entries(text, section):
    """The names of the entries of a numpydoc section, each with its description."""
    lines = inspect.cleandoc(text).splitlines()
    start = next((at for at, line in enumerate(lines) if line == section and lines[at + 1].startswith("---")), None)
    entries = {}
    for before, line, after in zip(lines, lines[1:], [*lines[2:], ""], strict=True) if start is not None else ():
        at = lines.index(line)
        if after.startswith("---") and line != section and at > start:
            break
        if at > start + 1 and line and not line.startswith(" "):
            assert before is not None
            entries[line.split(" : ")[0]] = after.strip() if after.startswith("    ") else ""
    return entries


@ESTIMATORS
def test_every_parameter_and_attribute_is_described(estimator):
    parameters = _entries(estimator.__doc__, "Parameters")
    assert list(parameters) == list(inspect.signature(estimator).parameters)
    assert all(parameters.values())
    fitted = estimator(**SMALL, early_stopping=True).fit(pd.DataFrame(X, columns=list("abc")), NUMBERS)
    names = {name for name in dir(fitted) if name.endswith("_") and not name.startswith("_")}
    attributes = _entries(estimator.__doc__, "Attributes")
    assert set(attributes) == names
    assert all(attributes.values())
    for name in _members(estimator):
        member = getattr(estimator, name)
        if callable(member):
            expected = [each for each in inspect.signature(member).parameters if each != "self"]
            described = _entries(member.__doc__, "Parameters")
            assert list(described) == expected, name
            assert all(described.values()), name


@ESTIMATORS
def test_descriptions_pass_scikit_learns_check_of_docstrings(estimator):
    validation = pytest.importorskip("numpydoc.validate")
    for name in (None, *_members(estimator)):
        path = f"fastnn.{estimator.__name__}" + (f".{name}" if name else "")
        found = validation.validate(path)["errors"]
        # What scikit-learn leaves out for its own classes, for their methods and for their properties.
        left_out = {"RT02", "GL01", "GL02"} | (set() if name is None else {"EX01", "SA01", "ES01"})
        left_out |= {"PR02", "GL08"} if name and not callable(getattr(estimator, name)) else set()
        assert not [error for error in found if error[0] not in left_out], path


@pytest.mark.skipif(not hasattr(BaseEstimator, "_doc_link_module"), reason="since scikit-learn 1.4")
@ESTIMATORS
def test_the_html_view_links_to_the_documentation_and_describes_the_parameters(estimator):
    model = estimator()
    html = model._repr_html_() if callable(model._repr_html_) else model._repr_html_
    page = model._get_doc_link()
    assert page.endswith("/api/estimators.html")
    assert page in html
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer_html = peer.MLPClassifier()._repr_html_
    if "param-doc-description" in (peer_html() if callable(peer_html) else peer_html):  # since scikit-learn 1.8
        for name in model.get_params():
            assert f"{name}: " in html, name
