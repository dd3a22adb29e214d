"""Tests of model files: networks are restored exactly, and every invalid file gives one clear error."""

import base64
import json
import os
import subprocess
import sys
from hashlib import sha256
from importlib.metadata import version
from unittest.mock import Mock

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from fastnn.errors import DataError, FastnnError, FileError
from fastnn.files import model_file
from fastnn.files.model_file import load, load_classifier, save
from fastnn.network import Network
from fastnn.network.model import Model

# The bytes of small_network() in format versions 1 and 2. Both must stay readable, and saving must give version 2.
VERSIONS = {"fastnn": "0.1.0", "numpy": "2.4.6"}
GOLDEN_1 = base64.b64decode(
    "CAIAAAAAAAB7IndlaWdodC4wIjp7ImR0eXBlIjoiRjMyIiwic2hhcGUiOlsyLDNdLCJkYXRhX29mZnNldHMiOlswLDI0XX0sImJpYXMuMCI6ey"
    "JkdHlwZSI6IkYzMiIsInNoYXBlIjpbM10sImRhdGFfb2Zmc2V0cyI6WzI0LDM2XX0sIndlaWdodC4xIjp7ImR0eXBlIjoiRjMyIiwic2hhcGUi"
    "OlszLDJdLCJkYXRhX29mZnNldHMiOlszNiw2MF19LCJiaWFzLjEiOnsiZHR5cGUiOiJGMzIiLCJzaGFwZSI6WzJdLCJkYXRhX29mZnNldHMiOl"
    "s2MCw2OF19LCJfX21ldGFkYXRhX18iOnsiZm9ybWF0IjoiZmFzdG5uLW1vZGVsIiwiZm9ybWF0X3ZlcnNpb24iOiIxIiwiYWN0aXZhdGlvbiI6"
    "InRhbmgiLCJpbnB1dF9zY2FsZSI6IjAuMDYyNSIsImNsYXNzZXMiOiJbXCJub1wiLCBcInllc1wiXSIsImltYWdlX3NoYXBlIjoiWzEsIDJdIi"
    "wiZmFzdG5uIjoiMC4xLjAiLCJudW1weSI6IjIuNC42Iiwic2hhMjU2IjoiZGYyZDE2Nzk5NzhjYzZkOWYzOWFiNDg1YjA5Y2IyZTY4YjU4N2U0"
    "MDgwYmY2NTJlZDMwNDI5OGMzMzYxODdlZCJ9fSAgICAgAAAAAAAAgD4AAAA/AABAPwAAgD8AAKA/AAAAAAAAgD8AAABAAAAAgAAAAL4AAIC+AA"
    "DAvgAAAL8AACC/AAAAPwAAgL8="
)
GOLDEN = base64.b64decode(
    "WAIAAAAAAAB7IndlaWdodC4wIjp7ImR0eXBlIjoiRjMyIiwic2hhcGUiOlsyLDNdLCJkYXRhX29mZnNldHMiOlswLDI0XX0sImJpYXMuMCI6eyJkdH"
    "lwZSI6IkYzMiIsInNoYXBlIjpbM10sImRhdGFfb2Zmc2V0cyI6WzI0LDM2XX0sIndlaWdodC4xIjp7ImR0eXBlIjoiRjMyIiwic2hhcGUiOlszLDJd"
    "LCJkYXRhX29mZnNldHMiOlszNiw2MF19LCJiaWFzLjEiOnsiZHR5cGUiOiJGMzIiLCJzaGFwZSI6WzJdLCJkYXRhX29mZnNldHMiOls2MCw2OF19LC"
    "JfX21ldGFkYXRhX18iOnsiZm9ybWF0IjoiZmFzdG5uLW1vZGVsIiwiZm9ybWF0X3ZlcnNpb24iOiIyIiwiYWN0aXZhdGlvbiI6InRhbmgiLCJvdXRw"
    "dXQiOiJzb2Z0bWF4IiwiaW5wdXRfc2NhbGUiOiIwLjA2MjUiLCJjbGFzc2VzIjoiW1wibm9cIiwgXCJ5ZXNcIl0iLCJpbWFnZV9zaGFwZSI6IlsxLC"
    "AyXSIsImZlYXR1cmVfbmFtZXMiOiJbXCJsZWZ0XCIsIFwicmlnaHRcIl0iLCJ1bmtub3duIjoiWzAuNzUsIFwiP1wiXSIsImZhc3RubiI6IjAuMS4w"
    "IiwibnVtcHkiOiIyLjQuNiIsInNoYTI1NiI6ImViMjJjMDgwN2EyNWNkYmNlNzY3ZjlkMWIyNzU0YzVhMjIxNDcxNzU4MDliMDY0MzE2ZTU2NzgwOW"
    "JmNmI2OTIifX0AAAAAAACAPgAAAD8AAEA/AACAPwAAoD8AAAAAAACAPwAAAEAAAACAAAAAvgAAgL4AAMC+AAAAvwAAIL8AAAA/AACAvw=="
)
NAMES = {
    "classes": ["no", "yes"],
    "image_shape": (1, 2),
    "feature_names": ["left", "right"],
    "unknown": (0.75, "?"),
}


