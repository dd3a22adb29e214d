"""Snapshots of a run: which epochs are kept, resumed runs, their file, and the slider of the report and of the page."""

import json
import logging

import numpy as np
import pytest

import fastnn
from fastnn.cli.command import main
from fastnn.errors import DataError, FileError, SettingsError
from fastnn.files.snapshot_file import SNAPSHOTS, Snapshots, load_snapshots, pictures, to_bytes
from fastnn.runs.snapshots import SnapshotRecorder
from tests.browser import requests

DIGITS = fastnn.load_digits()


def recorded(epochs, most, known=None, resume=None):
    """Train on digits; return the snapshots and their file."""
    network, written = fastnn.Network.for_data(DIGITS, (6,)), []
    recorder = SnapshotRecorder(network, DIGITS.image_shape, most, known, written.append)
    settings = {} if resume else {"epochs": epochs, "backend": "numpy", "batch_size": 300}
    fastnn.train(network, DIGITS, callbacks=[recorder], checkpoint=resume, resume=resume, **settings)
    assert len(written) == 1
    return recorder.snapshots(), written[0]


@pytest.mark.parametrize(
    ("epochs", "most", "known", "expected"),
    [
        (1, 2, None, [0, 1]),
        (7, 2, None, [0, 7]),
        (7, 4, None, [0, 4, 7]),
        (8, 5, None, [0, 2, 4, 6, 8]),
        (9, 5, None, [0, 4, 8, 9]),
        (9, 10, None, list(range(10))),
        (9, 5, 9, [0, 3, 6, 9]),
        (12, 5, 12, [0, 3, 6, 9, 12]),
        (5, 5, 12, [0, 3, 5]),  # stopped early
    ],
)
def test_epochs_are_spread_evenly(epochs, most, known, expected):
    snapshots, _ = recorded(epochs, most, known)
    assert snapshots.epochs.tolist() == expected


def test_the_pictures_are_the_weights_and_the_metrics_those_of_the_history(tmp_path):
    networks = []
    network = fastnn.Network.for_data(DIGITS, (30,))
    recorder = SnapshotRecorder(network, DIGITS.image_shape, 4, 3, (tmp_path / SNAPSHOTS).write_bytes)
    result = fastnn.train(
        network, DIGITS, validation=0.2, epochs=3, backend="numpy",
        callbacks=[recorder, lambda end: networks.append(end.network)],
    )  # fmt: skip
    loaded = load_snapshots(tmp_path / SNAPSHOTS)
    assert (loaded.kind, loaded.epochs.tolist(), loaded.weights.shape) == ("units", [0, 1, 2, 3], (4, 24, 8, 8))
    for each, found in zip([network, *networks], loaded.weights, strict=True):
        for unit in range(24):
            np.testing.assert_array_equal(found[unit].ravel(), each.weights[0][:, unit])
    assert np.isnan(loaded.metrics[0]).all()
    expected = [[r.loss, r.accuracy, r.validation_loss, r.validation_accuracy] for r in result.history]
    np.testing.assert_array_equal(loaded.metrics[1:], expected)


def test_other_first_layers_have_filters_or_a_matrix():
    image = fastnn.Network.initialize((2, 6, 6), [fastnn.Conv2D(3, 2), fastnn.Dense(2)])
    kind, found = pictures(image, None)
    assert (kind, found.shape) == ("filters", (6, 2, 2))
    np.testing.assert_array_equal(found[1], image.weights[0][1, :, :, 0])  # channel 1 of filter 0
    table = fastnn.Network.initialize((500, 40, 2))
    kind, found = pictures(table, None)
    assert (kind, found.shape) == ("matrix", (1, 24, 170))
    np.testing.assert_array_equal(found[0, 5], table.weights[0][:170, 5])
    normalised = fastnn.Network.initialize((5,), [fastnn.BatchNorm(), fastnn.Dense(2)])
    assert pictures(normalised, None)[1].shape == (1, 1, 5)


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_a_resumed_run_has_the_file_of_one_that_never_stopped(stop, tmp_path):
    _, expected = recorded(8, 4)
    path = tmp_path / "checkpoint.safetensors"
    network = fastnn.Network.for_data(DIGITS, (6,))
    recorder = SnapshotRecorder(network, DIGITS.image_shape, 4, None, lambda data: None)
    with pytest.raises(ZeroDivisionError):
        fastnn.train(
            network, DIGITS, epochs=8, backend="numpy", batch_size=300, checkpoint=path,
            callbacks=[recorder, lambda end: 1 / 0 if end.record.epoch == stop else None],
        )  # fmt: skip
    _, found = recorded(8, 4, resume=path)
    assert found == expected
    network = fastnn.Network.for_data(DIGITS, (6,))
    other = SnapshotRecorder(network, DIGITS.image_shape, 5, None, lambda data: None)
    with pytest.raises(SettingsError, match="--snapshots is 5, expected 4"):
        fastnn.train(network, DIGITS, resume=path, epochs=9, callbacks=[other])


