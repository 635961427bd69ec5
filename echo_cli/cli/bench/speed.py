"""`bench speed`: where a block's time goes."""

import json as json_text
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from echo_cli.cli.options import Debug, Device, Dtype, Json, Threads
from echo_cli.errors import UsageError
from echo_cli.render.request import picture_size
from echo_cli.text import or_dash, plural, size

if TYPE_CHECKING:
    from echo_cli.bench.compare import Comparison
    from echo_cli.bench.speed import PolicySpeed, SpeedReport

_KERNELS = 25  # that are printed

Spec = Annotated[str, typer.Option(help="The model whose sizes to use, with random weights.")]
Layers = Annotated[int | None, typer.Option(min=1, help="Build only N layers.")]
Size = Annotated[
    str | None, typer.Option(metavar="WxH", help="Picture size, such as 832x480; by default the model's own.")]
Compiled = Annotated[bool | None, typer.Option(
    "--compile/--no-compile", help="Compile the passes; by default on a GPU.", show_default=False)]
Policies = Annotated[
    list[str] | None, typer.Option(help="A memory; may be repeated. Default: window and echo-forcing.")]
Blocks = Annotated[int, typer.Option(min=1, help="Blocks to time, after the window is full.")]
Warmup = Annotated[int, typer.Option(min=0, help="Blocks to run before timing.")]
Window = Annotated[int | None, typer.Option(min=4, help="Frames that attention sees; by default the model's own.")]
Decode = Annotated[bool | None, typer.Option(
    "--decode/--no-decode", help="Time the codec too; by default only for tiny.", show_default=False)]
FilmSeconds = Annotated[float, typer.Option(
    min=0, metavar="SECONDS", help="Length of a whole film with each memory, from storyboard to MP4, if the model's "
    "weights are here; 0 for none.")]

Profile = Annotated[bool, typer.Option("--profile", help="List the kernels of one more block, by kind and one by one.")]
Against = Annotated[Path | None, typer.Option(
    metavar="FILE.json", help="Compare with an earlier result of --json, as `bench compare` does.")]


def speed(
    spec: Spec = "tiny", layers: Layers = None, size: Size = None,
    policy: Policies = None,
    blocks: Blocks = 20, warmup: Warmup = 2,
    device: Device = "auto", dtype: Dtype = "auto", threads: Threads = None,
    window: Window = None,
    compiled: Compiled = None, decode: Decode = None, film: FilmSeconds = 10,
    profile: Profile = False, against: Against = None,
    json: Json = False, debug: Debug = False,
) -> None:
    """Show where a block's time goes: linear layers, attention, memory, the rest; then decoding, encoding, whole films.

    Times are medians over blocks with a full window. On a GPU, what a pass takes is shown launched and as a graph, with
    the host's time. The slope is how much slower the last block is than the first, as
    a share of a block and by processor time; for a bounded memory it is only noise. The share of the peak compares the
    operations of linear layers and attention with the fastest product of large matrices, measured in the same run.
    """
    import torch

    from echo_cli.bench.compare import compare
    from echo_cli.bench.speed import Wish, measure
    from echo_cli.memory.table import POLICIES
    from echo_cli.models.registry import spec_named
    from echo_cli.runtime import Runtime
    from echo_cli.spec import TINY

    if threads:
        torch.set_num_threads(threads)
    earlier = _earlier(against) if against else None
    runtime, sizes = Runtime.choose(device, dtype), spec_named(spec)
    names = tuple(POLICIES.own) if policy == ["all"] else tuple(policy or ("window", "echo-forcing"))
    compiled = runtime.device.type == "cuda" if compiled is None else compiled
    decode = sizes.name == TINY.name if decode is None else decode
    report = measure(sizes, runtime, Wish(names, spec, layers, picture_size(size) if size else None, window, blocks,
                                          warmup, compiled, decode, film, profile))
    change = compare(earlier, report.as_dict()) if earlier else None
    if json:
        print(json_text.dumps(report.as_dict() | ({"against": change.as_dict()} if change else {})))
    else:
        _print(report, change)


def _earlier(path: Path) -> dict[str, Any]:
    from echo_cli.bench.results import read
    from echo_cli.bench.speed import SPEED

    result = read(path)
    if result["kind"] != SPEED:
        raise UsageError(f"{path}: the result of `{result['kind']}`, not of `bench speed`",
                         "Name a file that `bench speed --json` printed.")
    return result


def _print(report: "SpeedReport", change: "Comparison | None") -> None:
    from echo_cli.bench.compare import lines

    print(
        f"{report.spec}, {plural(report.layers, 'layer')}, {report.tokens_a_frame} tokens a frame, "
        f"window {report.window}, {report.dtype}, {plural(report.threads, 'thread')}, "
        f"{'compiled' if report.compiled else 'not compiled'}, attention by {report.attention}; {report.machine}; "
        f"torch {report.torch}"
    )
    _print_blocks(report)
    _print_stages(report)
    print(*_passes(report), sep="\n")
    for decoder, ms in report.decoders_ms.items():
        print(f"decoding a block by the {decoder} decoder: {ms:,.1f} ms")
    print(f"peak {report.peak_flops / 1e9:,.0f} GFLOP/s; encode is processor time, in a separate process"
          + (f"; model loaded in {report.load_s:.2f} s" if report.load_s is not None else ""))
    for row in report.policies:
        if row.kernels:
            _print_kernels(row)
    for reason in report.left_out:
        print(f"left out: {reason}")
    if change:
        print("\nbefore: the earlier run; after: this one", *lines(change), sep="\n")


def _print_blocks(report: "SpeedReport") -> None:
    print(f"{'policy':<15}{'block':>12}{'spread':>8}{'linear':>9}{'attention':>11}{'memory':>9}{'other':>8}"
          f"{'of peak':>9}{'slope':>18}{'memory held':>24}")
    for row in report.policies:
        share = {part: f"{time / row.block_ms:.1%}" for part, time in row.parts_ms.items()}
        held = size(row.bytes_last) + (", constant" if row.bytes_first == row.bytes_last else ", CHANGED")
        print(f"{row.policy:<15}{row.block_ms:>9,.1f} ms{row.spread_ms / row.block_ms:>8.1%}{share['linear']:>9}"
              f"{share['attention']:>11}{share['memory']:>9}{share['other']:>8}{row.share_of_peak:>9.1%}"
              f"{row.slope:>+9.2%} ±{row.slope_error:>6.2%}{held:>24}")


def _passes(report: "SpeedReport") -> Iterator[str]:
    """What a denoising pass takes while nobody looks into it, launched and as a graph."""
    if all(not row.passes for row in report.policies):
        yield "passes are launched; on a CPU there are no graphs"
    for row in report.policies:
        for way, times in row.passes.items():
            yield (f"{row.policy}: a pass {'as a graph' if way == 'graphs' else 'launched'} {times.pass_ms:,.1f} ms, "
                   f"a block {times.block_ms:,.1f} ms, the host {times.host_ms:,.1f} ms a block")


def _print_kernels(row: "PolicySpeed") -> None:
    from echo_cli.bench.kernels import by_kind

    print(f"\nkernels of a block under {row.policy}")
    for kind, ms in by_kind(row.kernels).items():
        print(f"{ms:>12,.2f} ms          {kind}")
    print()
    for kernel in row.kernels[:_KERNELS]:
        print(f"{kernel.ms:>12,.2f} ms {kernel.count:>6}   {kernel.name[:90]}")


def _print_stages(report: "SpeedReport") -> None:
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
