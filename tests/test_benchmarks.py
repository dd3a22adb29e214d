"""Tests of the benchmarks: statistics, the table of cases, the comparison of results, the report."""

import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

import fastnn
from benchmarks import checkpoints, digests
from benchmarks.compare import __main__ as compare
from benchmarks.compare import problems, training
from benchmarks.compare.architecture import parse, shapes
from benchmarks.compare.cases import CASES, FASTEST, select
from benchmarks.compare.checkout import WrongCheckout, probe
from benchmarks.compare.contenders import CONTENDERS, LIBRARIES
from benchmarks.compare.contenders.fastnn_numba import build_network
from benchmarks.compare.contenders.multiply_adds import per_sample
from benchmarks.compare.environment import THREADS, environment, removed
from benchmarks.compare.problems import Problem
from benchmarks.compare.ratios import disagreement, paired_ratio, relative_norm
from benchmarks.compare.report import Report, quantity, write
from benchmarks.compare.results import CaseResult, ContenderResult
from benchmarks.compare.rounds import Run, check_accuracies, compare_changes, compare_results, time_rounds
from benchmarks.compare.worker import Missing, TooSlow, Worker, load

ROOT = Path(__file__).parent.parent


# --- Statistics ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("one", "other", "expected"), [
    # Ratios 2, 4, 3: median 3. The ratio of medians would be 8 / 2 = 4. Of the 27 resamples of three rounds, 7 have
    # median 2 and 7 have median 4: more than 2.5 % at either end.
    ([2.0, 8.0, 30.0], [1.0, 2.0, 10.0], (3, 2, 4)),
    # One of nine rounds is disturbed. It is a resample's median if at least five of nine draws are that round: 0.2 %.
    ([1.0] * 8 + [50.0], [1.0] * 9, (1, 1, 1)),
])  # fmt: skip
def test_the_ratio_is_the_median_of_the_ratios_of_each_round_and_its_interval_excludes_outliers(one, other, expected):
    ratio = paired_ratio(one, other)
    assert (ratio.median, ratio.low, ratio.high) == expected


def test_the_interval_of_equal_contenders_contains_one():
    rng = np.random.default_rng(0)
    one, other = rng.normal(1, 0.05, (2, 15))
    assert paired_ratio(one, other).contains_one
    assert not paired_ratio(one, 2 * other).contains_one


@pytest.mark.parametrize(("one", "other"), [([], []), ([1.0], [1.0, 2.0])])
def test_unpaired_rounds_are_rejected(one, other):
    with pytest.raises(ValueError, match="equal numbers"):
        paired_ratio(one, other)


# --- The table of cases ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_each_case_has_goals_with_harder_aims_and_peers_for_a_goal_against_the_fastest(case):
    against = {goal.against for goal in case.goals}
    assert 0 < len(against) == len(case.goals)
    for goal in case.goals:
        assert goal.must > 0
        if goal.aim is not None:
            assert goal.aim < goal.must if goal.at_most else goal.aim > goal.must
    assert FASTEST not in against or len({CONTENDERS[name].library for name in case.contenders} - {"fastnn"}) > 1


def test_cases_name_existing_contenders():
    for case in CASES.values():
        assert set(case.contenders) <= set(CONTENDERS)
        assert CONTENDERS[case.contenders[0]].library == "fastnn"
        assert {goal.against for goal in case.goals if goal.against in CONTENDERS} <= set(case.contenders)
    for contender in CONTENDERS.values():
        assert (ROOT / "benchmarks" / "compare" / "contenders" / f"{contender.module}.py").is_file()


def test_every_epoch_case_against_peers_has_a_control():
    for case in select(["epoch-*"]):
        assert "fastnn-again" in case.contenders


