"""`fastnn.sweep`: the bits of single runs, whatever the engine; what fails is a row; runs share cores and data."""

import os
import threading

import numpy as np
import pytest

import fastnn
from fastnn.backends import threads as threads_module
from fastnn.errors import DataError, SettingsError
from fastnn.kernels import team
from fastnn.plots import SweepDisplay
from fastnn.runs.plan import make_plan
from fastnn.sweeps.engines import shares
from fastnn.sweeps.grid import parse_seeds
from fastnn.sweeps.result import SweepResult

VARIED = {"hidden": [(8,), (16, 8)], "optimizer": ["sgd", "adam"]}
FIXED = {"epochs": 2, "backend": "numba"}


def _digests(result):
    return [record.digest for record in result.records]


@pytest.fixture(scope="module")
def alone():
    """The digest of every run of VARIED with the seeds 3 and 5 on the recipe "digits", each by `fastnn.train` alone."""
    recipe, found = fastnn.get_recipe("digits"), []
    splits = recipe.load(0)
    for hidden in VARIED["hidden"]:
        for optimizer in VARIED["optimizer"]:
            for seed in (3, 5):
                config = recipe.configure(hidden, "relu", optimizer=optimizer, seed=seed, **FIXED)
                network = make_plan(splits, hidden, config, seed=seed).network
                result = fastnn.train(network, splits.train, validation=splits.validation, config=config)
                found.append(result.digest())
    assert len(set(found)) == 8  # so that a mix-up shows
    return found


@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_threads_give_the_bits_of_single_runs(jobs, alone):
    result = fastnn.sweep("digits", settings=VARIED, seeds=[3, 5], jobs=jobs, **FIXED)
    assert _digests(result) == alone


def test_the_order_of_runs_changes_no_bit(alone):
    turned = {name: values[::-1] for name, values in reversed(VARIED.items())}
    result = fastnn.sweep("digits", settings=turned, seeds=[5, 3], **FIXED)
    assert sorted(_digests(result)) == sorted(alone)
    assert {record.settings["optimizer"] for record in result.records[:2]} == {"adam"}


@pytest.mark.slow
def test_processes_give_the_bits_of_single_runs(alone):
    assert _digests(fastnn.sweep("digits", settings=VARIED, seeds=[3, 5], engine="processes", **FIXED)) == alone


def test_numpy_gives_the_same_bits_with_any_number_of_jobs(mnist_small):
    # Products that BLAS would share among threads.
    options = {"settings": {"hidden": [200]}, "seeds": [0, 1], "backend": "numpy", "epochs": 1, "batch_size": None}
    results = [fastnn.sweep(None, mnist_small, jobs=jobs, **options) for jobs in (1, 2)]
    assert _digests(results[0]) == _digests(results[1])


def test_a_sweep_of_data_is_that_of_train(mnist_small):
    images, labels = mnist_small
    data, held = (
        fastnn.Dataset(images[:800], labels[:800], 255),
        fastnn.Dataset(images[800:1000], labels[800:1000], 255),
    )
    settings = {"l2": [0.0, 0.01], "dtype": ["float32", "float64"]}
    result = fastnn.sweep(None, data, settings, seeds=[4], validation=held, hidden=(12,), learning_rate=0.2, epochs=2)
    for record in result.records:
        network = fastnn.Network.for_data(data, (12,), seed=4, dtype=record.settings["dtype"])
        options = {"l2": record.settings["l2"], "learning_rate": 0.2, "epochs": 2, "seed": 4, "backend": "numba"}
        one = fastnn.train(network, data, validation=held, **options)
        assert record.digest == one.digest()
        assert record.validation_loss == one.history[-1].validation_loss
        assert (record.epochs, record.backend, record.error) == (2, "numba", None)


def test_runs_from_one_network_start_from_its_weights():
    data = fastnn.load_digits()
    network = fastnn.Network.for_data(data, (8,), seed=9)
    training, held = fastnn.hold_out(data, 0.2)
    result = fastnn.sweep(network, data, {"frozen": [0, 1]}, seeds=[1], validation=0.2, epochs=1)
    for record in result.records:
        options = {"frozen": record.settings["frozen"], "seed": 1, "epochs": 1, "backend": "numba"}
        assert record.digest == fastnn.train(network, training, validation=held, **options).digest()
    with pytest.raises(SettingsError, match="settings have hidden, but all runs start from one network"):
        fastnn.sweep(network, data, {"hidden": [8]})


