"""A whole model of Wan's family, small and with random weights, from its folder to a film by the real command."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

for extra in ("diffusers", "transformers", "ftfy"):
    pytest.importorskip(extra, reason="needs the extra: pip install 'echo-cli[wan]'")

from echo_cli.errors import OutputError
from echo_cli.files import sha256
from echo_cli.models.files import eight_bits
from echo_cli.models.running import Running
from echo_cli.models.wan import model as wan
from echo_cli.models.wan import rehearsal
from echo_cli.runtime import Runtime
from echo_cli.spec import WAN_1_3B, ModelSpec
from echo_cli.video.read import pictures
from tests import forked

if TYPE_CHECKING:
    from echo_cli.render.job import Job

CPU = Runtime(torch.device("cpu"), torch.float32)
SPEC = replace(WAN_1_3B, depth=2, width=96, heads=4, ffn=128, text_dim=32)
CODEC = {"base_dim": 4}
TEXT = {"vocab_size": 300, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}

STORY = """
version: 1
size: 96x64
scenes:
  - {id: rooftop, prompt: A woman stands on a windswept rooftop, duration: 1.5s}
  - {id: subway, transition: hard cut, prompt: The same woman walks along a subway platform, duration: 1s}
  - {id: back, transition: "recall:rooftop", prompt: Back on the rooftop she turns her head, duration: 1s}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("models") / "rehearsal"
    rehearsal.write(made, SPEC, CODEC, TEXT)
    return made


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECHO_CACHE", str(tmp_path / "cache"))


def test_the_parts_come_from_the_folder_frozen_and_on_the_device(folder: Path) -> None:
    backend = wan.load(CPU, folder)
    assert replace(backend.spec, name=WAN_1_3B.name) == SPEC
    for module in (backend.transformer, backend.codec):
        assert not module.training and not any(weight.requires_grad for weight in module.parameters())
        assert {weight.device.type for weight in module.parameters()} == {"cpu"}
    rows = backend.text.encode(["A woman", ""])
    assert rows.shape == (2, 512, 32) and int((rows[0] != 0).any(-1).sum()) == len("A woman") + 1
    assert backend.text.unknown_words("anything") == ()


