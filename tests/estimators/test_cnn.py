"""CNNClassifier: its layers, the shapes of its images, and what it has in common with MLPClassifier."""

import pickle

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

import fastnn
from fastnn import AvgPool2D, BatchNorm, CNNClassifier, Conv2D, Dense, MaxPool2D, MLPClassifier, Network, load_digits
from fastnn.estimators import continuation
from fastnn.estimators.image_layers import default_layers
from tests.parity import assert_same_bits

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
LAYERS = (Conv2D(4, 3), MaxPool2D(), 12)
SMALL = {"layers": LAYERS, "max_iter": 3, "random_state": 0, "input_scale": 1 / 16, "backend": "numpy"}


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    return data.images[:300], data.labels[:300]


@pytest.fixture(scope="module")
def colours():
    """Images with 2 channels of 5 x 6 pixels, of three classes."""
    rng = np.random.default_rng(0)
    return rng.uniform(-1, 1, (40, 2, 5, 6)), rng.integers(3, size=40)


def assert_equal(one, other):
    """Both estimators have the same network, to the bit."""
    assert one.network_.layers == other.network_.layers
    assert one.network_.shapes == other.network_.shapes
    for name in ("weights", "biases", "statistics"):
        for first, second in zip(getattr(one.network_, name), getattr(other.network_, name), strict=True):
            assert_same_bits(first, second)


# --- Layers ----------------------------------------------------------------------------------------------------------
LENET = [Conv2D(6, 5), MaxPool2D(), Conv2D(16, 5), MaxPool2D(), Dense(120), Dense(84)]


@pytest.mark.parametrize(("shape", "expected"), [
    ((1, 28, 28), LENET),
    ((3, 16, 40), LENET),
    ((1, 15, 40), [Conv2D(16, 3), MaxPool2D(), Conv2D(32, 3), MaxPool2D(), Dense(64)]),
    ((1, 8, 8), [Conv2D(16, 3), MaxPool2D(), Conv2D(32, 3), Dense(64)]),
    ((2, 2, 9), [Conv2D(16, (1, 3)), MaxPool2D((1, 2)), Conv2D(32, (1, 3)), Dense(64)]),
    ((1, 1, 784), [Conv2D(16, (1, 3)), MaxPool2D((1, 2)), Conv2D(32, (1, 3)), MaxPool2D((1, 2)), Dense(64)]),
    ((1, 1, 1), [Conv2D(16, 1), Conv2D(32, 1), Dense(64)]),
])  # fmt: skip
def test_the_default_layers_suit_the_size_of_the_images(shape, expected):
    assert default_layers(shape) == expected


def test_there_are_default_layers_for_every_size():
    for height in range(1, 20):
        for width in range(1, 20):
            network = Network.initialize((1, height, width), [*default_layers((1, height, width)), Dense(2)])
            assert min(network.sizes) > 0


def test_numbers_are_dense_layers_and_activation_is_for_layers_that_name_none(digits):
    layers = [Conv2D(3), BatchNorm(), MaxPool2D(activation="tanh"), Conv2D(2, 1, activation="elu"), np.int64(5), 4]
    model = CNNClassifier(layers, activation="silu", max_iter=1, random_state=0).fit(*digits)
    expected = ["silu", "identity", "tanh", "elu", "silu", "silu", "identity"]
    assert [layer.activation for layer in model.network_.layers] == expected
    assert [type(layer) for layer in model.network_.layers[-3:]] == [Dense] * 3
    model.set_params(activation=["relu", "gelu", "tanh"]).fit(*digits)
    expected = ["relu", "identity", "tanh", "elu", "gelu", "tanh", "identity"]
    assert [layer.activation for layer in model.network_.layers] == expected
    with pytest.raises(ValueError, match="2 activations, expected one name, or one for each of 3 hidden layers"):
        model.set_params(activation=["relu", "gelu"]).fit(*digits)


