"""`fastnn convert`: writes data of any format, larger than memory or not, as an NPY file with labels beside it."""

import argparse
import json
import time
from collections.abc import Callable

from fastnn.cli.options import AddCommand
from fastnn.cli.output import say, say_notes

_SECONDS_BETWEEN_LINES = 5.0


def register(add: AddCommand) -> None:
    parser = add(
        "convert",
        run,
        "write data of any format and size as an NPY file, which is read in the least time",
        """
  fastnn convert mnist8m.svm mnist8m.npy                  writes mnist8m.npy and mnist8m.labels.npy, a block at a time
  fastnn convert 'part-*.parquet' all.npy --labels digit  several files as one; the column digit has the labels
  fastnn convert images.h5 x.npy --images train/x --labels train/y
  fastnn convert train-images-idx3-ubyte.gz x.npy         finds train-labels-idx1-ubyte.gz beside it
""",
    )
    parser.add_argument("files", metavar="IN", nargs="+", help="files or a pattern in quotation marks; a folder")
    parser.add_argument("out", metavar="OUT.npy", help="file to write; the labels go to OUT.labels.npy")
    parser.add_argument(
        "--labels", metavar="NAME", help="column, key or file of the labels, or none (default: the names tell)"
    )
    parser.add_argument("--images", metavar="KEY", help="key of the images in NPZ, HDF5 or Zarr (default: by its name)")
    parser.add_argument("--dtype", choices=("uint8", "float32", "float64"), help="type to write (default: by the data)")
    parser.add_argument(
        "--task",
        choices=("auto", "classification", "regression"),
        default="auto",
        help="what labels are (default: auto)",
    )
    parser.add_argument("--block-rows", metavar="N", type=int, default=65_536, help="rows in memory (default: 65536)")


def run(options: argparse.Namespace) -> None:
    from fastnn.checks import display_path
    from fastnn.files.npy_file import convert
    from fastnn.streams import open_data

    data = open_data(
        options.files[0] if len(options.files) == 1 else options.files,
        options.labels,
        images=options.images,
        block_rows=options.block_rows,
        dtype=options.dtype,
        task=options.task,
    )
    say_notes(data.notes, options)
    written = convert(data, options.out, dtype=options.dtype, notify=None if options.quiet else _progress())
    if options.json:
        print(json.dumps({"images": options.out, **written._asdict()}))
        return
    print(f"images {display_path(options.out)}: {' x '.join(map(str, written.shape))} {written.dtype}")
    if written.labels is not None:
        print(f"labels {display_path(written.labels)}")


def _progress() -> Callable[[int, int], None]:
    """Return a function that says how far a conversion is, every few seconds."""
    start = last = time.monotonic()

    def notify(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _SECONDS_BETWEEN_LINES and done:
            last = now
            left = (now - start) * (total - done) / done
            say(f"{done:,} of {total:,} rows, {left:,.0f} s left")

    return notify
