"""The little world: seeded stories of places and subjects, as pictures, prompts and ground truth.

A story is a few segments, each in one place with one subject and one motion; scenes open at block boundaries.
Everything is decided by the seed; pictures are drawn when asked for, any window of them. Knows nothing of codecs or of
learning.
"""

from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

from echo_cli.models.tiny.words import COLOURS, PLACES, SUBJECTS, TIMES
from echo_cli.world.dice import between, choose, uniform
from echo_cli.world.draw import DEPTHS, HEIGHT, WIDTH
from echo_cli.world.grammar import Saying, say
from echo_cli.world.places import LAYOUT, paint_places
from echo_cli.world.subjects import cover, draw_subject, foot

FPS = 16
BLOCK = 3  # latent frames
PICTURES = 4  # in each latent frame after the first, which has one
TOKEN = 32  # pixels, side of the square that one transformer token covers
PAN = 40  # pixels that the camera travels away
MARGIN = 36  # pixels beyond the edge at which a subject that left comes back in on the other side
SEGMENTS = 3
HELD_OUT = 1 << 48  # seeds from here on are for judging; training draws below
LEFT, RIGHT, BOUNCE, STILL = range(4)  # in the order of `tiny.words.MOTIONS`

_HOP, _HOP_HEIGHT = 24, 34.0  # pictures, pixels
_PAN_REST = 8  # pictures for which the camera rests at each end
# streams of a story's seed
_PLOT, _PLACE, _ACTOR, _WORDS = 1, 10, 20, 30


class StoryKind(IntEnum):
    """What happens: nothing new; the camera leaves and returns; the subject does; a change in one place; a cut; a cut
    and a return."""

    HOLD = 0
    PAN = 1
    LEAVE = 2
    SWITCH = 3
    CUT = 4
    RETURN = 5


def pictures_of(latent_frames: int) -> int:
    return 1 + PICTURES * (latent_frames - 1)


def first_picture(latent_frame: int) -> int:
    """The first picture of a latent frame."""
    return max(0, PICTURES * latent_frame - PICTURES + 1)


@dataclass(frozen=True)
class Truth:
    """What is in every picture and in every token. Indices follow the tables of `tiny.words`; velocities are pixels a
    picture."""

    segment: Tensor  # [story, frame] which prompt applies
    slot: Tensor  # [story, frame] which of the story's own places is seen
    place: Tensor  # [story, frame]
    time: Tensor  # [story, frame]
    shape: Tensor  # [story, frame]
    colour: Tensor  # [story, frame]
    motion: Tensor  # [story, frame]
    pan: Tensor  # [story, picture] columns that the camera has moved to the right
    radius: Tensor  # [story, picture] of the subject, pixels
    centre: Tensor  # [story, picture, 2] x, y on the picture
    ground: Tensor  # [story, picture] row on which the subject stands
    visible: Tensor  # [story, picture] share of the subject's area inside the picture
    token_cover: Tensor  # [story, frame, row, column] share covered by the subject
    token_velocity: Tensor  # [story, frame, row, column, 2] of the subject on the screen, zero elsewhere
    token_depths: Tensor  # [story, frame, row, column, DEPTHS] shares of sky, far, middle, near in the place behind it

    @property
    def box(self) -> Tensor:
        """Corners of a square around the subject, left, top, right, bottom: [story, picture, 4]."""
        reach = self.radius[..., None] * 1.25
        return torch.cat((self.centre - reach, self.centre + reach), -1)


