"""Training on data in blocks: the bits of training in memory, the order, buffers, checkpoints, errors, interrupts."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import fastnn
from fastnn import BatchNorm, Conv2D, Dense, Network, TrainingConfig, open_data, train
from fastnn.training.blocks import blocks_in_buffer, groups_of_epoch, order_of_group

# Blocks of one row, of none, and of more rows than a batch.
LENGTHS = (70, 1, 0, 130, 64, 7, 200, 33)
N, BATCH, BUFFER = sum(LENGTHS), 32, 3
ENDS = np.cumsum(LENGTHS)


def _arrays(dtype=np.uint8):
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (N, 64)).astype(np.uint8)
    images[rng.random(images.shape) < 0.6] = 0
    labels = (images[:, :32].astype(int).sum(axis=1) // 7) % 5
    return (images if dtype == np.uint8 else (images / 255).astype(dtype)), labels


def _blocked(images, labels, lengths=LENGTHS):
    starts = np.cumsum((0, *lengths))
    return open_data(
        lambda k: (images[starts[k] : starts[k + 1]], labels[starts[k] : starts[k + 1]]), n_blocks=len(lengths)
    )


def _orders(config, n_blocks=BUFFER, lengths=LENGTHS):
    """The row numbers of each epoch, one array per epoch, from the description of the order."""
    filled = np.flatnonzero(lengths)
    starts = np.cumsum((0, *lengths))[filled]
    for epoch in range(config.epochs):
        order = []
        for group in groups_of_epoch(np.array(lengths)[filled], n_blocks, epoch, config):
            rows = np.concatenate([np.arange(starts[k], starts[k] + lengths[filled[k]]) for k in group.blocks])
            order.append(rows[order_of_group(group, len(rows), config)])
        yield np.concatenate(order)


def _in_memory(network, arrays, config, **arguments):
    orders = _orders(config)
    in_memory = config.replace(shuffle=lambda rows: next(orders), buffer_blocks=16)
    return train(
        network,
        fastnn.Dataset(*arrays, pixel_max=255 if arrays[0].dtype == np.uint8 else 1),
        config=in_memory,
        **arguments,
    )


def _config(**settings):
    return TrainingConfig(**{"epochs": 2, "batch_size": BATCH, "buffer_blocks": BUFFER, "seed": 3, **settings})


NETWORKS = {
    "dense": lambda data: Network.for_data(data, (20, 12), seed=1),
    "batch norm": lambda data: Network.for_data(data, (Dense(16), BatchNorm()), seed=1),
    "images": lambda data: Network.initialize((1, 8, 8), [Conv2D(3), Dense(12), Dense(5)], input_scale=1 / 255, seed=1),
}


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("settings", [
    {"optimizer": "sgd", "dropout": 0.2}, {"optimizer": "adam", "l2": 1e-3},
    {"optimizer": "nesterov", "clip_norm": 0.5, "dropout": 0.2},
], ids=["sgd", "adam", "clipped"])  # fmt: skip
def test_blocks_have_the_bits_of_all_rows_in_memory(backend, kind, settings):
    images, labels = _arrays()
    data, weight = _blocked(images, labels), np.random.default_rng(6).random(N)
    network, config = NETWORKS[kind](data), _config(backend=backend, **settings)
    found = train(network, data, config=config, sample_weight=weight)
    assert found.digest() == _in_memory(network, (images, labels), config, sample_weight=weight).digest()
    other = _in_memory(network, (images, labels), config.replace(seed=4), sample_weight=weight)
    assert found.digest() != other.digest()


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [BATCH, 300])
def test_the_bits_do_not_depend_on_threads_or_on_how_a_batch_is_shared(threads, batch_size):
    """A batch of 300 rows is more than some buffers have; its rows are shared by the threads, as lists of nonzeros."""
    images, labels = _arrays()
    network = Network.for_data(_blocked(images, labels), (10,), seed=1)
    config = _config(backend="numba", threads=threads, batch_size=batch_size, dropout=0.2)
    found = train(network, _blocked(images, labels), config=config)
    assert found.digest() == _in_memory(network, (images, labels), config.replace(threads=1)).digest()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("standardize", [False, True])
def test_floats_are_converted_once_and_standardised_per_block(dtype, standardize):
    images, labels = _arrays(dtype)
    data = _blocked(images, labels)
    network = Network.for_data(fastnn.Dataset(images, labels), (10,), standardize=standardize)
    found = train(network, data, config=_config(backend="numpy"))
    assert found.digest() == _in_memory(network, (images, labels), _config(backend="numpy")).digest()


def test_targets_of_a_regression_in_blocks():
    images, _ = _arrays(np.float32)
    targets = images[:, :2] - 0.5
    data = open_data(lambda k: (images[k * 101 : k * 101 + 101], targets[k * 101 : k * 101 + 101]), n_blocks=5)
    network = Network.for_data(data, (16,))
    result = train(network, data, validation=data, epochs=30, batch_size=16, learning_rate=0.05)
    assert network.output == "identity"
    assert result.history[-1].loss < result.history[0].loss / 5
    assert result.history[-1].validation_loss < result.history[0].validation_loss / 3


def test_an_epoch_has_every_row_once_in_an_order_of_seed_and_epoch():
    first, second = _orders(_config())
    for order in (first, second):
        np.testing.assert_array_equal(np.sort(order), np.arange(N))
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, next(_orders(_config())))
    assert not np.array_equal(first, next(_orders(_config(seed=4))))
    np.testing.assert_array_equal(next(_orders(_config(shuffle=False))), np.arange(N))


def test_rows_of_a_buffer_mix_and_come_from_no_other_block():
    block = np.repeat(np.arange(len(LENGTHS)), LENGTHS)
    order = block[next(_orders(_config()))]
    filled = [k for k, length in enumerate(LENGTHS) if length]
    begin = 0
    for group in groups_of_epoch(np.array(LENGTHS)[filled], BUFFER, 0, _config()):
        blocks = [filled[k] for k in group.blocks]
        n_rows = sum(LENGTHS[k] for k in blocks)
        assert group.first_row == begin
        assert set(order[begin : begin + n_rows]) == set(blocks)
        assert (np.diff(order[begin : begin + n_rows]) != 0).sum() > 4 * len(blocks)
        begin += n_rows
    assert begin == N


def test_an_iterator_is_read_in_order_and_its_rows_are_permuted_within_a_buffer():
    images, labels = _arrays()
    read = []

    def pieces():
        for k, end in enumerate(ENDS):
            read.append(k)
            yield images[end - LENGTHS[k] : end], labels[end - LENGTHS[k] : end]

    data = open_data(pieces)
    network = Network.for_data(data, (8,))
    read.clear()
    train(network, data, config=_config(epochs=1, backend="numpy"))
    assert read[-len(LENGTHS) :] == list(range(len(LENGTHS)))


@pytest.mark.parametrize(("memory", "expected"), [(3_620, 1), (5_000, 1), ("6kB", 2), ("1GiB", 3)])
def test_the_number_of_blocks_in_a_buffer_is_a_function_of_sizes_and_settings(memory, expected):
    """Rows of 10 bytes in blocks of 100: two buffers with 31 rows of the batch before, and one block more."""
    lengths = np.array([100, 100, 100, 40])
    assert blocks_in_buffer(lengths, 10, _config(memory=memory)) == expected
    with pytest.raises(fastnn.SettingsError, match="block of 100 rows take 3,620 bytes"):
        blocks_in_buffer(lengths, 10, _config(memory=3_619))


# --- Validation, callbacks, schedules --------------------------------------------------------------------------------
def test_validation_in_blocks_agrees_with_validation_in_memory():
    images, labels = _arrays()
    data, seen = _blocked(images, labels), []
    network = Network.for_data(data, (20,))
    settings = {"config": _config(epochs=6, schedule="one-cycle", early_stopping=2), "callbacks": [seen.append]}
    in_memory = train(network, data, validation=(images, labels), **settings)
    in_blocks = train(network, data, validation=data, **settings)
    assert [each.validation_accuracy for each in in_blocks.history] == [
        each.validation_accuracy for each in in_memory.history
    ]
    np.testing.assert_allclose(
        in_blocks.history.column("validation_loss"), in_memory.history.column("validation_loss"), rtol=1e-6
    )
    assert len(seen) == len(in_memory.history) + len(in_blocks.history)
    assert seen[0].n_samples == N


def test_the_search_for_a_learning_rate_uses_the_first_rows():
    images, labels = _arrays()
    network = Network.for_data(_blocked(images, labels), (20,))
    result = train(network, _blocked(images, labels, (400, 105)), epochs=1, learning_rate="auto")
    expected = fastnn.find_learning_rate(network, (images[:400], labels[:400]))
    assert result.rate_search.suggestion == expected.suggestion


def test_frozen_layers_make_the_features_of_each_block():
    images, labels = _arrays()
    data = _blocked(images, labels)
    network, config = Network.for_data(data, (20, 12), seed=1), _config(frozen=1, dropout=0.3, backend="numba")
    found = train(network, data, validation=data, config=config)
    in_memory = _in_memory(network, (images, labels), config, validation=(images, labels))
    np.testing.assert_array_equal(found.network.weights[0], network.weights[0])
    for mine, other in zip(found.network.weights, in_memory.network.weights, strict=True):
        np.testing.assert_array_equal(mine, other)
    np.testing.assert_allclose(found.history[-1].validation_loss, in_memory.history[-1].validation_loss, rtol=1e-6)


@pytest.mark.parametrize(("backend", "settings"), [("numpy", {}), ("numba", {}), ("numba", {"frozen": 1})])
def test_images_are_augmented_as_in_memory(backend, settings):
    images, labels = _arrays()
    images = images.reshape(-1, 8, 8)
    data = _blocked(images, labels)
    network = Network.for_data(data, (20, 12), seed=1)
    config = _config(backend=backend, augment="shift=1,rotate=10,noise=0.1", **settings)
    found = train(network, data, config=config)
    assert found.digest() == _in_memory(network, (images, labels), config).digest()
    assert found.digest() != train(network, data, config=config.replace(augment=None)).digest()


@pytest.mark.parametrize(("arguments", "message"), [
    ({"validation": 0.2}, "validation is 0.2 with data in blocks, expected a Dataset or BlockedData"),
    ({"batch_size": None}, "batch_size is None with data in blocks, expected a number"),
    ({"optimizer": "lbfgs", "batch_size": None}, "optimizer is lbfgs with data in blocks, expected another one"),
    ({"shuffle": lambda rows: rows}, "shuffle is a function with data in blocks, expected True, False or 'blocks'"),
    ({"memory": "10kB"}, "memory is '10kB', but buffers of one block of 200 rows"),
    ({"memory": "much"}, "memory is 'much', expected a number of bytes"),
    ({"early_stopping": 3}, "early_stopping needs validation data"),
])  # fmt: skip
def test_what_needs_all_rows_is_refused(arguments, message):
    data = _blocked(*_arrays())
    with pytest.raises(fastnn.SettingsError, match=message.replace("(", r"\(")):
        train(Network.for_data(data, (8,)), data, **arguments)


@pytest.mark.parametrize("settings", [{"buffer_blocks": 2}, {"memory": "2GB"}, {"shuffle": "blocks"}])
def test_settings_of_blocks_are_refused_for_data_in_memory(settings):
    data = fastnn.Dataset(*_arrays(), pixel_max=255)
    with pytest.raises(fastnn.SettingsError, match=f"{next(iter(settings))} is .*expected BlockedData"):
        train(Network.for_data(data, (8,)), data, epochs=1, **settings)


def test_blocks_of_one_class_each_give_a_warning_if_few_are_in_the_buffer():
    images, _ = _arrays()
    images, labels = images[:480], np.repeat(np.arange(8), 60)
    data = _blocked(images, labels, (60,) * 8)
    network = Network.for_data(data, (8,))
    with pytest.warns(RuntimeWarning, match="2 of 2 blocks in the buffer hold nearly one class each, of 8"):
        train(network, data, epochs=1, buffer_blocks=2)
    train(network, data, epochs=1, buffer_blocks=8)  # all of them
    train(network, _blocked(images, np.arange(480) % 8, (60,) * 8), epochs=1, buffer_blocks=2)


# --- Checkpoints -----------------------------------------------------------------------------------------------------
class _StopsAt:
    """A callback that ends the run at a batch."""

    def __init__(self, epoch, batch):
        self._at = (epoch, batch)

    def __call__(self, end):
        pass

    def before_batches(self, start):
        if (start.epoch, start.batch) == self._at:
            raise KeyboardInterrupt
        return 1


@pytest.mark.parametrize("at", [(1, 1), (1, 9), (2, 5), (2, 15)])
@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_a_run_resumes_at_any_batch_to_the_same_bits(tmp_path, at, backend):
    images, labels = _arrays()
    network, config = Network.for_data(_blocked(images, labels), (12,)), _config(epochs=3, dropout=0.2, backend=backend)
    whole = train(network, _blocked(images, labels), config=config)
    checkpoint = fastnn.Checkpoint(tmp_path / "run.safetensors", 1, "batches")
    with pytest.raises(fastnn.TrainingInterrupted):
        train(network, _blocked(images, labels), config=config, callbacks=[_StopsAt(*at)], checkpoint=checkpoint)
    state = fastnn.load_checkpoint(checkpoint.path)
    done = (state.trainer.epochs + 1, state.trainer.sums.batches)
    assert done <= at
    resumed = train(network, _blocked(images, labels), resume=checkpoint.path)
    assert resumed.digest() == whole.digest()
    other = _blocked(images, labels, (N - 5, 5))
    with pytest.raises(fastnn.DataError, match="training data was"):
        train(network, other, resume=checkpoint.path)


_KILLED = """
import sys
import numpy as np
import fastnn
folder, resumes = sys.argv[1], sys.argv[2] == "resume"
def block(k):
    draws = np.random.default_rng(k)
    return draws.integers(0, 256, (500, 64), np.uint8), draws.integers(5, size=500)
