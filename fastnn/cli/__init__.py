"""The command `fastnn`."""

from fastnn.cli.command import main

__all__ = ["main"]
