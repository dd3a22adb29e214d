"""Tests of exported graphs: compares onnxruntime's outputs with fastnn's predictions and a float64 computation."""

import json
import math
import sys
from functools import partial

import numpy as np
import onnx
import onnxruntime
import pytest
import scipy.sparse
from onnx import numpy_helper

import fastnn
from fastnn import DataError, Ensemble, FileError, Model, Network, SettingsError, Standardization, export_onnx
from fastnn.errors import MissingDependencyError
from fastnn.files import onnx as onnx_export
from fastnn.network import ACTIVATIONS, LAYERS, LOSSES, AvgPool2D, BatchNorm, Conv2D, Dense, MaxPool2D
from tests.files.models import ANSWERS, IMAGES, MIXED, in_float64, made, refusal
from tests.parity import astype

refused = partial(refusal, export_onnx)

DTYPES = ("float32", "float64")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.onnx"


@pytest.fixture(scope="module")
def trained(mnist):
    """A small network after one epoch on MNIST."""
    network = Network.initialize((784, 32, 10), input_scale=1 / 255)
    return fastnn.train(network, mnist[0], epochs=1, batch_size=64).network


def run(path, rows):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"X": rows}), strict=True))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("kind", "layers"), [
    *(("softmax", [Dense(6, activation), Dense(4, activation)]) for activation in ACTIVATIONS),
    *((kind, MIXED) for kind in ANSWERS),
    *((kind, []) for kind in ANSWERS),
])  # fmt: skip
def test_the_graph_agrees_with_the_formulas(path, kind, layers, dtype):
    model = made(kind, dtype=dtype, layers=layers)
    export_onnx(path, model)
    rows = np.random.default_rng(1).normal(0, 4, (300, 5)).astype(dtype)
    expected, found = in_float64(model.network, rows), run(path, rows)
    # ONNX has attributes, such as the slope of LeakyRelu, in float32, and onnxruntime computes Erf in float32.
    is_exact = dtype == "float64" and not {layer.activation for layer in layers} & {"gelu", "leaky_relu"}
    tolerance = 1e-13 if is_exact else 1e-5
    if model.classes is None:
        assert list(found) == ["values"]
        assert found["values"].dtype == dtype
        np.testing.assert_allclose(found["values"], expected, rtol=0, atol=tolerance * np.abs(expected).max())
        return
    assert list(found) == ["label", "probabilities"]
    if kind == "binary":
        expected = np.hstack([1 - expected, expected])
    elif kind == "one class":
        expected = np.ones((300, 1))
    assert found["probabilities"].dtype == dtype
    np.testing.assert_allclose(found["probabilities"], expected, rtol=0, atol=tolerance)
    if kind == "multilabel":
        assert found["label"].dtype == np.int64
        np.testing.assert_array_equal(found["label"], expected > 0.5)
        assert 0 < found["label"].mean() < 1
    else:
        assert found["label"].dtype == (np.int64 if isinstance(model.classes[0], int) else object)
        assert found["label"].tolist() == [model.classes[index] for index in expected.argmax(axis=1)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ANSWERS)
