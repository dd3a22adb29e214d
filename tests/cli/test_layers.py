"""Tests of `fastnn train --layers`: what it trains and records, and every command with the model of such a run."""

import json

import numpy as np
import pytest
from PIL import Image

import fastnn
from fastnn.cli.command import main
from fastnn.network import AvgPool2D, BatchNorm, Conv2D, Dense, MaxPool2D

pytestmark = pytest.mark.usefixtures("undrawn_figures")
LAYERS = "conv:4x3:tanh,norm:relu,maxpool:2,conv:5x3same, avgpool:2x1s1,16"
WRITTEN = "conv:4x3:tanh,norm:relu,pool:2,conv:5x3p1,avgpool:2x1s1,16"
RUN = ["--recipe", "digits", "--epochs", "2", "--learning-rate", "0.05"]
QUIET = ["--backend", "numpy", "--quiet"]


def _train(*arguments, code=0):
    """Train; return the settings that the run recorded, or nothing if it is to fail."""
    try:
        found = main(["train", *map(str, arguments), *QUIET])
    except SystemExit as stop:
        found = stop.code
    assert found == code
    return json.loads((arguments[-1] / "report.json").read_text())["settings"] if code == 0 else {}


def _fails(arguments, words, capsys, code=2):
    capsys.readouterr()
    _train(*arguments, code=code)
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1), err
    for word in words:
        assert word in err


