"""Writes the folder of a run: the model, its history, a JSON report and figures."""

import csv
import io
import itertools
import json
import logging
import os
import platform
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastnn.backends.warmup import compile_seconds
from fastnn.checks import display_path
from fastnn.datasets import Dataset
from fastnn.errors import DataError, FileError
from fastnn.evaluation.evaluate import ClassEvaluation, RegressionEvaluation, evaluate, evaluate_model
from fastnn.explanation.diagnosis import diagnose
from fastnn.files.atomic import is_temporary, write_atomically
from fastnn.files.checkpoint_file import CHECKPOINT, RunState, load_existing, previous_path
from fastnn.files.lock import LOCK, FolderLock
from fastnn.files.model_file import save
from fastnn.files.snapshot_file import SNAPSHOTS
from fastnn.models import Model
from fastnn.network import Network
from fastnn.runs.plan import Plan
from fastnn.runs.saved import HISTORY, REPORT, RUNNING, numbers, read_report
from fastnn.runs.snapshots import SnapshotRecorder
from fastnn.streams import BlockedView
from fastnn.training.checkpoint import data_digest
from fastnn.training.history import EpochRecord, History
from fastnn.training.train import EpochEnd, TrainingResult

MODEL = "model.safetensors"
CURVES, CONFUSION, MISTAKES, PREDICTIONS = "curves.png", "confusion.png", "mistakes.png", "predictions.png"
RATES = "learning-rate.png"
# A killed run leaves a model that is at most so many seconds, or an epoch, old. Writing one takes a few milliseconds.
SECONDS_BETWEEN_MODELS = 5.0
# What a run may keep on disk at once: the model, two checkpoints with two numbers of an optimizer for each weight, and
# a temporary file of one; and its figures, history and report.
_COPIES, _BYTES_OF_FIGURES = 10, 2_000_000
# Seconds before a file that could not be written at the end of a run is tried again.
_PAUSES = (0.1, 1.0, 3.0)
_LOGGER = logging.getLogger("fastnn")


