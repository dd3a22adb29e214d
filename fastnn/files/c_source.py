"""Exports a model as one C99 file: its weights, and the functions that turn a row into probabilities.

The program is the forward pass of the reference, step by step (`steps.py`), in float32 or in 8-bit integers
(`int8.py`); `c_program.py` has its lines. Nothing is allocated and nothing global is written: the memory of a
prediction is a struct, which the caller gives or which is on the stack.

Every name in the file begins with its prefix, and all of its text is ASCII, whatever the classes are called.
"""

import os
import re
import textwrap
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from fastnn.backends import reference
from fastnn.checks import check_choice, display_path, short
from fastnn.datasets.sparse import is_sparse
from fastnn.errors import DataError, SettingsError
from fastnn.files.atomic import write_atomically
from fastnn.files.c_program import Program
from fastnn.files.c_text import TYPES, comment, initializer, label, literal, number
from fastnn.files.int8 import quantize
from fastnn.files.model_file import checked, versions
from fastnn.files.steps import outputs_of, steps_of
from fastnn.files.trial_rows import TOLERANCE, as_input, input_dtype_named, tolerance, trial_rows
from fastnn.memory import check_memory
from fastnn.models import Model, as_model
from fastnn.models.model import class_probabilities

DTYPES = ("float32", "int8")
INPUT_DTYPES = ("uint8", "float32")
_TEST_ROWS = 8
_ROWS_AT_ONCE = 200
_LONGEST_NAME = 40  # characters of a prefix that comes from a file's name
_TEXT_BYTES = 16  # of memory for the text of a number
# The floats of the C program may differ from NumPy's by so many levels before they are rounded: by some units in the
# last place of numbers up to 255.
_ROUNDING = 2e-4
_COMMENT_WIDTH = 110


class CExport(NamedTuple):
    """What `export_c` wrote.

    Attributes
    ----------
    name : str
        The prefix of all names in the file.
    dtype, input_dtype : str
        What the program computes in, and the type of its inputs.
    weight_bytes : int
        The size of all constants of the network in the program.
    scratch_bytes : int
        The memory of a prediction.
    clipped : float or None
        Of int8: the fraction of a layer's values, on each end, that its range leaves out.
    n_compared : int or None
        Of int8: the number of rows that were compared with float32, which the ranges do not come from.
    same : float or None
        Of int8: the fraction of these rows with the same largest output.
    difference : float or None
        Of int8: the mean difference of an output on these rows.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import fastnn
    >>> with TemporaryDirectory() as folder:
    ...     written = fastnn.export_c(f"{folder}/net.c", fastnn.Network.initialize((4, 3)))
    >>> written.dtype, written.weight_bytes  # 4 x 3 weights and 3 biases
    ('float32', 60)
    """

    name: str
    dtype: str
    input_dtype: str
    weight_bytes: int
    scratch_bytes: int
    clipped: float | None = None
    n_compared: int | None = None
    same: float | None = None
    difference: float | None = None


