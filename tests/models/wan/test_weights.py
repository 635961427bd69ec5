"""Every layout opens to the same weights; what is damaged, lacking or dangerous is refused with its reason."""

import json
import math
import os
import re
import resource
import weakref
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import echo_cli
from echo_cli.errors import MissingError, OutputError
from echo_cli.files import sha256
from echo_cli.memory.policies import make_policy
from echo_cli.memory.table import read_settings
from echo_cli.models.files import convert as converting
from echo_cli.models.files import hashes, tensors
from echo_cli.models.files.convert import convert, write_safetensors
from echo_cli.models.files.loading import shapes_of, stream_into
from echo_cli.models.files.tensors import Given, finite, opened, shapes, unpickled
from echo_cli.models.loaders import family_of, known_digest
from echo_cli.models.registry import find, spec_named
from echo_cli.models.transformer import Transformer
from echo_cli.models.wan import model as wan
from echo_cli.models.wan.codec import WanCodec
from echo_cli.models.wan.names import codec_name, text_name
from echo_cli.models.wan.text import Stack
from echo_cli.models.wan.weights import Choice, Weights, codec_config, open_weights, text_config, text_shapes
from echo_cli.rollout.rollout import rollout
from echo_cli.runtime import KeyedNoise, Runtime
from echo_cli.storyboard.matching import plan_recalls
from echo_cli.storyboard.nouns import Scene, timeline_of
from tests.models.wan import wan_folders

SPEC = wan_folders.SPEC


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("diffusers")
    monkeypatch.setenv("ECHO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ECHO_MODELS", str(tmp_path / "models"))
    return tmp_path / "cache"


def values(weights: Weights, part: str) -> dict[str, Tensor]:
    tensors = weights.part(part)
    return {name: tensors.read(name) for name in tensors.names()}


def checked(model: str) -> Mapping[str, str]:
    result = find(model)
    return family_of(result).check(result)


