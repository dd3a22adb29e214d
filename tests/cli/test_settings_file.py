"""Tests of --config, --from and a recipe on own data: a run is repeated to the same bits, and trained further."""

import json
import os

import numpy as np
import pytest

import fastnn
from fastnn import Network, TrainingConfig
from fastnn.cli.command import main
from fastnn.datasets.splits import split_files

pytestmark = pytest.mark.usefixtures("undrawn_figures")
QUIET = ["--backend", "numpy", "--quiet"]


def _train(*arguments, code=0):
    """Train; return the settings that the run recorded, or nothing if it is to fail."""
    try:
        found = main(["train", *map(str, arguments), *QUIET])
    except SystemExit as stop:
        found = stop.code
    assert found == code
    folder = arguments[arguments.index("--out") + 1]
    if code == 0:
        return json.loads((folder / "report.json").read_text())["settings"]
    assert not folder.exists()
    return {}


def _fails(arguments, words, capsys, code=2):
    capsys.readouterr()
    _train(*arguments, code=code)
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1), err
    for word in words:
        assert word in err


@pytest.fixture
def table(tmp_path):
    """A CSV of 90 rows, 3 columns of fractions and 3 classes by name."""
    rng = np.random.default_rng(4)
    rows = [f"{a:.3f},{b:.3f},{c:.3f},{'xyz'[i % 3]}" for i, (a, b, c) in enumerate(rng.normal(size=(90, 3)))]
    (tmp_path / "table.csv").write_text("\n".join(["a,b,c,kind", *rows]) + "\n")
    return tmp_path / "table.csv"


@pytest.mark.parametrize("arguments", [
    ["--recipe", "digits", "--epochs", "3", "--dropout", "0.1", "--seed", "5"],
    ["--recipe", "digits", "--hidden", "16", "8", "--activation", "tanh", "gelu", "--batch-size", "full"],
    ["--recipe", "digits", "--hidden", "8", "--epochs", "5", "--optimizer", "lbfgs"],
    ["--recipe", "digits", "--epochs", "2", "--initializer", "lecun", "--clip-value", "0.01"],
    ["--data", "table.csv", "--label", "kind", "--drop", "b", "--epochs", "3", "--patience", "2", "--dtype", "float64",
     "--class-weight", "x=2", "y=0.5"],
    ["--data", "table.csv", "--label", "1", "--drop", "kind", "--task", "regression", "--epochs", "2"],
])  # fmt: skip
@pytest.mark.parametrize("whole_folder", [True, False])
def test_the_report_of_a_run_repeats_it_to_the_same_bits(arguments, whole_folder, table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = _train(*arguments, "--out", tmp_path / "first")
    monkeypatch.chdir("/")
    config = tmp_path / "first" if whole_folder else tmp_path / "first" / "report.json"
    assert _train("--config", config, "--out", tmp_path / "again") == first
    model, again = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("first", "again"))
    assert model == again
    _train("--config", config, "--seed", "6", "--out", tmp_path / "other")
    assert (tmp_path / "other" / "model.safetensors").read_bytes() != model


def test_the_command_line_beats_the_file_which_beats_the_recipe(tmp_path):
    config = tmp_path / "run.toml"
    config.write_text('recipe = "digits"\nepochs = 2\nhidden = "16,8"\nlearning-rate = 0.2\ndtype = "float64"\n')
    found = _train("--config", config, "--epochs", "1", "--dtype", "float32", "--out", tmp_path / "run")
    expected = {"epochs": 1, "dtype": "float32", "hidden": [16, 8], "learning_rate": 0.2, "batch_size": 32}
    assert {name: found[name] for name in expected} == expected  # the batch size is the recipe's


