"""The data of a case. The runner writes them once from one seed, and every worker reads the same files."""

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
    """A case with its files. Arrays are read on first access, so a worker holds only the arrays its library uses."""

    case: Case
    folder: Path

    @cached_property
    def images(self) -> np.ndarray:
        """Inputs for fastnn, (N, D): uint8 pixels, or float32 if the case is dense."""
        return self._read("images" if self.case.data != "dense" else "scaled")

    @cached_property
    def scaled(self) -> np.ndarray:
        """Inputs for the other libraries, (N, D): the same values as scaled float32."""
        return self._read("scaled")

    @cached_property
    def labels(self) -> np.ndarray:
        """Labels, (N,) int64."""
        return self._read("labels")

    @property
    def input_scale(self) -> float:
        """The factor from `images` to `scaled`."""
        return {"mnist": 1 / 255, "digits": 1 / 16, "dense": 1.0}[self.case.data]

    @cached_property
    def weights(self) -> list[np.ndarray]:
        """Initial weights of each layer, (fan_in, fan_out) float32, drawn as in He et al. 2015."""
        rng = np.random.default_rng([SEED, *self.case.sizes])
        return [
            (rng.standard_normal(pair) * np.sqrt(2 / pair[0])).astype(np.float32) for pair in pairwise(self.case.sizes)
        ]

    @cached_property
    def biases(self) -> list[np.ndarray]:
        """Initial biases of each layer, (fan_out,) float32, all zero."""
        return [np.zeros(size, np.float32) for size in self.case.sizes[1:]]

    @cached_property
    def factors(self) -> tuple[np.ndarray, np.ndarray]:
        """The two factors of a matrix product, (B, D) and (D, H) float32, normally distributed."""
        rows, inputs, columns = self.case.sizes
        rng = np.random.default_rng([SEED, *self.case.sizes])
        shapes = (rows, inputs), (inputs, columns)
        left, right = (rng.standard_normal(shape, np.float32) for shape in shapes)
        return left, right

    @property
    def batch_size(self) -> int:
        """Samples per step; all samples for a full batch."""
        return len(self.labels) if self.case.batch_size is None else self.case.batch_size

    def order(self, round_number: int) -> np.ndarray | None:
        """Return the row order of a round, (N,) int64, or None for a full batch, which keeps the order of the data."""
        if self.case.batch_size is None:
            return None
        return np.random.default_rng([SEED, round_number]).permutation(len(self.labels))

    def _read(self, name: str) -> np.ndarray:
        return np.load(self.folder / f"{self.case.data}-{self.case.rows or 'all'}-{name}.npy")


def write(case: Case, folder: Path) -> None:
    """Write the data of a case, unless an earlier case already wrote the same data."""
    stem = f"{case.data}-{case.rows or 'all'}"
    if (folder / f"{stem}-labels.npy").exists() or case.work == "product":
        return
    images, labels, pixel_max = _load("digits" if case.data == "digits" else "mnist")
    images, labels = np.ascontiguousarray(images[: case.rows]), labels[: case.rows]
    scaled = images.astype(np.float32) / np.float32(pixel_max)
    if case.data == "dense":  # MNIST's usual mean and standard deviation; every entry becomes nonzero
        scaled = (scaled - np.float32(0.1307)) / np.float32(0.3081)
    np.save(folder / f"{stem}-images.npy", images)
    np.save(folder / f"{stem}-scaled.npy", scaled)
    np.save(folder / f"{stem}-labels.npy", labels)


def write_split(path: Path, rows: int | None) -> None:
    """Write MNIST as one uncompressed NPZ file in Keras's layout, for the cases that are whole processes."""
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
