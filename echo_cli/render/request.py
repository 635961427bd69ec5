"""Every option of a film, one annotated field for each: for `generate`, `batch` and the Python API.

To add an option, add a field. A request holds only what was asked for; `prepare` combines it with a storyboard. No
torch here.
"""

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from echo_cli.errors import UsageError
from echo_cli.files import sha256
from echo_cli.memory.table import POLICIES
from echo_cli.models.running import Offload, Pictures, Running
from echo_cli.render.assignments import assignments
from echo_cli.render.options import Decides, Option, Options, Panel, absolute, joined
from echo_cli.render.signals import GRACE
from echo_cli.storyboard.nouns import SEEDS, Storyboard
from echo_cli.storyboard.sizes import read_size
from echo_cli.video.encoding import CONTAINERS, MP4, NAMED, Encoding, codec_named
from echo_cli.video.target import Movie, Target

DTYPES = ("auto", "float32", "bfloat16", "float16")
MOST_ENLARGED = 16
STORYBOARD = "A Storyboard, or the path of a file that holds one; - reads standard input."  # in Python

KeptStates = Annotated[Literal["none", "last", "all"], Option(
    help="Keep states of the memory beside a finished film, so that an edited film reuses what has not changed: those "
         "at the last scene's beginning and end, at every scene's, or none.", panel=Panel.INTERRUPTION)]


def picture_size(size: Any) -> tuple[int, int]:
    """Width and height in pixels, also from text such as 832x480."""
    if isinstance(size, Sequence) and not isinstance(size, str) and len(size) == 2:
        size = "x".join(map(str, size))
    try:
        return read_size(str(size))
    except ValueError as error:
        raise UsageError(f"--size {error}", "Write a size such as 832x480.") from None


def _scale(times: int) -> int:
    if not 1 <= times <= MOST_ENLARGED:
        raise UsageError(f"--scale {times}: pictures can be enlarged 1 to {MOST_ENLARGED} times", "Try --scale 4.")
    return times