def test_all_kinds_of_values_are_taken_from_a_file(table, tmp_path):
    """Dashes or underscores, one value or a list, files relative to the settings file."""
    (tmp_path / "run.toml").write_text(
        'data = "table.csv"\nactivation = ["tanh"]\nhidden = 7\nbatch_size = "full"\npatience = 3\n'
        'standardize = false\nepochs = 2\n[reading]\nlabel = "kind"\ndrop = "c"\n'
    )
    found = _train("--config", tmp_path / "run.toml", "--out", tmp_path / "run")
    expected = {"activation": "tanh", "hidden": [7], "batch_size": None, "early_stopping": 3, "standardize": False}
    assert {name: found[name] for name in expected} == expected
    assert found["files"] == [str(table)]
    assert fastnn.load(tmp_path / "run" / "model.safetensors").feature_names == ("a", "b")


@pytest.mark.parametrize(("text", "words"), [
    ("learnin-rate = 3", ["run.toml: 'learnin-rate' is no setting (did you mean learning-rate?)"]),
    ("[settings]\nepochs = 3", ["'settings' is no setting"]),
    ("json = true", ["'json' is no setting"]),
    ("epochs = 'many'", ["epochs"]),
    ("epochs = 0", ["epochs is 0, expected a whole number"]),
    ("hidden = ['a']", ["hidden is ['a']: found 'a', expected numbers of units"]),
    ("hidden = [[3]]", ["hidden is [[3]]: expected a list of values"]),
    ("dtype = 'float46'", ["dtype is 'float46'", "did you mean float64?"]),
    ("recipe = 3", ["recipe is 3: expected a string"]),
    ("recipe = 'digts'", ["did you mean digits?"]),
    ("standardize = 1", ["standardize is 1: expected true or false"]),
    ("dtype = ['float32', 'float64']", ["expected one value"]),
    ("optimizer = 'adm'", ["did you mean adam?"]),
    ("initializer = 'glorott'", ["initializer is 'glorott'", "did you mean glorot?"]),
    ("clip-norm = 1\nclip_value = 2", ["clip_norm is 1 and clip_value is 2, expected one of them"]),
])  # fmt: skip
def test_a_wrong_setting_in_a_file_is_one_line(text, words, tmp_path, capsys):
    (tmp_path / "run.toml").write_text(text)
    _fails(["--config", tmp_path / "run.toml", "--out", tmp_path / "run"], words, capsys)


def test_a_file_that_holds_no_settings_is_named(tmp_path, capsys):
    out = ["--out", tmp_path / "run"]
    for name, text, word in (
        ("a.toml", "epochs: 3", "TOML"), ("b.json", "{", "JSON"), ("c.json", "[]", "settings by name"),
        ("d.toml", b"\xff", "TOML"),
    ):  # fmt: skip
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        _fails(["--config", tmp_path / name, *out], [name, word], capsys, 1)
    _fails(["--config", tmp_path / "none.toml", *out], ["none.toml"], capsys, 1)
    os.mkdir(tmp_path / "folder")
    _fails(["--config", tmp_path / "folder", *out], ["report.json"], capsys, 1)


def test_a_saved_model_is_trained_further(table, tmp_path):
    """The first epoch of the second run continues where the first run ended, as one epoch of `fastnn.train` does."""
    data = ["--data", table, "--label", "kind", "--schedule", "constant", "--learning-rate", "0.0005"]
    _train(*data, "--hidden", "9", "--epochs", "40", "--out", tmp_path / "first")
    found = _train(*data, "--from", tmp_path / "first", "--epochs", "1", "--out", tmp_path / "more")
    assert found["hidden"] == [9]
    assert found["from"] == str(tmp_path / "first")
    losses = [
        json.loads((tmp_path / name / "report.json").read_text())["last_epoch"]["loss"] for name in ("first", "more")
    ]
    assert losses[1] < losses[0]
    start, after = (fastnn.load(tmp_path / name / "model.safetensors") for name in ("first", "more"))
    assert after.classes == start.classes
    moved = max(float(np.abs(a - b).max()) for a, b in zip(start.network.weights, after.network.weights, strict=True))
    assert 0 < moved < 0.02  # a few steps of Adam at a rate of about 0.001
    again = _train("--config", tmp_path / "more", "--out", tmp_path / "again")
    assert again == found
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (
        tmp_path / "more" / "model.safetensors"
    ).read_bytes()


