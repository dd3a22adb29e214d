"""All randomness of a run: NumPy's generator on the host, and a counter-based hash for dropout and augmentation.

Each draw depends only on the seed and on counters, never on earlier draws. Therefore both backends shuffle and drop
identically with any number of threads, and a run can resume at any epoch.
"""

import numpy as np

from fastnn.checks import check_integer

MAX_SEED = 2**63 - 1
# One stream per purpose: another hidden size, for example, draws other weights but does not change the shuffling.
_STREAMS = {"weights": 1, "shuffle": 2, "split": 3, "dropout": 4, "sample": 5, "augmentation": 6}


def generator(seed: int, purpose: str, *counters: int) -> np.random.Generator:
    """Return NumPy's generator for one purpose of a run ("shuffle" and others of `_STREAMS`).

    `counters` are further integers, such as the epoch. The same arguments give the same draws.
    """
    check_integer("seed", seed, 0, MAX_SEED)
    return np.random.default_rng([_STREAMS[purpose], int(seed), *counters])


def dropout_keys(seed: int, epoch: int, n_layers: int) -> np.ndarray:
    """Return one key per hidden layer for the dropout masks of an epoch: uint64, shape (n_layers,)."""
    return generator(seed, "dropout", epoch).integers(2**64, size=n_layers, dtype=np.uint64)


def dropout_threshold(rate: float) -> np.uint32:
    """Return ``rate * 2**32``. A unit is dropped if its 32-bit hash is below this threshold."""
    return np.uint32(rate * 2**32)


def dropout_keep(key: np.uint64, rows: np.ndarray, n_units: int, rate: float) -> np.ndarray:
    """Return which units of a layer are kept: bool, shape (len(rows), n_units).

    A sample's 32-bit hash is the lower half of SplitMix64's finaliser (Steele, Lea and Flood 2014), applied to the key
    and the sample's row number in the data. A unit's 32-bit hash is MurmurHash3's finaliser (Appleby 2011), applied to
    the sample's hash and the unit's index. A unit is dropped if its hash is below ``rate * 2**32``.
    """
    return _unit_hash(key, rows, n_units) >= dropout_threshold(rate)


def augmentation_key(seed: int, epoch: int) -> np.uint64:
    """Return the key of `uniform` for the augmentation of an epoch."""
    return generator(seed, "augmentation", epoch).integers(2**64, dtype=np.uint64)


def uniform(key: np.uint64, rows: np.ndarray, n_draws: int) -> np.ndarray:
    """Return numbers in [0, 1) for each row, (len(rows), n_draws) float64, from the hash of `dropout_keep`."""
    return _unit_hash(key, rows, n_draws) / 2.0**32


def _unit_hash(key: np.uint64, rows: np.ndarray, n_units: int) -> np.ndarray:
    """Return the 32-bit hashes that `dropout_keep` describes, (len(rows), n_units) uint32."""
    with np.errstate(over="ignore"):  # the arithmetic is modulo 2**64 and 2**32 by definition
        row = key + np.asarray(rows, np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        row = (row ^ (row >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        row = (row ^ (row >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        row = (row ^ (row >> np.uint64(31))).astype(np.uint32)
        unit = row[:, None] + np.arange(n_units, dtype=np.uint32) * np.uint32(0x9E3779B1)
        unit = (unit ^ (unit >> np.uint32(16))) * np.uint32(0x85EBCA6B)
        unit = (unit ^ (unit >> np.uint32(13))) * np.uint32(0xC2B2AE35)
        unit ^= unit >> np.uint32(16)
    return unit
