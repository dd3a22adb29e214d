"""Tests that a network, its training or a prediction larger than the memory is refused before it is allocated."""

import subprocess
import sys

import numpy as np
import pytest

import fastnn
from fastnn import BatchNorm, Dataset, Dense, MLPClassifier, MLPRegressor, Network, memory
from fastnn.errors import OutOfMemoryError, SettingsError
from fastnn.memory import parse_bytes

DATA = Dataset(np.zeros((20, 4), np.float32), np.arange(20) % 2)


@pytest.fixture
def small_machine(monkeypatch):
    """A machine with 100 MiB: a function that sets another number of bytes."""

    def configure(n_bytes):
        monkeypatch.setattr(memory, "usable_memory", lambda: n_bytes)

    configure(100 * 2**20)
    return configure


def test_the_memory_is_the_smallest_of_all_limits(monkeypatch):
    physical = memory.usable_memory()
    monkeypatch.setattr(memory, "memory_limit", lambda: 12345)
    assert physical > memory.usable_memory() == 12345
    monkeypatch.setattr(memory, "_address_space", lambda: 1234)
    assert memory.usable_memory() == 1234
    monkeypatch.setattr(memory, "memory_limit", lambda: None)
    monkeypatch.setattr(memory, "_address_space", lambda: None)
    assert memory.usable_memory() >= physical
    monkeypatch.delattr(memory.os, "sysconf")
    assert memory.usable_memory() is None
    memory.check_memory(10**30, "without a known limit, any arrays")


@pytest.mark.parametrize(("make", "words"), [
    (lambda: Network.initialize((4, 10**7, 2)), r"^sizes are \(4, 10000000, 2\): 70,000,002 parameters need about"),
    (lambda: Network.initialize((4,), [Dense(10**7), BatchNorm(), Dense(2)]), "^layers are 10000000 -> batch norm"),
    (lambda: Network.for_data(DATA, (10**7,)), r"^hidden is \[10000000\], .*parameters need about 0\.6 GiB"),
    (lambda: Network.for_data(DATA, (Dense(10**7),)), "^layers are 10000000 -> 2: .*parameters need"),
    (lambda: MLPClassifier(10**7).fit(DATA.images, DATA.labels), "^hidden_layer_sizes is 10000000: .*parameters need"),
    (lambda: MLPRegressor(hidden_layer_sizes=(10**7, 3)).partial_fit(DATA.images, DATA.labels), "^hidden_layer_sizes"),
])  # fmt: skip
def test_a_network_larger_than_the_memory_is_refused_by_the_name_of_its_argument(small_machine, make, words):
    with pytest.raises(OutOfMemoryError, match=words) as caught:
        make()
    assert isinstance(caught.value, MemoryError)
    assert isinstance(caught.value, SettingsError)
    assert caught.value.args[0].endswith("expected at most 0.1 GiB of memory")


@pytest.mark.parametrize(("settings", "n_bytes"), [
    ({"optimizer": "sgd", "batch_size": 2}, 5 * 4),
    ({"optimizer": "adam", "batch_size": 2}, 7 * 4),
    ({"optimizer": "lbfgs", "batch_size": None}, 5 * 4 + 128),
])  # fmt: skip
def test_the_state_of_the_optimizer_counts(small_machine, settings, n_bytes):
    network = Network.for_data(DATA, (10**6,))  # 7,000,002 parameters
    for size, fits in ((n_bytes * 7_000_002 / 0.9 + 9, True), (n_bytes * 7_000_002 / 0.9 - 9, False)):
        small_machine(size)
        if fits:
            fastnn.train(network, DATA, epochs=1, callbacks=[lambda _: True], backend="numpy", **settings)
            continue
        with pytest.raises(OutOfMemoryError, match=r"^the arrays to train Network\(4 -> 1000000 relu .* need about"):
            fastnn.train(network, DATA, epochs=1, **settings)


def test_the_outputs_of_a_full_batch_count_layer_by_layer(small_machine):
    data = Dataset(np.zeros((5000, 4), np.float32), np.zeros(5000, int))
    network = Network.for_data(data, (3000,))
    with pytest.raises(OutOfMemoryError, match=r"^the outputs of all layers for 5,000 rows of a batch"):
        fastnn.train(network, data, batch_size=None, backend="numpy")
    fastnn.train(network, data, batch_size=500, epochs=1, backend="numpy")
    with pytest.raises(OutOfMemoryError, match=r"^the outputs of all layers for 5,000 rows to predict"):
        fastnn.get_backend("numpy").predict_logits(network, data.images)


@pytest.mark.parametrize("pool", [fastnn.MaxPool2D, fastnn.AvgPool2D])
def test_the_padding_of_a_pool_counts(small_machine, pool):
    """A file of a few bytes can have such a layer: without parameters, and with one output."""
    network = Network.initialize((1, 28, 28), [pool(10**6, padding=5 * 10**5), Dense(2)])
    for backend in ("numpy", "numba"):
        with pytest.raises(OutOfMemoryError, match=r"^the outputs of all layers for 1 rows to predict .* 3,72"):
            fastnn.get_backend(backend).predict_logits(network, np.zeros((1, 784), np.float32))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_outputs_of_a_prediction_count(small_machine):
    model = MLPRegressor(hidden_layer_sizes=3, max_iter=1).fit(DATA.images[:, :1], np.zeros((20, 2000)))
    with pytest.raises(OutOfMemoryError, match=r"^the outputs of 30,000 rows of X need about 0.2 GiB"):
        model.predict(np.zeros((30_000, 1)))
    assert model.predict(np.zeros((3, 1))).shape == (3, 2000)


PROGRAM = """
import resource, sys
import fastnn
fastnn.train
resource.setrlimit(resource.RLIMIT_AS, (3 * 2**30, 3 * 2**30))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    fastnn.Network.initialize((784, 3_000_000, 10))
except MemoryError as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**10)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit of the address space")
def test_nothing_is_allocated_for_a_network_that_is_refused():
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    message, grown = run.stdout.splitlines()
    assert message.startswith("sizes are (784, 3000000, 10): 2,385,000,010 parameters need about 26.4 GiB")
    assert "at most 2.7 GiB" in message
    assert float(grown) < 50


@pytest.mark.parametrize(("value", "expected"), [
    ("512MB", 512_000_000), ("1.5 GiB", 3 * 2**29), ("7", 7), ("8b", 8), ("2kB", 2000), ("1TiB", 2**40), (99, 99),
])  # fmt: skip
def test_a_number_of_bytes_is_read_from_a_text(value, expected):
    assert parse_bytes("memory", value) == expected


@pytest.mark.parametrize("value", ["", "MB", "-1MB", "1 PB", "0", "1e9", 0, -5, 1.5, None, True])
def test_what_is_no_number_of_bytes_is_refused(value):
    with pytest.raises(SettingsError, match=r"memory is .*expected a number of bytes, or a text such as '512MB'"):
        parse_bytes("memory", value)
