"""`probe`: measures what the ranks of MPI can exchange, and reckons when a second machine pays for a network."""

import platform
import time
from typing import NamedTuple

import numpy as np

from fastnn.backends import get_backend
from fastnn.backends.arguments import TrainingData
from fastnn.backends.slices import SlicedTrainer
from fastnn.mpi.ranks import MPIRanks, check_size
from fastnn.network import Network
from fastnn.optim.config import TrainingConfig
from fastnn.randomness import generator

# The latency (s) and the bandwidth (bytes/s) that networks of computers usually have.
FABRICS = {
    "1 Gb/s": (30e-6, 0.117e9),
    "10 Gb/s": (25e-6, 1.1e9),
    "25 Gb/s": (20e-6, 2.8e9),
    "100 Gb/s RDMA": (2.5e-6, 11e9),
}
MACHINES = (2, 4, 8)
# The messages of the ping-pong, and how often each is sent; the fastest one counts.
_SMALL, _LARGE, _REPEATS = 1, 2**23, 30


class Probe(NamedTuple):
    """What `probe` has measured.

    Attributes
    ----------
    ranks, machines : int
        The number of ranks, and of machines on which they are.
    latency, bandwidth : float
        The seconds that a small message takes, and the bytes per second of a large one: of the slowest pair of ranks.
    n_bytes : int
        The size of the parameters.
    batch : int
        The number of samples in a step.
    step : float
        The seconds of a step on one rank alone.
    exchange : float
        The seconds that the ranks take to exchange gradients and parameters of a step.
    """

    ranks: int
    machines: int
    latency: float
    bandwidth: float
    n_bytes: int
    batch: int
    step: float
    exchange: float

    @property
    def speed(self) -> float:
        """How many times as fast as one rank alone these ranks are, by these figures."""
        return self.step / (self.step / self.ranks + self.exchange)

    def speed_on(self, machines: int, latency: float, bandwidth: float) -> float:
        """How many times as fast as one rank so many are, each on a machine of its own."""
        return self.step / (self.step / machines + exchange_seconds(machines, latency, bandwidth, self.n_bytes))

    def batch_that_pays(self, machines: int, latency: float, bandwidth: float) -> int:
        """The number of samples in a step from which so many machines are faster than one."""
        saved = self.step / self.batch * (1 - 1 / machines)
        return int(np.ceil(exchange_seconds(machines, latency, bandwidth, self.n_bytes) / saved))


def exchange_seconds(ranks: int, latency: float, bandwidth: float, n_bytes: int) -> float:
    """Return the time to add vectors of so many bytes over all ranks, each of which gets the sum.

    Each rank sends and receives ``2 (P - 1) / P`` vectors in ``2 (P - 1)`` messages.

    Examples
    --------
    >>> from fastnn.mpi.probe import exchange_seconds
    >>> round(exchange_seconds(2, latency=25e-6, bandwidth=1.1e9, n_bytes=407_080) * 1e6)  # microseconds
    420
    """
    return 2 * (ranks - 1) * latency + 2 * (ranks - 1) / ranks * n_bytes / bandwidth


def probe(ranks: MPIRanks, network: Network, batch: int, slices: int) -> Probe:
    """Return what the ranks measure for steps of a network; every rank calls it.

    network: of any layers; its data are random, a fifth of them nonzero
    batch: the number of samples in a step
    """
    check_size(ranks, slices)
    threads = ranks.threads()
    latency, bandwidth = ranks.slowest_pair(_SMALL, _LARGE, _REPEATS)
    step = ranks.from_leader(lambda: _step_seconds(network, batch, slices, threads))
    n_bytes = sum(array.nbytes for array in (*network.weights, *network.biases))
    vector = np.zeros(n_bytes // network.dtype.itemsize, network.dtype)
    bounds = len(vector) * np.arange(ranks.size + 1) // ranks.size

    def exchange() -> None:
        ranks.sum_part(vector, bounds)
        ranks.share(vector, bounds)

    seconds = float(ranks.gather(np.array([_fastest(exchange)])).max())
    machines = len(set(ranks.together(platform.node)))
    return Probe(ranks.size, machines, latency, bandwidth, n_bytes, batch, step, seconds)


def _fastest(function: object) -> float:
    best = float("inf")
    for _ in range(_REPEATS):
        start = time.perf_counter()
        function()  # type: ignore[operator]
        best = min(best, time.perf_counter() - start)
    return best


def _step_seconds(network: Network, batch: int, slices: int, threads: int) -> float:
    """Return the seconds of a step in this process, on random data of which a fifth is nonzero, as of digits."""
    draw = generator(0, "sample")
    inputs = draw.integers(1, 256, (batch, network.n_inputs), np.uint8)
    inputs[draw.random(inputs.shape) > 0.2] = 0
    targets = np.zeros(batch, np.int64) if network.loss.uses_labels else np.zeros((batch, network.n_outputs))
    data, config = TrainingData(inputs, targets, None), TrainingConfig(slices=slices, threads=threads)
    trainer = SlicedTrainer(get_backend().slice_engine(network, data, config), network, data, config)
    trainer.prepare(batch, batch)
    order = np.arange(batch)
    return _fastest(lambda: trainer.run_epoch(order, batch, 1e-9))
