"""Two results of a bench side by side: two versions, two models or two machines.

Films of the same story are compared with each other, so a small change is seen among large differences between stories.
Plain numbers; no tensor.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from echo_cli.bench.columns import METRICS
from echo_cli.bench.results import MEMORY, Report, saved
from echo_cli.bench.statistics import Verdict, interval, verdicts
from echo_cli.errors import UsageError

SPEED = "bench speed"
_FACTS = {
    MEMORY: ("version", "model", "weights", "fast", "eye", "device", "machine", "torch"),
    SPEED: (
        "version",
        "spec",
        "layers",
        "window",
        "tokens_a_frame",
        "device",
        "machine",
        "dtype",
        "threads",
        "compiled",
        "attention",
        "torch",
    ),
}
_TIMES = ("block_ms", "processor_ms", "pictures_per_second", "whole_pictures_per_second", "share_of_peak", "bytes_last")


@dataclass(frozen=True)
class Change:
    """One figure in both results. `low` and `high` enclose the mean change, if there are pairs to compute it from."""

    policy: str
    metric: str
    before: float
    after: float
    verdict: Verdict | None
    low: float | None = None
    high: float | None = None
    pairs: int = 0

    @property
    def ratio(self) -> float | None:
        return self.after / self.before if self.before else None


@dataclass(frozen=True)
class Comparison:
    """`facts` are those that differ, as (before, after); `left_out` names what only one of the two has."""

    kind: str
    facts: Mapping[str, tuple[Any, Any]]
    changes: tuple[Change, ...]
    left_out: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        return {
            "kind": "bench compare",
            "of": self.kind,
            "facts": {name: list(pair) for name, pair in self.facts.items()},
            "changes": [asdict(change) for change in self.changes],
            "left_out": list(self.left_out),
        }


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> Comparison:
    kinds = {result["kind"] for result in (before, after)}
    if len(kinds) > 1 or not kinds <= {MEMORY, SPEED}:
        raise UsageError(f"these cannot be compared: one is '{before['kind']}', the other '{after['kind']}'",
                         "Give two results of `bench memory`, or two of `bench speed`.")
    try:
        return _memories(before, after) if before["kind"] == MEMORY else _speeds(before, after)
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise UsageError(
            f"one of the two is incomplete ({type(error).__name__}: {error})", "Run its bench again."
        ) from error


def _facts(kind: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {name: (before.get(name), after.get(name)) for name in _FACTS[kind] if before.get(name) != after.get(name)}


def _only_in_one(what: str, before: Sequence[str], after: Sequence[str]) -> Iterator[str]:
    for name in dict.fromkeys((*before, *after)):
        if (name in before) != (name in after):
            yield f"{what} {name}, only in the {'first' if name in before else 'second'}"


def _memories(before: Mapping[str, Any], after: Mapping[str, Any]) -> Comparison:
    one, other = saved(before), saved(after)
    changes: list[Change] = []
    for metric, column in METRICS.items():
        pairs = {
            policy: each
            for policy in one.policies
            if policy in other.policies and (each := _pairs(one, other, policy, metric))
        }
        apart = {policy: [new - old for old, new in each] for policy, each in pairs.items()}
        said = {} if column.cost else verdicts(apart, column.more)
        for policy, each in pairs.items():
            held = interval(apart[policy])
            changes.append(
                Change(
                    policy,
                    metric,
                    fmean(old for old, _ in each),
                    fmean(new for _, new in each),
                    said.get(policy),
                    held.low,
                    held.high,
                    len(each),
                )
            )
    if not changes:
        raise UsageError("the two have no film in common", "Compare runs of the same scenarios, policies and seeds.")
    left_out = (*_only_in_one("scenario", list(one.scenarios), list(other.scenarios)),
                *_only_in_one("policy", list(one.policies), list(other.policies)))
    return Comparison(MEMORY, _facts(MEMORY, one.about, other.about), tuple(changes), left_out)


def _pairs(one: Report, other: Report, policy: str, metric: str) -> list[tuple[float, float]]:
    """For each seed, the means over the scenarios that both have."""
    seeds: dict[int, list[tuple[float, float]]] = {}
    for scenario in one.scenarios:
        mine, theirs = (report.by_seed.get((scenario, policy, metric), {}) for report in (one, other))
        for seed in mine:
            if seed in theirs:
                seeds.setdefault(seed, []).append((mine[seed], theirs[seed]))
    return [(fmean(old for old, _ in each), fmean(new for _, new in each)) for each in seeds.values()]


def _speeds(before: Mapping[str, Any], after: Mapping[str, Any]) -> Comparison:
    rows, others = ({row["policy"]: row for row in result["policies"]} for result in (before, after))
    films, other_films = ({film["policy"]: film for film in result["films"]} for result in (before, after))
    changes = []
    for policy in (name for name in rows if name in others):
        mine, theirs = rows[policy], others[policy]
        for metric in (
            *_TIMES,
            *(f"{part} ms" for part in mine["parts_ms"]),
            *(f"{stage} ms" for stage in (*mine["stages_ms"], *_passes(mine))),
        ):
            old, new = (_speed(row, metric) for row in (mine, theirs))
            if old is not None and new is not None:
                verdict = _quicker(mine, theirs) if metric == "block_ms" else None
                changes.append(Change(policy, metric, old, new, verdict))
        if policy in films and policy in other_films:
            changes += [Change(policy, metric, _rate(films[policy], metric), _rate(other_films[policy], metric), None)
                        for metric in ("pictures_a_second", "first_picture_s")]
    changes += [
        Change("all", metric, before[metric], after[metric], None)
        for metric in ("decode_ms", "encode_ms", "peak_flops")
        if before[metric] is not None and after[metric] is not None
    ]
    if not any(change.policy != "all" for change in changes):
        raise UsageError("the two have no policy in common", "Compare runs of the same policies.")
    return Comparison(
        SPEED, _facts(SPEED, before, after), tuple(changes), tuple(_only_in_one("policy", list(rows), list(others)))
    )


def _speed(row: Mapping[str, Any], metric: str) -> float | None:
    name, unit = metric.removesuffix(" ms"), metric.endswith(" ms")
    return (row["parts_ms"] | row["stages_ms"] | _passes(row)).get(name) if unit else row[metric]


def _passes(row: Mapping[str, Any]) -> dict[str, float]:
    """What passes take on a GPU, by the way in which they run; earlier versions did not measure it."""
    return {f"pass, {way}": times["pass_ms"] for way, times in row.get("passes", {}).items()}


def _rate(film: Mapping[str, Any], metric: str) -> float:
    return film["pictures"] / film["wall_s"] if metric == "pictures_a_second" else film[metric]


def _quicker(one: Mapping[str, Any], other: Mapping[str, Any]) -> Verdict:
    """Different only if the quartiles do not touch."""
    gap = other["block_ms"] - one["block_ms"]
    if abs(gap) <= one["spread_ms"] + other["spread_ms"]:
        return Verdict.SAME
    return Verdict.BETTER if gap < 0 else Verdict.WORSE


def lines(result: Comparison) -> Iterator[str]:
    """The comparison as a table of plain text."""
    for name, (old, new) in result.facts.items():
        yield f"{name}: {old} → {new}"
    yield f"{'policy':<16}{'metric':<27}{'before':>14}{'after':>14}{'change':>10}  verdict"
    for change in result.changes:
        digits = METRICS[change.metric].digits if change.metric in METRICS else 3
        far = f"{change.after - change.before:+.{digits}f}"
        if result.kind == SPEED and change.ratio is not None:
            far = f"{change.ratio - 1:+.1%}"
        held = (
            ""
            if change.low is None or change.high is None
            else f" [{change.low:+.{digits}f}, {change.high:+.{digits}f}]"
        )
        said = change.verdict.value if change.verdict else ""
        yield (
            f"{change.policy:<16}{change.metric:<27}{_short(change.before, digits):>14}"
            f"{_short(change.after, digits):>14}{far:>10}  {said}{held}"
        ).rstrip()
    for name in result.left_out:
        yield f"left out: {name}"


def _short(value: float, digits: int) -> str:
    return f"{value:,.0f}" if abs(value) >= 1e5 else f"{value:,.{digits}f}"
