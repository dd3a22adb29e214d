"""Distorts images: an affine map, smoothed random displacements, bilinear interpolation, noise, an erased rectangle.

Random numbers are those of `dropout.unit_hash`. All arithmetic is exact in the sense of `jit.exact_kernel`, in the
order of `fastnn.backends.reference.distort`, so both give the same bits.

Dimensions: B images to distort, of height H and width W, D = H * W; n lanes.
"""

from typing import NamedTuple

import numpy as np

from fastnn.kernels.jit import exact_inlined, exact_kernel, never_inline
from fastnn.kernels.ops.matmul import START
from fastnn.kernels.team import COUNT, STOP, atomic_add, atomic_load
from fastnn.kernels.vector.memory import flattened
from fastnn.kernels.vector.pixels import (
    vclip,
    vcorners,
    vdraw_from,
    vdraw_pair,
    vlimit,
    vstore_apart,
    vstore_corners,
    vstore_pixels,
)
from fastnn.kernels.vector.simd import FOUR, ONE, lanes, load, vadd, vload, vmul, vsplat, vstore, vsub
from fastnn.kernels.vector.tiles import transpose_tile


class Changes(NamedTuple):
    """What happens to each image, in the working dtype. M is B rounded up to whole vectors; the rest repeats an image.

    height, width: H and W
    affine: (6 * M,), the numbers a to f of `Distortion.affine`, those of all images side by side
    numbers: (M,) uint32, the row hashes
    vertical, horizontal: (K,), the weights that smooth the displacements; K is 0 without displacements
    noise: the standard deviation of the noise, 0 for none
    low, high: the smallest and the largest value of a pixel
    boxes: (M, 4) int64, the erased rectangles
    quantiles: (2**bits,), those of the normal distribution
    bits: their number of bits
    first: the unit of the hash of the first displacement
    """

    height: int
    width: int
    affine: np.ndarray
    numbers: np.ndarray
    vertical: np.ndarray
    horizontal: np.ndarray
    noise: float
    low: float
    high: float
    boxes: np.ndarray
    quantiles: np.ndarray
    bits: int
    first: int


class Group(NamedTuple):
    """The memory of a thread for n images. P is at least D + W + 1, and a multiple of n.

    pixels: (P + W + 1 + n,), the dtype of the images, one image and zeros
    corners: (n * P,), uint32 for images of bytes, otherwise the working dtype: what `vcorners` reads
    down, across: (P * n,), the working dtype, the displacements, pixel by pixel, with the images side by side
    values: (P * n,), likewise, the distorted pixels
    rows: (n * P,), the working dtype, the distorted images, one after the other
    offsets: (n,) int64
    """

    pixels: np.ndarray
    corners: np.ndarray
    down: np.ndarray
    across: np.ndarray
    values: np.ndarray
    rows: np.ndarray
    offsets: np.ndarray


@exact_inlined
def _gather(images, rows, width, group):
    """Write the corners of n images, one after the other.

    What follows an image has no weight in its corners. Bytes are read there as they are, if there are enough of them;
    numbers might be NaN, so zeros follow a copy of the image.
    """
    never_inline()
    n_pixels, n, pixels, corners = images.shape[1], lanes(group.values), group.pixels, group.corners
    flat, pitch = flattened(images), len(corners) // n
    for s in range(n):
        at = rows[s] * n_pixels
        if flat.itemsize == 1 and at + len(pixels) <= flat.size:
            for i in range(0, pitch, n):
                vstore_corners(corners, s * pitch + i, flat, at + i, width)
        else:
            for i in range(n_pixels):
                pixels[i] = load(flat, at + i)
            for i in range(0, pitch, n):
                vstore_corners(corners, s * pitch + i, pixels, i, width)


@exact_inlined
def _smooth_columns(inp, out, height, width, first, taps, n):
    """Smooth as many columns of a field as `n` vectors have, from column `first` on; see `_smooth`."""
    lane_count, reach = lanes(inp), len(taps) - 1
    step = width * lane_count
    for row in range(height):
        at = row * step + first * lane_count
        total = vmul(vsplat(load(taps, 0), n), vload(inp, at, n))
        before, after = min(reach, row), min(reach, height - 1 - row)
        both = min(before, after)
        for k in range(1, both + 1):
            pair = vadd(vload(inp, at - k * step, n), vload(inp, at + k * step, n))
            total = vadd(total, vmul(vsplat(load(taps, k), n), pair))
        for k in range(both + 1, before + 1):
            total = vadd(total, vmul(vsplat(load(taps, k), n), vload(inp, at - k * step, n)))
        for k in range(both + 1, after + 1):
            total = vadd(total, vmul(vsplat(load(taps, k), n), vload(inp, at + k * step, n)))
        vstore_apart(out, (first * height + row) * lane_count, height * lane_count, total)


@exact_inlined
def _smooth(inp, out, height, width, taps):
    """Smooth the columns of a field and transpose it, so that a second call smooths the rows and transposes it back.

    ``out[x, y] = taps[0] * inp[y, x] + sum over k of taps[k] * (inp[y - k, x] + inp[y + k, x])``, zeros outside.

    Faster than a loop over images: each lane has an image, so every load is aligned, and taps outside of the image cost
    nothing. The sums of four columns stay in registers, which hides the latency of an addition and shares each weight.

    inp, out: fields of n images, pixel by pixel, with the images side by side
    """
    never_inline()
    whole = width // 4 * 4
    for first in range(0, whole, 4):
        _smooth_columns(inp, out, height, width, first, taps, FOUR)
    for first in range(whole, width):
        _smooth_columns(inp, out, height, width, first, taps, ONE)


