"""The results of a memory bench: a row for each film, and the summary. Saved as JSON, and read again to compare.

Knows names and numbers; no tensor, no picture.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

from echo_cli.bench.columns import METRICS
from echo_cli.bench.statistics import Interval, Verdict, interval, verdicts
from echo_cli.errors import UsageError
from echo_cli.files import parse_json, why_unreadable

FORMAT = 1
MEMORY = "bench memory"
ALL = "all"  # scenarios together
Film = tuple[str, str, int]  # scenario, policy, seed
CSV_COLUMNS = ("scenario", "policy", "metric", "unit", "mean", "low", "high", "seeds", "verdict")


@dataclass(frozen=True)
class Row:
    """One film's figures. `same_as`: whose film it is, if this contestant cannot have one of its own."""

    scenario: str
    policy: str
    seed: int
    figures: Mapping[str, float]
    curves: Mapping[str, Sequence[tuple[float, float]]]
    same_as: str | None = None


@dataclass(frozen=True)
class Cell:
    """A metric of a policy in a scenario, and how it compares with the policy that the run compares with."""

    scenario: str
    policy: str
    metric: str
    interval: Interval
    seeds: int
    verdict: Verdict | None  # None for that policy itself


@dataclass(frozen=True)
class Report:
    """`about` says what was run, where, and how long it took; `scenarios` and `policies` say what each name means."""

    about: Mapping[str, Any]
    scenarios: Mapping[str, Any]
    policies: Mapping[str, Any]
    against: str
    rows: tuple[Row, ...]

    @cached_property
    def by_seed(self) -> dict[tuple[str, str, str], dict[int, float]]:
        """(scenario, policy, metric) → seed → value; ALL holds the mean over the scenarios."""
        films: dict[tuple[str, str, str], dict[int, float]] = {}
        together: dict[tuple[str, str, str], dict[int, list[float]]] = {}
        for row in self.rows:
            for metric, value in row.figures.items():
                films.setdefault((row.scenario, row.policy, metric), {})[row.seed] = value
                together.setdefault((ALL, row.policy, metric), {}).setdefault(row.seed, []).append(value)
        return films | {key: {seed: fmean(values) for seed, values in seeds.items()} for key, seeds in together.items()}

    @cached_property
    def cells(self) -> dict[tuple[str, str, str], Cell]:
        cells = {}
        for scenario in (ALL, *self.scenarios):
            for metric in METRICS:
                values = {
                    policy: seeds for policy in self.policies if (seeds := self.by_seed.get((scenario, policy, metric)))
                }
                base = values.get(self.against, {})
                pairs = {policy: [seeds[seed] - base[seed] for seed in seeds if seed in base]
                         for policy, seeds in values.items() if policy != self.against and not METRICS[metric].cost}
                said = verdicts({policy: each for policy, each in pairs.items() if each}, METRICS[metric].more)
                for policy, seeds in values.items():
                    cells[scenario, policy, metric] = Cell(
                        scenario, policy, metric, interval(list(seeds.values())), len(seeds), said.get(policy)
                    )
        return cells

    def cell(self, policy: str, metric: str, scenario: str = ALL) -> Cell | None:
        return self.cells.get((scenario, policy, metric))

    def measured(self, scenario: str = ALL) -> list[str]:
        """The metrics that any policy has in a scenario, in the table's order."""
        return [metric for metric in METRICS if any(self.cell(policy, metric, scenario) for policy in self.policies)]

    def curve(self, scenario: str, policy: str, metric: str) -> list[tuple[float, float]]:
        """The mean over seeds."""
        curves = [
            row.curves[metric]
            for row in self.rows
            if (row.scenario, row.policy) == (scenario, policy) and metric in row.curves
        ]
        return [(points[0][0], fmean(y for _, y in points)) for points in zip(*curves, strict=False)]

    def curves(self, scenario: str) -> list[str]:
        return list(dict.fromkeys(name for row in self.rows if row.scenario == scenario for name in row.curves))

    def as_dict(self) -> dict[str, Any]:
        return {"kind": MEMORY, "format": FORMAT, "about": dict(self.about), "against": self.against,
                "scenarios": dict(self.scenarios), "policies": dict(self.policies),
                "metrics": {name: metric._asdict() for name, metric in METRICS.items()},
                "summary": [_plain(cell) for cell in self.cells.values()],
                "rows": [asdict(row) for row in self.rows]}


def _plain(cell: Cell) -> dict[str, Any]:
    return {"scenario": cell.scenario, "policy": cell.policy, "metric": cell.metric, "mean": cell.interval.mean,
            "low": cell.interval.low, "high": cell.interval.high, "seeds": cell.seeds,
            "verdict": None if cell.verdict is None else cell.verdict.value}


def csv_rows(report: Report) -> Iterator[dict[str, Any]]:
    for cell in report.cells.values():
        yield {**_plain(cell), "unit": METRICS[cell.metric].unit}


def saved(result: Mapping[str, Any]) -> Report:
    """A report from its JSON."""
    rows = (
        Row(
            row["scenario"],
            row["policy"],
            row["seed"],
            {name: float(value) for name, value in row["figures"].items()},
            {name: [(x, y) for x, y in points] for name, points in row["curves"].items()},
            row["same_as"],
        )
        for row in result["rows"]
    )
    return Report(result["about"], result["scenarios"], result["policies"], result["against"], tuple(rows))


def filled(rows: Iterable[Row], same: Mapping[tuple[str, str], str]) -> list[Row]:
    """The rows, repeated for each (scenario, policy) whose film can only be the same as another policy's."""
    rows = list(rows)
    return rows + [Row(row.scenario, policy, row.seed, row.figures, row.curves, source)
                   for (scenario, policy), source in same.items() for row in rows
                   if (row.scenario, row.policy) == (scenario, source)]


def read(path: Path) -> dict[str, Any]:
    """Reads the JSON that a bench wrote."""
    try:
        result = parse_json(path.read_bytes())
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file", "Name a file that a bench wrote with --json or --out.") from None
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path}: cannot be read: {why_unreadable(error)}", "Name a file that a bench wrote with --json or --out."
        ) from None
    if not isinstance(result, dict) or "kind" not in result:
        raise UsageError(
            f"{path}: JSON, but not the result of a bench",
            "Name a file that `bench memory` or `bench speed` wrote with --json.",
        )
    if result.get("format", 0) > FORMAT:
        raise UsageError(f"{path}: written by a newer version of this program",
                         "Update this program, or read the file with the version that wrote it.")
    return result
