"""The block loop: a timeline in, blocks out. Writers, traces, farms and benches are its consumers.

Nothing in the loop waits for the device. Pictures, files and wall clocks are not known here.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from types import MappingProxyType
from typing import Protocol

import torch
from torch import Tensor

from echo_cli.context import BlockContext
from echo_cli.errors import Damaged, EchoError
from echo_cli.layout import Layout
from echo_cli.memory.entries import SceneEntry
from echo_cli.memory.policies.base import Facts, Memory, Policy, Transition
from echo_cli.memory.recorder import Recorder, Shelf
from echo_cli.memory.store import CleanPass, KVStore, Placement
from echo_cli.models.transformer import Network, Text
from echo_cli.rollout.sampling import clean_pass, denoise, schedule
from echo_cli.rollout.stopwatch import Stopwatch
from echo_cli.runtime import Later, Noise, upload
from echo_cli.spec import Grid
from echo_cli.state import Nest, moved
from echo_cli.storyboard.nouns import Block, Timeline


@dataclass(frozen=True, slots=True)
class Given:
    """The latents [1, frame, channel, height, width] that a scene begins with, in place of generated ones. `lead` is
    the one before them, from which the decoder's stream restarts; None lets the stream continue, or start. `still` are
    a block of latents of a still picture, the first of the scene, which memory is shown before the scene begins."""

    latents: Tensor
    lead: Tensor | None = None
    still: Tensor | None = None

    def of(self, block: Block) -> Tensor | None:
        """Those of a block's first frames, if any are left for it."""
        start = block.number * len(block.frames)
        left = self.latents[:, start:start + len(block.frames)]
        return left if left.shape[1] else None


@dataclass(frozen=True, slots=True)
class BlockResult:
    """A finished block: its latents, what it attended to, and what it did to memory."""

    block: Block
    latents: Tensor  # [batch, frame, channel, height, width]
    layout: Layout
    transition: Transition | None  # of the scene that this block opens
    facts: Facts
    bytes: int  # tensors that memory holds
    times: Stopwatch
    finite: Later  # whether every latent is a number
    state: Callable[[], Nest]  # all that later blocks depend on; call it before asking for the next one
    given: int = 0  # how many of its frames, from the first on, came from a file
    lead: Tensor | None = None  # the latent from which the decoder's stream restarts, if it does

    def check(self) -> None:
        """An EchoError if any latent is not finite. Call it a block later, when it does not have to wait."""
        if not self.finite.read():
            raise EchoError(
                f"block {self.block.index} of the film holds values that are not finite: it would be black or noise",
                "Check the weights: echo-cli models check. If they are complete, use --dtype bfloat16 or float32.",
            )


@dataclass(frozen=True, slots=True)
class Begun:
    """A rollout that stopped between two blocks: how many blocks it had generated, and the state after the last one."""

    blocks: int
    state: Nest


class Prompts(Protocol):
    """The scenes' text rows [1 or batch, row, dim], by the number of the scene."""

    def __getitem__(self, scene: int, /) -> Tensor: ...


def rollout(timeline: Timeline, transformer: Network, prompts: Prompts, policy: Policy, noise: Noise,
            grid: Grid, batch: int = 1, home: torch.device | None = None, begun: Begun | None = None,
            past: Mapping[int, SceneEntry] = MappingProxyType({}), shelf: Shelf | None = None,
            guesses: Callable[[Block, int, Tensor], None] = lambda block, step, guess: None,
            openings: Callable[[int], Given | None] = lambda scene: None) -> Iterator[BlockResult]:
    """Generate the timeline that `policy` was made for, block by block. `prompts` are the scenes' text rows; `home` is
    where remembered frames are kept, if not on the device; `guesses` is called with the x0 of every step; `begun`
    resumes a run that stopped, with the same results; `past` are the scenes of other films that this one recalls, and
    `shelf` is where its own are put for others; `openings` says what a scene begins with. Gradients flow if the
    transformer's parameters require them."""
    spec, device = transformer.spec, transformer.device
    levels, shape = schedule(spec.steps, spec.shift), (batch, spec.block_frames, spec.channels, grid.height, grid.width)
    kept = Remembered(policy, _placement(transformer, grid, batch, home), shelf)
    memory, store = kept.memory, kept.memory.store
    kept.begin(past, begun)
    text: Text | None = None
    opening: Given | None = None
    for block in islice(timeline.blocks, begun.blocks if begun else 0, None):
        watch, transition, shown = Stopwatch(device), None, False
        with watch("memory"):
            if block.opens or text is None:
                text = transformer.read(prompts[block.scene].to(device, non_blocking=True))
                opening = openings(block.scene)
            if block.opens:
                transition, shown = kept.open_scene(block, opening, transformer, text)
            layout = memory.arrange(block)
            context = store.prepare(layout)
            first = context.observed_by(memory.look(block, context))  # memory observes only the first pass
            given = opening.of(block) if opening else None
        with watch("denoise"):
            drawn = partial(_draw, noise, block, shape, transformer)
            for step, latents in enumerate(denoise(transformer, text, context, levels, drawn, first, given, shown)):
                guesses(block, step, latents)
        with watch("clean"):
            clean = collect(transformer, text, store, layout, context, latents)
        with watch("memory"):
            facts = kept.finish(block, clean, latents, layout)
        yield BlockResult(block, latents, layout, transition, facts, store.bytes + memory.bytes, watch,
                          Later(latents.isfinite().all()), kept.state, 0 if given is None else given.shape[1],
                          opening.lead if opening and block.opens else None)


