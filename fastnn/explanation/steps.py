"""The steps of one sample through a network, and back: every number is the reference backend's own.

Dimensions: D inputs, H units of a layer, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastnn import evaluation
from fastnn.backends import reference
from fastnn.backends.base import check_inputs
from fastnn.checks import is_integer
from fastnn.errors import DataError
from fastnn.network import Network


@dataclass(frozen=True, eq=False)
class LayerSteps:
    """What one layer does with the sample; arrays have the network's dtype.

    Attributes
    ----------
    weight, bias : ndarray of shape (fan_in, H), (H,)
        The layer's own.
    activation : str
        "identity" for the last layer.
    inp : ndarray of shape (fan_in,)
        What comes in: the scaled inputs, or the output of the layer before.
    sums : ndarray of shape (H,)
        The weighted sums, ``inp @ weight + bias``.
    out : ndarray of shape (H,)
        ``activation(sums)``.
    dsums, dweight : ndarray of shape (H,), (fan_in, H), or None
        The gradients of the loss with respect to the sums (the layer's error) and the weights; None without a label.
    """

    weight: np.ndarray
    bias: np.ndarray
    activation: str
    inp: np.ndarray
    sums: np.ndarray
    out: np.ndarray
    dsums: np.ndarray | None
    dweight: np.ndarray | None

    @property
    def dbias(self) -> np.ndarray | None:
        """The gradient with respect to the biases, shape (H,): of one sample, the same as the error."""
        return self.dsums


@dataclass(frozen=True, eq=False)
class Explanation:
    """One sample's way through a network; `str` tells it in words and numbers.

    Attributes
    ----------
    network : Network
    row : ndarray of shape (D,)
        The sample as it was given; ``layers[0].inp`` is it, scaled.
    layers : tuple of LayerSteps
        From the first to the last, whose sums are the logits.
    shifted, exp, proba : ndarray of shape (C,)
        The steps of the softmax: ``logits - max(logits)``, its exp, and that divided by `total`.
    total : float
        The sum of `exp`.
    prediction : int
        The most probable class.
    rival : int or None
        The class it is held against in `contributions`: the label, where the prediction is wrong, else the second most
        probable; None where there is one class only.
    contributions : ndarray of shape (D,)
        What each input adds to the logit of the prediction over that of the rival: input times the gradient of that
        difference. With ReLU or no activation, these and what comes from the biases add up to the difference; with
        tanh and the logistic function they show its slope.
    label : int or None
        The true class.
    loss : float or None
        The cross-entropy ``-log(proba[label])``.
    class_names : list of C str
    image_shape : tuple of int, or None

    References
    ----------
    A. Shrikumar, P. Greenside, A. Shcherbina, A. Kundaje: Not just a black box: learning important features through
    propagating activation differences. arXiv:1605.01713 (2016), for input times gradient.
    """

    network: Network
    row: np.ndarray
    layers: tuple[LayerSteps, ...]
    shifted: np.ndarray
    exp: np.ndarray
    total: float
    proba: np.ndarray
    prediction: int
    rival: int | None
    contributions: np.ndarray
    label: int | None
    loss: float | None
    class_names: list[str]
    image_shape: tuple[int, int] | None

    @property
    def logits(self) -> np.ndarray:
        """What the softmax is given, shape (C,): the sums of the last layer."""
        return self.layers[-1].sums

    def to_text(self) -> str:
        """The steps in words and numbers; of long lists, the largest entries, and how many there are."""
        from fastnn.explanation.text import render

        return render(self)

    __str__ = to_text

    def __repr__(self) -> str:
        predicted = f"class {self.class_names[self.prediction]} at {self.proba[self.prediction]:.2%}"
        return f"Explanation({predicted}, {self.network})"

    def to_dict(self) -> dict[str, Any]:
        """All numbers as plain lists, for JSON, but not the network's weights; classes by their place in "classes"."""
        arrays = ("inp", "sums", "out") + (() if self.label is None else ("dsums", "dweight", "dbias"))
        layers = [
            {"activation": layer.activation, **{name: getattr(layer, name).tolist() for name in arrays}}
            for layer in self.layers
        ]
        return {
            "network": repr(self.network),
            "classes": self.class_names,
            "prediction": self.prediction,
            "label": self.label,
            "loss": self.loss,
            "row": self.row.tolist(),
            "layers": layers,
            "softmax": {
                "logits": self.logits.tolist(),
                "shifted": self.shifted.tolist(),
                "exp": self.exp.tolist(),
                "total": self.total,
                "probabilities": self.proba.tolist(),
            },
            "contributions": {
                "for": self.prediction,
                "against": self.rival,
                "values": self.contributions.tolist(),
            },
        }


def explain(
    network: Network,
    row: ArrayLike,
    label: int | None = None,
    *,
    class_names: Sequence[object] | None = None,
    image_shape: tuple[int, int] | None = None,
) -> Explanation:
    """Send one sample through a network, and with a label the gradient of its loss back, and keep every step.

    Parameters
    ----------
    row : array-like of shape (D,)
        Finite numbers, before the network's own scaling: a row of `Dataset.images`.
    label : int, optional
        The true class, from 0 to C - 1. With it, loss and gradients are computed; L2 and dropout have no part in them.
    class_names : sequence of C names, optional
        By default 0 to C - 1.
    image_shape : tuple of int, optional
        (height, width), where the row is an image: inputs are then named by their row and column.

    Raises
    ------
    DataError
        If the output is no softmax, the row does not fit the network or the shape, the label is none of its classes, or
        names are missing.
    """
    if network.output != "softmax":
        raise DataError(f"the output of {network} is {network.output}, expected softmax: one of C classes")
    values = np.asarray(row)
    if values.shape != (network.n_inputs,):
        raise DataError(f"row has shape {values.shape}, expected ({network.n_inputs},), one sample for {network}")
    batch = check_inputs(network, values[None])
    if not np.isfinite(batch).all():
        raise DataError("row contains NaN or infinity, expected finite numbers")
    if label is not None and not (is_integer(label) and 0 <= label < network.n_classes):
        raise DataError(f"label is {label!r}, expected a whole number from 0 to {network.n_classes - 1}")
    if image_shape is not None:
        image_shape = evaluation.check_images(batch, image_shape, 1)
    names = evaluation.check_names(class_names, network.n_classes)

    inps, outs = reference.forward(network, batch)
    shifted, exp, total = reference.softmax_terms(outs[-1])
    proba = exp / total
    gradients = None if label is None else reference.loss_and_gradients(network, batch, np.array([label]))
    layers = []
    for place, (weight, bias) in enumerate(zip(network.weights, network.biases, strict=True)):
        sums = reference.dense_forward(inps[place], weight, bias)[0]
        activation = network.activation if place < len(outs) - 1 else "identity"
        # The gradient of a bias is the sum over the batch of its unit's errors, and this is a batch of one.
        dsums, dweight = (gradients.dbiases[place], gradients.dweights[place]) if gradients else (None, None)
        layers.append(LayerSteps(weight, bias, activation, inps[place][0], sums, outs[place][0], dsums, dweight))

    prediction, *others = np.argsort(-proba[0], kind="stable").tolist()
    rival = None if not others else label if label not in (None, prediction) else others[0]
    return Explanation(
        network=network,
        row=values,
        layers=tuple(layers),
        shifted=shifted[0],
        exp=exp[0],
        total=float(total[0, 0]),
        proba=proba[0],
        prediction=prediction,
        rival=rival,
        contributions=_contributions(network, inps, outs, prediction, rival),
        label=None if label is None else int(label),
        loss=None if gradients is None else gradients.loss,
        class_names=names,
        image_shape=image_shape,
    )


def _contributions(
    network: Network, inps: list[np.ndarray], outs: list[np.ndarray], prediction: int, rival: int | None
) -> np.ndarray:
    """Input times the gradient of ``logits[prediction] - logits[rival]``."""
    dout = np.zeros_like(outs[-1])
    dout[0, prediction] = 1
    if rival is not None:
        dout[0, rival] = -1
    last = len(outs) - 1
    for layer in range(last, -1, -1):
        activation = network.activation if layer < last else "identity"
        dout, _, _ = reference.dense_backward(dout, inps[layer], network.weights[layer], outs[layer], activation)
    return inps[0][0] * dout[0]
