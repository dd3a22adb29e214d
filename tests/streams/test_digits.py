"""Tests of `infinite_digits`: an image depends on the seed and its index only."""

import pickle

import numpy as np
import pytest

import fastnn
from fastnn.errors import SettingsError


@pytest.fixture(scope="module")
def mnist():
    return fastnn.load_mnist()[0]


@pytest.mark.parametrize("options", [{"block_rows": 37}, {"threads": 1}, {"threads": 2}, {"backend": "numpy"}])
def test_equal_indices_give_equal_images(options):
    expected = fastnn.infinite_digits(3, 300).read(0)
    data = fastnn.infinite_digits(3, 300, **options)
    blocks = [data.read(number) for number in reversed(range(data.n_blocks))][::-1]
    np.testing.assert_array_equal(np.concatenate([block.images for block in blocks]), expected.images)
    np.testing.assert_array_equal(np.concatenate([block.labels for block in blocks]), expected.labels)


def test_images_are_those_of_mnist_a_little_deformed(mnist):
    data = fastnn.infinite_digits(0, 60_500, block_rows=60_000)
    images, labels = data.read(1).images.astype(float), data.read(1).labels
    np.testing.assert_array_equal(labels, mnist.labels[:500])
    original = mnist.images[:500].astype(float)
    assert (data.n_inputs, data.dtype, data.pixel_max, data.image_shape) == (784, np.uint8, 255.0, (28, 28))
    assert data.classes == tuple(range(10))
    # The area of a digit changes by the scale, (1 +- 0.1)**2, and by the shear and elastic distortion, a little more.
    ratio = images.mean(axis=1) / original.mean(axis=1)
    assert 0.6 < ratio.min() < ratio.max() < 1.6
    assert 0.95 < ratio.mean() < 1.05
    closest = [np.corrcoef(image, each)[0, 1] for image, each in zip(images, original, strict=True)]
    assert np.median(closest) > 0.6
    assert max(closest) < 0.999, "an image is not deformed"


def test_the_package_of_data_sets_has_it_too():
    assert fastnn.datasets.infinite_digits is fastnn.infinite_digits
    with pytest.raises(AttributeError, match="infinite_digit'"):
        fastnn.datasets.infinite_digit  # noqa: B018


def test_other_seeds_indices_and_settings_give_other_images():
    first = fastnn.infinite_digits(0, 100).read(0).images
    again = fastnn.infinite_digits(0, 60_100, block_rows=60_000).read(1).images
    other = fastnn.infinite_digits(1, 100).read(0).images
    own = fastnn.infinite_digits(0, 100, augment="shift=3").read(0).images
    for images in (again, other, own):
        assert (images != first).any(axis=1).all()
    digests = {fastnn.infinite_digits(seed, 100, augment=each).digest for seed in (0, 1) for each in (None, "shift=3")}
    assert len(digests) == 4
    assert fastnn.infinite_digits(n=101).digest not in digests


def test_data_of_any_size_are_opened_at_once_and_pickle_small():
    data = fastnn.infinite_digits(n=10**9)
    assert len(data) == 10**9
    assert sum(data.block_lengths) == 10**9
    assert len(pickle.dumps(fastnn.infinite_digits())) < 10_000
    last = pickle.loads(pickle.dumps(data)).read(data.n_blocks - 1)
    assert len(last) == 10**9 % 65_536


@pytest.mark.parametrize(
    "options", [{"seed": -1}, {"n": 0}, {"block_rows": 0}, {"threads": 0}, {"augment": "warp=3"}, {"backend": "cuda"}]
)
def test_arguments_are_checked(options, refused):
    refused(lambda: fastnn.infinite_digits(**options), next(iter(options)), kind=SettingsError)
