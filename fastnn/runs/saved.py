"""Reads the folder of a run: its history, its report and its test set."""

import csv
import io
import json
import os
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from fastnn.checks import display_path
from fastnn.datasets import Dataset
from fastnn.datasets.files import open_binary
from fastnn.errors import DataError, FileError
from fastnn.files.checkpoint_file import CHECKPOINT, load_existing
from fastnn.runs.data import read_splits
from fastnn.runs.recipes import get_recipe
from fastnn.streams import BlockedData
from fastnn.training.checkpoint import as_history, data_digest
from fastnn.training.history import EpochRecord, History

HISTORY, REPORT = "history.csv", "report.json"
# Why a run that has not ended, or was killed, stopped.
RUNNING = "running"
_EXPECTED_FOLDER = "expected a run folder as fastnn train writes it"
_EXPECTED_FILE = "expected a file as fastnn train writes it"
_NUMBER = (float, int)
_DATA = {"name": str, "samples": int, "inputs": int, "sha256": str}
# Required entries of report.json and their types. A tuple lists alternatives; a list has any length.
_SCHEMA = {
    "network": str,
    "stopped": str,
    "backend": str,
    "epochs": int,
    "best_epoch": int,
    "seconds": _NUMBER,
    "settings": {"recipe": (str, type(None)), "files": (list, type(None)), "seed": int},
    "data": {"train": _DATA, "validation": _DATA, "test": _DATA},
    "versions": dict,
    "machine": dict,
}
# Optional entries: the metrics of an evaluated run and the findings of its diagnosis.
_OPTIONAL = {
    "test_accuracy": _NUMBER,
    "test_loss": _NUMBER,
    "test_r2": (*_NUMBER, type(None)),
    "test_rmse": _NUMBER,
    "task": str,
    "diagnosis": [{"name": str, "evidence": str, "advice": str}],
    "members": [{"folder": str, "seed": int, "epochs": int, "best_epoch": int, "test_loss": _NUMBER}],
}


class SavedRun(NamedTuple):
    """A run read from its folder."""

    path: Path
    history: History
    report: dict[str, Any]  # the contents of report.json


def read_run(path: str | os.PathLike[str]) -> SavedRun:
    """Read history.csv and report.json from a run folder.

    Raises FileError if there is no such folder, or one of the files cannot be read, and DataError if one is damaged.
    """
    folder = Path(path)
    if not os.path.isdir(folder):
        raise FileError(f"{display_path(folder)} is not a folder, {_EXPECTED_FOLDER}")
    report = read_report(folder)
    if report["stopped"] == RUNNING:
        return _read_running(folder, report)
    return SavedRun(folder, _parse_history(_text(folder, HISTORY), folder / HISTORY), report)


def read_report(folder: Path) -> dict[str, Any]:
    return _parse_report(_text(folder, REPORT), folder / REPORT)


def _read_running(folder: Path, report: dict[str, Any]) -> SavedRun:
    """Return a run that is running or was killed, as its last checkpoint has it; FileError without a whole epoch."""
    if report["settings"].get("members") is not None:
        raise FileError(
            f"{display_path(folder)} is a run of several members that has not ended, expected one that has; continue "
            f"it with fastnn train --resume {shlex.quote(str(folder))}"
        )
    state = load_existing(folder / CHECKPOINT)
    if state is None or not len(state.history):
        raise FileError(
            f"{display_path(folder)} has no whole epoch yet, expected one; continue the run with "
            f"fastnn train --resume {shlex.quote(str(folder))}"
        )
    history = as_history(state.history)
    found = {
        "epochs": len(history),
        "best_epoch": state.best_epoch,
        "seconds": float(history.column("seconds").sum()),
        "backend": state.backend,
        "last_epoch": numbers(history[-1]),
    }
    return SavedRun(folder, history, report | found)


def numbers(record: EpochRecord) -> dict[str, float | None]:
    """Return the metrics by name, with None for NaN: JSON has no NaN, and CSV writes None as an empty field."""
    return {name: None if value != value else value for name, value in asdict(record).items()}


def load_test_data(run: SavedRun, files: Sequence[str | os.PathLike[str]] | None = None) -> Dataset:
    """Load the test set of a run again, from the recorded files or from `files`, their new locations.

    Raises FileError if a file cannot be read, and DataError if one is damaged or the test set is not the recorded one.
    """
    return _load(run, "test", "test set", files)


