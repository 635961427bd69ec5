"""`validate`: reads storyboards without a model and shows the film that each describes, picture by picture."""

import json as json_text
import sys
from importlib.resources import files
from typing import Annotated, Any

import typer

from echo_cli.cli import complete
from echo_cli.cli.messages import tell
from echo_cli.cli.options import Debug
from echo_cli.errors import EchoError, Exit, UsageError
from echo_cli.storyboard.nouns import Geometry, Kind, Storyboard, Timeline


def validate(
    storyboards: Annotated[
        list[str] | None,
        typer.Argument(metavar="STORYBOARD", help="YAML files; - reads standard input.", show_default=False),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Check against this model instead of the storyboard's.", autocompletion=complete.models),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object for each storyboard, a line each.")
    ] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of storyboards, for editors.")
    ] = False,
    debug: Debug = False,
) -> int:
    """Check storyboards and show their timeline, without loading a model.

    Prints every scene with the times asked for and the times it gets, its blocks, latent frames and pictures, and what
    it recalls. Every mistake of every file is listed with its line; the exit code is 2 if there was one.
    """
    if schema:
        print(files("echo_cli.storyboard").joinpath("schema.json").read_text("utf-8"), end="")
        return Exit.DONE
    if not storyboards:
        raise UsageError("no storyboard named",
                         hint="Name a file, as in `echo-cli validate FILE.yaml`, or - for standard input.")
    failed = 0
    for path in storyboards:
        try:
            result = check(path, model)
        except EchoError as error:
            if error.exit_code != Exit.USAGE:
                raise
            failed += 1
            _tell(error, path, json)
        else:
            print(json_text.dumps(result, ensure_ascii=False)) if json else _show(result)
    if failed and len(storyboards) > 1:
        print(f"{failed} of {len(storyboards)} storyboards have mistakes", file=sys.stderr)
    return Exit.USAGE if failed else Exit.DONE


def check(path: str, model: str | None) -> dict[str, Any]:
    """The description of the storyboard at `path`; a UsageError if it cannot be rendered."""
    from echo_cli.render.prepare import storyboard_rules
    from echo_cli.storyboard.parse import load
    from echo_cli.storyboard.timeline import timeline

    rules = storyboard_rules(model)
    if model is not None and model not in rules.models and "/" not in model:
        raise UsageError(f"no model is called '{model}'", hint=f"The models are {', '.join(rules.models)}.")
    storyboard = load(path, rules)
    known = rules.model_for(storyboard.model)
    return describe(storyboard, timeline(storyboard, known.geometry if known else Geometry()),
                    model or storyboard.model or rules.default_model, storyboard.policy or rules.default_policy)


def describe(storyboard: Storyboard, film: Timeline, model: str, policy: str) -> dict[str, Any]:
    """The film as plain values: what was read, and what it becomes."""
    from echo_cli.storyboard.canonical import canonical, storyboard_hash, transition_name

    recalls, geometry = _recalls(storyboard, film, policy), film.geometry
    scenes = []
    for index, span in enumerate(film.spans):
        frames = film.frames_of(index)
        begins, ends = span.pictures.start / geometry.fps, span.pictures.stop / geometry.fps
        scenes.append({
            "id": span.scene.id, "prompt": span.scene.prompt, "transition": transition_name(span.scene),
            "recall": recalls.get(index),
            "asked": {"begins": span.asked[0], "ends": span.asked[1]}, "real": {"begins": begins, "ends": ends},
            "moved": begins - span.asked[0],
            "blocks": _edges(span.blocks), "frames": _edges(frames), "pictures": _edges(span.pictures),
        })
    made = geometry.pictures(len(film.blocks) * geometry.block_frames)
    return {
        "storyboard": storyboard.source, "valid": True, "hash": storyboard_hash(storyboard), "title": storyboard.title,
        "model": model, "policy": policy, "size": storyboard.size, "seed": storyboard.seed,
        "timing": storyboard.timing.value, "fps": geometry.fps, "asked": film.spans[-1].asked[1],
        "seconds": film.pictures / geometry.fps, "pictures": film.pictures, "blocks": len(film.blocks),
        "frames": len(film.blocks) * geometry.block_frames, "block_seconds": geometry.block_pictures / geometry.fps,
        "trimmed": made - film.pictures, "unknown_words": _unknown_words(storyboard, model), "scenes": scenes,
        "canonical": canonical(storyboard),
    }


def _unknown_words(storyboard: Storyboard, model: str) -> list[str]:
    """Words that the model does not know."""
    from echo_cli.models.loaders import family_of
    from echo_cli.models.registry import find

    family = family_of(find(model))
    return list(dict.fromkeys(word for scene in storyboard.scenes for word in family.unknown_words(scene.prompt)))


def _edges(span: range) -> list[int]:
    return [span.start, span.stop]


