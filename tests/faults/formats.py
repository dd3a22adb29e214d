"""The formats that fastnn reads: small intact files of each, the functions that read them, and their structures."""

import bz2
import csv
import gzip
import io
import json
import lzma
import struct
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.io
from PIL import Image

import fastnn
from fastnn.cli.command import parser
from fastnn.files.checkpoint_file import RunState, write_checkpoint
from fastnn.runs.saved import HISTORY, REPORT, read_run
from tests.faults import mutations
from tests.faults.mutations import Structure

GOLDEN = Path(__file__).parents[1] / "files" / "golden"
RNG = np.random.default_rng(20)
PIXELS = RNG.integers(0, 256, (6, 4, 4), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2], np.uint8)


class Format(NamedTuple):
    """A row of the table. `name` of a file has its suffix; `cases` is the number of files that CI damages."""

    name: str
    intact: Sequence[bytes]
    read: Callable[[Path], Any]
    structures: Sequence[Structure] = ()
    cases: int = 400


def _idx(values: np.ndarray, code: int = 8) -> bytes:
    header = bytes([0, 0, code, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    return header + values.astype(values.dtype.newbyteorder(">")).tobytes()


def _written(save: Callable[[io.BytesIO], Any]) -> bytes:
    target = io.BytesIO()
    save(target)
    return target.getvalue()


def _pack(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


CSV = (
    b"length,width,weight,species\n5.1,1,1e2,setosa\n4.9,0,-3,virginica\n6.2,2,0.5,setosa\n"
    b"5.0,7,2,versicolor\n7,11,2.25,virginica\n5.5,0,1,versicolor\n"
)
PIXEL_CSV = "\n".join(
    [
        ",".join(["label", *(f"pixel{k}" for k in range(16))]),
        *(",".join(map(str, [label, *image.ravel()])) for label, image in zip(LABELS, PIXELS, strict=True)),
    ]
).encode()
QUOTED_CSV = (
    '"x"; "a ""name""";"y"\r\n1,5;"2";"two\nlines"\r\n2,5;3;ä\r\n3,25;"-1e3";ä\r\n-1;0;"two\nlines"\r\n'.encode()
)
ARFF = (
    b"% comment\n@relation flowers\n@attribute length numeric\n@attribute 'the width' real\n"
    b"@attribute class {a,b,c}\n@data\n1.5,2,a\n3,4.5,b\n2.5,1,c\n-1e3,1,a\n"
)
SVMLIGHT = b"# a comment\n1 1:0.5 3:2 7:1e-3\n-1 2:1 3:-4 # end\n1 1:1 2:2\n-1 7:3\n"
JSON_LINES = b'{"x": 1, "y": 2.5, "label": "a"}\n{"x": 3, "y": 4, "label": "b"}\n{"x": 5, "y": 1, "label": "a"}\n'


def _mat() -> bytes:
    arrays = {"X": PIXELS.reshape(6, 16).astype(float), "y": LABELS[:, None]}
    data = _written(lambda target: scipy.io.savemat(target, arrays, do_compression=True))
    return b"MATLAB 5.0 MAT-file".ljust(116) + data[116:]  # without the date


def _npz(**arrays: Any) -> bytes:
    return _written(lambda target: np.savez(target, **arrays))


SPLIT = {"x_train": PIXELS, "y_train": LABELS, "x_test": PIXELS[:2], "y_test": LABELS[:2]}
SPARSE = {
    "format": b"csr", "shape": [3, 4], "data": [1.0, 2, 3], "indices": [0, 3, 1], "indptr": [0, 2, 2, 3],
    "y": [0, 1, 0],
}  # fmt: skip


def _picture(kind: str, mode: str = "L", **options: Any) -> bytes:
    """Return a picture of a dark vertical stroke on light paper."""
    grey = np.full((24, 20), 230, np.uint8)
    grey[4:20, 9:12] = 30
    picture = Image.fromarray(grey).convert(mode)
    return _written(lambda target: picture.save(target, kind, **options))


def _zip(members: dict[str, bytes]) -> bytes:
    return mutations.zipped.join([part for name, data in members.items() for part in (name.encode(), data)])


def _tar(members: dict[str, bytes]) -> bytes:
    def save(target: io.BytesIO) -> None:
        with tarfile.open(fileobj=target, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            for name, data in members.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))

    return _written(save)


FOLDER = {f"{name}/{k}.png": _picture("PNG") for name in "ab" for k in range(2)}


def _frame() -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(CSV))


REPORT_TEXT = json.dumps(
    {
        "network": "n", "stopped": "epochs", "backend": "numpy", "epochs": 2, "best_epoch": 2, "seconds": 0.5,
        "settings": {"recipe": "digits", "files": None, "seed": 0, "hidden": [16], "learning_rate": 0.1},
        "data": {
            part: {"name": "d", "samples": 3, "inputs": 4, "sha256": "00"} for part in ("train", "validation", "test")
        },
        "versions": {"python": "3"}, "machine": {"system": "x"}, "test_accuracy": 0.5, "test_loss": 1.5,
        "diagnosis": [{"name": "n", "evidence": "e", "advice": "a"}], "task": "classification",
    },
    indent=2,
).encode()  # fmt: skip


def _history() -> bytes:
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["epoch", "learning_rate", "loss", "accuracy", "validation_loss", "validation_accuracy", "seconds"])
    rows.writerows([[1, 0.1, 2.5, 0.5, "", "", 0.1], [2, 0.1, 1.5, 0.75, "", "", 0.1]])
    return table.getvalue().encode()


