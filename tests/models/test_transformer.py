from dataclasses import replace

import pytest
import torch

from echo_cli.errors import MissingError
from echo_cli.models.files.loading import load_transformer, read_safetensors
from echo_cli.rope import RopeTable, rotate
from tests.small import GRID, SPEC, model


def test_patches_are_the_released_convolution() -> None:
    transformer, latents = model(), torch.randn(2, 3, 4, 4, 6)
    wanted = transformer.patch_embedding(latents.transpose(1, 2)).flatten(3).permute(0, 2, 3, 1)
    torch.testing.assert_close(transformer.patchify(latents), wanted)


def test_unpatchify_puts_every_value_where_the_release_does() -> None:
    # Output channels are ordered (row in patch, column in patch, channel).
    tokens = torch.arange(1 * 1 * 6 * 16).float().reshape(1, 1, 6, 16)
    latents = model().unpatchify(tokens, 4, 6)
    for token, row, col, channel in ((0, 0, 0, 0), (4, 1, 0, 3), (5, 1, 1, 2)):
        y, x = 2 * (token // 3) + row, 2 * (token % 3) + col
        assert latents[0, 0, channel, y, x] == tokens[0, 0, token, (row * 2 + col) * 4 + channel]


def test_rotation_depends_on_distance_alone() -> None:
    table, (query, key) = RopeTable(SPEC, GRID), torch.randn(2, GRID.tokens, 2, 24, dtype=torch.float32)

    def logits(at: int, seen: int) -> torch.Tensor:
        return torch.einsum("qhd,khd->hqk", rotate(query, table.frames(at, 1)), rotate(key, table.frames(seen, 1)))

    torch.testing.assert_close(logits(20, 3), logits(77, 60), atol=2e-5, rtol=0)
    assert (logits(20, 3) - logits(20, 4)).abs().max() > 1e-2


def test_weights_that_do_not_fit_are_listed() -> None:
    weights = model().state_dict()
    weights["blocks.0.norm9.weight"] = weights.pop("blocks.1.ffn.0.bias")
    weights["head.head.bias"] = torch.zeros(3)
    with pytest.raises(MissingError) as caught:
        load_transformer(SPEC, weights, "film.safetensors")
    said = str(caught.value)
    assert said.startswith("film.safetensors:")
    assert "missing: blocks.1.ffn.0.bias (64,)" in said
    assert "unexpected: blocks.0.norm9.weight (64,)" in said
    assert "another shape: head.head.bias is (3,), not (16,)" in said


def test_a_missing_or_damaged_file(tmp_path) -> None:
    with pytest.raises(MissingError, match="no such weights file"):
        read_safetensors(tmp_path / "absent.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{\"a\"")
    with pytest.raises(MissingError, match="damaged"):
        read_safetensors(tmp_path / "cut.safetensors")


def test_the_prompt_reaches_the_modulation_when_the_spec_says_so() -> None:
    spec = replace(SPEC, name="pooled", pooled_text=True)
    text = model(spec=spec).read(torch.randn(1, 6, 16))
    assert text.pooled.shape == (1, 48)
    assert model().read(torch.randn(1, 6, 16)).pooled is None


def test_padding_rows_do_not_change_the_pooled_prompt() -> None:
    spec = replace(SPEC, name="pooled", pooled_text=True)
    transformer, rows = model(spec=spec), torch.randn(1, 6, 16)
    rows[:, 3:] = 0
    torch.testing.assert_close(transformer.read(rows).pooled, transformer.read(rows[:, :3]).pooled)
