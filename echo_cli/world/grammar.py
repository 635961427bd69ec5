"""Prompts of the little world: what is in the picture, worded in one of many ways.

Only words that `tiny.words` knows are used. Knows nothing of pictures.
"""

from dataclasses import dataclass

from echo_cli.models.tiny.words import CAMERAS, COLOURS, MOTIONS, PLACES, SUBJECTS, TIMES


@dataclass(frozen=True)
class Saying:
    """What one prompt names, by index into the tables of `tiny.words`."""

    place: int
    time: int
    shape: int
    colour: int
    motion: int
    pans: bool = False
    returns: bool = False  # the place was left and returns


# The synonyms that fit the frames below; the tables themselves have more, for what users type.
_WHERE = (
    ("{over} a grassy meadow", "{over} a green meadow", "{over} the rolling hills", "in a wide field"),
    ("{over} a city street", "in the city", "in a big town", "before the skyline of a tall city"),
    ("{over} the desert", "in the desert", "{over} the sand dunes", "in a vast desert"),
    ("{over} a sandy beach", "on the beach", "at the seaside", "on a quiet shore by the sea"),
    ("before snowy mountains", "in the mountains", "{over} a snowfield", "in the snow"),
    ("in a forest", "through a pine forest", "in the deep woods", "along a quiet woodland"),
)
_WHEN = (
    ("by day", "in bright daylight", "at noon", "on a sunny day"),
    ("at sunset", "at dusk", "in the evening", "during the golden hour"),
    ("at night", "at midnight", "by moonlight", "in the dark night"),
)
_DOES = (
    ("rolls to the left", "moves left", "slides to the left", "drifts leftwards", "is going left"),
    ("rolls to the right", "moves right", "slides to the right", "drifts rightwards", "is going right"),
    ("bounces up and down", "hops up and down", "jumps up and down", "bounces", "is bouncing"),
    ("stands still", "rests", "sits still", "stays in place", "waits"),
)
_FRAMES = (
    "{who} {does} {where} {when}",
    "{who} {does} {where}, {when}",
    "{when}, {who} {does} {where}",
    "{where}, {when}, {who} {does}",
    "{where} {when}: {who} {does}",
    "{when} {where}, {who} {does}",
)

assert len(_WHERE) == len(PLACES) and len(_WHEN) == len(TIMES) and len(_DOES) == len(MOTIONS)


def _one(options: tuple[str, ...], chance: float) -> str:
    return options[int(chance * len(options))]


def say(saying: Saying, chance: list[float]) -> str:
    """One prompt; `chance` is eight numbers in [0, 1) that choose the wording."""
    colour = _one(tuple(COLOURS.values())[saying.colour], chance[0])
    shape = _one(tuple(SUBJECTS.values())[saying.shape], chance[1])
    article = "the" if chance[2] < 0.2 else "an" if colour[0] in "aeiou" else "a"
    where = _one(_WHERE[saying.place], chance[3]).format(over="across" if saying.motion < 2 else "on")
    text = _one(_FRAMES, chance[6]).format(
        who=f"{article} {colour} {shape}", does=_one(_DOES[saying.motion], chance[5]),
        where=where, when=_one(_WHEN[saying.time], chance[4]),
    )
    if saying.returns:
        text = f"back {text}" if text.startswith(("in", "on", "at", "by", "before")) else f"again {text}"
    if saying.pans:
        text += f", the camera {_one(CAMERAS['pan'], chance[7])}"
    elif chance[7] < 0.15:
        text += ", static shot"
    return text[0].upper() + text[1:]
