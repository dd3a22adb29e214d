"""Tests of model files: networks are restored exactly, and every invalid file gives one clear error."""

import itertools
import json
import os
import subprocess
import sys
from dataclasses import replace
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from fastnn.errors import DataError, FastnnError, FileError
from fastnn.files import model_file
from fastnn.files.model_file import load, save
from fastnn.models import Ensemble, Model
from fastnn.network import AvgPool2D, BatchNorm, Conv2D, Dense, MaxPool2D, Network, Standardization
from tests.parity import assert_same_bits

VERSIONS = {"fastnn": "0.1.0", "numpy": "2.4.6"}
NAMES = {"classes": ["no", "yes"], "image_shape": (1, 2), "feature_names": ["left", "right"], "unknown": (0.75, "?")}


def counted(sizes, layers=None, **settings):
    """Return a network whose weights, biases and statistics count from -3/8 in steps of 1/8, in the order of a file."""
    network, numbers = Network.initialize(sizes, layers, **settings), itertools.count(-3)
    pairs = zip(network.weights, network.biases, strict=True)
    for array in (*itertools.chain.from_iterable(pairs), *network.statistics):
        array[...] = np.array([next(numbers) for _ in range(array.size)]).reshape(array.shape) / 8
    return network


def norm_network(scale=1 / 16):
    layers = [Dense(3, "gelu"), BatchNorm("tanh", momentum=0.5, epsilon=0.001), Dense(2)]
    return counted((2,), layers, input_scale=scale)


IMAGE_LAYERS = [
    Conv2D(2, (3, 2), stride=(1, 2), padding=(1, 0), activation="tanh"),  # 2x5x3
    BatchNorm("relu", momentum=0.5, epsilon=0.001),
    MaxPool2D((2, 1), stride=1, padding=(1, 0)),  # 2x6x3
    Conv2D(3, 2),  # 3x5x2
    AvgPool2D((2, 1)),  # 3x2x2
    Dense(2),
]
SEVEN = {"classes": [7, -3], "unknown": (0.5, 0)}
# The files in the folder golden: their networks and names. Fastnn wrote those of version 2 when it had no newer one;
# those of version 1 were put together by hand. All must stay readable, and saving must give those of versions 5 and 6.
GOLDEN = {
    "v1-tanh": (
        counted((2, 3, 2), activation="tanh", input_scale=1 / 16), {"classes": ["no", "yes"], "image_shape": (1, 2)},
    ),
    "v1-relu": (counted((4, 2, 2, 3), dtype=np.float64, input_scale=1 / 255), {"classes": [2, 3, 5]}),
    "v2-softmax": (counted((2, 3, 2), activation="tanh", input_scale=1 / 16), NAMES),
    "v2-logistic": (counted((3, 2, 4, 1), activation="logistic", output="logistic"), SEVEN),
    "v2-identity": (
        counted((2, 2, 2), activation="identity", output="identity", dtype=np.float64, input_scale=0.1), {},
    ),
    "v2-no-hidden": (counted((2, 3), dtype=np.float64, input_scale=1 / 255), {"classes": [0, 1, 2]}),
    "v3-batch-norm": (norm_network(), NAMES),
    "v3-activations": (counted((3, 2, 2, 1), activation=["elu", "silu"], output="logistic", dtype=np.float64), SEVEN),
    "v4-standardised": (counted((2, 3, 2), input_scale=Standardization([1980.5, -3.0], [0.1, 7.0])), NAMES),
    "v5-images": (counted((1, 5, 6), IMAGE_LAYERS, input_scale=1 / 255), {"classes": [2, 3], "image_shape": (5, 6)}),
    "v6-ensemble": (
        (norm_network(), counted((2, 3, 2), input_scale=Standardization([1980.5, -3.0], [0.1, 7.0]))), NAMES,
    ),
}  # fmt: skip


def golden(name):
    return Path(__file__).with_name("golden") / f"{name}.safetensors"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


@pytest.fixture
def data(path):
    """The bytes of a file that a save at `path` would replace."""
    path.write_bytes(golden("v3-batch-norm").read_bytes())
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


def assert_error(call, *parts, kind=DataError):
    """Assert that `call` raises an error of one line that contains `parts`."""
    with pytest.raises(kind) as caught:
        call()
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert len(message) < 600
    for part in parts:
        assert str(part) in message


def assert_refused(path, data, part=""):
    path.write_bytes(data)
    assert_error(lambda: load(path), path, part)


def assert_same(network, other):
    for name in ("weights", "biases", "statistics"):
        assert_same_bits(getattr(network, name), getattr(other, name), name)
    for name in ("layers", "shapes", "activation", "input_scale", "standardization", "output"):
        assert getattr(network, name) == getattr(other, name)


def assert_all_same(model, networks):
    assert len(model.networks) == len(networks)
    for network, other in zip(model.networks, networks, strict=True):
        assert_same(network, other)


def names_of(model):
    return {name: getattr(model, name) for name in NAMES}


