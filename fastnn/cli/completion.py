"""`fastnn completion`: prints the script that lets a shell complete commands, options and their values."""

import argparse
from collections.abc import Iterable

from fastnn.cli.options import AddCommand, Parser

SHELLS = ("bash", "zsh", "fish")
# What completes a value, by the placeholder of the value in the help.
_FILES = ("FILE", "MODEL", "IMAGE", "FIGURE", "TABLE")
_FOLDERS = ("FOLDER", "RUN")


def register(add: AddCommand) -> None:
    parser = add(
        "completion",
        run,
        "print the script that completes fastnn's commands and options in a shell",
        examples="""
  eval "$(fastnn completion bash)"                                  for this bash; put it in ~/.bashrc for all
  fastnn completion zsh > ~/.zfunc/_fastnn                          for zsh, with ~/.zfunc in its fpath
  fastnn completion fish > ~/.config/fish/completions/fastnn.fish   for fish
""",
        json=False,
    )
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help=f"the shell: {', '.join(SHELLS)}")


def run(options: argparse.Namespace) -> None:
    print(script(options.root, options.shell))


def script(root: argparse.ArgumentParser, shell: str) -> str:
    """Return the completion script for a shell. Changes the parser's actions, so `root` is for this use only."""
    import shtab

    from fastnn.network.activations import ACTIVATIONS
    from fastnn.network.initializers import INITIALIZER_NAMES
    from fastnn.optim.schedules import SCHEDULES
    from fastnn.runs.recipes import RECIPES

    commands = next(action for action in root._actions if isinstance(action, argparse._SubParsersAction)).choices
    values: dict[str, Iterable[str]] = {
        "recipe": RECIPES,
        "activation": ACTIVATIONS,
        "initializer": INITIALIZER_NAMES,
        "schedule": SCHEDULES,
        "topic": commands,
    }
    for parser in (root, *commands.values()):
        if isinstance(parser, Parser):
            parser.add_deferred()
        for action in parser._actions:
            if action.dest in values:
                action.choices = list(values[action.dest])
            elif not action.choices and action.metavar in _FILES + _FOLDERS:
                place = shtab.FILE if action.metavar in _FILES else shtab.DIRECTORY
                action.complete = place
    text: str = shtab.complete(root, shell)
    return text
