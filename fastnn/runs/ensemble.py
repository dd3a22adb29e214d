"""The folder of a run of several networks: a folder for the run of each member, and the files of their ensemble.

A member is a run of `fastnn train` with a seed of its own on the same split of the data. Its folder, such as
``member-1``, has all that the folder of a run has except figures: so it resumes, and every command takes it.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastnn.datasets import Dataset
from fastnn.evaluation.evaluate import ClassEvaluation, RegressionEvaluation, evaluate, evaluate_model
from fastnn.files.atomic import write_atomically
from fastnn.files.model_file import save
from fastnn.models import Ensemble
from fastnn.runs.folder import CURVES, MODEL, FinishedRun, RunFolder, RunRecord, as_csv, as_json, metrics_of
from fastnn.runs.plan import Plan
from fastnn.runs.saved import HISTORY, REPORT, numbers
from fastnn.training.history import EpochRecord, History

MOST = 100
"""The largest number of members of a run."""
# The entries of a member's report in that of the run.
_OF_MEMBER = (
    "epochs", "best_epoch", "stopped", "seconds", "digest", "test_accuracy", "test_loss", "test_r2", "test_rmse",
    "test_mae",
)  # fmt: skip


class FinishedEnsemble(NamedTuple):
    """A finished run of several networks."""

    histories: dict[str, History]  # of each member, by the name of its folder
    model: Ensemble
    test: Dataset
    scores: ClassEvaluation | RegressionEvaluation
    report: dict[str, Any]  # the contents of report.json


def member_folder(folder: RunFolder, number: int) -> Path:
    """Return the folder of member `number`, counted from 1."""
    return folder.path / f"member-{number}"


def finish(folder: RunFolder, record: RunRecord, members: Sequence[FinishedRun]) -> FinishedEnsemble:
    """Evaluate the ensemble of finished members; write its model, its history and its report.

    The history is the mean over the members of each epoch that all of them ran.
    """
    model = Ensemble.of(member.model for member in members)
    scores = _scores(record.plan, model, members)
    names = [member_folder(folder, number).name for number in range(1, len(members) + 1)]
    histories = {name: member.result.history for name, member in zip(names, members, strict=True)}
    history, reports = mean_history(list(histories.values())), [member.report for member in members]
    stopped = {report["stopped"] for report in reports}
    report = {
        **reports[0],
        "epochs": len(history),
        "best_epoch": max(report["best_epoch"] for report in reports),
        "stopped": stopped.pop() if len(stopped) == 1 else "early",
        "seconds": sum(report["seconds"] for report in reports),
        "compile_seconds": max(report["compile_seconds"] for report in reports),
        "digest": sha256("".join(report["digest"] for report in reports).encode()).hexdigest(),
        "network": model.summary,
        "settings": record.settings,
        "data": record.data,
        "notes": list(record.plan.notes),
        "last_epoch": numbers(history[-1]) if len(history) else None,
        "diagnosis": list({finding["name"]: finding for each in reports for finding in each["diagnosis"]}.values()),
        **metrics_of(scores),
        "members": [
            {"folder": name, "seed": each["settings"]["seed"], **{key: each[key] for key in _OF_MEMBER if key in each}}
            for name, each in zip(names, reports, strict=True)
        ],
    }
    save(folder.path / MODEL, model)
    write_atomically(folder.path / HISTORY, as_csv(history))
    write_atomically(folder.path / REPORT, as_json(report))
    return FinishedEnsemble(histories, model, members[0].test, scores, report)


def mean_history(histories: Sequence[History]) -> History:
    """Return the mean over several runs of each metric of the epochs that all of them ran."""
    means = []
    for records in zip(*histories, strict=False):
        metrics = np.mean([list(asdict(record).values()) for record in records], axis=0).tolist()
        means.append(EpochRecord(records[0].epoch, *metrics[1:]))
    return History(means)


def save_figures(folder: RunFolder, run: FinishedEnsemble) -> None:
    """Write the learning curves of all members into one figure, and the figures of the test set as of any run."""
    from fastnn import plots

    if all(len(history) for history in run.histories.values()):
        plots.RunsDisplay.from_histories(run.histories).save(folder.path / CURVES)
    folder.save_test_figures(run.model, run.test, run.scores)


def _scores(plan: Plan, model: Ensemble, members: Sequence[FinishedRun]) -> ClassEvaluation | RegressionEvaluation:
    test, backend = plan.splits.test, members[0].result.backend
    scores = evaluate_model(model, test, backend)
    if plan.scale is not None:  # the loss of the same targets as in the history
        trained = replace(model, networks=tuple(member.result.network for member in members))
        loss, _ = evaluate(trained, plan.for_training(test), backend=backend)
        scores = scores._replace(loss=loss)
    return scores
