"""Films made whole: the right pictures in the right number, whatever their length, and files that agree with each
other."""

import json
import threading
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace

import jsonschema
import numpy as np
import pytest
import torch

from echo_cli.errors import EchoError, OutOfMemory, OutputError, UsageError
from echo_cli.files import sha256
from echo_cli.layout import Role
from echo_cli.render.decoder import Decoder
from echo_cli.render.film import make
from echo_cli.render.job import Job
from echo_cli.render.manifest import Standing, standing
from echo_cli.render.progress import Progress, Step
from echo_cli.render.signals import Interruption
from echo_cli.rollout.plan import film, plan_policy
from echo_cli.rollout.stopwatch import Stopwatch
from echo_cli.runtime import KeyedNoise, Runtime
from echo_cli.state import pack
from echo_cli.trace.reader import read_trace
from echo_cli.trace.records import Calibration
from echo_cli.video import read
from echo_cli.video.subtitles import Subtitles

from .stage import SPEC, STORY, WEIGHTS, backend, job, pictures_in

CPU = Runtime(torch.device("cpu"), torch.float32)


def made(job: Job, progress: Progress | None = None, runtime: Runtime = CPU):
    with Interruption() as interruption:
        return make(job, backend(runtime), runtime, progress or Progress(), interruption)


def one_scene(duration: str) -> str:
    return f"scenes: [{{id: a, prompt: a red ball, duration: {duration}}}]"


def lossless(folder: Path, **choices) -> np.ndarray:
    made(job(folder, name="%04d.png", **choices))
    return pictures_in(folder)


