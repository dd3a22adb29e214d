"""The runner: calls one worker at a time, in a new random order each round, while all others are blocked."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.compare import problems
from benchmarks.compare.cases import MIN_ROUNDS, Case
from benchmarks.compare.contenders import CONTENDERS, LIMIT
from benchmarks.compare.environment import ROOT
from benchmarks.compare.ratios import disagreement, relative_norm
from benchmarks.compare.results import CaseResult, ContenderResult
from benchmarks.compare.worker import Broken, Missing, TooSlow, Worker, usable_cores

# Limits on one timing. While another process keeps a core busy, threads that wait for each other can take minutes per
# epoch.
MAX_SECONDS, MAX_SECONDS_DISTURBED = 600.0, 60.0


@dataclass
class Run:
    """The settings of a run and its workers. A worker starts when it is first needed.

    Attributes
    ----------
    threads, repeats : int
    libraries : set of str
        Libraries whose contenders run; always includes "fastnn".
    quick : bool
    folder : Path
        Folder for the data that the workers share.
    pause : float
        Seconds to wait before each timing, so that the previous contender's thread pool stops spinning.
    other_checkout : Path or None
        Another checkout whose fastnn runs too.
    progress : function of str
        Called with a message before each step.
    missing : dict of str
        Libraries that cannot be imported, with the reason.
    versions : dict of str
    kernels : dict of dict of str
        The kernels that each contender's libraries ran.
    background_load : list of float
        Fraction of the cores' time used by other processes, one value per pause.
    """

    threads: int
    repeats: int
    libraries: set[str]
    folder: Path
    quick: bool = False
    pause: float = 0.3
    other_checkout: Path | None = None
    progress: Callable[[str], None] = lambda text: None
    missing: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    kernels: dict[str, dict[str, str]] = field(default_factory=dict)
    background_load: list[float] = field(default_factory=list)
    _workers: dict[str, Worker] = field(default_factory=dict)

    def takes_part(self, contender: str) -> bool:
        """Return whether the contender's library was requested and is installed."""
        library = CONTENDERS[contender].library
        return library in self.libraries and library not in self.missing

    def rest(self) -> None:
        """Pause, and record the load of other processes on the cores while all processes of the run are idle."""
        before = _core_seconds()
        time.sleep(self.pause)
        after = _core_seconds()
        if before and after and after[1] > before[1]:
            self.background_load.append(1 - (after[0] - before[0]) / (after[1] - before[1]))

    def checkout(self, contender: str) -> Path:
        """Return the checkout that the contender's fastnn comes from."""
        if not CONTENDERS[contender].other_checkout:
            return ROOT
        assert self.other_checkout is not None
        return self.other_checkout

    def worker(self, contender: str) -> Worker:
        """Return the contender's worker; start it if necessary.

        Raises
        ------
        Missing
            If the contender's library cannot be imported.
        Broken
            If the worker fails to start.
        """
        if contender not in self._workers:
            worker = Worker(contender, self.threads, self.checkout(contender))
            if not CONTENDERS[contender].other_checkout:
                self.versions.update(worker.versions)
            self._workers[contender] = worker
        return self._workers[contender]

    def forget(self, contender: str) -> None:
        """End a worker that failed. The next case starts a new one."""
        if contender in self._workers:
            self._workers.pop(contender).close()

    def close(self) -> None:
        """End all workers."""
        for contender in list(self._workers):
            self.forget(contender)


def measure(run: Run, case: Case) -> CaseResult:
    """Prepare every contender, compare their results, then time the rounds."""
    problems.write(case, run.folder)
    result, checks = CaseResult(case), {}
    changes: dict[str, dict[str, np.ndarray]] = {}
    for contender in filter(run.takes_part, case.contenders):
        run.progress(f"{case.name}: preparing {contender}")
        result.contenders[contender] = ContenderResult(contender)
        try:
            answer = run.worker(contender).ask(
                "prepare",
                case=case.name,
                quick=run.quick,
                folder=str(run.folder),
                check=str(run.folder / f"check-{contender}.npz"),
            )
        except Missing as error:
            run.missing[CONTENDERS[contender].library] = str(error)
            del result.contenders[contender]
            continue
        except Broken as error:
            _fail(run, result, contender, error)
            continue
        if "cannot" in answer:
            result.contenders[contender].note = answer["cannot"]
            continue
        result.contenders[contender].first_call = answer["first_call"]
        result.contenders[contender].digest = answer["digest"]
        if CONTENDERS[contender].role != LIMIT:
            with np.load(run.folder / f"check-{contender}.npz") as file:
                changes[contender] = dict(file)
            checks[contender] = changes[contender].pop("result")
    compare_results(result, checks)
    compare_changes(result, changes)
    time_rounds(run, case, result)
    if not run.quick:
        check_accuracies(result)
    for contender, found in result.contenders.items():
        if found.first_call is not None:
            with contextlib.suppress(Broken):
                run.kernels[contender] = run.worker(contender).ask("kernels")
                run.worker(contender).ask("drop")
    return result


