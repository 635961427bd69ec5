"""`bench`: measures what memory costs. Results go to standard output, everything else to standard error."""

import json as json_text
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from echo_cli.cli.bench.faults import faults
from echo_cli.cli.bench.memory import compare, memory
from echo_cli.cli.bench.soak import soak
from echo_cli.cli.messages import Lines
from echo_cli.cli.options import Debug
from echo_cli.errors import UsageError
from echo_cli.render.request import picture_size

bench = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True,
                    help="Measure memory and speed, side by side in one run.")


@bench.callback()
def _bench() -> None:
    """Measure memory and speed, side by side in one run."""


bench.command()(memory)
bench.command()(compare)
bench.command()(faults)
bench.command()(soak)


@bench.command()
def speed(
    spec: Annotated[str, typer.Option(help="The model whose sizes to use, with random weights.")] = "tiny",
    layers: Annotated[int | None, typer.Option(min=1, help="Build only N layers.")] = None,
    size: Annotated[
        str | None, typer.Option(metavar="WxH", help="Picture size, such as 832x480; by default the model's own.")
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(help="A memory; may be repeated. Default: window and echo-forcing."),
    ] = None,
    blocks: Annotated[int, typer.Option(min=1, help="Blocks to time, after the window is full.")] = 20,
    warmup: Annotated[int, typer.Option(min=0, help="Blocks to run before timing.")] = 2,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; by default torch's choice.")] = None,
    window: Annotated[
        int | None, typer.Option(min=4, help="Frames that attention sees; by default the model's own.")
    ] = None,
    compiled: Annotated[
        bool | None,
        typer.Option("--compile/--no-compile", help="Compile the passes; by default on a GPU.", show_default=False),
    ] = None,
    decode: Annotated[
        bool | None,
        typer.Option("--decode/--no-decode", help="Time the codec too; by default only for tiny.", show_default=False),
    ] = None,
    film: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="Length of a whole film with each memory, from storyboard to MP4, if the model's "
            "weights are here; 0 for none.",
        ),
    ] = 10,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    debug: Debug = False,
) -> None:
    """Show where a block's time goes: linear layers, attention, memory, the rest; then decoding, encoding, whole films.

    Times are medians over blocks with a full window. The slope is how much slower the last block is than the first, as
    a share of a block and by processor time; for a bounded memory it is only noise. The share of the peak compares the
    operations of linear layers and attention with the quickest product of large matrices, measured in the same run.
    """
    import torch

    from echo_cli.bench.speed import Wish, measure
    from echo_cli.memory.table import POLICIES
    from echo_cli.models.registry import spec_named
    from echo_cli.runtime import Runtime
    from echo_cli.spec import TINY
    from echo_cli.trace.look import or_dash

    if threads:
        torch.set_num_threads(threads)
    runtime, sizes = Runtime.choose(device, dtype), spec_named(spec)
    names = tuple(POLICIES.own) if policy == ["all"] else tuple(policy or ("window", "echo-forcing"))
    report = measure(sizes, runtime, Wish(
        names, spec, layers, picture_size(size) if size else None, window, blocks, warmup,
        runtime.device.type == "cuda" if compiled is None else compiled,
        sizes.name == TINY.name if decode is None else decode, film))
    if json:
        print(json_text.dumps(report.as_dict()))
        return
    print(
        f"{report.spec}, {report.layers} layers, {report.tokens_a_frame} tokens a frame, window {report.window}, "
        f"{report.dtype}, {report.threads} threads, {'compiled' if report.compiled else 'not compiled'}, attention by "
        f"{report.attention}; {report.machine}; torch {report.torch}"
    )
    print(f"{'policy':<15}{'block':>12}{'spread':>8}{'linear':>9}{'attention':>11}{'memory':>9}{'other':>8}"
          f"{'of peak':>9}{'slope':>18}{'memory held':>24}")
    for row in report.policies:
        share = {part: f"{time / row.block_ms:.1%}" for part, time in row.parts_ms.items()}
        held = f"{row.bytes_last / 2**20:,.1f} MiB" + (
            ", constant" if row.bytes_first == row.bytes_last else ", CHANGED"
        )
        print(f"{row.policy:<15}{row.block_ms:>9,.1f} ms{row.spread_ms / row.block_ms:>8.1%}{share['linear']:>9}"
              f"{share['attention']:>11}{share['memory']:>9}{share['other']:>8}{row.share_of_peak:>9.1%}"
              f"{row.slope:>+9.2%} ±{row.slope_error:>6.2%}{held:>24}")
    films = {film.policy: film for film in report.films}
    print(
        f"\n{'policy':<15}{'denoise':>11}{'clean pass':>12}{'memory':>10}{'decode':>10}{'encode':>10}{'pictures/s':>12}"
        f"{'decoded':>9}{'whole film':>12}{'first picture':>15}"
    )
    for row in report.policies:
        stage, film_row = row.stages_ms, films.get(row.policy)
        print(
            f"{row.policy:<15}{stage['denoise']:>8,.1f} ms{stage['clean']:>9,.1f} ms{stage['memory']:>7,.1f} ms"
            f"{or_dash(report.decode_ms, ',.1f', ' ms'):>10}{report.encode_ms:>7,.1f} ms"
            f"{row.pictures_per_second:>12,.2f}{or_dash(row.whole_pictures_per_second, ',.2f'):>9}"
            f"{or_dash(film_row.pictures_a_second if film_row else None, ',.2f'):>12}"
            f"{or_dash(film_row.first_picture_s if film_row else None, '.2f', ' s'):>15}"
        )
    print(f"peak {report.peak_flops / 1e9:,.0f} GFLOP/s; encode is processor time, in a process of its own"
          + (f"; model loaded in {report.load_s:.2f} s" if report.load_s is not None else ""))
    for reason in report.left_out:
        print(f"left out: {reason}")


