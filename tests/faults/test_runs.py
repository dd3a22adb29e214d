"""Faults during `fastnn train`: whatever fails, the answer is one line, and what there is of the run is on disk."""

import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import fastnn
from fastnn.cli.command import main
from fastnn.errors import FileError
from fastnn.files import atomic
from fastnn.files.checkpoint_file import CHECKPOINT
from fastnn.files.lock import LOCK, FolderLock
from fastnn.runs import folder as run_folder
from fastnn.runs.folder import RunFolder
from fastnn.training import train as training
from tests.figures import UNDRAWN

TRAIN = ["train", "--recipe", "digits", "--backend", "numpy", "--epochs", "2"]
SAVED = {"model.safetensors", "history.csv", "report.json"}
PICTURES = {"curves.png", "confusion.png", "mistakes.png"}
posix = pytest.mark.skipif(os.name == "nt", reason="POSIX permissions, locks and signals")
ENDS = {
    "Ctrl-C": KeyboardInterrupt,
    "no memory": MemoryError,
    "full disk": lambda: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    "broken pipe": lambda: BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)),
    "a bug": lambda: ZeroDivisionError("division by zero"),
}


@pytest.fixture(autouse=True)
def _quick(monkeypatch, undrawn_figures):
    monkeypatch.setattr(run_folder, "_PAUSES", (0.0, 0.0, 0.0))


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    """A finished run to compare with."""
    folder = tmp_path_factory.mktemp("runs") / "twin"
    assert main([*TRAIN, "--quiet", "--out", str(folder)]) == 0
    return folder


def names(folder):
    return {path.name for path in folder.iterdir()}


def fails(arguments, capsys, *words, code=1):
    """Assert that the command fails with one line on stderr, after lines of progress, that contains `words`."""
    capsys.readouterr()
    assert main(arguments) == code
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    lines = [line for line in err.splitlines() if not line.startswith("epoch")]
    assert len(lines) == 1, err
    for word in words:
        assert word in lines[0]
    return out


def check_run(folder, twin, epochs, capsys):
    """Assert that the files of a run are whole and agree, and that `compare` reads them."""
    assert names(folder) >= SAVED
    assert not {name for name in names(folder) if name.startswith(".")}
    report = json.loads((folder / "report.json").read_text())
    assert report["epochs"] == len((folder / "history.csv").read_text().splitlines()) - 1 == epochs
    fastnn.load(folder / "model.safetensors")
    assert main(["compare", str(folder), str(twin)]) == 0, capsys.readouterr().err
    return report


def fail_with(make_error):
    def failing(*_, **__):
        raise make_error()

    return failing


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("stage", ["evaluate_model", "diagnose"])
def test_an_error_after_training_leaves_the_run(stage, end, tmp_path, twin, monkeypatch, capsys):
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(run_folder, stage, fail_with(ENDS[end]))
        fails([*TRAIN, "--out", str(out)], capsys, code=130 if end == "Ctrl-C" else 1)
    report = check_run(out, twin, 2, capsys)
    assert (report["stopped"], report["diagnosis"]) == ("epochs", [])
    if end == "Ctrl-C":
        assert main(["report", str(out), "--backend", "numpy"]) == 0


@pytest.mark.parametrize("end", ENDS)
def test_an_error_of_the_figures_leaves_the_run_and_its_result(end, tmp_path, twin, monkeypatch, capsys):
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("fastnn.plots.ConfusionDisplay.save", fail_with(ENDS[end]))
        printed = fails([*TRAIN, "--out", str(out)], capsys, code=130 if end == "Ctrl-C" else 1)
    assert "accuracy" in printed
    report = check_run(out, twin, 2, capsys)
    assert report["test_accuracy"] > 0.5


@pytest.mark.parametrize("end", ENDS)
def test_whatever_ends_the_training_leaves_the_epochs_before(end, tmp_path, twin, monkeypatch, capsys):
    """Every exception that ends `train` carries the result so far."""
    out, train = tmp_path / "run", training.train

    def ended(*arguments, **options):
        result = train(*arguments, **options)
        error = ENDS[end]()
        error.result = replace(result, stopped="interrupted")
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(training, "train", ended)
        capsys.readouterr()
        assert main([*TRAIN, "--out", str(out)]) == (130 if end == "Ctrl-C" else 1)
        assert f"the network after epoch 2 is in {out}" in capsys.readouterr().err
    assert check_run(out, twin, 2, capsys)["stopped"] == "interrupted"


