"""Kills commands at random moments, resumes them until they end, and tells what they left."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import NamedTuple

# What differs between two runs of one command: times, and where it ran.
TIMES = ("date", "seconds", "compile_seconds", "machine", "versions")


class Command(NamedTuple):
    """A command that writes a folder, and the command that goes on with what it left."""

    start: list[str]
    resume: list[str]
    folder: Path
    begun: str  # the name of the first file in the folder; before it exists, there is nothing to resume


# Runs the command line with checkpoints as often as batches allow, because the runs of tests last a second or two.
EAGER = """
import sys
from fastnn.training import checkpoint
checkpoint.SECONDS_BETWEEN_WRITES, checkpoint.MAX_COST, checkpoint.SECONDS_OF_PART = 0.0, 1.0, 0.01
checkpoint.Checkpoint.__init__.__defaults__ = (0.05, "seconds")
"""
COMMAND_LINE = """
from fastnn.cli import main
sys.exit(main(sys.argv[1:]))
"""
# Trains layers that are given as text, from Python.
LAYERS = """
import os
import fastnn
from fastnn.network.layers import parse_layers
file, model, layers, backend, threads, epochs = sys.argv[1:]
data = fastnn.load_digits()
network = fastnn.Network.for_data(data, parse_layers(layers))
resume = file if os.path.exists(file) else None
settings = {"optimizer": "adam", "validation": 0.1, "dropout": 0.1, "backend": backend, "epochs": int(epochs)}
result = fastnn.train(network, data, checkpoint=file, resume=resume, threads=int(threads), **settings)
fastnn.save(model, result)
"""


def train(folder: Path, *options: str) -> Command:
    """Return the `Command` of ``fastnn train`` with these options."""
    program = [sys.executable, "-c", EAGER + COMMAND_LINE, "train", "--quiet"]
    start = [*program, *options, "--out", str(folder)]
    return Command(start, [*program, "--resume", str(folder)], folder, "report.json")


def train_layers(folder: Path, *options: str) -> Command:
    """Return the `Command` of a script with `fastnn.train`: the layers as text, backend, threads and epochs."""
    folder.mkdir(exist_ok=True)
    files = [str(folder / name) for name in ("checkpoint.safetensors", "model.safetensors")]
    program = [sys.executable, "-c", EAGER + LAYERS, *files, *options]
    return Command(program, program, folder, ".")


def run_whole(command: Command) -> tuple[dict[str, str], float]:
    """Run a command to its end; return the digests of its files, and the seconds it took."""
    begin = time.monotonic()
    _finish(_started(command.start))
    return digests(command.folder), time.monotonic() - begin


def kill_until_done(command: Command, seconds: float, rng: Random, max_kills: int) -> tuple[dict[str, str], int]:
    """Run a command that takes so many seconds, kill and resume it again and again, and let it end at last.

    Returns the digests of the final files and the number of kills. Each life of the process lasts a random part of
    `seconds`. The command is not killed more than `max_kills` times. A command that ended before the first kill was
    measured in a busier moment: it is run again, and its lives last half as long.
    """
    kills = 0
    while True:
        is_begun = (command.folder / command.begun).exists()
        if not is_begun:
            shutil.rmtree(command.folder, ignore_errors=True)
        process = _started(command.resume if is_begun else command.start)
        if kills < max_kills:
            try:
                process.wait(rng.uniform(0.1, 0.9) * seconds)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)  # with its children
                kills += 1
        _finish(process)
        if process.returncode == 0 and (kills or not max_kills):
            return digests(command.folder), kills
        if process.returncode == 0:
            shutil.rmtree(command.folder)
            seconds /= 2


def digests(folder: Path) -> dict[str, str]:
    """Return a digest of each file that a finished command left, without the times in it."""
    found = {}
    for path in sorted(folder.rglob("*")):
        # A checkpoint has times, too. Whether it has the bits of another one is tested by itself.
        if path.is_file() and not path.name.startswith("checkpoint."):
            content = path.read_bytes()
            if path.name == "history.csv":
                rows = csv.DictReader(io.StringIO(content.decode()))
                content = json.dumps([{**row, "seconds": None} for row in rows]).encode()
            elif path.name == "report.json":
                report = json.loads(content)
                report["last_epoch"]["seconds"] = None
                content = json.dumps({key: value for key, value in report.items() if key not in TIMES}).encode()
            found[str(path.relative_to(folder))] = sha256(content).hexdigest()
    return found


def _started(arguments: list[str]) -> subprocess.Popen:
    return subprocess.Popen(
        arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def _finish(process: subprocess.Popen) -> None:
    """Wait for the end of a process; AssertionError unless it succeeded or was killed."""
    _, printed = process.communicate()
    assert process.returncode in (0, -signal.SIGKILL), f"exit code {process.returncode}: {printed[-2000:]}"
