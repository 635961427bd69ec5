"""The two numberings of a film that continues another. Memory counts scenes, blocks and frames from the beginning of
the film before; the film's own files count from its own. Frames of the film before have no number there."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from echo_cli.layout import Layout, Segment
from echo_cli.memory.policies.base import Facts, Transition
from echo_cli.rollout.rollout import BlockResult
from echo_cli.storyboard.matching import Recall
from echo_cli.storyboard.nouns import Block, Timeline


@dataclass(frozen=True, slots=True)
class Numbering:
    """How many scenes, blocks and frames came before."""

    scenes: int
    blocks: int
    frames: int

    @classmethod
    def of(cls, whole: Timeline) -> "Numbering":
        blocks = whole.spans[whole.first].blocks.start
        return cls(whole.first, blocks, blocks * whole.geometry.block_frames)

    def result(self, result: BlockResult) -> BlockResult:
        """As the film's files say it."""
        if not self.scenes:
            return result
        transition = result.transition and self._transition(result.transition)
        return replace(result, block=self._block(result.block), layout=self._layout(result.layout),
                       transition=transition, facts=self._facts(result.facts))

    def recall(self, recall: Recall | None) -> Recall | None:
        return recall and replace(recall, scene=recall.scene - self.scenes,
                                  scores=tuple((scene - self.scenes, score) for scene, score in recall.scores))

    def _block(self, block: Block) -> Block:
        frames = range(block.frames.start - self.frames, block.frames.stop - self.frames)
        return replace(block, index=block.index - self.blocks, scene=block.scene - self.scenes, frames=frames)

    def _transition(self, transition: Transition) -> Transition:
        source = transition.source_scene
        return replace(transition, source_scene=None if source is None else source - self.scenes,
                       recall=self.recall(transition.recall))

    def _layout(self, layout: Layout) -> Layout:
        return replace(layout, segments=tuple(map(self._segment, layout.segments)))

    def _segment(self, segment: Segment) -> Segment:
        expires = None if segment.expires is None else segment.expires - self.blocks
        return replace(segment, scene=segment.scene - self.scenes, frames=tuple(map(self._frame, segment.frames)),
                       expires=expires)

    def _facts(self, facts: Facts) -> Facts:
        return replace(facts, evicted=self._own(facts.evicted), folded=self._own(facts.folded),
                       kept=self._own(facts.kept), history_frames=tuple(map(self._frame, facts.history_frames)),
                       left_scenes=tuple(None if scene is None else scene - self.scenes
                                         for scene in facts.left_scenes))

    def _frame(self, frame: int | None) -> int | None:
        return None if frame is None or frame < self.frames else frame - self.frames

    def _own(self, frames: Iterable[int]) -> tuple[int, ...]:
        return tuple(frame - self.frames for frame in frames if frame >= self.frames)
