"""What a memory bench renders: scenarios under contestants for some seeds, cut into pieces. No tensor."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from echo_cli.bench.contestants import VARIED, Contestant
from echo_cli.bench.results import Film
from echo_cli.bench.scenarios import Scenario, story
from echo_cli.memory.table import DEFAULT_POLICY, read_settings
from echo_cli.models.running import FastPart
from echo_cli.spec import ModelSpec


@dataclass(frozen=True)
class Piece:
    """A scenario and a few seeds; `films` are the seeds that each contestant still has to be rendered for."""

    scenario: Scenario
    seeds: tuple[int, ...]
    films: Mapping[str, tuple[int, ...]]

    @property
    def blocks(self) -> int:
        """Of all films together."""
        return self.scenario.blocks * sum(map(len, self.films.values()))


@dataclass(frozen=True)
class Order:
    """What to render and how: the first `sheets` seeds are shown in pictures."""

    model: str
    scenarios: tuple[Scenario, ...]
    contestants: tuple[Contestant, ...]
    seeds: tuple[int, ...]
    against: str = DEFAULT_POLICY
    device: str = "auto"
    dtype: str = "auto"
    jobs: int = 1
    together: int = 10  # films rendered at once
    sheets: int = 1
    fast: FastPart | None = None  # computed in eight bits

    def films(self, spec: ModelSpec) -> set[Film]:
        """All that the report is made of, without those that are the same as another contestant's."""
        return {(scenario.name, contestant.name, seed) for scenario in self.scenarios for seed in self.seeds
                for contestant in self.contestants if takes_part(contestant, self, scenario, spec)}

    def pieces(self, films: Collection[Film]) -> list[Piece]:
        """The films in pieces, the longest first, so that none runs alone at the end."""
        results = []
        for scenario in self.scenarios:
            seeds = tuple(seed for seed in self.seeds
                          if any((scenario.name, each.name, seed) in films for each in self.contestants))
            size = min(self.together, -(-len(seeds) // self.jobs)) or 1
            results += [self._piece(scenario, seeds[at:at + size], films) for at in range(0, len(seeds), size)]
        return sorted(results, key=lambda piece: -piece.blocks)

    def _piece(self, scenario: Scenario, seeds: tuple[int, ...], films: Collection[Film]) -> Piece:
        wanted = {each.name: tuple(seed for seed in seeds if (scenario.name, each.name, seed) in films)
                  for each in self.contestants}
        return Piece(scenario, seeds, {name: chosen for name, chosen in wanted.items() if chosen})

    def scenarios_in_words(self) -> dict[str, Any]:
        """For the report: what each scenario is, and its stories."""
        return {
            each.name: {
                "words": each.words,
                "prompts": {str(seed): story(each, seed) for seed in self.seeds},
                "scenes": [
                    {"place": act.place, "blocks": act.blocks, "begins": act.begins and act.begins.value}
                    for act in each.acts
                ],
            }
            for each in self.scenarios
        }

    def policies_in_words(self) -> dict[str, Any]:
        """For the report: what each contestant is, with the settings of its own and, `in_full`, all that it has."""
        return {each.name: {"policy": each.policy, "settings": dict(each.settings),
                            "in_full": asdict(read_settings(each.policy, each.settings))} for each in self.contestants}


def takes_part(contestant: Contestant, order: Order, scenario: Scenario, spec: ModelSpec) -> bool:
    """Whether its film has to be rendered: it can differ from all others, or no other contestant renders it."""
    names = {each.name for each in order.contestants}
    if not contestant.takes_part(scenario, spec):
        return False
    return contestant.differs(scenario, spec) or source_of(contestant) not in names


def source_of(contestant: Contestant) -> str:
    """Whose film it shares if it cannot have one of its own."""
    return VARIED if contestant.parts else "sink"