def test_every_contender_of_the_busy_case_also_runs_undisturbed():
    names = CASES["one-core-busy"].contenders
    disturbed = {name for name in names if CONTENDERS[name].disturbed}
    assert disturbed == {f"{name}-one-core-busy" for name in set(names) - disturbed}
    assert {CONTENDERS[name].library for name in disturbed} == {"fastnn", "numpy", "scikit-learn", "torch", "jax"}


def test_another_checkout_adds_a_contender_for_each_fastnn_contender():
    case = CASES["threads-256"].with_other_checkout()
    assert case.contenders == ("fastnn", "fastnn-one-thread", "fastnn-other", "fastnn-other-one-thread")
    assert CONTENDERS["fastnn-other-one-thread"] == replace(CONTENDERS["fastnn-one-thread"], other_checkout=True)


def test_select_accepts_patterns_and_names_unknown_cases():
    assert [case.name for case in select(["predict-lenet-*", "memory"])] == [
        "predict-lenet-10000",
        "predict-lenet-one",
        "memory",
    ]
    with pytest.raises(ValueError, match="no case matches 'epochs'"):
        select(["epochs"])


# --- The environment -------------------------------------------------------------------------------------------------
TUNED = {
    "OPENBLAS_CORETYPE": "Haswell", "OPENBLAS_L2_SIZE": "1024", "MKL_CBWR": "COMPATIBLE", "MKL_DYNAMIC": "TRUE",
    "MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "NVPL_BLAS_DEBUG_CPU_TYPE": "1", "BLIS_ARCH_TYPE": "generic",
    "ONEDNN_MAX_CPU_ISA": "SSE41", "DNNL_MAX_CPU_ISA": "SSE41", "KMP_BLOCKTIME": "infinite",
    "OMP_WAIT_POLICY": "passive", "OMP_PROC_BIND": "true", "NPY_DISABLE_CPU_FEATURES": "AVX2",
    "NUMBA_CPU_NAME": "generic", "NUMBA_DISABLE_JIT": "1", "NUMBA_OPT": "0",
    "TORCH_CPP_LOG_LEVEL": "INFO", "ATEN_CPU_CAPABILITY": "default", "JAX_DISABLE_JIT": "1",
}  # fmt: skip
OVERWRITTEN = {"XLA_FLAGS": "--xla_backend_optimization_level=0", **dict.fromkeys(THREADS, "7")}
KEPT = {"PATH": "/bin", "HOME": "/home", "NUMBA_CACHE_DIR": "/kernels", "PYTHONWARNINGS": "error", "OMPHALOS": "1"}


def test_processes_start_without_the_tuning_of_the_caller():
    found = environment(2, caller={**TUNED, **OVERWRITTEN, **KEPT})
    assert not set(found) & set(TUNED)
    assert {name: found[name] for name in KEPT} == KEPT
    assert {found[name] for name in THREADS} == {"2"}
    assert found["XLA_FLAGS"] == ""
    assert removed({**TUNED, **OVERWRITTEN, **KEPT}) == {**TUNED, **OVERWRITTEN}


def _openblas_architecture(variables):
    program = """
import numpy, threadpoolctl
print(*(pool["architecture"] for pool in threadpoolctl.threadpool_info() if pool["internal_api"] == "openblas"))
"""
    command = [sys.executable, "-c", program]
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the kernel names are those of x86")
def test_a_worker_runs_the_blas_kernel_of_the_machine(monkeypatch):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OPENBLAS")}
    own = _openblas_architecture(clean)
    slower = "Haswell" if own != "Haswell" else "Sandybridge"
    if _openblas_architecture({**clean, "OPENBLAS_CORETYPE": slower}) == own:
        pytest.skip(f"NumPy's BLAS, {own or 'not OpenBLAS'}, ignores OPENBLAS_CORETYPE")
    monkeypatch.setenv("OPENBLAS_CORETYPE", slower)
    worker = Worker("numpy", 1)
    try:
        (kernel,) = [text for name, text in worker.ask("kernels").items() if name.startswith("BLAS in numpy")]
    finally:
        worker.close()
    assert f" {own}, 1 thread" in kernel


