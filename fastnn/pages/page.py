"""Writes the page of a trained network: one HTML file that runs the network in a browser, offline."""

import os
from base64 import b64encode
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastnn import evaluation
from fastnn.checks import check_choice, display_path
from fastnn.datasets import load_mnist
from fastnn.datasets.convert import as_dataset
from fastnn.datasets.dataset import Dataset
from fastnn.datasets.sparse import is_sparse
from fastnn.errors import DataError
from fastnn.evaluation.evaluate import ClassEvaluation, data_for, evaluate_model
from fastnn.files.atomic import write_atomically
from fastnn.files.snapshot_file import Snapshots, load_snapshots, pictures
from fastnn.models import Model, as_model
from fastnn.network import Dense, Network
from fastnn.network.layers import LAYERS, to_json
from fastnn.pages.assets import content_policy, read_asset, script_json
from fastnn.pages.replay import SCRIPT as REPLAY_SCRIPT
from fastnn.pages.replay import replay_content

PAGE = "page.html"
WEIGHT_TYPES = ("float32", "float16", "int8")
ACTIVATION_NAMES = ("relu", "leaky_relu", "elu", "gelu", "silu", "tanh", "logistic", "identity")  # of network.js
SCRIPTS = ("figures.js", "pictures.js", "drawing.js", "network.js", "page.js")
STYLES = ("style.css", "page.css")
# The test images of a page. At least `_CORRECT` of them are classified correctly, to compare mistakes with.
_IMAGES, _CORRECT = 50, 10
# Among them are so many images of each of the most frequent errors, which the page lists.
_ERRORS, _OF_AN_ERROR = 8, 2
_DRAWN_SHAPE = (28, 28)  # of the images that `prepare_image` makes of drawings


class WrittenPage(NamedTuple):
    """The result of `write_page`.

    Attributes
    ----------
    path : Path
        The file.
    n_bytes : int
        Its size.
    accuracy : float
        The accuracy on the data of the network as the page stores it, from 0 to 1.
    model_accuracy : float
        That of the model. With ``weights="float32"`` it is the same.
    n_samples : int
        The number of samples of the data.
    data_name : str
        The name of the data.
    """

    path: Path
    n_bytes: int
    accuracy: float
    model_accuracy: float
    n_samples: int
    data_name: str


def write_page(
    model: Any,
    data: Any = None,
    path: str | os.PathLike[str] = PAGE,
    weights: str = "float32",
    *,
    snapshots: str | os.PathLike[str] | None = None,
    backend: str = "auto",
) -> WrittenPage:
    """Write a page that runs a network in a browser: draw, and see its answer and what every layer makes of it.

    The page is one HTML file, and requests nothing. It also has fifty images of the data, the worst mistakes first, the
    confusion matrix, and the pixels that speak for and against a class. The same arguments give the same bytes. An
    existing file is replaced.

    Parameters
    ----------
    model : Model, Network, result of `train` or fitted estimator
        A classifier of images of one channel, with any layers of fastnn.
    data : Dataset, or (images, labels), optional
        Labelled samples that show how good the network is, best those of a test set. By default MNIST's test images.
    path : str or path
        The file to write.
    weights : {"float32", "float16", "int8"}
        How the page stores the weights; biases are always float32. "float16" halves them and "int8" quarters them,
        with a scale for each unit. The page states the measured change in accuracy.
    snapshots : str or path, optional
        The file snapshots.safetensors of the run, which ``fastnn train --snapshots`` writes. The page then has a slider
        over the epochs.
    backend : {"auto", "numba", "numpy"}
        The backend that predicts the data.

    Returns
    -------
    WrittenPage
        The path, the size, and the accuracy.

    Raises
    ------
    DataError
        If the model is not a classifier of images, or the data do not fit it.
    FileError
        If the file cannot be written. An old file then stays unchanged.
    SettingsError
        If `weights` or `backend` is out of range.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import fastnn
    >>> data = fastnn.load_digits()
    >>> result = fastnn.train(fastnn.Network.for_data(data, (32,)), data, epochs=20, learning_rate=0.1)
    >>> with TemporaryDirectory() as folder:
    ...     page = fastnn.write_page(fastnn.Model.for_data(result.network, data), data, f"{folder}/digits.html", "int8")
    >>> page.n_bytes < 300_000, abs(page.accuracy - page.model_accuracy) < 0.01
    (True, True)
    """
    check_choice("weights", weights, WEIGHT_TYPES)
    model = as_model(model)
    _check_model(model)
    samples = data_for(model, _data(model, data))
    stored = _stored_arrays(model.network, weights)
    shown = as_stored(model.network, weights)
    scores = _evaluated(replace(model, network=shown), samples, backend)
    before = scores if shown is model.network else _evaluated(model, samples, backend)
    content = _content(model, shown, stored, samples, scores)
    content["replay"] = None if snapshots is None else replay_content(_snapshots_of(model, snapshots))
    content["stored"] = {"type": weights, "accuracy": scores.accuracy, "modelAccuracy": before.accuracy}
    page = render(content, model).encode(errors="backslashreplace")
    write_atomically(path, page)
    return WrittenPage(Path(path), len(page), scores.accuracy, before.accuracy, len(samples), samples.name)


