"""`fastnn train`: trains a network and writes a run folder."""

import argparse
import contextlib
import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fastnn.cli.data import FILES, add_data, reading
from fastnn.cli.live import add_page, page, wait_for_signal
from fastnn.cli.members import check_members, run_members
from fastnn.cli.models import load_model
from fastnn.cli.options import AddCommand, HiddenUnits, LayersText, Parser, add_settings, given_settings
from fastnn.cli.output import say, say_notes
from fastnn.cli.signals import SIGNALS
from fastnn.errors import DataError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np

    from fastnn.datasets.splits import Splits
    from fastnn.files.checkpoint_file import RunState
    from fastnn.live.run import LiveRun
    from fastnn.models import Model
    from fastnn.mpi.ranks import MPIRanks
    from fastnn.network.layers import Layer
    from fastnn.optim.config import TrainingConfig
    from fastnn.runs.folder import FinishedRun, RunFolder, RunRecord
    from fastnn.runs.plan import Plan
    from fastnn.runs.recipes import Recipe
    from fastnn.training.callbacks import Callback
    from fastnn.training.train import TrainingResult

EXAMPLES = """
  fastnn train                                             MNIST, in a few seconds
  fastnn train --data train.csv test.csv --label species   your own table, and one to test on
  fastnn train --data pictures/ --hidden 256 128           a folder with a folder of pictures per class
  fastnn train --data big.h5 --memory 1GB                  data larger than memory, of which some blocks are in it
  fastnn train --layers conv:6x5,pool:2,conv:16x5,pool:2,120,84
  fastnn train --optimizer momentum --learning-rate 0.05 --schedule step:0.5,10
  fastnn train --from runs/RUN --epochs 5                  train the network of a run further
  fastnn train --from runs/RUN --frozen 1 --data mine.csv  keep its first layer, and train the others on your own table
  fastnn train --config runs/RUN                           repeat a run, to the same bits
  fastnn train --config runs/RUN --learning-rate 0.05      the same start with another rate; fastnn compare shows both
  fastnn train --config settings.toml --seed 1             settings from a file, one of them replaced
  fastnn train --members 5                                 five networks with other seeds, averaged into one model
  fastnn train --live                                      watch and pause the run in the browser
  fastnn train --resume runs/RUN                           go on with a run that was interrupted or killed
  mpiexec -n 4 fastnn train --mpi --batch-size 1024        on four processes, on one machine or several

layers of --layers, separated by commas; OPTIONS follow the sizes: s2 or s2x1 is a stride, p1 or p1x0 a padding, and
same the padding that keeps the size. A layer may name its activation: conv:6x5:tanh, norm:relu
  120                            dense layer of 120 units
  conv:CHANNELSxKERNEL[OPTIONS]  convolution: conv:6x5, conv:16x3x5 (3 high, 5 wide), conv:16x3s2p1, conv:16x3same
  pool:SIZE[OPTIONS]             largest value of each window: pool:2, pool:2x3, pool:3s2p1; maxpool is the same
  avgpool:SIZE[OPTIONS]          mean of each window
  norm                           batch normalisation of each unit, or of each channel of images
schedules, with their values and defaults; the factor multiplies the learning rate of epoch e = 0, 1, ...:
  constant             1
  step:0.5,10          0.5 ** (e // 10): halved every 10 epochs
  inverse-time:0.1     1 / (1 + 0.1 e)
  exponential:0.95     0.95 ** e
  cosine:0             from 1 along half a cosine wave to 0 after the last epoch
  one-cycle:0.3,0.04   from 0.04 along half a cosine wave to 1 after 0.3 of the run, then to 0 at its end
optimizers:
  sgd                  plain steps against the gradient
  momentum, nesterov   with momentum 0.9
  adam, adamw          with decay rates 0.9 and 0.999; adamw decays the weights by 0.01
  lbfgs                all samples in each step, for small data: no batches, no learning rate, no checkpoints
"""