class RunFolder:
    """The folder of one run: created, locked and checked before training. Leave it, as a context manager, at the end.

    While the run lasts, no other process can use the folder. At the end, the lock is removed, and so are the folders
    that were created for the run if it leaves no files. `resumed`: whether the folder is that of a run to continue.

    Raises FileError if the folder cannot be created or written to, is in use by another process, or is not empty;
    with `resumed`, if it does not exist or has no report.
    """

    def __init__(self, path: str | os.PathLike[str] | None, name: str = "run", *, resumed: bool = False) -> None:
        self._created: list[Path] = []
        self._lock: FolderLock | None = None
        self._failing = False
        try:
            if path is None:
                self.path = self._create_unused(Path("runs"), name)
            else:
                self.path = Path(path)
                if resumed:
                    read_report(self.path)
                else:
                    self._create(self.path)
            self._lock = FolderLock(self.path)
            if not resumed:
                self._check_empty()
        except FileError:
            self.close()
            raise
        except (OSError, ValueError) as error:  # ValueError: the path has a NUL or invalid characters
            self.close()
            reason = getattr(error, "strerror", None) or error
            shown = display_path(path or "runs")
            raise FileError(f"{shown} cannot be used as the folder of a run: {reason}") from None

    def __enter__(self) -> "RunFolder":
        """Return the folder."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the folder."""
        self.close()

    def close(self) -> None:
        """End the lock, and remove the folders created for the run, innermost first, up to the first with a file."""
        if self._lock is not None:
            self._lock.release()
        for folder in self._created:
            try:
                folder.rmdir()
            except OSError:
                return

    def check_free_space(self, network: Network) -> None:
        """Log a warning if the disk has less than twice the space that the files of the run are expected to need."""
        n_bytes = sum(array.nbytes for array in (*network.weights, *network.biases))
        expected = _COPIES * n_bytes + _BYTES_OF_FIGURES
        try:
            free = shutil.disk_usage(self.path).free
        except OSError:
            return
        if free < 2 * expected:
            shown = display_path(self.path)
            found = f"{free / 1e6:,.1f} MB are free, and the files of the run may need {expected / 1e6:,.1f} MB"
            _LOGGER.warning("%s: the disk is almost full: %s", shown, found)

    # --- Writing, in the order of a run ---
    @property
    def checkpoint_path(self) -> Path:
        """The file with the state of the run."""
        return self.path / CHECKPOINT

    def state(self) -> RunState | None:
        """Return the state of the run that the folder has, or None if it was stopped before the first checkpoint."""
        return load_existing(self.checkpoint_path)

    def begin(self, record: "RunRecord") -> None:
        """Write the report of a run that is running, so that it can continue if it is killed."""
        nothing = TrainingResult(record.plan.network, History(), 0, RUNNING, record.plan.config.backend)
        report = {**_report(nothing, record), "settings": record.settings}
        self._write(REPORT, as_json(report))

    def check_data(self, record: "RunRecord") -> None:
        """Raise DataError unless the data are those that the run in the folder has begun with."""
        recorded = read_report(self.path)["data"]
        for name, data in record.data.items():
            if data["sha256"] != recorded[name]["sha256"]:
                raise DataError(
                    f"{data['name']}: the {name} set of {data['samples']:,} samples differs from that of "
                    f"{display_path(self.path)}, expected its {recorded[name]['samples']:,} samples, unchanged"
                )

    def as_begun(self, record: "RunRecord") -> "RunRecord":
        """Return the record with the names of the data and the notes with which the run in the folder has begun.

        Names have the path of a file as it was given, which the report must not show of every resumption. Other data,
        as with ``--force``, keep their own names.
        """
        report, splits = read_report(self.path), record.plan.splits
        begun = report["data"]
        if any(data["sha256"] != begun[name]["sha256"] for name, data in record.data.items()):
            return record
        named: dict[str, Any] = {name: _named(part, begun[name]["name"]) for name, part in splits._asdict().items()}
        notes = tuple(report.get("notes", record.plan.notes))
        plan = replace(record.plan, splits=splits._replace(**named), notes=notes)
        data = {name: {**data, "name": begun[name]["name"]} for name, data in record.data.items()}
        return RunRecord(plan, record.settings, data)

    def discard(self) -> None:
        """Remove what a run leaves that was stopped before its first step."""
        for path in (self.path / REPORT, self.checkpoint_path, previous_path(self.checkpoint_path)):
            with suppress(OSError):
                os.unlink(path)

    def saver(self, record: "RunRecord") -> "_Saver":
        """Return a callback for `fastnn.train` that writes the report at the beginning, and the network now and then.

        If the network cannot be saved, as on a full disk, one warning says so, and training goes on.
        """
        return _Saver(self, record)

    def snapshot_recorder(self, plan: Plan, most: int) -> SnapshotRecorder:
        """Return a callback for `fastnn.train` that keeps at most so many snapshots and writes their file."""
        shape, config = plan.model(plan.network).image_shape, plan.config
        epochs = config.epochs if config.early_stopping is None else None
        return SnapshotRecorder(plan.network, shape, most, epochs, lambda data: self._write(SNAPSHOTS, data))

    def try_to_save(self, write: Callable[[], object]) -> None:
        """Call `write` during training. The first of several failures in a row is logged, and so is the recovery."""
        try:
            write()
        except (FileError, MemoryError) as error:
            if not self._failing:
                _LOGGER.warning("the model is not saved: %s; training goes on", error or "out of memory")
            self._failing = True
        else:
            if self._failing:
                _LOGGER.warning("the model is saved again")
            self._failing = False

    def save_network(self, network: Network, plan: Plan) -> None:
        """Write model.safetensors."""
        save(self.path / MODEL, plan.model(network))

    def save(self, result: TrainingResult, record: "RunRecord") -> None:
        """Write the model, the history and the report of a run that has ended in any way, in this order.

        Nothing is evaluated or diagnosed for it, so little can go wrong. A run without a complete epoch has no model,
        and leaves nothing at all if it was stopped before its first step. A file that cannot be written is tried again
        for some seconds. The others are written all the same, and the last error is raised.
        """
        if not len(result.history) and result.stopped in ("interrupted", "diverged", "failed"):
            if not self._has_trained():
                self.discard()
            return
        with ExitStack() as files:  # calls the last one first, and each of them whatever the others raise
            files.callback(_persist, lambda: self._write(REPORT, as_json(_report(result, record))))
            files.callback(_persist, lambda: self._write(HISTORY, as_csv(result.history)))
            files.callback(_persist, lambda: self.save_network(result.network, record.plan))

    def _has_trained(self) -> bool:
        """Whether the folder has a state after some steps."""
        try:
            state = self.state()
        except (FileError, DataError):
            return True  # whatever it is, it is not thrown away
        return state is not None and state.trainer.steps > 0

    def save_diagnosis(self, result: TrainingResult, record: "RunRecord") -> None:
        """Add the diagnosis to the report of an unfinished run."""
        if len(result.history):
            self._write(REPORT, as_json(_diagnosed(_report(result, record), result, record.plan)))

    def evaluate(self, result: TrainingResult, record: "RunRecord") -> "FinishedRun":
        """Evaluate the network on the test set, diagnose the run, and write both into the report."""
        plan = record.plan
        model, test = plan.model(result.network), plan.splits.test
        scores = evaluate_model(model, test, result.backend)
        if plan.scale is not None:  # the loss of the same targets as in the history
            loss, _ = evaluate(result.network, plan.for_training(test), backend=result.backend)
            scores = scores._replace(loss=loss)
        report = _diagnosed({**_report(result, record), **metrics_of(scores)}, result, plan, scores)
        self._write(REPORT, as_json(report))
        return FinishedRun(result, model, test, scores, report)

    def save_figures(self, run: "FinishedRun") -> None:
        """Write curves.png; of classes confusion.png and, for images, mistakes.png; of a regression predictions.png."""
        from fastnn import plots

        if len(run.result.history):
            plots.LearningCurveDisplay.from_history(run.result.history).save(self.path / CURVES)
        if run.result.rate_search is not None:
            plots.RateSearchDisplay.from_search(run.result.rate_search).save(self.path / RATES)
        self.save_test_figures(run.model, run.test, run.scores)

    def save_test_figures(self, model: Model, test: Dataset, scores: ClassEvaluation | RegressionEvaluation) -> None:
        """Write the figures of `save_figures` that show the test set."""
        from fastnn import plots

        names = model.class_names
        if isinstance(scores, RegressionEvaluation):
            plots.RegressionDisplay(scores.targets, scores.predicted).save(self.path / PREDICTIONS)
            return
        plots.ConfusionDisplay(scores.confusion, names).save(self.path / CONFUSION)
        if test.image_shape is not None:
            images = (test.images, test.image_shape, scores.labels, scores.proba)
            plots.MistakesDisplay.from_predictions(*images, names).save(self.path / MISTAKES)

    def _write(self, name: str, data: bytes) -> None:
        write_atomically(self.path / name, data)

    # --- The folder itself ---
    def _create_unused(self, parent: Path, name: str) -> Path:
        """Create a folder in `parent`, named after the date and time, that no other process has; return its path."""
        stamp = time.strftime("%Y%m%d-%H%M%S")
        for count in itertools.count(1):
            path = parent / (f"{stamp}-{name}" if count == 1 else f"{stamp}-{name}-{count}")
            try:
                self._create(path, exist_ok=False)
            except FileExistsError:
                if not os.path.lexists(path):  # a parent is a file
                    raise
            else:
                return path
        raise AssertionError

    def _create(self, path: Path, *, exist_ok: bool = True) -> None:
        """Create the folder and its parents, and note which of them are new."""
        missing = list(itertools.takewhile(lambda folder: not os.path.lexists(folder), (path, *path.parents)))
        path.mkdir(parents=True, exist_ok=exist_ok)
        self._created = missing

    def _check_empty(self) -> None:
        """Raise FileError if the folder holds any file that this run could overwrite or mix with its own."""
        found = {name for name in os.listdir(self.path) if name != LOCK and not is_temporary(name)}
        if found:
            holds = "a run" if {MODEL, REPORT} & found else f"other files, such as {display_path(min(found))}"
            raise FileError(f"{display_path(self.path)} already holds {holds}, expected a new or empty folder")


