"""Several runs side by side: the settings in which they differ, what came of each, and their curves in one figure."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fastnn.checks import display_path
from fastnn.errors import SettingsError
from fastnn.runs.folder import SavedRun, read_run

FIGURES = ("test_accuracy", "test_loss", "epochs", "best_epoch", "seconds")


class Comparison(NamedTuple):
    """R runs side by side.

    Attributes
    ----------
    runs : dict of str to SavedRun
        By name: the name of the folder, or its path as given where two names are alike.
    settings : dict of str to list of R values
        Those in which the runs differ, by name; "test_data" is the name, length and digest of what judged them.
    figures : dict of str to list of R values
        What report.json says of each: accuracy and loss on the test data (None of a run that was not judged), epochs,
        the epoch whose weights were kept, seconds of training.
    """

    runs: dict[str, SavedRun]
    settings: dict[str, list[Any]]
    figures: dict[str, list[Any]]

    def table(self) -> str:
        """Text with a line a run, under the names of the columns."""
        columns = {
            "run": list(self.runs),
            **{
                name.replace("_", " "): [_text(name, each) for each in values] for name, values in self.settings.items()
            },
            "accuracy": [_formatted(share, "{:.2%}") for share in self.figures["test_accuracy"]],
            "loss": [_formatted(loss, "{:.4f}") for loss in self.figures["test_loss"]],
            "epochs run": list(map(str, self.figures["epochs"])),
            "seconds": [_formatted(seconds, "{:.2f}") for seconds in self.figures["seconds"]],
        }
        widths = [max(map(len, (name, *cells))) for name, cells in columns.items()]
        lines = [columns, *zip(*columns.values(), strict=True)]
        return "\n".join(
            "  ".join(
                cell.ljust(width) if place == 0 else cell.rjust(width)
                for place, (cell, width) in enumerate(zip(line, widths, strict=True))
            )
            for line in lines
        )

    def save_figure(self, path: str | os.PathLike[str]) -> Path:
        """Draw the curves over each other and write them to `path`, whose ending chooses the format; return it."""
        from fastnn.plots import RunsDisplay

        return RunsDisplay.from_histories({name: run.history for name, run in self.runs.items()}).save(Path(path))


def compare(paths: Sequence[str | os.PathLike[str]]) -> Comparison:
    """Read two or more runs' folders and set them side by side.

    Raises
    ------
    SettingsError
        If there are fewer than two, or one is there twice.
    FileError, DataError
        If a folder or a file of it is missing or damaged.
    """
    if len(paths) < 2:
        raise SettingsError(f"{len(paths)} run given, expected two or more")
    places = [Path(path).resolve() for path in paths]
    for place, path in zip(places, paths, strict=True):
        if places.count(place) > 1:
            raise SettingsError(f"{display_path(path)} is given twice, expected different runs")
    found = [read_run(path) for path in paths]
    short = [place.name for place in places]
    alike = len(set(short)) < len(short)
    runs = dict(zip([display_path(path) for path in paths] if alike else map(display_path, short), found, strict=True))
    settings = [_settings(run.report) for run in found]
    names = list(dict.fromkeys(name for each in settings for name in each))
    columns = {name: [each.get(name) for each in settings] for name in names}
    return Comparison(
        runs,
        {name: values for name, values in columns.items() if any(value != values[0] for value in values)},
        {name: [run.report.get(name) for run in found] for name in FIGURES},
    )


def _settings(report: dict[str, Any]) -> dict[str, Any]:
    test = report["data"]["test"]
    tested_on = f"{test['name']}, {test['samples']:,} samples, {test['sha256'][:8]}"
    return {**report["settings"], "backend": report["backend"], "test_data": tested_on}


def _text(name: str, value: Any) -> str:
    if value is None:
        return "full" if name == "batch_size" else "-"
    return "-".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


def _formatted(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