@pytest.mark.parametrize("name", ["film.mp4", "%04d.png"])
def test_a_film_that_stops_being_numbers_ends_at_that_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Weights that are finite, and of which a sum is not: no black film, no manifest, and the block is named."""
    drawn = KeyedNoise.__call__
    monkeypatch.setattr(KeyedNoise, "__call__", lambda noise, block, step, shape:
                        drawn(noise, block, step, shape) * (1e38 if block.index == 2 else 1))
    with pytest.raises(EchoError, match="block 2 of the film holds values that are not finite") as caught:
        made(job(tmp_path, name=name))
    assert caught.value.exit_code == 1 and "models check" in caught.value.hint
    assert not [path for path in tmp_path.rglob("*.*") if path.suffix in (".mp4", ".json") and path.is_file()
                and ".resume" not in str(path)]
    assert all(int(path.stem) < 21 for path in tmp_path.glob("*.png"))  # of the blocks before it, which are whole


@pytest.mark.parametrize(
    ("duration", "pictures"), [("0.1s", 2), ("62.5ms", 1), ("3.3s", 53), ("0.75s", 12), ("5.0625s", 81)]
)
def test_a_film_has_exactly_the_asked_length(tmp_path: Path, duration: str, pictures: int) -> None:
    done = made(job(tmp_path, one_scene(duration)))
    assert done.pictures == pictures
    assert sum(1 for _ in read.pictures(tmp_path / "film.mp4")) == pictures
    assert read.facts(tmp_path / "film.mp4").seconds == pytest.approx(pictures / 16, abs=0.011)


def test_pictures_are_what_the_codec_makes_of_the_whole_film(tmp_path: Path) -> None:
    """Streamed, block by block and one behind, they equal one decode of all latents."""
    task = job(tmp_path, name="%04d.png", scale=SPEC.detail)
    policy = plan_policy(task.policy, task.settings, backend(), task.timeline)
    with torch.inference_mode():
        latents = torch.cat([result.latents for result in film(backend(), task.timeline, policy, 5)], 1)
        whole, _ = backend().codec.decode(latents, None)
    expected = (whole[0] * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()[:task.timeline.pictures]
    seen = lossless(tmp_path, scale=SPEC.detail)
    assert seen.shape == expected.shape and np.abs(seen.astype(int) - expected).max() <= 1
    assert expected.std() > 1


@pytest.mark.gpu
def test_a_stream_of_its_own_changes_no_picture(tmp_path: Path) -> None:
    """On a device pictures are decoded beside the generator; whatever was not waited for would show."""
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    cuda = Runtime(torch.device("cuda"), torch.float32)
    made(job(tmp_path, name="%04d.png", scale=SPEC.detail), runtime=cuda)
    task = job(tmp_path, name="%04d.png", scale=SPEC.detail)
    policy = plan_policy(task.policy, task.settings, backend(cuda), task.timeline)
    with torch.inference_mode():
        latents = torch.cat([result.latents for result in film(backend(cuda), task.timeline, policy, 5)], 1)
        whole, _ = backend(cuda).codec.decode(latents, None)
    expected = (whole[0] * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()[:task.timeline.pictures]
    assert np.abs(pictures_in(tmp_path).astype(int) - expected).max() <= 1


@pytest.mark.gpu
def test_a_second_gpu_changes_no_picture(tmp_path: Path) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two CUDA devices")
    one = Runtime(torch.device("cuda:0"), torch.float32)
    two = replace(one, second=torch.device("cuda:1"))
    for name, runtime in (("one", one), ("two", two)):
        made(job(tmp_path / name, name="%04d.png"), runtime=runtime)
    assert (pictures_in(tmp_path / "one") == pictures_in(tmp_path / "two")).all()


def test_latents_are_brought_to_the_device_of_the_codec() -> None:
    codec = backend(Runtime(CPU.device, torch.float32, torch.device("meta"))).codec
    decode = Decoder(codec, torch.device("meta"))
    for opens in (True, False):
        latents = torch.zeros(1, 3, SPEC.channels, SPEC.grid().height, SPEC.grid().width)
        pictures = decode(SimpleNamespace(latents=latents, lead=None, times=Stopwatch(CPU.device)))
        assert pictures._host.is_meta and pictures._host.shape[0] == (9 if opens else 12)
        assert all(tensor.is_meta for tensor in pack(decode.state)[0].values())


def test_a_thread_of_its_own_decodes_the_same_bits_and_passes_errors_on() -> None:
    latents = torch.randn(2, 1, 3, SPEC.channels, SPEC.grid().height, SPEC.grid().width)
    results = [SimpleNamespace(latents=part, lead=None, times=Stopwatch(CPU.device)) for part in latents]
    before, running = torch.get_num_threads(), threading.active_count()
    made, inline, state = {}, [], None
    try:
        for threads in (2, 1):
            torch.set_num_threads(threads)
            with Decoder(backend().codec, CPU.device) as decode:
                made[threads] = [pictures.array() for pictures in [decode(part) for part in results]]
                assert threading.active_count() == running + (threads == 1)
                assert decode.state is True and all(part.times.read()["decode"] > 0 for part in results)
            assert threading.active_count() == running
        with Decoder(backend().codec, CPU.device) as decode:
            coming = decode(SimpleNamespace(latents=latents[0, :, :, :2], lead=None, times=Stopwatch(CPU.device)))
            with pytest.raises(RuntimeError, match="size of tensor"):
                coming.array()
        for part in latents:
            with torch.inference_mode():
                pictures, state = backend().codec.decode(part, state)
            inline.append((pictures[0] * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy())
    finally:
        torch.set_num_threads(before)
    assert [len(pictures) for pictures in made[1]] == [9, 12]
    assert all((one == other).all() for one, other in zip(made[1], inline, strict=True))
    # on two threads the order of sums may be another
    assert all(np.abs(one.astype(int) - two).max() <= 1 for one, two in zip(made[1], made[2], strict=True))


def test_what_was_asked_for_is_decoded_even_if_the_generator_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last block is read when nothing is left to generate."""
    codec, hold = backend().codec, threading.Event()
    decode = codec.decode
    monkeypatch.setattr(codec, "decode", lambda *given: (hold.wait(10), decode(*given))[1])
    latents = torch.zeros(2, 1, 3, SPEC.channels, SPEC.grid().height, SPEC.grid().width)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with Decoder(codec, CPU.device) as ask:
            coming = [ask(SimpleNamespace(latents=part, lead=None, times=Stopwatch(CPU.device))) for part in latents]
            threading.Timer(0.1, hold.set).start()
        assert [len(pictures.array()) for pictures in coming] == [9, 12]
    finally:
        torch.set_num_threads(before)


def test_the_seed_decides_and_encoding_does_not(tmp_path: Path) -> None:
    first, again, other = (lossless(tmp_path / name, seed=seed) for name, seed in (("a", 5), ("b", 5), ("c", 6)))
    assert (first == again).all() and (first != other).any()


def test_every_file_agrees_with_the_manifest(tmp_path: Path) -> None:
    done = made(job(tmp_path))
    manifest = json.loads((tmp_path / "film.manifest.json").read_text())
    assert set(manifest["outputs"]) == {"film", "trace", "subtitles"} == set(done.outputs)
    for output in manifest["outputs"].values():
        path = tmp_path / output["name"]
        assert output["sha256"] == sha256(path) and output["bytes"] == path.stat().st_size
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "film.manifest.json", "film.mp4", "film.srt", "film.trace.json"]
    assert manifest["film"]["pictures"] == 66 and manifest["film"]["seconds"] == 66 / 16
    assert manifest["identity"]["seed"] == 5 and manifest["identity"]["settings"]["memory"]["policy"] == "echo"
    assert manifest["timings"]["denoise_seconds"] > 0