class _Saver:
    """The callback of `RunFolder.saver`."""

    def __init__(self, folder: RunFolder, record: "RunRecord") -> None:
        self._folder, self._record, self._saved_at = folder, record, time.monotonic()

    def begin(self) -> None:
        """Write the report of a running run, once nothing in the arguments of `train` was wrong."""
        self._folder.begin(self._record)

    def __call__(self, end: EpochEnd) -> None:
        if time.monotonic() - self._saved_at >= SECONDS_BETWEEN_MODELS:
            self._folder.try_to_save(lambda: self._folder.save_network(end.network, self._record.plan))
            self._saved_at = time.monotonic()


def _persist(write: Callable[[], object]) -> None:
    """Call `write` until it succeeds; after some seconds, raise its error. Hours of training are worth the wait."""
    for pause in _PAUSES:
        try:
            write()
            return
        except FileError as error:
            _LOGGER.warning("%s; it is tried again", error)
            time.sleep(pause)
    write()


class RunRecord(NamedTuple):
    """What the report says of a run before it starts."""

    plan: Plan
    settings: dict[str, Any]
    data: dict[str, dict[str, Any]]  # the name, size and digest of each split

    @classmethod
    def of(cls, plan: Plan, settings: Mapping[str, Any]) -> "RunRecord":
        """Return the record. It computes the digests of the data, so that the end of a run need not."""
        data = {name: _describe(data) for name, data in plan.splits._asdict().items()}
        return cls(plan, dict(settings), data)


