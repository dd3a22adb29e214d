"""Measures one pass over data in a file against training on the same rows in memory, and the anonymous memory of both.

The file is written once, with random rows that have as many zeros as MNIST. Passes over it and in memory alternate, in
processes of their own, so that neither has the other's memory.

    python -m benchmarks.streams                     8.1 million rows, 6.35 GB
    python -m benchmarks.streams --rows 1000000
    python -m benchmarks.streams --digits            test errors after one pass over infinite digits
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import fastnn

WIDTH, CLASSES, BATCH, HIDDEN = 784, 10, 64, (128,)
# The fraction of MNIST's pixels that are nonzero.
NONZERO = 0.19
ROWS_AT_ONCE = 65_536


def main() -> None:
    """Run the benchmark that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=8_100_000, help="rows of 784 bytes (default: 8,100,000)")
    parser.add_argument("--memory", default="430MB", help="the setting `memory` of the stream (default: 430MB)")
    parser.add_argument("--rounds", type=int, default=3, help="passes of each kind (default: 3)")
    parser.add_argument(
        "--file", type=Path, default=Path("build/streams.npy"), help="made if it is not there (default: %(default)s)"
    )
    parser.add_argument("--digits", action="store_true", help="count test errors after one pass over infinite digits")
    parser.add_argument("--pass", dest="one", choices=("stream", "memory"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.digits:
        print(json.dumps(train_on_digits(options.rows, options.memory)))
        return
    if options.one:
        print(json.dumps(one_pass(options.one, options.file, options.memory)))
        return
    options.file.parent.mkdir(parents=True, exist_ok=True)
    write_rows(options.file, options.rows)
    rates: dict[str, list[float]] = {"stream": [], "memory": []}
    for number in range(options.rounds):
        for kind in rates:
            command = [sys.executable, "-m", "benchmarks.streams", "--pass", kind, "--file", str(options.file)]
            command += ["--memory", options.memory]
            found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            rates[kind].append(found["rows_per_second"])
            print(f"round {number + 1}, {kind}: {found['rows_per_second']:,.0f} rows/s, RssAnon {found['anonymous']:,}")
    medians = {kind: float(np.median(values)) for kind, values in rates.items()}
    print(f"stream {medians['stream'] / medians['memory']:.1%} of the rate in memory")


def write_rows(path: Path, n_rows: int) -> None:
    """Write rows and their labels, unless the file has as many, and read it once into the page cache."""
    if not path.exists() or np.load(path, mmap_mode="r").shape != (n_rows, WIDTH):
        rng = np.random.default_rng(0)
        some = rng.integers(1, 256, (ROWS_AT_ONCE, WIDTH), np.uint8)
        some[rng.random(some.shape) > NONZERO] = 0
        rows = np.lib.format.open_memmap(path, "w+", np.uint8, (n_rows, WIDTH))
        for start in range(0, n_rows, ROWS_AT_ONCE):
            part = rows[start : start + ROWS_AT_ONCE]
            part[:] = some[: len(part)]
        del rows
        labels = (some.astype(np.int64).sum(axis=1) % CLASSES)[np.arange(n_rows) % ROWS_AT_ONCE]
        np.save(path.with_suffix(".labels.npy"), labels)
    with path.open("rb") as file:
        while file.read(2**24):
            pass


def one_pass(kind: str, path: Path, memory: str) -> dict[str, float]:
    """Train for one epoch from the file or in memory; return the rate, and the largest anonymous memory on the way."""
    data = fastnn.open_data(path, classes=range(CLASSES))
    network = fastnn.Network.for_data(data, HIDDEN, seed=0)
    settings: dict[str, Any] = {"epochs": 1, "batch_size": BATCH, "backend": "numba"}
    fastnn.train(network, data.head(), **settings)  # loads the kernels
    peak = _Peak()
    if kind == "stream":
        result = fastnn.train(network, data, memory=memory, callbacks=[peak], **settings)
    else:
        whole = fastnn.Dataset(np.load(path), np.load(path.with_suffix(".labels.npy")), pixel_max=255)
        result = fastnn.train(network, whole, callbacks=[peak], **settings)
    return {"rows_per_second": len(data) / result.history[-1].seconds, "anonymous": peak.largest}


def train_on_digits(n_rows: int, memory: str) -> dict[str, float]:
    """Train for one pass over infinite digits; return the errors on MNIST's 10,000 test images."""
    data, (_, test) = fastnn.infinite_digits(seed=0, n=n_rows), fastnn.load_mnist()
    network = fastnn.Network.for_data(data, HIDDEN, seed=0)
    start = time.perf_counter()
    result = fastnn.train(network, data, epochs=1, batch_size=BATCH, memory=memory, schedule="one-cycle", verbose=True)
    seconds = time.perf_counter() - start
    _, accuracy = fastnn.evaluate(result.network, test)
    return {"test_errors": round((1 - accuracy) * len(test)), "seconds": seconds, "anonymous": anonymous_memory()}


class _Peak:
    """A callback that measures the anonymous memory some times in an epoch."""

    def __init__(self) -> None:
        self.largest = 0

    def __call__(self, end: Any) -> None:
        """Measure at the end."""
        self.largest = max(self.largest, anonymous_memory())

    def before_batches(self, start: Any) -> int:
        """Measure about 20 times."""
        self.largest = max(self.largest, anonymous_memory())
        return -(-start.batches // 20)


def anonymous_memory() -> int:
    """Return the bytes of memory of this process that no file holds: RssAnon of /proc."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("RssAnon"))


if __name__ == "__main__":
    main()
