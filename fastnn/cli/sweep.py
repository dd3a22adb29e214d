"""`fastnn sweep`: trains every combination of settings with every seed, and compares them."""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastnn.cli.data import OF_BLOCKS
from fastnn.cli.options import AddCommand, add_settings, given_settings
from fastnn.cli.output import say_notes
from fastnn.cli.train import add_run, run_parts, sample_weight
from fastnn.errors import FastnnError, SettingsError, WorkerError

if TYPE_CHECKING:
    from fastnn.sweeps.result import SweepResult
    from fastnn.sweeps.runs import Base

EXAMPLES = """
  fastnn sweep --set hidden=64,128 --set learning_rate=0.1,0.3 --out sweeps/a   four combinations, three seeds each
  fastnn sweep --recipe digits --seeds 0-9 --out sweeps/b                       the spread of a recipe over ten seeds
  fastnn sweep --data mine.csv --set hidden=32,128-64 --out sweeps/c            your own table; 128-64 is two layers
  fastnn sweep --set schedule=constant/step:0.5,10 --out sweeps/d               values with commas, separated by /
  fastnn sweep --set dropout=0,0.2 --scheduler tcp://HOST:8786 --out sweeps/e   on a cluster of Dask

The same command again goes on with the runs that are missing, after Ctrl-C, kill -9 or a power cut, and with more seeds
or values. Settings are compared on validation data, the same for all runs; the test set is used only with --test.
fastnn train --help describes layers, schedules and optimizers.
"""
# Settings that do not vary: the seed has an option of its own, and the others change no result.
_FIXED = ("seed", "threads", "backend")


def register(add: AddCommand) -> None:
    parser = add(
        "sweep", run, "train every combination of some settings, with several seeds, and compare them", EXAMPLES
    )
    parser.add_argument(
        "--set",
        dest="varied",
        metavar="NAME=VALUE,...",
        action="append",
        default=[],
        help="the values of a setting that varies, separated by commas, or by / if a value has commas: of hidden, "
        "layers, activation, initializer, dtype or a setting of the run; give it once for each setting",
    )
    parser.add_argument(
        "--seeds", metavar="SEEDS", default="0-2", help="train each combination with these seeds, such as 0-9 or 0,1,7 "
        "(default: 0-2)",
    )  # fmt: skip
    parser.add_argument(
        "--out",
        metavar="FOLDER",
        required=True,
        help="folder for the journal and the figure, new or of this sweep",
    )
    parser.add_argument("--test", action="store_true", help="evaluate each trained network on the test set, too")
    group = parser.add_argument_group("engine", "Where the runs run. It changes no result.")
    group.add_argument(
        "--engine",
        choices=("threads", "processes", "dask"),
        help="threads share the data and the cores of this machine; processes map the data into their memory; dask is "
        "a cluster (default: threads, or dask with --scheduler)",
    )
    group.add_argument(
        "--jobs", metavar="N", type=int, help="runs at once, of threads and processes (default: one for each core)"
    )
    group.add_argument("--scheduler", metavar="ADDRESS", help="scheduler of a Dask cluster, such as tcp://HOST:8786")
    add_run(parser)
    add_settings(parser, without=("seed", *OF_BLOCKS))


def run(options: argparse.Namespace) -> None:
    from fastnn.checks import display_path
    from fastnn.sweeps.grid import parse_seeds
    from fastnn.sweeps.journal import FIGURE
    from fastnn.sweeps.sweep import run_sweep

    engine = options.engine or ("dask" if options.scheduler else "threads")
    if engine == "dask" and not options.scheduler:
        raise SettingsError("--engine dask needs --scheduler ADDRESS, such as tcp://HOST:8786")
    try:
        seeds = parse_seeds(options.seeds)
    except ValueError as error:
        raise SettingsError(f"--seeds: {error}") from None
    varied = _varied(options.varied)
    base = _base(options)
    say_notes(base.plan.notes, options)
    try:
        result = run_sweep(
            base, varied, seeds, engine, options.jobs, options.scheduler, options.out, verbose=not options.quiet
        )
    except (KeyboardInterrupt, WorkerError):
        say_notes([f"the same command goes on with the finished runs in {display_path(options.out)}"], options)
        raise
    assert result.folder is not None
    try:
        figure = result.folder / FIGURE
        result.plot().save(figure)
    finally:  # a figure that cannot be drawn or saved does not hide the result
        _print(result, base, options)
    if not options.json:
        print(f"figure {display_path(figure)}")
    failures = result.failures
    if len(failures) == len(result):
        raise FastnnError(f"all {len(result)} runs failed; the first: {failures[0].error}")


