"""The MODEL argument of commands: a model file, or a run folder that has one."""

import argparse
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastnn.models import Model


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the argument MODEL."""
    parser.add_argument("model", metavar="MODEL", help="model file, or the folder of a run")


def load_model(path: str) -> "Model":
    """Return the model of a file, or of a run folder."""
    from fastnn.files.model_file import load

    return load(os.path.join(path, "model.safetensors") if os.path.isdir(path) else path)


def run_folder(path: str) -> str | None:
    """Return the folder of the run that wrote the model at `path`, a file or a folder; None if it has no report."""
    folder = path if os.path.isdir(path) else os.path.dirname(path)
    is_of_run = os.path.isdir(path) or os.path.basename(path) == "model.safetensors"
    return folder or "." if is_of_run and os.path.isfile(os.path.join(folder, "report.json")) else None
