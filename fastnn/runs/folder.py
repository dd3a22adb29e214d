"""Writes and reads a run folder: the model, its history, a JSON report and three figures."""

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
from fastnn.datasets.splits import split_files
from fastnn.errors import DataError, FileError
from fastnn.evaluation.evaluate import ClassEvaluation, RegressionEvaluation, evaluate, evaluate_model
from fastnn.explanation.diagnosis import diagnose
from fastnn.files.atomic import write_atomically
from fastnn.files.model_file import save
from fastnn.models import Model
from fastnn.network import Network
from fastnn.runs.plan import Plan
from fastnn.runs.recipes import get_recipe
from fastnn.training.history import EpochRecord, History
from fastnn.training.train import EpochEnd, TrainingResult

MODEL, HISTORY, REPORT = "model.safetensors", "history.csv", "report.json"
CURVES, CONFUSION, MISTAKES, PREDICTIONS = "curves.png", "confusion.png", "mistakes.png", "predictions.png"
# A killed run leaves the model of its last checkpoint. Writing one takes a few milliseconds.
SECONDS_BETWEEN_CHECKPOINTS = 5.0


class RunFolder:
    """The folder of one run. It is created and checked before training, and removed if the run leaves no files.

    Raises FileError if the folder cannot be created or written to, or already holds a run.
    """

    def __init__(self, path: str | os.PathLike[str] | None, name: str = "run") -> None:
        self.path = _unused("runs", name) if path is None else Path(path)
        if (self.path / MODEL).exists() or (self.path / REPORT).exists():
            raise FileError(f"{self.path} already holds a run, expected a new or empty folder")
        created = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not os.access(self.path, os.W_OK | os.X_OK):
                raise PermissionError(13, "it is not writable")
        except OSError as error:
            raise FileError(f"{self.path} cannot be used as the folder of a run: {error.strerror or error}") from None
        self._created, self._saved_at = created, time.monotonic()

    def checkpoint(self, plan: Plan) -> Any:
        """Return a callback for `fastnn.train` that saves the network every few seconds."""

        def callback(end: EpochEnd) -> None:
            if time.monotonic() - self._saved_at >= SECONDS_BETWEEN_CHECKPOINTS:
                self.save_network(end.network, plan)
                self._saved_at = time.monotonic()

        return callback

    def save_network(self, network: Network, plan: Plan) -> None:
        """Write model.safetensors."""
        save(self.path / MODEL, plan.model(network))

    def save_unfinished(self, result: TrainingResult, plan: Plan, settings: Mapping[str, Any]) -> None:
        """Write the network, history and report of an interrupted or diverged run; nothing without a complete epoch."""
        if len(result.history):
            self._save(result, plan, _report(result, plan, settings))
        self.remove_if_empty()

    def save_finished(self, result: TrainingResult, plan: Plan, settings: Mapping[str, Any]) -> "FinishedRun":
        """Evaluate the network on the test set and write all files of the run except its figures."""
        model, test = plan.model(result.network), plan.splits.test
        scores = evaluate_model(model, test, result.backend)
        if plan.scale is not None:  # the loss of the same targets as in the history
            loss, _ = evaluate(result.network, plan.for_training(test), backend=result.backend)
            scores = scores._replace(loss=loss)
        report = _report(result, plan, settings, scores)
        self._save(result, plan, report)
        return FinishedRun(result, model, test, scores, report)

    def _save(self, result: TrainingResult, plan: Plan, report: Mapping[str, Any]) -> None:
        self.save_network(result.network, plan)
        table = io.StringIO()
        rows = csv.DictWriter(table, list(EpochRecord.__annotations__), lineterminator="\n")
        rows.writeheader()
        rows.writerows(map(_numbers, result.history))
        write_atomically(self.path / HISTORY, table.getvalue().encode())
        write_atomically(self.path / REPORT, (json.dumps(report, indent=2) + "\n").encode())

    def save_figures(self, run: "FinishedRun") -> None:
        """Write curves.png; of classes confusion.png and, for images, mistakes.png; of a regression predictions.png."""
        from fastnn import plots

        plots.LearningCurveDisplay.from_history(run.result.history).save(self.path / CURVES)
        scores, names = run.scores, run.model.class_names
        if isinstance(scores, RegressionEvaluation):
            plots.RegressionDisplay(scores.targets, scores.predicted).save(self.path / PREDICTIONS)
            return
        plots.ConfusionDisplay(scores.confusion, names).save(self.path / CONFUSION)
        if run.test.image_shape is not None:
            images = (run.test.images, run.test.image_shape, scores.labels, scores.proba)
            plots.MistakesDisplay.from_predictions(*images, names).save(self.path / MISTAKES)

    def remove_if_empty(self) -> None:
        """Remove the folders created for the run, innermost first, up to the first that is not empty."""
        for folder in self._created:
            try:
                folder.rmdir()
            except OSError:
                return


