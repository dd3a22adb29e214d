"""The machine's peak: as many multiply-adds as the maths of an epoch needs, in registers, without any data.

Its time divided by that of a contender is the contender's share of the peak.
"""

from collections.abc import Callable

import numba
import numpy as np

from benchmarks.compare.contenders.fastnn_numba import build_network
from benchmarks.compare.limits import multiply_adds_on_threads
from benchmarks.compare.problems import Problem


def versions() -> dict[str, str]:
    """Return versions and settings for the report."""
    return {"numba": numba.__version__}


def per_sample(problem: Problem) -> int:
    """Return the multiply-adds of a sample: forward, weight gradient, and input gradient except of the first layer."""
    network = build_network(problem)
    first = network.layers[0].n_multiplications(network.shapes[0])
    return 3 * network.n_multiplications - first


def multiply_adds(problem: Problem, threads: int) -> Callable[[np.ndarray | None, float], float]:
    """Return a callable that computes the multiply-adds of an epoch."""
    run_peak = multiply_adds_on_threads(len(problem.labels) * per_sample(problem), threads)

    def run(order: np.ndarray | None, rate: float) -> float:
        run_peak()
        return float("nan")

    return run
