"""`fastnn page`: writes a page that runs a network in a browser, as a single HTML file."""

import argparse
import json
import os

from fastnn.cli.data import FILES, add_test_data, read_test_data
from fastnn.cli.models import add_model, load_model
from fastnn.cli.options import AddCommand, Parser, add_backend
from fastnn.cli.output import say_notes, working


def register(add: AddCommand) -> None:
    parser = add(
        "page",
        run,
        "write a page to share: a network that runs in a browser, in a single HTML file",
        """
  fastnn page runs/RUN                            write runs/RUN/page.html
  fastnn page runs/RUN --out digits.html          write it elsewhere
  fastnn page model.safetensors --weights int8    a smaller file
""",
    )
    add_model(parser)
    parser.add_argument("--out", metavar="FILE", help="file to write (default: page.html in the folder of the model)")
    parser.defer(_add_weights)
    add_test_data(parser, f"{FILES}: the samples that show what the network gets right and wrong")
    add_backend(parser)


def _add_weights(parser: Parser) -> None:
    from fastnn.pages.page import WEIGHT_TYPES

    parser.add_argument(
        "--weights",
        choices=WEIGHT_TYPES,
        default=WEIGHT_TYPES[0],
        help=f"how the file stores the weights: float16 halves them, int8 quarters them (default: {WEIGHT_TYPES[0]})",
    )


def run(options: argparse.Namespace) -> None:
    from fastnn.checks import display_path
    from fastnn.files.snapshot_file import SNAPSHOTS
    from fastnn.pages.page import PAGE, write_page

    model = load_model(options.model, options.member)
    folder = options.model if os.path.isdir(options.model) else os.path.dirname(options.model)
    with working("writing the page", options.quiet):
        data = read_test_data(options, model)
        say_notes(data.notes, options)
        out = os.path.join(folder, PAGE) if options.out is None else options.out
        path = os.path.join(folder, SNAPSHOTS)
        snapshots = path if os.path.exists(path) else None
        page = write_page(model, data, out, options.weights, snapshots=snapshots, backend=options.backend)
    change = 100 * (page.accuracy - page.model_accuracy)
    if options.json:
        result = {"page": str(page.path), "bytes": page.n_bytes, "weights": options.weights, "samples": page.n_samples}
        print(json.dumps({**result, "accuracy": page.accuracy, "model_accuracy": page.model_accuracy}))
        return
    print(f"page {display_path(page.path)}, {page.n_bytes / 1000:,.0f} kB")
    print(f"accuracy {page.accuracy:.2%} on {page.n_samples:,} samples of {page.data_name}")
    if options.weights != "float32":
        print(f"{options.weights} changes the accuracy by {change:+.2f} points, from {page.model_accuracy:.2%}")
