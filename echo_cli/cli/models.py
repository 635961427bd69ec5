"""`models`: which weights are here, whether they are complete, how to get them, and how to convert them."""

import json as json_text
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from echo_cli.cli import complete
from echo_cli.cli.messages import Lines, tell
from echo_cli.cli.options import Debug, Json
from echo_cli.errors import EchoError, Exit, UsageError
from echo_cli.text import plural, size

if TYPE_CHECKING:
    from echo_cli.models.files.download import Wanted

models = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True,
                     help="List, describe, check, convert and download the weights of models.")

ModelsDir = Annotated[Path | None, typer.Option(
    "--models-dir", metavar="FOLDER", show_default=False,
    help="Where models are kept; by default the folder in ECHO_MODELS, else your data folder.")]
Names = Annotated[list[str] | None, typer.Argument(
    metavar="MODEL", show_default=False, autocompletion=complete.models,
    help="Names or folders; by default every model that is here.")]
Source = Annotated[str, typer.Argument(
    metavar="MODEL", show_default=False,
    help="A model in the released or the diffusers layout: its folder or its name.")]
Converted = Annotated[Path | None, typer.Option(
    "-o", "--output", metavar="FOLDER", show_default=False,
    help="Where to write; by default MODEL-echo in the models folder.")]
Generator = Annotated[Path | None, typer.Option(
    metavar="FILE", show_default=False,
    help="The checkpoint of a few-step generator, instead of the one beside the model.")]
Branch = Annotated[str | None, typer.Option(
    metavar="NAME", show_default="generator_ema, else generator", help="Which weights of the checkpoint to use.")]
BlockFrames = Annotated[int | None, typer.Option(
    metavar="N", min=1, max=8, show_default="1 for a checkpoint in a folder called framewise, else the model's own",
    help="How many latent frames the generator makes at a time.")]
Lora = Annotated[Path | None, typer.Option(
    metavar="FILE", show_default=False, help="An adapter to merge into the generator.")]
LoraScale = Annotated[float, typer.Option(
    metavar="N", help="The strength of the adapter: its alpha divided by its rank.")]
Stored = Annotated[str, typer.Option(help="The type to store: keep, float32, bfloat16 or float16.")]


@models.callback()
def _models() -> None:
    """List, describe, check, convert and download the weights of models."""


@models.command("list")
def list_(
    models_dir: ModelsDir = None, json: Json = False,
    hidden: Annotated[bool, typer.Option("--all", help="Also list models for tests and benches.")] = False,
    debug: Debug = False,
) -> None:
    """List every model: whether it is here and looks complete, its size, its hash and its folder.

    Looks at names, sizes and the ends of files; `check` reads them.
    """
    from dataclasses import asdict

    from echo_cli.models.files.catalogue import entry
    from echo_cli.models.registry import models_folder, names

    rows = [entry(name, models_dir) for name in names(models_dir, hidden)]
    if json:
        print(json_text.dumps({"folder": str(models_folder(models_dir)), "models": [asdict(row) for row in rows]}))
        return
    _table(
        ("model", "is", "layout", "size", "sha256", "where"),
        [
            (row.name, row.state, row.layout, size(row.bytes) if row.where else "", row.sha256[:12], row.where)
            for row in rows
        ],
    )
    for row in rows:
        if row.why or row.hint:
            print(f"{row.name}: {'. '.join(filter(None, (row.why, row.hint)))}", file=sys.stderr)


@models.command()
def info(
    model: Annotated[str, typer.Argument(
        metavar="MODEL", help="A model's name, or the folder of its weights.", show_default=False,
        autocompletion=complete.models)],
    models_dir: ModelsDir = None, json: Json = False, debug: Debug = False,
) -> None:
    """Describe a model: its sizes, its files and their hashes, its origin; for tiny, everything that it can draw."""
    from echo_cli.models.files.catalogue import about
    from echo_cli.models.registry import find

    description = about(find(model, models_dir), models_dir)
    if json:
        print(json_text.dumps(description))
    else:
        _show(description)


