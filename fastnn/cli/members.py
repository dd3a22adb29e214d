"""`fastnn train --members N`: trains N networks that differ in their seed, and writes them as one model."""

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastnn.cli.output import say_notes
from fastnn.errors import DivergenceError, SettingsError

if TYPE_CHECKING:
    from fastnn.datasets.splits import Splits
    from fastnn.runs.ensemble import FinishedEnsemble
    from fastnn.runs.folder import FinishedRun, RunFolder
    from fastnn.runs.plan import Plan


# Trains a member, or takes the result of its run if that has ended. The arguments are the options of the member, the
# splits of the data and the folder of its run.
TrainMember = Callable[[argparse.Namespace, "Splits", Path], "FinishedRun"]


def run_members(
    options: argparse.Namespace, plan: "Plan", recorded: dict[str, Any], name: str, train_member: TrainMember
) -> None:
    """Train the members one after the other, each with all threads; write and print the result of their ensemble.

    plan, recorded, name: those of the first member, as `fastnn train` plans a run
    """
    from fastnn.runs.ensemble import finish, member_folder, save_figures
    from fastnn.runs.folder import RunFolder, RunRecord

    recorded["members"] = options.members
    with RunFolder(options.resume or options.out, name, resumed=bool(options.resume)) as folder:
        plan = replace(plan, config=plan.config.replace(backend=_backend(options, plan, folder)))
        record = RunRecord.of(plan, recorded)
        if options.resume:
            if not options.force:
                folder.check_data(record)
            record = folder.as_begun(record)
        else:
            folder.begin(record)
        try:
            members = list(_trained(options, folder, record.plan, train_member))
        except BaseException:
            if not any(member_folder(folder, number).exists() for number in range(1, options.members + 1)):
                folder.discard()
            raise
        finished = finish(folder, record, members)
        try:
            save_figures(folder, finished)
        finally:  # figures that cannot be drawn or saved do not hide the result
            _print_result(finished, folder, options)


def check_members(options: argparse.Namespace) -> None:
    """Raise SettingsError if `--members` is out of range, or does not fit other options or the run to go on with."""
    from fastnn.checks import check_integer, display_path
    from fastnn.models.ensemble import FEWEST
    from fastnn.runs.ensemble import MOST
    from fastnn.runs.saved import read_report

    if options.resume:
        begun = read_report(Path(options.resume))["settings"].get("members")
        shown = display_path(options.resume)
        if begun is None and options.members is not None:
            raise SettingsError(f"--members is {options.members}, but {shown} is the run of one network")
        if begun is not None and (options.members or 0) < begun:
            raise SettingsError(f"--members is {options.members}, expected {begun} or more, as {shown} has")
    if options.members is None:
        return
    check_integer("--members", options.members, FEWEST, MOST)
    if options.live:
        raise SettingsError("--live shows the run of one network: leave out --members")


def _backend(options: argparse.Namespace, plan: "Plan", folder: "RunFolder") -> str:
    """Return the backend of all members, "numba" or "numpy": that of the run to go on with, or that for all work."""
    from fastnn.backends import backend_name, get_backend
    from fastnn.backends.choice import CHOOSER, continued_backend, fit_work
    from fastnn.runs.saved import read_report

    config = plan.config
    if config.backend != "auto":
        return config.backend
    if options.resume:
        return continued_backend("auto", read_report(folder.path)["backend"])
    n_held_out, n_rows = len(plan.splits.validation), len(plan.splits.train)
    work = fit_work(plan.network, plan.sample.images, n_rows, config, n_held_out=n_held_out)
    choice = CHOOSER.peek("auto", work._replace(seconds=options.members * work.seconds))
    return choice.backend if choice.backend == "numpy" else backend_name(get_backend("auto"))


def _trained(
    options: argparse.Namespace, folder: "RunFolder", plan: "Plan", train_member: TrainMember
) -> "Iterator[FinishedRun]":
    """Train each member in a folder of its own, or take the result that its folder has."""
    from fastnn.runs.ensemble import member_folder
    from fastnn.runs.saved import REPORT

    first, backend = plan.config.seed, plan.config.backend
    split_seed = first if options.split_seed is None else options.split_seed
    for number in range(1, options.members + 1):
        path, seed = member_folder(folder, number), first + number - 1
        who = f"member {number} of {options.members}, seed {seed}"
        say_notes([who], options)
        given = {"seed": seed, "split_seed": split_seed, "backend": backend, "members": None}
        resume = str(path) if (path / REPORT).exists() else None
        try:
            yield train_member(argparse.Namespace(**{**vars(options), **given, "resume": resume}), plan.splits, path)
        except DivergenceError as error:
            named = DivergenceError(f"{who}: {error}; the members before it are kept")
            named.result = error.result
            raise named from error


def _print_result(finished: "FinishedEnsemble", folder: "RunFolder", options: argparse.Namespace) -> None:
    from fastnn.checks import display_path
    from fastnn.explanation.diagnosis import Finding

    report, test = finished.report, finished.test
    if options.json:
        keys = ["task", "test_accuracy", "test_r2", "test_rmse", "test_mae", "test_loss", "seconds", "stopped"]
        keys += ["backend", "digest", "notes", "diagnosis", "members"]
        found = {key: report[key] for key in keys if key in report}
        print(json.dumps({**found, "recipe": report["settings"]["recipe"], "run": str(folder.path)}))
        return
    print(finished.model.summary)
    for member in report["members"]:
        end = f"{member['epochs']} epochs in {member['seconds']:.2f} s"
        print(f"{member['folder']}, seed {member['seed']}: {_score(member)}, {end}")
    print(f"{_score(report)} on {len(test):,} samples of {test.name}")
    for finding in report["diagnosis"]:
        print(Finding(**finding))
    print(f"run {display_path(folder.path)}")


def _score(report: dict[str, Any]) -> str:
    """Return the accuracy and the loss of a report, or the errors of a regression."""
    if "test_accuracy" in report:
        return f"accuracy {report['test_accuracy']:.2%}, loss {report['test_loss']:.4f}"
    r2 = "undefined" if report["test_r2"] is None else f"{report['test_r2']:.4f}"
    return f"R2 {r2}, root mean squared error {report['test_rmse']:.4g}"
