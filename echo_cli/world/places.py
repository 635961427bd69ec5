"""The six places: each a painter that turns random numbers into one landscape of that kind.

The layout (where the hills lie, which houses stand) comes from the numbers alone and is in no prompt, so only memory
can bring a place back. Knows nothing of subjects, cameras or time passing.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from echo_cli.world.dice import between
from echo_cli.world.draw import HEIGHT, Canvas, stairs, tents, waves

LAYOUT = 64  # random numbers that decide one place

# By time of day (day, sunset, night): what light does to a colour, and the haze that distant things fade into.
_LIGHT = ((1.0, 1.0, 1.0), (0.92, 0.66, 0.60), (0.26, 0.33, 0.56))
_AIR = ((0.80, 0.89, 0.97), (0.98, 0.62, 0.45), (0.15, 0.20, 0.40))
_SKY = (  # top, middle, horizon
    ((0.30, 0.58, 0.93), (0.55, 0.77, 0.97), (0.86, 0.94, 0.99)),
    ((0.32, 0.24, 0.52), (0.84, 0.42, 0.46), (1.00, 0.76, 0.47)),
    ((0.03, 0.05, 0.16), (0.08, 0.11, 0.28), (0.18, 0.24, 0.46)),
)
_LAMP = ((1.00, 0.98, 0.82), (1.00, 0.90, 0.58), (0.93, 0.94, 0.88))  # sun, low sun, moon


class _Scene(Canvas):
    """A canvas with its layout numbers and its hour: `chance` [n, LAYOUT], `time` [n]."""

    def __init__(self, chance: Tensor, time: Tensor, width: int, detail: int) -> None:
        super().__init__(len(chance), width, chance.device, detail)
        self.width, self.chance, self.time = width, chance, time

    def pick(self, table: tuple) -> Tensor:
        return torch.tensor(table, device=self.colour.device)[self.time]

    def vary(self, number: int, low: float, high: float) -> Tensor:
        return between(self.chance[:, number], low, high)

    def lit(self, red: float, green: float, blue: float, haze: float = 0.0) -> Tensor:
        """A daylight colour under this hour's light, `haze` of it lost in the air: [n, 3]."""
        colour = torch.tensor((red, green, blue), device=self.colour.device) * self.pick(_LIGHT)
        return colour.lerp(self.pick(_AIR), haze)

    def ramp(self, top: Tensor, bottom: Tensor, start: float) -> Tensor:
        """A vertical gradient from height `start` to the lower edge: [n, 3, y, 1]."""
        share = ((self.y - start) / (HEIGHT - start)).clamp(0, 1)
        return top[:, :, None, None].lerp(bottom[:, :, None, None], share)

    def sky(self) -> None:
        """Gradient, and the sun or the moon with its glow. Uses numbers 0 to 3."""
        top, middle, low = self.pick(_SKY).unbind(1)
        share = (self.y / 84).clamp(0, 1)
        upper = top[:, :, None, None].lerp(middle[:, :, None, None], (share * 2).clamp(0, 1))
        self.colour.copy_(upper.lerp(low[:, :, None, None], (share * 2 - 1).clamp(0, 1)))
        sunset = self.time == 1
        cx = self.vary(0, 24, self.width - 24)
        cy = torch.where(sunset, self.vary(1, 46, 60), self.vary(1, 18, 30))
        radius = torch.where(sunset, 15.0, 10.0)
        lamp = self.pick(_LAMP)
        glow = torch.exp(-self.distance(cx, cy) / (radius * 1.6)[:, None, None])
        self.paint(glow * self.pick(((0.55,), (0.60,), (0.35,)))[:, :, None], lamp)
        self.paint(self.disc(cx, cy, radius), lamp)

    def cloud(self, number: int) -> None:
        """One soft cloud of three ellipses. Uses three numbers."""
        cx, cy, size = (
            self.vary(number, 10, self.width - 10),
            self.vary(number + 1, 14, 44),
            self.vary(number + 2, 10, 16),
        )
        shape = torch.maximum(
            self.blob(cx, cy, size * 2, size * 0.45),
            torch.maximum(self.blob(cx - size * 0.6, cy - size * 0.3, size, size * 0.5),
                          self.blob(cx + size * 0.5, cy - size * 0.45, size * 0.9, size * 0.6)),
        )
        self.paint(shape * 0.75, self.lit(1, 1, 1, 0.25), 0)

    def at(self, ridge: Tensor, x: Tensor) -> Tensor:
        """The height of a skyline at a column: [n]."""
        return ridge.gather(1, (x * self.detail).long().clamp(0, ridge.shape[1] - 1)[:, None])[:, 0]

    def row_of_pines(self, number: int, base: Tensor, height: float, half: float) -> Tensor:
        """The skyline of a dense row of pointed trees. Uses 12 numbers."""
        count = 12
        step = self.width / count
        slots = (torch.arange(count, device=self.x.device) + 0.5) * step
        numbers = self.chance[:, number : number + count]
        centre = slots + (numbers - 0.5) * step * 0.9
        tall = height * (0.55 + 0.45 * ((numbers * 7.31) % 1))
        return tents(self.x, centre, tall, torch.full_like(tall, half), base)


