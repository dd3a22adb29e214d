"""Plot the training loss at four learning rates."""

import matplotlib.pyplot as plt

import fastnn

few = fastnn.load_mnist()[0].take(slice(1000))
figure, ax = plt.subplots(figsize=(6.6, 3.4), layout="constrained")
lines = {0.001: ("#5F5F5F", ":"), 0.01: ("#E69F00", "-."), 0.2: ("#0072B2", "-"), 3: ("#D55E00", "--")}
for rate, (colour, style) in lines.items():
    network = fastnn.Network.for_data(few, hidden=(32,))
    history = fastnn.train(network, few, epochs=15, batch_size=50, learning_rate=rate, backend="numpy").history
    ax.plot(history.column("epoch"), history.column("loss"), style, color=colour, lw=2, label=f"rate {rate:g}")
ax.set(xlabel="epoch", ylabel="training loss", ylim=(0, 3.5))
ax.grid(alpha=0.25)
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
