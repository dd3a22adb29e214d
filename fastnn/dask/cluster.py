"""Runs the replicas of a round: as tasks of a Dask cluster, or one after the other in this process."""

import platform
import time
import uuid
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from functools import cache
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, Protocol

import dask
from dask.utils import format_bytes
from distributed import Client, Future, KilledWorker, default_client, get_worker, worker_client

from fastnn.backends.warmup import compile_training_elsewhere
from fastnn.checks import short
from fastnn.dask.rounds import Average, Plan, ReplicaResult, train_replica
from fastnn.dask.shares import Share
from fastnn.errors import FileError, SettingsError, WorkerError
from fastnn.streams import BlockedData
from fastnn.training.checkpoint import bit_versions

# The client that stands for this process: no cluster, no threads. The name is that of Dask's scheduler.
SYNCHRONOUS = "synchronous"
# The seconds between two looks at the workers, and after which a state that cannot go on is an error or a warning.
SECONDS_BETWEEN_LOOKS, PATIENCE = 1.0, 10.0
# The seconds after which a task that no worker runs, and whose worker is gone, is lost.
_LOST_SECONDS = 3.0
_LARGE_IS_INTENDED = {"distributed.admin.large-graph-warning-threshold": "1TiB"}
_FITTING_BLOCKS = (
    "expected blocks that fit: make smaller ones, lower `memory` of BlockedData, or read the workers' logs"
)


class Engine(Protocol):
    """What computes blocks, and runs the replicas of a round."""

    def compute(self, delayed: Sequence[Any], name: str) -> list[Any]:
        """Return the values of Dask's delayed objects, which stay where they are computed; `name` is for messages."""
        ...

    def gather(self, collections: Sequence[Any]) -> list[Any]:
        """Return the values of Dask's collections in this process."""
        ...

    def call(self, function: Callable[[Any], Any], values: Sequence[Any], names: Sequence[str]) -> list[Any]:
        """Return the results of a function for each value, which may be one of `compute`; `names` are for messages."""
        ...

    def run(self, plan: Plan, average: Average, shares: Sequence[Share]) -> list[ReplicaResult]:
        """Return the results in the order of the replicas."""
        ...


class ThisProcess:
    """Does one thing after the other."""

    def compute(self, delayed: Sequence[Any], name: str) -> list[Any]:
        """Return the values."""
        return list(dask.compute(*delayed, scheduler="synchronous"))

    def gather(self, collections: Sequence[Any]) -> list[Any]:
        """Return the values."""
        return list(dask.compute(*collections, scheduler="synchronous"))

    def call(self, function: Callable[[Any], Any], values: Sequence[Any], names: Sequence[str]) -> list[Any]:
        """Return the results of a function for each value."""
        return [function(value) for value in values]

    def run(self, plan: Plan, average: Average, shares: Sequence[Share]) -> list[ReplicaResult]:
        """Return the results in the order of the replicas."""
        return [
            train_replica(replica, plan, average, *share.rows.load(share.blocks))
            for replica, share in enumerate(shares)
        ]


@contextmanager
def engine_for(client: Any) -> Iterator[Engine]:
    """Yield the engine of a client: one of Dask, "synchronous", or None for the current one.

    Within a task, None is the client of its worker, and the task leaves its thread to other tasks.
    Raises SettingsError if there is no usable client.
    """
    if isinstance(client, str) and client == SYNCHRONOUS:
        yield ThisProcess()
        return
    if client is None:
        if _is_task():
            with worker_client() as own, closing(Cluster(own)) as cluster:
                yield cluster
            return
        client = current_client()
    if not isinstance(client, Client):
        raise SettingsError(f"client is {short(client)}, expected a distributed.Client, {SYNCHRONOUS!r} or None")
    if client.asynchronous or client.status != "running":
        found = "asynchronous" if client.asynchronous else client.status
        raise SettingsError(f"client is {found}, expected one that runs and was made outside of coroutines")
    with closing(Cluster(client)) as cluster:
        yield cluster


def current_client() -> Client:
    """Return the current client of Dask; SettingsError if there is none."""
    try:
        return default_client()
    except ValueError:
        hint = f"call distributed.Client() first, or give client={SYNCHRONOUS!r} to train in this process"
        raise SettingsError(f"client is None and Dask has no current client: {hint}") from None


