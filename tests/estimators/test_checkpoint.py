"""`fit(..., checkpoint=)`: a fit that was stopped anywhere goes on to the estimator that was never stopped."""

import warnings

import numpy as np
import pytest
import scipy.sparse

from fastnn import DataError, MLPClassifier, MLPRegressor, SettingsError, TrainingInterrupted, load_digits

pytestmark = [
    pytest.mark.usefixtures("copies_after_every_batch"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

FITS = {
    "adam": {},
    "early stopping": {"early_stopping": True, "n_iter_no_change": 3},
    "an adaptive rate": {"solver": "sgd", "learning_rate": "adaptive", "learning_rate_init": 0.3},
    "dropout and weights": {"dropout": 0.2, "class_weight": "balanced"},
    "no shuffle": {"shuffle": False, "schedule": "step:0.5,3"},
    "float64": {"dtype": "float64", "backend": "numpy"},
}


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    return data.images[:400] / 16, data.labels[:400]


def _make(**parameters):
    return MLPClassifier(**{"hidden_layer_sizes": 12, "random_state": 0, "max_iter": 8, **parameters})


def _bits(fitted):
    arrays = [array.tobytes() for array in (*fitted.coefs_, *fitted.intercepts_)]
    scores = (fitted.validation_scores_, fitted.best_validation_score_, fitted.best_loss_)
    return arrays, fitted.loss_curve_, scores, fitted.n_iter_, fitted.t_


@pytest.mark.parametrize("name", FITS)
def test_a_stopped_fit_goes_on_to_the_same_bits(name, digits, tmp_path, stop_after):
    whole, file = _make(**FITS[name]).fit(*digits), tmp_path / "fit.safetensors"
    for copies in (6, 5, 4):  # two steps per epoch; each copy but the first is after a step
        stop_after(copies)
        with pytest.raises(TrainingInterrupted):
            _make(**FITS[name]).fit(*digits, checkpoint=file)
    stop_after(0)
    for _ in range(2):  # the second fit finds that the first has ended
        assert _bits(_make(**FITS[name]).fit(*digits, checkpoint=file)) == _bits(whole)


def test_a_restored_fit_can_be_trained_further(digits, tmp_path):
    whole = _make().fit(*digits, checkpoint=tmp_path / "fit")
    restored = _make().fit(*digits, checkpoint=tmp_path / "fit")
    for each in (whole, restored):
        each.random_state = 1
        each.partial_fit(*digits)
    assert _bits(restored) == _bits(whole)


@pytest.mark.parametrize("n_targets", [1, 3])
def test_a_regression_of_sparse_rows_goes_on(tmp_path, stop_after, n_targets):
    rng = np.random.default_rng(0)
    X = scipy.sparse.random_array((300, 20), density=0.2, rng=rng, format="csr")
    y = np.asarray(X @ rng.normal(size=(20, n_targets))).squeeze()
    parameters = {"hidden_layer_sizes": 8, "random_state": 0, "max_iter": 6, "early_stopping": n_targets == 1}
    whole = MLPRegressor(**parameters).fit(X, y)
    stop_after(7)
    made = [MLPRegressor(**parameters) for _ in range(2)]
    with pytest.raises(TrainingInterrupted):
        made[0].fit(X, y, checkpoint=tmp_path / "fit")
    stop_after(0)
    assert _bits(made[1].fit(X, y, checkpoint=tmp_path / "fit")) == _bits(whole)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"alpha": 0.5}, "l2 was 0.0001, found 0.5"),
        ({"batch_size": 50}, "batch_size was 200, found 50"),
        ({"learning_rate_init": 0.5}, "learning_rate was 0.001, found 0.5"),
        ({"beta_1": 0.5}, "optimizer was"),
        ({"hidden_layer_sizes": (13,)}, "the checkpoint is of Network"),
        ({"tol": 0.5}, "tol was 0.0001 in the fit to continue, found 0.5"),
        ({"n_iter_no_change": 3}, "n_iter_no_change was 10 in the fit to continue, found 3"),
        ({"early_stopping": True}, "validation data was none"),
        ({"schedule": "cosine"}, "schedule was None in the fit to continue, found 'cosine'"),
        ({"shuffle": False}, "shuffle was"),
        ({"warm_start": True}, None),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_other_parameters_are_refused_by_name(parameters, words, digits, tmp_path, stop_after):
    file = tmp_path / "fit"
    stop_after(5)
    with pytest.raises(TrainingInterrupted):
        _make().fit(*digits, checkpoint=file)
    stop_after(0)
    if words is None:  # it matters only to an estimator that is fitted
        assert _bits(_make(**parameters).fit(*digits, checkpoint=file)) == _bits(_make().fit(*digits))
        return
    with pytest.raises((SettingsError, DataError), match=words) as refused:
        _make(**parameters).fit(*digits, checkpoint=file)
    assert "force" not in str(refused.value)


def test_other_data_and_wrong_arguments_are_refused(digits, tmp_path):
    X, y = digits
    file = tmp_path / "fit"
    fitted = _make(warm_start=True).fit(X, y, checkpoint=file)
    with pytest.raises(DataError, match="training data was"):
        _make().fit(X[::-1], y, checkpoint=file)
    with pytest.raises(DataError, match="sample weights was none"):
        _make().fit(X, y, sample_weight=np.linspace(0, 1, len(y)), checkpoint=file)
    for estimator, path, words in (
        (fitted, file, "checkpoint is given with warm_start=True"),
        (_make(), 3, "checkpoint is a int, expected a path or a Checkpoint"),
        (_make(solver="lbfgs"), tmp_path / "new", "checkpoint is given with L-BFGS"),
    ):
        with pytest.raises(ValueError, match=words):
            estimator.fit(X, y, checkpoint=path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fitted.predict(X[:1]).shape == (1,)
