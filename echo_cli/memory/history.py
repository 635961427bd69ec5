"""A scene's compressed history: the last frames that memory has seen, and the choice of the tokens worth keeping.

Calibration learns what the scene's queries look like while the first window fills; from then on every key can be scored
by how strongly such queries would attend to it at its age. Which places the chosen tokens get is the policy's decision.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from echo_cli.context import BlockContext, Observer
from echo_cli.memory import scoring
from echo_cli.memory.policies.base import Facts, Held, held_from, held_state
from echo_cli.memory.settings import EchoForcingSettings
from echo_cli.memory.store import CleanPass, KVStore
from echo_cli.rope import rotate
from echo_cli.runtime import Later, upload
from echo_cli.state import Nest

if TYPE_CHECKING:
    from echo_cli.memory.choice import Choice


@dataclass(frozen=True, slots=True)
class Places:
    """Where chosen tokens go: their new slots, what was there before, and the first one's place in the window."""

    slots: tuple[int, ...]
    before: tuple[int, ...]  # slots
    index: int  # frame in the window
    position: int  # temporal


class History:
    """Sums of clean queries, and for each remembered frame the loudness and use counts of its tokens."""

    def __init__(self, settings: EchoForcingSettings, store: KVStore, capacity: int, window: int) -> None:
        self.settings, self.store, self.capacity, self.window = settings, store, capacity, window
        spec = self.spec = store.spec
        _, batch, slots, tokens, *_ = store.keys.shape
        device = store.device

        def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(spec.depth, batch, *shape, dtype=dtype, device=device)

        self.query_sum, self.query_abs = zeros(spec.heads, spec.head_dim), zeros(spec.heads, spec.head_dim // 2)
        self.clean_query = zeros(spec.heads, spec.head_dim)  # mean of the last clean pass
        self.loud, self.uses = zeros(slots, tokens), zeros(slots, tokens, dtype=torch.int16)
        self.phases = scoring.phase_table(spec, capacity, device)
        self.frames: list[Held] = []
        self.tokens, self.ready = 0, False
        self._choice: Choice | None = None  # the last by kernels
        self._chose = False  # whether it is this block's

    @property
    def bytes(self) -> int:
        tensors = (self.query_sum, self.query_abs, self.clean_query, self.loud, self.uses, self.phases)
        choice = self._choice.bytes if self._choice else 0
        return choice + sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    @property
    def query_mean(self) -> Tensor:
        """Calibrated mean query, complex [layer, batch, head, pair]."""
        return scoring.complex_pairs(self.query_sum / self.tokens)

    def clear(self) -> None:
        """A new scene begins."""
        self.query_sum.zero_()
        self.query_abs.zero_()
        self.frames, self.tokens, self.ready = [], 0, False

    def calibration(self) -> Nest:
        """What has been learned of the scene's queries so far, as `resume` takes it."""
        return {"query_sum": self.query_sum.clone(), "query_abs": self.query_abs.clone(), "tokens": self.tokens}

    def resume(self, frames: Sequence[Held], calibration: Nest | None) -> None:
        """A cleared history continues that of an earlier scene, after these frames."""
        self.frames = list(frames)
        for held in frames:
            self.uses[:, :, held.slot] = 0
        if calibration is not None:
            self.query_sum.copy_(calibration["query_sum"])
            self.query_abs.copy_(calibration["query_abs"])
            self.tokens = calibration["tokens"]

    def state(self) -> Nest:
        slots = [held.slot for held in self.frames]
        return {"query_sum": self.query_sum, "query_abs": self.query_abs, "clean_query": self.clean_query,
                "loud": self.loud[:, :, slots], "uses": self.uses[:, :, slots],
                "frames": held_state(self.frames), "tokens": self.tokens, "ready": self.ready}

    def restore(self, state: Nest) -> None:
        self.frames, self.tokens, self.ready = held_from(state["frames"]), state["tokens"], state["ready"]
        slots = [held.slot for held in self.frames]
        for name in ("query_sum", "query_abs", "clean_query"):
            getattr(self, name).copy_(state[name])
        self.loud[:, :, slots], self.uses[:, :, slots] = state["loud"], state["uses"]

    def absorb(self, current: Sequence[Held], position: int, clean: CleanPass, facts: Facts) -> None:
        """A block that ends at `position` of its scene's clock is finished: calibrate, then remember it."""
        if self._choice and self._chose:
            self._choice.report(facts)
            self._chose = False
        torch.div(clean.query_sum, clean.tokens, out=self.clean_query)
        calibrating = not self.ready and position <= self.window
        if calibrating:
            self.query_sum += clean.query_sum
            self.query_abs += clean.query_abs
            self.tokens += clean.tokens
            self.ready = position == self.window  # as in the release: when the window is exactly full, or never
        self.frames = (self.frames + list(current))[-self.capacity:]
        for held in current:
            self.uses[:, :, held.slot] = 0
        if self.ready and self.settings.amplitude_compensation:
            mean, absolute = self.query_mean, self.query_abs / self.tokens
            louder = self.frames if calibrating else list(current)
            if self.store.kernels and not (self.store.away or torch.is_grad_enabled()):
                self._hear(louder, absolute - mean.abs())
            else:
                for held in louder:
                    self.loud[:, :, held.slot] = scoring.loudness(self.store.key(held.slot).detach(), mean, absolute)
        facts.calibration_tokens, facts.calibrated = self.tokens, self.ready

    def _hear(self, frames: Sequence[Held], surplus: Tensor) -> None:
        """`scoring.loudness` of several frames in one launch."""
        from echo_cli.kernels.choosing import answers

        slots = upload([held.slot for held in frames], self.store.device, torch.int32)
        loud = answers(self.store.keys, slots, surplus.flatten(2), slots, pairs=True)
        for held, heard in zip(frames, torch.split(loud, self.store.grid.tokens, -1), strict=True):
            self.loud[:, :, held.slot] = heard

    def eligible(self, anchors: Sequence[Held]) -> list[tuple[int, Held]]:
        """Frames to choose from, with their age in frames: all except the recent ones and, if so set, `anchors`."""
        standing = {held.slot for held in anchors} if self.settings.no_duplicates else set()
        aged = [(len(self.frames) - index, held) for index, held in enumerate(self.frames)]
        return [
            (age, held) for age, held in aged[: len(aged) - self.settings.recent_frames] if held.slot not in standing
        ]

    def choose(self, frames: Sequence[tuple[int, Held]], places: Places, context: BlockContext,
               facts: Facts) -> Observer:
        """An observer of the block's first pass: in each layer, the best tokens of `frames` take their places."""
        facts.history_frames = tuple(held.frame for _, held in frames)
        settings, store, tokens = self.settings, self.store, self.store.grid.tokens
        if self._kernels_take(len(frames) * tokens):
            return self._choose_by_kernels(frames, places, context)
        slots = [held.slot for _, held in frames]
        base = self._expected(frames)
        loud, uses = (torch.cat([table[:, :, slot] for slot in slots], -1) for table in (self.loud, self.uses))
        in_pool = (upload(slots, store.device)[:, None] * tokens + torch.arange(tokens, device=store.device)).flatten()
        count = len(places.slots) * tokens
        rotation = store.rope.frames(places.position + context.shift, len(places.slots))
        seen: list[tuple[Tensor, ...]] = []

        def observe(layer: int, query: Tensor, key: Tensor, value: Tensor) -> None:
            asked = self.clean_query[layer] if settings.gate_on_clean else query.detach().float().mean(1)
            similarity, gate = scoring.drift_gate(asked, self.query_sum[layer] / self.tokens, settings.drift_lambda)
            score = self._score(base[layer], loud[layer], uses[layer], gate)
            index, valid = scoring.best(score, count)  # [batch, count]
            source, here = in_pool[index], valid[..., None, None]

            keys, values = store.layer_tokens(layer, slots, index, source)
            if settings.true_places:
                keys = self._turn_home(keys, index % tokens)
            # if there are too few, what was there before
            keys, values = (torch.where(here, chosen, before) for chosen, before
                            in zip((keys, values), store.layer_frames(layer, places.before), strict=True))
            store.write(places.slots, keys, values, layer)
            self.uses[layer].flatten(1).scatter_add_(1, source, valid.to(torch.int16))
            context.replace(layer, places.index * tokens, rotate(keys, rotation), values)
            spread = _spread(score.gather(1, index), valid)
            seen.append((similarity[0], gate[0], torch.where(valid, index, -1)[0], spread))
            if len(seen) == self.spec.depth:
                facts.similarity, facts.gate, facts.chosen, facts.scores = (
                    Later(torch.stack(part)) for part in zip(*seen, strict=True)
                )

        return observe

    def _kernels_take(self, candidates: int) -> bool:
        """Whether kernels choose from so many tokens."""
        if not self.store.kernels or self.store.away or self.settings.true_places or torch.is_grad_enabled():
            return False
        from echo_cli.kernels.choosing import CANDIDATES

        return candidates <= CANDIDATES

    def _expected(self, frames: Sequence[tuple[int, Held]]) -> Tensor:
        """How well the keys of `frames` match the queries expected at their age [layer, batch, token]."""
        expected = scoring.expectation(self.query_mean, self.phases)  # [layer, batch, age, head * dim]
        keys = ((age, self.store.key(held.slot).detach().flatten(-2).float()) for age, held in frames)
        answers = [torch.matmul(key, expected[:, :, age - 1, :, None]) for age, key in keys]
        return torch.cat(answers, 2)[..., 0] / self.spec.heads

    def _score(self, base: Tensor, loud: Tensor, uses: Tensor, gate: Tensor) -> Tensor:
        """A layer's scores of tokens [batch, token]; a token that reached its use limit is excluded."""
        score = base
        if self.settings.amplitude_compensation:
            score = score + (loud * gate[:, None] if self.settings.drift_gate else loud)
        if self.settings.max_reuse:
            score = score.masked_fill(uses >= self.settings.max_reuse, -torch.inf)
        return score

    def _choose_by_kernels(self, frames: Sequence[tuple[int, Held]], places: Places, context: BlockContext) -> Observer:
        """As `choose`, in a few launches per layer; the facts follow when the block is absorbed."""
        from echo_cli.memory.choice import Choice

        if self._choice is None or not self._choice.fits(len(frames), len(places.slots)):
            self._choice = Choice(self.settings, self.store, len(frames), len(places.slots), loud=self.loud,
                                  uses=self.uses, query_sum=self.query_sum, clean_query=self.clean_query)
        self._chose = True
        self.store.outdate(places.slots)
        return self._choice.aim(
            [held.slot for _, held in frames], [age - 1 for age, _ in frames], places.slots, places.before,
            context.places_of(places.index, len(places.slots)),
            self.store.rope.frames(places.position + context.shift, len(places.slots)),
            scoring.expectation(self.query_mean, self.phases), context)

    def _turn_home(self, keys: Tensor, place: Tensor) -> Tensor:
        """Rotate raw keys [batch, token, head, dim] so that rotation at their slot's row and column ends at their
        own."""
        spatial = self.store.rope.spatial
        slot = spatial.repeat(place.shape[-1] // len(spatial), 1)
        still = torch.ones_like(self.store.rope.temporal[:1]).expand(*place.shape, -1)
        return rotate(keys, torch.cat((still, spatial[place] * slot.conj()), -1))


def _spread(worth: Tensor, valid: Tensor) -> Tensor:
    """Least, mean and greatest score of what was chosen."""
    return torch.stack((torch.where(valid, worth, torch.inf).amin(), torch.where(valid, worth, 0).sum() / valid.sum(),
                        worth.amax()))
