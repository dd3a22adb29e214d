"""Training in slices: a batch is cut into a fixed number of slices, whose gradients one fixed tree of sums adds.

The slices and the tree depend on the batch only. So the bits of a run do not depend on who computes which slice: one
process all of them, or each rank of several its own. A rank adds the gradients of its own slices, which are a subtree.
Each rank then adds the sums of all ranks for its own part of the parameters, updates that part, and gets the others.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple, Protocol, TypeVar

import numpy as np

from fastnn.backends.arguments import TrainingData, check_order
from fastnn.backends.base import EpochResult, EpochSums, TrainerState
from fastnn.errors import SettingsError
from fastnn.network import Network
from fastnn.network.aligned import aligned_zeros
from fastnn.network.snapshot import Snapshot
from fastnn.optim.clipping import clip_by_value, clipping_factor, global_norm
from fastnn.optim.config import TrainingConfig

Result = TypeVar("Result")

# The columns of a slice's record: its share of the loss, its number of correctly classified samples, and its number of
# samples in the statistics of batch normalisations, which follow, times that number.
_LOSS, _CORRECT, _COUNTED, _STATISTICS = range(4)
# About how many parameters a piece has: few enough to stay in the first caches, and for every rank to have some.
PIECE = 2**13


class Update(NamedTuple):
    """One step of the optimizer.

    rate: the learning rate
    step: the number of the step, counted from 1
    """

    rate: float
    step: int


class SliceEngine(Protocol):
    """What a backend does for a `SlicedTrainer`: gradients of slices, and updates of parts of the parameters.

    The parameters of the network lie in one vector, in an order of the engine's own.

    Attributes
    ----------
    parameters : ndarray of shape (P,)
    cuts : ndarray of shape (K + 1,), int64
        Where the vector is cut into pieces, from 0 to P. A piece is updated as a whole. It belongs to one weight or one
        bias; it is small.
    decayed : ndarray of shape (K,), bool
        Whether L2 and weight decay apply to each piece.
    is_elementwise : bool
        Whether the optimizer can update some pieces without the others.
    slots : list of ndarray of shape (P,)
        The optimizer's arrays.
    n_statistics : int
        The number of statistics of a batch; 0 without batch normalisation.
    """

    parameters: np.ndarray
    cuts: np.ndarray
    decayed: np.ndarray
    is_elementwise: bool
    slots: list[np.ndarray]
    n_statistics: int

    def prepare(self, most_rows: int) -> None:
        """Do the one-time work before slices of at most `most_rows` rows."""
        ...

    def gradient(
        self, rows: np.ndarray, most_rows: int, weight: float, epoch: int, into: np.ndarray, statistics: np.ndarray
    ) -> tuple[float, int]:
        """Write the gradient of a slice, (P,), without the L2 term, into `into`.

        rows: (n,) int64, the samples of the slice, one or more
        most_rows: the largest number of rows of a slice
        weight: the sum of the sample weights of the batch, by which the slice's losses are divided; may be 0
        epoch: determines the dropout masks
        statistics: (n_statistics,) float64, those of the slice; overwritten

        Returns the slice's share of the mean loss, and the number of correctly classified samples.
        """
        ...

    def update(self, first: int, stop: int, gradient: np.ndarray, update: Update) -> None:
        """Update the pieces from `first` to ``stop - 1``, and their parts of the slots, with their gradient."""
        ...

    def note_statistics(self, statistics: np.ndarray) -> None:
        """Update the running statistics with those of a batch."""
        ...

    def split(self, vector: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return copies of the weights and biases in a vector like the parameters."""
        ...

    def pack(self, vector: np.ndarray, arrays: tuple[Sequence[np.ndarray], Sequence[np.ndarray]]) -> None:
        """Write weights and biases into a vector like the parameters."""
        ...

    def statistics(self) -> tuple[np.ndarray, ...]:
        """Return copies of the running statistics."""
        ...

    def replace_data(self, data: TrainingData, alike: bool = False) -> None:
        """Take the slices of other data, as `fastnn.backends.base.Trainer.replace_data` describes."""
        ...

    def release_data(self) -> None:
        """Let go of the data."""
        ...


