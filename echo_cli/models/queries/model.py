"""Memory queries: a few learned tokens in each layer that absorb what leaves the window, and never grow in number.

A query frame is as many tokens as a latent frame has, each with a key and a value in every layer: it stands in the
window like a remembered frame, is rotated to a position and attended to like one. It holds keys and values rather than
hidden states because memory already holds those: absorbing runs no layer of the transformer and needs no projections
into each layer, and the result remains a mixture of what real frames look like to attention.

When frames leave, every query reads them by attention, near its own cell first, and a gate says how much of what it
read replaces what it held:

K ← (1 − g) K + g K̂, V ← (1 − g) V + g V̂, g = σ(what it held, what it read, what the others hold)

Before training, a gate is set to open where a query frame holds the same as an earlier one: such a frame is spare, and
another place may have it. So each new place takes over what the last one needed least, and none is lost until there are
more places than query frames.

Cost and size depend on the number of queries and of frames that leave together, never on what came before. Which frames
leave and where queries stand is the policy's decision. How all this is learned is not known here.
"""

import operator
from collections.abc import Iterable, Sequence
from functools import reduce
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from echo_cli.kernels import usable
from echo_cli.runtime import upload
from echo_cli.spec import Grid, ModelSpec

FRAMES = 6  # query frames, by default
_HIDDEN = 16  # of the gate
_HINTS = 5  # plain numbers among the gate's inputs: see `_gate`
AT_ONCE = 1 << 24  # values of keys processed at a time: a large model goes layer by layer
SCORES_AT_ONCE = 1 << 27  # of attention: large pictures go some rows of queries at a time
READ_AT_ONCE = 1 << 27  # values of queries processed at a time where kernels do it, which hold little beside them


