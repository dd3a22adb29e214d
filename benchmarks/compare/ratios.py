"""Statistics: the median of paired ratios, its bootstrap interval, and whether two results are equal.

Rounds are paired: contenders that ran one after the other met the same state of the machine, so the ratio within a
round is steadier than either time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000
SEED = 95


@dataclass(frozen=True)
class Ratio:
    """The median of paired ratios and its 95 % interval."""

    median: float
    low: float
    high: float

    @property
    def contains_one(self) -> bool:
        """Whether 1 is within the interval."""
        return self.low <= 1 <= self.high


def paired_ratio(other: Sequence[float], base: Sequence[float]) -> Ratio:
    """The median over rounds of ``other / base``, and the percentiles 2.5 and 97.5 of that median over resamples.

    Raises
    ------
    ValueError
        If there are no rounds, or not as many of one as of the other.
    """
    if len(other) != len(base) or not len(base):
        raise ValueError(f"{len(other)} and {len(base)} rounds, expected as many of each and at least one")
    ratios = np.asarray(other, float) / np.asarray(base, float)
    drawn = np.random.default_rng(SEED).integers(len(ratios), size=(RESAMPLES, len(ratios)))
    low, high = np.percentile(np.median(ratios[drawn], axis=1), [2.5, 97.5])
    return Ratio(float(np.median(ratios)), float(low), float(high))


def distance(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, as a share of the largest entry expected; infinite if shapes differ or one is NaN."""
    found, expected = np.asarray(found, float), np.asarray(expected, float)
    if found.shape != expected.shape or not (np.isfinite(found).all() and np.isfinite(expected).all()):
        return float("inf")
    largest = np.abs(expected).max()
    return float(np.abs(found - expected).max() / largest) if largest else float(np.abs(found).max())


def disagreement(found: np.ndarray, expected: np.ndarray, band: float) -> str | None:
    """Why a result is not equal to the expected one within `band` (see `distance`); None if it is."""
    off = distance(found, expected)
    if off <= band:
        return None
    if np.size(found) == np.size(expected) == 1:
        return (
            f"loss {float(np.ravel(found)[0]):.6g}, fastnn {float(np.ravel(expected)[0]):.6g}: more than {band:.0%} off"
        )
    return f"differs from fastnn by {off:.2g} of the largest entry, allowed {band:.2g}"
