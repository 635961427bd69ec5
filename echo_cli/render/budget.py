"""What a film will need of the device's memory: reported before anything is loaded, and refused if it cannot fit.

Counts what will be allocated by allocating it on the meta device. What is needed temporarily while a block is computed
or decoded is estimated, generously.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from echo_cli.eight import EightBitLayers
from echo_cli.errors import OutOfMemory
from echo_cli.memory.policies import make_policy
from echo_cli.memory.policies.base import Memory
from echo_cli.memory.store import Placement
from echo_cli.models.files.eight_bits import EightBits, measured
from echo_cli.models.loaders import family_of, locate
from echo_cli.models.running import Offload, Pictures, Running
from echo_cli.models.transformer import Transformer
from echo_cli.models.tuning import eight_bit_layers
from echo_cli.render.job import Job
from echo_cli.runtime import Runtime
from echo_cli.spec import ModelSpec
from echo_cli.storyboard.matching import Recall, recalls_in, similarities
from echo_cli.storyboard.series import KEYFRAMES, read_scenes
from echo_cli.text import size

WORTH_TELLING = 10**9


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes of the device, by what they are for. `frames`, `layers` and part of the rest may be offloaded."""

    layers: int  # the transformer's
    visiting: int  # those of them that are there at once, if the others wait on the host
    rest: int  # of the transformer
    frames: int  # remembered, as they were made
    window: int  # the same frames as attention sees them, and what memory keeps beside them
    codec: int  # its weights, and what it remembers of a stream
    passing: int  # what computing a block needs temporarily
    decoding: int  # what decoding a block needs temporarily
    library: int  # finished scenes, of this film and of others; they always wait on the host
    apart: bool = False  # the codec is on a device of its own

    def on_device(self, offload: Offload) -> int:
        layers = self.visiting if offload is Offload.LAYERS else self.layers
        frames = 0 if offload in (Offload.MEMORY, Offload.LAYERS) else self.frames
        codec = 0 if self.apart else self.codec + self.decoding
        return layers + self.rest + frames + self.window + self.passing + codec

    def on_second(self) -> int:
        return self.codec + self.decoding

    def described(self, offload: Offload) -> str:
        parts = {
            "the transformer": self.layers + self.rest,
            "remembered frames": self.frames,
            "the window": self.window,
            "computing": self.passing if self.apart else self.passing + self.decoding,
        } | ({} if self.apart else {"the codec": self.codec})
        if self.library:
            parts["finished scenes on the host"] = self.library
        away = {Offload.MEMORY: "; remembered frames wait on the host",
                Offload.LAYERS: "; remembered frames and the transformer's layers wait on the host"}.get(offload, "")
        return ", ".join(f"{size(count)} {what}" for what, count in parts.items()) + away


