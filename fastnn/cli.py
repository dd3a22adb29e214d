"""The command `fastnn` and its parts: `fastnn --help` lists them. Results go to stdout, progress to stderr."""

import argparse
import contextlib
import json
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NoReturn

from fastnn.errors import FastnnError, MissingDependencyError, SettingsError

if TYPE_CHECKING:
    import numpy as np

    from fastnn.datasets import Dataset
    from fastnn.model_file import Model
    from fastnn.runs import FinishedRun, RunFolder

FAILED, USAGE, INTERRUPTED, TERMINATED = 1, 2, 130, 143


class _Terminated(KeyboardInterrupt):
    """SIGTERM: the run ends as after Ctrl-C."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"{self.prog}: {message}; see {self.prog} --help\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 1 (the run failed), 2 (usage), 130 (Ctrl-C), 143 (SIGTERM)."""
    parser = _parser()
    options = parser.parse_args(arguments)
    warnings.showwarning = _show_warning
    _on_sigterm(_raise_terminated)
    try:
        with _notices():
            options.command(options)
        sys.stdout.flush()
    except (SettingsError, MissingDependencyError) as error:
        return _fail(error, USAGE)
    except FastnnError as error:
        return _fail(error, FAILED)
    except BrokenPipeError:  # whoever read our output has seen enough; what is still buffered must not raise at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt as interrupt:
        terminated = isinstance(interrupt, _Terminated) or isinstance(interrupt.__cause__, _Terminated)
        _say(f"fastnn: {'terminated' if terminated else 'interrupted'}")
        return TERMINATED if terminated else INTERRUPTED
    except MemoryError as error:
        return _fail(error, FAILED, "out of memory: ")
    finally:
        _on_sigterm(signal.SIG_DFL)
    return 0


# --- The commands ----------------------------------------------------------------------------------------------------
def _train(options: argparse.Namespace) -> None:
    from fastnn.diagnosis import Finding

    folder, run = _trained(options)
    folder.save_figures(run)  # only now, when the training images are gone from memory
    result, report = run.result, run.report
    if options.json:
        keys = ("test_accuracy", "test_loss", "epochs", "seconds", "compile_seconds", "stopped", "backend", "diagnosis")
        answer = {**{key: report[key] for key in keys}, "recipe": report["settings"]["recipe"], "run": str(folder.path)}
        print(json.dumps(answer))
        return
    print(f"{result.network}")
    seconds, compiling = f"{report['seconds']:.2f} s of training", f"{report['compile_seconds']:.2f} s of compiling"
    print(f"{len(result.history)} epochs in {seconds}, {compiling}, backend {result.backend}")
    print(f"accuracy {report['test_accuracy']:.2%}, loss {report['test_loss']:.4f} on {run.test.name}")
    for finding in report["diagnosis"]:
        print(Finding(**finding))
    print(f"run {folder.path}")


def _trained(options: argparse.Namespace) -> "tuple[RunFolder, FinishedRun]":
    """The run, trained and judged, and its folder, with all files but the figures."""
    from inspect import signature

    from fastnn.compilation import prediction_compiled_aside
    from fastnn.errors import DivergenceError
    from fastnn.judging import check_fit
    from fastnn.progress import show_progress
    from fastnn.recipes import get_recipe, network_for, split_files
    from fastnn.runs import RunFolder
    from fastnn.schedules import WarmUp, get_schedule
    from fastnn.training import EarlyStopping, TrainingInterrupted, train

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
    network = network_for(splits.train, hidden, activation=options.activation, dtype=options.dtype, seed=options.seed)
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
            prediction_compiled_aside(options.backend, options.dtype, splits.train.images.dtype, options.threads),
            show_progress(len(splits.train)) as progress,
        ):
            callbacks = [progress, folder.checkpoint(splits.train)]
            result = train(network, splits.train, validation=splits.watched, callbacks=callbacks, **settings)
        return folder, folder.save_finished(result, splits, described)
    except (DivergenceError, TrainingInterrupted) as stop:
        folder.save_unfinished(stop.result, splits, described)
        if len(stop.result.history):
            _say(f"fastnn: the network after epoch {stop.result.best_epoch} is in {folder.path}")
        raise
    finally:
        folder.remove_if_empty()


