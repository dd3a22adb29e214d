"""`fastnn export`: writes a saved model as a program or a file for other software."""

import argparse
import json
import os
from typing import TYPE_CHECKING, Any

from fastnn.cli.data import FILES, add_data, read_test_data, reading
from fastnn.cli.models import add_model, load_model, run_folder
from fastnn.cli.options import AddCommand
from fastnn.cli.output import say_notes
from fastnn.errors import SettingsError

if TYPE_CHECKING:
    from fastnn.models import Model

# The dtypes of each format, the usual one first; the ending of a file is the name of its format.
FORMATS = {"c": ("float32", "int8"), "onnx": (), "html": ("float32", "float16", "int8")}


def register(add: AddCommand) -> None:
    parser = add(
        "export",
        run,
        "write a saved model as C source, as ONNX, or as a page",
        """
  fastnn export runs/RUN --format c                       write runs/RUN/model.c: the network as one C99 file
  fastnn export runs/RUN --format c --dtype int8          the same in 8-bit integers, a quarter of the size
  fastnn export model.safetensors --format c --dtype int8 --data rows.csv --out digits.c
  fastnn export runs/RUN --format onnx                    write runs/RUN/model.onnx, for onnxruntime
  fastnn export runs/RUN --format html                    write runs/RUN/model.html, the page of fastnn page
""",
    )
    add_model(parser)
    parser.add_argument("--format", choices=tuple(FORMATS), required=True, help="what to write")
    parser.add_argument(
        "--out", metavar="FILE", help="file to write (default: beside the model, with the ending of the format)"
    )
    parser.add_argument(
        "--dtype",
        choices=FORMATS["html"],
        help="what C computes in, float32 or int8; how a page stores weights (default: float32)",
    )
    parser.add_argument("--name", metavar="PREFIX", help="prefix of all names in C (default: the name of the file)")
    parser.add_argument(
        "--input-dtype",
        choices=("uint8", "float32", "float64"),
        help="type of the inputs (default: of C, uint8 for pixels, else float32; of ONNX, that of the network)",
    )
    rows = "typical rows, which int8 takes its ranges from and the export is tested on, or the samples of a page"
    add_data(parser, f"{rows}: {FILES} (default for int8: the training data of the run)")
    parser.set_defaults(recipe=None)


def run(options: argparse.Namespace) -> None:
    if options.dtype is not None and options.dtype not in FORMATS[options.format]:
        expected = " or ".join(FORMATS[options.format]) or "none"
        raise SettingsError(f"--dtype is {options.dtype} with --format {options.format}, expected {expected}")
    for option, formats in (("name", ("c",)), ("input_dtype", ("c", "onnx"))):
        if getattr(options, option) is not None and options.format not in formats:
            flag = option.replace("_", "-")
            raise SettingsError(f"--{flag} is given with --format {options.format}, expected it with {formats[0]}")
    model = load_model(options.model, options.member)
    out = options.out or _beside(options.model, f".{options.format}")
    write = {"c": _write_c, "onnx": _write_onnx, "html": _write_page}[options.format]
    found = write(options, out, model)
    if options.json:
        print(json.dumps({"export": out, **found}))
        return
    from fastnn.checks import display_path

    print(f"{options.format} {display_path(out)}")
    if "weight_bytes" in found:
        sizes = f"{found['weight_bytes']:,} bytes of constants, {found['scratch_bytes']:,} bytes to predict in"
        print(f"{found['dtype']}, inputs {found['input_dtype']}, {sizes}")
    if "same" in found:
        same = f"; the largest output is that of float32 for {found['same']:.2%}" if model.classes is not None else ""
        print(f"mean difference from float32 on {found['n_compared']:,} other rows: {found['difference']:.2g}{same}")
    if "model_accuracy" in found:
        print(f"accuracy {found['accuracy']:.2%}, that of the model {found['model_accuracy']:.2%}")


def _beside(model: str, ending: str) -> str:
    return os.path.join(model, f"model{ending}") if os.path.isdir(model) else os.path.splitext(model)[0] + ending


def _rows(options: argparse.Namespace, model: "Model") -> Any:
    """Return the rows that the options name; for int8, else those of the run; None for random rows."""
    if options.data:
        from fastnn.datasets.containers.samples import read_samples

        data, _ = read_samples(options.data, model.row_format, None, **reading(options))
        say_notes(data.notes, options)
        return data.images
    described = next(iter(reading(options)), None)
    if described is not None:
        raise SettingsError(f"--{described.replace('_', '-')} describes the files of --data, which is not given")
    if options.dtype != "int8":
        return None
    folder = run_folder(options.model)
    if folder is None:
        raise SettingsError("--dtype int8 needs typical rows of the inputs: give --data FILE, or the folder of a run")
    from fastnn.evaluation.evaluate import with_columns_of
    from fastnn.runs.saved import load_training_data, read_run

    return with_columns_of(model, load_training_data(read_run(folder))).images


def _write_c(options: argparse.Namespace, out: str, model: "Model") -> dict[str, Any]:
    from fastnn.files.c_source import export_c

    dtype, rows = options.dtype or "float32", _rows(options, model)
    export = export_c(out, model, dtype=dtype, rows=rows, name=options.name, input_dtype=options.input_dtype)
    return {name: value for name, value in export._asdict().items() if value is not None}


def _write_onnx(options: argparse.Namespace, out: str, model: "Model") -> dict[str, Any]:
    from fastnn.files.onnx import export_onnx

    export_onnx(out, model, rows=_rows(options, model), input_dtype=options.input_dtype)
    return {}


def _write_page(options: argparse.Namespace, out: str, model: "Model") -> dict[str, Any]:
    from fastnn.pages.page import write_page

    data = read_test_data(options, model)
    say_notes(data.notes, options)
    page = write_page(model, data, out, options.dtype or "float32")
    return {"bytes": page.n_bytes, "accuracy": page.accuracy, "model_accuracy": page.model_accuracy}
