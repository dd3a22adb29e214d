"""Training: `train` checks, runs epochs, validates, stops early, calls callbacks and records the history."""

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from inspect import Parameter, Signature, signature
from typing import Any, NamedTuple

import numpy as np

from fastnn.backends import backend_name
from fastnn.backends.arguments import TrainingData, check_config, check_sample_weight
from fastnn.backends.base import TrainerState
from fastnn.backends.choice import CHOOSER, expected_epochs, fit_work
from fastnn.backends.threads import BLAS_LIMIT, is_too_small_for_threads, resolve_threads
from fastnn.checks import is_number
from fastnn.datasets.dataset import Dataset
from fastnn.datasets.splits import draw_held_out
from fastnn.errors import SettingsError
from fastnn.evaluation.evaluate import check_fit
from fastnn.files.checkpoint_file import RunState
from fastnn.interruptible import PER_SORT, interruptible
from fastnn.models import as_dataset, as_network
from fastnn.network import Network
from fastnn.optim.config import AUTO, TrainingConfig
from fastnn.optim.optimizers import LBFGS
from fastnn.streams import BlockedData
from fastnn.training import epochs as mini_batch
from fastnn.training import lbfgs
from fastnn.training.blocks import CheckedBlocks, check_in_memory
from fastnn.training.callbacks import BatchStart as BatchStart
from fastnn.training.callbacks import Callback, Setup
from fastnn.training.callbacks import EpochEnd as EpochEnd
from fastnn.training.checkpoint import Checkpoint, as_checkpoint, as_run_state, check_continues, continued, data_digests
from fastnn.training.drawn import DrawnFeed
from fastnn.training.epochs import Job, Observer, freeze
from fastnn.training.frozen import trained_part
from fastnn.training.progress import Progress
from fastnn.training.rate_search import RateSearch, search_rate
from fastnn.training.result import TrainingInterrupted as TrainingInterrupted
from fastnn.training.result import TrainingResult as TrainingResult
from fastnn.training.run import Run


