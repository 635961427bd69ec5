"""`validate`: reads storyboards without a model and shows the film that each describes, picture by picture."""

import json as json_text
import os
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from echo_cli.cli import complete
from echo_cli.cli.messages import tell
from echo_cli.cli.options import Debug, film_options
from echo_cli.cli.streams import columns
from echo_cli.errors import EchoError, Exit, UsageError
from echo_cli.faults import known
from echo_cli.render.defaults import NONE, Defaults, read, said_where
from echo_cli.render.options import Field
from echo_cli.storyboard.document import STDIN
from echo_cli.storyboard.nouns import CONTINUE, Storyboard, Timeline
from echo_cli.text import clock, plural
from echo_cli.video.encoding import encoding_of

if TYPE_CHECKING:
    from echo_cli.render.prepare import Prepared

LEAST_WORTH = ("frames", "blocks", "asked", "moved", "pictures", "begins", "gets")  # dropped in this order
GAP = 2  # spaces between columns


Storyboards = Annotated[list[str] | None, typer.Argument(
    metavar="STORYBOARD", show_default=False,
    help="YAML files, or ones that `echo-cli import` knows; - reads standard input.")]
Model = Annotated[str | None, typer.Option(
    help="Check against this model instead of the storyboard's.", autocompletion=complete.models)]
JsonLines = Annotated[bool, typer.Option("--json", help="Print one JSON object for each storyboard, a line each.")]
Schema = Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of storyboards, for editors.")]
Here = Annotated[bool | None, typer.Option(
    "--here/--elsewhere", show_default=False,
    help="Fail on what this machine lacks, or ignore the machine; by default, warn.")]
Codec = Annotated[str | None, typer.Option(help="Check that --crf and --preset fit this encoder.", show_default=False)]
Crf = Annotated[float | None, typer.Option(metavar="N", help="An encoding quality to check.", show_default=False)]
Preset = Annotated[str | None, typer.Option(help="An encoder's preset to check.", show_default=False)]
Strict = Annotated[bool, typer.Option("--strict", help="Fail on warnings too.")]


def validate(storyboards: Storyboards = None, model: Model = None, json: JsonLines = False, schema: Schema = False,
             here: Here = None, strict: Strict = False, codec: Codec = None, crf: Crf = None, preset: Preset = None,
             debug: Debug = False) -> int:
    """Check storyboards and show their timeline, without loading a model.

    Prints every scene with the times asked for and the times it gets, its blocks, latent frames and pictures, and what
    it recalls. Mistakes are listed with their lines; the exit code is 2 if there was one, and with --strict also if
    there was a warning; with --here it is 3 if only a model is lacking.
    """
    if schema:
        from echo_cli.storyboard.schema import schema as described

        print(json_text.dumps(described(), indent=2))
        return Exit.DONE
    if not storyboards:
        raise UsageError("no storyboard named",
                         hint="Name a file, as in `echo-cli validate FILE.yaml`, or - for standard input.")
    defaults = read(options := film_options())
    _check_encoding({"codec": codec, "crf": crf, "preset": preset}, defaults, options)
    failed, lacking, doubtful = 0, 0, 0
    for path in storyboards:
        try:
            result = check(path, model, here, defaults)
        except Exception as trouble:
            if (error := known(trouble)) is None or error.exit_code not in (Exit.USAGE, Exit.MISSING):
                raise
            failed += error.exit_code == Exit.USAGE
            lacking += error.exit_code == Exit.MISSING
            _tell(error, path, json)
        else:
            doubtful += bool(result["warnings"])
            print(json_text.dumps(result)) if json else _show(result)
    for count, what in ((failed, "mistakes"), (lacking, "a model that is not here"),
                        (doubtful if strict else 0, "warnings, which --strict does not allow")):
        if count and (len(storyboards) > 1 or not (failed or lacking)):
            have = "has" if count == 1 else "have"
            print(f"{count} of {plural(len(storyboards), 'storyboard')} {have} {what}", file=sys.stderr)
    if failed or (strict and doubtful):
        return Exit.USAGE
    return Exit.MISSING if lacking else Exit.DONE


