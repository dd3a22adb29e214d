"""What the commands' options have in common."""

import argparse
from collections.abc import Callable
from typing import Protocol


class AddCommand(Protocol):
    """Adds a command: its name, the function that runs it, and its description; returns its parser."""

    def __call__(self, name: str, run: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        """Add it."""


def add_backend(parser: argparse.ArgumentParser) -> None:
    """Add `--backend`."""
    parser.add_argument("--backend", choices=("auto", "numba", "numpy"), default="auto")
