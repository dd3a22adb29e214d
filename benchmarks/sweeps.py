"""Measures many runs: what a sweep by threads adds to the kernels' own time, and Hyperband's load against scikit-learn.

    python -m benchmarks.sweeps [--seeds 100] [--epochs 10] [--max-iter 81] [--rows 14815] [--rounds 3] [--json]

The first part trains 784-128-10 on MNIST with many seeds. The kernels' own time is the sum of the training time of all
epochs, measured where two runs of one thread each keep the cores as busy as in the sweep, divided by the number of
cores. A sweep that adds nothing takes as long. Memory is the peak of the process, against that of a single run.

The second part makes the calls of Hyperband, as dask-ml's HyperbandSearchCV does with max_iter 81 and aggressiveness 3:
143 models and 1,581 calls of `partial_fit`. The schedule of successive halving is computed here, and both libraries get
the same models, the same rows and the same decisions, so that only the time of the calls differs. Estimators of
fastnn run one after the other on all cores; scikit-learn's, as well, with the threads of its BLAS.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

import fastnn
from fastnn.backends.threads import usable_cores


# --- Many seeds by threads ---
class Sweep(NamedTuple):
    """The figures of a sweep in a process of its own."""

    seconds: float  # the wall-clock time
    kernel_seconds: float  # the sum of the training times of all epochs
    peak_bytes: int  # the peak of the resident memory


def run_sweep(seeds: int, epochs: int) -> Sweep:
    """Time a sweep of MNIST in this process, whose kernels are loaded before."""
    fastnn.warmup()
    train, _ = fastnn.load_mnist()
    held = train.take(slice(1000))
    settings: dict[str, Any] = {"validation": held, "hidden": (128,), "backend": "numba"}
    start = time.perf_counter()
    result = fastnn.sweep(None, train, seeds=range(seeds), epochs=epochs, **settings)
    seconds = time.perf_counter() - start
    return Sweep(seconds, sum(record.seconds for record in result.records), _peak_bytes())


def _peak_bytes() -> int:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def sweep_in_process(seeds: int, epochs: int) -> Sweep:
    """Return `run_sweep` of a new process, because a peak of memory cannot be taken back."""
    program = f"import json; from benchmarks.sweeps import run_sweep; print(json.dumps(run_sweep({seeds}, {epochs})))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return Sweep(*json.loads(run.stdout))


def measure_sweep(seeds: int, epochs: int, rounds: int) -> dict[str, Any]:
    """Return the medians over some rounds of a sweep, each beside a single run for the memory."""
    cores = usable_cores()
    found = [(sweep_in_process(seeds, epochs), sweep_in_process(1, epochs)) for _ in range(rounds)]
    return {
        "seeds": seeds,
        "epochs": epochs,
        "cores": cores,
        "seconds": statistics.median(many.seconds for many, _ in found),
        "over the kernels' own time": statistics.median(
            many.seconds / (many.kernel_seconds / cores) for many, _ in found
        ),
        "memory over one run": statistics.median(many.peak_bytes / one.peak_bytes for many, one in found),
    }


# --- Hyperband's load ---
class Call(NamedTuple):
    """A call of `partial_fit`: the number of the model, and the number of the part of the rows."""

    model: int
    part: int


def brackets(max_iter: int, aggressiveness: int = 3) -> list[tuple[int, int]]:
    """Return the number of models and of their first calls of each bracket of Hyperband (Li et al. 2018)."""
    s_max, found = _whole_log(max_iter, aggressiveness), []
    for s in range(s_max, -1, -1):
        n_models = math.ceil((s_max + 1) / (s + 1) * aggressiveness**s)
        found.append((n_models, max(1, max_iter // aggressiveness**s)))
    return found


def _whole_log(value: int, base: int) -> int:
    power = 0
    while base ** (power + 1) <= value:
        power += 1
    return power


def calls(max_iter: int, aggressiveness: int = 3) -> Iterator[Call]:
    """Yield the calls of successive halving in every bracket. Of the models of a rung, the first third goes on.

    Which ones go on does not change the number of calls, and a rule without scores is the same for both libraries.
    """
    first = 0
    for n_models, n_calls in brackets(max_iter, aggressiveness):
        alive, done, target = list(range(first, first + n_models)), 0, n_calls
        while alive:
            for model in alive:
                for part in range(done, target):
                    yield Call(model, part)
            done, target = target, min(target * aggressiveness, max_iter)
            alive = alive[: len(alive) // aggressiveness] if target > done else []
        first += n_models


def parameters(model: int) -> dict[str, Any]:
    """Return the parameters of a model of the search, drawn by its number; both libraries have the same ones."""
    rng = np.random.default_rng(model)
    return {
        "hidden_layer_sizes": [(24,), (12, 12), (8, 8, 8), (6, 6, 6, 6)][rng.integers(4)],
        "activation": ["relu", "logistic", "tanh"][rng.integers(3)],
        "alpha": float(10 ** rng.uniform(-6, -3)),
        "batch_size": int([32, 64, 128, 256, 512][rng.integers(5)]),
        "learning_rate_init": float(10 ** rng.uniform(-4, -2)),
        "random_state": model,
    }


def hyperband_data(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a table of 6 inputs and 4 classes with so many rows, as in the search that is repeated: float32, int64."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, rows)
    centres = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])[labels]
    inputs = np.concatenate([centres + rng.normal(0, 0.6, (rows, 2)), rng.uniform(-1, 1, (rows, 4))], axis=1)
    return inputs.astype(np.float32), labels


def run_load(library: str, max_iter: int, rows: int) -> float:
    """Return the seconds of all calls of the search with one library."""
    if library == "fastnn":
        fastnn.warmup()
        from fastnn import MLPClassifier as Classifier
    else:
        from sklearn.neural_network import MLPClassifier as Classifier
    inputs, labels = hyperband_data(rows)
    classes, models = np.unique(labels), dict[int, Any]()
    start = time.perf_counter()
    for call in calls(max_iter):
        if call.model not in models:
            models[call.model] = Classifier(**parameters(call.model))
        models[call.model].partial_fit(inputs, labels, classes=classes)
    return time.perf_counter() - start


def measure_load(max_iter: int, rows: int, rounds: int) -> dict[str, Any]:
    """Return the medians of both libraries, in turn, and the median of their ratios."""
    pairs = [(run_load("fastnn", max_iter, rows), run_load("scikit-learn", max_iter, rows)) for _ in range(rounds)]
    every = list(calls(max_iter))
    return {
        "models": len({call.model for call in every}),
        "calls": len(every),
        "rows": rows,
        "fastnn seconds": statistics.median(ours for ours, _ in pairs),
        "scikit-learn seconds": statistics.median(theirs for _, theirs in pairs),
        "times faster": statistics.median(theirs / ours for ours, theirs in pairs),
    }


def main() -> None:
    """Print both parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=100, help="runs of the sweep; 0: leave it out (default: 100)")
    parser.add_argument("--epochs", type=int, default=10, help="epochs of each run (default: 10)")
    parser.add_argument("--max-iter", type=int, default=81, help="of Hyperband; 0: leave it out (default: 81)")
    parser.add_argument("--rows", type=int, default=14_815, help="rows of each call of partial_fit (default: 14,815)")
    parser.add_argument("--rounds", type=int, default=3, help="repetitions, of which the median counts (default: 3)")
    parser.add_argument("--json", action="store_true", help="print one JSON value")
    options = parser.parse_args()
    found = {}
    if options.seeds:
        found["sweep"] = measure_sweep(options.seeds, options.epochs, options.rounds)
    if options.max_iter:
        found["Hyperband's load"] = measure_load(options.max_iter, options.rows, options.rounds)
    if options.json:
        print(json.dumps(found))
        return
    for name, figures in found.items():
        print(name)
        for key, value in figures.items():
            print(f"  {key}: {value:,.3f}" if isinstance(value, float) else f"  {key}: {value:,}")


if __name__ == "__main__":
    main()
