"""`open_data`: finds files, their format and their labels, and returns them as one `BlockedData`."""

import glob
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastnn.checks import check_choice, check_integer, display_path, short
from fastnn.datasets.arrays import as_array
from fastnn.datasets.containers.magic import NPY, Kind, kind_of
from fastnn.datasets.files import FilePath
from fastnn.datasets.options import ReadOptions
from fastnn.errors import DataError, FileError, SettingsError
from fastnn.streams.blocked import BlockedData, BlockOptions
from fastnn.streams.blocks import FunctionBlocks, IteratorBlocks, ReaderBlocks
from fastnn.streams.npy import NpyReader
from fastnn.streams.reader import ArrayReader, LabelledReader, Reader

DTYPES = ("uint8", "float32", "float64")
BLOCK_ROWS = 65_536


def open_data(
    source: FilePath | Sequence[FilePath] | Callable[..., Any],
    labels: Any = None,
    *,
    block_rows: int = BLOCK_ROWS,
    n_blocks: int | None = None,
    n_rows: int | None = None,
    classes: Sequence[Any] | None = None,
    dtype: str | None = None,
    task: str = "auto",
    pixel_max: float | None = None,
    image_shape: tuple[int, int] | None = None,
) -> BlockedData:
    """Open data that may be larger than memory, to be read one block of rows at a time.

    Parameters
    ----------
    source : path, sequence of paths, or callable
        A file, a pattern such as ``part-*.npy``, or files; several are one data set, in the order of their names for a
        pattern. Or a function:

        - with `n_blocks`, ``source(i)`` returns block i,
        - else ``source()`` returns a fresh iterator over the blocks. Only reading them in order is fast.

        A block is (images, labels), images alone, or a `Dataset`, and is the same whenever it is made.
    labels : path, sequence of paths, array-like of shape (N,) or (N, C), or "none"
        None: for an NPY file ``x.npy``, those of ``x.labels.npy`` beside it, if it exists. "none": no labels.
    block_rows : int
        The number of rows of a block. Functions make blocks of any size.
    n_blocks : int, optional
        The number of blocks of a function.
    n_rows : int, optional
        The number of rows of a function with `n_blocks`, if all blocks but the last have `block_rows` rows. None: a
        pass counts them.
    classes : sequence of int or str, optional
        All classes. None: a pass over the labels of all blocks finds them when they are first needed.
    dtype : {"uint8", "float32", "float64"}, optional
        What the images become. None: that of the first rows, as `Dataset`'s readers convert it, and all blocks must
        have the same.
    task : {"auto", "classification", "regression"}
        Whether labels are classes or numbers to predict, as in `read_csv`.
    pixel_max : float, optional
        The largest value of a pixel. None: by the first rows.
    image_shape : (int, int), optional
        Height and width of the image in a row. None: as in `read_npz`.

    Returns
    -------
    BlockedData

    Raises
    ------
    DataError
        If a file is damaged or of a format that cannot be read in blocks, or files do not fit together.
    FileError
        If there is no such file, or it cannot be opened.
    SettingsError
        If an argument is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnn
    >>> def block(i):
    ...     draws = np.random.default_rng(i)
    ...     return draws.random((1000, 20), np.float32), draws.integers(3, size=1000)
    >>> data = fastnn.open_data(block, n_blocks=5)
    >>> len(data), data.classes
    (5000, (0, 1, 2))
    >>> data.read(4)
    Dataset(block: block 4: 1000 samples of 20 float32 inputs, 3 classes, pixel_max 1)
    """
    check_integer("block_rows", block_rows, 1)
    told = None if dtype is None else np.dtype(check_choice("dtype", dtype, DTYPES))
    options = BlockOptions(classes, told, ReadOptions(task=task, pixel_max=pixel_max, image_shape=image_shape))
    if callable(source):
        return _of_function(source, labels, block_rows, n_blocks, n_rows, options)
    for name, value in (("n_blocks", n_blocks), ("n_rows", n_rows)):
        if value is not None:
            raise SettingsError(f"{name} is {short(value)}, but the data are no function, expected None")
    paths = _paths(source)
    readers = [_reader(path) for path in paths]
    filled = [reader for reader in _labelled(readers, paths, labels) if reader.n_rows]
    if not filled:
        raise DataError(f"{_shown(source, paths)}: found no rows, expected at least one")
    return BlockedData(ReaderBlocks(filled, block_rows), _shown(source, paths), options)