def test_a_regression_is_trained_further(table, tmp_path):
    data = ["--data", table, "--label", "1", "--drop", "kind", "--task", "regression"]
    _train(*data, "--epochs", "30", "--out", tmp_path / "first")
    _train(*data, "--from", tmp_path / "first", "--epochs", "1", "--out", tmp_path / "more")
    first, more = (json.loads((tmp_path / name / "report.json").read_text()) for name in ("first", "more"))
    assert more["test_rmse"] == pytest.approx(first["test_rmse"], rel=0.1)


def test_other_classes_get_a_new_last_layer_and_frozen_layers_keep_their_bits(table, tmp_path, capsys):
    """Three classes become four, of which two are new; a run, its --config and its --resume draw the same new layer."""
    data = ["--data", table, "--label", "kind", "--hidden", "9", "7"]
    _train(*data, "--epochs", "3", "--out", tmp_path / "first")
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines[:60], *(f"{line}w" for line in lines[60:])]).replace("z", "v") + "\n")
    settings = ["--data", table, "--label", "kind", "--from", tmp_path / "first", "--seed", "4", "--frozen", "1"]
    capsys.readouterr()
    assert main(["train", *map(str, [*settings, "--epochs", "2", "--out", tmp_path / "more"]), *QUIET[:2]]) == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if "replaced" in line]
    found = f"fastnn: {table} has classes that the model does not have, such as 'v': "
    assert notes == [f"{found}the model's last layer is replaced by one of 6 outputs"]
    start, after = (fastnn.load(tmp_path / name / "model.safetensors") for name in ("first", "more"))
    assert after.classes == ("v", "vw", "x", "xw", "y", "yw")
    assert (after.network.weights[0] == start.network.weights[0]).all()
    assert (after.network.weights[1] != start.network.weights[1]).any()
    found = json.loads((tmp_path / "more" / "report.json").read_text())["settings"]
    assert (found["frozen"], found["hidden"]) == (1, [9, 7])
    assert _train("--config", tmp_path / "more", "--out", tmp_path / "again") == found
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (
        tmp_path / "more" / "model.safetensors"
    ).read_bytes()
    longer = [*settings, "--schedule", "constant"]
    _train(*longer, "--epochs", "4", "--out", tmp_path / "whole")
    _train(*longer, "--epochs", "2", "--out", tmp_path / "part")
    _resume(tmp_path / "part", "--epochs", "4")
    parts = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "part")]
    assert parts[0] == parts[1]


def _resume(folder, *arguments):
    assert main(["train", "--resume", str(folder), *arguments, *QUIET]) == 0


def test_a_model_that_does_not_fit_is_refused(table, tmp_path, capsys):
    data, out = ["--data", table, "--label", "kind", "--epochs", "1"], ["--out", tmp_path / "run"]
    _train(*data, "--hidden", "9", "--out", tmp_path / "first")
    start = [*data, "--from", tmp_path / "first", *out]
    _fails([*start, "--hidden", "8"], ["hidden is [8], but the model of --from has [9]"], capsys)
    _fails([*start, "--initializer", "he"], ["initializer is 'he', but --from has a network with weights"], capsys)
    _fails([*start, "--activation", "tanh"], ["activation is 'tanh', but the model of --from has 'relu'"], capsys)
    _fails([*start, "--dtype", "float64"], ["dtype is 'float64'", "'float32'"], capsys)
    _fails(["--from", tmp_path / "first", "--recipe", "digits", *out], ["8x8 digits"], capsys, 1)
    _fails([*start, "--label", "1", "--drop", "kind", "--task", "regression"], ["predicts classes"], capsys, 1)
    _fails([*start, "--frozen", "2"], ["frozen is 2, expected at most 1 of the 2 layers with weights"], capsys)
    _fails([*data, "--frozen", "1", *out], ["--frozen is for --from MODEL"], capsys)
    _train(*data, "--hidden", "--out", tmp_path / "flat")
    table.write_text(table.read_text().replace(",z", ",w"))
    _fails(
        [*data, "--from", tmp_path / "flat", *out], ["such as 'w', and Network(", "no layer before the last"], capsys
    )
    table.write_text(table.read_text().replace("a,b,c", "a,b,d"))
    _fails(start, ["lacks the columns ['c'] of the model"], capsys, 1)
    _fails([*data, "--from", table, *out], ["is no fastnn model file"], capsys, 1)