TOML = (
    b'hidden = [32, 16]  # units\nepochs = 3\noptimizer = "adam"\nlearning-rate = 1e-3\nschedule = "step:0.5,10"\n'
    b'batch-size = 16\nseed = 7\ndata = ["a.csv", "b.csv"]\nstandardize = true\n[reading]\nlabel = "y"\n'
)


def _read_settings(path: Path) -> Any:
    return parser().parse_args(["train", "--config", str(path)])


def _read_run_with(name: str) -> Callable[[Path], Any]:
    """Return a reader of a run folder in which the file `name` is the given one."""

    def read(path: Path) -> Any:
        folder = path.parent / "run"
        folder.mkdir(exist_ok=True)
        for other, content in ((HISTORY, _history()), (REPORT, REPORT_TEXT)):
            (folder / other).write_bytes(path.read_bytes() if other == name else content)
        return read_run(folder)

    return read


def _second(intact: bytes) -> Callable[[Path], Any]:
    """Return a reader of IDX labels that belong to the intact images."""

    def read(path: Path) -> Any:
        images = path.parent / "intact-images"
        images.write_bytes(intact)
        return fastnn.read_idx(images, path)

    return read


# The shape of an input row and the hidden layers of the network of a checkpoint.
NETWORKS: dict[str, tuple[tuple[int, ...], list[Any]]] = {
    "dense": ((3,), [fastnn.Dense(2), fastnn.BatchNorm("tanh")]),
    "images": ((1, 3, 4), [fastnn.Conv2D(2, 2, padding=1), fastnn.BatchNorm(), fastnn.MaxPool2D(), fastnn.AvgPool2D()]),
}


def checkpoint_state(epochs: int = 3, network: str = "dense") -> RunState:
    """Return the state of a small run with early stopping, Adam and batch normalisation, without its times."""
    shape, hidden = NETWORKS[network]
    start = fastnn.Network.initialize(shape, [*hidden, fastnn.Dense(2)], seed=1)
    images, labels = np.arange(10 * start.n_inputs, dtype=np.float32).reshape(10, -1) / 30, np.arange(10) % 2
    settings = {"optimizer": "adam", "early_stopping": 9, "validation": 0.2, "batch_size": 4, "learning_rate": 0.5}
    with TemporaryDirectory() as folder:
        file = f"{folder}/checkpoint.safetensors"
        fastnn.train(start, (images, labels), epochs=epochs, backend="numpy", checkpoint=file, **settings)
        state = fastnn.load_checkpoint(file)
    history = np.where(np.arange(state.history.shape[1]) == 6, 0.0, state.history)
    return replace(state, seconds=0.0, history=history, order=np.arange(8), parts={"p": {"a": np.ones(2), "b": "c"}})


@cache
def checkpoint_bytes(epochs: int = 3, network: str = "dense") -> bytes:
    """Return the file of `checkpoint_state`."""
    with TemporaryDirectory() as folder:
        write_checkpoint(f"{folder}/checkpoint.safetensors", checkpoint_state(epochs, network))
        return Path(folder, "checkpoint.safetensors").read_bytes()


MODELS = [path.read_bytes() for path in sorted(GOLDEN.glob("*.safetensors"))]
TEXT = (mutations.text, mutations.lines)
_INNER = Structure(
    lambda data: mutations.png.split(mutations.zipped.split(data)[1]),
    lambda parts: _zip(FOLDER | {"a/0.png": mutations.png.join(parts)}),
)

