"""`fastnn.dask.train` on data in files: workers read their own blocks, and the bits are those of one process."""

import os
import signal

import dask
import dask.array as da
import numpy as np
import pytest
from distributed import Client

import fastnn
import fastnn.dask
from fastnn.dask import DaskMLPClassifier, DaskMLPRegressor
from fastnn.dask.training import train_source
from tests.dask.conftest import CONFIG, make_cluster

RUN = {"replicas": 3, "epochs": 3, "optimizer": "adam", "backend": "numpy", "batch_size": 60, "buffer_blocks": 2}
IN_ORDER = {"replicas": 3, "epochs": 3, "optimizer": "adam", "backend": "numpy", "batch_size": 60, "shuffle": False}
HERE = {"client": "synchronous"}
BLOCK_ROWS = 200

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # the fits are short


@pytest.fixture(scope="module")
def path(tmp_path_factory, digits):
    """A file of the digits, with their labels beside it."""
    path = tmp_path_factory.mktemp("data") / "x.npy"
    np.save(path, digits.images)
    np.save(path.with_name("x.labels.npy"), digits.labels)
    return path


@pytest.fixture(scope="module")
def blocks(path):
    """9 blocks, the last one of 197 rows."""
    return fastnn.open_data(path, block_rows=BLOCK_ROWS, pixel_max=16)


@pytest.fixture(scope="module")
def expected(network, blocks):
    """What training in this process gives."""
    return fastnn.dask.train(network, blocks, **RUN, **HERE).digest()


def test_one_replica_has_the_bits_of_train(network, blocks):
    settings = RUN | {"replicas": 1, "augment": "shift=1"}
    found = fastnn.dask.train(network, blocks, **settings, **HERE)
    del settings["replicas"]
    assert found.digest() == fastnn.train(network, blocks, **settings).digest()


@pytest.mark.parametrize("with_weights", [False, True])
@pytest.mark.parametrize("block_rows", [BLOCK_ROWS, 1000, 1797])
def test_replicas_have_the_rows_of_collections_with_such_blocks(path, network, digits, block_rows, with_weights):
    """In order, because rows in blocks are permuted in buffers. With fewer blocks than replicas, blocks are divided."""
    weight = np.random.default_rng(3).uniform(0, 2, len(digits)) if with_weights else None
    blocks = fastnn.open_data(path, block_rows=block_rows, pixel_max=16)
    found = fastnn.dask.train(network, blocks, sample_weight=weight, **IN_ORDER, **HERE)
    lazy = [da.from_array(each, (block_rows, *[-1] * (each.ndim - 1))) for each in (digits.images, digits.labels)]
    weights = None if weight is None else da.from_array(weight, block_rows)
    same = fastnn.dask.train(network, tuple(lazy), sample_weight=weights, **IN_ORDER, **HERE)
    assert found.digest() == same.digest()


@pytest.mark.parametrize("classes", [None, range(3)])
def test_blocks_of_one_class_each(client, tmp_path, classes):
    """Report 3: the first block misses the classes of the others; classes given, and found."""
    labels = np.repeat([2, 0, 1], 100)
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(300, 5)).astype(np.float32))
    blocks = fastnn.open_data(tmp_path / "x.npy", labels=labels, classes=classes, block_rows=100)
    small, settings = fastnn.Network.initialize((5, 8, 3), seed=1), IN_ORDER | {"replicas": 2}
    lazy = da.from_array(np.load(tmp_path / "x.npy"), (100, -1)), da.from_array(labels, 100)
    expected = fastnn.dask.train(small, lazy, **settings, **HERE).digest()
    assert fastnn.dask.train(small, blocks, **settings).digest() == expected
    assert fastnn.dask.train(small, blocks, **settings | {"replicas": 1}).digest() != expected


def test_workers_in_processes_compute_the_bits_of_one_process(client, network, blocks, expected):
    assert fastnn.dask.train(network, blocks, **RUN).digest() == expected
    assert fastnn.dask.train(network, blocks, **RUN | {"seed": 1}).digest() != expected
    assert fastnn.dask.train(network, blocks, **RUN | {"replicas": 2}).digest() != expected
    assert fastnn.dask.train(network, blocks, **RUN | {"buffer_blocks": 1}).digest() != expected


