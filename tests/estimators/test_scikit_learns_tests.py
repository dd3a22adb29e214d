"""Runs scikit-learn's own tests of its networks on fastnn's classes, with the import replaced, in float64.

In a copy of the installed module, `MLPClassifier` and `MLPRegressor` are fastnn's. pytest collects its tests here.
"""

import importlib.util
import inspect
import types
from pathlib import Path

import pytest
import sklearn.neural_network

import fastnn

MODULE = "sklearn.neural_network.tests.test_mlp"
# The tests that use a private attribute of scikit-learn's classes, and that attribute.
PRIVATE = {
    "test_fit": "_coef_grads",
    "test_gradient": "_loss_grad_lbfgs",
    "test_learning_rate_warmstart": "_optimizer",
    "test_adaptive_learning_rate": "_optimizer",
    "test_n_iter_no_change": "_no_improvement_count",
    "test_n_iter_no_change_inf": "_no_improvement_count",
}
ESTIMATORS = (fastnn.MLPClassifier, fastnn.MLPRegressor)


def _tests():
    """Return scikit-learn's tests by name; empty if its tests are not installed."""
    try:
        spec = importlib.util.find_spec(MODULE)
    except ModuleNotFoundError:
        spec = None
    if spec is None:
        return {}
    module = types.ModuleType(MODULE)
    with pytest.MonkeyPatch.context() as patch:
        for estimator in ESTIMATORS:
            patch.setattr(sklearn.neural_network, estimator.__name__, estimator)
        exec(compile(Path(spec.origin).read_text(encoding="utf-8"), spec.origin, "exec"), vars(module))
    assert module.MLPClassifier is fastnn.MLPClassifier
    return {name: test for name, test in vars(module).items() if name.startswith("test_")}


TESTS = _tests()
globals().update({name: test for name, test in TESTS.items() if name not in PRIVATE})


@pytest.fixture
def global_random_seed():
    return 42


@pytest.fixture(autouse=True)
def _arithmetic_as_in_scikit_learn(request, monkeypatch):
    """Make float64 the default of `dtype`, except where a test wants the results of float32 inputs in float32."""
    wanted = getattr(request.node, "callspec", None)
    dtype = "float64" if wanted is None else getattr(wanted.params.get("dtype"), "__name__", "float64")
    for estimator in ESTIMATORS:
        monkeypatch.setitem(estimator.__init__.__kwdefaults__, "dtype", dtype)


@pytest.mark.skipif(not TESTS, reason="scikit-learn's tests are not installed")
def test_every_left_out_test_uses_what_is_private():
    for name in PRIVATE.keys() & TESTS.keys():
        assert f".{PRIVATE[name]}" in inspect.getsource(TESTS[name]), name
    assert len(PRIVATE.keys() & TESTS.keys()) < 0.2 * len(TESTS)
