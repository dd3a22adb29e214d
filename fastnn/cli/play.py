"""`fastnn play`: trains networks live, in a page of the browser."""

import argparse
import copy
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastnn.cli.data import OF_BLOCKS
from fastnn.cli.live import add_page, page, wait_for_signal
from fastnn.cli.options import AddCommand, add_settings
from fastnn.cli.output import say_notes
from fastnn.cli.train import add_config, add_run, planned_run, read_config, sample_weight
from fastnn.errors import SettingsError

if TYPE_CHECKING:
    from fastnn.live.session import Planned

EXAMPLES = """
  fastnn play                                     MNIST: train, pause, step, and draw digits for the network
  fastnn play --recipe lenet                      a convolutional network
  fastnn play --recipe digits --optimizer adam    the 8x8 digits, with another optimizer
  fastnn play --data pictures/                    your own data: anything that fastnn train takes
  fastnn play --config runs/RUN                   watch a run again, to the same bits
  fastnn play --port 8000 --no-browser            at this port; open the printed address yourself
"""
# The settings of `TrainingConfig` that the page offers.
OFFERED = (
    "epochs", "batch_size", "learning_rate", "schedule", "optimizer", "l2", "dropout", "augment",
    "early_stopping", "seed",
)  # fmt: skip
# The options that a recipe replaces, beside those of `TrainingConfig`.
_OF_NETWORK = ("start", "standardize", "hidden", "layers", "activation", "initializer", "dtype", "class_weight")


def register(add: AddCommand) -> None:
    parser = add("play", run, "train networks live, in a page of the browser", EXAMPLES, json=False)
    parser.readers = {"config": read_config}
    add_config(parser)
    add_run(parser)
    add_page(parser)
    add_settings(parser, without=OF_BLOCKS)


def run(options: argparse.Namespace) -> None:
    from fastnn.live.session import Session

    session = Session(planner(options), form(options))
    try:
        session.plan(0, {}, notes=lambda notes: say_notes(notes, options))
        with page(session, options, lambda text: print(text, flush=True)):
            wait_for_signal()
    finally:
        session.close()


def form(options: argparse.Namespace) -> dict[str, Any]:
    """Return what the page offers as settings."""
    from fastnn.network import ACTIVATIONS
    from fastnn.optim.optimizers import OPTIMIZERS
    from fastnn.optim.schedules import SCHEDULES
    from fastnn.runs.recipes import RECIPES

    return {
        "recipes": [{"name": recipe.name, "title": recipe.title} for recipe in RECIPES.values()],
        "files": bool(options.data),
        "activations": list(ACTIVATIONS),
        "optimizers": list(OPTIMIZERS),
        "schedules": list(SCHEDULES),
    }


def planner(options: argparse.Namespace) -> "Callable[[dict[str, Any]], Planned]":
    """Return the function that plans a run for settings of the page, which replace those of the options.

    The page chooses a recipe by its name, or the files of the options. It can name no file.
    """
    from fastnn.live.session import Planned
    from fastnn.optim.config import TrainingConfig, as_plain
    from fastnn.runs.recipes import get_recipe

    objects: dict[tuple[str, str], Any] = {}  # settings that are no plain values, by their names and texts

    def shown(config: TrainingConfig, name: str) -> Any:
        value = getattr(config, name)
        plain = as_plain(value)
        if not isinstance(plain, dict):
            return "full" if name == "batch_size" and plain is None else plain
        objects[name, repr(value)] = value
        return repr(value)

    def plan(settings: dict[str, Any]) -> Planned:
        given = copy.copy(options)
        if set(settings) == {"recipe"}:  # as it is, without the options of the command
            for name in _OF_NETWORK:
                setattr(given, name, None)
            for name in TrainingConfig.__dataclass_fields__:
                vars(given).pop(name, None)
        for name, value in settings.items():
            _set(given, name, value, objects)
        planned, recorded, _ = planned_run(given)
        found = {name: shown(planned.config, name) for name in OFFERED}
        found["recipe"] = recorded["recipe"]
        found["layers"] = recorded["layers"] or " ".join(map(str, recorded["hidden"] or ()))
        activation = recorded["activation"]
        found["activation"] = activation if activation is None or isinstance(activation, str) else " ".join(activation)
        return Planned(planned, recorded, found, sample_weight(planned, given))

    def _set(given: argparse.Namespace, name: str, value: Any, objects: dict[tuple[str, str], Any]) -> None:
        if name == "recipe":
            if value is not None and not isinstance(value, str):
                raise SettingsError("recipe is no name")
            if value is None and not given.data:
                raise SettingsError("recipe is missing: there are no files of --data")
            if value is not None:
                given.recipe, given.data = get_recipe(value).name, None
        elif name == "layers":
            if given.start is None:
                given.hidden, given.layers = hidden_layers(value)
        elif name == "activation":
            if given.start is None:
                given.activation = _names(value)
        elif name in OFFERED:
            if value is None and name != "augment":
                vars(given).pop(name, None)  # the usual one
            else:
                is_object = isinstance(value, str) and (name, value) in objects
                setattr(given, name, objects[name, value] if is_object else _parsed(name, value))
        else:
            raise SettingsError(f"{name[:50]!r} is no setting of the page")

    return plan


def _parsed(name: str, value: Any) -> Any:
    """Return the value of a setting: a text is what the option of the command would have."""
    from fastnn.optim.config import OPTIONS

    if isinstance(value, (dict, list)):
        raise SettingsError(f"{name} is no number and no text")
    if not isinstance(value, str):
        return value
    try:
        return OPTIONS[name].parse(value)
    except ValueError as error:
        raise SettingsError(f"{name}: {error}") from None


def _names(value: Any) -> list[str] | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise SettingsError("activation is no text")
    return value.split() or None


def hidden_layers(text: Any) -> tuple[list[int] | None, str | None]:
    """Return the hidden layers of a text as the values of `--hidden` and `--layers`, of which one is None.

    Examples
    --------
    >>> from fastnn.cli.play import hidden_layers
    >>> hidden_layers("128 64"), hidden_layers("conv:6x5, pool:2, 84")
    (([128, 64], None), (None, 'conv:6x5,pool:2,84'))
    """
    from fastnn.network.layers import format_layers, parse_layers

    if not isinstance(text, str):
        raise SettingsError("layers is no text, expected one such as 128 64")
    parts = [part for part in re.split(r"[\s,]+", text.strip()) if part]
    if all(part.isascii() and part.isdecimal() for part in parts):
        return [int(part) for part in parts], None
    return None, format_layers(parse_layers(",".join(parts)))