def meadow(scene: _Scene) -> None:
    scene.sky()
    scene.cloud(4)
    scene.cloud(7)
    far = waves(scene.x, scene.chance[:, 10:13], scene.vary(13, 62, 72), 11, 150)
    scene.paint(scene.below(far), scene.lit(0.36, 0.58, 0.44, 0.40), 1)
    middle = waves(scene.x, scene.chance[:, 14:17], scene.vary(17, 76, 84), 8, 190)
    for number in (18, 21, 24):
        cx, radius = scene.vary(number, 10, scene.width - 10), scene.vary(number + 1, 10, 15)
        ground = scene.at(middle, cx) + 2
        trunk = scene.stroke(cx, ground, cx, ground - radius, torch.full_like(cx, 2.0))
        scene.paint(trunk, scene.lit(0.40, 0.28, 0.18, 0.1), 2)
        scene.paint(scene.disc(cx, ground - radius * 1.5, radius), scene.lit(0.20, 0.47, 0.22, 0.12), 2)
        crown = scene.disc(cx - radius * 0.25, ground - radius * 1.75, radius * 0.55)
        scene.paint(crown, scene.lit(0.30, 0.58, 0.27, 0.12), 2)
    scene.paint(scene.below(middle), scene.ramp(scene.lit(0.46, 0.72, 0.34, 0.15), scene.lit(0.34, 0.6, 0.26), 70), 2)
    near = waves(scene.x, scene.chance[:, 28:31], scene.vary(27, 93, 98), 3, 230)
    scene.paint(scene.below(near), scene.ramp(scene.lit(0.56, 0.80, 0.36), scene.lit(0.33, 0.60, 0.22), 92), 3)


def city(scene: _Scene) -> None:
    scene.sky()
    for number, count, low, high, haze, depth in ((4, 11, 26, 66, 0.55, 1), (28, 7, 48, 82, 0.14, 2)):
        chance = scene.chance[:, number : number + 2 * count]
        widths = 0.65 + 0.7 * chance[:, :count]
        right = widths.cumsum(1)
        edges = ((right - widths) / right[:, -1:] * (scene.width + 8) - 4).round()
        heights, inside = stairs(scene.x, edges, between(chance[:, count:], low, high).round())
        walls = scene.below(heights)
        shade = torch.where((heights * 0.37) % 1 > 0.5, 1.0, 0.86)[:, None, None, :]  # neighbours differ in tone
        scene.paint(walls, scene.lit(0.47, 0.51, 0.60, haze)[:, :, None, None] * shade, depth)
        if depth == 2:
            column = scene.coverage(((inside % 13) - 6.5).abs() - 3)[:, None]
            row = scene.coverage(((scene.y - heights[:, None]) % 14 - 8).abs() - 3.5) * (scene.y > heights[:, None] + 3)
            glass = scene.pick(((0.70, 0.82, 0.92), (1.0, 0.80, 0.52), (0.98, 0.83, 0.45)))
            scene.paint(walls * column * row * 0.8, glass, depth)
    kerb = torch.full_like(scene.colour[:, 0, 0], 94.0)
    scene.paint(scene.below(kerb), scene.lit(0.66, 0.66, 0.68), 3)
    scene.paint(scene.below(kerb + 7), scene.ramp(scene.lit(0.36, 0.37, 0.41), scene.lit(0.27, 0.28, 0.32), 100), 3)


