"""Examples like those of scikit-learn's gallery and user guide."""

from functools import cache
from typing import Any

import numpy as np

from benchmarks.workloads.data import digits, mnist, smooth, text
from benchmarks.workloads.examples.example import Example


@cache
def _split(name: str, **options: Any) -> tuple[Any, Any, Any, Any]:
    from sklearn import datasets
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import StandardScaler

    inputs, targets = getattr(datasets, name)(**options)
    train, test, train_y, test_y = train_test_split(inputs, targets, test_size=0.4, random_state=42)
    scaler = StandardScaler().fit(train)
    return scaler.transform(train), scaler.transform(test), train_y, test_y


def training_curves(classifier: Any, regressor: Any) -> dict[str, float]:
    """Six strategies of the learning rate on four data sets."""
    from sklearn.datasets import load_iris, make_circles, make_moons
    from sklearn.preprocessing import MinMaxScaler

    settings = [
        {"solver": "sgd", "learning_rate": "constant", "momentum": 0.0, "learning_rate_init": 0.2},
        {"solver": "sgd", "learning_rate": "constant", "nesterovs_momentum": False, "learning_rate_init": 0.2},
        {"solver": "sgd", "learning_rate": "constant", "nesterovs_momentum": True, "learning_rate_init": 0.2},
        {"solver": "sgd", "learning_rate": "invscaling", "momentum": 0.0, "learning_rate_init": 0.2},
        {"solver": "sgd", "learning_rate": "invscaling", "nesterovs_momentum": True, "learning_rate_init": 0.2},
        {"solver": "adam", "learning_rate_init": 0.01},
    ]
    sets = [
        (load_iris(return_X_y=True), 400),
        (digits(), 15),
        (make_circles(noise=0.2, factor=0.5, random_state=1), 400),
        (make_moons(noise=0.3, random_state=0), 400),
    ]
    found = {}
    for number, ((inputs, labels), epochs) in enumerate(sets):
        inputs = MinMaxScaler().fit_transform(inputs)
        for way, options in enumerate(settings):
            model = classifier(random_state=0, max_iter=epochs, **options).fit(inputs, labels)
            found[f"set {number}, way {way}"] = model.score(inputs, labels)
    return found


def regularization(classifier: Any, regressor: Any) -> dict[str, float]:
    """Five values of alpha on three small sets, each with its decision surface."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    found = {}
    grid = np.stack(np.meshgrid(np.linspace(-3, 3, 150), np.linspace(-3, 3, 150)), axis=-1).reshape(-1, 2)
    sets = (
        ("make_moons", {"noise": 0.3, "random_state": 0}),
        ("make_circles", {"noise": 0.2, "factor": 0.5, "random_state": 1}),
        ("make_classification", {"n_features": 2, "n_redundant": 0, "random_state": 0, "n_clusters_per_class": 1}),
    )
    for name, options in sets:
        train, test, train_y, test_y = _split(name, **options)
        for alpha in np.logspace(-1, 1, 5):
            network = classifier(
                solver="lbfgs", alpha=alpha, random_state=1, max_iter=2000, hidden_layer_sizes=[10, 10]
            )
            model = make_pipeline(StandardScaler(), network).fit(train, train_y)
            model.predict_proba(grid)
            found[f"{name}, {alpha:.2f}"] = model.score(test, test_y)
    return found


def mnist_filters(classifier: Any, regressor: Any) -> dict[str, float]:
    """Eight epochs of SGD on a part of MNIST, to look at the weights of the first layer."""
    inputs, labels = mnist(6000)
    settings = {"max_iter": 8, "alpha": 1e-4, "solver": "sgd", "random_state": 1, "learning_rate_init": 0.2}
    model = classifier(hidden_layer_sizes=(40,), **settings).fit(inputs[:5000], labels[:5000])
    images = [column.reshape(28, 28) for column in model.coefs_[0].T[:16]]
    return {"test": model.score(inputs[5000:], labels[5000:]), "images": float(len(images))}


def partial_dependence(classifier: Any, regressor: Any) -> dict[str, float]:
    """How a prediction depends on two inputs, over a grid."""
    from sklearn.inspection import partial_dependence
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import QuantileTransformer

    inputs, targets = smooth(8000, 8)
    network = regressor(hidden_layer_sizes=(30, 15), learning_rate_init=0.01, early_stopping=True, random_state=0)
    model = make_pipeline(QuantileTransformer(n_quantiles=100), network).fit(inputs[:7200], targets[:7200])
    curves = [partial_dependence(model, inputs[:500], columns, grid_resolution=20) for columns in ([0], [5], [1, 2])]
    return {"test": model.score(inputs[7200:], targets[7200:]), "spread": float(np.ptp(curves[0]["average"]))}


def classifier_comparison(classifier: Any, regressor: Any) -> dict[str, float]:
    """One network on three sets, with a decision surface for each."""
    found = {}
    grid = np.stack(np.meshgrid(np.linspace(-3, 3, 200), np.linspace(-3, 3, 200)), axis=-1).reshape(-1, 2)
    for name, options in (
        ("make_moons", {"noise": 0.3, "random_state": 0}),
        ("make_circles", {"noise": 0.2, "factor": 0.5, "random_state": 1}),
    ):
        train, test, train_y, test_y = _split(name, **options)
        model = classifier(alpha=1, max_iter=1000, random_state=42).fit(train, train_y)
        model.predict_proba(grid)
        found[name] = model.score(test, test_y)
    return found


def user_guide(classifier: Any, regressor: Any) -> dict[str, float]:
    """The first lines of the user guide, then a pipeline on breast cancer."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = classifier(solver="lbfgs", alpha=1e-5, hidden_layer_sizes=(5, 2), random_state=1)
    model.fit([[0.0, 0.0], [1.0, 1.0]], [0, 1])
    shapes = sum(coef.size for coef in model.coefs_)
    inputs, labels = load_breast_cancer(return_X_y=True)
    pipeline = make_pipeline(StandardScaler(), classifier(random_state=1, max_iter=300)).fit(inputs[:400], labels[:400])
    return {"weights": float(shapes), "test": pipeline.score(inputs[400:], labels[400:])}


