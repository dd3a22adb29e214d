"""A round of a replica, which is a pure function, and the average of a round.

In a round, every replica trains a copy of the average on its own rows for some epochs. Its result depends on the
average, its rows, the seed, the epoch and its number, and on nothing else: any worker computes it, and again after a
failure, to the same bits.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from fastnn.backends.base import TrainerState
from fastnn.errors import DivergenceError
from fastnn.network import Network
from fastnn.optim.config import TrainingConfig
from fastnn.randomness import MAX_SEED, generator
from fastnn.training.history import NAN
from fastnn.training.train import train


class Average(NamedTuple):
    """What a round starts from: the network, and the optimizer's state, which is None before the first round."""

    network: Network
    state: TrainerState | None


class Factors:
    """The schedule of a round, as numbers: workers need not know the schedule of the run.

    Parameters
    ----------
    first : int
        The number of epochs before the round.
    factors : sequence of sequences of float
        The factors of the learning rate in the equal parts of each epoch.
    """

    def __init__(self, first: int, factors: Sequence[Sequence[float]]) -> None:
        self.parts_of_epoch = len(factors[0])
        self._first = first
        self._factors = [factor for of_epoch in factors for factor in of_epoch]

    def __call__(self, epoch: float, epochs: int) -> float:
        """Return the factor of an epoch, or of a part of one, which is named by its middle."""
        return self._factors[round((epoch - self._first + 0.5) * self.parts_of_epoch - 0.5)]


class Plan(NamedTuple):
    """What all replicas of a round are told.

    config : the settings of the run, with the number of the learning rate, and one thread or the user's number
    first : the number of epochs before the round
    factors : those of each epoch of the round, see `Factors`
    n_rows : the number of rows of all replicas
    """

    config: TrainingConfig
    first: int
    factors: list[list[float]]
    n_rows: int

    def config_of(self, replica: int, n_rows: int) -> TrainingConfig:
        """Return the settings of a replica with `n_rows` rows.

        Batches are cut in proportion to the rows, so the replicas make the steps of `fastnn.train`: the average of
        their updates has the noise of the whole batch. If L2 is divided by the samples of a batch, it stays the same.
        """
        config, share = self.config, n_rows / self.n_rows
        changed: dict[str, Any] = {}
        if config.batch_size is not None:
            changed["batch_size"] = batch_size = max(1, round(config.batch_size * share))
            share = batch_size / config.batch_size
        if config.divide_l2:
            changed["l2"] = config.l2 * share
        return config.replace(
            epochs=len(self.factors), schedule=Factors(self.first, self.factors), warm_up=0, early_stopping=None,
            seed=seed_of(config.seed, replica), **changed,
        )  # fmt: skip


def seed_of(seed: int, replica: int) -> int:
    """Return the seed of a replica; the first one has that of the run."""
    return seed if replica == 0 else int(generator(seed, "replica", replica).integers(MAX_SEED))


class ReplicaResult(NamedTuple):
    """The result of a replica's round.

    n_rows : the number of its rows
    network : the trained network
    state : the optimizer's state
    epochs : (loss, accuracy) of each epoch; one with a loss of NaN is the last, because training diverged in it
    """

    n_rows: int
    network: Network
    state: TrainerState | None
    epochs: list[tuple[float, float]]


def train_replica(
    replica: int, plan: Plan, average: Average, data: Any, sample_weight: np.ndarray | None = None
) -> ReplicaResult:
    """Train a copy of the average on the rows of a replica; `data` is a Dataset or BlockedData."""
    config = plan.config_of(replica, len(data))
    try:
        result = train(average.network, data, sample_weight=sample_weight, resume=average.state, config=config)
    except DivergenceError as error:
        history = error.result.history
        epochs = [(record.loss, record.accuracy) for record in history]
        return ReplicaResult(len(data), average.network, None, [*epochs, (NAN, NAN)])
    epochs = [(record.loss, record.accuracy) for record in result.history]
    return ReplicaResult(len(data), result.network, result.state, epochs)


def average(results: Sequence[ReplicaResult]) -> Average:
    """Return the mean of the replicas' arrays by their rows, summed in float64 in the order of the replicas.

    The optimizer's arrays are averaged like the weights. An array that is the same in all replicas stays as it is.
    """
    n_rows = [result.n_rows for result in results]

    def mean(arrays: Callable[[ReplicaResult], Sequence[np.ndarray]]) -> list[np.ndarray]:
        return [_mean(each, n_rows) for each in zip(*map(arrays, results), strict=True)]

    network = results[0].network.like(
        mean(lambda result: result.network.weights),
        mean(lambda result: result.network.biases),
        mean(lambda result: result.network.statistics),
    )
    states = [result.state for result in results]
    first = states[0]
    assert first is not None
    slots = tuple(
        (mean(partial(_slot, slot=slot, kind=0)), mean(partial(_slot, slot=slot, kind=1)))
        for slot in range(len(first.slots))
    )
    steps = sum(n * state.steps for n, state in zip(n_rows, states, strict=True) if state is not None)
    return Average(network, first._replace(slots=slots, steps=round(steps / sum(n_rows))))


def average_metrics(results: Sequence[ReplicaResult]) -> list[tuple[float, float]]:
    """Return loss and accuracy of each epoch over the rows of all replicas; NaN for an epoch that diverged in one."""
    n_epochs = min(len(result.epochs) for result in results)
    total = sum(result.n_rows for result in results)
    means = []
    for epoch in range(n_epochs):
        pairs = [(result.n_rows / total, *result.epochs[epoch]) for result in results]
        means.append((sum(share * loss for share, loss, _ in pairs), sum(share * right for share, _, right in pairs)))
    return means


def _slot(result: ReplicaResult, slot: int, kind: int) -> list[np.ndarray]:
    assert result.state is not None
    return result.state.slots[slot][kind]


def _mean(arrays: Sequence[np.ndarray], n_rows: Sequence[int]) -> np.ndarray:
    first = arrays[0]
    if all(np.array_equal(first, other) for other in arrays[1:]):
        return first
    total = np.zeros(first.shape)
    for array, n in zip(arrays, n_rows, strict=True):
        total += n * array.astype(np.float64)
    return (total / sum(n_rows)).astype(first.dtype)
