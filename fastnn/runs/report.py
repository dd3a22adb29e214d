"""Writes the report of a run: a single HTML file that contains its figures and works offline."""

import os
from base64 import b64encode
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from fastnn import evaluation, plots
from fastnn.checks import display_path
from fastnn.datasets import Dataset
from fastnn.evaluation.evaluate import ClassEvaluation, evaluate_model
from fastnn.files.atomic import write_atomically
from fastnn.files.model_file import Model, load_classifier
from fastnn.network import Network
from fastnn.runs.folder import MODEL, SavedRun, load_test_data, read_run
from fastnn.training.history import History

PAGE = "report.html"
TARGET_ACCURACIES = (0.9, 0.95, 0.99, 0.995, 0.999)
# Maximum number of test samples for gradients and dead units. The reference backend computes them and keeps the outputs
# of every layer for all these samples.
_SAMPLES_FOR_GRADIENTS = 10_000
# Resolution of the pictures, and the resolution at which the page shows them, in dots per inch. The pictures have more
# pixels than the page needs, for high-resolution screens and for print.
_DPI, _PAGE_DPI = 130, 100
_HOW_IT_ENDED = {
    "epochs": "ran all epochs",
    "early": "stopped early because validation had stopped improving",
    "callback": "stopped by a callback",
    "interrupted": "interrupted",
    "diverged": "diverged: the loss was no longer finite",
}


# A picture on the page: its section, alt text, caption, source (a data URI) and width in CSS pixels, by these names.
Figure = dict[str, Any]


def write_report(
    run: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    data: Sequence[str | os.PathLike[str]] | None = None,
    backend: str = "auto",
) -> Path:
    """Write the report of a run, finished or not, from its folder and its test set; return the path of the file.

    The same folder, data and versions give the same bytes. An existing file is replaced. `out` is report.html in the
    folder by default. `data` are new locations of the run's data files. `backend` predicts the test set.

    Raises FileError if a file is missing or the report cannot be written, and DataError if a file is damaged, the model
    does not fit the data, or the data differ from those of the run.
    """
    saved = read_run(run)
    model, test = load_classifier(saved.path / MODEL), load_test_data(saved, data)
    target = saved.path / PAGE if out is None else Path(out)
    write_atomically(target, render(saved, model, test, evaluate_model(model, test, backend)).encode())
    return target


def render(run: SavedRun, model: Model, test: Dataset, scores: ClassEvaluation) -> str:
    """Return the page as HTML text."""
    from jinja2 import Environment, StrictUndefined

    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).from_string(
        files("fastnn.runs").joinpath(PAGE).read_text(encoding="utf-8")
    )
    assert test.labels is not None
    targets = [(target, evaluation.threshold_for(test.labels, scores.proba, target)) for target in TARGET_ACCURACIES]
    return page.render(
        name=display_path(run.path.resolve().name),
        run=run,
        report=run.report,
        ended=_HOW_IT_ENDED.get(run.report["stopped"], run.report["stopped"]),
        network=model.network,
        scores=scores,
        n_samples=len(test),
        n_misclassified=len(test) - int(np.trace(scores.confusion)),
        calibration_error=evaluation.calibration_error(test.labels, scores.proba),
        thresholds=targets,
        classes=list(zip(model.class_names, scores.per_class, strict=True)),
        figures=list(_figures(run, model, test, scores)),
        findings=run.report.get("diagnosis", []),  # what `fastnn train` found
    )


def _figures(run: SavedRun, model: Model, test: Dataset, scores: ClassEvaluation) -> Iterator[Figure]:
    assert test.labels is not None
    names = model.class_names
    shape = test.image_shape or (1, test.images.shape[1])  # a row of a table becomes an image one pixel high
    yield _curves(run.history)
    yield from _confusion(scores.confusion, names)
    yield _classes(scores, names)
    yield from _images(test, shape, scores.proba, names)
    yield from _confidence(test.labels, scores)
    yield from _network(model.network, test, shape)


def _figure(section: str, display: plots.Display, alt: str, caption: str) -> Figure:
    png = display.png(_DPI)
    width = int.from_bytes(png[16:20], "big")  # the width in a PNG header
    source = "data:image/png;base64," + b64encode(png).decode()
    return {
        "section": section, "alt": alt, "caption": caption, "source": source, "width": round(width * _PAGE_DPI / _DPI),
    }  # fmt: skip


def _curves(history: History) -> Figure:
    curves = plots.LearningCurveDisplay(history)
    validated = "training" if curves.validation_loss is None else "training and validation"
    best = "no loss is finite" if curves.best_epoch is None else f"the loss is lowest in epoch {curves.best_epoch}"
    return _figure(
        "curves",
        curves,
        f"Loss and accuracy of {validated} over {len(curves.epochs)} epochs; {best}.",
        "Training values are means over an epoch, so they lag behind validation values, which are measured after it.",
    )


