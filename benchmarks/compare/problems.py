"""The data of a case. The runner writes them once from one seed, and every worker reads the same files."""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from benchmarks.compare.architecture import IMAGE, Conv, Dense, Layer, is_weighted, parse, shapes
from benchmarks.compare.cases import Case

SEED = 20
CLASSES = 10


@dataclass(frozen=True)
class Problem:
    """A case with its files. Arrays are read on first access, so a worker holds only the arrays its library uses.

    `seed` draws the initial weights and the orders, for cases that train more than one network. `part` is "train" or
    "test".
    """

    case: Case
    folder: Path
    seed: int = 0
    part: str = "train"

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
    def layers(self) -> tuple[Layer, ...]:
        """The layers of the network, first to last."""
        case = self.case
        return parse(case.architecture) if case.architecture else tuple(map(Dense, case.sizes[1:]))

    @cached_property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of an input row: (1, 28, 28) for the networks with an architecture."""
        return IMAGE if self.case.architecture else self.case.sizes[:1]

    @cached_property
    def weights(self) -> list[np.ndarray]:
        """Initial weights, float32, drawn as in He et al. 2015.

        That of a dense layer has shape (fan_in, fan_out), that of a convolution (input channels, kernel, kernel,
        channels).
        """
        rng = np.random.default_rng([SEED, *self.case.sizes, *self.case.architecture.encode(), self.seed])
        found = []
        for layer, shape in zip(self.layers, shapes(self.layers, self.input_shape), strict=False):
            if isinstance(layer, Conv):
                weight_shape = (shape[0], layer.kernel, layer.kernel, layer.channels)
            elif isinstance(layer, Dense):
                weight_shape = (math.prod(shape), layer.units)
            else:
                continue
            scale = np.sqrt(2 / math.prod(weight_shape[:-1]))
            found.append((rng.standard_normal(weight_shape) * scale).astype(np.float32))
        return found

    @cached_property
    def biases(self) -> list[np.ndarray]:
        """Initial biases of each layer with weights, (fan_out,) float32, all zero."""
        return [np.zeros(weight.shape[-1], np.float32) for weight in self.weights]

    @property
    def n_frozen(self) -> int:
        """The number of layers, with those without weights, before the first layer that is trained."""
        return [number for number, layer in enumerate(self.layers) if is_weighted(layer)][self.case.frozen]

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
        return np.random.default_rng([SEED, round_number, self.seed]).permutation(len(self.labels))

    def on_test_images(self, weights: list[np.ndarray], biases: list[np.ndarray]) -> "Problem":
        """Return the problem of predicting the test images with trained weights."""
        found = replace(self, part="test")
        found.__dict__.update(weights=weights, biases=biases)  # in the place of the initial ones, which are cached here
        return found

    def _read(self, name: str) -> np.ndarray:
        return np.load(self.folder / f"{_stem(self.case, self.part)}-{name}.npy")


def _stem(case: Case, part: str) -> str:
    return f"{case.data}-{case.rows or 'all'}-{part}"


def write(case: Case, folder: Path) -> None:
    """Write the data of a case, unless an earlier case already wrote the same data."""
    if case.work == "product":
        return
    for part in ("train", "test") if case.work == "train" else ("train",):
        if not (folder / f"{_stem(case, part)}-labels.npy").exists():
            _write_part(case, part, folder)


def _write_part(case: Case, part: str, folder: Path) -> None:
    images, labels, pixel_max = _load("digits" if case.data == "digits" else "mnist", part)
    images, labels = np.ascontiguousarray(images[: case.rows]), labels[: case.rows]
    scaled = images.astype(np.float32) / np.float32(pixel_max)
    if case.data == "dense":  # MNIST's usual mean and standard deviation; every entry becomes nonzero
        scaled = (scaled - np.float32(0.1307)) / np.float32(0.3081)
    for name, array in (("images", images), ("scaled", scaled), ("labels", labels)):
        np.save(folder / f"{_stem(case, part)}-{name}.npy", array)


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


def _load(name: str, part: str) -> tuple[np.ndarray, np.ndarray, float]:
    from fastnn import load_digits, load_mnist

    data = load_digits() if name == "digits" else load_mnist()[part == "test"]
    assert data.labels is not None
    return data.images, data.labels, data.pixel_max