def test_layers_may_be_a_text(digits):
    model = CNNClassifier(**SMALL | {"layers": "conv:4x3, norm, pool:2, 12:tanh"}).fit(*digits)
    layers = [Conv2D(4, 3), BatchNorm(), MaxPool2D(), Dense(12, "tanh")]
    assert_equal(model, CNNClassifier(**SMALL | {"layers": layers}).fit(*digits))
    assert clone(model).get_params()["layers"] == "conv:4x3, norm, pool:2, 12:tanh"
    with pytest.raises(ValueError, match=r"layers is '12', expected layers with the weights of the previous fit"):
        model.set_params(warm_start=True, layers="12").fit(*digits)


@pytest.mark.parametrize(("layers", "message"), [
    ([Conv2D(4), "120"], "layers is .*, expected layers and whole numbers of units, 1 or more, in a sequence, or a te"),
    ("conv:4x3,pol:2", r"layers have 'pol:2' at character 10: 'pol' is no layer \(did you mean pool\?\), expected"),
    ("", "layers are '': expected a number of units, conv, pool"),
    ("conv:4x9", r"layer 1: inputs of shape \(1, 8, 8\) come into conv2d 9x9, expected at least the size"),
    ([Conv2D(4), 0], "expected layers and whole numbers of units"),
    ({Conv2D(4)}, "expected layers and whole numbers of units"),
    ([Conv2D(4, 9)], r"layer 1: inputs of shape \(1, 8, 8\) come into conv2d 9x9, expected at least the size"),
    ([12, Conv2D(4)], r"layer 2: inputs of shape \(12,\) come into conv2d 3x3, expected \(channels, height, width\)"),
])  # fmt: skip
def test_layers_that_make_no_network_are_refused(digits, layers, message):
    with pytest.raises(fastnn.SettingsError, match=message):
        CNNClassifier(layers).fit(*digits)


def test_with_dense_layers_only_it_is_mlpclassifier(digits):
    settings = {"activation": "tanh", "max_iter": 3, "random_state": 0, "dropout": 0.2, "initializer": None}
    dense = MLPClassifier((9, 7), **settings).fit(*digits)
    same = CNNClassifier((9, 7), **settings).fit(*digits)
    for one, other in zip((*dense.coefs_, *dense.intercepts_), (*same.coefs_, *same.intercepts_), strict=True):
        assert_same_bits(one, other)
    assert dense.loss_curve_ == same.loss_curve_
    auto = {**settings, "initializer": "auto"}
    for sizes in ((), (9,)):  # without hidden layers, `activation` decides on the initial weights, too
        one, other = (kind(sizes, **auto).fit(*digits).coefs_[0] for kind in (MLPClassifier, CNNClassifier))
        assert_same_bits(one, other)


@pytest.mark.parametrize(("name", "variance"), [(None, 2 / (9 + 3600)), ("auto", 2 / 9), ("lecun", 1 / 9)])
def test_the_fans_of_a_convolution_are_those_of_a_patch(digits, name, variance):
    """With 400 kernels of 3 x 3, an output has 9 inputs, and an input goes to 400 * 9 outputs."""
    layers = [Conv2D(400, 3), AvgPool2D(6), BatchNorm()]
    settings = {"max_iter": 1, "learning_rate_init": 1e-12, "random_state": 0, "initializer": name}
    model = CNNClassifier(layers, **settings).fit(digits[0][:20], digits[1][:20])
    weight, scale = model.coefs_[:2]
    assert weight.var() == pytest.approx(variance, rel=0.06)
    assert (np.abs(model.intercepts_[0]).max() > 1e-6) == (name is None)
    np.testing.assert_allclose(scale, 1, atol=1e-6)


def test_a_fit_is_that_of_train(digits):
    """One full-batch step of plain gradient descent from the same weights."""
    images, labels = digits
    settings = {"solver": "sgd", "momentum": 0.0, "alpha": 0.0, "batch_size": len(images), "dtype": "float64"}
    model = CNNClassifier(**SMALL | settings | {"max_iter": 1, "learning_rate_init": 0.5}).fit(images, labels)
    seed = int(np.random.RandomState(0).randint(2**31 - 1))
    layers = [*LAYERS[:2], Dense(12), Dense(10)]
    start = Network.initialize((1, 8, 8), layers, seed=seed, dtype=np.float64, input_scale=1 / 16)
    expected = fastnn.train(
        start, (images, labels), epochs=1, batch_size=None, learning_rate=0.5, shuffle=False, backend="numpy"
    ).network
    for one, other in zip(model.coefs_, expected.weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-13)


