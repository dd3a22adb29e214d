"""Reads data files of any supported format. Detects the format, and groups the files into training and test set."""

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.checks import display_path
from fastnn.datasets.containers import magic
from fastnn.datasets.containers.archive import read_archive
from fastnn.datasets.containers.arff import read_arff
from fastnn.datasets.containers.assemble import Named, dataset_of_arrays
from fastnn.datasets.containers.bundle import Parts, lone_array, parts_of_arrays, refuse_table_options, train_and_test
from fastnn.datasets.containers.emnist import upright, with_mapping
from fastnn.datasets.containers.folder import (
    Entry,
    entries_of_archive,
    entries_of_folder,
    pictures_among,
    read_pictures,
)
from fastnn.datasets.containers.idx import existing_spelling, label_column, read_idx_array
from fastnn.datasets.containers.magic import Kind, kind_of
from fastnn.datasets.containers.matlab import read_matlab
from fastnn.datasets.containers.naming import looks_like_labels, part_of_file, part_of_folder
from fastnn.datasets.containers.npy import read_npy
from fastnn.datasets.containers.npz import read_arrays
from fastnn.datasets.containers.svmlight import read_svmlight
from fastnn.datasets.dataset import Dataset
from fastnn.datasets.files import (
    MAX_BYTES,
    FilePath,
    Member,
    Source,
    UnpackedSizeError,
    allowance_of,
    file_name,
    read_whole,
    source_name,
)
from fastnn.datasets.options import ReadOptions
from fastnn.datasets.tables.frames import read_frame
from fastnn.datasets.tables.table import dataset_of_frame, datasets_of_frames, is_label_table, join_labels
from fastnn.datasets.tables.target import numbered
from fastnn.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

_EXPECTED = (
    "one file or folder, one or two tables (training, test), or images and labels in two files, or in four "
    "(training, then test)"
)
_FRAME_KINDS = {"CSV": "csv", "Parquet": "parquet", "Feather": "feather", "Excel": "excel", "JSON lines": "json-lines"}
_TABLE_KINDS = {*_FRAME_KINDS, "ARFF"}
# Files beside the data in a folder or an archive, which are not data.
_BESIDE = re.compile(r"read_?me|licen[cs]e|citation|notice|changelog|\w*submission|index$|.*-mapping\b|.*names$", re.I)
_TEXT_SUFFIXES = (
    "", ".csv", ".tsv", ".tab", ".txt", ".data", ".dat", ".train", ".test", ".tra", ".tes", ".trn", ".tst",
)  # fmt: skip
# Images and labels in two files each, for training, validation and test.
_MAX_FILES = 6
# Archives in archives are read up to this depth.
_MAX_DEPTH = 3


@dataclass(frozen=True)
class _Table:
    """A table, the name of its file, and whether the labels of another file are its last column."""

    name: str
    frame: "pd.DataFrame"
    is_joined: bool = False


@dataclass(frozen=True)
class _File:
    """A data file, its format, and the part that its name tells, or ""."""

    source: Source
    kind: Kind
    part: str

    @property
    def name(self) -> str:
        return source_name(self.source)


_Loaded = _Table | Named | dict[str, Dataset]


