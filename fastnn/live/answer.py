"""What the newest network of a run answers to one row: its outputs, and the formula of a unit with the numbers in it.

Dimensions: D inputs, H units of a layer.
"""

from typing import Any

import numpy as np

from fastnn.backends import layerwise, reference
from fastnn.backends.arguments import check_inputs
from fastnn.datasets.dataset import Dataset
from fastnn.datasets.pictures.resize import resized
from fastnn.errors import DataError
from fastnn.live.picture import plain
from fastnn.models.model import Model, class_probabilities
from fastnn.models.pictures import as_rows
from fastnn.network.layers import Conv2D, Dense

# The side of a drawing, which is prepared as MNIST's images are, and the width of its border, which has little ink.
SIDE, BORDER = 28, 3
LARGEST_TERMS = 8  # of a weighted sum
# float32 can square these numbers and add the squares.
MOST = 1e15


def as_numbers(values: Any, count: int, most: float = MOST) -> np.ndarray:
    """Return a list of JSON as (count,) float64; DataError unless it is so many finite numbers of usual size."""
    if not isinstance(values, list):
        raise DataError(f"found {type(values).__name__}, expected a list of {count} numbers")
    if len(values) != count:
        raise DataError(f"found {len(values)} numbers, expected {count}")
    for place, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise DataError(f"number {place} is a {type(value).__name__}, expected a number")
        # Python compares whole numbers of any length with floats exactly.
        if not -most <= value <= most:
            raise DataError(f"number {place} is not between {-most:g} and {most:g}")
    return np.array(values, np.float64)


def drawn_row(model: Model, drawing: Any) -> np.ndarray:
    """Return a prepared drawing, a list of 784 numbers from 0 to 255, as a row for a model of images, (1, D).

    A model of images of another size than 28 x 28 gets the drawing without its border, in its size.
    """
    pixels = as_numbers(drawing, SIDE * SIDE, most=255)
    if pixels.min() < 0:
        raise DataError("a pixel is below 0, expected ink from 0 to 255")
    if model.image_shape is None:
        raise DataError("the network is for rows of a table, not for drawings")
    if model.image_shape == (SIDE, SIDE):
        prepared = np.rint(pixels).astype(np.uint8)
    else:
        inner = pixels.reshape(SIDE, SIDE)[BORDER:-BORDER, BORDER:-BORDER]
        prepared = np.rint(resized(inner, *model.image_shape)).astype(np.uint8).reshape(-1)
    rows = as_rows(model.row_format, prepared[None])
    channels = model.network.n_inputs // rows.shape[1]
    return np.tile(rows, channels)  # a grey drawing in every colour


def sample_row(data: Dataset | None, number: Any) -> np.ndarray:
    """Return a sample of the validation data as a row, (1, D)."""
    count = 0 if data is None else len(data)
    if data is None or isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < count:
        raise DataError(f"sample is no number from 0 to {count - 1}" if count else "there are no validation data")
    rows: np.ndarray = data.images[number : number + 1]
    return rows


def answer(model: Model, row: np.ndarray, unit: Any = None) -> dict[str, Any]:
    """Return the network's outputs for a row, (1, D), and the formula of a unit if one is given.

    unit: [layer, unit], counted from 1 and from 0

    Returns
    -------
    dict
        "outputs" : the probability of each class, or the numbers
        "formula" : only with `unit`, see `formula`
    """
    network = model.network
    passes = layerwise.forward(reference, network.core, check_inputs(network, row))
    outputs = network.loss.outputs(passes[-1].out.reshape(1, -1))
    if model.classes is not None:
        outputs = class_probabilities(outputs, len(model.classes), model.is_multilabel)
    found: dict[str, Any] = {"outputs": list(map(plain, outputs[0]))}
    if unit is not None:
        layer, number = _checked_unit(unit, passes)
        found["formula"] = formula(model, passes, layer, number)
    return found


