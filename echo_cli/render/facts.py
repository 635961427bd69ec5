"""The header of a trace, and what a manifest holds beside the film's identity. Decides nothing."""

import platform
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import torch

from echo_cli import __version__
from echo_cli.models.backend import Backend
from echo_cli.models.tuning import attention_name
from echo_cli.render.job import Job
from echo_cli.render.made import Made
from echo_cli.render.manifest import BEGINS, Identity
from echo_cli.render.openings import thumbnail
from echo_cli.render.outputs import readable_name
from echo_cli.render.states import begins
from echo_cli.runtime import Runtime
from echo_cli.storyboard.canonical import storyboard_hash
from echo_cli.storyboard.nouns import CONTINUE, SOUNDTRACK
from echo_cli.trace.records import (
    DeviceFacts,
    FilmFacts,
    Header,
    ModelFacts,
    OpeningFacts,
    PastFacts,
    PolicyFacts,
    StoryboardFacts,
    scene_facts,
)

DECISIVE = ("device", "dtype", "torch", "compiled", "attention")  # of a machine: what must be as it was to resume

def header(job: Job, backend: Backend, runtime: Runtime) -> Header:
    """The header of the trace."""
    board, geometry, grid = job.storyboard, job.timeline.geometry, backend.spec.grid(job.size)
    width, height = (side * job.scale for side in job.size)
    return Header("echo-cli", __version__, job.seed,
                  StoryboardFacts(board.title or "", readable_name(board.source), storyboard_hash(board)),
                  ModelFacts(backend.spec.name, backend.spec.depth, grid.rows, grid.cols), _device(runtime),
                  PolicyFacts(job.policy, asdict(job.settings)),
                  FilmFacts(width, height, geometry.fps, job.timeline.pictures, geometry.block_frames,
                            geometry.frame_pictures, None if job.outputs.film.encoder else job.outputs.film.path.name,
                            geometry.ahead),
                  scene_facts(job.timeline, dict(_openings(job))),
                  tuple(PastFacts(scene.name, scene.prompt) for scene in job.timeline.past))


def _openings(job: Job) -> Iterator[tuple[str, OpeningFacts]]:
    """What scenes begin with, by their ids; the first one, perhaps, with the film that it continues."""
    for each in job.inputs:
        if (each.scene and each.what != SOUNDTRACK) or each.what == CONTINUE:
            yield (each.scene or job.timeline.scenes[0].id,
                   OpeningFacts(each.what, each.path, each.sha256, thumbnail(job, each)))


def manifest_facts(job: Job, identity: Identity, runtime: Runtime, made: Made, started: str) -> dict[str, Any]:
    """What is worth keeping, but is never compared."""
    geometry, blocks = job.timeline.geometry, len(job.timeline.blocks)
    width, height = (side * job.scale for side in job.size)
    return {
        BEGINS: begins(job, identity),
        "title": job.storyboard.title,
        "source": readable_name(job.storyboard.source),
        **({"generator": readable_name(job.generator_file.name)} if job.generator_file else {}),
        "film": {
            "pictures": made.pictures,
            "seconds": made.seconds,
            "fps": geometry.fps,
            "width": width,
            "height": height,
            "blocks": blocks,
            "frames": blocks * geometry.block_frames,
        },
        "device": asdict(_device(runtime)),
        "versions": {"echo": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "timings": {
            "started": started,
            "sittings": made.sittings,
            "reused_blocks": made.reused,
            "wall_seconds": round(made.wall_seconds, 3),
            "sitting_seconds": round(made.sitting_seconds, 3),
            "loading_seconds": round(made.loading_seconds, 3),
            **{f"{part}_seconds": round(spent / 1000, 3) for part, spent in made.times._asdict().items()},
        },
    }


def machine(job: Job, runtime: Runtime) -> dict[str, Any]:
    """What affects the bits of a film besides its identity: what is DECISIVE must match, the others are adapted."""
    cuda = runtime.device.type == "cuda"
    return {
        "device": runtime.device.type,
        "dtype": str(runtime.dtype).removeprefix("torch."),
        "torch": torch.__version__,
        "compiled": cuda if job.running.compiled is None else job.running.compiled,
        "attention": attention_name(runtime.device, runtime.dtype),
        "threads": torch.get_num_threads(),
        "processor": torch.cuda.get_device_name(runtime.device) if cuda else torch.backends.cpu.get_cpu_capability(),
    }


def _device(runtime: Runtime) -> DeviceFacts:
    name = (
        torch.cuda.get_device_name(runtime.device) if runtime.device.type == "cuda" else f"cpu ({platform.machine()})"
    )
    return DeviceFacts(name, str(runtime.dtype).removeprefix("torch."))
