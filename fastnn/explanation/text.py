"""Renders an explanation as text: each step with its formula and its numbers.

Long lists show only their largest entries. Numbers are rounded to four significant digits, or to seven if the next step
needs them. The arrays of the explanation hold the full numbers.
"""

from collections.abc import Callable
from itertools import zip_longest
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from fastnn.explanation.places import (
    Place,
    avg_pool_place,
    batch_norm_place,
    conv_place,
    max_pool_place,
)
from fastnn.explanation.tables import LARGEST, WHOLE, Namer, heading, largest, number, table, weighted_sum
from fastnn.network import ACTIVATIONS
from fastnn.network.layers import Shape, n_units

# Both are in explanation.py, which imports this module.
Explanation: TypeAlias = Any
LayerSteps: TypeAlias = Any

# In a layer of up to this number of weights, the weighted sum of every unit is shown. In a larger layer, only that of
# the unit with the largest output is shown.
_TINY = 32
_LINE = 115  # the length above which the head of a layer of images takes two lines


class Words(NamedTuple):
    """How the steps of one kind of layer are worded."""

    title: str  # stands before the name of the activation, with a space at its end if it is not empty
    formula: str  # the sum in words
    back: str  # the gradient of the layer's inputs; {} is the number of the layer
    note: str = ""  # a line that explains the formula
    constants: tuple[str, ...] = ()  # what the sums contain beside the inputs
    # Of a layer whose outputs are units: the columns of a table that computes the sum of each unit, by their headings.
    # Empty if a sum has many terms, which then get a table of their own.
    columns: Callable[[LayerSteps], dict[str, np.ndarray]] = lambda layer: {}
    factor: str = ""  # what a weight multiplies, in a word
    factors: Callable[[LayerSteps], np.ndarray] = lambda layer: layer.inp  # those of all weights, (terms of a sum, H)
    # Of a layer that gives images: the lines that explain one place.
    place: Callable[[LayerSteps, Place], list[str]] = lambda layer, place: []


def _batch_norm_columns(layer: LayerSteps) -> dict[str, np.ndarray]:
    mean, variance = layer.statistics
    normal = (layer.inp - mean) / np.sqrt(variance + layer.layer.epsilon)
    return {
        "input": layer.inp, "mean": mean, "variance": variance, "normal": normal, "weight": layer.weight,
        "bias": layer.bias,
    }  # fmt: skip


KINDS = {
    "dense": Words(
        title="",
        formula="inputs @ weights + bias",
        back="error of layer {} @ its weights transposed",
        constants=("biases",),
        factor="input",
        factors=lambda layer: np.broadcast_to(layer.inp[:, None], layer.weight.shape),
    ),
    "batch_norm": Words(
        title="batch norm ",
        formula="weight * normal + bias",
        note="normal = (input - mean) / sqrt(variance + epsilon). Mean, variance: running averages, constant here.",
        back="error of layer {} * its weights / sqrt(variance + epsilon)",
        constants=("biases", "running means"),
        columns=_batch_norm_columns,
        factor="normal",
        factors=lambda layer: _batch_norm_columns(layer)["normal"][None],
        place=batch_norm_place,
    ),
    "conv2d": Words(
        title="convolution ",
        formula="patch @ filter + bias",
        note="Every place of the output sees a patch of the input. A filter has the same weights at all places.",
        back="error of layer {} * weight, added over the places that see it",
        constants=("biases",),
        factor="input",
        place=conv_place,
    ),
    "max_pool2d": Words(
        title="max pool ",
        formula="largest number of the window",
        back="error of layer {}, added over the windows that it won",
        place=max_pool_place,
    ),
    "avg_pool2d": Words(
        title="avg pool ",
        formula="mean of the window",
        back="error of layer {} / window size, added over its windows",
        place=avg_pool_place,
    ),
}
"""The words of every kind of layer: dict of str to `Words`."""


def render(steps: Explanation) -> str:
    """Return the text of `Explanation.to_text`."""
    sections = [_inputs(steps)]
    sections += [_forward(steps, index) for index in range(len(steps.layers))]
    sections += [_softmax(steps), _contributions(steps)]
    if steps.label is not None:
        sections += [_loss(steps)]
        sections += [_backward(steps, index) for index in range(len(steps.layers) - 1, -1, -1)]
    numbered = [f"{number}. {section}" for number, section in enumerate(sections, start=1)]
    return "\n\n".join([f"{steps.network}", *numbered])


