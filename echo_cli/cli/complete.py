"""What a shell may offer for an argument: names of models and policies, scenes of the storyboard named before."""

from typing import Any


def models(incomplete: str) -> list[str]:
    from echo_cli.models.spec import SPECS

    return [name for name in SPECS if name.startswith(incomplete)]


def policies(incomplete: str) -> list[str]:
    from echo_cli.memory.settings import SETTINGS

    return [name for name in SETTINGS if name.startswith(incomplete)]


def scene_ids(ctx: Any, incomplete: str) -> list[str]:
    """The ids in the storyboard or the trace that the command line names; none while it cannot be read."""
    import json
    from pathlib import Path

    import yaml

    path = ctx.params.get("storyboard") or ctx.params.get("trace")
    try:
        text = Path(path).read_text("utf-8")
        found = json.loads(text) if text.lstrip().startswith("{") else yaml.safe_load(text)
        found = found.get("header", {}).get("storyboard", found)
        ids = [str(scene["id"]) for scene in found["scenes"]]
    except (OSError, TypeError, ValueError, KeyError, AttributeError, yaml.YAMLError):
        return []
    return [name for name in ids if name.startswith(incomplete)]
