"""Splits a data set into training, validation and test sets."""

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from fastnn.checks import check_number
from fastnn.datasets.containers.formats import read_files
from fastnn.datasets.convert import as_dataset
from fastnn.datasets.dataset import Dataset
from fastnn.datasets.sparse import is_sparse
from fastnn.errors import DataError, SettingsError
from fastnn.interruptible import PER_SORT, interruptible
from fastnn.randomness import generator


class Splits(NamedTuple):
    """The data sets of a run: to train on, for the validation curves, and for the final loss and accuracy."""

    train: Any  # a Dataset, or BlockedData
    validation: Dataset
    test: Dataset


def split(pool: Dataset, test: Dataset | None, held_out: float, seed: int) -> Splits:
    """Hold out a fraction of `pool` for validation. Without a test set, the validation set is also the test set.

    The rows of `pool` are reordered in place, and both sets are views of its arrays; of sparse rows, they are copies.
    """
    in_place = not is_sparse(pool.images)
    train, validation = hold_out(pool, held_out, seed, in_place=in_place)
    validation = replace(validation, name=f"{pool.name} (held out)")
    return Splits(train, validation, validation if test is None else test)


def split_files(paths: Sequence[str | os.PathLike[str]], seed: int, **options: Any) -> Splits:
    """Read the data of a run from files, as `fastnn.read_files` does, and hold out 10 % for validation.

    Without a test file, the function first holds out 20 % of the samples for testing. `options` are those of
    `fastnn.read_files`.
    """
    pool, test = read_files(paths, **options)
    if test is None:
        name = f"{pool.name} (held out)"
        pool, test = hold_out(pool, 1 / 5, seed, in_place=not is_sparse(pool.images))
        test = replace(test, name=name)
    return split(pool, test, 1 / 10, seed)


def hold_out(data: Dataset, share: float, seed: int = 0, *, in_place: bool = False) -> tuple[Dataset, Dataset]:
    """Split `data` at random into a training set and a held-out set.

    Both sets keep the order of their samples.

    Parameters
    ----------
    data : Dataset, or (images, labels)
        N samples.
    share : float
        The fraction of the samples to hold out, above 0 and below 1. At least one sample is held out.
    seed : int
        Equal seeds give equal splits.
    in_place : bool
        Whether to reorder the arrays of `data` and return views of them instead of copies. Only the held-out samples
        are copied, temporarily. Not possible for sparse matrices.

    Returns
    -------
    rest, held_out : Dataset

    Raises
    ------
    DataError
        If `in_place` is set and the images are a sparse matrix.
    SettingsError
        If `share` is out of range or leaves no sample to train on.

    Examples
    --------
    >>> import fastnn
    >>> training, validation = fastnn.hold_out(fastnn.load_digits(), 0.1)
    >>> len(training), len(validation)
    (1617, 180)
    """
    data = as_dataset(data)
    rows, held = interruptible(draw_held_out, len(data), share, seed, work=PER_SORT * len(data))
    if in_place and is_sparse(data.images):
        raise DataError(f"{data.name}: images are a sparse matrix, expected an array to reorder in place")
    if not in_place:
        return data.take(rows), data.take(held)
    for array in (data.images, data.labels):
        if array is not None:
            _move_to_end(array, rows, held)
    return data.take(slice(len(rows))), data.take(slice(len(rows), None))


def _move_to_end(array: np.ndarray, rows: np.ndarray, held: np.ndarray) -> None:
    """Move the rows `rows` of an array to its start, and the rows `held` to its end. Both are in ascending order.

    So each of `rows` moves towards the start, and never overwrites a row that has not been moved yet.
    """
    last = array[held]
    for start in range(0, len(rows), 1024):
        block = rows[start : start + 1024]
        array[start : start + len(block)] = array[block]
    array[len(rows) :] = last


def draw_held_out(n: int, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw the samples to hold out of `n`; return the indices to keep and to hold out, both in ascending order."""
    check_number("the held-out share", share, high=1, above=0)
    count = max(1, round(share * n))
    if count >= n:
        raise SettingsError(f"a held-out share of {share:g} of {n} samples leaves none to train on")
    order = generator(seed, "split").permutation(n)
    return np.sort(order[count:]), np.sort(order[:count])
