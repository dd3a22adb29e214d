"""`open_data`: finds files, their format and their labels, and returns them as one `BlockedData`."""

import glob
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fastnn.checks import check_choice, check_integer, display_path, is_integer, short
from fastnn.datasets.arrays import as_array
from fastnn.datasets.containers import idx
from fastnn.datasets.containers.bundle import refuse_table_options
from fastnn.datasets.containers.magic import CSV, FEATHER, HDF5, IDX, NPY, NPZ, PARQUET, SVMLIGHT, Kind, kind_of
from fastnn.datasets.files import FilePath
from fastnn.datasets.options import ReadOptions
from fastnn.errors import DataError, FileError, SettingsError
from fastnn.streams.arrays import idx_reader, npy_reader, npz_reader
from fastnn.streams.arrow import IpcReader, ParquetReader, arrow_readers
from fastnn.streams.blocked import BlockedData, BlockOptions
from fastnn.streams.blocks import FunctionBlocks, IteratorBlocks, ReaderBlocks
from fastnn.streams.chunked import hdf5_reader, zarr_reader
from fastnn.streams.content import open_bytes
from fastnn.streams.pictures import folder_reader
from fastnn.streams.reader import ArrayReader, LabelledReader, Reader
from fastnn.streams.text import csv_readers, svmlight_readers

DTYPES = ("uint8", "float32", "float64")
BLOCK_ROWS = 65_536
LARGE_BYTES = 10**9


