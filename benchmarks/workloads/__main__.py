"""Time what users of scikit-learn do, with fastnn and with scikit-learn: fits, predictions, scripts.

    python -m benchmarks.workloads [NAME ...] [--examples] [--rounds N] [--float64] [--empty-cache] [--quick]
        [--out FOLDER]
    python -m benchmarks.workloads --page [RESULTS]

Each measurement runs in a process of its own, on one thread and one core, fastnn and scikit-learn in turn and in random
order. Both get float32 data, or float64 data with `--float64`. First, the results of both are compared: score, loss and
iterations of a workload, or the numbers that an example returns. If they differ, the times are not comparable, and the
exit code is 1.

Of a workload, these are timed: the first fit of the process with compiled kernels on disk, later fits, predictions of
all rows and of one row, and calls of `partial_fit` after 10 and 1,000 calls before. `--empty-cache` adds the first fit
without kernels on disk. `--examples` times parts of scripts instead, of which only the import differs; fastnn then runs
in its default dtype. Names may be patterns, such as "digits-*".

Variables that tune a library, such as OPENBLAS_CORETYPE, are removed from every process. The report names them and the
BLAS kernels that really ran. `--out` writes results.json, results.md and workloads.svg. `--page` writes the table and
the chart of docs/workloads.md from such a results.json.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from benchmarks.compare import environment, limits
from benchmarks.workloads import measure
from benchmarks.workloads.examples import EXAMPLES
from benchmarks.workloads.report import Report, load, summary, update_page, write
from benchmarks.workloads.table import select

ROUNDS = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, or 1 if the results of a workload differ."""
    options = _options(arguments)
    if options.page is not None:
        update_page(load(options.page) if options.page.name else None)
        return 0
    settings = measure.Settings(
        rounds=options.rounds or (1 if options.quick else ROUNDS),
        dtype="float64" if options.float64 else "float32",
        quick=options.quick,
        empty_cache=options.empty_cache,
        progress=lambda text: print(f"  {text}", file=sys.stderr, flush=True),
    )
    given = sys.argv[1:] if arguments is None else list(arguments)
    report = Report(
        command=f"python -m benchmarks.workloads {shlex.join(given)}".strip(),
        rounds=settings.rounds,
        dtype=settings.dtype,
        cpu=limits.cpu_model(),
        load=measure.background_load(),
        removed=environment.removed(),
    )
    if options.examples:
        for name in options.chosen:
            report.found.append(measure.measure_example(name, EXAMPLES[name].tolerance, settings))
            _print_line(report.found[-1])
    else:
        for workload in options.chosen:
            report.found.append(measure.measure_workload(workload, settings))
            _print_line(report.found[-1])
    print("\n".join([*report.kernels(), *summary(report), *report.faults]))
    if options.out is not None:
        write(report, options.out)
    return 1 if report.faults else 0


def _print_line(found: measure.Found) -> None:
    """Print the ratios of a workload as soon as they are known."""
    ratios = [f"{name} {ratio.median:.2f}" for name in found.times if (ratio := found.ratio(name)) is not None]
    print(f"{found.name:24} " + "  ".join(found.faults or ratios), flush=True)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workloads", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=["*"], metavar="NAME", help="names or patterns (default: all)")
    parser.add_argument("--examples", action="store_true", help="time parts of scripts instead of workloads")
    parser.add_argument("--rounds", type=int, help=f"number of rounds (default: {ROUNDS}; with --quick 1)")
    parser.add_argument("--float64", action="store_true", help="use float64 on both sides; not for examples")
    parser.add_argument("--empty-cache", action="store_true", help="also time first fits without kernels on disk")
    parser.add_argument("--quick", action="store_true", help="use a few rows, only to test the benchmark itself")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write results.json, results.md and workloads.svg")
    parser.add_argument(
        "--page", type=Path, nargs="?", const=Path(), metavar="RESULTS",
        help="write the table and the chart of docs/workloads.md; measure nothing",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    if options.examples and (options.float64 or options.empty_cache):
        parser.error("--float64 and --empty-cache are for workloads: examples run with each library's defaults")
    try:
        options.chosen = _examples(options.names) if options.examples else select(options.names)
    except ValueError as error:
        parser.error(str(error))
    return options


def _examples(patterns: Sequence[str]) -> list[str]:
    for pattern in patterns:
        if not any(fnmatch(name, pattern) for name in EXAMPLES):
            raise ValueError(f"example {pattern!r}: expected a pattern of {', '.join(EXAMPLES)}")
    return [name for name in EXAMPLES if any(fnmatch(name, pattern) for pattern in patterns)]


if __name__ == "__main__":
    sys.exit(main())
