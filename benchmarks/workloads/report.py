"""What a run found: as JSON, as tables in Markdown and in the docs, and as a chart."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.compare.environment import ROOT
from benchmarks.compare.ratios import Ratio
from benchmarks.workloads.chart import svg
from benchmarks.workloads.measure import CPU, EMPTY_CACHE, WALL, Found

# Measures as ratios, and the least that each workload should reach.
RATIOS = {
    "fit": ("later fits", 1.5),
    "first fit": ("first fit of a process", 0.95),
    "predict": ("predict all rows", 1.2),
    "predict one row": ("predict one row", 1.5),
    "partial_fit, call 10": ("partial_fit, call 10", 1.5),
    "partial_fit, call 1,000": ("partial_fit, call 1,000", 1.5),
    "run": ("examples", 1.0),
}
SECONDS_BEYOND = 1.0  # of a first fit with an empty cache
BEFORE = Path(__file__).with_name("before.json")
PAGE, PICTURE = ROOT / "docs" / "workloads.md", ROOT / "docs" / "images" / "workloads.svg"
BEGIN, END = "<!-- python -m benchmarks.workloads --page writes this table -->", "<!-- end of the table -->"
PAGE_MEASURES = ("fit", "first fit", "predict", "predict one row")


@dataclass
class Report:
    """A run: its command, its settings and machine, and what was found of each workload and example."""

    command: str
    rounds: int
    dtype: str
    cpu: str
    load: float | None
    removed: dict[str, str]
    found: list[Found] = field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        """The workloads whose results differ, with the reasons."""
        return [f"{each.name}: {fault}" for each in self.found for fault in each.faults]

    def ratios(self, measure: str, clock: int = CPU) -> dict[str, Ratio]:
        """Return the ratio of each workload that has the measure and no fault."""
        found = {each.name: each.ratio(measure, clock) for each in self.found if not each.faults}
        return {name: ratio for name, ratio in found.items() if ratio is not None}

    def kernels(self) -> list[str]:
        """Return each library's BLAS kernels in a line."""
        lines = {
            f"{library}: {name}, {kernel}"
            for each in self.found
            for library, kernels in each.kernels.items()
            for name, kernel in kernels.items()
        }
        return sorted(lines)


def load(path: Path) -> Report:
    """Return the report that `write` wrote as JSON."""
    fields = json.loads(path.read_text(encoding="utf-8"))
    return Report(**{**fields, "found": [Found(**each) for each in fields["found"]]})