def compare_results(result: CaseResult, checks: dict[str, np.ndarray]) -> None:
    """Compare every contender's result with fastnn's. A difference is a fault of the case."""
    base = checks.get(result.case.contenders[0])
    if base is None:
        result.faults.append("fastnn has no result to compare with")
        return
    for contender, found in checks.items():
        result.contenders[contender].result = float(np.mean(found))
        reason = disagreement(found, base, result.case.band)
        if reason is not None:
            result.contenders[contender].note = reason
            result.faults.append(f"{contender}: {reason}")


def compare_changes(result: CaseResult, changes: dict[str, dict[str, np.ndarray]]) -> None:
    """Compare what the first steps changed in every contender's weights with fastnn's. A difference is a fault."""
    base = changes.get(result.case.contenders[0], {})
    for contender, found in changes.items():
        for name, expected in base.items():
            off = relative_norm(found[name], expected)
            if not off <= result.case.changes_band:
                reason = (
                    f"change of {name} after {result.case.check_steps} steps differs from fastnn's by {off:.2g} of its "
                    f"norm, allowed {result.case.changes_band:.2g}"
                )
                result.contenders[contender].note = reason
                result.faults.append(f"{contender}: {reason}")
                break


def check_accuracies(result: CaseResult) -> None:
    """Replace each contender's result by its mean accuracy. One that is too low is a fault."""
    for contender, found in result.contenders.items():
        if found.accuracies:
            found.result = float(np.mean(found.accuracies))
            if found.result < result.case.accuracy:
                found.note = f"mean accuracy {found.result:.2%}, expected {result.case.accuracy:.0%}"
                result.faults.append(f"{contender}: {found.note}")


def time_rounds(run: Run, case: Case, result: CaseResult) -> None:
    """Time every prepared contender once per round, in a new random order."""
    active = [contender for contender, found in result.contenders.items() if found.first_call is not None]
    shuffle = np.random.default_rng([problems.SEED, len(active)])
    start = time.monotonic()
    with busy_core(any(CONTENDERS[contender].disturbed for contender in active), run.threads) as disturb:
        for round_number in range(run.repeats):
            if round_number >= MIN_ROUNDS and time.monotonic() - start > case.most_seconds:
                result.remarks.append(
                    f"stopped after {round_number} of {run.repeats} rounds, at the limit of {case.most_seconds:g} s"
                )
                break
            run.progress(f"{case.name}: round {round_number + 1} of {run.repeats}")
            for contender in shuffle.permutation(active):
                run.rest()
                is_disturbed = CONTENDERS[contender].disturbed
                limit = MAX_SECONDS_DISTURBED if is_disturbed else MAX_SECONDS
                disturb(is_disturbed)
                try:
                    # Timed epochs continue after the checked ones, and every epoch has a new order.
                    epoch = case.check_epochs + round_number * 2 * case.inner
                    answer = run.worker(contender).ask("time", within=limit, round_number=epoch)
                except TooSlow as error:  # a result, not a fault
                    result.contenders[contender] = ContenderResult(contender, note=f"too slow to time: {error}")
                    run.forget(contender)
                    active.remove(contender)
                except Broken as error:
                    _fail(run, result, contender, error)
                    active.remove(contender)
                else:
                    result.contenders[contender].rounds.append(answer["seconds"])
                    if "accuracy" in answer:
                        result.contenders[contender].accuracies.append(answer["accuracy"])
                finally:
                    disturb(False)


def _fail(run: Run, result: CaseResult, contender: str, error: Broken) -> None:
    result.contenders[contender] = ContenderResult(contender, note=f"failed: {error}")
    result.faults.append(f"{contender} failed: {error}")
    run.forget(contender)


def _core_seconds() -> tuple[int, int] | None:
    """Return the cores' idle ticks and all ticks since the machine started, or None without Linux's /proc."""
    try:
        ticks = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    except (OSError, ValueError):
        return None
    return ticks[3] + ticks[4], sum(ticks)


@contextlib.contextmanager
def busy_core(wanted: bool, threads: int) -> Iterator[Callable[[bool], None]]:
    """Start a process that can keep one of the contenders' cores busy.

    Yields a function: True lets the process run, False stops it. The process starts stopped.
    """
    if not wanted:
        yield lambda on: None
        return
    # The process ends with its parent, however the parent ends.
    program = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    for _ in range(10**6): pass"
    if hasattr(os, "sched_setaffinity"):
        program = f"import os\nos.sched_setaffinity(0, [{usable_cores(threads)[0]}])\n{program}"
    with subprocess.Popen([sys.executable, "-c", program]) as process:

        def disturb(on: bool) -> None:
            os.kill(process.pid, signal.SIGCONT if on else signal.SIGSTOP)

        try:
            disturb(False)
            yield disturb
        finally:
            process.kill()
