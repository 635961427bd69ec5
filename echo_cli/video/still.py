"""A picture from a file, as a film can use it: upright, in sRGB, without transparency, in the film's shape.

What comes from outside is not trusted: formats, sizes and shapes are limited, and whatever a decoder says of a file
that it cannot read becomes one `Unusable` with a reason for people. Knows no model and no storyboard.
"""

import base64
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from echo_cli.files import read_small
from echo_cli.storyboard.nouns import CENTRE, Fit

FORMATS = ("JPEG", "PNG", "WEBP")
NAMES = "JPEG, PNG or WebP"
MOST_BYTES = 256 << 20  # of a file
MOST_PIXELS = 50_000_000  # a decoded one takes four bytes each, twice over when it is transparent
LEAST_SIDE = 16
MOST_SHAPE = 20  # times its shorter side that the longer one may be
SHARP = 2  # how much finer than the film's a picture stays until it is fitted


class Unusable(ValueError):
    """Why a file cannot be used, as the end of a sentence that begins with its name."""


def still(data: bytes, size: tuple[int, int], fit: Fit = Fit.COVER, focus: tuple[float, float] = CENTRE) -> np.ndarray:
    """The picture in an encoded file, fitted to `size` (width, height): [height, width, 3] uint8."""
    with _opened(data) as image:
        factor = min(image.size) // (SHARP * max(size))
        plain = _plain_modes(image)
        small = plain.reduce(factor) if factor > 1 else plain
        upright = small
        with suppress(Exception):  # tags that cannot be read say nothing of how a picture stands
            small.info.update(image.info)
            upright = ImageOps.exif_transpose(small)
        return np.asarray(_fitted(_in_srgb(upright, image.info.get("icc_profile")), size, fit, focus))


def data_uri(pixels: np.ndarray) -> str:
    """A small JPEG of [height, width, 3], for a page."""
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=75, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()


def read(path: Path) -> bytes:
    """The bytes of a picture's file; Unusable says why they cannot be had."""
    with readable():
        data = read_small(path, MOST_BYTES)
    if not data:
        raise Unusable("is empty")
    return data


@contextmanager
def readable() -> Iterator[None]:
    """An Unusable in place of the system's errors."""
    try:
        yield
    except FileNotFoundError:
        raise Unusable("is not there") from None
    except IsADirectoryError:
        raise Unusable("is a folder") from None
    except (OSError, ValueError) as error:
        raise Unusable(f"cannot be read: {getattr(error, 'strerror', None) or error}") from None


def check(path: Path) -> None:
    """An Unusable if the file is not a picture that can be used; all of it is decoded."""
    with _opened(read(path)):
        return


@contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    """The picture, decoded, if its sizes are sensible. Decoders of pictures raise anything."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        except UnidentifiedImageError:
            raise Unusable(f"is not a {NAMES} picture") from None
        except Image.DecompressionBombError:
            raise Unusable(f"has more than {MOST_PIXELS // 10**6} million pixels; make it smaller") from None
        except MemoryError:
            raise
        except Exception as error:
            raise Unusable(f"cannot be decoded: {_reason(error)}") from None
        with image:
            _check_shape(image)
            try:
                image.load()
            except MemoryError:
                raise
            except Exception as error:
                raise Unusable(f"is damaged: {_reason(error)}") from None
            yield image


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:100] or type(error).__name__


def _check_shape(image: Image.Image) -> None:
    width, height = image.size
    if getattr(image, "n_frames", 1) > 1:
        raise Unusable("is animated; save one picture of it")
    if width * height > MOST_PIXELS:
        raise Unusable(f"has {width}x{height} pixels, more than {MOST_PIXELS // 10**6} million; make it smaller")
    if min(width, height) < LEAST_SIDE:
        raise Unusable(f"is {width}x{height}; its sides must have at least {LEAST_SIDE} pixels")
    if max(width, height) > MOST_SHAPE * min(width, height):
        raise Unusable(f"is {width}x{height}, more than {MOST_SHAPE} times as long as its shorter side; cut it first")


def _plain_modes(image: Image.Image) -> Image.Image:
    """The same in one of the modes L, LA, RGB, RGBA and CMYK."""
    if image.mode.startswith("I"):  # sixteen bits of grey
        return Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
    if image.mode == "P" or "transparency" in image.info:
        return image.convert("RGBA")
    return image if image.mode in ("L", "LA", "RGB", "RGBA", "CMYK") else image.convert("RGB")


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """RGB, laid on black where it is transparent. A profile that cannot be used is ignored, as browsers do."""
    alpha = image.getchannel("A") if image.mode in ("LA", "RGBA") else None
    colour = image.convert(image.mode.removesuffix("A")) if alpha else image
    rgb = colour.convert("RGB")
    if profile:
        with suppress(Exception):
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            seen = colour if source.profile.xcolor_space.strip() != "RGB" else rgb
            rgb = ImageCms.profileToProfile(seen, source, ImageCms.createProfile("sRGB"), outputMode="RGB") or rgb
    if alpha is None:
        return rgb
    black = Image.new("RGB", rgb.size)
    black.paste(rgb, mask=alpha)
    return black


def _fitted(image: Image.Image, size: tuple[int, int], fit: Fit, focus: tuple[float, float]) -> Image.Image:
    wide, high = (side / wanted for side, wanted in zip(image.size, size, strict=True))
    if fit is Fit.CONTAIN:
        scale = max(wide, high)
        inner = max(1, round(image.width / scale)), max(1, round(image.height / scale))
        page = Image.new("RGB", size)
        place = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
        page.paste(image.resize(inner, Image.Resampling.LANCZOS), place)
        return page
    box = (0.0, 0.0, float(image.width), float(image.height))
    if fit is Fit.COVER:
        scale = min(wide, high)
        seen = [wanted * scale for wanted in size]
        left, top = (min(max(0.0, at * side - part / 2), max(0.0, side - part))
                     for at, side, part in zip(focus, image.size, seen, strict=True))
        box = (left, top, min(left + seen[0], image.width), min(top + seen[1], image.height))
    return image.resize(size, Image.Resampling.LANCZOS, box=box)
