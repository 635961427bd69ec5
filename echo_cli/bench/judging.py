"""Which pictures of a scenario are compared with which: its returns, cuts, smooth changes and long scenes, each
measured by what it demands of a memory.

Two films are judged: the contestant's, and its twin, rendered from the same story and noise with no memory across
scenes. The twin shows what the prompt alone does. The measures themselves are in `metrics`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING

from torch import Tensor

from echo_cli.bench import metrics
from echo_cli.bench.filming import Take
from echo_cli.bench.scenarios import Scenario
from echo_cli.storyboard.nouns import Geometry

if TYPE_CHECKING:
    from echo_cli.world.meaning import Meaning

_STILLS = 3  # every third picture is enough for the median of a place
_SETTLED = 2  # blocks at the end of a scene that show its place to the next scene
_LOOKED = 3  # blocks at the beginning of a scene that are judged
_OPENING = 3  # blocks that a long scene is compared with
_HELD = 12  # blocks at the end of a long return that say whether the place stayed: nine seconds
_SAME = 1 / 255  # mean distance of pictures that differ by rounding alone
_ENDING = 0.25  # share of a long scene, at its end, over which drift is averaged


_ASPECTS = {"place": "place", "time": "time", "colour": "colour", "shape": "shape", "motion": "motion right"}


Curve = list[tuple[float, float]]


@dataclass
class Findings:
    """Figures of one film: for each metric and curve the mean over all places in the film where it was measured."""

    values: dict[str, list[float]] = field(default_factory=dict)
    drawn: dict[str, list[Curve]] = field(default_factory=dict)

    def add(self, name: str, value: float) -> None:
        self.values.setdefault(name, []).append(value)

    def draw(self, name: str, curve: Curve) -> None:
        self.drawn.setdefault(name, []).append(curve)

    @property
    def figures(self) -> dict[str, float]:
        return {name: fmean(values) for name, values in self.values.items()}

    @property
    def curves(self) -> dict[str, Curve]:
        """As long as the shortest of each."""
        return {name: [(points[0][0], fmean(y for _, y in points)) for points in zip(*curves, strict=False)]
                for name, curves in self.drawn.items()}


class Scenes:
    """A take, scene by scene: how each opens, and how it ends."""

    def __init__(self, scenario: Scenario, take: Take) -> None:
        self.scenario, self.take = scenario, take

    def blocks(self, scene: int) -> list[int]:
        """Those of a scene's blocks that were decoded."""
        first = self.scenario.opens(scene)
        return [block for block in range(first, first + self.scenario.counts[scene]) if block in self.take.pictures]

    def opens(self, scene: int) -> bool:
        """Whether its beginning was decoded."""
        return self.scenario.opens(scene) in self.take.pictures

    def opening(self, scene: int) -> Tensor:
        first = self.scenario.opens(scene)
        return self.take.of([block for block in self.blocks(scene) if block - first < _LOOKED])

    def ending(self, scene: int) -> Tensor:
        return self.take.of(self.blocks(scene)[-_SETTLED:])


def _place(pictures: Tensor) -> Tensor:
    return metrics.background(pictures[::_STILLS])


def wanted(scenario: Scenario) -> set[int]:
    """The blocks that `judge` needs."""
    blocks: set[int] = set()
    for scene, act in enumerate(scenario.acts):
        own = range(scenario.opens(scene), scenario.opens(scene) + act.blocks)
        before = range(max(scenario.opens(scene - 1), own.start - _SETTLED) if scene else own.start, own.start)
        if scenario.stride > 1:
            blocks |= {*own[:_OPENING], *own[::-scenario.stride]}
        elif act.returns:
            original = scenario.first_in(act.place)
            first = scenario.opens(original)
            blocks |= {*own[:_LOOKED], *before, *range(first, first + min(_LOOKED, scenario.counts[original]))}
            blocks |= set(own[-_HELD:]) if _lasts(act.blocks) else set()
        elif act.continues or (act.cuts and scenario.cuts):
            blocks |= {*own[:_LOOKED], *before}
    return blocks


def _lasts(blocks: int) -> bool:
    """Whether a return is long enough to say that the place stayed."""
    return blocks >= 2 * _HELD