def test_an_ensemble_is_one_graph_with_the_mean(path, kind, dtype):
    model = made(kind, dtype=dtype)
    other = model.network.like([0.3 * each for each in model.network.weights], model.network.biases)
    inputs = Standardization(np.arange(5.0), np.full(5, 0.5))
    shifted = Network(other.weights, other.biases, "tanh", inputs, other.output)
    names = {name: getattr(model, name) for name in ("classes", "image_shape")}
    export_onnx(path, Ensemble.of([model, Model(other, **names), Model(shifted, **names)]))
    rows = np.random.default_rng(1).normal(0, 4, (300, 5)).astype(dtype)
    core = Network(other.weights, other.biases, "tanh", 1.0, other.output)
    shifted_rows = (rows - np.arange(5)) * 0.5
    expected = (in_float64(model.network, rows) + in_float64(other, rows) + in_float64(core, shifted_rows)) / 3
    found, tolerance = run(path, rows), 1e-13 if dtype == "float64" else 1e-5
    if model.classes is None:
        np.testing.assert_allclose(found["values"], expected, rtol=0, atol=tolerance * np.abs(expected).max())
        return
    if kind == "multilabel":
        np.testing.assert_array_equal(found["label"], expected > 0.5)
    if expected.shape[1] == 1:
        expected = np.hstack([1 - expected, expected]) if kind == "binary" else np.ones((300, 1))
    np.testing.assert_allclose(found["probabilities"], expected, rtol=0, atol=tolerance)
    if kind != "multilabel":
        assert found["label"].tolist() == [model.classes[k] for k in expected.argmax(axis=1)]
    names = [each.name for each in onnx.load(path).graph.initializer]
    assert {"network.0.weight.0", "network.2.input.mean", "network.2.bias.2"} <= set(names)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", IMAGES)
