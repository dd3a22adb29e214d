"""The parser of a command, and options that are generated from the fields of `TrainingConfig`."""

import argparse
from collections.abc import Callable
from typing import Any, NoReturn

USAGE = 2


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, and whose options may be added when its command is chosen.

    The settings of a run need NumPy, which takes longer to import than the whole command line.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._deferred: list[Callable[[Parser], None]] = []

    def defer(self, add: Callable[["Parser"], None]) -> None:
        """Call `add` with this parser before it parses."""
        self._deferred.append(add)

    def parse_known_args(self, *arguments: Any, **options: Any) -> Any:
        """Add the deferred options, then parse."""
        while self._deferred:
            self._deferred.pop(0)(self)
        return super().parse_known_args(*arguments, **options)

    def error(self, message: str) -> NoReturn:
        """Exit with one line."""
        self.exit(USAGE, f"{self.prog}: {message}; see {self.prog} --help\n")


# Adds a command with its name, the function that runs it and its help text; returns the command's parser.
AddCommand = Callable[[str, Callable[[argparse.Namespace], None], str], Parser]


def add_settings(parser: Parser) -> None:
    """Add the options of all settings. An option that is not given sets nothing."""

    def add(parser: Parser) -> None:
        from fastnn.optim.config import OPTIONS

        group = parser.add_argument_group("settings of the run", "A recipe's own settings replace these defaults.")
        for name in OPTIONS:
            _add(group, name, argparse.SUPPRESS)

    parser.defer(add)


def given_settings(options: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that were given as options, by name."""
    from fastnn.optim.config import OPTIONS

    return {name: getattr(options, name) for name in OPTIONS if hasattr(options, name)}


def add_backend(parser: Parser) -> None:
    """Add `--backend`."""
    parser.defer(lambda parser: _add(parser, "backend", "auto"))


def _add(parser: Any, name: str, default: Any) -> None:
    from fastnn.optim.config import OPTIONS, TrainingConfig

    option, usual = OPTIONS[name], getattr(TrainingConfig(), name)

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
        type=option.parse if isinstance(option.parse, type) else parse,  # argparse words the errors of int and float
        default=default,
        help=f"{option.help} (default: {option.default_text or usual})",
    )
