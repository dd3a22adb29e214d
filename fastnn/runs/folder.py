"""The folder of a run: the model, its history, a report of how it came about, and three figures."""

import csv
import io
import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastnn.backends.warmup import compile_seconds
from fastnn.checks import display_path
from fastnn.datasets import Dataset
from fastnn.datasets.splits import Splits, split_files
from fastnn.errors import DataError, FileError
from fastnn.evaluation.evaluate import ClassEvaluation, evaluate_classes
from fastnn.explanation.diagnosis import diagnose
from fastnn.files.atomic import write_atomically
from fastnn.files.model_file import save
from fastnn.network import Network
from fastnn.runs.recipes import get_recipe
from fastnn.training.history import EpochRecord, History
from fastnn.training.train import EpochEnd, TrainingResult

MODEL, HISTORY, REPORT = "model.safetensors", "history.csv", "report.json"
CURVES, CONFUSION, MISTAKES = "curves.png", "confusion.png", "mistakes.png"
# A run that is killed leaves the model of its last checkpoint; one takes a few milliseconds.
SECONDS_BETWEEN_CHECKPOINTS = 5.0


class RunFolder:
    """The folder of one run. It is made, and tried, before training, and removed if nothing came of the run.

    Raises
    ------
    FileError
        If the folder cannot be made or written to, or holds a run already.
    """

    def __init__(self, path: str | os.PathLike[str] | None, name: str = "run") -> None:
        self.path = _unused("runs", name) if path is None else Path(path)
        if (self.path / MODEL).exists() or (self.path / REPORT).exists():
            raise FileError(f"{self.path} holds a run already; expected a new or empty folder")
        made = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not os.access(self.path, os.W_OK | os.X_OK):
                raise PermissionError(13, "it cannot be written to")
        except OSError as error:
            raise FileError(f"{self.path} cannot be used as the folder of a run: {error.strerror or error}") from None
        self._made, self._saved_at = made, time.monotonic()

    def checkpoint(self, data: Dataset) -> Any:
        """A callback of `fastnn.train` that saves the network every few seconds."""

        def callback(end: EpochEnd) -> None:
            if time.monotonic() - self._saved_at >= SECONDS_BETWEEN_CHECKPOINTS:
                self.save_network(end.network, data)
                self._saved_at = time.monotonic()

        return callback

    def save_network(self, network: Network, data: Dataset) -> None:
        """Write model.safetensors."""
        save(self.path / MODEL, network, image_shape=data.image_shape)

    def save_unfinished(self, result: TrainingResult, splits: Splits, settings: Mapping[str, Any]) -> None:
        """What there is of a run that broke off: the network after its last good epoch, history, and report."""
        if len(result.history):
            self._save(result, splits.train, _report(result, splits, settings))
        self.remove_if_empty()

    def save_history(self, history: History) -> None:
        """Write history.csv, a line an epoch."""
        table = io.StringIO()
        rows = csv.DictWriter(table, list(EpochRecord.__annotations__), lineterminator="\n")
        rows.writeheader()
        rows.writerows({name: _number(value) for name, value in asdict(record).items()} for record in history)
        write_atomically(self.path / HISTORY, table.getvalue().encode())

    def save_finished(self, result: TrainingResult, splits: Splits, settings: Mapping[str, Any]) -> "FinishedRun":
        """Judge the network by the test data and write all files of the run but its figures."""
        scores = evaluate_classes(result.network, splits.test, result.backend)
        report = _report(result, splits, settings, scores)
        self._save(result, splits.train, report)
        return FinishedRun(result, splits.test, scores.proba, report)

    def _save(self, result: TrainingResult, data: Dataset, report: Mapping[str, Any]) -> None:
        self.save_network(result.network, data)
        self.save_history(result.history)
        write_atomically(self.path / REPORT, (json.dumps(report, indent=2) + "\n").encode())

    def save_figures(self, run: "FinishedRun") -> None:
        """Write curves.png, confusion.png and mistakes.png."""
        from fastnn import plots

        test, proba = run.test, run.proba
        assert test.labels is not None
        plots.LearningCurveDisplay.from_history(run.result.history).save(self.path / CURVES)
        plots.ConfusionDisplay.from_predictions(test.labels, proba.argmax(axis=1)).save(self.path / CONFUSION)
        shape = test.image_shape or (1, test.images.shape[1])  # a table's row is drawn as a strip
        plots.MistakesDisplay.from_predictions(test.images, shape, test.labels, proba).save(self.path / MISTAKES)

    def remove_if_empty(self) -> None:
        """Remove the folders that were made for the run, as far as they are empty."""
        for folder in self._made:
            try:
                folder.rmdir()
            except OSError:
                return


