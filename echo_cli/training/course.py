"""The course: from nothing to the shipped weights, one stage after the other, in one folder that can be resumed.

Sizes of runs are rows of `PRESETS`. Every stage writes its losses as CSV, a checkpoint and a contact sheet; the last
writes the weights as the package has them. Knows nothing of terminals: the caller watches and can stop it.
"""

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import nn

from echo_cli.errors import UsageError
from echo_cli.files import sha256
from echo_cli.models.backend import Backend
from echo_cli.models.queries.weights import save_queries
from echo_cli.models.tiny.model import load, load_codec, save_index, save_part
from echo_cli.models.tiny.parts import EXTRAS, PARTS, WEIGHTS, index, part_path
from echo_cli.models.tiny.text import WordTextEncoder
from echo_cli.runtime import Runtime
from echo_cli.spec import INDEX, TINY
from echo_cli.training.codec_stage import CodecPlan, CodecStage
from echo_cli.training.decoder_stage import DecoderPlan, DecoderStage
from echo_cli.training.distill import Distiller, DistillPlan, Pair
from echo_cli.training.eye_stage import EyePlan, EyeStage
from echo_cli.training.loop import Budget, Learner, Losses, Progress, run
from echo_cli.training.motion_stage import MOVING, MotionPlan, MotionStage
from echo_cli.training.pool import Pool
from echo_cli.training.remember import MemoryPlan, Remembering, figures
from echo_cli.training.sheets import codec_sheet, film_sheet
from echo_cli.training.shelf import ShelfPlan
from echo_cli.training.steady import Steadying, SteadyPlan
from echo_cli.training.teacher import CURRICULUM, Pupil, Teacher, TeacherPlan
from echo_cli.world import eye

STAGES = ("codec", "pool", "teacher", "polish", "distill", "steady", "decoder", "motion", "memory", "eye")


@dataclass(frozen=True)
class Preset:
    """How large a run is. Steps are limits, not targets: any stage can be given minutes instead."""

    codec: CodecPlan
    codec_steps: int
    pool_stories: int  # in a shard
    teacher: TeacherPlan
    teacher_steps: int
    polish: TeacherPlan
    polish_steps: int
    distill: DistillPlan
    distill_steps: int
    steady: SteadyPlan
    steady_steps: int
    eye: EyePlan
    eye_steps: int
    decoder: DecoderPlan
    decoder_steps: int
    motion: MotionPlan
    motion_steps: int
    memory: MemoryPlan = MemoryPlan()
    memory_steps: int = 180


def polishing(plan: TeacherPlan) -> TeacherPlan:
    """The second half of the teacher's training: whole films from the start, at a low rate, with more weight on the
    subject, above all on one that bounces."""
    return replace(plan, rate=plan.rate / 2, small_rate=plan.small_rate / 2, skipped=CURRICULUM[-1][0], subject=10.0,
                   hops=0.2)


PRESETS: dict[str, Preset] = {
    "cpu": Preset(codec=CodecPlan(), codec_steps=2900, pool_stories=64, teacher=TeacherPlan(), teacher_steps=2600,
                  polish=polishing(TeacherPlan(shards=32, first_shards=20)), polish_steps=2000,
                  distill=DistillPlan(batch=12), distill_steps=500, steady=SteadyPlan(), steady_steps=2000,
                  decoder=DecoderPlan(), decoder_steps=3000, motion=MotionPlan(), motion_steps=5600,
                  eye=EyePlan(), eye_steps=1000),
    "gpu": Preset(codec=CodecPlan(batch=32), codec_steps=20_000, pool_stories=512,
                  teacher=TeacherPlan(batch=512, shards=48, first_shards=8, shard_every=12), teacher_steps=20_000,
                  polish=polishing(TeacherPlan(batch=512, shards=48, first_shards=8, shard_every=12)),
                  polish_steps=10_000, distill=DistillPlan(batch=192, shards=48), distill_steps=2500,
                  steady=SteadyPlan(batch=256, shards=48), steady_steps=2500,
                  decoder=DecoderPlan(batch=32, shelf=ShelfPlan(stories=64, chapters=8, steps_each=48)),
                  decoder_steps=20_000,
                  motion=MotionPlan(batch=32, shelf=replace(MOVING, stories=64, chapters=6, steps_each=48)),
                  motion_steps=6000,
                  eye=EyePlan(batch=192, groups=48), eye_steps=3000, memory=MemoryPlan(batch=24), memory_steps=400),
    "mini": Preset(codec=CodecPlan(batch=2), codec_steps=4, pool_stories=4,
                   teacher=TeacherPlan(batch=2, shards=1, first_shards=1), teacher_steps=6,
                   polish=polishing(TeacherPlan(batch=2, shards=1, first_shards=1)), polish_steps=3,
                   distill=DistillPlan(batch=2, shards=1), distill_steps=3,
                   steady=SteadyPlan(batch=2, shards=1), steady_steps=3,
                   eye=EyePlan(batch=4, groups=2, chapters=2, steps_each=2), eye_steps=3,
                   decoder=DecoderPlan(batch=2, shelf=ShelfPlan(stories=1, chapters=1, steps_each=2)), decoder_steps=3,
                   motion=MotionPlan(batch=2, shelf=replace(MOVING, stories=1, chapters=1)), motion_steps=3,
                   memory=MemoryPlan(queries=2, batch=2, lessons=2), memory_steps=2),
}


