"""A model of Wan's family from the files of its folder, in whichever layout they are: released, diffusers', or ours.

Every part comes as lazy tensors under the names of the class that runs it, with the sizes to build that class with.
Opening reads headers and compares names; weights are read when they are used, and hashed when a hash is needed.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from echo_cli.errors import MissingError
from echo_cli.models.files.folders import (
    DESCRIPTION,
    Files,
    Layout,
    block_frames_of,
    damaged,
    description,
    files_in,
    in_blocks,
    layout_of,
    read_object,
    spec_in,
)
from echo_cli.models.files.loading import shapes_of
from echo_cli.models.files.tensors import (
    Merged,
    Renamed,
    Safetensors,
    Tensors,
    Without,
    adapter,
    check,
    check_dtypes,
    checkpoint,
    opened,
    shapes,
)
from echo_cli.models.transformer import Transformer
from echo_cli.models.wan.codec import WanCodec
from echo_cli.models.wan.hashes import digest, part_hashes, paths_of
from echo_cli.models.wan.names import codec_name, codec_resnets, text_name, transformer_name, unwrapped
from echo_cli.spec import ModelSpec


@dataclass(frozen=True)
class Choice:
    """A generator from outside the model's folder, and how to read it."""

    generator: Path | None = None
    adapter: Path | None = None
    scale: float = 1.0  # of the adapter
    branch: str | None = None  # of the generator's checkpoint
    block_frames: int | None = None  # latent frames that it makes at a time; None: as its folder says


@dataclass(frozen=True)
class Weights:
    """All parts of one model, under the names of the classes that run them."""

    folder: Path
    layout: Layout
    spec: ModelSpec
    files: Files
    transformer: Tensors
    codec: Tensors
    text: Tensors
    codec_config: Mapping[str, Any]  # of the library's class
    text_config: Mapping[str, Any]
    branch: str  # of the generator's checkpoint; empty where it has none
    scale: float

    def files_of_tensors(self) -> Iterator[tuple[Path, Tensors]]:
        """Every file of weights, with its tensors under the names that they have there."""
        for path in self.files.transformer:
            yield path, (Safetensors([path]) if path.suffix == ".safetensors" else
                         checkpoint(path, self.branch or None)[0])
        if self.files.adapter:
            yield self.files.adapter, adapter(self.files.adapter)
        for path in (*self.files.codec, *self.files.text, *filter(None, [self.files.fast_decoder])):
            yield path, opened([path])
        if self.files.light_codec and (light := self.light_codec):
            yield self.files.light_codec, light

    @property
    def tokenizer(self) -> Path:
        return self.files.tokenizer

    @property
    def fast_decoder(self) -> Tensors | None:
        return opened([self.files.fast_decoder]) if self.files.fast_decoder else None

    @property
    def light_codec(self) -> Tensors | None:
        """A codec of the same latents with fewer channels, checked against the sizes that its weights have."""
        if self.files.light_codec is None:
            return None
        codec = _codec([self.files.light_codec])
        with torch.device("meta"):
            check(shapes_of(WanCodec(codec_config(codec)).vae), shapes(codec), codec.where)
        return codec

    def part(self, name: str) -> Tensors:
        return {"transformer": self.transformer, "codec": self.codec, "text": self.text}[name]

    def paths(self, part: str) -> tuple[Path, ...]:
        """The files that a part is read from."""
        return paths_of(self.files, part)

    @cached_property
    def hashes(self) -> Mapping[str, str]:
        """The sha256 of each part, checked against the folder's description or the publisher."""
        return part_hashes(self.folder, self.layout, self.files, self.branch, self.scale)

    @cached_property
    def digest(self) -> str:
        """One hash for everything that a film depends on."""
        return digest(self.hashes)


def open_weights(folder: Path, choice: Choice = Choice()) -> Weights:
    """The model in a folder, with names and shapes checked; a MissingError says what is missing or damaged."""
    layout = layout_of(folder)
    if layout is None or layout is Layout.TRAINED:
        raise MissingError(
            f"{folder}: this folder holds no weights of Wan 2.1" + ("" if folder.is_dir() else ": it does not exist"),
            hint="Name a folder in the released layout, in that of diffusers, or written by `echo-cli models convert`.",
        )
    files = files_in(folder, layout, choice.generator, choice.adapter)
    if lacking := files.lacking():
        raise MissingError(
            f"{folder}: parts of the model are missing: {', '.join(lacking)}", hint=_remedy(layout, files)
        )
    spec = in_blocks(spec_in(folder, layout), choice.block_frames or block_frames_of(choice.generator))
    transformer, branch = _transformer(files, choice)
    text = opened(files.text)
    if {"shared.weight", "encoder.embed_tokens.weight"} <= set(text.names()):
        text = Without(text, ["encoder.embed_tokens.weight"])  # the same tensor
    text, codec = Renamed(text, text_name), _codec(files.codec)
    if layout is Layout.OURS:
        configs = {part: _recorded_config(folder, part) for part in ("codec", "text")}
    else:
        configs = {"codec": codec_config(codec, folder / "vae" / "config.json"), "text": text_config(text)}
    with torch.device("meta"):
        check(shapes_of(Transformer(spec)), shapes(transformer), transformer.where)
        check(shapes_of(WanCodec(configs["codec"]).vae), shapes(codec), codec.where)
    check(text_shapes(configs["text"]), shapes(text), text.where)
    for part in (transformer, codec, text):
        check_dtypes({name: part.dtype(name) for name in part.names()}, part.where)
    _check_between(spec, configs["codec"], configs["text"], folder)
    return Weights(
        folder, layout, spec, files, transformer, codec, text, configs["codec"], configs["text"], branch, choice.scale
    )


