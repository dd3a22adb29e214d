"""The options that describe data files, which every command with `--data` has, and the data that they select."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastnn.cli.models import run_folder
from fastnn.errors import DataError, SettingsError

if TYPE_CHECKING:
    from fastnn.datasets import Dataset
    from fastnn.models import Model
    from fastnn.streams import BlockedData

OF_BLOCKS = ("memory", "buffer_blocks")
"""The settings of a run on data in blocks."""
FILES = "files of samples: CSV and other tables, NPZ, NPY, IDX, MATLAB, ARFF, or a folder of pictures per class"


def add_data(
    parser: argparse.ArgumentParser,
    text: str,
    *,
    labelled: bool = True,
    flags: Sequence[str] = ("--label",),
    blocks: bool = False,
) -> None:
    """Add `--data`, with this help text, and the options that describe the files.

    labelled: whether the files may have labels
    flags: the names of the option for their column
    blocks: whether the files may be read in blocks
    """
    parser.add_argument("--data", metavar="FILE", nargs="+", help=text)
    group = parser.add_argument_group("data files", "How to read the files of --data. Most files need none of these.")
    if labelled:
        group.add_argument(
            *flags, dest="column", metavar="COLUMN", help="column of the labels: its name, its number from 1, or last"
        )
        group.add_argument(
            "--task",
            choices=("auto", "classification", "regression"),
            default="auto",
            help="predict classes or numbers (default: auto, by the labels)",
        )
    group.add_argument("--drop", metavar="COLUMN", nargs="+", default=(), help="columns to leave out")
    group.add_argument(
        "--header", action=argparse.BooleanOptionalAction, help="line 1 of a table has names (default: it decides)"
    )
    group.add_argument(
        "--missing",
        choices=("refuse", "mean"),
        default="refuse",
        help="missing values: refuse the file, or replace them by the mean of their column (default: refuse)",
    )
    group.add_argument(
        "--transpose",
        action=argparse.BooleanOptionalAction,
        help="images have rows and columns exchanged (default: those of EMNIST)",
    )
    group.add_argument(
        "--pixel-max", metavar="NUMBER", type=float, help="largest value of a pixel (default: by the data)"
    )
    group.add_argument(
        "--image-shape",
        metavar="HxW",
        type=_shape,
        help="height and width of the image in a row (default: 28x28 for 784 pixels, 8x8 for 64)",
    )
    if blocks:
        group.add_argument(
            "--block-rows",
            metavar="N",
            type=int,
            help="read the files in blocks of N rows, some of which are in memory at a time (default: 65536 for a "
            "pattern in quotation marks, HDF5, Zarr and files of 1 GB or more; other files are read whole)",
        )


def reading(options: argparse.Namespace) -> dict[str, Any]:
    """Return the options of `read_files` that differ from the defaults; with ``block_rows`` for data in blocks.

    Data are in blocks if an option asks for it, if their format or size demands it, or if they were in the run that
    --config or --resume repeats. Raises SettingsError if another option is for data in memory only.
    """
    usual = {"task": "auto", "missing": "refuse", "drop": ()}
    names = ("task", "drop", "header", "missing", "transpose", "pixel_max", "image_shape")
    column = getattr(options, "column", None)
    values = {name: getattr(options, name, None) for name in names}
    values["label"] = int(column) if isinstance(column, str) and column.isdecimal() else column
    values["drop"] = tuple(values["drop"] or ())
    found = {name: value for name, value in values.items() if value is not None and value != usual.get(name)}
    block_rows = _block_rows(options, found)
    return found if block_rows is None else {**found, "block_rows": block_rows}


def _block_rows(options: argparse.Namespace, found: dict[str, Any]) -> int | None:
    """Return the number of rows of a block; None for data that are read whole."""
    if not hasattr(options, "block_rows"):  # a command that has all data in memory
        return None
    asked = ["block_rows"] if options.block_rows is not None else [name for name in OF_BLOCKS if hasattr(options, name)]
    if asked and not options.data:
        raise SettingsError(f"--{_flag(asked[0])} is for the files of --data, which is not given")
    if asked and "missing" in found:
        hint = f"leave it out, or --{_flag(asked[0])}"
        raise SettingsError(f"--missing mean needs the mean of each column, so all rows in memory: {hint}")
    from fastnn.checks import check_integer
    from fastnn.streams.open import BLOCK_ROWS, needs_blocks

    if not asked and ("missing" in found or not options.data or not needs_blocks(options.data)):
        return None
    return check_integer("--block-rows", BLOCK_ROWS if options.block_rows is None else options.block_rows, 1)


def _flag(name: str) -> str:
    return name.replace("_", "-")


def add_test_data(parser: argparse.ArgumentParser, text: str, **options: Any) -> None:
    """Add `--data` with this help text, as `add_data` does, and `--recipe`, for `read_test_data`."""
    usual = "the test set of the run that wrote the model, else MNIST's test images"
    add_data(parser, f"{text} (default: {usual})", **options)
    parser.add_argument("--recipe", metavar="NAME", help="the test set of a recipe, such as digits, in place of --data")


def read_test_data(options: argparse.Namespace, model: "Model") -> "Dataset":
    """Return the test set that the options of `add_test_data` select, in the form that the model takes.

    Of files without a test set, it is all samples. Labels are classes or numbers as those of the model unless `--task`
    is given.
    """
    from fastnn.datasets import load_mnist
    from fastnn.datasets.containers.samples import read_labelled_samples
    from fastnn.evaluation.evaluate import data_for
    from fastnn.runs.recipes import get_recipe
    from fastnn.runs.saved import load_test_data, read_run

    if options.data:
        if options.recipe:
            raise SettingsError("--data and --recipe are given, expected one of them")
        task = "regression" if model.classes is None else "classification"
        return read_labelled_samples(options.data, model.row_format, **{"task": task, **reading(options)})
    described = next(iter(reading(options)), None)
    if described is not None:
        raise SettingsError(f"--{_flag(described)} describes the files of --data, which is not given")
    folder = run_folder(options.model)
    if options.recipe:
        recipe = get_recipe(options.recipe)
        test, named = recipe.load(recipe.config.seed).test, f"the images of the recipe {recipe.name}"
    elif folder is not None:
        return data_for(model, load_test_data(read_run(folder)))
    else:
        test, named = load_mnist()[1], "MNIST's images"
    n_inputs = model.row_format.n_inputs
    if test.images.shape[1] != n_inputs:
        raise SettingsError(f"the model takes {n_inputs} inputs, not {named}; give --data FILE")
    return test


def open_test_data(options: argparse.Namespace, model: "Model") -> "BlockedData | None":
    """Return the labelled samples of --data in blocks; None for data that are read whole.

    Raises DataError if there are no labels.
    """
    described = {"task": "regression" if model.classes is None else "classification", **reading(options)}
    if "block_rows" not in described or options.recipe:
        return None
    from fastnn.streams import open_data

    # With the classes of the model, no pass over all labels has to find them.
    data = open_data(_source(options), described.pop("label", None), classes=model.classes, **described)
    if not data.has_labels:
        raise DataError(f"{data.name} has no labels, expected some: name their column or key with --label")
    return data


def open_samples(options: argparse.Namespace, model: "Model") -> "BlockedData | None":
    """Return the samples of --data to predict, in blocks; None for files that are read whole."""
    described = reading(options)
    if "block_rows" not in described:
        return None
    from fastnn.streams import open_data

    known = model.row_format
    # As in memory, the columns of the model are never left out.
    described["drop"] = [each for each in described.get("drop", ()) if each not in (known.feature_names or ())]
    try:
        data = open_data(_source(options), **described)
        names = None if known.feature_names is None else data.feature_names
        fits = data.n_inputs == known.n_inputs if names is None else {*names} >= {*(known.feature_names or ())}
    except DataError:  # such as a table without a column that looks like labels
        fits = False
    return data.without_labels() if fits else open_data(_source(options), "none", **described)


def _source(options: argparse.Namespace) -> Any:
    """Return the files of --data as `open_data` takes them: a single one may be a pattern."""
    return options.data[0] if len(options.data) == 1 else options.data


def _shape(text: str) -> tuple[int, int]:
    height, mark, width = text.lower().replace(",", "x").partition("x")
    if not (mark and height.strip().isdecimal() and width.strip().isdecimal() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a height and a width, such as 28x28")
    return int(height), int(width)
