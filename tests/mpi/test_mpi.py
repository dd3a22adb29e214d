"""`fastnn.mpi` on real processes: the same bits for any number of ranks, and one clear line for whatever goes wrong."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import fastnn
import fastnn.mpi
from fastnn.files.checkpoint_file import load_checkpoint
from tests.mpi.program import DATA, IN_BLOCKS, RUNS, USUAL, blocks, network

pytest.importorskip("mpi4py")
MPIEXEC = shutil.which("mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
pytestmark = pytest.mark.skipif(MPIEXEC is None, reason="mpiexec is not installed")
TRAIN = ["-m", "fastnn", "train", "--mpi", "--recipe", "digits", "--backend", "numpy", "--batch-size", "64"]


def start(ranks, *arguments):
    command = [str(MPIEXEC), "-n", str(ranks), sys.executable, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def finish(process, seconds=120):
    try:
        out, err = process.communicate(timeout=seconds)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    return process.returncode, out, err


def run(ranks, *arguments):
    return finish(start(ranks, *arguments))


def wait_for(condition, process):
    for _ in range(600):
        if condition():
            return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    pytest.fail(f"not reached: {finish(process, 1)}")


@pytest.fixture(scope="module")
def expected():
    """The digests of the runs in one process, by `fastnn.train`."""
    return {name: fastnn.train(one, DATA, **{**USUAL, **settings}, slices=8).digest()
            for name, (one, settings) in RUNS.items()}  # fmt: skip


@pytest.mark.parametrize(("ranks", "names"), [(1, ["kernels"]), (2, list(RUNS)), (4, list(RUNS)), (8, ["kernels"])])
def test_any_number_of_ranks_has_the_bits_of_one_process(ranks, names, expected):
    code, out, err = run(ranks, "-m", "tests.mpi.program", *names)
    assert code == 0, err
    assert json.loads(out) == [[expected[name] for name in names]] * ranks


def test_ranks_on_data_in_blocks_have_the_bits_of_one_process():
    code, out, err = run(2, "-m", "tests.mpi.program", "blocks")
    assert code == 0, err
    expected = fastnn.train(network(20), blocks(), slices=8, **IN_BLOCKS, **USUAL).digest()
    assert json.loads(out) == [expected] * 2
    assert expected != fastnn.train(network(20), blocks(), slices=8, seed=1, **IN_BLOCKS, **USUAL).digest()


def test_another_number_of_slices_has_other_bits(expected):
    one, settings = RUNS["kernels"]
    alone = fastnn.mpi.train(one, DATA, slices=8, **{**USUAL, **settings})
    assert alone.digest() == expected["kernels"]
    assert fastnn.mpi.train(one, DATA, slices=4, **{**USUAL, **settings}).digest() != expected["kernels"]


def test_an_error_of_any_rank_reaches_all_in_one_line(tmp_path):
    path = tmp_path / "run.safetensors"
    code, out, err = run(4, "-m", "tests.mpi.program", "errors", str(path))
    assert code == 0, err
    data, settings, slices, bad, diverged, callback, shuffle, memory = json.loads(out)
    assert all("the training data is not that of rank 0" in each for each in data)
    assert all("rank 1: the settings is not that of rank 0" in each for each in settings)
    assert all("4 ranks cannot share 2 slices, expected 1 or 2 ranks" in each for each in slices)
    assert all("batch_size is -1" in each for each in bad)
    assert bad[0].startswith("SettingsError: rank 1: ")
    assert all(each.startswith("DivergenceError: ") for each in diverged)
    assert callback[0].startswith("ZeroDivisionError")
    assert all("rank 0: ZeroDivisionError" in each for each in callback[1:])
    assert all("shuffle is a function, expected True or False" in each for each in shuffle)
    assert memory[0] == "FastnnError: rank 1: out of memory"
    state = load_checkpoint(path)  # rank 0 has written the newest state
    whole = fastnn.train(network(8), DATA, **{**USUAL, "epochs": 5}, backend="numpy", slices=8)
    assert fastnn.train(network(8), DATA, resume=state, epochs=5).digest() == whole.digest()


def test_ranks_that_compute_other_bits_are_named_before_training():
    code, out, err = run(2, "-m", "tests.mpi.program", "unlike")
    assert code == 0, err
    versions, forced, cpu, warned, net = json.loads(out)
    for each in (*versions, *forced):  # other versions may not even agree on what they send
        assert each.startswith("SettingsError: rank 1: the version of fastnn is '0.0.9', that of rank 0 '")
        assert each.endswith("', expected the same on every rank")
    for each in cpu:
        assert each.startswith("SettingsError: rank 1: the CPU is 'znver9 v9', that of rank 0 '")
        assert each.endswith("sums depend on which rank computes them; force=True continues nevertheless")
    digest = fastnn.train(network(8), DATA, **USUAL, backend="numpy", slices=8).digest()
    assert [each.split()[0] for each in warned] == [digest] * 2
    assert ["rank 1: the CPU is 'znver9 v9'" in each for each in warned] == [True, False]  # said once
    assert all("rank 1: the network is not that of rank 0, expected the same on every rank" in each for each in net)


@pytest.mark.parametrize(
    ("late", "said"),
    [
        ("late", "fastnn: rank 0 of 2 waits for the others to begin"),
        ("slow", "fastnn: rank 0 of 2 has waited for other ranks for 0.2 s in a step: one is stopped,"),
    ],
)
def test_ranks_that_wait_for_one_say_so(late, said):
    code, out, err = run(2, "-m", "tests.mpi.program", late)
    assert code == 0, err
    assert err.count(said) == 1
    digest = fastnn.train(network(8), DATA, **USUAL, backend="numpy", slices=8).digest()
    assert json.loads(out) == [digest] * 2


def test_an_error_that_the_others_cannot_learn_of_ends_all():
    code, _, err = run(2, "-m", "tests.mpi.program", "fail")
    assert code != 0
    assert "fastnn: rank 1: ValueError: of rank 1 only" in err


def _is_saved(folder):
    return (folder / "checkpoint.safetensors").exists() and load_checkpoint(folder).trainer.epochs > 0


def _resumed(folder, ranks, capsys):
    """Resume the run of a folder on so many ranks for two more epochs; check that one process has the same bits."""
    epochs = load_checkpoint(folder).trainer.epochs + 2
    shutil.copytree(folder, f"{folder}-alone")
    more = ["--epochs", str(epochs), "--quiet", "--json"]
    code, out, err = run(ranks, "-m", "fastnn", "train", "--mpi", "--resume", str(folder), *more)
    assert code == 0, err
    from fastnn.cli.command import main

    capsys.readouterr()
    assert main(["train", "--resume", f"{folder}-alone", *more]) == 0
    assert json.loads(capsys.readouterr().out)["digest"] == json.loads(out)["digest"]


def test_ctrl_c_leaves_a_checkpoint_from_which_other_ranks_go_on(tmp_path, capsys):
    folder = tmp_path / "run"
    process = start(2, *TRAIN, "--epochs", "100000", "--quiet", "--out", str(folder))
    wait_for(lambda: _is_saved(folder), process)
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process, 30)
    assert code == 130
    assert "fastnn: interrupted" in err
    _resumed(folder, 4, capsys)


def _ranks_of(process):
    """The process numbers of the ranks that an `mpiexec` has started."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                environment = (entry / "environ").read_bytes().split(b"\0")
            except (OSError, ValueError):
                continue
            if b"PMI_RANK=1" in environment and _descends(int(entry.name), process.pid):
                found.append(int(entry.name))
    return found