def test_subtitles_cover_their_scenes(tmp_path: Path) -> None:
    made(job(tmp_path))
    # blocks begin at pictures 0, 9, 21, 33, 45, 57: 1.5 s is nearest to 21, 2.5 s to 45
    assert (tmp_path / "film.srt").read_text() == (
        "1\n00:00:00,000 --> 00:00:01,312\nMeadow\n\n2\n00:00:02,812 --> 00:00:04,125\nAgain\n")


def test_an_old_srt_does_not_stay_beside_a_film_without_one(tmp_path: Path) -> None:
    made(job(tmp_path))
    (tmp_path / "film.srt.partial").write_text("what a killed run left")
    made(job(tmp_path, subtitles=Subtitles.NONE))
    assert not (tmp_path / "film.srt").exists()
    assert "subtitles" not in (tmp_path / "film.manifest.json").read_text().split('"outputs"')[1]


@pytest.mark.parametrize("policy", ["echo-forcing", "window", "flush", "recache"])
def test_the_trace_of_every_policy_fits_its_schema(tmp_path: Path, policy: str) -> None:
    made(job(tmp_path, memory=policy))
    trace = json.loads((tmp_path / "film.trace.json").read_text())
    jsonschema.validate(trace, json.loads(files("echo_cli.trace").joinpath("schema.json").read_text()))
    kinds = [record["kind"] for record in trace["records"]]
    assert kinds.count("block") == 6 and kinds.count("scene") == 3
    assert trace["totals"]["pictures"] == 66
    assert trace["records"][-1]["pictures"] == [57, 66]


def test_the_trace_says_what_memory_did(tmp_path: Path) -> None:
    story = one_scene("9s").replace("]", ", {id: b, transition: 'recall:a', prompt: the red ball, duration: 3s}]")
    made(job(tmp_path, story, memory="echo-forcing"))
    trace = read_trace(tmp_path / "film.trace.json")
    blocks = [trace.block(number) for number in range(16)]
    assert [block.block for block in blocks] == list(range(16))
    assert [block.calibration for block in blocks[:8]] == [Calibration.COLLECTING] * 6 + [Calibration.READY] * 2
    last = blocks[11]  # of the first scene: the window is full, history is chosen
    assert sum(tokens for _, tokens in last.measured.chosen.frames) == pytest.approx(3 * 6)
    assert last.measured.chosen.scores.min <= last.measured.chosen.scores.mean <= last.measured.chosen.scores.max
    assert len(last.measured.layers) == SPEC.depth and last.rolling.frames
    opening = blocks[12]
    carried = [place for place, segment in enumerate(opening.layout.segments) if segment.role is Role.TRANSITION]
    assert carried and opening.measured.weights[carried[0]].mean == 1.0
    assert opening.measured.decay.rows * opening.measured.decay.cols == len(opening.measured.decay.rates) == 6
    assert all(0.55 <= rate <= 0.9 for rate in opening.measured.decay.rates)
    assert 0.55 <= blocks[13].measured.weights[0].mean <= 0.9  # what was carried has faded once
    assert opening.measured.times.denoise > 0 and opening.measured.times.decode > 0
    assert trace.recall_frames[0].frames == (0, 4, 8) and list(trace.recall_frames) == [0]


def test_the_trace_says_which_frames_a_scene_resumes_from(tmp_path: Path) -> None:
    story = one_scene("2s").replace("]", ", {id: b, transition: 'recall:a', prompt: the red ball, duration: 1s}]")
    made(job(tmp_path, story))
    trace = read_trace(tmp_path / "film.trace.json")
    record, scene = trace.recall_frames[0], trace.scenes[1]
    assert (record.method, record.frames, record.shares) == ("keyframes", tuple(range(6)), ())
    assert scene.recalled == 0 and scene.chosen_by == "the storyboard names it; its first frames"
    anchors = trace.block(record.block + 1).layout.segments[0]
    assert (anchors.role, anchors.scene, anchors.frames) == (Role.ANCHOR, 0, tuple(range(6)))


class Stopping(Progress):
    """Does something when a block is done."""

    def __init__(self, block: int, then) -> None:
        super().__init__()
        self.block, self.then, self.steps = block, then, []

    def step(self, step: Step) -> None:
        self.steps.append(step)
        if step.block == self.block:
            self.then()


