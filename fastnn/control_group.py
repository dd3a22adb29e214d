"""The limits of the Linux control groups of this process: CPU time and memory, of version 1 and of version 2.

A container, a batch job or a systemd service is a group. A group's processes are also bound by the limits of all groups
around it, so the smallest limit between the own group and the root counts.
"""

import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

# The kernel's default period, of a file that states only the quota.
_DEFAULT_PERIOD = 100_000
# Version 1 has no word for "no limit" of memory: the number is then the largest whole number of pages.
_NO_MEMORY_LIMIT = 2**62


class _Mount(NamedTuple):
    """A mounted hierarchy of groups."""

    root: PurePosixPath  # the group that the folder shows: a container often sees only its own
    folder: Path
    controllers: frozenset[str]  # of version 1; empty for version 2


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Return the CPU quota of this process in cores, such as 0.5, or None without a limit.

    `root` is the folder that holds ``proc`` and ``sys``.
    """
    return min((quota for quota in _cpu_quotas(root) if quota is not None), default=None)


def memory_limit(root: Path = Path("/")) -> int | None:
    """Return the number of bytes that the control groups of this process may use, or None without a limit."""
    limit = min((limit for limit in _memory_limits(root) if limit is not None), default=None)
    return None if limit is None else int(limit)


def _cpu_quotas(root: Path) -> Iterator[float | None]:
    for folder, version in _own_groups("cpu", root):
        if version == 2:
            yield _read(folder / "cpu.max", _quota)
        else:
            quota, period = (_read(folder / f"cpu.cfs_{name}_us", int) for name in ("quota", "period"))
            yield None if quota is None else _quota(f"{quota} {period or _DEFAULT_PERIOD}")


def _memory_limits(root: Path) -> Iterator[float | None]:
    for folder, version in _own_groups("memory", root):
        limit = _read(folder / ("memory.max" if version == 2 else "memory.limit_in_bytes"), int)
        yield None if limit is None or limit >= _NO_MEMORY_LIMIT else limit


def _own_groups(controller: str, root: Path) -> Iterator[tuple[Path, int]]:
    """Yield the folder and the version of each group that limits this process, from its own group to the root."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except (OSError, ValueError):
        lines = []
    paths = [line.split(":", 2) for line in lines if line.count(":") >= 2]
    for mount in _mounts(root):
        for number, controllers, path in paths:
            is_second = number == "0" and not controllers
            if (not mount.controllers) if is_second else (mount.controllers & {controller} & {*controllers.split(",")}):
                for folder in _upwards(mount, path):
                    yield folder, 2 if is_second else 1


def _upwards(mount: _Mount, path: str) -> Iterator[Path]:
    """Yield the folder of the group `path`, and of each group around it that the mount shows."""
    group = PurePosixPath(path)
    below = group.relative_to(mount.root) if group.is_relative_to(mount.root) else PurePosixPath()
    if ".." in below.parts:  # a group outside of what this process may see
        below = PurePosixPath()
    for part in (below, *below.parents):
        yield mount.folder / part


@cache
def _mounts(root: Path) -> tuple[_Mount, ...]:
    """Return the mounted hierarchies. Those of a process hardly ever change, and the list of mounts can be long."""
    found = []
    try:
        lines = (root / "proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return ()
    for line in lines:
        own, _, rest = line.partition(" - ")
        fields, system = own.split(), rest.split()
        if len(fields) < 5 or len(system) < 3 or system[0] not in ("cgroup", "cgroup2"):
            continue
        shown, folder = map(_unescaped, fields[3:5])
        controllers = frozenset() if system[0] == "cgroup2" else frozenset(system[2].split(","))
        found.append(_Mount(PurePosixPath(shown), root / folder.lstrip("/"), controllers))
    return tuple(found)


def _unescaped(text: str) -> str:
    r"""Return a path of mountinfo, which writes a space as ``\040``."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _quota(text: str) -> float | None:
    """Return the quota of a text such as ``50000 100000`` in cores; None for ``max`` and -1, which are no limits."""
    limit, *period = text.split()
    if limit == "max" or int(limit) <= 0:
        return None
    return int(limit) / (int(*period[:1]) or _DEFAULT_PERIOD)


def _read(path: Path, convert: Callable[[str], float | None]) -> float | None:
    """Return the number in a file, or None if the file is missing or has another form."""
    try:
        return convert(path.read_text().strip())
    except (OSError, ValueError):
        return None