def register(add: AddCommand) -> None:
    parser = add("train", run, "train a network (by default on MNIST) and write a run folder", EXAMPLES)
    parser.readers = {"config": read_config, "resume": _read_run}
    add_config(parser)
    parser.add_argument(
        "--resume",
        metavar="RUN",
        help="go on with a run from its folder, to the same files as if it had never stopped. After it has ended: more "
        "--epochs, a larger --patience or, if it diverged, another --learning-rate",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="with --resume: go on although data, settings or versions differ from those of the run; with --mpi: train "
        "although the CPUs of the ranks differ",
    )
    parser.add_argument(
        "--mpi",
        action="store_true",
        help="train on all ranks that mpiexec has started; each step is shared, with the bits of one process",
    )
    add_run(parser, blocks=True)
    parser.add_argument(
        "--members",
        metavar="N",
        type=int,
        help="train N networks with the seeds --seed, --seed + 1 and so on, and average them: an ensemble in one model "
        "file, from 2 to 100 (default: one network)",
    )
    live = parser.add_argument_group("live page", "Watch the run in a page of the browser, which also pauses it.")
    live.add_argument("--live", action="store_true", help="serve the page to this computer, until Ctrl-C")
    add_page(live)
    parser.add_argument("--out", metavar="FOLDER", help="run folder, new or empty (default: runs/DATE-NAME)")
    parser.add_argument(
        "--snapshots",
        metavar="N",
        type=int,
        help="keep the weights of the first layer after N epochs, spread over the run, 0 included: reports and pages "
        "then have a slider (default: none)",
    )
    add_settings(parser)


def add_config(parser: Parser) -> None:
    """Add `--config`, which `read_config` reads."""
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="settings from a TOML file, or those of a run: its folder or its report.json. Options replace them",
    )


def add_run(parser: Parser, *, blocks: bool = False) -> None:
    """Add the options that say what is trained on which data: all that `planned_run` needs beside the settings.

    blocks: whether the data may be in blocks
    """
    parser.add_argument(
        "--from",
        dest="start",
        metavar="MODEL",
        help="train a saved model further: a model file, or the folder of a run. If the data have other classes, its "
        "last layer is replaced by a new one (default: random weights)",
    )
    parser.add_argument(
        "--recipe", metavar="NAME", help="use a recipe's settings, and its data unless --data is given (default: mnist)"
    )
    add_data(parser, f"train on your own {FILES}", blocks=blocks)
    parser.add_argument(
        "--split-seed",
        metavar="SEED",
        type=int,
        help="seed that selects the samples for validation and, without test data, for the test (default: --seed)",
    )
    parser.add_argument(
        "--standardize",
        action=argparse.BooleanOptionalAction,
        help="scale each input to mean 0 and deviation 1, inside the model (default: for tables of fractions)",
    )
    _add_network(parser)
    parser.add_argument(
        "--class-weight",
        metavar="WEIGHT",
        nargs="+",
        help="weights of the classes in training: balanced (each class counts as much as any other), or CLASS=NUMBER "
        "for each that does not weigh 1, such as cat=2 dog=0.5 (default: all samples weigh 1)",
    )


def _add_network(parser: Parser) -> None:
    """Add the options of a new network."""
    hidden = parser.add_mutually_exclusive_group()
    hidden.add_argument(
        "--hidden",
        metavar="UNITS",
        nargs="*",
        action=HiddenUnits,
        help="units of each hidden layer, such as 128 64 or 128,64; without a number, no hidden layer (default: the "
        "recipe's; 100 for --data)",
    )
    hidden.add_argument(
        "--layers",
        metavar="LAYER,...",
        nargs="+",
        action=LayersText,
        help="hidden layers of any kind, in place of --hidden: such as conv:6x5,pool:2,120 for images; see below",
    )
    parser.add_argument(
        "--activation",
        metavar="NAME",
        nargs="+",
        help="activation of all hidden layers, or one for each: relu, leaky_relu, elu, gelu, silu, tanh, logistic or "
        "identity; with --layers, of the convolutions and dense layers that name none (default: relu)",
    )
    parser.add_argument(
        "--initializer",
        metavar="NAME",
        help="distribution of the initial weights: auto, he, he_uniform, glorot, glorot_normal or lecun (default: "
        "auto, the one that suits the activation of each layer)",
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "float64"),
        help="floating-point type of the network (default: float32)",
    )


def _read_run(path: str, parser: argparse.ArgumentParser) -> dict[str, Any]:
    from fastnn.checks import display_path
    from fastnn.cli.settings_file import read_settings_file
    from fastnn.errors import FileError

    if not os.path.isdir(path):
        raise FileError(f"{display_path(path)} is not a folder, expected a run folder as fastnn train writes it")
    if not os.path.lexists(os.path.join(path, "report.json")):
        raise FileError(
            f"{display_path(path)} has no report.json, expected a run folder as fastnn train writes it. A run that was "
            "killed before its training began has none: start it again"
        )
    return read_settings_file(path, parser)


