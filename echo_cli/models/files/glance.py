"""Whether a model looks complete, judged by the names, sizes and ends of its files: no weights are read.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path

from echo_cli.errors import EchoError
from echo_cli.files import parse_json, why_unreadable
from echo_cli.models.files.download import halves, receipt
from echo_cli.models.files.folders import Files, Layout, damaged, description, files_in
from echo_cli.models.tiny.parts import check

_HEAD = 100_000_000  # bytes of a table of contents, at most, in any safetensors file


@dataclass(frozen=True, slots=True)
class Glance:
    """`lacks` is empty if nothing seems to be missing."""

    bytes: int
    lacks: str
    hint: str = ""

    @property
    def whole(self) -> bool:
        return not self.lacks


def glance(folder: Path, layout: Layout) -> Glance:
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    try:
        if layout is Layout.TRAINED:
            check(folder)
            return Glance(size, "")
        if half := halves(folder):
            return Glance(
                size,
                f"half a file: {half[0].name}",
                "Run `echo-cli models get` to resume the download, or convert the model again.",
            )
        files = files_in(folder, layout)
        if lacking := files.lacking():
            can_fetch = receipt(folder) or layout is Layout.RELEASED
            again = "Download the rest with `echo-cli models get`." if can_fetch else ""
            return Glance(size, f"lacks {', '.join(lacking)}", again)
        _look(files)
        if layout is Layout.OURS:
            _compare_sizes(folder)
    except EchoError as error:
        return Glance(size, error.message, error.hint or "")
    return Glance(size, "")


def _look(files: Files) -> None:
    for path in files.all():
        if path.suffix == ".safetensors":
            _look_at_safetensors(path)
        elif (
            path.suffix in (".pt", ".pth")
            and path.stat().st_size > 4
            and _begins_zipped(path)
            and not zipfile.is_zipfile(path)
        ):
            raise damaged(path, "cut short")


def _look_at_safetensors(path: Path) -> None:
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > _HEAD:
                raise ValueError(f"a table of {length} bytes")
            table = parse_json(file.read(length))
        ends = [entry["data_offsets"][1] for name, entry in table.items() if name != "__metadata__"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise damaged(path, f"not a safetensors file: {why_unreadable(error)}") from None
    if 8 + length + max(ends, default=0) != path.stat().st_size:
        raise damaged(path, "cut short")


def _begins_zipped(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _compare_sizes(folder: Path) -> None:
    for part, noted in description(folder)["parts"].items():
        if "bytes" in noted and (folder / noted["file"]).stat().st_size != noted["bytes"]:
            raise damaged(folder / noted["file"], f"not the size that model.json gives for the {part}")
