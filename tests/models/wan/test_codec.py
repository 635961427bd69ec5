"""Wan's codec against recordings of the released one: random weights, every way of streaming."""

import json
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

pytest.importorskip("diffusers", reason="needs the extra: pip install 'echo-cli[wan]'")

from echo_cli.models.files.loading import fill
from echo_cli.models.wan.codec import WanCodec, room
from echo_cli.models.wan.names import codec_name

GOLDEN = Path(__file__).parents[2] / "golden" / "wan"
CASES = ("vae_z4", "vae_z16")
CLOSE = {"atol": 2e-5, "rtol": 0}


@cache
def recorded(case: str) -> dict[str, torch.Tensor]:
    return load_file(GOLDEN / f"{case}.io.safetensors")


@cache
def codec(case: str) -> WanCodec:
    sizes, io = json.loads((GOLDEN / "manifest.json").read_text())["cases"][case]["config"], recorded(case)
    with torch.device("meta"):
        made = WanCodec({"base_dim": sizes["dim"], "z_dim": sizes["z_dim"], "num_res_blocks": sizes["num_res_blocks"],
                         "latents_mean": io["latents_mean"].tolist(), "latents_std": io["latents_std"].tolist()})
    weights = load_file(GOLDEN / f"{case}.weights.safetensors")
    fill(made.vae, {codec_name(name, sizes["num_res_blocks"]): tensor for name, tensor in weights.items()}, case)
    return made


def latents(case: str) -> torch.Tensor:
    return recorded(case)["latent"].transpose(1, 2)


def wanted(case: str) -> torch.Tensor:
    return recorded(case)["decoded"].clamp(-1, 1).add(1).div(2).transpose(1, 2)


@torch.inference_mode()
def stream(case: str, *pieces: int) -> torch.Tensor:
    state, pictures = None, []
    for piece in latents(case).split(pieces, 1):
        made, state = codec(case).decode(piece, state)
        pictures.append(made)
    return torch.cat(pictures, 1)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("pieces", [(7,), (3, 3, 1), (2, 5), (1,) * 7], ids=lambda pieces: "+".join(map(str, pieces)))
def test_decoding_in_any_pieces_is_the_release(case: str, pieces: tuple[int, ...]) -> None:
    torch.testing.assert_close(stream(case, *pieces), wanted(case), **CLOSE)


@pytest.mark.parametrize("case", CASES)
def test_pieces_give_the_same_bits(case: str) -> None:
    assert torch.equal(stream(case, 3, 3, 1), stream(case, 1, 2, 4))


@pytest.mark.parametrize("case", CASES)
@torch.inference_mode()
def test_encoding_is_the_release(case: str) -> None:
    pictures = recorded(case)["video"].transpose(1, 2).add(1).div(2)
    torch.testing.assert_close(codec(case).encode(pictures), recorded(case)["encoded_mean"].transpose(1, 2), **CLOSE)


@torch.inference_mode()
def test_encoding_in_any_pieces_is_the_release() -> None:
    """A stream begins with one picture and four for each further latent; later pieces have four for each."""
    for case in CASES:
        pictures = recorded(case)["video"].transpose(1, 2).add(1).div(2)
        count, whole = pictures.shape[1], recorded(case)["encoded_mean"].transpose(1, 2)
        for edges in ([1, 5, 9, count], [1, count], [9, 13, count], [5, 17, count]):
            state, latents = None, []
            for start, stop in pairwise([0, *sorted({min(edge, count) for edge in edges})]):
                made, state = codec(case).encode_piece(pictures[:, start:stop], state)
                latents.append(made)
            torch.testing.assert_close(torch.cat(latents, 1), whole, **CLOSE)


@torch.inference_mode()
def test_pictures_that_fill_no_latent_are_dropped() -> None:
    video = recorded("vae_z4")["video"].transpose(1, 2).add(1).div(2)
    counts = {pictures: codec("vae_z4").encode(video[:, :pictures]).shape[1] for pictures in (1, 2, 4, 5, 8, 9)}
    assert counts == {1: 1, 2: 1, 4: 1, 5: 2, 8: 2, 9: 3}


