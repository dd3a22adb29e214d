"""`WarmUp`: a plugin of Dask's workers that has the kernels compiled before tasks need them."""

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
from distributed import WorkerPlugin

from fastnn.backends.warmup import compile_training_elsewhere
from fastnn.network import Network


class WarmUp(WorkerPlugin):
    """Compiles the kernels of training before a worker takes tasks, in a process of its own beside the worker.

    Compiling holds Python's interpreter for about ten seconds, and a worker that does not answer meanwhile looks dead.
    Training on a cluster therefore compiles in a process beside the worker in any case; with this plugin, new workers
    do it before their first task. Nothing is left to do where NUMBA_CACHE_DIR is a folder that has the kernels.

    Parameters
    ----------
    dtypes : sequence of {"float32", "float64"}
        The dtypes of the networks.
    inputs : sequence of str
        The dtypes of the inputs: "uint8", or that of the network.

    Examples
    --------
    >>> from distributed import Client
    >>> import fastnn.dask
    >>> with Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=":0") as client:
    ...     replies = client.register_plugin(fastnn.dask.WarmUp())
    >>> len(replies)
    1
    """

    name = "fastnn-warm-up"

    def __init__(self, dtypes: Sequence[str] = ("float32",), inputs: Sequence[str] = ("uint8", "float32")) -> None:
        self.dtypes, self.inputs = tuple(dtypes), tuple(inputs)

    async def setup(self, worker: Any) -> None:
        """Compile, while the worker goes on answering."""
        await asyncio.to_thread(self._compile)

    def _compile(self) -> None:
        for dtype in self.dtypes:
            network = Network.initialize((4, 10, 2), dtype=dtype)
            for inputs in self.inputs:
                compile_training_elsewhere(network, np.dtype(inputs))