@models.command()
def check(names: Names = None, models_dir: ModelsDir = None, json: Json = False, debug: Debug = False) -> int:
    """Check whether models are complete: every name and shape, and every known hash. The exit code is 3 if one is not.

    Reads every file completely, even if an earlier check has done so.
    """
    from echo_cli.models.files.catalogue import here
    from echo_cli.models.loaders import family_of
    from echo_cli.models.registry import find

    results = []
    for name in names or here(models_dir):
        try:
            model = find(name, models_dir)
            hashes = dict(family_of(model).check(model))
        except EchoError as error:
            if error.exit_code != Exit.MISSING:
                raise
            results.append({"model": name, "complete": False, "why": error.message, "hint": error.hint})
            if not json:
                print(f"{name}: incomplete")
                tell(error)
        else:
            results.append({"model": name, "complete": True, "sha256": hashes})
            if not json:
                print(f"{name}: complete")
                for part, sha in hashes.items():
                    print(f"  {part:<12} {sha}")
    if json:
        print(json_text.dumps({"models": results}))
    return Exit.DONE if all(result["complete"] for result in results) else Exit.MISSING


@models.command()
def convert(
    source: Source,
    out: Converted = None,
    generator: Generator = None,
    branch: Branch = None,
    block_frames: BlockFrames = None,
    lora: Lora = None,
    lora_scale: LoraScale = 1.0,
    dtype: Stored = "keep",
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing model.")] = False,
    models_dir: ModelsDir = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Convert a model to the layout of this tool: safetensors only, every tensor checked, hashes recorded.

    Needs disk space and hardly any memory. The converted folder is a complete model: use it with --model FOLDER/.
    """
    from echo_cli.models.files.convert import convert as write
    from echo_cli.models.registry import models_folder
    from echo_cli.models.wan.weights import Choice, open_weights
    from echo_cli.runtime import DTYPES

    if lora and not generator:
        raise UsageError("--lora merges into a generator, and none is named", "Add --generator FILE.")
    if dtype != "keep" and dtype not in DTYPES:
        raise UsageError(f"no dtype is called '{dtype}'", f"Use keep, {', '.join(DTYPES)}.")
    folder = _convertible(source, models_dir, generator)
    target = out or models_folder(models_dir) / f"{folder.resolve().name}-echo"
    lines = Lines()
    choice = Choice(generator, lora, lora_scale, branch, block_frames)
    write(open_weights(folder, choice), target, DTYPES.get(dtype), force,
          lambda part, done, whole: lines(f"{part}: {size(done)} of {size(whole)}", done == whole))
    if json:
        print(json_text.dumps({"folder": str(target)}))
        return
    print(target)
    print(f"use it with: echo-cli generate STORYBOARD --model {_as_model(target, models_dir)}", file=sys.stderr)


def _convertible(source: str, models_dir: Path | None, generator: Path | None) -> Path:
    """The folder of a model that can be converted."""
    from echo_cli.models.files.folders import Layout
    from echo_cli.models.loaders import family_of
    from echo_cli.models.registry import find

    model = find(source if "/" in source or not Path(source).is_dir() else f"{source}/", models_dir)
    convertible = family_of(model).convertible
    if not convertible or model.folder is None:
        why = "its weights are not here" if convertible else f"{source} is already in the layout of this tool"
        raise UsageError(f"'{source}' cannot be converted: {why}",
                         "Name the folder of a model, or download one with `echo-cli models get`.")
    if model.layout is Layout.DIFFUSERS and generator is None:
        print(
            "note: the transformer is assumed to be a few-step generator's; that of Wan 2.1's own release makes only "
            "noise in four steps (--generator names another)",
            file=sys.stderr,
        )
    return model.folder


@models.command()
def get(
    name: Annotated[str, typer.Argument(
        metavar="MODEL", show_default=False, autocompletion=complete.released,
        help="wan2.1-t2v-1.3b, or the same with -longlive, -causal-forcing or -causal-forcing-framewise after it.")],
    manifest: Annotated[bool, typer.Option(
        "--manifest", help="Download nothing: list address, path, size and sha256 of each file, for another machine.",
    )] = False,
    models_dir: ModelsDir = None, json: Json = False, debug: Debug = False,
) -> None:
    """Download a released model into the models folder; an interrupted download is resumed, and every hash is checked.

    HF_ENDPOINT names a mirror. HF_HUB_OFFLINE=1 downloads nothing and says whether every file is here.
    """
    if manifest:
        return _manifest(name, models_dir, json)
    from echo_cli.models.files.download import get as fetch
    from echo_cli.models.files.glance import glance
    from echo_cli.models.registry import find

    folder = fetch(name, models_dir, _Fetching())
    model = find(f"{folder}/")
    assert model.layout is not None
    seen = glance(folder, model.layout)
    if json:
        print(json_text.dumps({"folder": str(folder), "bytes": seen.bytes}))
        return
    print(folder)
    print(
        f"complete, {size(seen.bytes)}; use it with: "
        f"echo-cli generate STORYBOARD --model {_as_model(folder, models_dir)}",
        file=sys.stderr,
    )


def _manifest(name: str, models_dir: Path | None, json: bool) -> None:
    """One line for each file, its fields separated by tabs; instructions on standard error."""
    from echo_cli.models.files.download import release_named
    from echo_cli.models.files.releases import RELEASES, listing
    from echo_cli.models.registry import models_folder

    release = release_named(name)
    folder, files = models_folder(models_dir) / release, list(listing(release))
    licences = {source.repository: source.licence for source in RELEASES[release]}
    if json:
        print(json_text.dumps({"model": release, "folder": str(folder), "licences": licences, "files": files}))
        return
    for file in files:
        print(*file.values(), sep="\t")
    print(f"{size(sum(file['bytes'] for file in files))} in {plural(len(files), 'file')}; "
          + "; ".join(f"{repository}: licence {licence}" for repository, licence in licences.items())
          + f"\nPut each into {folder}/ under the name in its second column, then: echo-cli models check {release}",
          file=sys.stderr)


class _Fetching:
    """Reports files as they arrive."""

    def __init__(self) -> None:
        self._lines, self._since, self._begun = Lines(), time.monotonic(), 0

    def licence(self, repository: str, licence: str) -> None:
        print(f"{repository}: licence {licence}", file=sys.stderr)

    def file(self, wanted: "Wanted", how: str) -> None:
        what = {"here": "here already", "linked": "here already, in another model's folder", "fetched": "",
                "resumed": "resuming"}[how]
        self._since, self._begun = time.monotonic(), -1
        if what:
            print(f"{wanted.name}: {what}", file=sys.stderr)

    def progress(self, wanted: "Wanted", done: int, whole_done: int, whole: int) -> None:
        if self._begun < 0:
            self._begun = done
        rate = (done - self._begun) / max(time.monotonic() - self._since, 1e-6)
        self._lines(f"{wanted.name}: {size(done)} of {size(wanted.bytes)}, overall {whole_done / max(whole, 1):.1%}, "
                    f"{size(int(rate))}/s",
                    done == wanted.bytes)


def _as_model(folder: Path, models_dir: Path | None) -> str:
    """What to pass to --model for a folder: its name if that is enough."""
    from echo_cli.models.registry import models_folder

    return folder.name if models_dir is None and folder.parent.resolve() == models_folder().resolve() else f"{folder}/"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    for row in (head, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _show(facts: Mapping[str, Any], indent: int = 0) -> None:
    """Nested facts, one a line; a table of words has one line for each concept."""
    for name, value in facts.items():
        lead = f"{' ' * indent}{name}:"
        if isinstance(value, Mapping):
            print(lead)
            _show(value, indent + 2)
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            print(lead)
            for one in value:
                print(f"{' ' * indent}  {', '.join(str(fact) for fact in one.values())}")
        elif isinstance(value, list):
            print(f"{lead} {', '.join(map(str, value))}")
        elif name == "bytes":
            print(f"{' ' * indent}size: {size(value)}")
        elif value is not None and value != "":
            print(f"{lead} {value}")
