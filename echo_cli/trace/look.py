"""What the terminal and the page share: colours of scenes and words for roles."""

from collections.abc import Mapping
from types import MappingProxyType

from echo_cli.layout import Role

# Distinguishable on black and on white, neighbours most of all. A page draws one path for each colour and opacity: with
# a colour of its own for every scene, the page of a long film would be too many of them.
SCENE_COLOURS = ("#4f7df3", "#e8804b", "#2fa37f", "#b765d6", "#cf9a12", "#e05c8a", "#2fa7c4", "#8b8a3f", "#7a6ff0",
                 "#a8694a", "#146e1d", "#5cc814", "#146e6e", "#775377", "#c8a4c8", "#bf1438", "#775c14", "#8914e3",
                 "#ec9b9b", "#146592", "#fe414a", "#9badda", "#bf1492", "#a4b689", "#26a4fe", "#b6b614", "#8980ad",
                 "#c8a480", "#1d9b2f", "#fe80e3")

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
