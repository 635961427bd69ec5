"""What is in the folder of a model, by the names in it and its small files: no weights are opened here.

Four layouts are known: ours (`model.json`), that of `echo-cli train` (`index.json`), the one Wan 2.1 was released in
with a generator's checkpoint beside it, and that of diffusers. Needs no torch, so that a command line may ask.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from echo_cli.errors import MissingError
from echo_cli.files import read_json, why_unreadable
from echo_cli.spec import INDEX, TINY, WAN_1_3B, WAN_1_3B_FRAMEWISE, ModelSpec

DESCRIPTION = "model.json"  # of a folder in our layout
FORMAT, VERSION = "echo-model", 1

RELEASED_BASE = "diffusion_pytorch_model"
RELEASED_CODEC = "Wan2.1_VAE.pth"
RELEASED_TEXT = "models_t5_umt5-xxl-enc-bf16.pth"
RELEASED_TOKENIZER = "google/umt5-xxl"
RELEASED_GENERATORS = {  # a checkpoint and, where it needs one, the adapter that is merged into it
    "self_forcing_dmd.pt": None,
    "longlive_base.pt": "lora.pt",
    "causal_forcing.pt": None,
}
_BLOCKS = {"chunkwise": WAN_1_3B.block_frames, "framewise": WAN_1_3B_FRAMEWISE.block_frames}
_PLACES = ("", "checkpoints", "models", *_BLOCKS)  # where a generator may be in the folder
SCALED_DECODER = "lighttaew2_1"  # takes latents at the codec's own scale
FAST_DECODERS = ("fast_decoder.safetensors", "taew2_1.safetensors", "taew2_1.pth", f"{SCALED_DECODER}.safetensors",
                 f"{SCALED_DECODER}.pth")
LIGHT_CODECS = ("light_codec.safetensors", "lightvaew2_1.safetensors", "lightvaew2_1.pth")


class Layout(StrEnum):
    TRAINED = "tiny"
    OURS = "echo"
    RELEASED = "original"
    DIFFUSERS = "diffusers"


def layout_of(folder: Path) -> Layout | None:
    """How a folder keeps its weights; None if it has none that we know."""
    if (folder / DESCRIPTION).is_file():
        return Layout.OURS
    if (folder / INDEX).is_file():
        return Layout.TRAINED
    if (folder / "model_index.json").is_file() or (folder / "transformer" / "config.json").is_file():
        return Layout.DIFFUSERS
    marks = (RELEASED_CODEC, RELEASED_TEXT, f"{RELEASED_BASE}.safetensors", f"{RELEASED_BASE}.safetensors.index.json",
             *RELEASED_GENERATORS)
    if any((folder / name).is_file() for name in marks):
        return Layout.RELEASED
    try:  # the first file of a download
        return Layout.RELEASED if read_object(folder / "config.json").get("_class_name") == "WanModel" else None
    except MissingError:
        return None


@dataclass(frozen=True, slots=True)
class Files:
    """Where the parts of a model of Wan's family are. A part without files is missing."""

    transformer: tuple[Path, ...]
    codec: tuple[Path, ...]
    text: tuple[Path, ...]
    tokenizer: Path
    adapter: Path | None = None
    fast_decoder: Path | None = None
    light_codec: Path | None = None

    def lacking(self) -> list[str]:
        """The missing parts, each with what was looked for."""
        return [
            f"{part} ({what})"
            for part, files, what in (
                ("transformer", self.transformer, "no generator"),
                ("codec", self.codec, "no weights"),
                ("text", self.text, "no weights"),
                ("tokenizer", tokenizer_files(self.tokenizer), f"no files in {self.tokenizer.name}/"),
            )
            if not files
        ]

    def all(self) -> Iterator[Path]:
        yield from (*self.transformer, *([self.adapter] if self.adapter else ()), *self.codec, *self.text,
                    *tokenizer_files(self.tokenizer))


def files_in(folder: Path, layout: Layout, generator: Path | None = None, adapter: Path | None = None) -> Files:
    """The files of a folder's parts, as far as they exist; `generator` and `adapter` come from elsewhere."""
    beside = decoders_in(folder)
    if layout is Layout.DIFFUSERS:
        own = () if generator else shards(folder / "transformer", RELEASED_BASE)
        files = Files(own, shards(folder / "vae", RELEASED_BASE), shards(folder / "text_encoder", "model"),
                      folder / "tokenizer", None, *beside)
    elif layout is Layout.RELEASED:
        own, own_adapter = ((), None) if generator else generator_in(folder)
        files = Files(own, _there(folder / RELEASED_CODEC), _there(folder / RELEASED_TEXT),
                      folder / RELEASED_TOKENIZER, own_adapter, *beside)
    else:
        own, codec, text = (_there(folder / f"{part}.safetensors") for part in ("transformer", "codec", "text"))
        files = Files(own, codec, text, folder / "tokenizer", None, *beside)
    return files if generator is None else replace(files, transformer=_checkpoint(generator), adapter=adapter)