def test_a_regression_is_compared_by_its_loss():
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((300, 4))
    data = fastnn.Dataset(inputs, inputs @ rng.standard_normal(4) + 0.5)
    result = fastnn.sweep(
        None, data, {"learning_rate": [1e-6, 0.05]}, hidden=(), seeds=[0, 1], test=(inputs, data.labels)
    )
    assert result.metric == "validation_loss"
    assert result.best.settings == {"learning_rate": 0.05}
    assert result.best.mean == pytest.approx(result.best.column("validation_loss").mean(), rel=0, abs=0)
    assert result.best.column("test_r2").min() > 0.9
    assert "validation loss" in result.table()


def test_a_run_that_diverges_or_fails_is_a_row():
    def callbacks(run):
        def fail(_):
            if run.seed == 1:
                raise RuntimeError("a callback\nfails")

        return [fail]

    settings = {"learning_rate": [0.1, 1e30]}
    result = fastnn.sweep("digits", settings=settings, seeds=[0, 1], hidden=(8,), epochs=1, callbacks=callbacks)
    good, failed, *diverged = result.records
    assert good.error is None
    assert good.digest
    assert (failed.stopped, failed.error) == ("failed", "RuntimeError: a callback fails")
    assert {(each.stopped, each.validation_loss) for each in diverged} == {("diverged", None)}
    assert "learning rate 1e+30" in diverged[0].error
    assert [len(each.values) for each in result.combinations] == [1, 0]  # a combination that failed is the last
    assert result.failures == [failed, *diverged]
    assert "2, 1 failed" in result.table()


def test_the_test_set_is_untouched_unless_it_is_asked_for(monkeypatch):
    calls = []
    monkeypatch.setattr("fastnn.sweeps.runs.evaluate_model", lambda *_: calls.append(1))
    fastnn.sweep("digits", seeds=[0], epochs=1, hidden=(4,))
    assert not calls
    monkeypatch.undo()
    (record,) = fastnn.sweep("digits", seeds=[0], epochs=1, hidden=(4,), test=True).records
    # The test set of this recipe is its validation data.
    assert record.test_accuracy == record.validation_accuracy


@pytest.mark.parametrize(("arguments", "message"), [
    ({"seeds": 3}, "seeds is 3, expected several, such as range"),
    ({"seeds": []}, "seeds are empty"),
    ({"seeds": [1, 2, 1]}, "the seed 1 is given twice"),
    ({"seeds": [-1]}, "a seed is -1"),
    ({"settings": {"hiden": [8]}}, r"'hiden' is no setting \(did you mean hidden\?\)"),
    ({"settings": {"hidden": 8}}, "settings have hidden: 8, expected a list"),
    ({"settings": {"hidden": []}}, "expected a list of one or more values"),
    ({"settings": {"hidden": "64"}}, "expected a list of one or more values"),
    ({"settings": [3]}, "expected a dict of the name of a setting"),
    ({"settings": {"seed": [1]}}, r"settings have seed, expected seeds=\[...\]"),
    ({"settings": {"backend": ["numpy"]}}, "settings have backend"),
    ({"settings": {"dropout": [0.1, 2]}}, "dropout is 2"),
    ({"settings": {"hidden": [8, (8,)]}}, "two runs of seed 0 are the same: hidden 8; hidden 8"),
    ({"settings": {"schedule": [lambda *_: 1, lambda *_: 0.5]}}, "functions with different names"),
    ({"settings": {"hidden": [8], "layers": ["8"]}}, "settings have hidden and layers"),
    ({"seed": 3}, "seed is given, expected seeds"),
    ({"engine": "ray"}, "engine is 'ray', expected one of threads, processes, dask"),
    ({"client": "tcp://x:1"}, 'client is given with the engine "threads"'),
    ({"jobs": 0}, "jobs is 0"),
    ({"engine": "dask", "jobs": 2}, 'jobs is given with the engine "dask"'),
    ({"validation": 0.1}, "validation is given with the data of a recipe"),
    ({"test": (1, 2)}, "test is given as data with the data of a recipe"),
    ({"config": fastnn.TrainingConfig()}, "config is given with a recipe"),
    ({"sample_weight": np.ones(3)}, "expected validation data"),
    ({"memory": "2GB"}, "memory is '2GB', but the data are in memory"),
    ({"data": fastnn.infinite_digits(n=9)}, "data is a BlockedData, expected .*: all rows are needed in memory"),
])  # fmt: skip
def test_a_wrong_argument_is_refused_before_training(arguments, message, monkeypatch):
    monkeypatch.setattr("fastnn.sweeps.runs.train", None)
    with pytest.raises(SettingsError, match=message):
        fastnn.sweep("digits", **{"seeds": [0], **arguments})


def test_data_that_do_not_fit_are_refused():
    with pytest.raises(SettingsError, match="data are None, expected training data"):
        fastnn.sweep(fastnn.Network.initialize((4, 2)))
    with pytest.raises(DataError):
        fastnn.sweep(fastnn.Network.initialize((4, 2)), fastnn.load_digits())


