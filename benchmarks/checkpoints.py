"""Measures what checkpoints cost: runs with and without them in turn, and the time that copying and writing take.

Two figures for each case. The ratio of the whole runs is the cost as a user sees it, with the noise of the machine. The
time within `Saver` is the cost itself. Both runs must end with the same weights, which is checked first.
Run `python -m benchmarks.checkpoints`; `--rounds N` for another number of pairs.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import fastnn
from benchmarks.compare.ratios import paired_ratio
from fastnn.training.checkpoint import Saver


def _mnist() -> fastnn.Dataset:
    return fastnn.load_mnist()[0]


# The data, the hidden layers and the settings of each case.
CASES: dict[str, tuple[Callable[[], fastnn.Dataset], tuple[int, ...], dict[str, Any]]] = {
    "MNIST 784-128-10, SGD, 60 epochs": (_mnist, (128,), {"epochs": 60}),
    "MNIST 784-512-256-10, Adam, 10 epochs": (_mnist, (512, 256), {"epochs": 10, "optimizer": "adam"}),
    "digits 64-16-10, SGD, 10,000 epochs": (fastnn.load_digits, (16,), {"epochs": 10_000}),
}


class Spent:
    """The seconds within the methods of `Saver` that copy and write."""

    def __init__(self) -> None:
        self.seconds = 0.0
        for name in ("_take", "_write"):
            setattr(Saver, name, self._timed(getattr(Saver, name)))

    def _timed(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def timed(*arguments: Any) -> Any:
            start = time.perf_counter()
            try:
                return method(*arguments)
            finally:
                self.seconds += time.perf_counter() - start

        return timed


def measure(name: str, rounds: int, spent: Spent, file: Path) -> str:
    """Return a line of a table with the costs of one case."""
    load, hidden, settings = CASES[name]
    data = load()
    network = fastnn.Network.for_data(data, hidden)
    fastnn.train(network, data, **{**settings, "epochs": 1})  # compiles
    seconds: dict[str, list[float]] = {"without": [], "with": []}
    own = []
    for number in range(rounds):
        ends = []
        for way in sorted(seconds, reverse=bool(number % 2)):  # neither is always the first
            before, start = spent.seconds, time.perf_counter()
            result = fastnn.train(network, data, checkpoint=file if way == "with" else None, **settings)
            seconds[way].append(time.perf_counter() - start)
            ends.append(result.network)
            if way == "with":
                own.append((spent.seconds - before) / seconds[way][-1])
        if not all((one == other).all() for one, other in zip(ends[0].weights, ends[1].weights, strict=True)):
            raise SystemExit(f"{name}: the weights differ with checkpoints")
    ratio = paired_ratio(seconds["with"], seconds["without"])
    cells = (
        name,
        f"{statistics.median(seconds['with']):.1f}",
        f"{ratio.median:.3f} ({ratio.low:.3f} to {ratio.high:.3f})",
        f"{100 * statistics.median(own):.2f} ({100 * min(own):.2f} to {100 * max(own):.2f})",
        f"{file.stat().st_size / 1e6:.2f}",
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="pairs of runs per case (default: 5)")
    rounds = parser.parse_args().rounds
    spent = Spent()
    print("| case | s | with / without | copying and writing, % | MB |\n| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for name in CASES:
            print(measure(name, rounds, spent, Path(folder) / "run.safetensors"), flush=True)


if __name__ == "__main__":
    main()
