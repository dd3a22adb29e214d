"""The settings of a sweep: every combination of the values, and how they are shown."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fastnn.checks import check_integer, is_ordered, short
from fastnn.errors import SettingsError
from fastnn.network.layers import Layer, format_layers
from fastnn.optim.config import as_plain
from fastnn.randomness import MAX_SEED

# Whole numbers from one seed to another make this many runs at most: more are a mistake.
_MOST_SEEDS = 100_000


def combinations(settings: Any) -> list[dict[str, Any]]:
    """Return every combination of the values of some settings, the last name changing first.

    Parameters
    ----------
    settings : mapping of str to sequence, sequence of such mappings, or None
        The values of each setting. Each mapping of a sequence has its own combinations. None: one without settings.

    Raises
    ------
    SettingsError
        If `settings` is of another type, or a setting has no values.

    Examples
    --------
    >>> from fastnn.sweeps.grid import combinations
    >>> combinations({"epochs": [1], "l2": [0.0, 0.1]})
    [{'epochs': 1, 'l2': 0.0}, {'epochs': 1, 'l2': 0.1}]
    """
    grids = [{}] if settings is None else [settings] if isinstance(settings, Mapping) else settings
    if not (is_ordered(grids) and all(isinstance(each, Mapping) for each in grids)):
        raise SettingsError(f"settings are {short(settings)}, expected a dict of the name of a setting to its values")
    return [point for grid in grids for point in _product(grid)]


def _product(grid: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for name, values in grid.items():
        if not is_ordered(values) or not len(list(values)):
            raise SettingsError(f"settings have {name}: {short(values)}, expected a list of one or more values")
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def checked_seeds(seeds: Any) -> list[int]:
    """Return seeds as a list of int; SettingsError unless they are different whole numbers, one or more."""
    if not is_ordered(seeds):
        raise SettingsError(f"seeds is {short(seeds)}, expected several, such as range(10)")
    found = [check_integer("a seed", seed, 0, MAX_SEED) for seed in seeds]
    if not found:
        raise SettingsError("seeds are empty, expected one or more, such as range(10)")
    for seed in found:
        if found.count(seed) > 1:
            raise SettingsError(f"the seed {seed} is given twice, expected different seeds")
    return found


def parse_seeds(text: str) -> list[int]:
    """Return the seeds of a text such as "0-9" or "0-4,7"; ValueError for another text.

    Examples
    --------
    >>> from fastnn.sweeps.grid import parse_seeds
    >>> parse_seeds("0-2,7")
    [0, 1, 2, 7]
    """
    seeds: list[int] = []
    for part in text.split(","):
        first, mark, last = (each.strip() for each in part.partition("-"))
        numbers = [first, last] if mark else [first]
        if not all(number.isascii() and number.isdecimal() for number in numbers):
            raise ValueError(f"{text!r} is not a list of seeds, expected such as 0-9 or 0,1,7")
        begin, end = int(first), int(numbers[-1])
        if not 0 <= end - begin < _MOST_SEEDS:
            raise ValueError(f"{part.strip()!r} is not a range of 1 to {_MOST_SEEDS:,} seeds, expected such as 0-9")
        seeds += range(begin, end + 1)
    return seeds


def plain_value(value: Any) -> Any:
    """Return the value of a setting as one that JSON can store. Hidden layers are a number, or text if not all dense.

    Examples
    --------
    >>> import fastnn
    >>> from fastnn.sweeps.grid import plain_value
    >>> plain_value((128, 64)), plain_value([fastnn.Conv2D(6, 5), 120]), plain_value(fastnn.SGD(0.9))["kind"]
    ([128, 64], 'conv:6x5,120', 'SGD')
    """
    if isinstance(value, (np.integer, np.floating, np.bool_)):
        return value.item()
    if isinstance(value, Layer):
        return format_layers([value])
    if isinstance(value, (list, tuple, range, np.ndarray)):
        values = list(value)
        if any(isinstance(each, Layer) for each in values):
            return ",".join(str(plain_value(each)) for each in values)
        return [plain_value(each) for each in values]
    return as_plain(value)


def value_text(name: str, plain: Any) -> str:
    """Return the value of a setting, as `plain_value` has it, for a table.

    Examples
    --------
    >>> from fastnn.sweeps.grid import value_text
    >>> value_text("hidden", [128, 64]), value_text("batch_size", None), value_text("l2", 0.1)
    ('128-64', 'full', '0.1')
    """
    if plain is None:
        return "full" if name == "batch_size" else "default" if name == "learning_rate" else "none"
    if isinstance(plain, list):
        return "-".join(str(each) for each in plain) or "none"
    if isinstance(plain, float):
        return f"{plain:.6g}"
    if isinstance(plain, dict):
        if "name" in plain:
            return str(plain["name"]).rpartition(".")[2]
        values = ", ".join(value_text(key, value) for key, value in plain.items() if key != "kind")
        return f"{plain.get('kind')}({values})"
    return str(plain)


def settings_text(settings: Mapping[str, Any], names: Iterable[str] | None = None) -> str:
    """Return settings as text, such as "hidden 64, learning rate 0.1"; "no settings" without any."""
    shown: Sequence[str] = [name for name in (settings if names is None else names) if name in settings]
    texts = [f"{name.replace('_', ' ')} {value_text(name, settings[name])}" for name in shown]
    return ", ".join(texts) or "no settings"
