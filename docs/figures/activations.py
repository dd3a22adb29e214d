"""Plot the activations and their slopes."""

import matplotlib.pyplot as plt
import numpy as np

from fastnn.backends.reference import activate, activate_backward

a = np.linspace(-4, 4, 401)
lines = {
    "relu": ("#0072B2", "-"),
    "leaky_relu": ("#56B4E9", (0, (5, 1))),
    "elu": ("#CC79A7", "--"),
    "gelu": ("#E69F00", "-."),
    "silu": ("#8A5A00", (0, (1, 1))),
    "tanh": ("#D55E00", "--"),
    "logistic": ("#009E73", "-."),
    "identity": ("#5F5F5F", ":"),
}
figure, axes = plt.subplots(2, 1, figsize=(6, 6.4), sharex=True, layout="constrained")
for name, (colour, style) in lines.items():
    h = activate(a, name)
    axes[0].plot(a, h, linestyle=style, color=colour, lw=1.8, label=name)
    axes[1].plot(a, activate_backward(np.ones_like(a), a, h, name), linestyle=style, color=colour, lw=1.8)
axes[0].set(title="activation", ylim=(-1.5, 3))
axes[1].set(title="slope", xlabel="a", ylim=(-0.2, 1.2))
axes[0].legend(frameon=False, ncols=2)
for ax in axes:
    ax.grid(alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)
