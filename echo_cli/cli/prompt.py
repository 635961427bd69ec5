"""A film of one scene, from a prompt on the command line instead of a storyboard."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

from echo_cli.errors import UsageError
from echo_cli.render.options import Option, Options, Panel
from echo_cli.render.request import Request

if TYPE_CHECKING:
    from echo_cli.storyboard.nouns import Storyboard

SECONDS = "5s"


@dataclass(frozen=True, kw_only=True)
class Prompt(Options):
    """What stands in place of a storyboard."""

    prompt: Annotated[str | None, Option(
        help="Render one scene of this prompt, without a storyboard.", panel=Panel.STORYBOARD, metavar="TEXT")] = None
    duration: Annotated[str | None, Option(
        help="How long that scene lasts: 5s, 2.5s, 1m30s.", panel=Panel.STORYBOARD, metavar="TIME",
        unset=SECONDS)] = None

    def of(self, request: Request) -> Request:
        """The request, with a storyboard of this prompt if it names none."""
        if self.prompt is None:
            if self.duration is not None:
                raise UsageError("--duration is for a scene of --prompt", "Give scenes their durations in the file.")
            if not request.storyboard:
                raise UsageError("no storyboard was named", "Name a YAML file, or give a --prompt. `echo-cli init` "
                                                            "writes a first storyboard.")
            return request
        if request.storyboard:
            raise UsageError(f"{request.storyboard} and --prompt both say what to render", "Give one of them.")
        from echo_cli.formats.cut import slug

        return replace(request, storyboard=self._storyboard(), output=request.output or f"{slug(self.prompt)}.mp4")

    def _storyboard(self) -> "Storyboard":
        from echo_cli.storyboard.durations import read_duration
        from echo_cli.storyboard.nouns import Scene, Storyboard

        assert self.prompt is not None
        if not self.prompt.strip():
            raise UsageError("--prompt is empty", "Say what the scene shows.")
        try:
            seconds = float(read_duration(SECONDS if self.duration is None else self.duration))
            if not seconds:
                raise ValueError("must be longer than zero")
        except ValueError as error:
            raise UsageError(f"--duration: '{self.duration}' {error}", "Write it as in --duration 5s.") from None
        return Storyboard([Scene("scene", self.prompt, seconds)], source="--prompt")
