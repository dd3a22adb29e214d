"""`fastnn.dask.train`: one run on a cluster, in rounds of local epochs."""

import os
import time
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np

from fastnn.backends import backend_name
from fastnn.backends.arguments import TrainingData, check_config, check_sample_weight
from fastnn.backends.base import EpochResult, TrainerState
from fastnn.backends.choice import CHOOSER, expected_epochs, fit_work
from fastnn.checks import check_integer, is_number, short
from fastnn.dask.cluster import Engine, engine_for
from fastnn.dask.collections import (
    BlocksOfCollections,
    ClassNumbers,
    Encoder,
    Targets,
    blocks_of,
    gathered,
    is_collection,
)
from fastnn.dask.rounds import Average, Plan, average, average_metrics
from fastnn.dask.shares import Share, shares_of_blocks, shares_of_rows
from fastnn.datasets.dataset import Dataset
from fastnn.errors import DataError, SettingsError
from fastnn.evaluation.evaluate import check_fit
from fastnn.files.checkpoint_file import RunState
from fastnn.models import as_dataset, as_network
from fastnn.network import Network
from fastnn.network.snapshot import Snapshot
from fastnn.optim.config import AUTO, TrainingConfig
from fastnn.optim.optimizers import LBFGS
from fastnn.streams import BlockedData
from fastnn.training import epochs as mini_batch
from fastnn.training.callbacks import Callback, EpochEnd, Setup
from fastnn.training.checkpoint import (
    Checkpoint,
    as_checkpoint,
    as_run_state,
    check_continues,
    continued,
    data_digest,
    data_digests,
)
from fastnn.training.epochs import Ended, Job, Position
from fastnn.training.progress import Progress
from fastnn.training.result import TrainingResult
from fastnn.training.run import Run
from fastnn.training.train import check_stopping, check_types

MAX_REPLICAS = 4096