def read_config(path: str, parser: argparse.ArgumentParser) -> dict[str, Any]:
    """Return the settings of the file or the run of `--config`."""
    from fastnn.cli.settings_file import read_settings_file

    return read_settings_file(path, parser)


def run(options: argparse.Namespace) -> None:
    if not options.mpi:
        _run(options)
        return
    from fastnn.cli.ranks import run_on_ranks

    run_on_ranks(options, _run, _follow)


def _run(options: argparse.Namespace, ranks: "MPIRanks | None" = None) -> None:
    """Run the command; with `ranks`, as rank 0 of several."""
    from fastnn.checks import check_integer
    from fastnn.files.snapshot_file import MOST_EPOCHS
    from fastnn.optim.optimizers import LBFGS
    from fastnn.runs.folder import RunFolder
    from fastnn.runs.snapshots import FEWEST

    if options.force and not (options.resume or options.mpi):
        raise SettingsError("--force is for --resume RUN and --mpi, of which none is given")
    if options.resume and (options.config or options.out):
        raise SettingsError("--resume RUN has the settings and the folder of the run: leave out --config and --out")
    check_members(options)
    plan, recorded, name = planned_run(options)
    if options.resume and isinstance(plan.config.update_rule, LBFGS):
        raise SettingsError("--resume RUN is a run of lbfgs, which has no checkpoints; --config RUN begins it again")
    if options.resume:
        _check_snapshots(options)
    if options.snapshots is not None:
        check_integer("--snapshots", options.snapshots, FEWEST, MOST_EPOCHS)
        recorded["snapshots"] = options.snapshots
    say_notes(plan.notes, options)
    if options.members is not None:
        run_members(options, plan, recorded, name, _train_member)
        return
    with contextlib.ExitStack() as stack:
        callbacks: list[Callback] = []
        if options.live:
            callbacks.append(stack.enter_context(_live_page(plan, recorded, options)))
        folder = stack.enter_context(
            RunFolder(options.resume or options.out, name, resumed=bool(options.resume)),
        )
        if options.snapshots is not None:
            callbacks.append(folder.snapshot_recorder(plan, options.snapshots))
        finished = _finished_run(folder, plan, recorded, callbacks, options, ranks)
        del plan  # the figures need no training images
        try:
            folder.save_figures(finished)
        finally:  # figures that cannot be drawn or saved do not hide the result
            _print_result(finished, folder, options)
        if options.live:
            sys.stdout.flush()
            wait_for_signal()


def _train_member(options: argparse.Namespace, splits: "Splits", path: Path) -> "FinishedRun":
    """Train a member of an ensemble, as a run of its own in the folder `path`, on splits that have been read."""
    from fastnn.runs.folder import RunFolder

    plan, recorded, name = planned_run(options, splits)
    with RunFolder(path, name, resumed=bool(options.resume)) as folder:
        callbacks: list[Callback] = []
        if options.snapshots is not None:
            recorded["snapshots"] = options.snapshots
            callbacks.append(folder.snapshot_recorder(plan, options.snapshots))
        return _finished_run(folder, plan, recorded, callbacks, options)


def _check_snapshots(options: argparse.Namespace) -> None:
    """Raise SettingsError unless a run goes on with the snapshots that it has begun with."""
    from fastnn.checks import display_path
    from fastnn.runs.saved import read_report

    begun = read_report(Path(options.resume))["settings"].get("snapshots")
    if options.snapshots != begun:
        found = "no snapshots" if begun is None else f"--snapshots {begun}"
        raise SettingsError(
            f"--snapshots is {options.snapshots}, but {display_path(options.resume)} has begun with {found}"
        )


@contextlib.contextmanager
def _live_page(plan: "Plan", recorded: dict[str, Any], options: argparse.Namespace) -> "Iterator[LiveRun]":
    """Serve the page of a run while the block runs; yield the callback that shows it."""
    from fastnn.live.run import LiveRun
    from fastnn.live.session import Session
    from fastnn.runs.code import RunCode

    session, live = Session(), LiveRun()
    session.watch(live, RunCode(plan, recorded))
    with page(session, options, lambda text: say(f"fastnn: {text}")):
        yield live