# --- The sections ----------------------------------------------------------------------------------------------------
def _inputs(steps: Explanation) -> str:
    inp, standardization = steps.layers[0].inp.ravel(), steps.network.standardization
    nonzero = int(np.count_nonzero(inp))
    change = f"multiplied by {steps.network.input_scale:.4g}"
    columns = {"given": steps.row, "scaled": inp}
    if standardization is not None:
        change = "standardised: (given - mean) * scale"
        columns = {
            "given": steps.row, "mean": standardization.mean, "scale": standardization.scale, "standardised": inp,
        }  # fmt: skip
    lines = [f"Inputs: {len(inp):,} numbers ({nonzero:,} nonzero), {change}."]
    name = _input_namer(steps, 0)
    if len(inp) <= WHOLE:
        rows = [(name(i), *(number(values[i]) for values in columns.values())) for i in range(len(inp))]
        lines += table(("", *columns), rows)
    elif steps.input_shape is not None:
        channels = "channel " if steps.input_shape[0] > 1 else ""
        lines.append(f"   Pixels are named {channels}(row, column), counted from 0.")
    return "\n".join(lines)


def _forward(steps: Explanation, index: int) -> str:
    layer, last = steps.layers[index], index == len(steps.layers) - 1
    words, activation = KINDS[layer.layer.kind], ACTIVATIONS[layer.activation]
    before, after = steps.network.shapes[index : index + 2]
    quantity, formula = "logit" if last else "sum", ""
    if not last and layer.weight is None and layer.activation == "identity":
        quantity = "output"
    elif not last:
        formula = f", output = {activation.formula}"
    if len(after) == 3:
        named = f"{layer.layer.describe(after)} {'classes' if last else layer.activation}".removesuffix(" identity")
    else:
        named = f"{_size(after)} {words.title}{'classes' if last else layer.activation}"
    head = f"Layer {index + 1}, {_size(before)} -> {named}: {quantity} = {words.formula}"
    if len(after) == 3 and len(head + formula) > _LINE:
        formula = formula.replace(", ", ",\n   ", 1)
    lines = [f"{head}{formula}."]
    if words.note:
        lines.append(f"   {words.note}")
    if activation.can_die:
        units = "units" if len(after) == 1 else "outputs"
        lines.append(f"   Active {units}: {np.count_nonzero(layer.out):,} of {layer.out.size:,}; the others output 0.")
    explained = _units if len(after) == 1 else _channels
    return "\n".join(lines + explained(steps, index, quantity))


def _units(steps: Explanation, index: int, quantity: str) -> list[str]:
    """Return the lines of the units of a layer: their sums and outputs, and the terms of a sum."""
    layer, last = steps.layers[index], quantity == "logit"
    words, units, name = KINDS[layer.layer.kind], layer.sums.size, _output_namer(steps, index)
    columns, lines = words.columns(layer), []
    if columns or not last:
        shown = largest(layer.out)
        columns_shown = {**columns, quantity: layer.sums, **({} if last else {"output": layer.out})}
        rows = [(name(unit), *(number(values[unit]) for values in columns_shown.values())) for unit in shown]
        lines += table((heading("", shown, units), *columns_shown), rows)
    if columns:
        return lines
    detailed = list(range(units)) if layer.weight.size <= _TINY else [int(layer.out.argmax())]
    if len(detailed) < units:
        lines.append(
            f"   The {quantity} of {name(detailed[0])}, which has the largest {'logit' if last else 'output'}:"
        )
    for unit in detailed:
        title, input_name = f"{quantity} of {name(unit)}", _input_namer(steps, index)
        lines += weighted_sum(layer.inp, layer.weight[:, unit], layer.bias[unit], layer.sums[unit], title, input_name)
    return lines


