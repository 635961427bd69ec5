"""`bench`: measures what memory costs. Results go to standard output, everything else to standard error."""

import json as json_text
import sys
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from echo_cli.cli.bench.faults import faults
from echo_cli.cli.bench.memory import compare, memory
from echo_cli.cli.bench.soak import soak
from echo_cli.cli.bench.speed import Compiled, Layers, Size, Spec, speed
from echo_cli.cli.messages import Lines
from echo_cli.cli.options import Debug, Device, Dtype, Json, Model
from echo_cli.errors import UsageError
from echo_cli.render.request import picture_size
from echo_cli.text import plural, size

if TYPE_CHECKING:
    from echo_cli.bench.fastness import Fastness

Eye = Annotated[Path | None, typer.Option(help="Folder of the eye.", show_default="the package's")]

bench = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True,
                    help="Measure memory and speed, side by side in one run.")


@bench.callback()
def _bench() -> None:
    """Measure memory and speed, side by side in one run."""


bench.command()(memory)
bench.command()(compare)
bench.command()(faults)
bench.command()(soak)
bench.command()(speed)


Weights = Annotated[str | None, typer.Option(
    help="Measure this model with its own weights instead of random ones.", show_default=False)]
Keep = Annotated[bool, typer.Option(
    "--keep", help="Write beside the model's weights how far the attention of each layer moves; `generate --fast` "
    "computes it in eight bits in the layers that are near enough.")]


@bench.command()
def fast(
    spec: Spec = "wan-1.3b",
    layers: Layers = None,
    size: Size = None,
    blocks: Annotated[int, typer.Option(min=2, help="Blocks to compare.")] = 10,
    policy: Annotated[str, typer.Option(help="The memory.")] = "window",
    model: Weights = None, keep: Keep = False,
    device: Device = "auto", dtype: Dtype = "auto", compiled: Compiled = None,
    json: Json = False, debug: Debug = False,
) -> None:
    """Show how far each part of --fast moves latents, and how much faster a block is.

    Distances are shares of the latents' length, block by block, between the same film with a part in eight bits and
    without: linear layers; attention in all layers; both, with attention only in the layers that are near enough, as
    --fast computes. The distance of the dtype itself from float32 is shown too. On a CPU, attention in eight bits is
    rounded in the same way, slowly.
    """
    from dataclasses import replace

    from echo_cli.bench.fastness import Setup, Subject, measure
    from echo_cli.models.registry import spec_named
    from echo_cli.runtime import Runtime

    if keep or model:
        _check_kept(model, keep, layers)
    runtime, sizes = Runtime.choose(device, dtype), spec_named(model or spec)
    subject = Subject(replace(sizes, depth=layers or sizes.depth), model)
    setup = Setup(blocks, policy, picture_size(size) if size else None,
                  runtime.device.type == "cuda" if compiled is None else compiled)
    result = measure(subject, runtime, setup)
    if keep and model:
        _keep(model, result)
    if json:
        print(json_text.dumps(result.as_dict()))
    else:
        _print_fastness(result, policy)


def _check_kept(model: str | None, keep: bool, layers: int | None) -> None:
    """What is kept is of a whole model's own weights, in a folder that takes it: known before they are loaded."""
    from echo_cli.files import check_replaceable, is_json_of
    from echo_cli.models.files.eight_bits import FAST, FILE
    from echo_cli.models.loaders import family_of, locate

    if model is None:
        raise UsageError("--keep needs a model whose weights are measured", "Name one with --model.")
    if layers is not None:
        raise UsageError("--layers and --model ask for different things", "Leave one of them out.")
    if keep:
        located = locate(model)
        if not family_of(located).has_fast or located.folder is None:
            raise UsageError(f"model '{model}' has no --fast", "Name a large model whose weights are here.")
        check_replaceable(located.folder / FILE, is_json_of(FAST))


def _keep(model: str, result: "Fastness") -> None:
    from echo_cli.models.files.eight_bits import EightBits, keep
    from echo_cli.models.loaders import locate

    folder = locate(model).folder
    assert folder and result.weights, "both were checked before the model was measured"
    print(f"written: {keep(folder, EightBits(result.weights, result.distances, result.device))}", file=sys.stderr)


def _print_fastness(result: "Fastness", policy: str) -> None:
    from echo_cli.models.files.eight_bits import LIMIT

    weights = f"weights {result.weights[:12]}" if result.weights else "random weights"
    print(f"{result.spec}, {weights}, {plural(result.layers, 'layer')}, {result.dtype}, memory {policy}, "
          f"{result.device}")
    print("latents move, block by block, as a share of their length")
    for what, shares in (("linear layers in eight bits", result.moved), ("attention in eight bits", result.attention),
                         ("both, as --fast computes", result.both),
                         (f"{result.dtype} in place of float32", result.rounding or ())):
        if shares:
            print(f"  {what:<28}" + " ".join(f"{share:>7.2%}" for share in shares))
    print(f"attention itself moves, layer by layer: {' '.join(f'{share:.2%}' for share in result.distances)}")
    print(f"{len(result.near)} of {plural(result.layers, 'layer')} within {LIMIT:.0%}; the kernel: {result.kernel}")
    print(f"the last block took {result.block_s:.3f} s, and {result.fast_block_s:.3f} s with --fast")