def desert(scene: _Scene) -> None:
    scene.sky()
    x = scene.x
    for number in (4, 8):  # table mountains
        cx, half, top = (
            scene.vary(number, 20, scene.width - 20),
            scene.vary(number + 1, 22, 40),
            scene.vary(number + 2, 42, 58),
        )
        slope = ((x - cx[:, None]).abs() - half[:, None]).clamp_min(0) * 1.6
        mesa = scene.below((top[:, None] + slope).clamp_max(200))
        scene.paint(mesa, scene.ramp(scene.lit(0.80, 0.45, 0.30, 0.25), scene.lit(0.85, 0.58, 0.40, 0.35), 40), 1)
    for number, low, high, height, length, day, shadow, depth in (
        (12, 70, 78, 8, 170, (0.93, 0.76, 0.48), (0.80, 0.60, 0.36), 2),
        (16, 82, 88, 6, 210, (0.97, 0.82, 0.55), (0.86, 0.67, 0.41), 2),
    ):
        ridge = waves(x, scene.chance[:, number : number + 3], scene.vary(number + 3, low, high), height, length)
        slope = scene.slope(ridge)
        side = torch.sigmoid(slope * 12)[:, None, None, :]  # the lee side of a dune lies in shade
        lit, dark = scene.lit(*day, 0.1)[:, :, None, None], scene.lit(*shadow, 0.1)[:, :, None, None]
        scene.paint(scene.below(ridge), lit.lerp(dark, side), depth)
        if number == 12:
            for place in (20, 22):
                _cactus(scene, place)
    near = waves(x, scene.chance[:, 26:29], scene.vary(24, 94, 99), 2.5, 240)
    scene.paint(scene.below(near), scene.ramp(scene.lit(0.98, 0.86, 0.60), scene.lit(0.84, 0.66, 0.42), 92), 3)


def _cactus(scene: _Scene, number: int) -> None:
    cx, tall = scene.vary(number, 12, scene.width - 12), scene.vary(number + 1, 22, 32)
    foot = torch.full_like(cx, 92.0)
    thick, thin = torch.full_like(cx, 3.6), torch.full_like(cx, 2.6)
    shape = scene.stroke(cx, foot, cx, foot - tall, thick)
    for side, share in ((-1, 0.45), (1, 0.6)):
        elbow, height = cx + side * 9, foot - tall * share
        shape = torch.maximum(shape, scene.stroke(cx, height, elbow, height, thin))
        shape = torch.maximum(shape, scene.stroke(elbow, height, elbow, height - 8, thin))
    scene.paint(shape, scene.lit(0.28, 0.50, 0.28, 0.05), 2)


def beach(scene: _Scene) -> None:
    scene.sky()
    scene.cloud(4)
    horizon = torch.full_like(scene.colour[:, 0, 0], 60.0)
    cx, half = scene.vary(7, 0, scene.width), scene.vary(8, 30, 55)
    island = tents(scene.x, torch.stack((cx, cx + half * 0.7), 1), scene.chance[:, 9:11] * 10 + 10,
                   torch.stack((half, half * 0.8), 1), horizon[:, 0])
    scene.paint(scene.below(island), scene.lit(0.34, 0.52, 0.48, 0.35), 1)
    scene.paint(scene.below(horizon), scene.ramp(scene.lit(0.16, 0.50, 0.76, 0.12), scene.lit(0.36, 0.80, 0.86), 60), 2)
    shine = torch.exp(-((scene.x - scene.vary(0, 24, scene.width - 24)[:, None]) / 16).square())[:, None]
    scene.paint(scene.below(horizon) * shine * 0.45, scene.pick(_LAMP))  # the sun or moon on the water
    shore = waves(scene.x, scene.chance[:, 11:14], scene.vary(14, 86, 92), 4, 160)
    scene.paint(scene.below(shore - 4), scene.lit(0.97, 0.99, 1.0), 3)
    scene.paint(scene.below(shore), scene.ramp(scene.lit(0.95, 0.86, 0.64), scene.lit(0.86, 0.73, 0.49), 86), 3)
    for number in (16, 20):
        cx, lean, tall = (
            scene.vary(number, 8, scene.width - 8),
            scene.vary(number + 1, -14, 14),
            scene.vary(number + 2, 42, 60),
        )
        foot = torch.full_like(cx, 98.0)
        top = foot - tall
        thick = torch.full_like(cx, 2.6)
        trunk = torch.maximum(scene.stroke(cx, foot, cx + lean * 0.35, foot - tall * 0.5, thick),
                              scene.stroke(cx + lean * 0.35, foot - tall * 0.5, cx + lean, top, thick))
        scene.paint(trunk, scene.lit(0.50, 0.36, 0.22), 2)
        leaves = [scene.stroke(cx + lean, top, cx + lean + dx, top + dy, thick)
                  for dx, dy in ((-17, 3), (-13, -7), (0, -11), (13, -7), (17, 3))]
        scene.paint(torch.stack(leaves).amax(0), scene.lit(0.18, 0.50, 0.26), 2)


