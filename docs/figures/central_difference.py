"""Plot the error of the central difference against its step."""

import matplotlib.pyplot as plt
import numpy as np

import fastnn
from fastnn.backends import reference

first = np.array([[0.5, -1, 0.2], [0.25, 0.5, -0.3]])
second, biases = np.array([[0.5, -0.5], [1, 2], [1, -1]]), [np.array([0, -0.5, 0.9]), np.array([0.0, 1])]
x, label = np.array([[1.0, 2.0]]), np.array([1])


def loss_with(change):
    moved = first.copy()
    moved[1, 2] += change
    return reference.loss_and_gradients(fastnn.Network([moved, second], biases), x, label)


exact = loss_with(0).dweights[0][1, 2]
steps = np.logspace(-12, -1, 89)
errors = [abs((loss_with(e).loss - loss_with(-e).loss) / (2 * e) - exact) / exact for e in steps]
figure, ax = plt.subplots(figsize=(6, 3.2), layout="constrained")
ax.loglog(steps, np.maximum(errors, 1e-13), color="#0072B2", lw=1.8)
ax.axvline(1e-5, color="#5F5F5F", lw=1, ls="--")
ax.text(1.3e-5, 1e-4, "the check's 1e-5", color="#5F5F5F")
ax.set(xlabel="epsilon", ylabel="relative error")
ax.grid(alpha=0.25)
ax.spines[["top", "right"]].set_visible(False)
