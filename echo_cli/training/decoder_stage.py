"""The decoder's stage: sharp pictures from the latents that the transformer makes.

The encoder, its latents and the transformer stay as they are. The decoder is trained on the world drawn at the
decoder's size, against a discriminator of patches (the rival), so that sharp edges pay, which a squared error alone
would blur. Half of the latents do not come straight from the encoder: they were noised and the transformer finished
them in its last steps, as it does in films. Everything a step draws follows from the seed and the step's number. Knows
nothing of budgets and folders: `loop` and `course` do.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from echo_cli.models.backend import Backend
from echo_cli.models.tiny.codec import DETAIL, TinyCodec
from echo_cli.training.codec_stage import flow_errors, psnr
from echo_cli.training.draws import dice_of
from echo_cli.training.loop import Learner, rate_at
from echo_cli.training.muon import Muon
from echo_cli.training.shelf import Frames, Shelf, ShelfPlan, averaged
from echo_cli.world.draw import reduced

_FIRST = 1 << 45  # seeds that no other stage uses


@dataclass(frozen=True)
class DecoderPlan:
    """What decides the weights, beside the seed and the model."""

    batch: int = 6  # latent frames in a step
    rate: float = 0.01
    small_rate: float = 1e-3
    rival_rate: float = 3e-4
    rounds: int = 3
    ema: float = 0.998
    noise: float = 0.15  # the most that is added to latents, of their deviation
    absolute: float = 0.5  # weight of the absolute error
    edges: float = 0.5  # weight of the error of differences between neighbouring dots
    squares: float = 10.0  # weight of the squared error
    flow: float = 0.015  # weight of the loss on where dots come from, in dots
    trust: float = 0.5  # weight of these errors where the transformer finished the latents: it may have strayed
    rival: float = 0.01  # weight of the adversarial loss
    features: float = 0.3  # weight of the difference of the rival's features
    alone: float = 0.2  # share of the budget before the adversarial loss is added
    shelf: ShelfPlan = field(default_factory=ShelfPlan)


class Rival(nn.Module):
    """A discriminator of patches of forty dots, shown all pictures of a latent frame: above zero where it takes them
    for drawn."""

    def __init__(self, widths: tuple[int, int, int] = (48, 96, 128)) -> None:
        super().__init__()
        fine, middle, coarse = widths
        self.door = nn.PixelUnshuffle(2)
        self.layers = nn.ModuleList(
            spectral_norm(layer)
            for layer in (nn.Conv2d(4 * 3 * 4, fine, 3, padding=1), nn.Conv2d(fine, middle, 4, 2, 1),
                          nn.Conv2d(middle, coarse, 4, 2, 1), nn.Conv2d(coarse, 1, 3, padding=1))
        )

    def forward(self, frames: Tensor) -> list[Tensor]:
        """Frames [n, 12, y, x] in [0, 1] → the output of each layer, the verdict last."""
        seen, outputs = self.door(frames * 2 - 1), []
        for number, layer in enumerate(self.layers):
            seen = layer(F.leaky_relu(seen, 0.2) if number else seen)
            outputs.append(seen)
        return outputs


class Pair(nn.Module):
    """Codec and rival, trained and saved together."""

    def __init__(self, codec: TinyCodec, rival: Rival) -> None:
        super().__init__()
        self.codec, self.rival = codec, rival


class DecoderStage:
    """`advance` draws latent frames and makes one step of training."""

    def __init__(self, plan: DecoderPlan, seed: int, backend: Backend, device: torch.device) -> None:
        self.plan, self.seed, self.backend, self.device = plan, seed, backend, device
        self.shelf = Shelf(plan.shelf, "decoder", 6, _FIRST, seed, backend, device)
        torch.manual_seed(seed)
        self.pair = Pair(self.shelf.codec, Rival())
        self.pair.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self.codec, self.rival = self.pair.codec, self.pair.rival
        self.codec.decoder.requires_grad_(True)
        optimiser = Muon(self.codec.decoder.parameters(), plan.rate, plan.small_rate, rounds=plan.rounds)
        rivals = list(self.rival.parameters())
        optimiser.include(rivals, plan.rival_rate, plan.rival_rate, momentum=0.5, small=rivals)
        self.learner = Learner(self.pair, optimiser, plan.ema)

    def advance(self, step: int, spent: float) -> dict[str, Tensor]:
        generator = dice_of(self.device, self.seed, 5, step)
        drawn = self.shelf.draw(step, self.plan.batch, generator)
        frames = (drawn.pictures.float() / 255).contiguous(memory_format=torch.channels_last)
        decoded, flow = self.codec.raw_pictures(self.shelf.raw(drawn, self.plan.noise, generator))
        loss, figures = self.errors(decoded - frames, drawn, flow)
        listens = spent >= self.plan.alone
        deceit, judged = self.rivalry(frames, decoded)
        figures["rival"] = judged
        if listens:
            loss, figures["deceit"] = loss + deceit, deceit
        self.learner.descend(loss + judged, rate_at(step, spent))
        return {"loss": loss.detach(), **{name: value.detach() for name, value in figures.items()}}

    def errors(self, error: Tensor, drawn: Frames, flow: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of decoded pictures against drawn ones, and figures to report."""
        plan = self.plan
        trust = torch.where(drawn.finished, plan.trust, 1.0)[:, None, None, None]
        squares, absolute = (trust * error.square()).mean(), (trust * error.abs()).mean()
        edges = (trust * error.diff(dim=-1).abs()).mean() + (trust * error.diff(dim=-2).abs()).mean()
        subject, place = flow_errors(flow, drawn.motions)
        loss = (plan.absolute * absolute + plan.squares * squares + plan.edges * edges + plan.flow * (subject + place))
        small = reduced(error.detach(), DETAIL).square().mean((1, 2, 3))
        true = ~drawn.finished
        return loss, {"psnr": psnr((small * true).sum() / true.sum().clamp(min=1)), "flow": subject}

    def rivalry(self, frames: Tensor, decoded: Tensor) -> tuple[Tensor, Tensor]:
        """The adversarial loss of the decoder, and the rival's loss: each has gradients for its own network only."""
        plan = self.plan
        self.rival.requires_grad_(False)
        seen = self.rival(decoded)
        self.rival.requires_grad_(True)
        outputs = self.rival(torch.cat((frames, decoded.detach())))
        drawn, made = outputs[-1].chunk(2)
        judged = F.relu(1 - drawn).mean() + F.relu(1 + made).mean()
        likeness = torch.stack([(mine - layer.chunk(2)[0].detach()).abs().mean()
                                for mine, layer in zip(seen[:-1], outputs[:-1], strict=True)]).mean()
        return plan.features * likeness - plan.rival * seen[-1].mean(), judged

    def finished(self) -> TinyCodec:
        """The codec with the averaged decoder."""
        return averaged(self.codec, self.learner)
