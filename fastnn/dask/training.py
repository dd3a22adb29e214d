"""`fastnn.dask.train`: one run on a cluster, in rounds of local epochs."""

import os
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from fastnn.backends import backend_name
from fastnn.backends.arguments import TrainingData, check_config, check_sample_weight
from fastnn.backends.base import EpochResult, TrainerState
from fastnn.backends.choice import CHOOSER, expected_epochs, fit_work
from fastnn.checks import check_integer, is_number, short
from fastnn.dask.cluster import Engine, engine_for
from fastnn.dask.rounds import Average, Plan, average, average_metrics
from fastnn.dask.shares import Share, shares_of_rows
from fastnn.errors import SettingsError
from fastnn.evaluation.evaluate import check_fit
from fastnn.files.checkpoint_file import RunState
from fastnn.models import as_dataset, as_network
from fastnn.network import Network
from fastnn.network.snapshot import Snapshot
from fastnn.optim.config import AUTO, TrainingConfig
from fastnn.optim.optimizers import LBFGS
from fastnn.training import epochs as mini_batch
from fastnn.training.callbacks import Callback, EpochEnd, Setup
from fastnn.training.checkpoint import (
    Checkpoint,
    as_checkpoint,
    as_run_state,
    check_continues,
    continued,
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
        The training data. Of BlockedData, workers read the blocks themselves, so its files must be theirs, too. The
        blocks of Dask's collections are computed once and stay in the memory of the workers during the run. Arrays in
        memory are sent, a part to each replica.
    client : distributed.Client, "synchronous" or None
        The cluster. None: the current client of Dask; in a task, that of its worker. "synchronous" trains in this
        process, one replica after the other.
    replicas : int
        The number of networks that train side by side, 1 or more: at least the number of threads of the cluster to use
        all of them. The result depends on it. Each replica owns fixed blocks; if there are fewer blocks than replicas,
        fixed parts of blocks.
    local_epochs : int
        The number of epochs of a round, 1 or more. With more, less is sent and the networks drift further apart.
    validation : Dataset, (images, labels), a pair of Dask's collections, or None
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
        divided among the replicas that it trains at once.

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
    _check_settings(config, validation)
    with engine_for(client) as engine:
        data = as_dataset(data)
        inputs, targets = check_fit(network, data)
        weight = check_sample_weight(sample_weight, len(data), network.dtype)
        check_config(network, config, len(data))
        held_out = None if validation is None else as_dataset(validation, "validation")
        digests = lru_cache(lambda: data_digests(data, weight, held_out))
        n_held_out = 0 if held_out is None else len(held_out)
        work = fit_work(network, inputs, len(data), config, expected_epochs(config, callbacks), n_held_out)
        began = begun.backend if begun is not None else resume.backend if isinstance(resume, TrainerState) else ""
        backend = CHOOSER.choose(config.backend, work, began)
        config = config.with_default_rate(sum(each.ndim > 1 for each in network.weights) - 1, len(data))
        rows = np.arange(len(data))
        job = Job(
            network, TrainingData(inputs, targets, weight), rows, config, backend, None, image_shape=data.image_shape
        )
        if isinstance(resume, TrainerState):
            job = job._replace(state=resume, first=resume.epochs)
        elif begun is not None:
            check_continues(begun, network, config, backend_name(backend), digests(), force)
            job = job._replace(network=begun.network, state=begun.trainer, first=begun.first)
        check_stopping(network, config, held_out)
        mini_batch.check(job)
        rounds = Rounds(replicas, local_epochs)
        callbacks = [rounds, *callbacks, *([Progress()] if verbose else [])]
        evaluated = None if held_out is None else check_fit(network, held_out)
        setup = Setup(data, held_out, config, backend_name(backend))
        run = Run(job, evaluated, callbacks, setup, None, as_checkpoint(checkpoint), digests, begun)
        shares = shares_of_rows(data, sample_weight, replicas)
        return run.result_of(lambda: run_rounds(job, run, engine, shares, local_epochs))


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
        stopped = observer.end_epoch(metrics[-1], rates[len(metrics) - 1], seconds, lambda at=snapshot: at)
        observer.between_epochs(_position(mean))
        if stopped is not None:
            break
        epoch = of_round.stop
    state = mean.state
    return Ended(stopped or "epochs", lambda: state)


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


def _check_settings(config: TrainingConfig, validation: Any) -> None:
    """Raise SettingsError for settings that need all rows in one process."""
    if isinstance(config.update_rule, LBFGS):
        raise SettingsError("optimizer is L-BFGS, expected one of mini-batches: L-BFGS needs all rows in one process")
    if config.learning_rate == AUTO:
        hint = "fastnn.find_learning_rate finds one for a part of the data"
        raise SettingsError(f"learning_rate is 'auto', expected a number: {hint}")
    if callable(config.shuffle):
        raise SettingsError("shuffle is a function, expected True or False: each replica orders its own rows")
    if is_number(validation):
        raise SettingsError(
            f"validation is {short(validation)}, expected data: fastnn.hold_out makes some of a Dataset"
        )