def export_c(
    path: str | os.PathLike[str],
    model: Any,
    *,
    dtype: str = "float32",
    rows: Any = None,
    name: str | None = None,
    input_dtype: str | np.dtype | type | None = None,
) -> CExport:
    """Export a model to a C99 file that needs nothing but the standard library's header math.h and a stack.

    Parameters
    ----------
    path : str or path
        The file to write. The usual suffix is ``.c``.
    model : Model, Network, result of `train`, or fitted estimator
        A network is exported with the names that `fastnn.save` would give it.
    dtype : {"float32", "int8"}
        What the program computes in. "int8" has 8-bit weights and activations, a quarter of the size; see Notes.
    rows : array-like or SciPy sparse matrix of shape (N, D), or None
        Typical input rows. "int8" needs some, better hundreds; the first ones are the self-test of the file. None
        means random rows from a fixed seed, for "float32" only.
    name : str or None
        The prefix of all names in the file: letters, digits and _, with a letter first. None: made of the file's name.
    input_dtype : {"uint8", "float32"}, or None
        The type of an input. None: "uint8" if the network divides its inputs by 255, as pixels, else "float32".

    Returns
    -------
    CExport
        The sizes, and how close the integers come to float32.

    Raises
    ------
    DataError
        If the model or the rows are invalid, if a layer or an activation has no form in C, or if int32 might not hold
        a sum. No file is written then, and an old file stays unchanged.
    SettingsError
        If another argument is out of range, or "int8" has no rows.
    FileError
        If the file cannot be written.

    Notes
    -----
    The comment at the top of the file describes the network, its inputs and how to compile it. For a prefix ``digits``:

    - ``int digits_predict(const uint8_t *row, float *probabilities)`` returns the number of the predicted class, or
      ``DIGITS_UNKNOWN`` below the threshold of `Model.unknown`. For several logistic outputs and for numbers, it
      returns nothing.
    - ``digits_predict_with`` takes the memory that it works in as a third argument, for small stacks.
    - ``const char *digits_class_name(int)`` returns the name of a class.
    - Compiled with ``-DFASTNN_SELF_TEST``, the file is a program that predicts some rows and exits with 0 if the
      results are those of fastnn, else with 1.

    Integers: a number is ``(level - zero) * scale``. Weights have a scale for each output unit or channel and zero 0;
    the outputs of a layer have one scale and one zero. Ranges of outputs come from every other row. On the rows
    between, outputs are compared with float32, which decides what fraction of the values a range leaves out: none,
    0.01 %, 0.1 % or 0.5 % on each end. Sums are int32, which the export proves to be large enough for all inputs. They
    become floats once for each unit, for the activation and for the next layer's levels.

    Examples
    --------
    >>> import os
    >>> from tempfile import TemporaryDirectory
    >>> import fastnn
    >>> network = fastnn.Network.initialize((4, 3, 2), seed=0)
    >>> with TemporaryDirectory() as folder:
    ...     export = fastnn.export_c(f"{folder}/model.c", network)
    ...     print(os.listdir(folder))
    ['model.c']
    >>> export.name, export.weight_bytes
    ('model', 92)
    """
    check_choice("dtype", dtype, DTYPES)
    if dtype == "int8" and rows is None:
        raise SettingsError("rows is None, expected typical rows of the inputs for dtype int8")
    name = _prefix(path, name)
    model = as_model(model)
    if input_dtype is None:
        is_pixels = model.network.standardization is None and np.isclose(model.network.input_scale * 255, 1, rtol=1e-6)
        kind = np.dtype(np.uint8 if is_pixels else np.float32)
    else:
        kind = input_dtype_named(input_dtype, INPUT_DTYPES)
    try:
        model = replace(model, **checked(model))
        n_numbers = sum(array.size for array in (*model.network.weights, *model.network.biases))
        check_memory(_TEXT_BYTES * n_numbers, f"the text of {n_numbers:,} parameters")
        source = _Source(model, name, dtype, kind, trial_rows(model, rows, kind))
        text, export = source.text(), source.export
    except DataError as error:
        raise DataError(f"{display_path(path)}: cannot export: {error}") from None
    write_atomically(path, text.encode("ascii"))
    return export


def _prefix(path: str | os.PathLike[str], name: str | None) -> str:
    """Return the prefix of the names in a file."""
    if name is not None:
        if not isinstance(name, str) or not re.fullmatch("[A-Za-z][A-Za-z0-9_]*", name):
            raise SettingsError(f"name is {short(name)}, expected letters, digits and _, with a letter first")
        return name
    stem = os.path.splitext(os.path.basename(os.fsdecode(path)))[0]
    words = re.sub("[^A-Za-z0-9]+", "_", stem).strip("_")[:_LONGEST_NAME]
    return words if words[:1].isalpha() else f"model_{words}".rstrip("_")


