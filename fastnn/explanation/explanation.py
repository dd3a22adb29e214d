"""`explain` and the `Explanation` that it returns: every step of one sample through a network."""

from collections.abc import Sequence
from dataclasses import dataclass

from numpy.typing import ArrayLike

from fastnn.explanation.steps import SampleSteps, compute_steps
from fastnn.explanation.text import render
from fastnn.network import Network


@dataclass(frozen=True, eq=False)
class Explanation(SampleSteps):
    """Every step of one sample through a network; `str` renders them as text.

    D is the number of inputs, C the number of classes.

    Attributes
    ----------
    network : Network
    row : ndarray of shape (D,)
        The sample as given. ``layers[0].inp`` is the scaled sample.
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

    References
    ----------
    A. Shrikumar, P. Greenside, A. Shcherbina, A. Kundaje: Not just a black box: learning important features through
    propagating activation differences. arXiv:1605.01713 (2016), for input times gradient.
    """

    def to_text(self) -> str:
        """Return the steps as text. Of a long list, only the largest entries are shown."""
        return render(self)

    __str__ = to_text

    def __repr__(self) -> str:
        predicted = f"class {self.class_names[self.prediction]} at {self.proba[self.prediction]:.2%}"
        return f"Explanation({predicted}, {self.network})"


def explain(
    network: Network,
    row: ArrayLike,
    label: int | None = None,
    *,
    class_names: Sequence[object] | None = None,
    image_shape: tuple[int, int] | None = None,
) -> Explanation:
    """Run one sample forward and, if it has a label, backward through a network, and keep every step.

    Every layer computes what it computes in prediction: `BatchNorm` uses its running averages, also in the gradients.

    Parameters
    ----------
    network : Network
        A network with softmax output.
    row : array-like of shape (D,)
        Finite numbers, unscaled (the network applies its `input_scale`): for example a row of `Dataset.images`.
    label : int, optional
        The true class, from 0 to C - 1. It adds the loss and the gradients, without L2 and dropout.
    class_names : sequence of C names, optional
        By default 0 to C - 1.
    image_shape : tuple of int, optional
        (height, width) if the row is an image. The text then names an input by its row and column.

    Returns
    -------
    Explanation
        Arrays in the network's dtype, computed by the reference backend.

    Raises
    ------
    DataError
        If the output is not softmax, the row does not match the network or `image_shape`, the label is out of range,
        or `class_names` does not have C names.

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
    steps = compute_steps(network, row, label, class_names=class_names, image_shape=image_shape)
    return Explanation(**vars(steps))
