"""What can be said of a film before it is rendered: what would fail, and what would disappoint.

One list for `validate`, `generate`, `batch` and the Python API. Loads no weights. Torch is imported only where a
storyboard has memory settings of its own, which the policy tries on the model.
"""

from collections.abc import Mapping
from typing import Any

from echo_cli.errors import MissingError, UsageError
from echo_cli.memory.table import POLICIES, read_settings
from echo_cli.spec import RANDOM_SMALL, TINY, WAN_1_3B, ModelSpec
from echo_cli.storyboard.matching import plan_recalls, similarities
from echo_cli.storyboard.nouns import Storyboard, Timeline
from echo_cli.text import listed

FITTED = (TINY, WAN_1_3B, RANDOM_SMALL)  # models that every policy's default settings fit


def refuse_unseen(spec: ModelSpec, size: tuple[int, int]) -> None:
    """A UsageError for pictures so far from what a model was trained for that they come out as stripes."""
    if spec.was_seen(size):
        return
    assert spec.widths and spec.heights
    bounds = f"{spec.widths[0]}x{spec.heights[0]} to {spec.widths[1]}x{spec.heights[1]}"
    raise UsageError(f"model '{spec.name}' makes stripes of pictures of {size[0]}x{size[1]}: it was trained for "
                     f"{spec.size[0]}x{spec.size[1]}, and sizes from {bounds} look right",
                     f"{spec.other_size(size)} --force renders it anyway.")


def try_settings(policy: str, memory: Mapping[str, Any], spec: ModelSpec, timeline: Timeline) -> None:
    """A UsageError for memory settings that the policy cannot use with this model."""
    if not memory and not any(scene.memory for scene in timeline.scenes) and spec in FITTED:
        return
    from echo_cli.memory.policies import make_policy

    settings = read_settings(policy, memory)
    scenes = timeline.scenes
    recalls = plan_recalls(scenes, similarities([scene.prompt for scene in scenes]), 1)
    make_policy(policy, settings, spec, timeline, recalls)


def warnings(board: Storyboard, spec: ModelSpec, policy: str) -> list[str]:
    """What will be rendered otherwise than its author may expect."""
    return [*_size(spec, board.size), *_recalls(board, policy)]


def missing(model: str) -> list[str]:
    """What this machine lacks to render with a model."""
    from echo_cli.models.registry import find
    from echo_cli.video import ffmpeg

    lacks = [] if find(model).folder else [f"model '{model}' is not on this machine"]
    try:
        ffmpeg.executable()
    except MissingError as error:
        lacks.append(error.message)
    return lacks


def _size(spec: ModelSpec, size: tuple[int, int] | None) -> list[str]:
    if size in (None, spec.size):
        return []
    assert size is not None
    wide, high = (side / trained for side, trained in zip(size, spec.size, strict=True))
    return [f"pictures of {size[0]}x{size[1]} are {wide:.3g} times as wide and {high:.3g} times as high as those that "
            f"{spec.name} was trained for ({spec.size[0]}x{spec.size[1]}), and may look worse"]


def _recalls(board: Storyboard, policy: str) -> list[str]:
    if read_settings(policy, board.memory).recalling:
        return []
    scenes = [f"'{scene.id}'" for scene in board.scenes if scene.recalls]
    if not scenes:
        return []
    able = [name for name, row in POLICIES.items() if row.settings().recalling]
    return [f"memory policy '{policy}' keeps no scenes, so nothing is recalled in {listed(scenes)}; "
            f"{' and '.join(able)} can recall"]
