"""The memory stage: queries learn to keep what comes back, from films whose frames leave the window.

A film is made once, block by block, by the policy and the few steps that users run, with the queries as they are, or
read from a clip of the world; then several lessons are drawn from it. A lesson goes back some updates, absorbs again
what left since then, with gradients, and asks for one block: the transformer's prediction beside the queries
should equal its prediction beside the frames that were worth keeping. The transformer is frozen and passes the gradient
through. Clips show cameras that pan away and return, subjects that leave and come back, and places that return: only
there memory helps.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from torch import Tensor

from echo_cli.context import BlockContext
from echo_cli.memory.policies.base import Plan, film_frames
from echo_cli.memory.policies.echo_infinity import EchoInfinityPolicy
from echo_cli.memory.settings import EchoInfinitySettings
from echo_cli.memory.store import Placement
from echo_cli.models.backend import Backend
from echo_cli.models.queries.model import FRAMES, MemoryQueries, QueryState
from echo_cli.models.tiny.codec import TinyCodec
from echo_cli.rollout.rollout import collect
from echo_cli.rollout.sampling import denoise, schedule
from echo_cli.rope import RopeTable, rotate
from echo_cli.runtime import KeyedNoise
from echo_cli.storyboard.nouns import Scene, Timeline, timeline_of
from echo_cli.training.chart import losses
from echo_cli.training.draws import below, dice_of, noise_like, shaken
from echo_cli.training.loop import Learner, rate_at
from echo_cli.training.muon import Muon
from echo_cli.world.stories import BLOCK, StoryKind, sample_stories

NAME = "echo-infinity"  # the policy whose queries are trained
_FIRST = 1 << 44  # seeds of stories that no other stage uses
_OTHERS = 1 << 27  # offset of the seeds for places that open a film elsewhere
_ELSEWHERE = 2  # such a place, beside the two of a story
_FEWEST, _MOST = 10, 16  # blocks of a film with returns
# Orders of visits that `bench.scenarios` has: queries are judged on what they were not trained on.
_FILMED = {(0, 1, 0), (0, 1, 0, 1), (0, 1, 2, 1), (0, 1, 2, 3, 1), (0, 1, 2, 3, 4, 5, 6, 1)}


@dataclass(frozen=True)
class MemoryPlan:
    """What decides the queries, beside the seed and the model."""

    queries: int = FRAMES
    batch: int = 4  # films at a time
    lessons: int = 20  # drawn from each batch of films
    through: int = 6  # updates that gradients pass through
    clips: float = 0.3  # share of batches that are clips of the world, not films of the model's own
    bare: float = 0.15  # share of lessons that show the initial state, as if nothing had been absorbed
    shake: float = 0.15  # the most noise that a clip's frames get before they are remembered
    state_rate: float = 0.02  # of the initial state and of single numbers
    rate: float = 0.002  # of matrices
    ema: float = 0.98


@dataclass(frozen=True)
class Plot:
    """A film in blocks: how long each visit is, and which place it is to."""

    kind: StoryKind
    visits: tuple[tuple[int, int], ...]  # place, blocks
    recent: int = 12  # frames in the window beside anchors and queries, if there is room for so many

    @property
    def places(self) -> list[int]:
        return [place for place, blocks in self.visits for _ in range(blocks)]


def plot(dice: Random) -> Plot:
    """Mostly places that are left and return, in any order except those of the benchmark; otherwise one scene that
    outlasts the window."""
    kind = dice.choices((StoryKind.RETURN, StoryKind.HOLD, StoryKind.PAN, StoryKind.LEAVE), (0.7, 0.1, 0.12, 0.08))[0]
    recent = BLOCK * dice.randint(1, 4)  # policies differ in what they show beside the queries
    if kind is not StoryKind.RETURN:
        return Plot(kind, ((0, dice.randint(9, 12)),), recent)
    while True:
        visits = [(dice.randrange(_ELSEWHERE + 1), dice.randint(2, 5)) for _ in range(dice.choice((4, 5, 6)))]
        places, blocks = zip(*visits, strict=True)
        moves = all(one != next_ for one, next_ in itertools.pairwise(places))
        if moves and places[-1] in places[:-1] and _FEWEST <= sum(blocks) <= _MOST and order(places) not in _FILMED:
            return Plot(kind, tuple(visits), recent)


def order(places: Sequence[int]) -> tuple[int, ...]:
    """Places numbered as they are first visited."""
    known = list(dict.fromkeys(places))
    return tuple(known.index(place) for place in places)


@dataclass
class Film:
    """Films of one plot as memory met them: frames [layer, film, frame, token, head, dim], of which the first so many
    never leave, and block by block which of the others stood in the window, which left after it, and what the queries
    held before it (None: nothing had left)."""

    latents: Tensor  # [film, frame, channel, height, width]
    rows: list[Tensor]  # text [film, row, dim] of each block
    places: list[int] | None  # of the blocks; None for a clip, of which each film has its own
    keys: Tensor
    values: Tensor
    anchors: int
    recent: list[tuple[int, ...]]
    left: list[tuple[int, ...]]
    held: list[QueryState | None]

    def first_left(self) -> int:
        """The block after which frames leave for the first time."""
        return next(block for block, left in enumerate(self.left) if left)


class Remembering:
    """One step at a time: `advance` makes some films and draws its lessons from them."""

    def __init__(self, plan: MemoryPlan, seed: int, backend: Backend, device: torch.device) -> None:
        assert isinstance(backend.codec, TinyCodec), "clips of the little world are encoded by its own codec"
        self.plan, self.seed, self.backend, self.device = plan, seed, backend, device
        self.net, self.codec, self.spec, self.grid = (
            backend.transformer,
            backend.codec,
            backend.spec,
            backend.spec.grid(),
        )
        self.levels = schedule(self.spec.steps, self.spec.shift)
        self.rope = RopeTable(self.spec, self.grid, device)
        self.queries = MemoryQueries(self.spec, plan.queries).to(device)
        queries = self.queries
        matrices = [queries.ask, queries.gate_in, queries.gate_out]
        numbers = [queries.keys, queries.values, queries.near, queries.gate_hints, queries.gate_bias]
        optimiser = Muon(numbers, plan.state_rate, plan.state_rate, small=numbers)
        optimiser.include(matrices, plan.rate, plan.rate, small=matrices)
        self.learner = Learner(queries, optimiser, plan.ema)

    def advance(self, step: int, spent: float) -> dict[str, Tensor]:
        """Everything that is drawn follows from the seed and the step."""
        plan = self.plan
        dice = Random(f"memory {self.seed} {step}")
        generator = dice_of(self.device, self.seed, 3, step)
        film = self.film(step, plot(dice), dice.random() < plan.clips, generator)
        if step == 0:
            self.settle(film)
        first = film.first_left() + 1
        values: dict[str, list[Tensor]] = {"loss": [], "with memory": [], "without memory": []}
        for lesson in range(plan.lessons):
            # Half of the lessons are of the last blocks, where something has come back.
            last = len(film.rows) - 1
            block = dice.randint(max(first, last - 1), last) if dice.random() < 0.5 else dice.randint(first, last)
            loss, parts = self.lesson(film, block, dice, generator, compared=lesson % 5 == 0)
            self.learner.descend(loss, rate_at(step * plan.lessons + lesson, spent))
            for name, value in parts.items():
                values[name].append(value)
        return {name: torch.stack(each).mean() for name, each in values.items()}

    # Films

    def film(self, step: int, story: Plot, clip: bool, generator: torch.Generator) -> Film:
        """Films that the model generates with the queries as they are, or clips that are read in the same way."""
        plan, places = self.plan, story.places
        first = _FIRST + (self.seed << 28) + step * plan.batch
        seeds = torch.arange(first, first + plan.batch)
        sampled = sample_stories(seeds, len(places) * BLOCK, story.kind, str(self.device))
        if clip:
            with torch.inference_mode():
                latents = self.codec.encode(sampled.pictures)
            said = [
                [
                    next(prompt for frame, prompt in reversed(prompts) if frame <= block * BLOCK)
                    for prompts in sampled.prompts
                ]
                for block in range(len(places))
            ]
            return self.remember(step, said, story.recent, None, latents.clone(), generator)
        others = sample_stories(seeds + _OTHERS, BLOCK, StoryKind.HOLD)
        elsewhere = [prompts[0][1] for prompts in others.prompts]
        scenes = list(zip(*([prompt for _, prompt in prompts] for prompts in sampled.prompts), strict=True))
        if story.kind is not StoryKind.RETURN:
            return self.remember(step, [list(scenes[0])] * len(places), story.recent, places, None, generator)
        opening, cut, back = scenes
        said, now = [], {0: opening, 1: cut, _ELSEWHERE: elsewhere}
        for place, blocks in story.visits:
            said += [list(now[place])] * blocks
            now |= {0: back} if place == 0 else {}
        return self.remember(step, said, story.recent, places, None, generator)

    @torch.no_grad()
    def remember(self, step: int, prompts: list[list[str]], recent: int, places: list[int] | None, clip: Tensor | None,
                 generator: torch.Generator) -> Film:
        """What memory meets, block by block, through the same policy as in inference."""
        net, spec, batch = self.net, self.spec, len(prompts[0])
        timeline = timeline_of([Scene(f"film {self.seed} {step}", prompts[0][0], 1.0)], [len(prompts)], spec.geometry)
        policy, anchors = self.policy(timeline, recent)
        memory = policy.allocate(Placement(self.grid, self.device, net.dtype, batch))
        store, queries = memory.store, memory.queries
        noise = KeyedNoise(self.seed, timeline.scenes)
        shape = (batch, BLOCK, spec.channels, self.grid.height, self.grid.width)
        rows = [self.backend.text.encode(each) for each in prompts]
        given = None if clip is None else shaken(clip, self.plan.shake, generator)
        latents, frames = [], []
        standing: list[tuple[int, ...]] = []
        left: list[tuple[int, ...]] = []
        held: list[QueryState | None] = []
        for block in timeline.blocks:
            layout = memory.arrange(block)
            standing.append(film_frames(memory.past[anchors:]))
            held.append(queries.state if queries.awake else None)
            context, text = store.prepare(layout), net.read(rows[block.index])
            if given is None:
                drawn = [noise(block, step, shape).to(self.device) for step in range(len(self.levels.sigmas))]
                *_, x0 = denoise(net, text, context, self.levels, drawn.__getitem__)
                latents.append(x0)
            else:
                x0 = given[:, block.frames.start:block.frames.stop]
            clean = collect(net, text, store, layout, context, x0)
            frames.append(store.frames(layout.current.slots))
            left.append(memory.absorb(block, clean).evicted)
        keys, values = (torch.cat(part, 2) for part in zip(*frames, strict=True))
        return Film(torch.cat(latents, 1) if clip is None else clip, rows, places, keys, values, anchors, standing,
                    left, held)

    def policy(self, timeline: Timeline, recent: int) -> tuple[EchoInfinityPolicy, int]:
        """The policy whose queries learn, with `recent` frames in its window, and how many anchors precede them."""
        anchors = EchoInfinitySettings().anchor_frames
        settings = EchoInfinitySettings(window=min(self.spec.window, anchors + self.plan.queries + recent + BLOCK))
        return EchoInfinityPolicy(NAME, settings, Plan(self.spec, timeline, queries=self.queries)), anchors

    @torch.no_grad()
    def settle(self, film: Film) -> None:
        """Before the first lesson the initial state becomes the mean of the frames to remember, slightly noised."""
        for start, frames in ((self.queries.keys, film.keys), (self.queries.values, film.values)):
            mean = frames.mean((1, 2, 3))[:, None]  # [layer, 1, head, dim]
            start.copy_(mean + 0.1 * frames.std() * start / start.std())
        for name, value in self.queries.state_dict().items():
            self.learner.average[name].copy_(value)

    # Lessons

    def lesson(self, film: Film, block: int, dice: Random, generator: torch.Generator,
               compared: bool) -> tuple[Tensor, dict[str, Tensor]]:
        """The distance between the predictions for a block beside the queries and beside the frames worth keeping;
        `compared` adds the same distance where nothing is remembered."""
        x0, batch = self.aim(film, block, dice), len(film.latents)
        step = below(len(self.levels.sigmas), (batch,), generator).to(self.device)
        sigma = torch.tensor(self.levels.sigmas, device=self.device)[step]
        level = sigma[:, None, None, None, None]
        noisy = (1 - level) * x0 + level * noise_like(x0, generator)
        bare = dice.random() < self.plan.bare and not compared
        memory = self.queries.start(batch, self.grid.tokens) if bare else self.again(film, block)

        def guess(keys: Tensor, values: Tensor) -> Tensor:
            context = self.context(film, block, keys, values)
            velocity = self.net(
                noisy, (1000 * sigma)[:, None].expand(-1, BLOCK), self.net.read(film.rows[block]), context
            )
            return noisy - level * velocity

        said = guess(*memory)
        with torch.no_grad():
            kept = self.worth_keeping(film, block)
            wanted = guess(*kept)
            nothing = guess(*(part[:, :, :0] for part in kept)) if compared else None
        loss = (said - wanted).square().mean()
        parts = {"loss": loss.detach()}
        if nothing is not None:
            parts |= {"with memory": loss.detach(), "without memory": (nothing - wanted).square().mean()}
        return loss, parts

    def aim(self, film: Film, block: int, dice: Random) -> Tensor:
        """The block that is noised and predicted: the generated one or, if a place has come back and may be wrong, one
        of the first visit."""
        if film.places and film.places[block] in film.places[:block] and film.places[block] != film.places[block - 1] \
                and dice.random() < 0.5:
            block = dice.choice([other for other in range(block) if film.places[other] == film.places[block]])
        return film.latents[:, block * BLOCK:(block + 1) * BLOCK]

    def again(self, film: Film, block: int) -> QueryState:
        """The queries before a block, with their last updates repeated with gradients."""
        first = film.first_left()
        start = max(first, block - self.plan.through)
        held = film.held[start]
        state = self.queries.start(len(film.latents), self.grid.tokens) if held is None else held
        for at in range(start, block):
            frames = slice(film.left[at][0], film.left[at][-1] + 1)
            state, _ = self.queries.absorb(
                state, film.keys[:, :, frames], film.values[:, :, frames], self.grid, at == first
            )
        return state

    def worth_keeping(self, film: Film, block: int) -> tuple[Tensor, Tensor]:
        """Of all frames that have left before a block, those that would help most, as many as there are query frames:
        in films, the beginning of the first visit to its place; in clips, where the truth is known, those most like
        it."""
        wanted = self.plan.queries
        gone = range(film.anchors, film.recent[block][0])
        if film.places is not None:
            same = [frame for frame in gone if film.places[frame // BLOCK] == film.places[block]][:2 * wanted]
            chosen = (
                [same[round(at * (len(same) - 1) / (wanted - 1))] for at in range(wanted)]
                if len(same) > wanted > 1
                else same[:wanted]
            )
            return film.keys[:, :, chosen], film.values[:, :, chosen]
        past, here = (
            film.latents[:, gone.start : gone.stop].flatten(2),
            film.latents[:, block * BLOCK : (block + 1) * BLOCK].mean(1).flatten(1),
        )
        far = (past - here[:, None]).square().mean(2)
        index = (
            film.anchors
            + far.topk(min(wanted, len(gone)), largest=False).indices.sort(1).values[None, :, :, None, None, None]
        )
        return torch.take_along_dim(film.keys, index, 2), torch.take_along_dim(film.values, index, 2)

    def context(self, film: Film, block: int, keys: Tensor, values: Tensor) -> BlockContext:
        """A window from place 0: anchors, memory [layer, film, frame, token, head, dim], the frames that stood there,
        the block."""
        spec, tokens, first = self.spec, self.grid.tokens, film.anchors + self.plan.queries
        recent = slice(film.recent[block][0], film.recent[block][-1] + 1)
        count = recent.stop - recent.start
        pieces = [(film.keys[:, :, :film.anchors], film.values[:, :, :film.anchors], 0), (keys, values, film.anchors),
                  (film.keys[:, :, recent], film.values[:, :, recent], first)]
        parts = [
            torch.cat(
                [rotate(key.flatten(2, 3), self.rope.frames(place, key.shape[2])) for key, _, place in pieces], 2
            ),
            torch.cat([value.flatten(2, 3) for _, value, _ in pieces], 2),
        ]
        past = parts[0].shape[2]
        room = torch.zeros(
            *parts[0].shape[:2], BLOCK * tokens, *parts[0].shape[3:], device=self.device, dtype=parts[0].dtype
        )
        own = self.rope.frames(first + count, BLOCK)
        assert first + count + BLOCK <= spec.window, "no lesson uses a position beyond the trained window"
        shown_keys, shown_values = (list(torch.cat((part, room), 2).unbind(0)) for part in parts)
        return BlockContext(shown_keys, shown_values, past, own, own)


def figures(path: Path) -> dict[str, float]:
    """From the last quarter of a run's losses: the share of the right frames' information that the queries hold."""
    columns = (losses(path, name) for name in ("with memory", "without memory"))
    remembered, blank = (sum(late) / len(late) for late in (column[-max(1, len(column) // 4):] for column in columns))
    return {
        "with memory": round(remembered, 6),
        "without memory": round(blank, 6),
        "share told": round(1 - remembered / blank, 3) if blank else 0.0,
    }
