"""The parser of a command, and options that are generated from the fields of `TrainingConfig`."""

import argparse
import re
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from fastnn.cli.output import printable
from fastnn.suggestions import did_you_mean

USAGE = 2


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of examples, and leaves room for the longest name of a command."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26)

    def add_argument(self, action: argparse.Action) -> None:
        """Measure the names of commands with their indentation, which argparse forgets."""
        super().add_argument(action)
        if isinstance(action, argparse._SubParsersAction):
            self._action_max_length += self._indent_increment


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line with a suggestion, and whose options may be added when its command is chosen.

    The settings of a run need NumPy, which takes longer to import than the whole command line.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        options["formatter_class"] = _Formatter
        super().__init__(*arguments, **options)
        self._deferred: list[Callable[[Parser], None]] = []
        # For options such as --config, whose value is a file with settings: path and this parser -> values of options.
        self.readers: dict[str, Callable[[str, Parser], dict[str, Any]]] = {}

    def defer(self, add: Callable[["Parser"], None]) -> None:
        """Call `add` with this parser before it parses or prints its help."""
        self._deferred.append(add)

    def add_deferred(self) -> None:
        """Add the deferred options."""
        while self._deferred:
            self._deferred.pop(0)(self)

    def parse_known_args(self, *arguments: Any, **options: Any) -> Any:
        """Add the deferred options, then parse. What is left over is an error of this command, not of `fastnn`."""
        self.add_deferred()
        found, rest = super().parse_known_args(*arguments, **options)
        if rest:
            self._refuse(rest)
        given = [name for name in self.readers if getattr(found, name) is not None]
        for name in given:
            # Options that are not on the command line have the values of the file as their defaults.
            self.set_defaults(**self.readers[name](getattr(found, name), self))
        if given:
            found, rest = super().parse_known_args(*arguments, **options)
        return found, rest

    def format_help(self) -> str:
        """Return the help text, with the deferred options."""
        self.add_deferred()
        return super().format_help()

    def _refuse(self, rest: Sequence[str]) -> NoReturn:
        unknown = [each.partition("=")[0] for each in rest if re.match("-[^0-9.]", each)]
        if not unknown:
            self.error(f"unexpected argument {rest[0]!r}")
        self.error(f"unknown option {unknown[0]}{did_you_mean(unknown[0], self._option_string_actions)}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Raise ArgumentError unless `value` is one of the action's choices."""
        if action.choices is not None and value not in action.choices:
            choices = [str(choice) for choice in action.choices]
            found = f"found {value!r}{did_you_mean(str(value), choices)}, expected one of {', '.join(choices)}"
            raise argparse.ArgumentError(action, found)

    def error(self, message: str) -> NoReturn:
        """Exit with one line."""
        message = printable(message, lines=False)
        self.exit(USAGE, f"{self.prog}: {message}; see {self.prog} --help\n")


# Adds a command with its name, the function that runs it, its help text and examples, one line each, of command lines
# and what they do; returns the command's parser.
AddCommand = Callable[..., Parser]


class HiddenUnits(argparse.Action):
    """The numbers of units of the hidden layers, such as ``--hidden 128 64`` or ``--hidden 128,64``, as a list of int.

    Examples
    --------
    >>> import argparse
    >>> from fastnn.cli.options import HiddenUnits
    >>> parser = argparse.ArgumentParser()
    >>> _ = parser.add_argument("--hidden", nargs="*", action=HiddenUnits)
    >>> parser.parse_args(["--hidden", "128,64"]).hidden
    [128, 64]
    """

    def __call__(self, parser: argparse.ArgumentParser, options: argparse.Namespace, values: Any, *_: Any) -> None:
        """Store the numbers; an error shows the right form."""
        texts = [text for value in values for text in re.split(r"\s*,\s*|\s+", value.strip()) if text]
        try:
            setattr(options, self.dest, [int(text) for text in texts])
        except ValueError:
            found = " ".join(values)
            raise argparse.ArgumentError(self, f"found {found!r}, expected numbers of units such as 128 64") from None
        options.layers = None  # those of a settings file


class LayersText(argparse.Action):
    """The hidden layers as text, such as ``--layers conv:6x5,pool:2,120``, in the form of `format_layers`.

    Examples
    --------
    >>> import argparse
    >>> from fastnn.cli.options import LayersText
    >>> parser = argparse.ArgumentParser()
    >>> _ = parser.add_argument("--layers", nargs="+", action=LayersText)
    >>> parser.parse_args(["--layers", "conv:6x5,", "maxpool, 120"]).layers
    'conv:6x5,pool:2,120'
    """

    def __call__(self, parser: argparse.ArgumentParser, options: argparse.Namespace, values: Any, *_: Any) -> None:
        """Store the text; an error has the place in it."""
        from fastnn.errors import SettingsError
        from fastnn.network.layers.notation import format_layers, parse_layers

        # Spaces separate layers, too, as they do in --hidden.
        text = re.sub(r"\s*,\s*|\s+", ",", " ".join(value.strip().removesuffix(",") for value in values))
        try:
            setattr(options, self.dest, format_layers(parse_layers(text)))
        except SettingsError as error:
            raise argparse.ArgumentError(self, str(error)) from None
        options.hidden = None  # those of a settings file


DEFAULTS = (
    "A recipe's own settings replace these defaults. With --data and no recipe: adam, batches of 32, a cosine "
    "schedule, as many epochs as 20,000 steps need (20 to 1,000), --patience 100, and L2 by the number of samples."
)


def add_settings(parser: Parser, without: Sequence[str] = ()) -> None:
    """Add the options of all settings but some. An option that is not given sets nothing."""

    def add(parser: Parser) -> None:
        from fastnn.optim.config import OPTIONS

        group = parser.add_argument_group("settings of the run", DEFAULTS)
        for name in OPTIONS:
            if name not in without:
                _add(group, name, argparse.SUPPRESS)

    parser.defer(add)


def given_settings(options: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that were given as options or in the file of --config, by name."""
    from dataclasses import fields

    from fastnn.optim.config import TrainingConfig

    names = [field.name for field in fields(TrainingConfig)]
    return {name: getattr(options, name) for name in names if hasattr(options, name)}


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