def _of_function(
    function: Callable[..., Any],
    labels: Any,
    block_rows: int,
    n_blocks: int | None,
    n_rows: int | None,
    options: BlockOptions,
) -> BlockedData:
    if labels is not None:
        raise SettingsError(f"labels is {short(labels)}, expected None, because the function returns them")
    name = getattr(function, "__name__", type(function).__name__)
    if n_blocks is None:
        if n_rows is not None:
            raise SettingsError(f"n_rows is {short(n_rows)} without n_blocks, expected both")
        return BlockedData(IteratorBlocks(function, name), name, options)
    check_integer("n_blocks", n_blocks, 1)
    lengths = None
    if n_rows is not None:
        check_integer("n_rows", n_rows, (n_blocks - 1) * block_rows + 1, n_blocks * block_rows)
        lengths = (*[block_rows] * (n_blocks - 1), n_rows - (n_blocks - 1) * block_rows)
    return BlockedData(FunctionBlocks(function, n_blocks, lengths, name), name, options)


def _paths(source: Any) -> list[str]:
    """Return the paths that a path, a pattern or a sequence of paths names. Raises FileError if there are none."""
    if isinstance(source, str | os.PathLike):
        path = os.fspath(source)
        if os.path.exists(path) or not glob.has_magic(path):
            return [path]
        found = sorted(each for each in glob.glob(path) if not each.endswith(".labels.npy"))
        if not found:
            raise FileError(f"{display_path(path)}: no file has such a name")
        return found
    if (
        not isinstance(source, Sequence)
        or not source
        or not all(isinstance(each, str | os.PathLike) for each in source)
    ):
        raise SettingsError(f"the data are {short(source)}, expected a path, a pattern, paths or a function")
    return [os.fspath(each) for each in source]


def _shown(source: Any, paths: Sequence[str]) -> str:
    if isinstance(source, str | os.PathLike):
        return display_path(source)
    return display_path(paths[0]) + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")


def _reader(path: str) -> Reader:
    kind = kind_of(path)
    make = _READERS.get(kind)
    if make is None:
        raise kind.refusal(display_path(path))
    return make(path)


def _labelled(readers: list[Reader], paths: Sequence[str], labels: Any) -> list[Reader]:
    """Return readers that also read the labels."""
    if isinstance(labels, str) and labels == "none":
        return readers
    if labels is None:
        beside = [labels_path(path) for path in paths]
        there = [os.path.exists(each) for each in beside]
        if not any(there):
            return readers
        if not all(there):
            missing = display_path(beside[there.index(False)])
            raise FileError(f"{missing}: no such file, expected labels as for the other files, or labels='none'")
        labels = beside
    if isinstance(labels, str | os.PathLike):
        labels = _paths(labels)
    if _are_files(labels):
        of_files = [_reader(os.fspath(each)) for each in labels]
        if len(labels) == len(paths):
            return [LabelledReader(*pair) for pair in zip(readers, of_files, strict=True)]
        labels = np.concatenate([reader.read(0, reader.n_rows)[0] for reader in of_files])
    values = as_array(labels, "labels")
    total = sum(reader.n_rows for reader in readers)
    if len(values) != total:
        raise DataError(f"labels: found {len(values)} labels, expected {total}, one for each row")
    made: list[Reader] = []
    start = 0
    for reader in readers:
        stop = start + reader.n_rows
        made.append(LabelledReader(reader, ArrayReader(values[start:stop], f"labels of {reader.name}")))
        start = stop
    return made


def _are_files(labels: Any) -> bool:
    """Return whether labels are paths, not the texts of classes."""
    paths = isinstance(labels, list | tuple) and all(isinstance(each, str | os.PathLike) for each in labels)
    return paths and bool(labels) and all(os.path.exists(each) for each in labels)


def labels_path(path: FilePath) -> str:
    """Return where the labels of the NPY file `path` are: ``x.labels.npy`` for ``x.npy``."""
    return str(Path(path).with_suffix(".labels.npy"))


_READERS: dict[Kind, Callable[[str], Reader]] = {NPY: NpyReader}
