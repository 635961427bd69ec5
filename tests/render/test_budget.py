"""What a film needs of a device is told before it begins: counted, not guessed, and refused when it cannot fit."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from echo_cli.cli import app
from echo_cli.errors import Exit, OutOfMemory
from echo_cli.memory.policies import make_policy
from echo_cli.memory.store import Placement
from echo_cli.memory.table import POLICIES
from echo_cli.models.loaders import RandomSmall
from echo_cli.models.registry import MODELS
from echo_cli.models.running import Offload, Running
from echo_cli.render import budget as room
from echo_cli.render.job import Job
from echo_cli.runtime import Runtime
from echo_cli.spec import WAN_1_3B
from echo_cli.storyboard.matching import recalls_in, similarities
from tests.render import stage

CPU = Runtime(torch.device("cpu"), torch.float32)
GPU = Runtime(torch.device("cuda"), torch.bfloat16)


TINY = MODELS["tiny"]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS.own, "tiny", stage.ROW)


@pytest.mark.parametrize("name", POLICIES)
def test_memory_is_counted_as_it_will_be_allocated(name: str, tmp_path: Path) -> None:
    trained = {"trained": False} if name in ("echo-infinity", "scene-queries") else {}
    job = stage.job(tmp_path, memory=name, settings=trained)
    counted = room.room_for(job, stage.SPEC, CPU, Running())
    recalls = recalls_in(job.timeline, similarities(job.timeline.prompts), 9)
    policy = make_policy(name, job.settings, stage.SPEC, job.timeline, {2: recalls[2]})
    memory = policy.allocate(Placement(stage.SPEC.grid(job.size), CPU.device, CPU.dtype))
    assert counted.frames == memory.store.frame_bytes
    assert counted.frames + counted.window == memory.store.bytes + memory.bytes - memory.host_bytes
    weights = sum(weight.numel() * 4 for weight in stage.backend().transformer.parameters())
    assert counted.layers + counted.rest == weights


def test_the_real_size_needs_what_its_numbers_say(tmp_path: Path) -> None:
    job = stage.job(tmp_path, memory="echo-forcing", size=(832, 480))
    result = room.room_for(job, WAN_1_3B, GPU, Running())
    frame = 2 * 30 * 1560 * 1536 * 2  # keys and values of every layer in bfloat16
    assert result.layers + result.rest == 2 * 1_418_996_800
    assert result.frames % frame == 0 and 40 * frame < result.frames < 80 * frame
    assert 21 * frame < result.window < 1.2 * 21 * frame
    steps = [result.on_device(offload) for offload in (Offload.NONE, Offload.MEMORY, Offload.LAYERS)]
    assert steps[0] - steps[1] == result.frames and steps[1] > steps[2]
    assert steps[1] < 20e9 < steps[0] - 2e9, (
        "a device of 24 GB holds the film when frames wait on the host, and not before"
    )


@pytest.mark.parametrize(("free", "chosen"), [(40e9, Offload.NONE), (18e9, Offload.MEMORY), (11e9, Offload.LAYERS)])
def test_as_little_waits_on_the_host_as_fits(
    free: float, chosen: Offload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "free_bytes", lambda device: int(free))
    running, said = room.choose(stage.job(tmp_path, size=(832, 480)), WAN_1_3B, GPU, Running())
    assert running == Running(offload=chosen)
    assert f"of {free / 1e9:.1f} GB free on cuda" in said and ("wait on the host" in said) == (
        chosen is not Offload.NONE
    )


KEPT = 6 * 2 * 30 * 1560 * 1536  # keys and values of six frames, a byte each


def recalling(tmp_path: Path, **settings: object) -> Job:
    """A film of the real size that recalls one scene."""
    return stage.job(tmp_path, memory="echo", size=(832, 480), settings=settings)


def test_scenes_that_will_be_recalled_wait_on_the_host_in_eight_bits(tmp_path: Path) -> None:
    eight = room.room_for(recalling(tmp_path), WAN_1_3B, GPU, Running())
    assert KEPT < eight.library < 1.01 * KEPT and "finished scenes on the host" in eight.described(Offload.NONE)
    sixteen = room.room_for(recalling(tmp_path, eight_bits=False), WAN_1_3B, GPU, Running())
    assert sixteen.library == 2 * KEPT and sixteen.on_device(Offload.NONE) == eight.on_device(Offload.NONE)


def test_a_host_without_room_for_them_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "free_bytes", lambda device: 80 * 10**9)
    monkeypatch.setattr(room, "free_host", lambda: 10**9 // 2)
    with pytest.raises(OutOfMemory, match=r"recalls need about 864.8 MB on the host, which has 500.0 MB free"):
        room.choose(recalling(tmp_path), WAN_1_3B, GPU, Running())


def test_on_a_processor_they_count_with_everything_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = recalling(tmp_path)
    counted = room.room_for(job, WAN_1_3B, CPU, Running())
    monkeypatch.setattr(room, "free_host", lambda: counted.on_device(Offload.NONE) + counted.library - 1)
    with pytest.raises(OutOfMemory, match="this film needs about"):
        room.choose(job, WAN_1_3B, CPU, Running())


def test_a_second_gpu_has_the_codec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    second = torch.device("cuda:1")
    pair = replace(GPU, second=second)
    monkeypatch.setattr(RandomSmall, "decoding_bytes", lambda *_: (3 * 10**9, 10**9))
    job = stage.job(tmp_path, size=(832, 480))
    alone, apart = (room.room_for(job, WAN_1_3B, runtime, Running()) for runtime in (GPU, pair))
    assert alone.on_device(Offload.NONE) - apart.on_device(Offload.NONE) == 4 * 10**9 == apart.on_second()
    monkeypatch.setattr(room, "free_bytes", lambda device: 35 * 10**8 if device == second else 80 * 10**9)
    with pytest.raises(OutOfMemory, match="decoding needs about 4.0 GB on cuda:1, which has 3.5 GB free"):
        room.choose(job, WAN_1_3B, pair, Running())


def test_what_cannot_fit_is_refused_with_what_to_lower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "free_bytes", lambda device: 2 * 10**9)
    with pytest.raises(OutOfMemory, match=r"needs about \d.* on cuda, which has 2.0 GB free") as caught:
        room.choose(stage.job(tmp_path, size=(832, 480)), WAN_1_3B, GPU, Running(offload=Offload.NONE))
    for remedy in ("--size", "--offload auto", "--decoder fast", "memory.window"):
        assert remedy in caught.value.hint
    with pytest.raises(OutOfMemory) as caught:
        room.choose(stage.job(tmp_path, size=(832, 480)), WAN_1_3B, CPU, Running())
    assert "--dtype bfloat16" in caught.value.hint and "offload" not in caught.value.hint


def test_a_small_film_says_nothing_of_memory_and_a_large_one_ends_with_exit_4(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "story.yaml").write_text(stage.STORY)
    arguments = ["generate", str(tmp_path / "story.yaml"), "-o", str(tmp_path / "film.mp4"), "--progress", "none"]
    monkeypatch.setattr(room, "free_bytes", lambda device: 10**5)
    assert app.run(arguments) == Exit.MEMORY
    said = capfd.readouterr().err
    assert (
        "this film needs about" in said and "which has 100.0 kB free" in said and not (tmp_path / "film.mp4").exists()
    )
    monkeypatch.setattr(room, "free_bytes", lambda device: None)
    assert app.run(arguments) == Exit.DONE
    assert "needs about" not in capfd.readouterr().err


def test_a_container_has_less_than_its_machine(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:  4000 kB\n")
    assert room.free_host(tmp_path / "meminfo", tmp_path) == 4_096_000
    for name, text in (
        ("memory.max", "2000000\n"),
        ("memory.current", "1500000\n"),
        ("memory.stat", "anon 1\ninactive_file 300000\n"),
    ):
        (tmp_path / name).write_text(text)
    assert room.free_host(tmp_path / "meminfo", tmp_path) == 800_000
    (tmp_path / "memory.max").write_text("max\n")
    assert room.free_host(tmp_path / "meminfo", tmp_path) == 4_096_000
    assert room.free_host(tmp_path / "nothing", tmp_path / "nothing") is None


def test_the_embedded_model_has_one_decoder(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MODELS.own, "tiny", TINY)
    (tmp_path / "story.yaml").write_text(stage.STORY)
    words = ["generate", str(tmp_path / "story.yaml"), "-o", str(tmp_path / "film.mp4")]
    for more in (["--decoder", "fast"], ["--fast", "--dry-run"]):
        assert app.run([*words, *more]) == Exit.USAGE
        assert "model 'tiny' has only one decoder" in capfd.readouterr().err
