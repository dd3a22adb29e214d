"""Tests of the recipes for images: their networks, and whole runs on a few hundred images."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import fastnn
from fastnn import Network
from fastnn.cli.command import main
from fastnn.network.layers import format_layers, parse_layers
from fastnn.runs import recipes
from fastnn.runs.recipes import RECIPES, get_recipe

NETWORKS = {
    "lenet": (44_426, ((1, 28, 28), (6, 24, 24), (6, 12, 12), (16, 8, 8), (16, 4, 4), (120,), (84,), (10,))),
    "fast": (215_194, ((1, 28, 28), (24, 24, 24), (24, 12, 12), (32, 10, 10), (32, 5, 5), (256,), (10,))),
    "simard-2003": (636_010, ((784,), (800,), (10,))),
    "ciresan-2010": (3_184_010, ((784,), (1500,), (1000,), (500,), (10,))),
    "permutation-invariant": (1_416_760, ((784,), *([(1000,)] * 2), *([(500,)] * 2), *([(250,)] * 2), (10,))),
    "tiny": (7_090, ((1, 28, 28), (10, 24, 24), (10, 12, 12), (20, 10, 10), (20, 5, 5), (10,))),
    "one-minute": (215_194, ((1, 28, 28), (24, 24, 24), (24, 12, 12), (32, 10, 10), (32, 5, 5), (256,), (10,))),
    "ten-minutes": (317_066, ((1, 28, 28), (32, 24, 24), (32, 12, 12), (64, 8, 8), (64, 4, 4), (256,), (10,))),
}
HELD_OUT = {name: 5_000 if name in ("lenet", "fast") else 1_000 for name in NETWORKS}


@pytest.fixture
def few_images(monkeypatch, mnist):
    """The first 360 training images of MNIST and 100 of its test images take the place of all of them."""
    # A split reorders the images in place, so each run has its own.
    few = lambda: (mnist[0].take(np.arange(360)), mnist[1].take(np.arange(100)))  # noqa: E731
    monkeypatch.setattr(recipes, "load_mnist", few)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_network_of_a_recipe_has_its_parameters_and_shapes(name, mnist):
    network = Network.for_data(mnist[0], get_recipe(name).hidden_layers)
    assert (network.n_parameters, network.shapes) == NETWORKS[name]
    assert network.input_scale == 1 / 255


def test_the_layers_of_recipes_are_in_the_form_of_reports():
    for recipe in RECIPES.values():
        assert bool(recipe.layers) != bool(recipe.hidden)
        if recipe.layers:
            assert format_layers(parse_layers(recipe.layers)) == recipe.layers
        else:
            assert recipe.hidden_layers == recipe.hidden


def test_an_activation_after_the_pool_is_the_same_function(mnist):
    """The recipe `fast` has ReLU after its pools, where a quarter of the numbers is left."""
    before = "conv:24x5,pool:2,conv:32x3,pool:2,256"
    networks = [Network.for_data(mnist[0], parse_layers(text), seed=3) for text in (before, get_recipe("fast").layers)]
    own = networks[0].like(networks[1].weights, networks[1].biases)
    rows = mnist[0].images[:20]
    backend = fastnn.get_backend("numpy")
    np.testing.assert_array_equal(backend.predict_proba(own, rows), backend.predict_proba(networks[1], rows))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_test_images_are_no_part_of_training(name, mnist):
    train, validation, test = get_recipe(name).load(seed=0)
    assert (len(train), len(validation), len(test)) == (60_000 - HELD_OUT[name], HELD_OUT[name], 10_000)
    assert test.digest() == mnist[1].digest()


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_recipe_trains_and_its_report_repeats_it(name, backend, few_images, undrawn_figures, tmp_path, capsys):
    common = ["train", "--epochs", "2", "--backend", backend, "--quiet"]
    assert main([*common, "--recipe", name, "--out", str(tmp_path / "run")]) == 0
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    recipe = get_recipe(name)
    assert report["settings"]["layers"] == (recipe.layers or None)
    assert report["settings"]["optimizer"] == recipe.config.to_dict()["optimizer"]
    assert report["settings"]["learning_rate"] == recipe.config.learning_rate
    assert report["settings"]["augment"] == recipe.config.to_dict()["augment"]
    n_train = 360 - round(360 * recipe.held_out)
    assert (report["data"]["train"]["samples"], report["data"]["test"]["samples"]) == (n_train, 100)
    assert f"{NETWORKS[name][0]:,} parameters" in capsys.readouterr().out
    for arguments in (["--config", tmp_path / "run"], ["--config", tmp_path / "run" / "report.json"]):
        again = tmp_path / arguments[1].name.replace(".json", "")
        assert main([*common, *map(str, arguments), "--out", f"{again}-again"]) == 0
        model = (tmp_path / f"{again.name}-again" / "model.safetensors").read_bytes()
        assert model == (tmp_path / "run" / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def few_in_a_file(tmp_path_factory, mnist):
    """An NPZ file of a few hundred training and test images."""
    path = tmp_path_factory.mktemp("data") / "few.npz"
    parts = {}
    for kind, data, count in (("train", mnist[0], 300), ("test", mnist[1], 60)):
        parts[f"x_{kind}"] = data.images[:count].reshape(-1, 28, 28)
        parts[f"y_{kind}"] = data.labels[:count]
    np.savez(path, **parts)
    return path


def _command(path, folder):
    settings = ["--recipe", "lenet", "--epochs", "2", "--backend", "numpy"]
    return [sys.executable, "-m", "fastnn", "train", *settings, "--data", str(path), "--out", str(folder)]


def test_a_recipe_trains_in_a_pipe(few_in_a_file, tmp_path):
    result = subprocess.run(_command(few_in_a_file, tmp_path / "run"), capture_output=True, text=True, check=True)
    assert "Network(1x28x28 -> conv 5x5 6x24x24 relu -> max pool 2x2 6x12x12 -> " in result.stdout
    assert "accuracy" in result.stdout
    assert result.stderr.count("epoch ") == 2
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"model.safetensors", "report.json", "history.csv", "curves.png", "confusion.png", "mistakes.png"} <= names


@pytest.mark.skipif(os.name == "nt", reason="pseudo-terminals")
def test_a_recipe_trains_in_a_terminal(few_in_a_file, tmp_path):
    import pty

    leader, follower = pty.openpty()
    command = _command(few_in_a_file, tmp_path / "run")
    with subprocess.Popen(command, stdout=follower, stderr=follower, stdin=follower) as process:
        os.close(follower)
        shown = b""
        while True:
            try:
                shown += os.read(leader, 4096)
            except OSError:  # the other end is closed
                break
        assert process.wait() == 0
    os.close(leader)
    text = shown.decode()
    assert "epoch 2/2" in text
    assert "\r" in text.partition("epoch 2/2")[0]
    assert "44,426 parameters" in text