# --- Rounds ----------------------------------------------------------------------------------------------------------
def _stub(seconds, rounds=99):
    """A worker that answers in `seconds` each time, and is too slow after `rounds` rounds."""
    answers = [{"seconds": seconds}] * rounds + [TooSlow("no answer within 1 s")]
    return Mock(spec=Worker, **{"ask.side_effect": answers})


def _rounds(tmp_path, case, workers, repeats):
    run = Run(threads=2, repeats=repeats, libraries=set(LIBRARIES), folder=tmp_path, pause=0)
    run._workers.update(workers)
    result = CaseResult(case, {name: ContenderResult(name, first_call=1.0) for name in workers})
    time_rounds(run, case, result)
    return result


def test_no_round_starts_after_the_time_limit(tmp_path):
    case = CASES["epoch-sgd"]
    workers = {"fastnn": _stub(1.0), "jax": _stub(2.0)}
    for most_seconds, expected in ((0, 3), (1e9, 5)):
        result = _rounds(tmp_path, replace(case, most_seconds=most_seconds), workers, repeats=5)
        assert [len(result.contenders[name].rounds) for name in workers] == [expected, expected]
        assert len(result.remarks) == (expected == 3)


def test_a_contender_that_is_too_slow_is_not_a_fault(tmp_path):
    workers = {"fastnn": _stub(1.0), "torch": _stub(1.0, rounds=1)}
    result = _rounds(tmp_path, CASES["epoch-sgd"], workers, repeats=4)
    assert len(result.contenders["fastnn"].rounds) == 4
    assert not result.contenders["torch"].rounds
    assert "too slow to time" in result.contenders["torch"].note
    assert not result.faults


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs POSIX signals")
def test_a_worker_that_does_not_answer_is_killed():
    worker = Worker("numpy", 1)
    try:
        os.kill(worker._process.pid, signal.SIGSTOP)
        with pytest.raises(TooSlow, match=r"within 0\.1 s"):
            worker.ask("kernels", within=0.1)
        assert worker._process.poll() is not None
    finally:
        worker.close()


# --- Another checkout ------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def other_checkout(tmp_path_factory):
    """A copy of this checkout."""
    folder = tmp_path_factory.mktemp("other")
    for package in ("fastnn", "kernels"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def test_a_checkout_that_would_run_other_code_is_rejected(other_checkout, tmp_path):
    probe(other_checkout, threads=1)
    with pytest.raises(WrongCheckout, match=tmp_path.name):
        probe(tmp_path, threads=1)
    shutil.copytree(other_checkout / "fastnn", tmp_path / "fastnn")
    with pytest.raises(WrongCheckout, match=tmp_path.name):
        probe(tmp_path, threads=1)  # it has no kernels


def _compare(folder, *arguments, **variables):
    """Run the command with fast settings; return what it prints and its report.json."""
    command = [sys.executable, "-m", "benchmarks.compare", "--quick", "--repeats", "2", "--out", str(folder)]
    command, variables = [*command, *arguments], {**os.environ, **variables}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=variables)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, json.loads((folder / "report.json").read_text())


def test_another_checkout_is_timed_in_the_same_rounds(other_checkout, tmp_path):
    arguments = ["--contenders", "fastnn", "--cases", "product", "--against", str(other_checkout)]
    out, report = _compare(tmp_path, *arguments)
    assert f"other checkout, {other_checkout}" in out
    assert "## Two checkouts" in (tmp_path / "report.md").read_text()
    (case,) = report["cases"]
    (found,) = case["checkouts"]
    assert (found["contender"], found["same_bits"]) == ("fastnn-one-thread", True)
    assert len(case["contenders"]["fastnn-other-one-thread"]["rounds"]) == 2


