"""Plot the four activations and their slopes."""

import matplotlib.pyplot as plt
import numpy as np

from fastnn.backends.reference import activate, activate_backward

a = np.linspace(-4, 4, 401)
lines = {
    "relu": ("#0072B2", "-"),
    "tanh": ("#D55E00", "--"),
    "logistic": ("#009E73", "-."),
    "identity": ("#5F5F5F", ":"),
}
figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
for name, (colour, style) in lines.items():
    h = activate(a, name)
    axes[0].plot(a, h, style, color=colour, lw=2, label=name)
    axes[1].plot(a, activate_backward(np.ones_like(a), h, name), style, color=colour, lw=2)
axes[0].set(title="activation", xlabel="a", ylim=(-1.5, 3))
axes[1].set(title="slope", xlabel="a", ylim=(-0.1, 1.15))
axes[0].legend(frameon=False)
for ax in axes:
    ax.grid(alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)
