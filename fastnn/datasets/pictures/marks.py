"""Finds the marks in a mask of ink that may be digits, and leaves out frames, lines, edges and specks."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

# A component with less than this fraction of all ink is a speck of dust.
_SPECK_FRACTION = 0.02
# Marks of at least this fraction of the tallest mark's height are digits of their own.
_SIMILAR = 0.5
# A smaller component belongs to the digit if the gap between them is at most this fraction of the digit's size.
_GAP = 0.15
_GAP_BESIDE = 0.1
# Where the background is uneven, digits have at least this fraction of all ink. Noise has many marks of equal size.
_LEAST_MASS = 0.08
_LEAST_SIZE = 0.08  # as a fraction of the picture's side
# The part of a mark's outline that must be edges of the picture.
_LEAST_SUPPORT = 0.85
# A component whose width is at most this fraction of its length is a line, if it is level or upright.
_LINE_RATIO = 0.09


@dataclass(frozen=True)
class Component:
    """A connected component of ink."""

    numbers: tuple[int, ...]  # its labels
    top: int
    left: int
    bottom: int  # exclusive
    right: int  # exclusive
    mass: float  # the sum of its ink
    strength: float  # the mean of its ink
    touches_border: bool

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def size(self) -> int:
        return max(self.height, self.width)

    @property
    def score(self) -> float:
        """Large for much ink that is strong."""
        return self.mass * (self.strength / 255) ** 2

    def encloses(self, other: "Component") -> bool:
        return (
            self.top <= other.top
            and self.left <= other.left
            and self.bottom >= other.bottom
            and self.right >= other.right
        )

    def scaled(self, factor: float) -> "Component":
        """Return the component in a picture of another size."""
        sides = (round(factor * side) for side in (self.top, self.left, self.bottom, self.right))
        top, left, bottom, right = sides
        return replace(self, top=top, left=left, bottom=bottom, right=right)

    def merged(self, other: "Component") -> "Component":
        mass = self.mass + other.mass
        strength = (self.mass * self.strength + other.mass * other.strength) / max(mass, 1e-9)
        return Component(
            self.numbers + other.numbers, min(self.top, other.top), min(self.left, other.left),
            max(self.bottom, other.bottom), max(self.right, other.right), mass, strength,
            self.touches_border or other.touches_border,
        )  # fmt: skip


@dataclass(frozen=True)
class Marks:
    """The marks of a picture that may be digits."""

    labels: np.ndarray  # (height, width) int32: the number of each pixel's component, 0 for the background
    digits: list[Component]  # the marks of similar size
    at_border: list[Component]  # the other components that touch the border, without specks
    total: float  # the ink of all components


def find_marks(mask: np.ndarray, ink: np.ndarray, support: Callable[[np.ndarray], np.ndarray] | None = None) -> Marks:
    """Return the marks that may be digits.

    mask: (height, width) bool, where there is ink
    ink: (height, width) float32, from 0 to 255
    support: returns the part of each mark's outline that is an edge, from the labels; None to trust all marks
    """
    labels, components = _components(mask, ink)
    total = sum(component.mass for component in components)
    at_border = [c for c in components if c.touches_border and c.mass >= _SPECK_FRACTION * total]
    inner = [c for c in components if not c.touches_border]
    all_inner = sum(component.mass for component in inner)
    least = 0.0
    if support is not None and inner:
        supports = support(labels)
        least = _LEAST_SIZE * max(mask.shape)
        inner = [c for c in inner if supports[c.numbers[0]] >= _LEAST_SUPPORT]
    inner_total = sum(component.mass for component in inner)
    inner = [c for c in inner if c.mass >= _SPECK_FRACTION * inner_total]
    candidates = _without_lines(_without_frames(inner, labels), labels)
    digits = _digits(candidates) if candidates else []
    if support is not None:
        digits = [digit for digit in digits if digit.size >= least]
        if sum(digit.mass for digit in digits) < _LEAST_MASS * all_inner:
            digits = []
    return Marks(labels, digits, at_border, total)


def _components(mask: np.ndarray, ink: np.ndarray) -> tuple[np.ndarray, list[Component]]:
    from scipy import ndimage

    labels, count = ndimage.label(mask, np.ones((3, 3), int))
    mass = np.bincount(labels.reshape(-1), ink.reshape(-1), minlength=count + 1)
    area = np.bincount(labels.reshape(-1), minlength=count + 1)
    height, width = mask.shape
    found = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        edge = rows.start == 0 or columns.start == 0 or rows.stop == height or columns.stop == width
        found.append(Component(
            (number,), rows.start, columns.start, rows.stop, columns.stop, float(mass[number]),
            float(mass[number] / area[number]), edge,
        ))  # fmt: skip
    return labels, found


def _without_frames(components: list[Component], labels: np.ndarray) -> list[Component]:
    """Leave out boxes and circles: they enclose a mark, and have no ink where it is."""
    kept = []
    for outer in components:
        inside = [
            inner for inner in components
            if inner is not outer and outer.encloses(inner) and inner.size >= 0.3 * outer.size
            and _share(labels, outer, inner) < 0.02
        ]  # fmt: skip
        if not inside:
            kept.append(outer)
    return kept


def _share(labels: np.ndarray, outer: Component, inner: Component) -> float:
    """Return which part of the box round `inner` is ink of `outer`."""
    area = labels[inner.top : inner.bottom, inner.left : inner.right]
    return float(np.isin(area, outer.numbers).mean())


def _without_lines(components: list[Component], labels: np.ndarray) -> list[Component]:
    """Leave out straight level and upright lines, unless nothing else is there."""
    lines = [component for component in components if _is_line(component, labels)]
    others = [component for component in components if component not in lines]
    if not lines or not components:
        return components
    longest = max(line.size for line in lines)
    # A digit 1 is a line, too. It is upright, and other lines beside it are longer.
    upright = [line for line in lines if line.height > line.width]
    if any(other.size >= 0.25 * longest for other in others):
        tallest = max(other.height for other in others)
        is_one = (
            len(upright) == 1 and 0.6 * tallest < upright[0].height < 1.15 * tallest
        )  # several are of squared paper
        return others + upright if is_one else others
    if len(upright) > 1:
        shortest = min(line.height for line in upright)
        upright = [line for line in upright if line.height < 1.15 * shortest]
    return upright or components


def _is_line(component: Component, labels: np.ndarray) -> bool:
    area = np.isin(labels[component.top : component.bottom, component.left : component.right], component.numbers)
    y, x = np.nonzero(area)
    covariance = np.cov(np.stack([y, x]).astype(float)) if len(y) > 2 else np.eye(2)
    variances, axes = np.linalg.eigh(covariance + 1e-9 * np.eye(2))
    is_level_or_upright = np.abs(axes[:, 1]).max() > np.cos(np.deg2rad(8))
    return bool(is_level_or_upright and np.sqrt(variances[0] / variances[1]) < _LINE_RATIO)


def _digits(candidates: list[Component]) -> list[Component]:
    """Join the parts of each digit, and return the digits of similar size; other components are left out."""
    main = max(candidates, key=lambda component: component.score)
    strong = [c for c in candidates if c.strength >= 0.45 * main.strength]
    groups = sorted(strong, key=lambda component: -component.mass)
    merging = True
    while merging:
        merging = False
        for first in groups:
            for second in groups:
                if first is not second and first.mass >= second.mass and _are_one_digit(first, second):
                    groups = [group for group in groups if group is not first and group is not second]
                    groups.append(first.merged(second))
                    merging = True
                    break
            if merging:
                break
    best = max(groups, key=lambda group: group.score)
    tallest = max(group.height for group in groups if group.mass >= 0.3 * best.mass)
    return [
        group for group in groups
        if group is best or (group.height >= _SIMILAR * tallest and group.score >= 0.12 * best.score)
    ]  # fmt: skip


def _are_one_digit(first: Component, second: Component) -> bool:
    """Return whether two components are parts of one digit. `second` has less ink."""
    across = min(first.right, second.right) - max(first.left, second.left)
    down = min(first.bottom, second.bottom) - max(first.top, second.top)
    gap = max(-across, -down, 0)
    taller, shorter = max(first.height, second.height), min(first.height, second.height)
    narrower = max(1, min(first.width, second.width))
    if shorter < _SIMILAR * taller:
        return gap <= max(2, (_GAP if across > 0 else _GAP_BESIDE) * max(first.size, second.size))
    if down >= 0.5 * shorter:  # side by side, unless one is above much of the other
        return across >= 0.5 * narrower
    if across >= 0.3 * narrower:  # one above the other
        return -down <= 0.35 * taller
    return gap <= 0.1 * taller