@pytest.mark.parametrize(("seconds", "verdict"), [
    ([1.0, 1.02, 1.03], "not slower"),
    ([1.0, 1.05, 1.06], "slower, but not significantly"),
    ([1.05, 1.06, 1.07], "SLOWER"),
])  # fmt: skip
def test_the_verdict_names_a_slower_checkout(seconds, verdict):
    ours = ContenderResult("fastnn", seconds, digest="a")
    other = ContenderResult("fastnn-other", [1.0, 1.0, 1.0], digest="b")
    (found,) = CaseResult(CASES["epoch-sgd"], {"fastnn": ours, "fastnn-other": other}).checkout_comparisons()
    assert found.verdict == verdict
    assert found.ratio.median == pytest.approx(1 / seconds[1])
    assert found.same_bits is False


# --- One core busy ---------------------------------------------------------------------------------------------------
def test_disturbed_contenders_are_compared_with_themselves_and_with_fastnn():
    seconds = {"fastnn": [1, 1, 1], "fastnn-one-core-busy": [2, 2, 2], "numpy": [3, 3, 3],
               "numpy-one-core-busy": [30, 60, 40], "jax": [5, 5, 5]}  # fmt: skip
    result = CaseResult(CASES["one-core-busy"], {name: ContenderResult(name, each) for name, each in seconds.items()})
    found = {each.contender: (each.slowdown.median, each.to_fastnn.median) for each in result.disturbances()}
    assert found == {"fastnn": (2, 1), "numpy": (40 / 3, 20)}
    (goal,) = result.goals()
    assert goal.measured.median == 2
    report = Report("", 2, 3, False, cases=[result])
    assert "13.33" in report.as_text()
    assert "| numpy | 3 s | 40 s | 13.33 | 10.00 to 20.00 | 20.00 | 15.00 to 30.00 |" in report.as_markdown()
    ((group,), bars) = report.chart_groups(), report.chart_groups()[0].bars
    assert group.title == result.case.title
    assert [(bar.library, bar.median) for bar in bars] == [("numpy", 20)]


# --- Equal results ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("losses", "fault"), [
    ({"numpy": np.array(0.505), "jax": np.array(0.52)}, "jax: loss 0.52, fastnn 0.5: more than 2% apart"),
    ({"numpy": np.array(np.nan)}, "numpy: "),
    ({"numpy": np.zeros(3)}, "numpy: "),
])  # fmt: skip
def test_a_wrong_misshapen_or_nan_loss_is_a_fault(losses, fault):
    losses = {"fastnn": np.array(0.5), **losses}
    result = CaseResult(CASES["epoch-sgd"], {name: ContenderResult(name, [1.0], 1.0) for name in losses})
    compare_results(result, losses)
    (found,) = result.faults
    assert found.startswith(fault)
    assert [name for name in losses if result.contenders[name].note] == [fault.partition(":")[0]]
    assert not Report("", 2, 1, False, cases=[result]).comparable


def test_arrays_are_compared_entry_by_entry():
    expected = np.array([[0.0, 2.0]])
    assert disagreement(expected + 1e-4, expected, 1e-4) is None
    assert "differs" in disagreement(expected + 3e-4, expected, 1e-4)
    assert "differs" in disagreement(expected.T, expected, 1e-4)


# --- Networks of images ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("name", "parameters", "megaflops"), [
    # Multiply-adds by hand, of forward, weight gradient and input gradient except of the first layer, times 2.
    ("lenet-sgd", 44_426, 2 * (2 * 25 * 6 * 24**2 + 3 * (150 * 16 * 8**2 + 256 * 120 + 120 * 84 + 840)) / 1e6),
    ("cnn-fast", 215_194, 2 * (2 * 25 * 24 * 24**2 + 3 * (216 * 32 * 10**2 + 800 * 256 + 2560)) / 1e6),
    ("cnn-wide", 1_199_882, 2 * (2 * 9 * 32 * 26**2 + 3 * (288 * 64 * 24**2 + 9216 * 128 + 1280)) / 1e6),
])  # fmt: skip
def test_an_architecture_is_the_network_of_its_notation(name, parameters, megaflops):
    problem = Problem(CASES[name], Path())
    network = build_network(problem)
    assert network.n_parameters == parameters
    assert list(network.shapes) == shapes(problem.layers)
    assert 2e-6 * per_sample(problem) == pytest.approx(megaflops)


