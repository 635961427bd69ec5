"""A day of film in one rollout: whether memory stays bounded, whether a block is as fast in the last hour as in the
first, and what happens to the pictures.

The film repeats six places, ten minutes each, so that every hour is comparable with the first. A memory that keeps
scenes recalls them; with others, every change is smooth, and `window` is the control, which knows no place after an
hour. Only a few seconds at the end of each scene are decoded. A day takes hours, so it may be rendered in several
sittings; each resumes from the state of the one before, to the last bit. A run is a folder: `soak.json` holds
everything that was measured.
"""

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from echo_cli import __version__
from echo_cli.bench.footprint import resident
from echo_cli.bench.metrics import background, decibels
from echo_cli.bench.stages import charged
from echo_cli.errors import Damaged, MissingError, UsageError
from echo_cli.files import make_folder, output_errors, read_json, write_whole
from echo_cli.memory.policies.base import Policy
from echo_cli.memory.policies.echo_infinity import Absorbing
from echo_cli.memory.table import read_settings
from echo_cli.models.backend import Backend
from echo_cli.rollout.plan import Rows, plan_policy
from echo_cli.rollout.rollout import Begun, BlockResult, rollout
from echo_cli.rollout.stopwatch import Stopwatch
from echo_cli.runtime import KeyedNoise, Runtime
from echo_cli.spec import TINY
from echo_cli.state_files import Stored, read_state, write_state
from echo_cli.storyboard.nouns import Geometry, Kind, Scene, SceneSpan, Timeline, timeline_of
from echo_cli.video.contact import write_sheet
from echo_cli.world.grammar import Saying, say
from echo_cli.world.probes import judge

DAY = 1_400_000  # pictures
PLACES = 6
ROUND = 3600.0  # seconds of film until the prompts repeat
_SAMPLE = 5  # blocks at the end of a scene that are judged
_STILLS = 3  # every third picture is enough for the median of a place
_KEEP = 120.0  # seconds between two states on the disk
REPORT = "soak.json"
OWN = re.compile(r"soak\.(json|png)|(scene|place)-\d{4,}\.png|state-\d{7,}\.safetensors")  # names of a run's files
JUDGED = ("place", "time", "colour", "shape", "motion")


@dataclass(frozen=True)
class Chapter:
    """One scene of the film, as it was rendered and as it looked at its end. Times are means over its blocks."""

    scene: int
    hour: int  # of the film, from 1
    prompt: str
    blocks: int
    pictures: int  # of the whole film so far
    block_ms: float  # on the clock
    processor_ms: float
    update_share: float | None  # share of a block's time that the queries take
    bytes: int  # tensors that memory holds
    resident: int  # bytes of this process
    place: bool | None  # whether it was right; None where the judges cannot say, since they know only the little world
    time: bool | None
    colour: bool | None
    shape: bool | None
    motion: bool | None
    colourfulness: tuple[float, float, float]  # mean red, green, blue
    contrast: float
    sharpness: float
    moving: float  # mean change from picture to picture
    same_place: float | None = None  # its background against that of the place's first scene, dB; None for that itself


@dataclass
class Running:
    """Sums over the scene in progress."""

    blocks: int = 0
    wall: float = 0.0
    processor: float = 0.0
    update: float = 0.0


def sayings(scenes: int) -> list[Saying]:
    """The prompts of the scenes: the same six, repeated."""
    return [
        Saying(place=each, time=each % 3, shape=each % 4, colour=each, motion=each % 4)
        for each in (n % PLACES for n in range(scenes))
    ]


