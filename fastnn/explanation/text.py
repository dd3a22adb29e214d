"""An explanation as text: each step with its formula and its numbers, long lists by their largest entries.

Numbers are rounded to four digits, or seven where the next step needs them; the Explanation's arrays hold them in full.
"""

from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from fastnn.explanation.steps import Explanation, LayerSteps

# A list of so many entries is shown whole; of a longer one, so many of the largest.
_WHOLE, _LARGEST = 16, 6
# The layers of tiny networks are small enough to work every unit through, instead of one.
_TINY = 32
_ACTIVATIONS = {
    "relu": "max(sum, 0)",
    "tanh": "tanh(sum)",
    "logistic": "1 / (1 + exp(-sum))",
    "identity": "sum",
}
_SLOPES = {
    "relu": "1 where the output is above 0, else 0",
    "tanh": "1 - output^2",
    "logistic": "output * (1 - output)",
    "identity": "1",
}


def render(explanation: "Explanation") -> str:
    """The text of `Explanation.to_text`."""
    steps = [_inputs(explanation)]
    steps += [_forward(explanation, place) for place in range(len(explanation.layers))]
    steps += [_softmax(explanation), _evidence(explanation)]
    if explanation.label is not None:
        steps += [_loss(explanation)]
        steps += [_backward(explanation, place) for place in range(len(explanation.layers) - 1, -1, -1)]
    numbered = [f"{number}. {step}" for number, step in enumerate(steps, start=1)]
    return "\n\n".join([f"{explanation.network}", *numbered])


# --- The steps -------------------------------------------------------------------------------------------------------
def _inputs(explanation: "Explanation") -> str:
    inp, scale = explanation.layers[0].inp, explanation.network.input_scale
    used = int(np.count_nonzero(inp))
    lines = [f"Inputs: {len(inp):,} numbers, multiplied by {scale:.4g}; {used:,} of them are not 0."]
    name = _input_namer(explanation, 0)
    if len(inp) <= _WHOLE:
        rows = [(name(i), _number(explanation.row[i]), _number(value)) for i, value in enumerate(inp)]
        lines += _table(("", "given", "scaled"), rows)
    elif explanation.image_shape is not None:
        lines.append("   A pixel is named by its row and column, counted from 0.")
    return "\n".join(lines)


def _forward(explanation: "Explanation", place: int) -> str:
    layer, last = explanation.layers[place], place == len(explanation.layers) - 1
    fan_in, units = layer.weight.shape
    name = _output_namer(explanation, place)
    worked = list(range(units)) if layer.weight.size <= _TINY else [int(layer.out.argmax())]
    if last:
        formula = "logit = inputs @ weights + bias"
        lines = [f"Layer {place + 1}, {fan_in:,} -> {units:,} classes: {formula}."]
    else:
        formula = f"sum = inputs @ weights + bias, output = {_ACTIVATIONS[layer.activation]}"
        lines = [f"Layer {place + 1}, {fan_in:,} -> {units:,} {layer.activation}: {formula}."]
        if layer.activation == "relu":
            lines.append(f"   {np.count_nonzero(layer.out):,} of {units:,} units are active, the others give 0.")
        shown = _largest(layer.out)
        rows = [(name(unit), _number(layer.sums[unit]), _number(layer.out[unit])) for unit in shown]
        lines += _table((_heading("", shown, units), "sum", "output"), rows)
    if len(worked) < units:
        lines.append(f"   How the {'logit' if last else 'sum'} of {name(worked[0])}, the largest, comes about:")
    for unit in worked:
        title = f"{'logit' if last else 'sum'} of {name(unit)}"
        lines += _worked(layer, unit, title, _input_namer(explanation, place))
    return "\n".join(lines)


def _worked(layer: "LayerSteps", unit: int, title: str, input_name: Callable[[int], str]) -> list[str]:
    """One unit's weighted sum, product by product."""
    products = layer.inp * layer.weight[:, unit]
    shown = _largest(products)
    rows = [(input_name(i), _number(layer.inp[i]), _number(layer.weight[i, unit]), _number(products[i])) for i in shown]
    if len(shown) < len(products):
        others = int(np.count_nonzero(products) - np.count_nonzero(products[shown]))
        rest = products.sum() - products[shown].sum()
        rows.append((f"others not 0 ({others:,})", "", "", _number(rest)))
    rows += [("bias", "", "", _number(layer.bias[unit])), (title, "", "", _number(layer.sums[unit]))]
    return _table(("", "input", "weight", "product"), rows)


def _softmax(explanation: "Explanation") -> str:
    formula = f"z - max(z) with max(z) = {_number(explanation.logits.max())}, exp of it, divided by the sum of all exp"
    columns = (explanation.logits, explanation.shifted, explanation.exp, explanation.proba)
    shown = _largest(explanation.proba)
    rows = [(explanation.class_names[place], *(_number(column[place]) for column in columns)) for place in shown]
    rows.append(("sum of all", "", "", f"{explanation.total:.7g}", f"{explanation.proba.sum():.7g}"))
    head = (_heading("class", shown, len(explanation.proba)), "logit z", "z - max(z)", "exp", "probability")
    predicted = f"   The sample is taken for class {explanation.class_names[explanation.prediction]}."
    return "\n".join([f"Softmax: {formula}.", *_table(head, rows), predicted])


