"""Draw what a network without and with a hidden layer learns of XOR and of two moons."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from sklearn.datasets import make_moons

import fastnn
from fastnn.backends import reference

xor = np.array([[0, 0], [1, 1], [0, 1], [1, 0]], np.float64), np.array([0, 0, 1, 1])
sets = {"XOR": xor, "two moons": make_moons(200, noise=0.15, random_state=0)}
shades = LinearSegmentedColormap.from_list("classes", ["#7FB3D9", "#FFFFFF", "#F2B48A"])
figure, axes = plt.subplots(2, 2, figsize=(5.6, 5.8), layout="constrained")
for row, (name, (x, labels)) in zip(axes, sets.items(), strict=True):
    for ax, hidden in zip(row, ((), (8,)), strict=True):
        network = fastnn.Network.initialize((2, *hidden, 2), seed=0, dtype=np.float64)
        data = fastnn.Dataset(x, labels)
        run = fastnn.train(network, data, epochs=800, batch_size=min(50, len(x)), learning_rate=0.3, backend="numpy")
        low, high = x.min(axis=0) - 0.5, x.max(axis=0) + 0.5
        across, up = np.meshgrid(np.linspace(low[0], high[0], 200), np.linspace(low[1], high[1], 200))
        p = reference.predict_proba(run.network, np.column_stack([across.ravel(), up.ravel()]))[:, 1]
        ax.contourf(across, up, p.reshape(across.shape), np.linspace(0, 1, 21), cmap=shades)
        ax.contour(across, up, p.reshape(across.shape), [0.5], colors="#222222", linewidths=1.6)
        for k, colour, marker in ((0, "#005A8C", "o"), (1, "#A63F00", "^")):
            ax.scatter(*x[labels == k].T, s=90 if len(x) < 10 else 20, color=colour, marker=marker, ec="white", lw=0.6)
        correct = (reference.predict_proba(run.network, x).argmax(axis=1) == labels).sum()
        layers = "8 ReLU units" if hidden else "no hidden layer"
        ax.set_title(f"{name}, {layers}:\n{correct} of {len(x)} correct", fontsize=12)
        ax.set(xticks=[], yticks=[])