def _finished_run(
    folder: "RunFolder",
    plan: "Plan",
    recorded: dict[str, Any],
    watching: "Sequence[Callback]",
    options: argparse.Namespace,
    ranks: "MPIRanks | None" = None,
) -> "FinishedRun":
    """Train, evaluate on the test set, and write all files of the run folder except its figures.

    watching: further callbacks of the training
    ranks: those that train; None: this process
    """
    from fastnn.backends.choice import CHOOSER, fit_work
    from fastnn.backends.warmup import compile_prediction_in_background
    from fastnn.checks import display_path
    from fastnn.optim.optimizers import LBFGS
    from fastnn.runs.folder import RunRecord
    from fastnn.training.checkpoint import continued, result_of
    from fastnn.training.progress import Progress

    record = RunRecord.of(plan, recorded)
    if options.resume:
        record = folder.as_begun(record)
    plan, config = record.plan, record.plan.config
    training, validation = plan.for_training(plan.splits.train), plan.for_training(plan.splits.validation)
    callbacks: list[Callback] = [folder.saver(record), *watching]
    if not options.quiet:
        callbacks.insert(0, Progress())
    state, ended = _state(folder, record, options)
    if state is not None and ended is not None:  # it may have been killed before all its files were written
        _check_same(state, plan, options)
        result = result_of(state, ended, continued(state, config, {}))
        folder.save(result, record)
        return folder.evaluate(result, record)
    weight = sample_weight(plan, options)
    folder.check_free_space(plan.network)
    checkpoint = None if isinstance(config.update_rule, LBFGS) else folder.checkpoint_path

    train = _train_function(ranks)

    def run_training() -> "TrainingResult":
        try:
            return train(
                plan.network, training, validation=validation, sample_weight=weight, callbacks=callbacks,
                config=config,
                checkpoint=checkpoint, resume=state, force=options.force,
            )  # fmt: skip
        except (SettingsError, DataError) as error:
            raise _for_the_command(error) from None

    inputs = plan.sample.images
    work = fit_work(plan.network, inputs, len(training), config, n_held_out=len(validation or ()))
    backend = CHOOSER.peek(config.backend, work, "" if state is None else state.backend).backend
    with compile_prediction_in_background(backend, plan.network, inputs.dtype, config.threads):
        try:
            result = _saved_result(run_training, folder, record)
        except BaseException as error:
            unfinished = getattr(error, "result", None)
            if unfinished is not None and len(unfinished.history):
                where = f"the network after epoch {unfinished.best_epoch} is in {display_path(folder.path)}"
                say_notes([where], options)
                folder.save_diagnosis(unfinished, record)
            raise
    return folder.evaluate(result, record)


def _train_function(ranks: "MPIRanks | None") -> "Callable[..., TrainingResult]":
    """Return the function that trains: on these ranks, or in this process."""
    if ranks is None:
        from fastnn.training.train import train

        return train
    from fastnn.mpi.training import train as train_on_ranks

    return partial(train_on_ranks, comm=ranks)


def _follow(options: argparse.Namespace, ranks: "MPIRanks") -> None:
    """Train as another rank than 0, which leaves the files of the run to that one."""
    plan, _, _ = planned_run(options)
    _train_function(ranks)(
        plan.network, plan.for_training(plan.splits.train), validation=plan.for_training(plan.splits.validation),
        sample_weight=sample_weight(plan, options), config=plan.config, force=options.force,
    )  # fmt: skip


def sample_weight(plan: "Plan", options: argparse.Namespace) -> "np.ndarray | None":
    """Return the weight of each training sample that --class-weight gives; SettingsError for a wrong one."""
    from fastnn.datasets.class_weights import BALANCED, class_weights

    given = options.class_weight
    if given is None:
        return None
    if plan.task == "regression":
        raise SettingsError("--class-weight is given, but the labels are numbers, which have no classes")
    if given == [BALANCED]:
        return class_weights(plan.splits.train)
    weights: dict[str, float] = {}
    for text in given:
        label, mark, number = text.rpartition("=")
        try:
            weights[label] = float(number)
        except ValueError:
            mark = ""
        if not mark:
            raise SettingsError(f"--class-weight is {text!r}, expected {BALANCED}, or CLASS=NUMBER such as cat=2")
    return class_weights(plan.splits.train, weights)


