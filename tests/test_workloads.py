"""Tests of the benchmark of users' workloads: its table, its comparison of results, its report, its chart."""

import json
import shutil
from xml.etree import ElementTree

import numpy as np
import pytest

from benchmarks.workloads import __main__ as workloads
from benchmarks.workloads import measure, report, worker
from benchmarks.workloads.chart import svg
from benchmarks.workloads.data import text
from benchmarks.workloads.examples import EXAMPLES
from benchmarks.workloads.measure import Found, unequal_fits, unequal_numbers
from benchmarks.workloads.table import WORKLOADS, select

EQUAL = {"score": 0.9, "loss": 0.5, "iterations": 40}


def _pair(mine, **theirs):
    return {"fastnn": mine, "scikit-learn": {**mine, **theirs}}


def test_the_table_has_49_workloads_and_the_ratios_before():
    names = [each.name for each in WORKLOADS]
    assert len(set(names)) == 49
    before = json.loads(report.BEFORE.read_text())
    assert list(before) == names
    assert {frozenset(each) for each in before.values()} == {frozenset(report.PAGE_MEASURES)}
    assert {each.solver for each in WORKLOADS} == {"adam", "sgd", "lbfgs"}


def test_quick_data_are_small_and_of_the_same_kind():
    for workload in select(["million", "wide", "text", "autoencoder", "targets-500", "classes-1000"]):
        inputs, targets = workload.quick().load()
        assert inputs.shape[0] == targets.shape[0] <= 200
        assert workload.is_regression == (targets.dtype.kind == "f")
        assert workload.quick().settings["max_iter"] <= 3


def test_rows_of_text_have_unit_length_and_words_of_their_topic():
    rows, labels = text(300, 1000, classes=2)
    np.testing.assert_allclose(np.sqrt(rows.multiply(rows).sum(axis=1)), 1)
    topical = np.asarray(rows[:, 500:900].sum(axis=1)).ravel()  # the words of class 1
    assert topical[labels == 1].mean() > 1.5 * topical[labels == 0].mean()


@pytest.mark.parametrize(("changes", "is_sensitive", "words"), [
    ({}, False, []),
    ({"score": 0.89, "loss": 0.503, "iterations": 41}, False, []),
    ({"score": 0.87}, False, ["score 0.9000"]),
    ({"loss": 0.45, "iterations": 30}, False, ["loss 0.5", "40 iterations, scikit-learn 30"]),
    ({"loss": float("nan")}, False, ["loss 0.5"]),
    ({"loss": 0.45, "iterations": 30}, True, []),
    ({"score": 0.8, "loss": 0.1}, True, ["score", "loss"]),
])  # fmt: skip
def test_fits_that_differ_are_not_comparable(changes, is_sensitive, words):
    faults = unequal_fits(_pair(EQUAL, **changes), is_sensitive)
    assert len(faults) == len(words)
    assert all(fault.startswith(word) for fault, word in zip(faults, words, strict=True))


def test_numbers_of_examples_are_compared_by_name():
    assert unequal_numbers(_pair({"test": 0.9}, test=0.91), 0.02) == []
    assert unequal_numbers(_pair({"test": 0.9}, test=0.8), 0.02) == ["test 0.9, scikit-learn 0.8"]
    assert unequal_numbers({"fastnn": {"a": 1}, "scikit-learn": {"b": 1}}, 1)[0].startswith("results ['a']")


def _found(name="digits", **changes):
    times = {
        "fit": {"fastnn": [(1.0, 2.0), (2.0, 2.0), (1.0, 1.0)], "scikit-learn": [(3.0, 4.0), (6.0, 8.0), (2.0, 2.0)]},
        measure.EMPTY_CACHE: {"fastnn": [(9.0, 5.0)], "scikit-learn": [(1.0, 1.0)]},
    }
    kernels = {library: {"BLAS in numpy": "openblas SkylakeX"} for library in worker.LIBRARIES}
    return Found(name, "8x8 digits", times=times, memory={"fastnn": [80.0]}, kernels=kernels, **changes)