# --- Files that are loaded -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", GOLDEN)
def test_files_of_every_version_are_loaded(path, name, monkeypatch):
    networks, names = GOLDEN[name]
    networks = networks if isinstance(networks, tuple) else (networks,)
    model = load(str(golden(name)))
    assert isinstance(model, Ensemble) == (len(networks) > 1)
    assert_all_same(model, networks)
    assert names_of(model) == {**dict.fromkeys(NAMES), **{name: tuple(value) for name, value in names.items()}}
    assert model.metadata == {"format_version": name[1], **VERSIONS}
    monkeypatch.setattr(model_file, "versions", lambda: VERSIONS)
    save(path, replace(model, metadata={}))
    assert (path.read_bytes() == golden(name).read_bytes()) == name.startswith(("v5", "v6"))
    # Other spaces in the header and another order of its keys, and a digest computed here.
    header, payload = split(golden(name).read_bytes())
    path.write_bytes(joined(dict(reversed(header.items())), payload))
    assert_all_same(load(path), networks)


TINY, HUGE = np.finfo(np.float64).smallest_subnormal, np.finfo(np.float64).max
NORMS = [BatchNorm(momentum=0), Dense(2, "leaky_relu"), BatchNorm("silu"), BatchNorm(epsilon=5e-324)]


@pytest.mark.parametrize("network", [
    Network.initialize((784, 128, 10), seed=3, input_scale=1 / 255),
    Network.initialize((6, 5, 4, 3, 2, 3, 4, 5, 6, 7, 8, 9, 10, 2), activation="logistic", dtype=np.float64),
    Network.initialize((3, 4), NORMS, dtype=np.float32),
    Network.initialize((3, 4), NORMS, dtype=np.float64),
    Network.initialize((3, 5, 6), [Conv2D(4, padding="same"), BatchNorm("gelu"), MaxPool2D(), Dense(3)], seed=2),
    Network.initialize((2, 4, 7), IMAGE_LAYERS, dtype=np.float64),
    Network([np.array([[TINY, -0.0], [HUGE, -HUGE]])], [np.array([0.1, -TINY])], input_scale=5e-324),
])  # fmt: skip
def test_a_saved_network_is_loaded_with_identical_bits(path, network):
    save(path, network)
    model = load(path)
    assert_same(model.network, network)
    assert all(array.flags.carray for array in (*model.network.weights, *model.network.biases))
    assert names_of(model) == {**dict.fromkeys(NAMES), "classes": tuple(range(network.n_outputs))}
    assert model.metadata == {"format_version": "5", "fastnn": version("fastnn-digits"), "numpy": np.__version__}


@pytest.mark.parametrize(("output", "n_outputs", "names", "expected"), [
    ("softmax", 1, {"image_shape": np.array([2, 2])}, [(0,), (2, 2), None, None]),
    ("softmax", 2, {"classes": np.array([2**63 - 1, -(2**63)])}, [(2**63 - 1, -(2**63)), None, None, None]),
    ("softmax", 2, {"classes": ["été", "two\nlines 🙂\0"]}, [("été", "two\nlines 🙂\0"), None, None, None]),
    ("softmax", 3, {"unknown": (0.1, -1)}, [(0, 1, 2), None, None, (0.1, -1)]),
    (
        "softmax",
        2,
        {"classes": ["a", "b"], "unknown": [np.float32(0.25), np.str_("?")]},
        [("a", "b"), None, None, (0.25, "?")],
    ),
    ("logistic", 3, {}, [(0, 1, 2), None, None, None]),
    ("logistic", 3, {"classes": np.array(["a", "b", "c"])}, [("a", "b", "c"), None, None, None]),
    ("softmax", 2, {"classes": [0.1, -2.0], "unknown": (0.5, 9.0)}, [(0.1, -2.0), None, None, (0.5, 9.0)]),
    ("logistic", 1, {"classes": np.array([True, False])}, [(True, False), None, None, None]),
    ("logistic", 1, {"unknown": (1, np.int64(2**63 - 1))}, [(0, 1), None, None, (1.0, 2**63 - 1)]),
    ("logistic", 1, {"classes": ["a"], "unknown": (5e-324, "")}, [("a",), None, None, (5e-324, "")]),
    ("identity", 1, {}, [None, None, None, None]),
    ("exp", 2, {}, [None, None, None, None]),
    ("identity", 3, {"feature_names": np.array(["a", "", "d 🙂", "d"])}, [None, None, ("a", "", "d 🙂", "d"), None]),
])  # fmt: skip
def test_names_are_restored_as_plain_values(path, output, n_outputs, names, expected):
    save(path, Network.initialize((4, n_outputs), output=output, seed=1), **names)
    assert repr(list(names_of(load(path)).values())) == repr(expected)


THREE = [[0.5, 0.2, 0.3], [0.4, 0.4, 0.2], [0.3, 0.3, 0.4]]