def open_data(
    source: FilePath | Sequence[FilePath] | Callable[..., Any],
    labels: Any = None,
    *,
    images: str | None = None,
    block_rows: int = BLOCK_ROWS,
    n_blocks: int | None = None,
    n_rows: int | None = None,
    classes: Sequence[Any] | None = None,
    dtype: str | None = None,
    task: str = "auto",
    pixel_max: float | None = None,
    image_shape: tuple[int, int] | None = None,
    drop: Sequence[str] = (),
    header: bool | None = None,
    transpose: bool | None = None,
) -> BlockedData:
    """Open data that may be larger than memory, to be read one block of rows at a time.

    Parameters
    ----------
    source : path, sequence of paths, or callable
        A file or folder, a pattern such as ``part-*.npy``, or files; several are one data set, in the order of their
        names for a pattern. The content tells the format: NPY, NPZ, IDX, CSV and its relatives, svmlight, Parquet,
        Arrow IPC, HDF5, Zarr, or a folder with a folder of pictures per class. Or a function:

        - with `n_blocks`, ``source(i)`` returns block i,
        - else ``source()`` returns a fresh iterator over the blocks. Only reading them in order is fast.

        A block is (images, labels), images alone, or a `Dataset`, and is the same whenever it is made.
    labels : str, int, path, sequence of paths, or array-like of shape (N,) or (N, C)
        The column of a table, by its name or its number from 1; the key of an array in NPZ, HDF5 or Zarr; files of
        labels (NPY or IDX), one for each file or for all; or the labels. "none": no labels. None: names and values
        tell, as for `read_files`; the labels of ``x.npy`` are in ``x.labels.npy``, and those of
        ``train-images-idx3-ubyte`` in ``train-labels-idx1-ubyte``, if there is such a file.
    images : str, optional
        The key of the images in NPZ, HDF5 or Zarr. None: the names tell, those of a training set first.
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
    drop : sequence of str
        The names of columns of a table to leave out.
    header : bool, optional
        Whether line 1 of a table has the names of the columns. None: the line itself decides.
    transpose : bool, optional
        Whether images are stored with rows and columns exchanged. None: only those of files named ``emnist``.

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
    if transpose is None and callable(source):
        transpose = False
    read = ReadOptions(
        drop=drop, header=header, task=task, transpose=transpose, pixel_max=pixel_max, image_shape=image_shape
    )
    options = BlockOptions(classes, told, read)
    if callable(source):
        return _of_function(source, labels, block_rows, n_blocks, n_rows, options)
    for name, value in (("n_blocks", n_blocks), ("n_rows", n_rows)):
        if value is not None:
            raise SettingsError(f"{name} is {short(value)}, but the data are no function, expected None")
    paths = _paths(source)
    readers = [reader for reader in _readers(paths, images, labels, block_rows, options.read) if reader.n_rows]
    if not readers:
        raise DataError(f"{_shown(source, paths)}: found no rows, expected at least one")
    return BlockedData(ReaderBlocks(readers, block_rows), _shown(source, paths), options)


def needs_blocks(paths: Sequence[FilePath]) -> bool:
    """Return whether files should be read in blocks: a pattern, HDF5, Zarr, or 1 GB or more of another format."""
    for path in paths:
        if not os.path.exists(path):
            if glob.has_magic(os.fspath(path)):
                return True
        elif os.path.isdir(path):
            if _kind(os.fspath(path)) is _ZARR:
                return True
        elif (kind := _kind(os.fspath(path))) is HDF5 or (kind in _LARGE and os.path.getsize(path) >= LARGE_BYTES):
            return True
    return False


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
    refuse_table_options(options.read, name)
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


def _readers(
    paths: Sequence[str], images: str | None, labels: Any, block_rows: int, options: ReadOptions
) -> list[Reader]:
    """Return the readers of files, all of one format, with their labels."""
    kinds = [_kind(path) for path in paths]
    if len(set(kinds)) > 1:
        other = next(at for at, kind in enumerate(kinds) if kind is not kinds[0])
        found, expected = kinds[other].what, f"{kinds[0].what} as {display_path(paths[0])}"
        raise DataError(f"{display_path(paths[other])}: found {found}, expected {expected}")
    kind = kinds[0]
    # A text names a file, or what the format calls labels: a key or a column.
    is_name = labels is None or is_integer(labels) or (isinstance(labels, str) and not os.path.exists(labels))
    name = labels if is_name else "none"
    if kind not in (CSV, PARQUET, FEATHER):
        refuse_table_options(options, display_path(paths[0]))
    if kind in _KEYED:
        readers = [_KEYED[kind](path, images, name) for path in paths]
    elif images is not None:
        raise SettingsError(f"images is {images!r}, but {kind.what} holds no arrays with names, expected None")
    elif kind in (PARQUET, FEATHER):
        make = ParquetReader if kind is PARQUET else IpcReader
        readers = arrow_readers(make, paths, replace(options, label=name))
    elif kind is CSV:
        readers = csv_readers(paths, replace(options, label=name), block_rows)
    elif kind in (SVMLIGHT, _FOLDER):
        if name not in (None, "none"):
            raise SettingsError(
                f"labels is {labels!r}, but {kind.what} has labels without a name, expected none or a file"
            )
        readers = svmlight_readers(paths, block_rows) if kind is SVMLIGHT else [*map(folder_reader, paths)]
        for reader in readers:
            reader.has_labels = name is None
    else:
        readers = [_array_reader(path, kind) for path in paths]
        labels = _labels_beside(paths, kinds) if labels is None else labels
        is_name = labels is None or (isinstance(labels, str) and labels == "none")
    return readers if is_name else _labelled(readers, labels)


def _kind(path: str) -> Kind:
    if os.path.isdir(path):
        is_zarr = any(os.path.exists(os.path.join(path, each)) for each in ("zarr.json", ".zarray", ".zgroup"))
        return _ZARR if is_zarr else _FOLDER
    return kind_of(path)


def _array_reader(path: str, kind: Kind, *, is_labels: bool = False) -> Reader:
    """Return the rows of a file of one array."""
    if kind is NPY:
        return npy_reader(open_bytes(path))
    if kind is IDX:
        return idx_reader(path, is_labels=is_labels)
    if kind.advice:
        raise kind.refusal(display_path(path))
    expected = "an NPY or IDX file of labels" if is_labels else "a format that is read in blocks: try fastnn.read_files"
    raise DataError(f"{display_path(path)}: found {kind.what}, expected {expected}")


def _labels_beside(paths: Sequence[str], kinds: Sequence[Kind]) -> list[str] | None:
    """Return the files of labels beside files of images; None if there are none."""
    beside = [labels_path(path) if kind is NPY else _idx_labels(path) for path, kind in zip(paths, kinds, strict=True)]
    there = [os.path.exists(each) for each in beside]
    if not any(there):
        return None
    if not all(there):
        missing = display_path(beside[there.index(False)])
        raise FileError(f"{missing}: no such file, expected labels as for the other files, or labels='none'")
    return beside


def _idx_labels(path: str) -> str:
    """Return the name of the labels of an IDX file: train-labels-idx1-ubyte for train-images-idx3-ubyte."""
    folder, name = os.path.split(path)
    name = re.sub(r"idx\d", "idx1", name.replace("images", "labels"))
    return os.fspath(idx.existing_spelling(os.path.join(folder, name))) if "labels" in name else ""


def _labelled(readers: Sequence[Reader], labels: Any) -> list[Reader]:
    """Return readers with labels in files, one for each reader or for all, or in an array."""
    if isinstance(labels, str | os.PathLike):
        labels = _paths(labels)
    if _are_files(labels):
        of_files = [_array_reader(os.fspath(each), _kind(os.fspath(each)), is_labels=True) for each in labels]
        if len(of_files) == len(readers):
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
    """Return where the labels of the NPY file `path` are: ``x.labels.npy`` for ``x.npy`` and ``x.npy.gz``."""
    return os.fspath(path).removesuffix(".gz").removesuffix(".npy") + ".labels.npy"


_LARGE = (NPY, NPZ, IDX, CSV, SVMLIGHT, PARQUET, FEATHER)
_ZARR = Kind("Zarr", "a Zarr folder")
_FOLDER = Kind("folder", "a folder")
# Formats that hold several arrays under names.
_KEYED: dict[Kind, Callable[[str, str | None, str | None], Reader]] = {
    NPZ: npz_reader,
    HDF5: hdf5_reader,
    _ZARR: zarr_reader,
}
