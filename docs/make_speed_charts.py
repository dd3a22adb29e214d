"""Draw the speed charts of the README and of docs/performance.md from the recorded table on that page."""

import re
import sys
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))

from benchmarks.compare.chart import STYLES, Bar, Group, draw  # noqa: E402 - in a checkout, not in the installed package

LIBRARIES = {label: library for library, (label, _, _) in STYLES.items()}
RATIO = re.compile(r"([\d.]+) \(([\d.]+) to ([\d.]+)\)")


def recorded_ratios() -> list[Group]:
    """Return the rows of the table of epochs: each library's ratio to fastnn with its interval."""
    page = (DOCS / "performance.md").read_text(encoding="utf-8")
    table = page[page.index("| epoch | fastnn |") :].split("\n\n")[0]
    header, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    libraries = [LIBRARIES[name.removesuffix(" / fastnn")] for name in header[2:]]
    return [
        Group(
            title.replace(", every input nonzero", " every input nonzero"),
            [
                Bar(library, *(float(number) for number in RATIO.fullmatch(cell).groups()))
                for library, cell in zip(libraries, cells, strict=True)
            ],
        )
        for title, _, *cells in rows
    ]


def draw_one_case(group: Group, path: Path) -> None:
    """Write a small chart of one case: a bar per library, with its interval and its ratio in words."""
    bars = sorted(group.bars, key=lambda bar: bar.median)
    figure = Figure(figsize=(6.4, 1.9), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for position, bar in enumerate(bars):
        axes.barh(position, bar.median, height=0.7, color=STYLES[bar.library][1])
        axes.plot([bar.low, bar.high], [position, position], color="black", linewidth=1)
        text = f"{bar.median:.1f} times"
        axes.annotate(text, (bar.high, position), xytext=(5, 0), textcoords="offset points", va="center", fontsize=9)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xlim(0, 1.2 * max(bar.high for bar in bars))
    axes.set_yticks(range(len(bars)), [STYLES[bar.library][0] for bar in bars], fontsize=9)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8)
    axes.xaxis.set_major_locator(MultipleLocator(5))
    axes.invert_yaxis()
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_xlabel("time of the library / time of fastnn, for one epoch (thin line: 95 % interval)", fontsize=8)
    figure.savefig(path, dpi=200, metadata={"Software": None})


def main() -> None:
    """Draw both charts."""
    groups = recorded_ratios()
    draw(groups, DOCS / "images" / "ratios.png")
    draw_one_case(groups[0], DOCS / "images" / "speed.png")


if __name__ == "__main__":
    main()
