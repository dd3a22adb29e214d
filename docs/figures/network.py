"""Draw the small network of the course: forward with its weights and values, backward with its gradients."""

import matplotlib.pyplot as plt
import numpy as np

import fastnn
from fastnn.backends import layerwise, reference

POSITIVE, NEGATIVE, ZERO, FACE = "#0072B2", "#B34700", "#8A8A8A", "#EAF3FA"
COLUMNS = (0.0, 2.6, 5.2)
# Where the number of an edge stands, as a fraction of the edge: numbers do not meet where edges cross.
PLACES = (((0.3, 0.28, 0.2), (0.2, 0.28, 0.3)), ((0.42, 0.2), (0.3, 0.3), (0.3, 0.42)))

x, label = np.array([[1.0, 2.0]]), np.array([1])
network = fastnn.Network(
    weights=[np.array([[0.5, -1, 0.2], [0.25, 0.5, -0.3]]), np.array([[0.5, -0.5], [1, 2], [1, -1]])],
    biases=[np.array([0, -0.5, 0.9]), np.array([0.0, 1])],
)
passes = layerwise.forward(reference, network, x)


def forward():
    """Draw the values of the forward pass. A line is as thick as its weight is large."""
    ax = _axes()
    p = reference.predict_proba(network, x)[0]
    for k, weight in enumerate(network.weights):
        _edges(ax, k, weight, "-|>", lambda number: f"{number:g}")
    _units(ax, 0, [f"x = {value:g}" for value in x[0]])
    sums, outs = passes[0].forward.sums[0], passes[0].out[0]
    _units(
        ax, 1, [f"a = {a:.1f}\no = {o:.1f}".replace("-", "\N{MINUS SIGN}") for a, o in zip(sums, outs + 0, strict=True)]
    )
    _units(ax, 2, [f"z = {z:.0f}\np = {value:.2f}" for z, value in zip(passes[1].out[0] + 0, p, strict=True)])
    _titles(ax, ("inputs", "hidden units (ReLU)", "classes (softmax)"))
    _biases(ax, network.biases, "b")


def backward():
    """Draw the gradients of the backward pass, as multiples of q = 0.731."""
    ax = _axes()
    result = reference.loss_and_gradients(network, x, label)
    q = reference.predict_proba(network, x)[0, 0]
    dlogits = result.dbiases[1]
    douts = dlogits @ network.weights[1].T
    for k, dweight in enumerate(result.dweights):
        _edges(ax, k, dweight / q, "<|-", _multiple)
    _units(ax, 0, [f"x = {value:g}" for value in x[0]])
    dsums = result.dbiases[0]
    hidden = zip(douts / q, dsums / q, strict=True)
    _units(ax, 1, [f"do = {_multiple(do)}\nda = {_multiple(da)}" for do, da in hidden])
    _units(ax, 2, [f"dz = {_multiple(dz)}" for dz in dlogits / q])
    _titles(ax, ("inputs", "hidden units", "classes"))
    _biases(ax, [dbias / q for dbias in result.dbiases], "db", _multiple)


def _multiple(number):
    number = round(float(number), 3) + 0  # + 0 makes 0 of -0
    return {0.0: "0", 1.0: "q", -1.0: "-q"}.get(number, f"{number:g}q").replace("-", "\N{MINUS SIGN}")


def _axes():
    _, ax = plt.subplots(figsize=(6.4, 4.6), layout="constrained")
    ax.set(xlim=(-0.75, 5.95), ylim=(-2.25, 2.4), aspect="equal")
    ax.axis("off")
    return ax


def _heights(n):
    return 1.45 * ((n - 1) / 2 - np.arange(n))


def _edges(ax, k, numbers, arrow, text):
    n_from, n_to = numbers.shape
    for i, y in enumerate(_heights(n_from)):
        for j, to in enumerate(_heights(n_to)):
            number = numbers[i, j]
            color = ZERO if number == 0 else POSITIVE if number > 0 else NEGATIVE
            style = ":" if number == 0 else "-" if number > 0 else (0, (4, 2))
            start, end = np.array([COLUMNS[k] + 0.5, y]), np.array([COLUMNS[k + 1] - 0.55, to])
            properties = {"arrowstyle": arrow, "color": color, "ls": style, "lw": 1 + min(abs(number), 4) * 0.6}
            ax.annotate("", end, start, arrowprops={**properties, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 11})
            at = start + (end - start) * PLACES[k][i][j]
            ax.text(
                *at,
                text(number).replace("-", "\N{MINUS SIGN}"),
                color=color,
                fontsize=10,
                weight="bold",
                ha="center",
                va="center",
                bbox={"fc": "white", "ec": "none", "pad": 0.8},
            )


def _units(ax, column, texts):
    for y, text in zip(_heights(len(texts)), texts, strict=True):
        ax.add_patch(plt.Circle((COLUMNS[column], y), 0.5, fc=FACE, ec="#333333", lw=1.2, zorder=3))
        ax.text(COLUMNS[column], y, text, ha="center", va="center", fontsize=9.5, color="#111111", zorder=4)


def _biases(ax, biases, name, text=lambda number: f"{number:g}"):
    for column, bias in zip(COLUMNS[1:], biases, strict=True):
        for y, number in zip(_heights(len(bias)), bias, strict=True):
            shown = text(number).replace("-", "\N{MINUS SIGN}")
            ax.text(column, y - 0.62, f"{name} = {shown}", ha="center", va="center", fontsize=9, color="#444444")


def _titles(ax, titles):
    for x_at, title in zip(COLUMNS, titles, strict=True):
        ax.text(x_at, 2.38, title, ha="center", va="top", fontsize=10.5, color="#111111")