def test_a_full_disk_warns(caplog):
    def write(data):
        raise FileError("no space left")

    network = fastnn.Network.for_data(DIGITS, (6,))
    with caplog.at_level(logging.WARNING, "fastnn"):
        recorder = SnapshotRecorder(network, DIGITS.image_shape, 3, 2, write)
        fastnn.train(network, DIGITS, epochs=2, backend="numpy", callbacks=[recorder])
    assert caplog.messages == ["the snapshots are not saved: no space left"]


def test_damaged_files_are_refused(tmp_path):
    good = to_bytes(Snapshots("units", np.arange(3), np.ones((3, 2, 4, 4), np.float32), np.full((3, 4), np.nan)))
    path = tmp_path / SNAPSHOTS
    path.write_bytes(good)
    load_snapshots(path)
    for at in range(0, len(good), 5):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        with pytest.raises(DataError, match=SNAPSHOTS):
            load_snapshots(path)
        path.write_bytes(good[:at])
        with pytest.raises(DataError, match=SNAPSHOTS):
            load_snapshots(path)
    descending = Snapshots("units", np.array([2, 1]), np.ones((2, 1, 2, 2), np.float32), np.ones((2, 4)))
    for wrong, words in (
        (descending, "ascending"),
        (descending._replace(epochs=np.array([1, 2]), weights=np.full((2, 1, 2, 2), np.nan, np.float32)), "finite"),
        (descending._replace(kind="other"), "kind"),
        (descending._replace(epochs=np.array([1, 2]), weights=np.ones((2, 30, 2, 2), np.float32)), "shape"),
    ):
        path.write_bytes(to_bytes(wrong))
        with pytest.raises(DataError, match=words):
            load_snapshots(path)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "digits"
    command = ["train", "--recipe", "digits", "--epochs", "6", "--backend", "numpy", "--quiet"]
    assert main([*command, "--snapshots", "4", "--out", str(folder)]) == 0
    return folder


def test_the_command_keeps_snapshots_and_resumes_with_them(run, tmp_path, capsys):
    assert load_snapshots(run / SNAPSHOTS).epochs.tolist() == [0, 2, 4, 6]
    assert json.loads((run / "report.json").read_text())["settings"]["snapshots"] == 4
    again = tmp_path / "again"
    assert main(["train", "--config", str(run), "--out", str(again), "--quiet"]) == 0
    assert (again / SNAPSHOTS).read_bytes() == (run / SNAPSHOTS).read_bytes()
    assert main(["train", "--resume", str(again), "--quiet"]) == 0
    assert (again / SNAPSHOTS).read_bytes() == (run / SNAPSHOTS).read_bytes()
    capsys.readouterr()
    assert main(["train", "--resume", str(again), "--snapshots", "9"]) == 2
    assert "--snapshots is 9, but" in capsys.readouterr().err
    for wrong in ("1", "1001"):
        assert main(["train", "--recipe", "digits", "--snapshots", wrong, "--out", str(tmp_path / "no")]) == 2
        assert "--snapshots is" in capsys.readouterr().err
        assert not (tmp_path / "no").exists()


def test_reports_without_snapshots_have_no_script(run, tmp_path):
    plain = tmp_path / "plain"
    command = ["train", "--recipe", "digits", "--epochs", "2", "--backend", "numpy", "--quiet"]
    assert main([*command, "--out", str(plain)]) == 0
    assert not (plain / SNAPSHOTS).exists()
    assert main(["report", str(plain)]) == 0
    assert "<script" not in (plain / "report.html").read_text()
    (plain / SNAPSHOTS).write_bytes(b"damaged")
    assert main(["report", str(plain)]) == 1


@pytest.mark.parametrize("command", ["report", "page"])
def test_the_slider_shows_the_epochs(command, run, tmp_path, browser):
    page = tmp_path / "page.html"
    assert main([command, str(run), "--out", str(page)]) == 0
    browser.get_log("browser")
    browser.get(page.as_uri())
    requests(browser)
    slider = "document.querySelector('#replay-epoch')"
    text = "document.querySelector('#replay [role=status]').textContent"
    assert browser.execute_script(f"return [{slider}.min, {slider}.max, {slider}.value]") == ["0", "3", "3"]
    assert browser.execute_script(f"return {text}").startswith("Epoch 6 of 6, loss ")
    find = browser.find_element("css selector", "#replay-epoch")
    for key in ("\ue012", "\ue012", "\ue012"):  # arrow left
        find.send_keys(key)
    assert browser.execute_script(f"return {text}") == "Before training: the weights are random."
    assert browser.execute_script(f"return {slider}.getAttribute('aria-valuetext')").startswith("Before training")
    found = browser.execute_script("return Array.from(Replay.show.figure.data.values)")
    expected = load_snapshots(run / SNAPSHOTS).weights[0].ravel()
    np.testing.assert_allclose(found, expected, atol=np.abs(expected).max() / 254 * 1.001)  # half a step of int8
    assert browser.get_log("browser") == []
    assert [url for url in requests(browser) if not url.startswith(("data:", "file:"))] == []
