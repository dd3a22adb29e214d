"""The bar chart: how many times as long the others take, on a logarithmic scale, with intervals and goals."""

from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from benchmarks.compare.cases import FASTEST
from benchmarks.compare.contenders import CONTENDERS, PEER

if TYPE_CHECKING:
    from benchmarks.compare.report import Report

# Okabe and Ito's palette, which colour-blind readers tell apart; hatches tell the bars apart in grey too.
LOOKS = {
    "jax": ("JAX", "#0072B2", ""),
    "numpy": ("NumPy", "#E69F00", "//"),
    "torch": ("PyTorch", "#D55E00", ""),
    "torch-compiled": ("PyTorch, compiled", "#CC79A7", "\\\\"),
    "scikit-learn": ("scikit-learn", "#009E73", ".."),
    "onnxruntime": ("onnxruntime", "#56B4E9", "xx"),
}


def draw(report: "Report", path: Path) -> None:
    """Write the chart of every case that has a ratio to a peer; no file where there is none."""
    groups = []
    for result in report.cases:
        ratios = {
            CONTENDERS[contender].library: ratio
            for contender in result.contenders
            if CONTENDERS[contender].role == PEER and (ratio := result.ratio(contender)) is not None
        }
        if ratios and not result.faults:
            groups.append((result, ratios))
    if not groups:
        return
    figure = Figure(figsize=(9, 1.2 + 0.2 * sum(len(ratios) + 1.2 for _, ratios in groups)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    place, ticks, names, seen = 0.0, [], [], set()
    largest = max(ratio.high for _, ratios in groups for ratio in ratios.values())
    for result, ratios in groups:
        first = place
        must = {
            CONTENDERS[contender].library: found.goal.must
            for found in result.goals()
            if (contender := result.fastest_peer() if found.goal.against == FASTEST else found.goal.against)
            in CONTENDERS
            and CONTENDERS[contender].role == PEER
        }
        for library in (name for name in LOOKS if name in ratios):
            ratio, (label, colour, hatch) = ratios[library], LOOKS[library]
            axes.barh(
                place,
                ratio.median - 1,
                left=1,
                height=0.86,
                color=colour,
                hatch=hatch,
                edgecolor="white",
                linewidth=0,
                label=None if library in seen else label,
            )
            axes.plot([ratio.low, ratio.high], [place, place], color="black", linewidth=1)
            end = max(ratio.high, 1)
            if end < must.get(library, 0) < 1.3 * end:  # where the goal's mark would lie on the figure
                end = must[library]
            axes.annotate(
                f"{ratio.median:.1f}",
                (end, place),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
            if library in must:
                axes.plot([must[library]] * 2, [place - 0.43, place + 0.43], color="black", linewidth=2)
            seen.add(library)
            place += 1
        ticks.append((first + place - 1) / 2)
        names.append(result.case.title.replace(", every", ",\nevery").replace(" test accuracy", "\ntest accuracy"))
        place += 1.2
    axes.set_xscale("log")
    smallest = min(ratio.low for _, ratios in groups for ratio in ratios.values())
    axes.set_xlim(min(0.8, 0.8 * smallest), largest * 1.5)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.axvline(1, color="black", linewidth=1)
    axes.set_yticks(ticks, names, fontsize=9)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(place - 0.8, -0.8)
    axes.set_axisbelow(True)
    axes.grid(axis="x", color="0.9")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_xlabel("time of the others / time of fastnn (thin line: 95 % interval; thick mark: the goal)")
    figure.legend(loc="outside upper center", ncols=6, frameon=False, fontsize=9)
    figure.savefig(path, dpi=130, metadata={"Software": None})
