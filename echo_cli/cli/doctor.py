"""`doctor`: what this machine can run, line by line, with a remedy for whatever is missing."""

import importlib.util
import json as json_text
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from echo_cli import __version__
from echo_cli.cli.options import Debug, Json
from echo_cli.errors import EchoError, Exit
from echo_cli.machine import cores, memory
from echo_cli.text import listed, size

DRIVER = Path("/proc/driver/nvidia/version")
LARGE = "wan2.1-t2v-1.3b"
ROOM = 2 * 1024**3  # free bytes; below this a night's films will not fit
EXTRAS = {
    "wan": ("diffusers", "transformers", "accelerate", "sentencepiece", "ftfy", "huggingface_hub"),
    "farm": ("ray",),
    "sign": ("c2pa",),
    "hopper": ("fa3_fwd_interface",),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line. The tool cannot work unless everything `needed` is `found`; the rest is optional."""

    name: str
    found: bool
    text: str
    remedy: str = ""
    needed: bool = True


def doctor(
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Show what this machine can run: torch, device, ffmpeg, weights, disk, extras.

    Everything that is missing is shown with a remedy. The exit code is 3 if something that every film needs is missing.
    """
    findings = [finding for check in CHECKS for finding in check()]
    ready = all(finding.found for finding in findings if finding.needed)
    if json:
        print(json_text.dumps({"ready": ready, "version": __version__, "findings": [asdict(f) for f in findings]}))
    else:
        _show(findings, ready)
    return Exit.DONE if ready else Exit.MISSING


def _show(findings: list[Finding], ready: bool) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False, soft_wrap=True)
    for finding in findings:
        mark = "[green]ok     [/]" if finding.found else "[red]missing[/]" if finding.needed else "[yellow]no     [/]"
        console.print(f"{mark}  {finding.name:<8}  {escape(finding.text)}")
        if finding.remedy and not finding.found:
            console.print(f"                   [dim]→ {escape(finding.remedy)}[/]")
    console.print("ready to render films" if ready else "not ready: see what is missing above")


def _tool() -> Iterator[Finding]:
    yield Finding("echo-cli", True, f"{__version__}, Python {platform.python_version()}, {platform.platform()}")
    total = memory()
    held = "memory unknown" if total is None else f"{size(total)} of memory"
    yield Finding("cores", True, f"{cores()} usable, {held}")


def _torch() -> Iterator[Finding]:
    remedy = "Install torch from the index that fits your device (see pytorch.org)."
    try:
        import torch
    except (ImportError, OSError) as error:
        yield Finding("torch", False, f"cannot be imported: {error}", remedy)
        return
    yield Finding("torch", True, torch.__version__)
    if not torch.cuda.is_available():
        why = "this build of torch has no CUDA" if torch.version.cuda is None else "torch finds no CUDA driver or card"
        if DRIVER.exists():
            yield Finding("device", False, f"cpu: a CUDA driver is here, but {why}",
                          f"{remedy} Until then films are rendered on the CPU.", needed=False)
            return
        yield Finding("device", True, f"cpu; {why}: fine for tiny, slow for larger models")
        return
    for index in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(index)
        free, total = torch.cuda.mem_get_info(index)
        yield Finding("device", True, f"cuda:{index} {card.name}, {size(free)} of {size(total)} free")
    yield _compiler()
    yield _attention()
    yield from _fast()


def _attention() -> Finding:
    """FlashAttention 3 is the fastest kernel for long attention on a Hopper card."""
    import torch

    from echo_cli.models.tuning import flash_attention_3

    kernel, words = flash_attention_3(torch.device("cuda", torch.cuda.current_device()), torch.bfloat16)
    remedy = "Run `pip install 'echo-cli[hopper]'` on a Hopper card; others use torch's attention, cuDNN if possible."
    return Finding("attention", kernel is not None, words, remedy, needed=False)


def _fast() -> Iterator[Finding]:
    """What --fast computes in eight bits with the models that are here."""
    import torch

    from echo_cli.models.files.eight_bits import measured
    from echo_cli.models.registry import find, folders, models_folder
    from echo_cli.models.tuning import eight_bit_attention, eight_bit_layers

    device = torch.device("cuda", torch.cuda.current_device())
    kernel, _ = eight_bit_attention(device, torch.bfloat16)
    for name in folders():
        try:
            near = measured(models_folder() / name, find(name).spec.depth)
        except EchoError as error:
            yield Finding("fast", False, error.message, error.hint or "", needed=False)
            continue
        layers, _, words = eight_bit_layers(near, device, torch.bfloat16)
        if kernel is None:
            remedy = "Run `pip install 'echo-cli[hopper]'` on a Hopper card."
        elif near is None:
            remedy = f"Run `echo-cli bench fast --model {name} --keep` on this card."
        else:
            remedy = "Nothing to do: with these weights, attention stays in bfloat16."
        yield Finding("fast", bool(layers), f"{name}: with --fast, {words}", remedy, needed=False)