@dataclass(frozen=True)
class Watch:
    """The caller of the course: it is called after every step, and asked whether to stop."""

    report: Callable[[Progress], None]
    stop: Callable[[], bool]


class Course:
    """A run in `folder`: `stage` runs or resumes one stage, and says whether it finished. With weights to `start` from,
    their codec is kept and the teacher is not trained from nothing."""

    def __init__(self, folder: Path, preset: str, seed: int, runtime: Runtime, watch: Watch,
                 minutes: dict[str, float] | None = None, start: Path | None = None) -> None:
        self.folder, self.name, self.seed, self.watch = folder, preset, seed, watch
        self.device, self.dtype = runtime.device, runtime.dtype
        self.preset, self.minutes, self.start = PRESETS[preset], minutes or {}, start

    def stage(self, name: str) -> bool:
        return {"codec": self._codec, "pool": self._pool, "teacher": self._teacher, "polish": self._polish,
                "distill": self._distill, "steady": self._steady, "decoder": self._decoder, "motion": self._motion,
                "memory": self._memory, "eye": self._eye}[name]()

    @property
    def weights(self) -> Path:
        return self.folder / "weights"

    def facts(self) -> dict:
        """How these weights were made."""
        preset = self.preset
        return {
            "preset": self.name,
            "seed": self.seed,
            "ran": self._ran(),
            "commit": _commit(),
            "torch": torch.__version__,
            "device": self.device.type,
            "dtype": str(self.dtype).removeprefix("torch."),
            "codec": asdict(preset.codec),
            "teacher": asdict(preset.teacher),
            "polish": asdict(preset.polish),
            "distill": asdict(preset.distill),
            "steady": asdict(preset.steady),
            "decoder": asdict(preset.decoder),
            "motion": asdict(preset.motion),
            **({"started from": index(self.start)["sha256"]} if self.start else {}),
        }

    def _ran(self) -> dict[str, dict[str, float]]:
        """How far each stage has got, and in how many minutes."""
        losses_of = {stage: Losses(self.folder / f"{stage}.csv").rows for stage in STAGES}
        return {stage: {"steps": int(rows[-1]["step"]), "minutes": round(float(rows[-1]["seconds"]) / 60, 1)}
                for stage, rows in losses_of.items() if rows}

    def _codec(self) -> bool:
        if part_path(self.weights, "codec").exists():
            return True
        if self.start:
            self.weights.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(part_path(self.start, "codec"), part_path(self.weights, "codec"))
            return True
        stage = CodecStage(self.preset.codec, self.seed, self.device, self.dtype)
        if not self._run("codec", stage.learner, stage.advance, self.preset.codec_steps):
            return False
        codec = stage.finished()
        save_part(self.weights, "codec", codec, self.facts())
        codec_sheet(codec, self.folder / "codec.png")
        return True

    def pool(self) -> Pool:
        path = part_path(self.weights, "codec")
        if not path.exists():
            raise UsageError(f"{path}: there is no codec yet",
                             hint="Train it first with `echo-cli train --stage codec`.")
        return Pool(self.folder / "pool", load_codec(path, self.device), self.seed, self.preset.pool_stories)

    def _pool(self) -> bool:
        pool, preset = self.pool(), self.preset
        shards = max(plan.shards for plan in (preset.teacher, preset.polish, preset.distill, preset.steady))
        for number in range(shards):
            if self.watch.stop():
                return False
            pool.shard(number)
            self.watch.report(Progress("pool", number + 1, (number + 1) / shards, 0.0, {}))
        return True

    def _teacher(self) -> bool:
        if self.start:
            return True
        return self._teach("teacher", self.preset.teacher, self.preset.teacher_steps, None)

    def _polish(self) -> bool:
        return self._teach("polish", self.preset.polish, self.preset.polish_steps, self._taught("teacher"))

    def _teach(self, name: str, plan: TeacherPlan, steps: int, taught: Pupil | None) -> bool:
        teacher = Teacher(TINY, plan, self.seed, self.pool(), self.device, self.dtype, taught)
        if not self._run(name, teacher.learner, teacher.advance, steps):
            return False
        teacher.pupil.load_state_dict(teacher.learner.average)
        self._publish(teacher.pupil, name)  # films already, if blurred
        return True

    def _taught(self, stage: str) -> Pupil:
        if self.start and stage == "teacher":
            return self._graduate(self.start)
        path = self.folder / f"{stage}.pt"
        if not path.exists():
            raise UsageError(
                f"{path}: there is no trained transformer yet", hint=f"Run `echo-cli train --stage {stage}` first."
            )
        taught = Pupil(TINY)
        taught.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["average"])
        return taught

    def _graduate(self, folder: Path) -> Pupil:
        """A pupil with the weights in a folder; only its judgement of what its middle layer sees is untrained."""
        known, pupil = load(Runtime(torch.device("cpu"), torch.float32), folder), Pupil(TINY)
        pupil.transformer.load_state_dict(known.transformer.state_dict())
        assert isinstance(known.text, WordTextEncoder)
        pupil.words.load_state_dict(known.text.state_dict())
        return pupil

    def _distill(self) -> bool:
        taught = self._taught("polish")
        distiller = Distiller(TINY, self.preset.distill, self.seed, self.pool(), taught, self.device, self.dtype)
        if not self._run("distill", distiller.learner, distiller.advance, self.preset.distill_steps):
            return False
        distiller.pair.load_state_dict(distiller.learner.average)
        self._publish(distiller.pair.student, "distill")
        return True

    def _steady(self) -> bool:
        distilled = self._distilled()
        stage = Steadying(TINY, self.preset.steady, self.seed, self.pool(), distilled, self.device, self.dtype)
        if not self._run("steady", stage.learner, stage.advance, self.preset.steady_steps):
            return False
        stage.pupil.load_state_dict(stage.learner.average)
        self._publish(stage.pupil, "steady")
        return True

    def _distilled(self) -> Pupil:
        """The student of this run or, in a run that has distilled none, that of the weights it starts from."""
        path = self.folder / "distill.pt"
        if path.exists():
            pair = Pair(Pupil(TINY))
            pair.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["average"])
            return pair.student
        if self.start:
            return self._graduate(self.start)
        raise UsageError(f"{path}: there is no distilled transformer yet",
                         hint="Run `echo-cli train --stage distill` first.")

    def _decoder(self) -> bool:
        """A sharper decoder for the same latents, trained on the encoder's latents and on the transformer's."""
        stage = DecoderStage(self.preset.decoder, self.seed, self._drawing(), self.device)
        return self._redrawn("decoder", stage, self.preset.decoder_steps)

    def _motion(self) -> bool:
        """The decoder learns to move what bounces."""
        stage = MotionStage(self.preset.motion, self.seed, self._drawing(), self.device, self.dtype)
        return self._redrawn("motion", stage, self.preset.motion_steps)

    def _drawing(self) -> Backend:
        """The model whose decoder is to be trained: this run's or, in a run that has none, the one it starts from."""
        if not (self.weights / INDEX).exists() and self.start:
            self._copy(self.start)
        if not (self.weights / INDEX).exists():
            raise UsageError(
                f"{self.weights}: no transformer here yet",
                hint="Train it first: echo-cli train --stage distill. Or start from other weights: --from tiny."
            )
        return load(Runtime(self.device, torch.float32), self.weights)

    def _redrawn(self, name: str, stage: DecoderStage | MotionStage, steps: int) -> bool:
        """A stage that changes the decoder only."""
        if not self._run(name, stage.learner, stage.advance, steps):
            return False
        # What was measured was measured of the decoder before.
        facts = {name: value for name, value in index(self.weights).items()
                 if name not in ("model", "sha256", "measured")}
        codec = stage.finished()
        save_part(self.weights, "codec", codec, self.facts())
        save_index(self.weights, {**facts, "trained": self.facts()})
        codec_sheet(codec, self.folder / f"{name}.png")
        return True

    def _memory(self) -> bool:
        """Queries for the weights of this run or, in a folder without weights, for those of the package."""
        if not (self.weights / INDEX).exists():
            if part_path(self.weights, "codec").exists():
                raise UsageError(
                    f"{self.weights}: there is no transformer yet",
                    hint="Train it first with `echo-cli train --stage teacher`."
                )
            self._copy(WEIGHTS)
        record = {name: value for name, value in index(self.weights).items() if name not in ("model", "sha256")}
        save_index(self.weights, record)
        stage = Remembering(
            self.preset.memory, self.seed, load(Runtime(self.device, torch.float32), self.weights), self.device
        )
        if not self._run("memory", stage.learner, stage.advance, self.preset.memory_steps):
            return False
        stage.queries.load_state_dict(stage.learner.average)
        facts = {"preset": self.name, "seed": self.seed, "minutes": self.minutes.get("memory"), "commit": _commit(),
                 "torch": torch.__version__, "device": self.device.type, "steps": stage.learner.step,
                 "plan": asdict(self.preset.memory), **figures(self.folder / "memory.csv")}
        save_queries(self.weights, stage.queries, sha256(part_path(self.weights, "transformer")), facts)
        save_index(self.weights, {**record, "memory": facts})
        return True

    def _copy(self, folder: Path) -> None:
        """Begins with the weights in another folder."""
        self.weights.mkdir(parents=True, exist_ok=True)
        for part in (*PARTS, *EXTRAS):
            if (path := part_path(folder, part)).exists():
                shutil.copyfile(path, part_path(self.weights, part))
        shutil.copyfile(folder / INDEX, self.weights / INDEX)

    def _eye(self) -> bool:
        """The judge of films: beside the weights that it judges, not among them."""
        stage = EyeStage(self.preset.eye, self.seed, self.pool().codec, self.device)
        if not self._run("eye", stage.learner, stage.advance, self.preset.eye_steps):
            return False
        eye.save_eye(
            self.folder / "eye",
            stage.finished(),
            {
                "preset": self.name,
                "seed": self.seed,
                "minutes": self.minutes.get("eye"),
                "commit": _commit(),
                "torch": torch.__version__,
                "device": self.device.type,
                "steps": stage.learner.step,
                "eye": asdict(self.preset.eye),
                "codec": sha256(part_path(self.weights, "codec")),
            },
        )
        return True

    def _run(self, name: str, learner: Learner, advance: Callable, steps: int) -> bool:
        budget = Budget(steps, self.minutes.get(name))
        return run(name, learner, advance, budget, self.folder, self.watch.report, self.watch.stop)

    def _publish(self, pupil: Pupil, stage: str) -> None:
        """Writes complete weights, and a sheet of films rendered with them."""
        parts: dict[str, nn.Module] = {"transformer": pupil.transformer, "words": pupil.words}
        for part, module in parts.items():
            save_part(self.weights, part, module, self.facts())
        save_index(self.weights, {"stage": stage, "trained": self.facts()})
        film_sheet(load(Runtime(self.device, torch.float32), self.weights), self.folder / f"{stage}.png")


def _commit() -> str | None:
    """The commit of the source, if it is a checkout."""
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True)
    except OSError:  # no git here
        return None
    return commit.stdout.strip() or None if commit.returncode == 0 else None