def _evidence(explanation: "Explanation") -> str:
    """What each input adds to the logit of the prediction over that of its rival."""
    values, prediction, rival = explanation.contributions, explanation.prediction, explanation.rival
    held, difference = f"the logit of class {explanation.class_names[prediction]}", explanation.logits[prediction]
    if rival is not None:
        held += f" minus that of class {explanation.class_names[rival]}"
        difference = difference - explanation.logits[rival]
    name, order = _input_namer(explanation, 0), np.argsort(-values, kind="stable")
    columns = []
    for places in (order[values[order] > 0], order[::-1][values[order[::-1]] < 0]):
        column = [(name(i), _number(values[i])) for i in places[:_LARGEST]]
        if len(places) > _LARGEST:
            column.append((f"others ({len(places) - _LARGEST:,})", _number(values[places[_LARGEST:]].sum())))
        columns.append([*column, ("sum", _number(values[places].sum()))])
    rows = [(*one, "", *other) for one, other in zip_longest(*columns, fillvalue=("", ""))]
    lines = [f"What the inputs say: input * gradient of {held}, which is {_number(difference)}."]
    lines += _table(("for it", "", "", "against it", ""), rows, left=(0, 3))
    if explanation.network.activation in ("relu", "identity") or len(explanation.layers) == 1:
        lines.append(f"   The rest of the difference, {_number(difference - values.sum())}, comes from the biases.")
    return "\n".join(lines)


def _loss(explanation: "Explanation") -> str:
    label = explanation.label
    assert label is not None
    name, share = explanation.class_names[label], explanation.proba[label]
    steps = f"log({explanation.total:.7g}) - ({explanation.shifted[label] + 0:.7g})"
    return (
        f"Loss, for label {name}: -log(its probability) = -log({share:.7g}) = {explanation.loss:.4g},\n"
        f"   computed as log(sum of exp) - (z - max(z) of the label) = {steps}."
    )


def _backward(explanation: "Explanation", place: int) -> str:
    layer = explanation.layers[place]
    assert layer.dsums is not None
    assert layer.dweight is not None
    if place == len(explanation.layers) - 1:
        formula = "error = probability, minus 1 for the label"
    else:
        formula = f"error = (error of layer {place + 2} @ its weights transposed) * slope,"
        formula += f"\n   slope = {_SLOPES[layer.activation]}"
    units = len(layer.dsums)
    lines = [f"Back through layer {place + 1}: {formula}."]
    lines.append(
        f"   The error of a unit is the gradient of its bias too; {np.count_nonzero(layer.dsums):,} are not 0."
    )
    name, input_name = _output_namer(explanation, place), _input_namer(explanation, place)
    shown = _largest(layer.dsums)
    lines += _table((_heading("", shown, units), "error"), [(name(i), _number(layer.dsums[i])) for i in shown])
    gradient = layer.dweight.ravel()
    lines.append(
        f"   Gradient of a weight = its input * the error of its unit; {np.count_nonzero(gradient):,} of "
        f"{gradient.size:,} are not 0, their norm is {_number(np.sqrt((gradient**2).sum()))}."
    )
    shown, rows = _largest(gradient), []
    for flat in shown:
        i, unit = divmod(flat, units)
        numbers = (layer.inp[i], layer.dsums[unit], gradient[flat])
        rows.append((f"{input_name(i)} -> {name(unit)}", *map(_number, numbers)))
    return "\n".join(lines + _table((_heading("", shown, gradient.size), "input", "error", "gradient"), rows))


# --- Names, numbers and tables ---------------------------------------------------------------------------------------
def _input_namer(explanation: "Explanation", place: int) -> Callable[[int], str]:
    """How the inputs of a layer are called."""
    if place:
        return lambda i: f"unit {i}"
    if explanation.image_shape is None:
        return lambda i: f"input {i}"
    width = explanation.image_shape[1]
    return lambda i: f"pixel ({i // width}, {i % width})"


def _output_namer(explanation: "Explanation", place: int) -> Callable[[int], str]:
    """How the outputs of a layer are called."""
    if place < len(explanation.layers) - 1:
        return lambda i: f"unit {i}"
    return lambda i: f"class {explanation.class_names[i]}"


def _largest(values: np.ndarray) -> list[int]:
    """The places of the largest values, whatever their sign; all places, in their order, where they are few."""
    if len(values) <= _WHOLE:
        return list(range(len(values)))
    places: list[int] = np.argsort(-np.abs(values), kind="stable")[:_LARGEST].tolist()
    return places


def _heading(name: str, shown: Sequence[int], count: int) -> str:
    return name if len(shown) == count else f"the {len(shown)} largest"


def _number(value: float) -> str:
    return f"{value + 0:.4g}"  # + 0 makes 0 of -0


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> list[str]:
    """Lines of columns: those named in `left` to the left, the others to the right."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    texts = [
        [cell.ljust(width) if column in left else cell.rjust(width) for column, (cell, width) in enumerate(cells)]
        for cells in (zip(line, widths, strict=True) for line in lines)
    ]
    return [f"   {'  '.join(text)}".rstrip() for text in texts]
