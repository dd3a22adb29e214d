"""`fastnn predict`: predicts the digits in photos and drawings."""

import argparse
import json

from fastnn.cli.options import AddCommand, add_backend
from fastnn.cli.samples import prepare_pictures


def register(add: AddCommand) -> None:
    parser = add("predict", run, "predict the digits in photos or drawings")
    parser.add_argument("model", metavar="MODEL", help="model file, such as RUN/model.safetensors")
    parser.add_argument("image", metavar="IMAGE", nargs="+", help="PNG, JPEG or other picture of one digit")
    add_backend(parser)


def run(options: argparse.Namespace) -> None:
    from fastnn.backends import get_backend
    from fastnn.files.model_file import load_classifier

    model = load_classifier(options.model)
    rows = prepare_pictures(options.image, options.model, model)
    labels, proba = model.decide(get_backend(options.backend).predict_proba(model.network, rows))
    predictions = [
        {"image": str(image), "prediction": label, "probability": float(row.max())}
        for image, label, row in zip(options.image, labels.tolist(), proba, strict=True)
    ]
    if options.json:
        print(json.dumps(predictions))
        return
    for prediction in predictions:
        print(f"{prediction['image']}: {prediction['prediction']} ({prediction['probability']:.1%})")
