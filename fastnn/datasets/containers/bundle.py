"""Finds training, validation and test set among the named arrays of a file, such as NPZ or MATLAB."""

import re
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fastnn.checks import short
from fastnn.datasets.containers.assemble import Named, dataset_of_arrays, len_of
from fastnn.datasets.containers.emnist import characters, with_characters
from fastnn.datasets.containers.naming import CLASS_NAMES, FEATURE_NAMES, INPUT_NAMES, LABEL_NAMES, part_and_role
from fastnn.datasets.dataset import Dataset
from fastnn.datasets.options import ReadOptions
from fastnn.datasets.pixels import LARGEST_BYTE, matched
from fastnn.datasets.sparse import is_sparse
from fastnn.errors import DataError, SettingsError

Parts = dict[str, Dataset]
"""The data sets of a file by part: "train", "validation", "test", or "" for one that belongs to no part."""

Arrays = Mapping[str, Any]
"""The arrays of a file by key. A DataError stands for one that cannot be read; it is raised if the array is needed."""

_LONGEST_KEY = 60
_EXPECTED = (
    "images and labels under names such as X and y, images and labels, data and target, "
    "or x_train, y_train, x_test and y_test"
)


def parts_of_arrays(arrays: Arrays, name: str, options: ReadOptions, *, samples_last: bool = False) -> Parts:
    """Return the data sets that the arrays of a file make. Raises DataError if the names and shapes do not tell.

    samples_last: whether images can have their samples along the last axis, as in MATLAB
    """
    arrays = _joined_digits(arrays)
    keys: dict[tuple[str, str], list[str]] = {}
    for key in arrays:
        part, plain = part_and_role(key)
        for role, names in (("inputs", INPUT_NAMES), ("labels", LABEL_NAMES), ("classes", CLASS_NAMES),
                            ("features", FEATURE_NAMES)):  # fmt: skip
            if plain in names:
                keys.setdefault((part, role), []).append(key)
    refuse_table_options(options, name, labels=arrays)
    if options.label in arrays:
        part = part_and_role(str(options.label))[0]
        keys[part, "labels"] = [str(options.label)]
    parts = sorted({part for part, role in keys if role == "inputs"})
    if not parts or (parts == [""] and _is_numbered(arrays)):
        return _by_shape(arrays, name, options)
    if parts != [""]:
        parts = [part for part in parts if part]
    made: Parts = {}
    used: set[str] = set()
    take = _taker(arrays, name, used)
    for part in parts:
        images = take(_preferred(arrays, keys[part, "inputs"]))
        of_labels = _labels_key(arrays, keys.get((part, "labels"), []), images, name)
        notes: tuple[str, ...] = ()
        if of_labels is None and options.label is None and (other := _fitting_array(arrays, used, images)):
            of_labels, notes = other, (f"{name}: {key_text(other)} taken as the labels, by its shape",)
        labels = None if of_labels is None else take(of_labels)
        if samples_last and labels is not None:
            images = _samples_first(images, labels.values)
        texts = [_texts(arrays, keys.get(("", role), []), used) for role in ("classes", "features")]
        made[part] = dataset_of_arrays(images, labels, options, classes=texts[0], feature_names=texts[1], notes=notes)
        if isinstance(arrays.get("mapping"), np.ndarray) and (mapping := characters(arrays["mapping"])):
            used.add("mapping")
            made[part] = with_characters(made[part], mapping)
    left = [key for key in arrays if key not in used]
    if left:
        first = next(iter(made))
        note = f"{name}: not used: {_listed(left)}"
        made[first] = replace(made[first], notes=(note, *made[first].notes))
    return made


