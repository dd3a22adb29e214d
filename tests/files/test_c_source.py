"""Tests of exported C files: compiles them with gcc and clang, and compares what they compute with NumPy in float64."""

import shutil
import subprocess
import tempfile
from functools import partial

import numpy as np
import pytest
import scipy.sparse

import fastnn
from fastnn import DataError, FileError, Model, Network, SettingsError, export_c
from fastnn.backends import reference
from fastnn.files import c_source, int8
from fastnn.files.c_source import INPUT_DTYPES
from fastnn.files.steps import steps_of
from fastnn.network import ACTIVATIONS, LAYERS, AvgPool2D, BatchNorm, Conv2D, Dense, MaxPool2D
from fastnn.network.activations import Activation
from tests.files.models import ANSWERS, IMAGES, MIXED, in_float64, made, refusal

refused = partial(refusal, export_c)

STRICT = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-fno-sanitize-recover=all"]
SANITIZED = [*STRICT, "-O0", "-fsanitize=address,undefined"]
FAST = [*STRICT[:-1], "-O3"]  # for thousands of rows


def has_sanitizers(compiler):
    """Return whether a compiler is there with its sanitizers, which some systems install apart from it."""
    if not shutil.which(compiler):
        return False
    with tempfile.TemporaryDirectory() as folder:
        command = [compiler, *SANITIZED, "-x", "c", "-", "-o", f"{folder}/program"]
        done = subprocess.run(command, input=b"int main(void) { return 0; }\n", capture_output=True, check=False)
    return done.returncode == 0


