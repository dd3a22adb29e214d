"""The blocks of `BlockedData` that a replica owns: workers get their description, and read the rows themselves."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn.dask.partition import Piece, partition
from fastnn.dask.shares import Share, short_list
from fastnn.datasets.dataset import Dataset
from fastnn.streams import BlockedData


class SomeBlocks(BlockedData):
    """Some blocks, or parts of blocks, as data of their own. What is known of all blocks is known of these.

    Parameters
    ----------
    data : BlockedData
    pieces : sequence of Piece
    """

    def __init__(self, data: BlockedData, pieces: Sequence[Piece]) -> None:
        lengths = data.block_lengths
        _ = data.classes  # found once, by the caller, not again by each worker
        self.__dict__.update(data.__getstate__())
        self.__setstate__({**self.__dict__, "_digest": None})
        self._data, self._pieces = data, tuple(pieces)
        self._lengths = tuple(piece.n_rows(lengths[piece.block]) for piece in pieces)

    def read(self, block: int) -> Dataset:
        """Return the rows of a block; the errors are those of the whole data."""
        piece = self._pieces[block]
        found = self._data.read(piece.block)
        return found if piece.n_parts == 1 else found.take(piece.rows)

    @property
    def digest(self) -> str:
        """The digest of the whole data with the pieces."""
        return f"{self._data.digest} {self._pieces}"


class RowsOfBlocks:
    """Rows that a worker reads. The weights of the samples, if there are any, are sent."""

    def __init__(self, data: BlockedData) -> None:
        self._data = data

    def load(self, blocks: list[Any]) -> tuple[BlockedData, np.ndarray | None]:
        """Return the blocks, none of which has been read."""
        return self._data, blocks[0] if blocks else None


def shares_of_blocks(data: BlockedData, sample_weight: np.ndarray | None, replicas: int) -> list[Share]:
    """Return the share of each replica of data in blocks. One replica alone has the data as they are."""
    shares = []
    starts = np.cumsum([0, *data.block_lengths])
    for pieces in partition(data.block_lengths, replicas):
        name = f"blocks {short_list([piece.block for piece in pieces])} of {data.name}"
        rows = RowsOfBlocks(data if replicas == 1 else SomeBlocks(data, pieces))
        weights = []
        if sample_weight is not None:
            of_blocks = [sample_weight[starts[each.block] : starts[each.block + 1]][each.rows] for each in pieces]
            weights = [sample_weight if replicas == 1 else np.concatenate(of_blocks)]
        shares.append(Share(name, rows, weights))
    return shares