def _evaluate(options: argparse.Namespace) -> None:
    from fastnn.model_file import load_classifier
    from fastnn.runs import judge

    model, data = load_classifier(options.model), _test_data(options)
    judgement = judge(model.network, data, options.backend)
    if options.json:
        answer = {
            "accuracy": judgement.accuracy,
            "loss": judgement.loss,
            "samples": len(data),
            "per_class": [asdict(score) for score in judgement.per_class],
            "confusion": judgement.confusion.tolist(),
        }
        print(json.dumps(answer))
        return
    print(f"{model.network}")
    print(f"accuracy {judgement.accuracy:.2%}, loss {judgement.loss:.4f} on {len(data):,} samples of {data.name}")
    print("class  precision  recall      f1  samples")
    for name, score in zip(model.class_names, judgement.per_class, strict=True):
        print(f"{name!s:>5}  {score.precision:9.2%}  {score.recall:6.2%}  {score.f1:6.2%}  {score.support:7,}")


def _test_data(options: argparse.Namespace) -> "Dataset":
    from fastnn.datasets import load_mnist, read_files

    first, second = read_files(options.data) if options.data else load_mnist()
    return first if second is None else second


def _predict(options: argparse.Namespace) -> None:
    from fastnn.backends import get_backend
    from fastnn.model_file import load_classifier

    model = load_classifier(options.model)
    rows = _rows_of_pictures(options.image, options.model, model)
    labels, proba = model.decide(get_backend(options.backend).predict_proba(model.network, rows))
    answers = [
        {"image": str(image), "prediction": label, "probability": float(row.max())}
        for image, label, row in zip(options.image, labels.tolist(), proba, strict=True)
    ]
    if options.json:
        print(json.dumps(answers))
        return
    for answer in answers:
        print(f"{answer['image']}: {answer['prediction']} ({answer['probability']:.1%})")


def _report(options: argparse.Namespace) -> None:
    from fastnn.report import write_report

    path = write_report(options.run, options.out, data=options.data, backend=options.backend)
    print(json.dumps({"report": str(path)}) if options.json else f"report {path}")


def _compare(options: argparse.Namespace) -> None:
    from fastnn.compare import compare

    compared = compare(options.run)
    figure = None if options.out is None else str(compared.save_figure(options.out))
    if options.json:
        runs = [
            {
                "run": str(run.path),
                **{name: values[place] for name, values in compared.figures.items()},
                "settings": {name: values[place] for name, values in compared.settings.items()},
            }
            for place, run in enumerate(compared.runs.values())
        ]
        print(json.dumps({"runs": runs, "figure": figure}))
        return
    print(compared.table())
    if figure is not None:
        print(f"figure {figure}")


def _rows_of_pictures(images: Sequence[str], path: str, model: "Model") -> "np.ndarray":
    """The pictures as rows for the model, shape (images, 784)."""
    import numpy as np

    from fastnn.datasets import prepare_image
    from fastnn.errors import DataError

    if model.image_shape != (28, 28):
        shape = "no images" if model.image_shape is None else f"{model.image_shape[0]} x {model.image_shape[1]} images"
        raise DataError(f"{path} takes {shape}; pictures are prepared as images of 28 x 28")
    rows = np.stack([prepare_image(image) for image in images])
    # Networks from data scaled to 0 ... 1 take prepared pixels scaled likewise.
    return rows / np.float32(255) if model.network.input_scale == 1 else rows