def _bytes(folder):
    return (folder / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run with layers for images."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    _train(*RUN, "--layers", LAYERS, "--out", folder)
    return folder


def test_the_layers_are_trained_and_recorded(run):
    network = fastnn.load(run).network
    assert network.layers == (
        Conv2D(4, 3, activation="tanh"),
        BatchNorm("relu"),
        MaxPool2D(2, activation="identity"),
        Conv2D(5, 3, padding=1, activation="relu"),
        AvgPool2D((2, 1), stride=1, activation="identity"),
        Dense(16, "relu"),
        Dense(10, "identity"),
    )
    assert network.shapes[0] == (1, 8, 8)
    settings = json.loads((run / "report.json").read_text())["settings"]
    assert (settings["layers"], settings["hidden"], settings["activation"]) == (WRITTEN, None, None)


def test_spaces_separate_layers_too(tmp_path):
    found = _train(*RUN, "--layers", "conv:4x3,", "pool:2", "16,8", "--epochs", "1", "--out", tmp_path / "run")
    assert found["layers"] == "conv:4x3,pool:2,16,8"


def test_the_activation_is_that_of_the_layers_that_name_none(tmp_path):
    layers = ["--layers", "conv:4x3,norm,pool,conv:3x2:gelu,9", "--activation", "tanh"]
    found = _train(*RUN, *layers, "--epochs", "1", "--out", tmp_path / "run")
    assert found["layers"] == "conv:4x3:tanh,norm,pool:2,conv:3x2:gelu,9:tanh"
    names = [layer.activation for layer in fastnn.load(tmp_path / "run").network.layers]
    assert names == ["tanh", "identity", "identity", "gelu", "tanh", "identity"]


def test_the_report_of_a_run_repeats_it_to_the_same_bits(run, tmp_path):
    settings = _train("--config", run, "--out", tmp_path / "again")
    assert _bytes(tmp_path / "again") == _bytes(run)
    assert settings == json.loads((run / "report.json").read_text())["settings"]
    found = _train("--config", run, "--layers", "conv:3x3,8", "--epochs", "1", "--out", tmp_path / "other")
    assert (found["layers"], found["hidden"]) == ("conv:3x3,8", None)
    found = _train("--config", run, "--hidden", "8", "--epochs", "1", "--out", tmp_path / "dense")
    assert (found["layers"], found["hidden"]) == (None, [8])
    found = _train("--config", tmp_path / "dense", "--layers", "norm,8:tanh", "--out", tmp_path / "back")
    assert (found["layers"], found["hidden"]) == ("norm,8:tanh", None)


@pytest.mark.parametrize("text", ['layers = "conv:4x3, pool:2,9:tanh"', 'layers = ["conv:4x3", "pool:2", "9:tanh"]'])
def test_a_settings_file_has_layers(text, tmp_path):
    (tmp_path / "run.toml").write_text(f'recipe = "digits"\nepochs = 1\n{text}\n')
    found = _train("--config", tmp_path / "run.toml", "--out", tmp_path / "run")
    assert found["layers"] == "conv:4x3,pool:2,9:tanh"


@pytest.mark.parametrize(("text", "words"), [
    ("layers = 'conv:4x3,pol:2'", ["layers is 'conv:4x3,pol:2': layers have 'pol:2' at character 10", "mean pool?"]),
    ("layers = ['conv:4x3', 'pol:2']", ["layers have 'pol:2' at character 10"]),
    ("layers = 'conv:4x3'\nhidden = [3]", ["hidden and layers are set, expected one of them"]),
    ("layers = [['conv:4x3']]", ["expected a list of values"]),
    ("layers = ''", ["layers are ''"]),
])  # fmt: skip
def test_wrong_layers_in_a_file_are_one_line(text, words, tmp_path, capsys):
    (tmp_path / "run.toml").write_text(text)
    _fails(["--config", tmp_path / "run.toml", "--out", tmp_path / "run"], ["run.toml: ", *words], capsys)


@pytest.mark.parametrize(("arguments", "words"), [
    (["--layers", "conv:6x5,cnov:3x3"], ["argument --layers: layers have 'cnov:3x3' at character 10", "mean conv?"]),
    (["--layers", "conv:6x5", "poll"], ["'poll' at character 10: 'poll' is no layer (did you mean pool?)"]),
    (["--layers"], ["argument --layers: expected at least one argument"]),
    (["--layers", "8", "--hidden", "8"], ["argument --hidden: not allowed with argument --layers"]),
    (["--layers", "conv:4x9"], ["layer 1: inputs of shape (1, 8, 8) come into conv2d 9x9, expected at least the size"]),
    (["--layers", "16,conv:4x3"], ["layer 2: inputs of shape (16,) come into conv2d 3x3", "dense layers last"]),
    (["--layers", "conv:4x3,16", "--activation", "tanh", "relu", "relu"], ["3 activations, expected one name, or one"]),
    (["--lyers", "16"], ["--lyers (did you mean --layers?)"]),
])  # fmt: skip
def test_wrong_layers_are_one_line(arguments, words, tmp_path, capsys):
    _fails([*RUN, *arguments, "--out", tmp_path / "run"], words, capsys)


def test_layers_for_images_need_an_image_shape(tmp_path, capsys):
    rng = np.random.default_rng(0)
    rows = ["label," + ",".join(f"p{k}" for k in range(30))]
    rows += [f"{k % 2}," + ",".join(map(str, rng.integers(0, 256, 30))) for k in range(40)]
    table = tmp_path / "table.csv"
    table.write_text("\n".join(rows) + "\n")
    common = ["--data", table, "--label", "label", "--layers", "conv:2x3,4", "--epochs", "1"]
    words = ["layers are conv:2x3,4, which need images", "table.csv", "has rows of 30 inputs without an image shape"]
    _fails([*common, "--out", tmp_path / "run"], [*words, "give image_shape (--image-shape HxW)"], capsys)
    _train(*common, "--image-shape", "5x6", "--out", tmp_path / "run")
    assert fastnn.load(tmp_path / "run").network.shapes[0] == (1, 5, 6)
    _train(*common[:4], "--layers", "norm,4", "--epochs", "1", "--out", tmp_path / "flat")  # no layer needs images
    assert fastnn.load(tmp_path / "flat").network.shapes[0] == (30,)


def test_a_run_with_layers_is_trained_further(run, tmp_path, capsys):
    common = ["--recipe", "digits", "--from", run, "--epochs", "1"]
    found = _train(*common, "--out", tmp_path / "more")
    assert (found["layers"], found["hidden"]) == (WRITTEN, None)
    assert fastnn.load(tmp_path / "more").network.layers == fastnn.load(run).network.layers
    _train("--config", tmp_path / "more", "--out", tmp_path / "again")
    assert _bytes(tmp_path / "again") == _bytes(tmp_path / "more")
    _fails([*common, "--layers", "conv:4x3,16", "--out", tmp_path / "no"], [
        "layers is 'conv:4x3,16', but the model of --from has", WRITTEN, "leave out --layers",
    ], capsys)  # fmt: skip


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_a_stopped_run_goes_on_to_the_same_bits(backend, tmp_path, capsys, stop_after, copies_after_every_batch):
    settings = [*RUN[:-2], "--optimizer", "adam", "--layers", LAYERS, "--quiet", "--backend", backend, "--out"]
    assert main(["train", *settings, str(tmp_path / "whole")]) == 0
    stop_after(60)  # in the middle of the second epoch
    assert main(["train", *settings, str(tmp_path / "part")]) == 130
    stop_after(0)
    resume = ["train", "--quiet", "--resume", str(tmp_path / "part")]
    capsys.readouterr()
    assert main([*resume, "--layers", "conv:4x3,16"]) == 2
    assert "conv" in capsys.readouterr().err
    assert main(resume) == 0
    assert _bytes(tmp_path / "part") == _bytes(tmp_path / "whole")


def test_every_command_takes_the_model(run, tmp_path, capsys):
    test = fastnn.get_recipe("digits").load(seed=0).test
    expected = fastnn.load(run).predict(test.images)
    table, picture = tmp_path / "rows.csv", tmp_path / "digit.png"
    np.savetxt(table, test.images[:20], fmt="%d", delimiter=",")
    Image.fromarray((test.images[0].reshape(8, 8) * 15.9).astype(np.uint8)).save(picture)
    accuracy = np.mean(expected == test.labels)

    def told(*arguments):
        capsys.readouterr()
        assert main([*map(str, arguments), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    assert [each["prediction"] for each in told("predict", run, "--data", table)] == expected[:20].tolist()
    assert len(told("predict", run, picture)) == 1
    assert told("evaluate", run)["accuracy"] == pytest.approx(accuracy)
    explained = told("explain", run, "--row", 0)
    assert explained["prediction"] == expected[0]
    assert [layer["kind"] for layer in explained["layers"]] == [layer.kind for layer in fastnn.load(run).network.layers]
    told("report", run, "--out", tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size > 10_000
    _train(*RUN, "--layers", "conv:3x3,8", "--out", tmp_path / "other")
    runs = told("compare", run, tmp_path / "other")["runs"]
    assert [each["settings"]["layers"] for each in runs] == [WRITTEN, "conv:3x3,8"]
    assert main(["compare", str(run), str(tmp_path / "other")]) == 0
    assert WRITTEN in capsys.readouterr().out