# --- The shape of images ---------------------------------------------------------------------------------------------
def test_rows_and_arrays_of_images_give_the_same_bits(digits):
    images, labels = digits
    square = images.reshape(-1, 8, 8)
    expected = CNNClassifier(**SMALL).fit(images, labels)
    assert expected.image_shape_ == (1, 8, 8)
    for X in (square, square[:, None], list(square), np.asfortranarray(square), square.astype(np.float64)):
        model = CNNClassifier(**SMALL).fit(X, labels)
        assert_equal(model, expected)
        assert model.n_features_in_ == 64
        assert_same_bits(model.predict_proba(X), expected.predict_proba(images))
        assert_same_bits(model.transform(X, layer=0), expected.transform(images, layer=0))
        assert model.score(X, labels) == expected.score(images, labels)
    validated = clone(expected).fit(square[:200], labels[:200], X_val=square[200:], y_val=labels[200:])
    rows = clone(expected).fit(images[:200], labels[:200], validation_data=(images[200:], labels[200:]))
    assert validated.validation_scores_ == rows.validation_scores_


def test_channels_come_one_after_the_other(colours):
    images, labels = colours
    settings = {"layers": LAYERS, "max_iter": 2, "random_state": 0}
    expected = CNNClassifier(**settings).fit(images, labels)
    assert expected.network_.shapes[0] == expected.image_shape_ == (2, 5, 6)
    rows = images.reshape(len(images), -1)
    for shape in ((2, 5, 6), (2, 5, -1), (-1, 5, 6), np.array([2, 5, 6])):
        assert_equal(CNNClassifier(image_shape=shape, **settings).fit(rows, labels), expected)
    assert_same_bits(expected.predict_proba(images), expected.predict_proba(rows))
    expected.partial_fit(rows, labels)  # goes on, although 60 is no square
    narrow = images.reshape(-1, 10, 6, 1)
    assert CNNClassifier([2], (10, 6, 1), max_iter=1).fit(narrow, labels).image_shape_ == (10, 6, 1)


@pytest.mark.parametrize(("shape", "row", "message"), [
    (None, (20,), r"X has 20 features, expected a square number of them, or image_shape: \(height, width\)"),
    ((4, 4), (20,), r"X has 20 features, expected image_shape \(4, 4\), 16 features"),
    ((3, -1), (20,), r"X has 20 features, expected image_shape \(3, -1\)"),
    ((30, -1), (20,), r"X has 20 features, expected image_shape \(30, -1\)"),
    ((4, 5), (5, 4), r"X has images of shape \(5, 4\), expected image_shape \(4, 5\)"),
    ((2, 4, 5), (4, 2, 5), r"X has images of shape \(4, 2, 5\), expected image_shape \(2, 4, 5\)"),
    (None, (8, 8, 3), r"X has images of shape \(8, 8, 3\), whose channels seem to come last, expected \(channels, "),
    ((4,), (16,), r"image_shape is \(4,\), expected two or three sizes, \(height, width\) or \(channels, "),
    ((-1, -1), (16,), "expected two or three sizes"),
    ((4, 0), (16,), "expected two or three sizes"),
    ((4, 4.0), (16,), "expected two or three sizes"),
    ("44", (16,), "expected two or three sizes"),
])  # fmt: skip
def test_an_image_shape_that_does_not_fit_is_refused(shape, row, message):
    X, y = np.zeros((6, *row)), np.arange(6) % 2
    with pytest.raises(ValueError, match=message):
        CNNClassifier((Dense(2),), shape).fit(X, y)


