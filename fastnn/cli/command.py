"""The `fastnn` command and its subcommands. Results go to stdout, progress goes to stderr."""

import argparse
import contextlib
import signal
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from fastnn.cli import compare, completion, evaluate, explain, help, predict, recipes, report, train, warmup
from fastnn.cli.options import USAGE, Parser
from fastnn.cli.output import OutputError, log_to_stderr, say, show_warning, standard_streams
from fastnn.errors import FastnnError, MissingDependencyError, SettingsError

FAILED, INTERRUPTED, TERMINATED = 1, 130, 143
EXAMPLES = """examples:
  fastnn train                                           train on MNIST, which comes with fastnn
  fastnn predict runs/RUN/model.safetensors photo.png    read the digit in a photo
  fastnn train --data table.csv                          train on a table of your own
  fastnn report runs/RUN                                 all about a run, in one HTML file

'fastnn COMMAND --help' shows the options of a command, their defaults and examples.
"""


class _Terminated(KeyboardInterrupt):
    """Raised on SIGTERM. The run ends as it does after Ctrl-C."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments`, by default ``sys.argv[1:]``; return the exit code.

    It is 0 (success), 1 (the run failed), 2 (wrong usage), 130 (Ctrl-C) or 143 (SIGTERM). After wrong usage and
    ``--help``, argparse raises SystemExit instead.
    """
    try:
        with standard_streams():
            return _run(arguments)
    except OutputError as error:
        return FAILED if error.is_closed_pipe else _fail(error, FAILED)


def _run(arguments: Sequence[str] | None) -> int:
    warnings.showwarning = show_warning
    _on_sigterm(_raise_terminated)
    try:
        options = parser().parse_args(arguments)
        with log_to_stderr(options.quiet):
            options.command(options)
    except (SettingsError, MissingDependencyError) as error:
        return _fail(error, USAGE)
    except FastnnError as error:
        return _fail(error, FAILED)
    except KeyboardInterrupt as interrupt:
        terminated = isinstance(interrupt, _Terminated) or isinstance(interrupt.__cause__, _Terminated)
        say(f"fastnn: {'terminated' if terminated else 'interrupted'}")
        return TERMINATED if terminated else INTERRUPTED
    except MemoryError as error:
        return _fail(error, FAILED, "out of memory: ")
    finally:
        _on_sigterm(signal.SIG_DFL)
    return 0


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        import fastnn

        print(f"fastnn {fastnn.__version__}")
        parser.exit()


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    description = "Train and run neural networks on a CPU, for handwritten digits and for tables."
    root = Parser(prog="fastnn", description=description, epilog=EXAMPLES)
    root.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    root.add_argument("--quiet", action="store_true", help="show no progress and no notes, only results and problems")
    root.set_defaults(command=lambda _: root.print_help())  # without a command
    commands = root.add_subparsers(metavar="COMMAND", parser_class=Parser)

    def add(
        name: str, run: Callable[[argparse.Namespace], None], text: str, examples: str = "", json: bool = True
    ) -> Parser:
        epilog = f"examples:\n{examples.strip(chr(10))}\n" if examples else None
        added = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", epilog=epilog)
        added.set_defaults(command=run, root=root)
        if json:
            added.add_argument("--json", action="store_true", help="print the result as one JSON value")
        # Without a default of its own, the option does not undo the --quiet before the name of the command.
        quiet = "show no progress and no notes, only the result and problems"
        added.add_argument("--quiet", action="store_true", default=argparse.SUPPRESS, help=quiet)
        return added

    for command in (train, evaluate, predict, report, compare, explain, recipes, warmup, completion, help):
        command.register(add)
    return root


def _fail(error: BaseException, code: int, prefix: str = "") -> int:
    say(f"fastnn: {prefix}{error}")
    return code


def _on_sigterm(handler: Any) -> None:
    with contextlib.suppress(ValueError):  # only the main thread may set a handler; elsewhere the old one stays
        signal.signal(signal.SIGTERM, handler)


def _raise_terminated(*_: Any) -> NoReturn:
    raise _Terminated
