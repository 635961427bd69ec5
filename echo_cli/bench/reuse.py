"""Films of earlier results that need not be rendered again.

A film's figures are taken from an earlier result if its scenario, prompts, memory and settings are the same there.
Whether the code of a memory has changed since is not known here: `again` names those that have. No tensor, no picture.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from echo_cli.bench.contestants import BLANK
from echo_cli.bench.results import MEMORY, Film, Report, Row, read, saved
from echo_cli.errors import UsageError


@dataclass(frozen=True)
class Earlier:
    """An earlier result, and the file it was read from."""

    path: Path
    report: Report

    def check(self, facts: Mapping[str, Any]) -> None:
        """A UsageError unless its films were rendered and judged by what `facts` says."""
        with _complete(self.path):
            about = dict(self.report.about)
        for name, what in (("weights", "the films of other weights"), ("eye", "films that another eye judged"),
                           ("fast", "films of another --fast")):
            if about.get(name) != facts.get(name):
                raise UsageError(
                    f"{self.path} has {what}: {_short(about.get(name))}; this run has {_short(facts.get(name))}",
                    "Choose the model and the --fast that it was made with, or leave this --reuse out.")
        before, now = (_dtype(each) for each in (about, facts))
        if before != now:
            raise UsageError(f"{self.path} has films in {before}, and this run renders in {now}",
                             f"Add --dtype {before}, or leave this --reuse out.")

    def rows(self, again: Collection[str], scenarios: Mapping[str, Any],
             policies: Mapping[str, Any]) -> Iterator[tuple[Film, Row]]:
        """Its films that are the same now, and not under a memory that is named in `again`."""
        there = self.report
        for row in there.rows:
            scenario, policy = scenarios.get(row.scenario), policies.get(row.policy)
            if scenario is None or policy is None or {row.policy, row.same_as, policy["policy"]} & {*again}:
                continue
            if BLANK in again and len(scenario["scenes"]) > 1:  # its films are all compared with those of BLANK
                continue
            if policy == there.policies[row.policy] and _alike(scenario, there.scenarios[row.scenario], row.seed):
                yield (row.scenario, row.policy, row.seed), replace(row, same_as=None)


@dataclass(frozen=True)
class Reused:
    """The rows that need not be rendered, and for the report where they come from."""

    rows: Mapping[Film, Row]
    sources: tuple[Mapping[str, Any], ...]


def earlier(path: Path) -> Earlier:
    """Reads a result of `bench memory`."""
    result = read(path)
    if result["kind"] != MEMORY:
        raise UsageError(f"{path} is a result of `{result['kind']}`", "Name the JSON of `bench memory`.")
    with _complete(path):
        return Earlier(path, saved(result))


def reused(results: Sequence[Earlier], again: Collection[str], films: Collection[Film], scenarios: Mapping[str, Any],
           policies: Mapping[str, Any]) -> Reused:
    """The films that are in a result, in the first one that has them. `scenarios` and `policies` say what they are
    now, as a report does."""
    scenarios, policies = json.loads(json.dumps([scenarios, policies]))  # as they are once they have been read
    rows: dict[Film, Row] = {}
    sources = []
    for result in results:
        with _complete(result.path):
            known = dict(result.rows(again, scenarios, policies))
        new = {film: row for film, row in known.items() if film in films and film not in rows}
        rows |= new
        about = result.report.about
        sources.append({"file": str(result.path), "films": len(new),
                        **{name: about.get(name) for name in ("version", "device", "machine", "torch")}})
    return Reused(rows, tuple(sources))


@contextmanager
def _complete(path: Path) -> Iterator[None]:
    """What a result lacks is a UsageError."""
    try:
        yield
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise UsageError(f"{path} is incomplete ({type(error).__name__}: {error})",
                         "Leave this --reuse out.") from error


def _alike(scenario: Mapping[str, Any], before: Mapping[str, Any], seed: int) -> bool:
    """Whether the story of a seed is the same in both."""
    same = all(scenario[part] == before[part] for part in ("words", "scenes"))
    return same and scenario["prompts"].get(str(seed)) == before["prompts"][str(seed)]


def _dtype(about: Mapping[str, Any]) -> str:
    return str(about.get("device")).rpartition(", ")[2]


def _short(digest: str | None) -> str:
    return digest[:12] if digest else "none"