def test_a_fitted_model_refuses_images_of_another_shape(colours):
    images, labels = colours
    model = CNNClassifier(LAYERS, max_iter=1).fit(images, labels)
    other = images.reshape(-1, 2, 6, 5)
    message = r"X has images of shape \(2, 6, 5\), expected \(2, 5, 6\) as in the fit"
    calls = (
        lambda: model.predict(other), lambda: model.transform(other), lambda: model.partial_fit(other, labels),
        lambda: clone(model).fit(images, labels, validation_data=(other, labels)),
    )  # fmt: skip
    for call in calls:
        with pytest.raises(ValueError, match=message):
            call()
    assert model.fit(other, labels).image_shape_ == (2, 6, 5)  # a new fit begins anew
    with pytest.raises(
        ValueError, match=r"X has images of shape \(2, 5, 6\) and \(2, 6, 5\), expected one shape for all"
    ):
        model.fit([*images, *other], [*labels, *labels])


def test_sparse_matrices_and_masks_are_refused(digits):
    images, labels = digits
    model = CNNClassifier(**SMALL).fit(images, labels)
    sparse = csr_array(images.astype(np.float32))
    for call in (lambda: model.predict(sparse), lambda: clone(model).fit(sparse, labels)):
        with pytest.raises(TypeError, match="parse data was passed"):
            call()
    masked = np.ma.masked_array(images.reshape(-1, 8, 8), images.reshape(-1, 8, 8) > 14)
    with pytest.raises(TypeError, match="X is a masked array"):
        clone(model).fit(masked, labels)


# --- What MLPClassifier can do ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("settings", [
    {"solver": "sgd", "learning_rate": "adaptive"}, {"solver": "lbfgs"}, {"alpha": 1.0}, {"batch_size": 7},
    {"learning_rate_init": 0.01}, {"early_stopping": True}, {"dropout": 0.3}, {"clip_norm": 0.01}, {"clip_value": 1e-4},
    {"dropout": (0.2, 0.3)}, {"max_norm": 0.5}, {"average": "ema:0.9"}, {"average": "swa:0.5"},
    {"augment": "shift=1,rotate=10"}, {"class_weight": {3: 20.0}}, {"input_scale": 1.0, "standardize": True},
    {"schedule": "cosine"}, {"shuffle": False}, {"initializer": "glorot"}, {"layers": [Conv2D(4, 3), BatchNorm(), 12]},
])  # fmt: skip
def test_every_option_takes_effect_and_is_repeatable(digits, settings):
    plain = CNNClassifier(**SMALL).fit(*digits)
    model = CNNClassifier(**SMALL | settings).fit(*digits)
    assert_equal(clone(model).fit(*digits), model)
    assert not np.array_equal(model.coefs_[0], plain.coefs_[0])
    assert np.isfinite(model.predict_proba(digits[0])).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_both_backends_and_any_number_of_threads_agree(digits, dtype):
    model = CNNClassifier(**SMALL | {"dtype": dtype}).fit(*digits)
    compiled = clone(model).set_params(backend="numba", n_threads=1).fit(*digits)
    assert (model.backend_, compiled.backend_, compiled.predict_proba(digits[0]).dtype) == ("numpy", "numba", dtype)
    rounding = 200 * np.finfo(dtype).eps  # of 6 steps
    for one, other in zip(model.coefs_, compiled.coefs_, strict=True):
        np.testing.assert_allclose(one, other, rtol=rounding, atol=rounding)
    assert_equal(clone(compiled).set_params(n_threads=2).fit(*digits), compiled)


def test_a_weight_of_two_equals_a_repeated_row(digits):
    images, labels = digits
    weight = 1.0 + (np.arange(60) % 3 == 0)
    rows = np.repeat(np.arange(60), weight.astype(int))
    model = CNNClassifier(**SMALL | {"dtype": "float64", "batch_size": 60, "shuffle": False})
    weighted = clone(model).fit(images[:60], labels[:60], sample_weight=weight)
    repeated = clone(model).set_params(batch_size=len(rows)).fit(images[rows], labels[rows])
    for one, other in zip(weighted.coefs_, repeated.coefs_, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-9)


