"""`fastnn train`: trains a network and writes a run folder."""

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
    parser = add("train", run, "train a network (by default on MNIST) and write a run folder")
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--recipe", metavar="NAME", help="use a recipe's data and settings; see 'fastnn recipes' (default: mnist)"
    )
    source.add_argument("--data", metavar="FILE", nargs="+", help="train on your own CSV, NPZ or IDX files")
    add_backend(parser)
    parser.add_argument(
        "--hidden",
        metavar="UNITS",
        nargs="*",
        type=int,
        help="units of each hidden layer; without a number, no hidden layer (default: the recipe's)",
    )
    parser.add_argument(
        "--activation",
        choices=("relu", "tanh", "logistic", "identity"),
        default="relu",
        help="activation of the hidden layers (default: relu)",
    )
    parser.add_argument("--epochs", metavar="N", type=int, help="number of epochs (default: the recipe's)")
    parser.add_argument(
        "--batch-size",
        metavar="N",
        type=_batch_size,
        help="samples per step, or 'full' for the whole training set (default: the recipe's)",
    )
    parser.add_argument(
        "--learning-rate", metavar="RATE", type=float, help="learning rate, above 0 (default: the recipe's)"
    )
    parser.add_argument(
        "--schedule",
        metavar="NAME[:VALUE,...]",
        help="learning-rate schedule: constant, step, inverse-time, exponential or cosine, "
        "such as step:0.5,10 (default: the recipe's)",
    )
    parser.add_argument(
        "--warm-up",
        metavar="N",
        type=int,
        default=0,
        help="raise the learning rate linearly over the first N epochs (default: 0)",
    )
    parser.add_argument(
        "--optimizer", choices=("sgd", "momentum", "nesterov", "adam"), help="optimizer (default: the recipe's, or sgd)"
    )
    parser.add_argument(
        "--l2",
        metavar="L2",
        type=float,
        help="add L2 / 2 * sum of squared weights to the loss (default: the recipe's, or 0)",
    )
    parser.add_argument(
        "--dropout",
        metavar="RATE",
        type=float,
        help="fraction of hidden units to drop, from 0 to less than 1 (default: the recipe's, or 0)",
    )
    parser.add_argument(
        "--patience",
        metavar="N",
        type=int,
        help="stop after N epochs without a lower validation loss (default: run all epochs)",
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "float64"),
        default="float32",
        help="floating-point type of the network (default: float32)",
    )
    parser.add_argument("--seed", metavar="SEED", type=int, default=0, help="random seed, 0 or more (default: 0)")
    parser.add_argument(
        "--threads", metavar="N", type=int, help="number of threads (default: the cores this process may use)"
    )
    parser.add_argument("--out", metavar="FOLDER", help="run folder, new or empty (default: runs/DATE-NAME)")


def run(options: argparse.Namespace) -> None:
    from fastnn.explanation.diagnosis import Finding

    folder, finished = _train_and_evaluate(options)
    folder.save_figures(finished)  # here, the training images are no longer in memory
    result, report = finished.result, finished.report
    if options.json:
        keys = ("test_accuracy", "test_loss", "epochs", "seconds", "compile_seconds", "stopped", "backend", "diagnosis")
        recipe = report["settings"]["recipe"]
        print(json.dumps({**{key: report[key] for key in keys}, "recipe": recipe, "run": str(folder.path)}))
        return
    print(f"{result.network}")
    seconds, compiling = f"{report['seconds']:.2f} s of training", f"{report['compile_seconds']:.2f} s of compiling"
    print(f"{len(result.history)} epochs in {seconds}, {compiling}, backend {result.backend}")
    print(f"accuracy {report['test_accuracy']:.2%}, loss {report['test_loss']:.4f} on {finished.test.name}")
    for finding in report["diagnosis"]:
        print(Finding(**finding))
    print(f"run {folder.path}")


def _train_and_evaluate(options: argparse.Namespace) -> "tuple[RunFolder, FinishedRun]":
    """Train, evaluate on the test set and write all files of the run folder except its figures."""
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
    check_fit(network, splits.test)  # fail before training, not an hour later
    recorded = {
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
        return folder, folder.save_finished(result, splits, recorded)
    except (DivergenceError, TrainingInterrupted) as stop:
        folder.save_unfinished(stop.result, splits, recorded)
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