def _checked_unit(unit: Any, passes: list[layerwise.LayerPass]) -> tuple[int, int]:
    is_pair = isinstance(unit, list) and len(unit) == 2 and all(type(each) is int for each in unit)
    if not is_pair or not 1 <= unit[0] <= len(passes):
        raise DataError(f"unit is no [layer, unit] with a layer from 1 to {len(passes)}")
    layer, number = unit
    n_units = passes[layer - 1].out.shape[1]
    if not 0 <= number < n_units:
        raise DataError(f"layer {layer} has no unit {number}, expected one from 0 to {n_units - 1}")
    return layer, number


def formula(model: Model, passes: list[layerwise.LayerPass], number: int, unit: int) -> dict[str, Any]:
    """Return how a unit computes its output, with the largest products of its weighted sum.

    Of a convolution, it is the place with the largest output. Layers without weighted sums have no terms.

    Returns
    -------
    dict
        "name", "activation", "output" : the name of the unit, and what it gives
        "terms" : list of [name of the input, input, weight, product]
        "others" : [the number of other products that are not 0, their sum]
        "bias", "sum" : the bias, and the sum of all products and the bias
    """
    each = passes[number - 1]
    layer, out = each.layer, each.out[0, unit]
    found: dict[str, Any] = {
        "name": f"{layer.unit_name(each.out.shape[1:])} {unit} of layer {number}",
        "kind": layer.kind,
        "activation": str(layer.activation),
        "output": plain(out if out.ndim == 0 else out.max()),
    }
    weight: Any = each.arrays[0]
    bias: Any = each.arrays[1]
    if isinstance(layer, Dense):
        inp, weights, names = each.inp[0].reshape(-1), weight[:, unit], _input_names(model, passes, number)
        total = each.forward.sums[0, unit]
    elif isinstance(layer, Conv2D):
        row, column = np.unravel_index(int(out.argmax()), out.shape)
        (up, across), (down, right) = layer.padding, layer.stride
        padded = np.pad(each.inp[0], ((0, 0), (up, up), (across, across)))
        top, left, (height, width) = int(row) * down, int(column) * right, weight.shape[1:3]
        inp = padded[:, top : top + height, left : left + width].reshape(-1)
        weights, total = weight[..., unit].reshape(-1), each.forward.sums[0, unit, row, column]
        found["name"] += f" at ({row}, {column})"
        names = [
            f"{f'channel {channel} ' if len(padded) > 1 else ''}({top - up + y}, {left - across + x})"
            for channel in range(len(padded))
            for y in range(height)
            for x in range(width)
        ]
    else:
        return found
    products = inp * weights
    shown = np.argsort(-np.abs(products), kind="stable")[:LARGEST_TERMS]
    shown = shown[products[shown] != 0]
    others = np.delete(products, shown)
    return {
        **found,
        "terms": [[names[k], *map(plain, (inp[k], weights[k], products[k]))] for k in shown.tolist()],
        "others": [int(np.count_nonzero(others)), plain(others.sum())],
        "bias": plain(bias[unit]),
        "sum": plain(total),
    }


def _input_names(model: Model, passes: list[layerwise.LayerPass], number: int) -> list[str]:
    """Return the names of the inputs of a dense layer."""
    before = passes[number - 2] if number > 1 else None
    size = passes[number - 1].arrays[0].shape[0]
    shape = model.image_shape if before is None else None
    if shape is not None and shape[0] * shape[1] == size:
        return [f"pixel ({y}, {x})" for y in range(shape[0]) for x in range(shape[1])]
    if before is None:
        return list(model.feature_names or (f"input {k}" for k in range(size)))
    if before.out.ndim == 2:
        return [f"unit {k}" for k in range(size)]
    _, channels, height, width = before.out.shape
    return [f"channel {c} ({y}, {x})" for c in range(channels) for y in range(height) for x in range(width)]
