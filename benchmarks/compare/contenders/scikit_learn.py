"""scikit-learn's MLPClassifier: `partial_fit` is one epoch. It shuffles itself, so its order differs from the rest."""

from collections.abc import Callable

import numpy as np
import sklearn
from sklearn.neural_network import MLPClassifier

from benchmarks.compare.problems import CLASSES, Problem


def versions() -> dict[str, str]:
    """Return versions and settings for the report."""
    return {"scikit-learn": sklearn.__version__}


def _classifier(problem: Problem) -> MLPClassifier:
    case = problem.case
    classifier = MLPClassifier(
        hidden_layer_sizes=case.sizes[1:-1],
        solver="adam" if case.optimizer == "adam" else "sgd",
        alpha=0.0,
        batch_size=min(problem.batch_size, len(problem.labels)),
        learning_rate_init=case.learning_rate,
        momentum=0.9 if case.optimizer == "momentum" else 0.0,
        nesterovs_momentum=False,
        shuffle=case.batch_size is not None,
        random_state=0,
        tol=0.0,
        n_iter_no_change=10**9,
    )
    # The first call allocates the arrays. Replace its random weights by the problem's and discard its step.
    one_of_each = np.zeros((CLASSES, case.sizes[0]), np.float32)
    classifier.set_params(batch_size=CLASSES)
    classifier.partial_fit(one_of_each, np.arange(CLASSES), classes=np.arange(CLASSES))
    classifier.set_params(batch_size=min(problem.batch_size, len(problem.labels)))
    for found, wanted in zip(classifier.coefs_ + classifier.intercepts_, problem.weights + problem.biases, strict=True):
        assert found.shape == wanted.shape
        assert found.dtype == np.float32
        found[:] = wanted
    del classifier._optimizer
    return classifier


class epoch:
    """`run(order, rate)` trains for one epoch and ignores `order`: scikit-learn shuffles itself."""

    def __init__(self, problem: Problem, threads: int) -> None:
        self._images, self._labels, self._classifier = problem.scaled, problem.labels, _classifier(problem)

    def __call__(self, order: np.ndarray | None, rate: float) -> float:
        """Train for one epoch and return its mean loss."""
        if self._classifier.solver == "sgd":  # Adam sets its own rate at each step, starting from the initial one
            self._classifier.learning_rate_init = rate
            if hasattr(self._classifier, "_optimizer"):  # created by the first epoch
                self._classifier._optimizer.learning_rate = rate
        self._classifier.partial_fit(self._images, self._labels)
        return float(self._classifier.loss_)

    def weights(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return the trained weights and biases."""
        return self._classifier.coefs_, self._classifier.intercepts_


def predict(problem: Problem, threads: int) -> Callable[[], np.ndarray]:
    """Return a callable that runs `predict_proba`."""
    classifier, images = _classifier(problem), problem.scaled
    return lambda: classifier.predict_proba(images)
