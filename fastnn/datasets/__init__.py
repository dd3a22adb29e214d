"""Readers of handwritten digits: each gives data sets of pixels, labels and the scale of the pixels."""

from fastnn.datasets.bundled import load_digits, load_mnist
from fastnn.datasets.csv_table import read_csv
from fastnn.datasets.data_files import read_files
from fastnn.datasets.dataset import Dataset
from fastnn.datasets.idx import read_idx
from fastnn.datasets.npz import read_npz
from fastnn.datasets.picture import prepare_image

__all__ = ["Dataset", "load_digits", "load_mnist", "prepare_image", "read_csv", "read_files", "read_idx", "read_npz"]
