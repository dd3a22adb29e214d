"""Options that several commands share, generated from the fields of `TrainingConfig`."""

import argparse
from collections.abc import Callable
from typing import Any, Protocol

from fastnn.optim.config import OPTIONS, TrainingConfig


class AddCommand(Protocol):
    """Adds a command with its name, the function that runs it and its help text; returns the command's parser."""

    def __call__(self, name: str, run: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        """Add the command."""


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add the options of all settings. An option that is not given sets nothing."""
    group = parser.add_argument_group("settings of the run", "A recipe's own settings replace these defaults.")
    for name in OPTIONS:
        _add(group, name, argparse.SUPPRESS)


def given_settings(options: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that were given as options, by name."""
    return {name: getattr(options, name) for name in OPTIONS if hasattr(options, name)}


def add_backend(parser: argparse.ArgumentParser) -> None:
    """Add `--backend`."""
    _add(parser, "backend", TrainingConfig().backend)


def _add(parser: Any, name: str, default: Any) -> None:
    option = OPTIONS[name]

    def parse(text: str) -> Any:
        try:
            return option.parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    parser.add_argument(
        f"--{(option.flag or name).replace('_', '-')}",
        dest=name,
        metavar=None if option.choices else option.metavar,
        choices=option.choices or None,
        type=parse,
        default=default,
        help=f"{option.help} (default: {option.default_text or getattr(TrainingConfig(), name)})",
    )