def _channels(steps: Explanation, index: int, quantity: str) -> list[str]:
    """Return the lines of the feature maps of a layer, and of the place with the largest output."""
    layer, name = steps.layers[index], _output_namer(steps, index)
    maps = layer.out.reshape(len(layer.out), -1)
    at = maps.argmax(axis=1)
    peaks, width = maps[np.arange(len(maps)), at], layer.out.shape[2]
    shown = largest(peaks)
    unit, rows = layer.layer.unit_name(layer.out.shape), []
    for channel in shown:
        numbers = number(peaks[channel]), f"({at[channel] // width}, {at[channel] % width})"
        nonzero = f"{np.count_nonzero(maps[channel]):,} of {maps.shape[1]:,}"
        # Of a last layer with a single place, the channels are the classes.
        named = name(channel) if maps.shape[1] == 1 and quantity == "logit" else f"{unit} {channel}"
        rows.append((named, *numbers, number(maps[channel].mean()), nonzero))
    largest_one = f"largest {'logit' if quantity == 'logit' else 'output'}"
    head = (heading("", shown, len(maps)), largest_one, "(row, column)", "mean", "nonzero")
    channel = int(peaks.argmax())
    row, column = divmod(int(at[channel]), width)
    place = Place(channel, row, column, quantity, name(int(maps.argmax())), _input_namer(steps, index))
    return table(head, rows) + KINDS[layer.layer.kind].place(layer, place)


def _softmax(steps: Explanation) -> str:
    formula = f"probability = exp(z - max(z)) / sum of exp(z - max(z)), with max(z) = {number(steps.logits.max())}"
    columns = (steps.logits, steps.shifted, steps.exp, steps.proba)
    shown = largest(steps.proba)
    rows = [(steps.class_names[label], *(number(column[label]) for column in columns)) for label in shown]
    rows.append(("sum of all", "", "", f"{steps.total:.7g}", f"{steps.proba.sum():.7g}"))
    head = (heading("class", shown, len(steps.proba)), "logit z", "z - max(z)", "exp(z - max(z))", "probability")
    predicted = f"   Predicted class: {steps.class_names[steps.prediction]}."
    return "\n".join([f"Softmax: {formula}.", *table(head, rows), predicted])


def _contributions(steps: Explanation) -> str:
    """Return the section that lists the contribution of each input to the logit difference."""
    values, predicted = steps.contributions, f"class {steps.class_names[steps.prediction]}"
    if steps.rival is None:
        quantity, total, against = f"the logit of {predicted}", steps.logits[steps.prediction], f"against {predicted}"
    else:
        rival = f"class {steps.class_names[steps.rival]}"
        quantity, against = f"(logit of {predicted} - logit of {rival})", f"for {rival}"
        total = steps.logits[steps.prediction] - steps.logits[steps.rival]
    name, order = _input_namer(steps, 0), np.argsort(-values, kind="stable")
    columns = []
    for indices in (order[values[order] > 0], order[::-1][values[order[::-1]] < 0]):
        column = [(name(i), number(values[i])) for i in indices[:LARGEST]]
        if len(indices) > LARGEST:
            column.append((f"others ({len(indices) - LARGEST:,})", number(values[indices[LARGEST:]].sum())))
        columns.append([*column, ("sum", number(values[indices].sum()))])
    rows = [(*one, "", *other) for one, other in zip_longest(*columns, fillvalue=("", ""))]
    result = "logit" if steps.rival is None else "difference"
    lines = [f"Contributions: input * gradient of {quantity}. The {result} is {number(total)}."]
    lines += table((f"for {predicted}", "", "", against, ""), rows, left=(0, 3))
    if all(ACTIVATIONS[layer.activation].is_piecewise_linear for layer in steps.layers):
        constants = dict.fromkeys(each for layer in steps.layers for each in KINDS[layer.layer.kind].constants)
        lines.append(f"   The {' and '.join(constants)} contribute the rest, {number(total - values.sum())}.")
    return "\n".join(lines)


def _loss(steps: Explanation) -> str:
    label = steps.label
    assert label is not None
    name, proba = steps.class_names[label], steps.proba[label]
    terms = f"log({steps.total:.7g}) - ({steps.shifted[label] + 0:.7g})"
    return (
        f"Loss for label {name}: {steps.network.loss.formula} = -log({proba:.7g}) = {steps.loss:.4g},\n"
        f"   computed as log(sum of exp(z - max(z))) - (z - max(z) of the label) = {terms}."
    )