@pytest.mark.parametrize(("text", "error"), [
    ("6c5-10", "'6c5' in '6c5-10' is no layer"),
    ("6C5--10", "'' in '6C5--10' is no layer"),
    ("120-P-10", "'P' in '120-P-10' follows a dense layer"),
])  # fmt: skip
def test_what_is_no_architecture_is_named(text, error):
    with pytest.raises(ValueError, match=re.escape(error)):
        parse(text)


@pytest.fixture(scope="module")
def folder_of_images(tmp_path_factory):
    return tmp_path_factory.mktemp("images")


def _tiny(name, folder):
    """The problem of a case with few samples, in batches of 8, of which the last one is shorter."""
    case = replace(CASES[name], rows=44, batch_size=8, check_steps=6)
    problems.write(case, folder)
    return Problem(case, folder)


def _module(contender):
    try:
        return load(contender)
    except Missing as error:
        pytest.skip(str(error))


# Compiling PyTorch's functions takes a C++ compiler and a minute. They have the model and the weights of "torch".
IMAGE_PEERS = (
    "fastnn-numpy", "torch", "torch-channels-last", "jax", "jax-patches", "jax-batch-last", "tensorflow",
)  # fmt: skip


@pytest.mark.parametrize(("name", "contender"), [
    *(("lenet-adam", contender) for contender in IMAGE_PEERS),
    *((name, contender) for name in ("lenet-sgd", "frozen-head") for contender in ("torch", "tensorflow")),
    *(("frozen-head", contender) for contender in ("torch-on-features", "jax-patches")),
])  # fmt: skip
def test_peers_change_all_weights_of_an_image_network_as_fastnn_does(name, contender, folder_of_images):
    problem, band = _tiny(name, folder_of_images), CASES[name].changes_band
    module, fastnn_module = _module(contender), load("fastnn")
    run, own = module.epoch(problem, 1), fastnn_module.epoch(problem, 1)
    found, expected = training.changes(run, problem), training.changes(own, problem)
    assert len(found) == 2 * len(problem.weights)
    for array in expected:
        assert relative_norm(found[array], expected[array]) <= band
    for number in range(len(problem.weights)):
        is_trained = number >= problem.case.frozen
        assert found[f"weight_{number}"].any() == found[f"bias_{number}"].any() == is_trained
    order, rate = problem.order(1), problem.case.learning_rate
    assert run(order, rate) == pytest.approx(own(order, rate), rel=1e-3)


@pytest.mark.parametrize("contender", ["onnxruntime", *IMAGE_PEERS])
def test_peers_predict_the_probabilities_of_an_image_network(contender, folder_of_images):
    problem = _tiny("predict-lenet-10000", folder_of_images)
    expected = load("fastnn").predict(problem, 1)()
    assert expected.shape == (44, 10)
    assert disagreement(_module(contender).predict(problem, 1)(), expected, problem.case.band) is None


def test_a_training_has_the_steps_of_its_recipe_in_all_contenders(folder_of_images):
    problem = _tiny("start-to-99", folder_of_images)
    peer, fastnn_module = _module("torch"), load("fastnn")
    trained = [training.prepare(module, problem, 1)() for module in (fastnn_module, peer)]
    for own, found in zip(*map(sum, trained, ([], [])), strict=True):
        assert relative_norm(found, own) < 1e-3
    accuracies = {training.accuracy(module, problem, trained[0], 1) for module in (fastnn_module, peer)}
    assert len(accuracies) == 1
    other = replace(problem, seed=1)
    assert not (other.weights[0] == problem.weights[0]).any()
    assert (other.order(0) != problem.order(0)).any()


