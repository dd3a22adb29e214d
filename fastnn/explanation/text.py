"""Renders an explanation as text: each step with its formula and its numbers.

Long lists show only their largest entries. Numbers are rounded to four significant digits, or to seven if the next step
needs them. The arrays of the explanation hold the full numbers.
"""

from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from fastnn.network import ACTIVATIONS

# Both are in explanation.py, which imports this module.
Explanation: TypeAlias = Any
LayerSteps: TypeAlias = Any

# A list of up to _WHOLE entries is shown whole. Of a longer list, the _LARGEST largest entries are shown.
_WHOLE, _LARGEST = 16, 6
# In a layer of up to this number of weights, the weighted sum of every unit is shown. In a larger layer, only that of
# the unit with the largest output is shown.
_TINY = 32
Namer = Callable[[int], str]


class Words(NamedTuple):
    """How the steps of one kind of layer are worded."""

    title: str  # stands before the name of the activation, with a space at its end if it is not empty
    formula: str  # the sum in words
    note: str  # a line that explains the formula
    # The columns of a table that computes the sum of each unit, by their headings. Empty if a sum has many terms, which
    # then get a table of their own.
    columns: Callable[[LayerSteps], dict[str, np.ndarray]]
    factor: str  # what a weight multiplies, in a word
    factors: Callable[[LayerSteps], np.ndarray]  # the factors of all weights, (terms of a sum, H)
    back: str  # the gradient of the layer's inputs; {} is the number of the layer
    constants: tuple[str, ...]  # what the sums contain beside the inputs


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
        note="",
        columns=lambda layer: {},
        factor="input",
        factors=lambda layer: np.broadcast_to(layer.inp[:, None], layer.weight.shape),
        back="error of layer {} @ its weights transposed",
        constants=("biases",),
    ),
    "batch_norm": Words(
        title="batch norm ",
        formula="weight * normal + bias",
        note="normal = (input - mean) / sqrt(variance + epsilon). Mean, variance: running averages, constant here.",
        columns=_batch_norm_columns,
        factor="normal",
        factors=lambda layer: _batch_norm_columns(layer)["normal"][None],
        back="error of layer {} * its weights / sqrt(variance + epsilon)",
        constants=("biases", "running means"),
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
    inp, standardization = steps.layers[0].inp, steps.network.standardization
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
    if len(inp) <= _WHOLE:
        rows = [(name(i), *(_number(values[i]) for values in columns.values())) for i in range(len(inp))]
        lines += table(("", *columns), rows)
    elif steps.image_shape is not None:
        lines.append("   Pixels are named (row, column), counted from 0.")
    return "\n".join(lines)


def _forward(steps: Explanation, index: int) -> str:
    layer, last = steps.layers[index], index == len(steps.layers) - 1
    words, activation, units = KINDS[layer.layer.kind], ACTIVATIONS[layer.activation], len(layer.sums)
    name, columns = _output_namer(steps, index), words.columns(layer)
    quantity, role, formula = "logit", "classes", ""
    if not last:
        quantity, role, formula = "sum", layer.activation, f", output = {activation.formula}"
    head = f"Layer {index + 1}, {len(layer.inp):,} -> {units:,} {words.title}{role}"
    lines = [f"{head}: {quantity} = {words.formula}{formula}."]
    if words.note:
        lines.append(f"   {words.note}")
    if activation.can_die:
        lines.append(f"   Active units: {np.count_nonzero(layer.out):,} of {units:,}; the others output 0.")
    if columns or not last:
        shown = _largest(layer.out)
        columns_shown = {**columns, quantity: layer.sums, **({} if last else {"output": layer.out})}
        rows = [(name(unit), *(_number(values[unit]) for values in columns_shown.values())) for unit in shown]
        lines += table((_heading("", shown, units), *columns_shown), rows)
    if columns:
        return "\n".join(lines)
    detailed = list(range(units)) if layer.weight.size <= _TINY else [int(layer.out.argmax())]
    if len(detailed) < units:
        largest = "logit" if last else "output"
        lines.append(f"   The {quantity} of {name(detailed[0])}, which has the largest {largest}:")
    for unit in detailed:
        lines += _weighted_sum(layer, unit, f"{quantity} of {name(unit)}", _input_namer(steps, index))
    return "\n".join(lines)


def _weighted_sum(layer: LayerSteps, unit: int, title: str, input_name: Namer) -> list[str]:
    """Return the lines of one unit's weighted sum, one product per line."""
    products = layer.inp * layer.weight[:, unit]
    shown = _largest(products)
    rows = [(input_name(i), *map(_number, (layer.inp[i], layer.weight[i, unit], products[i]))) for i in shown]
    if len(shown) < len(products):
        others = int(np.count_nonzero(products) - np.count_nonzero(products[shown]))
        rest = products.sum() - products[shown].sum()
        rows.append((f"other nonzero ({others:,})", "", "", _number(rest)))
    rows += [("bias", "", "", _number(layer.bias[unit])), (title, "", "", _number(layer.sums[unit]))]
    return table(("", "input", "weight", "product"), rows)


def _softmax(steps: Explanation) -> str:
    formula = f"probability = exp(z - max(z)) / sum of exp(z - max(z)), with max(z) = {_number(steps.logits.max())}"
    columns = (steps.logits, steps.shifted, steps.exp, steps.proba)
    shown = _largest(steps.proba)
    rows = [(steps.class_names[label], *(_number(column[label]) for column in columns)) for label in shown]
    rows.append(("sum of all", "", "", f"{steps.total:.7g}", f"{steps.proba.sum():.7g}"))
    head = (_heading("class", shown, len(steps.proba)), "logit z", "z - max(z)", "exp(z - max(z))", "probability")
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
        column = [(name(i), _number(values[i])) for i in indices[:_LARGEST]]
        if len(indices) > _LARGEST:
            column.append((f"others ({len(indices) - _LARGEST:,})", _number(values[indices[_LARGEST:]].sum())))
        columns.append([*column, ("sum", _number(values[indices].sum()))])
    rows = [(*one, "", *other) for one, other in zip_longest(*columns, fillvalue=("", ""))]
    result = "logit" if steps.rival is None else "difference"
    lines = [f"Contributions: input * gradient of {quantity}. The {result} is {_number(total)}."]
    lines += table((f"for {predicted}", "", "", against, ""), rows, left=(0, 3))
    if all(ACTIVATIONS[layer.activation].is_piecewise_linear for layer in steps.layers):
        constants = dict.fromkeys(each for layer in steps.layers for each in KINDS[layer.layer.kind].constants)
        lines.append(f"   The {' and '.join(constants)} contribute the rest, {_number(total - values.sum())}.")
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
    assert layer.dweight is not None
    words, units = KINDS[layer.layer.kind], len(layer.dsums)
    if index == len(steps.layers) - 1:
        formula = "error = probability - target (1 for the label, 0 for the other classes)"
    else:
        back = KINDS[steps.layers[index + 1].layer.kind].back.format(index + 2)
        formula = f"error = ({back}) * derivative,"
        formula += f"\n   derivative = {ACTIVATIONS[layer.activation].derivative_formula}"
    lines = [f"Backward through layer {index + 1}: {formula}."]
    nonzero = np.count_nonzero(layer.dsums)
    lines.append(f"   The error of a unit is also the gradient of its bias. Nonzero errors: {nonzero:,} of {units:,}.")
    name, input_name = _output_namer(steps, index), _input_namer(steps, index)
    shown = _largest(layer.dsums)
    lines += table((_heading("", shown, units), "error"), [(name(i), _number(layer.dsums[i])) for i in shown])
    gradient, factors = layer.dweight.ravel(), words.factors(layer)
    lines.append(
        f"   Gradient of a weight = its {words.factor} * the error of its unit. Nonzero gradients: "
        f"{np.count_nonzero(gradient):,} of {gradient.size:,}, with norm {_number(np.sqrt((gradient**2).sum()))}."
    )
    shown, rows = _largest(gradient), []
    for flat in shown:
        i, unit = divmod(flat, units)
        title = name(unit) if len(factors) == 1 else f"{input_name(i)} -> {name(unit)}"
        rows.append((title, *map(_number, (factors[i, unit], layer.dsums[unit], gradient[flat]))))
    return "\n".join(lines + table((_heading("", shown, gradient.size), words.factor, "error", "gradient"), rows))


# --- Names, numbers and tables ---------------------------------------------------------------------------------------
def _input_namer(steps: Explanation, index: int) -> Namer:
    """Return the function that names the inputs of a layer."""
    if index:
        return lambda i: f"unit {i}"
    names = steps.feature_names
    if steps.image_shape is None:
        return (lambda i: f"input {i}") if names is None else (lambda i: names[i])
    width = steps.image_shape[1]
    return lambda i: f"pixel ({i // width}, {i % width})"


def _output_namer(steps: Explanation, index: int) -> Namer:
    """Return the function that names the outputs of a layer."""
    if index < len(steps.layers) - 1:
        return lambda i: f"unit {i}"
    return lambda i: f"class {steps.class_names[i]}"


def _largest(values: np.ndarray) -> list[int]:
    """Return the indices of the entries to show: all of a short list, otherwise the largest by magnitude, in order."""
    if len(values) <= _WHOLE:
        return list(range(len(values)))
    indices: list[int] = np.argsort(-np.abs(values), kind="stable")[:_LARGEST].tolist()
    return indices


def _heading(name: str, shown: Sequence[int], count: int) -> str:
    return name if len(shown) == count else f"the {len(shown)} largest"


def _number(value: float) -> str:
    return f"{value + 0:.4g}"  # + 0 turns -0 into 0


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int] = (0,), indent: str = "   "
) -> list[str]:
    """Return the lines of a table; the columns in `left` are aligned to the left, the others to the right."""
    columns = []
    for index, column in enumerate(zip(head, *rows, strict=True)):
        width = max(map(len, column))
        columns.append([cell.ljust(width) if index in left else cell.rjust(width) for cell in column])
    return [f"{indent}{'  '.join(line)}".rstrip() for line in zip(*columns, strict=True)]
