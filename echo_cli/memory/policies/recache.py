"""`recache`: at every change of prompt the remembered frames are encoded again under the new one (LongLive)."""

from echo_cli.layout import Role
from echo_cli.memory.policies.base import (
    Held,
    Plan,
    Replay,
    SlidingMemory,
    SlidingPolicy,
    Transition,
    film_frames,
    layout_of,
)
from echo_cli.memory.settings import RecacheSettings
from echo_cli.memory.store import Placement
from echo_cli.storyboard.nouns import Block


class RecachePolicy(SlidingPolicy):
    """LongLive's KV recache, with its sink of three frames. LongLive attends to twelve frames in all, its sink and the
    block included, and its released configuration leaves the sink as it was at a change of prompt: that is
    `recent_frames: 6` and `recache_anchors: false`. The defaults give it a longer window, which recalls no worse.
    LongLive's own model was trained with it; others see old pictures under a new prompt for the first time here."""

    settings: RecacheSettings

    def __init__(self, name: str, settings: RecacheSettings, plan: Plan) -> None:
        super().__init__(name, settings, plan)
        wanted = settings.anchor_frames + settings.recent_frames
        if settings.recent_frames < 1 or wanted > self.room:
            self.refuse(f"{settings.anchor_frames} anchor and {settings.recent_frames} recent frames do not fit beside "
                        f"a block in a window of {self.window}", f"Together they may be 1 to {self.room} frames.")
        self.room = wanted

    @property
    def replays(self) -> bool:
        return True

    def allocate(self, place: Placement) -> "RecacheMemory":
        return RecacheMemory(self, self.new_store(place))


class RecacheMemory(SlidingMemory):
    settings: RecacheSettings

    def open_scene(self, block: Block) -> Transition:
        kind = self.scenes[block.scene].transition
        start = 0 if self.settings.recache_anchors else self.anchors
        runs = [self.past[at:at + self.block] for at in range(start, len(self.past), self.block)]
        return Transition(kind, carried=len(self.past),
                          replay=tuple(self._replay(self.past[:start + index * self.block], run, block)
                                       for index, run in enumerate(runs)))

    def _replay(self, past: list[Held], run: list[Held], block: Block) -> Replay:
        """One run of frames, seeing the remembered ones before it, which have been encoded again already."""
        roles = [Role.ANCHOR if index < self.anchors else Role.RECENT for index in range(len(past))]
        return Replay(film_frames(run), layout_of(past, roles, block, run, self.store.grid.tokens))
