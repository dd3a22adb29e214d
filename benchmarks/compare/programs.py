"""Cases that are whole processes: start to accuracy, the first run with an empty kernel cache, and memory."""

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
from benchmarks.compare.environment import ROOT, environment, module_command
from benchmarks.compare.results import CaseResult, ContenderResult
from benchmarks.compare.rounds import Run

EPOCHS, QUICK_EPOCHS = 10, 1
MAX_ROUNDS, MAX_COLD_ROUNDS = 7, 3
DATA_SET_BYTES = 70_000 * 784
SHORT_RUN = ["--recipe", "fundamentals", "--epochs", "1"]
TARGET_ACCURACY = 0.98


def measure(run: Run, case: Case) -> CaseResult:
    """Measure a case whose work is a whole process."""
    return {"start": _start, "first-train": _first_train, "memory": _memory}[case.work](run, case)


# --- Process start to accuracy ---------------------------------------------------------------------------------------
def _start(run: Run, case: Case) -> CaseResult:
    result, path = CaseResult(case), run.folder / "mnist.npz"
    problems.write_split(path, 1000 if run.quick else None)
    # JAX caches its compiled epoch on disk, so that it also starts with a warm cache, as fastnn does.
    caches = {
        "JAX_COMPILATION_CACHE_DIR": str(run.folder / "jax-cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    epochs = QUICK_EPOCHS if run.quick else EPOCHS

    def once(contender: str) -> tuple[float, float]:
        checkout = run.checkout(contender)
        arguments = (contender, str(path), str(epochs), str(run.threads), str(checkout))
        seconds, lines = timed_process(
            module_command("benchmarks.start_to_accuracy", *arguments),
            {**environment(run.threads, checkout), **caches},
            checkout,
        )
        run.kernels.setdefault(contender, json.loads(lines[1]))
        return seconds, float(lines[0])

    for contender in filter(run.takes_part, case.contenders):
        run.progress(f"{case.name}: first run of {contender}")
        found = result.contenders[contender] = ContenderResult(contender)
        try:
            found.first_call, found.result = once(contender)
        except ProcessFailed as error:
            if error.missing:
                run.missing[CONTENDERS[contender].library] = str(error)
                del result.contenders[contender]
                continue
            _fail(result, contender, error)
            continue
        if found.result < TARGET_ACCURACY and not run.quick:
            found.note = f"reached {found.result:.2%} after {epochs} epochs, expected {TARGET_ACCURACY:.0%}"
            result.faults.append(f"{contender}: {found.note}")
    shuffle = np.random.default_rng([problems.SEED, len(result.contenders)])
    active = [contender for contender, found in result.contenders.items() if found.first_call is not None]
    n_rounds = min(run.repeats, MAX_ROUNDS)
    for round_number in range(n_rounds):
        run.progress(f"{case.name}: round {round_number + 1} of {n_rounds}")
        for contender in shuffle.permutation(active):
            run.rest()
            try:
                result.contenders[contender].rounds.append(once(contender)[0])
            except ProcessFailed as error:
                _fail(result, contender, error)
                active.remove(contender)
    return result


def _fail(result: CaseResult, contender: str, error: Exception) -> None:
    result.contenders[contender] = ContenderResult(contender, note=f"failed: {error}")
    result.faults.append(f"{contender} failed: {error}")


# --- The first run ever ----------------------------------------------------------------------------------------------
def _first_train(run: Run, case: Case) -> CaseResult:
    """Measure the extra time of `fastnn train` with an empty kernel cache over a second run with the filled cache."""
    result = CaseResult(case, {name: ContenderResult(name) for name in case.contenders})
    shuffle = np.random.default_rng([problems.SEED, len(case.contenders)])
    active, n_rounds = list(case.contenders), 1 if run.quick else min(run.repeats, MAX_COLD_ROUNDS)
    for round_number in range(n_rounds):
        run.progress(f"{case.name}: round {round_number + 1} of {n_rounds}")
        for contender in shuffle.permutation(active):
            try:
                cold, warm = _cold_and_warm(run, run.checkout(contender))
            except ProcessFailed as error:
                _fail(result, contender, error)
                active.remove(contender)
            else:
                result.contenders[contender].rounds.append(cold - warm)
                result.contenders[contender].note = f"last round: {cold:.1f} s cold, {warm:.1f} s warm"
    return result


def _cold_and_warm(run: Run, checkout: Path) -> tuple[float, float]:
    size = SHORT_RUN if run.quick else []
    with tempfile.TemporaryDirectory() as folder:
        variables = {**environment(run.threads, checkout), "NUMBA_CACHE_DIR": os.path.join(folder, "cache")}
        cold, warm = (
            timed_process(
                [sys.executable, "-m", "fastnn", "train", *size, "--json", "--out", os.path.join(folder, name)],
                variables,
                checkout,
            )[0]
            for name in ("cold", "warm")
        )
    return cold, warm


# --- Memory ----------------------------------------------------------------------------------------------------------
_MEMORY_PROGRAM = """
import json, sys
from pathlib import Path
import fastnn.cli.command, fastnn.training.progress, fastnn.runs.folder, fastnn.runs.recipes, fastnn.training.train
import fastnn.evaluation, fastnn.plots
import fastnn.backends.compiled, fastnn.files.model_file, fastnn.datasets
import matplotlib.figure, matplotlib.backends.backend_agg

def status(name):
    (line,) = [line for line in open("/proc/self/status") if line.startswith(name)]
    return int(line.split()[1]) * 1024

Path("/proc/self/clear_refs").write_text("5")  # resets the peak to the memory in use now
before = status("VmRSS")
code = fastnn.cli.main(["train", "--json", "--out", *sys.argv[1:]])
if code:
    sys.exit(code)
print("\\n" + json.dumps([before, status("VmHWM")]))
"""


def peak_memory(arguments: Sequence[str], threads: int) -> tuple[int, int]:
    """Return the resident bytes of ``fastnn train ARGUMENTS`` after all imports, and their peak in the rest of the run.

    Raises
    ------
    ProcessFailed
        If the run fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", _MEMORY_PROGRAM, os.path.join(folder, "run"), *arguments]
        _, lines = timed_process(command, environment(threads))
    before, peak = json.loads(lines[-1])
    return before, peak


def can_measure_memory() -> bool:
    """Return whether the system reports a process's peak memory and can reset it (Linux)."""
    return Path("/proc/self/clear_refs").exists()


def _memory(run: Run, case: Case) -> CaseResult:
    """Measure the peak of resident memory in the default run, minus the resident memory after all imports."""
    contender = ContenderResult("fastnn")
    result = CaseResult(case, {"fastnn": contender})
    if not can_measure_memory():
        contender.note = "needs Linux's /proc"
        return result
    for round_number in range(1 if run.quick else min(run.repeats, 3)):
        run.progress(f"{case.name}: round {round_number + 1}")
        try:
            before, peak = peak_memory(SHORT_RUN if run.quick else [], run.threads)
        except ProcessFailed as error:
            result.faults.append(f"fastnn failed: {error}")
            break
        contender.rounds.append((peak - before) / DATA_SET_BYTES)
        contender.note = f"{before / 2**20:.0f} MiB after imports, {peak / 2**20:.0f} MiB at the peak"
    return result


# --- Processes -------------------------------------------------------------------------------------------------------
class ProcessFailed(Exception):
    """A program ended with an error. `missing` is True if a library could not be imported."""

    def __init__(self, log: Sequence[str], code: int) -> None:
        super().__init__(log[-1] if log else f"code {code}")
        self.missing = any("benchmarks.compare.worker.Missing" in line for line in log)


def timed_process(command: Sequence[str], variables: dict[str, str], folder: Path = ROOT) -> tuple[float, list[str]]:
    """Run a command in a folder and return the seconds until its first line of output, and all its lines.

    Raises
    ------
    ProcessFailed
        If the exit code is nonzero.
    """
    with tempfile.TemporaryFile() as log:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, cwd=folder, env=variables, text=True)
        assert process.stdout is not None
        with process.stdout as output:
            lines = [output.readline()]
            seconds = time.perf_counter() - start
            lines += output
        if process.wait():
            log.seek(0)
            raise ProcessFailed(log.read().decode(errors="replace").strip().splitlines(), process.returncode)
    return seconds, [line.strip() for line in lines]
