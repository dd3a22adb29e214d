"""`fastnn help`: prints the help of fastnn or of one of its commands."""

import argparse

from fastnn.cli.options import AddCommand


def register(add: AddCommand) -> None:
    parser = add("help", run, "show the help of fastnn or of a command", json=False)
    parser.add_argument("topic", metavar="COMMAND", nargs="?", help="the command (default: an overview of all)")


def run(options: argparse.Namespace) -> None:
    # parse_args prints the help and exits, or refuses an unknown command with a suggestion.
    options.root.parse_args([*([] if options.topic is None else [options.topic]), "--help"])
