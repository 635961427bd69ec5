"""Every tensor of a film lies where it is computed with, and no more of them than were counted."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from echo_cli.errors import MissingError
from echo_cli.memory.policies.base import Policy
from echo_cli.memory.table import POLICIES
from echo_cli.models.fp8 import attend_in_eight_bits, use_eight_bits
from echo_cli.models.running import Offload, Running
from echo_cli.models.transformer import Transformer
from echo_cli.models.wan.fast_decoder import FastDecoder
from echo_cli.render.budget import room_for
from echo_cli.rollout.rollout import rollout
from echo_cli.runtime import KeyedNoise, Runtime, upload
from echo_cli.spec import ModelSpec
from echo_cli.storyboard.nouns import Kind, Timeline
from tests import small
from tests.models.pretended import META, Device, pretended
from tests.small import GRID, policy_for, prompts_for, story

CPU = torch.device("cpu")
SPEC = replace(small.SPEC, depth=1, steps=(1000,))
SHORT = [(None, None, 9), (Kind.SMOOTH, None, 3), (Kind.RECALL, "scene0", 2)]
# Frames large beside everything that nobody counts: sums of queries, facts of a trace.
LARGE = ModelSpec(name="large", depth=6, width=192, heads=2, ffn=192, channels=4, text_dim=16, text_len=6, freq_dim=16,
                  positions=96, size=(160, 96), steps=(1000,))


def transformer(spec: ModelSpec = SPEC, dtype: torch.dtype = torch.bfloat16) -> Transformer:
    with META:
        return Transformer(spec).to(dtype).requires_grad_(False).eval()


@torch.inference_mode()
def film(device: Device, model: Transformer, policy: Policy, timeline: Timeline,
         home: torch.device | None = None) -> None:
    spec = model.spec
    made = rollout(timeline, model, prompts_for(timeline, spec), policy, KeyedNoise(1, timeline.scenes),
                   GRID if spec is SPEC else spec.grid(), home=home)
    assert all(result.latents.is_meta for result in made)


def untrained(name: str) -> dict:
    return {"trained": False} if name in ("echo-infinity", "scene-queries") else {}


def test_the_guard_sees_a_tensor_on_the_wrong_side() -> None:
    with pytest.raises(AssertionError, match="joins tensors of the host and of the device"), pretended():
        torch.zeros(3, device=META)[torch.tensor([0, 1])]


@pytest.mark.parametrize(
    ("name", "home"), [*((name, None) for name in POLICIES), ("echo-forcing", CPU), ("scene-queries", CPU)]
)
def test_no_policy_mixes_the_host_with_the_device(name: str, home: torch.device | None) -> None:
    timeline = story(SHORT)
    policy = policy_for(name, timeline, untrained(name), SPEC)
    with pretended() as device:
        film(device, transformer(), policy, timeline, home)


def test_no_setting_mixes_the_host_with_the_device() -> None:
    timeline = story(SHORT)
    settings = {
        "forgetting": "suppress",
        "true_places": True,
        "gate_on_clean": True,
        "candidates_from_whole_scene": True,
        "fold": "token_select",
    }
    with pretended() as device:
        film(device, transformer(), policy_for("echo-forcing", timeline, settings, SPEC), timeline)


def test_eight_bits_stay_where_the_layer_was() -> None:
    timeline, model = story([(None, None, 2)]), transformer()
    use_eight_bits(model, META)
    with pretended() as device:
        film(device, model, policy_for("window", timeline, None, SPEC), timeline)


@pytest.mark.parametrize("home", [None, CPU])
def test_attention_in_eight_bits_stays_on_the_device(home: torch.device | None) -> None:
    timeline, model = story(SHORT), transformer()
    attend_in_eight_bits(model)
    with pretended() as device:
        film(device, model, policy_for("echo-forcing", timeline, None, SPEC), timeline, home)


@torch.inference_mode()
def test_decoders_decode_where_they_are() -> None:
    pytest.importorskip("diffusers", reason="needs the extra: pip install 'echo-cli[wan]'")
    from echo_cli.models.wan.codec import WanCodec

    sizes = {"base_dim": 8, "z_dim": 4, "num_res_blocks": 1, "latents_mean": [0.0] * 4, "latents_std": [1.0] * 4}
    with META:
        codec, fast = WanCodec(sizes), FastDecoder(4, (8, 6, 4, 4))
    codec.mean, codec.scale = codec.mean.to(META), codec.scale.to(META)  # as `wan.load` moves them
    with pretended():
        for decoder in (codec, fast):
            state, latents = None, torch.zeros(1, 3, 4, 6, 4, device=META)
            for _ in range(2):
                pictures, state = decoder.decode(latents, state)
                assert pictures.is_meta and all(item.is_meta for item in state if isinstance(item, torch.Tensor))


def test_what_is_uploaded_lies_on_the_device() -> None:
    with pretended():
        assert upload([1, 2], META).is_meta and upload(torch.ones(2), META, torch.float64).is_meta


@pytest.mark.parametrize(("name", "dtype"), [("window", torch.bfloat16), ("echo-forcing", torch.bfloat16),
                                             ("echo-infinity", torch.float32)])
def test_a_film_never_takes_more_than_was_told(name: str, dtype: torch.dtype) -> None:
    timeline = story([(None, None, 6), (Kind.HARD_CUT, None, 1), (Kind.RECALL, "scene0", 1)])
    policy = policy_for(name, timeline, untrained(name), LARGE)
    with pretended() as device:
        model = transformer(LARGE, dtype)
        for weight in model.parameters():
            device._count(weight.untyped_storage())
        film(device, model, policy, timeline)
    job = SimpleNamespace(size=LARGE.size, whole=timeline, policy=name, settings=policy.settings, model="tiny",
                          generator_file=None, lasting=(), kept=(), storyboard=SimpleNamespace(series=()))
    said = room_for(job, LARGE, Runtime(META, dtype), Running()).on_device(Offload.NONE)
    assert device.most <= said < (1.5 if name != "echo-infinity" else 3) * device.most


def test_a_card_that_is_named_is_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events are recorded, and read, on the current device's stream."""
    chosen: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert Runtime.choose("cuda:1").device == torch.device("cuda:1") == chosen.pop()
    assert Runtime.choose("cuda").dtype is torch.bfloat16 and not chosen
    with pytest.raises(MissingError):
        Runtime.choose("cuda:2")
    assert not chosen
