"""`fastnn explain`: explains a model's prediction for one sample."""

import argparse
import json

from fastnn.cli.data import FILES, add_test_data, read_test_data
from fastnn.cli.models import add_model, load_model
from fastnn.cli.options import AddCommand
from fastnn.cli.output import say_notes
from fastnn.errors import SettingsError


def register(add: AddCommand) -> None:
    parser = add("explain", run, "explain a model's prediction for one sample, number by number")
    add_model(parser)
    sample = parser.add_mutually_exclusive_group(required=True)
    sample.add_argument("image", metavar="IMAGE", nargs="?", help="PNG, JPEG or other picture of one digit")
    sample.add_argument("--row", metavar="N", type=int, help="explain sample N of the data, counted from 0")
    add_test_data(parser, f"{FILES} that --row selects from", flags=("--label-column",))
    parser.add_argument(
        "--label",
        dest="true_class",
        metavar="CLASS",
        help="true class; adds the loss and each layer's gradients (default with --row: the sample's label)",
    )
    parser.add_argument(
        "--out", metavar="FIGURE", help="also save a figure; the file ending sets the format: .png, .svg, ..."
    )


def run(options: argparse.Namespace) -> None:
    from fastnn.checks import check_choice, check_integer, display_path
    from fastnn.evaluation.evaluate import data_for
    from fastnn.explanation import ExplainDisplay, explain
    from fastnn.models.pictures import picture_rows

    model = load_model(options.model, options.member)
    names, label = list(model.class_names), None
    if options.image is not None:
        given = next((name for name in ("data", "recipe") if getattr(options, name)), None)
        if given:
            raise SettingsError(f"--{given} is given with an IMAGE, expected it with --row, which selects the sample")
        row = picture_rows(model.row_format, [options.image])[0]
    else:
        data = read_test_data(options, model)
        say_notes(data.notes, options)
        index = check_integer("--row", options.row, 0, len(data) - 1)
        sample = data_for(model, data.take([index]))
        row = sample.images[0]
        if model.classes is not None and sample.labels is not None and not sample.has_targets:
            label = model.classes[int(sample.labels[0])]
    if options.true_class is not None:
        label = check_choice("--label", options.true_class, names)
    explanation = explain(model, row, label)
    figure = None if options.out is None else str(ExplainDisplay(explanation).save(options.out))
    if options.json:
        print(json.dumps({**explanation.to_dict(), "figure": figure}))
        return
    print(explanation)
    if figure is not None:
        print(f"\nfigure {display_path(figure)}")
