"""Draw docs/images/learning.gif: the weights of a first layer, and the accuracy, while a network learns MNIST."""

from io import BytesIO
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

import fastnn
from fastnn.plots.montage import draw_montage, signed_colours

FILE = Path(__file__).resolve().parent / "images" / "learning.gif"
UNITS, BATCH, PICTURES, EPOCHS = 24, 32, 44, 6
MILLISECONDS, AT_THE_END = 110, 2500
SCALE = 0.2  # weights beyond it have the colours of its ends in all pictures, so that they can be compared


def main() -> None:
    """Train, draw a picture after ever more images, and write them as one file, which plays once."""
    (train, _), backend, rng = fastnn.load_mnist(), fastnn.get_backend("auto"), np.random.default_rng(1)
    rows, held_out = train.take(np.arange(55_000)), train.take(np.arange(55_000, 60_000))
    network = fastnn.Network.for_data(train, (UNITS,), seed=1)
    trainer = backend.trainer(network, rows.images, rows.labels, "sgd", l2=0.001)
    order = np.concatenate([rng.permutation(len(rows)) for _ in range(EPOCHS)])
    counts = np.unique(np.geomspace(BATCH, len(order), PICTURES).astype(int) // BATCH * BATCH)
    seen, accuracies = [0], [fastnn.evaluate(network, held_out)[1]]
    pictures = [picture(network, seen, accuracies)]
    for count in counts:
        for start in range(seen[-1], count, len(rows)):
            trainer.run_epoch(order[start : min(count, start + len(rows))], BATCH, 0.1)
        network = trainer.network()
        seen.append(int(count))
        accuracies.append(fastnn.evaluate(network, held_out)[1])
        pictures.append(picture(network, seen, accuracies))
    palette = pictures[-1].quantize(64, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    frames = [each.quantize(palette=palette, dither=Image.Dither.NONE) for each in pictures]
    times = [MILLISECONDS] * (len(frames) - 1) + [AT_THE_END]
    frames[0].save(FILE, save_all=True, append_images=frames[1:], duration=times, optimize=True)
    print(f"{FILE}: {len(frames)} pictures, {FILE.stat().st_size:,} bytes")


def picture(network: fastnn.Network, seen: list[int], accuracies: list[float]) -> Image.Image:
    """Return a picture of the weights of a network, and of the accuracy after each number of images so far."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4), width_ratios=(1.5, 1), layout="constrained")
    images = network.weights[0].T.reshape(-1, 28, 28)
    drawn = draw_montage(left, images, [""] * UNITS, 6, signed_colours(), -SCALE, SCALE)
    figure.colorbar(drawn, ax=left, extend="both", aspect=28, shrink=0.8, pad=0.02).set_label("weight")
    left.set_title(f"weights into the {UNITS} hidden units", fontsize=11)
    percent = [100 * accuracy for accuracy in accuracies]
    right.plot(seen, percent, color="#1f5fa8", lw=2)
    right.plot(seen[-1], percent[-1], "o", color="#1f5fa8", clip_on=False)
    right.set_xscale("symlog", linthresh=BATCH)
    right.set(xlim=(0, 400_000), ylim=(0, 100), xlabel="images learnt from", ylabel="correct, %")
    right.set_xticks([0, 100, 1000, 10_000, 100_000], ["0", "100", "1,000", "10,000", "100,000"], fontsize=8)
    right.set_title(f"{percent[-1]:.1f} % of held-out images", fontsize=11)
    right.spines[["top", "right"]].set_visible(False)
    file = BytesIO()
    figure.savefig(file, dpi=80)
    plt.close(figure)
    return Image.open(file).convert("RGB")


if __name__ == "__main__":
    main()