def _compiler() -> Finding:
    """On a GPU, the kernels between matrix products are compiled by Triton, which comes with torch and needs a C
    compiler."""
    wanted = {"Triton": importlib.util.find_spec("triton"), "a C compiler": shutil.which("cc") or shutil.which("gcc")}
    lacking = [what for what, there in wanted.items() if not there]
    return Finding(
        "compiler",
        not lacking,
        "Triton and a C compiler" if not lacking else f"{' and '.join(lacking)} not found",
        "Run `apt install gcc` and `pip install triton`, or render with --no-compile.",
        needed=False,
    )


def _ffmpeg() -> Iterator[Finding]:
    from echo_cli.video.ffmpeg import executable

    try:
        binary = executable()
        said = subprocess.run([binary, "-hide_banner", "-encoders"], capture_output=True, text=True, timeout=30)
    except EchoError as error:
        yield Finding("ffmpeg", False, error.message, error.hint or "")
        return
    except (OSError, subprocess.SubprocessError) as error:
        yield Finding("ffmpeg", False, f"cannot be run: {error}", "Run `pip install --force-reinstall imageio-ffmpeg`.")
        return
    has_h264 = "libx264" in said.stdout
    yield Finding("ffmpeg", has_h264, binary if has_h264 else f"{binary} has no libx264, which writes H.264",
                  "Run `pip install imageio-ffmpeg`, or set IMAGEIO_FFMPEG_EXE to a full build of ffmpeg.")


def _defaults() -> Iterator[Finding]:
    """Who decides an option, and who says something here."""
    from echo_cli.cli.options import film_options
    from echo_cli.render import defaults

    options = film_options()
    remedy = "Correct it, or move it away: no film is rendered until then."
    try:
        options_set = defaults.read(options)
    except EchoError as error:
        yield Finding("defaults", False, error.message, error.hint or remedy)
        return
    said = ", ".join(f"{name} ({default.source})" for name, default in sorted(options_set.items()))
    said = said or "none are set"
    yield Finding("defaults", True, f"{said}; who decides, in order: {defaults.ORDER}")
    if unknown := defaults.unknown_variables(options):
        yield Finding("defaults", False, f"no option has the variable {', '.join(unknown)}",
                      "Correct the name, or unset it.", needed=False)


def _pictures() -> Iterator[Finding]:
    """What a scene may begin with."""
    from PIL import features

    lacking = [name for name, codec in (("JPEG", "jpg"), ("PNG", "zlib"), ("WebP", "webp"), ("colour profiles",
               "littlecms2")) if not features.check(codec)]
    yield Finding("pictures", not lacking, "JPEG, PNG and WebP come in" if not lacking else
                  f"this build of Pillow cannot read {listed(lacking)}", "Run `pip install --force-reinstall pillow`.",
                  needed=False)


def _weights() -> Iterator[Finding]:
    try:
        from echo_cli.models.tiny.parts import check

        digest = check()
    except EchoError as error:
        yield Finding("weights", False, error.message, error.hint or "")
    except (ImportError, OSError):
        yield Finding("weights", False, "the weights of tiny cannot be checked without torch", "Install torch first.")
    else:
        yield Finding("weights", True, f"tiny, complete (sha256 {digest[:12]}…)")


def _models() -> Iterator[Finding]:
    from echo_cli.models.files.catalogue import entry
    from echo_cli.models.registry import folders

    for name in dict.fromkeys((LARGE, *folders())):
        model = entry(name)
        text = f"{name}: {model.why or model.state}" + (f", {size(model.bytes)}" if model.bytes else "")
        yield Finding("models", model.state == "complete", text, model.hint, needed=False)


def _disk() -> Iterator[Finding]:
    free = shutil.disk_usage(os.curdir).free
    writable = os.access(os.curdir, os.W_OK)
    text = f"{size(free)} free here" + ("" if writable else ", but this folder cannot be written to")
    hint = "Free some space, or write elsewhere with -o." if writable else "Write elsewhere with -o."
    yield Finding("disk", writable and free > ROOM, text, hint, needed=False)


def _extras() -> Iterator[Finding]:
    for extra, modules in EXTRAS.items():
        lacking = [module for module in modules if importlib.util.find_spec(module) is None]
        yield Finding(extra, not lacking, "installed" if not lacking else f"not installed: {', '.join(lacking)}",
                      f"Run `pip install 'echo-cli[{extra}]'`.", needed=False)


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    _tool, _torch, _ffmpeg, _pictures, _defaults, _weights, _extras, _models, _disk)