class TextEncoder(StrEnum):
    """The values of `rehearsal --text`."""

    SMALL = "small"
    FULL = "full"


@bench.command()
def card(
    policy: Annotated[list[str] | None, typer.Option(help="A memory; repeatable. Default: all.")] = None,
    blocks: Annotated[int, typer.Option(min=2, help="Blocks to time under each memory.")] = 6,
    film: Annotated[float, typer.Option(min=1, metavar="SECONDS", help="Length of the films.")] = 10,
    limit: Annotated[float, typer.Option(min=1, metavar="SECONDS", help="Start no part after this time.")] = 170,
    device: Device = "auto",
    dtype: Dtype = "auto",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Also write the JSON object here.")] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure everything about a GPU's speed in one run of about three minutes, with random weights.

    Measures whether it computes the same as a CPU; a block under each memory, with passes as graphs and launched; the
    decoders; where the time goes; films from storyboard to MP4, with the time to the first picture; and eight bits. A
    part that fails does not end the run, and --output is written after every part, so that a run that is stopped leaves
    what it measured. On a CPU a small model is used, which shows the command but not the speed.
    """
    from echo_cli.bench import card as cards
    from echo_cli.files import check_replaceable, is_json_of, write_whole
    from echo_cli.memory.table import POLICIES, settings_type
    from echo_cli.runtime import Runtime

    if output:
        check_replaceable(output, is_json_of(cards.CARD))
    names = tuple(policy or (name for name in POLICIES if name != "none"))
    for name in names:
        settings_type(name)

    def keep(report: cards.CardReport) -> None:
        if output:
            write_whole(output, json_text.dumps(report.as_dict()) + "\n")

    plan = cards.Plan(names, blocks, film, limit)
    result = cards.measure(Runtime.choose(device, dtype), plan, lambda part: print(part, file=sys.stderr),
                           keep).as_dict()
    print(json_text.dumps(result) if json else "\n".join(cards.table(result)))


@bench.command()
def rehearsal(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to write the model.", show_default=False)],
    spec: Annotated[str, typer.Option(help="The model whose sizes to use.")] = "wan2.1-t2v-1.3b",
    layers: Annotated[int | None, typer.Option(
        min=1, show_default="all", help="Write only N layers of the transformer, for a smaller file and a faster film."
    )] = None,
    text: Annotated[TextEncoder, typer.Option(
        help="The text encoder: small (it does not affect a film's speed) or full (11 GB).",
    )] = TextEncoder.SMALL,
    force: Annotated[bool, typer.Option("--force", help="Overwrite weights that no rehearsal wrote.")] = False,
    debug: Debug = False,
) -> None:
    """Write a model of the real size with random weights, to rehearse a machine before the real weights are on it.

    The model is complete: 3.4 GB, or 15 GB with --text full. Films with --model FOLDER/ show noise, but take the time
    and the memory of real ones. If the command is stopped, the same command resumes with the next part. A folder that
    holds anything else is refused.
    """
    from dataclasses import replace

    from echo_cli.models.loaders import family_of
    from echo_cli.models.registry import find
    from echo_cli.models.wan import rehearsal as rehearsals

    model = find(spec)
    if not family_of(model).convertible:
        raise UsageError(f"model '{model.name}' comes with its weights",
                         hint="Rehearse a large model: --spec wan-1.3b.")
    lines = Lines()
    sizes = model.spec if layers is None else replace(model.spec, depth=layers, name=f"{model.spec.name}-{layers}")
    rehearsals.write(folder, sizes, text=rehearsals.SMALL_TEXT if text is TextEncoder.SMALL else None, force=force,
                     progress=lambda part, done, whole: lines(f"{part}: {size(done)} of {size(whole)}", done == whole))
    print(f"{folder}/")


@bench.command()
def footprint(
    seconds: Annotated[list[float] | None, typer.Argument(metavar="SECONDS", min=0.1, show_default="10 60 600",
                                                          help="Lengths of film after which to measure.")] = None,
    model: Model = "tiny",
    device: Device = "auto",
    dtype: Dtype = "auto",
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show the resident memory of this process and of its ffmpeg while a film is rendered.

    Renders one film as long as the longest of SECONDS, with every kind of transition, and deletes it. Memory after ten
    seconds and after ten minutes should be the same.
    """
    from echo_cli.bench.footprint import measure
    from echo_cli.models.loaders import load_backend
    from echo_cli.runtime import Runtime

    runtime = Runtime.choose(device, dtype)
    readings = measure(load_backend(model, runtime), runtime, seconds or [10, 60, 600])
    if json:
        print(json_text.dumps({"readings": [{"seconds": reading.seconds, "generate_bytes": reading.own,
                                             "ffmpeg_bytes": reading.ffmpeg} for reading in readings]}))
        return
    print(f"{'film':>8}{'generate':>12}{'ffmpeg':>12}{'change':>9}")
    first = readings[0].own + readings[0].ffmpeg
    for reading in readings:
        print(f"{reading.seconds:>6g} s{size(reading.own):>12}{size(reading.ffmpeg):>12}"
              f"{(reading.own + reading.ffmpeg) / first - 1:>+9.1%}")


@bench.command()
def tracing(
    seconds: Annotated[float, typer.Option(min=1, metavar="SECONDS", help="Length of each film.")] = 20.0,
    pairs: Annotated[int, typer.Option(min=1, help="Number of pairs to render.")] = 5,
    model: Model = "tiny",
    device: Device = "auto",
    dtype: Dtype = "auto",
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show what a trace costs: the same film with and without a trace, alternately.

    Compares processor time within each pair. If a trace costs nothing measurable, the median ratio is 1 within the
    spread of the pairs.
    """
    from echo_cli.bench.tracing import measure
    from echo_cli.models.loaders import load_backend
    from echo_cli.runtime import Runtime

    runtime = Runtime.choose(device, dtype)
    cost = measure(load_backend(model, runtime), runtime, seconds, pairs)
    if json:
        print(json_text.dumps({"traced_s": cost.traced, "untraced_s": cost.untraced, "median_ratio": cost.median}))
        return
    print(f"with a trace / without: median {cost.median:.4f}, from {cost.ratios[0]:.4f} to {cost.ratios[-1]:.4f} over "
          f"{plural(pairs, 'pair')} of {seconds:g} s of film")


@bench.command()
def meaning(
    scenes: Annotated[int, typer.Option(min=1, help="Number of held-out scenes to judge.")] = 64,
    codec: Annotated[Path | None, typer.Option(
        help="Folder of weights whose codec the scenes go through.", show_default="the package's")] = None,
    eye: Eye = None,
    device: Device = "auto",
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show how reliable the eye, which judges what films show, is on held-out scenes of the little world.

    Prints the share of scenes in which each check is right; the share of prompts wrong in one aspect that rank below
    the right one; and the mean alignment of right prompts, of those wrong in one aspect, and of those wrong in every
    aspect. Then, for each kind of damage, how often it lowers the alignment.
    """
    from echo_cli.bench.eyesight import eyesight
    from echo_cli.models.tiny.model import load_codec
    from echo_cli.models.tiny.parts import WEIGHTS, part_path
    from echo_cli.runtime import Runtime
    from echo_cli.world import eye as eyes
    from echo_cli.world.meaning import load_meaning

    where = Runtime.choose(device, "float32").device
    judge = load_meaning(where, eye or eyes.WEIGHTS)
    figures = eyesight(judge, load_codec(part_path(codec or WEIGHTS, "codec"), where), scenes)
    if json:
        print(json_text.dumps({"eye": judge.weights_hash, "scenes": scenes, **figures}))
        return
    for title, rows in (("shown", figures["shown"]), ("damaged", figures["damaged"])):
        names = list(next(iter(rows.values())))
        print(f"{title:<36}" + "".join(f"{name:>8}" for name in names))
        for way, row in rows.items():
            print(f"{way:<36}" + "".join(f"{_figure(name, row[name]):>8}" for name in names))


def _figure(name: str, value: float) -> str:
    """Shares in percent; cosines and counts as they are."""
    if name == "scenes":
        return f"{value:d}"
    return f"{value:.3f}" if name in ("right", "wrong", "strange", "by") else f"{value:.1%}"


@bench.command()
def preference(
    before: Annotated[Path, typer.Argument(metavar="BEFORE", help="A film, or the .trace.json beside it.")],
    after: Annotated[Path, typer.Argument(metavar="AFTER", help="A film of the same prompts.")],
    eye: Eye = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show which of two films the eye prefers, scene by scene, without knowing which film a scene is from.

    Prints the share of scenes in which the second film fits the prompt better, the mean alignment of both films, the
    chance of such a difference by accident, and for each aspect the share of scenes in which it is right.
    """
    from echo_cli.bench.preference import preference as prefer
    from echo_cli.cli.show import trace_beside
    from echo_cli.world import eye as eyes
    from echo_cli.world.meaning import load_meaning

    judge = load_meaning("cpu", eye or eyes.WEIGHTS)
    result = prefer(judge, trace_beside(before), trace_beside(after))
    if json:
        print(json_text.dumps({"eye": judge.weights_hash, **asdict(result)}))
        return
    print(f"{plural(result.scenes, 'scene')}: the eye prefers the second film in {result.preferred:.0%}; alignment "
          f"{result.before:.3f} before, {result.after:.3f} after, {result.gain.mean:+.3f} [{result.gain.low:+.3f}, "
          f"{result.gain.high:+.3f}], by chance {result.chance:.3f}")
    for aspect, (old, new) in result.right.items():
        print(f"{aspect:<8}{old:>8.1%}{new:>8.1%}")
