"""The names of Wan 2.1's weights in each of the layouts in which they are published.

Three vocabularies meet here. The transformer keeps the *released* names, which are also our own; the codec and the text
encoder have the names of the libraries that run them (diffusers, transformers). Pure functions from a name to a name;
a name that is already right, or belongs to no part, is returned unchanged: a strict comparison will show it as it is
in its file.
"""

import re
from collections.abc import Sequence

# Wrappers that training adds: distributed sharding, checkpointing of activations, compilation.
_WRAPPERS = re.compile(r"(?:_fsdp_wrapped_module|_checkpoint_wrapped_module|_orig_mod)\.")
_OUTER = re.compile(r"^(?:(?:model|module)\.)+")
_PEFT = re.compile(r"^(?:base_model\.model\.)+")
_ADAPTER = re.compile(r"^(?P<linear>.+)\.lora_(?P<side>[AB])(?:\.[A-Za-z0-9_]+)?\.weight$")

_TRANSFORMER_OUTSIDE = {
    "condition_embedder.time_embedder.linear_1": "time_embedding.0",
    "condition_embedder.time_embedder.linear_2": "time_embedding.2",
    "condition_embedder.text_embedder.linear_1": "text_embedding.0",
    "condition_embedder.text_embedder.linear_2": "text_embedding.2",
    "condition_embedder.time_proj": "time_projection.1",
    "proj_out": "head.head",
}
_TRANSFORMER_INSIDE = {
    **{f"{theirs}.{there}": f"{ours}.{here}"
       for theirs, ours in (("attn1", "self_attn"), ("attn2", "cross_attn"))
       for there, here in (("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "o"), ("norm_q", "norm_q"),
                           ("norm_k", "norm_k"))},
    "norm2": "norm3",  # the two are swapped there: this one stands before attention to the prompt
    "ffn.net.0.proj": "ffn.0",
    "ffn.net.2": "ffn.2",
}

_TEXT_INSIDE = {
    "norm1": "layer.0.layer_norm",
    **{f"attn.{side}": f"layer.0.SelfAttention.{side}" for side in "qkvo"},
    "pos_embedding.embedding": "layer.0.SelfAttention.relative_attention_bias",
    "norm2": "layer.1.layer_norm",
    "ffn.gate.0": "layer.1.DenseReluDense.wi_0",
    "ffn.fc1": "layer.1.DenseReluDense.wi_1",
    "ffn.fc2": "layer.1.DenseReluDense.wo",
}

_RESIDUAL = {"residual.0": "norm1", "residual.2": "conv1", "residual.3": "norm2", "residual.6": "conv2",
             "shortcut": "conv_shortcut"}
_CODEC_OUTSIDE = {"conv1": "quant_conv", "conv2": "post_quant_conv"}
_CODEC_ENDS = {"conv1": "conv_in", "head.0": "norm_out", "head.2": "conv_out"}
_CODEC_MIDDLE = {
    "middle.0": "mid_block.resnets.0",
    "middle.1": "mid_block.attentions.0",
    "middle.2": "mid_block.resnets.1",
}


def unwrapped(name: str) -> str:
    """A name without the wrappers and prefixes of training."""
    return _OUTER.sub("", _WRAPPERS.sub("", name))


def adapter_of(name: str) -> tuple[str, str] | None:
    """The linear layer that a low-rank weight belongs to, and its side, A or B; None for any other name."""
    match = _ADAPTER.match(unwrapped(_PEFT.sub("", _WRAPPERS.sub("", name))))
    return (match["linear"], match["side"]) if match else None


def transformer_name(diffusers: str) -> str:
    """The released name of a weight of diffusers' transformer."""
    if diffusers == "scale_shift_table":
        return "head.modulation"
    block = re.match(r"(blocks\.\d+)\.(.+)$", diffusers)
    if block is None:
        stem, _, kind = diffusers.rpartition(".")
        return f"{_TRANSFORMER_OUTSIDE.get(stem, stem)}.{kind}" if stem else diffusers
    if block[2] == "scale_shift_table":
        return f"{block[1]}.modulation"
    stem, _, kind = block[2].rpartition(".")
    return f"{block[1]}.{_TRANSFORMER_INSIDE[stem]}.{kind}" if stem in _TRANSFORMER_INSIDE else diffusers


def text_name(released: str) -> str:
    """transformers' name of a weight of the released text encoder."""
    stem, _, kind = released.rpartition(".")
    if stem in ("token_embedding", "encoder.embed_tokens"):  # the library has the same tensor under two names
        return f"shared.{kind}"
    if stem == "norm":
        return f"encoder.final_layer_norm.{kind}"
    block = re.match(r"blocks\.(\d+)\.(.+)$", stem)
    if block is None or block[2] not in _TEXT_INSIDE:
        return released
    return f"encoder.block.{block[1]}.{_TEXT_INSIDE[block[2]]}.{kind}"


def codec_name(released: str, resnets: int = 2) -> str:
    """diffusers' name of a weight of the released codec, which has `resnets` residual blocks at each scale."""
    side, _, rest = released.partition(".")
    if side in _CODEC_OUTSIDE:
        return f"{_CODEC_OUTSIDE[side]}.{rest}"
    match = re.match(r"(?P<place>downsamples|upsamples|middle)\.(?P<index>\d+)\.(?P<inside>.+)$", rest)
    if match is None:
        stem, _, kind = rest.rpartition(".")
        return f"{side}.{_CODEC_ENDS[stem]}.{kind}" if stem in _CODEC_ENDS else released
    index, inside = int(match["index"]), _residual(match["inside"])
    if match["place"] == "middle":
        return f"{side}.{_CODEC_MIDDLE[f'middle.{index}']}.{inside}" if index < 3 else released
    if match["place"] == "downsamples":
        return f"{side}.down_blocks.{index}.{inside}"
    # Going up, a scale has one residual block more than going down, and then the enlargement.
    scale, within = divmod(index, resnets + 2)
    where = f"resnets.{within}" if within <= resnets else "upsamplers.0"
    return f"{side}.up_blocks.{scale}.{where}.{inside}"


def codec_resnets(released: Sequence[str]) -> int:
    """How many residual blocks a scale of the codec has, by the names of its weights."""
    indices = {int(match[1]) for name in released if (match := re.match(r"decoder\.upsamples\.(\d+)\.", name))}
    scales = 1 + sum(1 for name in released if re.match(r"decoder\.upsamples\.\d+\.resample\.1\.weight$", name))
    return (len(indices) + 1) // scales - 2


def _residual(inside: str) -> str:
    stem, _, kind = inside.rpartition(".")
    return f"{_RESIDUAL[stem]}.{kind}" if stem in _RESIDUAL else inside
