"""Plot the factors of four learning-rate schedules."""

import matplotlib.pyplot as plt
import numpy as np

from fastnn.optim.schedules import get_schedule

lines = {
    "step:0.5,5": ("#5F5F5F", ":"),
    "inverse-time:0.2": ("#E69F00", "-."),
    "exponential:0.9": ("#D55E00", "--"),
    "cosine": ("#0072B2", "-"),
}
figure, ax = plt.subplots(figsize=(6.6, 3), layout="constrained")
for name, (colour, style) in lines.items():
    factors = [get_schedule(name)(epoch, 20) for epoch in range(20)]
    ax.plot(np.arange(1, 21), factors, style, color=colour, lw=2, label=name)
ax.set(xlabel="epoch", ylabel="factor", ylim=(0, 1.05), xticks=range(1, 21, 3))
ax.grid(alpha=0.25)
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