def _recalls(storyboard: Storyboard, film: Timeline, policy: str) -> dict[int, dict[str, Any]]:
    """What each recalling scene recalls, as the run will plan it; nothing for a policy without a scene library."""
    from echo_cli.memory.settings import RECALLING, read_settings
    from echo_cli.storyboard.matching import plan_recalls, similarities

    settings = read_settings(policy, storyboard.memory)
    if not isinstance(settings, RECALLING):
        return {}
    scenes = film.scenes
    if settings.match != "idf":
        return {index: {"match": settings.match} for index, scene in enumerate(scenes)
                if scene.transition is Kind.RECALL}
    plan = plan_recalls(scenes, similarities([scene.prompt for scene in scenes]), settings.library)
    return {
        index: {
            "match": settings.match, "scene": scenes[choice.scene].id, "score": round(choice.similarity, 6),
            "runner_up": choice.runner_up and {"scene": scenes[choice.runner_up[0]].id,
                                              "score": round(choice.runner_up[1], 6)},
        }
        for index, choice in plan.items()
    }


def _tell(error: EchoError, path: str, json: bool) -> None:
    """Prints the mistakes of a storyboard; with --json as an object too."""
    from echo_cli.storyboard.mistakes import StoryboardError

    tell(error)
    if json:
        mistakes = [{"line": mark.line, "column": mark.column, "message": message} for mark, message in error.mistakes
                    ] if isinstance(error, StoryboardError) else [{"message": error.message}]
        print(json_text.dumps({"storyboard": path, "valid": False, "mistakes": mistakes}, ensure_ascii=False))


def _show(film: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True)
    console.width = console.width if console.is_terminal else 132
    console.print(f"[bold]{escape(film['title'] or film['storyboard'])}[/]  {_summary(film)}")
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for name, right in (("scene", False), ("begins", False), ("asked", True), ("gets", True), ("moved", True),
                        ("blocks", True), ("frames", True), ("pictures", True)):
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for scene in film["scenes"]:
        table.add_row(escape(scene["id"]), escape(scene["transition"] or "the film"),
                      f"{_clock(scene['asked']['begins'])} – {_clock(scene['asked']['ends'])}",
                      f"{_clock(scene['real']['begins'])} – {_clock(scene['real']['ends'])}",
                      f"{scene['moved']:+.3f}s" if abs(scene["moved"]) >= 0.0005 else "",
                      *(_span(scene[key]) for key in ("blocks", "frames", "pictures")))
    console.print(table)
    for scene in film["scenes"]:
        if scene["recall"]:
            console.print(escape(f"{scene['id']} {_recall(scene['recall'])}"))
    console.print(f"[dim]{escape(_rounding(film))}[/]")
    if film["unknown_words"]:
        console.print(escape(f"{film['model']} does not know these words and will not show them: "
                             f"{', '.join(film['unknown_words'])}"))


def _summary(film: dict[str, Any]) -> str:
    size = f", {film['size'][0]}x{film['size'][1]}" if film["size"] else ""
    return (
        f"{_clock(film['seconds'])} at {film['fps']:g} fps: {film['pictures']} pictures, {film['frames']} latent "
        f"frames, {film['blocks']} blocks; model {film['model']}, memory {film['policy']}{size}, seed {film['seed']}"
    )


def _rounding(film: dict[str, Any]) -> str:
    moved = max(abs(scene["moved"]) for scene in film["scenes"])
    parts = [f"blocks of {film['block_seconds']:g}s; no boundary moved" if moved < 0.0005 else
             f"blocks of {film['block_seconds']:g}s; boundaries moved by {moved:.3f}s at most"]
    if film["trimmed"]:
        parts.append(f"{film['trimmed']} pictures of the last block are trimmed")
    off = film["seconds"] - film["asked"]
    if abs(off) >= 0.0005:
        parts.append(f"the film lasts {off:+.3f}s against the {_clock(film['asked'])} asked")
    return "; ".join(parts)


def _recall(recall: dict[str, Any]) -> str:
    if "scene" not in recall:
        return f"recalls a scene that is chosen by {recall['match']} when the film is rendered"
    runner, text = recall["runner_up"], f"recalls {recall['scene']} (similarity {recall['score']:.3f}"
    if not runner:
        return f"{text}; there is no other)"
    if runner["score"] > recall["score"]:  # it was recalled by its name
        return f"{text}; {runner['scene']} is more similar, {runner['score']:.3f})"
    return f"{text}; next {runner['scene']}, {runner['score']:.3f})"


def _clock(seconds: float) -> str:
    """`0:07.312`, `1:00:00`: a time as players show it."""
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    fraction = f".{rest % 1000:03d}".rstrip("0").rstrip(".")
    return (f"{hours}:{minutes:02d}" if hours else f"{minutes}") + f":{rest // 1000:02d}{fraction}"


def _span(edges: list[int]) -> str:
    """Half-open counts as the first and the last of them, with how many there are."""
    return f"{edges[1] - edges[0]} ({edges[0]}–{edges[1] - 1})"
