"""Tests of the bundled data sets: their content, and errors for damaged or missing files."""

import gzip
from hashlib import md5
from io import BytesIO
from unittest.mock import Mock

import numpy as np
import pytest

from fastnn.datasets import bundled, load_digits, load_mnist
from fastnn.errors import FileError


def test_mnist_has_its_published_content(mnist):
    train, test = mnist
    assert (train.images.shape, test.images.shape) == ((60_000, 784), (10_000, 784))
    assert train.images.dtype == test.images.dtype == np.uint8
    assert train.labels.dtype == test.labels.dtype == np.int64
    assert (train.pixel_max, train.image_shape, train.name) == (255, (28, 28), "MNIST train")
    assert (test.pixel_max, test.image_shape, test.name) == (255, (28, 28), "MNIST test")
    assert train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert np.bincount(test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    # The first image is a 5 whose ink fills rows 5 to 24, as in the published file.
    assert np.flatnonzero(train.images[0].reshape(28, 28).any(axis=1))[[0, -1]].tolist() == [5, 24]


def test_digits_have_their_published_content():
    data = load_digits()
    assert (data.images.shape, data.images.dtype, data.images.max()) == ((1797, 64), np.uint8, 16)
    assert (data.pixel_max, data.image_shape, data.n_classes) == (16, (8, 8), 10)
    assert data.labels.dtype == np.int64


@pytest.mark.parametrize("part", ["train-images", "train-labels", "t10k-images", "t10k-labels"])
@pytest.mark.parametrize(
    "damage",
    [lambda data: data[:-1] + bytes([data[-1] ^ 1]), lambda data: data[:-1], lambda data: data + b"0"],
    ids=["changed", "shorter", "longer"],
)
def test_a_damaged_file_is_named_with_both_digests(monkeypatch, refused, part, damage):
    original_open, changed = bundled._open, []

    def damaged(stem):
        if not stem.startswith(part):
            return original_open(stem)
        with original_open(stem) as file:
            data = damage(gzip.decompress(file.read()))
        changed.append(md5(data, usedforsecurity=False).hexdigest())
        return BytesIO(gzip.compress(data, 0))

    monkeypatch.setattr(bundled, "_open", damaged)
    message = refused(load_mnist, part, "found MD5", "expected")
    assert changed[0] in message


def test_a_file_missing_from_the_installation_is_named(monkeypatch, refused):
    monkeypatch.setattr(bundled, "_open", Mock(side_effect=FileNotFoundError))
    refused(load_mnist, "train-images-idx3-ubyte.gz", "missing", kind=FileError)
