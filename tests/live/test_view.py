"""Tests of `LiveView`, and of `fastnn play` and `fastnn train --live` as processes."""

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import fastnn
from fastnn import live
from fastnn.cli.command import main
from fastnn.errors import MissingDependencyError, SettingsError
from fastnn.live.session import Session
from tests.live.conftest import wait_until


class Page:
    """What a browser does with an address."""

    def __init__(self, address):
        self.port, self.token = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/#(\S+)", address).groups()

    def ask(self, path, body=None):
        """Return the status and the JSON of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", int(self.port), timeout=20)
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        connection.request("GET" if body is None else "POST", path, body and json.dumps(body), headers)
        answer = connection.getresponse()
        found = answer.status, json.loads(answer.read() or b"{}")
        connection.close()
        return found

    def runs(self):
        """Return the picture of each run, from a stream of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", int(self.port), timeout=20)
        connection.request("GET", "/events", headers={"Authorization": f"Bearer {self.token}"})
        answer = connection.getresponse()
        picture = json.loads(answer.readline().removeprefix(b"data: "))
        answer.close()
        connection.close()
        return picture["runs"]


def test_a_view_shows_and_stops_a_run_with_the_bits_of_a_plain_one(capsys):
    data = fastnn.load_digits()
    network = fastnn.Network.for_data(data, (16,))
    settings = {"validation": 0.2, "backend": "numpy", "epochs": 100}
    with fastnn.LiveView(paused=True) as view:
        assert view.address == ""
        results = []
        thread = threading.Thread(
            target=lambda: results.append(fastnn.train(network, data, callbacks=[view], **settings))
        )
        thread.start()
        wait_until(lambda: view.address)
        page = Page(view.address)
        wait_until(lambda: page.runs()[0]["status"] == "paused")
        assert page.ask("/command", {"command": "epoch"})[0] == 200
        wait_until(lambda: page.runs()[0]["epoch"] == 2)
        assert page.ask("/command", {"command": "stop"})[0] == 200
        thread.join(240)
        (result,) = results
        assert result.stopped == "callback"
        run = page.runs()[0]
        assert (run["status"], run["digest"]) == ("ended", result.digest())
        assert page.ask("/predict", {"sample": 0})[0] == 200  # the page stays after the run
        code = page.ask("/code")[1]
        assert code["command"] is None
        assert "epochs=100" in code["python"]
        address = view.address
        again = threading.Thread(target=lambda: fastnn.train(network, data, callbacks=[view], **settings))
        again.start()
        wait_until(lambda: page.runs()[0]["status"] == "paused")  # the same page shows the next run
        assert view.address == address
    again.join(240)  # at the end of the page, the run goes on at full speed
    assert not again.is_alive()
    epochs = len(result.history)
    plain = fastnn.train(network, data, **settings, callbacks=[lambda end: end.record.epoch == epochs])
    assert plain.digest() == result.digest()
    assert capsys.readouterr().err == f"fastnn: watch this run at {address}\n"
    with pytest.raises(ConnectionRefusedError):
        page.ask("/code")


def test_a_view_shows_itself_in_a_notebook(monkeypatch, capsys):
    shown = []
    monkeypatch.setattr("fastnn.live.view.notebook_display", lambda: shown.append)
    data = fastnn.load_digits()
    with fastnn.LiveView() as view:
        assert "no run has begun" in view._repr_html_()
        fastnn.train(fastnn.Network.for_data(data, (8,)), data, epochs=1, callbacks=[view])
        fastnn.train(fastnn.Network.for_data(data, (8,)), data, epochs=1, callbacks=[view])
        assert shown == [view]
        html = view._repr_html_()
        assert f'<iframe src="{view.address}"' in html
        connection = http.client.HTTPConnection("127.0.0.1", view._server.port, timeout=10)
        connection.request("GET", "/")
        answer = connection.getresponse()
        assert "frame-ancestors http://localhost:*" in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Frame-Options"] is None
        answer.read()
        connection.close()
    assert capsys.readouterr().err == ""


def test_wrong_ports_are_refused():
    for port in (-1, 65536, "8000", 1.5):
        with pytest.raises(SettingsError, match="port"):
            fastnn.LiveView(port)
    assert main(["play", "--no-browser", "--port", "70000", "--recipe", "digits"]) == 2


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "fastnn.live.server", raising=False)
    with pytest.raises(MissingDependencyError, match=r"uvicorn cannot be imported .* extra fastnn-digits\[play\]"):
        live.serve(Session())


