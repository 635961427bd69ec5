"""Entries of scenes in files: put aside scene by scene while a film is rendered, gathered into one file at its end, and
read from there by later films.

What a file says of itself, and whether it may be believed, is `storyboard.series`; here are its tensors. They are kept
in sixteen bits, or in eight.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from echo_cli.files import output_errors, partial, publish
from echo_cli.memory import eight
from echo_cli.memory.entries import Frames, SceneEntry
from echo_cli.state import Nest
from echo_cli.state_files import DTYPES, Stored, read_state, write_state, write_tensors
from echo_cli.storyboard.nouns import LONGEST_ID
from echo_cli.storyboard.series import (
    CALIBRATION,
    MOST_SCENES,
    SCALES,
    SCENES_FILE,
    SEALS,
    SIDES,
    THUMBNAIL,
    Description,
    SavedScene,
    ScenesFile,
)

_DTYPES = {name: dtype for dtype, name in DTYPES.items()}


class Folder:
    """A shelf whose entries are files in a folder, one a scene. The last `most` of the `wanted` scenes are kept."""

    def __init__(self, folder: Path, most: int, wanted: Sequence[int]) -> None:
        self._folder, self._wanted = folder, frozenset(wanted[-most:])
        self._kept: dict[int, Stored] = {}
        self._parts: dict[int, dict[str, int]] = {}  # frames of each part, by scene
        self._thumbnails: dict[int, Tensor] = {}

    def wants(self, scene: int) -> bool:
        return scene in self._wanted

    def put(self, scene: int, entry: SceneEntry) -> None:
        with output_errors(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
        parts = {part: dict(zip(SIDES, map(_halved, sides), strict=True)) for part, sides in entry.parts.items()}
        self._kept[scene] = write_state(self._path(scene), {
            "parts": parts, "calibration": list(map(_halved, entry.calibration)), "numbers": dict(entry.numbers)})
        self._parts[scene] = {part: entry.count(part) for part in parts}

    def show(self, scene: int, thumbnail: Tensor) -> None:
        """A picture [height, width, 3] uint8 stands for the scene."""
        if self.wants(scene):
            self._thumbnails[scene] = thumbnail

    @property
    def dtype(self) -> torch.dtype:
        """Of what is kept."""
        return next(iter(self.read(self.scenes[0]).parts.values()))[0].dtype

    @property
    def scenes(self) -> list[int]:
        """Those that are kept, in their order."""
        return list(self._kept)

    def parts(self, scene: int) -> Mapping[str, int]:
        return self._parts[scene]

    def numbers(self, scene: int) -> Mapping[str, float]:
        numbers: dict[str, float] = self._kept[scene].nest["numbers"]
        return numbers

    def thumbnail(self, scene: int) -> Tensor | None:
        return self._thumbnails.get(scene)

    def read(self, scene: int) -> SceneEntry:
        nest = read_state(self._path(scene), self._kept[scene])
        mean, magnitude = nest["calibration"]
        return SceneEntry({part: (sides["keys"], sides["values"]) for part, sides in nest["parts"].items()},
                          (mean, magnitude), nest["numbers"])

    def state(self) -> Nest:
        kept = [[scene, self._parts[scene], asdict(stored)] for scene, stored in self._kept.items()]
        return {"kept": json.dumps(kept),
                "thumbnails": {str(scene): thumbnail for scene, thumbnail in self._thumbnails.items()}}

    def restore(self, state: Nest) -> None:
        kept = json.loads(state["kept"])
        self._kept = {scene: Stored(**stored) for scene, _, stored in kept}
        self._parts = {scene: parts for scene, parts, _ in kept}
        self._thumbnails = {int(scene): thumbnail for scene, thumbnail in state["thumbnails"].items()}

    def _path(self, scene: int) -> Path:
        return self._folder / f"scene-{scene:06d}.safetensors"


def write_scenes(path: Path, description: Description, dtype: torch.dtype, entries: Iterable[SceneEntry],
                 thumbnails: Iterable[Tensor]) -> tuple[int, str]:
    """A file of scenes, whole and on the disk, with one entry in memory at a time; its bytes and sha256. `thumbnails`
    [height, width, 3] are those of the scenes that have one."""
    table = [(name, _kind(name, dtype, description.bits), shape) for name, shape in description.tensors()]
    frames = (tensor for entry, scene in zip(entries, description.scenes, strict=True)
              for tensor in _tensors(entry, scene, dtype, description.bits))
    return write_tensors(path, table, chain(frames, thumbnails), description.metadata(), SEALS)


def _kind(name: str, dtype: torch.dtype, bits: int) -> torch.dtype:
    if name.endswith(THUMBNAIL):
        return torch.uint8
    if name.endswith(SCALES):
        return torch.float32
    return torch.int8 if bits == 8 and name.endswith(SIDES) else dtype


def _tensors(entry: SceneEntry, scene: SavedScene, dtype: torch.dtype, bits: int) -> Iterator[Tensor]:
    """Those of a scene, in the order of the description."""
    for side in (side for part in scene.parts for side in entry.parts[part]):
        yield from eight.packed(side[:, 0]) if bits == 8 else (side[:, 0].to(dtype),)
    yield from (each[:, 0].to(dtype) for each in entry.calibration)


def merge(path: Path, chosen: Sequence[tuple[ScenesFile, int]]) -> None:
    """A file of the chosen scenes of other files, which may be the old file of this name. They are of one model; an id
    that is taken already gets a number."""
    ids: set[str] = set()
    scenes = []
    for file, index in chosen:
        scene = file.description.scenes[index]
        names = (scene.id, *(f"{scene.id[:LONGEST_ID - 5]}-{number}" for number in range(2, MOST_SCENES + 2)))
        scenes.append(replace(scene, id=next(name for name in names if name not in ids)))
        ids.add(scenes[-1].id)
    bits = max(file.description.bits for file, _ in chosen)
    wide = any(lying.dtype == "BF16" for file, _ in chosen for lying in file.tensors.values())
    thumbnails = (picture for file, index in chosen if (picture := read_thumbnail(file, index)) is not None)
    growing = partial(path)
    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        write_scenes(growing, Description(chosen[0][0].description.model, tuple(scenes), bits),
                     torch.bfloat16 if wide else torch.float16, (read_entry(*each) for each in chosen), thumbnails)
        publish(path)
    finally:
        growing.unlink(missing_ok=True)


def read_entry(file: ScenesFile, index: int) -> SceneEntry:
    """What a scene left. A UsageError if the file has values that are not finite numbers."""
    scene = file.description.scenes[index]
    mean, magnitude = (_tensor(file, f"{index}.{name}").unsqueeze(1) for name in CALIBRATION)
    return SceneEntry({part: _part(file, f"{index}.{part}") for part in scene.parts}, (mean, magnitude), scene.numbers)


def read_thumbnail(file: ScenesFile, index: int) -> Tensor | None:
    """[height, width, 3] uint8."""
    name = f"{index}.{THUMBNAIL}"
    return _tensor(file, name) if name in file.tensors else None


def _part(file: ScenesFile, part: str) -> Frames:
    keys, values = (_side(file, f"{part}.{side}").unsqueeze(1) for side in SIDES)
    return keys, values


def _side(file: ScenesFile, name: str) -> Tensor:
    frames = _tensor(file, name)
    return frames if file.description.bits == 16 else _halved(eight.unpacked(frames, _tensor(file, f"{name}.{SCALES}")))


def _tensor(file: ScenesFile, name: str) -> Tensor:
    lying = file.tensors[name]
    tensor = torch.frombuffer(bytearray(file.read(name)), dtype=_DTYPES[lying.dtype]).reshape(lying.shape)
    if tensor.dtype.is_floating_point and not tensor.isfinite().all():
        raise SCENES_FILE.damaged(file.path, f"{name} holds values that are not finite")
    return tensor


def _halved(tensor: Tensor) -> Tensor:
    """In sixteen bits, so that what is finite stays so."""
    if tensor.dtype.itemsize == 2:
        return tensor
    most = torch.finfo(torch.float16).max
    return tensor.clamp(-most, most).to(torch.float16)
