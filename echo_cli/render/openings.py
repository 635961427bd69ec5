"""Files that come into a film, as the latents that its scenes begin with: decoded, fitted, encoded by the codec.

Knows pictures and a codec. When a scene asks for them, and what the transformer makes of them, is `rollout`.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor
from torch.nn import functional as F

from echo_cli.errors import UsageError
from echo_cli.models.backend import Backend
from echo_cli.render.inputs import Input, check_same
from echo_cli.render.job import Job
from echo_cli.rollout.rollout import Given
from echo_cli.runtime import Runtime
from echo_cli.storyboard.nouns import CLIP, CONTINUE, Opening
from echo_cli.video import clip, still

SMALL = 192  # width of a thumbnail
AT_ONCE = 4  # latent frames that are encoded together
CLEAR = 2.0  # times the next largest step that the one between latent frames must be


class Openings:
    """What each scene of a job begins with, made when the scene asks for it. `window` is how many latent frames memory
    holds beside a block."""

    def __init__(self, job: Job, backend: Backend, runtime: Runtime, window: int) -> None:
        self._job, self._backend, self._runtime, self._window = job, backend, runtime, window
        self._inputs = {(each.scene, each.what): each for each in job.inputs}

    def __call__(self, scene: int) -> Given | None:
        """`scene` as memory counts it; the first one of all has no picture before it."""
        asked = self._job.whole.scenes[scene]
        if scene == 0 and (film := self._inputs.get((None, CONTINUE))):
            return self._continued(film)
        if asked.opening is None:
            return None
        given = self._inputs[asked.id, asked.opening.what]
        try:
            if asked.opening.what == CLIP:
                return self._encoded(self._clip(asked.opening, given, scene), scene)
            return still_of(self._encoded(self._picture(asked.opening, given), scene), self._block)
        except still.Unusable as error:
            raise UsageError(f"{given.where}: {given.file} {error}",
                             "Leave it as it is until the film is made, or give another one.") from None

    def _continued(self, given: Input) -> Given:
        """The last pictures of the film that this one continues, as its own first frames, whose pictures are not shown
        again. If there are too few, the first one is repeated before them."""
        geometry = self._job.timeline.geometry
        count = (geometry.shown_before - 1) * geometry.frame_pictures + 1
        check_same(given)
        try:
            made = clip.excerpt(given.file, count, geometry.fps, self._job.size)
        except still.Unusable as error:
            raise UsageError(f"{given.where}: {given.file} {error}",
                             "Leave it as it is until the film is made, or continue another one.") from None
        made = np.concatenate((made, made[-1:].repeat(missing(made, geometry.frame_pictures), 0)))[-count:]
        encoded = self._encoded(np.concatenate((made[:1].repeat(count - len(made), 0), made)), 0)
        return Given(returning(encoded.latents, self._encoded_again))

    @property
    def _block(self) -> int:
        return self._job.timeline.geometry.block_frames

    def _picture(self, opening: Opening, given: Input) -> ndarray:
        """[picture, height, width, 3], as often as a block stands for, and one that leads to it."""
        data = still.read(given.file)
        check_same(given, hashlib.sha256(data).hexdigest())
        pixels = still.still(data, self._job.size, opening.fit, opening.focus)
        return np.stack([pixels] * (1 + self._block * self._job.timeline.geometry.frame_pictures))

    def _clip(self, opening: Opening, given: Input, scene: int) -> ndarray:
        """The pictures of a clip that whole latent frames stand for. Something of the scene is left to be generated."""
        check_same(given)
        timeline, geometry = self._job.whole, self._job.timeline.geometry
        frames, block = len(timeline.frames_of(scene)), geometry.block_frames
        most = max(frames - block, min(frames, block) - 1, 1)
        if opening.seconds is None:
            most = min(most, self._window)
        count = 1 + (most if scene else most - 1) * geometry.frame_pictures
        if opening.seconds is not None:
            count = min(count, round(opening.seconds * geometry.fps) + (1 if scene else 0))
        made = clip.excerpt(given.file, count, geometry.fps, self._job.size, opening.begins, opening.fit, opening.focus)
        if scene and opening.begins is not None:
            made = np.concatenate((made[:1], made[:count - 1]))  # the first is shown, and leads to itself
        whole = (len(made) - 1) // geometry.frame_pictures * geometry.frame_pictures + 1
        if scene and whole == 1:
            raise still.Unusable(f"has {len(made)} pictures there at {geometry.fps:g} a second, and a scene needs at "
                                 f"least {1 + geometry.frame_pictures} to begin with")
        return made[:whole] if opening.begins is not None else made[len(made) - whole:]

    def _encoded(self, pictures: ndarray, scene: int) -> Given:
        """The latents of a scene's first pictures, encoded a few at a time. A codec codes the first picture of a stream
        alone. At the film's beginning that is the first that is shown; later on it only leads the decoder's stream,
        which restarts there, so that the scene has as many pictures as it should."""
        edges = [0, *range(1, len(pictures), AT_ONCE * self._job.timeline.geometry.frame_pictures), len(pictures)]
        pieces = (torch.from_numpy(pictures[start:stop].copy()).to(self._runtime.decoding)
                  for start, stop in pairwise(edges))
        encoded = self._latents(piece.permute(0, 3, 1, 2)[None].float() / 255 for piece in pieces)
        return Given(encoded[:, 1:], encoded[:, :1]) if scene else Given(encoded)

    def _latents(self, pieces: Iterable[Tensor]) -> Tensor:
        """The latents of a stream of pictures, which comes in pieces [1, picture, 3, y, x] in [0, 1]."""
        state, latents = None, []
        for piece in pieces:
            made, state = self._backend.codec.encode_piece(piece, state)
            latents.append(made.to(self._runtime.device, self._runtime.dtype))
        return torch.cat(latents, 1)

    def _encoded_again(self, latents: Tensor) -> Tensor:
        """These latents, decoded and encoded again."""
        detail = self._backend.spec.detail

        def pictures() -> Iterator[Tensor]:
            state = None
            for frames in latents.to(self._runtime.decoding).split(self._block, 1):
                decoded, state = self._backend.codec.decode(frames, state)
                yield F.avg_pool2d(decoded[0].float(), detail)[None]

        return self._latents(pictures())


def returning(encoded: Tensor, again: Callable[[Tensor], Tensor]) -> Tensor:
    """Latents that become `encoded` when they are decoded and encoded `again`. A film was decoded from such latents;
    encoding its pictures is not the exact inverse of that, and the difference would be seen as a step. A frame stays as
    it was encoded unless a first correction at least halves the squared difference."""
    once = encoded - again(encoded)
    twice = encoded - again(encoded + once)
    before, after = (difference.square().mean((2, 3, 4), keepdim=True) for difference in (once, twice))
    return torch.where(2 * after <= before, encoded + once + twice, encoded)


def missing(pictures: ndarray, group: int) -> int:
    """How many pictures the last latent frame of a film lacks, if it is clear that its pictures were decoded `group` at
    a time: they differ more from one latent frame to the next than within one."""
    steps = [np.abs(later.astype(np.int16) - before).mean() for before, later in pairwise(pictures)][::-1]
    if len(steps) < 2 * group:
        return 0
    typical = [float(np.median(steps[at::group])) for at in range(group)]
    first = typical.index(max(typical))  # how many pictures of the last latent frame follow its first one
    return group - 1 - first if typical[first] > CLEAR * sorted(typical)[-2] else 0


def still_of(encoded: Given, block: int) -> Given:
    """A picture, encoded for as long as a block, as what a scene begins with: its first frame, and before it the block
    of stills. A model of single frames has been shown the whole picture when it has been shown the frame."""
    if encoded.lead is None:  # the film's first picture is coded alone
        first, stills = encoded.latents[:, :1], encoded.latents[:, 1:]
    else:
        first, stills = encoded.latents[:, :1], encoded.latents
    return Given(first, encoded.lead, stills if block > 1 else None)


def thumbnail(job: Job, given: Input) -> str:
    """A small picture of what a scene begins with, in the film's shape, as a data URI; empty if it cannot be made."""
    opening = next((scene.opening for scene in job.timeline.scenes if scene.id == given.scene and scene.opening),
                   Opening(given.path, what=given.what))
    size = SMALL, max(1, SMALL * job.size[1] // job.size[0])
    try:
        if opening.what in (CLIP, CONTINUE):
            pixels = clip.excerpt(given.file, 1, 1.0, size, opening.begins, opening.fit, opening.focus)[0]
        else:
            pixels = still.still(still.read(given.file), size, opening.fit, opening.focus)
    except still.Unusable:  # the scene will say why, when it is its turn
        return ""
    return still.data_uri(pixels)
