"""The store: raw keys and values of whole frames, and the window built from them for one block.

Knows tensors and slots. Which frame is in which slot, what it is for and when it leaves is the policy's decision;
the store only takes, keeps, writes, and prepares a window for a layout. All tensors are allocated once. Under gradients
every write makes a new tensor instead, since autograd still needs the old one.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from echo_cli.context import BlockContext, Placing, Pool, Watch, mark
from echo_cli.eight import EightBitLayers, EightBitWindow
from echo_cli.kernels import usable
from echo_cli.layout import Layout
from echo_cli.memory.places import Arrangement, Standing, Wanted, in_order, in_place
from echo_cli.rope import RopeTable, Turn, rotate
from echo_cli.runtime import upload
from echo_cli.spec import Grid, ModelSpec
from echo_cli.state import Nest


@dataclass(frozen=True, slots=True)
class Placement:
    """What memory's tensors are allocated for: grid, batch, dtype and device. `home` is where remembered frames are
    kept, if not on the device; `turn` is how keys are rotated; `eight` says which layers attend in eight bits."""

    grid: Grid
    device: torch.device = torch.device("cpu")
    dtype: torch.dtype = torch.float32
    batch: int = 1
    home: torch.device | None = None
    turn: Turn = rotate
    eight: EightBitLayers | None = None


class KVStore:
    """`keys`, `values` [layer, batch, slot, token, head, dim]: raw (unrotated, unweighted) frames, on the device or,
    if that is too small for them, on the host; `frame` and its kin bring them to the device.
    `weights`, `rates` [layer, batch, row, token]: weights of fading frames, and what they lose each block."""

    def __init__(self, spec: ModelSpec, place: Placement, slots: int, window: int, fades: int = 0,
                 suppress: bool = False) -> None:
        grid, batch, device, dtype, home = place.grid, place.batch, place.device, place.dtype, place.home
        self.spec, self.grid, self.device = spec, grid, device
        self.rope = RopeTable(spec, grid, device)
        self.turn = place.turn
        self.suppress = suppress  # a weight w adds log w to the logits instead of scaling keys and values
        frames = (spec.depth, batch, slots, grid.tokens, spec.heads, spec.head_dim)
        past = (spec.depth, batch, window * grid.tokens, spec.heads, spec.head_dim)
        self.away = home is not None
        pinned = self.away and self.device.type == "cuda"
        self.keys, self.values = (
            torch.zeros(frames, dtype=dtype, device=home or device, pin_memory=pinned) for _ in range(2)
        )
        self._window_keys, self._window_values = (torch.zeros(past, dtype=dtype, device=device) for _ in range(2))
        self._eight = EightBitWindow(place.eight, self._window_keys, grid.tokens) if place.eight else None
        self._measured: tuple[int, int] | None = None  # scene and remembered frames that `_eight` is valid for
        self.weights, self.rates = (torch.ones(spec.depth, batch, fades, grid.tokens, device=device) for _ in range(2))
        self._free = list(range(slots - 1, -1, -1))
        self._used: set[int] = set()
        self._expected: frozenset[int] = frozenset()
        self._standing: list[Standing | None] = [None] * window  # by place of the window, one a frame
        self.kernels = usable(self.device)
        self.in_place = self.kernels  # frames keep their places, and the block's rotation is chosen to match
        # By the number of a block's frames, where kernels run: its rotations and places, and what a clean pass leaves.
        self._fixed: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
        self._collected: dict[int, Collected] = {}

    @property
    def bytes(self) -> int:
        tensors = (
            self._window_keys,
            self._window_values,
            self.weights,
            self.rates,
            self.rope.spatial,
            self.rope.temporal,
        )
        eight = self._eight.bytes if self._eight else 0
        return self.frame_bytes + eight + sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """Of one frame's keys [layer, batch, token, head, dim]."""
        return *self.keys.shape[:2], *self.keys.shape[3:]

    @property
    def frame_values(self) -> int:
        """Numbers in the keys of one frame, in all layers."""
        return prod(self.frame_shape)

    @property
    def frame_bytes(self) -> int:
        """Of the raw frames alone."""
        return 2 * self.keys.numel() * self.keys.element_size()

    def take(self, count: int) -> tuple[int, ...]:
        """Free slots; their old contents may be overwritten."""
        assert count <= len(self._free), f"the store has {len(self._free)} free slots, but {count} are needed"
        slots = tuple(self._free.pop() for _ in range(count))
        self._used.update(slots)
        return slots

    def expect(self, slots: Iterable[int]) -> None:
        """An observer of the block's first pass will write these frames, into the window too: the next `prepare` leaves
        their places as they are."""
        self._expected = frozenset(slots)

    def keep(self, slots: Iterable[int]) -> None:
        """Everything not in `slots` becomes free; the order of freeing is fixed, so runs repeat exactly."""
        kept = set(slots)
        assert kept <= self._used, f"slots {sorted(kept - self._used)} were never taken"
        gone = sorted(self._used - kept, reverse=True)
        self.outdate(gone)
        self._free += gone
        self._used = kept

    @property
    def used(self) -> frozenset[int]:
        return frozenset(self._used)

    def state(self) -> Nest:
        """The frames that are held, the weights of fading ones, and the order in which slots will be taken."""
        if self.away and self.device.type == "cuda":
            torch.cuda.current_stream(self.device).synchronize()  # frames may still be on their way to the host
        used = sorted(self._used)
        # views, so that nothing is held twice
        keys, values = ([pool[:, :, slot] for slot in used] for pool in (self.keys, self.values))
        return {
            "used": used,
            "free": list(self._free),
            "keys": keys,
            "values": values,
            "weights": self.weights,
            "rates": self.rates,
            "standing": [there and list(there) for there in self._standing],
            **({"eight": {"layers": list(self._eight.layers), "measured": self._measured and list(self._measured),
                          "mean": self._eight.mean, "value_scale": self._eight.value_scale}} if self._eight else {}),
        }

    def restore(self, state: Nest) -> None:
        """Restore what `state` returned, wherever its tensors are. That store may have had other numbers of slots and
        of fading rows, and other layers in eight bits, or none: then mean and scale are measured before the next
        block."""
        used = state["used"]
        for pool, frames in ((self.keys, state["keys"]), (self.values, state["values"])):
            for slot, frame in zip(used, frames, strict=True):
                pool[:, :, slot].copy_(frame)
        for mine, theirs in ((self.weights, state["weights"]), (self.rates, state["rates"])):
            rows = min(mine.shape[2], theirs.shape[2])
            mine[:, :, :rows].copy_(theirs[:, :, :rows])
        self._used, self._free = set(used), _resized(state["free"], len(used) + len(state["free"]), self.keys.shape[2])
        self._standing = [there and Standing(*there) for there in state["standing"]] if self.in_place else (
            [None] * len(self._standing))
        for place, there in enumerate(self._standing):
            if there is not None:
                self._lay(place, *there, None)
        self._measured = None
        if self._eight and (eight := state.get("eight")) and eight["layers"] == list(self._eight.layers):
            self._measured = eight["measured"] and (eight["measured"][0], eight["measured"][1])
            self._eight.mean.copy_(eight["mean"])
            self._eight.value_scale.copy_(eight["value_scale"])
            self._eight.write(self._window_keys, self._window_values,
                              [place for place, there in enumerate(self._standing) if there is not None])

    def write(self, slots: Sequence[int], keys: Tensor, values: Tensor, layers: slice | int = slice(None)) -> None:
        """Raw keys and values [layer, batch, slots * token, head, dim] into slots; one layer's lack the first axis.
        The window's copy of these slots is then out of date."""
        self.outdate(slots)
        self.fill(slots, keys, values, layers)

    def outdate(self, slots: Sequence[int]) -> None:
        """Frames in these slots have changed and are laid out again when they are needed."""
        self._standing = [None if there and there.slot in slots else there for there in self._standing]

    def fill(self, slots: Sequence[int], keys: Tensor, values: Tensor, layers: slice | int = slice(None)) -> None:
        """As `write`, with what is already in the block's own places in the window."""
        if torch.is_grad_enabled() and (keys.requires_grad or self.keys.requires_grad):
            self.keys, self.values = self.keys.clone(), self.values.clone()
        for slot, key, value in zip(slots, keys.chunk(len(slots), -3), values.chunk(len(slots), -3), strict=True):
            self._put(self.keys, layers, slot, key)
            self._put(self.values, layers, slot, value)

    def _put(self, pool: Tensor, layers: slice | int, slot: int, frame: Tensor) -> None:
        if not self.away:
            pool[layers, ..., slot, :, :, :] = frame
            return
        homes, frames = (pool[layers][None], frame[None]) if isinstance(layers, int) else (pool[layers], frame)
        # layer by layer, each contiguous: only such copies are asynchronous
        for home, one in zip(homes, frames, strict=True):
            home[:, slot].copy_(one, non_blocking=True)

    def frame(self, slot: int, layers: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Raw keys and values of one frame [layer, batch, token, head, dim], on the device."""
        return self.key(slot, layers), self.value(slot, layers)

    def key(self, slot: int, layers: slice = slice(None)) -> Tensor:
        return self._bring(self.keys, slot, layers)

    def value(self, slot: int, layers: slice = slice(None)) -> Tensor:
        return self._bring(self.values, slot, layers)

    def frames(self, slots: Sequence[int], layers: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Those of several [layer, batch, slot, token, head, dim]."""
        keys, values = zip(*(self.frame(slot, layers) for slot in slots), strict=True)
        return torch.stack(keys, 2), torch.stack(values, 2)

    def layer_frames(self, layer: int, slots: Sequence[int]) -> tuple[Tensor, Tensor]:
        """One layer's keys and values of frames, concatenated [batch, slot * token, head, dim]."""
        keys, values = (torch.cat([pool[layer, :, slot].to(self.device, non_blocking=True) for slot in slots], 1)
                        for pool in (self.keys, self.values))
        return keys, values

    def layer_tokens(self, layer: int, slots: Sequence[int], index: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens of one layer [batch, count, head, dim]. `index` [batch, count] counts through `slots`, and `source`
        through all slots: frames that are on the device need not be gathered first."""
        pools = (
            self.layer_frames(layer, slots)
            if self.away
            else (self.keys[layer].flatten(1, 2), self.values[layer].flatten(1, 2))
        )
        at = (index if self.away else source)[..., None, None]
        keys, values = (torch.take_along_dim(pool, at, 1) for pool in pools)
        return keys, values

    def _bring(self, pool: Tensor, slot: int, layers: slice) -> Tensor:
        frame = pool[layers, :, slot]
        if not self.away:
            return frame
        here = torch.empty_like(frame, device=self.device, memory_format=torch.contiguous_format)
        for there, one in zip(here, frame, strict=True):
            there.copy_(one, non_blocking=True)
        return here

    def fade(self, rows: slice, weight: float) -> None:
        """Rows at the start of a transition: all tokens at `weight`, losing nothing yet."""
        self.weights[:, :, rows] = weight
        self.rates[:, :, rows] = 1.0

    def prepare(self, layout: Layout) -> BlockContext:
        """Rotate and weight the remembered frames for their places in `layout`, once for all layers and passes; those
        that are already there stay."""
        placed = [(segment.position + index, slot, row) for segment in layout.past
                  for index, (slot, row) in enumerate(zip(segment.slots, segment.fades, strict=True))]
        expected, self._expected = self._expected, frozenset()
        if self.keys.requires_grad and placed:
            return self._prepare_for_gradients(layout, placed)
        current, free = layout.current, self.in_place and not torch.is_grad_enabled()
        arrangement = self._arrange(layout, placed, free)
        shift, here = arrangement.shift, {*(slot for _, slot, _ in placed), *current.slots}
        standing = [None if there and there.slot in here else there for there in self._standing]
        for index, (position, slot, row) in enumerate(placed):
            place = arrangement.past[index]
            coming = slot in expected
            if index not in arrangement.kept and not coming:
                self._lay(place, slot, position + shift, row)
            standing[place] = Standing(slot, position + shift) if row is None and not coming else None
        for index, (place, slot) in enumerate(zip(arrangement.block, current.slots, strict=True)):
            # The clean pass will write it there; in window order each is rotated again.
            standing[place] = Standing(slot, current.position + shift + index) if free else None
        self._standing = [None] * len(standing) if torch.is_grad_enabled() else standing
        query, key = (self.rope.frames(first + shift, len(current.frames))
                      for first in (layout.query_position, current.position))
        placing, turn = None, self.turn
        if free:
            places = None
            if self.kernels:
                from echo_cli.kernels import rows as kernels

                turn = kernels.turn
                query, key, places = self._settle(query, key, arrangement.block)
            placing = Placing(arrangement.past, arrangement.block, shift, self.grid.tokens, places)
        rows = dict(zip(arrangement.past, (row for *_, row in placed), strict=True))
        bias = self._bias(rows, (len(placed) + len(current.frames)) * self.grid.tokens)
        known = [index for index, (_, slot, _) in enumerate(placed) if slot not in expected]
        return BlockContext(self._window_keys, self._window_values, len(placed) * self.grid.tokens, query, key,
                            bias=bias, turn=turn, placing=placing,
                            eight=self._in_eight_bits(current.scene, arrangement, known if bias is None else ()))

    def _in_eight_bits(self, scene: int, arrangement: Arrangement, known: Sequence[int]) -> EightBitWindow | None:
        """The window in eight bits, with the frames that were laid out. When a scene opens and while the window fills,
        mean and scale are measured again and all frames are written again. `known` are the remembered frames that no
        observer will write; there are none where weights are a bias, which such attention does not take. Without any,
        the block attends exactly: None."""
        if self._eight is None or not known or torch.is_grad_enabled():
            self._measured = None
            return None
        places, now = [arrangement.past[index] for index in known], (scene, len(arrangement.past))
        laid = [arrangement.past[index] for index in known if index not in arrangement.kept]
        if self._measured != now:
            self._eight.measure(self._window_keys, self._window_values, places)
            standing = (place for place, there in enumerate(self._standing) if there is not None)
            self._measured, laid = now, sorted({*places, *standing})
        self._eight.write(self._window_keys, self._window_values, laid)
        return self._eight

    def _arrange(self, layout: Layout, placed: Sequence[tuple[int, int, int | None]], free: bool) -> Arrangement:
        past = [Wanted(slot, position, row is not None) for position, slot, row in placed]
        frames = len(layout.current.frames)
        if not free:
            return in_order(self._standing, past, frames)
        first = (layout.query_position, layout.current.position)
        return in_place(self._standing, past, frames, (min(first), max(first) + frames - 1), self.rope.positions)

    def _settle(self, query: Tensor, key: Tensor, places: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """The block's rotations and places at addresses that stay the same from block to block."""
        given = (query, key, upload(places, self.device, torch.int32))
        kept = self._fixed.setdefault(len(places), given)
        for mine, new in zip(kept, given, strict=True):
            mine.copy_(new)
        return kept

    def collected(self, slots: Sequence[int]) -> "Collected | None":
        """Where kernels leave what a clean pass over a block in these slots collects; None where torch does."""
        if not self.kernels or self.away or torch.is_grad_enabled():
            return None
        if len(slots) not in self._collected:
            self._collected[len(slots)] = Collected.of(self, len(slots))
        kept = self._collected[len(slots)]
        kept.slots.copy_(upload(slots, self.device, torch.int32))
        return kept

    def _prepare_for_gradients(self, layout: Layout, placed: Sequence[tuple[int, int, int | None]]) -> BlockContext:
        """A window of new tensors, one a layer, since autograd still needs the old ones."""
        frames, current = [self._frame(*where) for where in placed], layout.current
        keys, values = (list(torch.cat(part, 2).unbind(0)) for part in zip(*frames, strict=True))
        self._standing = [None] * len(self._standing)
        past = len(placed) * self.grid.tokens
        return BlockContext(keys, values, past, self.rope.frames(layout.query_position, len(current.frames)),
                            self.rope.frames(current.position, len(current.frames)), turn=self.turn,
                            bias=self._bias({place: row for place, (*_, row) in enumerate(placed)},
                                            past + current.tokens))

    def _lay(self, place: int, slot: int, position: int, row: int | None) -> None:
        """Write one remembered frame to its place in the window, rotated and weighted, for all layers."""
        at = slice(place * self.grid.tokens, (place + 1) * self.grid.tokens)
        if self.kernels and not torch.is_grad_enabled() and (row is None or self.suppress):
            from echo_cli.kernels.rows import lay

            lay(self.key(slot), self.value(slot), self.rope.frames(position, 1), self._window_keys[:, :, at],
                self._window_values[:, :, at])
        else:
            self._window_keys[:, :, at], self._window_values[:, :, at] = self._frame(position, slot, row)

    def _frame(self, position: int, slot: int, row: int | None) -> tuple[Tensor, Tensor]:
        """One remembered frame as attention will see it, for all layers."""
        key, value = self.frame(slot)
        key = self.turn(key, self.rope.frames(position, 1))
        if row is None or self.suppress:
            return key, value
        weight = self.weights[:, :, row, :, None, None]
        if self.keys.requires_grad:
            weight = weight.clone()  # autograd keeps it while the row continues to fade
        return (key * weight).to(key.dtype), (value * weight).to(value.dtype)

    def _bias(self, rows: Mapping[int, int | None], tokens: int) -> Tensor | None:
        """log w for every token of a fading frame, by place, if forgetting is by suppression; [layer, batch, token]."""
        if not self.suppress or not any(row is not None for row in rows.values()):
            return None
        bias = torch.zeros(*self.weights.shape[:2], tokens, device=self.device)
        for place, row in rows.items():
            if row is not None:
                bias[:, :, place * self.grid.tokens:(place + 1) * self.grid.tokens] = \
                    self.weights[:, :, row].clamp(min=1e-9).log()
        return bias


def _resized(free: Sequence[int], before: int, slots: int) -> list[int]:
    """Free slots of a store of `before` slots as one of so many would have them: those that were never taken lie
    undermost, in order."""
    untouched = next((place for place, slot in enumerate(free) if slot != before - 1 - place), len(free))
    touched = before - untouched
    assert touched <= slots, f"{touched} slots were in use, but the store has {slots}"
    return [*range(slots - 1, touched - 1, -1), *free[untouched:]]


@dataclass(frozen=True, slots=True)
class Collected:
    """A block's slots, and its sums [layer, batch, head * dim * 3/2]: of its queries, then of the lengths of their
    pairs."""

    slots: Tensor
    sums: Tensor

    @classmethod
    def of(cls, store: KVStore, frames: int) -> "Collected":
        return cls(torch.zeros(frames, dtype=torch.int32, device=store.device),
                   torch.zeros(store.spec.depth, store.keys.shape[1], store.spec.width * 3 // 2, device=store.device))


class CleanPass(Watch):
    """Observes the pass over finished latents: raw keys and values into the block's slots, and sums of its queries.

    Under gradients the frames are held back until `finish`, so that no layer's write changes what another has read.
    """

    def __init__(self, store: KVStore, slots: tuple[int, ...]) -> None:
        self._store, self._slots = store, slots
        self._collected = store.collected(slots)
        spec, batch = store.spec, store.keys.shape[1]
        self.query_sum = torch.zeros(spec.depth, batch, spec.heads, spec.head_dim, device=store.device)
        self.query_abs = torch.zeros(spec.depth, batch, spec.heads, spec.head_dim // 2, device=store.device)
        self.tokens = len(slots) * store.grid.tokens
        self._held: list[tuple[Tensor, Tensor]] = []

    @property
    def recordable(self) -> bool:
        return self._collected is not None

    @property
    def fixed(self) -> tuple[object, ...]:
        assert self._collected is not None, "what is not recordable is not recorded"
        return mark(self._store.keys, self._store.values, self._collected.slots, self._collected.sums)

    def pool(self, layer: int) -> Pool | None:
        if self._collected is None:
            return None
        return self._store.keys[layer], self._store.values[layer], self._collected.slots

    def ask(self, layer: int, query: Tensor) -> None:
        if self._collected:
            from echo_cli.kernels.rows import sums

            sums(query, lengths=True, out=self._collected.sums[layer])
        else:
            raw = query.detach().float()  # [batch, token, head, dim]
            self.query_sum[layer] = raw.sum(1)
            self.query_abs[layer] = torch.view_as_complex(raw.unflatten(-1, (-1, 2))).abs().sum(1)

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> None:
        self.ask(layer, query)
        if key.requires_grad and torch.is_grad_enabled():
            self._held.append((key, value))
            return
        self._store.fill(self._slots, key, value, layer)

    def finish(self) -> None:
        if self._collected:
            width = self._store.spec.width
            self.query_sum.copy_(self._collected.sums[..., :width].unflatten(-1, self.query_sum.shape[-2:]))
            self.query_abs.copy_(self._collected.sums[..., width:].unflatten(-1, self.query_abs.shape[-2:]))
        if self._held:
            keys, values = (torch.stack(part) for part in zip(*self._held, strict=True))
            self._store.fill(self._slots, keys, values)
