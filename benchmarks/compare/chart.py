"""Draws the bar chart: each peer's time divided by fastnn's, on a logarithmic scale, with intervals and goals."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

# Okabe and Ito's palette, which colour-blind readers can distinguish. Hatches distinguish the bars in grey print.
STYLES = {
    "jax": ("JAX", "#0072B2", ""),
    "numpy": ("NumPy", "#E69F00", "//"),
    "torch": ("PyTorch", "#D55E00", ""),
    "torch-compiled": ("PyTorch, compiled", "#CC79A7", "\\\\"),
    "scikit-learn": ("scikit-learn", "#009E73", ".."),
    "onnxruntime": ("onnxruntime", "#56B4E9", "xx"),
    "tensorflow": ("TensorFlow", "#F0E442", ""),
}


@dataclass(frozen=True)
class Bar:
    """A library's ratio to fastnn, the 95 % interval of the ratio, and the goal, if any."""

    library: str
    median: float
    low: float
    high: float
    goal: float | None = None


@dataclass(frozen=True)
class Group:
    """The bars of one case."""

    title: str
    bars: Sequence[Bar]


def draw(groups: Sequence[Group], path: Path) -> None:
    """Write the chart to `path`. Without groups, write no file."""
    if not groups:
        return
    bars = [bar for group in groups for bar in group.bars]
    figure = Figure(figsize=(9, 1.2 + 0.2 * (len(bars) + 1.2 * len(groups))), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    position, ticks, names, seen = 0.0, [], [], set()
    for group in groups:
        first = position
        for bar in sorted(group.bars, key=lambda bar: list(STYLES).index(bar.library)):
            label, colour, hatch = STYLES[bar.library]
            axes.barh(
                position,
                bar.median - 1,
                left=1,
                height=0.86,
                color=colour,
                hatch=hatch,
                edgecolor="white",
                linewidth=0,
                label=None if bar.library in seen else label,
            )
            axes.plot([bar.low, bar.high], [position, position], color="black", linewidth=1)
            end = max(bar.high, 1)
            if bar.goal is not None:
                if end < bar.goal < 1.3 * end:  # the goal's mark would cross the bar's label
                    end = bar.goal
                axes.plot([bar.goal] * 2, [position - 0.43, position + 0.43], color="black", linewidth=2)
            axes.annotate(
                f"{bar.median:.1f}", (end, position), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8
            )
            seen.add(bar.library)
            position += 1
        ticks.append((first + position - 1) / 2)
        names.append(_break_lines(group.title))
        position += 1.2
    axes.set_xscale("log")
    axes.set_xlim(min(0.8, 0.8 * min(bar.low for bar in bars)), 1.5 * max(bar.high for bar in bars))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.axvline(1, color="black", linewidth=1)
    axes.set_yticks(ticks, names, fontsize=9)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(position - 0.8, -0.8)
    axes.set_axisbelow(True)
    axes.grid(axis="x", color="0.9")
    axes.spines[["top", "right", "left"]].set_visible(False)
    goals = "; thick mark: the goal that fastnn sets itself" if any(bar.goal is not None for bar in bars) else ""
    axes.set_xlabel(f"time of the peer / time of fastnn (thin line: 95 % interval{goals})", loc="right")
    figure.legend(loc="outside upper center", ncols=7, frameon=False, fontsize=9)
    figure.savefig(path, dpi=130, metadata={"Software": None})


def _break_lines(title: str) -> str:
    places = (
        " every",
        " test accuracy",
        " while",
        " one core busy",
        " on the test",
        " SGD, 10,000",
        " batch 64, SGD, with",
    )
    for start in places:
        title = title.replace(start, f"\n{start[1:]}", 1)
    return title
