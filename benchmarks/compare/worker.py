"""Runs one contender in a separate process, the worker, and gives the runner a handle on it.

    python -m benchmarks.compare.worker CONTENDER THREADS CHECKOUT

Runner and worker exchange JSON messages, one per line, over the worker's stdin and stdout. Between messages, the worker
is blocked on its pipe. Output of the libraries goes to stderr.
"""

import contextlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

import numpy as np

from benchmarks.compare import training
from benchmarks.compare.cases import CASES, Case
from benchmarks.compare.checkout import WrongCheckout, check_origin
from benchmarks.compare.contenders import CONTENDERS, LIMIT
from benchmarks.compare.environment import ROOT, environment, module_command
from benchmarks.compare.kernels import loaded_kernels
from benchmarks.compare.problems import Problem


class Missing(Exception):
    """The library cannot be imported."""


class Broken(Exception):
    """The contender failed."""


class TooSlow(Broken):
    """The contender did not answer in time and was killed."""


def confine(threads: int) -> None:
    """Restrict this process to `threads` cores, for libraries that use every core they see."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, usable_cores(threads))


def usable_cores(threads: int) -> list[int]:
    """Return the cores that every contender with `threads` threads runs on."""
    return sorted(os.sched_getaffinity(0))[-threads:]


def load(contender: str, checkout: Path = ROOT) -> Any:
    """Import and return the module of a contender.

    Raises
    ------
    Missing
        If its library cannot be imported.
    WrongCheckout
        If it is fastnn and does not come from `checkout`.
    """
    try:
        if CONTENDERS[contender].library == "fastnn":
            check_origin(checkout)
        return importlib.import_module(f"benchmarks.compare.contenders.{CONTENDERS[contender].module}")
    except ImportError as error:
        raise Missing(str(error)) from error


class Worker:
    """The runner's handle on a worker process.

    Raises
    ------
    Missing
        If the contender's library cannot be imported.
    Broken
        If the worker fails or ends.
    """

    def __init__(self, contender: str, threads: int, checkout: Path = ROOT) -> None:
        self.contender = contender
        threads = CONTENDERS[contender].threads or threads
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the worker)
        self._process = subprocess.Popen(
            module_command("benchmarks.compare.worker", contender, str(threads), str(checkout)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            cwd=checkout,
            env=environment(threads, checkout),
            text=True,
        )
        try:
            self.versions: dict[str, str] = self._answer()
        except BaseException:
            self.close()
            raise

    def ask(self, do: str, *, within: float | None = None, **arguments: Any) -> dict[str, Any]:
        """Send a request and return the answer.

        Raises
        ------
        TooSlow
            If no answer arrives within `within` seconds. The worker is killed.
        Broken
            If the worker fails or ends.
        """
        assert self._process.stdin is not None
        expired = threading.Event()

        def end() -> None:
            expired.set()
            self._process.kill()

        timer = threading.Timer(within or 0, end)
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()
            if within is not None:
                timer.start()
        except BrokenPipeError:
            pass  # the worker has ended; its last output has the reason
        try:
            return self._answer()
        except Broken as error:
            if expired.is_set():
                raise TooSlow(f"no answer within {within:g} s") from error
            raise
        finally:
            timer.cancel()

    def close(self) -> None:
        """End the worker process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._log.seek(0)
            log = self._log.read().decode(errors="replace").strip().splitlines()
            raise Broken(f"ended with code {self._process.returncode}: {log[-1] if log else 'no output'}")
        answer = json.loads(line)
        if "missing" in answer:
            raise Missing(answer["missing"])
        if "broken" in answer:
            raise Broken(answer["broken"])
        return answer


