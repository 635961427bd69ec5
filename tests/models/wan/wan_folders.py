"""Wan 2.1 with very few channels, in every layout that its weights are published in. The codec and the text encoder are
the recorded ones; the transformer is random."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from echo_cli.models.files.loading import random_transformer
from echo_cli.models.wan.names import codec_name, text_name, transformer_name
from echo_cli.models.wan.rehearsal import speller
from echo_cli.spec import ModelSpec

GOLDEN = Path(__file__).parents[2] / "golden" / "wan"
SPEC = ModelSpec(name="wan2.1-t2v-24x2", depth=2, width=24, heads=2, ffn=32, text_dim=32, freq_dim=16)


@cache
def transformer(seed: int = 0) -> Mapping[str, Tensor]:
    return {name: tensor.clone() for name, tensor in random_transformer(SPEC, seed).state_dict().items()}


@cache
def codec() -> Mapping[str, Tensor]:
    """Under its released names."""
    return load_file(GOLDEN / "vae_z16.weights.safetensors")


@cache
def text() -> Mapping[str, Tensor]:
    """Under its released names, with a row for every byte."""
    recorded = load_file(GOLDEN / "umt5.weights.safetensors")
    more = torch.randn(300, 32, generator=torch.Generator().manual_seed(2))
    return {**recorded, "token_embedding.weight": torch.cat((recorded["token_embedding.weight"], more))}


def spelling(folder: Path) -> Path:
    """The model with a tokenizer that can be used."""
    place = next(path.parent for path in folder.rglob("spiece.model"))
    for path in place.iterdir():
        path.unlink()
    speller().save_pretrained(place)
    return folder


def tokenizer(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "spiece.model").write_bytes(b"pieces")
    (folder / "tokenizer.json").write_text("{}")


def released(folder: Path, generator: Mapping[str, object] | None = None, name: str = "self_forcing_dmd.pt") -> Path:
    """The layout of the release; `generator` is what the checkpoint beside it holds."""
    tokenizer(folder / "google" / "umt5-xxl")
    (folder / "config.json").write_text(
        json.dumps(
            {
                "_class_name": "WanModel",
                "model_type": "t2v",
                "dim": SPEC.width,
                "num_heads": SPEC.heads,
                "num_layers": SPEC.depth,
                "ffn_dim": SPEC.ffn,
                "freq_dim": SPEC.freq_dim,
                "in_dim": 16,
                "out_dim": 16,
                "text_len": 512,
                "text_dim": SPEC.text_dim,
                "eps": 1e-6,
            }
        )
    )
    torch.save(dict(codec()), folder / "Wan2.1_VAE.pth")
    torch.save(dict(text()), folder / "models_t5_umt5-xxl-enc-bf16.pth")
    torch.save({"generator_ema": dict(transformer())} if generator is None else generator, folder / name)
    return folder


def wrapped(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """As an FSDP run with checkpointed activations and compiled blocks names them."""
    return {
        "model._fsdp_wrapped_module."
        + name.replace("blocks.1.", "blocks.1._fsdp_wrapped_module._checkpoint_wrapped_module.").replace(
            "ffn.", "_orig_mod.ffn."
        ): tensor
        for name, tensor in weights.items()
    }


def adapter(rank: int = 4) -> dict[str, Tensor]:
    """A low-rank change of every linear layer in the blocks, named as peft names it."""
    generator = torch.Generator().manual_seed(1)
    results = {}
    for name, tensor in transformer().items():
        if name.startswith("blocks.") and name.endswith(".weight") and tensor.dim() == 2:
            stem = f"base_model.model.{name.removesuffix('.weight')}"
            results[f"{stem}.lora_A.weight"] = 0.1 * torch.randn(rank, tensor.shape[1], generator=generator)
            results[f"{stem}.lora_B.weight"] = 0.1 * torch.randn(tensor.shape[0], rank, generator=generator)
    return results


def merged(scale: float = 1.0) -> dict[str, Tensor]:
    """The transformer with that change made, done the long way."""
    made = {name: tensor.clone() for name, tensor in transformer().items()}
    change = adapter()
    for name in [name for name in change if ".lora_A." in name]:
        target = name.removeprefix("base_model.model.").replace(".lora_A.weight", ".weight")
        made[target] += scale * change[name.replace(".lora_A.", ".lora_B.")] @ change[name]
    return made


def diffusers(folder: Path) -> Path:
    """The layout of diffusers: large parts in two shards, the embedding of the text encoder twice."""
    from diffusers import WanTransformer3DModel

    sizes = {
        "num_attention_heads": SPEC.heads,
        "attention_head_dim": SPEC.head_dim,
        "in_channels": 16,
        "out_channels": 16,
        "text_dim": SPEC.text_dim,
        "freq_dim": SPEC.freq_dim,
        "ffn_dim": SPEC.ffn,
        "num_layers": SPEC.depth,
    }
    with torch.device("meta"):
        theirs = list(WanTransformer3DModel(**sizes).state_dict())
    _part(
        folder / "transformer",
        "diffusion_pytorch_model",
        {name: transformer()[transformer_name(name)] for name in theirs},
        {"_class_name": "WanTransformer3DModel", "patch_size": [1, 2, 2], "eps": 1e-6, **sizes},
        shards=2,
    )
    _part(folder / "vae", "diffusion_pytorch_model", {codec_name(name): tensor for name, tensor in codec().items()},
          {"_class_name": "AutoencoderKLWan"})
    rows = {text_name(name): tensor for name, tensor in text().items()}
    _part(folder / "text_encoder", "model", {**rows, "encoder.embed_tokens.weight": rows["shared.weight"].clone()},
          {"architectures": ["UMT5EncoderModel"]}, shards=2)
    tokenizer(folder / "tokenizer")
    (folder / "model_index.json").write_text('{"_class_name": "WanPipeline"}')
    return folder


def _part(
    folder: Path, stem: str, tensors: Mapping[str, Tensor], config: Mapping[str, object], shards: int = 1
) -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    if shards == 1:
        save_file(dict(tensors), folder / f"{stem}.safetensors")
        return
    names, where = list(tensors), {}
    for index in range(shards):
        file = f"{stem}-{index + 1:05}-of-{shards:05}.safetensors"
        inside = names[index * len(names) // shards:(index + 1) * len(names) // shards]
        save_file({name: tensors[name].contiguous() for name in inside}, folder / file)
        where |= dict.fromkeys(inside, file)
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
