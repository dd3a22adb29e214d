"""Writes the report: a text table for the terminal, Markdown, and JSON with every raw time."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.compare.cases import FASTEST
from benchmarks.compare.chart import Bar, Group, draw
from benchmarks.compare.contenders import CONTENDERS, PEER
from benchmarks.compare.ratios import Ratio
from benchmarks.compare.results import SLOWDOWN, CaseResult, GoalResult

# Largest fraction of the cores' time that other processes may use before the report mentions it.
QUIET = 0.05


@dataclass
class Report:
    """A run: its environment and its cases.

    Attributes
    ----------
    environment, removed : dict of str
        Variables that the run set for its processes, and variables of the caller that it removed.
    kernels : dict of dict of str
        The kernels that each contender's libraries reported after the work.
    checkouts : dict of str
        "this" and, with `--against`, "other": folder and commit.
    background_load : list of float
        Fraction of the cores' time used by other processes, one value per pause.
    """

    command: str
    threads: int
    repeats: int
    quick: bool
    machine: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    background_load: list[float] = field(default_factory=list)
    removed: dict[str, str] = field(default_factory=dict)
    kernels: dict[str, dict[str, str]] = field(default_factory=dict)
    checkouts: dict[str, str] = field(default_factory=dict)
    cases: list[CaseResult] = field(default_factory=list)

    @property
    def comparable(self) -> bool:
        """Whether the contenders' results agree in all cases."""
        return not any(result.faults for result in self.cases)

    def as_json(self) -> str:
        """Return everything as JSON, including raw times. A number that is not finite becomes null."""
        value = {**vars(self), "comparable": self.comparable, "cases": [result.as_json() for result in self.cases]}
        return json.dumps(_finite(value), indent=1, allow_nan=False)

    def as_text(self) -> str:
        """Return the report as text for a terminal."""
        parts = [self._head()]
        for result in self.cases:
            parts.append(result.case.title)
            parts.append(_aligned([_HEADS, *_contender_rows(result)]))
            if rows := _disturbance_rows(result):
                parts += ["  with one core kept busy:", _aligned([_DISTURBANCE_HEADS, *rows])]
            parts += [f"  {_goal_line(found, self.quick)}" for found in result.goals()]
            parts += [f"  {remark}" for remark in result.remarks]
            parts += [f"  NOT COMPARABLE: {fault}" for fault in result.faults]
            parts.append("")
        if rows := self._checkout_rows():
            parts += [self._checkout_title(), _aligned([_CHECKOUT_HEADS, *rows]), ""]
        parts += ["kernels that ran", _aligned([_KERNEL_HEADS, *self._kernel_rows()])] if self.kernels else []
        return "\n".join(parts)

    def as_markdown(self) -> str:
        """Return the report as Markdown for the documentation: all goals in one table, then each case."""
        parts = ["# Benchmarks", "", *self._environment_lines(), ""]
        parts += ["## Goals", ""]
        parts.append(
            _markdown(["case", "against", "measured", "95 % interval", "at least", "aim", "met"], self._goals())
        )
        for result in self.cases:
            parts += ["", f"## {result.case.title}", "", _markdown(_HEADS, _contender_rows(result))]
            if rows := _disturbance_rows(result):
                parts += ["", "With one core kept busy:", "", _markdown(_DISTURBANCE_HEADS, rows)]
            parts += ["", *(f"- {remark}" for remark in result.remarks)] if result.remarks else []
            parts += ["", *(f"**Not comparable:** {fault}" for fault in result.faults)] if result.faults else []
        if rows := self._checkout_rows():
            parts += ["", "## Two checkouts", "", f"{self._checkout_title()}.", "", _markdown(_CHECKOUT_HEADS, rows)]
        if self.kernels:
            parts += ["", "## Kernels that ran", "", _markdown(_KERNEL_HEADS, self._kernel_rows())]
        return "\n".join(parts) + "\n"

    def chart_groups(self) -> list[Group]:
        """Return the bars of the chart: the ratio of every peer, for each case whose contenders agree."""
        groups = []
        for result in self.cases:
            bars = _bars(result)
            if bars and not result.faults:
                groups.append(Group(result.case.title, bars))
        return groups

    def _kernel_rows(self) -> list[list[str]]:
        contenders: dict[tuple[str, str], list[str]] = {}
        for name, found in self.kernels.items():
            for entry in found.items():
                contenders.setdefault(entry, []).append(name)
        return [[*entry, ", ".join(names)] for entry, names in sorted(contenders.items())]

    def _checkout_title(self) -> str:
        return (
            f"time of the other checkout, {self.checkouts.get('other', '')}, over this one, "
            f"{self.checkouts.get('this', '')}; this one may be {SLOWDOWN:.0%} slower"
        )

    def _checkout_rows(self) -> list[list[str]]:
        return [
            [
                result.case.title,
                found.contender,
                quantity(found.other, result.case.unit),
                quantity(found.this, result.case.unit),
                *_ratio_cells(found.ratio),
                "" if found.same_bits is None else "equal" if found.same_bits else "differ",
                "not evaluated" if self.quick else found.verdict,
            ]
            for result in self.cases
            for found in result.checkout_comparisons()
        ]

    def _goals(self) -> list[list[str]]:
        rows = []
        for result in self.cases:
            for found in result.goals():
                sign = "at most " if found.goal.at_most else ""
                rows.append(
                    [
                        result.case.title,
                        found.against,
                        "not measured" if found.measured is None else f"{found.measured.median:.2f}",
                        "" if found.measured is None else f"{found.measured.low:.2f} to {found.measured.high:.2f}",
                        f"{sign}{found.goal.must:g}",
                        "" if found.goal.aim is None else f"{sign}{found.goal.aim:g}",
                        "not evaluated" if self.quick else _verdict(found),
                    ]
                )
        return rows

    def _environment_lines(self) -> list[str]:
        lines = [
            f"A ratio is the median of other / fastnn over {self.repeats} interleaved rounds, with its bootstrap 95 % "
            f"interval. {self.threads} threads unless stated otherwise; float32 arithmetic.",
            "",
            f"- command: `{self.command}`",
            *(f"- {name}: {_number(value)}" for name, value in self.machine.items()),
            f"- versions: {', '.join(f'{name} {version}' for name, version in self.versions.items())}",
        ]
        lines += [f"- {name} checkout: {text}" for name, text in self.checkouts.items()]
        lines.append(f"- set for every contender: {_variables(self.environment)}")
        lines.append(f"- removed from every contender's environment: {_variables(self.removed)}")
        lines += [f"- skipped: {library} ({why})" for library, why in self.missing.items()]
        if self.background_load and (load := float(np.median(self.background_load))) > QUIET:
            lines.append(
                f"- **disturbed**: other processes used {load:.0%} of the cores' time in the pauses, when no contender "
                "runs; contenders whose threads wait for each other suffer most"
            )
        if self.quick:
            lines.append("- quick run on a few hundred rows: its times do not count for the goals")
        return lines

    def _head(self) -> str:
        return "\n".join([*self._environment_lines(), ""])