def read_files(paths: FilePath | Sequence[FilePath], **options: Any) -> tuple[Dataset, Dataset | None]:
    """Read a training set, and a test set if there is one, from files of any supported format.

    The content of each file determines its format, not its name:

    - tables: CSV and its relatives, Parquet, Feather, Excel, ARFF, svmlight
    - arrays: NPZ, NPY, IDX, MATLAB (up to version 7.2)
    - a folder of pictures, with one folder per class, or with ``train`` and ``test`` that have such folders
    - a folder, zip or tar archive of any of these
    - any of these compressed by gzip, bzip2 or xz

    Parameters
    ----------
    paths : path, or sequence of paths
        - One file: samples with their labels; some formats hold training and test set.
        - Two files: training and test set; or images and their labels, in either order.
        - Four files: images and labels for training, then those for testing.

        The order does not matter if the names tell training files (``train``) from test files (``t10k`` or ``test``)
        and validation files (``val``). A validation set takes the place of a missing test set.
    label : str or int, optional
        The column of the labels of a table: its name, its number from 1, "first", "last", or "none"; or the name of the
        array of labels.
    drop : sequence of str
        The names of columns to leave out.
    header : bool, optional
        Whether line 1 of a table has the names of the columns. By default, the line itself decides.
    missing : {"refuse", "mean"}
        What to do with missing values of inputs: refuse the file, or replace them by the mean of their column.
    task : {"auto", "classification", "regression"}
        Whether labels are classes or numbers to predict. By default, the labels decide.
    transpose : bool, optional
        Whether rows and columns of images are exchanged in the files. By default, only in files named ``emnist``.
    pixel_max : float, optional
        The largest value a pixel can have. By default, the data decide.
    image_shape : (int, int), optional
        Height and width of the image in a row. By default, 28 x 28 for 784 pixels and 8 x 8 for 64.

    Returns
    -------
    train : Dataset
        Its `notes` say what was decided: columns left out, images transposed, samples not used.
    test : Dataset or None
        Both have the same dtype, width, image shape, pixel_max and classes.

    Raises
    ------
    DataError
        If the files do not match, are invalid, unpack to more than 100 times their size and 32 MiB, or have a format
        that is not read. The message names the format.
    FileError
        If a file cannot be opened.
    SettingsError
        If an option is invalid.

    Examples
    --------
    >>> from importlib.resources import files
    >>> import fastnn
    >>> folder = files("fastnn.datasets") / "mnist"
    >>> parts = ["t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"]
    >>> data, test = fastnn.read_files([folder / part for part in parts])
    >>> len(data), data.image_shape, test
    (10000, (28, 28), None)

    A folder of pictures per class:

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from PIL import Image
    >>> with TemporaryDirectory() as folder:
    ...     for name in ("0/a.png", "0/b.png", "1/a.png"):
    ...         Path(folder, name).parent.mkdir(exist_ok=True)
    ...         Image.new("L", (28, 28)).save(Path(folder, name))
    ...     data, test = fastnn.read_files(folder)
    >>> data.images.shape, data.labels
    ((3, 784), array([0, 0, 1]))
    """
    chosen = ReadOptions(**options)
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    found = [_expanded(existing_spelling(path), chosen) for path in given]
    if not any(found):
        raise DataError(f"found no files, expected {_EXPECTED}")
    if any(isinstance(each, dict) for each in found):
        return _finished(_of_folders(given, found, chosen), given, chosen)
    files = [file for each in found for file in each if isinstance(file, _File)]
    return _finished(_parts_of_files(files, chosen), given, chosen)


def read_tables(paths: Sequence[FilePath], options: ReadOptions) -> "list[tuple[str, pd.DataFrame]] | None":
    """Return the names and the frames of tables; None if one of the files is no table."""
    found = [_expanded(existing_spelling(path), options) for path in paths]
    files = [file for each in found for file in each if isinstance(file, _File)]
    if any(isinstance(each, dict) for each in found) or any(file.kind.key not in _TABLE_KINDS for file in files):
        return None
    tables = [_load(file, options) for file in files]
    return [(table.name, table.frame) for table in tables if isinstance(table, _Table)] or None


def _finished(parts: Parts, paths: Sequence[FilePath], options: ReadOptions) -> tuple[Dataset, Dataset | None]:
    """Return training and test set with upright images, and without numbers of classes that do not occur."""
    parts = {part: upright(with_mapping(data, paths), paths, options) for part, data in parts.items()}
    train, test = train_and_test({part: _without_gaps(data) for part, data in parts.items()})
    if options.pixel_max is None or test is None:
        return train, test
    return replace(train, pixel_max=options.pixel_max), replace(test, pixel_max=options.pixel_max)


