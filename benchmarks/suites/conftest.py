"""What the suites share: MNIST, and timing that first compiles, then compares with the reference, then times."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from benchmarks.compare.ratios import distance
from fastnn import Dataset, load_mnist

ROUNDS = 9


@pytest.fixture(scope="session")
def mnist() -> Dataset:
    """MNIST's training samples."""
    return load_mnist()[0]


@pytest.fixture
def timed(benchmark: Any) -> Callable[..., Any]:
    """`timed(function, expected=..., band=...)`: compile, compare, then time.

    `function` takes no arguments, or what `setup` returns as (arguments, keywords) anew for every round. With
    `expected`, its first result has to be that within `band` of the largest entry.
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
    """Each array, or number, of `found` is that of `expected`."""
    if expected is None:
        return
    if isinstance(expected, (tuple, list)):
        for one, other in zip(found, expected, strict=True):
            compare(one, other, band)
        return
    assert distance(np.asarray(found), np.asarray(expected)) <= band
