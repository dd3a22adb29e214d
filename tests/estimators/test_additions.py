"""Parameters that scikit-learn lacks: the layer of `transform`, initializers, gradient clipping."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import fastnn
from fastnn import MLPClassifier, load_digits

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    return data.images[:400], data.labels[:400]


def test_a_pipeline_takes_the_features_of_the_chosen_layer(digits):
    """The parameter is what a pipeline and a search can set."""
    images, labels = digits
    features = MLPClassifier((12, 7), max_iter=3, random_state=0, input_scale=1 / 16, transform_layer=0)
    pipeline = make_pipeline(features, LogisticRegression(max_iter=5)).fit(images, labels)
    assert pipeline[-1].coef_.shape == (10, 12)
    expected = pipeline[0].transform(images, layer=0)
    np.testing.assert_array_equal(pipeline[:-1].transform(images), expected)
    assert clone(features).transform_layer == 0


@pytest.mark.parametrize(("name", "variance", "is_normal"), [
    ("he", 2 / 64, True), ("he_uniform", 2 / 64, False), ("glorot", 2 / 364, False), ("glorot_normal", 2 / 364, True),
    ("lecun", 1 / 64, True), ("auto", 2 / 64, True), (None, 2 / 364, False),
])  # fmt: skip
def test_the_initializer_is_the_distribution_of_the_initial_weights(name, variance, is_normal, digits):
    """A fit of one epoch at a tiny learning rate leaves the initial weights."""
    images, labels = digits
    model = MLPClassifier((300,), initializer=name, max_iter=1, random_state=3, learning_rate_init=1e-12).fit(
        images, labels
    )
    weight = model.coefs_[0]
    assert weight.var() == pytest.approx(variance, rel=0.05)
    assert (np.abs(weight).max() > 3 * weight.std()) == is_normal
    assert (np.abs(model.intercepts_[0]).max() < 1e-6) == (name is not None)
    again = clone(model).fit(images, labels)
    np.testing.assert_array_equal(again.coefs_[0], weight)
    assert not np.array_equal(clone(model).set_params(random_state=4).fit(images, labels).coefs_[0], weight)


@pytest.mark.parametrize("clipping", [{"clip_norm": 0.05}, {"clip_value": 0.001}])
def test_an_estimator_clips_as_train_does(clipping, digits):
    """One full-batch step of plain gradient descent from the same weights."""
    images, labels = digits
    settings = {"solver": "sgd", "momentum": 0.0, "alpha": 0.0, "batch_size": len(images), "learning_rate_init": 1.0}
    free = MLPClassifier((8,), max_iter=1, random_state=0, input_scale=1 / 16, **settings).fit(images, labels)
    clipped = clone(free).set_params(**clipping).fit(images, labels)
    start = clone(free).set_params(learning_rate_init=1e-12).fit(images, labels).network_
    expected = fastnn.train(
        start, (images, labels), epochs=1, batch_size=None, learning_rate=1.0, shuffle=False, **clipping
    ).network
    np.testing.assert_allclose(clipped.coefs_[0], expected.weights[0], rtol=1e-4, atol=1e-6)
    assert not np.allclose(clipped.coefs_[0], free.coefs_[0], rtol=1e-3)
    with pytest.raises(ValueError, match="with L-BFGS, expected None"):
        clone(clipped).set_params(solver="lbfgs").fit(images, labels)
