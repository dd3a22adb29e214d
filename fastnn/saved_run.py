"""The folder of a run, read again: its history, its report, and the data it was judged by."""

import csv
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fastnn.atomic import shown
from fastnn.datasets import Dataset
from fastnn.errors import DataError, FileError
from fastnn.history import EpochRecord, History
from fastnn.recipes import get_recipe, split_files
from fastnn.runs import HISTORY, REPORT

_NUMBER = (float, int)
_DATA = {"name": str, "samples": int, "inputs": int, "sha256": str}
# What there is in every report.json, and of which type: tuples are alternatives, a list is one of any length.
_SCHEMA = {
    "network": str,
    "stopped": str,
    "backend": str,
    "epochs": int,
    "best_epoch": int,
    "seconds": _NUMBER,
    "settings": {"recipe": (str, type(None)), "files": (list, type(None)), "seed": int},
    "data": {"train": _DATA, "watched": _DATA, "test": _DATA},
    "versions": dict,
    "machine": dict,
}
# What only some have: the figures of a run that was judged, and what was found wrong with it.
_OPTIONAL = {
    "test_accuracy": _NUMBER,
    "test_loss": _NUMBER,
    "diagnosis": [{"name": str, "evidence": str, "advice": str}],
}


class SavedRun(NamedTuple):
    """The folder of a run, its history, and what its report.json holds."""

    path: Path
    history: History
    report: dict[str, Any]


def read_run(path: str | os.PathLike[str]) -> SavedRun:
    """Read history.csv and report.json of a run's folder.

    Raises
    ------
    FileError
        If there is no such folder, or a file of it is missing or cannot be read.
    DataError
        If a file is damaged.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise FileError(f"{shown(folder)} is no folder; expected that of a run, which fastnn train writes")
    history, report = (_text(folder, name) for name in (HISTORY, REPORT))
    return SavedRun(folder, _parse_history(history, folder / HISTORY), _parse_report(report, folder / REPORT))


def load_test_data(run: SavedRun, files: Sequence[str | os.PathLike[str]] | None = None) -> Dataset:
    """The data that a run is judged by, loaded or read again, and checked to be the same.

    Parameters
    ----------
    files : sequence of paths, optional
        Where the files are that the run was given as its data; by default where they were.

    Raises
    ------
    DataError, FileError
        If they cannot be found or read, or are others than those of the run.
    """
    settings, expected = run.report["settings"], run.report["data"]["test"]
    paths, seed, folder = files or settings["files"], settings["seed"], shown(run.path)
    try:
        test = (split_files(paths, seed) if paths else get_recipe(settings["recipe"]).load(seed)).test
    except FileError as error:
        raise FileError(f"{error}; expected the data of {folder}, say with --data where they are") from None
    if test.digest() != expected["sha256"]:
        raise DataError(
            f"{test.name}: {len(test):,} samples to judge by, and not the {expected['samples']:,} of {folder}; "
            f"expected the data that it was trained with, unchanged"
        )
    return test


def _text(folder: Path, name: str) -> str:
    try:
        return (folder / name).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise FileError(
            f"{shown(folder)} has no {name}; expected the folder of a run, which fastnn train writes"
        ) from None
    except UnicodeDecodeError:
        raise DataError(f"{shown(folder / name)}: is no UTF-8 text, expected what fastnn train writes") from None
    except OSError as error:
        raise FileError(f"{shown(folder / name)}: cannot read: {error.strerror or error}") from None


def _parse_history(text: str, path: Path) -> History:
    names = list(EpochRecord.__annotations__)
    try:
        header, *rows = csv.reader(io.StringIO(text)) if text else [[]]
    except csv.Error as error:
        raise DataError(f"{shown(path)}: is no CSV ({error}), expected what fastnn train writes") from None
    if header != names:
        raise DataError(f"{shown(path)}: line 1 is {','.join(header)[:80]!r}, expected {','.join(names)}")
    records = []
    for line, row in enumerate(rows, start=2):
        try:
            epoch, *figures = (float(field) if field else float("nan") for field in row)
            records.append(EpochRecord(int(epoch), *figures))
        except (TypeError, ValueError, OverflowError):
            raise DataError(
                f"{shown(path)}: line {line} is {','.join(row)[:80]!r}, expected {len(names)} numbers"
            ) from None
    if not records:
        raise DataError(f"{shown(path)}: holds no epoch, expected a line for each")
    return History(records)


def _parse_report(text: str, path: Path) -> dict[str, Any]:
    try:
        report = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{shown(path)}: is no JSON ({error}), expected what fastnn train writes") from None
    place = f"{shown(path)}: the report"
    _check(report, _SCHEMA, place)
    _check(report, {name: part for name, part in _OPTIONAL.items() if name in report}, place)
    settings = report["settings"]
    if (settings["recipe"] is None) == (settings["files"] is None):
        raise DataError(f"{shown(path)}: settings name both recipe and files or neither, expected one of them")
    _check(settings["files"] or [], [str], f"{place}'s files")
    return report


def _check(value: Any, schema: Any, place: str) -> None:
    """DataError, naming the place, where `value` has not the parts and types of `schema`."""
    types = type(schema) if isinstance(schema, (dict, list)) else schema
    if not isinstance(value, types) or isinstance(value, bool):
        expected = " or ".join(each.__name__ for each in (types if isinstance(types, tuple) else (types,)))
        raise DataError(f"{place} is {type(value).__name__}, expected {expected}, as fastnn train writes it")
    for name, part in schema.items() if isinstance(schema, dict) else ():
        if name not in value:
            raise DataError(f"{place} has no {name}, expected it as fastnn train writes it")
        _check(value[name], part, f"{place}'s {name}")
    for element in value if isinstance(schema, list) else ():
        _check(element, schema[0], place)
