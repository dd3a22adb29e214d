"""Checks of single settings. Each error names the setting, what was found and what was expected."""

import math
import os
import reprlib
import sys
from collections.abc import Iterable, Mapping, Sequence, Set
from numbers import Real
from typing import Any

import numpy as np

from fastnn.errors import SettingsError
from fastnn.suggestions import did_you_mean

# The largest number of NumPy's int64, in which the backends count.
MAX_INTEGER = 2**63 - 1
# More threads are a mistake: networks this small become no faster.
MAX_THREADS = 1024


def is_integer(value: object) -> bool:
    """Return whether `value` is an integer of Python or NumPy, but not a boolean."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.bool_))


def is_number(value: object) -> bool:
    """Return whether `value` is a real number of Python or NumPy, but not a boolean."""
    if type(value) is float or type(value) is int:  # most are, and the test for `Real` is slow
        return True
    return isinstance(value, (Real, np.integer, np.floating)) and not isinstance(value, (bool, np.bool_))


def is_count(value: object, low: int = 1, high: int = MAX_INTEGER) -> bool:
    """Return whether `value` is an integer as in `is_integer`, from `low` to `high`, both included."""
    return isinstance(value, (int, np.integer)) and is_integer(value) and low <= int(value) <= high


def is_finite(value: object) -> bool:
    """Return whether `value` is a number as in `is_number` that is finite as a float."""
    try:
        return is_number(value) and math.isfinite(value)  # type: ignore[arg-type]
    except OverflowError:  # a whole number or a fraction beyond the range of a float
        return False


def is_ordered(value: object) -> bool:
    """Return whether `value` has items in an order that means something: no text, no bytes, no set and no mapping."""
    unordered = (str, bytes, bytearray, memoryview, Set, Mapping)
    return isinstance(value, Iterable) and not isinstance(value, unordered) and getattr(value, "ndim", 1) > 0


def check_integer(name: str, value: Any, low: int, high: int = MAX_INTEGER) -> int:
    """Return `value` as an int; SettingsError unless it is an integer from `low` to `high`, both included."""
    if not is_count(value, low, high):
        expected = f"from {low} to {high}"
        if high == MAX_INTEGER:
            expected = f"{low} or more" + (" and less than 2**63" if is_integer(value) and value > high else "")
        raise SettingsError(f"{name} is {short(value)}, expected a whole number, {expected}")
    return int(value)


def check_number(
    name: str, value: Any, low: float = -math.inf, high: float = math.inf, *, above: float = -math.inf
) -> float:
    """Return `value` as a float; SettingsError unless it is finite, in [`low`, `high`) and greater than `above`."""
    if not is_finite(value) or not (value >= low and value > above and value < high):
        expected = " and ".join(
            text
            for text, given in (
                (f"greater than {above:g}", above > -math.inf),
                (f"at least {low:g}", low > -math.inf),
                (f"less than {high:g}", high < math.inf),
            )
            if given
        )
        raise SettingsError(f"{name} is {short(value)}, expected a finite number{expected and ' ' + expected}")
    return float(value)


def check_choice(name: str, value: object, choices: Sequence[str]) -> str:
    """Return `value`; SettingsError unless it is one of `choices`."""
    if not isinstance(value, str) or value not in choices:
        meant = did_you_mean(value, choices) if isinstance(value, str) else ""
        raise SettingsError(f"{name} is {short(value)}{meant}, expected one of {', '.join(choices)}")
    return value


def short(value: Any) -> str:
    """Return an abbreviated representation of `value` for an error message, on one line."""
    try:
        return " ".join(reprlib.repr(value).split())
    except ValueError:  # Python refuses to write numbers of thousands of digits
        found = f"a number of more than {sys.get_int_max_str_digits()} digits"
        return found if is_integer(value) else f"a {type(value).__name__} that holds {found}"


def display_path(path: str | os.PathLike[str]) -> str:
    """Return `path` for an error message, on one line; a path with unprintable characters is quoted."""
    name = os.fsdecode(path)
    return name if name and name.isprintable() else repr(name)
