"""The `fastnn` command and its subcommands. Results go to stdout, progress goes to stderr."""

import argparse
import contextlib
import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from fastnn.cli import compare, evaluate, explain, predict, recipes, report, train, warmup
from fastnn.cli.options import USAGE, Parser
from fastnn.cli.output import log_to_stderr, say, show_warning
from fastnn.errors import FastnnError, MissingDependencyError, SettingsError

FAILED, INTERRUPTED, TERMINATED = 1, 130, 143


class _Terminated(KeyboardInterrupt):
    """Raised on SIGTERM. The run ends as it does after Ctrl-C."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments`, by default ``sys.argv[1:]``; return the exit code.

    It is 0 (success), 1 (the run failed), 2 (wrong usage), 130 (Ctrl-C) or 143 (SIGTERM).
    """
    options = parser().parse_args(arguments)
    warnings.showwarning = show_warning
    _on_sigterm(_raise_terminated)
    try:
        with log_to_stderr():
            options.command(options)
        sys.stdout.flush()
    except (SettingsError, MissingDependencyError) as error:
        return _fail(error, USAGE)
    except FastnnError as error:
        return _fail(error, FAILED)
    except BrokenPipeError:  # the reader closed the pipe; flushing the buffer at exit must not raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
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
    root = Parser(prog="fastnn", description="Train and run neural networks for handwritten digits, on a CPU.")
    root.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = root.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)

    def add(name: str, run: Callable[[argparse.Namespace], None], text: str) -> Parser:
        added = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        added.set_defaults(command=run)
        added.add_argument("--json", action="store_true", help="print the result as one JSON value")
        return added

    for command in (train, evaluate, predict, report, compare, explain, recipes, warmup):
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