def train_and_test(parts: Parts) -> tuple[Dataset, Dataset | None]:
    """Return training and test set of the parts of a file.

    Without a test set, a validation set takes its place; beside one, it is not used. The notes say so.
    """
    parts = dict(parts)
    validation = parts.pop("validation", None)
    test = parts.pop("test", None)
    rest = list(parts.values())
    if not rest:
        rest, test, validation = [each for each in (test, validation) if each is not None], None, None
    train = rest[0]
    if validation is not None and test is not None:
        note = f"{validation.name}: the {len(validation)} samples for validation are not used"
        train = replace(train, notes=(*train.notes, note))
    elif validation is not None:
        test = replace(validation, notes=(*validation.notes, f"{validation.name}: taken as the test set"))
    if test is not None and test.labels is None and train.labels is not None:
        note = f"{test.name}: the {len(test)} samples have no labels, and are not used as a test set"
        train, test = replace(train, notes=(*train.notes, note)), None
    if test is None:
        return train, None
    if is_sparse(train.images) or is_sparse(test.images):
        return _matched_sparse(train, test)
    deep = max(train.pixel_max, test.pixel_max) if min(train.pixel_max, test.pixel_max) > LARGEST_BYTE else None
    train, test = matched(train, test)
    return (train, test) if deep is None else (replace(train, pixel_max=deep), replace(test, pixel_max=deep))


def _matched_sparse(train: Dataset, test: Dataset) -> tuple[Dataset, Dataset]:
    """Return sparse data sets of one width with one pixel_max; DataError if one is not sparse or the widths differ."""
    if is_sparse(train.images) != is_sparse(test.images):
        raise DataError(f"{train.name} and {test.name}: found one sparse matrix, expected two or none")
    found, expected = (data.images.shape[1] for data in (test, train))
    if found != expected:
        raise DataError(f"{test.name}: found {found} columns, expected {expected} as in the training set {train.name}")
    pixel_max = max(train.pixel_max, test.pixel_max)
    if test.classes != train.classes and not (test.labels is None or test.has_targets or train.has_targets):
        test = test.with_classes(range(train.n_classes) if train.classes is None else train.classes)
    return replace(train, pixel_max=pixel_max), replace(test, pixel_max=pixel_max)


def refuse_table_options(options: ReadOptions, name: str, labels: Container[str] = ()) -> None:
    """Raise SettingsError if an option is given that concerns tables only, and the data are none.

    labels: the names that the option ``label`` can have
    """
    for option, value in (("drop", options.drop or None), ("header", options.header), ("label", options.label)):
        if value is not None and not (option == "label" and (value == "none" or value in labels)):
            raise SettingsError(f"{option} is {short(value)}, but {name} has no columns with names, expected a table")


def key_text(key: str) -> str:
    """Return the name of an array for messages, on one line and shortened."""
    return key if key.isprintable() and len(key) <= _LONGEST_KEY else ascii(key[:_LONGEST_KEY])


def lone_array(arrays: Arrays) -> str | None:
    """Return the key of the only array of a file, if it has one."""
    return next(iter(arrays)) if len(arrays) == 1 else None


def _taker(arrays: Arrays, name: str, used: set[str]) -> Callable[[str], Named]:
    def take(key: str) -> Named:
        used.add(key)
        if isinstance(arrays[key], DataError):
            raise arrays[key]
        return Named(f"{name}: {key_text(key)}", arrays[key])

    return take


def _preferred(arrays: Arrays, keys: Sequence[str]) -> str:
    """Return the key of the inputs: images of the largest rank, else the first of `INPUT_NAMES`."""
    return min(keys, key=lambda key: (-np.ndim(arrays[key]), INPUT_NAMES.index(part_and_role(key)[1])))


def _labels_key(arrays: Arrays, keys: Sequence[str], images: Named, name: str) -> str | None:
    if len(keys) > 1:
        listed = " and ".join(ascii(key[:60]) for key in keys[:8])
        raise DataError(f"{name}: found labels under {listed}, expected one of them; name it as the label")
    return keys[0] if keys else None


def _fitting_array(arrays: Arrays, used: Container[str], images: Named) -> str | None:
    """Return the key of the only array besides the images if it has one value for each of them."""
    others = [key for key in arrays if key not in used]
    if len(arrays) != 2 or len(others) != 1 or part_and_role(others[0])[1]:
        return None
    values = arrays[others[0]]
    is_column = isinstance(values, np.ndarray) and values.size == len_of(images.values) == max(values.shape, default=0)
    return others[0] if is_column else None