def _transformer(files: Files, choice: Choice) -> tuple[Tensors, str]:
    """The generator, and its branch of the checkpoint."""
    branch = ""
    if files.transformer[0].suffix == ".safetensors":
        if choice.branch:
            raise MissingError(f"{files.transformer[0]}: a safetensors file has no branches, so no '{choice.branch}'",
                               hint="Leave the branch out.")
        generator: Tensors = Safetensors(files.transformer)
    else:
        generator, branch = checkpoint(files.transformer[0], choice.branch, files.adapter is not None)
    generator = Renamed(generator, lambda name: transformer_name(unwrapped(name)))
    return (Merged(generator, adapter(files.adapter), choice.scale) if files.adapter else generator), branch


def _codec(files: Sequence[Path]) -> Tensors:
    released = opened(files)
    resnets = codec_resnets(released.names())
    return Renamed(released, lambda name: codec_name(name, resnets))


def _remedy(layout: Layout, files: Files) -> str:
    if layout is Layout.RELEASED and not files.transformer and files.codec and files.text:
        return (
            "Wan's own transformer needs fifty steps; put a few-step generator beside it, such as self_forcing_dmd.pt, "
            "or name one with --generator FILE."
        )
    return "Download what is missing with `echo-cli models get`, or convert the model again."


def _recorded_config(folder: Path, part: str) -> Mapping[str, Any]:
    config = description(folder)["parts"].get(part, {}).get("config")
    if not isinstance(config, Mapping):
        raise damaged(folder / DESCRIPTION, f"no sizes of the {part}")
    return config


def codec_config(codec: Tensors, beside: Path | None = None) -> dict[str, Any]:
    """The sizes of a codec, by the shapes of its weights; the figures of its latents, by a config file, if any."""
    names = shapes(codec)
    base, channels = (
        _needed(names, name, codec.where)[0] for name in ("encoder.conv_in.weight", "post_quant_conv.weight")
    )
    widths, resnets, timed = [0], [0], []
    for index in range(
        sum(1 for name in names if re.match(r"encoder\.down_blocks\.\d+\.(?:conv1|resample\.1)\.weight$", name))
    ):
        place = f"encoder.down_blocks.{index}"
        if f"{place}.resample.1.weight" in names:
            timed.append(f"{place}.time_conv.weight" in names)
            widths.append(0)
            resnets.append(0)
        else:
            widths[-1] = _needed(names, f"{place}.conv1.weight", codec.where)[0]
            resnets[-1] += 1
    config = {
        "base_dim": base,
        "z_dim": channels,
        "dim_mult": [width // base for width in widths],
        "num_res_blocks": resnets[0],
        "attn_scales": [],
        "temperal_downsample": timed,
    }
    given = read_object(beside) if beside and beside.is_file() else {}
    figures = {name: given[name] for name in ("latents_mean", "latents_std") if name in given}
    if not figures and channels != 16:
        raise MissingError(
            f"{codec.where}: a codec of {channels} channels is not Wan 2.1's, and no config.json gives the mean and "
            "deviation of its latents",
            hint="Use the model in diffusers' layout, whose vae/config.json has them.",
        )
    return config | figures


def text_config(text: Tensors) -> dict[str, Any]:
    """The sizes of a text encoder, by the shapes of its weights."""
    names, first = shapes(text), "encoder.block.0.layer.0.SelfAttention"
    vocabulary, width = _needed(names, "shared.weight", text.where)
    buckets, heads = _needed(names, f"{first}.relative_attention_bias.weight", text.where)
    inner = _needed(names, f"{first}.q.weight", text.where)[0]
    return {"vocab_size": vocabulary, "d_model": width, "d_kv": inner // heads, "num_heads": heads,
            "d_ff": _needed(names, "encoder.block.0.layer.1.DenseReluDense.wi_0.weight", text.where)[0],
            "num_layers": sum(1 for name in names if name.endswith(".layer.0.layer_norm.weight")),
            "relative_attention_num_buckets": buckets}


def text_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a UMT5 encoder's weights, each once."""
    width, hidden, heads = config["d_model"], config["d_ff"], config["num_heads"]
    inner = heads * config["d_kv"]
    layer = {
        "layer.0.layer_norm": (width,),
        **{f"layer.0.SelfAttention.{side}": (inner, width) for side in "qkv"},
        "layer.0.SelfAttention.o": (width, inner),
        "layer.0.SelfAttention.relative_attention_bias": (config["relative_attention_num_buckets"], heads),
        "layer.1.layer_norm": (width,),
        **{f"layer.1.DenseReluDense.{side}": (hidden, width) for side in ("wi_0", "wi_1")},
        "layer.1.DenseReluDense.wo": (width, hidden),
    }
    return {
        "shared.weight": (config["vocab_size"], width),
        "encoder.final_layer_norm.weight": (width,),
        **{
            f"encoder.block.{index}.{name}.weight": shape
            for index in range(config["num_layers"])
            for name, shape in layer.items()
        },
    }


def _needed(names: Mapping[str, tuple[int, ...]], name: str, where: str) -> tuple[int, ...]:
    if name not in names:
        raise MissingError(f"{where}: these weights do not fit the model: missing: {name}",
                           hint="Check that the file belongs to this model and is complete.")
    return names[name]


def _check_between(spec: ModelSpec, codec: Mapping[str, Any], text: Mapping[str, Any], folder: Path) -> None:
    """Complete parts may still belong to different models."""
    for what, theirs, ours in (
        ("codec", codec.get("z_dim", spec.channels), spec.channels),
        ("text encoder", text["d_model"], spec.text_dim),
    ):
        if theirs != ours:
            raise MissingError(
                f"{folder}: the {what} belongs to another model: it has {theirs} channels, the transformer {ours}",
                hint="Use all parts of one model.",
            )
