"""A Sphinx extension: the directive `commands` describes the commands of `fastnn`, from their parsers."""

import argparse
import contextlib
import io
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from fastnn.cli.command import parser as root_parser


def subcommands() -> dict[str, argparse.ArgumentParser]:
    """Return the parser of each command, by name, with all of its options."""
    (choices,) = [action.choices for action in root_parser()._actions if isinstance(action, argparse._SubParsersAction)]
    for parser in choices.values():
        # Asking for help adds the options that a parser otherwise adds when its command is chosen.
        with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
            parser.parse_args(["--help"])
    return dict(choices)


class Commands(SphinxDirective):
    """One section per command: what it does, its usage, its arguments and options."""

    def run(self) -> list[nodes.Node]:
        """Return the sections."""
        return [self._section(name, parser) for name, parser in subcommands().items()]

    def _section(self, name: str, parser: argparse.ArgumentParser) -> nodes.section:
        section = nodes.section(ids=[f"fastnn-{name}"], names=[f"fastnn {name}"])
        section += nodes.title("", "", nodes.literal("", f"fastnn {name}"))
        if parser.description:
            section += _paragraphs(parser.description)
        section += _console(parser.format_usage().removeprefix("usage: ").rstrip())
        for group in parser._action_groups:
            actions = [action for action in group._group_actions if action.help != argparse.SUPPRESS]
            if not actions:
                continue
            section += nodes.rubric("", (group.title or "").capitalize())
            if group.description:
                section += _paragraphs(group.description)
            section += nodes.definition_list("", *(_item(action, parser) for action in actions))
        if parser.epilog:
            section += _console(parser.epilog.strip())
        return section


def _item(action: argparse.Action, parser: argparse.ArgumentParser) -> nodes.definition_list_item:
    formatter = parser._get_formatter()
    term = nodes.term("", "", nodes.literal("", formatter._format_action_invocation(action)))
    text = formatter._expand_help(action) if action.help else ""
    return nodes.definition_list_item("", term, nodes.definition("", nodes.paragraph("", text)))


def _paragraphs(text: str) -> list[nodes.Node]:
    return [nodes.paragraph("", part) for part in text.split("\n\n")]


def _console(text: str) -> nodes.literal_block:
    return nodes.literal_block(text, text, language="text")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("commands", Commands)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
