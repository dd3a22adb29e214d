"""A model: a network, the names of its inputs and classes, and when it answers "unknown"."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from fastnn.backends.arguments import check_finite_inputs
from fastnn.backends.choice import CHOOSER
from fastnn.checks import is_count, is_number, short
from fastnn.datasets.arrays import check_lengths
from fastnn.datasets.convert import as_dataset
from fastnn.errors import DataError
from fastnn.models.blocks import backend_for, of_each_row
from fastnn.models.copies import Copies
from fastnn.models.hidden import LAST, hidden_outputs, hidden_size
from fastnn.models.pictures import measured_pixels
from fastnn.models.row_format import RowFormat
from fastnn.models.rows import model_rows
from fastnn.network import LOSSES, Network, check_scale
from fastnn.streams import BlockedData

_INT64 = range(-(2**63), 2**63)
# The dtype of an array of labels of each type.
_LABEL_DTYPES: dict[type, Any] = {int: np.int64, str: object, float: np.float64, bool: np.bool_}


@dataclass(frozen=True, eq=False)
class Model:
    """The contents of a model file.

    Parameters
    ----------
    network : Network
        The network itself, not a copy. Its arrays are writable.
    classes : tuple of int, of str, of float or of bool, or None
        The name of each output. A network with a single logistic output has two classes, and the output is the
        probability of the second. It has one class if the training data had only one. None for "identity" and
        "exp", whose outputs are numbers.
    image_shape : (int, int), or None
        The height and width in pixels of the image in an input row, stored row by row; None if a row is not an image.
    metadata : dict of str to str
        "format_version" is the version of the file format; "fastnn" and "numpy" are the versions that wrote the file.
    feature_names : tuple of D str, or None
        The name of each column of the inputs.
    unknown : (float, int or str or float), or None
        A threshold and a label of the type of the classes; not for classes that are bool. The label is predicted for
        samples whose largest probability is below the threshold.
    pixels : (float, float), or None
        The values of the background and of full ink in the images: (0, 255) for MNIST, (255, 0) for dark on light.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnn
    >>> network = fastnn.Network.initialize((4, 3))
    >>> model = fastnn.Model(network, ("cat", "dog", "owl"), unknown=(0.5, "unsure"))
    >>> labels, _ = model.decide(np.array([[0.1, 0.8, 0.1], [0.4, 0.3, 0.3]]))
    >>> labels.tolist()
    ['dog', 'unsure']
    """

    network: Network
    classes: tuple[int, ...] | tuple[str, ...] | tuple[float, ...] | None
    image_shape: tuple[int, int] | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    feature_names: tuple[str, ...] | None = None
    unknown: tuple[float, int | str | float] | None = None
    pixels: tuple[float, float] | None = None

    @classmethod
    def for_network(cls, network: Network) -> "Model":
        """Return a model of a network whose classes are the numbers from 0 up.

        Its image shape is known if the first layer takes images of one channel.
        """
        shape = network.shapes[0]
        image_shape = (shape[1], shape[2]) if len(shape) == 3 and shape[0] == 1 else None
        return cls(network, default_classes(network.output, network.n_outputs), image_shape)

    @classmethod
    def for_data(cls, network: Network, data: Any) -> "Model":
        """Return a model of a network trained on `data`, with its classes, feature names, image shape and pixels.

        Parameters
        ----------
        network : Network
        data : Dataset, (images, labels), or BlockedData
            The training data, or others with the same columns and classes.

        Returns
        -------
        Model

        Examples
        --------
        >>> import numpy as np
        >>> import fastnn
        >>> data = fastnn.Dataset(np.eye(3), ["cat", "dog", "owl"])
        >>> fastnn.Model.for_data(fastnn.Network.for_data(data, ()), data).classes
        ('cat', 'dog', 'owl')
        """
        data = data.head() if isinstance(data, BlockedData) else as_dataset(data)
        of_network = cls.for_network(network)
        if of_network.classes is not None and data.classes is not None and not data.has_targets:
            of_network = replace(of_network, classes=tuple(data.classes))
        return replace(
            of_network,
            image_shape=of_network.image_shape if data.image_shape is None else data.image_shape,
            feature_names=data.feature_names,
            pixels=measured_pixels(data),
        )

    def predict(self, x: Any, *, backend: str = "auto", copies: Copies | None = None) -> np.ndarray:
        """Return the predicted label of each sample; for a regression, the predicted numbers.

        Parameters
        ----------
        x : array-like of shape (N, D), (N, height, width), (D,) or (height, width), frame, data, or pictures
            Unscaled numbers, as in training. A frame may have its columns in any order, and more than the model needs.
            Data are a `Dataset`, or `BlockedData`, of which one or two blocks are in memory. Pictures are a path, a PIL
            image, or a list of them; `prepare_image` prepares them, and the model's own range and ink are applied.
        backend : {"auto", "numba", "numpy"}
            As in `TrainingConfig`: with "auto", NumPy predicts as long as the kernels are not worth loading.
        copies : Copies or None
            Average over changed copies of each image; None: predict the image itself.

        Returns
        -------
        ndarray of shape (N,)
            In the dtype of `labels`. With `unknown`, its label where the largest probability is below the threshold.
            Several outputs without softmax give shape (N, C).

        Raises
        ------
        DataError
            If `x` does not fit the model, a picture has no digit, or there are `copies` of what is no image.
        FileError
            If a picture cannot be opened.

        Warns
        -----
        UserWarning
            If the range of the inputs does not fit the network's input scale.

        Examples
        --------
        >>> import fastnn
        >>> data = fastnn.load_digits()
        >>> result = fastnn.train(fastnn.Network.for_data(data, (32,)), data, epochs=20, learning_rate=0.1)
        >>> model = fastnn.Model.for_data(result.network, data)
        >>> model.predict(data.images[:3]).tolist()
        [0, 1, 2]
        """
        if isinstance(x, BlockedData):
            chosen = backend_for(self.networks[0], x, backend)
            return of_each_row(x, partial(self.predict, backend=chosen, copies=copies))
        outputs = self._outputs(x, backend, copies)
        if self.classes is None:
            return outputs[:, 0] if outputs.shape[1] == 1 else outputs
        return self.decide(outputs)[0]

    def predict_proba(self, x: Any, *, backend: str = "auto", copies: Copies | None = None) -> np.ndarray:
        """Return the probability of each class for each sample.

        Parameters
        ----------
        x, backend, copies
            As in `predict`.

        Returns
        -------
        ndarray of shape (N, C), in the network's dtype
            In the order of `classes`.

        Raises
        ------
        DataError
            As in `predict`; and if the model has no classes.
        """
        labels = self.labels  # an error before any work
        if isinstance(x, BlockedData):
            chosen = backend_for(self.networks[0], x, backend)
            return of_each_row(x, partial(self.predict_proba, backend=chosen, copies=copies))
        return class_probabilities(self._outputs(x, backend, copies), len(labels), self.is_multilabel)

    def transform(self, x: Any, layer: int = LAST, *, backend: str = "auto") -> np.ndarray:
        """Return the outputs of a hidden layer for each sample: the features that the network has learned.

        Parameters
        ----------
        x, backend
            As in `predict`.
        layer : int
            The hidden layer: 0 is the first one, -1 the last one.

        Returns
        -------
        ndarray of shape (N, H), in the network's dtype
            H is the number of outputs of the layer. Without hidden layers, the scaled inputs of shape (N, D).

        Raises
        ------
        SettingsError
            If there is no such layer.
        DataError, FileError
            As in `predict`.

        Examples
        --------
        >>> import fastnn
        >>> data = fastnn.load_digits()
        >>> model = fastnn.Model.for_data(fastnn.Network.for_data(data, (32, 16)), data)
        >>> model.transform(data.images[:3]).shape, model.transform(data.images[:3], layer=0).shape
        ((3, 16), (3, 32))
        """
        hidden_size(self.network, layer)  # an error before any work
        if isinstance(x, BlockedData):
            chosen = backend_for(self.networks[0], x, backend)
            return of_each_row(x, partial(self.transform, layer=layer, backend=chosen))
        rows = model_rows(self.row_format, x)
        check_scale(self.network, rows, stacklevel=3)
        return hidden_outputs(self.network.core, check_finite_inputs(self.network, rows), layer, backend=backend)

    def _outputs(self, x: Any, backend: str, copies: Copies | None) -> np.ndarray:
        """Return the outputs for the rows of `x`, (N, number of outputs), in the network's dtype."""
        rows, networks = model_rows(self.row_format, x), self.networks
        if len(networks) == 1 and copies is None:
            check_scale(networks[0], rows, stacklevel=4)
            return CHOOSER.predictor(backend, networks[0], rows).predict_proba(networks[0], rows, check_finite=True)
        for network in networks:
            check_scale(network, rows, stacklevel=4)
        engines = [CHOOSER.predictor(backend, network, rows) for network in networks]
        total, n = np.zeros(1), 0  # float64, so that the mean has the rounding of one network
        for version in (rows,) if copies is None else copies.of(rows, self.row_format, engines[0]):
            for network, engine in zip(networks, engines, strict=True):
                outputs = engine.predict_proba(network, version, check_finite=True)
                total, n = total + outputs, n + 1
        mean: np.ndarray = (total / n).astype(networks[0].dtype)
        return mean

    @property
    def networks(self) -> tuple[Network, ...]:
        """The networks whose mean the model predicts: its own one, or those of an `Ensemble`."""
        return (self.network,)

    @property
    def summary(self) -> str:
        """The network in one line."""
        return repr(self.network)

    @property
    def row_format(self) -> RowFormat:
        """What the model expects in a row of its inputs."""
        network = self.networks[0]
        # Files of older versions do not tell the pixels: those images were light on dark.
        pixels = self.pixels or (0.0, 1.0 if network.input_scale == 1 else 255.0)
        inputs = network.standardization
        means = None if inputs is None or self.image_shape is not None else inputs.mean
        return RowFormat(network.n_inputs, self.image_shape, self.feature_names, pixels, means)

    @property
    def is_multilabel(self) -> bool:
        """Whether each output is an independent yes-or-no label."""
        network = self.networks[0]
        return network.loss.are_independent and network.n_outputs > 1

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes as strings."""
        return tuple(map(str, self.classes or ()))

    @property
    def labels(self) -> np.ndarray:
        """The classes as an array of shape (C,): int64, float64, bool or object (str).

        DataError if the model has none.
        """
        if self.classes is None:
            raise DataError("the model has no classes: its outputs are numbers, expected a model with classes")
        return np.array(self.classes, _LABEL_DTYPES.get(type(self.classes[0]), np.int64))

    def decide(self, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return predicted labels and class probabilities.

        Parameters
        ----------
        outputs : ndarray of shape (N, number of outputs)
            The result of a backend's `predict_proba`.

        Returns
        -------
        labels : ndarray of shape (N,), in the dtype of `labels`
            The most probable class (the first one in a tie), or the label of `unknown`. For multilabel models, an array
            of shape (N, C), int64: 1 where the probability is above 0.5, else 0.
        probabilities : ndarray of shape (N, C)

        Raises
        ------
        DataError
            If the model has no classes.

        Examples
        --------
        >>> import numpy as np
        >>> import fastnn
        >>> model = fastnn.Model(fastnn.Network.initialize((2, 1), output="logistic"), ("no", "yes"))
        >>> labels, probabilities = model.decide(np.array([[0.75]]))
        >>> labels.tolist(), probabilities.tolist()
        (['yes'], [[0.25, 0.75]])
        """
        probabilities = class_probabilities(outputs, len(self.labels), self.is_multilabel)
        return decide(probabilities, self.labels, self.unknown, self.is_multilabel), probabilities