def test_start_to_99_has_the_settings_of_the_recipe():
    """But for the number of epochs."""
    case, config = CASES["start-to-99"], fastnn.get_recipe("fast").config
    n_epochs = len(case.factors)
    assert (config.batch_size, config.update_rule) == (case.batch_size, fastnn.Adam(*case.betas))
    for epoch, factors in enumerate(case.factors):
        assert config.rates(epoch, n_epochs) == pytest.approx([case.learning_rate * factor for factor in factors])
    assert config.label_smoothing == case.smoothing
    others = {"batch_size", "epochs", "optimizer", "learning_rate", "schedule", "label_smoothing"}
    assert set(config.changed()) <= others


def test_other_changes_of_weights_are_a_fault():
    result = CaseResult(CASES["lenet-sgd"], {name: ContenderResult(name) for name in ("fastnn", "torch", "jax")})
    own = {"weight_0": np.array([0.0, 2.0]), "bias_0": np.zeros(1)}
    other = {"weight_0": np.array([0.0, 2.001]), "bias_0": np.zeros(1)}
    compare_changes(result, {"fastnn": own, "torch": own, "jax": other})
    (fault,) = result.faults
    assert fault == "jax: change of weight_0 after 5 steps differs from fastnn's by 0.0005 of its norm, allowed 0.0001"


def test_a_mean_accuracy_that_is_too_low_is_a_fault():
    accuracies = {"fastnn": [0.992, 0.988], "torch": [0.992, 0.987]}
    case = CASES["start-to-99"]
    result = CaseResult(case, {name: ContenderResult(name, accuracies=each) for name, each in accuracies.items()})
    check_accuracies(result)
    assert result.contenders["fastnn"].result == pytest.approx(0.99)
    assert result.faults == ["torch: mean accuracy 98.95%, expected 99%"]


def test_the_share_of_the_peak_is_paired_by_rounds_and_the_chart_has_the_fastest_form_of_a_library():
    seconds = {"fastnn": [2, 4, 2], "torch": [20, 20, 20], "torch-channels-last": [10, 12, 10],
               "jax": [30, 30, 30], "multiply-adds": [1, 3, 1]}  # fmt: skip
    result = CaseResult(CASES["lenet-sgd"], {name: ContenderResult(name, each) for name, each in seconds.items()})
    assert result.share_of_peak("fastnn").median == 0.5
    assert result.share_of_peak("multiply-adds") is None
    assert result.goals()[1].measured.median == 0.5
    report = Report("", 2, 3, False, cases=[result])
    assert "10% of the peak" in report.as_text()  # PyTorch with channels last
    ((group,)) = report.chart_groups()
    assert {bar.library: bar.median for bar in group.bars} == {"torch": 5, "jax": 15}


# --- The report ------------------------------------------------------------------------------------------------------
def _report(quick=False):
    seconds = {"fastnn": 1.0, "fastnn-again": 1.0, "jax": 5.0, "numpy": 4.0}
    timed = {name: ContenderResult(name, [best, best, 2 * best], 3.0, 0.25) for name, best in seconds.items()}
    sgd = CaseResult(CASES["epoch-sgd"], timed | {"torch": ContenderResult("torch", note="failed: a | b")})
    sgd.faults = ["torch failed: a | b"]
    memory = CaseResult(CASES["memory"], {"fastnn": ContenderResult("fastnn", [1.5, 1.2, 1.8])})
    seconds = {"fastnn": 1.0, "numpy": 3.0, "jax": 2.0}
    wide = CaseResult(CASES["epoch-wide"], {name: ContenderResult(name, [each]) for name, each in seconds.items()})
    missing = {"onnxruntime": "No module named 'onnxruntime'"}
    return Report("python -m benchmarks.compare", 2, 3, quick, {"cpu": "some CPU"}, {"numpy": "2"}, {}, missing,
                  removed={"OPENBLAS_CORETYPE": "Haswell"}, kernels=KERNELS, cases=[sgd, memory, wide])  # fmt: skip


