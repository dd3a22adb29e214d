"""Examples like users' own scripts, and like what other libraries do with an estimator that they are given."""

import pickle
from typing import Any

import numpy as np

from benchmarks.workloads.data import clusters, digits, iris, smooth
from benchmarks.workloads.examples.example import Example


def reinforcement_learning(classifier: Any, regressor: Any) -> dict[str, float]:
    """Fitted Q-learning on a chain: a prediction of all actions and a step of partial_fit for each move."""
    rng = np.random.default_rng(0)
    model = regressor(hidden_layer_sizes=(24, 24), learning_rate_init=0.005, random_state=0)
    states = np.eye(8)
    model.partial_fit(states, np.zeros((8, 2)))
    place, total = 0, 0.0
    for _ in range(400):
        values = model.predict(states[place : place + 1])[0]
        action = int(rng.integers(2)) if rng.random() < 0.2 else int(values.argmax())
        following = min(place + 1, 7) if action else max(place - 1, 0)
        reward = float(following == 7)
        values[action] = reward + 0.9 * model.predict(states[following : following + 1])[0].max() * (1 - reward)
        model.partial_fit(states[place : place + 1], values[None])
        total, place = total + reward, 0 if reward else following
    return {"value": float(model.predict(states).max())}


def controller(classifier: Any, regressor: Any) -> dict[str, float]:
    """A network that imitates a PID controller, then controls: one prediction for each step."""
    rng = np.random.default_rng(1)
    errors = rng.uniform(-1, 1, (300, 3))
    model = regressor(hidden_layer_sizes=(8,), solver="lbfgs", max_iter=60, random_state=0)
    model.fit(errors, errors @ [0.8, 0.1, 0.05])
    value, integral, before = 0.0, 0.0, 0.0
    for _ in range(150):
        error = 1 - value
        integral = 0.9 * integral + 0.1 * error
        value += 0.3 * float(model.predict([[error, integral, error - before]])[0])
        before = error
    return {"value": value}


def wave(classifier: Any, regressor: Any) -> dict[str, float]:
    """A noisy sine on one input, with a large network and tanh."""
    rng = np.random.default_rng(2)
    times = np.linspace(0, 4 * np.pi, 1500)[:, None]
    values = np.sin(times[:, 0]) + 0.1 * rng.standard_normal(1500)
    settings = {"activation": "tanh", "max_iter": 60, "random_state": 0, "learning_rate_init": 0.005}
    inputs = np.hstack([times, times**2]) / 12
    model = regressor(hidden_layer_sizes=(100, 100), **settings).fit(inputs, values)
    return {"R2": model.score(inputs, values)}


def car_data(classifier: Any, regressor: Any) -> dict[str, float]:
    """Six categories, one-hot, and SGD with tanh."""
    from sklearn.preprocessing import OneHotEncoder

    rng = np.random.default_rng(3)
    table = rng.integers(0, 4, (1200, 6))
    labels = np.digitize(table[:, 0] + table[:, 3] - table[:, 5], [0, 3])
    inputs = OneHotEncoder(sparse_output=False).fit_transform(table)
    settings = {"activation": "tanh", "solver": "sgd", "learning_rate_init": 0.05, "max_iter": 40, "random_state": 0}
    model = classifier(hidden_layer_sizes=(12,), **settings).fit(inputs[:900], labels[:900])
    return {"test": model.score(inputs[900:], labels[900:])}


def speech_emotion(classifier: Any, regressor: Any) -> dict[str, float]:
    """180 features of 700 recordings, as many tutorials have it."""
    inputs, labels = clusters(700, 180, 4)
    settings = {"alpha": 0.01, "batch_size": 256, "epsilon": 1e-8, "learning_rate": "adaptive", "max_iter": 80}
    model = classifier(hidden_layer_sizes=(300,), random_state=0, **settings).fit(inputs[:525], labels[:525])
    return {"test": model.score(inputs[525:], labels[525:])}


def genetic_search(classifier: Any, regressor: Any) -> dict[str, float]:
    """Settings of SGD that are mutated; many short fits."""
    rng = np.random.default_rng(4)
    inputs, labels = iris()
    inputs = (inputs - inputs.mean(axis=0)) / inputs.std(axis=0)
    population = [(int(rng.integers(2, 20)), 10 ** rng.uniform(-3, -1)) for _ in range(6)]
    scores: list[float] = []
    for _ in range(3):
        scores = []
        for units, rate in population:
            settings = {"solver": "sgd", "learning_rate_init": rate, "max_iter": 40, "random_state": 0}
            model = classifier(hidden_layer_sizes=(units,), **settings).fit(inputs[::2], labels[::2])
            scores.append(model.score(inputs[1::2], labels[1::2]))
        best = [population[place] for place in np.argsort(scores, kind="stable")[-3:]]
        population = best + [(units + 1, rate * rng.uniform(0.5, 2)) for units, rate in best]
    return {"best": max(scores)}


