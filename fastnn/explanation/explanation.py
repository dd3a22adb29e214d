"""`explain` and the `Explanation` that it returns: every step of one sample through a network.

Dimensions: D inputs and H units of a layer, C classes. The reference backend computes all steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastnn import evaluation
from fastnn.backends import layerwise, reference
from fastnn.backends.arguments import check_inputs
from fastnn.datasets.arrays import as_array, feature_names
from fastnn.errors import DataError
from fastnn.explanation.text import render
from fastnn.models import Model, as_model
from fastnn.models.model import class_number
from fastnn.models.rows import model_rows
from fastnn.network import Dense, Layer, MaxPool2D, Network
from fastnn.network.losses import softmax_terms


@dataclass(frozen=True, eq=False)
class LayerSteps:
    """The steps of one layer for one sample; arrays have the network's dtype.

    Attributes
    ----------
    layer : Layer
    weight, bias, statistics
        The layer's arrays, as in `fastnn.network.layers.Arrays`.
        Weight and bias are None for a layer without parameters.
    inp : ndarray of shape (D,), or (channels, height, width) for layers of images
        The input of the layer: the scaled sample, or the output of the previous layer.
    sums : ndarray of shape (H,), or (channels, height, width) for layers that give images
        What the layer computes before its activation: ``inp @ weight + bias`` for a dense layer, the weighted sums of
        all patches for a convolution, the largest or the mean number of each window for a pool, and in `BatchNorm` the
        scaled and shifted inputs.
    out : ndarray of the shape of `sums`
        ``activation(sums)``: of a convolution the feature maps.
    taps : ndarray of int32 and the shape of `sums`, or None
        Of a max pool, where the largest number of each window was: the window's width * row + column, within the
        window. None for other layers.
    dsums, dweight, dbias : ndarray of the shapes of `sums`, `weight` and `bias`, or None
        The gradients of the loss with respect to the sums (the layer's error), the weights and the biases; None without
        a label, and `dweight` and `dbias` for a layer without parameters.
    """

    layer: Layer
    weight: np.ndarray | None
    bias: np.ndarray | None
    statistics: tuple[np.ndarray, ...]
    inp: np.ndarray
    sums: np.ndarray
    out: np.ndarray
    taps: np.ndarray | None
    dsums: np.ndarray | None = None
    dweight: np.ndarray | None = None
    dbias: np.ndarray | None = None

    @property
    def activation(self) -> str:
        """The name of the layer's activation; "identity" for the last layer."""
        return str(self.layer.activation)


@dataclass(frozen=True, eq=False)
class Explanation:
    """Every step of one sample through a network; `str` renders them as text. D is the number of inputs, C of classes.

    Attributes
    ----------
    network : Network
    row : ndarray of shape (D,)
        The sample as given. ``layers[0].inp`` is the scaled or standardised sample.
    layers : tuple of LayerSteps
        From the first layer to the last. The sums of the last layer are the logits.
    logits : ndarray of shape (C,)
        The inputs of the softmax.
    shifted, exp, proba : ndarray of shape (C,)
        The steps of the softmax: ``logits - max(logits)``, ``exp(shifted)`` and ``exp / total``.
    total : float
        The sum of `exp`.
    prediction : int
        The most probable class.
    rival : int or None
        The class that `contributions` compares with the prediction: the label if the prediction is wrong, otherwise
        the second most probable class. None if the network has one class.
    contributions : ndarray of shape (D,)
        The contribution of each input to ``logits[prediction] - logits[rival]``: input times gradient. If all
        activations are straight lines on each side of 0, such as ReLU, the contributions of the inputs and of the
        biases add up to this difference. With others, such as tanh, they show only the slope of the difference.
    label : int or None
        The true class.
    loss : float or None
        The cross-entropy ``-log(proba[label])``; None without a label.
    class_names : list of C str
    image_shape : tuple of int, or None
        (height, width) if the sample is an image.
    feature_names : tuple of D str, or None
        The name of each input, if the model or estimator has them.

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
    feature_names: tuple[str, ...] | None = None

    @property
    def logits(self) -> np.ndarray:
        """The inputs of the softmax, shape (C,): the sums of the last layer."""
        return self.layers[-1].sums.reshape(-1)

    @property
    def input_shape(self) -> tuple[int, int, int] | None:
        """The shape (channels, height, width) of the sample if it is an image."""
        shape = self.network.shapes[0]
        if len(shape) == 3:
            return (shape[0], shape[1], shape[2])
        return None if self.image_shape is None else (1, *self.image_shape)

    def to_dict(self) -> dict[str, Any]:
        """Return all numbers except the network's weights, as plain lists that JSON can store.

        "prediction", "label", "for" and "against" are class numbers, that is, indices into "classes".
        """
        names = ("inp", "sums", "out", "taps", "dsums", "dweight", "dbias")
        layers = [
            {"kind": layer.layer.kind, "activation": layer.activation}
            | {name: array.tolist() for name in names if (array := getattr(layer, name)) is not None}
            for layer in self.layers
        ]
        return {
            "network": repr(self.network),
            "classes": self.class_names,
            "prediction": self.prediction,
            "label": self.label,
            "loss": self.loss,
            "features": None if self.feature_names is None else list(self.feature_names),
            "row": self.row.tolist(),
            "layers": layers,
            "softmax": {
                "logits": self.logits.tolist(),
                "shifted": self.shifted.tolist(),
                "exp": self.exp.tolist(),
                "total": self.total,
                "probabilities": self.proba.tolist(),
            },
            "contributions": {"for": self.prediction, "against": self.rival, "values": self.contributions.tolist()},
        }

    def to_text(self) -> str:
        """Return the steps as text. Of a long list, only the largest entries are shown."""
        return render(self)

    __str__ = to_text

    def __repr__(self) -> str:
        predicted = f"class {self.class_names[self.prediction]} at {self.proba[self.prediction]:.2%}"
        return f"Explanation({predicted}, {self.network})"


def explain(
    network: Any,
    row: ArrayLike,
    label: Any = None,
    *,
    class_names: Sequence[object] | None = None,
    image_shape: tuple[int, int] | None = None,
) -> Explanation:
    """Run one sample forward and, if it has a label, backward through a network, and keep every step.

    Every layer computes what it computes in prediction: `BatchNorm` uses its running averages, also in the gradients.
    A single logistic output z, as of an estimator with two classes, is explained as the equal softmax of 0 and z.

    Parameters
    ----------
    network : Network, Model, result of `train` or fitted estimator
        Its output is softmax, or a single logistic one.
    row : array-like of shape (D,), (1, D), (height, width) or (channels, height, width), or frame with one row
        Finite numbers, unscaled (the network applies its `input_scale` or its standardization): for example a row of
        `Dataset.images`.
    label : int or str, optional
        The true class: of a network a number from 0 to C - 1, of a model or an estimator one of its classes. It adds
        the loss and the gradients, without L2 and dropout.
    class_names : sequence of C names, optional
        By default the classes of the model or estimator; of a network, 0 to C - 1.
    image_shape : tuple of int, optional
        (height, width) if the row is an image. The text then names an input by its row and column. By default that of
        the model or estimator.

    Returns
    -------
    Explanation
        Arrays in the network's dtype, computed by the reference backend.

    Raises
    ------
    DataError
        If the output is not softmax, the row does not match the network or `image_shape`, the label is none of the
        classes, or `class_names` does not have C names.
    SettingsError
        If `network` is something else.

    Examples
    --------
    >>> import fastnn
    >>> weights, biases = [[[2.0, -1.0], [0.5, 0.0]], [[2.0, 1.0], [7.0, 5.0]]], [[0.0, 0.0], [0.0, -0.5]]
    >>> explanation = fastnn.explain(fastnn.Network(weights, biases), [1.0, -1.0], label=1)
    >>> explanation.layers[0].sums.tolist(), explanation.layers[0].out.tolist()
    ([1.5, -1.0], [1.5, 0.0])
    >>> explanation.logits.tolist(), explanation.prediction, round(explanation.loss, 3)
    ([3.0, 1.0], 0, 2.127)
    >>> explanation.contributions.tolist()
    [2.0, -0.5]
    """
    model = _with_two_logits(as_model(network))
    network = model.network
    if not network.loss.uses_labels:
        raise DataError(f"the output of {network} is {network.output}, expected softmax over C classes")
    values, image_shape = _single_row(model, row, image_shape)
    batch = check_inputs(network, values[None])
    if not np.isfinite(batch).all():
        raise DataError("row contains NaN or infinity, expected finite numbers")
    number = None if label is None else class_number(model.classes, label)
    if image_shape is not None:
        image_shape = evaluation.check_images(batch, image_shape, 1)
    names = evaluation.check_names(model.class_names if class_names is None else class_names, network.n_classes)
    return _steps(model, values, batch, number, names, image_shape)


def _with_two_logits(model: Model) -> Model:
    """Return a model with one logistic output and two classes as the equal softmax of the logits 0 and z.

    The logistic function of z is the softmax of (0, z). Other models are returned as they are.
    """
    network, last = model.network, model.network.layers[-1]
    is_binary = network.output == "logistic" and network.n_outputs == 1 and len(model.classes or ()) == 2
    if not is_binary or not isinstance(last, Dense):
        return model
    weights, biases = (
        [*arrays[:-1], np.concatenate([np.zeros_like(arrays[-1]), arrays[-1]], axis=-1)]
        for arrays in (network.weights, network.biases)
    )
    whole = Network(
        weights, biases, input_scale=network.input_transform, output="softmax",
        layers=[*network.layers[:-1], replace(last, units=2)], input_shape=network.shapes[0],
        statistics=network.statistics,
    )  # fmt: skip
    return replace(model, network=whole)


def _single_row(
    model: Model, row: Any, image_shape: tuple[int, int] | None
) -> tuple[np.ndarray, tuple[int, int] | None]:
    """Return the sample as numbers (D,), and the image shape if it is known."""
    n_inputs = model.network.n_inputs
    known = feature_names(row)
    values = np.asarray(model_rows(model.row_format, row)) if known is not None else as_array(row, "row")
    if image_shape is None:
        image_shape = model.image_shape
        if values.ndim == 2 and values.size == n_inputs and 1 not in values.shape:
            image_shape = (values.shape[0], values.shape[1])
    if (values.ndim == 2 and values.size == n_inputs) or values.shape == model.network.shapes[0]:
        values = values.reshape(-1)
    if values.shape != (n_inputs,):
        raise DataError(f"row has shape {values.shape}, expected ({n_inputs},), one sample for {model.network}")
    return values, image_shape


def _steps(
    model: Model,
    values: np.ndarray,
    batch: np.ndarray,
    label: int | None,
    names: list[str],
    image_shape: tuple[int, int] | None,
) -> Explanation:
    """Return the explanation of a checked sample, (1, D), and its class number."""
    network = model.network
    passes = layerwise.forward(reference, network.core, batch)
    logits, loss = passes[-1].out.reshape(1, -1), None
    layers = [_forward_steps(each) for each in passes]
    shifted, exp, total = softmax_terms(logits)
    proba = exp / total
    if label is not None:
        loss, dlogits = reference.mean_loss(network.output, logits, np.array([label]))
        layers = _with_gradients(layers, passes, dlogits)
    prediction, *others = np.argsort(-proba[0], kind="stable").tolist()
    rival = None if not others else label if label not in (None, prediction) else others[0]
    dlogits = np.zeros_like(logits)
    dlogits[0, prediction] = 1
    if rival is not None:
        dlogits[0, rival] = -1
    dinp, _, _ = layerwise.backward(reference, passes, dlogits.reshape(passes[-1].out.shape), needs_dinp=True)
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
        contributions=(passes[0].inp * dinp).reshape(-1),
        label=label,
        loss=loss,
        class_names=names,
        image_shape=image_shape,
        feature_names=model.feature_names,
    )


def _forward_steps(each: layerwise.LayerPass) -> LayerSteps:
    """Return the steps of a layer's forward pass of one sample."""
    inp = each.inp[0].reshape(-1) if isinstance(each.layer, Dense) else each.inp[0]
    taps = each.forward.saved[0] if isinstance(each.layer, MaxPool2D) else None
    return LayerSteps(each.layer, *each.arrays, inp, each.forward.sums[0], each.out[0], taps)


def _with_gradients(
    layers: Sequence[LayerSteps], passes: Sequence[layerwise.LayerPass], dlogits: np.ndarray
) -> list[LayerSteps]:
    """Return the steps with the gradients of every layer, computed layer by layer from the last one."""
    dout: Any = dlogits.reshape(passes[-1].out.shape)
    complete = []
    for layer, each in zip(reversed(layers), reversed(passes), strict=True):
        dsums = reference.activate_backward(dout, each.forward.sums, each.out, layer.activation)
        dout, dweights, dbiases = layerwise.backward(reference, [each], dout, needs_dinp=True)
        dweight, dbias = (dweights[0], dbiases[0]) if dweights else (None, None)
        complete.append(replace(layer, dsums=dsums[0], dweight=dweight, dbias=dbias))
    return complete[::-1]