COMPILERS = [compiler for compiler in ("gcc", "clang") if has_sanitizers(compiler)]
pytestmark = pytest.mark.skipif(not COMPILERS, reason="there is no C compiler with sanitizers")
# Runs the self-test; then reads rows from stdin, and writes the result of each, and the number of its class, to stdout.
PROGRAM = """#define FASTNN_SELF_TEST
#define main self_test
#include "model.c"
#undef main
#include <stdlib.h>

int main(void)
{
    if (self_test())
        return 1;
    static TYPE row[N_IN];
    static float result[N_OUT + 1];
    model_scratch *scratch = malloc(sizeof *scratch);
    while (fread(row, sizeof *row, N_IN, stdin) == N_IN) {
        CALL;
        fwrite(result, sizeof *result, N_OUT + 1, stdout);
    }
    free(scratch);
    return 0;
}
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.c"


@pytest.fixture(scope="module")
def trained(mnist):
    """A dense network and a LeNet, each trained on a part of MNIST for a short time."""
    some = mnist[0].take(np.arange(12_000))
    layers = [Conv2D(6, 5), MaxPool2D(), Conv2D(16, 5), MaxPool2D(), 120, 84]
    settings = {"epochs": 2, "optimizer": "adam", "batch_size": 32, "backend": "numba"}
    return {
        name: Model.for_data(fastnn.train(Network.for_data(some, hidden), some, **settings).network, some)
        for name, hidden in {"dense": [128], "lenet": layers}.items()
    }


def compiled(path, compiler, flags=SANITIZED, source=None):
    """Compile a source beside `path`; return the program."""
    program = path.with_suffix(f".{compiler}")
    command = [compiler, *flags, source or path.name, "-o", program.name, "-lm"]
    done = subprocess.run(command, cwd=path.parent, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return program


def predicted(path, model, rows, compiler, flags=SANITIZED):
    """Return the results of the compiled file for rows, and the numbers of their classes."""
    n_out = model.network.n_outputs if model.classes is None else len(model.classes)
    call = "model_predict_with(row, result, scratch)"
    if model.classes is not None and not model.is_multilabel:
        call = f"result[N_OUT] = (float){call}"
    kind = "uint8_t" if rows.dtype == np.uint8 else "float"
    names = {"CALL": call, "TYPE": kind, "N_IN": rows.shape[1], "N_OUT": n_out}
    text = PROGRAM
    for name, value in names.items():
        text = text.replace(name, str(value))
    path.with_name("program.c").write_text(text)
    program = compiled(path, compiler, flags, "program.c")
    done = subprocess.run([program], input=np.ascontiguousarray(rows).tobytes(), capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    _, found, rest = done.stdout.partition(b"The largest difference is ")
    assert found
    results = np.frombuffer(rest.partition(b"\n")[2], np.float32).reshape(len(rows), n_out + 1)
    return results[:, :-1], results[:, -1].astype(int)


def self_test(path, compiler=COMPILERS[0] if COMPILERS else "", flags=SANITIZED):
    return subprocess.run([compiled(path, compiler, [*flags, "-DFASTNN_SELF_TEST"])], capture_output=True, check=False)


def with_classes(model, outputs):
    """Return the probabilities of the classes from the outputs of a network."""
    if model.classes is None or model.is_multilabel or outputs.shape[1] > 1:
        return outputs
    return np.ones_like(outputs) if len(model.classes) == 1 else np.hstack([1 - outputs, outputs])


# --- MNIST -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("name", ["dense", "lenet"])
def test_all_test_images_get_the_same_labels_in_float32(path, trained, mnist, name, compiler):
    model, test = trained[name], mnist[1]
    assert export_c(path, model, rows=test.images[:50]).input_dtype == "uint8"
    probabilities, labels = predicted(path, model, test.images, compiler, FAST)
    expected = reference.predict_proba(model.network, test.images)
    np.testing.assert_array_equal(labels, expected.argmax(axis=1))
    np.testing.assert_allclose(probabilities, expected, rtol=0, atol=1e-5)
    assert np.mean(labels == test.labels) > 0.92
    sanitized, _ = predicted(path, model, test.images[:50], compiler)
    np.testing.assert_allclose(sanitized, expected[:50], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["dense", "lenet"])
def test_int8_keeps_the_accuracy_in_a_quarter_of_the_size(path, trained, mnist, name):
    model, (train, test) = trained[name], mnist
    full = export_c(path, model)
    small = export_c(path, model, dtype="int8", rows=train.images[20_000:20_600])
    assert small.weight_bytes < 0.27 * full.weight_bytes
    assert small.scratch_bytes < 0.54 * full.scratch_bytes
    probabilities, labels = predicted(path, model, test.images, COMPILERS[-1], FAST)
    expected = reference.predict_proba(model.network, test.images)
    accuracy, usual = np.mean(labels == test.labels), np.mean(expected.argmax(axis=1) == test.labels)
    assert abs(accuracy - usual) < 0.003
    assert np.abs(probabilities - expected).mean() < 0.002
    assert abs(small.same - np.mean(labels == expected.argmax(axis=1))) < 0.01
    assert small.n_compared == 300
    sanitized, _ = predicted(path, model, test.images[:50], COMPILERS[0])
    assert np.abs(sanitized - probabilities[:50]).max() < 0.05
    # The same integers in NumPy: only a value halfway between two levels may fall on the other side.
    simulated = quantized(model, train.images[20_000:20_600], True).outputs(test.images[:200])
    distance = np.abs(probabilities[:200] - simulated).max(axis=1)
    assert (distance < 1e-6).mean() > 0.9
    assert distance.max() < 0.05


def quantized(model, rows, has_pixels=False):
    return int8.quantize(model.network, steps_of(model.network), rows, has_pixels=has_pixels)


def test_ranges_come_from_some_rows_and_are_compared_on_others(trained, mnist):
    model, images = trained["dense"], mnist[0].images[:400].astype(np.float32)
    found = quantized(model, images)
    assert found.n_compared == 200
    assert found.clipped in int8.CLIPPED
    changed = images.copy()
    changed[::2] *= 2  # those of the ranges
    changed[1, 0] = 255  # one of the others
    assert quantized(model, changed[:2]).steps[0].inp.scale == pytest.approx(2 * images[0].max() / 255**2, rel=0.05)
    # With one value far out, its range has coarser levels than a range without it.
    images[0, 0] = 1e5
    assert quantized(model, images).clipped > 0


# --- Networks of all kinds -------------------------------------------------------------------------------------------
NETWORKS = {
    **{name: ("softmax", (5,), [Dense(6, name), Dense(4, name)], None) for name in ACTIVATIONS},
    **{f"mixed, {kind}": (kind, (5,), MIXED, None) for kind in ANSWERS},
    **{f"no hidden layers, {kind}": (kind, (5,), [], None) for kind in ANSWERS},
    **{name: ("identity", shape, layers, None) for name, (shape, layers) in IMAGES.items()},
    "one input, one unit": ("binary", (1,), [Dense(1, "tanh")], None),
    "only batch normalisation": ("identity", (2,), [BatchNorm()], BatchNorm()),
    "only batch normalisation, softmax": ("softmax", (4,), [BatchNorm("relu")], BatchNorm()),
    "batch normalisation first and last": ("numbered", (5,), [BatchNorm(), Dense(3)], BatchNorm()),
    "batch normalisation folded twice": ("softmax", (5,), [Dense(6, "identity"), BatchNorm(), BatchNorm("relu")], None),
    "channels normalised first": ("softmax", (3, 4, 5), [BatchNorm("elu"), Conv2D(2, 3, padding=1, stride=2)], None),
    "ends in an image": ("identity", (1, 3, 4), [Conv2D(2, 2)], Conv2D(1, (2, 2))),
    "ends in a pool": ("softmax", (4, 5, 6), [MaxPool2D(2, padding=1), Conv2D(4, 3)], AvgPool2D((1, 2))),
    "ends in the largest number": ("softmax", (4, 5, 6), [Conv2D(4, (4, 5), activation="gelu")], MaxPool2D((2, 2))),
    "pools with activations": ("softmax", (2, 9, 9), [
        Conv2D(3, 3, activation="identity"), MaxPool2D(3, stride=2, activation="relu"),
        AvgPool2D(2, stride=1, padding=1, activation="silu"),
    ], None),
    "a window wider than the image": ("softmax", (1, 1, 2), [Conv2D(3, (3, 4), stride=(2, 3), padding=(1, 3))], None),
}  # fmt: skip


def network_named(name, dtype="float32"):
    kind, shape, layers, last = NETWORKS[name]
    return made(kind, layers=layers, shape=shape, last=last, dtype=dtype)


@pytest.mark.parametrize(("name", "dtype"), [
    *((name, "float32") for name in NETWORKS), ("strided and padded", "float64"), ("mixed, softmax", "float64"),
])  # fmt: skip
def test_a_network_of_any_kind_computes_what_the_formulas_say(path, name, dtype):
    model = network_named(name, dtype)
    rows = np.random.default_rng(1).normal(0, 4, (300, model.network.n_inputs)).astype(np.float32)
    export_c(path, model)
    expected = with_classes(model, in_float64(model.network, rows))
    for compiler in COMPILERS:
        found, labels = predicted(path, model, rows, compiler)
        scale = max(1, np.abs(expected).max())
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * scale)
        if model.classes is not None and not model.is_multilabel:
            np.testing.assert_array_equal(labels, found.argmax(axis=1))


@pytest.mark.parametrize("name", [name for name in NETWORKS if not name.startswith("only batch")])
def test_a_network_of_any_kind_computes_in_integers(path, name):
    model = network_named(name)
    rows = np.random.default_rng(1).normal(0, 4, (600, model.network.n_inputs)).astype(np.float32)
    export_c(path, model, dtype="int8", rows=rows)
    simulated = with_classes(model, quantized(model, rows).outputs(rows))
    expected = with_classes(model, in_float64(model.network, rows))
    found, labels = predicted(path, model, rows, COMPILERS[-1])
    scale = max(1, np.abs(expected).max())
    assert (np.abs(found - simulated).max(axis=1) < 1e-5 * scale).mean() > 0.95
    assert np.abs(found - expected).mean() < 0.03 * scale
    if model.classes is not None and not model.is_multilabel:
        np.testing.assert_array_equal(labels, found.argmax(axis=1))


@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize("input_dtype", INPUT_DTYPES)
@pytest.mark.parametrize("is_uniform", [False, True])
def test_inputs_are_standardised_in_double(path, dtype, input_dtype, is_uniform):
    """The means are far larger than the deviations: float would lose the digits that count."""
    rng = np.random.default_rng(3)
    rows = rng.integers(0, 256, (200, 6)).astype(np.uint8)
    mean = np.full(6, 130.0) if is_uniform else rng.uniform(100, 150, 6)
    if input_dtype == "float32":
        rows, mean = (rows / 255 + 9000).astype(np.float32), mean / 255 + 9000
    scale = np.full(6, 3.0) if is_uniform else 1 / rows.std(axis=0, dtype=np.float64)
    network = Network.initialize((6, 8, 3), input_scale=fastnn.Standardization(mean, scale / 10))
    model = Model.for_network(network)
    export_c(path, model, dtype=dtype, rows=rows, input_dtype=input_dtype)
    found, _ = predicted(path, model, rows, COMPILERS[0])
    distance = np.abs(found - reference.predict_proba(network, rows))
    assert distance.max() < 1e-5 if dtype == "float32" else distance.mean() < 0.01


def test_every_layer_and_every_activation_has_c():
    assert {type(layer) for _, _, layers, last in NETWORKS.values() for layer in (*layers, last or Dense(1))} == set(
        LAYERS.values()
    )
    assert all(row.c for row in ACTIVATIONS.values())


def test_an_activation_of_ones_own_needs_a_formula(path, monkeypatch):
    row = Activation(
        forward=lambda inp: inp / (1 + abs(inp)), derivative=lambda inp: 1 / (1 + abs(inp)) ** 2, needs="input",
        formula="x /* or */ x", derivative_formula="", onnx=lambda graph, name: name, c="x / (1.0f + fabsf(x))",
    )  # fmt: skip
    monkeypatch.setitem(ACTIVATIONS, "soft sign", row)
    model = made(activation="soft sign")
    rows = np.random.default_rng(1).normal(0, 4, (50, 5)).astype(np.float32)
    export_c(path, model)
    found, _ = predicted(path, model, rows, COMPILERS[0])
    np.testing.assert_allclose(found, reference.predict_proba(model.network, rows), rtol=0, atol=1e-5)
    monkeypatch.setitem(ACTIVATIONS, "soft sign", row._replace(c=None))
    assert "the activation soft sign has no formula in C" in refused(path, model)


# --- The sums of integers --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("layers", [[Dense(30)], [Conv2D(30, (1, 3))], [AvgPool2D((1, 3))]])
def test_no_inputs_give_a_larger_sum_than_stated(layers):
    """The worst row of each unit has the level furthest from zero, with the sign of each weight."""
    shape = (2, 1, 3) if not isinstance(layers[0], Dense) else (6,)
    model = made(layers=layers, shape=shape)
    rows = np.random.default_rng(1).normal(0, 4, (100, 6)).astype(np.float32)
    _, inp, _, weight, bias, _, largest = quantized(model, rows).steps[0]
    if weight is None:
        weight, bias = np.ones((3, 1), np.int8), np.zeros(1, np.int32)
    weight = weight.astype(np.int64).reshape(-1, weight.shape[-1])
    low, high = int8.LOW - inp.zero, int8.HIGH - inp.zero
    tops = np.maximum(weight * low, weight * high).sum(axis=0) + bias
    bottoms = np.minimum(weight * low, weight * high).sum(axis=0) + bias
    worst = max(tops.max(), -bottoms.min())
    assert worst <= largest <= 2**31 - 1
    assert largest < 2.1 * worst


def test_a_sum_that_int32_may_not_hold_is_refused(path):
    network = Network([np.ones((70_000, 2))], [np.zeros(2)], output="identity")
    rows = np.eye(3, 70_000, dtype=np.float32)
    message = refused(path, network, dtype="int8", rows=rows)
    assert "layer 1: a sum may reach 2266950000, expected at most 2147483647 for int8: use float32" in message
    export_c(path, network.like([np.ones((70_000, 2)) * (np.arange(70_000)[:, None] < 66_000)], network.biases),
             dtype="int8", rows=rows)  # fmt: skip


@pytest.mark.parametrize("change", ["no weights", "large bias", "constant inputs"])
def test_ranges_of_zeros_and_large_biases(path, change):
    model = made(layers=[Dense(3)])
    weights, biases = list(model.network.weights), list(model.network.biases)
    rows = np.random.default_rng(1).normal(0, 4, (100, 5)).astype(np.float32)
    if change == "no weights":
        weights[0] = weights[0] * 0
    elif change == "large bias":
        biases[0] = biases[0] * 1e9
    else:
        rows[:] = 0
    model = Model(model.network.like(weights, biases), model.classes)
    export_c(path, model, dtype="int8", rows=rows)
    found, _ = predicted(path, model, rows, COMPILERS[0])
    np.testing.assert_allclose(found, reference.predict_proba(model.network, rows), rtol=0, atol=0.02)


# --- Names and answers -----------------------------------------------------------------------------------------------
HOSTILE = (
    'a "quoted" \\ name', "two\nlines\r\t", "??/ ??=", "*/ int x; /*", "// \\", "ç 🙂 \u202e", "x" * 900 + "🙂" * 100,
    "%d %s", "", "7\x018", "name_a NAME_B",
)  # fmt: skip


def class_names(path, count, compiler, prefix="model"):
    """Return what the function of names returns for the numbers from -1 on, as bytes."""
    path.with_name("names.c").write_text(
        f'#include "{path.name}"\n#include <stdio.h>\nint main(void)\n{{\n'
        f"    for (int i = -1; i <= {count}; i++) {{\n        const char *name = {prefix}_class_name(i);\n"
        '        fputs(name ? name : "none", stdout);\n        fputc(0, stdout);\n    }\n    return 0;\n}\n'
    )
    program = compiled(path, compiler, source="names.c")
    return subprocess.run([program], capture_output=True, check=True).stdout.split(b"\0")[:-1]


@pytest.mark.parametrize("compiler", COMPILERS)
def test_names_of_any_characters_are_kept(path, compiler):
    network = Network.initialize((2, len(HOSTILE)))
    model = Model(network, HOSTILE, unknown=(0.5, "??' unknown */"), feature_names=("*/", '"'))
    export_c(path, model)
    text = path.read_bytes()
    assert text.isascii()
    assert b"??" not in text
    found = class_names(path, len(HOSTILE) + 1, compiler)
    assert found == [b"none", *(name.encode() for name in HOSTILE), b"??' unknown */", b"none"]
    assert self_test(path, compiler).returncode == 0


@pytest.mark.parametrize("classes", [(1, -2), (0.5, 2.0), (False, True)])
def test_classes_that_are_no_texts_have_their_text(path, classes):
    export_c(path, Model(Network.initialize((2, 2)), classes))
    assert class_names(path, 1, COMPILERS[0])[1:3] == [str(each).encode() for each in classes]


@pytest.mark.parametrize(("file", "prefix"), [
    ("my digits-v2.c", "my_digits_v2"), ("784.c", "model_784"), ("_x.c", "x"), ("int.c", "int"), ("été.c", "t"),
    ("ü.c", "model"), ("a" * 60 + ".c", "a" * 40), ("--.c", "model"),
])  # fmt: skip
def test_the_prefix_is_made_of_the_files_name(tmp_path, file, prefix):
    path = tmp_path / file
    assert export_c(path, made()).name == prefix
    assert class_names(path, 0, COMPILERS[0], prefix)[1] == b"a"


def test_every_name_of_the_file_has_the_prefix(path, trained, mnist):
    export_c(path, trained["lenet"], dtype="int8", rows=mnist[1].images[:20], name="Sieben")
    compiled(path, COMPILERS[0], [*STRICT, "-O2", "-fno-pie", "-c"])
    symbols = subprocess.run(["nm", path.with_suffix(f".{COMPILERS[0]}")], capture_output=True, text=True, check=True)
    own = {line.split()[-1] for line in symbols.stdout.splitlines() if line.split()[-2] != "U"}
    assert {name for name in own if "." not in name and not name.startswith("Sieben_")} == set()
    visible = {line.split()[-1] for line in symbols.stdout.splitlines() if line.split()[-2] == "T"}
    assert visible == {"Sieben_predict", "Sieben_predict_with", "Sieben_class_name"}
    # Nothing is written but the caller's memory.
    assert not [line for line in symbols.stdout.splitlines() if line.split()[-2] in "bBdDC"]


def test_two_files_are_declared_in_a_third(path, tmp_path):
    for name in ("one", "two"):
        export_c(tmp_path / f"{name}.c", made(unknown=(0.3, "?")))
    path.write_text(
        '#define ONE_DECLARATIONS\n#define TWO_DECLARATIONS\n#include "one.c"\n#include "two.c"\n'
        "int main(void)\n{\n    const float row[ONE_INPUTS] = {0};\n    float a[ONE_CLASSES], b[TWO_CLASSES];\n"
        "    static one_scratch scratch;\n"
        "    return one_predict_with(row, a, &scratch) != two_predict(row, b) || ONE_UNKNOWN != 4;\n}\n"
    )
    program = compiled(path, COMPILERS[0], [*SANITIZED, "one.c", "two.c"])
    assert subprocess.run([program], check=False).returncode == 0


@pytest.mark.skipif(not shutil.which("g++"), reason="there is no C++ compiler")
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_the_file_is_cplusplus_too(path, trained, mnist, dtype):
    export_c(path, trained["lenet"], dtype=dtype, rows=mnist[1].images[:100])
    flags = ["-x", "c++", "-std=c++11", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    assert self_test(path, "g++", flags).returncode == 0


@pytest.mark.parametrize("kind", ["softmax", "numbered", "binary"])
def test_the_answer_is_unknown_below_the_threshold(path, kind):
    rows = np.random.default_rng(2).normal(0, 4, (300, 5)).astype(np.float32)
    model = made(kind)
    known = with_classes(model, in_float64(model.network, rows))
    threshold = float(np.median(known.max(axis=1)))
    model = made(kind, unknown=(threshold, -1 if kind == "numbered" else "?"))
    export_c(path, model)
    found, labels = predicted(path, model, rows, COMPILERS[0])
    unsure = found.max(axis=1) < np.float32(threshold)
    assert 100 < unsure.sum() <= 151
    np.testing.assert_array_equal(labels, np.where(unsure, len(model.classes), found.argmax(axis=1)))


def test_a_tie_is_the_first_class(path):
    model = Model.for_network(Network([np.ones((2, 3))], [np.zeros(3)]))
    export_c(path, model)
    assert predicted(path, model, np.ones((1, 2), np.float32), COMPILERS[0])[1].tolist() == [0]


# --- The self-test ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("flags", "dtype"), [
    ("-O3 -march=native", "float32"), ("-O3 -march=native", "int8"), ("-Os", "int8"), ("-O3 -ffast-math", "float32"),
])  # fmt: skip
def test_the_self_test_finds_a_wrong_weight(path, trained, mnist, flags, dtype):
    export_c(path, trained["lenet"], dtype=dtype, rows=mnist[1].images[:200])
    flags, compiler = ["-std=c99", *flags.split()], COMPILERS[-1]
    assert self_test(path, compiler, flags).returncode == 0
    text = path.read_text()
    start = text.index("_bias_7[10] = {\n") + len("_bias_7[10] = {\n")
    first = text[start:].split(",")[0].strip()
    path.write_text(text[:start] + text[start:].replace(first, "-9999999" if dtype == "int8" else "3.5f", 1))
    assert self_test(path, compiler, flags).returncode == 1


def test_the_self_test_has_the_rows_that_were_given(path):
    rows = np.arange(50, dtype=np.float32).reshape(10, 5)
    export_c(path, made(), rows=rows)
    assert "model_test_rows[8][5]" in path.read_text()
    export_c(path, made(), rows=scipy.sparse.csr_array(rows[:3]))
    assert "model_test_rows[3][5]" in path.read_text()
    assert self_test(path).returncode == 0


def test_equal_models_give_equal_files(path, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        export_c(tmp_path / name / "model.c", made(unknown=(0.5, "?")))
    assert (tmp_path / "a/model.c").read_bytes() == (tmp_path / "b/model.c").read_bytes()


def test_a_network_is_exported_like_its_saved_model(path, tmp_path):
    network = made().network
    fastnn.save(tmp_path / "saved", network)
    export_c(path, fastnn.load(tmp_path / "saved"))
    expected = path.read_bytes()
    export_c(path, network)
    assert path.read_bytes() == expected


# --- Errors ----------------------------------------------------------------------------------------------------------
LARGE = Network([np.full((5, 2), 1e30)], [np.zeros(2)], output="identity", layers=[Dense(2)])


@pytest.mark.parametrize(("model", "options", "error", "part"), [
    (made(), {"dtype": "int4"}, SettingsError, "dtype is 'int4' (did you mean int8?), expected one of float32, int8"),
    (made(), {"dtype": "int8"}, SettingsError, "rows is None, expected typical rows"),
    (made(), {"input_dtype": "float64"}, SettingsError, "input_dtype is 'float64' (did you mean float32?)"),
    (made(), {"name": "7up"}, SettingsError, "name is '7up', expected letters, digits and _, with a letter first"),
    (made(), {"name": "a-b"}, SettingsError, "name is 'a-b'"),
    (made(), {"name": ""}, SettingsError, "name is ''"),
    (made(), {"name": "é"}, SettingsError, "name is 'é'"),
    (made(), {"name": "a\n"}, SettingsError, "name is 'a\\n'"),
    (made(), {"rows": np.ones((3, 4))}, DataError, "(3, 4), expected (samples, 5)"),
    (made(), {"rows": np.ones((0, 5))}, DataError, "no samples"),
    (made(), {"rows": np.full((3, 5), np.nan)}, DataError, "NaN or infinity"),
    (made(), {"rows": np.full((3, 5), 0.5), "input_dtype": "uint8"}, DataError, "whole numbers from 0 to 255"),
    (Model(made().network, None), {}, DataError, "classes are None, expected a list"),
    (Model(made().network, ("a", "b", "c", "d\0e")), {}, DataError, "expected none with the character 0"),
    (made("identity", layers=[BatchNorm()], shape=(2,), last=BatchNorm()), {"dtype": "int8", "rows": np.ones((3, 2))},
     DataError, "all layers are batch_norm"),
    (LARGE, {"rows": np.full((3, 5), 1e30)}, DataError, "an output differs by inf from the reference's"),
    (Network([np.full((5, 2), 1e200)], [np.zeros(2)]), {}, DataError, "layer 1: a weight or bias is too large"),
])  # fmt: skip
def test_invalid_models_and_arguments_are_refused(path, model, options, error, part):
    for old in (None, b"an old file"):
        if old:
            path.write_bytes(old)
        assert part in refused(path, model, kind=error, **options)


def test_another_kind_of_layer_is_refused_by_name(path):
    other = type("Other", (Dense,), {"kind": "other"})
    message = refused(path, made(layers=[other(3, "relu")]))
    assert "layer 1 is other, expected one of dense, batch_norm, conv2d, max_pool2d, avg_pool2d" in message


def test_a_program_that_differs_from_the_reference_is_not_written(path, monkeypatch):
    monkeypatch.setattr(c_source, "outputs_of", lambda *given: reference.predict_proba(*given[::2]) + 0.01)
    assert "in float32, an output differs by 0.01 from the reference's, expected at most 1e-05" in refused(path, made())


def test_a_path_that_cannot_be_written_is_an_error(path):
    with pytest.raises(FileError, match="cannot write"):
        export_c(path / "model.c", made())
