"""`fastnn compare`: compares runs side by side."""

import argparse
import json

from fastnn.cli.options import AddCommand


def register(add: AddCommand) -> None:
    parser = add(
        "compare",
        run,
        "compare runs: settings that differ, results, learning curves",
        """
  fastnn compare runs/*                           a table of all runs
  fastnn compare runs/a runs/b --out curves.png   with their learning curves in one figure
""",
    )
    parser.add_argument("run", metavar="RUN", nargs="+", help="folder of a run; give two or more")
    parser.add_argument("--out", metavar="FILE", help="save the learning curves as a figure: .png, .svg, .pdf, ...")


def run(options: argparse.Namespace) -> None:
    from fastnn.checks import display_path
    from fastnn.runs.compare import compare

    comparison = compare(options.run)
    figure = None if options.out is None else str(comparison.save_figure(options.out))
    if options.json:
        runs = [
            {
                "run": str(run.path),
                **{name: values[index] for name, values in comparison.metrics.items()},
                "settings": {name: values[index] for name, values in comparison.settings.items()},
            }
            for index, run in enumerate(comparison.runs.values())
        ]
        print(json.dumps({"runs": runs, "figure": figure}))
        return
    print(comparison.table())
    if figure is not None:
        print(f"figure {display_path(figure)}")
