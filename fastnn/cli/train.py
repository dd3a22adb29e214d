"""`fastnn train`: trains a network and writes a run folder."""

import argparse
import json
import os
from typing import TYPE_CHECKING, Any

from fastnn.cli.data import FILES, add_data, reading
from fastnn.cli.options import AddCommand, add_settings, given_settings
from fastnn.cli.output import say, say_notes

if TYPE_CHECKING:
    from fastnn.runs.folder import FinishedRun, RunFolder
    from fastnn.runs.plan import Plan


def register(add: AddCommand) -> None:
    parser = add("train", run, "train a network (by default on MNIST) and write a run folder")
    parser.add_argument(
        "--recipe", metavar="NAME", help="use a recipe's settings, and its data unless --data is given (default: mnist)"
    )
    add_data(parser, f"train on your own {FILES}")
    parser.add_argument(
        "--standardize",
        action=argparse.BooleanOptionalAction,
        help="scale each input to mean 0 and deviation 1, inside the model (default: for tables of fractions)",
    )
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
        keys = ("task", "test_accuracy", "test_r2", "test_rmse", "test_mae", "test_loss", "epochs", "seconds")
        keys += ("compile_seconds", "stopped", "backend", "notes", "diagnosis")
        recipe = report["settings"]["recipe"]
        found = {key: report[key] for key in keys if key in report}
        print(json.dumps({**found, "recipe": recipe, "run": str(folder.path)}))
        return
    print(f"{result.network}")
    seconds, compiling = f"{report['seconds']:.2f} s of training", f"{report['compile_seconds']:.2f} s of compiling"
    print(f"{len(result.history)} epochs in {seconds}, {compiling}, backend {result.backend}")
    if result.rate_search is not None:
        print(f"learning rate {result.config.learning_rate:g}, found by a search before training")
    where = f"on {len(finished.test):,} samples of {finished.test.name}"
    if report["task"] == "regression":
        r2 = "undefined" if report["test_r2"] is None else f"{report['test_r2']:.4f}"
        print(f"R2 {r2}, root mean squared error {report['test_rmse']:.4g} {where}")
    else:
        print(f"accuracy {report['test_accuracy']:.2%}, loss {report['test_loss']:.4f} {where}")
    for finding in report["diagnosis"]:
        print(Finding(**finding))
    print(f"run {folder.path}")


def _train_and_evaluate(options: argparse.Namespace) -> "tuple[RunFolder, FinishedRun]":
    """Train, evaluate on the test set and write all files of the run folder except its figures."""
    from fastnn.backends.warmup import compile_prediction_in_background
    from fastnn.errors import DivergenceError
    from fastnn.runs.folder import RunFolder
    from fastnn.training.progress import Progress
    from fastnn.training.train import TrainingInterrupted, train

    plan, recorded, name = _plan(options)
    say_notes(plan.notes, options)
    config, training = plan.config, plan.for_training(plan.splits.train)
    folder = RunFolder(options.out, name)
    try:
        with compile_prediction_in_background(config.backend, options.dtype, training.images.dtype, config.threads):
            callbacks = [Progress(), folder.checkpoint(plan)]
            validation = plan.for_training(plan.splits.validation)
            result = train(plan.network, training, validation=validation, callbacks=callbacks, config=config)
        recorded["learning_rate"] = result.config.learning_rate  # the number, where the setting is a rule or a search
        return folder, folder.save_finished(result, plan, recorded)
    except (DivergenceError, TrainingInterrupted) as stop:
        recorded["learning_rate"] = stop.result.config.learning_rate
        folder.save_unfinished(stop.result, plan, recorded)
        if len(stop.result.history):
            say(f"fastnn: the network after epoch {stop.result.best_epoch} is in {folder.path}")
        raise
    finally:
        folder.remove_if_empty()


def _plan(options: argparse.Namespace) -> "tuple[Plan, dict[str, Any], str]":
    """Return the plan of the run, the settings to record, and the name of its folder."""
    from fastnn.datasets.splits import split_files
    from fastnn.runs.plan import default_config, default_hidden, make_plan
    from fastnn.runs.recipes import get_recipe

    given = given_settings(options)
    recipe = get_recipe(options.recipe or "mnist") if options.recipe or not options.data else None
    seed = given.get("seed", 0 if recipe is None else recipe.config.seed)
    if options.data:
        splits, name = split_files(options.data, seed, **reading(options)), "data"
    else:
        assert recipe is not None
        splits, name = recipe.load(seed), recipe.name
    hidden = default_hidden() if recipe is None else recipe.hidden
    hidden = hidden if options.hidden is None else tuple(options.hidden)
    activation = options.activation[0] if len(options.activation) == 1 else options.activation
    if recipe is None:
        config = default_config(len(splits.train)).replace(**given)
    else:
        config = recipe.configure(hidden, activation, **given)
    plan = make_plan(
        splits, hidden, config, standardize=options.standardize, activation=activation, dtype=options.dtype, seed=seed
    )
    recorded = {
        "recipe": None if recipe is None else recipe.name,
        "files": options.data and [os.path.abspath(path) for path in options.data],
        "reading": reading(options),
        "standardize": plan.network.standardization is not None,
        "hidden": list(hidden),
        "activation": activation,
        "dtype": options.dtype,
        **config.to_dict(),
    }
    return plan, recorded, name
