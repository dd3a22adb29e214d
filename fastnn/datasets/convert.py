"""Turns what is near to a data set into one. Every public function that takes a data set uses it."""

from typing import Any

from fastnn.datasets.dataset import Dataset
from fastnn.errors import SettingsError


def as_dataset(value: Any, name: str = "data") -> Dataset:
    """Return a data set: `value` itself, or that of a pair of images and labels; SettingsError for anything else."""
    if isinstance(value, Dataset):
        return value
    if isinstance(value, (tuple, list)) and len(value) == 2 and all(hasattr(part, "__len__") for part in value):
        first, second = value
        if isinstance(first, Dataset):
            raise SettingsError(f"{name} is a pair of data sets, expected one Dataset or a pair (images, labels)")
        return Dataset(first, second, name=name)
    hint = ": all rows are needed in memory" if is_in_blocks(value) else ""
    raise SettingsError(f"{name} is {describe(value)}, expected a Dataset or a pair (images, labels){hint}")


def is_in_blocks(value: Any) -> bool:
    """Return whether a value is `fastnn.BlockedData`, which this package does not know."""
    return hasattr(type(value), "block_lengths")


def describe(value: Any) -> str:
    """Return in a few words what was given instead of a data set or a model."""
    kind = type(value).__name__
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, str) or hasattr(value, "__fspath__"):
        return f"the path {str(value)!r} (load it first)"
    if isinstance(value, (tuple, list)):
        return f"a {kind} of {len(value)}"
    return f"{'an' if kind[0] in 'AEIOU' else 'a'} {kind}"