def class_probabilities(outputs: np.ndarray, n_classes: int, is_multilabel: bool) -> np.ndarray:
    """Return the probability of each class, (N, C), from the result of a backend's `predict_proba`.

    A single logistic output gives the probabilities of both classes.
    """
    if is_multilabel or outputs.shape[1] > 1:
        return outputs
    return np.ones_like(outputs) if n_classes == 1 else np.hstack([1 - outputs, outputs])


def decide(
    probabilities: np.ndarray, classes: np.ndarray, unknown: tuple[float, Any] | None, is_multilabel: bool
) -> np.ndarray:
    """Return the labels of `Model.decide`: (N,) in the dtype of `classes`, or (N, C) of 0 and 1 if multilabel."""
    if is_multilabel:
        return (probabilities > 0.5).astype(np.int64)
    if probabilities.shape[1] == 2:  # argmax would take as long as the prediction by a small network
        numbers = (probabilities[:, 1] > probabilities[:, 0]).astype(np.intp)
    else:
        numbers = probabilities.argmax(axis=1)
    labels = classes[numbers]
    if unknown is None:
        return labels
    threshold, label = unknown
    uncertain = probabilities.max(axis=1) < probabilities.dtype.type(threshold)
    return np.where(uncertain, np.array(label, object if labels.dtype == object else None), labels)


