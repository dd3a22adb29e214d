"""What a case gives: raw seconds of each contender, ratios to fastnn, and which goals are met."""

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from benchmarks.compare.cases import FASTEST, Case, Goal
from benchmarks.compare.contenders import BUSY, CONTENDERS, PEER, other_name
from benchmarks.compare.ratios import Ratio, paired_ratio

# How much longer a round of this checkout may take than one of the other.
SLOWDOWN = 0.03


@dataclass
class ContenderResult:
    """One contender in one case. `note` says why there are no times, if there are none; `rounds` are the times."""

    contender: str
    rounds: list[float] = field(default_factory=list)
    first_call: float | None = None
    result: float | None = None
    note: str = ""
    digest: str = ""

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


@dataclass(frozen=True)
class Disturbance:
    """A contender while another process keeps one core busy.

    `slowdown` is its time over its own undisturbed one, `to_fastnn` its time over that of fastnn, disturbed alike.
    """

    contender: str
    undisturbed: float
    disturbed: float
    slowdown: Ratio
    to_fastnn: Ratio | None


@dataclass(frozen=True)
class CheckoutComparison:
    """The other checkout and this one in a case: median seconds, and other / this by rounds.

    `same_bits` is whether weights and results were equal bit by bit before the timing; None for whole programs.
    """

    contender: str
    other: float
    this: float
    ratio: Ratio
    same_bits: bool | None

    @property
    def verdict(self) -> str:
        """Whether this checkout takes more than `SLOWDOWN` longer."""
        least = 1 / (1 + SLOWDOWN)
        if self.ratio.median >= least:
            return "not slower"
        return "SLOWER" if self.ratio.high < least else "slower, though not beyond the spread"


@dataclass
class CaseResult:
    """A case as it was measured.

    `faults` are the reasons why its figures cannot be compared; `remarks` qualify figures that can.
    """

    case: Case
    contenders: dict[str, ContenderResult] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def base(self) -> ContenderResult | None:
        """fastnn, if it has times."""
        return self._timed(self.case.contenders[0])

    def ratio(self, contender: str) -> Ratio | None:
        """Contender / fastnn, paired by rounds; None unless both have times. Disturbed peers meet disturbed fastnn."""
        is_disturbed_peer = CONTENDERS[contender].disturbed and CONTENDERS[contender].role == PEER
        return self._paired(contender, f"fastnn{BUSY}" if is_disturbed_peer else self.case.contenders[0])

    def fastest_peer(self) -> str | None:
        """The undisturbed peer with the smallest median."""
        peers = [
            found
            for name, found in self.contenders.items()
            if CONTENDERS[name].role == PEER and not CONTENDERS[name].disturbed and found.rounds
        ]
        return min(peers, key=lambda found: found.median).contender if peers else None

    def goals(self) -> list[GoalResult]:
        """Each goal with what was measured."""
        found = []
        for goal in self.case.goals:
            if goal.against in CONTENDERS:
                found.append(GoalResult(goal, goal.against, self.ratio(goal.against)))
            elif goal.against == FASTEST:
                peer = self.fastest_peer()
                ratio = self.ratio(peer) if peer else None
                found.append(GoalResult(goal, f"{FASTEST}, {peer}" if peer else FASTEST, ratio))
            else:
                rounds = self.base.rounds if self.base else []
                figure = Ratio(float(np.median(rounds)), min(rounds), max(rounds)) if rounds else None
                found.append(GoalResult(goal, goal.against, figure))
        return found

    def disturbances(self) -> list[Disturbance]:
        """Every contender that was timed both with all its cores and with one of them kept busy."""
        found = []
        for name in self.contenders:
            slowdown = self._paired(f"{name}{BUSY}", name)
            if slowdown is not None:
                undisturbed, disturbed = (self.contenders[each].median for each in (name, f"{name}{BUSY}"))
                to_fastnn = self._paired(f"{name}{BUSY}", f"fastnn{BUSY}")
                found.append(Disturbance(name, undisturbed, disturbed, slowdown, to_fastnn))
        return found

    def checkout_comparisons(self) -> list[CheckoutComparison]:
        """Every fastnn contender beside the same one of the other checkout."""
        found = []
        for name in self.contenders:
            other = other_name(name)
            ratio = self._paired(other, name) if other != name else None
            if ratio is not None:
                one, two = self.contenders[other], self.contenders[name]
                same_bits = one.digest == two.digest if one.digest and two.digest else None
                found.append(CheckoutComparison(name, one.median, two.median, ratio, same_bits))
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
        return {
            "case": asdict(self.case),
            "faults": self.faults,
            "remarks": self.remarks,
            "contenders": contenders,
            "goals": goals,
            "disturbances": [asdict(found) for found in self.disturbances()],
            "checkouts": [{**asdict(found), "verdict": found.verdict} for found in self.checkout_comparisons()],
        }

    def _timed(self, name: str) -> ContenderResult | None:
        found = self.contenders.get(name)
        return found if found is not None and found.rounds else None

    def _paired(self, name: str, base: str) -> Ratio | None:
        one, other = self._timed(name), self._timed(base)
        return None if one is None or other is None else paired_ratio(one.rounds, other.rounds)
