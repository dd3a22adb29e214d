"""`sweep`: trains a network for every combination of settings and every seed, and compares them on validation data."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from fastnn.backends.arguments import check_sample_weight
from fastnn.checks import check_choice, is_number
from fastnn.datasets.convert import as_dataset
from fastnn.datasets.dataset import Dataset
from fastnn.datasets.splits import Splits, hold_out
from fastnn.errors import SettingsError
from fastnn.evaluation.evaluate import check_fit
from fastnn.models import as_network
from fastnn.network import Network
from fastnn.optim.config import TrainingConfig
from fastnn.runs.plan import Plan, default_hidden, make_plan
from fastnn.runs.recipes import Recipe, get_recipe
from fastnn.sweeps.engines import in_processes, in_threads
from fastnn.sweeps.grid import checked_seeds, combinations, settings_text
from fastnn.sweeps.journal import Journal
from fastnn.sweeps.progress import SweepProgress
from fastnn.sweeps.record import SweepRecord
from fastnn.sweeps.result import SweepResult
from fastnn.sweeps.runs import NETWORK_SETTINGS, Base, MakeCallbacks, Run, Shared, check_names, network_arguments

ENGINES = ("threads", "processes", "dask")
# The fraction of the user's data that is held out for validation, and the seed that chooses it.
_HELD_OUT, _SPLIT_SEED = 0.1, 0


def sweep(
    base: Any = None,
    data: Any = None,
    settings: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Sequence[Any]]] | None = None,
    *,
    seeds: Sequence[int] = range(3),
    validation: Any = None,
    test: Any = None,
    sample_weight: np.ndarray | None = None,
    engine: str = "threads",
    jobs: int | None = None,
    client: Any = None,
    out: str | os.PathLike[str] | None = None,
    callbacks: MakeCallbacks | None = None,
    verbose: bool = False,
    config: TrainingConfig | None = None,
    **fixed: Any,
) -> SweepResult:
    """Train a network for every combination of some settings and every seed, and compare the combinations.

    Each run has the bits of `fastnn.train` alone with its settings, whatever the engine, the number of jobs and the
    order in which runs end. All runs are evaluated on the same validation data, by which settings are compared. The
    test set is not touched unless `test` asks for it.

    Parameters
    ----------
    base : str, Recipe, Network, Model or None
        What is varied: a recipe with its data, network and settings; a network whose weights all runs start from; or
        None for new networks that fit `data`. In a recipe and with None, the seed of a run draws the initial weights,
        too.
    data : Dataset, (images, labels) or None
        The training data; None: those of the recipe.
    settings : dict of str to sequence, or a list of such dicts
        The values of each setting that varies: of `hidden`, `layers`, `activation`, `initializer` and `dtype` of a new
        network, and of all fields of `TrainingConfig` but the seed and the backend. Every combination is trained; of a
        list, those of each dict. A value of `hidden` is a number of units or a sequence as in `Network.for_data`,
        one of `layers` a text such as "conv:6x5,pool:2,120".
    seeds : sequence of int
        Each combination is trained once with each seed.
    validation : Dataset, (images, labels), float or None
        The data that settings are compared by, or the fraction of `data` to hold out; the same for all runs. None:
        those of the recipe, or a tenth of `data`.
    test : bool, Dataset, (images, labels) or None
        Evaluate each trained network on these data, too; True: on those of the recipe. Nothing is chosen by the result.
    sample_weight : ndarray of shape (N,), or None
        As in `train`, for the samples to train on; with `validation` as data.
    engine : {"threads", "processes", "dask"}
        "threads" of this process share the data and the compiled kernels. "processes" of joblib map the data into their
        memory; they are for callbacks that hold the interpreter lock. "dask" runs one task per run on a cluster.
    jobs : int or None
        The number of runs at once of "threads" and "processes". The runs share the cores; None: as many runs as cores,
        of one thread each.
    client : distributed.Client, str or None
        The client of a Dask cluster, or the address of its scheduler; None: the current client.
    out : str or path, or None
        A folder for the journal: one line per finished run, on disk as soon as the run ends. The same call goes on with
        the runs that are missing, also with more seeds or values. A run that failed, unless it diverged, runs again.
    callbacks : function of a `Run`, or None
        Returns the callbacks of a run for `train`. For other engines than "threads", it has to be picklable.
    verbose : bool
        Whether to show the progress on stderr.
    config : TrainingConfig or None
        The settings that do not vary, if `base` is no recipe.
    **fixed
        Single settings that do not vary, of the network or of `TrainingConfig`: ``hidden=(64,)``, ``epochs=5``.

    Returns
    -------
    SweepResult

    Raises
    ------
    SettingsError
        If an argument or a setting is out of range or contradicts another, before anything is trained. An error of a
        single run, such as divergence, is in its record instead.
    DataError
        If the data do not fit, or `out` has runs that were trained on other data.
    FileError
        If `out` cannot be used, or another process uses it.
    MissingDependencyError
        If `engine` is "dask" and distributed cannot be imported.
    WorkerError
        If workers end or cannot be reached. Finished runs are in `out`.

    Examples
    --------
    >>> import fastnn
    >>> result = fastnn.sweep("digits", settings={"learning_rate": [0.01, 0.3]}, seeds=range(2), epochs=5)
    >>> result.best.settings
    {'learning_rate': 0.3}
    >>> data = fastnn.load_digits()
    >>> result = fastnn.sweep(None, data, {"hidden": [16, (32, 16)]}, seeds=[0], epochs=5, optimizer="adam")
    >>> [record.settings["hidden"] for record in result.records]
    [16, [32, 16]]
    """
    if isinstance(base, (str, Recipe)):
        if config is not None:
            raise SettingsError("config is given with a recipe, which has one, expected single settings")
        made = _of_recipe(get_recipe(base) if isinstance(base, str) else base, data, validation, test, fixed)
    else:
        made = _of_data(base, data, validation, test, fixed, config)
    weight = None
    if sample_weight is not None:
        if validation is None or is_number(validation):
            raise SettingsError("sample_weight is given, and validation is held out of data, expected validation data")
        plan = made.plan
        weight = check_sample_weight(sample_weight, len(plan.splits.train), plan.network.dtype)
    made = replace(made, sample_weight=weight, make_callbacks=callbacks)
    return run_sweep(made, settings, seeds, engine, jobs, client, out, verbose)


def run_sweep(
    base: Base,
    settings: Any,
    seeds: Any,
    engine: str = "threads",
    jobs: int | None = None,
    client: Any = None,
    out: str | os.PathLike[str] | None = None,
    verbose: bool = False,
) -> SweepResult:
    """Run the runs of a sweep that are not in its folder yet; the arguments are those of `sweep`."""
    check_choice("engine", engine, ENGINES)
    if client is not None and engine != "dask":
        raise SettingsError(f'client is given with the engine "{engine}", expected engine="dask"')
    if jobs is not None and engine == "dask":
        raise SettingsError('jobs is given with the engine "dask", expected None: its workers have numbers of threads')
    numbers = checked_seeds(seeds)
    runs = [base.run(point, seed) for point in combinations(settings) for seed in numbers]
    _check_different(runs)
    metric = "validation_loss" if base.plan.network.loss.is_correct is None else "validation_accuracy"
    with nullcontext() if out is None else Journal(out, _about(base)) as journal:
        records = _done(journal, runs)
        missing = [run for run in runs if run.key not in records]
        n_done = len(records)
        with (
            _progress(len(runs), n_done, verbose and bool(missing)) as update,
            _engine(engine, base.shared(), missing, jobs, client) as ended,
        ):
            for record in ended:
                records[record.key] = record
                if journal is not None:
                    journal.append(record)
                update(record)
    names = tuple(dict.fromkeys(name for run in runs for name in run.settings))
    folder = None if out is None else Path(out)
    return SweepResult(tuple(records[run.key] for run in runs), names, metric, folder, n_done)


def _check_different(runs: Sequence[Run]) -> None:
    """Raise SettingsError if two runs are the same, or cannot be told apart by the names of their functions."""
    found: dict[str, Run] = {}
    for run in runs:
        if run.key in found:
            first, second = (settings_text(each.plain_settings) for each in (found[run.key], run))
            raise SettingsError(
                f"two runs of seed {run.seed} are the same: {first}; {second}; expected different settings, and "
                "functions with different names"
            )
        found[run.key] = run


def _about(base: Base) -> dict[str, Any]:
    """Return what all runs are trained on, for the first line of the journal."""
    splits, network = base.plan.splits, base.plan.network
    about: dict[str, Any] = {
        "training data": _described(splits.train),
        "validation data": _described(splits.validation),
        "sample weights": None if base.sample_weight is None else _digest([base.sample_weight]),
        "initial network": None,
        "versions": base.versions,
    }
    if base.has_test:
        about["test data"] = _described(splits.test)
    if base.network is None:
        about["initial network"] = _digest([*network.weights, *network.biases, *network.statistics], repr(network))
    return about


def _described(data: Dataset) -> str:
    return f"{len(data):,} samples {data.digest()[:16]}"


def _digest(arrays: Sequence[np.ndarray], text: str = "") -> str:
    found = sha256(text.encode())
    for array in arrays:
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()[:16]


def _done(journal: Journal | None, runs: Sequence[Run]) -> dict[str, SweepRecord]:
    """Return the records of the runs that need not run again, by their keys."""
    if journal is None:
        return {}
    found = [(run, journal.records.get(run.key)) for run in runs]
    # What varies may have changed since.
    return {
        run.key: replace(record, settings=run.plain_settings)
        for run, record in found
        if record is not None and record.is_final
    }


@contextmanager
def _progress(total: int, n_done: int, verbose: bool) -> Iterator[Callable[[SweepRecord], None]]:
    if not verbose:
        yield lambda record: None
        return
    with closing(SweepProgress(total, n_done)) as progress:
        yield progress.update


@contextmanager
def _engine(
    name: str, shared: Shared, runs: Sequence[Run], jobs: int | None, client: Any
) -> Iterator[Iterator[SweepRecord]]:
    """Give the records of the runs as they end; at the end of the block, no run goes on."""
    if not runs:
        yield iter(())
    elif name == "dask":
        from fastnn.sweeps.on_dask import connected, on_dask

        with connected(client) as own, closing(on_dask(shared, runs, own)) as records:
            yield records
    else:
        engine = in_threads if name == "threads" else in_processes
        with closing(engine(shared, runs, jobs)) as records:
            yield records


def _of_recipe(recipe: Recipe, data: Any, validation: Any, test: Any, fixed: dict[str, Any]) -> Base:
    """Return the base of a sweep over a recipe, on its data or on others."""
    if data is None:
        if validation is not None:
            raise SettingsError("validation is given with the data of a recipe, expected None")
        if not (test is None or isinstance(test, (bool, np.bool_))):
            raise SettingsError("test is given as data with the data of a recipe, expected True or False")
        splits, has_test = recipe.load(_SPLIT_SEED), bool(test)
    else:
        splits, has_test = _splits(data, validation, test)
    network, given, standardize = parted(fixed)
    if not {"hidden", "layers"} & network.keys():
        network["hidden"] = recipe.hidden_layers

    def configure(hidden: Sequence[Any], activation: Any, given: dict[str, Any]) -> TrainingConfig:
        return recipe.configure(hidden, activation, **given)

    return planned(splits, configure, network, given, standardize, has_test=has_test)


def planned(
    splits: Splits,
    configure: Callable[[Sequence[Any], Any, dict[str, Any]], TrainingConfig],
    network: dict[str, Any],
    given: dict[str, Any],
    standardize: bool | None = None,
    **others: Any,
) -> Base:
    """Return the base of a sweep over new networks on data that are prepared as `fastnn train` does.

    others: further fields of `Base`
    """
    settings = network_arguments(network, {})
    hidden, activation = settings.pop("hidden"), settings.pop("activation")
    check_names(given)
    plan = make_plan(
        splits, hidden, configure(hidden, activation, given), standardize=standardize, activation=activation, **settings
    )
    return Base(plan, configure, network, given, **others)


def parted(fixed: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], bool | None]:
    """Return the settings of the network, those of the training, and whether the network standardises its inputs."""
    fixed = dict(fixed)
    standardize = fixed.pop("standardize", None)
    if "seed" in fixed:
        raise SettingsError("seed is given, expected seeds, such as seeds=[0, 1, 2]")
    network = {name: fixed.pop(name) for name in NETWORK_SETTINGS if name in fixed}
    if {"hidden", "layers"} <= network.keys():
        raise SettingsError("hidden and layers are given, expected one of them")
    return network, fixed, standardize


def _of_data(
    start: Any, data: Any, validation: Any, test: Any, fixed: dict[str, Any], config: TrainingConfig | None
) -> Base:
    """Return the base of a sweep over new networks, or over runs that start from one, on the user's data."""
    if data is None:
        raise SettingsError("data are None, expected training data, or the name of a recipe as base")
    splits, has_test = _splits(data, validation, test)
    network, given, standardize = parted(fixed)
    check_names(given)
    usual = config or TrainingConfig()

    def configure(_: Sequence[Any], __: Any, given: dict[str, Any]) -> TrainingConfig:
        return usual.replace(**given)

    first = configure((), "", given)
    if start is not None:
        if network or standardize is not None:
            name = next(iter(network), "standardize")
            raise SettingsError(f"{name} is given, but all runs start from one network, expected None as base")
        plan = Plan(splits, as_network(start), first, None)
        own = None
    else:
        own = {"hidden": default_hidden(), **network} if "layers" not in network else network
        settings = network_arguments(own, {})
        hidden = settings.pop("hidden")
        made = Network.for_data(splits.train, hidden, standardize=bool(standardize), **settings)
        plan = Plan(splits, made, first, None, standardize=bool(standardize))
    for part in splits:
        check_fit(plan.network, part)
    return Base(plan, configure, own, given, has_test=has_test)


def _splits(data: Any, validation: Any, test: Any) -> tuple[Splits, bool]:
    """Return the user's data in three parts, and whether there are data to test on; without, they are not evaluated."""
    if isinstance(test, (bool, np.bool_)) and test:
        raise SettingsError("test is True, but data have no test set, expected a Dataset or a pair (images, labels)")
    training = as_dataset(data)
    if validation is None or is_number(validation):
        training, held = hold_out(training, _HELD_OUT if validation is None else validation, _SPLIT_SEED)
    else:
        held = as_dataset(validation, "validation")
    has_test = not (test is None or isinstance(test, (bool, np.bool_)))
    return Splits(training, held, as_dataset(test, "test") if has_test else held), has_test
