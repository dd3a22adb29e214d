"""Ends the trials of a search by Optuna early: a callback that reports each epoch."""

from importlib import import_module
from typing import Any

from fastnn.checks import check_choice
from fastnn.errors import MissingDependencyError, SettingsError
from fastnn.training.callbacks import EpochEnd

_METRICS = ("validation_loss", "validation_accuracy", "loss", "accuracy")


class PruningCallback:
    """A callback that reports a metric of each epoch to a trial of Optuna, and ends the run if the trial is pruned.

    Optuna catches the exception and counts the trial as pruned.

    Parameters
    ----------
    trial : optuna.Trial
        The argument of the objective.
    monitor : {"validation_loss", "validation_accuracy", "loss", "accuracy"}
        The metric of `EpochRecord` to report. The direction of the study has to fit it: "maximize" for an accuracy.

    Raises
    ------
    SettingsError
        If `monitor` is no metric, or a run has none, such as a validation metric without validation data.
    MissingDependencyError
        If Optuna cannot be imported.
    optuna.TrialPruned
        From the run, if the study's pruner gives the trial up.

    Examples
    --------
    >>> import fastnn, optuna
    >>> data = fastnn.load_digits()
    >>> training, validation = fastnn.hold_out(data, 0.2)
    >>> def objective(trial):
    ...     network = fastnn.Network.for_data(training, (trial.suggest_int("units", 8, 32),))
    ...     rate = trial.suggest_float("learning_rate", 0.01, 1.0, log=True)
    ...     options = {"learning_rate": rate, "epochs": 5, "callbacks": [fastnn.PruningCallback(trial)]}
    ...     result = fastnn.train(network, training, validation=validation, **options)
    ...     return result.history[-1].validation_accuracy
    >>> optuna.logging.set_verbosity(optuna.logging.ERROR)
    >>> study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    >>> study.optimize(objective, n_trials=3)
    >>> sorted(study.best_params)
    ['learning_rate', 'units']
    """

    def __init__(self, trial: Any, monitor: str = "validation_accuracy") -> None:
        try:
            self._pruned = import_module("optuna").TrialPruned
        except ImportError as error:
            raise MissingDependencyError(
                f"PruningCallback needs optuna, which cannot be imported ({error}); run pip install optuna"
            ) from error
        self.monitor = check_choice("monitor", monitor, _METRICS)
        self._trial = trial

    def __call__(self, end: EpochEnd) -> None:
        """Report an epoch; raise TrialPruned if the trial is given up."""
        value = getattr(end.record, self.monitor)
        if value != value:
            raise SettingsError(f"monitor is {self.monitor!r}, which this run does not have, expected validation data")
        self._trial.report(value, end.record.epoch)
        if self._trial.should_prune():
            raise self._pruned(f"pruned after epoch {end.record.epoch} with {self.monitor} {value:.4g}")