def _device(name: str) -> str:
    """Checks the spelling; whether this machine has the device is checked when a film needs it."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?|cuda(:\d+)?,cuda:\d+", name):
        raise UsageError(f"no device is called '{name}'",
                         "Use auto, cpu, cuda, cuda:N, or cuda:N,cuda:M to decode on a second GPU.")
    return name


def _dtype(name: str) -> str:
    if name not in DTYPES:
        raise UsageError(f"no dtype is called '{name}'", f"Use {', '.join(DTYPES)}.")
    return name


def bytes_of(text: str) -> int:
    """20GB, 500 MB or 1e9 in bytes; a ValueError for anything else."""
    match = re.fullmatch(r"\s*([\d.]+(?:e\d+)?)\s*([kMGT]?)B?\s*", text, re.IGNORECASE)
    if match is None:
        raise ValueError(text)
    size = float(match[1]) * 1000 ** ("", "k", "m", "g", "t").index(match[2].lower())
    if size == math.inf:
        raise ValueError(text)
    return int(size)


def _room(room: Any) -> str:
    try:
        bytes_of(str(room))
    except ValueError:
        raise UsageError(f"--keep-room {room}: not a size", "Write a size such as 20GB or 500MB.") from None
    return str(room)


def _hash_of(option: str, path: str, hint: str) -> str:
    """The sha256 of a file that an option names: the same file in another place makes the same film."""
    try:
        return sha256(Path(path))
    except OSError as error:
        raise UsageError(f"{option} {path}: {error.strerror}", hint) from None


@dataclass(frozen=True, kw_only=True)
class PictureOptions(Options):
    """What decides the pictures, and what rendering them costs."""

    seed: Annotated[int | None, Option(
        help=f"Seed of the noise, instead of the storyboard's; {SEEDS[0]} to {SEEDS[1]}.", panel=Panel.STORYBOARD,
        metavar="N", within=SEEDS, storyboard=True)] = None
    model: Annotated[str | None, Option(
        help="Model, by name or folder, instead of the storyboard's.", panel=Panel.STORYBOARD, metavar="NAME",
        complete="models", decides=Decides.FILM, storyboard=True,
        beside=lambda model, folder: joined(model, folder) if os.path.isdir(joined(model, folder)) else model,
        write=lambda model: absolute(model) if os.path.isdir(model) else model)] = None
    generator: Annotated[str | os.PathLike[str] | None, Option(
        help="Use the generator in this file (.pt, .safetensors) instead of the model's own.", panel=Panel.STORYBOARD,
        metavar="FILE", read=absolute, beside=joined)] = None
    memory: Annotated[str | None, Option(
        help=f"Memory policy, instead of the storyboard's: {', '.join(POLICIES)}.", panel=Panel.MEMORY,
        metavar="POLICY", complete="policies", decides=Decides.FILM, storyboard=True)] = None
    settings: Annotated[Mapping[str, Any] | Sequence[str], Option(
        help="A setting of the memory, such as memory.recent_frames=3; may be repeated.",
        python_help="Settings of the memory: a mapping such as {'recent_frames': 3}, or a list of NAME=VALUE.",
        panel=Panel.MEMORY,
        flags=("--set",), metavar="NAME=VALUE", read=assignments, storyboard=True)] = ()
    size: Annotated[tuple[int, int] | None, Option(
        help="Size of the model's pictures.", panel=Panel.PICTURE, metavar="WxH", read=picture_size, text=True,
        write=lambda size: "x".join(map(str, size)), decides=Decides.FILM, storyboard=True)] = None
    device: Annotated[str, Option(
        help="auto, cpu, cuda or cuda:N; cuda:N,cuda:M decodes on a second GPU.", panel=Panel.MACHINE,
        metavar="NAME", read=_device)] = "auto"
    dtype: Annotated[str, Option(
        help="auto, float32, bfloat16 or float16.", panel=Panel.MACHINE, metavar="NAME", read=_dtype,
        decides=Decides.FILM)] = "auto"
    decoder: Annotated[Literal["full", "light", "fast"], Option(
        help="Decoder of a large model: its own codec, or a light or fast one whose weights are beside it.",
        panel=Panel.MACHINE, decides=Decides.FILM_IF_CHANGED)] = "full"
    fast: Annotated[bool, Option(
        help="Compute a large model in 8 bits: linear layers, and attention where `bench fast --keep` allows it.",
        panel=Panel.MACHINE, decides=Decides.FILM_IF_CHANGED)] = False
    offload: Annotated[Literal["auto", "none", "memory", "layers"], Option(
        help="Keep on the host until needed: nothing, remembered frames (memory), or these and a large model's "
             "layers; auto: as little as possible.", panel=Panel.MACHINE)] = "auto"
    compile: Annotated[bool | None, Option(
        help="Compile a large model first; by default, on a GPU.", panel=Panel.MACHINE,
        flags=("--compile/--no-compile",))] = None

    @property
    def running(self) -> Running:
        return Running(Pictures(self.decoder), self.fast, Offload(self.offload), self.compile)


@dataclass(frozen=True)
class BlocksRequest(PictureOptions):
    """A film that is looked at block by block, and not written."""

    storyboard: Annotated[str | os.PathLike[str] | Storyboard, Option(
        help="A YAML file; - reads standard input.", python_help=STORYBOARD, panel=Panel.STORYBOARD,
        argument=True, metavar="STORYBOARD")]

    def film(self) -> "Request":
        """The film of these blocks, as if it were written."""
        return Request(self.storyboard, "-", **{field.name: value for field, value in self.values()
                                                if field.name != "storyboard"})


@dataclass(frozen=True, kw_only=True)
class FilmOptions(PictureOptions):
    """More options of a film that is written, alone or in a batch."""

    scale: Annotated[int | None, Option(
        help="Enlarge the model's pictures (--size) N times; by default, until the short side is at least 480 px.",
        panel=Panel.PICTURE, metavar="N", read=_scale, decides=Decides.FILM)] = None
    subtitles: Annotated[Literal["none", "srt", "burn"] | None, Option(
        help="Write an srt file beside the film, burn them in, or none; by default, srt if a scene has one.",
        panel=Panel.PICTURE, decides=Decides.FILM)] = None
    font: Annotated[str | os.PathLike[str] | None, Option(
        help="Draw burned-in subtitles with the font in this file.", panel=Panel.PICTURE, metavar="FILE",
        read=absolute, beside=joined, decides=Decides.FILM_IF_CHANGED,
        identify=lambda path: _hash_of("--font", path, "Name a TrueType or OpenType file."))] = None
    audio: Annotated[str | os.PathLike[str] | None, Option(
        help="Lay the sound of this file under the film, cut or padded with silence to its length.",
        panel=Panel.PICTURE, metavar="FILE", read=absolute, beside=joined, decides=Decides.FILM_IF_CHANGED,
        identify=lambda path: _hash_of("--audio", path, "Name a sound file, or a film that has sound."))] = None
    force: Annotated[bool, Option(
        help="Overwrite an existing film, and render at a size that the model does badly.", panel=Panel.OUTPUT)] = False
    crf: Annotated[float | None, Option(
        help="Encoding quality, lower is better.", panel=Panel.OUTPUT, metavar="N", unset="the codec's; 18 for h264",
        decides=Decides.ENCODING)] = None
    codec: Annotated[str | None, Option(
        help=f"Video codec: {', '.join(NAMED)}, or an encoder of ffmpeg.", panel=Panel.OUTPUT, metavar="NAME",
        unset="what the film's kind usually has; h264 for .mp4", complete="codecs", read=codec_named,
        decides=Decides.ENCODING)] = None
    preset: Annotated[str | None, Option(
        help="The encoder's preset: a name, or a number where it has numbers.", panel=Panel.OUTPUT, metavar="NAME",
        unset="the codec's; veryfast for h264", decides=Decides.ENCODING)] = None
    sign_cert: Annotated[str | os.PathLike[str] | None, Option(
        help="Sign the film with this certificate and its chain (C2PA); needs its private key and the extra `sign`.",
        panel=Panel.OUTPUT, flags=("--sign",), metavar="FILE", read=absolute, beside=joined,
        decides=Decides.FILM_IF_CHANGED,
        identify=lambda path: _hash_of("--sign", path, "Name a certificate with its chain, in PEM."))] = None
    sign_key: Annotated[str | os.PathLike[str] | None, Option(
        help="The certificate's private key.", panel=Panel.OUTPUT, flags=("--key",), metavar="FILE", read=absolute,
        beside=joined)] = None
    resume: Annotated[bool, Option(
        help="Resume an interrupted run if there is one, or discard what it left and start over.",
        panel=Panel.INTERRUPTION, flags=("--resume/--restart",))] = True
    keep_states: KeptStates = "last"
    keep_end: Annotated[bool, Option(
        help="Keep the memory's state at the end of the film in OUT.end, so that another film can continue it.",
        panel=Panel.OUTPUT)] = False
    keep_room: Annotated[str, Option(
        help="How much disk these states may take.", panel=Panel.INTERRUPTION, metavar="SIZE",
        read=_room)] = "20GB"
    checkpoint_every: Annotated[float | None, Option(
        help="Time between checkpoints of an unfinished film; 0: only when a signal stops it.",
        panel=Panel.INTERRUPTION, metavar="SECONDS", least=0, unset="60")] = None
    wait: Annotated[float, Option(
        help="How long to wait while another process renders the same film, before giving up with exit code 75.",
        panel=Panel.INTERRUPTION, metavar="SECONDS", least=0)] = 0.0
    grace: Annotated[float, Option(
        help="How long to wait for the current block after a signal.", panel=Panel.INTERRUPTION, metavar="SECONDS",
        least=0)] = GRACE
    log_file: Annotated[str | os.PathLike[str] | None, Option(
        help="Append a log of the run to this file.", panel=Panel.REPORTING, metavar="FILE", beside=joined,
        planned=False)] = None
    progress: Annotated[Literal["auto", "bar", "plain", "json", "openjd", "deadline", "none"], Option(
        help="How to report progress.", panel=Panel.REPORTING, in_python="none")] = "auto"
    quiet: Annotated[bool, Option(
        help="Print nothing but errors.", panel=Panel.REPORTING, flags=("-q", "--quiet"), planned=False)] = False
    verbose: Annotated[bool, Option(
        help="Also report how films are rendered, where the time goes, and which are skipped.", panel=Panel.REPORTING,
        flags=("-v", "--verbose"), planned=False)] = False

    def encoding(self, film: Target) -> Encoding:
        """How a film is encoded that goes there; what nobody chose is as its kind has it."""
        suffix = film.suffix if isinstance(film, Movie) else MP4
        return Encoding(self.codec or CONTAINERS[suffix].codecs[0], self.crf, self.preset, suffix)


@dataclass(frozen=True)
class Request(FilmOptions):
    """One film: its storyboard, where it goes, and its options."""

    storyboard: Annotated[str | os.PathLike[str] | Storyboard, Option(
        help="A YAML file, or one that `echo-cli import` knows; - reads standard input.", python_help=STORYBOARD,
        panel=Panel.STORYBOARD, argument=True, spare=True, metavar="STORYBOARD",
        write=absolute)]
    output: Annotated[str | os.PathLike[str] | None, Option(
        help="film.mp4, .mov, .webm, .mkv or .gif, a folder/, pictures as frames/%06d.png, or - for standard output; "
             "by default, the storyboard's name in this folder.",
        python_help="film.mp4, .mov, .webm, .mkv or .gif, a folder/, or pictures as frames/%06d.png; by default, the "
                    "storyboard's name in this folder.", panel=Panel.OUTPUT, flags=("--output", "-o"),
        metavar="OUT", write=absolute, beside=joined)] = None
    scenes: Annotated[str | os.PathLike[str] | None, Option(
        help="Keep what later films need to recall this film's scenes in a file such as film.scenes.",
        panel=Panel.OUTPUT, metavar="OUT.scenes", write=absolute, beside=joined, decides=Decides.FILM_IF_CHANGED,
        identify=lambda scenes: "kept")] = None
