"""Measures one workload or one example in a process of its own, with one library on one core.

    python -m benchmarks.workloads.worker REQUEST

The request is a JSON object; see `Request`. Prints one JSON object: results to compare with the other library's, and
times as pairs of CPU seconds, of all threads and ended children, and wall seconds.
"""

import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.compare.kernels import loaded_kernels
from benchmarks.compare.worker import confine

Times = tuple[float, float]  # CPU and wall seconds
LIBRARIES = ("fastnn", "scikit-learn")
# Later fits are repeated until they took this long in all, and so are predictions.
FIT_SECONDS, PREDICT_SECONDS, MOST_REPEATS = 2.0, 0.3, 9
ONE_ROW_CALLS, ONE_ROW_BATCHES = 50, 5
PARTIAL_ROWS, PARTIAL_WINDOW = 32, 10
# Before these calls of partial_fit, and in how many seconds the calls before must be done.
PARTIAL_CALLS, PARTIAL_SECONDS = (10, 1000), 20.0


class Request(NamedTuple):
    """What to measure.

    kind: "workload", "first fit" (of a workload, and nothing else) or "example"
    name: of the workload or the example
    library: one of `LIBRARIES`
    dtype: "float32" or "float64"; an example runs with the library's defaults instead
    quick: few rows, inputs and repetitions
    """

    kind: str
    name: str
    library: str
    dtype: str = "float32"
    quick: bool = False


def timed(call: Callable[[], Any]) -> tuple[Any, Times]:
    """Return what `call` returns, and its times. Those of children are counted in hundredths of a second."""
    children, cpu, wall = sum(os.times()[2:4]), time.process_time(), time.perf_counter()
    found = call()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return found, (cpu + (sum(os.times()[2:4]) - children), wall)


def median(times: list[Times]) -> Times:
    """Return the medians of CPU and wall seconds."""
    cpu, wall = np.median(np.array(times), axis=0)
    return float(cpu), float(wall)


def repeated(call: Callable[[], Any], seconds: float, least: int, most: int = MOST_REPEATS) -> Times:
    """Return the median times of a call that is repeated for some seconds, at least `least` times."""
    times = [timed(call)[1]]
    while len(times) < least or (len(times) < most and sum(wall for _, wall in times) < seconds):
        times.append(timed(call)[1])
    return median(times)


def estimators(library: str) -> tuple[Any, Any]:
    """Import and return the classifier's and the regressor's class."""
    if library == "fastnn":
        from fastnn import MLPClassifier, MLPRegressor
    else:
        from sklearn.neural_network import MLPClassifier, MLPRegressor
    return MLPClassifier, MLPRegressor


class _Memory:
    """The largest memory of this process since the object was made, in MB; None without Linux's /proc."""

    def __init__(self) -> None:
        self._start = None
        try:
            Path("/proc/self/clear_refs").write_text("5")  # the largest value begins anew
            self._start = self._field("VmRSS")
        except OSError:
            pass

    def added(self) -> float | None:
        return None if self._start is None else max(self._field("VmHWM") - self._start, 0.0)

    @staticmethod
    def _field(name: str) -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def measure_workload(request: Request) -> dict[str, Any]:
    """Return the results and the times of a workload."""
    from benchmarks.workloads.table import select

    (workload,) = select([request.name])
    workload = workload.quick() if request.quick else workload
    classes, imported = timed(lambda: estimators(request.library))  # first, because data import scikit-learn, too
    inputs, targets = workload.load()
    if request.dtype == "float32":
        inputs, targets = inputs.astype("f4"), targets.astype("f4") if targets.dtype.kind == "f" else targets
    own = {"dtype": request.dtype, "n_threads": 1} if request.library == "fastnn" else {}

    def new() -> Any:
        return classes[workload.is_regression](random_state=0, **workload.settings, **own)

    memory = _Memory()
    model, first = timed(lambda: new().fit(inputs, targets))
    found: dict[str, Any] = {"times": {"import": imported, "first fit": first}, "memory": memory.added()}
    rows = slice(min(inputs.shape[0], 5000))
    score, loss = float(model.score(inputs[rows], targets[rows])), float(model.loss_)
    found["results"] = {"score": score, "loss": loss, "iterations": int(model.n_iter_)}
    if request.kind == "workload":
        least = 1 if request.quick or first[1] > 4 else 3
        found["times"]["fit"] = repeated(lambda: new().fit(inputs, targets), FIT_SECONDS, least)
        found["times"] |= _predictions(model, inputs, request.quick)
        if workload.has_partial_fit:
            found["times"] |= _partial_fits(new(), inputs, targets, workload.is_regression, request.quick)
    return found


def _predictions(model: Any, inputs: Any, quick: bool) -> dict[str, Times]:
    one = inputs[:1]
    for _ in range(20):
        model.predict(one)
    calls = 2 if quick else ONE_ROW_CALLS
    batches = [timed(lambda: [model.predict(one) for _ in range(calls)])[1] for _ in range(ONE_ROW_BATCHES)]
    cpu, wall = median(batches)
    model.predict(inputs)
    all_rows = repeated(lambda: model.predict(inputs), PREDICT_SECONDS, 3, 1000)
    return {"predict": all_rows, "predict one row": (cpu / calls, wall / calls)}


def _partial_fits(model: Any, inputs: Any, targets: Any, is_regression: bool, quick: bool) -> dict[str, Times]:
    """Return the times of calls of `partial_fit` after some calls before, as long as these take few seconds."""
    rows = slice(min(PARTIAL_ROWS, inputs.shape[0]))
    given = (inputs[rows], targets[rows])
    classes = np.unique(targets) if targets.ndim == 1 else np.arange(targets.shape[1])
    model.partial_fit(*given, **({} if is_regression else {"classes": classes}))
    found, times, end = {}, [], time.perf_counter() + PARTIAL_SECONDS
    for calls in PARTIAL_CALLS[: 1 if quick else None]:
        while len(times) < calls + PARTIAL_WINDOW:
            times.append(timed(lambda: model.partial_fit(*given))[1])
            if time.perf_counter() > end:
                return found
        found[f"partial_fit, call {calls:,}"] = median(times[calls:])
    return found


def measure_example(request: Request) -> dict[str, Any]:
    """Return the results and the times of an example: of its first run in the process, and of a later one."""
    classes, imported = timed(lambda: estimators(request.library))
    from benchmarks.workloads.examples import EXAMPLES

    example = EXAMPLES[request.name]
    results, first = timed(lambda: example.run(*classes))
    found = {"results": results, "times": {"import": imported, "first run": first}}
    if not request.quick:
        found["times"]["run"] = repeated(lambda: example.run(*classes), FIT_SECONDS, 1)
    return found


def main(text: str) -> None:
    """Measure, and print what was found with the kernels that really ran."""
    messages = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what an example prints
    request = Request(**json.loads(text))
    confine(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that few epochs do not converge
        found = (measure_example if request.kind == "example" else measure_workload)(request)
    kernels = {name: kernel for name, kernel in loaded_kernels().items() if name.startswith("BLAS")}
    print(json.dumps({**found, "kernels": kernels}), file=messages, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
