"""The data of a case: made once by the runner, from one seed, and read from the same files by every worker."""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmarks.compare.cases import Case

SEED = 20
CLASSES = 10


@dataclass(frozen=True)
class Problem:
    """A case with its files. Arrays are read when first asked for, so a worker holds only what its library uses."""

    case: Case
    folder: Path

    @cached_property
    def images(self) -> np.ndarray:
        """What fastnn is given, (N, D): uint8 pixels, or float32 where the case is dense."""
        return self._read("images" if self.case.data != "dense" else "scaled")

    @cached_property
    def scaled(self) -> np.ndarray:
        """What the others are given, (N, D): the same as float32, scaled already."""
        return self._read("scaled")

    @cached_property
    def labels(self) -> np.ndarray:
        """int64, (N,)."""
        return self._read("labels")

    @property
    def input_scale(self) -> float:
        """What fastnn multiplies `images` by to get `scaled`."""
        return {"mnist": 1 / 255, "digits": 1 / 16, "dense": 1.0}[self.case.data]

    @cached_property
    def weights(self) -> list[np.ndarray]:
        """The initial weights, float32, (fan_in, fan_out) each: He et al. 2015."""
        rng = np.random.default_rng([SEED, *self.case.sizes])
        return [
            (rng.standard_normal(pair) * np.sqrt(2 / pair[0])).astype(np.float32) for pair in pairwise(self.case.sizes)
        ]

    @cached_property
    def biases(self) -> list[np.ndarray]:
        """Zeros, float32."""
        return [np.zeros(size, np.float32) for size in self.case.sizes[1:]]

    @cached_property
    def factors(self) -> tuple[np.ndarray, np.ndarray]:
        """Of a matrix product: normal float32, (B, D) and (D, H)."""
        rows, inputs, columns = self.case.sizes
        rng = np.random.default_rng([SEED, *self.case.sizes])
        shapes = (rows, inputs), (inputs, columns)
        left, right = (rng.standard_normal(shape, np.float32) for shape in shapes)
        return left, right

    @property
    def batch_size(self) -> int:
        """Samples a step; all of them for a full batch."""
        return len(self.labels) if self.case.batch_size is None else self.case.batch_size

    def order(self, round_number: int) -> np.ndarray | None:
        """The rows in the order of that round, int64; None: as they are (full batch)."""
        if self.case.batch_size is None:
            return None
        return np.random.default_rng([SEED, round_number]).permutation(len(self.labels))

    def _read(self, name: str) -> np.ndarray:
        return np.load(self.folder / f"{self.case.data}-{self.case.rows or 'all'}-{name}.npy")


def write(case: Case, folder: Path) -> None:
    """Write the data of a case, unless a case before it had the same."""
    stem = f"{case.data}-{case.rows or 'all'}"
    if (folder / f"{stem}-labels.npy").exists() or case.work == "product":
        return
    images, labels, pixel_max = _load("digits" if case.data == "digits" else "mnist")
    images, labels = np.ascontiguousarray(images[: case.rows]), labels[: case.rows]
    scaled = images.astype(np.float32) / np.float32(pixel_max)
    if case.data == "dense":  # MNIST's own mean and deviation, the customary ones, leave no entry at 0
        scaled = (scaled - np.float32(0.1307)) / np.float32(0.3081)
    np.save(folder / f"{stem}-images.npy", images)
    np.save(folder / f"{stem}-scaled.npy", scaled)
    np.save(folder / f"{stem}-labels.npy", labels)


def write_split(path: Path, rows: int | None) -> None:
    """MNIST in one NPZ file that is not compressed, as Keras lays it out: what whole processes load."""
    from fastnn import load_mnist

    train, test = load_mnist()
    np.savez(
        path,
        x_train=train.images[:rows].reshape(-1, 28, 28),
        y_train=train.labels[:rows].astype(np.uint8),
        x_test=test.images[:rows].reshape(-1, 28, 28),
        y_test=test.labels[:rows].astype(np.uint8),
    )


def _load(name: str) -> tuple[np.ndarray, np.ndarray, float]:
    from fastnn import load_digits, load_mnist

    data = load_digits() if name == "digits" else load_mnist()[0]
    assert data.labels is not None
    return data.images, data.labels, data.pixel_max
