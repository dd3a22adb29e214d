"""Identifies another checkout of fastnn and checks that its code really runs.

    python -m benchmarks.compare.checkout FOLDER

The command imports fastnn as a worker does. It fails with one line if any part of fastnn comes from outside FOLDER.
"""

import importlib
import subprocess
import sys
from pathlib import Path

from benchmarks.compare.environment import ROOT, environment, module_command


class WrongCheckout(Exception):
    """`import fastnn` finds a folder other than the expected one."""


def check_origin(folder: Path) -> None:
    """Check that fastnn and its kernels are imported from `folder`.

    Raises
    ------
    WrongCheckout
        If either comes from another folder.
    """
    import fastnn

    folder = folder.resolve()
    kernels = importlib.import_module("fastnn.kernels")
    # `kernels/` is beside `fastnn/` in a checkout and inside it after installation.
    for module, homes in ((fastnn, ["fastnn"]), (kernels, ["kernels", "fastnn/kernels"])):
        found = Path(module.__file__ or "").resolve().parent
        if found not in [folder / home for home in homes]:
            raise WrongCheckout(f"{module.__name__} is imported from {found}, expected {folder / homes[0]}")


def probe(folder: Path, threads: int) -> None:
    """Check the origin of fastnn in a separate process, before anything is measured.

    Raises
    ------
    WrongCheckout
        If a worker for that checkout would run other code, or cannot import fastnn.
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
        raise WrongCheckout(lines[-1] if lines else f"fastnn in {folder} cannot be imported")


def commit(folder: Path = ROOT) -> str:
    """Return the checked-out commit, marked "-dirty" if files differ from it, or "no commit" outside Git."""
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
        sys.exit(f"fastnn in {sys.argv[1]} cannot be imported: {error}")