KERNELS = {
    "numpy": {"BLAS in numpy": "openblas 0.3 SkylakeX, 2 threads"},
    "jax": {"BLAS in numpy": "openblas 0.3 SkylakeX, 2 threads", "XLA": "this CPU"},
}


def test_goals_are_evaluated():
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


def test_write_creates_json_markdown_and_chart(tmp_path):
    report = _report()
    write(report, tmp_path)
    value = json.loads((tmp_path / "report.json").read_text())
    assert value["comparable"] is False
    assert value["cases"][0]["contenders"]["jax"]["rounds"] == [5, 5, 10]
    assert value["cases"][0]["contenders"]["torch"]["ratio"] is None
    table = [line for line in (tmp_path / "report.md").read_text().splitlines() if line.startswith("|")]
    blocks = {"| case": 7, "| contender": 9, "| library": 3}
    columns = 0
    for line in table:
        columns = next((number for start, number in blocks.items() if line.startswith(start)), columns)
        assert line.replace("\\|", "").count("|") == columns + 1
    assert (tmp_path / "ratios.png").read_bytes().startswith(b"\x89PNG")


def test_the_text_report_states_goals_faults_and_skipped_libraries():
    text = _report().as_text()
    assert "against jax: 5.00 (5.00 to 5.00); at least 4, aim 6: met" in text
    assert "NOT COMPARABLE: torch failed" in text
    assert "interval contains 1" in text
    assert "skipped: onnxruntime (No module named 'onnxruntime')" in text
    assert "not evaluated in a quick run" in _report(quick=True).as_text()


def test_a_report_names_removed_variables_and_kernels():
    report = _report()
    value = json.loads(report.as_json())
    assert (value["removed"], value["kernels"]) == ({"OPENBLAS_CORETYPE": "Haswell"}, KERNELS)
    for text in (report.as_text(), report.as_markdown()):
        assert "removed from every contender's environment: `OPENBLAS_CORETYPE=Haswell`" in text
    assert "| BLAS in numpy | openblas 0.3 SkylakeX, 2 threads | numpy, jax |" in report.as_markdown()


@pytest.mark.parametrize(
    ("value", "text"), [(1234.5, "1234 s"), (0.0271, "27.1 ms"), (4.5e-6, "4.5 µs"), (float("nan"), "")]
)
def test_seconds_are_shown_in_a_suitable_unit(value, text):
    assert quantity(value, "s") == text


# --- The command -----------------------------------------------------------------------------------------------------
def test_a_quick_run_works_end_to_end(tmp_path):
    cases = ["epoch-sgd", "product", "predict-one", "one-core-busy", "start"]
    variables = {"PYTHONWARNINGS": "error", "MKL_CBWR": "COMPATIBLE", "OMP_NUM_THREADS": "1"}
    _, value = _compare(tmp_path, "--contenders", "fastnn", "numpy", "--cases", *cases, **variables)
    assert value["comparable"]
    assert [case["case"]["name"] for case in value["cases"]] == cases
    for case in value["cases"]:
        for contender in case["contenders"].values():
            assert len(contender["rounds"]) == 2
            assert min(contender["rounds"]) > 0
    results = [contender["result"] for contender in value["cases"][0]["contenders"].values()]
    assert {result is None for result in results} == {True, False}  # a limit has no result
    assert [each["contender"] for each in value["cases"][3]["disturbances"]] == ["fastnn", "numpy"]
    assert value["removed"].items() >= {"MKL_CBWR": "COMPATIBLE", "OMP_NUM_THREADS": "1"}.items()
    assert value["kernels"].keys() == {name for case in value["cases"] for name in case["contenders"]}
    assert "Numba" in value["kernels"]["fastnn-bundled"]  # this contender is a whole program
    assert value["kernels"]["numpy"]["BLAS in numpy"].endswith("2 threads")


