"""The folder of a run: the model, its history, a report of how it came about, and three figures."""

import csv
import io
import json
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastnn import evaluation
from fastnn.atomic import write_atomically
from fastnn.backends import reference
from fastnn.compilation import compile_seconds
from fastnn.datasets import Dataset
from fastnn.diagnosis import diagnose
from fastnn.errors import FileError
from fastnn.history import EpochRecord, History
from fastnn.judging import predict_and_lose
from fastnn.model_file import save
from fastnn.network import Network
from fastnn.recipes import Splits
from fastnn.training import EpochEnd, TrainingResult

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
        judgement = judge(result.network, splits.test, result.backend)
        report = _report(result, splits, settings, judgement)
        self._save(result, splits.train, report)
        return FinishedRun(result, splits.test, judgement.proba, report)

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


class Judgement(NamedTuple):
    """How a network does on labelled data: confusion (C, C), a score a class, and the probabilities (N, C)."""

    accuracy: float
    loss: float
    confusion: np.ndarray
    per_class: list[evaluation.ClassScores]
    proba: np.ndarray


def judge(network: Network, data: Dataset, backend: str) -> Judgement:
    """Run a network over labelled data once.

    Raises
    ------
    DataError
        If the data have no labels or do not fit the network.
    """
    logits, labels, loss, _ = predict_and_lose(network, data, backend)
    counts = evaluation.confusion(labels, logits.argmax(axis=1), network.n_classes)
    accuracy = float(np.trace(counts) / counts.sum())
    return Judgement(accuracy, loss, counts, evaluation.per_class(counts), reference.softmax(logits))


def _report(
    result: TrainingResult, splits: Splits, settings: Mapping[str, Any], judgement: Judgement | None = None
) -> dict[str, Any]:
    """What report.json holds; a run that broke off was not judged by the test data."""
    history = result.history
    figures: dict[str, Any] = {}
    if judgement is not None:
        figures = {
            "test_accuracy": judgement.accuracy,
            "test_loss": judgement.loss,
            "per_class": [asdict(scores) for scores in judgement.per_class],
            "confusion": judgement.confusion.tolist(),
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
            "watched": _describe(splits.watched),
            "test": _describe(splits.test),
        },
        "last_epoch": {name: _number(value) for name, value in asdict(history[-1]).items()},
        "diagnosis": [
            asdict(finding)
            for finding in diagnose(result, None, splits.train, None if judgement is None else judgement.confusion)
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
