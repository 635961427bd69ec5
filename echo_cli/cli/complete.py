"""What a shell offers as completions: names of models and policies, and the scenes of the trace already named."""

import typer


def models(incomplete: str) -> list[str]:
    from echo_cli.models.registry import names

    return [name for name in names() if name.startswith(incomplete)]


def released(incomplete: str) -> list[str]:
    from echo_cli.models.files.releases import RELEASES

    return [name for name in RELEASES if name.startswith(incomplete)]


def policies(incomplete: str) -> list[str]:
    from echo_cli.memory.table import POLICIES

    return [name for name in POLICIES if name.startswith(incomplete)]


def codecs(incomplete: str) -> list[str]:
    from echo_cli.video.encoding import NAMED

    return [name for name in NAMED if name.startswith(incomplete)]


def scene_ids(ctx: typer.Context, incomplete: str) -> list[str]:
    """The scenes of the trace that the command line names; none if it cannot be read."""
    from pathlib import Path

    from echo_cli.cli.show import trace_beside
    from echo_cli.errors import EchoError
    from echo_cli.trace.reader import read_trace

    # An option whose value is still missing leaves the words before it unparsed.
    trace = ctx.params.get("trace") or next(iter(ctx.args), None)
    if trace is None:
        return []
    try:
        timeline = read_trace(trace_beside(Path(trace))).header.timeline
    except (TypeError, OSError, EchoError):
        return []
    return [scene.id for scene in timeline if scene.id.startswith(incomplete)]


def kept_ids(ctx: typer.Context, incomplete: str) -> list[str]:
    """The scenes of the file of scenes that the command line names; none while it cannot be read."""
    from pathlib import Path

    from echo_cli.errors import EchoError
    from echo_cli.storyboard.series import read_scenes

    file = ctx.params.get("file") or next(iter(ctx.args), None)
    if file is None:
        return []
    try:
        scenes = read_scenes(Path(file)).description.scenes
    except (TypeError, EchoError):
        return []
    return [scene.id for scene in scenes if scene.id.startswith(incomplete)]
