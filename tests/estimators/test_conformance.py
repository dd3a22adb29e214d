"""Runs scikit-learn's own checks of estimators."""

import pytest
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

from fastnn import MLPClassifier, MLPRegressor

# After a whole fit, predictions with a weight of 2 and with a repeated row must agree to 1e-7, too close for float32.
BEYOND_FLOAT32 = {
    "check_sample_weight_equivalence_on_dense_data",
    "check_sample_weight_equivalence_on_sparse_data",
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # the fits of the checks are short
@parametrize_with_checks([MLPClassifier(dtype="float64"), MLPRegressor(dtype="float64")])
def test_every_check_passes_in_float64(estimator, check):
    check(estimator)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("estimator", [MLPClassifier(), MLPRegressor()], ids=["classifier", "regressor"])
def test_every_check_that_float32_can_meet_passes_with_default_parameters(estimator):
    names = set()
    for fresh, check in estimator_checks_generator(estimator):
        name = check.func.__name__
        names.add(name)
        if name not in BEYOND_FLOAT32:
            check(fresh)
    assert names > BEYOND_FLOAT32
