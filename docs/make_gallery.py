"""Draw the pictures of the gallery, of the README and of docs/explain.md, from runs on MNIST."""

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

import fastnn
from fastnn import plots
from fastnn.datasets.splits import split
from fastnn.explanation import ExplainDisplay

_HIDDEN = 8  # the test image of the occlusion map: a 5 that might be a 6
FOLDER = Path(__file__).resolve().parent / "images" / "gallery"


def main() -> None:
    """Train the networks, plot, and write one PNG per display."""
    recipe = fastnn.get_recipe("mnist")
    train, validation, test = split(*fastnn.load_mnist(), recipe.held_out, seed=0)
    rates, results = (0.5, 0.1, 0.02), {}
    for rate in rates:
        settings = {**recipe.settings, "learning_rate": rate, "validation": validation}
        results[f"learning rate {rate}"] = fastnn.train(fastnn.Network.for_data(train, (128,)), train, **settings)
    result = results["learning rate 0.5"]
    network, shape, labels = result.network, test.image_shape, test.labels
    proba = fastnn.get_backend("auto").predict_proba(network, test.images)
    predictions = proba.argmax(axis=1)
    first = int((predictions != labels).argmax()) - 3  # twelve images in a row, one of them misclassified
    twelve = slice(first, first + 12)
    displays = {
        "curves": plots.LearningCurveDisplay.from_history(result.history),
        "runs": plots.RunsDisplay.from_histories({name: each.history for name, each in results.items()}),
        "confusion": plots.ConfusionDisplay.from_predictions(labels, predictions),
        "confusion-rates": plots.ConfusionDisplay.from_predictions(labels, predictions, normalize=True),
        "class-scores": plots.ClassScoresDisplay.from_predictions(labels, predictions),
        "samples": plots.SamplesDisplay.from_predictions(test.images[twelve], shape, labels[twelve], proba[twelve]),
        "mistakes": plots.MistakesDisplay.from_predictions(test.images, shape, labels, proba, n=12),
        "class-averages": plots.ClassAveragesDisplay.from_samples(test.images, shape, labels),
        "weights": plots.WeightsDisplay.from_network(network, shape),
        "activations": plots.ActivationsDisplay.from_network(network, test.images[0], shape),
        "distributions": plots.DistributionsDisplay.from_network(network, test.images, labels),
        **_of_image_network(train, test),
        "reliability": plots.ReliabilityDisplay.from_predictions(labels, proba),
        "coverage": plots.CoverageDisplay.from_predictions(labels, proba, 0.995),
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, display in displays.items():
        _save(_picture(display, dpi=100), FOLDER / f"{name}.png")
    displays["mistakes"] = plots.MistakesDisplay.from_predictions(test.images, shape, labels, proba)
    _save(_run_picture(*(displays[name] for name in ("curves", "confusion", "mistakes"))), FOLDER.parent / "run.png")
    explanation = fastnn.explain(network, test.images[4289], label=int(labels[4289]), image_shape=shape)
    _save(_picture(ExplainDisplay(explanation), dpi=130), FOLDER.parent / "explain.png")


def _of_image_network(train: fastnn.Dataset, test: fastnn.Dataset) -> dict[str, plots.Display]:
    """Return the figures of a network with convolutions, trained on a few images."""
    few = train.take(np.arange(3000))
    layers = [fastnn.Conv2D(6, 5), fastnn.MaxPool2D(), fastnn.Conv2D(16, 5), fastnn.MaxPool2D(), 120, 84]
    network = fastnn.Network.for_data(few, layers)
    network = fastnn.train(network, few, optimizer="adam", batch_size=32, epochs=4).network
    return {
        "filters": plots.FiltersDisplay.from_network(network),
        "feature-maps": plots.FeatureMapsDisplay.from_network(network, test.images[0]),
        "occlusion": plots.OcclusionDisplay.from_network(network, test.images[_HIDDEN], int(test.labels[_HIDDEN])),
    }


def _picture(display: plots.Display, dpi: float) -> Image.Image:
    with Image.open(BytesIO(display.png(dpi=dpi))) as picture:
        return picture.convert("RGB")


def _run_picture(
    curves: plots.Display, confusion: plots.Display, mistakes: plots.Display, width: int = 1400
) -> Image.Image:
    """The three figures that a run leaves: the curves above, the two others side by side below."""
    width, gap = 1400, 20
    top, left, right = (_picture(display, dpi=200) for display in (curves, confusion, mistakes))
    top = top.resize((width, round(top.height * width / top.width)), Image.Resampling.LANCZOS)
    # Both lower figures get one height, at which they fill the width.
    height = round((width - gap) / (left.width / left.height + right.width / right.height))
    left, right = (
        picture.resize((round(picture.width * height / picture.height), height), Image.Resampling.LANCZOS)
        for picture in (left, right)
    )
    whole = Image.new("RGB", (width, top.height + gap + height), "white")
    for picture, corner in (
        (top, (0, 0)),
        (left, (0, top.height + gap)),
        (right, (left.width + gap, top.height + gap)),
    ):
        whole.paste(picture, corner)
    return whole


def _save(picture: Image.Image, path: Path) -> None:
    # A palette needs a third of the bytes, and makes no visible difference in these figures.
    palette = picture.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    palette.save(path, optimize=True)


if __name__ == "__main__":
    main()
