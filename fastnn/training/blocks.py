"""Training on data in blocks: the order of an epoch, and two buffers, one to train on and one that is read meanwhile.

An epoch takes the blocks in a random order, a few at a time: those of one buffer. Their rows are permuted together.
Batches go on across buffers: the last rows of a buffer that fill no batch are the first ones of the next buffer. All of
this depends on the data, the settings and the epoch only, so any epoch can begin again at any batch.
"""

import warnings
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from fastnn.backends.arguments import TrainingData
from fastnn.backends.base import EpochResult
from fastnn.datasets.sparse import is_sparse
from fastnn.errors import SettingsError
from fastnn.evaluation.evaluate import check_fit
from fastnn.interruptible import Ahead, stop_if_abandoned
from fastnn.memory import parse_bytes
from fastnn.network import Network
from fastnn.optim.config import BLOCKS, TrainingConfig
from fastnn.optim.optimizers import LBFGS
from fastnn.randomness import generator
from fastnn.streams import BlockedData
from fastnn.training.augmented import Distorter
from fastnn.training.epochs import Job

# So many rows stay in memory besides the buffers.
_FIRST_ROWS = 2**14
# The bytes of a row's number and of its place in the order.
_NUMBER_BYTES = 16
# A block with at least this share of one class holds nearly one class. So many blocks of them for each class are few.
_ONE_CLASS, _FEW_BLOCKS_PER_CLASS = 0.9, 4


