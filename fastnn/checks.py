"""Checks of single settings. Each error names the setting, what was found and what was expected."""

import math
import os
import reprlib
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np

from fastnn.errors import SettingsError
from fastnn.suggestions import did_you_mean


def is_integer(value: object) -> bool:
    """Return whether `value` is an integer of Python or NumPy, but not a boolean."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.bool_))


def is_number(value: object) -> bool:
    """Return whether `value` is a real number of Python or NumPy, but not a boolean."""
    return isinstance(value, (Real, np.integer, np.floating)) and not isinstance(value, (bool, np.bool_))


def check_integer(name: str, value: Any, low: int, high: int | None = None) -> int:
    """Return `value` as an int; SettingsError unless it is an integer from `low` to `high`, both included."""
    if not is_integer(value) or value < low or (high is not None and value > high):
        expected = f"{low} or more" if high is None else f"from {low} to {high}"
        raise SettingsError(f"{name} is {value!r}, expected a whole number, {expected}")
    return int(value)


def check_number(
    name: str, value: Any, low: float = -math.inf, high: float = math.inf, *, above: float = -math.inf
) -> float:
    """Return `value` as a float; SettingsError unless it is finite, in [`low`, `high`) and greater than `above`."""
    if not is_number(value) or not (math.isfinite(value) and value >= low and value > above and value < high):
        expected = " and ".join(
            text
            for text, given in (
                (f"greater than {above:g}", above > -math.inf),
                (f"at least {low:g}", low > -math.inf),
                (f"less than {high:g}", high < math.inf),
            )
            if given
        )
        raise SettingsError(f"{name} is {value!r}, expected a finite number{expected and ' ' + expected}")
    return float(value)


def check_choice(name: str, value: object, choices: Sequence[str]) -> str:
    """Return `value`; SettingsError unless it is one of `choices`."""
    if not isinstance(value, str) or value not in choices:
        meant = did_you_mean(value, choices) if isinstance(value, str) else ""
        raise SettingsError(f"{name} is {value!r}{meant}, expected one of {', '.join(choices)}")
    return value


def short(value: Any) -> str:
    """Return an abbreviated representation of `value` for an error message, on one line."""
    return " ".join(reprlib.repr(value).split())


def display_path(path: str | os.PathLike[str]) -> str:
    """Return `path` for an error message, on one line; a path with unprintable characters is quoted."""
    name = os.fsdecode(path)
    return name if name and name.isprintable() else repr(name)
