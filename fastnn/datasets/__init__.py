"""Reads data sets of handwritten digits. A `Dataset` holds pixels, labels and the scale of the pixels."""

from importlib import import_module
from typing import Any

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


def __getattr__(name: str) -> Any:
    if name == "infinite_digits":  # it uses a backend, which a package below it cannot import
        return import_module("fastnn.streams").infinite_digits
    raise AttributeError(f"module 'fastnn.datasets' has no attribute {name!r}")