def default_classes(output: str, n_outputs: int) -> tuple[int, ...] | None:
    """Return the classes 0 to C - 1; 0 and 1 for a single logistic output; None for numbers."""
    counts = LOSSES[output].class_counts(n_outputs)
    return tuple(range(counts[0])) if counts else None


def class_number(classes: Sequence[Any] | None, label: Any) -> int:
    """Return the number of a class of a model; DataError if `label` is none of its classes."""
    classes = list(classes or ())
    value = label.item() if isinstance(label, np.generic) else label
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, bool | float) or value in (0, 1, *classes):
        for number, each in enumerate(classes):
            if each == value or (isinstance(value, (str, int)) and str(each) == str(value)):
                return number
    if classes == list(range(len(classes))):
        raise DataError(f"label is {label!r}, expected a whole number from 0 to {len(classes) - 1}")
    raise DataError(f"label is {label!r}, expected one of the classes {short(classes)}")


def checked_names(
    output: str,
    n_inputs: int,
    n_outputs: int,
    *,
    classes: Any,
    image_shape: Any = None,
    feature_names: Any = None,
    unknown: Any = None,
    pixels: Any = None,
) -> dict[str, Any]:
    """Return the fields of a `Model` except its network and metadata, checked, with tuples instead of lists.

    Raises DataError if a value is not a list of plain int, str or float, as in a model file, or does not fit a network
    with this output and size.
    """
    loss = LOSSES[output]
    classes = _checked_classes(classes, loss.class_counts(n_outputs), n_outputs)
    return {
        "classes": classes,
        "image_shape": _checked_image_shape(image_shape, n_inputs),
        "feature_names": _checked_feature_names(feature_names, n_inputs),
        "unknown": _checked_unknown(unknown, classes, loss.are_independent and n_outputs > 1),
        "pixels": _checked_pixels(pixels),
    }


