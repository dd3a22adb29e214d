"""The engine of a sweep on a cluster of Dask: one task per run, and the data on each worker once."""

import queue
import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import Any

from fastnn.errors import SettingsError, WorkerError, needs_extra
from fastnn.sweeps.record import SweepRecord
from fastnn.sweeps.runs import Run, Shared, failed_record, run_one

# Without a worker, a sweep ends after so many seconds, with a message.
WAIT_SECONDS = 15.0
_POLL_SECONDS = 0.5
# When the workers that had the data are gone, the runs that are left are tried again: so often together, then alone.
_TOGETHER = 2


@contextmanager
def connected(client: Any) -> Iterator[Any]:
    """Give a client of Dask: `client` itself, one of the scheduler at this address, or for None, the current client.

    Raises MissingDependencyError without the extra `dask`, SettingsError if there is no client, and WorkerError if
    nothing answers at the address.
    """
    with needs_extra("the engine dask needs distributed", "dask"):
        from distributed import Client, get_client
    if isinstance(client, str):
        try:
            own = Client(client, timeout=WAIT_SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise WorkerError(f"no scheduler of Dask answers at {client}: {reason}") from None
        try:
            yield own
        finally:
            own.close()
    elif client is None:
        try:
            client = get_client()
        except ValueError:
            raise SettingsError(
                "client is None, and there is no client of Dask, expected one, or an address such as tcp://HOST:8786"
            ) from None
        yield client
    elif not isinstance(client, Client):
        raise SettingsError(f"client is a {type(client).__name__}, expected a distributed.Client or an address")
    else:
        yield client


def on_dask(shared: Shared, runs: Sequence[Run], client: Any) -> Generator[SweepRecord]:
    """Run on the workers of a cluster, one task per run. Each task has one thread.

    A run whose worker is lost runs again elsewhere; one that ends worker after worker has failed. When the iterator is
    closed, the tasks are cancelled.

    Raises WorkerError if there is no worker for 15 seconds.
    """
    left, losses = {run.key: run for run in runs}, 0
    while left:
        _wait_for_workers(client)
        # The run that ends the workers may be any of those that are lost. Alone, it is found out.
        some = list(left.values()) if losses < _TOGETHER else [next(iter(left.values()))]
        n_left = len(left)
        for record in _round(shared, some, client):
            del left[record.key]
            yield record
        if losses >= _TOGETHER and len(left) == n_left:
            run = left.pop(some[0].key)
            yield failed_record(run, WorkerError(f"every worker that ran it ended, in {losses + 1} attempts"))
        losses += 1


def _round(shared: Shared, runs: Sequence[Run], client: Any) -> Generator[SweepRecord]:
    """Send the data, submit the runs, and yield the records. Runs whose data or result are lost have none."""
    data = client.scatter(shared, broadcast=True, hash=False)
    futures = {
        client.submit(run_one, data, run, key=f"fastnn-sweep-{run.key}-{data.key}", pure=False): run for run in runs
    }
    ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for future in futures:
        future.add_done_callback(ended.put)
    try:
        for _ in runs:
            future = _next(ended, client)
            if future.status == "error":
                yield failed_record(futures[future], future.exception())
            elif future.status == "finished":
                try:
                    record = future.result(timeout=WAIT_SECONDS)
                except (CancelledError, TimeoutError):  # the worker that had the result is lost
                    continue
                yield record
    finally:
        client.cancel(list(futures), force=True)
        del data


def _next(ended: "queue.SimpleQueue[Any]", client: Any) -> Any:
    """Return the next future that is done; WorkerError if there has been no worker for too long."""
    since = time.monotonic()
    while True:
        try:
            return ended.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            if _n_workers(client):
                since = time.monotonic()
            elif time.monotonic() - since > WAIT_SECONDS:
                raise _no_workers(client) from None


def _wait_for_workers(client: Any) -> None:
    end = time.monotonic() + WAIT_SECONDS
    while not _n_workers(client):
        if time.monotonic() > end:
            raise _no_workers(client)
        time.sleep(_POLL_SECONDS)


def _n_workers(client: Any) -> int:
    return len(client.nthreads())


def _no_workers(client: Any) -> WorkerError:
    return WorkerError(f"{_address(client)} has had no worker for {WAIT_SECONDS:g} s: start one with dask worker")


def _address(client: Any) -> str:
    return str(getattr(client.scheduler, "address", "the scheduler"))