def test_ratios_are_paired_by_rounds_and_faults_have_none():
    found = _found()
    assert found.ratio("fit").median == 3.0
    assert found.ratio("fit", measure.WALL).median == 2.0
    assert found.ratio("predict") is None
    assert found.seconds_beyond(measure.EMPTY_CACHE) == 8.0
    whole = report.Report("command", 3, "float32", "a CPU", 0.5, {}, [found, _found("iris", faults=["score 0"])])
    assert list(whole.ratios("fit")) == ["digits"]
    assert whole.faults == ["iris: score 0"]


def test_a_report_is_written_and_read_and_updates_the_page(tmp_path):
    whole = report.Report("command", 3, "float32", "a CPU", 0.5, {"OPENBLAS_CORETYPE": "Haswell"}, [_found()])
    report.write(whole, tmp_path)
    text_of_report = (tmp_path / "results.md").read_text()
    assert "`OPENBLAS_CORETYPE=Haswell`" in text_of_report
    assert "- fastnn: BLAS in numpy, openblas SkylakeX" in text_of_report
    assert "- later fits: median 3.00 (wall 2.00), lowest 3.00 (wall 2.00), below 1.5: 0 of 1" in text_of_report
    assert "8.0 s at most beyond scikit-learn's, above 1 s: 1 of 1" in text_of_report
    assert report.load(tmp_path / "results.json").ratios("fit") == whole.ratios("fit")
    page = shutil.copy(report.PAGE, tmp_path / "page.md")
    for each, cell in ((None, "| 8x8 digits (13) | 4.0 |"), (whole, "| 8x8 digits (13) | 4.0 → 3.0 |")):
        report.update_page(each, page, tmp_path / "page.svg")
        assert cell in page.read_text()
        assert page.read_text().count(report.BEGIN) == 1
    (tmp_path / "other.md").write_text("# Another page\n")
    with pytest.raises(ValueError, match="expected the lines"):
        report.update_page(whole, tmp_path / "other.md", tmp_path / "page.svg")


def test_the_chart_has_a_dot_for_each_ratio_within_its_frame():
    chart = svg("A < B", {"fits": {"before": [0.02, 0.5, 1.0], "now": [0.5, 19.0]}, "none": {"before": [], "now": []}})
    root = ElementTree.fromstring(chart)
    circles = [each for each in root.iter() if each.tag.endswith("circle")]
    assert len(circles) == 3 + 5  # of the legend, and of the ratios
    width = float(root.get("viewBox").split()[2])
    assert all(0 < float(each.get("cx")) < width for each in circles)
    assert [each.get("class") for each in circles[-2:]] == ["slow", "fast"]
    with pytest.raises(ValueError, match="no ratios"):
        svg("empty", {"fits": {"now": []}})


@pytest.mark.slow
def test_a_quick_workload_runs_end_to_end(tmp_path, capsys):
    assert workloads.main(["xor", "--quick", "--out", str(tmp_path)]) == 0
    (found,) = report.load(tmp_path / "results.json").found
    assert found.results["fastnn"]["iterations"] == found.results["scikit-learn"]["iterations"] == 3
    measures = {"import", "first fit", "fit", "predict", "predict one row", "partial_fit, call 10"}
    assert set(found.times) == measures
    assert all(len(times) == 1 for by_library in found.times.values() for times in by_library.values())
    assert "later fits: median" in capsys.readouterr().out
    assert (tmp_path / "workloads.svg").exists()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_quick_example_runs_with_both_libraries(monkeypatch):
    monkeypatch.setattr(measure, "ask", lambda request: {**worker.measure_example(request), "kernels": {}})
    found = measure.measure_example("controller", EXAMPLES["controller"].tolerance, measure.Settings(1, quick=True))
    assert found.faults == []
    assert found.results["fastnn"].keys() == {"value"}
    assert found.ratio("first run") is not None


def test_unknown_names_and_useless_options_are_refused(capsys):
    for arguments, words in (
        (["no-such"], "workload 'no-such': expected a pattern of digits, "),
        (["no-such", "--examples"], "example 'no-such': expected a pattern of training-curves, "),
        (["--examples", "--empty-cache"], "are for workloads"),
    ):
        with pytest.raises(SystemExit):
            workloads.main(arguments)
        assert words in capsys.readouterr().err
