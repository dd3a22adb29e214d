"""A whole grid search over 12 settings, with fastnn's classifier and with scikit-learn's."""

import warnings

import numpy as np
import pytest
from sklearn import neural_network as peer
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV

from fastnn import MLPClassifier, load_digits

GRID = {"alpha": [1e-4, 1e-2], "learning_rate_init": [1e-3, 1e-2], "hidden_layer_sizes": [(32,), (64,), (64, 32)]}
EPOCHS, FOLDS, ROUNDS = 10, 3, 3


@pytest.fixture(scope="module")
def data(mnist):
    """Return {name: (images scaled to 0 ... 1, labels)}."""
    digits = load_digits()
    return {
        "digits": (digits.images / 16.0, digits.labels),
        "mnist": (mnist.images[:6000] / 255.0, mnist.labels[:6000]),
    }


def search(estimator, jobs, images, labels):
    """Return the mean test score of each setting."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = GridSearchCV(estimator(max_iter=EPOCHS, random_state=0), GRID, cv=FOLDS, n_jobs=jobs)
        return found.fit(images, labels).cv_results_["mean_test_score"]


@pytest.mark.parametrize("estimator", [MLPClassifier, peer.MLPClassifier], ids=["fastnn", "scikit-learn"])
@pytest.mark.parametrize("jobs", [1, 2], ids=lambda jobs: f"{jobs}-jobs")
@pytest.mark.parametrize("name", ["digits", "mnist"])
def test_grid_search(timed, benchmark, data, name, jobs, estimator):
    benchmark.group = f"{name}, {jobs} jobs"
    expected = search(MLPClassifier, 1, *data[name])
    assert len(expected) == 12
    assert np.ptp(expected) > 0
    # The predictions for a few samples of a fold may differ between float32 and float64.
    timed(lambda: search(estimator, jobs, *data[name]), expected=expected, band=0.01, rounds=ROUNDS)
