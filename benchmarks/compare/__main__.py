"""Compare fastnn with NumPy, scikit-learn, PyTorch, JAX, TensorFlow and onnxruntime in one interleaved run.

    python -m benchmarks.compare [--cases NAME ...] [--contenders NAME ...] [--threads 2] [--repeats N] [--quick]
        [--against FOLDER] [--out FOLDER]

Every contender gets the same data, order, initial weights, batch size, steps, threads and float32 arithmetic, and runs
in its own process. Only scikit-learn shuffles by itself, so its order differs. First, all contenders do the same work
from the same weights, and their results are compared. For networks of images, all weights are also compared after a few
steps. If the results of a case differ, the case is not comparable and the exit code is 1. Then rounds are timed. In
each round, every contender runs once, in a new random order, while all others are blocked. Untimed epochs directly
precede the timed ones. The report names the libraries that are not installed; they are skipped. Case names may be
patterns, such as "epoch-*".

Variables that tune a library, such as OPENBLAS_CORETYPE, are removed from every contender's environment. The report
names these variables and the kernels that actually ran. With `--against`, fastnn from another checkout runs in the same
rounds.
"""

import argparse
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.compare import environment, programs, rounds
from benchmarks.compare.cases import CASES, WORKER_WORK, select
from benchmarks.compare.checkout import WrongCheckout, commit, probe
from benchmarks.compare.contenders import LIBRARIES, MACHINE
from benchmarks.compare.environment import ROOT
from benchmarks.compare.report import Report, write

REPEATS, QUICK_REPEATS = 11, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, or 1 if the contenders' results differ."""
    options = _options(arguments)
    repeats = options.repeats or (QUICK_REPEATS if options.quick else REPEATS)
    given = sys.argv[1:] if arguments is None else list(arguments)
    report = Report(
        command=f"python -m benchmarks.compare {shlex.join(given)}".strip(),
        threads=options.threads,
        repeats=repeats,
        quick=options.quick,
        environment=environment.settings(options.threads),
        removed=environment.removed(),
        checkouts={"this": f"{ROOT} ({commit(ROOT)})"},
    )
    if options.against is not None:
        report.checkouts["other"] = f"{options.against} ({commit(options.against)})"
    with tempfile.TemporaryDirectory(prefix="fastnn-compare-") as folder:
        run = rounds.Run(
            threads=options.threads,
            repeats=repeats,
            libraries={"fastnn", MACHINE, *options.contenders},
            folder=Path(folder),
            quick=options.quick,
            pause=0.02 if options.quick else options.pause,
            other_checkout=options.against,
            progress=_print_progress,
        )
        report.machine = _machine(options.threads, run.progress, options.quick)
        try:
            for case in select(options.cases):
                measured = case.quick() if options.quick else case
                if options.against is not None:
                    measured = measured.with_other_checkout()
                by_workers = case.work in WORKER_WORK
                report.cases.append((rounds if by_workers else programs).measure(run, measured))
        finally:
            run.close()
        report.versions, report.missing = {"python": sys.version.split()[0], **run.versions}, run.missing
        report.background_load, report.kernels = run.background_load, run.kernels
    print(report.as_text())
    if options.out is not None:
        write(report, options.out)
        print(f"wrote report.json, report.md and ratios.png to {options.out}")
    return 0 if report.comparable else 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", default=["*"], metavar="NAME",
                        help=f"cases or patterns (default: all): {', '.join(CASES)}")  # fmt: skip
    parser.add_argument("--contenders", nargs="+", default=LIBRARIES, choices=LIBRARIES, metavar="NAME",
                        help=f"libraries (default: all): {', '.join(LIBRARIES)}")  # fmt: skip
    parser.add_argument("--threads", type=int, default=2, help="threads per contender (default: 2)")
    parser.add_argument(
        "--repeats", type=int, help=f"number of rounds (default: {REPEATS}; with --quick {QUICK_REPEATS})"
    )
    parser.add_argument("--pause", type=float, default=0.3, help="seconds to wait before each timing (default: 0.3)")
    parser.add_argument(
        "--quick", action="store_true", help="use a few hundred rows, only to test the benchmark itself"
    )
    parser.add_argument("--against", type=Path, metavar="FOLDER", help="also time fastnn from this checkout")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="write report.json, report.md and ratios.png to this folder"
    )
    options = parser.parse_args(arguments)
    try:
        select(options.cases)
    except ValueError as error:
        parser.error(str(error))
    if options.against is not None:
        options.against = options.against.resolve()
        try:
            probe(options.against, options.threads)
        except (OSError, WrongCheckout) as error:
            parser.error(f"argument --against: {error}")
    return options


def _machine(threads: int, progress: Callable[[str], None], quick: bool) -> dict:
    from benchmarks.compare import limits

    if quick:
        return {"cpu": limits.cpu_model(), "cores": os.cpu_count() or 1}
    progress("measuring the machine's limits")
    command = environment.module_command("benchmarks.compare.limits", str(threads))
    _, lines = programs.timed_process(command, environment.environment(threads))
    return {"cores": os.cpu_count() or 1, **json.loads(lines[0])}


def _print_progress(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
