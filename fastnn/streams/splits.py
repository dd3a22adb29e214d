"""Splits data in blocks: most rows stay in their blocks; those for validation and for the test come into memory."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn.checks import display_path, short
from fastnn.datasets.dataset import Dataset
from fastnn.datasets.files import FilePath
from fastnn.datasets.sparse import is_sparse
from fastnn.datasets.splits import Splits
from fastnn.errors import DataError, SettingsError
from fastnn.memory import check_memory
from fastnn.randomness import generator
from fastnn.streams.ahead import blocks_ahead
from fastnn.streams.blocked import BlockedData
from fastnn.streams.open import open_data
from fastnn.streams.view import BlockedView

# At most so many rows are held out for validation, and likewise for the test: they are in memory.
MOST_ROWS = 10_000
# They come from about this number of blocks, spread over the data, so that a run reads only these to find them.
_BLOCKS = 16
# The chosen blocks have at least this multiple of the rows to hold out.
_ROWS_FOR_ONE = 4


def split_blocks(paths: Sequence[FilePath], seed: int, *, block_rows: int, label: Any = None, **options: Any) -> Splits:
    """Open the data of a run in blocks, and hold out rows: the counterpart of `split_files` for data beyond memory.

    A tenth of the rows is for validation. Without a test set, a fifth is for the test before. Both are at most
    `MOST_ROWS` rows.

    Parameters
    ----------
    paths : sequence of paths
        A file, a folder or a pattern to train on; and another one to test on, which is read whole.
    seed : int
        Determines the rows that are held out.
    block_rows : int
        The number of rows of a block.
    label
        As `labels` of `open_data`.
    options
        `task`, `pixel_max`, `image_shape`, `drop`, `header` and `transpose` of `open_data`.

    Returns
    -------
    Splits
        The training data in blocks, and two data sets in memory.
    """
    if len(paths) > 2:
        found = f"{len(paths)} files such as {display_path(paths[2])}"
        raise SettingsError(
            f"{found} for data in blocks, expected one to train on, and one to test on: put a pattern such as "
            "'part-*.npy' in quotation marks"
        )
    data = open_data(paths[0], label, block_rows=block_rows, **options)
    if not data.has_labels:
        raise DataError(
            f"{data.name} has no labels, expected some: name their column, key or file with label (--label)"
        )
    test = None if len(paths) == 1 else _whole(paths[1], data, label, block_rows, options)
    n_test = 0 if test else min(MOST_ROWS, max(1, round(len(data) / 5)))
    n_validation = min(MOST_ROWS, max(1, round((len(data) - n_test) / 10)))
    train, (validation, *held_out) = hold_out_rows(data, [n_validation] if test else [n_validation, n_test], seed)
    test = test or held_out[0]
    train.notes = (
        *train.notes,
        f"{data.name} is read in blocks of {max(data.block_lengths):,} rows; in memory are {n_validation:,} rows for "
        f"validation and {len(test):,} for the test",
    )
    return Splits(train, validation, test)


def hold_out_rows(data: BlockedData, counts: Sequence[int], seed: int) -> tuple[BlockedView, list[Dataset]]:
    """Return the data without some rows, and data sets of so many of these rows, drawn from a part of the blocks.

    Raises SettingsError if no row would be left.
    """
    if sum(counts) >= len(data):
        raise SettingsError(f"{data.name}: {sum(counts)} of {len(data)} rows would be held out, which leaves none")
    filled = np.flatnonzero(data.block_lengths)
    n_blocks = max(_BLOCKS, -(-_ROWS_FOR_ONE * sum(counts) * len(filled) // len(data)))
    chosen = filled[np.unique(np.linspace(0, len(filled) - 1, min(n_blocks, len(filled))).round().astype(int))]
    lengths = np.array([data.block_lengths[block] for block in chosen])
    if lengths.sum() <= sum(counts):  # the chosen ones are smaller than others
        chosen, lengths = filled, np.array(data.block_lengths)[filled]
    part = np.full(lengths.sum(), len(counts))
    order = generator(seed, "split").permutation(len(part))
    part[order[: sum(counts)]] = np.repeat(np.arange(len(counts)), counts)
    of_block = dict(zip(chosen.tolist(), np.split(part, np.cumsum(lengths)[:-1]), strict=True))
    parts: list[list[Dataset]] = [[] for _ in counts]
    for block, parts_of_rows in of_block.items():
        if (parts_of_rows < len(counts)).any():
            samples = data.read(block)
            for number, taken in enumerate(parts):
                taken.append(samples.take(np.flatnonzero(parts_of_rows == number)))
    left = [
        (block, np.flatnonzero(of_block[block] == len(counts)) if block in of_block else None)
        for block in range(data.n_blocks)
    ]
    name = f"{data.name} (held out)"
    return BlockedView(data, parts=left), [_joined(each, data, name) for each in parts]


def _whole(path: FilePath, train: BlockedData, label: Any, block_rows: int, options: dict[str, Any]) -> Dataset:
    """Return the test set in memory, read like the training data; DataError if its columns are others."""
    stored = train.image_shape[::-1] if train.image_shape and train.is_transposed else train.image_shape
    options = {
        **options, "pixel_max": train.pixel_max, "image_shape": stored, "transpose": train.is_transposed,
        "dtype": train.dtype.name,
    }  # fmt: skip
    data = open_data(path, label, block_rows=block_rows, **options)
    differing: list[tuple[str, Any, Any]] = [
        ("inputs", data.n_inputs, train.n_inputs),
        ("columns", data.feature_names, train.feature_names),
        ("labels", _kind_of_labels(data), _kind_of_labels(train)),
    ]
    for name, found, expected in differing:
        if found != expected:
            raise DataError(f"{data.name}: found {name} {short(found)}, expected {short(expected)} as in {train.name}")
    check_memory(
        len(data) * data.n_inputs * data.dtype.itemsize, f"{data.name}: the {len(data):,} rows of the test set"
    )
    return _joined([block for _, block in blocks_ahead(data)], data, data.name)


def _kind_of_labels(data: BlockedData) -> str:
    return "none" if not data.has_labels else "numbers" if data.has_targets else "classes"


def _joined(parts: Sequence[Dataset], data: BlockedData, name: str) -> Dataset:
    """Return the samples of several parts of data as one data set."""
    images: Any = [part.images for part in parts if len(part)]
    if is_sparse(images[0]):
        from scipy import sparse

        images = sparse.vstack(images, format="csr")
    else:
        images = np.concatenate(images)
    labels = np.concatenate([part.labels for part in parts if part.labels is not None])
    return Dataset(images, labels, data.pixel_max, data.image_shape, name, data.classes, data.feature_names)
