"""Options that several commands share."""

import re
from typing import Annotated

import typer

from echo_cli.cli import complete
from echo_cli.errors import UsageError
from echo_cli.models.running import Offload, Pictures
from echo_cli.render.progress import Style
from echo_cli.storyboard.sizes import read_size
from echo_cli.video.subtitles import Subtitles

DTYPES = ("auto", "float32", "bfloat16", "float16")

# Read by the error boundary, which sees the arguments even when they cannot be parsed.
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of a failure.")]

# What may be said over a storyboard, by every command that makes films.
Seed = Annotated[int | None, typer.Option(metavar="N", min=0, help="Instead of the storyboard's.", show_default=False)]
Model = Annotated[str | None, typer.Option(metavar="NAME", help="Instead of the storyboard's.", show_default=False,
                                           autocompletion=complete.models)]
Memory = Annotated[str | None, typer.Option(metavar="POLICY", help="Instead of the storyboard's.", show_default=False,
                                            autocompletion=complete.policies)]
Settings = Annotated[list[str] | None, typer.Option(
    "--set", metavar="NAME=VALUE", help="A setting of the memory: --set memory.recent_frames=3.", show_default=False)]
Size = Annotated[str | None, typer.Option(metavar="WxH", help="Pictures that the model makes.", show_default=False)]
Scale = Annotated[int | None, typer.Option(
    metavar="N", help="Enlarge the pictures N times; left out, small ones until they are pleasant to see.",
    show_default=False)]
Subtitling = Annotated[Subtitles | None, typer.Option(
    help="srt beside the film, burn into it, or none; left out, srt if a scene has one.", show_default=False)]
Crf = Annotated[
    float | None, typer.Option(metavar="N", help="Quality of the film, lower is better.", show_default="18")
]
VideoCodec = Annotated[str, typer.Option("--codec", help="ffmpeg's video encoder.")]
Preset = Annotated[str | None, typer.Option(help="The encoder's preset.", show_default="veryfast")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Dtype = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")]
Decoder = Annotated[
    Pictures,
    typer.Option(
        "--decoder",
        help="Who makes pictures of a large model's latents: its codec, or a light decoder whose weights are beside "
        "it.",
    ),
]
Fast = Annotated[
    bool,
    typer.Option(
        "--fast", help="Linear layers of a large model in eight bits; `bench fast` says how far that moves a film."
    ),
]
Offloading = Annotated[
    Offload,
    typer.Option(
        "--offload",
        help="What waits on the host until the device needs it: nothing, remembered frames (memory), or these and the "
        "layers of a large model; auto: as little as fits.",
    ),
]
Compiled = Annotated[bool | None, typer.Option("--compile/--no-compile", show_default=False,
                                               help="Compile a large model's passes first; left out, on a GPU.")]
ProgressStyle = Annotated[Style, typer.Option("--progress", help="How progress is told.")]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume/--restart",
        help="Go on with what an interrupted run left, if there is something, or discard it and begin anew.",
    ),
]
CheckpointEvery = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        min=0,
        help="How often an unfinished film is kept; 0: only when a signal stops it.",
        show_default="60",
    ),
]
Grace = Annotated[
    float, typer.Option(metavar="SECONDS", min=0, help="How long a signal waits for the block in progress.")
]
LogFile = Annotated[str | None, typer.Option("--log-file", metavar="FILE", help="Append a log of the run to this file.",
                                             show_default=False)]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing but errors.")]


def picture_size(text: str | None) -> tuple[int, int] | None:
    """WIDTHxHEIGHT in pixels."""
    if text is None:
        return None
    size = read_size(text)
    if size is None:
        raise UsageError(f"--size {text}: not a size", "write WIDTHxHEIGHT in pixels, such as 832x480")
    return size


def check_running(device: str, dtype: str) -> None:
    """Whether these are names at all; whether this machine has what they name is found out when a film needs it."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise UsageError(f"no device is called '{device}'", "use auto, cpu, cuda or cuda:N")
    if dtype not in DTYPES:
        raise UsageError(f"no dtype is called '{dtype}'", f"use {', '.join(DTYPES)}")
