"""Draw the loss of a network over two of its weights, and the paths of gradient descent from three starts."""

import matplotlib.pyplot as plt
import numpy as np

import fastnn
from fastnn.backends import reference

rng = np.random.default_rng(0)
labels = np.arange(40) % 2
x = (rng.normal(size=40) + labels - 0.5)[:, None]  # two classes that overlap


def loss_and_gradient(v, w):
    """The loss of a network with one tanh unit: v leads to the unit, and w and -w from it to the two classes."""
    weights, biases = [np.array([[v]]), np.array([[-w, w]])], [np.zeros(1), np.zeros(2)]
    result = reference.loss_and_gradients(fastnn.Network(weights, biases, "tanh"), x, labels)
    return result.loss, np.array([result.dweights[0][0, 0], result.dweights[1][0, 1] - result.dweights[1][0, 0]])


grid = np.linspace(-2.5, 2.5, 61)
surface = np.array([[loss_and_gradient(v, w)[0] for v in grid] for w in grid])
figure, ax = plt.subplots(figsize=(6, 4.9), layout="compressed")
levels = surface.min() + (surface.max() - surface.min()) * np.linspace(0, 1, 22) ** 2  # dense near the minima
filled = ax.contourf(grid, grid, surface, levels, cmap="cividis")
ax.contour(grid, grid, surface, levels, colors="white", linewidths=0.4)
figure.colorbar(filled, ax=ax, label="loss", format="%.2f")
for start, colour, marker in (
    ((-0.4, 2.2), "#FFFFFF", "o"),
    ((2.2, -1.0), "#FF9E4A", "s"),
    ((-2.2, 0.4), "#7FD6FF", "^"),
):
    path = [np.array(start)]
    for _ in range(200):
        path.append(path[-1] - 0.3 * loss_and_gradient(*path[-1])[1])
    ax.plot(*np.transpose(path), color=colour, lw=1.5, marker=marker, markevery=10, ms=6, mec="#222222", mew=0.7)
ax.set(aspect="equal", xlabel="weight v, from the input to the unit", ylabel="weight w, from the unit to the classes")
