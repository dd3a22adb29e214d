"""Render the figures of docs/gallery.md from three short runs on MNIST: `python docs/make_gallery.py`."""

from io import BytesIO
from pathlib import Path

from PIL import Image

import fastnn
from fastnn import plots
from fastnn.datasets.splits import split

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
    displays = {
        "curves": plots.LearningCurveDisplay.from_history(result.history),
        "runs": plots.RunsDisplay.from_histories({name: each.history for name, each in results.items()}),
        "confusion": plots.ConfusionDisplay.from_predictions(labels, predictions),
        "confusion-rates": plots.ConfusionDisplay.from_predictions(labels, predictions, normalize=True),
        "class-scores": plots.ClassScoresDisplay.from_predictions(labels, predictions),
        "samples": plots.SamplesDisplay.from_predictions(test.images, shape, labels, proba, n=12),
        "mistakes": plots.MistakesDisplay.from_predictions(test.images, shape, labels, proba, n=12),
        "class-averages": plots.ClassAveragesDisplay.from_samples(test.images, shape, labels),
        "weights": plots.WeightsDisplay.from_network(network, shape),
        "activations": plots.ActivationsDisplay.from_network(network, test.images[0], shape),
        "distributions": plots.DistributionsDisplay.from_network(network, test.images, labels),
        "reliability": plots.ReliabilityDisplay.from_predictions(labels, proba),
        "coverage": plots.CoverageDisplay.from_predictions(labels, proba, 0.995),
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, display in displays.items():
        # A palette needs a third of the bytes, and makes no visible difference in these figures.
        with Image.open(BytesIO(display.png(dpi=100))) as picture:
            palette = picture.convert("RGB").quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
            palette.save(FOLDER / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