def test_multilabel_targets(digits):
    images, labels = digits
    targets = np.stack([labels % 2, labels > 4, labels == 3], axis=1).astype(int)
    model = CNNClassifier(**SMALL | {"max_iter": 60, "learning_rate_init": 0.01}).fit(images, targets)
    assert (model.out_activation_, model.predict_proba(images).shape) == ("logistic", (300, 3))
    assert (model.predict(images) == targets).mean() > 0.9


def test_transform_returns_the_outputs_of_any_hidden_layer(digits):
    model = CNNClassifier(**SMALL).fit(*digits)
    images = digits[0]
    assert [model.transform(images, layer=layer).shape[1] for layer in range(3)] == [4 * 36, 4 * 9, 12]
    maps, pooled = (model.transform(images, layer=layer).reshape(300, 4, -1) for layer in (0, 1))
    windows = maps.reshape(300, 4, 3, 2, 3, 2).max(axis=(3, 5))
    np.testing.assert_array_equal(pooled, windows.reshape(300, 4, -1))
    framed = clone(model).set_params(transform_layer=1).set_output(transform="pandas").fit_transform(*digits)
    assert list(framed.columns) == [f"cnnclassifier{number}" for number in range(36)]


def test_calls_of_partial_fit_go_on_as_one_that_was_pickled(digits):
    """A pickle forgets the trainer that the call before left; batch normalisation has none to leave."""
    images, labels = digits
    for layers, is_kept in ((LAYERS, True), ([Conv2D(4), BatchNorm(), 12], False)):
        model = CNNClassifier(**SMALL | {"layers": layers})
        fresh = clone(model)
        for start in (0, 100, 200):
            some = slice(start, start + 100)
            model.partial_fit(images[some], labels[some], classes=range(10))
            fresh = pickle.loads(pickle.dumps(fresh)).partial_fit(images[some], labels[some], classes=range(10))
            assert (id(model) in continuation._KEPT) == is_kept
        assert_equal(model, fresh)
        assert (model.t_, model.loss_curve_) == (fresh.t_, fresh.loss_curve_)
        assert_same_bits(model._state.state().slots[0][0][0] if is_kept else model._state.slots[0][0][0],
                         fresh._state.slots[0][0][0])  # fmt: skip


def test_warm_start_goes_on_with_the_current_parameters(digits):
    model = CNNClassifier(**SMALL, warm_start=True, learning_rate_init=1e-12).fit(*digits)
    before = model.network_
    model.set_params(activation="tanh", input_scale=1 / 8).fit(*digits)
    np.testing.assert_allclose(model.coefs_[0], before.weights[0], atol=1e-6)
    assert (model.network_.layers[0].activation, model.network_.input_scale) == ("tanh", 1 / 8)
    message = r"layers is .*, expected layers with the weights of the previous fit, Network\(1x8x8"
    with pytest.raises(ValueError, match=message):
        clone(model).fit(*digits).set_params(layers=(Conv2D(5, 3), MaxPool2D(), 12)).fit(*digits)
    with pytest.raises(ValueError, match=r"image_shape is \(4, 16\), expected \(1, 8, 8\) as in the previous fit"):
        clone(model).fit(*digits).set_params(image_shape=(4, 16)).fit(*digits)


def test_a_stopped_fit_goes_on_from_its_checkpoint_to_the_same_bits(digits, tmp_path):
    path = tmp_path / "fit.safetensors"
    model = CNNClassifier(**SMALL | {"layers": [Conv2D(4), BatchNorm(), MaxPool2D(), 12], "dropout": 0.2})
    clone(model).set_params(max_iter=1).fit(*digits, checkpoint=path)
    longer = clone(model).fit(*digits, checkpoint=path)
    assert_equal(longer, clone(model).fit(*digits))
    restored = clone(model).fit(*digits, checkpoint=path)
    assert_equal(restored, longer)
    assert restored.loss_curve_ == longer.loss_curve_


