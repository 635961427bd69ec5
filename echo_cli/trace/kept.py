"""A file of scenes for eyes: plain rows, words for a terminal, and one page with a picture of each scene.

Reads the head and the thumbnails; what the scenes remember stays unread.
"""

from html import escape
from importlib.resources import files
from typing import Any

import numpy as np

from echo_cli.storyboard.series import THUMBNAIL, SavedScene, ScenesFile
from echo_cli.text import clock, plural, size
from echo_cli.trace.html import POLICY
from echo_cli.video.still import data_uri

COLUMNS = ("scene", "lasts", "film", "memory", "frames", "size", "prompt")


def rows(file: ScenesFile) -> dict[str, Any]:
    """All that a file says of itself, in plain values."""
    model = file.description.model
    return {
        "scenes_file": str(file.path), "series": file.name, "bytes": file.size,
        "model": {"name": model.name, "weights": model.weights, "rows": model.rows, "cols": model.cols},
        "scenes": [{
            "id": scene.id, "recall": f"recall:{file.name}/{scene.id}", "prompt": scene.prompt,
            "seconds": scene.seconds, "film": scene.film, "memory": scene.memory, "frames": dict(scene.parts),
            "numbers": dict(scene.numbers), "bytes": file.size_of(index),
            "thumbnail": scene.thumbnail and list(scene.thumbnail)}
            for index, scene in enumerate(file.description.scenes)]}


def summary(file: ScenesFile) -> str:
    model = file.description.model
    return (f"{plural(len(file.description.scenes), 'scene')}, {size(file.size)}; model {model.name}, weights "
            f"{model.weights[:12]}, {model.cols}x{model.rows} tokens a frame")


def cells(file: ScenesFile) -> list[tuple[str, ...]]:
    """A row of a table for each scene."""
    return [(scene.id, clock(scene.seconds), scene.film, scene.memory, _frames(scene), size(file.size_of(index)),
             scene.prompt) for index, scene in enumerate(file.description.scenes)]


def _frames(scene: SavedScene) -> str:
    return ", ".join(f"{count} {part}" for part, count in scene.parts.items())


def page(file: ScenesFile) -> str:
    """One file, no script, no network."""
    style = files("echo_cli.trace").joinpath("report.css").read_text("utf-8")
    cards = "".join(_card(file, index) for index in range(len(file.description.scenes)))
    name = escape(file.name)
    return (f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
            f'<meta name="viewport" content="width=device-width,initial-scale=1">'
            f"<title>{name}: scenes to recall</title>"
            f"<style>\n{style}\n</style></head>\n<body><main>\n<h1>{name}</h1><p>{escape(summary(file))}</p>"
            f'<div class="cards">{cards}</div>\n</main></body></html>\n')


def _card(file: ScenesFile, index: int) -> str:
    scene = file.description.scenes[index]
    facts = (("recall it", f"recall:{file.name}/{scene.id}"), ("film", scene.film), ("made under", scene.memory),
             ("frames", _frames(scene)), ("size", size(file.size_of(index))))
    details = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in facts)
    return (f'<article class="card"><div class="look">{_picture(file, index)}</div><div><h3>{escape(scene.id)} '
            f'<small>{clock(scene.seconds)}</small></h3><p class="prompt">{escape(scene.prompt)}</p><dl>{details}</dl>'
            "</div></article>")


def _picture(file: ScenesFile, index: int) -> str:
    name, scene = f"{index}.{THUMBNAIL}", file.description.scenes[index]
    if scene.thumbnail is None:
        return ""
    pixels = np.frombuffer(file.read(name), np.uint8).reshape(*scene.thumbnail, 3)
    return f'<img src="{data_uri(pixels)}" alt="{escape(scene.id)}">'
