"""onnxruntime in float32. The network is an ONNX graph (opset 17, IR 8) of its own, not a file of fastnn's."""

from collections.abc import Callable, Sequence

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from benchmarks.compare.architecture import Conv, Layer, Pool
from benchmarks.compare.problems import Problem

OPSET, IR = 17, 8


def versions() -> dict[str, str]:
    """Return versions and settings for the report."""
    return {"onnxruntime": onnxruntime.__version__, "onnx": onnx.__version__}


def build_model(
    layers: Sequence[Layer], input_shape: Sequence[int], weights: list[np.ndarray], biases: list[np.ndarray]
) -> onnx.ModelProto:
    """Return an ONNX model from float32 rows of shape `input_shape` to probabilities."""
    nodes, initializers, name = [], [], "inp"

    def add(operation: str, *constants: str, **attributes: object) -> None:
        nonlocal name
        out = f"out_{len(nodes)}"
        nodes.append(helper.make_node(operation, [name, *constants], [out], **attributes))
        name = out

    arrays, flat = iter(zip(weights, biases, strict=True)), len(input_shape) == 1
    for number, layer in enumerate(layers):
        if isinstance(layer, Pool):
            add("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
            continue
        weight, bias = next(arrays)
        if isinstance(layer, Conv):
            weight = np.ascontiguousarray(weight.transpose(3, 0, 1, 2))
        elif not flat:
            add("Flatten")
            flat = True
        constants = f"weight_{number}", f"bias_{number}"
        initializers += map(numpy_helper.from_array, (weight, bias), constants)
        add("Conv" if isinstance(layer, Conv) else "Gemm", *constants)
        add("Softmax" if number == len(layers) - 1 else "Relu")
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("inp", TensorProto.FLOAT, ["rows", *input_shape])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", weights[-1].shape[1]])],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    onnx.checker.check_model(model)
    return model


def predict(problem: Problem, threads: int) -> Callable[[], np.ndarray]:
    """Return a callable that runs a session with `threads` threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    model = build_model(problem.layers, problem.input_shape, problem.weights, problem.biases)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feed = {"inp": problem.scaled.reshape(-1, *problem.input_shape)}
    return lambda: session.run(None, feed)[0]
