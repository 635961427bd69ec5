"""Scenes that outlast their film: those of other films that come into one, and those that it leaves for later films.

Files of scenes are `memory.scene_files`; what a scene leaves is collected by the recorder, beside the block loop. Here
are the scenes of one job: which are wanted, where they are kept meanwhile, and the picture that stands for each.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from echo_cli.files import partial
from echo_cli.memory.entries import SceneEntry
from echo_cli.memory.policies.base import Policy
from echo_cli.memory.scene_files import Folder, read_entry, write_scenes
from echo_cli.models.backend import Backend
from echo_cli.render.checks import scene_bits, scene_model
from echo_cli.render.inputs import check_same
from echo_cli.render.job import Job
from echo_cli.storyboard.nouns import Block
from echo_cli.storyboard.series import MOST_KEPT, Description, SavedScene, check_model, read_scenes
from echo_cli.video.contact import shrunk
from echo_cli.video.target import Output

THUMBNAIL_WIDTH = 160


def past_entries(job: Job, backend: Backend, policy: Policy, done: int = 0) -> Mapping[int, SceneEntry]:
    """What the scenes of other films left that are recalled after `done` blocks, by their numbers. A UsageError if they
    are another model's, or are not what they were when the film was planned."""
    model = scene_model(backend.spec, job.size, backend.weights_hash)
    film = job.whole
    begun = film.blocks[done - 1].scene if done else -1
    wanted = {recall.scene for scene, recall in policy.recalls.items() if scene > begun}
    numbers = {scene.name: number for number, scene in enumerate(film.past, -len(film.past))}
    entries = {}
    for read in job.inputs:
        if read.what == "series":
            check_same(read)
    for series in job.storyboard.series:
        file = read_scenes(job.storyboard.file(series.path))
        check_model(file, model)
        for index, scene in enumerate(series.scenes):
            if (number := numbers[scene.name]) in wanted:
                entries[number] = read_entry(file, index)
    return entries


class KeptScenes:
    """The scenes that a film leaves, while it is made: entries in files, thumbnails in memory."""

    def __init__(self, job: Job, backend: Backend, folder: Path) -> None:
        scenes, self._first = job.timeline.scenes, job.whole.first
        self._job, self._model = job, scene_model(backend.spec, job.size, backend.weights_hash)
        self._bits = scene_bits(backend.spec)
        ids = job.kept
        kept = [index for index, scene in enumerate(scenes, self._first) if scene.id in ids]
        self.shelf = Folder(folder, MOST_KEPT, kept)

    def look(self, block: Block, pictures: np.ndarray) -> None:
        """The pictures [picture, height, width, 3] of a block have been made: one from a scene's middle stands for
        it."""
        middle = len(self._job.timeline.spans[block.scene].blocks) // 2
        if block.number == middle and len(pictures):
            picture = shrunk(pictures[len(pictures) // 2], THUMBNAIL_WIDTH)
            self.shelf.show(self._first + block.scene, torch.from_numpy(picture.copy()))

    def write(self, path: Path) -> Output:
        """The file that will be `path`, while it is a `.partial`."""
        folder = self.shelf
        description = Description(self._model, tuple(map(self._described, folder.scenes)), self._bits)
        thumbnails = [thumbnail for scene in folder.scenes if (thumbnail := folder.thumbnail(scene)) is not None]
        size, sha = write_scenes(partial(path), description, folder.dtype, map(folder.read, folder.scenes), thumbnails)
        return Output(path, sha, size)

    def _described(self, index: int) -> SavedScene:
        span, thumbnail = self._job.whole.spans[index], self.shelf.thumbnail(index)
        fps = self._job.timeline.geometry.fps
        return SavedScene(span.scene.id, span.scene.prompt, round(len(span.pictures) / fps, 6), self._film,
                          self._job.policy, self.shelf.parts(index), self.shelf.numbers(index),
                          None if thumbnail is None else (thumbnail.shape[0], thumbnail.shape[1]))

    @property
    def _film(self) -> str:
        board = self._job.storyboard
        return " ".join((board.title or Path(board.source).stem).split()) or "film"