def train(
    network: Any,
    data: Any,
    *,
    validation: Any = None,
    sample_weight: np.ndarray | None = None,
    callbacks: Sequence[Callback] = (),
    verbose: bool = False,
    checkpoint: Checkpoint | str | os.PathLike[str] | None = None,
    resume: TrainerState | RunState | str | os.PathLike[str] | None = None,
    force: bool = False,
    config: TrainingConfig | None = None,
    **settings: Any,
) -> TrainingResult:
    """Train a copy of a network and return it in the result. `network` itself does not change.

    The same arguments, backend and versions give the same bits: weights, history (except its seconds) and predictions.
    With the Numba backend, these bits do not depend on the number of threads.

    Parameters
    ----------
    network : Network, or Model
        The network to start from.
    data : Dataset, (images, labels), or BlockedData
        The training data. A softmax network needs labels from 0 to C - 1; other networks need targets of shape (N, C).
        Of `BlockedData`, two buffers of blocks are in memory: one to train on, and one that is read meanwhile. The run
        has the bits of one on an array of all rows in the same order, for batches of fewer than all rows.
    validation : Dataset, (images, labels), BlockedData, float or None
        The data to evaluate after each epoch, or the fraction of `data` to hold out for this. The seed determines which
        samples are held out. For data in blocks, a fraction is refused.
    sample_weight : ndarray of shape (N,), or None
        The weight of each sample in the mean over its batch: finite, 0 or more. None: all equal.
    callbacks : sequence of functions of EpochEnd
        Called after every epoch. The run ends after an epoch in which one of them returns True. A callback may have a
        method ``begin()``, which is called before the first epoch, once the arguments are checked; a method
        ``ended(result)``, which is called with the `TrainingResult` when the run ends, however it ends; and a method
        ``close()``, which is called after that. A method ``before_batches(start)`` is called
        with a `BatchStart` before the first batch of each epoch. It returns the number of batches to train on before
        it is called again, 1 or more, or None for the rest of the epoch. It may wait, which changes no result.
    verbose : bool
        Whether to show the progress of the run; the same as the callback `fastnn.Progress`.
    checkpoint : Checkpoint, str or path, or None
        Where to save the state of the run, and how often; a path is short for ``Checkpoint(path)``. Whatever ends the
        run, its newest state is written first. If a checkpoint cannot be written, a RuntimeWarning says so, and
        training goes on. A callback, or a function that is the `shuffle`, with the methods ``state_dict()``, which
        returns a dict of plain values and arrays, and ``load_state_dict(dict)`` is saved and restored, too. L-BFGS
        needs None.
    resume : str or path, RunState, TrainerState, or None
        A checkpoint to continue from, or the run folder that has it. The run goes on to the same bits as one that was
        never stopped. `network` gives the layers, and the arguments are those of that run: settings that are not given
        are those of the checkpoint. Allowed are more epochs, if the schedule gives the epochs so far the same learning
        rates; a larger patience; another number of threads with the Numba backend; and another learning rate after
        a run that diverged.

        Or the `state` of an earlier result, whose network `network` must be. The optimizer and the epoch numbers
        continue from there. Two runs of 5 epochs give the same bits as one run of 10 if the schedule gives the same
        learning rates. L-BFGS needs None.
    force : bool
        Whether to continue from a checkpoint although data, settings or versions differ from those of its run. Each
        difference is a RuntimeWarning.
    config : TrainingConfig or None
        The settings of the run; None: the defaults.
    **settings
        Single settings, which replace those of `config`: ``epochs=10``, ``batch_size=64``, ``learning_rate=0.1``,
        ``optimizer="sgd"``, ``seed=0`` and all others that `TrainingConfig` lists.

    Returns
    -------
    TrainingResult

    Raises
    ------
    SettingsError
        If a setting is out of range or contradicts another, which is checked before training starts; during training,
        if a schedule returns a factor that is negative or not finite, or if a shuffle function returns anything but
        row numbers to train on. If the checkpoint to continue from has other settings or versions, or its run has
        ended.
    DataError
        If the data do not fit the network, which is checked before training starts, or are not those of the checkpoint
        to continue from. A block of `BlockedData` is checked when it is read; the error has the attribute `result`.
    FileError
        If a checkpoint cannot be read, or its folder cannot be written to, which is checked before training starts.
    DivergenceError
        If a loss or weight is not finite. Its `result` has the network after the last epoch with a finite loss and
        weights (with early stopping, after the best one).
    TrainingInterrupted
        On Ctrl-C (it is a KeyboardInterrupt). Its `result` has the network after the last complete epoch (with early
        stopping, after the best one).

    Any other exception, such as that of a callback, gets the attribute `result`, too.

    Examples
    --------
    >>> import fastnn
    >>> data = fastnn.load_digits()
    >>> network = fastnn.Network.for_data(data, hidden=(32,))
    >>> result = fastnn.train(network, data, epochs=20, batch_size=32, validation=0.2)
    >>> bool(result.history[-1].validation_accuracy > 0.9)
    True
    """
    check_types(config=config, resume=resume, checkpoint=checkpoint)
    planned = plan(
        network, data, validation=validation, sample_weight=sample_weight, callbacks=callbacks, resume=resume,
        force=force, config=config, settings=settings,
    )  # fmt: skip
    return execute(with_rate(planned), callbacks, verbose=verbose, checkpoint=checkpoint)


class Planned(NamedTuple):
    """A run whose arguments are checked."""

    job: Job
    network: Network  # the whole network, frozen layers included
    data: Dataset | BlockedData
    held_out: Dataset | BlockedData | None  # the validation data
    evaluated: tuple[Any, np.ndarray] | BlockedData | None  # the same, as the trained layers take them
    digests: Callable[[], dict[str, str]]  # those of the data, as `RunState.data` has them
    begun: RunState | None  # the checkpoint that the run continues
    search: RateSearch | None = None  # the search for the learning rate


