"""Readable help: typer shows an option's type by its Python name, truncates summaries, and groups options only if it
draws boxes around them.

Knows what help looks like, not what the commands do.
"""

import re
from typing import Any

_TYPES = {"str": "NAME", "int": "N", "float": "N", "path": "PATH", "file": "FILE"}
_TYPE = re.compile(r"<(?:list\[)?(str|int|float|path|file)(?: range)?\]?>")
_CHOICE = re.compile(r" <[^>]*>")
_REMARKS = (  # how typer shows defaults and bounds, and how they read better
    (re.compile(r"\[default: \(([^)]*)\)"), r"[default: \1"),
    (re.compile(r"\b([\d.]+)<=x<=([\d.]+)\]$"), r"\1 to \2]"),
    (re.compile(r"\bx>=([\d.]+)\]$"), r"at least \1]"),
)


def plain(command: Any) -> Any:
    """The command and its subcommands, with help that names no Python types and whole first sentences as summaries."""
    for parameter in command.params:
        _plain_parameter(parameter)
    if any(getattr(parameter, "rich_help_panel", None) for parameter in command.params):
        command.format_options = lambda ctx, formatter: _format_panels(command, ctx, formatter)
    for below in getattr(command, "commands", {}).values():
        below.short_help = below.short_help or _first_sentence(below.help or "")
        plain(below)
    return command


def _plain_parameter(parameter: Any) -> None:
    record, usage = parameter.get_help_record, parameter.get_usage_pieces
    is_argument = parameter.param_type_name == "argument"

    def plain_record(ctx: Any) -> tuple[str, str] | None:
        entry = record(ctx)
        if entry is None:
            return None
        name, text = entry
        name = _CHOICE.sub("", name) if is_argument else _TYPE.sub(lambda match: _TYPES[match[1]], name)
        for remark, better in _REMARKS:
            text = remark.sub(better, text)
        return name, text

    parameter.get_help_record = plain_record
    parameter.get_usage_pieces = lambda ctx: [re.sub(r"^\{(.*)\}", r"\1", piece) for piece in usage(ctx)]


def _format_panels(command: Any, ctx: Any, formatter: Any) -> None:
    """A section for each panel, in the order in which parameters come; parameters without a panel come last."""
    panels: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.get_params(ctx):
        if record := parameter.get_help_record(ctx):
            panels.setdefault(getattr(parameter, "rich_help_panel", None) or "Other", []).append(record)
    for panel, records in panels.items():
        with formatter.section(panel):
            formatter.write_dl(records)


def _first_sentence(text: str) -> str:
    paragraph = " ".join(text.partition("\n\n")[0].split())
    return re.split(r"(?<=[.?])\s", paragraph, maxsplit=1)[0]