def _state(
    folder: "RunFolder", record: "RunRecord", options: argparse.Namespace
) -> "tuple[RunState | None, str | None]":
    """Return the state to go on from, and why the run has ended if it has.

    There is no state of a new run, nor of one that was stopped before its first checkpoint. Says where the run goes on.
    """
    from fastnn.training.checkpoint import continued, end_of

    if not options.resume:
        return None, None
    if not options.force:
        folder.check_data(record)
    state = folder.state()
    if state is None:
        say_notes(["the run had no checkpoint yet and begins again"], options)
        return None, None
    ended = end_of(state, continued(state, record.plan.config, {}))
    where = f"after epoch {state.trainer.epochs}"
    if state.trainer.sums.batches:
        where += f" and {state.trainer.sums.batches} batches"
    more = "--epochs, or a larger --patience, would let it go on"
    say_notes([f"the run goes on {where}" if ended is None else f"the run has ended {where}; more {more}"], options)
    return state, ended


def _check_same(state: "RunState", plan: "Plan", options: argparse.Namespace) -> None:
    """Raise SettingsError if a run that has ended had other settings, which its report would then state."""
    from fastnn.backends.choice import continued_backend
    from fastnn.backends.threads import resolve_threads
    from fastnn.training.checkpoint import check_same, continued

    config = continued(state, plan.config, {"threads": resolve_threads(plan.config.threads)})
    backend = continued_backend(config.backend, state.backend)
    try:
        check_same(state, plan.network, config, backend, state.data, options.force)
    except SettingsError as error:
        raise _for_the_command(error) from None


def _for_the_command(error: "SettingsError | DataError") -> "SettingsError | DataError":
    """Return the error with the option in the place of the argument `force`."""
    from fastnn.training.checkpoint import FORCE_HINT

    return type(error)(str(error).replace(FORCE_HINT, "--force continues nevertheless"))


def _saved_result(
    run_training: "Callable[[], TrainingResult]", folder: "RunFolder", record: "RunRecord"
) -> "TrainingResult":
    """Train, save the model, the history and the report, and return the result.

    Whatever ends the training, what there is of it is saved before anything else happens.
    """
    with SIGNALS.kept_outside(run_training):
        try:
            result = run_training()
        except BaseException as error:
            unfinished = getattr(error, "result", None)
            if unfinished is not None:
                folder.save(unfinished, record)
            raise
        folder.save(result, record)
    return result


def _print_result(finished: "FinishedRun", folder: "RunFolder", options: argparse.Namespace) -> None:
    from fastnn.checks import display_path
    from fastnn.explanation.diagnosis import Finding

    result, report = finished.result, finished.report
    if options.json:
        keys = ["task", "test_accuracy", "test_r2", "test_rmse", "test_mae", "test_loss", "epochs", "seconds"]
        keys += ["compile_seconds", "stopped", "backend", "digest", "notes", "diagnosis"]
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
    print(f"run {display_path(folder.path)}")


class RunParts(NamedTuple):
    """What the options of a run say: the data, the network, and how the settings follow from the given ones."""

    recipe: "Recipe | None"
    splits: "Splits"
    name: str  # of the run's folder
    start: "Model | None"  # the model of --from
    hidden: "tuple[int | Layer, ...]"
    activation: Any
    dtype: str
    given: dict[str, Any]  # the settings that are given

    def configure(self, hidden: "Sequence[int | Layer]", activation: Any, given: dict[str, Any]) -> "TrainingConfig":
        """Return the settings for a network and given settings: those of the recipe, or the defaults of own data."""
        from fastnn.runs.plan import default_config

        if self.recipe is None:
            return default_config(len(self.splits.train), **given)
        return self.recipe.configure(hidden, activation, **given)


def run_parts(options: argparse.Namespace, splits: "Splits | None" = None) -> RunParts:
    """Return what the options of `add_run` and of the settings say, with the data read.

    splits: the data, if an earlier call has read them
    """
    from fastnn.checks import check_integer
    from fastnn.runs.data import read_splits
    from fastnn.runs.plan import default_hidden
    from fastnn.runs.recipes import get_recipe

    given = given_settings(options)
    if given.get("frozen") and options.start is None:
        raise SettingsError("--frozen is for --from MODEL, which is not given: random layers would stay random")
    recipe = get_recipe(options.recipe or "mnist") if options.recipe or not options.data else None
    seed = given.get("seed", 0 if recipe is None else recipe.config.seed)
    split_seed = seed if options.split_seed is None else check_integer("--split-seed", options.split_seed, 0)
    name = "data" if options.data or recipe is None else recipe.name
    if splits is None:
        if options.data:
            splits = read_splits(options.data, split_seed, **reading(options))
        else:
            assert recipe is not None
            splits = recipe.load(split_seed)
    start = None if options.start is None else _start_model(options.start)
    usual = default_hidden() if recipe is None else recipe.hidden_layers
    hidden, activation, dtype = _architecture(options, usual, start)
    return RunParts(recipe, splits, name, start, hidden, activation, dtype, given)


