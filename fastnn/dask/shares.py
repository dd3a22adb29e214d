"""The rows that each replica owns: what is sent to its worker, and how the worker makes data of it."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from fastnn.dask.partition import partition
from fastnn.datasets.dataset import Dataset
from fastnn.streams import BlockedData, BlockedView


class Rows(Protocol):
    """The rows of a replica, as they are sent to workers."""

    def load(self, blocks: list[Any]) -> tuple[Any, np.ndarray | None]:
        """Return the data to train on, and the weight of each sample or None."""
        ...


class Share(NamedTuple):
    """The part of the data that a replica owns.

    name : what it is, for messages
    rows : the description that is sent
    blocks : what `rows` needs besides, as values, which are sent once, or as futures of Dask
    """

    name: str
    rows: Rows
    blocks: list[Any]


class GivenRows:
    """Rows, or blocks, that are sent themselves."""

    def load(self, blocks: list[Any]) -> tuple[Dataset | BlockedData, np.ndarray | None]:
        """Return the only block."""
        data, weight = blocks[0]
        return data, weight


def shares_of_rows(data: Dataset, sample_weight: np.ndarray | None, replicas: int) -> list[Share]:
    """Return the share of each replica of data in memory: every R-th row."""
    shares = []
    for replica, (piece,) in enumerate(partition([len(data)], replicas)):
        weight = None if sample_weight is None else sample_weight[piece.rows]
        name = f"rows {replica}, {replica + piece.n_parts}, ... of {data.name}"
        shares.append(Share(name, GivenRows(), [(data.take(piece.rows), weight)]))
    return shares


def shares_of_blocks(data: BlockedData, sample_weight: np.ndarray | None, replicas: int) -> list[Share]:
    """Return the share of each replica of data in blocks: a view of its blocks, whose rows the worker reads."""
    shares, starts = [], np.cumsum([0, *data.block_lengths])
    for pieces in partition(data.block_lengths, replicas):
        weight = None
        if sample_weight is not None:
            weight = np.concatenate(
                [sample_weight[starts[each.block] : starts[each.block + 1]][each.rows] for each in pieces]
            )
        name = f"blocks {short_list([piece.block for piece in pieces])} of {data.name}"
        view = BlockedView(data, parts=[(each.block, None if each.n_parts == 1 else each.rows) for each in pieces])
        shares.append(Share(name, GivenRows(), [(view, weight)]))
    return shares


def consecutive_blocks(data: BlockedData, n_parts: int) -> list[BlockedView]:
    """Return at most so many views, of consecutive blocks each, which together have all rows in their order."""
    views = []
    for numbers in np.array_split(np.flatnonzero(data.block_lengths), n_parts):
        if len(numbers):
            name = f"blocks {short_list(numbers.tolist())} of {data.name}"
            views.append(BlockedView(data, parts=[(block, None) for block in numbers.tolist()]).named(name))
    return views


def short_list(numbers: Sequence[int]) -> str:
    """Return numbers as a text for messages, such as "0, 4, 8, ... (12 in all)"."""
    if len(numbers) <= 4:
        return ", ".join(map(str, numbers))
    return f"{', '.join(map(str, numbers[:3]))}, ... ({len(numbers)} in all)"
