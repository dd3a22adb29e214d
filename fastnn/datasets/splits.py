"""Splitting a data set: what is held out of training, and what a run is tested on."""

import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fastnn.checks import check_number
from fastnn.datasets.dataset import Dataset
from fastnn.datasets.formats import read_files
from fastnn.datasets.sparse import is_sparse
from fastnn.errors import DataError, SettingsError
from fastnn.randomness import generator


class Splits(NamedTuple):
    """The parts of a run's data. `test` is what the run is judged by; `watched` gives the validation curves."""

    train: Dataset
    validation: Dataset
    test: Dataset


def split(pool: Dataset, test: Dataset | None, held_out: float, seed: int) -> Splits:
    """Hold a share of `pool` out to watch the run; without a test set of its own, the run is judged by it too.

    The rows of `pool` are moved, not copied: the parts are views of its arrays.
    """
    train, validation = hold_out(pool, held_out, seed, in_place=True)
    return Splits(train, validation, validation if test is None else test)


def split_files(paths: Sequence[str | os.PathLike[str]], seed: int) -> Splits:
    """The data of a run on files: a tenth is held out to watch it; without test files, a fifth before to judge it by.

    Raises
    ------
    DataError, FileError
        As `fastnn.read_files` does.
    """
    pool, test = read_files(paths)
    pool, test = (pool, test) if test is not None else hold_out(pool, 1 / 5, seed, in_place=True)
    return split(pool, test, 1 / 10, seed)


def hold_out(data: Dataset, share: float, seed: int = 0, *, in_place: bool = False) -> tuple[Dataset, Dataset]:
    """Split `data` in two: what stays, and a `share` (above 0, below 1) drawn by the seed, at least one sample.

    Each part keeps the order of its samples. With `in_place` nothing is copied but the samples held out: the arrays of
    `data` are reordered, and the parts are views of them.
    """
    rows, held = draw_held_out(len(data), share, seed)
    if in_place and is_sparse(data.images):
        raise DataError(f"{data.name}: the rows of a sparse matrix cannot be moved in place")
    if not in_place:
        return data.take(rows), data.take(held)
    for array in (data.images, data.labels):
        if array is not None:
            _move_to_end(array, rows, held)
    return data.take(slice(len(rows))), data.take(slice(len(rows), None))


def _move_to_end(array: np.ndarray, rows: np.ndarray, held: np.ndarray) -> None:
    """Put the rows `rows` of an array first and `held` last, both ascending: so no row moves over one still to move."""
    last = array[held]
    for start in range(0, len(rows), 1024):
        piece = rows[start : start + 1024]
        array[start : start + len(piece)] = array[piece]
    array[len(rows) :] = last


def draw_held_out(n: int, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    check_number("the held-out share", share, high=1, above=0)
    count = max(1, round(share * n))
    if count >= n:
        raise SettingsError(f"a held-out share of {share:g} of {n} samples leaves none to train on")
    order = generator(seed, "split").permutation(n)
    return np.sort(order[count:]), np.sort(order[:count])
