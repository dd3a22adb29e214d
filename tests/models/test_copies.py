"""Predictions averaged over changed copies of each image, in Python and by the command."""

import json
import math

import numpy as np
import pytest

import fastnn
from fastnn import Augment, Copies, DataError, Ensemble, Model, Network, SettingsError
from fastnn.backends import reference
from fastnn.cli.command import main
from fastnn.evaluation.evaluate import evaluate_model
from fastnn.randomness import augmentation_key
from tests.files.models import in_float64

DATA = fastnn.load_digits()
AUGMENT = "shift=1,rotate=10,noise=0.05"


def model(seed=0, **settings):
    return Model.for_data(Network.for_data(DATA, (16,), seed=seed, **settings), DATA)


def versions(images, count, augment, seed=0, levels=(0, 16)):
    """The image itself and its changed copies, made here one by one."""
    yield images
    for copy in range(1, count):
        key, rows = augmentation_key(seed, copy), np.arange(len(images))
        distortion = Augment(**augment).draw((8, 8), key, rows, levels)
        one_by_one = [
            reference.distort(images, rows[row : row + 1], distortion.part(slice(row, row + 1))) for row in rows
        ]
        yield np.concatenate(one_by_one)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.int64])
def test_predictions_are_the_mean_over_the_copies(backend, dtype):
    network, images = model(), DATA.images[:60].astype(dtype)
    working = images.astype(np.float64) if dtype == np.int64 else images
    augment = {"shift": 1.0, "rotate": 10.0, "noise": 0.05}
    expected = np.mean([in_float64(network.network, each) for each in versions(working, 5, augment, seed=3)], axis=0)
    copies = Copies(5, AUGMENT, seed=3)
    proba = network.predict_proba(images, backend=backend, copies=copies)
    np.testing.assert_allclose(proba, expected, rtol=1e-4, atol=1e-6)
    assert (network.predict(images, backend=backend, copies=copies) == proba.argmax(axis=1)).all()
    assert np.abs(proba - network.predict_proba(images, backend=backend)).max() > 0.01


def test_copies_depend_on_the_seed_and_the_row_only(monkeypatch):
    network, images, copies = model(), DATA.images[:50], Copies(3, AUGMENT)
    proba = network.predict_proba(images, copies=copies, backend="numpy")
    assert (network.predict_proba(images, copies=copies, backend="numpy") == proba).all()
    other = images.copy()
    other[10:] = 0
    first = network.predict_proba(other, copies=copies, backend="numpy")[:10]
    np.testing.assert_allclose(first, proba[:10], rtol=1e-6)
    monkeypatch.setattr("fastnn.models.copies._BLOCK", 7)
    assert (network.predict_proba(images, copies=copies, backend="numpy") == proba).all()
    assert (network.predict_proba(images, copies=Copies(3, AUGMENT, seed=1), backend="numpy") != proba).any()
    more = network.predict_proba(images, copies=Copies(4, AUGMENT), backend="numpy")
    assert (more != proba).any()


def test_evaluation_and_ensembles_average_over_the_copies():
    members = [model(seed) for seed in range(2)]
    ensemble, copies = Ensemble.of(members), Copies(3, AUGMENT)
    each = [member.predict_proba(DATA, copies=copies, backend="numpy").astype(np.float64) for member in members]
    expected = np.mean(each, axis=0)
    np.testing.assert_allclose(ensemble.predict_proba(DATA, copies=copies, backend="numpy"), expected, rtol=1e-5)
    loss, accuracy = fastnn.evaluate(ensemble, DATA, copies=copies, backend="numpy")
    assert accuracy == (expected.argmax(axis=1) == DATA.labels).mean()
    assert math.isclose(loss, -np.log(expected[np.arange(len(DATA)), DATA.labels]).mean(), rel_tol=1e-5)
    scores = evaluate_model(ensemble, DATA, "numpy", copies)
    assert (scores.accuracy, scores.loss) == (accuracy, loss)


def test_numbers_are_averaged_too():
    network = Network.for_data(fastnn.Dataset(DATA.images, DATA.labels[:, None] / 2.0, image_shape=(8, 8)), (4,))
    regression = Model(network, None, image_shape=(8, 8), pixels=(0, 16))
    augment = {"shift": 1.0, "rotate": 10.0, "noise": 0.05}
    each = [in_float64(network, rows)[:, 0] for rows in versions(DATA.images[:20], 3, augment)]
    found = regression.predict(DATA.images[:20], copies=Copies(3, AUGMENT))
    np.testing.assert_allclose(found, np.mean(each, axis=0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("make", "kind", "part"), [
    (lambda: Copies(1, AUGMENT), SettingsError, "count is 1, expected a whole number, from 2 to 1000"),
    (lambda: Copies(2.5, AUGMENT), SettingsError, "count is 2.5"),
    (lambda: Copies(2, AUGMENT, seed=-1), SettingsError, "seed is -1"),
    (lambda: Copies(2, None), SettingsError, "augment is None"),
    (lambda: Copies(2, "shift=-1"), SettingsError, "shift"),
    (lambda: Copies(2, "shft=1"), SettingsError, "shft"),
    (lambda: Model(Network.initialize((4, 2)), (0, 1)).predict(np.eye(4), copies=Copies(2, AUGMENT)), DataError,
        "cannot be averaged over copies of these inputs: the model is for rows of a table, expected images"),
])  # fmt: skip
def test_wrong_copies_give_one_line(make, kind, part):
    with pytest.raises(kind) as caught:
        make()
    assert part in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_the_command_averages_over_copies(tmp_path, capsys):
    network = model()
    fastnn.save(tmp_path / "m", network)
    np.savez(tmp_path / "test.npz", x=DATA.images, y=DATA.labels)
    files = [str(tmp_path / "m"), "--data", str(tmp_path / "test.npz"), "--backend", "numpy"]
    average = ["--average", "4", "--augment", AUGMENT]
    assert main(["evaluate", *files, *average, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    copies = Copies(4, AUGMENT)
    loss, accuracy = fastnn.evaluate(network, DATA, backend="numpy", copies=copies)
    assert (found["loss"], found["accuracy"]) == (loss, accuracy)
    assert main(["predict", *files, *average, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    expected = network.predict(DATA.images, backend="numpy", copies=copies)
    assert [row["prediction"] for row in rows] == expected.tolist()
    for options, part in ((["--average", "4"], "expected --augment with it"), (average[2:], "with --average K")):
        for command in ("evaluate", "predict"):
            assert main([command, *files, *options]) != 0
            error = capsys.readouterr().err
            assert part in error
            assert error.count("\n") == 1
