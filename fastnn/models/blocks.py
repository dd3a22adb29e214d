"""Predicts data in blocks, of which one or two are in memory."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fastnn.backends import backend_name
from fastnn.backends.choice import CHOOSER, prediction_work
from fastnn.datasets.dataset import Dataset
from fastnn.memory import check_memory
from fastnn.network import Network
from fastnn.streams import BlockedData, blocks_ahead

# The number of rows that are predicted at a time: what a backend computes of them needs little memory.
ROWS_AT_ONCE = 8192


def some_rows(data: BlockedData) -> Iterator[Dataset]:
    """Yield some thousand samples at a time, in order, while the next block is read."""
    for _, block in blocks_ahead(data):
        for start in range(0, len(block), ROWS_AT_ONCE):
            yield block.take(slice(start, start + ROWS_AT_ONCE))


def of_each_row(data: BlockedData, function: Callable[[Any], np.ndarray]) -> np.ndarray:
    """Return the results of a function of some thousand samples at a time, in the order of the rows, (N, ...).

    function: of a `Dataset`, (n, ...); called in this thread
    """
    results: np.ndarray | None = None
    at = 0
    for samples in some_rows(data):
        part = function(samples)
        if results is None:
            n_bytes = len(data) * part[:1].nbytes
            check_memory(n_bytes, f"{data.name}: the results of {len(data):,} rows")
            results = np.empty((len(data), *part.shape[1:]), part.dtype)
        results[at : at + len(part)] = part
        at += len(part)
    assert results is not None
    return results


def backend_for(network: Network, data: BlockedData, backend: str) -> str:
    """Return the name of the backend that predicts all rows with a network; `backend` may be "auto"."""
    return backend_name(CHOOSER.choose(backend, prediction_work(network, data.head(1).images, len(data))))
