"""The MODEL argument of commands: a model file, or a run folder that has one."""

import argparse
import os
from typing import TYPE_CHECKING

from fastnn.errors import SettingsError

if TYPE_CHECKING:
    from fastnn.models import Copies, Model


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the argument MODEL, and `--member`, which takes one network of an ensemble."""
    parser.add_argument("model", metavar="MODEL", help="model file, or the folder of a run")
    parser.add_argument(
        "--member", metavar="K", type=int, help="of an ensemble, take network K alone, counted from 1 (default: all)"
    )


def load_model(path: str, member: int | None = None) -> "Model":
    """Return the model of a file, or of a run folder; with `member`, that of one network of an ensemble.

    Raises SettingsError if the ensemble has no such member, or the model is no ensemble.
    """
    from fastnn.checks import check_integer
    from fastnn.files.model_file import load
    from fastnn.models import Ensemble

    model = load(os.path.join(path, "model.safetensors") if os.path.isdir(path) else path)
    if member is None:
        return model
    if not isinstance(model, Ensemble):
        raise SettingsError(f"--member is {member}, but the model is a single network; leave it out")
    return model.members[check_integer("--member", member, 1, len(model.members)) - 1]


def add_copies(parser: argparse.ArgumentParser) -> None:
    """Add the options of predictions that are averaged over copies of each image, for `given_copies`."""
    parser.add_argument(
        "--average",
        metavar="K",
        type=int,
        help="average the predictions over K copies of each image: the image itself, and others that --augment changes "
        "(default: the image alone)",
    )
    parser.add_argument("--augment", metavar="CHANGES", help="with --average: changes such as shift=1,rotate=5")


def given_copies(options: argparse.Namespace) -> "Copies | None":
    """Return the copies that the options of `add_copies` describe; SettingsError if only one of them is given."""
    from fastnn.models import Copies

    if options.average is None and options.augment is not None:
        raise SettingsError("--augment is given, expected it with --average K")
    if options.average is not None and options.augment is None:
        raise SettingsError("--average is given, expected --augment with it, such as --augment shift=1,rotate=5")
    return None if options.average is None else Copies(options.average, options.augment)


def run_folder(path: str) -> str | None:
    """Return the folder of the run that wrote the model at `path`, a file or a folder; None if it has no report."""
    folder = path if os.path.isdir(path) else os.path.dirname(path)
    is_of_run = os.path.isdir(path) or os.path.basename(path) == "model.safetensors"
    return folder or "." if is_of_run and os.path.isfile(os.path.join(folder, "report.json")) else None
