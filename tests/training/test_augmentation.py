"""Augmentation: the pixels against SciPy's interpolation, and the training against a loop over augmented data."""

import numpy as np
import pytest
from scipy.interpolate import RegularGridInterpolator
from scipy.ndimage import map_coordinates
from scipy.sparse import csr_matrix

import fastnn
from fastnn import Augmentation, Dataset, MLPClassifier, Network, SettingsError
from fastnn.optim import augmentation as module
from fastnn.optim.augmentation import get_augmentation
from fastnn.randomness import augmentation_key, uniform

SHAPE = (7, 9)
MIDDLE = np.array([3.0, 4.0])
KEY = augmentation_key(3, 5)


@pytest.fixture
def images():
    return np.random.default_rng(1).integers(0, 200, (20, 63)).astype(np.uint8)


def _draws():
    """The draws of the 20 images, from -1 to 1: shift down and right, rotation, scale, and the points of the grid."""
    return 2 * uniform(KEY, np.arange(20), 36) - 1


def _expected(image, places):
    """The image at places (2, 7, 9) between its pixels, by SciPy."""
    return map_coordinates(image.reshape(SHAPE).astype(float), places, order=1, mode="nearest").ravel()


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_images_are_shifted_turned_and_scaled_as_scipy_does(images, dtype):
    """An output pixel comes from the place that shift, rotation and scaling together move to it."""
    found = Augmentation(shift=2, rotate=30, scale=0.2).apply(images.astype(dtype), SHAPE, KEY, np.arange(20), (0, 199))
    assert found.dtype == dtype
    for image, result, (down, right, turn, zoom) in zip(images, found, _draws()[:, :4], strict=True):
        angle, factor = np.deg2rad(30) * turn, 1 + 0.2 * zoom
        forward = factor * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        grid = np.mgrid[:7, :9].reshape(2, -1) - MIDDLE[:, None]
        places = np.linalg.inv(forward) @ grid + MIDDLE[:, None] - 2 * np.array([[down], [right]])
        expected = _expected(image, places.reshape(2, *SHAPE))
        np.testing.assert_allclose(result, expected, atol=0.51 if dtype == np.uint8 else 1e-2)


def test_a_distortion_moves_pixels_smoothly_between_the_points_of_a_grid(images):
    found = Augmentation(elastic=1.5).apply(images.astype(np.float32), SHAPE, KEY, np.arange(20), (0, 199))
    points = (np.linspace(0, 6, 4), np.linspace(0, 8, 4))
    grid = np.mgrid[:7, :9].astype(float)
    for image, result, moves in zip(images, found, _draws()[:, 4:].reshape(20, 2, 4, 4), strict=True):
        fields = [RegularGridInterpolator(points, 1.5 * each)(np.moveaxis(grid, 0, -1)) for each in moves]
        np.testing.assert_allclose(result, _expected(image, grid + fields), atol=1e-2)


def test_noise_has_its_standard_deviation_and_stays_in_the_range():
    images = np.full((200, 63), 100, np.uint8)
    found = Augmentation(noise=0.1).apply(images, SHAPE, KEY, np.arange(200), (0, 200)) - 100.0
    assert found.std() == pytest.approx(20, rel=0.02)
    assert abs(found.mean()) < 0.5
    assert abs(np.corrcoef(found[:, :-1].ravel(), found[:, 1:].ravel())[0, 1]) < 0.03
    limited = Augmentation(noise=0.5).apply(images, SHAPE, KEY, np.arange(200), (90, 120))
    assert (limited.min(), limited.max()) == (90, 120)


