"""Runs pairs of processes, one of each library, round by round, and collects what they found."""

import json
import os
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.compare.environment import ROOT, environment, module_command
from benchmarks.compare.ratios import Ratio, paired_ratio
from benchmarks.workloads.table import Workload
from benchmarks.workloads.worker import LIBRARIES, Request, Times

# The largest differences that count as equal results, relative for losses. L-BFGS amplifies rounding, and early
# stopping stops at another epoch once a score differs by one sample.
SCORE, LOSS, ITERATIONS = 0.02, 0.01, 0.05
SENSITIVE_SCORE, SENSITIVE_LOSS = 0.05, 0.5
CPU, WALL = 0, 1
EMPTY_CACHE = "first fit, empty cache"


@dataclass
class Found:
    """What was measured of a workload or an example.

    Attributes
    ----------
    name, group : str
    results : dict of str to dict
        By library, of the first round.
    faults : list of str
        Reasons why the times are not comparable; then there is one round.
    times : dict
        By measure and library, the CPU and wall seconds of each round.
    memory : dict of str to list of float
        By library, the MB that the first fit added, in each round.
    kernels : dict of str to dict
        By library, the BLAS kernels that ran.
    """

    name: str
    group: str
    results: dict[str, dict[str, float]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    times: dict[str, dict[str, list[Times]]] = field(default_factory=dict)
    memory: dict[str, list[float]] = field(default_factory=dict)
    kernels: dict[str, dict[str, str]] = field(default_factory=dict)

    def ratio(self, measure: str, clock: int = CPU) -> Ratio | None:
        """Return scikit-learn's time over fastnn's, paired by rounds, or None if a library has no times."""
        by_library = self.times.get(measure, {})
        mine, theirs = (by_library.get(library, []) for library in LIBRARIES)
        if not mine or len(mine) != len(theirs):
            return None
        return paired_ratio(*([max(each[clock], 1e-9) for each in times] for times in (theirs, mine)))

    def seconds_beyond(self, measure: str, clock: int = CPU) -> float | None:
        """Return fastnn's seconds beyond scikit-learn's, the median of rounds."""
        by_library = self.times.get(measure, {})
        mine, theirs = (by_library.get(library, []) for library in LIBRARIES)
        if not mine or len(mine) != len(theirs):
            return None
        return float(np.median([one[clock] - other[clock] for one, other in zip(mine, theirs, strict=True)]))


@dataclass
class Settings:
    """How to measure: the number of rounds, the dtype, whether quickly, and whether from empty caches too."""

    rounds: int = 3
    dtype: str = "float32"
    quick: bool = False
    empty_cache: bool = False
    progress: Callable[[str], None] = lambda text: None


class WorkerError(RuntimeError):
    """A worker process ended without an answer."""


def ask(request: Request, cache: str | None = None) -> dict[str, Any]:
    """Run a worker process and return its answer; `cache` is a folder for Numba's cache instead of the user's.

    Raises
    ------
    WorkerError
        If the process fails. The message ends with its last line.
    """
    variables = environment(1) | ({"NUMBA_CACHE_DIR": cache} if cache else {})
    command = module_command("benchmarks.workloads.worker", json.dumps(request._asdict()))
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise WorkerError(f"{request.library} ended with code {done.returncode}: {last}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def measure_workload(workload: Workload, settings: Settings) -> Found:
    """Compare the results of one round, then time it and the further rounds."""
    found = Found(workload.name, workload.group)
    is_sensitive = workload.solver == "lbfgs" or bool(workload.settings.get("early_stopping"))
    _measure(found, "workload", settings, lambda: unequal_fits(found.results, is_sensitive))
    if settings.empty_cache and not found.faults:
        settings.progress(f"{workload.name}: the first fit with an empty cache")
        for library in LIBRARIES:
            with tempfile.TemporaryDirectory(prefix="fastnn-workloads-") as cache:
                request = Request("first fit", workload.name, library, settings.dtype, settings.quick)
                times = ask(request, cache)["times"]["first fit"]
            found.times.setdefault(EMPTY_CACHE, {})[library] = [times]
    return found


def measure_example(name: str, tolerance: float, settings: Settings) -> Found:
    """As `measure_workload`, for an example."""
    found = Found(name, "examples")
    _measure(found, "example", settings, lambda: unequal_numbers(found.results, tolerance))
    return found


def _measure(found: Found, kind: str, settings: Settings, unequal: Callable[[], list[str]]) -> None:
    order = np.random.default_rng(0)
    for number in range(settings.rounds):
        settings.progress(f"{found.name}: round {number + 1} of {settings.rounds}")
        for library in order.permutation(LIBRARIES).tolist():
            try:
                answer = ask(Request(kind, found.name, library, settings.dtype, settings.quick))
            except WorkerError as error:
                found.faults.append(str(error))
                return
            found.results.setdefault(library, answer["results"])
            found.kernels[library] = answer["kernels"]
            for measure, times in answer["times"].items():
                found.times.setdefault(measure, {}).setdefault(library, []).append(tuple(times))
            if answer.get("memory") is not None:
                found.memory.setdefault(library, []).append(answer["memory"])
        if number == 0:
            found.faults = unequal()
            if found.faults:
                return


def unequal_fits(results: dict[str, dict[str, float]], is_sensitive: bool) -> list[str]:
    """Return how the fits of the libraries differ in score, loss and iterations, in sentences; none if they are equal.

    A fit is sensitive if rounding may change when it stops: then only large differences of score and loss count.
    """
    mine, theirs = (results[library] for library in LIBRARIES)
    score, loss = (SENSITIVE_SCORE, SENSITIVE_LOSS) if is_sensitive else (SCORE, LOSS)
    faults = []
    if not abs(mine["score"] - theirs["score"]) <= score:
        faults.append(f"score {mine['score']:.4f}, scikit-learn {theirs['score']:.4f}")
    # A loss near 0 is compared absolutely.
    if not abs(mine["loss"] - theirs["loss"]) <= loss * max(theirs["loss"], 0.05):
        faults.append(f"loss {mine['loss']:.5g}, scikit-learn {theirs['loss']:.5g}")
    if not is_sensitive and abs(mine["iterations"] - theirs["iterations"]) > ITERATIONS * theirs["iterations"]:
        faults.append(f"{mine['iterations']:.0f} iterations, scikit-learn {theirs['iterations']:.0f}")
    return faults


def unequal_numbers(results: dict[str, dict[str, float]], tolerance: float) -> list[str]:
    """Return how the numbers of an example differ by more than `tolerance`, in sentences."""
    mine, theirs = (results[library] for library in LIBRARIES)
    if mine.keys() != theirs.keys():
        return [f"results {sorted(mine)}, scikit-learn {sorted(theirs)}"]
    return [
        f"{name} {mine[name]:.4g}, scikit-learn {theirs[name]:.4g}"
        for name in mine
        if not abs(mine[name] - theirs[name]) <= tolerance
    ]


def background_load() -> float | None:
    """Return the number of processes that wanted a core in the last minute, or None where the system has no such."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None