class CheckedBlocks:
    """Data in blocks for a network. Each block is checked when it is read.

    Parameters
    ----------
    network : Network
    data : BlockedData
    config : TrainingConfig
    sample_weight : ndarray of shape (N,), or None
        As `check_sample_weight` returns it.

    Attributes
    ----------
    first_rows : TrainingData
        Copies of the first rows, 16,384 at most. They decide what a trainer decides by its data.
    """

    def __init__(
        self, network: Network, data: BlockedData, config: TrainingConfig, sample_weight: np.ndarray | None
    ) -> None:
        _check_settings(network, config)
        self._network, self._data = network, data
        self.numbers = np.array([number for number, length in enumerate(data.block_lengths) if length])
        self.lengths = np.array(data.block_lengths, np.int64)[self.numbers]
        self._starts = np.cumsum([0, *data.block_lengths])[self.numbers]
        self._weight = sample_weight
        first = self.read(0).take(np.arange(min(_FIRST_ROWS, int(self.lengths[0]))))
        # Nothing is converted a second time: a buffer has the dtype that the kernels use.
        dtype = np.dtype(np.uint8) if first.inputs.dtype == np.uint8 else network.dtype
        with np.errstate(over="ignore"):
            self.first_rows = first._replace(inputs=_dense(first.inputs).astype(dtype, copy=False))

    @property
    def n_rows(self) -> int:
        """The number of rows of all blocks."""
        return int(self.lengths.sum())

    @property
    def is_sequential(self) -> bool:
        """Whether blocks should be read in their order."""
        return self._data.is_sequential

    @property
    def pixel_max(self) -> float:
        """The largest value of a pixel."""
        return self._data.pixel_max

    @property
    def name(self) -> str:
        """The source of the data."""
        return self._data.name

    def in_buffer(self, job: Job) -> int:
        """Return `blocks_in_buffer` for a job on the blocks."""
        row_bytes = _NUMBER_BYTES + sum(each.nbytes // len(each) for each in job.data if each is not None)
        return blocks_in_buffer(self.lengths, row_bytes, job.config)

    def new_feed(self, job: Job) -> "BlockFeed":
        """Return what trains a job on the blocks."""
        return BlockFeed(job, self)

    def read(self, block: int, out: np.ndarray | None = None) -> TrainingData:
        """Return the checked rows of a block, counted without empty ones. The errors are those of `check_fit`.

        out: memory for the inputs, which is used if it has their dtype and width
        """
        is_alike = out is not None and out.dtype == self._data.dtype and out.shape[1] == self._data.n_inputs
        samples = self._data.read(int(self.numbers[block]), out if is_alike else None)
        inputs, targets = check_fit(self._network, samples)
        start, stop = int(self._starts[block]), int(self._starts[block] + self.lengths[block])
        weight = None if self._weight is None else self._weight[start:stop]
        return TrainingData(inputs, targets, weight, np.arange(start, stop))


def _check_settings(network: Network, config: TrainingConfig) -> None:
    """Raise SettingsError for a setting that needs all rows at once."""
    if config.average is not None and network.statistics:
        expected = "expected None, or layers without BatchNorm: the statistics of an average need all rows in memory"
        raise SettingsError(f"average is {config.average!r} with data in blocks and BatchNorm, {expected}")
    if isinstance(config.update_rule, LBFGS):
        raise SettingsError("optimizer is lbfgs with data in blocks, expected another one: not all rows are in memory")
    if config.batch_size is None:
        raise SettingsError("batch_size is None with data in blocks, expected a number: not all rows are in memory")
    if callable(config.shuffle):
        expected = f"expected True, False or {BLOCKS!r}"
        raise SettingsError(f"shuffle is a function with data in blocks, {expected}: not all rows are in memory")


def check_in_memory(config: TrainingConfig) -> None:
    """Raise SettingsError for a setting that only data in blocks have."""
    usual = TrainingConfig()
    wrong = [name for name in ("buffer_blocks", "memory") if getattr(config, name) != getattr(usual, name)]
    wrong += ["shuffle"] if isinstance(config.shuffle, str) else []
    for name in wrong:
        raise SettingsError(f"{name} is {getattr(config, name)!r}, but the data are in memory: expected BlockedData")


def blocks_in_buffer(lengths: np.ndarray, row_bytes: int, config: TrainingConfig) -> int:
    """Return the number of blocks that are in a buffer: `buffer_blocks`, or fewer if `memory` demands it.

    It counts two buffers of the largest blocks, and one block more, which a reader may need. It depends on nothing of
    the machine, because the order of the rows depends on it.

    Raises SettingsError if one block is too many.
    """
    memory, largest = parse_bytes("memory", config.memory), np.sort(lengths)[::-1]
    carried = min(int(config.batch_size or 1), int(lengths.sum())) - 1
    needed = row_bytes * (2 * (np.cumsum(largest) + carried) + largest[0])
    n_blocks = int((needed <= memory).sum())
    if not n_blocks:
        found = f"memory is {config.memory!r}, but buffers of one block of {largest[0]:,} rows"
        raise SettingsError(f"{found} take {needed[0]:,} bytes: give more, or open the data with fewer block_rows")
    return min(n_blocks, config.buffer_blocks)


class Group(NamedTuple):
    """The blocks of a buffer.

    epoch: from 0
    number: that of the group in the epoch, from 0
    blocks: their numbers in reading order, counted without empty ones
    first_row: the position of its first row in the order of the epoch
    """

    epoch: int
    number: int
    blocks: np.ndarray
    first_row: int


def groups_of_epoch(
    lengths: np.ndarray, n_blocks: int, epoch: int, config: TrainingConfig, in_order: bool = False
) -> list[Group]:
    """Return the groups of an epoch, of about equal numbers of blocks and at most `n_blocks`.

    lengths: the number of rows of each block
    in_order: whether the blocks stay in their order
    """
    blocks = np.arange(len(lengths))
    if config.shuffle and not in_order:
        blocks = generator(config.seed, "shuffle", epoch).permutation(blocks)
    n_groups = -(-len(blocks) // n_blocks)
    ends, bounds = np.cumsum([0, *lengths[blocks]]), np.arange(n_groups + 1) * len(blocks) // n_groups
    return [
        Group(epoch, number, blocks[begin:end], int(ends[begin]))
        for number, (begin, end) in enumerate(pairwise(bounds.tolist()))
    ]


def order_of_group(group: Group, n_rows: int, config: TrainingConfig) -> np.ndarray:
    """Return the order of the rows of a group, (n_rows,), counted from its first row in memory."""
    if not config.shuffle:
        return np.arange(n_rows)
    # Not 0, which NumPy's seeds take for a counter that is not there.
    return generator(config.seed, "shuffle", group.epoch, group.number + 1).permutation(n_rows)


class Buffer:
    """Memory for rows, allocated once. `front` rows come before those of blocks, for rows of the buffer before."""

    def __init__(self, like: TrainingData, front: int, n_rows: int) -> None:
        def empty(array: np.ndarray) -> np.ndarray:
            return np.empty((front + n_rows, *array.shape[1:]), array.dtype)

        self.front = front
        self._rows = _each(empty, like)

    def write(self, at: int, data: TrainingData) -> int:
        """Write rows from row `at` on; return the row after them."""
        stop = at + len(data.targets)
        with np.errstate(over="ignore"):  # `check_fit` has found all numbers finite
            for mine, other in zip(self._rows, data, strict=True):
                if other is not None and not _is_in_place(other, mine[at:stop]):
                    mine[at:stop] = _dense(other)
        return stop

    def rows(self, start: int, stop: int) -> TrainingData:
        """Return these rows, which are not copied."""
        return _each(lambda array: array[start:stop], self._rows)

    def take(self, rows: np.ndarray) -> TrainingData:
        """Return copies of some rows."""
        return _each(lambda array: array[rows], self._rows)


def _each(function: Callable[[np.ndarray], np.ndarray], data: TrainingData) -> TrainingData:
    """Return the results of a function of each array that there is."""
    inputs, targets, *others = data
    return TrainingData(
        function(inputs), function(targets), *(each if each is None else function(each) for each in others)
    )


class Loaded(NamedTuple):
    """A buffer with the rows of a group.

    order: (n,), the rows in the order of the epoch, counted from the front of the buffer
    one_class: the number of blocks that hold nearly one class each
    """

    group: Group
    buffer: Buffer
    order: np.ndarray
    one_class: int


class BlockFeed:
    """Trains on the groups of each epoch while a thread reads the next group, as `fastnn.training.epochs.Feed` says."""

    def __init__(self, job: Job, blocks: CheckedBlocks) -> None:
        self._job, self._blocks = job, blocks
        self.n_rows = blocks.n_rows
        self.drawn: np.ndarray | None = None
        self._size = min(job.config.batch_size or self.n_rows, self.n_rows)
        self._n_blocks = blocks.in_buffer(job)
        most = int(np.sort(blocks.lengths)[::-1][: self._n_blocks].sum())
        self._spare = [Buffer(job.data, self._size - 1, most) for _ in range(2)]
        self._next: Ahead | None = None
        self._groups = self._groups_from(0, 0)
        self._loaded: Loaded | None = None
        self._order, self._first = np.empty(0, np.int64), 0
        self._distorter = self._new_distorter()
        self._may_warn = most < self.n_rows and job.network.loss.uses_labels
        # The first rows decide whether the kernels skip zeros: as they are trained on, and the same after a resume.
        first_rows = job.data if self._distorter is None else self._of_epoch(job.raw or job.data, 0)
        self.trainer = job.engine.new_trainer(job.network, first_rows, job.trained_config, job.state)
        self.trainer.prepare(self.n_rows, self._size)

    def begin_epoch(self, epoch: int, first_batch: int, order: np.ndarray | None) -> float:
        """Go to a batch of an epoch: to its group, and to its row in the group."""
        first_row, groups = first_batch * self._size, self._groups_of(epoch)
        number = max(k for k, group in enumerate(groups) if group.first_row <= first_row)
        if self._next is None:  # the first epoch of the run
            self._groups = self._groups_from(epoch, number)
            self._read_ahead()
        self._skipped = first_row - groups[number].first_row
        self._order, self._begin, self._end = self._order[:0], first_batch, first_batch
        return 0.0

    def train(self, batches: range, rate: float) -> EpochResult:
        """Train on consecutive batches."""
        while True:
            while batches.start == self._end:
                self._go_on()
            piece = range(batches.start, min(batches.stop, self._end))
            rows = self._order[(piece.start - self._begin) * self._size : (piece.stop - self._begin) * self._size]
            result = self.trainer.run_epoch(rows, self._size, rate, piece, self.n_rows)
            if result.failed_batch is not None or piece.stop == batches.stop:
                return result
            batches = range(piece.stop, batches.stop)

    def _new_distorter(self) -> Distorter | None:
        job = self._job
        if job.config.augment is None:
            return None
        inputs = (job.raw or job.data).inputs
        levels = (
            (0.0, self._blocks.pixel_max) if inputs.dtype == np.uint8 else (float(inputs.min()), float(inputs.max()))
        )
        assert job.image_shape is not None
        return Distorter(job.config, job.image_shape, levels, job.engine)

    def close(self) -> None:
        """Stop reading."""
        if self._next is not None:
            self._next.abandon()

    def _groups_of(self, epoch: int) -> list[Group]:
        blocks = self._blocks
        return groups_of_epoch(blocks.lengths, self._n_blocks, epoch, self._job.config, blocks.is_sequential)

    def _groups_from(self, epoch: int, number: int) -> Iterator[Group]:
        """Yield the groups from one of them to the end of the run."""
        for each in range(epoch, self._job.last):
            yield from self._groups_of(each)[number:]
            number = 0

    def _read_ahead(self) -> None:
        group = next(self._groups, None)
        self._next = None if group is None else Ahead(self._load, group, self._spare.pop())

    def _load(self, group: Group, buffer: Buffer) -> Loaded:
        """Fill a buffer with the rows of a group; runs on a thread of its own."""
        at, one_class = buffer.front, 0
        for block in group.blocks.tolist():
            stop_if_abandoned()
            out = buffer.rows(at, at + int(self._blocks.lengths[block])).inputs
            data = self._of_epoch(self._blocks.read(block, out), group.epoch)
            one_class += self._may_warn and _holds_nearly_one_class(data.targets)
            at = buffer.write(at, data)
        return Loaded(group, buffer, order_of_group(group, at - buffer.front, self._job.config), one_class)

    def _of_epoch(self, data: TrainingData, epoch: int) -> TrainingData:
        """Return the rows of a block as an epoch trains on them: distorted images, and features of frozen layers."""
        frozen, numbers = self._job.frozen, data.numbers
        assert numbers is not None
        inputs = data.inputs
        if self._distorter is not None:
            images = _dense(inputs)
            inputs = np.empty_like(images)
            self._distorter.write(images, numbers, epoch, inputs)
        return data._replace(inputs=inputs if frozen is None else frozen.features(inputs))

    def _go_on(self) -> None:
        """Train on the next buffer from now on. The rows that are left of this one come first."""
        assert self._next is not None
        before, loaded = self._loaded, self._next.result()
        self._warn_of_classes(loaded)
        left = self._order[(self._end - self._begin) * self._size :]
        first = loaded.buffer.front - len(left)
        if before is not None:
            loaded.buffer.write(first, before.buffer.take(left + self._first))
        order = loaded.order[self._skipped :]
        self._order = np.concatenate([np.arange(len(left)), order + len(left)])
        self.trainer.replace_data(loaded.buffer.rows(first, loaded.buffer.front + len(loaded.order)), alike=True)
        self._loaded, self._first, self._skipped = loaded, first, 0
        if before is not None:
            self._spare.append(before.buffer)
        self._read_ahead()
        is_last = loaded.group.first_row + len(loaded.order) == self.n_rows
        self._begin = self._end
        self._end += -(-len(self._order) // self._size) if is_last else len(self._order) // self._size

    def _warn_of_classes(self, loaded: Loaded) -> None:
        """Warn if blocks hold nearly one class each, and so few of them are in the buffer that classes are missing."""
        n_blocks, n_classes = len(loaded.group.blocks), self._job.network.n_classes
        is_bad = 2 * loaded.one_class > n_blocks and n_blocks < _FEW_BLOCKS_PER_CLASS * n_classes
        if self._may_warn and is_bad:
            message = (
                f"fastnn: {self._blocks.name}: {loaded.one_class} of {n_blocks} blocks in the buffer hold nearly one "
                f"class each, of {n_classes}: batches miss classes. Raise buffer_blocks or memory, open the data with "
                "fewer block_rows, or store the rows in a random order"
            )
            warnings.warn(message, RuntimeWarning, stacklevel=2)
        self._may_warn = False


def _holds_nearly_one_class(labels: np.ndarray) -> bool:
    return bool(np.bincount(labels).max() >= _ONE_CLASS * len(labels))


def _is_in_place(array: Any, place: np.ndarray) -> bool:
    """Return whether an array is the one that has this place in memory."""
    return isinstance(array, np.ndarray) and array.dtype == place.dtype and array.ctypes.data == place.ctypes.data


def _dense(inputs: Any) -> np.ndarray:
    return inputs.toarray() if is_sparse(inputs) else inputs
