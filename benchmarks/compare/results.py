"""What a case gives: raw seconds of each contender, ratios to fastnn, and which goals are met."""

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from benchmarks.compare.cases import FASTEST, Case, Goal
from benchmarks.compare.contenders import CONTENDERS, PEER
from benchmarks.compare.ratios import Ratio, paired_ratio


@dataclass
class ContenderResult:
    """One contender in one case. `note` says why there are no times, if there are none; `rounds` are the times."""

    contender: str
    rounds: list[float] = field(default_factory=list)
    first_call: float | None = None
    result: float | None = None
    note: str = ""

    @property
    def median(self) -> float:
        """Of the rounds, NaN without any."""
        return float(np.median(self.rounds)) if self.rounds else float("nan")


@dataclass(frozen=True)
class GoalResult:
    """A goal, and what was measured: a ratio with its interval, or a figure with its smallest and largest."""

    goal: Goal
    against: str
    measured: Ratio | None

    @property
    def met(self) -> bool | None:
        """None if it could not be measured."""
        return None if self.measured is None else self._reached(self.goal.must)

    @property
    def aim_met(self) -> bool | None:
        """None if there is no aim or it could not be measured."""
        return None if self.measured is None or self.goal.aim is None else self._reached(self.goal.aim)

    def _reached(self, figure: float) -> bool:
        assert self.measured is not None
        return self.measured.median <= figure if self.goal.at_most else self.measured.median >= figure


@dataclass
class CaseResult:
    """A case as it was measured; `faults` are the reasons why its figures cannot be compared."""

    case: Case
    contenders: dict[str, ContenderResult] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    @property
    def base(self) -> ContenderResult | None:
        """fastnn, if it has times."""
        first = self.contenders.get(self.case.contenders[0])
        return first if first is not None and first.rounds else None

    def ratio(self, contender: str) -> Ratio | None:
        """Contender / fastnn, paired by rounds; None unless both have times."""
        other = self.contenders.get(contender)
        if self.base is None or other is None or not other.rounds:
            return None
        return paired_ratio(other.rounds, self.base.rounds)

    def fastest_peer(self) -> str | None:
        """The peer with the smallest median."""
        peers = [
            result
            for contender, result in self.contenders.items()
            if CONTENDERS[contender].role == PEER and result.rounds
        ]
        return min(peers, key=lambda result: result.median).contender if peers else None

    def goals(self) -> list[GoalResult]:
        """Each goal with what was measured."""
        found = []
        for goal in self.case.goals:
            if goal.against in CONTENDERS:
                found.append(GoalResult(goal, goal.against, self.ratio(goal.against)))
            elif goal.against == FASTEST:
                peer = self.fastest_peer()
                found.append(GoalResult(goal, f"{FASTEST}, {peer}" if peer else FASTEST, self.ratio(peer or "")))
            else:
                rounds = self.base.rounds if self.base else []
                figure = Ratio(float(np.median(rounds)), min(rounds), max(rounds)) if rounds else None
                found.append(GoalResult(goal, goal.against, figure))
        return found

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        contenders = {}
        for name, contender in self.contenders.items():
            ratio = self.ratio(name)
            contenders[name] = {**asdict(contender), "ratio": None if ratio is None else asdict(ratio)}
        goals = [
            {
                **asdict(found.goal),
                "against": found.against,
                "measured": None if found.measured is None else asdict(found.measured),
                "met": found.met,
                "aim_met": found.aim_met,
            }
            for found in self.goals()
        ]
        return {"case": asdict(self.case), "faults": self.faults, "contenders": contenders, "goals": goals}
