"""The blocks of `BlockedData` that a replica owns: workers get their description, and read the rows themselves."""

from collections.abc import Sequence

import numpy as np

from fastnn.dask.partition import Piece, partition
from fastnn.dask.shares import GivenRows, Share, short_list
from fastnn.datasets.dataset import Dataset
from fastnn.streams import BlockedData


class SomeBlocks(BlockedData):
    """Some blocks, or parts of blocks, as data of their own. What is known of all blocks is known of these.

    Parameters
    ----------
    data : BlockedData
    pieces : sequence of Piece
        One for each block of these data.
    """

    def __init__(self, data: BlockedData, pieces: Sequence[Piece]) -> None:
        lengths = data.block_lengths
        _ = data.classes  # found here once, and not by each worker
        self.__setstate__(data.__getstate__())
        self._whole, self._pieces = data, tuple(pieces)
        self._lengths = tuple(piece.n_rows(lengths[piece.block]) for piece in pieces)

    def read(self, block: int, out: np.ndarray | None = None) -> Dataset:
        """Return the rows of a block. The errors are those of the whole data, and name its blocks.

        `out` is not used for a part of a block, whose rows are copied.
        """
        piece = self._pieces[block]
        if piece.n_parts == 1:
            return self._whole.read(piece.block, out)
        return self._whole.read(piece.block).take(piece.rows)

    @property
    def digest(self) -> str:
        """The digest of the whole data, with the pieces."""
        return f"{self._whole.digest} {self._pieces}"


def shares_of_blocks(data: BlockedData, sample_weight: np.ndarray | None, replicas: int) -> list[Share]:
    """Return the share of each replica of data in blocks: a description of its blocks, and their weights."""
    shares, starts = [], np.cumsum([0, *data.block_lengths])
    for pieces in partition(data.block_lengths, replicas):
        weight = None
        if sample_weight is not None:
            weight = np.concatenate(
                [sample_weight[starts[each.block] : starts[each.block + 1]][each.rows] for each in pieces]
            )
        name = f"blocks {short_list([piece.block for piece in pieces])} of {data.name}"
        shares.append(Share(name, GivenRows(), [(SomeBlocks(data, pieces), weight)]))
    return shares