class Ranks(Protocol):
    """The processes that share the slices. Each calls the same methods in the same order.

    Attributes
    ----------
    rank, size : int
        The number of this process, and of all.
    """

    rank: int
    size: int

    def run(self, function: Callable[[], Result]) -> Result:
        """Return ``function()``, which calls `gather`, `sum_part` and `share`. It begins on all ranks, or on none."""
        ...

    def gather(self, own: np.ndarray, error: Exception | None = None) -> np.ndarray:
        """Return the array of every rank, (size, *own.shape), float64.

        If any rank has an error or is to stop, all leave by an exception.
        """
        ...

    def sum_part(self, vector: np.ndarray, bounds: np.ndarray) -> np.ndarray:
        """Return this rank's part of the sum of all vectors, added by `add_tree`.

        bounds: (size + 1,) int64, where the vector is cut into the parts of the ranks
        """
        ...

    def share(self, vector: np.ndarray, bounds: np.ndarray) -> None:
        """Write the parts of the other ranks, each computed by its rank, into the vector."""
        ...

    def collect(self, vectors: Sequence[np.ndarray], bounds: np.ndarray) -> None:
        """`share` these vectors, at a moment that rank 0 determines."""
        ...

    def follow(self, slots: Sequence[np.ndarray], bounds: np.ndarray) -> None:
        """Note the vectors that `collect` concerns from now on."""
        ...


class OneProcess:
    """`Ranks` of one process, which computes all slices."""

    rank, size = 0, 1

    def run(self, function: Callable[[], Result]) -> Result:
        """Return ``function()``."""
        return function()

    def gather(self, own: np.ndarray, error: Exception | None = None) -> np.ndarray:
        """Return the array, or raise the error."""
        if error is not None:
            raise error
        return own[None]

    def sum_part(self, vector: np.ndarray, bounds: np.ndarray) -> np.ndarray:
        """Return the vector."""
        return vector

    def share(self, vector: np.ndarray, bounds: np.ndarray) -> None:
        """Do nothing: there are no others."""

    def collect(self, vectors: Sequence[np.ndarray], bounds: np.ndarray) -> None:
        """Do nothing: there are no others."""

    def follow(self, slots: Sequence[np.ndarray], bounds: np.ndarray) -> None:
        """Do nothing: nobody asks."""


ONE_PROCESS = OneProcess()


def add_tree(vectors: list[np.ndarray]) -> np.ndarray:
    """Return the sum of a power of two of vectors by a binary tree: neighbours first. The vectors are overwritten."""
    while len(vectors) > 1:
        vectors = [np.add(left, right, out=left) for left, right in zip(vectors[::2], vectors[1::2], strict=True)]
    return vectors[0]


