"""`fastnn train --members N`: several runs in one folder, their mean in one model file, and commands that take it."""

import json

import numpy as np
import onnxruntime
import pytest

import fastnn
from fastnn.cli.command import main
from fastnn.runs import folder as run_folder
from fastnn.runs.saved import load_test_data, read_run
from fastnn.training import train as training

pytestmark = pytest.mark.usefixtures("undrawn_figures")
DIGITS = ("--recipe", "digits", "--hidden", "16", "--epochs", "4", "--seed", "7", "--backend", "numpy")


def train(*arguments):
    return main(["train", "--quiet", *map(str, arguments)])


def report_of(path):
    return json.loads((path / "report.json").read_text())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run of three members."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fastnn.plots.display.Display.save", lambda self, path, *_: path)
        path = tmp_path_factory.mktemp("runs") / "run"
        assert train(*DIGITS, "--members", 3, "--out", path) == 0
    return path


def test_a_run_of_members_is_the_mean_of_runs_with_other_seeds(run, tmp_path):
    report, model, test = report_of(run), fastnn.load(run), load_test_data(read_run(run))
    proba = []
    for number, (network, member) in enumerate(zip(model.networks, report["members"], strict=True)):
        alone, folder = tmp_path / str(number), run / f"member-{number + 1}"
        # A member is the run of its seed on the split of the first one.
        assert train(*DIGITS[:-4], "--backend", "numpy", "--seed", 7 + number, "--split-seed", 7, "--out", alone) == 0
        assert report_of(alone)["digest"] == report_of(folder)["digest"] == member["digest"]
        assert (member["seed"], member["folder"]) == (7 + number, folder.name)
        single = fastnn.load(folder)
        assert all((a == b).all() for a, b in zip(single.network.weights, network.weights, strict=True))
        proba.append(single.predict_proba(test, backend="numpy").astype(np.float64))
        accuracy = (proba[-1].argmax(axis=1) == test.labels).mean()
        assert member["test_accuracy"] == report_of(folder)["test_accuracy"] == accuracy
    mean = np.mean(proba, axis=0)
    assert report["test_accuracy"] == (mean.argmax(axis=1) == test.labels).mean()
    loss = -np.log(mean[np.arange(len(test)), test.labels]).mean()
    np.testing.assert_allclose(report["test_loss"], loss, rtol=1e-5)  # float32
    assert len({member["digest"] for member in report["members"]}) == 3


def test_the_history_is_the_mean_over_the_members(run):
    histories = [read_run(run / f"member-{number}").history for number in (1, 2, 3)]
    for name in ("loss", "accuracy", "validation_loss", "learning_rate"):
        expected = np.mean([history.column(name) for history in histories], axis=0)
        np.testing.assert_allclose(read_run(run).history.column(name), expected, rtol=1e-12)


def test_a_run_of_members_and_each_member_are_repeated_from_their_settings(run, tmp_path):
    for found, path in ((tmp_path / "all", run), (tmp_path / "second", run / "member-2")):
        assert train("--config", path, "--out", found) == 0
        assert report_of(found)["digest"] == report_of(path)["digest"]
        assert (found / "model.safetensors").read_bytes() == (path / "model.safetensors").read_bytes()