class _Source:
    """The text of a file."""

    def __init__(self, model: Model, name: str, dtype: str, input_dtype: np.dtype, rows: Any) -> None:
        self._model, self._network = model, model.network
        self._name, self._dtype, self._input_dtype = name, dtype, input_dtype
        self._n_outputs = self._network.n_outputs if model.classes is None else len(model.classes)
        self._result = "outputs" if model.classes is None else "probabilities"
        self._returns_class = model.classes is not None and not model.is_multilabel
        rows = rows if dtype == "int8" else rows[:_ROWS_AT_ONCE]
        rows = as_input(rows.toarray() if is_sparse(rows) else np.asarray(rows), input_dtype)
        self._steps = steps_of(self._network)
        self._int8 = None
        if dtype == "int8":
            self._int8 = quantize(self._network, self._steps, rows, has_pixels=input_dtype == np.uint8)
        self._rows = rows[:_TEST_ROWS]
        self._expected, self._tolerance = self._check(rows[:_ROWS_AT_ONCE])
        # A single logistic output is the probability of the second class.
        self._has_second = self._returns_class and self._network.n_outputs < self._n_outputs
        target = f"{self._result} + 1" if self._has_second else self._result
        self._program = Program(self._network, self._steps, self._int8, input_dtype, target)
        self._body = [*self._program.lines, *self._output(target)]

    def _check(self, rows: np.ndarray) -> tuple[np.ndarray, float]:
        """Return the results for the rows of the self-test, and by how much those of the program may differ.

        DataError if the program would not compute what the reference does.
        """
        n = len(self._rows)
        if self._int8 is not None:
            # Where a number is halfway between two levels, rounding errors of floats decide which one it becomes.
            outputs, *moved = (self._int8.outputs(rows, shift) for shift in (0, -_ROUNDING, _ROUNDING))
            accepted = 4 * max(float(np.abs(outputs[:n] - each[:n]).max()) for each in moved)
            accepted += TOLERANCE * max(1.0, float(np.abs(outputs).max()))
        else:
            accepted, outputs = tolerance(self._network, rows), reference.predict_proba(self._network, rows)
            with np.errstate(over="ignore", invalid="ignore"):
                distance = np.abs(outputs_of(self._network, self._steps, rows) - outputs)
            if not (distance <= accepted).all():
                found = np.nan_to_num(distance, nan=np.inf, posinf=np.inf).max()
                expected = f"expected at most {accepted:.1g}"
                raise DataError(f"in float32, an output differs by {found:.1g} from the reference's, {expected}")
        if not np.isfinite(outputs).all():
            raise DataError("predictions for such rows are too large for float32, expected finite numbers")
        if self._model.classes is not None:
            outputs = class_probabilities(outputs, self._n_outputs, self._model.is_multilabel)
        return outputs[:n].astype(np.float32), accepted

    @property
    def export(self) -> CExport:
        """What `export_c` returns."""
        scratch = sum(size * np.dtype(dtype).itemsize for _, size, dtype in self._program.members())
        export = CExport(self._name, self._dtype, self._input_dtype.name, self._program.n_bytes, scratch)
        if self._int8 is None:
            return export
        found = self._int8
        return export._replace(
            clipped=found.clipped, n_compared=found.n_compared, same=found.same, difference=found.difference
        )

    def text(self) -> str:
        """Return the file."""
        program = self._program
        parts = [
            self._comment(), self._declarations(), _INCLUDES, *([_WINDOWS] if program.has_windows else []),
            *program.constants, *program.functions(), self._predict(), self._class_names(), self._self_test(), _END,
        ]  # fmt: skip
        text = "\n".join(part for part in parts if part)
        return re.sub(r"\bNAME_", f"{self._name.upper()}_", re.sub(r"\bname_", f"{self._name}_", text))

    # --- The comment and the declarations ----------------------------------------------------------------------------
    def _comment(self) -> str:
        lines = [
            *self._about_the_network(), *self._about_the_numbers(), "",
            "Compile:    cc -std=c99 -O3 -c FILE.c, and link with -lm. It is C++ (11 or later), too.",
            "Declare:    #define NAME_DECLARATIONS, then #include this file.",
            "Self-test:  cc -std=c99 -O3 -DFASTNN_SELF_TEST FILE.c -o test -lm && ./test",
            f"Written by fastnn {versions()['fastnn']}. The file is yours: fastnn's authors claim no rights in what it "
            "writes.",
        ]  # fmt: skip
        wrapped = [
            part for line in lines for part in textwrap.wrap(line, _COMMENT_WIDTH, break_on_hyphens=False) or [""]
        ]
        body = "".join(f"   {comment(line)}".rstrip() + "\n" for line in wrapped)
        return f"/* name_predict: a neural network as a function.\n\n{body}*/\n"

    def _about_the_network(self) -> list[str]:
        model, network = self._model, self._network
        image = "" if model.image_shape is None else ", an image of {} x {}, row by row".format(*model.image_shape)
        if network.standardization is not None:
            scaling = "The function subtracts a mean from each and multiplies it by a scale"
        elif network.input_scale != 1:
            scaling = f"The function multiplies them by {network.input_scale:.9g}"
        else:
            scaling = "They are taken as they are"
        inputs = f"{network.n_inputs} finite numbers, {TYPES[self._input_dtype.name]}{image}"
        lines = [f"{network}", f"Inputs: {inputs}. {scaling}."]
        if model.pixels is not None:
            lines.append(f"The background of an image is {model.pixels[0]:g}, full ink is {model.pixels[1]:g}.")
        if model.classes is None:
            return [*lines, f"Outputs: {network.n_outputs} numbers."]
        names = ", ".join(map(label, model.class_names[:20])) + (", ..." if len(model.classes) > 20 else "")
        kinds = "independent labels, each a yes above 0.5" if model.is_multilabel else "classes"
        lines.append(f"Outputs: the probabilities of {len(model.classes)} {kinds}: {names}.")
        if model.unknown is not None:
            threshold, answer = model.unknown
            lines.append(f"If none is {threshold:g} or more, the answer is NAME_UNKNOWN: {label(str(answer))}.")
        return lines

    def _about_the_numbers(self) -> list[str]:
        export, found = self.export, self._int8
        lines = ["Arithmetic: float32."]
        if found is not None:
            largest = max(step.largest_sum for step in found.steps)
            same = f", and the largest output is the same one for {found.same:.2%}" if self._n_outputs > 1 else ""
            lines = [
                "Arithmetic: 8-bit integers; a number is (level - zero) * scale. Sums are int32; no inputs give one "
                f"beyond {largest:,}. A layer's range leaves out {found.clipped:.2%} of its values on each end, which "
                f"came closest to float32 on {found.n_compared:,} other rows: the mean difference of an output is "
                f"{found.difference:.2g}{same}."
            ]
        lines.append(
            f"Size: {export.weight_bytes:,} bytes of constants. A prediction works in {export.scratch_bytes:,} bytes, "
            "a name_scratch: name_predict has it on the stack, name_predict_with takes yours. Nothing else is written, "
            "so threads need no lock."
        )
        return lines

    def _declarations(self) -> str:
        model = self._model
        constants = [f"NAME_INPUTS = {self._network.n_inputs}"]
        constants.append(f"NAME_{'OUTPUTS' if model.classes is None else 'CLASSES'} = {self._n_outputs}")
        if model.unknown is not None:
            constants.append(f"NAME_UNKNOWN = {self._n_outputs}")
        members = "".join(f"    {TYPES[dtype]} {name}[{size}];\n" for name, size, dtype in self._program.members())
        answer = " and returns the number of the predicted class" if self._returns_class else ""
        answer += ", or NAME_UNKNOWN" if model.unknown is not None else ""
        names = ""
        if model.classes is not None:
            names = (
                "\n/* Returns the name of a class, in UTF-8; 0 if no class has this number. */\n"
                "const char *name_class_name(int number);\n"
            )
        return _DECLARATIONS.format(
            constants=", ".join(constants), members=members, answer=answer, n=self._n_outputs, result=self._result,
            predict=self._signature(""), predict_with=self._signature("_with"), names=names,
        )  # fmt: skip

    def _signature(self, ending: str) -> str:
        kind = "int" if self._returns_class else "void"
        scratch = ", name_scratch *scratch" if ending else ""
        row = f"const {TYPES[self._input_dtype.name]} *row"
        return f"{kind} name_predict{ending}({row}, float *{self._result}{scratch})"

    # --- The functions -----------------------------------------------------------------------------------------------
    def _output(self, target: str) -> list[str]:
        """Return the lines from the last sums to the results."""
        output, n = self._network.output, self._network.n_outputs
        if self._returns_class and n == self._n_outputs == 1:
            return [f"{self._result}[0] = 1.0f; /* there is only one class */"]
        if output in ("softmax", "exp"):
            return [self._program.call(output, target, n)]
        lines = self._program.activate(output, target, n)
        return [*lines, f"{self._result}[0] = 1.0f - {self._result}[1];"] if self._has_second else lines

    def _predict(self) -> str:
        lines, call, decide = [*self._body], f"name_predict_with(row, {self._result}, &scratch);", ""
        if self._returns_class:
            threshold = ""
            if self._model.unknown is not None:
                least = number(self._model.unknown[0])
                threshold = f"    if (probabilities[best] < {least})\n        return NAME_UNKNOWN;\n"
            decide, call = _DECIDE.format(n=self._n_outputs, threshold=threshold), f"return {call}"
            lines.append("return name_decide(probabilities);")
        body = "".join(f"    {line}\n" for line in lines)
        return (
            f"{decide}{self._signature('_with')}\n{{\n{body}}}\n\n"
            f"{self._signature('')}\n{{\n    name_scratch scratch;\n    {call}\n}}\n"
        )

    def _class_names(self) -> str:
        if self._model.classes is None:
            return ""
        unknown = [] if self._model.unknown is None else [str(self._model.unknown[1])]
        names = [*self._model.class_names, *unknown]
        ended = next((each for each in names if "\0" in each), None)
        if ended is not None:
            raise DataError(f"a class is {short(ended)}, expected none with the character 0, which ends a string in C")
        table = "".join(f"        {literal(each)},\n" for each in names)
        return (
            f"const char *name_class_name(int number)\n{{\n    static const char *const names[] = {{\n{table}    }};\n"
            f"    return number >= 0 && number < {len(names)} ? names[number] : 0;\n}}\n"
        )

    def _self_test(self) -> str:
        def initializers(array: np.ndarray) -> str:
            return "".join(f"    {{\n{initializer(row, 8)}\n    }},\n" for row in array)

        call, shown = f"name_predict_with(name_test_rows[row], {self._result}, &scratch);", ""
        if self._returns_class:
            call = f"const int found = {call}"
            shown = '        printf("row %d: class %d, %s\\n", row, found, name_class_name(found));\n'
        return _SELF_TEST.format(
            kind=TYPES[self._input_dtype.name], n_rows=len(self._rows), n_inputs=self._network.n_inputs,
            rows=initializers(self._rows), result=self._result, n=self._n_outputs,
            expected=initializers(self._expected), call=call, shown=shown, tolerance=number(self._tolerance),
        )  # fmt: skip