def test_networks_of_images_are_exported(path, name, dtype):
    shape, layers = IMAGES[name]
    model = made("identity", layers=layers, dtype=dtype, shape=shape)
    export_onnx(path, model)
    rows = np.random.default_rng(1).normal(0, 4, (60, math.prod(shape))).astype(dtype)
    expected, found = in_float64(model.network, rows), run(path, rows)["values"]
    assert found.dtype == dtype
    assert expected.std(axis=0).min() > 0.1
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    assert run(path, rows[:0])["values"].shape == (0, 2)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_network_that_ends_in_an_image_has_flat_values(path, dtype):
    model = made("identity", layers=[Conv2D(2, 2)], dtype=dtype, shape=(1, 3, 4), last=Conv2D(2, (2, 1)))
    export_onnx(path, model)
    rows = np.random.default_rng(1).normal(0, 4, (9, 12)).astype(dtype)
    expected = in_float64(model.network, rows)
    np.testing.assert_allclose(run(path, rows)["values"], expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_the_graph_of_images_has_one_operator_for_each_layer(path):
    layers = [Conv2D(6, 5, padding=(2, 1)), BatchNorm(), MaxPool2D(2, stride=(1, 2)), AvgPool2D(2)]
    export_onnx(path, made(layers=layers, shape=(1, 9, 8)))
    nodes = {node.op_type: node for node in onnx.load(path).graph.node}
    assert list(nodes) == [
        "Mul", "Reshape", "Conv", "Relu", "BatchNormalization", "MaxPool", "AveragePool", "Flatten", "Gemm", "Softmax",
        "ArgMax", "Gather",
    ]  # fmt: skip
    attributes = {
        name: {each.name: onnx.helper.get_attribute_value(each) for each in nodes[name].attribute}
        for name in ("Conv", "MaxPool", "AveragePool")
    }
    assert attributes == {
        "Conv": {"kernel_shape": [5, 5], "strides": [1, 1], "pads": [2, 1, 2, 1]},
        "MaxPool": {"kernel_shape": [2, 2], "strides": [1, 2], "pads": [0, 0, 0, 0]},
        "AveragePool": {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [0, 0, 0, 0], "count_include_pad": 1},
    }


def test_a_convolutional_network_labels_mnist_as_we_do(path, mnist):
    train_set, test = mnist
    layers = [Conv2D(6, 5), MaxPool2D(), Conv2D(16, 5), MaxPool2D(), 120, 84]
    network = Network.for_data(train_set, layers)
    assert network.n_parameters == 44_426
    some = train_set.take(np.arange(3000))
    network = fastnn.train(network, some, epochs=1, optimizer="adam", batch_size=32, backend="numba").network
    export_onnx(path, Model(network, tuple(range(10)), (28, 28)), rows=test.images[:100], input_dtype="uint8")
    found = run(path, test.images)
    for backend in ("numpy", "numba"):
        expected = fastnn.get_backend(backend).predict_proba(network, test.images)
        np.testing.assert_array_equal(found["label"], expected.argmax(axis=1))
        np.testing.assert_allclose(found["probabilities"], expected, rtol=0, atol=1e-5)
    assert np.mean(found["label"] == test.labels) > 0.8


def test_large_inputs_of_a_float64_convolution_are_compared_with_the_rounding_of_float32(path):
    """In onnxruntime, there are convolutions for float32 only."""
    network = made(layers=[Conv2D(2, 2, activation="tanh")], dtype="float64", shape=(1, 3, 4), scale=1.0).network
    first, second = network.weights
    model = Model(network.like([first - first.mean(axis=(0, 1, 2)), second], network.biases), tuple("abcd"))
    rows = np.random.default_rng(8).normal(30_000, 1, (50, 12))
    export_onnx(path, model, rows=rows)
    distance = np.abs(run(path, rows)["probabilities"] - in_float64(model.network, rows)).max()
    assert 1e-5 < distance < 0.05


def test_every_kind_of_layer_and_output_is_exported(path):
    assert set(onnx_export._LAYERS) == set(LAYERS.values())
    assert set(onnx_export._OUTPUTS) == set(LOSSES)
    other = type("Other", (Dense,), {"kind": "other"})
    message = refused(path, made(layers=[other(3, "relu")]))
    assert "layer 1 is other, expected one of dense, batch_norm, conv2d, max_pool2d, avg_pool2d" in message


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("input_dtype", [None, "uint8", np.float32, np.dtype("float64")])
def test_the_graph_predicts_mnist_as_we_do(path, trained, mnist, dtype, input_dtype):
    network, test = astype(trained, dtype), mnist[1]
    export_onnx(path, Model(network, tuple(range(10)), (28, 28)), rows=test.images[:100], input_dtype=input_dtype)
    found = run(path, test.images.astype(dtype if input_dtype is None else input_dtype))
    expected = fastnn.get_backend("numba").predict_proba(network, test.images)
    np.testing.assert_array_equal(found["label"], expected.argmax(axis=1))
    np.testing.assert_allclose(found["probabilities"], expected, rtol=0, atol=1e-5)
    assert np.mean(found["label"] == test.labels) > 0.9


@pytest.mark.parametrize("kind", ["softmax", "numbered", "binary"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_graph_answers_unknown_below_the_threshold(path, kind, dtype):
    label = -1 if kind == "numbered" else "?"
    rows = np.random.default_rng(2).normal(0, 4, (300, 5)).astype(dtype)
    export_onnx(path, made(kind, dtype=dtype))
    known = run(path, rows)
    threshold = float(np.median(known["probabilities"].max(axis=1)))
    export_onnx(path, made(kind, dtype=dtype, unknown=(threshold, label)))
    found = run(path, rows)
    unsure = known["probabilities"].max(axis=1) < np.dtype(dtype).type(threshold)
    assert 100 < unsure.sum() <= 150
    np.testing.assert_array_equal(found["label"], np.where(unsure, np.array(label, object), known["label"]))
    np.testing.assert_array_equal(found["probabilities"], known["probabilities"])


def test_a_model_with_array_attributes_is_exported(path):
    arrays = {"feature_names": np.array(list("vwxyz"), object), "unknown": (np.float32(0.5), np.int64(-1))}
    export_onnx(path, Model(made("numbered").network, np.array([7, 8, 9]), **arrays))
    assert run(path, np.zeros((2, 5), np.float32))["label"].dtype == np.int64


@pytest.mark.parametrize("kind", ANSWERS)
def test_a_network_is_exported_like_its_saved_model(path, kind):
    network = made(kind).network
    fastnn.save(path.with_name("saved"), network)
    export_onnx(path, fastnn.load(path.with_name("saved")))
    expected = path.read_bytes()
    export_onnx(path, network)
    assert path.read_bytes() == expected


def test_estimators_export_what_they_predict(path, mnist):
    images, labels = mnist[0].images[:500], mnist[0].labels[:500]
    names = np.array(list("abcdefghij"))
    estimator = fastnn.MLPClassifier((16,), input_scale=1 / 255, random_state=0, threshold=0.8)
    for _ in range(30):
        estimator.partial_fit(images, names[labels], classes=names)
    estimator.export_onnx(path, mnist[1].images[:200])
    found = run(path, mnist[1].images[:200].astype(np.float32))
    assert found["label"].tolist() == estimator.predict(mnist[1].images[:200]).tolist()
    assert "unknown" in found["label"]


def test_the_file_suits_old_runtimes_and_contains_its_metadata(path):
    model = made("softmax", image_shape=(1, 5), feature_names=tuple("vwxyz"), unknown=(0.25, "?"), pixels=(255, 0))
    export_onnx(path, model)
    proto = onnx.load(path)
    assert proto.ir_version == 8
    assert [(each.domain, each.version) for each in proto.opset_import] == [("", 17)]
    assert [node.op_type for node in proto.graph.node[:7]] == ["Mul", "Gemm", "Tanh", "Gemm", "Tanh", "Gemm", "Softmax"]
    assert not any(tensor.external_data for tensor in proto.graph.initializer)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [(each.name, each.shape, each.type) for each in (*session.get_inputs(), *session.get_outputs())] == [
        ("X", ["batch", 5], "tensor(float)"),
        ("label", ["batch"], "tensor(string)"),
        ("probabilities", ["batch", 4], "tensor(float)"),
    ]
    texts = session.get_modelmeta().custom_metadata_map
    assert texts.pop("output") == "softmax"
    assert texts.pop("fastnn") == proto.producer_version
    assert (texts.pop("numpy"), texts.pop("onnx")) == (np.__version__, onnx.__version__)
    assert {name: json.loads(text) for name, text in texts.items()} == {
        "classes": ["a", "b", "c", "ç 🙂"],
        "image_shape": [1, 5],
        "feature_names": ["v", "w", "x", "y", "z"],
        "unknown": [0.25, "?"],
        "pixels": [255, 0],
    }
    export_onnx(other := path.with_name("other.onnx"), model)
    assert other.read_bytes() == path.read_bytes()


def test_the_graph_accepts_any_number_of_rows(path):
    export_onnx(path, made())
    rows = np.random.default_rng(3).normal(0, 4, (1000, 5)).astype(np.float32)
    many = run(path, rows)
    for n in (0, 1, 7):
        few = run(path, rows[:n])
        assert few["label"].tolist() == many["label"][:n].tolist()
        np.testing.assert_allclose(few["probabilities"], many["probabilities"][:n], rtol=0, atol=1e-6)


@pytest.mark.parametrize("rows", [
    np.arange(50).reshape(10, 5) / 7,
    [[1, 2, 3, 4, 5]],
    np.eye(5, dtype=bool),
    scipy.sparse.eye_array(5).tocsr(),
    scipy.sparse.eye_array(5).tocoo(),
    np.ones((20_000, 5), np.float32),
])  # fmt: skip
def test_the_given_rows_are_compared_in_batches_and_singly(path, rows, monkeypatch):
    seen = []
    compare = onnx_export._compare
    monkeypatch.setattr(onnx_export, "_compare", lambda *given: (seen.append(given[1]), compare(*given)))
    export_onnx(path, made(), rows=rows)
    dense = rows.toarray() if hasattr(rows, "toarray") else np.asarray(rows)
    singles = min(len(dense), 16)
    assert [len(batch) for batch in seen[-singles:]] == [1] * singles
    np.testing.assert_array_equal(np.concatenate(seen), np.concatenate([dense, dense[:singles]]).astype(np.float32))


def test_random_rows_have_the_range_of_the_inputs(path, monkeypatch):
    seen = []
    monkeypatch.setattr(onnx_export, "_compare", lambda *given: seen.append(given[1]))
    for scale, input_dtype, low, high in ((1 / 255, None, 0, 255), (1.0, None, -5, 5), (1.0, "uint8", 0, 255)):
        seen.clear()
        export_onnx(path, made(scale=scale), input_dtype=input_dtype)
        assert seen[0].shape == (256, 5)
        assert low <= seen[0].min() < low + 0.3 * (high - low)
        assert high >= seen[0].max() > high - 0.3 * (high - low)


from_array = numpy_helper.from_array


def changed(name, change):
    """Return a from_array that changes the constant `name`."""
    return lambda array, found: from_array(change(array).astype(array.dtype) if found == name else array, found)


BROKEN_WEIGHT = changed("weight.1", lambda array: array + 0.01)
BROKEN_CLASSES = changed("classes", lambda array: array[::-1])


@pytest.mark.parametrize(("broken", "kind", "part"), [
    (BROKEN_WEIGHT, "softmax", "probabilities differ from the reference's, in row"),
    (BROKEN_WEIGHT, "binary", "probabilities differ"),
    (BROKEN_WEIGHT, "multilabel", "probabilities differ"),
    (BROKEN_WEIGHT, "identity", "values differ"),
    (changed("bias.2", lambda array: array * np.nan), "softmax", "nan, expected"),
    (BROKEN_CLASSES, "softmax", "label of row 0 is"),
    (BROKEN_CLASSES, "binary", "label of row 0 is"),
    (changed("threshold", lambda array: array * 2), "softmax", "label of row"),
    (changed("bias.0", lambda array: array[:-1]), "softmax", "the graph is refused: "),
])  # fmt: skip
def test_a_wrong_graph_is_never_written(path, monkeypatch, broken, kind, part):
    unknown = (0.4, "?") if kind == "softmax" else None
    for old in (None, b"an old file"):
        if old:
            path.write_bytes(old)
        with monkeypatch.context() as patch:
            patch.setattr(numpy_helper, "from_array", broken)
            message = refused(path, made(kind, unknown=unknown))
        assert message.startswith(f"{path}: cannot export: ")
        assert part in message


@pytest.mark.parametrize("kind", ["softmax", "binary", "multilabel", "identity"])
def test_large_inputs_that_are_not_scaled(path, monkeypatch, kind):
    """The terms of the sums are far larger than the sums. The export accepts the rounding errors, but no wrong weight.

    Whether onnxruntime rounds like NumPy's BLAS depends on the processor. So the test changes the graph's last bias
    by more than 1e-5 and less than the rounding error for large inputs.
    """
    output, n_outputs, classes = ANSWERS[kind]
    network = Network.initialize((200, 6, n_outputs), activation="tanh", output=output, seed=4)
    first, second = network.weights
    model = Model(network.like([first - first.mean(axis=0), second], network.biases), classes)
    rows = np.random.default_rng(8).normal(3000, 1, (400, 200)).astype(np.float32)
    export_onnx(path, model, rows=rows)
    moved = changed("bias.1", lambda array: array + 5e-4 * (np.arange(len(array)) == len(array) - 1))
    monkeypatch.setattr(numpy_helper, "from_array", moved)
    export_onnx(path, model, rows=rows)
    for row in rows[:20]:
        export_onnx(path, model, rows=row[None])
    found = list(run(path, rows).values())[-1]
    expected = fastnn.backends.reference.predict_proba(model.network, rows)
    assert 1e-5 < np.abs(found[:, -n_outputs:] - expected).max() < 0.01
    assert "differ from the reference's" in refused(path, model, rows=rows - 3000)
    monkeypatch.setattr(numpy_helper, "from_array", changed("weight.1", np.negative))
    assert "differ from the reference's" in refused(path, model, rows=rows)


@pytest.mark.parametrize("kind", ["softmax", "multilabel"])
def test_labels_are_compared_separately(path, monkeypatch, kind):
    """A graph with correct probabilities is refused if its labels follow another rule."""
    add = onnx_export._Graph.add

    def other(graph, operation, *given, **attributes):
        swapped = {"ArgMax": "ArgMin", "Greater": "LessOrEqual"}
        return add(graph, swapped.get(operation, operation), *given, **attributes)

    monkeypatch.setattr(onnx_export._Graph, "add", other)
    assert "label of row 0 is" in refused(path, made(kind))


def test_near_ties_do_not_prevent_an_export(path):
    """In every row, the two classes differ by less than a rounding error."""
    weights = np.random.default_rng(6).standard_normal((5, 1)) * np.ones(2)
    weights[:, 1] *= 1 + 1e-7
    export_onnx(path, Model(Network([weights], [np.zeros(2)]), (0, 1), unknown=(0.5, -1)))
    assert path.exists()


@pytest.mark.parametrize(("n_outputs", "classes", "expected"), [(1, ("no", "yes"), "no"), (2, (0, 1), [0, 0])])
def test_a_probability_of_one_half_means_no(path, n_outputs, classes, expected):
    network = Network([np.ones((2, n_outputs))], [np.zeros(n_outputs)], output="logistic")
    export_onnx(path, Model(network, classes), rows=[[0, 0]])
    assert run(path, np.zeros((1, 2)))["label"].tolist() == [expected]


def test_a_graph_that_onnx_refuses_is_never_written(path, monkeypatch):
    def refuse(data, full_check):
        assert full_check
        assert onnx.load_from_string(data).graph.input[0].name == "X"
        raise onnx.checker.ValidationError("in two\nlines")

    monkeypatch.setattr(onnx.checker, "check_model", refuse)
    assert refused(path, made()).endswith("the graph is refused: 'in two lines'")


@pytest.mark.parametrize(("model", "options", "error", "part"), [
    (Model(made().network, None), {}, DataError, "classes are None, expected a list"),
    (Model(made().network, ("a", "b", "c", "\ud800")), {}, DataError, "classes has half of a surrogate pair"),
    (made(unknown=(2, "?")), {}, DataError, "the threshold of unknown is 2"),
    (made(), {"rows": np.ones((3, 4))}, DataError, "(3, 4), expected (samples, 5)"),
    (made(), {"rows": scipy.sparse.eye_array(4).tocsr()}, DataError, "(4, 4), expected (samples, 5)"),
    (made(), {"rows": np.ones((0, 5))}, DataError, "no samples"),
    (made(), {"rows": np.full((3, 5), np.nan)}, DataError, "NaN or infinity"),
    (made("identity", "identity"), {"rows": np.full((3, 5), 3e38)}, DataError, "too large for float32"),
    (made(), {"rows": np.full((3, 5), 0.5), "input_dtype": "uint8"}, DataError, "whole numbers from 0 to 255"),
    (made(), {"rows": np.full((3, 5), 256), "input_dtype": "uint8"}, DataError, "whole numbers from 0 to 255"),
    (made(), {"input_dtype": "int8"}, SettingsError, "'int8' (did you mean uint8?), expected one of uint8, float32"),
    (made(), {"input_dtype": "many"}, SettingsError, "input_dtype is"),
])  # fmt: skip
def test_invalid_models_and_arguments_are_refused(path, model, options, error, part):
    assert part in refused(path, model, kind=error, **options)


def test_an_unwritable_path_and_a_too_large_model_are_errors(path, monkeypatch):
    with pytest.raises(FileError, match="cannot write"):
        export_onnx(path / "model.onnx", made())
    monkeypatch.setattr(onnx_export, "_MAX_BYTES", 100)
    assert "bytes, expected at most 100" in refused(path, made())


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime"])
def test_a_missing_package_is_named(path, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingDependencyError, match=rf"{missing} cannot be imported .*pip install '\.\[onnx\]'"):
        export_onnx(path, made())
