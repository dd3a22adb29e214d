"""`fastnn explain`: shows how a model comes to its answer for one sample."""

import argparse
import json

from fastnn.cli.options import AddCommand
from fastnn.cli.samples import prepare_pictures, read_test_data
from fastnn.errors import SettingsError


def register(add: AddCommand) -> None:
    """Add the command and its options."""
    parser = add("explain", run, "show how a saved model comes to its answer for one sample, number by number")
    parser.add_argument("model", metavar="MODEL", help="a model.safetensors")
    sample = parser.add_mutually_exclusive_group(required=True)
    sample.add_argument("image", metavar="IMAGE", nargs="?", help="a PNG, JPEG or other picture of one digit")
    sample.add_argument("--row", metavar="N", type=int, help="or sample N of the data, from 0, with its label")
    parser.add_argument(
        "--data", metavar="FILE", nargs="+", help="for --row: CSV, NPZ or IDX files; default: MNIST's test images"
    )
    parser.add_argument(
        "--label", metavar="CLASS", help="the true class: adds the loss and the gradients of each layer"
    )
    parser.add_argument(
        "--out", metavar="FIGURE", help="write a figure too; its ending says the format: .png, .svg, ..."
    )


def run(options: argparse.Namespace) -> None:
    from fastnn.checks import check_choice, check_integer
    from fastnn.explanation import ExplainDisplay, explain
    from fastnn.files.model_file import load_classifier

    model = load_classifier(options.model)
    names, label = list(model.class_names), None
    if options.image is not None:
        if options.data:
            raise SettingsError("--data goes with --row, which says the sample of it, not with an IMAGE")
        row = prepare_pictures([options.image], options.model, model)[0]
    else:
        data = read_test_data(options.data)
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