def train(
    network: Any,
    data: Any,
    *,
    client: Any = None,
    replicas: int = 8,
    local_epochs: int = 1,
    validation: Any = None,
    sample_weight: Any = None,
    callbacks: Sequence[Callback] = (),
    verbose: bool = False,
    checkpoint: Checkpoint | str | os.PathLike[str] | None = None,
    resume: TrainerState | RunState | str | os.PathLike[str] | None = None,
    force: bool = False,
    config: TrainingConfig | None = None,
    **settings: Any,
) -> TrainingResult:
    """Train a copy of a network on a Dask cluster and return it in the result. `network` itself does not change.

    Training is a sequence of rounds. In a round, each replica trains a copy of the network on its own rows for
    `local_epochs` epochs. The next round starts from the mean of the replicas, weighted by their rows, which is summed
    in float64 in the order of the replicas. The optimizer's state is averaged alike. So the same arguments give the
    same bits for any number of workers and threads, also if workers die meanwhile, and with one replica those of
    `fastnn.train`.

    Parameters
    ----------
    network : Network, or Model
        The network to start from.
    data : Dataset, (images, labels), BlockedData, or a pair of Dask's arrays or data frames
        The training data. Of BlockedData, workers read the blocks themselves, in every round, so all machines need the
        same files at the same paths. The blocks of Dask's collections are computed once and stay in the memory of the
        workers during the run. Arrays in memory are sent, a part to each replica.
    client : distributed.Client, "synchronous" or None
        The cluster. None: the current client of Dask; in a task, that of its worker. "synchronous" trains in this
        process, one replica after the other.
    replicas : int
        The number of networks that train side by side, 1 or more: at least the number of threads of the cluster to use
        all of them. The result depends on it. Each replica owns fixed blocks; if there are fewer blocks than replicas,
        fixed parts of blocks.
    local_epochs : int
        The number of epochs of a round, 1 or more. With more, less is sent and the networks drift further apart.
    validation : Dataset, (images, labels), BlockedData, a pair of Dask's collections, or None
        The data to evaluate the average on after each round, in this process.
    sample_weight : ndarray of shape (N,), Dask array or series, or None
        As in `fastnn.train`, in the form of `data`.
    callbacks, verbose, checkpoint, resume, force, config
        As in `fastnn.train`. Callbacks are called after each round; epochs within a round have no validation metrics,
        and methods `before_batches` are not called. A checkpoint has the state between two rounds, and continues with
        the same `replicas` and `local_epochs`.
    **settings
        As in `fastnn.train`. `batch_size` is that of all replicas together: each takes its share, so that their updates
        are as many as those of one network. `threads` is that of each replica; by default, the threads of a worker are
        divided among the replicas that it trains at once. `buffer_blocks` and `memory` are those of each replica, too.

    Returns
    -------
    TrainingResult

    Raises
    ------
    SettingsError
        As `fastnn.train`; if there is no client; for L-BFGS, ``learning_rate="auto"`` and a function as `shuffle`,
        which need all rows in one process.
    DataError
        As `fastnn.train`, also from within a worker; a note names the replica and its blocks.
    WorkerError
        If there are no workers for 10 seconds, or a replica has ended several workers.
    DivergenceError, TrainingInterrupted, FileError
        As `fastnn.train`.

    Examples
    --------
    >>> import fastnn
    >>> import fastnn.dask
    >>> data = fastnn.load_digits()
    >>> network = fastnn.Network.for_data(data, hidden=(32,))
    >>> result = fastnn.dask.train(network, data, client="synchronous", replicas=4, epochs=20, batch_size=32)
    >>> bool(result.history[-1].accuracy > 0.9)
    True
    """
    check_types(config=config, resume=resume, checkpoint=checkpoint)
    check_integer("replicas", replicas, 1, MAX_REPLICAS)
    check_integer("local_epochs", local_epochs, 1)
    network = as_network(network)
    begun = None if resume is None or isinstance(resume, TrainerState) else as_run_state(resume)
    if begun is not None:
        config = continued(begun, config, settings)
    elif config is None or settings:
        config = (config or TrainingConfig()).replace(**settings)
    if is_number(validation):
        raise SettingsError(f"validation is {short(validation)}, expected data, such as those of fastnn.hold_out")
    with engine_for(client) as engine:
        source = _source(network, data, sample_weight, engine)
        held_out = None if validation is None else _held_out(validation, engine)
        options = Options(replicas, local_epochs, [*callbacks, *([Progress()] if verbose else [])], checkpoint, force)
        return train_source(network, source, held_out, engine, config, resume if begun is None else begun, options)


class Source(NamedTuple):
    """The training data, wherever they are.

    n_rows : the number of rows
    inputs : the inputs, or an array with none of their rows
    image_shape : as in `Dataset`
    digests : returns what `data_digests` returns, without the validation data
    shares : returns the share of each of so many replicas
    """

    n_rows: int
    inputs: Any
    image_shape: tuple[int, int] | None
    digests: Callable[[], dict[str, str]]
    shares: Callable[[int], list[Share]]


class Options(NamedTuple):
    """Further arguments of `train`."""

    replicas: int
    local_epochs: int
    callbacks: Sequence[Callback] = ()
    checkpoint: Checkpoint | str | os.PathLike[str] | None = None
    force: bool = False


