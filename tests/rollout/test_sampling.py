"""Rounding in the few steps: as little as the release's."""

import torch

from echo_cli.rollout.sampling import denoise, schedule
from tests.small import SPEC, model, run, story


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


def test_the_clean_pass_ends_with_the_last_keys_and_values() -> None:
    transformer, calls = model(), {"first": 0, "last": 0}
    for name, block in (("first", transformer.blocks[0]), ("last", transformer.blocks[-1])):
        block.ffn.register_forward_hook(lambda *_, name=name: calls.update({name: calls[name] + 1}))
    with torch.inference_mode():
        run("window", story([(None, None, 2)]), transformer=transformer)
    steps = len(SPEC.steps)
    assert calls == {"first": 2 * (steps + 1), "last": 2 * steps}
