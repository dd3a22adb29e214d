"""Both backends have the same functions with the same signatures, and raise the same errors."""

import gc
import inspect
import re
import subprocess
import sys

import numpy as np
import pytest

import fastnn
from fastnn import backends
from fastnn.backends import compiled, get_backend, layerwise, reference
from fastnn.backends.base import Backend, Trainer
from fastnn.errors import DataError, MissingDependencyError, SettingsError
from fastnn.network import Network
from fastnn.optim.optimizers import SGD

OPERATIONS = [name for name, value in vars(Backend).items() if inspect.isfunction(value) and not name.startswith("_")]
METHODS = [name for name, value in vars(Trainer).items() if inspect.isfunction(value) and not name.startswith("_")]


def _parameters(function):
    return [
        (parameter.name, parameter.kind, parameter.default)
        for parameter in inspect.signature(function).parameters.values()
        if parameter.name != "self"
    ]


def test_the_contract_has_the_operations_of_the_design():
    assert {"matmul", "relu", "relu_backward", "softmax", "dense_forward", "dense_backward"} < set(OPERATIONS)
    assert {"mean_loss", "predict_proba", "loss_and_gradients", "trainer"} < set(OPERATIONS)
    assert set(METHODS) == {
        "prepare", "run_epoch", "network", "state", "snapshot", "state_for_later", "move_to", "replace_data",
        "release_data", "average_epoch",
    }  # fmt: skip


@pytest.mark.parametrize("backend", [reference, compiled], ids=["numpy", "numba"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_both_backends_have_the_functions_and_signatures_of_the_contract(backend, name):
    assert _parameters(getattr(backend, name)) == _parameters(getattr(Backend, name))


@pytest.mark.parametrize("trainer", [layerwise.Trainer, compiled.Trainer], ids=["layer by layer", "fused"])
@pytest.mark.parametrize("name", METHODS)
def test_both_trainers_have_the_methods_and_signatures_of_the_contract(trainer, name):
    assert _parameters(getattr(trainer, name)) == _parameters(getattr(Trainer, name))


NETWORK = Network.initialize((4, 3, 2))
INPUTS = np.ones((5, 4), np.float32)
LABELS = np.array([0, 1, 0, 1, 0])
BATCH = NETWORK, INPUTS, LABELS

BAD_CALLS = {
    "width": (lambda b: b.predict_proba(NETWORK, np.ones((5, 3))), DataError, r"\(5, 3\), expected \(samples, 4\)"),
    "text": (lambda b: b.predict_proba(NETWORK, np.array([["a"] * 4])), DataError, "expected numbers"),
    "complex": (lambda b: b.predict_logits(NETWORK, np.ones((1, 4), complex)), DataError, "expected numbers"),
    "label": (lambda b: b.loss_and_gradients(NETWORK, INPUTS, LABELS + 1), DataError, "from 1 to 2, expected 0 to 1"),
    "labels": (lambda b: b.loss_and_gradients(NETWORK, INPUTS, LABELS[:3]), DataError, r"shape \(3,\)"),
    "float labels": (lambda b: b.softmax_cross_entropy(INPUTS, LABELS * 0.5), DataError, "whole numbers"),
    "weights": (lambda b: b.loss_and_gradients(*BATCH, sample_weight=-np.ones(5)), DataError, "negative or not finite"),
    "no weights": (lambda b: b.loss_and_gradients(*BATCH, sample_weight=np.zeros(5)), DataError, "0 for every sample"),
    "dropout": (lambda b: b.loss_and_gradients(NETWORK, INPUTS, LABELS, dropout=1.0), SettingsError, "dropout is 1.0"),
    "l2": (lambda b: b.trainer(NETWORK, INPUTS, LABELS, SGD(), l2=-1.0), SettingsError, "l2 is -1.0"),
    "matmul": (lambda b: b.matmul(np.ones((2, 3)), np.ones((4, 5))), DataError, r"weight has shape \(4, 5\)"),
    "bias": (lambda b: b.dense_forward(np.ones((2, 3)), np.ones((3, 5)), np.ones(4)), DataError, "bias has shape"),
    "dsums": (lambda b: b.dense_backward(*map(np.ones, ((2, 4), (2, 3), (3, 5)))), DataError, r"weight .* \(3, 5\)"),
    "softmax": (lambda b: b.softmax(np.ones(3)), DataError, r"shape \(3,\)"),
}


@pytest.mark.parametrize("backend", [reference, compiled], ids=["numpy", "numba"])
@pytest.mark.parametrize("case", BAD_CALLS)
def test_bad_input_raises_an_error_of_one_line(backend, case):
    call, error, words = BAD_CALLS[case]
    with pytest.raises(error, match=words) as caught:
        call(backend)
    assert "\n" not in str(caught.value)


def test_get_backend_returns_the_module_with_that_name():
    assert get_backend("numpy") is reference
    assert get_backend("numba") is compiled
    assert get_backend("auto") is compiled
    with pytest.raises(SettingsError, match="backend is 'cuda', expected one of auto, numba, numpy"):
        get_backend("cuda")


def _in_a_fresh_process(preparation):
    """Return the warning of `get_backend("auto")` and the error of `get_backend("numba")`, in a prepared process."""
    program = f"""
import sys, warnings
{preparation}
from fastnn.backends import get_backend, reference
from fastnn.errors import MissingDependencyError
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    assert get_backend("auto") is reference
print(*(f"{{warning.category.__name__}}: {{warning.message}}" for warning in caught), sep=" | ")
try:
    get_backend("numba")
except MissingDependencyError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    warned, failed = run.stdout.splitlines()
    return warned, failed


def test_a_numba_whose_llvm_is_too_old_for_the_kernels_is_refused():
    warned, failed = _in_a_fresh_process("import llvmlite.binding; llvmlite.binding.llvm_version_info = (15, 0, 7)")
    assert re.match(r"RuntimeWarning: .*Numba .* is too old, expected 0\.62 or newer", warned)
    assert "is too old, expected 0.62 or newer" in failed


def test_without_numba_auto_warns_and_numba_says_what_to_install():
    warned, failed = _in_a_fresh_process('sys.modules["numba"] = None')
    assert warned.startswith("RuntimeWarning: fastnn: Numba cannot be used")
    assert "pip install numba" in failed


@pytest.mark.parametrize(("missing", "words"), [
    ("fastnn.backends.compiled", "is incomplete (no module); install fastnn again"),
    ("numba", "needs Numba, which cannot be used (no module); try: pip install numba"),
])  # fmt: skip
def test_a_missing_module_of_fastnn_is_no_missing_numba(missing, words, monkeypatch):
    """A program that was packaged without fastnn's own modules must not send its user to install Numba."""
    import fastnn.backends as backends

    def import_module(name):
        raise ModuleNotFoundError("no module", name=missing)

    monkeypatch.setattr(backends, "import_module", import_module)
    with pytest.raises(MissingDependencyError, match='backend "numba"') as caught:
        fastnn.get_backend("numba")
    assert words in str(caught.value)


def test_the_garbage_collector_pauses_only_while_the_kernels_are_imported(monkeypatch):
    seen = []
    monkeypatch.delitem(sys.modules, "fastnn.backends.compiled")
    monkeypatch.setattr(backends, "import_module", lambda name: seen.append(gc.isenabled()) or 1 / 0)
    for enabled in (True, False):
        (gc.enable if enabled else gc.disable)()
        try:
            with pytest.raises(ZeroDivisionError):
                fastnn.get_backend("numba")
            assert gc.isenabled() == enabled
        finally:
            gc.enable()
    assert seen == [False, False]