def test_a_checkpoint_that_fails_warns_once_until_it_works_again(tmp_path, twin, monkeypatch, capsys):
    """The disk is full at the first two checkpoints, works at the third, and is full again at the last two."""
    out, save, fates = tmp_path / "run", run_folder.save, iter("xx.xx......")

    def full(*arguments):
        if next(fates) == "x":
            raise FileError("the disk is full")
        save(*arguments)

    monkeypatch.setattr(run_folder, "save", full)
    monkeypatch.setattr(run_folder, "SECONDS_BETWEEN_MODELS", 0.0)
    assert main([*TRAIN[:-1], "5", "--quiet", "--out", str(out)]) == 0
    lines = capsys.readouterr().err.splitlines()
    failed = "fastnn: the model is not saved: the disk is full; training goes on"
    assert lines == [failed, "fastnn: the model is saved again", failed]
    check_run(out, twin, 5, capsys)


class FailingCall:
    """A function of `os` whose n-th call fails if it is about the run: its folder, or a file that is being written."""

    def __init__(self, patch, name, nth, folder):
        self.nth, self.count, self.is_writing = nth, 0, False
        self.original, self.write, self.folder = getattr(os, name), atomic._replace, str(folder)
        self.takes_descriptor = name in ("fsync", "fstat")
        patch.setattr(os, name, self.call)
        patch.setattr(atomic, "_replace", self.replace)

    def call(self, *arguments, **options):
        if self.is_writing if self.takes_descriptor else str(arguments[0]).startswith(self.folder):
            self.count += 1
            if self.count == self.nth:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        return self.original(*arguments, **options)

    def replace(self, *arguments, **options):
        self.is_writing = True
        try:
            return self.write(*arguments, **options)
        finally:
            self.is_writing = False


@pytest.mark.filterwarnings("ignore:fastnn. no checkpoint was written:RuntimeWarning")
@pytest.mark.parametrize("call", ["open", "chmod", "fsync", "replace", "mkdir", "stat", "fstat", "listdir"])
def test_one_failing_call_never_loses_the_result(call, tmp_path, twin, monkeypatch, capsys):
    """The n-th call of the operating system fails: before training with one line, after it without harm to the run."""
    for nth in range(1, 100):
        out = tmp_path / f"run{nth}"
        with monkeypatch.context() as patch:
            patch.setattr(RunFolder, "save_figures", lambda *_: None)
            failing = FailingCall(patch, call, nth, out)
            code = main([*TRAIN, "--quiet", "--out", str(out)])
        _, err = capsys.readouterr()
        assert "Traceback" not in err
        assert "internal error" not in err
        if out.exists():
            check_run(out, twin, 2, capsys)
        else:
            assert code == 1
        if failing.count < nth:
            break
    assert code == 0
    assert nth > 1