def test_settings_of_lists_have_their_own_combinations():
    settings = [{"optimizer": ["lbfgs"], "batch_size": [None], "epochs": [3]}, {"learning_rate": [0.1, 0.2]}]
    result = fastnn.sweep("digits", settings=settings, seeds=[0], hidden=(4,), epochs=1)
    assert [list(record.settings) for record in result.records] == [
        ["optimizer", "batch_size", "epochs"], ["learning_rate"], ["learning_rate"],
    ]  # fmt: skip
    assert result.names == ("optimizer", "batch_size", "epochs", "learning_rate")
    assert result.columns()["batch_size"] == [None, None, None]


def test_seeds_are_read_from_text():
    assert parse_seeds("0-2, 7,9-9") == [0, 1, 2, 7, 9]
    for text in ("", "a", "3-1", "0-", "-3", "0-99999999", "1.5"):
        with pytest.raises(ValueError, match="seeds"):
            parse_seeds(text)


# --- Shares ---
@pytest.mark.parametrize(("cores", "jobs", "threads", "expected"), [
    (8, None, None, (8, 1)),
    (8, 2, None, (2, 4)),
    (8, 3, None, (3, 2)),
    (2, 4, None, (4, 1)),
    (8, None, 4, (2, 4)),
    (64, None, None, (20, 3)),  # there are no more runs
])  # fmt: skip
def test_runs_share_the_cores(cores, jobs, threads, expected, monkeypatch):
    monkeypatch.setattr("fastnn.sweeps.engines.usable_cores", lambda: cores)
    run = type("Run", (), {"config": fastnn.TrainingConfig(threads=threads)})
    assert shares([run] * 20, jobs) == expected


@pytest.mark.parametrize(("jobs", "most"), [(1, 4), (2, 4), (4, 4)])
def test_the_runs_together_have_no_more_threads_than_cores(jobs, most, monkeypatch, started, mnist_small):
    monkeypatch.setattr(threads_module.os, "sched_getaffinity", lambda _: range(4), raising=False)
    for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "LOKY_MAX_CPU_COUNT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads_module, "cpu_quota", lambda: None)
    threads_module._recent_quota.cache_clear()
    monkeypatch.setattr(team, "_start_apart", lambda *_: None)
    running, peak, lock = 0, [0], threading.Lock()
    run_team = team.run_team

    def counted(work, count, *arguments, **options):
        nonlocal running
        with lock:
            running += count
            peak[0] = max(peak[0], running)
        try:
            return run_team(work, count, *arguments, **options)
        finally:
            with lock:
                running -= count

    monkeypatch.setattr(team, "run_team", counted)
    fastnn.sweep(None, mnist_small, seeds=range(4), hidden=(512,), epochs=2, jobs=jobs)
    threads_module._recent_quota.cache_clear()
    assert max(started) == most // jobs  # each run has its whole share
    assert peak[0] <= most


