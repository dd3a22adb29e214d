"""A `partial_fit` goes on with the trainer of the one before it, and nobody can tell, except by its cost."""

import copy
import gc
import pickle
import tracemalloc
import warnings
import weakref

import numpy as np
import pytest
import scipy.sparse
from sklearn import neural_network
from sklearn.base import clone
from sklearn.metrics import r2_score

import fastnn
from fastnn import MLPClassifier, MLPRegressor
from fastnn.backends import compiled, reference
from fastnn.estimators import base, continuation
from fastnn.estimators.regressor import r2

SMALL = {"hidden_layer_sizes": (7, 5), "random_state": 3, "n_threads": 1}
RNG = np.random.default_rng(0)
X, NUMBERS, LABELS = RNG.standard_normal((40, 6)), RNG.standard_normal(40), RNG.integers(0, 3, 40)


@pytest.fixture
def ordinary(monkeypatch):
    """Return a function that calls a function without what earlier calls of `partial_fit` have left."""

    def call(function):
        with monkeypatch.context() as patch:
            patch.setattr(base, "take", lambda estimator: None)
            return function()

    return call


@pytest.fixture
def trainers(monkeypatch):
    """Return a list with one entry for each trainer that has been laid out."""
    made = []
    for module in (compiled, reference):
        new = module.new_trainer
        monkeypatch.setattr(module, "new_trainer", lambda *args, new=new: made.append(1) or new(*args))
    return made


def fitted(model):
    """Return everything that a fit has set, except times."""
    state = continuation.as_state(model._state)
    slots = [] if state is None else [array for slot in state.slots for arrays in slot for array in arrays]
    history = [column.tobytes() for name, column in model._history.arrays().items() if name != "seconds"]
    arrays = [*model.coefs_, *model.intercepts_, *slots]
    facts = (model.n_iter_, model.t_, model.loss_, model.loss_curve_, model.best_loss_, model._watch_state)
    return [array.tobytes() for array in arrays], history, facts, None if state is None else state[1:]


def rows_of_calls(form):
    """Yield inputs and row numbers of some calls, of different numbers of rows."""
    inputs = X.astype(np.float32)
    if form == "bytes":
        inputs = (X > 0.8).astype(np.uint8)
    elif form == "csr":
        inputs = scipy.sparse.csr_array(np.where(X > 0.8, X, 0))
    elif form == "mixed":
        inputs = np.where(X > 0.8, X, 0)
    for number, rows in enumerate((range(40), range(7), range(7, 14), range(1), range(40), range(40), range(3, 33))):
        part = inputs[list(rows)]
        yield (X if form == "mixed" and number % 2 else inputs)[list(rows)] if form == "mixed" else part, list(rows)


SETTINGS = {
    "adam": {},
    "sgd": {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 0.05},
    "adaptive": {"solver": "sgd", "learning_rate": "adaptive", "tol": 10.0, "n_iter_no_change": 1},
    "batches": {"batch_size": 4, "alpha": 0.1},
    "in order": {"shuffle": False, "schedule": "step:0.5,2"},
    "standardized": {"standardize": True},
    "dropout": {"dropout": 0.3},
    "float64": {"dtype": "float64", "activation": "tanh"},
    "no hidden layer": {"hidden_layer_sizes": ()},
}


@pytest.mark.filterwarnings("ignore:batch_size")
@pytest.mark.parametrize(
    ("form", "backend"),
    [("numbers", "numba"), ("bytes", "numba"), ("csr", "numba"), ("mixed", "numba"), ("mixed", "numpy")],
)
@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_many_calls_give_the_bits_of_calls_on_their_own(kind, form, backend, ordinary):
    y, classes = (LABELS, {"classes": [0, 1, 2]}) if kind is MLPClassifier else (NUMBERS, {})
    for name, settings in SETTINGS.items():
        if form == "csr" and name == "standardized":
            continue
        model, expected = (kind(**{**SMALL, "backend": backend, **settings}) for _ in range(2))
        for inputs, rows in rows_of_calls(form):
            model.partial_fit(inputs, y[rows], **classes)
            ordinary(lambda: expected.partial_fit(inputs, y[rows], **classes))  # noqa: B023
            assert fitted(model) == fitted(expected), name


