"""A whole trainer in plain NumPy: data, forward, loss, backward, step, epochs, accuracy. `tiny.md` explains it."""

import gzip

import numpy as np


def load(name, header):
    """Return the bytes of a MNIST file as an array, without its header."""
    with gzip.open(f"fastnn/datasets/mnist/{name}-ubyte.gz") as file:
        return np.frombuffer(file.read(), np.uint8, offset=header)


def forward(layers, x):
    """Return the input of each layer, and last the logits. Every layer but the last has a ReLU."""
    outs = [x]
    for weight, bias in layers[:-1]:
        outs.append(np.maximum(outs[-1] @ weight + bias, 0))
    return [*outs, outs[-1] @ layers[-1][0] + layers[-1][1]]


def loss_and_gradients(layers, x, labels):
    """Return the mean cross-entropy of a batch, and (dweight, dbias) of each layer by backpropagation."""
    *inputs, logits = forward(layers, x)
    samples, shifted, gradients = np.arange(len(x)), logits - logits.max(axis=1, keepdims=True), []
    total = np.exp(shifted).sum(axis=1, keepdims=True)
    loss = np.mean(np.log(total[:, 0]) - shifted[samples, labels])
    dsums = (np.exp(shifted) / total - np.eye(logits.shape[1])[labels]) / len(x)
    for (weight, _), inp in zip(layers[::-1], inputs[::-1], strict=True):
        gradients.insert(0, (inp.T @ dsums, dsums.sum(axis=0)))
        dsums = (dsums @ weight.T) * (inp > 0)  # the slope of the ReLU whose output is `inp`
    return loss, gradients


def train_epoch(layers, x, labels, order, batch_size, rate):
    """Take one step per batch of the samples `order`, in place; return their mean loss."""
    total = 0.0
    for first in range(0, len(order), batch_size):
        rows = order[first : first + batch_size]
        loss, gradients = loss_and_gradients(layers, x[rows], labels[rows])
        for (weight, bias), (dweight, dbias) in zip(layers, gradients, strict=True):
            weight -= rate * dweight
            bias -= rate * dbias
        total += loss * len(rows)
    return total / len(order)


def accuracy(layers, x, labels):
    """Return the fraction of samples whose largest logit is that of the label."""
    return np.mean(forward(layers, x)[-1].argmax(axis=1) == labels)


if __name__ == "__main__":
    x, labels = load("train-images-idx3", 16).reshape(-1, 784) / 255, load("train-labels-idx1", 8)
    test = load("t10k-images-idx3", 16).reshape(-1, 784) / 255, load("t10k-labels-idx1", 8)
    rng = np.random.default_rng(0)
    layers = [(rng.normal(0, np.sqrt(2 / d), (d, h)), np.zeros(h)) for d, h in [(784, 128), (128, 10)]]
    for epoch in range(5):
        loss = train_epoch(layers, x, labels, rng.permutation(len(x)), 64, 0.2)
        print(f"epoch {epoch + 1}: loss {loss:.4f}, test accuracy {accuracy(layers, *test):.4f}")