def _varied(texts: Sequence[str]) -> dict[str, list[Any]]:
    """Return the values of the settings of --set, by their names."""
    from fastnn.optim.config import OPTIONS
    from fastnn.suggestions import did_you_mean
    from fastnn.sweeps.runs import NETWORK_SETTINGS

    known = [*NETWORK_SETTINGS, *(name for name in OPTIONS if name not in _FIXED)]
    names = {option.flag: name for name, option in OPTIONS.items() if option.flag} | {name: name for name in known}
    found: dict[str, list[Any]] = {}
    for text in texts:
        name, mark, values = text.partition("=")
        key = name.strip().removeprefix("--").replace("-", "_")
        if not mark:
            raise SettingsError(f"--set {text!r}: expected a name and its values, such as hidden=64,128")
        if key not in names:
            meant = did_you_mean(key, names)
            raise SettingsError(f"--set {name}: no setting that varies{meant}, expected one of {', '.join(known)}")
        if names[key] in found:
            raise SettingsError(f"--set {name} is given twice, expected all values in one")
        # Values that have commas themselves are separated by slashes.
        parts = [part.strip() for part in values.split("/" if "/" in values or key == "layers" else ",")]
        found[names[key]] = [_value(names[key], part) for part in parts if part]
    return found


def _value(name: str, text: str) -> Any:
    from fastnn.optim.config import OPTIONS

    try:
        if name == "hidden":
            return () if text == "none" else tuple(int(units) for units in text.split("-"))
        return OPTIONS[name].parse(text) if name in OPTIONS else text
    except ValueError:
        expected = "numbers of units such as 64 or 128-64" if name == "hidden" else "a value as of the option"
        raise SettingsError(f"--set {name}: found {text!r}, expected {expected}") from None


def _base(options: argparse.Namespace) -> "Base":
    """Return what all runs have in common."""
    from dataclasses import replace

    from fastnn.runs.plan import make_plan
    from fastnn.sweeps.runs import Base
    from fastnn.sweeps.sweep import planned

    parts = run_parts(options)
    given = given_settings(options)
    if parts.start is None:
        network = {
            "hidden": parts.hidden,
            "activation": parts.activation,
            "initializer": options.initializer or "auto",
            "dtype": parts.dtype,
        }
        base = planned(parts.splits, parts.configure, network, given, options.standardize)
    else:
        config = parts.configure(parts.hidden, parts.activation, given)
        plan = make_plan(parts.splits, parts.hidden, config, standardize=options.standardize, start=parts.start)
        base = Base(plan, parts.configure, None, given)
    return replace(base, sample_weight=sample_weight(base.plan, options), has_test=options.test)


def _print(result: "SweepResult", base: "Base", options: argparse.Namespace) -> None:
    from fastnn.checks import display_path
    from fastnn.sweeps.result import mean_text

    if options.json:
        print(json.dumps(_as_json(result)))
        return
    _print_table(result)
    best, splits = result.best, base.plan.splits
    if len(best.values) and result.names:
        from fastnn.sweeps.grid import settings_text

        metric = result.metric.replace("_", " ")
        print(f"best: {settings_text(best.settings)}: {metric} {mean_text(best.values, result.metric)}")
    test = "the test set was not used" if not base.has_test else "nothing was chosen by the test set"
    print(f"compared on {len(splits.validation):,} samples of {splits.validation.name}; {test}")
    for error in dict.fromkeys(record.error for record in result.failures):
        count = sum(record.error == error for record in result.failures)
        print(f"{count} of {len(result)} runs failed: {error}")
    before = f", {result.n_done_before} of them before" if result.n_done_before else ""
    assert result.folder is not None
    print(f"{len(result)} runs{before}, in {display_path(result.folder)}")


def _print_table(result: "SweepResult") -> None:
    """Print the table: with rules and colours on a terminal, plain elsewhere."""
    if not sys.stdout.isatty():
        print(result.table())
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    head, rows = result.table_columns()
    shown = Table(header_style="bold")
    for index, name in enumerate(head):
        shown.add_column(Text(name), justify="left" if index < len(result.names) else "right")
    for number, row in enumerate(rows):
        shown.add_row(*map(Text, row), style="bold" if number == 0 else "")
    Console(file=sys.stdout).print(shown)


def _as_json(result: "SweepResult") -> dict[str, Any]:
    def number(value: float) -> float | None:
        return None if value != value else value

    combinations = [
        {
            "settings": each.settings,
            "mean": number(each.mean),
            "deviation": number(each.deviation),
            "runs": len(each.records),
            "failed": each.n_failed,
        }
        for each in result.combinations
    ]
    return {
        "metric": result.metric,
        "best": result.best.settings if len(result.best.values) else None,
        "settings": combinations,
        "runs": [record.to_dict() for record in result.records],
        "done_before": result.n_done_before,
        "folder": str(result.folder),
    }