class BlocksOfDigits:
    """Makes the blocks of the digits. The read number `fatal` of block 4 in a worker kills it; -1: none does."""

    __name__ = "digits"

    def __init__(self, folder, fatal):
        self.folder, self.fatal, self.client = folder, fatal, os.getpid()

    def __call__(self, number):
        if os.getpid() != self.client:
            open(f"{self.folder}/block-{number}-process-{os.getpid()}", "a").close()
            if number == 4:
                n_reads = sum(name.startswith("read") for name in os.listdir(self.folder))
                open(f"{self.folder}/read-{n_reads}", "x").close()
                if n_reads == self.fatal:
                    os.kill(os.getpid(), signal.SIGKILL)
        rows = slice(number * BLOCK_ROWS, (number + 1) * BLOCK_ROWS)
        digits = fastnn.load_digits()
        return digits.images[rows], digits.labels[rows]

    def opened(self):
        """Return the data, without a pass over them in this process."""
        return fastnn.open_data(self, n_blocks=9, n_rows=1797, block_rows=BLOCK_ROWS, classes=range(10), pixel_max=16)


@pytest.mark.parametrize("fatal", [0, 1, 2])
def test_a_worker_that_dies_while_it_reads_changes_no_bit(tmp_path, network, expected, fatal):
    with dask.config.set(CONFIG), make_cluster(n_workers=2) as cluster, Client(cluster):
        assert fastnn.dask.train(network, BlocksOfDigits(tmp_path, fatal).opened(), **RUN).digest() == expected
    assert len([*tmp_path.glob("read-*")]) == RUN["epochs"] + 1


def test_each_worker_reads_its_own_blocks_alone(client, tmp_path, network):
    blocks = BlocksOfDigits(tmp_path, -1).opened()
    fastnn.dask.train(network, blocks, **RUN | {"replicas": 2})
    readers = {each.name.split("-")[3]: set() for each in tmp_path.glob("block-*")}
    for each in tmp_path.glob("block-*"):
        _, number, _, process = each.name.split("-")
        readers[process].add(int(number))
    assert sorted(map(sorted, readers.values())) == [[0, 2, 4, 6, 8], [1, 3, 5, 7]]


def test_a_block_that_cannot_be_read_is_named_with_its_worker(client, tmp_path, network, digits):
    path = tmp_path / "x.npy"
    np.save(path, digits.images.astype(np.float32))
    blocks = fastnn.open_data(path, labels=digits.labels, block_rows=BLOCK_ROWS)
    values = np.load(path, mmap_mode="r+")
    values[5 * BLOCK_ROWS + 7, 3] = np.nan
    values.flush()
    with pytest.raises(fastnn.DataError, match=r"x\.npy: block 5, row 1007 \(from 0\), input 3: found nan") as caught:
        fastnn.dask.train(network, blocks, **RUN)
    (note,) = caught.value.__notes__
    expected = f"fastnn: in replica 2 (blocks 2, 5, 8 of {path}), after epoch 0, on worker tcp://"
    assert note.startswith(expected)


def test_a_file_that_a_worker_does_not_have_is_named_with_the_repair(client, tmp_path, network, digits):
    path = tmp_path / "x.npy"
    np.save(path, digits.images)
    blocks = fastnn.open_data(path, labels=digits.labels, block_rows=BLOCK_ROWS)
    with pytest.raises(fastnn.FileError, match=r"x\.npy: block \d") as caught:
        fastnn.dask.train(network, blocks, callbacks=[lambda end: path.rename(tmp_path / "y.npy")], **RUN)
    assert "after epoch 1, on worker tcp://" in caught.value.__notes__[0]
    assert caught.value.__notes__[0].endswith("expected the same files at the same paths on all machines")


