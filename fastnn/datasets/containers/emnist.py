"""Handles what EMNIST does differently from MNIST: images with rows and columns exchanged, and names of classes."""

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from fastnn.datasets.dataset import Dataset
from fastnn.datasets.files import FilePath
from fastnn.datasets.options import ReadOptions
from fastnn.errors import DataError

_NAME = re.compile(r"(?<![a-z])emnist(?![a-z])", re.IGNORECASE)
_MAX_MAPPING = 2**16


class Exchange(NamedTuple):
    """An exchange of rows and columns of images: the order of the columns of a table, the shape then, and a note."""

    order: np.ndarray
    image_shape: tuple[int, int]
    note: str


def exchange(
    name: str,
    paths: Sequence[FilePath],
    n_inputs: int,
    image_shape: tuple[int, int] | None,
    options: ReadOptions,
) -> Exchange | None:
    """Return the exchange that the options ask for, or else the names of files: ``emnist``. None: there is none."""
    names = [*(os.fspath(path) for path in paths), *name.split(": ")]  # files in an archive have names of their own
    by_name = any(_NAME.search(os.path.basename(os.path.normpath(each))) for each in names)
    if options.transpose is False or (options.transpose is None and not by_name):
        return None
    if image_shape is None:
        if options.transpose:
            raise DataError(f"{name}: found {n_inputs} columns that are no images, expected images to transpose")
        return None
    height, width = image_shape
    order = np.arange(height * width).reshape(height, width).T.ravel()
    note = f"{name}: rows and columns of the images are exchanged{', as EMNIST needs' if by_name else ''}"
    return Exchange(order, (width, height), note)


def upright(data: Dataset, paths: Sequence[FilePath], options: ReadOptions) -> Dataset:
    """Return data after the `exchange` of their images, if there is one."""
    found = exchange(data.name, paths, data.images.shape[1], data.image_shape, options)
    if found is None:
        return data
    return replace(
        data, images=data.images[:, found.order], image_shape=found.image_shape, notes=(*data.notes, found.note)
    )


def with_mapping(data: Dataset, paths: Sequence[FilePath]) -> Dataset:
    """Give the classes the characters that EMNIST's file ``emnist-...-mapping.txt`` beside the files has for them."""
    mapping = next(filter(None, map(_mapping_beside, paths)), None)
    return data if mapping is None else with_characters(data, mapping)


def with_characters(data: Dataset, mapping: dict[int, str]) -> Dataset:
    """Return the data set with the character that a mapping has for each label as its class, if it has all of them."""
    if data.labels is None or data.has_targets:
        return data
    labels = data.class_labels()
    numbers = sorted(mapping)
    texts = [mapping[number] for number in numbers]
    if not set(labels) <= set(numbers) or texts == [str(number) for number in range(len(texts))]:
        return data
    place = {number: index for index, number in enumerate(numbers)}
    return replace(data, labels=np.array([place[label] for label in labels], np.int64), classes=tuple(texts))


def characters(mapping: np.ndarray) -> dict[int, str] | None:
    """Return the character of each label from EMNIST's array of labels and codes of characters; None if it is none."""
    if mapping.ndim != 2 or mapping.shape[1] < 2 or mapping.dtype.kind not in "iuf":
        return None
    try:
        return {int(number): chr(int(code)) for number, code in mapping[:, :2].tolist()}
    except (ValueError, OverflowError):
        return None


def _mapping_beside(path: FilePath) -> dict[int, str] | None:
    """Return the character of each label, from the mapping beside a file: lines of a label and codes of characters."""
    folder, name = os.path.split(os.fspath(path))
    match = re.match(r"(emnist-[a-z]+)-", name, re.IGNORECASE)
    if match is None:
        return None
    try:
        with open(os.path.join(folder, f"{match[1]}-mapping.txt"), encoding="ascii") as file:
            lines = [line.split() for line in file.read(_MAX_MAPPING).splitlines() if line.strip()]
        return {int(number): chr(int(code)) for number, code, *_ in lines}
    except (OSError, ValueError, OverflowError):  # no mapping, or none that can be read: labels stay numbers
        return None
