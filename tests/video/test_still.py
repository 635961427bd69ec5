"""Pictures from anywhere, as a film can use them; and the ones that it cannot, each with its reason."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from echo_cli.storyboard.nouns import Fit
from echo_cli.video.still import MOST_PIXELS, Unusable, check, still

SIZE = (96, 64)
RED, BLUE, BLACK = (220, 30, 40), (20, 40, 210), (0, 0, 0)


def halves(width: int = 192, height: int = 128, mode: str = "RGB") -> Image.Image:
    """Red on the left, blue on the right."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(BLUE, (width // 2, 0, width, height))
    return image.convert(mode)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def near(pixel: np.ndarray, colour: tuple[int, int, int], off: int = 12) -> bool:
    return bool((abs(pixel.astype(int) - colour) <= off).all())


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("JPEG", {"quality": 95}), ("WEBP", {"lossless": True})])
def test_every_format_is_read(kind: str, options: dict) -> None:
    pixels = still(encoded(halves(), kind, **options), SIZE)
    assert pixels.shape == (64, 96, 3) and pixels.dtype == np.uint8
    assert near(pixels[32, 10], RED) and near(pixels[32, 85], BLUE)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1", "I;16"])
def test_every_mode_is_read(mode: str) -> None:
    image = Image.fromarray(np.full((128, 192), 40_000, np.uint16)) if mode == "I;16" else halves(mode=mode)
    pixels = still(encoded(image, "JPEG" if mode == "CMYK" else "PNG"), SIZE)
    assert pixels.shape == (64, 96, 3)
    if mode == "I;16":
        assert near(pixels[32, 10], (155, 155, 155), 1), "sixteen bits keep their brightness"


def test_sixteen_bits_of_colour() -> None:
    raw = b"".join(b"\0" + struct.pack(">3H", 65535, 32768, 0) * 32 for _ in range(32))

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    png = (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">2I5B", 32, 32, 16, 2, 0, 0, 0))
           + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b""))
    assert near(still(png, SIZE)[32, 48], (255, 128, 0), 1)


def test_a_picture_stands_as_its_camera_was_held() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    pixels = still(encoded(halves(), "JPEG", exif=exif, quality=95), SIZE)
    assert near(pixels[32, 10], BLUE) and near(pixels[32, 85], RED)


def test_transparency_is_laid_on_black() -> None:
    image = halves(mode="RGBA")
    image.paste((255, 255, 255, 0), (96, 0, 192, 128))
    pixels = still(encoded(image), SIZE)
    assert near(pixels[32, 10], RED) and near(pixels[32, 85], BLACK)


def test_colours_of_another_profile_become_those_of_a_screen() -> None:
    """In a profile whose primaries are swapped, red is what a screen calls blue."""
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = srgb.replace(b"rXYZ", b"tmpX").replace(b"bXYZ", b"rXYZ").replace(b"tmpX", b"bXYZ")
    assert near(still(encoded(halves(), icc_profile=srgb), SIZE)[32, 10], RED)
    assert near(still(encoded(halves(), icc_profile=swapped), SIZE)[32, 10], RED[::-1], 40)
    for useless in (lab, b"no profile"):
        assert near(still(encoded(halves(), icc_profile=useless), SIZE)[32, 10], RED)


def test_cover_cuts_around_its_focus() -> None:
    wide = encoded(halves(600, 64))
    assert near(still(wide, SIZE, focus=(0.1, 0.5))[32, 90], RED)
    assert near(still(wide, SIZE, focus=(0.9, 0.5))[32, 5], BLUE)
    middle = still(wide, SIZE)
    assert near(middle[32, 5], RED) and near(middle[32, 90], BLUE)


def test_contain_leaves_black_and_stretch_leaves_nothing() -> None:
    tall = encoded(halves(64, 256))
    contained, stretched = still(tall, SIZE, Fit.CONTAIN), still(tall, SIZE, Fit.STRETCH)
    assert near(contained[32, 5], BLACK) and near(contained[32, 45], RED) and near(contained[32, 51], BLUE)
    assert near(stretched[2, 5], RED) and near(stretched[60, 90], BLUE)


def test_a_picture_of_the_films_size_is_untouched() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    assert (still(encoded(Image.fromarray(pixels)), SIZE) == pixels).all()


def bomb() -> bytes:
    """A PNG of a few bytes that says it is enormous."""
    image = encoded(Image.new("1", (32, 32)))
    head = struct.pack(">2I5B", 60_000, 60_000, 1, 0, 0, 0, 0)
    return image[:16] + head + struct.pack(">I", zlib.crc32(b"IHDR" + head)) + image[33:]


WRONG = {
    "text": (b"this is no picture", "is not a JPEG, PNG or WebP picture"),
    "empty": (b"", "is empty$"),
    "another format": (encoded(halves(), "BMP"), "is not a JPEG, PNG or WebP picture"),
    "cut off": (encoded(halves(), "JPEG")[:700], "is damaged"),
    "animated": (encoded(halves(), "WEBP", save_all=True, append_images=[Image.new("RGB", (192, 128))]), "is animated"),
    "a dot": (encoded(Image.new("RGB", (1, 1))), "sides must have at least 16 pixels"),
    "a thread": (encoded(Image.new("RGB", (30_000, 2))), "sides must have at least 16 pixels"),
    "a ribbon": (encoded(Image.new("RGB", (1_000, 20))), "times as long as its shorter side"),
    "a bomb": (bomb(), "million"),
    "too large": (encoded(Image.new("1", (10_000, MOST_PIXELS // 9_000))), "million"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_used_is_refused_with_its_reason(name: str, tmp_path: Path) -> None:
    data, reason = WRONG[name]
    path = tmp_path / "picture.jpg"
    path.write_bytes(data)
    with pytest.raises(Unusable, match=reason):
        check(path)


def test_what_is_no_file_is_refused_with_its_reason(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "none.png", "is not there"), (tmp_path, "is a folder")):
        with pytest.raises(Unusable, match=reason):
            check(path)
