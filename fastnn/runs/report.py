"""Writes the report of a run: a single HTML file that contains its figures and works offline."""

import os
import shlex
from base64 import b64encode
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastnn import evaluation, plots
from fastnn.checks import display_path
from fastnn.datasets import Dataset
from fastnn.datasets.sparse import is_sparse
from fastnn.evaluation.evaluate import ClassEvaluation, RegressionEvaluation, data_for, evaluate_model
from fastnn.files.atomic import write_atomically
from fastnn.files.model_file import Model, load
from fastnn.files.snapshot_file import SNAPSHOTS, load_snapshots
from fastnn.models import Ensemble
from fastnn.network import Conv2D, Network
from fastnn.pages.assets import read_asset, script_json, script_sources
from fastnn.pages.replay import SCRIPT as REPLAY_SCRIPT
from fastnn.pages.replay import replay_content
from fastnn.runs.folder import MODEL
from fastnn.runs.saved import SavedRun, load_test_data, read_run
from fastnn.training.history import History

PAGE = "report.html"
TARGET_ACCURACIES = (0.9, 0.95, 0.99, 0.995, 0.999)
# Maximum number of test samples for gradients and dead units. The reference backend computes them and keeps the outputs
# of every layer for all these samples.
_SAMPLES_FOR_GRADIENTS = 10_000
# About how many multiplications their forward pass may take if there are convolutions, with at least so many samples.
_WORK_FOR_GRADIENTS, _FEWEST_FOR_GRADIENTS = 500_000_000, 100
_SAMPLES_FOR_FEATURES = 2_000  # for the standard deviations of features
# Resolution of the pictures, and the resolution at which the page shows them, in dots per inch. The pictures have more
# pixels than the page needs, for high-resolution screens and for print.
_DPI, _PAGE_DPI = 130, 100
_HOW_IT_ENDED = {
    "epochs": "ran all epochs",
    "running": "running, or killed: this is its last checkpoint",
    "failed": "ended by an error",
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
    model = load(saved.path / MODEL)
    test = data_for(model, load_test_data(saved, data))
    target = saved.path / PAGE if out is None else Path(out)
    write_atomically(
        target, render(saved, model, test, evaluate_model(model, test, backend)).encode(errors="backslashreplace")
    )
    return target


def render(run: SavedRun, model: Model, test: Dataset, scores: ClassEvaluation | RegressionEvaluation) -> str:
    """Return the page as HTML text."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).from_string(
        read_asset(PAGE, "fastnn.runs")
    )
    replay = _replay(run)
    scripts = [] if replay is None else [read_asset(name) for name in ("figures.js", REPLAY_SCRIPT)]
    of_task = _regression_numbers(scores) if isinstance(scores, RegressionEvaluation) else _class_numbers(model, scores)
    figures = list(_figures(run, model, test, scores))
    return page.render(
        style=Markup(read_asset("style.css")),
        replay=None if replay is None else Markup(script_json(replay)),
        scripts=[Markup(text) for text in scripts],
        script_sources=script_sources(scripts),
        name=display_path(run.path.resolve().name),
        run=run,
        report=run.report,
        ended=_HOW_IT_ENDED.get(run.report["stopped"], run.report["stopped"]),
        n_parameters=sum(network.n_parameters for network in model.networks),
        members=run.report.get("members", []),
        n_samples=len(test),
        command=shlex.join(["fastnn", "train", "--config", str(run.path)]),
        **of_task,
        figures=figures,
        shown={figure["section"] for figure in figures},
        findings=run.report.get("diagnosis", []),  # what `fastnn train` found
    )


def _replay(run: SavedRun) -> dict[str, Any] | None:
    """Return what the slider over the epochs needs; None if the run has no snapshots."""
    path = run.path / SNAPSHOTS
    return replay_content(load_snapshots(path)) if path.exists() else None


def _class_numbers(model: Model, scores: ClassEvaluation) -> dict[str, Any]:
    """Return what the page says of a run with classes."""
    wrong = len(scores.labels) - int(np.trace(scores.confusion))
    error = evaluation.calibration_error(scores.labels, scores.proba)
    targets = [(target, evaluation.threshold_for(scores.labels, scores.proba, target)) for target in TARGET_ACCURACIES]
    return {
        "title": f"{100 * scores.accuracy:.2f} %",
        "numbers": {
            "accuracy": f"{100 * scores.accuracy:.2f} %",
            "misclassified": f"{wrong:,} of {len(scores.labels):,}",
            "loss": f"{scores.loss:.4f}",
            "calibration error": f"{100 * error:.2f} %",
        },
        "thresholds": targets,
        "classes": list(zip(model.class_names, scores.per_class, strict=True)),
    }


def _regression_numbers(scores: RegressionEvaluation) -> dict[str, Any]:
    """Return what the page says of a run that predicts numbers."""
    r2 = "undefined" if np.isnan(scores.r2) else f"{scores.r2:.4f}"
    return {
        "title": f"R² {r2}",
        "numbers": {
            "R²": r2,
            "root mean squared error": f"{scores.rmse:.4g}",
            "mean absolute error": f"{scores.mae:.4g}",
        },
        "thresholds": [],
        "classes": [],
    }


def _figures(
    run: SavedRun, model: Model, test: Dataset, scores: ClassEvaluation | RegressionEvaluation
) -> Iterator[Figure]:
    names = model.class_names
    yield _curves(run.history, isinstance(model, Ensemble))
    if isinstance(scores, RegressionEvaluation):
        yield _predictions(scores)
        labels = scores.targets
    else:
        labels = scores.labels
        yield _confusion(scores.confusion, names)
        yield _classes(scores, names)
        if test.image_shape is not None:
            yield from _images(test.images, test.image_shape, scores, names)
        yield from _confidence(labels, scores)
    if not isinstance(model, Ensemble):  # the reports of its members show their networks
        yield from _network(model, test, labels)


def _figure(section: str, display: plots.Display, alt: str, caption: str) -> Figure:
    png = display.png(_DPI)
    width = int.from_bytes(png[16:20], "big")  # the width in a PNG header
    source = "data:image/png;base64," + b64encode(png).decode()
    return {
        "section": section, "alt": alt, "caption": caption, "source": source, "width": round(width * _PAGE_DPI / _DPI),
    }  # fmt: skip


def _curves(history: History, are_means: bool) -> Figure:
    curves = plots.LearningCurveDisplay(history)
    validated = "training" if curves.validation_loss is None else "training and validation"
    shown = "Loss" if np.isnan(curves.accuracy).all() else "Loss and accuracy"
    best = "no loss is finite" if curves.best_epoch is None else f"the loss is lowest in epoch {curves.best_epoch}"
    return _figure(
        "curves",
        curves,
        f"{shown} of {validated} over {len(curves.epochs)} epochs; {best}.",
        "Training values are means over an epoch, so they lag behind validation values, which are measured after it."
        + " Each point is the mean over the members." * are_means,
    )


def _predictions(scores: RegressionEvaluation) -> Figure:
    return _figure(
        "predictions",
        plots.RegressionDisplay(scores.targets, scores.predicted),
        f"Predicted against true numbers of {len(scores.targets):,} samples; mean absolute error {scores.mae:.4g}.",
        "A point on the diagonal is predicted exactly; above it, the prediction is too large.",
    )


def _confusion(confusion: np.ndarray, names: Sequence[str]) -> Figure:
    wrong = np.where(np.eye(len(confusion), dtype=bool), 0, confusion)
    true, predicted = map(int, np.unravel_index(wrong.argmax(), wrong.shape))
    most_frequent = "there are no errors"
    if wrong.any():
        error = f"{names[true]} predicted as {names[predicted]}, {wrong.max():,} times"
        most_frequent = f"the most frequent error is {error}"
    return _figure(
        "confusion",
        plots.ConfusionDisplay(confusion, names),
        f"Confusion matrix of {len(names)} classes, as counts; {most_frequent}.",
        "Rows: true class. Columns: predicted class. Blue: correct. Orange: wrong. Each colour has its own scale.",
    )


def _classes(scores: ClassEvaluation, names: Sequence[str]) -> Figure:
    lowest = min(scores.per_class, key=lambda score: score.recall)
    return _figure(
        "classes",
        plots.ClassScoresDisplay(scores.confusion, names),
        f"Precision and recall per class; the lowest recall is {lowest.recall:.2%}, of class {names[lowest.label]}.",
        "Precision: fraction of a class's predictions that are correct. Recall: fraction of its samples found.",
    )


def _images(
    images: np.ndarray, shape: tuple[int, int], scores: ClassEvaluation, names: Sequence[str]
) -> Iterator[Figure]:
    labels, proba = scores.labels, scores.proba
    mistakes = plots.MistakesDisplay(images, shape, labels, proba, names)
    yield _figure(
        "images",
        mistakes,
        f"{len(mistakes.rows)} of {mistakes.n_chosen:,} misclassified samples, each with its true and predicted class.",
        "Worst errors first: sorted by the probability of the predicted class minus that of the true class.",
    )
    yield _figure(
        "images",
        plots.SamplesDisplay(images, shape, labels, proba, names, n=12),
        "The first 12 samples, each with its true class, its predicted class and the probability of the prediction.",
        "The first samples in the order of the data. Misclassified samples are framed.",
    )
    yield _figure(
        "images",
        plots.ClassAveragesDisplay(images, shape, labels, names),
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


def _network(model: Model, test: Dataset, labels: np.ndarray) -> Iterator[Figure]:
    network = model.network
    n = min(len(test), _SAMPLES_FOR_GRADIENTS)
    if any(isinstance(layer, Conv2D) for layer in network.layers):
        yield from _convolutions(network, test)
        n = min(n, max(_FEWEST_FOR_GRADIENTS, _WORK_FOR_GRADIENTS // network.n_multiplications))
    else:
        yield from _first_layer(network, test) if test.image_shape is not None else [_features(model, test)]
    distributions = plots.DistributionsDisplay(network, test.images[:n], labels[:n])
    names = [layer.unit_name(shape) for layer, shape in zip(network.layers, network.shapes[1:], strict=True)]
    dead = "".join(
        f"; {units.sum()} of {len(units)} {name}s of hidden layer {layer} are dead"
        for layer, (units, name) in enumerate(zip(distributions.dead or [], names, strict=False), start=1)
    )
    yield _figure(
        "network",
        distributions,
        f"Histograms of the weights and gradients of {len(network.weights)} layers{dead}.",
        f"Gradients are computed on {n:,} samples. A dead unit outputs 0 for all of them.",
    )


def _features(model: Model, test: Dataset) -> Figure:
    inputs: Any = test.images[:_SAMPLES_FOR_FEATURES]
    dense = inputs.toarray() if is_sparse(inputs) else inputs
    features = plots.FeaturesDisplay(model.network, dense, model.feature_names)
    largest = features.feature_names[features.influences.argmax()]
    return _figure(
        "network",
        features,
        f"The influence of the features on the first layer; that of {largest} is largest.",
        "How much each feature moves the first layer: its weights times its standard deviation. Up to 20 are shown.",
    )


def _convolutions(network: Network, test: Dataset) -> Iterator[Figure]:
    filters = plots.FiltersDisplay(network)
    yield _figure(
        "network",
        filters,
        f"{len(filters.images)} of {filters.n_filters} filters of layer {filters.layer}, drawn as images.",
        "A filter responds most where inputs are large under blue weights and small under orange ones.",
    )
    maps = plots.FeatureMapsDisplay(network, test.images[0])
    yield _figure(
        "network",
        maps,
        f"The first sample, and the feature maps of {len(maps.maps)} layers for it.",
        "The outputs of all layers that give images, for the first sample. Each layer has its own scale.",
    )


def _first_layer(network: Network, test: Dataset) -> Iterator[Figure]:
    shape = test.image_shape
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
