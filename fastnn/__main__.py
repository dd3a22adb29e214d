"""Run the command line in a process of its own: `python -m fastnn`, and the script `fastnn`."""

import os
import sys
from typing import NoReturn

from fastnn.cli.signals import SIGNALS


def run() -> NoReturn:
    """Run the command line of this process and exit with its code.

    Signals are answered from here on, while the command is imported, too, and until the process has ended. After a
    signal, nothing that still runs in another thread is waited for.
    """
    SIGNALS.install()
    _reserve_standard_descriptors()
    os.environ["MPLBACKEND"] = "Agg"  # figures go to files only, whatever backend is set, installed or misspelt
    try:
        from fastnn.cli.command import main

        code = main()
    except KeyboardInterrupt:
        code = SIGNALS.exit_code
    if SIGNALS.received is None:
        raise SystemExit(code)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):  # closed
            continue
    os._exit(code)


def _reserve_standard_descriptors() -> None:
    """Open the null device where stdin, stdout or stderr is closed, so that no file of a run takes its place.

    Python's streams stay None: a result that cannot be printed is an error. Other packages write to descriptors.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


if __name__ == "__main__":
    run()
