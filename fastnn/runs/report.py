"""The report of a run: one HTML file with its figures inside, which needs neither a network nor another file."""

import os
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastnn import evaluation, plots
from fastnn.checks import display_path
from fastnn.datasets import Dataset
from fastnn.evaluation.evaluate import ClassEvaluation, evaluate_classes
from fastnn.files.atomic import write_atomically
from fastnn.files.model_file import Model, load_classifier
from fastnn.runs.folder import MODEL, SavedRun, load_test_data, read_run

PAGE = "report.html"
WANTED_ACCURACIES = (0.9, 0.95, 0.99, 0.995, 0.999)
# Gradients and dead units are computed by the reference backend, whose layers' outputs for all these are in memory.
_SAMPLES_FOR_GRADIENTS = 10_000
# Dots an inch, and of them those that a page shows: the rest is for sharp screens and for print.
_DPI, _SHOWN_DPI = 130, 100
_HOW_IT_ENDED = {
    "epochs": "all epochs were run",
    "early": "it was stopped early: the validation had not improved for a while",
    "callback": "a callback ended it",
    "interrupted": "it was interrupted",
    "diverged": "it diverged: a loss was not finite any more",
}


class Figure(NamedTuple):
    """A picture of the page: its place on it, what it shows in words, what to look for; its data URI and width."""

    section: str
    alt: str
    caption: str
    source: str
    width: int


def write_report(
    run: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    data: Sequence[str | os.PathLike[str]] | None = None,
    backend: str = "auto",
) -> Path:
    """Write the report of a run from its folder and the data it is judged by; returns the file's path.

    Equal folders, data and versions give equal bytes. A page that is there is replaced.

    Parameters
    ----------
    run : path
        The folder that `fastnn train` wrote, of a run that was finished or broke off.
    out : path, optional
        The file to write; by default report.html in the folder.
    data : sequence of paths, optional
        Where the files of the run's ``--data`` are, if not where they were.
    backend : {"auto", "numba", "numpy"}

    Raises
    ------
    FileError
        If the folder or a file of it is missing, or the page cannot be written.
    DataError
        If a file is damaged, the model does not fit the data, or these are not those of the run.
    """
    saved = read_run(run)
    model, test = load_classifier(saved.path / MODEL), load_test_data(saved, data)
    target = saved.path / PAGE if out is None else Path(out)
    write_atomically(target, render(saved, model, test, evaluate_classes(model.network, test, backend)).encode())
    return target


def render(run: SavedRun, model: Model, test: Dataset, scores: ClassEvaluation) -> str:
    """The page, as text."""
    from jinja2 import Environment, StrictUndefined

    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).from_string(
        files("fastnn.runs").joinpath(PAGE).read_text(encoding="utf-8")
    )
    assert test.labels is not None
    wanted = [(share, evaluation.threshold_for(test.labels, scores.proba, share)) for share in WANTED_ACCURACIES]
    return page.render(
        name=display_path(run.path.resolve().name),
        run=run,
        report=run.report,
        ended=_HOW_IT_ENDED.get(run.report["stopped"], run.report["stopped"]),
        network=model.network,
        scores=scores,
        n_samples=len(test),
        n_mistakes=len(test) - int(np.trace(scores.confusion)),
        calibration_error=evaluation.calibration_error(test.labels, scores.proba),
        thresholds=wanted,
        classes=list(zip(model.class_names, scores.per_class, strict=True)),
        figures=list(_figures(run, model, test, scores)),
        findings=_findings(run.report),
    )


def _findings(report: Mapping[str, Any]) -> list[dict[str, str]]:
    """What `fastnn train` found wrong with the run: each with a name, its evidence and advice."""
    return report.get("diagnosis", [])