class SlicedTrainer:
    """`fastnn.backends.base.Trainer` for batches in slices.

    ranks: the processes that share the slices; their number divides ``config.slices``
    """

    def __init__(
        self,
        engine: SliceEngine,
        network: Network,
        data: TrainingData,
        config: TrainingConfig,
        state: TrainerState | None = None,
        ranks: Ranks = ONE_PROCESS,
    ) -> None:
        assert config.slices is not None
        self._engine, self._template, self._data, self._config, self._ranks = engine, network, data, config, ranks
        n_own = config.slices // ranks.size
        self._own = range(n_own * ranks.rank, n_own * (ranks.rank + 1))
        # Each piece belongs to one rank. So the pieces of a rank, and the parameters in them, are consecutive.
        cuts = engine.cuts
        self._pieces = np.searchsorted(cuts, cuts[-1] * np.arange(ranks.size + 1) // ranks.size)
        self._bounds = cuts[self._pieces]
        self._squares = np.zeros(len(cuts) - 1)
        self._free: list[np.ndarray] = []
        self._epoch, self._steps, self._sums = 0, 0, EpochSums()
        if state is not None:
            for slot, arrays in zip(engine.slots, state.slots, strict=True):
                engine.pack(slot, arrays)
            self._epoch, self._steps, self._sums = state.epochs, state.steps, state.sums
        self._shared_slots = engine.slots if engine.is_elementwise else []
        ranks.follow(self._shared_slots, self._bounds)

    def prepare(self, n_rows: int, batch_size: int) -> None:
        """Let the engine do its one-time work."""
        self._engine.prepare(self._most_rows(min(n_rows, batch_size)))

    def _most_rows(self, n_rows: int) -> int:
        assert self._config.slices is not None
        return -(-n_rows // self._config.slices)

    def run_epoch(
        self,
        order: np.ndarray,
        batch_size: int,
        learning_rate: float,
        batches: range | None = None,
        n_rows: int | None = None,
    ) -> EpochResult:
        """Train on the rows `order`, `batch_size` at a time, as `fastnn.backends.base.Trainer.run_epoch` describes."""
        first, n_samples = self._sums.batches, len(self._data.targets)
        batches, all_rows = check_order(order, batch_size, batches, first, n_samples, n_rows)
        n_rows = len(order) if n_rows is None else n_rows
        n_batches, most_rows = -(-n_rows // batch_size), self._most_rows(min(batch_size, n_rows))

        def run() -> EpochResult | None:
            with np.errstate(over="ignore", invalid="ignore"):  # the loss shows whether the run diverges
                for at, number in enumerate(batches):
                    rows = all_rows[at * batch_size : (at + 1) * batch_size]
                    loss = self._train_batch(rows, most_rows, learning_rate)
                    if not math.isfinite(loss):
                        return EpochResult(loss, np.nan, failed_batch=number)
            return None

        failed = self._ranks.run(run)
        if failed is not None:
            return failed
        sums = self._sums
        if sums.batches == n_batches:
            self._epoch, self._sums = self._epoch + 1, EpochSums()
        return sums.result(self._template, n_rows, batch_size)

    def _train_batch(self, rows: np.ndarray, most_rows: int, rate: float) -> float:
        """Update the network with the gradients of a batch, unless its loss is not finite; return that loss."""
        engine, ranks, weights = self._engine, self._ranks, self._data.sample_weight
        assert self._config.slices is not None
        weight = float(len(rows)) if weights is None else float(weights[rows].sum(dtype=np.float64))
        cuts = len(rows) * np.arange(self._config.slices + 1) // self._config.slices
        records = np.zeros((len(self._own), _STATISTICS + engine.n_statistics))

        def gradient(number: int) -> np.ndarray:
            into = self._free.pop() if self._free else aligned_zeros(len(engine.parameters), self._template.dtype)
            part, record = rows[cuts[number] : cuts[number + 1]], records[number - self._own.start]
            if not len(part):
                into.fill(0)
                return into
            statistics = record[_STATISTICS:]
            record[:_COUNTED] = engine.gradient(part, most_rows, weight, self._epoch, into, statistics)
            record[_COUNTED] = len(part) if len(part) > 1 else 0  # a single sample has no variance
            statistics *= record[_COUNTED]
            return into

        total, error = np.empty(0, self._template.dtype), None
        try:
            total = self._tree(gradient, self._own)
        except Exception as found:  # the other ranks learn of it and leave, too
            error = found
        all_records = ranks.gather(records, error).reshape(self._config.slices, -1)
        sums = all_records.sum(axis=0)
        if math.isfinite(sums[_LOSS]):
            l2 = self._config.l2_of_batch(weight)
            self._update(total, rate, l2)
            if engine.n_statistics and sums[_COUNTED]:
                engine.note_statistics(sums[_STATISTICS:] / sums[_COUNTED])
            loss = float(sums[_LOSS])
            if l2:
                loss += 0.5 * l2 * sum(self._squares.tolist())
            self._sums = self._sums.with_batch(loss, len(rows), weight, int(sums[_CORRECT]))
        self._free.append(total)
        return float(sums[_LOSS])

    def _tree(self, gradient: Callable[[int], np.ndarray], numbers: range) -> np.ndarray:
        """Return the sum of the gradients of these slices, added pairwise."""
        if len(numbers) == 1:
            return gradient(numbers[0])
        middle = len(numbers) // 2
        left, right = self._tree(gradient, numbers[:middle]), self._tree(gradient, numbers[middle:])
        self._free.append(right)
        return np.add(left, right, out=left)

    def _update(self, total: np.ndarray, rate: float, l2: float) -> None:
        """Add the gradients of all ranks, and update the parameters.

        total: the sum of the gradients of this rank's slices, (P,)
        """
        engine, ranks, config = self._engine, self._ranks, self._config
        self._steps += 1
        update = Update(rate, self._steps)
        first, stop = self._pieces[ranks.rank : ranks.rank + 2].tolist()
        gradient = ranks.sum_part(total, self._bounds)
        self._add_penalty(first, stop, gradient, l2)
        if config.clips:
            self._clip(first, stop, gradient)
        if engine.is_elementwise:
            engine.update(first, stop, gradient, update)
            ranks.share(engine.parameters, self._bounds)
        else:  # every rank updates all parameters
            total[self._bounds[ranks.rank] : self._bounds[ranks.rank + 1]] = gradient
            ranks.share(total, self._bounds)
            engine.update(0, len(engine.cuts) - 1, total, update)

    def _pieces_of(self, vector: np.ndarray, first: int, stop: int) -> list[np.ndarray]:
        """Return the pieces from `first` to ``stop - 1``, as parts of a vector that begins with the first of them."""
        cuts = (self._engine.cuts[first : stop + 1] - self._engine.cuts[first]).tolist()
        return [vector[at:end] for at, end in pairwise(cuts)]

    def _add_penalty(self, first: int, stop: int, gradient: np.ndarray, l2: float) -> None:
        """Add the gradient of the L2 term to that of this rank's pieces, and note their sums of squares."""
        engine = self._engine
        if not l2:
            return
        weights = self._pieces_of(engine.parameters[engine.cuts[first] :], first, stop)
        for k, weight, piece in zip(range(first, stop), weights, self._pieces_of(gradient, first, stop), strict=True):
            if engine.decayed[k]:
                self._squares[k] = np.square(weight).sum(dtype=np.float64)
                piece += weight.dtype.type(l2) * weight
        self._ranks.share(self._squares, self._pieces)

    def _clip(self, first: int, stop: int, gradient: np.ndarray) -> None:
        """Clip the gradient of this rank's pieces; the norm is that of all pieces, added in their order."""
        config, pieces = self._config, self._pieces_of(gradient, first, stop)
        if config.clip_value is not None:
            clip_by_value(pieces, config.clip_value)
        elif config.clip_norm is not None:
            norms = np.zeros(len(self._squares))
            norms[first:stop] = [global_norm([piece]) for piece in pieces]
            self._ranks.share(norms, self._pieces)
            factor = clipping_factor(global_norm([norms]), config.clip_norm)
            for piece in pieces:
                piece *= piece.dtype.type(factor)

    def network(self) -> Network:
        """Return a copy of the current network; SettingsError if a weight or bias is not finite."""
        return self._template.like(*self._engine.split(self._engine.parameters), self._engine.statistics())

    def snapshot(self) -> Snapshot:
        """Return the current network for later: a copy of its numbers; the same errors."""
        vector, statistics, split = self._engine.parameters.copy(), self._engine.statistics(), self._engine.split
        if not all(np.isfinite(array).all() for array in (vector, *statistics)):
            self.network()  # raises the error
        return Snapshot(lambda: self._template.like(*split(vector), statistics))

    def state(self) -> TrainerState:
        """Return a copy of the optimizer's current state."""
        return self.state_for_later()()

    def state_for_later(self) -> Callable[[], TrainerState]:
        """Return a function that returns the current state of the optimizer."""
        if self._shared_slots:  # other ranks have updated their parts
            self._ranks.collect(self._shared_slots, self._bounds)
        slots, counts = [slot.copy() for slot in self._engine.slots], (self._steps, self._epoch, self._sums)
        return lambda: TrainerState(tuple(self._engine.split(slot) for slot in slots), *counts)

    def move_to(self, weights: Sequence[np.ndarray], biases: Sequence[np.ndarray]) -> None:
        """Replace the network's weights and biases."""
        self._engine.pack(self._engine.parameters, (weights, biases))

    def average_epoch(self, share: float) -> None:
        """Raise SettingsError: `TrainingConfig` refuses averages of weights with slices."""
        raise SettingsError("average is set with slices, expected one of the two")

    def replace_data(self, data: TrainingData, alike: bool = False) -> None:
        """Train on other data from the next call of `run_epoch` on."""
        self._data = data
        self._engine.replace_data(data, alike)

    def release_data(self) -> None:
        """Let go of the data."""
        self._data = self._data.take(np.empty(0, np.int64))
        self._engine.release_data()
