"""Rounds of replicas in one process: the same bits as `fastnn.train` for one, and the mean of all for several."""

import numpy as np
import pytest

import fastnn
import fastnn.dask
from fastnn.backends.base import TrainerState
from fastnn.dask.partition import partition
from fastnn.dask.rounds import Factors, ReplicaResult, average, seed_of

HERE = {"client": "synchronous", "backend": "numba"}


def same(one, two):
    return one.digest() == two.digest()


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "adam", "dropout": 0.2, "l2": 1e-3, "divide_l2": True},
        {"optimizer": "momentum", "schedule": "one-cycle", "batch_size": 50},
        {"schedule": "step:0.5,2", "warm_up": 2, "early_stopping": 3},
        {"batch_size": None, "shuffle": False, "clip_norm": 1.0, "backend": "numpy"},
    ],
)
def test_one_replica_has_the_bits_of_train(digits, network, settings):
    train, held_out = fastnn.hold_out(digits, 0.2)
    settings = {"epochs": 4, "backend": "numba", "validation": held_out, "seed": 5} | settings
    expected = fastnn.train(network, train, **settings)
    found = fastnn.dask.train(network, train, client="synchronous", replicas=1, **settings)
    assert same(found, expected)
    assert not same(fastnn.dask.train(network, train, client="synchronous", replicas=2, **settings), expected)


def test_rounds_of_several_epochs_have_the_weights_of_train(digits, network):
    expected = fastnn.train(network, digits, epochs=5, backend="numba", optimizer="adam", schedule="cosine")
    found = fastnn.dask.train(
        network, digits, replicas=1, local_epochs=2, epochs=5, optimizer="adam", schedule="cosine",
        validation=digits, **HERE,
    )  # fmt: skip
    for one, two in zip(found.network.weights, expected.network.weights, strict=True):
        assert one.tobytes() == two.tobytes()
    assert np.array_equal(found.history.column("loss"), expected.history.column("loss"))
    assert np.isfinite(found.history.column("validation_loss")).tolist() == [False, True, False, True, True]


def test_a_round_is_the_mean_of_runs_of_train(digits, network):
    """The definition, written with `fastnn.train`: each replica on every third row, with its part of a batch."""
    settings = {"optimizer": "adam", "learning_rate": 0.002, "backend": "numba"}
    found = fastnn.dask.train(network, digits, replicas=3, epochs=2, batch_size=60, client="synchronous", **settings)
    mean, states = network, [None] * 3
    for epoch in range(2):
        parts = [digits.take(slice(k, None, 3)) for k in range(3)]
        runs = [
            fastnn.train(mean, part, epochs=1, batch_size=20, seed=seed_of(0, k), resume=states[k], **settings)
            for k, part in enumerate(parts)
        ]
        n_rows = np.array([len(part) for part in parts])

        def mean_of(arrays, n_rows=n_rows):
            stacked = np.stack([np.float64(each) for each in arrays])
            return np.float32(np.tensordot(n_rows, stacked, 1) / n_rows.sum())

        def means(lists, mean_of=mean_of):
            return [mean_of(each) for each in zip(*lists, strict=True)]

        mean = mean.like(means([run.network.weights for run in runs]), means([run.network.biases for run in runs]), ())
        slots = tuple(tuple(means([run.state.slots[s][k] for run in runs]) for k in range(2)) for s in range(2))
        states = [TrainerState(slots, runs[0].state.steps, epoch + 1, backend="numba")] * 3
    for one, two in zip(found.network.weights, mean.weights, strict=True):
        np.testing.assert_allclose(one, two, rtol=4 * np.finfo(np.float32).eps, atol=1e-7)


def test_the_average_is_weighted_by_rows_in_float64_in_the_order_of_the_replicas():
    rng = np.random.default_rng(1)
    base = fastnn.Network.initialize((3, 2))
    networks = [base.like([rng.normal(size=(3, 2)).astype("f4")], [rng.normal(size=2).astype("f4")], ()) for _ in "abc"]
    n_rows = [1, 7, 10_000]
    results = [ReplicaResult(n, each, TrainerState((), n, 1), []) for n, each in zip(n_rows, networks, strict=True)]
    found = average(results)
    exact = sum(np.longdouble(n) * each.weights[0] for n, each in zip(n_rows, networks, strict=True)) / sum(n_rows)
    assert np.array_equal(found.network.weights[0], exact.astype(np.float32))
    assert found.state.steps == round((1 + 49 + 10**8) / 10_008)
    same_everywhere = average([result._replace(network=networks[0]) for result in results])
    assert same_everywhere.network.weights[0].tobytes() == networks[0].weights[0].tobytes()


