"""Makes the data of the workloads: real sets that ship with scikit-learn or fastnn, and seeded imitations of others.

Each function returns inputs (N, D) in float64 and labels (N,), indicators (N, C) or targets (N,) or (N, C). `rows` is
the number of samples. The sets that ship are cut to it.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import sparse

Data = tuple[Any, np.ndarray]
SEED = 17


def digits(rows: int = 1797, scale: float = 1.0) -> Data:
    """Return scikit-learn's digits of 8 x 8 pixels, divided by `scale`."""
    from sklearn.datasets import load_digits

    inputs, labels = load_digits(return_X_y=True)
    return inputs[:rows] / scale, labels[:rows]


def iris(rows: int = 150) -> Data:
    """Return Fisher's iris; its classes are mixed, so that fewer rows have all of them."""
    from sklearn.datasets import load_iris

    inputs, labels = load_iris(return_X_y=True)
    order = np.arange(150).reshape(3, 50).T.ravel()[:rows]
    return inputs[order], labels[order]


def xor(rows: int = 4) -> Data:
    """Return the four rows of an exclusive or."""
    return np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), np.array([0, 1, 1, 0])


def moons(rows: int = 100) -> Data:
    """Return two half-circles with noise."""
    from sklearn.datasets import make_moons

    return make_moons(rows, noise=0.3, random_state=SEED)


def mnist(rows: int, scale: float = 255.0) -> Data:
    """Return the first images of MNIST as numbers."""
    import fastnn

    train, _ = fastnn.load_mnist()
    return train.images[:rows] / scale, train.labels[:rows].astype(np.int64)


def clusters(rows: int, inputs: int, classes: int) -> Data:
    """Return classes that are normally distributed around centres, which overlap a little."""
    rng = np.random.default_rng(SEED)
    centres = 6 * rng.standard_normal((classes, inputs)) / np.sqrt(inputs)
    labels = np.arange(rows) % classes
    return centres[labels] + rng.standard_normal((rows, inputs)), labels


def smooth(rows: int, inputs: int, targets: int = 1) -> Data:
    """Return bent linear functions of normal inputs, with noise; one target has shape (N,)."""
    rng = np.random.default_rng(SEED)
    found = rng.standard_normal((rows, inputs))
    values = np.tanh(found @ rng.standard_normal((inputs, targets))) + 0.1 * rng.standard_normal((rows, targets))
    return found, values[:, 0] if targets == 1 else values


def indicators(rows: int, inputs: int, labels: int) -> Data:
    """Return several yes-or-no labels for each sample."""
    rng = np.random.default_rng(SEED)
    found = rng.standard_normal((rows, inputs))
    return found, (found @ rng.standard_normal((inputs, labels)) > 1).astype(int)


def text(rows: int, words: int, classes: int = 20, per_row: int = 100) -> Data:
    """Return rows of a CSR matrix like tf-idf: frequent words by Zipf's law, a quarter of each row from its topic."""
    rng = np.random.default_rng(SEED)
    labels = rng.integers(classes, size=rows)
    lengths = np.maximum(rng.poisson(per_row, rows), 4)
    row = np.repeat(np.arange(rows), lengths)
    share = 1 / np.arange(1, words + 1)
    frequent = np.searchsorted(np.cumsum(share / share.sum()), rng.random(len(row)) * (1 - 1e-9))
    topical = (labels[row] * words // classes + rng.integers(min(400, words), size=len(row))) % words
    column = np.where(rng.random(len(row)) < 0.25, topical, frequent)
    matrix = sparse.csr_matrix((0.2 + rng.random(len(row)), (row, column)), shape=(rows, words))
    norms = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    return (sparse.diags(1 / norms) @ matrix).tocsr(), labels


def copied(of: str, **options: Any) -> Data:
    """Return another set whose targets are its inputs, as an autoencoder has them."""
    inputs, _ = MAKERS[of](**options)
    return inputs, inputs


MAKERS: dict[str, Callable[..., Data]] = {
    each.__name__: each
    for each in (digits, iris, xor, moons, mnist, clusters, smooth, indicators, text, copied)
}  # fmt: skip