def test_ctrl_c_ends_the_runs_and_no_thread_stays(monkeypatch):
    stopped = threading.Event()

    def callbacks(run):
        class Endless:
            def __call__(self, _):
                stopped.set()

        return [Endless()]

    def interrupt(*_, **__):
        assert stopped.wait(60)
        raise KeyboardInterrupt

    monkeypatch.setattr("fastnn.sweeps.engines._next", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fastnn.sweep("digits", seeds=range(3), epochs=10**6, hidden=(4,), callbacks=callbacks, jobs=2)
    assert not [each for each in threading.enumerate() if each.name.startswith("fastnn sweep")]


def test_threads_share_the_data_without_a_copy():
    """Report 13: the anonymous memory of four runs at once is about that of one."""
    rng = np.random.default_rng(1)
    data = fastnn.Dataset(rng.integers(0, 255, (40_000, 784), np.uint8), rng.integers(0, 10, 40_000), 255)
    held = data.take(slice(500))
    peaks = []

    def callbacks(run):
        return [lambda end: peaks.append(_anonymous_bytes())]

    options = {"validation": held, "epochs": 1, "callbacks": callbacks, "backend": "numba"}
    fastnn.sweep(None, data, {"hidden": [16]}, seeds=[0], **options)
    one, peaks[:] = max(peaks), []
    fastnn.sweep(None, data, {"hidden": [16]}, seeds=range(8), jobs=4, **options)
    assert max(peaks) - one < data.images.nbytes  # three copies more, if each run had its own


class _NoteBases:
    """The callbacks of a run in another process: writes what holds the memory of the training data into a file."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, run):
        self.name = f"{run.seed}"
        return [self.Noted(self.folder / self.name)]

    class Noted:
        def __init__(self, path):
            self.path = path

        def __call__(self, end):
            pass

        def before_batches(self, start):
            array = start.setup.data.images
            while isinstance(array.base, np.ndarray):
                array = array.base
            self.path.write_text(type(array.base).__name__)


@pytest.mark.slow
def test_processes_map_the_data_into_their_memory(mnist_small, tmp_path):
    """Report 13: no task copies the data."""
    options = {"engine": "processes", "jobs": 2, "callbacks": _NoteBases(tmp_path), "backend": "numpy", "epochs": 1}
    fastnn.sweep(None, mnist_small, {"hidden": [4]}, seeds=range(3), **options)
    assert [path.read_text() for path in sorted(tmp_path.iterdir())] == ["mmap"] * 3


def _anonymous_bytes():
    if not os.path.exists("/proc/self/status"):
        pytest.skip("the anonymous memory of a process is known on Linux only")
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("RssAnon"))


# --- The result ---
@pytest.fixture
def result():
    return fastnn.sweep("digits", settings={"learning_rate": [0.3, 0.01]}, seeds=[0, 1], hidden=(8,), epochs=2)


def test_means_and_spreads_are_those_of_numpy(result):
    values = np.array([record.validation_accuracy for record in result.records]).reshape(2, 2)
    order = np.argsort(-values.mean(axis=1))
    for combination, row in zip(result.combinations, values[order], strict=True):
        assert combination.mean == pytest.approx(row.mean(), rel=1e-15)
        assert combination.deviation == pytest.approx(abs(row[0] - row[1]) / np.sqrt(2), rel=1e-12)
    assert result.best.settings == {"learning_rate": 0.3}
    assert f"{100 * values[0].mean():.2f} %" in result.table().splitlines()[1]


def test_a_result_has_columns_and_a_frame(result):
    columns = result.columns()
    assert columns["learning_rate"] == [0.3, 0.3, 0.01, 0.01]
    assert columns["seed"] == [0, 1, 0, 1]
    frame = result.to_frame()
    assert list(frame) == list(columns)
    assert frame.validation_accuracy.tolist() == columns["validation_accuracy"]
    assert len(result) == len(list(result)) == 4
    assert "SweepResult(4 runs of 2 settings; best: learning rate 0.3" in repr(result)


def test_the_figure_has_a_row_for_each_combination_and_a_point_for_each_run(result):
    axes = result.plot().ax_
    assert [label.get_text() for label in axes.get_yticklabels()] == ["learning rate 0.3", "learning rate 0.01"]
    points = [line for line in axes.lines if line.get_marker() == "o"]
    assert [len(line.get_xdata()) for line in points] == [2, 2]


def test_the_figure_shows_failures_and_values_far_away():
    display = SweepDisplay.from_values(["a$", "b", "c"], [[0.9, 0.91], [0.89, 0.1], []], [0, 1, 2], "accuracy")
    low, high = display.ax_.get_xlim()
    assert low < 0.9 < 0.91 < high
    assert sorted(text.get_text() for text in display.ax_.texts) == ["1 failed", "2 failed"]
    with pytest.raises(DataError, match="0 labels"):
        SweepDisplay([], [], [], "accuracy")


def test_a_result_without_a_good_run_has_no_mean():
    failed = fastnn.sweep("digits", seeds=[0], hidden=(4,), epochs=1, learning_rate=1e30)
    assert isinstance(failed, SweepResult)
    assert np.isnan(failed.best.mean)
    assert failed.plot().ax_ is not None
    assert "1, 1 failed" in failed.table()


def test_progress_is_a_line_for_each_run(capsys):
    fastnn.sweep("digits", seeds=[0, 1], hidden=(4,), epochs=1, verbose=True)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("2/2 runs  seed ")


def test_a_long_epoch_ends_between_its_parts():
    from fastnn.sweeps.runs import Pacer, Stopped

    over, parts = threading.Event(), []

    class Noted(Pacer):
        def before_batches(self, start):
            parts.append(start.batch)
            if len(parts) == 3:
                over.set()
            return super().before_batches(start)

    data = fastnn.load_digits()
    network = fastnn.Network.for_data(data, (4,))
    with pytest.raises(Stopped):
        fastnn.train(network, data, batch_size=1, epochs=1, callbacks=[Noted(over.is_set)])
    assert parts[:2] == [0, 64]
    assert parts[2] >= 128


def test_the_benchmark_makes_the_calls_of_hyperband():
    """143 models and 1,581 calls, which are the figures of dask-ml for max_iter 81."""
    from benchmarks.sweeps import calls

    every = list(calls(81))
    assert len({call.model for call in every}) == 143
    assert len(every) == len(set(every)) == 1581
    assert max(call.part for call in every) == 80