def _without_gaps(data: Dataset) -> Dataset:
    """Return the data set with labels from 0 up, and their numbers in the file as classes, if those begin at 1, say.

    Otherwise a network would have outputs for classes without samples.
    """
    if data.labels is None or data.has_targets or data.classes is not None or not len(data):
        return data
    labels, classes = numbered(data.labels)
    return replace(data, labels=labels, classes=classes)


def _of_folders(paths: Sequence[FilePath], found: Sequence[list[_File] | Parts], options: ReadOptions) -> Parts:
    """Return the data sets of a folder or an archive of pictures, or of two: training and test set."""
    if len(found) == 1 and isinstance(found[0], dict):
        return found[0]
    names = [part_of_file(os.path.basename(os.path.normpath(path))) for path in paths]
    if len(paths) != 2:
        raise DataError(f"found {len(paths)} files and folders, expected {_EXPECTED}")
    pairs = list(zip(paths, found, strict=True))
    made: Parts = {}
    for part, (path, each) in zip(("train", "test"), pairs[::-1] if names[0] == "test" else pairs, strict=True):
        parts = each if isinstance(each, dict) else _parts_of_files(each, options)
        if len(parts) != 1:
            found_parts = " and ".join(parts)
            raise DataError(f"{display_path(path)}: found {found_parts} in one of two folders, expected one data set")
        made[part] = next(iter(parts.values()))
    return made


def _expanded(path: Source, options: ReadOptions, depth: int = 0) -> list[_File] | Parts:
    """Return the data files at a path: the file, or those in a folder or an archive; or the data sets of pictures."""
    if not isinstance(path, Member) and os.path.isdir(path):
        return _of_entries(entries_of_folder(path), display_path(path), options, depth)
    kind = kind_of(path)
    if kind.advice:
        raise kind.refusal(source_name(path))
    if kind in (magic.ZIP, magic.TAR):
        members = read_archive(path, kind)
        return _of_entries(entries_of_archive(members), source_name(path), options, depth)
    return [_File(path, kind, part_of_file(file_name(path)))]


def _of_entries(entries: list[Entry], name: str, options: ReadOptions, depth: int) -> list[_File] | Parts:
    pictures = pictures_among(entries)
    if pictures:
        refuse_table_options(options, name)
        return read_pictures(pictures, name, options)
    if depth == _MAX_DEPTH:
        raise DataError(f"{name}: found archives in archives, expected data files or pictures")
    files: list[_File] = []
    refused: list[DataError] = []
    for entry in entries:
        if _is_beside(entry.parts[-1]):
            continue
        try:
            found = _expanded(entry.source, options, depth + 1)
        except UnpackedSizeError:  # the other files would take what is left of the memory
            raise
        except DataError as error:
            refused.append(error)
            continue
        if isinstance(found, dict):
            return found
        part = next(filter(None, map(part_of_folder, entry.parts[:-1])), "")
        files.extend(replace(each, part=each.part or part) for each in found if _is_data(each, entry.parts[-1]))
    if files:
        return files
    if refused:
        raise refused[0]
    raise DataError(f"{name}: found {len(entries)} files, none with data, expected data files, or pictures in folders")


def _is_beside(name: str) -> bool:
    return bool(_BESIDE.match(name))


def _is_data(file: _File, name: str) -> bool:
    if file.kind is not magic.CSV:
        return True
    return PurePath(file_name(file.source)).suffix.lower() in _TEXT_SUFFIXES


