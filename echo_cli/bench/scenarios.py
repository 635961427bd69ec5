"""What is rendered: scenarios of a few scenes, with new stories for every seed, so that no memory can be tuned to them.

A scenario says which scenes return to which place and how each begins; a seed decides who is where and does what.
Prompts are plain English about the little world of `tiny`, which any model can render. Host integers and text; no
tensor.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from echo_cli.models.tiny.words import COLOURS, MOTIONS, PLACES, SUBJECTS, TIMES
from echo_cli.spec import ModelSpec
from echo_cli.storyboard.nouns import Geometry, Kind, Scene, Timeline, timeline_of
from echo_cli.world.grammar import Saying, say

_STRIDE, _LOOKS = 3, 24  # a long scene is sampled every few blocks; a very long one about 24 times in all
_WALKS = 2  # motions, to the left and to the right


@dataclass(frozen=True)
class Act:
    """One scene: the place it is in, how many blocks of three frames it lasts, how it begins. A recall returns to the
    place's first scene."""

    place: str
    blocks: int
    begins: Kind | None = None

    @property
    def continues(self) -> bool:
        return self.begins is not None and self.begins.continues

    @property
    def cuts(self) -> bool:
        return self.begins is not None and self.begins.breaks

    @property
    def returns(self) -> bool:
        return self.begins is not None and self.begins.targeted


@dataclass(frozen=True)
class Scenario:
    """`stride`: how often a long scene is sampled, in blocks. `cuts`: whether hard cuts are measured, or
    only separate a place from its return. `shared`: every memory is given the same film up to the last scene."""

    name: str
    words: str
    acts: tuple[Act, ...]
    stride: int = 1
    cuts: bool = True
    shared: bool = False

    @property
    def blocks(self) -> int:
        return sum(act.blocks for act in self.acts)

    @property
    def returns(self) -> bool:
        """Whether a place comes back."""
        return any(act.returns for act in self.acts)

    @property
    def counts(self) -> list[int]:
        return [act.blocks for act in self.acts]

    def first_in(self, place: str) -> int:
        """The scene that opened a place."""
        return next(index for index, act in enumerate(self.acts) if act.place == place)

    def opens(self, scene: int) -> int:
        """The first block of a scene."""
        return sum(self.counts[:scene])


def _acts(text: str) -> tuple[Act, ...]:
    """`P4 |A3 ~A3 @A3`: place and blocks; a bar is a hard cut, a tilde a smooth transition, an at sign a recall."""
    kinds = {"|": Kind.HARD_CUT, "~": Kind.SMOOTH, "@": Kind.RECALL}
    return tuple(Act(word.lstrip("|~@")[0], int(word.lstrip("|~@")[1:]), kinds.get(word[0])) for word in text.split())


# A place that returns has been out of every window for six blocks; otherwise the plain window would remember it by
# chance. Nor is it the film's opening, which anchors always hold, or the first to leave the window, which a memory that
# never changes would still hold; except in the stories that go to and fro or mix everything.
SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        Scenario("long", "one scene, far longer than the window", _acts("A24"), stride=_STRIDE),
        Scenario(
            "chain", "four scenes in one place, one thing changing from each to the next", _acts("A3 ~A3 ~A3 ~A3")
        ),
        Scenario("cuts", "three places, a hard cut between them", _acts("A3 |B3 |C3")),
        Scenario("recall-1", "a place returns after one other scene", _acts("P4 |A3 |B6 @A3"), cuts=False),
        Scenario("recall-2", "a place returns after two other scenes", _acts("P4 |A3 |B3 |C3 @A3"), cuts=False),
        Scenario(
            "recall-5", "a place returns after five other scenes", _acts("P4 |A3 |B2 |C2 |D2 |E2 |F2 @A3"), cuts=False
        ),
        Scenario("hold", "a place returns after one other scene and stays for half a minute",
                 _acts("P4 |A3 |B6 @A40"), cuts=False),
        Scenario("shared", "a place returns in the same film for every memory, made without one up to the return",
                 _acts("P4 |A3 |B6 @A3"), cuts=False, shared=True),
        Scenario("to-and-fro", "two places in turn", _acts("A4 |B6 @A6 @B3")),
        Scenario("mixed", "smooth changes, cuts and returns in one story", _acts("A3 ~A2 |B3 ~B3 @A3")),
    )
}


