"""Pictures that are compressed without loss come back bit by bit, and what is damaged is noticed."""

from pathlib import Path

import numpy as np
import pytest

from echo_cli.errors import Damaged
from echo_cli.video import lossless


def pictures(count: int, width: int, height: int) -> np.ndarray:
    """Noise, extremes of each channel, and a slow gradient."""
    dice = np.random.default_rng(1)
    noise = dice.integers(0, 256, (count, height, width, 3), np.uint8)
    noise[::3, :, :width // 2] = dice.choice([0, 255], (len(noise[::3]), height, width // 2, 3))
    noise[1::3] = np.linspace(0, 255, height * width * 3).reshape(height, width, 3)
    return noise


@pytest.mark.parametrize(("width", "height"), [(64, 48), (32, 32), (17, 33)])
@pytest.mark.parametrize(("stored", "count"), [(9, 9), (9, 4), (1, 1), (9, 0)])
def test_every_bit_comes_back(tmp_path: Path, width: int, height: int, stored: int, count: int) -> None:
    made = pictures(stored, width, height)
    (tmp_path / "raw").write_bytes(made.tobytes() + b"and what is written meanwhile")
    lossless.compress(tmp_path / "raw", stored, width, height, tmp_path / "small")
    back = b"".join(lossless.decompress(tmp_path / "small", count, width, height))
    assert back == made[:count].tobytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw", "small"]


def test_pictures_that_move_little_take_little(tmp_path: Path) -> None:
    still = np.repeat(pictures(2, 64, 48)[1:], 20, axis=0)
    (tmp_path / "raw").write_bytes(still.tobytes())
    lossless.compress(tmp_path / "raw", 20, 64, 48, tmp_path / "small")
    assert (tmp_path / "small").stat().st_size < still.nbytes / 10


@pytest.mark.parametrize("content", [b"", b"no film", None])
def test_a_file_that_is_short_or_no_film_is_damaged(tmp_path: Path, content: bytes | None) -> None:
    (tmp_path / "raw").write_bytes(pictures(4, 64, 48).tobytes())
    lossless.compress(tmp_path / "raw", 4, 64, 48, tmp_path / "small")
    if content is None:
        content = (tmp_path / "small").read_bytes()[:9000]
    (tmp_path / "small").write_bytes(content)
    with pytest.raises(Damaged, match="damaged or cut short"):
        list(lossless.decompress(tmp_path / "small", 4, 64, 48))
