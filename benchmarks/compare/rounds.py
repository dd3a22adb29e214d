"""The runner: asks one worker after the other, in an order shuffled anew each round, while all others sleep."""

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
from benchmarks.compare.cases import FEWEST_ROUNDS, Case
from benchmarks.compare.contenders import CONTENDERS, LIMIT
from benchmarks.compare.environment import ROOT
from benchmarks.compare.ratios import disagreement
from benchmarks.compare.results import CaseResult, ContenderResult
from benchmarks.compare.worker import Broken, Missing, TooSlow, Worker, usable_cores

# Threads that wait for each other can make one epoch take minutes where another process wants their core.
MOST_SECONDS_A_TURN, MOST_SECONDS_DISTURBED = 600.0, 60.0


@dataclass
class Run:
    """The settings of a run, and its workers, each started when first needed.

    Attributes
    ----------
    threads, repeats : int
    libraries : set of str
        Who takes part; "fastnn" always does.
    quick : bool
    folder : Path
        For the data the workers share.
    pause : float
        Seconds before each turn, in which the thread pool of the one before stops spinning.
    other_checkout : Path or None
        Whose fastnn takes part too.
    progress : function of str
        Told what is being done.
    missing : dict of str
        Libraries that cannot be imported, and why.
    versions : dict of str
    kernels : dict of dict of str
        What each contender's libraries ran.
    background_load : list of float
        The share of the cores that was busy in each pause.
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
        """Whether its library was asked for and is there."""
        library = CONTENDERS[contender].library
        return library in self.libraries and library not in self.missing

    def rest(self) -> None:
        """Pause, and note the share of the cores that was busy meanwhile, though none of the run's processes was."""
        before = _core_seconds()
        time.sleep(self.pause)
        after = _core_seconds()
        if before and after and after[1] > before[1]:
            self.background_load.append(1 - (after[0] - before[0]) / (after[1] - before[1]))

    def checkout(self, contender: str) -> Path:
        """Where the contender's fastnn comes from."""
        if not CONTENDERS[contender].other_checkout:
            return ROOT
        assert self.other_checkout is not None
        return self.other_checkout

    def worker(self, contender: str) -> Worker:
        """The contender's worker.

        Raises
        ------
        Missing, Broken
        """
        if contender not in self._workers:
            worker = Worker(contender, self.threads, self.checkout(contender))
            if not CONTENDERS[contender].other_checkout:
                self.versions.update(worker.versions)
            self._workers[contender] = worker
        return self._workers[contender]

    def forget(self, contender: str) -> None:
        """End a worker that failed; the next case starts another."""
        if contender in self._workers:
            self._workers.pop(contender).close()

    def close(self) -> None:
        """End all workers."""
        for contender in list(self._workers):
            self.forget(contender)


def measure(run: Run, case: Case) -> CaseResult:
    """Prepare every contender, compare what came out, then time the rounds."""
    problems.write(case, run.folder)
    result, checks = CaseResult(case), {}
    for contender in filter(run.takes_part, case.contenders):
        run.progress(f"{case.name}: {contender} prepares")
        result.contenders[contender] = ContenderResult(contender)
        try:
            answer = run.worker(contender).ask(
                "prepare",
                case=case.name,
                quick=run.quick,
                folder=str(run.folder),
                check=str(run.folder / f"check-{contender}.npy"),
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
            checks[contender] = np.load(run.folder / f"check-{contender}.npy")
    compare_results(result, checks)
    time_rounds(run, case, result)
    for contender, found in result.contenders.items():
        if found.first_call is not None:
            with contextlib.suppress(Broken):
                run.kernels[contender] = run.worker(contender).ask("kernels")
                run.worker(contender).ask("drop")
    return result


def compare_results(result: CaseResult, checks: dict[str, np.ndarray]) -> None:
    """Hold every contender's result against fastnn's; one that differs is a fault of the case."""
    base = checks.get(result.case.contenders[0])
    if base is None:
        result.faults.append("fastnn gave no result to compare with")
        return
    for contender, found in checks.items():
        result.contenders[contender].result = float(np.mean(found))
        reason = disagreement(found, base, result.case.band)
        if reason is not None:
            result.contenders[contender].note = reason
            result.faults.append(f"{contender}: {reason}")


def time_rounds(run: Run, case: Case, result: CaseResult) -> None:
    """Time every prepared contender once a round, in an order drawn anew."""
    turns = [contender for contender, found in result.contenders.items() if found.first_call is not None]
    shuffle = np.random.default_rng([problems.SEED, len(turns)])
    start = time.monotonic()
    with busy_core(any(CONTENDERS[contender].disturbed for contender in turns), run.threads) as disturb:
        for round_number in range(run.repeats):
            if round_number >= FEWEST_ROUNDS and time.monotonic() - start > case.most_seconds:
                result.remarks.append(f"{round_number} of {run.repeats} rounds: {case.most_seconds:g} s had passed")
                break
            run.progress(f"{case.name}: round {round_number + 1} of {run.repeats}")
            for contender in shuffle.permutation(turns):
                run.rest()
                is_disturbed = CONTENDERS[contender].disturbed
                limit = MOST_SECONDS_DISTURBED if is_disturbed else MOST_SECONDS_A_TURN
                disturb(is_disturbed)
                try:
                    # Rounds go on where the checked epochs ended, and no epoch repeats an order.
                    epoch = case.check_epochs + round_number * 2 * case.inner
                    answer = run.worker(contender).ask("time", within=limit, round_number=epoch)
                except TooSlow as error:  # a finding, no fault
                    result.contenders[contender] = ContenderResult(contender, note=f"too slow to time: {error}")
                    run.forget(contender)
                    turns.remove(contender)
                except Broken as error:
                    _fail(run, result, contender, error)
                    turns.remove(contender)
                else:
                    result.contenders[contender].rounds.append(answer["seconds"])
                finally:
                    disturb(False)


def _fail(run: Run, result: CaseResult, contender: str, error: Broken) -> None:
    result.contenders[contender] = ContenderResult(contender, note=f"failed: {error}")
    result.faults.append(f"{contender} failed: {error}")
    run.forget(contender)


def _core_seconds() -> tuple[int, int] | None:
    """Ticks that the cores were idle, and all ticks, since the machine started; None without Linux's /proc."""
    try:
        ticks = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    except (OSError, ValueError):
        return None
    return ticks[3] + ticks[4], sum(ticks)


@contextlib.contextmanager
def busy_core(wanted: bool, threads: int) -> Iterator[Callable[[bool], None]]:
    """A process that keeps one of the contenders' cores busy, asleep until the function given is called with True."""
    if not wanted:
        yield lambda on: None
        return
    # It ends with its parent, however that ends.
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