@dataclass(frozen=True)
class Stories:
    """A batch of stories of one length. `prompts` holds for each story (first latent frame, prompt), in order; pictures
    have `detail` dots to each side of a pixel."""

    seeds: list[int]
    kinds: list[StoryKind]
    latent_frames: int
    prompts: list[list[tuple[int, str]]]
    truth: Truth
    panoramas: Tensor  # [story, slot, 3, HEIGHT, WIDTH + PAN] in pixels: each place of a story without its subject
    layouts: Tensor  # [story, slot, LAYOUT] the numbers that decided it
    detail: int = 1

    @property
    def pictures(self) -> Tensor:
        """All pictures, drawn now: [story, picture, 3, HEIGHT, WIDTH] in [0, 1]."""
        return self.render(0, self.latent_frames)

    def backgrounds(self, first: int, last: int) -> Tensor:
        """Latent frames `first` to `last` without subjects."""
        frames, pictures = self._window(first, last)
        slots, pans = self.truth.slot[:, frames].tolist(), (self.truth.pan[:, pictures] * self.detail).tolist()
        width = WIDTH * self.detail
        # One copy of views: gathering by index reads these rows several times slower.
        views = [self.panoramas[story, slot, :, :, pan : pan + width]
                 for story in range(len(self.seeds)) for slot, pan in zip(slots[story], pans[story], strict=True)]
        return torch.stack(views).unflatten(0, (len(self.seeds), -1))

    def render(self, first: int, last: int) -> Tensor:
        """The pictures of latent frames `first` up to, not including, `last`."""
        frames, pictures = self._window(first, last)
        drawn = self.backgrounds(first, last)
        truth = self.truth
        said = (truth.shape[:, frames], truth.colour[:, frames], truth.time[:, frames],
                truth.radius[:, pictures], truth.centre[:, pictures], truth.ground[:, pictures])
        if drawn.device.type == "cpu":  # one story's patches at a time stay in the processor's cache
            for each in zip(drawn, *said, strict=True):
                draw_subject(*each, detail=self.detail)
        else:
            draw_subject(drawn.flatten(0, 1), *(part.flatten(0, 1) for part in said), detail=self.detail)
        return drawn

    def _window(self, first: int, last: int) -> tuple[Tensor, slice]:
        """The latent frame of each picture in a window, and the window as pictures."""
        if not 0 <= first < last <= self.latent_frames:
            raise ValueError(f"latent frames {first} to {last} are not within 0 to {self.latent_frames}")
        pictures = slice(first_picture(first), first_picture(last))
        index = torch.arange(pictures.start, pictures.stop, device=self.panoramas.device)
        return (index + PICTURES - 1) // PICTURES, pictures


