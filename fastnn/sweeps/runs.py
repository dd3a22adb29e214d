"""The runs of a sweep: what all of them share, what each has of its own, and `run_one`, which runs one of them."""

import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np

from fastnn.backends.arguments import check_config
from fastnn.backends.choice import lasting_backend
from fastnn.backends.threads import share_of_cores
from fastnn.checks import is_integer, short
from fastnn.datasets.dataset import Dataset
from fastnn.errors import DivergenceError, FastnnError, SettingsError
from fastnn.evaluation.evaluate import RegressionEvaluation, evaluate_model
from fastnn.network import Network
from fastnn.network.layers import parse_layers
from fastnn.network.network import hidden_layers
from fastnn.optim.config import TrainingConfig
from fastnn.runs.plan import Plan
from fastnn.suggestions import did_you_mean
from fastnn.sweeps.grid import plain_value
from fastnn.sweeps.record import DIVERGED, FAILED, SweepRecord
from fastnn.training.blocks import check_in_memory
from fastnn.training.callbacks import BatchStart, Callback
from fastnn.training.checkpoint import bit_versions
from fastnn.training.frozen import trained_part
from fastnn.training.result import TrainingResult
from fastnn.training.train import train

# The settings of a network that a sweep can vary; all others are those of `TrainingConfig`.
NETWORK_SETTINGS = ("hidden", "layers", "activation", "initializer", "dtype")
_USUAL = {"activation": "relu", "initializer": "auto", "dtype": "float32"}
# How each run gets its own callbacks.
MakeCallbacks = Callable[["Run"], Sequence[Callback]]
# Parts of an epoch, between which a run can be stopped, take about so many seconds. The first one has so many batches.
_SECONDS_OF_PART, _FIRST_PART = 0.5, 64


class Run(NamedTuple):
    """A run of a sweep before it starts.

    Attributes
    ----------
    settings : dict
        The settings that vary, as they were given.
    seed : int
    config : TrainingConfig
        All settings of the training.
    network : dict
        The arguments of `Network.for_data`; empty if all runs start from one network.
    key : str
        A digest of all that determines the result, except the data.
    """

    settings: dict[str, Any]
    seed: int
    config: TrainingConfig
    network: dict[str, Any]
    key: str

    @property
    def plain_settings(self) -> dict[str, Any]:
        """The settings that vary, as values that JSON can store."""
        return {name: plain_value(value) for name, value in self.settings.items()}


@dataclass(frozen=True)
class Base:
    """What all runs of a sweep have in common.

    plan: the data, and a network that fits them: the one that all runs start from, or one with their inputs and outputs
    configure: returns the settings for hidden layers, activations and given settings
    network: the settings of the network that do not vary; None: the runs start from the network of `plan`
    given: the settings of `TrainingConfig` that do not vary
    sample_weight: (N,), or None
    make_callbacks: returns the callbacks of a run, or None
    has_test: whether the runs are evaluated on the test set of `plan`
    """

    plan: Plan
    configure: Callable[[Sequence[Any], Any, dict[str, Any]], TrainingConfig]
    network: dict[str, Any] | None
    given: dict[str, Any]
    sample_weight: np.ndarray | None = None
    make_callbacks: MakeCallbacks | None = None
    has_test: bool = False

    def run(self, settings: Mapping[str, Any], seed: int) -> Run:
        """Return the run with these settings; SettingsError for one that is unknown or out of range."""
        own = {name: value for name, value in settings.items() if name in NETWORK_SETTINGS}
        given = {**self.given, **{name: value for name, value in settings.items() if name not in own}}
        for name, hint in (("seed", "seeds=[...]"), ("backend", 'backend="numba" for all runs')):
            if name in settings:
                raise SettingsError(f"settings have {name}, expected {hint}")
        if self.network is None and own:
            raise SettingsError(f"settings have {next(iter(own))}, but all runs start from one network")
        network = {} if self.network is None else network_arguments(self.network, own)
        hidden, activation = network.get("hidden", ()), network.get("activation", "relu")
        check_names(given)
        config = self.configure(hidden, activation, {**given, "seed": seed})
        backend = lasting_backend(config.backend, self.plan.network)
        # NumPy's bits depend on the number of threads of its BLAS.
        threads = config.threads or (1 if backend == "numpy" else None)
        config = config.replace(backend=backend, threads=threads)
        check_in_memory(config)
        check_config(*trained_part(self.plan.network, config), len(self.plan.splits.train))
        return Run(dict(settings), seed, config, network, self._key(config, network))

    def _key(self, config: TrainingConfig, network: dict[str, Any]) -> str:
        settings = {name: value for name, value in config.to_dict().items() if name != "threads"}
        named = dict(network)
        if network:  # the layers as they will be, so that two spellings of one network are one
            named["hidden"] = repr(hidden_layers(network["hidden"], named.pop("activation")))
        callbacks = None if self.make_callbacks is None else plain_value(self.make_callbacks)
        about = [settings, named, callbacks, self.plan.standardize, self.has_test]
        return sha256(json.dumps(about, sort_keys=True, default=repr).encode()).hexdigest()[:32]

    def shared(self) -> "Shared":
        """Return what a run needs of the base, which is sent to the workers once."""
        plan = self.plan
        return Shared(
            plan,
            plan.for_training(plan.splits.train),
            plan.for_training(plan.splits.validation),
            self.sample_weight,
            self.make_callbacks,
            self.has_test,
            self.versions,
        )

    @property
    def versions(self) -> dict[str, str]:
        """The versions on which the bits of the runs depend."""
        return bit_versions(lasting_backend(self.plan.config.backend, self.plan.network))


