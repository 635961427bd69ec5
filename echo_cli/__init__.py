"""echo: long video from a storyboard of timed prompts, with a memory of scenes.

    film = echo_cli.generate("story.yaml", "film.mp4", memory="scene-queries", seed=3)
    for block in echo_cli.blocks("story.yaml", model="tiny"):
        show(block.pictures)

Options have the names and meanings of `echo-cli generate`'s; `help(echo_cli.generate)` lists them. Nothing is printed
unless `progress` asks for it. What goes wrong is an EchoError with a hint; Ctrl-C is a KeyboardInterrupt, and the same
call resumes from the last checkpoint (`checkpoint_every` seconds apart, 60 by default). Everything is imported when it
is first used.
"""

from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = ["EchoError", "Film", "Kind", "RenderedBlock", "Scene", "Storyboard", "Trace", "blocks", "generate",
           "load_storyboard", "read_trace"]

if TYPE_CHECKING:
    from echo_cli.errors import EchoError
    from echo_cli.render.api import Film, RenderedBlock, blocks, generate, load_storyboard, read_trace
    from echo_cli.storyboard.nouns import Kind, Scene, Storyboard
    from echo_cli.trace.reader import Trace

_HOMES = {"EchoError": "errors", "Kind": "storyboard.nouns", "Scene": "storyboard.nouns",
          "Storyboard": "storyboard.nouns", "Trace": "trace.reader"}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES.get(name, 'render.api')}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