def load_training_data(run: SavedRun) -> Dataset:
    """Load the training data of a run again, as `load_test_data` does its test set; of data in blocks, first rows."""
    return _load(run, "train", "training data", None)


def _load(run: SavedRun, part: str, words: str, files: Sequence[str | os.PathLike[str]] | None) -> Dataset:
    settings, expected = run.report["settings"], run.report["data"][part]
    paths, folder = files or settings["files"], display_path(run.path)
    seed = settings["seed"] if settings.get("split_seed") is None else settings["split_seed"]
    reading = settings.get("reading", {})
    try:
        splits = read_splits(paths, seed, **reading) if paths else get_recipe(settings["recipe"]).load(seed)
    except FileError as error:
        raise FileError(f"{error}; expected the data of {folder}; give their new location with --data") from None
    data = getattr(splits, part)
    if data_digest(data) != expected["sha256"]:
        raise DataError(
            f"{data.name}: the {words} of {len(data):,} samples differs from that of {folder}, "
            f"expected the {expected['samples']:,} samples of that run, unchanged"
        )
    return data.head() if isinstance(data, BlockedData) else data


def _text(folder: Path, name: str) -> str:
    """Return the text of a file of a run; a pipe or a device in its place is refused, because it could block."""
    try:
        os.stat(folder / name)
        with open_binary(folder / name) as file:
            return file.read().decode()
    except FileError:
        raise
    except FileNotFoundError:
        raise FileError(f"{display_path(folder)} has no {name}, {_EXPECTED_FOLDER}") from None
    except UnicodeDecodeError:
        raise DataError(f"{display_path(folder / name)}: is not UTF-8 text, {_EXPECTED_FILE}") from None
    except OSError as error:
        raise FileError(f"{display_path(folder / name)}: cannot be read: {error.strerror or error}") from None


def _parse_history(text: str, path: Path) -> History:
    names = list(EpochRecord.__annotations__)
    try:
        header, *rows = csv.reader(io.StringIO(text)) if text else [[]]
    except csv.Error as error:
        raise DataError(f"{display_path(path)}: is not CSV ({error}), {_EXPECTED_FILE}") from None
    if header != names:
        raise DataError(f"{display_path(path)}: line 1 is {','.join(header)[:80]!r}, expected {','.join(names)}")
    records = []
    for line, row in enumerate(rows, start=2):
        try:
            epoch, *metrics = (float(field) if field else float("nan") for field in row)
            records.append(EpochRecord(int(epoch), *metrics))
        except (TypeError, ValueError, OverflowError):
            found = f"line {line} is {','.join(row)[:80]!r}"
            raise DataError(f"{display_path(path)}: {found}, expected {len(names)} numbers") from None
    if not records:
        raise DataError(f"{display_path(path)}: has no epochs, expected one line per epoch")
    return History(records)


def _parse_report(text: str, path: Path) -> dict[str, Any]:
    try:
        report = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{display_path(path)}: is not JSON ({error}), {_EXPECTED_FILE}") from None
    whole = f"{display_path(path)}: the report"
    data = report.get("data") if isinstance(report, dict) else None
    if isinstance(data, dict) and "watched" in data:  # the name of the validation data in older reports
        data["validation"] = data.pop("watched")
    _check(report, _SCHEMA, whole)
    _check(report, {name: part for name, part in _OPTIONAL.items() if name in report}, whole)
    settings = report["settings"]
    if settings["recipe"] is None and settings["files"] is None:
        raise DataError(f"{display_path(path)}: settings name neither recipe nor files, expected one of them")
    _check(settings["files"] or [], [str], f"{whole}'s files")
    return report


def _check(value: Any, schema: Any, name: str) -> None:
    """Raise a DataError that names the entry if `value` does not have the keys and types of `schema`."""
    types = type(schema) if isinstance(schema, (dict, list)) else schema
    if not isinstance(value, types) or isinstance(value, bool):
        expected = " or ".join(each.__name__ for each in (types if isinstance(types, tuple) else (types,)))
        raise DataError(f"{name} is {type(value).__name__}, expected {expected}, as fastnn train writes it")
    for key, part in schema.items() if isinstance(schema, dict) else ():
        if key not in value:
            raise DataError(f"{name} has no {key}, expected it as fastnn train writes it")
        _check(value[key], part, f"{name}'s {key}")
    for element in value if isinstance(schema, list) else ():
        _check(element, schema[0], name)
