"""What the terminal and the page share: colours of scenes and words for roles."""

from collections.abc import Mapping
from types import MappingProxyType

from echo_cli.layout import Role

# distinguishable on black and on white, neighbours most of all
SCENE_COLOURS = ("#4f7df3", "#e8804b", "#2fa37f", "#b765d6", "#cf9a12", "#e05c8a", "#2fa7c4", "#8b8a3f", "#7a6ff0",
                 "#a8694a")

ROLE_WORDS: Mapping[Role, str] = MappingProxyType({
    Role.TRANSITION: "carried in when the scene opened, and fading",
    Role.ANCHOR: "early frames of the scene that hold it together",
    Role.HISTORY: "tokens selected from frames that have left the window",
    Role.QUERY: "learned tokens that summarise the past",
    Role.RECENT: "the latest frames",
    Role.CURRENT: "the block being rendered",
})


def colour_of(scene: int) -> str:
    return SCENE_COLOURS[scene % len(SCENE_COLOURS)]
