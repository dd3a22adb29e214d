"""Which backend "auto" takes, and why."""

import json
import logging
import os
import subprocess
import sys

import numpy as np
import pytest
from scipy import sparse

import fastnn
from fastnn import Network
from fastnn.backends import choice
from fastnn.backends.choice import (
    COMPILE_SECONDS,
    LOAD_AGAIN_SECONDS,
    LOAD_SECONDS,
    Chooser,
    Work,
    decide,
    fit_work,
    prediction_work,
)
from fastnn.optim.config import TrainingConfig
from tests.without_kernels import DISABLED

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
needs_kernels = pytest.mark.skipif(DISABLED, reason="needs compiled kernels")


def nothing_on_disk(purpose, dtype):
    return False


def all_on_disk(purpose, dtype):
    return True


def work_of(seconds, purpose="fit", dtype=FLOAT32):
    return Work(purpose, dtype, seconds)


def chosen(chooser, *works, name="auto", began=""):
    return [choice.backend_name(chooser.choose(name, work, began)) for work in works]


def work_of_fit(shape, hidden, n_outputs, *, density=1.0, **settings):
    inputs = np.empty(shape, np.float32)
    if density < 1:
        inputs = sparse.random(*shape, density, "csr", np.float32, rng=np.random.default_rng(0))
    config = TrainingConfig(**{"optimizer": "adam", "batch_size": 200, **settings})
    return fit_work(Network.initialize((shape[1], *hidden, n_outputs)), inputs, shape[0], config)


# --- The estimate -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("work", "seconds"), [  # measured with the NumPy backend on one core, of the fastest of 5 runs
    ("4 x 2, 5 units, 200 epochs", 0.03),
    ("150 x 4, 100 units, 200 epochs", 0.04),
    ("10,000 x 784, 100 units, 5 epochs", 0.33),
    ("500 x 20,000, 100 units, 5 epochs", 0.48),
    ("2,000 x 5,000, 2 % entries, 100 units, 10 epochs", 0.5),
    ("1,000,000 x 20, 20 units, 2 epochs", 2.4),
])  # fmt: skip
def test_the_estimate_is_within_a_factor_of_two_of_a_measurement(work, seconds):
    estimated = {
        "4 x 2, 5 units, 200 epochs": work_of_fit((4, 2), (5,), 2, epochs=200),
        "150 x 4, 100 units, 200 epochs": work_of_fit((150, 4), (100,), 3, epochs=200),
        "10,000 x 784, 100 units, 5 epochs": work_of_fit((10_000, 784), (100,), 10, epochs=5),
        "500 x 20,000, 100 units, 5 epochs": work_of_fit((500, 20_000), (100,), 5, epochs=5),
        "2,000 x 5,000, 2 % entries, 100 units, 10 epochs": work_of_fit(
            (2000, 5000), (100,), 20, density=0.02, epochs=10
        ),
        "1,000,000 x 20, 20 units, 2 epochs": work_of_fit((1_000_000, 20), (20,), 2, epochs=2),
    }[work]
    assert seconds / 2 < estimated.seconds < seconds * 2


def test_more_work_is_estimated_to_take_longer():
    small = work_of_fit((1000, 64), (100,), 10, epochs=10).seconds
    for more in (
        work_of_fit((2000, 64), (100,), 10, epochs=10),
        work_of_fit((1000, 640), (100,), 10, epochs=10),
        work_of_fit((1000, 64), (200,), 10, epochs=10),
        work_of_fit((1000, 64), (100, 100), 10, epochs=10),
        work_of_fit((1000, 64), (100,), 10, epochs=20),
        work_of_fit((1000, 64), (100,), 10, epochs=10, batch_size=50),
        work_of_fit((1000, 64), (100,), 10, epochs=10, learning_rate="auto"),
    ):
        assert more.seconds > 1.2 * small
    assert work_of_fit((1000, 64), (100,), 10, epochs=10, optimizer="sgd").seconds < small
    network, inputs = Network.initialize((64, 100, 10)), np.empty((1000, 64), np.float32)
    config = TrainingConfig(epochs=10, optimizer="adam", batch_size=200)
    assert fit_work(network, inputs, 1000, config, n_held_out=1000).seconds > small
    assert prediction_work(network, inputs).seconds > prediction_work(network, inputs[:100]).seconds


