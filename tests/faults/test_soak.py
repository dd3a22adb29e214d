"""A soak: thousands of repetitions take no further memory, file descriptors or threads."""

import gc
import os
import resource
import sys
import threading
from contextlib import nullcontext

import numpy as np
import pytest
from scipy import sparse

import fastnn
from fastnn.errors import DivergenceError
from fastnn.plots import LearningCurveDisplay

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(sys.platform != "linux", reason="reads the resources of the process from /proc"),
]

RNG = np.random.default_rng(5)
IMAGES = RNG.random((64, 20), dtype=np.float32)
LABELS = RNG.integers(3, size=64)
# Pools of the allocator and of Python grow in steps of up to 1 MB, also after the warm-up; 8 such steps are allowed.
# The smallest leak that this finds is 800 bytes a prediction or 80 kB a fit; with --faults=full, a hundredth of that.
MEGABYTES = 8


def _resident():
    """Return the memory of this process that is in use, in MB."""
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / (1 << 20)


def _handles():
    return len(os.listdir("/proc/self/fd")), threading.active_count(), len(os.listdir("/proc/self/task"))


def _network(seed=0):
    return fastnn.Network.initialize((20, 16, 3), seed=seed)


def _model():
    return fastnn.Model(_network(), (0, 1, 2))


def _train(backend, number):
    """Train a run, of which every second one diverges."""
    rate, validation = (1e30, None) if number % 2 else (0.1, 0.2)
    with pytest.raises(DivergenceError) if number % 2 else nullcontext():
        fastnn.train(_network(), (IMAGES, LABELS), epochs=3, learning_rate=rate, backend=backend, validation=validation)


def _fit(folder, number):
    fastnn.MLPClassifier((8,), max_iter=1 + number % 2, random_state=1).fit(IMAGES, LABELS)


def _save_and_load(folder, number):
    path = folder / "model.safetensors"
    fastnn.save(path, _network(number % 5))
    fastnn.load(path).predict(IMAGES)


def _save_broken(folder, number):
    """Read a damaged file and write to a missing folder."""
    path = folder / "damaged.safetensors"
    path.write_bytes(bytes(number % 90))
    for call in (lambda: fastnn.load(path), lambda: fastnn.save(folder / "missing" / "model.safetensors", _network())):
        with pytest.raises(fastnn.FastnnError):
            call()


def _figure(folder, number):
    record = fastnn.training.history.EpochRecord(1, 0.1, 2.0, 0.5, 1.0, 0.5, 0.1)
    LearningCurveDisplay.from_history(fastnn.History([record])).save(folder / "curves.png", dpi=20)


MODEL = _model()
LAYERS = [fastnn.Conv2D(3, 3), fastnn.MaxPool2D((1, 2)), fastnn.Dense(3)]
IMAGES_MODEL = fastnn.Model(fastnn.Network.initialize((1, 4, 5), LAYERS), (0, 1, 2))
MATRIX = sparse.csr_matrix(IMAGES * (IMAGES > 0.7))
# What is repeated, how often by default, and the number of repetitions of the warm-up.
WORK = {
    "predictions": (lambda folder, number: MODEL.predict(IMAGES[: 1 + number % 64]), 10_000, 1000),
    "predictions of images": (lambda folder, number: IMAGES_MODEL.predict(IMAGES[: 1 + number % 64]), 400, 150),
    "sparse predictions": (lambda folder, number: MODEL.predict(MATRIX[: 1 + number % 64]), 1500, 250),
    "networks that predict once": (lambda folder, number: _model().predict(IMAGES), 1000, 250),
    "fits": (_fit, 100, 25),
    "trainings, half of which diverge (numba)": (lambda folder, number: _train("numba", number), 150, 30),
    "trainings, half of which diverge (numpy)": (lambda folder, number: _train("numpy", number), 80, 25),
    "models saved and loaded": (_save_and_load, 100, 25),
    "failed loads and saves": (_save_broken, 150, 50),
    "figures": (_figure, 5, 3),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*:sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", WORK)
def test_repetitions_take_no_further_memory_or_handles(faults, tmp_path, name):
    work, usual, warm_up = WORK[name]
    for number in range(warm_up):
        work(tmp_path, number)
    handles, before = _handles(), _resident()
    for number in faults.cases(usual):
        work(tmp_path, number)
    grown = _resident() - before
    # What another test left behind may take or release a few meanwhile. A leak takes one in each repetition.
    grown_handles = [after - then for after, then in zip(_handles(), handles, strict=True)]
    assert max(grown_handles) < len(faults.cases(usual)), (
        f"file descriptors, Python threads, threads of the system grow by {grown_handles}"
    )
    assert grown < MEGABYTES, f"{len(faults.cases(usual))} repetitions take {grown:.1f} MB"
    faults.counts[f"repetitions: {name}"] += len(faults.cases(usual))