@pytest.mark.parametrize("lengths", [[10] * 12, [1, 7, 10_000], [5], [0, 3, 0, 4], [1, 1]])
@pytest.mark.parametrize("replicas", [1, 2, 3, 8])
def test_each_row_has_one_owner(lengths, replicas):
    owned = partition(lengths, replicas)
    rows = [
        (piece.block, row) for pieces in owned for piece in pieces for row in range(lengths[piece.block])[piece.rows]
    ]
    assert sorted(rows) == [(block, row) for block, length in enumerate(lengths) for row in range(length)]
    assert 1 <= len(owned) <= replicas
    assert all(sum(piece.n_rows(lengths[piece.block]) for piece in pieces) for pieces in owned)


def test_blocks_in_the_order_of_their_labels_are_spread():
    owners = [[piece.block for piece in pieces] for pieces in partition([100] * 12, 4)]
    assert owners == [[0, 4, 8], [1, 5, 9], [2, 6, 10], [3, 7, 11]]


def test_factors_name_epochs_and_their_parts():
    config = fastnn.TrainingConfig(schedule="one-cycle", learning_rate=0.5, warm_up=1)
    of_round = [config.factors(epoch, 9) for epoch in (3, 4)]
    for_workers = config.replace(schedule=Factors(3, of_round), warm_up=0)
    assert [for_workers.rates(epoch, 5) for epoch in (3, 4)] == [config.rates(epoch, 9) for epoch in (3, 4)]


def test_a_checkpoint_goes_on_to_the_same_bits(digits, network, tmp_path):
    settings = {"optimizer": "adam", "replicas": 3, "local_epochs": 2, "epochs": 6, **HERE}
    expected, file = fastnn.dask.train(network, digits, **settings), tmp_path / "run.safetensors"

    def stop(end):
        return end.record.epoch == 4

    fastnn.dask.train(network, digits, callbacks=[stop], checkpoint=file, **settings)
    for wrong in ({"replicas": 2}, {"local_epochs": 1}):
        with pytest.raises(fastnn.SettingsError, match=f"{next(iter(wrong))} was . in the run to continue"):
            fastnn.dask.train(network, digits, resume=file, **settings | wrong)
    with pytest.raises(fastnn.DataError, match="training data"):
        fastnn.dask.train(network, digits.take(slice(1000)), resume=file, **settings)
    with pytest.raises(fastnn.SettingsError, match="callbacks"):
        fastnn.train(network, digits, resume=file)
    assert same(fastnn.dask.train(network, digits, resume=file, **settings), expected)


def test_an_average_that_gets_worse_stops_the_run_once(digits, network):
    seen = []
    result = fastnn.dask.train(
        network, digits, replicas=4, epochs=30, early_stopping=2, learning_rate=3.0, validation=digits,
        callbacks=[lambda end: seen.append(end.record.validation_loss)], **HERE,
    )  # fmt: skip
    assert result.stopped == "early"
    assert len(seen) == len(result.history) == int(np.argmin(seen)) + 3
    assert result.best_epoch == int(np.argmin(seen)) + 1


def test_divergence_has_the_last_good_network(digits, network):
    with pytest.raises(fastnn.DivergenceError, match="diverged in epoch 3") as caught:
        fastnn.dask.train(
            network, digits, replicas=2, epochs=5, learning_rate=0.1,
            schedule=lambda epoch, epochs: 1.0 if epoch < 2 else 1e30, **HERE,
        )  # fmt: skip
    expected = fastnn.dask.train(network, digits, replicas=2, epochs=2, learning_rate=0.1, **HERE)
    assert np.array_equal(caught.value.result.network.weights[0], expected.network.weights[0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "lbfgs", "batch_size": None}, "L-BFGS"),
        ({"learning_rate": "auto"}, "learning_rate is 'auto'"),
        ({"shuffle": lambda rows: rows}, "shuffle is a function"),
        ({"validation": 0.2}, "validation is 0.2, expected data"),
        ({"early_stopping": 3}, "early_stopping needs validation data"),
        ({"replicas": 0}, "replicas is 0"),
        ({"local_epochs": 0}, "local_epochs is 0"),
        ({"client": "threads"}, "client is 'threads'"),
        ({"client": None}, "Dask has no current client"),
    ],
)
def test_what_needs_all_rows_in_one_process_is_refused(digits, network, settings, message):
    with pytest.raises(fastnn.SettingsError, match=message):
        fastnn.dask.train(network, digits, **{"client": "synchronous", "epochs": 1} | settings)
