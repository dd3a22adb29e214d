"""`fastnn train`: trains a network and writes the folder of the run."""

import argparse
import json
import os
from typing import TYPE_CHECKING

from fastnn.cli.options import AddCommand, add_backend
from fastnn.cli.output import say

if TYPE_CHECKING:
    from fastnn.runs.folder import FinishedRun, RunFolder


def register(add: AddCommand) -> None:
    """Add the command and its options."""
    parser = add("train", run, "train a network, on MNIST unless told otherwise, and write the folder of the run")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--recipe", metavar="NAME", help="a run with all its settings: see fastnn recipes")
    source.add_argument("--data", metavar="FILE", nargs="+", help="train on CSV, NPZ or IDX files of your own")
    add_backend(parser)
    parser.add_argument("--hidden", metavar="UNITS", nargs="*", type=int, help="units of each hidden layer")
    parser.add_argument("--activation", choices=("relu", "tanh", "logistic", "identity"), default="relu")
    parser.add_argument("--epochs", metavar="N", type=int)
    parser.add_argument("--batch-size", metavar="N", type=_batch_size, help="samples a step, or 'full' for all")
    parser.add_argument("--learning-rate", metavar="RATE", type=float)
    parser.add_argument(
        "--schedule", metavar="NAME[:VALUE,...]", help="constant, step, inverse-time, exponential, cosine"
    )
    parser.add_argument("--warm-up", metavar="N", type=int, default=0, help="epochs in which the rate rises at first")
    parser.add_argument("--optimizer", choices=("sgd", "momentum", "nesterov", "adam"))
    parser.add_argument("--l2", metavar="L2", type=float, help="loss: cross-entropy + L2 / 2 * sum of squared weights")
    parser.add_argument("--dropout", metavar="RATE", type=float, help="share of hidden units dropped")
    parser.add_argument(
        "--patience", metavar="N", type=int, help="stop after N epochs without a better validation loss"
    )
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--seed", metavar="SEED", type=int, default=0)
    parser.add_argument("--threads", metavar="N", type=int, help="default: the cores this process may use")
    parser.add_argument("--out", metavar="FOLDER", help="the folder of the run; default: runs/DATE-NAME")


def run(options: argparse.Namespace) -> None:
    from fastnn.explanation.diagnosis import Finding

    folder, finished = _trained(options)
    folder.save_figures(finished)  # only now, when the training images are gone from memory
    result, report = finished.result, finished.report
    if options.json:
        keys = ("test_accuracy", "test_loss", "epochs", "seconds", "compile_seconds", "stopped", "backend", "diagnosis")
        answer = {**{key: report[key] for key in keys}, "recipe": report["settings"]["recipe"], "run": str(folder.path)}
        print(json.dumps(answer))
        return
    print(f"{result.network}")
    seconds, compiling = f"{report['seconds']:.2f} s of training", f"{report['compile_seconds']:.2f} s of compiling"
    print(f"{len(result.history)} epochs in {seconds}, {compiling}, backend {result.backend}")
    print(f"accuracy {report['test_accuracy']:.2%}, loss {report['test_loss']:.4f} on {finished.test.name}")
    for finding in report["diagnosis"]:
        print(Finding(**finding))
    print(f"run {folder.path}")


def _trained(options: argparse.Namespace) -> "tuple[RunFolder, FinishedRun]":
    """The run, trained and judged, and its folder, with all files but the figures."""
    from inspect import signature

    from fastnn.backends.warmup import compile_prediction_in_background
    from fastnn.datasets.splits import split_files
    from fastnn.errors import DivergenceError
    from fastnn.evaluation.evaluate import check_fit
    from fastnn.network import Network
    from fastnn.optim.schedules import WarmUp, get_schedule
    from fastnn.runs.folder import RunFolder
    from fastnn.runs.recipes import get_recipe
    from fastnn.training.progress import show_progress
    from fastnn.training.stopping import EarlyStopping
    from fastnn.training.train import TrainingInterrupted, train

    recipe = get_recipe(options.recipe or "mnist")
    names = ("epochs", "batch_size", "learning_rate", "schedule", "optimizer", "l2", "dropout")
    defaults = {name: signature(train).parameters[name].default for name in names}
    given = {"seed": options.seed, "backend": options.backend, "threads": options.threads}
    settings = {**defaults, **recipe.settings, **given}
    for name in names:
        if getattr(options, name) is not None:
            settings[name] = None if getattr(options, name) == "full" else getattr(options, name)
    hidden = recipe.hidden if options.hidden is None else tuple(options.hidden)
    if options.data:
        splits, name = split_files(options.data, options.seed), "data"
    else:
        splits, name = recipe.load(options.seed), recipe.name
    network = Network.for_data(
        splits.train, hidden, activation=options.activation, dtype=options.dtype, seed=options.seed
    )
    check_fit(network, splits.test)  # now, not after an hour of training
    described = {
        "recipe": None if options.data else recipe.name,
        "files": options.data and [os.path.abspath(path) for path in options.data],
        "hidden": list(hidden),
        "activation": options.activation,
        "dtype": options.dtype,
        **settings,
        "warm_up": options.warm_up,
        "patience": options.patience,
    }
    settings["schedule"] = WarmUp(options.warm_up, get_schedule(settings["schedule"]))
    settings["early_stopping"] = None if options.patience is None else EarlyStopping(options.patience)

    folder = RunFolder(options.out, name)
    try:
        with (
            compile_prediction_in_background(
                options.backend, options.dtype, splits.train.images.dtype, options.threads
            ),
            show_progress(len(splits.train)) as progress,
        ):
            callbacks = [progress, folder.checkpoint(splits.train)]
            result = train(network, splits.train, validation=splits.validation, callbacks=callbacks, **settings)
        return folder, folder.save_finished(result, splits, described)
    except (DivergenceError, TrainingInterrupted) as stop:
        folder.save_unfinished(stop.result, splits, described)
        if len(stop.result.history):
            say(f"fastnn: the network after epoch {stop.result.best_epoch} is in {folder.path}")
        raise
    finally:
        folder.remove_if_empty()


def _batch_size(text: str) -> int | str:
    try:
        return text if text == "full" else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a whole number nor 'full'") from None
