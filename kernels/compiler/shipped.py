"""Kernels that a wheel contains: LLVM's optimised code, for each family of CPUs.

Numba has typed and lowered them when the wheel was built. What is left takes a second: LLVM turns the code into machine
code for this very CPU. A checkout has no such files, and an unknown CPU or a changed source finds none; then Numba
compiles.
"""

import hashlib
import lzma
from functools import cache
from importlib.resources import files
from pathlib import Path

FOLDER = "shipped_kernels"
_ENDING = ".kernel.xz"

# Where `keep` writes while a wheel is built, otherwise None.
_recorded_to: Path | None = None


def record() -> None:
    """Make this process compile kernels only to put them into the folder of shipped kernels; none is run."""
    global _recorded_to
    _recorded_to = Path(__file__).parent / FOLDER
    _recorded_to.mkdir(exist_ok=True)


def is_recording() -> bool:
    """Whether `record` was called."""
    return _recorded_to is not None


def keep(key: str, content: bytes) -> None:
    """Write a kernel's optimised code."""
    assert _recorded_to is not None
    (_recorded_to / _name(key)).write_bytes(lzma.compress(content, preset=9))


@cache  # predictions of few rows ask for it each time
def is_there() -> bool:
    """Whether this is an installed wheel that contains kernels."""
    return files("fastnn.kernels.compiler").joinpath(FOLDER).is_dir()


def find(key: str) -> bytes | None:
    """The optimised code of a kernel with this key, if the wheel contains it."""
    try:
        content = files("fastnn.kernels.compiler").joinpath(FOLDER, _name(key)).read_bytes()
        return lzma.decompress(content)
    except (OSError, lzma.LZMAError):
        return None


def _name(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:32] + _ENDING