def _explain(options: argparse.Namespace) -> None:
    from fastnn.checks import check_choice, check_integer
    from fastnn.explanation import ExplainDisplay, explain
    from fastnn.model_file import load_classifier

    model = load_classifier(options.model)
    names, label = list(model.class_names), None
    if options.image is not None:
        if options.data:
            raise SettingsError("--data goes with --row, which says the sample of it, not with an IMAGE")
        row = _rows_of_pictures([options.image], options.model, model)[0]
    else:
        data = _test_data(options)
        place = check_integer("--row", options.row, 0, len(data) - 1)
        row, label = data.images[place], None if data.labels is None else int(data.labels[place])
    if options.label is not None:
        label = names.index(check_choice("--label", options.label, names))
    explanation = explain(model.network, row, label, class_names=names, image_shape=model.image_shape)
    figure = None if options.out is None else str(ExplainDisplay(explanation).save(options.out))
    if options.json:
        print(json.dumps({**explanation.to_dict(), "figure": figure}))
        return
    print(explanation)
    if figure is not None:
        print(f"\nfigure {figure}")


def _warmup(options: argparse.Namespace) -> None:
    from fastnn.compilation import warmup

    result = warmup(options.dtype)
    if options.json:
        print(json.dumps({**result._asdict(), "compiled": list(result.compiled)}))
        return
    names = f"compiled {', '.join(dict.fromkeys(result.compiled))}" if result.compiled else "nothing to compile"
    print(
        f"{names}; {result.loaded} kernels loaded; {result.seconds:.2f} s, {result.compile_seconds:.2f} s of compiling"
    )


def _recipes(options: argparse.Namespace) -> None:
    from fastnn.recipes import RECIPES

    if options.json:
        print(json.dumps([asdict(recipe) for recipe in RECIPES.values()]))
        return
    width = max(map(len, RECIPES))
    for recipe in RECIPES.values():
        print(f"{recipe.letter or ' '}  {recipe.name:<{width}}  {recipe.title}")