def train_source(
    network: Network,
    source: Source,
    held_out: Dataset | BlockedData | None,
    engine: Engine,
    config: TrainingConfig,
    resume: Any,
    options: Options,
) -> TrainingResult:
    """Do the work of `train` for data of any form; `resume` is a TrainerState, a RunState or None."""
    check_settings(config)
    check_config(network, config, source.n_rows)
    check_stopping(network, config, held_out)
    evaluated = held_out if held_out is None or isinstance(held_out, BlockedData) else check_fit(network, held_out)
    n_held_out, n_epochs = 0 if held_out is None else len(held_out), expected_epochs(config, options.callbacks)
    work = fit_work(network, source.inputs, source.n_rows, config, n_epochs, n_held_out)
    backend = CHOOSER.choose(config.backend, work, "" if resume is None else resume.backend)
    config = config.with_default_rate(sum(each.ndim > 1 for each in network.weights) - 1, source.n_rows)
    rows = np.broadcast_to(np.int64(0), (source.n_rows,))  # a run asks for their number only
    no_targets = np.zeros((0, network.n_outputs), network.dtype)
    job = Job(network, TrainingData(source.inputs[:0], no_targets, None), rows, config, backend, None)
    job = job._replace(image_shape=source.image_shape)
    digests = lru_cache(partial(digests_of, source, held_out))
    begun = resume if isinstance(resume, RunState) else None
    if isinstance(resume, TrainerState):
        job = job._replace(state=resume, first=resume.epochs)
    elif begun is not None:
        check_continues(begun, network, config, backend_name(backend), digests(), options.force)
        job = job._replace(network=begun.network, state=begun.trainer, first=begun.first)
    mini_batch.check(job)
    callbacks: list[Callback] = [Rounds(options.replicas, options.local_epochs), *options.callbacks]
    setup = Setup(held_out, held_out, config, backend_name(backend))  # type: ignore[arg-type]  # never shown to anybody
    run = Run(job, evaluated, callbacks, setup, None, as_checkpoint(options.checkpoint), digests, begun)
    shares = source.shares(options.replicas)
    return run.result_of(lambda: run_rounds(job, run, engine, shares, options.local_epochs))


def digests_of(source: Source, held_out: Dataset | BlockedData | None) -> dict[str, str]:
    """Return the digests of the training and the validation data, as `data_digests` does."""
    return {**source.digests(), "validation data": "none" if held_out is None else data_digest(held_out)}


def _source(network: Network, data: Any, sample_weight: Any, engine: Engine) -> Source:
    """Return the data of `train` as a source."""
    if isinstance(data, tuple | list) and len(data) == 2 and any(map(is_collection, data)):
        X, y = data
        return _source_of_collections(network, X, y, sample_weight, engine)
    return source_of_data(network, data if isinstance(data, BlockedData) else as_dataset(data), sample_weight)


def source_of_data(network: Network, data: Dataset | BlockedData, sample_weight: Any) -> Source:
    """Return rows in memory, or data in blocks, as a source."""
    weight = check_sample_weight(sample_weight, len(data), network.dtype)
    if isinstance(data, BlockedData):
        check_fit(network, data.head(1))
        inputs: Any = np.zeros((0, data.n_inputs), data.dtype)
        shares = partial(shares_of_blocks, data, weight)
    else:
        inputs, shares = check_fit(network, data)[0], partial(shares_of_rows, data, weight)
    return Source(len(data), inputs, data.image_shape, partial(data_digests, data, weight, None), shares)


def _source_of_collections(network: Network, X: Any, y: Any, sample_weight: Any, engine: Engine) -> Source:
    blocks = blocks_of(X, y, sample_weight, engine)
    encode: Encoder = Targets(network.dtype)
    if network.loss.uses_labels:
        classes = blocks.classes()
        if classes.dtype.kind in "biuf" and (classes >= 0).all() and (classes < network.n_outputs).all():
            classes = np.arange(network.n_outputs)
        if len(classes) > network.n_outputs:
            found = f"y has {len(classes)} classes {short(classes.tolist())}"
            raise DataError(f"{found}, expected at most {network.n_outputs} for {network}")
        encode = ClassNumbers(classes)
    return source_of_blocks(blocks, network.dtype, encode)


def source_of_blocks(
    blocks: BlocksOfCollections,
    dtype: np.dtype,
    encode: Encoder,
    class_weight: np.ndarray | None = None,
    image_shape: tuple[int, int] | None = None,
) -> Source:
    """Return the blocks of Dask's collections as a source. uint8 stays uint8, other inputs become `dtype`."""
    dtype = blocks.stored_dtype if blocks.stored_dtype == np.uint8 else dtype
    names: dict[str, Any] = {"image_shape": image_shape, "feature_names": blocks.feature_names}
    shares = partial(blocks.shares, dtype=dtype, encode=encode, class_weight=class_weight, **names)
    digests = {"training data": blocks.digest, "sample weights": "none"}  # the digest of a block has its weights
    return Source(len(blocks), np.zeros((0, blocks.n_inputs), dtype), image_shape, lambda: digests, shares)


