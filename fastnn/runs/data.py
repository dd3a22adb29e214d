"""Reads the data of a run, in memory or in blocks, by what the run says of its files."""

import os
from collections.abc import Sequence
from typing import Any

from fastnn.datasets.splits import Splits, split_files
from fastnn.streams.splits import split_blocks


def read_splits(paths: Sequence[str | os.PathLike[str]], seed: int, **reading: Any) -> Splits:
    """Return the data of a run: of `split_blocks` with ``block_rows``, else of `split_files`."""
    return (split_blocks if "block_rows" in reading else split_files)(paths, seed, **reading)
