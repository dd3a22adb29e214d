"""Another checkout of fastnn, to be timed beside this one: what it is, and a check that really its code runs.

    python -m benchmarks.compare.checkout FOLDER

The command imports fastnn as a worker does and fails with one line if any of it is not in FOLDER.
"""

import importlib
import subprocess
import sys
from pathlib import Path

from benchmarks.compare.environment import ROOT, environment, module_command


class WrongCheckout(Exception):
    """`import fastnn` finds another folder than the one asked for."""


def check_origin(folder: Path) -> None:
    """Import fastnn and find its kernels.

    Raises
    ------
    WrongCheckout
        If either is not in `folder`.
    """
    import fastnn

    folder = folder.resolve()
    kernels = importlib.import_module("fastnn.kernels")
    # `kernels/` stands beside `fastnn/` in a checkout and inside it once installed.
    for module, homes in ((fastnn, ["fastnn"]), (kernels, ["kernels", "fastnn/kernels"])):
        found = Path(module.__file__ or "").resolve().parent
        if found not in [folder / home for home in homes]:
            raise WrongCheckout(f"{module.__name__} is imported from {found}, expected {folder / homes[0]}")


def probe(folder: Path, threads: int) -> None:
    """Check the origin in a process of its own, before anything is measured.

    Raises
    ------
    WrongCheckout
        If a worker of that checkout would run other code, or none.
    """
    done = subprocess.run(
        module_command("benchmarks.compare.checkout", str(folder)),
        cwd=folder,
        env=environment(threads, folder),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise WrongCheckout(lines[-1] if lines else f"fastnn of {folder} cannot be imported")


def commit(folder: Path = ROOT) -> str:
    """The commit that is checked out, marked where files differ from it; "no commit" outside Git."""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=9", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "no commit"


if __name__ == "__main__":
    try:
        check_origin(Path(sys.argv[1]))
    except WrongCheckout as error:
        sys.exit(str(error))
    except ImportError as error:
        sys.exit(f"fastnn of {sys.argv[1]} cannot be imported: {error}")