def planned_run(options: argparse.Namespace, splits: "Splits | None" = None) -> "tuple[Plan, dict[str, Any], str]":
    """Return the plan of the run, the settings to record, and the name of its folder.

    splits: the data, if an earlier call has read them
    """
    from fastnn.network.layers import Layer, format_layers
    from fastnn.runs.plan import make_plan

    parts = run_parts(options, splits)
    recipe, hidden, activation, start = parts.recipe, parts.hidden, parts.activation, parts.start
    config = parts.configure(hidden, activation, parts.given)
    initializer = None if start is not None else options.initializer or "auto"
    settings = {"activation": activation, "dtype": parts.dtype, "seed": config.seed, "initializer": initializer}
    settings = {} if start else settings
    plan = make_plan(parts.splits, hidden, config, standardize=options.standardize, start=start, **settings)
    # Layers in the form of --layers name their activations.
    is_text = any(isinstance(layer, Layer) for layer in hidden)
    recorded = {
        "recipe": None if recipe is None else recipe.name,
        "files": options.data and [os.path.abspath(path) for path in options.data],
        "reading": reading(options),
        "from": options.start and os.path.abspath(options.start),
        "standardize": plan.standardize,
        "hidden": None if is_text else list(hidden),
        "layers": format_layers(plan.network.layers[:-1]) if is_text else None,
        "activation": None if is_text else activation,
        "initializer": initializer,
        "class_weight": options.class_weight,
        "split_seed": None if options.split_seed == config.seed else options.split_seed,
        "dtype": parts.dtype,
        **config.to_dict(),
    }
    return plan, recorded, parts.name


def _start_model(path: str) -> "Model":
    """Return the model to start from; SettingsError if it is an ensemble."""
    from fastnn.checks import display_path
    from fastnn.models import Ensemble

    model = load_model(path)
    if isinstance(model, Ensemble):
        raise SettingsError(
            f"--from {display_path(path)} is an ensemble of {len(model.networks)} networks, expected one network, such "
            "as the folder member-1 in that of its run"
        )
    return model


def _architecture(
    options: argparse.Namespace, usual: "tuple[int | Layer, ...]", start: "Model | None"
) -> "tuple[tuple[int | Layer, ...], Any, str]":
    """Return the hidden layers, the activation and the dtype: those given, or those of the model to start from.

    SettingsError if an option contradicts the model.
    """
    from fastnn.network.layers import format_layers, parse_layers

    activation = options.activation
    if activation is not None and len(activation) == 1:
        activation = activation[0]
    if start is None:
        hidden = usual if options.hidden is None else tuple(options.hidden)
        if options.layers is not None:
            hidden = tuple(parse_layers(options.layers))
        return hidden, activation or "relu", options.dtype or "float32"
    if options.initializer is not None:
        raise SettingsError(
            f"initializer is {options.initializer!r}, but --from has a network with weights; leave out --initializer"
        )
    network = start.network
    names = [layer.activation for layer in network.layers[:-1]]
    same = names[0] if len(set(names)) == 1 else names
    standardized = network.standardization is not None
    for name, given, found in (
        ("hidden", options.hidden, list(network.sizes[1:-1])),
        ("layers", options.layers, format_layers(network.layers[:-1])),
        ("activation", activation, activation if activation in (same, names) or not names else same),
        ("dtype", options.dtype, str(network.dtype)),
        ("standardize", options.standardize, standardized),
    ):
        if given is not None and given != found:
            raise SettingsError(f"{name} is {given!r}, but the model of --from has {found!r}; leave out --{name}")
    if not network.is_dense:
        return network.layers[:-1], "relu", str(network.dtype)
    return tuple(network.sizes[1:-1]), same or activation or "relu", str(network.dtype)