def small_network(dtype=np.float32):
    weights = [np.arange(6, dtype=dtype).reshape(2, 3) / 4, -np.arange(6, dtype=dtype).reshape(3, 2) / 8]
    return Network(weights, [np.arange(3, dtype=dtype), np.array([0.5, -1], dtype)], "tanh", 1 / 16)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


@pytest.fixture
def data(path):
    save(path, small_network(), **NAMES)
    return path.read_bytes()


def split(data):
    """Split a model file into its header, as a dict, and its payload."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def joined(header, payload):
    """Join header and payload to a file with a valid digest, computed as the docstring of the module defines it."""
    metadata = header["__metadata__"]
    if isinstance(metadata, dict) and "sha256" in metadata:
        rest = {**header, "__metadata__": {key: value for key, value in metadata.items() if key != "sha256"}}
        text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
        metadata["sha256"] = sha256(text.encode("ascii") + payload).hexdigest()
    return raw(json.dumps(header).encode(), payload)


def raw(text, payload=b""):
    return len(text).to_bytes(8, "little") + text + payload


def assert_message(caught, *parts):
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert len(message) < 600
    for part in parts:
        assert str(part) in message


def assert_refused(path, data, part=""):
    path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        load(path)
    assert_message(caught, path, part)


def assert_same(network, other):
    arrays, others = (*network.weights, *network.biases), (*other.weights, *other.biases)
    for array, other_array in zip(arrays, others, strict=True):
        assert array.dtype == other_array.dtype
        assert array.shape == other_array.shape
        assert array.tobytes() == other_array.tobytes()
    for name in ("activation", "input_scale", "output"):
        assert getattr(network, name) == getattr(other, name)


def names_of(model):
    return model.classes, model.image_shape, model.feature_names, model.unknown


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sizes", [(784, 128, 10), (1, 1), (6, 5, 4, 3, 2, 3, 4, 5, 6, 7, 8, 9, 10, 2)])
def test_a_saved_network_is_loaded_with_identical_bits(path, sizes, dtype):
    network = Network.initialize(sizes, activation="logistic", seed=3, dtype=dtype, input_scale=1 / 255)
    image_shape = (28, 28) if sizes[0] == 784 else None
    save(path, network, image_shape=image_shape)
    model = load(str(path))
    assert_same(model.network, network)
    assert all(array.flags.carray for array in (*model.network.weights, *model.network.biases))
    assert (model.classes, model.image_shape) == (tuple(range(sizes[-1])), image_shape)
    assert (model.feature_names, model.unknown) == (None, None)
    assert model.metadata == {"format_version": "2", "fastnn": version("fastnn-digits"), "numpy": np.__version__}


@pytest.mark.parametrize(
    ("output", "n_outputs", "classes", "expected"),
    [
        ("softmax", 1, None, (0,)),
        ("logistic", 3, None, (0, 1, 2)),
        ("logistic", 3, ["a", "b", "c"], ("a", "b", "c")),
        ("logistic", 1, None, (0, 1)),
        ("logistic", 1, ["ham", "spam"], ("ham", "spam")),
        ("logistic", 1, [7], (7,)),
        ("identity", 1, None, None),
        ("identity", 3, None, None),
    ],
)
def test_classes_fit_the_output_of_the_network(path, output, n_outputs, classes, expected):
    network = Network.initialize((4, 3, n_outputs), output=output, seed=1)
    save(path, network, classes=classes, feature_names=np.array(["a", "b", "", "d 🙂"], object))
    model = load(path)
    assert_same(model.network, network)
    assert names_of(model) == (expected, None, ("a", "b", "", "d 🙂"), None)


@pytest.mark.parametrize(
    ("output", "n_outputs", "classes", "unknown", "expected"),
    [
        ("softmax", 3, None, (0.1, -1), (0.1, -1)),
        ("softmax", 2, ["a", "b"], [np.float32(0.25), np.str_("?")], (0.25, "?")),
        ("logistic", 1, None, (1, np.int64(2**63 - 1)), (1.0, 2**63 - 1)),
        ("logistic", 1, ["a"], (5e-324, ""), (5e-324, "")),
    ],
)
def test_the_threshold_is_restored_exactly(path, output, n_outputs, classes, unknown, expected):
    save(path, Network.initialize((2, n_outputs), output=output), classes=classes, unknown=unknown)
    assert repr(load(path).unknown) == repr(expected)


def test_a_model_decides_on_labels_and_probabilities():
    network = Network.initialize((2, 3))
    proba = np.array([[0.5, 0.2, 0.3], [0.4, 0.4, 0.2], [0.3, 0.3, 0.4]], np.float32)
    assert Model(network, (7, 8, 9)).decide(proba)[0].tolist() == [7, 7, 9]
    labels, probabilities = Model(network, ("a", "b", "c"), unknown=(0.5, "longer")).decide(proba)
    assert labels.tolist() == ["a", "longer", "longer"]
    assert probabilities is proba
    # float32(0.7) is below the float64 0.7, but it still reaches the threshold 0.7.
    likely = np.array([[0.1, 0.7, 0.2]], np.float32)
    assert likely[0, 1] < np.float64(0.7)
    assert Model(network, (7, 8, 9), unknown=(0.7, -1)).decide(likely)[0].tolist() == [8]

    one = Network.initialize((2, 1), output="logistic")
    labels, probabilities = Model(one, ("no", "yes")).decide(np.array([[0.5], [0.75]]))
    assert (labels.tolist(), probabilities.tolist()) == (["no", "yes"], [[0.5, 0.5], [0.25, 0.75]])
    labels, probabilities = Model(one, (4,), unknown=(1.0, -1)).decide(np.array([[0.25], [0.75]]))
    assert (labels.tolist(), probabilities.tolist()) == ([4, 4], [[1.0], [1.0]])

    several = Model(Network.initialize((2, 2), output="logistic"), (0, 1))
    labels, probabilities = several.decide(np.array([[0.5, 0.75]]))
    assert (labels.tolist(), probabilities.tolist()) == ([[0, 1]], [[0.5, 0.75]])


@pytest.mark.parametrize("output", ["logistic", "identity"])
def test_load_classifier_refuses_models_without_a_softmax(path, data, output):
    assert names_of(load_classifier(path)) == names_of(load(path))
    save(path, Network.initialize((2, 2), output=output))
    with pytest.raises(DataError) as caught:
        load_classifier(path)
    assert_message(caught, path, f"is {output}, expected softmax")


@pytest.mark.parametrize("lay_out", [np.asfortranarray, lambda weight: np.repeat(weight, 2, axis=1)[:, ::2]])
def test_the_memory_order_of_the_weights_does_not_change_the_file(path, data, lay_out):
    network = small_network()
    network.weights = tuple(lay_out(weight) for weight in network.weights)
    assert not network.weights[0].flags.c_contiguous
    save(path, network, **NAMES)
    assert path.read_bytes() == data


def test_extreme_weights_are_restored(path):
    tiny, huge = np.finfo(np.float64).smallest_subnormal, np.finfo(np.float64).max
    network = Network([np.array([[tiny, -0.0], [huge, -huge]])], [np.array([0.1, -tiny])], input_scale=5e-324)
    save(path, network)
    assert_same(load(path).network, network)


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (None, (0, 1)),
        ((7, -3), (7, -3)),
        (np.array([2**63 - 1, -(2**63)]), (2**63 - 1, -(2**63))),
        (["été", "two\nlines 🙂\0"], ("été", "two\nlines 🙂\0")),
        (np.array(["a", "b"]), ("a", "b")),
    ],
)
def test_classes_are_restored_as_plain_integers_or_strings(path, classes, expected):
    save(path, small_network(), classes=classes)
    assert repr(load(path).classes) == repr(expected)


def test_equal_networks_give_equal_bytes_even_in_another_process(path, data):
    arrays = {"classes": np.array(["no", "yes"]), "image_shape": np.array([1, 2])}
    save(path, small_network(), feature_names=np.array(["left", "right"]), unknown=(np.float64(0.75), "?"), **arrays)
    assert path.read_bytes() == data
    program = (
        "import sys; from fastnn.files.model_file import load, save; model = load(sys.argv[1]);"
        "names = {name: getattr(model, name) for name in ('classes', 'image_shape', 'feature_names', 'unknown')};"
        "save(sys.argv[1], model.network, **names);"
        "sys.exit(bool({'safetensors', 'numba'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], check=True)
    assert path.read_bytes() == data


def test_the_file_format_does_not_change(path, monkeypatch):
    path.write_bytes(GOLDEN)
    model = load(path)
    assert_same(model.network, small_network())
    assert names_of(model) == (("no", "yes"), (1, 2), ("left", "right"), (0.75, "?"))
    assert model.metadata == {"format_version": "2", **VERSIONS}
    monkeypatch.setattr(model_file, "versions", lambda: VERSIONS)
    save(path, model.network, **NAMES)
    assert path.read_bytes() == GOLDEN
    again = joined(*split(GOLDEN))  # other spaces in the header, and a digest computed here
    assert split(again) == split(GOLDEN)
    path.write_bytes(again)
    assert_same(load(path).network, small_network())


def test_files_of_format_version_1_are_loaded(path):
    path.write_bytes(GOLDEN_1)
    model = load(path)
    assert_same(model.network, small_network())
    assert names_of(model) == (("no", "yes"), (1, 2), None, None)
    assert model.metadata == {"format_version": "1", **VERSIONS}
    header, payload = split(GOLDEN_1)
    header["__metadata__"]["output"] = "softmax"
    assert_refused(path, joined(header, payload), "has the unknown key 'output'")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_safetensors_reads_the_file(path, dtype):
    network = Network.initialize((5, 4, 3), seed=2, dtype=dtype)
    save(path, network, classes=["a", "b", "ç"])
    tensors = safetensors.numpy.load_file(path)
    assert len(tensors) == 4
    layers = [[tensors[f"{kind}.{layer}"] for layer in range(2)] for kind in ("weight", "bias")]
    assert_same(Network(*layers), network)
    with safetensors.safe_open(path, framework="numpy") as file:
        assert json.loads(file.metadata()["classes"]) == ["a", "b", "ç"]
    assert int.from_bytes(path.read_bytes()[:8], "little") % 8 == 0


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"classes": ["a"]}, "1 classes for 2 outputs"),
        ({"classes": [1, 1]}, "expected all of them different"),
        ({"classes": [1, "a"]}, "expected a list of int64 integers or of strings"),
        ({"classes": [True, False]}, "classes are [True, False]"),
        ({"classes": [0.0, 1.0]}, "classes are [0.0, 1.0]"),
        ({"classes": {"a", "b"}}, "expected a list"),
        ({"classes": "ab"}, "classes are 'ab'"),
        ({"classes": 2}, "classes are 2"),
        ({"classes": np.eye(2)}, "classes are [array"),
        ({"classes": ["a", "\ud800"]}, "surrogate"),
        ({"classes": ["a", "b" * 2_000_000]}, "its header has"),
        ({"image_shape": (2, 2)}, "image_shape is [2, 2], expected a height and a width with product 2"),
        ({"image_shape": (2.0, 1.0)}, "image_shape is [2.0, 1.0]"),
        ({"image_shape": 2}, "image_shape is 2"),
        ({"feature_names": ["a"]}, "feature_names are ['a'], expected a list of 2 strings"),
        ({"feature_names": ["a", "a"]}, "feature_names are ['a', 'a'], expected all of them different"),
        ({"feature_names": ["a", 1]}, "expected a list of 2 strings"),
        ({"feature_names": "ab"}, "feature_names are 'ab'"),
        ({"feature_names": ["a", "\ud800"]}, "surrogate"),
        ({"unknown": 0.5}, "unknown is 0.5, expected a threshold and a label"),
        ({"unknown": (0.5,)}, "unknown is [0.5], expected a threshold and a label"),
        ({"unknown": (0.0, -1)}, "the threshold of unknown is 0.0, expected a number above 0, at most 1"),
        ({"unknown": (1.5, -1)}, "the threshold of unknown is 1.5"),
        ({"unknown": (np.nan, -1)}, "the threshold of unknown is nan"),
        ({"unknown": (True, -1)}, "the threshold of unknown is True"),
        ({"unknown": ("1", -1)}, "the threshold of unknown is '1'"),
        ({"unknown": (0.5, 1)}, "the label of unknown is 1, expected an int64 integer that is none of the classes"),
        ({"unknown": (0.5, "?")}, "the label of unknown is '?', expected an int64 integer"),
        ({"unknown": (0.5, True)}, "the label of unknown is True"),
        ({"unknown": (0.5, 2**63)}, "the label of unknown is 9223372036854775808"),
        ({"unknown": (0.5, 3), "classes": ["a", "b"]}, "the label of unknown is 3, expected a string"),
        ({"unknown": (0.5, "a"), "classes": ["a", "b"]}, "the label of unknown is 'a'"),
        ({"unknown": (0.5, "\ud800"), "classes": ["a", "b"]}, "surrogate"),
    ],
)
def test_invalid_names_are_refused_and_the_old_file_stays(path, data, options, part):
    with pytest.raises(DataError) as caught:
        save(path, small_network(), **options)
    assert_message(caught, path, part)
    assert path.read_bytes() == data


@pytest.mark.parametrize(
    ("output", "n_outputs", "options", "part"),
    [
        ("identity", 2, {"classes": [0, 1]}, "classes are [0, 1], expected none: the outputs of the network are numb"),
        ("identity", 1, {"unknown": (0.5, -1)}, "unknown is [0.5, -1], expected none: the outputs are numbers"),
        ("logistic", 2, {"unknown": (0.5, -1)}, "expected none: each output has a probability of its own"),
        ("logistic", 2, {"classes": [0]}, "1 classes for 2 outputs of the network, expected one each"),
        ("logistic", 1, {"classes": [0, 1, 2]}, "3 classes for 1 outputs of the network, expected one or two"),
        ("softmax", 1, {"classes": [0, 1]}, "2 classes for 1 outputs of the network, expected one each"),
    ],
)
def test_names_that_do_not_fit_the_output_are_refused(path, output, n_outputs, options, part):
    with pytest.raises(DataError) as caught:
        save(path, Network.initialize((2, n_outputs), output=output), **options)
    assert_message(caught, path, part)
    assert not path.exists()


@pytest.mark.parametrize(
    "invalidate",
    [
        lambda network: network.weights[1].__setitem__((0, 0), np.nan),
        lambda network: network.biases[0].__setitem__(0, np.inf),
        lambda network: setattr(network, "activation", "softplus"),
        lambda network: setattr(network, "output", "sparsemax"),
    ],
)
def test_an_invalid_network_is_refused_and_the_old_file_stays(path, data, invalidate):
    network = small_network()
    invalidate(network)
    with pytest.raises(DataError) as caught:
        save(path, network)
    assert_message(caught, path, "cannot save")
    assert path.read_bytes() == data


def test_paths_that_cannot_be_read_are_errors(tmp_path, path, data, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    for name, part in (("missing", "No such file"), ("", "a folder"), ("pipe", "a pipe"), ("nul\0", "null")):
        with pytest.raises(FileError) as caught:
            load(tmp_path / name)
        assert_message(caught, "cannot read", part)
    for error, kind in ((PermissionError(13, "Permission denied"), FileError), (MemoryError(), DataError)):
        monkeypatch.setattr("builtins.open", Mock(side_effect=error))
        with pytest.raises(kind) as caught:
            load(path)
        assert_message(caught, path, "Permission denied" if kind is FileError else "does not fit in memory")


# A file, or its header as a string, and a part of the error message.
INVALID_HEADERS = [
    ([b"", b"1234567"], "bytes, expected a model file of at least 8"),
    ([b"PK\x03\x04" + bytes(12), b"\xff" * 16, raw(b" " * 1_000_001)], "at most 1000000"),
    ([(100).to_bytes(8, "little") + b"{}"], "its header has 100 bytes, but only 2 follow"),
    ([raw(b'{"a": "\xff"}')], "not UTF-8: byte 7 is 0xff"),
    ([raw(b'{"a": "\xed\xa0\x80"}')], "not UTF-8"),
    (["", "{'format': 1}", "\ufeff{}", "{} {}"], "not valid JSON"),
    (["[]", "[[[[]]]]", "1", "null", '"' + "a" * 9999 + '"'], "expected a JSON object"),
    (["{}", '{"__metadata__": []}', '{"__metadata__": "format"}'], "not a fastnn model"),
    (['{"__metadata__": {"format": "pt"}}'], "its format is 'pt', expected 'fastnn-model'"),
    (['{"a": 1, "a": 1}', '{"b": {"a": 1, "a": 2}}'], "has the key 'a' twice"),
    (['{"two\\nlines": 1, "two\\nlines": 1}'], r"two\nlines"),
    (['{"a": NaN}', '{"a": -Infinity}', '{"a": 1.0}', '{"a": 1e999}'], "expected integers only"),
    (['{"a": ' + "9" * 5000 + "}"], "an integer of 5000 characters"),
    (["[" * 400_000 + "]" * 400_000, '{"a":' * 100_000 + "1" + "}" * 100_000], "nested too deeply"),
    (['{"a": "\\ud800"}', '{"\\udfff": 1}'], "half of a surrogate pair"),
]


@pytest.mark.parametrize(("content", "part"), [(content, row[1]) for row in INVALID_HEADERS for content in row[0]])
def test_an_invalid_header_is_described(path, content, part):
    assert_refused(path, raw(content.encode()) if isinstance(content, str) else content, part)


REMOVED = object()
# A key in the header, a list of invalid values (one case each), and a part of the error message.
INVALID_VALUES = [
    ("metadata format_version", ["3", "12"], "expected at most 2: update fastnn"),
    ("metadata format_version", ["1"], "has the unknown key 'feature_names'"),
    ("metadata format_version", ["0", "one", "\u0662", 1, REMOVED], "expected '1' or '2'"),
    ("metadata pickle", ["x"], "has the unknown key 'pickle'"),
    ("metadata classes", [REMOVED], "lacks the key 'classes'"),
    ("metadata sha256", [REMOVED], "lacks the key 'sha256'"),
    ("metadata output", [REMOVED], "lacks the key 'output'"),
    ("metadata output", ["sigmoid", "", "null"], "expected one of softmax, logistic, identity"),
    ("metadata output", ["identity"], "classes are ['no', 'yes'], expected none"),
    ("metadata output", ["logistic"], "unknown is [0.75, '?'], expected none"),
    ("metadata numpy", [[1, 2]], "its numpy is [1, 2], expected a string"),
    ("metadata activation", ["os.system", "", "Relu"], "expected one of relu, tanh, logistic, identity"),
    ("metadata input_scale", ["0.0", "-1.0", "nan", "inf", "1" * 5000, "1"], "expected a positive number"),
    ("metadata input_scale", ["1_0.0", " 1.0", "\u0661.0", "open('x')"], "expected a positive number"),
    ("metadata classes", ['["a"]', "[]"], "expected"),
    ("metadata classes", ["[1, 1]"], "expected all of them different"),
    ("metadata classes", ['[1, "a"]', "[true, false]", "null"], "expected a list of int64 integers or of strings"),
    ("metadata classes", ['[["a"], ["b"]]', '{"a": 1, "b": 2}', f"[1, {2**63}]"], "expected a list of int64"),
    ("metadata classes", ["[1, " + "9" * 5000 + "]"], "its classes has an integer of 5000 characters"),
    ("metadata classes", ["[0.5, 1]"], "its classes has the number '0.5'"),
    ("metadata classes", ["[" * 100_000], "its classes is nested too deeply"),
    ("metadata classes", ['["a", "\\ud800"]'], "its classes has half of a surrogate pair"),
    ("metadata classes", ["a, b"], "its classes is not valid JSON"),
    ("metadata image_shape", ["[2, 2]", "[-1, -2]", "[1, 2, 1]", "[true, 2]", '"ab"'], "a height and a width"),
    ("metadata feature_names", ['["a"]', "[1, 2]", '"ab"', '{"a": 1, "b": 2}', "[]"], "a list of 2 strings"),
    ("metadata feature_names", ['["a", "a"]'], "expected all of them different"),
    ("metadata feature_names", ["[0.5, 1]"], "its feature_names has the number '0.5'"),
    ("metadata unknown", ["0.5", '"ab"', "[0.5]", "[]", '[0.5, "?", "?"]', '{"0.5": "?"}'], "a threshold and a label"),
    (
        "metadata unknown",
        ['[0, "?"]', '[-0.5, "?"]', '[1e999, "?"]', '["0.5", "?"]', '[true, "?"]'],
        "above 0, at most",
    ),
    ("metadata unknown", ['[NaN, "?"]', '[Infinity, "?"]'], "its unknown has the number"),
    ("metadata unknown", ['[0.5, "no"]', "[0.5, 1]", "[0.5, 1.5]", "[0.5, null]"], "a string that is none of the"),
    ("bias.1", [REMOVED], "the tensor bias.1 is missing"),
    ("weight.0", [REMOVED], "the tensor weight.0 is missing"),
    ("momentum.0", [{}], "found the tensor 'momentum.0'"),
    ("bias.02", [{}], "found the tensor 'bias.02'"),
    ("bias.0", [3, [], "F32"], "expected dtype, shape and data_offsets"),
    ("bias.0 order", ["F"], "expected dtype, shape and data_offsets"),
    ("weight.0 dtype", ["F16", "I32", ["F32"], None], "expected F32 or F64"),
    ("bias.1 dtype", ["F64"], "bias.1 has dtype 'F64', expected F32"),
    ("weight.1 shape", [[2, 3], [3, True], [3, -2], [3, 0], [6], [3, 2, 1], "32", None], "expected [3, units]"),
    ("weight.0 shape", [[6], [-2, -3], [0, 3]], "expected [inputs, units]"),
    ("weight.0 shape", [[2**62, 3], [2**62 + 2, 3]], "weight.0 has data_offsets [0, 24], expected [0, "),
    ("bias.0 shape", [[2], [3, 1], [], 3], "expected [3]"),
    ("bias.0 data_offsets", [[20, 32], [28, 40], [36, 24], [24], "ab", None], "expected [24, 36]"),
    ("weight.0 data_offsets", [[-24, 0]], "weight.0 has data_offsets [-24, 0], expected [0, 24]"),
]


@pytest.mark.parametrize(
    ("key_path", "value", "part"), [(row[0], value, row[2]) for row in INVALID_VALUES for value in row[1]]
)
def test_an_invalid_value_in_the_header_is_named(path, data, key_path, value, part):
    header, payload = split(data)
    *containers, key = key_path.replace("metadata", "__metadata__").split()
    container = header[containers[0]] if containers else header
    container[key] = value
    if value is REMOVED:
        del container[key]
    # The digest is valid, so only the check under test can find the error.
    assert_refused(path, joined(header, payload), part)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda payload: payload + b"\0", "found 69 bytes of weights, expected 68"),
        (lambda payload: payload[:-1], "found 67 bytes of weights, expected 68"),
        (lambda payload: np.float32(np.nan).tobytes() + payload[4:], "not finite"),
        (lambda payload: payload[:-4] + np.float32(-np.inf).tobytes(), "not finite"),
    ],
)
def test_an_invalid_payload_is_refused(path, data, change, part):
    header, payload = split(data)
    assert_refused(path, joined(header, change(payload)), part)


CHANGES = [
    (b"0.75", b"0.25"),
    (b"left", b"lift"),
    (b"yes", b"yet"),
    (b"tanh", b"relu"),
    (b"0.0625", b"0.0626"),
    (b"[1, 2]", b"[2, 1]"),
    (b"2.4.6", b"2.4.5"),
]


@pytest.mark.parametrize(("old", "new"), [*CHANGES, (np.float32(-1).tobytes(), np.float32(1).tobytes())])
def test_a_change_that_gives_another_model_is_detected(path, old, new):
    assert GOLDEN.count(old) == 1
    assert_refused(path, GOLDEN.replace(old, new), "the file was changed or damaged")


def test_no_memory_is_allocated_for_missing_weights(path, data):
    header, payload = split(data)
    units, end = 10**15, 0
    for tensor, shape in (("weight.0", [2, units]), ("bias.0", [units]), ("weight.1", [units, 2]), ("bias.1", [2])):
        begin, end = end, end + 4 * int(np.prod(shape))
        header[tensor].update(shape=shape, data_offsets=[begin, end])
    assert_refused(path, joined(header, payload), f"found 68 bytes of weights, expected {end}")


def test_a_file_truncated_at_any_byte_is_refused(path, data):
    for length in range(len(data)):
        assert_refused(path, data[:length])


def test_a_flipped_bit_is_refused_or_changes_nothing(path, data):
    original, accepted = load(path), 0
    for position in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[position] ^= 1 << bit
            path.write_bytes(changed)
            try:
                model = load(path)
            except FastnnError as error:
                assert len(str(error).splitlines()) == 1  # noqa: PT017
            else:
                assert_same(model.network, original.network)
                assert names_of(model) == names_of(original)
                assert model.metadata == original.metadata
                accepted += 1
    assert accepted <= 8 * 8, "only the spaces that pad the header may change unnoticed"


@settings(deadline=None)
@given(content=st.binary(max_size=200))
def test_random_bytes_are_refused(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "random.safetensors"
    assert_refused(path, content)
    assert_refused(path, raw(content))


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@settings(deadline=None)
@given(drawn=st.data())
def test_random_values_in_the_header_are_refused_or_change_nothing_essential(tmp_path_factory, drawn):
    path = tmp_path_factory.getbasetemp() / "header.safetensors"
    header, payload = split(GOLDEN)
    positions = [(header, name) for name in header] + [(part, key) for part in header.values() for key in part]
    container, key = drawn.draw(st.sampled_from(positions))
    container[key] = drawn.draw(JSON_VALUES | JSON_VALUES.map(json.dumps))
    path.write_bytes(joined(header, payload))
    try:
        model = load(path)
    except DataError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017
    else:
        assert (model.network.sizes, len(model.classes)) == ((2, 3, 2), 2)