def _parts_of_files(files: list[_File], options: ReadOptions) -> Parts:
    """Return the data sets of files by part: the names of the files decide, else their order."""
    names = ", ".join(f"{file.name} ({file.kind.key})" for file in files[:8])
    names += f" and {len(files) - 8} more" if len(files) > 8 else ""
    if len(files) > _MAX_FILES:  # before any of them takes memory
        raise DataError(f"found {names}, expected {_EXPECTED}")
    if {file.kind for file in files} == {magic.SVMLIGHT} and len(files) <= 2:
        refuse_table_options(options, names)
        ordered = sorted(files, key=lambda file: file.part == "test")
        read = read_svmlight([file.source for file in ordered], options)
        return dict(zip(("train", "test"), read, strict=False))
    loaded = {id(file): _load(file, options) for file in files}
    groups = _by_name(files)
    if groups is None or any(_only_labels(group, loaded) for group in groups.values()):
        groups = _by_order(files, loaded)
    if groups is None:
        raise DataError(f"found {names}, expected {_EXPECTED}")
    joined = {part: _joined([loaded[id(file)] for file in group]) for part, group in groups.items()}
    return _datasets(joined, options, names)


def _load(file: _File, options: ReadOptions) -> _Loaded:
    """Return the content of a data file: a table, one array, or data sets by part."""
    source, name = file.source, file.name
    if file.kind is magic.IDX:
        return read_idx_array(source)
    if file.kind is magic.NPY:
        return _named_or_table(Named(name, read_npy(source)))
    if file.kind is magic.ARFF:
        return _Table(name, read_arff(source))
    if file.kind is magic.SVMLIGHT:
        return {"": read_svmlight([source], options)[0]}
    if file.kind.key in _FRAME_KINDS:
        is_plain = not isinstance(source, Member)
        content = None if is_plain and file.kind is magic.CSV else read_whole(source, MAX_BYTES)
        kind: Any = _FRAME_KINDS[file.kind.key]
        path = name if isinstance(source, Member) else source
        return _Table(name, read_frame(path, options, content=content, kind=kind, allowance=allowance_of(source)))
    is_matlab = file.kind is magic.MATLAB
    arrays = read_matlab(source) if is_matlab else read_arrays(source)
    key = lone_array(arrays)
    if key is not None and not isinstance(arrays[key], DataError):
        return Named(name, arrays[key])
    return parts_of_arrays(arrays, name, options, samples_last=is_matlab)


def _named_or_table(array: Named) -> _Loaded:
    if array.values.dtype.names is None:
        return array
    import pandas as pd

    return _Table(array.name, pd.DataFrame(array.values))


def _by_name(files: Sequence[_File]) -> dict[str, list[_File]] | None:
    """Group files by the part that their names tell; None if a name tells none, or there is nothing to train on."""
    groups: dict[str, list[_File]] = {}
    for file in files:
        groups.setdefault(file.part, []).append(file)
    if "" in groups or "train" not in groups or any(len(group) > 2 for group in groups.values()):
        return None
    return groups


def _by_order(files: Sequence[_File], loaded: dict[int, _Loaded]) -> dict[str, list[_File]] | None:
    """Group files by their order: one or two data sets, each in one file or two."""
    if len(files) == 1:
        return {"": list(files)}
    if len(files) == 2:
        contents = [loaded[id(file)] for file in files]
        if all(isinstance(each, Named) for each in contents) or sum(map(_holds_labels, contents)) == 1:
            return {"": list(files)}
        order = sorted(files, key=lambda file: file.part == "test")
        return {"train": [order[0]], "test": [order[1]]}
    return {"train": list(files[:2]), "test": list(files[2:])} if len(files) == 4 else None


def _only_labels(group: list[_File], loaded: dict[int, _Loaded]) -> bool:
    return all(_holds_labels(loaded[id(file)]) for file in group)


def _holds_labels(content: _Loaded) -> bool:
    """Return whether a table or an array has one value for each sample, and so nothing but labels."""
    if isinstance(content, _Table):
        return is_label_table(content.frame)
    return isinstance(content, Named) and content.values.shape[:1] == (math.prod(content.values.shape),)