def _check_encoding(asked: dict[str, Any], defaults: Defaults, options: dict[str, Field]) -> None:
    used = {name: defaults[name] for name, value in asked.items() if value is None and name in defaults}
    chosen = {**asked, **{name: default.value for name, default in used.items()}}
    with said_where(used, options):
        encoding_of(chosen["codec"] or "h264", chosen["crf"], chosen["preset"]).check_choices()


def check(path: str, model: str | None, here: bool | None, below: Defaults = NONE) -> dict[str, Any]:
    """The description of the storyboard at `path`; a UsageError if it cannot be rendered. `below` says what neither
    `model` nor the storyboard does."""
    from echo_cli.models.registry import check_not_a_file, spec_named
    from echo_cli.render.checks import (
        check_continued,
        check_series,
        missing,
        refuse_here,
        refuse_unseen,
        try_settings,
        warnings,
    )
    from echo_cli.render.prepare import completed, prepared, storyboard_rules
    from echo_cli.render.request import Request
    from echo_cli.render.source import read_board
    from echo_cli.storyboard.timeline import joined, timeline

    rules = storyboard_rules(model, below)
    if model is not None and model not in rules.models and "/" not in model:
        check_not_a_file(model)
        raise UsageError(f"no model is called '{model}'", hint=f"The models are {', '.join(rules.models)}.")
    storyboard, notes = read_board(path, rules)
    request, _ = completed(Request(path, model=model), storyboard, below)
    spec = spec_named(request.model or storyboard.model or rules.default_model)
    film = timeline(storyboard, spec.geometry)
    try:
        asked = prepared(request, storyboard, spec)
        refuse_unseen(spec, asked.storyboard.size or spec.size)
        try_settings(asked.policy, asked.storyboard.memory, spec, joined(film, asked.storyboard))
        check_series(asked.storyboard, asked.model, spec)
        check_continued(asked.storyboard, asked.model, spec, asked.policy)
    except UsageError as error:
        raise UsageError(f"{path}: {error.message}", error.hint) from None
    lacks = [] if here is False else refuse_here(missing(asked.model), here, f"{path}: ")
    facts = describe(storyboard, film, asked.model, asked.policy)
    doubts = [*notes, *warnings(asked.storyboard, spec, asked.policy), *facts["warnings"], *lacks]
    return {**facts, "reuse": _reuse(path, asked, below), "warnings": doubts}


def _reuse(path: str, asked: "Prepared", below: Defaults) -> str | None:
    """What `generate` would reuse of the film that is in this folder under the storyboard's name."""
    from dataclasses import replace

    from echo_cli.render.options import fields_of
    from echo_cli.render.outputs import outputs_of
    from echo_cli.render.request import Request
    from echo_cli.render.session import Session

    if path == STDIN:
        return None
    others = {field.name: below[field.name].value for field in fields_of(Request)
              if field.name in below and not field.option.storyboard}
    try:
        outputs = outputs_of(None, Path(path).stem)
        if not any(outputs.precious()):
            return None
        from echo_cli.render.foresight import foresee

        return foresee(replace(asked, request=replace(asked.request, **others)).job(outputs), Session()).reuse
    except EchoError:  # said when the film is rendered
        return None


def describe(storyboard: Storyboard, film: Timeline, model: str, policy: str) -> dict[str, Any]:
    """The film as plain values: what was read, and how it will be rendered."""
    from echo_cli.render.checks import unknown_words, words_warning
    from echo_cli.render.inputs import inputs_of
    from echo_cli.storyboard.canonical import canonical, storyboard_hash, transition_name
    from echo_cli.storyboard.timeline import joined

    inputs = [{"what": each.what, "path": each.path, "scene": each.scene, "sha256": each.sha256}
              for each in inputs_of(storyboard)]
    recalls, geometry = _recalls(storyboard, joined(film, storyboard), policy), film.geometry
    scenes = []
    for index, span in enumerate(film.spans):
        frames = film.frames_of(index)
        begins, ends = span.pictures.start / geometry.fps, span.pictures.stop / geometry.fps
        scenes.append({
            "id": span.scene.id, "prompt": span.scene.prompt, "transition": transition_name(span.scene),
            "recall": recalls.get(index),
            "asked": {"begins": span.asked[0], "ends": span.asked[1]}, "real": {"begins": begins, "ends": ends},
            "moved": begins - span.asked[0],
            "opening": span.scene.opening and {span.scene.opening.what: span.scene.opening.path},
            "soundtrack": span.scene.soundtrack,
            "blocks": _edges(span.blocks), "frames": _edges(frames), "pictures": _edges(span.pictures),
        })
    unknown = unknown_words(storyboard, model)
    made = geometry.pictures(len(film.blocks) * geometry.block_frames)
    return {
        "storyboard": storyboard.source, "valid": True, "hash": storyboard_hash(storyboard), "title": storyboard.title,
        "model": model, "policy": policy, "size": storyboard.size, "seed": storyboard.seed or 0,
        "timing": storyboard.timing.value, "fps": geometry.fps, "asked": film.spans[-1].asked[1],
        "seconds": film.pictures / geometry.fps, "pictures": film.pictures, "blocks": len(film.blocks),
        "frames": len(film.blocks) * geometry.block_frames, "block_seconds": geometry.block_pictures / geometry.fps,
        "trimmed": made - film.pictures, "unknown_words": unknown, "inputs": inputs, "scenes": scenes,
        "continues": storyboard.continued and storyboard.continued.path,
        "continues_from": storyboard.continued and ("its memory's state" if storyboard.continued.earlier else
                                                    "its last pictures"),
        "canonical": canonical(storyboard), "warnings": words_warning(model, unknown),
    }


