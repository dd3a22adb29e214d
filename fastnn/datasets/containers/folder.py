"""Reads folders of pictures, one folder per class, on a disk or in an archive."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

import numpy as np

from fastnn.checks import display_path
from fastnn.datasets.containers.archive import is_hidden
from fastnn.datasets.containers.assemble import Named, dataset_of_arrays
from fastnn.datasets.containers.bundle import Parts
from fastnn.datasets.containers.magic import PICTURE_KEYS, kind_of_bytes
from fastnn.datasets.containers.naming import part_of_folder
from fastnn.datasets.dataset import Dataset
from fastnn.datasets.files import FilePath, Member, Source, open_source, source_name
from fastnn.datasets.options import ReadOptions
from fastnn.datasets.pictures.decode import SUFFIXES
from fastnn.datasets.pictures.images import prepare_image, read_grey
from fastnn.errors import DataError, FastnnError, FileError

LARGEST_SIDE = 64
"""Pictures of one size up to this side are read as they are. Larger ones are photos or scans of digits."""

_EXPECTED = "one folder of pictures for each class, such as 7/a.png, or train/7/a.png and test/7/b.png"
# Names of pictures that tell the class: "label_7_0001", "digit7-12", "7_0001", "cat.12".
_TAGGED = re.compile(r"(?:^|[^a-z0-9])(?:label|class|digit|number|num)[-_=]?(\d+|[a-z]+)(?=[^a-z0-9]|$)", re.IGNORECASE)
_LEADING = re.compile(r"(\d{1,4}|[A-Za-z]+)[-_. ]+\d+")


@dataclass(frozen=True)
class Entry:
    """A file in a folder or an archive: its path relative to it, and what to read."""

    parts: tuple[str, ...]
    source: Source


def entries_of_folder(path: FilePath) -> list[Entry]:
    """Return all files in a folder and the folders in it, sorted, without hidden ones. Raises FileError."""
    root, found = os.fspath(path), []

    def fail(error: OSError) -> None:
        raise FileError(f"{display_path(error.filename or root)}: cannot be read ({error.strerror})")

    for folder, folders, files in os.walk(root, onerror=fail):
        folders.sort()
        for name in files:
            relative = PurePath(folder, name).relative_to(root)
            if not is_hidden(relative.parts):
                found.append(Entry(relative.parts, Path(folder, name)))
    return sorted(found, key=lambda entry: entry.parts)


def entries_of_archive(members: Sequence[Member]) -> list[Entry]:
    """Return the files in an archive."""
    return [Entry(member.path.parts, member) for member in members]


def pictures_among(entries: Sequence[Entry]) -> list[Entry]:
    """Return the files that are pictures by their names or, if they have no ending, by their first bytes."""
    return [entry for entry in entries if _is_picture(entry)]


def read_pictures(entries: Sequence[Entry], name: str, options: ReadOptions) -> Parts:
    """Return the data sets of pictures in folders, by part. Raises DataError if the folders do not tell the classes.

    Pictures of one size up to 64 x 64 become rows as they are, in grey. Otherwise `prepare_image` makes rows of 28 x 28
    of all of them.
    """
    found, labels, notes = classes_of_pictures(entries, name)
    rows, shape, note = _rows([entry for each in found.values() for entry in each], name)
    made: Parts = {}
    is_numbered = all(text.isdecimal() and text.isascii() for each in labels.values() for text in each)
    start = 0
    for part, of_part in found.items():
        where = f"{name}: {part}" if part else name
        classes: Any = np.array(list(map(int, labels[part])) if is_numbered else labels[part])
        images = rows[start : start + len(of_part)].reshape(-1, *shape)
        start += len(of_part)
        made[part] = _dataset(where, images, classes, options, [*([note] if note else []), *notes])
    return made


def classes_of_pictures(
    entries: Sequence[Entry], name: str
) -> tuple[dict[str, list[Entry]], dict[str, list[str]], list[str]]:
    """Return the pictures of each part, their classes, and notes. Raises DataError if folders tell no classes."""
    found = _by_part(_without_wrappers(list(entries)))
    labels: dict[str, list[str]] = {}
    notes: list[str] = []
    for part, of_part in list(found.items()):
        of_pictures = _labels(of_part)
        if of_pictures is None and part in ("test", "validation"):
            notes.append(f"{name}: the {len(of_part)} pictures for {part} are in no folders of classes, and not used")
            del found[part]
        elif of_pictures is None:
            example = "/".join(of_part[0].parts)
            raise DataError(f"{name}: found {len(of_part)} pictures such as {example!a}, expected {_EXPECTED}")
        else:
            labels[part] = of_pictures
    if not any(part in ("", "train") for part in found):
        raise DataError(f"{name}: found no pictures to train on, expected {_EXPECTED}")
    if len(set(next(iter(labels.values())))) < 2:
        only = ascii(next(iter(labels.values()))[0])
        raise DataError(f"{name}: found pictures of a single class, {only}, expected {_EXPECTED}")
    return found, labels, notes


def _dataset(where: str, images: np.ndarray, classes: Any, options: ReadOptions, notes: list[str]) -> Dataset:
    options = options if options.pixel_max else replace(options, pixel_max=255.0)
    if options.task == "auto":
        options = replace(options, task="classification")
    return dataset_of_arrays(Named(where, images), Named(f"{where}: classes", classes), options, notes=notes)


def _is_picture(entry: Entry) -> bool:
    suffix = PurePosixPath(entry.parts[-1]).suffix.lower()
    if suffix in SUFFIXES:
        return True
    if suffix and not suffix[1:].isdecimal():
        return False
    with open_source(entry.source) as file:
        return kind_of_bytes(file.read(64)).key in PICTURE_KEYS


def _without_wrappers(entries: list[Entry]) -> list[Entry]:
    """Remove the folders that all pictures share, except the folder of a class and of a part."""
    while (
        min(len(entry.parts) for entry in entries) > 2
        and len({entry.parts[0] for entry in entries}) == 1
        and not part_of_folder(entries[0].parts[0])
    ):
        entries = [Entry(entry.parts[1:], entry.source) for entry in entries]
    return entries


def _by_part(entries: list[Entry]) -> dict[str, list[Entry]]:
    """Group pictures by the folder "train", "test" or "validation" that they are in, and remove it from their paths.

    The folder is the first one, or the second one below the folders of classes.
    """
    for level in (0, 1):
        if all(len(entry.parts) > level + 1 and part_of_folder(entry.parts[level]) for entry in entries):
            groups: dict[str, list[Entry]] = {}
            for entry in entries:
                rest = entry.parts[:level] + entry.parts[level + 1 :]
                groups.setdefault(part_of_folder(entry.parts[level]), []).append(Entry(rest, entry.source))
            return {part: groups[part] for part in ("train", "validation", "test") if part in groups}
    return {"": entries}


def _labels(entries: Sequence[Entry]) -> list[str] | None:
    """Return the class of each picture: the folder, or what the names tell without doubt; None if neither does."""
    if all(len(entry.parts) > 1 for entry in entries):
        labels = [entry.parts[0] for entry in entries]
        if len(set(labels)) > 1 or len(entries[0].parts) == 2:
            by_name = _labels_of_names(entries) if len(set(labels)) == 1 else None
            return by_name or labels
        return [entry.parts[1] for entry in entries]
    return None if any(len(entry.parts) > 1 for entry in entries) else _labels_of_names(entries)


def _labels_of_names(entries: Sequence[Entry]) -> list[str] | None:
    stems = [PurePosixPath(entry.parts[-1]).stem for entry in entries]
    for match in (_TAGGED.search, _LEADING.fullmatch):
        found = [match(stem) for stem in stems]
        labels = [each[1] for each in found if each]
        if len(labels) == len(stems) and 1 < len(set(labels)) <= len(labels) / 2:
            return labels
    return None


def _rows(entries: Sequence[Entry], name: str) -> tuple[np.ndarray, tuple[int, int], str]:
    """Return the pictures as rows of uint8, the shape of each image, and a note, or "" if they are read as they are."""
    images = _small_images(entries, name)
    if images is not None:
        return images, (images.shape[1], images.shape[2]), ""
    note = f"{name}: pictures of several sizes, or above {LARGEST_SIDE} x {LARGEST_SIDE} pixels, are prepared as "
    rows = np.empty((len(entries), 28 * 28), np.uint8)
    errors = []
    for row, entry in zip(rows, entries, strict=True):
        try:
            row[:] = prepared_digit(entry.source)
        except FastnnError as error:
            errors.append(str(error))
    taken = f"pictures of one size, up to {LARGEST_SIDE} x {LARGEST_SIDE} pixels, would be taken as they are"
    _refuse_all(errors, entries, name, f"; {taken}, but these have several sizes or are larger")
    return rows, (28, 28), note + "digits of 28 x 28, light on black (prepare_image)"


def _small_images(entries: Sequence[Entry], name: str) -> np.ndarray | None:
    """Return the pictures in grey, (N, height, width) uint8, if all have one small size, else None."""
    images = None
    errors = []
    for index, entry in enumerate(entries):
        try:
            grey = grey_bytes(entry.source)
        except FastnnError as error:
            errors.append(str(error))
            continue
        if images is None and max(grey.shape) <= LARGEST_SIDE:
            images = np.empty((len(entries), *grey.shape), np.uint8)
        if images is None or grey.shape != images.shape[1:]:
            return None
        images[index] = grey
    _refuse_all(errors, entries, name)
    return images


def _refuse_all(errors: Sequence[str], entries: Sequence[Entry], name: str, hint: str = "") -> None:
    """Raise one DataError for all pictures that cannot be used, with the first of their errors."""
    if errors:
        found = f"{len(errors)} of {len(entries)} pictures cannot be used, the first: {errors[0]}"
        raise DataError(f"{name}: {found}{hint}")


def grey_bytes(source: Source) -> np.ndarray:
    """Return a picture in grey, (height, width) uint8. Raises DataError."""
    return np.rint(read_grey(source)).astype(np.uint8)


def prepared_digit(source: Source) -> np.ndarray:
    """Return the digit of a picture as 784 pixels, as `prepare_image` does. Raises DataError."""
    try:
        return prepare_image(grey_bytes(source))
    except DataError as error:
        raise DataError(f"{source_name(source)}: {str(error).removeprefix('image: ')}") from None