# A format that fastnn learns to read gets a row here.
FORMATS = {
    "IDX": Format("images", [_idx(PIXELS), _idx(PIXELS.astype("f4"), 13)], fastnn.read_idx),
    "IDX labels": Format("labels", [_idx(LABELS), _idx(LABELS.astype("i4"), 12)], _second(_idx(PIXELS))),
    "IDX by content": Format("images", [_idx(PIXELS)], fastnn.read_files),
    "gz": Format("images.gz", [_pack(_idx(PIXELS))], fastnn.read_idx, [mutations.gz]),
    "bz2 and xz": Format("images", [bz2.compress(_idx(PIXELS)), lzma.compress(_idx(PIXELS))], fastnn.read_idx),
    "CSV": Format("table.csv", [CSV, PIXEL_CSV, QUOTED_CSV], fastnn.read_csv, TEXT, 300),
    "CSV by content": Format("table", [CSV, PIXEL_CSV, QUOTED_CSV], fastnn.read_files, TEXT, 300),
    "CSV gz": Format("table.csv.gz", [_pack(CSV)], fastnn.read_csv, [mutations.gz], 150),
    "NPY": Format("x.npy", [_written(lambda target: np.save(target, PIXELS))], fastnn.read_files, [mutations.npy]),
    "NPZ": Format(
        "data.npz",
        [_npz(**SPLIT), _npz(X=PIXELS, y=LABELS.astype("U1"))],
        fastnn.read_npz,
        [mutations.zipped, mutations.npz],
    ),
    "NPZ by content": Format(
        "data", [_npz(**SPLIT), _npz(**SPARSE)], fastnn.read_files, [mutations.zipped, mutations.npz]
    ),
    "MATLAB": Format("data.mat", [_mat()], fastnn.read_files, [mutations.mat]),
    "ARFF": Format("table.arff", [ARFF], fastnn.read_files, TEXT, 300),
    "svmlight": Format("table.svm", [SVMLIGHT], fastnn.read_files, TEXT, 300),
    "JSON lines": Format("table.jsonl", [JSON_LINES], fastnn.read_files, TEXT, 200),
    "zip of tables": Format(
        "tables.zip", [_zip({"train.csv": CSV, "test.csv": CSV})], fastnn.read_files, [mutations.zipped], 150
    ),
    "zip of pictures": Format("pictures.zip", [_zip(FOLDER)], fastnn.read_files, [mutations.zipped, _INNER], 100),
    "tar of pictures": Format("pictures.tar", [_tar(FOLDER)], fastnn.read_files, cases=100),
    "PNG": Format(
        "p.png",
        [_picture("PNG", mode) for mode in ("L", "1", "P", "RGBA", "I;16")] + [_picture("PNG", compress_level=0)],
        fastnn.prepare_image,
        [mutations.png],
        300,
    ),
    "JPEG": Format(
        "p.jpg", [_picture("JPEG"), _picture("JPEG", "RGB", progressive=True)], fastnn.prepare_image, cases=300
    ),
    "GIF": Format("p.gif", [_picture("GIF"), _picture("GIF", "P", interlace=False)], fastnn.prepare_image, cases=300),
    "TIFF": Format(
        "p.tif",
        [
            _picture("TIFF"),
            _picture("TIFF", "RGB", compression="tiff_lzw"),
            _picture("TIFF", "1", compression="group4"),
            _picture("TIFF", compression="tiff_adobe_deflate"),
        ],
        fastnn.prepare_image,
        cases=300,
    ),
    "WebP": Format(
        "p.webp", [_picture("WEBP", "RGB"), _picture("WEBP", lossless=True)], fastnn.prepare_image, cases=300
    ),
    "BMP": Format("p.bmp", [_picture("BMP"), _picture("BMP", "RGB")], fastnn.prepare_image, cases=300),
    "PPM": Format("p.ppm", [_picture("PPM"), b"P2\n3 2\n255\n0 9 0\n0 255 1\n"], fastnn.prepare_image, cases=200),
    "several digits": Format("p.png", [_picture("PNG")], fastnn.prepare_images, [mutations.png], 100),
    "model": Format("model.safetensors", MODELS, fastnn.load, [mutations.safetensors], 1000),
    "checkpoint": Format(
        "c.safetensors",
        [checkpoint_bytes(), checkpoint_bytes(network="images")],
        fastnn.load_checkpoint,
        [mutations.safetensors],
        1000,
    ),
    "report.json": Format("r", [REPORT_TEXT], _read_run_with(REPORT), TEXT, 300),
    "history.csv": Format("h", [_history()], _read_run_with(HISTORY), TEXT, 300),
    "settings in TOML": Format("settings.toml", [TOML], _read_settings, TEXT, 150),
    "settings in JSON": Format("settings.json", [REPORT_TEXT], _read_settings, TEXT, 150),
    "Parquet": Format(
        "t.parquet", [_written(lambda target: _frame().to_parquet(target))], fastnn.read_files, cases=150
    ),
    "Feather": Format(
        "t.feather", [_written(lambda target: _frame().to_feather(target))], fastnn.read_files, cases=150
    ),
    "Excel": Format(
        "t.xlsx",
        [_written(lambda target: _frame().to_excel(target, index=False))],
        fastnn.read_files,
        [mutations.zipped],
        100,
    ),
}
