"""Ctrl-C is answered while NumPy or a kernel works, by Python's own handler and from the library.

No clock decides: the work that Ctrl-C meets is a stand-in that ends only when the test lets it, after the interrupt.
"""

import contextvars
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

import fastnn
from fastnn import interruptible as module
from fastnn.backends import compiled, get_backend, reference
from fastnn.backends.compiled import fused, image_operations, images, one_image, operations, predict, predict_images
from fastnn.backends.compiled import inputs as nonzero_inputs
from fastnn.interruptible import interruptible, stop_if_abandoned
from fastnn.kernels import team
from fastnn.network import AvgPool2D, BatchNorm, Conv2D, Dense, MaxPool2D, Network, Standardization

MAIN = threading.main_thread()
_GIVE_UP = 300  # seconds; no test waits so long unless it fails, or kernels compile before the work begins


def press_ctrl_c() -> None:
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(MAIN.ident, signal.SIGINT)
    else:
        signal.raise_signal(signal.SIGINT)


class StandIn:
    """Work that never ends by itself. Ctrl-C is pressed as soon as it runs."""

    def __init__(self) -> None:
        self.entered, self.may_end, self.has_ended = (threading.Event() for _ in range(3))
        self.threads: list[threading.Thread] = []

    def __call__(self, *args, **kwargs):
        self.threads.append(threading.current_thread())
        self.entered.set()
        self.may_end.wait(_GIVE_UP)
        self.has_ended.set()

    @contextmanager
    def interrupted(self):
        """Expect KeyboardInterrupt while this work runs, on a thread that is not the main one."""

        def interrupt() -> None:
            if self.entered.wait(_GIVE_UP) and not self.may_end.is_set():
                press_ctrl_c()

        interrupter = threading.Thread(target=interrupt)
        interrupter.start()
        try:
            with pytest.raises(KeyboardInterrupt):
                yield
            assert self.threads, "the work was never called"
            assert MAIN not in self.threads
            assert not self.has_ended.is_set()
        finally:
            self.may_end.set()
            self.entered.set()
            interrupter.join()
            for thread in self.threads:
                if thread is not MAIN:
                    thread.join()


class StoppedKernel:
    """A kernel that ends only when the stop flag of its team is set. Ctrl-C is pressed as soon as it runs."""

    def __init__(self) -> None:
        self.ends: list[tuple[int, bool]] = []  # of each member: the stop flag, and whether its thread is the main one
        self._runs = threading.Event()

    def __call__(self, member, *_):
        if member.t == 0:
            self._runs.set()
        deadline = time.monotonic() + _GIVE_UP
        while not member.barrier[team.STOP] and time.monotonic() < deadline:
            time.sleep(0.001)
        self.ends.append((member.barrier[team.STOP], threading.current_thread() is MAIN))

    def load(self, *_):
        pass

    bind = load

    @contextmanager
    def interrupted(self, error, threads):
        """Expect `error`, and that every member that ran saw the stop flag, the main thread in none of them."""
        interrupter = threading.Thread(target=lambda: self._runs.wait(_GIVE_UP) and press_ctrl_c())
        interrupter.start()
        with pytest.raises(error) as caught:
            yield caught
        interrupter.join()
        assert self.ends == [(1, False)] * len(self.ends)
        assert 1 <= len(self.ends) <= threads


@pytest.fixture
def stand_in():
    return StandIn()


@pytest.fixture
def all_is_long(monkeypatch):
    """Treat small work as long work."""
    monkeypatch.setattr(module, "LONG_WORK", 0)
    monkeypatch.setattr("fastnn.estimators.data_checks.LONG_WORK", 0)
    monkeypatch.setattr("fastnn.estimators.plain_data.LONG_WORK", 0)
    monkeypatch.setattr(fused, "SHORT_EPOCH", -1)
    monkeypatch.setattr(predict, "ONE_THREAD_PREDICTION", 0)
    monkeypatch.setattr(predict_images, "ONE_THREAD_PREDICTION", 0)
    monkeypatch.setattr(predict_images, "SHORT_PREDICTION", -1)
    monkeypatch.setattr(operations, "SHORT_PRODUCT", -1)


# --- The helper ------------------------------------------------------------------------------------------------------
def test_ctrl_c_is_answered_while_the_work_runs(stand_in):
    with stand_in.interrupted():
        interruptible(stand_in)


def test_ctrl_c_is_answered_again_and_again():
    for _ in range(3):
        stand_in = StandIn()
        with stand_in.interrupted():
            interruptible(stand_in)


def test_abandoned_work_ends_at_its_next_step(stand_in):
    steps = []

    def work():
        for step in range(3):
            stop_if_abandoned()
            steps.append(step)
            stand_in()

    with stand_in.interrupted():
        interruptible(work)
    assert steps == [0]


