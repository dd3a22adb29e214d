"""Times synchronous steps on ranks of MPI of one thread each, against one such rank, in turn.

All runs must end with the same weights, which is checked first. Run `python -m benchmarks.mpi_steps`; the options give
the ranks, the network, the batch and the number of rounds. It needs as many idle cores as ranks.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import fastnn
import fastnn.mpi

# The number of epochs of each run. The first one is not counted: it warms the caches.
EPOCHS = 4


def run_rank(hidden: tuple[int, ...], batch: int, slices: int, optimizer: str) -> None:
    """Train as one rank; rank 0 prints the seconds of a step and the digest of the run."""
    data = fastnn.load_mnist()[0]
    data = data.take(np.arange(len(data) // batch * batch))
    network = fastnn.Network.for_data(data, hidden)
    result = fastnn.mpi.train(
        network, data, slices=slices, batch_size=batch, epochs=EPOCHS, optimizer=optimizer, backend="numba", threads=1,
        shuffle=True,
    )  # fmt: skip
    steps = len(data) // batch
    seconds = min(record.seconds for record in result.history[1:]) / steps
    if result.state is not None:  # rank 0
        print(json.dumps({"step": seconds, "digest": result.digest()}), flush=True)


def measure(ranks: int, arguments: list[str]) -> dict[str, float | str]:
    """Return what rank 0 of so many ranks prints."""
    mpiexec = shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or "mpiexec"
    command = [mpiexec, "-n", str(ranks), sys.executable, "-m", "benchmarks.mpi_steps", "--as-rank", *arguments]
    found: dict[str, float | str] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--hidden", type=int, nargs="*", default=[800])
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--slices", type=int, default=8)
    parser.add_argument("--optimizer", default="sgd")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--as-rank", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.as_rank:
        run_rank(tuple(options.hidden), options.batch_size, options.slices, options.optimizer)
        return
    arguments = ["--hidden", *map(str, options.hidden), "--batch-size", str(options.batch_size)]
    arguments += ["--slices", str(options.slices), "--optimizer", options.optimizer]
    start, ratios = time.perf_counter(), []
    for _ in range(options.rounds):
        one, several = (measure(ranks, arguments) for ranks in (1, options.ranks))
        if one["digest"] != several["digest"]:
            raise SystemExit(f"the runs differ: {one['digest']} and {several['digest']}")
        ratios.append(float(one["step"]) / float(several["step"]))
        print(
            f"step on 1 rank {float(one['step']) * 1e3:.2f} ms, on {options.ranks} ranks "
            f"{float(several['step']) * 1e3:.2f} ms: {ratios[-1]:.2f}",
            flush=True,
        )
    low, high = min(ratios), max(ratios)
    print(f"{options.ranks} ranks are {statistics.median(ratios):.2f} times as fast ({low:.2f} to {high:.2f})")
    print(f"{time.perf_counter() - start:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
