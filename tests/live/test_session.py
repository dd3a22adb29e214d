"""Tests of runs that others control: whatever is done to them, the bits are those of a run that was left alone."""

import json
import shlex
import subprocess
import sys
import threading
from base64 import b64decode

import numpy as np
import pandas
import pytest

import fastnn
from fastnn.cli.command import main
from fastnn.errors import DataError, SettingsError
from fastnn.live.run import Aborted, LiveRun
from fastnn.live.session import Session, Unanswered
from fastnn.runs.folder import RunFolder
from tests.live.conftest import ended, paused, status, wait_until

DIGITS = ("--recipe", "digits", "--epochs", "6", "--backend", "numba")


def plain_digest(session, run=0):
    """Return the digest of the same run without a page, trained from the plan alone."""
    plan = session._seats[run].planned.plan
    training, validation = (plan.for_training(part) for part in plan.splits[:2])
    return fastnn.train(plan.network, training, validation=validation, config=plan.config).digest()


def test_a_run_that_is_paused_stepped_and_slowed_has_the_bits_of_one_that_is_left_alone(new_session):
    session = new_session(*DIGITS, "--dropout", "0.2", "--optimizer", "adam", "--schedule", "one-cycle")
    assert paused(session) == (1, 0)
    for batch in (1, 2, 3):
        session.command({"command": "step"})
        wait_until(lambda batch=batch: status(session).batch == batch)
        assert paused(session) == (1, batch)
    session.command({"command": "epoch"})
    wait_until(lambda: status(session).epoch == 2)
    assert paused(session) == (2, 0)
    session.command({"command": "pace", "batches_per_second": 400})
    session.command({"command": "train"})
    wait_until(lambda: status(session).epoch == 3 and status(session).batch > 5)
    session.command({"command": "pause"})
    epoch, batch = paused(session)
    assert (epoch, batch) >= (3, 6)
    session.command({"command": "pace", "batches_per_second": None})
    session.command({"command": "train"})
    result = ended(session)
    assert (result.stopped, len(result.history)) == ("epochs", 6)
    assert result.digest() == plain_digest(session)
    assert session.code(0)["digest"] == result.digest()


@pytest.mark.parametrize(
    "settings",
    [
        ("--optimizer", "lbfgs", "--epochs", "5"),
        ("--batch-size", "full", "--epochs", "5"),
        ("--layers", "conv:4x3,pool:2,16", "--epochs", "2"),
        ("--augment", "shift=1", "--epochs", "2"),
        ("--backend", "numpy", "--epochs", "3"),
    ],
)
def test_every_kind_of_run_can_be_stepped(settings, new_session):
    session = new_session(*DIGITS, *settings)
    for _ in range(2):
        at = paused(session)
        session.command({"command": "step"})
        wait_until(lambda at=at: (status(session).epoch, status(session).batch) > at)
    session.command({"command": "train"})
    assert ended(session).digest() == plain_digest(session)


