"""Workers compile kernels in a process of their own; and `fastnn.dask` without Dask says what to install."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from distributed import Client

import fastnn
import fastnn.dask
from fastnn.backends import warmup
from fastnn.dask import WarmUp
from tests.dask.conftest import make_cluster


@pytest.fixture
def started(monkeypatch):
    """The arguments of the processes that would have compiled: this process seems to have no kernels."""
    arguments = []

    class Ended:
        def wait(self):
            return 0

    def start(*given):
        arguments.append(given)
        return Ended()

    monkeypatch.setattr(warmup, "_start", start)
    monkeypatch.setattr(warmup, "_COMPILED", set())
    monkeypatch.setattr(warmup.CHOOSER, "price", lambda purpose, dtype: 8.0)
    return arguments


def test_new_workers_compile_before_their_first_task(inproc, started):
    inproc.register_plugin(WarmUp(dtypes=("float64",), inputs=("uint8", "float64")))
    inproc.unregister_worker_plugin(WarmUp.name)
    assert {("_compile_training", "fit", "float64", each) for each in ("uint8", "float64")} == {*started}


def test_a_replica_has_its_kernels_compiled_once(inproc, started, digits, network):
    fastnn.dask.train(network, digits, replicas=1, epochs=2, backend="numba")
    assert started == [("_compile_training", "fit", "float32", "uint8")]


def test_kernels_on_disk_start_no_process(monkeypatch, started, network):
    monkeypatch.setattr(warmup.CHOOSER, "price", lambda purpose, dtype: warmup.LOAD_SECONDS)
    warmup.compile_training_elsewhere(network, np.dtype(np.uint8))
    assert not started


@pytest.mark.slow
def test_a_worker_answers_while_its_kernels_are_compiled(tmp_path, digits, network):
    """A cold cache: a heartbeat that is a second late, or lost, would show that compiling holds the interpreter."""
    with make_cluster(n_workers=1, env={"NUMBA_CACHE_DIR": str(tmp_path)}) as cluster, Client(cluster) as client:
        (worker,) = client.scheduler_info()["workers"]
        end, answers = threading.Event(), []

        def ask():
            while not end.wait(0.5):
                answers.append(client.run(os.getpid)[worker])

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            fastnn.dask.train(network, digits, replicas=1, epochs=1, backend="numba")
        finally:
            end.set()
            thread.join()
        assert len(answers) > 5
        assert [*tmp_path.iterdir()]


def test_without_dask_the_message_names_the_extra():
    program = (
        "import sys; sys.modules['distributed'] = None; import fastnn, fastnn.dask\n"
        "assert 'dask' not in sys.modules\n"
        "try: fastnn.dask.train\n"
        "except ImportError as error: print(error)"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "fastnn.dask needs dask and distributed" in found.stdout
    assert found.stdout.rstrip().endswith("in a checkout, run pip install '.[dask]'")
