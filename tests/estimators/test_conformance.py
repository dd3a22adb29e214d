"""scikit-learn's own checks of what an estimator must do."""

import pytest
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

from fastnn import MLPClassifier, MLPRegressor

# A weight of 2 and a row given twice must agree to 1e-7 in the predictions of a whole fit: more than float32 can hold.
BEYOND_FLOAT32 = {
    "check_sample_weight_equivalence_on_dense_data",
    "check_sample_weight_equivalence_on_sparse_data",
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # the checks' fits are short
@parametrize_with_checks([MLPClassifier(dtype="float64"), MLPRegressor(dtype="float64")])
def test_in_float64_every_check_passes(estimator, check):
    check(estimator)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("estimator", [MLPClassifier(), MLPRegressor()], ids=["classifier", "regressor"])
def test_as_they_come_every_check_passes_that_float32_can(estimator):
    names = set()
    for fresh, check in estimator_checks_generator(estimator):
        name = check.func.__name__
        names.add(name)
        if name not in BEYOND_FLOAT32:
            check(fresh)
    assert names > BEYOND_FLOAT32