# --- The fixed parts of a file ----------------------------------------------------------------------------------------
_INCLUDES = """#include <math.h>

#ifdef __cplusplus
#define NAME_RESTRICT __restrict
extern "C" {
#else
#define NAME_RESTRICT restrict
#endif

/* So that a vector of constants does not cross two cache lines. */
#if defined(__GNUC__)
#define NAME_ALIGNED __attribute__((aligned(32)))
#elif defined(_MSC_VER)
#define NAME_ALIGNED __declspec(align(32))
#else
#define NAME_ALIGNED
#endif

/* Rows of an image are too short for the several vectors that clang puts into one turn of a loop. */
#if defined(__clang__)
#define NAME_SHORT_LOOP _Pragma("clang loop interleave(disable)")
#else
#define NAME_SHORT_LOOP
#endif
"""

_DECLARATIONS = """#ifndef NAME_DECLARED
#define NAME_DECLARED

#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

enum {{ {constants} }};

/* The memory of a prediction. What was in it before does not matter. */
typedef struct {{
{members}}} name_scratch;

/* Writes the {n} {result} of a row{answer}. */
{predict};
{predict_with};
{names}
#ifdef __cplusplus
}}
#endif

#endif

#ifndef NAME_DECLARATIONS
"""

_WINDOWS = """/* An image of channels x height x width, and the windows that move over it by `down` and `across`. Zeros
   surround the image: `above` rows above and below it, and `left` columns on its left and on its right. */
typedef struct {
    int channels, height, width;
    int window_height, window_width, down, across, above, left;
    int out_height, out_width;
} name_windows;
"""

_DECIDE = """/* The most probable class, the first one of equals. */
static int name_decide(const float *probabilities)
{{
    int best = 0;
    for (int j = 1; j < {n}; j++)
        if (probabilities[j] > probabilities[best])
            best = j;
{threshold}    return best;
}}

"""

_SELF_TEST = """#ifdef FASTNN_SELF_TEST
#include <stdio.h>

static const {kind} name_test_rows[{n_rows}][{n_inputs}] = {{
{rows}}};

static const float name_test_{result}[{n_rows}][{n}] = {{
{expected}}};

int main(void)
{{
    static name_scratch scratch;
    float {result}[{n}], largest = 0.0f;
    for (int row = 0; row < {n_rows}; row++) {{
        {call}
{shown}        for (int j = 0; j < {n}; j++) {{
            const float difference = fabsf({result}[j] - name_test_{result}[row][j]);
            largest = difference <= largest ? largest : difference; /* NaN remains */
        }}
    }}
    printf("The largest difference is %g, expected at most %g.\\n", (double)largest, (double){tolerance});
    return largest <= {tolerance} ? 0 : 1;
}}
#endif
"""

_END = """#ifdef __cplusplus
}
#endif

#endif
"""
