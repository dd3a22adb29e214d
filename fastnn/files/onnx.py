"""Exports a model to ONNX: one graph from raw input rows to labels and probabilities, checked before it is written.

The graph is the reference's forward pass: Cast (if `input_dtype` requires it), Mul by the input scale, each layer and
its activation, then Softmax, Sigmoid or nothing. Rows are flat; Reshape makes them images before the first layer that
needs images, and Flatten makes rows of these again. For an ensemble, Sum and Div give the mean of the outputs of its
networks. ArgMax and Gather compute the labels, so the file needs no separate
table of classes.

To export another kind of layer, add a row to `_LAYERS`; an activation has its nodes in its own table.
"""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastnn.backends import reference
from fastnn.checks import display_path, short
from fastnn.datasets.sparse import is_sparse
from fastnn.errors import DataError, MissingDependencyError, install_extra
from fastnn.files.atomic import write_atomically
from fastnn.files.model_file import checked, versions
from fastnn.files.trial_rows import as_input, input_dtype_named, tolerance, trial_rows
from fastnn.models import Ensemble, Model, as_model
from fastnn.models.model import decide
from fastnn.network import ACTIVATIONS, AvgPool2D, BatchNorm, Conv2D, Dense, Layer, MaxPool2D, Network
from fastnn.network.layers import Arrays, Shape

if TYPE_CHECKING:
    import onnx

# By default, onnx writes newer versions than the onnxruntime of the same time can read. Every onnxruntime since 1.12
# can read these versions.
OPSET, IR_VERSION = 17, 8
INPUT_DTYPES = ("uint8", "float32", "float64")


class _Operator(NamedTuple):
    """The ONNX operator of a layer. Its inputs are that of the layer, the weight, the bias and the statistics."""

    name: str
    attributes: Callable[[Any], dict[str, Any]] = lambda layer: {}  # of the layer
    weight_axes: tuple[int, ...] | None = None  # the order of the weight's axes in ONNX, if it is another one
    is_single: bool = False  # whether onnxruntime has it for float32 only


def _window(layer: Any, size: tuple[int, int]) -> dict[str, Any]:
    return {"kernel_shape": size, "strides": layer.stride, "pads": (*layer.padding, *layer.padding)}


_LAYERS: dict[type[Layer], _Operator] = {
    Dense: _Operator("Gemm"),
    BatchNorm: _Operator("BatchNormalization", lambda layer: {"epsilon": layer.epsilon}),
    Conv2D: _Operator("Conv", lambda layer: _window(layer, layer.kernel), weight_axes=(3, 0, 1, 2), is_single=True),
    MaxPool2D: _Operator("MaxPool", lambda layer: _window(layer, layer.size)),
    AvgPool2D: _Operator(
        "AveragePool", lambda layer: {**_window(layer, layer.size), "count_include_pad": 1}, is_single=True
    ),
}
# The operator of each output.
_OUTPUTS = {"softmax": "Softmax", "logistic": "Sigmoid", "identity": "Identity", "exp": "Exp"}
_MAX_BYTES = 2_000_000_000  # a protobuf message has at most 2 GiB
_SINGLE_ROWS, _BATCH_ROWS = 16, 8192