def warm_start_loop(classifier: Any, regressor: Any) -> dict[str, float]:
    """One epoch at a time with warm_start, and a score after each."""
    train, test, train_y, test_y = _split("load_iris", return_X_y=True)
    model = classifier(hidden_layer_sizes=(10,), learning_rate_init=0.01, max_iter=1, warm_start=True, random_state=1)
    scores = [model.fit(train, train_y).score(test, test_y) for _ in range(60)]
    return {"last": scores[-1], "mean": float(np.mean(scores))}


def grid_search(classifier: Any, regressor: Any) -> dict[str, float]:
    """A small grid with three folds."""
    from sklearn.model_selection import GridSearchCV

    inputs, labels = digits(900, scale=16.0)
    grid = {"alpha": [1e-4, 1e-2], "hidden_layer_sizes": [(20,), (50,)]}
    search = GridSearchCV(classifier(max_iter=30, random_state=0), grid, cv=3).fit(inputs, labels)
    return {"best": search.best_score_}


def out_of_core_text(classifier: Any, regressor: Any) -> dict[str, float]:
    """Documents that arrive in small batches, hashed to many columns."""
    inputs, labels = text(2000, 2**16, classes=4, per_row=60)
    model = classifier(hidden_layer_sizes=(10,), learning_rate_init=0.02, random_state=0)
    for first in range(0, 1800, 60):
        rows = slice(first, first + 60)
        model.partial_fit(inputs[rows], labels[rows], classes=np.arange(4))
    return {"test": model.score(inputs[1800:], labels[1800:])}


def autoencoder(classifier: Any, regressor: Any) -> dict[str, float]:
    """Digits through a bottleneck and back."""
    inputs, _ = digits(scale=16.0)
    model = regressor(hidden_layer_sizes=(32, 8, 32), max_iter=40, random_state=0).fit(inputs, inputs)
    return {"error": float(np.mean((model.predict(inputs) - inputs) ** 2))}


def permutation_importance(classifier: Any, regressor: Any) -> dict[str, float]:
    """Scores with each input shuffled in turn."""
    from sklearn.inspection import permutation_importance as importance

    train, test, train_y, test_y = _split("load_breast_cancer", return_X_y=True)
    model = classifier(hidden_layer_sizes=(20,), random_state=0).fit(train, train_y)
    found = importance(model, test, test_y, n_repeats=5, random_state=0)
    return {"test": model.score(test, test_y), "largest": float(found.importances_mean.max())}


def stacking(classifier: Any, regressor: Any) -> dict[str, float]:
    """A network below a logistic regression, in five folds."""
    from sklearn.ensemble import StackingClassifier
    from sklearn.linear_model import LogisticRegression

    train, test, train_y, test_y = _split("load_wine", return_X_y=True)
    network = classifier(hidden_layer_sizes=(16,), max_iter=150, random_state=0)
    model = StackingClassifier([("network", network)], LogisticRegression(max_iter=500), passthrough=True)
    return {"test": model.fit(train, train_y).score(test, test_y)}


def calibrated(classifier: Any, regressor: Any) -> dict[str, float]:
    """A network whose probabilities are calibrated in five folds."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.metrics import brier_score_loss

    train, test, train_y, test_y = _split("load_breast_cancer", return_X_y=True)
    network = classifier(hidden_layer_sizes=(16,), max_iter=100, random_state=0)
    model = CalibratedClassifierCV(network, cv=5).fit(train, train_y)
    return {"Brier": brier_score_loss(test_y, model.predict_proba(test)[:, 1]), "test": model.score(test, test_y)}


EXAMPLES = [
    Example(training_curves, 0.1),
    Example(regularization, 0.1),
    Example(mnist_filters),
    Example(partial_dependence, 0.1),
    Example(classifier_comparison, 0.05),
    Example(user_guide),
    Example(warm_start_loop),
    Example(grid_search),
    Example(out_of_core_text),
    Example(autoencoder, 0.005),
    Example(permutation_importance, 0.05),
    Example(stacking),
    Example(calibrated),
]