def decoders_in(folder: Path) -> tuple[Path | None, Path | None]:
    """The weights beside a model's own that decode in place of its codec: the fast decoder and the light codec."""
    fast, light = (next((path for name in names if (path := folder / name).is_file()), None)
                   for names in (FAST_DECODERS, LIGHT_CODECS))
    return fast, light


def _checkpoint(path: Path) -> tuple[Path, ...]:
    """A generator's file, or the shards that an index names."""
    if not path.is_file():
        raise MissingError(f"{path}: no such weights file", hint="Name the file of a generator's checkpoint.")
    if path.name.endswith(".safetensors.index.json"):
        return shards(path.parent, path.name.removesuffix(".safetensors.index.json"))
    return (path,)


def generator_in(folder: Path) -> tuple[tuple[Path, ...], Path | None]:
    """The checkpoint of a few-step generator in a released folder, and the adapter to merge into it.

    The release's own transformer is not one: it is made for fifty steps over a whole clip, and gives noise in four.
    """
    matches = _generators(folder)
    if len(matches) > 1:
        raise MissingError(
            f"{folder}: more than one generator is here: {', '.join(path.name for path in matches)}",
            hint="Leave one of them in the folder, or name the one to use with --generator FILE.",
        )
    if not matches:
        return (), None
    return (matches[0],), adapter_beside(matches[0])


def adapter_beside(generator: Path) -> Path | None:
    """The adapter to merge into a generator that is known by its name; it lies beside it."""
    name = RELEASED_GENERATORS.get(generator.name)
    adapter = generator.with_name(name) if name else None
    if adapter and not adapter.is_file():
        raise MissingError(
            f"{generator}: the adapter that is merged into it is not beside it ({adapter.name})",
            hint=f"Put {adapter.name} there, or name it: echo-cli models convert … --generator FILE --lora FILE.",
        )
    return adapter


def _generators(folder: Path) -> list[Path]:
    adapters = {name for name in RELEASED_GENERATORS.values() if name}
    return [path for place in _PLACES for path in sorted((folder / place).glob("*.pt")) if path.name not in adapters]


def block_frames_of(generator: Path | None) -> int | None:
    """Latent frames that a generator makes at a time, if the folder of its file says so."""
    return _BLOCKS.get(generator.absolute().parent.name) if generator else None


def in_blocks(spec: ModelSpec, frames: int | None) -> ModelSpec:
    """The model with blocks of so many latent frames; None: its own."""
    return spec if frames in (None, spec.block_frames) else named(replace(spec, block_frames=frames))


def tokenizer_files(folder: Path) -> list[Path]:
    return (
        sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
        if folder.is_dir()
        else []
    )


def part_bytes(folder: Path, layout: Layout | None = None) -> dict[str, int]:
    """How large each part of a model of Wan's family is on the disk."""
    files = files_in(folder, layout or layout_of(folder) or Layout.OURS)
    return {part: sum(path.stat().st_size for path in paths)
            for part, paths in (("transformer", files.transformer), ("codec", files.codec), ("text", files.text))}


def _there(path: Path) -> tuple[Path, ...]:
    return (path,) if path.is_file() else ()


def shards(folder: Path, stem: str) -> tuple[Path, ...]:
    """One file, or the shards that the index beside them names."""
    index = folder / f"{stem}.safetensors.index.json"
    if not index.is_file():
        return _there(folder / f"{stem}.safetensors")
    config = read_object(index)
    shards = sorted(set(config.get("weight_map", {}).values())) if isinstance(config.get("weight_map"), Mapping) else []
    for name in shards:
        if not isinstance(name, str) or Path(name).name != name:
            raise MissingError(f"{index}: the index of the shards is damaged", hint="Download it again.")
        if not (folder / name).is_file():
            raise MissingError(f"{folder / name}: one of {len(shards)} shards is missing", hint="Download it again.")
    return tuple(folder / name for name in shards)


