"""The `fastnn` command."""

from fastnn.cli.command import main

__all__ = ["main"]