def judge(scenario: Scenario, prompts: Sequence[str], take: Take, twin: Take, geometry: Geometry,
          meaning: "Meaning | None") -> Findings:
    """Everything that the scenario measures in one film."""
    scenes, alone, findings = Scenes(scenario, take), Scenes(scenario, twin), Findings()
    size = geometry.frame_pictures
    if scenario.shared:
        _return_to_shared(scenes, findings)
        return findings
    for scene, act in enumerate(scenario.acts):
        if not scenes.opens(scene):
            continue
        if scenario.stride > 1:
            _long(scenes, scene, geometry, findings)
            continue
        if act.returns:
            _return(scenes, alone, scene, findings)
            if _lasts(act.blocks):
                first, last = scenario.first_in(act.place), take.of(scenes.blocks(scene)[-_HELD:])
                _hold(scenes.opening(first), last, geometry, findings)
            if meaning is not None:
                _recognise(scenes, scene, prompts, meaning, findings)
        elif act.cuts and scenario.cuts:
            _cut(scenes, alone, scene, geometry, findings)
        elif act.continues:
            _smooth(scenes, scene, size, findings)
        if min(_LOOKED, act.blocks) > 1:
            findings.add("motion", metrics.motion(scenes.opening(scene), size))
            if meaning is not None:
                _mean(scenes, scene, prompts, geometry, meaning, findings)
    findings.add("memory", take.bytes / 1e6)
    findings.add("block", 1000 * take.seconds)
    return findings


def _return(scenes: Scenes, alone: Scenes, scene: int, findings: Findings) -> None:
    original = scenes.scenario.first_in(scenes.scenario.acts[scene].place)
    place, back, between = (_place(pictures)[None] for pictures in (
        scenes.opening(original), scenes.opening(scene), scenes.ending(scene - 1)))
    prompted = metrics.decibels(_place(alone.opening(scene))[None], _place(alone.opening(original))[None])
    recalled = metrics.decibels(back, place)
    findings.add("recall", recalled.item())
    findings.add("gain", (recalled - prompted).item())
    findings.add("return", (recalled - metrics.decibels(between, place)).item())
    findings.add("recall SSIM", metrics.ssim(back, place).item())
    findings.add("recall distance", metrics.perceptual(back, place).item())


def _return_to_shared(scenes: Scenes, findings: Findings) -> None:
    """The last scene, which returns to a place that is not the memory's own work."""
    last = len(scenes.scenario.acts) - 1
    place, back = (_place(scenes.opening(scene))[None] for scene in (
        scenes.scenario.first_in(scenes.scenario.acts[last].place), last))
    findings.add("shared recall", metrics.decibels(back, place).item())


def _hold(first: Tensor, last: Tensor, geometry: Geometry, findings: Findings) -> None:
    """The end of a place that should have stayed, in pieces as long as the scene's opening, against that."""
    place, size = _place(first)[None], geometry.frame_pictures
    findings.add("held", fmean(metrics.decibels(_place(piece)[None], place).item()
                               for piece in last.split(_LOOKED * geometry.block_pictures)))
    change = metrics.drift(metrics.look(first), metrics.look(last)).sharpness
    findings.add("sharpness kept", 100 - abs(change))
    findings.add("motion kept", 100 * metrics.motion(last, size) / max(metrics.motion(first, size), 1e-6))


def _recognise(scenes: Scenes, scene: int, prompts: Sequence[str], meaning: "Meaning", findings: Findings) -> None:
    """Whether what returned looks like the scene itself, and whether its subject is the same."""
    original = scenes.scenario.first_in(scenes.scenario.acts[scene].place)
    if not all(meaning.knows(prompts[index]) for index in (original, scene)):
        return
    findings.add("eye distance", meaning.distance(scenes.opening(original), scenes.opening(scene)))
    seen = [meaning.sights(scenes.opening(index), prompts[index]) for index in (original, scene)]
    if meaning.same_subject(prompts[original], prompts[scene]):
        findings.add("identity", 100.0 * all(seen[0][aspect] == seen[1][aspect] for aspect in ("shape", "colour")))


def judge_stayed(scenario: Scenario, take: Take, geometry: Geometry) -> Findings:
    """A film that never left the place: the ceiling of `recall` and of what a return holds."""
    findings, act, first = Findings(), scenario.acts[-1], scenario.opens(len(scenario.acts) - 1)
    opening = take.of(range(first, first + _LOOKED))
    later = take.of(_again(scenario))
    findings.add("recall", metrics.decibels(_place(later)[None], _place(opening)[None]).item())
    if _lasts(act.blocks):
        _hold(opening, take.of(range(first + act.blocks - _HELD, first + act.blocks)), geometry, findings)
    findings.add("memory", take.bytes / 1e6)
    findings.add("block", 1000 * take.seconds)
    return findings


