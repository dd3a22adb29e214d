"""`MPIRanks`: the processes of a communicator of MPI, which share the slices of batches.

Rank 0 leads: it alone evaluates, saves, calls callbacks and decides when to stop. The others follow its messages. Sums
of MPI are never used, because their order depends on the number of processes; `add_tree` has a fixed one.
"""

import _thread
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import numpy as np

from fastnn import errors
from fastnn.backends.slices import add_tree
from fastnn.backends.threads import usable_cores
from fastnn.errors import FastnnError, MissingDependencyError, SettingsError, install_extra

Result = TypeVar("Result")

# What rank 0 tells the others: to share the optimizer's arrays, a value that they wait for, and how the run has ended.
_COLLECT, _VALUE, _ENDED = range(3)
# What a rank adds to its numbers of a batch: whether it goes on, wants all to stop, or has failed.
_GO_ON, _STOP, _FAILED = 0.0, 1.0, 2.0
# The seconds after which a rank that waits for the others to begin says so.
_SILENT_SECONDS = 10.0
_POLL_SECONDS = 0.02
# Variables that the launchers of MPI set, with the number of ranks.
_LAUNCHED = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE")


class Ended(BaseException):
    """Raised on the other ranks when rank 0 has ended the run.

    outcome: the result, or what `_described` returns of the error
    """

    def __init__(self, outcome: Any) -> None:
        super().__init__()
        self.outcome = outcome


class NothingToDo(BaseException):
    """Raised on the other ranks if rank 0 has ended without a training."""


def connect(comm: Any = None) -> "MPIRanks | None":
    """Return the ranks of a communicator, by default of all processes; None if there is only this process.

    Without a communicator, mpi4py need not be installed to run in one process.
    """
    if isinstance(comm, MPIRanks):
        return comm
    if comm is None:
        n_local = os.environ.get("MPI_LOCALNRANKS", "")
        if n_local.isdigit() and int(n_local) > usable_cores():  # MPICH: waiting ranks leave their core to the others
            os.environ.setdefault("MPIR_CVAR_ENABLE_HEAVY_YIELD", "1")
            os.environ.setdefault("MPIR_CVAR_POLLS_BEFORE_YIELD", "1")
        try:
            from mpi4py import MPI
        except (ImportError, RuntimeError) as error:  # RuntimeError: there is no MPI library
            launched = next((name for name in _LAUNCHED if os.environ.get(name, "1") != "1"), None)
            if launched is None:
                return None
            found = f"{os.environ[launched]} ranks need mpi4py, which cannot be used ({error})"
            raise MissingDependencyError(f"{found}; {install_extra('mpi')}") from error
        comm = MPI.COMM_WORLD
    if comm.Get_size() == 1:
        return None
    own, request = comm.Idup()  # collective, like all that follows: ranks that are early wait here
    _wait(comm, request)
    return MPIRanks(own)