@pytest.mark.parametrize(("output", "classes", "unknown", "proba", "labels", "expected"), [
    ("softmax", (7, 8, 9), None, THREE, [7, 7, 9], THREE),
    ("softmax", ("a", "b", "c"), (0.5, "longer"), THREE, ["a", "longer", "longer"], THREE),
    # float32(0.7) is below the float64 0.7, but it still reaches the threshold 0.7.
    ("softmax", (7, 8, 9), (0.7, -1), [[0.1, 0.7, 0.2]], [8], [[0.1, 0.7, 0.2]]),
    ("logistic", ("no", "yes"), None, [[0.5], [0.75]], ["no", "yes"], [[0.5, 0.5], [0.25, 0.75]]),
    ("logistic", (4,), (1.0, -1), [[0.25], [0.75]], [4, 4], [[1.0], [1.0]]),
    ("logistic", (0, 1), None, [[0.5, 0.75]], [[0, 1]], [[0.5, 0.75]]),
])  # fmt: skip
def test_a_model_decides_on_labels_and_probabilities(output, classes, unknown, proba, labels, expected):
    network = Network.initialize((2, len(proba[0])), output=output)
    found, probabilities = Model(network, classes, unknown=unknown).decide(np.array(proba, np.float32))
    assert found.tolist() == labels
    np.testing.assert_array_equal(probabilities, np.array(expected, np.float32))