def _snapshots_of(model: Model, path: str | os.PathLike[str]) -> Snapshots:
    """Read the snapshots of a run; DataError unless they can be those of the model."""
    snapshots = load_snapshots(path)
    _, expected = pictures(model.network, model.image_shape)
    if snapshots.weights.shape[1:] != expected.shape:
        found = f"snapshots of {snapshots.weights.shape[1:]} weights"
        raise DataError(f"{display_path(path)}: found {found}, expected {expected.shape} as {model.network} has them")
    return snapshots


def as_stored(network: Network, weights: str) -> Network:
    """Return the network with the weights as a page stores them; `network` itself if they stay as they are."""
    if weights == "float32" and network.dtype == np.float32:
        return network
    rounded = [_decoded(_rounded(weight, weights)) for weight in network.weights]
    return network.like(rounded, [bias.astype(np.float32) for bias in network.biases])


def _check_model(model: Model) -> None:
    """Raise DataError unless a page can show the model."""
    network, expected = model.network, "expected a classifier of images: a page draws what the network sees"
    if model.classes is None:
        raise DataError(f"the outputs of {network} are numbers, {expected}")
    if model.is_multilabel:
        raise DataError(f"{network} has {network.n_outputs} yes-or-no labels, expected one of C classes")
    if model.image_shape is None:
        raise DataError(f"the model is for rows of {network.n_inputs} numbers, {expected}")
    if len(network.shapes[0]) == 3 and network.shapes[0][0] != 1:
        raise DataError(f"the images of {network} have {network.shapes[0][0]} channels, expected 1")
    for number, layer in enumerate(network.layers, start=1):
        if layer.kind not in LAYERS or layer.activation not in ACTIVATION_NAMES:
            found = f"layer {number} of {network} is {layer.kind} {layer.activation}"
            raise DataError(f"{found}, expected a layer and an activation that come with fastnn")


def _data(model: Model, data: Any) -> Dataset:
    if data is not None:
        return as_dataset(data)
    if model.image_shape != _DRAWN_SHAPE:
        found = "{} x {}".format(*model.image_shape or ())
        raise DataError(f"data is None, and the model takes images of {found}, not MNIST's: give data (--data FILE)")
    return load_mnist()[1]


def _evaluated(model: Model, data: Dataset, backend: str) -> ClassEvaluation:
    scores = evaluate_model(model, data, backend)
    assert isinstance(scores, ClassEvaluation)  # `_check_model` has refused others
    return scores


# --- The content of a page -------------------------------------------------------------------------------------------
def _content(
    model: Model, network: Network, stored: dict[str, Any], data: Dataset, scores: ClassEvaluation
) -> dict[str, Any]:
    """Return what the scripts of a page need, as plain values."""
    rows = _chosen_rows(scores)
    threshold = None if model.unknown is None else model.unknown[0]
    loss = scores.loss if np.isfinite(scores.loss) else None  # JSON has no infinity
    return {
        "title": repr(model.network).removeprefix("Network(").removesuffix(")"),
        "classes": list(model.class_names),
        "shape": list(model.image_shape or ()),
        "pixels": list(model.row_format.pixels),
        "threshold": threshold,
        "takesDrawings": model.image_shape == _DRAWN_SHAPE,
        "network": {**network_chain(network), **stored},
        "layers": _layer_titles(network),
        "data": {"name": data.name, "count": len(data), "accuracy": scores.accuracy, "loss": loss},
        "confusion": scores.confusion.tolist(),
        "samples": {
            "images": _encoded(_images(data, rows)),
            "rows": rows.tolist(),
            "labels": scores.labels[rows].tolist(),
            "mistakes": int(len(data) - np.trace(scores.confusion)),
        },
    }


def network_chain(network: Network) -> dict[str, Any]:
    """Return the layers of a network as network.js takes them: its `Chain`, with a standardization in base64."""
    inputs = network.standardization
    return {
        "layers": to_json(network.layers),
        "shapes": [list(map(int, shape)) for shape in network.shapes],
        "output": network.output,
        "inputScale": network.input_scale,
        "standardization": None if inputs is None else {"mean": _encoded(inputs.mean), "scale": _encoded(inputs.scale)},
    }


def _layer_titles(network: Network) -> list[dict[str, str]]:
    """Return the words for each layer, and for one of its outputs."""
    titles = []
    for number, (layer, shape) in enumerate(zip(network.layers, network.shapes[1:], strict=True), start=1):
        words = layer.describe(shape) + (" units" if isinstance(layer, Dense) else "")
        activation = "" if layer.activation == "identity" else f" {layer.activation}"
        titles.append({"title": f"Layer {number}: {words}{activation}", "unit": layer.unit_name(shape)})
    return titles