def film_of(pictures: int, backend: Backend, seconds: float, recalls: bool = False) -> Timeline:
    """At least that many pictures, in scenes of `seconds`; the last may be shorter. With `recalls`, a place that has
    been seen is recalled."""
    geometry = backend.spec.geometry
    per_scene = max(_SAMPLE, round(seconds * geometry.fps / geometry.block_pictures))
    blocks = -(-(pictures + geometry.frame_pictures - 1) // geometry.block_pictures)
    counts = [per_scene] * (blocks // per_scene)
    if rest := blocks - sum(counts):
        counts = [*counts, rest] if rest >= _SAMPLE or not counts else [*counts[:-1], counts[-1] + rest]
    prompts = [say(saying, [0.5] * 8) for saying in sayings(len(counts))]
    scenes = [_scene(n, prompt, seconds, recalls) for n, prompt in enumerate(prompts)]
    return timeline_of(scenes, counts, geometry)


def _scene(number: int, prompt: str, seconds: float, recalls: bool) -> Scene:
    if recalls and number >= PLACES:
        return Scene(f"scene {number + 1}", prompt, seconds, Kind.RECALL, f"scene {number % PLACES + 1}")
    return Scene(f"scene {number + 1}", prompt, seconds, Kind.SMOOTH if number else None)


def hour_of(span: SceneSpan, geometry: Geometry) -> int:
    """The hour of the film that holds most of a scene, from 1: the first block is shorter than all others."""
    return int((span.pictures.start + span.pictures.stop) / (2 * geometry.fps) // ROUND) + 1


class Soak:
    """A run in `folder`, from nothing or from where the last sitting stopped."""

    def __init__(
        self,
        folder: Path,
        backend: Backend,
        runtime: Runtime,
        policy: str,
        settings: dict[str, Any],
        seed: int,
        pictures: int,
        scene_seconds: float,
    ) -> None:
        self.folder, self.backend, self.runtime = folder, backend, runtime
        values = read_settings(policy, settings)
        self.timeline = film_of(pictures, backend, scene_seconds, values.recalling is not None)
        self.policy: Policy = plan_policy(policy, values, backend, self.timeline)
        self.about = {
            "version": __version__,
            "model": backend.spec.name,
            "weights": backend.weights_hash,
            "policy": policy,
            "settings": asdict(self.policy.settings),
            "seed": seed,
            "pictures": self.timeline.pictures,
            "scene_seconds": scene_seconds,
            "dtype": str(runtime.dtype).removeprefix("torch."),
            "device": runtime.device.type,
        }
        self.seed = seed
        self.chapters: list[Chapter] = []
        self.running, self.sittings = Running(), 0
        self.begun: Begun | None = None
        self._state: Path | None = None
        begun = (folder / REPORT).exists()
        # without a report, pictures in the folder are not ours; states may be left by a first sitting that was killed
        make_folder(folder, lambda name: bool(OWN.fullmatch(name)) and (begun or not name.endswith(".png")), "a soak")
        if begun:
            self._go_on()

    @property
    def blocks(self) -> int:
        """How many blocks are rendered."""
        return self.begun.blocks if self.begun else 0

    @property
    def done(self) -> bool:
        return self.blocks == len(self.timeline.blocks)

    def _go_on(self) -> None:
        path = self.folder / REPORT
        try:
            report = read_json(path)
            about, chapters, left = report["about"], report["chapters"], report["left"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise MissingError(
                f"{path}: damaged, or not a soak's report ({error})", hint="Name another folder with --out."
            ) from error
        differing = [name for name in self.about if about.get(name) != json.loads(json.dumps(self.about[name]))]
        if differing:
            raise UsageError(f"{self.folder} holds another film: it differs in {', '.join(differing)}",
                             hint="Name another folder with --out.")
        self.chapters = [Chapter(**{**row, "colourfulness": tuple(row["colourfulness"])}) for row in chapters]
        self.running, self.sittings = Running(**report["running"]), report["sittings"]
        self._state = self.folder / left["file"]
        try:
            state = read_state(self._state, Stored(left["bytes"], left["sha256"], left["nest"]))
        except Damaged as error:
            raise UsageError(error.message, hint="Name another folder with --out.") from error
        self.begun = Begun(left["blocks"], state)

    @torch.inference_mode()
    def sit(self, stop: Callable[[], bool], progress: Callable[[int, float], None]) -> bool:
        """Render blocks until the film is complete (True) or `stop` says so; `progress` is called with the number of
        blocks and the last one's milliseconds."""
        if self.done:
            return True
        self.folder.mkdir(parents=True, exist_ok=True)
        self.sittings += 1
        rows = Rows(self.backend.text, [scene.prompt for scene in self.timeline.scenes])
        loop = rollout(self.timeline, self.backend.transformer, rows, self.policy,
                       KeyedNoise(self.seed, self.timeline.scenes), self.backend.spec.grid(), begun=self.begun)
        self.begun = None  # its tensors are in use from here on
        last, shown = time.monotonic(), list[Tensor]()
        for result, wall, processor, update in self._timed(loop):
            block, span = result.block, self.timeline.spans[result.block.scene]
            self.running.blocks += 1
            self.running.wall += wall
            self.running.processor += processor
            self.running.update += update
            if span.blocks.stop - block.index <= _SAMPLE:
                shown.append(result.latents)
            if block.closes:
                self.chapters.append(self._chapter(block.scene, torch.cat(shown, 1), result.bytes))
                self.running, shown = Running(), []
            progress(block.index + 1, 1000 * wall)
            ends, whole = stop(), block.index + 1 == len(self.timeline.blocks)
            # A state inside the last blocks of a scene would lose those that are being judged.
            if not shown and (ends or whole or time.monotonic() - last > _KEEP):
                self._keep(block.index + 1, result.state())
                last = time.monotonic()
                if ends:
                    return whole
        return True

    def _timed(self, loop: Iterator[BlockResult]) -> Iterator[tuple[BlockResult, float, float, float]]:
        """Each block with its seconds by the clock and by the processor, and those spent on updates of the queries."""
        watches = [Stopwatch(self.runtime.device)]
        with charged(Absorbing, "absorb", "update", lambda: watches[-1]):
            for result, wall, spent in _clocked(loop):
                yield result, wall, spent, watches.pop().read().get("update", 0.0) / 1000
                watches.append(Stopwatch(self.runtime.device))

    def _chapter(self, scene: int, latents: Tensor, held: int) -> Chapter:
        """Measures a scene by its last blocks."""
        running, span = self.running, self.timeline.spans[scene]
        pictures = self.backend.codec.decode(latents, None)[0].float().cpu()
        right = dict[str, bool | None].fromkeys(JUDGED)
        if self.backend.spec.name == TINY.name:
            seen, said = judge(pictures), sayings(scene + 1)[scene]
            right = {name: bool(getattr(seen, name)[0] == getattr(said, name)) for name in JUDGED}
        film = pictures[0]
        with output_errors(self.folder):
            Image.fromarray(as_bytes(film[len(film) // 2])).save(self.folder / f"scene-{scene + 1:04d}.png")
        red, green, blue = film.mean((0, 2, 3)).tolist()
        return Chapter(
            scene,
            hour_of(span, self.timeline.geometry),
            span.scene.prompt,
            running.blocks,
            span.pictures.stop,
            1000 * running.wall / running.blocks,
            1000 * running.processor / running.blocks,
            running.update / running.wall if running.update else None,
            held,
            resident("self"),
            **right,
            colourfulness=(red, green, blue),
            contrast=film.std().item(),
            sharpness=film.diff(dim=-1).abs().mean().item(),
            moving=film.diff(dim=0).abs().mean().item(),
            same_place=self._same_place(scene, background(film[::_STILLS])),
        )

    def _same_place(self, scene: int, place: Tensor) -> float | None:
        """How similar a place is to what it was in its first scene, whose picture is kept."""
        path = self.folder / f"place-{scene % PLACES + 1:04d}.png"
        if scene < PLACES:
            with output_errors(self.folder):
                Image.fromarray(as_bytes(place)).save(path)
            return None
        with Image.open(path) as image:
            first = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1) / 255
        return decibels(place, first).item()

    def _keep(self, blocks: int, state: Any) -> None:
        """The state first, then the report that names it; then the previous state is removed."""
        path = self.folder / f"state-{blocks:07d}.safetensors"
        stored = write_state(path, state)
        left = {
            "file": path.name,
            "blocks": blocks,
            "bytes": stored.bytes,
            "sha256": stored.sha256,
            "nest": stored.nest,
        }
        write_whole(
            self.folder / REPORT,
            json.dumps(
                {
                    "about": self.about,
                    "sittings": self.sittings,
                    "hours": hours(self.chapters),
                    "running": asdict(self.running),
                    "left": left,
                    "chapters": [asdict(chapter) for chapter in self.chapters],
                }
            )
            + "\n",
        )
        if self._state and self._state != path:
            self._state.unlink(missing_ok=True)
        self._state, self.begun = path, Begun(blocks, state)

    def sheet(self) -> Path:
        """A picture of each hour's scenes, an hour a row."""
        path = self.folder / "soak.png"
        shown = [
            np.asarray(Image.open(self.folder / f"scene-{chapter.scene + 1:04d}.png")) for chapter in self.chapters
        ]
        write_sheet(path, shown, PLACES, [f"{chapter.hour} h" for chapter in self.chapters])
        return path


def hours(chapters: list[Chapter]) -> list[dict[str, Any]]:
    """Hour by hour: means over its scenes, and how its pictures compare with those of the first hour in the same
    places."""
    first = {chapter.prompt: chapter for chapter in chapters if chapter.hour == 1}
    table = []
    for hour in sorted({chapter.hour for chapter in chapters}):
        these = [chapter for chapter in chapters if chapter.hour == hour]
        blocks = sum(chapter.blocks for chapter in these)

        def mean(name: str, these: list[Chapter] = these, blocks: int = blocks) -> float:
            return sum(getattr(chapter, name) * chapter.blocks for chapter in these) / blocks

        row: dict[str, Any] = {
            "hour": hour,
            "blocks": blocks,
            "block_ms": mean("block_ms"),
            "processor_ms": mean("processor_ms"),
            "update_share": mean("update_share") if these[0].update_share is not None else None,
            "bytes": max(chapter.bytes for chapter in these),
            "resident": max(chapter.resident for chapter in these),
        }
        judged = all(chapter.place is not None for chapter in these)
        row |= {
            f"{name}_right": sum(getattr(chapter, name) for chapter in these) / len(these) if judged else None
            for name in JUDGED
        }
        pairs = [(chapter, first[chapter.prompt]) for chapter in these if chapter.prompt in first]
        places = [chapter.same_place for chapter in these if chapter.same_place is not None]
        row["same_place"] = sum(places) / len(places) if places else None
        for name in ("contrast", "sharpness", "moving"):
            row[f"{name}_kept"] = sum(getattr(a, name) / max(1e-6, getattr(b, name)) for a, b in pairs) / max(
                1, len(pairs)
            )
        row["colour_moved"] = max(
            (abs(x - y) for a, b in pairs for x, y in zip(a.colourfulness, b.colourfulness, strict=True)), default=0.0
        )
        table.append({name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()})
    return table


def as_bytes(picture: Tensor) -> np.ndarray:
    return (picture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()


def _clocked(loop: Iterator[BlockResult]) -> Iterator[tuple[BlockResult, float, float]]:
    """Each item of `loop`, with its seconds by the clock and by the processor."""
    while True:
        clock, processor = time.perf_counter(), time.process_time()
        result = next(loop, None)
        if result is None:
            return
        yield result, time.perf_counter() - clock, time.process_time() - processor