def test_a_run_that_can_stop_early_is_expected_to_last_for_some_epochs_only():
    long = TrainingConfig(epochs=10_000)
    assert choice.expected_epochs(long) == 10_000
    assert choice.expected_epochs(long.replace(early_stopping=5)) == choice.EXPECTED_VALIDATED_EPOCHS
    assert choice.expected_epochs(TrainingConfig(epochs=10, early_stopping=5)) == 10
    lbfgs = TrainingConfig(epochs=10_000, optimizer="lbfgs", batch_size=None)
    assert choice.expected_epochs(lbfgs) == choice.EXPECTED_EPOCHS
    assert choice.expected_epochs_of_fit(1000, False, False) == choice.EXPECTED_EPOCHS
    assert choice.expected_epochs_of_fit(1000, True, False) == choice.EXPECTED_VALIDATED_EPOCHS
    assert choice.expected_epochs_of_fit(7, True, False) == choice.expected_epochs_of_fit(7, False, False) == 7
    assert choice.expected_epochs_of_fit(7, False, True) == choice.EXPECTED_CALLS


# --- The rule ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("seconds", "spent", "price", "backend", "reason"), [
    (0.04, 0.0, 0.1, "numpy", "NumPy takes about 0.04 s, loading the kernels 0.1 s"),
    (0.2, 0.0, 0.1, "numba", "NumPy takes about 0.2 s, loading the kernels 0.1 s"),
    (0.04, 0.08, 0.1, "numba", "NumPy takes about 0.04 s, 0.12 s with all before, loading the kernels 0.1 s"),
    (2.0, 0.0, 8.0, "numpy", "NumPy takes about 2 s, compiling the kernels 8 s"),
    (9.0, 0.0, 8.0, "numba", "NumPy takes about 9 s, compiling the kernels 8 s"),
    (1e-9, 0.0, 0.0, "numba", "the kernels are loaded"),
])  # fmt: skip
def test_numpy_is_chosen_until_its_time_exceeds_that_of_getting_kernels(seconds, spent, price, backend, reason):
    assert decide(seconds, spent, price) == (backend, reason)


@needs_kernels
def test_a_process_moves_to_kernels_on_disk_when_all_its_work_would_have_paid_for_them():
    part = LOAD_AGAIN_SECONDS * 0.4
    chooser = Chooser(all_on_disk)
    assert chosen(chooser, *[work_of(part)] * 5) == ["numpy", "numpy", "numba", "numba", "numba"]
    # Kernels of another purpose or dtype are then close at hand, if they are on disk.
    assert chosen(chooser, work_of(1e-5, "predict"), work_of(1e-5, dtype=FLOAT64)) == ["numba", "numba"]
    assert chooser.spent == pytest.approx(2 * part)


@needs_kernels
def test_predictions_count_as_well():
    few = chosen(Chooser(all_on_disk), *[work_of(LOAD_AGAIN_SECONDS / 100, "predict")] * 99)
    many = chosen(Chooser(all_on_disk), *[work_of(LOAD_AGAIN_SECONDS / 100, "predict")] * 103)
    assert set(few) == {"numpy"}
    assert many[-1] == "numba"


@needs_kernels
def test_without_kernels_on_disk_numpy_does_all_work_that_takes_less_than_compiling():
    chooser = Chooser(nothing_on_disk)
    assert chosen(chooser, *[work_of(COMPILE_SECONDS["fit"] * 0.4)] * 3) == ["numpy", "numpy", "numba"]
    # Those of the other dtype would have to be compiled, too.
    chooser = Chooser(nothing_on_disk)
    assert chosen(chooser, work_of(100.0), work_of(1.0, dtype=FLOAT64), work_of(0.1, "predict")) == [
        "numba", "numpy", "numpy",
    ]  # fmt: skip


def test_the_disk_is_not_looked_at_for_little_work_and_only_once_for_more():
    looked = []

    def find(purpose, dtype):
        looked.append((purpose, dtype))
        return False

    chooser = Chooser(find)
    chosen(chooser, work_of(LOAD_SECONDS / 2))
    assert looked == []
    chosen(chooser, *[work_of(LOAD_SECONDS)] * 3)
    assert looked == [("fit", FLOAT32)]


@needs_kernels
def test_the_name_of_a_backend_overrides_the_rule_and_does_not_count():
    chooser = Chooser(nothing_on_disk)
    assert chosen(chooser, work_of(100.0), name="numpy") == ["numpy"]
    assert chooser.spent == 0
    assert chosen(chooser, work_of(1e-9), name="numba") == ["numba"]
    assert chosen(chooser, work_of(1e-9)) == ["numba"]  # these kernels are loaded now


