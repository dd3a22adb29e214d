"""The settings of a run in a file: TOML with the names of the options of `fastnn train`, or the report of a run.

::

    data = ["train.csv", "test.csv"]   # relative to this file
    hidden = [128, 64]
    optimizer = "adam"
    learning-rate = 0.001
"""

import argparse
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastnn.checks import check_choice, display_path, short
from fastnn.cli.data import OF_BLOCKS
from fastnn.cli.options import HiddenUnits, LayersText
from fastnn.errors import DataError, FastnnError, SettingsError
from fastnn.suggestions import did_you_mean

# Options that are no settings of a run, settings that only `fastnn train` has, and other names of options, as reports
# have them.
_NO_SETTINGS = {"help", "json", "quiet", "config", "resume", "force"}
_OF_TRAIN = {"snapshots", "members"}
_OTHER_NAMES = {"files": "data"}


def read_settings_file(path: str, parser: argparse.ArgumentParser) -> dict[str, Any]:
    """Return the settings of a file as values of the parser's options, by their `dest`.

    A settings file is TOML. JSON, and the folder of a run, stand for the settings that the run recorded.

    Raises FileError if the file cannot be read, DataError if it is damaged, and SettingsError for a name that is no
    option or a value that is none of it.
    """
    file = Path(path) / "report.json" if os.path.isdir(path) else Path(path)
    name = display_path(file)
    settings = _parsed(file)
    actions = _actions(parser)
    found: dict[str, Any] = {}
    for key, value in settings.items():
        action = actions.get(_OTHER_NAMES.get(key, key).replace("-", "_"))
        if action is None and key in _OF_TRAIN:  # another command repeats a run of `fastnn train`
            continue
        if action is None:
            meant = did_you_mean(key, [each.replace("_", "-") for each in actions])
            raise SettingsError(f"{name}: {short(key)} is no setting{meant}; fastnn train --help lists them")
        try:
            if isinstance(action, str):
                found[action] = value
            elif value is not None or action.default is argparse.SUPPRESS:  # null is a value of a setting only
                found[action.dest] = _value(action, value, file.parent)
        except (FastnnError, ValueError, argparse.ArgumentError, argparse.ArgumentTypeError) as error:
            text = error.message if isinstance(error, argparse.ArgumentError) else str(error)
            raise SettingsError(f"{name}: {key} is {short(value)}: {text}") from None
    if {"hidden", "layers"} <= found.keys():
        raise SettingsError(f"{name}: hidden and layers are set, expected one of them")
    return found


def _parsed(path: Path) -> Mapping[str, Any]:
    """Return the settings of a file by their names in it, without tables inside tables."""
    import tomllib

    from fastnn.datasets.files import open_binary

    with open_binary(path) as file:
        data = file.read()
    try:
        if path.suffix.lower() == ".json":
            content = json.loads(data)
            content = content.get("settings", content) if isinstance(content, dict) else content
        else:
            content = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        kind = "JSON" if path.suffix.lower() == ".json" else "TOML, such as learning-rate = 0.1"
        raise DataError(f"{display_path(path)}: {' '.join(str(error).split())}, expected {kind}") from None
    if not isinstance(content, dict):
        raise DataError(f"{display_path(path)}: found {short(content)}, expected settings by name")
    reading = content.pop("reading", None)  # how a run has read the files
    if not isinstance(reading, dict):
        return content if reading is None else content | {"reading": reading}
    if "block_rows" not in reading:  # a run on data in memory, whose report has all settings
        content = {name: value for name, value in content.items() if name not in OF_BLOCKS}
    return {**content, **reading}


def _actions(parser: argparse.ArgumentParser) -> dict[str, argparse.Action | str]:
    """Return the options by their names with underscores; settings of a run that have no option by their names only."""
    from dataclasses import fields

    from fastnn.optim.config import TrainingConfig

    found: dict[str, argparse.Action | str] = {field.name: field.name for field in fields(TrainingConfig)}
    for action in parser._actions:
        if action.dest not in _NO_SETTINGS and action.option_strings:
            for option in (f"--{action.dest}", *action.option_strings):
                if option.startswith("--") and not option.startswith("--no-"):
                    found[option[2:].replace("-", "_")] = action
    return found


def _value(action: argparse.Action, value: Any, folder: Path) -> Any:
    """Return what the option would be if `value` were given on the command line."""
    if isinstance(action, argparse.BooleanOptionalAction):
        if not isinstance(value, bool):
            raise SettingsError("expected true or false")
        return value
    several = action.nargs in ("*", "+")
    values = value if isinstance(value, list) else [value]
    if not several and isinstance(value, list):
        # Such as the shape of an image; of settings of `TrainingConfig`, the rates of dropout.
        numbers = (int, float) if action.default is argparse.SUPPRESS else int
        if action.type is None or not all(isinstance(each, numbers) for each in values):
            raise SettingsError("expected one value")
        return tuple(values)
    if isinstance(value, dict) and action.default is argparse.SUPPRESS:  # an object, as reports have it
        from fastnn.optim.config import TrainingConfig

        return getattr(TrainingConfig.from_dict({action.dest: value}), action.dest)
    if isinstance(value, dict) or any(isinstance(each, (list, dict)) for each in values):
        raise SettingsError(f"expected {'a list of values' if several else 'one value'}")
    if isinstance(action, (HiddenUnits, LayersText)):
        options = argparse.Namespace()
        action(argparse.ArgumentParser(), options, [str(each) for each in values])
        return getattr(options, action.dest)
    if action.default is argparse.SUPPRESS:  # a setting of `TrainingConfig`, which checks it; argparse parses strings
        return value
    for each in values:
        if action.choices is not None:
            check_choice(action.dest, each, list(action.choices))
        elif action.type is None and not isinstance(each, str) and action.dest != "column":
            raise SettingsError("expected a string")
    if action.metavar in ("FILE", "FOLDER", "MODEL"):
        values = [os.path.join(folder, each) for each in values]
    return values if several else values[0]
