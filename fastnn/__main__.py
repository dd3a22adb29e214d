"""Run the command line: `python -m fastnn`."""

from fastnn.cli.command import main

if __name__ == "__main__":
    raise SystemExit(main())
