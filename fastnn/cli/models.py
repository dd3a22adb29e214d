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
