"""Tests of standardisation inside the estimators' networks, and of pipelines whose scalers become a part of them."""

import pickle

import numpy as np
import onnxruntime
import pandas as pd
import pytest
from scipy import sparse
from sklearn.datasets import load_wine
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    PolynomialFeatures,
    RobustScaler,
    StandardScaler,
)

from fastnn import DataError, MLPClassifier, MLPRegressor, SettingsError, export_onnx, load, load_digits, save
from fastnn.models import as_model

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
SMALL = {"hidden_layer_sizes": (16,), "max_iter": 8, "random_state": 0}


@pytest.fixture(scope="module")
def wine():
    X, y = load_wine(return_X_y=True, as_frame=True)
    return X, y


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("settings", [{}, {"early_stopping": True}, {"solver": "lbfgs"}, {"backend": "numpy"}], ids=str)
@pytest.mark.parametrize("estimator", [MLPClassifier, MLPRegressor])
def test_standardize_equals_a_scaler_before_the_network(wine, estimator, settings, dtype):
    settings = SMALL | settings | {"dtype": dtype}
    inside = estimator(**settings, standardize=True).fit(*wine)
    before = make_pipeline(StandardScaler(), estimator(**settings)).fit(*wine)
    outputs = [getattr(each, "predict_proba", each.predict)(wine[0]) for each in (inside, before)]
    np.testing.assert_allclose(*outputs, rtol=1e-4 if dtype == "float32" else 1e-9, atol=1e-6)
    np.testing.assert_allclose(inside.transform(wine[0]), before.transform(wine[0]), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(inside.loss_curve_, before[-1].loss_curve_, rtol=1e-4)


def test_float64_inputs_with_a_large_mean_keep_their_digits(wine):
    X = wine[0].to_numpy() + 1e8  # in float32, numbers of this size are 8 apart
    shifted = MLPClassifier(**SMALL, standardize=True).fit(X, wine[1])
    plain = MLPClassifier(**SMALL, standardize=True).fit(wine[0].to_numpy(), wine[1])
    np.testing.assert_allclose(shifted.predict_proba(X), plain.predict_proba(wine[0].to_numpy()), atol=1e-4)
    np.testing.assert_array_equal(shifted.predict_proba(X[:1]), shifted.predict_proba(np.asfortranarray(X))[:1])
    with pytest.raises(ValueError, match="too large for float32 after its standardization"):
        shifted.predict(X[:1] * 1e290)


def test_files_and_pickles_contain_the_standardization(wine, tmp_path):
    X, y = wine
    model = MLPClassifier(**SMALL, standardize=True).fit(X, y)
    model.save(tmp_path / "model.safetensors")
    loaded = load(tmp_path / "model.safetensors")
    again = MLPClassifier.from_model(loaded)
    assert again.standardize is True
    for other in (again, pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(other.predict_proba(X), model.predict_proba(X))
        other.partial_fit(X, y)
        assert other.network_.standardization == model.network_.standardization
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    model.export_onnx(tmp_path / "model.onnx", X)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    _, proba = session.run(None, {"X": X.to_numpy(np.float32)})
    np.testing.assert_allclose(proba, model.predict_proba(X), atol=1e-4)


def test_later_calls_keep_the_first_standardization(wine):
    X, y = wine[0].to_numpy(), wine[1].to_numpy()
    model = MLPClassifier(**SMALL, standardize=True).partial_fit(X[::2], y[::2], classes=[0, 1, 2])
    expected = StandardScaler().fit(X[::2])
    for _ in range(2):
        np.testing.assert_allclose(model.network_.standardization.mean, expected.mean_)
        np.testing.assert_allclose(model.network_.standardization.scale, 1 / expected.scale_)
        model.partial_fit(X[1::2] * 5, y[1::2])
    model.set_params(warm_start=True).fit(X * 7, y)
    np.testing.assert_allclose(model.network_.standardization.mean, expected.mean_)
    with pytest.raises(ValueError, match="standardize is False, expected True as in the previous fit"):
        model.set_params(standardize=False).fit(X, y)
    model.set_params(warm_start=False).fit(X, y)
    assert model.network_.standardization is None
    with pytest.raises(ValueError, match="X has 1 row, expected 2 or more in the first partial_fit"):
        MLPClassifier(standardize=True).partial_fit(X[:1], y[:1], classes=[0, 1, 2])
    with pytest.raises(ValueError, match=r"input_scale is 0\.5, expected 1 with standardize=True"):
        MLPClassifier(standardize=True, input_scale=0.5).fit(X, y)
    with pytest.raises(SettingsError, match="standardize is 'yes', expected True or False"):
        MLPClassifier(standardize="yes").fit(X, y)


def test_sparse_columns_are_only_scaled(wine):
    X = wine[0].to_numpy() * (np.random.default_rng(0).random(wine[0].shape) < 0.3)
    inside = MLPClassifier(**SMALL, standardize=True).fit(sparse.csr_array(X), wine[1])
    before = make_pipeline(StandardScaler(with_mean=False), MLPClassifier(**SMALL)).fit(X, wine[1])
    assert not inside.network_.standardization.mean.any()
    for rows in (X, sparse.csr_array(X)):
        np.testing.assert_allclose(inside.predict_proba(rows), before.predict_proba(X), atol=1e-5)


# --- Pipelines -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize(
    "scalers",
    [
        [StandardScaler()],
        [StandardScaler(with_mean=False)],
        [StandardScaler(with_std=False)],
        [MinMaxScaler((-1, 1))],
        [MaxAbsScaler()],
        [RobustScaler()],
        [MaxAbsScaler(), "passthrough", StandardScaler(), MinMaxScaler()],
        ["passthrough"],
    ],
    ids=lambda scalers: "-".join(str(each) for each in scalers),
)
def test_the_scalers_of_a_pipeline_become_a_part_of_its_file(wine, tmp_path, scalers, standardize):
    X, y = wine
    pipeline = make_pipeline(*scalers, MLPClassifier(**SMALL, standardize=standardize)).fit(X, y)
    save(tmp_path / "model.safetensors", pipeline)
    model = load(tmp_path / "model.safetensors")
    np.testing.assert_allclose(model.predict_proba(X), pipeline.predict_proba(X), atol=2e-6)
    assert model.feature_names == tuple(X.columns)
    export_onnx(tmp_path / "model.onnx", pipeline, rows=X, input_dtype="float64")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    label, proba = session.run(None, {"X": X.to_numpy()})
    np.testing.assert_allclose(proba, pipeline.predict_proba(X), atol=1e-5)
    assert np.mean(label == pipeline.predict(X)) > 0.99  # a near tie may be decided by rounding


@pytest.mark.parametrize(
    ("step", "found"),
    [
        (PolynomialFeatures(2), "the step polynomialfeatures is PolynomialFeatures, expected one of StandardScaler"),
        (FunctionTransformer(), "the step functiontransformer is FunctionTransformer"),
        (MinMaxScaler(clip=True), "the step minmaxscaler is a MinMaxScaler with clip=True, expected clip=False"),
    ],
)
def test_other_steps_of_a_pipeline_are_named(wine, tmp_path, step, found):
    pipeline = make_pipeline(step, MLPClassifier(**SMALL)).fit(*wine)
    for write in (save, export_onnx):
        with pytest.raises(DataError, match=found) as caught:
            write(tmp_path / "file", pipeline)
        assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
    with pytest.raises(DataError, match="the last step standardscaler is StandardScaler, expected an MLPClassifier"):
        as_model(make_pipeline(StandardScaler()).fit(wine[0]))
    with pytest.raises(DataError, match="the step standardscaler is not fitted"):
        as_model(make_pipeline(StandardScaler(), MLPClassifier(**SMALL).fit(*wine)))


@pytest.mark.parametrize("ink", ["light", "dark"])
@pytest.mark.parametrize("top", [1, 16, 255])
@pytest.mark.parametrize("scaled", [None, "before", "inside"])
def test_the_range_and_the_ink_of_images_are_saved(ink, top, scaled):
    data = load_digits()
    images = data.images / 16 * top
    images = images if ink == "light" else top - images
    model = MLPClassifier(**SMALL, input_scale=1 if scaled else 1 / top, standardize=scaled == "inside")
    model = make_pipeline(StandardScaler(), model) if scaled == "before" else model
    model.set_params(**{("mlpclassifier__" if scaled == "before" else "") + "image_shape": (8, 8)})
    pixels = as_model(model.fit(images, data.labels)).pixels
    assert pixels == pytest.approx((0, top) if ink == "light" else (top, 0), abs=1e-3)


def test_frames_keep_their_names_through_scalers_that_return_frames(wine):
    scaler = StandardScaler().set_output(transform="pandas")
    pipeline = make_pipeline(scaler, MLPClassifier(**SMALL)).fit(*wine)
    model = as_model(pipeline)
    shuffled = wine[0][wine[0].columns[::-1]]
    assert isinstance(shuffled, pd.DataFrame)
    np.testing.assert_array_equal(model.predict(shuffled), pipeline.predict(wine[0]))
