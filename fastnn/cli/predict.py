"""`fastnn predict`: predicts the digits in photos and drawings, or the rows of a table."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastnn.cli.data import FILES, add_data, open_samples, reading
from fastnn.cli.models import add_copies, add_model, given_copies, load_model
from fastnn.cli.options import AddCommand, add_backend
from fastnn.cli.output import printable, say, say_notes
from fastnn.errors import FastnnError, SettingsError

if TYPE_CHECKING:
    import numpy as np

    from fastnn.models import Model
    from fastnn.streams import BlockedData

# The number of pictures that are prepared before they are predicted together.
_TOGETHER = 256


def register(add: AddCommand) -> None:
    parser = add("predict", run, "predict the digits in photos or drawings, or the rows of a table")
    add_model(parser)
    parser.add_argument("image", metavar="IMAGE", nargs="*", help="PNG, JPEG or other picture of a digit, or a folder")
    parser.add_argument("--many", action="store_true", help="a picture may have several digits; read them in order")
    add_data(parser, f"predict the rows of these {FILES}", labelled=False, blocks=True)
    parser.add_argument("--out", metavar="FILE", help="write the predictions to a CSV file")
    parser.add_argument(
        "--id",
        metavar="NAME[,LABEL]",
        help="write only identifiers and labels, under these names: ImageId,Label. The identifiers are the column NAME "
        "of the data if there is one, else the numbers from 1",
    )
    add_copies(parser)
    add_backend(parser)


def run(options: argparse.Namespace) -> None:
    if bool(options.image) == bool(options.data):
        raise SettingsError("expected either pictures or --data FILE")
    given_copies(options)  # an error before any work
    model = load_model(options.model, options.member)
    if options.data:
        if options.many:
            raise SettingsError("--many is given with --data, expected it with pictures")
        _predict_rows(model, options)
    else:
        if options.id:
            raise SettingsError("--id is given with pictures, expected it with --data")
        _predict_pictures(model, options)


# --- Rows of a table -------------------------------------------------------------------------------------------------
def _predict_rows(model: "Model", options: argparse.Namespace) -> None:
    from fastnn.datasets.containers.samples import read_samples

    id_name = (options.id or "").partition(",")[0]
    blocks = open_samples(options, model)
    if blocks is not None:
        if id_name in (blocks.feature_names or ()):
            raise SettingsError(
                f"--id is {id_name}, a column of data in blocks, whose rows have numbers: expected another name"
            )
        say_notes(blocks.notes, options)
        _write_blocks(model, blocks, options)
        return
    data, ids = read_samples(options.data, model.row_format, id_name or None, **reading(options))
    say_notes(data.notes, options)
    numbers = list(range(1, len(data) + 1)) if ids is None else ids
    _write(_columns_of(model, data, numbers, options), options)


def _columns_of(model: "Model", data: Any, numbers: list[Any], options: argparse.Namespace) -> dict[str, list[Any]]:
    """Return the columns of the table of predictions for some rows, whose identifiers are given."""
    id_name, _, label_name = (options.id or "").partition(",")
    labels, proba = _answers(model, data, options)
    if id_name:
        return {id_name: numbers, label_name or "Label": labels.tolist()}
    columns = {"row": numbers, **_prediction_columns(labels)}
    if proba is not None:
        columns["probability"] = [round(float(value), 6) for value in proba.max(axis=1)]
    return columns


def _write_blocks(model: "Model", data: "BlockedData", options: argparse.Namespace) -> None:
    """Predict data in blocks, and write the rows of each block: to `--out`, or as JSON or CSV to stdout."""
    from fastnn.checks import display_path
    from fastnn.files.atomic import write_atomically
    from fastnn.models.blocks import backend_for, some_rows

    options.backend = backend_for(model.networks[0], data, options.backend)

    def write(write_csv: "Callable[[str], object] | None") -> None:
        done = 0
        for samples in some_rows(data):
            columns = _columns_of(model, samples, list(range(done + 1, done + len(samples) + 1)), options)
            if write_csv is not None:
                write_csv(_as_csv(columns, header=not done))
            if options.json:
                sys.stdout.write((", " if done else "[") + json.dumps(_records(columns))[1:-1])
            done += len(samples)
        if options.json:
            print("]")

    if options.out is not None:
        write_atomically(options.out, lambda file: write(lambda text: file.write(text.encode())))
        if not options.json:
            print(f"{len(data):,} predictions in {display_path(options.out)}")
    else:
        write(None if options.json else sys.stdout.write)


def _prediction_columns(labels: "np.ndarray") -> dict[str, list[Any]]:
    if labels.ndim == 1:
        return {"prediction": labels.tolist()}
    return {f"prediction_{column}": labels[:, column].tolist() for column in range(labels.shape[1])}


def _answers(model: "Model", x: Any, options: argparse.Namespace) -> "tuple[np.ndarray, np.ndarray | None]":
    """Return the predictions, and the probabilities of a model with classes."""
    how: dict[str, Any] = {"backend": options.backend, "copies": given_copies(options)}
    if model.classes is None:
        return model.predict(x, **how), None
    from fastnn.models.model import decide

    proba = model.predict_proba(x, **how)
    return decide(proba, model.labels, model.unknown, model.is_multilabel), proba


def _write(columns: dict[str, list[Any]], options: argparse.Namespace) -> None:
    """Write a table: to `--out`, or as JSON or CSV to stdout."""
    table = _as_csv(columns)
    if options.out is not None:
        from fastnn.checks import display_path
        from fastnn.files.atomic import write_atomically

        write_atomically(options.out, table.encode())
    if options.json:
        print(json.dumps(_records(columns)))
    elif options.out is None:
        sys.stdout.write(table)
    else:
        count = len(next(iter(columns.values())))
        print(f"{count:,} predictions in {display_path(options.out)}")


def _as_csv(columns: dict[str, list[Any]], *, header: bool = True) -> str:
    import csv
    import io

    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    if header:
        writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return table.getvalue()


def _records(columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


# --- Pictures --------------------------------------------------------------------------------------------------------
def _predict_pictures(model: "Model", options: argparse.Namespace) -> None:
    """Print an answer for each picture; name the pictures without an answer at the end, and fail if there are any."""
    from fastnn.models.pictures import check_takes_pictures

    if model.image_shape is None:
        raise SettingsError("the model is for rows of a table, expected --data FILE instead of pictures")
    if options.many:
        check_takes_pictures(model.row_format)
    failed: list[FastnnError] = []
    answers: list[dict[str, Any]] = []
    for names, rows in _prepared(_pictures(options.image), model, options.many, failed):
        labels, proba = _answers(model, rows, options)
        for place, (name, label) in enumerate(zip(names, labels.tolist(), strict=True)):
            answer: dict[str, Any] = {"image": name, "prediction": label}
            if proba is not None:
                answer["probability"] = round(float(proba[place].max()), 6)
            answers.append(answer)
            if not (options.json or options.out):
                print(_line(answer))
    if options.json or options.out:
        keys = dict.fromkeys(key for answer in answers for key in answer) or ["image", "prediction"]
        _write({key: [answer[key] for answer in answers] for key in keys}, options)
    if len(failed) == 1 and not answers:
        raise failed[0]
    if failed:
        for error in failed:
            say(f"fastnn: {error}")
        found = len({answer["image"] for answer in answers})
        raise type(failed[0])(f"{len(failed)} of {found + len(failed)} pictures have no answer")


def _pictures(arguments: Sequence[str]) -> list[str]:
    """Return the paths of the pictures: files as given, and the pictures in folders, in the order of their names."""
    from fastnn.checks import display_path
    from fastnn.datasets.pictures.decode import SUFFIXES
    from fastnn.errors import FileError

    found: list[str] = []
    for argument in arguments:
        path = Path(argument)
        if os.path.isdir(path):
            inside = sorted(
                each for each in path.rglob("*") if each.suffix.lower() in SUFFIXES and os.path.isfile(each)
            )
            if not inside:
                raise FileError(
                    f"{display_path(path)}: the folder has no pictures, expected files such as .png or .jpg"
                )
            found += map(str, inside)
        elif not os.path.exists(path) and any(mark in argument for mark in "*?["):
            # A pattern that no shell has expanded.
            from glob import glob

            matching = sorted(glob(argument, recursive=True))
            if not matching:
                raise FileError(f"{display_path(argument)}: no file matches the pattern")
            found += matching
        else:
            found.append(argument)
    return found


def _prepared(
    pictures: Sequence[str], model: "Model", many: bool, failed: list[FastnnError]
) -> "Iterator[tuple[list[str], np.ndarray]]":
    """Yield pictures with their rows, some at a time; append the errors of the others to `failed`."""
    import numpy as np

    from fastnn.models.pictures import picture_rows

    for start in range(0, len(pictures), _TOGETHER):
        names: list[str] = []
        rows: list[np.ndarray] = []
        for picture in pictures[start : start + _TOGETHER]:
            try:
                digits = picture_rows(model.row_format, [picture], many=many)
            except FastnnError as error:
                failed.append(error)
                continue
            rows.append(digits)
            names += [picture] * len(digits)
        if names:
            yield names, np.concatenate(rows)


def _line(answer: dict[str, Any]) -> str:
    from fastnn.checks import display_path
    from fastnn.evaluation.confidence import probability_text

    name, predicted = display_path(answer["image"]), printable(str(answer["prediction"]), lines=False)
    if "probability" not in answer:
        return f"{name}: {predicted}"
    return f"{name}: {predicted} ({probability_text(answer['probability'])})"