def layers_at_once(spec: ModelSpec, values: int) -> int:
    """How many layers are processed together if one has that many values of keys, held and leaving."""
    return max(1, min(spec.depth, AT_ONCE // values))


class QueryState(NamedTuple):
    """What the queries hold: raw keys and values [layer, batch, frame, token, head, dim]."""

    keys: Tensor
    values: Tensor


class MemoryQueries(nn.Module):
    """The learned initial state, and how it is changed by what leaves. `frames` decides the compression."""

    def __init__(self, spec: ModelSpec, frames: int = FRAMES) -> None:
        super().__init__()
        self.spec, self.frames = spec, frames
        layers, heads, dim = spec.depth, spec.heads, spec.head_dim
        generator = torch.Generator().manual_seed(0)
        # The same for every cell, so that pictures of any size can start from it; cells differ by what they read.
        self.keys = nn.Parameter(torch.randn(layers, frames, heads, dim, generator=generator))
        self.values = nn.Parameter(0.02 * torch.randn(layers, frames, heads, dim, generator=generator))
        self.ask = nn.Parameter((0.25 * torch.eye(dim)).expand(layers, heads, dim, dim).clone())
        self.near = nn.Parameter(torch.full((layers, heads), 2.0))  # log-odds lost for each squared cell of distance
        self.gate_in = nn.Parameter(
            torch.randn(layers, 4 * spec.width, _HIDDEN, generator=generator) / (4 * spec.width) ** 0.5
        )
        self.gate_out = nn.Parameter(torch.zeros(layers, _HIDDEN))
        # Before training, the first frame keeps what left first, the last one follows, and those between change
        # while they are spare: the similarity of two frames of one place is about 0.8, of two places 0.4.
        first, between, last = ([0.0, 0.0, 0.0, 20.0, spare] for spare in (0.0, 16.0, 0.0))
        hints = torch.tensor([first, *[between] * (frames - 2), last][:frames])
        self.gate_hints = nn.Parameter(hints.expand(layers, frames, _HINTS).clone())
        bias = torch.tensor([-6.0, *[-10.0] * (frames - 2), 0.0][:frames])
        self.gate_bias = nn.Parameter(bias.expand(layers, frames).clone())

    def start(self, batch: int, tokens: int) -> QueryState:
        """The learned state that every film begins with."""
        return QueryState(
            *(part[:, None, :, None].expand(-1, batch, -1, tokens, -1, -1) for part in (self.keys, self.values))
        )

    def absorb(self, state: QueryState, keys: Tensor, values: Tensor, grid: Grid, first: bool,
               gated: bool = True) -> tuple[QueryState, Tensor]:
        """The state after raw frames [layer, batch, frame, token, head, dim] have left the window, and how far each
        gate was open [layer, batch, frame, token]. `first`: nothing has been absorbed before. Float32 inside; a state
        may have fewer frames than were learned, the first ones."""
        spare = self.spare(state.values) if gated else None
        parts = [
            self.absorb_in(at, QueryState(state.keys[at], state.values[at]), keys[at], values[at], grid, first, spare)
            for at in self.steps(state.keys[0].numel() + keys[0].numel())
        ]
        states, gates = zip(*parts, strict=True)
        return QueryState(*map(_joined, zip(*states, strict=True))), _joined(gates)

    def steps(self, values: int) -> list[slice]:
        """The layers, in the groups that are processed together."""
        layers, step = self.spec.depth, layers_at_once(self.spec, values)
        return [slice(at, min(at + step, layers)) for at in range(0, layers, step)]

    def absorb_in(self, layers: slice, state: QueryState, keys: Tensor, values: Tensor, grid: Grid, first: bool,
                  spare: Tensor | None) -> tuple[QueryState, Tensor]:
        """As `absorb`, for some of the layers; `spare` is over all layers, or None if the gates are open."""
        if usable(keys.device) and not torch.is_grad_enabled():
            return self._absorb_by_kernels(layers, state, keys, values, grid, first, spare)
        held_key, held_value = (part.float() for part in state)
        read_key, read_value = self._read(layers, held_key, keys.float(), values.float(), grid)
        if spare is not None:
            gate = self._gate(layers, held_key, read_key, held_value, read_value, first, spare)
        else:
            gate = torch.ones(held_key.shape[:4], device=held_key.device)
        share = gate[..., None, None]
        key = torch.lerp(held_key, read_key, share)
        # A mean of keys is shorter than the keys and would get less attention: scale it to their mean length.
        length = torch.lerp(_length(held_key), _length(read_key), share)
        key = key * (length / _length(key).clamp(min=1e-6))
        return QueryState(key.to(keys.dtype), torch.lerp(held_value, read_value, share).to(values.dtype)), gate

    def _absorb_by_kernels(self, layers: slice, state: QueryState, keys: Tensor, values: Tensor, grid: Grid,
                           first: bool, spare: Tensor | None) -> tuple[QueryState, Tensor]:
        """As `absorb_in`, by kernels, which change a copy of the state."""
        held = QueryState(*(part.clone(memory_format=torch.contiguous_format) for part in state))
        order = torch.arange(max(held.keys.shape[2], keys.shape[2]), dtype=torch.int32, device=keys.device)
        slots = order[:held.keys.shape[2]], order[:keys.shape[2]]
        gate = self._change(layers, held, (keys.contiguous(), values.contiguous()), slots, grid, first, spare)
        return held, gate

    @torch.no_grad()
    def absorb_in_place(self, keys: Tensor, values: Tensor, held: Sequence[int], leaving: Sequence[int], grid: Grid,
                        first: bool, gated: bool = True) -> Tensor:
        """As `absorb`, by kernels, for frames in slots of a pool [layer, batch, slot, token, head, dim]: the queries
        are changed in their slots. How far the gates were open."""
        from echo_cli.kernels.near import Slots, compare

        mine, depth = (keys, values), self.spec.depth
        if list(held) == list(range(held[0], held[0] + len(held))):  # side by side, they are read without a copy
            mine, held = (keys[:, :, held[0]:held[-1] + 1], values[:, :, held[0]:held[-1] + 1]), range(len(held))
        slots = tuple(upload(numbers, keys.device, torch.int32) for numbers in (list(held), leaving))
        spare = None
        if gated:
            there = Slots(mine[1], slots[0])
            spare = _least_spare(_overlap(*compare(there, there)[:2]).sum(0) / depth)
        step = max(1, READ_AT_ONCE // (keys[0, :, 0].numel() * len(held)))
        gates = []
        for at in range(0, depth, step):
            layers = slice(at, min(at + step, depth))
            gates.append(self._change(layers, (mine[0][layers], mine[1][layers]), (keys[layers], values[layers]), slots,
                                      grid, first, spare))
        return _joined(gates)

    def _change(self, layers: slice, held: tuple[Tensor, Tensor], leaving: tuple[Tensor, Tensor],
                slots: tuple[Tensor, ...], grid: Grid, first: bool, spare: Tensor | None) -> Tensor:
        """Change the queries in some slots of `held`, which read frames in some slots of `leaving`."""
        from echo_cli.kernels.near import Slots, blend, compare, near_read

        held_key, held_value = (Slots(pool, slots[0]) for pool in held)
        keys, values = (Slots(pool, slots[1]) for pool in leaving)
        ask = (self.ask[layers] / self.spec.head_dim**0.5).to(keys.pool.dtype).contiguous()
        read = near_read(held_key, ask, keys, values, self.near[layers], grid.cols)
        if spare is None:
            gate = torch.ones(read[0].shape[:4], device=keys.pool.device)
        else:
            read_key, read_value = (Slots.of(part) for part in read)
            products, key_lengths, read_lengths = compare(held_key, read_key, paired=True)
            keys_alike = products / (_least(key_lengths) * _least(read_lengths))
            alike, value_lengths, held_lengths = compare(read_value, held_value)
            alike = alike / (_least(value_lengths)[..., :, None] * _least(held_lengths)[..., None, :])
            lengths = [_least(each).transpose(2, 3) for each in (key_lengths, read_lengths, held_lengths,
                                                                 value_lengths)]
            parts = [_frames(*held_key), read[0], _frames(*held_value), read[1]]
            gate = self._open(layers, parts, lengths, keys_alike.transpose(2, 3), alike, first, spare)
        blend(held_key, held_value, read, gate)
        return gate

    def _read(self, layers: slice, held: Tensor, keys: Tensor, values: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
        """What each query reads in the frames that leave: the mean of their keys and of their values, by attention."""
        count, batch, frames, tokens, heads, dim = held.shape
        asked = torch.einsum("lbfthd,lhde->lbhfte", held, self.ask[layers]).flatten(3, 4)  # [l, b, head, query, dim]
        asked = asked / dim**0.5
        keys, values = (part.permute(0, 1, 4, 2, 3, 5).flatten(3, 4) for part in (keys, values))
        # −α|p − q|² = 2αp·q − α|q|² and a constant: three more dimensions of query and key, so any attention kernel can
        # compute it.
        near = self.near[layers].abs()[:, None, :, None, None]
        cells = _cells(grid, held.device)
        here, there = cells.repeat(frames, 1), cells.repeat(keys.shape[3] // tokens, 1)
        where = torch.cat((2 * near * here, torch.ones_like(near).expand(-1, -1, -1, len(here), -1)), -1).expand(
            -1, batch, -1, -1, -1
        )
        place = torch.cat((there.expand(count, 1, heads, -1, -1), -near * there.square().sum(-1, keepdim=True)), -1)
        place = place.expand(-1, batch, -1, -1, -1)
        asking, against = torch.cat((asked, where), -1).flatten(0, 1), torch.cat((keys, place), -1).flatten(0, 1)
        worth = torch.cat((keys, values, _length(keys)), -1).flatten(0, 1)
        rows = max(1, SCORES_AT_ONCE // against.shape[:3].numel())
        reading = _joined(
            [F.scaled_dot_product_attention(some, against, worth, scale=1.0) for some in asking.split(rows, 2)], 2
        )
        reading = reading.unflatten(0, (count, batch)).unflatten(3, (frames, tokens)).permute(0, 1, 3, 4, 2, 5)
        key, value, length = reading.split((dim, dim, 1), -1)
        return key * (length / _length(key).clamp(min=1e-6)), value

    @torch.no_grad()
    def spare(self, values: Iterable[Tensor]) -> Tensor:
        """How similar each query frame is to the most similar of those before it [batch, frame]: the cosine of their
        values [batch, frame, token, head, dim], one such tensor a layer, averaged over layers and cells; 0 for the
        first."""
        return _least_spare(reduce(operator.add, map(self._alike, values)))

    def _alike(self, layer: Tensor) -> Tensor:
        """A layer's part of `spare` [batch, frame, frame]."""
        if usable(layer.device):
            from echo_cli.kernels.near import Slots, compare

            mine = Slots.of(layer.contiguous()[None])
            return _overlap(*compare(mine, mine)[:2])[0] / self.spec.depth
        unit = F.normalize(layer.float().flatten(-2), dim=-1)  # [batch, frame, token, width]
        return torch.einsum("bfte,bgte->bfg", unit, unit) / (unit.shape[2] * self.spec.depth)

    def _gate(self, layers: slice, held_key: Tensor, read_key: Tensor, held_value: Tensor, read_value: Tensor,
              first: bool, spare: Tensor) -> Tensor:
        """How much of what was read is taken: one number per query token, for all heads of a layer."""
        # [l, b, frame, token, width]
        parts = [part.flatten(-2) for part in (held_key, read_key, held_value, read_value)]
        lengths = [_length(part).clamp(min=1e-6) for part in parts]
        keys_alike = (parts[0] * parts[1]).sum(-1) / (lengths[0] * lengths[1]).squeeze(-1)
        # What each query read, compared with what every query of its cell holds: itself and its rivals.
        alike = torch.einsum("lbfte,lbgte->lbtfg", parts[3], parts[2])
        alike = alike / (lengths[3].transpose(2, 3) * lengths[2].permute(0, 1, 3, 4, 2))
        return self._open(layers, parts, [length.squeeze(-1) for length in lengths], keys_alike, alike, first, spare)

    def _open(self, layers: slice, parts: Sequence[Tensor], lengths: Sequence[Tensor], keys_alike: Tensor,
              alike: Tensor, first: bool, spare: Tensor) -> Tensor:
        """How far gates open for held keys, read keys, held values and read values, given their lengths and
        similarities."""
        frames = alike.shape[-1]
        itself = torch.eye(frames, dtype=torch.bool, device=alike.device)
        rival = alike.masked_fill(itself, -1.0).amax(-1) if frames > 1 else torch.zeros_like(alike[..., 0])
        hints = torch.stack(
            (
                keys_alike,
                alike.diagonal(dim1=-2, dim2=-1).transpose(2, 3),
                rival.transpose(2, 3),
                torch.full_like(keys_alike, float(first)),
                spare[None, :, :, None].expand_as(keys_alike),
            ),
            -1,
        )
        # Each part has unit mean square; normalising after the matrix is cheaper than before it.
        weights = self.gate_in[layers].unflatten(1, (4, -1)).unbind(1)
        width = weights[0].shape[1] ** 0.5
        hidden = sum(torch.matmul(part.flatten(4).flatten(1, 3), weight.to(part.dtype))
                     * (width / length.unsqueeze(-1).flatten(1, 3))
                     for part, weight, length in zip(parts, weights, lengths, strict=True))
        learned = torch.matmul(F.silu(hidden), self.gate_out[layers, :, None]).view(keys_alike.shape)
        plain = (hints * self.gate_hints[layers, None, :frames, None]).sum(-1) + self.gate_bias[
            layers, None, :frames, None
        ]
        return torch.sigmoid(learned + plain)


def _overlap(products: Tensor, lengths: Tensor) -> Tensor:
    """The mean cosine over tokens [layer, batch, frame, frame] of products [layer, batch, token, frame, frame] and
    lengths."""
    long = lengths.clamp(min=1e-12)
    return (products / (long[..., :, None] * long[..., None, :])).mean(2)


def _least_spare(alike: Tensor) -> Tensor:
    """The greatest similarity [batch, frame, frame] of each frame with one before it."""
    before = torch.ones_like(alike[0], dtype=torch.bool).tril(-1)
    return alike.masked_fill(~before, 0.0).amax(-1)


def _frames(pool: Tensor, slots: Tensor) -> Tensor:
    """Frames in slots of a pool, without a copy if they are all that it holds."""
    return pool if len(slots) == pool.shape[2] else pool.index_select(2, slots)


def _least(lengths: Tensor) -> Tensor:
    return lengths.clamp(min=1e-6)


def _joined(parts: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Concatenated; a single part is not copied."""
    return torch.cat(list(parts), dim) if len(parts) > 1 else parts[0]


def _length(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=-1, keepdim=True)


def _cells(grid: Grid, device: torch.device) -> Tensor:
    """Row and column of each token, counted from the middle so that the numbers stay small: [token, 2]."""
    rows, cols = torch.arange(grid.rows, device=device), torch.arange(grid.cols, device=device)
    rows, cols = rows - (grid.rows - 1) / 2, cols - (grid.cols - 1) / 2
    return torch.stack((rows[:, None].expand(-1, grid.cols), cols.expand(grid.rows, -1)), -1).flatten(0, 1).float()