def pruned_trials(classifier: Any, regressor: Any) -> dict[str, float]:
    """Trials that learn batch by batch and stop when they fall behind."""
    inputs, labels = digits(1200, scale=16.0)
    best = 0.0
    for rate in (0.0001, 0.001, 0.01, 0.05):
        model = classifier(hidden_layer_sizes=(32,), learning_rate_init=rate, random_state=0)
        for step in range(25):
            for first in range(0, 900, 225):
                rows = slice(first, first + 225)
                model.partial_fit(inputs[rows], labels[rows], classes=np.arange(10))
            score = model.score(inputs[900:], labels[900:])
            if step >= 8 and score < 0.5 * best:
                break
        best = max(best, score)
    return {"best": best}


def one_by_one(classifier: Any, regressor: Any) -> dict[str, float]:
    """A stream: predict a row, then learn it."""
    inputs, labels = clusters(500, 10, 3)
    model = classifier(hidden_layer_sizes=(16,), random_state=0, learning_rate_init=0.01)
    model.partial_fit(inputs[:1], labels[:1], classes=[0, 1, 2])
    correct = 0
    for row in range(1, 500):
        correct += int(model.predict(inputs[row : row + 1])[0] == labels[row])
        model.partial_fit(inputs[row : row + 1], labels[row : row + 1])
    return {"correct": correct / 499}


def residuals(classifier: Any, regressor: Any) -> dict[str, float]:
    """Double machine learning: an effect from the residuals of two models in five folds."""
    from sklearn.model_selection import cross_val_predict

    inputs, targets = smooth(600, 6)
    treatment = inputs[:, 0] * 0.5 + np.random.default_rng(5).standard_normal(600)
    outcome = targets + 0.7 * treatment
    settings = {"hidden_layer_sizes": (12,), "max_iter": 80, "random_state": 0}
    left = [values - cross_val_predict(regressor(**settings), inputs, values) for values in (outcome, treatment)]
    return {"effect": float(left[0] @ left[1] / (left[1] @ left[1]))}


def conformal(classifier: Any, regressor: Any) -> dict[str, float]:
    """Intervals from the errors on a second part of the data."""
    inputs, targets = smooth(2000, 6)
    model = regressor(hidden_layer_sizes=(40,), max_iter=40, random_state=0).fit(inputs[:1000], targets[:1000])
    width = np.quantile(np.abs(model.predict(inputs[1000:1500]) - targets[1000:1500]), 0.9)
    return {"covered": float(np.mean(np.abs(model.predict(inputs[1500:]) - targets[1500:]) <= width))}


def explained_row(classifier: Any, regressor: Any) -> dict[str, float]:
    """A local linear model of a prediction, from thousands of changed copies of each of some rows."""
    inputs, labels = clusters(600, 12, 3)
    model = classifier(hidden_layer_sizes=(24,), max_iter=60, random_state=0).fit(inputs, labels)
    rng, weights = np.random.default_rng(6), []
    for row in inputs[:10]:
        changed = row + rng.standard_normal((3000, 12))
        weights.append(np.linalg.lstsq(changed - row, model.predict_proba(changed)[:, 0], rcond=None)[0])
    return {"largest": float(np.abs(weights).max())}


def bagging(classifier: Any, regressor: Any) -> dict[str, float]:
    """Ten networks on samples of the rows, and one for each pair of classes."""
    from sklearn.ensemble import BaggingClassifier
    from sklearn.multiclass import OneVsOneClassifier

    inputs, labels = clusters(400, 10, 4)
    network = classifier(hidden_layer_sizes=(10,), max_iter=40, random_state=0)
    found = {}
    for model in (BaggingClassifier(network, 10, random_state=0), OneVsOneClassifier(network)):
        found[type(model).__name__] = model.fit(inputs[:300], labels[:300]).score(inputs[300:], labels[300:])
    return found


def pickled_service(classifier: Any, regressor: Any) -> dict[str, float]:
    """Fit, pickle, load, and answer requests of one row each."""
    inputs, labels = clusters(300, 8, 2)
    stored = pickle.dumps(classifier(hidden_layer_sizes=(16,), max_iter=20, random_state=0).fit(inputs, labels))
    model = pickle.loads(stored)
    answers = [model.predict_proba(inputs[row : row + 1])[0, 1] for row in range(200)]
    return {"mean": float(np.mean(answers))}


def word_vectors(classifier: Any, regressor: Any) -> dict[str, float]:
    """Documents as means of word vectors, two hidden layers."""
    rng = np.random.default_rng(7)
    vectors, labels = rng.standard_normal((400, 100)), rng.integers(0, 2, 800)
    words = rng.integers(0, 300, (800, 30)) + 100 * labels[:, None]
    inputs = vectors[words].mean(axis=1)
    model = classifier(hidden_layer_sizes=(100, 50), max_iter=30, random_state=0).fit(inputs[:600], labels[:600])
    return {"test": model.score(inputs[600:], labels[600:])}


EXAMPLES = [
    Example(reinforcement_learning, 0.3),
    Example(controller),
    Example(wave, 0.05),
    Example(car_data, 0.03),
    Example(speech_emotion),
    Example(genetic_search, 0.03),
    Example(pruned_trials, 0.03),
    Example(one_by_one),
    Example(residuals, 0.05),
    Example(conformal, 0.05),
    Example(explained_row, 0.05),
    Example(bagging, 0.05),
    Example(pickled_service, 0.05),
    Example(word_vectors, 0.03),
]
