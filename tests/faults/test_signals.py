"""Signals sent to `fastnn train`: whatever its stage, the run is saved, and its folder is one that other commands read.

No test depends on the time at which a signal arrives: each is sent by the process itself at a known place, or after a
line of progress that cannot be the last.
"""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

import fastnn
from fastnn.cli import signals
from fastnn.cli.command import main
from fastnn.cli.signals import SIGNALS, Signalled
from fastnn.files.lock import LOCK
from tests.figures import UNDRAWN

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
TRAIN = ["train", "--recipe", "digits", "--backend", "numpy", "--out"]
SAVED = {"model.safetensors", "history.csv", "report.json"}


def names(folder):
    return {path.name for path in folder.iterdir()}


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    """A run to compare with."""
    folder = tmp_path_factory.mktemp("runs") / "twin"
    assert main([*TRAIN, str(folder), "--epochs", "1", "--quiet"]) == 0
    return folder


def read(folder, twin, capfd):
    """Return the report of a run after checking that its three files agree and that `compare` reads it."""
    assert names(folder) >= SAVED
    hidden = {name for name in names(folder) if name.startswith(".fastnn")}
    assert hidden <= {LOCK}  # a process that ends at once leaves its lock, which then locks nothing
    report = json.loads((folder / "report.json").read_text())
    assert report["epochs"] == len((folder / "history.csv").read_text().splitlines()) - 1
    fastnn.load(folder / "model.safetensors")
    assert main(["compare", str(folder), str(twin)]) == 0, capfd.readouterr().err
    return report


# A program that sends signals to itself at one place of a run: NAME is called as usual, but signals come first.
AT = (
    UNDRAWN
    + """
import os, signal, sys, time
import fastnn.plots, fastnn.runs.folder, fastnn.training.progress
from fastnn.__main__ import run
owner = fastnn.OWNER
original = getattr(owner, NAME)
def send(*arguments, **options):
    for number in SIGNALS:
        os.kill(os.getpid(), number)
    for _ in range(1000):
        pass  # the interpreter runs the handler
    return original(*arguments, **options)
setattr(owner, NAME, send)
sys.argv[1:] = ARGUMENTS
run()
"""
)


def run_with_signal(out, owner, name, numbers, *options):
    arguments = [*TRAIN, str(out), "--epochs", "2", *options]
    given = {"OWNER": owner, "NAME": repr(name), "SIGNALS": [int(each) for each in numbers], "ARGUMENTS": arguments}
    program = AT
    for word, value in given.items():
        program = program.replace(word, str(value))
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(("sent", "word"), [
    (["SIGINT"], "interrupted"),
    (["SIGTERM"], "terminated"),
    (["SIGHUP"], "terminated"),
    (["SIGINT", "SIGINT"], "interrupted"),
    (["SIGTERM", "SIGTERM", "SIGTERM"], "terminated"),
    (["SIGHUP", "SIGTERM", "SIGINT"], ""),
])  # fmt: skip
def test_signals_during_training_leave_a_whole_run(sent, word, tmp_path, twin, capfd):
    """Several at once are one wish, and none of them costs the network."""
    out, numbers = tmp_path / "run", [getattr(signal, name) for name in sent]
    result = run_with_signal(out, "training.progress.Progress", "__call__", numbers)
    assert result.returncode in [128 + number for number in numbers], result.stderr
    assert "Traceback" not in result.stderr
    assert word in result.stderr.splitlines()[-1]
    assert read(out, twin, capfd)["stopped"] == "interrupted"


def test_a_run_under_nohup_survives_the_end_of_its_terminal(tmp_path):
    """The signal that the process ignores when it begins stays ignored."""
    out = tmp_path / "run"
    hup = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        result = run_with_signal(out, "training.progress.Progress", "__call__", [signal.SIGHUP])
    finally:
        signal.signal(signal.SIGHUP, hup)
    assert result.returncode == 0, result.stderr
    assert "accuracy" in result.stdout


