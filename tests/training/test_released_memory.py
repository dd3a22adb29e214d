"""Tests that what a run needed is freed when it ends, without waiting for a garbage collection."""

import gc
import warnings

import pytest

import fastnn
from fastnn import Conv2D, MLPClassifier, MLPRegressor, Network

DATA = fastnn.load_digits().take(range(200))
X, Y = DATA.images.reshape(200, -1) / 16.0, DATA.labels


def train(layers=(8,), **settings):
    return fastnn.train(Network.for_data(DATA, layers), DATA, epochs=2, **settings)


def diverge():
    with pytest.raises(fastnn.errors.DivergenceError):
        train(learning_rate=1e30, backend="numba")


RUNS = {
    "Numba": lambda: train(backend="numba"),
    "NumPy": lambda: train(backend="numpy"),
    "convolution": lambda: train((Conv2D(4, 3), 8)),
    "validation and callback": lambda: train(validation=0.2, callbacks=[lambda end: None]),
    "slices": lambda: train(slices=4),
    "augment": lambda: train(augment="shift=1"),
    "rate search": lambda: train(learning_rate="auto"),
    "L-BFGS": lambda: train(optimizer="lbfgs", batch_size=None),
    "divergence": diverge,
    "classifier": lambda: MLPClassifier(8, max_iter=2).fit(X, Y).predict(X),
    "early stopping": lambda: MLPClassifier(8, max_iter=2, early_stopping=True).fit(X, Y),
    "regressor": lambda: MLPRegressor(hidden_layer_sizes=8, max_iter=2).fit(X, X).predict(X),
    "partial_fit": lambda: MLPClassifier(8).partial_fit(X, Y, classes=range(10)).partial_fit(X, Y),
    "warm_start": lambda: MLPClassifier(8, max_iter=1, warm_start=True).fit(X, Y).fit(X, Y),
}


def left_by(run):
    """The types of fastnn's objects that a run leaves to the garbage collection."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run()  # what is imported and compiled once
        gc.collect()
        gc.freeze()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            run()
            gc.collect()
            return [type(each) for each in gc.garbage if type(each).__module__.startswith("fastnn")]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
            gc.unfreeze()


@pytest.mark.parametrize("run", RUNS)
def test_no_run_leaves_objects_that_refer_to_each_other(run):
    assert not left_by(RUNS[run])


def test_a_checkpoint_leaves_no_objects_either(tmp_path):
    assert not left_by(lambda: train(checkpoint=tmp_path / "run.safetensors"))
