"""Every setting of every memory policy: one dataclass for each policy, one default for each setting.

Needs no torch, so that a storyboard can be checked without it. What the settings do is decided by the policies.
"""

import types
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from echo_cli.errors import did_you_mean
from echo_cli.storyboard.matching import Match
from echo_cli.storyboard.nouns import Kind

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Instance = TypeVar("Instance", bound="DataclassInstance")
Source = Literal["recall", "select", "resink", "keyframes", "none"]
Target = Literal["old_memory", "old_recall", "old_recent"]
# Between the places that had been seen and those that had not, in stories of our own.
LEAST_SIMILARITY: Mapping[Match, float] = types.MappingProxyType({"idf": 0.3, "places": 0.3, "embedding": 0.55})


@dataclass(frozen=True)
class WindowSettings:
    """The settings that every policy has; those of other policies inherit from them. A setting is a bool, an int, a
    float, a str or a Literal, or one of these and None."""

    window: int | None = None  # frames, the block included; None: as many as the model was trained on

    @property
    def recalling(self) -> "RecallSettings | None":
        """How finished scenes are matched and kept, if the policy keeps them for scenes that recall."""
        return None

    @property
    def needs_queries(self) -> bool:
        """Whether a film needs queries that were trained for the model."""
        return False

    def cut(self, kind: Kind) -> "CutSettings | None":
        """The settings of one kind of transition, which a scene may override; None if the policy has none."""
        return None


@dataclass(frozen=True)
class SinkSettings(WindowSettings):
    """The first frames of the film stay in memory to its end."""

    anchor_frames: int = 3


