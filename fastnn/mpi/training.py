"""`train` on the ranks of MPI: rank 0 runs the loop of `fastnn.train`, and the others follow it."""

import json
import os
import platform
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any

import numpy as np

from fastnn.backends import backend_name, get_backend
from fastnn.backends.arguments import TrainingData
from fastnn.backends.base import Backend, EpochResult, TrainerState
from fastnn.backends.slices import SlicedTrainer
from fastnn.errors import SettingsError
from fastnn.files.checkpoint_file import RunState
from fastnn.models import as_network
from fastnn.mpi.ranks import Ended, MPIRanks, check_size, connect, error_of_leader
from fastnn.network import Network
from fastnn.network.snapshot import Snapshot
from fastnn.optim.config import TrainingConfig
from fastnn.training import epochs
from fastnn.training import train as in_process
from fastnn.training.callbacks import Callback
from fastnn.training.checkpoint import FORCE_HINT, Checkpoint, as_run_state, bit_versions
from fastnn.training.epochs import Observer, Position
from fastnn.training.result import TrainingInterrupted, TrainingResult
from fastnn.training.train import Planned

# The slices of a batch, if the user gives no number.
SLICES = 8


def train(
    network: Any,
    data: Any,
    comm: Any = None,
    slices: int | None = None,
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
    """Train a network on all ranks of MPI; every rank returns the result.

    All ranks call it with the same arguments. A batch is cut into `slices` slices, and each rank computes the gradients
    of its own. One fixed tree adds the gradients, so the bits are the same for any number of ranks that can share the
    slices, and in one process. Rank 0 alone evaluates, prints, calls callbacks, saves checkpoints and decides when to
    stop.

    Parameters
    ----------
    network, data, validation, sample_weight, force, config
        As in `fastnn.train`. Every rank has all the data.
    comm : mpi4py.MPI.Comm or None
        The ranks; None: all, or this process alone where mpi4py is not installed.
    slices : int or None
        A power of 2, which the number of ranks divides. None: that of `config` or of the run to resume, else 8.
    callbacks, verbose, checkpoint
        As in `fastnn.train`; used on rank 0 only.
    resume
        As in `fastnn.train`; that of rank 0 counts, which alone reads the file. The number of ranks may be another.
    **settings
        As in `fastnn.train`. `shuffle` is True or False, and the optimizer not L-BFGS. Without `threads`, the ranks of
        a machine share its cores. The backend "auto" is "numba" where Numba can be used.

    Returns
    -------
    TrainingResult
        The same on every rank, but that its `state` is None on ranks other than 0.

    Raises
    ------
    SettingsError, DataError
        As in `fastnn.train`. If the ranks cannot share the slices, or if data, network, settings, versions or CPUs of
        the ranks differ. With `force`, other CPUs are a RuntimeWarning: sums then depend on which rank computes them.
    MissingDependencyError
        If several ranks were started, and mpi4py cannot be imported.
    FastnnError
        If a rank fails; the message names it. Rank 0 has written the newest checkpoint.
    TrainingInterrupted
        On every rank, on Ctrl-C or if a rank other than 0 gets SIGTERM.

    Notes
    -----
    The steps are those of synchronous gradient descent [1]_. A rank sends each other rank the part of its gradient that
    the other one updates, and gets the updated parameters.

    References
    ----------
    .. [1] Goyal et al. 2017, "Accurate, large minibatch SGD", arXiv:1706.02677.

    Examples
    --------
    A program for ``mpiexec -n 4 python -m mpi4py program.py``, which also runs alone:

    >>> import fastnn
    >>> import fastnn.mpi
    >>> data = fastnn.load_digits()
    >>> network = fastnn.Network.for_data(data, hidden=(32,))
    >>> result = fastnn.mpi.train(network, data, epochs=3, batch_size=256, learning_rate=0.2)
    >>> len(result.history), result.config.slices
    (3, 8)
    """
    given = SLICES if slices is None and resume is None and (config is None or config.slices is None) else slices
    if given is not None:
        settings["slices"] = given
    ranks = connect(comm)
    own: dict[str, Any] = {"callbacks": callbacks, "verbose": verbose, "checkpoint": checkpoint}
    shared: dict[str, Any] = {
        "validation": validation, "sample_weight": sample_weight, "force": force, "config": config,
    }  # fmt: skip
    if ranks is None:
        return in_process.train(network, data, resume=resume, **own, **shared, **settings)
    try:
        planned = _planned(ranks, network, data, resume, settings, shared)
        ranks.stage = "training"
        return _lead(ranks, planned, own) if ranks.rank == 0 else _follow(ranks, planned)
    finally:
        if comm is not ranks:
            ranks.close()


def _planned(
    ranks: MPIRanks, network: Any, data: Any, resume: Any, settings: dict[str, Any], shared: dict[str, Any]
) -> Planned:
    """Return the checked run, which is the same on every rank; an error is raised on every rank."""

    def begun() -> tuple[Any, str]:
        state = resume if resume is None or isinstance(resume, TrainerState) else as_run_state(resume)
        config = shared["config"] or TrainingConfig()
        name = settings.get("backend", config.backend)
        if name == "auto":
            name = (state is not None and state.backend) or backend_name(get_backend())
        return state, name

    state, name = ranks.from_leader(begun)
    threads = ranks.threads()

    def plan() -> tuple[Planned, dict[str, str]]:
        own = {**settings, "backend": name}
        if own.get("threads", None if shared["config"] is None else shared["config"].threads) is None:
            own["threads"] = threads
        found = in_process.plan(as_network(network), data, callbacks=(), resume=state, settings=own, **shared)
        config = found.job.config
        if config.slices is None:
            raise SettingsError("slices is None on several ranks, expected a power of 2 such as 8")
        check_size(ranks, config.slices)
        if callable(config.shuffle):
            raise SettingsError("shuffle is a function, expected True or False: each rank would call its own")
        return found, _facts(found)

    found: list[Planned] = []

    def facts() -> dict[str, str]:
        planned, described = plan()
        found.append(planned)
        return described

    every = ranks.together(facts)
    ranks.together(lambda: _check_same(every, shared["force"], ranks.rank == 0))
    planned = found[0]
    rate, search = ranks.from_leader(lambda: _rate(planned))
    job = planned.job._replace(
        config=planned.job.config.replace(learning_rate=rate), engine=_RankBackend(planned.job.engine, ranks)
    )
    return planned._replace(job=job, search=search)


def _rate(planned: Planned) -> tuple[Any, Any]:
    """Return the learning rate and the search for it, which has the bits of all ranks in one process."""
    with_rate = in_process.with_rate(planned)
    return with_rate.job.config.learning_rate, with_rate.search


def _facts(planned: Planned) -> dict[str, str]:
    """Return what must be the same on every rank, by name."""
    config, backend = planned.job.config, backend_name(planned.job.engine)
    plain = {name: value for name, value in config.to_dict().items() if name != "threads"}
    network = sha256(repr(planned.network).encode())
    for array in (*planned.network.weights, *planned.network.biases, *planned.network.statistics):
        network.update(np.ascontiguousarray(array).data)
    return {
        **{f"the {name}": digest for name, digest in planned.digests().items()},
        "the network": network.hexdigest(),
        "the settings": json.dumps(plain, default=str),
        **{f"the version of {name}": version for name, version in bit_versions(backend).items()},
        _CPU: _cpu(backend),
    }


_CPU = "the CPU"


def _cpu(backend: str) -> str:
    """Return what the order of sums depends on: the CPU that kernels are compiled for, or that BLAS is chosen for."""
    if backend == "numba":
        from fastnn.kernels.compiler.machine import host

        return f"{host().cpu} {host().level}".strip()
    from threadpoolctl import threadpool_info

    blas = sorted(str(each.get("architecture", "")) for each in threadpool_info() if each["user_api"] == "blas")
    return " ".join([platform.machine(), *blas])


def _check_same(every: list[dict[str, str]], force: bool, warns: bool) -> None:
    """Raise SettingsError unless the facts of all ranks are those of rank 0."""
    for rank, facts in enumerate(every):
        for name, value in facts.items():
            if value == every[0].get(name):
                continue
            found, other = " is not that of rank 0", every[0].get(name, "")
            if max(len(value), len(other)) < 40:
                found = f" is {value!r}, that of rank 0 {other!r}"
            if name != _CPU:
                raise SettingsError(f"rank {rank}: {name}{found}, expected the same on every rank")
            message = f"rank {rank}: {name}{found}: sums depend on which rank computes them"
            if not force:
                raise SettingsError(f"{message}; {FORCE_HINT}")
            if warns:
                warnings.warn(f"fastnn: {message}", RuntimeWarning, stacklevel=2)


class _RankBackend:
    """A backend whose trainers share the slices with the other ranks."""

    def __init__(self, engine: Backend, ranks: MPIRanks) -> None:
        self._engine, self._ranks, self.__name__ = engine, ranks, engine.__name__

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def new_trainer(
        self, network: Network, data: TrainingData, config: TrainingConfig, state: TrainerState | None = None
    ) -> SlicedTrainer:
        """Return a trainer in slices."""
        engine = self._engine.slice_engine(network, data, config)
        return SlicedTrainer(engine, network, data, config, state, self._ranks)


# --- Rank 0 ----------------------------------------------------------------------------------------------------------
def _lead(ranks: MPIRanks, planned: Planned, own: dict[str, Any]) -> TrainingResult:
    """Run the loop, and tell the other ranks what it decides."""
    callbacks = own.pop("callbacks")
    try:
        result = in_process.execute(planned, callbacks, observe=lambda run: _Leading(run, ranks), **own)
    except BaseException as error:
        interrupted = isinstance(error, TrainingInterrupted)
        ranks.tell_end(_for_others(error.result, "interrupted") if interrupted else error)  # type: ignore[attr-defined]
        raise
    ranks.tell_end(_for_others(result, result.stopped))
    return result


def _for_others(result: TrainingResult, stopped: str) -> TrainingResult:
    """Return the result without what cannot be sent to another process, or is large."""
    return replace(result, state=None, stopped=stopped, config=TrainingConfig())


class _Leading:
    """Passes what happens in the loop on to its observer, and the observer's decisions to the other ranks."""

    def __init__(self, observer: Observer, ranks: MPIRanks) -> None:
        self._observer, self._ranks = observer, ranks

    def begin(self, position: Position) -> None:
        self._observer.begin(position)
        self._ranks.tell()

    def parts(self, first: int, n_batches: int, make_network: Callable[[], Network]) -> Iterator[range]:
        for part in self._observer.parts(first, n_batches, make_network):
            self._ranks.tell(part)
            yield part
        self._ranks.tell()

    def end_part(self, position: Position, result: EpochResult) -> None:
        self._observer.end_part(position, result)
        self._ranks.tell()

    def end_epoch(
        self, result: EpochResult, rate: float, seconds: float, make_snapshot: Callable[[], Snapshot]
    ) -> str | None:
        stopped = self._observer.end_epoch(result, rate, seconds, make_snapshot)
        self._ranks.tell(stopped)
        return stopped

    def between_epochs(self, position: Position) -> None:
        self._observer.between_epochs(position)
        self._ranks.tell()


# --- The other ranks -------------------------------------------------------------------------------------------------
def _follow(ranks: MPIRanks, planned: Planned) -> TrainingResult:
    """Run the loop as rank 0 decides; return or raise what it does."""
    try:
        with ranks.stopping_all(), in_process.blas_limit(planned):
            epochs.run(planned.job, _Following(ranks))
            while True:
                ranks.hear()
    except Ended as ended:
        outcome = ended.outcome
    except BaseException as error:
        ranks.abort(error)
        raise
    if not isinstance(outcome, TrainingResult):
        raise error_of_leader(outcome)
    result = replace(outcome, config=planned.job.config)
    if result.stopped == "interrupted":
        raise TrainingInterrupted(result)
    return result


class _Following:
    """Decides what rank 0 has decided."""

    def __init__(self, ranks: MPIRanks) -> None:
        self._ranks = ranks

    def begin(self, position: Position) -> None:
        self._ranks.hear()

    def parts(self, first: int, n_batches: int, make_network: Callable[[], Network]) -> Iterator[range]:
        while (part := self._ranks.hear()) is not None:
            yield part

    def end_part(self, position: Position, result: EpochResult) -> None:
        self._ranks.hear()

    def end_epoch(
        self, result: EpochResult, rate: float, seconds: float, make_snapshot: Callable[[], Snapshot]
    ) -> str | None:
        stopped: str | None = self._ranks.hear()
        return stopped

    def between_epochs(self, position: Position) -> None:
        self._ranks.hear()
