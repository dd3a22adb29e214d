"""`fastnn predict`: predicts the digits in photos and drawings, or the rows of a table."""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastnn.cli.data import FILES, add_data, reading
from fastnn.cli.models import add_copies, add_model, given_copies, load_model
from fastnn.cli.options import AddCommand, add_backend
from fastnn.cli.output import printable, say, say_notes
from fastnn.errors import FastnnError, SettingsError

if TYPE_CHECKING:
    import numpy as np

    from fastnn.models import Model

# The number of pictures that are prepared before they are predicted together.
_TOGETHER = 256


def register(add: AddCommand) -> None:
    parser = add("predict", run, "predict the digits in photos or drawings, or the rows of a table")
    add_model(parser)
    parser.add_argument("image", metavar="IMAGE", nargs="*", help="PNG, JPEG or other picture of a digit, or a folder")
    parser.add_argument("--many", action="store_true", help="a picture may have several digits; read them in order")
    add_data(parser, f"predict the rows of these {FILES}", labelled=False)
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

    id_name, _, label_name = (options.id or "").partition(",")
    data, ids = read_samples(options.data, model.row_format, id_name or None, **reading(options))
    say_notes(data.notes, options)
    labels, proba = _answers(model, data, options)
    numbers = list(range(1, len(data) + 1)) if ids is None else ids
    if id_name:
        columns = {id_name: numbers, label_name or "Label": labels.tolist()}
    else:
        columns = {"row": numbers, **_prediction_columns(labels)}
        if proba is not None:
            columns["probability"] = [round(float(value), 6) for value in proba.max(axis=1)]
    _write(columns, options)


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
    import csv
    import io

    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    if options.out is not None:
        from fastnn.checks import display_path
        from fastnn.files.atomic import write_atomically

        write_atomically(options.out, table.getvalue().encode())
    if options.json:
        print(json.dumps([dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]))
    elif options.out is None:
        sys.stdout.write(table.getvalue())
    else:
        count = len(next(iter(columns.values())))
        print(f"{count:,} predictions in {display_path(options.out)}")


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
