"""Compares the memory that arrays will need with what this process may use, before anything is allocated.

Without this check, a system with little memory swaps for minutes and then ends the process, without a message.
"""

import os
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from fastnn.checks import is_count, short
from fastnn.control_group import memory_limit
from fastnn.errors import OutOfMemoryError, SettingsError

# Arrays of one object may have at most this fraction of the memory: the data and the interpreter need some too.
MAX_FRACTION = 0.9
# Less than this is allowed without a look at the machine.
_NEGLIGIBLE = 2**24
_UNITS = {
    f"{prefix}{unit}b": base**power
    for unit, base in (("", 1000), ("i", 1024))
    for power, prefix in enumerate(("k", "m", "g", "t"), start=1)
} | {"": 1, "b": 1}
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kmgt]i?b|b?)", re.IGNORECASE)


def usable_memory() -> int | None:
    """Return the number of bytes this process may use, or None if the system does not tell.

    It is the smallest of the machine's memory, the limit of the process's control group and that of its address space.
    """
    limits = [memory_limit(), _address_space()]
    with suppress(AttributeError, ValueError, OSError):  # some systems do not report their memory
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return min((limit for limit in limits if limit is not None and limit > 0), default=None)


def parse_bytes(name: str, value: Any) -> int:
    """Return a number of bytes: an int, or a text such as "512MB" or "1.5GiB"; MB is 10**6 bytes, MiB is 2**20.

    Raises SettingsError, with `name` in it, unless it is 1 byte or more.

    Examples
    --------
    >>> from fastnn.memory import parse_bytes
    >>> parse_bytes("memory", "1.5 GB"), parse_bytes("memory", "1MiB")
    (1500000000, 1048576)
    """
    if is_count(value):
        return int(value)
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is not None:
        n_bytes = int(float(match[1]) * _UNITS[match[2].lower()])
        if n_bytes:
            return n_bytes
    raise SettingsError(f"{name} is {short(value)}, expected a number of bytes, or a text such as '512MB' or '1GiB'")


def check_memory(n_bytes: int, subject: str | Callable[[], str]) -> None:
    """Raise OutOfMemoryError if `n_bytes` are more than the process may use. `subject` begins the message.

    Parameters
    ----------
    n_bytes : int
        A number of Python, which cannot overflow. It should rather be too small than too large.
    subject : str, or function that returns it
        What needs the memory, in the plural, with the name and the value of the argument that asks for it.
    """
    if n_bytes <= _NEGLIGIBLE:
        return
    memory = usable_memory()
    if memory is not None and n_bytes > MAX_FRACTION * memory:
        named = subject if isinstance(subject, str) else subject()
        raise OutOfMemoryError(
            f"{named} need about {n_bytes / 2**30:,.1f} GiB, expected at most {MAX_FRACTION * memory / 2**30:,.1f} "
            "GiB of memory"
        )


def check_training_memory(n_parameters: int, itemsize: int, state_bytes: int, subject: str | Callable[[], str]) -> None:
    """Raise OutOfMemoryError if training would need more memory than the process may use.

    Parameters
    ----------
    n_parameters, itemsize : int
        The number of weights and biases, and the bytes of each.
    state_bytes : int
        The bytes of the optimizer's state for each parameter, its `state_bytes`.
    subject : str, or function that returns it
        As in `check_memory`.
    """
    # The initial network, the trainer's parameters, and at an epoch's end two copies and the network before.
    check_memory(n_parameters * (5 * itemsize + state_bytes), subject)


def _address_space() -> int | None:
    """Return the limit of this process's address space (``ulimit -v``) in bytes, or None without one."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return None
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else limit