def same(result: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> bool:
    return result.keys() == wanted.keys() and all(torch.equal(result[name], wanted[name]) for name in wanted)


def longlive(folder: Path) -> Path:
    # an average that the adapter never saw
    other = {name: tensor + 1 for name, tensor in wan_folders.transformer().items()}
    wan_folders.released(
        folder, {"generator": dict(wan_folders.transformer()), "generator_ema": other}, "longlive_base.pt"
    )
    torch.save({"generator_lora": wan_folders.adapter(), "critic_lora": {}}, folder / "lora.pt")
    return folder


def places(folder: Path) -> Path:
    """The checkpoint where the release's own instructions put it."""
    wan_folders.released(folder)
    (folder / "checkpoints").mkdir()
    (folder / "self_forcing_dmd.pt").rename(folder / "checkpoints" / "self_forcing_dmd.pt")
    return folder


def checkpoints(**branches: Mapping[str, Tensor]) -> Callable[[Path], Path]:
    return lambda folder: wan_folders.released(folder, branches)


PLAIN = dict(wan_folders.transformer())
OTHER = {name: tensor - 1 for name, tensor in PLAIN.items()}
LAYOUTS: dict[str, tuple[Callable[[Path], Path], dict[str, Tensor]]] = {
    "average": (checkpoints(generator=OTHER, generator_ema=wan_folders.wrapped(PLAIN), critic=OTHER), PLAIN),
    "no average": (checkpoints(generator={f"model.{name}": tensor for name, tensor in PLAIN.items()}), PLAIN),
    "an empty average": (checkpoints(generator_ema={}, generator=PLAIN), PLAIN),
    "model": (checkpoints(model=PLAIN), PLAIN),
    "flat": (
        lambda folder: wan_folders.released(folder, {f"_orig_mod.{name}": tensor for name, tensor in PLAIN.items()}),
        PLAIN,
    ),
    "another place": (places, PLAIN),
    "longlive": (longlive, wan_folders.merged()),
    "diffusers": (wan_folders.diffusers, PLAIN),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_opens_to_the_same_weights_and_converts_to_them(layout: str, tmp_path: Path) -> None:
    make, wanted = LAYOUTS[layout]
    opened = open_weights(make(tmp_path / "from"))
    convert(opened, tmp_path / "to")
    ours = open_weights(tmp_path / "to")
    for weights in (opened, ours):
        assert weights.spec == SPEC
        transformer = values(weights, "transformer")
        assert transformer.keys() == wanted.keys()
        for name, tensor in wanted.items():
            torch.testing.assert_close(transformer[name], tensor, atol=1e-6, rtol=0)
        assert same(
            values(weights, "codec"), {codec_name(name): tensor for name, tensor in wan_folders.codec().items()}
        )
        assert same(values(weights, "text"), {text_name(name): tensor for name, tensor in wan_folders.text().items()})
        assert {path.name for path in weights.tokenizer.iterdir()} == {"spiece.model", "tokenizer.json"}
        assert weights.codec_config["dim_mult"] == [1, 2, 4, 4] and weights.codec_config["temperal_downsample"] == [
            False,
            True,
            True,
        ]
        assert weights.text_config["num_heads"] == 4 and weights.text_config["d_kv"] == 8
    assert same(values(ours, "transformer"), values(opened, "transformer"))
    parts = json.loads((tmp_path / "to" / "model.json").read_text())["parts"]
    assert parts["transformer"]["from"] and all(len(source["sha256"]) == 64 for source in parts["transformer"]["from"])
    assert {path.name for path in (tmp_path / "to").iterdir()} == {
        "model.json", "transformer.safetensors", "codec.safetensors", "text.safetensors", "tokenizer"}


def latents(weights: Weights) -> Tensor:
    """Two blocks of a film, from the transformer and the text encoder of the weights."""
    with torch.device("meta"):
        transformer = Transformer(weights.spec)
    stream_into(transformer, weights.transformer)
    rows, = Stack(weights.text, weights.text_config, torch.device("cpu"), torch.float32)([torch.tensor([5, 9, 1])])
    timeline = timeline_of([Scene("a", "a red ball", 1.0)], [2], weights.spec.geometry)
    policy = make_policy(
        "echo-forcing",
        read_settings("echo-forcing", {}),
        weights.spec,
        timeline,
        plan_recalls(timeline.scenes, [[1.0]], 64),
    )
    results = rollout(
        timeline, transformer, [rows[None]], policy, KeyedNoise(1, timeline.scenes), weights.spec.grid_of_latents(4, 6)
    )
    return torch.cat([result.latents for result in results], 1)


@pytest.mark.parametrize("layout", ["average", "longlive", "diffusers"])
def test_a_converted_model_makes_the_same_latents(layout: str, tmp_path: Path) -> None:
    opened = open_weights(LAYOUTS[layout][0](tmp_path / "from"))
    convert(opened, tmp_path / "to")
    result = latents(open_weights(tmp_path / "to"))
    assert result.std() > 0.1 and torch.equal(result, latents(opened))


def in_folder(name: str, file: str) -> Callable[[Path], Path]:
    """The checkpoint in a folder of the model's, as Causal-Forcing's repository has it."""
    def make(folder: Path) -> Path:
        wan_folders.released(folder, {"generator_ema": dict(PLAIN)}, file)
        (folder / name).mkdir()
        (folder / file).rename(folder / name / file)
        return folder
    return make


@pytest.mark.parametrize(("place", "frames"), [("chunkwise", 3), ("framewise", 1)])
def test_the_folder_of_a_generator_says_how_many_frames_it_makes_at_a_time(
    place: str, frames: int, tmp_path: Path
) -> None:
    folder = in_folder(place, "causal_forcing.pt")(tmp_path / "from")
    opened = open_weights(folder)
    convert(opened, tmp_path / "to")
    elsewhere = Choice(folder / place / "causal_forcing.pt")
    for spec in (opened.spec, find(f"{folder}/").spec, find(f"{tmp_path}/to/").spec, open_weights(tmp_path / "to").spec,
                 open_weights(wan_folders.released(tmp_path / "other"), elsewhere).spec):
        assert spec.block_frames == frames and replace(spec, block_frames=3, name=SPEC.name) == SPEC
        assert spec.name == SPEC.name + ("" if frames == 3 else "-by-1")
    sizes = json.loads((tmp_path / "to" / "model.json").read_text())["parts"]["transformer"]["config"]
    assert sizes.get("block_frames", 3) == frames
    assert spec_named(f"{tmp_path}/other/", elsewhere.generator) == opened.spec
    read_spec = open_weights(folder, Choice(folder / place / "causal_forcing.pt", block_frames=2)).spec
    assert read_spec.block_frames == 2 and read_spec.name == f"{SPEC.name}-by-2"
    latents(open_weights(tmp_path / "to"))


def test_a_generator_is_the_same_however_its_path_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = in_folder("framewise", "causal_forcing.pt")(tmp_path / "from") / "framewise"
    wan_folders.released(tmp_path / "other")
    monkeypatch.chdir(folder)
    for written in (folder / "causal_forcing.pt", Path("causal_forcing.pt")):
        assert spec_named(f"{tmp_path}/other/", written).block_frames == 1


def test_a_generator_from_elsewhere_and_how_it_is_read(tmp_path: Path) -> None:
    folder = wan_folders.released(tmp_path / "from")
    (folder / "self_forcing_dmd.pt").unlink()
    with pytest.raises(MissingError, match="no generator") as caught:
        open_weights(folder)
    assert "few-step" in (caught.value.hint or "") and "--generator" in (caught.value.hint or "")

    torch.save({"generator": PLAIN, "generator_ema": OTHER}, tmp_path / "mine.pt")
    torch.save(wan_folders.adapter(), tmp_path / "mine_lora.pt")
    save_file(wan_folders.adapter(), tmp_path / "mine_lora.safetensors")
    save_file({name: tensor.clone() for name, tensor in PLAIN.items()}, tmp_path / "mine.safetensors")
    mine = tmp_path / "mine.pt"
    assert same(values(open_weights(folder, Choice(mine)), "transformer"), OTHER)
    assert same(values(open_weights(folder, Choice(mine, branch="generator")), "transformer"), PLAIN)
    assert same(values(open_weights(folder, Choice(tmp_path / "mine.safetensors")), "transformer"), PLAIN)
    for lora in ("mine_lora.pt", "mine_lora.safetensors"):
        result = values(open_weights(folder, Choice(mine, tmp_path / lora, scale=0.5)), "transformer")
        for name, tensor in wan_folders.merged(0.5).items():
            torch.testing.assert_close(result[name], tensor, atol=1e-6, rtol=0)
    with pytest.raises(MissingError, match="no 'critic' is in this checkpoint, but generator, generator_ema"):
        open_weights(folder, Choice(mine, branch="critic"))
    digests = {open_weights(folder, choice).digest for choice in (
        Choice(mine), Choice(mine, branch="generator"), Choice(mine, tmp_path / "mine_lora.pt"),
        Choice(mine, tmp_path / "mine_lora.pt", scale=0.5))}
    assert len(digests) == 4  # other weights, though of the same files


def change(path: Path, do: Callable[[dict], object], within: str | None = None) -> None:
    """Load a file of weights, do something to its mapping, write it again."""
    held = load_file(path) if path.suffix == ".safetensors" else dict(torch.load(path, weights_only=True))
    do(held[within] if within else held)
    save_file(held, path) if path.suffix == ".safetensors" else torch.save(held, path)


def cut(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:len(data) * 2 // 3])


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.mark}",)


NARROW = {
    "vocab_size": 64,
    "d_model": 16,
    "d_kv": 4,
    "num_heads": 4,
    "d_ff": 8,
    "num_layers": 1,
    "relative_attention_num_buckets": 32,
}
GENERATOR = "self_forcing_dmd.pt"
DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a key of the generator is missing": (
        lambda folder: change(folder / GENERATOR, lambda held: held.pop("blocks.1.ffn.0.bias"), "generator_ema"),
        r"self_forcing_dmd.pt \(generator_ema\): these weights do not fit the model \(1 of 69 names\):\n"
        r"  missing: blocks.1.ffn.0.bias \(32,\)",
    ),
    "a key too many": (
        lambda folder: change(folder / GENERATOR, lambda held: held.update(extra=torch.ones(2)), "generator_ema"),
        r"unexpected: extra \(2,\)",
    ),
    "another shape": (
        lambda folder: change(
            folder / GENERATOR, lambda held: held.update({"head.head.bias": torch.ones(2)}), "generator_ema"
        ),
        r"another shape: head.head.bias is \(2,\), not \(64,\)",
    ),
    "twice the same": (
        lambda folder: change(
            folder / GENERATOR, lambda held: held.update({"model.head.head.bias": torch.ones(64)}), "generator_ema"
        ),
        "head.head.bias and model.head.head.bias are the same weight",
    ),
    "not a tensor": (
        lambda folder: change(folder / GENERATOR, lambda held: held.update(step=7), "generator_ema"),
        "there are other things than weights: step",
    ),
    "the generator is cut short": (lambda folder: cut(folder / GENERATOR), "damaged or cut short"),
    "the codec is cut short": (
        lambda folder: cut(folder / "Wan2.1_VAE.pth"),
        "Wan2.1_VAE.pth: the weights file is damaged or cut short",
    ),
    "a key of the codec is missing": (
        lambda folder: change(folder / "Wan2.1_VAE.pth", lambda held: held.pop("decoder.head.2.bias")),
        "missing: decoder.conv_out.bias",
    ),
    "the first key of the codec is missing": (
        lambda folder: change(folder / "Wan2.1_VAE.pth", lambda held: held.pop("encoder.conv1.weight")),
        "missing: encoder.conv_in.weight",
    ),
    "a key of the text encoder is missing": (
        lambda folder: change(
            folder / "models_t5_umt5-xxl-enc-bf16.pth", lambda held: held.pop("blocks.1.ffn.fc2.weight")
        ),
        "missing: encoder.block.1.layer.1.DenseReluDense.wo.weight",
    ),
    "a text encoder of another width": (
        lambda folder: torch.save(
            {name: torch.zeros(shape) for name, shape in text_shapes(NARROW).items()},
            folder / "models_t5_umt5-xxl-enc-bf16.pth",
        ),
        "the text encoder belongs to another model: it has 16 channels, the transformer 32",
    ),
    "a config of another width": (
        lambda folder: (folder / "config.json").write_text(
            (folder / "config.json").read_text().replace('"text_dim": 32', '"text_dim": 16')
        ),
        r"another shape: text_embedding.0.weight is \(24, 32\), not \(24, 16\)",
    ),
    "the codec is not there": (
        lambda folder: (folder / "Wan2.1_VAE.pth").unlink(),
        r"parts of the model are missing: codec",
    ),
    "the tokenizer is not there": (
        lambda folder: [path.unlink() for path in (folder / "google/umt5-xxl").iterdir()],
        r"missing: tokenizer \(no files in umt5-xxl/\)",
    ),
    "two generators": (
        lambda folder: torch.save({}, folder / "longlive_base.pt"),
        "more than one generator is here: longlive_base.pt, self_forcing_dmd.pt",
    ),
    "another kind of model": (
        lambda folder: (folder / "config.json").write_text((folder / "config.json").read_text().replace("t2v", "i2v")),
        "not a text-to-video model, but 'i2v'",
    ),
    "an empty config": (
        lambda folder: (folder / "config.json").write_text("{}"),
        r"config.json: damaged \(it does not give 'num_layers'\)",
    ),
    "a config that is none": (lambda folder: (folder / "config.json").write_text("{"), r"config.json: damaged"),
    "not weights at all": (
        lambda folder: (folder / GENERATOR).write_text("<html>not found</html>"),
        "damaged or cut short|not bare weights",
    ),
    "an empty file": (lambda folder: (folder / GENERATOR).write_bytes(b""), "damaged or cut short"),
    "an empty checkpoint": (lambda folder: torch.save({}, folder / GENERATOR), "no weights are in this file"),
    "a list": (
        lambda folder: torch.save([torch.ones(2)], folder / GENERATOR),
        "this file holds no named weights, but a list",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_refused_with_its_reason(damage: str, tmp_path: Path) -> None:
    do, reason = DAMAGES[damage]
    folder = wan_folders.released(tmp_path / "from")
    do(folder)
    with pytest.raises(MissingError, match=reason) as caught:
        open_weights(folder)
    assert caught.value.exit_code == 3 and caught.value.hint


@pytest.mark.parametrize("name", [GENERATOR, "Wan2.1_VAE.pth", "models_t5_umt5-xxl-enc-bf16.pth"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_wants_to_run_something_is_refused_and_runs_nothing(
    name: str, zipped: bool, tmp_path: Path
) -> None:
    folder, mark = wan_folders.released(tmp_path / "from"), tmp_path / "mark"
    torch.save(
        {"generator_ema": {"patch_embedding.weight": Evil(mark)}}, folder / name, _use_new_zipfile_serialization=zipped
    )
    with pytest.raises(
        MissingError, match=f"{name}: this file is not bare weights: it wants to call posix.system: refused"
    ) as caught:
        open_weights(folder)
    assert not mark.exists()
    # nobody is taught to open it nevertheless
    assert "weights_only" not in caught.value.message + (caught.value.hint or "")


def test_weights_of_torchs_older_format_are_read(tmp_path: Path) -> None:
    folder = wan_folders.released(tmp_path / "from")
    torch.save({"generator": PLAIN}, folder / GENERATOR, _use_new_zipfile_serialization=False)
    assert same(values(open_weights(folder), "transformer"), PLAIN)


def test_an_adapter_that_does_not_fit_lists_why(tmp_path: Path) -> None:
    folder = longlive(tmp_path / "from")
    lora = wan_folders.adapter()
    lora["base_model.model.blocks.0.ffn.0.lora_A.weight"] = torch.ones(4, 5)
    lora["base_model.model.blocks.9.ffn.0.lora_A.weight"] = torch.ones(4, 24)
    del lora["base_model.model.blocks.1.ffn.0.lora_B.weight"]
    lora["scale"] = torch.ones(1)
    torch.save({"generator_lora": lora}, folder / "lora.pt")
    with pytest.raises(MissingError, match="does not fit the generator") as caught:
        open_weights(folder)
    for reason in (
        "another shape: base_model.model.blocks.0.ffn.0.lora_B.weight",
        "of no linear layer: base_model.model.blocks.9",
        "half of a pair: base_model.model.blocks.1.ffn.0.lora_A",
        "unexpected: scale",
    ):
        assert reason in caught.value.message
    (folder / "lora.pt").unlink()
    with pytest.raises(MissingError, match="the adapter that is merged into it is not beside it"):
        open_weights(folder)


def test_shards_are_needed_all_and_each_once(tmp_path: Path) -> None:
    folder = wan_folders.diffusers(tmp_path / "from")
    index = folder / "transformer" / "diffusion_pytorch_model.safetensors.index.json"
    first, second = sorted((folder / "transformer").glob("*.safetensors"))
    whole = second.read_bytes()
    second.write_bytes(whole[:-1])
    with pytest.raises(MissingError, match="00002-of-00002.safetensors: the weights file is damaged or cut short"):
        open_weights(folder)
    second.write_bytes(first.read_bytes())
    with pytest.raises(MissingError, match="is in another shard too"):
        open_weights(folder)
    second.unlink()
    with pytest.raises(MissingError, match="one of 2 shards is missing"):
        open_weights(folder)
    index.write_text('{"weight_map": {"a": "../../elsewhere.safetensors"}}')
    with pytest.raises(MissingError, match="the index of the shards is damaged"):
        open_weights(folder)


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    convert(open_weights(wan_folders.released(tmp_path / "released")), tmp_path / "ours")
    return tmp_path / "ours"


def test_the_hash_is_known_without_loading_where_nothing_must_be_read_to_know_it(ours: Path, tmp_path: Path) -> None:
    assert known_digest(f"{ours}/") == open_weights(ours).digest
    assert known_digest(f"{tmp_path}/released") is None and known_digest("wan2.1-t2v-1.3b") is None


def test_a_changed_bit_is_found_by_its_hash(ours: Path) -> None:
    digest = open_weights(ours).digest
    path = ours / "codec.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    weights = open_weights(ours)  # names and shapes are right still
    with pytest.raises(MissingError, match="codec.safetensors: not the weights that model.json names"):
        assert weights.digest != digest


@pytest.mark.parametrize(("do", "reason"), [
    (lambda report: report.update(format="other"), "its format is 'other'"),
    (lambda report: report.update(version=99), "written by another version of this program"),
    (lambda report: report.pop("parts"), "it names no parts"),
    (lambda report: report["parts"].pop("codec"), "no sizes of the codec"),
    (lambda report: report["parts"]["transformer"].pop("config"), "no sizes"),
    (lambda report: report["parts"]["transformer"]["config"].update(colour=1), "colour: not a size"),
    (lambda report: report["parts"]["transformer"]["config"].update(depth=3), "missing: blocks.2."),
])
def test_a_damaged_description_is_told(do: Callable[[dict], object], reason: str, ours: Path) -> None:
    report = json.loads((ours / "model.json").read_text())
    do(report)
    (ours / "model.json").write_text(json.dumps(report))
    with pytest.raises(MissingError, match=reason):
        open_weights(ours)


def test_a_conversion_that_fails_leaves_no_model(tmp_path: Path) -> None:
    folder = wan_folders.released(tmp_path / "from")
    change(folder / "models_t5_umt5-xxl-enc-bf16.pth", lambda held: held["norm.weight"].fill_(float("nan")))
    with pytest.raises(MissingError, match="norm.weight holds values that are not finite"):
        convert(open_weights(folder), tmp_path / "to")
    assert not (tmp_path / "to" / "model.json").exists() and not list((tmp_path / "to").glob("*.partial"))
    with pytest.raises(MissingError, match="this folder holds no weights of Wan 2.1"):
        open_weights(tmp_path / "to")


def test_a_light_decoder_beside_the_model_comes_along(tmp_path: Path) -> None:
    folder = wan_folders.released(tmp_path / "from")
    torch.save({"decoder.1.weight": torch.ones(2, 3)}, folder / "taew2_1.pth")
    convert(open_weights(folder), tmp_path / "to")
    decoder = open_weights(tmp_path / "to").fast_decoder
    assert decoder is not None and shapes(decoder) == {"decoder.1.weight": (2, 3)}
    assert json.loads((tmp_path / "to" / "model.json").read_text())["parts"]["fast_decoder"]["tensors"] == 1


def test_pickles_are_opened_as_bare_weights_everywhere() -> None:
    for path in Path(echo_cli.__file__).parent.rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        assert source.count("torch.load(") == source.count("weights_only=True"), path
        assert not re.search(r"\bpickle\.(?:loads?|Unpickler)\(|add_safe_globals|weights_only=False", source), path


def test_what_stands_in_the_way_is_not_overwritten(ours: Path, tmp_path: Path) -> None:
    weights = open_weights(tmp_path / "released")
    with pytest.raises(OutputError, match="holds a model already"):
        convert(weights, ours)
    convert(weights, ours, force=True)
    with pytest.raises(OutputError, match="holds something that a conversion did not write"):
        convert(weights, tmp_path, force=True)
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "codec.safetensors").write_bytes(b"mine")
    with pytest.raises(OutputError, match="codec.safetensors, which belongs to no converted model"):
        convert(weights, theirs)
    assert [(path.name, path.read_bytes()) for path in theirs.iterdir()] == [("codec.safetensors", b"mine")]
    with pytest.raises(OutputError, match="into the folder it is read from"):
        convert(weights, tmp_path / "released", force=True)


def test_another_dtype_halves_the_files_and_is_refused_where_it_is_too_narrow(ours: Path, tmp_path: Path) -> None:
    weights = open_weights(ours)
    convert(weights, tmp_path / "half", torch.bfloat16)
    for part in ("transformer", "codec", "text"):
        wide, half = load_file(ours / f"{part}.safetensors"), load_file(tmp_path / "half" / f"{part}.safetensors")
        assert same(half, {name: tensor.bfloat16() for name, tensor in wide.items()})
    huge = Given({"a": torch.tensor([1.0, 1e6])}, "a file")
    write_safetensors(tmp_path / "a.safetensors", huge, torch.bfloat16)
    with pytest.raises(MissingError, match="a holds values that are not finite in float16"):
        write_safetensors(tmp_path / "a.safetensors", huge, torch.float16)


def test_a_file_is_written_as_its_reader_wants_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(converting, "_PIECE", 5)  # several pieces a tensor
    tensors = {"a": torch.randn(3, 4).T, "b": torch.randn(7).bfloat16(), "c": torch.tensor(2.0), "d": torch.arange(6),
               "e": torch.zeros(0, 3), "f": torch.tensor([True, False, True])}
    written = write_safetensors(tmp_path / "some.safetensors", Given(tensors, "memory"))
    assert same(load_file(tmp_path / "some.safetensors"), tensors)
    assert (
        written["sha256"] == hashes.sha256(tmp_path / "some.safetensors")
        and written["values"] == 12 + 7 + 1 + 6 + 0 + 3
    )
    assert written["tensors"] == 6 and written["bytes"] == (tmp_path / "some.safetensors").stat().st_size


class Shapes:
    """Tensors of which only the shapes are known."""

    where = "a recorded list"

    def __init__(self, wanted: Mapping[str, tuple[int, ...]]) -> None:
        self.wanted = wanted

    def names(self) -> list[str]:
        return list(self.wanted)

    def shape(self, name: str) -> tuple[int, ...]:
        return self.wanted[name]


def test_the_released_sizes_are_read_from_the_released_shapes() -> None:
    recorded = json.loads((wan_folders.GOLDEN / "manifest.json").read_text())
    released = {codec_name(name): tuple(shape) for name, shape in recorded["real_vae_key_shapes"].items()}
    config = codec_config(Shapes(released))
    assert config == {"base_dim": 96, "z_dim": 16, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_scales": [],
                      "temperal_downsample": [False, True, True]}
    with torch.device("meta"):
        assert shapes_of(WanCodec(config).vae) == released and len(released) == recorded["real_sizes"]["vae_keys"]
    sizes = {"vocab_size": 256384, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64,
             "relative_attention_num_buckets": 32}
    text = text_shapes(sizes)
    assert text_config(Shapes(text)) == sizes and len(text) == recorded["real_sizes"]["umt5_keys"]
    assert sum(torch.Size(shape).numel() for shape in text.values()) == recorded["real_sizes"]["umt5_encoder"]


class Counted(Shapes):
    """Tensors made when they are read; knows how many are alive."""

    def __init__(self, wanted: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__(wanted)
        self.alive = self.most = 0

    def dtype(self, name: str) -> torch.dtype:
        return torch.float32

    def read(self, name: str) -> Tensor:
        tensor = torch.zeros(self.wanted[name])
        self.alive += 1
        self.most = max(self.most, self.alive)
        weakref.finalize(tensor, self._gone)
        return tensor

    def _gone(self) -> None:
        self.alive -= 1


def test_neither_writing_nor_loading_holds_more_than_two_tensors_of_the_source(tmp_path: Path) -> None:
    source = Counted({f"layer.{index}": (64, 64) for index in range(20)})
    write_safetensors(tmp_path / "large.safetensors", source)
    assert source.most <= 2 and source.alive <= 1  # the next is read while the last has not been let go
    with torch.device("meta"):
        module = torch.nn.Sequential(*(torch.nn.Linear(16, 16) for _ in range(20)))
    source = Counted({name: tuple(tensor.shape) for name, tensor in module.state_dict().items()})
    stream_into(module, source, dtype=torch.bfloat16)
    assert source.most <= 2 and not any(
        parameter.is_meta or parameter.requires_grad for parameter in module.parameters()
    )
    assert {parameter.dtype for parameter in module.parameters()} == {torch.bfloat16} and not module.training


def test_opening_a_checkpoint_reads_no_values(tmp_path: Path) -> None:
    path = tmp_path / "large.pt"
    torch.save({"generator": {"a": torch.zeros(1 << 23)}, "critic": {"b": torch.zeros(1 << 23)}}, path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    held = unpickled(path)
    assert shapes(Given(held["generator"], "")) == {"a": (1 << 23,)}
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    assert faults * os.sysconf("SC_PAGE_SIZE") < 16e6


def test_a_hash_is_remembered_until_its_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    path, reads = tmp_path / "file", []
    read = hashes.sha256
    monkeypatch.setattr(hashes, "sha256", lambda file: reads.append(file) or read(file))
    path.write_text("one")
    first = hashes.known_sha256(path)
    assert hashes.known_sha256(path) == first == hashes.recalled_sha256(path) and len(reads) == 1
    path.write_text("other")
    assert hashes.recalled_sha256(path) is None
    assert hashes.known_sha256(path) != first and len(reads) == 2
    (cache / "hashes.json").write_text("[")
    assert hashes.known_sha256(path) != first and len(reads) == 3
    monkeypatch.setenv("ECHO_CACHE", "/dev/null/nowhere")  # a cache that cannot be is no trouble
    assert hashes.known_sha256(path) != first and len(reads) == 4


def exchanged(folder: Path, part: str, change: Callable[[Tensor], Tensor], leaf: str = "weight") -> Path:
    """A folder in our layout, one matrix of a part changed, and its description written again to fit."""
    path = folder / f"{part}.safetensors"
    tensors = load_file(path)
    name = min(name for name, tensor in tensors.items() if name.endswith(leaf) and tensor.dim() > 1)
    save_file({**tensors, name: change(tensors[name]).contiguous()}, path)
    described = json.loads((folder / "model.json").read_text())
    described["parts"][part] |= {"sha256": sha256(path), "bytes": path.stat().st_size}
    (folder / "model.json").write_text(json.dumps(described))
    return folder


def spoilt(value: float) -> Callable[[Tensor], Tensor]:
    def put(tensor: Tensor) -> Tensor:
        tensor.view(-1)[-1] = value
        return tensor

    return put


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("part", ["transformer", "codec", "text"])
def test_weights_that_are_not_finite_are_refused(ours: Path, part: str, value: float) -> None:
    weights = open_weights(exchanged(ours, part, spoilt(value), "wo.weight" if part == "text" else "weight"))
    for use in (lambda: checked(f"{ours}/"), lambda: loaded(ours, weights, part)):
        with pytest.raises(MissingError, match=rf"{part}.safetensors: .* holds values that are not finite"):
            use()


def loaded(folder: Path, weights: Weights, part: str) -> None:
    cpu = Runtime(torch.device("cpu"), torch.float32)
    if part == "text":
        Stack(weights.text, weights.text_config, cpu.device, cpu.dtype)([torch.tensor([5, 9, 1])])
    else:
        wan.load(cpu, folder)


@pytest.mark.parametrize("kind", ["safetensors", "pt"])
def test_a_file_is_hashed_and_its_numbers_checked_in_one_reading(kind: str, tmp_path: Path,
                                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensors, "_CHUNK", 4096)
    path = tmp_path / f"weights.{kind}"
    weights = {name: torch.randn(100, 200) for name in "dbca"}
    save = save_file if kind == "safetensors" else torch.save
    save(weights, path)
    assert tensors.read_through(path, opened([path])) == sha256(path)
    save({**weights, "c": torch.full((100, 200), math.nan)}, path)
    with pytest.raises(MissingError, match="c holds values that are not finite"):
        tensors.read_through(path, opened([path]))
    save({**weights, "c": torch.ones(100, dtype=torch.int8)}, path)
    with pytest.raises(MissingError, match="c is of int8"):
        tensors.read_through(path, opened([path]))


def test_a_sum_that_overflows_is_of_finite_numbers() -> None:
    huge = torch.tensor([3e38, 3e38])
    assert finite("a", huge, "a file") is huge
    with pytest.raises(MissingError, match="a file: a holds values"):
        finite("a", torch.tensor([1.0, math.nan]).to(torch.float8_e4m3fn), "a file")


@pytest.mark.parametrize("kind", [torch.int8, torch.bool, torch.complex64])
def test_matrices_of_no_real_numbers_are_refused_when_the_model_is_opened(ours: Path, kind: torch.dtype) -> None:
    exchanged(ours, "codec", lambda tensor: tensor.to(kind))
    with pytest.raises(MissingError, match=r"codec.safetensors: (weights must be floating-point numbers: )?.* is of "):
        open_weights(ours)


def test_an_archive_that_inflates_is_refused_before_it_does(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(4)}, tmp_path / "fine.pt")
    assert unpickled(tmp_path / "fine.pt")["a"].shape == (4,)
    with zipfile.ZipFile(tmp_path / "fine.pt") as fine, \
            zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb:
        for entry in fine.infolist():
            data = fine.read(entry)
            bomb.writestr(entry.filename, bytes(1 << 24) if entry.filename.endswith("data/0") else data)
    assert (tmp_path / "bomb.pt").stat().st_size < 1 << 16
    with pytest.raises(MissingError, match=r"bomb.pt: this archive is compressed"):
        unpickled(tmp_path / "bomb.pt")
