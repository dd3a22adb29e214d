"""Computes every step of one sample, forward and backward through a network, with functions of the reference backend.

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
    """The steps of one layer for one sample; arrays have the network's dtype.

    Attributes
    ----------
    weight, bias : ndarray of shape (fan_in, H), (H,)
        The layer's parameters.
    activation : str
        "identity" for the last layer.
    inp : ndarray of shape (fan_in,)
        The input of the layer: the scaled sample, or the output of the previous layer.
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
        """The gradient with respect to the biases, shape (H,); for one sample it equals the error `dsums`."""
        return self.dsums


@dataclass(frozen=True, eq=False)
class SampleSteps:
    """The steps of one sample through all layers; `fastnn.Explanation`, its subclass, describes the fields."""

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
        """The inputs of the softmax, shape (C,): the sums of the last layer."""
        return self.layers[-1].sums

    def to_dict(self) -> dict[str, Any]:
        """Return all numbers except the network's weights, as plain lists that JSON can store.

        "prediction", "label", "for" and "against" are class numbers, that is, indices into "classes".
        """
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


def compute_steps(
    network: Network,
    row: ArrayLike,
    label: int | None = None,
    *,
    class_names: Sequence[object] | None = None,
    image_shape: tuple[int, int] | None = None,
) -> SampleSteps:
    """Compute the steps of one sample; parameters and errors are those of `fastnn.explain`."""
    if network.output != "softmax":
        raise DataError(f"the output of {network} is {network.output}, expected softmax over C classes")
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
    for i, (weight, bias) in enumerate(zip(network.weights, network.biases, strict=True)):
        sums = reference.dense_forward(inps[i], weight, bias)[0]
        activation = network.activation if i < len(outs) - 1 else "identity"
        # The gradient of a bias is the sum of its unit's errors over the batch, and this batch has one sample.
        dsums, dweight = (gradients.dbiases[i], gradients.dweights[i]) if gradients else (None, None)
        layers.append(LayerSteps(weight, bias, activation, inps[i][0], sums, outs[i][0], dsums, dweight))

    prediction, *others = np.argsort(-proba[0], kind="stable").tolist()
    rival = None if not others else label if label not in (None, prediction) else others[0]
    return SampleSteps(
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
    """Return each input times the gradient of ``logits[prediction] - logits[rival]``, shape (D,)."""
    dout = np.zeros_like(outs[-1])
    dout[0, prediction] = 1
    if rival is not None:
        dout[0, rival] = -1
    last = len(outs) - 1
    for layer in range(last, -1, -1):
        activation = network.activation if layer < last else "identity"
        dout, _, _ = reference.dense_backward(dout, inps[layer], network.weights[layer], outs[layer], activation)
    return inps[0][0] * dout[0]