def plan(
    network: Any,
    data: Any,
    *,
    validation: Any,
    sample_weight: np.ndarray | None,
    callbacks: Sequence[Callback],
    resume: Any,
    force: bool,
    config: TrainingConfig | None,
    settings: dict[str, Any],
) -> Planned:
    """Check the arguments of `train`, which has the errors, and return the run that they describe."""
    network = as_network(network)
    data = data if isinstance(data, BlockedData) else as_dataset(data)
    if not (validation is None or is_number(validation) or isinstance(validation, BlockedData)):
        validation = as_dataset(validation, "validation")
    begun = None if resume is None or isinstance(resume, TrainerState) else as_run_state(resume)
    if begun is not None:
        config = continued(begun, config, settings)
    elif config is None or settings:
        config = (config or TrainingConfig()).replace(**settings)
    threads = resolve_threads(config.threads)
    if threads != config.threads:
        config = config.replace(threads=threads)
    weight = check_sample_weight(sample_weight, len(data), network.dtype)
    blocks: CheckedBlocks | None = None
    if isinstance(data, BlockedData):
        blocks = CheckedBlocks(network, data, config, weight)
        checked, held_out = blocks.first_rows, _apart(validation)
        rows, n_rows = np.arange(len(checked.targets)), len(data)
    else:
        check_in_memory(config)
        checked = TrainingData(*check_fit(network, data), weight)
        rows, held_out = _split(network, data, validation, config.seed)
        n_rows = len(rows)
    check_config(*trained_part(network, config), n_rows)
    check_stopping(network, config, held_out)
    digests = lru_cache(lambda: data_digests(data, weight, validation))
    n_held_out = 0 if held_out is None else len(held_out)
    work = fit_work(network, checked.inputs, n_rows, config, expected_epochs(config, callbacks), n_held_out)
    began = begun.backend if begun is not None else resume.backend if isinstance(resume, TrainerState) else ""
    engine = CHOOSER.choose(config.backend, work, began)
    job = Job(network, checked, rows, config, engine, None, image_shape=data.image_shape)
    if isinstance(resume, TrainerState):
        job = job._replace(state=resume, first=resume.epochs)
    elif begun is not None:
        check_continues(begun, network, config, backend_name(job.engine), digests(), force)
        job = _continuing(job, begun)
    _loop(job).check(job)
    evaluated = held_out if held_out is None or isinstance(held_out, BlockedData) else check_fit(network, held_out)
    job = freeze(job, 0 if isinstance(held_out, BlockedData) else n_held_out)
    if job.frozen is not None and isinstance(evaluated, tuple):
        evaluated = job.frozen.features(evaluated[0]), evaluated[1]
    if blocks is not None:
        blocks.in_buffer(job)  # an error before anything is written
        job = job._replace(new_feed=blocks.new_feed, n_stored=n_rows)
    elif config.augment is not None:
        job = job._replace(new_feed=DrawnFeed)
    return Planned(job, network, data, held_out, evaluated, digests, begun)


def _loop(job: Job) -> Any:
    return lbfgs if isinstance(job.config.update_rule, LBFGS) else mini_batch


def execute(
    planned: Planned,
    callbacks: Sequence[Callback],
    *,
    verbose: bool,
    checkpoint: Checkpoint | str | os.PathLike[str] | None,
    observe: Callable[[Observer], Observer] = lambda run: run,
) -> TrainingResult:
    """Train as planned, with the learning rate that `with_rate` has given the plan; the rest is as in `train`.

    observe: returns what the loop tells of its epochs, which passes it on to the observer that is given
    """
    job, loop = planned.job, _loop(planned.job)
    if checkpoint is not None and loop is lbfgs:
        raise SettingsError("checkpoint is given with L-BFGS, expected None: the state of its search is not kept")
    callbacks = [*callbacks, *([Progress()] if verbose else [])]
    # Only callbacks see these rows. Without any, no block is read for them.
    shown: list[Any] = [_in_memory(each) if callbacks else None for each in (planned.data, planned.held_out)]
    setup = Setup(shown[0], shown[1], job.config, backend_name(job.engine))
    run = Run(
        job, planned.evaluated, callbacks, setup, planned.search, as_checkpoint(checkpoint), planned.digests,
        planned.begun,
    )  # fmt: skip
    with blas_limit(planned):
        return run.result_of(lambda: loop.run(job, observe(run)))