@pytest.mark.parametrize(("owner", "name", "sent"), [
    ("runs.folder", "save", ["SIGINT"]),
    ("runs.folder", "save", ["SIGINT", "SIGINT"]),
    ("runs.folder", "as_csv", ["SIGHUP", "SIGINT"]),
    ("runs.folder", "evaluate_model", ["SIGINT"]),
    ("runs.folder", "diagnose", ["SIGHUP"]),
    ("plots.ConfusionDisplay", "save", ["SIGINT", "SIGINT"]),
])  # fmt: skip
def test_a_signal_after_training_leaves_a_whole_run(owner, name, sent, tmp_path, twin, capfd):
    """While the model is written or the history, while the network is evaluated, during the figures."""
    out, numbers = tmp_path / "run", [getattr(signal, each) for each in sent]
    result = run_with_signal(out, owner, name, numbers)
    assert result.returncode == 128 + numbers[0], result.stderr
    assert "Traceback" not in result.stderr
    report = read(out, twin, capfd)
    assert (report["stopped"], report["epochs"]) == ("epochs", 2)


def test_a_second_signal_ends_the_process_at_once(tmp_path):
    """The first one meets code that does not stop; the second comes a second later."""
    program = (
        "import os, signal, sys, time\n"
        "import fastnn.cli.recipes\n"
        "from fastnn.__main__ import run\n"
        "def stuck(options):\n"
        "    while True:\n"
        "        try:\n"
        "            print('ready', file=sys.stderr, flush=True)\n"
        "            while True: time.sleep(1)\n"
        "        except KeyboardInterrupt: pass\n"
        "fastnn.cli.recipes.run = stuck\n"
        "sys.argv[1:] = ['recipes']\n"
        "run()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
    assert process.stderr.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.stderr.readline() == "ready\n"
    time.sleep(2 * signals._SAME_WISH)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30)[1] == "fastnn: interrupted at once\n"
    assert process.returncode == 130


def answers_during(act):
    """Run `act`, in which signals arrive, then wait; return whether the answer came only after `act`."""
    done = False
    with SIGNALS.answered():
        try:
            act()
            done = True
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                time.sleep(0.001)
        except Signalled:
            return done
    raise AssertionError("the signal was lost")


def press():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.05)  # the handler runs, and so do answers that come too early


def test_a_signal_during_an_import_is_answered_after_it(tmp_path, monkeypatch):
    (tmp_path / "interrupted_module.py").write_text("from tests.faults.test_signals import press\npress()\nwhole = 1\n")
    monkeypatch.syspath_prepend(tmp_path)

    def act():
        import interrupted_module

        assert interrupted_module.whole == 1

    assert answers_during(act)


def test_a_signal_in_a_callback_of_llvm_is_answered_after_it():
    code = compile("def callback():\n    press()\n", f"{os.sep}llvmlite{os.sep}binding{os.sep}x.py", "exec")
    space = {"press": press}
    exec(code, space)
    assert answers_during(space["callback"])


def test_a_signal_where_python_discards_exceptions_is_answered_after_it():
    class Finalized:
        def __del__(self):
            press()

    import ctypes

    called = ctypes.CFUNCTYPE(None)(press)
    assert answers_during(called)
    assert answers_during(lambda: Finalized() and None)


def test_handlers_are_restored_and_those_of_the_program_stay(monkeypatch):
    def own(*_):
        raise AssertionError

    old = signal.signal(signal.SIGTERM, own)
    try:
        before = signal.getsignal(signal.SIGINT)
        assert before is signal.default_int_handler
        with SIGNALS.answered():
            assert signal.getsignal(signal.SIGTERM) is own
            assert signal.getsignal(signal.SIGINT) == SIGNALS._answer
        assert signal.getsignal(signal.SIGINT) is before
    finally:
        signal.signal(signal.SIGTERM, old)


@pytest.mark.parametrize("seconds", [0, 5], ids=["at once", "after the command"])
def test_a_signal_before_the_command_is_imported_gives_one_line(seconds):
    program = (
        "import os, signal, sys\n"
        "import fastnn.cli.signals\n"
        f"fastnn.cli.signals._RETRY_SECONDS = {seconds}\n"
        "from fastnn.__main__ import run\n"
        "class Finder:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'fastnn.cli.predict':\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "sys.argv[1:] = ['help']\n"
        "run()\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert result.returncode == 130
    assert "Traceback" not in result.stderr
    if seconds:
        assert result.stderr == "fastnn: interrupted\n"
