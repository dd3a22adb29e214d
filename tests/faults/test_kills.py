"""Killed processes: their files stay whole, and a resumed run ends with the files of one that was never killed."""

import os
import signal
import subprocess
import sys
import time

import pytest

import fastnn
from tests.faults.failing import temporary_files
from tests.faults.killing import Command, kill_until_done, run_whole, train, train_layers

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL and fork"),
]

# Forks a process that saves the four models in turn, again and again, for each line of its input.
SAVING = """
import os, sys
import fastnn
path, *others = sys.argv[1:]
models = [fastnn.load(other) for other in others]
print("ready", flush=True)
for line in sys.stdin:
    child = os.fork()
    if not child:
        for turn in range(100000):
            fastnn.save(path, models[turn % 4])
    print(child, flush=True)
    os.waitpid(child, 0)
    print("ended", flush=True)
"""


def test_a_killed_save_leaves_one_of_the_models(faults, tmp_path):
    others = [tmp_path / f"{number}.safetensors" for number in range(4)]
    for seed, other in enumerate(others):
        fastnn.save(other, fastnn.Network.initialize((784, 64 + 32 * seed, 10), seed=seed))
    contents = {other.read_bytes() for other in others}
    (tmp_path / "run").mkdir()
    path, rng = tmp_path / "run" / "model.safetensors", faults.rng("killed saves")
    arguments = [sys.executable, "-c", SAVING, str(path), *map(str, others)]
    begin = time.monotonic()
    for other in others:
        fastnn.save(path, fastnn.load(other))
    span = time.monotonic() - begin  # four saves
    process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "ready\n"
        for _ in faults.cases(40):
            process.stdin.write("\n")
            process.stdin.flush()
            child = int(process.stdout.readline())
            time.sleep(rng.uniform(0, span))
            os.kill(child, signal.SIGKILL)
            assert process.stdout.readline() == "ended\n"
            assert path.read_bytes() in contents
            fastnn.load(path)
            faults.counts["kills of a process that saves models"] += 1
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()
    assert process.returncode == 0
    # A writer removes what killed writers left.
    fastnn.save(path, fastnn.load(others[0]))
    assert not temporary_files(tmp_path)


# A chain of digests, a link every millisecond or so. Argument 3 is "forget" to lose a part of the state on disk.
COUNTING = """
import hashlib, sys, time
from pathlib import Path
from fastnn.files.atomic import write_atomically
folder, action, memory = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
if action == "start":
    folder.mkdir()
    count, chain = 0, ""
else:
    count, chain = (folder / "state").read_text().split(",")
    count, chain = int(count), "" if memory == "forget" else chain
while count < 150:
    chain, count = hashlib.sha256(f"{chain}{count}".encode()).hexdigest(), count + 1
    write_atomically(folder / "state", f"{count},{chain}".encode())
    time.sleep(0.005)
"""


@pytest.mark.parametrize("memory", ["keep", "forget"])
def test_the_loop_of_kills_tells_a_resumed_run_from_one_that_lost_its_state(faults, tmp_path, memory):
    """The command is a counter that needs no training, so this is a test of `kill_until_done` itself."""

    def command(name):
        folder = tmp_path / name
        start, resume = (
            [sys.executable, "-c", COUNTING, str(folder), action, memory] for action in ("start", "resume")
        )
        return Command(start, resume, folder, "state")

    whole, seconds = run_whole(command("whole"))
    # Half of the time: a machine that was busy while the whole run was measured may be twice as fast now.
    found, kills = kill_until_done(command("killed"), seconds / 2, faults.rng("counter"), 12)
    assert kills >= 3
    assert (found == whole) == (memory == "keep")
    faults.counts["kills of a process that is resumed"] += kills


RUNS = {
    "sgd": ["--optimizer", "sgd"],
    "momentum": ["--optimizer", "momentum"],
    "nesterov": ["--optimizer", "nesterov"],
    "adam": ["--optimizer", "adam"],
    "adamw": ["--optimizer", "adamw", "--l2", "0.001"],
    "dropout": ["--optimizer", "adam", "--dropout", "0.3", "--label-smoothing", "0.1"],
    "early stopping": ["--optimizer", "adam", "--patience", "1000"],  # the result is the network of the best epoch
    "warm-up": ["--schedule", "cosine", "--warm-up", "20"],
}
LAYERS = {"batch norm": "32:identity,norm:relu,16", "images": "conv:6x3,pool:2,16"}
WAYS = [("numba", "1"), ("numba", "2"), ("numpy", "1"), ("numpy", "2")]
USUAL = [("dropout", "numba", "2"), ("early stopping", "numpy", "1"), ("images", "numba", "2")]
KILLS = 2


def pytest_generate_tests(metafunc):
    if "run" in metafunc.fixturenames:
        is_long = metafunc.config.getoption("--faults") not in ("1", "")
        runs = [(name, *way) for name in (*RUNS, *LAYERS) for way in WAYS] if is_long else USUAL
        metafunc.parametrize("run", runs, ids=[", ".join(run) for run in runs])


def _command(folder, run, epochs):
    name, backend, threads = run
    if name in LAYERS:
        return train_layers(folder, LAYERS[name], backend, threads, epochs)
    options = ["--recipe", "digits", "--epochs", epochs, "--hidden", "64", "--learning-rate", "0.01"]
    return train(folder, *options, "--backend", backend, "--threads", threads, *RUNS[name])


def test_a_killed_and_resumed_run_ends_with_the_files_of_one_never_killed(faults, tmp_path, run):
    if run[1] == "numba":  # the time to compile is not a part of the others
        run_whole(_command(tmp_path / "compiled", run, "1"))
    whole, seconds = run_whole(_command(tmp_path / "whole", run, "200"))
    assert "model.safetensors" in whole
    kills = round(KILLS * min(faults.times, 4))
    found, killed = kill_until_done(_command(tmp_path / "killed", run, "200"), seconds, faults.rng(*run), kills)
    assert found == whole
    faults.counts["kills of a training that is resumed"] += killed
