"""A network's forward pass in C: the lines from a row to the last sums, and the constants and functions they need.

In the code, ``name_`` and ``NAME_`` stand for the prefix of a file.
"""

import math
import re
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from fastnn.errors import DataError
from fastnn.files.c_text import TYPES, comment, initializer, number
from fastnn.files.int8 import LOW, Int8Network, Int8Step, Levels
from fastnn.files.steps import Step
from fastnn.network import ACTIVATIONS, AvgPool2D, BatchNorm, Conv2D, Dense, MaxPool2D, Network
from fastnn.network.layers.base import n_units


class Program:
    """The forward pass of a network.

    Parameters
    ----------
    network : Network
    steps : list of Step
        Those of the network.
    int8 : Int8Network or None
        The same network in integers; None for float32.
    input_dtype : dtype
        That of a row.
    target : str
        Where the last sums go, an expression.

    Attributes
    ----------
    lines : list of str
        The statements.
    constants : list of str
        The constants, each of one or more lines.
    n_bytes : int
        Their size.
    sizes : dict of str to int
        The length of each array of the memory of a prediction; see `members`.
    """

    def __init__(
        self, network: Network, steps: list[Step], int8: Int8Network | None, input_dtype: np.dtype, target: str
    ) -> None:
        self._network, self._steps, self._int8 = network, steps, int8
        self._input_dtype, self._target = input_dtype, target
        self._parts: list[str] = []  # names of parts of c_functions.c, and functions
        self.constants: list[str] = []
        self.n_bytes = 0
        self.sizes = {"sums": 0, "values": 0, "a": network.n_inputs, "b": 0}
        self.lines = self._in_float() if int8 is None else self._in_int8(int8)

    def functions(self) -> list[str]:
        """Return the functions that the lines need, in an order that C accepts."""
        dtype, parts = "float32" if self._int8 is None else "int8", _parts()
        return [
            (parts.get((dtype, name)) or parts.get(("any", name)) or name)
            .replace("@value", TYPES[dtype])
            .replace("@lowest", _LOWEST[dtype])
            for name in dict.fromkeys(("places", *self._parts) if self.has_windows else self._parts)
        ]

    @property
    def has_windows(self) -> bool:
        """Whether windows move over images."""
        return any(isinstance(step.layer, Conv2D | MaxPool2D | AvgPool2D) for step in self._steps)

    def members(self) -> list[tuple[str, int, str]]:
        """Return the name, the length and the dtype of each array of the memory of a prediction."""
        activations = "float32" if self._int8 is None else "int8"
        dtypes = {"sums": "int32", "values": "float32", "a": activations, "b": activations}
        return [(name, size, dtypes[name]) for name, size in self.sizes.items() if size]

    def activate(self, activation: str, where: str, n: int) -> list[str]:
        """Return the call of the function of an activation, which is added."""
        if activation == "identity":
            return []
        row = ACTIVATIONS[activation]
        if row.c is None:
            raise DataError(f"the activation {activation} has no formula in C, expected one in its row of the table")
        name = "name_activate_" + re.sub("[^A-Za-z0-9]", "_", activation)
        self._parts.append(
            f"/* {comment(row.formula)} */\nstatic void {name}(float *values, int n)\n{{\n"
            "    for (int j = 0; j < n; j++) {\n        const float x = values[j];\n"
            f"        values[j] = {row.c};\n    }}\n}}\n"
        )
        return [f"{name}({where}, {n});"]

    def call(self, part: str, *arguments: object) -> str:
        """Return the call of a function of c_functions.c, which is added."""
        self._parts.append(part)
        return f"name_{part}({', '.join(map(str, arguments))});"

    def _constant(self, name: str, array: np.ndarray) -> str:
        """Add a constant array; return its name."""
        self.n_bytes += array.nbytes
        head = f"static NAME_ALIGNED const {TYPES[array.dtype.name]} name_{name}[{array.size}]"
        self.constants.append(f"{head} = {{\n{initializer(array)}\n}};\n")
        return f"name_{name}"

    def _windows(self, place: int, step: Step) -> str:
        layer: Any = step.layer
        window = layer.kernel if isinstance(layer, Conv2D) else layer.size
        values = ", ".join(map(str, (*step.inp, *window, *layer.stride, *layer.padding, *step.out[1:])))
        self.constants.append(f"static const name_windows name_windows_{place} = {{{values}}};\n")
        return f"&name_windows_{place}"

    def _scaled(self, where: str) -> list[str]:
        """Return the lines that read the row into an array of float."""
        inputs, loop = self._network.standardization, f"for (int i = 0; i < {self._network.n_inputs}; i++)"
        if inputs is None:
            scale = np.float32(self._network.input_scale)
            factor = "" if scale == 1 else f" * {number(scale)}"
            value = "row[i]" if self._input_dtype == np.float32 else "(float)row[i]"
            return [loop, f"    {where}[i] = {value}{factor};"]
        # In double, as in the reference: a large mean would cancel the digits of a float.
        if inputs.is_uniform:
            mean, factor = (repr(float(values[0])) for values in (inputs.mean, inputs.scale))
        else:
            mean = f"{self._constant('input_mean', inputs.mean)}[i]"
            factor = f"{self._constant('input_scale', inputs.scale)}[i]"
        return [loop, f"    {where}[i] = (float)(((double)row[i] - {mean}) * {factor});"]

    def _scale_shift(self, place: int, step: Step) -> tuple[str, str]:
        """Return the names of the constants of a batch normalisation."""
        assert step.weight is not None
        assert step.bias is not None
        return (
            self._constant(f"scale_{place}", step.weight.astype(np.float32)),
            self._constant(f"shift_{place}", step.bias.astype(np.float32)),
        )

    def _normalised(self, place: int, step: Step, where: str) -> list[str]:
        """Return the lines of a batch normalisation of an array of float, and of its activation."""
        units, n = n_units(step.inp), math.prod(step.inp)
        call = self.call("scale_shift", where, *self._scale_shift(place, step), units, n // units)
        return [call, *self.activate(step.activation, where, n)]

    # --- float32 -----------------------------------------------------------------------------------------------------
    def _in_float(self) -> list[str]:
        lines, inp, n_outputs = self._scaled("a"), "a", self._network.n_outputs
        moving = [place for place, step in enumerate(self._steps) if not isinstance(step.layer, BatchNorm)]
        for place, step in enumerate(self._steps):
            if isinstance(step.layer, BatchNorm):
                lines += self._normalised(place + 1, step, inp)
                continue
            n_in, n_out = math.prod(step.inp), math.prod(step.out)
            out = self._target if place == moving[-1] else "b" if inp == "a" else "a"
            if out in self.sizes:
                self.sizes[out] = max(self.sizes[out], n_out)
            if isinstance(step.layer, Dense):
                call = self.call("dense", inp, *self._parameters(place + 1, step), out, n_in, n_out)
            else:
                arguments = [inp, self._windows(place + 1, step)]
                if isinstance(step.layer, Conv2D):
                    arguments += [str(step.out[0]), *self._parameters(place + 1, step)]
                call = self.call(step.layer.kind, *arguments, out)
            lines += [call, *self.activate(step.activation, out, n_out)]
            inp = out
        if not moving:
            lines += [f"for (int i = 0; i < {n_outputs}; i++)", f"    ({self._target})[i] = a[i];"]
        return [f"float *const {name} = scratch->{name};" for name in "ab" if self.sizes[name]] + lines

    def _parameters(self, place: int, step: Step) -> tuple[str, str]:
        """Return the names of the constants of a layer."""
        assert step.weight is not None
        assert step.bias is not None
        return (
            self._constant(f"weight_{place}", _in_order(step, step.weight).astype(np.float32)),
            self._constant(f"bias_{place}", step.bias.astype(np.float32)),
        )

    # --- int8 --------------------------------------------------------------------------------------------------------
    def _in_int8(self, int8: Int8Network) -> list[str]:
        inputs, n = int8.steps[0].inp, self._network.n_inputs
        lines = ["int8_t *const a = scratch->a;"]
        if self._input_dtype == np.uint8 and int8.takes_pixels:
            lines += [f"for (int i = 0; i < {n}; i++)", f"    a[i] = (int8_t)(row[i] - {-LOW});"]
        else:
            self._needs("values", n)
            lines += self._scaled("values")
            for place, step in enumerate(int8.float_steps, start=1):
                lines += self._normalised(place, step, "values")
            lines.append(self._rounded(inputs, "a", n))
        inp = "a"
        for place, each in enumerate(int8.steps, start=len(int8.float_steps) + 1):
            out = self._target if each.out is None else "b" if inp == "a" else "a"
            if each.out is not None:
                self._needs(out, math.prod(each.step.out))
            lines += self._int8_step(place, each, inp, out)
            inp = out
        names = [(TYPES[dtype], name) for name, _, dtype in self.members() if name != "a"]
        return [*(f"{kind} *const {name} = scratch->{name};" for kind, name in names), *lines]

    def _needs(self, member: str, n: int) -> None:
        self.sizes[member] = max(self.sizes[member], n)

    def _rounded(self, levels: Levels, out: str, n: int) -> str:
        return self.call("round", "values", number(1 / levels.scale), levels.zero, out, n)

    def _int8_step(self, place: int, each: Int8Step, inp: str, out: str) -> list[str]:
        """Return the lines of a step. Sums and numbers of images are those of one channel at a time."""
        step, zero, lines = each.step, each.inp.zero, []
        n_in, n_out = math.prod(step.inp), math.prod(step.out)
        if isinstance(step.layer, MaxPool2D):
            largest = out if each.keeps_levels else "b" if inp == "a" else "a"
            self._needs(largest, n_out)
            lines = [self.call("max_pool2d", inp, self._windows(place, step), largest)]
            if each.keeps_levels:
                return lines
            inp, n_in = largest, n_out
        n_channels = step.out[0] if len(step.out) == 3 else 1
        n = n_out // n_channels

        def of_channel(array: str, size: int) -> str:
            return f"{array} + {f'{size} * ' if size > 1 else ''}c" if n_channels > 1 else array

        seen, written = of_channel(inp, n_in // n_channels), of_channel(out, n)
        values = "values" if each.out is not None else written
        if each.out is not None:
            self._needs("values", n)
        if isinstance(step.layer, Dense):
            self._needs("sums", n)
            weight, bias, scale = self._int8_parameters(place, each)
            body = [
                self.call("dense", inp, zero, weight, bias, "sums", n_in, n),
                self.call("numbers_of_units", "sums", scale, values, n),
            ]
        elif isinstance(step.layer, Conv2D):
            self._needs("sums", n)
            weight, bias, scale = self._int8_parameters(place, each)
            c = "c" if n_channels > 1 else 0
            filters = of_channel(weight, step.inp[0] * math.prod(step.layer.kernel))
            body = [
                self.call("conv2d", inp, zero, self._windows(place, step), filters, f"{bias}[{c}]", "sums"),
                self.call("numbers", "sums", f"{scale}[{c}]", values, n),
            ]
        elif isinstance(step.layer, AvgPool2D):
            self._needs("sums", n)
            assert each.scale is not None
            body = [
                self.call("sum_pool2d", seen, zero, self._windows(place, step), "sums"),
                self.call("numbers", "sums", number(each.scale[0]), values, n),
            ]
        else:
            body = [self.call("numbers_of_levels", seen, zero, number(each.inp.scale), values, n)]
        if isinstance(step.layer, BatchNorm):
            arrays = (of_channel(name, 1) for name in self._scale_shift(place, step))
            body.append(self.call("scale_shift", values, *arrays, *((1, n) if len(step.out) == 3 else (n, 1))))
        body += self.activate(step.activation, values, n)
        if each.out is not None:
            body.append(self._rounded(each.out, written, n))
        if n_channels == 1:
            return [*lines, *body]
        return [*lines, f"for (int c = 0; c < {n_channels}; c++) {{", *(f"    {line}" for line in body), "}"]

    def _int8_parameters(self, place: int, each: Int8Step) -> tuple[str, str, str]:
        """Return the names of the constants of a layer."""
        assert each.weight is not None
        assert each.bias is not None
        assert each.scale is not None
        return (
            self._constant(f"weight_{place}", _in_order(each.step, each.weight)),
            self._constant(f"bias_{place}", each.bias),
            self._constant(f"scale_{place}", each.scale),
        )


def _in_order(step: Step, weight: np.ndarray) -> np.ndarray:
    """Return a weight in the order of the C functions: those of a convolution have one filter after another."""
    return weight.transpose(3, 0, 1, 2) if isinstance(step.layer, Conv2D) else weight


# The smallest number of each type of activations.
_LOWEST = {"float32": "-HUGE_VALF", "int8": "INT8_MIN"}


@cache
def _parts() -> dict[tuple[str, str], str]:
    """Return the functions of c_functions.c by dtype and name."""
    text = files("fastnn.files").joinpath("c_functions.c").read_text(encoding="ascii")
    parts = (part.partition("\n") for part in text.split("//@ ")[1:])
    return {(head.split()[0], head.split()[1]): f"{body.strip()}\n" for head, _, body in parts}