_HEADS = ["contender", "median", "min", "max", "ratio", "95 % interval", "set-up and first call", "result", "note"]
_DISTURBANCE_HEADS = [
    "contender", "undisturbed", "disturbed", "slowdown", "95 % interval", "disturbed / fastnn disturbed",
    "95 % interval",
]  # fmt: skip
_CHECKOUT_HEADS = ["case", "contender", "other", "this", "other / this", "95 % interval", "bits", "this checkout is"]
_KERNEL_HEADS = ["library", "kernels", "contenders"]


def write(report: Report, folder: Path) -> None:
    """Write report.json, report.md and ratios.png."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(report.as_json())
    (folder / "report.md").write_text(report.as_markdown())
    draw(report.chart_groups(), folder / "ratios.png")


def _contender_rows(result: CaseResult) -> list[list[str]]:
    rows, unit = [], result.case.unit
    for name, contender in result.contenders.items():
        ratio: Ratio | None = result.ratio(name)
        control = name == "fastnn-again" and ratio is not None
        share = result.share_of_peak(name)
        verdict = ("interval contains 1" if ratio.contains_one else "interval does NOT contain 1") if control else ""
        rows.append(
            [
                name,
                *(quantity(value, unit) for value in (contender.median, *_ends(contender.rounds))),
                *_ratio_cells(ratio),
                "" if contender.first_call is None else quantity(contender.first_call, "s"),
                "" if contender.result is None else f"{contender.result:.5g}",
                "; ".join(filter(None, [contender.note, verdict, share and f"{share.median:.0%} of the peak"])),
            ]
        )
    return rows


def _disturbance_rows(result: CaseResult) -> list[list[str]]:
    return [
        [
            found.contender,
            quantity(found.undisturbed, result.case.unit),
            quantity(found.disturbed, result.case.unit),
            *_ratio_cells(found.slowdown),
            *_ratio_cells(found.to_fastnn),
        ]
        for found in result.disturbances()
    ]


def _bars(result: CaseResult) -> list[Bar]:
    """Return the ratio of each peer library, in its fastest form or that of a goal.

    In a case with disturbed contenders, only disturbed peers count.
    """
    is_disturbed = any(CONTENDERS[name].disturbed for name in result.contenders if CONTENDERS[name].role == PEER)
    goals = {}
    for found in result.goals():
        against = result.fastest_peer() if found.goal.against == FASTEST else found.goal.against
        if against is not None:
            goals[against] = found.goal.must
    bars: dict[str, Bar] = {}
    for name in sorted(result.contenders, key=lambda name: (name not in goals, result.contenders[name].median)):
        contender, ratio = CONTENDERS[name], result.ratio(name)
        is_shown = contender.role == PEER and contender.disturbed == is_disturbed and contender.library not in bars
        if is_shown and ratio is not None:
            bars[contender.library] = Bar(contender.library, ratio.median, ratio.low, ratio.high, goals.get(name))
    return list(bars.values())


def _ratio_cells(ratio: Ratio | None) -> tuple[str, str]:
    return ("", "") if ratio is None else (f"{ratio.median:.2f}", f"{ratio.low:.2f} to {ratio.high:.2f}")


def _variables(variables: dict[str, str]) -> str:
    return ", ".join(f"`{name}={value}`" for name, value in variables.items()) or "nothing"


def _ends(rounds: Sequence[float]) -> tuple[float, float]:
    return (min(rounds), max(rounds)) if rounds else (math.nan, math.nan)


def quantity(value: float, unit: str) -> str:
    """Format a value with three digits and a unit of suitable size."""
    if not math.isfinite(value):
        return ""
    if unit != "s":
        return f"{value:.2f}"
    for scale, name in ((1, "s"), (1e-3, "ms")):
        if abs(value) >= scale:
            return f"{value / scale:.3g} {name}" if value / scale < 1000 else f"{value / scale:.0f} {name}"
    return f"{value / 1e-6:.3g} µs"


def _goal_line(found: GoalResult, quick: bool) -> str:
    goal = found.goal
    wanted = f"at {'most' if goal.at_most else 'least'} {goal.must:g}" + (f", aim {goal.aim:g}" if goal.aim else "")
    if found.measured is None:
        return f"against {found.against}: not measured ({wanted})"
    interval = f"{found.measured.low:.2f} to {found.measured.high:.2f}"
    verdict = "not evaluated in a quick run" if quick else _verdict(found)
    return f"against {found.against}: {found.measured.median:.2f} ({interval}); {wanted}: {verdict}"


def _verdict(found: GoalResult) -> str:
    if found.met is None:
        return "not measured"
    if not found.met:
        return "not met"
    return "aim met" if found.aim_met else "met"


def _number(value: Any) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def _aligned(rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in [heads, ["---"] * len(heads), *escaped])


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
