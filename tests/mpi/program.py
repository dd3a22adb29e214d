"""A program for `mpiexec`: trains what its arguments name, and prints one line of JSON on rank 0."""

import json
import sys
import time
import warnings
from typing import Any

import numpy as np

import fastnn
import fastnn.mpi
from fastnn import BatchNorm, Dense, EarlyStopping, Network

DATA = fastnn.load_digits().take(np.arange(330))
WEIGHT = np.random.default_rng(1).random(330)
USUAL: dict[str, Any] = {"epochs": 3, "batch_size": 64, "learning_rate": 0.01}


def network(*hidden: int) -> Network:
    """Return a network for the data."""
    return Network.for_data(DATA, hidden, seed=1)


def blocks() -> fastnn.BlockedData:
    """Return the data in blocks of 50 rows."""
    return fastnn.open_data(lambda k: DATA.take(np.arange(k * 50, min(330, k * 50 + 50))), n_blocks=7)


IN_BLOCKS: dict[str, Any] = {"buffer_blocks": 3, "backend": "numpy", "dropout": 0.2, "validation": DATA}


def stop_at_2(end: Any) -> bool:
    """Stop after the second epoch."""
    return end.record.epoch == 2


# Settings whose runs have the same bits on any number of ranks.
RUNS: dict[str, tuple[Network, dict[str, Any]]] = {
    "kernels": (network(90), {"backend": "numba", "optimizer": "adam", "l2": 0.01, "dropout": 0.2,
                              "sample_weight": WEIGHT, "validation": 0.2}),
    "numpy": (network(20), {"backend": "numpy", "optimizer": "momentum", "clip_norm": 0.3, "validation": 0.2,
                            "early_stopping": EarlyStopping(1), "epochs": 6, "learning_rate": 0.5}),
    "augmented": (network(20), {"backend": "numpy", "optimizer": "adam", "augment": "shift=1", "epochs": 2}),
    "frozen": (network(20, 12), {"backend": "numpy", "frozen": 1, "learning_rate": "auto", "dropout": 0.3}),
    "batch norm": (Network.initialize((64,), [Dense(12), BatchNorm(), Dense(10)], input_scale=1 / 16),
                   {"backend": "numpy", "callbacks": [stop_at_2]}),
}  # fmt: skip


def errors(ranks: Any, path: str) -> list[str]:
    """Return the errors of every rank, one text each, of trainings that must fail on all ranks."""
    from fastnn.backends.layerwise_slices import LayerwiseSlices

    found, rank = [], ranks.Get_rank()

    def attempt(data: Any = DATA, **settings: Any) -> None:
        try:
            fastnn.mpi.train(network(8), data, **{**USUAL, "backend": "numpy", **settings})
        except Exception as error:
            found.append(ranks.allgather(f"{type(error).__name__}: {error}"))
        else:
            found.append(ranks.allgather("no error"))

    attempt(DATA.take(np.arange(329)) if rank else DATA)
    attempt(batch_size=32 if rank else 64)
    attempt(slices=2 ** (ranks.Get_size() // 2 - 1))
    attempt(batch_size=-1 if rank else 64)
    attempt(learning_rate=1e30, callbacks=[] if rank else [lambda end: None])
    attempt(callbacks=[lambda end: 1 / 0])
    attempt(shuffle=lambda rows: rows)
    compute, calls = LayerwiseSlices.gradient, [0]

    def fail(*arguments: Any) -> Any:
        calls[0] += 1
        if rank == 1 and calls[0] == 50:
            raise MemoryError
        return compute(*arguments)

    LayerwiseSlices.gradient = fail  # type: ignore[method-assign]
    attempt(checkpoint=path, epochs=50)
    LayerwiseSlices.gradient = compute  # type: ignore[method-assign]
    return found


def unlike(ranks: Any) -> list[list[str]]:
    """Return what every rank says, of trainings of which rank 1 has other versions, another CPU or another network."""
    from fastnn.mpi import training

    rank, found = ranks.Get_rank(), []

    def attempt(one: Network, **settings: Any) -> None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                result = fastnn.mpi.train(one, DATA, **USUAL, backend="numpy", **settings).digest()
            except fastnn.SettingsError as error:
                result = f"{type(error).__name__}: {error}"
        found.append(ranks.allgather(" ".join([result, *(str(each.message) for each in caught)])))

    def changed(name: str, value: Any, **settings: Any) -> None:
        original = getattr(training, name)
        if rank == 1:
            setattr(training, name, lambda backend: value)
        attempt(network(8), **settings)
        setattr(training, name, original)

    changed("bit_versions", {"fastnn": "0.0.9", "numpy": "1.0"})
    changed("bit_versions", {"fastnn": "0.0.9", "numpy": "1.0"}, force=True)
    changed("_cpu", "znver9 v9")
    changed("_cpu", "znver9 v9", force=True)
    attempt(network(8 + rank))
    return found


def wait_for_rank_1(rank: int) -> str:
    """Begin late on rank 1, after the other ranks have said so; return the digest."""
    from fastnn.mpi import ranks

    if rank == 1:
        time.sleep(2.0)
    ranks._SILENT_SECONDS = 0.2
    return fastnn.mpi.train(network(8), DATA, **USUAL, backend="numpy").digest()


def wait_in_a_step(rank: int) -> str:
    """Stay in a step on rank 1 until the other ranks have said that they wait; return the digest."""
    from fastnn.backends.layerwise_slices import LayerwiseSlices
    from fastnn.mpi import ranks

    compute, calls = LayerwiseSlices.gradient, [0]

    def late(*arguments: Any) -> Any:
        calls[0] += 1
        if rank == 1 and calls[0] == 20:
            time.sleep(2.0)
        return compute(*arguments)

    ranks._SILENT_SECONDS = 0.2
    LayerwiseSlices.gradient = late  # type: ignore[method-assign]
    return fastnn.mpi.train(network(8), DATA, **USUAL, backend="numpy").digest()


def fail_alone(rank: int) -> None:
    """Fail on rank 1 where the others cannot learn of it."""
    from fastnn.mpi.training import _Following

    def fail(self: Any, position: Any) -> None:
        raise ValueError("of rank 1 only")

    _Following.between_epochs = fail  # type: ignore[method-assign]
    fastnn.mpi.train(network(8), DATA, **USUAL, backend="numpy")


def main() -> None:
    """Do what the arguments say: names of runs, "blocks", "errors PATH", "unlike", "late", "slow" or "fail"."""
    from mpi4py import MPI

    world, names = MPI.COMM_WORLD, sys.argv[1:]
    printed: Any = None
    if names[0] == "errors":
        printed = errors(world, names[1])
    elif names[0] == "unlike":
        printed = unlike(world)
    elif names[0] == "late":
        printed = world.allgather(wait_for_rank_1(world.Get_rank()))
    elif names[0] == "slow":
        printed = world.allgather(wait_in_a_step(world.Get_rank()))
    elif names[0] == "fail":
        fail_alone(world.Get_rank())
    elif names[0] == "blocks":
        printed = world.allgather(fastnn.mpi.train(network(20), blocks(), **IN_BLOCKS, **USUAL).digest())
    else:
        digests = [fastnn.mpi.train(RUNS[name][0], DATA, **{**USUAL, **RUNS[name][1]}).digest() for name in names]
        printed = world.allgather(digests)
    if world.Get_rank() == 0:
        print(json.dumps(printed), flush=True)


if __name__ == "__main__":
    main()
