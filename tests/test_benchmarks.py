"""The benchmarks' own machinery: statistics, the table of cases, the check for equal results, the report."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import compare
from benchmarks.cases import CASES, FASTEST, select
from benchmarks.contenders import LIBRARIES, SEATS
from benchmarks.ratios import disagreement, paired_ratio
from benchmarks.report import Report, quantity, write
from benchmarks.results import CaseResult, SeatResult
from benchmarks.rounds import compare_results

ROOT = Path(__file__).parent.parent


# --- Statistics ------------------------------------------------------------------------------------------------------
def test_the_ratio_is_the_median_of_ratios_within_rounds():
    # Ratios 2, 4, 3: median 3. The ratio of medians would be 8 / 2 = 4.
    ratio = paired_ratio([2.0, 8.0, 30.0], [1.0, 2.0, 10.0])
    assert ratio.median == 3
    # Of 27 resamples of three rounds, 7 have median 2 and 7 have median 4: more than 2.5 % at either end.
    assert (ratio.low, ratio.high) == (2, 4)


def test_the_interval_leaves_out_what_is_rare():
    # Of nine rounds one is disturbed. It is a resample's median if five of its nine draws are that round: 0.2 %.
    ratio = paired_ratio([1.0] * 8 + [50.0], [1.0] * 9)
    assert (ratio.median, ratio.low, ratio.high) == (1, 1, 1)


def test_equal_contenders_have_one_in_their_interval():
    rng = np.random.default_rng(0)
    one, other = rng.normal(1, 0.05, (2, 15))
    assert paired_ratio(one, other).contains_one
    assert not paired_ratio(one, 2 * other).contains_one


@pytest.mark.parametrize(("one", "other"), [([], []), ([1.0], [1.0, 2.0])])
def test_rounds_come_in_pairs(one, other):
    with pytest.raises(ValueError, match="as many of each"):
        paired_ratio(one, other)


# --- The table of cases ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_case_has_goals_and_aims_that_are_harder_than_what_must_be(case):
    assert case.goals
    assert len({goal.against for goal in case.goals}) == len(case.goals)
    for goal in case.goals:
        assert goal.must > 0
        if goal.aim is not None:
            assert goal.aim < goal.must if goal.at_most else goal.aim > goal.must


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_goal_against_the_fastest_peer_has_peers(case):
    if any(goal.against == FASTEST for goal in case.goals):
        assert len({SEATS[seat].library for seat in case.seats} - {"fastnn"}) > 1


def test_cases_name_seats_that_exist():
    for case in CASES.values():
        assert set(case.seats) <= set(SEATS)
        assert SEATS[case.seats[0]].library == "fastnn"
        assert {goal.against for goal in case.goals if goal.against in SEATS} <= set(case.seats)
    for seat in SEATS.values():
        assert (ROOT / "benchmarks" / "contenders" / f"{seat.module}.py").is_file()


def test_every_epoch_against_peers_has_a_control():
    for case in select(["epoch-*"]):
        assert "fastnn-again" in case.seats


def test_select():
    assert [case.name for case in select(["predict-*", "memory"])] == ["predict-10000", "predict-one", "memory"]
    with pytest.raises(ValueError, match="no case is called 'epochs'"):
        select(["epochs"])


# --- Equal results ---------------------------------------------------------------------------------------------------
def _result(*seats):
    return CaseResult(CASES["epoch-sgd"], {seat: SeatResult(seat, [1.0], 1.0) for seat in seats})


def test_a_wrong_loss_is_a_fault():
    result = _result("fastnn", "numpy", "jax")
    compare_results(result, {"fastnn": np.array(0.500), "numpy": np.array(0.505), "jax": np.array(0.52)})
    assert result.faults == ["jax: loss 0.52, fastnn 0.5: more than 2% off"]
    assert result.seats["jax"].note
    assert not result.seats["numpy"].note
    assert not Report("", 2, 1, False, cases=[result]).comparable


def test_a_contender_that_did_nothing_is_a_fault():
    for wrong in (np.array(np.nan), np.zeros(3)):
        result = _result("fastnn", "numpy")
        compare_results(result, {"fastnn": np.array(0.5), "numpy": wrong})
        assert len(result.faults) == 1


def test_arrays_are_compared_entry_by_entry():
    expected = np.array([[0.0, 2.0]])
    assert disagreement(expected + 1e-4, expected, 1e-4) is None
    assert "differs" in disagreement(expected + 3e-4, expected, 1e-4)
    assert "differs" in disagreement(expected.T, expected, 1e-4)


# --- The report ------------------------------------------------------------------------------------------------------
def _report(quick=False):
    sgd = CaseResult(CASES["epoch-sgd"])
    sgd.seats = {
        "fastnn": SeatResult("fastnn", [1.0, 1.0, 2.0], 3.0, 0.25),
        "fastnn-again": SeatResult("fastnn-again", [1.0, 1.0, 2.0], 3.0, 0.25),
        "jax": SeatResult("jax", [5.0, 5.0, 10.0], 4.0, 0.25),
        "numpy": SeatResult("numpy", [4.0, 4.0, 8.0], 0.1, 0.25),
        "torch": SeatResult("torch", note="failed: a | b"),
    }
    sgd.faults = ["torch failed: a | b"]
    memory = CaseResult(CASES["memory"], {"fastnn": SeatResult("fastnn", [1.5, 1.2, 1.8])})
    wide = CaseResult(CASES["epoch-wide"])
    wide.seats = {
        "fastnn": SeatResult("fastnn", [1.0]), "numpy": SeatResult("numpy", [3.0]), "jax": SeatResult("jax", [2.0]),
    }  # fmt: skip
    missing = {"onnxruntime": "No module named 'onnxruntime'"}
    return Report("python -m benchmarks.compare", 2, 3, quick, {"cpu": "some CPU"}, {"numpy": "2"}, {}, missing,
                  cases=[sgd, memory, wide])  # fmt: skip


def test_goals_are_judged():
    sgd, memory, wide = _report().cases
    found = {goal.goal.against: (goal.met, goal.aim_met) for goal in sgd.goals()}
    assert found["jax"] == (True, False)
    assert found["numpy"] == (False, False)
    assert found["torch"] == found["scikit-learn"] == (None, None)
    (goal,) = memory.goals()
    assert (goal.measured.median, goal.measured.low, goal.measured.high) == (1.5, 1.2, 1.8)
    assert (goal.met, goal.aim_met) == (True, False)
    (goal,) = wide.goals()
    assert goal.against == "the fastest peer, jax"
    assert goal.measured.median == 2


def test_the_files_of_a_report(tmp_path):
    report = _report()
    write(report, tmp_path)
    value = json.loads((tmp_path / "report.json").read_text())
    assert value["comparable"] is False
    assert value["cases"][0]["seats"]["jax"]["rounds"] == [5, 5, 10]
    assert value["cases"][0]["seats"]["torch"]["ratio"] is None
    table = [line for line in (tmp_path / "report.md").read_text().splitlines() if line.startswith("|")]
    blocks = {"| work": 7, "| contender": 9}
    columns = 0
    for line in table:
        columns = next((number for start, number in blocks.items() if line.startswith(start)), columns)
        assert line.replace("\\|", "").count("|") == columns + 1
    assert (tmp_path / "ratios.png").read_bytes().startswith(b"\x89PNG")


def test_the_text_of_a_report():
    text = _report().as_text()
    assert "against jax: 5.00 (5.00 to 5.00); at least 4, aim 6: met" in text
    assert "NOT COMPARABLE: torch failed" in text
    assert "1 within the interval" in text
    assert "skipped: onnxruntime (No module named 'onnxruntime')" in text
    assert "not judged in a quick run" in _report(quick=True).as_text()


@pytest.mark.parametrize(
    ("value", "text"), [(1234.5, "1234 s"), (0.0271, "27.1 ms"), (4.5e-6, "4.5 µs"), (float("nan"), "")]
)
def test_seconds_are_shown_in_a_fitting_unit(value, text):
    assert quantity(value, "s") == text


# --- The command -----------------------------------------------------------------------------------------------------
def test_a_quick_run_from_end_to_end(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.compare", "--quick", "--repeats", "2", "--contenders", "fastnn", "numpy",
         "--cases", "epoch-sgd", "product", "predict-one", "one-core-busy", "--out", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, env={**os.environ, "PYTHONWARNINGS": "error"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    value = json.loads((tmp_path / "report.json").read_text())
    assert value["comparable"]
    assert [case["case"]["name"] for case in value["cases"]] == ["epoch-sgd", "product", "predict-one", "one-core-busy"]
    for case in value["cases"]:
        for seat in case["seats"].values():
            assert len(seat["rounds"]) == 2
            assert min(seat["rounds"]) > 0
    assert {seat["result"] is None for seat in value["cases"][0]["seats"].values()} == {True, False}  # limits have none


def test_a_case_that_does_not_exist_is_named(capsys):
    with pytest.raises(SystemExit):
        compare.main(["--cases", "epochs"])
    assert "no case is called 'epochs'" in capsys.readouterr().err
    assert set(LIBRARIES) >= {"fastnn", "numpy", "scikit-learn", "torch", "torch-compiled", "jax", "onnxruntime"}