def write(report: Report, folder: Path) -> None:
    """Write results.json, results.md and workloads.svg, the last one if anything can be compared."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(asdict(report), indent=1), encoding="utf-8")
    (folder / "results.md").write_text(markdown(report), encoding="utf-8")
    strips = {title: {"now": _medians(report, measure)} for measure, (title, _) in RATIOS.items()}
    if any(strip["now"] for strip in strips.values()):
        (folder / "workloads.svg").write_text(svg("Users' workloads", strips), encoding="utf-8")


def markdown(report: Report) -> str:
    """Return the settings, a summary of each measure, and a table of all workloads."""
    removed = ", ".join(f"`{name}={value}`" for name, value in report.removed.items()) or "none"
    load = "unknown" if report.load is None else f"{report.load:.1f}"
    lines = [
        f"`{report.command}`, rounds: {report.rounds}, {report.dtype}, one thread, {report.cpu}, load {load}.",
        "Ratios are scikit-learn / fastnn of CPU seconds: the median over rounds, with its 95 % interval.",
        f"Removed from the environment: {removed}.",
        "",
        *(f"- {kernel}" for kernel in report.kernels()),
        "",
        *summary(report),
        "",
        *_table(report),
    ]
    if report.faults:
        lines += ["", "Not comparable, because the results differ:", "", *(f"- {fault}" for fault in report.faults)]
    return "\n".join(lines) + "\n"


def summary(report: Report) -> list[str]:
    """Return a line for each measure: the median, the lowest ratio, and how many miss what they should reach."""
    lines = []
    for measure, (title, least) in RATIOS.items():
        cpu, wall = ([ratio.median for ratio in report.ratios(measure, clock).values()] for clock in (CPU, WALL))
        if cpu:
            missed = sum(ratio < least for ratio in cpu)
            lines.append(
                f"- {title}: median {np.median(cpu):.2f} (wall {np.median(wall):.2f}), lowest {min(cpu):.2f} "
                f"(wall {min(wall):.2f}), below {least:g}: {missed} of {len(cpu)}"
            )
    beyond = [seconds for each in report.found if (seconds := each.seconds_beyond(EMPTY_CACHE)) is not None]
    if beyond:
        missed = sum(seconds > SECONDS_BEYOND for seconds in beyond)
        lines.append(
            f"- {EMPTY_CACHE}: {max(beyond):.1f} s at most beyond scikit-learn's, above {SECONDS_BEYOND:g} s: "
            f"{missed} of {len(beyond)}"
        )
    return lines


def _table(report: Report) -> list[str]:
    measures = [measure for measure in RATIOS if report.ratios(measure)]
    has_cache = any(EMPTY_CACHE in each.times for each in report.found)
    has_memory = any(each.memory for each in report.found)
    head = ["name", *(RATIOS[measure][0] for measure in measures)]
    head += [f"{EMPTY_CACHE}, s beyond"] * has_cache + ["MB added by the first fit, fastnn / scikit-learn"] * has_memory
    lines = [_row(head), _row(["---"] * len(head))]
    for each in report.found:
        if each.faults:
            continue
        cells = [each.name, *(_ratio(each.ratio(measure)) for measure in measures)]
        if has_cache:
            seconds = each.seconds_beyond(EMPTY_CACHE)
            cells.append("" if seconds is None else f"{seconds:+.2f}")
        if has_memory:
            cells.append(" / ".join(f"{np.median(megabytes):.0f}" for _, megabytes in sorted(each.memory.items())))
        lines.append(_row(cells))
    return lines


def _ratio(ratio: Ratio | None) -> str:
    return "" if ratio is None else f"{ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _medians(report: Report, measure: str) -> list[float]:
    return [ratio.median for ratio in report.ratios(measure).values()]


def update_page(report: Report | None, page: Path = PAGE, picture: Path = PICTURE) -> None:
    """Write the table of a page of the docs and its chart: the recorded ratios before, and those of a report, if any.

    Raises
    ------
    ValueError
        If the page has no place for the table.
    """
    text = page.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        raise ValueError(f"{page}: expected the lines {BEGIN!r} and {END!r}")
    start, rest = text.split(BEGIN)
    table = "\n".join(page_table(report))
    page.write_text(f"{start}{BEGIN}\n\n{table}\n\n{END}{rest.split(END)[1]}", encoding="utf-8")
    before: dict[str, dict[str, float]] = json.loads(BEFORE.read_text(encoding="utf-8"))
    strips = {}
    for measure in PAGE_MEASURES:
        now = [] if report is None else _medians(report, measure)
        strips[RATIOS[measure][0]] = {"before": [each[measure] for each in before.values()], "now": now}
    picture.write_text(svg("49 workloads of users", strips), encoding="utf-8")


def page_table(report: Report | None) -> list[str]:
    """Return the lines of the table in the docs: for each group of workloads the median ratios, before and now."""
    from benchmarks.workloads.table import WORKLOADS

    before: dict[str, dict[str, float]] = json.loads(BEFORE.read_text(encoding="utf-8"))
    groups: dict[str, list[str]] = {}
    for workload in WORKLOADS:
        groups.setdefault(workload.group, []).append(workload.name)
    lines = [_row(["workloads", *(RATIOS[measure][0] for measure in PAGE_MEASURES)])]
    lines.append(_row(["---"] * (1 + len(PAGE_MEASURES))))
    for group, names in [*groups.items(), ("all", [each.name for each in WORKLOADS])]:
        cells = [f"{group} ({len(names)})"]
        for measure in PAGE_MEASURES:
            now = {} if report is None else report.ratios(measure)
            cells.append(
                _change([before[name][measure] for name in names], [now[name].median for name in names if name in now])
            )
        lines.append(_row(cells))
    return lines


def _change(before: Sequence[float], now: Sequence[float]) -> str:
    """Return two medians as a cell: the one before, and the one of today if there is one."""
    cells = [f"{np.median(each):.1f}" if len(each) else "" for each in (before, now)]
    return " → ".join(cell for cell in cells if cell)