def test_validation_data_in_blocks_and_checkpoints(tmp_path, network, blocks, digits, expected):
    held_out = fastnn.dask.train(network, blocks, validation=blocks, **RUN, **HERE)
    in_memory = fastnn.dask.train(network, blocks, validation=digits, **RUN, **HERE)
    np.testing.assert_allclose(
        held_out.history.column("validation_loss"), in_memory.history.column("validation_loss"), rtol=1e-5
    )
    file, settings = tmp_path / "run.safetensors", {**RUN, **HERE}
    fastnn.dask.train(network, blocks, callbacks=[lambda end: end.record.epoch == 2], checkpoint=file, **settings)
    assert fastnn.dask.train(network, blocks, resume=file, **settings).digest() == expected


def test_a_file_of_four_times_the_memory_limit_needs_neither_memory_nor_disk(tmp_path):
    """Report 12: reads run ahead of the training, and all is spilled."""
    limit, n_inputs = 400 * 2**20, 784
    n_rows = 4 * limit // n_inputs
    np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.uint8, (n_rows, n_inputs)).flush()  # a sparse file
    np.lib.format.open_memmap(tmp_path / "x.labels.npy", "w+", np.uint8, (n_rows,)).flush()
    blocks = fastnn.open_data(tmp_path / "x.npy", classes=range(2), block_rows=8192, pixel_max=255)
    network = fastnn.Network.initialize((n_inputs, 2, 2))
    with dask.config.set(CONFIG), make_cluster(n_workers=1, memory_limit=limit) as cluster, Client(cluster) as client:
        (before,) = client.run(peak_memory).values()
        fastnn.dask.train(network, blocks, replicas=2, epochs=1, batch_size=8192, memory="50MB", backend="numpy")
        (after,) = client.run(peak_memory).values()
        (spilled,) = client.run(bytes_on_disk).values()
    assert after - before < 150e6
    assert spilled < 100_000  # descriptions of blocks, and an average


def peak_memory():
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def bytes_on_disk(dask_worker):
    folders = os.walk(f"{dask_worker.local_directory}/storage")
    return sum(os.path.getsize(f"{folder}/{name}") for folder, _, names in folders for name in names)


# --- Estimators ------------------------------------------------------------------------------------------------------
SETTINGS = {
    "hidden_layer_sizes": (12,), "max_iter": 3, "random_state": 0, "backend": "numpy", "replicas": 3,
    "buffer_blocks": 2, "input_scale": 1 / 16,
}  # fmt: skip


def same(first, second):
    """Return whether two estimators or networks have the same bits."""
    first, second = (getattr(each, "network_", each) for each in (first, second))
    arrays = zip((*first.weights, *first.biases), (*second.weights, *second.biases), strict=True)
    return all(one.tobytes() == two.tobytes() for one, two in arrays)


@pytest.fixture
def runs(monkeypatch):
    """The networks and settings that estimators begin to train with."""
    found = []

    def recorded(network, source, held_out, engine, config, *others):
        found.append((network, config))
        return train_source(network, source, held_out, engine, config, *others)

    monkeypatch.setattr("fastnn.dask.estimators.train_source", recorded)
    return found


@pytest.mark.parametrize("more", [{}, {"solver": "sgd", "dropout": 0.2}, {"class_weight": {3: 2.0}}])
def test_a_fit_has_the_bits_of_train_on_the_blocks(client, blocks, digits, runs, more):
    found = DaskMLPClassifier(**SETTINGS | more).fit(blocks)
    network, config = runs[0]
    weight = np.where(digits.labels == 3, 2.0, 1.0) if "class_weight" in more else None
    expected = fastnn.dask.train(network, blocks, replicas=3, sample_weight=weight, config=config, **HERE)
    assert same(found, expected.network)
    assert not same(
        found, fastnn.dask.train(network, blocks, replicas=3, config=config.replace(seed=7), **HERE).network
    )
    assert found.n_iter_ == 3
    assert found.classes_.tolist() == list(range(10))
    one = DaskMLPClassifier(**SETTINGS | more | {"replicas": 1}, **HERE).fit(blocks)
    assert not same(found, one)
    plain = {name: value for name, value in SETTINGS.items() if name != "replicas"} | more
    assert same(one, fastnn.MLPClassifier(**plain).fit(blocks))


