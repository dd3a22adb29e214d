"""One contender in a process of its own, and the runner's handle on it.

    python -m benchmarks.compare.worker CONTENDER THREADS

The two speak JSON, one line a message, over the worker's stdin and stdout; between messages the worker is blocked on
its pipe. What libraries print goes to stderr.
"""

import contextlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import IO, Any

import numpy as np

from benchmarks.compare.cases import CASES, Case
from benchmarks.compare.contenders import CONTENDERS, LIMIT
from benchmarks.compare.problems import Problem

ROOT = Path(__file__).resolve().parents[2]
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS", "NUMBA_NUM_THREADS",
)  # fmt: skip


class Missing(Exception):
    """The library cannot be imported."""


class Broken(Exception):
    """The contender failed."""


def environment(threads: int) -> dict[str, str]:
    """The environment of a process with that many threads; for libraries that read it when they are imported."""
    limits = {name: str(threads) for name in _THREAD_VARIABLES}
    # XLA has no count of threads of its own: it takes the cores of its affinity, see `confine`. One thread is a flag.
    xla = "--xla_cpu_multi_thread_eigen=false" if threads == 1 else ""
    return {**os.environ, **limits, "XLA_FLAGS": xla, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}


def confine(threads: int) -> None:
    """Keep this process to `threads` cores, for libraries that take all they see."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[-threads:])


def load(contender: str) -> Any:
    """The module of a contender.

    Raises
    ------
    Missing
        If its library cannot be imported.
    """
    try:
        return importlib.import_module(f"benchmarks.compare.contenders.{CONTENDERS[contender].module}")
    except ImportError as error:
        raise Missing(str(error)) from error


class Worker:
    """The runner's handle.

    Raises
    ------
    Missing
        When its library cannot be imported.
    """

    def __init__(self, contender: str, threads: int) -> None:
        self.contender = contender
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the worker)
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "benchmarks.compare.worker",
                contender,
                str(CONTENDERS[contender].threads or threads),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            cwd=ROOT,
            env=environment(CONTENDERS[contender].threads or threads),
            text=True,
        )
        try:
            self.versions: dict[str, str] = self._answer()
        except BaseException:
            self.close()
            raise

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Have it done; the answer.

        Raises
        ------
        Broken
            If the worker fails or ends.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # why it ended is in what it wrote last
        return self._answer()

    def close(self) -> None:
        """End the process."""
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
            said = self._log.read().decode(errors="replace").strip().splitlines()
            raise Broken(f"ended with code {self._process.returncode}: {said[-1] if said else 'it said nothing'}")
        answer = json.loads(line)
        if "missing" in answer:
            raise Missing(answer["missing"])
        if "broken" in answer:
            raise Broken(answer["broken"])
        return answer


class WorkerServer:
    """What the worker's side has laid out."""

    def __init__(self, contender: str, threads: int) -> None:
        self._contender, self._threads, self._module = CONTENDERS[contender], threads, load(contender)
        self._run: Any = None
        self._problem: Problem | None = None

    def versions(self) -> dict[str, str]:
        return self._module.versions()

    def prepare(self, case: str, quick: bool, folder: str, check: str) -> dict[str, Any]:
        """Lay the case out and do its work once (a few epochs); what came out goes to the file `check`."""
        chosen: Case = CASES[case].quick() if quick else CASES[case]
        self._problem = problem = Problem(chosen, Path(folder))
        work = self._contender.work or chosen.work
        if not hasattr(self._module, work):
            return {"cannot": f"no {work} here"}
        start = time.perf_counter()
        self._run = getattr(self._module, work)(problem, self._threads)
        found = self._call(0)
        first_call = time.perf_counter() - start
        for epoch in range(1, chosen.check_epochs if chosen.work == "epoch" else 1):
            found = self._call(epoch)
        if self._contender.role != LIMIT:
            np.save(check, np.asarray(found, np.float64))
        return {"first_call": first_call}

    def time(self, round_number: int) -> dict[str, Any]:
        """Seconds of doing the work once, right after it was done: nobody trains for one epoch between rests, in which
        others use the caches that cores share.
        """
        assert self._problem is not None
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
            for _ in range(inner // 20):  # a call of microseconds should not pay for a core that has just been asleep
                run()
            start = time.perf_counter()
            for _ in range(inner):
                run()
        return {"seconds": (time.perf_counter() - start) / inner}

    def drop(self) -> dict[str, Any]:
        """Give the memory of the case back."""
        self._run = self._problem = None
        return {}

    @property
    def _is_epoch(self) -> bool:
        assert self._problem is not None
        return self._problem.case.work == "epoch"

    def _arguments(self, round_number: int) -> tuple:
        assert self._problem is not None
        return (self._problem.order(round_number), self._problem.case.learning_rate) if self._is_epoch else ()

    def _call(self, round_number: int) -> Any:
        return self._run(*self._arguments(round_number))


def main(contender: str, threads: int) -> None:
    """Answer the runner until it closes the pipe."""
    # Messages have a stream of their own: whatever a library prints on stdout joins stderr.
    messages = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    confine(threads)
    try:
        server = WorkerServer(contender, threads)
    except Missing as error:
        print(json.dumps({"missing": str(error)}), file=messages)
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
    main(sys.argv[1], int(sys.argv[2]))