def _placement(transformer: Network, grid: Grid, batch: int, home: torch.device | None) -> Placement:
    return Placement(grid, transformer.device, transformer.dtype, batch, home, transformer.turn, transformer.eight)


def _draw(noise: Noise, block: Block, shape: tuple[int, ...], transformer: Network, step: int) -> Tensor:
    """A step's noise, on the transformer's device."""
    return upload(noise(block, step, shape), transformer.device).to(transformer.dtype)


class Remembered:
    """All that a run remembers between two blocks: memory, latents that may be encoded again, and what has been
    collected of a scene for other films."""

    def __init__(self, policy: Policy, place: Placement, shelf: Shelf | None) -> None:
        self.memory = policy.allocate(place)
        self._refused, self._latents = policy.refused, LatentMemory(policy.replays)
        self._recorder = Recorder(shelf, self.memory) if shelf else None

    def begin(self, past: Mapping[int, SceneEntry], begun: Begun | None) -> None:
        """Take in scenes of other films and the state of a run that stopped; Damaged if it is not that of such a
        memory."""
        for scene, entry in past.items():
            self.memory.take_in(scene, entry)
        if begun is None:
            return
        try:
            self._restore(begun.state, self.memory.store.device)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, KeyError, IndexError, TypeError, ValueError, AttributeError, AssertionError) as error:
            raise Damaged(f"the state of memory does not fit this film: {error}") from error

    def _restore(self, state: Nest, device: torch.device) -> None:
        self.memory.store.restore(state["store"])
        self.memory.restore(moved(state["policy"], device))
        self._latents.restore(moved(state["latents"], device))
        if self._recorder and "recorder" in state:  # the film that this one continues left none
            self._recorder.restore(state["recorder"])

    def open_scene(self, block: Block, opening: Given | None, transformer: Network,
                   text: Text) -> tuple[Transition, bool]:
        """The transition, and whether memory was shown a still that the scene begins with."""
        transition = self.memory.open_scene(block)
        if refused := self._refused.get(block.scene):
            transition = replace(transition, recall=refused)
        replay(transition, transformer, text, self._latents, self.memory.store)
        if opening is None or opening.still is None or block.scene in self.memory.recalls:
            return transition, False
        return transition, lead_in(opening.still, block, self.memory, transformer, text)

    def finish(self, block: Block, clean: CleanPass, latents: Tensor, layout: Layout) -> Facts:
        """The block enters memory."""
        if self._recorder:
            self._recorder.collect(block, clean, layout.current.slots)
        facts = self.memory.absorb(block, clean)
        if block.closes:
            self.memory.close_scene(block)
            if self._recorder:
                self._recorder.close(block)
        self._latents.add(block, latents, layout)
        return facts

    def state(self) -> Nest:
        state = {"policy": self.memory.state(), "store": self.memory.store.state(), "latents": self._latents.state()}
        return {**state, "recorder": self._recorder.state()} if self._recorder else state


def collect(transformer: Network, text: Text, store: KVStore, layout: Layout, context: BlockContext,
            latents: Tensor) -> CleanPass:
    """Run a finished block once more, clean: its keys and values are then in the store."""
    clean = CleanPass(store, layout.current.slots)
    clean_pass(transformer, text, context, clean, latents)
    clean.finish()
    return clean


class LatentMemory:
    """Latents of the frames still in the window, for policies that encode them again."""

    def __init__(self, wanted: bool) -> None:
        self._wanted = wanted
        self._frames: dict[int, Tensor] = {}  # film frame → [batch, channel, height, width]

    def add(self, block: Block, latents: Tensor, layout: Layout) -> None:
        if self._wanted:
            standing = {frame for segment in layout.segments for frame in segment.frames}
            self._frames = {frame: kept for frame, kept in self._frames.items() if frame in standing}
            self._frames.update(zip(block.frames, latents.unbind(1), strict=True))

    def of(self, frames: Sequence[int]) -> Tensor:
        return torch.stack([self._frames[frame] for frame in frames], 1)

    def state(self) -> Nest:
        return {str(frame): latents for frame, latents in self._frames.items()}

    def restore(self, state: Nest) -> None:
        self._frames = {int(frame): latents for frame, latents in state.items()}


def replay(
    transition: Transition, transformer: Network, text: Text, remembered: LatentMemory, store: KVStore
) -> None:
    """Encode remembered frames again under the new prompt, run by run, each into its slots."""
    for run in transition.replay:
        collect(transformer, text, store, run.layout, store.prepare(run.layout), remembered.of(run.frames))


def lead_in(still: Tensor, block: Block, memory: Memory, transformer: Network, text: Text) -> bool:
    """A still picture enters memory as a block before the scene that it opens, by a clean pass under its prompt. A
    single given frame is weak, since the model was trained on blocks that see whole blocks. Beside a recall the stills
    would hide the place that comes back, so there the frame is all that is given. False if there is no place for
    them."""
    layout = memory.lead_in(block)
    if layout is None:
        return False
    collect(transformer, text, memory.store, layout, memory.store.prepare(layout), still)
    memory.led_in(block)
    return True