def _edges(span: range) -> list[int]:
    return [span.start, span.stop]


def _recalls(storyboard: Storyboard, film: Timeline, policy: str) -> dict[int, dict[str, Any]]:
    """What each recalling scene recalls, as the run will plan it; nothing for a policy without a scene library."""
    from echo_cli.memory.table import read_settings
    from echo_cli.storyboard.matching import recalls_in, similarities

    settings = read_settings(policy, storyboard.memory).recalling
    if settings is None:
        return {}
    if settings.match == "embedding":
        return {index: {"match": settings.match} for index, scene in enumerate(film.scenes[film.first:])
                if scene.recalls}
    plan = recalls_in(film, similarities(film.prompts, settings.match), settings.library, settings.least)
    return {
        index - film.first: {
            "match": settings.match, "scene": film.name_of(choice.scene), "score": round(choice.similarity, 6),
            "refused": choice.refused, "least": settings.least,
            "runner_up": choice.runner_up and {"scene": film.name_of(choice.runner_up[0]),
                                              "score": round(choice.runner_up[1], 6)},
        }
        for index, choice in plan.items() if index >= film.first
    }


def _tell(error: EchoError, path: str, json: bool) -> None:
    """Prints the mistakes of a storyboard; with --json as an object too."""
    from echo_cli.storyboard.mistakes import StoryboardError

    tell(error)
    if json:
        count = error.count if isinstance(error, StoryboardError) else 1
        mistakes = [{"line": mark.line, "column": mark.column, "message": message} for mark, message in error.mistakes
                    ] if isinstance(error, StoryboardError) else [{"message": error.message}]
        more = {"more": count - len(mistakes)} if count > len(mistakes) else {}
        print(json_text.dumps({"storyboard": path, "valid": False, "mistakes": mistakes, **more}))


def _show(film: dict[str, Any]) -> None:
    """The film in words and a table, as wide as the terminal or COLUMNS; elsewhere, lines are not broken."""
    asked = sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdecimal()
    width = columns() if asked else None
    title = film["title"] or film["storyboard"]
    for number, line in enumerate(wrapped(f"{title}  {_summary(film)}", width)):
        print(_styled(title, "1") + line[len(title):] if number == 0 and line.startswith(title) else line)
    for line in table([_row(scene) for scene in film["scenes"]], columns()):
        print(line)
    recalls = [f"{scene['id']} {_recall(scene['recall'])}" for scene in film["scenes"] if scene["recall"]]
    begun = [f"{scene['id']} begins with the {what} {path}" for scene in film["scenes"] if scene["opening"]
             for what, path in scene["opening"].items()]
    begun += [f"{scene['id']} has the sound of {scene['soundtrack']}" for scene in film["scenes"]
              if scene["soundtrack"]]
    continues = [f"continues {film['continues']} from {film['continues_from']}"
                 + (f" in {each['path']}" if each["path"] != film["continues"] else "")
                 for each in film["inputs"] if each["what"] == CONTINUE]
    reuse = [film["reuse"]] if film["reuse"] else []
    warnings = (f"warning: {warning}" for warning in film["warnings"])
    for text in (*continues, *recalls, *begun, _rounding(film), *reuse, *warnings):
        print("\n".join(wrapped(text, width)))