@needs_kernels
def test_what_continues_a_run_stays_on_its_backend():
    assert chosen(Chooser(all_on_disk), work_of(100.0), began="numpy") == ["numpy"]
    assert chosen(Chooser(nothing_on_disk), work_of(1e-9), began="numba") == ["numba"]
    assert choice.continued_backend("auto", "numpy") == "numpy"
    assert choice.continued_backend("auto", "numba") == "numba"
    assert choice.continued_backend("auto", None) == "auto"
    assert choice.continued_backend("numba", "numpy") == "numba"


def test_where_numba_cannot_be_used_one_warning_says_so(monkeypatch):
    from fastnn import backends

    def import_module(name):
        if name == "fastnn.backends.compiled":
            raise ImportError("NUMBA_DISABLE_JIT is set")
        return sys.modules[name]

    monkeypatch.setattr(backends, "import_module", import_module)
    chooser = Chooser(all_on_disk)
    with pytest.warns(RuntimeWarning, match="Numba cannot be used") as caught:
        assert chosen(chooser, *[work_of(LOAD_SECONDS * 2)] * 3) == ["numpy"] * 3
    assert len(caught) == 1
    assert chosen(chooser, work_of(1.0, "predict")) == ["numpy"]


def test_the_log_says_why(caplog):
    with caplog.at_level(logging.DEBUG, "fastnn"):
        chosen(Chooser(all_on_disk), work_of(0.04))
    assert caplog.messages == [f"fit on numpy: NumPy takes about 0.04 s, loading the kernels {LOAD_SECONDS:g} s"]


# --- Whole processes --------------------------------------------------------------------------------------------------
PROGRAM = """
import json, sys, hashlib
import numpy as np
import fastnn
from fastnn.backends.choice import kernels_on_disk
rng = np.random.default_rng(0)
small = rng.standard_normal((30, 4)), rng.integers(0, 2, 30)
large = rng.standard_normal((20000, 50)).astype(np.float32), rng.integers(0, 2, 20000)
found = {}
model = fastnn.MLPClassifier((8,), max_iter=3, random_state=0)
found["small fit"] = model.fit(*small).backend_
found["numba after it"] = "numba.core.compiler" in sys.modules
found["digest"] = hashlib.sha256(model.predict_proba(small[0]).tobytes()).hexdigest()
found["on disk"] = kernels_on_disk("fit", np.dtype(np.float32))
network = fastnn.Network.initialize((50, 200, 2))
result = fastnn.train(network, large, epochs=8, threads=1)
found["large fit"] = result.backend
found["resumed"] = fastnn.train(result.network, small_of(large), epochs=1, resume=result.state, threads=1).backend
found["partial_fit"] = [model.partial_fit(*small).backend_ for _ in range(2)]
found["warm start"] = model.set_params(warm_start=True).fit(*small).backend_
found["next fit"] = fastnn.MLPClassifier((8,), max_iter=3, random_state=0).fit(*small).backend_
print(json.dumps(found))
""".replace("small_of(large)", "(large[0][:99], large[1][:99])")


def run(**variables):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        timeout=100,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1", **variables},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


@needs_kernels
@pytest.mark.slow
def test_a_process_with_kernels_on_disk_takes_them_for_a_large_fit_and_for_all_after_it():
    _put_kernels_on_disk()
    (found, _), (again, _) = run(), run()
    assert found == again  # digests of predictions included
    del found["digest"]
    assert found == {
        "on disk": True,
        "small fit": "numpy",
        "numba after it": False,
        "large fit": "numba",
        "resumed": "numba",
        "partial_fit": ["numpy", "numpy"],
        "warm start": "numpy",
        "next fit": "numba",
    }


@pytest.mark.slow
def test_a_process_without_kernels_on_disk_does_moderate_work_with_numpy(tmp_path):
    found, stderr = run(NUMBA_CACHE_DIR=str(tmp_path))
    assert _backends(found) == {"numpy"}
    assert "RuntimeWarning" not in stderr


@needs_kernels
@pytest.mark.slow
def test_a_process_that_may_not_compile_does_all_with_numpy_and_says_so_once():
    _put_kernels_on_disk()
    found, stderr = run(NUMBA_DISABLE_JIT="1")
    assert _backends(found) == {"numpy"}
    assert stderr.count("RuntimeWarning") == stderr.count("NUMBA_DISABLE_JIT is set") == 1


def _put_kernels_on_disk():
    rng = np.random.default_rng(0)
    data = rng.standard_normal((64, 50)).astype(np.float32), rng.integers(0, 2, 64)
    fastnn.train(Network.initialize((50, 200, 2)), data, epochs=1, backend="numba")


def _backends(found):
    single = {found[name] for name in ("small fit", "large fit", "resumed", "warm start", "next fit")}
    return single | set(found["partial_fit"])
