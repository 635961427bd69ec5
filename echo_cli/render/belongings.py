"""What is ours in the two folders beside a film, NAME.resume and NAME.states, by its name; nothing else is removed."""

import errno
import os
import re
import shutil
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from echo_cli.video import segments

ATTEMPTS = 20  # to clear a folder, a tenth of a second apart
# notes, states of memory, compressed pictures, and what a Mac's Finder leaves in every folder
_OURS = re.compile(r"(checkpoint|states|snapshot-\d{6,})\.json(\.partial)?|trace\.json|\.DS_Store"
                   r"|rest-\d{6,}\.(raw|h264)(\.partial)?|(state-\d{6,}-\d+|snapshot-\d{6,}|scene-\d{6,})\.safetensors")


def is_ours(name: str) -> bool:
    return bool(_OURS.fullmatch(name)) or segments.is_ours(name)


def foreign(folder: Path) -> str | None:
    """That a folder holds something that is not ours, and what."""
    names = sorted(name for name in os.listdir(folder) if not is_ours(name)) if folder.is_dir() else []
    return f"{folder} holds something that no run wrote: {names[0]}" if names else None


def clear(folder: Path, stay: Collection[Path] = ()) -> None:
    """Remove what is ours in a folder, but for what is to stay, and the folder itself if nothing else is in it."""
    for _ in range(ATTEMPTS):
        for path in _ours(folder, stay):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        with suppress(OSError):  # something else is in it
            folder.rmdir()
        if not _ours(folder, stay):
            return
        time.sleep(0.1)  # an encoder that outlives its killed run still writes there
    raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), os.fspath(folder))


def _ours(folder: Path, stay: Collection[Path]) -> list[Path]:
    if folder.is_symlink() or not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if is_ours(path.name) and path not in stay]
