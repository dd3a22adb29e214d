"""Distortions of images: both backends to the bit, and the reference against SciPy and cases worked by hand."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates

from fastnn import Augment, DataError
from fastnn.backends import compiled, reference
from fastnn.optim.augmentation import FIELD_SCALE, FIRST_FIELD, Distortion
from fastnn.randomness import augmentation_key, row_numbers, unit_hashes
from tests.parity import assert_same_bits

KEY = augmentation_key(3, 5)
LEVELS = (0.0, 255.0)
BACKENDS = pytest.mark.parametrize("backend", [reference, compiled], ids=["numpy", "numba"])
CHANGES = {
    "shift": Augment(shift=2.5),
    "rotate": Augment(rotate=180),
    "scale": Augment(scale=0.6),
    "shear": Augment(shear=40),
    "elastic": Augment(alpha=34),
    "wide elastic": Augment(alpha=300, sigma=15),
    "rough elastic": Augment(alpha=3, sigma=0.1),
    "noise": Augment(noise=0.3),
    "erase": Augment(erase=0.999),
    "warp": Augment(shift=1, rotate=15, scale=0.15, shear=10),
    "all": Augment(shift=1, rotate=15, scale=0.15, shear=10, alpha=36, sigma=5, noise=0.1, erase=0.5),
}
SHAPES = [(1, 1), (5, 7), (1, 9), (17, 1), (8, 8), (28, 28), (64, 64)]


def make_images(n, shape, dtype="uint8", seed=1):
    """Return n smooth images with values from 0 to 255."""
    pixels = np.random.default_rng(seed).random((n, *shape))
    smooth = gaussian_filter(pixels, (0, 1, 1), mode="nearest")
    return (254 * (smooth - smooth.min()) / max(np.ptp(smooth), 1e-9)).reshape(n, -1).astype(dtype)


def make_distortion(n, shape, **parts):
    """Return the distortion that changes nothing, but for `parts`."""
    same = {
        "affine": np.tile([1.0, 0, 0, 0, 1, 0], (n, 1)), "numbers": row_numbers(KEY, np.arange(n)),
        "taps": np.empty((2, 0)), "noise": 0.0, "boxes": np.zeros((n, 4), np.int64), "levels": LEVELS,
    }  # fmt: skip
    return Distortion(shape=shape, **same | parts)


def rows_of(image):
    """Return rows of text as one row of pixels."""
    return np.array([[float(each) for each in line.split()] for line in image]).reshape(1, -1).astype(np.uint8)


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
@pytest.mark.parametrize("name", CHANGES)
def test_kernel_and_reference_have_the_same_bits(name, dtype):
    for shape in SHAPES:
        images, rows = make_images(20, shape, dtype), np.array([19, *range(19), 3, 3])
        change = CHANGES[name].draw(shape, KEY, rows + 7, LEVELS)
        found, expected = (each.distort(images, rows, change) for each in (compiled, reference))
        assert_same_bits([found], [expected], f"{name} {shape}")
        if min(shape) > 4:
            assert (found != images[rows]).any(axis=1).sum() > 10


@BACKENDS
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_without_strength_images_stay_as_they_are(backend, dtype):
    for shape in SHAPES:
        images, rows = make_images(20, shape, dtype), np.arange(20)
        assert_same_bits([backend.distort(images, rows, make_distortion(20, shape))], [images])
        tiny = Augment(shift=1e-30, rotate=1e-30, alpha=1e-30).draw(shape, KEY, rows, LEVELS)
        np.testing.assert_allclose(backend.distort(images, rows, tiny), images, rtol=0, atol=1e-25)


@BACKENDS
def test_images_worked_by_hand(backend):
    image = rows_of(["1 2 3", "4 5 6", "7 8 9"])

    def distorted(image, shape=(3, 3), **parts):
        return backend.distort(image, np.zeros(1, int), make_distortion(1, shape, **parts))

    def mapped(*affine):
        return distorted(image, affine=np.array([affine], float))

    # One pixel down: every pixel comes from the row above, and the first row is repeated.
    np.testing.assert_array_equal(mapped(1, 0, -1, 0, 1, 0), rows_of(["1 2 3", "1 2 3", "4 5 6"]))
    np.testing.assert_array_equal(mapped(1, 0, 0, 0, 1, 1), rows_of(["2 3 3", "5 6 6", "8 9 9"]))
    # A quarter turn about the middle, where the row is the column that a pixel comes from.
    np.testing.assert_array_equal(mapped(0, 1, 0, -1, 0, 2), rows_of(["3 6 9", "2 5 8", "1 4 7"]))
    # Half of the size: every second place. The last column is from outside.
    np.testing.assert_array_equal(mapped(2, 0, 0, 0, 2, 0), rows_of(["1 3 3", "7 9 9", "7 9 9"]))
    # Half a pixel to the right, between 1 and 2, rounded up; and for numbers the mean.
    half = np.array([[1, 0, 0, 0, 1, 0.5]])
    np.testing.assert_array_equal(distorted(image, affine=half), rows_of(["2 3 3", "5 6 6", "8 9 9"]))
    means = distorted(image.astype(np.float32), affine=half)
    np.testing.assert_array_equal(means, [[1.5, 2.5, 3, 4.5, 5.5, 6, 7.5, 8.5, 9]])
    np.testing.assert_array_equal(
        distorted(image, boxes=np.array([[1, 0, 2, 2]]), levels=(1.0, 9.0)), rows_of(["1 2 3", "1 1 6", "1 1 9"])
    )


@BACKENDS
def test_the_sides_of_the_settings(backend):
    """The first of 200 images whose draw is near the end of its range moves as far as the setting says."""
    image = np.zeros((9, 9), np.float64)
    image[4, 6] = 255  # two to the right of the middle
    images, rows = image.reshape(1, -1), np.zeros(200, int)

    def centres(**setting):
        change = Augment(**setting).draw((9, 9), KEY, np.arange(200), LEVELS)
        weights = backend.distort(images, rows, change).reshape(200, 9, 9)
        total = weights.sum(axis=(1, 2))
        return [(weights * axis).sum(axis=(1, 2)) / total for axis in np.mgrid[:9, :9].astype(float)]

    y, x = centres(shift=2)
    assert (y.min(), y.max(), x.min(), x.max()) == pytest.approx((2, 6, 4, 8), abs=0.1)
    y, x = centres(rotate=90)
    assert (y.min(), y.max(), x.min()) == pytest.approx((2, 6, 4), abs=0.15)
    y, x = centres(scale=0.5)
    assert (x.min(), x.max()) == pytest.approx((5, 7), abs=0.1)
    np.testing.assert_allclose(y, 4, atol=1e-9)
    y, x = centres(shear=45)
    np.testing.assert_allclose((y, x), np.broadcast_to([[4], [6]], (2, 200)), atol=1e-9)  # the middle row stays


@BACKENDS
@pytest.mark.parametrize("shape", [(28, 28), (5, 7), (64, 64)])
@pytest.mark.parametrize(("alpha", "sigma"), [(34, 4), (8, 1.3), (60, 10)])
def test_an_elastic_distortion_is_that_of_scipy(backend, shape, alpha, sigma):
    """Uniform fields smoothed by SciPy's filter, and its interpolation between pixels, in float64."""
    images, rows = make_images(6, shape, "float64"), np.arange(6)
    change = Augment(alpha=alpha, sigma=sigma, rotate=20, shear=10, shift=1).draw(shape, KEY, rows, LEVELS)
    hashes = unit_hashes(change.numbers, FIRST_FIELD, shape[0] * shape[1]).astype(np.int64).reshape(6, *shape)
    fields = [((half + 2**15) % 2**16 - 2**15) / FIELD_SCALE for half in (hashes % 2**16, hashes // 2**16)]
    for half in fields:
        assert -1 <= half.min() < half.max() < 1
    found = backend.distort(images, rows, change)
    single = backend.distort(images.astype(np.float32), rows, change)
    for k, image in enumerate(images):
        moves = [alpha * gaussian_filter(field[k], sigma, mode="constant", truncate=3) for field in fields]
        a, b, c, d, e, f = change.affine[k]
        y, x = np.mgrid[: shape[0], : shape[1]]
        places = a * y + b * x + c + moves[0], d * y + e * x + f + moves[1]
        expected = map_coordinates(image.reshape(shape), places, order=1, mode="nearest").ravel()
        np.testing.assert_allclose(found[k], expected, atol=1e-9)
        # In float32, a place is off by some roundings of the largest one, and a pixel by that times the steepest slope.
        eps, slope = np.finfo(np.float32).eps, np.abs(np.diff(image.reshape(shape))).max() + 1
        np.testing.assert_allclose(single[k], expected, atol=eps * (64 * max(shape) * slope + 8 * 255))


def test_displacements_have_the_size_that_theory_gives():
    """In the middle, the variance is 1/3 times the sum of the squared weights; alpha 34 and sigma 4 move 1.4 pixels."""
    change = Augment(alpha=34, sigma=4).draw((33, 33), KEY, np.arange(400), LEVELS)
    y, x = reference._sources(change, np.dtype(np.float64))
    moves = np.concatenate((y[:, 16, 16] - 16, x[:, 16, 16] - 16))
    weights = np.exp(-0.5 * (np.arange(-12, 13) / 4) ** 2)
    expected = 34 * np.sqrt(1 / 3) * ((weights / weights.sum()) ** 2).sum()
    assert expected == pytest.approx(1.39, abs=0.01)
    assert moves.std() == pytest.approx(expected, rel=0.08)  # two standard errors of a deviation of 800 numbers: 5 %
    assert abs(moves.mean()) < 4 * expected / np.sqrt(800)


@BACKENDS
def test_noise_has_its_standard_deviation_and_stays_in_the_range(backend):
    images, rows = np.full((200, 63), 100, np.uint8), np.arange(200)

    def noisy(noise, levels):
        change = Augment(noise=noise).draw((7, 9), KEY, rows, levels)
        return backend.distort(images, rows, change).astype(float)

    found = noisy(0.1, (0, 200)) - 100
    assert found.std() == pytest.approx(20, rel=0.02)
    assert abs(found.mean()) < 0.5
    assert abs(np.corrcoef(found[:, :-1].ravel(), found[:, 1:].ravel())[0, 1]) < 0.03
    limited = noisy(0.5, (90, 120))
    assert (limited.min(), limited.max()) == (90, 120)


@BACKENDS
def test_erased_rectangles_have_all_sizes_and_places(backend):
    images, rows = np.full((2000, 40), 9, np.uint8), np.arange(2000)
    change = Augment(erase=0.5).draw((5, 8), KEY, rows, (1.0, 9.0))
    erased = backend.distort(images, rows, change).reshape(-1, 5, 8) == 1
    heights, widths = erased.any(axis=2).sum(axis=1), erased.any(axis=1).sum(axis=1)
    np.testing.assert_array_equal(erased.sum(axis=(1, 2)), heights * widths)  # each is one rectangle
    assert (set(heights), set(widths)) == ({0, 1, 2}, {0, 1, 2, 3, 4})
    assert erased.any(axis=0).all()
    assert erased.any(axis=(1, 2)).mean() == pytest.approx(2 / 3 * 4 / 5, abs=0.05)


def test_digits_keep_their_area_and_their_mean(mnist_small):
    """On average over digits: a map keeps areas but for the scale, which is as often larger as smaller."""
    images, rows = mnist_small[0], np.arange(2000)
    ink = images.mean()
    for name in ("shift", "warp", "elastic"):
        found = compiled.distort(images, rows, CHANGES[name].draw((28, 28), KEY, rows, LEVELS))
        ratios = found.sum(axis=1, dtype=float) / images.sum(axis=1, dtype=float)
        assert found.mean() == pytest.approx(ink, rel=0.06), name
        assert 0.3 < ratios.min() < 1 < ratios.max() < 2, name
        assert (found > 127).mean() == pytest.approx((images > 127).mean(), rel=0.08), name


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_the_bits_do_not_depend_on_the_threads_nor_on_the_other_images(dtype, started):
    images, rows = make_images(300, (9, 12), dtype), np.random.default_rng(0).permutation(300)
    change = CHANGES["all"].draw((9, 12), KEY, rows, LEVELS)
    whole = compiled.distort(images, rows, change, threads=1)
    for threads in (2, 3, 8):
        assert_same_bits([compiled.distort(images, rows, change, threads=threads)], [whole])
    assert started == [1, 2, 3, 8]
    for some in (slice(0, 1), slice(5, 40), slice(290, 300)):
        assert_same_bits([compiled.distort(images, rows[some], change.part(some))], [whole[some]])
        alone = CHANGES["all"].draw((9, 12), KEY, rows[some], LEVELS)
        assert_same_bits([compiled.distort(images, rows[some], alone)], [whole[some]])
    for key in (augmentation_key(3, 6), augmentation_key(4, 5)):
        other = compiled.distort(images, rows, CHANGES["all"].draw((9, 12), key, rows, LEVELS))
        assert (other != whole).any(axis=1).all()


@BACKENDS
def test_arrays_of_other_forms(backend):
    images, rows = make_images(20, (6, 5)), np.arange(20)
    change = CHANGES["all"].draw((6, 5), KEY, rows, LEVELS)
    expected = backend.distort(images, rows, change)
    frozen = images.copy()
    frozen.setflags(write=False)
    for other in (np.asfortranarray(images), images.repeat(2, axis=1)[:, ::2], frozen):
        assert_same_bits([backend.distort(other, rows.astype(np.uint16), change)], [expected])
    nothing = Augment(shift=1).draw((6, 5), KEY, rows[:0], LEVELS)
    assert backend.distort(images, rows[:0], nothing).shape == (0, 30)


IMAGES, ROWS = make_images(4, (3, 2)), np.arange(4)
CHANGE = Augment(shift=1).draw((3, 2), KEY, ROWS, LEVELS)
BAD_CALLS = {
    "shape": ((make_images(4, (3, 3)), ROWS, CHANGE), r"9 pixels each, expected 6 for the image shape \(3, 2\)"),
    "no rows": ((IMAGES[0], ROWS, CHANGE), r"images has shape \(6,\), expected \(any, any\)"),
    "dtype": ((IMAGES.astype(np.int32), ROWS, CHANGE), "dtype int32, expected uint8, float32 or float64"),
    "row": ((IMAGES, ROWS + 1, CHANGE), "rows run from 1 to 4, expected 0 to 3"),
    "negative": ((IMAGES, ROWS - 1, CHANGE), "rows run from -1 to 2, expected 0 to 3"),
    "fractions": ((IMAGES, ROWS * 0.5, CHANGE), "rows are float64"),
    "counts": ((IMAGES, ROWS[:3], CHANGE), r"affine has shape \(4, 6\), expected \(3, 6\)"),
}


@BACKENDS
@pytest.mark.parametrize("name", BAD_CALLS)
def test_bad_arguments_are_one_line(backend, name):
    arguments, words = BAD_CALLS[name]
    with pytest.raises(DataError, match=words) as caught:
        backend.distort(*arguments)
    assert "\n" not in str(caught.value)