def _checked_classes(classes: Any, counts: tuple[int, ...], n_outputs: int) -> tuple[Any, ...] | None:
    if not counts:
        if classes is not None:
            raise DataError(f"classes are {short(classes)}, expected none: the outputs of the network are numbers")
        return None
    if (
        not isinstance(classes, list)
        or {type(label) for label in classes} not in [{each} for each in _LABEL_DTYPES]
        or not all(map(_is_storable, classes))
    ):
        expected = "int64 integers, of finite floats, of booleans or of strings"
        raise DataError(f"classes are {short(classes)}, expected a list of {expected}")
    if len(classes) not in counts:
        expected = "one or two" if len(counts) > 1 else "one each"
        raise DataError(f"{len(classes)} classes for {n_outputs} outputs of the network, expected {expected}")
    _check_different("classes", classes)
    return tuple(classes)


def _is_storable(label: Any) -> bool:
    """Return whether a label can be a class of a file, if its type can."""
    if isinstance(label, float):
        return math.isfinite(label)
    return isinstance(label, str) or label in _INT64


def _checked_image_shape(image_shape: Any, n_inputs: int) -> tuple[int, int] | None:
    if image_shape is None:
        return None
    if not are_sizes(image_shape, 2) or image_shape[0] * image_shape[1] != n_inputs:
        raise DataError(f"image_shape is {short(image_shape)}, expected a height and a width with product {n_inputs}")
    return image_shape[0], image_shape[1]