@dataclass(frozen=True)
class Shared:
    """The part of `Base` that runs need."""

    plan: Plan
    training: Dataset
    validation: Dataset
    sample_weight: np.ndarray | None
    make_callbacks: MakeCallbacks | None
    has_test: bool
    versions: dict[str, str]  # those on which bits depend


def network_arguments(fixed: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of `Network.for_data`: `layers` replaces `hidden`, and the other way round."""
    if {"hidden", "layers"} <= own.keys():
        raise SettingsError("settings have hidden and layers, expected one of them")
    network = {**_USUAL, **fixed, **own}
    if "layers" in own or ("layers" in network and "hidden" not in own):
        text = network["layers"]
        if not isinstance(text, str):
            raise SettingsError(f"layers is {short(text)}, expected a text such as 'conv:6x5,pool:2,120'")
        network["hidden"] = parse_layers(text)
    network.pop("layers", None)
    with suppress(TypeError):  # `Network` refuses what is no dtype
        network["dtype"] = np.dtype(network["dtype"]).name
    hidden = network.get("hidden", ())
    network["hidden"] = (hidden,) if is_integer(hidden) else tuple(hidden)
    return network


def check_names(given: Mapping[str, Any]) -> None:
    """Raise SettingsError for a name that is no setting."""
    known = [*NETWORK_SETTINGS, *TrainingConfig.__dataclass_fields__]
    for name in given:
        if name not in known:
            raise SettingsError(f"{name!r} is no setting{did_you_mean(str(name), known)}, expected {', '.join(known)}")


class Stopped(BaseException):
    """Ends a run that nobody waits for any more."""


class Pacer:
    """A callback that stops a run when the sweep ends: between epochs, and between parts of a long one."""

    def __init__(self, is_over: Callable[[], bool]) -> None:
        self._is_over = is_over
        self._size, self._seconds_before = _FIRST_PART, 0.0

    def __call__(self, _: Any) -> None:
        """Stop after an epoch."""
        self._check()

    def before_batches(self, start: BatchStart) -> int:
        """Stop between two parts; return the number of batches of the next part."""
        self._check()
        now = time.monotonic()
        if start.batch and now - self._seconds_before < _SECONDS_OF_PART / 2:
            self._size *= 2
        self._seconds_before = now
        return self._size

    def _check(self) -> None:
        if self._is_over():
            raise Stopped


def run_one(
    shared: Shared, run: Run, threads: int | None = None, is_over: Callable[[], bool] | None = None
) -> SweepRecord:
    """Run one run and return its record. It is a function of its arguments: the bits are those of `train` alone.

    threads: the share of the cores; None: `usable_cores` of the process
    is_over: whether the sweep ends, which is asked every half second; the run then raises `Stopped`

    An error of the run is in the record.
    """
    try:
        found = bit_versions(run.config.backend)
        if found != shared.versions:
            raise SettingsError(_versions_text(found, shared.versions))
        if threads is None:
            result = _trained(shared, run, is_over)
        else:
            with share_of_cores(threads):
                result = _trained(shared, run, is_over)
        record = _record(run, result)
        return replace(record, **_test_metrics(shared, result)) if shared.has_test else record
    except DivergenceError as error:
        return _failed(run, DIVERGED, error)
    except Exception as error:
        return _failed(run, FAILED, error)


def _versions_text(found: dict[str, str], expected: dict[str, str]) -> str:
    differing = [name for name in {**expected, **found} if found.get(name) != expected.get(name)]
    texts = [f"{name} {found.get(name, 'none')}, expected {expected.get(name, 'none')}" for name in differing]
    return f"the worker on {platform.node() or 'this machine'} has {'; '.join(texts)}: its bits would differ"


def initial_network(plan: Plan, training: Dataset, run: Run) -> Network:
    """Return the network that a run starts from: its own, with random weights by its seed, or that of the plan."""
    if not run.network:
        return plan.network
    # The scale of the inputs is that of the plan, which has looked at all data for it.
    settings = {"input_scale": plan.network.input_transform, "seed": run.seed, **run.network}
    return Network.for_data(training, settings.pop("hidden"), **settings)


def _trained(shared: Shared, run: Run, is_over: Callable[[], bool] | None) -> TrainingResult:
    callbacks: list[Callback] = [] if shared.make_callbacks is None else list(shared.make_callbacks(run))
    if is_over is not None:
        callbacks.append(Pacer(is_over))
    return train(
        initial_network(shared.plan, shared.training, run),
        shared.training,
        validation=shared.validation,
        sample_weight=shared.sample_weight,
        callbacks=callbacks,
        config=run.config,
    )


def _record(run: Run, result: TrainingResult) -> SweepRecord:
    history = result.history
    best = next((record for record in history if record.epoch == result.best_epoch), None)
    metrics: dict[str, Any] = {} if best is None else {name: _number(getattr(best, name)) for name in _METRICS}
    return SweepRecord(
        settings=run.plain_settings,
        seed=run.seed,
        stopped=result.stopped,
        epochs=len(history),
        best_epoch=result.best_epoch,
        **metrics,
        seconds=float(history.column("seconds").sum()),
        digest=result.digest(),
        backend=result.backend,
        key=run.key,
    )


_METRICS = ("loss", "accuracy", "validation_loss", "validation_accuracy")


def _number(value: float) -> float | None:
    """Return a metric as JSON can store it: None for one that is not finite."""
    return float(value) if np.isfinite(value) else None


def _failed(run: Run, stopped: str, error: Exception) -> SweepRecord:
    """Return the record of a run that an error ended, with the metrics of its last good epoch if it has any."""
    kind = "" if isinstance(error, FastnnError) else f"{type(error).__name__}: "
    text = f"{kind}{' '.join(str(error).split()) or type(error).__name__}".removesuffix(": ")
    result = getattr(error, "result", None)
    values: dict[str, Any] = {"stopped": stopped, "error": text, "validation_loss": None, "validation_accuracy": None}
    if isinstance(result, TrainingResult):
        return replace(_record(run, result), **values, loss=None, accuracy=None, digest="")
    return SweepRecord(settings=run.plain_settings, seed=run.seed, backend=run.config.backend, key=run.key, **values)


def _test_metrics(shared: Shared, result: TrainingResult) -> dict[str, Any]:
    scores = evaluate_model(shared.plan.model(result.network), shared.plan.splits.test, result.backend)
    if isinstance(scores, RegressionEvaluation):
        return {"test_r2": _number(scores.r2), "test_rmse": _number(scores.rmse), "test_loss": _number(scores.loss)}
    return {"test_accuracy": _number(scores.accuracy), "test_loss": _number(scores.loss)}


def failed_record(run: Run, error: Exception) -> SweepRecord:
    """Return the record of a run that could not be run, because its worker was lost or could not be reached."""
    return _failed(run, FAILED, error)
