"""Compares several runs: the settings that differ, the results, and the learning curves in one figure."""

import os
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from fastnn.checks import display_path
from fastnn.errors import SettingsError
from fastnn.explanation.tables import table
from fastnn.runs.saved import SavedRun, read_run

METRICS = ("test_accuracy", "test_r2", "test_loss", "epochs", "best_epoch", "seconds")


class Comparison(NamedTuple):
    """R runs side by side. Each list has R values."""

    runs: dict[str, SavedRun]  # by folder name, or by path as given if two folders have the same name
    settings: dict[str, list[Any]]  # those that differ; "test_data" is the name, length and digest of the test set
    metrics: dict[str, list[Any]]  # `METRICS` from each report.json; None for a run that was not evaluated

    def table(self) -> str:
        """Return a text table: a header and one line per run."""
        settings = self.settings.items()
        columns = {
            "run": list(self.runs),
            **{name.replace("_", " "): [_text(name, each) for each in values] for name, values in settings},
            "accuracy": [_formatted(accuracy, "{:.2%}") for accuracy in self.metrics["test_accuracy"]],
            "R2": [_formatted(r2, "{:.4f}") for r2 in self.metrics["test_r2"]],
            "loss": [_formatted(loss, "{:.4f}") for loss in self.metrics["test_loss"]],
            "epochs run": list(map(str, self.metrics["epochs"])),
            "seconds": [_formatted(seconds, "{:.2f}") for seconds in self.metrics["seconds"]],
        }
        for name, metric in (("accuracy", "test_accuracy"), ("R2", "test_r2")):
            if not any(value is not None for value in self.metrics[metric]):
                del columns[name]  # no run of this task
        return "\n".join(table(list(columns), list(zip(*columns.values(), strict=True)), indent=""))

    def save_figure(self, path: str | os.PathLike[str]) -> Path:
        """Draw all learning curves into one figure, write it to `path` and return the path.

        The ending of `path` sets the format.
        """
        from fastnn.plots import RunsDisplay

        return RunsDisplay.from_histories({name: run.history for name, run in self.runs.items()}).save(Path(path))


def compare(paths: Sequence[str | os.PathLike[str]]) -> Comparison:
    """Read two or more run folders and compare them.

    Raises SettingsError if there are fewer than two folders, or the same folder appears twice. The other errors are
    those of `read_run`.
    """
    if len(paths) < 2:
        raise SettingsError(f"{len(paths)} run given, expected two or more")
    found = [read_run(path) for path in paths]
    folders = [Path(path).resolve() for path in paths]
    for folder, path in zip(folders, paths, strict=True):
        if folders.count(folder) > 1:
            raise SettingsError(f"{display_path(path)} is given twice, expected different runs")
    short = [folder.name for folder in folders]
    names = short if len(set(short)) == len(short) else paths
    runs = dict(zip(map(display_path, names), found, strict=True))
    settings = [_settings(run.report) for run in found]
    columns = {name: [each.get(name) for each in settings] for name in dict.fromkeys(chain(*settings))}
    return Comparison(
        runs,
        {name: values for name, values in columns.items() if any(value != values[0] for value in values)},
        {name: [run.report.get(name) for run in found] for name in METRICS},
    )


def _settings(report: dict[str, Any]) -> dict[str, Any]:
    test = report["data"]["test"]
    tested_on = f"{test['name']}, {test['samples']:,} samples, {test['sha256'][:8]}"
    return {**report["settings"], "backend": report["backend"], "test_data": tested_on}


def _text(name: str, value: Any) -> str:
    if value is None:
        return "full" if name == "batch_size" else "-"
    if isinstance(value, float):
        return str(float(f"{value:.6g}"))
    return "-".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


def _formatted(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
