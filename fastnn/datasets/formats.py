"""Reads data files of any supported format. Detects the format, and groups the files into training and test set."""

import os
import re
from collections.abc import Sequence
from typing import Literal

from fastnn.checks import display_path
from fastnn.datasets.csv import read_csv
from fastnn.datasets.dataset import Dataset
from fastnn.datasets.files import FilePath, open_content
from fastnn.datasets.idx import existing_spelling, read_idx, read_rank
from fastnn.datasets.npz import read_npz
from fastnn.datasets.pixels import matched
from fastnn.errors import DataError

_Format = Literal["IDX", "NPZ", "CSV"]
_EXPECTED = (
    "one NPZ file, one or two CSV files (training, test), or two or four IDX files "
    "(images and labels for training, then for testing)"
)


def read_files(paths: Sequence[FilePath]) -> tuple[Dataset, Dataset | None]:
    """Read a training set, and a test set if there is one, from IDX, NPZ or CSV files.

    The content of each file determines its format: IDX, NPZ, else CSV. IDX and CSV files may be gzipped.

    Parameters
    ----------
    paths : path, or sequence of paths
        - NPZ: one file.
        - CSV: one or two files, the training set first.
        - IDX: two or four files, the training set first. Images and labels may come in either order.

        The order of two CSV or four IDX files does not matter if their names tell training files (``train``) from test
        files (``t10k`` or ``test``).

    Returns
    -------
    train : Dataset
    test : Dataset or None
        Data sets as `read_idx`, `read_csv` and `read_npz` return them. Both have the same dtype, width, image shape and
        pixel_max.

    Raises
    ------
    DataError
        If the number or the formats of the files are wrong, the files do not match, or a file is invalid.
    FileError
        If a file cannot be opened.

    Examples
    --------
    >>> from importlib.resources import files
    >>> import fastnn
    >>> folder = files("fastnn.datasets") / "mnist"
    >>> parts = ["t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"]
    >>> data, test = fastnn.read_files([folder / part for part in parts])
    >>> len(data), data.image_shape, test
    (10000, (28, 28), None)
    """
    files = [existing_spelling(path) for path in ([paths] if isinstance(paths, str) else paths)]
    formats = [_detect_format(path) for path in files]
    if formats == ["NPZ"]:
        return read_npz(files[0])
    if formats == ["CSV"]:
        return read_csv(files[0]), None
    if formats == ["CSV"] * 2:
        train, test = _by_name(files, 1) or [[path] for path in files]
        return matched(read_csv(train[0]), read_csv(test[0]))
    if formats in (["IDX"] * 2, ["IDX"] * 4):
        return _read_idx_files(files)
    found = ", ".join(f"{display_path(path)} ({name})" for path, name in zip(files, formats, strict=True)) or "no files"
    raise DataError(f"found {found}, expected {_EXPECTED}")


def _detect_format(path: FilePath) -> _Format:
    with open_content(path) as content:
        start = content.read(4)
    if start[:2] == b"PK" and not content.gzipped:
        return "NPZ"
    if start[:2] == b"\0\0":
        return "IDX"
    if b"\0" in start:
        raise DataError(f"{content.name}: found bytes {start.hex(' ')} at the start, expected an IDX, NPZ or CSV file")
    return "CSV"


def _read_idx_files(files: list[FilePath]) -> tuple[Dataset, Dataset | None]:
    if len(files) == 2:
        return read_idx(*_images_and_labels(files)), None
    groups = _by_name(files, 2)
    if groups is None or any(len({read_rank(path) == 1 for path in pair}) == 1 for pair in groups):
        groups = [files[:2], files[2:]]
    train, test = (read_idx(*_images_and_labels(pair)) for pair in groups)
    return matched(train, test)


def _images_and_labels(pair: list[FilePath]) -> list[FilePath]:
    """Return the two files in the order (images, labels)."""
    ranks = [read_rank(path) for path in pair]
    if (ranks[0] == 1) == (ranks[1] == 1):
        found = " and ".join(f"{display_path(path)} (rank {rank})" for path, rank in zip(pair, ranks, strict=True))
        raise DataError(f"found {found} as a pair, expected images (rank 3 or 2) and their labels (rank 1)")
    return pair[::-1] if ranks[0] == 1 else pair


def _by_name(files: list[FilePath], size: int) -> list[list[FilePath]] | None:
    """Group the files by name into `size` training and `size` test files; return None if the names do not decide."""
    groups: dict[str, list[FilePath]] = {"train": [], "test": []}
    for path in files:
        found = set(re.findall("train|t10k|test", os.path.basename(path).lower()))
        if found and ("train" not in found or len(found) == 1):
            groups["train" if "train" in found else "test"].append(path)
    return [groups["train"], groups["test"]] if all(len(group) == size for group in groups.values()) else None