@dataclass(frozen=True)
class RecallSettings(WindowSettings):
    """Settings of policies that keep finished scenes, each as one frame folded from some of its frames."""

    candidate_frames: int = 12  # of the scene's beginning
    candidate_stride: int = 4
    fold: Literal["score_weighted", "token_select"] = "score_weighted"
    base_weight: float = 0.9
    match: Match = "idf"
    library: int = 64  # scenes that can be recalled
    # recall:auto begins with a hard cut if no earlier scene is at least this similar; 0: it always recalls; None: as
    # suits `match`
    least_similarity: float | None = 0.0

    @property
    def recalling(self) -> "RecallSettings":
        return self

    @property
    def candidates(self) -> int:
        """Frames that a recall frame is folded from."""
        return -(-self.candidate_frames // self.candidate_stride)

    @property
    def least(self) -> float:
        """How similar a scene must be to be recalled by `recall:auto`."""
        return LEAST_SIMILARITY[self.match] if self.least_similarity is None else self.least_similarity


@dataclass(frozen=True)
class FlushSettings(SinkSettings):
    """At every change of prompt, only the first remembered frames and the last ones stay."""

    anchor_frames: int = 1
    kept_first: int = 1
    kept_last: int = 2
    hard_cut_jump: int = 45  # how far the positions jump at a hard cut's first block


@dataclass(frozen=True)
class NothingSettings(FlushSettings):
    """At every change of prompt, everything is dropped; within a scene, the first frames stay."""

    anchor_frames: int = 3
    kept_first: int = 0
    kept_last: int = 0
    hard_cut_jump: int = 0


@dataclass(frozen=True)
class RecacheSettings(SinkSettings):
    """At every change of prompt, the remembered frames are encoded again under the new prompt."""

    recent_frames: int = 12
    recache_anchors: bool = True


@dataclass(frozen=True)
class CutSettings:
    """How echo-forcing goes from one scene to the next: one row for each kind of transition."""

    # What stands for the old scene: its recall frame, its first frame, or slot 0. keyframes (`echo`, at a recall): its
    # first frames as they were, which stay.
    source: Source = "recall"
    recent_frames: int = 0  # frames of the old window's end that are carried over
    positions: Literal["local", "tail"] = "local"
    scene_timing: bool = True  # count positions from the scene's start, not the film's
    target: Target = "old_memory"  # which of the carried tokens fade
    strategy: Literal["fixed", "diff"] = "diff"
    fixed_rate: float = 1.0
    min_rate: float = 0.8
    max_rate: float = 0.95
    first_weight: float = 1.0
    clear_after: int = 5  # blocks until the carried frames leave; 0: never
    jump: Literal["fixed", "similarity"] = "fixed"  # how far the first block's positions jump
    jump_value: int = 0
    jump_min: int = 0
    jump_max: int = 6


SMOOTH = CutSettings(recent_frames=2)
HARD_CUT = CutSettings(strategy="fixed", first_weight=0.8, clear_after=1, jump_value=45)
RECALL = CutSettings(min_rate=0.55, max_rate=0.9, jump="similarity")


@dataclass(frozen=True)
class EchoForcingSettings(RecallSettings):
    """Anchors that roll over the scene's beginning, history chosen by phase, a recent window, recall frames, decay."""

    anchor_frames: int = 12
    history_frames: int | None = None  # None: what the others leave of the window, at least 3
    recent_frames: int = 3
    rolling_cycle: int = 4  # the anchors' triangle wave spans 3 * rolling_cycle frames of the scene
    history_capacity: int = 18  # frames; never less than the window in effect, as in the release
    max_reuse: int = 8  # how often one token may be chosen; 0: no limit
    compression: bool = True  # off: the first `sink_frames` stay, the rest slides
    sink_frames: int = 1
    amplitude_compensation: bool = True
    drift_gate: bool = True
    drift_lambda: float = 3.0
    smooth: CutSettings = SMOOTH
    hard_cut: CutSettings = HARD_CUT
    recall: CutSettings = RECALL
    # Beyond the release; each is off by default.
    gate_on_clean: bool = False  # the drift gate compares the last clean queries, not those of pure noise
    true_places: bool = False  # a chosen token keeps its own row and column
    forgetting: Literal["scale", "suppress"] = "scale"  # suppress: log w on the logits in place of w on keys and values
    nearest_anchor: bool = False  # a chain of smooth transitions carries the previous scene, not the first
    jump_by_gap: bool = False  # the recall jump uses the chosen gap itself, not its share of all gaps
    candidates_from_whole_scene: bool = False
    no_duplicates: bool = False  # history candidates exclude frames that are anchors

    def cut(self, kind: Kind) -> CutSettings:
        cut: CutSettings = getattr(self, kind.setting)
        return cut


@dataclass(frozen=True)
class EchoSettings(EchoForcingSettings):
    """Echo-Forcing inside a scene; a recalled scene resumes from its first frames."""

    keyframes: int = 6  # frames that a scene is remembered by: its first ones
    eight_bits: bool | None = None  # keyframes wait in eight bits by channel; None: if the model is large
    # 1: all is as it was. Below, what disagrees with the new scene the most is replaced; at 0, half of the picture
    recall_strength: float = 1.0
    rolling_cycle: int = 2
    match: Match = "places"
    least_similarity: float | None = None
    # The chain's first frame and the last frames stay as they were until the new scene fills the window.
    smooth: CutSettings = CutSettings(source="select", recent_frames=8, strategy="fixed", clear_after=4)
    hard_cut: CutSettings = CutSettings(source="none", strategy="fixed", clear_after=0)
    recall: CutSettings = CutSettings(source="keyframes", strategy="fixed", clear_after=0)


Update = Literal["gated", "ungated", "frozen", "initial"]


@dataclass(frozen=True)
class EchoInfinitySettings(SinkSettings):
    """The first frames stay, learned queries absorb what leaves after them, the last frames fill the rest."""

    anchor_frames: int = 9
    query_frames: int | None = None  # fewer remember less; None: as many as were trained
    # gated: as trained. ungated: everything read is taken. frozen: what left first stays. initial: nothing is
    # absorbed.
    update: Update = "gated"
    trained: bool = True  # false: queries as they were before training

    @property
    def needs_queries(self) -> bool:
        return self.trained


@dataclass(frozen=True)
class SceneQueriesSettings(EchoInfinitySettings, RecallSettings):
    """Each scene has its own learned queries, which are kept when it closes and come back with it."""

    kept_last: int = 2  # frames that a smooth transition carries over
    # a recalled scene's folded frame is in the window beside its queries; false: only the queries
    recall_frame: bool = True
    clear_after: int = 4  # blocks until the recall frame leaves
    min_rate: float = 0.55
    max_rate: float = 0.9


_MINIMUM = {"window": 2, "clear_after": 0, "max_reuse": 0, "library": 1, "candidate_stride": 1, "candidate_frames": 1,
            "rolling_cycle": 1, "kept_first": 0, "kept_last": 0, "sink_frames": 1, "query_frames": 1}

def changed(settings: Instance, values: Mapping[str, Any], where: str, problems: list[str]) -> Instance:
    """`settings` with `values` set; wrong keys and values are added to `problems` and ignored."""
    if not values:
        return settings
    hints, known = get_type_hints(type(settings)), [item.name for item in fields(settings)]
    new: dict[str, Any] = {}
    for key, value in values.items():
        name = str(key).replace("-", "_").replace(" ", "_")
        if name not in known:
            problems.append(f"{where} has no setting '{key}'{did_you_mean(name, known)}")
        elif is_dataclass(hints[name]):
            if isinstance(value, Mapping):
                new[name] = changed(getattr(settings, name), value, f"{where}, '{key}'", problems)
            else:
                problems.append(f"{where}: '{key}' must be a mapping of settings, not {value!r}")
        else:
            wrong = _why_not(name, value, hints[name])
            if wrong:
                problems.append(f"{where}: '{key}' {wrong}, not {value!r}")
            else:
                new[name] = float(value) if hints[name] is float else value
    return replace(settings, **new)


def _why_not(name: str, value: Any, hint: Any) -> str | None:
    """Why `value` cannot be a setting of type `hint`; None when it can."""
    if get_origin(hint) is Literal:
        return None if value in get_args(hint) else f"must be one of {', '.join(map(str, get_args(hint)))}"
    if get_origin(hint) in (Union, types.UnionType):
        return None if value is None else _why_not(name, value, get_args(hint)[0])
    if hint is bool:
        return None if isinstance(value, bool) else "must be true or false"
    if hint is int:
        least = _MINIMUM.get(name, 0)
        return None if isinstance(value, int) and not isinstance(value, bool) and value >= least else \
            f"must be a whole number of at least {least}"
    if hint is str:
        return None if isinstance(value, str) else "must be text"
    if hint is float:
        good = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf")
        top = 1.0 if name.endswith(("rate", "weight", "strength")) else float("inf")
        return (
            None if good and value <= top else "must be a number of at least 0" + (" and at most 1" if top == 1 else "")
        )
    raise ValueError(f"setting {name} is a {hint}, which cannot be read from a storyboard")