def test_predictions_and_scores_are_those_of_one_process(client, path, blocks, digits):
    model = DaskMLPClassifier(**SETTINGS | {"max_iter": 20, "learning_rate_init": 0.01}).fit(blocks)
    local, weight = model.to_local(), np.random.default_rng(0).random(len(digits))
    for method in ("predict", "predict_proba", "predict_log_proba", "transform"):
        found, expected = getattr(model, method)(blocks), getattr(local, method)(blocks)
        assert type(found) is np.ndarray
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    assert model.score(blocks) == local.score(blocks) == np.mean(local.predict(digits.images) == digits.labels) > 0.9
    assert model.score(blocks, sample_weight=weight) == local.score(blocks, sample_weight=weight)
    unread = fastnn.open_data(path, block_rows=BLOCK_ROWS, pixel_max=16)  # nobody knows its classes
    assert model.score(unread) == local.score(blocks)


def test_targets_standardization_and_checkpoints(client, path, tmp_path, digits):
    """Numbers to predict, with inputs whose scale all blocks tell; a fit goes on from its checkpoint."""
    targets = np.stack([digits.images.mean(axis=1), digits.labels / 9.0 - 0.3], axis=1)
    blocks = fastnn.open_data(path, labels=targets, block_rows=BLOCK_ROWS, dtype="float32")
    settings = SETTINGS | {"standardize": True, "input_scale": 1.0}
    model = DaskMLPRegressor(**settings).fit(blocks)
    plain = {name: value for name, value in settings.items() if name != "replicas"}
    expected = fastnn.MLPRegressor(**plain).fit(blocks)
    found = model.network_.standardization
    assert found.mean.tobytes() == expected.network_.standardization.mean.tobytes()
    assert found.scale.tobytes() == expected.network_.standardization.scale.tobytes()
    np.testing.assert_array_equal(model.predict(blocks), model.to_local().predict(blocks))
    assert model.score(blocks) == model.to_local().score(blocks)
    file = tmp_path / "fit.safetensors"
    DaskMLPRegressor(**settings | {"max_iter": 2}).fit(blocks, checkpoint=file)
    assert same(DaskMLPRegressor(**settings).fit(blocks, checkpoint=file), model)


@pytest.mark.parametrize(("settings", "arguments", "message"), [
    ({}, {"y": np.zeros(1797)}, "y is given with BlockedData, expected None"),
    ({"solver": "lbfgs"}, {}, "solver is 'lbfgs', expected 'sgd' or 'adam'"),
    ({"early_stopping": True}, {}, "early_stopping is True, expected validation_data"),
    ({}, {"validation_data": "the blocks"}, "validation_data is BlockedData, expected .X, y."),
    ({}, {"sample_weight": np.ones(3)}, r"expected \(1797,\)"),
    ({"average": "ema:0.9"}, {}, "average is .*, expected None: each round averages"),
])  # fmt: skip
def test_what_a_fit_on_blocks_cannot_do_is_one_clear_line(blocks, settings, arguments, message):
    if "validation_data" in arguments:
        arguments = {"validation_data": blocks}
    with pytest.raises(ValueError, match=message) as caught:
        DaskMLPClassifier(**SETTINGS | settings, **HERE).fit(blocks, **arguments)
    assert "\n" not in str(caught.value)


def test_a_block_that_cannot_be_predicted_is_named_with_its_worker(client, tmp_path, blocks, digits):
    model = DaskMLPClassifier(**SETTINGS).fit(blocks)
    path = tmp_path / "x.npy"
    np.save(path, digits.images.astype(np.float32))
    unlabelled = fastnn.open_data(path, block_rows=BLOCK_ROWS)
    assert model.predict(unlabelled).shape == (1797,)
    with pytest.raises(fastnn.DataError, match="has no labels, expected them in the blocks"):
        model.score(unlabelled)
    values = np.load(path, mmap_mode="r+")
    values[5 * BLOCK_ROWS + 7, 3] = np.nan
    values.flush()
    with pytest.raises(fastnn.DataError, match=r"x\.npy: block 5, row 1007 \(from 0\), input 3: found nan") as caught:
        model.predict(unlabelled)
    assert f"in blocks 3, 4, 5 of {path}, on worker tcp://" in caught.value.__notes__[0]