def _samples_first(images: Named, labels: Any) -> Named:
    """Move the last axis of images to the front if it, and not the first, has one entry for each label."""
    n_labels = max(labels.shape, default=0)
    if images.values.shape[0] != n_labels and images.values.shape[-1] == n_labels:
        if is_sparse(images.values):
            return replace(images, values=images.values.T)
        return replace(images, values=np.moveaxis(images.values, -1, 0))
    return images


def _texts(arrays: Arrays, keys: Sequence[str], used: set[str]) -> list[str] | None:
    """Return the first array of texts under these keys as a list."""
    for key in keys:
        values = arrays[key]
        if isinstance(values, np.ndarray) and values.dtype.kind in "US" and values.ndim >= 1:
            used.add(key)
            return [
                text.decode("utf-8", "replace") if isinstance(text, bytes) else text for text in values.ravel().tolist()
            ]
    return None


def _is_numbered(arrays: Arrays) -> bool:
    """Return whether the arrays have the names that `numpy.savez` gives arrays without names, and are not just two."""
    return len(arrays) != 2 and all(re.fullmatch(r"arr_\d+", key) for key in arrays)


def _joined_digits(arrays: Arrays) -> Arrays:
    """Join the arrays train0 ... train9, test0 ... test9 of one class each to images and labels."""
    found: dict[str, list[tuple[int, str]]] = {}
    for key in arrays:
        if match := re.fullmatch(r"(train|test)_?(\d+)", key):
            found.setdefault(match[1], []).append((int(match[2]), key))
    if (
        "train" not in found
        or len(found["train"]) < 2
        or any(
            not isinstance(arrays[key], np.ndarray) or arrays[key].ndim < 2
            for each in found.values()
            for _, key in each
        )
    ):
        return arrays
    joined: dict[str, Any] = {}
    for part, of_classes in found.items():
        pixels = [(number, arrays[key]) for number, key in sorted(of_classes)]
        if len({each.shape[1:] for _, each in pixels}) > 1:
            return arrays
        joined[f"x_{part}"] = np.concatenate([each for _, each in pixels])
        joined[f"y_{part}"] = np.concatenate([np.full(len(each), number) for number, each in pixels])
    return joined


def _by_shape(arrays: Arrays, name: str, options: ReadOptions) -> Parts:
    """Return the data sets of arrays whose names tell nothing: an array of rows, and one of as many labels.

    Four arrays are images and labels for training, then for testing; or images twice, then labels twice.
    """
    named = [
        Named(f"{name}: {key_text(key)}", values) for key, values in arrays.items() if not isinstance(values, DataError)
    ]
    inputs = [each for each in named if _is_inputs(each.values)]
    labels = [each for each in named if not _is_inputs(each.values)]
    pairs = list(zip(inputs, labels, strict=False))
    fits = len(inputs) == len(labels) in (1, 2) and len(named) == len(arrays)
    if len(named) == len(arrays) == 1 == len(inputs):
        return {"": dataset_of_arrays(inputs[0], None, options)}
    if not fits or any(len_of(images.values) != each.values.size for images, each in pairs):
        raise DataError(f"{name}: found {_listed(list(arrays))}, expected {_EXPECTED}")
    note = "{} taken as images and {} as their labels, by their shapes".format
    made = [dataset_of_arrays(images, each, options, notes=(note(images.name, each.name),)) for images, each in pairs]
    return dict(zip(("train", "test") if len(made) == 2 else ("",), made, strict=True))


def _is_inputs(values: Any) -> bool:
    return is_sparse(values) or (values.ndim > 1 and values.shape[0] != values.size)


def _listed(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - 8} more" if len(keys) > 8 else ""
    return (", ".join(ascii(key[:60]) for key in keys[:8]) or "no arrays") + more
