"""Reads data sets of handwritten digits. A `Dataset` holds pixels, labels and the scale of the pixels."""

from fastnn.datasets.bundled import load_digits, load_mnist
from fastnn.datasets.containers.formats import read_files
from fastnn.datasets.containers.idx import read_idx
from fastnn.datasets.containers.npz import read_npz
from fastnn.datasets.dataset import Dataset
from fastnn.datasets.pictures.images import prepare_image, prepare_images
from fastnn.datasets.tables.csv import read_csv

__all__ = [
    "Dataset", "load_digits", "load_mnist", "prepare_image", "prepare_images", "read_csv", "read_files", "read_idx",
    "read_npz",
]  # fmt: skip