def test_a_quick_run_of_image_networks_works_end_to_end(tmp_path):
    cases = ["lenet-sgd", "predict-lenet-one", "start-to-99", "frozen-head"]
    _, value = _compare(tmp_path, "--contenders", "fastnn", "numpy", "--cases", *cases)
    assert value["comparable"]
    assert [case["case"]["name"] for case in value["cases"]] == cases
    names = [set(case["contenders"]) for case in value["cases"]]
    assert names[0] == {"fastnn", "fastnn-again", "fastnn-numpy", "multiply-adds"}
    assert names[2] == {"fastnn", "fastnn-again"}
    assert all(len(found["rounds"]) == 2 for case in value["cases"] for found in case["contenders"].values())
    for found in value["cases"][2]["contenders"].values():
        assert len(found["accuracies"]) == 2
        assert min(found["accuracies"]) > 0.2  # ten classes


def test_an_unknown_case_is_named(capsys):
    with pytest.raises(SystemExit):
        compare.main(["--cases", "epochs"])
    assert "no case matches 'epochs'" in capsys.readouterr().err
    assert set(LIBRARIES) >= {"fastnn", "numpy", "scikit-learn", "torch", "torch-compiled", "jax", "onnxruntime"}


# --- Digests ---------------------------------------------------------------------------------------------------------
def test_a_digest_depends_on_every_bit():
    array = np.arange(6.0)
    base = digests.digest([array])
    changed = np.where(array == 3, np.nextafter(3, 4), array)
    for other in (array.astype(np.float32), array.reshape(2, 3), -array, changed, np.arange(5.0)):
        assert digests.digest([other]) != base
    assert digests.digest([np.arange(6.0)]) == base
    assert digests.digest([array, 1]) != digests.digest([array, 2])


def test_digests_depend_only_on_the_seed():
    settings = {"data": "digits", "hidden": (8,), "epochs": 2}
    one, same, other = (digests.network_run("numpy", **settings, seed=seed) for seed in (1, 1, 2))
    for part in ("weights", "history", "predictions"):
        assert digests.digest(one[part]) == digests.digest(same[part]) != digests.digest(other[part])


def test_digests_run_as_a_plain_file():
    name, variables = "numpy-sample-weights-yes-or-no", {**os.environ, "PYTHONPATH": str(ROOT)}
    expected = [name, digests.digest(value for part in digests.RUNS[name]().values() for value in part)]
    for program in (["-m", "benchmarks.digests"], [str(ROOT / "benchmarks" / "digests.py")]):
        command = [sys.executable, *program, "--runs", name]
        assert subprocess.check_output(command, cwd=ROOT, env=variables, text=True).split() == expected


def test_an_unknown_run_is_named():
    assert digests.select(["numba-csr*"]) == ["numba-csr", "numba-csr-numbers"]
    with pytest.raises(ValueError, match="no run matches 'sgd'"):
        digests.select(["sgd"])


def test_the_cost_of_checkpoints_is_a_line_of_a_table(monkeypatch, tmp_path):
    for name in ("_take", "_write"):
        monkeypatch.setattr(checkpoints.Saver, name, getattr(checkpoints.Saver, name))  # restored after the test
    monkeypatch.setattr(checkpoints, "CASES", {"tiny": (fastnn.load_digits, (4,), {"epochs": 2, "backend": "numpy"})})
    line = checkpoints.measure("tiny", 2, checkpoints.Spent(), tmp_path / "run")
    name, seconds, ratio, cost, size = (cell.strip() for cell in line.strip("|").split("|"))
    assert name == "tiny"
    assert all(re.fullmatch(r"\d+\.\d+( \(\d+\.\d+ to \d+\.\d+\))?", cell) for cell in (seconds, ratio, cost, size))
