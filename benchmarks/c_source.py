"""Measures exported C files: size, and time for one image, beside onnxruntime and fastnn's own backend.

Run with ``python -m benchmarks.c_source``; it prints the table of docs/export-c.md. All programs predict the same test
images of MNIST, one image a call, on one thread, in rounds of which each program has a part. A time is the median of
the rounds, in seconds of the processor, which other programs disturb less than those of a clock. The float32 programs
are compared with the reference before they are timed.
"""

import argparse
import ctypes
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import fastnn
from fastnn.backends import reference

COMPILERS = ("gcc", "clang")
FLAGS = {"-O3 -march=native": ["-O3", "-march=native"], "-Os": ["-Os"]}
NETWORKS = {
    "784-128-10": [128],
    "LeNet": [fastnn.Conv2D(6, 5), fastnn.MaxPool2D(), fastnn.Conv2D(16, 5), fastnn.MaxPool2D(), 120, 84],
}
# The loop over images is in C, too: a call from Python would take as long as the prediction.
LOOP = """#include "model.c"
void predict_rows(const uint8_t *rows, float *probabilities, int *labels, int n)
{
    model_scratch scratch;
    for (int i = 0; i < n; i++)
        labels[i] = model_predict_with(rows + 784 * (size_t)i, probabilities + 10 * (size_t)i, &scratch);
}
"""
Predict = Callable[[np.ndarray], np.ndarray]  # images -> probabilities


def compiled(folder: Path, compiler: str, flags: list[str]) -> tuple[Predict, int]:
    """Compile model.c of a folder; return its prediction, and the bytes of its code and constants."""
    (folder / "loop.c").write_text("#include <stddef.h>\n" + LOOP)
    library = folder / f"{compiler}{''.join(flags)}.so"
    subprocess.run(
        [compiler, "-std=c99", *flags, "-shared", "-fPIC", folder / "loop.c", "-o", library, "-lm"], check=True
    )
    part = library.with_suffix(".o")
    subprocess.run([compiler, "-std=c99", *flags, "-c", folder / "model.c", "-o", part], check=True)
    sizes = subprocess.run(["size", part], capture_output=True, text=True, check=True).stdout.splitlines()[1].split()
    call = ctypes.CDLL(str(library)).predict_rows

    def predict(images: np.ndarray) -> np.ndarray:
        found, labels = np.empty((len(images), 10), np.float32), np.empty(len(images), np.int32)
        call(*(ctypes.c_void_p(array.ctypes.data) for array in (images, found, labels)), ctypes.c_int(len(images)))
        return found

    return predict, int(sizes[0]) + int(sizes[1])


def onnx_session(folder: Path, model: fastnn.Model) -> tuple[Predict, int]:
    """Export to ONNX; return its prediction, one image a call, and the bytes of the file."""
    import onnxruntime

    fastnn.export_onnx(folder / "model.onnx", model, input_dtype="uint8")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])

    def predict(images: np.ndarray) -> np.ndarray:
        return np.concatenate([session.run(["probabilities"], {"X": images[i : i + 1]})[0] for i in range(len(images))])

    return predict, (folder / "model.onnx").stat().st_size


def own(model: fastnn.Model) -> tuple[Predict, int]:
    """Return the prediction of the Numba backend, one image a call, and the bytes of the parameters."""
    backend, network = fastnn.get_backend("numba"), model.network

    def predict(images: np.ndarray) -> np.ndarray:
        return np.concatenate([backend.predict_proba(network, images[i : i + 1], 1) for i in range(len(images))])

    return predict, 4 * network.n_parameters


def measure(name: str, n_rounds: int, n_images: int) -> list[str]:
    """Return the lines of the table for a network."""
    train, test = fastnn.load_mnist()
    settings = {"epochs": 5, "optimizer": "adam", "batch_size": 64, "schedule": "cosine", "backend": "numba"}
    model = fastnn.Model.for_data(
        fastnn.train(fastnn.Network.for_data(train, NETWORKS[name]), train, **settings).network, train
    )
    expected = reference.predict_proba(model.network, test.images)
    programs: dict[tuple[str, str], tuple[Predict, int]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for dtype in ("float32", "int8"):
            folder = Path(temporary) / dtype
            folder.mkdir()
            fastnn.export_c(folder / "model.c", model, dtype=dtype, rows=train.images[:4000])
            for compiler in filter(shutil.which, COMPILERS):
                for label, flags in FLAGS.items():
                    programs[f"C, {dtype}", f"{compiler} {label}"] = compiled(folder, compiler, flags)
        programs["onnxruntime, from Python", ""] = onnx_session(Path(temporary), model)
        programs["fastnn's kernels, from Python", ""] = own(model)
        accuracies = {}
        for key, (predict, _) in programs.items():
            found = predict(test.images)
            accuracies[key] = (found.argmax(axis=1) == test.labels).mean()
            if "int8" not in key[0]:
                np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
        images = np.ascontiguousarray(test.images[:n_images])
        times: dict[tuple[str, str], list[float]] = {key: [] for key in programs}
        for _ in range(n_rounds):
            for key, (predict, _) in programs.items():
                start = time.thread_time()
                predict(images)
                times[key].append((time.thread_time() - start) / n_images)
    return [
        f"| {name} | {kind} | {how} | {size / 1000:,.0f} kB | {statistics.median(times[kind, how]) * 1e6:.1f} µs | "
        f"{accuracies[kind, how]:.2%} |"
        for (kind, how), (_, size) in programs.items()
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--images", type=int, default=2000)
    options = parser.parse_args()
    print(
        "| network | program | compiler | size | time for one image | accuracy |\n| --- | --- | --- | --- | --- | --- |"
    )
    for name in NETWORKS:
        print("\n".join(measure(name, options.rounds, options.images)), flush=True)


if __name__ == "__main__":
    main()
