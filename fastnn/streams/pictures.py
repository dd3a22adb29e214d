"""Reads ranges of the pictures in a folder that has one folder per class."""

import os
from hashlib import sha256
from typing import Any

import numpy as np

from fastnn.checks import display_path
from fastnn.datasets.containers.folder import (
    LARGEST_SIDE,
    classes_of_pictures,
    entries_of_folder,
    grey_bytes,
    pictures_among,
    prepared_digit,
)
from fastnn.datasets.files import FilePath
from fastnn.errors import DataError
from fastnn.streams.reader import Layout, Reader

# Rows are in a fixed random order: else blocks would hold one class each.
_ORDER_SEED = 0


class FolderReader(Reader):
    """The pictures of a folder, in a random order that depends on their number only.

    The first picture decides for all: if it has up to 64 x 64 pixels, pictures of its size are rows as they are;
    else `prepare_image` makes rows of 28 x 28.

    Parameters
    ----------
    folder : path
    files : list of str
        Relative to the folder.
    classes : list of str
        The class of each file.
    """

    has_labels = True

    def __init__(self, folder: FilePath, files: list[str], classes: list[str], notes: tuple[str, ...]) -> None:
        order = np.random.default_rng(_ORDER_SEED).permutation(len(files))
        self._folder, self.name, self.notes = os.fspath(folder), display_path(folder), notes
        self._files = [files[each] for each in order.tolist()]
        are_numbers = all(each.isdecimal() and each.isascii() for each in classes)
        self._labels = np.array([int(each) for each in classes] if are_numbers else classes)[order]
        self.n_rows = len(files)
        first = grey_bytes(self._path(0))
        self._shape = first.shape if max(first.shape) <= LARGEST_SIDE else None
        height, width = self._shape or (28, 28)
        self._n_inputs = height * width
        self.layout = Layout(
            self._n_inputs, np.dtype(np.uint8), 255.0, None if 1 in (height, width) else (height, width)
        )

    def read(self, start: int, stop: int) -> tuple[Any, Any]:
        """Return the pixels and the classes. Raises DataError with the name of the picture."""
        rows = np.empty((stop - start, self._n_inputs), np.uint8)
        for number, row in enumerate(rows, start):
            path = self._path(number)
            if self._shape is None:
                row[:] = prepared_digit(path)
                continue
            pixels = grey_bytes(path)
            if pixels.shape != self._shape:
                sizes = [" x ".join(map(str, each)) for each in (pixels.shape, self._shape)]
                expected = f"{sizes[1]} as of {display_path(self._path(0))}; make all pictures one size"
                raise DataError(f"{display_path(path)}: found a picture of {sizes[0]} pixels, expected {expected}")
            row[:] = pixels.reshape(-1)
        return rows, self.read_labels(start, stop)

    def read_labels(self, start: int, stop: int) -> Any:
        """Return the classes without opening a picture."""
        return self._labels[start:stop]

    def fingerprint(self) -> bytes:
        """Return a digest of the names and sizes of all pictures."""
        digest = sha256()
        for number, file in enumerate(self._files):
            digest.update(f"{file} {os.path.getsize(self._path(number))}\n".encode("utf-8", "surrogateescape"))
        return digest.digest()

    def _path(self, number: int) -> str:
        return os.path.join(self._folder, self._files[number])


def folder_reader(folder: FilePath) -> Reader:
    """Return the pictures of a folder, or of its folder ``train``. Raises DataError if folders tell no classes."""
    name = display_path(folder)
    pictures = pictures_among(entries_of_folder(folder))
    if not pictures:
        raise DataError(f"{name}: found no pictures, expected one folder of pictures for each class")
    found, labels, notes = classes_of_pictures(pictures, name)
    part = "train" if "train" in found else ""
    others = [f"{name}: the {len(each)} pictures for {key} are not used" for key, each in found.items() if key != part]
    files = [os.path.relpath(str(entry.source), os.fspath(folder)) for entry in found[part]]
    return FolderReader(folder, files, labels[part], (*notes, *others))