@pytest.mark.parametrize("failure", [KeyboardInterrupt, MemoryError])
def test_a_stopped_run_goes_on_without_training_finished_members_again(run, tmp_path, monkeypatch, failure, capsys):
    path, saver = tmp_path / "run", run_folder._Saver.__call__

    def stop_in_member_2(self, end):
        if self._record.plan.config.seed == 8 and end.record.epoch == 2:
            raise failure
        saver(self, end)

    with monkeypatch.context() as patch:
        patch.setattr(run_folder._Saver, "__call__", stop_in_member_2)
        assert train(*DIGITS, "--members", 3, "--out", path) != 0
    assert not (path / "member-3").exists()
    assert not (path / "model.safetensors").exists()
    capsys.readouterr()
    assert main(["report", str(path)]) == 1
    assert "run of several members that has not ended" in capsys.readouterr().err
    first = (path / "member-1/history.csv").read_bytes()
    epochs = []
    recorded = training.Run.end_epoch
    monkeypatch.setattr(
        training.Run, "end_epoch", lambda self, *args: epochs.append(self._job.config.seed) or recorded(self, *args)
    )
    assert train("--resume", path) == 0
    assert 7 not in epochs
    assert epochs.count(9) == 4
    assert 0 < epochs.count(8) <= 4  # a busy machine takes its copies of the state less often
    assert (path / "member-1/history.csv").read_bytes() == first
    assert report_of(path)["digest"] == report_of(run)["digest"]
    assert (path / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()


def test_members_and_epochs_can_be_added(run, tmp_path):
    path = tmp_path / "run"
    assert train(*DIGITS, "--members", 2, "--epochs", 2, "--out", path) == 0
    assert train("--resume", path, "--members", 3, "--epochs", 4) == 0
    assert report_of(path)["digest"] == report_of(run)["digest"]
    assert report_of(path)["settings"]["members"] == 3


def test_a_member_that_diverges_is_named_and_the_others_stay(tmp_path, monkeypatch, capsys):
    path, end_epoch = tmp_path / "run", training.Run.end_epoch

    def diverge(self, result, *args):
        is_meant = self._job.config.seed == 8 and len(self._history) == 2
        return end_epoch(self, result._replace(loss=np.inf) if is_meant else result, *args)

    monkeypatch.setattr(training.Run, "end_epoch", diverge)
    assert train(*DIGITS, "--members", 3, "--out", path) == 1
    error = capsys.readouterr().err
    assert error.startswith("fastnn: member 2 of 3, seed 8: training diverged in epoch 3")
    assert error.count("\n") == 1
    assert fastnn.load(path / "member-1").classes == tuple(range(10))
    assert report_of(path / "member-2")["stopped"] == "diverged"
    assert report_of(path)["stopped"] == "running"


def test_nothing_is_left_of_a_run_that_diverges_in_its_first_step(tmp_path, capsys):
    assert train(*DIGITS, "--members", 2, "--learning-rate", 1e30, "--out", tmp_path / "run") == 1
    assert "member 1 of 2, seed 7: training diverged" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_numbers_are_averaged_in_the_units_of_the_data(tmp_path, capsys):
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(150, 2))
    lines = [f"{a:.4f},{b:.4f},{300 + 40 * a - 20 * b:.3f}" for a, b in rows]
    (tmp_path / "t.csv").write_text("a,b,price\n" + "\n".join(lines) + "\n")
    path = tmp_path / "run"
    arguments = ("--data", tmp_path / "t.csv", "--epochs", 20, "--backend", "numpy", "--members", 2, "--snapshots", 3)
    assert train(*arguments, "--out", path) == 0
    assert "member-2, seed 1: R2 " in capsys.readouterr().out
    test = load_test_data(read_run(path))
    expected = np.mean([fastnn.load(path / f"member-{k}").predict(test) for k in (1, 2)], axis=0)
    np.testing.assert_allclose(fastnn.load(path).predict(test), expected, rtol=1e-6)
    errors = expected - test.labels[:, 0]
    report = report_of(path)
    np.testing.assert_allclose(report["test_rmse"], np.sqrt((errors**2).mean()), rtol=1e-4)
    first = report_of(path / "member-1")  # losses are those of standardised targets, in both reports
    ratio = first["test_rmse"] ** 2 / first["test_loss"]
    np.testing.assert_allclose(report["test_rmse"] ** 2 / report["test_loss"], ratio, rtol=1e-3)
    assert (path / "member-2/snapshots.safetensors").exists()


def test_commands_take_the_ensemble_or_one_member(run, tmp_path, capsys):
    test = load_test_data(read_run(run))
    assert main(["evaluate", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == report_of(run)["test_accuracy"]
    assert main(["evaluate", str(run), "--member", "2"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Network(")
    assert f"accuracy {report_of(run)['members'][1]['test_accuracy']:.2%}" in out
    assert main(["compare", str(run), str(run / "member-1")]) == 0
    assert main(["export", str(run), "--format", "onnx", "--out", str(tmp_path / "m.onnx")]) == 0
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    _, proba = session.run(None, {"X": test.images.astype(np.float32)})
    np.testing.assert_allclose(proba, fastnn.load(run).predict_proba(test), atol=2e-5)
    capsys.readouterr()
    out = str(tmp_path / "x")
    uses = (["explain", "--row", "0"], ["page", "--out", out], ["export", "--format", "c", "--out", out])
    for command, *options in uses:
        assert main([command, str(run), *options]) != 0
        error = capsys.readouterr().err
        assert error.startswith("fastnn: the model is an ensemble of 3 networks, expected one of them: --member 1 to 3")
        assert main([command, str(run), "--member", "3", *options]) == 0
        capsys.readouterr()
    assert main(["report", str(run), "--out", str(tmp_path / "report.html")]) == 0
    page = (tmp_path / "report.html").read_text()
    assert '<section id="members">' in page
    assert '<section id="network">' not in page
    assert page.count('<th scope="row">member-') == 3


@pytest.mark.parametrize(("arguments", "part"), [
    (["train", "--members", "1"], "--members is 1, expected a whole number, from 2 to 100"),
    (["train", "--members", "101"], "--members is 101, expected a whole number"),
    (["train", "--members", "2", "--live"], "--live shows the run of one network"),
    (["train", "--resume", "RUN", "--members", "2"], "--members is 2, expected 3 or more"),
    (["train", "--resume", "RUN/member-1", "--members", "2"], "is the run of one network"),
    (["train", "--from", "RUN"], "is an ensemble of 3 networks, expected one network, such as the folder member-1"),
    (["train", "--split-seed", "-1"], "--split-seed is -1"),
    (["evaluate", "RUN", "--member", "4"], "--member is 4, expected a whole number, from 1 to 3"),
    (["evaluate", "RUN/member-1", "--member", "1"], "the model is a single network; leave it out"),
])  # fmt: skip
def test_arguments_that_do_not_fit_are_refused_in_one_line(run, arguments, part, capsys):
    assert main([each.replace("RUN", str(run)) for each in arguments]) != 0
    error = capsys.readouterr().err
    assert part in error
    assert error.count("\n") == 1
