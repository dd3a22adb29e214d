"""All randomness of a run: NumPy's generator on the host, and a counter-based hash for dropout and augmentation.

Each draw depends only on the seed and on counters, never on earlier draws. Therefore both backends shuffle and drop
identically with any number of threads, and a run can resume at any epoch.
"""

from functools import lru_cache

import numpy as np

from fastnn.checks import check_integer

MAX_SEED = 2**63 - 1
# A normal number is one of 2**QUANTILE_BITS quantiles of the normal distribution.
QUANTILE_BITS = 12
# One stream per purpose: another hidden size, for example, draws other weights but does not change the shuffling.
_STREAMS = {
    "weights": 1, "shuffle": 2, "split": 3, "dropout": 4, "sample": 5, "augmentation": 6, "digits": 7, "replica": 8,
}  # fmt: skip


def generator(seed: int, purpose: str, *counters: int) -> np.random.Generator:
    """Return NumPy's generator for one purpose of a run ("shuffle" and others of `_STREAMS`).

    `counters` are further integers, such as the epoch. The same arguments give the same draws.
    """
    check_integer("seed", seed, 0, MAX_SEED)
    return np.random.default_rng([_STREAMS[purpose], int(seed), *counters])


def dropout_keys(seed: int, epoch: int, n_layers: int) -> np.ndarray:
    """Return the keys of the dropout masks of an epoch: uint64, (n_layers,), of the inputs and of each further layer.

    That of the inputs is drawn last, so that the others are those of a run that drops no inputs.
    """
    *keys, of_inputs = generator(seed, "dropout", epoch).integers(2**64, size=n_layers, dtype=np.uint64)
    return np.array([of_inputs, *keys])


def dropout_threshold(rate: float) -> np.uint32:
    """Return ``rate * 2**32``. A unit is dropped if its 32-bit hash is below this threshold."""
    return np.uint32(rate * 2**32)


def dropout_keep(key: np.uint64, rows: np.ndarray, n_units: int, rate: float) -> np.ndarray:
    """Return which units of a layer are kept: bool, shape (len(rows), n_units).

    A sample's 32-bit hash is the lower half of SplitMix64's finaliser (Steele, Lea and Flood 2014), applied to the key
    and the sample's row number in the data. A unit's 32-bit hash is MurmurHash3's finaliser (Appleby 2011), applied to
    the sample's hash and the unit's index. A unit is dropped if its hash is below ``rate * 2**32``.
    """
    return unit_hashes(row_numbers(key, rows), 0, n_units) >= dropout_threshold(rate)


def augmentation_key(seed: int, epoch: int) -> np.uint64:
    """Return the key of `row_numbers` for the augmentation of an epoch."""
    return generator(seed, "augmentation", epoch).integers(2**64, dtype=np.uint64)


def uniform(key: np.uint64, rows: np.ndarray, n_draws: int) -> np.ndarray:
    """Return numbers in [0, 1) for each row, (len(rows), n_draws) float64, from the hash of `dropout_keep`."""
    return unit_hashes(row_numbers(key, rows), 0, n_draws) / 2.0**32


def row_numbers(key: np.uint64, rows: np.ndarray) -> np.ndarray:
    """Return the 32-bit hash of each row that `dropout_keep` describes, (len(rows),) uint32."""
    with np.errstate(over="ignore"):  # the arithmetic is modulo 2**64 by definition
        row = key + np.asarray(rows, np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        row = (row ^ (row >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        row = (row ^ (row >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return (row ^ (row >> np.uint64(31))).astype(np.uint32)


def unit_hashes(numbers: np.ndarray, first: int, n_units: int) -> np.ndarray:
    """Return the 32-bit hashes of units that `dropout_keep` describes, (len(numbers), n_units) uint32.

    numbers: the `row_numbers`
    first: the index of the first unit
    """
    with np.errstate(over="ignore"):  # the arithmetic is modulo 2**32 by definition
        unit = numbers[:, None] + np.arange(first, first + n_units, dtype=np.uint32) * np.uint32(0x9E3779B1)
        unit = (unit ^ (unit >> np.uint32(16))) * np.uint32(0x85EBCA6B)
        unit = (unit ^ (unit >> np.uint32(13))) * np.uint32(0xC2B2AE35)
        unit ^= unit >> np.uint32(16)
    return unit


@lru_cache
def normal_quantiles(dtype: np.dtype) -> np.ndarray:
    """Return quantiles of the normal distribution with mean 0 and variance 1, (2**QUANTILE_BITS,), ascending.

    A hash whose first QUANTILE_BITS bits are the index draws one of them. The same table serves every backend, so that
    equal hashes give equal bits. The numbers reach 3.7 standard deviations.
    """
    from statistics import NormalDist

    n, normal = 2**QUANTILE_BITS, NormalDist()
    upper = np.array([normal.inv_cdf((k + 0.5) / n) for k in range(n // 2, n)])
    quantiles = np.concatenate((-upper[::-1], upper))
    quantiles = (quantiles / quantiles.std()).astype(dtype)
    quantiles.setflags(write=False)
    return quantiles
