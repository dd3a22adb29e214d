"""Tests of the figures of networks for images: the drawn numbers equal the network's, and those computed by hand."""

import math

import numpy as np
import pytest

from fastnn.backends import layerwise, reference
from fastnn.errors import DataError, SettingsError
from fastnn.evaluation import occlusion
from fastnn.models import Model
from fastnn.network import AvgPool2D, BatchNorm, Conv2D, Dense, MaxPool2D, Network
from fastnn.plots import (
    ActivationsDisplay,
    DistributionsDisplay,
    FeatureMapsDisplay,
    FiltersDisplay,
    OcclusionDisplay,
    WeightsDisplay,
)

LAYERS = [Conv2D(4, 3), MaxPool2D(), Conv2D(3, (2, 1), activation="tanh"), BatchNorm(), Dense(5)]


@pytest.fixture
def network():
    """Images of 2 channels of 8 x 7 pixels; filter 1 of the first layer always outputs 0."""
    network = Network.initialize((2, 8, 7), LAYERS, seed=4, input_scale=1 / 255)
    network.biases[0][1] = -100
    return network


@pytest.fixture
def images():
    return np.random.default_rng(6).integers(0, 256, (9, 2, 8, 7), dtype=np.uint8)


def _drawn(ax):
    return np.stack([image.get_array() for image in ax.images])