def with_length(scenario: Scenario, blocks: int) -> Scenario:
    """The same with a first scene of that many blocks."""
    acts = (replace(scenario.acts[0], blocks=blocks), *scenario.acts[1:])
    return replace(scenario, acts=acts, stride=max(_STRIDE, blocks // _LOOKS))


def never_left(scenario: Scenario) -> Scenario:
    """The same without what lies between the first place that returns and its return: that place continues instead."""
    back = next(index for index, act in enumerate(scenario.acts) if act.returns)
    first = scenario.first_in(scenario.acts[back].place)
    stays = replace(scenario.acts[first], blocks=scenario.acts[first].blocks + scenario.acts[back].blocks)
    return replace(scenario, acts=(*scenario.acts[:first], stays))


def story(scenario: Scenario, seed: int) -> list[str]:
    """The prompt of each scene."""
    dice = Random(f"{scenario.name} {seed}")
    returning = {act.place for act in scenario.acts if act.returns}
    homes: dict[str, tuple[int, int]] = {}
    for act in scenario.acts:
        if act.place not in homes:
            homes[act.place] = _home(homes, returning, dice)
    # The subject of a place that returns moves through it, so that the place is seen without it.
    ways = {place: _WALKS if place in returning else len(MOTIONS) for place in homes}
    cast = {
        place: [dice.randrange(len(SUBJECTS)), dice.randrange(len(COLOURS)), dice.randrange(ways[place])]
        for place in homes
    }
    prompts, seen = [], set()
    for act in scenario.acts:
        traits = cast[act.place]
        if act.place in seen:  # a subject that returns does something else; a smooth change may also change the subject
            what = dice.randrange(3) if act.continues else 2
            options = (len(SUBJECTS), len(COLOURS), ways[act.place])[what]
            traits[what] = (traits[what] + 1 + dice.randrange(options - 1)) % options
        seen.add(act.place)
        shape, colour, does = traits
        said = Saying(*homes[act.place], shape, colour, does, returns=act.returns)
        prompts.append(say(said, [dice.random() for _ in range(8)]))
    return prompts


def _home(taken: dict[str, tuple[int, int]], returning: set[str], dice: Random) -> tuple[int, int]:
    """An unused kind of place and hour; neighbours differ in kind, and none is of a kind that returns."""
    before = list(taken.values())
    while True:
        place, time = dice.randrange(len(PLACES)), dice.randrange(len(TIMES))
        neighbour = bool(before) and before[-1][0] == place
        alike = any(home[0] == place for letter, home in taken.items() if letter in returning)
        if not neighbour and not alike and (place, time) not in before:
            return place, time


def geometry_for(spec: ModelSpec) -> Geometry:
    """How scenarios divide a model's time: in blocks of three frames, or the model's own if those do not fit in."""
    own = spec.geometry
    written = Geometry().block_frames
    return own if written % own.block_frames else replace(own, block_frames=written)


def timeline_for(scenario: Scenario, prompts: Sequence[str], spec: ModelSpec) -> Timeline:
    """The scenario with these prompts, in the model's blocks. Scenes have the same names in every seed, so that noise
    is keyed alike."""
    scenes, geometry = [], geometry_for(spec)
    for index, (act, prompt) in enumerate(zip(scenario.acts, prompts, strict=True)):
        partner = f"scene-{scenario.first_in(act.place)}" if act.returns else None
        seconds = act.blocks * geometry.block_pictures / geometry.fps
        scenes.append(Scene(f"scene-{index}", prompt, seconds, act.begins, partner))
    each = geometry.block_frames // spec.block_frames
    return timeline_of(scenes, [count * each for count in scenario.counts], spec.geometry)
