"""Statistics: the median of paired ratios, its bootstrap interval, and the comparison of two results.

Rounds are paired. Contenders that run one after the other see the same state of the machine, so the ratio within a
round varies less than either time.
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
        """Whether the interval contains 1."""
        return self.low <= 1 <= self.high


def paired_ratio(other: Sequence[float], base: Sequence[float]) -> Ratio:
    """Return the median over rounds of ``other / base``, with the 2.5 and 97.5 percentiles of its bootstrap medians.

    Raises
    ------
    ValueError
        If there are no rounds, or the numbers of rounds differ.
    """
    if len(other) != len(base) or not len(base):
        raise ValueError(f"{len(other)} and {len(base)} rounds, expected equal numbers and at least one")
    ratios = np.asarray(other, float) / np.asarray(base, float)
    drawn = np.random.default_rng(SEED).integers(len(ratios), size=(RESAMPLES, len(ratios)))
    low, high = np.percentile(np.median(ratios[drawn], axis=1), [2.5, 97.5])
    return Ratio(float(np.median(ratios)), float(low), float(high))


def distance(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference as a fraction of the largest expected entry.

    The distance is infinite if the shapes differ or an entry is not finite.
    """
    found, expected = np.asarray(found, float), np.asarray(expected, float)
    if found.shape != expected.shape or not (np.isfinite(found).all() and np.isfinite(expected).all()):
        return float("inf")
    largest = np.abs(expected).max()
    return float(np.abs(found - expected).max() / largest) if largest else float(np.abs(found).max())


def relative_norm(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the 2-norm of the difference as a fraction of that of the expected array.

    It is infinite if the shapes differ or an entry is not finite. Where rounding decides, as at the kink of ReLU, a few
    entries differ; they weigh little in it.
    """
    found, expected = np.asarray(found, float), np.asarray(expected, float)
    if found.shape != expected.shape or not (np.isfinite(found).all() and np.isfinite(expected).all()):
        return float("inf")
    norm = float(np.linalg.norm(expected))
    off = float(np.linalg.norm(found - expected))
    return off / norm if norm else off


def disagreement(found: np.ndarray, expected: np.ndarray, band: float) -> str | None:
    """Return how a result differs from the expected one, or None if their `distance` is at most `band`."""
    off = distance(found, expected)
    if off <= band:
        return None
    if np.size(found) == np.size(expected) == 1:
        loss, expected_loss = float(np.ravel(found)[0]), float(np.ravel(expected)[0])
        return f"loss {loss:.6g}, fastnn {expected_loss:.6g}: more than {band:.0%} apart"
    return f"differs from fastnn by {off:.2g} of the largest entry, allowed {band:.2g}"
