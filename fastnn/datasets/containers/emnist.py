"""Handles what EMNIST does differently from MNIST: images with rows and columns exchanged, and names of classes."""

import os
import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fastnn.datasets.dataset import Dataset
from fastnn.datasets.files import FilePath
from fastnn.datasets.options import ReadOptions
from fastnn.errors import DataError

_NAME = re.compile(r"(?<![a-z])emnist(?![a-z])", re.IGNORECASE)
_MAX_MAPPING = 2**16


def upright(data: Dataset, paths: Sequence[FilePath], options: ReadOptions) -> Dataset:
    """Exchange rows and columns of the images if the options say so, or else if the files are named ``emnist``."""
    names = [
        *(os.fspath(path) for path in paths),
        *data.name.split(": "),
    ]  # files in an archive have names of their own
    by_name = any(_NAME.search(os.path.basename(os.path.normpath(name))) for name in names)
    if options.transpose is False or (options.transpose is None and not by_name):
        return data
    if data.image_shape is None:
        if options.transpose:
            found = f"{data.images.shape[1]} columns that are no images"
            raise DataError(f"{data.name}: found {found}, expected images to transpose")
        return data
    height, width = data.image_shape
    order = np.arange(height * width).reshape(height, width).T.ravel()
    note = f"{data.name}: rows and columns of the images are exchanged{', as EMNIST needs' if by_name else ''}"
    return replace(data, images=data.images[:, order], image_shape=(width, height), notes=(*data.notes, note))


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