def blas_limit(planned: Planned) -> AbstractContextManager[Any]:
    """Return the limit of the threads of NumPy's BLAS, for a run on them."""
    job, network = planned.job, planned.network
    n_held_out = 0 if planned.held_out is None else len(planned.held_out)
    multiplications = network.n_multiplications * max(job.n_rows, n_held_out)
    if backend_name(job.engine) != "numpy":
        return nullcontext()
    if job.config.slices is not None:  # the bits of BLAS depend on its threads
        return BLAS_LIMIT.hold(1)
    if is_too_small_for_threads(network.n_parameters, multiplications):
        return nullcontext()
    return BLAS_LIMIT.hold(resolve_threads(job.config.threads))


def check_types(**arguments: Any) -> None:
    """Raise SettingsError if an argument has another type than it may have."""
    path = (str, os.PathLike)
    kinds = {"config": TrainingConfig, "resume": (TrainerState, RunState, *path), "checkpoint": (Checkpoint, *path)}
    for name, value in arguments.items():
        kind: Any = kinds[name]
        if not (value is None or isinstance(value, kind)):
            hint = ": try its state" if isinstance(value, TrainingResult) else ""
            expected = {"config": "a TrainingConfig", "resume": "a TrainerState, a RunState or a path"}
            found = f"{name} is a {type(value).__name__}"
            raise SettingsError(f"{found}, expected {expected.get(name, 'a Checkpoint or a path')}{hint}")


def check_stopping(network: Network, config: TrainingConfig, held_out: Dataset | BlockedData | None) -> None:
    """Raise SettingsError unless there are the data, and outputs, that early stopping needs."""
    stopping = config.early_stopping
    if stopping is None:
        return
    if held_out is None:
        raise SettingsError("early_stopping needs validation data, but validation is None: try validation=0.1")
    if stopping.monitor == "validation_accuracy" and network.loss.is_correct is None:
        raise SettingsError(
            f"early_stopping monitors validation_accuracy, but the outputs of {network} are numbers; "
            "expected validation_loss"
        )


def _continuing(job: Job, begun: RunState) -> Job:
    """Return the job that goes on from the state of a run."""
    return job._replace(
        network=begun.network, state=begun.trainer, first=begun.first, seconds=begun.seconds, order=begun.order
    )


def with_rate(planned: Planned) -> Planned:
    """Return the run with a number as its learning rate, and the search for it if the setting is "auto"."""
    job, search = planned.job, None
    config = job.config
    if config.learning_rate == AUTO and not isinstance(config.update_rule, LBFGS):
        search = search_rate(job)
        config = config.replace(learning_rate=search.suggestion)
    n_hidden = sum(weight.ndim > 1 for weight in job.network.weights) - 1  # `BatchNorm` has vectors
    config = config.with_default_rate(n_hidden, job.n_rows)
    return planned._replace(job=job._replace(config=config), search=search)


def _with_settings(function: Callable[..., Any], config: type) -> Signature:
    """Return the signature of a function with the fields of `config` in place of ``**settings``."""
    *own, _ = signature(function).parameters.values()
    named = [parameter.replace(kind=Parameter.KEYWORD_ONLY) for parameter in signature(config).parameters.values()]
    return signature(function).replace(parameters=[*own, *named])


train.__signature__ = _with_settings(train, TrainingConfig)  # type: ignore[attr-defined]  # for help() and editors


def _in_memory(data: Any) -> Any:
    """Return the first rows of data in blocks; other data as they are."""
    return data.head() if isinstance(data, BlockedData) else data


def _apart(validation: Any) -> Dataset | BlockedData | None:
    """Return the validation data of a run on blocks; SettingsError for a fraction of them."""
    if is_number(validation):
        found = f"validation is {validation!r} with data in blocks"
        raise SettingsError(f"{found}, expected a Dataset or BlockedData: no rows of blocks are held out")
    return validation


def _split(
    network: Network, data: Dataset, validation: Dataset | BlockedData | float | None, seed: int
) -> tuple[np.ndarray, Dataset | BlockedData | None]:
    """Return the row numbers to train on, and the validation data."""
    if validation is None:
        return np.arange(len(data)), None
    if isinstance(validation, Dataset):
        check_fit(network, validation)
    if isinstance(validation, Dataset | BlockedData):
        return np.arange(len(data)), validation
    rows, held = interruptible(draw_held_out, len(data), validation, seed, work=PER_SORT * len(data))
    return rows, data.take(held, f"{data.name} (held out)")
