"""`fastnn train`: trains a network and writes a run folder."""

import argparse
import json
import os
from typing import TYPE_CHECKING

from fastnn.cli.options import AddCommand, add_settings, given_settings
from fastnn.cli.output import say

if TYPE_CHECKING:
    from fastnn.runs.folder import FinishedRun, RunFolder


def register(add: AddCommand) -> None:
    parser = add("train", run, "train a network (by default on MNIST) and write a run folder")
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--recipe", metavar="NAME", help="use a recipe's data and settings; see 'fastnn recipes' (default: mnist)"
    )
    source.add_argument("--data", metavar="FILE", nargs="+", help="train on your own CSV, NPZ or IDX files")
    parser.add_argument(
        "--hidden",
        metavar="UNITS",
        nargs="*",
        type=int,
        help="units of each hidden layer; without a number, no hidden layer (default: the recipe's)",
    )
    parser.add_argument(
        "--activation",
        metavar="NAME",
        nargs="+",
        default=["relu"],
        help="activation of all hidden layers, or one for each: relu, leaky_relu, elu, gelu, silu, tanh, logistic or "
        "identity (default: relu)",
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "float64"),
        default="float32",
        help="floating-point type of the network (default: float32)",
    )
    parser.add_argument("--out", metavar="FOLDER", help="run folder, new or empty (default: runs/DATE-NAME)")
    add_settings(parser)


def run(options: argparse.Namespace) -> None:
    from fastnn.explanation.diagnosis import Finding

    folder, finished = _train_and_evaluate(options)
    folder.save_figures(finished)  # here, the training images are no longer in memory
    result, report = finished.result, finished.report
    if result.rate_search is not None:
        from fastnn.plots import RateSearchDisplay

        RateSearchDisplay.from_search(result.rate_search).save(folder.path / "learning-rate.png")
    if options.json:
        keys = ("test_accuracy", "test_loss", "epochs", "seconds", "compile_seconds", "stopped", "backend", "diagnosis")
        recipe = report["settings"]["recipe"]
        print(json.dumps({**{key: report[key] for key in keys}, "recipe": recipe, "run": str(folder.path)}))
        return
    print(f"{result.network}")
    seconds, compiling = f"{report['seconds']:.2f} s of training", f"{report['compile_seconds']:.2f} s of compiling"
    print(f"{len(result.history)} epochs in {seconds}, {compiling}, backend {result.backend}")
    if result.rate_search is not None:
        print(f"learning rate {result.config.learning_rate:g}, found by a search before training")
    print(f"accuracy {report['test_accuracy']:.2%}, loss {report['test_loss']:.4f} on {finished.test.name}")
    for finding in report["diagnosis"]:
        print(Finding(**finding))
    print(f"run {folder.path}")


def _train_and_evaluate(options: argparse.Namespace) -> "tuple[RunFolder, FinishedRun]":
    """Train, evaluate on the test set and write all files of the run folder except its figures."""
    from fastnn.backends.warmup import compile_prediction_in_background
    from fastnn.datasets.splits import split_files
    from fastnn.errors import DivergenceError
    from fastnn.evaluation.evaluate import check_fit
    from fastnn.network import Network
    from fastnn.runs.folder import RunFolder
    from fastnn.runs.recipes import get_recipe
    from fastnn.training.progress import Progress
    from fastnn.training.train import TrainingInterrupted, train

    recipe = get_recipe(options.recipe or "mnist")
    activation = options.activation[0] if len(options.activation) == 1 else options.activation
    hidden = recipe.hidden if options.hidden is None else tuple(options.hidden)
    config = recipe.configure(hidden, activation, **given_settings(options))
    if options.data:
        splits, name = split_files(options.data, config.seed), "data"
    else:
        splits, name = recipe.load(config.seed), recipe.name
    network = Network.for_data(splits.train, hidden, activation=activation, dtype=options.dtype, seed=config.seed)
    check_fit(network, splits.test)  # fail before training, not an hour later
    recorded = {
        "recipe": None if options.data else recipe.name,
        "files": options.data and [os.path.abspath(path) for path in options.data],
        "hidden": list(hidden),
        "activation": activation,
        "dtype": options.dtype,
        **config.to_dict(),
    }
    folder = RunFolder(options.out, name)
    try:
        with compile_prediction_in_background(config.backend, options.dtype, splits.train.images.dtype, config.threads):
            callbacks = [Progress(), folder.checkpoint(splits.train)]
            result = train(network, splits.train, validation=splits.validation, callbacks=callbacks, config=config)
        recorded["learning_rate"] = result.config.learning_rate  # the number, where the setting is a rule or a search
        return folder, folder.save_finished(result, splits, recorded)
    except (DivergenceError, TrainingInterrupted) as stop:
        recorded["learning_rate"] = stop.result.config.learning_rate
        folder.save_unfinished(stop.result, splits, recorded)
        if len(stop.result.history):
            say(f"fastnn: the network after epoch {stop.result.best_epoch} is in {folder.path}")
        raise
    finally:
        folder.remove_if_empty()
