"""Rounding in the few steps: as little as the release's."""

import torch

from echo_cli.rollout.sampling import denoise, schedule


class Still:
    """A transformer whose velocity is always zero."""

    def __call__(self, latents: torch.Tensor, *_: object) -> torch.Tensor:
        return torch.zeros_like(latents)


def test_noise_is_added_in_float32_and_rounded_once() -> None:
    levels = schedule((1000, 500), 5.0)
    noise = [torch.randn(1, 3, 2, 4, 4, generator=torch.Generator().manual_seed(step)).bfloat16() for step in (0, 1)]
    steps = list(denoise(Still(), None, None, levels, noise.__getitem__, None))
    level = levels.sigmas[1]
    wanted = ((1 - level) * steps[0].float() + level * noise[1].float()).bfloat16()
    assert torch.equal(steps[1], wanted)
    rounded_thrice = (1 - level) * steps[0] + level * noise[1]
    assert not torch.equal(wanted, rounded_thrice)