def test_many_calls_give_the_weights_of_scikit_learn():
    settings = {"hidden_layer_sizes": (9,), "random_state": 0, "alpha": 1e-3}
    ours, theirs = MLPRegressor(dtype="float64", **settings), neural_network.MLPRegressor(**settings)
    for at in range(0, 40, 8):
        for model in (ours, theirs):
            for _ in range(20):
                model.partial_fit(X[at : at + 8], NUMBERS[at : at + 8])
    for mine, other in zip(ours.coefs_ + ours.intercepts_, theirs.coefs_ + theirs.intercepts_, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-9)
    assert len(ours.history_) == 100
    assert ours.history_["epoch"].tolist() == list(range(1, 101))


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_the_trainer_is_laid_out_once(backend, trainers):
    model = MLPClassifier(**SMALL, backend=backend)
    for rows in (40, 40, 5, 40, 12, 1, 40):
        model.partial_fit(X[:rows], LABELS[:rows], classes=[0, 1, 2])
    assert len(trainers) == 2  # that of the first call, and the one that is kept


def test_a_call_costs_the_same_memory_however_many_came_before():
    model = MLPRegressor(**SMALL, backend="numpy")

    def peak_of_a_call():
        gc.collect()
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        model.partial_fit(X, NUMBERS)
        return tracemalloc.get_traced_memory()[1] - before

    for _ in range(5):
        model.partial_fit(X, NUMBERS)
    tracemalloc.start()
    try:
        peak_of_a_call()
        first = peak_of_a_call()
        model._history = model._history.continued([model._history[0]] * 20_000)
        peak_of_a_call()  # may enlarge the room for records
        assert peak_of_a_call() < first + 10_000
    finally:
        tracemalloc.stop()
    assert len(model.history_) == 20_009


def changed_parameter(model):
    model.set_params(learning_rate_init=0.1, alpha=0.5)


def changed_list(model):
    model.activation[0] = "tanh"


def changed_solver(model):
    model.solver = "sgd"


def changed_dtype(model):
    model.dtype = "float64"


def assigned_weights(model):
    model.coefs_ = [array / 2 for array in model.coefs_]


def assigned_biases(model):
    model.intercepts_ = [array + 1 for array in model.intercepts_]


def weights_in_place(model):
    model.coefs_[1][:] = 0.25