@bench.command()
def fast(
    spec: Annotated[str, typer.Option(help="The model whose sizes to use, with random weights.")] = "wan-1.3b",
    layers: Annotated[int | None, typer.Option(min=1, help="Build only N layers.")] = None,
    size: Annotated[
        str | None, typer.Option(metavar="WxH", help="Picture size, such as 832x480; by default the model's own.")
    ] = None,
    blocks: Annotated[int, typer.Option(min=1, help="Blocks to compare.")] = 10,
    policy: Annotated[str, typer.Option(help="The memory.")] = "window",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    compiled: Annotated[
        bool | None,
        typer.Option("--compile/--no-compile", help="Compile the passes; by default on a GPU.", show_default=False),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    debug: Debug = False,
) -> None:
    """Show how far --fast moves latents, and how much quicker a block is.

    Distances are shares of the latents' own length, block by block, between the same film with linear layers in eight
    bits and without. Beside them stands the distance of the dtype itself from float32.
    """
    from echo_cli.bench.fastness import measure
    from echo_cli.models.registry import spec_named
    from echo_cli.runtime import Runtime

    runtime = Runtime.choose(device, dtype)
    result = measure(spec_named(spec), runtime, depth=layers, size=picture_size(size) if size else None, blocks=blocks,
                    policy=policy, compiled=runtime.device.type == "cuda" if compiled is None else compiled)
    if json:
        print(json_text.dumps(result.as_dict()))
        return
    print(f"{result.spec}, {result.layers} layers, {result.dtype}, memory {policy}")
    print("fast moves the latents by " + ", ".join(f"{share:.2%}" for share in result.moved) + " of their length")
    if result.rounding:
        print(f"{result.dtype} itself by " + ", ".join(f"{share:.2%}" for share in result.rounding))
    print(f"the last block took {result.block_s:.3f} s, and {result.fast_block_s:.3f} s with --fast")


class TextEncoder(StrEnum):
    """What `rehearsal --text` takes."""

    SMALL = "small"
    FULL = "full"


@bench.command()
def rehearsal(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to write the model.", show_default=False)],
    spec: Annotated[str, typer.Option(help="The model whose sizes to use.")] = "wan2.1-t2v-1.3b",
    layers: Annotated[int | None, typer.Option(
        min=1, show_default="all", help="Write only N layers of the transformer: a smaller file, a quicker film."
    )] = None,
    text: Annotated[TextEncoder, typer.Option(
        help="The text encoder: small (it does not affect a film's speed) or full (11 GB).",
    )] = TextEncoder.SMALL,
    force: Annotated[bool, typer.Option("--force", help="Overwrite weights that no rehearsal wrote.")] = False,
    debug: Debug = False,
) -> None:
    """Write a model of the real size with random weights, to rehearse a machine before the real weights are on it.

    The model is complete: 3.4 GB, or 15 GB with --text full. Films with --model FOLDER/ show noise, and need the
    time and the memory of real ones. If it is stopped, the same command resumes with the next part. A folder that holds
    anything else is refused.
    """
    from dataclasses import replace

    from echo_cli.models.loaders import family_of
    from echo_cli.models.registry import find
    from echo_cli.models.wan import rehearsal as rehearsals
    from echo_cli.render.progress import size

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
    model: Annotated[str, typer.Option(help="The model to render with.")] = "tiny",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    debug: Debug = False,
) -> None:
    """Show resident memory while a film grows, of this process and of its ffmpeg.

    Renders one film as long as the longest of SECONDS, with every kind of transition, and deletes it. Memory after ten
    seconds and after ten minutes should be the same.
    """
    from echo_cli.bench.footprint import measure
    from echo_cli.models.loaders import load_backend
    from echo_cli.render.progress import size
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
    pairs: Annotated[int, typer.Option(min=1, help="The number of pairs to render.")] = 5,
    model: Annotated[str, typer.Option(help="The model to render with.")] = "tiny",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    debug: Debug = False,
) -> None:
    """Show what a trace costs: the same film with and without a trace, in turns.

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
          f"{pairs} pairs of {seconds:g} s of film")


@bench.command()
def meaning(
    scenes: Annotated[int, typer.Option(min=1, help="The number of held-out scenes to judge.")] = 64,
    codec: Annotated[Path | None, typer.Option(
        help="Folder of weights whose codec the scenes go through.", show_default="the package's")] = None,
    eye: Annotated[Path | None, typer.Option(help="Folder of the eye.", show_default="the package's")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    debug: Debug = False,
) -> None:
    """Show how far the eye, which judges what films show, can be trusted, on held-out scenes of the little world.

    Prints the share of scenes in which each check is right; of prompts wrong in one thing that rank below the right
    one; and the mean alignment of right prompts, of such wrong ones, and of those wrong in everything. Then come
    damages, and how often the alignment falls with each.
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
