"""Draw the probabilities of four logits, and those of the same logits times 3."""

import matplotlib.pyplot as plt
import numpy as np

from fastnn.backends import reference

logits = np.array([[2.0, 1.0, 0.0, -1.0]])
figure, axes = plt.subplots(1, 3, figsize=(5.6, 2.8), layout="constrained")
panels = (
    ("logits z", logits[0], "#5F5F5F"),
    ("softmax(z)", reference.softmax(logits)[0], "#0072B2"),
    ("softmax(3 z)", reference.softmax(3 * logits)[0], "#D55E00"),
)
for ax, (title, heights, colour) in zip(axes, panels, strict=True):
    bars = ax.bar(range(4), heights, color=colour)
    ax.bar_label(
        bars,
        [f"{height:.2f}" if ax is not axes[0] else f"{height:g}".replace("-", "\N{MINUS SIGN}") for height in heights],
        fontsize=10,
    )
    ax.set_title(title, fontsize=11)
    ax.set(xlabel="class", xticks=range(4))
    ax.set_ylim(*((-1.6, 2.5) if ax is axes[0] else (0, 1.12)))
    ax.spines[["top", "right"]].set_visible(False)
axes[0].axhline(0, color="#333333", lw=0.8)
