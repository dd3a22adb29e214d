"""Shared fixtures: MNIST, and a timer that first compiles, then compares with the reference, then times."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from benchmarks.compare.ratios import distance
from fastnn import Dataset, load_mnist

ROUNDS = 9


@pytest.fixture(scope="session")
def mnist() -> Dataset:
    """Return MNIST's training samples."""
    return load_mnist()[0]


@pytest.fixture
def timed(benchmark: Any) -> Callable[..., Any]:
    """Return `timed(function, expected=..., band=...)`, which compiles, compares, then times a function.

    `function` is called without arguments, or with the (arguments, keywords) that `setup` returns before each round.
    The first call compiles and is not timed. If `expected` is given, the result of the first call must equal it within
    `band`, a fraction of the largest expected entry.
    """

    def run(
        function: Callable[..., Any],
        expected: Any = None,
        band: float = 1e-4,
        setup: Callable[[], Any] | None = None,
        rounds: int = ROUNDS,
        iterations: int = 1,
        compilation: bool = True,
    ) -> Any:
        if compilation:
            arguments, keywords = setup() if setup else ((), {})
            compare(function(*arguments, **keywords), expected, band)
        return benchmark.pedantic(function, setup=setup, rounds=rounds, iterations=iterations)

    return run


def compare(found: Any, expected: Any, band: float) -> None:
    """Assert that each array or number of `found` equals that of `expected` within `band`."""
    if expected is None:
        return
    if isinstance(expected, (tuple, list)):
        for one, other in zip(found, expected, strict=True):
            compare(one, other, band)
        return
    assert distance(np.asarray(found), np.asarray(expected)) <= band