def test_work_whose_thread_begins_after_the_interrupt_is_not_done(monkeypatch):
    """Ctrl-C can end `start` before the thread has begun."""
    late, done = [], []

    def interrupted(thread):
        late.append(thread)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            interruptible(done.append, 1)
    late[0].start()
    late[0].join()
    assert done == []


def test_the_result_and_the_arguments_pass_through():
    assert interruptible(sorted, [3, 1, 2], reverse=True) == [3, 2, 1]
    assert interruptible(divmod, 7, 2, work=0) == (3, 1)


def test_an_exception_keeps_its_traceback():
    def fail_here():
        raise ZeroDivisionError("on purpose")

    with pytest.raises(ZeroDivisionError, match="on purpose") as caught:
        interruptible(fail_here)
    names = [entry.name for entry in caught.traceback]
    assert names[0] == "test_an_exception_keeps_its_traceback"
    assert names[-1] == "fail_here"


def test_the_work_sees_the_error_handling_and_the_context_of_its_caller():
    variable = contextvars.ContextVar("variable", default="default")
    variable.set("set by the caller")

    def work():
        return threading.current_thread(), variable.get(), np.geterr(), np.geterrcall()

    def handler(*_):
        raise AssertionError

    with np.errstate(over="ignore", invalid="raise", divide="call", call=handler):
        thread, value, errors, call = interruptible(work)
        assert (value, errors, call) == ("set by the caller", np.geterr(), handler)
    assert thread is not MAIN


def test_short_work_and_work_of_other_threads_starts_no_thread():
    assert interruptible(threading.current_thread, work=module.LONG_WORK - 1) is MAIN
    assert interruptible(threading.current_thread, work=module.LONG_WORK) is not MAIN
    found = []
    other = threading.Thread(target=lambda: found.append(interruptible(threading.current_thread)))
    other.start()
    other.join()
    assert found == [other]


