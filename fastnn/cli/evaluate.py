"""`fastnn evaluate`: evaluates a saved model on labelled data."""

import argparse
import json
from dataclasses import asdict

from fastnn.cli.options import AddCommand, add_backend
from fastnn.cli.samples import read_test_data


def register(add: AddCommand) -> None:
    parser = add("evaluate", run, "evaluate a saved model on labelled data")
    parser.add_argument("model", metavar="MODEL", help="model file, such as RUN/model.safetensors")
    parser.add_argument(
        "--data", metavar="FILE", nargs="+", help="CSV, NPZ or IDX files (default: MNIST's test images)"
    )
    add_backend(parser)


def run(options: argparse.Namespace) -> None:
    from fastnn.evaluation.evaluate import evaluate_classes
    from fastnn.files.model_file import load_classifier

    model, data = load_classifier(options.model), read_test_data(options.data)
    scores = evaluate_classes(model.network, data, options.backend)
    if options.json:
        result = {
            "accuracy": scores.accuracy,
            "loss": scores.loss,
            "samples": len(data),
            "per_class": [asdict(score) for score in scores.per_class],
            "confusion": scores.confusion.tolist(),
        }
        print(json.dumps(result))
        return
    print(f"{model.network}")
    print(f"accuracy {scores.accuracy:.2%}, loss {scores.loss:.4f} on {len(data):,} samples of {data.name}")
    print("class  precision  recall      f1  samples")
    for name, score in zip(model.class_names, scores.per_class, strict=True):
        print(f"{name!s:>5}  {score.precision:9.2%}  {score.recall:6.2%}  {score.f1:6.2%}  {score.support:7,}")
