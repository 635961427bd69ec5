"""A file of scenes (`.scenes`): what finished scenes of a film left for later films, as far as it can be known without
loading a tensor.

The file is one safetensors file, and its description stands in its head: the model and the hash of its weights, the
film, every scene with its prompt. Nothing in the file is trusted: names, shapes, dtypes and offsets must be exactly
those that the description asks for, and together fill the file; its last tensor has the hash of the head, which is
compared at once, and of every other tensor, compared when it is read. What the tensors mean, `memory` knows. No torch.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, TypeVar

from echo_cli.errors import UsageError
from echo_cli.files import open_regular, parse_json
from echo_cli.storyboard.heads import FileKind, Head, Lying, check_filled, lying, whole
from echo_cli.storyboard.nouns import SCENE_ID, PastScene
from echo_cli.text import listed

ENDING = ".scenes"
MOST_SCENES = 1000  # of one file
MOST_KEPT = 64  # scenes that one film keeps, the last ones
KEYFRAMES = 9  # latent frames of its beginning that a scene leaves, beside the one that is folded from them
THUMBNAIL = "thumbnail"
SEALS = "sha256"  # the tensor of hashes
_SEAL = hashlib.sha256().digest_size
SCALES = "scales"  # of the channels of frames in eight bits
SIDES = ("keys", "values")  # of a remembered frame
CALIBRATION = ("calibration.mean", "calibration.magnitude")  # of the queries of a scene
DTYPES = ("F16", "BF16")  # of remembered frames
SCENES_FILE = FileKind("echo-scenes", 1, "file of scenes",
                       "Write it with `echo-cli generate STORYBOARD --scenes FILE.scenes`.",
                       "Write the file again with `echo-cli generate --scenes`, or copy it again.",
                       "Update echo, or write the file again.")
_MOST_COUNT = 1 << 12  # of layers, heads, rows, pixels of a side
_MOST_FRAMES = 64  # of a part
_LONGEST = 1 << 20  # letters of a prompt

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SceneModel:
    """The model whose memory the scenes are: other weights, or another grid, would not understand them."""

    name: str
    weights: str  # their sha256
    layers: int
    heads: int
    head_dim: int
    rows: int
    cols: int

    @property
    def frame(self) -> tuple[int, ...]:
        """The shape of one remembered frame of one layer [token, head, dim]."""
        return self.rows * self.cols, self.heads, self.head_dim

    @property
    def described(self) -> str:
        return f"model {self.name}" + (f" with weights {self.weights[:12]}" if self.weights else "")


@dataclass(frozen=True, slots=True)
class SavedScene:
    """One scene in a file: the film that it is from, what it shows, how many frames each part has."""

    id: str
    prompt: str
    seconds: float
    film: str  # its title, or the name of its storyboard
    memory: str  # the policy that it was rendered under
    parts: Mapping[str, int]
    numbers: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    thumbnail: tuple[int, int] | None = None  # height and width


@dataclass(frozen=True, slots=True)
class Description:
    """`bits` are those of remembered frames, 8 or 16; in eight bits, each channel of a frame has a scale."""

    model: SceneModel
    scenes: tuple[SavedScene, ...]
    bits: int = 16

    def metadata(self) -> dict[str, str]:
        """As it stands in the head of the file."""
        description = {"model": asdict(self.model), "bits": self.bits,
                       "scenes": [_plain(scene) for scene in self.scenes]}
        return {"format": SCENES_FILE.format, "version": str(SCENES_FILE.version),
                "description": json.dumps(description, ensure_ascii=False)}

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """The name and shape of every tensor that such a file has, in its order; those of thumbnails are of bytes."""
        for index, scene in enumerate(self.scenes):
            for part, count in scene.parts.items():
                for side in SIDES:
                    yield f"{index}.{part}.{side}", (self.model.layers, count, *self.model.frame)
                    if self.bits == 8:
                        yield f"{index}.{part}.{side}.{SCALES}", (self.model.layers, count, 1, *self.model.frame[1:])
            for name, dim in zip(CALIBRATION, (self.model.head_dim, self.model.head_dim // 2), strict=True):
                yield f"{index}.{name}", (self.model.layers, self.model.heads, dim)
        for index, scene in enumerate(self.scenes):
            if scene.thumbnail:
                yield f"{index}.{THUMBNAIL}", (*scene.thumbnail, 3)


@dataclass(frozen=True, slots=True)
class ScenesFile:
    """A file of scenes whose head has been read and checked. A storyboard calls it by `name`."""

    path: Path
    description: Description
    size: int
    tensors: Mapping[str, Lying]
    seals: Mapping[str, bytes]

    @property
    def name(self) -> str:
        return name_of(self.path)

    @property
    def past(self) -> tuple[PastScene, ...]:
        return tuple(PastScene(self.name, scene.id, scene.prompt) for scene in self.description.scenes)

    def size_of(self, index: int) -> int:
        """What one scene takes."""
        return sum(place.end - place.begin for name, place in self.tensors.items() if name.startswith(f"{index}."))

    def read(self, name: str) -> bytes:
        """A tensor as it lies there. The file may have changed since its head was read."""
        place = self.tensors[name]
        try:
            with open_regular(self.path) as file:
                file.seek(place.begin)
                data = file.read(place.end - place.begin)
        except OSError as error:
            raise UsageError(f"{self.path}: cannot be read: {error.strerror}", SCENES_FILE.again) from None
        if len(data) != place.end - place.begin:
            raise SCENES_FILE.damaged(self.path, "it is cut short")
        if hashlib.sha256(data).digest() != self.seals[name]:
            raise SCENES_FILE.damaged(self.path, f"{name} is not what was written")
        return data


def name_of(path: Path) -> str:
    """What a storyboard calls the series in a file."""
    return path.name.removesuffix(ENDING)


def check_model(file: ScenesFile, model: SceneModel) -> None:
    """A UsageError names both if the scenes are the memory of another model than `model`; weights that are not known
    are not compared."""
    theirs = file.description.model
    if not model.weights:
        theirs = replace(theirs, weights="")
    if theirs == model:
        return
    if (theirs.name, theirs.weights) != (model.name, model.weights):
        what = f"{theirs.described}, but the film is made by {model.described}"
    else:
        what = (f"a film of {theirs.cols}x{theirs.rows} tokens a frame, but this one has {model.cols}x{model.rows}; "
                "its size is another")
    raise UsageError(f"{file.path}: its scenes are the memory of {what}",
                     "Render this film with the model and the size of its series, or the series again with those of "
                     "this film.")


def read_scenes(path: Path) -> ScenesFile:
    """The head of a file of scenes; a UsageError says what is wrong with it."""
    def build(file: BinaryIO, head: Head) -> ScenesFile:
        description = _description(parse_json(head.metadata["description"], strict=True))
        tensors = _table(head, description)
        seals = _seals(file, tensors.pop(SEALS))
        if seals[0] != head.digest:
            raise ValueError("its head is not what was written")
        return ScenesFile(path, description, head.size, tensors, dict(zip(tensors, seals[1:], strict=True)))

    return SCENES_FILE.read(path, build)


def _seals(file: BinaryIO, place: Lying) -> Sequence[bytes]:
    """The hash of the head, and of each tensor in its order."""
    file.seek(place.begin)
    data = file.read(place.end - place.begin)
    return [data[at:at + _SEAL] for at in range(0, len(data), _SEAL)]


def _table(head: Head, description: Description) -> dict[str, Lying]:
    """Where every tensor lies; a ValueError if it is not exactly those that are described, side by side."""
    wanted = dict(description.tensors())
    wanted[SEALS] = (1 + len(wanted), _SEAL)
    if odd := sorted(wanted.keys() ^ head.table.keys()):
        raise ValueError(f"{len(odd)} tensors are missing or unexpected, such as {odd[0]!r:.60}")
    tensors = {name: lying(head, name, _elements(name, description.bits), shape) for name, shape in wanted.items()}
    check_filled(head, tensors.values())
    return tensors


def _elements(name: str, bits: int) -> tuple[str, ...]:
    """The dtypes that a tensor may have."""
    if name.endswith((f".{THUMBNAIL}", SEALS)):
        return ("U8",)
    if name.endswith(f".{SCALES}"):
        return ("F32",)
    return ("I8",) if bits == 8 and name.endswith(SIDES) else DTYPES


def _description(content: Any) -> Description:
    model = _exactly(SceneModel, content["model"], {
        "name": _text, "weights": _text, "layers": _count, "heads": _count, "head_dim": _count, "rows": _count,
        "cols": _count})
    scenes = tuple(_exactly(SavedScene, scene, {
        "id": _id, "prompt": _text, "seconds": _number, "film": _text, "memory": _text,
        "parts": lambda parts: _mapping(parts, _frames), "numbers": lambda numbers: _mapping(numbers, _number),
        "thumbnail": _sides}) for scene in _list(content["scenes"], MOST_SCENES))
    bits = content["bits"]
    if len(content) != 3 or isinstance(bits, bool) or bits not in (8, 16):
        raise ValueError("its description has other things than a model, scenes and their bits")
    ids = [scene.id for scene in scenes]
    if not ids or len(set(ids)) != len(ids):
        raise ValueError("it has no scenes, or two with the same id")
    return Description(model, scenes, bits)


def _plain(scene: SavedScene) -> dict[str, Any]:
    values = {item.name: getattr(scene, item.name) for item in fields(scene)}
    return {**values, "parts": dict(scene.parts), "numbers": dict(scene.numbers)}


def _exactly(kind: type[T], content: Any, readers: Mapping[str, Callable[[Any], Any]]) -> T:
    if not isinstance(content, dict) or content.keys() != readers.keys():
        raise ValueError(f"a description should have {listed(list(readers))}")
    return kind(**{name: read(content[name]) for name, read in readers.items()})


def _count(value: Any, most: int = _MOST_COUNT) -> int:
    if not whole(value) or not 1 <= value <= most:
        raise ValueError(f"{value!r:.40} is not a count")
    return int(value)


def _frames(value: Any) -> int:
    return _count(value, _MOST_FRAMES)


def _number(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"{value!r:.40} is not a number")
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST:
        raise ValueError(f"{value!r:.40} is not text")
    value.encode()  # half a character cannot be printed
    if any(letter < " " or "\x7f" <= letter < "\xa0" for letter in value):
        raise ValueError(f"{value!r:.40} has characters that control a terminal")
    return value


def _id(value: Any) -> str:
    if not SCENE_ID.fullmatch(_text(value)):
        raise ValueError(f"{value!r:.40} is not a scene's id")
    return str(value)


def _list(value: Any, most: int) -> Sequence[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise ValueError(f"there should be a list of at most {most}")
    return value


def _mapping(value: Any, read: Callable[[Any], T]) -> Mapping[str, T]:
    if not isinstance(value, dict) or len(value) > 20 or not all(name.isidentifier() for name in value):
        raise ValueError(f"{value!r:.40} does not name parts or numbers")
    return MappingProxyType({name: read(one) for name, one in value.items()})


def _sides(value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    height, width = (_count(side) for side in _list(value, 2))
    return height, width
