"""Which replica owns which rows: a function of the lengths of the blocks and of the number of replicas alone."""

from collections.abc import Sequence
from typing import NamedTuple


class Piece(NamedTuple):
    """Rows of a block: ``part``, ``part + n_parts``, ``part + 2 * n_parts`` and so on."""

    block: int
    part: int = 0
    n_parts: int = 1

    @property
    def rows(self) -> slice:
        """The rows as an index."""
        return slice(self.part, None, self.n_parts)

    def n_rows(self, length: int) -> int:
        """Return the number of rows of a block of `length` rows."""
        return len(range(length)[self.rows])


def partition(block_lengths: Sequence[int], replicas: int) -> list[tuple[Piece, ...]]:
    """Return the pieces of each replica that has rows, at most `replicas` of them.

    Each block goes to the replica with the fewest rows so far, so blocks of equal lengths are dealt in turn, and data
    in the order of their labels are spread. If there are fewer blocks than replicas, every block is cut into as many
    pieces as needed, whose rows alternate.

    Examples
    --------
    >>> from fastnn.dask.partition import partition
    >>> [[piece.block for piece in pieces] for pieces in partition([10, 10, 10, 10], 2)]
    [[0, 2], [1, 3]]
    >>> partition([10], 2)
    [(Piece(block=0, part=0, n_parts=2),), (Piece(block=0, part=1, n_parts=2),)]
    """
    blocks = [block for block, length in enumerate(block_lengths) if length]
    n_parts = -(-replicas // max(1, len(blocks))) if len(blocks) < replicas else 1
    owned: list[list[Piece]] = [[] for _ in range(replicas)]
    n_rows = [0] * replicas
    for block in blocks:
        for part in range(min(n_parts, block_lengths[block])):
            piece = Piece(block, part, n_parts)
            least = n_rows.index(min(n_rows))
            owned[least].append(piece)
            n_rows[least] += piece.n_rows(block_lengths[block])
    return [tuple(pieces) for pieces in owned if pieces]