def test_a_film_from_the_folder(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "story.yaml").write_text(STORY)
    done = forked.run("generate", "story.yaml", "-o", "film.mp4", "--scale", "1", "--model", f"{folder}/", "--json",
                      cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["pictures"] == 56 == sum(1 for _ in pictures(tmp_path / "film.mp4"))
    trace = json.loads((tmp_path / "film.trace.json").read_text())
    assert trace["header"]["policy"]["name"] == "echo"
    assert len([record for record in trace["records"] if record["kind"] == "block"]) == 5


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[
    pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")])])
def test_a_rehearsal_film_interrupted_and_resumed_has_the_same_hash(folder: Path, tmp_path: Path, device: str) -> None:
    """On a card the last blocks are recorded passes, before the interruption and after it."""
    from echo_cli.errors import Interrupted
    from echo_cli.render.film import make
    from echo_cli.render.outputs import outputs_of
    from echo_cli.render.prepare import prepared
    from echo_cli.render.progress import Progress
    from echo_cli.render.request import Request
    from echo_cli.render.signals import Interruption
    from echo_cli.storyboard.parse import parse

    runtime = Runtime.choose(device)
    backend = wan.load(runtime, folder)

    class Stopping(Progress):
        def step(self, step: object) -> None:
            if stop:
                interruption.by = "SIGTERM"

    def made(name: str) -> str:
        output = str(tmp_path / name)
        request = Request("story.yaml", output, model=f"{folder}/", scale=1, memory="window", device=device,
                          settings=("memory.window=6",), checkpoint_every=0, keep_states="none", preset="ultrafast")
        story = "version: 1\nsize: 64x32\nscenes: [{id: one, prompt: A rooftop, duration: 4s}]"
        job = prepared(request, parse(story), backend.spec).job(outputs_of(output, "film"))
        return make(job, backend, runtime, Stopping(), interruption).outputs["film"].sha256

    stop = False
    with Interruption(lambda text: None) as interruption:
        whole = made("whole.mp4")
    stop = True
    with Interruption(lambda text: None) as interruption, pytest.raises(Interrupted):
        made("film.mp4")
    assert (tmp_path / "film.resume" / "checkpoint.json").exists()
    stop = False
    with Interruption(lambda text: None) as interruption:
        assert made("film.mp4") == whole


def test_every_prompt_of_a_film_is_encoded_in_one_reading(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from echo_cli.memory.table import read_settings
    from echo_cli.rollout.plan import film, plan_policy
    from echo_cli.storyboard.parse import parse
    from echo_cli.storyboard.timeline import timeline

    backend, readings = wan.load(CPU, folder), []
    monkeypatch.setattr(
        "echo_cli.models.wan.text.Stack.__call__",
        lambda stack, prompts: readings.append(len(prompts)) or [torch.ones(len(rows), 32) for rows in prompts],
    )
    board = parse(STORY)
    lines = timeline(board, backend.spec.geometry)
    with torch.inference_mode():
        next(film(backend, lines, plan_policy("window", read_settings("window"), backend, lines), 0, board.size))
    assert readings == [3]


def test_a_rehearsal_is_written_by_the_command_and_fits_the_real_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                                       capfd: pytest.CaptureFixture[str]) -> None:
    from echo_cli.cli import app
    from echo_cli.models.wan.weights import open_weights

    monkeypatch.setitem(rehearsal.TEXT, "num_layers", 1)
    small = {"d_model": 32, "d_kv": 8, "d_ff": 16, "num_heads": 4, "vocab_size": 300}
    written = rehearsal.write
    asked = []

    def smaller(folder: Path, spec: ModelSpec, text: dict | None, progress: Callable, force: bool) -> None:
        asked.append(text)
        written(folder, replace(spec, width=96, heads=4, ffn=64, text_dim=32), CODEC, small, progress, force)

    monkeypatch.setattr(rehearsal, "write", smaller)
    assert app.run(["bench", "rehearsal", str(tmp_path / "model"), "--layers", "3"]) == 0
    out, err = capfd.readouterr()
    assert out == f"{tmp_path / 'model'}/\n" and [line.split(":")[0] for line in err.splitlines()] == [
        "transformer",
        "codec",
        "text",
    ]
    assert app.run(["bench", "rehearsal", str(tmp_path / "model"), "--layers", "3", "--text", "full"]) == 0
    assert asked == [rehearsal.SMALL_TEXT, None] and capfd.readouterr().err == ""  # all of it was there already
    weights = open_weights(tmp_path / "model")
    assert weights.spec.depth == 3 == len(wan.load(CPU, tmp_path / "model").transformer.blocks)
    assert app.run(["bench", "rehearsal", str(tmp_path / "tiny"), "--spec", "tiny"]) == 2
    assert "comes with its weights" in capfd.readouterr().err


def digests(folder: Path) -> dict[str, str]:
    return {path.name: sha256(path) for path in sorted(folder.glob("*.*"))}


def test_a_rehearsal_overwrites_no_real_weights(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from echo_cli.cli import app

    for name in ("transformer.safetensors", "codec.safetensors", "model.json", "notes.txt"):
        folder = tmp_path / name.partition(".")[0]
        folder.mkdir()
        (folder / name).write_bytes(b"mine")
        assert app.run(["bench", "rehearsal", str(folder), "--layers", "1"]) == 5
        out, err = capfd.readouterr()
        assert out == "" and name in err and "hint: Name another folder" in err
        assert [path.name for path in folder.iterdir()] == [name] and (folder / name).read_bytes() == b"mine"
    with pytest.raises(OutputError, match="notes.txt"):
        rehearsal.write(tmp_path / "notes", SPEC, CODEC, TEXT, force=True)
    rehearsal.write(tmp_path / "transformer", SPEC, CODEC, TEXT, force=True)
    assert wan.load(CPU, tmp_path / "transformer")


def test_a_part_of_a_rehearsal_that_was_exchanged_for_a_real_one_is_kept(tmp_path: Path) -> None:
    made = tmp_path / "made"
    rehearsal.write(made, SPEC, CODEC, TEXT)
    rehearsal.write(made, replace(SPEC, depth=1), CODEC, TEXT)  # what a rehearsal wrote, another may overwrite
    codec = bytearray((made / "codec.safetensors").read_bytes())
    codec[-1] ^= 1
    (made / "codec.safetensors").write_bytes(codec)
    with pytest.raises(OutputError, match=r"codec.safetensors was not written by a rehearsal"):
        rehearsal.write(made, SPEC, CODEC, TEXT)
    assert (made / "codec.safetensors").read_bytes() == codec


def test_a_stopped_rehearsal_goes_on_and_comes_out_the_same(folder: Path, tmp_path: Path) -> None:
    def stop_in_text(part: str, done: int, whole: int) -> None:
        if part == "text":
            raise KeyboardInterrupt

    made = tmp_path / "made"
    with pytest.raises(KeyboardInterrupt):
        rehearsal.write(made, SPEC, CODEC, TEXT, stop_in_text)
    assert all(path.name.endswith(".partial") for path in made.iterdir())  # nothing has a name that looks whole
    parts = []
    rehearsal.write(made, SPEC, CODEC, TEXT, lambda part, done, whole: parts.append(part))
    assert set(parts) == {"text"} and digests(made) == digests(folder)


def test_whatever_waits_on_the_host_the_latents_are_the_same(folder: Path) -> None:
    from echo_cli.memory.table import read_settings
    from echo_cli.models.running import Offload, Running
    from echo_cli.rollout.plan import film, plan_policy
    from echo_cli.storyboard.parse import parse
    from echo_cli.storyboard.timeline import timeline

    board, films = parse(STORY), {}
    for offload in (Offload.NONE, Offload.MEMORY, Offload.LAYERS):
        backend = wan.load(CPU, folder, Running(offload=offload))
        lines = timeline(board, backend.spec.geometry)
        policy = plan_policy("echo-forcing", read_settings("echo-forcing"), backend, lines)
        with torch.inference_mode():
            films[offload] = torch.cat([result.latents for result in film(backend, lines, policy, 0, (64, 32))], 1)
        assert (backend.home is None) == (offload is Offload.NONE)
    assert torch.equal(films[Offload.NONE], films[Offload.MEMORY]) and torch.equal(
        films[Offload.NONE], films[Offload.LAYERS]
    )


def test_a_scaled_decoder_is_given_latents_at_the_scale_of_the_codec(folder: Path, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import save_file

    from echo_cli.models.running import Pictures, Running
    from echo_cli.models.wan.codec import WanCodec
    from echo_cli.models.wan.fast_decoder import FastDecoder

    shutil.copytree(folder, tmp_path / "model")
    plain = FastDecoder().requires_grad_(False)
    save_file(plain.state_dict(), tmp_path / "model" / "lighttaew2_1.safetensors")
    codec = wan.load(CPU, tmp_path / "model", Running(Pictures.FAST)).codec
    latents, full = torch.randn(1, 2, 16, 2, 3), WanCodec()
    expected = plain.decode(latents * torch.tensor(full.vae.config.latents_std)[:, None, None] + full.mean)[0]
    assert torch.allclose(codec.decode(latents)[0], expected, atol=1e-6)


def test_a_light_codec_has_the_sizes_that_its_weights_have(folder: Path, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import save_file

    from echo_cli.errors import MissingError
    from echo_cli.models.files.convert import convert
    from echo_cli.models.running import Pictures, Running
    from echo_cli.models.wan.codec import WanCodec
    from echo_cli.models.wan.weights import open_weights

    with pytest.raises(MissingError, match="there is no light codec"):
        wan.load(CPU, folder, Running(Pictures.LIGHT))
    shutil.copytree(folder, tmp_path / "model")
    light = WanCodec({"base_dim": 4, "z_dim": 16, "num_res_blocks": 1}).vae
    save_file({name: tensor.contiguous() for name, tensor in light.state_dict().items()},
              tmp_path / "model" / "lightvaew2_1.safetensors")
    convert(open_weights(tmp_path / "model"), tmp_path / "converted")
    latents = torch.randn(1, 2, 16, 2, 3)
    films = []
    for place in ("model", "converted"):
        codec = wan.load(CPU, tmp_path / place, Running(Pictures.LIGHT)).codec
        assert codec.vae.config.base_dim == 4
        films.append(codec.decode(latents)[0])
    assert films[0].shape == (1, 5, 3, 16, 24) and torch.equal(*films)


def test_other_weights_of_a_light_codec_make_another_film(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                          capfd: pytest.CaptureFixture[str]) -> None:
    import shutil

    from safetensors.torch import save_file

    from echo_cli.cli import app
    from echo_cli.models.wan.codec import WanCodec

    def put(seed: int) -> None:
        torch.manual_seed(seed)
        light = WanCodec({"base_dim": 4, "z_dim": 16, "num_res_blocks": 1}).vae
        save_file({name: tensor.contiguous() for name, tensor in light.state_dict().items()},
                  "model/lightvaew2_1.safetensors")

    def generate(*more: str) -> int:
        return app.run(["generate", "--prompt", "a rooftop", "--duration", "0.5s", "-o", "film.mp4", "--model",
                        "model/", "--size", "64x32", "--scale", "1", "--memory", "window", "--decoder", "light", *more])

    monkeypatch.chdir(tmp_path)
    shutil.copytree(folder, "model")
    assert generate() == 3 and "there is no light codec" in capfd.readouterr().err
    put(0)
    assert generate() == 0
    decoder = json.loads(Path("film.manifest.json").read_text())["identity"]["settings"]["decoder"]
    assert decoder == {"name": "light", "weights": sha256(Path("model/lightvaew2_1.safetensors"))}
    capfd.readouterr()
    before = sha256(Path("film.mp4"))
    assert generate() == 0 and "skipped" in capfd.readouterr().err
    put(1)
    assert generate() == 5 and "other weights of the decoder" in capfd.readouterr().err
    assert generate("--force") == 0 and sha256(Path("film.mp4")) != before


def test_the_name_of_a_scaled_decoder_is_part_of_its_hash(tmp_path: Path) -> None:
    from echo_cli.models.running import Pictures
    from echo_cli.models.wan.hashes import decoder_digest

    for name in ("plain/taew2_1.pth", "scaled/lighttaew2_1.pth"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"weights")
    plain, scaled = (decoder_digest(tmp_path / name, Pictures.FAST) for name in ("plain", "scaled"))
    assert plain and scaled and plain != scaled and decoder_digest(tmp_path, Pictures.FULL) is None


def test_a_fast_decoder_lies_beside_the_model_or_is_missed(folder: Path, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import save_file

    from echo_cli.errors import MissingError
    from echo_cli.models.running import Pictures, Running
    from echo_cli.models.wan.fast_decoder import FastCodec, FastDecoder

    with pytest.raises(MissingError, match="there is no fast decoder"):
        wan.load(CPU, folder, Running(Pictures.FAST))
    shutil.copytree(folder, tmp_path / "model")
    save_file(
        {**FastDecoder().state_dict(), "encoder.0.weight": torch.zeros(1)}, tmp_path / "model" / "taew2_1.safetensors"
    )
    codec = wan.load(CPU, tmp_path / "model", Running(Pictures.FAST)).codec
    assert isinstance(codec, FastCodec) and codec.decode(torch.zeros(1, 2, 16, 2, 3))[0].shape == (1, 5, 3, 16, 24)
    pictures = torch.rand(1, 5, 3, 16, 24)
    full = wan.load(CPU, tmp_path / "model").codec
    assert torch.equal(codec.encode_piece(pictures)[0], full.encode(pictures)), "the full codec encodes what comes in"


@pytest.fixture
def measured(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Path:
    """A model of which `bench fast --keep` measured how far eight bits move its attention, and a kernel for them."""
    from echo_cli.cli import app
    from echo_cli.eight import attend_to_codes

    model = tmp_path / "model"
    shutil.copytree(folder, model)
    assert app.run(["bench", "fast", "--model", f"{model}/", "--keep", "--blocks", "3", "--size", "64x32"]) == 0
    printed = capfd.readouterr()
    assert f"written: {model / eight_bits.FILE}" in printed.err and "weights" in printed.out
    monkeypatch.setattr("echo_cli.models.tuning.eight_bit_attention", lambda *_: (attend_to_codes, "a stand-in"))
    return model


def fast_job(model: Path, tmp_path: Path, fast: bool = True) -> "Job":
    from echo_cli.render.outputs import outputs_of
    from echo_cli.render.prepare import prepared
    from echo_cli.render.request import Request
    from echo_cli.storyboard.parse import parse

    output = str(tmp_path / "film.mp4")
    story = parse("version: 1\nsize: 64x32\nscenes: [{id: one, prompt: A rooftop, duration: 2s}]")
    request = Request("story.yaml", output, model=f"{model}/", scale=1, memory="window", device="cpu", fast=fast)
    return prepared(request, story, wan.load(CPU, model).spec).job(outputs_of(output, "film"))


def test_fast_attends_in_eight_bits_in_the_layers_that_were_measured_to_be_near(measured: Path, tmp_path: Path) -> None:
    from echo_cli.cli.generate import _fast
    from echo_cli.render.budget import room_for
    from echo_cli.render.session import Loaded

    exact, backend = wan.load(CPU, measured), wan.load(CPU, measured, Running(fast=True))
    near = eight_bits.measured(measured, SPEC.depth, exact.weights_hash)
    assert near is not None and len(near.distances) == SPEC.depth and near.layers
    assert exact.transformer.eight is None
    assert backend.transformer.eight is not None and backend.transformer.eight.layers == near.layers
    job, plain = fast_job(measured, tmp_path), fast_job(measured, tmp_path, fast=False)
    assert job.identity(exact.weights_hash).plain()["settings"]["attention_in_eight_bits"] == list(near.layers)
    for each, weights in ((job, "others"), (plain, exact.weights_hash)):
        assert "attention_in_eight_bits" not in each.identity(weights).plain()["settings"]
    assert f"in {len(near.layers)} of 2 layers" in _fast(job, Loaded(backend, CPU))
    more = room_for(job, exact.spec, CPU, Running(fast=True)).window - room_for(job, exact.spec, CPU, Running()).window
    tokens, small = 21 * exact.spec.grid((64, 32)).tokens, 4 * (1 + SPEC.heads * (3 + SPEC.width // SPEC.heads))
    assert more == len(near.layers) * (2 * tokens * SPEC.width + small)


def test_layers_that_are_too_far_off_attend_exactly(measured: Path, tmp_path: Path) -> None:
    from echo_cli.cli.generate import _fast
    from echo_cli.render.session import Loaded

    weights = wan.load(CPU, measured).weights_hash
    eight_bits.keep(measured, eight_bits.EightBits(weights, (0.06, 0.2), "NVIDIA H200"))
    backend = wan.load(CPU, measured, Running(fast=True))
    assert backend.transformer.eight is None
    assert "no layer is within 5%, measured on NVIDIA H200" in _fast(fast_job(measured, tmp_path), Loaded(backend, CPU))