# --- Copies and files ------------------------------------------------------------------------------------------------
def test_copies_are_equal_and_parameters_come_back(digits):
    model = CNNClassifier(**SMALL).fit(*digits)
    assert_equal(pickle.loads(pickle.dumps(model)), model)
    assert clone(model).get_params() == model.get_params()
    assert model.set_params(layers=[12], image_shape=(1, 8, 8)).get_params()["image_shape"] == (1, 8, 8)
    assert repr(CNNClassifier([Conv2D(4)])).startswith("CNNClassifier(layers=[Conv2D(channels=4")
    assert "CNNClassifier" in model._repr_html_()


@pytest.mark.parametrize("channels", [1, 2])
def test_a_saved_model_comes_back_and_can_be_fitted_again(colours, channels, tmp_path):
    images, labels = colours[0][:, :channels], np.array(["cat", "dog", "owl"])[colours[1]]
    layers = [Conv2D(3, 2, padding=1), BatchNorm("elu"), AvgPool2D((2, 3)), 5]
    model = CNNClassifier(layers, activation="tanh", max_iter=2, random_state=0, initializer="glorot")
    model.fit(images, labels).save(tmp_path / "model.safetensors")
    loaded = fastnn.load(tmp_path / "model.safetensors")
    assert loaded.image_shape == ((5, 6) if channels == 1 else None)  # a file's is that of grey images
    again = CNNClassifier.from_model(loaded)
    assert_equal(again, model)
    assert again.image_shape_ == (channels, 5, 6)
    assert_same_bits(again.predict(images), model.predict(images).astype(object).astype(again.classes_.dtype))
    assert_equal(clone(again).set_params(max_iter=2, random_state=0, initializer="glorot").fit(images, labels), model)
    assert again.partial_fit(images, labels).n_iter_ == 1


def test_a_dense_model_becomes_a_cnn_and_a_cnn_an_mlp_that_trains_on(digits, tmp_path):
    dense = MLPClassifier((9,), max_iter=2, random_state=0, image_shape=(8, 8)).fit(*digits)
    model = CNNClassifier.from_model(dense.to_model())
    assert (model.layers, model.image_shape_) == ((Dense(9, "relu"),), (1, 8, 8))
    assert_same_bits(model.predict_proba(digits[0]), dense.predict_proba(digits[0]))
    table = MLPClassifier((9,), max_iter=1).fit(digits[0][:, :20], digits[1])
    assert CNNClassifier.from_model(table.to_model()).image_shape_ == (1, 1, 20)
    network = CNNClassifier(**SMALL).fit(*digits)
    trained = MLPClassifier.from_model(network.to_model()).set_params(warm_start=True, max_iter=1).fit(*digits)
    assert trained.network_.layers == network.network_.layers
    with pytest.raises(ValueError, match="which a new fit cannot build"):
        trained.set_params(warm_start=False).fit(*digits)


def test_names_of_pixels_stay(digits):
    frame = pd.DataFrame(digits[0], columns=[f"p{number}" for number in range(64)])
    model = CNNClassifier(**SMALL).fit(frame, digits[1])
    assert model.to_model().feature_names == tuple(frame.columns)
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame[frame.columns[::-1]])


# --- scikit-learn's tools --------------------------------------------------------------------------------------------
def test_it_beats_96_percent_on_the_digits_in_pipelines_and_searches():
    """The folds are shuffled: in their own order, the digits of the last fold come from other writers."""
    data = load_digits()
    images, labels = data.images.astype(np.float64), data.labels
    network = CNNClassifier(
        batch_size=32, learning_rate_init=0.003, max_iter=12, random_state=0, n_threads=1, backend="numpy"
    )
    pipeline = make_pipeline(MinMaxScaler((0, 1)), network)
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    scores = cross_val_score(pipeline, images, labels, cv=folds)
    assert scores.mean() > 0.96
    assert scores.min() > 0.95
    some = images[:500].reshape(-1, 8, 8) / 16
    grid = {"layers": [(Conv2D(8, 3), MaxPool2D(), 32), (2,)], "max_iter": [10]}
    search = GridSearchCV(network, grid, cv=StratifiedKFold(2, shuffle=True, random_state=0)).fit(some, labels[:500])
    assert search.best_params_["layers"] == grid["layers"][0]
    assert search.best_score_ > 0.85