def another_fit(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.set_params(max_iter=2).fit(X, NUMBERS)


@pytest.mark.parametrize(
    "change",
    [
        changed_parameter, changed_list, changed_solver, changed_dtype, assigned_weights, assigned_biases,
        weights_in_place, another_fit,
    ],
)  # fmt: skip
def test_changes_between_calls_take_effect(change, ordinary):
    model, expected, unchanged = (MLPRegressor(**SMALL, activation=["relu", "relu"]) for _ in range(3))
    for each in (model, unchanged):
        for _ in range(3):
            each.partial_fit(X, NUMBERS)
    ordinary(lambda: [expected.partial_fit(X, NUMBERS) for _ in range(3)])
    for each in (model, expected):
        change(each)
    for _ in range(3):
        model.partial_fit(X, NUMBERS)
        unchanged.partial_fit(X, NUMBERS)
    ordinary(lambda: [expected.partial_fit(X, NUMBERS) for _ in range(3)])
    assert fitted(model) == fitted(expected)
    assert fitted(model)[0] != fitted(unchanged)[0]


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_share_nothing(duplicate):
    model, whole = MLPRegressor(**SMALL), MLPRegressor(**SMALL)
    for _ in range(4):
        model.partial_fit(X, NUMBERS)
    other = duplicate(model)
    for each in (model, other, model, other):
        each.partial_fit(X, NUMBERS)
    for _ in range(6):
        whole.partial_fit(X, NUMBERS)
    assert fitted(model) == fitted(other) == fitted(whole)
    other.partial_fit(X, -NUMBERS)
    assert fitted(model) == fitted(whole) != fitted(other)
    assert not hasattr(clone(model), "network_")


def test_a_pickle_has_neither_the_trainer_nor_the_data():
    model = MLPClassifier(**SMALL)
    model.partial_fit(X, LABELS, classes=[0, 1, 2])
    before = len(pickle.dumps(model))
    for _ in range(100):
        model.partial_fit(X, LABELS)
    assert len(pickle.dumps(model)) < before + 100 * 60  # 56 bytes for the metrics of an epoch


@pytest.mark.parametrize("form", ["numbers", "csr", "sparse array"])
@pytest.mark.parametrize("backend", ["numba", "numpy"])
@pytest.mark.parametrize("hidden", [(4,), (300,)])
def test_no_data_are_kept(backend, form, hidden):
    model = MLPRegressor(hidden_layer_sizes=hidden, backend=backend, n_threads=1)
    inputs = X.astype(np.float32)
    if form != "numbers":
        inputs = np.where(X > 0.8, inputs, 0).astype(np.float32)
    for _ in range(4):
        given = scipy.sparse.csr_array(inputs) if form == "csr" else inputs.copy()
        model.partial_fit(given, NUMBERS)
        data = weakref.ref(given.data if form == "csr" else given)
        del given
        gc.collect()
        assert data() is None
    kept = weakref.ref(continuation._KEPT[id(model)][1])
    del model
    gc.collect()
    assert kept() is None


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_a_call_that_diverges_changes_nothing_and_the_next_one_goes_on(backend, ordinary):
    model, expected = (MLPRegressor(**SMALL, solver="sgd", backend=backend) for _ in range(2))
    for _ in range(3):
        model.partial_fit(X, NUMBERS)
    ordinary(lambda: [expected.partial_fit(X, NUMBERS) for _ in range(3)])
    before = fitted(model)
    with pytest.raises(fastnn.DivergenceError, match="diverged in epoch 4") as caught:
        model.partial_fit(X.astype(np.float32) * 1e30, NUMBERS)
    assert [array.tobytes() for array in caught.value.result.network.weights] == before[0][:3]
    assert fitted(model) == before
    model.partial_fit(X, NUMBERS)
    ordinary(lambda: expected.partial_fit(X, NUMBERS))
    assert fitted(model) == fitted(expected)


def test_ctrl_c_leaves_the_model_of_the_call_before(monkeypatch):
    model = MLPRegressor(**SMALL, backend="numpy")
    for _ in range(3):
        model.partial_fit(X, NUMBERS)
    before = [array.tobytes() for array in model.coefs_]

    def interrupt(self, *_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("fastnn.backends.layerwise.Trainer.run_epoch", interrupt)
        with pytest.raises(fastnn.TrainingInterrupted) as caught:
            model.partial_fit(X, NUMBERS)
    assert len(caught.value.result.history) == 0
    assert [array.tobytes() for array in model.coefs_] == before
    assert len(model.partial_fit(X, NUMBERS).history_) == 4


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize(
    ("inputs", "labels", "message"),
    [
        (np.where(X > 2, np.nan, X), LABELS, "NaN"),
        (X[:, :5], LABELS, "5 features"),
        (X, LABELS[:-1], "inconsistent"),
        (X, LABELS + 1, "new classes"),
        (X, np.where(LABELS == 0, -1, LABELS), "new classes"),
        (X * 1e300, LABELS, "infinity|too large"),
        (X[:0], LABELS[:0], "0 sample"),
        (X, "labels", "y is the string"),
    ],
)
def test_wrong_data_are_refused_in_every_call(inputs, labels, message):
    model = MLPClassifier(**SMALL)
    for _ in range(3):
        model.partial_fit(X, LABELS, classes=[0, 1, 2])
    before = fitted(model)
    with pytest.raises(ValueError, match=message):
        model.partial_fit(inputs, labels)
    assert fitted(model) == before


@pytest.mark.parametrize("classes", [[5, 7], ["a", "b", "c"], [False, True], [1.5, 2.5]])
def test_labels_of_every_type(classes, ordinary):
    labels = np.array(classes)[LABELS % len(classes)]
    for given in (labels, labels.tolist(), labels.astype(object)):
        model, expected = (MLPClassifier(**SMALL) for _ in range(2))
        if labels.dtype.kind == "f":
            with pytest.raises(ValueError, match="Unknown label type"):
                model.partial_fit(X, given, classes=classes)
            continue
        for _ in range(4):
            model.partial_fit(X, given, classes=classes)
            ordinary(lambda: expected.partial_fit(X, given, classes=classes))  # noqa: B023
        assert fitted(model) == fitted(expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("weights", [None, "float32", "float64"])
def test_r2_has_the_bits_of_scikit_learn(dtype, weights):
    rng = np.random.default_rng(1)
    for n_rows, n_targets in ((2, 1), (44, 1), (300, 3)):
        targets = rng.standard_normal((n_rows, n_targets)).astype(dtype)
        outputs = targets + rng.standard_normal(targets.shape).astype(dtype) / 3
        outputs[:, n_targets // 2 :] = targets[:, n_targets // 2 :] if n_targets > 2 else outputs
        targets[:, 2:] = 1
        outputs[:, 2:] = 2
        weight = None if weights is None else rng.uniform(0, 3, n_rows).astype(weights)
        assert r2(targets, outputs, weight) == r2_score(targets, outputs, sample_weight=weight)
