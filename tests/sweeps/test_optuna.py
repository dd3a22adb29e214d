"""The pruning callback of Optuna's trials."""

import subprocess
import sys

import optuna
import pytest

import fastnn
from fastnn.errors import MissingDependencyError, SettingsError
from fastnn.sweeps.optuna import PruningCallback

EPOCHS = 4


@pytest.fixture(autouse=True)
def silent():
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(before)


def _study(pruner, rates, **options):
    """A study that trains once with each learning rate."""
    training, validation = fastnn.hold_out(fastnn.load_digits(), 0.2)

    def objective(trial):
        rate = trial.suggest_categorical("learning_rate", rates)
        network = fastnn.Network.for_data(training, (8,))
        settings = {"learning_rate": rate, "epochs": EPOCHS, "callbacks": [PruningCallback(trial)]}
        result = fastnn.train(network, training, validation=validation, **settings)
        return result.history[-1].validation_accuracy

    study = optuna.create_study(direction="maximize", pruner=pruner)
    for rate in rates:
        study.enqueue_trial({"learning_rate": rate})
    study.optimize(objective, n_trials=len(rates), **options)
    return study


def test_bad_trials_are_pruned_and_good_ones_run_to_their_end():
    pruner = optuna.pruners.MedianPruner(n_startup_trials=1, n_warmup_steps=2)
    good, bad = _study(pruner, [0.3, 1e-6]).trials
    assert (good.state, bad.state) == (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    assert list(good.intermediate_values) == [1, 2, 3, 4]
    assert good.value == good.intermediate_values[EPOCHS]
    assert list(bad.intermediate_values) == [1, 2]


def test_nothing_is_pruned_without_a_pruner():
    study = _study(optuna.pruners.NopPruner(), [1e-6, 0.3])
    assert {trial.state for trial in study.trials} == {optuna.trial.TrialState.COMPLETE}
    assert study.best_params == {"learning_rate": 0.3}


def test_a_metric_that_the_run_does_not_have_is_refused(monkeypatch):
    data = fastnn.load_digits()
    with pytest.raises(SettingsError, match="monitor is 'accurcy'"):
        PruningCallback(None, "accurcy")
    with pytest.raises(SettingsError, match="expected validation data"):
        fastnn.train(fastnn.Network.for_data(data, (4,)), data, epochs=1, callbacks=[PruningCallback(None)])
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingDependencyError, match="pip install optuna"):
        PruningCallback(None)


def test_no_engine_is_imported_before_it_is_used():
    program = "import fastnn, sys; fastnn.sweep; found = {'optuna', 'distributed', 'joblib', 'dask'} & set(sys.modules)"
    run = subprocess.run([sys.executable, "-c", f"{program}; print(found)"], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"