data = fastnn.open_data(block, n_blocks=12, n_rows=6000, block_rows=500, classes=range(5))
network = fastnn.Network.for_data(data, (20,), seed=1)
class Tells:
    def __call__(self, end): pass
    def before_batches(self, start):
        if (start.epoch, start.batch) == (2, 50) and not resumes and sys.argv[2] != "whole":
            while True:  # until the checkpoint of this epoch is written, then for the kill
                state = fastnn.load_checkpoint(folder)
                print(state.trainer.epochs, state.trainer.sums.batches, flush=True)
                sys.stdin.readline()
        return 1
checkpoint = fastnn.Checkpoint(folder + "/checkpoint.safetensors", 1, "batches")
arguments = {"resume": folder} if resumes else {"epochs": 3, "buffer_blocks": 4, "seed": 2, "dropout": 0.1}
import fastnn.training.checkpoint as c
c.SECONDS_BETWEEN_WRITES, c.MAX_COST, c.FIRST_PART = 0, 1e9, 1
print(fastnn.train(network, data, callbacks=[Tells()], checkpoint=checkpoint, backend="numpy", **arguments).digest())
"""


def test_a_killed_run_resumes_within_the_epoch_to_the_same_bits(tmp_path):
    program = [sys.executable, "-c", _KILLED]
    folders = [tmp_path / name for name in ("whole", "killed")]
    for folder in folders:
        folder.mkdir()
    whole = subprocess.run([*program, folders[0], "whole"], capture_output=True, text=True, check=True, timeout=60)
    pipe = subprocess.PIPE
    with subprocess.Popen([*program, folders[1], "kill"], stdin=pipe, stdout=pipe, text=True) as process:
        epochs, batches = map(int, process.stdout.readline().split())
        process.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
    assert epochs == 1
    assert batches > 0
    resumed = subprocess.run([*program, folders[1], "resume"], capture_output=True, text=True, check=True, timeout=60)
    assert resumed.stdout == whole.stdout


# --- Errors and interrupts -------------------------------------------------------------------------------------------
def test_a_block_that_cannot_be_read_ends_the_run_with_the_result_so_far(tmp_path):
    images, labels = _arrays()
    calls = []

    def block(k):
        calls.append(k)
        if k == 3 and calls.count(3) > 3:
            raise OSError("the disk is gone")
        begin = ENDS[k] - LENGTHS[k]
        return images[begin : ENDS[k]], labels[begin : ENDS[k]]

    data = open_data(block, n_blocks=len(LENGTHS))
    network = Network.for_data(data, (8,))
    len(data)
    before = calls.count(3)
    assert before <= 3
    with pytest.raises(fastnn.DataError, match=r"block 3.*the disk is gone") as caught:
        train(network, data, config=_config(epochs=9, backend="numpy"), checkpoint=tmp_path / "run.safetensors")
    n_epochs = 3 - before
    assert len(caught.value.result.history) == n_epochs
    assert caught.value.result.stopped == "failed"
    assert fastnn.load_checkpoint(tmp_path / "run.safetensors").stopped == "failed"


def test_a_block_with_a_bad_number_is_named():
    images, labels = _arrays(np.float32)
    images[300, 5] = np.nan
    data = _blocked(images, labels)
    with pytest.raises(fastnn.DataError, match="block 6"):
        train(Network.for_data(data, (8,)), data, epochs=1, backend="numpy")


def test_ctrl_c_is_answered_within_a_read():
    images, labels = _arrays()
    reads, release = threading.Event(), threading.Event()

    def block(k):
        if k == 4 and threading.current_thread() is not threading.main_thread():
            reads.set()
            release.wait(60)
        begin = ENDS[k] - LENGTHS[k]
        return images[begin : ENDS[k]], labels[begin : ENDS[k]]

    data = open_data(block, n_blocks=len(LENGTHS), classes=range(5))
    network = Network.for_data(data, (8,))

    def press():
        reads.wait(60)
        os.kill(os.getpid(), signal.SIGINT)

    presser = threading.Thread(target=press)
    presser.start()
    start = time.monotonic()
    try:
        with pytest.raises(fastnn.TrainingInterrupted) as caught:
            train(network, data, config=_config(backend="numpy"))
        assert time.monotonic() - start < 30  # the read itself waits for 60 s
        assert len(caught.value.result.history) == 0
    finally:
        release.set()
        presser.join()


# --- Memory ----------------------------------------------------------------------------------------------------------
_MEASURED = """
import sys
import numpy as np
import fastnn