def _again(scenario: Scenario) -> range:
    """The blocks after the opening of a place that never was left: as many as are looked at when one returns."""
    first = scenario.opens(len(scenario.acts) - 1)
    return range(first + _LOOKED, min(first + 2 * _LOOKED, scenario.blocks))


def wanted_stayed(scenario: Scenario) -> set[int]:
    """The blocks that `judge_stayed` needs."""
    first = scenario.opens(len(scenario.acts) - 1)
    ending = range(scenario.blocks - _HELD, scenario.blocks) if _lasts(scenario.acts[-1].blocks) else ()
    return {*range(first, first + _LOOKED), *_again(scenario), *ending}


def _cut(scenes: Scenes, alone: Scenes, scene: int, geometry: Geometry, findings: Findings) -> None:
    old, new, seen = _place(scenes.ending(scene - 1)), _place(alone.opening(scene)), scenes.opening(scene)
    shares, block, size = 100 * metrics.left_of(old, new, seen), geometry.block_pictures, geometry.frame_pictures
    findings.add("left over", shares[:2 * block].mean().item())
    findings.add("response", metrics.response(old, new, seen, block))
    findings.add("unaided", 100.0 * ((seen - alone.opening(scene)).abs().mean().item() < _SAME))
    means = shares[:len(shares) // size * size].unflatten(0, (-1, size)).mean(1).tolist()
    findings.draw("left over", [(size * (index + 0.5), value) for index, value in enumerate(means)])


def _smooth(scenes: Scenes, scene: int, size: int, findings: Findings) -> None:
    findings.add("seam", metrics.jump(scenes.ending(scene - 1), scenes.opening(scene), size))
    kept = metrics.decibels(_place(scenes.opening(scene))[None], _place(scenes.opening(scene - 1))[None])
    findings.add("place kept", kept.item())


def _long(scenes: Scenes, scene: int, geometry: Geometry, findings: Findings) -> None:
    """The first seconds against every later sample."""
    blocks, start = scenes.blocks(scene), scenes.scenario.opens(scene)
    opening = [block for block in blocks if block - start < _OPENING]
    later = [block for block in blocks if block not in opening]
    first = metrics.look(scenes.take.of(opening))
    seconds = [(block - start + 0.5) * geometry.block_pictures / geometry.fps for block in later]
    drifts = [metrics.drift(first, metrics.look(scenes.take.of([block]))) for block in later]
    ending = drifts[-max(1, round(_ENDING * len(drifts))):]
    findings.add("drift", fmean(each.total for each in ending))
    findings.add("slope", 60 * metrics.slope([0.0, *seconds], [0.0, *(each.total for each in drifts)]))
    findings.add("motion", fmean(metrics.motion(scenes.take.of([block]), geometry.frame_pictures) for block in later))
    read: dict[str, Callable[[metrics.Drift], float]] = {
        "drift": lambda each: each.total, "colour drift": lambda each: each.colour,
        "contrast drift": lambda each: each.contrast, "sharpness drift": lambda each: each.sharpness}
    for name, value in read.items():
        findings.draw(name, [(0.0, 0.0), *zip(seconds, map(value, drifts), strict=True)])


def _mean(
    scenes: Scenes, scene: int, prompts: Sequence[str], geometry: Geometry, meaning: "Meaning", findings: Findings
) -> None:
    prompt, pictures = prompts[scene], scenes.opening(scene)
    if not meaning.knows(prompt):
        return
    findings.add("alignment", meaning.alignment(pictures, prompt))
    for aspect, right in meaning.attributes(pictures, prompt).items():
        if right is not None and aspect in _ASPECTS:
            findings.add(_ASPECTS[aspect], 100.0 * right)
    if scene and not scenes.scenario.acts[scene].returns and meaning.knows(prompts[scene - 1]):
        fits = meaning.alignments(pictures, [prompt, prompts[scene - 1]])
        there = [*(fits[:, 0] > fits[:, 1]).tolist(), True]
        findings.add("understood", float(min(there.index(True) * geometry.block_pictures, len(pictures))))


def moments(scenario: Scenario, take: Take) -> list[tuple[int, int, Tensor]]:
    """A few pictures that summarise the film: (scene, block, picture) at the beginning and end of each judged scene."""
    shown = []
    for scene in range(len(scenario.acts)):
        blocks = Scenes(scenario, take).blocks(scene)
        picked = blocks if scenario.stride > 1 else [*dict.fromkeys((blocks[0], blocks[-1]))] if blocks else []
        for block in picked:
            pictures = take.pictures[block]
            shown.append((scene, block, pictures[len(pictures) // 2 if block == blocks[0] else -1]))
    return shown