def _figures(run: SavedRun, model: Model, test: Dataset, scores: ClassEvaluation) -> Iterator[Figure]:
    network, names, labels, proba = model.network, model.class_names, test.labels, scores.proba
    assert labels is not None
    shape = test.image_shape or (1, network.n_inputs)  # a table's row is drawn as a strip

    curves = plots.LearningCurveDisplay(run.history)
    validated = "training" if curves.validation_loss is None else "training and validation"
    best = "no loss is finite" if curves.best_epoch is None else f"the loss is lowest in epoch {curves.best_epoch}"
    yield _figure(
        "curves",
        curves,
        f"Loss and accuracy of {validated} over {len(curves.epochs)} epochs; {best}.",
        "Training is the mean over an epoch's steps, so it lags behind the validation, which is measured after it.",
    )
    confusion = scores.confusion
    wrong = np.where(np.eye(len(confusion), dtype=bool), 0, confusion)
    true, taken = np.unravel_index(wrong.argmax(), wrong.shape)
    often = (
        f"most often {names[true]} was taken for {names[taken]}, {wrong.max():,} times"
        if wrong.any()
        else "no mistakes"
    )
    yield _figure(
        "confusion",
        plots.ConfusionDisplay(confusion, names),
        f"Confusion matrix of {len(names)} classes, as counts; {often}.",
        "A row is a true class, a column what it was taken for. Blue is right, orange mistaken, each on its own scale.",
    )
    rates = plots.ConfusionDisplay(confusion, names, normalize=True).plot()
    if rates.texts_ is not None:  # without numbers in the cells, it is the same picture
        yield _figure(
            "confusion",
            rates,
            f"The same confusion matrix in percent of the true class; {often}.",
            "The same in percent of each true class.",
        )
    per_class = scores.per_class
    least = min(per_class, key=lambda score: score.recall)
    yield _figure(
        "classes",
        plots.ClassScoresDisplay(confusion, names),
        f"Precision and recall of each class; the lowest recall is {least.recall:.2%}, of {names[least.label]}.",
        "Precision: how many of those called so are it. Recall: how many of those that are it were found.",
    )
    mistakes = plots.MistakesDisplay(test.images, shape, labels, proba, names)
    yield _figure(
        "images",
        mistakes,
        f"{len(mistakes.rows)} of {mistakes.n_chosen:,} misread samples, each with its true class and the class said.",
        "The worst mistakes come first: those in which the class said had most probability over the true one.",
    )
    yield _figure(
        "images",
        plots.SamplesDisplay(test.images, shape, labels, proba, names, n=12),
        "The first 12 samples, each with its true class, the class said and its probability.",
        "The first samples as they come. A wrong one is framed.",
    )
    yield _figure(
        "images",
        plots.ClassAveragesDisplay(test.images, shape, labels, names),
        f"The average sample of each of {len(names)} classes.",
        "What the samples of each class have in common.",
    )
    reliability = plots.ReliabilityDisplay(labels, proba)
    yield _figure(
        "confidence",
        reliability,
        f"Reliability diagram in 15 bins; the expected calibration error is {reliability.bins.error:.2%}.",
        "Below the diagonal the network is surer than it should be. The bars show how many samples a point stands on.",
    )
    within_reach = [share for share in WANTED_ACCURACIES if share > scores.accuracy]
    coverage = plots.CoverageDisplay(labels, proba, within_reach[0] if within_reach else WANTED_ACCURACIES[-1])
    marked = (
        f"no threshold reaches {coverage.wanted:.1%}"
        if coverage.best is None
        else f"{coverage.wanted:.1%} are right where {coverage.best.coverage:.2%} are answered"
    )
    yield _figure(
        "confidence",
        coverage,
        f"Accuracy against the share of samples that is answered; {marked}.",
        'How accurate the answers are if the network says "I do not know" below a threshold of confidence.',
    )
    weights = plots.WeightsDisplay(network, shape)
    yield _figure(
        "network",
        weights,
        f"The weights into {len(weights.images)} of {weights.n_units} units of the first layer, as images.",
        "Blue inputs speak for the unit, orange ones against it.",
    )
    if len(network.sizes) > 2:
        activations = plots.ActivationsDisplay(network, test.images[0], shape)
        answering = np.count_nonzero(activations.activations)
        yield _figure(
            "network",
            activations,
            f"The first sample, and the outputs of the {network.sizes[1]} units of the first hidden layer for it; "
            f"{answering} are not 0.",
            "What the first hidden layer makes of the first sample.",
        )
    some = test.take(slice(_SAMPLES_FOR_GRADIENTS))
    spread = plots.DistributionsDisplay(network, some.images, some.labels)
    dead = "; ".join(
        f"{units.sum()} of {len(units)} units of hidden layer {layer} are dead"
        for layer, units in enumerate(spread.dead or [], start=1)
    )
    yield _figure(
        "network",
        spread,
        f"Histograms of the weights and gradients of {len(network.weights)} layers{'; ' if dead else ''}{dead}.",
        f"Gradients are those of {len(some):,} samples. A dead unit gives 0 for every one of them.",
    )


def _figure(section: str, display: plots.Display, alt: str, caption: str) -> Figure:
    png = display.png(_DPI)
    width = int.from_bytes(png[16:20], "big")  # where a PNG file has it
    source = "data:image/png;base64," + b64encode(png).decode()
    return Figure(section, alt, caption, source, round(width * _SHOWN_DPI / _DPI))
