"""Comparison with scikit-learn: equal `random_state` gives equal losses and weights."""

from inspect import signature

import numpy as np
import pytest
from sklearn import neural_network as peer
from sklearn.model_selection import train_test_split

import fastnn
from fastnn import MLPClassifier, MLPRegressor, load_digits

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
BACKENDS = pytest.mark.parametrize("backend", ["numba", "numpy"])
SETTINGS = {
    "adam": {"max_iter": 12},
    "adam, tanh": {"max_iter": 8, "activation": "tanh", "hidden_layer_sizes": (30, 20), "batch_size": 64},
    "sgd": {"solver": "sgd", "max_iter": 8, "momentum": 0, "learning_rate_init": 0.1, "batch_size": 50},
    "momentum": {"solver": "sgd", "max_iter": 8, "nesterovs_momentum": False, "learning_rate_init": 0.05, "alpha": 1.0},
    "nesterov, no shuffling": {"solver": "sgd", "max_iter": 8, "shuffle": False, "activation": "logistic"},
    "adaptive": {
        "solver": "sgd", "max_iter": 60, "learning_rate": "adaptive", "learning_rate_init": 0.3, "tol": 1e-3,
        "n_iter_no_change": 2, "hidden_layer_sizes": (20,),
    },
    "invscaling": {"solver": "sgd", "max_iter": 8, "learning_rate": "invscaling", "learning_rate_init": 0.3},
    "early stopping": {"early_stopping": True, "max_iter": 60, "n_iter_no_change": 3, "hidden_layer_sizes": (20,)},
    "identity, two layers": {
        "solver": "sgd", "max_iter": 8, "activation": "identity", "hidden_layer_sizes": (9, 7), "alpha": 0.3,
    },
    "no hidden layer": {"hidden_layer_sizes": (), "max_iter": 8},
    # The line search must not saturate: scikit-learn clips the loss where a probability rounds to 0 or 1.
    "lbfgs": {"solver": "lbfgs", "max_iter": 15, "hidden_layer_sizes": (20,), "activation": "logistic"},
}  # fmt: skip
TARGETS = ["multiclass", "binary", "multilabel", "regression"]


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    return data.images / 16.0, data.labels


def _targets(labels, target):
    if target == "multilabel":
        return np.stack([labels % 2, labels > 4, labels == 3], axis=1).astype(int)
    return {"multiclass": labels, "binary": labels > 4, "regression": labels / 3.0}[target]


@BACKENDS
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_every_loss_and_weight_equals_scikit_learns(digits, settings, target, weighted, backend):
    images, labels = digits
    if weighted and "sample_weight" not in signature(peer.MLPClassifier.fit).parameters:
        pytest.skip("scikit-learn's networks accept sample weights since version 1.7")
    if backend == "numpy":
        images, labels = images[:600], labels[:600]
    targets = _targets(labels, target)
    weight = {"sample_weight": np.random.default_rng(1).random(len(labels))} if weighted else {}
    name = "MLPRegressor" if target == "regression" else "MLPClassifier"
    ours, theirs = (getattr(package, name) for package in (fastnn, peer))
    a = ours(random_state=3, dtype="float64", backend=backend, **settings).fit(images, targets, **weight)
    b = theirs(random_state=3, **settings).fit(images, targets, **weight)
    # L-BFGS amplifies rounding errors from step to step.
    tolerance = 1e-7 if settings.get("solver") == "lbfgs" else 1e-10
    for one, other in zip(a.coefs_ + a.intercepts_, b.coefs_ + b.intercepts_, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)
    assert a.loss_ == pytest.approx(b.loss_, rel=tolerance)
    for name in ("n_iter_", "t_", "n_outputs_", "n_layers_", "out_activation_", "n_features_in_"):
        assert getattr(a, name) == getattr(b, name), name
    if hasattr(b, "loss_curve_"):
        np.testing.assert_allclose(a.loss_curve_, b.loss_curve_, rtol=tolerance)
        assert a.best_loss_ == (None if b.best_loss_ is None else pytest.approx(b.best_loss_, rel=tolerance))
    if settings.get("early_stopping"):
        np.testing.assert_allclose(a.validation_scores_, b.validation_scores_, rtol=tolerance)
        assert a.best_validation_score_ == pytest.approx(b.best_validation_score_, rel=tolerance)
    np.testing.assert_allclose(a.predict(images), b.predict(images), rtol=tolerance)
    if target != "regression":
        np.testing.assert_array_equal(a.classes_, b.classes_)
        np.testing.assert_allclose(a.predict_proba(images), b.predict_proba(images), atol=tolerance)
        assert a.score(images, targets) == b.score(images, targets)