def test_equal_networks_give_equal_bytes_even_in_another_process(path):
    save(path, norm_network(), **NAMES)
    expected = path.read_bytes()
    layers = [Dense(np.int64(3), "gelu"), BatchNorm("tanh", np.float32(0.5), 1e-3), Dense(2)]
    same, zero, whole = norm_network(), *(Network.initialize((2,), [BatchNorm(momentum=m)]) for m in (0.0, 0))
    same = Network(same.weights, same.biases, "relu", 1 / 16, "softmax", layers, [np.int64(2)], same.statistics)
    for lay_out in (np.asfortranarray, lambda weight: np.repeat(weight, 2, axis=-1)[..., ::2]):
        same.weights = tuple(map(lay_out, same.weights))
        assert not same.weights[0].flags.c_contiguous
        save(path, same, **{**{name: np.array(NAMES[name]) for name in NAMES}, "unknown": (np.float64(0.75), "?")})
        assert path.read_bytes() == expected
    program = (
        "import sys; from fastnn.files.model_file import load, save; model = load(sys.argv[1]);"
        "names = {name: getattr(model, name) for name in ('classes', 'image_shape', 'feature_names', 'unknown')};"
        "save(sys.argv[1], model.network, **names); sys.exit('numba' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], check=True)
    assert path.read_bytes() == expected
    save(path, zero)
    expected = path.read_bytes()
    save(path, whole)
    assert path.read_bytes() == expected


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_safetensors_reads_the_file(path, dtype):
    network = counted((5,), [Dense(4), BatchNorm(), Dense(3)], dtype=dtype)
    save(path, network, classes=["a", "b", "ç"])
    tensors = safetensors.numpy.load_file(path)
    assert len(tensors) == 8
    found = ([tensors[f"{kind}.{k}"] for k in range(n)] for kind, n in (("weight", 3), ("bias", 3), ("statistic", 2)))
    assert_same(network.like(*found), network)
    with safetensors.safe_open(path, framework="numpy") as file:
        assert json.loads(file.metadata()["classes"]) == ["a", "b", "ç"]
    assert int.from_bytes(path.read_bytes()[:8], "little") % 8 == 0


# --- Networks and names that are not saved ---------------------------------------------------------------------------
@pytest.mark.parametrize(("options", "part"), [
    ({"classes": {"a", "b"}}, "expected a list"),
    ({"classes": "ab"}, "classes are 'ab'"),
    ({"classes": 2}, "classes are 2"),
    ({"classes": np.eye(2)}, "classes are [array"),
    ({"classes": [True, 0]}, "classes are [True, 0]"),
    ({"classes": [0.0, np.inf]}, "classes are [0.0, inf], expected a list of int64 integers, of finite floats, of"),
    ({"classes": [True, False], "unknown": (0.5, 2)}, "expected none: the classes are booleans"),
    ({"classes": [0.5, 1.5], "unknown": (0.5, 2)}, "expected a finite float that is none of the classes"),
    ({"classes": ["a", "\ud800"]}, "surrogate"),
    ({"classes": ["a", "b" * 1001]}, "of 1001 characters, expected at most 1000"),
    ({"feature_names": ["a", "b" * 1001]}, "of 1001 characters, expected at most 1000"),
    ({"image_shape": (2.0, 1.0)}, "image_shape is [2.0, 1.0]"),
    ({"image_shape": 2}, "image_shape is 2"),
    ({"feature_names": "ab"}, "feature_names are 'ab'"),
    ({"feature_names": ["a", "\ud800"]}, "surrogate"),
    ({"unknown": 0.5}, "unknown is 0.5, expected a threshold and a label"),
    ({"unknown": (np.nan, -1)}, "the threshold of unknown is nan"),
    ({"unknown": (0.5, 1)}, "the label of unknown is 1, expected an int64 integer that is none of the classes"),
    ({"unknown": (0.5, True)}, "the label of unknown is True"),
    ({"unknown": (0.5, 2**63)}, "the label of unknown is 9223372036854775808"),
    ({"unknown": (0.5, "\ud800"), "classes": ["a", "b"]}, "surrogate"),
    ({"output": "identity", "classes": [0, 1]}, "classes are [0, 1], expected none: the outputs of"),
    ({"output": "identity", "unknown": (0.5, -1)}, "unknown is [0.5, -1], expected none: the outputs are numbers"),
    ({"output": "logistic", "unknown": (0.5, -1)}, "expected none: each output has a probability of its own"),
    ({"output": "logistic", "classes": [0]}, "1 classes for 2 outputs of the network, expected one each"),
    ({"output": "logistic", "n": 1, "classes": [0, 1, 2]}, "3 classes for 1 outputs of the network, expected one"),
    ({"output": "softmax", "n": 1, "classes": [0, 1]}, "2 classes for 1 outputs of the network"),
])  # fmt: skip
def test_names_that_do_not_fit_are_refused_and_the_old_file_stays(path, data, options, part):
    names = {name: value for name, value in options.items() if name in NAMES}
    network = Network.initialize((2, options.get("n", 2)), output=options.get("output", "softmax"))
    assert_error(lambda: save(path, network, **names), path, part)
    assert path.read_bytes() == data


OTHER = type("Other", (Dense,), {"kind": "other"})(2)  # of a class that is not in the table of layers


@pytest.mark.parametrize(("invalidate", "part"), [
    (lambda network: network.weights[1].__setitem__(0, np.nan), "layer 2: a weight or bias is not finite"),
    (lambda network: network.biases[0].__setitem__(0, np.inf), "layer 1: a weight or bias is not finite"),
    (lambda network: network.statistics[1].__setitem__(0, np.nan), "layer 2: statistics"),
    (lambda network: setattr(network, "layers", network.layers[:2]), "expected names, the last one identity"),
    (lambda network: setattr(network, "layers", (*network.layers[:2], OTHER)), "layer 3 is {'activation': None"),
])  # fmt: skip
def test_an_invalid_network_is_refused_and_the_old_file_stays(path, data, invalidate, part):
    network = norm_network()
    invalidate(network)
    assert_error(lambda: save(path, network, classes=["a", "b"]), path, "cannot save", part)
    assert path.read_bytes() == data


# --- Files that are not loaded ---------------------------------------------------------------------------------------
def test_paths_that_cannot_be_read_are_errors(tmp_path, path, data, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").mkdir()
    assert load(tmp_path).network.sizes == load(path).network.sizes  # the folder of a run stands for its model
    for name, part in (("missing", "no such file"), ("empty", "a folder"), ("pipe", "a pipe"), ("nul\0", "null")):
        assert_error(lambda name=name: load(tmp_path / name), part, kind=FileError)
    for error, kind, part in ((OSError(5, "broken"), FileError, "broken"), (MemoryError(), DataError, "fit in memory")):
        monkeypatch.setattr(model_file, "read_header", Mock(side_effect=error))
        assert_error(lambda: load(path), path, part, kind=kind)


# A file, or its header as a string, and a part of the error message.
INVALID_HEADERS = [
    ([b"", b"1234567"], "bytes, expected a model file of at least 8"),
    ([raw(b"{" + b" " * 1_000_000)], "at most 1000000"),
    ([b"\0\1\2\3" * 5], "is no fastnn model file: it is binary data"),
    ([b"PK\x03\x04" + b"\1" * 12], "is no fastnn model file: it is a zip archive"),
    ([b"sepal length,species\n5.1,setosa\n", b"# fastnn\n\nA fast"], "is no fastnn model file: it is a text file"),
    ([b"\x89PNG\r\n\x1a\n" + bytes(20)], "is no fastnn model file: it is a single picture"),
    ([b"<!DOCTYPE html><html>"], "is no fastnn model file: it is a web page"),
    ([(100).to_bytes(8, "little") + b"{}"], "its header has 100 bytes, but only 2 follow"),
    ([raw(b'{"a": "\xff"}')], "not UTF-8: byte 7 is 0xff"),
    ([raw(b'{"a": "\xed\xa0\x80"}')], "not UTF-8"),
    (["", "{'format': 1}", "\ufeff{}", "{} {}"], "not valid JSON"),
    (["[]", "[[[[]]]]", "1", "null", '"' + "a" * 9999 + '"'], "expected a JSON object"),
    (["{}", '{"__metadata__": []}', '{"__metadata__": "format"}'], "not a fastnn model"),
    (['{"__metadata__": {"format": "pt"}}'], "its format is 'pt', expected 'fastnn-model'"),
    (['{"a": 1, "a": 1}', '{"b": {"a": 1, "a": 2}}'], "has the key 'a' twice"),
    (['{"two\\nlines": 1, "two\\nlines": 1}'], r"two\nlines"),
    (['{"a": NaN}', '{"a": -Infinity}', '{"a": ' + "9" * 5000 + "}"], "expected finite ones and int64 integers"),
    (["[" * 400_000 + "]" * 400_000, '{"a":' * 100_000 + "1" + "}" * 100_000], "nested too deeply"),
    (['{"a": "\\ud800"}', '{"\\udfff": 1}'], "half of a surrogate pair"),
]


@pytest.mark.parametrize(("content", "part"), [(content, row[1]) for row in INVALID_HEADERS for content in row[0]])
def test_an_invalid_header_is_described(path, content, part):
    assert_refused(path, raw(content.encode()) if isinstance(content, str) else content, part)


def edited(old, new, name="v3-batch-norm"):
    """Return the layers of a golden file, as JSON, with `new` in the place of the first `old`."""
    text = split(golden(name).read_bytes())[0]["__metadata__"]["layers"]
    assert old in text
    return text.replace(old, new, 1)


REMOVED = object()
# A key of the metadata, or one with a dot: a tensor; a list of invalid values (one case each); a part of the message.
INVALID_VALUES = [
    (
        "format_version",
        ["7", "12", "0", "one", "\u0662", REMOVED],
        "expected one of 1, 2, 3, 4, 5, 6; a newer one needs",
    ),
    ("format_version", ["2"], "lacks the key 'activation'"),
    ("format_version", [3], "its 'format_version' is 3, expected a string"),
    ("pickle", ["x"], "has the unknown key 'pickle'"),
    ("activation", ["relu"], "has the unknown key 'activation'"),
    ("sha256", [REMOVED], "lacks the key 'sha256'"),
    ("output", [REMOVED], "lacks the key 'output'"),
    ("output", ["sigmoid", "", "null", "a" * 9999], "expected one of softmax, logistic, identity"),
    ("output", ["identity"], "classes are ['no', 'yes'], expected none"),
    ("output", ["logistic"], "unknown is [0.75, '?'], expected none"),
    ("numpy", [[1, 2]], "its 'numpy' is [1, 2], expected a string"),
    ("input_scale", ["0.0", "-1.0", "1e999", "1", "1.00", " 1.0", "null"], "expected a positive number"),
    ("input_scale", ["nan", "1_0.0", "\u0661.0", "open('x')"], "its input_scale is not valid JSON"),
    ("layers", [REMOVED], "lacks the key 'layers'"),
    ("layers", ["{}", '"dense"', "null"], "expected a list"),
    ("layers", ["[]"], "the activations of its layers are [], expected names, the last one identity"),
    ("layers", ["[1]", "[[]]", "[{}]", edited("batch_norm", "os.system")], "expected a kind from dense"),
    ("layers", ['[{"kind": ["dense"]}]', edited('"kind": "batch_norm", ', "")], "expected a kind from dense"),
    ("layers", [edited('"units": 3, ', ""), edited('"units": 3', '"units": 3, "bias": 1')], "layer 1, dense, has"),
    ("layers", [edited("units", "__class__")], "layer 1, dense, has"),
    ("layers", [edited('"units": 3', '"units": 3, "units": 3')], "its layers has the key 'units' twice"),
    ("layers", [edited("gelu", "eval"), edited('"gelu"', '["gelu"]')], "activation of a dense layer is"),
    ("layers", [edited('"gelu"', "null")], "expected names, the last one identity"),
    ("layers", [edited("identity", "relu")], "expected names, the last one identity"),
    ("layers", [edited("3", number) for number in ("0", "-3", "3.0", "true", '"3"', "null")], "units of a dense"),
    ("layers", [edited("0.5", number) for number in ("1.0", "-0.1", "1e999", '"0"')], "momentum of a batch_norm"),
    ("layers", [edited("0.001", number) for number in ("0.0", "[1]", "true")], "epsilon of a batch_norm layer is"),
    ("layers", [edited("3", "9" * 21), edited("0.5", "NaN")], "its layers has the number"),
    ("layers", [edited("3", "4"), edited("3", "9" * 18)], "tensor 'weight.0': found {"),
    ("layers", [edited("3", "9" * 20)], "units of a dense layer is 99999999999999999999, expected a whole number"),
    ("layers", [edited("3", "[" + "1," * 9999 + "1]")], "units of a dense layer is"),
    (
        "input_shape",
        ["[]", "2", "null", "[0]", "[2.0]", "[true]", '["2"]', "[[2]]", f"[{2**63}]"],
        "expected sizes from 1 to 2**63 - 1",
    ),
    ("input_shape", ["[3]", "[2, 2]", f"[{2**63 - 1}]"], "tensor 'weight.0': found {"),
    ("classes", [REMOVED], "lacks the key 'classes'"),
    ("classes", ['["a"]', "[]"], "expected"),
    ("classes", ["[1, 1]"], "expected all of them different"),
    ("classes", ['[1, "a"]', "[true, 0]", "null", "[0.5, 1]"], "expected a list of int64 integers, of finite floats"),
    ("classes", ['[["a"], ["b"]]', '{"a": 1, "b": 2}', f"[1, {2**63}]"], "expected a list of int64"),
    ("classes", ["a, b"], "its classes is not valid JSON"),
    ("image_shape", ["[2, 2]", "[-1, -2]", "[1, 2, 1]", "[true, 2]", "[1.0, 2]", '"ab"'], "a height and a width"),
    ("feature_names", ['["a"]', "[1, 2]", '"ab"', '{"a": 1, "b": 2}', "[]", "[0.5, 1]"], "a list of 2 strings"),
    ("feature_names", ['["a", "a"]'], "expected all of them different"),
    ("unknown", ["0.5", '"ab"', "[0.5]", "[]", '[0.5, "?", "?"]', '{"0.5": "?"}'], "a threshold and a label"),
    ("unknown", ['[0, "?"]', '[1e999, "?"]', '["0.5", "?"]', '[true, "?"]'], "above 0, at most"),
    ("unknown", ['[NaN, "?"]', '[Infinity, "?"]'], "its unknown has the number"),
    ("unknown", ['[0.5, "no"]', "[0.5, 1]", "[0.5, 1.5]", "[0.5, null]"], "a string that is none of the"),
    ("bias.1", [REMOVED], "tensor 'bias.1': found no such tensor, expected {"),
    ("statistic.1", [REMOVED], "tensor 'statistic.1': found no such tensor"),
    ("weight.0", [REMOVED], "tensor 'weight.0': found no such tensor"),
    ("momentum.0", [{}], "tensor 'momentum.0': found {}, expected no such tensor"),
    ("bias.0", [3, [], "F32"], ', expected {"data_offsets":[24,36],"dtype":"F32","shape":[3]}'),
    ("bias.0 order", ["F"], '"order":"F","shape":[3]}, expected {'),
    ("bias.0 dtype", ["F64", "F16", ["F32"], None], "tensor 'bias.0': found {"),
    ("weight.0 dtype", ["F64", "I32", ["F64"], None, REMOVED], "tensor 'weight.0': found {"),
    ("weight.2 shape", [[2, 3], [3, True], [3, 2.0], [-3, -2], [6], [3, 2, 1], "32", None], ',"shape":[3,2]}'),
    ("statistic.0 shape", [[2], [3, 1], [], 3, [2**62]], '"dtype":"F32","shape":[3]}'),
    ("bias.0 data_offsets", [[20, 32], [28, 40], [36, 24], [24], "ab", None], 'expected {"data_offsets":[24,36]'),
    ("weight.0 data_offsets", [[-24, 0], [0, 24.0]], 'expected {"data_offsets":[0,24]'),
]
# The same for files of version 2, which have an activation and no layers.
INVALID_OLD_VALUES = [
    ("format_version", ["1"], "has the unknown key 'feature_names'"),
    ("layers", ["[]"], "has the unknown key 'layers'"),
    ("activation", ["os.system", "", "Relu"], "activation is"),
    ("weight.0", [REMOVED, 3, [], {}], "expected a tensor of shape [inputs, units]"),
    ("weight.1 shape", [[6], [-2, -3], [0, 3], [3, True], "32", None], "weight.1 is {"),
    ("weight.1 shape", [[2, 3], [2**62, 3]], "tensor 'weight.1': found {"),
    ("weight.2", [{}], "weight.2 is {}, expected a tensor of shape"),
    ("bias.1", [REMOVED], "tensor 'bias.1': found no such tensor"),
    ("bias.2", [{}], "tensor 'bias.2': found {}, expected no such tensor"),
]


def image(old, *new):
    """Return the layers of the golden file of images, once for each `new` in the place of the first `old`."""
    return [edited(old, each, "v5-images") for each in new]


HUGE_SIZE = str(2**62)
# The same for a network of images: layers 1 to 6 are those of IMAGE_LAYERS.
INVALID_IMAGE_VALUES = [
    ("layers", image('"channels": 2', '"channels": 0'), "layer 1: channels of a conv2d layer is 0, expected"),
    ("layers", image('"channels": 2', '"channels": 2.0', '"channels": true', '"channels": [2]'), "layer 1: channels"),
    ("layers", image('"channels": 2, ', ""), "layer 1, conv2d, has"),
    ("layers", image('"channels": 2', '"channels": 2, "groups": 1'), "layer 1, conv2d, has"),
    ("layers", image("[3, 2]", "[3]", "[3, 2, 1]", "[3, 2.0]", "[3, true]", "[0, 2]", '"3"', "null"), "layer 1: ke"),
    ("layers", image('"kernel": [2, 2]', '"kernel": 2'), "layer 4: kernel of a conv2d layer is 2, expected [2, 2]"),
    ("layers", image("[1, 2]", "[0, 2]", "[1, -2]", "[1, 2e0]", "[1, null]", "{}"), "layer 1: stride of a conv2d"),
    ("layers", image('"padding": [1, 0]', '"padding": "same"'), "layer 1: padding of a conv2d layer is 'same' with"),
    ("layers", image('"padding": [1, 0]', '"padding": [3, 0]', '"padding": [1, 2]'), "layer 1: padding of a conv2d"),
    ("layers", image('"padding": [1, 0]', f'"padding": [1, {HUGE_SIZE}]'), "layer 1: padding of a conv2d"),
    ("layers", image('"size": [2, 1]', '"size": [0, 1]', '"size": "2"'), "layer 3: size of a max_pool2d layer is"),
    ("layers", image('"stride": [1, 1], "padding": [1, 0], "activation": "i', '"stride": null, "padding": [1, 0], '
        '"activation": "i'), "layer 3: stride of a max_pool2d layer is null, expected [2, 1]"),
    ("layers", image('"stride": [2, 1]', '"stride": 2', '"stride": [2]'), "layer 5: stride of an avg_pool2d layer"),
    ("layers", image('"size": [2, 1], "stride": [2, 1]', '"size": [9, 1], "stride": [2, 1]'),
        "layer 5: inputs of shape (3, 5, 2) come into avg_pool2d 9x1, expected at least the size of its window"),
    ("layers", image('"tanh"', '"Tanh"'), "layer 1: activation of a conv2d layer is 'Tanh'"),
    # Shapes of more numbers than memory or an index has.
    ("layers", image('"channels": 2', f'"channels": {HUGE_SIZE}'), "layer 1: the output shape is ("),
    ("layers", image('"channels": 2', '"channels": 10000000000'), "tensor 'weight.0': found {"),
    ("layers", image('"kernel": [2, 2], "stride": [1, 1], "padding": [0, 0]', f'"kernel": [{HUGE_SIZE}, {HUGE_SIZE}], '
        f'"stride": [1, 1], "padding": [{2**61}, {2**61}]'), "tensor 'weight.2': found {"),
    ("input_shape", ["[30]", "[5, 6]", "[1, 1, 5, 6]"], "layer 1: inputs of shape ("),
    ("input_shape", ["[1, 1, 1]"], "layer 1: inputs of shape (1, 1, 1) come into conv2d 3x2, expected at least"),
    ("input_shape", ["[2, 5, 6]", "[1, 50, 60]", f"[{2**40}, 5, 6]"], ": found {"),
    ("input_shape", [f"[1, {2**62}, 6]"], f"input_shape is (1, {2**62}, 6), {6 * 2**62} numbers, expected less than"),
    ("image_shape", ["[6, 6]", "[1, 5, 6]"], "expected a height and a width with product 30"),
    ("weight.0 shape", [[1, 3, 4], [2, 1, 3, 2], [6, 2], [1, 3, 2, 2, 1]], '"dtype":"F32","shape":[1,3,2,2]}'),
    ("statistic.0 shape", [[30], [1]], '"dtype":"F32","shape":[2]}'),
]  # fmt: skip


def edited_networks(change):
    """Return the networks of the golden file of an ensemble, as JSON, after `change` has changed them in place."""
    networks = json.loads(split(golden("v6-ensemble").read_bytes())[0]["__metadata__"]["networks"])
    return json.dumps(change(networks) or networks)


def with_value(key, value):
    """Return the networks with another value in the second one."""
    return edited_networks(lambda networks: networks[1].update({key: value}))


# The same for an ensemble: network 0 is that of v3-batch-norm, and network 1 is dense and standardised.
INVALID_ENSEMBLE_VALUES = [
    ("format_version", ["5"], "lacks the key 'input_scale'"),
    ("networks", [REMOVED], "lacks the key 'networks'"),
    ("layers", ["[]"], "has the unknown key 'layers'"),
    ("input_scale", ["1.0"], "has the unknown key 'input_scale'"),
    ("networks", ["null", "{}", "[]", "2", '"ab"', edited_networks(lambda each: each[:1])], "a list of 2 or more"),
    ("networks", ["[1, 2]", "[[], []]", "[{}, {}]"], "network 0 is"),
    ("networks", [with_value("pickle", "x"), with_value("layers", []), with_value("output", None)], "network 1 is"),
    ("networks", [edited_networks(lambda each: each[1].pop("output") and None)], "network 1 is"),
    ("networks", ["[" * 9000 + "]" * 9000], "its networks is nested too deeply"),
    ("networks", [edited_networks(lambda each: [*each, each[1]])], "tensor 'network.2.weight.0': found no such tensor"),
    ("networks", [edited_networks(lambda each: each[::-1])], "tensor 'network.0.weight.1': found {"),
    ("networks", [with_value("output", "eval")], "expected one of softmax"),
    ("networks", [with_value("output", "logistic")], "network 2 of the ensemble has 2 inputs and 2 logistic outputs"),
    ("networks", [with_value("input_scale", "0.5")], "input_scale is 0.5, expected 1.0 with a standardization"),
    ("networks", [with_value("input_scale", "1")], "input_scale is '1', expected a positive number"),
    ("networks", [with_value("input_shape", f"[{2**63 - 1}]")], "tensor 'network.1.weight.0'"),
    ("networks", [with_value("layers", "[]")], "the activations of its layers are []"),
    ("classes", ['["a"]'], "expected one each"),
    ("network.0.weight.0", [REMOVED], "tensor 'network.0.weight.0': found no such tensor"),
    ("network.1.input.mean", [REMOVED], "tensor 'network.1.input.scale': found {"),
    ("network.2.weight.0", [{}], "tensor 'network.2.weight.0': found {}, expected no such tensor"),
    ("weight.0", [{}], "tensor 'weight.0': found {}, expected no such tensor"),
    ("network.1.weight.0 dtype", ["F64", "I64", None], "tensor 'network.1."),
    ("network.1.weight.0 shape", [[3, 2], [6], [2, 2**62]], "tensor 'network.1.weight.0'"),
    ("network.1.weight.0 data_offsets", [[0, 24]], "tensor 'network.1.weight.0'"),
]


@pytest.mark.parametrize(("name", "key_path", "value", "part"), [
    (name, row[0], value, row[2])
    for name, rows in (
        ("v3-batch-norm", INVALID_VALUES),
        ("v2-softmax", INVALID_OLD_VALUES),
        ("v5-images", INVALID_IMAGE_VALUES),
        ("v6-ensemble", INVALID_ENSEMBLE_VALUES),
    )
    for row in rows
    for value in row[1]
])  # fmt: skip
def test_an_invalid_value_in_the_header_is_named(path, name, key_path, value, part):
    header, payload = split(golden(name).read_bytes())
    *tensor, key = key_path.split()
    container = header[tensor[0]] if tensor else header if "." in key else header["__metadata__"]
    container[key] = value
    if value is REMOVED:
        del container[key]
    # The digest is valid, so only the check under test can find the error.
    assert_refused(path, joined(header, payload), part)


@pytest.mark.parametrize(("change", "part"), [
    (lambda payload: payload + b"\0", "found 117 bytes of weights, expected 116"),
    (lambda payload: payload[:-1], "found 115 bytes of weights, expected 116"),
    (lambda payload: np.float32(np.nan).tobytes() + payload[4:], "not finite"),
    (lambda payload: payload[:-4] + np.float32(-np.inf).tobytes(), "expected finite numbers"),
])  # fmt: skip
def test_an_invalid_payload_is_refused(path, data, change, part):
    header, payload = split(data)
    assert_refused(path, joined(header, change(payload)), part)


def test_no_memory_is_allocated_for_missing_weights(path, data):
    header, payload = split(data)
    units, end = 10**15, 0
    header["__metadata__"]["layers"] = edited("3", str(units))
    for name, entry in header.items():
        if name != "__metadata__":
            shape = [units if size == 3 else size for size in entry["shape"]]
            begin, end = end, end + 4 * int(np.prod(shape))
            entry.update(shape=shape, data_offsets=[begin, end])
    assert_refused(path, joined(header, payload), f"found 116 bytes of weights, expected {end}")


def test_a_file_truncated_at_any_byte_is_refused(path, data):
    for length in range(len(data)):
        assert_refused(path, data[:length])


def test_a_flipped_bit_is_refused_or_changes_nothing(path, data):
    original, accepted = load(path), 0
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 1 << position % 8
        path.write_bytes(changed)
        try:
            model = load(path)
        except FastnnError as error:
            assert len(str(error).splitlines()) == 1  # noqa: PT017
        else:
            assert_same(model.network, original.network)
            assert (names_of(model), model.metadata) == (names_of(original), original.metadata)
            accepted += 1
    assert accepted <= 8, "only the spaces that pad the header may change unnoticed"


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@settings(deadline=None)
@given(drawn=st.data())
def test_random_values_in_the_header_are_refused_or_change_nothing_essential(tmp_path_factory, drawn):
    path = tmp_path_factory.getbasetemp() / "header.safetensors"
    name = drawn.draw(st.sampled_from(["v2-softmax", "v3-batch-norm", "v5-images", "v6-ensemble"]))
    header, payload = split(golden(name).read_bytes())
    lists = {key: json.loads(header["__metadata__"].get(key, "[]")) for key in ("layers", "networks")}
    parts = [header, *header.values(), *lists["layers"], *lists["networks"]]
    container, key = drawn.draw(st.sampled_from([(part, key) for part in parts for key in part]))
    container[key] = drawn.draw(JSON_VALUES | JSON_VALUES.map(json.dumps))
    for name_of_list, values in lists.items():
        if container in values:
            header["__metadata__"][name_of_list] = json.dumps(values)
    path.write_bytes(joined(header, payload))
    try:
        model = load(path)
    except DataError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017
    else:
        network, expected = model.networks[0], GOLDEN[name][0]
        assert network.n_inputs == (expected[0] if isinstance(expected, tuple) else expected).n_inputs
        assert (network.n_outputs, len(model.classes)) == (2, 2)