def _checked_feature_names(names: Any, n_inputs: int) -> tuple[str, ...] | None:
    if names is None:
        return None
    if not isinstance(names, list) or len(names) != n_inputs or {type(name) for name in names} != {str}:
        raise DataError(f"feature_names are {short(names)}, expected a list of {n_inputs} strings")
    _check_different("feature_names", names)
    return tuple(names)


def _checked_unknown(unknown: Any, classes: Any, is_multilabel: bool) -> tuple[float, Any] | None:
    if unknown is None:
        return None
    if classes is None or is_multilabel:
        reason = "the outputs are numbers" if classes is None else "each output has a probability of its own"
        raise DataError(f"unknown is {short(unknown)}, expected none: {reason}")
    if not isinstance(unknown, list) or len(unknown) != 2:
        raise DataError(f"unknown is {short(unknown)}, expected a threshold and a label")
    threshold, label = unknown
    if not is_number(threshold) or not 0 < threshold <= 1:
        raise DataError(f"the threshold of unknown is {short(threshold)}, expected a number above 0, at most 1")
    label_type = type(classes[0])
    if label_type is bool:
        raise DataError(f"unknown is {short(unknown)}, expected none: the classes are booleans")
    if type(label) is not label_type or label in classes or not _is_storable(label):
        expected = {int: "an int64 integer", float: "a finite float", str: "a string"}[label_type]
        raise DataError(f"the label of unknown is {short(label)}, expected {expected} that is none of the classes")
    _check_different("unknown", [label])
    return float(threshold), label


def _checked_pixels(pixels: Any) -> tuple[float, float] | None:
    if pixels is None:
        return None
    if (
        not isinstance(pixels, list)
        or len(pixels) != 2
        or not all(is_number(value) and math.isfinite(value) for value in pixels)
        or pixels[0] == pixels[1]
    ):
        raise DataError(f"pixels are {short(pixels)}, expected two different numbers: the background and full ink")
    return float(pixels[0]), float(pixels[1])


def _check_different(name: str, labels: list[Any]) -> None:
    """Raise DataError if two labels are equal, or one is too long or cannot be encoded as UTF-8."""
    if len(set(labels)) != len(labels):
        raise DataError(f"{name} are {short(labels)}, expected all of them different")
    check_lengths(labels, name)
    try:
        "".join(label for label in labels if isinstance(label, str)).encode("utf-8")
    except UnicodeEncodeError:
        raise DataError(f"its {name} has half of a surrogate pair, expected whole characters") from None


def are_sizes(values: Any, n: int | None = None) -> bool:
    """Return whether `values` is a list of `n` sizes (None: of one or more): integers from 1 to 2**63 - 1."""
    fits = isinstance(values, list) and len(values) == (n or max(1, len(values)))
    return fits and all(type(size) is int and is_count(size) for size in values)
