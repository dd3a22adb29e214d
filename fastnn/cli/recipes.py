"""`fastnn recipes`: lists the recipes."""

import argparse
import json
from dataclasses import asdict

from fastnn.cli.options import AddCommand


def register(add: AddCommand) -> None:
    add(
        "recipes",
        run,
        "list the recipes of fastnn train",
        """
  fastnn recipes                     their letters, names and titles
  fastnn recipes --json              with all their settings
  fastnn train --recipe digits       train one of them; "--recipe E" is the same
""",
    )


def run(options: argparse.Namespace) -> None:
    from fastnn.runs.recipes import RECIPES

    if options.json:
        print(json.dumps([asdict(recipe) for recipe in RECIPES.values()]))
        return
    width = max(map(len, RECIPES))
    for recipe in RECIPES.values():
        print(f"{recipe.letter or ' '}  {recipe.name:<{width}}  {recipe.title}")
