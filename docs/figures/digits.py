"""Draw twelve training images with their labels."""

import matplotlib.pyplot as plt

import fastnn

data = fastnn.load_mnist()[0].take(slice(12))
figure, axes = plt.subplots(2, 6, figsize=(6.4, 2.6), layout="constrained")
for ax, image, label in zip(axes.flat, data.images, data.labels, strict=True):
    ax.imshow(image.reshape(28, 28), cmap="gray_r")
    ax.set_title(f"label {label}", fontsize=9)
    ax.set(xticks=[], yticks=[])
