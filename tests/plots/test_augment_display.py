"""The figure of augmentation. The tests check the contents, not the pixels."""

import numpy as np
import pytest

import fastnn
from fastnn import Augment, DataError, SettingsError
from fastnn.plots import AugmentDisplay


@pytest.mark.parametrize("pixels", [np.uint8, np.int64, np.float32])
def test_originals_are_beside_what_the_epochs_of_a_run_train_on(pixels, monkeypatch):
    digits = fastnn.load_digits()
    data = fastnn.Dataset(digits.images[:9].astype(pixels), digits.labels[:9], 16, (8, 8))
    display = AugmentDisplay.from_data(data, "rotate=30,alpha=4,sigma=2", 5, epochs=3, seed=7)
    assert display.axes_.shape == (5, 4)
    shown = np.array([[ax.images[0].get_array().ravel() for ax in line] for line in display.axes_])
    np.testing.assert_array_equal(shown[:, 0], data.images[:5])
    np.testing.assert_array_equal(np.moveaxis(shown[:, 1:], 0, 1), display.distorted)
    assert [ax.get_title() for ax in display.axes_[0]] == ["image", "epoch 1", "epoch 2", "epoch 3"]
    assert display.figure_.get_suptitle() == "Augment(rotate=30.0, alpha=4.0, sigma=2.0)"
    assert display._repr_png_().startswith(b"\x89PNG")

    seen, plain = {}, fastnn.training.augmented.AugmentedImages.of_rows

    def of_rows(self, epoch, rows):
        images = plain(self, epoch, rows)
        seen.update({(epoch, row): image for row, image in zip(rows.tolist(), images, strict=True)})
        return images

    monkeypatch.setattr(fastnn.training.augmented.AugmentedImages, "of_rows", of_rows)
    network = fastnn.Network.for_data(data, (3,))
    fastnn.train(network, data, epochs=3, augment=display.augment, seed=7, backend="numpy")
    for epoch, row in np.ndindex(3, 5):
        np.testing.assert_array_equal(display.distorted[epoch, row], seen[epoch, row])


def test_what_cannot_be_drawn_is_one_line():
    images = np.zeros((3, 12))
    with pytest.raises(SettingsError, match="augment is None, expected a text"):
        AugmentDisplay(images, (3, 4), None)
    with pytest.raises(DataError, match="3 rows of 4 x 4 pixels"):
        AugmentDisplay(images, (4, 4), Augment(shift=1))
    with pytest.raises(DataError, match="images are 0 rows"):
        AugmentDisplay(images[:0], (3, 4), "shift=1")
