"""`fastnn warmup`: compiles all kernels for this CPU, or loads them from disk, so that later runs need not wait."""

import argparse
import json

from fastnn.cli.options import AddCommand


def register(add: AddCommand) -> None:
    parser = add(
        "warmup",
        run,
        "compile all kernels for this CPU now, before they are needed",
        """
  fastnn warmup                            once, after an installation: about a minute
  fastnn warmup --dtype float32 float64    also for networks of double precision
""",
    )
    parser.add_argument(
        "--dtype",
        nargs="+",
        choices=["float32", "float64"],
        default=["float32"],
        help="floating-point types to compile for (default: float32)",
    )


def run(options: argparse.Namespace) -> None:
    from fastnn.backends.warmup import warmup

    result = warmup(options.dtype)
    if options.json:
        print(json.dumps({**result._asdict(), "compiled": list(result.compiled)}))
        return
    names = f"compiled {', '.join(dict.fromkeys(result.compiled))}" if result.compiled else "nothing to compile"
    print(
        f"{names}; {result.loaded} kernels loaded; {result.seconds:.2f} s, {result.compile_seconds:.2f} s of compiling"
    )