# --- The command line ------------------------------------------------------------------------------------------------
class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        import fastnn

        print(f"fastnn {fastnn.__version__}")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="fastnn", description="Neural networks for handwritten digits, from scratch, on a CPU.")
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)

    def add(name: str, command: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        added.set_defaults(command=command)
        added.add_argument("--json", action="store_true", help="print one JSON value on stdout instead of text")
        return added

    train = add("train", _train, "train a network, on MNIST unless told otherwise, and write the folder of the run")
    source = train.add_mutually_exclusive_group()
    source.add_argument("--recipe", metavar="NAME", help="a run with all its settings: see fastnn recipes")
    source.add_argument("--data", metavar="FILE", nargs="+", help="train on CSV, NPZ or IDX files of your own")
    _add_backend(train)
    train.add_argument("--hidden", metavar="UNITS", nargs="*", type=int, help="units of each hidden layer")
    train.add_argument("--activation", choices=("relu", "tanh", "logistic", "identity"), default="relu")
    train.add_argument("--epochs", metavar="N", type=int)
    train.add_argument("--batch-size", metavar="N", type=_batch_size, help="samples a step, or 'full' for all")
    train.add_argument("--learning-rate", metavar="RATE", type=float)
    train.add_argument(
        "--schedule", metavar="NAME[:VALUE,...]", help="constant, step, inverse-time, exponential, cosine"
    )
    train.add_argument("--warm-up", metavar="N", type=int, default=0, help="epochs in which the rate rises at first")
    train.add_argument("--optimizer", choices=("sgd", "momentum", "nesterov", "adam"))
    train.add_argument("--l2", metavar="L2", type=float, help="loss: cross-entropy + L2 / 2 * sum of squared weights")
    train.add_argument("--dropout", metavar="RATE", type=float, help="share of hidden units dropped")
    train.add_argument("--patience", metavar="N", type=int, help="stop after N epochs without a better validation loss")
    train.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    train.add_argument("--seed", metavar="SEED", type=int, default=0)
    train.add_argument("--threads", metavar="N", type=int, help="default: the cores this process may use")
    train.add_argument("--out", metavar="FOLDER", help="the folder of the run; default: runs/DATE-NAME")

    evaluate = add("evaluate", _evaluate, "measure a saved model on labelled data")
    evaluate.add_argument("model", metavar="MODEL", help="a model.safetensors")
    evaluate.add_argument(
        "--data", metavar="FILE", nargs="+", help="CSV, NPZ or IDX files; default: MNIST's test images"
    )
    _add_backend(evaluate)

    predict = add("predict", _predict, "say which digits photos or drawings show")
    predict.add_argument("model", metavar="MODEL", help="a model.safetensors")
    predict.add_argument("image", metavar="IMAGE", nargs="+", help="a PNG, JPEG or other picture of one digit")
    _add_backend(predict)

    report = add("report", _report, "write the report of a run: one HTML file, pictures inside, that opens offline")
    report.add_argument("run", metavar="RUN", help="the folder of a run")
    report.add_argument("--out", metavar="FILE", help="the file to write; default: report.html in the folder")
    report.add_argument(
        "--data",
        metavar="FILE",
        nargs="+",
        help="where the run's own --data files are now; default: where they were",
    )
    _add_backend(report)

    compare = add("compare", _compare, "lay runs side by side: the settings that differ, the results, the curves")
    compare.add_argument("run", metavar="RUN", nargs="+", help="the folders of two or more runs")
    compare.add_argument("--out", metavar="FILE", help="draw the curves into FILE: .png, .svg, .pdf, ...")
    explain = add("explain", _explain, "show how a saved model comes to its answer for one sample, number by number")
    explain.add_argument("model", metavar="MODEL", help="a model.safetensors")
    sample = explain.add_mutually_exclusive_group(required=True)
    sample.add_argument("image", metavar="IMAGE", nargs="?", help="a PNG, JPEG or other picture of one digit")
    sample.add_argument("--row", metavar="N", type=int, help="or sample N of the data, from 0, with its label")
    explain.add_argument(
        "--data", metavar="FILE", nargs="+", help="for --row: CSV, NPZ or IDX files; default: MNIST's test images"
    )
    explain.add_argument(
        "--label", metavar="CLASS", help="the true class: adds the loss and the gradients of each layer"
    )
    explain.add_argument(
        "--out", metavar="FIGURE", help="write a figure too; its ending says the format: .png, .svg, ..."
    )

    add("recipes", _recipes, "list the recipes")
    warmup = add(
        "warmup", _warmup, "compile all kernels for this CPU now, or load them, so that no later run has to wait"
    )
    warmup.add_argument(
        "--dtype",
        nargs="+",
        choices=["float32", "float64"],
        default=["float32"],
        help="of the networks (default: float32)",
    )
    return parser


def _add_backend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backend", choices=("auto", "numba", "numpy"), default="auto")


def _batch_size(text: str) -> int | str:
    try:
        return text if text == "full" else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a whole number nor 'full'") from None


# --- Ways out --------------------------------------------------------------------------------------------------------
def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _fail(error: BaseException, code: int, prefix: str = "") -> int:
    _say(f"fastnn: {prefix}{error}")
    return code


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    text = str(message)
    _say(text if text.startswith("fastnn: ") else f"fastnn: {category.__name__}: {text}")


@contextlib.contextmanager
def _notices() -> Iterator[None]:
    """What the library logs, such as that it compiles kernels now, goes to stderr as lines of the command's own."""
    import logging

    class ToStderr(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            _say(f"fastnn: {record.getMessage()}")

    logger, handler = logging.getLogger("fastnn"), ToStderr()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def _on_sigterm(handler: Any) -> None:
    with contextlib.suppress(ValueError):  # only the main thread may; elsewhere the caller's own handling stands
        signal.signal(signal.SIGTERM, handler)


def _raise_terminated(*_: Any) -> NoReturn:
    raise _Terminated
