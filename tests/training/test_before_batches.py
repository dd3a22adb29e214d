"""Tests of the methods `before_batches` and `ended` of callbacks."""

import numpy as np
import pytest

import fastnn
from fastnn.errors import SettingsError


@pytest.fixture(scope="module")
def data():
    return fastnn.load_digits().take(slice(300))


class Paced:
    """Asks for parts of these sizes, one after the other, and keeps what it gets."""

    def __init__(self, *sizes):
        self.sizes, self.starts, self.results, self.networks = sizes, [], [], []

    def before_batches(self, start):
        self.starts.append(start)
        self.networks.append(start.network)
        return self.sizes[(len(self.starts) - 1) % len(self.sizes)]

    def ended(self, result):
        self.results.append(result)

    def __call__(self, end):
        pass


@pytest.mark.parametrize("backend", ["numba", "numpy"])
@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "adam", "dropout": 0.2},
        {"schedule": "one-cycle", "optimizer": "momentum"},
        {"optimizer": "lbfgs", "batch_size": None},
        {"augment": "shift=1"},
        {"frozen": 1, "dropout": 0.1},
    ],
)
def test_parts_change_no_bit(settings, backend, data, tmp_path):
    network = fastnn.Network.for_data(data, (16, 12))
    settings = {"batch_size": 32, "epochs": 3, "validation": 0.2, "backend": backend, **settings}
    plain = fastnn.train(network, data, **settings)
    paced = Paced(1, 3, None, 2)
    assert fastnn.train(network, data, callbacks=[paced], **settings).digest() == plain.digest()
    assert len(paced.starts) >= 3
    if settings.get("optimizer") != "lbfgs":
        checkpoint = fastnn.Checkpoint(tmp_path / "run.safetensors", every=1, unit="batches")
        both = fastnn.train(network, data, callbacks=[Paced(3), Paced(2, 5)], checkpoint=checkpoint, **settings)
        assert both.digest() == plain.digest()


def test_a_start_says_where_the_run_is(data):
    network = fastnn.Network.for_data(data, (16,))
    paced = Paced(4)
    result = fastnn.train(network, data, validation=0.2, epochs=2, batch_size=32, callbacks=[paced], backend="numba")
    assert [(start.epoch, start.batch, start.batches) for start in paced.starts] == [
        (1, 0, 8), (1, 4, 8), (2, 0, 8), (2, 4, 8),
    ]  # fmt: skip
    assert all(np.isnan(start.loss) for start in paced.starts[::2])
    assert 0 < paced.starts[3].loss < paced.starts[1].loss
    np.testing.assert_array_equal(paced.networks[0].weights[0], network.weights[0])
    first = fastnn.train(network, data, validation=0.2, epochs=1, batch_size=32, backend="numba").network
    np.testing.assert_array_equal(paced.networks[2].weights[0], first.weights[0])
    assert not np.array_equal(paced.networks[1].weights[0], paced.networks[2].weights[0])
    setup = paced.starts[0].setup
    assert (len(setup.data), len(setup.validation), setup.backend) == (300, 60, "numba")
    assert setup.config == result.config
    assert paced.results == [result]


def test_frozen_layers_are_in_the_network_of_a_start(data):
    network = fastnn.Network.for_data(data, (16, 12))
    paced = Paced(2)
    fastnn.train(network, data, epochs=1, frozen=1, callbacks=[paced])
    for each in paced.networks:
        np.testing.assert_array_equal(each.weights[0], network.weights[0])
        assert each.sizes == network.sizes


@pytest.mark.parametrize("size", [0, -1, 1.5, "2"])
def test_a_wrong_number_of_batches_is_refused(size, data):
    with pytest.raises(SettingsError, match="the result of before_batches is"):
        fastnn.train(fastnn.Network.for_data(data, (8,)), data, callbacks=[Paced(size)])


def test_ended_gets_the_result_of_a_run_that_fails(data):
    network = fastnn.Network.for_data(data, (8,))
    paced = Paced(None)
    with pytest.raises(fastnn.DivergenceError) as caught:
        fastnn.train(network, data, learning_rate=1e30, callbacks=[paced])
    assert paced.results == [caught.value.result]
    assert paced.results[0].stopped == "diverged"

    def interrupt(end):
        raise KeyboardInterrupt

    paced = Paced(None)
    with pytest.raises(fastnn.TrainingInterrupted) as interrupted:
        fastnn.train(network, data, callbacks=[paced, interrupt])
    assert paced.results == [interrupted.value.result]


def test_a_result_has_a_digest_of_its_bits(data):
    network = fastnn.Network.for_data(data, (8,))
    one, same, other = (fastnn.train(network, data, epochs=2, seed=seed, backend="numpy") for seed in (0, 0, 1))
    assert one.digest() == same.digest() != other.digest()
    assert len(one.digest()) == 64