# --- Filters ---------------------------------------------------------------------------------------------------------
def test_each_picture_shows_the_weights_of_a_filter_for_one_channel(network):
    display = FiltersDisplay.from_network(network)
    weight = network.weights[0]
    assert (display.layer, display.n_filters, display.images.shape) == (1, 4, (4, 2, 3, 3))
    for number, picture in enumerate(_drawn(display.ax_)):
        np.testing.assert_array_equal(picture, weight[number % 2, :, :, number // 2])
    assert [text.get_text() for text in display.ax_.texts][:3] == ["0, 0", "0, 1", "1, 0"]
    low, high = display.ax_.images[0].get_clim()
    assert high == -low == pytest.approx(np.percentile(np.abs(weight), 99.5))
    assert display.ax_.get_title() == "all 4 filters of layer 1; filter, channel"
    deep = FiltersDisplay.from_network(network, layer=3, n=2)
    np.testing.assert_array_equal(deep.images, network.weights[1].transpose(3, 0, 1, 2)[:2])
    assert deep.ax_.get_title() == "2 of 3 filters of layer 3; filter, channel"


@pytest.mark.parametrize(("channels", "n_drawn", "columns"), [(1, 40, 10), (3, 40, 15), (16, 10, 16), (40, 4, 16)])
def test_filters_of_any_number_of_channels_are_laid_out_in_rows(channels, n_drawn, columns):
    network = Network.initialize((channels, 3, 3), [Conv2D(41, 3), Dense(2)])
    display = FiltersDisplay(network).plot()
    assert display.images.shape[:2] == (n_drawn, channels)
    tops = [image.get_extent()[3] for image in display.ax_.images]
    assert tops.count(tops[0]) == columns
    assert display.png(20).startswith(b"\x89PNG")


def test_bad_arguments_of_the_filters_display_raise(network):
    with pytest.raises(SettingsError, match=r"layer is 2, expected a convolution of Network\(.*: 1 or 3$"):
        FiltersDisplay(network, layer=2)
    with pytest.raises(SettingsError, match="n is 0, expected a whole number, 1 or more"):
        FiltersDisplay(network, n=0)
    with pytest.raises(SettingsError, match="has no convolution, expected a Conv2D layer: WeightsDisplay"):
        FiltersDisplay(Network.initialize((4, 2)))
    with pytest.raises(SettingsError, match="is conv2d, expected a dense layer: FiltersDisplay"):
        WeightsDisplay(network)


# --- Feature maps ----------------------------------------------------------------------------------------------------
def test_feature_maps_are_the_outputs_of_the_layers(network, images):
    display = FeatureMapsDisplay.from_network(network, images[2], n=3)
    passes = layerwise.forward(reference, network, images[2].reshape(1, -1))
    assert list(display.maps) == [1, 2, 3, 4]
    image_ax, *layer_axes = display.axes_
    np.testing.assert_array_equal(image_ax.images[0].get_array(), images[2].mean(axis=0))
    for ax, each in zip(layer_axes, passes, strict=False):
        np.testing.assert_array_equal(_drawn(ax), each.out[0][:3])
        low, high = ax.images[0].get_clim()
        assert high == -low == pytest.approx(np.abs(each.out[0][:3]).max() or 1)
    assert [ax.get_title("left") for ax in layer_axes] == [
        "layer 1: conv 3x3 4x6x5 relu, the first 3 filters, 3 of 4 filters active",
        "layer 2: max pool 2x2 4x3x2, the first 3 channels",
        "layer 3: conv 2x1 3x2x2 tanh",
        "layer 4: batch norm",
    ]


def test_images_come_in_any_of_their_shapes():
    network = Network.initialize((1, 6, 5), [Conv2D(2, 3), Dense(3)])
    image = np.arange(30.0).reshape(6, 5)
    for given in (image, image.ravel(), image[None], image.reshape(1, 30)):
        for display in (FeatureMapsDisplay(network, given), ActivationsDisplay(network, given)):
            np.testing.assert_array_equal(display.image, image)
    np.testing.assert_array_equal(
        ActivationsDisplay(network, image).activations, FeatureMapsDisplay(network, image).maps[1].ravel()
    )
    assert Model.for_network(network).image_shape == (6, 5)
    with pytest.raises(DataError, match=r"images have shape \(1, 29\), expected 1 rows of 6 x 5 pixels"):
        FeatureMapsDisplay(network, image.ravel()[1:])
    with pytest.raises(SettingsError, match="has no feature maps, expected a layer such as Conv2D"):
        FeatureMapsDisplay(Network.initialize((4, 2)), np.ones(4))
    colour = Network.initialize((3, 6, 5), [Conv2D(2, 3), Dense(3)])
    with pytest.raises(DataError, match=r"image has 89 numbers and image_shape is None, expected \(3, 6, 5\)"):
        FeatureMapsDisplay(colour, np.ones(89))


# --- Distributions ---------------------------------------------------------------------------------------------------
def test_titles_count_dead_filters_and_blocks_of_rows_give_the_same_gradients(images, monkeypatch):
    layers = [Conv2D(4, 3), MaxPool2D(), Conv2D(3, 2, activation="tanh"), Dense(6), Dense(5)]
    network = Network.initialize((2, 8, 7), layers, seed=4, input_scale=1 / 255, dtype="float64")
    network.biases[0][1] = -100
    rows, labels = images.reshape(9, -1), np.arange(9) % 5
    whole = DistributionsDisplay(network, rows, labels)
    assert whole.dead[0].tolist() == [False, True, False, False]
    assert [len(each) for each in whole.dead] == [4, 4, 3, 6]
    monkeypatch.setattr(layerwise, "rows_at_once", lambda network, n_rows: 4)
    blocks = DistributionsDisplay(network, rows, labels).plot()
    for one, other in zip(whole.gradients, blocks.gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-15)
    for one, other in zip(whole.dead, blocks.dead, strict=True):
        np.testing.assert_array_equal(one, other)
    assert blocks.axes_[0, 0].get_title() == "layer 1: 2 x 3 x 3 x 4 weights, 1 of 4 filters dead"
    assert blocks.axes_[2, 0].get_title().startswith("layer 4: 6 x 6 weights, ")
    assert blocks.axes_[2, 0].get_title().endswith(" of 6 units dead")


# --- Occlusion -------------------------------------------------------------------------------------------------------
def _logistic(z):
    return 1 / (1 + math.exp(-z))


# Class 1 has the logit 1 * the pixel in the middle + 2 * the one at the lower right, class 0 has 0.
BY_HAND = Network([np.array([[0.0, 0, 0, 0, 1, 0, 0, 0, 2]] * 2).T * [0, 1]], [[0.0, 0.0]])


def test_occlusion_by_hand():
    """The image is all 1, so the logit is 3. Every patch of 2 x 2 hides the middle, the last one both pixels."""
    found = occlusion(BY_HAND, np.ones((3, 3)), patch=2)
    without_middle, without_both = _logistic(3) - _logistic(2), _logistic(3) - _logistic(0)
    assert (found.label, found.n_classes, found.patch) == (1, 2, (2, 2))
    assert found.probability == pytest.approx(_logistic(3))
    np.testing.assert_allclose(found.drops, [[without_middle, without_middle], [without_middle, without_both]])
    # A pixel of the border is hidden by one patch or two, the middle by all four.
    lower = (without_middle + without_both) / 2
    middle = (3 * without_middle + without_both) / 4
    np.testing.assert_allclose(
        found.by_pixel,
        [[without_middle] * 3, [without_middle, middle, lower], [without_middle, lower, without_both]],
    )
    other = occlusion(BY_HAND, np.ones((3, 3)), 0, patch=2)
    np.testing.assert_allclose(other.drops, -found.drops)
    # The background 4 replaces the middle: the logit is 6, or 12 with both pixels.
    bright = occlusion(BY_HAND, np.ones((3, 3), np.uint8), patch=2, background=4)
    np.testing.assert_allclose(bright.drops[1], [_logistic(3) - _logistic(6), _logistic(3) - _logistic(12)])
    half = occlusion(BY_HAND, np.ones((3, 3), np.uint8), patch=1, background=0.5)
    np.testing.assert_allclose(half.drops[1, 1], _logistic(3) - _logistic(2.5))


def test_the_last_patches_reach_the_border_and_the_background_is_that_of_the_model():
    network = Network.initialize((1, 8, 7), [Conv2D(3, 3), AvgPool2D(), Dense(4)], seed=2)
    images = np.random.default_rng(3).random((1, 56))
    model = Model(network, ("a", "b", "c", "d"), (8, 7), pixels=(1.0, 0.0))
    found = occlusion(model, images[0], "c", patch=(3, 2), step=2, backend="numpy")
    assert (found.tops.tolist(), found.lefts.tolist()) == ([0, 2, 4, 5], [0, 2, 4, 5])
    assert found.label == 2
    hidden = images[0].reshape(8, 7).copy()
    hidden[5:8, 4:6] = 1.0
    proba = [reference.predict_proba(network, each.reshape(1, -1))[0, 2] for each in (images[0], hidden)]
    assert found.drops[3, 2] == pytest.approx(proba[0] - proba[1], abs=1e-7)
    assert np.isfinite(found.by_pixel).all()
    whole = occlusion(model, images[0], patch=(8, 7), step=3)
    assert whole.drops.shape == (1, 1)
    with pytest.raises(SettingsError, match=r"patch is \(9, 9\), expected at most the image, \(8, 7\)"):
        occlusion(model, images[0], patch=9)
    with pytest.raises(SettingsError, match="step is 0, expected a whole number"):
        occlusion(model, images[0], step=0)
    with pytest.raises(SettingsError, match="background is nan, expected a finite number"):
        occlusion(model, images[0], background=math.nan)
    with pytest.raises(DataError, match=r"label is 'e', expected one of the classes \['a', 'b', 'c', 'd'\]"):
        occlusion(model, images[0], "e")
    numbers = Network.initialize((1, 8, 7), [Conv2D(3, 3), Dense(1)], output="identity")
    with pytest.raises(DataError, match="the model has no classes"):
        occlusion(numbers, images[0])


def test_the_map_shows_the_mean_drop_of_each_pixel(network, images):
    display = OcclusionDisplay.from_network(network, images[0], 3, patch=3, backend="numpy")
    found = occlusion(network, images[0], 3, patch=3, backend="numpy")
    image_ax, map_ax = display.axes_
    np.testing.assert_array_equal(map_ax.images[0].get_array(), found.by_pixel)
    np.testing.assert_array_equal(image_ax.images[0].get_array(), images[0].mean(axis=0))
    low, high = map_ax.images[0].get_clim()
    assert high == -low == np.abs(found.by_pixel).max()
    assert image_ax.get_title().startswith("3 (")
    assert map_ax.get_title() == "hidden by patches of 3 x 3"
    constant = OcclusionDisplay.from_network(BY_HAND, np.zeros((3, 3)), patch=1)
    assert constant.png(20).startswith(b"\x89PNG")
    with pytest.raises(DataError, match="class_names has 1 names, expected 5"):
        OcclusionDisplay(found, ["a"])