@posix
def test_two_processes_never_share_a_folder(tmp_path, capsys):
    """While one run waits inside its training, another one with the same folder is refused by name."""
    out = tmp_path / "run"
    program = UNDRAWN + (
        "import sys; import fastnn.training.progress; from fastnn.__main__ import run\n"
        "def wait(*_):\n"
        "    print('ready', flush=True); sys.stdin.readline()\n"
        "fastnn.training.progress.Progress.__call__ = wait\n"
        "run()"
    )
    command = [sys.executable, "-c", program, *TRAIN, "--out", str(out)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    fails([*TRAIN, "--out", str(out)], capsys, f"{out} is in use by process {process.pid} on ", "new or empty folder")
    _, err = process.communicate("\n\n\n")
    assert process.returncode == 0, err
    assert names(out) - {CHECKPOINT} == SAVED | PICTURES
    fails([*TRAIN, "--out", str(out)], capsys, "already holds a run")


@posix
def test_a_lock_of_a_dead_process_is_no_obstacle(tmp_path):
    program = (
        "import os, signal, sys; from fastnn.files.lock import FolderLock\n"
        "lock = FolderLock(sys.argv[1]); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path])
    assert names(tmp_path) == {LOCK}
    FolderLock(tmp_path).release()
    assert names(tmp_path) == set()


@posix
def test_without_locks_of_files_the_number_of_the_process_decides(tmp_path, monkeypatch):
    monkeypatch.setattr("fastnn.files.lock.try_lock", lambda _: None)
    first = FolderLock(tmp_path)
    with pytest.raises(FileError, match=f"in use by process {os.getpid()} on .*; remove its {LOCK} if that process"):
        FolderLock(tmp_path)
    first.release()
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    host = os.uname().nodename
    (tmp_path / LOCK).write_text(f"{dead.pid} {host}\n")
    FolderLock(tmp_path).release()
    (tmp_path / LOCK).write_text(f"{dead.pid} another-{host}\n")
    with pytest.raises(FileError, match=f"in use by process {dead.pid} on another-"):
        FolderLock(tmp_path)


def test_default_folders_are_never_chosen_twice(tmp_path, monkeypatch):
    """Another process creates the folder just before this one does."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_folder.time, "strftime", lambda _: "now")
    with RunFolder(None, "x") as first, RunFolder(None, "x") as second:
        assert [str(first.path), str(second.path)] == [f"runs{os.sep}now-x", f"runs{os.sep}now-x-2"]
    assert names(tmp_path) == set()


@pytest.mark.parametrize("name", [
    "history.csv", "curves.png", "confusion.png", "mistakes.png", "predictions.png", "learning-rate.png",
    "report.html", "report.json", "model.safetensors", "checkpoint.safetensors", "notes.txt",
])  # fmt: skip
@pytest.mark.parametrize("kind", ["file", "link", "folder"])
def test_files_of_the_user_are_never_overwritten(name, kind, tmp_path, capsys):
    if kind == "link" and os.name == "nt":
        pytest.skip("links need a privilege")
    out, own = tmp_path / "out", tmp_path / "own"
    out.mkdir()
    own.write_text("mine")
    if kind == "file":
        (out / name).write_text("mine")
    elif kind == "link":
        (out / name).symlink_to(own)
    else:
        (out / name).mkdir()
    fails([*TRAIN, "--out", str(out)], capsys, str(out), "already holds", "new or empty folder")
    assert own.read_text() == "mine"
    assert names(out) == {name}


@pytest.mark.parametrize("command", ["train --recipe digits --out", "report", "compare x", "evaluate", "predict x",
                                     "train --config", "train --from", "explain x", "predict"])  # fmt: skip
@pytest.mark.parametrize("path", ["n" * 300, "nul\0", "loop/inside", "file/inside", "locked/inside", "x" * 5000])
def test_paths_that_cannot_be_are_named_on_one_line(command, path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    if os.name != "nt":
        (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "locked").mkdir(0o000)
    try:
        if path.startswith("locked") and os.name != "nt" and os.geteuid() == 0:
            pytest.skip("the administrator may do anything")
        given = [*command.split(), path, *(["--data", "file"] if command == "evaluate" else [])]
        if command == "predict":
            given += ["file"]
        try:
            code = main(given)
        except SystemExit as end:
            code = end.code
        out, err = capsys.readouterr()
        assert code in (1, 2)
        assert (out, err.count("\n")) == ("", 1)
        assert "internal error" not in err
    finally:
        (tmp_path / "locked").chmod(0o700)


@posix
@pytest.mark.parametrize("error", [errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EDQUOT])
def test_a_folder_that_takes_no_file_is_refused_before_training(error, tmp_path, monkeypatch, capsys):
    """It exists and claims to be writable, such as one on a read-only disk."""
    out, original = tmp_path / "out", os.open
    out.mkdir()

    def failing(path, *arguments, **options):
        if str(path).startswith(str(out)):
            raise OSError(error, os.strerror(error))
        return original(path, *arguments, **options)

    monkeypatch.setattr(os, "open", failing)
    monkeypatch.setattr(training, "train", fail_with(lambda: AssertionError("it was trained")))
    fails([*TRAIN, "--out", str(out)], capsys, str(out), os.strerror(error))
    assert names(out) == set()


def test_a_disk_that_is_almost_full_is_a_warning(tmp_path, monkeypatch, capsys):
    usage = run_folder.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(run_folder.shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
    assert main([*TRAIN, "--quiet", "--out", str(tmp_path / "run")]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert "the disk is almost full: 1.0 MB are free, and the files of the run may need 2.1 MB" in line


@posix
@pytest.mark.parametrize(("redirection", "code"), [
    (">&-", 1),
    (">/dev/full", 1),
    ("2>&-", 0),
    ("0<&- >&- 2>&-", 1),
    ("2>&1 | head -n 1 >/dev/null", 1),
    ("2>/dev/full", 0),
])  # fmt: skip
def test_a_broken_stream_leaves_a_whole_run(redirection, code, tmp_path, twin, capsys):
    """Progress that nobody reads ends nothing. A result that cannot be printed is an error, after all is saved."""
    if "/dev/full" in redirection and not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    out = tmp_path / "run"
    line = f'( "$@"; echo $? >"{tmp_path}/code" ) {redirection}'
    program = UNDRAWN + "from fastnn.__main__ import run; run()"
    command = ["sh", "-c", line, "sh", sys.executable, "-c", program, *TRAIN, "--out", str(out)]
    environment = {**os.environ, "MPLBACKEND": "misspelt"}
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=120)
    assert (tmp_path / "code").read_text() == f"{code}\n"
    assert names(out) - {CHECKPOINT} == SAVED | PICTURES
    check_run(out, twin, 2, capsys)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("compare", "history.csv"),
        ("compare", "report.json"),
        ("report", "history.csv"),
        ("report", "report.json"),
        ("report", "model.safetensors"),
    ],
)
def test_a_pipe_in_a_run_is_refused_and_never_waited_for(command, name, tmp_path, twin, capsys):
    run = shutil.copytree(twin, tmp_path / "run")
    (run / name).unlink()
    os.mkfifo(run / name)
    runs = [str(twin), str(run)] if command == "compare" else [str(run)]
    fails([command, *runs], capsys, name, "expected a regular file")


def test_names_cannot_control_the_terminal_or_add_lines(tmp_path, capsys):
    """The names of classes are those of a file that anyone may have written."""
    classes, model = ["red\x1b[31m\nfastnn: accuracy 100%", "b\u202etxt"], str(tmp_path / "model")
    fastnn.save(model, fastnn.Network.initialize((4, 3, 2), seed=0), classes=classes)
    data, rows = str(tmp_path / "data.npz"), np.random.default_rng(0).random((8, 4))
    np.savez(data, x=rows, y=np.array(classes * 4))
    assert main(["evaluate", model, "--data", data, "--backend", "numpy"]) == 0
    out, _ = capsys.readouterr()
    assert len(out.splitlines()) == 5
    assert "red\\x1b[31m\\nfastnn: accuracy 100%" in out
    assert "b\\u202etxt" in out
    assert main(["evaluate", model, "--data", data, "--backend", "numpy", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["per_class"][0]["label"] == classes[0]
    with pytest.raises(SystemExit):
        main(["train", "--epo\x1b[31m\n"])
    err = capsys.readouterr().err
    assert (err.count("\n"), "\x1b" in err) == (1, False)


def test_an_error_nobody_expected_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("fastnn.cli.recipes.run", fail_with(lambda: ZeroDivisionError("two\nlines")))
    fails(["recipes"], capsys, "fastnn: internal error", "FASTNN_TRACEBACK=1", "ZeroDivisionError: two lines")
    monkeypatch.setenv("FASTNN_TRACEBACK", "1")
    assert main(["recipes"]) == 1
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.setattr("fastnn.cli.recipes.run", fail_with(lambda: ModuleNotFoundError("No module named 'x'")))
    monkeypatch.delenv("FASTNN_TRACEBACK")
    fails(["recipes"], capsys, "cannot be imported", "No module named 'x'", code=2)
