"""Tests of the figures of networks: the drawn numbers equal those that the tests compute with NumPy."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from fastnn.backends import reference
from fastnn.errors import DataError, SettingsError
from fastnn.network import BatchNorm, Dense, Network
from fastnn.plots import ActivationsDisplay, DistributionsDisplay, WeightsDisplay
from tests.parity import assert_same_bits

PNG = b"\x89PNG"


@pytest.fixture
def network():
    """12 inputs (3 x 4), 7 and 5 hidden units, 3 classes; unit 2 of the first layer always outputs 0."""
    network = Network.initialize((12, 7, 5, 3), seed=4, input_scale=1 / 255)
    network.biases[0][2] = -100
    return network


@pytest.fixture
def samples():
    rng = np.random.default_rng(6)
    return rng.integers(0, 256, (50, 12), dtype=np.uint8), rng.integers(0, 3, 50)


def test_each_image_shows_the_weights_of_one_unit(network):
    display = WeightsDisplay.from_network(network, (3, 4))
    assert len(display.ax_.images) == 7
    for unit, image in enumerate(display.ax_.images):
        np.testing.assert_array_equal(image.get_array(), network.weights[0][:, unit].reshape(3, 4))
    assert [text.get_text() for text in display.ax_.texts] == ["0", "1", "2", "3", "4", "5", "6"]
    assert display.ax_.get_title() == "weights into all 7 units of the first layer"


def test_weights_share_one_scale_with_zero_in_the_middle(network):
    network.weights[0][0, 0] = 50  # one outlier
    display = WeightsDisplay.from_network(network, (3, 4))
    limits = {image.get_clim() for image in display.ax_.images}
    assert len(limits) == 1
    low, high = limits.pop()
    assert low == -high
    assert high == pytest.approx(np.percentile(np.abs(network.weights[0]), 99.5))
    middle = display.ax_.images[0].cmap(0.5)
    assert min(middle[:3]) > 0.97


def test_images_are_laid_out_in_rows_without_overlap(network):
    wide = Network.initialize((12, 23, 3))
    display = WeightsDisplay.from_network(wide, (3, 4), n=21)
    assert display.ax_.get_title() == "weights into 21 of 23 units of the first layer"
    extents = np.array([image.get_extent() for image in display.ax_.images])  # left, right, bottom, top
    assert len(extents) == 21
    for i, (left, right, bottom, top) in enumerate(extents):
        assert right - left == pytest.approx((bottom - top) * 4 / 3, rel=0.05)
        others = np.delete(extents, i, axis=0)
        apart = (others[:, 0] >= right) | (others[:, 1] <= left) | (others[:, 3] >= bottom) | (others[:, 2] <= top)
        assert apart.all()
    assert extents[10, 0] == extents[0, 0]
    assert extents[10, 3] > extents[0, 2]
    figure = display.figure_
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in display.ax_.texts]
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])


def test_bad_arguments_of_the_weights_display_raise(network):
    for shape in (None, (4, 4)):
        with pytest.raises(DataError, match=r"image_shape is None|expected 7 rows of 4 x 4 pixels"):
            WeightsDisplay.from_network(network, shape)
    with pytest.raises(SettingsError, match="n is 0, expected"):
        WeightsDisplay.from_network(network, (3, 4), n=0)
    zeros = Network([np.zeros((12, 3))], [np.zeros(3)])
    assert WeightsDisplay.from_network(zeros, (3, 4)).png(30).startswith(PNG)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_bars_show_the_outputs_of_the_units(samples, activation):
    network = Network.initialize((12, 7, 5, 3), seed=4, input_scale=1 / 255, activation=activation)
    function = np.tanh if activation == "tanh" else lambda sums: np.maximum(sums, 0)
    row = samples[0][3]
    first = function(row / 255 @ network.weights[0] + network.biases[0])
    second = function(first @ network.weights[1] + network.biases[1])
    for layer, expected in ((1, first), (2, second)):
        display = ActivationsDisplay.from_network(network, row, (3, 4), layer)
        image_ax, units_ax = display.axes_
        np.testing.assert_array_equal(image_ax.images[0].get_array(), row.reshape(3, 4))
        heights = [bar.get_height() for bar in units_ax.patches]
        np.testing.assert_allclose(heights, expected, rtol=1e-5, atol=1e-6)
        assert [bar.get_x() + bar.get_width() / 2 for bar in units_ax.patches] == pytest.approx(range(len(expected)))
        ticks = next(line for line in units_ax.lines if line.get_marker() == "|")
        np.testing.assert_array_equal(ticks.get_xdata(), np.flatnonzero(expected == 0))
        assert units_ax.get_title() == f"{np.sum(expected != 0)} of {len(expected)} units active"
        assert units_ax.get_xlabel() == f"unit of hidden layer {layer}"


def test_bad_arguments_of_the_activations_display_raise(network, samples):
    images, _ = samples
    with pytest.raises(SettingsError, match="layer is 3, expected a whole number, from 1 to 2"):
        ActivationsDisplay.from_network(network, images[0], (3, 4), layer=3)
    with pytest.raises(SettingsError, match="has no hidden layer"):
        ActivationsDisplay.from_network(Network.initialize((12, 3)), images[0], (3, 4))
    with pytest.raises(DataError, match=r"image has shape \(50, 12\), expected \(12,\)"):
        ActivationsDisplay.from_network(network, images, (3, 4))
    with pytest.raises(DataError, match=r"inputs have shape \(1, 6\)"):
        ActivationsDisplay.from_network(network, images[0, :6], (2, 3))


def test_the_histograms_count_every_weight_and_gradient(network, samples):
    display = DistributionsDisplay.from_network(network, *samples, n_bins=20)
    assert display.axes_.shape == (3, 2)
    assert_same_bits(display.gradients, reference.loss_and_gradients(network, *samples).dweights)
    for layer, row in enumerate(display.axes_):
        for ax, values in zip(row, (network.weights[layer], display.gradients[layer]), strict=True):
            heights = np.array([bar.get_height() for bar in ax.patches])
            edges = [bar.get_x() for bar in ax.patches] + [ax.patches[-1].get_x() + ax.patches[-1].get_width()]
            counts, expected_edges = np.histogram(values.astype(float), 20)
            assert heights.sum() == values.size
            np.testing.assert_array_equal(heights, counts)
            np.testing.assert_allclose(edges, expected_edges, rtol=1e-6)
            assert ax.get_yscale() == "log"


def test_titles_show_the_number_of_dead_units(network, samples):
    images, labels = samples
    display = DistributionsDisplay.from_network(network, images, labels)
    first = np.maximum(images / 255 @ network.weights[0] + network.biases[0], 0)
    second = np.maximum(first @ network.weights[1] + network.biases[1], 0)
    assert display.dead[0][2]
    for dead, outs in zip(display.dead, (first, second), strict=True):
        np.testing.assert_array_equal(dead, ~(outs > 0).any(axis=0))
    titles = [ax.get_title() for ax in display.axes_[:, 0]]
    counts = [int(dead.sum()) for dead in display.dead]
    assert titles[0] == f"layer 1: 12 x 7 weights, {counts[0]} of 7 units dead"
    assert titles[1] == f"layer 2: 7 x 5 weights, {counts[1]} of 5 units dead"
    assert titles[2] == "layer 3: 5 x 3 weights"
    zeros = np.mean(display.gradients[0] == 0)
    assert zeros >= 1 / 7  # the dead unit's
    assert display.axes_[0, 1].get_title() == f"gradients: {100 * zeros:.1f} % are exactly 0"


def test_networks_with_batch_normalisation_are_drawn(samples):
    images, labels = samples
    network = Network.initialize((12,), [Dense(7, "identity"), BatchNorm("relu"), Dense(3)], input_scale=1 / 255)
    display = DistributionsDisplay.from_network(network, images, labels)
    assert display.axes_.shape == (3, 2)
    titles = [ax.get_title() for ax in display.axes_[:, 0]]
    assert titles[1:] == [f"layer 2: 7 weights, {display.dead[1].sum()} of 7 units dead", "layer 3: 7 x 3 weights"]
    drawn = ActivationsDisplay.from_network(network, images[0], (3, 4), 2)
    sums = images[0] / 255 @ network.weights[0]
    np.testing.assert_allclose(drawn.activations, np.maximum(sums, 0) / np.sqrt(1 + 1e-5), rtol=1e-5)
    assert drawn.axes_[1].get_ylabel() == "output (relu)"
    normalised = Network.initialize((12,), [BatchNorm(), Dense(3)])
    with pytest.raises(SettingsError, match="is batch_norm, expected a dense layer"):
        WeightsDisplay.from_network(normalised, (3, 4))


def test_without_labels_only_weights_are_drawn(network, samples):
    display = DistributionsDisplay.from_network(network)
    assert display.axes_.shape == (3, 1)
    assert display.gradients is None
    assert display.dead is None
    assert DistributionsDisplay.from_network(network, samples[0]).axes_.shape == (3, 1)
    with pytest.raises(DataError, match="labels are given without images"):
        DistributionsDisplay.from_network(network, labels=samples[1])
    with pytest.raises(DataError, match="labels run from 0 to 9, expected 0 to 2"):
        DistributionsDisplay.from_network(network, samples[0][:2], np.array([0, 9]))
    with pytest.raises(DataError, match="images are empty"):
        DistributionsDisplay.from_network(network, samples[0][:0])


def test_displays_are_drawn_into_the_given_axes(network, samples):
    figure = Figure()
    axes = figure.subplots(3, 4)
    drawn = [
        WeightsDisplay.from_network(network, (3, 4), ax=axes[0, 0]),
        ActivationsDisplay.from_network(network, samples[0][0], (3, 4), ax=axes[1, :2]),
        DistributionsDisplay.from_network(network, *samples, ax=axes[:, 2:]),
    ]
    assert all(display.figure_ is figure for display in drawn)
    assert all(display._repr_png_() is None for display in drawn)
    assert list(drawn[2].axes_.ravel()) == list(axes[:, 2:].ravel())
    with pytest.raises(SettingsError, match="ax holds 1 Axes, expected 6: 2 for each of 3 layers"):
        DistributionsDisplay.from_network(network, *samples, ax=axes[0, 0])
