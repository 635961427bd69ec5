"""Clips for tests: every picture is one shade of grey, which says when it is shown."""

from pathlib import Path

import numpy as np

from echo_cli.video import ffmpeg

STEP = 4  # shades from one picture to the next


def write_clip(path: Path, pictures: int = 48, fps: float = 16, size: tuple[int, int] = (96, 64), *more: str) -> Path:
    """A clip whose picture n has the shade STEP * n, to which black and white are added at the left and right edge."""
    shade = f"if(lt(X,8),0,if(gt(X,{size[0] - 9}),255,{STEP}*N))"
    blank = f"nullsrc=size={size[0]}x{size[1]}:rate={fps}:duration={pictures / fps:.6f}"
    source = f"{blank},geq=lum='{shade}':cb=128:cr=128"
    path.parent.mkdir(parents=True, exist_ok=True)
    done = ffmpeg.run(["-y", "-f", "lavfi", "-i", source, "-vf", "scale=out_range=full:in_range=full,format=rgb24",
                       *(more or ("-c:v", "libx264rgb", "-qp", "0")), str(path)])
    assert done.returncode == 0, done.stderr.decode()
    return path


def numbers(pictures: np.ndarray) -> list[int]:
    """Which pictures of such a clip these are, by the shade in their middles."""
    middle = pictures[:, pictures.shape[1] // 2, pictures.shape[2] // 2].astype(float).mean(1)
    return [round(shade / STEP) for shade in middle]