def export_onnx(
    path: str | os.PathLike[str],
    model: Any,
    *,
    rows: Any = None,
    input_dtype: str | np.dtype | type | None = None,
) -> None:
    """Export a model to an ONNX file.

    Before the file is written, the graph runs in onnxruntime, and its outputs are compared with the reference's.

    Parameters
    ----------
    path : str or path
        The file to write. The usual suffix is ``.onnx``.
    model : Model, Network, result of `train`, or fitted estimator
        A network is exported with the names that `fastnn.save` would give it.
    rows : array-like or SciPy sparse matrix of shape (N, D), or None
        Input rows for the comparison. None means 256 random rows from a fixed seed: pixels if the input is uint8,
        otherwise numbers that the input scale maps to [0, 1), or standard normal numbers if the input scale is 1.
    input_dtype : {"uint8", "float32", "float64"}, or None
        The dtype of the input X. None means the dtype of the network. If they differ, a Cast in the graph converts X.

    Raises
    ------
    DataError
        If the model or the rows are invalid, if onnx or onnxruntime rejects the graph, or if its outputs differ from
        the reference's (see Notes). No file is written then, and an old file stays unchanged.
    SettingsError
        If `input_dtype` is unknown.
    FileError
        If the file cannot be written.
    MissingDependencyError
        If the packages of the extra "onnx" are not installed.

    Notes
    -----
    The graph has one input, "X", of shape (batch, D): any number of rows, unscaled. Its outputs are "label" and
    "probabilities", or only "values" for "identity" and "exp" outputs.

    - label: (batch,) int64, double, bool or string, a class or the label of `Model.unknown`. For several logistic
      outputs: (batch, C) int64, 0 or 1.
    - probabilities: (batch, C) in the network's dtype. For a single logistic output with two classes: (batch, 2).
    - values: (batch, C) in the network's dtype.

    The metadata of the file are those of a model file: output, classes, image_shape, feature_names, unknown, pixels,
    and the versions of fastnn, numpy and onnx. Values that are not text are written as JSON.

    The comparison fails in these cases:

    - A probability differs by more than 1e-5, or a value by more than 1e-5 times the larger of 1 and the largest value.
      If inputs are large, the rounding error of float32 may exceed this. The limit is then 10 times the rounding error
      of the reference on such rows.
    - A label is not the one that follows from the graph's own probabilities.

    So a label can differ from the reference's only in a near tie: the difference between the two largest probabilities,
    or between the largest probability and the threshold, is at most twice the limit. For several logistic outputs, it
    is the difference between a probability and 0.5.

    Examples
    --------
    >>> import os
    >>> from tempfile import TemporaryDirectory
    >>> import fastnn
    >>> network = fastnn.Network.initialize((4, 3, 2), seed=0)
    >>> with TemporaryDirectory() as folder:
    ...     fastnn.export_onnx(f"{folder}/model.onnx", network)
    ...     print(os.listdir(folder))
    ['model.onnx']
    """
    for package in ("onnx", "onnxruntime"):
        try:
            import_module(package)
        except ImportError as error:
            found = f"ONNX export needs onnx and onnxruntime, but {package} cannot be imported ({error})"
            raise MissingDependencyError(f"{found}; {install_extra('onnx')}") from error
    model = as_model(model)
    dtype = model.networks[0].dtype
    if input_dtype is not None:
        dtype = input_dtype_named(input_dtype, INPUT_DTYPES)
    try:
        model = replace(model, **checked(model))
        data = _serialized(model, dtype)
        _check(model, data, rows, dtype)
    except DataError as error:
        raise DataError(f"{display_path(path)}: cannot export: {error}") from None
    write_atomically(path, data)


# --- The graph -------------------------------------------------------------------------------------------------------
class _Graph:
    """The nodes and constants of a graph under construction. Its methods return the name of the new tensor."""

    def __init__(self, dtype: np.dtype) -> None:
        self.dtype = dtype
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: np.ndarray) -> str:
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def number(self, value: float) -> str:
        """Add a constant in the network's dtype."""
        return self.constant(f"number.{len(self.constants)}", np.array(value, self.dtype))

    def add(self, operator: str, inputs: list[str], output: str | None = None, **attributes: Any) -> str:
        """Add a node. `output` is the name of its result; None: a new name."""
        from onnx import helper

        output = output or f"{operator}.{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output


