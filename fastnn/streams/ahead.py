"""Reads blocks one after the other, the next one on a thread of its own while the caller uses the last one."""

from collections.abc import Iterator

from fastnn.datasets.dataset import Dataset
from fastnn.interruptible import Ahead
from fastnn.streams.blocked import BlockedData


def blocks_ahead(data: BlockedData) -> Iterator[tuple[int, Dataset]]:
    """Yield the number of each block that has rows, and its samples, in order. The errors are those of `read`."""
    numbers = [number for number, length in enumerate(data.block_lengths) if length]
    ahead = Ahead(data.read, numbers[0]) if numbers else None
    try:
        for number, following in zip(numbers, [*numbers[1:], None], strict=True):
            assert ahead is not None
            block = ahead.result()
            ahead = None if following is None else Ahead(data.read, following)
            yield number, block
    finally:
        if ahead is not None:
            ahead.abandon()
