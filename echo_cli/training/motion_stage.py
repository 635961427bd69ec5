"""The motion stage: a sharp decoder learns to move what it draws.

A latent frame is one picture and where the other three take their dots from. The decoder's own stage learns that of a
camera and of what goes left or right, but not of what bounces: few stories show it, and a smear costs little. Here most
frames show it, only the surroundings of the subject count, and where dots come from counts more. Everything else the
decoder is held to draw as it did. Encoder, latents and transformer stay as they are.
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from echo_cli.models.backend import Backend
from echo_cli.models.tiny.codec import DETAIL, TinyCodec
from echo_cli.training.codec_stage import SIDE, around, columns_of, flow_errors, psnr
from echo_cli.training.draws import dice_of
from echo_cli.training.loop import Learner, rate_at
from echo_cli.training.muon import Muon
from echo_cli.training.shelf import Frames, Shelf, ShelfPlan, averaged

_FIRST = 1 << 46  # seeds that no other stage uses
MOVING = ShelfPlan(stories=4, groups=1, blocks=3, chapters=48, steps_each=4, hops=0.6, finished=False)


@dataclass(frozen=True)
class MotionPlan:
    """What decides the weights, beside the seed and the model."""

    batch: int = 12  # latent frames in a step
    columns: int = 6  # of latents around the subject: half of the picture costs half
    rate: float = 0.01
    small_rate: float = 1e-3
    rounds: int = 3
    ema: float = 0.995
    learning: float = 0.2  # share of the budget in which it learns to move; then it sharpens again
    careful: float = 0.4  # share of the rates from then on
    noise: float = 0.1  # the most that is added to latents, of their deviation
    near: float = 1.5  # radii around the subject's centre that belong to its surroundings
    absolute: float = 0.5  # weight of the absolute error
    edges: tuple[float, float] = (0.5, 8.0)  # weight of the error of differences of neighbouring dots; from then on
    squares: float = 10.0  # weight of the squared error
    flow: tuple[float, float] = (0.05, 0.02)  # weight of the loss on where dots come from, in dots; from then on
    shelf: ShelfPlan = MOVING


class MotionStage:
    """`advance` draws latent frames and makes one step of training."""

    def __init__(self, plan: MotionPlan, seed: int, backend: Backend, device: torch.device,
                 dtype: torch.dtype = torch.float32) -> None:
        self.plan, self.seed, self.backend, self.device, self.dtype = plan, seed, backend, device, dtype
        self.shelf = Shelf(plan.shelf, "motion", 8, _FIRST, seed, backend, device)
        self.codec = self.shelf.codec.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.before = copy.deepcopy(self.codec)
        self.codec.decoder.requires_grad_(True)
        optimiser = Muon(self.codec.decoder.parameters(), plan.rate, plan.small_rate, rounds=plan.rounds)
        # A run that is continued is held to what the decoder drew when it began.
        both = nn.ModuleDict({"codec": self.codec, "before": self.before})
        self.learner = Learner(both, optimiser, plan.ema)

    def advance(self, step: int, spent: float) -> dict[str, Tensor]:
        generator = dice_of(self.device, self.seed, 9, step)
        drawn = cut(self.shelf.draw(step, self.plan.batch, generator), self.plan.columns)
        raw = self.shelf.raw(drawn, self.plan.noise, generator)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            decoded, flow = (part.float() for part in self.codec.raw_pictures(raw))
            with torch.no_grad():
                before = self.before.raw_pictures(raw)[0].float()
        moves = spent >= self.plan.learning
        losses = self.losses(decoded, flow, before, drawn, moves)
        self.learner.descend(losses["loss"], (self.plan.careful if moves else 1) * rate_at(step, spent))
        return {name: part.detach() for name, part in losses.items()}

    def losses(self, decoded: Tensor, flow: Tensor, before: Tensor, drawn: Frames, moves: bool) -> dict[str, Tensor]:
        """The loss of decoded pictures; how many dots their motion is off; and decibels around the subject, now and
        before this stage."""
        plan, frames = self.plan, drawn.pictures.float() / 255
        near = surroundings(drawn.motions, plan.near, frames.shape[-2:])
        error = decoded - torch.where(near > 0, frames, before)
        edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
        subject, place = flow_errors(flow, drawn.motions)
        loss = (plan.absolute * error.abs().mean() + plan.squares * error.square().mean() + plan.edges[moves] * edges
                + plan.flow[moves] * (subject + place))
        here, then = (psnr(((each.detach() - frames).square() * near).sum() / near.expand_as(frames).sum())
                      for each in (decoded, before))
        return {"loss": loss, "flow": subject, "subject": here, "before": then}

    def finished(self) -> TinyCodec:
        """The codec with the averaged decoder."""
        return averaged(self.codec, self.learner)


def cut(drawn: Frames, columns: int) -> Frames:
    """Of each frame the columns of latents around its subject."""
    left, motions = around(drawn.motions, drawn.latents.shape[-1], columns)
    return Frames(columns_of(drawn.latents, left, columns), columns_of(drawn.pictures, left, columns, SIDE * DETAIL),
                  motions, drawn.finished)


def surroundings(motions: Tensor, near: float, size: torch.Size) -> Tensor:
    """One in the box around all places of the subject within its latent frame, else zero: [frame, 1, y, x]."""
    centre, reach = motions[..., 1:3] * DETAIL, motions[..., 3] * DETAIL * near
    sides = [(torch.arange(length, device=motions.device) - centre[..., axis, None]).abs() < reach[..., None]
             for axis, length in ((1, size[0]), (0, size[1]))]
    return (sides[0].unsqueeze(-1) & sides[1].unsqueeze(-2)).any(1, keepdim=True).float()
