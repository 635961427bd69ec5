"""Every published name finds its place in ours, and no two the same one."""

import json
from pathlib import Path

import pytest
import torch

from echo_cli.models.transformer import Transformer
from echo_cli.models.wan.names import adapter_of, codec_name, codec_resnets, text_name, transformer_name, unwrapped
from echo_cli.spec import ModelSpec

RELEASED = json.loads((Path(__file__).parents[2] / "golden" / "dit_1_3B_keys.json").read_text())["keys"]


@pytest.mark.parametrize(
    "name",
    [
        "blocks.3.ffn.0.weight",
        "model.blocks.3.ffn.0.weight",
        "model._fsdp_wrapped_module.blocks.3._fsdp_wrapped_module.ffn.0.weight",
        "_orig_mod.model.blocks.3._checkpoint_wrapped_module._orig_mod.ffn.0.weight",
        "module.model.blocks.3.ffn.0.weight",
    ],
)
def test_wrappers_are_stripped_wherever_they_stand(name: str) -> None:
    assert unwrapped(name) == "blocks.3.ffn.0.weight"


def test_released_names_have_nothing_to_strip() -> None:
    assert [unwrapped(name) for name in RELEASED] == list(RELEASED)
    assert unwrapped("blocks.0.model.weight") == "blocks.0.model.weight"  # only before the name is a model a wrapper


@pytest.mark.parametrize("name", [
    "base_model.model.blocks.7.self_attn.q.lora_A.weight", "blocks.7.self_attn.q.lora_A.weight",
    "base_model.model.model._fsdp_wrapped_module.blocks.7.self_attn.q.lora_A.default.weight",
])
def test_low_rank_weights_belong_to_a_linear_layer(name: str) -> None:
    assert adapter_of(name) == ("blocks.7.self_attn.q", "A")
    assert adapter_of(name.replace("lora_A", "lora_B")) == ("blocks.7.self_attn.q", "B")
    assert adapter_of(name.replace("lora_A", "lora_C")) is None and adapter_of("blocks.7.self_attn.q.weight") is None


def test_the_transformer_of_diffusers_has_our_names_and_shapes() -> None:
    diffusers = pytest.importorskip("diffusers")
    with torch.device("meta"):
        theirs = diffusers.WanTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=12,
            in_channels=4,
            out_channels=4,
            text_dim=16,
            freq_dim=16,
            ffn_dim=32,
            num_layers=2,
        ).state_dict()
        ours = Transformer(
            ModelSpec("x", depth=2, width=24, heads=2, ffn=32, channels=4, text_dim=16, freq_dim=16)
        ).state_dict()
    assert all(transformer_name(name) == name for name in ours)
    assert {transformer_name(name): tensor.shape for name, tensor in theirs.items()} \
        == {name: tensor.shape for name, tensor in ours.items()}
    assert (
        transformer_name("blocks.0.attn3.to_q.weight") == "blocks.0.attn3.to_q.weight"
        and transformer_name("odd") == "odd"
    )


@pytest.mark.parametrize("resnets", [1, 2, 3])
def test_the_codec_of_diffusers_takes_every_released_name(resnets: int) -> None:
    diffusers = pytest.importorskip("diffusers")
    with torch.device("meta"):
        theirs = diffusers.AutoencoderKLWan(base_dim=4, z_dim=4, num_res_blocks=resnets, latents_mean=[0.0] * 4,
                                            latents_std=[1.0] * 4).state_dict()
    released = _released_codec(resnets)
    assert codec_resnets(released) == resnets
    assert sorted(codec_name(name, resnets) for name in released) == sorted(theirs)
    assert all(codec_name(name, resnets) == name for name in theirs)


def _released_codec(resnets: int) -> list[str]:
    """The names of the released codec's weights, if it had so many residual blocks at each of its four scales."""
    def residual(shortcut: bool) -> list[str]:
        convolutions = ["residual.2", "residual.6"] + ["shortcut"] * shortcut
        return ["residual.0.gamma", "residual.3.gamma"] + [
            f"{conv}.{kind}" for conv in convolutions for kind in ("weight", "bias")
        ]

    def layer(name: str) -> list[str]:
        return [f"{name}.weight", f"{name}.bias"]

    names = [*layer("conv1"), *layer("conv2")]
    down, up = [], []
    for scale in range(4):
        for index in range(resnets):
            down.append(residual(shortcut=index == 0 and scale in (1, 2)))
        if scale < 3:
            down.append(layer("resample.1") + (layer("time_conv") if scale else []))
        for index in range(resnets + 1):
            up.append(residual(shortcut=index == 0 and scale == 1))
        if scale < 3:
            up.append(layer("resample.1") + (layer("time_conv") if scale < 2 else []))
    for side, place, stages in (("encoder", "downsamples", down), ("decoder", "upsamples", up)):
        names += [f"{side}.{name}" for name in (*layer("conv1"), "head.0.gamma", *layer("head.2"))]
        names += [f"{side}.{place}.{index}.{name}" for index, stage in enumerate(stages) for name in stage]
        names += [f"{side}.middle.{index}.{name}" for index in (0, 2) for name in residual(shortcut=False)]
        names += [f"{side}.middle.1.{name}" for name in ("norm.gamma", *layer("to_qkv"), *layer("proj"))]
    return names


def test_the_text_encoder_of_transformers_takes_every_released_name() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.UMT5Config(vocab_size=8, d_model=8, d_kv=4, d_ff=12, num_layers=2, num_heads=2)
    with torch.device("meta"):
        # tied to `shared`
        theirs = set(transformers.UMT5EncoderModel(config).state_dict()) - {"encoder.embed_tokens.weight"}
    inside = (
        "norm1",
        "norm2",
        *(f"attn.{side}" for side in "qkvo"),
        "pos_embedding.embedding",
        "ffn.gate.0",
        "ffn.fc1",
        "ffn.fc2",
    )
    released = ["token_embedding.weight", "norm.weight"] + [
        f"blocks.{block}.{name}.weight" for block in (0, 1) for name in inside
    ]
    assert {text_name(name) for name in released} == theirs == {text_name(name) for name in theirs}
    assert text_name("encoder.embed_tokens.weight") == "shared.weight"
    assert text_name("blocks.0.attn.x.weight") == "blocks.0.attn.x.weight"