def _confusion(confusion: np.ndarray, names: Sequence[str]) -> Iterator[Figure]:
    wrong = np.where(np.eye(len(confusion), dtype=bool), 0, confusion)
    true, predicted = map(int, np.unravel_index(wrong.argmax(), wrong.shape))
    most_frequent = "there are no errors"
    if wrong.any():
        error = f"{names[true]} predicted as {names[predicted]}, {wrong.max():,} times"
        most_frequent = f"the most frequent error is {error}"
    yield _figure(
        "confusion",
        plots.ConfusionDisplay(confusion, names),
        f"Confusion matrix of {len(names)} classes, as counts; {most_frequent}.",
        "Rows: true class. Columns: predicted class. Blue: correct. Orange: wrong. Each colour has its own scale.",
    )
    rates = plots.ConfusionDisplay(confusion, names, normalize=True).plot()
    if rates.texts_ is not None:  # without numbers in the cells, the two pictures are the same
        yield _figure(
            "confusion",
            rates,
            f"The same confusion matrix as percentages of each true class; {most_frequent}.",
            "The same matrix as percentages of each true class.",
        )


def _classes(scores: ClassEvaluation, names: Sequence[str]) -> Figure:
    lowest = min(scores.per_class, key=lambda score: score.recall)
    return _figure(
        "classes",
        plots.ClassScoresDisplay(scores.confusion, names),
        f"Precision and recall per class; the lowest recall is {lowest.recall:.2%}, of class {names[lowest.label]}.",
        "Precision: fraction of a class's predictions that are correct. Recall: fraction of its samples found.",
    )


def _images(test: Dataset, shape: tuple[int, int], proba: np.ndarray, names: Sequence[str]) -> Iterator[Figure]:
    assert test.labels is not None
    mistakes = plots.MistakesDisplay(test.images, shape, test.labels, proba, names)
    yield _figure(
        "images",
        mistakes,
        f"{len(mistakes.rows)} of {mistakes.n_chosen:,} misclassified samples, each with its true and predicted class.",
        "Worst errors first: sorted by the probability of the predicted class minus that of the true class.",
    )
    yield _figure(
        "images",
        plots.SamplesDisplay(test.images, shape, test.labels, proba, names, n=12),
        "The first 12 samples, each with its true class, its predicted class and the probability of the prediction.",
        "The first samples in the order of the data. Misclassified samples are framed.",
    )
    yield _figure(
        "images",
        plots.ClassAveragesDisplay(test.images, shape, test.labels, names),
        f"The average sample of each of the {len(names)} classes.",
        "The mean of all samples of each class.",
    )


def _confidence(labels: np.ndarray, scores: ClassEvaluation) -> Iterator[Figure]:
    reliability = plots.ReliabilityDisplay(labels, scores.proba)
    yield _figure(
        "confidence",
        reliability,
        f"Reliability diagram in 15 bins; the expected calibration error is {reliability.bins.error:.2%}.",
        "Below the diagonal, the network is overconfident. The bars show the number of samples behind each point.",
    )
    higher_targets = [target for target in TARGET_ACCURACIES if target > scores.accuracy]
    wanted = higher_targets[0] if higher_targets else TARGET_ACCURACIES[-1]
    coverage = plots.CoverageDisplay(labels, scores.proba, wanted)
    marked = f"no threshold reaches {wanted:.1%}"
    if coverage.best is not None:
        marked = f"{coverage.best.coverage:.2%} of the samples can be answered at an accuracy of {wanted:.1%}"
    yield _figure(
        "confidence",
        coverage,
        f"Accuracy against coverage, the fraction of samples answered; {marked}.",
        "The accuracy of the answers if the network gives no answer below a confidence threshold.",
    )


def _network(network: Network, test: Dataset, shape: tuple[int, int]) -> Iterator[Figure]:
    weights = plots.WeightsDisplay(network, shape)
    yield _figure(
        "network",
        weights,
        f"The weights into {len(weights.images)} of {weights.n_units} units of the first layer, drawn as images.",
        "Positive weights are blue, negative weights are orange.",
    )
    if len(network.sizes) > 2:
        activations = plots.ActivationsDisplay(network, test.images[0], shape)
        shown = f"the outputs of the {network.sizes[1]} units in the first hidden layer"
        yield _figure(
            "network",
            activations,
            f"The first sample, and {shown}; {np.count_nonzero(activations.activations)} are nonzero.",
            "Outputs of the first hidden layer for the first sample.",
        )
    subset = test.take(slice(_SAMPLES_FOR_GRADIENTS))
    distributions = plots.DistributionsDisplay(network, subset.images, subset.labels)
    dead = "".join(
        f"; {units.sum()} of {len(units)} units of hidden layer {layer} are dead"
        for layer, units in enumerate(distributions.dead or [], start=1)
    )
    yield _figure(
        "network",
        distributions,
        f"Histograms of the weights and gradients of {len(network.weights)} layers{dead}.",
        f"Gradients are computed on {len(subset):,} samples. A dead unit outputs 0 for all of them.",
    )