class Counting(Progress):
    """Notes how many threads compute each block."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[int] = []

    def step(self, step: Step) -> None:
        self.threads.append(torch.get_num_threads())


def test_a_small_model_is_computed_by_one_thread_and_leaves_the_others_as_they_were(tmp_path: Path) -> None:
    """So its film is the same, to the last bit, on any number of cores."""
    before, watch = torch.get_num_threads(), Counting()
    try:
        torch.set_num_threads(2)
        made(job(tmp_path), watch)
        assert watch.threads == [1] * 6 and torch.get_num_threads() == 2
        with pytest.raises(ZeroDivisionError):
            made(job(tmp_path / "broken"), Stopping(2, lambda: 1 / 0))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_progress_counts_what_is_written(tmp_path: Path) -> None:
    watch = Stopping(0, None)
    made(job(tmp_path), watch)
    assert [step.block for step in watch.steps] == [1, 2, 3, 4, 5, 6]
    assert [step.picture for step in watch.steps] == [9, 21, 33, 45, 57, 66]
    assert [step.scene_id for step in watch.steps] == ["meadow", "meadow", "desert", "desert", "again", "again"]
    assert all(step.memory_bytes > 0 for step in watch.steps)


def fail(error: Exception):
    def then() -> None:
        raise error
    return then


@pytest.mark.parametrize(("raised", "why"), [
    (MemoryError(), OutOfMemory), (torch.OutOfMemoryError("CUDA out of memory"), OutOfMemory),
    (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), OutOfMemory),
    (RuntimeError("a shape is wrong"), RuntimeError),
])
def test_a_failed_run_leaves_a_readable_trace_and_nothing_that_looks_finished(tmp_path: Path, raised, why) -> None:
    with pytest.raises(why) as caught:
        made(job(tmp_path), Stopping(3, fail(raised)))
    if why is OutOfMemory:
        assert "96x64" in caught.value.message and "--size" in caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["film.trace.json.partial"]
    left = read_trace(tmp_path / "film.trace.json.partial")
    assert left.notice and left.block(2).pictures == (21, 33)


def test_a_failed_run_over_an_old_film_keeps_it_as_it_was(tmp_path: Path) -> None:
    made(job(tmp_path))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(OutputError):
        made(job(tmp_path, seed=9), Stopping(2, fail(OutputError("full"))))
    (tmp_path / "film.trace.json.partial").unlink()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert standing(job(tmp_path).outputs, job(tmp_path).identity(WEIGHTS)) is Standing.DONE


def test_a_disk_that_fills_up_before_the_manifest_is_written_leaves_no_film(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "echo_cli.render.manifest.write_partial", lambda path, text: fail(OutputError("the disk is full"))()
    )
    with pytest.raises(OutputError):
        made(job(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["film.trace.json.partial"]
    assert standing(job(tmp_path).outputs, job(tmp_path).identity("")) is Standing.FREE


def test_settings_that_cannot_be_are_told_before_anything_is_touched(tmp_path: Path) -> None:
    made(job(tmp_path))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UsageError, match="are 22 frames"):
        made(job(tmp_path, settings={"recent_frames": 4}))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_burned_subtitles_are_in_the_pictures_and_not_beside_them(tmp_path: Path) -> None:
    plain = lossless(tmp_path / "plain", scale=4, subtitles=Subtitles.NONE)
    drawn = lossless(tmp_path / "drawn", scale=4, subtitles=Subtitles.BURN)
    changed = [bool((one != other).any()) for one, other in zip(plain, drawn, strict=True)]
    assert changed == [number < 21 or number >= 45 for number in range(66)]
    assert not list((tmp_path / "drawn").glob("*.srt"))


def test_characters_that_cannot_be_drawn_are_a_warning(tmp_path: Path) -> None:
    board = STORY.replace("subtitle: Again", 'subtitle: "\u133f"')
    why: list[str] = []
    job(tmp_path, board, subtitles=Subtitles.BURN).check_tools(why.append)
    assert why == ["warning: no font here has these characters of the subtitles, and boxes are drawn instead: "
                    "\u133f (U+133F); --font FILE names one that has them"]


def test_errors_of_the_disk_are_told_in_words(small_disk: Path) -> None:
    with pytest.raises(EchoError) as caught:
        made(job(small_disk, one_scene("8s"), scale=8))
    assert isinstance(caught.value, OutputError) and "the disk is full" in caught.value.message
    assert not list(small_disk.glob("*.mp4*")) and not (small_disk / "film.manifest.json").exists()
