"""Time rounds of `fastnn.dask` on one and on two workers, and compare the accuracy of averages with that of one run.

    python -m benchmarks.dask_rounds [--rows N] [--rounds N] [--repeats N] [--seeds N] [--epochs N] [--replicas N]
                                     [--optimizer NAME ...]

The times are those of rounds on workers of one thread each, without the first round, which sends the rows. Runs on one
and on two workers alternate. For two workers to be compared with one, nothing else may use two of the cores.
`--repeats 0` and `--seeds 0` leave a part out.
"""

import argparse
import json
import statistics

import numpy as np
from distributed import Client, LocalCluster

import fastnn
from fastnn.dask import train as dask_train


def seconds_of_rounds(n_workers: int, data: fastnn.Dataset, rounds: int, batch_size: int) -> list[float]:
    """Return the seconds of each round but the first, on new workers."""
    network = fastnn.Network.for_data(data, (128,))
    with (
        LocalCluster(n_workers=n_workers, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        result = dask_train(
            network, data, client=client, replicas=2, epochs=rounds + 1, batch_size=batch_size, backend="numba"
        )
    return result.history.column("seconds")[1:].tolist()


def times(rows: int, rounds: int, repeats: int, batch_size: int) -> dict[str, float]:
    """Return the median seconds of a round on one and on two workers, and their ratio."""
    train_set, _ = fastnn.load_mnist()
    data = train_set.take(np.arange(rows) % len(train_set))
    found: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(repeats):
        for n_workers, seconds in found.items():
            seconds += seconds_of_rounds(n_workers, data, rounds, batch_size)
    one, two = (statistics.median(found[n_workers]) for n_workers in (1, 2))
    return {"one worker (s)": one, "two workers (s)": two, "ratio": one / two}


def accuracies(optimizer: str, replicas: int, epochs: int, seeds: int) -> dict[str, object]:
    """Return test accuracies in percent, of `fastnn.train` and of averages after as many epochs."""
    train_set, test_set = fastnn.load_mnist()
    runs: dict[str, list[float]] = {"train": [], f"{replicas} replicas": []}
    for seed in range(seeds):
        network = fastnn.Network.for_data(train_set, (128,), seed=seed)
        settings = {"epochs": epochs, "optimizer": optimizer, "seed": seed, "backend": "numba"}
        results = [
            fastnn.train(network, train_set, **settings),
            dask_train(network, train_set, client="synchronous", replicas=replicas, **settings),
        ]
        for found, result in zip(runs.values(), results, strict=True):
            found.append(100 * fastnn.evaluate(result.network, test_set)[1])
    one, mean = (statistics.mean(found) for found in runs.values())
    return {"optimizer": optimizer, **runs, "difference": mean - one}


def main() -> None:
    """Print the results as a line of JSON each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_400_000, help="rows of both replicas: a round of 1 s or more")
    parser.add_argument("--batch-size", type=int, default=256, help="batch of both replicas together")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3, help="pairs of runs to time")
    parser.add_argument("--seeds", type=int, default=5, help="seeds to compare the accuracy of")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--replicas", type=int, default=4)
    parser.add_argument("--optimizer", nargs="+", default=["sgd", "momentum", "adam"])
    options = parser.parse_args()
    if options.repeats:
        print(json.dumps(times(options.rows, options.rounds, options.repeats, options.batch_size)), flush=True)
    for optimizer in options.optimizer if options.seeds else []:
        print(json.dumps(accuracies(optimizer, options.replicas, options.epochs, options.seeds)), flush=True)


if __name__ == "__main__":
    main()
