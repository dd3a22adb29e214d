"""Augmentation in training: against a loop over augmented data, and its settings."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

import fastnn
from fastnn import Augment, Conv2D, Dataset, Dense, MLPClassifier, Network, SettingsError
from fastnn.backends import reference
from fastnn.optim.augmentation import get_augment
from fastnn.randomness import augmentation_key
from fastnn.training import drawn
from tests.parity import assert_same_bits

SHAPE = (7, 9)


@pytest.fixture
def images():
    return np.random.default_rng(1).integers(0, 200, (20, 63)).astype(np.uint8)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_a_run_trains_on_the_augmented_images_of_each_epoch(images, backend, monkeypatch):
    monkeypatch.setattr(drawn, "PART_ROWS", 12)  # two batches
    labels, settings = np.arange(20) % 3, {"batch_size": 6, "seed": 3, "optimizer": "momentum", "backend": backend}
    data, network = Dataset(images, labels, 199, SHAPE), Network.initialize((63, 8, 3), input_scale=1 / 199)
    change = Augment(shift=1, rotate=20, noise=0.05)
    result = fastnn.train(network, data, epochs=3, augment=change, **settings)
    expected, state = network, None
    levels = (float(images.min()), float(images.max()))
    for epoch in range(3):
        distortion = change.draw(SHAPE, augmentation_key(3, epoch), np.arange(20), levels)
        changed = reference.distort(images, np.arange(20), distortion)
        part = fastnn.train(expected, (changed, labels), epochs=1, resume=state, **settings)
        expected, state = part.network, part.state
    for found, array in zip(result.network.weights, expected.weights, strict=True):
        np.testing.assert_array_equal(found, array)
    assert np.array_equal(data.images, images)
    text = fastnn.train(network, data, epochs=3, augment="shift=1,rotate=20,noise=0.05", **settings)
    np.testing.assert_array_equal(text.network.weights[0], result.network.weights[0])


NETWORKS = {
    "dense": (lambda: Network.initialize((63, 8, 3), input_scale=1 / 199), {"dropout": 0.3}),
    "dense, frozen": (lambda: Network.initialize((63, 8, 6, 3), input_scale=1 / 199), {"dropout": 0.3, "frozen": 1}),
    "images": (lambda: Network.initialize((1, *SHAPE), [Conv2D(2), Dense(5), Dense(3)]), {"dropout": 0.3}),
    "clipped": (lambda: Network.initialize((63, 8, 3), input_scale=1 / 199), {"clip_norm": 1.0, "dropout": 0.3}),
}


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_bits_do_not_depend_on_the_parts_of_an_epoch(name, backend, images, monkeypatch):
    """Nor on the memory order of the images: numbers in Fortran's order, gathered by rows."""
    make, settings = NETWORKS[name]
    settings = {"batch_size": 6, "epochs": 2, "seed": 3, "optimizer": "adam", "backend": backend, **settings}
    labels, weight, results = np.arange(20) % 3, np.linspace(0.5, 2, 20), []
    numbers = images.astype(np.float32)
    for rows, inputs in ((4096, numbers), (1, numbers), (12, np.asfortranarray(numbers))):
        monkeypatch.setattr(drawn, "PART_ROWS", rows)
        data = Dataset(inputs, labels, 199, SHAPE)
        run = fastnn.train(make(), data, augment="shift=1,noise=0.05", sample_weight=weight, **settings)
        results.append((*run.network.weights, *run.network.biases, run.history.column("loss")))
    assert_same_bits(results[1], results[0])
    assert_same_bits(results[2], results[0])


def test_a_part_of_the_images_is_drawn_at_a_time(images, monkeypatch):
    sizes, plain = [], reference.distort
    monkeypatch.setattr(
        reference, "distort", lambda images, rows, *rest: sizes.append(len(rows)) or plain(images, rows, *rest)
    )
    monkeypatch.setattr(drawn, "PART_ROWS", 9)
    data, network = Dataset(images, np.arange(20) % 3, 199, SHAPE), Network.initialize((63, 3))
    fastnn.train(network, data, epochs=2, batch_size=4, augment="shift=1", backend="numpy")
    assert sizes == [8, *[8, 8, 4] * 2]  # the first part decides how a trainer lays data out


def test_held_out_images_are_not_augmented(images, monkeypatch):
    seen, plain = [], reference.distort
    monkeypatch.setattr(
        reference, "distort", lambda images, rows, *rest: seen.extend(rows.tolist()) or plain(images, rows, *rest)
    )
    data = Dataset(images, np.arange(20) % 2, 199, SHAPE)
    fastnn.train(Network.for_data(data, (4,)), data, validation=0.25, epochs=2, augment="shift=1", backend="numpy")
    assert len(seen) == 15 + 30  # those of the first part twice
    assert len(set(seen)) == 15


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_an_estimator_augments_images(images):
    labels, settings = np.arange(20) % 3, {"max_iter": 2, "random_state": 0, "image_shape": SHAPE, "backend": "numpy"}
    one, same, plain = (
        MLPClassifier((4,), augment=change, **settings).fit(images, labels).coefs_[0]
        for change in ("rotate=20", Augment(rotate=20), None)
    )
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, plain)
    with pytest.raises(ValueError, match="the data have no image_shape"):
        MLPClassifier((4,), augment="rotate=20").fit(images, labels)
    with pytest.raises(ValueError, match="augment is 3, expected a text"):
        MLPClassifier((4,), augment=3).fit(images, labels)


def test_data_that_are_no_images_are_refused(images):
    labels = np.arange(20) % 2
    image = Dataset(images, labels, 199, SHAPE)
    for data, network, words in (
        (Dataset(images, labels, 199), Network.for_data(image, (4,)), "no image_shape"),
        (Dataset(csr_matrix(images), labels, 199, SHAPE), Network.for_data(image, (4,)), "a sparse matrix"),
        (image, Network.for_data(image, (4,), standardize=True), "standardises each pixel"),
    ):
        with pytest.raises(SettingsError, match=f"augment is set, but .*{words}"):
            fastnn.train(network, data, augment="shift=1")


@pytest.mark.parametrize(("value", "words"), [
    ("shift", "shift is no number"), ("shift=two", "shift is no number"), ("", "expected NAME=VALUE"),
    ("turn=2", "names are shift, rotate, scale, shear, alpha, sigma, noise, erase"), ("scale=1", "scale is 1"),
    ("shift=-1", "shift is -1"), ("alpha=-34", "alpha is -34.0, expected a finite number at least 0"),
    ("alpha=34,sigma=0", "sigma is 0.0, expected a finite number greater than 0"), ("erase=1", "erase is 1"),
    ("shift=0", "all settings of augment are 0"), ("sigma=4", "all settings of augment are 0"),
    ("shift=nan", "shift is nan"), (2, "augment is 2"),
])  # fmt: skip
def test_a_wrong_augmentation_is_one_line(value, words):
    with pytest.raises(SettingsError, match=words) as caught:
        get_augment(value)
    assert "\n" not in str(caught.value)
    assert get_augment(" shift = 2, rotate=5") == Augment(shift=2.0, rotate=5.0)
    assert get_augment(None) is None
    assert repr(Augment(alpha=34, sigma=4, rotate=10)) == "Augment(rotate=10, alpha=34)"
