"""Draws each workload as a dot, by measure, as an SVG that is readable on light and dark pages and on a phone."""

from collections.abc import Mapping, Sequence
from math import ceil, floor, log10
from xml.sax.saxutils import escape

import numpy as np

WIDTH, MARGIN = 480, 20  # a phone shows it at three quarters of this width
TITLE, LANE, GAP, HEAD, FOOT = 24, 28, 20, 66, 58
RADIUS, BEFORE_RADIUS = 4.0, 3.2
TICKS = (1, 2, 5)

STYLE = """
.page { fill: #ffffff } .text { fill: #1f2328 } .note { fill: #59636e } .grid { stroke: #d8dee4 }
.one { stroke: #1f2328 } .slow { fill: #bc4c00 } .fast { fill: #0969da } .before { fill: none; stroke: #818b98 }
.median { stroke: #1f2328 }
@media (prefers-color-scheme: dark) {
.page { fill: #15191f } .text { fill: #f0f6fc } .note { fill: #9198a1 } .grid { stroke: #3d444d }
.one { stroke: #f0f6fc } .slow { fill: #f0883e } .fast { fill: #58a6ff } .median { stroke: #f0f6fc }
}
text { font: 15px system-ui, sans-serif } .head { font-size: 18px; font-weight: 600 } .bold { font-weight: 600 }
"""

Strip = Mapping[str, Sequence[float]]  # "before" and "now": a ratio for each workload


def svg(title: str, strips: Mapping[str, Strip]) -> str:
    """Return the chart: a strip for each measure, with a lane of ratios before, if there are any, and one of today's.

    Raises
    ------
    ValueError
        If there is no ratio at all.
    """
    ratios = [ratio for strip in strips.values() for lane in strip.values() for ratio in lane]
    if not ratios:
        raise ValueError("no ratios, expected at least one")
    scale = _Scale(min(*ratios, 0.5), max(*ratios, 2))
    parts, y = [], HEAD
    for measure, strip in strips.items():
        lanes = {name: lane for name, lane in strip.items() if len(lane)}
        if lanes:
            parts += _strip(measure, lanes, y, scale)
            y += TITLE + LANE * len(lanes) + GAP
    height = y + FOOT - GAP
    size = f'xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"'
    frame = [
        f'<svg {size} role="img" aria-label="{escape(title)}">',
        f"<title>{escape(title)}</title><style>{STYLE}</style>",
        f'<rect class="page" width="{WIDTH}" height="{height}"/>',
        _text(MARGIN, 28, title, "text head"),
        *_legend(strips),
    ]
    return "\n".join([*frame, *_axis(scale, HEAD, y - GAP, height), *parts, "</svg>\n"])


def _legend(strips: Mapping[str, Strip]) -> list[str]:
    kinds = []
    if any(len(strip.get("now", ())) for strip in strips.values()):
        kinds += [("slow", "fastnn slower"), ("fast", "fastnn faster")]
    if any(len(strip.get("before", ())) for strip in strips.values()):
        kinds.append(("before", "before"))
    places = range(MARGIN + 5, WIDTH, 145)
    return [
        _circle(x, 46, kind) + _text(x + 10, 51, text, "note")
        for x, (kind, text) in zip(places, kinds, strict=False)
    ]  # fmt: skip


class _Scale:
    """A logarithmic scale."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = log10(low) - 0.05, log10(high) + 0.05

    def __call__(self, ratio: float) -> float:
        return MARGIN + (WIDTH - 2 * MARGIN) * (log10(ratio) - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Return the numbers at the axis, few enough for their labels."""
        decades = range(floor(self.low), ceil(self.high) + 1)
        factors = TICKS if self.high - self.low < 2.5 else (1,)
        found = [factor * 10.0**decade for decade in decades for factor in factors]
        return [tick for tick in found if self.low <= log10(tick) <= self.high]


def _strip(measure: str, lanes: Strip, y: float, scale: _Scale) -> list[str]:
    now = lanes.get("now", lanes.get("before", ()))
    summary = f"median {_number(float(np.median(now)))}, lowest {_number(min(now))}"
    parts = [_text(MARGIN, y + 15, measure, "text bold"), _text(WIDTH - MARGIN, y + 15, summary, "note", "end")]
    y += TITLE
    for name, lane in lanes.items():
        middle = y + LANE / 2
        radius = BEFORE_RADIUS if name == "before" else RADIUS
        for ratio, offset in zip(sorted(lane), _offsets([scale(ratio) for ratio in sorted(lane)], radius), strict=True):
            kind = "before" if name == "before" else "slow" if ratio < 1 else "fast"
            parts.append(_circle(scale(ratio), middle + offset, kind, radius))
        at = scale(float(np.median(lane)))
        parts.append(f'<path class="median" stroke-width="2.5" d="M{at:.1f} {middle - 13:.1f}v26"/>')
        y += LANE
    return parts


def _offsets(places: Sequence[float], radius: float) -> list[float]:
    """Return a vertical offset for each dot, in order, so that few of them cover each other."""
    rows = [0.0, -radius * 1.9, radius * 1.9]
    ends = [-1e9] * len(rows)
    found = []
    for place in places:
        free = [row for row, end in enumerate(ends) if place - end >= 1.9 * radius]
        row = free[0] if free else int(np.argmin(ends))
        ends[row] = place
        found.append(rows[row])
    return found


def _axis(scale: _Scale, top: float, bottom: float, height: float) -> list[str]:
    parts = []
    for tick in scale.ticks():
        kind = "one" if tick == 1 else "grid"
        parts.append(f'<path class="{kind}" d="M{scale(tick):.1f} {top}V{bottom}"/>')
        parts.append(_text(scale(tick), bottom + 18, f"{tick:g}", "note", "middle"))
    parts.append(_text(WIDTH / 2, height - 12, "time of scikit-learn / time of fastnn", "text", "middle"))
    return parts


def _number(value: float) -> str:
    return f"{value:.2f}" if value < 2 else f"{value:.1f}"


def _circle(x: float, y: float, kind: str, radius: float = RADIUS) -> str:
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill-opacity="0.8"/>'


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