def _joined(contents: list[_Loaded]) -> _Table | Dataset | list[Named] | Parts:
    """Return one table, data sets, or the arrays (images, labels), of one file or of images and labels in two."""
    if len(contents) == 1:
        content = contents[0]
        return [content] if isinstance(content, Named) else content
    names = " and ".join(each.name if not isinstance(each, dict) else "a file of data sets" for each in contents)
    if any(isinstance(each, dict) for each in contents):
        raise DataError(f"found {names} as images and labels, expected one array or table in each")
    images, labels = _images_and_labels(contents)
    if isinstance(images, _Table):
        label_frame = labels.frame if isinstance(labels, _Table) else _frame_of(labels)
        return _Table(images.name, join_labels(images.frame, label_frame, images.name, labels.name), is_joined=True)
    if isinstance(labels, _Table):
        labels = Named(labels.name, labels.frame.iloc[:, -1].to_numpy())
    return [images, labels]


def _frame_of(array: Named) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame({"label": array.values.reshape(-1)})


def _images_and_labels(pair: Sequence[Any]) -> tuple[Any, Any]:
    """Return two arrays or tables in the order (images, labels)."""
    first, second = pair
    found = [_holds_labels(each) for each in pair]
    if found[0] == found[1] and not found[0]:
        found = [looks_like_labels(os.path.basename(each.name)) for each in pair]
        if found[0] == found[1] and all(isinstance(each, Named) for each in pair):
            sizes = [math.prod(each.values.shape) for each in pair]
            found = [4 * sizes[0] <= sizes[1], 4 * sizes[1] <= sizes[0]]
    if found[0] == found[1]:
        listed = " and ".join(
            f"{each.name} (rank {each.values.ndim if isinstance(each, Named) else 2})" for each in pair
        )
        raise DataError(f"found {listed} as a pair, expected images (rank 3 or 2) and their labels (rank 1)")
    return (second, first) if found[0] else (first, second)


def _datasets(joined: dict[str, Any], options: ReadOptions, names: str) -> Parts:
    """Return the data sets of what each part has: tables are read alike, the training table first."""
    if any(isinstance(each, _Table) and each.is_joined for each in joined.values()):
        options = replace(options, label="last")
    if all(isinstance(each, _Table) for each in joined.values()):
        order = sorted(joined, key=("train", "", "validation", "test").index)
        tables = [joined[part] for part in order]
        read = datasets_of_frames([table.frame for table in tables], [table.name for table in tables], options)
        return dict(zip(order, read, strict=True))
    made: Parts = {}
    for part, content in joined.items():
        if isinstance(content, _Table):
            made[part] = dataset_of_frame(content.frame, content.name, options)
        elif isinstance(content, list):
            made[part] = _of_arrays(content, options)
        elif len(joined) == 1:
            return content
        elif len(content) == 1:
            made[part] = next(iter(content.values()))
        else:
            raise DataError(f"found {names}, where one has several data sets, expected {_EXPECTED}")
    return made


def _of_arrays(arrays: list[Named], options: ReadOptions) -> Dataset:
    """Return the data set of images and labels, or of one array: images, or a table that has its labels in a column."""
    images = arrays[0]
    if len(arrays) == 2:
        refuse_table_options(options, images.name)
        labels = arrays[1]
        notes: tuple[str, ...] = ()
        if labels.values.ndim == 2 and labels.values.dtype.kind in "iu" and labels.values.shape[1] == 8:
            labels, notes = label_column(labels, images)
        return dataset_of_arrays(images, labels, options, notes=notes)
    if _holds_labels(images):
        raise DataError(f"{images.name}: found nothing but labels, shape {images.values.shape}, expected images, too")
    is_table = isinstance(images.values, np.ndarray) and images.values.ndim == 2 and options.label != "none"
    if is_table and (options.label is not None or images.values.shape[1] not in (784, 64)):
        import pandas as pd

        return dataset_of_frame(pd.DataFrame(images.values), images.name, options)
    refuse_table_options(options, images.name)
    return dataset_of_arrays(images, None, options)
