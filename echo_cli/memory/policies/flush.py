"""`flush` and `none`: at every change of prompt the window is emptied except for its ends."""

from echo_cli.memory.policies.base import Plan, SlidingMemory, SlidingPolicy, Transition
from echo_cli.memory.settings import FlushSettings
from echo_cli.memory.store import Placement
from echo_cli.storyboard.nouns import Block


class FlushPolicy(SlidingPolicy):
    """Keeps the first remembered frames and the last, or nothing; at a hard cut, positions jump.

    `flush` is Infinity-RoPE's cache flush, with its jump of positions at a cut. The paper keeps the first cached frame
    and the last one, which is `kept_last: 1`; the default keeps the last two. `none` belongs to no paper: it is what
    the prompt alone shows.
    """

    settings: FlushSettings

    def __init__(self, name: str, settings: FlushSettings, plan: Plan) -> None:
        super().__init__(name, settings, plan)
        self.need_positions(settings.hard_cut_jump)

    def allocate(self, place: Placement) -> "FlushMemory":
        return FlushMemory(self, self.new_store(place))


class FlushMemory(SlidingMemory):
    settings: FlushSettings

    def open_scene(self, block: Block) -> Transition:
        kind = self.scenes[block.scene].transition
        first = self.past[:self.settings.kept_first]
        rest = self.past[self.settings.kept_first:]
        self.keep_only(first + rest[max(0, len(rest) - self.settings.kept_last):])
        self.jump = self.settings.hard_cut_jump or None if kind and kind.breaks else None
        return Transition(kind, carried=len(self.past), position_jump=self.jump)
