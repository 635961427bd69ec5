"""The end of a film in a file (`.end`): its memory's state after the last block, with which another film continues it.

One safetensors file, whose description says of which film, model and settings the state is, which scenes came before,
and in which order plain values and tensors stand in it. Nothing in the file is trusted: the description has its own
hash, the tensors have one, and together they fill the file. What the state means, its owners know. No torch.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

from echo_cli.files import parse_json
from echo_cli.storyboard.canonical import scene_values
from echo_cli.storyboard.heads import DTYPES, FileKind, Head, Lying, check_filled, lying
from echo_cli.storyboard.nouns import Earlier, Kind, PastScene, Scene, kind_named
from echo_cli.storyboard.series import SceneModel

ENDING = ".end"
MARK = "$tensor"  # as `state` has it
_AGAIN = "Render that film again with --keep-end, or copy the file again."
END_FILE = FileKind("echo-end", 1, "end of a film", _AGAIN, _AGAIN,
                    "Update echo, or render that film again with --keep-end.")


@dataclass(frozen=True, slots=True)
class EndFacts:
    """What a state can be used with: the film's identity, the model, `echo`'s version and the number format; and what
    it keeps for later scenes."""

    film: str  # the name of its file
    identity: Mapping[str, Any]
    model: SceneModel
    settings: Mapping[str, Any]  # of the policy, with all defaults
    version: str
    dtype: str
    machine: Mapping[str, Any]
    needs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class End:
    """A file whose description has been read and found right; `nest` has names in place of tensors."""

    path: Path
    facts: EndFacts
    earlier: Earlier
    nest: Any
    digest: str  # of all tensors
    tensors: Mapping[str, Lying]


def metadata(facts: EndFacts, earlier: Earlier, nest: Any, digest: str) -> dict[str, str]:
    """As it stands in the head of the file."""
    description = json.dumps({"facts": asdict(facts), "earlier": _plain(earlier), "nest": nest, "tensors": digest},
                             ensure_ascii=False)
    return {"format": END_FILE.format, "version": str(END_FILE.version), "description": description,
            "sha256": _hash(description)}


def read_end(path: Path) -> End:
    """The description in a file; a UsageError says what is wrong with it."""
    def build(_: BinaryIO, head: Head) -> End:
        meta = head.metadata
        if meta["sha256"] != _hash(meta["description"]):
            raise ValueError("its hash differs")
        content = parse_json(meta["description"], strict=True)
        facts = content["facts"]
        facts = EndFacts(**{**facts, "model": SceneModel(**facts["model"]), "needs": tuple(facts["needs"])})
        return End(path, facts, _earlier(content["earlier"]), content["nest"], str(content["tensors"]),
                   _table(head, content["nest"]))

    return END_FILE.read(path, build)


def _table(head: Head, nest: Any) -> dict[str, Lying]:
    """Where every tensor lies; a ValueError if they are not exactly those of the nest, side by side."""
    wanted = set(_names(nest))
    if odd := sorted(wanted ^ head.table.keys()):
        raise ValueError(f"{len(odd)} tensors are missing or unexpected, such as {odd[0]!r:.60}")
    tensors = {name: lying(head, name, DTYPES) for name in wanted}
    check_filled(head, tensors.values())
    return tensors


def _names(nest: Any) -> list[str]:
    """The tensors that a nest names."""
    if isinstance(nest, dict):
        return [nest[MARK]] if MARK in nest else [name for part in nest.values() for name in _names(part)]
    return [name for part in nest for name in _names(part)] if isinstance(nest, list) else []


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(earlier: Earlier) -> dict[str, Any]:
    return {
        **{name: getattr(earlier, name) for name in ("model", "policy", "memory", "size", "fps", "seed", "surplus")},
        "scenes": [scene_values(scene) for scene in earlier.scenes],
        "counts": earlier.counts,
        "past": [asdict(scene) for scene in earlier.past],
        "kept": sorted(earlier.kept),
        "drift": str(earlier.drift),
    }


def _earlier(content: Any) -> Earlier:
    width, height = content["size"]
    scenes = tuple(map(_scene, content["scenes"]))
    if not scenes or len(scenes) != len(content["counts"]) or min(content["counts"]) < 1:
        raise ValueError("its scenes and their blocks are not the same number")
    return Earlier(scenes, tuple(map(int, content["counts"])), tuple(PastScene(**each) for each in content["past"]),
                   frozenset(content["kept"]), int(content["surplus"]), Fraction(content["drift"]),
                   str(content["model"]), str(content["policy"]), dict(content["memory"]), (int(width), int(height)),
                   float(content["fps"]), int(content["seed"]))


def _scene(values: Any) -> Scene:
    """What memory has to know of a scene."""
    kind, _, recall = (values.get("transition") or "").partition(":")
    transition: Kind | None = kind_named(kind) if kind else None
    if kind and transition is None:
        raise ValueError(f"no transition is called {kind!r:.40}")
    return Scene(values["id"], values["prompt"], float(values["duration"]), transition, recall or None,
                 seed=values.get("seed"), memory=values.get("memory", {}))
