"""`fastnn report`: writes the report of a run as a single HTML file."""

import argparse
import json

from fastnn.cli.options import AddCommand, add_backend
from fastnn.cli.output import working


def register(add: AddCommand) -> None:
    parser = add(
        "report",
        run,
        "write the report of a run: a single HTML file that works offline",
        """
  fastnn report runs/RUN                          write runs/RUN/report.html
  fastnn report runs/RUN --out page.html          write it elsewhere
  fastnn report runs/RUN --data moved/table.csv   the table of the run stands elsewhere now
""",
    )
    parser.add_argument("run", metavar="RUN", help="folder of a run")
    parser.add_argument("--out", metavar="FILE", help="file to write (default: RUN/report.html)")
    parser.add_argument(
        "--data", metavar="FILE", nargs="+", help="new location of the run's --data files (default: where they were)"
    )
    add_backend(parser)


def run(options: argparse.Namespace) -> None:
    with working("writing the report", options.quiet):
        from fastnn.checks import display_path
        from fastnn.runs.report import write_report

        path = write_report(options.run, options.out, data=options.data, backend=options.backend)
    print(json.dumps({"report": str(path)}) if options.json else f"report {display_path(path)}")