def _held_out(validation: Any, engine: Engine) -> Dataset | BlockedData:
    """Return validation data; those of Dask are computed, and all of them come to this process."""
    if isinstance(validation, BlockedData):
        return validation
    if isinstance(validation, tuple | list):
        validation = tuple(gathered(part, engine) for part in validation)
    return as_dataset(validation, "validation")


class Rounds:
    """The callback that keeps `replicas` and `local_epochs` in a checkpoint, on which the bits depend."""

    def __init__(self, replicas: int, local_epochs: int) -> None:
        self._numbers = {"replicas": replicas, "local_epochs": local_epochs}

    def __call__(self, end: EpochEnd) -> None:
        """Do nothing: what it keeps does not change."""

    def state_dict(self) -> dict[str, Any]:
        """Return both numbers."""
        return dict(self._numbers)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Check both numbers; SettingsError if the run to continue had others."""
        for name, number in self._numbers.items():
            if state.get(name) != number:
                raise SettingsError(f"{name} was {state.get(name)} in the run to continue, found {number}")


def run_rounds(job: Job, observer: Run, engine: Engine, shares: Sequence[Share], local_epochs: int) -> Ended:
    """Train in rounds until all epochs have run or the observer returns a reason to stop."""
    config = job.config.replace(backend=backend_name(job.engine))
    mean = Average(job.network, job.state)
    epoch = job.first if job.state is None else job.state.epochs
    if (epoch - job.first) % local_epochs:
        ended = f"the run to continue ended after epoch {epoch}, within a round of {local_epochs} epochs"
        raise SettingsError(f"{ended}: expected a number of epochs that local_epochs divides")
    stopped = None
    observer.begin(_position(mean))
    while epoch < job.last:
        start = time.perf_counter()
        of_round = range(epoch, min(epoch + local_epochs, job.last))
        factors = [config.factors(each, job.last) for each in of_round]
        results = engine.run(Plan(config, epoch, factors, len(job.rows)), mean, shares)
        metrics = [EpochResult(*pair) for pair in average_metrics(results)]
        if all(result.state is not None for result in results):
            mean = average(results)
        seconds = (time.perf_counter() - start) / len(of_round)
        rates = [config.rate(each, job.last) for each in of_round]
        for result, rate in zip(metrics[:-1], rates, strict=False):
            observer.pass_epoch(result, rate, seconds)
        snapshot = Snapshot.of(mean.network)
        stopped = observer.end_epoch(metrics[-1], rates[len(metrics) - 1], seconds, _returning(snapshot))
        observer.between_epochs(_position(mean))
        if stopped is not None:
            break
        epoch = of_round.stop
    state = mean.state
    return Ended(stopped or "epochs", lambda: state)


def _returning(snapshot: Snapshot) -> Callable[[], Snapshot]:
    return lambda: snapshot


class _AverageTrainer:
    """What an observer reads of a trainer: the average of the last round."""

    def __init__(self, mean: Average) -> None:
        self._mean = mean

    def network(self) -> Network:
        return self._mean.network

    def state(self) -> TrainerState:
        return self._mean.state or TrainerState((), 0, 0)


def _position(mean: Average) -> Position:
    return Position(_AverageTrainer(mean), 0.0, None)  # type: ignore[arg-type]


def check_settings(config: TrainingConfig) -> None:
    """Raise SettingsError for settings that need all rows in one process."""
    if isinstance(config.update_rule, LBFGS):
        raise SettingsError("optimizer is L-BFGS, expected one of mini-batches: L-BFGS needs all rows in one process")
    if config.learning_rate == AUTO:
        hint = "fastnn.find_learning_rate finds one for a part of the data"
        raise SettingsError(f"learning_rate is 'auto', expected a number: {hint}")
    if callable(config.shuffle):
        raise SettingsError("shuffle is a function, expected True or False: each replica orders its own rows")
    if config.average is not None:
        raise SettingsError(f"average is {config.average!r}, expected None: each round averages the replicas already")
