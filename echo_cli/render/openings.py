"""Files that come into a film, as the latents that its scenes begin with: decoded, fitted, encoded by the codec.

Knows pictures and a codec. When a scene asks for them, and what the transformer makes of them, is `rollout`.
"""

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor

from echo_cli.errors import UsageError
from echo_cli.models.backend import Backend
from echo_cli.render.inputs import Input
from echo_cli.render.job import Job
from echo_cli.rollout.rollout import Given
from echo_cli.runtime import Runtime
from echo_cli.storyboard.nouns import Opening
from echo_cli.video import still


class Openings:
    """What each scene of a job begins with, made when the scene asks for it."""

    def __init__(self, job: Job, backend: Backend, runtime: Runtime) -> None:
        self._job, self._backend, self._runtime = job, backend, runtime
        self._inputs = {(each.scene, each.what): each for each in job.inputs}

    def __call__(self, scene: int) -> Given | None:
        asked = self._job.timeline.scenes[scene]
        if asked.opening is None:
            return None
        return self._given(self._picture(asked.opening, self._inputs[asked.id, asked.opening.what]), scene)

    def _picture(self, opening: Opening, given: Input) -> Tensor:
        """[1, 3, height, width] in [0, 1]."""
        data = _unchanged(given, lambda: still.read(given.file))
        pixels = still.still(data, self._job.size, opening.fit, opening.focus)
        return torch.tensor(pixels).permute(2, 0, 1)[None].float() / 255

    def _given(self, pictures: Tensor, scene: int) -> Given:
        """The latents of a scene's first pictures [picture, 3, height, width]. A codec codes the first picture of a
        stream alone. At the film's beginning that is the first of these; later on it is one more, from which the
        decoder's stream restarts and which is not shown, so that the scene has as many pictures as it should."""
        if scene:
            lasting = self._job.timeline.geometry.frame_pictures
            pictures = torch.cat((pictures[:1], pictures.repeat_interleave(lasting, 0)))
        encoded = self._backend.codec.encode(pictures[None].to(self._runtime.decoding))
        encoded = encoded.to(self._runtime.device, self._runtime.dtype)
        return Given(encoded[:, 1:], encoded[:, :1]) if scene else Given(encoded)


def _unchanged(given: Input, read: Callable[[], bytes]) -> bytes:
    """The bytes of a file, which must be those that the film's identity was made from."""
    try:
        data = read()
    except still.Unusable as error:
        raise UsageError(f"{given.where}: {given.file} {error}",
                         "Leave it where it is until the film is made.") from None
    if hashlib.sha256(data).hexdigest() != given.sha256:
        raise UsageError(f"{given.where}: {given.file} has changed since the film was begun",
                         "Run the same command again to make the film of the file as it is now.")
    return data
