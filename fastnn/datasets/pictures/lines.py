"""Removes straight lines that run from side to side, as of ruled and squared paper, from a mask of ink."""

import numpy as np

# The largest angle between a line and the sides of the picture, in degrees, and the largest thickness of a line as a
# fraction of the picture's side.
_LARGEST_ANGLE = 8.0
_THICKNESS = 0.045
# The part of a line that must be ink. The digit's own strokes cover less of the picture, or are thicker.
_COVERAGE = 0.75
# A line reaches both sides of the picture up to this fraction of its width.
_END = 0.06
_MAX_DIRECTIONS = 3
_MAX_POINTS = 8_000


def without_lines(mask: np.ndarray) -> np.ndarray:
    """Return a copy of the mask without lines. Where a stroke crosses a line, the stroke remains.

    mask: (height, width) bool
    """
    mask = mask.copy()
    for turned in (mask, mask.T):  # views: vertical lines are horizontal in the transpose
        for _ in range(_MAX_DIRECTIONS):
            if not _remove_parallel_lines(turned):
                break
    return mask


def _remove_parallel_lines(mask: np.ndarray) -> bool:
    """Remove the nearly horizontal lines of the most frequent angle, in place; return whether there were any."""
    height, width = mask.shape
    if min(height, width) < 56 or mask.any(axis=0).mean() < _COVERAGE:
        return False
    angle = _angle(mask)
    if angle is None:
        return False
    shift = np.rint(np.arange(width) * np.tan(np.deg2rad(angle))).astype(int)
    shift -= shift.min()
    # Columns that are shifted equally are moved together.
    starts = np.flatnonzero(np.diff(shift, prepend=-1))
    blocks = [
        (np.s_[shift[start] : shift[start] + height, start:end], np.s_[:, start:end])
        for start, end in zip(starts, [*starts[1:], width], strict=True)
    ]
    straight = np.zeros((height + int(shift.max()), width), bool)
    inside = np.zeros_like(straight)
    for moved, original in blocks:
        straight[moved] = mask[original]
        inside[moved] = True
    thick = straight.copy()  # tolerates lines that bend by a pixel
    thick[1:] |= straight[:-1]
    thick[:-1] |= straight[1:]
    length = inside.sum(axis=1)
    end = max(2, round(_END * width))
    # At both ends: in the first and last columns that the picture has in each row.
    reaches = _near_start(thick, inside, end) & _near_start(thick[:, ::-1], inside[:, ::-1], end)
    is_line = reaches & (thick.sum(axis=1) >= _COVERAGE * np.maximum(length, 1)) & (length >= 0.5 * width)
    found = False
    for first, last in _runs(is_line):
        if last - first + 1 <= max(6, _THICKNESS * height):
            _erase_line(straight, first, last)
            found = True
    if found:
        for moved, original in blocks:
            mask[original] = straight[moved]
    return found


def _near_start(straight: np.ndarray, inside: np.ndarray, end: int) -> np.ndarray:
    """Return whether each row has ink in its first `end` pixels inside the picture: (rows,) bool."""
    columns = np.minimum(inside.argmax(axis=1)[:, None] + np.arange(end), straight.shape[1] - 1)
    near: np.ndarray = np.take_along_axis(straight, columns, axis=1)
    return np.asarray(near.any(axis=1))


def _angle(mask: np.ndarray) -> float | None:
    """Return the angle in degrees at which most ink lies in few lines; None if no line is long enough."""
    y, x = np.nonzero(mask)
    step = -(-len(y) // _MAX_POINTS)
    # A stride that is no multiple of the width takes points of all columns.
    y, x = y[::step], x[::step]
    best, best_angle, longest = -1, 0.0, 0
    for angle in np.linspace(-_LARGEST_ANGLE, _LARGEST_ANGLE, 81):
        rows = np.rint(y + x * np.tan(np.deg2rad(angle))).astype(int)
        counts = np.bincount(rows - rows.min())
        pairs = counts[1:] + counts[:-1]
        score = int((pairs * pairs).sum()) if pairs.size else 0
        if score > best:
            best, best_angle, longest = score, float(angle), int(pairs.max(initial=0))
    return best_angle if longest * step >= 0.4 * mask.shape[1] else None


def _runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """Return the first and last index of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(first), int(end) - 1) for first, end in edges.reshape(-1, 2)]


def _erase_line(straight: np.ndarray, first: int, last: int) -> None:
    """Erase the rows `first` to `last`, except where a stroke continues above and below."""
    rows = np.flatnonzero(straight[first : last + 1].mean(axis=1) > 0.1)
    if rows.size:
        first, last = first + int(rows[0]), first + int(rows[-1])
    # The smooth edges of the line.
    for _ in range(3):
        first -= first > 0 and straight[first - 1].mean() > 0.35
        last += last + 1 < len(straight) and straight[last + 1].mean() > 0.35
    above = np.asarray(straight[max(first - 3, 0) : max(first - 1, 0)].any(axis=0))
    below = np.asarray(straight[last + 2 : last + 4].any(axis=0))
    reach = last - first + 2
    crossed = _widened(above, reach) & _widened(below, reach)
    straight[max(first - 1, 0) : last + 2] &= crossed


def _widened(flags: np.ndarray, reach: int) -> np.ndarray:
    """Return the flags with `reach` neighbours on both sides of each True."""
    return np.convolve(flags, np.ones(2 * reach + 1))[reach:-reach] > 0.5
