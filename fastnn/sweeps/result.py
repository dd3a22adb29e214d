"""`SweepResult`: the records of a sweep, the mean and the spread of each combination of settings, and the best one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.explanation.tables import table
from fastnn.sweeps.grid import settings_text, value_text
from fastnn.sweeps.record import TEST_METRICS, SweepRecord

if TYPE_CHECKING:
    import pandas

    from fastnn.plots import SweepDisplay


@dataclass(frozen=True)
class Combination:
    """A combination of settings, with the metrics of its runs over the seeds.

    Attributes
    ----------
    settings : dict
        The settings that vary, as plain values.
    records : tuple of SweepRecord
        Its runs, in the order of the seeds.
    metric : str
        The validation metric: "validation_accuracy" or, for networks whose outputs are numbers, "validation_loss".
    """

    settings: dict[str, Any]
    records: tuple[SweepRecord, ...] = field(repr=False)
    metric: str

    @property
    def values(self) -> np.ndarray:
        """The metric of each run that did not fail, float64."""
        return self.column(self.metric)

    @property
    def mean(self) -> float:
        """The mean of `values`; NaN if all runs failed."""
        return float(self.values.mean()) if len(self.values) else float("nan")

    @property
    def deviation(self) -> float:
        """The standard deviation of `values` over the seeds (of a sample: n - 1); NaN for fewer than two."""
        return float(self.values.std(ddof=1)) if len(self.values) > 1 else float("nan")

    @property
    def n_failed(self) -> int:
        """The number of runs that diverged or failed."""
        return sum(record.has_failed for record in self.records)

    def column(self, name: str) -> np.ndarray:
        """Return a metric of each run that has it, float64."""
        found = [getattr(record, name) for record in self.records if not record.has_failed]
        return np.array([value for value in found if value is not None], np.float64)


@dataclass(frozen=True)
class SweepResult:
    """The result of `fastnn.sweep`.

    Settings are compared by validation data only. The test set, if it is evaluated, is a column beside.

    Attributes
    ----------
    records : tuple of SweepRecord
        One for each run, in the order of the settings and, within them, of the seeds.
    names : tuple of str
        The settings that vary.
    metric : str
        What combinations are compared by: "validation_accuracy" (higher is better) or, for networks whose outputs are
        numbers, "validation_loss" (lower is better).
    folder : Path or None
        The folder with the journal.
    n_done_before : int
        The number of runs that were in the journal already.

    Examples
    --------
    >>> import fastnn
    >>> result = fastnn.sweep("digits", settings={"hidden": [8, 32]}, seeds=[0, 1], epochs=5)
    >>> len(result.records), result.names, result.best.settings
    (4, ('hidden',), {'hidden': 32})
    >>> sorted(result.columns())[:3]
    ['accuracy', 'backend', 'best_epoch']
    """

    records: tuple[SweepRecord, ...] = field(repr=False)
    names: tuple[str, ...]
    metric: str
    folder: Path | None = None
    n_done_before: int = 0

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[SweepRecord]:
        return iter(self.records)

    @property
    def combinations(self) -> list[Combination]:
        """Every combination of settings, the best first: those with failed runs come after all others."""
        found: dict[str, list[SweepRecord]] = {}
        for record in self.records:
            found.setdefault(repr(sorted(record.settings.items())), []).append(record)
        every = [Combination(records[0].settings, tuple(records), self.metric) for records in found.values()]
        sign = -1.0 if self.metric == "validation_accuracy" else 1.0
        return sorted(every, key=lambda each: (each.n_failed, np.nan_to_num(sign * each.mean, nan=np.inf)))

    @property
    def best(self) -> Combination:
        """The combination with the best mean of the metric over the seeds."""
        return self.combinations[0]

    @property
    def failures(self) -> list[SweepRecord]:
        """The runs that diverged or failed; their `error` says why."""
        return [record for record in self.records if record.has_failed]

    def columns(self) -> dict[str, list[Any]]:
        """Return one list per column, one value per run: the settings that vary, the seed, and what the run reached."""
        plain = [record.to_dict() for record in self.records]
        settings = [values.pop("settings") for values in plain]
        columns = {name: [each.get(name) for each in settings] for name in self.names}
        return {**columns, **{name: [each[name] for each in plain] for name in plain[0]}} if plain else columns

    def to_frame(self) -> "pandas.DataFrame":
        """Return `columns` as a data frame, one row per run; it needs pandas."""
        import pandas

        return pandas.DataFrame(self.columns())

    def table_columns(self) -> tuple[list[str], list[list[str]]]:
        """Return the head and the rows of the table: one row per combination, the best first."""
        every = self.combinations
        tests = [name for name in TEST_METRICS if any(len(each.column(name)) for each in every)]
        metrics = [self.metric, *tests]
        head = [name.replace("_", " ") for name in (*self.names, *metrics)]
        head += ["epochs", "seconds", "runs"]
        rows = []
        for each in every:
            cells = [value_text(name, each.settings[name]) if name in each.settings else "-" for name in self.names]
            cells += [mean_text(each.column(name), name) for name in metrics]
            done = [record for record in each.records if not record.has_failed]
            cells.append(f"{np.mean([record.epochs for record in done]):.4g}" if done else "-")
            cells.append(f"{np.mean([record.seconds for record in done]):.2f}" if done else "-")
            cells.append(f"{len(each.records)}" + (f", {each.n_failed} failed" if each.n_failed else ""))
            rows.append(cells)
        return head, rows

    def table(self) -> str:
        """Return a text table of mean and standard deviation over the seeds, one line per combination, best first."""
        head, rows = self.table_columns()
        return "\n".join(table(head, rows, left=range(len(self.names)), indent=""))

    def plot(self) -> "SweepDisplay":
        """Return a figure of every run's metric, with the mean and the spread of each combination."""
        from fastnn.plots import SweepDisplay

        every = self.combinations
        labels = [settings_text(each.settings, self.names) for each in every]
        values = [each.values for each in every]
        return SweepDisplay.from_values(labels, values, [each.n_failed for each in every], self.metric)

    def __repr__(self) -> str:
        failed = f", {len(self.failures)} failed" if self.failures else ""
        return f"SweepResult({len(self)} runs of {len(self.combinations)} settings{failed}; best: {self._best_text()})"

    def _best_text(self) -> str:
        best = self.best
        return f"{settings_text(best.settings)}, {self.metric.replace('_', ' ')} {mean_text(best.values, self.metric)}"


def mean_text(values: Sequence[float] | np.ndarray, metric: str) -> str:
    """Return the mean of a metric and its standard deviation as text, such as "97.12 % +- 0.10"."""
    values = np.asarray(values, np.float64)
    if not len(values):
        return "-"
    is_share = metric.endswith("accuracy")
    factor, form = (100.0, ".2f") if is_share else (1.0, ".4g")
    spread = f" +- {factor * values.std(ddof=1):{'.2f' if is_share else '.2g'}}" if len(values) > 1 else ""
    return f"{factor * values.mean():{form}}{' %' if is_share else ''}{spread}"