class FinishedRun(NamedTuple):
    """What is left of a run once its training data are let go: `report` is what report.json holds."""

    result: TrainingResult
    test: Dataset
    proba: np.ndarray
    report: dict[str, Any]


def _report(
    result: TrainingResult, splits: Splits, settings: Mapping[str, Any], scores: ClassEvaluation | None = None
) -> dict[str, Any]:
    """What report.json holds; a run that broke off was not judged by the test data."""
    history = result.history
    figures: dict[str, Any] = {}
    if scores is not None:
        figures = {
            "test_accuracy": scores.accuracy,
            "test_loss": scores.loss,
            "per_class": [asdict(of_class) for of_class in scores.per_class],
            "confusion": scores.confusion.tolist(),
        }
    return {
        "epochs": len(history),
        "best_epoch": result.best_epoch,
        "stopped": result.stopped,
        "seconds": float(history.column("seconds").sum()),
        "compile_seconds": compile_seconds(result.backend),
        "backend": result.backend,
        "network": repr(result.network),
        "settings": dict(settings),
        "data": {
            "train": _describe(splits.train),
            "validation": _describe(splits.validation),
            "test": _describe(splits.test),
        },
        "last_epoch": {name: _number(value) for name, value in asdict(history[-1]).items()},
        "diagnosis": [
            asdict(finding)
            for finding in diagnose(result, None, splits.train, None if scores is None else scores.confusion)
        ],
        "versions": versions(),
        "machine": {"system": platform.platform(), "processor": platform.processor() or platform.machine()},
        **figures,
    }


def versions() -> dict[str, str]:
    """The versions of Python, fastnn and the packages that its figures depend on; "none" where one is missing."""
    found = {"python": platform.python_version()}
    for package in ("fastnn-digits", "numpy", "numba", "scikit-learn"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "none"
    return found


def _describe(data: Dataset) -> dict[str, Any]:
    return {"name": data.name, "samples": len(data), "inputs": data.images.shape[1], "sha256": data.digest()}


def _number(value: float) -> float | None:
    """None for NaN: JSON has none, and in CSV it is an empty field."""
    return None if value != value else value


def _unused(folder: str, name: str) -> Path:
    """A folder of today's that does not exist yet."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    path, count = Path(folder) / f"{stamp}-{name}", 1
    while path.exists():
        count += 1
        path = Path(folder) / f"{stamp}-{name}-{count}"
    return path


# --- Reading a run's folder ---
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
    "data": {"train": _DATA, "test": _DATA},
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
        raise FileError(f"{display_path(folder)} is no folder; expected that of a run, which fastnn train writes")
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
    paths, seed, folder = files or settings["files"], settings["seed"], display_path(run.path)
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
            f"{display_path(folder)} has no {name}; expected the folder of a run, which fastnn train writes"
        ) from None
    except UnicodeDecodeError:
        raise DataError(f"{display_path(folder / name)}: is no UTF-8 text, expected what fastnn train writes") from None
    except OSError as error:
        raise FileError(f"{display_path(folder / name)}: cannot read: {error.strerror or error}") from None


def _parse_history(text: str, path: Path) -> History:
    names = list(EpochRecord.__annotations__)
    try:
        header, *rows = csv.reader(io.StringIO(text)) if text else [[]]
    except csv.Error as error:
        raise DataError(f"{display_path(path)}: is no CSV ({error}), expected what fastnn train writes") from None
    if header != names:
        raise DataError(f"{display_path(path)}: line 1 is {','.join(header)[:80]!r}, expected {','.join(names)}")
    records = []
    for line, row in enumerate(rows, start=2):
        try:
            epoch, *figures = (float(field) if field else float("nan") for field in row)
            records.append(EpochRecord(int(epoch), *figures))
        except (TypeError, ValueError, OverflowError):
            raise DataError(
                f"{display_path(path)}: line {line} is {','.join(row)[:80]!r}, expected {len(names)} numbers"
            ) from None
    if not records:
        raise DataError(f"{display_path(path)}: holds no epoch, expected a line for each")
    return History(records)


def _parse_report(text: str, path: Path) -> dict[str, Any]:
    try:
        report = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{display_path(path)}: is no JSON ({error}), expected what fastnn train writes") from None
    place = f"{display_path(path)}: the report"
    _check(report, _SCHEMA, place)
    _check(report, {name: part for name, part in _OPTIONAL.items() if name in report}, place)
    settings = report["settings"]
    if (settings["recipe"] is None) == (settings["files"] is None):
        raise DataError(f"{display_path(path)}: settings name both recipe and files or neither, expected one of them")
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