def _backward(steps: Explanation, index: int) -> str:
    layer = steps.layers[index]
    assert layer.dsums is not None
    if index == len(steps.layers) - 1:
        formula = "error = probability - target (1 for the label, 0 for the other classes)"
    else:
        back = KINDS[steps.layers[index + 1].layer.kind].back.format(index + 2)
        formula = f"error = ({back}) * derivative,"
        formula += f"\n   derivative = {ACTIVATIONS[layer.activation].derivative_formula}"
    name, errors = _output_namer(steps, index), layer.dsums.ravel()
    shown, nonzero = largest(errors), np.count_nonzero(errors)
    of_bias = "The error of a unit is also the gradient of its bias. "
    if layer.dsums.ndim == 3:
        unit = layer.layer.unit_name(layer.dsums.shape)
        of_bias = (
            f"The gradient of a bias is the sum of the errors of its {unit}. " if layer.dweight is not None else ""
        )
    return "\n".join([
        f"Backward through layer {index + 1}: {formula}.",
        f"   {of_bias}Nonzero errors: {nonzero:,} of {errors.size:,}.",
        *table((heading("", shown, errors.size), "error"), [(name(i), number(errors[i])) for i in shown]),
        *_weight_gradients(steps, index),
    ])  # fmt: skip


def _weight_gradients(steps: Explanation, index: int) -> list[str]:
    """Return the lines of the gradients of a layer's weights; none for a layer without weights."""
    layer = steps.layers[index]
    if layer.dweight is None:
        return []
    words, gradient, is_image = KINDS[layer.layer.kind], layer.dweight.ravel(), layer.dsums.ndim == 3
    formula = f"its {words.factor} * the error of its unit. "
    if is_image:
        formula = f"its {words.factor} * the error there, added over all places.\n   "
    line = (
        f"   Gradient of a weight = {formula}Nonzero gradients: "
        f"{np.count_nonzero(gradient):,} of {gradient.size:,}, with norm {number(np.sqrt((gradient**2).sum()))}."
    )
    shown, units, rows = largest(gradient), n_units(layer.sums.shape), []
    if is_image:
        unit_name = layer.layer.unit_name(layer.sums.shape)
        for flat in shown:
            *tap, unit = (int(each) for each in np.unravel_index(flat, layer.dweight.shape))
            of_channel = f", channel {tap[0]} {tuple(tap[1:])}" if tap else ""
            rows.append((f"{unit_name} {unit}{of_channel}", number(gradient[flat])))
        return [line, *table((heading("", shown, gradient.size), "gradient"), rows)]
    name, input_name, factors = _output_namer(steps, index), _input_namer(steps, index), words.factors(layer)
    products: list[tuple[str, ...]] = []
    for flat in shown:
        i, unit = divmod(flat, units)
        title = name(unit) if len(factors) == 1 else f"{input_name(i)} -> {name(unit)}"
        products.append((title, *map(number, (factors[i, unit], layer.dsums[unit], gradient[flat]))))
    return [line, *table((heading("", shown, gradient.size), words.factor, "error", "gradient"), products)]


# --- Names and sizes -------------------------------------------------------------------------------------------------
def _size(shape: Shape) -> str:
    """Return a shape as text: 1,024 or 6x24x24."""
    return f"{shape[0]:,}" if len(shape) == 1 else "x".join(map(str, shape))


def _place_namer(shape: Shape, unit: str) -> Namer:
    """Return the function that names the numbers of a shape by their flat index."""
    if len(shape) == 1:
        return lambda i: f"{unit} {i}"
    _, height, width = shape
    return lambda i: f"{unit} {i // (height * width)} ({i // width % height}, {i % width})"


def _input_namer(steps: Explanation, index: int) -> Namer:
    """Return the function that names the inputs of a layer."""
    if index:
        shape = steps.network.shapes[index]
        return _place_namer(shape, "unit" if len(shape) == 1 else "channel")
    names, shape = steps.feature_names, steps.input_shape
    if shape is None:
        return _place_namer(steps.network.shapes[0], "input") if names is None else (lambda i: names[i])
    width = shape[2]
    return _place_namer(shape, "channel") if shape[0] > 1 else lambda i: f"pixel ({i // width}, {i % width})"


def _output_namer(steps: Explanation, index: int) -> Namer:
    """Return the function that names the outputs of a layer."""
    if index == len(steps.layers) - 1:
        return lambda i: f"class {steps.class_names[i]}"
    shape = steps.network.shapes[index + 1]
    return _place_namer(shape, steps.layers[index].layer.unit_name(shape))
