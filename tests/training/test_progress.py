"""Tests of `Progress` and `LiveCurve`: what a pipe, a terminal and a notebook show of a run."""

import io
import re
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

import fastnn
from fastnn import Dataset, Network
from fastnn.plots import LearningCurveDisplay


class Handle:
    """A display handle of IPython that keeps what it is given."""

    def __init__(self, first):
        self.shown = [first]

    def update(self, value, **options):
        self.shown.append(value)


@pytest.fixture
def notebook(monkeypatch):
    """Let the process look like a notebook; return the list of its display handles."""
    handles = []

    def display(value, raw=False, display_id=None):
        assert display_id is True
        handles.append(Handle(value))
        return handles[-1]

    ipython, module = ModuleType("IPython"), ModuleType("IPython.display")
    ipython.get_ipython = lambda: SimpleNamespace(kernel=object())
    ipython.display, module.display, ipython.version_info = module, display, (9, 0)  # Matplotlib asks for the version
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    return handles


def _run(**settings):
    data = fastnn.load_digits().take(slice(300))
    return fastnn.train(Network.for_data(data, (8,)), data, **{"epochs": 3, "backend": "numpy", **settings})


def _regression():
    rng = np.random.default_rng(0)
    inputs = rng.random((60, 3))
    data = Dataset(inputs, inputs.sum(axis=1, keepdims=True))
    return Network.initialize((3, 4, 1), output="identity"), data


def test_verbose_prints_one_line_per_epoch_in_a_pipe(capsys):
    _run()
    assert capsys.readouterr() == ("", "")
    result = _run(validation=0.2, verbose=True)
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert len(lines) == 3
    last = result.history[-1]
    assert lines[-1].startswith(
        f"epoch 3/3  loss {last.loss:.4f}  accuracy {last.accuracy:.2%}  validation accuracy "
        f"{last.validation_accuracy:.2%}  "
    )
    speed = float(re.search(r"([\d,]+) samples/s", lines[-1])[1].replace(",", ""))
    assert speed == pytest.approx(240 / last.seconds, abs=1)


@pytest.mark.parametrize("optimizer", ["sgd", "lbfgs"])
def test_regression_shows_losses_and_no_accuracy(optimizer, capsys):
    network, data = _regression()
    settings = {"batch_size": None} if optimizer == "lbfgs" else {}
    fastnn.train(
        network, data, validation=0.2, epochs=2, optimizer=optimizer, verbose=True, backend="numpy", **settings
    )
    line = capsys.readouterr().err.splitlines()[-1]
    assert re.match(r"epoch 2/2  loss \d\.\d{4}  validation loss \d\.\d{4}  [\d,]+ samples/s$", line)


def test_a_terminal_gets_a_bar_that_is_left_in_order_after_an_error(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "150")

    def fail(end):
        raise RuntimeError

    with pytest.raises(RuntimeError):
        _run(callbacks=[fastnn.Progress(), fail])
    assert "epoch 1/3" in screen.getvalue()
    assert (
        screen.getvalue().count("\x1b[?25l") == screen.getvalue().count("\x1b[?25h") == 1
    )  # the cursor is shown again


def test_a_long_run_prints_some_lines_in_a_pipe_and_the_last_one(capsys):
    data = fastnn.load_digits().take(slice(20))
    fastnn.train(fastnn.Network.for_data(data, ()), data, epochs=1003, backend="numpy", verbose=True)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 168
    assert lines[0].startswith("epoch 6/1003")
    assert lines[-1].startswith("epoch 1003/1003")


def test_a_notebook_gets_one_line_that_is_updated(notebook, capsys):
    progress = fastnn.Progress()
    _run(callbacks=[progress])
    (handle,) = notebook
    texts = [each["text/plain"] for each in handle.shown]
    assert texts[0].startswith("epoch 1/3")
    assert texts[-1].startswith("epoch 3/3")
    assert capsys.readouterr() == ("", "")
    _run(callbacks=[progress])
    assert len(notebook) == 2


def test_a_live_curve_ends_with_the_whole_run(notebook):
    curve = fastnn.LiveCurve(seconds=100)
    result = _run(callbacks=[curve], epochs=5, validation=0.2)
    (handle,) = notebook
    assert [len(each.epochs) for each in handle.shown] == [1, 5]
    assert all(isinstance(each, LearningCurveDisplay) for each in handle.shown)
    np.testing.assert_array_equal(handle.shown[-1].validation_loss, result.history.column("validation_loss"))
    assert handle.shown[-1]._repr_png_()[:4] == b"\x89PNG"
    _run(callbacks=[fastnn.LiveCurve(seconds=0)])
    assert [len(each.epochs) for each in notebook[1].shown] == [1, 2, 3, 3]


def test_a_live_curve_of_a_regression_has_one_panel(notebook):
    network, data = _regression()
    curve = fastnn.LiveCurve()
    fastnn.train(network, data, epochs=9, optimizer="lbfgs", batch_size=None, callbacks=[curve], backend="numpy")
    (handle,) = notebook
    assert len(handle.shown[-1].axes_) == 1
    assert handle.shown[-1].axes_[0].get_ylabel() == "loss"


def test_a_live_curve_outside_a_notebook_is_refused(monkeypatch):
    with pytest.raises(fastnn.SettingsError, match="LiveCurve needs a notebook"):
        fastnn.LiveCurve()
    ipython = ModuleType("IPython")  # IPython on a terminal has a shell, but no kernel
    ipython.get_ipython = SimpleNamespace
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    with pytest.raises(fastnn.SettingsError, match="LiveCurve needs a notebook"):
        fastnn.LiveCurve()


def test_both_work_in_a_real_notebook():
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    code = (
        "import fastnn\n"
        "data = fastnn.load_digits().take(slice(200))\n"
        "network = fastnn.Network.for_data(data, (8,))\n"
        "callbacks = [fastnn.LiveCurve()]\n"
        "result = fastnn.train(network, data, epochs=3, backend='numpy', callbacks=callbacks, verbose=True)"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    kernel = {"display_name": "Python", "language": "python", "name": "python3"}
    notebook.metadata["kernelspec"] = kernel
    nbclient.NotebookClient(notebook, timeout=120).execute()
    kinds = [set(output.data) for output in notebook.cells[0].outputs]
    assert sum("image/png" in kind for kind in kinds) == 1
    texts = [output.data["text/plain"] for output in notebook.cells[0].outputs if "image/png" not in output.data]
    assert len(texts) == 1
    assert texts[0].startswith("epoch 3/3")
