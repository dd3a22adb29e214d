"""Plot the accuracy of four networks on test images that are moved to the left or to the right."""

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np

import fastnn

train_set, test_set = fastnn.load_mnist()
some, unseen = train_set.take(slice(3000)), test_set.take(slice(2000))
lenet = [fastnn.Conv2D(6, 5), fastnn.MaxPool2D(), fastnn.Conv2D(16, 5), fastnn.MaxPool2D()]
networks = {
    "LeNet-5": ([*lenet, fastnn.Dense(120), fastnn.Dense(84)], "#009E73", "-", "o"),
    "convolution, max pool": ([fastnn.Conv2D(8, 5), fastnn.MaxPool2D()], "#0072B2", "--", "s"),
    "convolution, stride 2": ([fastnn.Conv2D(8, 5, stride=2)], "#B34700", "-.", "^"),
    "dense": ([fastnn.Dense(64)], "#5F5F5F", ":", "D"),
}
distances = np.arange(-4, 5)


def moved(data, right):
    """Return the data with each image moved to the right; background comes in from the left."""
    padded = np.pad(data.images.reshape(-1, 28, 28), ((0, 0), (0, 0), (4, 4)))
    return replace(data, images=padded[:, :, 4 - right : 32 - right].reshape(-1, 784))


figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
for name, (hidden, colour, style, marker) in networks.items():
    network = fastnn.Network.for_data(some, hidden)
    settings = {"epochs": 4, "batch_size": 32, "optimizer": "adam", "learning_rate": 0.002, "backend": "numpy"}
    trained = fastnn.train(network, some, **settings).network
    accuracy = [100 * fastnn.evaluate(trained, moved(unseen, each), backend="numpy")[1] for each in distances]
    ax.plot(distances, accuracy, color=colour, ls=style, marker=marker, ms=5, lw=1.8, label=name)
ax.set(xlabel="moved to the right by ... pixels", ylabel="accuracy (%)", ylim=(0, 100), xticks=distances)
ax.legend(frameon=False, loc="lower center")
ax.grid(alpha=0.25)
ax.spines[["top", "right"]].set_visible(False)