def spec_in(folder: Path, layout: Layout) -> ModelSpec:
    """The sizes in a folder's own files."""
    if layout is Layout.TRAINED:
        name = str(read_object(folder / INDEX).get("model"))
        if name != TINY.name:
            raise MissingError(f"{folder}: {INDEX} names a model that this version does not know: '{name}'",
                               hint=f"A folder with an {INDEX} holds '{TINY.name}', as echo-cli train writes it.")
        return TINY
    if layout is Layout.OURS:
        path = folder / DESCRIPTION
        try:
            sizes = description(folder)["parts"]["transformer"]["config"]
        except (KeyError, TypeError) as error:
            raise damaged(path, f"no sizes: {why_unreadable(error)}") from None
        return _spec(sizes, path)
    path = folder / "transformer" / "config.json" if layout is Layout.DIFFUSERS else folder / "config.json"
    generators = _generators(folder) if layout is Layout.RELEASED else []
    blocks = block_frames_of(generators[0]) if generators else None
    if not path.is_file():
        if layout is Layout.RELEASED:
            return in_blocks(WAN_1_3B, blocks)  # the generator will be compared with it, name by name
        raise MissingError(f"{path}: the transformer's sizes are missing", hint="Download it again.")
    config = read_object(path)
    if config.get("model_type", "t2v") != "t2v":
        raise MissingError(f"{path}: this is not a text-to-video model, but '{config['model_type']}'",
                           hint="Use the T2V model of Wan 2.1.")
    try:
        sizes = _from_diffusers(config) if layout is Layout.DIFFUSERS else _from_release(config)
        return in_blocks(_spec(sizes, path), blocks)
    except KeyError as error:
        raise damaged(path, why_unreadable(error)) from None


def description(folder: Path) -> dict[str, Any]:
    """The `model.json` of a folder in our layout."""
    path = folder / DESCRIPTION
    config = read_object(path)
    if config.get("format") != FORMAT:
        raise damaged(path, f"not a description of a model: its format is {config.get('format')!r}")
    if config.get("version") != VERSION:
        raise MissingError(
            f"{path}: written by another version of this program (format {config.get('version')}, not {VERSION})",
            hint="Update this program, or convert the model again.",
        )
    if not isinstance(config.get("parts"), Mapping):
        raise damaged(path, "it names no parts")
    return config


def read_object(path: Path) -> dict[str, Any]:
    try:
        config = read_json(path)
    except (OSError, ValueError) as error:
        raise damaged(path, error) from None
    if not isinstance(config, dict):
        raise damaged(path, "not an object")
    return config


def damaged(path: Path, why: object) -> MissingError:
    return MissingError(
        f"{path}: damaged ({why})",
        hint="Download or convert the model again. Run `echo-cli models check` to see what else is wrong.",
    )


def sizes_of(spec: ModelSpec) -> dict[str, Any]:
    """The sizes in a description; everything else is the same for all of Wan 2.1."""
    blocks = {} if spec.block_frames == WAN_1_3B.block_frames else {"block_frames": spec.block_frames}
    return {name: getattr(spec, name) for name in _SIZES} | blocks


_SIZES = ("depth", "width", "heads", "ffn", "channels", "text_dim", "text_len", "freq_dim", "eps")


def _spec(sizes: Mapping[str, Any], path: Path) -> ModelSpec:
    known = (*_SIZES, "block_frames")
    wrong = [name for name in sizes if name not in known or not isinstance(sizes[name], int | float)]
    if wrong:
        raise damaged(path, f"{', '.join(wrong)}: not a size")
    return named(replace(WAN_1_3B, **sizes))


def named(spec: ModelSpec) -> ModelSpec:
    """The sizes of a model of Wan's family, with the name that says which model it is."""
    for known in (WAN_1_3B, WAN_1_3B_FRAMEWISE):
        if replace(spec, name=known.name) == known:
            return known
    blocks = "" if spec.block_frames == WAN_1_3B.block_frames else f"-by-{spec.block_frames}"
    return replace(spec, name=f"wan2.1-t2v-{spec.width}x{spec.depth}{blocks}")


def _from_release(config: Mapping[str, Any]) -> dict[str, Any]:
    # What the released file leaves out has our own default.
    renamed = (("depth", "num_layers"), ("width", "dim"), ("heads", "num_heads"), ("ffn", "ffn_dim"))
    sizes = {ours: config[theirs] for ours, theirs in renamed}
    return sizes | {
        ours: config[theirs]
        for ours, theirs in (
            ("channels", "in_dim"),
            ("text_dim", "text_dim"),
            ("text_len", "text_len"),
            ("freq_dim", "freq_dim"),
            ("eps", "eps"),
        )
        if theirs in config
    }


def _from_diffusers(config: Mapping[str, Any]) -> dict[str, Any]:
    heads, dim = config["num_attention_heads"], config["attention_head_dim"]
    sizes = {"depth": config["num_layers"], "width": heads * dim, "heads": heads, "ffn": config["ffn_dim"]}
    renamed = (("channels", "in_channels"), ("text_dim", "text_dim"), ("freq_dim", "freq_dim"), ("eps", "eps"))
    return sizes | {ours: config[theirs] for ours, theirs in renamed if theirs in config}
