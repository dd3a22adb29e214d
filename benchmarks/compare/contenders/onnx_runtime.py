"""onnxruntime in float32. The network is an ONNX graph (opset 17, IR 8) of Gemm, Relu and Softmax."""

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from benchmarks.compare.problems import Problem

OPSET, IR = 17, 8


def versions() -> dict[str, str]:
    """Return versions and settings for the report."""
    return {"onnxruntime": onnxruntime.__version__, "onnx": onnx.__version__}


def build_model(weights: list[np.ndarray], biases: list[np.ndarray]) -> onnx.ModelProto:
    """Return an ONNX model from float32 rows to probabilities."""
    nodes, initializers, name = [], [], "inp"
    for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        initializers += [
            numpy_helper.from_array(weight, f"weight_{layer}"),
            numpy_helper.from_array(bias, f"bias_{layer}"),
        ]
        nodes.append(helper.make_node("Gemm", [name, f"weight_{layer}", f"bias_{layer}"], [f"sum_{layer}"]))
        name = f"out_{layer}"
        operation = "Relu" if layer < len(weights) - 1 else "Softmax"
        nodes.append(helper.make_node(operation, [f"sum_{layer}"], [name]))
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("inp", TensorProto.FLOAT, ["rows", weights[0].shape[0]])],
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
    session = onnxruntime.InferenceSession(
        build_model(problem.weights, problem.biases).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    feed = {"inp": problem.scaled}
    return lambda: session.run(None, feed)[0]
