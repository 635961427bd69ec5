"""A file of scenes: written whole, read back to the last bit, and believed in nothing."""

import hashlib
import json
import random
import struct
from pathlib import Path

import pytest
import torch

from echo_cli.errors import UsageError
from echo_cli.memory.entries import FRAMES, RECALL, SceneEntry
from echo_cli.memory.scene_files import Folder, merge, read_entry, read_thumbnail, write_scenes
from echo_cli.render.checks import scene_model
from echo_cli.storyboard.series import Description, SavedScene, ScenesFile, check_model, read_scenes
from tests.small import GRID, SPEC

SIZE = (48, 32)  # pixels of GRID
MODEL = scene_model(SPEC, SIZE, "0123456789abcdef")


def entry(frames: int, seed: int, dtype: torch.dtype = torch.float32) -> SceneEntry:
    draw = torch.Generator().manual_seed(seed)

    def part(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        keys, values = (torch.randn(SPEC.depth, 1, count, GRID.tokens, SPEC.heads, SPEC.head_dim, generator=draw)
                        .to(dtype) for _ in range(2))
        return keys, values

    mean = torch.randn(SPEC.depth, 1, SPEC.heads, SPEC.head_dim, generator=draw)
    return SceneEntry({FRAMES: part(frames), RECALL: part(1)}, (mean, mean[..., ::2].abs()), {"share": 0.5})


def written(folder: Path, dtype: torch.dtype = torch.float32, bits: int = 16) -> Path:
    shelf, path = Folder(folder / "work", 2, range(3)), folder / "one.scenes"
    assert [shelf.wants(scene) for scene in range(3)] == [False, True, True]
    for scene in (1, 2):
        shelf.put(scene, entry(3, scene, dtype))
    scenes = tuple(SavedScene(f"scene-{scene}", "a red ball", 1.5, "film", "echo-forcing", shelf.parts(scene),
                              {"share": 0.5}, (2, 3) if scene == 2 else None) for scene in shelf.scenes)
    write_scenes(path, Description(MODEL, scenes, bits), shelf.dtype, map(shelf.read, shelf.scenes),
                 [torch.arange(18, dtype=torch.uint8).reshape(2, 3, 3)])
    return path


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_what_is_written_is_read(tmp_path: Path, dtype: torch.dtype) -> None:
    file = read_scenes(written(tmp_path, dtype))
    assert file.name == "one" and [scene.name for scene in file.past] == ["one/scene-1", "one/scene-2"]
    for index, seed in enumerate((1, 2)):
        read, put = read_entry(file, index), entry(3, seed, dtype)
        assert read.numbers == {"share": 0.5} and read.parts.keys() == put.parts.keys()
        for mine, theirs in [*zip(read.calibration, put.calibration, strict=True), *(
                pair for part in put.parts for pair in zip(read.parts[part], put.parts[part], strict=True))]:
            torch.testing.assert_close(mine.float(), theirs.float(), rtol=1e-2, atol=1e-6)
    thumbnail = read_thumbnail(file, 1)
    assert read_thumbnail(file, 0) is None and thumbnail is not None and thumbnail[1, 2].tolist() == [15, 16, 17]
    assert file.size_of(0) < file.size_of(1) < file.size


def test_eight_bits_keep_every_channel_within_a_hundredth_of_its_greatest_value(tmp_path: Path) -> None:
    wide, narrow = (read_scenes(written(tmp_path / name, bits=bits)) for name, bits in (("wide", 16), ("narrow", 8)))
    assert narrow.size < wide.size  # frames are so small here that their scales are half of what is saved
    for one, other in zip(read_entry(wide, 0).parts[FRAMES], read_entry(narrow, 0).parts[FRAMES], strict=True):
        most = one.float().abs().amax(-3, keepdim=True)
        assert one.shape == other.shape and bool(((one - other).float().abs() <= 0.01 * most).all())
    merge(tmp_path / "both.scenes", [(narrow, 0), (narrow, 1)])
    merged = read_scenes(tmp_path / "both.scenes")
    assert merged.description.bits == 8
    assert torch.equal(read_entry(merged, 1).parts[RECALL][0], read_entry(narrow, 1).parts[RECALL][0])


def test_the_same_scenes_make_the_same_file(tmp_path: Path) -> None:
    one, other = (written(tmp_path / name).read_bytes() for name in ("one", "other"))
    assert one == other


def test_what_is_too_large_for_sixteen_bits_stays_finite(tmp_path: Path) -> None:
    shelf, huge = Folder(tmp_path, 2, [0]), entry(3, 0)
    huge.parts[FRAMES][0][0, 0, 0, 0, 0, 0] = 1e9
    shelf.put(0, huge)
    assert shelf.read(0).parts[FRAMES][0].isfinite().all()


def test_other_weights_and_another_grid_are_refused_and_both_are_named(tmp_path: Path) -> None:
    file = read_scenes(written(tmp_path))
    check_model(file, MODEL)
    with pytest.raises(UsageError, match=r"one\.scenes: .* weights 0123456789ab, but .* weights f00"):
        check_model(file, scene_model(SPEC, SIZE, "f00"))
    with pytest.raises(UsageError, match=r"a film of 3x2 tokens a frame, but .* 4x2"):
        check_model(file, scene_model(SPEC, (64, 32), MODEL.weights))


# Files that nobody should have written


def rebuilt(data: bytes, change) -> bytes:
    """The file with another head; `change` gets the head's JSON and the description's."""
    length, = struct.unpack("<Q", data[:8])
    head = json.loads(data[8:8 + length])
    told = json.loads(head["__metadata__"]["description"])
    change(head, told)
    head["__metadata__"]["description"] = json.dumps(told)
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    return sealed(struct.pack("<Q", len(text)) + text + data[8 + length:], data)


def sealed(data: bytes, as_before: bytes | None = None) -> bytes:
    """The file with hashes that are right for what it holds; its last tensors have the places of the file before."""
    first, = struct.unpack("<Q", data[:8])
    length, = struct.unpack("<Q", (as_before or data)[:8])
    table = json.loads((as_before or data)[8:8 + length])
    begin, end = table.pop("sha256")["data_offsets"]
    start = 8 + first
    places = [row["data_offsets"] for name, row in table.items() if name != "__metadata__"]
    hashes = [data[:start], *(data[start + begin:start + end] for begin, end in places)]
    return data[:start + begin] + b"".join(hashlib.sha256(part).digest() for part in hashes) + data[start + end:]


def set_at(*path):
    """A change that puts a value at a path of the head or, after `told`, of the description."""
    *way, value = path

    def change(head: dict, told: dict) -> None:
        there = told if way[0] == "told" else head
        for step in way[1:-1]:
            there = there[step]
        there[way[-1]] = value

    return change


ODD = [None, True, -1, 0, 1.5, 10**30, "", "x" * 3, [], {}, [1, 2, 3], "nan", "../x", "\x1b[2J", float("nan")]
PLACES = [("told", "model"), ("told", "scenes"), ("told", "model", "weights"), ("told", "model", "layers"),
          ("told", "model", "rows"), ("told", "scenes", 0), ("told", "scenes", 0, "id"), ("told", "scenes", 0, "parts"),
          ("told", "scenes", 0, "parts", "frames"), ("told", "scenes", 1, "thumbnail"),
          ("told", "scenes", 0, "prompt"), ("told", "scenes", 0, "seconds"), ("told", "extra"),
          ("head", "__metadata__", "format"), ("head", "__metadata__", "version"), ("head", "0.frames.keys"),
          ("head", "0.frames.keys", "dtype"), ("head", "0.frames.keys", "shape"),
          ("head", "0.frames.keys", "data_offsets"), ("head", "extra")]
RIGHT = {("told", "scenes", 0, "prompt"): ("x" * 3, "nan", "../x"), ("told", "scenes", 0, "id"): ("x" * 3, "nan"),
         ("told", "scenes", 0, "seconds"): (-1, 0, 1.5, 10**30), ("told", "scenes", 1, "thumbnail"): (),
         ("told", "model", "weights"): ("x" * 3, "nan", "../x")}


def hostile(data: bytes) -> dict[str, bytes]:
    """Some 300 files that are nearly right."""
    length, = struct.unpack("<Q", data[:8])
    files = {f"cut at {at}": data[:at] for at in [0, 1, 7, 8, 9, 100, 8 + length, len(data) // 2, len(data) - 1]}
    files |= {f"length {number}": struct.pack("<Q", number) + data[8:]
              for number in (0, 1, 2, length - 1, length + 8, 2**31, 2**63, 2**64 - 1)}
    files |= {"longer": data + b"x", "zeros": bytes(len(data)), "text": b"version: 1\nscenes: []\n" * 50,
              "pickle": b"\x80\x04\x95\x0c\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94\x8c\x06system\x94\x93\x94." * 9,
              "zip": b"PK\x03\x04" + bytes(500), "nested": struct.pack("<Q", 200_000) + b"[" * 200_000 + data,
              "digits": struct.pack("<Q", 100_008) + b'{"x": ' + b"9" * 100_001 + b"}" + data}
    for place in PLACES:
        for odd in ODD:
            if odd in RIGHT.get(place, ()) and not isinstance(odd, bool):
                continue
            try:
                files[f"{place} is {odd!r:.20}"] = rebuilt(data, set_at(*place, odd))
            except (KeyError, TypeError, IndexError):
                continue
    draw = random.Random(0)
    for number in range(40):
        at = draw.randrange(8 + length)
        files[f"byte {number}"] = data[:at] + bytes([data[at] ^ (1 << draw.randrange(8))]) + data[at + 1:]
    return files


@pytest.mark.parametrize("bits", [16, 8])
def test_no_file_is_believed(bits: int, tmp_path: Path) -> None:
    files, wrong = hostile(written(tmp_path, bits=bits).read_bytes()), []
    assert len(files) > 250
    for name, content in files.items():
        path = tmp_path / "hostile.scenes"
        path.write_bytes(content)
        try:
            read = read_scenes(path)
            [read_entry(read, index) for index in range(len(read.description.scenes))]
        except UsageError as error:
            assert str(path) in error.message and error.hint and "\x1b" not in error.message and len(
                error.message) < 500, name
        else:
            wrong.append(name)
    assert not wrong


def test_no_bit_may_change(tmp_path: Path) -> None:
    data, draw = written(tmp_path).read_bytes(), random.Random(1)
    for _ in range(300):
        changed = bytearray(data)
        changed[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        (tmp_path / "changed.scenes").write_bytes(changed)
        with pytest.raises(UsageError, match=r"changed\.scenes"):
            read = read_scenes(tmp_path / "changed.scenes")
            for index in range(2):
                read_entry(read, index), read_thumbnail(read, index)


def test_a_file_of_holes_is_not_read(tmp_path: Path) -> None:
    """It would fill memory, and take an hour to hash."""
    path = written(tmp_path)
    with path.open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(UsageError, match="most of it is empty"):
        read_scenes(path)


@pytest.mark.parametrize("value", [0x7C00, 0xFC00, 0x7E00])
def test_values_that_are_no_numbers_are_refused(tmp_path: Path, value: int) -> None:
    path = written(tmp_path)
    file, data = read_scenes(path), bytearray(path.read_bytes())
    struct.pack_into("<H", data, file.tensors["1.frames.values"].begin + 20, value)
    path.write_bytes(sealed(bytes(data)))
    changed = read_scenes(path)
    read_entry(changed, 0)
    with pytest.raises(UsageError, match=r"1\.frames\.values holds values that are not finite"):
        read_entry(changed, 1)


def test_a_file_that_is_cut_after_its_head_was_read_is_told(tmp_path: Path) -> None:
    path = written(tmp_path)
    file: ScenesFile = read_scenes(path)
    path.write_bytes(path.read_bytes()[:file.tensors["1.frames.values"].end - 20])
    with pytest.raises(UsageError, match="cut short"):
        read_entry(file, 1)


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), lambda path: __import__("os").mkfifo(path),
                                  lambda path: None])
def test_what_is_no_file_is_told(tmp_path: Path, make) -> None:
    make(tmp_path / "x.scenes")
    with pytest.raises(UsageError, match=r"x\.scenes"):
        read_scenes(tmp_path / "x.scenes")
