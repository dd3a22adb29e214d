"""Runs scikit-learn's own checks of estimators."""

import pytest
from sklearn.utils.estimator_checks import estimator_checks_generator

from fastnn import CNNClassifier, MLPClassifier, MLPRegressor

# After a whole fit, predictions with a weight of 2 and with a repeated row must agree to 1e-7, too close for float32.
# And predictions of several targets must be float64.
BEYOND_FLOAT32 = {
    "check_sample_weight_equivalence_on_dense_data",
    "check_sample_weight_equivalence_on_sparse_data",
    "check_regressor_multioutput",
}


def _is_repeated(model, check):
    """Return whether the check says of a float32 regressor what it says of the classifier: most know only arrays."""
    return isinstance(model, MLPRegressor) and model.dtype != "float64" and "regress" not in check


# The checks bring 1 to 20 columns. Each row is a signal of one row and so many columns.
SIGNALS = {"image_shape": (1, -1)}

# What parametrize_with_checks does, but as a list: newer versions of pytest refuse the generator of older ones.
CHECKS = [
    pytest.param(estimator, check, id=f"{estimator!r}-{check.func.__name__}")
    for model in (
        MLPClassifier(),
        MLPRegressor(),
        MLPClassifier(dtype="float64"),
        MLPRegressor(dtype="float64"),
        CNNClassifier(**SIGNALS, dtype="float64"),
    )
    for estimator, check in estimator_checks_generator(model)
    if model.dtype == "float64" or check.func.__name__ not in BEYOND_FLOAT32
    if not _is_repeated(model, check.func.__name__)
]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # the fits of the checks are short
@pytest.mark.parametrize(("estimator", "check"), CHECKS)
def test_scikit_learns_checks_pass(estimator, check):
    check(estimator)