@exact_inlined
def _displace(changes, at, group):
    """Draw and smooth the displacements of the n images from `at` on."""
    never_inline()
    n, height, width, down, across = lanes(group.values), changes.height, changes.width, group.down, group.across
    for p in range(height * width):
        one, other = vdraw_pair(changes.numbers, at, changes.first + p, group.values)
        vstore(down, p * n, one)
        vstore(across, p * n, other)
    for field in (down, across):
        _smooth(field, group.values, height, width, changes.vertical)
        _smooth(group.values, field, width, height, changes.horizontal)


@exact_inlined
def _interpolate(changes, at, group):
    """Compute the distorted pixels of the n images from `at` on."""
    never_inline()
    n, height, width, values = lanes(group.values), changes.height, changes.width, group.values
    affine, real, m = changes.affine, group.values.dtype.type, len(changes.numbers)
    a, b, c = vload(affine, at, ONE), vload(affine, at + m, ONE), vload(affine, at + 2 * m, ONE)
    d, e, f = vload(affine, at + 3 * m, ONE), vload(affine, at + 4 * m, ONE), vload(affine, at + 5 * m, ONE)
    last_row, last_column, moves = real(height - 1), real(width - 1), len(changes.vertical) > 0
    noise, low, high = vsplat(changes.noise, ONE), vsplat(changes.low, ONE), vsplat(changes.high, ONE)
    is_noisy, first_noise, pitch = changes.noise > 0, changes.first + height * width, len(group.corners) // n
    for row in range(height):
        down = vsplat(real(row), ONE)
        row_y, row_x = vadd(vmul(a, down), c), vadd(vmul(d, down), f)
        for column in range(width):
            p, right = row * width + column, vsplat(real(column), ONE)
            y, x = vadd(row_y, vmul(b, right)), vadd(row_x, vmul(e, right))
            if moves:
                y, x = vadd(y, vload(group.down, p * n, ONE)), vadd(x, vload(group.across, p * n, ONE))
            y, x = vclip(y, last_row), vclip(x, last_column)
            below, beside, upper, upper_right, lower, lower_right = vcorners(group.corners, pitch, width, y, x)
            upper = vadd(upper, vmul(beside, vsub(upper_right, upper)))
            lower = vadd(lower, vmul(beside, vsub(lower_right, lower)))
            value = vadd(upper, vmul(below, vsub(lower, upper)))
            if is_noisy:
                drawn = vdraw_from(changes.quantiles, changes.bits, changes.numbers, at, first_noise + p)
                value = vlimit(vadd(value, vmul(noise, drawn)), low, high)
            vstore(values, p * n, value)


@exact_inlined
def _scatter(changes, at, group, out):
    """Copy the distorted images from `at` on to their rows of `out`, with the erased rectangles."""
    never_inline()
    n, n_pixels, offsets, rows = lanes(group.values), out.shape[1], group.offsets, group.rows
    pitch, flat, pixels, low = len(rows) // n, flattened(out), group.pixels, changes.low
    for k in range(n):
        offsets[k] = k * n
    for i in range(0, n_pixels, n):
        transpose_tile(rows, i, pitch, group.values[i * n :], offsets, START, START)
    for s in range(min(n, len(out) - at)):
        target = (at + s) * n_pixels
        for i in range(0, n_pixels - n + 1, n):
            vstore_pixels(flat, target + i, vload(rows, s * pitch + i, ONE))
        if n_pixels < n:
            vstore_pixels(pixels, 0, vload(rows, s * pitch, ONE))
            for i in range(n_pixels):
                flat[target + i] = pixels[i]
            for i in range(n):
                pixels[i] = pixels.dtype.type(0)
        elif n_pixels % n:
            vstore_pixels(flat, target + n_pixels - n, vload(rows, s * pitch + n_pixels - n, ONE))
        top, left, height, width = (
            changes.boxes[at + s, 0],
            changes.boxes[at + s, 1],
            changes.boxes[at + s, 2],
            changes.boxes[at + s, 3],
        )
        for row in range(top, top + height):
            for column in range(left, left + width):
                flat[target + row * changes.width + column] = low


@exact_kernel
def distort(member, images, rows, changes, out, group):
    """Distort this member's share of the images; the threads take groups of n images in turn.

    Faster than a loop over the pixels of one image: each lane has an image. So all lanes are busy in images of any
    size, at borders too. A pixel's hash, its smoothed displacement and its interpolation are a few dozen operations on
    whole vectors, and the only memory that is not read in order is that of the four pixels of a place, which are one
    number. All arrays of a group stay in the second-level cache.

    images: (N, D), uint8 or the working dtype
    rows: (M,) int64, the images to distort
    changes: a `Changes`
    out: (B, D), the dtype of `images`, overwritten
    group: a `Group` of this thread's own; zeros in `pixels`
    """
    n = lanes(group.values)
    n_groups = len(rows) // n
    while atomic_load(member.barrier, STOP) == 0:
        at = atomic_add(member.barrier, COUNT, 1) * n
        if at >= n_groups * n:
            return
        _gather(images, rows[at : at + n], changes.width, group)
        if len(changes.vertical) > 0:
            _displace(changes, at, group)
        _interpolate(changes, at, group)
        _scatter(changes, at, group, out)
