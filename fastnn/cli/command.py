"""The `fastnn` command and its subcommands. Results go to stdout, progress goes to stderr."""

import argparse
import os
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from fastnn.cli import (
    compare,
    completion,
    convert,
    evaluate,
    explain,
    export,
    help,
    mpi,
    page,
    play,
    predict,
    recipes,
    report,
    sweep,
    train,
    warmup,
)
from fastnn.cli.options import USAGE, Parser
from fastnn.cli.output import OutputError, log_to_stderr, say, show_warning, standard_streams
from fastnn.cli.signals import SIGNALS
from fastnn.errors import FastnnError, MissingDependencyError, SettingsError

FAILED = 1
TRACEBACK = "FASTNN_TRACEBACK"
EXAMPLES = """examples:
  fastnn train                                           train on MNIST, which comes with fastnn
  fastnn predict runs/RUN/model.safetensors photo.png    read the digit in a photo
  fastnn train --data table.csv                          train on a table of your own
  fastnn report runs/RUN                                 all about a run, in one HTML file
  fastnn sweep --set hidden=64,128 --out sweeps/a        compare settings, with several seeds each
  fastnn play                                            watch a network learn, in the browser
  fastnn page runs/RUN                                   draw in a browser, and watch the network answer

'fastnn COMMAND --help' shows the options of a command, their defaults and examples.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments`, by default ``sys.argv[1:]``; return the exit code.

    It is 0 (success), 1 (the run failed), 2 (wrong usage), or, after a signal, 128 and its number: 130 (Ctrl-C), 143
    (SIGTERM) or 129 (SIGHUP, a closed terminal). After wrong usage and ``--help``, argparse raises SystemExit instead.
    With FASTNN_TRACEBACK=1 in the environment, an error that fastnn did not expect prints its traceback.
    """
    with SIGNALS.answered(_run.__code__):
        try:
            with standard_streams():
                return _run(arguments)
        except OutputError as error:
            return FAILED if error.is_closed_pipe else _fail(error, FAILED)
        except KeyboardInterrupt:
            return SIGNALS.exit_code


def _run(arguments: Sequence[str] | None) -> int:
    code, ended = 0, None
    try:
        warnings.showwarning = show_warning
        options = parser().parse_args(arguments)
        with log_to_stderr(options.quiet):
            options.command(options)
    except OutputError:
        raise
    except SystemExit:  # of argparse, which may come before the answer to a signal
        if SIGNALS.received is None:
            raise
    except (Exception, KeyboardInterrupt) as error:
        ended = error
    if isinstance(ended, Exception) and not (SIGNALS.received and _may_come_of_a_signal(ended)):
        code = _report(ended)
    if SIGNALS.received or isinstance(ended, KeyboardInterrupt):
        say(f"fastnn: {SIGNALS.ending}")
        code = SIGNALS.exit_code
    return code


def _may_come_of_a_signal(error: Exception) -> bool:
    """Return whether `error` may be what a library made of the exception of a signal."""
    return not isinstance(error, (FastnnError, MemoryError))


def _report(error: Exception) -> int:
    """Print an error as one line and return the exit code."""
    if isinstance(error, (SettingsError, MissingDependencyError)):
        return _fail(error, USAGE)
    if isinstance(error, FastnnError):
        return _fail(error, FAILED)
    if isinstance(error, MemoryError):
        return _fail(error, FAILED, "out of memory: " if str(error) else "out of memory")
    if os.environ.get(TRACEBACK) == "1":
        traceback.print_exception(error)
    if isinstance(error, ImportError):
        return _fail(error, USAGE, "a package of fastnn cannot be imported, so install fastnn-digits again: ")
    if isinstance(error, OSError) and error.strerror:
        name = "" if error.filename is None else f"{error.filename!r}: "
        return _fail(error.strerror, FAILED, name)
    text = " ".join(str(error).split())
    return _fail(text, FAILED, f"internal error, please report it with {TRACEBACK}=1: {type(error).__name__}: ")


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

    for command in (
        train, sweep, play, evaluate, predict, report, page, compare, explain, export, convert, recipes, mpi, warmup,
        completion, help,
    ):  # fmt: skip
        command.register(add)
    return root


def _fail(error: BaseException | str, code: int, prefix: str = "") -> int:
    say(f"fastnn: {prefix}{error}")
    return code