class FinishedRun(NamedTuple):
    """A finished run without its training data."""

    result: TrainingResult
    model: Model
    test: Dataset
    scores: ClassEvaluation | RegressionEvaluation
    report: dict[str, Any]  # the contents of report.json


def _report(
    result: TrainingResult,
    plan: Plan,
    settings: Mapping[str, Any],
    scores: ClassEvaluation | RegressionEvaluation | None = None,
) -> dict[str, Any]:
    """Return the contents of report.json. `scores` is None for an unfinished run, which is not evaluated."""
    history, confusion, splits = result.history, None, plan.splits
    training = plan.for_training(splits.train)
    test_metrics: dict[str, Any] = {}
    if isinstance(scores, RegressionEvaluation):
        r2 = None if np.isnan(scores.r2) else scores.r2
        test_metrics = {"test_r2": r2, "test_rmse": scores.rmse, "test_mae": scores.mae, "test_loss": scores.loss}
    elif scores is not None:
        confusion = scores.confusion
        test_metrics = {
            "test_accuracy": scores.accuracy,
            "test_loss": scores.loss,
            "per_class": [asdict(of_class) for of_class in scores.per_class],
            "confusion": confusion.tolist(),
        }
    return {
        "task": plan.task,
        "date": time.strftime("%Y-%m-%d %H:%M:%S"),
        "epochs": len(history),
        "best_epoch": result.best_epoch,
        "stopped": result.stopped,
        "seconds": float(history.column("seconds").sum()),
        "compile_seconds": compile_seconds(result.backend),
        "backend": result.backend,
        "network": repr(result.network),
        "settings": dict(settings),
        "data": {name: _describe(data) for name, data in splits._asdict().items()},
        "notes": list(plan.notes),
        "last_epoch": _numbers(history[-1]),
        "diagnosis": [asdict(finding) for finding in diagnose(result, None, training, confusion, for_command=True)],
        "versions": versions(),
        "machine": {"system": platform.platform(), "processor": platform.processor() or platform.machine()},
        **test_metrics,
    }


def versions() -> dict[str, str]:
    """Return the versions of Python, fastnn and the packages that affect its results; "none" for a missing one."""
    found = {"python": platform.python_version()}
    for package in ("fastnn-digits", "numpy", "numba", "scikit-learn"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "none"
    return found


def _describe(data: Dataset) -> dict[str, Any]:
    return {"name": data.name, "samples": len(data), "inputs": data.images.shape[1], "sha256": data.digest()}


def _numbers(record: EpochRecord) -> dict[str, float | None]:
    """Return the metrics by name, with None for NaN: JSON has no NaN, and CSV writes None as an empty field."""
    return {name: None if value != value else value for name, value in asdict(record).items()}


def _unused(folder: str, name: str) -> Path:
    """Return a path that does not exist yet, named after the date and time."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    path, count = Path(folder) / f"{stamp}-{name}", 1
    while path.exists():
        count += 1
        path = Path(folder) / f"{stamp}-{name}-{count}"
    return path


# --- Reading a run folder ---
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
    if not folder.is_dir():
        raise FileError(f"{display_path(folder)} is not a folder, {_EXPECTED_FOLDER}")
    history, report = (_text(folder, name) for name in (HISTORY, REPORT))
    return SavedRun(folder, _parse_history(history, folder / HISTORY), _parse_report(report, folder / REPORT))


def load_test_data(run: SavedRun, files: Sequence[str | os.PathLike[str]] | None = None) -> Dataset:
    """Load the test set of a run again, from the recorded files or from `files`, their new locations.

    Raises FileError if a file cannot be read, and DataError if one is damaged or the test set is not the recorded one.
    """
    settings, expected = run.report["settings"], run.report["data"]["test"]
    paths, seed, folder = files or settings["files"], settings["seed"], display_path(run.path)
    reading = settings.get("reading", {})
    try:
        test = (split_files(paths, seed, **reading) if paths else get_recipe(settings["recipe"]).load(seed)).test
    except FileError as error:
        raise FileError(f"{error}; expected the data of {folder}; give their new location with --data") from None
    if test.digest() != expected["sha256"]:
        raise DataError(
            f"{test.name}: the test set of {len(test):,} samples differs from that of {folder}, "
            f"expected the {expected['samples']:,} samples of that run, unchanged"
        )
    return test


def _text(folder: Path, name: str) -> str:
    try:
        return (folder / name).read_text(encoding="utf-8")
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