class MPIRanks:
    """`fastnn.backends.slices.Ranks` on a communicator of mpi4py.

    Attributes
    ----------
    rank, size : int
        The number of this process, and of all.
    stage : {"before", "training", "after"}
        What the other ranks know of this one.
    """

    def __init__(self, comm: Any) -> None:
        from mpi4py import MPI

        self._comm, self._mpi = comm, MPI
        self.rank, self.size = comm.Get_rank(), comm.Get_size()
        self.stage = "before"
        self._is_stopping = self._has_met = False
        self._slots: tuple[Sequence[np.ndarray], np.ndarray] = ((), np.zeros(0, np.int64))
        self._received: dict[Any, np.ndarray] = {}
        self._waits_since: float | None = None  # since when this rank waits for the others in a step
        self._watch: threading.Thread | None = None
        self._is_closed = threading.Event()

    # --- Before training ---------------------------------------------------------------------------------------------
    def together(self, function: Callable[[], Result]) -> list[Result]:
        """Return the result of ``function()`` on every rank; if it fails on any, every rank raises an error.

        A rank that has failed raises its own error, the others that of the first one.
        """
        result: Any = None
        error: BaseException | None = None
        try:
            result = function()
        except BaseException as found:
            error = found
        return self._agree(result, error)

    def _agree(self, result: Any, error: BaseException | None, *, is_done: bool = False) -> list[Any]:
        try:
            self._wait_for_all()
        except BaseException as interrupt:  # the others cannot be told
            self.abort(interrupt)
        found = self._comm.allgather((None if error is None else _described(error), is_done, result))
        if error is not None:
            self.stage = "after"
            raise error
        for rank, (description, _, _) in enumerate(found):
            if description is not None:
                self.stage = "after"
                raise _error_of(description, rank)
        if any(done for _, done, _ in found) and not is_done:
            raise NothingToDo
        return [value for _, _, value in found]

    def _wait_for_all(self) -> None:
        """Wait until every rank is here; the first time, say so if that takes long."""
        _wait(self._comm, self._comm.Ibarrier(), says=not self._has_met)
        self._has_met = True

    def from_leader(self, function: Callable[[], Result]) -> Result:
        """Return the result of ``function()`` on rank 0; its error is raised on every rank."""
        return self.together(lambda: function() if self.rank == 0 else None)[0]  # type: ignore[return-value]

    def leave(self, error: BaseException | None = None) -> None:
        """Let the other ranks end, too, if this one ends before or within a training that they wait for."""
        if self.stage == "before":
            with suppress(BaseException):
                self._agree(None, error, is_done=error is None)
        elif self.stage == "training":
            self.abort(error)
        self.stage = "after"

    def abort(self, error: BaseException | None) -> None:
        """End all ranks at once, after the message of the error."""
        _say(f"rank {self.rank}: {_text(error)}")
        self._comm.Abort(1)

    def threads(self) -> int:
        """Return this rank's share of the cores of its machine."""
        own = set(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
        node = self._comm.Split_type(self._mpi.COMM_TYPE_SHARED)
        n_cores = len(set().union(*node.allgather(own)))
        share = max(1, min(usable_cores(), n_cores // node.Get_size()))
        node.Free()
        return share

    def slowest_pair(self, small: int, large: int, repeats: int) -> tuple[float, float]:
        """Return the latency (s) and the bandwidth (bytes/s) between rank 0 and the rank that is slowest to reach.

        small, large: the sizes of two messages in bytes, each sent there and back `repeats` times; the fastest counts
        """
        latency, bandwidth = 0.0, float("inf")
        for other in range(1, self.size):
            for size in (small, large):
                message, best = np.zeros(size, np.uint8), float("inf")
                self._comm.Barrier()
                for _ in range(repeats):
                    start = time.perf_counter()
                    if self.rank == 0:
                        self._comm.Send(message, other)
                        self._comm.Recv(message, other)
                    elif self.rank == other:
                        self._comm.Recv(message, 0)
                        self._comm.Send(message, 0)
                    best = min(best, time.perf_counter() - start)
                if size == small:
                    latency = max(latency, best / 2)
                else:
                    bandwidth = min(bandwidth, size / (best / 2))
        found: tuple[float, float] = self._comm.bcast((latency, bandwidth))
        return found

    def close(self) -> None:
        """Free the communicator."""
        self._is_closed.set()
        if self._comm:
            self._comm.Free()

    # --- The steps ---------------------------------------------------------------------------------------------------
    def run(self, function: Callable[[], Result]) -> Result:
        """Return ``function()``, which begins when rank 0 says so.

        So no rank begins a step that an interrupt of rank 0 has forestalled. Once all have begun, Ctrl-C takes effect
        when all have agreed to stop, after a step at most.
        """
        if self._watch is None:
            self._watch = threading.Thread(target=self._watch_steps, name="fastnn ranks", daemon=True)
            self._watch.start()
        if self.rank:
            self.hear()
            return function()

        def begin() -> Result:
            self.tell()
            return function()

        return self._shielded(begin)

    def _shielded(self, function: Callable[[], Result]) -> Result:
        """Return ``function()``; an interrupt is raised when it has ended, so that no rank waits for this one."""
        is_main = threading.current_thread() is threading.main_thread()
        if not is_main or self._mpi.Query_thread() < self._mpi.THREAD_SERIALIZED:
            return function()
        # Plain lists and a lock: an interrupt within `Thread.start` or a wait for an `Event` may leave its lock locked.
        found: list[Result] = []
        failed: list[BaseException] = []
        begun, cancelled, ended = list[bool](), list[bool](), list[bool]()
        at_end = threading.Lock()
        at_end.acquire()

        def call() -> None:
            begun.append(True)
            try:
                if not cancelled:
                    found.append(function())
            except BaseException as error:
                failed.append(error)
            finally:
                ended.append(True)
                at_end.release()

        try:
            _thread.start_new_thread(call, ())
            while not ended:
                at_end.acquire(timeout=_POLL_SECONDS)
        except BaseException:
            self._is_stopping = True
            cancelled.append(True)  # a call that has not begun sees this, and one that has is seen here
            while begun and not ended:
                with suppress(BaseException):
                    time.sleep(_POLL_SECONDS)
            raise
        if failed:
            raise failed[0]
        return found[0]

    def gather(self, own: np.ndarray, error: Exception | None = None) -> np.ndarray:
        """Return the numbers of every rank, (size, *own.shape); all leave if any rank has failed or is to stop."""
        state = _FAILED if error is not None else _STOP if self._is_stopping else _GO_ON
        mine, every = np.append(own, state), np.empty((self.size, own.size + 1))
        self._waits_since = time.monotonic()
        self._comm.Allgather(mine, every)
        self._waits_since = None
        states = every[:, -1]
        if states.any():
            self._leave_step(states, error)
        return every[:, :-1].reshape(self.size, *own.shape)

    def _watch_steps(self) -> None:
        """Say once if this rank waits for long in a step."""
        while not self._is_closed.wait(_SILENT_SECONDS / 10):
            since = self._waits_since
            if since is not None and time.monotonic() - since > _SILENT_SECONDS:
                waits = (
                    f"rank {self.rank} of {self.size} has waited for other ranks for {_SILENT_SECONDS:g} s in a step"
                )
                _say(f"{waits}: one is stopped, short of memory, or on a busy machine; Ctrl-C ends all")
                return

    def _leave_step(self, states: np.ndarray, error: Exception | None) -> None:
        if (states == _FAILED).any():
            first = int((states == _FAILED).argmax())
            description = self._comm.bcast(None if error is None else _described(error), root=first)
            if self.rank == 0:
                raise error if first == 0 and error is not None else _error_of(description, first)
        elif self.rank == 0:
            raise KeyboardInterrupt
        self.hear()  # rank 0 says how the run has ended

    def sum_part(self, vector: np.ndarray, bounds: np.ndarray) -> np.ndarray:
        """Return this rank's part of the sum of the vectors of all ranks."""
        lengths, start = np.diff(bounds), bounds[self.rank]
        own = vector[start : bounds[self.rank + 1]]
        received = self._buffer("sum", (self.size, len(own)), vector.dtype)
        to_others, from_others = lengths.copy(), np.full(self.size, len(own))
        to_others[self.rank] = from_others[self.rank] = 0
        kind = self._mpi._typedict[vector.dtype.char]
        places = np.arange(self.size) * len(own)
        self._comm.Alltoallv([vector, to_others, bounds[:-1], kind], [received, from_others, places, kind])
        parts = list(received)
        parts[self.rank] = own
        return add_tree(parts)

    def share(self, vector: np.ndarray, bounds: np.ndarray) -> None:
        """Write the parts of the other ranks into the vector."""
        kind = self._mpi._typedict[vector.dtype.char]
        self._comm.Allgatherv(self._mpi.IN_PLACE, [vector, np.diff(bounds), bounds[:-1], kind])

    def _buffer(self, name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        found = self._received.get(name)
        if found is None or found.shape != shape or found.dtype != dtype:
            found = self._received[name] = np.empty(shape, dtype)
        return found

    # --- What rank 0 leads -------------------------------------------------------------------------------------------
    def follow(self, slots: Sequence[np.ndarray], bounds: np.ndarray) -> None:
        """Note the optimizer's arrays of the trainer that runs."""
        self._slots = slots, bounds

    def collect(self, vectors: Sequence[np.ndarray], bounds: np.ndarray) -> None:
        """`share` these vectors; the others do so when rank 0 tells them, or wait for that."""

        def share_all() -> None:
            if self.rank == 0:
                self._comm.bcast((_COLLECT, None))
            for vector in vectors:
                self.share(vector, bounds)

        if self.rank == 0:
            self._shielded(share_all)
            return
        kind, value = self._comm.bcast(None)
        if kind == _ENDED:
            self.stage = "after"
            raise Ended(value)
        share_all()

    def tell(self, value: Any = None) -> None:
        """Tell the others a value that they wait for in `hear`."""
        self._comm.bcast((_VALUE, value))

    def tell_end(self, outcome: Any) -> None:
        """Tell the others how the run has ended: a result, or an error. An interrupt is raised after that."""
        told = _described(outcome) if isinstance(outcome, BaseException) else outcome

        def tell() -> None:
            self._comm.bcast((_ENDED, told))
            self.stage = "after"

        self._shielded(tell)

    def hear(self) -> Any:
        """Return the next value that rank 0 tells; raise `Ended` if the run has ended."""
        while True:
            kind, value = self._comm.bcast(None)
            if kind == _VALUE:
                return value
            if kind == _ENDED:
                self.stage = "after"
                raise Ended(value)
            vectors, bounds = self._slots
            for vector in vectors:
                self.share(vector, bounds)

    @contextmanager
    def stopping_all(self) -> Iterator[None]:
        """On other ranks than 0, let Ctrl-C and SIGTERM stop the steps of all ranks instead of this one only."""

        def stop(number: int, frame: Any) -> None:
            self._is_stopping = True

        is_main, old = threading.current_thread() is threading.main_thread(), {}
        if is_main:
            old = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)

    def finalize(self) -> None:
        """End MPI, which waits for the other ranks: a process that exits without it looks like one that has crashed."""
        if not self._mpi.Is_finalized():
            self.close()
            self._mpi.Finalize()


def _described(error: BaseException) -> tuple[str, str]:
    """Return the name of an error of fastnn, or "", and its text: what another rank needs to raise it."""
    names = (each.__name__ for each in type(error).__mro__ if each.__module__ == errors.__name__)
    name = "KeyboardInterrupt" if isinstance(error, KeyboardInterrupt) else next(names, "")
    return name, _text(error)


def _text(error: BaseException | None) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, FastnnError):
        return text
    if isinstance(error, MemoryError):
        return f"out of memory{': ' if text else ''}{text}"
    return f"{type(error).__name__}: {text}"


def _error_of(description: tuple[str, str], rank: int) -> BaseException:
    """Return the error that rank `rank` has described."""
    name, text = description
    if name == "KeyboardInterrupt":
        return KeyboardInterrupt()
    return getattr(errors, name or "FastnnError")(f"rank {rank}: {text}")


def error_of_leader(description: tuple[str, str]) -> BaseException:
    """Return the error with which rank 0 has ended a run."""
    return _error_of(description, 0)


def check_size(ranks: MPIRanks, slices: int) -> None:
    """Raise SettingsError unless the ranks can share the slices."""
    if slices % ranks.size:
        allowed = [str(2**k) for k in range(slices.bit_length())]
        expected = f"{', '.join(allowed[:-1])} or {allowed[-1]}" if len(allowed) > 1 else "1"
        raise SettingsError(f"{ranks.size} ranks cannot share {slices} slices, expected {expected} ranks")


def _wait(comm: Any, request: Any, says: bool = True) -> None:
    """Wait until what needs all ranks is done. If that takes long, and `says`, say so."""
    start = time.monotonic()
    while not request.Test():
        time.sleep(_POLL_SECONDS)
        if says and time.monotonic() - start > _SILENT_SECONDS:
            says = False
            _say(f"rank {comm.Get_rank()} of {comm.Get_size()} waits for the others to begin")


def _say(text: str) -> None:
    with suppress(Exception):
        print(f"fastnn: {text}", file=sys.stderr, flush=True)