@torch.inference_mode()
def test_streams_do_not_disturb_each_other_and_a_state_can_be_gone_on_with_twice() -> None:
    mine, given = codec("vae_z16"), latents("vae_z16")
    for cut in (1, 2, 4):
        head, state = mine.decode(given[:, :cut], None)
        kept = [item.clone() if isinstance(item, torch.Tensor) else item for item in state]
        mine.decode(given.flip(1)[:, :2], None)
        mine.encode(head)
        first, _ = mine.decode(given[:, cut:cut + 2], state)
        mine.decode(-given[:, cut:], state)
        second, _ = mine.decode(given[:, cut:cut + 2], kept)
        assert torch.equal(first, second)
        torch.testing.assert_close(first, wanted("vae_z16")[:, 4 * cut - 3:4 * cut + 5], **CLOSE)


@torch.inference_mode()
def test_a_state_is_a_plain_list_that_can_be_saved() -> None:
    for count in (1, 2, 3):
        state = codec("vae_z4").decode(latents("vae_z4")[:, :count], None)[1]
        assert type(state) is list and all(item is None or item is True or type(item) is torch.Tensor for item in state)
        assert (True in [item for item in state if isinstance(item, bool)]) == (count == 1)


def test_every_released_name_of_the_real_size_has_its_place() -> None:
    with torch.device("meta"):
        weights = WanCodec().vae.state_dict()
    released = json.loads((GOLDEN / "manifest.json").read_text())["real_vae_key_shapes"]
    assert {codec_name(name): tuple(shape) for name, shape in released.items()} \
        == {name: tuple(tensor.shape) for name, tensor in weights.items()}


def test_the_normalisation_of_the_real_size_is_the_released_one() -> None:
    with torch.device("meta"):
        real = WanCodec()
    assert torch.equal(real.mean.flatten(), recorded("vae_z16")["latents_mean"])
    assert torch.equal(real.scale.flatten(), 1.0 / recorded("vae_z16")["latents_std"])


@torch.inference_mode()
def test_the_room_of_a_stream_is_counted_as_it_is_taken() -> None:
    mine = codec("vae_z16")
    _, state = mine.decode(latents("vae_z16")[:, :3])
    taken = sum(item.numel() for item in (*mine.vae.parameters(), *state) if isinstance(item, torch.Tensor))
    assert room(mine.vae.config, 6, 4, 4)[0] == 4 * taken


def test_the_room_of_the_real_size_is_what_was_measured() -> None:
    kept, passing = room({}, 60, 104, 4)
    weights = 4 * 126_892_531
    assert kept - weights == pytest.approx(3.5 * 2**30, rel=0.06)  # the state of a stream at 832x480
    assert kept + passing == pytest.approx(8.3 * 2**30, rel=0.1)  # and the most that decoding it took


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("pieces", [(7,), (3, 3, 1), (1, 2, 4)], ids=lambda pieces: "+".join(map(str, pieces)))
@torch.inference_mode()
def test_several_latents_in_one_call_are_the_release(case: str, pieces: tuple[int, ...]) -> None:
    mine, state, made = codec(case), None, []
    raw = latents(case).float() / mine.scale + mine.mean
    for piece in raw.split(pieces, 1):
        pictures, state = mine.decode_blockwise(piece, state)
        made.append(pictures)
    torch.testing.assert_close(torch.cat(made, 1), wanted(case), atol=1e-5, rtol=0)


@pytest.mark.parametrize("count", [1, 2, 3])
@torch.inference_mode()
def test_a_stream_may_go_on_latent_by_latent_where_one_call_ended(count: int) -> None:
    mine, given = codec("vae_z16"), latents("vae_z16")
    _, state = mine.decode_blockwise(given[:, :count].float() / mine.scale + mine.mean, None)
    _, plain = mine.decode(given[:, :count], None)
    for here, there in zip(state, plain, strict=True):
        assert type(here) is type(there) and (here is there or here.shape == there.shape)
    made, _ = mine.decode(given[:, count:], state)
    torch.testing.assert_close(made, wanted("vae_z16")[:, 4 * count - 3:], **CLOSE)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("case", CASES)
@torch.inference_mode()
def test_a_card_decodes_what_a_cpu_decodes(case: str) -> None:
    there, state, made = codec.__wrapped__(case).to("cuda"), None, []
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        for piece in latents(case).to("cuda").split((3, 3, 1), 1):
            pictures, state = there.decode(piece, state)
            made.append(pictures.cpu())
    torch.testing.assert_close(torch.cat(made, 1), stream(case, 3, 3, 1), atol=1e-4, rtol=0)
