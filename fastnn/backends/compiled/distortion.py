"""Distorts images in the Numba backend: lays out what happens to them, and runs the kernel on a team of threads."""

import numpy as np

from fastnn.backends import reference
from fastnn.backends.arguments import check_distortion
from fastnn.backends.compiled.layout import REAL_DTYPES, as_readonly
from fastnn.backends.threads import resolve_threads
from fastnn.kernels import team
from fastnn.kernels.ops import distortion as kernels
from fastnn.kernels.vector.simd import VECTOR
from fastnn.network.aligned import aligned_empty, aligned_zeros
from fastnn.optim.augmentation import FIRST_FIELD, Distortion
from fastnn.randomness import QUANTILE_BITS, normal_quantiles

# Images with at most this many pixels in all, about half a millisecond of work, gain nothing from a second thread. With
# more than the other number, the caller only waits, so that Ctrl-C reaches it.
ONE_THREAD_PIXELS, SHORT_PIXELS = 2**17, 2**23


def distort(images: np.ndarray, rows: np.ndarray, distortion: Distortion, threads: int | None = None) -> np.ndarray:
    """Return images that are moved, noisy and erased, with the bits of `reference.distort`, for any `threads`."""
    rows = check_distortion(images, rows, distortion)
    if not rows.size or images.dtype not in (np.uint8, *REAL_DTYPES):
        return reference.distort(images, rows, distortion)
    real = np.dtype(np.float32) if images.dtype == np.uint8 else images.dtype
    lanes = VECTOR // real.itemsize
    images, out = as_readonly(images), np.empty((len(rows), images.shape[1]), images.dtype)
    whole = np.minimum(np.arange(-(-len(rows) // lanes) * lanes), len(rows) - 1)  # the last lanes repeat an image
    changes, numbers = _changes(distortion, whole, real), as_readonly(rows[whole])
    size = 1 if out.size <= ONE_THREAD_PIXELS else min(resolve_threads(threads), len(numbers) // lanes)

    def run(member: team.Member) -> None:
        kernels.distort(member, images, numbers, changes, out, _new_group(distortion.shape, images.dtype, real, lanes))

    team.run_team(run, size, caller_works=out.size <= SHORT_PIXELS)
    return out


def _changes(distortion: Distortion, rows: np.ndarray, real: np.dtype) -> kernels.Changes:
    """Return what the kernel does to the images `rows`."""
    vertical, horizontal = (as_readonly(each.astype(real)) for each in distortion.taps)
    low, high = distortion.levels
    return kernels.Changes(
        height=int(distortion.shape[0]),
        width=int(distortion.shape[1]),
        affine=as_readonly(distortion.affine[rows].T.astype(real).reshape(-1)),
        numbers=as_readonly(distortion.numbers[rows]),
        vertical=vertical,
        horizontal=horizontal,
        noise=real.type(distortion.noise),
        low=real.type(low),
        high=real.type(high),
        boxes=as_readonly(distortion.boxes[rows].astype(np.int64, copy=False)),
        quantiles=as_readonly(normal_quantiles(real)),
        bits=QUANTILE_BITS,
        first=FIRST_FIELD,
    )


def _new_group(shape: tuple[int, int], dtype: np.dtype, real: np.dtype, lanes: int) -> kernels.Group:
    """Return the memory of a thread for images of a shape and a dtype."""
    height, width = shape
    padding = width + 1
    pitch = -(-(height * width + padding) // lanes) * lanes
    down, across, values, rows = (aligned_empty(pitch * lanes, real) for _ in range(4))
    return kernels.Group(
        pixels=aligned_zeros(pitch + padding + lanes, dtype),
        corners=aligned_empty(pitch * lanes, np.uint32 if dtype == np.uint8 else real),
        down=down,
        across=across,
        values=values,
        rows=rows,
        offsets=np.empty(lanes, np.int64),
    )
