"""Options that several commands share."""

import argparse
from collections.abc import Callable
from typing import Protocol


class AddCommand(Protocol):
    """Adds a command with its name, the function that runs it and its help text; returns the command's parser."""

    def __call__(self, name: str, run: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        """Add the command."""


def add_backend(parser: argparse.ArgumentParser) -> None:
    """Add `--backend`."""
    parser.add_argument(
        "--backend",
        choices=("auto", "numba", "numpy"),
        default="auto",
        help="compute backend; auto is numba if it can be imported, else numpy (default: auto)",
    )
