"""`fastnn explain`: explains a model's prediction for one sample."""

import argparse
import json

from fastnn.cli.options import AddCommand
from fastnn.cli.samples import prepare_pictures, read_test_data
from fastnn.errors import SettingsError


def register(add: AddCommand) -> None:
    parser = add("explain", run, "explain a model's prediction for one sample, number by number")
    parser.add_argument("model", metavar="MODEL", help="model file, such as RUN/model.safetensors")
    sample = parser.add_mutually_exclusive_group(required=True)
    sample.add_argument("image", metavar="IMAGE", nargs="?", help="PNG, JPEG or other picture of one digit")
    sample.add_argument("--row", metavar="N", type=int, help="explain sample N of the data, counted from 0")
    parser.add_argument(
        "--data",
        metavar="FILE",
        nargs="+",
        help="CSV, NPZ or IDX files that --row selects from (default: MNIST's test images)",
    )
    parser.add_argument(
        "--label",
        metavar="CLASS",
        help="true class; adds the loss and each layer's gradients (default with --row: the sample's label)",
    )
    parser.add_argument(
        "--out", metavar="FIGURE", help="also save a figure; the file ending sets the format: .png, .svg, ..."
    )


def run(options: argparse.Namespace) -> None:
    from fastnn.checks import check_choice, check_integer
    from fastnn.explanation import ExplainDisplay, explain
    from fastnn.files.model_file import load_classifier

    model = load_classifier(options.model)
    names, label = list(model.class_names), None
    if options.image is not None:
        if options.data:
            raise SettingsError("--data is given with an IMAGE, expected it with --row, which selects the sample")
        row = prepare_pictures([options.image], options.model, model)[0]
    else:
        data = read_test_data(options.data)
        index = check_integer("--row", options.row, 0, len(data) - 1)
        row, label = data.images[index], None if data.labels is None else int(data.labels[index])
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