def test_the_caller_works_if_the_system_has_no_more_threads(monkeypatch):
    def refused(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    assert interruptible(threading.current_thread) is MAIN


_LEAVES_WORK_BEHIND = """
import atexit, sys, threading, time
from fastnn.interruptible import interruptible
atexit.register(lambda: print("exiting", flush=True))  # called before the handlers that were registered earlier
def work():
    print("working", flush=True)
    threading.Event().wait({seconds})
    print("done", flush=True)
try:
    interruptible(work)
except KeyboardInterrupt:
    sys.exit(7)
"""


def _left_behind(seconds):
    command = [sys.executable, "-c", _LEAVES_WORK_BEHIND.format(seconds=seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "working\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "exiting\n"
    return process


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for another process")
def test_the_process_exits_when_abandoned_work_has_ended():
    """OpenBLAS blocks the exit of a process that it still works for."""
    process = _left_behind(1)
    assert process.communicate(timeout=_GIVE_UP)[0] == "done\n"
    assert process.returncode == 7


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for another process")
def test_another_ctrl_c_exits_without_waiting_for_abandoned_work():
    process = _left_behind(_GIVE_UP)
    time.sleep(0.2)  # the exit begins to wait
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=_GIVE_UP / 2)[0] == ""
    assert process.returncode == 130


# --- The library -----------------------------------------------------------------------------------------------------
def digits(n_samples=5000, dtype="uint8"):
    """Images of which a fifth is nonzero, in rows that share inputs, so that row blocks are faster than lists."""
    rng = np.random.default_rng(5)
    kinds = rng.random((10, 64)) < 0.2
    labels = rng.integers(0, 10, n_samples)
    return fastnn.Dataset((kinds[labels] * rng.integers(1, 256, (n_samples, 64))).astype(dtype), labels)


def full_batch(backend, network=None, **settings):
    network = Network.initialize((64, 10, 10)) if network is None else network
    settings = {"learning_rate": 0.1, "batch_size": None, "epochs": 3, **settings}
    return fastnn.train(network, digits(), backend=backend, **settings)


def with_batch_norm():
    network = Network.initialize((64,), [Dense(8, "gelu"), Dense(10)])
    return fastnn.train(network, digits(), backend="numba", learning_rate=0.1, batch_size=None, epochs=2, threads=2)


def for_images(backend):
    """Train a network that no fused epoch covers."""
    layers = [Conv2D(3, 3, activation="identity"), BatchNorm("relu"), MaxPool2D(), AvgPool2D(), Dense(10)]
    network = Network.initialize((1, 8, 8), layers)
    return fastnn.train(network, digits(500), backend=backend, learning_rate=0.1, batch_size=None, epochs=2, threads=2)


def small_lenet():
    return Network.initialize((1, 8, 8), [Conv2D(3, 3), MaxPool2D(), Dense(10)])


def evaluate(backend):
    return fastnn.evaluate(Network.initialize((64, 10, 10)), digits(), backend=backend)


def evaluate_standardized(backend):
    network = Network.initialize((64, 10, 10), input_scale=Standardization(np.zeros(64), np.ones(64)))
    return fastnn.evaluate(network, digits(dtype="float64"), backend=backend)


def predict_model(backend):
    model = fastnn.Model.for_network(Network.initialize((64, 10, 10), input_scale=1 / 255))
    return model.predict(digits().images, backend=backend)


def fit(**options):
    data = digits()
    return fastnn.MLPClassifier((8,), max_iter=3, **options).fit(data.images.astype(np.float64), data.labels)


def gradients():
    data = digits()
    return get_backend("numpy").loss_and_gradients(Network.initialize((64, 10, 10)), data.images, data.labels)


WORK = {
    "a full batch of NumPy": (reference, "matmul", lambda: full_batch("numpy")),
    "L-BFGS of NumPy": (reference, "matmul", lambda: full_batch("numpy", optimizer="lbfgs", learning_rate=None)),
    "dropout of NumPy": (
        "fastnn.backends.layerwise.dropout_keep",
        None,
        lambda: full_batch("numpy", dropout=0.5),
    ),
    "gradients of NumPy": (reference, "matmul", gradients),
    "an estimator of NumPy": (reference, "matmul", lambda: fit(backend="numpy")),
    "the checks of an estimator": ("fastnn.estimators.data_checks.validate_data", None, lambda: fit(backend="numpy")),
    "the loss of the validation data": (
        "fastnn.evaluation.evaluate.reference.mean_loss",
        None,
        lambda: full_batch("numba", validation=0.2),
    ),
    "evaluation by NumPy": (reference, "matmul", lambda: evaluate("numpy")),
    "prediction by NumPy": (reference, "matmul", lambda: predict_model("numpy")),
    "standardization for NumPy": (Standardization, "_apply", lambda: evaluate_standardized("numpy")),
    "standardization for Numba": (Standardization, "_apply", lambda: evaluate_standardized("numba")),
    "the lists of a data set": (nonzero_inputs, "list_inputs", lambda: full_batch("numba")),
    "the order of row blocks": (nonzero_inputs, "mark_inputs", lambda: full_batch("numba")),
    "the count of row blocks": (nonzero_inputs, "count_row_blocks", lambda: full_batch("numba")),
    "row blocks": (nonzero_inputs, "fill_row_blocks", lambda: full_batch("numba")),
    "a convolution of NumPy": (reference, "conv_forward", lambda: for_images("numpy")),
    "the gradients of a convolution": (reference, "conv_backward", lambda: for_images("numpy")),
    "a maximum of NumPy": (reference, "max_pool", lambda: for_images("numpy")),
    "the gradient of a mean": (reference, "avg_pool_backward", lambda: for_images("numpy")),
    "a prediction of images": (
        reference,
        "conv_forward",
        lambda: fastnn.evaluate(small_lenet(), digits(500), backend="numpy"),
    ),
    "a prediction of few images": (
        one_image.OneImage,
        "predict",
        lambda: compiled.predict_proba(small_lenet(), digits(4).images),
    ),
    "a convolution of Numba": (image_operations.ConvOperation, "forward", lambda: for_images("numba")),
    "the gradients of a convolution of Numba": (
        image_operations.ConvOperation,
        "backward",
        lambda: for_images("numba"),
    ),
    "a dense layer of Numba": (operations.dense_kernels, "dense_forward", with_batch_norm),
}


@pytest.mark.parametrize("name", WORK)
def test_ctrl_c_interrupts(name, stand_in, all_is_long, monkeypatch):
    place, attribute, call = WORK[name]
    monkeypatch.setattr(*((place, attribute) if attribute else (place,)), stand_in)
    with stand_in.interrupted():
        call()


EPOCHS = {
    "by rows": (fused, "run_epoch_by_rows", lambda: Network.initialize((64, 10, 10))),
    "by units": (fused, "run_epoch_by_units", lambda: Network.initialize((64, 100, 10))),
    "by images": (images, "run_epoch_by_images", small_lenet),
}


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("name", EPOCHS)
@pytest.mark.parametrize("is_lbfgs", [False, True], ids=["sgd", "lbfgs"])
def test_ctrl_c_stops_a_long_epoch_of_kernels(name, threads, is_lbfgs, all_is_long, monkeypatch):
    monkeypatch.setattr(fused, "ONE_THREAD_EPOCH", 0)
    monkeypatch.setattr(fused, "ONE_THREAD_STEP", 0)
    (place, attribute, network), kernel = EPOCHS[name], StoppedKernel()
    monkeypatch.setattr(place, attribute, kernel)
    lbfgs = {"optimizer": "lbfgs", "learning_rate": None} if is_lbfgs else {}
    with kernel.interrupted(fastnn.TrainingInterrupted, threads) as interrupt:
        full_batch("numba", network(), threads=threads, **lbfgs)
    assert len(interrupt.value.result.history) == 0


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_ctrl_c_stops_a_long_prediction_of_images(threads, all_is_long, monkeypatch):
    kernel = StoppedKernel()
    monkeypatch.setattr(predict_images, "forward_images", kernel)
    with kernel.interrupted(KeyboardInterrupt, threads):
        compiled.predict_proba(small_lenet(), digits(500).images, threads)


def test_a_tiny_network_on_many_rows_is_no_short_epoch(monkeypatch):
    """The rows take time, too, not only the multiplications."""
    asked, run_team = [], team.run_team

    def noted(work, threads, caller_works=False):
        asked.append(caller_works)
        return run_team(work, threads, caller_works)

    monkeypatch.setattr(team, "run_team", noted)
    inp = np.zeros((2**20, 1), np.float32)
    network = Network.initialize((1, 2))
    trainer = compiled.trainer(network, inp, np.zeros(len(inp), int), threads=1)
    trainer.run_epoch(np.arange(len(inp)), len(inp), 0.1)
    trainer.run_epoch(np.arange(1000), 1000, 0.1)
    assert asked == [False, True]


def test_an_interrupted_batch_leaves_the_trainer_as_it_was(all_is_long, monkeypatch):
    """A batch that is abandoned changes neither weights nor slots, not even later."""
    data, stand_in = digits(), StandIn()
    trainer = reference.trainer(Network.initialize((64, 10, 10)), data.images, data.labels, "adam")
    trainer.run_epoch(np.arange(5000), 2500, 0.01)
    before = trainer.state()
    with monkeypatch.context() as patch:
        patch.setattr(reference, "matmul", stand_in)
        with stand_in.interrupted():
            trainer.run_epoch(np.arange(5000), 2500, 0.01)
    after = trainer.state()
    assert after[1:] == before[1:]
    for mine, its in zip(after.slots, before.slots, strict=True):
        for arrays, expected in zip(mine, its, strict=True):
            assert all(map(np.array_equal, arrays, expected))


def test_the_bits_do_not_depend_on_the_thread(monkeypatch):
    """Large batches run on a thread of their own, with the same bits."""
    results = []
    for long_work in (0, float("inf")):
        monkeypatch.setattr(module, "LONG_WORK", long_work)
        for backend in ("numpy", "numba"):
            results.append(full_batch(backend, dropout=0.1, validation=0.2))
    for one, other in zip(results[:2], results[2:], strict=True):
        assert all(map(np.array_equal, one.network.weights, other.network.weights))
        assert [replace(each, seconds=0) for each in one.history] == [
            replace(each, seconds=0) for each in other.history
        ]


def test_a_notebook_is_interrupted_and_goes_on():
    """`interrupt` of a kernel of Jupyter sends SIGINT."""
    manager_module = pytest.importorskip("jupyter_client.manager")
    pytest.importorskip("ipykernel")
    if os.name == "nt":
        pytest.skip("Windows interrupts kernels by an event")
    manager, client = manager_module.start_new_kernel(kernel_name="python3", startup_timeout=_GIVE_UP)
    try:

        def output(message):
            if message["msg_type"] == "stream" and "working" in message["content"]["text"]:
                manager.interrupt_kernel()

        endless = (
            "import threading\nfrom fastnn.interruptible import interruptible\n"
            "def work():\n    print('working', flush=True)\n    threading.Event().wait()\ninterruptible(work)"
        )
        reply = client.execute_interactive(endless, timeout=_GIVE_UP, output_hook=output)
        assert reply["content"]["ename"] == "KeyboardInterrupt"
        after = client.execute_interactive("import fastnn; fastnn.__version__", timeout=_GIVE_UP, output_hook=print)
        assert after["content"]["status"] == "ok"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_large_data_give_an_estimator_the_same_attributes(all_is_long):
    """Large data are checked by a copy of the estimator, which hands on what the check found."""
    pandas = pytest.importorskip("pandas")
    data = digits()
    frame = pandas.DataFrame(data.images, columns=[f"pixel{column}" for column in range(64)])
    estimator = fastnn.MLPClassifier((4,), max_iter=1, backend="numpy", batch_size=2500, learning_rate_init=1e-5)
    with pytest.warns(match="onverge"):
        estimator.fit(frame, data.labels)
    assert estimator.n_features_in_ == 64
    assert list(estimator.feature_names_in_) == list(frame.columns)
    with pytest.warns(match="onverge"):
        estimator.fit(data.images, data.labels)
    assert not hasattr(estimator, "feature_names_in_")