class Command:
    """A command that serves a page."""

    def __init__(self, *arguments, cwd=None):
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fastnn", *arguments, "--no-browser"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, cwd=cwd,
            start_new_session=True,
        )  # fmt: skip
        self.lines = []

    def page(self):
        """Read lines until one has the address."""
        for line in self.process.stdout:
            self.lines.append(line)
            if found := re.search(r"open (http://\S+) in a browser", line):
                return Page(found[1])
        raise AssertionError("".join(self.lines))

    def interrupt(self, number=signal.SIGINT):
        """Send a signal; return the exit code and the seconds until the process has ended."""
        start = time.monotonic()
        self.process.send_signal(number)
        rest, _ = self.process.communicate(timeout=30)
        self.lines += rest.splitlines(keepends=True)
        return self.process.returncode, time.monotonic() - start


@pytest.mark.parametrize("moment", ["at once", "paused", "training", "two runs", "two browsers read", "planning"])
def test_ctrl_c_ends_play_at_any_moment(moment, tmp_path):
    command = Command("play", "--recipe", "digits", "--epochs", "1000000", cwd=tmp_path)
    page = command.page()
    if moment != "at once":
        wait_until(lambda: page.runs()[0]["status"] == "paused", 60)
    if moment in ("training", "two runs", "two browsers read"):
        page.ask("/command", {"command": "train"})
        wait_until(lambda: page.runs()[0]["epoch"] > 3)
    if moment == "two runs":
        settings = page.runs()[0]["settings"]
        assert page.ask("/command", {"command": "plan", "run": 1, "settings": settings, "paused": False})[0] == 200
        wait_until(lambda: page.runs()[1]["epoch"] > 3)
    readers = []
    for _ in range(2 if moment == "two browsers read" else 0):
        reader = http.client.HTTPConnection("127.0.0.1", int(page.port), timeout=20)
        reader.request("GET", "/events", headers={"Authorization": f"Bearer {page.token}"})
        answer = reader.getresponse()
        answer.readline()
        readers.append((reader, answer))
    if moment == "planning":
        request = {"command": "plan", "settings": {"recipe": "mnist"}}
        threading.Thread(target=_ask_quietly, args=(page, request), daemon=True).start()
        time.sleep(0.05)
    code, seconds = command.interrupt()
    assert code == 130, command.lines
    print(f"{moment}: ended after {seconds:.2f} s")
    assert seconds < 5  # does not hang; a second, on a machine that has nothing else to do
    assert command.lines[-1] == "fastnn: interrupted\n"
    assert not any("Traceback" in line for line in command.lines)
    for reader, answer in readers:
        answer.close()
        reader.close()
    if os.name == "posix":  # nothing that it started goes on
        with pytest.raises(ProcessLookupError):
            os.killpg(command.process.pid, 0)
    with pytest.raises(ConnectionRefusedError):
        page.ask("/code")
    assert list(tmp_path.iterdir()) == []


def _ask_quietly(page, request):
    with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
        page.ask("/command", request)


@pytest.mark.skipif(not hasattr(signal, "SIGTERM") or os.name == "nt", reason="needs SIGTERM")
def test_sigterm_ends_play(tmp_path):
    command = Command("play", "--recipe", "digits", cwd=tmp_path)
    command.page()
    assert command.interrupt(signal.SIGTERM)[0] == 143


def test_train_live_shows_a_run_that_is_saved_as_any_other(tmp_path):
    arguments = ("--recipe", "digits", "--epochs", "4", "--backend", "numpy", "--quiet")
    command = Command("train", "--live", *arguments, "--out", "run", cwd=tmp_path)
    page = command.page()
    wait_until(lambda: page.runs()[0]["status"] == "ended", 60)
    run = page.runs()[0]
    assert run["settings"] is None
    code = page.ask("/code")[1]
    wait_until(lambda: (tmp_path / "run" / "curves.png").exists() or "run" in "".join(command.lines), 120)
    code_, _ = command.interrupt()
    assert code_ == 130
    assert main(["train", *arguments, "--out", str(tmp_path / "plain")]) == 0
    reports = [json.loads((tmp_path / name / "report.json").read_text()) for name in ("run", "plain")]
    assert reports[0]["digest"] == reports[1]["digest"] == code["digest"] == run["digest"]
    assert "--epochs 4" in code["command"]
    models = [fastnn.load(tmp_path / name / "model.safetensors").network for name in ("run", "plain")]
    for one, other in zip(models[0].weights, models[1].weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_ctrl_c_during_train_live_saves_the_run(tmp_path):
    command = Command("train", "--live", "--recipe", "digits", "--epochs", "1000000", "--out", "run", cwd=tmp_path)
    page = command.page()
    wait_until(lambda: page.runs()[0]["epoch"] > 3, 60)
    page.ask("/command", {"command": "pause"})
    wait_until(lambda: page.runs()[0]["status"] == "paused")
    assert command.interrupt()[0] == 130
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["stopped"] == "interrupted"
    assert report["epochs"] >= 3
    fastnn.load(tmp_path / "run" / "model.safetensors")
