"""`fastnn compare`: lays runs side by side."""

import argparse
import json

from fastnn.cli.options import AddCommand


def register(add: AddCommand) -> None:
    """Add the command and its options."""
    parser = add("compare", run, "lay runs side by side: the settings that differ, the results, the curves")
    parser.add_argument("run", metavar="RUN", nargs="+", help="the folders of two or more runs")
    parser.add_argument("--out", metavar="FILE", help="draw the curves into FILE: .png, .svg, .pdf, ...")


def run(options: argparse.Namespace) -> None:
    from fastnn.runs.compare import compare

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
