"""The cases that are whole processes: from the start of Python to the figure, the first run ever, and memory."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.compare import problems
from benchmarks.compare.cases import Case
from benchmarks.compare.contenders import CONTENDERS
from benchmarks.compare.results import CaseResult, ContenderResult
from benchmarks.compare.rounds import Run
from benchmarks.compare.worker import ROOT, environment

EPOCHS, QUICK_EPOCHS = 10, 1
MOST_ROUNDS = 7
DATA_SET_BYTES = 70_000 * 784
SHORT_RUN = ["--recipe", "fundamentals", "--epochs", "1"]
WANTED_ACCURACY = 0.98


def measure(run: Run, case: Case) -> CaseResult:
    """Measure a case whose work is a whole process."""
    return {"start": _start, "first-train": _first_train, "memory": _memory}[case.work](run, case)


# --- Process start to accuracy ---------------------------------------------------------------------------------------
def _start(run: Run, case: Case) -> CaseResult:
    result, path = CaseResult(case), run.folder / "mnist.npz"
    problems.write_split(path, 1000 if run.quick else None)
    # JAX's own cache on disk, so that its compiled epoch is as warm as fastnn's.
    caches = {
        "JAX_COMPILATION_CACHE_DIR": str(run.folder / "jax-cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    epochs = QUICK_EPOCHS if run.quick else EPOCHS

    def once(contender: str) -> tuple[float, float]:
        command = ["-m", "benchmarks.start_to_accuracy", contender, str(path), str(epochs), str(run.threads)]
        seconds, said = timed_process(command, {**environment(run.threads), **caches})
        return seconds, float(said)

    for contender in filter(run.takes_part, case.contenders):
        run.say(f"{case.name}: {contender} runs for the first time")
        found = result.contenders[contender] = ContenderResult(contender)
        try:
            found.first_call, found.result = once(contender)
        except ProcessFailed as error:
            if error.missing:
                run.missing[CONTENDERS[contender].library] = str(error)
                del result.contenders[contender]
                continue
            found.note = f"failed: {error}"
            result.faults.append(f"{contender} failed: {error}")
            continue
        if found.result < WANTED_ACCURACY and not run.quick:
            found.note = f"reached {found.result:.2%} after {epochs} epochs, expected {WANTED_ACCURACY:.0%}"
            result.faults.append(f"{contender}: {found.note}")
    shuffle = np.random.default_rng([problems.SEED, len(result.contenders)])
    turns = [contender for contender, found in result.contenders.items() if found.first_call is not None]
    n_rounds = min(run.repeats, MOST_ROUNDS)
    for round_number in range(n_rounds):
        run.say(f"{case.name}: round {round_number + 1} of {n_rounds}")
        for contender in shuffle.permutation(turns):
            run.rest()
            try:
                result.contenders[contender].rounds.append(once(contender)[0])
            except ProcessFailed as error:
                result.contenders[contender] = ContenderResult(contender, note=f"failed: {error}")
                result.faults.append(f"{contender} failed: {error}")
                turns.remove(contender)
    return result


# --- The first run ever ----------------------------------------------------------------------------------------------
def _first_train(run: Run, case: Case) -> CaseResult:
    """Seconds of `fastnn train` with an empty folder for compiled kernels, less those of the same with that folder."""
    result = CaseResult(case, {"fastnn": ContenderResult("fastnn")})
    size = SHORT_RUN if run.quick else []
    for round_number in range(1 if run.quick else min(run.repeats, 3)):
        run.say(f"{case.name}: round {round_number + 1}")
        with tempfile.TemporaryDirectory() as folder:
            variables = {**environment(run.threads), "NUMBA_CACHE_DIR": os.path.join(folder, "cache")}
            try:
                cold, warm = (
                    timed_process(
                        ["-m", "fastnn", "train", *size, "--json", "--out", os.path.join(folder, name)], variables
                    )[0]
                    for name in ("cold", "warm")
                )
            except ProcessFailed as error:
                result.faults.append(f"fastnn failed: {error}")
                break
        result.contenders["fastnn"].rounds.append(cold - warm)
    return result


# --- Memory ----------------------------------------------------------------------------------------------------------
_MEMORY_PROGRAM = """
import json, sys
from pathlib import Path
import fastnn.cli, fastnn.progress, fastnn.runs, fastnn.recipes, fastnn.training, fastnn.evaluation, fastnn.plots
import fastnn.backends.compiled, fastnn.model_file, fastnn.datasets
import matplotlib.figure, matplotlib.backends.backend_agg

def status(name):
    (line,) = [line for line in open("/proc/self/status") if line.startswith(name)]
    return int(line.split()[1]) * 1024

Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again from what is in use now
before = status("VmRSS")
code = fastnn.cli.main(["train", "--json", "--out", *sys.argv[1:]])
if code:
    sys.exit(code)
print("\\n" + json.dumps([before, status("VmHWM")]))
"""


def peak_memory(arguments: Sequence[str], threads: int) -> tuple[int, int]:
    """Resident bytes after all imports of ``fastnn train ARGUMENTS``, and its high-water mark from there on.

    Raises
    ------
    ProcessFailed
        If the run fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = ["-c", _MEMORY_PROGRAM, os.path.join(folder, "run"), *arguments]
        _, said = timed_process(command, environment(threads), last_line=True)
    before, peak = json.loads(said)
    return before, peak


def can_measure_memory() -> bool:
    """Whether the system tells a process its own high-water mark, and lets it start anew (Linux)."""
    return Path("/proc/self/clear_refs").exists()


def _memory(run: Run, case: Case) -> CaseResult:
    """The rise of the high-water mark of resident memory, from after all imports to the end of the default run."""
    contender = ContenderResult("fastnn")
    result = CaseResult(case, {"fastnn": contender})
    if not can_measure_memory():
        contender.note = "needs Linux's /proc"
        return result
    for round_number in range(1 if run.quick else min(run.repeats, 3)):
        run.say(f"{case.name}: round {round_number + 1}")
        try:
            before, peak = peak_memory(SHORT_RUN if run.quick else [], run.threads)
        except ProcessFailed as error:
            result.faults.append(f"fastnn failed: {error}")
            break
        contender.rounds.append((peak - before) / DATA_SET_BYTES)
        contender.note = f"{before / 2**20:.0f} MiB after imports, {peak / 2**20:.0f} MiB at the highest"
    return result


# --- Processes -------------------------------------------------------------------------------------------------------
class ProcessFailed(Exception):
    """A program ended with an error; `missing` if a library could not be imported."""

    def __init__(self, said: Sequence[str], code: int) -> None:
        super().__init__(said[-1] if said else f"code {code}")
        self.missing = any("benchmarks.compare.worker.Missing" in line for line in said)


def timed_process(arguments: Sequence[str], variables: dict[str, str], last_line: bool = False) -> tuple[float, str]:
    """Run Python with these arguments: seconds until its first line of output (or its last), and that line.

    Raises
    ------
    ProcessFailed
        If its exit code is not 0.
    """
    with tempfile.TemporaryFile() as log:
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=log, cwd=ROOT, env=variables, text=True
        )
        assert process.stdout is not None
        with process.stdout as output:
            line = output.readline()
            seconds = time.perf_counter() - start
            for later in output:
                if last_line:
                    line, seconds = later, time.perf_counter() - start
        if process.wait():
            log.seek(0)
            raise ProcessFailed(log.read().decode(errors="replace").strip().splitlines(), process.returncode)
    return seconds, line.strip()