def _descends(number, ancestor):
    while number > 1:
        if number == ancestor:
            return True
        try:
            number = int(Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            return False
    return False


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds the ranks in /proc")
def test_a_killed_rank_ends_the_run_and_the_checkpoint_goes_on(tmp_path, capsys):
    folder = tmp_path / "run"
    process = start(2, *TRAIN, "--epochs", "100000", "--quiet", "--out", str(folder))
    wait_for(lambda: _is_saved(folder), process)
    (rank_1,) = _ranks_of(process)
    os.kill(rank_1, signal.SIGKILL)
    code, _, _ = finish(process, 60)
    assert code != 0
    _resumed(folder, 1, capsys)


def test_the_command_says_what_it_needs(tmp_path, capsys):
    code, _, err = run(2, *TRAIN, "--recipe", "nonsense")
    assert code == 2
    assert err.count("fastnn: recipe is 'nonsense'") == 1
    code, out, err = run(2, "-m", "fastnn", "mpi", "--probe", "--hidden", "8", "--batch-size", "64", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["ranks"] == 2
    assert 0 < found["latency"] < 1
    assert found["pays_from"]["1 Gb/s"] > found["pays_from"]["100 Gb/s RDMA"]
    from fastnn.cli.command import main

    capsys.readouterr()
    assert main(["mpi", "--probe"]) == 2
    assert "expected several ranks: mpiexec -n 2 fastnn mpi --probe" in capsys.readouterr().err
