"""Draw what a trained LeNet-5 sees: filters, feature maps of a digit, the strongest patches, an occlusion map."""

import matplotlib.pyplot as plt
import numpy as np

import fastnn
from fastnn.backends import layerwise, reference
from fastnn.plots import FeatureMapsDisplay, FiltersDisplay, OcclusionDisplay

train_set, test_set = fastnn.load_mnist()
some = train_set.take(slice(3000))
hidden = [fastnn.Conv2D(6, 5), fastnn.MaxPool2D(), fastnn.Conv2D(16, 5), fastnn.MaxPool2D()]
# float64: rounding, which differs from BLAS to BLAS, does not change what is seen.
start = fastnn.Network.for_data(some, [*hidden, fastnn.Dense(120), fastnn.Dense(84)], dtype="float64")
settings = {"epochs": 4, "batch_size": 32, "optimizer": "adam", "learning_rate": 0.002, "backend": "numpy"}
network = fastnn.train(start, some, **settings).network


def filters():
    """Draw the six filters of the first layer."""
    _, ax = plt.subplots(figsize=(6.4, 1.5), layout="constrained")
    FiltersDisplay.from_network(network, ax=ax)


def maps():
    """Draw the feature maps of all layers for one test image."""
    _, axes = plt.subplots(5, 1, figsize=(6.4, 8), layout="constrained")
    FeatureMapsDisplay.from_network(network, test_set.images[0], ax=axes)


def patches():
    """Draw, for eight filters of the second convolution, the patches of test images with the largest outputs."""
    images = test_set.images[:1000].reshape(-1, 28, 28)
    out = layerwise.forward(reference, network, test_set.images[:1000])[2].out
    _, axes = plt.subplots(8, 8, figsize=(6, 6.4), layout="constrained")
    for channel, row in enumerate(axes):
        best = out[:, channel].max(axis=(1, 2)).argsort()[::-1][: len(row)]
        row[0].set_ylabel(f"{channel}", rotation=0, va="center", labelpad=10, fontsize=11)
        for ax, number in zip(row, best, strict=True):
            i, j = np.unravel_index(out[number, channel].argmax(), out.shape[2:])
            ax.imshow(images[number, 2 * i : 2 * i + 14, 2 * j : 2 * j + 14], cmap="gray_r", vmin=0, vmax=255)
            ax.set(xticks=[], yticks=[])


def occlusion():
    """Draw which pixels of a test image the prediction needs."""
    _, axes = plt.subplots(1, 2, figsize=(6.4, 3.1), layout="constrained")
    OcclusionDisplay.from_network(network, test_set.images[12], backend="numpy", ax=axes)
