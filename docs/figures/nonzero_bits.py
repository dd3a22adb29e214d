"""Draw the nonzero bits of the pixels of one image row in 64 samples, as the kernel of the first layer stores them."""

import matplotlib.pyplot as plt

import fastnn

images = fastnn.load_mnist()[0].images[:64].reshape(64, 28, 28)
bits = (images[:, 14] != 0).T
figure, ax = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
ax.imshow(bits, cmap="Blues", vmin=-0.05, vmax=1.25, aspect="auto", interpolation="nearest")
ax.hlines([edge - 0.5 for edge in range(0, 29, 4)], -0.5, 63.5, color="#D55E00", lw=0.9)
ax.set(
    xlabel="sample, the number of the bit",
    ylabel="pixel of image row 14",
    xticks=range(0, 64, 9),
    yticks=range(0, 28, 4),
)