def _chosen_rows(scores: ClassEvaluation) -> np.ndarray:
    """Return the rows of the images on the page: mistakes, worst first, then correct ones of all classes in turn.

    Each of the most frequent errors has its worst images among them.
    """
    wrong = evaluation.mistakes(scores.labels, scores.proba)
    correct = np.setdiff1d(np.arange(len(scores.labels)), wrong)
    labels = scores.labels[correct]
    # The number of earlier samples of the same class: 0 for the first of each class.
    order = np.argsort(labels, kind="stable")
    turn = np.empty(len(labels), np.int64)
    turn[order] = np.arange(len(labels)) - np.searchsorted(labels[order], labels[order])
    in_turn = correct[np.lexsort((labels, turn))]
    n_correct = min(len(correct), max(_CORRECT, _IMAGES - len(wrong)))
    n_wrong = min(len(wrong), _IMAGES - n_correct)
    chosen = np.concatenate([_worst_of_errors(scores, wrong), wrong])
    _, first = np.unique(chosen, return_index=True)
    taken = chosen[np.sort(first)[:n_wrong]]
    return np.concatenate([wrong[np.isin(wrong, taken)], in_turn[:n_correct]]).astype(np.int64)


def _worst_of_errors(scores: ClassEvaluation, wrong: np.ndarray) -> np.ndarray:
    """Return the worst rows of each of the most frequent errors. `wrong`: the rows of all mistakes, worst first."""
    n_classes = len(scores.confusion)
    errors = scores.labels[wrong] * n_classes + scores.proba[wrong].argmax(axis=1)
    counts = np.where(np.eye(n_classes, dtype=bool), 0, scores.confusion).reshape(-1)
    frequent = np.argsort(-counts, kind="stable")[:_ERRORS]
    return np.concatenate([wrong[errors == error][:_OF_AN_ERROR] for error in frequent])


def _images(data: Dataset, rows: np.ndarray) -> np.ndarray:
    """Return images as uint8 if they are that, else as float32."""
    images: Any = data.images[rows]
    images = images.toarray() if is_sparse(images) else np.asarray(images)
    return images if images.dtype == np.uint8 else images.astype(np.float32)


# --- Arrays ----------------------------------------------------------------------------------------------------------
class _Rounded(NamedTuple):
    """An array as it is stored; `scales` multiply the units of an int8 array, along its last axis."""

    values: np.ndarray
    scales: np.ndarray | None = None


def _rounded(weight: np.ndarray, weights: str) -> _Rounded:
    """Return a weight as it is stored. Vectors, the scales of batch normalisation, are always float32."""
    if weights == "float32" or weight.ndim < 2:
        return _Rounded(weight.astype(np.float32))
    if weights == "float16":
        largest = np.finfo(np.float16).max
        return _Rounded(np.clip(weight, -largest, largest).astype(np.float16))
    units = weight.reshape(-1, weight.shape[-1])
    scales = (np.abs(units).max(axis=0) / 127).astype(np.float32)
    scales[scales == 0] = 1
    return _Rounded(np.clip(np.rint(weight / scales), -127, 127).astype(np.int8), scales)


def _decoded(rounded: _Rounded) -> np.ndarray:
    """Return the float32 numbers of a stored array, as network.js reads them."""
    values = rounded.values.astype(np.float32)
    return values if rounded.scales is None else values * rounded.scales


def _stored_arrays(network: Network, weights: str) -> dict[str, list[dict[str, str]]]:
    """Return the arrays of a network in base64."""
    stored = []
    for weight in network.weights:
        values, scales = _rounded(weight, weights)
        stored.append(_encoded(values) | ({} if scales is None else {"scales": _encoded(scales)["data"]}))
    rest = {"biases": network.biases, "statistics": network.statistics}
    return {"weights": stored} | {
        name: [_encoded(array.astype(np.float32)) for array in arrays] for name, arrays in rest.items()
    }


def _encoded(array: np.ndarray) -> dict[str, str]:
    """Return an array as network.js decodes it: its dtype, and its bytes, little-endian, in base64."""
    data = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
    return {"type": array.dtype.name, "data": b64encode(data).decode()}


# --- The file --------------------------------------------------------------------------------------------------------
def render(content: dict[str, Any], model: Model) -> str:
    """Return the page as HTML text."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    template = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    replay = content.pop("replay")
    names = SCRIPTS if replay is None else (*SCRIPTS, REPLAY_SCRIPT)
    scripts, styles = ([read_asset(name) for name in each] for each in (names, STYLES))
    is_digits = list(model.class_names) == [str(digit) for digit in range(10)]
    return template.from_string(read_asset(PAGE)).render(
        heading="Draw a digit" if is_digits else "Draw, and watch the network answer",
        network=content["title"],
        takes_drawings=content["takesDrawings"],
        policy=content_policy(scripts, styles),
        scripts=[Markup(text) for text in scripts],
        styles=[Markup(text) for text in styles],
        data=Markup(script_json(content)),
        replay=None if replay is None else Markup(script_json(replay)),
    )