class WorkerServer:
    """The worker's side: holds the prepared case and answers requests."""

    def __init__(self, contender: str, threads: int, checkout: Path) -> None:
        self._contender, self._threads, self._module = CONTENDERS[contender], threads, load(contender, checkout)
        self._run: Any = None
        self._problem: Problem | None = None

    def versions(self) -> dict[str, str]:
        """Return versions and settings for the report."""
        return self._module.versions()

    def kernels(self) -> dict[str, str]:
        """Return the kernels that the libraries ran. Call it after the work."""
        return loaded_kernels()

    def prepare(self, case: str, quick: bool, folder: str, check: str) -> dict[str, Any]:
        """Prepare the case, do its work once (`check_epochs` epochs) and write the result to the file `check`.

        If the case has `check_steps`, the changes of all weights in these steps are written as well.
        """
        chosen: Case = CASES[case].quick() if quick else CASES[case]
        self._problem = problem = Problem(chosen, Path(folder))
        work = self._contender.work or chosen.work
        if not hasattr(self._module, "epoch" if work == "train" else work):
            return {"cannot": f"does not implement {work}"}
        checked: dict[str, np.ndarray] = {}
        start = time.perf_counter()
        if self._is_training:
            checked = training.changes(self._module.epoch(problem, self._threads), problem)
        else:
            self._run = getattr(self._module, work)(problem, self._threads)
            if chosen.check_steps and self._contender.role != LIMIT:
                checked = training.changes(self._run, problem)
        found = self._call(0)
        first_call = time.perf_counter() - start
        for epoch in range(1, chosen.check_epochs if chosen.work == "epoch" else 1):
            found = self._call(epoch)
        if self._contender.role != LIMIT:
            np.savez(check, result=np.asarray(found, np.float64), **checked)
        return {"first_call": first_call, "digest": self._digest(found)}

    def time(self, round_number: int) -> dict[str, Any]:
        """Return the seconds that the work takes once: the mean over the repetitions of the case.

        Epochs are timed directly after as many untimed epochs. In real training, each epoch follows another one; here,
        other contenders have used the shared caches since the last round. Training is timed as a whole, with the
        weights and the orders of another seed in each round, and without the evaluation of the trained network.
        """
        assert self._problem is not None
        if self._is_training:
            train = training.prepare(self._module, replace(self._problem, seed=round_number), self._threads)
            start = time.perf_counter()
            trained = train()
            seconds = time.perf_counter() - start
            return {
                "seconds": seconds,
                "accuracy": training.accuracy(self._module, self._problem, trained, self._threads),
            }
        inner = self._problem.case.inner
        run = self._run
        if self._is_epoch:
            calls = [self._arguments(round_number + repeat) for repeat in range(2 * inner)]
            for arguments in calls[:inner]:
                run(*arguments)
            start = time.perf_counter()
            for arguments in calls[inner:]:
                run(*arguments)
        else:
            for _ in range(inner // 20):  # a time in microseconds should not include the wake-up of an idle core
                run()
            start = time.perf_counter()
            for _ in range(inner):
                run()
        return {"seconds": (time.perf_counter() - start) / inner}

    def drop(self) -> dict[str, Any]:
        """Release the memory of the case."""
        self._run = self._problem = None
        return {}

    @property
    def _is_epoch(self) -> bool:
        assert self._problem is not None
        return self._problem.case.work == "epoch"

    @property
    def _is_training(self) -> bool:
        assert self._problem is not None
        return self._problem.case.work == "train"

    def _arguments(self, round_number: int) -> tuple:
        assert self._problem is not None
        return (self._problem.order(round_number), self._problem.case.learning_rate) if self._is_epoch else ()

    def _call(self, round_number: int) -> Any:
        if self._is_training:
            return self.time(round_number)["accuracy"]
        return self._run(*self._arguments(round_number))

    def _digest(self, found: Any) -> str:
        """Return a digest of the result and the trained arrays. It is equal in two checkouts if every bit is equal."""
        weights, biases = self._run.weights() if hasattr(self._run, "weights") else ([], [])
        digest = sha256()
        for array in (np.asarray(found), *weights, *biases):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def main(contender: str, threads: int, checkout: Path) -> None:
    """Answer requests until the runner closes the pipe."""
    # Messages use a private copy of stdout. Output that a library prints on stdout goes to stderr.
    messages = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    confine(threads)
    try:
        server = WorkerServer(contender, threads, checkout)
    except Missing as error:
        print(json.dumps({"missing": str(error)}), file=messages)
        return
    except WrongCheckout as error:
        print(json.dumps({"broken": str(error)}), file=messages)
        return
    print(json.dumps(server.versions()), file=messages)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(server, request.pop("do"))(**request)
        except Exception as error:
            traceback.print_exc()
            first_line = (str(error).strip().splitlines() or [""])[0]
            answer = {"broken": f"{type(error).__name__}: {first_line}"}
        print(json.dumps(answer), file=messages)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