class FinishedRun(NamedTuple):
    """A finished run without its training data."""

    result: TrainingResult
    model: Model
    test: Dataset
    scores: ClassEvaluation | RegressionEvaluation
    report: dict[str, Any]  # the contents of report.json


def _report(result: TrainingResult, record: RunRecord) -> dict[str, Any]:
    """Return the contents of report.json for a run that is neither evaluated nor diagnosed yet.

    The recorded learning rate is the number that the run used, where the setting is a rule or a search.
    """
    history = result.history
    return {
        "task": record.plan.task,
        "date": time.strftime("%Y-%m-%d %H:%M:%S"),
        "epochs": len(history),
        "best_epoch": result.best_epoch,
        "stopped": result.stopped,
        "seconds": float(history.column("seconds").sum()),
        "compile_seconds": compile_seconds(result.backend),
        "backend": result.backend,
        "digest": result.digest(),
        "network": repr(result.network),
        "settings": {**record.settings, "learning_rate": result.config.learning_rate},
        "data": record.data,
        "notes": list(record.plan.notes),
        "last_epoch": numbers(history[-1]) if len(history) else None,
        "diagnosis": [],
        "versions": versions(),
        "machine": {"system": platform.platform(), "processor": platform.processor() or platform.machine()},
    }


def metrics_of(scores: ClassEvaluation | RegressionEvaluation) -> dict[str, Any]:
    """Return the entries of report.json for the test set."""
    if isinstance(scores, RegressionEvaluation):
        r2 = None if np.isnan(scores.r2) else scores.r2
        return {"test_r2": r2, "test_rmse": scores.rmse, "test_mae": scores.mae, "test_loss": scores.loss}
    return {
        "test_accuracy": scores.accuracy,
        "test_loss": scores.loss,
        "per_class": [asdict(of_class) for of_class in scores.per_class],
        "confusion": scores.confusion.tolist(),
    }


def _diagnosed(
    report: dict[str, Any],
    result: TrainingResult,
    plan: Plan,
    scores: ClassEvaluation | RegressionEvaluation | None = None,
) -> dict[str, Any]:
    """Return the report with the findings of the diagnosis. `scores` is None for a run that is not evaluated."""
    confusion = scores.confusion if isinstance(scores, ClassEvaluation) else None
    findings = diagnose(result, None, plan.for_training(plan.sample), confusion, for_command=True)
    return {**report, "diagnosis": [asdict(finding) for finding in findings]}


def as_json(report: Mapping[str, Any]) -> bytes:
    """Return the content of report.json."""
    return (json.dumps(report, indent=2) + "\n").encode()


def as_csv(history: History) -> bytes:
    """Return the content of history.csv."""
    table = io.StringIO()
    rows = csv.DictWriter(table, list(EpochRecord.__annotations__), lineterminator="\n")
    rows.writeheader()
    rows.writerows(map(numbers, history))
    return table.getvalue().encode()


def versions() -> dict[str, str]:
    """Return the versions of Python, fastnn and the packages that affect its results; "none" for a missing one."""
    found = {"python": platform.python_version()}
    for package in ("fastnn-digits", "numpy", "numba", "scikit-learn"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "none"
    return found


def _describe(data: Dataset | BlockedView) -> dict[str, Any]:
    n_inputs = data.n_inputs if isinstance(data, BlockedView) else data.images.shape[1]
    return {"name": data.name, "samples": len(data), "inputs": n_inputs, "sha256": data_digest(data)}


def _named(data: Dataset | BlockedView, name: str) -> Dataset | BlockedView:
    return data.named(name) if isinstance(data, BlockedView) else replace(data, name=name)
