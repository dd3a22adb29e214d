"""Draw the cross-entropy of a sample against the probability of its label."""

import matplotlib.pyplot as plt
import numpy as np

from fastnn.backends import reference

p = np.linspace(0.005, 0.999, 400)
logits = np.stack([np.log(p), np.log1p(-p)], axis=1)
losses = [reference.softmax_cross_entropy(row[None], np.array([0]))[0] for row in logits]
figure, ax = plt.subplots(figsize=(6, 3.4), layout="constrained")
ax.plot(p, losses, color="#0072B2", lw=2)
for at, text in ((0.1, "ten classes, nothing known: 2.30"), (0.2689, "the small network: 1.31"), (0.9, "0.11")):
    ax.plot(at, -np.log(at), "o", color="#D55E00", ms=7)
    ax.annotate(text, (at, -np.log(at)), (8, 6), textcoords="offset points", fontsize=10.5, color="#333333")
ax.set(xlabel="probability of the label", ylabel="loss", xlim=(0, 1.02), ylim=(0, 5.5))
ax.grid(alpha=0.25)
ax.spines[["top", "right"]].set_visible(False)