def room_for(job: Job, spec: ModelSpec, runtime: Runtime, running: Running) -> Room:
    size, grid = runtime.dtype.itemsize, spec.grid(job.size)
    with torch.device("meta"):
        transformer = Transformer(spec)
    total, layers = (sum(weight.numel() for weight in part.parameters()) * size
                     for part in (transformer, transformer.blocks))
    policy = make_policy(job.policy, job.settings, spec, job.whole, _recalls(job), lasting=job.lasting)
    located = locate(job.model, job.generator_file)
    eight = _eight_bits(measured(located.folder, spec.depth), spec, runtime) if running.fast else None
    memory = policy.allocate(Placement(grid, torch.device("meta"), runtime.dtype, eight=eight))
    store = memory.store
    window = store.bytes - store.frame_bytes + memory.bytes - memory.host_bytes
    library = memory.host_bytes + _outlasting(job, memory)
    prompt = 4 * spec.depth * spec.text_len * spec.width * size  # the old scene's keys and values, and the new one's
    block = spec.block_frames * grid.tokens * (3 * spec.ffn + 20 * spec.width) * size
    passing = prompt + max(block, memory.passing_bytes)
    codec, decoding = family_of(located).decoding_bytes(located, grid, size, running.pictures)
    return Room(
        layers,
        min(2 * layers // spec.depth, layers),
        total - layers,
        store.frame_bytes,
        window,
        codec,
        passing,
        decoding,
        library,
        runtime.second is not None,
    )


def _eight_bits(result: EightBits | None, spec: ModelSpec, runtime: Runtime) -> EightBitLayers | None:
    """The layers that attend in eight bits, for which memory keeps the window in eight bits too."""
    layers, _, _ = eight_bit_layers(result, runtime.device, runtime.dtype)
    return EightBitLayers(layers, *torch.empty(2, len(layers), spec.heads, device="meta")) if layers else None


def _outlasting(job: Job, memory: Memory) -> int:
    """Bytes of the host for scenes that outlast their film: the frames that are collected for later films and, while a
    scene closes, a copy of them; and the scenes of other films that come in, in sixteen bits, until the policy has
    taken them."""
    frame = 2 * memory.store.frame_values * memory.store.keys.element_size()
    wanted = {recall.scene for recall in memory.recalls.values()}
    past = job.whole.past
    numbers = {scene.name: number for number, scene in enumerate(past, -len(past))}
    files = [read_scenes(job.storyboard.file(series.path)) for series in job.storyboard.series] if wanted else []
    coming = sum(16 // file.description.bits * file.size_of(index) for file in files
                 for index, scene in enumerate(file.past) if numbers[scene.name] in wanted)
    return coming + (2 * KEYFRAMES * frame if job.kept else 0)


def _recalls(job: Job) -> dict[int, Recall]:
    """What the film will recall; if embeddings decide, by words, since no text encoder is loaded yet."""
    timeline, recalling = job.whole, job.settings.recalling
    if recalling is None or recalling.match == "embedding":
        return recalls_in(timeline, similarities(timeline.prompts), 1)
    return recalls_in(timeline, similarities(timeline.prompts, recalling.match), recalling.library, recalling.least)


def choose(job: Job, spec: ModelSpec, runtime: Runtime, running: Running,
           worth: int = WORTH_TELLING) -> tuple[Running, str | None]:
    """How to run so that the film fits, and a line about it if it needs `worth` bytes; an OutOfMemory if it cannot."""
    located = locate(job.model, job.generator_file)
    if not family_of(located).is_here(located):
        return running, None  # loading it will say that it is missing
    room, free = room_for(job, spec, runtime, running), free_bytes(runtime.device)
    if runtime.second is not None:
        _check_second(room, runtime.second)
    if runtime.device.type != "cpu":
        _check_host(room)
    where = "this machine" if runtime.device.type == "cpu" else str(runtime.device)
    for offload in _tried(runtime, running.offload):
        needed = room.on_device(offload) + (room.library if runtime.device.type == "cpu" else 0)
        if free is None or needed <= free:
            known = f" of {size(free)} free" if free is not None else ""
            note = f"memory: needs about {size(needed)}{known} on {where} ({room.described(offload)})"
            return replace(running, offload=offload), note if needed >= worth else None
    raise OutOfMemory(
        f"this film needs about {size(needed)} on {where}, which has {size(free or 0)} free "
        f"({room.described(offload)})",
        f"Use a smaller --size{_remedies(runtime, running)}, or a smaller memory "
        "(--set memory.window=…, --memory window).",
    )


def _check_second(room: Room, device: torch.device) -> None:
    needed, free = room.on_second(), free_bytes(device)
    if free is not None and needed > free:
        raise OutOfMemory(f"decoding needs about {size(needed)} on {device}, which has {size(free)} free",
                          "Use a smaller --size, --decoder fast, or another GPU.")


def _check_host(room: Room) -> None:
    free = free_host()
    if free is not None and room.library > free:
        raise OutOfMemory(f"the scenes that this film recalls need about {size(room.library)} on the host, which has "
                          f"{size(free)} free",
                          "Recall fewer scenes at a time, or keep fewer frames of each (--set memory.keyframes=3).")


def _tried(runtime: Runtime, wanted: Offload) -> Iterator[Offload]:
    if wanted is not Offload.AUTO:
        yield wanted
    else:
        yield Offload.NONE
        if runtime.device.type != "cpu":
            yield from (Offload.MEMORY, Offload.LAYERS)


def _remedies(runtime: Runtime, running: Running) -> str:
    words = [", --dtype bfloat16"] if runtime.dtype is torch.float32 else []
    words += [", --decoder fast"] if running.pictures is Pictures.FULL else []
    words += (
        [", --offload auto"]
        if running.offload in (Offload.NONE, Offload.MEMORY) and runtime.device.type != "cpu"
        else []
    )
    return "".join(words)


def free_bytes(device: torch.device) -> int | None:
    """What a device has left, including what torch holds unused; None if unknown."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return free_host()


def free_host(proc: Path = Path("/proc/meminfo"), group: Path = Path("/sys/fs/cgroup")) -> int | None:
    """What the machine has left, or its container if that is less."""
    free = []
    try:
        lines = dict(line.split(":", 1) for line in proc.read_text().splitlines())
        free.append(int(lines["MemAvailable"].split()[0]) * 1024)
    except (OSError, ValueError, KeyError, IndexError):
        pass
    try:
        most, now = ((group / name).read_text().strip() for name in ("memory.max", "memory.current"))
        reclaimable = dict(line.split() for line in (group / "memory.stat").read_text().splitlines()).get(
            "inactive_file", "0"
        )
        if most != "max":
            free.append(int(most) - int(now) + int(reclaimable))
    except (OSError, ValueError):
        pass
    return min(free, default=None)