def mountains(scene: _Scene) -> None:
    scene.sky()
    for number, count, base, height, haze, depth in ((4, 4, 84.0, 52.0, 0.45, 1), (16, 3, 90.0, 42.0, 0.15, 1)):
        chance = scene.chance[:, number : number + 2 * count]
        step = scene.width / count
        centre = (torch.arange(count, device=scene.x.device) + chance[:, :count]) * step
        tall = height * (0.6 + 0.4 * chance[:, count:])
        foot = torch.full_like(tall[:, 0], base)
        ridge = tents(scene.x, centre, tall, step * (0.55 + 0.35 * chance[:, count:]), foot)
        scene.paint(scene.below(ridge), scene.lit(0.46, 0.52, 0.64, haze), depth)
        cap = ridge + 4 + waves(scene.x, scene.chance[:, number : number + 3], foot * 0, 2.5, 22)
        snow = scene.below(ridge) * (1 - scene.below(cap + (base - height * 0.62 - ridge).clamp_min(0) * 0.8))
        scene.paint(snow, scene.lit(0.96, 0.97, 1.0, haze * 0.5), depth)
    pines = scene.row_of_pines(26, scene.vary(24, 92, 96), 22, 9)
    scene.paint(scene.below(pines), scene.lit(0.18, 0.34, 0.34, 0.10), 2)
    near = waves(scene.x, scene.chance[:, 40:43], scene.vary(43, 91, 96), 3, 220)
    scene.paint(scene.below(near), scene.ramp(scene.lit(0.97, 0.98, 1.0), scene.lit(0.78, 0.85, 0.95), 92), 3)


def forest(scene: _Scene) -> None:
    scene.sky()
    far = scene.row_of_pines(4, scene.vary(16, 70, 78), 46, 15)
    scene.paint(scene.below(far), scene.lit(0.30, 0.50, 0.42, 0.45), 1)
    middle = scene.row_of_pines(17, scene.vary(29, 88, 94), 50, 13)
    scene.paint(scene.below(middle), scene.lit(0.14, 0.36, 0.24, 0.12), 2)
    floor = waves(scene.x, scene.chance[:, 30:33], scene.vary(33, 92, 97), 3, 200)
    for number in (34, 37, 40):
        cx, thick = scene.vary(number, 6, scene.width - 6), scene.vary(number + 1, 4, 6.5)
        shape = scene.stroke(cx, torch.full_like(cx, -20.0), cx, torch.full_like(cx, 100.0), thick)
        scene.paint(shape, scene.lit(0.36, 0.25, 0.18), 3)
        light = scene.stroke(
            cx - thick * 0.5, torch.full_like(cx, -20.0), cx - thick * 0.5, torch.full_like(cx, 100.0), thick * 0.3
        )
        scene.paint(light, scene.lit(0.48, 0.35, 0.25), 3)
    scene.paint(scene.below(floor), scene.ramp(scene.lit(0.36, 0.46, 0.22), scene.lit(0.24, 0.32, 0.15), 92), 3)


PAINTERS: tuple[Callable[[_Scene], None], ...] = (meadow, city, desert, beach, mountains, forest)


def paint_places(
    place: Tensor, time: Tensor, chance: Tensor, width: int, detail: int = 1
) -> tuple[Tensor, Tensor]:
    """Panoramas [n, 3, y, x] and their depth layers [n, y, x] for places [n] at times [n]; `detail` dots to a pixel."""
    panoramas = chance.new_empty(len(place), 3, HEIGHT * detail, width * detail)
    depths = chance.new_empty(len(place), HEIGHT * detail, width * detail)
    for number, paint in enumerate(PAINTERS):
        chosen = (place == number).nonzero()[:, 0]
        if len(chosen):
            scene = _Scene(chance[chosen], time[chosen], width, detail)
            paint(scene)
            panoramas[chosen], depths[chosen] = scene.colour, scene.depth
    return panoramas, depths