def sample_stories(
    seeds: Tensor | list[int], latent_frames: int, kind: StoryKind | None = None, device: str = "cpu", detail: int = 1
) -> Stories:
    """One story for each seed. Without a kind, the seed chooses among those that fit the length. `detail` says
    how large it is drawn, and changes nothing else."""
    seeds = torch.as_tensor(seeds, dtype=torch.int64, device=device)
    blocks, plot = -(-latent_frames // BLOCK), uniform(seeds, _PLOT, 16)
    kinds = _kinds(plot, kind, blocks)
    starts = _starts(kinds, plot, blocks)  # [story, segment] latent frames; beyond the end if there is none
    slot_of = torch.tensor([[0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 1, 1], [0, 1, 0]], device=device)[kinds]
    place, time, layouts = _homes(seeds)
    cast = _cast(seeds, kinds, plot, slot_of)
    frame = torch.arange(latent_frames, device=device)
    segment = (frame[None, :, None] >= starts[:, None, :]).sum(-1) - 1  # [story, frame]
    slot = slot_of.gather(1, segment)
    path = _path(cast, kinds, starts, segment)
    pan = path.pop("pan")

    used = torch.stack((torch.ones_like(kinds, dtype=torch.bool), (slot == 1).any(1)), 1)
    panoramas, depths = _painted(place, time, layouts, used, detail)

    attributes = {name: cast[name].gather(1, segment) for name in ("shape", "colour")}
    truth = Truth(
        segment=segment,
        slot=slot,
        place=place.gather(1, slot),
        time=time.gather(1, slot),
        pan=pan,
        **attributes,
        **path,
        **_tokens(attributes["shape"], path, depths, slot, pan),
    )
    kind_list = [StoryKind(k) for k in kinds.tolist()]
    return Stories(
        seeds.tolist(), kind_list, latent_frames, _prompts(seeds, kind_list, starts, truth), truth, panoramas, layouts,
        detail,
    )


def _painted(place: Tensor, time: Tensor, layouts: Tensor, used: Tensor, detail: int) -> tuple[Tensor, Tensor]:
    """The panoramas of places [story, slot, 3, y, x] that are used, the others black, and their depths in the world's
    own pixels [story, slot, y, x]."""
    high, wide = HEIGHT * detail, (WIDTH + PAN) * detail
    panoramas = torch.zeros(*used.shape, 3, high, wide, device=used.device)
    depths = torch.zeros(*used.shape, high, wide, device=used.device)
    panoramas[used], depths[used] = paint_places(place[used], time[used], layouts[used], WIDTH + PAN, detail)
    return panoramas, depths[..., ::detail, ::detail]


def _kinds(plot: Tensor, kind: StoryKind | None, blocks: int) -> Tensor:
    """The kind of each story: `kind`, or its plot's choice among those that fit the length."""
    need = {StoryKind.SWITCH: 2, StoryKind.CUT: 2, StoryKind.RETURN: 3}
    possible = [option for option in StoryKind if blocks >= need.get(option, 1)]
    if kind is None:
        return torch.tensor([int(k) for k in possible], device=plot.device)[choose(plot[:, 0], len(possible))]
    if kind not in possible:
        raise ValueError(f"a {kind.name} story needs {need[kind]} blocks, not {blocks}")
    return torch.full((len(plot),), int(kind), device=plot.device)


def _homes(seeds: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Two places a story: their kinds, hours and layouts, [story, slot] each. One or the other always differs, so that
    a cut is a cut."""
    homes = torch.stack([uniform(seeds, _PLACE + slot, 4) for slot in (0, 1)], 1)
    place = choose(homes[..., 0], len(PLACES))
    place[:, 1] = (place[:, 0] + 1 + choose(homes[:, 1, 0], len(PLACES) - 1)) % len(PLACES)
    layouts = torch.stack([uniform(seeds, _PLACE + 2 + slot, LAYOUT) for slot in (0, 1)], 1)
    return place, choose(homes[..., 1], len(TIMES)), layouts


def _starts(kinds: Tensor, plot: Tensor, blocks: int) -> Tensor:
    """The latent frame at which each segment opens: [story, SEGMENTS]."""
    never = torch.full_like(kinds, blocks * BLOCK)
    late = (kinds == StoryKind.RETURN).long()  # a return needs one more block behind the cut
    room = (blocks - 1 - late).clamp_min(1)
    cut = 1 + (plot[:, 1] * room).long()
    back = cut + 1 + (plot[:, 2] * (blocks - 1 - cut).clamp_min(1)).long()
    has_cut, has_return = kinds >= StoryKind.SWITCH, kinds == StoryKind.RETURN
    return torch.stack(
        (
            torch.zeros_like(kinds),
            torch.where(has_cut, cut * BLOCK, never),
            torch.where(has_return, back * BLOCK, never),
        ),
        1,
    )


def _cast(seeds: Tensor, kinds: Tensor, plot: Tensor, slot_of: Tensor) -> dict[str, Tensor]:
    """Shape, colour, motion, speed, size and start of the subject in each segment: [story, SEGMENTS]."""
    chance = torch.stack([uniform(seeds, _ACTOR + segment, 8) for segment in range(SEGMENTS)], 1)
    shape, colour = choose(chance[..., 0], len(SUBJECTS)), choose(chance[..., 1], len(COLOURS))
    motion = choose(chance[..., 2], 4)
    leaves = kinds == StoryKind.LEAVE
    motion[leaves] = motion[leaves] % 2  # left or right
    # A switch changes one thing: the subject, its colour or its motion.
    switch = kinds == StoryKind.SWITCH
    what = choose(plot[:, 3], 3)
    for number, (trait, options) in enumerate(((shape, len(SUBJECTS)), (colour, len(COLOURS)), (motion, 4))):
        other = (trait[:, 0] + 1 + choose(chance[:, 1, 3], options - 1)) % options
        trait[:, 1] = torch.where(switch, torch.where(what == number, other, trait[:, 0]), trait[:, 1])
    # The subject of a place is there again at the return, doing something else.
    back = (kinds == StoryKind.RETURN)[:, None] & (slot_of == 0)
    shape, colour = torch.where(back, shape[:, :1], shape), torch.where(back, colour[:, :1], colour)
    start = (
        torch.where(
            motion == LEFT,
            between(chance[..., 4], 0.5, 0.9),
            torch.where(motion == RIGHT, between(chance[..., 4], 0.1, 0.5), between(chance[..., 4], 0.2, 0.8)),
        )
        * WIDTH
    )
    edge = torch.where(motion == LEFT, between(chance[..., 4], 0.1, 0.4), between(chance[..., 4], 0.6, 0.9)) * WIDTH
    start = torch.where(leaves[:, None], edge, start)
    speed = between(chance[..., 5], 2.0, 3.0)
    velocity = torch.where(motion == LEFT, -speed, torch.where(motion == RIGHT, speed, 0.0))
    radius = between(chance[:, :1, 6], 19, 24).expand(-1, SEGMENTS)
    ground = between(chance[:, :1, 7], 107, 116).expand(-1, SEGMENTS)
    return {"shape": shape, "colour": colour, "motion": motion, "start": start, "velocity": velocity,
            "radius": radius, "ground": ground}


def bouncing(seeds: Tensor) -> Tensor:
    """Which stories have a subject that bounces from the start, unless it has to leave."""
    return choose(uniform(seeds, _ACTOR, 8)[:, 2], 4) == BOUNCE


def _path(cast: dict[str, Tensor], kinds: Tensor, starts: Tensor, segment: Tensor) -> dict[str, Tensor]:
    """Where subject and camera are on every picture; `motion` [story, frame], the rest [story, picture]."""
    frames = segment.shape[1]
    pictures = torch.arange(pictures_of(frames), device=segment.device)
    rules = segment[:, (pictures + PICTURES - 1) // PICTURES]  # [story, picture]
    opens = (PICTURES * starts - PICTURES + 1).clamp_min(0)  # [story, segment] picture
    period = WIDTH + 2 * MARGIN

    start, velocity, motion = cast["start"].clone(), cast["velocity"].clone(), cast["motion"].clone()
    switch = kinds == StoryKind.SWITCH
    # In one place the subject continues from where it is; one that is out of sight keeps going.
    arrives = (start[:, 0] + velocity[:, 0] * (opens[:, 1] - opens[:, 0]) + MARGIN) % period - MARGIN
    start[:, 1] = torch.where(switch, arrives, start[:, 1])
    keeps = switch & (motion[:, 0] != motion[:, 1]) & ((arrives < 16) | (arrives > WIDTH - 16))
    motion[:, 1] = torch.where(keeps, motion[:, 0], motion[:, 1])
    velocity[:, 1] = torch.where(keeps | (switch & (motion[:, 0] == motion[:, 1])), velocity[:, 0], velocity[:, 1])

    since = pictures - opens.gather(1, rules)
    goes = motion.gather(1, rules)
    cycle = pictures % (2 * (PAN + _PAN_REST))  # rest, away, rest, back, one column a picture
    away = torch.where(cycle < PAN + _PAN_REST, cycle - _PAN_REST, 2 * PAN + 2 * _PAN_REST - cycle).clamp(0, PAN)
    pan = away * (kinds == StoryKind.PAN)[:, None]
    x = (start.gather(1, rules) + velocity.gather(1, rules) * since - pan + MARGIN) % period - MARGIN

    # A hop ends on the ground: a switch continues a hop in progress until it lands.
    hops = (switch & (motion[:, 0] == BOUNCE))[:, None] & (rules == 1)
    opened = (opens[:, 1] - opens[:, 0])[:, None]
    landing = hops & (since < (-opened) % _HOP)
    phase = (since + opened * hops) % _HOP / _HOP
    lift = 4 * _HOP_HEIGHT * phase * (1 - phase) * ((goes == BOUNCE) | landing)

    radius, ground = cast["radius"].gather(1, rules), cast["ground"].gather(1, rules)
    y = ground - lift - radius * foot(cast["shape"].gather(1, rules))
    visible = ((torch.minimum(x + radius, torch.full_like(x, WIDTH)) - (x - radius).clamp_min(0)) / (2 * radius)).clamp(
        0, 1
    )
    return {"motion": motion.gather(1, segment), "pan": pan, "radius": radius, "ground": ground,
            "centre": torch.stack((x, y), -1), "visible": visible}


def _tokens(shape: Tensor, path: dict[str, Tensor], depths: Tensor, slot: Tensor, pan: Tensor) -> dict[str, Tensor]:
    """Ground truth for each transformer token, at the middle of its latent frame."""
    stories, frames = shape.shape
    middle = (PICTURES * torch.arange(frames, device=shape.device) - 1).clamp_min(0)
    centre = path["centre"][:, middle]
    share = cover(shape.flatten(), path["radius"][:, middle].flatten(), centre.flatten(0, 1), TOKEN)
    share = share.view(stories, frames, HEIGHT // TOKEN, WIDTH // TOKEN)
    # Over one picture; at the far edge, where a subject wraps to the other side, it keeps its previous step.
    last = pictures_of(frames) - 1
    step = (
        path["centre"][:, (middle + 1).clamp_max(last)]
        - path["centre"][:, (middle + 1).clamp_max(last) - 1 if last else middle]
    )
    step = torch.where(step.abs() > WIDTH / 2, torch.zeros_like(step), step)
    velocity = step[:, :, None, None] * (share > 0)[..., None]
    # Rows are pooled once; columns when the camera's place is known.
    layers = torch.stack([(depths == depth).float() for depth in range(DEPTHS)], 2)  # [story, slot, depth, y, x]
    rows = layers.unflatten(3, (HEIGHT // TOKEN, TOKEN)).mean(4)
    views = rows.unfold(-1, WIDTH, 1).permute(0, 1, 4, 2, 3, 5)  # [story, slot, pan, depth, row, x]
    story = torch.arange(stories, device=shape.device)[:, None].expand(-1, frames)
    seen = views[story, slot, pan[:, middle]].unflatten(-1, (WIDTH // TOKEN, TOKEN)).mean(-1)
    return {"token_cover": share, "token_velocity": velocity, "token_depths": seen.permute(0, 1, 3, 4, 2)}


def _prompts(seeds: Tensor, kinds: list[StoryKind], starts: Tensor, truth: Truth) -> list[list[tuple[int, str]]]:
    """The prompts of each story, and the latent frame at which each begins."""
    chance = [uniform(seeds, _WORDS + segment, 8).tolist() for segment in range(SEGMENTS)]
    traits = torch.stack((truth.place, truth.time, truth.shape, truth.colour, truth.motion), -1).tolist()
    sayings: list[list[tuple[int, str]]] = []
    for story, kind in enumerate(kinds):
        sayings.append([])
        for segment, first in enumerate(starts[story].tolist()):
            if first < len(traits[story]):
                returns = kind is StoryKind.RETURN and segment == 2
                place, time, shape, colour, motion = traits[story][first]
                saying = Saying(place, time, shape, colour, motion, kind is StoryKind.PAN, returns)
                sayings[-1].append((first, say(saying, chance[segment][story])))
    return sayings