def test_again_starts_from_the_same_weights(new_session):
    session = new_session(*DIGITS, "--seed", "3")
    paused(session)
    first = status(session).snapshot.network
    session.command({"command": "train"})
    digest = ended(session).digest()
    session.command({"command": "again"})
    assert paused(session) == (1, 0)
    for one, other in zip(first.weights, status(session).snapshot.network.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    session.command({"command": "train"})
    assert ended(session).digest() == digest


def test_stop_ends_a_slow_run_at_full_speed(new_session):
    session = new_session("--recipe", "digits", "--epochs", "3", "--backend", "numpy")
    paused(session)
    session.command({"command": "pace", "batches_per_second": 1e-3})  # the epoch would take half a day
    session.command({"command": "train"})
    wait_until(lambda: status(session).batch > 0)
    assert not session.picture()[0]["runs"][0]["stopping"]
    session.command({"command": "stop"})
    result = ended(session)
    assert (result.stopped, len(result.history)) == ("callback", 1)
    run = session.picture()[0]["runs"][0]
    assert not run["stopping"]
    assert run["pace"] == 1e-3  # that of the next run


def test_runs_with_the_same_validation_data_say_so(new_session):
    session = new_session("--recipe", "digits", "--epochs", "1", "--backend", "numpy")
    paused(session)
    settings = session.picture()[0]["runs"][0]["settings"]
    session.plan(1, settings | {"layers": "8"})
    paused(session, 1)
    digests = [run["validation_digest"] for run in session.picture()[0]["runs"]]
    assert digests == [status(session).setup.validation.digest()] * 2
    session.plan(1, settings | {"seed": "1"})
    paused(session, 1)
    assert session.picture()[0]["runs"][1]["validation_digest"] != digests[0]


def test_two_runs_beside_each_other_do_not_disturb_each_other(new_session):
    session = new_session(*DIGITS)
    session.command({"command": "plan", "run": 1, "settings": {**session._seats[0].planned.settings, "seed": 5}})
    for run in (0, 1):
        paused(session, run)
    for run in (0, 1):
        session.command({"command": "train", "run": run})
    digests = [ended(session, run).digest() for run in (0, 1)]
    assert digests[0] != digests[1]
    assert digests == [plain_digest(session, run) for run in (0, 1)]
    session.command({"command": "remove"})
    assert [run["name"] for run in session.picture()[0]["runs"]] == ["A"]
    with pytest.raises(SettingsError, match="no second run"):
        session.command({"command": "remove"})


def test_stop_ends_after_the_epoch_and_the_code_repeats_it(new_session):
    session = new_session(*DIGITS, "--epochs", "50", "--schedule", "cosine")
    paused(session)
    session.command({"command": "step"})
    wait_until(lambda: status(session).batch == 1)
    session.command({"command": "stop"})
    result = ended(session)
    assert (result.stopped, len(result.history)) == ("callback", 1)
    code = session.code(0)
    assert code["stopped_after"] == 1
    assert run_python(code["python"]) == code["digest"] == result.digest()


def run_python(code):
    """Return what the code prints in a process of its own."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def run_here(code, capsys):
    """Return what the code prints."""
    exec(code, {})
    return capsys.readouterr().out.strip()


def command_digest(command, folder, capsys):
    """Return the digest of the run that a command line trains."""
    words = shlex.split(command)
    assert words[:2] == ["fastnn", "train"]
    assert main([*words[1:], "--out", str(folder), "--quiet", "--json"]) == 0
    return json.loads(capsys.readouterr().out)["digest"]


@pytest.mark.parametrize(
    "settings",
    [
        (),
        ("--activation", "tanh", "--dropout", "0.1", "--l2", "0.001", "--label-smoothing", "0.1", "--dtype", "float64"),
        ("--layers", "conv:4x3,pool:2,norm,16:tanh", "--optimizer", "momentum", "--epochs", "2"),
        ("--hidden", "--optimizer", "lbfgs", "--epochs", "4"),
        ("--batch-size", "full", "--learning-rate", "auto", "--epochs", "3"),
        ("--backend", "numpy", "--initializer", "glorot", "--augment", "shift=1", "--epochs", "2", "--seed", "7"),
        ("--patience", "1", "--learning-rate", "1.5", "--standardize", "--class-weight", "balanced"),
    ],
)
def test_the_code_of_a_run_repeats_it(settings, new_session, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(RunFolder, "save_figures", lambda folder, finished: None)
    session = new_session(*DIGITS, *settings)
    paused(session)
    session.command({"command": "step"})
    wait_until(lambda: status(session).batch == 1 or status(session).epoch == 2)
    session.command({"command": "train"})
    digest = ended(session).digest()
    code = session.code(0)
    assert code["digest"] == digest
    assert run_here(code["python"], capsys) == digest
    assert command_digest(code["command"], tmp_path / "run", capsys) == digest


def test_the_code_of_a_run_on_own_files_repeats_it(new_session, tmp_path, capsys):
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(150, 3)) * [1, 10, 100]
    labels = np.where(inputs.sum(axis=1) > 0, 'it\'s "up"', "down")
    table = tmp_path / "a table.csv"
    pandas.DataFrame(inputs, columns=["one", "two", "three"]).assign(way=labels).to_csv(table, index=False)
    session = new_session(
        "--data", str(table), "--label", "way", "--drop", "two", "--epochs", "9", "--backend", "numba"
    )
    paused(session)
    session.command({"command": "train"})
    digest = ended(session).digest()
    code = session.code(0)
    assert run_python(code["python"]) == digest
    assert command_digest(code["command"], tmp_path / "run", capsys) == digest


def test_a_regression_and_a_trained_start_are_repeated(new_session, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(RunFolder, "save_figures", lambda folder, finished: None)
    inputs = np.random.default_rng(0).normal(size=(120, 3))
    table = tmp_path / "table.csv"
    pandas.DataFrame(inputs, columns=list("abc")).assign(y=inputs.sum(axis=1) * 3.3 + 7).to_csv(table, index=False)
    runs = [
        ("--data", str(table), "--label", "y", "--epochs", "3"),
        ("--from", str(tmp_path / "0"), "--frozen", "1", "--data", str(table), "--label", "y", "--epochs", "2"),
    ]
    for number, arguments in enumerate(runs):
        session = new_session(*arguments, "--backend", "numpy")
        paused(session)
        session.command({"command": "train"})
        digest = ended(session).digest()
        code, run = session.code(0), session.picture()[0]["runs"][0]
        assert (run["classes"], "confusion" in run, run["last"]["accuracy"]) == ([], False, None)
        assert run["has_fixed_network"] == (number == 1)
        assert run_here(code["python"], capsys) == digest
        assert command_digest(code["command"], tmp_path / str(number), capsys) == digest


def test_settings_that_do_not_fit_are_refused_and_the_run_goes_on(new_session):
    session = new_session(*DIGITS)
    paused(session)
    number = session.picture()[0]["runs"][0]["number"]
    for settings, reason in [
        ({"layers": "conv:9x99"}, "at least the size of its window"),
        ({"layers": 5}, "layers is no text"),
        ({"optimizer": "fast"}, "optimizer"),
        ({"learning_rate": -1}, "learning_rate"),
        ({"learning_rate": "much"}, "learning_rate"),
        ({"epochs": [1]}, "epochs"),
        ({"recipe": "../mnist"}, "recipe"),
        ({"recipe": None}, "no files"),
        ({"files": ["/etc/passwd"]}, "no setting of the page"),
        ({"start": "model.safetensors"}, "no setting of the page"),
        ({"backend": "numpy"}, "no setting of the page"),
    ]:
        with pytest.raises(Unanswered, match=reason):
            session.command({"command": "plan", "settings": settings})
    with pytest.raises(SettingsError, match="settings are missing"):
        session.command({"command": "plan"})
    with pytest.raises(SettingsError, match="command is none of"):
        session.command({"command": "close"})
    for run in (1, -1, "0", True, None, 0.0):
        with pytest.raises(SettingsError, match="run is no number"):
            session.command({"command": "train", "run": run})
    for pace in (0, -1, "fast", True, 1e300):
        with pytest.raises(SettingsError, match="batches_per_second"):
            session.command({"command": "pace", "batches_per_second": pace})
    assert session.picture()[0]["runs"][0]["number"] == number


def test_a_recipe_replaces_the_options_of_the_command(new_session):
    session = new_session("--layers", "conv:4x3,pool:2,16", "--epochs", "2", "--recipe", "digits")
    session.command({"command": "plan", "settings": {"recipe": "digits"}})
    plan = session._seats[0].planned.plan
    assert plan.config == fastnn.get_recipe("digits").config
    assert plan.network.sizes == (64, 32, 32, 10)


def test_the_settings_of_a_run_give_the_same_run(new_session):
    """What the page gets as settings is what it sends back."""
    session = new_session("--recipe", "fast", "--epochs", "3")  # its optimizer is an object
    before = session._seats[0].planned
    session.command({"command": "plan", "settings": json.loads(json.dumps(before.settings))})
    after = session._seats[0].planned
    assert after.plan.config == before.plan.config
    assert after.recorded == before.recorded


def test_pictures_show_what_the_network_does(new_session):
    session = new_session(*DIGITS)
    paused(session)
    start = session.picture()[0]["runs"][0]
    assert start["weights"]["shape"] == [32, 8, 8]
    weights = np.frombuffer(b64decode(start["weights"]["data"]), "<f2").reshape(32, 8, 8)
    network = status(session).snapshot.network
    np.testing.assert_array_equal(weights, network.weights[0].T.reshape(32, 8, 8).astype("<f2"))
    session.command({"command": "train"})
    result = ended(session)
    picture = session.picture()[0]["runs"][0]
    validation = status(session).setup.validation
    proba = fastnn.Model.for_data(result.network, validation).predict_proba(validation.images)
    expected = fastnn.evaluation.confusion(validation.labels, proba.argmax(axis=1))
    np.testing.assert_array_equal(picture["confusion"], expected)
    worst = fastnn.evaluation.mistakes(validation.labels, proba)[:12].tolist()
    assert [each["row"] for each in picture["mistakes"]] == worst
    assert [point[0] for point in picture["curve"]["points"]] == [1, 2, 3, 4, 5, 6]
    assert [point[1] for point in picture["curve"]["points"]] == result.history.column("loss").tolist()
    json.dumps(picture, allow_nan=False)


def test_only_new_points_of_a_curve_are_sent(new_session):
    session = new_session(*DIGITS)
    paused(session)
    _, seen = session.picture()
    session.command({"command": "epoch"})
    wait_until(lambda: status(session).epoch == 2)
    one, seen = session.picture(seen)
    assert (one["runs"][0]["curve"]["start"], len(one["runs"][0]["curve"]["points"])) == (0, 1)
    session.command({"command": "train"})
    ended(session)
    rest, seen = session.picture(seen)
    assert (rest["runs"][0]["curve"]["start"], len(rest["runs"][0]["curve"]["points"])) == (1, 5)
    session.command({"command": "again"})
    paused(session)
    again, _ = session.picture(seen)
    assert again["runs"][0]["curve"] == {"start": 0, "points": []}


def test_a_long_curve_keeps_few_points():
    from fastnn.live.picture import MOST_POINTS, Curve
    from fastnn.training.history import EpochRecord, History

    history, curve = History(), Curve()
    for epoch in range(1, 20_001):
        history.append(EpochRecord(epoch, 0.1, float(epoch), 0.5, float("nan"), 0.5, 0.1))
        if epoch % 7 == 0:
            curve.extend(history, len(history))
    epochs = [point[0] for point in curve.points]
    assert MOST_POINTS / 2 <= len(epochs) <= MOST_POINTS
    assert epochs[0] == 1
    assert epochs[-1] > 20_000 - 64
    assert len(set(np.diff(epochs[1:]))) == 1
    assert curve.points[-1][3] is None


def test_answers_are_those_of_the_network(new_session):
    session = new_session(*DIGITS)
    paused(session)
    session.command({"command": "train"})
    network = ended(session).network
    validation = status(session).setup.validation
    row = validation.images[5]
    expected = fastnn.Model.for_data(network, validation).predict_proba(row[None])[0]
    for request in ({"sample": 5}, {"row": row.tolist()}):
        found = session.predict({**request, "unit": [1, 3]})
        np.testing.assert_allclose(found["outputs"], expected, rtol=2e-5, atol=1e-7)
        formula = found["formula"]
        terms = sum(term[3] for term in formula["terms"]) + formula["others"][1] + formula["bias"]
        np.testing.assert_allclose(terms, formula["sum"], rtol=1e-5, atol=1e-6)
        total = row / 16 @ network.weights[0][:, 3] + network.biases[0][3]
        np.testing.assert_allclose(formula["sum"], total, rtol=1e-5, atol=1e-6)
        assert formula["output"] == max(0.0, formula["sum"])
    with pytest.raises(DataError, match="no unit 99"):
        session.predict({"sample": 5, "unit": [1, 99]})


def test_the_formula_of_a_filter_is_that_of_its_strongest_place(new_session):
    session = new_session(*DIGITS, "--layers", "conv:3x3s2p1,pool:2,8")
    paused(session)
    network = status(session).snapshot.network
    row = status(session).setup.validation.images[2]
    steps = fastnn.explain(network, row).layers[0]
    for unit in range(3):
        formula = session.predict({"sample": 2, "unit": [1, unit]})["formula"]
        place = np.unravel_index(steps.out[unit].argmax(), steps.out[unit].shape)
        assert formula["name"].endswith(f"at ({place[0]}, {place[1]})")
        np.testing.assert_allclose(formula["sum"], steps.sums[unit][place], rtol=1e-6)
        terms = sum(term[3] for term in formula["terms"]) + formula["others"][1] + formula["bias"]
        np.testing.assert_allclose(terms, formula["sum"], rtol=1e-5, atol=1e-6)
    pool = session.predict({"sample": 2, "unit": [2, 0]})["formula"]
    assert (pool["kind"], "terms" in pool) == ("max_pool2d", False)


def test_a_diverging_run_is_diagnosed(new_session):
    session = new_session(*DIGITS, "--learning-rate", "1e10")
    paused(session)
    session.command({"command": "train"})
    assert ended(session).stopped == "diverged"
    run = session.picture()[0]["runs"][0]
    assert any(finding.startswith("learning rate too high") for finding in run["diagnosis"])
    json.dumps(run, allow_nan=False)


def test_the_diagnosis_is_that_of_the_command(new_session):
    session = new_session(*DIGITS, "--learning-rate", "1e-5")
    paused(session)
    session.command({"command": "train"})
    result = ended(session)
    plan = session._seats[0].planned.plan
    run = session.picture()[0]["runs"][0]
    expected = fastnn.diagnose(result, None, plan.splits.train, run["confusion"], for_command=True)
    assert run["diagnosis"] == list(map(str, expected)) != []


def test_a_session_that_closes_leaves_no_thread(new_session):
    before = set(threading.enumerate())
    session = new_session(*DIGITS, "--epochs", "100000")
    session.command({"command": "plan", "run": 1, "settings": {"recipe": "digits"}})
    session.command({"command": "train"})
    wait_until(lambda: status(session).epoch > 3)
    session.close()
    assert set(threading.enumerate()) <= before


def test_a_run_of_a_program_can_be_controlled_but_not_replaced():
    session, live = Session(), LiveRun(paused=True)
    session.watch(live)
    data = fastnn.load_digits()
    network = fastnn.Network.for_data(data, (16,))
    results = []
    thread = threading.Thread(
        target=lambda: results.append(fastnn.train(network, data, validation=0.2, epochs=4, callbacks=[live]))
    )
    thread.start()
    assert paused(session) == (1, 0)
    for request in ({"command": "again"}, {"command": "plan", "settings": {}}):
        with pytest.raises(SettingsError, match="started by a program"):
            session.command(request)
    assert session.code(0)["python"].startswith("result = fastnn.train(network, data, ")
    session.close()  # lets it go on
    thread.join(30)
    plain = fastnn.train(network, data, validation=0.2, epochs=4, backend=results[0].backend)
    assert results[0].digest() == plain.digest()


def test_abort_ends_a_run_within_an_epoch():
    live = LiveRun(paused=True)
    threading.Timer(0.2, live.abort).start()
    data = fastnn.load_digits()
    with pytest.raises(Aborted) as caught:
        fastnn.train(fastnn.Network.for_data(data, (16,)), data, callbacks=[live])
    assert len(caught.value.result.history) == 0
    assert live.moment.status == "ended"