def _serialized(model: Model, dtype: np.dtype) -> bytes:
    """Return the bytes of the ONNX file. `dtype` is the dtype of the input X."""
    import onnx
    from onnx import helper

    network = model.networks[0]
    arrays = [array for each in model.networks for array in (*each.weights, *each.biases, *each.statistics)]
    n_bytes = sum(array.nbytes for array in arrays)
    if n_bytes > _MAX_BYTES:
        limit = f"at most {_MAX_BYTES}, the limit of an ONNX file"
        raise DataError(f"the parameters take {n_bytes} bytes, expected {limit}")
    graph = _Graph(network.dtype)
    answer = _add_answer(graph, model, dtype)
    inp, *outputs = (
        helper.make_tensor_value_info(name, _type(kind), ["batch", *shape])
        for name, (kind, *shape) in {"X": (dtype, network.n_inputs), **answer}.items()
    )
    proto = helper.make_model(
        helper.make_graph(graph.nodes, "fastnn", [inp], outputs, graph.constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="fastnn",
        producer_version=versions()["fastnn"],
    )
    texts = {name: json.dumps(value) for name, value in checked(model).items()}
    helper.set_model_props(proto, {"output": network.output, **texts, **versions(), "onnx": onnx.__version__})
    return proto.SerializeToString(deterministic=True)


def _add_outputs(graph: _Graph, model: Model, dtype: np.dtype, operator: str, output: str | None = None) -> str:
    """Add the nodes from X, of `dtype`, to the outputs, which `operator` makes of logits; return their name.

    Those of an ensemble are the mean of the outputs of its networks. `output` is as in `_Graph.add`.
    """
    if not isinstance(model, Ensemble):
        return graph.add(operator, [_add_network(graph, model.network, dtype)], output)
    each = [
        graph.add(operator, [_add_network(graph, network, dtype, f"network.{number}.")])
        for number, network in enumerate(model.networks)
    ]
    return graph.add("Div", [graph.add("Sum", each), graph.number(len(each))], output)


def _add_network(graph: _Graph, network: Network, dtype: np.dtype, prefix: str = "") -> str:
    """Add the nodes from X, of `dtype`, to the logits; return the name of the logits.

    prefix: the beginning of the names of the network's constants
    """
    name = "X"
    if network.standardization is not None:
        if dtype != np.float64:
            name = graph.add("Cast", [name], to=_type(np.float64))
        name = graph.add("Sub", [name, graph.constant(f"{prefix}input.mean", network.standardization.mean)])
        name = graph.add("Mul", [name, graph.constant(f"{prefix}input.scale", network.standardization.scale)])
        dtype = np.dtype(np.float64)
    if dtype != network.dtype:
        name = graph.add("Cast", [name], to=_type(network.dtype))
    if network.input_scale != 1:
        name = graph.add("Mul", [name, graph.number(network.input_scale)])
    shape: Shape = (network.n_inputs,)
    for number, (layer, arrays) in enumerate(network.chain()):
        if type(layer) not in _LAYERS:
            raise DataError(f"layer {number + 1} is {layer.kind}, expected one of {', '.join(k.kind for k in _LAYERS)}")
        is_image = len(network.shapes[number]) == 3 and type(layer) is not Dense
        name = _as_shape(graph, name, shape, network.shapes[number] if is_image else (network.sizes[number],))
        name = ACTIVATIONS[str(layer.activation)].onnx(
            graph, _add_layer(graph, name, f"{prefix}{{}}.{number}", layer, arrays)
        )
        shape = network.shapes[number + 1] if is_image else (network.sizes[number + 1],)
    return _as_shape(graph, name, shape, (network.n_outputs,))


def _add_layer(graph: _Graph, name: str, form: str, layer: Layer, arrays: Arrays) -> str:
    """Add the nodes from the inputs of a layer, the tensor of a name, to its sums; return the name of the sums.

    form: makes the name of a constant of its kind, such as "weight"
    """
    operator = _LAYERS[type(layer)]
    dtype = np.dtype(np.float32) if operator.is_single else graph.dtype
    weight = arrays.weight if operator.weight_axes is None else arrays.weight.transpose(operator.weight_axes)
    constants = {form.format("weight"): weight, form.format("bias"): arrays.bias}
    constants |= {f"{form.format('statistic')}.{k}": array for k, array in enumerate(arrays.statistics)}
    inputs = [name if dtype == graph.dtype else graph.add("Cast", [name], to=_type(dtype))]
    for key, array in constants.items():
        if array is not None:
            inputs.append(graph.constant(key, array.astype(dtype, copy=False)))
    sums = graph.add(operator.name, inputs, **operator.attributes(layer))
    return sums if dtype == graph.dtype else graph.add("Cast", [sums], to=_type(graph.dtype))


def _as_shape(graph: _Graph, name: str, found: Shape, wanted: Shape) -> str:
    """Return the name of a tensor with rows of the shape that a layer needs; a node is added only where they differ."""
    if found == wanted:
        return name
    if len(wanted) == 1:
        return graph.add("Flatten", [name], axis=1)
    sizes = np.array((0, *wanted), np.int64)  # 0 keeps the number of rows, even if there are none
    return graph.add("Reshape", [name, graph.constant(f"shape.{len(graph.constants)}", sizes)])


def _add_answer(graph: _Graph, model: Model, dtype: np.dtype) -> dict[str, tuple[Any, ...]]:
    """Add all nodes, from X of `dtype` to those of `Model.decide`.

    Returns the outputs by name: the dtype, and the shape of a row.
    """
    operator, n_outputs = _OUTPUTS[model.networks[0].output], model.networks[0].n_outputs
    if model.classes is None:
        _add_outputs(graph, model, dtype, operator, "values")
        return {"values": (graph.dtype, n_outputs)}
    if n_outputs > 1:
        _add_outputs(graph, model, dtype, operator, "probabilities")
    elif len(model.classes) == 1:
        _add_outputs(graph, model, dtype, "Softmax", "probabilities")  # 1 in every row
    else:
        second = _add_outputs(graph, model, dtype, operator)
        first = graph.add("Sub", [graph.number(1), second])
        graph.add("Concat", [first, second], "probabilities", axis=1)
    probabilities = (graph.dtype, len(model.classes))
    if model.is_multilabel:
        graph.add("Cast", [graph.add("Greater", ["probabilities", graph.number(0.5)])], "label", to=_type(np.int64))
        return {"label": (np.int64, n_outputs), "probabilities": probabilities}
    table, index = graph.constant("classes", model.labels), graph.add("ArgMax", ["probabilities"], axis=1, keepdims=0)
    if model.unknown is None:
        graph.add("Gather", [table, index], "label")
    else:
        threshold, label = model.unknown
        largest = graph.add("ReduceMax", ["probabilities"], axes=[1], keepdims=0)
        is_unknown = graph.add("Less", [largest, graph.constant("threshold", np.array(threshold, graph.dtype))])
        unknown = graph.constant("unknown", np.array(label, model.labels.dtype))
        graph.add("Where", [is_unknown, unknown, graph.add("Gather", [table, index])], "label")
    return {"label": (model.labels.dtype,), "probabilities": probabilities}


def _type(dtype: Any) -> int:
    """Return the ONNX type of a dtype; object is the type of strings."""
    from onnx import helper

    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


# --- The check -------------------------------------------------------------------------------------------------------
def _check(model: Model, data: bytes, rows: Any, dtype: np.dtype) -> None:
    """Raise DataError unless onnx and onnxruntime accept `data` and its outputs agree with the reference's."""
    import onnx
    import onnxruntime

    rows = trial_rows(model, rows, dtype)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # log only fatal errors: all errors are raised anyway
    try:
        onnx.checker.check_model(data, full_check=True)
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        for first, last in _batches(rows.shape[0]):
            batch = rows[first:last]
            batch = as_input(batch.toarray() if is_sparse(batch) else batch, dtype)
            _compare(model, batch, session.run(None, {"X": batch}), first)
    except DataError:
        raise
    except Exception as error:  # onnx and onnxruntime raise many classes of errors without a common base
        raise DataError(f"the graph is refused: {short(' '.join(str(error).split()))}") from error


def _batches(n_rows: int) -> list[tuple[int, int]]:
    """Return the ranges of rows to run, as (first, end): large batches, then some single rows."""
    many = [(first, min(first + _BATCH_ROWS, n_rows)) for first in range(0, n_rows, _BATCH_ROWS)]
    return many + [(row, row + 1) for row in range(min(n_rows, _SINGLE_ROWS))]


def _tolerance(network: Network, rows: np.ndarray) -> float:
    """Return the `tolerance` of a network; some of a float64 network's operators run in float32, which decides."""
    is_single = any(_LAYERS[type(layer)].is_single for layer in network.layers)
    return tolerance(network, rows, np.float32 if is_single and network.dtype == np.float64 else np.float64)


def _compare(model: Model, rows: np.ndarray, found: list[np.ndarray], first: int) -> None:
    tolerance = max(_tolerance(network, rows) for network in model.networks)
    expected = np.mean([reference.predict_proba(network, rows) for network in model.networks], axis=0)
    if model.classes is None:
        _check_close("values", found[0], expected, tolerance, first)
        return
    label, probabilities = found
    _check_close("probabilities", probabilities, model.decide(expected)[1], tolerance, first)
    # Derive the expected label from the graph's own probabilities, which are known here to be within the tolerance. The
    # comparison of labels is therefore exact, even for near ties.
    correct = decide(probabilities, model.labels, model.unknown, model.is_multilabel)
    wrong = (label != correct).reshape(len(rows), -1).any(axis=1) if label.shape == correct.shape else np.array([True])
    if wrong.any():
        row = int(wrong.argmax())
        predicted, expects = short(label.tolist()[row]), short(correct.tolist()[row])
        raise DataError(f"onnxruntime's label of row {first + row} is {predicted}, expected {expects}")


def _check_close(name: str, found: np.ndarray, expected: np.ndarray, tolerance: float, first: int) -> None:
    if found.dtype != expected.dtype or found.shape != expected.shape:
        what, wanted = (f"{array.dtype} of shape {array.shape}" for array in (found, expected))
        raise DataError(f"onnxruntime's {name} are {what}, expected {wanted}")
    distance = np.abs(found - expected)
    if not (distance <= tolerance).all():
        row, column = np.unravel_index(np.argmax(np.nan_to_num(distance, nan=np.inf)), distance.shape)
        raise DataError(
            f"onnxruntime's {name} differ from the reference's, in row {first + row}, column {column}: "
            f"{found[row, column]:.9g}, expected {expected[row, column]:.9g} within {tolerance:.1g}"
        )