def test_an_image_depends_on_its_row_the_epoch_and_the_seed_only(images):
    change = Augmentation(shift=2, rotate=30, elastic=1, noise=0.1)
    whole = change.apply(images, SHAPE, KEY, np.arange(20), (0, 199))
    rows = np.array([17, 3, 4])
    np.testing.assert_array_equal(change.apply(images[rows], SHAPE, KEY, rows, (0, 199)), whole[rows])
    for key in (augmentation_key(3, 6), augmentation_key(4, 5)):
        assert not np.array_equal(change.apply(images, SHAPE, key, np.arange(20), (0, 199)), whole)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_a_run_trains_on_the_augmented_images_of_each_epoch(images, backend):
    labels, settings = np.arange(20) % 3, {"batch_size": 6, "seed": 3, "optimizer": "momentum", "backend": backend}
    data, network = Dataset(images, labels, 199, SHAPE), Network.initialize((63, 8, 3), input_scale=1 / 199)
    change = Augmentation(shift=1, rotate=20, noise=0.05)
    result = fastnn.train(network, data, epochs=3, augmentation=change, **settings)
    expected, state = network, None
    levels = (float(images.min()), float(images.max()))
    for epoch in range(3):
        drawn = change.apply(images, SHAPE, augmentation_key(3, epoch), np.arange(20), levels)
        part = fastnn.train(expected, (drawn, labels), epochs=1, resume=state, **settings)
        expected, state = part.network, part.state
    for found, array in zip(result.network.weights, expected.weights, strict=True):
        np.testing.assert_array_equal(found, array)
    assert np.array_equal(data.images, images)
    text = fastnn.train(network, data, epochs=3, augmentation="shift=1,rotate=20,noise=0.05", **settings)
    np.testing.assert_array_equal(text.network.weights[0], result.network.weights[0])


def test_held_out_images_are_not_augmented(images, monkeypatch):
    seen = []
    plain = Augmentation.apply
    monkeypatch.setattr(
        Augmentation, "apply", lambda self, images, *rest: seen.extend(rest[2].tolist()) or plain(self, images, *rest)
    )
    data = Dataset(images, np.arange(20) % 2, 199, SHAPE)
    fastnn.train(Network.for_data(data, (4,)), data, validation=0.25, epochs=2, augmentation="shift=1", backend="numpy")
    assert len(seen) == 30
    assert len(set(seen)) == 15


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_an_estimator_augments_images(images):
    labels, settings = np.arange(20) % 3, {"max_iter": 2, "random_state": 0, "image_shape": SHAPE, "backend": "numpy"}
    one, same, plain = (
        MLPClassifier((4,), augmentation=change, **settings).fit(images, labels).coefs_[0]
        for change in ("rotate=20", Augmentation(rotate=20), None)
    )
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, plain)
    with pytest.raises(ValueError, match="the data have no image_shape"):
        MLPClassifier((4,), augmentation="rotate=20").fit(images, labels)
    with pytest.raises(ValueError, match="augmentation is 3, expected a text"):
        MLPClassifier((4,), augmentation=3).fit(images, labels)


def test_data_that_are_no_images_are_refused(images):
    labels = np.arange(20) % 2
    image = Dataset(images, labels, 199, SHAPE)
    for data, network, words in (
        (Dataset(images, labels, 199), Network.for_data(image, (4,)), "no image_shape"),
        (Dataset(csr_matrix(images), labels, 199, SHAPE), Network.for_data(image, (4,)), "a sparse matrix"),
        (image, Network.for_data(image, (4,), standardize=True), "standardises each pixel"),
    ):
        with pytest.raises(SettingsError, match=f"augmentation is set, but .*{words}"):
            fastnn.train(network, data, augmentation="shift=1")


@pytest.mark.parametrize(("value", "words"), [
    ("shift", "shift is no number"), ("shift=two", "shift is no number"), ("", "expected NAME=VALUE"),
    ("turn=2", "names are shift, rotate, scale, elastic, noise"), ("scale=1", "scale is 1"),
    ("shift=-1", "shift is -1"), ("shift=0", "all settings of the augmentation are 0"), ("shift=nan", "shift is nan"),
    (2, "augmentation is 2"),
])  # fmt: skip
def test_a_wrong_augmentation_is_one_line(value, words):
    with pytest.raises(SettingsError, match=words) as caught:
        get_augmentation(value)
    assert "\n" not in str(caught.value)
    assert get_augmentation(" shift = 2, rotate=5") == Augmentation(shift=2.0, rotate=5.0)
    assert module.get_augmentation(None) is None
