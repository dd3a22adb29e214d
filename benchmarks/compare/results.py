"""The results of a case: raw times of each contender, ratios to fastnn, and which goals are met."""

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from benchmarks.compare.cases import FASTEST, Case, Goal
from benchmarks.compare.contenders import BUSY, CONTENDERS, PEAK, PEER, other_name
from benchmarks.compare.ratios import Ratio, paired_ratio

# Largest allowed slowdown of this checkout relative to the other.
SLOWDOWN = 0.03


@dataclass
class ContenderResult:
    """One contender in one case. `rounds` holds the times; `note` gives the reason if there are none.

    `accuracies` holds the accuracy on the test images of each round's network, for the work "train".
    """

    contender: str
    rounds: list[float] = field(default_factory=list)
    first_call: float | None = None
    result: float | None = None
    note: str = ""
    digest: str = ""
    accuracies: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The median of the rounds, or NaN without rounds."""
        return float(np.median(self.rounds)) if self.rounds else float("nan")


@dataclass(frozen=True)
class GoalResult:
    """A goal and its measured value: a ratio with its interval, or a median with the smallest and largest value."""

    goal: Goal
    against: str
    measured: Ratio | None

    @property
    def met(self) -> bool | None:
        """Whether the goal is met, or None if it could not be measured."""
        return None if self.measured is None else self._reached(self.goal.must)

    @property
    def aim_met(self) -> bool | None:
        """Whether the aim is met, or None if there is no aim or it could not be measured."""
        return None if self.measured is None or self.goal.aim is None else self._reached(self.goal.aim)

    def _reached(self, bound: float) -> bool:
        assert self.measured is not None
        return self.measured.median <= bound if self.goal.at_most else self.measured.median >= bound


@dataclass(frozen=True)
class Disturbance:
    """A contender while another process keeps one core busy.

    `slowdown` is its disturbed time over its undisturbed time. `to_fastnn` is its disturbed time over fastnn's.
    """

    contender: str
    undisturbed: float
    disturbed: float
    slowdown: Ratio
    to_fastnn: Ratio | None


@dataclass(frozen=True)
class CheckoutComparison:
    """The other checkout and this one in a case: median seconds, and the ratio other / this paired by rounds.

    `same_bits` is whether weights and results were bitwise equal before the timing; None for whole programs.
    """

    contender: str
    other: float
    this: float
    ratio: Ratio
    same_bits: bool | None

    @property
    def verdict(self) -> str:
        """Whether this checkout is slower than the other by more than `SLOWDOWN`, in words."""
        least = 1 / (1 + SLOWDOWN)
        if self.ratio.median >= least:
            return "not slower"
        return "SLOWER" if self.ratio.high < least else "slower, but not significantly"


@dataclass
class CaseResult:
    """A measured case.

    `faults` are reasons why its times are not comparable. `remarks` are notes on comparable times.
    """

    case: Case
    contenders: dict[str, ContenderResult] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def base(self) -> ContenderResult | None:
        """The result of fastnn, or None if it has no times."""
        return self._timed(self.case.contenders[0])

    def ratio(self, contender: str) -> Ratio | None:
        """Return contender / fastnn paired by rounds, or None unless both have times.

        Disturbed peers are compared with disturbed fastnn.
        """
        is_disturbed_peer = CONTENDERS[contender].disturbed and CONTENDERS[contender].role == PEER
        return self._paired(contender, f"fastnn{BUSY}" if is_disturbed_peer else self.case.contenders[0])

    def share_of_peak(self, contender: str) -> Ratio | None:
        """Return a contender's share of the machine's peak of multiply-adds, of those that the maths needs.

        None if the case does not time the peak.
        """
        return None if contender == PEAK else self._paired(PEAK, contender)

    def fastest_peer(self) -> str | None:
        """Return the undisturbed peer with the smallest median time."""
        peers = [
            found
            for name, found in self.contenders.items()
            if CONTENDERS[name].role == PEER and not CONTENDERS[name].disturbed and found.rounds
        ]
        return min(peers, key=lambda found: found.median).contender if peers else None

    def goals(self) -> list[GoalResult]:
        """Return each goal with its measured value."""
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
                measured = Ratio(float(np.median(rounds)), min(rounds), max(rounds)) if rounds else None
                found.append(GoalResult(goal, goal.against, measured))
        return found

    def disturbances(self) -> list[Disturbance]:
        """Return every contender timed both undisturbed and with one core kept busy."""
        found = []
        for name in self.contenders:
            slowdown = self._paired(f"{name}{BUSY}", name)
            if slowdown is not None:
                undisturbed, disturbed = (self.contenders[each].median for each in (name, f"{name}{BUSY}"))
                to_fastnn = self._paired(f"{name}{BUSY}", f"fastnn{BUSY}")
                found.append(Disturbance(name, undisturbed, disturbed, slowdown, to_fastnn))
        return found

    def checkout_comparisons(self) -> list[CheckoutComparison]:
        """Return every fastnn contender with its counterpart in the other checkout."""
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
        """Return the results as plain values for JSON."""
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
