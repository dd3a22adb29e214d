"""Finds images and labels among the named arrays of a file that holds several: NPZ, HDF5, Zarr."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import prod

from fastnn.datasets.containers.bundle import key_text
from fastnn.datasets.containers.naming import INPUT_NAMES, LABEL_NAMES, part_and_role
from fastnn.errors import DataError
from fastnn.streams.reader import Reader

_LISTED = 8


@dataclass(frozen=True)
class Keys:
    """The key of the images, that of the labels if there are labels, and what to tell the user."""

    keys: tuple[str, ...]
    notes: tuple[str, ...]

    def noted(self, reader: Reader) -> Reader:
        """Return the reader with the notes."""
        reader.notes = (*reader.notes, *self.notes)
        return reader


def choose_keys(
    shapes: Mapping[str, tuple[int, ...]],
    images: str | None,
    labels: str | None,
    name: str,
    unread: Collection[str] = (),
) -> Keys:
    """Return which arrays are images and labels.

    Parameters
    ----------
    shapes : mapping
        The shape of each array by its key, such as "train/images".
    images, labels : str or None
        Keys that the user gives. None: the names of the arrays tell, as for `read_npz`; those of a training set first.
        "none": no labels.
    name : str
        The file, for messages.
    unread : collection of str
        The keys of other arrays, which cannot be read.

    Raises
    ------
    DataError
        If there is no such array, or the names do not tell. The message lists the names.
    """
    known = {*shapes, *unread}
    for option, key in (("images", images), ("labels", labels)):
        if key is not None and key not in known and not (option == "labels" and key == "none"):
            raise DataError(f"{name}: {option} is {key!r}, but the arrays are {_listed(known)}, expected one of them")
    of_images = images if images is not None else _images(shapes, name)
    of_labels = None if labels == "none" else labels if labels is not None else _labels(shapes, of_images, name)
    keys = (of_images,) if of_labels is None else (of_images, of_labels)
    left = sorted(key for key in known if key not in keys)
    return Keys(keys, (f"{name}: not used: {_listed(left)}",) if left else ())


def _role(key: str) -> tuple[str, str]:
    """Return the part and the plain name of an array: ("train", "x") of "x_train", "train/x" and "X_train"."""
    *folders, last = key.split("/")
    part, plain = part_and_role(last)
    if not part and folders:
        part = part_and_role(f"{folders[-1]}_x")[0]
    return part, plain


def _images(shapes: Mapping[str, tuple[int, ...]], name: str) -> str:
    found: dict[str, list[str]] = {}
    for key, shape in shapes.items():
        part, plain = _role(key)
        if plain in INPUT_NAMES and len(shape) > 1:
            found.setdefault(part, []).append(key)
    if not found:
        tables = [key for key, shape in shapes.items() if len(shape) > 1 and shape[0] != prod(shape)]
        if len(tables) == 1:
            return tables[0]
        raise DataError(f"{name}: found the arrays {_listed(shapes)}, expected one of images; name it with images")
    part = next((part for part in ("train", "") if part in found), min(found))
    return min(found[part], key=lambda key: (-len(shapes[key]), INPUT_NAMES.index(_role(key)[1])))


def _labels(shapes: Mapping[str, tuple[int, ...]], images: str, name: str) -> str | None:
    part, n_rows = _role(images)[0], shapes.get(images, ())[:1]
    fitting = [key for key, shape in shapes.items() if key != images and shape[:1] == n_rows]
    found = [key for key in fitting if _role(key)[1] in LABEL_NAMES and _role(key)[0] in (part, "")]
    if len(found) > 1:
        raise DataError(f"{name}: found labels under {_listed(found)}, expected one of them; name it with labels")
    if not found and len(shapes) == 2:
        found = [key for key in fitting if prod(shapes[key]) == n_rows[0]]
    return found[0] if found else None


def _listed(keys: Collection[str]) -> str:
    shown = [key_text(key) for key in sorted(keys)]
    more = f" and {len(shown) - _LISTED} more" if len(shown) > _LISTED else ""
    return ", ".join(shown[:_LISTED]) + more if shown else "none"
