"""Plot epoch time against the number of samples, hidden units and threads.

    python -m benchmarks.scaling [--rounds N] [--out FOLDER]

The networks have one hidden layer and are trained on MNIST in float32, with batch size 64 and plain gradient descent.
All points of a round are timed one after the other, so that a drift of the clock frequency affects all of them. A point
is the median over the rounds. The command writes scaling.json and scaling.png.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import fastnn
from fastnn.backends import get_backend
from fastnn.backends.threads import usable_cores

SAMPLES = (7_500, 15_000, 30_000, 45_000, 60_000)
HIDDEN = (16, 32, 64, 128, 256, 384, 512, 768, 1024)
BATCH, WIDTH, FEWER = 64, 128, 15_000
# Units in one panel.
PANEL = 64
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")


def measure(rounds: int, threads: list[int]) -> dict[str, Any]:
    """Return the seconds of each point and round. Samples vary at WIDTH units; units vary at FEWER samples."""
    train_set, _ = fastnn.load_mnist()
    assert train_set.labels is not None
    orders = {n: np.random.default_rng(n).permutation(len(train_set.images))[:n] for n in SAMPLES}
    points = [("samples", n, WIDTH, t) for n in SAMPLES for t in threads]
    points += [("units", FEWER, hidden, t) for hidden in HIDDEN for t in threads]
    trainers = {}
    for _, _, hidden, t in points:
        if (hidden, t) not in trainers:
            network = fastnn.Network.initialize((train_set.images.shape[1], hidden, 10), seed=1, input_scale=1 / 255)
            trainers[hidden, t] = get_backend("numba").trainer(
                network, train_set.images, train_set.labels, fastnn.SGD(), threads=t
            )
            trainers[hidden, t].run_epoch(orders[SAMPLES[0]], BATCH, 0.1)
    seconds: dict[tuple, list[float]] = {point: [] for point in points}
    for number in range(rounds):
        for point in points if number % 2 == 0 else points[::-1]:
            _, n, hidden, t = point
            start = time.perf_counter()
            trainers[hidden, t].run_epoch(orders[n], BATCH, 0.1)
            seconds[point].append(time.perf_counter() - start)
    return {
        "batch_size": BATCH,
        "points": [
            {"by": by, "samples": n, "units": hidden, "threads": t, "seconds": found}
            for (by, n, hidden, t), found in seconds.items()
        ],
    }


def draw(result: dict[str, Any]) -> Figure:
    """Plot time by samples and by units. Lines are least-squares fits to the points of at least PANEL on the x axis."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    for axes, by, title in zip(
        figure.subplots(1, 2),
        ("samples", "units"),
        (f"784-{WIDTH}-10, by samples", f"784-H-10 on {FEWER:,} samples, by H"),
        strict=True,
    ):
        for colour, t in zip(COLOURS, sorted({point["threads"] for point in result["points"]}), strict=False):
            points = [point for point in result["points"] if point["by"] == by and point["threads"] == t]
            x = np.array([point[by] for point in points])
            low, y, high = 1e3 * np.quantile([point["seconds"] for point in points], (0.25, 0.5, 0.75), axis=1)
            fitted = x >= PANEL
            slope, start = np.polyfit(x[fitted], y[fitted], 1)
            off = np.abs(start + slope * x - y)[fitted] / y[fitted]
            label = f"{t} thread{'s' if t > 1 else ''}, at most {off.max():.0%} off the line"
            axes.errorbar(x, y, (y - low, high - y), fmt="o", color=colour, markersize=4, capsize=2, label=label)
            line = np.array([min(x[fitted]), max(x)])
            axes.plot(line, start + slope * line, color=colour, linewidth=1)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("samples per epoch" if by == "samples" else "units in the hidden layer")
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.grid(color="0.9")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=8, frameon=False, loc="upper left")
    figure.axes[0].set_ylabel("milliseconds per epoch\n(median, quartiles)")
    return figure


def main() -> None:
    """Measure, write the files and print their paths."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9, help="rounds to time (default: 9)")
    parser.add_argument("--out", type=Path, default=Path("."), help="output folder (default: the current one)")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error(f"argument --rounds: is {options.rounds}, expected 1 or more")
    threads = [1, 2] if usable_cores() > 1 else [1]
    result = measure(options.rounds, threads)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "scaling.json").write_text(json.dumps(result, indent=1) + "\n")
    draw(result).savefig(options.out / "scaling.png", dpi=110, metadata={"Software": None})
    print(options.out / "scaling.json", options.out / "scaling.png")


if __name__ == "__main__":
    main()
