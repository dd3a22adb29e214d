"""`fastnn evaluate`: evaluates a saved model on labelled data."""

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fastnn.cli.data import FILES, add_test_data, open_test_data, read_test_data
from fastnn.cli.models import add_copies, add_model, given_copies, load_model
from fastnn.cli.options import AddCommand, add_backend
from fastnn.cli.output import printable, say_notes

if TYPE_CHECKING:
    from fastnn.evaluation.evaluate import ClassEvaluation, RegressionEvaluation


def register(add: AddCommand) -> None:
    parser = add("evaluate", run, "evaluate a saved model on labelled data")
    add_model(parser)
    add_test_data(parser, FILES, blocks=True)
    add_copies(parser)
    add_backend(parser)


def run(options: argparse.Namespace) -> None:
    from fastnn.evaluation.evaluate import RegressionEvaluation, evaluate_model

    copies = given_copies(options)
    model = load_model(options.model, options.member)
    blocks = open_test_data(options, model)
    data = read_test_data(options, model) if blocks is None else blocks
    say_notes(data.notes, options)
    scores = evaluate_model(model, data, options.backend, copies)
    if options.json:
        print(json.dumps({**_as_json(scores, model.classes), "samples": len(data)}))
        return
    print(model.summary)
    if isinstance(scores, RegressionEvaluation):
        print(f"R2 {scores.r2:.4f} on {len(data):,} samples of {data.name}")
        print(f"root mean squared error {scores.rmse:.4g}, mean absolute error {scores.mae:.4g}")
        return
    print(f"accuracy {scores.accuracy:.2%}, loss {scores.loss:.4f} on {len(data):,} samples of {data.name}")
    names = [printable(name, lines=False) for name in model.class_names]
    width = max(5, *map(len, names))
    print(f"{'class':>{width}}  precision  recall      f1  samples")
    for name, score in zip(names, scores.per_class, strict=True):
        print(f"{name:>{width}}  {score.precision:9.2%}  {score.recall:6.2%}  {score.f1:6.2%}  {score.support:7,}")


def _as_json(scores: "ClassEvaluation | RegressionEvaluation", classes: Any) -> dict[str, Any]:
    from fastnn.evaluation.evaluate import RegressionEvaluation

    if isinstance(scores, RegressionEvaluation):
        return {"r2": None if scores.r2 != scores.r2 else scores.r2, "rmse": scores.rmse, "mae": scores.mae}
    return {
        "accuracy": scores.accuracy,
        "loss": scores.loss,
        "per_class": [
            {**asdict(score), "label": label} for label, score in zip(classes or (), scores.per_class, strict=True)
        ],
        "confusion": scores.confusion.tolist(),
    }