def _row(scene: dict[str, Any]) -> dict[str, str]:
    """The table's cells for a scene, by column name."""
    asked, gets = (" – ".join(clock(at, 3) for at in scene[key].values()) for key in ("asked", "real"))
    return {"scene": scene["id"], "begins": scene["transition"] or "the film", "asked": asked, "gets": gets,
            "moved": f"{scene['moved']:+.3f}s" if abs(scene["moved"]) >= 0.0005 else "",
            **{key: _span(scene[key]) for key in ("blocks", "frames", "pictures")}}


def table(rows: list[dict[str, str]], width: int) -> Iterator[str]:
    """Rows under their headings. Columns that do not fit are left out, the least important first; a scene's name that
    is too long by itself is truncated."""
    from rich.cells import cell_len, set_cell_size

    names = list(rows[0])
    room = {name: max(cell_len(name), *(cell_len(row[name]) for row in rows)) for name in names}
    for name in LEAST_WORTH:
        if sum(room[each] + GAP for each in names) - GAP <= width:
            break
        names.remove(name)
    room["scene"] = min(room["scene"], width)

    def line(row: dict[str, str]) -> str:
        cells = []
        for name in names:
            text, space = row[name], room[name]
            if cell_len(text) > space:
                text = set_cell_size(text, space - 1) + "…"
            pad = " " * (space - cell_len(text))
            cells.append(text + pad if name in ("scene", "begins") else pad + text)
        return (" " * GAP).join(cells).rstrip()

    yield _styled(line({name: name for name in names}), "2")
    yield from map(line, rows)


def wrapped(text: str, width: int | None) -> list[str]:
    """Lines of whole words; a word that is longer than a line gets one to itself."""
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) if width else [text]


def _styled(text: str, code: str) -> str:
    coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return f"\033[{code}m{text}\033[0m" if coloured else text


def _summary(film: dict[str, Any]) -> str:
    size = f", {film['size'][0]}x{film['size'][1]}" if film["size"] else ""
    counts = ", ".join(plural(film[key], word) for key, word in
                       (("pictures", "picture"), ("frames", "latent frame"), ("blocks", "block")))
    return (f"{clock(film['seconds'], 3)} at {film['fps']:g} fps: {counts}; model {film['model']}, "
            f"memory {film['policy']}{size}, seed {film['seed']}")


def _rounding(film: dict[str, Any]) -> str:
    moved = max(abs(scene["moved"]) for scene in film["scenes"])
    parts = [f"blocks of {film['block_seconds']:g}s; no boundary moved" if moved < 0.0005 else
             f"blocks of {film['block_seconds']:g}s; boundaries moved by {moved:.3f}s at most"]
    if film["trimmed"]:
        trimmed = plural(film["trimmed"], "picture")
        parts.append(f"{trimmed} of the last block {'is' if film['trimmed'] == 1 else 'are'} trimmed")
    off = film["seconds"] - film["asked"]
    if abs(off) >= 0.0005:
        parts.append(f"the film is {abs(off):.3f}s {'shorter' if off < 0 else 'longer'} than the "
                     f"{clock(film['asked'], 3)} asked")
    return "; ".join(parts)


def _recall(recall: dict[str, Any]) -> str:
    if "scene" not in recall:
        return f"recalls a scene that is chosen by {recall['match']} when the film is rendered"
    if recall["refused"]:
        return (f"begins with a hard cut: the most similar scene, {recall['scene']}, scores {recall['score']:.3f}, "
                f"below memory.least_similarity={recall['least']:g}; recall:{recall['scene']} recalls it anyway")
    runner, text = recall["runner_up"], f"recalls {recall['scene']} (similarity {recall['score']:.3f}"
    if not runner:
        return f"{text}; there is no other)"
    if runner["score"] > recall["score"]:  # it was recalled by its name
        return f"{text}; {runner['scene']} is more similar, {runner['score']:.3f})"
    return f"{text}; next {runner['scene']}, {runner['score']:.3f})"


def _span(edges: list[int]) -> str:
    """A half-open range as its first and last element, with how many there are."""
    return f"{edges[1] - edges[0]} ({edges[0]}–{edges[1] - 1})"