def _is_task() -> bool:
    try:
        get_worker()
    except ValueError:
        return False
    return True


def places(homes: Sequence[str | None], threads: Mapping[str, int]) -> list[str | None]:
    """Return the worker for each replica: where its blocks are, if that worker has no more than its part to do.

    Dask alone would place a task where it expects the earliest start. It guesses how long tasks take, so it may run
    the replicas of a round one after the other in a worker while another worker waits, and copy their blocks for it.

    Parameters
    ----------
    homes : sequence of str or None
        The worker that has the blocks of each replica, or None.
    threads : mapping of str to int
        The number of threads of each worker. Each worker gets at most its part of the replicas, rounded up.

    Examples
    --------
    >>> places([None, None, None], {"a": 1, "b": 1})
    ['a', 'b', 'a']
    >>> places(["b", "b", None], {"a": 1, "b": 1})
    ['b', 'b', 'a']
    >>> places(["b", "gone"], {"a": 2, "b": 2})
    ['b', 'a']
    """
    room = {worker: -(-len(homes) * n // sum(threads.values())) for worker, n in threads.items()}
    found: list[str | None] = [None] * len(homes)
    # Replicas that have a place come first, so that others do not take it.
    for replica in sorted(range(len(homes)), key=lambda replica: homes[replica] not in room):
        home = homes[replica]
        if home is None or not room.get(home):
            free = [worker for worker in room if room[worker]]
            home = max(free, key=room.__getitem__, default=None)
        if home is not None:
            room[home] -= 1
        found[replica] = home
    return found


class _Done(NamedTuple):
    """What a task returns: its result, the worker, and the machine on which its bits depend."""

    result: ReplicaResult
    worker: str
    machine: str


class Cluster:
    """Runs the replicas of a round as tasks of a cluster, one for each, and waits for them.

    Dask computes a task again if its worker dies. What only this process has, such as the average, is therefore the
    argument of a task that returns it: scattered data would be lost with the worker.

    Parameters
    ----------
    client : distributed.Client
    """

    def __init__(self, client: Client) -> None:
        self._client, self._workers = client, _Workers(client)
        self._first: _Done | None = None
        self._sent: dict[int, list[Any]] = {}  # the blocks of each replica, as futures
        self._blocks: list[Future] = []
        self._homes: dict[int, str | None] = {}  # the worker that has the blocks of a replica

    def close(self) -> None:
        """Let the workers forget the blocks. Python's garbage collector would do that at some time later."""
        for future in self._blocks:
            future.release()
        self._sent.clear()

    def compute(self, delayed: Sequence[Any], name: str) -> list[Any]:
        """Return futures of the values. All are computed in one graph, and each of its tasks runs once."""
        self._workers.wait_for_one(name)
        futures = self._client.compute([*delayed])
        self._blocks += futures
        return list(futures)

    def gather(self, collections: Sequence[Any]) -> list[Any]:
        """Return the values in this process."""
        waiting = _Waiting(self._client, self._workers, [f"collection {k}" for k in range(len(collections))])
        self._workers.wait_for_one("validation data")
        for number, future in enumerate(self._client.compute([*collections])):
            waiting.add(number, future)
        results = dict(waiting.results())
        return [results[number] for number in range(len(collections))]

    def call(self, function: Callable[[Any], Any], values: Sequence[Any], names: Sequence[str]) -> list[Any]:
        """Return the results of a function that is called in the workers for each value."""
        waiting = _Waiting(self._client, self._workers, names)
        for number, value in enumerate(values):
            with dask.config.set(_LARGE_IS_INTENDED):
                waiting.add(number, self._client.submit(function, value, pure=False))
        results = dict(waiting.results())
        return [results[number] for number in range(len(values))]

    def run(self, plan: Plan, average: Average, shares: Sequence[Share]) -> list[ReplicaResult]:
        """Return the results in the order of the replicas."""
        names = [f"replica {k} ({share.name}), after epoch {plan.first}" for k, share in enumerate(shares)]
        if not self._homes:
            self._homes = self._find_blocks(shares)
        results: dict[int, ReplicaResult] = {}
        most = int(dask.config.get("distributed.scheduler.allowed-failures", 3))
        for _ in range(most + 1):
            self._workers.wait_for_one(names[0])
            waiting = _Waiting(self._client, self._workers, names)
            self._submit_all(waiting, plan, average, shares, results)
            try:
                for replica, done in waiting.results():
                    self._compare(done)
                    results[replica] = done.result
            except _Lost:
                self._sent.clear()
                continue
            return [results[replica] for replica in range(len(shares))]
        left = [name for replica, name in enumerate(names) if replica not in results]
        raise WorkerError(f"{_any_of(left)}: all workers ended {most + 1} times, {_FITTING_BLOCKS}")

    def _submit_all(
        self, waiting: "_Waiting", plan: Plan, average: Average, shares: Sequence[Share], results: dict[int, Any]
    ) -> None:
        """Submit the tasks of a round that have no results yet."""
        start = self._send("average", plan.first, average)
        chosen = places([self._homes.get(replica) for replica in range(len(shares))], self._workers.threads())
        for replica, (share, place) in enumerate(zip(shares, chosen, strict=True)):
            if replica in results:
                continue
            # Rows that move are sent again: Dask would copy them, and may forget the copy and not the original.
            if replica not in self._sent or place != self._homes[replica]:
                self._sent[replica] = [
                    each if isinstance(each, Future) else self._send("rows", replica, each, place)
                    for each in share.blocks
                ]
            self._homes[replica] = place
            arguments = (replica, plan, start, share.rows, chosen.count(place), self._sent[replica])
            key = f"fastnn-epoch-{plan.first + 1}-replica-{replica}-{uuid.uuid4().hex[:12]}"
            waiting.add(replica, self._submit(_train_in_worker, *arguments, key=key, place=place), place)

    def _send(self, what: str, number: int, value: Any, place: str | None = None) -> Future:
        """Return the future of a task that returns a value."""
        key = f"fastnn-{what}-{number}-{uuid.uuid4().hex[:12]}"
        with dask.config.set(_LARGE_IS_INTENDED):
            return self._submit(_itself, value, key=key, place=place)

    def _submit(self, function: Callable[..., Any], *arguments: Any, key: str, place: str | None) -> Future:
        """Return the future of a task that prefers a worker, and that another one runs if this one is gone."""
        chosen = {} if place is None else {"workers": [place], "allow_other_workers": True}
        return self._client.submit(function, *arguments, key=key, pure=False, **chosen)

    def _find_blocks(self, shares: Sequence[Share]) -> dict[int, str | None]:
        """Return the worker that has most blocks of each replica, of those whose blocks are futures."""
        futures = [each for share in shares for each in share.blocks if isinstance(each, Future)]
        holders = self._client.who_has(futures) if futures else {}
        found: dict[int, str | None] = {}
        for replica, share in enumerate(shares):
            counts = Counter(
                worker for each in share.blocks if isinstance(each, Future) for worker in holders.get(each.key, ())
            )
            if counts:
                found[replica] = counts.most_common(1)[0][0]
        return found

    def _compare(self, done: _Done) -> None:
        """Warn if a worker computes with another kind of CPU or other versions than the first one."""
        first = self._first = self._first or done
        if done.machine != first.machine:
            warnings.warn(
                f"fastnn: worker {done.worker} has {done.machine}, worker {first.worker} has {first.machine}: the bits "
                "of the result depend on which worker trains which replica",
                RuntimeWarning,
                stacklevel=2,
            )


class _Lost(Exception):
    """Tasks wait for workers that are gone. If no worker is left for a moment, Dask gives them to no other, ever."""


class _Waiting:
    """Waits for tasks.

    Parameters
    ----------
    client : distributed.Client
    workers : _Workers
    names : sequence of str
        What each task does, for messages.
    """

    def __init__(self, client: Client, workers: "_Workers", names: Sequence[str]) -> None:
        self._client, self._workers, self._names = client, workers, names
        self._pending: dict[int, Future] = {}
        self._places: dict[int, str | None] = {}
        self._done: SimpleQueue[int] = SimpleQueue()

    def add(self, task: int, future: Future, place: str | None = None) -> None:
        """Wait for this task, too, which prefers a worker."""
        self._pending[task], self._places[task] = future, place
        future.add_done_callback(lambda _: self._done.put(task))

    def results(self) -> Iterator[tuple[int, Any]]:
        """Yield the results as they come.

        Raises the error of a task, WorkerError if the workers cannot go on, and _Lost if tasks have to begin again.
        """
        patience = _LOST_SECONDS
        try:
            while self._pending:
                with suppress(Empty):
                    self._look_at(self._done.get(timeout=SECONDS_BETWEEN_LOOKS))
                ready = [task for task, future in self._pending.items() if future.status == "finished"]
                n_before = len(self._pending)
                for task in ready:
                    try:
                        result = self._pending[task].result(timeout=patience)
                    except TimeoutError:  # it was lost with its worker, and Dask computes it again; or it is large
                        patience *= 2
                        if patience > PATIENCE:
                            name = self._names[task]
                            self._workers.warn(name, f"the result of {name} has not arrived in {patience / 2:.0f} s")
                        break
                    del self._pending[task]
                    yield task, result
                for task in [*self._pending]:
                    self._look_at(task)
                if len(self._pending) == n_before:
                    names = {str(future.key): self._names[task] for task, future in self._pending.items()}
                    if self._workers.look(names) > _LOST_SECONDS and self._is_lost():
                        raise _Lost
        finally:
            with suppress(Exception):  # the scheduler is gone: there is nothing to cancel
                self._client.cancel([*self._pending.values()])

    def _is_lost(self) -> bool:
        """Return whether the worker of a task is gone."""
        known = self._workers.threads()
        return any(self._places[task] is not None and self._places[task] not in known for task in self._pending)

    def _look_at(self, task: int) -> None:
        """Raise the error of a task, if it has one."""
        future = self._pending.get(task)
        if future is not None and future.status == "error":
            raise self._error(task, future)
        if future is not None and future.status == "cancelled":
            found = f"{self._names[task]}: the task was cancelled, or the scheduler is gone"
            raise WorkerError(f"{found}, expected one that stays until training ends; a checkpoint can be resumed")

    def _error(self, task: int, future: Future) -> BaseException:
        """Return the error of a task, with a note that names the task."""
        error = future.exception()
        if isinstance(error, KilledWorker):
            last = error.last_worker
            limit = format_bytes(last.memory_limit) if last.memory_limit else "none"
            return WorkerError(
                f"{_any_of(self._killers())}: it ended {error.allowed_failures + 1} workers, the last one "
                f"{last.address} with the memory limit {limit}, {_FITTING_BLOCKS}"
            )
        where = f"fastnn: in {self._names[task]}"
        with suppress(Exception):  # a scheduler that does not say where tasks fail
            where += f", on worker {self._client.run_on_scheduler(_failed_on, key=future.key)}"
        if isinstance(error, FileError):
            where += ": workers read the files themselves, expected the same files at the same paths on all machines"
        error.add_note(where)
        return error

    def _killers(self) -> list[str]:
        """Return the names of all tasks that were on each worker that ended: one of them has ended the workers."""
        time.sleep(SECONDS_BETWEEN_LOOKS / 10)  # the scheduler gives up all of them at once
        errors = {task: future for task, future in self._pending.items() if future.status == "error"}
        return [self._names[task] for task, future in errors.items() if isinstance(future.exception(), KilledWorker)]


def _any_of(names: Sequence[str]) -> str:
    return f"one of {len(names)} tasks, {'; '.join(names)}" if len(names) > 1 else names[0]


class _Workers:
    """Looks at the workers while tasks run, so that nothing waits for long without a message."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._alone_since: float | None = None  # since when there is no worker that could begin a task
        self._idle_since: float | None = None  # since when no worker runs a task of the round
        self._warned: set[str] = set()

    def threads(self) -> dict[str, int]:
        """Return the number of threads of each worker that takes tasks, by its address."""
        return {name: worker["nthreads"] for name, worker in self._known().items() if worker["status"] == "running"}

    def _known(self) -> dict[str, Any]:
        """Return what the scheduler knows of each worker, by its address; nothing if it does not answer.

        `Client.scheduler_info` knows 5 workers in some versions of Dask, and at times none, as it shares a cache.
        """
        scheduler: Any = self._client.scheduler
        with suppress(OSError, TimeoutError):
            found: dict[str, Any] = self._client.sync(scheduler.identity, callback_timeout=PATIENCE)["workers"]
            return found
        return {}

    def wait_for_one(self, waiting: str) -> None:
        """Wait until there is a worker. Raises WorkerError if none comes."""
        while not self._usable(waiting):
            time.sleep(SECONDS_BETWEEN_LOOKS / 10)

    def look(self, waiting: dict[str, str]) -> float:
        """Return for how many seconds no worker has run any of the tasks.

        Raises WorkerError if no worker can run them. Warns if a worker is silent, or none begins a task.

        waiting: the names of the tasks, by their keys
        """
        if not self._usable(next(iter(waiting.values()))):
            return 0.0
        processing, workers = self._client.processing(), self._known()
        first, is_running = next(iter(waiting.values())), False
        for worker, keys in processing.items():
            mine = [waiting[key] for key in map(str, keys) if key in waiting]
            is_running = is_running or len(mine) > 0
            silent = time.time() - workers[worker]["last_seen"] if keys and worker in workers else 0.0
            if silent > PATIENCE:
                is_running = True
                found = f"worker {worker} has been silent for {silent:.0f} s, and {(mine or [first])[0]} waits for it"
                self.warn(worker, f"{found}: if Dask gives it up, another one takes over; look at its log")
        self._idle_since = None if is_running else self._idle_since or time.monotonic()
        idle = 0.0 if self._idle_since is None else time.monotonic() - self._idle_since
        if idle > PATIENCE:
            found = f"no worker has begun {first} for {PATIENCE:g} s"
            self.warn("idle", f"{found}: {len(workers)} workers do other tasks, and begin it when they are free")
        return idle

    def _usable(self, waiting: str) -> bool:
        """Return whether some worker can begin tasks. Raises WorkerError if none has been able to for long."""
        workers = self._known()
        if any(worker["status"] == "running" for worker in workers.values()):
            self._alone_since = None
            return True
        self._alone_since = self._alone_since or time.monotonic()
        if time.monotonic() - self._alone_since > PATIENCE:
            address = getattr(self._client.scheduler, "address", "SCHEDULER")
            if not workers:
                hint = f"start one, such as `dask worker {address}`, or call client.wait_for_workers before"
                raise WorkerError(f"{waiting}: no workers at {address} for {PATIENCE:g} s, expected some: {hint}")
            found = ", ".join(f"{each} is {worker['status']}" for each, worker in workers.items())
            hint = "a paused worker is short of memory: make smaller blocks, or give workers more memory"
            raise WorkerError(f"{waiting}: no worker takes tasks: {found}; {hint}")
        return False

    def warn(self, about: str, text: str) -> None:
        """Warn once about each thing."""
        if about not in self._warned:
            self._warned.add(about)
            warnings.warn(f"fastnn: {text}", RuntimeWarning, stacklevel=2)


def _itself(value: Any) -> Any:
    return value


def _failed_on(key: Any, dask_scheduler: Any) -> str:
    """Return the worker on which a task failed, or the one that it needs."""
    task = dask_scheduler.tasks[key]
    return ", ".join((task.exception_blame or task).erred_on)


def _train_in_worker(replica: int, plan: Plan, average: Average, rows: Any, n_at_once: int, blocks: list[Any]) -> _Done:
    """Train a replica in a worker, with the threads of the worker that other replicas leave it."""
    if plan.config.threads is None:
        n_threads = get_worker().state.nthreads
        threads = max(1, n_threads // min(n_threads, n_at_once))
        plan = plan._replace(config=plan.config.replace(threads=threads))
    data, weight = rows.load(blocks)
    if plan.config.backend == "numba":
        compile_training_elsewhere(average.network, data.dtype if isinstance(data, BlockedData) else data.images.dtype)
    result = train_replica(replica, plan, average, data, weight)
    return _Done(result, get_worker().address, machine(plan.config.backend))


@cache
def machine(backend: str) -> str:
    """Return what the bits of a result depend on, besides the arguments: the kind of CPU, and versions."""
    versions = ", ".join(f"{name} {version}" for name, version in bit_versions(backend).items())
    if backend == "numpy":
        return f"a CPU {platform.machine()}, {versions}"
    from fastnn.kernels.compiler.machine import host

    return f"a CPU {host().cpu} ({host().triple}), {versions}"
