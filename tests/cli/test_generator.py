"""`generate --generator FILE` as it is typed: a generator's checkpoint used with the codec and text encoder of a model
that is here."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from echo_cli.cli.app import run
from echo_cli.models.files.convert import convert
from echo_cli.models.wan.weights import Choice, open_weights
from tests.models.wan import wan_folders
from tests.models.wan.wan_folders import spelling

pytest.importorskip("diffusers", reason="needs the extra: pip install 'echo-cli[wan]'")

Generate = Callable[..., tuple[str, str]]


@pytest.fixture
def generate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Generate:
    """A film of one block by the model in base/, which has a generator of its own; its outputs in a folder per name."""
    monkeypatch.setenv("ECHO_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("ECHO_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    spelling(wan_folders.released(tmp_path / "base"))
    (tmp_path / "story.yaml").write_text("{version: 1, scenes: [{id: a, prompt: a red ball, duration: 0.5s}]}")

    def generate(*words: str, model: str = "base/", code: int = 0) -> tuple[str, str]:
        capfd.readouterr()
        assert run(["generate", "story.yaml", "--model", model, "--size", "48x32", "--scale", "1", *words]) == code
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return out, err

    return generate


def other(seed: int = 5) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in wan_folders.transformer(seed).items()}


def pictures(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.glob("*.png"))]


def test_a_generator_elsewhere_makes_the_film_of_one_inside_the_folder(generate: Generate, tmp_path: Path) -> None:
    torch.save({"generator_ema": wan_folders.wrapped(other())}, tmp_path / "mine.pt")
    save_file(other(), tmp_path / "mine.safetensors")
    spelling(wan_folders.released(tmp_path / "inside", {"generator_ema": wan_folders.wrapped(other())}))
    convert(open_weights(tmp_path / "base"), tmp_path / "ours")
    generate("-o", "plain/%02d.png")
    generate("-o", "inside/film/%02d.png", model="inside/")
    generate("-o", "pt/%02d.png", "--generator", "mine.pt")
    generate("-o", "tensors/%02d.png", "--generator", "mine.safetensors", model="ours/")
    assert pictures(tmp_path / "pt") == pictures(tmp_path / "inside" / "film") == pictures(tmp_path / "tensors")
    assert len(pictures(tmp_path / "pt")) == 8 and pictures(tmp_path / "pt") != pictures(tmp_path / "plain")


def test_a_folder_without_a_generator_needs_one(generate: Generate, tmp_path: Path) -> None:
    (tmp_path / "base" / "self_forcing_dmd.pt").rename(tmp_path / "kept.pt")
    assert "--generator FILE" in generate("-o", "film/%02d.png", code=3)[1]
    generate("-o", "film/%02d.png", "--generator", "kept.pt")
    assert len(pictures(tmp_path / "film")) == 8


def test_the_generator_belongs_to_the_identity_of_the_film(generate: Generate, tmp_path: Path) -> None:
    save_file(other(), tmp_path / "mine.safetensors")
    save_file(other(6), tmp_path / "yours.safetensors")
    convert(open_weights(tmp_path / "base"), tmp_path / "ours")
    made = ("-o", "film.mp4", "--generator", "mine.safetensors")
    generate(*made, model="ours/")
    assert json.loads((tmp_path / "film.manifest.json").read_text())["generator"] == "mine.safetensors"
    (tmp_path / "mine.safetensors").rename(tmp_path / "renamed.safetensors")
    again = generate("-o", "film.mp4", "--generator", "renamed.safetensors", model="ours/")
    assert "skipped" in again[1]
    for generator in (("--generator", "yours.safetensors"), ()):
        assert "other weights" in generate("-o", "film.mp4", *generator, model="ours/", code=5)[1]


def test_what_would_be_rendered_names_the_generator(generate: Generate, tmp_path: Path) -> None:
    torch.save({"generator": other()}, tmp_path / "mine.pt")
    assert "generator mine.pt" in generate("--generator", "mine.pt", "--dry-run")[0]
    shown = json.loads(generate("--generator", "mine.pt", "--show-settings", "--json")[0])
    assert shown["generator"]["value"] == str(tmp_path / "mine.pt")
    assert run(["batch", "story.yaml", "--model", "base/", "--generator", "mine.pt", "--plan"]) == 0


def test_an_adapter_beside_a_known_generator_is_merged(generate: Generate, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    torch.save({"generator": dict(wan_folders.transformer())}, folder / "longlive_base.pt")
    assert "lora.pt" in generate("-o", "film/%02d.png", "--generator", "elsewhere/longlive_base.pt", code=3)[1]
    torch.save(wan_folders.adapter(), folder / "lora.pt")
    generate("-o", "film/%02d.png", "--generator", "elsewhere/longlive_base.pt")
    whole = open_weights(tmp_path / "base", Choice(folder / "longlive_base.pt", folder / "lora.pt"))
    convert(whole, tmp_path / "merged")
    generate("-o", "merged/film/%02d.png", model="merged/")
    assert pictures(tmp_path / "film") == pictures(tmp_path / "merged" / "film")


@pytest.mark.parametrize(("words", "model", "code", "said"), [
    (("--generator", "no.pt"), "base/", 3, "no.pt: no such weights file"),
    (("--generator", "base"), "base/", 2, "base: not a generator's checkpoint"),
    (("--generator", "story.yaml"), "base/", 2, "story.yaml: not a generator's checkpoint"),
    (("--generator", "mine.pt", "--size", "192x128"), "tiny", 2, "model 'tiny' takes no generator"),
    (("--generator", "mine.pt"), "wan2.1-t2v-1.3b", 3, "models get wan2.1-t2v-1.3b"),
    (("--generator", "odd.pt"), "base/", 3, "do not fit"),
])
def test_a_generator_that_cannot_be_used_is_refused(generate: Generate, tmp_path: Path, words: tuple[str, ...],
                                                    model: str, code: int, said: str) -> None:
    torch.save({"generator": other()}, tmp_path / "mine.pt")
    torch.save({"generator": {"some.weight": torch.ones(2)}}, tmp_path / "odd.pt")
    out, err = generate("-o", "film/%02d.png", *words, model=model, code=code)
    assert not out and said in err and "hint:" in err


def test_a_checkpoint_as_a_model_names_the_option(generate: Generate, tmp_path: Path) -> None:
    torch.save({"generator": other()}, tmp_path / "mine.pt")
    for model in ("mine.pt", "./mine.pt"):
        err = generate("-o", "film.mp4", model=model, code=2)[1]
        assert "one file of weights" in err and "--model wan2.1-t2v-1.3b --generator" in err