# Fits of several targets, and the tolerance of their losses: within an epoch, the L2 term is interpolated.
SEVERAL_TARGETS = {
    "adam": ({}, 2e-6),
    "without L2": ({"alpha": 0.0, "batch_size": 37}, 1e-10),
    "full batches": ({"alpha": 5.0, "batch_size": 300, "learning_rate_init": 0.01}, 1e-10),
    "adaptive": ({"solver": "sgd", "learning_rate": "adaptive", "learning_rate_init": 0.1}, 1e-5),
    "early stopping": ({"early_stopping": True}, 2e-6),
    "poisson": ({"loss": "poisson", "alpha": 1.0}, 1e-10),
    "poisson, early stopping": ({"loss": "poisson", "early_stopping": True}, 1e-10),
}


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("n_targets", [2, 20])
@pytest.mark.parametrize("case", SEVERAL_TARGETS)
def test_several_targets_have_scikit_learns_losses_and_stop_after_as_many_epochs(case, n_targets, weighted):
    """scikit-learn divides the reported squared error by the number of targets, but neither its gradient nor the L2."""
    settings, tolerance = SEVERAL_TARGETS[case]
    if "loss" in settings and "loss" not in signature(peer.MLPRegressor).parameters:
        pytest.skip("scikit-learn has the Poisson loss since version 1.7")
    rng = np.random.default_rng(n_targets)
    X = rng.standard_normal((300, 5))
    Y = np.tanh(X @ rng.standard_normal((5, n_targets)) / 2)
    Y = rng.poisson(np.exp(Y)) if "loss" in settings else Y
    weight = {}
    if weighted and "sample_weight" in signature(peer.MLPRegressor.fit).parameters:
        weight = {"sample_weight": np.where(np.arange(300) % 2, 1.0, 1.0 + 1e-3)}
    settings = {"hidden_layer_sizes": 20, "random_state": 0, "max_iter": 300, "learning_rate_init": 0.01, **settings}
    a = MLPRegressor(dtype="float64", backend="numpy", **settings).fit(X, Y, **weight)
    b = peer.MLPRegressor(**settings).fit(X, Y, **weight)
    assert a.n_iter_ == b.n_iter_
    np.testing.assert_allclose(a.loss_curve_, b.loss_curve_, rtol=tolerance)
    assert a.loss_ == a.loss_curve_[-1]
    assert a.best_loss_ == (None if b.best_loss_ is None else pytest.approx(b.best_loss_, rel=tolerance))
    np.testing.assert_allclose(a.predict(X), b.predict(X), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(a.validation_scores_ or [], b.validation_scores_ or [], rtol=1e-7)


def test_the_loss_of_several_targets_goes_on_over_partial_fits_and_interrupts(digits):
    """Calls of `partial_fit` have the losses of scikit-learn, and `history_` keeps fastnn's own, the sum."""
    images, labels = digits[0][:300], digits[1][:300]
    targets = np.stack([labels / 3.0, labels**2 / 30.0], axis=1)
    settings = {"random_state": 0, "alpha": 3.0, "batch_size": 300, "hidden_layer_sizes": 8}
    a, b = MLPRegressor(dtype="float64", backend="numpy", **settings), peer.MLPRegressor(**settings)
    for each in (a, b):
        each.random_state = np.random.RandomState(0)
        for _ in range(4):
            each.partial_fit(images, targets)
    np.testing.assert_allclose(a.loss_curve_, b.loss_curve_, rtol=1e-9)
    penalty = np.array(a.loss_curve_) * 2 - a.history_["loss"]  # half of it is divided in our sum
    assert (penalty > 0).all()


def test_lbfgs_has_scikit_learns_loss_of_several_targets(digits):
    images, labels = digits
    targets = np.stack([labels, labels**2], axis=1) / 30.0
    settings = {"solver": "lbfgs", "max_iter": 3, "random_state": 0, "alpha": 2.0}
    a = MLPRegressor(dtype="float64", **settings).fit(images, targets)
    errors = ((a.predict(images) - targets) ** 2).mean() / 2
    penalty = 2.0 / 2 * sum((weight**2).sum() for weight in a.coefs_) / len(images)
    assert a.loss_ == a.loss_curve_[-1] == pytest.approx(errors + penalty, rel=1e-10)


def test_a_warm_start_with_early_stopping_goes_on_as_in_scikit_learn(digits):
    images, labels = digits[0][:300], digits[1][:300] / 3.0
    settings = {
        "hidden_layer_sizes": 8, "random_state": 0, "early_stopping": True, "warm_start": True, "max_iter": 15,
        "learning_rate_init": 0.01,
    }  # fmt: skip
    fits = [MLPRegressor(dtype="float64", backend="numpy", **settings), peer.MLPRegressor(**settings)]
    for each in fits:
        each.fit(images, labels)
        each.set_params(learning_rate_init=3.0, max_iter=4).fit(images, labels)  # nothing gets better
    a, b = fits
    np.testing.assert_allclose(a.validation_scores_, b.validation_scores_, rtol=1e-7)
    np.testing.assert_allclose(a.predict(images), b.predict(images), rtol=1e-8)


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("name", ["digits", "mnist"])
def test_mean_accuracy_over_seeds_equals_scikit_learns_within_the_spread(digits, mnist, name, solver):
    """In float32, the mean test accuracies of five seeds differ by less than the spread over the seeds."""
    if name == "digits":
        split = train_test_split(*digits, test_size=400, random_state=0)
        options = {"hidden_layer_sizes": (30,), "max_iter": 40}
    else:
        train, test = mnist[0].take(slice(0, 10_000)), mnist[1].take(slice(0, 2000))
        split = train.images / 255.0, test.images / 255.0, train.labels, test.labels
        options = {"hidden_layer_sizes": (20,), "max_iter": 30 if solver == "lbfgs" else 8}
    options |= {"solver": solver, "learning_rate_init": 0.02 if solver == "sgd" else 0.002}
    train_X, test_X, train_y, test_y = split
    scores = np.array([
        [model(random_state=seed, **options).fit(train_X, train_y).score(test_X, test_y) for seed in range(5)]
        for model in (MLPClassifier, peer.MLPClassifier)
    ])  # fmt: skip
    difference, spread = abs(np.diff(scores.mean(axis=1))[0]), scores.std(axis=1, ddof=1).max()
    assert difference < spread, f"means {scores.mean(axis=1)}, spread {spread}"
    assert scores.min() > 0.85
