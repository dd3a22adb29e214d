"""Tests of the command's streams: broken ones, names that they cannot print, --quiet, and the spinner."""

import errno
import io
import json
import os
import subprocess
import sys
import time

import pytest

from fastnn.cli.command import main
from fastnn.cli.output import printable, say, standard_streams, working

COMMAND = [sys.executable, "-m", "fastnn"]
posix = pytest.mark.skipif(os.name == "nt", reason="POSIX devices and shells")


class _Broken(io.StringIO):
    """A device that accepts nothing, such as a full disk; the error comes with the write or only with the flush."""

    encoding = "utf-8"

    def __init__(self, method):
        super().__init__()
        self._method = method

    def write(self, text):
        return self._fail() if self._method == "write" else super().write(text)

    def flush(self):
        if self._method == "flush":
            self._fail()

    def _fail(self):
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("method", ["write", "flush"])
@pytest.mark.parametrize("arguments", ["recipes", "recipes --json", "--help", "train --help", "--version", "help"])
def test_a_full_disk_gives_one_line(arguments, method, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", _Broken(method))
    assert main(arguments.split()) == 1
    assert capsys.readouterr().err == "fastnn: cannot write the result to stdout: No space left on device\n"


@posix
@pytest.mark.parametrize(("redirection", "code", "words"), [
    (">/dev/full", 1, "fastnn: cannot write the result to stdout: No space left on device\n"),
    (">&-", 1, "fastnn: cannot write the result to stdout: it is closed\n"),
    (">&- 2>&-", 1, ""),
    ("2>/dev/full", 0, ""),
    ("2>&-", 0, ""),
])  # fmt: skip
def test_a_broken_stream_gives_its_exit_code_and_no_traceback(redirection, code, words):
    if "/dev/full" in redirection and not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    line = f'"{sys.executable}" -m fastnn recipes {redirection}'
    result = subprocess.run(["sh", "-c", line], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (code, words)


@posix
def test_messages_that_cannot_be_written_do_not_end_up_in_the_result():
    result = subprocess.run(["sh", "-c", f'"{sys.executable}" -m fastnn trian 2>&-'], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (2, "")


@pytest.mark.parametrize(("encoding", "name", "shown"), [
    ("ascii", "sieben-é.png", r"sieben-\xe9.png"),
    ("cp1252", "七.png", r"\u4e03.png"),
    ("utf-8", "sieben\udcfc.png", r"sieben\udcfc.png"),
    ("utf-8", "七-é.png", "七-é.png"),
    ("utf-8", "red\x1b[31m", r"red\x1b[31m"),
    ("utf-8", "gnp.\u202etxt", r"gnp.\u202etxt"),
    ("utf-8", "a\tb\r", "a\tb\\r"),
])  # fmt: skip
def test_what_stdout_cannot_print_is_escaped(encoding, name, shown, monkeypatch):
    stdout = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
    monkeypatch.setattr(sys, "stdout", stdout)
    with standard_streams():
        print(name)
    assert stdout.buffer.getvalue().decode(encoding).splitlines() == [shown]


def test_a_message_is_one_line(capsys):
    say("two\nlines\x1b[31m and a七")
    assert capsys.readouterr().err == "two\\nlines\\x1b[31m and a七\n"
    assert printable("two\nlines") == "two\nlines"


@posix
@pytest.mark.skipif(sys.platform == "darwin", reason="file names are UTF-8")
def test_a_name_that_is_no_text_is_printed(tmp_path):
    """The prediction of a picture whose name is Latin-1, in a UTF-8 locale."""
    run = tmp_path / os.fsdecode(b"sieben\xfc\n")
    arguments = ["train", "--recipe", "digits", "--epochs", "1", "--backend", "numpy", "--quiet", "--out", run]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    result = subprocess.run([*COMMAND, *arguments], env=environment, capture_output=True)
    assert (result.returncode, result.stderr) == (0, b"")
    assert b"sieben\\udcfc" in result.stdout.splitlines()[-1]
    result = subprocess.run([*COMMAND, "report", run, "--backend", "numpy"], env=environment, capture_output=True)
    assert (result.returncode, result.stderr) == (0, b"")
    assert len(result.stdout.splitlines()) == 1


@pytest.mark.parametrize("before", [True, False])
def test_quiet_shows_the_result_and_errors_only(before, tmp_path, capsys):
    train = ["train", "--recipe", "digits", "--epochs", "2", "--backend", "numpy", "--json", "--out"]
    quiet = ["--quiet", *train] if before else [train[0], "--quiet", *train[1:]]
    assert main([*quiet, str(tmp_path / "run")]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["epochs"] == 2
    assert err == ""
    assert main([*quiet, str(tmp_path / "run")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_without_a_terminal_there_is_no_spinner(capsys):
    with standard_streams(), working("waiting"):
        time.sleep(0.25)
    assert capsys.readouterr().err == ""


class _Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_spinner_shows_life_and_leaves_nothing_behind(monkeypatch):
    """It is erased before anything else is printed."""
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with standard_streams():
        with working("waiting"):
            _wait_for(terminal, "| waiting, 0 s")
            _wait_for(terminal, "/ waiting, 0 s")
            say("a message")
        shown = terminal.getvalue()
        with working("quiet", quiet=True):
            time.sleep(0.15)
    assert shown.endswith("\r" + " " * len("/ waiting, 0 s") + "\ra message\n")
    assert terminal.getvalue() == shown


def test_the_spinner_turns_while_numba_compiles(monkeypatch):
    import logging

    import numba

    from fastnn.cli.output import log_to_stderr

    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")

    with standard_streams(), log_to_stderr():
        logging.getLogger("fastnn").info("compiling kernels")
        while "compiling kernels, 0 s" not in terminal.getvalue():  # a fast machine may need several compilations
            numba.njit(lambda x: x + sum(range(10)))(1)
    shown = terminal.getvalue()
    assert shown.startswith("fastnn: compiling kernels\n")
    assert shown.endswith(" \r")  # the line was erased
    numba.njit(lambda x: x + sum(range(11)))(1)  # no listener is left
    assert terminal.getvalue() == shown


def _wait_for(terminal, text):
    deadline = time.monotonic() + 30
    while text not in terminal.getvalue():
        assert time.monotonic() < deadline
        time.sleep(0.01)