def anonymous():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("RssAnon"))

kind, folder = sys.argv[1:]
n_blocks, rows, width = 64, 4096, 784  # 206 MB
def block(k):
    draws = np.random.default_rng(k)
    return draws.integers(0, 256, (rows, width), np.uint8), draws.integers(10, size=rows)
if kind == "npy":
    file = np.lib.format.open_memmap(folder + "/x.npy", "w+", np.uint8, (n_blocks * rows, width))
    for k in range(n_blocks):
        file[k * rows : (k + 1) * rows] = k
    del file
    data = fastnn.open_data(folder + "/x.npy", labels=np.arange(n_blocks * rows) % 10, block_rows=rows)
else:
    data = fastnn.open_data(block, n_blocks=n_blocks, n_rows=n_blocks * rows, block_rows=rows, classes=range(10))
network = fastnn.Network.for_data(data, (16,))
backend = "numba" if kind == "npy" else "numpy"
fastnn.train(network, data.head(), epochs=1, backend=backend)
before, peaks = anonymous(), []
class Peak:
    def __call__(self, end): peaks.append(0)
    def before_batches(self, start):
        peaks[-1:] = [max(anonymous(), peaks[-1] if peaks else 0)]
        return 100
peaks.append(0)
fastnn.train(network, data, epochs=3, memory="50MB", callbacks=[Peak()], backend=backend)
print(before, *peaks[:3])
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="memory is read from /proc")
@pytest.mark.parametrize("kind", ["npy", "generator"])
def test_anonymous_memory_stays_below_the_limit_for_data_four_times_as_large(tmp_path, kind):
    command = [sys.executable, "-c", _MEASURED, kind, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    before, *peaks = map(int, done.stdout.split())
    assert max(peaks) - before < 50e6 + 2**24
    assert peaks[2] - peaks[1] < 2**22  # buffers are used again