def test_a_recipe_lends_its_settings_to_own_data(table, tmp_path):
    found = _train("--recipe", "decay", "--data", table, "--label", "kind", "--epochs", "1", "--out", tmp_path / "run")
    assert (found["recipe"], found["hidden"], found["schedule"]) == ("decay", [64], "inverse-time:0.2")
    assert found["files"] == [str(table)]


def test_lbfgs_takes_what_it_needs_and_refuses_the_rest_by_name(table, tmp_path, capsys):
    data, out = (
        ["--data", table, "--label", "kind", "--hidden", "4", "--optimizer", "lbfgs"],
        ["--out", tmp_path / "run"],
    )
    found = _train(*data, "--epochs", "9", "--patience", "4", *out)
    expected = {"optimizer": "lbfgs", "batch_size": None, "schedule": "constant", "learning_rate": None, "epochs": 9}
    assert {name: found[name] for name in expected} == expected
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["last_epoch"]["learning_rate"] is None
    assert not (tmp_path / "run" / "checkpoint.safetensors").exists()
    assert main(["train", "--resume", str(tmp_path / "run"), *QUIET]) == 2
    assert "lbfgs, which has no checkpoints; --config RUN" in capsys.readouterr().err
    for name, value in (("batch-size", "8"), ("dropout", "0.1"), ("schedule", "cosine"), ("clip-norm", "1")):
        words = [f"{name.replace('-', '_')} is", "with L-BFGS, expected"]
        _fails([*data, f"--{name}", value, "--out", tmp_path / "other"], words, capsys)


def test_class_weights_are_those_of_the_function(table, tmp_path, capsys):
    """The run is the one of `fastnn.train` with the same sample weights."""
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines[:70], *(line for line in lines[70:] if line.endswith("x"))]) + "\n")
    data = ["--data", table, "--label", "kind", "--hidden", "5", "--epochs", "3"]
    plain = _train(*data, "--out", tmp_path / "plain")
    _train(*data, "--class-weight", "balanced", "--out", tmp_path / "run")
    splits = split_files([str(table)], 0, label="kind")
    network = Network.for_data(splits.train, (5,), standardize=True, seed=0)
    config = TrainingConfig.from_dict({name: plain[name] for name in TrainingConfig().to_dict()})
    weight = fastnn.class_weights(splits.train)
    expected = fastnn.train(network, splits.train, validation=splits.validation, sample_weight=weight, config=config)
    for folder, is_same in (("run", True), ("plain", False)):
        found = fastnn.load(tmp_path / folder / "model.safetensors").network
        assert np.array_equal(found.weights[0], expected.network.weights[0]) == is_same
    out = ["--out", tmp_path / "other"]
    for given, words in (
        (["cat=2"], ["name 'cat', which is no class"]), (["x=-1"], ["weight of class 'x' is -1"]),
        (["x"], ["--class-weight is 'x', expected balanced, or CLASS=NUMBER"]), (["x=two"], ["is 'x=two'"]),
    ):  # fmt: skip
        _fails([*data, "--class-weight", *given, *out], words, capsys)
    numbers = ["--data", table, "--label", "1", "--drop", "kind", "--task", "regression"]
    _fails([*numbers, "--class-weight", "balanced", *out], ["labels are numbers"], capsys)
